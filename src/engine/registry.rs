//! Which sessions and users there are.

use super::error::Refusal;
use super::{
    apps::{AppLimit, Apps},
    footprint::Footprint,
    live::{Live, State},
    users::{Record, UserRecord},
};
use crate::session::{
    command::Actor,
    epoch::Epoch,
    ids::{AppId, Key, SessionId, UserId},
    limits::Micros,
    private::Pair,
};
use dashmap::{DashMap, Entry};
use rustc_hash::FxBuildHasher;
use std::{
    collections::BTreeMap,
    hash::BuildHasher,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// An ordered index of each app; it goes with its last entry.
type Index<K, V> = DashMap<AppId, BTreeMap<K, V>, FxBuildHasher>;

/// Sharded maps; no guard is held while another is taken.
#[derive(Debug)]
pub struct Registry {
    sessions: DashMap<(AppId, SessionId), Arc<Live>, FxBuildHasher>,
    /// Whose a name is. The session itself, as the next one under its id has no right to the name
    /// before this one has given it back.
    names: DashMap<(AppId, Key), Arc<Live>, FxBuildHasher>,
    /// Private sessions by source and listener.
    pairs: DashMap<(AppId, Pair), SessionId, FxBuildHasher>,
    users: DashMap<(AppId, UserId), UserRecord, FxBuildHasher>,
    apps: Arc<Apps>,
    /// All sessions by id.
    by_id: DashMap<AppId, Sides<SessionId, ()>, FxBuildHasher>,
    /// All sessions by epoch, which is the order of their opening.
    by_epoch: DashMap<AppId, Sides<Epoch, Arc<Live>>, FxBuildHasher>,
    /// Those that not everybody may know of, by each user who may. Without an id: before all of them.
    known: Index<(UserId, Option<SessionId>), ()>,
    known_by_epoch: Index<(UserId, Epoch), Arc<Live>>,
    /// The sessions that anybody may join.
    open_to_all: Index<Epoch, Arc<Live>>,
    session_count: AtomicUsize,
    max_sessions: usize,
    max_users: usize,
}

/// The sessions of an app in one order. Both maps have one guard, so a session that passes from one to
/// the other is always in one of them.
#[derive(Debug)]
struct Sides<K, V> {
    /// Those that everybody may know of.
    listed: BTreeMap<K, V>,
    /// The others.
    hidden: BTreeMap<K, V>,
}

impl<K, V> Default for Sides<K, V> {
    fn default() -> Self {
        Self { listed: BTreeMap::new(), hidden: BTreeMap::new() }
    }
}

/// In which indexes of the registry a session is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Places {
    /// In that of the sessions that everybody may know of, or in that of the others.
    pub exists: bool,
    /// In the former. One that exists and is not in it is also in those of the users who may know of
    /// it.
    pub listed: bool,
    /// In that of the sessions that anybody may join.
    pub open_to_all: bool,
}

impl Places {
    /// Where a session belongs.
    pub fn of(state: &State) -> Self {
        // Where it is not born yet it may be joined, but nobody is shown that it is there.
        let exists = !state.core.has_ended() && !state.is_unborn();
        Self {
            exists,
            listed: exists && state.is_listed(),
            open_to_all: state.core.is_open_to_all(),
        }
    }

    /// It exists, and not everybody may know of it.
    pub fn is_hidden(self) -> bool {
        self.exists && !self.listed
    }
}

/// Puts something into an index, or takes it out.
fn note<K: Ord, V>(index: &Index<K, V>, app: &AppId, key: K, value: Option<V>) {
    if let Some(value) = value {
        index.entry(app.clone()).or_default().insert(key, value);
    } else if let Entry::Occupied(mut entries) = index.entry(app.clone()) {
        entries.get_mut().remove(&key);
        if entries.get().is_empty() {
            entries.remove();
        }
    }
}

/// Puts a session where it belongs in an order, or takes it out.
fn put<K: Ord, V>(
    order: &DashMap<AppId, Sides<K, V>, FxBuildHasher>,
    app: &AppId,
    key: K,
    value: V,
    is: Places,
) {
    if is.exists {
        let mut sides = order.entry(app.clone()).or_default();
        let Sides { listed, hidden } = &mut *sides;
        let (to, from) = if is.listed { (listed, hidden) } else { (hidden, listed) };
        from.remove(&key);
        to.insert(key, value);
    } else if let Entry::Occupied(mut sides) = order.entry(app.clone()) {
        let Sides { listed, hidden } = sides.get_mut();
        listed.remove(&key);
        hidden.remove(&key);
        if listed.is_empty() && hidden.is_empty() {
            sides.remove();
        }
    }
}

fn in_order<K, V>(order: &DashMap<AppId, Sides<K, V>, FxBuildHasher>) -> usize {
    order.iter().map(|sides| sides.listed.len() + sides.hidden.len()).sum()
}

fn entries<K, V>(index: &Index<K, V>) -> usize {
    index.iter().map(|app| app.len()).sum()
}

/// The first id from a place on.
fn first(ids: &BTreeMap<SessionId, ()>, from: Bound<&SessionId>) -> Option<SessionId> {
    ids.range::<SessionId, _>((from, Bound::Unbounded)).next().map(|(id, ())| id.clone())
}

/// The sessions that were opened after an epoch, the oldest first; or before it, the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// After this one.
    After(Epoch),
    /// Before this one.
    Before(Epoch),
}

impl Beyond {
    /// Whether a session is among them.
    pub fn has(self, epoch: Epoch) -> bool {
        match self {
            Self::After(last) => epoch > last,
            Self::Before(last) => epoch < last,
        }
    }

    /// Which of two comes first.
    pub fn first<T>(self, a: (Epoch, T), b: (Epoch, T)) -> (Epoch, T) {
        if (a.0 < b.0) == matches!(self, Self::After(_)) { a } else { b }
    }

    fn first_of<K: Ord + Clone>(
        self,
        sessions: &BTreeMap<K, Arc<Live>>,
        key: impl Fn(Epoch) -> K,
    ) -> Option<(Epoch, Arc<Live>)> {
        let ends = (key(Epoch::default()), key(Epoch::MAX));
        let (_, live) = match self {
            Self::After(last) => {
                let range = (Bound::Excluded(key(last)), Bound::Included(ends.1));
                sessions.range(range).next()
            }
            Self::Before(last) => {
                let range = (Bound::Included(ends.0), Bound::Excluded(key(last)));
                sessions.range(range).next_back()
            }
        }?;
        Some((live.epoch, live.clone()))
    }
}

/// Where a session belongs among shards and groups.
pub fn hash(app: &AppId, id: &SessionId) -> u64 {
    let hash = FxBuildHasher.hash_one((app, id));
    hash ^ (hash >> 29)
}

impl Registry {
    /// An empty registry with its bounds.
    pub(super) fn new(max_sessions: usize, max_users: usize, apps: Arc<Apps>) -> Self {
        Self {
            sessions: DashMap::default(),
            names: DashMap::default(),
            pairs: DashMap::default(),
            users: DashMap::default(),
            apps,
            by_id: DashMap::default(),
            by_epoch: DashMap::default(),
            known: DashMap::default(),
            known_by_epoch: DashMap::default(),
            open_to_all: DashMap::default(),
            session_count: AtomicUsize::new(0),
            max_sessions,
            max_users,
        }
    }

    /// The session of an id.
    pub fn session(&self, app: &AppId, id: &SessionId) -> Option<Arc<Live>> {
        self.sessions.get(&(app.clone(), id.clone())).map(|live| live.clone())
    }

    /// The session of a name.
    pub fn named(&self, app: &AppId, name: &str) -> Option<Arc<Live>> {
        self.names.get(&(app.clone(), Key::from(name))).map(|live| live.clone())
    }

    /// The private session of a pair.
    pub fn private(&self, app: &AppId, pair: &Pair) -> Option<Arc<Live>> {
        let id = self.pairs.get(&(app.clone(), pair.clone())).map(|id| id.clone())?;
        self.session(app, &id)
    }

    /// Takes a new session in, with its name and pair; refused whole if the id, the name or the pair
    /// is taken.
    pub fn insert(&self, live: &Arc<Live>) -> Result<(), Refusal> {
        let room = |count: usize| (count < self.max_sessions).then_some(count + 1);
        self.session_count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).map_err(
            |_| Refusal::LimitReached { limit: "max-sessions", most: self.max_sessions },
        )?;
        let in_app = live.in_app.enter(AppLimit::Sessions, 1).inspect_err(|_| {
            self.session_count.fetch_sub(1, Ordering::Relaxed);
        })?;
        let (name, pair) = {
            let mut state = live.lock();
            state.in_app = Some(in_app);
            (state.core.info().settings.name.clone(), state.core.pair().cloned())
        };
        // The place of the id is held until the name is taken, so that of two who open the same
        // session at once the slower one takes nothing of the other's.
        let outcome = match self.sessions.entry((live.app.clone(), live.id.clone())) {
            Entry::Occupied(_) => Err(Refusal::SessionExists),
            Entry::Vacant(place) => {
                let reserved = self.reserve_pair(live, pair);
                let reserved = reserved.and_then(|()| self.reserve_name(live, name.as_deref()));
                reserved.map(|_| drop(place.insert(live.clone())))
            }
        };
        if let Err(refusal) = outcome {
            live.lock().in_app = None;
            self.session_count.fetch_sub(1, Ordering::Relaxed);
            return Err(refusal);
        }
        Ok(())
    }

    /// Takes in a session that was there before, with its name and pair, which are free.
    pub fn put_back(&self, live: &Arc<Live>) {
        let (name, pair) = {
            let mut state = live.lock();
            state.in_app = Some(live.in_app.hold(AppLimit::Sessions, 1));
            (state.core.accepted_info().settings.name.clone(), state.core.pair().cloned())
        };
        self.session_count.fetch_add(1, Ordering::Relaxed);
        self.sessions.insert((live.app.clone(), live.id.clone()), live.clone());
        // Nobody else is there who could have them.
        let _ = self.reserve_pair(live, pair);
        let _ = self.reserve_name(live, name.as_deref());
    }

    /// Takes a session out.
    pub fn remove(&self, live: &Arc<Live>) {
        let key = (live.app.clone(), live.id.clone());
        if self.sessions.remove_if(&key, |_, known| Arc::ptr_eq(known, live)).is_none() {
            return;
        }
        self.session_count.fetch_sub(1, Ordering::Relaxed);
        let (name, pair) = {
            let mut state = live.lock();
            state.in_app = None;
            state.members_in_app.set(0);
            (state.core.accepted_info().settings.name.clone(), state.core.pair().cloned())
        };
        if let Some(name) = name {
            self.release_name(live, &name);
        }
        if let Some(pair) = pair {
            self.pairs.remove_if(&(live.app.clone(), pair), |_, id| *id == live.id);
        }
    }

    /// A private session has no name, so nothing has to be given back if its pair is taken.
    fn reserve_pair(&self, live: &Arc<Live>, pair: Option<Pair>) -> Result<(), Refusal> {
        let Some(pair) = pair else { return Ok(()) };
        match self.pairs.entry((live.app.clone(), pair)) {
            Entry::Occupied(_) => Err(Refusal::SessionExists),
            Entry::Vacant(place) => {
                place.insert(live.id.clone());
                Ok(())
            }
        }
    }

    /// Takes a name for a session; returns whether it was free, false = the session had it already.
    pub fn reserve_name(&self, live: &Arc<Live>, name: Option<&str>) -> Result<bool, Refusal> {
        let Some(name) = name else { return Ok(false) };
        match self.names.entry((live.app.clone(), name.into())) {
            Entry::Occupied(taken) if Arc::ptr_eq(taken.get(), live) => Ok(false),
            Entry::Occupied(_) => Err(Refusal::NameTaken),
            Entry::Vacant(place) => {
                place.insert(live.clone());
                Ok(true)
            }
        }
    }

    /// Gives a name back.
    pub fn release_name(&self, live: &Arc<Live>, name: &str) {
        self.names.remove_if(&(live.app.clone(), name.into()), |_, of| Arc::ptr_eq(of, live));
    }

    /// Moves a session from the indexes where it was to those where it belongs. Called with the
    /// session locked, and before its id is free for another one.
    pub fn place(&self, live: &Arc<Live>, was: Places, is: Places) {
        if (was.exists, was.listed) != (is.exists, is.listed) {
            put(&self.by_id, &live.app, live.id.clone(), (), is);
            put(&self.by_epoch, &live.app, live.epoch, live.clone(), is);
        }
        if was.open_to_all != is.open_to_all {
            let offered = is.open_to_all.then(|| live.clone());
            note(&self.open_to_all, &live.app, live.epoch, offered);
        }
    }

    /// Notes whether a user knows of a session that is not listed; returns whether the user did before.
    /// Called like [`Registry::place`].
    pub fn note_known(&self, live: &Arc<Live>, user: &UserId, knows: bool) -> bool {
        let key = (user.clone(), live.epoch);
        let knew = self.known_by_epoch.get(&live.app).is_some_and(|all| all.contains_key(&key));
        if knew != knows {
            note(&self.known_by_epoch, &live.app, key, knows.then(|| live.clone()));
            let key = (user.clone(), Some(live.id.clone()));
            note(&self.known, &live.app, key, knows.then_some(()));
        }
        knew
    }

    /// The first session from a place on that an actor may know of.
    pub fn first_visible(
        &self,
        app: &AppId,
        actor: &Actor,
        from: Bound<&SessionId>,
    ) -> Option<SessionId> {
        let known = actor.user().and_then(|user| self.first_known(app, user, from));
        let sides = self.by_id.get(app);
        let hidden = sides.as_ref().filter(|_| actor.user().is_none());
        let hidden = hidden.and_then(|sides| first(&sides.hidden, from));
        let listed = sides.as_ref().and_then(|sides| first(&sides.listed, from));
        [known, hidden, listed].into_iter().flatten().min()
    }

    fn first_known(
        &self,
        app: &AppId,
        user: &UserId,
        from: Bound<&SessionId>,
    ) -> Option<SessionId> {
        let known = self.known.get(app)?;
        let from = match from {
            Bound::Unbounded => Bound::Included((user.clone(), None)),
            from => from.map(|id| (user.clone(), Some(id.clone()))),
        };
        let ((of, id), ()) = known.range((from, Bound::Unbounded)).next()?;
        id.clone().filter(|_| of == user)
    }

    /// The same in the order of opening.
    pub fn next_visible(
        &self,
        app: &AppId,
        actor: &Actor,
        beyond: Beyond,
    ) -> Option<(Epoch, Arc<Live>)> {
        let known = actor.user().and_then(|user| {
            let known = self.known_by_epoch.get(app)?;
            beyond.first_of(&known, |epoch| (user.clone(), epoch))
        });
        let sides = self.by_epoch.get(app);
        let hidden = sides.as_ref().filter(|_| actor.user().is_none());
        let hidden = hidden.and_then(|sides| beyond.first_of(&sides.hidden, |epoch| epoch));
        let listed = sides.as_ref().and_then(|sides| beyond.first_of(&sides.listed, |epoch| epoch));
        let all = [known, hidden, listed].into_iter().flatten();
        all.reduce(|a, b| beyond.first(a, b))
    }

    /// The session opened last before an epoch among those that anybody may join.
    pub fn newest(&self, app: &AppId, before: Epoch) -> Option<(Epoch, Arc<Live>)> {
        let open = self.open_to_all.get(app)?;
        Beyond::Before(before).first_of(&open, |epoch| epoch)
    }

    /// Every session.
    pub fn all(&self) -> Vec<Arc<Live>> {
        self.sessions.iter().map(|entry| entry.value().clone()).collect()
    }

    /// What there is.
    pub fn footprint(&self) -> Footprint {
        let known = entries(&self.known) + entries(&self.known_by_epoch);
        let unordered = self.names.len() + self.pairs.len() + known;
        let ordered = in_order(&self.by_id) + in_order(&self.by_epoch);
        Footprint {
            sessions: self.sessions.len(),
            indexed: unordered + ordered + entries(&self.open_to_all),
            users: self.users.len(),
            ..Footprint::default()
        }
    }

    /// A user, if it is known.
    pub fn user(&self, app: &AppId, user: &UserId) -> Option<UserRecord> {
        self.users.get(&(app.clone(), user.clone())).map(|record| record.clone())
    }

    /// A user, known from now on.
    pub fn user_or_new(&self, app: &AppId, user: &UserId) -> Result<UserRecord, Refusal> {
        if let Some(record) = self.user(app, user) {
            return Ok(record);
        }
        if self.users.len() >= self.max_users {
            return Err(Refusal::LimitReached { limit: "max-users", most: self.max_users });
        }
        let in_app = self.apps.of(app).enter(AppLimit::Users, 1)?;
        let record = self.users.entry((in_app.app().id().clone(), user.clone()));
        Ok(record.or_insert_with(|| Record::of(in_app)).clone())
    }

    /// A user that was known before, however many there are.
    pub fn known_user(&self, app: &AppId, user: &UserId) -> UserRecord {
        let in_app = self.apps.of(app);
        let record = self.users.entry((in_app.id().clone(), user.clone()));
        record.or_insert_with(|| Record::of(in_app.hold(AppLimit::Users, 1))).clone()
    }

    /// Forgets a user that has been idle since then or longer, unless somebody is about to use it.
    pub fn forget(&self, app: &AppId, user: &UserId, idle_since: Micros) {
        self.users.remove_if(&(app.clone(), user.clone()), |_, record| {
            // A caller that uses it holds it. Nobody can take hold of it now.
            Arc::strong_count(record) == 1
                && record
                    .try_lock()
                    .is_some_and(|user| user.idle_since.is_some_and(|since| since <= idle_since))
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        engine::Refusal,
        engine::testing::{app, engine, opening, room, settings},
        session::{
            command::{Actor, Command},
            settings::Setting,
        },
    };
    use std::sync::Arc;

    #[test]
    fn a_name_that_the_last_session_of_an_id_still_holds_is_not_taken_over_with_the_id() {
        let engine = engine(settings());
        let registry = &engine.inner.registry;
        let first = room(&engine, "finals", |settings| settings.name = Some("old".into()));
        // It is renamed and deleted, and its old name is not given back yet.
        registry.reserve_name(&first, Some("new")).expect("it is free");
        for command in [Command::Update(vec![Setting::Name(Some("new".into()))]), Command::Delete] {
            engine.command(&first, &Actor::App, command).expect("the app may");
        }
        let next = opening(&engine, "finals", |settings| settings.name = Some("old".into()));
        let taken = engine.open(next.clone(), false).expect_err("it is not free");
        assert_eq!(taken, Refusal::NameTaken);
        registry.release_name(&first, "old");
        let next = engine.open(next, false).expect("it is free").0.live;
        registry.release_name(&first, "old");
        assert!(registry.named(&app(), "old").is_some_and(|live| Arc::ptr_eq(&live, &next)));
        assert!(registry.named(&app(), "new").is_none());
    }
}
