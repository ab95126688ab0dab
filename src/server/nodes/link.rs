//! One connection to another node.

use super::{failure::Failure, peers::NodeAddress, port::CONNECTION_WINDOW, trust::Trust};
use crate::{
    grpc::delivery,
    server::http2::{self, NODE_ANSWER, NODE_ASK},
};
use bytes::Bytes;
use h2::{
    Ping, PingPong, SendStream,
    client::{Builder, Connection, ResponseFuture, SendRequest},
};
use http::Request;
use rustls::pki_types::ServerName;
use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

/// How long a node has to be there, with TLS and the first answer.
const CONNECT: Duration = Duration::from_secs(2);

/// The most of a stream that waits for the socket.
const SEND_BUFFER: usize = 64 * 1024;

/// Bytes of the headers of an answer, or of the end of a stream: more than any has.
const HEADERS: u32 = 64 * 1024;

/// How many streams of a connection may have ended here and not be forgotten, as clients may give up
/// as many calls as they like.
const MOST_RESET: usize = 1_000_000;

/// How many streams a connection may have until the other node has said how many.
const FIRST_STREAMS: usize = 1_000_000;

/// After so many calls a connection makes room for another: it has numbers for 2^30.
const MOST_CALLS: u32 = 1 << 29;

/// A connection to another node. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Link {
    send: SendRequest<Bytes>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_over: AtomicBool,
    calls: AtomicU32,
}

/// A call that was sent: what comes back, and where its messages go.
pub type Sent = (ResponseFuture, SendStream<Bytes>);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Link {
    /// Connects to a node. The connection is driven on the thread that calls this.
    pub async fn connect(to: &NodeAddress, trust: &Trust) -> Result<Self, Failure> {
        let late = |_| Failure::from(io::Error::from(io::ErrorKind::TimedOut));
        timeout(CONNECT, Self::greet(to, trust)).await.map_err(late)?
    }

    async fn greet(to: &NodeAddress, trust: &Trust) -> Result<Self, Failure> {
        let tcp = TcpStream::connect(to.as_str()).await?;
        http2::prepare(&tcp, NODE_ASK + NODE_ANSWER)?;
        let socket: Box<dyn Io> = match trust.client() {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::try_from(to.host().to_owned()).map_err(Failure::not_done)?;
                Box::new(TlsConnector::from(config).connect(name, tcp).await?)
            }
        };
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(delivery::WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(FIRST_STREAMS)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(HEADERS)
            .max_concurrent_reset_streams(MOST_RESET)
            .max_local_error_reset_streams(None)
            .data_frame_budget(usize::MAX);
        let connection = builder.handshake::<_, Bytes>(socket).await;
        let (send, mut connection) = connection.map_err(Failure::not_done)?;
        let mut pings = connection.ping_pong().expect("it is taken once");
        {
            // A node that has stopped still has a kernel that accepts connections: the answer to a
            // ping shows that the node is there, and that it takes this one for a node.
            let mut ping = pin!(pings.ping(Ping::opaque()));
            let mut driven = pin!(&mut connection);
            let answered = poll_fn(|cx| {
                if driven.as_mut().poll(cx).is_ready() {
                    let gone = io::Error::from(io::ErrorKind::ConnectionReset);
                    return std::task::Poll::Ready(Err(Failure::from(gone)));
                }
                ping.as_mut().poll(cx).map_err(Failure::not_done)
            });
            answered.await?;
        }
        let state = Arc::new(State::default());
        tokio::spawn(drive(connection, pings, state.clone(), to.clone()));
        Ok(Self { send, state })
    }

    /// Whether a call may be sent over it.
    pub fn is_usable(&self) -> bool {
        !self.state.is_over.load(Relaxed) && self.state.calls.load(Relaxed) < MOST_CALLS
    }

    /// Sends the head of a call. It fails where the connection takes no more calls, as its node leaves
    /// it, although those that have begun go on.
    pub async fn send(self, request: Request<()>) -> Result<Sent, Failure> {
        let Self { send, state } = self;
        state.calls.fetch_add(1, Relaxed);
        let sent = match send.ready().await {
            Ok(mut send) => send.send_request(request, false),
            Err(error) => Err(error),
        };
        sent.map_err(|error| {
            state.is_over.store(true, Relaxed);
            Failure::not_done(error)
        })
    }
}

/// Drives a connection until it is over, or its node does not answer any more. Its streams end with it.
async fn drive(
    mut connection: Connection<Box<dyn Io>, Bytes>,
    pings: PingPong,
    state: Arc<State>,
    to: NodeAddress,
) {
    let outcome = tokio::select! {
        ended = &mut connection => ended.map_err(|error| error.to_string()),
        why = unanswered(pings) => Err(why),
    };
    state.is_over.store(true, Relaxed);
    if let Err(error) = outcome {
        tracing::warn!(node = %to, error, "the connection to a node was lost");
    }
}

/// Asks the node again and again whether it is there; returns when it is not.
async fn unanswered(mut pings: PingPong) -> String {
    loop {
        sleep(NODE_ASK).await;
        match timeout(NODE_ANSWER, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "it does not answer".to_owned(),
        }
    }
}
