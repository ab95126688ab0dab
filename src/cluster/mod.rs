//! Which nodes there are, and which of them owns which partition. A node tells all others twice a
//! second that it is alive and what it owns; from what it hears it decides what it is to claim and to
//! give away ([`rules`]). What keeps two owners of a partition apart is the fence of the log, and the
//! [right](Right) to answer.

mod boot;
mod codec;
mod error;
mod fenced;
mod inner;
mod joined;
mod nodes;
mod notes;
pub mod rules;
mod subjects;

pub use self::{
    codec::MAX_NAME_BYTES,
    error::JoinError,
    fenced::Fenced,
    inner::ToRead,
    joined::{Cluster, Settings},
    nodes::{Moving, Nodes, Take, Telling},
    notes::{Heard, NotTold, Note},
    rules::{
        Before, BootMicros, Ends, Holding, MoveRefused, NodeInfo, NodeStatus, Order, Owner,
        PartitionStatus, Right, Standing, partition_of,
    },
};
