//! What there is, against all that was answered, while nothing is on its way.

use crate::{
    churn::Churn,
    facts::Must,
    fleet::Fleet,
    load::{self, Room},
    rebuilt::{Rebuilt, Step},
    slot::Slot,
    world::World,
};
use parking_lot::Mutex;
use sessiond::proto::{GetSessionInfoResponse, Position, SnapshotReason};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

/// How long a subscriber may take to see what others see.
const MEETS_WITHIN: Duration = Duration::from_secs(20);

/// How long a new subscriber may wait for a snapshot that the node has promised.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// Holds what there is of a session against what was answered: for whoever is new, and for whoever reads it
/// all the time. After a hand-over also that is there which was not stored when it was answered.
pub async fn check(world: Arc<World>, fleet: Arc<Fleet>, room: Arc<Room>, is_handed_over: bool) {
    let (id, answered) = {
        let slot = room.slot.lock();
        (slot.id(), last_answered(&slot))
    };
    let look = || {
        let (fleet, id, app) = (fleet.clone(), id.clone(), room.app);
        async move {
            wait_until_shown(&fleet, app, &id, answered, is_handed_over).await?;
            look(&fleet, app, &id).await
        }
    };
    let Some((copy, info)) = world.until_answered(&id, "it is looked at", look).await else {
        return;
    };
    let (facts, found) = {
        let slot = room.slot.lock();
        let found = |fact| (fact, slot.find(fact, &copy.state, &info));
        let facts = load::FACTS.into_iter().filter(|fact| slot.has(*fact));
        (slot.facts.clone(), facts.map(found).collect::<Vec<_>>())
    };
    for (fact, found) in found {
        world.count(|figures| figures.judged += 1);
        let must = if is_handed_over || fact.is_stored() { Must::Whole } else { Must::Any };
        if let Err(fault) = facts[&fact].judge(found, must) {
            let register = &facts[&fact];
            world.violation(&id, format_args!("{register:?}"));
            world.violation(&id, format_args!("{fact:?}: {fault}; it is at {:?}", info.position));
        }
        room.slot.lock().fact(fact).go_on(found);
    }
    let begun = Instant::now();
    for reader in 0..room.copies.len() {
        // Nothing is written, so this is what everybody sees in the end; but a user whose stream comes back
        // is shown as connected again.
        while !is_alike(&room.copies[reader].lock().copy, &copy) {
            if begun.elapsed() > MEETS_WITHIN {
                let other = &room.copies[reader].lock().copy;
                let (at, and) = (other.revision, copy.revision);
                let (one, other) = (&other.state, &copy.state);
                let what =
                    format!("a subscriber is at {at}: {one:?}, a new one at {and}: {other:?}");
                world.violation(&id, what);
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Whether two show the same, whoever is connected.
fn is_alike(one: &Rebuilt, other: &Rebuilt) -> bool {
    let [mut one, mut other] = [one.state.clone(), other.state.clone()];
    for state in [&mut one, &mut other] {
        state.members.values_mut().for_each(|member| member.disconnected = false);
    }
    one == other
}

/// The greatest position that answers named in the epoch of the session, as far as it is known: what was
/// answered may be in memory only, and a frame of its own shows it.
fn last_answered(slot: &Slot) -> Option<Position> {
    let answers = slot.facts.values().flat_map(|fact| &fact.answers);
    let positions = answers.filter_map(|answer| answer.position);
    positions.filter(|it| it.epoch == slot.epoch).max_by_key(|it| it.revision)
}

/// Waits for the frame that shows what was answered. Where a history may have ended, that frame may never
/// be.
async fn wait_until_shown(
    fleet: &Fleet,
    app: usize,
    id: &str,
    answered: Option<Position>,
    is_handed_over: bool,
) -> Result<(), Status> {
    match fleet.any(app).info(id, answered).await {
        Err(status) if status.code() == Code::FailedPrecondition && !is_handed_over => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// What a new subscriber sees, and what a call says.
async fn look(
    fleet: &Fleet,
    app: usize,
    id: &str,
) -> Result<(Rebuilt, GetSessionInfoResponse), Status> {
    let mut down = fleet.any(app).subscribe(id, None).await?;
    let mut copy = Rebuilt::default();
    let snapshot = async {
        loop {
            let update = down.message().await?.and_then(|message| message.update);
            let Some(update) = update else { return Err(Status::unavailable("it is over")) };
            if let Some(step) = copy.apply(update) {
                return Ok(step);
            }
        }
    };
    let late = |_| Err(Status::deadline_exceeded("no snapshot"));
    let step = timeout(SHOWN_WITHIN, snapshot).await.unwrap_or_else(late)?;
    assert!(matches!(step, Step::Snapshot(SnapshotReason::First)), "it begins with {step:?}");
    Ok((copy, fleet.any(app).info(id, None).await?))
}

/// Holds against what was answered whether a session is there that is opened and deleted.
pub async fn check_churn(
    world: Arc<World>,
    fleet: Arc<Fleet>,
    app: usize,
    churn: Arc<Mutex<Churn>>,
) {
    let Some(found) = load::find(&world, &fleet, app, &churn).await else { return };
    world.count(|figures| figures.judged += 1);
    let mut churn = churn.lock();
    if let Err(fault) = churn.life.judge(found, Must::Whole) {
        let id = churn.id(churn.life.sent);
        world.violation(&id, format_args!("opened (odd) or deleted (even): {fault}"));
    }
    churn.life.go_on(found);
}
