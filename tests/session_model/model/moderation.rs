//! Who stands above whom, and what is left of who is thrown out.

use super::{Heritage, Model, Props};
use sessiond::session::{
    access::Standing,
    ban::Ban,
    command::{Actor, Write},
    error::Refusal,
    ids::{Key, UserId},
    limits::Micros,
    member::Departure,
    role::Role,
    value::Value,
};

impl Model {
    /// The ban of a user, if there is one that is not over.
    pub fn ban_of(&self, now: Micros, user: &UserId) -> Option<&Ban> {
        self.bans.get(user).filter(|ban| ban.until.is_none_or(|until| now < until))
    }

    /// Whoever is banned at the moment.
    pub fn banned(&self, now: Micros) -> Vec<(UserId, Ban)> {
        let bans = self.bans.iter().filter(|(user, _)| self.ban_of(now, user).is_some());
        bans.map(|(user, ban)| (user.clone(), ban.clone())).collect()
    }

    pub(super) fn set_role(
        &mut self,
        now: Micros,
        actor: &Actor,
        (target, user_props): (&UserId, &[(Key, Value)]),
        role: Role,
    ) -> Result<(), Refusal> {
        self.needs(actor, if role >= Role::Admin { Role::Owner } else { Role::Admin })?;
        self.needs_rank_above(actor, target)?;
        if let Some(ban) = self.ban_of(now, target) {
            return Err(Refusal::Banned { until: ban.until });
        }
        let sends = |role: Role| role >= Role::Member;
        let turns = self.members.get(target).is_some_and(|it| sends(it.role) != sends(role));
        if turns {
            self.needs_place(!sends(role), target)?;
        }
        let silenced = turns && !sends(role);
        if silenced {
            self.bequeath(target);
        }
        self.put_role(target, role);
        if !sends(role) {
            self.seats.remove(target);
        }
        if role == Role::Owner {
            let former = self.info.owner.replace(target.clone());
            if let Some(former) = former.filter(|former| former != target) {
                self.put_role(&former, Role::Admin);
            }
        } else {
            self.disown(target);
        }
        let first = self.first_props(user_props);
        if let Some(member) = self.members.get_mut(target).filter(|_| turns) {
            member.props = if silenced { Props::new() } else { first };
        }
        self.open = true;
        self.settle_host(now, silenced.then_some((target, Departure::Left)));
        Ok(())
    }

    pub(super) fn put_role(&mut self, user: &UserId, role: Role) {
        match role {
            Role::Member => self.roles.remove(user),
            _ => self.roles.insert(user.clone(), role),
        };
        if let Some(member) = self.members.get_mut(user) {
            member.role = role;
        }
    }

    pub(super) fn ban(
        &mut self,
        now: Micros,
        actor: &Actor,
        target: &UserId,
        ban: &Ban,
    ) -> Result<(), Refusal> {
        self.needs(actor, Role::Moderator)?;
        self.needs_rank_above(actor, target)?;
        self.bans.insert(target.clone(), ban.clone());
        self.roles.remove(target);
        self.seats.remove(target);
        if self.members.contains_key(target) {
            self.throw_out(now, target, Departure::Banned);
            self.departed.last_mut().expect("somebody left").until = ban.until;
        } else if self.info.host.as_ref() == Some(target) {
            self.settle_host(now, Some((target, Departure::Banned)));
        }
        self.disown(target);
        self.take_back_data(target);
        self.open = true;
        Ok(())
    }

    /// Ends a membership; of a host only what a frame has shown is left to the next one.
    pub(super) fn throw_out(&mut self, now: Micros, target: &UserId, departure: Departure) {
        let shown = self.last().members.get(target);
        let shown = shown.filter(|shown| shown.order == self.members[target].order);
        let props = shown.map(|shown| shown.props.clone()).unwrap_or_default();
        self.members.get_mut(target).expect("it is a member").props = props;
        self.bequeath(target);
        self.remove(now, target, departure);
    }

    pub(super) fn bequeath(&mut self, user: &UserId) {
        if self.info.host.as_ref() == Some(user) && self.heritage.is_none() {
            let props = self.hosted_props(user);
            self.heritage = Some(Heritage { of: self.members[user].order, props });
        }
    }

    /// The data is what the last frame shows with what everybody else has written since.
    pub(super) fn take_back_data(&mut self, user: &UserId) {
        self.data_log.retain(|(writer, ..)| *writer != Actor::of(user));
        let mut data = self.framed_data.clone();
        for (_, is_private, Write { set, remove, .. }) in &self.data_log {
            let part = &mut data[usize::from(*is_private)];
            part.extend(set.iter().cloned());
            part.retain(|key, _| !remove.contains(key));
        }
        [self.data, self.private_data] = data;
    }

    /// Nobody acts on somebody of the same or a higher rank.
    pub(super) fn needs_rank_above(&self, actor: &Actor, target: &UserId) -> Result<(), Refusal> {
        let rank = |actor: &Actor| match self.standing(actor) {
            Standing::App => 9,
            Standing::Joined(role) | Standing::Away(role) => 1 + role as u8,
            Standing::Outsider => 0,
        };
        let is_above = rank(actor) > rank(&Actor::of(target));
        if is_above { Ok(()) } else { Err(Refusal::TargetRank) }
    }
}
