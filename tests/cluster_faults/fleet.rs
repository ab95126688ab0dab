//! The nodes, seen from clients, each of which takes any of them for each call.

use crate::{
    calls::{AsApp, Calls, as_app},
    server::endpoint,
};
use sessiond::{
    cluster::partition_of,
    proto::{ListPartitionsRequest, Partition, admin_service_client::AdminServiceClient},
};
use std::{net::SocketAddr, time::Duration};
use tonic::{Request, Status, transport::Channel};

/// How long a client waits for an answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How often a client asks whether a connection is still there, and how long it waits for the answer.
const ALIVE: Duration = Duration::from_secs(2);

/// Clients of all nodes.
#[derive(Debug)]
pub struct Fleet {
    /// One app of each partition.
    pub apps: Vec<String>,
    /// By app and node.
    calls: Vec<Vec<Calls>>,
    channels: Vec<Channel>,
}

impl Fleet {
    /// Clients of the nodes at these addresses, which connect when they call.
    pub fn new(addresses: &[SocketAddr], partitions: usize) -> Self {
        let apps: Vec<_> = (0..partitions).map(|it| app_of(it, partitions)).collect();
        let calls = apps
            .iter()
            .map(|app| addresses.iter().map(|it| Calls::over(channel(*it), app.clone())).collect());
        Self {
            calls: calls.collect(),
            channels: addresses.iter().map(|it| channel(*it)).collect(),
            apps,
        }
    }

    /// Calls to one node.
    pub fn at(&self, app: usize, node: usize) -> Calls {
        self.calls[app][node].clone()
    }

    /// Calls to any node.
    pub fn any(&self, app: usize) -> Calls {
        self.at(app, fastrand::usize(0..self.channels.len()))
    }

    /// The calls of people who run the cluster, to one node.
    pub fn admin(&self, node: usize) -> AdminServiceClient<AsApp> {
        let by_app = as_app as fn(Request<()>) -> Result<Request<()>, Status>;
        AdminServiceClient::with_interceptor(self.channels[node].clone(), by_app)
    }

    /// What a node says of the partitions.
    pub async fn partitions(&self, node: usize) -> Result<Vec<Partition>, Status> {
        let listed = self.admin(node).list_partitions(ListPartitionsRequest {}).await?;
        Ok(listed.into_inner().partitions)
    }
}

fn channel(address: SocketAddr) -> Channel {
    endpoint(address)
        .connect_timeout(Duration::from_secs(1))
        .timeout(PATIENCE)
        .http2_keep_alive_interval(ALIVE)
        .keep_alive_timeout(ALIVE)
        .keep_alive_while_idle(true)
        .connect_lazy()
}

/// An app that is in a partition.
fn app_of(partition: usize, partitions: usize) -> String {
    let names = (0..).map(|it| format!("app-{it}"));
    let mut fits = names.filter(|app| usize::from(partition_of(app, partitions).0) == partition);
    fits.next().expect("there is always one more")
}
