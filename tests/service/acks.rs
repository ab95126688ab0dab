//! When a stream is told that a tick is over, which is when it says what it acknowledges.

use crate::support::*;
use sessiond::{
    engine::{Options, SessionKey, Step},
    session::{
        command::Actor,
        ids::{AppId, SessionId},
    },
};
use std::task::{Context, Poll, Waker};

#[tokio::test]
async fn who_waits_anew_before_it_is_told_of_a_tick_is_told_of_both() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    service.tick();
    let app = AppId::new("default").expect("an id");
    let finals = SessionKey::Id(SessionId::new("finals").expect("an id"));
    let live = service.engine().find(&app, Some(&finals), &Actor::App).expect("it is there");
    let subscribed = service.engine().subscribe(&live, &Actor::App, None, Options::default());
    let mut subscription = subscribed.expect("the app may");
    let mut next = |wants_tick: bool| {
        if wants_tick {
            subscription.want_tick();
        }
        match subscription.poll_step(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready((step, _)) => Some(step),
            Poll::Pending => None,
        }
    };
    assert!(matches!(next(true), Some(Step::Update(_))), "the snapshot");
    service.tick();
    // A message came in between the tick and this look at what it brought.
    assert!(matches!(next(true), Some(Step::Quiet)), "the first tick");
    assert!(next(false).is_none());
    service.tick();
    assert!(matches!(next(false), Some(Step::Quiet)), "the second tick");
    assert!(next(false).is_none());
    service.tick();
    assert!(next(false).is_none(), "nobody waits any more");
}
