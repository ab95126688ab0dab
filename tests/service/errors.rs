//! Bad input: refused whole, every fault named, nothing changed, and the server goes on.

use crate::support::*;
use bytes::Bytes;
use prost::Message;
use sessiond::proto::{
    self, DeliveryOptions, Field, FieldType, JoinOptions, OpenSharedSessionRequest, PropsWrite,
    Schema, SessionSettings, SubscribeToSessionRequest, stream_user_props_request::Message as Up,
};
use tonic::Code;
use tonic_types::StatusExt;

const TOO_LONG: usize = 129;

/// What bad requests must leave behind: nothing, and a server that goes on.
async fn nothing_changed(service: &Service) {
    service.advance(1_000);
    // At most that who was refused has no stream any more.
    assert!(service.revision("finals").await <= 2);
    let sessions = service.try_list(Default::default()).await.expect("it is listed").sessions;
    assert_eq!(sessions.len(), 1);
    let ada = service.watch("finals", "ada").await;
    assert_eq!((ada.rebuilt.order.len(), ada.rebuilt.props("ada")), (1, shown([])));
    service.is_fine().await;
}

#[tokio::test]
async fn every_call_names_all_bad_ids_at_once() {
    let service = Service::with_room().await;
    let long = || "x".repeat(TOO_LONG);
    let control = || "a\u{7f}b".to_owned();

    macro_rules! blames {
        ($call:ident $request:ident { $($field:ident: $value:expr),* } $fields:expr) => {
            let request = proto::$request { $($field: $value,)* ..Default::default() };
            refused(service.sessions().$call(sent(request)).await).blames(&$fields);
        };
    }
    blames! { get_session_info GetSessionInfoRequest {
        app: long(), session_id: control(), user_id: long()
    } ["app", "session_id", "user_id"] }
    blames! { join_session JoinSessionRequest {
        app: long(), session_id: control(), user_id: control(),
        join: Some(JoinOptions { presence: -1, ..Default::default() })
    } ["app", "session_id", "user_id", "join.presence"] }
    blames! { leave_session LeaveSessionRequest { app: control(), user_id: long() }
    ["app", "session_id", "user_id"] }
    blames! { delete_session DeleteSessionRequest {
        app: control(), session_id: long(), user_id: control()
    } ["app", "session_id", "user_id"] }
    blames! { update_session UpdateSessionRequest {
        app: control(), session_id: long(), user_id: control()
    } ["app", "session_id", "user_id", "update_mask"] }
    blames! { set_user_props SetUserPropsRequest {
        target_user_id: control(), write: Some(write([("", int(1))]))
    } ["target_user_id", "write.set[\"\"]"] }

    let request = proto::OpenSharedSessionRequest {
        app: control(),
        user_id: long(),
        session_id: long(),
        kind: 99,
        settings: Some(SessionSettings {
            name: control(),
            propnames: vec![String::new(), long(), "fine".to_owned()],
            pacing: 99,
            capacity: Some(0),
            data_role: 99,
            tick_interval: Some(ms(0)),
            ..Default::default()
        }),
        join: Some(JoinOptions {
            presence: 99,
            props: props([("", int(1)), ("none", no_kind())]),
            ..Default::default()
        }),
        data: props([("deep", nested(9))]),
        private_data: props([("a\nb", int(1))]),
        ..Default::default()
    };
    refused(service.try_open(request).await).blames(&[
        "app",
        "user_id",
        "session_id",
        "kind",
        "settings.name",
        "settings.propnames[0]",
        "settings.propnames[1]",
        "settings.pacing",
        "settings.capacity",
        "settings.data_role",
        "settings.tick_interval",
        "join.presence",
        "join.props[\"\"]",
        "join.props[\"none\"]",
        "data[\"deep\"][0][0][0][0][0][0][0][0]",
        "private_data[\"a\\nb\"]",
    ]);

    let request = proto::SetUserPropsRequest {
        app: control(),
        user_id: long(),
        write: Some(PropsWrite {
            session_ids: vec!["fine".to_owned(), long(), "fine".to_owned()],
            ack: 99,
            term: 7,
            ..write([("", int(1))])
        }),
        ..Default::default()
    };
    refused(service.try_set_props(request).await).blames(&[
        "app",
        "user_id",
        "write.ack",
        "write.set[\"\"]",
        "write.term",
        "write.session_ids[1]",
        "write.session_ids[2]",
    ]);

    let mut request = data_of(&long(), &control());
    request.app = long();
    request.set = props([("", int(1))]);
    request.private_remove = vec![long()];
    let shown_key = format!("private_remove[{:?}]", "x".repeat(64));
    let told = refused(service.try_set_data(request).await);
    told.blames(&["app", "session_id", "user_id", "set[\"\"]", &shown_key]);
    nothing_changed(&service).await;
}

#[tokio::test]
async fn streams_name_all_bad_fields_at_once() {
    let service = Service::with_room().await;
    let options = || DeliveryOptions {
        delivery: 99,
        encoding: 99,
        props: vec![String::new()],
        ..Default::default()
    };
    let request = SubscribeToSessionRequest {
        app: "a\0b".to_owned(),
        session_id: String::new(),
        user_id: "u".repeat(TOO_LONG),
        join: Some(JoinOptions { presence: 99, ..Default::default() }),
        options: Some(options()),
        resume: Some(proto::Resume::default()),
        open_if_missing: None,
    };
    service.refused_watch(request.clone()).await.blames(&[
        "app",
        "session_id",
        "user_id",
        "join.presence",
        "options.delivery",
        "options.encoding",
        "options.props[0]",
        "resume.position",
    ]);
    let subscription = proto::SessionSubscription {
        session_id: request.session_id,
        join: request.join,
        options: request.options,
        resume: request.resume,
        ..Default::default()
    };
    let open = proto::StreamOpen {
        app: request.app,
        user_id: request.user_id,
        subscriptions: vec![subscription],
        silence_timeout: Some(ms(1)),
    };
    service.open_stream(open).await.refused().await.blames(&[
        "open.app",
        "open.user_id",
        "open.silence_timeout",
        "open.subscriptions[0].session_id",
        "open.subscriptions[0].join.presence",
        "open.subscriptions[0].options.delivery",
        "open.subscriptions[0].options.encoding",
        "open.subscriptions[0].options.props[0]",
        "open.subscriptions[0].resume.position",
    ]);
    for open in [proto::StreamOpen::default(), stream_open("finals", "")] {
        let mut stream = service.open_stream(open).await;
        stream.refused().await.blames(&["open.user_id"]);
    }
    nothing_changed(&service).await;
}

#[tokio::test]
async fn a_write_that_names_no_key_or_one_twice_is_refused() {
    let service = Service::with_room().await;
    let faulty = [
        (PropsWrite::default(), &["write"][..]),
        (PropsWrite::default().in_session("finals"), &["write"]),
        (
            PropsWrite { remove: vec!["x".to_owned()], ..write([("x", int(1))]) },
            &["write.remove[\"x\"]"],
        ),
        (removal(&["x", "x"]), &["write.remove"]),
        (
            PropsWrite {
                json: Some(prost_types::Struct {
                    fields: [(
                        "x".to_owned(),
                        prost_types::Value {
                            kind: Some(prost_types::value::Kind::NumberValue(1.0)),
                        },
                    )]
                    .into(),
                }),
                ..write([("x", int(1))])
            },
            &["write.set[\"x\"]"],
        ),
        (
            PropsWrite {
                json: Some(prost_types::Struct {
                    fields: [("x".to_owned(), prost_types::Value { kind: None })].into(),
                }),
                ..Default::default()
            },
            &["write.json[\"x\"]"],
        ),
    ];
    for (write, fields) in faulty {
        refused(service.try_write("ada", write).await).blames(fields);
    }
    let answer = service.try_set_props(proto::SetUserPropsRequest {
        user_id: "ada".to_owned(),
        ..Default::default()
    });
    refused(answer.await).blames(&["write"]);
    let answer = service.try_set_props(proto::SetUserPropsRequest {
        write: Some(write([("x", int(1))])),
        ..Default::default()
    });
    refused(answer.await).blames(&["target_user_id"]);
    refused(service.try_set_data(data_of("finals", "ada")).await).blames(&["set"]);
    let mut twice = data_of("finals", "ada");
    twice.set = props([("x", int(1))]);
    twice.remove = vec!["x".to_owned()];
    twice.private_remove = vec!["y".to_owned(), "y".to_owned()];
    let told = refused(service.try_set_data(twice).await);
    told.blames(&["remove[\"x\"]", "private_remove"]);
    nothing_changed(&service).await;
}

#[tokio::test]
async fn a_value_without_a_kind_is_refused_wherever_it_is() {
    let service = Service::with_room().await;
    let set = [
        ("bare", no_kind()),
        ("list", list(vec![int(1), no_kind()])),
        ("map", map([("inner", no_kind())])),
        ("fine", int(1)),
    ];
    let told = refused(service.try_write("ada", write(set)).await);
    told.blames(&[
        "write.set[\"bare\"]",
        "write.set[\"list\"][1]",
        "write.set[\"map\"][\"inner\"]",
    ]);
    let settings = SessionSettings { metadata: props([("m", no_kind())]), ..Default::default() };
    let answer = service.try_update("finals", "ada", &["metadata"], settings).await;
    refused(answer).blames(&["settings.metadata[\"m\"]"]);
    nothing_changed(&service).await;
}

#[tokio::test]
async fn a_mask_is_neither_empty_nor_wrong() {
    let service = Service::with_room().await;
    let update =
        async |mask: &[&str]| service.try_update("finals", "ada", mask, Default::default()).await;
    refused(update(&[]).await).blames(&["update_mask"]);
    let told = refused(update(&["name", "colour", "exclusive", "name", "settings.name"]).await);
    told.blames(&[
        "update_mask[\"colour\"]",
        "update_mask[\"exclusive\"]",
        "update_mask[\"name\"]",
        "update_mask[\"settings.name\"]",
    ]);
    let settings = SessionSettings {
        capacity: Some(0),
        pacing: 99,
        tick_interval: Some(ms(60_001)),
        name: "fine".to_owned(),
        ..Default::default()
    };
    let mask = ["name", "capacity", "pacing", "tick_interval"];
    let told = refused(service.try_update("finals", "ada", &mask, settings).await);
    told.blames(&["settings.capacity", "settings.pacing", "settings.tick_interval"]);
    nothing_changed(&service).await;
}

/// Bytes that are no message of any call here: a field 1 whose text is no UTF-8, a field that is
/// cut off, a key without a field number, and a group that nobody began.
const MALFORMED: [&[u8]; 4] = [&[0x0a, 1, 0xff], &[0x0a, 9, b'a'], &[0x00], &[0x0c]];

#[tokio::test]
async fn what_cannot_be_decoded_is_a_malformed_message() {
    let service = Service::with_room().await;
    let unary = [
        "GetSessionInfo",
        "ListSessions",
        "OpenSharedSession",
        "UpdateSession",
        "JoinSession",
        "LeaveSession",
        "DeleteSession",
        "SetUserProps",
        "SetSessionData",
    ];
    let paths = unary.map(|call| format!("/sessiond.v1.SessionService/{call}"));
    let streams = ["/sessiond.v1.DeliveryService/SubscribeToSession".to_owned()];
    for path in paths.iter().chain(&streams) {
        for bytes in MALFORMED {
            let told = refused(service.call_raw(path, bytes).await);
            let told = told.is(Code::InvalidArgument, "MALFORMED_MESSAGE");
            assert_eq!(told.fields, [""; 0], "{path}");
        }
    }
    for bytes in MALFORMED {
        let path = "/sessiond.v1.DeliveryService/StreamUserProps";
        let open = up(3, Up::Open(stream_open("finals", "ada")));
        let messages = vec![open, Bytes::from_static(bytes)];
        let mut stream = service.stream_raw(path, messages).await.expect("it begins");
        let status = loop {
            match in_time(stream.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it is refused"),
                Err(status) => break status,
            }
        };
        // The field 1 of this message is a number, so the first bytes are wrong in another way.
        let told = Refused::new(&status).is(Code::InvalidArgument, "MALFORMED_MESSAGE");
        told.says("acked_seq", "3");
    }
    nothing_changed(&service).await;
}

fn up(seq: u64, message: Up) -> Bytes {
    proto::StreamUserPropsRequest { seq, message: Some(message) }.encode_to_vec().into()
}

/// A message that an unknown field brings to a size.
fn padded(message: impl Into<Bytes>, size: usize) -> Bytes {
    let mut bytes = message.into().to_vec();
    let rest = size - bytes.len() - 4;
    bytes.push(15 << 3 | 2);
    prost::encoding::encode_varint(rest as u64, &mut bytes);
    bytes.resize(size, 0);
    bytes.into()
}

#[tokio::test]
async fn a_message_of_64_kib_passes_and_one_byte_more_does_not() {
    const MOST: usize = 64 * 1024;
    let service = Service::with_room().await;
    let write_x = proto::SetUserPropsRequest {
        user_id: "ada".to_owned(),
        write: Some(write([("x", int(1))])),
        ..Default::default()
    };
    let path = "/sessiond.v1.SessionService/SetUserProps";
    let too_large = |told: Refused| {
        let told = told.is(Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
        told.says("limit", "max-request-bytes").says("most", "65536")
    };
    let answer = service.call_raw(path, padded(write_x.encode_to_vec(), MOST + 1)).await;
    too_large(refused(answer));
    let watch = subscription("finals", "ada").encode_to_vec();
    let path_of_watch = "/sessiond.v1.DeliveryService/SubscribeToSession";
    too_large(refused(service.call_raw(path_of_watch, padded(watch.clone(), MOST + 1)).await));

    let path_of_stream = "/sessiond.v1.DeliveryService/StreamUserProps";
    let open = up(1, Up::Open(stream_open("finals", "ada")));
    let write_y = up(2, Up::Write(write([("y", int(1))])));
    let messages = vec![open.clone(), padded(write_y.clone(), MOST + 1)];
    let mut stream = service.stream_raw(path_of_stream, messages).await.expect("it begins");
    let status = loop {
        match in_time(stream.message()).await {
            Ok(message) => assert!(message.is_some(), "it is refused"),
            Err(status) => break status,
        }
    };
    too_large(Refused::new(&status)).says("acked_seq", "1");
    nothing_changed(&service).await;

    service.call_raw(path, padded(write_x.encode_to_vec(), MOST)).await.expect("it fits");
    service.call_raw(path_of_watch, padded(watch, MOST)).await.expect("it fits");
    let messages = vec![open, padded(write_y, MOST)];
    let mut stream = service.stream_raw(path_of_stream, messages).await.expect("it begins");
    // The stream ends once the tick has acked what it sent.
    in_time(async {
        let mut end =
            std::pin::pin!(async { while stream.message().await.expect("it fits").is_some() {} });
        loop {
            tokio::select! {
                () = &mut end => break,
                () = tokio::task::yield_now() => service.tick(),
            }
        }
    })
    .await;
    let ada = service.watch("finals", "ada").await;
    assert_eq!(ada.rebuilt.props("ada"), shown([("x", int(1)), ("y", int(1))]));
}

#[tokio::test]
async fn an_app_in_the_metadata_must_be_that_of_the_request() {
    let service = Service::with_room().await;
    let with_app = |app: &'static str| {
        let request =
            proto::GetSessionInfoRequest { session_id: "finals".to_owned(), ..Default::default() };
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("sessiond-app", app.parse().expect("ASCII"));
        request
    };
    let mut sessions = service.sessions();
    sessions.get_session_info(as_app(with_app("default"))).await.expect("it is the same");
    refused(sessions.get_session_info(as_app(with_app("chess"))).await).blames(&["app"]);
    let mut write = tonic::Request::new(proto::SetUserPropsRequest {
        app: "default".to_owned(),
        user_id: "ada".to_owned(),
        write: Some(write([("x", int(1))])),
        ..Default::default()
    });
    write.metadata_mut().insert("sessiond-app", "chess".parse().expect("ASCII"));
    refused(sessions.set_user_props(write).await).blames(&["app"]);
    for (one, other) in [("default", "chess"), ("chess", "default")] {
        let mut two = with_app(one);
        two.metadata_mut().append("sessiond-app", other.parse().expect("ASCII"));
        refused(sessions.get_session_info(as_app(two)).await).blames(&["app"]);
    }
    let mut watch = tonic::Request::new(subscription("finals", "ada"));
    watch.metadata_mut().insert("sessiond-app", "chess".parse().expect("ASCII"));
    let mut stream = service.delivery().subscribe_to_session(watch).await.expect("it begins");
    refused(in_time(stream.get_mut().message()).await).blames(&["app"]);
    let open = proto::StreamUserPropsRequest {
        seq: 1,
        message: Some(Up::Open(stream_open("finals", "ada"))),
    };
    let mut request = tonic::Request::new(tokio_stream::iter([open]));
    request.metadata_mut().insert("sessiond-app", "chess".parse().expect("ASCII"));
    let mut stream = service.delivery().stream_user_props(request).await.expect("it begins");
    refused(in_time(stream.get_mut().message()).await).blames(&["open.app"]);
    nothing_changed(&service).await;
}

#[tokio::test]
async fn a_durable_write_needs_a_store() {
    let service = Service::with_room().await;
    let durable = proto::Ack::Durable.into();
    let write = PropsWrite { ack: durable, ..write([("x", int(1))]) };
    refused(service.try_write("ada", write).await).is(Code::FailedPrecondition, "NO_STORE");
    let mut request = data_of("finals", "ada");
    request.ack = durable;
    request.set = props([("x", int(1))]);
    refused(service.try_set_data(request).await).is(Code::FailedPrecondition, "NO_STORE");
    nothing_changed(&service).await;
}

#[tokio::test]
async fn a_private_session_is_not_opened_as_a_shared_one() {
    let service = Service::with_room().await;
    let mut request = opening("private", "ada", SessionSettings::default());
    request.kind = proto::SessionKind::Private.into();
    refused(service.try_open(request).await).blames(&["kind"]);
    let request = proto::OpenSharedSessionRequest { get_if_exists: true, ..Default::default() };
    refused(service.try_open(request).await).blames(&["get_if_exists"]);
    let mut request = opening("spectated", "ada", SessionSettings::default());
    request.join = Some(JoinOptions { spectator: true, ..Default::default() });
    refused(service.try_open(request).await).blames(&["join.spectator"]);
    nothing_changed(&service).await;
}

/// The faults of a refusal that fits the trailers of every client: how many are named, and how many
/// both its fields and its message only count.
#[track_caller]
fn named_and_counted<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> (usize, usize) {
    let status = answer.expect_err("it is refused");
    let told = Refused::new(&status);
    let fields = told.fields.iter().filter(|field| !field.is_empty()).count();
    let counted = |text: &str| {
        let count = text.rsplit_once("and ").and_then(|(_, rest)| rest.strip_suffix(" more"));
        count.map_or(0, |count| count.parse().expect("a number"))
    };
    let details = status.get_error_details();
    let last = details.bad_request().and_then(|bad| bad.field_violations.last().cloned());
    assert!(counted(status.message()) > 0, "{}", status.message());
    (fields, last.map_or(0, |last| counted(&last.description)))
}

#[tokio::test]
async fn so_many_faults_are_named_as_every_client_takes() {
    let service = Service::with_room().await;
    let write_of = |keys: &[String]| PropsWrite {
        set: keys.iter().map(|key| (key.clone(), no_kind())).collect(),
        ..Default::default()
    };
    for (count, key) in
        [(8, "\u{4e2d}".repeat(41)), (8, "\u{1f600}".repeat(31)), (200, "k".repeat(120))]
    {
        let keys: Vec<_> = (0..count).map(|at| format!("{key}{at:03}")).collect();
        let (named, counted) = named_and_counted(service.try_write("ada", write_of(&keys)).await);
        assert!(named >= 3 && named + counted == count, "{named} of {count} {key:?}");
    }

    let keys: Vec<String> = (0..60).map(|at| format!("{at:03} {}", "k".repeat(100))).collect();
    let set = keys.iter().map(|key| (key.clone(), int(1)));
    let mut write = PropsWrite { set: set.collect(), ..Default::default() }.in_session("finals");
    service.try_write("ada", write.clone()).await.expect("it is written");
    service.tick();
    write.if_revision = keys.iter().map(|key| (key.clone(), 1)).collect();
    let answer = service.try_write("ada", write).await;
    refused(answer.clone()).is(Code::Aborted, "REVISION_CHANGED");
    let (named, counted) = named_and_counted(answer);
    assert!(named >= 8 && named + counted == 60, "{named} and {counted}");

    let paths: Vec<_> = (0..300).map(|at| format!("colour{at}")).collect();
    let paths: Vec<_> = paths.iter().map(String::as_str).collect();
    let answer = service.try_update("finals", "ada", &paths, Default::default()).await;
    let (named, counted) = named_and_counted(answer);
    assert!(named >= 20 && named + counted == 300, "{named} and {counted}");

    let path = "/sessiond.v1.ObjectStreamService/SetStream";
    for count in [45, 200] {
        let object = (0..count).map(|at| (format!("pos.{at}"), int(1))).collect();
        let user_id = "ada".to_owned();
        let request = proto::SetStreamRequest { user_id, object, ..Default::default() };
        let (named, counted) =
            named_and_counted(service.call_raw(path, request.encode_to_vec()).await);
        assert!(named >= 10 && named + counted == count, "{named} of {count}");
    }
}

#[tokio::test]
async fn a_refusal_of_a_long_text_names_the_first_of_it() {
    let service = Service::start().await;
    let path = format!("/no/{}", "path".repeat(1000));
    refused(service.call_raw(&path, Vec::new()).await).is(Code::Unimplemented, "NOT_IMPLEMENTED");
    let request = proto::AddStreamFuncRequest {
        user_id: "ada".to_owned(),
        name: "f".to_owned(),
        expression: "\u{4e2d}".repeat(1000),
        ..Default::default()
    };
    let path = "/sessiond.v1.ObjectStreamService/AddStreamFunc";
    let answer = service.call_raw(path, request.encode_to_vec()).await;
    refused(answer).is(Code::InvalidArgument, "BAD_EXPRESSION");
}

/// What the refusal of a call says.
async fn said<T>(answer: impl Future<Output = Result<T, tonic::Status>>) -> String {
    answer.await.err().expect("it is refused").message().to_owned()
}

#[tokio::test]
async fn a_refusal_names_the_thing_and_the_way_out() {
    let service = Service::start().await;
    service.open_hosted("finals", "ada", propnames(&[])).await;
    service.open_room("lobby", "ada").await;
    for user in ["bob", "kim"] {
        service.join("finals", user).await;
    }
    service.set_role("finals", "", "kim", proto::Role::Moderator).await;
    service.try_ban("finals", "ada", "eve").await.expect("it is banned");
    service.tick();

    let unknown = r#"no session "nowhere" is open, or the caller may not know of it; OpenSharedSession opens one"#;
    assert_eq!(said(service.try_info("nowhere", "ada")).await, unknown);
    assert_eq!(said(service.try_join("nowhere", "ada", JoinOptions::default())).await, unknown);
    assert_eq!(said(service.try_delete("nowhere", "")).await, unknown);
    let unnamed = r#"no session named "cup" is open, or the caller may not know of it; OpenSharedSession opens one"#;
    assert_eq!(said(service.try_info_by_name("cup", "ada")).await, unnamed);
    let told = refused(service.try_info("nowhere", "ada").await).says("session_id", "nowhere");
    told.is(Code::NotFound, "SESSION_NOT_FOUND");

    let low = r#"user "kim" has the role moderator in session "finals"; only the owner, or the app itself, may do this"#;
    assert_eq!(said(service.try_delete("finals", "kim")).await, low);
    let outside = r#"the role of user "zoe" in session "finals" is too low; only the owner, or the app itself, may do this"#;
    assert_eq!(said(service.try_delete("finals", "zoe")).await, outside);
    let rank = r#"the role of user "ada" is not below that of user "kim", and only a higher role, or the app itself, may act on it"#;
    assert_eq!(said(service.try_kick("finals", "kim", "ada", "")).await, rank);
    let stranger =
        r#"user "zoe" is not a member of session "finals"; GetSessionInfo lists the members"#;
    assert_eq!(said(service.try_kick("finals", "ada", "zoe", "")).await, stranger);
    let not_in = r#"user "zoe" is not a member of session "finals"; JoinSession makes it one"#;
    assert_eq!(said(service.try_leave("finals", "zoe", false)).await, not_in);
    let on_user = || write([("x", int(1))]);
    let write = || on_user().in_session("finals");
    assert_eq!(said(service.try_write("zoe", write())).await, not_in);
    let banned = r#"user "eve" is banned from session "finals"; UnbanUser ends it"#;
    assert_eq!(said(service.try_join("finals", "eve", JoinOptions::default())).await, banned);
    let not_banned = r#"user "bob" is not banned from session "finals""#;
    assert_eq!(said(service.try_unban("finals", "ada", "bob")).await, not_banned);
    let no_host =
        r#"session "lobby" has no host: only a session that is opened with kind HOSTED has one"#;
    assert_eq!(said(service.try_swap_host("lobby", "ada", "bob", 0)).await, no_host);
    let taken =
        r#"session "finals" is open already; get_if_exists returns it, JoinSession joins it"#;
    let again = opening("finals", "zoe", SessionSettings::default());
    assert_eq!(said(service.try_open(again)).await, taken);
    let of_another = proto::SetUserPropsRequest {
        user_id: "kim".to_owned(),
        target_user_id: "bob".to_owned(),
        write: Some(write()),
        ..Default::default()
    };
    let own = "only the app itself writes props of another user: leave target_user_id empty, or act \
        as the app with the metadata sessiond-as: app";
    assert_eq!(said(service.try_set_props(of_another)).await, own);

    let at = service.info("finals", "ada").await.position.expect("it has a position");
    let asked = proto::Position { revision: at.revision + 9, ..at };
    let read = proto::GetSessionInfoRequest {
        user_id: "ada".to_owned(),
        session_id: "finals".to_owned(),
        min_position: Some(asked),
        ..Default::default()
    };
    let beyond = format!(
        r#"min_position (epoch {}, revision {}) is no position of session "finals", whose last frame is epoch {}, revision {}; take one that a reply named"#,
        asked.epoch, asked.revision, at.epoch, at.revision
    );
    assert_eq!(said(service.sessions().get_session_info(read)).await, beyond);
    let compared = PropsWrite { if_revision: [("x".to_owned(), 999)].into(), ..write() };
    let text = said(service.try_write("ada", compared)).await;
    assert!(
        text.starts_with(r#"a revision in if_revision is no position of session "finals""#),
        "{text}"
    );

    let schema = Schema {
        props: [(
            "x".to_owned(),
            Field { r#type: FieldType::Integer.into(), ..Default::default() },
        )]
        .into(),
        ..Default::default()
    };
    let open = opening("game", "moe", SessionSettings::default());
    service
        .try_open(OpenSharedSessionRequest { schema: Some(schema), ..open })
        .await
        .expect("it opens");
    let needs_id = r#"write.session_ids["game"]: the session has a schema, or its writes are judged: a write must name it in session_ids"#;
    assert_eq!(said(service.try_write("moe", on_user())).await, needs_id);
    let mut moe = service.stream("game", "moe").await;
    let seq = moe.write(on_user());
    moe.until_acked(&service, seq).await;
    let needs_id = r#"session "game" has a schema, or its writes are judged: a write must name it in session_ids"#;
    assert_eq!(moe.refusals[0].message, needs_id, "in band");

    let path = "/metrics";
    let no_call =
        r#"there is no call "/metrics"; this is a gRPC server, and reflection lists its calls"#;
    assert_eq!(said(service.call_raw(path, Vec::new())).await, no_call);
    let mut stream = service.silent_stream().await;
    stream.send_as(0, Some(Up::Open(stream_open("finals", "ada"))));
    let seq = "the seq of the first message must be 1 or more, not 0";
    assert_eq!(said(stream.next_message()).await, seq);

    let gone = service.delivery().subscribe_to_session(subscription("nowhere", "ada")).await;
    let mut gone = gone.expect("it begins");
    assert_eq!(said(gone.get_mut().message()).await, unknown, "as of a unary call");
    let mut stream = service.silent_stream().await;
    stream.send_as(1, Some(Up::Open(stream_open("nowhere", "ada"))));
    assert_eq!(said(stream.next_message()).await, unknown, "as of a unary call");
    let mut stream = service.stream("finals", "ada").await;
    let seq = stream.write(write().in_session("nowhere"));
    stream.until_acked(&service, seq).await;
    assert_eq!(stream.refusals[0].message, unknown, "in band");
}

#[tokio::test]
async fn every_fault_within_a_value_is_named() {
    let service = Service::with_room().await;
    let none = || proto::Value { kind: None };
    let value = map([("a", none()), ("b", list(vec![none(), int(1), none()]))]);
    let told = refused(service.try_write("ada", write([("x", value)])).await);
    told.blames(&[
        r#"write.set["x"]["a"]"#,
        r#"write.set["x"]["b"][0]"#,
        r#"write.set["x"]["b"][2]"#,
    ]);
}
