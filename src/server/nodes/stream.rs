//! A stream that is sent on: what its client sends goes up to the other node, and what that sends comes
//! down, each as fast as the slower of both sides takes it.

use super::{
    failure::{self, Failure},
    link::Sent,
    messages::{Down, Up},
};
use crate::{
    engine::End,
    grpc::{
        self, NODE_METADATA,
        delivery::{
            self, CallHead,
            ending::{Ending, Why},
            hot::{HotStream, Next},
        },
    },
    session::limits::{Micros, SECOND},
};
use bytes::Bytes;
use h2::{RecvStream, SendStream, client::ResponseFuture};
use http::{HeaderMap, HeaderValue, StatusCode};
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

/// How long the other node has to end a stream whose deadline has passed, as it says how it stands.
const DEADLINE_GRACE: Micros = SECOND / 4;

/// How long a client that has stopped to read has for the last message of a stream that is over.
const LAST_WORD: Micros = 5 * SECOND;

type Begin = Pin<Box<dyn Future<Output = Result<Sent, Failure>> + Send>>;

type Alarm = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A stream that another node answers.
pub struct Forwarded {
    server: Arc<grpc::Context>,
    worker: usize,
    deadline: Micros,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    state: State,
    up: Up,
    is_closed: bool,
    down: Down,
    /// What went up, until something comes down: it may be sent to another node.
    kept: Option<Vec<Bytes>>,
    most_kept: usize,
    /// Nothing of it was done.
    is_undone: bool,
    /// Leaves the other node alone for a while.
    shun: Box<dyn Fn() + Send>,
    /// Something went on since it was last looked whether the server stops.
    has_moved: bool,
    /// Whom a stop wakes.
    woken: Option<Waker>,
    alarm: Option<(Micros, Alarm)>,
}

enum State {
    /// There is no connection yet.
    Beginning(Begin),
    Open(Open),
    /// The other node has said all, or is gone. What came of it before may wait for the client.
    Over(Status),
}

/// A stream of a connection. Dropped, it is reset, so the other node hears that its client is gone.
struct Open {
    /// Until the head of the answer is there.
    response: Option<ResponseFuture>,
    /// None = all was sent.
    send: Option<SendStream<Bytes>>,
    receive: Option<RecvStream>,
    node: Option<HeaderValue>,
}

impl fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarded")
            .field("up", &self.up)
            .field("down", &self.down)
            .finish_non_exhaustive()
    }
}

impl Forwarded {
    /// The stream of a call; `begin` sends its head, or is the end of it. `shun` is called if the other
    /// node does not take this one for a node.
    pub fn new(
        server: Arc<grpc::Context>,
        head: &CallHead,
        begin: Result<impl Future<Output = Result<Sent, Failure>> + Send + 'static, Status>,
        shun: Box<dyn Fn() + Send>,
    ) -> Self {
        let most = delivery::most_bytes(&server, &head.path);
        let state = match begin {
            Ok(begin) => State::Beginning(Box::pin(begin)),
            Err(status) => State::Over(status),
        };
        Self {
            worker: head.seat.worker,
            deadline: head.deadline.unwrap_or(Micros::MAX),
            stopping: Box::pin(server.stopping.clone().cancelled_owned()),
            server,
            state,
            up: Up::new(most),
            is_closed: false,
            down: Down::default(),
            kept: Some(Vec::new()),
            most_kept: delivery::window(&head.path) as usize,
            is_undone: false,
            shun,
            has_moved: false,
            woken: None,
            alarm: None,
        }
    }

    /// What the client sent, if the stream has ended without anything being done: another node may be
    /// sent it. Whether the client has closed its side is known to the caller that has said so.
    pub fn take_back(&mut self) -> Option<Vec<Bytes>> {
        let kept = self.kept.take().filter(|_| self.is_undone);
        kept.map(|mut kept| {
            self.up.let_go();
            while let Some(count) = self.up.front() {
                kept.push(self.up.take(count));
            }
            kept
        })
    }

    fn fail(&mut self, failure: &Failure) {
        if let Failure::Lost(why) = failure {
            tracing::debug!(why, "a stream that was sent on was lost");
        }
        if let Failure::Stranger = failure {
            (self.shun)();
        }
        self.is_undone = matches!(failure, Failure::NotDone(_) | Failure::Stranger);
        self.state = State::Over(failure.status(&self.server, true));
    }

    /// Takes what the other node says into its status, and in the trailers who it is: the head of the
    /// stream was sent before that was known.
    fn over(&mut self, trailers: &HeaderMap, node: Option<HeaderValue>) {
        let mut status = match failure::ended(trailers) {
            Ok(status) => status,
            Err(failure) => return self.fail(&failure),
        };
        if let Some(node) = node {
            status.metadata_mut().as_mut().insert(NODE_METADATA, node);
        }
        self.state = State::Over(status);
    }

    /// Goes on with all that can go on.
    fn go_on(&mut self, cx: &mut Context<'_>) {
        if let State::Beginning(begin) = &mut self.state {
            match begin.as_mut().poll(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok((response, send))) => {
                    let (response, send) = (Some(response), Some(send));
                    self.state = State::Open(Open { response, send, receive: None, node: None });
                }
                Poll::Ready(Err(failure)) => return self.fail(&failure),
            }
        }
        let failed = self.send(cx).err();
        // What comes down before a fault says more of it.
        if let Poll::Ready(Err(failure)) = self.receive(cx) {
            return self.fail(&failure);
        }
        if let (Some(failure), State::Open(_)) = (failed, &self.state) {
            self.fail(&failure);
        }
    }

    /// Sends up what the other node takes.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        let State::Open(open) = &mut self.state else { return Ok(()) };
        let is_answered = open.response.is_none();
        let failure = |error: h2::Error| Failure::of(&error, is_answered);
        let Some(send) = &mut open.send else { return Ok(()) };
        while let Some(front) = self.up.front() {
            send.reserve_capacity(front);
            let count = match send.capacity() {
                0 => match send.poll_capacity(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Some(Ok(0))) => continue,
                    Poll::Ready(Some(Ok(count))) => count,
                    Poll::Ready(Some(Err(error))) => return Err(failure(error)),
                    // The other node wants no more: its end says why.
                    Poll::Ready(None) => {
                        open.send = None;
                        return Ok(());
                    }
                },
                count => count,
            };
            self.has_moved = true;
            let piece = self.up.take(count);
            if let Some(kept) = &mut self.kept {
                kept.push(piece.clone());
                let bytes: usize = kept.iter().map(Bytes::len).sum();
                if bytes > self.most_kept {
                    self.kept = None;
                }
            }
            let is_last = self.is_closed && self.up.front().is_none();
            send.send_data(piece, is_last).map_err(failure)?;
            if is_last {
                open.send = None;
                return Ok(());
            }
        }
        if self.is_closed {
            send.send_data(Bytes::new(), true).map_err(failure)?;
            open.send = None;
        }
        Ok(())
    }

    /// Takes in what has come down, which is no more than its window.
    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let State::Open(open) = &mut self.state else { return Poll::Pending };
        if let Some(response) = &mut open.response {
            let answer = match Pin::new(response).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(answer) => answer.map_err(|error| Failure::of(&error, false))?,
            };
            open.response = None;
            let (head, body) = answer.into_parts();
            if head.status != StatusCode::OK {
                let why = format!("the node answered with {}", head.status);
                return Poll::Ready(Err(Failure::Lost(why)));
            }
            open.node = head.headers.get(NODE_METADATA).cloned();
            if body.is_end_stream() {
                let node = open.node.take();
                self.over(&head.headers, node);
                return Poll::Pending;
            }
            open.receive = Some(body);
        }
        let Some(receive) = &mut open.receive else { return Poll::Pending };
        loop {
            match receive.poll_data(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(data))) => {
                    // It was taken up: no other node may be asked.
                    self.kept = None;
                    self.has_moved = true;
                    self.down.push(data);
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(Failure::of(&error, true)));
                }
                Poll::Ready(None) => break,
            }
        }
        match receive.poll_trailers(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(trailers)) => {
                let node = open.node.take();
                self.over(&trailers.unwrap_or_default(), node);
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(Failure::of(&error, true))),
        }
    }

    /// Lets the other node send as much more as was taken.
    fn grant(&mut self) {
        let granted = self.down.grant();
        if let State::Open(Open { receive: Some(receive), .. }) = &mut self.state
            && granted > 0
        {
            // It fails only where the stream is over.
            let _ = receive.flow_control().release_capacity(granted);
        }
    }

    /// Waits for the end that comes from here: the server stops, or the other node lets the deadline
    /// pass.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if self.poll_stop(cx).is_ready() {
            return Poll::Ready(Ending::new(&self.server, End::Draining.into()).status);
        }
        let at = self.deadline.saturating_add(DEADLINE_GRACE);
        if self.is_due(at, cx) {
            return Poll::Ready(Ending::new(&self.server, Why::Deadline).status);
        }
        Poll::Pending
    }

    /// Waits until the server stops. Where something else explains why the task was woken this takes no
    /// lock: all streams would share it.
    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_armed = self.woken.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        let has_moved = std::mem::take(&mut self.has_moved);
        if is_armed && has_moved && !self.server.engine.is_draining() {
            return Poll::Pending;
        }
        self.woken = Some(cx.waker().clone());
        self.stopping.as_mut().poll(cx)
    }

    /// Whether it is so late; if not, the task is woken then.
    fn is_due(&mut self, at: Micros, cx: &mut Context<'_>) -> bool {
        if at == Micros::MAX {
            return false;
        }
        if self.alarm.as_ref().is_none_or(|(set, _)| *set != at) {
            let (engine, worker) = (self.server.engine.clone(), self.worker);
            let alarm = Box::pin(async move { engine.sleep_until(worker, at).await });
            self.alarm = Some((at, alarm));
        }
        let due = self.alarm.as_mut().is_some_and(|(_, alarm)| alarm.as_mut().poll(cx).is_ready());
        if due {
            self.alarm = None;
        }
        due
    }
}

impl HotStream for Forwarded {
    fn take_in(&mut self, data: Bytes) {
        if !matches!(self.state, State::Over(_)) {
            self.up.push(data);
        }
    }

    fn closed(&mut self) {
        self.is_closed = true;
        self.up.let_go();
    }

    fn waiting(&self) -> usize {
        self.up.len()
    }

    fn is_full(&self) -> bool {
        self.up.ready() > 0
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        self.go_on(cx);
        loop {
            let next = self.down.next();
            self.grant();
            if let Some(message) = next {
                return Poll::Ready(Next::Message(message));
            }
            if let State::Over(status) = &self.state {
                return Poll::Ready(Next::End(status.clone()));
            }
            if let Poll::Ready(status) = self.poll_end(cx) {
                self.state = State::Over(status);
                continue;
            }
            return Poll::Pending;
        }
    }

    fn poll_over(&mut self, blocked_since: Micros, cx: &mut Context<'_>) -> Poll<Status> {
        self.go_on(cx);
        if let State::Over(status) = &self.state {
            let status = status.clone();
            // What was said last may still be on its way.
            let is_due = self.is_due(blocked_since.saturating_add(LAST_WORD), cx);
            return if is_due { Poll::Ready(status) } else { Poll::Pending };
        }
        let slow_at = blocked_since.saturating_add(self.server.streams.slow_limit);
        if self.deadline > slow_at && self.is_due(slow_at, cx) {
            self.server.engine.counters().slow_streams.count();
            let status = Ending::new(&self.server, Why::Slow).status;
            self.state = State::Over(status.clone());
            return Poll::Ready(status);
        }
        if self.deadline <= slow_at {
            return self.poll_end(cx);
        }
        // The alarm is set for the other moment.
        let status = |()| Ending::new(&self.server, End::Draining.into()).status;
        self.stopping.as_mut().poll(cx).map(status)
    }
}
