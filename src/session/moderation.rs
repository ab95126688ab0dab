//! Who stands above whom: giving roles, kicking, banning.

use super::{
    Session,
    access::{self, Act},
    ban::Ban,
    command::{Actor, Write},
    error::{Limit, Refusal},
    event::What,
    ids::{Key, UserId},
    limits::Micros,
    member::{Departure, MemberIx},
    role::{ROLES, Role},
    value::Value,
};
use std::sync::Arc;

impl Session {
    /// Gives a role, to members and to people who have not joined. A former owner becomes admin.
    /// `user_props` is what is set on the user, for a spectator that comes to send.
    pub(super) fn set_role(
        &mut self,
        now: Micros,
        actor: &Actor,
        target: UserId,
        new: Role,
        user_props: Vec<(Key, Value)>,
    ) -> Result<(), Refusal> {
        self.check(actor, Act::SetRole(new))?;
        self.check_rank(actor, &target)?;
        self.check_ban(now, &target)?;
        let joined = self.members.find(&target).filter(|&ix| self.is_joined(ix));
        let old = joined.map(|ix| self.role_of(ix));
        if old.is_some_and(|old| (old == Role::Spectator) != (new == Role::Spectator)) {
            self.check_place(new, Some(&target))?;
        }
        if !self.roles.has_room(&target, new) {
            return Err(Refusal::LimitReached { limit: Limit::Roles, most: ROLES });
        }
        if new == Role::Owner {
            let former = Arc::make_mut(&mut self.accepted).owner.replace(target.clone());
            if let Some(former) = former.clone().filter(|former| *former != target) {
                self.put_role(&former, Role::Admin);
            }
            if former.as_ref() != Some(&target) {
                self.happened(What::OwnerChanged { from: former, to: Some(target.clone()) });
            }
        }
        self.put_role(&target, new);
        if new == Role::Spectator {
            self.give_up_seat(&target);
        }
        if new != Role::Owner && self.accepted.owner.as_ref() == Some(&target) {
            self.pass_ownership(&target);
        }
        if let (Some(ix), Some(old)) = (joined, old) {
            match (old == Role::Spectator, new == Role::Spectator) {
                (true, false) => {
                    let first = self.first_props(user_props);
                    self.put_props(ix, Write::of(first));
                }
                (false, true) => {
                    self.bequeath(&target);
                    self.log_cleared(ix);
                    self.members.get_mut(ix).slots.clear_accepted();
                    self.give_up_hosting(&target);
                }
                _ => {}
            }
        }
        self.open = true;
        self.settle_host(now);
        Ok(())
    }

    fn put_role(&mut self, user: &UserId, role: Role) {
        let joined = self.members.membership(user).map(|membership| membership.role);
        let from = joined.or_else(|| self.roles.of(user)).unwrap_or(Role::Member);
        if from != role {
            self.happened(What::RoleChanged { user: user.clone(), from, to: role });
        }
        self.roles.give(user.clone(), role);
        self.notes.add(user);
        if let Some(ix) = self.members.find(user).filter(|&ix| self.is_joined(ix)) {
            self.members.change_role(ix, role);
            self.log_status(ix);
        }
    }

    /// Removes a member, who may join again and keeps its role. What it wrote and no frame shows yet
    /// is gone.
    pub(super) fn kick(
        &mut self,
        now: Micros,
        actor: &Actor,
        target: &str,
        reason: Arc<str>,
    ) -> Result<(), Refusal> {
        self.check(actor, Act::Moderate)?;
        let ix = self.member(target).map_err(|_| Refusal::MemberNotFound)?;
        self.check_rank(actor, target)?;
        let target = self.members.get(ix).user.clone();
        self.happened(What::Kicked { user: target.clone(), reason: reason.clone() });
        self.cut_log_of(&target);
        self.take_back_props(ix);
        self.remove_member(now, ix, Departure::Kicked);
        if let Some(departed) = self.untold.departed.last_mut() {
            departed.reason = reason;
        }
        self.take_back_data(&target);
        Ok(())
    }

    /// Removes a user, whether it has joined or not, and refuses it from now on. Its role is gone,
    /// and so is what it wrote and no frame shows yet.
    pub(super) fn ban(
        &mut self,
        now: Micros,
        actor: &Actor,
        target: UserId,
        ban: Ban,
    ) -> Result<(), Refusal> {
        self.check(actor, Act::Moderate)?;
        self.check_rank(actor, &target)?;
        let (until, reason) = (ban.until, ban.reason.clone());
        self.bans.add(now, target.clone(), ban)?;
        self.happened(What::Banned { user: target.clone(), reason, until });
        self.roles.withdraw(&target);
        self.notes.add(&target);
        self.give_up_seat(&target);
        self.cut_log_of(&target);
        if let Ok(ix) = self.member(&target) {
            self.take_back_props(ix);
            self.remove_member(now, ix, Departure::Banned);
            if let Some(departed) = self.untold.departed.last_mut() {
                departed.until = until;
            }
        } else {
            // It was lost, and is not waited for any more.
            self.give_up_hosting(&target);
        }
        if self.accepted.owner.as_ref() == Some(&target) {
            self.pass_ownership(&target);
        }
        self.take_back_data(&target);
        self.open = true;
        self.settle_listener(now);
        Ok(())
    }

    /// What a member wrote and no frame shows yet does not become the next host's either.
    fn take_back_props(&mut self, ix: MemberIx) {
        let member = self.members.get_mut(ix);
        let order = member.now.as_ref().map(|membership| membership.order);
        if member.shown.as_ref().map(|shown| shown.order) == order {
            member.slots.take_back();
        } else {
            member.slots.clear_accepted();
        }
    }

    /// Ends a ban.
    pub(super) fn unban(
        &mut self,
        now: Micros,
        actor: &Actor,
        target: &UserId,
    ) -> Result<(), Refusal> {
        self.check(actor, Act::Moderate)?;
        self.bans.lift(now, target)?;
        self.happened(What::Unbanned { user: target.clone() });
        self.notes.add(target);
        self.settle_listener(now);
        Ok(())
    }

    /// Whether an actor may have things sent: to all moderators and the host, to itself everybody.
    pub fn check_transmit(&self, actor: &Actor, target: Option<&UserId>) -> Result<(), Refusal> {
        let is_own =
            |user: &UserId| target == Some(user) || self.accepted.host.as_ref() == Some(user);
        match actor {
            Actor::User(user) if is_own(user) => self.check(actor, Act::Receive)?,
            _ => self.check(actor, Act::Moderate)?,
        }
        match target {
            Some(target) => self.member(target).map(|_| ()).map_err(|_| Refusal::MemberNotFound),
            None => Ok(()),
        }
    }

    /// Refuses a user who is banned.
    pub(super) fn check_ban(&self, now: Micros, user: &str) -> Result<(), Refusal> {
        match self.bans.of(now, user) {
            Some(ban) => Err(Refusal::Banned { until: ban.until }),
            None => Ok(()),
        }
    }

    /// Who is banned, if the actor may know.
    pub fn bans(&self, now: Micros, actor: &Actor) -> Vec<(UserId, Ban)> {
        if self.check(actor, Act::Moderate).is_err() {
            return Vec::new();
        }
        self.bans.all(now)
    }

    /// Nobody acts on somebody of the same or a higher rank, so nobody acts on itself.
    fn check_rank(&self, actor: &Actor, target: &str) -> Result<(), Refusal> {
        let target = match (self.members.membership(target), self.roles.of(target)) {
            (Some(membership), _) => Some(membership.role),
            (None, role) => role,
        };
        access::check_rank(self.standing(actor), target)
    }
}
