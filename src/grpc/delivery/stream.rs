//! The one engine of all streams. A stream carries any number of sessions; calls differ in how they
//! open, in what comes up, and in what a message down looks like. What every stream owes is here: it
//! opens before anything else is read, it says that it is alive, it ends by age, silence, drain and
//! what happens in its sessions, and its last message says why.

use super::{
    Seat, Server,
    ending::{Ending, Why},
    feeds::{Feeds, Round},
    hot::{HotStream, Next},
    timer::{Due, Timer},
};
use crate::grpc::{error::Refusal, status::about::About};
use crate::{engine::Peer, session::limits::Micros};
use bytes::Bytes;
use http::HeaderMap;
use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};
use tonic::Status;

/// What is one call's own.
pub trait Call: Sized + Send + Unpin + 'static {
    /// A stream that may carry several sessions ends with the last of them.
    const ENDS_WITH_LAST: bool = false;

    /// Opens with the first message. A stream that is given up until it is open has done nothing:
    /// what is waited for comes before what is done.
    fn open(
        opening: Opening,
        message: Bytes,
    ) -> impl Future<Output = Result<(Self, Feeds), Refusal>> + Send + 'static;

    /// What the first message is about, for the refusal of it.
    fn about(_: Bytes) -> About {
        About::default()
    }

    /// The stream ends if no message comes up for so long.
    fn silence(&self) -> Option<Micros> {
        None
    }

    /// A later message. A refusal ends the stream.
    fn receive(&mut self, _: &Server, _: &mut Feeds, _: Bytes) -> Result<(), Refusal> {
        Err(Refusal::Malformed("the call takes one message".to_owned()))
    }

    /// Whether so much is still to be said that nothing more should be taken in before it is.
    fn is_full(&self) -> bool {
        false
    }

    /// The client has closed its sending side.
    fn closed(&mut self) {}

    /// What an empty request is refused with.
    fn none_came() -> Refusal {
        Refusal::Malformed("the call takes one message, and none came".to_owned())
    }

    /// What a refusal ends the stream with, whether it was open or not.
    fn status(_: Option<&Self>, server: &Server, refusal: &Refusal, about: &About) -> Status {
        server.node.status_about(refusal, about)
    }

    /// Does what is due by itself, before the sessions are asked; returns what is to be said at once.
    fn tend(&mut self, _: &Server, _: &mut Moment<'_, '_>) -> Option<Next> {
        None
    }

    /// The next message: what the sessions say, in [`Feeds::updates`], with what is the call's own.
    /// None = there is nothing to say, which is so only where the occasion allows it.
    fn compose(&mut self, feeds: &mut Feeds, occasion: Occasion<'_>) -> Option<Bytes>;
}

/// What a call opens with.
#[derive(Debug)]
pub struct Opening {
    /// The server.
    pub server: Server,
    /// The metadata, which is not kept: a stream lives long.
    pub headers: HeaderMap,
    /// Where the call comes from.
    pub peer: Peer,
    /// Over which connection.
    pub seat: Seat,
}

/// A poll of a stream, as its call sees it.
#[derive(Debug)]
pub struct Moment<'a, 'w> {
    /// The sessions.
    pub feeds: &'a mut Feeds,
    /// What is due when.
    pub timer: &'a mut Timer,
    /// The task.
    pub cx: &'a mut Context<'w>,
}

/// Why a message is composed.
#[derive(Debug, Clone, Copy)]
pub enum Occasion<'a> {
    /// There is something to say, or a tick that was waited for is over.
    News,
    /// The stream is alive, and says so.
    Alive,
    /// The stream ends.
    End(&'a Ending),
}

/// The stream of one call.
pub struct Stream<C> {
    server: Server,
    seat: Seat,
    state: State<C>,
}

type Opened<C> = Pin<Box<dyn Future<Output = Result<(C, Feeds), Refusal>> + Send>>;

enum State<C> {
    /// No message has come.
    First(Opening),
    /// The first message is being dealt with; others came in the same piece with it.
    Opening(Opened<C>, Bytes, VecDeque<Bytes>),
    Open(Open<C>),
    /// The last message is out.
    Over(Status),
}

struct Open<C> {
    call: C,
    feeds: Feeds,
    timer: Timer,
}

impl<C: Call> Stream<C> {
    /// A stream that waits for its first message.
    pub fn new(opening: Opening) -> Self {
        Self { server: opening.server.clone(), seat: opening.seat, state: State::First(opening) }
    }

    fn call(&self) -> Option<&C> {
        match &self.state {
            State::Open(open) => Some(&open.call),
            _ => None,
        }
    }

    fn status(&self, refusal: &Refusal) -> Status {
        let about = match &self.state {
            State::Opening(_, first, _) => C::about(first.clone()),
            _ => About::default(),
        };
        C::status(self.call(), &self.server, refusal, &about)
    }

    /// Waits until the first message was dealt with.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let State::Opening(opened, _, messages) = &mut self.state else {
            return Poll::Ready(Ok(()));
        };
        let opened = ready!(opened.as_mut().poll(cx));
        let messages = std::mem::take(messages);
        let (call, feeds) = opened.map_err(|refusal| self.status(&refusal))?;
        let timer = Timer::new(&self.server, self.seat, call.silence());
        self.state = State::Open(Open { call, feeds, timer });
        Poll::Ready(messages.into_iter().try_for_each(|message| self.receive(message)))
    }
}

impl<C: Call> HotStream for Stream<C> {
    fn receive(&mut self, message: Bytes) -> Result<(), Status> {
        match &mut self.state {
            State::First(_) => {
                let over = State::Over(Status::cancelled("the stream did not open"));
                if let State::First(opening) = std::mem::replace(&mut self.state, over) {
                    let opened = Box::pin(C::open(opening, message.clone()));
                    self.state = State::Opening(opened, message, VecDeque::new());
                }
                // Most open at once. Who does not is polled again right after this.
                match self.poll_open(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(outcome) => outcome,
                    Poll::Pending => Ok(()),
                }
            }
            State::Opening(_, _, messages) => {
                messages.push_back(message);
                Ok(())
            }
            State::Open(Open { call, feeds, timer }) => {
                timer.heard();
                let outcome = call.receive(&self.server, feeds, message);
                outcome.map_err(|refusal| self.status(&refusal))
            }
            State::Over(_) => Ok(()),
        }
    }

    fn is_full(&self) -> bool {
        match &self.state {
            State::Opening(..) => true,
            State::Open(open) => open.call.is_full(),
            State::First(_) | State::Over(_) => false,
        }
    }

    fn closed(&mut self) -> Result<(), Status> {
        match &mut self.state {
            State::First(_) => Err(self.status(&C::none_came())),
            State::Open(open) => {
                open.call.closed();
                Ok(())
            }
            State::Opening(..) | State::Over(_) => Ok(()),
        }
    }

    fn unreadable(&mut self, refusal: &Refusal) -> Status {
        self.status(refusal)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let State::Opening(..) = self.state {
            if let Err(end) = ready!(self.poll_open(cx)) {
                return Poll::Ready(Next::End(end));
            }
            // What came in meanwhile can be read now.
            cx.waker().wake_by_ref();
        }
        match &mut self.state {
            State::Open(open) => {
                let (next, ended) = ready!(open.poll_next(&self.server, cx));
                if let Some(status) = ended {
                    self.state = State::Over(status);
                }
                Poll::Ready(next)
            }
            State::Over(status) => Poll::Ready(Next::End(status.clone())),
            State::First(_) | State::Opening(..) => Poll::Pending,
        }
    }
}

impl<C: Call> Open<C> {
    /// What comes next, and the status that it leads to if it is the last message.
    fn poll_next(&mut self, server: &Server, cx: &mut Context<'_>) -> Poll<(Next, Option<Status>)> {
        loop {
            let Self { call, feeds, timer } = self;
            timer.begin_poll();
            if let Some(next) = call.tend(server, &mut Moment { feeds, timer, cx }) {
                return Poll::Ready((next, None));
            }
            let occasion = match feeds.poll(timer, cx) {
                Poll::Ready(Round::Updates | Round::Quiet) => Occasion::News,
                Poll::Ready(Round::Alive) => Occasion::Alive,
                Poll::Ready(Round::Over(end)) => return Poll::Ready(self.end(server, end.into())),
                Poll::Pending => match timer.poll(cx) {
                    Poll::Ready(Due::Heartbeat) => {
                        feeds.beat();
                        continue;
                    }
                    Poll::Ready(Due::End(why)) => return Poll::Ready(self.end(server, why)),
                    Poll::Pending => return Poll::Pending,
                },
            };
            let last = if C::ENDS_WITH_LAST { feeds.take_last_ending() } else { None };
            let occasion = last.as_ref().map_or(occasion, Occasion::End);
            if let Some(message) = call.compose(feeds, occasion) {
                feeds.sent(timer);
                return Poll::Ready((Next::Message(message), last.map(|ending| ending.status)));
            }
        }
    }

    fn end(&mut self, server: &Server, why: Why) -> (Next, Option<Status>) {
        let ending = Ending::new(server, why);
        self.feeds.end(&ending);
        match self.call.compose(&mut self.feeds, Occasion::End(&ending)) {
            Some(last) => (Next::Message(last), Some(ending.status)),
            None => (Next::End(ending.status), None),
        }
    }
}
