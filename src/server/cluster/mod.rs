//! A server that is a node of a cluster: it has the partitions that it is to own, each with an engine of
//! its own, and sends calls about all others on to their owners.

mod check;
mod held;
mod holder;
mod joining;
mod late;
mod parts;
mod reading;
mod tenure;

pub use self::{check::check, holder::Holder, late::Late, parts::Parts, tenure::Tenure};

use self::joining::Joining;
use super::StartError;
use crate::{
    cluster::{Cluster, NodeInfo, Settings},
    config::Config,
    log::{
        NodeId,
        jetstream::{self, JetStreamLog, Servers},
    },
    record,
    session::limits::Micros,
};
use std::{future::Future, io, net::SocketAddr, sync::Arc, thread, time::Duration};
use tokio::{
    runtime,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// How long the log waits for a reply before its outcome is unknown.
const PATIENCE: Duration = Duration::from_secs(5);

/// A node that has joined, and holds nothing yet.
#[derive(Debug)]
pub struct Joined {
    pub cluster: Cluster,
    pub log: JetStreamLog,
    thread: Thread,
}

/// A node that holds what it is to own.
#[derive(Debug)]
pub struct Member {
    stop: CancellationToken,
    following: JoinHandle<()>,
    _thread: Thread,
}

impl Joined {
    /// Joins the cluster that the settings name, which are [checked](check), as soon as it is there.
    pub async fn join(
        config: &Config,
        node_port: Option<SocketAddr>,
        now: Micros,
    ) -> Result<Option<Self>, StartError> {
        let Some(urls) = &config.cluster else { return Ok(None) };
        let listens_at = node_port.map(|address| address.to_string());
        let address = config.node_address.clone().or(listens_at).unwrap_or_default();
        let servers = Servers {
            urls: urls.clone(),
            credentials: config.cluster_credentials.clone(),
            ca: config.cluster_ca.clone(),
            name: config.node.clone(),
        };
        let log = jetstream::Settings {
            cluster: config.cluster_name.clone(),
            partitions: config.cluster_partitions as u16,
            replicas: config.cluster_replicas as u8,
            max_bytes: config.cluster_log_bytes as u64,
            patience: PATIENCE,
        };
        let settings = Settings {
            cluster: config.cluster_name.clone(),
            partitions: config.cluster_partitions,
            replicas: config.cluster_replicas,
            is_new: false,
        };
        let me = NodeInfo {
            id: NodeId(uuid::Uuid::new_v4().as_u64_pair().0),
            name: config.node.clone(),
            address,
            format: record::VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: now,
        };
        let thread = Thread::start()?;
        let joining = Joining { servers, log, settings, me };
        let (cluster, log) = thread.run(joining.join()).await?;
        Ok(Some(Self { cluster, log, thread }))
    }

    /// Holds from now on what this node is to own.
    pub fn hold(self, holder: Holder) -> Member {
        let stop = CancellationToken::new();
        let holder = Arc::new(holder);
        self.thread.handle.spawn(holder::look_at_ends(holder.clone()));
        let work = holder::follow(holder, stop.clone());
        Member { stop, following: self.thread.handle.spawn(work), _thread: self.thread }
    }
}

impl Member {
    /// Leaves the cluster: gives everything away, to the others as far as there are any.
    pub async fn leave(mut self, until: Instant) {
        self.stop.cancel();
        if timeout_at(until, &mut self.following).await.is_err() {
            tracing::error!("partitions could not be given away in time: it counts as a crash");
        }
    }
}

/// The thread on which the connection to NATS lives: nothing that a client does holds it up.
#[derive(Debug)]
struct Thread {
    handle: runtime::Handle,
    over: CancellationToken,
}

impl Thread {
    fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (handle, over) = (runtime.handle().clone(), CancellationToken::new());
        let until = over.clone();
        let work = move || runtime.block_on(until.cancelled());
        thread::Builder::new().name("cluster".to_owned()).spawn(work)?;
        Ok(Self { handle, over })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StartError>> + Send + 'static,
    ) -> Result<T, StartError> {
        let (tell, told) = oneshot::channel();
        self.handle.spawn(async move {
            let _ = tell.send(work.await);
        });
        let gone = |_| StartError::Machine(io::Error::other("the thread of the cluster has ended"));
        told.await.map_err(gone)?
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.over.cancel();
    }
}
