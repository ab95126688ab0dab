//! A gateway with three users, each of whom the input may write for: first how, then messages, each a
//! `GatewayRequest`.

use super::{
    bytes::{Input, joined},
    copy::{Copy, Props, bytes_of, users, values},
    stage::{FAULTS_OF_SERVER, Stage, Told, numbered},
};
use http::HeaderMap;
use prost::Message;
use sessiond::{
    grpc::weight::check_gateway,
    proto::{self, GatewayRequest, GatewayResponse},
};
use std::collections::BTreeMap;

/// The users, by their handles less one.
const USERS: [&str; 3] = ["ada", "bob", "cid"];

fn hello() -> Vec<u8> {
    let hello = proto::GatewayHello { gateway_id: "gateway".into(), ..Default::default() };
    GatewayRequest { hello: Some(hello), ..Default::default() }.encode_to_vec()
}

/// Attaches everybody, subscribes to what all see, and names the props `x` and `y`.
fn begin() -> GatewayRequest {
    let attach = |(user, handle): (&&str, u32)| proto::Attach {
        handle,
        user_id: (*user).to_owned(),
        session_id: "room".into(),
        ..Default::default()
    };
    let options =
        proto::DeliveryOptions { encoding: proto::Encoding::Columns.into(), ..Default::default() };
    let view = proto::ViewSubscription {
        handle: 1,
        session_id: "room".into(),
        view: proto::View::Members.into(),
        options: Some(options),
        ..Default::default()
    };
    GatewayRequest {
        attach: USERS.iter().zip(1..).map(attach).collect(),
        subscribe: vec![view],
        dictionary: Some(dictionary(&[(1, "x"), (2, "y")])),
        ..Default::default()
    }
}

fn dictionary(names: &[(u64, &str)]) -> proto::Dictionary {
    let entry = |(number, name): &(u64, &str)| proto::DictionaryEntry {
        number: *number,
        name: (*name).to_owned(),
    };
    proto::Dictionary { props: names.iter().map(entry).collect() }
}

/// What the session holds after a message that was taken whole; none if it says more than blocks.
fn expected(
    before: &Copy,
    names: &mut BTreeMap<u64, String>,
    request: &GatewayRequest,
) -> Option<BTreeMap<String, Props>> {
    for entry in request.dictionary.iter().flat_map(|it| &it.props) {
        names.entry(entry.number).or_insert_with(|| entry.name.clone());
    }
    let only_blocks = GatewayRequest {
        seq: request.seq,
        dictionary: request.dictionary.clone(),
        blocks: request.blocks.clone(),
        ..Default::default()
    };
    if only_blocks != *request {
        return None;
    }
    let own = |(user, props): (&str, &Props)| (user.to_owned(), props.clone());
    let mut members: BTreeMap<String, Props> = before.members().into_iter().map(own).collect();
    for block in &request.blocks {
        let users = users(block).expect("the block was taken");
        for column in &block.columns {
            let name = names.get(&column.prop).expect("the block was taken");
            let values = values(column.clone());
            assert_eq!(values.len(), users.len(), "the block was taken");
            for (user, value) in users.iter().zip(values) {
                let user = user.checked_sub(1).and_then(|at| USERS.get(at as usize));
                let props = members.get_mut(*user.expect("the block was taken"));
                props.expect("a member").insert(name.clone(), bytes_of(value));
            }
        }
    }
    Some(members)
}

/// Goes through one input.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let how = input.byte();
    let mut headers = HeaderMap::new();
    if how & 1 == 1 {
        headers.insert("sessiond-as", "app".parse().expect("a value"));
    }
    let is_slow = how & 2 == 2;
    let mut stage = Stage::new("Gateway", headers, if is_slow { 2 } else { 1_000_000 });
    stage.send(&numbered(&hello(), 1));
    stage.send(&numbered(&begin().encode_to_vec(), 2));
    let mut view = Copy::default();
    let mut told = stage.tick::<GatewayResponse>();
    told.extend(stage.tick());
    let mut is_plain = !is_slow;
    let mut names: BTreeMap<u64, String> = [(1, "x".to_owned()), (2, "y".to_owned())].into();
    let mut is_over = follow(&mut view, &told).is_over;
    assert!(!is_over, "it begins: {told:?}");
    let mut seq = 2u64;
    for piece in input.pieces() {
        let message = numbered(piece, seq.saturating_add(1));
        if check_gateway(&message).is_err() {
            let before = stage.shown();
            stage.send(&message);
            let outcome = follow(&mut view, &stage.tick());
            assert!(outcome.is_over || outcome.refused == [0], "it is refused whole");
            if is_plain {
                assert_eq!(before.members(), stage.shown().members());
            }
            break;
        }
        let request = GatewayRequest::decode(&*message);
        if let Ok(request) = &request {
            let again = request.encode_to_vec();
            let again = GatewayRequest::decode(&*again).expect("it decodes");
            assert_eq!(again.encode_to_vec(), request.encode_to_vec());
        }
        let before = stage.shown();
        stage.send(&message);
        let told = stage.tick::<GatewayResponse>();
        let after = stage.shown();
        let outcome = follow(&mut view, &told);
        is_over |= outcome.is_over;
        let Ok(request) = request else {
            assert!(is_over, "what does not decode ends the stream");
            assert_eq!(before.members(), after.members());
            break;
        };
        // The end of the piece may have taken the number in.
        seq = request.seq;
        // What was attached, left or waits decides about what comes after it.
        let changes_more = !request.attach.is_empty()
            || !request.detach.is_empty()
            || !request.subscribe.is_empty()
            || !request.unsubscribe.is_empty();
        is_plain &= !changes_more;
        if is_over {
            if is_plain {
                assert_eq!(before.members(), after.members());
            }
            break;
        }
        if is_plain {
            assert!(outcome.acked >= seq, "it is dealt with within a tick");
            let shown = after.members();
            let is_whole = outcome.refused.is_empty();
            let only_one = request.blocks.len() + request.writes.len() <= 1;
            // A user may have the handle 0 by mistake, beside others that are known.
            let names_none = |block: &proto::Block| !users(block).is_some_and(|it| it.contains(&0));
            let is_one =
                only_one && request.token.is_empty() && request.blocks.iter().all(names_none);
            if outcome.refused == [0] && is_one {
                assert_eq!(before.members(), shown, "what is refused changes nothing");
            }
            // A dictionary may have been refused, and what was to come with it.
            if !is_whole && request.dictionary.is_some() {
                is_plain = false;
            } else if is_whole && let Some(expected) = expected(&before, &mut names, &request) {
                let expected: BTreeMap<_, _> =
                    expected.iter().map(|(user, props)| (&**user, props)).collect();
                assert_eq!(expected, shown);
            }
            assert_eq!(view.members(), shown, "the view is what is shown");
        }
    }
}

/// What came of a message.
#[derive(Default)]
struct Outcome {
    is_over: bool,
    acked: u64,
    /// The handles of what was refused.
    refused: Vec<u32>,
}

fn follow(view: &mut Copy, told: &[Told<GatewayResponse>]) -> Outcome {
    let mut outcome = Outcome::default();
    for told in told {
        match told {
            Told::End(code) => {
                assert!(!FAULTS_OF_SERVER.contains(code), "status {code}");
                outcome.is_over = true;
            }
            Told::Message(message) => {
                for delivery in message.updates.iter().filter(|delivery| delivery.handle == 1) {
                    if let Some(update) = delivery.update.clone() {
                        view.take(update);
                    }
                }
                outcome.acked = outcome.acked.max(message.acked_seq);
                outcome.refused.extend(message.refusals.iter().map(|refusal| refusal.handle));
            }
        }
    }
    outcome
}

/// Inputs to begin with.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let number = |prop, numbers: &[f64]| proto::Column {
        prop,
        numbers: numbers.to_vec(),
        ..Default::default()
    };
    let blocks = |blocks| GatewayRequest { blocks, ..Default::default() };
    let runs = proto::Block {
        runs: vec![1, 3],
        columns: vec![number(1, &[1.5, 2.5, f64::NAN]), number(2, &[0.0, -0.0, 1e300])],
        ..Default::default()
    };
    let of_kind = |column: proto::Column| proto::Block {
        users: vec![1, 3],
        columns: vec![proto::Column { prop: 1, ..column }],
        ..Default::default()
    };
    let kinds = vec![
        of_kind(proto::Column { floats: vec![0.5, -1.0], ..Default::default() }),
        of_kind(proto::Column { integers: vec![i64::MIN, 7], ..Default::default() }),
        of_kind(proto::Column { flags: vec![true, false], ..Default::default() }),
        of_kind(proto::Column { texts: vec!["a".into(), String::new()], ..Default::default() }),
        of_kind(proto::Column {
            values: vec![
                proto::Value { kind: Some(proto::value::Kind::Null(proto::NullValue {})) },
                proto::Value {
                    kind: Some(proto::value::Kind::Map(proto::MapValue {
                        entries: [("k".into(), proto::Value::default())].into(),
                    })),
                },
            ],
            ..Default::default()
        }),
    ];
    let names = GatewayRequest {
        dictionary: Some(dictionary(&[(3, "z"), (3, "z"), (9, "w")])),
        blocks: vec![proto::Block {
            users: vec![2],
            columns: vec![number(3, &[1.0]), number(9, &[2.0])],
            ..Default::default()
        }],
        ..Default::default()
    };
    let set = [("x".to_owned(), proto::Value { kind: Some(proto::value::Kind::Flag(true)) })];
    let write = proto::PropsWrite { set: set.into(), ..Default::default() };
    let by_name = GatewayRequest {
        writes: vec![proto::HandleWrite { handle: 2, write: Some(write) }],
        ..Default::default()
    };
    let leave = GatewayRequest {
        detach: vec![proto::Detach { handle: 3, ..Default::default() }],
        unsubscribe: vec![1],
        ..Default::default()
    };
    let wrong = blocks(vec![proto::Block {
        runs: vec![u64::from(u32::MAX), 2],
        users: vec![],
        columns: vec![number(1, &[1.0])],
    }]);
    let input = |how: u8, messages: &[GatewayRequest]| {
        let pieces: Vec<_> = messages.iter().map(Message::encode_to_vec).collect();
        let mut input = vec![how];
        input.extend(joined(&pieces));
        input
    };
    vec![
        ("runs", input(0, &[blocks(vec![runs.clone()]), blocks(vec![runs.clone()])])),
        ("kinds", input(0, &[blocks(kinds)])),
        ("names", input(0, &[names])),
        ("by_name", input(0, std::slice::from_ref(&by_name))),
        ("leave", input(1, &[leave, begin()])),
        ("wrong", input(0, &[wrong])),
        ("slow", input(2, &[blocks(vec![runs.clone(), runs]), by_name.clone(), by_name])),
    ]
}
