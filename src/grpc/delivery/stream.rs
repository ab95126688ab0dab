//! The one engine of all streams. A stream carries any number of sessions; calls differ in how they
//! open, in what comes up, and in what a message down looks like. What every stream owes is here: it
//! opens before anything else is read, it says that it is alive, it ends by age, silence, drain and
//! what happens in its sessions, and its last message says why.

use super::{
    Seat, Server,
    credential::Watch,
    ending::{Ending, Why},
    feeds::{Feeds, Round},
    hot::{HotStream, Next},
    inbox::{Framing, Inbox},
    timer::{Bell, Due, Timer, wait},
};
use crate::grpc::{apps::AppStream, caller::Caller, error::Refusal, status::about::About};
use crate::{
    engine::{End, Peer},
    identity::Grant,
    session::limits::{Micros, SECOND},
};
use bytes::Bytes;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

/// What is one call's own.
pub trait Call: Sized + Send + Unpin + 'static {
    /// A stream that may carry several sessions ends with the last of them.
    const ENDS_WITH_LAST: bool = false;

    /// A backend's stream, which is counted apart.
    const IS_GATEWAY: bool = false;

    /// Opens with the first message. A stream that is given up until it is open has done nothing:
    /// what is waited for comes before what is done.
    fn open(
        opening: Opening,
        message: Bytes,
    ) -> impl Future<Output = Result<Begun<Self>, Refusal>> + Send + 'static;

    /// What the first message is about, for the refusal of it.
    fn about(_: Bytes) -> About {
        About::default()
    }

    /// The stream ends if no message comes up for so long.
    fn silence(&self) -> Option<Micros> {
        None
    }

    /// The credential that came up since this was asked last.
    fn renewed(&mut self) -> Option<Arc<Grant>> {
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

    /// Goes on with a message that waits for something else than the client, which the stream is
    /// full with; returns whether it was dealt with.
    fn go_on(&mut self, _: &Server, _: &mut Feeds, _: &mut Context<'_>) -> bool {
        false
    }

    /// Why the stream ends by itself.
    fn ends(&self) -> Option<Why> {
        None
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

    /// Does what is due by itself, whether or not anything can be said.
    fn act(&mut self, _: &Server, _: &mut Moment<'_, '_>) {}

    /// The same where something can be said, before the sessions are asked; returns what is to be
    /// said at once.
    fn tend(&mut self, _: &Server, _: &mut Moment<'_, '_>) -> Option<Next> {
        None
    }

    /// The next message: what the sessions say, in [`Feeds::updates`], with what is the call's own.
    /// None = there is nothing to say, which is so only where the occasion allows it.
    fn compose(&mut self, feeds: &mut Feeds, occasion: Occasion<'_>) -> Option<Bytes>;
}

/// What a call has once it is open.
pub type Begun<C> = (C, Feeds, AppStream);

/// What a call opens with.
#[derive(Debug)]
pub struct Opening {
    /// The server.
    pub server: Server,
    /// Who makes the call.
    pub caller: Caller,
    /// Where the call comes from.
    pub peer: Peer,
    /// Over which connection.
    pub seat: Seat,
    /// The call is over then, by the `grpc-timeout` of its client.
    pub deadline: Option<Micros>,
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

/// How long a client that has stopped to read has for the last message of a stream that is over.
const LAST_WORD: Micros = 5 * SECOND;

/// The stream of one call.
pub struct Stream<C> {
    server: Server,
    seat: Seat,
    deadline: Micros,
    /// None once the stream is open, which has it then.
    watch: Option<Watch>,
    inbox: Inbox,
    /// The client has closed its sending side.
    closing: Closing,
    state: State<C>,
    /// The stream is over after what is said now.
    end: Option<Status>,
    /// Rings while the stream is not open.
    bell: Bell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// It has, and the stream does not know it yet.
    Untold,
    Told,
}

type Stopping = Pin<Box<WaitForCancellationFutureOwned>>;

type Opened<C> = Pin<Box<dyn Future<Output = Result<Begun<C>, Refusal>> + Send>>;

enum State<C> {
    /// No message has come, which has to be there then, unless the server stops.
    First(Box<Opening>, Micros, Stopping),
    /// The first message is being dealt with.
    Opening(Opened<C>, Bytes),
    Open(Box<Open<C>>),
    /// Nothing more is said but the end.
    Over,
}

struct Open<C> {
    call: C,
    feeds: Feeds,
    timer: Timer,
    watch: Watch,
    in_app: AppStream,
}

impl<C: Call> Stream<C> {
    /// A stream that waits for its first message.
    pub fn new(opening: Opening, framing: Framing) -> Self {
        let Opening { server, seat, deadline, .. } = &opening;
        let (server, seat, deadline) = (server.clone(), *seat, deadline.unwrap_or(Micros::MAX));
        let due_at = server.engine.clock().now() + server.streams.first_message;
        let stopping = Box::pin(server.stopping.clone().cancelled_owned());
        let watch = Watch::new(opening.caller.grant.clone());
        Self {
            server,
            seat,
            deadline,
            watch: Some(watch),
            inbox: Inbox::new(framing),
            closing: Closing::No,
            state: State::First(Box::new(opening), due_at, stopping),
            end: None,
            bell: Bell::default(),
        }
    }

    fn call(&self) -> Option<&C> {
        match &self.state {
            State::Open(open) => Some(&open.call),
            _ => None,
        }
    }

    fn status(&self, refusal: &Refusal) -> Status {
        let about = match &self.state {
            State::Opening(_, first) => C::about(first.clone()),
            _ => About::default(),
        };
        C::status(self.call(), &self.server, refusal, &about)
    }

    /// Deals with the messages that came in, as long as there is room for what comes of them.
    fn work_off(&mut self) {
        while self.end.is_none() && !self.is_full() {
            let outcome = match self.inbox.next() {
                Some(Ok(message)) => self.receive(message),
                Some(Err(refusal)) => Err(self.status(&refusal)),
                None if self.closing == Closing::Untold => {
                    self.closing = Closing::Told;
                    self.close()
                }
                None => return,
            };
            self.end = outcome.err();
        }
    }

    fn receive(&mut self, message: Bytes) -> Result<(), Status> {
        match &mut self.state {
            State::First(..) => {
                if let State::First(opening, ..) = std::mem::replace(&mut self.state, State::Over) {
                    let opened = Box::pin(C::open(*opening, message.clone()));
                    self.state = State::Opening(opened, message);
                }
                // Most open at once. A stream that does not is polled again right after this.
                match self.poll_open(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(outcome) => outcome,
                    Poll::Pending => Ok(()),
                }
            }
            State::Open(open) => {
                let Open { call, feeds, timer, watch, .. } = &mut **open;
                timer.heard();
                let outcome = call.receive(&self.server, feeds, message);
                renew(call, &mut self.server, watch, timer);
                outcome.map_err(|refusal| self.status(&refusal))
            }
            State::Opening(..) | State::Over => Ok(()),
        }
    }

    /// The client is done.
    fn close(&mut self) -> Result<(), Status> {
        let cut = || Refusal::Malformed("it ends in the middle".to_owned());
        if !self.inbox.is_empty() {
            return Err(self.status(&cut()));
        }
        match &mut self.state {
            State::First(..) => Err(self.status(&C::none_came())),
            State::Open(open) => {
                open.call.closed();
                Ok(())
            }
            State::Opening(..) | State::Over => Ok(()),
        }
    }

    /// Waits until the first message was dealt with.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let State::Opening(opened, _) = &mut self.state else {
            return Poll::Ready(Ok(()));
        };
        let (call, feeds, in_app) =
            ready!(opened.as_mut().poll(cx)).map_err(|refusal| self.status(&refusal))?;
        let Some(watch) = self.watch.take() else { return Poll::Ready(Ok(())) };
        let ends = (self.deadline, watch.expires_at());
        let timer = Timer::new(&self.server, self.seat, ends, call.silence());
        self.state = State::Open(Box::new(Open { call, feeds, timer, watch, in_app }));
        Poll::Ready(Ok(()))
    }

    /// Waits for the first message, and for what it leads to.
    fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if let Poll::Ready(Err(end)) = self.poll_open(cx) {
            return Poll::Ready(end);
        }
        let at = match &mut self.state {
            State::First(_, due_at, stopping) => {
                if stopping.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ending::new(&self.server, End::Draining.into()).status);
                }
                (*due_at).min(self.deadline)
            }
            State::Opening(..) => self.deadline,
            State::Open(_) | State::Over => return Poll::Pending,
        };
        ready!(wait(&self.server, self.seat, &mut self.bell, at, cx));
        let why = if at == self.deadline { Why::Deadline } else { Why::NoMessage };
        Poll::Ready(Ending::new(&self.server, why).status)
    }
}

impl<C: Call> HotStream for Stream<C> {
    fn take_in(&mut self, data: Bytes) {
        if self.end.is_none() {
            if let State::Open(open) = &mut self.state {
                open.in_app.took_in(self.server.engine.clock(), data.len());
            }
            self.inbox.push(data);
            self.work_off();
        }
    }

    fn closed(&mut self) {
        self.closing = Closing::Untold;
        self.work_off();
    }

    fn waiting(&self) -> usize {
        let caller = match &self.state {
            State::First(opening, ..) => opening.caller.bytes(),
            _ => 0,
        };
        caller + self.inbox.len()
    }

    fn is_full(&self) -> bool {
        match &self.state {
            State::Opening(..) => true,
            State::Open(open) => {
                let clock = self.server.engine.clock();
                open.call.is_full() || open.in_app.reads_at(clock).is_some()
            }
            State::First(..) | State::Over => false,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            self.work_off();
            if let Some(end) = self.end.clone() {
                self.state = State::Over;
                return Poll::Ready(Next::End(end));
            }
            let was_full = self.is_full();
            if let Poll::Ready(end) = self.poll_early(cx) {
                self.end = Some(end);
                continue;
            }
            if was_full && !self.is_full() {
                // It is open: what waited for that is dealt with now.
                continue;
            }
            let State::Open(open) = &mut self.state else { return Poll::Pending };
            if open.go_on(&mut self.server, cx) {
                continue;
            }
            let (next, ended) = ready!(open.poll_next(&self.server, cx));
            if ended.is_some() {
                // What it read of, and whose presence it was, ends now.
                (self.state, self.end) = (State::Over, ended);
            }
            return Poll::Ready(next);
        }
    }

    fn poll_over(&mut self, blocked_since: Micros, cx: &mut Context<'_>) -> Poll<Status> {
        if self.end.is_none()
            && let Poll::Ready(end) = self.poll_early(cx)
        {
            return Poll::Ready(end);
        }
        self.work_off();
        while let State::Open(open) = &mut self.state
            && open.go_on(&mut self.server, cx)
        {
            self.work_off();
        }
        if let Some(end) = self.end.clone() {
            // What was said last may still be on its way.
            let at = blocked_since + LAST_WORD;
            ready!(wait(&self.server, self.seat, &mut self.bell, at, cx));
            return Poll::Ready(end);
        }
        match &mut self.state {
            State::Open(open) => open.poll_over(&self.server, blocked_since, cx),
            _ => Poll::Pending,
        }
    }
}

impl<C: Call> Open<C> {
    fn go_on(&mut self, server: &mut Server, cx: &mut Context<'_>) -> bool {
        let goes_on = self.call.go_on(server, &mut self.feeds, cx);
        renew(&mut self.call, server, &mut self.watch, &mut self.timer);
        goes_on
    }

    /// What comes next, and the status that it leads to if it is the last message.
    fn poll_next(&mut self, server: &Server, cx: &mut Context<'_>) -> Poll<(Next, Option<Status>)> {
        let next = ready!(self.poll_said(server, cx));
        if let (Next::Message(message), _) = &next {
            self.in_app.sent(server.engine.clock(), message.len());
        }
        Poll::Ready(next)
    }

    /// Has the stream polled again when its app lets it read more. Meanwhile its client may not be
    /// able to say anything, so it is not silent.
    fn slow_down(&mut self, server: &Server) {
        if let Some(at) = self.in_app.reads_at(server.engine.clock()) {
            self.timer.heard();
            self.timer.wake_at(at);
        }
    }

    fn poll_said(&mut self, server: &Server, cx: &mut Context<'_>) -> Poll<(Next, Option<Status>)> {
        // A stream whose app is over its rate says that it is alive, and how it ends.
        let mut must_speak = false;
        loop {
            self.timer.begin_poll();
            self.slow_down(server);
            let Self { call, feeds, timer, watch, in_app } = self;
            if let Poll::Ready(why) = watch.poll(server, cx) {
                return Poll::Ready(self.end(server, why));
            }
            call.act(server, &mut Moment { feeds, timer, cx });
            if let Some(why) = call.ends() {
                return Poll::Ready(self.end(server, why));
            }
            if let Some(at) = in_app.speaks_at(server.engine.clock()).filter(|_| !must_speak) {
                timer.wake_at(at);
                let is_over = feeds.poll_over(C::ENDS_WITH_LAST, cx).is_ready();
                let due = if is_over { Poll::Pending } else { timer.poll(cx) };
                match due {
                    Poll::Ready(Due::End(why)) => return Poll::Ready(self.end(server, why)),
                    Poll::Ready(Due::Heartbeat) => feeds.beat(timer),
                    Poll::Pending if !is_over => return Poll::Pending,
                    Poll::Pending => {}
                }
                must_speak = true;
                continue;
            }
            if let Some(next) = call.tend(server, &mut Moment { feeds, timer, cx }) {
                return Poll::Ready((next, None));
            }
            let occasion = match feeds.poll(timer, cx) {
                Poll::Ready(Round::Updates | Round::Quiet) => Occasion::News,
                Poll::Ready(Round::Alive) => Occasion::Alive,
                Poll::Ready(Round::Over(end)) => return Poll::Ready(self.end(server, end.into())),
                Poll::Pending => match timer.poll(cx) {
                    Poll::Ready(Due::Heartbeat) => {
                        feeds.beat(timer);
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

    /// How the stream ends although nothing can be said.
    fn poll_over(
        &mut self,
        server: &Server,
        blocked_since: Micros,
        cx: &mut Context<'_>,
    ) -> Poll<Status> {
        self.timer.begin_poll();
        self.slow_down(server);
        let Self { call, feeds, timer, watch, .. } = self;
        let revoked = watch.poll(server, cx);
        call.act(server, &mut Moment { feeds, timer, cx });
        let ended = match feeds.poll_over(C::ENDS_WITH_LAST, cx) {
            Poll::Ready(end) => Some(end.into()),
            Poll::Pending => call.ends(),
        };
        let ended = match revoked {
            Poll::Ready(why) => Some(why),
            Poll::Pending => ended,
        };
        let why = ready!(timer.poll_over(ended, blocked_since, cx));
        if why == Why::Slow {
            server.engine.counters().slow_streams.count();
            if C::IS_GATEWAY {
                server.engine.counters().slow_gateways.count();
            }
        }
        let ending = Ending::new(server, why);
        self.feeds.end(&ending);
        Poll::Ready(ending.status)
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

/// The stream goes on with the credential that came up, if one did.
fn renew(call: &mut impl Call, server: &mut Server, watch: &mut Watch, timer: &mut Timer) {
    if let Some(grant) = call.renewed() {
        if let Some(own) = server.acting_by(&grant) {
            *server = Arc::new(own);
        }
        watch.renew(grant);
        timer.expires(watch.expires_at());
    }
}
