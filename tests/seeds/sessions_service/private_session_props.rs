//! The fields of PrivateSessionProps, each by its name.

use super::{micros, roles};
use crate::{clients::*, support::*};
use sessiond::proto::{self, EndReason, JoinOptions, Role, SessionKind, SessionSettings};
use tonic::Code;

#[tokio::test]
async fn id_is_given_or_generated() {
    let service = Service::start().await;
    let generated = open_private(&service, private_opening("a", "a", "b")).await;
    assert!(!generated.session_id.is_empty());
    let given = proto::OpenPrivateSessionRequest {
        session_id: "mine".to_owned(),
        ..private_opening("a", "a", "c")
    };
    assert_eq!(open_private(&service, given).await.session_id, "mine");
    let taken = proto::OpenPrivateSessionRequest {
        session_id: "mine".to_owned(),
        ..private_opening("a", "a", "d")
    };
    let told = refused(try_open_private(&service, taken).await);
    told.is(Code::AlreadyExists, "SESSION_EXISTS");
}

#[tokio::test]
async fn listener_and_source() {
    let service = Service::start().await;
    let session = open_private(&service, private_opening("", "source", "listener")).await;
    assert_eq!((&*session.source_id, &*session.listener_id), ("source", "listener"));
    assert_eq!(session.kind(), SessionKind::Private);
    service.set_in(&session.session_id, "source", [("x", int(1))]).await;
    service.tick();
    let listener = service.watch(&session.session_id, "listener").await;
    assert_eq!(listener.rebuilt.props("source"), shown([("x", int(1))]));
    // The listener's props are not shown: the stream goes one way.
    service.set("listener", [("x", int(2))]).await;
    service.tick();
    let source = service.watch(&session.session_id, "source").await;
    assert_eq!(source.rebuilt.props("source"), shown([("x", int(1))]));
    for view in [&source, &listener] {
        let of_listener = view.rebuilt.state.members.get("listener");
        assert!(of_listener.is_none_or(|it| it.props.is_empty()), "{of_listener:?}");
    }
}

#[tokio::test]
async fn who_opens_it_says_both() {
    let service = Service::start().await;
    let told = refused(try_open_private(&service, private_opening("", "", "")).await);
    told.blames(&["source_id", "listener_id"]);
}

#[tokio::test]
async fn propnames_select_the_keys_of_the_source() {
    let service = Service::start().await;
    service.set("source", [("x", int(1)), ("y", int(1)), ("z", int(1))]).await;
    let request = proto::OpenPrivateSessionRequest {
        settings: Some(propnames(&["x", "y"])),
        ..private_opening("source", "source", "listener")
    };
    let session = open_private(&service, request).await;
    service.tick();
    let (_, mut listener) = subscribe_to_user(&service, "listener", "source").await;
    assert_eq!(listener.rebuilt.props("source"), shown([("x", int(1)), ("y", int(1))]));
    service.update(&session.session_id, "source", &["propnames"], propnames(&["z"])).await;
    service.tick_until(&mut listener, |it| it.props("source") == shown([("z", int(1))])).await;
}

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
async fn password_is_refused_as_only_source_and_listener_may_join_anyway() {
    let service = Service::start().await;
    let password = Some("open sesame".to_owned());
    let request = proto::OpenPrivateSessionRequest {
        settings: Some(SessionSettings { password, ..Default::default() }),
        ..private_opening("source", "source", "listener")
    };
    refused(try_open_private(&service, request).await).blames(&["settings.password"]);
    let session = open_private(&service, private_opening("", "source", "listener")).await;
    assert!(!session.has_password);
    let join = JoinOptions { password: "open sesame".to_owned(), ..Default::default() };
    let told = refused(service.try_join(&session.session_id, "somebody", join).await);
    told.is(Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn owner_id_is_the_source_unless_the_app_says_otherwise() {
    let service = Service::start().await;
    let own = open_private(&service, private_opening("source", "source", "one")).await;
    assert_eq!(own.owner_id, "source");
    let listeners = open_private(&service, private_opening("two", "source", "two")).await;
    assert_eq!(listeners.owner_id, "source");
    let request = proto::OpenPrivateSessionRequest {
        roles: roles([("boss", Role::Owner)]),
        ..private_opening("", "source", "three")
    };
    let given = open_private(&service, request.clone()).await;
    assert_eq!(given.owner_id, "boss");
    let by_user = proto::OpenPrivateSessionRequest {
        user_id: "source".to_owned(),
        listener_id: "four".to_owned(),
        ..request
    };
    let told = refused(try_open_private(&service, by_user).await);
    assert_eq!(told.code, Code::InvalidArgument);
}

#[tokio::test]
async fn onopen_onmessage_onclose() {
    let service = Service::start().await;
    let (id, mut listener) = subscribe_to_user(&service, "listener", "source").await;
    assert_eq!(listener.rebuilt.session().source_id, "source", "onopen: the session");
    service.tick_until(&mut listener, |it| it.knows("source") && it.knows("listener")).await;
    service.set_in(&id, "source", [("x", int(1))]).await;
    service.tick();
    let message = listener.next_changes().await;
    assert_eq!(writes_in(&message), ["source.x=1i"]);
    service.try_delete(&id, "").await.expect("the app may");
    service.tick();
    listener.end().await.is_ok(EndReason::Deleted);
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

#[tokio::test]
async fn last_transmit_is_the_time_of_the_last_frame() {
    let service = Service::start().await;
    let session = open_private(&service, private_opening("source", "source", "listener")).await;
    let id = session.session_id;
    service.advance(500);
    service.set_in(&id, "source", [("x", int(1))]).await;
    service.tick();
    let info = service.info(&id, "source").await.session.expect("it is told");
    assert!((500_000..=510_000).contains(&micros(info.last_frame_at)));
}
