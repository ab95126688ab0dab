//! Who is known to a session from its opening, at random.

use super::steps::{USERS, user};
use proptest::{collection, prelude::*, sample};
use sessiond::session::{
    ban::Ban, command::Join, ids::UserId, limits::Micros, opening::People, role::Role,
};

/// What the opening says of a user.
#[derive(Debug, Clone)]
pub enum Place {
    Waits(Role),
    Joins(Role),
    /// For so long, or for ever.
    Banned(Option<Micros>),
}

/// Mostly nobody but the opener.
pub fn places() -> impl Strategy<Value = Vec<(UserId, Place)>> {
    let role = || {
        let roles = [Role::Spectator, Role::Member, Role::Moderator, Role::Admin, Role::Owner];
        sample::select(roles.to_vec())
    };
    let place = prop_oneof![
        1 => role().prop_map(Place::Waits),
        2 => role().prop_map(Place::Joins),
        1 => sample::select(vec![None, Some(20_000_000)]).prop_map(Place::Banned),
    ];
    let some = collection::vec((user(), place), 1..=USERS.len());
    prop_oneof![2 => Just(Vec::new()), 1 => some]
}

/// The places as an opening takes them: each user once, and one owner at most.
pub fn people(
    opener: Option<&UserId>,
    places: &[(UserId, Place)],
    now: Micros,
    mut join: impl FnMut(&UserId) -> Join,
) -> People {
    let mut people = People::default();
    let mut known: Vec<_> = opener.into_iter().collect();
    let mut has_owner = opener.is_some();
    for (user, place) in places {
        if known.contains(&user) {
            continue;
        }
        known.push(user);
        match place {
            Place::Waits(Role::Owner) | Place::Joins(Role::Owner) if has_owner => continue,
            Place::Waits(role) | Place::Joins(role) => {
                has_owner |= *role == Role::Owner;
                people.roles.push((user.clone(), *role));
            }
            Place::Banned(span) => {
                let ban = Ban { reason: "".into(), until: span.map(|span| now + span) };
                people.bans.push((user.clone(), ban));
            }
        }
        if let Place::Joins(_) = place {
            people.users.push((user.clone(), join(user)));
        }
    }
    people
}
