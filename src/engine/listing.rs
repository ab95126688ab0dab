//! Which sessions somebody finds without knowing of them: in the order of ids, and a bounded number at
//! a time.
//!
//! What a user may not know of is not looked at, so it costs nothing, and where a listing goes on tells
//! nothing of it: the user finds what is listed, what it has joined, and what it is an insider of.

use super::{Engine, live::State, users::UserRecord};
use crate::session::{
    command::Actor,
    ids::{AppId, SessionId, UserId},
};
use std::ops::Bound;

/// How many sessions a listing looks at before it answers: as many as the largest page has, so that
/// only what a filter passes over makes a page shorter.
pub const LOOKS: usize = 1000;

impl Engine {
    /// Hands the sessions that an actor may know of to `take`, in the order of ids: those after an id
    /// and, where a member is named, those that it has joined. Ends when `take` refuses one, which it
    /// does not do with the first, or after [`LOOKS`] sessions. Returns after which id to go on; none =
    /// there is no more.
    pub fn list(
        &self,
        (app, actor): (&AppId, &Actor),
        member: Option<&UserId>,
        after: Option<SessionId>,
        mut take: impl FnMut(&State) -> bool,
    ) -> Option<SessionId> {
        let registry = &self.inner.registry;
        let own = actor.user().and_then(|user| registry.user(app, user));
        let of_member = member.map(|member| registry.user(app, member));
        let next = |after: Option<&SessionId>| {
            let after = after.map_or(Bound::Unbounded, Bound::Excluded);
            let Some(of_member) = &of_member else {
                return self.first_visible(app, actor, own.as_ref(), after);
            };
            // Nothing before it is looked at, as the member is in nothing of that.
            let id = of_member.as_ref()?.lock().sessions.first(after)?;
            self.first_visible(app, actor, own.as_ref(), Bound::Included(&id))
        };
        let mut after = after;
        for _ in 0..LOOKS {
            let id = next(after.as_ref())?;
            if let Some(live) = registry.session(app, &id) {
                let state = live.lock();
                let is_wanted = state.core.is_visible_to(actor)
                    && member.is_none_or(|member| state.core.has_joined(member));
                if is_wanted && !take(&state) {
                    return after;
                }
            }
            after = Some(id);
        }
        next(after.as_ref()).and(after)
    }

    /// The first session from a place on that an actor may know of; it may have ended meanwhile.
    fn first_visible(
        &self,
        app: &AppId,
        actor: &Actor,
        own: Option<&UserRecord>,
        from: Bound<&SessionId>,
    ) -> Option<SessionId> {
        let registry = &self.inner.registry;
        let Actor::User(user) = actor else { return registry.first(app, from) };
        // Whoever leaves a session is its insider before the record forgets it, and with the record
        // locked nobody joins. So a session that is left or joined meanwhile is in one of the two.
        let own = own.map(|own| own.lock());
        let joined = own.as_ref().and_then(|own| own.sessions.first(from));
        let inside = registry.first_inside(app, user, from);
        drop(own);
        [joined, inside, registry.first_listed(app, from)].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
