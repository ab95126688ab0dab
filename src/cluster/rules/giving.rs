//! When a partition is handed over, and to whom.

use super::{
    BootMicros, GIVEN_AT_ONCE, Holding, REST, RIPENING, STAY,
    members::Members,
    place::{Place, Task},
    placement::targets,
};
use crate::log::NodeId;

/// What decides it, of the node itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Giver {
    pub me: NodeId,
    pub leaving: bool,
    /// When a hand-over ended last.
    pub gave_at: BootMicros,
    /// The version of records that the node which takes a partition must know.
    pub format: u8,
}

/// Who may take a partition over.
#[derive(Clone, Copy)]
pub(super) struct Taker<'a> {
    /// The version of records that it must know.
    pub format: u8,
    pub is_fit: &'a dyn Fn(NodeId) -> bool,
}

/// The partition that a node is to give away now, to whom, and whether an admin moves it.
pub(super) fn due(
    giver: Giver,
    members: &Members,
    places: &[Place],
    now: BootMicros,
) -> Option<(usize, NodeId, bool)> {
    let is_free = |place: &Place| {
        place.is_served_by(giver.me) && place.task.is_none() && place.not_before <= now
    };
    let under_way =
        places.iter().filter(|place| matches!(place.task, Some(Task::Giving { .. }))).count();
    moved(giver, members, places, now, is_free)
        .or_else(|| match giver.leaving {
            true => {
                left(giver, members, places, now, is_free).filter(|_| under_way < GIVEN_AT_ONCE)
            }
            false if under_way == 0 => better(giver, members, places, now, is_free),
            false => None,
        })
        .filter(|_| under_way < GIVEN_AT_ONCE)
}

/// What an admin moves.
fn moved(
    giver: Giver,
    members: &Members,
    places: &[Place],
    now: BootMicros,
    is_free: impl Fn(&Place) -> bool,
) -> Option<(usize, NodeId, bool)> {
    let to = |place: &Place| {
        let member = members.get(place.move_to?)?;
        member.takes(giver.format, now).then_some(member.info.id)
    };
    let free = places.iter().enumerate().filter(|(_, place)| is_free(place));
    free.filter_map(|(at, place)| Some((at, to(place)?, true))).next()
}

/// What goes because its node goes: to where it belongs without that node.
fn left(
    giver: Giver,
    members: &Members,
    places: &[Place],
    now: BootMicros,
    is_free: impl Fn(&Place) -> bool,
) -> Option<(usize, NodeId, bool)> {
    let at = places.iter().position(is_free)?;
    let taker = Taker { format: giver.format, is_fit: &|id| id != giver.me };
    Some((at, heir(taker, members, places, now, at)?, false))
}

/// Where a partition belongs among those that may take it over now.
pub(super) fn heir(
    taker: Taker<'_>,
    members: &Members,
    places: &[Place],
    now: BootMicros,
    at: usize,
) -> Option<NodeId> {
    let mut nodes = members.candidates(now);
    let takes = |id| members.get(id).is_some_and(|it| it.takes(taker.format, now));
    nodes.retain(|node| (taker.is_fit)(node.id) && takes(node.id));
    let pinned = |at: usize| places[at].owner.filter(|_| places[at].pinned);
    targets(&nodes, |it| pinned(usize::from(it.0)), places.len())[at]
}

/// What belongs to another node, now that all have been the same for a while. One at a time.
fn better(
    giver: Giver,
    members: &Members,
    places: &[Place],
    now: BootMicros,
    is_free: impl Fn(&Place) -> bool,
) -> Option<(usize, NodeId, bool)> {
    let connected = members.connected_since(now)?;
    let is_ripe = |since: BootMicros| now.since(since) >= RIPENING;
    if !is_ripe(connected) || !is_ripe(members.changed_at()) || now.since(giver.gave_at) < REST {
        return None;
    }
    let stayed = |place: &Place| !place.pinned && now.since(place.own_since) >= STAY;
    let free: Vec<_> =
        (0..places.len()).filter(|at| is_free(&places[*at]) && stayed(&places[*at])).collect();
    if free.is_empty() {
        return None;
    }
    let nodes = members.candidates(now);
    let pinned = |at: usize| places[at].owner.filter(|_| places[at].pinned);
    let targets = targets(&nodes, |it| pinned(usize::from(it.0)), places.len());
    let is_ready = |id: NodeId| {
        let is_loading = |held: &super::Held| matches!(held.holding, Holding::Loading(_));
        let member = members.get(id);
        member.is_some_and(|it| {
            it.takes(giver.format, now)
                && is_ripe(it.alive_since)
                && !it.held.iter().any(is_loading)
        })
    };
    free.into_iter().find_map(|at| {
        let to = targets[at].filter(|to| *to != giver.me && is_ready(*to))?;
        Some((at, to, false))
    })
}
