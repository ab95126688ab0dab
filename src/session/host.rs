//! Who is host of a hosted session.

use super::{
    Session,
    access::Act,
    command::{Actor, Write},
    deadline::Deadline,
    error::Refusal,
    event::What,
    ids::{Key, UserId},
    limits::Micros,
    member::{MemberIx, Membership},
    role::Role,
    schema::default_of,
    settings::Kind,
    value::Value,
};
use std::sync::Arc;

/// What the next host takes over, from when a host is gone until there is another.
#[derive(Debug)]
pub struct Heritage {
    /// Whose it is, by the order of the membership: a host that comes to be host again still has
    /// its props.
    pub(super) of: u64,
    /// The props.
    pub(super) props: Vec<(Key, Value)>,
}

impl Session {
    /// Sees to it that there is a host if somebody can be it: called after every change of
    /// membership, presence or role. A lost host keeps its place for `host_grace`.
    pub(super) fn settle_host(&mut self, now: Micros) {
        if self.kind != Kind::Hosted {
            return;
        }
        let Some(host) = self.accepted.host.clone() else {
            return self.elect_host();
        };
        if self.members.membership(&host).is_some_and(is_candidate) {
            self.stop_waiting();
            self.heritage = None;
        } else if self.deadlines.at(Deadline::Host).is_some() {
            // The grace that held when the host was lost is not over.
        } else if self.accepted.settings.host_grace == 0 {
            self.elect_host();
        } else {
            let at = now + self.accepted.settings.host_grace;
            self.deadlines.set(Deadline::Host, Some(at));
        }
    }

    /// Hands the hosting on: moderators, and the host itself. Nobody named = the first user by the
    /// order who is not host already.
    pub(super) fn swap_host(
        &mut self,
        actor: &Actor,
        target: Option<UserId>,
        term: u64,
    ) -> Result<(), Refusal> {
        if self.kind != Kind::Hosted {
            return Err(Refusal::WrongKind);
        }
        let is_host =
            matches!(actor, Actor::User(user) if self.accepted.host.as_ref() == Some(user));
        self.check(actor, if is_host { Act::WriteProps } else { Act::Moderate })?;
        self.check_current(term)?;
        let next = match target {
            Some(target) => {
                let membership = self.members.membership(&target);
                let member = membership.ok_or(Refusal::MemberNotFound)?;
                is_candidate(member).then_some(target).ok_or(Refusal::NoCandidate)?
            }
            None => self.next_host(self.accepted.host.as_deref()).ok_or(Refusal::NoCandidate)?,
        };
        self.stop_waiting();
        self.make_host(Some(next));
        self.open = true;
        Ok(())
    }

    /// The grace of a lost host is over.
    pub(super) fn host_grace_over(&mut self) {
        self.elect_host();
        self.open = true;
    }

    /// A user left by its own wish, or may not host any more: if it was host, nobody waits for it.
    pub(super) fn give_up_hosting(&mut self, user: &str) {
        if self.accepted.host.as_deref() == Some(user) {
            self.stop_waiting();
            self.elect_host();
        }
    }

    fn stop_waiting(&mut self) {
        self.deadlines.set(Deadline::Host, None);
    }

    fn elect_host(&mut self) {
        let next = self.next_host(None);
        self.make_host(next);
    }

    fn make_host(&mut self, next: Option<UserId>) {
        if next == self.accepted.host {
            return;
        }
        let heritage = self.heritage.take().or_else(|| self.heritage_of_host());
        let info = Arc::make_mut(&mut self.accepted);
        let old = std::mem::replace(&mut info.host, next.clone());
        info.term += u64::from(next.is_some());
        let (from, to, term) = (old.clone(), next.clone(), info.term);
        self.happened(What::HostChanged { from, to, term });
        let Some(ix) = next.and_then(|host| self.members.find(&host)) else {
            self.heritage = heritage;
            return self.log_swap(old);
        };
        self.log_swap(old);
        if let Some(heritage) = heritage
            && self.accepted.settings.inherit_host_data
        {
            self.inherit(ix, *heritage);
        }
    }

    /// A new host takes over what it has not set itself, as far as there is room.
    fn inherit(&mut self, ix: MemberIx, heritage: Heritage) {
        let member = self.members.get(ix);
        if member.now.as_ref().is_none_or(|membership| membership.order == heritage.of) {
            return;
        }
        let slots = &member.slots;
        let fields = self.accepted.schema.as_deref().map(|schema| &schema.props);
        let mut room = self.limits.props_per_user.saturating_sub(slots.count());
        let mut inherited = Write::default();
        for (key, value) in heritage.props {
            let held = self.names.find(&key).and_then(|key| slots.accepted(key));
            // What is still the default it has not set.
            let is_own = held.is_some() && held != default_of(fields, &key);
            let needed = usize::from(held.is_none());
            if !is_own && needed <= room {
                room -= needed;
                inherited.set.push((key, value));
            }
        }
        self.put_props(ix, inherited);
    }

    /// Named successors, owner, first admin, first moderator, first member; only connected ones.
    fn next_host(&self, except: Option<&str>) -> Option<UserId> {
        let candidate = |user: &UserId| {
            except != Some(&**user) && self.members.membership(user).is_some_and(is_candidate)
        };
        let first = |role: Role| {
            let mut joined = self.members.joined();
            joined
                .find(|(_, user, member)| member.role == role && candidate(user))
                .map(|(_, user, _)| user.clone())
        };
        let successors =
            self.accepted.settings.successors.iter().find(|user| candidate(user)).cloned();
        successors
            .or_else(|| self.accepted.owner.clone().filter(candidate))
            .or_else(|| first(Role::Admin))
            .or_else(|| first(Role::Moderator))
            .or_else(|| first(Role::Member))
    }

    /// A host is about to leave: its props wait for the next one.
    pub(super) fn bequeath(&mut self, user: &str) {
        if self.accepted.host.as_deref() == Some(user) && self.heritage.is_none() {
            self.heritage = self.heritage_of_host();
        }
    }

    fn heritage_of_host(&self) -> Option<Box<Heritage>> {
        let ix = self.members.find(self.accepted.host.as_ref()?)?;
        let of = self.members.get(ix).now.as_ref()?.order;
        Some(Box::new(Heritage { of, props: self.hosted_props(ix) }))
    }

    /// What members are shown of a host. In the order of keys, so that the bound of props cuts at
    /// the same place whatever was written first.
    fn hosted_props(&self, ix: MemberIx) -> Vec<(Key, Value)> {
        let settings = &self.accepted.settings;
        let all = self.members.get(ix).slots.all_accepted();
        let all = all.map(|(key, value)| (self.names.key(key), value));
        let shown = all.filter(|(key, _)| settings.shows_of_host(key));
        let mut props: Vec<_> = shown.map(|(key, value)| (key.clone(), value.clone())).collect();
        props.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        props
    }
}

fn is_candidate(member: &Membership) -> bool {
    !member.disconnected && member.role >= Role::Member
}
