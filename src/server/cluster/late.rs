//! The cluster as seen by what is there before the node has joined.

use crate::cluster::{
    Cluster, MoveRefused, Moving, NodeStatus, Nodes, NotTold, Note, PartitionStatus, Take, Telling,
};
use std::{
    future::{pending, ready},
    pin::Pin,
    sync::{Arc, OnceLock},
};

/// The cluster, once this node has joined it. Until then no call comes so far that it asks.
#[derive(Debug, Clone, Default)]
pub struct Late(Arc<OnceLock<Cluster>>);

impl Late {
    /// The node has joined.
    pub fn joined(&self, cluster: Cluster) {
        // It joins once.
        let _ = self.0.set(cluster);
    }

    /// None = it has not joined yet.
    pub fn get(&self) -> Option<&Cluster> {
        self.0.get()
    }
}

impl Nodes for Late {
    fn nodes(&self) -> Vec<NodeStatus> {
        self.get().map(Cluster::nodes).unwrap_or_default()
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        self.get().map(Cluster::partitions).unwrap_or_default()
    }

    fn move_to<'a>(&'a self, partition: u32, node: &'a str) -> Moving<'a> {
        match self.get() {
            Some(cluster) => Nodes::move_to(cluster, partition, node),
            None => Box::pin(ready(Err(MoveRefused::NoSuchNode(node.to_owned())))),
        }
    }

    fn tell<'a>(&'a self, note: &'a Note) -> Telling<'a> {
        match self.get() {
            Some(cluster) => Nodes::tell(cluster, note),
            None => Box::pin(ready(Err(NotTold::Failed("the node has not joined yet".to_owned())))),
        }
    }

    fn follow<'a>(&'a self, take: Take<'a>) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        match self.get() {
            Some(cluster) => Nodes::follow(cluster, take),
            None => Box::pin(pending()),
        }
    }
}
