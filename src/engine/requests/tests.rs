use super::{book::ID_BYTES, *};
use crate::engine::{EngineSettings, testing};
use crate::session::error::Refusal as Rule;
use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

fn engine() -> Engine {
    testing::engine(EngineSettings { max_replay_bytes: 10 * ID_BYTES, ..testing::settings() })
}

fn in_session(id: &str) -> Scope {
    let (app, id) = (AppId::new("app").unwrap(), SessionId::new(id).unwrap());
    Scope::new(&app, Some(&id), &Actor::App)
}

fn request(id: &str, content: u64) -> RequestId {
    RequestId { field: "request_id", id: id.into(), content }
}

fn message(text: &'static str) -> Reply {
    Reply::Message(Bytes::from_static(text.as_bytes()))
}

fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[track_caller]
fn ticket(begun: Poll<Result<Begun, Refusal>>) -> Ticket {
    let Poll::Ready(Ok(Begun::Act(ticket))) = begun else { panic!("{begun:?}") };
    ticket
}

#[track_caller]
fn replayed(begun: Poll<Result<Begun, Refusal>>) -> Bytes {
    let Poll::Ready(Ok(Begun::Replay(Reply::Message(bytes)))) = begun else { panic!("{begun:?}") };
    bytes
}

fn is_empty(engine: &Engine) -> bool {
    engine.footprint() == Default::default()
}

#[test]
fn who_comes_while_it_is_done_waits_for_the_success() {
    let (engine, scope, same) = (engine(), in_session("a"), request("id", 1));
    let acting = ticket(poll(pin!(engine.begin(&scope, &same))));
    let mut second = pin!(engine.begin(&scope, &same));
    let mut third = pin!(engine.begin(&scope, &same));
    assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
    let other = poll(pin!(engine.begin(&scope, &request("id", 2))));
    assert!(matches!(other, Poll::Ready(Err(Refusal::RequestIdReused { .. }))), "{other:?}");
    acting.succeeded(message("done"), None);
    assert_eq!(replayed(poll(second)), "done");
    assert_eq!(replayed(poll(third)), "done");
    let late = engine.once(&scope, request("id", 2), || panic!("it is another's"));
    assert!(matches!(late, Err(Refusal::RequestIdReused { .. })), "{late:?}");
}

#[test]
fn after_a_refusal_it_is_the_next_ones_turn() {
    let (engine, scope, same) = (engine(), in_session("a"), request("id", 1));
    let refused = ticket(poll(pin!(engine.begin(&scope, &same))));
    let mut second = pin!(engine.begin(&scope, &same));
    let mut third = pin!(engine.begin(&scope, &same));
    assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
    drop(refused);
    let acting = ticket(poll(second));
    assert!(poll(third.as_mut()).is_pending());
    acting.succeeded(message("done"), None);
    assert_eq!(replayed(poll(third)), "done");
}

#[test]
fn what_is_given_up_or_refused_leaves_nothing_behind() {
    let (engine, scope) = (engine(), in_session("a"));
    drop(ticket(poll(pin!(engine.begin(&scope, &request("id", 1))))));
    assert!(is_empty(&engine));
    let refused = engine.once(&scope, request("id", 1), || Err(Refusal::Rules(Rule::Locked)));
    assert!(matches!(refused, Err(Refusal::Rules(Rule::Locked))), "{refused:?}");
    assert!(is_empty(&engine));
}

#[test]
fn what_is_too_old_is_forgotten_although_nobody_asks() {
    let (engine, scope) = (engine(), in_session("a"));
    let done = || Ok(message("done"));
    engine.once(&scope, request("first", 1), done).unwrap();
    engine.advance(SECOND / 2);
    engine.once(&scope, request("second", 1), done).unwrap();
    engine.once(&in_session("b"), request("first", 1), done).unwrap();
    engine.advance(REMEMBERED_FOR - SECOND / 2 - 1);
    assert_eq!(engine.inner.requests.bytes(), 3 * (ID_BYTES + 4));
    engine.advance(1);
    assert_eq!(engine.inner.requests.bytes(), 2 * (ID_BYTES + 4));
    engine.advance(SWEEP_INTERVAL);
    assert!(is_empty(&engine));
}

#[test]
fn a_session_that_ends_is_forgotten_and_what_is_being_done_then_is_not() {
    let (engine, scope, same) = (engine(), in_session("a"), request("second", 1));
    engine.once(&scope, request("first", 1), || Ok(message("done"))).unwrap();
    let acting = ticket(poll(pin!(engine.begin(&scope, &same))));
    let mut waiting = pin!(engine.begin(&scope, &same));
    assert!(poll(waiting.as_mut()).is_pending());
    let (app, id) = (AppId::new("app").unwrap(), SessionId::new("a").unwrap());
    engine.inner.requests.forget(&app, &id);
    acting.succeeded(message("of the next one"), None);
    assert_eq!(replayed(poll(waiting)), "of the next one");
    assert!(matches!(
        engine.once(&scope, request("first", 1), || Err(Refusal::Rules(Rule::Locked))),
        Err(Refusal::Rules(Rule::Locked))
    ));
    engine.advance(REMEMBERED_FOR + SWEEP_INTERVAL);
    assert!(is_empty(&engine));
}

#[test]
fn so_much_is_remembered_and_no_more_is_begun() {
    let (engine, scope) = (engine(), in_session("a"));
    let mut acting = Vec::new();
    for at in 0..9 {
        acting.push(ticket(poll(pin!(engine.begin(&scope, &request(&at.to_string(), 1))))));
    }
    engine.once(&scope, request("tenth", 1), || Ok(message(""))).unwrap();
    let most = 10 * ID_BYTES;
    let full = Refusal::LimitReached { limit: "max-replay-bytes", most };
    let eleventh = engine.once(&scope, request("eleventh", 1), || panic!("it is refused"));
    assert_eq!(eleventh.unwrap_err(), full);
    acting.pop();
    engine.once(&scope, request("eleventh", 1), || Ok(message(""))).unwrap();
    let told = poll(pin!(engine.begin(&scope, &request("twelfth", 1))));
    assert!(matches!(told, Poll::Ready(Err(refusal)) if refusal == full));
}

#[test]
fn a_write_on_a_user_that_every_session_refused_is_no_success() {
    let (engine, scope) = (engine(), in_session("a"));
    let id = SessionId::new("a").unwrap();
    let refused = || Ok(Reply::OnUser([(id.clone(), Err(Refusal::Rules(Rule::Locked)))].into()));
    engine.once(&scope, request("id", 1), refused).unwrap();
    assert!(is_empty(&engine));
    let none = || Ok(Reply::OnUser([].into()));
    engine.once(&scope, request("id", 1), none).unwrap();
    assert!(!is_empty(&engine), "none is concerned: that is a success");
}
