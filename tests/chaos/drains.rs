//! SIGTERM in the middle of everything: writers write, some clients pause, some peers say nothing at all. Every stream
//! that is read again says why it ends and where to continue, and the server is gone in time.

use crate::{
    alone, figure,
    rebuilt::{Rebuilt, Step},
    runtime,
    server::{Server, endpoint},
    tell,
    values::{data, int, write},
};
use sessiond::proto::{
    self, EndReason, JoinOptions, OpenSharedSessionRequest, StreamUserPropsRequest,
    delivery_service_client::DeliveryServiceClient,
    object_stream_service_client::ObjectStreamServiceClient,
    session_service_client::SessionServiceClient, stream_user_props_request::Message as Up,
};
use std::{
    collections::BTreeMap,
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::{Arc, Barrier, mpsc},
    thread,
    time::Duration,
};
use tokio::{sync::mpsc as channel, task::JoinSet};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

/// How many users a session has, and how many streams a connection.
const USERS: usize = 50;
const STREAMS: usize = 100;

/// Everything of a connection stands still for so long at a time, where clients pause.
const PAUSE: Duration = Duration::from_millis(400);
const BETWEEN: Duration = Duration::from_millis(60);

/// How often a writer writes, and how much: in some connections so much that a client that pauses has not been sent
/// everything when the server stops.
const WRITE_EVERY: Duration = Duration::from_millis(50);
const LITTLE: usize = 8;
const MUCH: usize = 1024;

/// Of so many connections two are full of what is written.
const FULL_OF: usize = 12;

/// What a client of HTTP/2 begins with: the preface, and settings without any.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// How long a drain may take.
const LIMIT: Duration = Duration::from_secs(25);

#[test]
fn every_stream_that_is_read_again_ends_with_reason_and_position_in_time() {
    alone(async {
        let streams = figure(5_000, 300);
        let silent = figure(100, 12);
        let runs = figure(100, 3);
        // Silent peers are waited for until the drain times out.
        let flags = figure(&[][..], &["--drain-timeout", "3s", "--drain-spread", "500ms"]);
        let (mut lost, mut slowest) = (Vec::new(), Duration::ZERO);
        for run in 1..=runs {
            let mut server = Server::start(&[flags, &["--tick-interval", "50ms"]].concat());
            let crowd = Crowd::gather(&server, streams, silent).await;
            server.terminate();
            let exit = server.exit(LIMIT + Duration::from_secs(10)).await;
            let fates = crowd.fates();
            assert_eq!(fates.len(), streams, "every stream ends");
            let bad: Vec<_> = fates.into_iter().filter_map(Result::err).collect();
            tell(format_args!(
                "drain {run} of {streams} streams: {} lost, over in {exit:?}",
                bad.len()
            ));
            let exit = exit.expect("it ends");
            slowest = slowest.max(exit);
            lost.extend(bad);
        }
        tell(format_args!("{runs} drains: {} lost, the slowest took {slowest:?}", lost.len()));
        lost.truncate(5);
        assert!(lost.is_empty(), "every stream has reason and position: {lost:?}");
        assert!(slowest <= LIMIT, "a stop ends on time, not after {slowest:?}");
    });
}

/// How a stream ended: as it should, or what it was.
type Fate = Result<(), String>;

/// Clients on threads of their own.
struct Crowd {
    fates: mpsc::Receiver<Fate>,
    clients: Vec<thread::JoinHandle<()>>,
    _silent: Vec<TcpStream>,
    /// Frozen threads hold their connections until this is dropped.
    _frozen: Vec<mpsc::Sender<()>>,
}

impl Crowd {
    /// So many streams of all kinds, half of them of clients that pause, and so many peers that say nothing.
    async fn gather(server: &Server, streams: usize, silent: usize) -> Self {
        open(server, streams).await;
        let address = server.address;
        let (tell, fates) = mpsc::channel();
        let connections: Vec<Vec<usize>> = {
            let all: Vec<_> = (0..streams).collect();
            all.chunks(STREAMS).map(<[_]>::to_vec).collect()
        };
        let ready = Arc::new(Barrier::new(5));
        let mut clients = Vec::new();
        for part in 0..4 {
            let own: Vec<_> = connections.iter().skip(part).step_by(4).cloned().collect();
            let (tell, ready) = (tell.clone(), ready.clone());
            let pauses = part % 2 == 1;
            clients.push(thread::spawn(move || {
                runtime().block_on(clients_of(address, own, pauses, &ready, &tell));
            }));
        }
        ready.wait();
        // Some say nothing, some begin, and some have a stream and are frozen.
        let mut quiet = Vec::new();
        for nth in 0..silent * 2 / 3 {
            let mut socket = TcpStream::connect(address).expect("it accepts");
            if nth % 2 == 0 {
                socket.write_all(BEGIN).expect("it is sent");
            }
            quiet.push(socket);
        }
        let (hold, held) = mpsc::channel::<()>();
        let frozen = silent - silent * 2 / 3;
        let ready = Arc::new(Barrier::new(2));
        let there = ready.clone();
        clients.push(thread::spawn(move || {
            let runtime = runtime();
            let _streams = runtime.block_on(async {
                let mut streams = Vec::new();
                for nth in 0..frozen {
                    let channel = endpoint(address).connect().await.expect("it accepts");
                    streams.push(subscribe(channel, nth, "frozen").await.expect("it opens"));
                }
                streams
            });
            there.wait();
            // Nothing of it runs from here on.
            let _ = held.recv();
        }));
        ready.wait();
        Self { fates, clients, _silent: quiet, _frozen: vec![hold] }
    }

    fn fates(self) -> Vec<Fate> {
        let Self { fates, clients, _silent, _frozen } = self;
        drop((_silent, _frozen));
        for client in clients {
            client.join().expect("no client has panicked");
        }
        fates.try_iter().collect()
    }
}

/// A session for every 50 users, and an object stream that all follow.
async fn open(server: &Server, streams: usize) {
    let channel = server.connect().await;
    let mut calls = SessionServiceClient::new(channel.clone());
    for session in 0..streams.div_ceil(USERS) {
        let open = OpenSharedSessionRequest {
            user_id: "owner".to_owned(),
            session_id: format!("session-{session}"),
            ..Default::default()
        };
        calls.open_shared_session(open).await.expect("it opens");
    }
    let set = proto::SetStreamRequest {
        user_id: "owner".to_owned(),
        name: "object".to_owned(),
        object: [("x".to_owned(), int(1))].into(),
        ..Default::default()
    };
    ObjectStreamServiceClient::new(channel).set_stream(set).await.expect("it is set");
}

/// The clients of one thread, which all stand still together where they pause.
async fn clients_of(
    address: SocketAddr,
    connections: Vec<Vec<usize>>,
    pauses: bool,
    ready: &Barrier,
    fates: &mpsc::Sender<Fate>,
) {
    let (opened, mut opening) = channel::unbounded_channel();
    let mut running = JoinSet::new();
    let mut count = 0;
    for streams in connections {
        let channel = endpoint(address).connect().await.expect("it accepts connections");
        for nth in streams {
            running.spawn(follow(channel.clone(), nth, Opened(Some(opened.clone()))));
            count += 1;
        }
        // So that not all of them come at once.
        while count > 0 {
            opening.recv().await.expect("it opens");
            count -= 1;
        }
    }
    ready.wait();
    while !running.is_empty() {
        let gone = tokio::time::timeout(BETWEEN, running.join_next()).await;
        if let Ok(Some(fate)) = gone {
            let _ = fates.send(fate.expect("no stream has panicked"));
        } else if pauses {
            thread::sleep(PAUSE);
        }
    }
}

/// The call with which a user follows its session; some of them write up it.
async fn follow(channel: Channel, nth: usize, opened: Opened) -> Fate {
    let kind = nth % 10;
    let end = match kind {
        0..=4 => read_session(channel, nth, opened).await,
        5 | 6 => {
            let is_full = (nth / STREAMS) % FULL_OF < 2;
            let bytes = if is_full { MUCH } else { LITTLE };
            write_props(channel, nth, (kind == 5 || is_full).then_some(bytes), opened).await
        }
        7 | 8 => receive(channel, nth, opened).await,
        _ => read_objects(channel, opened).await,
    };
    end.check().map_err(|fault| format!("{nth} of kind {kind}: {fault}"))
}

/// Tells once that a stream is open.
struct Opened(Option<channel::UnboundedSender<()>>);

impl Opened {
    fn tell(&mut self) {
        if let Some(opened) = self.0.take() {
            let _ = opened.send(());
        }
    }
}

/// How a stream ended.
struct End {
    status: Status,
    /// What it said before; none = it could not.
    reason: Option<EndReason>,
    /// Whether the client knows where to continue.
    has_position: bool,
}

impl End {
    fn check(&self) -> Fate {
        let Self { status, reason, has_position } = self;
        let told = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        let is_told = status.code() == Code::Unavailable && told == "DRAINING";
        match (is_told, reason, has_position) {
            (true, Some(EndReason::Draining), true) => Ok(()),
            _ => Err(format!("{reason:?}, position: {has_position}, {status:?}")),
        }
    }
}

fn user_and_session(nth: usize, prefix: &str) -> (String, String) {
    (format!("{prefix}-{nth}"), format!("session-{}", nth / USERS))
}

async fn subscribe(
    channel: Channel,
    nth: usize,
    prefix: &str,
) -> Result<tonic::Streaming<proto::SubscribeToSessionResponse>, Status> {
    let (user_id, session_id) = user_and_session(nth, prefix);
    let request = proto::SubscribeToSessionRequest {
        user_id,
        session_id,
        join: Some(JoinOptions::default()),
        ..Default::default()
    };
    let answer = DeliveryServiceClient::new(channel).subscribe_to_session(request).await?;
    Ok(answer.into_inner())
}

/// Applies an update, and says how its session ended.
fn apply(copy: &mut Rebuilt, update: Option<proto::SessionUpdate>) -> Option<EndReason> {
    match copy.apply(update.expect("a delivery has an update")) {
        Some(Step::Ended(ended)) => Some(ended.reason()),
        _ => None,
    }
}

async fn read_session(channel: Channel, nth: usize, mut opened: Opened) -> End {
    let mut down = subscribe(channel, nth, "user").await.expect("it opens");
    let (mut copy, mut reason) = (Rebuilt::default(), None);
    let status = loop {
        match down.message().await {
            Ok(Some(message)) => reason = apply(&mut copy, message.update).or(reason),
            Ok(None) => break Status::ok("it is over"),
            Err(status) => break status,
        }
        opened.tell();
    };
    End { status, reason, has_position: copy.epoch != 0 && copy.revision != 0 }
}

async fn write_props(
    channel: Channel,
    nth: usize,
    writes: Option<usize>,
    mut opened: Opened,
) -> End {
    let (user_id, session_id) = user_and_session(nth, "user");
    let subscription = proto::SessionSubscription {
        session_id,
        join: Some(JoinOptions::default()),
        ..Default::default()
    };
    let open =
        proto::StreamOpen { user_id, subscriptions: vec![subscription], ..Default::default() };
    let (up, outbox) = channel::unbounded_channel();
    let send = |seq, message| {
        let _ = up.send(StreamUserPropsRequest { seq, message: Some(message) });
    };
    send(1, Up::Open(open));
    let mut delivery = DeliveryServiceClient::new(channel);
    let down = delivery.stream_user_props(UnboundedReceiverStream::new(outbox)).await;
    let mut down = down.expect("it opens").into_inner();
    let (mut copy, mut reason, mut seq) = (Rebuilt::default(), None, 1);
    let mut ticks = tokio::time::interval(WRITE_EVERY);
    let status = loop {
        let message = tokio::select! {
            message = down.message() => message,
            _ = ticks.tick(), if writes.is_some() => {
                seq += 1;
                send(seq, Up::Write(write([("x", int(seq as i64)), ("y", data(writes.unwrap_or(0)))])));
                continue;
            }
        };
        match message {
            Ok(Some(message)) => {
                for delivery in message.updates {
                    reason = apply(&mut copy, delivery.update).or(reason);
                }
            }
            Ok(None) => break Status::ok("it is over"),
            Err(status) => break status,
        }
        opened.tell();
    };
    End { status, reason, has_position: copy.epoch != 0 && copy.revision != 0 }
}

async fn receive(channel: Channel, nth: usize, mut opened: Opened) -> End {
    let (user_id, session_id) = user_and_session(nth, "user");
    let join =
        proto::JoinSessionRequest { user_id: user_id.clone(), session_id, ..Default::default() };
    SessionServiceClient::new(channel.clone()).join_session(join).await.expect("it joins");
    let request = proto::ReceiveSessionUpdatesRequest { user_id, ..Default::default() };
    let mut delivery = DeliveryServiceClient::new(channel);
    let down = delivery.receive_session_updates(request).await;
    let mut down = down.expect("it opens").into_inner();
    let (mut copies, mut reason) = (BTreeMap::<String, Rebuilt>::new(), None);
    let status = loop {
        match down.message().await {
            Ok(Some(message)) => {
                for delivery in message.updates {
                    let copy = copies.entry(delivery.session_id).or_default();
                    apply(copy, delivery.update);
                }
                reason = message.go_away.map(|go_away| go_away.reason()).or(reason);
            }
            Ok(None) => break Status::ok("it is over"),
            Err(status) => break status,
        }
        opened.tell();
    };
    let has_position = copies.len() == 1 && copies.values().all(|copy| copy.revision != 0);
    End { status, reason, has_position }
}

/// It has no positions: a new subscription starts again. Its status has the reason.
async fn read_objects(channel: Channel, mut opened: Opened) -> End {
    let request =
        proto::SubscribeToStreamsRequest { user_id: "owner".to_owned(), ..Default::default() };
    let mut objects = ObjectStreamServiceClient::new(channel);
    let down = objects.subscribe_to_streams(request).await;
    let mut down = down.expect("it opens").into_inner();
    let status = loop {
        match down.message().await {
            Ok(Some(_)) => {}
            Ok(None) => break Status::ok("it is over"),
            Err(status) => break status,
        }
        opened.tell();
    };
    End { status, reason: Some(EndReason::Draining), has_position: true }
}
