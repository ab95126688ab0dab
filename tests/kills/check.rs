//! After each start: what there is, against all that anybody was shown or answered.

use crate::{
    calls::Calls,
    facts::{Must, Register},
    readers::{Begins, Reader},
    slot::{Fact, Slot},
    world::{End, World},
};
use parking_lot::Mutex;
use sessiond::proto::{Durability, GetSessionInfoResponse, Position, SessionKind};
use std::{collections::BTreeMap, sync::Arc};
use tonic::Code;

/// How many lost positions are looked at again.
const REMEMBERED: usize = 8;

/// Through how many kills: the server remembers those of the last 16 starts.
const REMEMBERED_KILLS: u64 = 12;

/// A session that is checked, with its reader, which goes on.
#[derive(Debug)]
pub struct Checked {
    pub slot: Arc<Mutex<Slot>>,
    pub reader: Option<Reader>,
    pub begins: Begins,
}

/// Checks a session, and opens it again if it is gone by right.
pub async fn check(world: Arc<World>, slot: Arc<Mutex<Slot>>, mut calls: Calls) -> Checked {
    let mut begins = Begins::First;
    let (id, is_kept, is_opened) = {
        let slot = slot.lock();
        (slot.id(), slot.is_kept(), slot.opened > 0)
    };
    if is_opened && let Some(end) = world.ended() {
        let info = calls.info(&id, None).await;
        match info {
            Err(status) if status.code() == Code::NotFound && !is_kept => {}
            Ok(info) if is_kept => {
                begins = compare(&world, &slot, &mut calls, end, &info).await;
            }
            Ok(_) => world.violation(&id, "it was not to be stored, and is back"),
            Err(status) => world.violation(&id, format_args!("it is lost: {status:?}")),
        }
    }
    if begins == Begins::First {
        begins = open(&world, &slot, &mut calls).await;
    }
    let reader = match Reader::start(&mut calls, &world, &slot, begins).await {
        Ok(reader) => Some(reader),
        Err(fault) => {
            world.violation(&id, format_args!("the app's reader: {fault}"));
            None
        }
    };
    let mut checked = Checked { slot, reader, begins };
    if begins != Begins::First
        && let Some(end) = world.ended()
    {
        world.count(|figures| figures.resumed += 1);
        if let Err(fault) = checked.judge(&world, &mut calls, end).await {
            world.violation(&id, fault);
        }
    }
    checked
}

async fn open(world: &World, slot: &Mutex<Slot>, calls: &mut Calls) -> Begins {
    let mut opened = slot.lock().again();
    let outcome = opened.open(calls).await;
    let (id, position) = (opened.id(), Position { epoch: opened.epoch, revision: opened.shown });
    *slot.lock() = opened;
    match outcome {
        Ok(()) => world.new_epoch(&id, position),
        Err(status) => world.violation(&id, format_args!("it is opened: {status:?}")),
    }
    Begins::First
}

/// Holds the position of a session against those that anybody was shown.
async fn compare(
    world: &World,
    slot: &Mutex<Slot>,
    calls: &mut Calls,
    end: End,
    info: &GetSessionInfoResponse,
) -> Begins {
    let now = info.position.unwrap_or_default();
    let (id, epoch, shown, durability, register) = {
        let slot = slot.lock();
        (slot.id(), slot.epoch, slot.shown, slot.durability, slot.facts[&Fact::Data].clone())
    };
    if end.is_clean && end.is_again && durability == Durability::Async && now.epoch != epoch {
        // Nothing is lost all the same.
        world.new_epoch(&id, now);
        slot.lock().begin(now);
        return Begins::EpochChanged;
    }
    if !end.is_clean && durability == Durability::Async {
        world.new_epoch(&id, now);
        abandon(world, &id, calls, &register, slot).await;
        slot.lock().begin(now);
        let abandoned = slot.lock().abandoned.clone();
        refuses(world, slot, calls, now, &abandoned).await;
        return Begins::EpochChanged;
    }
    if now.epoch != epoch || now.revision < shown {
        let what = format!("it is at {now:?}, but {shown} of {epoch} was shown");
        world.violation(&id, what);
        slot.lock().begin(now);
        return Begins::EpochChanged;
    }
    if let Err(status) = calls.info(&id, Some(Position { epoch, revision: shown })).await {
        world.violation(&id, format_args!("{shown} was shown, and is not known: {status:?}"));
    }
    if !end.is_clean {
        promised(world, &id, calls, &register, slot).await;
    }
    let kills = world.figures().kills;
    let mut lost = slot.lock().lost.clone();
    lost.retain(|(at, _)| at + REMEMBERED_KILLS > kills);
    for (_, position) in lost {
        refuses(world, slot, calls, now, &[position.revision]).await;
    }
    let abandoned = slot.lock().abandoned.clone();
    refuses(world, slot, calls, now, &abandoned).await;
    Begins::Delta
}

/// What was written is lost: its revisions, and the last one that was shown, are not used any more.
async fn abandon(
    world: &World,
    id: &str,
    calls: &mut Calls,
    register: &Register,
    slot: &Mutex<Slot>,
) {
    let Some(found) = plain(calls, id).await else {
        return world.violation(id, "it is not shown");
    };
    let lost = register.answers.iter().rev().filter(|answer| answer.number > found);
    let mut lost: Vec<_> = lost.filter_map(|it| Some(it.position?.revision)).take(3).collect();
    let mut slot = slot.lock();
    if lost.first().is_some_and(|last| *last <= slot.shown) {
        // It was shown with what is lost.
        lost.push(slot.shown);
    }
    slot.abandoned.extend(lost);
    let more = slot.abandoned.len().saturating_sub(REMEMBERED);
    slot.abandoned.drain(..more);
}

/// Revisions that are those of no frame any more are refused, wherever they are named, also when the
/// session has come past them: a compare-and-set that was made for them would not see what was lost.
async fn refuses(
    world: &World,
    slot: &Mutex<Slot>,
    calls: &mut Calls,
    mut now: Position,
    revisions: &[u64],
) {
    let (id, writer, is_private) = {
        let slot = slot.lock();
        (slot.id(), slot.users().writer(), slot.kind == SessionKind::Private)
    };
    for revision in revisions {
        // At most as many frames as a kill takes.
        for _ in 0..64 {
            if now.revision > *revision {
                break;
            }
            match calls.frame(&id).await {
                Ok(position) => now = position,
                Err(status) => return world.violation(&id, format_args!("a frame: {status:?}")),
            }
        }
        let position = Position { epoch: now.epoch, revision: *revision };
        let mut answers = vec![
            ("if_revision", calls.compare(&id, *revision).await.map(drop)),
            ("min_position", calls.info(&id, Some(position)).await.map(drop)),
        ];
        if !is_private {
            answers.push(("since", calls.changed(&id, writer.clone(), position).await));
        }
        world.count(|figures| figures.compared += 1);
        for (field, answer) in answers {
            match answer {
                Err(status) if status.code() == Code::FailedPrecondition => {}
                other => world.violation(
                    &id,
                    format_args!("{revision} was lost, and {field} of it at {now:?}: {other:?}"),
                ),
            }
        }
    }
}

/// What `plain` holds.
async fn plain(calls: &mut Calls, id: &str) -> Option<u64> {
    let mut down = calls.subscribe(id, None).await.ok()?;
    let update = down.message().await.ok()??.update?;
    let mut copy = crate::rebuilt::Rebuilt::default();
    copy.apply(update)?;
    let plain = copy.state.data.get("plain");
    Some(plain.map_or(0, |it| it.trim_end_matches('i').parse().unwrap_or(0)))
}

/// A write is there, or its position is that of no frame.
async fn promised(
    world: &World,
    id: &str,
    calls: &mut Calls,
    register: &Register,
    slot: &Mutex<Slot>,
) {
    let kills = world.figures().kills;
    let mut there = BTreeMap::new();
    for answer in register.answers.iter().rev().take(4) {
        let Some(position) = answer.position else { continue };
        match calls.info(id, Some(position)).await {
            Ok(_) => drop(there.insert(answer.number, position)),
            Err(status) if status.code() == Code::FailedPrecondition => {
                world.count(|figures| figures.promised_lost += 1);
                let lost = &mut slot.lock().lost;
                lost.push((kills, position));
                if lost.len() > REMEMBERED {
                    lost.remove(0);
                }
            }
            Err(status) => {
                world.violation(id, format_args!("a position that was promised: {status:?}"));
            }
        }
    }
    let Some(found) = plain(calls, id).await else { return };
    for answer in register.answers.iter().rev().take(4) {
        let is_known = there.contains_key(&answer.number);
        if is_known != (answer.number <= found) {
            let what = if is_known { "known" } else { "unknown" };
            let position = answer.position;
            world.violation(
                id,
                format_args!("{position:?} of {} is {what}, and {found} is there", answer.number),
            );
        }
    }
}

impl Checked {
    /// Holds what is there against what was answered, and sends again what was not.
    async fn judge(&mut self, world: &World, calls: &mut Calls, end: End) -> Result<(), String> {
        let (before, found) = self.look(world, calls).await?;
        let (id, users, durability) = {
            let slot = self.slot.lock();
            (slot.id(), slot.users(), slot.durability)
        };
        let until = Must::Until(end.at, world.oldest());
        for (fact, register) in &before {
            let found = found[fact];
            let is_joining = *fact == Fact::Guest && register.acked % 2 == 1;
            let must = match fact {
                _ if end.is_clean => Must::Whole,
                // Answered before it is stored; whether it is there, its position tells.
                Fact::Data if durability == Durability::Sync => Must::Any,
                Fact::Guest if is_joining => Must::Any,
                Fact::Data | Fact::Streamed if durability == Durability::Async => until,
                _ => Must::Whole,
            };
            world.count(|figures| figures.judged += 1);
            match register.judge(found, must) {
                Ok(age) => world.count(|figures| {
                    figures.async_lost += u64::from(!age.is_zero());
                    figures.oldest = figures.oldest.max(age);
                }),
                Err(fault) => world.violation(&id, format_args!("{fact:?}: {fault}")),
            }
        }
        let mut expected = found.clone();
        let mut last = None;
        let epoch = self.slot.lock().epoch;
        for (fact, register) in &before {
            self.slot.lock().fact(*fact).go_on(found[fact]);
            if !fact.is_stored() || *fact == Fact::StoredStreamed {
                continue;
            }
            let mut again: Vec<u64> =
                register.answers.iter().rev().skip(1).map(|it| it.number).take(1).collect();
            // A guest may join after it is lost that it did.
            again.retain(|number| *fact != Fact::Guest || number.is_multiple_of(2));
            if register.sent > register.acked {
                world.count(|figures| figures.in_doubt += 1);
                again.push(register.sent);
                if found[fact] == register.sent && *fact != Fact::Guest {
                    // It is there; somebody writes the next before it is sent again.
                    let next = self.slot.lock().fact(*fact).send();
                    match calls.put(&id, &users, *fact, next).await {
                        Ok(position) => last = last.max(position.map(|it| (it.epoch, it.revision))),
                        Err(status) => return Err(format!("{fact:?} {next}: {status:?}")),
                    }
                    expected.insert(*fact, next);
                } else {
                    expected.insert(*fact, register.sent);
                }
            }
            for number in again {
                world.count(|figures| figures.retried += 1);
                match calls.put(&id, &users, *fact, number).await {
                    Ok(position) => {
                        let position = position.filter(|it| it.epoch == epoch);
                        if let Err(status) = calls.info(&id, position).await {
                            let what = format!("{position:?} is answered, and is that of no frame");
                            let status = status.message();
                            let fault =
                                format!("{fact:?} {number} is sent again: {what}: {status}");
                            world.violation(&id, fault);
                        }
                    }
                    // It was kicked, or never joined.
                    Err(status) if *fact == Fact::Guest && status.code() == Code::NotFound => {}
                    Err(status) => {
                        return Err(format!("{fact:?} {number} is sent again: {status:?}"));
                    }
                }
            }
        }
        if let Some((_, revision)) = last.filter(|(of, _)| *of == epoch) {
            calls
                .info(&id, Some(Position { epoch, revision }))
                .await
                .map_err(|it| format!("{it:?}"))?;
        }
        let (_, found) = self.look(world, calls).await?;
        for (fact, expected) in expected {
            let mut slot = self.slot.lock();
            let register = slot.fact(fact);
            if fact == Fact::Guest && (register.sent - found[&fact]) % 2 == 1 {
                // It is lost that the guest joined: the next time it does so again.
                register.sent += 1;
            }
            register.go_on(found[&fact].max(if fact == Fact::Guest { register.sent } else { 0 }));
            drop(slot);
            if found[&fact] != expected {
                let found = found[&fact];
                world.violation(
                    &id,
                    format_args!("{fact:?}: after requests that were sent again it is {found}, not {expected}"),
                );
            }
        }
        Ok(())
    }

    /// What is there: for who resumed and for who is new it is the same.
    async fn look(
        &mut self,
        world: &World,
        calls: &mut Calls,
    ) -> Result<(BTreeMap<Fact, Register>, BTreeMap<Fact, u64>), String> {
        let slot = &self.slot;
        let id = slot.lock().id();
        let Some(resumed) = &mut self.reader else { return Err("nobody reads it".to_owned()) };
        let mut fresh = Reader::start(calls, world, slot, Begins::First).await?;
        let info = calls.info(&id, None).await.map_err(|status| format!("{status:?}"))?;
        resumed.meet(&mut fresh, world, slot).await?;
        let other = &fresh.copy().state;
        let slot = slot.lock();
        let found = slot.facts.keys().map(|fact| (*fact, slot.find(*fact, other, &info))).collect();
        Ok((slot.facts.clone(), found))
    }
}

/// Holds what is set on the users against what was answered, as a new session shows it.
pub async fn check_users(world: &World, calls: &mut Calls, round: u64) -> Result<(), String> {
    let id = format!("all-users-{round}");
    let users = world.slots.iter().map(|slot| slot.lock().users().writer()).collect();
    let request = sessiond::proto::OpenSharedSessionRequest {
        session_id: id.clone(),
        settings: Some(sessiond::proto::SessionSettings {
            durability: Durability::None.into(),
            ..Default::default()
        }),
        users,
        ..Default::default()
    };
    let opened = calls.app.open_shared_session(request).await.map_err(|it| format!("{it:?}"))?;
    world.new_epoch(&id, opened.into_inner().position.unwrap_or_default());
    let mut down = calls.subscribe(&id, None).await.map_err(|it| format!("{it:?}"))?;
    let mut copy = crate::rebuilt::Rebuilt::default();
    loop {
        let message = down.message().await.map_err(|it| format!("{it:?}"))?;
        let Some(update) = message.and_then(|it| it.update) else {
            return Err("no state".to_owned());
        };
        if copy.apply(update).is_some() {
            break;
        }
    }
    for slot in &world.slots {
        let mut slot = slot.lock();
        let info = GetSessionInfoResponse::default();
        let found = slot.find(Fact::OnUser, &copy.state, &info);
        if let Err(fault) = slot.facts[&Fact::OnUser].judge(found, Must::Whole) {
            world.violation(&slot.users().writer(), format_args!("set on the user: {fault}"));
        }
        if !slot.is_kept() {
            // No session tells it.
            slot.fact(Fact::OnUser).go_on(found);
        }
    }
    drop(down);
    calls.delete(&id, String::new()).await.map_err(|it| format!("{it:?}"))
}
