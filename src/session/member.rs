//! Who is in a session, and in which order they changed.

use super::{
    epoch::Epoch, growth::Growth, ids::UserId, limits::Micros, revision::Revision, role::Role,
    seldom::empty, settings::Presence, slots::Slots,
};
use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
use slab::Slab;
use std::{hash::BuildHasher, sync::Arc};

/// A membership that ended, for those who still hold streams of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departed {
    /// Which, by [`Membership::order`].
    pub order: u64,
    /// Why.
    pub departure: Departure,
    /// What the one who kicked says to it.
    pub reason: Arc<str>,
    /// When the ban ends, if it is banned and the ban ends.
    pub until: Option<Micros>,
}

/// Why a member left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// By its own wish.
    Left,
    /// Its connection was lost.
    Lost,
    /// Somebody kicked it.
    Kicked,
    /// Somebody banned it.
    Banned,
}

/// Stands for a member while it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberIx(u32);

/// A membership as the commands see it: what is accepted.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The role.
    pub role: Role,
    /// What happens when the last stream is lost.
    pub presence: Presence,
    /// It has lost its last stream, and shown itself in no other way since.
    pub disconnected: bool,
    /// It is shown without having joined: see [`super::private`].
    pub absent: bool,
    /// Open streams of the user in this session.
    pub streams: u32,
    /// It has had a stream.
    pub(super) has_streamed: bool,
    /// Counts joins in the session, from 1; smaller joined earlier, and each membership has its own.
    pub order: u64,
    /// When it joined.
    pub joined_at: Micros,
}

/// A membership between two resets of its session: a write that comes late belongs to the one in
/// which it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    /// That of the session.
    pub(super) epoch: Epoch,
    /// As in [`Membership::order`].
    pub(super) order: u64,
    /// The reset before it.
    pub(super) reset: Revision,
}

/// A membership as subscribers see it: as of the last frame.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The role.
    pub role: Role,
    /// The last stream is lost.
    pub disconnected: bool,
    /// As in [`Membership::order`].
    pub order: u64,
    /// When it joined.
    pub joined_at: Micros,
    /// The revision of the join.
    pub(super) joined: Revision,
    /// The revision at which an earlier membership of the user ended, if that is remembered.
    pub(super) replaces: Revision,
    /// The revision at which role or `disconnected` last changed.
    pub(super) status: Revision,
    /// The revision at which it last became or ceased to be host.
    pub(super) hosting: Revision,
}

/// One user in the session.
#[derive(Debug)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// Accepted; none = it has left.
    pub now: Option<Membership>,
    /// Framed; none = the last frame does not show it yet.
    pub shown: Option<Shown>,
    /// Its props.
    pub(super) slots: Slots,
    /// Why it left, where `now` is none.
    pub(super) departure: Departure,
    pub(super) dirty: bool,
    /// The revision of the last change of anything.
    pub(super) changed: Revision,
    pub(super) newer: Option<MemberIx>,
    pub(super) older: Option<MemberIx>,
}

/// How many are in a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Members, disconnected ones included and spectators not.
    pub members: usize,
    /// Spectators.
    pub spectators: usize,
}

impl Counts {
    fn of(&mut self, role: Role) -> &mut usize {
        if role == Role::Spectator { &mut self.spectators } else { &mut self.members }
    }
}

/// The members, found by user, by join order, and by how recently they changed.
#[derive(Debug, Default)]
pub struct Members {
    pub(super) slab: Slab<Member>,
    /// Each under the hash of its user.
    pub(super) by_user: HashTable<MemberIx>,
    /// Accepted memberships in join order.
    pub(super) by_order: Vec<(u64, MemberIx)>,
    /// How many memberships there have been.
    pub(super) begun: u64,
    /// The accepted ones.
    pub(super) counts: Counts,
    /// Those that the last frame shows.
    pub(super) shown_counts: Counts,
    pub(super) dirty: Vec<MemberIx>,
    pub(super) newest: Option<MemberIx>,
    pub(super) oldest: Option<MemberIx>,
}

empty!(Members);

fn hash(user: &str) -> u64 {
    FxBuildHasher.hash_one(user)
}

impl Members {
    /// The index of a user that is accepted or shown.
    pub fn find(&self, user: &str) -> Option<MemberIx> {
        self.by_user.find(hash(user), |&ix| *self.get(ix).user == *user).copied()
    }

    /// The member.
    pub fn get(&self, ix: MemberIx) -> &Member {
        &self.slab[ix.0 as usize]
    }

    /// The member, if the index is in use.
    pub(super) fn try_get(&self, ix: MemberIx) -> Option<&Member> {
        self.slab.get(ix.0 as usize)
    }

    /// The member, if the index is in use.
    pub fn try_get_mut(&mut self, ix: MemberIx) -> Option<&mut Member> {
        self.slab.get_mut(ix.0 as usize)
    }

    pub(super) fn get_mut(&mut self, ix: MemberIx) -> &mut Member {
        &mut self.slab[ix.0 as usize]
    }

    /// The accepted membership of a user.
    pub fn membership(&self, user: &str) -> Option<&Membership> {
        self.get(self.find(user)?).now.as_ref()
    }

    /// Accepted memberships in join order.
    pub fn joined(&self) -> impl Iterator<Item = (MemberIx, &UserId, &Membership)> {
        self.by_order.iter().filter_map(|&(_, ix)| {
            let member = self.get(ix);
            Some((ix, &member.user, member.now.as_ref()?))
        })
    }

    /// Who has the accepted membership of a place in join order.
    pub(super) fn of_order(&self, order: u64) -> Option<MemberIx> {
        self.place(order).ok().map(|at| self.by_order[at].1)
    }

    fn place(&self, order: u64) -> Result<usize, usize> {
        self.by_order.binary_search_by_key(&order, |(order, _)| *order)
    }

    fn drop_order(&mut self, order: u64) {
        if let Ok(at) = self.place(order) {
            self.by_order.remove(at);
        }
    }

    /// How many accepted memberships there are.
    pub fn joined_count(&self) -> usize {
        self.by_order.len()
    }

    /// The accepted memberships, counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Everyone whom the last frame shows, counted.
    pub fn shown_counts(&self) -> Counts {
        self.shown_counts
    }

    /// The place of the next membership in join order.
    pub(super) fn next_order(&self) -> u64 {
        self.begun + 1
    }

    /// Everyone whom the last frame shows, in no particular order.
    pub fn shown(&self) -> impl Iterator<Item = (&Member, &Shown)> {
        self.slab.iter().filter_map(|(_, member)| Some((member, member.shown.as_ref()?)))
    }

    /// Everyone whom the last frame shows, whose last change is after `revision`; latest first.
    pub fn changed_after(&self, revision: Revision) -> impl Iterator<Item = (&Member, &Shown)> {
        let mut next = self.newest;
        std::iter::from_fn(move || {
            let member = self.get(next?);
            next = member.older;
            (member.changed > revision).then_some(member)
        })
        .filter_map(|member| Some((member, member.shown.as_ref()?)))
    }

    /// Adds a membership; the user must not have an accepted one.
    pub(super) fn join(&mut self, user: &UserId, membership: Membership) -> MemberIx {
        let order = membership.order;
        self.begun = order;
        *self.counts.of(membership.role) += 1;
        let ix = match self.find(user) {
            Some(ix) => ix,
            None => {
                let member = Member {
                    user: user.clone(),
                    now: None,
                    shown: None,
                    slots: Slots::default(),
                    departure: Departure::Left,
                    dirty: false,
                    changed: Revision::NONE,
                    newer: None,
                    older: None,
                };
                let Self { slab, by_user, .. } = self;
                slab.grow();
                let ix = MemberIx(u32::try_from(slab.insert(member)).expect("bounded"));
                let hash_of = |ix: &MemberIx| hash(&slab[ix.0 as usize].user);
                by_user.insert_unique(hash(user), ix, hash_of);
                ix
            }
        };
        self.get_mut(ix).now = Some(membership);
        match self.place(order) {
            Ok(at) => self.by_order[at].1 = ix,
            // The last one, but where a session is put together from records.
            Err(at) => {
                self.by_order.grow();
                self.by_order.insert(at, (order, ix));
            }
        }
        self.mark(ix);
        ix
    }

    /// Ends a membership. Its accepted props are gone at once; subscribers see it go with the frame.
    pub(super) fn leave(&mut self, ix: MemberIx, departure: Departure) -> Option<Membership> {
        let member = self.get_mut(ix);
        let membership = member.now.take()?;
        member.departure = departure;
        member.slots.clear_accepted();
        *self.counts.of(membership.role) -= 1;
        self.drop_order(membership.order);
        self.mark(ix);
        Some(membership)
    }

    /// A membership goes on in another role.
    pub(super) fn change_role(&mut self, ix: MemberIx, role: Role) {
        let Some(membership) = &mut self.get_mut(ix).now else { return };
        let before = std::mem::replace(&mut membership.role, role);
        *self.counts.of(before) -= 1;
        *self.counts.of(role) += 1;
        self.mark(ix);
    }

    /// The frame shows a member in a role, in which it did not show it before.
    pub(super) fn show_role(&mut self, before: Option<Role>, role: Role) {
        if let Some(before) = before {
            *self.shown_counts.of(before) -= 1;
        }
        *self.shown_counts.of(role) += 1;
    }

    /// A user is in the session as its owner says: what is accepted is what is shown.
    pub(super) fn put(&mut self, user: &UserId, now: Membership, shown: Shown) -> MemberIx {
        let mut before = None;
        if let Some(member) = self.find(user).map(|ix| self.get_mut(ix)) {
            before = member.shown.as_ref().map(|shown| shown.role);
            if let Some(membership) = member.now.take() {
                *self.counts.of(membership.role) -= 1;
                self.drop_order(membership.order);
            }
        }
        self.show_role(before, shown.role);
        let ix = self.join(user, now);
        self.get_mut(ix).shown = Some(shown);
        ix
    }

    /// Something accepted changed about the member: the next frame looks at it.
    pub(super) fn mark(&mut self, ix: MemberIx) {
        let member = self.get_mut(ix);
        if !member.dirty {
            member.dirty = true;
            self.dirty.push(ix);
        }
    }

    /// Takes the marks off.
    pub(super) fn take_marked(&mut self) -> Vec<MemberIx> {
        let marked = std::mem::take(&mut self.dirty);
        for &ix in &marked {
            self.get_mut(ix).dirty = false;
        }
        marked
    }

    /// Gives the list back, so that the next frame need not allocate.
    pub(super) fn reuse(&mut self, mut marked: Vec<MemberIx>) {
        marked.clear();
        self.dirty = marked;
    }

    /// The member changed at `revision`: it becomes the latest of all.
    pub(super) fn touch(&mut self, ix: MemberIx, revision: Revision) {
        self.unlink(ix);
        let newest = self.newest.replace(ix);
        let member = self.get_mut(ix);
        member.changed = revision;
        member.older = newest;
        match newest {
            Some(newest) => self.get_mut(newest).newer = Some(ix),
            None => self.oldest = Some(ix),
        }
    }

    /// Drops a member that is neither accepted nor shown any more.
    pub(super) fn remove(&mut self, ix: MemberIx) -> Member {
        self.unlink(ix);
        let member = self.slab.remove(ix.0 as usize);
        if let Ok(known) = self.by_user.find_entry(hash(&member.user), |known| *known == ix) {
            known.remove();
        }
        if let Some(shown) = &member.shown {
            *self.shown_counts.of(shown.role) -= 1;
        }
        member
    }

    fn unlink(&mut self, ix: MemberIx) {
        let member = self.get_mut(ix);
        let (newer, older) = (member.newer.take(), member.older.take());
        match newer {
            Some(newer) => self.get_mut(newer).older = older,
            None if self.newest == Some(ix) => self.newest = older,
            None => {}
        }
        match older {
            Some(older) => self.get_mut(older).newer = newer,
            None if self.oldest == Some(ix) => self.oldest = newer,
            None => {}
        }
    }
}
