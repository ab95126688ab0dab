//! Who is known to a session from the start.

use super::{Door, path};
use crate::{
    proto,
    session::{ban::Ban, ids::UserId, limits::Micros, opening::People, role::Role},
};
use std::collections::{BTreeMap, HashSet};

/// How many entries roles, users and bans of an opening may have, each.
const PEOPLE: usize = 1000;

impl Door<'_> {
    /// Roles, users and bans; none of them contradicts another, or the opener.
    pub fn people(
        &mut self,
        now: Micros,
        opener: Option<&UserId>,
        (roles, users, bans): (BTreeMap<String, i32>, Vec<String>, Vec<proto::Ban>),
    ) -> People {
        for (field, size) in [("roles", roles.len()), ("users", users.len()), ("bans", bans.len())]
        {
            if size > PEOPLE {
                self.fault(field, format!("has more than {PEOPLE} entries"));
            }
        }
        let roles = self.roles(opener, roles);
        let users = self.users(opener, users);
        let bans = self.bans(now, bans);
        let mut known: HashSet<&UserId> = opener.into_iter().chain(&users).collect();
        known.extend(roles.iter().map(|(user, _)| user));
        let mut banned = HashSet::new();
        for (field, user, _) in &bans {
            if known.contains(user) {
                self.fault(field, "opens the session, joins it or has a role in it");
            } else if !banned.insert(user) {
                self.fault(field, "is named twice");
            }
        }
        People {
            roles,
            users: users.into_iter().map(|user| (user, Default::default())).collect(),
            bans: bans.into_iter().map(|(_, user, ban)| (user, ban)).collect(),
        }
    }

    fn roles(
        &mut self,
        opener: Option<&UserId>,
        roles: BTreeMap<String, i32>,
    ) -> Vec<(UserId, Role)> {
        let mut known = Vec::with_capacity(roles.len());
        let mut has_owner = opener.is_some();
        for (user, role) in roles.iter().take(PEOPLE) {
            let field = path("roles", user);
            let named = self.user(&field, user).zip(self.new_role(&field, *role));
            let Some((user, role)) = named else { continue };
            match (opener == Some(&user), role == Role::Owner) {
                (true, true) => {}
                (true, false) => self.fault(field, "the opener is the owner"),
                (false, true) if has_owner => self.fault(field, "there is an owner already"),
                (false, is_owner) => has_owner |= is_owner,
            }
            known.push((user, role));
        }
        known
    }

    /// Who joins at once, as a member unless a role says otherwise.
    fn users(&mut self, opener: Option<&UserId>, users: Vec<String>) -> Vec<UserId> {
        let mut known = HashSet::new();
        let mut joining = Vec::with_capacity(users.len());
        for (at, user) in users.iter().enumerate().take(PEOPLE) {
            let field = format!("users[{at}]");
            let Some(user) = self.user(&field, user) else { continue };
            if opener == Some(&user) {
                self.fault(field, "the opener joins anyway");
            } else if !known.insert(user.clone()) {
                self.fault(field, "is named twice");
            }
            joining.push(user);
        }
        joining
    }

    fn bans(&mut self, now: Micros, bans: Vec<proto::Ban>) -> Vec<(String, UserId, Ban)> {
        let mut known = Vec::with_capacity(bans.len());
        for (at, ban) in bans.into_iter().enumerate().take(PEOPLE) {
            let prefix = format!("bans[{at}].");
            let (user, ban) = self.within(&prefix, |door| {
                let user = door.user("user_id", &ban.user_id);
                let reason = door.reason("reason", &ban.reason);
                (user, Ban { reason, until: door.until(now, ban.until, None) })
            });
            known.extend(user.map(|user| (format!("{prefix}user_id"), user, ban)));
        }
        known
    }
}
