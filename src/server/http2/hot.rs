//! Drives a hot stream: reads what comes up whether or not anything can go down, and sends what there
//! is whenever it can.

use super::{
    account::{Account, Unread},
    outbox::{Gone, Outbox},
};
use crate::{
    engine::Engine,
    grpc::delivery::hot::{HotStream, Next},
    server::census::StreamStay,
};
use h2::RecvStream;
use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};
use tokio::task::yield_now;

/// How many pieces of a request are read before others get their turn: more than a connection takes
/// in in one of its turns, so that no small frames pile up, which h2 ends the connection for.
const READS: usize = 1024;

/// The task of one stream; it is over when the stream is.
pub struct HotTask {
    engine: Engine,
    stream: Box<dyn HotStream>,
    /// None = the client has closed its side.
    request: Option<RecvStream>,
    /// What was read and the client was not granted again.
    ungranted: usize,
    unread: Unread,
    /// None = the stream is over.
    outbox: Option<Outbox>,
    _stay: Option<StreamStay>,
}

impl HotTask {
    /// Serves a stream.
    pub fn new(
        engine: Engine,
        stream: Box<dyn HotStream>,
        request: RecvStream,
        outbox: Outbox,
        (stay, account): (Option<StreamStay>, &Arc<Account>),
    ) -> Self {
        Self {
            engine,
            stream,
            request: Some(request),
            ungranted: 0,
            unread: Unread::new(account),
            outbox: Some(outbox),
            _stay: stay,
        }
    }

    /// Reads what has come in.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Gone> {
        for _ in 0..READS {
            let Some(request) = &mut self.request else { return Ok(()) };
            match request.poll_data(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Ok(data))) => {
                    self.ungranted += data.len();
                    self.stream.take_in(data);
                    self.grant();
                }
                Poll::Ready(Some(Err(_))) => return Err(Gone),
                Poll::Ready(None) => {
                    self.request = None;
                    self.stream.closed();
                }
            }
        }
        // More may be waiting: come back after what others have to do.
        let _ = pin!(yield_now()).poll(cx);
        Ok(())
    }

    /// Lets the client send more, unless the stream has no room for it.
    fn grant(&mut self) {
        let waiting = self.stream.waiting();
        self.unread.set(waiting);
        let Some(request) = &mut self.request else { return };
        let kept = if self.stream.is_full() { waiting } else { 0 };
        let granted = self.ungranted.saturating_sub(kept);
        if granted > 0 && request.flow_control().release_capacity(granted).is_ok() {
            self.ungranted -= granted;
        }
    }

    fn serve(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Gone> {
        self.read(cx)?;
        loop {
            let Some(outbox) = &mut self.outbox else { return Ok(Poll::Ready(())) };
            if self.request.is_none() && outbox.is_given_up(cx) {
                return Err(Gone);
            }
            let end = match outbox.poll_ready(cx) {
                Poll::Ready(outcome) => {
                    outcome?;
                    match self.stream.poll_next(cx) {
                        Poll::Pending => None,
                        Poll::Ready(Next::Message(message)) => {
                            outbox.push_shared(message);
                            continue;
                        }
                        Poll::Ready(Next::End(status)) => Some(status),
                    }
                }
                Poll::Pending => {
                    let since = outbox.blocked_since(|| self.engine.clock().now());
                    match self.stream.poll_over(since, cx) {
                        Poll::Pending => None,
                        Poll::Ready(status) => Some(status),
                    }
                }
            };
            let Some(status) = end else { break };
            if let Some(outbox) = self.outbox.take() {
                outbox.end(&status);
            }
        }
        self.grant();
        Ok(Poll::Pending)
    }
}

impl Future for HotTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().serve(cx).unwrap_or(Poll::Ready(()))
    }
}
