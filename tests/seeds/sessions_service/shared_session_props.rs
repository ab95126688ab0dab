//! The fields of SharedSessionProps, each by its name.

use crate::{clients::*, support::*};
use sessiond::proto::{self, JoinOptions, SessionKind, SessionSettings};
use tonic::Code;

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
