//! The clockwork: which sessions and users there are, when each session is framed, and who is woken.
//!
//! A session sits behind a mutex of its own. Whichever thread read a command applies it there and
//! puts the session on the list of its shard; the shard's runtime alone flushes it when the tick is
//! due. Lock order: gateway, what is remembered of a place ([`requests`]), user, session, what
//! watchers get or the journal of events, a shard's list, never two sessions; no lock is held
//! across an await.

mod alike;
mod apps;
pub mod asked;
mod clock;
mod commands;
mod counters;
pub mod encoder;
mod error;
mod events;
mod exclusive;
mod filter;
mod footprint;
mod gate;
mod gateway;
mod guesses;
mod keeping;
mod lifecycle;
mod listing;
mod live;
mod logs;
mod members;
mod opening;
mod passwords;
mod pin;
pub mod priority;
mod private;
mod rates;
mod registry;
mod requests;
mod restoring;
pub mod rule;
mod schedule;
mod shard;
mod shared;
mod space;
mod stored;
mod subscriber;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod users;
mod waiting;
mod watch;

pub use apps::{App, AppLimit, AppLimits, AppsSettings, Lanes, MOST_OWED, Share, Turn};
pub use clock::Clock;
pub use counters::{Counter, Counters};
pub use encoder::{Delivery, Encoded};
pub use error::Refusal;
pub use events::{
    AppEvent, AppWhat, Credential, EventBounds, EventCursor, EventGap, EventTold, EventWatch,
    EventsFrom, JudgedRefusal, RefusedBy, Revoked,
};
pub use filter::{Allowance, Filter, Outline};
pub use footprint::Footprint;
pub use gateway::{Attachment, Entered, Found, GatewayStream, Hold};
pub use guesses::{Guess, Peer};
pub use keeping::{Cut, KeepingSettings, Kept};
pub use listing::{Order, Place, Query};
pub use live::{Live, State};
pub use opening::Target;
pub use passwords::{Compared, HashCost, Password, Passwords};
pub use rates::Rates;
pub use requests::{Begun, REMEMBERED_FOR, REMEMBERED_IDS, Reply, RequestId, Scope, Ticket};
pub use restoring::Restored;
pub use shard::{Alarm, Shard};
pub use space::Space;
pub use stored::Unstored;
pub use subscriber::{End, Options, Resume, Step, Subscription};
pub use users::{Follower, UserStream};
pub use waiting::WAITING_READS;
pub use watch::{Cursor, Reset, SessionEvent, SessionWatch, Told};

use crate::session::{
    epoch::Epoch,
    ids::{AppId, Key, SessionId},
    limits::{Limits, Micros},
    revision::Revision,
    settings::Settings,
};
use alike::Alike;
use apps::Apps;
use counters::Counted;
use dashmap::DashMap;
use encoder::Encoder;
use events::Events;
use gateway::{Gateway, Turns};
use keeping::Keeping;
use logs::Logs;
use parking_lot::{Mutex, RwLock};
use registry::Registry;
use requests::Requests;
use rule::JudgedApps;
use rustc_hash::FxBuildHasher;
use std::{
    fmt,
    future::poll_fn,
    hash::{BuildHasher, Hash},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    task::Poll,
};
use watch::Journals;

/// Into how many groups the sessions of a shard are spread over their tick.
const GROUPS: u64 = 5;

/// The least time between two frames that [`Engine::transmit`] closes.
const TRANSMIT_INTERVAL: Micros = 5_000;

/// What the engine is set to.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// How many runtimes tick sessions.
    pub shards: usize,
    /// The tick of sessions that do not choose one.
    pub tick: Micros,
    /// When a user without membership and stream is forgotten.
    pub user_ttl: Micros,
    /// How many sessions there may be.
    pub max_sessions: usize,
    /// How many users are remembered.
    pub max_users: usize,
    /// How many sessions a user may have joined.
    pub max_sessions_per_user: usize,
    /// In how many private sessions a user may be the source.
    pub max_listeners_per_user: usize,
    /// How many updates a user may send in a second.
    pub max_updates_per_second: u64,
    /// How many changes of sessions and members a user may make in a second, in bursts of as many, or
    /// of as many as the sessions that it may have joined.
    pub max_changes_per_second: u64,
    /// Bytes of the logs of all sessions.
    pub max_logs_bytes: usize,
    /// About how many bytes of replies are remembered for requests with an id.
    pub max_replay_bytes: usize,
    /// How much is kept of what happened.
    pub events: EventBounds,
    /// How what it has is stored; none = there is no store.
    pub keeping: Option<KeepingSettings>,
    /// The bounds of each session.
    pub limits: Limits,
    /// What is judged in which app at first: see [`Engine::judge_apps`].
    pub judged: JudgedApps,
}

/// A point in a session's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The incarnation.
    pub epoch: Epoch,
    /// The frame.
    pub revision: Revision,
}

/// What a session is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SessionKey {
    /// Its id.
    Id(SessionId),
    /// Its name.
    Name(Key),
}

impl SessionKey {
    /// The id, if it is one.
    pub fn id(&self) -> Option<&SessionId> {
        match self {
            Self::Id(id) => Some(id),
            Self::Name(_) => None,
        }
    }
}

/// Who joined, and what the frame will show.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The session.
    pub live: Arc<Live>,
    /// The frame that shows it.
    pub position: Position,
}

/// What became of a write on a user in one of its sessions.
pub type WriteOutcome = (SessionId, Result<Position, Refusal>);

/// Whether a write counts as a success: at least one session took it, or none is concerned.
pub fn is_taken(outcomes: &[WriteOutcome]) -> bool {
    outcomes.is_empty() || outcomes.iter().any(|(_, outcome)| outcome.is_ok())
}

/// The engine; clones are the same one, but each may act for a caller of its own.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    /// Of whom it does what it does; none = of nobody, or of somebody without a credential.
    credential: Option<Arc<Credential>>,
}

struct Inner {
    settings: EngineSettings,
    limits: Arc<Limits>,
    clock: Clock,
    encoder: Counted,
    counters: Arc<Counters>,
    shards: Vec<Shard>,
    registry: Registry,
    apps: Arc<Apps>,
    /// What the logs of the sessions take.
    logs: Arc<Logs>,
    alike: Alike,
    requests: Requests,
    /// What is to be stored, if there is a store.
    keeping: Option<Keeping>,
    /// For those who watch which sessions there are.
    journals: Journals,
    /// What happened.
    events: Events,
    /// What is judged in which app. Read under locks; under its own nothing is locked.
    judged: RwLock<JudgedApps>,
    gateways: DashMap<(AppId, Key), Arc<Gateway>, FxBuildHasher>,
    turns: Turns,
    last_epoch: AtomicU64,
    draining: AtomicBool,
    /// Held, shared, by whatever changes more than one session, and for a moment by a drain. Locked before
    /// all others.
    at_work: RwLock<()>,
    /// What was stored is not there yet.
    starting: AtomicBool,
    /// One renaming at a time, so that no name is left behind.
    renaming: Mutex<()>,
    /// One at a time opens what nobody found to join. Locked before any user.
    matching: Mutex<()>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine without sessions.
    pub fn new(settings: EngineSettings, clock: Clock, encoder: Arc<dyn Encoder>) -> Self {
        let counters = Arc::new(Counters::default());
        let apps = Arc::new(Apps::new(clock.clone()));
        let inner = Inner {
            encoder: Counted { encoder, counters: counters.clone() },
            counters,
            limits: Arc::new(settings.limits.clone()),
            registry: Registry::new(settings.max_sessions, settings.max_users, apps.clone()),
            apps,
            requests: Requests::new(settings.max_replay_bytes),
            journals: Journals::new(),
            events: Events::new(settings.events),
            shards: (0..settings.shards.max(1)).map(|_| Shard::default()).collect(),
            logs: Arc::new(Logs::new(settings.max_logs_bytes)),
            alike: Alike::default(),
            keeping: settings.keeping.map(Keeping::new),
            judged: RwLock::new(settings.judged.clone()),
            settings,
            clock,
            gateways: DashMap::default(),
            turns: Turns::default(),
            last_epoch: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            at_work: RwLock::new(()),
            starting: AtomicBool::new(false),
            renaming: Mutex::new(()),
            matching: Mutex::new(()),
        };
        Self { inner: Arc::new(inner), credential: None }
    }

    /// Whether another one is the same engine.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// What it is set to.
    pub fn settings(&self) -> &EngineSettings {
        &self.inner.settings
    }

    /// The settings of a session that chooses nothing.
    pub fn default_session(&self) -> Settings {
        let EngineSettings { tick, keeping, limits, .. } = &self.inner.settings;
        let durability = keeping.map(|keeping| keeping.durability).unwrap_or_default();
        Settings { durability, ..Settings::new(*tick, limits.members) }
    }

    /// The time.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    pub(super) fn encoder(&self) -> &dyn Encoder {
        &self.inner.encoder
    }

    /// What happened since the start.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Works off what falls due on one shard, for ever; each runtime runs one.
    pub async fn run_shard(&self, shard: usize) {
        self.inner.shards[shard].run(self).await;
    }

    /// Each runtime says here when its thread is about to rest, and in [`Engine::shard_wakes`] when it
    /// goes on: so it is known what is read late, and frames are made as soon as they can be. Where
    /// nobody says it, nothing is late.
    pub fn shard_rests(&self, shard: usize) {
        self.inner.shards[shard].rests();
    }

    /// See [`Engine::shard_rests`].
    pub fn shard_wakes(&self, shard: usize) {
        self.inner.shards[shard].wakes(self.clock().now());
    }

    /// The list that alarms of streams go to, spread by `key`.
    pub fn shard(&self, key: usize) -> &Shard {
        &self.inner.shards[key % self.inner.shards.len()]
    }

    /// Waits until a moment, to be woken on the thread of a shard.
    pub async fn sleep_until(&self, shard: usize, at: Micros) {
        let alarm = Alarm::new();
        poll_fn(|cx| {
            if self.clock().now() < at && at < Micros::MAX {
                alarm.set(self.shard(shard), at, cx.waker());
            }
            // A clock that was stepped meanwhile would not ring any more.
            if self.clock().now() < at { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    fn shard_of(&self, what: &impl Hash) -> &Shard {
        self.shard(FxBuildHasher.hash_one(what) as usize)
    }
}

fn position(state: &State, revision: Revision) -> Position {
    Position { epoch: state.core.epoch(), revision }
}
