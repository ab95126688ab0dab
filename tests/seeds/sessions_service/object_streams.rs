//! The routes of object streams, and the fields of StreamInfo.

use crate::support::*;
use sessiond::proto::{
    self, NamedValue, StreamFunc, StreamMode, StreamUpdate,
    object_stream_service_client::ObjectStreamServiceClient, stream_func::Func,
};
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming, transport::Channel};

const GLANCE: Duration = Duration::from_millis(20);

fn streams(service: &Service) -> ObjectStreamServiceClient<Channel> {
    ObjectStreamServiceClient::new(service.channel())
}

/// What sets a stream of ada's with an object.
fn stream_of<const N: usize>(
    name: &str,
    object: [(&str, proto::Value); N],
) -> proto::SetStreamRequest {
    proto::SetStreamRequest {
        user_id: "ada".to_owned(),
        name: name.to_owned(),
        object: props(object),
        ..Default::default()
    }
}

async fn try_set_stream(
    service: &Service,
    request: proto::SetStreamRequest,
) -> Result<String, Status> {
    in_time(streams(service).set_stream(sent(request))).await.map(|reply| reply.into_inner().name)
}

/// setStream by ada.
pub(super) async fn set_stream<const N: usize>(
    service: &Service,
    name: &str,
    object: [(&str, proto::Value); N],
) {
    try_set_stream(service, stream_of(name, object)).await.expect("it is set");
}

/// updateStreamData by ada.
pub(super) async fn update_stream_data<const N: usize>(
    service: &Service,
    name: &str,
    set: [(&str, proto::Value); N],
) {
    let request = proto::UpdateStreamDataRequest { set: props(set), ..update_of("ada", name) };
    in_time(streams(service).update_stream_data(sent(request))).await.expect("it is updated");
}

fn update_of(user: &str, name: &str) -> proto::UpdateStreamDataRequest {
    proto::UpdateStreamDataRequest {
        user_id: user.to_owned(),
        name: name.to_owned(),
        ..Default::default()
    }
}

async fn append<const N: usize>(service: &Service, name: &str, set: [(&str, proto::Value); N]) {
    let request = proto::UpdateStreamDataRequest { append: props(set), ..update_of("ada", name) };
    in_time(streams(service).update_stream_data(sent(request))).await.expect("it is appended");
}

/// removeStream by ada: of a stream, or of one key.
async fn remove(service: &Service, name: &str, key: &str) {
    let request = proto::RemoveStreamRequest {
        user_id: "ada".to_owned(),
        name: name.to_owned(),
        key: key.to_owned(),
        ..Default::default()
    };
    in_time(streams(service).remove_stream(sent(request))).await.expect("it is removed");
}

/// setStreamFunc by ada: of a stream, or of one key.
async fn set_stream_func(service: &Service, name: &str, key: &str, func: StreamFunc) {
    let request = proto::SetStreamFuncRequest {
        user_id: "ada".to_owned(),
        name: name.to_owned(),
        key: key.to_owned(),
        func: Some(func),
        ..Default::default()
    };
    in_time(streams(service).set_stream_func(sent(request))).await.expect("it is set");
}

async fn add_stream_func(service: &Service, name: &str, expression: &str) -> Result<(), Status> {
    let request = proto::AddStreamFuncRequest {
        user_id: "ada".to_owned(),
        name: name.to_owned(),
        expression: expression.to_owned(),
        ..Default::default()
    };
    in_time(streams(service).add_stream_func(sent(request))).await.map(drop)
}

async fn try_read(
    service: &Service,
    user: &str,
    name: &str,
    cursor: &str,
) -> Result<proto::GetStreamUpdateResponse, Status> {
    let request = proto::GetStreamUpdateRequest {
        user_id: user.to_owned(),
        name: name.to_owned(),
        cursor: cursor.to_owned(),
        ..Default::default()
    };
    in_time(streams(service).get_stream_update(sent(request)))
        .await
        .map(tonic::Response::into_inner)
}

/// getStreamUpdate by bob, from a cursor that it moves on.
async fn read(service: &Service, name: &str, cursor: &mut String) -> Vec<String> {
    let reply = try_read(service, "bob", name, cursor).await.expect("it is read");
    *cursor = reply.cursor;
    values_of(&reply.update.expect("it has an update"))
}

/// What is new, as `key=value`, in the order of keys.
pub(super) fn values_of(update: &StreamUpdate) -> Vec<String> {
    let said = |named: &NamedValue| {
        let (key, value) = show_named(named);
        format!("{key}={value}")
    };
    let mut values: Vec<_> = update.values.iter().map(said).collect();
    values.sort();
    values
}

/// SubscribeToStreams.
pub(super) async fn subscribe_to_streams(
    service: &Service,
    request: proto::SubscribeToStreamsRequest,
) -> Streaming<proto::SubscribeToStreamsResponse> {
    in_time(streams(service).subscribe_to_streams(sent(request)))
        .await
        .expect("it begins")
        .into_inner()
}

/// Its next message.
pub(super) async fn next(
    down: &mut Streaming<proto::SubscribeToStreamsResponse>,
) -> proto::SubscribeToStreamsResponse {
    in_time(down.message()).await.expect("the stream goes on").expect("the stream goes on")
}

/// A message of it that is there or about to come.
pub(super) async fn glance(
    down: &mut Streaming<proto::SubscribeToStreamsResponse>,
) -> Option<proto::SubscribeToStreamsResponse> {
    let message = timeout(GLANCE, down.message()).await.ok()?;
    message.expect("the stream goes on")
}

fn numbers(items: &[f64]) -> proto::Value {
    let numbers = proto::Numbers { items: items.to_vec() };
    proto::Value { kind: Some(proto::value::Kind::Numbers(numbers)) }
}

/// The callbacks of the seed: 0, 1, or a function.
const LATEST: StreamFunc = StreamFunc { func: Some(Func::Mode(StreamMode::Latest as i32)) };
const ALL_LATEST: StreamFunc = StreamFunc { func: Some(Func::Mode(StreamMode::AllLatest as i32)) };

fn function(name: &str) -> StreamFunc {
    StreamFunc { func: Some(Func::Name(name.to_owned())) }
}

#[tokio::test]
async fn set_stream_takes_the_object_we_want_to_watch() {
    let service = Service::start().await;
    set_stream(&service, "pad", [("x", int(1)), ("row", numbers(&[1.0]))]).await;
    let mut cursor = "0".to_owned();
    assert_eq!(read(&service, "pad", &mut cursor).await, ["row=numbers[1.0]", "x=1i"]);
    let generated = try_set_stream(&service, stream_of("", [("x", int(1))])).await;
    assert!(!generated.expect("it is set").is_empty(), "a name is made where none is given");
}

#[tokio::test]
async fn keys_are_all_keys_unless_some_are_named() {
    let service = Service::start().await;
    let some = proto::SetStreamRequest {
        keys: vec!["x".to_owned()],
        ..stream_of("some", [("x", int(1)), ("y", int(1))])
    };
    try_set_stream(&service, some).await.expect("it is set");
    set_stream(&service, "all", [("x", int(1)), ("y", int(1))]).await;
    let (mut some, mut all) = ("0".to_owned(), "0".to_owned());
    assert_eq!(read(&service, "some", &mut some).await, ["x=1i"]);
    assert_eq!(read(&service, "all", &mut all).await, ["x=1i", "y=1i"]);
}

#[tokio::test]
async fn callback_1_grabs_all_new_data() {
    let service = Service::start().await;
    // It is also what a stream does that nothing is said of.
    set_stream(&service, "pad", [("row", numbers(&[1.0])), ("x", int(1))]).await;
    let named = proto::SetStreamRequest {
        funcs: [("row".to_owned(), ALL_LATEST)].into(),
        ..stream_of("named", [("row", numbers(&[1.0])), ("x", int(1))])
    };
    try_set_stream(&service, named).await.expect("it is set");
    for name in ["pad", "named"] {
        let mut cursor = "0".to_owned();
        read(&service, name, &mut cursor).await;
        append(&service, name, [("row", numbers(&[2.0]))]).await;
        append(&service, name, [("row", numbers(&[3.0, 4.0]))]).await;
        assert_eq!(read(&service, name, &mut cursor).await, ["row=numbers[2.0, 3.0, 4.0]"]);
        assert_eq!(read(&service, name, &mut cursor).await, [""; 0], "nothing is new");
        update_stream_data(&service, name, [("x", int(2))]).await;
        assert_eq!(read(&service, name, &mut cursor).await, ["x=2i"]);
    }
}

#[tokio::test]
async fn callback_0_grabs_only_latest_data_values() {
    let service = Service::start().await;
    set_stream(&service, "pad", [("row", numbers(&[1.0])), ("x", int(1))]).await;
    set_stream_func(&service, "pad", "", LATEST).await;
    let mut cursor = "0".to_owned();
    read(&service, "pad", &mut cursor).await;
    append(&service, "pad", [("row", numbers(&[2.0, 3.0]))]).await;
    update_stream_data(&service, "pad", [("x", int(2))]).await;
    assert_eq!(read(&service, "pad", &mut cursor).await, ["row=3.0", "x=2i"]);
    update_stream_data(&service, "pad", [("x", int(2))]).await;
    assert_eq!(read(&service, "pad", &mut cursor).await, [""; 0], "it has not changed");
}

#[tokio::test]
async fn set_stream_func_for_a_stream_or_for_one_key() {
    let service = Service::start().await;
    set_stream(&service, "pad", [("row", numbers(&[])), ("tail", numbers(&[]))]).await;
    set_stream_func(&service, "pad", "row", LATEST).await;
    let mut cursor = "0".to_owned();
    read(&service, "pad", &mut cursor).await;
    append(&service, "pad", [("row", numbers(&[1.0, 2.0])), ("tail", numbers(&[1.0, 2.0]))]).await;
    assert_eq!(read(&service, "pad", &mut cursor).await, ["row=2.0", "tail=numbers[1.0, 2.0]"]);
    set_stream_func(&service, "pad", "", ALL_LATEST).await;
    append(&service, "pad", [("row", numbers(&[3.0, 4.0]))]).await;
    assert_eq!(read(&service, "pad", &mut cursor).await, ["row=numbers[3.0, 4.0]"]);
}

#[tokio::test]
async fn add_stream_func_is_a_function_of_the_value_and_the_last_one() {
    let service = Service::start().await;
    add_stream_func(&service, "delta", "last == null ? value : value - last").await.expect("added");
    set_stream(&service, "pad", [("x", int(5))]).await;
    set_stream_func(&service, "pad", "x", function("delta")).await;
    let mut cursor = "0".to_owned();
    assert_eq!(read(&service, "pad", &mut cursor).await, ["x=5i"]);
    update_stream_data(&service, "pad", [("x", int(12))]).await;
    assert_eq!(read(&service, "pad", &mut cursor).await, ["x=7i"]);
    let told = refused(add_stream_func(&service, "endless", "[1, 2].map(a, [a].map(b, b))").await);
    told.is(Code::InvalidArgument, "BAD_EXPRESSION");
    let unknown = proto::SetStreamRequest {
        funcs: [("x".to_owned(), function("unknown"))].into(),
        ..stream_of("other", [("x", int(1))])
    };
    let told = refused(try_set_stream(&service, unknown).await);
    told.is(Code::NotFound, "FUNCTION_NOT_FOUND");
}

#[tokio::test]
async fn nested_objects_are_watched_key_by_key() {
    let service = Service::start().await;
    set_stream(&service, "pad", [("stick", map([("x", int(1)), ("y", int(1))]))]).await;
    let mut cursor = "0".to_owned();
    assert_eq!(read(&service, "pad", &mut cursor).await, ["stick.x=1i", "stick.y=1i"]);
    update_stream_data(&service, "pad", [("stick.y", int(2))]).await;
    assert_eq!(read(&service, "pad", &mut cursor).await, ["stick.y=2i"]);
}

#[tokio::test]
async fn update_stream_data_is_for_its_creator() {
    let service = Service::start().await;
    set_stream(&service, "pad", [("x", int(1))]).await;
    let by_bob =
        proto::UpdateStreamDataRequest { set: props([("x", int(2))]), ..update_of("bob", "pad") };
    let told = refused(in_time(streams(&service).update_stream_data(sent(by_bob))).await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW");
    let nothing = proto::UpdateStreamDataRequest {
        set: props([("x", int(2))]),
        ..update_of("ada", "nothing")
    };
    let told = refused(in_time(streams(&service).update_stream_data(sent(nothing))).await);
    told.is(Code::NotFound, "STREAM_NOT_FOUND");
}

#[tokio::test]
async fn remove_stream_takes_a_stream_or_one_key_and_onclose_is_told() {
    let service = Service::start().await;
    set_stream(&service, "pad", [("x", int(1)), ("y", int(1))]).await;
    let request =
        proto::SubscribeToStreamsRequest { user_id: "bob".to_owned(), ..Default::default() };
    let mut down = subscribe_to_streams(&service, request).await;
    next(&mut down).await;
    remove(&service, "pad", "y").await;
    service.advance(10);
    assert_eq!(next(&mut down).await.updates["pad"].removed, ["y"]);
    remove(&service, "pad", "").await;
    service.advance(10);
    assert!(next(&mut down).await.updates["pad"].ended);
    refused(try_read(&service, "bob", "pad", "0").await).is(Code::NotFound, "STREAM_NOT_FOUND");
}

#[tokio::test]
async fn get_stream_update_and_last_read() {
    let service = Service::start().await;
    set_stream(&service, "pad", [("row", numbers(&[1.0]))]).await;
    // Every reader has its own place; who names none shares one with those who do not either.
    let (mut mine, mut yours) = ("0".to_owned(), "0".to_owned());
    let shared = async || read(&service, "pad", &mut String::new()).await;
    read(&service, "pad", &mut mine).await;
    read(&service, "pad", &mut yours).await;
    shared().await;
    append(&service, "pad", [("row", numbers(&[2.0]))]).await;
    assert_eq!(read(&service, "pad", &mut mine).await, ["row=numbers[2.0]"]);
    append(&service, "pad", [("row", numbers(&[3.0]))]).await;
    assert_eq!(read(&service, "pad", &mut mine).await, ["row=numbers[3.0]"]);
    assert_eq!(read(&service, "pad", &mut yours).await, ["row=numbers[2.0, 3.0]"]);
    assert_eq!(shared().await, ["row=numbers[2.0, 3.0]"]);
    assert_eq!(shared().await, [""; 0]);
    // A shorter array starts again.
    update_stream_data(&service, "pad", [("row", numbers(&[9.0]))]).await;
    assert_eq!(read(&service, "pad", &mut mine).await, ["row=numbers[9.0]"]);
}

#[tokio::test]
async fn get_all_stream_updates_answers_by_stream_name() {
    let service = Service::start().await;
    set_stream(&service, "pad", [("x", int(1))]).await;
    set_stream(&service, "wheel", [("x", int(2))]).await;
    let hidden = proto::SetStreamRequest {
        readers: vec!["kim".to_owned()],
        ..stream_of("hidden", [("x", int(3))])
    };
    try_set_stream(&service, hidden).await.expect("it is set");
    let all = async |user: &str, cursor: String| {
        let request = proto::GetAllStreamUpdatesRequest {
            user_id: user.to_owned(),
            cursor,
            ..Default::default()
        };
        let reply = in_time(streams(&service).get_all_stream_updates(sent(request))).await;
        let reply = reply.expect("it is read").into_inner();
        let mut updates: Vec<_> = reply
            .updates
            .iter()
            .map(|(name, update)| (name.clone(), values_of(update).join(" ")))
            .collect();
        updates.sort();
        (updates, reply.cursor)
    };
    let of = |name: &str, values: &str| (name.to_owned(), values.to_owned());
    let (updates, cursor) = all("bob", "0".to_owned()).await;
    assert_eq!(updates, [of("pad", "x=1i"), of("wheel", "x=2i")]);
    let (updates, _) = all("kim", "0".to_owned()).await;
    assert_eq!(updates, [of("hidden", "x=3i"), of("pad", "x=1i"), of("wheel", "x=2i")]);
    update_stream_data(&service, "wheel", [("x", int(3))]).await;
    let (updates, _) = all("bob", cursor).await;
    assert_eq!(updates, [of("wheel", "x=3i")], "only what has something new");
}
