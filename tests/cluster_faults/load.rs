//! What the sessions are put under all the time.

use crate::{
    churn::{Churn, number},
    fleet::Fleet,
    rebuilt::{Rebuilt, Step},
    slot::{Fact, Slot},
    world::World,
};
use parking_lot::Mutex;
use sessiond::proto::{Durability, EndReason, Ended, Position, SnapshotReason};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Calls of the app, one after the other.
pub const CONTROL: [Fact; 3] = [Fact::Settings, Fact::Ban, Fact::Role];

/// Others. What they write is stored when they are answered, but for `Data`.
pub const CALLS: [Fact; 4] = [Fact::Data, Fact::StoredData, Fact::StoredProps, Fact::OnUser];

/// All that is written, that up streams too.
pub const FACTS: [Fact; 8] = [
    Fact::Settings,
    Fact::Ban,
    Fact::Role,
    Fact::Data,
    Fact::StoredData,
    Fact::StoredProps,
    Fact::OnUser,
    Fact::Streamed,
];

/// A session that is there all the time.
#[derive(Debug)]
pub struct Room {
    /// Which of the apps has it.
    pub app: usize,
    pub slot: Mutex<Slot>,
    /// What its subscribers know.
    pub copies: Vec<Mutex<Known>>,
}

/// What a subscriber knows.
#[derive(Debug, Default)]
pub struct Known {
    pub copy: Rebuilt,
    /// When it was told something the last time.
    last: Option<Instant>,
}

impl Room {
    pub fn new(number: usize, app: usize, subscribers: usize) -> Self {
        let slot = Mutex::new(Slot::new(number).again());
        Self { app, slot, copies: (0..subscribers).map(|_| Mutex::default()).collect() }
    }

    /// Somebody is shown a state.
    pub fn note(&self, world: &World, copy: &Rebuilt) {
        let mut slot = self.slot.lock();
        if slot.durability != Durability::Sync && copy.epoch != slot.epoch {
            if copy.epoch < slot.epoch {
                // It was on its way when the history ended.
                return;
            }
            slot.begin(Position { epoch: copy.epoch, revision: copy.revision });
        }
        if let Err(fault) = slot.note(copy) {
            world.violation(&slot.id(), fault);
        }
    }
}

/// Opens a session.
pub async fn open(world: Arc<World>, fleet: Arc<Fleet>, room: Arc<Room>) {
    let id = room.slot.lock().id();
    let opened = world
        .until_answered(&id, "it is opened", || {
            let (mut slot, mut calls) = (room.slot.lock().again(), fleet.any(room.app));
            slot.opened -= 1;
            async move { slot.open(&mut calls).await.map(|()| slot) }
        })
        .await;
    if let Some(slot) = opened {
        *room.slot.lock() = slot;
    }
}

/// Writes, each until it is answered.
pub async fn write_on(
    world: Arc<World>,
    fleet: Arc<Fleet>,
    room: Arc<Room>,
    facts: &'static [Fact],
) {
    let (id, users) = {
        let slot = room.slot.lock();
        (slot.id(), slot.users())
    };
    loop {
        sleep(Duration::from_millis(fastrand::u64(0..400))).await;
        let fact = facts[fastrand::usize(0..facts.len())];
        if !room.slot.lock().has(fact) {
            continue;
        }
        let _gate = world.gate.read().await;
        let number = room.slot.lock().fact(fact).send();
        let what = format!("{fact:?} {number}");
        let answer = world.until_answered(&id, what, || {
            let (mut calls, id, users) = (fleet.any(room.app), id.clone(), users.clone());
            async move { calls.put(&id, &users, fact, number).await }
        });
        if let Some(position) = answer.await {
            room.slot.lock().fact(fact).answered(number, position);
        }
    }
}

/// Opens and deletes sessions, each until that is answered.
pub async fn churn(world: Arc<World>, fleet: Arc<Fleet>, app: usize, churn: Arc<Mutex<Churn>>) {
    loop {
        sleep(Duration::from_millis(fastrand::u64(0..500))).await;
        let _gate = world.gate.read().await;
        let (request, whose) = {
            let mut churn = churn.lock();
            let request = churn.life.send();
            (request, churn.id(request))
        };
        let answer = world.until_answered(&whose, format!("request {request}"), || {
            let mut calls = fleet.any(app);
            let request = churn.lock().request(request, &calls.of);
            async move { request.make(&mut calls).await }
        });
        if let Some(position) = answer.await {
            churn.lock().life.answered(request, position);
        }
    }
}

/// The number of the last request that was done.
pub async fn find(world: &World, fleet: &Fleet, app: usize, churn: &Mutex<Churn>) -> Option<u64> {
    let (sent, id) = {
        let churn = churn.lock();
        (churn.life.sent, churn.id(churn.life.sent))
    };
    let look = || {
        let (mut calls, id) = (fleet.any(app), id.clone());
        async move {
            match calls.info(&id, None).await {
                Ok(info) => Ok(number(&info).unwrap_or(u64::MAX)),
                Err(status) if status.code() == Code::NotFound => Ok(sent - sent % 2),
                Err(status) => Err(status),
            }
        }
    };
    world.until_answered(&id, "it is looked for", look).await
}

/// The end of a stream whose session is handed over.
pub fn over(ended: &Ended) -> Status {
    let delay = ended.reconnect_delay.and_then(|delay| Duration::try_from(delay).ok());
    let details = ErrorDetails::with_retry_info(Some(delay.unwrap_or_default()));
    Status::with_error_details(Code::Unavailable, "it is handed over", details)
}

/// Holds a step of a stream against how it has begun: with nothing known, or where another one was, and
/// whether something came before.
pub fn hold(world: &World, room: &Room, step: &Step, (is_new, is_begun): (bool, bool)) {
    let (id, durability) = {
        let slot = room.slot.lock();
        (slot.id(), slot.durability)
    };
    let is_right = match step {
        Step::Snapshot(SnapshotReason::First) => is_new && !is_begun,
        Step::Snapshot(SnapshotReason::EpochChanged) => {
            world.count(|figures| figures.epochs += 1);
            !is_new && durability != Durability::Sync
        }
        Step::Changes { .. } | Step::Heartbeat(_) => {
            world.count(|figures| figures.deltas += u64::from(!is_new && !is_begun));
            !is_new || is_begun
        }
        _ => false,
    };
    if !is_right {
        let what = if is_begun { "goes on" } else { "begins" };
        world.violation(&id, format_args!("a stream {what} with {step:?}, new: {is_new}"));
    }
}

/// Reads a session at one node after the other, and comes back where it was.
pub async fn read_on(world: Arc<World>, fleet: Arc<Fleet>, room: Arc<Room>, reader: usize) {
    loop {
        let status = read(&world, &fleet, &room, reader).await;
        let id = room.slot.lock().id();
        world.is_fault(&id, &"a subscriber", &status);
        sleep(World::pause(&status)).await;
    }
}

async fn read(world: &World, fleet: &Fleet, room: &Room, reader: usize) -> Status {
    let id = room.slot.lock().id();
    let resume = {
        let mut known = room.copies[reader].lock();
        known.copy = known.copy.again();
        (known.copy.epoch != 0).then(|| known.copy.resume())
    };
    let is_new = resume.is_none();
    let mut down = match fleet.any(room.app).subscribe(&id, resume).await {
        Ok(down) => down,
        Err(status) => return status,
    };
    let mut is_begun = false;
    loop {
        let update = match down.message().await {
            Ok(Some(message)) => message.update,
            Ok(None) => return Status::unavailable("it is over"),
            Err(status) => return status,
        };
        let mut known = room.copies[reader].lock();
        let Some(step) = update.and_then(|update| known.copy.apply(update)) else { continue };
        world.count(|figures| figures.shown += 1);
        if let Step::Ended(ended) = &step
            && ended.reason() == EndReason::Draining
        {
            return over(ended);
        }
        hold(world, room, &step, (is_new, is_begun));
        let before = known.last.replace(Instant::now());
        if let Some(before) = before.filter(|_| !is_begun) {
            world.gap(before.elapsed());
        }
        is_begun = true;
        room.note(world, &known.copy);
    }
}
