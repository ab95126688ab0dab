//! When a stream is told that a tick is over, which is when it says what it acknowledges.

use crate::support::*;
use sessiond::{
    engine::{Options, SessionKey, Step},
    session::{
        command::Actor,
        ids::{AppId, SessionId},
    },
};
use std::{
    task::{Context, Poll, Waker},
    time::Duration,
};

#[tokio::test]
async fn who_waits_anew_before_it_is_told_of_a_tick_is_told_of_both() {
    let service = Service::with_room().await;
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

#[tokio::test]
async fn the_opening_is_acked_with_the_first_message() {
    let service = Service::with_room().await;
    let mut stream = service.open_stream(stream_open("finals", "ada")).await;
    assert_eq!(stream.next_message().await.expect("it is open").acked_seq, 1);
    let mut open = stream_open("", "ada");
    open.subscriptions.clear();
    let mut stream = service.open_stream(open).await;
    assert_eq!(stream.next_message().await.expect("it is open").acked_seq, 1);
}

#[tokio::test]
async fn streams_that_only_send_are_acked_at_the_same_moments_over_one_connection() {
    let service =
        Service::start_with(|config| config.tick_interval = Duration::from_millis(100)).await;
    service.open_room("finals", "ada").await;
    let mut streams = Vec::new();
    for user in ["bob", "kim", "zoe"] {
        service.join("finals", user).await;
        let mut open = stream_open("", user);
        open.subscriptions.clear();
        let mut stream = service.open_stream(open).await;
        stream.next_message().await.expect("it is open");
        streams.push((user, stream));
    }
    // One of them shows where a tick ends.
    let (_, first) = &mut streams[0];
    first.write(write([("x", int(1))]));
    while first.glance().await.is_none() {
        service.advance(3);
    }
    for (user, stream) in &mut streams {
        service.advance(2);
        stream.write(write([("x", int(2))]));
        let is_there = async || {
            let pending = service.try_updated("finals", "ada", user, None).await;
            pending.expect("she may").change.is_some_and(|it| !it.props.is_empty())
        };
        in_time(async { while !is_there().await {} }).await;
    }
    service.advance(100 - 3 * 2);
    for (_, stream) in &mut streams {
        stream.next_message().await.expect("it is acked");
    }
}
