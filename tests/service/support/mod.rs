//! A real server with a stepped clock, and clients that talk to it over gRPC.
//!
//! Nothing here sleeps. The server's clock stands still until a test moves it with
//! [`Service::advance`], which returns when every tick on the way is flushed. What a unary call
//! changed is accepted when the call returns, so the next tick shows it. What was sent up a stream,
//! and the loss of a stream, reach the server in their own time: such tests tick until they see the
//! outcome, see [`Service::tick_until`] and [`PropsStream::until_acked`].

mod bundles;
mod caller;
mod calls;
mod events;
mod gateways;
mod rebuilt;
mod refused;
mod requests;
mod streams;
mod values;
mod watchers;

pub use bundles::{receiving, several_joining, several_open};
pub use caller::{as_app, sent};
pub use calls::ban_of;
pub use events::{EventsWatcher, line, lines};
pub use gateways::{Backend, attach, view, write_of};
pub use rebuilt::{Member, Rebuilt, State, Step};
pub use refused::{Refused, refused};
pub use requests::{Call, calls, descriptors, request_of};
pub use streams::{PropsStream, Watcher};
pub use values::*;
pub use watchers::SessionsWatcher;

use bytes::{Buf, BufMut, Bytes};
use sessiond::{
    cluster::Nodes,
    config::Config,
    engine::{Clock, Engine, HashCost, Passwords},
    grpc::NODE_METADATA,
    proto::{
        self, JoinOptions, SessionSettings, delivery_service_client::DeliveryServiceClient,
        session_service_client::SessionServiceClient,
    },
    server::{Among, Before, Server},
    session::settings::Durability,
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::time::timeout;
use tonic::{
    Request, Response, Status, Streaming,
    codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};

/// The tick of sessions that choose none, in milliseconds.
pub const TICK: u64 = 10;

/// The name of the node.
pub const NODE: &str = "node-of-the-test";

/// When the clock of every server begins, in microseconds since 1970.
pub const BEGIN: u64 = 1_767_225_600_000_000;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it looks for what may come.
pub const GLANCE: Duration = Duration::from_millis(20);

/// What must come in time; the test fails if it does not.
pub async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it comes in time")
}

/// All that is shown here holds with a store, too: TEST_DURABILITY is async or sync.
fn store_as_told(config: &mut Config) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let durability = match std::env::var("TEST_DURABILITY").as_deref() {
        Err(_) => return,
        Ok("async") => Durability::Async,
        Ok("sync") => Durability::Sync,
        Ok(other) => panic!("{other} is no durability to test with"),
    };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("service-{}-{number}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    (config.store, config.durability) = (Some(folder), Some(durability));
}

/// All that is shown here holds over two nodes, too, where TEST_NODES is 2: the clients' one sends on to
/// the other what is about an app.
fn is_over_two_nodes() -> bool {
    match std::env::var("TEST_NODES").as_deref() {
        Err(_) | Ok("1") => false,
        Ok("2") => true,
        Ok(other) => panic!("{other} is no number of nodes to test with"),
    }
}

/// The node before another one, which has all apps.
async fn front(config: Config, owner: &Server) -> Server {
    // What is judged, pushed and stored is so where the apps are.
    let config = Config {
        store: None,
        durability: None,
        policy: None,
        webhooks: None,
        node_listen: config.node_secret.as_ref().and(config.node_listen.clone()),
        ..config
    };
    let clock = Clock::stepped(BEGIN);
    let before = Some(Before::new(owner.node_address().expect("it has a port of nodes")));
    let among = Among { before, nodes: None };
    Server::start_among(config, clock, HashCost::LEAST, among).await.expect("it starts")
}

/// Calls that wait for a frame to be stored do not wait for the test.
fn go_on_when_awaited(engine: Engine) {
    thread::spawn(move || {
        while !engine.is_draining() {
            thread::sleep(Duration::from_millis(1));
            if engine.is_frame_awaited() {
                engine.advance(TICK * 1000);
            }
        }
    });
}

/// A server, and a connection to it.
pub struct Service {
    server: Server,
    /// The node between it and its clients, if there is one.
    front: Option<Server>,
    channel: Channel,
}

impl Service {
    /// A server with the default settings.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A server with other settings.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_among(change, None).await
    }

    /// The same as one of several nodes.
    pub async fn start_among(
        change: impl FnOnce(&mut Config),
        nodes: Option<Arc<dyn Nodes>>,
    ) -> Self {
        Self::start_as(change, nodes, is_over_two_nodes()).await
    }

    /// Two servers with other settings: one has all apps, the other is before it.
    pub async fn start_over_two_nodes(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_as(change, None, true).await
    }

    async fn start_as(
        change: impl FnOnce(&mut Config),
        nodes: Option<Arc<dyn Nodes>>,
        is_over_two_nodes: bool,
    ) -> Self {
        let mut config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
            node: NODE.to_owned(),
            threads: 2,
            ..Config::default()
        };
        change(&mut config);
        store_as_told(&mut config);
        if is_over_two_nodes {
            config.node_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)).into());
        }
        let among = Among { nodes, before: None };
        let server =
            Server::start_among(config.clone(), Clock::stepped(BEGIN), HashCost::LEAST, among)
                .await
                .expect("it starts");
        let front = match is_over_two_nodes {
            true => Some(front(config, &server).await),
            false => None,
        };
        if server.engine().has_store() {
            go_on_when_awaited(server.engine().clone());
        }
        let channel = connect(front.as_ref().unwrap_or(&server).address()).await;
        Self { server, front, channel }
    }

    /// A server with the room `finals` of ada.
    pub async fn with_room() -> Self {
        let service = Self::start().await;
        service.open_room("finals", "ada").await;
        service
    }

    /// A server with the room `finals` of ada, in which bob is as the last frame shows.
    pub async fn with_room_of_two() -> Self {
        let service = Self::with_room().await;
        service.join("finals", "bob").await;
        service.tick();
        service
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.front.as_ref().unwrap_or(&self.server).address()
    }

    /// What runs behind the calls, for what no call can be timed well enough to show.
    pub fn engine(&self) -> &Engine {
        self.server.engine()
    }

    /// Where passwords are hashed.
    pub fn passwords(&self) -> &Passwords {
        self.server.passwords()
    }

    /// Reads the limits of apps again if they have changed.
    pub fn read_apps_again(&self) {
        self.server.read_apps_again();
    }

    /// Reads the rules and hooks again if a file of theirs has changed.
    pub fn read_policy_again(&self) {
        self.server.read_policy_again();
    }

    /// Another connection.
    pub async fn connect(&self) -> Channel {
        connect(self.address()).await
    }

    /// Lets milliseconds pass; every tick on the way is flushed when this returns.
    pub fn advance(&self, milliseconds: u64) {
        if let Some(front) = &self.front {
            front.engine().advance(milliseconds * 1000);
        }
        let engine = self.server.engine();
        if !engine.has_store() {
            return engine.advance(milliseconds * 1000);
        }
        // Ticks that fall into the time of a commit are merged, so each has its own time.
        let mut left = milliseconds;
        while left > 0 {
            let step = left.min(TICK);
            engine.advance(step * 1000);
            left -= step;
            while !engine.is_all_shown() {
                thread::sleep(Duration::from_micros(200));
            }
        }
    }

    /// Lets one default tick pass.
    pub fn tick(&self) {
        self.advance(TICK);
    }

    /// Refuses all that comes from now on, and ends all streams, as the first step of a stop.
    pub fn drain(&self) {
        self.server.engine().drain();
    }

    /// Tells gateways that the server is about to stop.
    pub fn begin_to_stop(&self) {
        self.server.begin_to_stop();
    }

    /// Stops the server.
    pub async fn stop(self) {
        drop(self.channel);
        in_time(self.server.stop()).await;
        if let Some(front) = self.front {
            in_time(front.stop()).await;
        }
    }

    /// Stops the server while the connection is held open.
    pub async fn stop_under(self) -> Channel {
        in_time(self.server.stop()).await;
        if let Some(front) = self.front {
            in_time(front.stop()).await;
        }
        self.channel
    }

    /// The connection.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The unary calls.
    pub fn sessions(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel())
    }

    /// The streams.
    pub fn delivery(&self) -> DeliveryServiceClient<Channel> {
        DeliveryServiceClient::new(self.channel())
    }
}

async fn connect(address: SocketAddr) -> Channel {
    endpoint(address).connect().await.expect("the server accepts connections")
}

/// How to connect: with the window of HTTP/2, as most gRPC clients do.
pub fn endpoint(address: SocketAddr) -> Endpoint {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    endpoint.expect("an address is a URI").initial_stream_window_size(65_535)
}

/// What opens a room as a user.
pub fn opening(
    session: &str,
    user: &str,
    settings: SessionSettings,
) -> proto::OpenSharedSessionRequest {
    proto::OpenSharedSessionRequest {
        session_id: session.to_owned(),
        user_id: user.to_owned(),
        settings: Some(settings),
        ..Default::default()
    }
}

/// A write of session data that names no key yet.
pub fn data_of(session: &str, user: &str) -> proto::SetSessionDataRequest {
    proto::SetSessionDataRequest {
        session_id: session.to_owned(),
        user_id: user.to_owned(),
        ..Default::default()
    }
}

pub fn revision_of(results: &[proto::WriteResult]) -> u64 {
    let [only] = results else { panic!("one session takes it: {results:?}") };
    assert_eq!(only.refusal, None);
    only.position.as_ref().expect("it has a position").revision
}

/// Streams.
impl Service {
    /// Subscribes a member to a session; returns with the first snapshot applied.
    pub async fn watch(&self, session: &str, user: &str) -> Watcher {
        self.watch_with(subscription(session, user)).await
    }

    /// Joins by the stream, tied to it, and subscribes.
    pub async fn watch_joining(&self, session: &str, user: &str) -> Watcher {
        let join = Some(JoinOptions::default());
        self.watch_with(proto::SubscribeToSessionRequest { join, ..subscription(session, user) })
            .await
    }

    /// Subscribes; returns with the first snapshot applied.
    pub async fn watch_with(&self, request: proto::SubscribeToSessionRequest) -> Watcher {
        let mut watcher = self.open_watcher(request, Rebuilt::default()).await;
        assert_eq!(watcher.next_snapshot().await, proto::SnapshotReason::First);
        watcher
    }

    /// Subscribes from where a client was; the first message is not read yet.
    pub async fn resume(
        &self,
        mut request: proto::SubscribeToSessionRequest,
        from: &Rebuilt,
    ) -> Watcher {
        request.resume = Some(from.resume());
        self.open_watcher(request, from.again()).await
    }

    /// Subscribes; nothing is read yet.
    pub async fn open_watcher(
        &self,
        request: proto::SubscribeToSessionRequest,
        rebuilt: Rebuilt,
    ) -> Watcher {
        let answer = in_time(self.delivery().subscribe_to_session(sent(request))).await;
        Watcher::new(node_of(answer.expect("streams are refused in their trailers")), rebuilt)
    }

    /// Listens to a user; returns with the first snapshot applied.
    pub async fn listen(&self, source: &str, listener: &str) -> Watcher {
        let mut watcher = self.open_listener(listening(source, listener), Rebuilt::default()).await;
        assert_eq!(watcher.next_snapshot().await, proto::SnapshotReason::First);
        watcher
    }

    /// Listens to a user; nothing is read yet.
    pub async fn open_listener(
        &self,
        request: proto::SubscribeToUserRequest,
        rebuilt: Rebuilt,
    ) -> Watcher {
        let answer = in_time(self.delivery().subscribe_to_user(sent(request))).await;
        Watcher::of_user(node_of(answer.expect("streams are refused in their trailers")), rebuilt)
    }

    /// The refusal of a call that would listen to a user.
    pub async fn refused_listener(&self, request: proto::SubscribeToUserRequest) -> Refused {
        let mut watcher = self.open_listener(request, Rebuilt::default()).await;
        refused(watcher.next_message().await.map(|message| panic!("{message:?}")))
    }

    /// The refusal of a subscription.
    pub async fn refused_watch(&self, request: proto::SubscribeToSessionRequest) -> Refused {
        let mut watcher = self.open_watcher(request, Rebuilt::default()).await;
        refused(watcher.next_message().await.map(|message| panic!("{message:?}")))
    }

    /// Opens a stream of a member's props and of a session's updates, with the snapshot applied.
    pub async fn stream(&self, session: &str, user: &str) -> PropsStream {
        let mut stream = self.open_stream(stream_open(session, user)).await;
        assert_eq!(stream.next_snapshot().await, proto::SnapshotReason::First);
        stream
    }

    /// Opens a stream with any first message; nothing is read yet.
    pub async fn open_stream(&self, open: proto::StreamOpen) -> PropsStream {
        let mut stream = self.silent_stream().await;
        stream.send(proto::stream_user_props_request::Message::Open(open));
        stream
    }

    /// Opens a stream that says nothing yet.
    pub async fn silent_stream(&self) -> PropsStream {
        PropsStream::begin(self.delivery(), node_of).await
    }

    /// Ticks, and reads what comes, until the watcher has seen something. For what reaches the
    /// server in its own time: the loss of a stream, or a write up another one.
    pub async fn tick_until(&self, watcher: &mut Watcher, seen: impl Fn(&Rebuilt) -> bool) {
        in_time(async {
            while !seen(&watcher.rebuilt) {
                self.tick();
                while let Some(step) = watcher.glance().await {
                    assert!(!matches!(step, Step::Ended(_)), "{step:?}");
                }
            }
        })
        .await;
    }
}

/// The stream of a response, whose headers name the node.
fn node_of<T>(response: Response<T>) -> T {
    let node = response.metadata().get(NODE_METADATA);
    assert_eq!(node.expect("every response names the node"), NODE);
    response.into_inner()
}

/// A private session to open with all defaults; its id names the pair.
pub fn private(user: &str, source: &str, listener: &str) -> proto::OpenPrivateSessionRequest {
    proto::OpenPrivateSessionRequest {
        session_id: format!("{source}-{listener}"),
        user_id: user.to_owned(),
        source_id: source.to_owned(),
        listener_id: listener.to_owned(),
        ..Default::default()
    }
}

/// A subscription to a user with all defaults.
pub fn listening(source: &str, listener: &str) -> proto::SubscribeToUserRequest {
    proto::SubscribeToUserRequest {
        user_id: listener.to_owned(),
        source_id: source.to_owned(),
        ..Default::default()
    }
}

/// A member's subscription with all defaults.
pub fn subscription(session: &str, user: &str) -> proto::SubscribeToSessionRequest {
    proto::SubscribeToSessionRequest {
        session_id: session.to_owned(),
        user_id: user.to_owned(),
        ..Default::default()
    }
}

/// A member's subscription with these options.
pub fn subscription_with(
    session: &str,
    user: &str,
    options: proto::DeliveryOptions,
) -> proto::SubscribeToSessionRequest {
    proto::SubscribeToSessionRequest { options: Some(options), ..subscription(session, user) }
}

/// The subscription of a member who comes to be tied to it.
pub fn tied(session: &str, user: &str) -> proto::SubscribeToSessionRequest {
    let join = JoinOptions { presence: proto::Presence::Tied.into(), ..Default::default() };
    proto::SubscribeToSessionRequest { join: Some(join), ..subscription(session, user) }
}

/// A member's stream of props with one subscription.
pub fn stream_open(session: &str, user: &str) -> proto::StreamOpen {
    proto::StreamOpen {
        user_id: user.to_owned(),
        subscriptions: vec![proto::SessionSubscription {
            session_id: session.to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The same, which joins.
pub fn stream_joining(session: &str, user: &str) -> proto::StreamOpen {
    let mut open = stream_open(session, user);
    open.subscriptions[0].join = Some(JoinOptions::default());
    open
}

/// A span of milliseconds.
pub fn ms(milliseconds: u64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: (milliseconds / 1000) as i64,
        nanos: (milliseconds % 1000) as i32 * 1_000_000,
    }
}

/// Settings that select keys of props.
pub fn propnames(names: &[&str]) -> SessionSettings {
    SessionSettings {
        propnames: names.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

/// Calls with bytes that no generated client would send.
impl Service {
    /// Calls any path with any message; the first message of the answer, or the refusal.
    pub async fn call_raw(&self, path: &str, message: impl Into<Bytes>) -> Result<Bytes, Status> {
        self.call_raw_as(None, path, message).await
    }

    /// The same with this value in the metadata `sessiond-as`.
    pub async fn call_raw_as(
        &self,
        caller: Option<&'static str>,
        path: &str,
        message: impl Into<Bytes>,
    ) -> Result<Bytes, Status> {
        let mut request = Request::new(tokio_stream::iter(vec![message.into()]));
        if let Some(caller) = caller {
            request.metadata_mut().insert("sessiond-as", caller.parse().expect("ASCII"));
        }
        let mut answer = self.request_raw(path, request).await?;
        match in_time(answer.message()).await? {
            Some(message) => Ok(message),
            None => Err(Status::ok("an empty stream")),
        }
    }

    /// Calls any path with any messages, after which the sending side stays open.
    pub async fn stream_raw(
        &self,
        path: &str,
        messages: Vec<Bytes>,
    ) -> Result<Streaming<Bytes>, Status> {
        self.request_raw(path, Request::new(tokio_stream::iter(messages))).await
    }

    pub async fn request_raw(
        &self,
        path: &str,
        request: Request<tokio_stream::Iter<std::vec::IntoIter<Bytes>>>,
    ) -> Result<Streaming<Bytes>, Status> {
        let mut client = tonic::client::Grpc::new(self.channel());
        in_time(client.ready()).await.expect("it is connected");
        let path = PathAndQuery::from_str(path).expect("a path");
        let answer = in_time(client.streaming(request, path, RawCodec)).await?;
        Ok(answer.into_inner())
    }
}

/// Messages as they are.
#[derive(Debug, Clone, Copy)]
struct RawCodec;

impl tonic::codec::Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}

/// The metadata of an error, by name.
pub type Metadata = HashMap<String, String>;
