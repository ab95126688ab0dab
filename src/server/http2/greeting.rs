//! How a connection begins: what its client says first, and what it is served with.

use super::{
    Driver, Limits,
    account::Piece,
    socket::{PREFACE, Socket, linger},
};
use crate::{
    engine::Peer,
    grpc::delivery::{self, Seat},
    identity::{Certificate, Shown},
    server::{
        census::Stay,
        forwarded::Forwarders,
        nodes::{self, Door},
        router::Router,
        tls::Stream,
    },
};
use h2::server::Builder;
use socket2::SockRef;
use std::{
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep_until, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What a client gets that speaks something else.
const NOT_HTTP2: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
    connection: close\r\n\r\nThis is sessiond: it speaks gRPC over HTTP/2 without TLS. \
    Try: grpcurl -plaintext <address> list\n";

/// How much a connection may send before it is granted more: small frames are charged 256 bytes each
/// until they are read, so connections get far more than streams.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// The most of a stream that waits for the socket: what is in there can no longer be conflated.
const SEND_BUFFER: usize = 64 * 1024;

/// The most that waits in the socket for the line: what is in there can no longer be conflated, and
/// is the kernel's memory. What is on the line comes on top.
#[cfg(target_os = "linux")]
const SOCKET_BUFFER: u32 = 128 * 1024;

/// Bytes of the headers of one call.
const HEADERS: u32 = 16 * 1024;

/// What a connection is served with.
pub struct Setup<'a> {
    pub router: &'a Arc<Router>,
    pub tracker: &'a TaskTracker,
    pub stopping: &'a CancellationToken,
    pub limits: Limits,
    pub seat: Seat,
    pub ip: IpAddr,
    /// Whose headers say where the caller of each call is; none = the caller is where the connection
    /// comes from.
    pub forwarders: Option<Forwarders>,
    /// When the connection was accepted.
    pub began: Instant,
    /// What the client has shown in its handshake.
    pub certificate: Option<Arc<Certificate>>,
    /// Whom the connection is from, at the port of nodes; none = a client.
    pub door: Option<Arc<Door>>,
}

/// Sets what holds for every socket of a client; `dead` is as in [`Limits`].
pub fn prepare(socket: &TcpStream, dead: Duration) -> io::Result<()> {
    socket.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        let socket = SockRef::from(socket);
        socket.set_tcp_user_timeout(Some(dead))?;
        socket.set_tcp_notsent_lowat(SOCKET_BUFFER)?;
    }
    Ok(())
}

/// Greets a client; returns the task of its connection, which is small where this is not.
pub async fn greet(setup: Setup<'_>, mut socket: Stream, stay: Arc<Stay>) -> io::Result<Driver> {
    let Setup { router, tracker, stopping, limits, seat, ip, forwarders, began, certificate, door } =
        setup;
    if let Stream::Plain(socket) = &socket {
        prepare(socket, limits.dead)?;
    }
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let deadline = (began + limits.handshake).into();
    let greeting = async {
        tokio::select! {
            preface = timeout_at(deadline, expect_preface(&mut socket)) => preface.map_err(late)?,
            () = stopping.cancelled() => Err(io::ErrorKind::ConnectionAborted.into()),
            () = stay.crowded() => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    };
    if let Err(error) = greeting.await {
        if !stay.is_crowded() {
            linger(socket, false).await;
        }
        return Err(error);
    }
    let pulse = stay.pulse().clone();
    let is_trusted = door.as_ref().map(|door| door.is_trusted()).unwrap_or_default();
    let socket = Socket::new(socket, pulse.clone(), stay.clone(), tracker.clone(), is_trusted);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .initial_window_size(delivery::WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(HEADERS);
    if door.is_some() {
        nodes::widen(&mut builder);
    }
    let handshake = timeout_at(deadline, builder.handshake::<_, Piece>(socket));
    let connection = handshake.await.map_err(late)?.map_err(io::Error::other)?;
    Ok(Driver {
        pings: None,
        asked_at: None,
        connection,
        router: router.clone(),
        limits,
        seat,
        peer: Peer::from(ip),
        forwarders,
        certificate,
        shown: Shown::default(),
        door,
        stream_window: delivery::WINDOW,
        stay,
        pulse,
        began,
        greeted: false,
        knows_task: false,
        stopping_since: None,
        closing_since: None,
        alarm: Box::pin(sleep_until(began.into())),
        alarm_at: began,
    })
}

/// Reads the preface of HTTP/2; a client that sends something else learns what this is.
async fn expect_preface(socket: &mut Stream) -> io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    let mut read = 0;
    while read < preface.len() {
        let more = socket.read(&mut preface[read..]).await?;
        read += more;
        if more == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no HTTP/2 preface"));
        }
        if preface[..read] != PREFACE[..read] {
            socket.write_all(NOT_HTTP2).await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP/2"));
        }
    }
    Ok(())
}
