//! Sessions that are opened and deleted all the time, half of them always under the same id.

use crate::{
    calls::Calls,
    facts::{Must, Register},
    values::{int, props},
    world::World,
};
use parking_lot::Mutex;
use sessiond::proto::{
    self, DeleteSessionRequest, Durability, OpenSharedSessionRequest, Position, SessionSettings,
    value::Kind,
};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;
use tonic::{Code, Status};

/// One of them. An odd number opens it, the next one deletes it.
#[derive(Debug)]
pub struct Churn {
    number: usize,
    life: Register,
}

impl Churn {
    pub fn new(number: usize) -> Self {
        Self { number, life: Register::default() }
    }

    fn durability(&self) -> Durability {
        if self.number % 4 < 2 { Durability::Sync } else { Durability::Async }
    }

    /// The id that it has when it is opened for this time, and deleted after that.
    fn id(&self, number: u64) -> String {
        let Self { number: churn, .. } = self;
        let is_same = churn.is_multiple_of(2);
        if is_same {
            format!("churn-{churn}")
        } else {
            format!("churn-{churn}-{}", number.div_ceil(2))
        }
    }

    /// The request of this number: the same each time.
    fn request(&self, number: u64) -> Request {
        // Some by the app, some by a user who owns it.
        let user_id =
            if self.number % 3 == 0 { String::new() } else { format!("churner-{}", self.number) };
        let (session_id, request_id) = (self.id(number), format!("churn-{}-{number}", self.number));
        if number.is_multiple_of(2) {
            let request =
                DeleteSessionRequest { user_id, session_id, request_id, ..Default::default() };
            return Request::Delete(request);
        }
        Request::Open(Box::new(OpenSharedSessionRequest {
            user_id,
            session_id,
            request_id,
            settings: Some(SessionSettings {
                durability: self.durability().into(),
                metadata: props([("n", int(number as i64))]),
                empty_ttl: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
                ..Default::default()
            }),
            ..Default::default()
        }))
    }
}

enum Request {
    Open(Box<OpenSharedSessionRequest>),
    Delete(DeleteSessionRequest),
}

impl Request {
    async fn make(self, calls: &mut Calls) -> Result<Option<Position>, Status> {
        match self {
            Self::Open(request) if request.user_id.is_empty() => {
                calls.app.open_shared_session(*request).await.map(|it| it.into_inner().position)
            }
            Self::Open(request) => {
                calls.users.open_shared_session(*request).await.map(|it| it.into_inner().position)
            }
            Self::Delete(request) if request.user_id.is_empty() => {
                calls.app.delete_session(request).await.map(|_| None)
            }
            Self::Delete(request) => calls.users.delete_session(request).await.map(|_| None),
        }
    }
}

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
            (number, churn.request(number), churn.id(number))
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
        (churn.request(number), churn.id(number))
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

fn number(info: &proto::GetSessionInfoResponse) -> Option<u64> {
    let settings = info.session.as_ref()?.settings.as_ref()?;
    match settings.metadata.get("n")?.kind.as_ref()? {
        Kind::Integer(number) => Some(*number as u64),
        _ => None,
    }
}
