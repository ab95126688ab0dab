//! Opens and deletes sessions, and holds what there is after a start against that.

use crate::{
    calls::Calls,
    churn::{Churn, number},
    facts::Must,
    world::World,
};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;
use tonic::Code;

/// Opens and deletes until the server ends.
pub async fn load(world: Arc<World>, churn: Arc<Mutex<Churn>>, mut calls: Calls) {
    loop {
        sleep(Duration::from_millis(fastrand::u64(0..400))).await;
        if world.ended().is_some() {
            return;
        }
        let (number, request, whose) = {
            let mut churn = churn.lock();
            let number = churn.life.send();
            (number, churn.request(number, &calls.of), churn.id(number))
        };
        match request.make(&mut calls).await {
            Ok(position) => {
                churn.lock().life.answered(number, position);
                world.count(|figures| figures.answers += 1);
                if let Some(position) = position {
                    world.new_epoch(&format!("{whose} ({number})"), position);
                }
            }
            Err(status) => return world.refused(&whose, format_args!("request {number}"), &status),
        }
    }
}

/// Holds what there is against what was answered.
pub async fn check(world: Arc<World>, churn: Arc<Mutex<Churn>>, mut calls: Calls) {
    let (before, whose) = {
        let churn = churn.lock();
        (churn.life.clone(), churn.id(churn.life.sent))
    };
    let found = find(&world, &churn, &mut calls).await;
    world.count(|figures| figures.judged += 1);
    if let Err(fault) = before.judge(found, Must::Whole) {
        world.violation(&whose, format_args!("opened (odd) or deleted (even): {fault}"));
    }
    churn.lock().life.go_on(found);
    if !churn.lock().number.is_multiple_of(2) {
        for number in (1..=found / 2).rev().take(8).map(|it| 2 * it) {
            let id = churn.lock().id(number);
            if calls.info(&id, None).await.is_ok() {
                world.violation(&id, "it was deleted, and is back");
            }
        }
    }
    // What was answered is not done again.
    let mut expected = found;
    let mut repeated: Vec<u64> = before.answers.iter().rev().map(|it| it.number).take(2).collect();
    if before.sent > before.acked {
        world.count(|figures| figures.in_doubt += 1);
        repeated.insert(0, before.sent);
        if found == before.sent && found.is_multiple_of(2) {
            // It is deleted; somebody opens the next before that is sent again.
            expected = churn.lock().life.send();
            make(&world, &churn, &mut calls, expected).await;
        } else {
            expected = before.sent;
        }
    }
    // That a session was opened is forgotten with it.
    repeated.retain(|number| number.is_multiple_of(2) || *number == expected);
    for number in repeated {
        make(&world, &churn, &mut calls, number).await;
        world.count(|figures| figures.retried += 1);
    }
    churn.lock().life.go_on(expected);
    let found = find(&world, &churn, &mut calls).await;
    if found != expected {
        let what =
            format_args!("after requests that were sent again it is at {found}, not {expected}");
        world.violation(&whose, what);
        churn.lock().life.go_on(found);
    }
}

async fn make(world: &World, churn: &Mutex<Churn>, calls: &mut Calls, number: u64) {
    let (request, whose) = {
        let churn = churn.lock();
        (churn.request(number, &calls.of), churn.id(number))
    };
    if let Err(status) = request.make(calls).await {
        world.violation(&whose, format_args!("request {number} again: {status:?}"));
    }
}

/// The number of the last request that was done.
async fn find(world: &World, churn: &Mutex<Churn>, calls: &mut Calls) -> u64 {
    let (sent, id) = {
        let churn = churn.lock();
        (churn.life.sent, churn.id(churn.life.sent))
    };
    match calls.info(&id, None).await {
        Ok(info) => number(&info).unwrap_or(u64::MAX),
        Err(status) => {
            if status.code() != Code::NotFound {
                world.violation(&id, format_args!("it is looked for: {status:?}"));
            }
            sent - sent % 2
        }
    }
}
