//! What the opener chooses and an admin may change.

use super::{
    ids::{Key, UserId},
    judging::Rule,
    limits::{Micros, REJOIN_GRACE},
    password::PasswordHash,
    role::Role,
    value::Value,
};
use std::{collections::BTreeSet, sync::Arc};

/// Who sees whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everyone sees everyone.
    Room,
    /// Members see the host, the host sees all.
    Hosted,
    /// One source, one listener: only these two see the source's props.
    Private,
}

/// What happens to a member whose last stream is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Shown as disconnected for a while, then it leaves.
    Tied,
    /// It stays, shown as disconnected.
    Explicit,
}

/// When frames are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pacing {
    /// On the fixed tick.
    Tick,
    /// At once after a quiet interval, then the interval holds.
    Eager,
}

/// What is written down of a session, and when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: it ends with its owner.
    #[default]
    None,
    /// What changed, now and then; it is shown before.
    Async,
    /// Each frame, before it is shown.
    Sync,
}

/// A set of keys; the empty one stands for something wider.
pub type Keys = Arc<BTreeSet<Key>>;

/// The settings in force. Names and bounds: `SessionSettings` in the proto.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Unique in the app.
    pub name: Option<Key>,
    /// Shown keys; empty = all.
    pub propnames: Keys,
    /// Hosted: the host's keys that members see; empty = `propnames`.
    pub hostprops: Keys,
    /// The interval of the tick.
    pub tick: Micros,
    /// When frames are made.
    pub pacing: Pacing,
    /// Places for members.
    pub capacity: usize,
    /// Nobody new may join.
    pub locked: bool,
    /// Hidden from people outside.
    pub unlisted: bool,
    /// Free settings, ordered by key.
    pub metadata: Arc<[(Key, Value)]>,
    /// Hosted: who becomes host first.
    pub successors: Arc<[UserId]>,
    /// Hosted: how long a lost host keeps its place.
    pub host_grace: Micros,
    /// Hosted: whether a new host takes over the old one's props.
    pub inherit_host_data: bool,
    /// What happens to members whose join does not say so when their last stream is lost; none = tied
    /// if a stream joins, else explicit.
    pub presence: Option<Presence>,
    /// How long a lost member stays.
    pub rejoin_grace: Micros,
    /// How long the session lives empty.
    pub empty_ttl: Micros,
    /// How long it lives at all; 0 = no bound.
    pub max_age: Micros,
    /// A user is in one of the app's exclusive sessions at a time; fixed at the opening.
    pub exclusive: bool,
    /// The lowest role that writes shared data.
    pub data_role: Role,
    /// The lowest role that resets the session.
    pub reset_role: Role,
    /// What outlives a crash; fixed at the opening.
    pub durability: Durability,
    /// What must be true of what is asked of the session; fixed at the opening.
    pub rules: Arc<[Rule]>,
}

/// One setting to change.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // named as the fields of `Settings`
pub enum Setting {
    Name(Option<Key>),
    Propnames(Keys),
    Hostprops(Keys),
    Tick(Micros),
    Pacing(Pacing),
    Capacity(usize),
    Locked(bool),
    Unlisted(bool),
    Metadata(Arc<[(Key, Value)]>),
    Successors(Arc<[UserId]>),
    HostGrace(Micros),
    InheritHostData(bool),
    Presence(Option<Presence>),
    RejoinGrace(Micros),
    EmptyTtl(Micros),
    MaxAge(Micros),
    DataRole(Role),
    Password(Option<PasswordHash>),
    ResetRole(Role),
}

impl Setting {
    /// Its name in `SessionSettings`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::Propnames(_) => "propnames",
            Self::Hostprops(_) => "hostprops",
            Self::Tick(_) => "tick_interval",
            Self::Pacing(_) => "pacing",
            Self::Capacity(_) => "capacity",
            Self::Locked(_) => "locked",
            Self::Unlisted(_) => "unlisted",
            Self::Metadata(_) => "metadata",
            Self::Successors(_) => "successors",
            Self::HostGrace(_) => "host_grace",
            Self::InheritHostData(_) => "inherit_host_data",
            Self::Presence(_) => "presence",
            Self::RejoinGrace(_) => "rejoin_grace",
            Self::EmptyTtl(_) => "empty_ttl",
            Self::MaxAge(_) => "max_age",
            Self::DataRole(_) => "data_role",
            Self::Password(_) => "password",
            Self::ResetRole(_) => "reset_role",
        }
    }
}

impl Settings {
    /// The defaults of a server whose tick is `tick` and whose sessions have at most `capacity`
    /// members.
    pub fn new(tick: Micros, capacity: usize) -> Self {
        Self {
            name: None,
            propnames: Keys::default(),
            hostprops: Keys::default(),
            tick,
            pacing: Pacing::Tick,
            capacity,
            locked: false,
            unlisted: false,
            metadata: [].into(),
            successors: [].into(),
            host_grace: 0,
            inherit_host_data: true,
            presence: None,
            rejoin_grace: REJOIN_GRACE,
            empty_ttl: 0,
            max_age: 0,
            exclusive: false,
            data_role: Role::Member,
            reset_role: Role::Admin,
            durability: Durability::None,
            rules: [].into(),
        }
    }

    /// Takes one change.
    pub fn change(&mut self, change: Setting) {
        match change {
            Setting::Name(name) => self.name = name,
            Setting::Propnames(keys) => self.propnames = keys,
            Setting::Hostprops(keys) => self.hostprops = keys,
            Setting::Tick(tick) => self.tick = tick,
            Setting::Pacing(pacing) => self.pacing = pacing,
            Setting::Capacity(capacity) => self.capacity = capacity,
            Setting::Locked(locked) => self.locked = locked,
            Setting::Unlisted(unlisted) => self.unlisted = unlisted,
            Setting::Metadata(metadata) => self.metadata = metadata,
            Setting::Successors(successors) => self.successors = successors,
            Setting::HostGrace(grace) => self.host_grace = grace,
            Setting::InheritHostData(inherit) => self.inherit_host_data = inherit,
            Setting::Presence(presence) => self.presence = presence,
            Setting::RejoinGrace(grace) => self.rejoin_grace = grace,
            Setting::EmptyTtl(ttl) => self.empty_ttl = ttl,
            Setting::MaxAge(age) => self.max_age = age,
            Setting::DataRole(role) => self.data_role = role,
            // These settings are sent to people; the session keeps the password apart from them.
            Setting::Password(_) => {}
            Setting::ResetRole(role) => self.reset_role = role,
        }
    }

    /// Whether the session shows `key` of users' props at all.
    pub fn selects(&self, key: &str) -> bool {
        self.propnames.is_empty() || self.propnames.contains(key)
    }

    /// Whether members of a hosted session see `key` of the host.
    pub fn shows_of_host(&self, key: &str) -> bool {
        if self.hostprops.is_empty() { self.selects(key) } else { self.hostprops.contains(key) }
    }
}
