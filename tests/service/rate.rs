//! `max_rate_hz`: at most so many messages a second.

use crate::support::*;
use sessiond::proto::{
    self, DeliveryOptions, EndReason, JoinOptions, SnapshotReason, SubscribeToSessionRequest,
};
use tonic::Code;

fn at_most(hz: u32) -> Option<DeliveryOptions> {
    Some(DeliveryOptions { max_rate_hz: hz, ..Default::default() })
}

fn slowly(session: &str, user: &str, hz: u32) -> SubscribeToSessionRequest {
    SubscribeToSessionRequest { options: at_most(hz), ..subscription(session, user) }
}

// What is sent in the middle of a tick is sent at some moment of it: spans that begin there are
// tried with a tick to spare.

async fn room(service: &Service) {
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    service.tick();
}

#[tokio::test]
async fn the_first_message_comes_at_once_and_then_changes_merge() {
    let service = Service::with_room_of_two().await;
    let mut bob = service.watch_with(slowly("finals", "bob", 10)).await;
    for n in 1..=9 {
        service.set_in("finals", "ada", [("x", int(n))]).await;
        service.tick();
    }
    assert_eq!(bob.glance().await, None);
    service.tick();
    assert_eq!(bob.next_span().await, (2, 11), "one message for nine frames");
    assert_eq!(bob.rebuilt.props("ada"), shown([("x", int(9))]));
    // After a pause a change goes at once, on its tick.
    service.advance(1_000);
    service.set_in("finals", "ada", [("x", int(10))]).await;
    service.tick();
    assert_eq!(bob.next_span().await, (11, 12));
    service.set_in("finals", "ada", [("x", int(11))]).await;
    service.advance(85);
    assert_eq!(bob.glance().await, None);
    service.advance(15);
    assert_eq!(bob.next_span().await, (12, 13));
}

#[tokio::test]
async fn others_are_served_at_their_own_rates() {
    let service = Service::with_room_of_two().await;
    let mut each_tick = service.watch("finals", "bob").await;
    let mut slow = service.watch_with(slowly("finals", "bob", 1)).await;
    let mut fast = service.watch_with(slowly("finals", "bob", 1000)).await;
    for n in 0..50 {
        service.set_in("finals", "ada", [("x", int(n))]).await;
        service.tick();
        each_tick.next_changes().await;
        fast.next_changes().await;
    }
    assert_eq!(slow.glance().await, None);
    service.advance(500);
    slow.next_changes().await;
    assert_eq!(slow.rebuilt.state, each_tick.rebuilt.state);
}

#[tokio::test]
async fn an_end_is_not_delayed_and_comes_after_what_is_left_to_say() {
    let service = Service::with_room_of_two().await;
    let mut bob = service.watch_with(slowly("finals", "bob", 1)).await;
    service.set_in("finals", "ada", [("x", int(1))]).await;
    service.tick();
    assert_eq!(bob.glance().await, None);
    service.try_kick("finals", "ada", "bob", "enough").await.expect("she may");
    service.tick();
    bob.end().await.is(EndReason::Kicked, Code::PermissionDenied);
    assert_eq!(bob.rebuilt.props("ada"), shown([("x", int(1))]));
}

#[tokio::test]
async fn heartbeats_are_unaffected_and_say_what_was_sent() {
    let service = Service::start_with(|config| {
        config.heartbeat_interval = std::time::Duration::from_secs(1);
    })
    .await;
    room(&service).await;
    let mut bob = service.watch_with(slowly("finals", "bob", 1)).await;
    service.advance(1_000);
    assert_eq!(bob.next_heartbeat().await, 2);
    service.advance(500);
    service.set_in("finals", "ada", [("x", int(1))]).await;
    service.tick();
    assert_eq!(bob.next_span().await, (2, 3));
    service.set_in("finals", "ada", [("x", int(2))]).await;
    service.advance(980);
    assert_eq!(bob.glance().await, None);
    service.advance(20);
    assert_eq!(bob.next_span().await, (3, 4));
}

#[tokio::test]
async fn a_transmission_for_the_user_catches_up_now() {
    let service = Service::with_room_of_two().await;
    let mut bob = service.watch_with(slowly("finals", "bob", 1)).await;
    let mut other = service.watch_with(slowly("finals", "ada", 1)).await;
    service.set_in("finals", "ada", [("x", int(1))]).await;
    service.tick();
    assert_eq!(bob.glance().await, None);
    service.try_transmit("finals", "ada", "bob", false).await.expect("she may");
    assert_eq!(bob.next_span().await, (2, 3));
    assert_eq!(other.glance().await, None, "for him alone");
    service.set_in("finals", "ada", [("x", int(2))]).await;
    service.tick();
    assert_eq!(bob.glance().await, None, "his rate holds again");
    service.try_transmit("finals", "bob", "bob", true).await.expect("it is himself");
    assert_eq!(bob.next_snapshot().await, SnapshotReason::Resent);
    assert_eq!(bob.rebuilt.props("ada"), shown([("x", int(2))]));
    service.advance(1_000);
    assert_eq!(other.next_span().await, (2, 4));
    assert_eq!(bob.glance().await, None);
}

#[tokio::test]
async fn acks_and_refusals_are_not_delayed() {
    let service = Service::with_room_of_two().await;
    let mut open = stream_open("finals", "bob");
    open.subscriptions[0].options = at_most(1);
    let mut bob = service.open_stream(open).await;
    bob.next_snapshot().await;
    let write_x = bob.write(write([("x", int(1))]).in_session("finals"));
    let refused = bob.write(Default::default());
    let down = bob.until_acked(&service, refused).await;
    assert!(down.step.is_none(), "the update has to wait: {down:?}");
    assert_eq!(bob.refusals.len(), 1);
    assert!(write_x < refused && !bob.rebuilt.props("bob").contains_key("x"));
    service.advance(1_000);
    bob.next_changes().await;
    assert_eq!(bob.rebuilt.props("bob"), shown([("x", int(1))]));
}

#[tokio::test]
async fn who_asks_for_little_is_not_slow() {
    let service = Service::start_with(|config| {
        config.slow_limit = std::time::Duration::from_secs(1);
    })
    .await;
    room(&service).await;
    let mut bob = service.watch_with(slowly("finals", "bob", 1)).await;
    for n in 0..40 {
        service.set_in("finals", "ada", [("x", int(n))]).await;
        service.advance(100);
        while let Some(step) = bob.glance().await {
            assert!(matches!(step, Step::Changes { .. }), "{step:?}");
        }
    }
    assert!((4..=6).contains(&bob.messages), "{} messages in 4 s", bob.messages);
}

#[tokio::test]
async fn each_session_of_a_stream_keeps_its_rate() {
    let service = Service::start().await;
    for session in ["slow", "quick"] {
        service.open_room(session, "host").await;
        service.join(session, "ada").await;
    }
    service.tick();
    let mut open = several_open("ada", &["slow", "quick"]);
    open.subscriptions[0].options = at_most(1);
    let mut ada = service.open_several(open).await;
    ada.next().await;
    let mut slow = 0;
    for n in 0..50 {
        service.set("host", [("x", int(n))]).await;
        service.tick();
        while let Some(parcel) = ada.glance().await {
            slow += usize::from(parcel.sessions().contains(&"slow"));
        }
    }
    assert_eq!(slow, 0);
    let x = shown([("x", int(49))]);
    ada.tick_until(&service, |it| it.copy("quick").props("host") == x).await;
    service.advance(600);
    ada.tick_until(&service, |it| it.copy("slow").props("host") == x).await;
    service.set("host", [("x", int(50))]).await;
    service.tick();
    service.try_transmit("slow", "ada", "ada", false).await.expect("it is herself");
    let x = shown([("x", int(50))]);
    ada.tick_until(&service, |it| it.copy("slow").props("host") == x).await;
}

#[tokio::test]
async fn the_rate_of_all_sessions_of_a_user() {
    let service = Service::start().await;
    for session in ["a", "b"] {
        service.open_room(session, "host").await;
        service.join(session, "ada").await;
    }
    service.tick();
    let request = proto::ReceiveSessionUpdatesRequest { options: at_most(2), ..receiving("ada") };
    let mut ada = service.receive_with(request).await;
    ada.next().await;
    service.set("host", [("x", int(1))]).await;
    service.advance(490);
    assert!(ada.glance().await.is_none());
    service.advance(20);
    let x = shown([("x", int(1))]);
    ada.tick_until(&service, |it| {
        it.copy("a").props("host") == x && it.copy("b").props("host") == x
    })
    .await;
    // A session that is joined later has its first message at once.
    service.open_room("c", "host").await;
    service.try_join("c", "ada", JoinOptions::default()).await.expect("she joins");
    ada.tick_until(&service, |it| it.carries("c")).await;
}

#[tokio::test]
async fn the_rate_is_between_1_and_1000_or_absent() {
    let service = Service::with_room_of_two().await;
    for hz in [0, 1, 1000] {
        service.watch_with(slowly("finals", "bob", hz)).await;
    }
    for hz in [1001, u32::MAX] {
        let told = service.refused_watch(slowly("finals", "bob", hz)).await;
        told.blames(&["options.max_rate_hz"]);
    }
}
