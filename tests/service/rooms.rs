//! Rooms: everyone sees everyone, once a tick.

use crate::support::*;
use sessiond::proto::{
    DeliveryOptions, DepartureReason, EndReason, Role, SessionSettings, SubscribeToSessionRequest,
};
use tonic::Code;

#[tokio::test]
async fn two_users_see_each_others_changes_once_a_tick() {
    let service = Service::with_room().await;
    let mut ada = service.watch("finals", "ada").await;
    let mut bob = service.watch_joining("finals", "bob").await;
    service.tick();
    ada.next_changes().await;
    bob.next_changes().await;
    for round in 0..3 {
        let before = ada.rebuilt.revision;
        service.set_in("finals", "ada", [("x", int(round))]).await;
        service.set_in("finals", "bob", [("x", int(round + 100))]).await;
        service.tick();
        for watcher in [&mut ada, &mut bob] {
            assert_eq!(watcher.next_span().await, (before, before + 1));
            assert_eq!(watcher.rebuilt.props("ada"), shown([("x", int(round))]));
            assert_eq!(watcher.rebuilt.props("bob"), shown([("x", int(round + 100))]));
        }
    }
}

#[tokio::test]
async fn joining_never_waits_and_its_snapshot_is_the_last_frame() {
    let service = Service::start().await;
    let opened = service.open_room("finals", "ada").await;
    assert_eq!(opened.revision, 1);
    let reply = service.join("finals", "bob").await;
    assert_eq!(reply.role(), Role::Member);
    assert_eq!(reply.position.map(|at| (at.epoch, at.revision)), Some((opened.epoch, 2)));
    let snapshot = Rebuilt::from_snapshot(reply.snapshot.expect("it has a snapshot"));
    assert_eq!((snapshot.revision, &*snapshot.order), (1, &["ada".to_owned()][..]));
    service.tick();
    let again = service.join("finals", "bob").await;
    let snapshot = Rebuilt::from_snapshot(again.snapshot.expect("it has a snapshot"));
    assert_eq!((snapshot.revision, snapshot.order.len()), (2, 2));
}

#[tokio::test]
async fn removed_values_and_departures_are_told() {
    let service = Service::with_room().await;
    service.join_with("finals", "bob", [("x", int(1)), ("y", int(2))]).await;
    service.set_data("finals", "ada", [("round", int(1)), ("map", text("dust"))]).await;
    service.tick();
    let mut ada = service.watch("finals", "ada").await;
    service.remove_in("finals", "bob", &["x"]).await;
    let remove = vec!["round".to_owned()];
    let request = sessiond::proto::SetSessionDataRequest { remove, ..data_of("finals", "ada") };
    service.try_set_data(request).await.expect("it is removed");
    service.tick();
    let changes = ada.next_changes().await;
    assert_eq!(changes.members[0].removed, ["x"]);
    assert_eq!(changes.data_removed, ["round"]);
    assert_eq!(ada.rebuilt.props("bob"), shown([("y", int(2))]));
    assert_eq!(ada.rebuilt.state.data, shown([("map", text("dust"))]));

    service.leave("finals", "bob").await;
    service.tick();
    let changes = ada.next_changes().await;
    assert_eq!(changes.left.len(), 1);
    assert_eq!(changes.left[0].reason(), DepartureReason::Left);
    assert_eq!(changes.members, []);
    assert!(!ada.rebuilt.knows("bob"));
}

#[tokio::test]
async fn zero_false_and_the_empty_text_are_values() {
    let service = Service::with_room().await;
    let mut ada = service.watch("finals", "ada").await;
    let all = [
        ("integer", int(0)),
        ("least", int(i64::MIN)),
        ("number", num(0.0)),
        ("nan", num(f64::NAN)),
        ("infinity", num(f64::INFINITY)),
        ("flag", flag(false)),
        ("text", text("")),
        ("data", data(0)),
        ("null", null()),
        ("list", list(vec![])),
        ("map", map([])),
    ];
    service.set_in("finals", "ada", all.clone()).await;
    service.tick();
    ada.next_changes().await;
    assert_eq!(ada.rebuilt.props("ada"), shown(all.clone()));
    assert_eq!(service.watch("finals", "ada").await.rebuilt.props("ada"), shown(all));
}

#[tokio::test]
async fn a_heartbeat_tells_the_position_after_a_silence_of_15_s() {
    let service = Service::with_room().await;
    service.set_in("finals", "ada", [("x", int(1))]).await;
    service.tick();
    let mut ada = service.watch("finals", "ada").await;
    service.set_in("finals", "ada", [("x", int(2))]).await;
    service.set_in("finals", "ada", [("x", int(1))]).await;
    service.advance(14_999);
    service.advance(1);
    assert_eq!(ada.next_heartbeat().await, 3, "the silent frame is in it");
    service.advance(14_990);
    service.set_in("finals", "ada", [("x", int(3))]).await;
    service.tick();
    assert_eq!(ada.next_span().await, (2, 4));
    service.advance(14_990);
    service.advance(10);
    assert_eq!(ada.next_heartbeat().await, 4);
    assert_eq!(ada.messages, 4, "the silence counts from the last message");
}

#[tokio::test]
async fn a_prop_filter_shows_only_its_keys() {
    let service = Service::with_room().await;
    service.set_in("finals", "ada", [("x", int(1)), ("secret", int(2))]).await;
    service.tick();
    let options =
        DeliveryOptions { props: vec!["x".to_owned(), "y".to_owned()], ..Default::default() };
    let request = subscription_with("finals", "ada", options);
    let mut ada = service.watch_with(request).await;
    assert_eq!(ada.rebuilt.props("ada"), shown([("x", int(1))]));
    service.set_in("finals", "ada", [("secret", int(3))]).await;
    service.tick();
    service.set_in("finals", "ada", [("y", int(3)), ("secret", int(4))]).await;
    service.tick();
    assert_eq!(ada.next_span().await, (2, 4), "what the filter hides is silent");
    assert_eq!(ada.rebuilt.props("ada"), shown([("x", int(1)), ("y", int(3))]));
}

#[tokio::test]
async fn a_slow_reader_gets_one_merged_delta() {
    let service = Service::with_room().await;
    let mut ada = service.watch("finals", "ada").await;
    let mut bob = service.watch_joining("finals", "bob").await;
    service.tick();
    bob.next_changes().await;
    const FRAMES: i64 = 300;
    for frame in 0..FRAMES {
        let large = [("frame", int(frame)), ("bulk", text(format!("{frame:0>8000}")))];
        service.set_in("finals", "bob", large).await;
        service.tick();
        bob.next_changes().await;
    }
    // Two megabytes were sent to who reads. Who does not read has at most the window and the send
    // buffer of its stream waiting, and then the rest in one step.
    let mut spans = Vec::new();
    while ada.rebuilt.revision < bob.rebuilt.revision {
        spans.push(ada.next_span().await);
    }
    assert!(spans.len() < 40, "{} messages waited", spans.len());
    let (from, to) = spans.pop().expect("something came");
    assert!(to - from > 200, "the last of {} covers {from} to {to}", spans.len());
    assert_eq!(ada.rebuilt.state, bob.rebuilt.state);
}

#[tokio::test]
async fn who_does_not_read_for_too_long_is_ended_as_slow_and_resumes() {
    let service = Service::start_with(|config| {
        config.slow_limit = std::time::Duration::from_secs(2);
    })
    .await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    service.tick();
    let mut ada = service.watch("finals", "ada").await;
    for frame in 0..400 {
        let large = [("frame", int(frame)), ("bulk", text(format!("{frame:0>8000}")))];
        service.set_in("finals", "bob", large).await;
        service.tick();
    }
    service.advance(2_000);
    ada.end().await.is_cut(Code::ResourceExhausted);
    let mut ada = service.resume(subscription("finals", "ada"), &ada.rebuilt).await;
    let (from, _) = ada.next_span().await;
    assert!(from > 1, "it goes on where it was");
    assert_eq!(ada.rebuilt.props("bob")["frame"], show(&int(399)));
}

#[tokio::test]
async fn a_step_over_1_mib_comes_in_parts() {
    let service = Service::with_room_of_two().await;
    let mut ada = service.watch("finals", "ada").await;
    for user in ["ada", "bob"] {
        for key in 0..100 {
            service.set_in("finals", user, [(&*format!("key {key}"), data(12_000))]).await;
        }
    }
    service.tick();
    match ada.next().await {
        Step::Changes { from: 2, to: 3, parts: 3, .. } => {}
        other => panic!("changes come in three parts, not {other:?}"),
    }
    assert_eq!(ada.rebuilt.props("ada").len(), 100);
    assert_eq!(ada.rebuilt.props("bob").len(), 100);
    let again = service.watch("finals", "bob").await;
    assert_eq!(again.messages, 3);
    assert_eq!(again.rebuilt.state.members, ada.rebuilt.state.members);
    let reply = service.join("finals", "bob").await;
    assert!(reply.snapshot_omitted && reply.snapshot.is_none());
}

fn without_self(session: &str, user: &str) -> SubscribeToSessionRequest {
    let options = DeliveryOptions { exclude_self: true, ..Default::default() };
    subscription_with(session, user, options)
}

#[tokio::test]
async fn exclude_self_leaves_out_ones_own_props_only() {
    let service = Service::with_room().await;
    service.join("finals", "bob").await;
    service.set_in("finals", "ada", [("x", int(1))]).await;
    service.set_in("finals", "bob", [("x", int(2))]).await;
    service.tick();
    let mut ada = service.watch_with(without_self("finals", "ada")).await;
    let mut bob = service.watch("finals", "bob").await;
    assert_eq!(ada.rebuilt.props("ada"), shown([]), "the snapshot is without own props");
    assert_eq!(ada.rebuilt.props("bob"), shown([("x", int(2))]));

    service.set_in("finals", "ada", [("x", int(3))]).await;
    service.tick();
    assert_eq!(ada.next_heartbeat().await, 3, "an own frame arrives as a heartbeat");
    assert_eq!(bob.next_span().await, (2, 3));

    service.set_in("finals", "ada", [("x", int(4))]).await;
    service.set_in("finals", "bob", [("x", int(5))]).await;
    service.tick();
    assert_eq!(ada.next_span().await, (3, 4), "the shared `from` is still right");
    assert_eq!(ada.rebuilt.props("ada"), shown([]));
    assert_eq!(ada.rebuilt.props("bob"), shown([("x", int(5))]));
    assert_eq!(bob.next_changes().await.members.len(), 2);
}

#[tokio::test]
async fn exclude_self_still_tells_who_one_is() {
    let service = Service::start().await;
    let settings = SessionSettings { rejoin_grace: Some(ms(60_000)), ..Default::default() };
    service.open_room_with("finals", "owner", settings).await;
    service.join_with("finals", "ada", [("x", int(1))]).await;
    let mut ada = service.watch_with(without_self("finals", "ada")).await;
    service.tick();
    ada.next_changes().await;
    assert_eq!(ada.rebuilt.member("ada").role, Role::Member, "she sees herself join");
    assert_eq!(ada.rebuilt.props("ada"), shown([]));
    let bob = service.watch_joining("finals", "bob").await;
    service.tick();
    ada.next_changes().await;
    let request = SubscribeToSessionRequest {
        options: without_self("finals", "bob").options,
        ..subscription("finals", "bob")
    };
    let before = service.watch_with(request.clone()).await;
    let known = before.rebuilt.again();
    drop((before, bob));
    service.tick_until(&mut ada, |it| it.member("bob").disconnected).await;
    service.set_in("finals", "bob", [("x", int(1))]).await;
    let mut bob = service.resume(request, &known).await;
    bob.next_changes().await;
    assert!(bob.rebuilt.member("bob").disconnected, "as of the last frame");
    service.tick();
    bob.next_changes().await;
    assert!(!bob.rebuilt.member("bob").disconnected);
    assert_eq!(bob.rebuilt.props("bob"), shown([]));
}

#[tokio::test]
async fn exclude_self_completes_a_step_whose_last_part_is_ones_own() {
    let service = Service::with_room_of_two().await;
    let mut ada = service.watch_with(without_self("finals", "ada")).await;
    // Who changed last comes first, so the last part holds only what ada wrote.
    for user in ["ada", "bob"] {
        for key in 0..100 {
            service.set_in("finals", user, [(&*format!("key {key}"), data(12_000))]).await;
        }
    }
    service.tick();
    assert_eq!(ada.next_span().await, (2, 3));
    assert_eq!(ada.rebuilt.props("ada"), shown([]));
    assert_eq!(ada.rebuilt.props("bob").len(), 100);
    for key in 0..100 {
        service.set_in("finals", "ada", [(&*format!("key {key}"), data(12_001))]).await;
    }
    service.tick();
    assert_eq!(ada.next_heartbeat().await, 4);
}

#[tokio::test]
async fn exclude_self_holds_for_the_delta_of_a_resume() {
    let service = Service::start().await;
    service.open_room("finals", "zoe").await;
    service.join("finals", "ada").await;
    service.join("finals", "bob").await;
    service.tick();
    let reply = service.join("finals", "ada").await;
    let before = Rebuilt::from_snapshot(reply.snapshot.expect("it has a snapshot"));
    let _ada = service.stream("finals", "ada").await;
    let without = service.watch_with(without_self("finals", "ada")).await.rebuilt.again();
    // Bob is in the same view, and nobody in it leaves himself out.
    let mut bob = service.watch("finals", "bob").await;
    for value in 0..2 {
        service.set_in("finals", "ada", [("x", int(value))]).await;
        service.set_in("finals", "bob", [("x", int(value))]).await;
        service.tick();
        bob.next_changes().await;
        service.resume(subscription("finals", "bob"), &before).await.next_changes().await;
        let mut ada = service.resume(without_self("finals", "ada"), &without).await;
        ada.next_changes().await;
        assert_eq!(ada.rebuilt.props("ada"), shown([]));
        assert_eq!(ada.rebuilt.props("bob"), shown([("x", int(value))]));
        // As long as she is there what is sent is recorded; this must not be remembered.
        drop(ada);
        service.set_in("finals", "zoe", [("x", int(value))]).await;
        service.tick();
        bob.next_changes().await;
    }
}

#[tokio::test]
async fn leaving_ends_streams_even_if_the_user_is_back_within_the_tick() {
    let service = Service::with_room().await;
    let mut ada = service.watch("finals", "ada").await;
    let mut old = service.watch_joining("finals", "bob").await;
    service.tick();
    ada.next_changes().await;
    service.leave("finals", "bob").await;
    let mut new = service.watch_joining("finals", "bob").await;
    service.tick();
    old.end().await.is_ok(EndReason::Left);
    drop(old);
    assert!(ada.next_changes().await.members[0].replaces);
    new.next_changes().await;
    // The end of the old stream is no loss of the new membership's.
    service.advance(16_000);
    new.next_heartbeat().await;
    assert!(service.info("finals", "ada").await.members.iter().any(|it| it.user_id == "bob"));
    service.set_in("finals", "bob", [("x", int(1))]).await;
    service.tick();
    new.next_changes().await;
    assert_eq!(new.rebuilt.props("bob"), shown([("x", int(1))]));
}

#[tokio::test]
async fn nothing_spans_two_apps() {
    let service = Service::start().await;
    for app in ["chess", "go"] {
        let opening = sessiond::proto::OpenSharedSessionRequest {
            app: app.to_owned(),
            ..opening(
                "finals",
                "ada",
                SessionSettings { name: "the finals".into(), ..Default::default() },
            )
        };
        service.try_open(opening).await.expect("id and name are free in each app");
    }
    let mut watchers = Vec::new();
    for app in ["chess", "go"] {
        let request =
            SubscribeToSessionRequest { app: app.to_owned(), ..subscription("finals", "ada") };
        watchers.push(service.watch_with(request).await);
    }
    let request = sessiond::proto::SetUserPropsRequest {
        app: "go".to_owned(),
        user_id: "ada".to_owned(),
        write: Some(write([("x", int(1))])),
        ..Default::default()
    };
    service.try_set_props(request).await.expect("it is written");
    service.tick();
    let [chess, go] = &mut watchers[..] else { unreachable!() };
    go.next_changes().await;
    service.advance(15_000);
    assert_eq!(chess.next_heartbeat().await, 1);
    refused(service.try_info("finals", "ada").await).is(Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn the_owner_sees_the_private_data_and_nobody_else_but_the_app() {
    let service = Service::with_room().await;
    service.join("finals", "bob").await;
    service.set_data("finals", "bob", [("round", int(1))]).await;
    service.set_private_data("finals", "ada", [("seed", int(7))]).await;
    service.tick();
    let mut ada = service.watch("finals", "ada").await;
    let mut bob = service.watch("finals", "bob").await;
    let mut app = service.watch("finals", "").await;
    assert_eq!(app.user_id, "");
    service.set_private_data("finals", "", [("seed", int(8))]).await;
    service.tick();
    for insider in [&mut ada, &mut app] {
        assert_eq!(insider.rebuilt.state.private_data, shown([("seed", int(7))]));
        insider.next_changes().await;
        assert_eq!(insider.rebuilt.state.private_data, shown([("seed", int(8))]));
    }
    let revision = ada.rebuilt.revision;
    service.set_data("finals", "bob", [("round", int(2))]).await;
    service.tick();
    assert_eq!(bob.next_span().await, (revision - 1, revision + 1), "it was silent for bob");
    assert_eq!(bob.rebuilt.state.private_data, shown([]));
    assert_eq!(bob.rebuilt.state.data, shown([("round", int(2))]));
    assert_eq!(service.watch("finals", "bob").await.rebuilt.state, bob.rebuilt.state);
}
