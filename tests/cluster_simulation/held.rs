//! A partition that a node holds, from its claim until it is another node's: what the server does with
//! it, on the clock and the network of the simulation.

use crate::{
    clock::Watch,
    plant::Plant,
    way::{FarLog, FarPort, Way},
};
use parking_lot::Mutex;
use sessiond::{
    cluster::{BootMicros, Ends, Fenced, Holding, Right, rules::SIGN_OF_LIFE},
    engine::{Clock, Engine, EngineSettings, KeepingSettings},
    grpc::encode::Wire,
    keeper::{self, Finish, Keeper, KeeperOptions, LoadError, ReadAhead},
    log::{Log, LogError, NodeId, Partition, Seq, Writer},
    session::{
        limits::{Limits, Micros, SECOND},
        settings::Durability,
    },
};
use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// The tick of sessions.
const TICK: Micros = SECOND / 10;

/// How often ASYNC sessions are stored.
const INTERVAL: Micros = SECOND / 5;

/// Above so many bytes of batches the log holds snapshots instead: few, so that it often does.
const BATCH_BYTES: usize = 4 << 10;

/// How long a hand-over may take to store what is left.
const FLUSH: Micros = 5 * SECOND;

/// How long streams have to say their last.
const LAST_WORDS: Micros = SECOND / 5;

/// How long it is between what is read ahead and the claim.
const READ_AHEAD: Micros = SECOND / 2;

/// How often it is looked whether the owner before may answer no more.
const LOOK: Micros = SECOND / 100;

/// What a process and the partitions that it holds share.
#[derive(Debug)]
pub struct Desk {
    pub id: NodeId,
    pub plant: Plant,
    pub watch: Watch,
    /// The wall clock of the process.
    pub wall: AtomicU64,
    pub way: Arc<Way>,
    pub ends: Mutex<Ends>,
    pub parts: Mutex<BTreeMap<Partition, Arc<Part>>>,
    /// What is to be told to the rules.
    pub holdings: Mutex<Vec<(Partition, Holding)>>,
}

/// What answers about a partition.
#[derive(Debug)]
pub struct Part {
    pub term: Seq,
    pub engine: Engine,
    pub right: Arc<Right>,
    /// Calls may come.
    is_open: AtomicBool,
    /// It is being handed over.
    is_given: AtomicBool,
    /// Its streams are to end.
    pub stops: AtomicBool,
    /// It is this node's no more.
    is_over: AtomicBool,
}

impl Part {
    /// Whether its node may answer at a moment of its clock.
    pub fn may_answer(&self, now: BootMicros, plant: Plant) -> bool {
        match plant {
            Plant::AnswersForEver => !self.is_over.load(Ordering::Relaxed),
            _ => self.right.holds_at(now),
        }
    }

    /// Whether it does, what was begun before it was handed over.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Whether it is being handed over.
    pub fn is_given(&self) -> bool {
        self.is_given.load(Ordering::Relaxed)
    }
}

impl Desk {
    fn hold(&self, partition: Partition, holding: Holding) {
        self.holdings.lock().push((partition, holding));
    }
}

/// Claims a partition and holds it until it is to be given away, or is lost.
pub async fn hold(desk: Arc<Desk>, partition: Partition, given: CancellationToken) {
    let _ = match claim(&desk, partition).await {
        Ok((part, keeper)) => serve(&desk, partition, part, keeper, given).await,
        Err(LoadError::Log(error)) => Err(error),
        Err(error) => panic!("what is stored cannot be read: {error}"),
    };
    desk.hold(partition, Holding::Nothing);
}

async fn claim(
    desk: &Desk,
    partition: Partition,
) -> Result<(Arc<Part>, Keeper<Fenced<FarPort>>), LoadError> {
    let log = FarLog(desk.way.clone());
    let settings = settings();
    let limits = Arc::new(settings.limits.clone());
    // Now and then it reads what there is before it claims, and the owner before goes on meanwhile.
    let ahead = match desk.wall.load(Ordering::Relaxed) / 1000 % 2 {
        0 => None,
        _ => {
            let mut ahead = ReadAhead::begin(&log, partition, &limits);
            let is_read = ahead.catch_up().await.is_ok();
            desk.watch.sleep(READ_AHEAD).await;
            is_read.then_some(ahead)
        }
    };
    let writer = log.claim(partition, desk.id).await?;
    let (claimed_at, term) = (desk.watch.now(), writer.term());
    desk.hold(partition, Holding::Loading(term));
    let ahead = match ahead {
        Some(ahead) => ahead.finish(term).await.ok(),
        None => None,
    };
    let mut loaded = match ahead {
        Some(loaded) => loaded,
        None => keeper::read(&log, partition, term, &limits).await?,
    };
    let (lost, unreadable) = (mem::take(&mut loaded.lost), loaded.unreadable);
    let is_released = loaded.restored.is_clean;
    let before = desk.ends.lock().before(partition, term, is_released, claimed_at);
    let right = Arc::new(Right::claimed(writer.last_sent(), before));
    let clock = Clock::stepped(desk.wall.load(Ordering::Relaxed));
    let engine = Engine::new(settings, clock, Arc::new(Wire::default()));
    let options = KeeperOptions {
        interval: Duration::from_micros(INTERVAL),
        batch_bytes: BATCH_BYTES,
        sign_of_life: Some(Duration::from_micros(SIGN_OF_LIFE)),
    };
    let writer = Fenced::new(writer, right.clone());
    let mut keeper = Keeper::new(engine.clone(), None, writer, loaded, options);
    keeper.begin().await?;
    // A node that is deposed while it reads may find what the next owner has replaced.
    assert!(lost.is_empty() && unreadable == 0, "damage: {lost:?}");
    let part = Part {
        term,
        engine,
        right,
        is_open: AtomicBool::new(false),
        is_given: AtomicBool::new(false),
        stops: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
    };
    Ok((part.into(), keeper))
}

/// Answers for a partition until it is to be given away, and stores meanwhile.
async fn serve(
    desk: &Desk,
    partition: Partition,
    part: Arc<Part>,
    keeper: Keeper<Fenced<FarPort>>,
    given: CancellationToken,
) -> Result<Finish, LogError> {
    desk.parts.lock().insert(partition, part.clone());
    let stop = CancellationToken::new();
    let outcome = {
        let mut storing = std::pin::pin!(keeper.run(stop.clone()));
        tokio::select! {
            biased;
            outcome = &mut storing => outcome,
            () = answer(desk, partition, &part, given) => {
                stop.cancel();
                storing.await
            }
        }
    };
    part.right.end();
    part.is_over.store(true, Ordering::Relaxed);
    desk.parts.lock().remove(&partition);
    outcome
}

async fn answer(desk: &Desk, partition: Partition, part: &Part, given: CancellationToken) {
    let Desk { watch, plant, .. } = desk;
    while !part.right.may_release_at(watch.now()) {
        watch.sleep(LOOK).await;
    }
    part.is_open.store(true, Ordering::Relaxed);
    desk.hold(partition, Holding::Serving(part.term));
    given.cancelled().await;
    if *plant == Plant::ReleasesBeforeTheFlush {
        // Where there is nothing to flush, nothing is planted.
        let until = watch.now().after(2 * SECOND);
        while part.engine.is_all_stored() && watch.now() < until {
            watch.sleep(TICK).await;
        }
    }
    desk.hold(partition, Holding::Giving(part.term));
    part.is_given.store(true, Ordering::Relaxed);
    if *plant == Plant::ReleasesBeforeTheFlush {
        part.right.end();
        desk.way.ask(desk.way.release_early(partition, part.term)).await;
    }
    part.engine.drain();
    let flushed = async {
        tokio::select! {
            biased;
            () = part.engine.store_everything() => true,
            () = watch.sleep(FLUSH) => false,
        }
    };
    if !flushed.await {
        part.engine.give_up_storing();
    }
    part.stops.store(true, Ordering::Relaxed);
    watch.sleep(LAST_WORDS).await;
}

fn settings() -> EngineSettings {
    EngineSettings {
        shards: 1,
        tick: TICK,
        user_ttl: 60 * SECOND,
        max_sessions: 1000,
        max_users: 20_000,
        max_sessions_per_user: 100,
        max_listeners_per_user: 10,
        max_updates_per_second: 1_000_000,
        max_changes_per_second: 1_000_000,
        max_logs_bytes: 1 << 20,
        events: Default::default(),
        max_replay_bytes: 1 << 20,
        keeping: Some(KeepingSettings { interval: INTERVAL, durability: Durability::Async }),
        limits: Limits::default(),
        judged: Default::default(),
    }
}
