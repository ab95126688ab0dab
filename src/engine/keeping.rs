//! What is to be stored of sessions, users and requests, on its way to the store.
//!
//! A session that changed hands out a record when it is due, or at once where somebody waits for it.
//! Records, and requests that were done, wait in a queue, which is taken as a whole: what one *cut*
//! takes is stored together or not at all. A caller that does something and remembers that it was done
//! holds a [pin](super::pin) meanwhile, so that the two are stored together.

use super::error::Refusal;
use super::{
    Engine,
    live::{Live, State},
    pin,
    shard::Job,
    space,
    subscriber::End,
};
use crate::{
    record::{Entry, Place, RequestRecord, UserRecord},
    session::{
        command::Cost,
        epoch::Epoch,
        ids::{AppId, Key, SessionId, UserId},
        limits::Micros,
        record::Mark,
        settings::Durability,
        value::Value,
    },
};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Waker,
};
use tokio::sync::{Notify, watch};

/// How an engine with a store keeps what it has.
#[derive(Debug, Clone, Copy)]
pub struct KeepingSettings {
    /// How far what is stored of an ASYNC session may be behind.
    pub interval: Micros,
    /// That of sessions that choose none.
    pub durability: Durability,
}

/// What waits to be stored.
#[derive(Debug)]
pub(super) struct Keeping {
    pub settings: KeepingSettings,
    /// Held to read while something is done and remembered, and to write by a cut.
    pub pin: RwLock<()>,
    queue: Mutex<Queue>,
    /// A session was held that others still hold: a cut waits for all of them, so that it has its turn.
    pub is_crowded: AtomicBool,
    /// Something came into the queue, or somebody waits for it.
    pub news: Notify,
    /// The last cut that is stored.
    stored: watch::Sender<u64>,
    pub space: space::Known,
    /// The sessions that have ended, by their epochs, as long as that is not stored.
    ended: Mutex<BTreeMap<Epoch, Weak<Live>>>,
    /// How many users are in the cut that is being stored.
    users_cut: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    items: Vec<Kept>,
    /// Whose props changed.
    users: BTreeSet<(AppId, UserId)>,
    /// Somebody waits for what is in the queue.
    is_urgent: bool,
    /// How many cuts there were.
    cuts: u64,
}

/// Something to be stored as a whole.
#[derive(Debug)]
pub struct Kept {
    /// What is to be written.
    pub entries: Vec<Entry>,
    /// It is everything that there is to know of the session.
    pub is_whole: bool,
    of: Option<Of>,
}

/// Whose record it is.
#[derive(Debug)]
struct Of {
    live: Arc<Live>,
    /// Up to where it tells; none = that the session is gone.
    until: Option<Mark>,
}

/// What is stored together.
#[derive(Debug)]
pub struct Cut {
    number: u64,
    /// In the order in which it is written.
    pub items: Vec<Kept>,
    /// Users as they are. One without props is as one that nobody knows.
    pub users: Vec<UserRecord>,
    /// Somebody waits for it.
    pub is_urgent: bool,
}

impl Cut {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.users.is_empty()
    }
}

impl Keeping {
    pub fn new(settings: KeepingSettings) -> Self {
        Self {
            settings,
            pin: RwLock::default(),
            queue: Mutex::default(),
            is_crowded: AtomicBool::new(false),
            news: Notify::new(),
            stored: watch::Sender::new(0),
            space: space::Known::new(),
            ended: Mutex::default(),
            users_cut: AtomicUsize::new(0),
        }
    }

    /// Somebody waits for what is in the queue. Returns the cut that takes it, or the last one if there
    /// is nothing.
    pub fn hasten(&self) -> u64 {
        let cut = {
            let mut queue = self.queue.lock();
            let is_empty = queue.items.is_empty() && queue.users.is_empty();
            queue.is_urgent |= !is_empty;
            queue.cuts + u64::from(!is_empty)
        };
        self.news.notify_one();
        cut
    }

    /// Waits until a cut is stored.
    pub async fn cut_stored(&self, cut: u64) {
        // The sender is there as long as this.
        let _ = self.stored.subscribe().wait_for(|stored| *stored >= cut).await;
    }

    /// The sessions that have ended, as long as that is not stored.
    pub fn ended(&self) -> Vec<Arc<Live>> {
        self.ended.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// How many users' props are not stored.
    pub fn users(&self) -> usize {
        self.queue.lock().users.len() + self.users_cut.load(Ordering::Relaxed)
    }

    /// Adds a record, and of the requests that wait for it those that wait for no other.
    fn put(&self, mut kept: Kept, requests: Vec<Arc<RequestRecord>>, is_urgent: bool) {
        let mut queue = self.queue.lock();
        // With the queue locked, the record that lets go last has all other records before it there.
        kept.entries.extend(requests.into_iter().filter_map(Arc::into_inner).map(boxed));
        queue.items.push(kept);
        queue.is_urgent |= is_urgent;
        drop(queue);
        self.news.notify_one();
    }

    /// Adds a request whose records are all handed out, to that of its session if it is still in the
    /// queue. One that some session holds on to goes with the record of that.
    pub(super) fn put_request(&self, request: Arc<RequestRecord>, sessions: &[Arc<Live>]) {
        let is_of = |kept: &Kept| {
            let of = kept.of.as_ref();
            of.is_some_and(|of| sessions.iter().any(|live| Arc::ptr_eq(live, &of.live)))
        };
        let is_to_session = is_to_session(&request);
        let mut queue = self.queue.lock();
        if !is_to_session {
            // Snapshots are stored after the rest of the cut, so what it did is in none.
            let wholes = queue.items.iter_mut().filter(|kept| kept.is_whole);
            wholes.filter(|kept| is_of(kept)).for_each(|kept| kept.is_whole = false);
        }
        let Some(request) = Arc::into_inner(request).map(boxed) else { return };
        match queue.items.iter_mut().rfind(|kept| is_to_session && is_of(kept)) {
            Some(kept) => kept.entries.push(request),
            None => {
                queue.items.push(Kept { entries: vec![request], is_whole: false, of: None });
            }
        }
        drop(queue);
        self.news.notify_one();
    }

    /// The moment after which a record is due that is taken now: all sessions have the same, so that
    /// what is due comes into one cut.
    fn due_after(&self, now: Micros) -> Micros {
        // What is due then waits for a tick and for the store.
        let period = (self.settings.interval * 4 / 5).max(1);
        (now / period + 1) * period
    }
}

impl Engine {
    /// Whether anything is stored.
    pub fn has_store(&self) -> bool {
        self.inner.keeping.is_some()
    }

    /// Refuses a durability that this engine cannot keep.
    pub(super) fn check_durability(&self, durability: Durability) -> Result<(), Refusal> {
        match durability {
            Durability::None => Ok(()),
            Durability::Async | Durability::Sync if self.has_store() => {
                self.check_space_for(Cost::More)
            }
            Durability::Async | Durability::Sync => Err(Refusal::NoStore),
        }
    }

    /// Sees to it that what has changed of a session is stored in time. Called with the session
    /// locked, after every frame and every command.
    pub(super) fn keep(&self, live: &Arc<Live>, state: &mut State) {
        let (Some(gate), Some(keeping)) = (&mut state.gate, &self.inner.keeping) else { return };
        pin::hold(live, gate);
        // There is another look when it is let go, the record is stored, or the frame is made.
        if gate.holders > 0 || gate.is_asking || state.closed || state.core.is_open() {
            return;
        }
        let mark = Some(state.core.mark());
        let is_known = gate.asked == mark || (gate.restored == mark && !gate.is_wanted);
        if is_known && gate.requests.is_empty() && !gate.is_whole {
            gate.is_wanted = false;
            return;
        }
        let now = self.clock().now();
        let is_urgent = gate.is_sync || gate.is_wanted;
        if !is_urgent && !gate.is_whole && now < gate.due {
            if gate.listed.is_none() {
                let job = Job::Record(Arc::downgrade(live));
                gate.listed = Some(self.inner.shards[live.shard()].add(gate.due, job));
            }
            return;
        }
        let is_whole = gate.is_whole;
        let record = match gate.asked {
            Some(mark) if !is_whole => state.core.record_since(&mark),
            _ => state.core.snapshot(),
        };
        // There is one, as no frame is open.
        let Some(record) = record else { return };
        let until = record.until;
        gate.asked = Some(until);
        gate.is_asking = true;
        (gate.is_wanted, gate.is_whole, gate.listed) = (false, false, None);
        gate.restored = None;
        gate.due = keeping.due_after(now);
        let mut requests = mem::take(&mut gate.requests);
        if is_whole {
            // Those to the session are among them.
            requests.retain(|request| !is_to_session(request));
        }
        // A snapshot is stored after the rest of its cut, and tells of nobody else: what a request to
        // somebody else has done is in none. The session's turn comes again.
        let is_alone = requests.iter().all(|request| is_to_session(request));
        if is_whole {
            let own = gate.whole.take().unwrap_or_default();
            requests.extend(own.into_iter().map(Arc::new));
        }
        let entries = vec![Entry::Session(Box::new(record))];
        let of = Some(Of { live: live.clone(), until: Some(until) });
        let kept = Kept { entries, is_whole: is_whole && is_alone, of };
        keeping.put(kept, requests, is_urgent);
    }

    /// Makes the last frame of a session that has ended. Those who have streams of it learn of both
    /// once that is stored.
    pub(super) fn end_in_flight(&self, state: &mut State) {
        state.tick = None;
        let (outline, framed_at) = (state.outline(), state.shown_at());
        if let Some(made) = state.frame(self.clock().now()) {
            state.hold_back(made, outline, framed_at);
        }
        if let Some(gate) = &mut state.gate {
            gate.is_ending = true;
        }
    }

    /// A session has ended: that is all that is left to know of it, with the requests that did it.
    pub(super) fn keep_end(&self, live: &Arc<Live>, state: &mut State) {
        let (Some(gate), Some(keeping)) = (&mut state.gate, &self.inner.keeping) else { return };
        let (app, id, epoch) = (live.app.clone(), live.id.clone(), live.epoch);
        let (entries, requests) =
            (vec![Entry::Gone { app, id, epoch }], mem::take(&mut gate.requests));
        gate.listed = None;
        keeping.ended.lock().insert(epoch, Arc::downgrade(live));
        let of = Some(Of { live: live.clone(), until: None });
        keeping.put(Kept { entries, is_whole: false, of }, requests, gate.is_sync);
    }

    /// Has everything that there is to know of a session stored as a whole; false = there is no such
    /// session, or nothing of it is stored.
    pub fn want_whole(&self, app: &AppId, id: &SessionId) -> bool {
        let Some(live) = self.inner.registry.session(app, id) else { return false };
        if live.lock().gate.is_none() {
            return false;
        }
        self.want_whole_of(&live);
        true
    }

    /// What is set on a user.
    pub fn user_props(&self, app: &AppId, user: &UserId) -> Vec<(Key, Value)> {
        let record = self.inner.registry.user(app, user);
        record.map(|record| record.lock().props()).unwrap_or_default()
    }

    fn want_whole_of(&self, live: &Arc<Live>) {
        let place = (live.app.clone(), Place::Session(live.id.clone()));
        // With the place locked nothing is done there that would be in neither the book nor the notes.
        self.inner.requests.with_records(&place, |requests| {
            let mut state = live.lock();
            if let Some(gate) = &mut state.gate {
                gate.whole = Some(requests);
                gate.is_whole = true;
            }
            self.keep(live, &mut state);
        });
    }

    /// The props of a user have changed.
    pub(super) fn keep_user(&self, app: &AppId, user: &UserId) {
        let Some(keeping) = &self.inner.keeping else { return };
        keeping.queue.lock().users.insert((app.clone(), user.clone()));
        keeping.news.notify_one();
    }

    /// Takes out what is to be stored, in one piece. The caller tells [`Engine::note_stored`].
    pub fn cut(&self) -> Option<Cut> {
        let keeping = self.inner.keeping.as_ref()?;
        let (number, items, users, is_urgent) = {
            let _pin = keeping.pin.write();
            let mut queue = keeping.queue.lock();
            if queue.items.is_empty() && queue.users.is_empty() {
                return None;
            }
            queue.cuts += 1;
            let (items, users) = (mem::take(&mut queue.items), mem::take(&mut queue.users));
            (queue.cuts, items, users, mem::take(&mut queue.is_urgent))
        };
        keeping.users_cut.store(users.len(), Ordering::Relaxed);
        let record = |(app, user): (AppId, UserId)| {
            let props = self.user_props(&app, &user);
            UserRecord { app, user, props }
        };
        Some(Cut { number, items, users: users.into_iter().map(record).collect(), is_urgent })
    }

    /// Waits until something is in the queue; returns whether somebody waits for it.
    pub async fn to_be_kept(&self) -> bool {
        let Some(keeping) = &self.inner.keeping else { return std::future::pending().await };
        loop {
            let news = keeping.news.notified();
            {
                let queue = keeping.queue.lock();
                let is_crowded = keeping.is_crowded.swap(false, Ordering::AcqRel);
                if is_crowded || !(queue.items.is_empty() && queue.users.is_empty()) {
                    return queue.is_urgent;
                }
            }
            news.await;
        }
    }

    /// Waits until somebody waits for what is in the queue.
    pub async fn kept_urgently(&self) {
        let Some(keeping) = &self.inner.keeping else { return std::future::pending().await };
        loop {
            let news = keeping.news.notified();
            if keeping.queue.lock().is_urgent {
                return;
            }
            news.await;
        }
    }

    /// What was cut is stored: what waited for that is shown, and those who waited are woken.
    pub fn note_stored(&self, cut: Cut) {
        let Some(keeping) = &self.inner.keeping else { return };
        for Of { live, until } in cut.items.into_iter().filter_map(|kept| kept.of) {
            let wake = match until {
                Some(until) => self.note_stored_of(&live, until),
                None => self.note_end_stored(&live),
            };
            wake.into_iter().for_each(Waker::wake);
        }
        keeping.users_cut.store(0, Ordering::Relaxed);
        keeping.stored.send_replace(cut.number);
    }

    fn note_stored_of(&self, live: &Arc<Live>, until: Mark) -> Vec<Waker> {
        let mut state = live.lock();
        let Some(gate) = &mut state.gate else { return Vec::new() };
        gate.is_asking = false;
        gate.stored = Some(until);
        let is_stored = |(mark, _): &(Mark, Waker)| *mark <= until;
        let waiting = gate.waiting.iter().filter(|(_, it)| is_stored(it));
        let mut wake: Vec<Waker> = waiting.map(|(_, (_, waker))| waker.clone()).collect();
        if state.closed {
            return wake;
        }
        if state.lands_by(until.revision) {
            wake.extend(self.release(live, &mut state));
        }
        if state.core.is_open() {
            if self.is_draining() {
                wake.extend(self.flush(live, &mut state));
            } else {
                self.schedule_tick(live, &mut state);
            }
        }
        self.keep(live, &mut state);
        wake
    }

    /// Shows what was in flight.
    fn release(&self, live: &Arc<Live>, state: &mut State) -> Vec<Waker> {
        let was_unborn = state.is_unborn();
        let (wake, before) = state.release(self.clock().now(), self.encoder());
        if was_unborn {
            self.place(live, state);
            state.seats = state.core.shown_seats();
        } else {
            self.place_framed(live, state, || before.clone());
            let watched = self.watching(state).zip(before);
            self.note_frame(state, watched);
        }
        wake
    }

    /// That a session has ended is stored: those who still had streams of it learn of it.
    fn note_end_stored(&self, live: &Arc<Live>) -> Vec<Waker> {
        if let Some(keeping) = &self.inner.keeping {
            keeping.ended.lock().remove(&live.epoch);
        }
        let mut state = live.lock();
        let mark = state.core.mark();
        let Some(gate) = &mut state.gate else { return Vec::new() };
        let waiting = gate.waiting.iter().map(|(_, (_, waker))| waker.clone());
        let mut wake: Vec<Waker> = waiting.collect();
        // There will never be more.
        gate.stored = Some(Mark { epoch: Epoch::MAX, ..mark });
        if mem::take(&mut gate.is_ending) {
            wake.extend(self.release(live, &mut state));
            wake.extend(state.end_all(End::Deleted));
            wake.extend(state.end_attached(&End::Deleted));
        }
        wake
    }
}

/// Whether a snapshot of a session tells of a request.
pub(super) fn is_to_session(request: &RequestRecord) -> bool {
    matches!(request.place, Place::Session(_))
}

fn boxed(request: RequestRecord) -> Entry {
    Entry::Request(Box::new(request))
}
