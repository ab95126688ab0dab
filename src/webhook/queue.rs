//! What waits to be delivered to one webhook: a lane for each session, so that its events come in
//! order, and a delivery that fails holds up its own session only.
//!
//! What waits is bounded. Where a lane has no more room, or all of them, events of lanes that fail are
//! dropped, and the next delivery of that lane says how many.

use super::json::Gap;
use crate::{
    engine::AppEvent,
    proto::EventGapReason,
    session::ids::{AppId, SessionId},
};
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

/// How many events wait, in all lanes together and in one.
const EVENTS: usize = 10_000;
const EVENTS_OF_LANE: usize = 500;

/// How many bytes the events take that wait.
const BYTES: usize = 8 << 20;

/// How many events go into a request, and about how many bytes of them.
const BATCH: usize = 100;
const BATCH_BYTES: usize = 256 << 10;

/// How many lanes there are at most; most of those that are more than events have lost theirs.
const LANES: usize = 2 * EVENTS;

/// The longest time between two tries.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Whose events come in order: those of a session, or those of an app that are of none; none = of no
/// app either.
pub type LaneKey = Option<(AppId, Option<SessionId>)>;

/// What waits.
#[derive(Debug)]
pub struct Queue {
    lanes: FxHashMap<LaneKey, Lane>,
    /// The lanes that are not being delivered, by when they may be.
    due: BTreeMap<(Instant, u64), LaneKey>,
    /// Tells lanes that are due at the same moment apart.
    turns: u64,
    events: usize,
    bytes: usize,
    retry: Retry,
}

/// When a delivery that failed is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// After the first failure.
    pub delay: Duration,
    /// For how long after the first failure.
    pub within: Duration,
}

#[derive(Debug, Default)]
struct Lane {
    items: VecDeque<Item>,
    events: usize,
    /// Where it stands in `due`; none = it is being delivered.
    place: Option<(Instant, u64)>,
    /// Its deliveries fail.
    failing: Option<Failing>,
}

/// A lane whose deliveries fail.
#[derive(Debug, Clone, Copy)]
struct Failing {
    times: u32,
    since: Instant,
    /// How many events the first of them has, which is the same whenever it is tried again; none = it
    /// was not tried yet, as what was tried before is lost.
    events: Option<usize>,
}

#[derive(Debug)]
enum Item {
    Event(Arc<AppEvent>),
    Gap(Gap),
}

/// What is delivered at once.
#[derive(Debug)]
pub struct Batch {
    /// Of which lane.
    pub lane: LaneKey,
    /// What is missing before.
    pub gap: Option<Gap>,
    /// The events, in order.
    pub events: Vec<Arc<AppEvent>>,
}

/// What became of an event that came, or of a delivery that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Nothing is lost.
    Whole,
    /// Events are lost, and their receiver will learn that.
    Lost,
}

impl Queue {
    /// Nothing waits.
    pub fn new(retry: Retry) -> Self {
        let (lanes, due) = (FxHashMap::default(), BTreeMap::new());
        Self { lanes, due, turns: 0, events: 0, bytes: 0, retry }
    }

    /// Whether nothing waits that could be delivered: what has failed is not waited for.
    pub fn is_idle(&self) -> bool {
        self.lanes.values().all(|lane| lane.failing.is_some() && lane.place.is_some())
    }

    /// Whether a delivery has failed that is to be tried again.
    pub fn has_failing(&self) -> bool {
        self.lanes.values().any(|lane| lane.failing.is_some())
    }

    /// Takes an event in. None if there is no room before something is delivered.
    pub fn push(&mut self, event: &Arc<AppEvent>, now: Instant) -> Option<Kept> {
        let key = Some((event.app.clone(), event.session.clone()));
        let mut kept = Kept::Whole;
        let bytes = event.bytes();
        while self.events >= EVENTS || self.bytes + bytes > BYTES && self.events > 0 {
            self.drop_failing(now)?;
            kept = Kept::Lost;
        }
        if self.lanes.len() >= LANES && !self.lanes.contains_key(&key) {
            self.merge_spent(now)?;
        }
        let lane = self.lanes.get(&key);
        if lane.is_some_and(|lane| lane.events >= EVENTS_OF_LANE) {
            // Healthy lanes are waited for: it is only a moment.
            lane.filter(|lane| lane.failing.is_some())?;
            self.push_gap(key, EventGapReason::Undelivered, 1, now);
            return Some(Kept::Lost);
        }
        (self.events, self.bytes) = (self.events + 1, self.bytes + bytes);
        let lane = self.lane(key, now);
        lane.items.push_back(Item::Event(event.clone()));
        lane.events += 1;
        Some(kept)
    }

    /// Notes that so many events are missing here.
    pub fn push_gap(&mut self, key: LaneKey, reason: EventGapReason, missing: u64, now: Instant) {
        let (app, session) = key.clone().unzip();
        let app = app.map(|it| it.to_string()).unwrap_or_default();
        let session = session.flatten().map(|it| it.to_string()).unwrap_or_default();
        self.turns += 1;
        let number = self.turns;
        let lane = self.lane(key, now);
        // What is being delivered is reported as it is: the next delivery reports more of it.
        let is_open = lane.place.is_some() || lane.items.len() > 1;
        match lane.items.back_mut() {
            Some(Item::Gap(last)) if is_open && last.reason == reason => {
                (last.missing, last.number) = (last.missing + missing, number);
            }
            _ => lane.items.push_back(Item::Gap(Gap { number, reason, missing, app, session })),
        }
    }

    fn lane(&mut self, key: LaneKey, now: Instant) -> &mut Lane {
        let Self { lanes, due, turns, .. } = self;
        lanes.entry(key).or_insert_with_key(|key| {
            *turns += 1;
            due.insert((now, *turns), key.clone());
            Lane { place: Some((now, *turns)), ..Lane::default() }
        })
    }

    /// The lanes that have failed for longest lose what they have, until an eighth of the room is free:
    /// all lanes are looked at, so not for each event. None if none fails.
    fn drop_failing(&mut self, now: Instant) -> Option<()> {
        let failing = self.lanes.iter().filter(|(_, lane)| lane.place.is_some() && lane.events > 0);
        let failing = failing.filter_map(|(key, lane)| Some((lane.failing?.since, key.clone())));
        let mut failing: Vec<_> = failing.collect();
        failing.sort_unstable_by_key(|(since, _)| *since);
        let is_enough = |it: &Self| it.events <= EVENTS / 8 * 7 && it.bytes <= BYTES / 8 * 7;
        let mut dropped = None;
        for (_, key) in failing {
            if dropped.is_some() && is_enough(self) {
                break;
            }
            self.lose(&key, now);
            dropped = Some(());
        }
        dropped
    }

    /// What lanes without events are missing is reported of no session in particular from now on, so
    /// that there are fewer. None if there is no such lane.
    fn merge_spent(&mut self, now: Instant) -> Option<()> {
        let is_spent = |lane: &Lane| lane.events == 0 && lane.place.is_some();
        let spent = self.lanes.iter().filter(|(key, lane)| key.is_some() && is_spent(lane));
        let spent: Vec<_> = spent.map(|(key, _)| key.clone()).take(LANES / 8).collect();
        spent.iter().for_each(|key| self.merge(key, now));
        (!spent.is_empty()).then_some(())
    }

    /// All events of a lane are lost; what was missing before is reported with them.
    fn lose(&mut self, key: &LaneKey, now: Instant) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let items = mem::take(&mut lane.items);
        lane.events = 0;
        lane.failing = lane.failing.map(|failing| Failing { events: None, ..failing });
        let (mut missing, mut told) = (0, None);
        for item in items {
            match item {
                Item::Event(event) => {
                    missing += 1;
                    (self.events, self.bytes) = (self.events - 1, self.bytes - event.bytes());
                }
                Item::Gap(gap) if gap.reason == EventGapReason::Undelivered => {
                    missing += gap.missing;
                }
                Item::Gap(gap) => told = told.or(Some(gap)),
            }
        }
        lane.items.extend(told.map(Item::Gap));
        if missing > 0 {
            self.push_gap(key.clone(), EventGapReason::Undelivered, missing, now);
        }
    }

    /// What a lane is missing is reported of no session in particular from now on.
    fn merge(&mut self, key: &LaneKey, now: Instant) {
        let Some(lane) = self.lanes.remove(key) else { return };
        lane.place.and_then(|place| self.due.remove(&place));
        let missing = lane.items.iter().map(|item| match item {
            Item::Event(_) => 1,
            Item::Gap(gap) => gap.missing,
        });
        let missing = missing.sum();
        self.push_gap(None, EventGapReason::Undelivered, missing, now);
    }

    /// When the next lane may be delivered.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// What is to be delivered now, if anything is; its lane waits until [`Queue::done`].
    pub fn take(&mut self, now: Instant) -> Option<Batch> {
        let entry = self.due.first_entry().filter(|entry| entry.key().0 <= now)?;
        let key = entry.remove();
        let lane = self.lanes.get_mut(&key)?;
        lane.place = None;
        let mut items = lane.items.iter().peekable();
        let mut gap = None;
        if let Some(Item::Gap(first)) = items.peek() {
            gap = Some(first.clone());
            items.next();
        }
        let most = lane.failing.and_then(|failing| failing.events).unwrap_or(BATCH);
        let mut events = Vec::new();
        let mut bytes = 0;
        for item in items {
            let Item::Event(event) = item else { break };
            bytes += event.bytes();
            if events.len() == most || bytes > BATCH_BYTES && !events.is_empty() {
                break;
            }
            events.push(event.clone());
        }
        Some(Batch { lane: key, gap, events })
    }

    /// A delivery is done, or has failed: then it is tried again after a while, and given up with all
    /// that its lane has once it was tried for long enough.
    pub fn done(&mut self, batch: &Batch, is_delivered: bool, now: Instant) -> Kept {
        let mut kept = Kept::Whole;
        let Some(lane) = self.lanes.get_mut(&batch.lane) else { return kept };
        let mut at = now;
        if is_delivered {
            lane.failing = None;
            let gap = usize::from(batch.gap.is_some());
            for item in lane.items.drain(..gap + batch.events.len()) {
                if let Item::Event(event) = item {
                    lane.events -= 1;
                    (self.events, self.bytes) = (self.events - 1, self.bytes - event.bytes());
                }
            }
        } else {
            let (times, since) = lane.failing.map_or((1, now), |it| (it.times + 1, it.since));
            let failing = Failing { times, since, events: Some(batch.events.len()) };
            lane.failing = Some(failing);
            at = now + delay(self.retry.delay, failing.times);
            if now.duration_since(failing.since) >= self.retry.within && batch.lane.is_some() {
                kept = Kept::Lost;
                if lane.events == 0 {
                    self.merge(&batch.lane, now);
                    return kept;
                }
                // What comes from now on is tried for as long.
                lane.failing = Some(Failing { since: now, ..failing });
                self.lose(&batch.lane, now);
            }
        }
        let Some(lane) = self.lanes.get_mut(&batch.lane) else { return kept };
        if lane.items.is_empty() {
            self.lanes.remove(&batch.lane);
        } else {
            self.turns += 1;
            lane.place = Some((at, self.turns));
            self.due.insert((at, self.turns), batch.lane.clone());
        }
        kept
    }
}

/// How long a delivery waits that has failed so often: half of it by chance, so that those that failed
/// together do not come back together.
fn delay(first: Duration, failures: u32) -> Duration {
    let longest = first.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_DELAY.max(first));
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests;
