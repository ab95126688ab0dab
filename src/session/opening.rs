//! Who is known to a session from its first revision.

use super::{
    Session,
    ban::{Ban, Bans},
    command::{Join, Write},
    error::Refusal,
    event::What,
    ids::UserId,
    limits::Micros,
    private::Private,
    role::Role,
    schema::{Examination, Paths},
};

/// People named at the opening beside the opener. No user is named twice in a list, none is banned
/// and something else, and there is one owner at most: the opener, where there is one.
#[derive(Debug, Clone, Default)]
pub struct People {
    /// Roles, also of people who do not join.
    pub roles: Vec<(UserId, Role)>,
    /// Who joins at once, in this order, after the opener.
    pub users: Vec<(UserId, Join)>,
    /// Who is banned.
    pub bans: Vec<(UserId, Ban)>,
}

impl People {
    /// Who owns the session, if a role says so.
    pub fn owner(&self) -> Option<&UserId> {
        self.roles.iter().find(|(_, role)| *role == Role::Owner).map(|(user, _)| user)
    }
}

impl Session {
    /// Roles and bans that are there before anybody comes.
    pub(super) fn know(
        &mut self,
        owner: Option<UserId>,
        roles: Vec<(UserId, Role)>,
        bans: Vec<(UserId, Ban)>,
    ) {
        let given = roles.iter().filter(|(_, role)| ![Role::Member, Role::Owner].contains(role));
        for (user, to) in given {
            let (user, to) = (user.clone(), *to);
            self.happened(What::RoleChanged { user, from: Role::Member, to });
        }
        for (user, ban) in &bans {
            let (user, reason, until) = (user.clone(), ban.reason.clone(), ban.until);
            self.happened(What::Banned { user, reason, until });
        }
        let roles = owner.map(|owner| (owner, Role::Owner)).into_iter().chain(roles);
        roles.for_each(|(user, role)| self.roles.give(user, role));
        if !bans.is_empty() {
            self.bans = bans.into_iter().collect::<Bans>().into();
        }
    }

    /// Whether the first data and the first props fit the schema, where there is one: all of them
    /// together, so that every misfit is named at once. Those of `users` are refused by themselves.
    pub(super) fn check_first_format(
        &self,
        data: &Write,
        private_data: &Write,
        private: Option<&Private>,
        opener: Option<&(UserId, Join)>,
    ) -> Result<(), Refusal> {
        let Some(schema) = &self.accepted.schema else { return Ok(()) };
        let mut first = Examination::default();
        first.write(None, &schema.data, data, Paths::FIRST_DATA);
        first.write(None, &schema.private_data, private_data, Paths::FIRST_PRIVATE_DATA);
        if let Some(private) = private {
            let role = Some(self.role_of_source(private));
            let props = Write::of(private.props.clone());
            first.write(role, &schema.props, &props, Paths::FIRST_PROPS);
        }
        if let Some((user, join)) = opener {
            let role = self.role_on_joining(user, join);
            // Whatever a spectator's are, it may have none.
            if role > Role::Spectator {
                let props = Write::of(join.props.clone());
                first.write(Some(role), &schema.props, &props, Paths::JOIN);
            }
        }
        first.close()
    }

    /// Everybody comes at once: who becomes host is asked when all are there.
    pub(super) fn gather(
        &mut self,
        now: Micros,
        private: Option<Private>,
        opener: Option<(UserId, Join)>,
        users: Vec<(UserId, Join)>,
    ) -> Result<(), Refusal> {
        if let Some(private) = private {
            self.show_source(now, private)?;
        }
        if let Some((user, join)) = opener {
            match self.member(&user) {
                // The source of a private session is shown before anybody joins.
                Ok(ix) => self.join_again(now, ix, join)?,
                Err(_) => self.admit(now, user, join)?,
            }
        }
        for (at, (user, join)) in users.into_iter().enumerate() {
            self.admit(now, user, join)
                .map_err(|why| Refusal::OfUser { at, why: Box::new(why) })?;
        }
        self.settle_host(now);
        Ok(())
    }
}
