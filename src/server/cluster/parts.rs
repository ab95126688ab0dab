//! Which parts this node has, and which node has those of others.

use super::Late;
use crate::{
    cluster::{Cluster, Owner, partition_of},
    log::Partition,
    server::{
        nodes::{Place, Places},
        part::Part,
    },
};
use parking_lot::RwLock;
use std::{collections::HashMap, pin::Pin, sync::Arc};
use tokio::sync::watch;

/// What answers calls at this node, and where others are answered.
#[derive(Debug)]
pub struct Parts {
    cluster: Late,
    partitions: usize,
    /// What the people who run the server ask.
    here: Arc<Part>,
    own: RwLock<HashMap<Partition, Arc<Part>>>,
    changes: watch::Sender<()>,
}

impl Parts {
    /// None yet, of a cluster that is divided so.
    pub fn new(cluster: Late, partitions: usize, here: Arc<Part>) -> Self {
        let (own, changes) = (RwLock::default(), watch::Sender::default());
        Self { cluster, partitions, here, own, changes }
    }

    /// This node answers for a partition from now on.
    pub fn put(&self, partition: Partition, part: Part) {
        self.own.write().insert(partition, Arc::new(part));
        self.note();
    }

    /// It does so no more.
    pub fn remove(&self, partition: Partition) {
        let _part = self.own.write().remove(&partition);
        self.note();
    }

    /// Those who wait for a partition look again.
    pub fn note(&self) {
        self.changes.send_replace(());
    }
}

impl Places for Parts {
    fn place(&self, app: Option<&str>) -> Place {
        let Some(app) = app else { return Place::Here(self.here.clone()) };
        let partition = partition_of(app, self.partitions);
        match self.cluster.get().map_or(Owner::Nobody, |cluster| cluster.owner(partition)) {
            Owner::Here => {
                let part = self.own.read().get(&partition).filter(|part| part.is_open()).cloned();
                part.map_or(Place::Nowhere, Place::Here)
            }
            Owner::There(node) => node.address.parse().map_or(Place::Nowhere, Place::There),
            Owner::Nobody => Place::Nowhere,
        }
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (owners, mut own) = (self.cluster.get().map(Cluster::owners), self.changes.subscribe());
        Box::pin(async move {
            let others = async {
                match owners {
                    Some(mut owners) => {
                        owners.mark_unchanged();
                        drop(owners.changed().await);
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = others => {}
                _ = own.changed() => {}
            }
        })
    }
}
