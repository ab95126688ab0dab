//! When a partition is claimed that nobody owns any more.

use super::{
    BootMicros, CLAIM_PATIENCE, Holding, RANK_WAIT, SILENCE,
    members::Members,
    place::Place,
    placement::{preference, targets},
};
use crate::log::NodeId;

/// The partition that a node is to claim now, if there is one, and whether an admin moved it there.
pub(super) fn due(
    me: NodeId,
    members: &Members,
    places: &[Place],
    now: BootMicros,
) -> Option<(usize, bool)> {
    let is_free = |place: &Place| {
        place.own == Holding::Nothing && place.task.is_none() && place.not_before <= now
    };
    let asked = places.iter().position(|place| place.asked.is_some() && is_free(place));
    if let Some(at) = asked {
        return Some((at, places[at].asked.is_some_and(|asked| asked.claim.pinned)));
    }
    // A node that is not connected would take all others for dead.
    let connected = members.connected_since(now)?;
    if now.since(connected) < SILENCE {
        return None;
    }
    let is_claimed = |place: &Place| {
        place.claimed.is_some_and(|(by, since)| {
            members.get(by).is_some_and(|it| it.is_alive(now)) && now.since(since) < CLAIM_PATIENCE
        })
    };
    let quiet = |place: &Place| {
        let since = match place.owner.map(|owner| members.get(owner)) {
            Some(Some(owner)) if owner.is_gone(now) => owner.heard_at,
            Some(Some(_)) => return None,
            Some(None) | None => place.vacant_since,
        };
        Some(now.since(since.max(connected))).filter(|quiet| *quiet >= SILENCE)
    };
    let mut quiet: Vec<_> = places
        .iter()
        .enumerate()
        .filter(|(_, place)| is_free(place) && !is_claimed(place))
        .filter_map(|(at, place)| Some((at, quiet(place)?)))
        .collect();
    if quiet.is_empty() {
        return None;
    }
    let nodes = members.candidates(now);
    let pinned = |at: usize| places[at].owner.filter(|_| places[at].pinned);
    let targets = targets(&nodes, |it| pinned(usize::from(it.0)), places.len());
    let counts = |id| places.iter().filter(|place| place.owner == Some(id)).count();
    quiet.retain(|(at, quiet)| {
        let partition = places[*at].partition;
        let order = preference(&nodes, targets[*at], partition, places.len(), counts);
        let rank = order.iter().position(|id| *id == me);
        rank.is_some_and(|rank| *quiet >= SILENCE + rank as u64 * RANK_WAIT)
    });
    quiet.first().map(|(at, _)| (*at, false))
}
