//! A partition that this node holds, from its claim until it is another node's: on a thread of its own,
//! which stores what its engine hands out.

use super::{holder::Holder, tenure::Tenure};
use crate::{
    cluster::{BootMicros, Fenced, Holding, rules::SIGN_OF_LIFE},
    engine::Engine,
    grpc::{self, Leaving, Objects, encode::Wire},
    keeper::{self, Finish, Keeper, KeeperOptions, LoadError, Versions},
    log::{Log, LogError, NodeId, Partition, Seq, Writer, jetstream::JetStreamPort},
    object_stream::ObjectStreams,
    server::{
        engines::Has,
        part::{self, Part},
        settings,
        store::tell_lost,
    },
    webhook::Webhooks,
};
use std::{
    future::Future,
    mem,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::oneshot,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Above so many bytes of batches the log holds snapshots instead.
const BATCH_BYTES: usize = 64 << 20;

/// No more of what a partition may take than one in so many bytes is for batches.
const BATCH_SHARE: usize = 16;

/// How often it is looked whether the right to answer has lapsed.
const LOOK: Duration = Duration::from_millis(100);

/// How long streams have to say their last before the partition is given away.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long the URLs to which events are pushed have to hear of the last of it.
const PUSHING: Duration = Duration::from_secs(2);

/// Says that a partition is to be given away, and to whom if there is anybody.
type Given = oneshot::Receiver<Option<NodeId>>;

/// A partition that is claimed and read.
struct Held<'a> {
    holder: &'a Holder,
    partition: Partition,
    term: Seq,
    tenure: Arc<Tenure>,
    context: grpc::Context,
}

/// Claims a partition and holds it until it is to be given away, or is lost.
pub async fn hold(holder: &Holder, partition: Partition, given: Given) {
    let (outcome, webhooks) = match claim(holder, partition).await {
        Ok((held, keeper)) => {
            let (outcome, webhooks) = held.serve(keeper, given).await;
            (outcome.map_err(LoadError::from), webhooks)
        }
        Err(error) => (Err(error), Webhooks::default()),
    };
    match outcome {
        Ok(Finish::Stored) => tracing::info!(%partition, "a partition is given away"),
        Ok(Finish::Unstored { .. }) => {
            tracing::error!(%partition, "a partition is given away, and not all of it is stored");
        }
        // That is how two nodes find out which of them owns it.
        Err(LoadError::Log(LogError::Deposed)) => {
            tracing::warn!(%partition, "a partition is another node's");
        }
        Err(LoadError::Log(error)) if error.may_pass() => {
            tracing::warn!(%partition, %error, "a partition cannot be held at the moment");
        }
        Err(error) => tracing::error!(%partition, %error, "a partition is not this node's"),
    }
    holder.cluster.hold(partition, Holding::Nothing);
    // Only now, so that the next owner does not wait for their URLs.
    let until = Instant::now() + PUSHING;
    let _ = spawn_blocking(move || webhooks.stop(until)).await;
}

async fn claim(
    holder: &Holder,
    partition: Partition,
) -> Result<(Held<'_>, Keeper<Fenced<JetStreamPort>>), LoadError> {
    let Holder { config, log, cluster, .. } = holder;
    let began = Instant::now();
    let writer = log.claim(partition, cluster.me().id).await?;
    let (claimed_at, term) = (BootMicros::now(), writer.term());
    cluster.hold(partition, Holding::Loading(term));
    let mut loaded = match holder.readings.finish(partition, term).await {
        Some(loaded) => loaded,
        None => {
            let limits = Arc::new(holder.settings.limits.clone());
            keeper::read(log, partition, term, &limits).await?
        }
    };
    let lost = mem::take(&mut loaded.lost);
    let (sessions, users) = (loaded.restored.sessions.len(), loaded.restored.users.len());
    let is_released = loaded.restored.is_clean;
    let before = holder.ends.lock().before(partition, term, is_released, claimed_at);
    let tenure = Arc::new(Tenure::begin(writer.last_sent(), before));
    let engine =
        Engine::new(holder.settings.clone(), holder.clock.clone(), Arc::new(Wire::default()));
    let objects = ObjectStreams::new(settings::objects(config), engine.clock().now());
    let objects = Arc::new(Objects::new(objects, holder.runs.clone()));
    let options = KeeperOptions {
        interval: config.store_interval,
        batch_bytes: BATCH_BYTES.min(config.cluster_log_bytes / BATCH_SHARE),
        sign_of_life: Some(Duration::from_micros(SIGN_OF_LIFE)),
    };
    let writer = Fenced::new(writer, tenure.right().clone());
    let mut keeper = Keeper::new(engine.clone(), Some(objects.clone()), writer, loaded, options);
    let others = cluster.clone();
    keeper.write_as(Versions::said_by(move || others.format_to_write()));
    keeper.begin().await?;
    // Only now: a node that is deposed while it reads may find what the next owner has replaced.
    tell_lost(&lost);
    let ms = began.elapsed().as_millis() as u64;
    tracing::info!(%partition, %term, sessions, users, is_released, ms, "a partition is read");
    let shared = grpc::Shared {
        objects,
        leaving: Leaving::default(),
        stopping: CancellationToken::new(),
        ..holder.shared.clone()
    };
    let context = grpc::Context { engine, shared: Arc::new(shared) };
    Ok((Held { holder, partition, term, tenure, context }, keeper))
}

impl Held<'_> {
    /// Answers for the partition until it is to be given away, and stores meanwhile. An error says that
    /// it is lost. The webhooks may still have something to push.
    async fn serve(
        self,
        keeper: Keeper<Fenced<JetStreamPort>>,
        given: Given,
    ) -> (Result<Finish, LogError>, Webhooks) {
        let Holder { engines, plan, config, .. } = self.holder;
        let engine = &self.context.engine;
        let has = Has::Partition(self.partition, config.cluster_partitions);
        let _running = engines.run(engine, has);
        let webhooks = match Webhooks::start(plan.clone(), engine) {
            Ok(webhooks) => webhooks,
            Err(error) => {
                return (Err(LogError::Broken(error.to_string().into())), Webhooks::default());
            }
        };
        let stop = CancellationToken::new();
        let outcome = {
            let mut storing = pin!(keeper.run(stop.clone()));
            tokio::select! {
                outcome = &mut storing => outcome,
                () = self.answer(given) => {
                    stop.cancel();
                    storing.await
                }
            }
        };
        match outcome {
            Ok(Finish::Stored) => self.tenure.end(),
            _ => self.tenure.lose(),
        }
        self.holder.parts.remove(self.partition);
        self.context.stopping.cancel();
        (outcome, webhooks)
    }

    /// Answers for the partition until it is to be given away, and then until nobody is answered any
    /// more and everything that anybody was sent is stored.
    async fn answer(&self, given: Given) {
        let Self { holder, partition, tenure, context, .. } = self;
        // Until then the owner before may answer.
        while !tenure.right().may_release() {
            sleep(LOOK / 10).await;
        }
        let routes = part::services(context);
        let part = Part::new(Arc::new(context.clone()), routes, Some(tenure.clone()));
        holder.parts.put(*partition, part);
        holder.cluster.hold(*partition, Holding::Serving(self.term));
        let to = self.look_until(given).await;
        if let Ok(Some(to)) = to {
            self.look_until(holder.cluster.have_read(*partition, to)).await;
        }
        if context.engine.gateways().0 > 0 {
            // They go on until then: a gateway that opens the next stream before it loses nothing.
            context.leaving.begin(context.engine.clock().now());
            self.look_until(sleep(holder.config.drain_notice)).await;
        }
        holder.cluster.hold(*partition, Holding::Giving(self.term));
        tenure.give();
        holder.parts.note();
        context.leaving.hand_over(tenure.streams());
        context.engine.drain();
        if timeout(holder.config.drain_timeout / 2, context.engine.store_everything())
            .await
            .is_err()
        {
            context.engine.give_up_storing();
        }
        // What is in flight was shown when it was stored; now the streams end.
        context.stopping.cancel();
        let _ = timeout(LAST_WORDS, tenure.streams_ended()).await;
    }

    /// Looks whether the right to answer has lapsed, until something is done.
    async fn look_until<T>(&self, done: impl Future<Output = T>) -> T {
        let mut done = pin!(done);
        loop {
            tokio::select! {
                outcome = &mut done => return outcome,
                () = sleep(LOOK) => self.tenure.look(),
            }
        }
    }
}
