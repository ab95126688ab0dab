//! What this node holds: it claims and gives away partitions as it is ordered, each on a thread of its
//! own.

use super::{held, parts::Parts, reading::Readings};
use crate::{
    cluster::{BootMicros, Cluster, Ends, Holding, Order, Standing, rules::QUIET},
    config::Config,
    engine::{Clock, EngineSettings},
    grpc::{self, Runs},
    log::{NodeId, Partition, jetstream::JetStreamLog},
    server::{Vital, engines::Engines},
    webhook::Plan,
};
use parking_lot::Mutex;
use std::{collections::HashMap, fmt, io, sync::Arc, thread, time::Duration};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// How often it is looked where logs end, and a node that stops looks whether there is anybody to give to.
const LOOK: Duration = Duration::from_millis(100);

/// What every partition needs that this node holds.
pub struct Holder {
    pub config: Config,
    pub settings: EngineSettings,
    pub clock: Clock,
    pub shared: grpc::Shared,
    pub runs: Arc<Runs>,
    pub plan: Plan,
    pub engines: Engines,
    pub cluster: Cluster,
    pub log: JetStreamLog,
    pub parts: Arc<Parts>,
    pub ends: Mutex<Ends>,
    pub readings: Readings,
}

/// Looks where the logs end of partitions whose owners are silent: then it is known until when the
/// node that wrote the last entry may answer at most. So a new owner waits no longer than it must.
pub async fn look_at_ends(holder: Arc<Holder>) {
    loop {
        sleep(LOOK).await;
        for partition in holder.cluster.silent(QUIET) {
            match holder.log.end(partition).await {
                Ok(end) => holder.ends.lock().see(partition, end, BootMicros::now()),
                Err(error) => {
                    tracing::debug!(%partition, %error, "the end of its log is not known");
                    break;
                }
            }
        }
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// The threads that hold partitions, by number: a partition that comes back has a new one, while that of
/// before may not be over yet.
#[derive(Debug, Default)]
struct All {
    begun: u64,
    running: HashMap<u64, Running>,
}

#[derive(Debug)]
struct Running {
    partition: Partition,
    /// Tells it to give the partition away, to nobody if there is none; none = it knows.
    give: Option<oneshot::Sender<Option<NodeId>>>,
}

/// Does what this node is ordered to do; once it is to stop, until it holds nothing any more.
pub async fn follow(holder: Arc<Holder>, stop: CancellationToken) {
    let mut all = All::default();
    let (tell, mut over) = mpsc::unbounded_channel();
    loop {
        tokio::select! {
            order = holder.cluster.order() => match order {
                Order::Claim(partition) => all.begin(&holder, partition, &tell),
                Order::Give(partition, to) => all.give(partition, Some(to)),
            },
            to_read = holder.cluster.to_read() => {
                let limits = Arc::new(holder.settings.limits.clone());
                holder.readings.begin(&holder.log, &limits, to_read);
            }
            Some(number) = over.recv() => drop(all.running.remove(&number)),
            () = stop.cancelled() => break,
        }
    }
    holder.cluster.leave();
    let patience = Instant::now() + holder.config.drain_timeout / 2;
    // The node that is to take something over may not do so: then the next best is asked.
    while !all.running.is_empty() || !holder.cluster.is_all_taken() {
        let nodes = holder.cluster.nodes();
        let mut others = nodes.iter().filter(|node| !node.is_me);
        let is_alone = !others.any(|node| node.standing == Standing::Alive);
        if is_alone || Instant::now() >= patience {
            if all.running.is_empty() {
                break;
            }
            // The next owner finds everything stored.
            all.give_everything();
        }
        tokio::select! {
            order = holder.cluster.order() => match order {
                Order::Give(partition, to) => all.give(partition, Some(to)),
                Order::Claim(partition) => holder.cluster.hold(partition, Holding::Nothing),
            },
            Some(number) = over.recv() => drop(all.running.remove(&number)),
            () = sleep(LOOK) => {}
        }
    }
}

impl All {
    /// Begins to hold a partition.
    fn begin(
        &mut self,
        holder: &Arc<Holder>,
        partition: Partition,
        tell: &mpsc::UnboundedSender<u64>,
    ) {
        self.begun += 1;
        let number = self.begun;
        let (give, given) = oneshot::channel();
        let (own, tell) = (holder.clone(), tell.clone());
        let work = move || {
            let _vital = Vital;
            match runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(held::hold(&own, partition, given)),
                Err(error) => refuse(&own, partition, &error),
            }
            let _ = tell.send(number);
        };
        let name = format!("keeper-{partition}");
        match thread::Builder::new().name(name).spawn(work) {
            Ok(_) => {
                self.running.insert(number, Running { partition, give: Some(give) });
            }
            Err(error) => refuse(holder, partition, &error),
        }
    }

    /// Gives a partition away; its thread says when that is done.
    fn give(&mut self, partition: Partition, to: Option<NodeId>) {
        let all = self.running.values_mut();
        for one in all.filter(|one| one.partition == partition) {
            // One that is over hears nothing any more, and has said so.
            one.give.take().map(|give| give.send(to));
        }
    }

    fn give_everything(&mut self) {
        for one in self.running.values_mut() {
            one.give.take().map(|give| give.send(None));
        }
    }
}

fn refuse(holder: &Holder, partition: Partition, error: &io::Error) {
    tracing::error!(%partition, %error, "a partition cannot be held");
    holder.cluster.hold(partition, Holding::Nothing);
}
