//! Reads that wait for a frame.

use crate::support::*;
use sessiond::{
    engine::{self, Refusal, SessionKey, WAITING_READS},
    proto::{self, Position, SessionSettings},
    session::{
        command::Actor,
        epoch::Epoch,
        ids::{AppId, SessionId},
        revision::Revision,
    },
};
use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tonic::{Code, Status};

/// Asks each of the reads that take a position; returns the position of each reply.
async fn ask(service: &Service, user: &str, position: Position) -> [Result<Position, Status>; 3] {
    let (session_id, user_id) = ("finals".to_owned(), user.to_owned());
    let min_position = Some(position);
    let info = proto::GetSessionInfoRequest {
        session_id: session_id.clone(),
        user_id: user_id.clone(),
        min_position,
        ..Default::default()
    };
    let first = proto::GetFirstMatchRequest {
        session_id: session_id.clone(),
        user_id: user_id.clone(),
        min_position,
        ..Default::default()
    };
    let updated = proto::GetUpdatedUserDataRequest {
        session_id,
        user_id,
        target_user_id: "ada".to_owned(),
        min_position,
        ..Default::default()
    };
    let (mut a, mut b, mut c) = (service.sessions(), service.sessions(), service.sessions());
    let answers = async {
        tokio::join!(
            a.get_session_info(sent(info)),
            b.get_first_match(sent(first)),
            c.get_updated_user_data(sent(updated))
        )
    };
    let (info, first, updated) = in_time(answers).await;
    let told = |position: Option<Position>| position.expect("it has one");
    [
        info.map(|it| told(it.into_inner().position)),
        first.map(|it| told(it.into_inner().position)),
        updated.map(|it| told(it.into_inner().position)),
    ]
}

/// Ticks once the calls wait.
async fn while_waiting<T>(
    service: &Service,
    waiting: usize,
    calls: impl Future<Output = T>,
    then: impl Future<Output = ()>,
) -> T {
    let live = live(service);
    let then = async {
        in_time(async {
            while live.lock().waiting() < waiting {
                tokio::task::yield_now().await;
            }
        })
        .await;
        then.await;
    };
    tokio::join!(calls, then).0
}

fn live(service: &Service) -> Arc<engine::Live> {
    let app = AppId::new("default").expect("an id");
    let key = SessionKey::Id(SessionId::new("finals").expect("an id"));
    service.engine().find(&app, Some(&key), &Actor::App).expect("it is there")
}

#[tokio::test]
async fn a_read_waits_for_the_frame_that_it_names_and_shows_it() {
    let service = Service::with_room().await;
    let written = service.set_in("finals", "ada", [("x", int(1))]).await;
    let epoch = service.info("finals", "ada").await.position.expect("it has one").epoch;
    let position = Position { epoch, revision: written };
    let answers = ask(&service, "ada", position);
    let answers = while_waiting(&service, 3, answers, async { service.tick() }).await;
    for answer in answers {
        assert_eq!(answer.expect("it is answered"), position);
    }
    // What is framed is read at once: nobody ticks here.
    for revision in [1, written] {
        for answer in ask(&service, "ada", Position { epoch, revision }).await {
            assert_eq!(answer.expect("it is answered").revision, written);
        }
    }
    assert_eq!(live(&service).lock().waiting(), 0);
}

#[tokio::test]
async fn another_epoch_and_what_is_beyond_the_open_frame_are_refused_at_once() {
    let service = Service::start().await;
    let first = service.open_room("finals", "ada").await;
    let later = |by| Position { revision: first.revision + by, ..first };
    let other = |epoch| Position { epoch, ..first };
    let mut cases = vec![later(1), other(first.epoch + 1), other(first.epoch - 1)];
    for position in cases.drain(..) {
        for answer in ask(&service, "ada", position).await {
            refused(answer).is(Code::FailedPrecondition, "UNKNOWN_POSITION");
        }
    }
    // With something open the next one is the open one, and the one after it is not.
    service.set_in("finals", "ada", [("x", int(1))]).await;
    for answer in ask(&service, "ada", later(2)).await {
        refused(answer).is(Code::FailedPrecondition, "UNKNOWN_POSITION");
    }
    let answers = ask(&service, "ada", later(1));
    for answer in while_waiting(&service, 3, answers, async { service.tick() }).await {
        answer.expect("it is answered");
    }
    for position in
        [Position { epoch: 0, ..first }, later(0)].map(|it| Position { revision: 0, ..it })
    {
        for answer in ask(&service, "ada", position).await {
            refused(answer).blames(&["min_position"]);
        }
    }
}

#[tokio::test]
async fn a_session_that_ends_meanwhile_is_not_found() {
    let service = Service::start().await;
    let first = service.open_room("finals", "ada").await;
    service.set_in("finals", "ada", [("x", int(1))]).await;
    let next = Position { revision: first.revision + 1, ..first };
    let delete = async { service.try_delete("finals", "ada").await.expect("it is deleted") };
    let answers = while_waiting(&service, 3, ask(&service, "ada", next), delete).await;
    for answer in answers {
        refused(answer).is(Code::NotFound, "SESSION_NOT_FOUND");
    }
}

#[tokio::test]
async fn who_may_not_see_it_any_more_after_the_wait_is_refused() {
    let service = Service::start().await;
    let settings = SessionSettings { unlisted: Some(true), ..Default::default() };
    let first = service.open_room_with("finals", "ada", settings).await;
    service.join("finals", "bob").await;
    let next = Position { revision: first.revision + 1, ..first };
    let leave = async {
        service.leave("finals", "bob").await;
        service.tick();
    };
    for answer in while_waiting(&service, 3, ask(&service, "bob", next), leave).await {
        refused(answer).is(Code::NotFound, "SESSION_NOT_FOUND");
    }
    // Who is outside does not even wait.
    service.set_in("finals", "ada", [("x", int(1))]).await;
    let next = Position { revision: next.revision + 1, ..first };
    for answer in ask(&service, "bob", next).await {
        refused(answer).is(Code::NotFound, "SESSION_NOT_FOUND");
    }
    let listed = SessionSettings { unlisted: Some(false), ..Default::default() };
    service.update("finals", "ada", &["unlisted"], listed).await;
    for answer in ask(&service, "bob", next).await {
        refused(answer).is(Code::NotFound, "SESSION_NOT_FOUND");
    }
    service.tick();
    let [info, first, updated] = ask(&service, "bob", next).await;
    assert_eq!(info.expect("a listed one is shown").revision, next.revision);
    for answer in [first, updated] {
        refused(answer).is(Code::FailedPrecondition, "NOT_A_MEMBER");
    }
}

#[tokio::test]
async fn a_stop_answers_what_waits_and_lets_nobody_wait_any_more() {
    let service = Service::start().await;
    let first = service.open_room("finals", "ada").await;
    let kim = proto::JoinOptions { presence: proto::Presence::Tied.into(), ..Default::default() };
    service.try_join("finals", "kim", kim).await.expect("it joins");
    let next = Position { revision: first.revision + 1, ..first };
    let answers = ask(&service, "ada", next);
    for answer in while_waiting(&service, 3, answers, async { service.drain() }).await {
        assert_eq!(answer.expect("the stop made the frame"), next);
    }
    // Kim stays although no stream has come, as nothing changes any more: there is no later frame.
    service.advance(15_000);
    let open = Position { revision: next.revision + 1, ..first };
    for answer in ask(&service, "ada", open).await {
        refused(answer).is(Code::FailedPrecondition, "UNKNOWN_POSITION");
    }
}

fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn so_many_reads_of_a_session_may_wait_and_those_given_up_leave_room() {
    let service = Service::start().await;
    let first = service.open_room("finals", "ada").await;
    service.set_in("finals", "ada", [("x", int(1))]).await;
    let live = live(&service);
    let next =
        engine::Position { epoch: Epoch(first.epoch), revision: Revision(first.revision + 1) };
    let mut waiting: Vec<_> =
        (0..WAITING_READS).map(|_| Box::pin(service.engine().framed(&live, next))).collect();
    assert!(waiting.iter_mut().all(|read| poll(read.as_mut()).is_pending()));
    for answer in ask(&service, "ada", Position { revision: next.revision.0, ..first }).await {
        let told = refused(answer).is(Code::ResourceExhausted, "LIMIT_REACHED");
        told.says("limit", "waiting-reads").says("most", &WAITING_READS.to_string());
    }
    let one_more = pin!(service.engine().framed(&live, next));
    let refusal = Refusal::LimitReached { limit: "waiting-reads", most: WAITING_READS };
    assert_eq!(poll(one_more), Poll::Ready(Err(refusal)));
    waiting.pop();
    assert_eq!(live.lock().waiting(), WAITING_READS - 1);
    let mut one_more = pin!(service.engine().framed(&live, next));
    assert!(poll(one_more.as_mut()).is_pending());
    service.tick();
    assert!(waiting.iter_mut().all(|read| poll(read.as_mut()) == Poll::Ready(Ok(()))));
    assert_eq!(poll(one_more.as_mut()), Poll::Ready(Ok(())));
    drop(waiting);
    assert!(live.lock().waiting() <= 1);
}

#[tokio::test]
async fn a_selection_that_changed_since_shows_the_whole_member() {
    let service = Service::start().await;
    service.open_room_with("finals", "ada", propnames(&["x"])).await;
    service.join("finals", "bob").await;
    service.set_in("finals", "bob", [("x", int(1)), ("y", int(2))]).await;
    service.tick();
    let since = service.info("finals", "ada").await.position;
    service.update("finals", "ada", &["propnames"], propnames(&["y"])).await;
    service.tick();
    let read = service.try_updated("finals", "ada", "bob", since).await.expect("she may ask");
    let change = read.change.expect("another key is shown");
    assert!(change.replaces);
    assert_eq!(change.props.iter().map(show_named).collect::<Shown>(), shown([("y", int(2))]));
    let read = service.try_updated("finals", "ada", "bob", read.position).await;
    assert_eq!(read.expect("she may ask").change, None);
}
