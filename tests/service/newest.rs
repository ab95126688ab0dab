//! Joining the session that was opened last.

use crate::support::*;
use sessiond::proto::{
    JoinOptions, JoinSessionRequest, JoinSessionResponse, OpenSharedSessionRequest, SessionSettings,
};
use tonic::{Code, Status};

fn newest(user: &str) -> JoinSessionRequest {
    JoinSessionRequest { newest: true, user_id: user.to_owned(), ..Default::default() }
}

async fn try_newest(service: &Service, user: &str) -> Result<JoinSessionResponse, Status> {
    service.try_join_as(newest(user)).await
}

async fn picks(service: &Service, user: &str) -> String {
    try_newest(service, user).await.expect("there is one").session_id
}

async fn finds_none(service: &Service, user: &str) {
    let told = refused(try_newest(service, user).await);
    told.is(Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn the_newest_is_the_one_that_was_opened_last() {
    let service = Service::start().await;
    finds_none(&service, "bob").await;
    // At one moment of the clock, and not in the order of ids.
    for session in ["m", "z", "a"] {
        service.open_room(session, "ada").await;
    }
    let reply = try_newest(&service, "bob").await.expect("there is one");
    assert_eq!((&*reply.session_id, &*reply.user_id, reply.opened), ("a", "bob", false));
    assert!(reply.snapshot.is_some());
    assert_eq!(service.names("a").await, ["ada", "bob"]);
    assert_eq!(picks(&service, "bob").await, "a", "joining again");
    service.advance(1_000);
    service.open_room("later", "ada").await;
    assert_eq!(picks(&service, "bob").await, "later");
    service.try_delete("later", "").await.expect("it is deleted");
    assert_eq!(picks(&service, "bob").await, "a");
    let elsewhere = JoinSessionRequest { app: "other".to_owned(), ..newest("bob") };
    refused(service.try_join_as(elsewhere).await).is(Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn newest_passes_over_what_not_everybody_may_join() {
    let service = Service::start().await;
    service.open_room("open", "ada").await;
    let closed = [
        SessionSettings { unlisted: Some(true), ..Default::default() },
        SessionSettings { locked: Some(true), ..Default::default() },
        SessionSettings { capacity: Some(1), ..Default::default() },
    ];
    for (at, settings) in closed.into_iter().enumerate() {
        let session = format!("closed {at}");
        service.open_room_with(&session, "ada", settings).await;
        assert_eq!(picks(&service, "bob").await, "open", "{session}");
        // As soon as it is open to all it is the newest.
        let mask = ["unlisted", "locked", "capacity"];
        service.update(&session, "ada", &mask, SessionSettings::default()).await;
        assert_eq!(picks(&service, "bob").await, session);
        let locked = SessionSettings { locked: Some(true), ..Default::default() };
        service.update(&session, "ada", &["locked"], locked).await;
        assert_eq!(picks(&service, "bob").await, "open", "{session}");
    }
    service
        .open_room_with(
            "brief",
            "ada",
            SessionSettings { max_age: Some(ms(1_000)), ..Default::default() },
        )
        .await;
    assert_eq!(picks(&service, "bob").await, "brief");
    service.advance(1_000);
    assert_eq!(picks(&service, "bob").await, "open");
}

#[tokio::test]
async fn newest_passes_over_a_full_session_until_somebody_leaves() {
    let service = Service::start().await;
    service.open_room("older", "ada").await;
    let two = SessionSettings { capacity: Some(2), ..Default::default() };
    service.open_room_with("pair", "ada", two).await;
    assert_eq!(picks(&service, "bob").await, "pair");
    assert_eq!(picks(&service, "kim").await, "older");
    service.leave("pair", "bob").await;
    assert_eq!(picks(&service, "kim").await, "pair");
    service.try_kick("pair", "ada", "kim", "").await.expect("she is kicked");
    assert_eq!(picks(&service, "lee").await, "pair");
    service.leave("older", "kim").await;
    service.set_role("pair", "ada", "lee", sessiond::proto::Role::Spectator).await;
    assert_eq!(picks(&service, "kim").await, "pair", "spectators take no place");
}

#[tokio::test]
async fn newest_passes_over_sessions_that_ban_the_user() {
    let service = Service::start().await;
    for session in ["one", "two", "three"] {
        service.open_room(session, "ada").await;
    }
    service.try_ban("three", "ada", "bob").await.expect("he is banned");
    service.try_ban("two", "ada", "bob").await.expect("he is banned");
    assert_eq!(picks(&service, "bob").await, "one");
    assert_eq!(picks(&service, "kim").await, "three");
    service.try_ban("one", "ada", "bob").await.expect("he is banned");
    finds_none(&service, "bob").await;
}

#[tokio::test]
async fn newest_looks_at_so_many_sessions_and_no_further() {
    let service = Service::start().await;
    service.open_room("first", "ada").await;
    for at in 0..256 {
        let mut banning = opening(&format!("ban {at}"), "ada", SessionSettings::default());
        let bob = sessiond::proto::Ban { user_id: "bob".to_owned(), ..Default::default() };
        banning.bans = vec![bob];
        service.try_open(banning).await.expect("it opens");
    }
    finds_none(&service, "bob").await;
    service.try_unban("ban 0", "ada", "bob").await.expect("the ban is over");
    assert_eq!(picks(&service, "bob").await, "ban 0");
}

#[tokio::test]
async fn newest_respects_exclusive_sessions() {
    let service = Service::start().await;
    let exclusive = SessionSettings { exclusive: Some(true), ..Default::default() };
    service.open_room_with("red", "ada", exclusive.clone()).await;
    assert_eq!(picks(&service, "bob").await, "red");
    assert_eq!(picks(&service, "bob").await, "red", "joining again");
    service.open_room_with("blue", "kim", exclusive).await;
    let told = refused(try_newest(&service, "bob").await);
    told.is(Code::FailedPrecondition, "ALREADY_IN_SESSION").says("session_id", "red");
    // One that bans him is passed over even then.
    service.try_ban("blue", "kim", "bob").await.expect("he is banned");
    assert_eq!(picks(&service, "bob").await, "red");
    service.try_unban("blue", "kim", "bob").await.expect("the ban is over");
    let join = Some(JoinOptions { r#move: true, ..Default::default() });
    let moved = service.try_join_as(JoinSessionRequest { join, ..newest("bob") }).await;
    assert_eq!(moved.expect("he moves").session_id, "blue");
    assert_eq!(service.names("red").await, ["ada"]);
}

#[tokio::test]
async fn newest_comes_alone() {
    let service = Service::with_room().await;
    let with_id = JoinSessionRequest { session_id: "finals".to_owned(), ..newest("bob") };
    refused(service.try_join_as(with_id).await).blames(&["newest"]);
    let with_name = JoinSessionRequest { name: "finals".to_owned(), ..newest("bob") };
    refused(service.try_join_as(with_name).await).blames(&["newest"]);
    let nothing = service.try_join_as(JoinSessionRequest::default()).await;
    let status = nothing.expect_err("it is refused");
    Refused::new(&status).blames(&["session_id"]);
    assert!(status.message().contains("or newest"), "{status}");
    assert_eq!(service.names("finals").await, ["ada"]);
}

#[tokio::test]
async fn all_who_come_at_once_find_a_place_in_the_newest_that_has_one() {
    let service = Service::start().await;
    for at in 0..10 {
        let settings = SessionSettings { capacity: Some(2), ..Default::default() };
        let request = OpenSharedSessionRequest { ..opening(&format!("{at}"), "", settings) };
        service.try_open(request).await.expect("it opens");
    }
    let mut calls = tokio::task::JoinSet::new();
    for at in 0..20 {
        let mut sessions = service.sessions();
        let request = newest(&format!("user {at}"));
        calls.spawn(async move { sessions.join_session(request).await });
    }
    for reply in in_time(calls.join_all()).await {
        reply.expect("there is a place for everybody");
    }
    finds_none(&service, "late").await;
}

fn duel() -> SessionSettings {
    SessionSettings {
        metadata: props([("mode", text("duel"))]),
        capacity: Some(2),
        ..Default::default()
    }
}

fn newest_duel(user: &str) -> JoinSessionRequest {
    JoinSessionRequest { filter: "metadata.mode == 'duel'".to_owned(), ..newest(user) }
}

#[tokio::test]
async fn newest_chooses_among_what_fits_the_filter() {
    let service = Service::start().await;
    for id in ["first", "second"] {
        service.open_room_with(id, "ada", duel()).await;
    }
    service.open_room("plain", "ada").await;
    let join = async |user: &str| service.try_join_as(newest_duel(user)).await;
    assert_eq!(join("bob").await.expect("there is one").session_id, "second");
    assert_eq!(join("kim").await.expect("there is one").session_id, "first");
    refused(join("lee").await).is(Code::NotFound, "SESSION_NOT_FOUND");
    assert_eq!(picks(&service, "lee").await, "plain");
}

#[tokio::test]
async fn the_filter_of_newest_sees_what_no_frame_shows_yet() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    let alone = || JoinSessionRequest { filter: "member_count < 2".to_owned(), ..newest("bob") };
    assert_eq!(service.try_join_as(alone()).await.expect("there is one").session_id, "finals");
    let third = JoinSessionRequest { user_id: "kim".to_owned(), ..alone() };
    let told = refused(service.try_join_as(third).await);
    told.is(Code::NotFound, "SESSION_NOT_FOUND");
    service.update("finals", "ada", &["metadata"], duel()).await;
    let joined = service.try_join_as(newest_duel("kim")).await.expect("it fits at once");
    assert_eq!(joined.session_id, "finals");
}

#[tokio::test]
async fn who_finds_none_that_fits_opens_one_and_the_next_ones_join_it() {
    let service = Service::start().await;
    service.open_room("plain", "ada").await;
    let mut calls = tokio::task::JoinSet::new();
    for at in 0..10 {
        let mut sessions = service.sessions();
        let open_if_missing =
            Some(OpenSharedSessionRequest { settings: Some(duel()), ..Default::default() });
        let request =
            JoinSessionRequest { open_if_missing, ..newest_duel(&format!("player {at}")) };
        calls.spawn(async move { sessions.join_session(request).await });
    }
    let replies = in_time(calls.join_all()).await;
    let replies = replies.into_iter().map(|it| it.expect("all find one").into_inner());
    let replies: Vec<_> = replies.collect();
    let opened = replies.iter().filter(|it| it.opened).count();
    let ids: std::collections::BTreeSet<_> = replies.iter().map(|it| &it.session_id).collect();
    assert_eq!((opened, ids.len()), (5, 5), "two in each");
}

#[tokio::test]
async fn a_filter_comes_with_newest_and_is_checked() {
    let service = Service::with_room().await;
    let by_id =
        JoinSessionRequest { newest: false, session_id: "finals".to_owned(), ..newest_duel("bob") };
    refused(service.try_join_as(by_id).await).blames(&["filter"]);
    let faulty = JoinSessionRequest { filter: "mode == 'duel'".to_owned(), ..newest("bob") };
    refused(service.try_join_as(faulty).await).blames(&["filter"]);
    assert_eq!(service.names("finals").await, ["ada"]);
}
