//! What the people who run a cluster ask of it.

use super::{
    joined::Cluster,
    notes::{Heard, NotTold, Note},
    rules::{MoveRefused, NodeStatus, PartitionStatus},
};
use std::{fmt, pin::Pin};

/// A move that begins.
pub type Moving<'a> = Pin<Box<dyn Future<Output = Result<(), MoveRefused>> + Send + 'a>>;

/// A note that is being sent to all nodes.
pub type Telling<'a> = Pin<Box<dyn Future<Output = Result<(), NotTold>> + Send + 'a>>;

/// What takes in what is heard.
pub type Take<'a> = Box<dyn FnMut(Heard) + Send + 'a>;

/// The nodes of a cluster, as one of them knows them.
pub trait Nodes: fmt::Debug + Send + Sync {
    /// All that are known, by name.
    fn nodes(&self) -> Vec<NodeStatus>;

    /// All partitions, by number.
    fn partitions(&self) -> Vec<PartitionStatus>;

    /// See [`Cluster::move_to`].
    fn move_to<'a>(&'a self, partition: u32, node: &'a str) -> Moving<'a>;

    /// See [`Cluster::tell`].
    fn tell<'a>(&'a self, note: &'a Note) -> Telling<'a>;

    /// See [`Cluster::follow_notes`].
    fn follow<'a>(&'a self, take: Take<'a>) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

impl Nodes for Cluster {
    fn nodes(&self) -> Vec<NodeStatus> {
        self.nodes()
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        self.partitions()
    }

    fn move_to<'a>(&'a self, partition: u32, node: &'a str) -> Moving<'a> {
        Box::pin(self.move_to(partition, node))
    }

    fn tell<'a>(&'a self, note: &'a Note) -> Telling<'a> {
        Box::pin(self.tell(note))
    }

    fn follow<'a>(&'a self, take: Take<'a>) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.follow_notes(take))
    }
}
