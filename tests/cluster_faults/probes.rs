//! Calls at a steady rate to all nodes, whatever becomes of those before: they tell how long a partition is
//! not served, and whether anybody answers who has lost it.

use crate::{
    calls::Calls,
    fleet::Fleet,
    values::{int, props},
    world::World,
};
use parking_lot::Mutex;
use sessiond::proto::{
    Ack, Durability, OpenSharedSessionRequest, Position, SessionSettings, SetSessionDataRequest,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tonic::Status;

/// The session of an app that is probed: a SYNC one, so that nothing of it that is answered is ever gone.
const ID: &str = "probe";

/// A partition, as its clients see it.
#[derive(Debug)]
pub struct Line {
    app: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// When a call was answered the last time.
    last: Instant,
    /// The longest time without an answer since that is counted.
    worst: Duration,
    /// Of the call that was sent last among those that were answered.
    sent: Instant,
    /// The greatest position that anybody was answered.
    position: Position,
}

impl Line {
    pub fn new(app: usize) -> Self {
        let now = Instant::now();
        let (worst, position) = (Duration::ZERO, Position::default());
        Self { app, seen: Mutex::new(Seen { last: now, worst, sent: now, position }) }
    }

    /// Counts from now on, when it is served.
    pub fn begin(&self) {
        let mut seen = self.seen.lock();
        (seen.worst, seen.last) = (Duration::ZERO, Instant::now());
    }

    /// The longest time without an answer that has ended since then.
    pub fn worst(&self) -> Duration {
        self.seen.lock().worst
    }

    /// Whether a call was answered that was sent after this moment.
    pub fn is_served_since(&self, moment: Instant) -> bool {
        self.seen.lock().sent >= moment
    }

    fn answered(&self, sent: Instant) {
        let mut seen = self.seen.lock();
        let now = Instant::now();
        seen.worst = seen.worst.max(now - seen.last);
        (seen.last, seen.sent) = (now, seen.sent.max(sent));
    }
}

/// Opens the session that is probed.
pub async fn open(world: &World, fleet: &Fleet, line: &Line) {
    let name = &fleet.apps[line.app];
    let opened = world.until_answered(name, "the probe is opened", || {
        let mut calls = fleet.any(line.app);
        async move {
            let request = OpenSharedSessionRequest {
                app: calls.of.clone(),
                session_id: ID.to_owned(),
                settings: Some(SessionSettings {
                    durability: Durability::Sync.into(),
                    empty_ttl: Some(prost_types::Duration { seconds: 86_400, nanos: 0 }),
                    ..Default::default()
                }),
                request_id: "open".to_owned(),
                ..Default::default()
            };
            calls.app.open_shared_session(request).await.map(|it| it.into_inner().position)
        }
    });
    if let Some(position) = opened.await {
        line.seen.lock().position = position.unwrap_or_default();
    }
}

/// Probes a partition for ever.
pub async fn probe(
    world: Arc<World>,
    fleet: Arc<Fleet>,
    line: Arc<Line>,
    nodes: usize,
    every: Duration,
) {
    let mut clock = interval(every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut calls = JoinSet::new();
    for number in 0.. {
        clock.tick().await;
        // Each node gets both.
        let (node, is_write) = (number % nodes, (number / nodes).is_multiple_of(2));
        let (world, line, client) = (world.clone(), line.clone(), fleet.at(line.app, node));
        calls.spawn(async move { line.call(&world, client, node, is_write, number).await });
        while let Some(ended) = calls.try_join_next() {
            ended.expect("a probe does not panic");
        }
    }
}

impl Line {
    async fn call(
        &self,
        world: &World,
        mut calls: Calls,
        node: usize,
        is_write: bool,
        number: usize,
    ) {
        let (before, sent) = (self.seen.lock().position, Instant::now());
        let answer = if is_write {
            write(&mut calls, number).await
        } else {
            calls.info(ID, None).await.map(|info| info.position)
        };
        world.count(|figures| figures.probes += 1);
        let position = match answer {
            Ok(position) => position.unwrap_or_default(),
            Err(status) => {
                world.is_fault(&calls.of, &format_args!("a probe at node-{node}"), &status);
                return;
            }
        };
        self.answered(sent);
        let is_there = position.epoch == before.epoch && position.revision >= before.revision;
        if !is_there {
            let call = if is_write { "write" } else { "read" };
            let what = format!(
                "node-{node} answers a {call} that was sent {:.1?} ago with {position:?}, \
                 after {before:?} was answered",
                sent.elapsed()
            );
            world.violation(&calls.of, what);
        }
        let mut seen = self.seen.lock();
        seen.position.revision = seen.position.revision.max(position.revision);
    }
}

async fn write(calls: &mut Calls, number: usize) -> Result<Option<Position>, Status> {
    let request = SetSessionDataRequest {
        app: calls.of.clone(),
        session_id: ID.to_owned(),
        set: props([("probe", int(number as i64))]),
        ack: Ack::Durable.into(),
        ..Default::default()
    };
    let reply = calls.app.set_session_data(request).await?.into_inner();
    Ok(reply.position)
}
