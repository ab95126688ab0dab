//! What a node has released for another one, until somebody has claimed it.

use super::{
    BootMicros, ClaimNow,
    giving::{self, Taker},
    members::Members,
    place::{Asked, Place},
};
use crate::log::NodeId;

/// A partition that this node has released.
#[derive(Debug)]
pub(super) struct Handing {
    pub claim: ClaimNow,
    /// Who is to claim it.
    to: NodeId,
    /// Whether the claim was sent to that node.
    is_told: bool,
    /// Whether it said that it claims it.
    is_claiming: bool,
    /// Those that were to claim it before.
    refused: Vec<NodeId>,
}

/// Who decides what becomes of it where it is not taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Giver {
    pub me: NodeId,
    pub leaving: bool,
    /// The version of records that the node which takes it must know.
    pub format: u8,
}

impl Handing {
    pub fn new(to: NodeId, claim: ClaimNow) -> Self {
        Self { claim, to, is_told: false, is_claiming: false, refused: Vec::new() }
    }

    /// Whom it is for.
    pub fn is_for(&self, node: NodeId) -> bool {
        self.to == node
    }

    /// The node to which the claim is still to be sent.
    pub fn untold(&self) -> Option<NodeId> {
        (!self.is_told).then_some(self.to)
    }

    /// The node to which the claim is to be sent now, if there is one.
    pub fn tell(&mut self) -> Option<(NodeId, ClaimNow)> {
        let is_due = !std::mem::replace(&mut self.is_told, true);
        is_due.then_some((self.to, self.claim))
    }

    /// The node that is to claim it says whether it does. Whether it has given that up.
    pub fn says(&mut self, is_claiming: bool) -> bool {
        std::mem::replace(&mut self.is_claiming, is_claiming) && !is_claiming
    }
}

/// The node that is to take a partition over does not: the node that has released it takes it back at
/// once, or where that one leaves the next best is to take it.
pub(super) fn pass_on(
    giver: Giver,
    members: &Members,
    places: &mut [Place],
    now: BootMicros,
    at: usize,
) {
    let Some(mut handing) = places[at].handing.take() else { return };
    handing.claim.pinned = false;
    if !giver.leaving {
        places[at].asked = Some(Asked { claim: handing.claim, is_own: true });
        places[at].not_before = BootMicros(0);
        return;
    }
    handing.refused.push(handing.to);
    let heir = |refused: &[NodeId]| {
        let is_fit = |id: NodeId| id != giver.me && !refused.contains(&id);
        giving::heir(Taker { format: giver.format, is_fit: &is_fit }, members, places, now, at)
    };
    let next = heir(&handing.refused);
    if next.is_none() {
        // What has failed at all of them once may be mended.
        handing.refused.clear();
    }
    let Some(heir) = next.or_else(|| heir(&[])) else { return };
    places[at].handing = Some(Handing { to: heir, is_told: false, is_claiming: false, ..handing });
}
