//! Object streams over gRPC. The server's clock stands still until a test moves it; nothing sleeps.

#[path = "service/support/caller.rs"]
mod caller;

use caller::{as_app, sent};
use sessiond::{
    config::Config,
    engine::Clock,
    object_stream::{FUNCTIONS, KEYS},
    proto::{
        self, NamedValue, StreamMode, StreamUpdate, SubscribeToStreamsResponse, named_value,
        object_stream_service_client::ObjectStreamServiceClient, stream_func, value::Kind,
    },
    server::Server,
};
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::Duration,
};
use tokio::time::timeout;
use tonic::{Code, Request, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

const BEGIN: u64 = 1_767_225_600_000_000;
const PATIENCE: Duration = Duration::from_secs(30);

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it comes in time")
}

/// A server, and a client of its object streams.
struct Service {
    server: Server,
    client: ObjectStreamServiceClient<Channel>,
}

async fn service() -> Service {
    service_with(|_| {}).await
}

async fn service_with(change: impl FnOnce(&mut Config)) -> Service {
    service_by(Clock::stepped(BEGIN), change).await
}

async fn service_by(clock: Clock, change: impl FnOnce(&mut Config)) -> Service {
    let mut config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
        threads: 2,
        drain_timeout: Duration::from_secs(5),
        ..Config::default()
    };
    change(&mut config);
    let server = Server::start(config, clock).await.expect("it starts");
    let address = format!("http://{}", server.address());
    let client = in_time(ObjectStreamServiceClient::connect(address)).await.expect("it connects");
    Service { server, client }
}

impl Service {
    fn client(&self) -> ObjectStreamServiceClient<Channel> {
        self.client.clone()
    }

    fn advance(&self, milliseconds: u64) {
        self.server.engine().advance(milliseconds * 1000);
    }

    async fn try_set(&self, request: proto::SetStreamRequest) -> Result<String, Status> {
        let reply = in_time(self.client().set_stream(sent(request))).await?;
        Ok(reply.into_inner().name)
    }

    async fn set<const N: usize>(&self, name: &str, values: [(&str, Kind); N]) {
        self.try_set(stream(name, values)).await.expect("it is set");
    }

    async fn try_update(&self, request: proto::UpdateStreamDataRequest) -> Result<(), Status> {
        in_time(self.client().update_stream_data(sent(request))).await.map(|_| ())
    }

    async fn update<const N: usize>(&self, name: &str, values: [(&str, Kind); N]) {
        let set = proto::UpdateStreamDataRequest { set: object(values), ..update(name) };
        self.try_update(set).await.expect("it is updated");
    }

    async fn append<const N: usize>(&self, name: &str, values: [(&str, Kind); N]) {
        let append = proto::UpdateStreamDataRequest { append: object(values), ..update(name) };
        self.try_update(append).await.expect("it is appended");
    }

    async fn remove(&self, name: &str, key: &str) {
        let request = proto::RemoveStreamRequest {
            name: name.to_owned(),
            key: key.to_owned(),
            ..Default::default()
        };
        in_time(self.client().remove_stream(sent(request))).await.expect("it is removed");
    }

    async fn try_func(&self, name: &str, key: &str, func: stream_func::Func) -> Result<(), Status> {
        let request = proto::SetStreamFuncRequest {
            name: name.to_owned(),
            key: key.to_owned(),
            func: Some(proto::StreamFunc { func: Some(func) }),
            ..Default::default()
        };
        in_time(self.client().set_stream_func(sent(request))).await.map(|_| ())
    }

    async fn try_add(&self, user: &str, name: &str, expression: &str) -> Result<(), Status> {
        let request = proto::AddStreamFuncRequest {
            user_id: user.to_owned(),
            name: name.to_owned(),
            expression: expression.to_owned(),
            ..Default::default()
        };
        in_time(self.client().add_stream_func(sent(request))).await.map(|_| ())
    }

    async fn try_read(
        &self,
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
        Ok(in_time(self.client().get_stream_update(sent(request))).await?.into_inner())
    }

    /// What is new since a cursor, and the next one.
    async fn read(&self, name: &str, cursor: &str) -> (StreamUpdate, String) {
        let reply = self.try_read("bob", name, cursor).await.expect("it is read");
        (reply.update.expect("an update"), reply.cursor)
    }

    async fn read_all(&self, user: &str, cursor: &str) -> proto::GetAllStreamUpdatesResponse {
        let request = proto::GetAllStreamUpdatesRequest {
            user_id: user.to_owned(),
            cursor: cursor.to_owned(),
            ..Default::default()
        };
        in_time(self.client().get_all_stream_updates(sent(request)))
            .await
            .expect("read")
            .into_inner()
    }

    /// A subscription of which nothing is read.
    async fn begin(
        &self,
        request: proto::SubscribeToStreamsRequest,
    ) -> Streaming<SubscribeToStreamsResponse> {
        let answer = in_time(self.client().subscribe_to_streams(sent(request))).await;
        answer.expect("streams are refused in their trailers").into_inner()
    }

    /// Subscribes to what has something to say, or is refused to.
    async fn try_subscribe(&self, request: proto::SubscribeToStreamsRequest) -> Result<(), Status> {
        in_time(self.begin(request).await.message()).await.map(|_| ())
    }

    /// A subscription of bob's, and its first message.
    async fn subscribe(
        &self,
        names: &[&str],
    ) -> (Streaming<SubscribeToStreamsResponse>, SubscribeToStreamsResponse) {
        let mut stream = self.begin(subscription(names)).await;
        let first = next(&mut stream).await;
        (stream, first)
    }
}

fn subscription(names: &[&str]) -> proto::SubscribeToStreamsRequest {
    proto::SubscribeToStreamsRequest {
        user_id: "bob".to_owned(),
        names: names.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

async fn next(stream: &mut Streaming<SubscribeToStreamsResponse>) -> SubscribeToStreamsResponse {
    in_time(stream.message()).await.expect("no error").expect("a message")
}

fn value(kind: Kind) -> proto::Value {
    proto::Value { kind: Some(kind) }
}

fn object<const N: usize>(values: [(&str, Kind); N]) -> BTreeMap<String, proto::Value> {
    values.into_iter().map(|(key, kind)| (key.to_owned(), value(kind))).collect()
}

/// A stream that the app creates.
fn stream<const N: usize>(name: &str, values: [(&str, Kind); N]) -> proto::SetStreamRequest {
    proto::SetStreamRequest { name: name.to_owned(), object: object(values), ..Default::default() }
}

fn update(name: &str) -> proto::UpdateStreamDataRequest {
    proto::UpdateStreamDataRequest { name: name.to_owned(), ..Default::default() }
}

fn integer(integer: i64) -> Kind {
    Kind::Integer(integer)
}

fn integers(items: impl IntoIterator<Item = i64>) -> Kind {
    Kind::Integers(proto::Integers { items: items.into_iter().collect() })
}

fn map<const N: usize>(values: [(&str, Kind); N]) -> Kind {
    Kind::Map(proto::MapValue { entries: object(values) })
}

fn mode(mode: StreamMode) -> stream_func::Func {
    stream_func::Func::Mode(mode.into())
}

fn named(name: &str) -> stream_func::Func {
    stream_func::Func::Name(name.to_owned())
}

/// Values as `key=value`, in the order of keys.
fn said(update: &StreamUpdate) -> Vec<String> {
    let said = |NamedValue { name, kind }: &NamedValue| {
        let value = match kind.as_ref().expect("a kind") {
            named_value::Kind::Integer(integer) => integer.to_string(),
            named_value::Kind::Integers(integers) => format!("{:?}", integers.items),
            named_value::Kind::List(list) => {
                let items = list.items.iter().map(|item| match &item.kind {
                    Some(Kind::Integer(integer)) => integer.to_string(),
                    other => format!("{other:?}"),
                });
                format!("[{}]", items.collect::<Vec<_>>().join(", "))
            }
            named_value::Kind::Text(text) => text.clone(),
            named_value::Kind::Map(map) => format!("map of {}", map.entries.len()),
            other => format!("{other:?}"),
        };
        format!("{name}={value}")
    };
    let mut all: Vec<_> = update.values.iter().map(said).collect();
    all.sort();
    all
}

/// Code, reason and the fields at fault.
fn told(status: &Status) -> (Code, String, Vec<String>) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    let fields = details
        .bad_request()
        .map(|bad| bad.field_violations.iter().map(|violation| violation.field.clone()).collect());
    (status.code(), reason, fields.unwrap_or_default())
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String, Vec<String>) {
    told(&outcome.expect_err("it is refused"))
}

fn reason(code: Code, reason: &str) -> (Code, String, Vec<String>) {
    (code, reason.to_owned(), Vec::new())
}

fn fields(fields: &[&str]) -> (Code, String, Vec<String>) {
    let fields = fields.iter().map(ToString::to_string).collect();
    (Code::InvalidArgument, "INVALID_FIELDS".to_owned(), fields)
}

#[tokio::test]
async fn a_cursor_gets_the_object_and_then_what_is_new() {
    let s = service().await;
    s.set("scope", [("level", integer(1)), ("samples", integers([1, 2]))]).await;
    let (first, cursor) = s.read("scope", "0").await;
    assert!(first.reset);
    assert_eq!(first.restarted, ["samples"]);
    assert_eq!(said(&first), ["level=1", "samples=[1, 2]"]);

    s.append("scope", [("samples", integers([3]))]).await;
    s.append("scope", [("samples", integers([4, 5])), ("marks", integers([9]))]).await;
    let (second, later) = s.read("scope", &cursor).await;
    assert_eq!(said(&second), ["marks=[9]", "samples=[3, 4, 5]"]);
    assert_eq!(second.restarted, ["marks"]);
    s.update("scope", [("samples", integers([7])), ("level", integer(1))]).await;
    let (third, last) = s.read("scope", &later).await;
    assert_eq!(
        (said(&third), third.restarted),
        (vec!["samples=[7]".to_owned()], vec!["samples".to_owned()])
    );
    // The server keeps nothing for a cursor: an old one still works.
    let (again, _) = s.read("scope", &cursor).await;
    assert_eq!(said(&again), ["marks=[9]", "samples=[7]"]);

    s.remove("scope", "marks").await;
    let (fourth, last) = s.read("scope", &last).await;
    assert_eq!(fourth.removed, ["marks"]);
    s.remove("scope", "marks").await;
    let (nothing, same) = s.read("scope", &last).await;
    assert_eq!((nothing, same), (StreamUpdate::default(), last));
}

#[tokio::test]
async fn those_without_a_cursor_share_one() {
    let s = service().await;
    s.set("a", [("n", integer(1))]).await;
    s.set("b", [("n", integer(2))]).await;
    let (first, cursor) = s.read("a", "").await;
    assert_eq!(said(&first), ["n=1"]);
    assert!(!cursor.is_empty());
    let all = s.read_all("eve", "").await;
    assert_eq!(all.updates.keys().collect::<Vec<_>>(), ["b"]);
    s.update("a", [("n", integer(3))]).await;
    assert_eq!(said(&s.read_all("bob", "").await.updates["a"]), ["n=3"]);
    assert_eq!(s.read("a", "").await.0, StreamUpdate::default());
    assert_eq!(said(&s.read("a", &cursor).await.0), ["n=3"]);
    s.remove("b", "").await;
    assert!(s.read_all("bob", "").await.updates["b"].ended);
    assert!(s.read_all("bob", "").await.updates.is_empty());
}

#[tokio::test]
async fn modes_are_set_for_a_stream_a_map_or_a_key() {
    let s = service().await;
    let mut set = stream(
        "s",
        [("a", integers([1, 2])), ("m", map([("x", integers([3, 4])), ("y", integers([5, 6]))]))],
    );
    let latest = proto::StreamFunc { func: Some(mode(StreamMode::Latest)) };
    set.funcs.insert("m".to_owned(), latest.clone());
    set.funcs.insert("m.y".to_owned(), proto::StreamFunc { func: None });
    set.keys = vec!["a".to_owned(), "m".to_owned()];
    s.try_set(set).await.expect("it is set");
    let (first, cursor) = s.read("s", "0").await;
    assert_eq!(said(&first), ["a=[1, 2]", "m.x=4", "m.y=[5, 6]"]);
    s.try_func("s", "", mode(StreamMode::Latest)).await.expect("it is set");
    s.append(
        "s",
        [("a", integers([7, 8])), ("m.y", integers([9, 10])), ("unwatched", integers([1]))],
    )
    .await;
    let (second, cursor) = s.read("s", &cursor).await;
    assert_eq!(said(&second), ["a=8", "m.y=10"]);
    s.try_func("s", "a", mode(StreamMode::AllLatest)).await.expect("it is set");
    s.append("s", [("a", integers([11, 12])), ("m.y", integers([13]))]).await;
    s.update("s", [("m.z", integer(1))]).await;
    let (third, cursor) = s.read("s", &cursor).await;
    assert_eq!(said(&third), ["a=[11, 12]", "m.y=13", "m.z=1"]);
    s.update("s", [("m", map([("z", integer(1)), ("deep", map([("q", integer(1))]))]))]).await;
    let (fourth, _) = s.read("s", &cursor).await;
    assert_eq!(
        (said(&fourth), fourth.removed),
        (vec!["m.deep=map of 1".to_owned()], vec!["m.x".to_owned(), "m.y".to_owned()])
    );
}

#[tokio::test]
async fn a_subscriber_hears_once_per_interval_what_is_new() {
    let s = service().await;
    s.set("a", [("n", integer(1)), ("list", integers([1]))]).await;
    s.set("b", [("n", integer(1))]).await;
    let (mut all, first) = s.subscribe(&[]).await;
    let (mut only_b, first_b) = s.subscribe(&["b"]).await;
    assert!(first.reset && first_b.reset);
    assert_eq!((first.updates.len(), first_b.updates.len()), (2, 1));
    assert_eq!(said(&first.updates["a"]), ["list=[1]", "n=1"]);

    s.append("a", [("list", integers([2]))]).await;
    s.append("a", [("list", integers([3]))]).await;
    s.update("a", [("n", integer(2))]).await;
    s.update("a", [("n", integer(3))]).await;
    s.advance(10);
    let second = next(&mut all).await;
    assert_eq!(said(&second.updates["a"]), ["list=[2, 3]", "n=3"]);
    assert!(!second.reset && !second.updates["a"].reset);

    // After a quiet interval news goes out at once.
    s.advance(10);
    s.set("later", [("n", integer(5))]).await;
    let third = next(&mut all).await;
    assert!(third.updates["later"].reset);
    assert_eq!(said(&third.updates["later"]), ["n=5"]);
    s.remove("a", "n").await;
    s.remove("b", "").await;
    s.advance(10);
    let fourth = next(&mut all).await;
    assert_eq!(fourth.updates["a"].removed, ["n"]);
    assert!(fourth.updates["b"].ended);
    let second_b = next(&mut only_b).await;
    assert_eq!(second_b.updates.len(), 1);
    assert!(second_b.updates["b"].ended);
    s.set("b", [("m", integer(1))]).await;
    s.advance(10);
    let third_b = next(&mut only_b).await;
    assert!(third_b.updates["b"].reset);
    assert_eq!(said(&third_b.updates["b"]), ["m=1"]);
}

#[tokio::test]
async fn a_subscriber_chooses_its_interval() {
    let s = service().await;
    s.set("a", [("n", integer(0))]).await;
    let interval = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let with = |interval| proto::SubscribeToStreamsRequest { interval, ..subscription(&["a"]) };
    for (seconds, nanos) in [(0, 999_000), (60, 1_000), (-1, 0), (0, 0)] {
        let outcome = s.try_subscribe(with(interval(seconds, nanos))).await;
        assert_eq!(refused(outcome), fields(&["interval"]));
    }
    let mut fast = s.begin(with(interval(0, 1_000_000))).await;
    let mut slow = s.begin(with(interval(60, 0))).await;
    next(&mut fast).await;
    next(&mut slow).await;
    for n in 1..=5 {
        s.update("a", [("n", integer(n))]).await;
        s.advance(1);
        assert_eq!(said(&next(&mut fast).await.updates["a"]), [format!("n={n}")]);
    }
    s.advance(59_995);
    let mut heard = next(&mut slow).await;
    while heard.updates.is_empty() {
        heard = next(&mut slow).await;
    }
    assert_eq!(said(&heard.updates["a"]), ["n=5"]);
}

#[tokio::test]
async fn the_machines_clock_wakes_subscribers() {
    let s = service_by(Clock::machine(), |config| {
        config.heartbeat_interval = Duration::from_millis(1);
    })
    .await;
    s.set("a", [("n", integer(0))]).await;
    let (mut stream, _) = s.subscribe(&["a"]).await;
    for n in 1..=10 {
        s.update("a", [("n", integer(n))]).await;
        let mut heard = next(&mut stream).await;
        while heard.updates.is_empty() {
            heard = next(&mut stream).await;
        }
        assert_eq!(said(&heard.updates["a"]), [format!("n={n}")]);
    }
}

#[tokio::test]
async fn a_quiet_stream_has_a_heartbeat() {
    let s = service().await;
    let (mut stream, first) = s.subscribe(&[]).await;
    assert!(first.reset && first.updates.is_empty());
    for _ in 0..3 {
        s.advance(15_000);
        assert_eq!(next(&mut stream).await, SubscribeToStreamsResponse::default());
    }
}

#[tokio::test]
async fn a_stream_that_is_old_enough_ends() {
    let s = service_with(|config| config.stream_max_age = Some(Duration::from_secs(10))).await;
    let (mut stream, _) = s.subscribe(&[]).await;
    s.advance(10_000);
    let end = in_time(stream.message()).await.expect_err("it ends");
    assert_eq!(told(&end), reason(Code::Unavailable, "AGE"));
    assert!(end.get_error_details().retry_info().is_some());
}

#[tokio::test]
async fn a_stopping_server_ends_streams_and_refuses_writes() {
    let s = service().await;
    s.set("a", [("n", integer(1))]).await;
    let (mut stream, _) = s.subscribe(&[]).await;
    s.server.engine().drain();
    let outcome = s.try_set(stream_of("ada", "b")).await;
    assert_eq!(refused(outcome), reason(Code::Unavailable, "DRAINING"));
    assert_eq!(
        refused(s.try_subscribe(subscription(&[])).await),
        reason(Code::Unavailable, "DRAINING")
    );
    let Service { server, client } = s;
    drop(client);
    let stop = tokio::spawn(server.stop());
    let end = in_time(stream.message()).await.expect_err("it ends");
    assert_eq!(told(&end), reason(Code::Unavailable, "DRAINING"));
    assert!(end.get_error_details().retry_info().is_some());
    drop(stream);
    in_time(stop).await.expect("it stops");
}

/// An empty stream that a user creates.
fn stream_of(user: &str, name: &str) -> proto::SetStreamRequest {
    proto::SetStreamRequest { user_id: user.to_owned(), ..stream(name, []) }
}

#[tokio::test]
async fn readers_read_the_creator_writes_and_others_learn_nothing() {
    let s = service().await;
    let readers = vec!["bob".to_owned()];
    let set = proto::SetStreamRequest { readers, ..stream_of("ada", "secret") };
    s.try_set(set).await.expect("it is set");
    let as_user = |user: &str, name: &str| proto::UpdateStreamDataRequest {
        user_id: user.to_owned(),
        set: object([("n", integer(1))]),
        ..update(name)
    };
    s.try_update(as_user("ada", "secret")).await.expect("she created it");
    s.try_update(as_user("", "secret")).await.expect("the app may everything");
    let not_found = reason(Code::NotFound, "STREAM_NOT_FOUND");
    let not_allowed = reason(Code::PermissionDenied, "ROLE_TOO_LOW");
    assert_eq!(refused(s.try_update(as_user("bob", "secret")).await), not_allowed);
    assert_eq!(refused(s.try_set(stream_of("bob", "secret")).await), not_allowed);
    let taken = reason(Code::AlreadyExists, "NAME_TAKEN");
    assert_eq!(refused(s.try_set(stream_of("eve", "secret")).await), taken);

    let mut outcomes = Vec::new();
    for name in ["secret", "unknown"] {
        let user_id = "eve".to_owned();
        let name = name.to_owned();
        let remove = proto::RemoveStreamRequest {
            user_id: user_id.clone(),
            name: name.clone(),
            ..Default::default()
        };
        let func = proto::SetStreamFuncRequest {
            user_id: user_id.clone(),
            name: name.clone(),
            ..Default::default()
        };
        let named = proto::SubscribeToStreamsRequest {
            user_id,
            names: vec![name.clone()],
            ..Default::default()
        };
        outcomes.push(s.try_update(as_user("eve", &name)).await);
        outcomes.push(in_time(s.client().remove_stream(sent(remove))).await.map(|_| ()));
        outcomes.push(in_time(s.client().set_stream_func(sent(func))).await.map(|_| ()));
        outcomes.push(s.try_read("eve", &name, "").await.map(|_| ()));
        outcomes.push(s.try_read("eve", &name, "0").await.map(|_| ()));
        outcomes.push(s.try_subscribe(named).await);
    }
    for outcome in outcomes {
        let status = outcome.expect_err("it is refused");
        assert_eq!(told(&status), not_found);
        let text = "is not there, or the caller may not read it; SetStream makes one";
        assert!(status.message().ends_with(text), "{status}");
        let details = status.get_error_details();
        let info = details.error_info().expect("an ErrorInfo");
        assert!(info.metadata.contains_key("node") && info.metadata.contains_key("started_at"));
    }
    assert_eq!(s.read_all("bob", "0").await.updates.len(), 1);
    assert_eq!(s.read_all("ada", "0").await.updates.len(), 1);
    assert_eq!(s.read_all("", "0").await.updates.len(), 1);
    assert!(s.read_all("eve", "0").await.updates.is_empty());

    // Who may not read any more is told that it has ended.
    let (mut bob, _) = s.subscribe(&[]).await;
    let readers = vec!["eve".to_owned()];
    s.try_set(proto::SetStreamRequest { readers, ..stream_of("ada", "secret") })
        .await
        .expect("set");
    s.advance(10);
    assert!(next(&mut bob).await.updates["secret"].ended);

    // Another app is another world.
    let other = proto::GetStreamUpdateRequest {
        app: "other".to_owned(),
        name: "secret".to_owned(),
        ..Default::default()
    };
    assert_eq!(refused(in_time(s.client().get_stream_update(sent(other))).await), not_found);
    let mut elsewhere = Request::new(stream("x", []));
    elsewhere.metadata_mut().insert("sessiond-app", "other".parse().expect("a value"));
    assert_eq!(refused(in_time(s.client().set_stream(as_app(elsewhere))).await), fields(&["app"]));
}

#[tokio::test]
async fn a_stream_without_a_name_is_given_one() {
    let s = service().await;
    let first = s.try_set(stream("", [("n", integer(1))])).await.expect("it is set");
    let second = s.try_set(stream("", [])).await.expect("it is set");
    assert_ne!(first, second);
    assert_eq!(said(&s.read(&first, "0").await.0), ["n=1"]);
}

#[tokio::test]
async fn functions_say_what_readers_get() {
    let s = service().await;
    s.set("s", [("n", integer(1)), ("list", integers([1])), ("m", map([("x", integer(1))]))]).await;
    s.try_add("ada", "rise", "last == null ? null : value - last").await.expect("it is added");
    s.try_add("ada", "even", "value.filter(x, x % 2 == 0)").await.expect("it is added");
    s.try_add("ada", "ratio", "10 / value").await.expect("it is added");
    let missing = s.try_func("s", "n", named("missing")).await;
    assert_eq!(refused(missing), reason(Code::NotFound, "FUNCTION_NOT_FOUND"));
    s.try_func("s", "n", named("rise")).await.expect("it is set");
    s.try_func("s", "list", named("even")).await.expect("it is set");
    s.try_func("s", "m", named("ratio")).await.expect("it is set");

    let (mut stream, first) = s.subscribe(&["s"]).await;
    assert_eq!(said(&first.updates["s"]), ["list=[]", "m.x=10"]);
    let (_, cursor) = s.read("s", "0").await;
    s.update("s", [("n", integer(4)), ("m.x", integer(0))]).await;
    s.append("s", [("list", integers([2, 3, 4]))]).await;
    s.advance(10);
    let second = next(&mut stream).await.updates.remove("s").expect("news");
    assert_eq!(said(&second), ["list=[2, 4]", "n=3"]);
    assert_eq!(second.failed.keys().collect::<Vec<_>>(), ["m.x"]);
    assert!(second.failed["m.x"].contains("zero"), "{:?}", second.failed);
    assert_eq!(s.read("s", &cursor).await.0, second);

    // What yields null is not told at all.
    s.try_add("ada", "rise", "value > last + 10 ? value : null").await.expect("it is replaced");
    s.update("s", [("n", integer(5))]).await;
    s.advance(10);
    s.update("s", [("n", integer(20))]).await;
    s.advance(10);
    s.update("s", [("m.x", integer(5))]).await;
    s.advance(10);
    let mut said_all = Vec::new();
    while !said_all.contains(&"m.x=2".to_owned()) {
        said_all.extend(said(&next(&mut stream).await.updates["s"]));
    }
    assert!(!said_all.contains(&"n=5".to_owned()));
    let other = s.try_add("eve", "rise", "1").await;
    assert_eq!(refused(other), reason(Code::PermissionDenied, "ROLE_TOO_LOW"));
}

#[tokio::test]
async fn hostile_expressions_are_refused() {
    let s = service().await;
    let long = format!("value{}", " ".repeat(1020));
    let many = format!("[{}]", vec!["1"; 100].join(","));
    let deep = "[".repeat(40) + &"]".repeat(40);
    for expression in [
        "",
        "value +",
        "unknown",
        "value.matches('(a+)+$')",
        "matches(value, 'a')",
        "value.map(x, value.map(y, y))",
        "[value].map(x, x + x).map(x, x + x)",
        "(value + value).filter(x, true)",
        "Thing{a: 1}",
        "value.unknown()",
        &long,
        &many,
        &deep,
        &"(".repeat(1024),
        &"!".repeat(1024),
        &"value.map(x,".repeat(80),
    ] {
        let (code, reason, fields) = refused(s.try_add("eve", "f", expression).await);
        assert_eq!(
            (code, reason.as_str()),
            (Code::InvalidArgument, "BAD_EXPRESSION"),
            "{expression}"
        );
        assert_eq!(fields, ["expression"]);
    }
    let set = s.try_func("s", "", named("f")).await;
    assert_eq!(refused(set), reason(Code::NotFound, "STREAM_NOT_FOUND"));
}

#[tokio::test]
async fn functions_with_too_much_to_do_fail_and_nothing_else_does() {
    let s = service().await;
    let grows = format!("value.map(x, [{}])", vec!["x"; 60].join(","));
    let functions = [
        ("each", "value.filter(x, x in value)"),
        ("square", "value.map(x, value)"),
        ("grows", &grows),
        ("equal", "value.all(x, x == 1 || value == last)"),
        ("twice", "value + value + value + value + value"),
        ("text", "'a' + value"),
    ];
    for (name, expression) in functions {
        s.try_add("eve", name, expression).await.expect(expression);
    }
    for (name, _) in functions {
        s.set(name, [("list", integers(std::iter::repeat_n(1, 16_000)))]).await;
        s.try_func(name, "list", named(name)).await.expect("it is set");
    }
    s.set("plain", [("n", integer(1))]).await;
    let all = s.read_all("bob", "0").await;
    assert_eq!(said(&all.updates["plain"]), ["n=1"]);
    for (name, _) in functions {
        let is_fine = name == "equal";
        assert_eq!(
            all.updates[name].failed.is_empty(),
            is_fine,
            "{name}: {:?}",
            all.updates[name].failed
        );
        assert_eq!(all.updates[name].values.is_empty(), !is_fine, "{name}");
    }
}

#[tokio::test]
async fn while_too_many_wait_for_functions_readers_are_refused_and_miss_nothing() {
    let s = service().await;
    s.set("s", [("n", integer(1))]).await;
    s.try_add("ada", "twice", "value * 2").await.expect("it is added");
    s.try_func("s", "n", named("twice")).await.expect("it is set");
    let (mut stream, _) = s.subscribe(&["s"]).await;
    s.advance(10);

    // The places of what was read until now may be given back a moment later.
    let app = sessiond::session::ids::AppId::new("default").expect("an id");
    let app = s.server.engine().app(&app);
    let mut places = Vec::new();
    in_time(async {
        while places.len() < 64 {
            match s.server.runs().reserve(&app) {
                Ok(place) => places.push(place),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert!(s.server.runs().reserve(&app).is_err(), "there are 64");
    s.update("s", [("n", integer(2))]).await;
    s.advance(10);
    for cursor in ["", "0"] {
        let told = refused(s.try_read("eve", "s", cursor).await);
        assert_eq!(told, reason(Code::ResourceExhausted, "LIMIT_REACHED"));
    }
    drop(places);
    s.advance(10);
    assert_eq!(said(&next(&mut stream).await.updates["s"]), ["n=4"]);
    assert_eq!(said(&s.read("s", "").await.0), ["n=4"]);
}

#[tokio::test]
async fn every_fault_of_a_request_is_named_and_nothing_is_changed() {
    let s = service().await;
    s.set("s", [("n", integer(1)), ("list", integers([1]))]).await;
    let (_, cursor) = s.read("s", "0").await;
    let bad = proto::UpdateStreamDataRequest {
        set: object([("n", integer(2)), ("n.x", integer(1)), ("", integer(1))]),
        ..update("")
    };
    let (code, _, mut named) = refused(s.try_update(bad).await);
    named.sort();
    assert_eq!(
        (code, named),
        (Code::InvalidArgument, vec!["name".to_owned(), r#"set[""]"#.to_owned()])
    );
    let mismatch = proto::UpdateStreamDataRequest {
        set: object([("ok", integer(1)), ("n.x", integer(1))]),
        append: object([
            ("n", integers([1])),
            ("list", Kind::Numbers(proto::Numbers { items: vec![1.0] })),
            ("new", integer(1)),
        ]),
        ..update("s")
    };
    let expected = [r#"append["list"]"#, r#"append["n"]"#, r#"append["new"]"#, r#"set["n.x"]"#];
    assert_eq!(refused(s.try_update(mismatch).await), fields(&expected));
    assert_eq!(refused(s.try_update(update("s")).await), fields(&["set"]));
    let dotted = stream("t", [("a.b", integer(1))]);
    assert_eq!(refused(s.try_set(dotted).await), fields(&[r#"object["a.b"]"#]));
    assert_eq!(
        refused(s.try_func("s", "n", stream_func::Func::Mode(9)).await),
        fields(&["func.mode"])
    );
    assert_eq!(refused(s.try_read("bob", "s", "nonsense").await), fields(&["cursor"]));
    assert_eq!(s.read("s", &cursor).await.0, StreamUpdate::default());
    let mut with_func = stream("t", []);
    let missing = proto::StreamFunc { func: Some(stream_func::Func::Name("missing".to_owned())) };
    with_func.funcs.insert("n".to_owned(), missing);
    assert_eq!(refused(s.try_set(with_func).await), reason(Code::NotFound, "FUNCTION_NOT_FOUND"));
    let unknown = s.try_read("bob", "t", "").await;
    assert_eq!(refused(unknown), reason(Code::NotFound, "STREAM_NOT_FOUND"));
}

#[tokio::test]
async fn limits_hold_one_below_and_one_above() {
    let s = service_with(|config| config.max_object_streams = 5).await;
    let limit = |outcome: Result<String, Status>| {
        let status = outcome.expect_err("it is refused");
        let details = status.get_error_details();
        let info = details.error_info().expect("an ErrorInfo").clone();
        (status.code(), info.reason, info.metadata["limit"].clone(), info.metadata["most"].clone())
    };
    let reached = |limit: &str, most: usize| {
        (Code::ResourceExhausted, "LIMIT_REACHED".to_owned(), limit.to_owned(), most.to_string())
    };
    for at in 0..5 {
        s.set(&format!("s{at}"), []).await;
    }
    let outcome = s.try_set(stream("s5", [])).await;
    assert_eq!(limit(outcome), reached("max-object-streams", 5));
    s.remove("s4", "").await;
    s.set("s5", []).await;

    let keys = |count: usize| proto::SetStreamRequest {
        object: (0..count).map(|at| (format!("k{at}"), value(integer(1)))).collect(),
        ..stream("s0", [])
    };
    s.try_set(keys(KEYS)).await.expect("it fits");
    assert_eq!(limit(s.try_set(keys(KEYS + 1)).await), reached("object-stream-keys", KEYS));

    let with = |readers: usize, keys: usize| proto::SetStreamRequest {
        readers: (0..readers).map(|at| format!("user{at}")).collect(),
        keys: (0..keys).map(|at| format!("k{at}")).collect(),
        ..stream("s1", [])
    };
    s.try_set(with(256, 256)).await.expect("it fits");
    assert_eq!(refused(s.try_set(with(257, 257)).await), fields(&["keys", "readers"]));
    let names = |count: usize| proto::SubscribeToStreamsRequest {
        names: vec!["s0".to_owned(); count],
        ..subscription(&[])
    };
    assert!(s.try_subscribe(names(256)).await.is_ok());
    assert_eq!(refused(s.try_subscribe(names(257)).await), fields(&["names"]));

    let long = |bytes: usize| "k".repeat(bytes);
    let nested = format!("{}.{}", long(128), long(128));
    s.update("s2", [(&long(128), integer(1)), ("x", Kind::Text(long(16 * 1024 - 3)))]).await;
    s.remove("s2", &long(128)).await;
    s.update("s2", [(&nested, integer(1))]).await;
    let over = [
        object([(&format!("{}.x", long(129)), integer(1))]),
        object([(&format!("x.{}", long(129)), integer(1))]),
        object([("y", Kind::Text(long(16 * 1024 - 2)))]),
    ];
    for set in over {
        let request = proto::UpdateStreamDataRequest { set, ..update("s2") };
        assert_eq!(refused(s.try_update(request).await).0, Code::InvalidArgument);
    }
    let huge: Vec<(String, Kind)> =
        (0..5).map(|at| (format!("h{at}"), Kind::Text(long(13_200)))).collect();
    let set = huge.into_iter().map(|(key, kind)| (key, value(kind))).collect();
    let too_large = s.try_update(proto::UpdateStreamDataRequest { set, ..update("s2") }).await;
    assert_eq!(refused(too_large), reason(Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
}

#[tokio::test]
async fn functions_of_an_app_are_bounded() {
    let s = service().await;
    for at in 0..FUNCTIONS {
        s.try_add("", &format!("f{at}"), "value").await.expect("it fits");
    }
    let more = s.try_add("", "more", "value").await;
    assert_eq!(refused(more), reason(Code::ResourceExhausted, "LIMIT_REACHED"));
    s.try_add("", "f0", "last").await.expect("it is there already");
}

#[tokio::test]
async fn writes_of_a_user_count_as_updates() {
    let s = service_with(|config| config.max_updates_per_second = 3).await;
    s.try_set(stream_of("ada", "s")).await.expect("it is set");
    let write = || proto::UpdateStreamDataRequest {
        user_id: "ada".to_owned(),
        set: object([("n", integer(1))]),
        ..update("s")
    };
    s.try_update(write()).await.expect("it fits");
    s.try_update(write()).await.expect("it fits");
    let limited = s.try_update(write()).await;
    assert_eq!(refused(limited), reason(Code::ResourceExhausted, "RATE_LIMITED"));
    s.advance(1000);
    s.try_update(write()).await.expect("it fits again");
}

/// Puts updates of one stream together.
#[derive(Default, PartialEq, Debug)]
struct Rebuilt(HashMap<String, Vec<i64>>);

impl Rebuilt {
    fn apply(&mut self, update: StreamUpdate) {
        if update.reset {
            self.0.clear();
        }
        for NamedValue { name, kind } in update.values {
            let Some(named_value::Kind::Integers(integers)) = kind else { panic!("no array") };
            let array = self.0.entry(name.clone()).or_default();
            if update.restarted.contains(&name) {
                array.clear();
            }
            array.extend(integers.items);
        }
    }
}

/// More than a message may hold, in one stream.
async fn large(s: &Service) -> Rebuilt {
    let mut expected = Rebuilt::default();
    s.set("large", []).await;
    for at in 0..40 {
        let key = format!("array {at:02}");
        for part in 0..4i64 {
            let items: Vec<i64> =
                (0..1600).map(|item| i64::MAX - at - part * 1600 - item).collect();
            expected.0.entry(key.clone()).or_default().extend(&items);
            s.append("large", [(&key, integers(items))]).await;
        }
    }
    expected
}

#[tokio::test]
async fn what_does_not_fit_a_reply_comes_in_several() {
    let s = service().await;
    let expected = large(&s).await;
    let mut replies = 0;
    let (mut one, mut shared, mut all, mut shared_all) = Default::default();
    for (rebuilt, first, is_all) in [
        (&mut one, "0", false),
        (&mut shared, "", false),
        (&mut all, "0", true),
        (&mut shared_all, "", true),
    ] {
        let rebuilt: &mut Rebuilt = rebuilt;
        if first.is_empty() && is_all {
            // The shared cursor has read it all by now.
            assert!(s.read_all("bob", "").await.updates.is_empty());
            continue;
        }
        let mut cursor = first.to_owned();
        loop {
            let (update, next, more) = if is_all {
                let mut reply = s.read_all("bob", &cursor).await;
                (reply.updates.remove("large"), reply.cursor, reply.more)
            } else {
                let reply = s.try_read("bob", "large", &cursor).await.expect("it is read");
                (reply.update, reply.cursor, reply.more)
            };
            update.into_iter().for_each(|update| rebuilt.apply(update));
            replies += 1;
            cursor = next;
            if !more {
                break;
            }
        }
        assert_eq!(*rebuilt, expected);
    }
    assert!(replies > 6, "{replies}");

    let (mut stream, first) = s.subscribe(&["large"]).await;
    assert!(first.more);
    let mut rebuilt = Rebuilt::default();
    let mut message = first;
    loop {
        message.updates.remove("large").into_iter().for_each(|update| rebuilt.apply(update));
        if !message.more {
            break;
        }
        message = next(&mut stream).await;
    }
    assert_eq!(rebuilt, expected);
}

#[tokio::test]
async fn a_slow_subscriber_gets_all_of_it_in_fewer_messages() {
    let s = service().await;
    s.set("s", [("list", integers([])), ("blob", Kind::Data(vec![]))]).await;
    let (mut stream, _) = s.subscribe(&["s"]).await;
    for at in 0..300 {
        let request = proto::UpdateStreamDataRequest {
            set: object([("blob", Kind::Data(vec![at as u8; 16_000]))]),
            append: object([("list", integers([at]))]),
            ..update("s")
        };
        s.try_update(request).await.expect("it is taken");
        s.advance(10);
    }
    let (mut seen, mut messages) = (Vec::new(), 0);
    while seen.last() != Some(&299) {
        let update = next(&mut stream).await.updates.remove("s").expect("news");
        messages += 1;
        for value in update.values {
            if let Some(named_value::Kind::Integers(more)) = value.kind {
                seen.extend(more.items);
            }
        }
    }
    assert_eq!(seen, (0..300).collect::<Vec<_>>());
    assert!(messages < 250, "{messages}");
}
