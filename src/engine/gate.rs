//! Between a frame and those who are shown it: where each frame is to be stored first, nobody sees
//! it before that. A session that is not stored has no gate, and shows its frames at once.

use super::{
    encoder::{Delivery, Encoder},
    filter::Outline,
    live::State,
    shard::Listed,
    subscriber::End,
};
use crate::{
    record::RequestRecord,
    session::{
        command::Actor, limits::Micros, member::Departed, record::Mark, revision::Revision,
        settings::Durability,
    },
};
use slab::Slab;
use std::{mem, sync::Arc, task::Waker};

/// How far a session is written down, and what waits for that.
#[derive(Debug)]
pub(super) struct Gate {
    /// Each frame is stored before it is shown.
    pub is_sync: bool,
    /// Up to where records were handed out; none = nothing was.
    pub asked: Option<Mark>,
    /// Up to where they are stored.
    pub stored: Option<Mark>,
    /// Where the session was when it was restored under another epoch. That alone is no reason to store
    /// it: the next owner would give it yet another one.
    pub restored: Option<Mark>,
    /// A record was handed out and is not stored yet. There is one at a time, so that a slow store
    /// finds one large record and not many small ones.
    pub is_asking: bool,
    /// How many do something in it and have not remembered it yet. No record is made meanwhile.
    pub holders: u32,
    /// Frames that nobody is shown yet.
    pub flight: Option<Flight>,
    /// A record is wanted as soon as there is a whole frame.
    pub is_wanted: bool,
    /// The next record is to be a snapshot.
    pub is_whole: bool,
    /// The requests to the session, which go with it, until it is taken.
    pub whole: Option<Vec<RequestRecord>>,
    /// No record is taken before, unless one is wanted.
    pub due: Micros,
    /// When it is looked whether to take one.
    pub listed: Option<Listed>,
    /// Requests that were done, to go with the next record. One that is about several sessions goes
    /// with the last of theirs.
    pub requests: Vec<Arc<RequestRecord>>,
    /// Who waits until something is stored.
    pub waiting: Slab<(Mark, Waker)>,
    /// Somebody subscribes to every update, and the log begins with the next frame.
    pub wants_log: bool,
    /// The session has ended: once that is stored, its streams learn of it.
    pub is_ending: bool,
    /// What is in flight will not be shown: streams end without it.
    pub is_given_up: bool,
}

/// Frames that were made and are not stored yet.
#[derive(Debug)]
pub(super) struct Flight {
    made: Made,
    /// The session as it was before.
    outline: Outline,
    /// When the frame before was made.
    framed_at: Micros,
}

/// Frames that were made and not shown to anybody yet.
#[derive(Debug)]
pub(super) struct Made {
    /// The last frame before them.
    pub told: Revision,
    /// The last of them.
    pub revision: Revision,
    /// Members may have come to see another view.
    pub views_changed: bool,
    /// The memberships that ended, each with its frame.
    pub departed: Vec<(Revision, Departed)>,
    /// The session was reset: no step leads across.
    pub is_reset: bool,
}

impl Made {
    fn and(mut self, later: Self) -> Self {
        self.departed.extend(later.departed);
        Self {
            told: self.told,
            revision: later.revision,
            views_changed: self.views_changed || later.views_changed,
            departed: self.departed,
            is_reset: self.is_reset || later.is_reset,
        }
    }
}

impl Gate {
    /// That of a session with this durability; none = it is not stored.
    pub fn of(durability: Durability) -> Option<Box<Self>> {
        let is_sync = match durability {
            Durability::None => return None,
            Durability::Async => false,
            Durability::Sync => true,
        };
        Some(Box::new(Self {
            is_sync,
            asked: None,
            stored: None,
            restored: None,
            is_asking: false,
            holders: 0,
            flight: None,
            is_wanted: false,
            is_whole: false,
            whole: None,
            due: 0,
            listed: None,
            requests: Vec::new(),
            waiting: Slab::new(),
            wants_log: false,
            is_ending: false,
            is_given_up: false,
        }))
    }
}

impl State {
    /// Whether each frame is stored before it is shown.
    pub(super) fn is_sync(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.is_sync)
    }

    fn flight(&self) -> Option<&Flight> {
        self.gate.as_ref()?.flight.as_ref()
    }

    /// Whether a frame was made that nobody may be shown yet.
    pub(super) fn is_in_flight(&self) -> bool {
        self.flight().is_some()
    }

    /// Whether streams end later, after what is in flight.
    pub(super) fn holds_ends_back(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.flight.is_some() && !gate.is_given_up)
    }

    /// The server stops, and what is in flight will not be shown any more. Returns whom to wake.
    pub(super) fn give_up(&mut self) -> Vec<Waker> {
        if let Some(gate) = &mut self.gate {
            gate.is_given_up = true;
        }
        let mut wake = self.end_all(End::Draining);
        if self.closed {
            wake.extend(self.end_attached(&End::Draining));
        }
        wake
    }

    /// Whether a frame was made that nobody may be shown yet, and a record is on its way to the store, or
    /// none may be made. If it is an older one, nothing can be asked for the frame before that is done; then
    /// another frame may be open, which has to be made first.
    pub(super) fn is_being_stored(&self) -> bool {
        self.gate
            .as_ref()
            .is_some_and(|gate| gate.flight.is_some() && (gate.is_asking || gate.holders > 0))
    }

    /// Whether the session was opened and nobody may be shown it yet.
    pub(super) fn is_unborn(&self) -> bool {
        self.flight().is_some_and(|flight| flight.made.told.is_none())
    }

    /// The last frame that anybody may be shown.
    pub fn revision(&self) -> Revision {
        self.flight().map_or(self.core.revision(), |flight| flight.made.told)
    }

    /// What the session is in that frame.
    pub fn outline(&self) -> Outline {
        self.flight().map_or_else(|| Outline::shown(&self.core), |flight| flight.outline.clone())
    }

    /// Whether everybody may know of the session: that frame, too, has to show it as listed.
    pub fn is_listed(&self) -> bool {
        let was_unlisted = |flight: &Flight| flight.outline.info().settings.unlisted;
        self.core.is_listed() && !self.flight().is_some_and(was_unlisted)
    }

    /// Whether an actor may know of the session. The app may, and everybody if it is listed; else
    /// those who have joined, and its insiders.
    pub fn is_visible_to(&self, actor: &Actor) -> bool {
        match actor {
            Actor::App => true,
            Actor::User(user) => self.is_listed() || self.core.is_known_to(user),
        }
    }

    /// When that frame was made.
    pub fn shown_at(&self) -> Micros {
        self.flight().map_or(self.core.last_frame_at(), |flight| flight.framed_at)
    }

    /// A session that was just opened is in flight with its first frame.
    pub(super) fn be_born_in_flight(&mut self) {
        let made = Made {
            told: Revision::NONE,
            revision: self.core.revision(),
            views_changed: false,
            departed: Vec::new(),
            is_reset: false,
        };
        self.hold_back(made, Outline::shown(&self.core), self.core.last_frame_at());
    }

    /// Nobody is shown these frames before they are stored. `outline` is what the session was before
    /// them, and `framed_at` when it was framed last.
    pub(super) fn hold_back(&mut self, made: Made, outline: Outline, framed_at: Micros) {
        for (_, subscriber) in &mut self.subscribers {
            // A subscriber that asks from now on learns of a later tick.
            subscriber.tick_made |= mem::take(&mut subscriber.wants_tick);
        }
        let Some(gate) = &mut self.gate else { return };
        gate.flight = Some(match gate.flight.take() {
            None => Flight { made, outline, framed_at },
            Some(flight) => Flight { made: flight.made.and(made), ..flight },
        });
    }

    /// Whether all frames in flight are stored with what is stored up to a frame.
    pub(super) fn lands_by(&self, stored: Revision) -> bool {
        self.flight().is_some_and(|flight| flight.made.revision <= stored)
    }

    /// The frames are stored: they are shown. Returns with whom to wake what the session was before.
    pub(super) fn release(
        &mut self,
        now: Micros,
        encoder: &dyn Encoder,
    ) -> (Vec<Waker>, Option<Outline>) {
        let flight = self.gate.as_mut().and_then(|gate| gate.flight.take());
        let Some(Flight { made, outline, .. }) = flight else { return (Vec::new(), None) };
        for (_, subscriber) in &mut self.subscribers {
            subscriber.tick_over |= mem::take(&mut subscriber.tick_made);
        }
        let wake = self.show(now, Some(made), encoder);
        (wake, Some(outline))
    }

    /// Makes the frame, if anything was accepted.
    pub(super) fn frame(&mut self, now: Micros) -> Option<Made> {
        self.visited_at = now;
        let told = self.core.revision();
        let frame = self.core.flush(now)?;
        if let Some(gate) = &mut self.gate
            && mem::take(&mut gate.wants_log)
            && self.has_listeners()
        {
            self.core.keep_log();
        }
        self.counters.frames.count();
        let departed = frame.departed.into_iter().map(|departed| (frame.revision, departed));
        Some(Made {
            told,
            revision: frame.revision,
            views_changed: frame.views_changed,
            departed: departed.collect(),
            is_reset: false,
        })
    }

    /// Whether a view of this delivery can be sent nothing but its last step: of what comes after,
    /// it may not be shown all.
    pub(super) fn holds_back(&self, delivery: Delivery) -> bool {
        let Some(gate) = &self.gate else { return false };
        gate.flight.is_some() || (gate.wants_log && delivery == Delivery::All)
    }
}
