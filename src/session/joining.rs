//! Who comes and who goes, and who has to give the password.

use super::{
    Session,
    command::{Actor, Join, Write},
    error::{Limit, Refusal, Violation},
    event::{Ended, What},
    ids::UserId,
    limits::Micros,
    member::{Departed, Departure, MemberIx, Membership},
    password::PasswordHash,
    role::{ROLES, Role},
    schema::Paths,
    settings::{Kind, Presence},
};
use std::sync::Arc;

impl Session {
    /// Whether a user may join in this way, or may join again.
    pub fn check_join(&self, now: Micros, user: &UserId, join: &Join) -> Result<(), Refusal> {
        match self.joined(user) {
            // First props are those of a new membership only.
            Some(_) if self.has_joined(user) => Ok(()),
            Some(ix) => self.check_source_joins(ix, join),
            None => self.check_admission(now, user, join),
        }
    }

    /// The same for a user who is not a member.
    fn check_admission(&self, now: Micros, user: &UserId, join: &Join) -> Result<(), Refusal> {
        let password = self.check_password(user, join.proven.as_ref());
        self.check_may_know(user, join)?;
        self.check_pair(user)?;
        self.check_ban(now, user)?;
        let role = self.role_on_joining(user, join);
        if !join.props.is_empty() {
            self.check_is_source(user)?;
        }
        if role == Role::Spectator && !join.props.is_empty() {
            let fault = Violation::new(Paths::JOIN.set, "a spectator never sends");
            return Err(Refusal::Invalid(vec![fault]));
        }
        if join.role.is_some() && !self.roles.has_room(user, role) {
            return Err(Refusal::LimitReached { limit: Limit::Roles, most: ROLES });
        }
        // The opener of a session that is locked from the start is in.
        if self.accepted.settings.locked && self.revision.is_some() {
            return Err(Refusal::Locked);
        }
        self.check_place(role, Some(user))?;
        self.check_first_props(&join.user_props, &join.props)?;
        self.check_props_format(Some(role), &Write::of(join.props.clone()), Paths::JOIN)?;
        password?;
        self.check_join_judged(join)
    }

    /// The password that has to be proven before somebody joins; none if the join needs none.
    /// Refused where no password would help, so that nobody compares one in vain.
    pub fn password_for(
        &self,
        now: Micros,
        user: &UserId,
        join: &Join,
    ) -> Result<Option<&PasswordHash>, Refusal> {
        if self.members.membership(user).is_some() || self.check_password(user, None).is_ok() {
            return Ok(None);
        }
        match self.check_join(now, user, join) {
            Err(Refusal::WrongPassword | Refusal::SessionNotFound) => Ok(self.password.as_ref()),
            Err(refusal) => Err(refusal),
            Ok(()) => Ok(None),
        }
    }

    /// Whether somebody may know of the session by joining it like this: asked before anything else
    /// that could refuse, so that nothing tells an unlisted session from none.
    pub fn check_may_know(&self, user: &UserId, join: &Join) -> Result<(), Refusal> {
        match self.check_password(user, join.proven.as_ref()) {
            Err(Refusal::SessionNotFound) => Err(Refusal::SessionNotFound),
            _ => Ok(()),
        }
    }

    /// Whether somebody new may pass. The opener does, and a user who has come to moderate does. It
    /// has to be the password in force that was proven, not one that was changed since.
    pub(super) fn check_password(
        &self,
        user: &UserId,
        proven: Option<&PasswordHash>,
    ) -> Result<(), Refusal> {
        let Some(password) = &self.password else { return Ok(()) };
        let opens = self.revision.is_none();
        let is_trusted = self.roles.of(user).is_some_and(|role| role >= Role::Moderator);
        if proven == Some(password) || opens || is_trusted {
            return Ok(());
        }
        // To whom the session is not there it is not there with a wrong password either.
        Err(match self.is_visible_to(&Actor::of(user)) {
            true => Refusal::WrongPassword,
            false => Refusal::SessionNotFound,
        })
    }

    /// What happens to a member whose join does not say so when its last stream is lost.
    pub(super) fn presence_by_default(&self, is_stream: bool) -> Presence {
        let of_call = if is_stream { Presence::Tied } else { Presence::Explicit };
        self.accepted.settings.presence.unwrap_or(of_call)
    }

    fn joined(&self, user: &UserId) -> Option<MemberIx> {
        self.members.find(user).filter(|&ix| self.is_joined(ix))
    }

    /// The role with which a user joins in this way.
    pub fn role_on_joining(&self, user: &UserId, join: &Join) -> Role {
        match (self.roles.of(user), join.role) {
            (Some(Role::Owner), _) => Role::Owner,
            (_, Some(role)) => role,
            (Some(role), None) => role,
            (None, None) if join.spectator => Role::Spectator,
            (None, None) => Role::Member,
        }
    }

    pub(super) fn join(&mut self, now: Micros, user: UserId, join: Join) -> Result<(), Refusal> {
        if let Some(ix) = self.joined(&user) {
            return self.join_again(now, ix, join);
        }
        self.admit(now, user, join)?;
        self.settle_host(now);
        self.settle_emptiness(now);
        Ok(())
    }

    /// Takes in somebody new; the caller settles what depends on who is there.
    pub(super) fn admit(&mut self, now: Micros, user: UserId, join: Join) -> Result<(), Refusal> {
        self.check_admission(now, &user, &join)?;
        let role = self.role_on_joining(&user, &join);
        if join.role == Some(role) && self.roles.of(&user) != Some(role) {
            self.roles.give(user.clone(), role);
        }
        let Join { presence, is_stream, props, user_props, .. } = join;
        let first = self.first_props(user_props);
        let by_default = self.presence_by_default(is_stream);
        let order = self.members.next_order();
        self.happened(What::Joined { user: user.clone(), role });
        let ix = self.members.join(
            &user,
            Membership {
                role,
                presence: presence.unwrap_or(by_default),
                disconnected: false,
                absent: false,
                streams: 0,
                has_streamed: false,
                order,
                joined_at: now,
            },
        );
        let settings = &self.shown.settings;
        let slots = &mut self.members.get_mut(ix).slots;
        if role > Role::Spectator {
            for (key, value) in first.into_iter().chain(props) {
                slots.write(&key, Some(value), &mut self.names, settings);
            }
        }
        self.notes.add(&user);
        self.sight_may_change(&user);
        self.log_joined(ix);
        self.expect_stream(now, ix);
        self.open = true;
        self.give_up_seat(&user);
        Ok(())
    }

    /// Whether anybody who knows nothing of the session may join, bans apart: what `newest` chooses
    /// among.
    pub fn is_open_to_all(&self) -> bool {
        let settings = &self.accepted.settings;
        let is_shared = match self.kind {
            Kind::Room | Kind::Hosted => true,
            Kind::Private => false,
        };
        is_shared
            && !(self.has_ended()
                || settings.unlisted
                || settings.locked
                || self.password.is_some())
            && self.check_place(Role::Member, None).is_ok()
    }

    /// Whether `newest` chooses the session for a user.
    pub fn suits(&self, now: Micros, user: &UserId) -> bool {
        self.is_open_to_all() && self.check_ban(now, user).is_ok()
    }

    /// Spectators and everybody else have places of their own. What is held for others is taken.
    pub(super) fn check_place(&self, role: Role, user: Option<&str>) -> Result<(), Refusal> {
        let taken = self.members.counts();
        let (taken, places) = match role {
            Role::Spectator => (taken.spectators, self.limits.members),
            _ => {
                let held = self.seats_of_others(user);
                (taken.members + held, self.accepted.settings.capacity)
            }
        };
        if taken >= places {
            return Err(Refusal::Full { capacity: places });
        }
        Ok(())
    }

    /// Joining again changes no role and no prop, and takes the presence where the call names one. It
    /// connects a tied member again; one that is explicit and has had a stream is connected by streams
    /// only.
    pub(super) fn join_again(
        &mut self,
        now: Micros,
        ix: MemberIx,
        join: Join,
    ) -> Result<(), Refusal> {
        self.source_joins(ix, &join)?;
        let member = self.members.get_mut(ix);
        self.notes.add(&member.user);
        let Some(membership) = &mut member.now else { return Ok(()) };
        membership.presence = join.presence.unwrap_or(membership.presence);
        let is_connected = match membership.presence {
            Presence::Tied => true,
            Presence::Explicit => membership.streams > 0 || !membership.has_streamed,
        };
        self.show_connection(now, ix, is_connected);
        self.expect_stream(now, ix);
        Ok(())
    }

    pub(super) fn leave(
        &mut self,
        now: Micros,
        user: &UserId,
        keep_role: bool,
    ) -> Result<(), Refusal> {
        let ix = self.member(user)?;
        self.remove_member(now, ix, Departure::Left);
        // A private session ends with its source, and nobody is to own it then.
        if !keep_role && !self.is_source(user) {
            // It gives up what raises: a user who was made a spectator stays one.
            if self.roles.of(user).is_some_and(|role| role > Role::Member) {
                self.roles.withdraw(user);
                self.notes.add(user);
            }
            if self.accepted.owner.as_ref() == Some(user) {
                self.pass_ownership(user);
            }
        }
        Ok(())
    }

    /// Ends a membership, for whatever reason; roles stay with the user id.
    pub(super) fn remove_member(&mut self, now: Micros, ix: MemberIx, departure: Departure) {
        let user = self.members.get(ix).user.clone();
        if self.has_joined(&user) {
            self.happened(What::Left { user: user.clone(), departure });
        }
        if self.is_source(&user) {
            match departure {
                Departure::Lost => return self.source_lost(ix),
                _ => self.end(Ended::SourceLeft),
            }
        }
        self.stop_expecting(ix);
        self.bequeath(&user);
        let Some(membership) = self.members.leave(ix, departure) else {
            return;
        };
        self.log_left(&user, departure);
        if departure != Departure::Lost {
            self.give_up_hosting(&user);
        }
        self.sight_may_change(&user);
        self.untold.left.push(user.clone());
        let order = membership.order;
        self.untold.departed.push(Departed { order, departure, reason: "".into(), until: None });
        self.open = true;
        self.settle_host(now);
        if self.is_empty() && self.lives_by(&user) {
            self.lifetime.emptied(now);
            self.settle_emptiness(now);
        }
    }

    /// Its owner does not own the session any more: the first admin, else the first moderator, else
    /// the first member by joining does now, if there is another one.
    pub(super) fn pass_ownership(&mut self, former: &UserId) {
        let first = |role: Role| {
            let mut joined = self.members.joined();
            joined
                .find(|(_, user, member)| member.role == role && *user != former)
                .map(|(ix, user, _)| (ix, user.clone()))
        };
        let next = [Role::Admin, Role::Moderator, Role::Member].into_iter().find_map(first);
        let to = next.as_ref().map(|(_, user)| user.clone());
        let from = std::mem::replace(&mut Arc::make_mut(&mut self.accepted).owner, to.clone());
        self.happened(What::OwnerChanged { from, to });
        let Some((ix, user)) = next else { return };
        self.notes.add(&user);
        let from = self.role_of(ix);
        self.happened(What::RoleChanged { user: user.clone(), from, to: Role::Owner });
        self.roles.give(user, Role::Owner);
        self.members.change_role(ix, Role::Owner);
        self.log_status(ix);
    }
}
