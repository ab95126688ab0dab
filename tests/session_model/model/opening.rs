//! Who is known from the start.

use super::Model;
use sessiond::session::{
    command::Join, error::Refusal, ids::UserId, limits::Micros, opening::People, role::Role,
    settings::Kind,
};

impl Model {
    /// Whoever is to be there comes at once, even if the session is locked from the start; only then
    /// somebody becomes host.
    pub(super) fn gather(
        &mut self,
        now: Micros,
        opener: Option<(UserId, Join)>,
        people: People,
    ) -> Result<(), Refusal> {
        for (user, role) in people.roles {
            if role == Role::Owner {
                self.info.owner = Some(user.clone());
            }
            self.put_role(&user, role);
        }
        self.bans.extend(people.bans);
        let locked = std::mem::take(&mut self.settings_mut().locked);
        let kind = std::mem::replace(&mut self.kind, Kind::Room);
        if let Some((user, join)) = opener {
            self.join(now, &user, &join)?;
        }
        for (at, (user, join)) in people.users.iter().enumerate() {
            self.join(now, user, join).map_err(|why| Refusal::OfUser { at, why: Box::new(why) })?;
        }
        (self.kind, self.settings_mut().locked) = (kind, locked);
        self.settle_host(now, None);
        Ok(())
    }
}
