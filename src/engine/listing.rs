//! Which sessions somebody finds without knowing of them: in the order of ids or of their opening, and
//! a bounded number at a time.
//!
//! What a user may not know of is not looked at, so it costs nothing, and where a listing goes on tells
//! nothing of it: the user finds what is listed, and what it knows of otherwise.

use super::{
    Engine, Filter, SessionKey,
    filter::Allowance,
    live::{Live, State},
    registry::Beyond,
};
use crate::session::{
    command::Actor,
    epoch::Epoch,
    ids::{AppId, Key, SessionId, UserId},
};
use std::{ops::Bound, sync::Arc};

/// How many sessions a listing looks at before it answers: as many as the largest page has, so that
/// only what a filter passes over makes a page shorter.
pub const LOOKS: usize = 1000;

/// In which order sessions are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// By id.
    #[default]
    Id,
    /// The one that was opened first comes first.
    Oldest,
    /// The one that was opened last comes first.
    Newest,
}

/// Behind which session a listing goes on, whether that is still there or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the order of ids.
    Id(SessionId),
    /// In that of opening.
    Epoch(Epoch),
}

/// What to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query<'a> {
    /// Only what this user has joined.
    pub member: Option<&'a UserId>,
    /// Only what this chooses.
    pub filter: Option<&'a Filter>,
    /// In which order.
    pub order: Order,
}

impl Query<'_> {
    /// Whether it asks for a session, the filter apart.
    fn is_wanted(self, state: &State, actor: &Actor) -> bool {
        state.is_visible_to(actor) && self.member.is_none_or(|member| state.core.has_joined(member))
    }
}

/// How a listing finds the next session that it may look at.
enum Walk {
    Ids(Option<SessionId>),
    Epochs(Beyond),
    /// The sessions of a member, in the order of opening, the next one last.
    Given(Vec<Arc<Live>>),
}

impl Engine {
    /// Hands the sessions that an actor may know of to `take`, those after a place in the order. Ends
    /// when `take` refuses one, which it does not do with the first, when it has looked at [`LOOKS`]
    /// sessions, or when the filter has cost enough. Returns after which place to go on; none = there
    /// is no more.
    pub fn list(
        &self,
        (app, actor): (&AppId, &Actor),
        query: Query<'_>,
        after: Option<Place>,
        mut take: impl FnMut(&State) -> bool,
    ) -> Option<Place> {
        let (mut walk, mut place) = (self.walk(app, actor, query, &after), after);
        let mut allowance = Allowance::default();
        for _ in 0..LOOKS {
            let (at, live) = self.step(app, actor, query.member, &mut walk)?;
            let live = live.filter(|live| self.is_chosen(live, actor, query, &mut allowance));
            if let Some(live) = live {
                let state = live.lock();
                if query.is_wanted(&state, actor) && !take(&state) {
                    return place;
                }
            }
            place = Some(at);
            if allowance.is_spent() {
                break;
            }
        }
        self.step(app, actor, query.member, &mut walk).and(place)
    }

    /// The same of the only session that may have a name.
    pub fn list_named(
        &self,
        (app, actor): (&AppId, &Actor),
        name: Key,
        query: Query<'_>,
        after: Option<Place>,
        mut take: impl FnMut(&State) -> bool,
    ) {
        let Ok(live) = self.find(app, Some(&SessionKey::Name(name)), actor) else { return };
        let is_after = match (query.order, after) {
            (_, None) => true,
            (Order::Id, Some(Place::Id(id))) => live.id > id,
            (Order::Oldest, Some(Place::Epoch(epoch))) => live.epoch > epoch,
            (Order::Newest, Some(Place::Epoch(epoch))) => live.epoch < epoch,
            _ => false,
        };
        if is_after && self.is_chosen(&live, actor, query, &mut Allowance::default()) {
            let state = live.lock();
            let _ = query.is_wanted(&state, actor) && take(&state);
        }
    }

    /// Whether the filter chooses a session.
    fn is_chosen(
        &self,
        live: &Live,
        actor: &Actor,
        query: Query<'_>,
        allowance: &mut Allowance,
    ) -> bool {
        let Some(filter) = query.filter else { return true };
        let outline = {
            let state = live.lock();
            query.is_wanted(&state, actor).then(|| state.outline())
        };
        outline.is_some_and(|outline| filter.chooses(&outline, allowance))
    }

    fn walk(&self, app: &AppId, actor: &Actor, query: Query<'_>, after: &Option<Place>) -> Walk {
        let beyond = match (query.order, after) {
            (Order::Id, Some(Place::Id(id))) => return Walk::Ids(Some(id.clone())),
            (Order::Id, _) => return Walk::Ids(None),
            (Order::Oldest, Some(Place::Epoch(epoch))) => Beyond::After(*epoch),
            (Order::Oldest, _) => Beyond::After(Epoch::default()),
            (Order::Newest, Some(Place::Epoch(epoch))) => Beyond::Before(*epoch),
            (Order::Newest, _) => Beyond::Before(Epoch::MAX),
        };
        let Some(member) = query.member else { return Walk::Epochs(beyond) };
        let registry = &self.inner.registry;
        let ids: Vec<_> = {
            let member = registry.user(app, member);
            member
                .map(|member| member.lock().sessions.iter().cloned().collect())
                .unwrap_or_default()
        };
        let sessions = ids.iter().filter_map(|id| registry.session(app, id));
        let mut sessions: Vec<_> = sessions.filter(|live| beyond.has(live.epoch)).collect();
        // What the actor may not know of is not reported to it as looked at.
        sessions.retain(|live| live.lock().is_visible_to(actor));
        sessions.sort_unstable_by_key(|live| live.epoch);
        if query.order == Order::Oldest {
            sessions.reverse();
        }
        Walk::Given(sessions)
    }

    /// The next session that an actor may know of, unless it has ended meanwhile, and its place.
    fn step(
        &self,
        app: &AppId,
        actor: &Actor,
        member: Option<&UserId>,
        walk: &mut Walk,
    ) -> Option<(Place, Option<Arc<Live>>)> {
        let registry = &self.inner.registry;
        match walk {
            Walk::Ids(after) => {
                let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let id = match member {
                    None => registry.first_visible(app, actor, from),
                    Some(member) => {
                        // Nothing before it is looked at, as the member is in nothing of that.
                        let id = registry.user(app, member)?.lock().sessions.first(from)?;
                        registry.first_visible(app, actor, Bound::Included(&id))
                    }
                }?;
                *after = Some(id.clone());
                let live = registry.session(app, &id);
                Some((Place::Id(id), live))
            }
            Walk::Epochs(beyond) => {
                let (epoch, live) = registry.next_visible(app, actor, *beyond)?;
                *beyond = match beyond {
                    Beyond::After(_) => Beyond::After(epoch),
                    Beyond::Before(_) => Beyond::Before(epoch),
                };
                Some((Place::Epoch(epoch), Some(live)))
            }
            Walk::Given(sessions) => {
                sessions.pop().map(|live| (Place::Epoch(live.epoch), Some(live)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
