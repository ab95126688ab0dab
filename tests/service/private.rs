//! Private sessions: what one user shows to another.

use crate::support::*;
use sessiond::proto::{
    self, EndReason, Role, SessionKind, SessionSettings, SnapshotReason, SubscribeToUserRequest,
};
use tonic::Code;

#[tokio::test]
async fn only_the_listener_and_the_source_see_the_sources_props() {
    let service = Service::start().await;
    service.open_room("room", "ada").await;
    service.join("room", "bob").await;
    service.try_open_private("ada", "ada", "bob").await.expect("the source opens it");
    service.tick();
    let mut bob = service.listen("ada", "bob").await;
    let mut ada = service.watch("ada-bob", "ada").await;
    let mut room = service.watch("room", "bob").await;
    service.set_in("ada-bob", "ada", [("x", int(1))]).await;
    service.tick();
    for watcher in [&mut bob, &mut ada] {
        watcher.next_changes().await;
        assert_eq!(watcher.rebuilt.props("ada"), shown([("x", int(1))]));
    }
    assert_eq!(room.glance().await, None);
    // The listener shows nothing, wherever it writes.
    let write = write([("y", int(2))]).in_session("ada-bob");
    let told = refused(service.try_write("bob", write).await);
    told.is(Code::FailedPrecondition, "WRONG_KIND");
    service.set("bob", [("y", int(2))]).await;
    service.tick();
    assert_eq!(room.next_changes().await.members[0].user_id, "bob");
    assert_eq!((bob.glance().await, ada.glance().await), (None, None));
}

#[tokio::test]
async fn it_says_what_it_is() {
    let service = Service::start().await;
    let opened = service.try_open_private("ada", "ada", "bob").await.expect("the source opens it");
    assert!(!opened.existed);
    assert_eq!(opened.position.map(|position| position.revision), Some(1));
    let told = opened.session.expect("it is told");
    assert_eq!(told.kind(), SessionKind::Private);
    assert_eq!((&*told.source_id, &*told.listener_id), ("ada", "bob"));
    assert_eq!((&*told.owner_id, &*told.host_id, told.term), ("ada", "", 0));
    assert_eq!(told.member_count, Some(1), "the listener has not come yet");
    let bob = service.listen("ada", "bob").await;
    assert_eq!(bob.user_id, "ada-bob", "the first message tells the id");
    let session = bob.rebuilt.state.session.as_ref().expect("a snapshot has it");
    assert_eq!((&*session.source_id, &*session.listener_id), ("ada", "bob"));
}

#[tokio::test]
async fn opening_it_again_returns_it_and_changes_no_setting() {
    let service = Service::start().await;
    let mut request = private("ada", "ada", "bob");
    request.settings = Some(propnames(&["x"]));
    let first = service.sessions().open_private_session(sent(request.clone())).await;
    let first = first.expect("it opens").into_inner();
    (request.session_id, request.settings) = ("other".to_owned(), Some(propnames(&["y"])));
    for user in ["ada", "bob", ""] {
        request.user_id = user.to_owned();
        let again = service.sessions().open_private_session(sent(request.clone())).await;
        let again = again.expect("it is there").into_inner();
        assert!(again.existed, "{user}");
        let told = again.session.expect("it is told");
        assert_eq!(told.session_id, "ada-bob", "{user}");
        assert_eq!(told.settings.expect("all settings").propnames, ["x"], "{user}");
    }
    let listened = listening("ada", "bob");
    let listened = SubscribeToUserRequest { propnames: vec!["y".to_owned()], ..listened };
    let mut bob = service.open_listener(listened, Rebuilt::default()).await;
    bob.next_snapshot().await;
    assert_eq!(bob.user_id, "ada-bob");
    // The other way round is another session.
    let other = service.try_open_private("bob", "bob", "ada").await.expect("it opens");
    assert!(!other.existed && first.session != other.session);
    // An id that is taken by another session opens nothing.
    service.open_room("taken", "ada").await;
    let mut taken = private("ada", "ada", "carol");
    taken.session_id = "taken".to_owned();
    let told = refused(service.sessions().open_private_session(sent(taken)).await);
    told.is(Code::AlreadyExists, "SESSION_EXISTS");
    let free = service.try_open_private("ada", "ada", "carol").await.expect("it opens");
    assert!(!free.existed);
}

#[tokio::test]
async fn it_is_opened_by_its_source_a_backend_or_anybody_where_open_subscriptions_are_on() {
    let open = Service::start().await;
    assert_eq!(open.listen("ada", "bob").await.rebuilt.order, ["ada", "bob"]);
    open.try_open_private("eve", "dan", "eve").await.expect("the listener opens it");
    let told = refused(open.try_open_private("eve", "ada", "carol").await);
    told.is(Code::PermissionDenied, "NOT_ENTITLED");

    let closed = Service::start_with(|config| config.open_subscriptions = Some(false)).await;
    let told = refused(closed.try_open_private("bob", "ada", "bob").await);
    told.is(Code::PermissionDenied, "NO_CONSENT");
    let told = closed.refused_listener(listening("ada", "bob")).await;
    told.is(Code::PermissionDenied, "NO_CONSENT");
    closed.try_open_private("", "ada", "eve").await.expect("a backend opens it");
    closed.try_open_private("ada", "ada", "bob").await.expect("the source opens it");
    // Now there is consent.
    assert!(closed.try_open_private("bob", "ada", "bob").await.expect("it is there").existed);
    closed.listen("ada", "bob").await;
    closed.listen("ada", "eve").await;
}

#[tokio::test]
async fn an_absent_source_is_shown_as_disconnected_with_what_is_set_on_it() {
    let service = Service::start().await;
    service.set("ada", [("x", int(1))]).await;
    let mut bob = service.listen("ada", "bob").await;
    let is_absent = |bob: &Watcher| bob.rebuilt.state.members["ada"].disconnected;
    assert!(is_absent(&bob));
    assert_eq!(bob.rebuilt.props("ada"), shown([("x", int(1))]));
    // It joins a session: the app sees it.
    service.open_room("room", "ada").await;
    service.tick();
    bob.next_changes().await;
    assert!(!is_absent(&bob));
    service.set("ada", [("x", int(2))]).await;
    service.leave("room", "ada").await;
    service.tick();
    bob.next_changes().await;
    assert!(is_absent(&bob));
    assert_eq!(bob.rebuilt.props("ada"), shown([("x", int(2))]), "its props stay");
    // A stream of its own that carries no session.
    let mut open = stream_open("", "ada");
    open.subscriptions.clear();
    let mut stream = service.open_stream(open).await;
    stream.next_message().await.expect("it is open");
    service.tick_until(&mut bob, |bob| !bob.state.members["ada"].disconnected).await;
    drop(stream);
    service.tick_until(&mut bob, |bob| bob.state.members["ada"].disconnected).await;
    // It comes to the private session itself, and goes.
    let ada = service.watch(&bob.user_id, "ada").await;
    service.tick_until(&mut bob, |bob| !bob.state.members["ada"].disconnected).await;
    drop(ada);
    service.tick_until(&mut bob, |bob| bob.state.members["ada"].disconnected).await;
    assert_eq!(bob.rebuilt.props("ada"), shown([("x", int(2))]));
    assert_eq!(bob.rebuilt.order, ["ada", "bob"], "it was a member all the time");
}

#[tokio::test]
async fn it_lives_while_its_listener_is_a_member_or_subscribed() {
    let service = Service::start().await;
    let is_there = async |id: &str| service.try_info(id, "").await.is_ok();
    // By its stream.
    let bob = service.listen("ada", "bob").await;
    let id = bob.user_id.clone();
    service.advance(120_000);
    assert!(is_there(&id).await);
    drop(bob);
    in_time(async {
        while is_there(&id).await {
            service.tick();
        }
    })
    .await;
    // By its membership.
    service.try_open_private("bob", "ada", "bob").await.expect("the listener opens and joins it");
    let watching = service.watch("ada-bob", "bob").await;
    drop(watching);
    service.advance(120_000);
    assert!(is_there("ada-bob").await);
    service.leave("ada-bob", "bob").await;
    service.tick();
    assert!(!is_there("ada-bob").await);
    // Nobody has come yet: for a minute from the opening.
    service.try_open_private("ada", "ada", "bob").await.expect("the source opens it");
    service.advance(59_990);
    assert!(is_there("ada-bob").await);
    service.advance(20);
    assert!(!is_there("ada-bob").await);
    // An opening by the app is for the listener, who has joined then.
    service.try_open_private("", "ada", "bob").await.expect("the app opens it");
    service.advance(120_000);
    assert!(is_there("ada-bob").await);
}

#[tokio::test]
async fn it_ends_when_the_source_leaves_or_deletes_it() {
    let service = Service::start().await;
    for by in ["leave", "delete"] {
        let mut bob = service.listen("ada", "bob").await;
        let id = bob.user_id.clone();
        match by {
            "leave" => service.leave(&id, "ada").await,
            _ => service.try_delete(&id, "ada").await.expect("the source owns it"),
        }
        service.tick();
        bob.end().await.is_ok(EndReason::Deleted);
        refused(service.try_info(&id, "").await).is(Code::NotFound, "SESSION_NOT_FOUND");
    }
    // The listener owns nothing, whoever goes.
    let bob = service.listen("ada", "bob").await;
    let told = refused(service.try_delete(&bob.user_id, "bob").await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW");
}

#[tokio::test]
async fn to_everyone_else_it_does_not_exist() {
    let service = Service::start().await;
    let mut bob = service.listen("ada", "bob").await;
    let id = bob.user_id.clone();
    let hidden = |told: Refused| told.is(Code::NotFound, "SESSION_NOT_FOUND");
    hidden(refused(service.try_info(&id, "eve").await));
    hidden(refused(service.try_join(&id, "eve", Default::default()).await));
    hidden(service.refused_watch(subscription(&id, "eve")).await);
    hidden(service.refused_watch(tied(&id, "eve")).await);
    hidden(refused(service.try_leave(&id, "eve", false).await));
    hidden(refused(service.try_kick(&id, "eve", "bob", "").await));
    hidden(refused(service.try_write("eve", write([("x", int(1))]).in_session(&id)).await));
    let list = |user: &str| {
        let user_id = user.to_owned();
        service.try_list(proto::ListSessionsRequest { user_id, ..Default::default() })
    };
    assert!(list("eve").await.expect("it lists").sessions.is_empty());
    for user in ["ada", "bob", ""] {
        assert_eq!(list(user).await.expect("it lists").sessions[0].session_id, id, "{user}");
    }
    // Another app has no such users at all.
    let elsewhere = proto::GetSessionInfoRequest {
        app: "elsewhere".to_owned(),
        session_id: id.clone(),
        ..Default::default()
    };
    hidden(refused(service.sessions().get_session_info(sent(elsewhere)).await));
    service.tick();
    while let Some(step) = bob.glance().await {
        assert!(!format!("{step:?}").contains("eve"), "{step:?}");
    }
}

#[tokio::test]
async fn whoever_opens_its_id_is_told_that_it_is_taken_and_no_more() {
    let service = Service::start().await;
    service.try_open_private("ada", "ada", "bob").await.expect("it opens");
    for (user, get_if_exists) in [("eve", true), ("eve", false), ("bob", true), ("", true)] {
        let mut request = opening("ada-bob", user, SessionSettings::default());
        request.get_if_exists = get_if_exists;
        let told = refused(service.try_open(request).await);
        told.is(Code::AlreadyExists, "SESSION_EXISTS");
    }
}

#[tokio::test]
async fn a_ban_of_the_listener_keeps_it_open_and_holds() {
    let service = Service::start().await;
    let mut bob = service.listen("ada", "bob").await;
    let id = bob.user_id.clone();
    service.try_ban(&id, "ada", "bob").await.expect("the source may");
    service.tick();
    bob.end().await.is(EndReason::Banned, Code::PermissionDenied);
    service.advance(600_000);
    let told = service.refused_listener(listening("ada", "bob")).await;
    told.is(Code::PermissionDenied, "BANNED");
    service.try_unban(&id, "ada", "bob").await.expect("the source may");
    service.tick();
    let bob = service.listen("ada", "bob").await;
    assert_ne!(bob.user_id, id, "without its listener and without the ban it has ended");
}

#[tokio::test]
async fn roles_are_given_at_the_opening_by_the_source_or_the_app() {
    let service = Service::start().await;
    let with_roles = |user: &str, listener: &str, roles: &[(&str, Role)]| {
        let mut request = private(user, "ada", listener);
        request.roles = roles.iter().map(|(user, role)| (user.to_string(), *role as i32)).collect();
        let mut sessions = service.sessions();
        async move { sessions.open_private_session(sent(request)).await }
    };
    with_roles("ada", "bob", &[("amy", Role::Admin)]).await.expect("the source gives roles");
    service.info("ada-bob", "amy").await;
    let owned = with_roles("", "eve", &[("oda", Role::Owner), ("ada", Role::Moderator)]).await;
    let owned = owned.expect("the app gives all").into_inner().session.expect("it is told");
    assert_eq!(owned.owner_id, "oda");
    let members = service.info("ada-eve", "").await.members;
    let roles: Vec<_> = members.iter().map(|it| (&*it.user_id, it.role())).collect();
    assert_eq!(roles, [("ada", Role::Moderator), ("eve", Role::Member)]);
    service.try_delete("ada-eve", "oda").await.expect("the owner may");
    let told = refused(with_roles("kim", "kim", &[("kim", Role::Admin)]).await);
    told.blames(&["roles"]);
    let told = refused(with_roles("ada", "kim", &[("kim", Role::Owner)]).await);
    told.blames(&["roles[\"kim\"]"]);
}

#[tokio::test]
async fn settings_of_shared_sessions_are_refused_each_by_its_name() {
    let service = Service::start().await;
    let mut request = private("ada", "ada", "ada");
    request.settings = Some(SessionSettings {
        name: "n".to_owned(),
        hostprops: vec!["x".to_owned()],
        capacity: Some(3),
        locked: Some(true),
        unlisted: Some(true),
        successors: vec!["ada".to_owned()],
        host_grace: Some(ms(1)),
        ..Default::default()
    });
    refused(service.sessions().open_private_session(sent(request)).await).blames(&[
        "settings.capacity",
        "settings.host_grace",
        "settings.hostprops",
        "settings.locked",
        "settings.name",
        "settings.successors",
        "settings.unlisted",
        "source_id",
    ]);
    let nobody = SubscribeToUserRequest::default();
    service.refused_listener(nobody).await.blames(&["source_id", "user_id"]);
    let request = SubscribeToUserRequest {
        source_id: "ada".to_owned(),
        user_id: "x\u{1}".to_owned(),
        propnames: vec![String::new()],
        ..Default::default()
    };
    service.refused_listener(request.clone()).await.blames(&["propnames[0]", "user_id"]);
    let to_itself = SubscribeToUserRequest { source_id: request.user_id.clone(), ..request };
    let told = service.refused_listener(to_itself).await;
    told.blames(&["propnames[0]", "source_id", "user_id"]);
    let mut request = private("ada", "ada", "bob");
    let (name, host_grace) = ("n\0".to_owned(), Some(ms(4_000_000)));
    request.settings = Some(SessionSettings { name, host_grace, ..Default::default() });
    let told = refused(service.sessions().open_private_session(sent(request)).await);
    told.blames(&["settings.host_grace", "settings.name"]);
    service.try_open_private("ada", "ada", "bob").await.expect("it opens");
    let named = SessionSettings { name: "n".to_owned(), ..Default::default() };
    let told = refused(service.try_update("ada-bob", "ada", &["name"], named).await);
    told.blames(&["settings.name"]);
    let told = refused(service.try_swap_host("ada-bob", "ada", "bob", 0).await);
    told.is(Code::FailedPrecondition, "WRONG_KIND");
}

#[tokio::test]
async fn a_user_is_the_source_of_a_bounded_number() {
    let service = Service::start_with(|config| config.max_listeners_per_user = 2).await;
    let _bob = service.listen("ada", "bob").await;
    service.try_open_private("ada", "ada", "carol").await.expect("there is room for two");
    let told = refused(service.try_open_private("ada", "ada", "dan").await);
    told.is(Code::ResourceExhausted, "LIMIT_REACHED").says("limit", "max-listeners-per-user");
    assert!(service.try_open_private("ada", "ada", "carol").await.expect("it is there").existed);
    service.try_delete("ada-carol", "ada").await.expect("the source owns it");
    service.try_open_private("ada", "ada", "dan").await.expect("there is room again");
}

#[tokio::test]
async fn all_who_listen_at_once_share_one_session() {
    let service = Service::start().await;
    let mut listeners = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let channel = service.connect().await;
        let mut client = proto::delivery_service_client::DeliveryServiceClient::new(channel);
        listeners.spawn(async move {
            let answer = client.subscribe_to_user(sent(listening("ada", "bob"))).await;
            let mut stream = answer.expect("it streams").into_inner();
            let first = stream.message().await.expect("it streams").expect("it streams");
            (first.session_id, stream)
        });
    }
    let listeners = in_time(listeners.join_all()).await;
    let (first, _) = &listeners[0];
    assert!(listeners.iter().all(|(id, _)| id == first && !id.is_empty()));
    assert_eq!(service.info(first, "").await.members.len(), 2);
}

#[tokio::test]
async fn a_listener_resumes_where_it_was() {
    let service = Service::start().await;
    service.try_open_private("ada", "ada", "bob").await.expect("the source opens it");
    service.join("ada-bob", "bob").await;
    let bob = service.listen("ada", "bob").await;
    let known = bob.rebuilt.clone();
    drop(bob);
    service.set_in("ada-bob", "ada", [("x", int(1))]).await;
    service.tick();
    let request =
        SubscribeToUserRequest { resume: Some(known.resume()), ..listening("ada", "bob") };
    let mut bob = service.open_listener(request, known.again()).await;
    bob.next_changes().await;
    assert_eq!(bob.rebuilt.props("ada"), shown([("x", int(1))]));
    // A listener whose session is gone gets the next one's snapshot.
    let known = bob.rebuilt.clone();
    service.try_delete("ada-bob", "ada").await.expect("the source owns it");
    service.tick();
    let request =
        SubscribeToUserRequest { resume: Some(known.resume()), ..listening("ada", "bob") };
    let mut bob = service.open_listener(request, known.again()).await;
    assert_eq!(bob.next_snapshot().await, SnapshotReason::EpochChanged);
}
