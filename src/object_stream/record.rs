//! What is written of object streams: plain data, which `record/` makes bytes of. `recording.rs` takes
//! the streams apart into it, `restoring.rs` puts them together again.
//!
//! The unit is a stream with what changed of it: the keys that did, and of an array the elements that
//! came. What is written at a time has one serial, which rises. A reader of it drops what is older
//! than the last writing of the whole app, so it does not matter whether that comes before or after.

use super::Func;
pub use super::stream::Place;
use crate::session::{
    command::Actor,
    ids::{AppId, Key, UserId},
    value::Value,
};
use std::collections::BTreeSet;

/// Bytes of an entry, about: what has more comes in parts. An element is never cut, so there may be
/// more by one value.
pub const PART_BYTES: usize = 512 * 1024;

/// Something that is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Where all streams are.
    Counter(Counter),
    /// What an app has beside its streams.
    App(AppChange),
    /// A stream.
    Stream(Box<StreamChange>),
    /// An app without streams and functions, of which nothing is known any more.
    Forgotten {
        /// Which.
        app: AppId,
        /// When it was written.
        serial: u64,
    },
}

/// Where all streams are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// That of all cursors.
    pub epoch: u64,
    /// Every change up to this revision is written.
    pub revision: u64,
    /// When it was written.
    pub serial: u64,
    /// Apps without streams and functions were forgotten at this revision.
    pub forgotten: u64,
    /// The revisions that were lost, and nothing that a reader has.
    pub gaps: Gaps,
}

/// Which revisions readers may have read that are lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gaps {
    /// What is before is too long ago to know.
    pub horizon: u64,
    /// The oldest first.
    pub list: Vec<Gap>,
}

/// The revisions between two, which are not in it themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last that was written.
    pub after: u64,
    /// The first that was used after that.
    pub until: u64,
}

/// What an app has beside its streams, or some of it.
#[derive(Debug, Clone, PartialEq)]
pub struct AppChange {
    /// The app.
    pub app: AppId,
    /// When it was written.
    pub serial: u64,
    /// When the change before was; 0 = there is none.
    pub after: u64,
    /// Nothing that was known before is there. The streams follow under the same serial.
    pub is_all: bool,
    /// Ends up to this revision are forgotten.
    pub forgotten: u64,
    /// Ends up to this revision were shown to those who share the cursor.
    pub shared: u64,
    /// All functions; none = they are as they were.
    pub functions: Option<Vec<NamedFunction>>,
    /// The streams that are gone.
    pub gone: Vec<Key>,
    /// The ends since the change before.
    pub ends: Vec<End>,
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFunction {
    /// Its name.
    pub name: Key,
    /// Who added it.
    pub by: Actor,
    /// The expression.
    pub source: String,
}

/// A stream that is gone, or that somebody may not read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// When it ended.
    pub revision: u64,
    /// Its name.
    pub name: Key,
    /// Who had created it.
    pub creator: Actor,
    /// Who could read it; none = everybody.
    pub readers: BTreeSet<UserId>,
}

/// What changed of a stream, or a part of that.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamChange {
    /// The app.
    pub app: AppId,
    /// The stream.
    pub name: Key,
    /// When it was written.
    pub serial: u64,
    /// When the change before was; 0 = there is none.
    pub after: u64,
    /// What changed after this revision is here; 0 = everything, and nothing else is there.
    pub since: u64,
    /// Up to this one.
    pub until: u64,
    /// What the first part begins with.
    pub head: Option<Head>,
    /// With a definition, who may read.
    pub readers: BTreeSet<UserId>,
    /// With a definition, which keys are watched.
    pub keys: BTreeSet<Key>,
    /// With a definition, how keys are read.
    pub funcs: Vec<(Key, Func)>,
    /// The keys that were removed, and when.
    pub removed: Vec<(u64, Key)>,
    /// The keys that changed.
    pub leaves: Vec<LeafChange>,
    /// All that is remembered of what readers got of those keys, the oldest of each key first.
    pub recalled: Vec<(Key, Recalled)>,
    /// Another part follows.
    pub more: bool,
}

/// What is one for a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Who created it and how it is read; none = all of the definition is as it was.
    pub defined: Option<Defined>,
    /// The revision of its last change.
    pub changed: u64,
    /// A reader that is behind this has to begin again.
    pub whole_since: u64,
    /// Where the cursor is that all who bring none share.
    pub shared: Place,
    /// How many keys there are.
    pub leaves: usize,
    /// How many removals are remembered.
    pub remembered: usize,
}

/// How a stream was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defined {
    /// Who created it.
    pub creator: Actor,
    /// How keys are read that have no way of their own.
    pub all: Func,
}

/// A key.
#[derive(Debug, Clone, PartialEq)]
pub struct LeafChange {
    /// Which.
    pub key: Key,
    /// The revision of its last change.
    pub changed: u64,
    /// What it holds.
    pub content: Content,
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// What it held.
    Same,
    /// A value that is no array.
    One(Value),
    /// An array.
    Many(Elements),
}

/// An array, or what came to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Elements {
    /// The revision at which its first element became its first.
    pub began: u64,
    /// The revision of the newest element that was dropped.
    pub lost: u64,
    /// How many of the elements that were there are left: the last ones.
    pub kept: usize,
    /// What came, as an array of its kind.
    pub more: Value,
    /// How many of these came at which revision, in order.
    pub marks: Vec<(u64, usize)>,
}

/// A value that a reader got.
#[derive(Debug, Clone, PartialEq)]
pub struct Recalled {
    /// The key held it from this revision.
    pub from: u64,
    /// Until before this one; none = it still does.
    pub until: Option<u64>,
    /// None = it is known, or what the key holds.
    pub value: Option<Value>,
}

impl Change {
    /// The app that it is of.
    pub fn app(&self) -> Option<&AppId> {
        match self {
            Self::Counter(_) => None,
            Self::App(AppChange { app, .. }) | Self::Forgotten { app, .. } => Some(app),
            Self::Stream(change) => Some(&change.app),
        }
    }
}

impl Gaps {
    /// How many are remembered.
    pub const MOST: usize = 16;

    /// Adds one, the last so far.
    pub fn add(&mut self, gap: Gap) {
        if self.list.len() >= Self::MOST {
            let forgotten = self.list.remove(0);
            self.horizon = self.horizon.max(forgotten.until);
        }
        self.list.push(gap);
    }

    /// Whether all is there that a reader has up to a revision; 0 = it has nothing.
    pub fn keep(&self, after: u64) -> bool {
        let is_lost = |gap: &Gap| gap.after < after && after < gap.until;
        after == 0 || (after >= self.horizon && !self.list.iter().any(is_lost))
    }

    /// Whether a read that goes up to a revision began after the last one. What it has read so far
    /// may be newer than that revision.
    pub fn are_before(&self, to: u64) -> bool {
        self.list.last().is_none_or(|last| last.until <= to)
    }
}
