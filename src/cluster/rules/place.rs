//! What is known of one partition, and what this node does with it.

use super::{BootMicros, ClaimNow, Held, Holding, handing::Handing};
use crate::log::{NodeId, Partition, Seq};

/// One partition.
#[derive(Debug)]
pub(super) struct Place {
    pub partition: Partition,
    /// The greatest term that was heard of.
    pub term: Seq,
    /// Who claimed with it, unless it has given it up since.
    pub owner: Option<NodeId>,
    /// What the owner does with it.
    pub holding: Holding,
    /// Whether an admin has moved it there.
    pub pinned: bool,
    /// Since when it has no owner, where it has none.
    pub vacant_since: BootMicros,
    /// Another node claims it, and since when it says so.
    pub claimed: Option<(NodeId, BootMicros)>,
    /// What this node does with it.
    pub own: Holding,
    /// Since when this node has it.
    pub own_since: BootMicros,
    /// What this node was ordered to do, until it says what came of it.
    pub task: Option<Task>,
    /// It was released, and this node is to claim it.
    pub asked: Option<Asked>,
    /// This node has released it for another one, and nobody has claimed it yet.
    pub handing: Option<Handing>,
    /// An admin wants it there.
    pub move_to: Option<NodeId>,
    /// What failed is not tried again before.
    pub not_before: BootMicros,
}

/// What this node was ordered to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Claim it; whether an admin moved it here, and whether to try again.
    Claiming { pinned: bool, again: Option<Asked> },
    /// Give it to a node; whether an admin moves it there.
    Giving { to: NodeId, pinned: bool },
}

/// That this node is to claim what was released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub claim: ClaimNow,
    /// Nobody else is asked if it fails: this node has released it itself, and takes it back.
    pub is_own: bool,
}

impl Place {
    pub fn new(partition: Partition, now: BootMicros) -> Self {
        Self {
            partition,
            term: Seq::START,
            owner: None,
            holding: Holding::Nothing,
            pinned: false,
            vacant_since: now,
            claimed: None,
            own: Holding::Nothing,
            own_since: now,
            task: None,
            asked: None,
            handing: None,
            move_to: None,
            not_before: BootMicros(0),
        }
    }

    /// A node says that it has the partition. Only the greatest term counts: another owner has not
    /// heard yet that it is deposed.
    pub fn held_by(&mut self, node: NodeId, held: Held) {
        let Some(term) = held.holding.term() else { return };
        let is_newer = term > self.term;
        if is_newer || (term == self.term && self.owner == Some(node)) {
            self.term = term;
            self.owner = Some(node);
            self.holding = held.holding;
            self.pinned = held.pinned;
        }
        // Somebody has claimed what was released.
        self.handing.take_if(|handing| self.term > handing.claim.ended);
        self.asked.take_if(|asked| self.term > asked.claim.ended);
    }

    /// Another node says that it claims the partition, or that it does not.
    pub fn claimed_by(&mut self, node: NodeId, is_claiming: bool, now: BootMicros) {
        match (self.claimed, is_claiming) {
            (None, true) => self.claimed = Some((node, now)),
            (Some((claimer, _)), false) if claimer == node => self.claimed = None,
            _ => {}
        }
    }

    /// A node says that it has the partition no more.
    pub fn given_up_by(&mut self, node: NodeId, now: BootMicros) {
        if self.owner == Some(node) {
            self.owner = None;
            self.holding = Holding::Nothing;
            self.pinned = false;
            self.vacant_since = now;
        }
    }

    /// Whether this node claims it now or will at once.
    pub fn is_being_claimed(&self) -> bool {
        self.asked.is_some() || matches!(self.task, Some(Task::Claiming { .. }))
    }

    /// Whether this node has it, as far as it knows.
    pub fn is_served_by(&self, me: NodeId) -> bool {
        self.owner == Some(me) && matches!(self.own, Holding::Serving(_))
    }
}
