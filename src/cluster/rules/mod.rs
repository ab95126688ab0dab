//! Who is alive and who owns what, decided: pure, so that thousands of random courses can be tried.
//! What is heard and the time go in; what to do comes out. There is no clock, runtime or network.
//!
//! Nothing here is what keeps two owners apart: that is the fence of the log. A wrong decision costs
//! a hand-over, never a record.

mod claiming;
mod ends;
mod giving;
mod handing;
mod members;
mod ownership;
mod place;
mod placement;
mod right;

pub use self::{
    ends::Ends,
    members::{Member, Standing},
    ownership::{MoveRefused, NodeStatus, Ownership, PartitionStatus},
    placement::{Candidate, most_per_node, partition_of, preference, targets},
    right::{Before, Right},
};

pub use crate::log::BootMicros;
use crate::{
    log::{NodeId, Partition, Seq},
    session::limits::{Micros, SECOND},
};
use std::sync::Arc;

/// How often a node says that it is alive.
pub const BEAT_INTERVAL: Micros = SECOND / 2;

/// A node of which nothing is heard for so long is not alive, and others claim what it owns.
pub const SILENCE: Micros = 4 * SECOND;

/// A node of which nothing is heard for so long is asked directly.
pub const PING_AFTER: Micros = 3 * SECOND;

/// How much longer each next node in the order of a partition waits before it claims.
pub const RANK_WAIT: Micros = SECOND;

/// While a node says that it claims a partition, others do not, but no longer than this: the log may be
/// choosing a leader, which takes seconds, or that node may not reach it.
pub const CLAIM_PATIENCE: Micros = 10 * SECOND;

/// A node that does not hear its own beats for so long is not connected, nor is one that did nothing
/// for so long.
pub const UNHEARD: Micros = 2 * SECOND;

/// An owner answers for so long after the last append that is stored was sent.
pub const RIGHT: Micros = 3 * SECOND;

/// How often an owner stores something at least: one of whom nothing is stored may not answer any more.
pub const SIGN_OF_LIFE: Micros = SECOND;

/// An owner that was not heard for so long may be gone: it is looked where its log ends.
pub const QUIET: Micros = 2 * BEAT_INTERVAL;

/// What clocks of two machines may differ by within [`RIGHT`].
pub const RIGHT_MARGIN: Micros = SECOND / 10;

/// Nothing is moved for balance unless all nodes have been the same for so long.
pub const RIPENING: Micros = 5 * SECOND;

/// A partition that came stays for so long, unless its node leaves or somebody moves it.
pub const STAY: Micros = 15 * SECOND;

/// The least between two moves for balance from one node, and until what failed is tried again.
pub const REST: Micros = SECOND;

/// How many partitions a leaving node gives away at a time.
pub const GIVEN_AT_ONCE: usize = 4;

/// The most nodes that are known at a time.
pub const MOST_NODES: usize = 64;

/// A node that is silent is forgotten after so long.
pub const FORGOTTEN_AFTER: Micros = 600 * SECOND;

/// A node, as it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// New for each process.
    pub id: NodeId,
    /// The name that it was given: the same after a restart, and no two nodes have the same.
    pub name: String,
    /// Where its node port is, for other nodes.
    pub address: String,
    /// The greatest version of records that it can write.
    pub format: u8,
    /// The version of its program, for people.
    pub version: String,
    /// When it started, in microseconds since 1970 by its own clock, for people.
    pub started_at: Micros,
}

/// What a node does with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Holding {
    /// It is not the owner.
    #[default]
    Nothing,
    /// Its claim is stored, with this term; it reads.
    Loading(Seq),
    /// It answers calls: everything is read, and its [`Right`] has begun. So it may release, too.
    Serving(Seq),
    /// It stores what is left, then releases.
    Giving(Seq),
}

impl Holding {
    /// The term of the owner.
    pub fn term(self) -> Option<Seq> {
        match self {
            Self::Nothing => None,
            Self::Loading(term) | Self::Serving(term) | Self::Giving(term) => Some(term),
        }
    }
}

/// What a node says each [`BEAT_INTERVAL`], and whenever it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Who.
    pub node: Arc<NodeInfo>,
    /// Rises with each beat of a process.
    pub number: u64,
    /// Its wall clock, in microseconds since 1970.
    pub wall: Micros,
    /// It is about to stop.
    pub leaving: bool,
    /// It claims nothing now that is released for it.
    pub declines: bool,
    /// What it owns, by partition.
    pub held: Vec<Held>,
    /// What it claims now, or will at once.
    pub claiming: Vec<Partition>,
}

/// A partition in a beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub partition: Partition,
    /// What its owner does with it: not nothing.
    pub holding: Holding,
    /// Whether an admin has moved it there: it stays as long as its node is there.
    pub pinned: bool,
}

/// What a node is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Claim a partition.
    Claim(Partition),
    /// Store what is left of a partition, release it, and so hand it over to a node.
    Give(Partition, NodeId),
}

/// Who owns a partition, as far as is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// This node.
    Here,
    /// Another node, which is alive.
    There(Arc<NodeInfo>),
    /// Nobody who is alive.
    Nobody,
}

/// Tells a node that it is to claim a partition which is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimNow {
    /// Which.
    pub partition: Partition,
    /// The term that has ended.
    pub ended: Seq,
    /// Whether it is an admin's doing: it stays there.
    pub pinned: bool,
}
