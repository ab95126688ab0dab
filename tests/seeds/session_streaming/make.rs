//! makeHost, and what its comment lists after it.

use super::*;

#[tokio::test]
async fn make_host_is_the_user_to_make_host_of_the_session() {
    let service = Service::start().await;
    let hostroom = create_session("host", SessionKind::Hosted, &["key1"]);
    service.try_open(hostroom).await.expect("it opens");
    service.join_with("session", "ada", [("key1", int(1))]).await;
    service.join_with("session", "bob", [("key1", int(2))]).await;
    service.tick();
    let mut host = service.watch("session", "host").await;
    let mut ada = service.watch("session", "ada").await;
    let mut bob = service.watch("session", "bob").await;
    let told = refused(service.try_swap_host("session", "bob", "bob", 0).await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW");
    let swapped = service.try_swap_host("session", "host", "ada", 0).await.expect("it may");
    assert_eq!((&*swapped.host_id, swapped.term), ("ada", 2));
    service.tick();
    assert_eq!(host.next_snapshot().await, SnapshotReason::ViewChanged);
    assert_eq!(ada.next_snapshot().await, SnapshotReason::ViewChanged);
    bob.next_changes().await;
    assert_eq!(bob.rebuilt.session().host_id, "ada");
    assert_eq!(bob.rebuilt.props("ada"), shown([("key1", int(1))]));
    assert_eq!(ada.rebuilt.props("bob"), shown([("key1", int(2))]));
    assert_eq!(host.rebuilt.props("bob"), shown([]), "it is a user like others now");
}

/// What bob's role comes to be, by a call of somebody's.
async fn makes(service: &Service, ada: &mut Watcher, by: &str, role: Role) {
    service.set_role("session", by, "bob", role).await;
    service.tick();
    match ada.next().await {
        Step::Changes { .. } | Step::Snapshot(SnapshotReason::ViewChanged) => {}
        other => panic!("everybody hears of it: {other:?}"),
    }
    assert_eq!(ada.rebuilt.member("bob").role, role);
}

#[tokio::test]
async fn make_admin_and_remove_admin() {
    let service = Service::start().await;
    let (mut ada, _other) = room_of_two(&service).await;
    let locked = || SessionSettings { locked: Some(true), ..Default::default() };
    refused(service.try_update("session", "bob", &["locked"], locked()).await)
        .is(Code::PermissionDenied, "ROLE_TOO_LOW");
    makes(&service, &mut ada, "ada", Role::Admin).await;
    service.update("session", "bob", &["locked"], locked()).await;
    service.tick();
    ada.next_changes().await;
    makes(&service, &mut ada, "ada", Role::Member).await;
    refused(service.try_update("session", "bob", &["locked"], locked()).await)
        .is(Code::PermissionDenied, "ROLE_TOO_LOW");
}

#[tokio::test]
async fn make_moderator_and_remove_moderator() {
    let service = Service::start().await;
    let (mut ada, _other) = room_of_two(&service).await;
    service.join("session", "eve").await;
    service.tick();
    ada.next_changes().await;
    makes(&service, &mut ada, "ada", Role::Moderator).await;
    service.try_kick("session", "bob", "eve", "").await.expect("moderators may");
    service.tick();
    ada.next_changes().await;
    makes(&service, &mut ada, "ada", Role::Member).await;
    service.join("session", "eve").await;
    refused(service.try_kick("session", "bob", "eve", "").await)
        .is(Code::PermissionDenied, "ROLE_TOO_LOW");
}

#[tokio::test]
async fn make_owner_passes_the_session_on() {
    let service = Service::start().await;
    let (mut ada, _other) = room_of_two(&service).await;
    makes(&service, &mut ada, "ada", Role::Owner).await;
    assert_eq!(ada.rebuilt.session().owner_id, "bob");
    assert_eq!(ada.rebuilt.member("ada").role, Role::Admin, "the former owner becomes admin");
    let told = refused(service.try_delete("session", "ada").await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW");
    service.try_delete("session", "bob").await.expect("he owns it");
}

#[tokio::test]
async fn ban_user_and_unban_user() {
    let service = Service::start().await;
    let (mut ada, mut bob) = room_of_two(&service).await;
    let told = refused(service.try_ban("session", "bob", "ada").await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW");
    service.try_ban("session", "ada", "bob").await.expect("she may");
    let late = service.try_write("bob", write([("key1", int(9))]).in_session("session")).await;
    assert!(late.is_err(), "from the answer on no write of his is accepted");
    service.tick();
    bob.end().await.is(EndReason::Banned, Code::PermissionDenied);
    assert_eq!(ada.next_changes().await.left[0].reason(), DepartureReason::Banned);
    let told = refused(service.try_join("session", "bob", JoinOptions::default()).await);
    told.is(Code::PermissionDenied, "BANNED");
    service.try_unban("session", "ada", "bob").await.expect("he was banned");
    service.join("session", "bob").await;
}

#[tokio::test]
async fn nobody_makes_somebody_of_the_same_or_a_higher_rank_something_else() {
    let service = Service::start().await;
    room_of_two(&service).await;
    service.join("session", "eve").await;
    service.set_role("session", "ada", "bob", Role::Admin).await;
    service.set_role("session", "ada", "eve", Role::Admin).await;
    for (target, role) in [("ada", Role::Member), ("eve", Role::Member)] {
        let told = refused(service.try_set_role("session", "bob", target, role).await);
        told.is(Code::PermissionDenied, "TARGET_RANK");
    }
    let told = refused(service.try_set_role("session", "bob", "bob", Role::Owner).await);
    assert_eq!(told.code, Code::PermissionDenied);
}
