//! Who is shown sessions: notes what each position shows, and comes back after a restart.

use crate::{
    calls::Calls,
    rebuilt::{Rebuilt, Step},
    slot::Slot,
    world::World,
};
use parking_lot::Mutex;
use sessiond::proto::{SnapshotReason, SubscribeToSessionResponse};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tonic::{Status, Streaming};

type Down = Streaming<SubscribeToSessionResponse>;

/// How long a reader waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a subscription must begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// With a snapshot, as it is new.
    First,
    /// With what changed.
    Delta,
    /// With a snapshot, as the history is another one.
    EpochChanged,
}

impl Begins {
    pub fn expect(self, step: &Step) -> Result<(), String> {
        let is_right = match (self, step) {
            (Self::First, Step::Snapshot(reason)) => *reason == SnapshotReason::First,
            (Self::EpochChanged, Step::Snapshot(reason)) => *reason == SnapshotReason::EpochChanged,
            (Self::Delta, Step::Changes { .. } | Step::Heartbeat(_)) => true,
            _ => false,
        };
        if is_right { Ok(()) } else { Err(format!("it resumes with {step:?}, not {self:?}")) }
    }
}

/// A reader of what the app sees.
#[derive(Debug)]
pub struct Reader {
    down: Down,
    copy: Rebuilt,
}

impl Reader {
    /// Begins, or goes on where it was.
    pub async fn start(
        calls: &mut Calls,
        world: &World,
        slot: &Mutex<Slot>,
        begins: Begins,
    ) -> Result<Self, String> {
        let (id, copy) = {
            let slot = slot.lock();
            let known = slot.reader.as_ref().filter(|_| begins != Begins::First);
            (slot.id(), known.map(Rebuilt::again))
        };
        let resume = copy.as_ref().map(Rebuilt::resume);
        let down = calls.subscribe(&id, resume).await.map_err(|status| format!("{status:?}"))?;
        let mut reader = Self { down, copy: copy.unwrap_or_default() };
        let step = reader.step(world, slot).await.map_err(|status| format!("{status:?}"))?;
        begins.expect(&step)?;
        Ok(reader)
    }

    /// The next step. What it shows is noted.
    async fn step(&mut self, world: &World, slot: &Mutex<Slot>) -> Result<Step, Status> {
        loop {
            let message = self.down.message().await?;
            let update = message.and_then(|message| message.update);
            let Some(update) = update else { return Err(Status::unavailable("it is over")) };
            let Some(step) = self.copy.apply(update) else { continue };
            note(world, slot, &self.copy, &step);
            return Ok(step);
        }
    }

    /// Reads until both see the same. They need not be told of every frame.
    pub async fn meet(
        &mut self,
        fresh: &mut Self,
        world: &World,
        slot: &Mutex<Slot>,
    ) -> Result<(), String> {
        while self.copy.state != fresh.copy.state {
            let step = async {
                tokio::select! {
                    step = self.step(world, slot) => step,
                    step = fresh.step(world, slot) => step,
                }
            };
            match timeout(PATIENCE, step).await {
                Ok(Ok(_)) => {}
                Ok(Err(status)) => return Err(format!("a reader: {status:?}")),
                Err(_) => {
                    let (one, other) = (&self.copy, &fresh.copy);
                    let (at, and) = (one.revision, other.revision);
                    let (one, other) = (&one.state, &other.state);
                    return Err(format!("resumed at {at} {one:?}, and new at {and} {other:?}"));
                }
            }
        }
        Ok(())
    }

    pub fn copy(&self) -> &Rebuilt {
        &self.copy
    }

    /// Reads until the server ends.
    pub async fn follow(mut self, world: Arc<World>, slot: Arc<Mutex<Slot>>) {
        let status = loop {
            match self.step(&world, &slot).await {
                Ok(Step::Ended(_)) => break None,
                Ok(_) => {}
                Err(status) => break Some(status),
            }
        };
        if let Some(status) = status {
            world.refused(&slot.lock().id(), "a reader", &status);
        }
        slot.lock().reader = Some(self.copy);
    }
}

/// Notes what is shown.
pub fn note(world: &World, slot: &Mutex<Slot>, copy: &Rebuilt, step: &Step) {
    world.count(|figures| figures.shown += 1);
    if matches!(step, Step::Ended(_)) {
        return;
    }
    let mut slot = slot.lock();
    if let Err(fault) = slot.note(copy) {
        world.violation(&slot.id(), fault);
    }
}
