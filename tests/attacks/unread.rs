//! Streams that nobody reads: what comes up them counts, and they end when they must.

use crate::{
    server::{PATIENCE, Server, as_app, eventually, joining},
    trial::attack_time,
    windows::subscription,
    wire::{GOAWAY, INITIAL_WINDOW_SIZE, Peer},
};
use sessiond::proto::{
    BanUserRequest, GetSessionInfoRequest, JoinOptions, PropsWrite, SessionKind, SessionSettings,
    SessionSubscription, StreamOpen, StreamUserPropsRequest, Value,
    stream_user_props_request::Message as Up, value::Kind,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tonic::Code;

const ROOM: &str = "room";
const UPLOAD: &str = "DeliveryService/StreamUserProps";
const SECOND: Duration = Duration::from_secs(1);
/// So much later than it must a thing may be seen, on a busy machine.
const GRACE: Duration = Duration::from_millis(500);

/// Why nobody reads.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Why {
    /// The stream has no window, but the client is alive.
    NoWindow,
    /// Nobody takes anything from the socket, and more waits than the kernel keeps.
    Stopped,
    /// The client does nothing any more, and nothing waits for it.
    Frozen,
}

/// A member whose stream nobody reads.
struct Mute {
    peer: Peer,
    stream: u32,
    why: Why,
}

impl Mute {
    fn join(server: &Server, why: Why, user_id: &str, session_id: &str) -> Self {
        Self::join_with(server, why, user_id, session_id, None)
    }

    fn join_with(
        server: &Server,
        why: Why,
        user_id: &str,
        session_id: &str,
        silence: Option<Duration>,
    ) -> Self {
        let mut peer = match why {
            Why::NoWindow => Peer::connect_with(server, &[(INITIAL_WINDOW_SIZE, 0)]),
            Why::Stopped => Peer::narrow(server, &[(INITIAL_WINDOW_SIZE, (1 << 31) - 1)]),
            Why::Frozen => Peer::connect(server),
        };
        if why == Why::Stopped {
            for _ in 0..20 {
                let as_app = [("sessiond-as", "app")];
                let path = "DeliveryService/SubscribeToSession";
                peer.call(path, &as_app, &subscription("vast"));
            }
        }
        let join = Some(JoinOptions::default());
        let session_id = session_id.to_owned();
        let subscription = SessionSubscription { session_id, join, ..Default::default() };
        let open = StreamOpen {
            user_id: user_id.to_owned(),
            subscriptions: vec![subscription],
            silence_timeout: silence.map(|it| it.try_into().expect("a short time")),
            ..Default::default()
        };
        let first = StreamUserPropsRequest { seq: 1, message: Some(Up::Open(open)) };
        let stream = peer.open(UPLOAD, &[], &first);
        Self { peer, stream, why }
    }

    fn write(&mut self, n: u64) {
        let value = Value { kind: Some(Kind::Number(n as f64)) };
        let set = BTreeMap::from([("n".to_owned(), value)]);
        let write = PropsWrite { set, ..Default::default() };
        let message = Some(Up::Write(write));
        self.peer.say(self.stream, &StreamUserPropsRequest { seq: n + 1, message });
    }

    /// A client that is alive answers; a stopped one does nothing.
    fn live_for(&mut self, time: Duration) {
        if self.why == Why::NoWindow {
            self.peer.read_for(time);
        } else {
            std::thread::sleep(time);
        }
    }

    /// Waits until something is so, while the client lives on.
    fn eventually(&mut self, limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
        eventually(limit, || {
            self.live_for(Duration::from_millis(5));
            is_so()
        })
    }
}

/// A server with an empty room, and a vast one that fills the socket of a client that stops.
fn start(settings: &[&str]) -> Server {
    let server = Server::start(settings);
    server.open_vast_room("vast");
    server.open_room(ROOM, SessionSettings::default());
    server
}

fn connected(server: &Server, user_id: &str) -> bool {
    server.shows_connected(ROOM, user_id)
}

#[test]
fn a_hundred_writes_are_seen() {
    let server = start(&[]);
    for why in [Why::NoWindow, Why::Stopped] {
        let user = format!("{why:?}");
        let mut mute = Mute::join(&server, why, &user, ROOM);
        assert!(mute.eventually(PATIENCE, || connected(&server, &user)), "{why:?}");
        (1..=100).for_each(|n| mute.write(n));
        let all = || server.props_of(ROOM, &user).get("n") == Some(&100.0);
        assert!(mute.eventually(2 * SECOND, all), "{why:?}: {:?}", server.props_of(ROOM, &user));
    }
}

#[test]
fn two_hundred_writes_a_second_go_on() {
    let server = start(&[]);
    let time = (5 * SECOND).max(attack_time());
    for why in [Why::NoWindow, Why::Stopped] {
        let user = format!("{why:?}");
        let mut mute = Mute::join(&server, why, &user, ROOM);
        assert!(mute.eventually(PATIENCE, || connected(&server, &user)), "{why:?}");
        let (begin, mut n) = (Instant::now(), 0);
        while begin.elapsed() < time {
            n += 1;
            mute.write(n);
            let next = begin + Duration::from_millis(5) * n as u32;
            mute.live_for(next.saturating_duration_since(Instant::now()));
        }
        let all = || server.props_of(ROOM, &user).get("n") == Some(&(n as f64));
        assert!(mute.eventually(2 * SECOND, all), "{why:?}: {n} writes");
        assert!(!mute.peer.has(GOAWAY) && !mute.peer.has_ended(mute.stream), "{why:?}");
    }
}

#[test]
fn a_member_that_reads_nothing_is_slow() {
    let server = start(&["--slow-limit=2s"]);
    let files = server.open_files();
    for why in [Why::NoWindow, Why::Stopped, Why::Frozen] {
        let user = format!("{why:?}");
        let mut mute = Mute::join(&server, why, &user, ROOM);
        let begin = Instant::now();
        assert!(mute.eventually(SECOND, || connected(&server, &user)), "{why:?}");
        mute.live_for(SECOND.saturating_sub(begin.elapsed()));
        assert!(connected(&server, &user), "{why:?}: it is too early");
        let is_shown = mute.eventually(5 * SECOND, || !connected(&server, &user));
        let took = begin.elapsed();
        println!("{why:?}: shown as disconnected after {took:?}: {is_shown}");
        assert!(is_shown && took <= 3 * SECOND + GRACE, "{why:?}: {took:?}");
        if why == Why::NoWindow {
            let stream = mute.stream;
            let ended = mute.peer.read_until(SECOND, |peer| peer.has_ended(stream));
            assert!(ended, "its stream is ended");
        }
    }
    assert!(eventually(PATIENCE, || server.open_files() <= files), "{}", server.open_files());
}

#[test]
fn a_host_that_reads_nothing_is_replaced() {
    let server = start(&["--slow-limit=2s"]);
    for why in [Why::NoWindow, Why::Stopped, Why::Frozen] {
        let session_id = format!("hosted-{why:?}");
        let host = format!("host-{why:?}");
        let opening = sessiond::proto::OpenSharedSessionRequest {
            session_id: session_id.clone(),
            kind: SessionKind::Hosted.into(),
            settings: Some(SessionSettings::default()),
            ..Default::default()
        };
        server
            .ask(async |mut client| client.open_shared_session(as_app(opening)).await)
            .expect("a new session");
        let host_is = |user: &str| {
            let session_id = session_id.clone();
            let request = GetSessionInfoRequest { session_id, ..Default::default() };
            let info =
                server.ask(async |mut client| client.get_session_info(as_app(request)).await);
            info.expect("it is there").session.expect("it is told").host_id == user
        };
        let mut mute = Mute::join(&server, why, &host, &session_id);
        let begin = Instant::now();
        assert!(mute.eventually(SECOND, || host_is(&host)), "{why:?}");
        let heir = joining(&session_id, "heir");
        server.ask(async |mut client| client.join_session(heir).await).expect("it may join");
        let is_replaced = mute.eventually(5 * SECOND, || host_is("heir"));
        let took = begin.elapsed();
        println!("{why:?}: replaced after {took:?}: {is_replaced}");
        assert!(is_replaced && took <= 3 * SECOND + GRACE, "{why:?}: {took:?}");
    }
}

#[test]
fn a_stream_that_nobody_reads_grows_old() {
    let server = start(&["--stream-max-age=10s"]);
    let mut mutes = [Why::NoWindow, Why::Stopped].map(|why| {
        let user = format!("{why:?}");
        (Mute::join(&server, why, &user, ROOM), user)
    });
    let begin = Instant::now();
    for (mute, user) in &mut mutes {
        assert!(mute.eventually(PATIENCE, || connected(&server, user)), "{user}");
    }
    let both_end = eventually(12 * SECOND, || {
        mutes.iter_mut().for_each(|(mute, _)| mute.live_for(Duration::from_millis(20)));
        mutes.iter().all(|(_, user)| !connected(&server, user))
    });
    let took = begin.elapsed();
    println!("the last is shown as disconnected after {took:?}: {both_end}");
    assert!(both_end && took <= 11 * SECOND + GRACE, "{took:?}");
}

#[test]
fn a_silent_client_that_reads_nothing_loses_its_place() {
    let server = start(&[]);
    for why in [Why::NoWindow, Why::Stopped] {
        let session_id = format!("small-{why:?}");
        let at_once = Some(Duration::ZERO.try_into().expect("no time"));
        let settings =
            SessionSettings { capacity: Some(1), rejoin_grace: at_once, ..Default::default() };
        server.open_room(&session_id, settings);
        let silence = Some(SECOND);
        let mut mute = Mute::join_with(&server, why, "mute", &session_id, silence);
        let begin = Instant::now();
        let is_in = mute.eventually(SECOND, || server.shows_connected(&session_id, "mute"));
        assert!(is_in, "{why:?}");
        let mut codes = Vec::new();
        let newcomer_is_in = mute.eventually(4 * SECOND, || {
            let newcomer = joining(&session_id, "other");
            let joined = server.ask(async |mut client| client.join_session(newcomer).await);
            codes.push(joined.as_ref().map_or_else(tonic::Status::code, |_| Code::Ok));
            joined.is_ok()
        });
        let took = begin.elapsed();
        println!("{why:?}: a newcomer is in after {took:?}: {newcomer_is_in}");
        assert_eq!(codes.first(), Some(&Code::ResourceExhausted), "{why:?}: it was full");
        assert!(newcomer_is_in && took <= 2 * SECOND + GRACE, "{why:?}: {took:?}");
    }
}

#[test]
fn a_ban_ends_a_stream_that_has_no_window() {
    let server = start(&[]);
    let mut mute = Mute::join(&server, Why::NoWindow, "mute", ROOM);
    assert!(mute.eventually(PATIENCE, || connected(&server, "mute")));
    let ban = BanUserRequest {
        session_id: ROOM.to_owned(),
        target_user_id: "mute".to_owned(),
        ..Default::default()
    };
    server.ask(async |mut client| client.ban_user(as_app(ban)).await).expect("the app may");
    let stream = mute.stream;
    let ended = mute.peer.read_until(SECOND + GRACE, |peer| peer.has_ended(stream));
    assert!(ended && !mute.peer.is_closed, "the stream ends, not the connection");
    assert!(!connected(&server, "mute"));
}
