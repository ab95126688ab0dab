//! One of the app's exclusive sessions at a time.

use crate::support::*;
use sessiond::proto::{
    EndReason, JoinOptions, OpenSharedSessionRequest, Presence, SessionSettings,
    SubscribeToSessionRequest,
};
use tonic::Code;

fn exclusive() -> SessionSettings {
    SessionSettings { exclusive: Some(true), ..Default::default() }
}

fn moving() -> JoinOptions {
    JoinOptions { r#move: true, ..Default::default() }
}

/// A service with two exclusive sessions of the app that nobody is in, and an ordinary one.
async fn arena() -> Service {
    let service = Service::start().await;
    let lasting = SessionSettings { empty_ttl: Some(ms(600_000)), ..exclusive() };
    service.open_room_with("red", "", lasting.clone()).await;
    service.open_room_with("blue", "", lasting).await;
    service.open_room("free", "").await;
    service
}

async fn refused_join(service: &Service, session: &str, user: &str) -> Refused {
    refused(service.try_join(session, user, JoinOptions::default()).await)
}

fn is_in(told: Refused, session: &str) {
    told.is(Code::FailedPrecondition, "ALREADY_IN_SESSION").says("session_id", session);
}

#[tokio::test]
async fn a_user_is_in_one_exclusive_session_of_the_app_at_a_time() {
    let service = arena().await;
    service.join("red", "ada").await;
    is_in(refused_join(&service, "blue", "ada").await, "red");
    let spectator = JoinOptions { spectator: true, ..Default::default() };
    is_in(refused(service.try_join("blue", "ada", spectator).await), "red");
    is_in(service.refused_watch(tied("blue", "ada")).await, "red");
    let stream = stream_joining("blue", "ada");
    is_in(service.open_stream(stream).await.refused().await, "red");
    let settings = exclusive();
    is_in(refused(service.try_open(opening("green", "ada", settings)).await), "red");
    refused(service.try_info("green", "").await).is(Code::NotFound, "SESSION_NOT_FOUND");
    let existing = OpenSharedSessionRequest {
        get_if_exists: true,
        ..opening("blue", "ada", SessionSettings::default())
    };
    is_in(refused(service.try_open(existing).await), "red");
    assert_eq!(service.names("blue").await, [""; 0]);

    // Joining it again, ordinary sessions, other users and other apps are fine.
    service.join("red", "ada").await;
    service.watch("red", "ada").await;
    service.join("free", "ada").await;
    service.open_room("own", "ada").await;
    service.join("blue", "bob").await;
    let elsewhere =
        OpenSharedSessionRequest { app: "other".to_owned(), ..opening("red", "ada", exclusive()) };
    service.try_open(elsewhere).await.expect("nothing spans two apps");
}

#[tokio::test]
async fn exclusive_is_shown_and_fixed_at_the_opening() {
    let service = arena().await;
    for (session, is_exclusive) in [("red", true), ("free", false)] {
        let settings = service.info(session, "").await.session.and_then(|it| it.settings);
        assert_eq!(settings.and_then(|it| it.exclusive), Some(is_exclusive));
        let told = refused(service.try_update(session, "", &["exclusive"], exclusive()).await);
        told.blames(&["update_mask[\"exclusive\"]"]);
    }
}

#[tokio::test]
async fn the_slot_is_free_as_soon_as_the_membership_ends() {
    let service = arena().await;
    service.join("red", "ada").await;
    service.leave("red", "ada").await;
    service.join("blue", "ada").await;

    service.try_kick("blue", "", "ada", "").await.expect("she is kicked");
    service.join("red", "ada").await;
    service.try_ban("red", "", "ada").await.expect("she is banned");
    service.join("blue", "ada").await;
    service.try_delete("blue", "").await.expect("it is deleted");
    service.open_room_with("green", "ada", exclusive()).await;
    // Gone with its last member, by the time, and by a new session of the same id.
    service.leave("green", "ada").await;
    let settings = SessionSettings { max_age: Some(ms(1_000)), ..exclusive() };
    service.open_room_with("brief", "ada", settings).await;
    is_in(refused(service.try_open(opening("green", "ada", exclusive())).await), "brief");
    service.advance(1_000);
    service.open_room_with("green", "ada", exclusive()).await;
    service.try_delete("green", "").await.expect("it is deleted");
    service.open_room("green", "ada").await;
    service.open_room_with("last", "ada", exclusive()).await;
}

#[tokio::test]
async fn move_leaves_the_old_one_first() {
    let service = arena().await;
    service.open_room_with("old", "ada", exclusive()).await;
    service.join("old", "bob").await;
    service.tick();
    let mut ada = service.watch("old", "ada").await;
    let mut bob = service.watch("old", "bob").await;
    service.try_join("red", "ada", moving()).await.expect("she moves");
    service.tick();
    ada.end().await.is_ok(EndReason::Left);
    bob.next_snapshot().await;
    assert!(!bob.rebuilt.knows("ada"));
    // As by LeaveSession: what she owned is Bob's.
    assert_eq!(bob.rebuilt.session().owner_id, "bob");
    assert_eq!(service.names("red").await, ["ada"]);
    let results = service.set("ada", [("x", int(1))]).await;
    assert_eq!(results.iter().map(|it| &*it.session_id).collect::<Vec<_>>(), ["red"]);

    // On streams, and by opening.
    let by_stream = SubscribeToSessionRequest {
        join: Some(JoinOptions { presence: Presence::Explicit.into(), ..moving() }),
        ..subscription("blue", "ada")
    };
    service.watch_with(by_stream).await;
    assert_eq!(service.names("red").await, [""; 0]);
    let mut stream = stream_open("old", "ada");
    stream.subscriptions[0].join = Some(moving());
    let mut stream = service.open_stream(stream).await;
    stream.next_snapshot().await;
    assert_eq!(service.names("old").await, ["bob", "ada"]);
    let own =
        OpenSharedSessionRequest { join: Some(moving()), ..opening("own", "ada", exclusive()) };
    service.try_open(own).await.expect("it opens");
    assert_eq!(service.names("own").await, ["ada"]);
    assert_eq!(service.names("old").await, ["bob"]);
    stream.end().await.is_ok(EndReason::Left);
    // Where there is nothing to leave it is a join.
    service.try_join("own", "ada", moving()).await.expect("she is there");
    service.try_join("free", "ada", moving()).await.expect("it is not exclusive");
    assert_eq!(service.names("own").await, ["ada"]);
    // The session goes with the last one who moves out.
    service.try_join("red", "ada", moving()).await.expect("she moves");
    refused(service.try_info("own", "").await).is(Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn a_refused_move_leaves_the_user_where_it_is() {
    let service = arena().await;
    service.open_room_with("old", "ada", exclusive()).await;
    let full = SessionSettings { capacity: Some(1), ..exclusive() };
    service.open_room_with("full", "bob", full).await;
    let locked = SessionSettings { locked: Some(true), ..exclusive() };
    service.open_room_with("locked", "kim", locked).await;
    service.try_ban("red", "", "ada").await.expect("she is banned");
    service.tick();
    let before = service.info("old", "").await;
    for (session, code, reason) in [
        ("full", Code::ResourceExhausted, "SESSION_FULL"),
        ("locked", Code::FailedPrecondition, "SESSION_LOCKED"),
        ("red", Code::PermissionDenied, "BANNED"),
        ("none", Code::NotFound, "SESSION_NOT_FOUND"),
    ] {
        refused(service.try_join(session, "ada", moving()).await).is(code, reason);
    }
    let taken =
        OpenSharedSessionRequest { join: Some(moving()), ..opening("blue", "ada", exclusive()) };
    refused(service.try_open(taken).await).is(Code::AlreadyExists, "SESSION_EXISTS");
    service.tick();
    assert_eq!(service.info("old", "").await, before);
    is_in(refused_join(&service, "blue", "ada").await, "old");
}

#[tokio::test]
async fn a_move_needs_no_place_for_a_session_more() {
    let service = Service::start_with(|config| config.max_sessions_per_user = 1).await;
    service.open_room_with("red", "ada", exclusive()).await;
    service.open_room_with("blue", "", exclusive()).await;
    service.open_room("free", "").await;
    let told = refused_join(&service, "free", "ada").await;
    told.is(Code::ResourceExhausted, "LIMIT_REACHED").says("limit", "max-sessions-per-user");
    service.try_join("blue", "ada", moving()).await.expect("she moves");
    let told = refused_join(&service, "free", "ada").await;
    told.is(Code::ResourceExhausted, "LIMIT_REACHED");
}
