//! Who hosts, and what a host takes over.

use super::{Member, Model, Props};
use crate::session_model::framed::selects_of_host;
use sessiond::session::{
    command::Actor, error::Refusal, ids::UserId, limits::Micros, member::Departure, role::Role,
    settings::Kind,
};

/// What the next host takes over.
#[derive(Debug, Clone)]
pub struct Heritage {
    /// Whose it is: the `order` of the membership.
    pub(super) of: u64,
    pub(super) props: Props,
}

impl Member {
    fn can_host(&self) -> bool {
        !self.disconnected && self.role >= Role::Member
    }
}

impl Model {
    /// Whether the user has ever been host.
    pub fn hosted_by(&self, user: &str) -> bool {
        self.hosts.contains(user)
    }

    /// Whether a lost host is waited for.
    pub fn waits_for_host(&self) -> bool {
        self.host_due.is_some()
    }

    /// After every change of membership and presence; `gone` has just left.
    pub(super) fn settle_host(&mut self, now: Micros, gone: Option<(&UserId, Departure)>) {
        if self.kind == Kind::Room {
            return;
        }
        let Some(host) = self.info.host.clone() else {
            return self.elect();
        };
        if self.members.get(&host).is_some_and(Member::can_host) {
            self.host_due = None;
            self.heritage = None;
            return;
        }
        // A grace is for hosts that are lost; who leaves does not want the place back.
        let gave_up = gone.is_some_and(|(user, how)| *user == host && how != Departure::Lost);
        if gave_up {
            self.host_due = None;
            self.elect();
        } else if self.host_due.is_none() && self.info.settings.host_grace == 0 {
            self.elect();
        } else if self.host_due.is_none() {
            self.host_due = Some(now + self.info.settings.host_grace);
        }
    }

    /// Moderators, and the host itself, hand the hosting on.
    pub(super) fn swap_host(
        &mut self,
        actor: &Actor,
        target: Option<&UserId>,
        term: u64,
    ) -> Result<(), Refusal> {
        if self.kind == Kind::Room {
            return Err(Refusal::WrongKind);
        }
        match actor {
            Actor::User(user) if self.is_host(user.id()) => {
                self.needs_joined(actor, Role::Member)?
            }
            _ => self.needs(actor, Role::Moderator)?,
        }
        self.needs_term(term)?;
        let next = match target {
            Some(target) => {
                let member = self.members.get(target).ok_or(Refusal::MemberNotFound)?;
                member.can_host().then(|| target.clone())
            }
            None => self.next_host(self.info.host.as_ref()),
        };
        self.make_host(Some(next.ok_or(Refusal::NoCandidate)?));
        self.host_due = None;
        self.open = true;
        Ok(())
    }

    /// What members are shown of a host.
    pub(super) fn hosted_props(&self, user: &UserId) -> Props {
        let mut props = self.accepted_props(user);
        props.retain(|key, _| selects_of_host(&self.info.settings, key));
        props
    }

    pub(super) fn is_host(&self, user: &UserId) -> bool {
        self.info.host.as_ref() == Some(user)
    }

    pub(super) fn elect(&mut self) {
        self.make_host(self.next_host(None));
    }

    fn next_host(&self, except: Option<&UserId>) -> Option<UserId> {
        let can_host = |user: &UserId| {
            except != Some(user) && self.members.get(user).is_some_and(Member::can_host)
        };
        let first = |role| self.first(|user, member| member.role == role && can_host(user));
        let successor = self.info.settings.successors.iter().find(|user| can_host(user)).cloned();
        successor
            .or_else(|| self.info.owner.clone().filter(can_host))
            .or_else(|| first(Role::Admin))
            .or_else(|| first(Role::Moderator))
            .or_else(|| first(Role::Member))
    }

    fn make_host(&mut self, next: Option<UserId>) {
        if next == self.info.host {
            return;
        }
        let of_joined_host = || {
            let host = self.info.host.as_ref()?;
            let of = self.members.get(host)?.order;
            Some(Heritage { of, props: self.hosted_props(host) })
        };
        let heritage = self.heritage.clone().or_else(of_joined_host);
        self.info.host = next.clone();
        let Some(host) = next else {
            self.heritage = heritage;
            return;
        };
        self.info.term += 1;
        self.hosts.insert(host.clone());
        self.heritage = None;
        let Some(heritage) = heritage.filter(|_| self.info.settings.inherit_host_data) else {
            return;
        };
        if heritage.of == self.members[&host].order {
            return;
        }
        let defaults = self.defaults(|schema| &schema.props);
        let Some(member) = self.members.get_mut(&host) else { return };
        for (key, value) in heritage.props {
            let held = member.props.get(&key);
            let is_set = held.is_some() && held != defaults.get(&key);
            let fits = held.is_some() || member.props.len() < self.limits.props_per_user;
            if !is_set && fits {
                member.props.insert(key, value);
            }
        }
    }
}
