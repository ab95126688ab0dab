//! createSession: its options and its callbacks.

use super::*;

#[tokio::test]
async fn userinfo_just_needs_an_id_or_it_will_make_one_for_you() {
    let service = Service::start().await;
    let named = create_session("user123915485", SessionKind::Room, &["key1"]);
    let opened = service.try_open(named).await.expect("it opens");
    assert_eq!(opened.user_id, "user123915485");
    let unnamed = proto::OpenSharedSessionRequest {
        session_id: "another".to_owned(),
        ..create_session("", SessionKind::Room, &["key1"])
    };
    let opened = service.try_open(unnamed).await.expect("it opens");
    assert!(!opened.user_id.is_empty());
    assert_eq!(opened.session.expect("it is told").owner_id, opened.user_id);
}

#[tokio::test]
async fn socket_id_tells_the_connections_of_a_user_apart() {
    let service = Service::start().await;
    let (_other, mut one) = room_of_two(&service).await;
    let mut other = service.watch("session", "bob").await;
    service.set_in("session", "ada", [("key1", int(1))]).await;
    service.tick();
    for socket in [&mut one, &mut other] {
        assert_eq!(writes_in(&socket.next_changes().await), ["ada.key1=1i"]);
    }
    drop(one);
    service.set_in("session", "ada", [("key1", int(2))]).await;
    service.tick();
    assert_eq!(writes_in(&other.next_changes().await), ["ada.key1=2i"]);
}

#[tokio::test]
async fn type_room_sends_all_user_data_to_all_other_users_based_on_propnames() {
    let service = Service::start().await;
    let (mut ada, mut bob) = room_of_two(&service).await;
    service.set("bob", [("key1", int(1)), ("secret", int(2))]).await;
    service.set_in("session", "ada", [("key1", int(3)), ("secret", int(4))]).await;
    service.tick();
    for watcher in [&mut ada, &mut bob] {
        watcher.next_changes().await;
        assert_eq!(watcher.rebuilt.props("bob"), shown([("key1", int(1))]));
        assert_eq!(watcher.rebuilt.props("ada"), shown([("key1", int(3))]));
    }
}

#[tokio::test]
async fn type_hostroom_only_sends_one_users_data_while_the_host_still_receives_all() {
    let service = Service::start().await;
    let hostroom = create_session("host", SessionKind::Hosted, &["key1"]);
    service.try_open(hostroom).await.expect("it opens");
    service.join("session", "ada").await;
    service.join("session", "bob").await;
    service.tick();
    let mut host = service.watch("session", "host").await;
    let mut ada = service.watch("session", "ada").await;
    service.set_in("session", "bob", [("key1", int(1))]).await;
    service.set_in("session", "host", [("key1", int(2))]).await;
    service.tick();
    host.next_changes().await;
    ada.next_changes().await;
    assert_eq!(host.rebuilt.props("bob"), shown([("key1", int(1))]));
    assert_eq!(ada.rebuilt.props("bob"), shown([]));
    assert_eq!(ada.rebuilt.props("host"), shown([("key1", int(2))]));
    assert_eq!(host.rebuilt.props("host"), shown([("key1", int(2))]));
}

#[tokio::test]
async fn type_user_with_the_id_of_a_user_to_subscribe_to() {
    let service = Service::start().await;
    let request = proto::OpenPrivateSessionRequest {
        settings: Some(propnames(&["key1"])),
        props: props([("key1", int(0))]),
        ..private_opening("me", "user123", "me")
    };
    let session = open_private(&service, request).await;
    assert_eq!(session.kind(), SessionKind::Private);
    assert_eq!((&*session.source_id, &*session.listener_id), ("user123", "me"));
    service.tick();
    let mut me = service.watch(&session.session_id, "me").await;
    assert_eq!(me.rebuilt.props("user123"), shown([("key1", int(0))]));
    service.set_in(&session.session_id, "user123", [("key1", int(1)), ("key2", int(1))]).await;
    service.tick();
    me.next_changes().await;
    assert_eq!(me.rebuilt.props("user123"), shown([("key1", int(1))]));
}

#[tokio::test]
async fn appname_creates_lookup_tables_based_on_the_application_name() {
    let service = Service::start().await;
    for app in ["app1", "app2"] {
        let request = proto::OpenSharedSessionRequest {
            app: app.to_owned(),
            ..create_session("ada", SessionKind::Room, &["key1"])
        };
        let opened = service.try_open(request).await.expect("ids of other apps are free");
        assert_eq!(opened.session.expect("it is told").app, app);
    }
    let without = service.try_open(create_session("ada", SessionKind::Room, &[])).await;
    assert_eq!(without.expect("it opens").session.expect("it is told").app, "default");
    let list = |app: &str| proto::ListSessionsRequest {
        app: app.to_owned(),
        user_id: "ada".to_owned(),
        ..Default::default()
    };
    for (app, expected) in [("app1", 1), ("app2", 1), ("app3", 0), ("", 1)] {
        let listed = service.try_list(list(app)).await.expect("it lists").sessions;
        assert_eq!(listed.len(), expected, "{app}");
    }
    let join = proto::JoinSessionRequest {
        app: "app3".to_owned(),
        session_id: "session".to_owned(),
        user_id: "bob".to_owned(),
        ..Default::default()
    };
    let told = refused(service.sessions().join_session(join).await);
    told.is(Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn object_is_the_data_structure_of_the_outgoing_datastream() {
    let service = Service::start().await;
    let (_other, bob) = room_of_two(&service).await;
    assert_eq!(bob.rebuilt.props("ada"), shown([("key1", int(0))]));
}

#[tokio::test]
async fn settings_keys_will_be_autogenerated_if_none_supplied() {
    let service = Service::start().await;
    let all_keys = create_session("ada", SessionKind::Room, &[]);
    service.try_open(all_keys).await.expect("it opens");
    service.tick();
    let mut ada = service.watch("session", "ada").await;
    let keys = [("key1", int(1)), ("key2", int(2)), ("any", int(3))];
    service.set_in("session", "ada", keys.clone()).await;
    service.tick();
    ada.next_changes().await;
    assert_eq!(ada.rebuilt.props("ada"), shown(keys));
}

#[tokio::test]
async fn callback_runs_once_on_return() {
    let service = Service::start().await;
    let request = create_session("ada", SessionKind::Room, &["key1"]);
    let result = service.try_open(request).await.expect("it opens");
    let session = result.session.expect("it is told");
    assert_eq!((&*session.session_id, session.kind()), ("session", SessionKind::Room));
    assert_eq!(session.settings.expect("they are told").propnames, ["key1"]);
    assert_eq!(result.position.map(|at| at.revision), Some(1));
}

#[tokio::test]
async fn onupdate_gets_per_update_responses_for_sequential_data_operations() {
    let service = Service::start().await;
    let (_other, mut latest) = room_of_two(&service).await;
    let mut onupdate = onupdate(&service, "session", "bob").await;
    for value in [1, 2, 2, 1] {
        service.set_in("session", "ada", [("key1", int(value))]).await;
    }
    service.set_in("session", "bob", [("key1", int(7))]).await;
    service.tick();
    let expected = ["ada.key1=1i", "ada.key1=2i", "ada.key1=2i", "ada.key1=1i", "bob.key1=7i"];
    assert_eq!(next_writes(&mut onupdate).await, expected);
    // What did not change anything in the end is there as well.
    for value in [5, 1] {
        service.set_in("session", "ada", [("key1", int(value))]).await;
    }
    service.tick();
    assert_eq!(next_writes(&mut onupdate).await, ["ada.key1=5i", "ada.key1=1i"]);
    latest.next_changes().await;
    assert_eq!(latest.glance().await, None, "a frame without net effect is silent");
}

#[tokio::test]
async fn onframe_gets_frame_tick_responses_for_frontend_updates() {
    let service = Service::start().await;
    let (_other, mut onframe) = room_of_two(&service).await;
    for value in [1, 2, 2, 4] {
        service.set_in("session", "ada", [("key1", int(value))]).await;
    }
    service.tick();
    assert_eq!(writes_in(&onframe.next_changes().await), ["ada.key1=4i"]);
    service.tick();
    assert_eq!(onframe.glance().await, None, "nothing changed");
}

#[tokio::test]
async fn applying_all_updates_yields_the_frame() {
    let service = Service::start().await;
    let (_other, mut onframe) = room_of_two(&service).await;
    let mut onupdate = onupdate(&service, "session", "bob").await;
    for round in 0..5 {
        for value in [round, round + 10, round] {
            service.set_in("session", "ada", [("key1", int(value))]).await;
        }
        let joins = format!("user{round}");
        service.join("session", &joins).await;
        service.set_data("session", "ada", [("round", int(round))]).await;
        service.tick();
        onframe.next_changes().await;
        let log = onupdate.next_log().await;
        assert_eq!(onupdate.rebuilt.state, onframe.rebuilt.state);
        assert!(log.iter().all(|update| update.revision == onframe.rebuilt.revision));
        let changes: Vec<_> = log.into_iter().filter_map(|update| update.change).collect();
        let told = changes.iter().flat_map(|it| &it.members).any(|it| it.user_id == joins);
        assert!(told, "events are in it");
        assert!(changes.iter().any(|it| !it.data.is_empty()), "data too");
    }
}
