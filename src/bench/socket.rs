//! The generator's sockets. It shares the machine with the server that it measures, so most of them
//! are not watched by epoll: waking the generator for each message would cost the server's thread a
//! system call's worth of work per wake-up, and the generator more than reading the message.

use super::{
    Result,
    place::{Place, Secure},
    tally::Tally,
};
use std::{
    cell::RefCell,
    io::{self, Read, Write},
    mem,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{MissedTickBehavior, interval},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How often the sockets that are not watched are read.
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);

/// A connection whose bytes are counted, as they are on the wire.
#[derive(Debug)]
pub enum Socket {
    /// Without TLS.
    Plain(Line),
    /// With it.
    Tls(Box<TlsStream<Line>>),
}

/// What goes over the wire.
#[derive(Debug)]
pub struct Line {
    stream: Stream,
    tally: Arc<Tally>,
}

#[derive(Debug)]
enum Stream {
    /// Read as soon as something is there.
    Prompt(TcpStream),
    /// Read at the next drain.
    Drained(std::net::TcpStream, Rc<Drain>),
}

/// Those who wait for the next drain.
#[derive(Debug, Default)]
pub struct Drain(RefCell<Vec<Waker>>);

impl Drain {
    /// Wakes, every [`DRAIN_INTERVAL`], all that wait.
    pub async fn run(self: Rc<Self>) {
        let mut drains = interval(DRAIN_INTERVAL);
        drains.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            drains.tick().await;
            for waiting in mem::take(&mut *self.0.borrow_mut()) {
                waiting.wake();
            }
        }
    }

    /// The result of a call that does not block, or else to wait for the next drain.
    fn poll<T>(&self, context: &Context<'_>, result: io::Result<T>) -> Poll<io::Result<T>> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.0.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
            result => Poll::Ready(result),
        }
    }
}

impl Socket {
    /// Connects; read at once, or, given a drain, when that says so.
    pub async fn connect(
        place: impl Into<Place>,
        drain: Option<Rc<Drain>>,
        tally: Arc<Tally>,
    ) -> Result<Self> {
        let place = place.into();
        let stream = TcpStream::connect(place.next_address()).await?;
        stream.set_nodelay(true)?;
        let stream = match drain {
            None => Stream::Prompt(stream),
            Some(drain) => Stream::Drained(stream.into_std()?, drain),
        };
        let line = Line { stream, tally };
        Ok(match place.tls {
            None => Socket::Plain(line),
            Some(Secure { config, name }) => {
                Socket::Tls(Box::new(TlsConnector::from(config).connect(name, line).await?))
            }
        })
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(line) => Pin::new(line).poll_read(context, buffer),
            Socket::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(line) => Pin::new(line).poll_write(context, bytes),
            Socket::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(line) => Pin::new(line).poll_flush(context),
            Socket::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(line) => Pin::new(line).poll_shutdown(context),
            Socket::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match &mut self.stream {
            Stream::Prompt(stream) => ready!(Pin::new(stream).poll_read(context, buffer))?,
            Stream::Drained(stream, drain) => {
                let read = stream.read(buffer.initialize_unfilled());
                buffer.advance(ready!(drain.poll(context, read))?);
            }
        }
        self.tally.counts.lock().bytes_down += (buffer.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Prompt(stream) => ready!(Pin::new(stream).poll_write(context, bytes))?,
            Stream::Drained(stream, drain) => ready!(drain.poll(context, stream.write(bytes)))?,
        };
        self.tally.counts.lock().bytes_up += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = match &self.get_mut().stream {
            Stream::Prompt(stream) => {
                socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write)
            }
            Stream::Drained(stream, _) => stream.shutdown(std::net::Shutdown::Write),
        };
        Poll::Ready(done)
    }
}
