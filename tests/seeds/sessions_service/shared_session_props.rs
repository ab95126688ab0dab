//! The fields of SharedSessionProps, each by its name.

use super::{micros, roles};
use crate::{clients::*, support::*};
use sessiond::proto::{
    self, EndReason, JoinOptions, Presence, Role, SessionKind, SessionSettings, SnapshotReason,
};
use tonic::Code;

#[tokio::test]
async fn name_is_unique_and_finds_the_session() {
    let service = Service::start().await;
    let named = || SessionSettings { name: "the finals".to_owned(), ..Default::default() };
    service.open_room_with("shared", "ada", named()).await;
    let told = refused(service.try_open(opening("other", "bob", named())).await);
    told.is(Code::AlreadyExists, "NAME_TAKEN");
    let join = proto::JoinSessionRequest {
        name: "the finals".to_owned(),
        user_id: "bob".to_owned(),
        ..Default::default()
    };
    let joined = in_time(service.sessions().join_session(join)).await.expect("it joins");
    assert_eq!(joined.into_inner().session_id, "shared");
}

#[tokio::test]
async fn propnames_select_what_everybody_shows() {
    let service = Service::start().await;
    service.open_room_with("shared", "ada", propnames(&["x"])).await;
    service.join("shared", "bob").await;
    service.set("bob", [("x", int(1)), ("y", int(2))]).await;
    service.tick();
    let ada = service.watch("shared", "ada").await;
    assert_eq!(ada.rebuilt.props("bob"), shown([("x", int(1))]));
}

#[tokio::test]
async fn users_are_in_it_from_the_start() {
    let service = Service::start().await;
    service.set("bob", [("x", int(1))]).await;
    let request = proto::OpenSharedSessionRequest {
        users: vec!["bob".to_owned(), "kim".to_owned()],
        ..opening("shared", "ada", SessionSettings::default())
    };
    service.try_open(request).await.expect("it opens");
    let ada = service.watch("shared", "ada").await;
    assert_eq!(ada.rebuilt.revision, 1, "shown at once");
    assert_eq!(ada.rebuilt.props("bob"), shown([("x", int(1))]));
    assert_eq!(ada.rebuilt.member("kim").role, Role::Member);
    // They stay until they leave.
    service.advance(60_000);
    assert_eq!(service.info("shared", "ada").await.members.len(), 3);
    service.set_in("shared", "kim", [("x", int(2))]).await;
}

#[tokio::test]
async fn host_if_there_is_one_all_users_only_receive_from_its_prop_updates() {
    let service = Service::start().await;
    let settings = SessionSettings { successors: vec!["kim".to_owned()], ..propnames(&["x"]) };
    let request = proto::OpenSharedSessionRequest {
        kind: SessionKind::Hosted.into(),
        users: vec!["ada".to_owned(), "kim".to_owned()],
        ..opening("hosted", "", settings)
    };
    service.try_open(request).await.expect("it opens");
    service.tick();
    let mut ada = service.watch("hosted", "ada").await;
    assert_eq!(ada.rebuilt.session().host_id, "kim");
    service.join("hosted", "bob").await;
    service.set_in("hosted", "bob", [("x", int(1))]).await;
    service.set_in("hosted", "kim", [("x", int(2))]).await;
    service.tick();
    assert_eq!(writes_in(&ada.next_changes().await), ["kim.x=2i"]);
}

#[tokio::test]
async fn hostprops_are_shared_and_the_rest_of_the_hosts_is_hidden() {
    let service = Service::start().await;
    let hostprops = vec!["slide".to_owned()];
    let settings = SessionSettings { hostprops, ..propnames(&["slide", "notes"]) };
    service.open_hosted("hosted", "host", settings).await;
    service.join("hosted", "ada").await;
    service.set_in("hosted", "host", [("slide", int(1)), ("notes", int(2))]).await;
    service.set_in("hosted", "ada", [("slide", int(3)), ("notes", int(4))]).await;
    service.tick();
    let host = service.watch("hosted", "host").await;
    let ada = service.watch("hosted", "ada").await;
    assert_eq!(ada.rebuilt.props("host"), shown([("slide", int(1))]));
    let all = shown([("slide", int(3)), ("notes", int(4))]);
    assert_eq!(host.rebuilt.props("ada"), all, "hosts receive hidden data");
}

#[tokio::test]
async fn admins_moderators_and_spectators_also_before_they_come() {
    let service = Service::start().await;
    let given =
        [("admin", Role::Admin), ("moderator", Role::Moderator), ("spectator", Role::Spectator)];
    let request = proto::OpenSharedSessionRequest {
        roles: roles(given),
        ..opening("shared", "ada", SessionSettings::default())
    };
    service.try_open(request).await.expect("it opens");
    for (user, role) in given {
        assert_eq!(service.join("shared", user).await.role(), role);
    }
    let none = SessionSettings::default;
    service.update("shared", "admin", &["metadata"], none()).await;
    let told = refused(service.try_update("shared", "moderator", &["metadata"], none()).await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW");
    service.join("shared", "bob").await;
    service.try_kick("shared", "moderator", "bob", "").await.expect("moderators may");
    let write = write([("x", int(1))]).in_session("shared");
    let told = refused(service.try_write("spectator", write).await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW");
}

#[tokio::test]
async fn banned_from_the_start() {
    let service = Service::start().await;
    let ban = |user: &str, reason: &str| proto::Ban {
        user_id: user.to_owned(),
        reason: reason.to_owned(),
        until: None,
    };
    let request = proto::OpenSharedSessionRequest {
        bans: vec![ban("eve", "she knows why")],
        ..opening("shared", "ada", SessionSettings::default())
    };
    service.try_open(request).await.expect("it opens");
    let told = refused(service.try_join("shared", "eve", JoinOptions::default()).await);
    told.is(Code::PermissionDenied, "BANNED");
    service.join("shared", "bob").await;
    service.tick();
    assert_eq!(service.info("shared", "ada").await.bans, [ban("eve", "she knows why")]);
    assert_eq!(service.info("shared", "bob").await.bans, [], "moderators see the list");
}

#[tokio::test]
async fn password_opens_the_door() {
    let service = Service::start().await;
    let password = Some("open sesame".to_owned());
    let settings = SessionSettings { password, ..Default::default() };
    service.open_room_with("shared", "ada", settings).await;
    service.tick();
    let join = |password: &str| JoinOptions { password: password.to_owned(), ..Default::default() };
    for wrong in ["", "open barley"] {
        let told = refused(service.try_join("shared", "bob", join(wrong)).await);
        told.is(Code::PermissionDenied, "WRONG_PASSWORD");
    }
    service.try_join("shared", "bob", join("open sesame")).await.expect("it is right");
    let session = service.info("shared", "eve").await.session.expect("it is told");
    assert!(session.has_password);
    let settings = session.settings.expect("they are told");
    assert_eq!(settings.password.unwrap_or_default(), "");
    // Another one, and none.
    let to = SessionSettings { password: Some("barley".to_owned()), ..Default::default() };
    service.update("shared", "ada", &["password"], to).await;
    let told = refused(service.try_join("shared", "eve", join("open sesame")).await);
    told.is(Code::PermissionDenied, "WRONG_PASSWORD");
    service.update("shared", "ada", &["password"], SessionSettings::default()).await;
    service.try_join("shared", "eve", join("")).await.expect("none is needed");
}

#[tokio::test]
async fn owner_id_is_who_opened_it_until_it_is_passed_on() {
    let service = Service::start().await;
    service.open_room("shared", "ada").await;
    service.join("shared", "bob").await;
    service.tick();
    let owner = async || service.info("shared", "").await.session.map(|it| it.owner_id);
    assert_eq!(owner().await.as_deref(), Some("ada"));
    service.leave("shared", "ada").await;
    service.tick();
    assert_eq!(owner().await.as_deref(), Some("bob"));
    let request = proto::OpenSharedSessionRequest {
        roles: roles([("kim", Role::Owner)]),
        ..opening("given", "", SessionSettings::default())
    };
    let opened = service.try_open(request).await.expect("the app may").session;
    assert_eq!(opened.expect("it is told").owner_id, "kim");
}

#[tokio::test]
async fn onopen_onmessage_onclose() {
    let service = Service::start().await;
    service.open_room("shared", "ada").await;
    let mut ada = service.watch("shared", "ada").await;
    assert_eq!(ada.rebuilt.session().session_id, "shared", "onopen: the session");
    service.set_in("shared", "ada", [("x", int(1))]).await;
    service.tick();
    assert_eq!(writes_in(&ada.next_changes().await), ["ada.x=1i"]);
    service.try_delete("shared", "ada").await.expect("she owns it");
    service.tick();
    ada.end().await.is_ok(EndReason::Deleted);
}

#[tokio::test]
async fn arbitrary_settings() {
    let service = Service::start().await;
    let metadata = props([("anything", map([("at", list(vec![int(1)]))]))]);
    let settings = SessionSettings { metadata: metadata.clone(), ..Default::default() };
    service.open_room_with("shared", "ada", settings).await;
    let session = service.info("shared", "eve").await.session.expect("it is told");
    let told = session.settings.expect("they are told").metadata;
    assert_eq!(show(&told["anything"]), show(&metadata["anything"]));
}

#[tokio::test]
async fn data_shared_is_for_all_and_data_private_for_the_host() {
    let service = Service::start().await;
    service.open_hosted("hosted", "host", SessionSettings::default()).await;
    service.join("hosted", "ada").await;
    service.set_data("hosted", "ada", [("round", int(1))]).await;
    service.set_private_data("hosted", "host", [("seed", int(2))]).await;
    service.tick();
    let host = service.watch("hosted", "host").await;
    let ada = service.watch("hosted", "ada").await;
    for view in [&host, &ada] {
        assert_eq!(view.rebuilt.state.data, shown([("round", int(1))]));
    }
    assert_eq!(host.rebuilt.state.private_data, shown([("seed", int(2))]));
    assert_eq!(ada.rebuilt.state.private_data, shown([]));
    let request = proto::SetSessionDataRequest {
        private_set: props([("seed", int(3))]),
        ..data_of("hosted", "ada")
    };
    let told = refused(service.try_set_data(request).await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW").says("needs", "host");
}

#[tokio::test]
async fn data_private_is_for_the_owner_where_there_is_no_host() {
    let service = Service::start().await;
    service.open_room("shared", "ada").await;
    service.join("shared", "bob").await;
    service.set_private_data("shared", "ada", [("seed", int(2))]).await;
    service.tick();
    let ada = service.watch("shared", "ada").await;
    let bob = service.watch("shared", "bob").await;
    assert_eq!(ada.rebuilt.state.private_data, shown([("seed", int(2))]));
    assert_eq!(bob.rebuilt.state.private_data, shown([]));
}

#[tokio::test]
async fn last_transmit_is_the_time_of_the_last_frame() {
    let service = Service::start().await;
    service.open_room("shared", "ada").await;
    let last = async || {
        let info = service.info("shared", "ada").await.session.expect("it is told");
        micros(info.last_frame_at)
    };
    assert_eq!(last().await, 0, "the opening is the first frame");
    service.advance(500);
    assert_eq!(last().await, 0, "nothing changed");
    service.set_in("shared", "ada", [("x", int(1))]).await;
    service.tick();
    assert!((500_000..=510_000).contains(&last().await));
    let listed = service.try_list(proto::ListSessionsRequest::default()).await;
    let listed = listed.expect("it lists").sessions.remove(0);
    assert_eq!(micros(listed.last_frame_at), last().await);
}

#[tokio::test]
async fn users_come_and_go_and_come_back_without_losing_their_place() {
    let service = Service::start().await;
    let grace = SessionSettings { rejoin_grace: Some(ms(5_000)), ..Default::default() };
    service.open_room_with("shared", "ada", grace).await;
    let mut ada = service.watch("shared", "ada").await;
    let tied = JoinOptions { presence: Presence::Tied.into(), ..Default::default() };
    service.try_join("shared", "bob", tied).await.expect("it joins");
    service.set_in("shared", "bob", [("x", int(1))]).await;
    let bob = service.watch("shared", "bob").await;
    service.tick();
    ada.next_changes().await;
    let before = bob.rebuilt.again();
    drop(bob);
    service.tick_until(&mut ada, |it| it.member("bob").disconnected).await;
    let mut bob = service.resume(subscription("shared", "bob"), &before).await;
    assert!(matches!(
        bob.next().await,
        Step::Changes { .. } | Step::Snapshot(SnapshotReason::ViewChanged)
    ));
    service.tick_until(&mut ada, |it| !it.member("bob").disconnected).await;
    assert_eq!(ada.rebuilt.props("bob"), shown([("x", int(1))]));
}
