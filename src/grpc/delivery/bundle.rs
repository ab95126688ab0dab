//! Several subscriptions in one stream: what they have to say within a tick goes in one message.
//!
//! Sessions tick at moments of their own. What comes within the shortest of their intervals after a
//! message waits until that is over; after a quiet interval it goes at once, and so does a session's
//! end, with all that is there by then.

use super::{
    Seat, Server,
    compose::{Delivery, MOST},
    ending::Ending,
    feed::{Feed, Said},
    feeds::{Round, Subscribed},
    timer::Timer,
};
use crate::{
    engine::End,
    session::{ids::SessionId, limits::Micros, revision::Revision},
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

/// The subscriptions of one stream.
#[derive(Debug)]
pub struct Bundle {
    server: Server,
    seat: Seat,
    entries: Vec<Entry>,
    /// What is said of sessions that the stream does not carry.
    foreign: VecDeque<Delivery>,
    /// The updates of the message that grows.
    message: Vec<Delivery>,
    bytes: usize,
    /// Where the next message goes on.
    at: usize,
    /// What did not fit into this message any more.
    rest: Option<Bytes>,
    /// The message is full, and another one follows at once.
    is_full: bool,
    /// When the tick of the last message began; none = there was no message.
    began: Option<Micros>,
    /// A tick that somebody waits for is over.
    heard: bool,
    /// Every session says its position with the next message.
    beats: bool,
    /// The stream is over after this message.
    over: Option<End>,
    last_ending: Option<Ending>,
    has_lost: bool,
    /// Of a bundle without subscriptions: when the tick ends that somebody waits for; 0 = nobody.
    tick_at: Micros,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
}

#[derive(Debug)]
struct Entry {
    place: usize,
    handle: u32,
    session_id: Option<SessionId>,
    feed: Feed,
    said_at: Micros,
    /// It has said something in this round.
    said: bool,
    is_over: bool,
    is_drained: bool,
}

impl Bundle {
    /// A bundle without subscriptions, which is to say something at once.
    pub fn new(server: &Server, seat: Seat) -> Self {
        Self {
            seat,
            entries: Vec::new(),
            foreign: VecDeque::new(),
            message: Vec::new(),
            bytes: 0,
            at: 0,
            rest: None,
            is_full: false,
            began: None,
            heard: false,
            beats: true,
            over: None,
            last_ending: None,
            has_lost: false,
            tick_at: 0,
            stopping: Box::pin(server.stopping.clone().cancelled_owned()),
            server: server.clone(),
        }
    }

    /// The same, which says nothing until there is something to say.
    pub fn silent(server: &Server, seat: Seat) -> Self {
        Self { beats: false, ..Self::new(server, seat) }
    }

    /// Adds a subscription, whose updates have a number or an id. `place` is what it is called in
    /// here, and is not used twice.
    pub fn add(&mut self, place: usize, feed: Feed, handle: u32, session_id: Option<SessionId>) {
        self.entries.push(Entry {
            place,
            handle,
            session_id,
            feed,
            said_at: self.server.engine.clock().now(),
            said: false,
            is_over: false,
            is_drained: false,
        });
    }

    /// Has something said of a session that the stream does not carry.
    pub fn announce(&mut self, update: Bytes, session_id: SessionId) {
        self.foreign.push_back(Delivery { update, handle: 0, session_id: Some(session_id) });
    }

    /// The subscriptions.
    pub fn feeds(&self) -> impl Iterator<Item = Subscribed<'_>> {
        self.entries.iter().map(|entry| {
            let &Entry { place, handle, ref feed, .. } = entry;
            Subscribed { place, handle, feed }
        })
    }

    /// Whether no subscription is left.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Has a message go at the end of a tick: of that of a subscription, or else of the session that
    /// ticks most often. Without a session ticks are those of the server, which end at the same
    /// moments for all such streams of a connection.
    pub fn want_tick(&mut self, place: Option<usize>) {
        let is_it = |entry: &&Entry| Some(entry.place) == place;
        let ticks = |entry: &&Entry| entry.feed.subscription().tick();
        let named = self.entries.iter().find(is_it);
        match named.or_else(|| self.entries.iter().min_by_key(ticks)) {
            Some(entry) => entry.feed.subscription().want_tick(),
            None if self.tick_at == 0 => {
                let engine = &self.server.engine;
                self.tick_at = self.seat.tick_end(engine.clock().now(), engine.settings().tick);
            }
            None => {}
        }
    }

    /// The revision up to which everything of a subscription was said.
    pub fn said(&self, place: usize) -> Revision {
        let entry = self.entries.iter().find(|entry| entry.place == place);
        entry.map_or(Revision::MAX, |entry| entry.feed.revision())
    }

    /// The updates of the message.
    pub fn updates(&self) -> &[Delivery] {
        &self.message
    }

    /// Whether another message follows at once, because this one is full.
    pub fn goes_on(&self) -> bool {
        self.is_full
    }

    /// How the last session to end has ended.
    pub fn take_ending(&mut self) -> Option<Ending> {
        self.last_ending.take()
    }

    /// Whether a session has ended since the last call.
    pub fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.has_lost)
    }

    /// The stream has to say that it is alive.
    pub fn beat(&mut self) {
        self.beats = true;
    }

    /// The server ends the stream, not the client.
    pub fn ended_by_server(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.feed.ended_by_server());
    }

    /// What comes next.
    pub fn poll_round(&mut self, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<Round> {
        if let Some(end) = self.over.take() {
            return Poll::Ready(Round::Over(end));
        }
        if !self.goes_on() && self.poll_open(timer, cx).is_pending() {
            return Poll::Pending;
        }
        self.fill(cx);
        if !self.goes_on() {
            let drained = !self.is_empty() && self.entries.iter().all(|entry| entry.is_drained);
            if drained || self.server.stopping.is_cancelled() {
                self.over.get_or_insert(End::Draining);
            }
        }
        if !self.message.is_empty() {
            return Poll::Ready(Round::Updates);
        }
        if let Some(end) = self.over.take() {
            return Poll::Ready(Round::Over(end));
        }
        if self.is_empty() && std::mem::take(&mut self.beats) {
            return Poll::Ready(Round::Alive);
        }
        match std::mem::take(&mut self.heard) {
            true => Poll::Ready(Round::Quiet),
            false => Poll::Pending,
        }
    }

    /// How the stream ends although nothing can be said: with the server, or with its last session.
    pub fn poll_over(&mut self, ends_with_last: bool, cx: &mut Context<'_>) -> Poll<End> {
        if self.stopping.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Draining);
        }
        let mut last = None;
        for entry in &mut self.entries {
            match entry.feed.poll_end(cx) {
                Poll::Ready(end) => last = Some(end),
                Poll::Pending => return Poll::Pending,
            }
        }
        last.filter(|_| ends_with_last).map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether a message may go now; if not, the task is woken when one may, if there is anything
    /// to say.
    fn poll_open(&mut self, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<()> {
        let stops = self.stopping.as_mut().poll(cx).is_ready();
        let now = self.server.engine.clock().now();
        if self.tick_at > 0 {
            match self.tick_at <= now {
                true => (self.tick_at, self.heard) = (0, true),
                false => timer.wake_at(self.tick_at),
            }
        }
        // Who looks for ends learns of a tick that has got shorter.
        if self.opens_at() <= now || stops || self.poll_ends(cx) || self.opens_at() <= now {
            return Poll::Ready(());
        }
        let holds = |entry: &Entry| entry.feed.subscription().is_held();
        let waits = self.heard || self.beats || !self.foreign.is_empty();
        if waits || self.entries.iter().any(holds) {
            timer.wake_at(self.opens_at());
        }
        Poll::Pending
    }

    /// Whether a session has ended, which does not wait.
    fn poll_ends(&mut self, cx: &mut Context<'_>) -> bool {
        for at in 0..self.entries.len() {
            while !self.entries[at].is_drained
                && let Poll::Ready(said) = self.entries[at].feed.poll_urgent(cx)
            {
                match said {
                    Said::Quiet => self.heard = true,
                    Said::Ended(_) => return true,
                    // The message is empty: it fits.
                    Said::Update(bytes) => return self.try_push_of(at, bytes).is_ok(),
                }
            }
        }
        false
    }

    /// Puts everything that is to be said into the message, as far as it fits.
    fn fill(&mut self, cx: &mut Context<'_>) {
        self.is_full = false;
        while let Some(delivery) = self.foreign.pop_front() {
            if let Err(delivery) = self.try_push(delivery) {
                self.foreign.push_front(delivery);
                self.is_full = true;
                return;
            }
        }
        while self.at < self.entries.len() {
            let rest = self.rest.take();
            let Some(bytes) = rest.or_else(|| self.next_of(self.at, cx)) else {
                self.at += 1;
                continue;
            };
            if let Err(delivery) = self.try_push_of(self.at, bytes) {
                self.rest = Some(delivery.update);
                self.is_full = true;
                return;
            }
        }
        self.at = 0;
        self.beats &= self.is_empty();
        self.entries.iter_mut().for_each(|entry| entry.said = false);
        let count = self.entries.len();
        self.entries.retain(|entry| !entry.is_over);
        self.has_lost |= self.entries.len() < count;
    }

    /// What a subscription says next.
    fn next_of(&mut self, at: usize, cx: &mut Context<'_>) -> Option<Bytes> {
        let entry = &mut self.entries[at];
        if entry.is_over {
            return None;
        }
        loop {
            match entry.feed.poll_said(cx) {
                Poll::Pending => {
                    let beats = self.beats && !entry.said;
                    return beats.then(|| entry.feed.heartbeat());
                }
                Poll::Ready(Said::Update(bytes)) => return Some(bytes),
                Poll::Ready(Said::Quiet) => self.heard = true,
                // All sessions say so, one after the other.
                Poll::Ready(Said::Ended(End::Draining)) => {
                    entry.is_drained = true;
                    return None;
                }
                Poll::Ready(Said::Ended(end)) => {
                    entry.is_over = true;
                    let ending = Ending::new(&self.server, end.into());
                    let last = entry.feed.ended(&ending);
                    self.last_ending = Some(ending);
                    return Some(last);
                }
            }
        }
    }

    fn try_push_of(&mut self, at: usize, update: Bytes) -> Result<(), Delivery> {
        let Entry { handle, session_id, .. } = &self.entries[at];
        self.try_push(Delivery { update, handle: *handle, session_id: session_id.clone() })?;
        let entry = &mut self.entries[at];
        (entry.said, entry.said_at) = (true, self.server.engine.clock().now());
        Ok(())
    }

    /// Gives back what does not fit any more.
    fn try_push(&mut self, delivery: Delivery) -> Result<(), Delivery> {
        let bytes = self.bytes + delivery.len();
        if bytes > MOST && !self.message.is_empty() {
            return Err(delivery);
        }
        self.bytes = bytes;
        self.message.push(delivery);
        Ok(())
    }

    /// The message is sent.
    pub fn sent(&mut self, timer: &mut Timer) {
        self.message.clear();
        self.bytes = 0;
        let now = self.server.engine.clock().now();
        timer.said_at(self.entries.iter().map(|entry| entry.said_at).min().unwrap_or(now));
        if self.goes_on() {
            return;
        }
        self.heard = false;
        if self.entries.is_empty() {
            return;
        }
        // Who is a little late stays in step.
        let opens_at = self.opens_at();
        let in_step = opens_at..opens_at + self.interval() / 4;
        self.began = Some(if in_step.contains(&now) { opens_at } else { now });
    }

    /// No news go before this.
    fn opens_at(&self) -> Micros {
        self.began.map_or(0, |began| began + self.interval())
    }

    /// The shortest of the ticks, as they are now.
    fn interval(&self) -> Micros {
        let ticks = self.entries.iter().map(|entry| entry.feed.subscription().tick());
        let tick = ticks.filter(|tick| *tick > 0).min();
        tick.unwrap_or(self.server.engine.settings().tick)
    }
}
