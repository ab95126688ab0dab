//! The routes that are about sessions, each by its name. Those of object streams have a file of
//! their own.

use crate::{clients::*, support::*};
use sessiond::proto::{
    self, DepartureReason, EndReason, JoinOptions, PropsWrite, Role, SessionSettings,
    SnapshotReason,
};
use tonic::Code;

/// A room of ada's in which bob is.
async fn shared_session(service: &Service) {
    service.open_room("shared", "ada").await;
    service.join("shared", "bob").await;
    service.tick();
}

#[tokio::test]
async fn get_session_info_by_id_and_by_name() {
    let service = Service::start().await;
    let settings = SessionSettings { name: "the finals".to_owned(), ..propnames(&["x"]) };
    service.open_room_with("shared", "ada", settings).await;
    service.tick();
    let by_id = service.info("shared", "ada").await;
    let by_name = service.try_info_by_name("the finals", "ada").await.expect("it is there");
    assert_eq!(by_id, by_name);
    let session = by_id.session.expect("it is told");
    assert_eq!((&*session.session_id, &*session.owner_id), ("shared", "ada"));
    assert_eq!(by_id.members.len(), 1);
    refused(service.try_info("nothing", "ada").await).is(Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn get_session_info_without_an_id_lists_the_sessions() {
    let service = Service::start().await;
    for (session, user) in [("one", "ada"), ("three", "bob"), ("two", "ada")] {
        service.open_room(session, user).await;
    }
    service.tick();
    let ids = async |request| {
        let listed = service.try_list(request).await.expect("it lists").sessions;
        listed.into_iter().map(|it| it.session_id).collect::<Vec<_>>()
    };
    let all = proto::ListSessionsRequest { user_id: "eve".to_owned(), ..Default::default() };
    assert_eq!(ids(all.clone()).await, ["one", "three", "two"]);
    let adas = proto::ListSessionsRequest { member_id: "ada".to_owned(), ..all };
    assert_eq!(ids(adas).await, ["one", "two"]);
}

#[tokio::test]
async fn open_private_session_streams_one_users_props_to_another() {
    let service = Service::start().await;
    let mut request = private_opening("source", "source", "listener");
    request.session_id = "private".to_owned();
    request.settings = Some(propnames(&["x"]));
    let opened = try_open_private(&service, request.clone()).await.expect("it opens");
    assert!(!opened.existed);
    service.tick();
    let (id, mut listener) = subscribe_to_user(&service, "listener", "source").await;
    assert_eq!(id, "private");
    service.set("source", [("x", int(1)), ("y", int(1))]).await;
    service.tick_until(&mut listener, |it| it.props("source") == shown([("x", int(1))])).await;

    // Opening it again returns it and changes nothing.
    request.session_id = String::new();
    request.settings = Some(propnames(&["y"]));
    let again = try_open_private(&service, request).await.expect("it is there");
    assert!(again.existed);
    let session = again.session.expect("it is told");
    assert_eq!(session.session_id, "private");
    assert_eq!(session.settings.expect("they are told").propnames, ["x"]);
}

#[tokio::test]
async fn open_shared_session_with_all_that_it_takes() {
    let service = Service::start().await;
    let request = proto::OpenSharedSessionRequest {
        data: props([("round", int(1))]),
        private_data: props([("seed", int(2))]),
        join: Some(JoinOptions { props: props([("x", int(3))]), ..Default::default() }),
        ..opening("shared", "ada", SessionSettings::default())
    };
    let opened = service.try_open(request.clone()).await.expect("it opens");
    assert_eq!(opened.position.map(|at| at.revision), Some(1), "shown at once");
    let ada = service.watch("shared", "ada").await;
    assert_eq!(ada.rebuilt.state.data, shown([("round", int(1))]));
    assert_eq!(ada.rebuilt.state.private_data, shown([("seed", int(2))]));
    assert_eq!(ada.rebuilt.props("ada"), shown([("x", int(3))]));
    assert_eq!(ada.rebuilt.member("ada").role, Role::Owner);

    let told = refused(service.try_open(request).await);
    told.is(Code::AlreadyExists, "SESSION_EXISTS");
    let get = proto::OpenSharedSessionRequest {
        get_if_exists: true,
        ..opening("shared", "bob", SessionSettings::default())
    };
    let found = service.try_open(get).await.expect("it is there");
    assert!(found.existed);
    assert_eq!(found.session.expect("it is told").owner_id, "ada");
    service.tick();
    assert_eq!(service.info("shared", "bob").await.members.len(), 2, "and joined");
}

#[tokio::test]
async fn update_session_changes_all_or_nothing() {
    let service = Service::start().await;
    shared_session(&service).await;
    let mut bob = service.watch("shared", "bob").await;
    let settings = SessionSettings {
        name: "x".repeat(129),
        tick_interval: Some(ms(0)),
        metadata: props([("level", int(2))]),
        ..Default::default()
    };
    let mask = ["name", "tick_interval", "metadata"];
    let told = refused(service.try_update("shared", "ada", &mask, settings.clone()).await);
    told.blames(&["settings.name", "settings.tick_interval"]);
    service.tick();
    assert_eq!(bob.glance().await, None, "nothing changed");
    service.update("shared", "ada", &["metadata"], settings).await;
    service.tick();
    let changed = bob.next_changes().await.session.expect("it is told");
    let metadata = changed.settings.expect("they are told").metadata;
    assert_eq!(show(&metadata["level"]), show(&int(2)));
}

#[tokio::test]
async fn update_session_with_another_format() {
    let service = Service::start().await;
    shared_session(&service).await;
    service.set_in("shared", "bob", [("x", int(1))]).await;
    service.tick();
    let mut bob = service.watch("shared", "bob").await;
    let request = proto::ResetSessionRequest {
        session_id: "shared".to_owned(),
        user_id: "ada".to_owned(),
        schema: Some(proto::Schema { props_example: props([("y", int(0))]), ..Default::default() }),
        ..Default::default()
    };
    let by_bob = proto::ResetSessionRequest { user_id: "bob".to_owned(), ..request.clone() };
    let told = refused(in_time(service.sessions().reset_session(sent(by_bob))).await);
    told.is(Code::PermissionDenied, "ROLE_TOO_LOW").says("needs", "admin");
    let reset =
        in_time(service.sessions().reset_session(sent(request))).await.expect("it is reset");
    service.tick();
    assert_eq!(bob.next_snapshot().await, SnapshotReason::ResetSchema);
    assert_eq!(bob.rebuilt.props("bob"), shown([("y", int(0))]));
    let position = reset.into_inner().position.expect("it has one");
    assert_eq!((bob.rebuilt.epoch, bob.rebuilt.revision), (position.epoch, position.revision));
}

#[tokio::test]
async fn join_session_returns_what_is_there() {
    let service = Service::start().await;
    shared_session(&service).await;
    service.set_in("shared", "ada", [("x", int(1))]).await;
    service.set_data("shared", "ada", [("round", int(1))]).await;
    service.tick();
    let joined = service.join("shared", "eve").await;
    assert_eq!(joined.role(), Role::Member);
    let snapshot = Rebuilt::from_snapshot(joined.snapshot.expect("it comes with it"));
    assert_eq!(snapshot.props("ada"), shown([("x", int(1))]));
    assert_eq!(snapshot.state.data, shown([("round", int(1))]));
    refused(service.try_join("nothing", "eve", JoinOptions::default()).await)
        .is(Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn join_session_opens_it_if_it_is_missing() {
    let service = Service::start().await;
    let request = |user: &str| proto::JoinSessionRequest {
        session_id: "shared".to_owned(),
        user_id: user.to_owned(),
        open_if_missing: Some(proto::OpenSharedSessionRequest {
            settings: Some(propnames(&["x"])),
            ..Default::default()
        }),
        ..Default::default()
    };
    for (user, role) in [("ada", Role::Owner), ("bob", Role::Member)] {
        let joined = in_time(service.sessions().join_session(request(user))).await;
        let joined = joined.expect("it joins").into_inner();
        assert_eq!((joined.role(), joined.opened), (role, role == Role::Owner), "{user}");
    }
    service.tick();
    let settings = service.info("shared", "bob").await.session.and_then(|it| it.settings);
    assert_eq!(settings.expect("they are told").propnames, ["x"]);
}

#[tokio::test]
async fn set_user_props_reaches_every_session_of_the_user_shared_and_private() {
    let service = Service::start().await;
    shared_session(&service).await;
    service.open_room_with("names", "bob", propnames(&["name"])).await;
    let private = open_private(&service, private_opening("ada", "bob", "ada")).await;
    service.tick();
    let results = service.set("bob", [("name", text("Bob")), ("x", int(0))]).await;
    let mut concerned: Vec<_> = results.iter().map(|it| it.session_id.clone()).collect();
    let mut expected = vec!["shared".to_owned(), "names".to_owned(), private.session_id.clone()];
    concerned.sort();
    expected.sort();
    assert_eq!(concerned, expected);
    // One joined later shows it too.
    service.open_room("later", "ada").await;
    service.join("later", "bob").await;
    service.tick();
    for (session, user) in [("shared", "ada"), (&*private.session_id, "ada"), ("later", "ada")] {
        let watcher = service.watch(session, user).await;
        let props = shown([("name", text("Bob")), ("x", int(0))]);
        assert_eq!(watcher.rebuilt.props("bob"), props, "{session}");
    }
    let names = service.watch("names", "bob").await;
    assert_eq!(names.rebuilt.props("bob"), shown([("name", text("Bob"))]));
}

#[tokio::test]
async fn set_user_props_for_a_user_by_its_backend() {
    let service = Service::start().await;
    shared_session(&service).await;
    let mut ada = service.watch("shared", "ada").await;
    let request = proto::SetUserPropsRequest {
        target_user_id: "bob".to_owned(),
        write: Some(write([("x", int(1))])),
        ..Default::default()
    };
    service.try_set_props(request).await.expect("the app may");
    service.tick();
    ada.next_changes().await;
    assert_eq!(ada.rebuilt.props("bob"), shown([("x", int(1))]));
}

#[tokio::test]
async fn leave_session_is_told_to_those_who_stay() {
    let service = Service::start().await;
    shared_session(&service).await;
    let mut ada = service.watch("shared", "ada").await;
    let mut bob = service.watch("shared", "bob").await;
    service.leave("shared", "bob").await;
    service.tick();
    assert_eq!(ada.next_changes().await.left[0].reason(), DepartureReason::Left);
    bob.end().await.is_ok(EndReason::Left);
    let told = refused(service.try_leave("shared", "bob", false).await);
    told.is(Code::FailedPrecondition, "NOT_A_MEMBER");
}

#[tokio::test]
async fn leave_session_of_the_listener_ends_its_private_session() {
    let service = Service::start().await;
    let private = open_private(&service, private_opening("listener", "source", "listener")).await;
    service.tick();
    service.leave(&private.session_id, "listener").await;
    service.tick();
    let told = refused(service.try_info(&private.session_id, "source").await);
    told.is(Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn leave_session_of_the_source_ends_its_private_session() {
    let service = Service::start().await;
    let private = open_private(&service, private_opening("source", "source", "listener")).await;
    service.tick();
    let (id, mut listener) = subscribe_to_user(&service, "listener", "source").await;
    assert_eq!(id, private.session_id);
    service.leave(&private.session_id, "source").await;
    service.tick();
    listener.end().await.is_ok(EndReason::Deleted);
}

#[tokio::test]
async fn get_first_match_in_join_order_among_users_and_roles() {
    let service = Service::start().await;
    shared_session(&service).await;
    service.join("shared", "eve").await;
    service.set_role("shared", "ada", "eve", Role::Admin).await;
    service.tick();
    let cases: [(&[&str], &[Role], &str); 3] =
        [(&[], &[], "ada"), (&["eve", "bob"], &[], "bob"), (&["nobody"], &[Role::Admin], "eve")];
    for (users, roles, expected) in cases {
        let found = service.try_first_match("shared", "bob", users, roles).await;
        assert_eq!(found.expect("one is").member.expect("it is told").user_id, expected);
    }
    let told = refused(service.try_first_match("shared", "bob", &["nobody"], &[]).await);
    told.is(Code::NotFound, "MEMBER_NOT_FOUND");
}

#[tokio::test]
async fn swap_host_to_who_is_named_or_to_the_next() {
    let service = Service::start().await;
    service.open_hosted("hosted", "host", propnames(&["x"])).await;
    for user in ["ada", "bob"] {
        service.join("hosted", user).await;
    }
    service.set_in("hosted", "host", [("x", int(1))]).await;
    service.tick();
    let mut bob = service.watch("hosted", "bob").await;
    let swapped = service.try_swap_host("hosted", "host", "bob", 1).await.expect("it hands over");
    assert_eq!((&*swapped.host_id, swapped.term), ("bob", 2));
    service.tick();
    assert_eq!(bob.next_snapshot().await, SnapshotReason::ViewChanged);
    assert_eq!(bob.rebuilt.props("bob"), shown([("x", int(1))]), "it takes over the host's props");
    let swapped = service.try_swap_host("hosted", "bob", "", 0).await.expect("it hands over");
    assert_eq!((&*swapped.host_id, swapped.term), ("host", 3), "the owner comes first");
    let told = refused(service.try_swap_host("hosted", "host", "ada", 2).await);
    told.is(Code::FailedPrecondition, "STALE_TERM");
}

#[tokio::test]
async fn delete_session_ends_it_for_all() {
    let service = Service::start().await;
    shared_session(&service).await;
    let mut bob = service.watch("shared", "bob").await;
    refused(service.try_delete("shared", "bob").await).is(Code::PermissionDenied, "ROLE_TOO_LOW");
    service.try_delete("shared", "ada").await.expect("she owns it");
    service.tick();
    bob.end().await.is_ok(EndReason::Deleted);
    refused(service.try_info("shared", "ada").await).is(Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn delete_session_ends_a_private_one_for_its_listener() {
    let service = Service::start().await;
    let (id, mut listener) = subscribe_to_user(&service, "listener", "source").await;
    service.tick();
    refused(service.try_delete(&id, "eve").await).is(Code::NotFound, "SESSION_NOT_FOUND");
    service.try_delete(&id, "source").await.expect("the source owns it");
    service.tick();
    listener.end().await.is_ok(EndReason::Deleted);
}

#[tokio::test]
async fn subscribe_to_session_sends_only_what_is_new() {
    let service = Service::start().await;
    shared_session(&service).await;
    service.set_in("shared", "bob", [("x", int(1)), ("y", int(1))]).await;
    service.tick();
    let mut ada = service.watch("shared", "ada").await;
    service.set_in("shared", "bob", [("x", int(1)), ("y", int(2))]).await;
    service.tick();
    assert_eq!(writes_in(&ada.next_changes().await), ["bob.y=2i"]);
    service.tick();
    assert_eq!(ada.glance().await, None);
    // Who comes back gets what it missed.
    let before = ada.rebuilt.again();
    drop(ada);
    service.set_in("shared", "bob", [("x", int(3))]).await;
    service.tick();
    let mut ada = service.resume(subscription("shared", "ada"), &before).await;
    assert_eq!(writes_in(&ada.next_changes().await), ["bob.x=3i"]);
}

#[tokio::test]
async fn transmit_session_updates_does_not_wait_for_the_loop() {
    let service = Service::start().await;
    let settings = SessionSettings { tick_interval: Some(ms(1_000)), ..Default::default() };
    service.open_room_with("slow", "ada", settings).await;
    let mut ada = service.watch("slow", "ada").await;
    service.advance(1_100);
    let revision = service.set_in("slow", "ada", [("x", int(1))]).await;
    let sent = service.try_transmit("slow", "ada", "", false).await.expect("she may");
    assert_eq!(sent.position.map(|at| at.revision), Some(revision));
    service.advance(0);
    assert_eq!(writes_in(&ada.next_changes().await), ["ada.x=1i"]);
}

#[tokio::test]
async fn receive_session_updates_carries_all_sessions_of_a_user() {
    let service = Service::start().await;
    shared_session(&service).await;
    service.open_room("other", "ada").await;
    let private = open_private(&service, private_opening("ada", "bob", "ada")).await.session_id;
    service.tick();
    let mut inbox = service.receive("ada").await;
    assert!(["shared", "other", &private].iter().all(|session| inbox.carries(session)));

    service.set("bob", [("x", int(1))]).await;
    let x = shown([("x", int(1))]);
    let shows_x = |it: &Rebuilt| it.props("bob") == x;
    inbox.tick_until(&service, |it| shows_x(it.copy(&private)) && shows_x(it.copy("shared"))).await;
    service.tick();
    assert!(inbox.glance().await.is_none(), "nothing changed");

    // One joined later comes in by itself, one that ends says so, and the stream goes on.
    service.open_room("later", "bob").await;
    service.join("later", "ada").await;
    inbox.tick_until(&service, |it| it.carries("later") && it.copy("later").knows("ada")).await;
    service.leave("other", "ada").await;
    service.tick();
    assert_eq!(inbox.next().await.end_of("other"), EndReason::Left);
    service.try_kick("later", "bob", "ada", "").await.expect("he owns it");
    service.tick();
    assert_eq!(inbox.next().await.end_of("later"), EndReason::Kicked);
    let x = shown([("x", int(2))]);
    service.set_in("shared", "bob", [("x", int(2))]).await;
    inbox.tick_until(&service, |it| it.copy("shared").props("bob") == x).await;
}

#[tokio::test]
async fn get_updated_user_data_before_and_after_the_loop() {
    let service = Service::start().await;
    shared_session(&service).await;
    let since = service.info("shared", "ada").await.position;
    service.set_in("shared", "bob", [("x", int(1))]).await;
    let pending = service.try_updated("shared", "ada", "bob", None).await.expect("she may ask");
    let of = |change: proto::MemberChange| change.props.iter().map(show_named).collect::<Shown>();
    assert_eq!(of(pending.change.expect("it is pending")), shown([("x", int(1))]));
    service.tick();
    let pending = service.try_updated("shared", "ada", "bob", None).await.expect("she may ask");
    assert_eq!(pending.change, None);
    let later = service.try_updated("shared", "ada", "bob", since).await.expect("she may ask");
    assert_eq!(of(later.change.expect("it changed")), shown([("x", int(1))]));
}

#[tokio::test]
async fn user_update_check_takes_props_up_and_brings_sessions_down() {
    let service = Service::start().await;
    shared_session(&service).await;
    service.open_room("other", "bob").await;
    service.tick();
    let mut ada = service.watch("shared", "ada").await;
    let mut bob = service.several("bob", &["shared", "other"]).await;
    let seq = bob.write(write([("x", int(1))]));
    bob.until_acked(&service, seq).await;
    for session in ["shared", "other"] {
        assert_eq!(bob.copy(session).props("bob"), shown([("x", int(1))]));
    }
    service.tick_until(&mut ada, |it| it.props("bob") == shown([("x", int(1))])).await;

    // What is refused in one session is itemised, and the stream goes on.
    let both = write([("x", int(2))]).in_session("shared").in_session("nothing");
    let seq = bob.write(both);
    bob.until_acked(&service, seq).await;
    let [refusal] = &*bob.refusals else { panic!("one refuses: {:?}", bob.refusals) };
    assert_eq!((refusal.seq, &*refusal.session_id), (seq, "nothing"));
    assert_eq!(refusal.code, Code::NotFound as i32);
    assert_eq!(bob.copy("shared").props("bob"), shown([("x", int(2))]));
    assert_eq!(bob.copy("other").props("bob"), shown([("x", int(1))]));
}

#[tokio::test]
async fn the_same_write_again_is_done_once() {
    let service = Service::start().await;
    shared_session(&service).await;
    let request_id = "once".to_owned();
    let write = PropsWrite { request_id, ..write([("x", int(1))]) }.in_session("shared");
    let first = service.try_write("bob", write.clone()).await.expect("it is written");
    service.tick();
    let again = service.try_write("bob", write.clone()).await.expect("it is replayed");
    assert_eq!(again, first);
    service.tick();
    let revision = first[0].position.as_ref().map(|at| at.revision);
    assert_eq!(Some(service.revision("shared").await), revision, "nothing was written again");
    let mut other = write;
    other.set.insert("x".to_owned(), int(2));
    let told = refused(service.try_write("bob", other).await);
    told.is(Code::InvalidArgument, "REQUEST_ID_REUSED");
}
