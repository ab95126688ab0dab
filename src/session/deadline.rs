//! What happens to a session because time passes.

use super::{
    Session,
    limits::{Micros, SERVER_END_GRACE, UNUSED_TTL},
    member::{Departure, MemberIx, Presence},
    moderation::Ban,
};

/// What a moment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// A tied member has been without a stream for too long.
    Member(MemberIx),
    /// A lost host is replaced.
    Host,
    /// The session has been empty for too long.
    Empty,
    /// The session is too old.
    Age,
    /// Nobody has listened to every write for long enough.
    Log,
}

impl Session {
    /// When [`Session::pass_time`] has something to do next.
    pub fn next_deadline(&self) -> Option<Micros> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Does what is due.
    pub fn pass_time(&mut self, now: Micros) {
        while let Some(&(at, deadline)) = self.deadlines.first()
            && at <= now
            && !self.ended
        {
            self.deadlines.pop_first();
            match deadline {
                Deadline::Member(ix) => {
                    if let Some(membership) =
                        self.members.try_get_mut(ix).and_then(|member| member.now.as_mut())
                    {
                        membership.deadline = None;
                    }
                    self.remove_member(now, ix, Departure::Lost);
                }
                Deadline::Host => self.host_grace_over(),
                Deadline::Empty | Deadline::Age => self.ended = true,
                Deadline::Log => self.log = None,
            }
        }
        self.log_info();
    }

    /// A member's stream begins: it is connected.
    pub(super) fn stream_opened(&mut self, now: Micros, ix: MemberIx) {
        self.set_deadline(ix, None);
        let Some(membership) = &mut self.members.get_mut(ix).now else {
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
        let Some(membership) = &mut self.members.get_mut(ix).now else {
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
            self.set_deadline(ix, Some(now + grace));
        }
        self.show_connection(now, ix, false);
    }

    /// A tied member without a stream leaves at `join_timeout` after joining, and not before a grace
    /// that it has already.
    pub(super) fn expect_stream(&mut self, now: Micros, ix: MemberIx) {
        let Some(membership) = &self.members.get(ix).now else {
            return;
        };
        match membership.presence {
            Presence::Tied if membership.streams == 0 => {
                let at = now + self.limits.join_timeout;
                self.set_deadline(ix, membership.deadline.max(Some(at)));
            }
            Presence::Tied => {}
            Presence::Explicit => self.set_deadline(ix, None),
        }
    }

    pub(super) fn set_deadline(&mut self, ix: MemberIx, at: Option<Micros>) {
        let Some(membership) = &mut self.members.get_mut(ix).now else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut membership.deadline, at) {
            self.deadlines.remove(&(before, Deadline::Member(ix)));
        }
        if let Some(at) = at {
            self.deadlines.insert((at, Deadline::Member(ix)));
        }
    }

    /// Called after every change of membership and of `empty_ttl`: a session without anybody, or a private one without its listener, ends
    /// `empty_ttl` after the last leave; one that nobody has joined yet gets at least a minute.
    pub(super) fn settle_emptiness(&mut self, now: Micros) {
        if let Some(at) = self.empty_deadline.take() {
            self.deadlines.remove(&(at, Deadline::Empty));
        }
        if !self.is_empty() {
            return;
        }
        let ttl = self.accepted.settings.empty_ttl;
        let at = match self.emptied_at {
            Some(emptied_at) => emptied_at + ttl,
            None => self.created_at + ttl.max(UNUSED_TTL),
        };
        let at = match self.listener_ban(now) {
            None => at,
            Some(Ban { until: Some(until), .. }) => at.max(*until),
            Some(Ban { until: None, .. }) => return,
        };
        if at <= now {
            self.ended = true;
        } else {
            self.empty_deadline = Some(at);
            self.deadlines.insert((at, Deadline::Empty));
        }
    }

    /// Called when `max_age` changes.
    pub(super) fn settle_age(&mut self) {
        if let Some(at) = self.age_deadline.take() {
            self.deadlines.remove(&(at, Deadline::Age));
        }
        let max_age = self.accepted.settings.max_age;
        if max_age > 0 {
            let at = self.created_at + max_age;
            self.age_deadline = Some(at);
            self.deadlines.insert((at, Deadline::Age));
        }
    }
}
