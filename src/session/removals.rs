//! What has gone from a session, so that deltas can name it.

use super::{
    ids::UserId,
    limits::{Limits, Micros},
    member::{Departure, MemberIx},
    names::KeyIx,
    revision::Revision,
    seldom::empty,
};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// What is gone.
#[derive(Debug, Clone)]
pub enum Gone {
    /// A member's prop: its slot is a tombstone.
    Prop(MemberIx, KeyIx),
    /// Shared session data.
    Data(KeyIx),
    /// Private session data.
    PrivateData(KeyIx),
    /// A member.
    Member(UserId, Departure),
    /// What went is back, or went with something else: in a replica it only counts.
    Nothing,
}

/// Something that went.
#[derive(Debug)]
pub(super) struct Removal {
    pub revision: Revision,
    pub at: Micros,
    pub gone: Gone,
}

/// The latest removals, oldest first, bounded by number and age.
#[derive(Debug, Default)]
pub struct Removals {
    pub(super) list: VecDeque<Removal>,
    pub(super) departed: FxHashMap<UserId, Revision>,
    /// Deltas can begin at this revision or later.
    pub horizon: Revision,
}

empty!(Removals);

impl Removals {
    /// Something went at `revision`.
    pub fn push(&mut self, revision: Revision, at: Micros, gone: Gone) {
        if let Gone::Member(user, _) = &gone {
            self.departed.insert(user.clone(), revision);
        }
        self.list.push_back(Removal { revision, at, gone });
    }

    /// No delta begins before `revision`: of what went until then, only the users who left are
    /// still shown.
    pub fn begin_at(&mut self, revision: Revision) {
        self.list.retain(|removal| matches!(removal.gone, Gone::Member(..)));
        self.horizon = revision;
    }

    /// The revision at which a user last left, if that is remembered.
    pub fn departed(&self, user: &str) -> Revision {
        self.departed.get(user).copied().unwrap_or_default()
    }

    /// The users who left after `revision`, each user once, with the revision.
    pub fn departures_after(
        &self,
        revision: Revision,
    ) -> impl Iterator<Item = (&UserId, Departure)> {
        self.list.iter().rev().take_while(move |removal| removal.revision > revision).filter_map(
            |removal| match &removal.gone {
                Gone::Member(user, departure) if self.departed(user) == removal.revision => {
                    Some((user, *departure))
                }
                _ => None,
            },
        )
    }

    /// Takes out the oldest removal that is over the bounds. The caller raises the horizon if a
    /// delta would have needed it.
    pub fn expire(&mut self, now: Micros, limits: &Limits) -> Option<(Revision, Gone)> {
        let oldest = self.list.front()?;
        if self.list.len() <= limits.removals && now < oldest.at + limits.removal_memory {
            return None;
        }
        self.pop()
    }

    /// Takes out the oldest removal.
    pub(super) fn pop(&mut self) -> Option<(Revision, Gone)> {
        let Removal { revision, gone, .. } = self.list.pop_front()?;
        if let Gone::Member(user, _) = &gone
            && self.departed(user) == revision
        {
            self.departed.remove(user);
        }
        Some((revision, gone))
    }
}
