//! The routes that are about sessions, and whom a user is in, each by its name.

use crate::{clients::*, support::*};
use sessiond::proto::{self, JoinOptions, Role, SessionSettings};
use tonic::Code;

/// A room of ada's in which bob is.
async fn shared_session(service: &Service) {
    service.open_room("shared", "ada").await;
    service.join("shared", "bob").await;
    service.tick();
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
async fn sessions_are_those_that_the_user_has_joined() {
    let service = Service::start().await;
    for session in ["one", "two", "three"] {
        service.open_room(session, "ada").await;
    }
    service.join("two", "bob").await;
    let private = open_private(&service, private_opening("bob", "bob", "ada")).await.session_id;
    service.tick();
    let sessions_of_bob = async |asked_by: &str| {
        let request = proto::ListSessionsRequest {
            user_id: asked_by.to_owned(),
            member_id: "bob".to_owned(),
            ..Default::default()
        };
        let listed = service.try_list(request).await.expect("it lists").sessions;
        let mut ids: Vec<_> = listed.into_iter().map(|it| it.session_id).collect();
        ids.sort();
        ids
    };
    let mut both = vec![private, "two".to_owned()];
    both.sort();
    for insider in ["bob", "ada", ""] {
        assert_eq!(sessions_of_bob(insider).await, both, "{insider}");
    }
    assert_eq!(sessions_of_bob("eve").await, ["two"]);
}
