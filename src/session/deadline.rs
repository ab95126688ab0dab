//! What happens to a session because time passes.

use super::{
    Session,
    ban::Ban,
    event::Ended,
    limits::{Micros, SERVER_END_GRACE, UNUSED_TTL},
    member::{Departure, MemberIx},
    seldom::{Seldom, empty},
    settings::Presence,
};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;

/// What a moment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Deadline {
    /// A tied member has been without a stream for too long.
    Member(MemberIx),
    /// A member has not come back since the session has another owner.
    Return(MemberIx),
    /// A lost host is replaced.
    Host,
    /// The session has been empty for too long.
    Empty,
    /// The session is too old.
    Age,
    /// The time of a seat is over.
    Seats,
    /// Nobody has listened to every write for long enough.
    Log,
}

/// What is due when; each at one moment at most. The few of the session itself have a place each;
/// those of members are ordered, as they may be many.
#[derive(Debug)]
pub(super) struct Deadlines {
    /// By [`Deadline::place`].
    own: [Micros; OWN],
    of_members: Seldom<OfMembers>,
}

/// How many there are of the session itself.
const OWN: usize = 5;

/// When it is due what is not due.
const NEVER: Micros = Micros::MAX;

#[derive(Debug, Default)]
struct OfMembers {
    by_moment: BTreeSet<(Micros, Deadline)>,
    moments: FxHashMap<Deadline, Micros>,
}

empty!(OfMembers);

impl Deadline {
    /// Those of the session itself, in the order of their places.
    const OWN: [Self; OWN] = [Self::Host, Self::Empty, Self::Age, Self::Seats, Self::Log];

    /// The place of one of the session itself; none = it is of a member.
    fn place(self) -> Option<usize> {
        Self::OWN.iter().position(|own| *own == self)
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { own: [NEVER; OWN], of_members: Seldom::NONE }
    }
}

impl Deadlines {
    /// When something is due.
    pub fn at(&self, deadline: Deadline) -> Option<Micros> {
        match deadline.place() {
            Some(place) => Some(self.own[place]).filter(|at| *at != NEVER),
            None => self.of_members.moments.get(&deadline).copied(),
        }
    }

    /// It is due then, and at no other moment; none = it is not due any more.
    pub fn set(&mut self, deadline: Deadline, at: Option<Micros>) {
        if let Some(place) = deadline.place() {
            self.own[place] = at.unwrap_or(NEVER);
            return;
        }
        if let Some(known) = self.of_members.some_mut()
            && let Some(before) = known.moments.remove(&deadline)
        {
            known.by_moment.remove(&(before, deadline));
        }
        if let Some(at) = at {
            self.of_members.moments.insert(deadline, at);
            self.of_members.by_moment.insert((at, deadline));
        } else {
            self.of_members.tidy(|known| known.moments.is_empty());
        }
    }

    /// When something is due next.
    pub fn next(&self) -> Option<Micros> {
        self.first().map(|(at, _)| at)
    }

    /// Takes out what is due next, if it is due by now.
    pub fn take_due(&mut self, now: Micros) -> Option<Deadline> {
        let (_, deadline) = self.first().filter(|(at, _)| *at <= now)?;
        self.set(deadline, None);
        Some(deadline)
    }

    /// What is due next. Of what is due at the same moment the least comes first.
    fn first(&self) -> Option<(Micros, Deadline)> {
        let own = self.own.iter().copied().zip(Deadline::OWN).filter(|(at, _)| *at != NEVER);
        own.chain(self.of_members.by_moment.first().copied()).min()
    }
}

/// How long the session is there.
#[derive(Debug)]
pub(super) struct Lifetime {
    pub opened_at: Micros,
    /// When everybody had gone by whom it lives; none = nobody has yet.
    pub emptied_at: Option<Micros>,
    pub ended: bool,
}

impl Lifetime {
    /// It opens.
    pub fn begin(now: Micros) -> Self {
        Self { opened_at: now, emptied_at: None, ended: false }
    }

    /// When it was opened.
    pub fn opened_at(&self) -> Micros {
        self.opened_at
    }

    /// Everybody has gone by whom it lives.
    pub fn emptied(&mut self, now: Micros) {
        self.emptied_at = Some(now);
    }

    /// It is over, for good.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// When it ends if it stays empty: `ttl` after the last leave; where nobody has joined yet, not
    /// within the first minute.
    fn end_if_empty(&self, ttl: Micros) -> Micros {
        match self.emptied_at {
            Some(emptied_at) => emptied_at + ttl,
            None => self.opened_at + ttl.max(UNUSED_TTL),
        }
    }
}

impl Session {
    /// When [`Session::pass_time`] has something to do next.
    pub fn next_deadline(&self) -> Option<Micros> {
        self.deadlines.next()
    }

    /// Does what is due.
    pub fn pass_time(&mut self, now: Micros) {
        while !self.lifetime.has_ended()
            && let Some(deadline) = self.deadlines.take_due(now)
        {
            match deadline {
                Deadline::Member(ix) => self.remove_member(now, ix, Departure::Lost),
                Deadline::Return(ix) => self.stays_away(now, ix),
                Deadline::Host => self.host_grace_over(),
                Deadline::Empty => self.end(Ended::Empty),
                Deadline::Age => self.end(Ended::Age),
                Deadline::Seats => self.seats_over(now),
                Deadline::Log => self.log = None,
            }
        }
        self.log_info();
    }

    /// A member's stream begins: it is connected.
    pub(super) fn stream_opened(&mut self, now: Micros, ix: MemberIx) {
        self.stop_expecting(ix);
        let member = self.members.get_mut(ix);
        self.notes.add(&member.user);
        let Some(membership) = &mut member.now else {
            return;
        };
        membership.streams += 1;
        membership.has_streamed = true;
        if std::mem::take(&mut membership.absent) {
            membership.presence = Presence::Tied;
        }
        self.show_connection(now, ix, true);
    }

    /// A member has shown itself, or has lost its last stream.
    pub(super) fn show_connection(&mut self, now: Micros, ix: MemberIx, is_connected: bool) {
        let Some(membership) = &mut self.members.get_mut(ix).now else {
            return;
        };
        if std::mem::replace(&mut membership.disconnected, !is_connected) == is_connected {
            self.log_status(ix);
            self.members.mark(ix);
            self.open = true;
            self.settle_host(now);
        }
    }

    /// A member's stream is over. With the last one a tied member begins to leave; an end that the
    /// server caused gives it time to come back. An explicit one stays.
    pub(super) fn stream_closed(&mut self, now: Micros, ix: MemberIx, lost: bool) {
        let rejoin_grace = self.accepted.settings.rejoin_grace;
        let member = self.members.get_mut(ix);
        self.notes.add(&member.user);
        let Some(membership) = &mut member.now else {
            return;
        };
        membership.streams = membership.streams.saturating_sub(1);
        if membership.streams > 0 {
            return;
        }
        if membership.presence == Presence::Tied {
            let grace = if lost { rejoin_grace } else { rejoin_grace.max(SERVER_END_GRACE) };
            if grace == 0 {
                return self.remove_member(now, ix, Departure::Lost);
            }
            self.deadlines.set(Deadline::Member(ix), Some(now + grace));
        }
        self.show_connection(now, ix, false);
    }

    /// A tied member without a stream leaves at `join_timeout` after joining, and not before a grace
    /// that it has already.
    pub(super) fn expect_stream(&mut self, now: Micros, ix: MemberIx) {
        let Some(membership) = &self.members.get(ix).now else {
            return;
        };
        self.deadlines.set(Deadline::Return(ix), None);
        match membership.presence {
            Presence::Tied if membership.streams == 0 => {
                let at = now + self.limits.join_timeout;
                let at = self.deadlines.at(Deadline::Member(ix)).max(Some(at));
                self.deadlines.set(Deadline::Member(ix), at);
            }
            Presence::Tied => {}
            Presence::Explicit => self.deadlines.set(Deadline::Member(ix), None),
        }
    }

    /// A stream has come, or the membership is over.
    pub(super) fn stop_expecting(&mut self, ix: MemberIx) {
        self.deadlines.set(Deadline::Member(ix), None);
        self.deadlines.set(Deadline::Return(ix), None);
    }

    /// A member that another owner of the session knew has not come back.
    fn stays_away(&mut self, now: Micros, ix: MemberIx) {
        match &self.members.get(ix).now {
            Some(source) if source.absent => self.show_absent(ix),
            _ => self.stream_closed(now, ix, false),
        }
    }

    /// Called after every change of membership and of `empty_ttl`: a session without anybody, or a
    /// private one without its listener, ends in time.
    pub(super) fn settle_emptiness(&mut self, now: Micros) {
        self.deadlines.set(Deadline::Empty, None);
        if !self.is_empty() {
            return;
        }
        let at = self.lifetime.end_if_empty(self.accepted.settings.empty_ttl);
        let at = match self.listener_ban(now) {
            None => at,
            Some(Ban { until: Some(until), .. }) => at.max(*until),
            Some(Ban { until: None, .. }) => return,
        };
        if at <= now {
            self.end(Ended::Empty);
        } else {
            self.deadlines.set(Deadline::Empty, Some(at));
        }
    }

    /// Called when `max_age` changes.
    pub(super) fn settle_age(&mut self) {
        let max_age = self.accepted.settings.max_age;
        let at = (max_age > 0).then(|| self.lifetime.opened_at() + max_age);
        self.deadlines.set(Deadline::Age, at);
    }
}
