//! ReceiveSessionUpdates: all sessions of one user in one stream.

use crate::support::*;
use sessiond::proto::{
    DeliveryOptions, EndReason, JoinOptions, Position, Presence, ReceiveSessionUpdatesRequest,
    Resume, SessionSettings, SnapshotReason,
};
use tonic::Code;

async fn rooms(service: &Service, user: &str, sessions: &[&str]) {
    for session in sessions {
        service.open_room(session, "host").await;
        service.join(session, user).await;
    }
    service.tick();
}

#[tokio::test]
async fn all_sessions_of_a_user_come_in_one_stream_one_message_per_tick() {
    let service = Service::start().await;
    rooms(&service, "ada", &["a", "b", "c"]).await;
    service.open_room("foreign", "host").await;
    let mut ada = service.receive_with(receiving("ada")).await;
    let first = ada.next().await;
    assert_eq!(first.sessions(), ["a", "b", "c"]);
    for session in ["a", "b", "c"] {
        assert_eq!(*first.step(session), Step::Snapshot(SnapshotReason::First));
    }
    let before = ada.messages;
    let (mut updates, mut ticks) = (0, 0);
    for round in 0..10 {
        for session in ["a", "b", "c"] {
            service.set_in(session, "host", [("x", int(round))]).await;
        }
        let x = shown([("x", int(round))]);
        while ["a", "b", "c"].iter().any(|session| ada.copy(session).props("host") != x) {
            service.tick();
            ticks += 1;
            while let Some(parcel) = ada.glance().await {
                updates += parcel.updates;
            }
        }
    }
    let messages = ada.messages - before;
    assert!(messages <= ticks + 1, "{messages} messages in {ticks} ticks");
    assert!(updates > 15, "{updates} updates");
}

#[tokio::test]
async fn a_session_that_is_joined_later_comes_in_by_itself_within_a_tick() {
    let service = Service::start().await;
    rooms(&service, "ada", &["a"]).await;
    service.open_room("b", "host").await;
    let mut ada = service.receive("ada").await;
    service.advance(100);
    service.join("b", "ada").await;
    let parcel = ada.next().await;
    assert_eq!(*parcel.step("b"), Step::Snapshot(SnapshotReason::First));
    service.tick();
    ada.tick_until(&service, |it| it.copy("b").knows("ada")).await;
    // Opening joins as well, and so does another stream.
    service.open_room("c", "ada").await;
    ada.tick_until(&service, |it| it.carries("c")).await;
    service.open_room("d", "host").await;
    let other = service.watch_joining("d", "ada").await;
    ada.tick_until(&service, |it| it.carries("d")).await;
    drop(other);
    service.set("ada", [("x", int(1))]).await;
    let x = shown([("x", int(1))]);
    ada.tick_until(&service, |it| {
        ["a", "b", "c", "d"].iter().all(|session| it.copy(session).props("ada") == x)
    })
    .await;
}

#[tokio::test]
async fn a_stream_lives_on_without_sessions() {
    let service = Service::start().await;
    let mut ada = service.receive_with(receiving("ada")).await;
    assert_eq!(ada.next().await.updates, 0, "the first message says that it is there");
    service.advance(15_000);
    assert_eq!(ada.next().await.updates, 0, "a sign of life");
    service.open_room("a", "host").await;
    service.join("a", "ada").await;
    ada.tick_until(&service, |it| it.carries("a")).await;
    service.leave("a", "ada").await;
    ada.tick_until(&service, |it| !it.carries("a")).await;
    // The user is remembered as long as it has the stream.
    service.set("ada", [("x", int(1))]).await;
    service.advance(120_000);
    service.join("a", "ada").await;
    ada.tick_until(&service, |it| {
        it.carries("a") && it.copy("a").state.members.contains_key("ada")
    })
    .await;
    assert_eq!(ada.copy("a").props("ada"), shown([("x", int(1))]));
}

#[tokio::test]
async fn a_session_that_ends_or_is_left_says_so_and_drops_out() {
    let service = Service::start().await;
    rooms(&service, "ada", &["left", "kicked", "banned", "deleted", "stays"]).await;
    let mut ada = service.receive("ada").await;
    service.advance(100);
    for (session, reason) in [
        ("left", EndReason::Left),
        ("kicked", EndReason::Kicked),
        ("banned", EndReason::Banned),
        ("deleted", EndReason::Deleted),
    ] {
        match session {
            "left" => service.leave("left", "ada").await,
            "kicked" => {
                service.try_kick("kicked", "host", "ada", "enough").await.expect("she may");
            }
            "banned" => drop(service.try_ban("banned", "host", "ada").await.expect("she may")),
            _ => service.try_delete("deleted", "host").await.expect("she may"),
        }
        service.advance(20);
        let parcel = ada.next().await;
        assert_eq!(parcel.end_of(session), reason);
        assert!(!ada.carries(session));
    }
    service.set_in("stays", "host", [("x", int(1))]).await;
    service.tick();
    assert_eq!(ada.next().await.sessions(), ["stays"]);
}

#[tokio::test]
async fn who_leaves_and_comes_back_within_a_tick_gets_both() {
    let service = Service::start().await;
    rooms(&service, "ada", &["a"]).await;
    let mut ada = service.receive("ada").await;
    let epoch = ada.copy("a").epoch;
    service.advance(100);
    service.leave("a", "ada").await;
    service.join("a", "ada").await;
    service.tick();
    let mut steps = Vec::new();
    in_time(async {
        while steps.len() < 3 {
            service.tick();
            while let Some(parcel) = ada.glance().await {
                steps.extend(parcel.steps.into_iter().map(|(_, step)| step));
            }
        }
    })
    .await;
    let [Step::Changes { .. }, Step::Ended(ended), Step::Snapshot(reason)] = &steps[..] else {
        panic!("the frame, the end and a new beginning: {steps:?}");
    };
    assert_eq!((ended.reason(), *reason), (EndReason::Left, SnapshotReason::First));
    assert_eq!(ada.copy("a").epoch, epoch);
    service.set("ada", [("x", int(1))]).await;
    let x = shown([("x", int(1))]);
    ada.tick_until(&service, |it| it.copy("a").props("ada") == x).await;
}

#[tokio::test]
async fn each_session_resumes_by_its_id() {
    let service = Service::start().await;
    rooms(&service, "ada", &["delta", "quiet", "anew", "left", "gone"]).await;
    let hidden = SessionSettings { unlisted: Some(true), ..Default::default() };
    service.open_room_with("hidden", "host", hidden).await;
    let _stays = service.receive("ada").await;
    let mut ada = service.receive("ada").await;
    let known = ["delta", "quiet", "left", "gone"].map(|it| (it, ada.copy(it).clone()));
    drop(ada);
    service.set_in("delta", "host", [("x", int(1))]).await;
    service.leave("left", "ada").await;
    service.try_delete("gone", "host").await.expect("she may");
    service.tick();
    let mut request = receiving("ada");
    for (session, rebuilt) in &known {
        request.resume.insert(session.to_string(), rebuilt.resume());
    }
    // Who was never there learns nothing: what is hidden is gone like what never was.
    let position = Some(Position { epoch: 7, revision: 3 });
    for session in ["hidden", "nothing"] {
        request.resume.insert(session.to_owned(), Resume { position, view: 1 });
    }
    ada = service.receive_with(request).await;
    for (session, rebuilt) in &known {
        ada.remember(session, rebuilt);
    }
    let first = ada.next().await;
    assert_eq!(first.updates, 7);
    assert!(matches!(first.step("delta"), Step::Changes { from: 2, to: 3, .. }), "{first:?}");
    assert_eq!(*first.step("quiet"), Step::Heartbeat(2));
    assert_eq!(*first.step("anew"), Step::Snapshot(SnapshotReason::First));
    assert_eq!(first.end_of("left"), EndReason::Left);
    for session in ["gone", "hidden", "nothing"] {
        assert_eq!(first.end_of(session), EndReason::Deleted);
    }
    service.set_in("quiet", "host", [("x", int(1))]).await;
    service.tick();
    ada.tick_until(&service, |it| it.copy("quiet").revision == 3).await;
}

#[tokio::test]
async fn the_options_apply_to_every_session() {
    let service = Service::start().await;
    rooms(&service, "ada", &["a", "b"]).await;
    let options =
        DeliveryOptions { props: vec!["x".to_owned()], exclude_self: true, ..Default::default() };
    let request = ReceiveSessionUpdatesRequest { options: Some(options), ..receiving("ada") };
    let mut ada = service.receive_with(request).await;
    ada.next().await;
    service.open_room("later", "host").await;
    service.join("later", "ada").await;
    for user in ["ada", "host"] {
        service.set(user, [("x", int(1)), ("y", int(2))]).await;
    }
    let x = shown([("x", int(1))]);
    ada.tick_until(&service, |it| {
        it.carries("later") && it.copy("later").state.members["host"].props == x
    })
    .await;
    for session in ["a", "b", "later"] {
        ada.tick_until(&service, |it| it.copy(session).props("host") == x).await;
        assert_eq!(ada.copy(session).props("ada"), shown([]), "{session}");
    }
}

#[tokio::test]
async fn it_counts_as_a_stream_of_the_user_in_every_session() {
    let service = Service::start().await;
    let tied = JoinOptions { presence: Presence::Tied.into(), ..Default::default() };
    for session in ["a", "b"] {
        service.open_room(session, "host").await;
        service.try_join(session, "ada", tied.clone()).await.expect("she joins");
    }
    let ada = service.receive("ada").await;
    service.advance(20_000);
    let mut a = service.watch("a", "host").await;
    let mut b = service.watch("b", "host").await;
    assert!(a.rebuilt.knows("ada") && b.rebuilt.knows("ada"), "she has a stream");
    drop(ada);
    service.tick_until(&mut a, |it| it.member("ada").disconnected).await;
    service.tick_until(&mut b, |it| it.member("ada").disconnected).await;
}

#[tokio::test]
async fn a_stop_and_old_age_end_it_as_a_whole() {
    let service = Service::start_with(|config| {
        config.stream_max_age = Some(std::time::Duration::from_secs(60));
    })
    .await;
    rooms(&service, "ada", &["a", "b"]).await;
    let mut old = service.receive("ada").await;
    service.advance(60_000);
    let (_, ending) = old.end().await;
    ending.is(EndReason::Age, Code::Unavailable);
    assert!(ending.go_away.is_some());
    let mut ada = service.receive("ada").await;
    let mut nobody = service.receive("nobody").await;
    for session in ["a", "b"] {
        service.set_in(session, "host", [("x", int(1))]).await;
    }
    let endings = async { (ada.end().await.1, nobody.end().await.1) };
    let (_, (of_ada, of_nobody)) = tokio::join!(service.stop_under(), endings);
    for ending in [&of_ada, &of_nobody] {
        ending.is(EndReason::Draining, Code::Unavailable);
        assert!(ending.go_away.as_ref().is_some_and(|it| it.reconnect_delay.is_some()));
    }
    for session in ["a", "b"] {
        assert_eq!(ada.copy(session).props("host"), shown([("x", int(1))]));
    }
}

#[tokio::test]
async fn every_fault_of_the_request_is_named() {
    let service = Service::start().await;
    let mut request = receiving("");
    request.app = "a\nb".to_owned();
    request.options = Some(DeliveryOptions { encoding: 9, ..Default::default() });
    request.resume.insert("one".to_owned(), Resume::default());
    let at = Some(Position { epoch: 1, revision: 1 });
    request.resume.insert("t\two".to_owned(), Resume { position: at, view: 1 });
    let mut refused = service.receive_with(request).await;
    refused.refused().await.blames(&[
        "app",
        "options.encoding",
        "resume[\"one\"].position",
        "resume[\"t\\two\"]",
        "user_id",
    ]);
    service.drain();
    let mut refused = service.receive_with(receiving("ada")).await;
    refused.refused().await.is(Code::Unavailable, "DRAINING");
}
