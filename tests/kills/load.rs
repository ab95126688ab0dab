//! What the sessions are put under until the server ends.

use crate::{
    calls::Calls,
    readers::{Begins, note},
    slot::{CALLS, CONTROL, Fact, Slot},
    values::{data, int, write},
    world::World,
};
use parking_lot::Mutex;
use sessiond::proto::{
    Ack, SessionSubscription, StreamOpen, StreamUserPropsRequest, StreamUserPropsResponse,
    stream_user_props_request::Message as Up,
};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

/// How many bytes every eighth session's writes have beside their number, so that the log is trimmed.
const BULK: usize = 12_000;

/// Calls of the app that give bans, roles and settings, and call guests in and out.
pub async fn control(world: Arc<World>, slot: Arc<Mutex<Slot>>, calls: Calls) {
    write_on(world, slot, calls, &CONTROL).await;
}

/// Other calls that write.
pub async fn calls(world: Arc<World>, slot: Arc<Mutex<Slot>>, calls: Calls) {
    write_on(world, slot, calls, &CALLS).await;
}

async fn write_on(world: Arc<World>, slot: Arc<Mutex<Slot>>, mut calls: Calls, facts: &[Fact]) {
    let (id, users) = {
        let slot = slot.lock();
        (slot.id(), slot.users())
    };
    loop {
        sleep(Duration::from_millis(fastrand::u64(0..300))).await;
        if world.ended().is_some() {
            return;
        }
        let fact = facts[fastrand::usize(0..facts.len())];
        if !slot.lock().has(fact) {
            continue;
        }
        let number = slot.lock().fact(fact).send();
        let begin = Instant::now();
        let outcome = calls.put(&id, &users, fact, number).await;
        if fact.is_stored() {
            world.storing_took(begin.elapsed());
        }
        match outcome {
            Ok(position) => {
                slot.lock().fact(fact).answered(number, position);
                world.count(|figures| figures.answers += 1);
            }
            Err(status) => return world.refused(&id, format_args!("{fact:?} {number}"), &status),
        }
        if fastrand::u8(..) < 16 {
            match calls.info(&id, None).await {
                Ok(info) => slot.lock().note_position(info.position.unwrap_or_default()),
                Err(status) => return world.refused(&id, "it is read", &status),
            }
        }
    }
}

/// The writer's stream: writes up, the session down.
pub async fn stream(world: Arc<World>, slot: Arc<Mutex<Slot>>, mut calls: Calls, begins: Begins) {
    let (id, user_id, copy, is_bulky) = {
        let slot = slot.lock();
        let known = slot.member.as_ref().filter(|_| begins != Begins::First);
        let copy = known.map(crate::rebuilt::Rebuilt::again);
        (slot.id(), slot.users().writer(), copy, slot.number.is_multiple_of(8))
    };
    let begins = match &copy {
        None => Begins::First,
        // It was not told of the epoch before, as the server ended first.
        Some(copy) if copy.epoch != slot.lock().epoch => Begins::EpochChanged,
        Some(_) => begins,
    };
    let resume = copy.as_ref().map(crate::rebuilt::Rebuilt::resume);
    let mut copy = copy.unwrap_or_default();
    let (up, outbox) = mpsc::unbounded_channel();
    let subscription = SessionSubscription { session_id: id.clone(), resume, ..Default::default() };
    let open = StreamOpen { user_id, subscriptions: vec![subscription], ..Default::default() };
    let _ = up.send(StreamUserPropsRequest { seq: 1, message: Some(Up::Open(open)) });
    let down = calls.streams.stream_user_props(UnboundedReceiverStream::new(outbox)).await;
    let mut down = match down {
        Ok(down) => down.into_inner(),
        Err(status) => return world.refused(&id, "a stream", &status),
    };
    let mut sent: VecDeque<(u64, Fact, u64)> = VecDeque::new();
    let mut seq = 1;
    let mut is_begun = false;
    loop {
        let pause = sleep(Duration::from_millis(fastrand::u64(5..150)));
        tokio::select! {
            message = down.message() => {
                let message = match message {
                    Ok(Some(message)) => message,
                    Ok(None) => break world.refused(&id, "a stream", &Status::unavailable("over")),
                    Err(status) => break world.refused(&id, "a stream", &status),
                };
                let StreamUserPropsResponse { updates, acked_seq, refusals, .. } = message;
                for update in updates.into_iter().filter_map(|delivery| delivery.update) {
                    let Some(step) = copy.apply(update) else { continue };
                    if !std::mem::replace(&mut is_begun, true)
                        && let Err(fault) = begins.expect(&step)
                    {
                        world.violation(&id, format_args!("the writer's stream: {fault}"));
                    }
                    note(&world, &slot, &copy, &step);
                }
                if world.ended().is_none() && !refusals.is_empty() {
                    world.violation(&id, format_args!("{refusals:?}"));
                }
                // What is refused at the stop is acked, too.
                sent.retain(|(seq, ..)| refusals.iter().all(|refusal| refusal.seq != *seq));
                while let Some((_, fact, number)) = sent.front().copied().filter(|it| it.0 <= acked_seq) {
                    sent.pop_front();
                    slot.lock().fact(fact).answered(number, None);
                    world.count(|figures| figures.answers += 1);
                }
            }
            () = pause, if world.ended().is_none() => {
                let is_stored = fastrand::u8(..) < 64 && slot.lock().is_kept();
                let fact = if is_stored { Fact::StoredStreamed } else { Fact::Streamed };
                let number = slot.lock().fact(fact).send();
                let key = if is_stored { "stored-streamed" } else { "streamed" };
                let mut write = write([(key, int(number as i64))]);
                write.session_ids = vec![id.clone()];
                if is_stored {
                    write.ack = Ack::Durable.into();
                } else if is_bulky {
                    write.set.insert("bulk".to_owned(), data(BULK));
                    write.set.insert("other".to_owned(), int(number as i64));
                }
                seq += 1;
                sent.push_back((seq, fact, number));
                let _ = up.send(StreamUserPropsRequest { seq, message: Some(Up::Write(write)) });
            }
        }
    }
    if is_begun {
        slot.lock().member = Some(copy);
    }
}
