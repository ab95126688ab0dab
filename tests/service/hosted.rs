//! Hosted sessions: members see the host, the host sees all.

use crate::support::*;
use sessiond::proto::{Role, SessionSettings, SnapshotReason};
use tonic::Code;

fn show_and_tell() -> SessionSettings {
    SessionSettings {
        propnames: vec!["slide".to_owned(), "mood".to_owned(), "hidden".to_owned()],
        hostprops: vec!["slide".to_owned(), "title".to_owned()],
        ..Default::default()
    }
}

#[tokio::test]
async fn members_see_only_the_hosts_hostprops_and_the_host_sees_all_propnames() {
    let service = Service::start().await;
    service.open_hosted("lecture", "host", show_and_tell()).await;
    service.join("lecture", "ada").await;
    service.join("lecture", "bob").await;
    service.tick();
    let mut host = service.watch("lecture", "host").await;
    let mut ada = service.watch("lecture", "ada").await;
    let mut app = service.watch("lecture", "").await;
    let all = [
        ("slide", int(1)),
        ("title", text("on")),
        ("mood", int(2)),
        ("hidden", int(3)),
        ("else", int(4)),
    ];
    service.set_in("lecture", "host", all.clone()).await;
    service.set_in("lecture", "bob", all).await;
    service.tick();
    ada.next_changes().await;
    assert_eq!(ada.rebuilt.props("host"), shown([("slide", int(1)), ("title", text("on"))]));
    assert_eq!(ada.rebuilt.props("bob"), shown([]), "no member's props reach another member");
    let selected = shown([("slide", int(1)), ("mood", int(2)), ("hidden", int(3))]);
    let mut of_host = selected.clone();
    of_host.extend(shown([("title", text("on"))]));
    for insider in [&mut host, &mut app] {
        insider.next_changes().await;
        assert_eq!(insider.rebuilt.props("bob"), selected);
        assert_eq!(insider.rebuilt.props("host"), of_host);
    }
    for (user, known) in [("ada", &ada), ("host", &host)] {
        let late = service.watch("lecture", user).await;
        assert_eq!(late.rebuilt.state, known.rebuilt.state, "{user}");
    }
    // What members do is silent for members.
    service.set_in("lecture", "bob", [("mood", int(9))]).await;
    service.tick();
    host.next_changes().await;
    service.set_in("lecture", "host", [("slide", int(2))]).await;
    service.tick();
    let revision = service.revision("lecture").await;
    assert_eq!(ada.next_span().await, (revision - 2, revision));
}

#[tokio::test]
async fn without_hostprops_members_see_the_hosts_propnames() {
    let service = Service::start().await;
    service.open_hosted("lecture", "host", propnames(&["slide"])).await;
    service.join("lecture", "ada").await;
    service.set_in("lecture", "host", [("slide", int(1)), ("else", int(2))]).await;
    service.tick();
    let ada = service.watch("lecture", "ada").await;
    assert_eq!(ada.rebuilt.props("host"), shown([("slide", int(1))]));
}

#[tokio::test]
async fn when_the_host_leaves_the_next_takes_over_with_its_props() {
    let service = Service::start().await;
    service.open_hosted("lecture", "host", show_and_tell()).await;
    service.join("lecture", "ada").await;
    service.join("lecture", "bob").await;
    service.set_in("lecture", "host", [("slide", int(1)), ("title", text("one"))]).await;
    service.set_in("lecture", "ada", [("slide", int(5)), ("mood", int(6))]).await;
    service.set_private_data("lecture", "host", [("notes", text("n"))]).await;
    service.tick();
    let mut host = service.watch("lecture", "host").await;
    let mut ada = service.watch("lecture", "ada").await;
    let mut bob = service.watch("lecture", "bob").await;
    assert_eq!(bob.rebuilt.session().term, 1);
    service.leave("lecture", "host").await;
    service.tick();

    bob.next_changes().await;
    assert_eq!(bob.rebuilt.session().host_id, "ada");
    assert_eq!(bob.rebuilt.session().term, 2);
    assert!(!bob.rebuilt.knows("host"));
    let of_host = shown([("slide", int(5)), ("title", text("one"))]);
    assert_eq!(bob.rebuilt.props("ada"), of_host, "what she had not set herself she inherits");

    assert_eq!(ada.next_snapshot().await, SnapshotReason::ViewChanged);
    assert_eq!(ada.rebuilt.session().host_id, "ada");
    assert_eq!(ada.rebuilt.props("ada")["mood"], show(&int(6)));
    assert_eq!(ada.rebuilt.state.private_data, shown([("notes", text("n"))]));
    host.end().await.is_ok(sessiond::proto::EndReason::Left);

    assert_eq!(service.watch("lecture", "bob").await.rebuilt.state, bob.rebuilt.state);
    assert_eq!(service.watch("lecture", "ada").await.rebuilt.state, ada.rebuilt.state);
    service.set_in("lecture", "ada", [("slide", int(7))]).await;
    service.tick();
    bob.next_changes().await;
    ada.next_changes().await;
    assert_eq!(bob.rebuilt.props("ada")["slide"], show(&int(7)));
}

#[tokio::test]
async fn a_lost_host_is_replaced_and_both_get_view_changed() {
    let service = Service::start().await;
    let settings = SessionSettings {
        rejoin_grace: Some(ms(60_000)),
        inherit_host_data: Some(false),
        ..show_and_tell()
    };
    service.open_hosted("lecture", "host", settings).await;
    service.join("lecture", "ada").await;
    service.join("lecture", "bob").await;
    service.set_in("lecture", "host", [("slide", int(1))]).await;
    service.set_in("lecture", "bob", [("mood", int(3))]).await;
    service.tick();
    let mut ada = service.watch("lecture", "ada").await;
    let mut bob = service.watch("lecture", "bob").await;
    // The host becomes tied to a stream, which it loses.
    let host = service.watch_with(tied("lecture", "host")).await;
    drop(host);
    service.tick_until(&mut bob, |it| it.session().host_id == "ada").await;
    assert!(bob.rebuilt.member("host").disconnected);
    assert_eq!(bob.rebuilt.props("host"), shown([]), "it is not the host any more");
    assert_eq!(bob.rebuilt.props("ada"), shown([]), "nothing is inherited");
    assert_eq!(ada.next_snapshot().await, SnapshotReason::ViewChanged);
    assert_eq!(ada.rebuilt.props("bob"), shown([("mood", int(3))]));

    // It comes back as a member like others, and gets the view of one.
    let mut host = service.watch("lecture", "host").await;
    assert_eq!(host.rebuilt.session().host_id, "ada", "it does not get the place back");
    assert_eq!(host.rebuilt.props("bob"), shown([]));
    service.tick();
    host.next_changes().await;
    bob.next_changes().await;
    assert!(!bob.rebuilt.member("host").disconnected);
}

#[tokio::test]
async fn the_old_host_gets_a_snapshot_of_what_it_sees_now() {
    let service = Service::start().await;
    let settings = SessionSettings { rejoin_grace: Some(ms(60_000)), ..show_and_tell() };
    service.open_hosted("lecture", "host", settings).await;
    service.join("lecture", "ada").await;
    service.set_in("lecture", "ada", [("mood", int(3))]).await;
    service.tick();
    let before = service.watch("lecture", "host").await.rebuilt;
    let mut ada = service.watch("lecture", "ada").await;
    drop(service.watch_with(tied("lecture", "host")).await);
    service.tick_until(&mut ada, |it| it.session().host_id == "ada").await;
    let mut host = service.resume(subscription("lecture", "host"), &before).await;
    assert_eq!(host.next_snapshot().await, SnapshotReason::ViewChanged);
    assert_eq!(host.rebuilt.props("ada"), shown([]), "moods are for hosts");
}

#[tokio::test]
async fn the_next_host_is_the_first_successor_then_the_owner_then_the_first_member() {
    let service = Service::start().await;
    let successors = vec!["not here".to_owned(), "kim".to_owned()];
    let settings = SessionSettings { successors, ..Default::default() };
    service.open_hosted("lecture", "owner", settings).await;
    for user in ["ada", "bob", "kim"] {
        service.join("lecture", user).await;
    }
    service.spectate("lecture", "spectator").await;
    service.tick();
    let mut watcher = service.watch("lecture", "spectator").await;
    assert_eq!(watcher.rebuilt.session().host_id, "owner", "who hosts goes on hosting");
    let mut hosts = Vec::new();
    // The owner keeps the role and comes back, so that it is there when kim goes.
    service.try_leave("lecture", "owner", true).await.expect("it leaves");
    service.tick();
    watcher.next_changes().await;
    hosts.push(watcher.rebuilt.session().host_id.clone());
    service.join("lecture", "owner").await;
    service.tick();
    watcher.next_changes().await;
    assert_eq!(watcher.rebuilt.member("owner").role, Role::Owner);
    for _ in 0..3 {
        let host = watcher.rebuilt.session().host_id.clone();
        service.leave("lecture", &host).await;
        service.tick();
        watcher.next_changes().await;
        hosts.push(watcher.rebuilt.session().host_id.clone());
    }
    assert_eq!(hosts, ["kim", "owner", "ada", "bob"]);
    service.leave("lecture", "bob").await;
    service.tick();
    watcher.next_changes().await;
    assert_eq!(watcher.rebuilt.session().host_id, "", "a spectator is no host");
    assert_eq!(watcher.rebuilt.session().term, 5);
    service.join("lecture", "late").await;
    service.tick();
    watcher.next_changes().await;
    assert_eq!(watcher.rebuilt.session().host_id, "late");
    assert_eq!(watcher.rebuilt.session().term, 6);
}

#[tokio::test]
async fn host_grace_keeps_the_place_of_a_lost_host() {
    let service = Service::start().await;
    let settings = SessionSettings {
        host_grace: Some(ms(5_000)),
        rejoin_grace: Some(ms(60_000)),
        ..Default::default()
    };
    service.open_hosted("lecture", "host", settings).await;
    service.join("lecture", "ada").await;
    service.tick();
    let mut ada = service.watch("lecture", "ada").await;
    for comes_back in [true, false] {
        drop(service.watch_with(tied("lecture", "host")).await);
        service.tick_until(&mut ada, |it| it.member("host").disconnected).await;
        service.advance(4_980);
        assert_eq!(service.info("lecture", "ada").await.session.map(|it| it.term), Some(1));
        if comes_back {
            service.join("lecture", "host").await;
            service.tick();
            ada.next_changes().await;
            service.advance(10_000);
            assert_eq!(service.info("lecture", "ada").await.session.map(|it| it.term), Some(1));
        }
    }
    service.advance(30);
    assert_eq!(ada.next_snapshot().await, SnapshotReason::ViewChanged);
    let session = ada.rebuilt.session();
    assert_eq!((&*session.host_id, session.term), ("ada", 2));
}

#[tokio::test]
async fn a_host_that_leaves_is_replaced_without_grace() {
    let service = Service::start().await;
    let settings = SessionSettings { host_grace: Some(ms(5_000)), ..Default::default() };
    service.open_hosted("lecture", "host", settings).await;
    service.join("lecture", "ada").await;
    service.leave("lecture", "host").await;
    service.tick();
    let session = service.info("lecture", "ada").await.session.expect("it is told");
    assert_eq!((&*session.host_id, session.term), ("ada", 2));
}

#[tokio::test]
async fn a_write_of_an_older_term_is_refused() {
    let service = Service::start().await;
    service.open_hosted("lecture", "host", SessionSettings::default()).await;
    service.join("lecture", "ada").await;
    service.leave("lecture", "host").await;
    service.tick();
    for (term, is_fine) in [(1, false), (2, true), (3, false), (0, true)] {
        let write = sessiond::proto::PropsWrite { term, ..write([("x", int(term as i64))]) };
        let answer = service.try_write("ada", write.in_session("lecture")).await;
        let of_data = sessiond::proto::SetSessionDataRequest {
            term,
            set: props([("x", int(1))]),
            ..data_of("lecture", "ada")
        };
        let data = service.try_set_data(of_data).await;
        if is_fine {
            answer.expect("the term is right");
            data.expect("the term is right");
        } else {
            let told = refused(answer).is(Code::FailedPrecondition, "STALE_TERM");
            told.says("term", "2");
            refused(data).is(Code::FailedPrecondition, "STALE_TERM");
        }
    }
}

#[tokio::test]
async fn private_data_is_for_the_host_and_the_app() {
    let service = Service::start().await;
    service.open_hosted("lecture", "host", SessionSettings::default()).await;
    service.join("lecture", "ada").await;
    service.set_private_data("lecture", "host", [("notes", int(1))]).await;
    service.tick();
    let private = |user: &str| sessiond::proto::SetSessionDataRequest {
        private_set: props([("notes", int(2))]),
        set: props([("round", int(2))]),
        ..data_of("lecture", user)
    };
    let told = refused(service.try_set_data(private("ada")).await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW").says("needs", "host");
    service.tick();
    let host = service.watch("lecture", "host").await;
    let ada = service.watch("lecture", "ada").await;
    let app = service.watch("lecture", "").await;
    assert_eq!(host.rebuilt.state.private_data, shown([("notes", int(1))]));
    assert_eq!(app.rebuilt.state.private_data, shown([("notes", int(1))]));
    assert_eq!(ada.rebuilt.state.private_data, shown([]));
    assert_eq!(ada.rebuilt.state.data, shown([]), "all or nothing");
}
