//! Sessions that are not stored: each is gone with its owner, and one of its id that is opened then has a
//! greater epoch. While its owner is there nothing of it is lost.

use crate::{
    calls::Calls,
    fleet::Fleet,
    values::{int, props},
    world::World,
};
use parking_lot::Mutex;
use prost_types::FieldMask;
use sessiond::proto::{
    Durability, OpenSharedSessionRequest, Position, SessionSettings, UpdateSessionRequest,
    value::Kind,
};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;
use tonic::{Code, Status};

const ID: &str = "passing";

/// The one of an app.
#[derive(Debug)]
pub struct Passing {
    app: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// How often it was opened.
    opened: u64,
    /// What was written last.
    sent: u64,
    /// What was answered last, in this epoch.
    number: u64,
    position: Position,
}

impl Passing {
    pub fn new(app: usize) -> Self {
        Self { app, seen: Mutex::default() }
    }

    /// The epoch of it that was seen last.
    pub fn epoch(&self) -> u64 {
        self.seen.lock().position.epoch
    }

    /// Opens it whenever it is gone, and writes.
    pub async fn pass_on(self: Arc<Self>, world: Arc<World>, fleet: Arc<Fleet>) {
        loop {
            sleep(Duration::from_millis(fastrand::u64(20..200))).await;
            let _gate = world.gate.read().await;
            self.look(&world, &fleet).await;
        }
    }

    /// Sees that the one of an epoch is over.
    pub async fn is_over(&self, world: &World, fleet: &Fleet, epoch: u64) {
        let found = self.find(world, fleet, None).await;
        if let Some(Some((position, _))) = found
            && position.epoch <= epoch
        {
            let what = format!("it is at {position:?} after its owner has gone");
            world.violation(&fleet.apps[self.app], what);
        }
    }

    /// Where it is and what it says. The inner none = it is gone; the outer none = nobody answers.
    async fn find(
        &self,
        world: &World,
        fleet: &Fleet,
        min_position: Option<Position>,
    ) -> Option<Option<(Position, u64)>> {
        let look = || {
            let mut calls = fleet.any(self.app);
            async move {
                match calls.info(ID, min_position).await {
                    Ok(info) => {
                        let session = info.session.unwrap_or_default();
                        let metadata = session.settings.unwrap_or_default().metadata;
                        let number = match metadata.get("n").and_then(|value| value.kind.clone()) {
                            Some(Kind::Integer(number)) => number as u64,
                            _ => 0,
                        };
                        Ok(Some((info.position.unwrap_or_default(), number)))
                    }
                    // Another one has been opened since, or none.
                    Err(status) if status.code() == Code::NotFound => Ok(None),
                    Err(status) if status.code() == Code::FailedPrecondition => Ok(None),
                    Err(status) => Err(status),
                }
            }
        };
        world.until_answered(&fleet.apps[self.app], "it is looked for", look).await
    }

    async fn look(&self, world: &World, fleet: &Fleet) {
        let name = &fleet.apps[self.app];
        let before = *self.seen.lock();
        let known = (before.position.epoch != 0).then_some(before.position);
        let Some(found) = self.find(world, fleet, known).await else { return };
        let Some((position, number)) = found else { return self.open(world, fleet).await };
        if position.epoch != before.position.epoch || number < before.number {
            let what = format!("it is at {position:?} with {number}, after {before:?}");
            world.violation(name, what);
        }
        let sent = before.sent + 1;
        self.seen.lock().sent = sent;
        let written = world
            .until_answered(name, format!("{sent} is written"), || {
                let calls = fleet.any(self.app);
                async move { put(calls, sent).await }
            })
            .await;
        if let Some(Some(position)) = written {
            let mut seen = self.seen.lock();
            if position.epoch == seen.position.epoch {
                (seen.number, seen.position) = (sent, position);
            } else {
                let what = format!("{position:?} is written, after {:?}", seen.position);
                world.violation(name, what);
            }
        }
    }

    /// Opens it. Its epoch is greater than all before.
    async fn open(&self, world: &World, fleet: &Fleet) {
        let (name, before) = (&fleet.apps[self.app], *self.seen.lock());
        let opened = before.opened + 1;
        self.seen.lock().opened = opened;
        let answer = world.until_answered(name, "it is opened", || {
            let mut calls = fleet.any(self.app);
            let request = OpenSharedSessionRequest {
                app: calls.of.clone(),
                session_id: ID.to_owned(),
                settings: Some(SessionSettings {
                    durability: Durability::None.into(),
                    empty_ttl: Some(prost_types::Duration { seconds: 86_400, nanos: 0 }),
                    ..Default::default()
                }),
                request_id: format!("passing-{opened}"),
                ..Default::default()
            };
            async move { calls.app.open_shared_session(request).await.map(|it| it.into_inner()) }
        });
        let Some(answer) = answer.await else { return };
        let position = answer.position.unwrap_or_default();
        world.count(|figures| figures.passed += 1);
        if position.epoch <= before.position.epoch {
            let what = format!("it is opened at {position:?}, after {before:?}");
            world.violation(name, what);
        }
        let mut seen = self.seen.lock();
        (seen.number, seen.position) = (0, position);
    }
}

/// Writes a number. None = it is gone.
async fn put(mut calls: Calls, number: u64) -> Result<Option<Position>, Status> {
    let request = UpdateSessionRequest {
        app: calls.of.clone(),
        session_id: ID.to_owned(),
        settings: Some(SessionSettings {
            metadata: props([("n", int(number as i64))]),
            ..Default::default()
        }),
        update_mask: Some(FieldMask { paths: vec!["metadata".to_owned()] }),
        request_id: format!("n-{number}"),
        ..Default::default()
    };
    match calls.app.update_session(request).await {
        Ok(reply) => Ok(reply.into_inner().position),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}
