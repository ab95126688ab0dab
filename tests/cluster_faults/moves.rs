//! Streams up which a user of a session writes all the time.

use crate::{
    fleet::Fleet,
    load::{self, Room, over},
    rebuilt::{Rebuilt, Step},
    slot::Fact,
    values::{int, write},
    world::World,
};
use sessiond::proto::{
    EndReason, Refusal, SessionSubscription, StreamOpen, StreamUserPropsRequest,
    stream_user_props_request::Message as Up,
};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    sync::{RwLockReadGuard, mpsc},
    time::sleep,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// So many writes go up until all are acked: then nothing is on its way for a moment.
const BURST: usize = 20;

/// What a writer has sent, over all its streams.
#[derive(Default)]
struct Mover<'a> {
    copy: Rebuilt,
    /// What was not acked, each with its seq on the stream of now.
    unacked: VecDeque<(u64, u64)>,
    /// Is held while something is on its way.
    gate: Option<RwLockReadGuard<'a, ()>>,
    /// How many were sent since then.
    sent: usize,
}

/// Writes for ever, on one stream after the other, and sends again what was not acked.
pub async fn move_on(world: Arc<World>, fleet: Arc<Fleet>, room: Arc<Room>) {
    let (id, mut mover) = (room.slot.lock().id(), Mover::default());
    loop {
        let status = stream(&world, &fleet, &room, &mut mover).await;
        world.is_fault(&id, &"a stream of moves", &status);
        sleep(World::pause(&status)).await;
    }
}

async fn stream<'a>(world: &'a World, fleet: &Fleet, room: &Room, mover: &mut Mover<'a>) -> Status {
    let (id, user_id) = {
        let slot = room.slot.lock();
        (slot.id(), slot.users().writer())
    };
    mover.copy = mover.copy.again();
    if mover.unacked.is_empty() {
        (mover.gate, mover.sent) = (None, 0);
    }
    let resume = (mover.copy.epoch != 0).then(|| mover.copy.resume());
    let is_new = resume.is_none();
    let (up, outbox) = mpsc::unbounded_channel();
    let send = |seq, message| {
        let _ = up.send(StreamUserPropsRequest { seq, message: Some(message) });
    };
    let up_write = |number: u64| {
        let mut write = write([("streamed", int(number as i64))]);
        write.session_ids = vec![id.clone()];
        Up::Write(write)
    };
    let mut calls = fleet.any(room.app);
    let subscription = SessionSubscription { session_id: id.clone(), resume, ..Default::default() };
    let subscriptions = vec![subscription];
    let app = calls.of.clone();
    let mut seq = 1;
    send(seq, Up::Open(StreamOpen { app, user_id, subscriptions, ..Default::default() }));
    for (at, number) in &mut mover.unacked {
        seq += 1;
        *at = seq;
        send(seq, up_write(*number));
    }
    let mut down = match calls.streams.stream_user_props(UnboundedReceiverStream::new(outbox)).await
    {
        Ok(down) => down.into_inner(),
        Err(status) => return status,
    };
    let mut is_begun = false;
    loop {
        let pause = Duration::from_millis(fastrand::u64(20..60));
        tokio::select! {
            message = down.message() => {
                let message = match message {
                    Ok(Some(message)) => message,
                    Ok(None) => return Status::unavailable("it is over"),
                    Err(status) => return status,
                };
                for update in message.updates.into_iter().filter_map(|delivery| delivery.update) {
                    let Some(step) = mover.copy.apply(update) else { continue };
                    if let Step::Ended(ended) = &step && ended.reason() == EndReason::Draining {
                        return over(ended);
                    }
                    load::hold(world, room, &step, (is_new, is_begun));
                    is_begun = true;
                    room.note(world, &mover.copy);
                }
                for refusal in message.refusals {
                    // The next one says the same with a greater number.
                    mover.unacked.retain(|(seq, _)| *seq != refusal.seq);
                    world.is_fault(&id, &"a move", &status_of(&refusal));
                }
                while let Some((at, number)) = mover.unacked.front().copied()
                    && at <= message.acked_seq
                {
                    mover.unacked.pop_front();
                    room.slot.lock().fact(Fact::Streamed).answered(number, None);
                    world.count(|figures| figures.moves += 1);
                }
                if mover.unacked.is_empty() && mover.sent >= BURST {
                    (mover.gate, mover.sent) = (None, 0);
                }
            }
            () = sleep(pause), if mover.sent < BURST => {
                if mover.gate.is_none() {
                    // Whoever checks goes first.
                    let Ok(gate) = world.gate.try_read() else { continue };
                    mover.gate = Some(gate);
                }
                let number = room.slot.lock().fact(Fact::Streamed).send();
                seq += 1;
                mover.sent += 1;
                mover.unacked.push_back((seq, number));
                send(seq, up_write(number));
            }
        }
    }
}

/// What a call would be told that is refused so.
fn status_of(refusal: &Refusal) -> Status {
    let name = refusal.reason().as_str_name().trim_start_matches("ERROR_REASON_");
    let details = ErrorDetails::with_error_info(name, "sessiond", []);
    Status::with_error_details(Code::from_i32(refusal.code), refusal.message.clone(), details)
}
