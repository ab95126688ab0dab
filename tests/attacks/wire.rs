//! HTTP/2 by hand: frames go out as they are written, whether a peer should send them or not.

use crate::{line::Line, server::Server};
use prost::Message;
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    time::{Duration, Instant},
};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// The setting that says how much may be sent on a new stream.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// What every connection begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// How much a peer lets the server send at first: so much that there is room to grow.
const WIDE_WINDOW: u32 = 1 << 30;
const FIRST_WINDOW: u32 = (1 << 16) - 1;
const HEAD: usize = 9;

/// So long a peer that cannot send waits, and then gives up.
const SEND_PATIENCE: Duration = Duration::from_secs(2);

/// How much the kernel keeps for a narrow peer, which reads nothing any more.
const NARROW: usize = 16 * 1024;

/// The same for a peer that reads again: one segment of the loopback device has 64 KiB, and where no
/// more than that is kept, it happens that Linux never opens the window again although the peer has
/// read all.
const NARROW_READER: usize = 256 * 1024;

/// A frame, ready to be sent.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let setting = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &values.iter().flat_map(setting).collect::<Vec<_>>())
}

pub fn window_update(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

pub fn reset(stream: u32) -> Vec<u8> {
    const CANCEL: u32 = 8;
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// The headers of a call, of which every one is spelt out. A path without a slash before it is one of
/// the server's own services.
pub fn headers(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let own = || format!("/sessiond.v1.{path}");
    let path = if path.starts_with('/') { path.to_owned() } else { own() };
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "attacked"),
        (":path", &path),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    usual.iter().chain(more).flat_map(|(name, value)| spelt_out(name, value)).collect()
}

/// A header that is not to be remembered.
pub fn spelt_out(name: &str, value: &str) -> Vec<u8> {
    [vec![0], text(name), text(value)].concat()
}

/// A text in a header block, with its length before it.
pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    match text.len().checked_sub(127) {
        None => bytes.push(text.len() as u8),
        Some(mut rest) => {
            bytes.push(127);
            while rest >= 128 {
                bytes.push(rest as u8 | 128);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
    }
    bytes.extend(text.as_bytes());
    bytes
}

/// The same frames on another stream.
pub fn on_stream(stream: u32, frames: &[u8]) -> Vec<u8> {
    let mut frames = frames.to_vec();
    let mut at = 0;
    while let Some((head, _)) = frames[at..].split_first_chunk_mut::<HEAD>() {
        head[5..].copy_from_slice(&stream.to_be_bytes());
        at += HEAD + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    }
    frames
}

/// A message as gRPC frames it.
pub fn framed(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat()
}

/// A frame that came.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// A client that does what it is told, and reads only when it is told to.
#[derive(Debug)]
pub struct Peer {
    socket: Line,
    inbox: Vec<u8>,
    /// What is to be sent as soon as there is room for it.
    outbox: Vec<u8>,
    next_stream: u32,
    /// What came so far, except DATA.
    pub frames: Vec<Frame>,
    /// The bytes that came on each stream.
    pub data: BTreeMap<u32, Vec<u8>>,
    /// Whether the connection has ended.
    pub is_closed: bool,
    /// Whether it answers PING and SETTINGS while it reads.
    pub answers: bool,
}

impl Peer {
    /// Shakes hands, and lets the server send as much as it likes over all streams together.
    pub fn connect(server: &Server) -> Self {
        Self::connect_with(server, &[])
    }

    /// The same with settings.
    pub fn connect_with(server: &Server, values: &[(u16, u32)]) -> Self {
        Self::socket(server).shake_hands(values)
    }

    /// Says what a client says first.
    pub fn shake_hands(mut self, values: &[(u16, u32)]) -> Self {
        let widened = window_update(0, WIDE_WINDOW - FIRST_WINDOW);
        self.send(&[PREFACE, &settings(values), &widened].concat());
        self
    }

    /// A connection on which nothing is said yet.
    pub fn socket(server: &Server) -> Self {
        Self::socket_from(server, Ipv4Addr::LOCALHOST)
    }

    /// The same from another address of this machine.
    pub fn socket_from(server: &Server, from: Ipv4Addr) -> Self {
        Self::try_socket(server.address, from, None).expect("the kernel accepts")
    }

    /// The same where the kernel keeps little for the peer that it has not read.
    pub fn narrow(server: &Server, values: &[(u16, u32)]) -> Self {
        Self::keeping(server, NARROW, values)
    }

    /// The same for a peer that reads again after a while.
    pub fn narrow_reader(server: &Server, values: &[(u16, u32)]) -> Self {
        Self::keeping(server, NARROW_READER, values)
    }

    fn keeping(server: &Server, kept: usize, values: &[(u16, u32)]) -> Self {
        let socket = Self::try_socket(server.address, Ipv4Addr::LOCALHOST, Some(kept));
        socket.expect("the kernel accepts").shake_hands(values)
    }

    fn try_socket(to: SocketAddr, from: Ipv4Addr, kept: Option<usize>) -> io::Result<Self> {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(kept) = kept {
            socket.set_recv_buffer_size(kept)?;
        }
        if from != Ipv4Addr::LOCALHOST {
            socket.bind(&SocketAddrV4::new(from, 0).into())?;
        }
        socket.connect(&to.into())?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        Ok(Self {
            socket: Line::new(socket),
            inbox: Vec::new(),
            outbox: Vec::new(),
            next_stream: 1,
            frames: Vec::new(),
            data: BTreeMap::new(),
            is_closed: false,
            answers: true,
        })
    }

    /// Sends bytes as they are; whether all of them went.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.send_by(bytes, Instant::now() + SEND_PATIENCE)
    }

    /// The same, by then.
    pub fn send_by(&mut self, mut bytes: &[u8], end: Instant) -> bool {
        while !bytes.is_empty() && !self.is_closed {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.socket.set_write_timeout(left);
            match self.socket.write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if is_wait(&error) => {}
                Err(_) => self.is_closed = true,
            }
        }
        !self.is_closed
    }

    /// Sends what waits, as far as there is room for it within that time; whether all of it went. Until
    /// then nothing else may be sent but this way.
    pub fn send_waiting(&mut self, limit: Duration) -> bool {
        if !self.outbox.is_empty() && !self.is_closed {
            self.socket.set_write_timeout(limit);
            match self.socket.write(&self.outbox) {
                Ok(sent) => drop(self.outbox.drain(..sent)),
                Err(error) if is_wait(&error) => {}
                Err(_) => self.is_closed = true,
            }
        }
        self.outbox.is_empty()
    }

    /// Begins a call and says nothing yet; its stream.
    pub fn begin(&mut self, path: &str, more: &[(&str, &str)]) -> u32 {
        let stream = self.new_stream();
        self.send(&frame(HEADERS, END_HEADERS, stream, &headers(path, more)));
        stream
    }

    /// Begins a call with its first message; its stream.
    pub fn open(&mut self, path: &str, more: &[(&str, &str)], first: &impl Message) -> u32 {
        let stream = self.new_stream();
        self.send(&opening(stream, path, more, first, 0));
        stream
    }

    /// Makes a call with its only message; its stream.
    pub fn call(&mut self, path: &str, more: &[(&str, &str)], message: &impl Message) -> u32 {
        let stream = self.new_stream();
        self.send(&opening(stream, path, more, message, END_STREAM));
        stream
    }

    /// Sends another message on a stream.
    pub fn say(&mut self, stream: u32, message: &impl Message) -> bool {
        self.send(&frame(DATA, 0, stream, &framed(message)))
    }

    /// The same as soon as there is room for it: see [`Peer::send_waiting`].
    pub fn say_later(&mut self, stream: u32, message: &impl Message) {
        self.outbox.extend(frame(DATA, 0, stream, &framed(message)));
    }

    /// Makes many calls, some hundred at a time, and waits for the answers.
    pub fn make_calls<M: Message>(
        &mut self,
        path: &str,
        more: &[(&str, &str)],
        messages: impl Iterator<Item = M>,
    ) {
        // Until then there is only room for 64 KiB.
        self.read_until(Duration::from_secs(1), |peer| peer.has(WINDOW_UPDATE));
        self.frames.clear();
        let mut streams = Vec::new();
        let mut messages = messages.peekable();
        while let Some(message) = messages.next() {
            streams.push(self.call(path, more, &message));
            if streams.len() == 500 || messages.peek().is_none() {
                let all_end = self.read_until(Duration::from_secs(60), |peer| {
                    let ends = peer.frames.iter().filter(|frame| is_end(frame)).count();
                    ends == streams.len()
                });
                assert!(all_end, "not all calls were answered: {:?}", self.frames.last());
                streams.clear();
                self.frames.clear();
                self.data.clear();
            }
        }
    }

    /// An unused stream.
    pub fn new_stream(&mut self) -> u32 {
        self.next_stream += 2;
        self.next_stream - 2
    }

    /// Reads and answers for so long.
    pub fn read_for(&mut self, time: Duration) {
        self.read_until(time, |_| false);
    }

    /// Reads all that is there, also of a connection that does not take anything any more, until
    /// nothing comes for so long or the server closes.
    pub fn read_rest(&mut self, quiet: Duration) {
        self.is_closed = false;
        while self.read(quiet) > 0 {}
    }

    /// Reads and answers until something is so; whether it was within the time.
    pub fn read_until(&mut self, limit: Duration, mut is_so: impl FnMut(&Self) -> bool) -> bool {
        let end = Instant::now() + limit;
        while !is_so(self) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_closed {
                return is_so(self);
            }
            self.read(left);
        }
        true
    }

    /// Whether a stream has ended: by trailers, by RST_STREAM, or with its connection.
    pub fn has_ended(&self, stream: u32) -> bool {
        self.is_closed || self.frames.iter().any(|frame| frame.stream == stream && is_end(frame))
    }

    /// Whether a stream has ended as gRPC wants it.
    pub fn has_trailers(&self, stream: u32) -> bool {
        let mut ends = self.frames.iter().filter(|it| it.stream == stream && is_end(it));
        ends.next().is_some_and(|frame| frame.kind == HEADERS)
    }

    /// Why the server has closed the connection, if it has said that.
    pub fn goaway(&self) -> Option<u32> {
        let goaway = self.frames.iter().rfind(|frame| frame.kind == GOAWAY)?;
        Some(u32::from_be_bytes(*goaway.payload[4..].first_chunk()?))
    }

    /// Whether the server has sent a frame of this kind.
    pub fn has(&self, kind: u8) -> bool {
        self.frames.iter().any(|frame| frame.kind == kind)
    }

    /// The messages that came on a stream.
    pub fn messages<M: Message + Default>(&self, stream: u32) -> Vec<M> {
        let mut rest = self.data.get(&stream).map(Vec::as_slice).unwrap_or_default();
        let mut messages = Vec::new();
        while let Some((prefix, message)) = rest.split_first_chunk::<5>() {
            let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
            let Some((message, more)) = message.split_at_checked(length) else { break };
            messages.push(M::decode(message).expect("a message"));
            rest = more;
        }
        messages
    }

    /// Reads once, for at most so long; how many bytes.
    pub fn read(&mut self, limit: Duration) -> usize {
        let mut buffer = [0; 1 << 16];
        self.socket.set_read_timeout(limit);
        let read = match self.socket.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if is_wait(&error) => return 0,
            Err(_) => 0,
        };
        self.is_closed |= read == 0;
        self.inbox.extend(&buffer[..read]);
        let inbox = std::mem::take(&mut self.inbox);
        let mut rest = &inbox[..];
        while let Some((frame, more)) = first_frame(rest) {
            rest = more;
            self.take(frame);
        }
        self.inbox = rest.to_vec();
        read
    }

    fn take(&mut self, came: Frame) {
        if self.answers && came.flags & ACK == 0 {
            match came.kind {
                PING => self.answer(&frame(PING, ACK, 0, &came.payload)),
                SETTINGS => self.answer(&frame(SETTINGS, ACK, 0, &[])),
                _ => {}
            }
        }
        if came.kind == DATA {
            self.data.entry(came.stream).or_default().extend(&came.payload);
        } else {
            self.frames.push(came);
        }
    }

    fn answer(&mut self, frame: &[u8]) {
        if self.outbox.is_empty() {
            self.send(frame);
        } else {
            // It must not go into the middle of another.
            self.outbox.extend(frame);
        }
    }

    /// A thread that throws away all that comes, until the connection ends.
    pub fn discard(&mut self) {
        self.socket.discard();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A second handle may be read by another thread.
        self.socket.shutdown();
    }
}

/// The frames of a call with its first message.
pub fn opening(
    stream: u32,
    path: &str,
    more: &[(&str, &str)],
    first: &impl Message,
    flags: u8,
) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, stream, &headers(path, more));
    let first = framed(first);
    // No frame may have more than 16 KiB unless the other side says so.
    let mut chunks = first.chunks(1 << 14).peekable();
    let mut bytes = head;
    while let Some(chunk) = chunks.next() {
        let flags = if chunks.peek().is_none() { flags } else { 0 };
        bytes.extend(frame(DATA, flags, stream, chunk));
    }
    bytes
}

fn is_end(frame: &Frame) -> bool {
    match frame.kind {
        HEADERS => frame.flags & END_STREAM != 0,
        RST_STREAM => true,
        _ => false,
    }
}

fn is_wait(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

fn first_frame(bytes: &[u8]) -> Option<(Frame, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let (payload, rest) = rest.split_at_checked(length)?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & LARGEST_WINDOW;
    Some((Frame { kind: head[3], flags: head[4], stream, payload: payload.to_vec() }, rest))
}

/// Attacks over several connections at a time, each as fast as it goes until then. A connection that
/// has ended is followed by another, a moment later: over a network that takes a while too.
///
/// Attackers have machines of their own. Here they have what server and honest users leave of this one:
/// else it would be seen how a machine does that has too few cores for all three.
pub fn attack_over(connections: usize, until: Instant, attack: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                rustix::process::nice(19).expect("a thread may take less");
                while Instant::now() < until {
                    attack();
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
    });
}

/// Keeps connections alive until then, and reads from each once at least: reads what comes, and answers.
pub fn stay(peers: &mut [Peer], until: Instant) {
    loop {
        for peer in &mut *peers {
            peer.read_for(Duration::from_millis(5));
        }
        if Instant::now() >= until {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
