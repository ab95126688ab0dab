//! How sessions, names and users come and go.

use crate::support::*;
use sessiond::proto::{
    EndReason, JoinOptions, OpenSharedSessionRequest, SessionSettings, StreamOpen,
    session_service_client::SessionServiceClient,
};
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::Code;

fn named(name: &str) -> SessionSettings {
    SessionSettings { name: name.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_session_goes_with_its_last_member() {
    let service = Service::with_room().await;
    let mut app = service.watch("finals", "").await;
    service.leave("finals", "ada").await;
    refused(service.try_info("finals", "").await).is(Code::NotFound, "SESSION_NOT_FOUND");
    app.end().await.is_ok(EndReason::Deleted);
    assert!(!app.rebuilt.knows("ada"), "the last frame goes out before the end");
}

#[tokio::test]
async fn a_session_ends_at_its_max_age() {
    let service = Service::start().await;
    let settings = SessionSettings { max_age: Some(ms(60_000)), ..Default::default() };
    service.open_room_with("finals", "ada", settings).await;
    service.open_room("endless", "ada").await;
    let mut ada = service.watch("finals", "ada").await;
    service.advance(59_999);
    service.info("finals", "").await;
    service.advance(1);
    service.tick();
    refused(service.try_info("finals", "").await).is(Code::NotFound, "SESSION_NOT_FOUND");
    ada.end().await.is_ok(EndReason::Deleted);
    service.info("endless", "").await;
}

#[tokio::test]
async fn deleting_ends_all_streams_with_deleted_after_what_was_accepted() {
    let service = Service::with_room_of_two().await;
    let mut ada = service.watch("finals", "ada").await;
    let mut bob = service.stream("finals", "bob").await;
    service.set_in("finals", "ada", [("x", int(1))]).await;
    service.try_delete("finals", "ada").await.expect("it is deleted");
    ada.end().await.is_ok(EndReason::Deleted);
    bob.end().await.is_ok(EndReason::Deleted);
    for rebuilt in [&ada.rebuilt, &bob.rebuilt] {
        assert_eq!(rebuilt.props("ada"), shown([("x", int(1))]));
        assert_eq!(rebuilt.revision, 3);
    }
    let results = service.set("ada", [("x", int(2))]).await;
    assert_eq!(results, [], "she is in no session any more");
    for told in [
        refused(service.try_info("finals", "ada").await),
        refused(service.try_delete("finals", "ada").await),
        refused(service.try_join("finals", "ada", JoinOptions::default()).await),
        refused(service.try_leave("finals", "ada", false).await),
        refused(service.try_update("finals", "", &["name"], named("x")).await),
        service.refused_watch(subscription("finals", "ada")).await,
    ] {
        told.is(Code::NotFound, "SESSION_NOT_FOUND");
    }
}

#[tokio::test]
async fn an_id_is_taken_until_its_session_ends() {
    let service = Service::start().await;
    let first = service.open_room("finals", "ada").await;
    let again = |user| opening("finals", user, SessionSettings::default());
    refused(service.try_open(again("bob")).await).is(Code::AlreadyExists, "SESSION_EXISTS");
    service.tick();
    assert_eq!(service.info("finals", "ada").await.members.len(), 1);

    // With get_if_exists the second opener joins what is there, which it does not change.
    let settings = SessionSettings { capacity: Some(7), ..Default::default() };
    let request =
        OpenSharedSessionRequest { get_if_exists: true, ..opening("finals", "bob", settings) };
    let reply = service.try_open(request).await.expect("it is returned");
    assert!(reply.existed);
    let position = reply.position.expect("it has a position");
    assert_eq!((position.epoch, position.revision), (first.epoch, 2));
    let session = reply.session.expect("it has a session");
    assert_eq!(session.owner_id, "ada");
    assert_ne!(session.settings.and_then(|it| it.capacity), Some(7));
    service.tick();
    assert_eq!(service.info("finals", "ada").await.members.len(), 2);
    let by_app =
        OpenSharedSessionRequest { get_if_exists: true, ..opening("finals", "", named("")) };
    assert!(service.try_open(by_app.clone()).await.expect("it is returned").existed);

    service.try_delete("finals", "ada").await.expect("it is deleted");
    let reply = service.try_open(by_app).await.expect("it is opened");
    assert!(!reply.existed);
    assert!(reply.position.expect("it has a position").epoch > first.epoch);
}

#[tokio::test]
async fn an_id_is_generated_where_none_is_given() {
    let service = Service::start().await;
    let request =
        OpenSharedSessionRequest { join: Some(JoinOptions::default()), ..Default::default() };
    let first = service.try_open(request.clone()).await.expect("it opens");
    let second = service.try_open(request).await.expect("it opens");
    let (one, other) = (first.session.expect("it is told"), second.session.expect("it is told"));
    assert_ne!(one.session_id, other.session_id);
    for id in [&one.session_id, &other.session_id] {
        let uuid = uuid::Uuid::parse_str(id).expect("it is a UUID");
        assert_eq!(uuid.get_version_num(), 4, "a random one, which nobody guesses");
    }
    assert_ne!(first.user_id, second.user_id);
    assert_eq!(one.owner_id, first.user_id);
    let by_app = service.try_open(OpenSharedSessionRequest::default()).await.expect("it opens");
    assert_eq!(by_app.user_id, "");
    let session = by_app.session.expect("it is told");
    assert_eq!((&*session.owner_id, session.member_count), ("", Some(0)));
}

#[tokio::test]
async fn names_are_unique_until_they_are_given_up() {
    let service = Service::start().await;
    service.open_room_with("first", "ada", named("finals")).await;
    service.open_room("second", "ada").await;
    let third = opening("third", "ada", named("finals"));
    refused(service.try_open(third.clone()).await).is(Code::AlreadyExists, "NAME_TAKEN");
    refused(service.try_info("third", "").await).is(Code::NotFound, "SESSION_NOT_FOUND");
    let answer = service.try_update("second", "ada", &["name"], named("finals")).await;
    refused(answer).is(Code::AlreadyExists, "NAME_TAKEN");
    let found = service.try_info_by_name("finals", "").await.expect("it has the name");
    assert_eq!(found.session.map(|it| it.session_id).as_deref(), Some("first"));

    // Given up by another name, by no name, and by the end.
    service.update("first", "ada", &["name"], named("old finals")).await;
    service.update("second", "ada", &["name"], named("finals")).await;
    service.update("second", "ada", &["name"], named("finals")).await;
    service.tick();
    let found = service.try_info_by_name("finals", "").await.expect("it has the name");
    assert_eq!(found.session.map(|it| it.session_id).as_deref(), Some("second"));
    service.update("second", "ada", &["name"], named("")).await;
    service.try_open(third).await.expect("the name is free");
    service.try_delete("third", "ada").await.expect("it is deleted");
    refused(service.try_info_by_name("finals", "").await).is(Code::NotFound, "SESSION_NOT_FOUND");
    service.open_room_with("fourth", "ada", named("finals")).await;
    service.open_room_with("fifth", "ada", named("other")).await;
    refused(service.try_open(opening("fifth", "ada", named("free"))).await)
        .is(Code::AlreadyExists, "SESSION_EXISTS");
    service.open_room_with("sixth", "ada", named("free")).await;
}

#[tokio::test]
async fn of_many_who_open_at_once_one_opens_and_the_others_join() {
    let service = Service::start().await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(SessionServiceClient::new(service.connect().await));
    }
    for round in 0..40 {
        let (id, name) = (format!("session {round}"), format!("name {round}"));
        let mut calls = JoinSet::new();
        for (at, mut client) in clients.iter().cloned().enumerate() {
            let request = OpenSharedSessionRequest {
                get_if_exists: true,
                ..opening(&id, &format!("user {at}"), named(&name))
            };
            calls.spawn(async move { client.open_shared_session(sent(request)).await });
        }
        let replies = in_time(calls.join_all()).await.into_iter();
        let replies = replies.map(|reply| reply.expect("it opens or joins").into_inner());
        assert_eq!(replies.filter(|reply| !reply.existed).count(), 1);
        service.tick();
        assert_eq!(service.info(&id, "").await.members.len(), clients.len());
        service.try_info_by_name(&name, "").await.expect("it has its name");
    }
}

#[tokio::test]
async fn a_refused_change_gives_the_name_back() {
    let service = Service::start().await;
    service.open_room_with("first", "ada", named("finals")).await;
    service.join("first", "bob").await;
    let answer = service.try_update("first", "bob", &["name"], named("taken by bob")).await;
    refused(answer).is(Code::PermissionDenied, "ROLE_TOO_LOW");
    service.open_room_with("second", "ada", named("taken by bob")).await;
}

#[tokio::test]
async fn a_user_is_forgotten_without_membership_and_stream() {
    let service = Service::start_with(|config| config.user_ttl = Duration::from_secs(30)).await;
    service.set("ada", [("x", int(1))]).await;
    service.set("bob", [("x", int(1))]).await;
    service.set("kim", [("x", int(1))]).await;
    service.open_room("bobs", "bob").await;
    let open = StreamOpen { user_id: "kim".to_owned(), ..Default::default() };
    let mut kim = service.open_stream(open).await;
    kim.next_message().await.expect("the first message");
    service.advance(29_000);
    service.open_room("early", "app's").await;
    service.join("early", "ada").await;
    service.tick();
    service.leave("early", "ada").await;
    let props_of = async |session: &str, user: &str| {
        service.open_room(session, user).await;
        service.watch(session, user).await.rebuilt.props(user)
    };
    // She was in a session meanwhile, so that her time began anew.
    service.advance(29_000);
    assert_eq!(props_of("of ada", "ada").await, shown([("x", int(1))]));
    service.leave("of ada", "ada").await;
    service.advance(30_010);
    assert_eq!(props_of("of ada", "ada").await, shown([]));
    assert_eq!(props_of("of bob", "bob").await, shown([("x", int(1))]), "he is in a session");
    assert_eq!(props_of("of kim", "kim").await, shown([("x", int(1))]), "she has a stream");
}
