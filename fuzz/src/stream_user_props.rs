//! A stream of the user `ada` that subscribes to one session, on which the input sends: first how, then
//! messages, each a `StreamUserPropsRequest`. What is read past the generated types leads to what they
//! say.

use super::{
    bytes::{Input, joined},
    copy::{Copy, bytes_of},
    stage::{FAULTS_OF_SERVER, Stage, Told, numbered},
};
use http::HeaderMap;
use prost::Message;
use sessiond::{
    grpc::weight::decode,
    proto::{
        self, StreamUserPropsRequest, StreamUserPropsResponse,
        stream_user_props_request::Message as Up, value::Kind,
    },
};

fn open(how: u8) -> StreamUserPropsRequest {
    let encoding = if how & 1 == 1 { proto::Encoding::Columns } else { proto::Encoding::Named };
    let options = proto::DeliveryOptions { encoding: encoding.into(), ..Default::default() };
    let subscription = proto::SessionSubscription {
        session_id: "room".into(),
        options: Some(options),
        ..Default::default()
    };
    let open = proto::StreamOpen {
        user_id: "ada".into(),
        subscriptions: vec![subscription],
        ..Default::default()
    };
    StreamUserPropsRequest { seq: 0, message: Some(Up::Open(open)) }
}

fn value(kind: Kind) -> proto::Value {
    proto::Value { kind: Some(kind) }
}

/// A write of these keys in the session.
fn write(set: &[(&str, Kind)]) -> proto::PropsWrite {
    let set = set.iter().map(|(key, kind)| ((*key).to_owned(), value(kind.clone())));
    proto::PropsWrite { set: set.collect(), session_ids: vec!["room".into()], ..Default::default() }
}

fn up(write: proto::PropsWrite) -> StreamUserPropsRequest {
    StreamUserPropsRequest { seq: 0, message: Some(Up::Write(write)) }
}

/// Goes through one input.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let how = input.byte();
    let is_slow = how & 2 == 2;
    let rate = if is_slow { 2 } else { 1_000_000 };
    let mut stage = Stage::new("StreamUserProps", HeaderMap::new(), rate);
    let mut view = Copy::default();
    let mut seq = 0u64;
    if how & 4 == 0 {
        stage.send(&numbered(&open(how).encode_to_vec(), 1));
        // From here on messages may be usual ones.
        let usual = write(&[("x", Kind::Number(0.0)), ("y", Kind::Integer(0))]);
        stage.send(&numbered(&up(usual).encode_to_vec(), 2));
        seq = 2;
        let mut told = stage.tick();
        told.extend(stage.tick());
        assert!(!follow(&mut view, &told).is_over, "it begins: {told:?}");
    }
    let is_plain = !is_slow && how & 4 == 0;
    for piece in input.pieces() {
        let message = numbered(piece, seq.saturating_add(1));
        let request: Result<StreamUserPropsRequest, _> = decode(message.clone().into());
        if let Ok(request) = &request {
            let again = request.encode_to_vec();
            let again = StreamUserPropsRequest::decode(&*again).expect("it decodes");
            assert_eq!(again.encode_to_vec(), request.encode_to_vec());
        }
        let before = stage.shown();
        stage.send(&message);
        let told = stage.tick::<StreamUserPropsResponse>();
        let after = stage.shown();
        let outcome = if is_plain { follow(&mut view, &told) } else { ended(&told) };
        let Ok(request) = request else {
            assert!(outcome.is_over, "what does not decode ends the stream");
            assert_eq!(before.members(), after.members());
            break;
        };
        if outcome.is_over {
            if is_plain {
                assert_eq!(before.members(), after.members());
            }
            break;
        }
        // The end of the piece may have taken the number in.
        seq = request.seq;
        if !is_plain {
            continue;
        }
        assert!(outcome.acked >= request.seq, "it is dealt with within a tick");
        assert_eq!(view.members(), after.members(), "the view is what is shown");
        match request.message {
            Some(Up::Write(write)) if outcome.refusals == 0 => check(&write, &before, &after),
            Some(Up::Write(write)) if write.session_ids.len() > 1 => {}
            _ => assert_eq!(before.members(), after.members()),
        }
    }
}

/// What was taken is what is shown, and nothing else has changed.
fn check(write: &proto::PropsWrite, before: &Copy, after: &Copy) {
    let is_here = write.session_ids.is_empty() || write.session_ids.iter().any(|it| it == "room");
    let (before, after) = (before.members(), after.members());
    for (user, props) in &before {
        if *user != "ada" || !is_here {
            assert_eq!(after.get(user), Some(props));
        }
    }
    // What a merge makes of maps, and what was done before under the same id, is another matter.
    if !is_here || write.merge_maps || !write.request_id.is_empty() {
        return;
    }
    let mut expected = before["ada"].clone();
    for (key, value) in &write.set {
        expected.insert(key.clone(), bytes_of(value.clone()));
    }
    write.remove.iter().for_each(|key| drop(expected.remove(key)));
    let shown = after["ada"];
    for (key, value) in &expected {
        let is_json = write.json.as_ref().is_some_and(|json| json.fields.contains_key(key));
        assert!(is_json || shown.get(key) == Some(value), "{key} is {:?}", shown.get(key));
    }
    for key in shown.keys() {
        let is_json = write.json.as_ref().is_some_and(|json| json.fields.contains_key(key));
        assert!(is_json || expected.contains_key(key), "nobody has set {key}");
    }
}

/// What came of a message.
#[derive(Default)]
struct Outcome {
    is_over: bool,
    acked: u64,
    refusals: usize,
}

fn ended(told: &[Told<StreamUserPropsResponse>]) -> Outcome {
    let end = told.iter().find_map(|told| match told {
        Told::End(code) => Some(*code),
        Told::Message(_) => None,
    });
    assert!(!end.is_some_and(|code| FAULTS_OF_SERVER.contains(&code)), "status {end:?}");
    let is_over = end.is_some();
    Outcome { is_over, ..Outcome::default() }
}

fn follow(view: &mut Copy, told: &[Told<StreamUserPropsResponse>]) -> Outcome {
    let mut outcome = ended(told);
    for told in told {
        let Told::Message(message) = told else { continue };
        let updates = message.updates.iter().filter_map(|delivery| delivery.update.clone());
        updates.for_each(|update| view.take(update));
        outcome.acked = outcome.acked.max(message.acked_seq);
        outcome.refusals += message.refusals.len();
    }
    outcome
}

/// Inputs to begin with.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let usual = up(write(&[("x", Kind::Number(1.5)), ("y", Kind::Integer(-7))]));
    let kinds = up(write(&[
        ("null", Kind::Null(proto::NullValue {})),
        ("flag", Kind::Flag(false)),
        ("text", Kind::Text("text".into())),
        ("data", Kind::Data(vec![0, 255])),
        ("numbers", Kind::Numbers(proto::Numbers { items: vec![0.5, f64::NAN] })),
        ("floats", Kind::Floats(proto::Floats { items: vec![0.5] })),
        ("integers", Kind::Integers(proto::Integers { items: vec![-1, 1 << 60] })),
        ("list", Kind::List(proto::ListValue { items: vec![value(Kind::Flag(true))] })),
        (
            "map",
            Kind::Map(proto::MapValue { entries: [("a".into(), value(Kind::Integer(1)))].into() }),
        ),
    ]));
    let remove = up(proto::PropsWrite { remove: vec!["x".into(), "none".into()], ..write(&[]) });
    let on_user =
        up(proto::PropsWrite { session_ids: vec![], ..write(&[("x", Kind::Flag(true))]) });
    let guarded = up(proto::PropsWrite {
        if_revision: [("x".to_owned(), 1)].into(),
        merge_maps: true,
        term: 1,
        request_id: "request".into(),
        ..write(&[("map", Kind::Map(proto::MapValue::default()))])
    });
    let json = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(1.0)) };
    let json = prost_types::Struct { fields: [("x".to_owned(), json)].into() };
    let json = up(proto::PropsWrite { json: Some(json), ..write(&[]) });
    let input = |how: u8, messages: &[StreamUserPropsRequest]| {
        let pieces: Vec<_> = messages.iter().map(Message::encode_to_vec).collect();
        let mut input = vec![how];
        input.extend(joined(&pieces));
        input
    };
    vec![
        ("usual", input(0, &[usual.clone(), usual.clone()])),
        ("kinds", input(1, &[kinds.clone(), kinds])),
        ("remove", input(0, std::slice::from_ref(&remove))),
        ("on_user", input(0, &[on_user, guarded])),
        ("json", input(1, &[json])),
        ("open", input(4, &[open(0), usual.clone()])),
        ("slow", input(2, &[usual.clone(), usual, remove])),
    ]
}
