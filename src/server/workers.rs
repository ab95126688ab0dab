//! The threads that serve connections, and have the sessions of their shards tick.

use super::{
    accept::{Admitted, Connections},
    engines::Engines,
    tls::Tls,
};
use std::{io, sync::Arc, thread};
use tokio::{
    runtime,
    sync::mpsc::{self, UnboundedSender},
};

/// Where a connection is handed to a thread.
pub type Inbox = UnboundedSender<Admitted>;

/// The threads of a server.
#[derive(Debug, Default)]
pub struct Workers {
    threads: Vec<thread::JoinHandle<()>>,
    /// Where those of clients are handed over.
    pub clients: Vec<Inbox>,
    /// Where those of other nodes are.
    pub nodes: Vec<Inbox>,
}

impl Workers {
    /// Starts the threads. Where the clock runs by itself, they have the sessions of `ticking` tick.
    pub fn start(
        server: &Arc<Connections>,
        nodes: Option<&Arc<Connections>>,
        ticking: Option<&Engines>,
    ) -> io::Result<Self> {
        let mut workers = Self::default();
        let mut runtimes = Vec::new();
        for shard in 0..server.config.threads {
            let mut runtime = runtime::Builder::new_current_thread();
            if let Some(engines) = ticking {
                let (rests, wakes) = (engines.clone(), engines.clone());
                runtime.on_thread_park(move || rests.shard_rests(shard));
                runtime.on_thread_unpark(move || wakes.shard_wakes(shard));
            }
            let runtime = runtime.enable_all().build()?;
            runtimes.push(runtime.handle().clone());
            let (inbox, sockets) = mpsc::unbounded_channel();
            workers.clients.push(inbox);
            if let Some(nodes) = nodes {
                let (inbox, sockets) = mpsc::unbounded_channel();
                workers.nodes.push(inbox);
                runtime.spawn(nodes.clone().work(shard, sockets));
            }
            let work = server.clone().work(shard, sockets);
            let thread = thread::Builder::new().name(format!("worker-{shard}"));
            workers.threads.push(thread.spawn(move || runtime.block_on(work))?);
        }
        if let Some(engines) = ticking {
            engines.run_by(runtimes);
        }
        Ok(workers)
    }

    /// Starts threads that shake hands before they hand connections on; where they are handed to those.
    pub fn shake_hands(
        &mut self,
        server: &Arc<Connections>,
        tls: &Arc<Tls>,
        inboxes: Vec<Inbox>,
    ) -> io::Result<Vec<Inbox>> {
        let (threads, inboxes): (Vec<_>, _) = server.shake_hands(tls, inboxes)?.into_iter().unzip();
        self.threads.extend(threads);
        Ok(inboxes)
    }

    /// Waits until all have ended.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
    }
}
