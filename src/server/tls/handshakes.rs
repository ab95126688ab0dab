//! Handshakes of TLS: they are bounded in number, bytes and time, and run beside the threads that
//! serve.

use super::{Stream, Tls, certificate, reading::ALPN, wire::Wire};
use crate::{
    identity::Certificate,
    server::{
        accept::Admitted,
        http2::{self, linger},
    },
};
use std::{collections::VecDeque, io, sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender},
    task::AbortHandle,
    time::timeout_at,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The most of what is written that TLS holds until the socket takes it, in bytes.
const BEHIND: usize = 32 * 1024;

/// What every record of a handshake begins with.
const HANDSHAKE: u8 = 22;

/// What a client gets that speaks without TLS where it is needed.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
    connection: close\r\n\r\nThis is sessiond: it speaks gRPC over HTTP/2 with TLS. \
    Try: grpcurl -cacert <file> <address> list\n";

/// What somebody gets whose TLS does not name HTTP/2.
const NOT_H2: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
    connection: close\r\n\r\nThis is sessiond: it speaks gRPC over HTTP/2. Name h2 in the \
    handshake (ALPN).\n";

/// A connection with which a handshake was made, on its way to the thread that serves it.
#[derive(Debug)]
pub struct Secured {
    tls: Box<TlsStream<Wire>>,
    /// The certificate of the client, if it has shown one; it is verified.
    pub certificate: Option<Arc<Certificate>>,
}

impl Secured {
    /// Goes on with the socket on the thread that calls it.
    pub fn resume(mut self, tcp: TcpStream) -> Stream {
        self.tls.get_mut().0.put(tcp);
        Stream::Tls(self.tls)
    }
}

/// Makes the handshakes of one thread.
#[derive(Debug)]
pub struct Handshakes {
    pub tls: Arc<Tls>,
    /// The most at a time; over it the one that takes longest makes room.
    pub most: usize,
    /// The longest that one may take.
    pub time: Duration,
    /// When nothing comes for so long, the client is not there.
    pub dead: Duration,
    pub stopping: CancellationToken,
    pub tracker: TaskTracker,
    /// The threads that serve.
    pub workers: Vec<UnboundedSender<Admitted>>,
}

impl Handshakes {
    /// Shakes hands with those that come in, until none comes any more.
    pub async fn work(self: Arc<Self>, mut sockets: UnboundedReceiver<Admitted>) {
        let mut running: VecDeque<AbortHandle> = VecDeque::new();
        let mut next = 0;
        while let Some(admitted) = sockets.recv().await {
            if running.len() >= self.most {
                running.retain(|it| !it.is_finished());
            }
            if running.len() >= self.most
                && let Some(longest) = running.pop_front()
            {
                tracing::debug!("a handshake makes room for the next");
                longest.abort();
            }
            next = (next + 1) % self.workers.len().max(1);
            let worker = self.workers.get(next).cloned();
            let task = self.tracker.spawn(self.clone().admit(admitted, worker));
            running.push_back(task.abort_handle());
        }
    }

    async fn admit(self: Arc<Self>, admitted: Admitted, worker: Option<UnboundedSender<Admitted>>) {
        let Admitted { socket, ip, stay, began, secured: _ } = admitted;
        let deadline = (began + self.time).into();
        let outcome = tokio::select! {
            outcome = timeout_at(deadline, self.shake_hands(socket)) => {
                outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }
            () = self.stopping.cancelled() => return,
            () = stay.crowded() => return,
        };
        match outcome {
            Ok((socket, secured)) => {
                let secured = Some(secured);
                let admitted = Admitted { socket, ip, stay, began, secured };
                worker.map(|worker| worker.send(admitted));
            }
            // A client that only looks whether somebody listens says nothing.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                tracing::debug!(%ip, "a client went away in its handshake");
            }
            // It is written once a minute, however many there are.
            Err(error) => tracing::warn!(%ip, %error, "a handshake failed"),
        }
    }

    /// Shakes hands; the socket is then free to go to another thread.
    async fn shake_hands(
        &self,
        socket: std::net::TcpStream,
    ) -> io::Result<(std::net::TcpStream, Secured)> {
        let mut socket = TcpStream::from_std(socket)?;
        http2::prepare(&socket, self.dead)?;
        let mut first = [0];
        if socket.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first != [HANDSHAKE] {
            socket.write_all(NOT_TLS).await?;
            linger(Stream::Plain(socket), false).await;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks without TLS"));
        }
        let acceptor = TlsAcceptor::from(self.tls.current());
        let narrow = |session: &mut rustls::ServerConnection| {
            session.set_buffer_limit(Some(BEHIND));
        };
        let accepting = acceptor.accept_with(Wire::new(socket), narrow).into_fallible();
        let mut tls = match accepting.await {
            Ok(tls) => tls,
            Err((error, mut wire)) => {
                // The alert says why: it must arrive.
                if let Some(socket) = wire.take() {
                    linger(Stream::Plain(socket), false).await;
                }
                return Err(error);
            }
        };
        if tls.get_ref().1.alpn_protocol() != Some(ALPN) {
            tls.write_all(NOT_H2).await?;
            linger(Stream::Tls(Box::new(tls)), false).await;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not name h2"));
        }
        // What is left of the handshake goes out from here: the worker writes only what it has.
        tls.flush().await?;
        let leaf = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = leaf.map(certificate::read).transpose().map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("a client certificate: {error}"))
        })?;
        let socket = tls.get_mut().0.take().ok_or(io::ErrorKind::NotConnected)?.into_std()?;
        let certificate = certificate.map(Arc::new);
        Ok((socket, Secured { tls: Box::new(tls), certificate }))
    }
}
