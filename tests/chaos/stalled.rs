//! Half of all readers stop or trickle. The other half must not notice, and the server must not grow.

use crate::{
    alone, figure,
    proxy::{self, Fault, Proxy},
    runtime,
    server::{Server, endpoint},
    tell,
    values::{data, int, write},
};
use sessiond::proto::{
    self, JoinOptions, OpenSharedSessionRequest, SetUserPropsRequest,
    delivery_service_client::DeliveryServiceClient, named_value,
    session_service_client::SessionServiceClient, session_update::Body,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinSet,
};
use tonic::transport::Channel;

/// How many readers a session has, beside its writer.
const READERS: usize = 50;

/// How often the writer of a session writes, and how much: the window of a stream that is not read is
/// full after some seconds.
const WRITE_EVERY: Duration = Duration::from_millis(100);
const WRITTEN: usize = 2048;

/// After so long those who stopped, and were given up by the server, come again and stop again.
const COMES_AGAIN: Duration = Duration::from_secs(90);

/// What may wait for a reader that does not read.
const PER_READER: u64 = 64 * 1024;

/// What the server's memory may move by all the same.
const NOISE: u64 = 8 * 1024 * 1024;

#[test]
fn readers_that_stop_or_trickle_cost_nobody_else_time_and_little_memory() {
    alone(async {
        let readers = figure(2_000, 200);
        let window = figure(Duration::from_secs(10), Duration::from_secs(1));
        let (before, while_stalled) = figure((12, 60), (4, 8));
        let server = Server::start(&["--tick-interval", "50ms"]);
        let address = server.address;
        open(&server, readers / READERS).await;
        let clock = Instant::now();
        let delays = Arc::new(Mutex::new(Vec::new()));
        let writes = tokio::spawn(write_on(server.connect().await, readers / READERS, clock));

        // In every session one half reads all the time, a quarter stops and a quarter trickles.
        let own = |rests: &[usize]| (0..readers).filter(|nth| rests.contains(&(nth % 4))).collect();
        let honest = Group::start(Way::Reads(delays.clone()), address, own(&[0, 2]), clock);
        let stopping = Group::start(Way::Stops, address, own(&[1]), clock);
        let trickling = Group::start(Way::Trickles, address, own(&[3]), clock);
        for group in [&honest, &stopping, &trickling] {
            group.is_there();
        }
        tokio::time::sleep(window).await;

        let mut all = Vec::new();
        let calm = measure(&server, &delays, window, before, &mut all).await;
        let at_first = server.resident();
        for group in [&stopping, &trickling] {
            group.go_on();
            group.is_there();
        }
        // What is on its way to them fills the buffers first.
        tokio::time::sleep(window).await;
        let mut resident = Vec::new();
        let stalled = measure(&server, &delays, window, while_stalled, &mut resident).await;
        writes.abort();
        let (begin, end) = resident.split_at(resident.len() / 5);
        let (begin, end) = (begin[begin.len() - 1], end[end.len() - 1]);
        let mib = |bytes: u64| bytes / 1024 / 1024;
        tell(format_args!(
            "p99 of {} readers: {calm:?}, and {stalled:?} while {} others stop or trickle; memory: {} MiB, then \
             {} MiB to {} MiB",
            readers / 2,
            readers / 2,
            mib(at_first),
            mib(begin),
            mib(end),
        ));
        for group in [honest, stopping, trickling] {
            group.end();
        }
        // A slice is too short to tell a tenth.
        let most = figure(calm.mul_f64(1.1), calm * 2 + Duration::from_millis(25));
        assert!(stalled <= most, "the others wait {stalled:?}, not {calm:?}");
        let most = at_first + readers as u64 / 2 * PER_READER + NOISE;
        assert!(end <= most, "it grows to {end} bytes, not {most}");
        assert!(end <= begin + begin / 20 + NOISE, "it grows on, from {begin} to {end} bytes");
    });
}

/// Delays that were seen, in microseconds.
type Delays = Arc<Mutex<Vec<u32>>>;

/// The p99 of the middle one of several windows.
async fn measure(
    server: &Server,
    delays: &Delays,
    window: Duration,
    windows: usize,
    resident: &mut Vec<u64>,
) -> Duration {
    let take = || std::mem::take(&mut *delays.lock().unwrap_or_else(PoisonError::into_inner));
    take();
    let mut found = Vec::new();
    for _ in 0..windows {
        tokio::time::sleep(window).await;
        let mut seen = take();
        assert!(!seen.is_empty(), "readers read");
        seen.sort_unstable();
        found.push(seen[seen.len() * 99 / 100]);
        resident.push(server.resident());
    }
    found.sort_unstable();
    Duration::from_micros(found[found.len() / 2].into())
}

/// How a group of readers goes on once it is told to.
enum Way {
    /// As before; how late what it reads is, is noted.
    Reads(Delays),
    /// Nothing of it runs any more: its connections are open, and nobody reads.
    Stops,
    /// It comes again through a proxy that passes on a byte a second.
    Trickles,
}

/// Readers on a thread of their own.
struct Group {
    go_on: mpsc::Sender<()>,
    there: mpsc::Receiver<()>,
    thread: thread::JoinHandle<()>,
}

impl Group {
    fn start(way: Way, address: SocketAddr, own: Vec<usize>, clock: Instant) -> Self {
        let (go_on, told) = mpsc::channel();
        let (tell, there) = mpsc::channel();
        let thread = thread::spawn(move || {
            runtime().block_on(async {
                let delays = if let Way::Reads(delays) = &way { Some(delays) } else { None };
                let mut readers = subscribe_all(address, &own, clock, delays).await;
                let _ = tell.send(());
                until_told(&told).await;
                match way {
                    Way::Reads(_) => {
                        let gone = readers.try_join_next();
                        assert!(gone.is_none(), "a reader that reads goes on: {gone:?}");
                    }
                    Way::Stops => {
                        let _ = tell.send(());
                        while told.recv_timeout(COMES_AGAIN) == Err(RecvTimeoutError::Timeout) {
                            drop(readers);
                            readers = subscribe_all(address, &own, clock, None).await;
                        }
                    }
                    Way::Trickles => {
                        drop(readers);
                        let trickle = Fault::Trickle(proxy::Way::Down, 1, Duration::from_secs(1));
                        let proxy = Proxy::start_for_all(address, trickle).await;
                        let mut readers = JoinSet::new();
                        for nth in own {
                            readers.spawn(follow(proxy.address, nth, clock, None, None));
                        }
                        let _ = tell.send(());
                        until_told(&told).await;
                    }
                }
            });
        });
        Self { go_on, there, thread }
    }

    fn is_there(&self) {
        self.there.recv().expect("the readers get there");
    }

    fn go_on(&self) {
        self.go_on.send(()).expect("the readers are there");
    }

    /// Ends it, while the server is still there.
    fn end(self) {
        drop(self.go_on);
        self.thread.join().expect("no reader has panicked");
    }
}

/// Waits for a word, or for the end of the test, while others run.
async fn until_told(told: &mpsc::Receiver<()>) {
    while told.try_recv() == Err(TryRecvError::Empty) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Readers that all have read something.
async fn subscribe_all(
    address: SocketAddr,
    own: &[usize],
    clock: Instant,
    delays: Option<&Delays>,
) -> JoinSet<()> {
    let mut readers = JoinSet::new();
    let (opened, mut opening) = unbounded_channel();
    for nth in own {
        readers.spawn(follow(address, *nth, clock, delays.cloned(), Some(opened.clone())));
        opening.recv().await.expect("it opens");
    }
    readers
}

/// A reader on a connection of its own. It comes again when its stream ends.
async fn follow(
    address: SocketAddr,
    nth: usize,
    clock: Instant,
    delays: Option<Delays>,
    mut opened: Option<UnboundedSender<()>>,
) {
    loop {
        let Ok(channel) = endpoint(address).connect().await else { continue };
        let request = proto::SubscribeToSessionRequest {
            user_id: format!("reader-{nth}"),
            session_id: format!("session-{}", nth / READERS),
            join: Some(JoinOptions::default()),
            ..Default::default()
        };
        let answer = DeliveryServiceClient::new(channel).subscribe_to_session(request).await;
        let Ok(answer) = answer else { continue };
        let mut down = answer.into_inner();
        while let Ok(Some(message)) = down.message().await {
            if let Some(opened) = opened.take() {
                let _ = opened.send(());
            }
            let Some(Body::Changes(changes)) = message.update.and_then(|update| update.body) else {
                continue;
            };
            let props = changes.members.iter().flat_map(|member| &member.props);
            let written = props.filter(|prop| prop.name == "at").find_map(|prop| match prop.kind {
                Some(named_value::Kind::Integer(at)) => Some(at as u64),
                _ => None,
            });
            if let (Some(written), Some(delays)) = (written, &delays) {
                let delay = clock.elapsed().as_micros() as u64 - written;
                delays.lock().unwrap_or_else(PoisonError::into_inner).push(delay as u32);
            }
        }
        assert!(delays.is_none(), "nobody ends the stream of a reader that reads");
    }
}

/// Sessions, each with a writer as its owner.
async fn open(server: &Server, sessions: usize) {
    let mut calls = SessionServiceClient::new(server.connect().await);
    for session in 0..sessions {
        let open = OpenSharedSessionRequest {
            user_id: format!("writer-{session}"),
            session_id: format!("session-{session}"),
            ..Default::default()
        };
        calls.open_shared_session(open).await.expect("it opens");
    }
}

/// Writes the time in one session after the other, at random moments: at regular ones it would meet each tick at the
/// same place.
async fn write_on(channel: Channel, sessions: usize, clock: Instant) {
    let mut calls = SessionServiceClient::new(channel);
    for session in (0..sessions).cycle() {
        tokio::time::sleep((WRITE_EVERY / sessions as u32).mul_f64(2.0 * fastrand::f64())).await;
        let at = clock.elapsed().as_micros() as i64;
        let request = SetUserPropsRequest {
            user_id: format!("writer-{session}"),
            write: Some(write([("at", int(at)), ("bulk", data(WRITTEN))])),
            ..Default::default()
        };
        calls.set_user_props(request).await.expect("it is written");
    }
}
