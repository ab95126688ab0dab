//! One HTTP/2 connection: its streams, its deadlines, and what it may take of memory and of the
//! thread. The protocol itself is the `h2` crate's.

pub mod account;
mod cold;
mod frames;
mod greeting;
mod hot;
mod outbox;
mod socket;

use super::{
    census::{Leave, Stay},
    forwarded::Forwarders,
    nodes::Door,
    router::{Router, Way},
};
use crate::{
    config::Config,
    engine::Peer,
    grpc::{
        delivery::{self, CallHead, Seat, Via},
        error::Refusal,
    },
    identity::{Certificate, Shown},
    session::limits::{Micros, SECOND},
};
use account::Piece;
use cold::ColdCall;
pub use greeting::{Setup, greet, prepare};
use h2::{
    Ping, PingPong, Reason, RecvStream,
    server::{Connection, SendResponse},
};
use hot::HotTask;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use outbox::Outbox;
use parking_lot::Mutex;
use socket::Socket;
pub use socket::{Pulse, linger};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::Sleep;

/// How long a stream of reflection lasts: people look something up.
const REFLECTION_AGE: Micros = 60 * SECOND;

/// How long the last frames of a connection have to get into the socket, and how long a client has
/// to close a connection without streams once the server stops.
const LAST_FRAMES: Duration = Duration::from_secs(1);

/// How long the last frames have when the server stops: since the client took some last, where there
/// were too many for its socket.
const LAST_FRAMES_AT_STOP: Duration = Duration::from_secs(4);

/// How long a node has to greet another.
const NODE_HANDSHAKE: Duration = Duration::from_secs(5);

/// When nothing came of a node for so long, it is asked whether it is there, and how long it has to
/// answer.
pub const NODE_ASK: Duration = Duration::from_secs(2);
pub const NODE_ANSWER: Duration = Duration::from_secs(3);

/// Most streams of a node: it may be sent on what all clients of another one do.
const NODE_STREAMS: u32 = 1_000_000;

/// The moments of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    handshake: Duration,
    idle: Option<Duration>,
    slow: Duration,
    /// When nothing came for so long, the client is asked whether it is there.
    ask: Duration,
    /// When nothing came for so long, it is not.
    dead: Duration,
    streams: u32,
    streams_per_address: usize,
}

impl Limits {
    /// As they are configured. A client that does not answer is given up as soon as one that does
    /// not read.
    pub fn of(config: &Config) -> Self {
        let Config { keepalive_interval, keepalive_timeout, slow_limit, .. } = *config;
        Self {
            handshake: config.handshake_timeout,
            idle: config.idle_timeout,
            slow: slow_limit,
            ask: keepalive_interval.min(slow_limit / 2),
            dead: slow_limit.min(keepalive_interval + keepalive_timeout),
            streams: u32::try_from(config.max_streams_per_connection).unwrap_or(u32::MAX),
            streams_per_address: config.max_streams_per_address,
        }
    }
}

impl Limits {
    /// Those of a connection of another node, whose death must show soon.
    pub fn of_nodes(config: &Config) -> Self {
        Self {
            handshake: NODE_HANDSHAKE.min(config.handshake_timeout),
            idle: None,
            slow: config.slow_limit,
            ask: NODE_ASK,
            dead: NODE_ASK + NODE_ANSWER,
            streams: NODE_STREAMS,
            streams_per_address: 0,
        }
    }

    /// When nothing came for so long, the client is not there.
    pub fn dead(&self) -> Duration {
        self.dead
    }
}

/// The task of one connection, which ends with it.
pub struct Driver {
    connection: Connection<Socket, Piece>,
    router: Arc<Router>,
    limits: Limits,
    seat: Seat,
    peer: Peer,
    /// They say where the caller of each call is.
    forwarders: Option<Forwarders>,
    certificate: Option<Arc<Certificate>>,
    /// What its calls have shown beside that.
    shown: Shown,
    /// None = it is that of a client.
    door: Option<Arc<Door>>,
    stream_window: u32,
    stay: Arc<Stay>,
    pulse: Arc<Mutex<Pulse>>,
    began: Instant,
    greeted: bool,
    /// The one that has the connection go knows whom to wake.
    knows_task: bool,
    pings: Option<PingPong>,
    /// When the client was asked whether it is there; none = it has answered.
    asked_at: Option<Instant>,
    stopping_since: Option<Instant>,
    closing_since: Option<Instant>,
    /// Wakes the task; not later than the next of its moments.
    alarm: Pin<Box<Sleep>>,
    alarm_at: Instant,
}

/// What a moment of a connection leads to.
enum Due {
    /// Nothing, until then.
    Nothing(Instant),
    /// The client is asked whether it is there.
    Ask,
    /// The connection ends with these words.
    Close(Reason),
    /// The connection ends at once: nobody listens.
    Drop(&'static str),
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let ended = ready!(self.get_mut().drive(cx));
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection failed");
        }
        Poll::Ready(())
    }
}

impl Driver {
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.knows_task {
            self.stay.wake(cx.waker());
            self.knows_task = true;
        }
        let heard_at = self.pulse.lock().begin_turn();
        let now = Instant::now();
        // The question goes out with whatever the task was woken to send.
        if self.asked_at.is_none() && now - heard_at > self.limits.ask / 2 {
            self.ask();
        }
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.begin(request, respond);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(io::Error::other(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => {}
            }
            if let (Some(_), Some(pings)) = (self.asked_at, &mut self.pings)
                && pings.poll_pong(cx).is_ready()
            {
                self.asked_at = None;
            }
            // Most polls end here: what follows lies elsewhere in memory.
            if !std::mem::take(&mut self.pulse.lock().changed) && now < self.alarm_at {
                return Poll::Pending;
            }
            if let Some(why) = self.stay.leave().filter(|_| self.closing_since.is_none()) {
                match why {
                    Leave::Swollen => return Poll::Ready(Err(gone("too much waits"))),
                    Leave::Crowded | Leave::Stopping if self.stopping_since.is_none() => {
                        self.stop();
                        continue;
                    }
                    Leave::Crowded | Leave::Stopping => {}
                }
            }
            match self.due(Instant::now()) {
                Due::Nothing(until) => {
                    self.alarm_at = until;
                    self.alarm.as_mut().reset(until.into());
                    if self.alarm.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
                Due::Ask => self.ask(),
                Due::Close(reason) => self.close(reason),
                Due::Drop(why) => return Poll::Ready(Err(gone(why))),
            }
        }
    }

    /// What is due.
    fn due(&mut self, now: Instant) -> Due {
        let Pulse { heard_at, stuck_since, cut_since, greeted, flooded, .. } = *self.pulse.lock();
        if greeted && !self.greeted {
            self.greeted = true;
            self.stay.greeted();
        }
        if self.asked_at.is_some_and(|asked_at| asked_at < heard_at) {
            self.asked_at = None;
        }
        let Limits { handshake, idle, slow, ask, dead, .. } = self.limits;
        let idle_since = self.stay.idle_for().and_then(|idle_for| now.checked_sub(idle_for));
        let is_open = self.closing_since.is_none();
        let after = |since: Option<Instant>, span: Duration| since.map(|since| since + span);
        // Since when the server stops and there is no stream any more.
        let over_since = self.stopping_since.and_then(|since| Some(since.max(idle_since?)));
        let last_frames = self.stopping_since.map_or(LAST_FRAMES, |_| LAST_FRAMES_AT_STOP);
        let moments = [
            (Some(now).filter(|_| flooded && is_open), Due::Close(Reason::ENHANCE_YOUR_CALM)),
            (after(self.closing_since, last_frames), Due::Drop("its last frames were not taken")),
            (after(stuck_since, slow), Due::Drop("the client does not read")),
            (Some(heard_at + dead), Due::Drop("the client is not there")),
            (
                after(Some(self.began), handshake).filter(|_| !greeted && is_open),
                Due::Close(Reason::SETTINGS_TIMEOUT),
            ),
            (
                after(cut_since, handshake).filter(|_| is_open),
                Due::Close(Reason::ENHANCE_YOUR_CALM),
            ),
            (
                idle.and_then(|idle| after(idle_since, idle)).filter(|_| is_open),
                Due::Close(Reason::NO_ERROR),
            ),
            (
                after(over_since, LAST_FRAMES).filter(|_| is_open && stuck_since.is_none()),
                Due::Close(Reason::NO_ERROR),
            ),
            // To close would throw away the ends of streams that wait for the socket.
            (
                after(over_since.max(stuck_since), LAST_FRAMES_AT_STOP)
                    .filter(|_| over_since.is_some() && stuck_since.is_some()),
                Due::Drop("its last frames were not taken"),
            ),
            (Some(heard_at + ask).filter(|_| self.asked_at.is_none() && is_open), Due::Ask),
        ];
        let mut next = now + self.limits.dead;
        for (at, due) in moments {
            match at {
                Some(at) if at <= now => return due,
                Some(at) => next = next.min(at),
                None => {}
            }
        }
        Due::Nothing(next)
    }

    fn ask(&mut self) {
        self.asked_at = Some(Instant::now());
        if self.pings.is_none() {
            self.pings = self.connection.ping_pong();
        }
        if let Some(pings) = &mut self.pings {
            // It fails if the last one was not answered yet.
            let _ = pings.send_ping(Ping::opaque());
        }
    }

    /// No new streams; those that there are end by themselves.
    fn stop(&mut self) {
        self.stopping_since = Some(Instant::now());
        self.pulse.lock().changed = true;
        self.connection.graceful_shutdown();
    }

    /// The end, as soon as that is in the socket.
    fn close(&mut self, reason: Reason) {
        self.closing_since = Some(Instant::now());
        self.pulse.lock().changed = true;
        self.connection.abrupt_shutdown(reason);
    }

    /// Where the caller of a call is: what is limited per address and is no connection counts it there.
    fn caller(&self, headers: &HeaderMap) -> Peer {
        let said = self.forwarders.as_ref().and_then(|it| it.caller(headers));
        said.map_or(self.peer, Peer::from)
    }

    fn begin(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Piece>) {
        if self.stay.is_crowded() {
            // It was asked to make room: the client begins the call once more on another connection.
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        let deadline = deadline(request.headers(), self.router.engine().clock().now());
        let deadline = match deadline {
            Ok(deadline) => deadline,
            Err(refusal) => {
                let response = self.router.refuse(&refusal).into_http::<()>();
                let _ = respond.send_response(self.router.finish(response), true);
                return;
            }
        };
        let (parts, body) = request.into_parts();
        let account = self.stay.account().clone();
        let stay = self.stay.begin_stream();
        let (via, mut peer) = match self.door {
            None => (Via::Client, self.caller(&parts.headers)),
            Some(_) => (Via::Node, self.peer),
        };
        let way = match (&stay, &self.door) {
            (Some(_), None) => {
                let shown = (self.certificate.as_deref(), &mut self.shown);
                self.router.way(&parts.method, parts.uri.path(), &parts.headers, shown, peer)
            }
            (Some(_), Some(door)) => match door.admit(&parts.headers) {
                Ok((grant, of)) => {
                    peer = of;
                    let (method, headers) = (&parts.method, &parts.headers);
                    self.router.way_introduced(method, parts.uri.path(), headers, grant)
                }
                Err(refusal) => {
                    if door.is_pestered() {
                        self.pulse.lock().flooded = true;
                        self.pulse.lock().changed = true;
                    }
                    Way::Refused(door.refused(self.router.refuse(&refusal).into_http()))
                }
            },
            (None, _) => Way::Refused(self.router.too_many(self.limits.streams_per_address)),
        };
        match way {
            Way::Hot(grant) => {
                self.widen(delivery::window(parts.uri.path()));
                let mut response = Response::new(());
                let grpc = HeaderValue::from_static("application/grpc");
                response.headers_mut().insert(header::CONTENT_TYPE, grpc);
                // It fails only where the client has given the call up.
                let Ok(send) = respond.send_response(self.router.finish(response), false) else {
                    return;
                };
                let stream = self.router.stream(CallHead {
                    path: parts.uri.path().to_owned(),
                    headers: parts.headers,
                    grant,
                    peer,
                    seat: self.seat,
                    deadline,
                    via,
                });
                let outbox = Outbox::new(send, &account);
                let engine = self.router.engine().clone();
                let task = HotTask::new(engine, stream, body, outbox, (stay, &account));
                tokio::spawn(task);
            }
            Way::Cold(grant) => {
                let gate = self.router.gate(self.seat.worker, parts.uri.path()).cloned();
                if gate.as_ref().is_some_and(|gate| !gate.admits()) {
                    let call = self.cold(deadline, respond);
                    let response = self.router.overloaded();
                    tokio::spawn(async move {
                        call.refuse(response, body, true).await;
                        drop(stay);
                    });
                    return;
                }
                let mut request = Request::from_parts(parts, body);
                request.extensions_mut().insert(peer);
                request.extensions_mut().insert(self.seat);
                request.extensions_mut().insert(via);
                request.extensions_mut().insert(grant);
                let call = self.cold(deadline, respond);
                let call = async move {
                    call.serve(request).await;
                    drop(stay);
                };
                match gate {
                    Some(gate) => gate.spawn(call),
                    None => drop(tokio::spawn(call)),
                }
            }
            Way::Reflection => match self.router.reflections().try_acquire_owned() {
                Ok(place) => {
                    let until = self.router.engine().clock().now() + REFLECTION_AGE;
                    let deadline = deadline.unwrap_or(Micros::MAX).min(until);
                    let call =
                        ColdCall { is_reflection: true, ..self.cold(Some(deadline), respond) };
                    let request = Request::from_parts(parts, body);
                    tokio::spawn(async move {
                        call.serve(request).await;
                        drop((stay, place));
                    });
                }
                Err(_) => {
                    let call = self.cold(deadline, respond);
                    let response = self.router.too_many_reflections();
                    tokio::spawn(async move {
                        call.refuse(response, body, false).await;
                        drop(stay);
                    });
                }
            },
            Way::Refused(response) => {
                let call = self.cold(deadline, respond);
                let is_unary = self.router.takes_one_message(parts.uri.path());
                tokio::spawn(async move {
                    call.refuse(response, body, is_unary).await;
                    drop(stay);
                });
            }
        }
    }

    /// Lets each stream of the connection send so much before it is granted more: HTTP/2 has no such
    /// setting for one stream. The window of the connection bounds them together.
    fn widen(&mut self, window: u32) {
        if window > self.stream_window && self.connection.set_initial_window_size(window).is_ok() {
            self.stream_window = window;
        }
    }

    fn cold(&self, deadline: Option<Micros>, respond: SendResponse<Piece>) -> ColdCall {
        ColdCall {
            router: self.router.clone(),
            account: self.stay.account().clone(),
            seat: self.seat,
            deadline: deadline.unwrap_or(Micros::MAX),
            is_reflection: false,
            respond,
        }
    }
}

fn gone(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}

/// When a call is over that began `now`, as its client says: up to eight digits and a unit.
fn deadline(headers: &HeaderMap, now: Micros) -> Result<Option<Micros>, Refusal> {
    let Some(span) = headers.get("grpc-timeout") else { return Ok(None) };
    let parsed = span.to_str().ok().and_then(|span| {
        let (digits, unit) = span.split_at_checked(span.len().checked_sub(1)?)?;
        let is_number =
            (1..=8).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit());
        let count: u64 = digits.parse().ok().filter(|_| is_number)?;
        Some(match unit {
            "H" => count * 3_600_000_000,
            "M" => count * 60_000_000,
            "S" => count * 1_000_000,
            "m" => count * 1000,
            "u" => count,
            "n" => count / 1000,
            _ => return None,
        })
    });
    let fault = "must be up to eight digits and one of H, M, S, m, u, n";
    parsed.map(|span| Some(now + span)).ok_or_else(|| Refusal::invalid("grpc-timeout", fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_up_to_eight_digits_and_a_unit() {
        let deadline = |timeout: &'static str| {
            let timeout = ("grpc-timeout", HeaderValue::from_static(timeout));
            let headers = [timeout]
                .into_iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), value));
            deadline(&headers.collect(), 1000)
        };
        let good = [
            ("1H", 3_600_000_000),
            ("2M", 120_000_000),
            ("3S", 3_000_000),
            ("50m", 50_000),
            ("99999999u", 99_999_999),
            ("5000n", 5),
            ("0S", 0),
        ];
        for (timeout, span) in good {
            assert_eq!(deadline(timeout), Ok(Some(1000 + span)), "{timeout}");
        }
        for timeout in ["", "1", "S", "-1S", "+1S", "123456789S", "1s", "1.5S", "1 S"] {
            assert!(deadline(timeout).is_err(), "{timeout}");
        }
        assert_eq!(super::deadline(&HeaderMap::new(), 1000), Ok(None));
    }
}
