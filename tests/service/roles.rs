//! Who may do what.

use crate::support::*;
use sessiond::proto::{Role, SessionSettings, SubscribeToSessionRequest};
use tonic::Code;

#[tokio::test]
async fn only_the_owner_and_the_app_change_and_delete_a_session() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    service.spectate("finals", "spy").await;
    let locked = || SessionSettings { locked: Some(true), ..Default::default() };
    for user in ["bob", "spy", "outsider"] {
        let told = refused(service.try_update("finals", user, &["locked"], locked()).await);
        told.is(Code::PermissionDenied, "ROLE_TOO_LOW").says("needs", "admin");
        let told = refused(service.try_delete("finals", user).await);
        told.is(Code::PermissionDenied, "ROLE_TOO_LOW").says("needs", "owner");
    }
    service.update("finals", "", &["locked"], locked()).await;
    service.tick();
    let info = service.info("finals", "bob").await;
    let settings = info.session.and_then(|it| it.settings).expect("it is told");
    assert_eq!(settings.locked, Some(true));
    service.update("finals", "ada", &["locked"], SessionSettings::default()).await;
    service.try_delete("finals", "ada").await.expect("she owns it");
    service.open_room("finals", "ada").await;
    service.try_delete("finals", "").await.expect("the app may everything");
}

#[tokio::test]
async fn session_data_is_written_from_the_data_role_on() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    let data = |user: &str| {
        let mut request = data_of("finals", user);
        request.set = props([("round", text(user))]);
        request
    };
    service.try_set_data(data("bob")).await.expect("members write by default");
    let told = refused(service.try_set_data(data("outsider")).await);
    told.is(Code::FailedPrecondition, "NOT_A_MEMBER");
    for (role, needs) in [(Role::Owner, "owner"), (Role::Admin, "admin")] {
        let settings = SessionSettings { data_role: role.into(), ..Default::default() };
        service.update("finals", "ada", &["data_role"], settings).await;
        let told = refused(service.try_set_data(data("bob")).await);
        told.is(Code::PermissionDenied, "ROLE_TOO_LOW").says("needs", needs);
        service.try_set_data(data("ada")).await.expect("the owner may");
        service.try_set_data(data("")).await.expect("the app may everything");
    }
    let spectators = SessionSettings { data_role: Role::Spectator.into(), ..Default::default() };
    let answer = service.try_update("finals", "ada", &["data_role"], spectators).await;
    refused(answer).blames(&["settings.data_role"]);
}

#[tokio::test]
async fn private_data_of_a_room_is_written_by_its_owner() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    let mut request = data_of("finals", "bob");
    request.private_set = props([("seed", int(1))]);
    let told = refused(service.try_set_data(request).await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW").says("needs", "owner");
    service.set_private_data("finals", "ada", [("seed", int(1))]).await;
}

#[tokio::test]
async fn who_has_not_joined_subscribes_only_by_joining() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    let told = service.refused_watch(subscription("finals", "bob")).await;
    told.is(Code::FailedPrecondition, "NOT_A_MEMBER");
    let mut stream = service.open_stream(stream_open("finals", "bob")).await;
    stream.refused().await.is(Code::FailedPrecondition, "NOT_A_MEMBER");
    service.tick();
    assert_eq!(service.revision("finals").await, 1, "nothing changed");
    let bob = service.watch_joining("finals", "bob").await;
    service.tick();
    assert_eq!(service.info("finals", "").await.members.len(), 2);
    drop(bob);
}

#[tokio::test]
async fn who_owned_a_session_and_keeps_the_role_administers_it_from_outside() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    service.try_leave("finals", "ada", true).await.expect("it leaves");
    service.tick();
    let told = service.refused_watch(subscription("finals", "ada")).await;
    told.is(Code::FailedPrecondition, "NOT_A_MEMBER");
    let answer = service.try_write("ada", write([("x", int(1))]).in_session("finals")).await;
    refused(answer).is(Code::FailedPrecondition, "NOT_A_MEMBER");
    service.try_delete("finals", "ada").await.expect("she still owns it");
}

#[tokio::test]
async fn joining_again_changes_no_role() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    service.spectate("finals", "spy").await;
    assert_eq!(service.join("finals", "ada").await.role(), Role::Owner);
    assert_eq!(service.spectate("finals", "ada").await.role(), Role::Owner);
    assert_eq!(service.join("finals", "spy").await.role(), Role::Spectator);
    let join = sessiond::proto::JoinOptions { props: props([("x", int(1))]), ..Default::default() };
    let spectator = sessiond::proto::JoinOptions { spectator: true, ..join.clone() };
    refused(service.try_join("finals", "new spy", spectator).await).blames(&["join.props"]);
    for member in ["ada", "spy"] {
        service.try_join("finals", member, join.clone()).await.expect("first props do not count");
    }
    service.tick();
    let ada = service.watch("finals", "ada").await;
    assert_eq!(ada.rebuilt.props("ada"), shown([]));
    assert_eq!(ada.rebuilt.order, ["ada", "spy"]);
}

#[tokio::test]
async fn a_spectator_receives_what_a_member_receives() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    let join = sessiond::proto::JoinOptions { spectator: true, ..Default::default() };
    let request = SubscribeToSessionRequest { join: Some(join), ..subscription("finals", "spy") };
    let mut spy = service.watch_with(request).await;
    let mut bob = service.watch("finals", "bob").await;
    service.set_in("finals", "ada", [("x", int(1))]).await;
    service.set_private_data("finals", "ada", [("seed", int(1))]).await;
    service.tick();
    spy.next_changes().await;
    bob.next_changes().await;
    assert_eq!(spy.rebuilt.state, bob.rebuilt.state);
}
