//! Sending without waiting for the tick.

use crate::support::*;
use sessiond::proto::{SessionSettings, SnapshotReason};
use tonic::Code;

/// A room that ticks ten times a second, with two members.
async fn slow_room(service: &Service) {
    let settings = SessionSettings { tick_interval: Some(ms(100)), ..Default::default() };
    service.open_room_with("finals", "ada", settings).await;
    service.join("finals", "bob").await;
    service.advance(100);
}

#[tokio::test]
async fn the_open_frame_is_closed_now() {
    let service = Service::start().await;
    slow_room(&service).await;
    let mut bob = service.watch("finals", "bob").await;
    service.advance(50);
    let revision = service.set_in("finals", "ada", [("x", int(1))]).await;
    let sent = service.try_transmit("finals", "ada", "", false).await.expect("she may");
    assert_eq!(sent.position.expect("it has one").revision, revision);
    service.advance(0);
    assert_eq!(bob.next_span().await.1, revision);
    assert_eq!(bob.rebuilt.props("ada"), shown([("x", int(1))]));
    let nothing = service.try_transmit("finals", "ada", "", false).await.expect("she may");
    assert_eq!(nothing.position.expect("it has one").revision, revision);
    service.advance(1_000);
    assert_eq!(service.revision("finals").await, revision, "nothing was open");
}

#[tokio::test]
async fn it_is_closed_at_most_once_in_five_milliseconds() {
    let service = Service::start().await;
    slow_room(&service).await;
    service.advance(50);
    let first = service.set_in("finals", "ada", [("x", int(1))]).await;
    service.try_transmit("finals", "ada", "", false).await.expect("she may");
    service.advance(0);
    assert_eq!(service.revision("finals").await, first);
    service.set_in("finals", "ada", [("x", int(2))]).await;
    for _ in 0..3 {
        service.try_transmit("finals", "ada", "", false).await.expect("she may");
    }
    service.advance(4);
    assert_eq!(service.revision("finals").await, first);
    service.advance(1);
    assert_eq!(service.revision("finals").await, first + 1);
}

#[tokio::test]
async fn later_ticks_stay_where_they_were() {
    let service = Service::start().await;
    slow_room(&service).await;
    // Where the ticks fall: the first moment at which a write is framed.
    let write = |n| service.set_in("finals", "ada", [("x", int(n))]);
    let mut revision = write(0).await;
    let mut phase = 0;
    while service.revision("finals").await < revision {
        service.advance(1);
        phase += 1;
    }
    assert!(phase <= 100);
    for n in 1..4 {
        service.advance(30);
        revision = write(n).await;
        service.try_transmit("finals", "ada", "", false).await.expect("she may");
        service.advance(0);
        assert_eq!(service.revision("finals").await, revision);
        revision = write(-n).await;
        service.advance(69);
        assert_eq!(service.revision("finals").await, revision - 1, "not before the tick");
        service.advance(1);
        assert_eq!(service.revision("finals").await, revision, "on the tick");
    }
}

#[tokio::test]
async fn resend_sends_a_snapshot_to_all_or_to_one() {
    let service = Service::start().await;
    slow_room(&service).await;
    let mut ada = service.watch("finals", "ada").await;
    let mut bob = service.watch("finals", "bob").await;
    let mut streamed = service.stream("finals", "bob").await;
    service.try_transmit("finals", "ada", "bob", true).await.expect("she may");
    assert_eq!(bob.next_snapshot().await, SnapshotReason::Resent);
    assert_eq!(streamed.next_snapshot().await, SnapshotReason::Resent);
    assert_eq!(ada.glance().await, None);
    service.try_transmit("finals", "bob", "bob", true).await.expect("it is oneself");
    assert_eq!(bob.next_snapshot().await, SnapshotReason::Resent);
    assert_eq!(streamed.next_snapshot().await, SnapshotReason::Resent);
    let revision = service.set_in("finals", "ada", [("x", int(1))]).await;
    service.try_transmit("finals", "", "", true).await.expect("the app may everything");
    service.advance(5);
    for watcher in [&mut ada, &mut bob] {
        assert_eq!(watcher.next_snapshot().await, SnapshotReason::Resent);
        assert_eq!(watcher.rebuilt.revision, revision, "what was pending is in it");
        assert_eq!(watcher.rebuilt.props("ada"), shown([("x", int(1))]));
    }
    service.set_in("finals", "ada", [("x", int(2))]).await;
    service.advance(100);
    assert_eq!(ada.next_span().await, (revision, revision + 1));
    assert_eq!(ada.glance().await, None);
}

#[tokio::test]
async fn transmissions_are_refused_with_their_reasons() {
    let service = Service::start().await;
    slow_room(&service).await;
    service.spectate("finals", "spy").await;
    for user in ["bob", "spy", "eve"] {
        for target in ["", "ada", "nobody"] {
            let told = refused(service.try_transmit("finals", user, target, false).await);
            told.is(Code::PermissionDenied, "ROLE_TOO_LOW").says("needs", "moderator");
        }
    }
    let told = refused(service.try_transmit("finals", "eve", "eve", false).await);
    told.is(Code::FailedPrecondition, "NOT_A_MEMBER");
    for user in ["ada", ""] {
        let told = refused(service.try_transmit("finals", user, "nobody", false).await);
        told.is(Code::NotFound, "MEMBER_NOT_FOUND");
    }
    let told = refused(service.try_transmit("nothing", "ada", "", false).await);
    told.is(Code::NotFound, "SESSION_NOT_FOUND");
    refused(service.try_transmit("", "a\n", "b\n", false).await).blames(&[
        "session_id",
        "user_id",
        "target_user_id",
    ]);
}

#[tokio::test]
async fn what_is_sent_again_counts_as_an_update_of_who_asks() {
    let service = Service::start_with(|config| config.max_updates_per_second = 10).await;
    slow_room(&service).await;
    service.advance(1_000);
    for _ in 0..100 {
        service.try_transmit("finals", "ada", "", false).await.expect("nothing is sent twice");
    }
    for _ in 0..10 {
        service.try_transmit("finals", "ada", "", true).await.expect("these are in her rate");
    }
    let told = refused(service.try_transmit("finals", "ada", "", true).await);
    told.is(Code::ResourceExhausted, "RATE_LIMITED");
    for _ in 0..100 {
        service.try_transmit("finals", "", "", true).await.expect("the app has no rate");
    }
    service.advance(100);
    service.try_transmit("finals", "ada", "", true).await.expect("time has passed");
}

#[tokio::test]
async fn the_snapshot_of_a_join_is_left_out_over_the_rate_of_the_user() {
    let service = Service::start_with(|config| config.max_updates_per_second = 10).await;
    slow_room(&service).await;
    service.advance(1_000);
    let join = async |omit_snapshot| {
        let request = sessiond::proto::JoinSessionRequest {
            session_id: "finals".to_owned(),
            user_id: "bob".to_owned(),
            omit_snapshot,
            ..Default::default()
        };
        let reply = service.sessions().join_session(request).await.expect("he is in").into_inner();
        (reply.snapshot.is_some(), reply.snapshot_omitted)
    };
    for _ in 0..20 {
        assert_eq!(join(true).await, (false, false), "it costs nothing that he did not ask for");
    }
    for _ in 0..10 {
        assert_eq!(join(false).await, (true, false));
    }
    assert_eq!(join(false).await, (false, true));
    service.advance(100);
    assert_eq!(join(false).await, (true, false));
}
