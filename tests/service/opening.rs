//! Who is known to a session from the start: roles, users and bans at the opening.

use crate::support::*;
use sessiond::proto::{
    Ban, JoinOptions, OpenSharedSessionRequest, Role, SessionKind, SessionSettings,
};
use std::collections::BTreeMap;
use tonic::Code;

fn roles(roles: &[(&str, Role)]) -> BTreeMap<String, i32> {
    roles.iter().map(|(user, role)| ((*user).to_owned(), (*role).into())).collect()
}

fn users(users: &[&str]) -> Vec<String> {
    users.iter().map(ToString::to_string).collect()
}

fn ban(user: &str) -> Ban {
    Ban { user_id: user.to_owned(), reason: "cheating".to_owned(), until: None }
}

/// A session with these users beside the opener.
fn with_users(session: &str, user: &str, names: &[&str]) -> OpenSharedSessionRequest {
    let users = users(names);
    OpenSharedSessionRequest { users, ..opening(session, user, SessionSettings::default()) }
}

#[tokio::test]
async fn roles_users_and_bans_are_there_from_revision_1() {
    let service = Service::start().await;
    service.set("kim", [("x", int(7))]).await;
    let request = OpenSharedSessionRequest {
        roles: roles(&[
            ("kim", Role::Admin),
            ("spy", Role::Spectator),
            ("late", Role::Moderator),
            ("late spy", Role::Spectator),
            ("ada", Role::Owner),
            ("lee", Role::Member),
        ]),
        bans: vec![ban("eve")],
        ..with_users("finals", "ada", &["lee", "kim", "spy"])
    };
    let reply = service.try_open(request).await.expect("it opens");
    assert_eq!(reply.position.map(|it| it.revision), Some(1));
    let session = reply.session.expect("it is told");
    assert_eq!((session.member_count, session.spectator_count), (Some(3), Some(1)));
    let info = service.info("finals", "kim").await;
    assert_eq!(info.position.map(|it| it.revision), Some(1));
    let told: Vec<_> = info.members.iter().map(|it| (&*it.user_id, it.role())).collect();
    let expected = [
        ("ada", Role::Owner),
        ("lee", Role::Member),
        ("kim", Role::Admin),
        ("spy", Role::Spectator),
    ];
    assert_eq!(told, expected, "in the order given");
    assert_eq!(info.bans, [ban("eve")]);
    // What is set on a user is shown, as with any join.
    assert_eq!(service.watch("finals", "lee").await.rebuilt.props("kim"), shown([("x", int(7))]));

    // Roles wait for people, bans refuse them.
    assert_eq!(service.join("finals", "late").await.role(), Role::Moderator);
    assert_eq!(service.join("finals", "late spy").await.role(), Role::Spectator);
    let told = refused(service.try_join("finals", "eve", JoinOptions::default()).await);
    told.is(Code::PermissionDenied, "BANNED");
    // They joined to stay, and are in the session wherever that counts.
    service.advance(60_000);
    assert_eq!(service.names("finals").await.len(), 6);
    let results = service.set("lee", [("x", int(1))]).await;
    assert_eq!(results.len(), 1);
    service.leave("finals", "lee").await;
}

#[tokio::test]
async fn a_ban_at_the_opening_may_end() {
    let service = Service::start().await;
    let until = prost_types::Timestamp { seconds: (BEGIN / 1_000_000) as i64 + 5, nanos: 0 };
    let request = OpenSharedSessionRequest {
        bans: vec![Ban { until: Some(until), ..ban("eve") }],
        ..with_users("finals", "ada", &[])
    };
    service.try_open(request.clone()).await.expect("it opens");
    service.advance(4_999);
    refused(service.try_join("finals", "eve", JoinOptions::default()).await)
        .is(Code::PermissionDenied, "BANNED");
    service.advance(1);
    service.join("finals", "eve").await;
    let again = OpenSharedSessionRequest { session_id: "again".to_owned(), ..request };
    refused(service.try_open(again).await).blames(&["bans[0].until"]);
}

#[tokio::test]
async fn the_app_gives_the_session_to_an_owner() {
    let service = Service::start().await;
    let owned = |session: &str, users: &[&str]| OpenSharedSessionRequest {
        roles: roles(&[("ada", Role::Owner)]),
        ..with_users(session, "", users)
    };
    let reply = service.try_open(owned("joined", &["bob", "ada"])).await.expect("it opens");
    assert_eq!(reply.session.map(|it| it.owner_id).as_deref(), Some("ada"));
    let expected = [("bob".to_owned(), Role::Member), ("ada".to_owned(), Role::Owner)];
    assert_eq!(service.roll("joined").await, expected);
    // Whoever owns it need not have joined.
    let reply = service.try_open(owned("away", &[])).await.expect("it opens");
    let session = reply.session.expect("it is told");
    assert_eq!((&*session.owner_id, session.member_count), ("ada", Some(0)));
    let locked = SessionSettings { locked: Some(true), ..Default::default() };
    service.update("away", "ada", &["unlisted"], locked).await;
    assert_eq!(service.join("away", "ada").await.role(), Role::Owner);
}

#[tokio::test]
async fn who_is_there_from_the_start_comes_at_once() {
    let service = Service::start().await;
    // By the order of hosts, not by the order of joining.
    let request = OpenSharedSessionRequest {
        kind: SessionKind::Hosted.into(),
        roles: roles(&[("kim", Role::Owner)]),
        ..with_users("lecture", "", &["bob", "kim"])
    };
    let session = service.try_open(request).await.expect("it opens").session.expect("it is told");
    assert_eq!((&*session.host_id, session.term), ("kim", 1));
    // Locked from the start, they are in.
    let locked = SessionSettings { locked: Some(true), ..Default::default() };
    let request = OpenSharedSessionRequest {
        settings: Some(locked),
        ..with_users("closed", "ada", &["bob"])
    };
    service.try_open(request).await.expect("it opens");
    assert_eq!(service.names("closed").await, ["ada", "bob"]);
}

#[tokio::test]
async fn a_user_who_cannot_join_is_named_and_nothing_is_opened() {
    let service = Service::start_with(|config| config.max_sessions_per_user = 2).await;
    let exclusive = SessionSettings { exclusive: Some(true), ..Default::default() };
    service.open_room_with("red", "kim", exclusive.clone()).await;
    service.open_room("one", "lee").await;
    service.open_room("two", "lee").await;
    let refuses = async |request: OpenSharedSessionRequest, reason: &str| {
        let told = refused(service.try_open(request).await);
        refused(service.try_info("new", "").await).is(Code::NotFound, "SESSION_NOT_FOUND");
        refused(service.try_info_by_name("new", "").await);
        for user in ["ada", "bob"] {
            assert_eq!(service.set(user, [("x", int(1))]).await, [], "{user} is in no session");
        }
        assert_eq!(told.reason, reason, "{told:?}");
        told
    };
    let new = |user: &str, settings: &SessionSettings, names: &[&str]| OpenSharedSessionRequest {
        settings: Some(SessionSettings { name: "new".to_owned(), ..settings.clone() }),
        ..with_users("new", user, names)
    };
    let two = SessionSettings { capacity: Some(2), ..Default::default() };
    let told = refuses(new("ada", &two, &["bob", "third"]), "SESSION_FULL").await;
    told.is(Code::ResourceExhausted, "SESSION_FULL").says("field", "users[1]");
    let full = new("ada", &Default::default(), &["bob", "lee"]);
    let told = refuses(full, "LIMIT_REACHED").await;
    told.says("field", "users[1]").says("limit", "max-sessions-per-user");
    // Where somebody else is, a user does not learn; the app does.
    let told =
        refuses(new("ada", &exclusive, &["bob", "x", "y", "kim"]), "ALREADY_IN_SESSION").await;
    assert_eq!(told.metadata.get("session_id"), None);
    told.is(Code::FailedPrecondition, "ALREADY_IN_SESSION").says("field", "users[3]");
    let told = refuses(new("", &exclusive, &["kim", "bob"]), "ALREADY_IN_SESSION").await;
    told.says("field", "users[0]").says("session_id", "red");
    let taken = OpenSharedSessionRequest {
        session_id: "one".to_owned(),
        ..new("ada", &Default::default(), &["bob"])
    };
    refuses(taken, "SESSION_EXISTS").await;
    // All of them are free for the session that is opened then.
    service.try_open(new("ada", &exclusive, &["bob", "x", "y"])).await.expect("it opens");
    for user in ["ada", "bob", "x", "y"] {
        let told = refused(service.try_join("red", user, JoinOptions::default()).await);
        told.is(Code::FailedPrecondition, "ALREADY_IN_SESSION").says("session_id", "new");
    }
}

#[tokio::test]
async fn contradictions_of_the_lists_are_named() {
    let service = Service::start().await;
    let request = OpenSharedSessionRequest {
        roles: roles(&[
            ("a\n", Role::Admin),
            ("ada", Role::Admin),
            ("bob", Role::Owner),
            ("kim", Role::Unspecified),
            ("lee", Role::Moderator),
        ]),
        users: users(&["ada", "bob", "bob", "", "u\0"]),
        bans: vec![
            ban("ada"),
            ban("bob"),
            ban("lee"),
            ban("eve"),
            ban("eve"),
            ban(""),
            Ban { reason: "r".repeat(1025), ..ban("max") },
        ],
        ..opening("finals", "ada", SessionSettings::default())
    };
    refused(service.try_open(request).await).blames(&[
        "roles[\"a\\n\"]",
        "roles[\"ada\"]",
        "roles[\"bob\"]",
        "roles[\"kim\"]",
        "users[0]",
        "users[2]",
        "users[3]",
        "users[4]",
        "bans[0].user_id",
        "bans[1].user_id",
        "bans[2].user_id",
        "bans[4].user_id",
        "bans[5].user_id",
        "bans[6].reason",
    ]);
    let two = OpenSharedSessionRequest {
        roles: roles(&[("ada", Role::Owner), ("bob", Role::Owner)]),
        ..opening("finals", "", SessionSettings::default())
    };
    refused(service.try_open(two).await).blames(&["roles[\"bob\"]"]);
    // An owner who is generated is one.
    let generated = OpenSharedSessionRequest {
        join: Some(JoinOptions::default()),
        roles: roles(&[("bob", Role::Owner)]),
        ..opening("finals", "", SessionSettings::default())
    };
    refused(service.try_open(generated).await).blames(&["roles[\"bob\"]"]);
    refused(service.try_info("finals", "").await).is(Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn each_list_has_a_thousand_entries_at_most() {
    let service = Service::start_with(|config| config.max_request_bytes = 1024 * 1024).await;
    let many = |most: usize| {
        let names = |prefix: &'static str| (0..most).map(move |at| format!("{prefix} {at}"));
        OpenSharedSessionRequest {
            roles: names("role").map(|user| (user, Role::Moderator.into())).collect(),
            users: names("user").collect(),
            bans: names("ban").map(|user| ban(&user)).collect(),
            ..opening("finals", "ada", SessionSettings::default())
        }
    };
    refused(service.try_open(many(1001)).await).blames(&["roles", "users", "bans"]);
    service.try_open(many(1000)).await.expect("it opens");
    let session = service.info("finals", "").await;
    assert_eq!((session.members.len(), session.bans.len()), (1001, 1000));
}

#[tokio::test]
async fn of_a_session_that_exists_the_lists_change_nothing() {
    let service = Service::with_room().await;
    let request = OpenSharedSessionRequest {
        get_if_exists: true,
        roles: roles(&[("bob", Role::Owner), ("kim", Role::Admin)]),
        bans: vec![ban("eve")],
        ..with_users("finals", "", &["lee"])
    };
    assert!(service.try_open(request).await.expect("it is returned").existed);
    assert_eq!(service.names("finals").await, ["ada"]);
    let info = service.info("finals", "ada").await;
    assert_eq!((info.bans.len(), info.session.map(|it| it.owner_id)), (0, Some("ada".to_owned())));
    service.join("finals", "eve").await;
}

#[tokio::test]
async fn openings_with_the_same_users_do_not_wait_for_each_other() {
    let service = Service::start().await;
    let exclusive = SessionSettings { exclusive: Some(true), ..Default::default() };
    for round in 0..20 {
        let mut calls = tokio::task::JoinSet::new();
        for (at, names) in [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "d"]].iter().enumerate() {
            let mut sessions = service.sessions();
            let request = OpenSharedSessionRequest {
                settings: Some(exclusive.clone()),
                ..with_users(&format!("{round} {at}"), "", names)
            };
            calls.spawn(async move { sessions.open_shared_session(sent(request)).await });
        }
        let opened = in_time(calls.join_all()).await.into_iter().flatten();
        let opened: Vec<_> = opened.filter_map(|reply| reply.into_inner().session).collect();
        assert_eq!(opened.len(), 1, "they share users");
        service.try_delete(&opened[0].session_id, "").await.expect("it is deleted");
    }
}
