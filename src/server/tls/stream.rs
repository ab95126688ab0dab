//! What HTTP/2 reads and writes: a socket, with TLS or without.

use super::wire::Wire;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// A socket.
#[derive(Debug)]
pub enum Stream {
    /// What goes over it can be read by anybody who sees it.
    Plain(TcpStream),
    /// A handshake of TLS is over.
    Tls(Box<TlsStream<Wire>>),
}

impl Stream {
    /// Notes that so many bytes were read; what TLS costs beside them, in bytes that cost as much.
    pub fn took(&mut self, bytes: usize) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(tls) => tls.get_mut().0.gave(bytes),
        }
    }

    /// Whether something of what was written waits for the socket, although the writing has ended.
    pub fn is_behind(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.get_ref().1.wants_write(),
        }
    }

    /// Whether some of what waits went out since this was asked last.
    pub fn has_moved(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.get_mut().0.has_sent(),
        }
    }

    /// The socket, and what must still go over it: what was written and waits, and that nothing
    /// more comes.
    pub fn into_parts(self) -> Option<(TcpStream, Vec<u8>)> {
        match self {
            Self::Plain(tcp) => Some((tcp, Vec::new())),
            Self::Tls(tls) => {
                let (mut wire, mut session) = tls.into_inner();
                session.send_close_notify();
                let mut rest = Vec::new();
                while session.wants_write() {
                    session.write_tls(&mut rest).ok()?;
                }
                Some((wire.take()?, rest))
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
