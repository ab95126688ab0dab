//! Resume: a delta from where the client was, or a snapshot that says why not.

use crate::support::*;
use sessiond::proto::{
    Delivery, DeliveryOptions, DepartureReason, EndReason, SessionSettings, SnapshotReason,
};
use std::time::Duration;
use tonic::Code;

/// A room with a reader that has gone after its snapshot at revision 2.
async fn room_with_reader(service: &Service) -> Rebuilt {
    service.open_room("finals", "ada").await;
    service.join_with("finals", "bob", [("x", int(1)), ("y", int(1))]).await;
    service.tick();
    // The app sees what the owner sees, and is no member that it would disconnect.
    service.watch("finals", "").await.rebuilt
}

#[tokio::test]
async fn a_resume_continues_with_a_delta() {
    let service = Service::start().await;
    let before = room_with_reader(&service).await;
    for value in 2..10 {
        service.set_in("finals", "bob", [("x", int(value))]).await;
        service.tick();
    }
    service.remove_in("finals", "bob", &["y"]).await;
    service.join("finals", "kim").await;
    service.tick();
    service.leave("finals", "kim").await;
    service.join("finals", "late").await;
    service.tick();
    let mut ada = service.resume(subscription("finals", "ada"), &before).await;
    assert_eq!(ada.next_span().await, (2, 12));
    assert_eq!(ada.user_id, "ada");
    assert_eq!(ada.rebuilt.props("bob"), shown([("x", int(9))]));
    assert!(ada.rebuilt.knows("late") && !ada.rebuilt.knows("kim"));
    assert_eq!(ada.rebuilt.state, service.watch("finals", "ada").await.rebuilt.state);
    service.set_in("finals", "bob", [("x", int(0))]).await;
    service.tick();
    assert_eq!(ada.next_span().await, (12, 13));
}

#[tokio::test]
async fn a_resume_where_nothing_happened_is_a_heartbeat() {
    let service = Service::start().await;
    let before = room_with_reader(&service).await;
    let mut ada = service.resume(subscription("finals", "ada"), &before).await;
    assert_eq!(ada.next_heartbeat().await, 2);
    // Silent frames in between are nothing to tell either.
    let before = ada.rebuilt.again();
    service.set_in("finals", "bob", [("x", int(1))]).await;
    service.tick();
    let mut ada = service.resume(subscription("finals", "ada"), &before).await;
    assert_eq!(ada.next_heartbeat().await, 3);
    service.set_in("finals", "bob", [("x", int(2))]).await;
    service.tick();
    assert_eq!(ada.next_span().await, (2, 4));
}

#[tokio::test]
async fn a_position_that_the_session_never_had_begins_with_a_snapshot_that_says_why() {
    let service = Service::start().await;
    let before = room_with_reader(&service).await;
    let mut future = before.again();
    future.revision = 3;
    let mut ada = service.resume(subscription("finals", "ada"), &future).await;
    assert_eq!(ada.next_snapshot().await, SnapshotReason::Future);
    assert_eq!(ada.rebuilt.revision, 2);
    service.try_delete("finals", "ada").await.expect("it is deleted");
    service.open_room("finals", "ada").await;
    let mut ada = service.resume(subscription("finals", "ada"), &before).await;
    assert_eq!(ada.next_snapshot().await, SnapshotReason::EpochChanged);
    assert!(ada.rebuilt.epoch > before.epoch && ada.rebuilt.revision == 1);
    assert!(!ada.rebuilt.knows("bob"));
}

#[tokio::test]
async fn forgotten_removals_make_a_revision_too_old() {
    let service = Service::start_with(|config| config.max_removals = 2).await;
    let before = room_with_reader(&service).await;
    // Two removals are remembered, the third one pushes the first one out.
    let keys = ["a", "b", "c"];
    for key in keys {
        service.set_in("finals", "ada", [(key, int(1))]).await;
    }
    service.tick();
    for (count, key) in keys.into_iter().enumerate() {
        service.remove_in("finals", "ada", &[key]).await;
        service.tick();
        service.set_in("finals", "ada", [("tick", int(count as i64))]).await;
        service.tick();
        let mut ada = service.resume(subscription("finals", "ada"), &before).await;
        if count < 2 {
            ada.next_changes().await;
        } else {
            assert_eq!(ada.next_snapshot().await, SnapshotReason::TooOld);
        }
        assert_eq!(ada.rebuilt.state, service.watch("finals", "ada").await.rebuilt.state);
    }
}

#[tokio::test]
async fn removals_are_forgotten_after_their_time() {
    let remember = |config: &mut sessiond::config::Config| {
        config.removal_memory = Duration::from_secs(10);
    };
    let service = Service::start_with(remember).await;
    let before = room_with_reader(&service).await;
    service.leave("finals", "bob").await;
    service.tick();
    service.advance(9_000);
    service.set_in("finals", "ada", [("x", int(1))]).await;
    service.tick();
    let mut ada = service.resume(subscription("finals", "ada"), &before).await;
    assert_eq!(ada.next_changes().await.left.len(), 1);
    service.advance(2_000);
    service.set_in("finals", "ada", [("x", int(2))]).await;
    service.tick();
    let mut ada = service.resume(subscription("finals", "ada"), &before).await;
    assert_eq!(ada.next_snapshot().await, SnapshotReason::TooOld);
}

#[tokio::test]
async fn another_selection_is_view_changed_on_open_streams_and_on_resume() {
    let service = Service::start().await;
    let before = room_with_reader(&service).await;
    let mut open = service.watch("finals", "bob").await;
    service.update("finals", "ada", &["propnames"], propnames(&["x"])).await;
    service.tick();
    assert_eq!(open.next_snapshot().await, SnapshotReason::ViewChanged);
    assert_eq!(open.rebuilt.props("bob"), shown([("x", int(1))]));
    let mut ada = service.resume(subscription("finals", "ada"), &before).await;
    assert_eq!(ada.next_snapshot().await, SnapshotReason::ViewChanged);
    assert_eq!(ada.rebuilt.props("bob"), shown([("x", int(1))]));
    // The new view goes on like any other.
    service.set_in("finals", "bob", [("x", int(2)), ("y", int(2))]).await;
    service.tick();
    open.next_changes().await;
    ada.next_changes().await;
    assert_eq!(open.rebuilt.props("bob"), shown([("x", int(2))]));
}

#[tokio::test]
async fn settings_that_select_nothing_else_come_as_changes() {
    let service = Service::start().await;
    room_with_reader(&service).await;
    let mut ada = service.watch("finals", "ada").await;
    let settings = SessionSettings { name: "the finals".to_owned(), ..Default::default() };
    service.update("finals", "ada", &["name"], settings).await;
    service.tick();
    let changes = ada.next_changes().await;
    assert!(changes.session.is_some() && changes.members.is_empty());
    let settings = ada.rebuilt.session().settings.clone().expect("it has settings");
    assert_eq!(settings.name, "the finals");
}

#[tokio::test]
async fn a_stream_of_props_resumes_as_well() {
    let service = Service::start().await;
    let before = room_with_reader(&service).await;
    service.set_in("finals", "bob", [("x", int(2))]).await;
    service.tick();
    let mut open = stream_open("finals", "ada");
    open.subscriptions[0].resume = Some(before.resume());
    let mut ada = service.open_stream(open).await;
    ada.rebuilt = before;
    ada.next_changes().await;
    assert_eq!(ada.user_id, "ada");
    assert_eq!(ada.rebuilt.props("bob")["x"], show(&int(2)));
}

#[tokio::test]
async fn a_stream_of_its_maximum_age_ends_and_resumes_with_a_delta() {
    let service = Service::start_with(|config| {
        config.stream_max_age = Some(Duration::from_secs(60));
        config.heartbeat_interval = Duration::from_secs(3600);
    })
    .await;
    service.open_room("finals", "ada").await;
    let mut ada = service.watch("finals", "ada").await;
    let mut bob = service.watch_joining("finals", "bob").await;
    service.tick();
    ada.next_changes().await;
    bob.next_changes().await;
    // Streams end at their age less up to a tenth.
    service.advance(53_900);
    service.set_in("finals", "ada", [("x", int(1))]).await;
    service.tick();
    ada.next_changes().await;
    bob.next_changes().await;
    service.advance(6_100);
    let ending = bob.end().await;
    assert!(ending.ended.as_ref().is_some_and(|it| it.reconnect_delay.is_some()));
    let told = ending.is(EndReason::Age, Code::Unavailable);
    assert!(told.retry_after.is_some());
    ada.end().await.is(EndReason::Age, Code::Unavailable);

    // The server ended it, so the tied member has time to come back.
    service.set_in("finals", "ada", [("x", int(2))]).await;
    service.tick();
    let mut bob = service.resume(subscription("finals", "bob"), &bob.rebuilt).await;
    bob.next_changes().await;
    assert!(bob.rebuilt.member("bob").disconnected, "as of the last frame");
    service.tick();
    bob.next_changes().await;
    assert!(!bob.rebuilt.member("bob").disconnected);
    assert_eq!(bob.rebuilt.props("ada"), shown([("x", int(2))]));
}

#[tokio::test]
async fn a_snapshot_names_who_left_since_the_subscriber_was_told() {
    let service = Service::start().await;
    for session in ["owned", "reset", "resent", "all"] {
        service.open_room(session, "ada").await;
        for user in ["bob", "kim", "lee"] {
            service.join(session, user).await;
        }
    }
    service.tick();
    let mut owned = service.watch("owned", "bob").await;
    let mut reset = service.watch("reset", "bob").await;
    let mut resent = service.watch("resent", "bob").await;
    let options = DeliveryOptions { delivery: Delivery::All.into(), ..Default::default() };
    let all = subscription_with("all", "bob", options);
    let mut all = service.watch_with(all).await;
    for session in ["owned", "reset", "resent", "all"] {
        service.set_in(session, "kim", [("x", int(1))]).await;
        service.try_kick(session, "ada", "kim", "").await.expect("she may");
        service.leave(session, "lee").await;
        service.join(session, "lee").await;
    }
    service.leave("owned", "ada").await;
    service.try_reset("reset", "ada", None).await.expect("she may");
    service.try_transmit("resent", "ada", "", true).await.expect("she may");
    service.tick();
    for (watcher, reason) in [
        (&mut owned, SnapshotReason::ViewChanged),
        (&mut reset, SnapshotReason::ResetSchema),
        (&mut resent, SnapshotReason::Resent),
        (&mut all, SnapshotReason::LogOverflow),
    ] {
        assert_eq!(watcher.next_snapshot().await, reason);
        let left = &watcher.rebuilt.left;
        assert_eq!(left.get("kim"), Some(&DepartureReason::Kicked), "{reason:?}");
        assert_eq!(left.contains_key("ada"), reason == SnapshotReason::ViewChanged);
        assert!(!left.contains_key("lee"), "he is back");
    }
}

#[tokio::test]
async fn a_resume_with_other_options_begins_with_a_snapshot() {
    let service = Service::with_room_of_two().await;
    let _ada = service.stream("finals", "ada").await;
    let _bob = service.stream("finals", "bob").await;
    let x = || vec!["x".to_owned()];
    let options = [
        DeliveryOptions::default(),
        DeliveryOptions { exclude_self: true, ..Default::default() },
        DeliveryOptions { props: x(), ..Default::default() },
        DeliveryOptions { props: x(), exclude_self: true, ..Default::default() },
        DeliveryOptions { delivery: Delivery::All.into(), ..Default::default() },
    ];
    let with = |user, options: &DeliveryOptions| subscription_with("finals", user, options.clone());
    // So that there is a log to go on with.
    let _all = service.watch_with(with("bob", &options[4])).await;
    for before in &options {
        let known = service.watch_with(with("ada", before)).await.rebuilt.again();
        service
            .set_in("finals", "ada", [("x", int(service.revision("finals").await as i64))])
            .await;
        service.tick();
        for after in &options {
            let mut ada = service.resume(with("ada", after), &known).await;
            match ada.next().await {
                Step::Snapshot(reason) => {
                    assert!(before != after);
                    assert_eq!(reason, SnapshotReason::ViewChanged);
                }
                _ => assert_eq!(before, after),
            }
            let own = ada.rebuilt.props("ada");
            assert_eq!(own.is_empty(), after.exclude_self, "{before:?} {after:?}");
        }
    }
    // Neither does somebody else go on without the props of the first.
    let known = service.watch_with(with("ada", &options[1])).await.rebuilt.again();
    let mut bob = service.resume(with("bob", &options[1]), &known).await;
    assert_eq!(bob.next_snapshot().await, SnapshotReason::ViewChanged);
}
