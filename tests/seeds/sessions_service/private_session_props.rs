//! The fields of PrivateSessionProps, each by its name.

use super::roles;
use crate::{clients::*, support::*};
use sessiond::proto::{self, Role, SessionSettings};
use tonic::Code;

#[tokio::test]
async fn admins_and_moderators_may_see_that_it_exists_and_act_in_it() {
    let service = Service::start().await;
    let request = proto::OpenPrivateSessionRequest {
        roles: roles([("chief", Role::Admin), ("guard", Role::Moderator)]),
        props: props([("x", text("for the listener only"))]),
        ..private_opening("source", "source", "listener")
    };
    let session = open_private(&service, request).await.session_id;
    service.tick();
    for insider in ["chief", "guard"] {
        let info = service.info(&session, insider).await;
        assert_eq!(info.session.expect("it is told").source_id, "source");
    }
    service.update(&session, "chief", &["metadata"], SessionSettings::default()).await;
    let told =
        refused(service.try_update(&session, "guard", &["metadata"], Default::default()).await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW");
    refused(service.try_info(&session, "nobody").await).is(Code::NotFound, "SESSION_NOT_FOUND");
    // The props are for the source and the listener only.
    let read = service.try_updated(&session, "chief", "source", None).await;
    assert!(!format!("{read:?}").contains("for the listener only"));
}

#[tokio::test]
async fn arbitrary_props_and_data() {
    let service = Service::start().await;
    let metadata = props([("theme", text("dark"))]);
    let request = proto::OpenPrivateSessionRequest {
        settings: Some(SessionSettings { metadata, ..Default::default() }),
        data: props([("round", int(1))]),
        ..private_opening("source", "source", "listener")
    };
    let session = open_private(&service, request).await;
    let metadata = session.settings.expect("they are told").metadata;
    assert_eq!(show(&metadata["theme"]), show(&text("dark")));
    service.tick();
    let (id, mut listener) = subscribe_to_user(&service, "listener", "source").await;
    assert_eq!(listener.rebuilt.state.data, shown([("round", int(1))]));
    service.tick_until(&mut listener, |it| it.knows("listener")).await;

    service.set_data(&id, "listener", [("round", int(2))]).await;
    service.set_data(&id, "source", [("more", int(3))]).await;
    let data = shown([("round", int(2)), ("more", int(3))]);
    service.tick_until(&mut listener, |it| it.state.data == data).await;
}
