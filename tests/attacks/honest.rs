//! The honest users beside every attack: 50 of one room, on 10 connections, who write 20 times a
//! second each and are shown what the others write.

use crate::{
    line,
    server::{PATIENCE, Server, eventually},
    wire::framed,
};
use bytes::{Buf, Bytes, BytesMut};
use h2::{
    SendStream,
    client::{ResponseFuture, SendRequest},
};
use parking_lot::Mutex;
use prost::Message;
use sessiond::proto::{
    JoinOptions, PropsWrite, SessionSettings, SessionSubscription, StreamOpen,
    StreamUserPropsRequest, StreamUserPropsResponse, Value, named_value, session_update::Body,
    stream_user_props_request::Message as Up, value::Kind,
};
use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::{
    task::{LocalSet, spawn_local},
    time::{MissedTickBehavior, interval},
};

/// The room of the honest users.
pub const ROOM: &str = "honest";

const USERS: u64 = 50;
const CONNECTIONS: u64 = 10;
/// Between two updates of any of them: 20 a second each.
const PERIOD: Duration = Duration::from_millis(1);

/// The honest users, at work until this is dropped.
pub struct Honest {
    tally: Arc<Tally>,
    thread: Option<JoinHandle<()>>,
}

/// What they see of the server in some span of time.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// The share of the updates that came to those who wait for them.
    pub arrived: f64,
    /// From the write of an update to its arrival, for half of them.
    pub p50_ms: f64,
    /// The same, for 99 of 100.
    pub p99_ms: f64,
}

impl Honest {
    /// Lets all of them join, and begin to write.
    pub fn start(server: &Server) -> Self {
        server.open_room(ROOM, SessionSettings::default());
        let tally = Arc::new(Tally::default());
        let (address, counts) = (server.address, tally.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let work = LocalSet::new();
            work.block_on(&runtime.expect("a runtime"), async {
                if let Err(error) = work_together(address, counts.clone()).await {
                    counts.fail(format!("the honest users cannot work: {error}"));
                }
            });
        });
        let honest = Self { tally, thread: Some(thread) };
        let all_see = || honest.tally.seen.lock().latencies.len() as u64 > 20 * CONNECTIONS;
        assert!(eventually(PATIENCE, all_see), "they see each other: {:?}", honest.failure());
        honest
    }

    /// What they see while something is done.
    pub fn watch<T>(&self, something: impl FnOnce() -> T) -> (Figures, T) {
        self.tally.begin();
        let done = something();
        self.tally.end();
        let all_is_there = || {
            let seen = self.tally.seen.lock();
            seen.latencies.len() as u64 == seen.sent * CONNECTIONS
        };
        eventually(Duration::from_secs(1), all_is_there);
        (std::mem::take(&mut *self.tally.seen.lock()).figures(), done)
    }

    /// What went wrong for one of them, if something did.
    pub fn failure(&self) -> Option<String> {
        self.tally.failure.lock().clone()
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.tally.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arrived, p50_ms, p99_ms } = self;
        write!(f, "{:.1} % arrived, p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms", 100.0 * arrived)
    }
}

/// What the thread of the users and the test share.
struct Tally {
    started: Instant,
    seen: Mutex<Seen>,
    failure: Mutex<Option<String>>,
    stop: AtomicBool,
}

/// What became of the updates that were written between two moments.
#[derive(Debug)]
struct Seen {
    begin: u64,
    end: u64,
    sent: u64,
    /// Microseconds, of every update at one user of each connection.
    latencies: Vec<u32>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            seen: Mutex::default(),
            failure: Mutex::default(),
            stop: AtomicBool::default(),
        }
    }
}

impl Tally {
    /// Microseconds since the users began.
    fn now(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// From now on every update counts.
    fn begin(&self) {
        let mut seen = self.seen.lock();
        // Under the lock: what is sent after that moment is noted after that moment.
        *seen = Seen { begin: self.now(), ..Seen::default() };
    }

    /// What is sent from now on does not count any more.
    fn end(&self) {
        let mut seen = self.seen.lock();
        seen.end = self.now();
    }

    fn has_sent(&self, at: u64) {
        let mut seen = self.seen.lock();
        seen.sent += u64::from((seen.begin..seen.end).contains(&at));
    }

    fn has_arrived(&self, sent_at: u64) {
        let latency = self.now() - sent_at;
        let mut seen = self.seen.lock();
        if (seen.begin..seen.end).contains(&sent_at) {
            seen.latencies.push(latency as u32);
        }
    }

    fn fail(&self, failure: String) {
        self.failure.lock().get_or_insert(failure);
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self { begin: 0, end: u64::MAX, sent: 0, latencies: Vec::new() }
    }
}

impl Seen {
    fn figures(mut self) -> Figures {
        self.latencies.sort_unstable();
        let quantile = |share: f64| {
            let place = (self.latencies.len() as f64 * share) as usize;
            self.latencies.get(place).map_or(f64::INFINITY, |&micros| f64::from(micros) / 1e3)
        };
        let arrived = self.latencies.len() as f64 / (self.sent * CONNECTIONS).max(1) as f64;
        Figures { arrived, p50_ms: quantile(0.5), p99_ms: quantile(0.99) }
    }
}

type Failure = Box<dyn std::error::Error>;

/// Lets the users join, and write in turn.
async fn work_together(address: SocketAddr, tally: Arc<Tally>) -> Result<(), Failure> {
    let mut ups = Vec::new();
    for connection in 0..CONNECTIONS {
        let socket = line::connect(address).await?;
        let (requests, connected) = h2::client::Builder::new()
            .initial_connection_window_size(1 << 24)
            .initial_window_size(1 << 20)
            .handshake(socket)
            .await?;
        spawn_local(connected);
        for user in 0..USERS / CONNECTIONS {
            let number = connection * USERS / CONNECTIONS + user;
            let (up, response) = open(requests.clone(), address, number).await?;
            ups.push(up);
            spawn_local(receive(response, user == 0, number, tally.clone()));
        }
    }
    let mut turns = interval(PERIOD);
    // Two updates of a user at once would be merged, and one of them never arrive.
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for seq in 2_u64.. {
        for up in &mut ups {
            turns.tick().await;
            if tally.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let now = tally.now();
            up.send_data(update(seq, now), false)?;
            tally.has_sent(now);
        }
    }
    Ok(())
}

async fn open(
    requests: SendRequest<Bytes>,
    address: SocketAddr,
    number: u64,
) -> Result<(SendStream<Bytes>, ResponseFuture), Failure> {
    let path = "/sessiond.v1.DeliveryService/StreamUserProps";
    let request = http::Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut up) = requests.ready().await?.send_request(request, false)?;
    let join = Some(JoinOptions::default());
    let subscription =
        SessionSubscription { session_id: ROOM.to_owned(), join, ..Default::default() };
    let subscriptions = vec![subscription];
    let user_id = format!("honest-{number}");
    let open = StreamOpen { user_id, subscriptions, ..Default::default() };
    let first = StreamUserPropsRequest { seq: 1, message: Some(Up::Open(open)) };
    up.send_data(framed(&first).into(), false)?;
    Ok((up, response))
}

/// An update whose value is the moment at which it is sent.
fn update(seq: u64, now: u64) -> Bytes {
    let value = Value { kind: Some(Kind::Integer(now as i64)) };
    let write = PropsWrite {
        set: BTreeMap::from([("t".to_owned(), value)]),
        session_ids: vec![ROOM.to_owned()],
        ..Default::default()
    };
    framed(&StreamUserPropsRequest { seq, message: Some(Up::Write(write)) }).into()
}

/// Reads all that comes to a user. Where it is timed, every update is looked at.
async fn receive(response: ResponseFuture, is_timed: bool, number: u64, tally: Arc<Tally>) {
    let outcome: Result<(), Failure> = async {
        let mut down = response.await?.into_body();
        let (mut inbox, mut latest) = (BytesMut::new(), BTreeMap::new());
        while let Some(data) = down.data().await {
            let data = data?;
            down.flow_control().release_capacity(data.len())?;
            if is_timed {
                inbox.extend_from_slice(&data);
                look_at(&mut inbox, &mut latest, &tally)?;
            }
        }
        Err(format!("the end came with {:?}", down.trailers().await?).into())
    }
    .await;
    if let Err(error) = outcome {
        tally.fail(format!("the stream of honest user {number} failed: {error}"));
    }
}

/// Takes whole messages out of the inbox, and what is new in them.
fn look_at(
    inbox: &mut BytesMut,
    latest: &mut BTreeMap<String, u64>,
    tally: &Tally,
) -> Result<(), Failure> {
    while let Some(prefix) = inbox.first_chunk::<5>() {
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if inbox.len() < 5 + length {
            break;
        }
        inbox.advance(5);
        let message = StreamUserPropsResponse::decode(inbox.split_to(length))?;
        if let Some(refusal) = message.refusals.first() {
            return Err(format!("a write was refused: {refusal:?}").into());
        }
        for update in message.updates.into_iter().filter_map(|delivery| delivery.update) {
            let Some(Body::Changes(changes)) = update.body else { continue };
            for member in changes.members {
                let Some(prop) = member.props.first() else { continue };
                let Some(named_value::Kind::Integer(sent_at)) = prop.kind else { continue };
                // A step may begin before where its reader is.
                let known = latest.entry(member.user_id).or_default();
                if sent_at as u64 > *known {
                    *known = sent_at as u64;
                    tally.has_arrived(*known);
                }
            }
        }
    }
    Ok(())
}
