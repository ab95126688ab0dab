//! The socket below TLS: what comes in is weighed against what was in it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The most that may come with nothing in it, in bytes: a handshake, certificates of the client
/// included, or records that are empty.
const MOST_BARREN: usize = 64 * 1024;

/// The largest record, in bytes: so much may have come of one that is not whole.
const RECORD: usize = 16 * 1024 + 2048;

/// What a byte costs that came beside what a client sends, in bytes of that: most are in the heads
/// of records, and small records are dear.
const EACH_BESIDE: usize = 8;

/// A socket that TLS reads and writes.
#[derive(Debug)]
pub struct Wire {
    /// None only while it moves to another thread.
    tcp: Option<TcpStream>,
    /// What came in and was not in what TLS has given out.
    beside: usize,
    /// Whether anything went out since that was asked last.
    has_sent: bool,
}

impl Wire {
    /// The wire of a connection that begins.
    pub fn new(tcp: TcpStream) -> Self {
        Self { tcp: Some(tcp), beside: 0, has_sent: false }
    }

    /// Takes the socket out.
    pub fn take(&mut self) -> Option<TcpStream> {
        self.tcp.take()
    }

    /// Goes on with a socket on the thread that calls it; what came until then counts no more.
    pub fn put(&mut self, tcp: TcpStream) {
        (self.tcp, self.beside) = (Some(tcp), 0);
    }

    /// Notes that so much was in what came; what the rest costs.
    pub fn gave(&mut self, bytes: usize) -> usize {
        self.beside = self.beside.saturating_sub(bytes);
        let over = self.beside.saturating_sub(RECORD);
        self.beside -= over;
        over * EACH_BESIDE
    }

    /// Whether anything went out since this was asked last.
    pub fn has_sent(&mut self) -> bool {
        std::mem::take(&mut self.has_sent)
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.tcp.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn sent(&mut self, outcome: &Poll<io::Result<usize>>) {
        self.has_sent |= matches!(outcome, Poll::Ready(Ok(1..)));
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.beside >= MOST_BARREN {
            let fault = "too much came with nothing in it";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)));
        }
        let before = buf.filled().len();
        ready!(this.stream()?.poll_read(cx, buf))?;
        this.beside += buf.filled().len() - before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = this.stream()?.poll_write(cx, bytes);
        this.sent(&outcome);
        outcome
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = this.stream()?.poll_write_vectored(cx, bytes);
        this.sent(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// Both ends of a connection.
    async fn ends() -> (TcpStream, Wire) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.expect("it listens"), Wire::new(accepted.expect("it came").0))
    }

    #[tokio::test]
    async fn what_has_nothing_in_it_comes_to_an_end() {
        let (mut client, mut wire) = ends().await;
        let mut piece = [0; 1024];
        for _ in 0..MOST_BARREN / piece.len() {
            client.write_all(&[0; 1024]).await.expect("it is taken");
            wire.read_exact(&mut piece).await.expect("it may come");
        }
        client.write_all(&[0]).await.expect("it is taken");
        let error = wire.read(&mut piece).await.expect_err("that was enough");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn what_comes_beside_costs_more_but_not_a_record_that_is_not_whole() {
        let (mut client, mut wire) = ends().await;
        let mut piece = [0; 1000];
        let mut costs = Vec::new();
        for round in 0..60 {
            client.write_all(&[0; 1000]).await.expect("it is taken");
            wire.read_exact(&mut piece).await.expect("it may come");
            // At first all of it, then half.
            costs.push(wire.gave(if round < 20 { 1000 } else { 500 }));
        }
        let total: usize = costs.iter().sum();
        assert_eq!(costs[..50].iter().sum::<usize>(), 0, "it may be one record");
        assert_eq!(total, (40 * 500 - RECORD) * EACH_BESIDE);
    }
}
