//! The socket of a connection: what goes through it is measured, what comes in is taken in turns, and
//! it is closed so that what was sent last arrives.

use super::{
    super::{census::Stay, tls::Stream},
    frames::Frames,
};
use parking_lot::Mutex;
use socket2::SockRef;
use std::{
    io,
    net::Shutdown,
    pin::{Pin, pin},
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    join,
    runtime::Handle,
    task::yield_now,
    time::timeout,
};
use tokio_util::task::TaskTracker;

/// What every HTTP/2 connection of a client begins with.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection may take in before others have their turn, in bytes and what costs as much.
const TURN: usize = 256 * 1024;

/// After so many bytes it is looked at how much the client leaves unfinished.
const CHECK: usize = 64 * 1024;

/// The least that is read at once, and the most where what comes is dear.
const READ_MIN: usize = 512;
const READ_DEAR: usize = 4096;

/// How long and how much is still read of a connection that is over, so that what was sent last is
/// not lost: a socket that is closed with bytes unread takes back what it has not delivered.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// The same when the server stops, as then nobody comes back to this socket: a client that stands
/// still for a moment while it writes is not to lose its last messages.
const LINGER_AT_STOP: Duration = Duration::from_secs(4);
const LINGER_BYTES_AT_STOP: usize = 64 * 1024 * 1024;

/// What goes on at a socket, as the connection sees it.
#[derive(Debug)]
pub struct Pulse {
    /// When anything came in last.
    pub heard_at: Instant,
    /// Since when nothing goes out of what should.
    pub stuck_since: Option<Instant>,
    /// Since when the client has left something half done.
    pub cut_since: Option<Instant>,
    /// Whether the client has sent its first SETTINGS.
    pub greeted: bool,
    /// Whether the client sent more frames of no use than it may, or leaves too much unfinished.
    pub flooded: bool,
    /// Whether one of these moments came since the connection looked at them.
    pub changed: bool,
    /// What may still be taken in in this turn.
    turn: usize,
}

impl Pulse {
    /// That of a new connection.
    pub fn new(now: Instant) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            heard_at: now,
            stuck_since: None,
            cut_since: None,
            greeted: false,
            flooded: false,
            changed: true,
            turn: TURN,
        }))
    }

    /// Another turn begins; returns when anything came in last.
    pub fn begin_turn(&mut self) -> Instant {
        self.turn = TURN;
        self.heard_at
    }
}

/// The socket of a connection whose preface was read.
#[derive(Debug)]
pub struct Socket {
    /// None only while it is dropped.
    stream: Option<Stream>,
    /// What is still to be given of the preface.
    preface: &'static [u8],
    frames: Frames,
    pulse: Arc<Mutex<Pulse>>,
    stay: Arc<Stay>,
    tracker: TaskTracker,
    is_stuck: bool,
    /// What may still be sent in this turn.
    sendable: usize,
    /// What came in since it was looked at how much the client leaves unfinished.
    unchecked: usize,
    /// How much is read at once, by what the last bytes cost: what costs as much as a turn.
    read_max: usize,
}

impl Socket {
    /// Takes a socket over.
    pub fn new(
        stream: Stream,
        pulse: Arc<Mutex<Pulse>>,
        stay: Arc<Stay>,
        tracker: TaskTracker,
        is_trusted: Arc<AtomicBool>,
    ) -> Self {
        let frames = Frames::new(pulse.lock().heard_at).trusting(is_trusted);
        let stream = Some(stream);
        Self {
            stream,
            preface: PREFACE,
            frames,
            pulse,
            stay,
            tracker,
            is_stuck: false,
            sendable: TURN,
            unchecked: 0,
            read_max: TURN,
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn look_at(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        let beside = self.stream.as_mut().map_or(0, |stream| stream.took(bytes.len()));
        let cost = self.frames.look_at(bytes, now, || self.stay.account().sent());
        self.unchecked += bytes.len();
        let swollen = self.unchecked >= CHECK && {
            self.unchecked = 0;
            self.stay.account().is_swollen()
        };
        let flooded = cost.is_none() || swollen;
        let mut pulse = self.pulse.lock();
        let each = cost.unwrap_or(TURN) / bytes.len().max(1);
        self.read_max = (TURN / each.max(1)).max(READ_MIN);
        pulse.turn = pulse.turn.saturating_sub(cost.unwrap_or(TURN).max(1) + beside);
        pulse.heard_at = now;
        if flooded {
            (pulse.flooded, pulse.changed) = (true, true);
        }
        pulse.changed |= self.frames.is_greeted() && !pulse.greeted;
        pulse.greeted = self.frames.is_greeted();
        let cut_since = self.frames.cut_since();
        pulse.changed |= cut_since.is_some() && pulse.cut_since.is_none();
        pulse.cut_since = cut_since;
    }

    /// Sends as much as its turn has left.
    fn send(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.sendable == 0 {
            self.sendable = TURN;
            let _ = pin!(yield_now()).poll(cx);
            // There is more to send: nobody may take it for all.
            self.wrote(true);
            return Poll::Pending;
        }
        let outcome = write(self.stream()?, cx);
        if let Poll::Ready(Ok(count)) = &outcome {
            self.sendable = self.sendable.saturating_sub(*count);
        }
        self.wrote(outcome.is_pending());
        outcome
    }

    /// Notes whether something waits for the socket.
    fn wrote(&mut self, waits: bool) {
        let Some(stream) = &mut self.stream else { return };
        // TLS takes more than the socket does.
        let is_stuck = waits || stream.is_behind();
        let has_moved = stream.has_moved() && is_stuck;
        if is_stuck != self.is_stuck || has_moved {
            self.is_stuck = is_stuck;
            let mut pulse = self.pulse.lock();
            pulse.stuck_since = is_stuck.then(Instant::now);
            pulse.changed |= is_stuck;
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.preface.is_empty() {
            let (now, later) = this.preface.split_at(this.preface.len().min(buf.remaining()));
            buf.put_slice(now);
            this.preface = later;
            return Poll::Ready(Ok(()));
        }
        {
            let pulse = this.pulse.lock();
            if pulse.flooded {
                return Poll::Pending;
            }
            if pulse.turn == 0 {
                // Its turn comes again once everybody else who is ready has had one.
                let _ = pin!(yield_now()).poll(cx);
                return Poll::Pending;
            }
        }
        let before = buf.filled().len();
        if this.read_max >= buf.remaining() {
            ready!(this.stream()?.poll_read(cx, buf))?;
        } else {
            // h2 works off all that it gets at once.
            let mut scratch = [0; READ_DEAR];
            let mut part = ReadBuf::new(&mut scratch[..this.read_max.min(READ_DEAR)]);
            ready!(this.stream()?.poll_read(cx, &mut part))?;
            buf.put_slice(part.filled());
        }
        this.look_at(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().send(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().send(cx, |stream, cx| stream.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = this.stream()?.poll_flush(cx);
        this.wrote(outcome.is_pending());
        outcome
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_shutdown(cx)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let (Some(stream), Ok(runtime)) = (self.stream.take(), Handle::try_current()) else {
            return;
        };
        if !self.pulse.lock().flooded {
            let stay = self.stay.clone();
            let stops = self.tracker.is_closed();
            runtime.spawn(self.tracker.track_future(async move {
                linger(stream, stops).await;
                drop(stay);
            }));
        }
    }
}

/// Closes a socket once its client has, or after a while; until then what was written still goes out.
pub async fn linger(stream: Stream, stops: bool) {
    let (time, bytes) = match stops {
        true => (LINGER_AT_STOP, LINGER_BYTES_AT_STOP),
        false => (LINGER, LINGER_BYTES),
    };
    let Some((mut stream, unsent)) = stream.into_parts() else { return };
    if unsent.is_empty() && SockRef::from(&stream).shutdown(Shutdown::Write).is_err() {
        return;
    }
    let (mut reader, mut writer) = stream.split();
    let write = async {
        if !unsent.is_empty() {
            let _ = writer.write_all(&unsent).await;
            let _ = writer.shutdown().await;
        }
    };
    let read = async {
        let (mut rest, mut scratch) = (bytes, [0; 4096]);
        while let Ok(read @ 1..) = reader.read(&mut scratch).await {
            rest = rest.saturating_sub(read);
            if rest == 0 {
                break;
            }
        }
    };
    let _ = timeout(time, async { join!(write, read) }).await;
}
