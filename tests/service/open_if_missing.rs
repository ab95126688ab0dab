//! Joining a session, or opening it if there is none.

use crate::support::*;
use sessiond::proto::{
    Ban, JoinOptions, JoinSessionRequest, OpenSharedSessionRequest, Role, Schema, SessionKind,
    SessionSettings, SnapshotReason, StreamOpen, SubscribeToSessionRequest,
};
use tokio::task::JoinSet;
use tonic::Code;

fn join_or_open(user: &str, missing: OpenSharedSessionRequest) -> JoinSessionRequest {
    JoinSessionRequest {
        user_id: user.to_owned(),
        open_if_missing: Some(missing),
        ..Default::default()
    }
}

fn by_id(id: &str, user: &str, missing: OpenSharedSessionRequest) -> JoinSessionRequest {
    JoinSessionRequest { session_id: id.to_owned(), ..join_or_open(user, missing) }
}

fn by_name(name: &str, user: &str, missing: OpenSharedSessionRequest) -> JoinSessionRequest {
    JoinSessionRequest { name: name.to_owned(), ..join_or_open(user, missing) }
}

fn newest(user: &str, missing: OpenSharedSessionRequest) -> JoinSessionRequest {
    JoinSessionRequest { newest: true, ..join_or_open(user, missing) }
}

fn named(name: &str) -> Option<SessionSettings> {
    Some(SessionSettings { name: name.to_owned(), ..Default::default() })
}

#[tokio::test]
async fn what_is_missing_is_opened_and_what_is_there_is_joined() {
    let service = Service::start().await;
    let missing = OpenSharedSessionRequest {
        kind: SessionKind::Hosted.into(),
        settings: Some(SessionSettings { capacity: Some(5), ..Default::default() }),
        roles: [("bob".to_owned(), Role::Admin.into())].into(),
        data: props([("map", text("dust"))]),
        ..Default::default()
    };
    let join = JoinOptions { props: props([("x", int(1))]), ..Default::default() };
    let first = JoinSessionRequest { join: Some(join), ..by_id("finals", "ada", missing.clone()) };
    let reply = service.try_join_as(first).await.expect("it opens");
    assert_eq!((&*reply.session_id, &*reply.user_id, reply.opened), ("finals", "ada", true));
    assert_eq!((reply.role(), reply.position.map(|it| it.revision)), (Role::Owner, Some(1)));
    let snapshot = reply.snapshot.expect("revision 1 is there at once");
    assert!(Rebuilt::from_snapshot(snapshot).knows("ada"));
    let session = service.info("finals", "").await.session.expect("it is told");
    assert_eq!((session.kind(), &*session.owner_id), (SessionKind::Hosted, "ada"));
    assert_eq!(session.settings.and_then(|it| it.capacity), Some(5));

    let other = OpenSharedSessionRequest { roles: Default::default(), ..missing };
    for (user, role) in [("bob", Role::Admin), ("kim", Role::Member)] {
        let reply = service.try_join_as(by_id("finals", user, other.clone())).await;
        let reply = reply.expect("it joins");
        assert_eq!((reply.opened, reply.role()), (false, role));
    }
    assert_eq!(service.names("finals").await, ["ada", "bob", "kim"]);
    let nobody = by_id("other", "", OpenSharedSessionRequest::default());
    let reply = service.try_join_as(nobody).await.expect("it opens");
    assert!(!reply.user_id.is_empty() && reply.opened);
    assert_eq!(service.names("other").await, [reply.user_id]);
}

#[tokio::test]
async fn an_unlisted_session_is_there_for_who_knows_it() {
    let service = Service::start().await;
    let unlisted = SessionSettings { unlisted: Some(true), ..named("secret").unwrap_or_default() };
    service.open_room_with("hidden", "ada", unlisted).await;
    for request in [
        by_id("hidden", "bob", OpenSharedSessionRequest::default()),
        by_name("secret", "kim", OpenSharedSessionRequest::default()),
    ] {
        let reply = service.try_join_as(request).await.expect("it joins");
        assert_eq!((&*reply.session_id, reply.opened), ("hidden", false));
    }
}

#[tokio::test]
async fn by_name_the_new_one_has_the_name() {
    let service = Service::start().await;
    let missing = OpenSharedSessionRequest {
        session_id: "by name".to_owned(),
        settings: named("the finals"),
        ..Default::default()
    };
    let reply = service.try_join_as(by_name("the finals", "ada", missing)).await;
    assert_eq!(reply.expect("it opens").session_id, "by name");
    let any = OpenSharedSessionRequest::default();
    let reply = service.try_join_as(by_name("the finals", "bob", any.clone())).await;
    let reply = reply.expect("it joins");
    assert_eq!((&*reply.session_id, reply.opened), ("by name", false));
    let reply = service.try_join_as(by_name("another", "bob", any)).await.expect("it opens");
    assert!(reply.opened);
    let found = service.try_info_by_name("another", "").await.expect("it has the name");
    assert_eq!(found.session.map(|it| it.session_id), Some(reply.session_id));

    // What is taken is not what the call means.
    let taken = OpenSharedSessionRequest { session_id: "by name".to_owned(), ..Default::default() };
    let told = refused(service.try_join_as(by_name("third", "ada", taken)).await);
    told.is(Code::AlreadyExists, "SESSION_EXISTS");
    let taken = OpenSharedSessionRequest { settings: named("another"), ..Default::default() };
    let told = refused(service.try_join_as(by_id("third", "ada", taken)).await);
    told.is(Code::AlreadyExists, "NAME_TAKEN");
}

#[tokio::test]
async fn a_session_that_is_there_and_refuses_is_not_missing() {
    let service = Service::start().await;
    let locked = SessionSettings { locked: Some(true), ..Default::default() };
    service.open_room_with("locked", "ada", locked).await;
    let any = OpenSharedSessionRequest::default();
    let told = refused(service.try_join_as(by_id("locked", "bob", any.clone())).await);
    told.is(Code::FailedPrecondition, "SESSION_LOCKED");
    // For newest it is: there is none to join.
    assert!(service.try_join_as(newest("bob", any.clone())).await.expect("it opens").opened);
    assert!(!service.try_join_as(newest("kim", any)).await.expect("it joins").opened);
}

#[tokio::test]
async fn contradictions_are_named() {
    let service = Service::start().await;
    let missing = OpenSharedSessionRequest {
        app: "other".to_owned(),
        user_id: "bob".to_owned(),
        session_id: "other".to_owned(),
        join: Some(JoinOptions::default()),
        get_if_exists: true,
        request_id: "once".to_owned(),
        users: vec!["ada".to_owned()],
        kind: SessionKind::Private.into(),
        ..Default::default()
    };
    let spectator = JoinOptions { spectator: true, ..Default::default() };
    let request = JoinSessionRequest { join: Some(spectator), ..by_id("finals", "ada", missing) };
    refused(service.try_join_as(request).await).blames(&[
        "join.spectator",
        "open_if_missing.app",
        "open_if_missing.user_id",
        "open_if_missing.session_id",
        "open_if_missing.join",
        "open_if_missing.get_if_exists",
        "open_if_missing.request_id",
        "open_if_missing.users[0]",
        "open_if_missing.kind",
    ]);
    let missing = OpenSharedSessionRequest {
        settings: named("other"),
        bans: vec![Ban { user_id: "ada".to_owned(), ..Default::default() }],
        ..Default::default()
    };
    let told = refused(service.try_join_as(by_name("finals", "ada", missing)).await);
    told.blames(&["open_if_missing.settings.name", "open_if_missing.bans[0].user_id"]);
    // A user that is generated is another one than any that is named.
    let missing = OpenSharedSessionRequest { user_id: "ada".to_owned(), ..Default::default() };
    let told = refused(service.try_join_as(by_id("finals", "", missing)).await);
    told.blames(&["open_if_missing.user_id"]);
    refused(service.try_info("finals", "").await).is(Code::NotFound, "SESSION_NOT_FOUND");

    // Saying the same twice is none.
    let missing = OpenSharedSessionRequest {
        app: "default".to_owned(),
        user_id: "ada".to_owned(),
        session_id: "finals".to_owned(),
        ..Default::default()
    };
    assert!(service.try_join_as(by_id("finals", "ada", missing)).await.expect("it opens").opened);
}

#[tokio::test]
async fn faults_are_named_where_they_lie() {
    let service = Service::start().await;
    let format = Schema {
        props_example: props([("x", int(0))]),
        data_example: props([("map", text(""))]),
        ..Default::default()
    };
    let missing = |data| OpenSharedSessionRequest {
        schema: Some(format.clone()),
        data: props([("map", data)]),
        ..Default::default()
    };
    let wrong = by_id("finals", "ada", missing(int(7)));
    let told = refused(service.try_join_as(wrong).await);
    told.blames(&["open_if_missing.data[\"map\"]"]);
    let join = JoinOptions { props: props([("x", text("far"))]), ..Default::default() };
    let wrong = by_id("finals", "ada", missing(text("dust")));
    let told = refused(service.try_join_as(JoinSessionRequest { join: Some(join), ..wrong }).await);
    told.blames(&["join.props[\"x\"]"]);
    let join = JoinOptions { props: props([("x", text("far"))]), ..Default::default() };
    let wrong = by_id("finals", "ada", missing(int(7)));
    let told = refused(service.try_join_as(JoinSessionRequest { join: Some(join), ..wrong }).await);
    told.blames(&["join.props[\"x\"]", "open_if_missing.data[\"map\"]"]);
    let both = OpenSharedSessionRequest {
        schema: Some(Schema { props: [("x".to_owned(), Default::default())].into(), ..format }),
        ..Default::default()
    };
    let told = refused(service.try_join_as(by_id("finals", "ada", both)).await);
    assert!(told.fields.iter().all(|it| it.starts_with("open_if_missing.schema.")), "{told:?}");
    assert_eq!(told.code, Code::InvalidArgument);
}

#[tokio::test]
async fn of_many_who_join_or_open_at_once_one_opens_and_all_are_in_it() {
    let service = Service::start().await;
    let any = OpenSharedSessionRequest::default;
    type Ask = fn(usize, &str, OpenSharedSessionRequest) -> JoinSessionRequest;
    let asks: [Ask; 3] = [
        |round, user, missing| by_id(&format!("id {round}"), user, missing),
        |round, user, missing| by_name(&format!("name {round}"), user, missing),
        |_, user, missing| newest(user, missing),
    ];
    for round in 0..30 {
        let mut calls = JoinSet::new();
        for at in 0..6 {
            let mut sessions = service.sessions();
            let request = asks[round % 3](round, &format!("user {at}"), any());
            calls.spawn(async move { sessions.join_session(request).await });
        }
        let replies = in_time(calls.join_all()).await.into_iter();
        let replies: Vec<_> =
            replies.map(|reply| reply.expect("it joins or opens").into_inner()).collect();
        assert_eq!(replies.iter().filter(|reply| reply.opened).count(), 1, "round {round}");
        let session = &replies[0].session_id;
        assert!(replies.iter().all(|reply| reply.session_id == *session));
        assert_eq!(service.names(session).await.len(), 6);
        // So that the next newest is missing.
        service.try_delete(session, "").await.expect("it is deleted");
    }
}

#[tokio::test]
async fn joining_while_the_session_is_deleted_ends_in_one_that_is_there() {
    let service = Service::start().await;
    for round in 0..50 {
        service.open_room("finals", "ada").await;
        let mut sessions = service.sessions();
        let joins = tokio::spawn(async move {
            let request = by_id("finals", "bob", OpenSharedSessionRequest::default());
            sessions.join_session(request).await
        });
        service.try_delete("finals", "").await.expect("it is deleted");
        let reply = in_time(joins).await.expect("it answers").expect("it joins or opens");
        if reply.into_inner().opened {
            assert_eq!(service.names("finals").await, ["bob"], "round {round}");
            service.try_delete("finals", "").await.expect("it is deleted");
        }
    }
}

/// A stream that joins a session or opens it.
fn watching(id: &str, user: &str, missing: OpenSharedSessionRequest) -> SubscribeToSessionRequest {
    SubscribeToSessionRequest { open_if_missing: Some(missing), ..tied(id, user) }
}

/// The same up and down, of any number of sessions.
fn streaming(user: &str, ids: &[&str], missing: OpenSharedSessionRequest) -> StreamOpen {
    let mut open = several_open(user, ids);
    for subscription in &mut open.subscriptions {
        subscription.join = Some(JoinOptions::default());
        subscription.open_if_missing = Some(Box::new(missing.clone()));
    }
    open
}

#[tokio::test]
async fn a_client_whose_session_is_gone_comes_back_with_one_call() {
    let service = Service::start().await;
    let settings = SessionSettings { password: Some("secret".to_owned()), ..Default::default() };
    let missing = OpenSharedSessionRequest {
        kind: SessionKind::Hosted.into(),
        settings: Some(settings),
        ..Default::default()
    };
    let join = JoinOptions {
        password: "secret".to_owned(),
        props: props([("x", int(1))]),
        ..Default::default()
    };
    let comes = |user| SubscribeToSessionRequest {
        join: Some(join.clone()),
        ..watching("finals", user, missing.clone())
    };
    let ada = service.watch_with(comes("ada")).await;
    assert_eq!(ada.rebuilt.props("ada"), shown([("x", int(1))]));
    let bob = service.watch_with(comes("bob")).await;
    service.tick();
    assert_eq!(
        service.roll("finals").await,
        [("ada".to_owned(), Role::Owner), ("bob".to_owned(), Role::Member)]
    );
    service.try_delete("finals", "").await.expect("it is deleted, as by a restart");
    let mut bob = service.resume(comes("bob"), &bob.rebuilt).await;
    assert_eq!(bob.next_snapshot().await, SnapshotReason::EpochChanged);
    assert_eq!(
        (bob.rebuilt.session().kind(), &*bob.rebuilt.session().owner_id),
        (SessionKind::Hosted, "bob")
    );
    let mut ada = service.resume(comes("ada"), &ada.rebuilt).await;
    assert_eq!(ada.next_snapshot().await, SnapshotReason::EpochChanged);
    let wrong = JoinOptions { password: "wrong".to_owned(), ..Default::default() };
    let told = service
        .refused_watch(SubscribeToSessionRequest { join: Some(wrong), ..comes("kim") })
        .await;
    told.is(Code::PermissionDenied, "WRONG_PASSWORD");
    // A new user of a new session.
    let mut nobody =
        service.open_watcher(watching("other", "", Default::default()), Rebuilt::default()).await;
    nobody.next_snapshot().await;
    assert_eq!(service.names("other").await, std::slice::from_ref(&nobody.user_id));
}

#[tokio::test]
async fn of_many_streams_that_join_or_open_at_once_one_opens_and_all_are_in_it() {
    let service = Service::start().await;
    for round in 0..10 {
        let (one, two) = (format!("one {round}"), format!("two {round}"));
        let mut streams = Vec::new();
        for at in 0..4 {
            let open = streaming(&format!("user {at}"), &[&one, &two], Default::default());
            streams.push(service.open_several(open).await);
        }
        for stream in &mut streams {
            assert_eq!(stream.next().await.sessions(), [&one, &two]);
        }
        for id in [&one, &two] {
            let roll = service.roll(id).await;
            let owners = roll.iter().filter(|(_, role)| *role == Role::Owner).count();
            assert_eq!((roll.len(), owners), (4, 1), "{id}");
        }
    }
}

#[tokio::test]
async fn of_several_that_are_had_or_none_none_is_opened_where_one_is_refused() {
    let service = Service::start().await;
    let locked = SessionSettings { locked: Some(true), ..Default::default() };
    service.open_room_with("locked", "host", locked).await;
    let open = streaming("ada", &["missing", "locked"], Default::default());
    let told = service.open_several(open).await.refused().await;
    told.is(Code::FailedPrecondition, "SESSION_LOCKED")
        .says("subscription", "open.subscriptions[1]");
    refused(service.try_info("missing", "").await).is(Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn a_stream_names_the_faults_of_what_it_would_open_where_they_lie() {
    let service = Service::start().await;
    let wrong = OpenSharedSessionRequest {
        user_id: "bob".to_owned(),
        kind: SessionKind::Private.into(),
        ..Default::default()
    };
    let told = service.refused_watch(watching("finals", "ada", wrong.clone())).await;
    told.blames(&["open_if_missing.user_id", "open_if_missing.kind"]);
    let mut open = streaming("ada", &["a", "b"], wrong);
    open.subscriptions[0].join = None;
    open.subscriptions[1].join.get_or_insert_default().spectator = true;
    service.open_several(open).await.refused().await.blames(&[
        "open.subscriptions[0].open_if_missing",
        "open.subscriptions[1].join.spectator",
        "open.subscriptions[1].open_if_missing.user_id",
        "open.subscriptions[1].open_if_missing.kind",
    ]);
    // What only the rules find.
    let format = Schema { data_example: props([("map", text(""))]), ..Default::default() };
    let data = props([("map", int(7))]);
    let wrong = OpenSharedSessionRequest { schema: Some(format), data, ..Default::default() };
    let told = service.refused_watch(watching("finals", "ada", wrong.clone())).await;
    told.blames(&["open_if_missing.data[\"map\"]"]);
    let told = service.open_several(streaming("ada", &["a", "b"], wrong)).await.refused().await;
    told.blames(&["open.subscriptions[0].open_if_missing.data[\"map\"]"]);
}
