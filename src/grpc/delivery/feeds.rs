//! What a stream receives: one session, which is by far the most usual and costs the least, or any
//! number of them.

use super::{
    Seat, Server,
    bundle::Bundle,
    compose::Delivery,
    ending::Ending,
    feed::{Feed, Said},
    timer::Timer,
};
use crate::{
    engine::End,
    session::{ids::SessionId, limits::Micros, revision::Revision},
};
use bytes::Bytes;
use std::task::{Context, Poll};

/// A subscription of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Subscribed<'a> {
    /// What it is called in here.
    pub place: usize,
    /// The client's number.
    pub handle: u32,
    /// What comes of it.
    pub feed: &'a Feed,
}

/// The subscriptions of a stream.
#[derive(Debug)]
pub enum Feeds {
    /// One, whose messages go out as they come.
    One(Box<One>),
    /// Any number, in one message per tick.
    Several(Box<Bundle>),
}

/// What a stream has come to.
#[derive(Debug)]
pub enum Round {
    /// There are updates, in [`Feeds::updates`].
    Updates,
    /// There are none, and a message may go: a tick that was waited for is over.
    Quiet,
    /// There are none, and a message has to go: it says that the stream is alive.
    Alive,
    /// The stream is over as a whole.
    Over(End),
}

/// The only subscription of a stream.
#[derive(Debug)]
pub struct One {
    feed: Feed,
    /// The client's number for it; 0 = none.
    handle: u32,
    /// The update of the message.
    said: Option<Delivery>,
    /// The next message is a heartbeat, if it is nothing else.
    beats: bool,
}

impl Feeds {
    /// One subscription; `handle` is the client's number for it.
    pub fn one(feed: Feed, handle: u32) -> Self {
        Self::One(Box::new(One { feed, handle, said: None, beats: false }))
    }

    /// No subscription: what the stream has to say is of its own.
    pub fn none(server: &Server, seat: Seat) -> Self {
        Self::Several(Box::new(Bundle::new(server, seat)))
    }

    /// The same of a stream that has a message at least as often as this, if there is anything to say.
    pub fn brisk(server: &Server, seat: Seat, most: Micros) -> Self {
        Self::Several(Box::new(Bundle::brisk(server, seat, most)))
    }

    /// The same of a stream that says nothing until there is something to say.
    pub fn silent(server: &Server, seat: Seat) -> Self {
        Self::Several(Box::new(Bundle::silent(server, seat)))
    }

    /// What comes next.
    pub fn poll(&mut self, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<Round> {
        match self {
            Self::One(one) => one.poll(cx),
            Self::Several(bundle) => bundle.poll_round(timer, cx),
        }
    }

    /// How a stream ends that can say nothing. One of several sessions may end without it, unless it
    /// `ends_with_last`.
    pub fn poll_over(&mut self, ends_with_last: bool, cx: &mut Context<'_>) -> Poll<End> {
        match self {
            Self::One(one) => one.feed.poll_end(cx),
            Self::Several(bundle) => bundle.poll_over(ends_with_last, cx),
        }
    }

    /// The stream has to say that it is alive.
    pub fn beat(&mut self, timer: &mut Timer) {
        match self {
            Self::One(one) => one.beats = true,
            Self::Several(bundle) => bundle.beat(timer),
        }
    }

    /// The updates of the message.
    pub fn updates(&self) -> &[Delivery] {
        match self {
            Self::One(one) => one.said.as_slice(),
            Self::Several(bundle) => bundle.updates(),
        }
    }

    /// The update of the message of a stream that has one, alone.
    pub fn take_update(&mut self) -> Option<Bytes> {
        match self {
            Self::One(one) => one.said.take().map(|said| said.update),
            Self::Several(_) => None,
        }
    }

    /// Whether another message follows at once, because this one is full.
    pub fn goes_on(&self) -> bool {
        matches!(self, Self::Several(bundle) if bundle.goes_on())
    }

    /// The message is sent.
    pub fn sent(&mut self, timer: &mut Timer) {
        match self {
            Self::One(one) => {
                one.said = None;
                timer.said();
            }
            Self::Several(bundle) => bundle.sent(timer),
        }
    }

    /// The stream ends: its only session says so, and no user is lost whom the client did not lose.
    pub fn end(&mut self, ending: &Ending) {
        match self {
            Self::One(one) => {
                if !ending.by_client {
                    one.feed.ended_by_server();
                }
                let update = one.feed.ended(ending);
                one.said = Some(one.delivery(update));
            }
            Self::Several(bundle) if !ending.by_client => bundle.ended_by_server(),
            Self::Several(_) => {}
        }
    }

    /// How the last session ended, if none is left of those that there were, and that is said.
    pub fn take_last_ending(&mut self) -> Option<Ending> {
        match self {
            Self::Several(bundle) if bundle.is_empty() && !bundle.goes_on() => bundle.take_ending(),
            _ => None,
        }
    }

    /// The subscription of a session.
    pub fn find(&self, id: &SessionId) -> Option<Subscribed<'_>> {
        let is_it = |it: &Subscribed<'_>| it.feed.live().id == *id;
        match self {
            Self::One(one) => {
                Some(Subscribed { place: 0, handle: one.handle, feed: &one.feed }).filter(is_it)
            }
            Self::Several(bundle) => bundle.feeds().find(is_it),
        }
    }

    /// The only subscription of a stream that has one.
    pub fn only(&self) -> Option<&Feed> {
        match self {
            Self::One(one) => Some(&one.feed),
            Self::Several(_) => None,
        }
    }

    /// The revision up to which everything of a subscription was said.
    pub fn said(&self, place: usize) -> Revision {
        match self {
            Self::One(one) => one.feed.revision(),
            Self::Several(bundle) => bundle.said(place),
        }
    }

    /// Has the end of a tick give the stream a message, so that acks and refusals go out if nothing
    /// else does: of the tick of a subscription, or of the first that ends.
    pub fn want_tick(&mut self, place: Option<usize>) {
        match self {
            Self::One(one) => one.feed.subscription().want_tick(),
            Self::Several(bundle) => bundle.want_tick(place),
        }
    }
}

impl One {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Round> {
        let update = match self.feed.poll_said(cx) {
            Poll::Ready(Said::Update(update)) => update,
            Poll::Ready(Said::Quiet) => return Poll::Ready(Round::Quiet),
            Poll::Ready(Said::Ended(end)) => return Poll::Ready(Round::Over(end)),
            Poll::Pending if std::mem::take(&mut self.beats) => self.feed.heartbeat(),
            Poll::Pending => return Poll::Pending,
        };
        self.said = Some(self.delivery(update));
        Poll::Ready(Round::Updates)
    }

    fn delivery(&self, update: Bytes) -> Delivery {
        Delivery { update, handle: self.handle, session_id: None }
    }
}
