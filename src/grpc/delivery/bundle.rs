//! Several subscriptions in one stream: what they have to say within a tick goes in one message.
//!
//! Sessions tick at moments of their own. The shortest of their intervals is the stream's: within each
//! there is one message at most, and what comes after it waits until the interval is over. After a
//! quiet interval a new one begins with what comes, which goes at once; so does a session's end, with
//! all that is there by then.

use super::{
    Seat, Server,
    compose::{Delivery, MOST},
    ending::Ending,
    feed::{Feed, Said},
    feeds::{Round, Subscribed},
    ready::{PlaceWaker, Ready},
    timer::Timer,
};
use crate::{
    engine::End,
    session::{ids::SessionId, limits::Micros, revision::Revision},
};
use bytes::Bytes;
use rustc_hash::FxHashMap;
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
    entries: FxHashMap<usize, Entry>,
    /// Places that were woken and not looked at yet.
    woken: Vec<usize>,
    /// Places that may have something to say in the next message.
    eager: VecDeque<usize>,
    ready: Ready,
    /// What is said of sessions that the stream does not carry.
    foreign: VecDeque<Delivery>,
    /// The updates of the message that grows.
    message: Vec<Delivery>,
    bytes: usize,
    /// What did not fit into this message any more, of the place that is next.
    rest: Option<Bytes>,
    /// The message is full, and another one follows at once.
    is_full: bool,
    /// When the tick of the last message began; none = there was no message.
    began: Option<Micros>,
    /// Its interval is not longer than this.
    most: Micros,
    /// The shortest of the ticks, and the place that has it; none = it is to be found again.
    shortest: Option<(Micros, usize)>,
    /// A tick that somebody waits for is over.
    heard: bool,
    /// Every session says its position with the next message.
    beats: bool,
    /// Every session says it with this message.
    has_beaten: bool,
    /// The number of the message, to know who has said something in it.
    round: u64,
    /// The stream is over after this message.
    over: Option<End>,
    last_ending: Option<Ending>,
    has_lost: bool,
    /// How many have said that the server stops.
    drained: usize,
    /// Of a bundle without subscriptions: when the tick ends that somebody waits for; 0 = nobody.
    tick_at: Micros,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
}

#[derive(Debug)]
struct Entry {
    handle: u32,
    session_id: Option<SessionId>,
    feed: Feed,
    waker: PlaceWaker,
    said_at: Micros,
    /// The last message in which it has said something.
    said_in: u64,
    /// It is among those that may have something to say.
    is_eager: bool,
    is_over: bool,
    is_drained: bool,
    /// It ended while nothing could be said.
    has_ended: bool,
}

impl Bundle {
    /// A bundle without subscriptions, which is to say something at once.
    pub fn new(server: &Server, seat: Seat) -> Self {
        Self {
            seat,
            entries: FxHashMap::default(),
            woken: Vec::new(),
            eager: VecDeque::new(),
            ready: Ready::default(),
            foreign: VecDeque::new(),
            message: Vec::new(),
            bytes: 0,
            rest: None,
            is_full: false,
            began: None,
            most: Micros::MAX,
            shortest: None,
            heard: false,
            beats: true,
            has_beaten: false,
            round: 1,
            over: None,
            last_ending: None,
            has_lost: false,
            drained: 0,
            tick_at: 0,
            stopping: Box::pin(server.stopping.clone().cancelled_owned()),
            server: server.clone(),
        }
    }

    /// The same, which says nothing until there is something to say.
    pub fn silent(server: &Server, seat: Seat) -> Self {
        Self { beats: false, ..Self::new(server, seat) }
    }

    /// The same with an interval that is not longer than this: sessions with longer ticks share a
    /// message only if they tick about together.
    pub fn brisk(server: &Server, seat: Seat, most: Micros) -> Self {
        Self { most, ..Self::new(server, seat) }
    }

    /// Adds a subscription, whose updates have a number or an id. `place` is what it is called in
    /// here, and is not used twice.
    pub fn add(&mut self, place: usize, feed: Feed, handle: u32, session_id: Option<SessionId>) {
        let entry = Entry {
            handle,
            session_id,
            feed,
            waker: self.ready.waker(place),
            said_at: self.server.engine.clock().now(),
            said_in: 0,
            is_eager: false,
            is_over: false,
            is_drained: false,
            has_ended: false,
        };
        self.entries.insert(place, entry);
        self.woken.push(place);
        self.shortest = None;
    }

    /// Takes a subscription out; it says nothing more.
    pub fn remove(&mut self, place: usize) {
        // What is left of its last step is not said either.
        if self.eager.front() == Some(&place) {
            self.rest = None;
        }
        self.forget(place);
    }

    /// Has something said of a session that the stream does not carry.
    pub fn announce(&mut self, update: Bytes, session_id: SessionId) {
        self.foreign.push_back(Delivery { update, handle: 0, session_id: Some(session_id) });
    }

    /// The subscriptions.
    pub fn feeds(&self) -> impl Iterator<Item = Subscribed<'_>> {
        self.entries.iter().map(|(&place, entry)| {
            let &Entry { handle, ref feed, .. } = entry;
            Subscribed { place, handle, feed }
        })
    }

    /// The subscription at a place.
    pub fn feed(&self, place: usize) -> Option<&Feed> {
        self.entries.get(&place).map(|entry| &entry.feed)
    }

    /// Whether no subscription is left.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Has a message go at the end of a tick: of that of a subscription, or else of the session that
    /// ticks most often. Without a session ticks are those of the server, which end at the same
    /// moments for all such streams of a connection.
    pub fn want_tick(&mut self, place: Option<usize>) {
        let named = place.filter(|place| self.entries.contains_key(place));
        let place = named.or_else(|| self.find_shortest().map(|(_, place)| place));
        match place.and_then(|place| self.entries.get(&place)) {
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
        self.entries.get(&place).map_or(Revision::MAX, |entry| entry.feed.revision())
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

    /// Somebody may have been silent for so long that every session has to say its position; else
    /// the timer goes on from when the one that is silent for longest said something.
    pub fn beat(&mut self, timer: &mut Timer) {
        let silent_since = self.entries.values().map(|entry| entry.said_at).min();
        if silent_since.is_some_and(|since| timer.goes_on_from(since)) {
            return;
        }
        self.beats = true;
        for (&place, entry) in &mut self.entries {
            if !std::mem::replace(&mut entry.is_eager, true) {
                self.eager.push_back(place);
            }
        }
    }

    /// The server ends the stream, not the client.
    pub fn ended_by_server(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.feed.ended_by_server());
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
            let drained = !self.is_empty() && self.drained == self.entries.len();
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
        self.ready.take(cx, &mut self.woken);
        let mut last = None;
        for place in std::mem::take(&mut self.woken) {
            // What it has to say is looked at once something can be said.
            self.become_eager(place);
            let Some(entry) = self.entries.get_mut(&place) else { continue };
            if let Poll::Ready(end) = entry.feed.poll_end(&mut entry.waker.context()) {
                entry.has_ended = true;
                last = Some(end);
            }
        }
        let is_over = || self.entries.values().all(|entry| entry.has_ended);
        match last.filter(|_| ends_with_last && is_over()) {
            Some(end) => Poll::Ready(end),
            None => Poll::Pending,
        }
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
        self.ready.take(cx, &mut self.woken);
        // A bundle that looks for ends learns of a tick that has got shorter.
        if self.opens_at() <= now || stops || self.poll_ends() || self.opens_at() <= now {
            return Poll::Ready(());
        }
        let waits = self.heard || self.beats || !self.foreign.is_empty();
        if waits || !self.eager.is_empty() {
            timer.wake_at(self.opens_at());
        }
        Poll::Pending
    }

    /// Whether a session has ended, which does not wait.
    fn poll_ends(&mut self) -> bool {
        while let Some(place) = self.woken.pop() {
            let Some(entry) = self.entries.get_mut(&place) else { continue };
            let end = loop {
                if entry.is_drained {
                    break None;
                }
                match entry.feed.poll_urgent(&mut entry.waker.context()) {
                    Poll::Ready(Said::Quiet) => self.heard = true,
                    Poll::Ready(said) => break Some(said),
                    Poll::Pending => break None,
                }
            };
            Self::note_tick(&mut self.shortest, place, entry);
            if end.is_some() || entry.feed.subscription().is_held() {
                self.become_eager(place);
            }
            match end {
                None => {}
                // It says so once more when the message is filled.
                Some(Said::Ended(_) | Said::Quiet) => return true,
                // The message is empty: it fits.
                Some(Said::Update(bytes)) => return self.try_push_of(place, bytes).is_ok(),
            }
        }
        false
    }

    /// A subscription may have something to say in the next message.
    fn become_eager(&mut self, place: usize) {
        if let Some(entry) = self.entries.get_mut(&place)
            && !std::mem::replace(&mut entry.is_eager, true)
        {
            self.eager.push_back(place);
        }
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
        self.ready.take(cx, &mut self.woken);
        for place in std::mem::take(&mut self.woken) {
            self.become_eager(place);
        }
        while let Some(&place) = self.eager.front() {
            let rest = self.rest.take();
            let Some(bytes) = rest.or_else(|| self.next_of(place)) else {
                self.eager.pop_front();
                if let Some(entry) = self.entries.get_mut(&place) {
                    entry.is_eager = false;
                    if entry.is_over {
                        self.has_lost = true;
                        self.forget(place);
                    }
                }
                continue;
            };
            if let Err(delivery) = self.try_push_of(place, bytes) {
                self.rest = Some(delivery.update);
                self.is_full = true;
                return;
            }
        }
        self.has_beaten = self.beats && !self.is_empty();
        self.beats &= self.is_empty();
        self.round += 1;
    }

    /// What a subscription says next.
    fn next_of(&mut self, place: usize) -> Option<Bytes> {
        let entry = self.entries.get_mut(&place).filter(|entry| !entry.is_over)?;
        loop {
            let said = entry.feed.poll_said(&mut entry.waker.context());
            Self::note_tick(&mut self.shortest, place, entry);
            match said {
                Poll::Pending => {
                    // What has not begun is said by its first step. A SYNC session whose frame waits
                    // for the store has none to show, however long that takes.
                    let late_at = entry.said_at + self.server.streams.heartbeat;
                    let is_late = late_at <= self.server.engine.clock().now();
                    let is_due = is_late || entry.feed.has_begun();
                    let beats = self.beats && entry.said_in < self.round && is_due;
                    return beats.then(|| entry.feed.heartbeat());
                }
                Poll::Ready(Said::Update(bytes)) => return Some(bytes),
                Poll::Ready(Said::Quiet) => self.heard = true,
                // All sessions say so, one after the other.
                Poll::Ready(Said::Ended(End::Draining)) => {
                    self.drained += usize::from(!std::mem::replace(&mut entry.is_drained, true));
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

    fn try_push_of(&mut self, place: usize, update: Bytes) -> Result<(), Delivery> {
        let Some(Entry { handle, session_id, .. }) = self.entries.get(&place) else {
            return Ok(());
        };
        self.try_push(Delivery { update, handle: *handle, session_id: session_id.clone() })?;
        if let Some(entry) = self.entries.get_mut(&place) {
            (entry.said_in, entry.said_at) = (self.round, self.server.engine.clock().now());
        }
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
        if self.entries.is_empty() || std::mem::take(&mut self.has_beaten) {
            timer.said();
        }
        if self.goes_on() {
            return;
        }
        self.heard = false;
        if self.entries.is_empty() {
            return;
        }
        // A bundle that is late stays in step: where all tick alike, nobody would ever catch up, and
        // each step would wait for as long as the latest one was late.
        let opens_at = self.opens_at();
        let in_step = opens_at..opens_at + self.interval();
        self.began = Some(if in_step.contains(&now) { opens_at } else { now });
    }

    /// No news go before this.
    fn opens_at(&mut self) -> Micros {
        self.began.map_or(0, |began| began + self.interval())
    }

    /// The shortest of the ticks, as they are now.
    fn interval(&mut self) -> Micros {
        let shortest = self.find_shortest().map(|(tick, _)| tick);
        shortest.unwrap_or(self.server.engine.settings().tick).min(self.most)
    }

    fn find_shortest(&mut self) -> Option<(Micros, usize)> {
        if self.shortest.is_none() {
            let ticks =
                self.entries.iter().map(|(place, it)| (it.feed.subscription().tick(), *place));
            self.shortest = ticks.filter(|(tick, _)| *tick > 0).min();
        }
        self.shortest
    }

    /// A session has the tick that it has.
    fn note_tick(shortest: &mut Option<(Micros, usize)>, place: usize, entry: &Entry) {
        let tick = entry.feed.subscription().tick();
        match *shortest {
            Some((least, _)) if tick < least => *shortest = Some((tick, place)),
            Some((least, at)) if at == place && tick > least => *shortest = None,
            _ => {}
        }
    }

    fn forget(&mut self, place: usize) {
        let Some(entry) = self.entries.remove(&place) else { return };
        self.drained -= usize::from(entry.is_drained);
        if self.shortest.is_some_and(|(_, at)| at == place) {
            self.shortest = None;
        }
    }
}
