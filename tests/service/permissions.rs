//! Who may call what: every unary call of the contract by everybody, against one table. A call
//! without a line fails. Nobody acts as the app by accident: every call of the contract, streams too,
//! tells a caller who forgot the user from one who acts as the app.

use crate::support::*;
use prost::Message;
use sessiond::proto::{self, Role};
use std::collections::BTreeSet;
use tonic::Code;

/// Who calls, as the columns of the table. All but the last two are users of this name.
const CALLERS: [&str; 8] =
    ["owner", "admin", "moderator", "member", "spectator", "outsider", APP, NOBODY];

/// The app itself: the metadata say so, and no user is named.
const APP: &str = "app";

/// A caller who names no user and does not say that it acts as the app.
const NOBODY: &str = "nobody";

/// The user whom a caller names in the request.
fn user_of(caller: &str) -> String {
    if [APP, NOBODY].contains(&caller) { String::new() } else { caller.to_owned() }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It is done.
    Done,
    /// The role is too low.
    Low,
    /// For people who have joined.
    NotIn,
    /// As if the thing were not there.
    Hidden,
    /// The call needs a user.
    NeedsUser,
    /// Not served yet.
    Later,
}

use Outcome::{Done, Hidden, Later, Low, NeedsUser, NotIn};

/// The table. In a hosted session whose host is the owner; acts on others are on a plain member.
/// Object streams are those of the owner, for everybody but the outsider to read.
const TABLE: [(&str, [Outcome; 8]); 28] = [
    // call                    owner admin moderator member spectator outsider app nobody
    ("GetSessionInfo", [Done, Done, Done, Done, Done, Done, Done, NeedsUser]),
    ("ListSessions", [Done, Done, Done, Done, Done, Done, Done, NeedsUser]),
    ("OpenSharedSession", [Done, Done, Done, Done, Done, Done, Done, NeedsUser]),
    // As the source, or as the app.
    ("OpenPrivateSession", [Done, Done, Done, Done, Done, Done, Done, NeedsUser]),
    ("UpdateSession", [Done, Done, Low, Low, Low, Low, Done, NeedsUser]),
    ("ResetSession", [Done, Done, Low, Low, Low, Low, Done, NeedsUser]),
    // Joins a new user where none is named.
    ("JoinSession", [Done, Done, Done, Done, Done, Done, Done, Done]),
    // For another user.
    ("ReserveSeats", [Done, Done, Low, Low, Low, Low, Done, NeedsUser]),
    ("ReleaseSeats", [Done, Done, Low, Low, Low, Low, Done, NeedsUser]),
    ("LeaveSession", [Done, Done, Done, Done, Done, NotIn, NeedsUser, NeedsUser]),
    ("DeleteSession", [Done, Low, Low, Low, Low, Low, Done, NeedsUser]),
    ("SetUserProps", [Done, Done, Done, Done, Low, NotIn, Done, NeedsUser]),
    ("SetSessionData", [Done, Done, Done, Done, Low, NotIn, Done, NeedsUser]),
    ("GetUpdatedUserData", [Done, Done, Done, Done, Done, NotIn, Done, NeedsUser]),
    ("GetFirstMatch", [Done, Done, Done, Done, Done, NotIn, Done, NeedsUser]),
    ("SwapHost", [Done, Done, Done, Low, Low, Low, Done, NeedsUser]),
    ("SetRole", [Done, Done, Low, Low, Low, Low, Done, NeedsUser]),
    ("KickUser", [Done, Done, Done, Low, Low, Low, Done, NeedsUser]),
    ("BanUser", [Done, Done, Done, Low, Low, Low, Done, NeedsUser]),
    ("UnbanUser", [Done, Done, Done, Low, Low, Low, Done, NeedsUser]),
    ("TransmitSessionUpdates", [Done, Done, Done, Low, Low, Low, Done, NeedsUser]),
    ("SetStream", [Done, Low, Low, Low, Low, Hidden, Done, NeedsUser]),
    ("RemoveStream", [Done, Low, Low, Low, Low, Hidden, Done, NeedsUser]),
    ("UpdateStreamData", [Done, Low, Low, Low, Low, Hidden, Done, NeedsUser]),
    ("SetStreamFunc", [Done, Low, Low, Low, Low, Hidden, Done, NeedsUser]),
    // Whoever adds a function owns it.
    ("AddStreamFunc", [Done, Done, Done, Done, Done, Done, Done, NeedsUser]),
    ("GetStreamUpdate", [Done, Done, Done, Done, Done, Hidden, Done, NeedsUser]),
    // Shows what the caller may read, which may be nothing.
    ("GetAllStreamUpdates", [Done, Done, Done, Done, Done, Done, Done, NeedsUser]),
];

/// Every unary call of the contract, with its path.
fn unary_calls() -> Vec<(String, String)> {
    let unary = calls().into_iter().filter(|call| !call.is_stream);
    unary.map(|call| (call.name, call.path)).collect()
}

/// A hosted session and an object stream, with everybody in their places.
async fn stage(service: &Service, name: &str) {
    service.open_hosted(name, "owner", Default::default()).await;
    for user in ["admin", "moderator", "member", "target"] {
        service.join(name, user).await;
    }
    service.set_role(name, "", "admin", Role::Admin).await;
    service.set_role(name, "", "moderator", Role::Moderator).await;
    service.spectate(name, "spectator").await;
    service.try_ban(name, "", "banned").await.expect("it is banned");
    let stream = request_of("SetStream", name, "owner", "");
    let made = service.call_raw("/sessiond.v1.ObjectStreamService/SetStream", stream).await;
    made.expect("the stream is made");
    service.tick();
}

async fn outcome(service: &Service, path: &str, caller: &str, request: Vec<u8>) -> Outcome {
    let metadata = (caller == APP).then_some("app");
    let answer = service.call_raw_as(metadata, path, request).await;
    let Err(status) = answer else { return Done };
    let told = Refused::new(&status);
    match (told.code, &*told.reason) {
        (Code::PermissionDenied, "ROLE_TOO_LOW") => Low,
        (Code::FailedPrecondition, "NOT_A_MEMBER") => NotIn,
        (Code::NotFound, "SESSION_NOT_FOUND" | "STREAM_NOT_FOUND") => Hidden,
        (Code::AlreadyExists, "NAME_TAKEN") if path.ends_with("/SetStream") => Hidden,
        (Code::InvalidArgument, _) if told.fields == ["user_id"] => NeedsUser,
        (Code::Unimplemented, "NOT_IMPLEMENTED") => Later,
        _ => panic!("{path} is refused for another reason: {told:?}"),
    }
}

#[tokio::test]
async fn every_call_does_for_everybody_what_the_table_says() {
    let service = Service::start().await;
    let mut calls = unary_calls();
    // Those are of no role: `identity` shows who may make them.
    calls.retain(|(_, path)| !path.contains("AdminService"));
    for (call, path) in &calls {
        let line = TABLE.iter().find(|(name, _)| name == call);
        let Some((_, line)) = line else { panic!("{call} has no line in the table") };
        let mut found = Vec::new();
        for caller in CALLERS {
            let name = format!("{call} {caller}");
            stage(&service, &name).await;
            found.push(
                outcome(&service, path, caller, request_of(call, &name, &user_of(caller), ""))
                    .await,
            );
        }
        assert_eq!(found, line, "{call} by {CALLERS:?}");
    }
    let names: BTreeSet<_> = calls.iter().map(|(call, _)| call.as_str()).collect();
    let lines: BTreeSet<_> = TABLE.iter().map(|(call, _)| *call).collect();
    assert_eq!(names, lines, "every line is that of a call");
}

#[tokio::test]
async fn an_unlisted_session_does_not_exist_for_outsiders_whatever_they_call() {
    let service = Service::start().await;
    let unlisted =
        proto::SessionSettings { unlisted: Some(true), locked: Some(true), ..Default::default() };
    for (call, path) in unary_calls() {
        if !path.contains("SessionService") {
            continue;
        }
        let name = format!("{call} unlisted");
        stage(&service, &name).await;
        service.update(&name, "", &["unlisted"], unlisted.clone()).await;
        service.tick();
        let expected = match &*call {
            // Who knows the id may join; the others are about no session that is there.
            "JoinSession" | "ListSessions" | "OpenSharedSession" | "OpenPrivateSession" => Done,
            _ => Hidden,
        };
        if call == "SetUserProps" {
            let write = write([("x", int(1))]).in_session(&name);
            let told = refused(service.try_write("outsider", write).await);
            told.is(Code::NotFound, "SESSION_NOT_FOUND");
            continue;
        }
        let found =
            outcome(&service, &path, "outsider", request_of(&call, &name, "outsider", "")).await;
        assert_eq!(found, expected, "{call}");
        let unknown = request_of(&call, "no such session", "outsider", "");
        if expected == Hidden {
            assert_eq!(outcome(&service, &path, "outsider", unknown).await, Hidden, "{call}");
        }
    }
    let listed = service.try_list(proto::ListSessionsRequest {
        user_id: "outsider".to_owned(),
        ..Default::default()
    });
    let listed = listed.await.expect("it lists").sessions;
    assert!(
        listed
            .iter()
            .all(|it| !it.session_id.ends_with("unlisted") || it.session_id.starts_with("Join"))
    );
}

/// A request that names a user, or none, and nothing else; a gateway acts for no user.
fn bare_request(call: &str, user: &str) -> Vec<u8> {
    let user_id = user.to_owned();
    if call == "StreamUserProps" {
        let open = proto::StreamOpen { user_id, ..Default::default() };
        let message = Some(proto::stream_user_props_request::Message::Open(open));
        return proto::StreamUserPropsRequest { seq: 1, message }.encode_to_vec();
    }
    if call == "Gateway" {
        let gateway_id = "backend".to_owned();
        let hello = Some(proto::GatewayHello { gateway_id, ..Default::default() });
        return proto::GatewayRequest { seq: 1, hello, ..Default::default() }.encode_to_vec();
    }
    // The user has the same number in every request.
    proto::ListSessionsRequest { user_id, ..Default::default() }.encode_to_vec()
}

#[tokio::test]
async fn no_call_acts_as_the_app_unless_it_says_so_and_names_no_user() {
    let service = Service::start().await;
    for Call { name, path, .. } in calls() {
        let field = if name == "StreamUserProps" { "open.user_id" } else { "user_id" };
        let blames = async |metadata, user| {
            let answer = service.call_raw_as(metadata, &path, bare_request(&name, user)).await;
            let told = refused(answer).is(Code::InvalidArgument, "INVALID_FIELDS");
            [field, "sessiond-as"].map(|field| told.fields.iter().any(|it| it == field))
        };
        for user in ["", "ada"] {
            for value in ["", "App", "ada"] {
                assert_eq!(blames(Some(value), user).await, [false, true], "{path}: {value:?}");
            }
        }
        if path.contains("AdminService") {
            // No user makes these calls.
            assert_eq!(blames(None, "").await, [false, true], "{path}: not as the app");
            continue;
        }
        if ["Gateway", "WatchEvents"].contains(&&*name) {
            // They act for no user.
            continue;
        }
        assert_eq!(blames(Some("app"), "ada").await, [true, true], "{path}: both");
        if name != "JoinSession" {
            assert_eq!(blames(None, "").await, [true, false], "{path}: neither");
        }
    }
}

#[tokio::test]
async fn whoever_forgets_the_user_learns_the_way_out() {
    let service = Service::with_room().await;
    let request =
        proto::DeleteSessionRequest { session_id: "finals".to_owned(), ..Default::default() };
    let status = service.sessions().delete_session(request).await.expect_err("it is refused");
    let expected = "user_id: must be given; only a call with the metadata sessiond-as: app acts as \
        the app itself, without a user";
    assert_eq!(status.message(), expected);
    service.info("finals", "ada").await;
}

#[tokio::test]
async fn a_call_that_joins_without_a_user_joins_a_new_one_whether_the_app_makes_it_or_not() {
    let service = Service::with_room().await;
    let join =
        || proto::JoinSessionRequest { session_id: "finals".to_owned(), ..Default::default() };
    let open = || proto::OpenSharedSessionRequest {
        join: Some(proto::JoinOptions::default()),
        ..Default::default()
    };
    for by_app in [false, true] {
        let mut sessions = service.sessions();
        let joined = match by_app {
            true => sessions.join_session(as_app(join())).await,
            false => sessions.join_session(join()).await,
        };
        let joined = joined.expect("it joins").into_inner();
        assert!(!joined.user_id.is_empty());
        assert_eq!(joined.role(), Role::Member, "it is in, and no more than a member");
        let opened = match by_app {
            true => sessions.open_shared_session(as_app(open())).await,
            false => sessions.open_shared_session(open()).await,
        };
        let opened = opened.expect("it opens").into_inner();
        let session = opened.session.expect("it is told").session_id;
        let roll = service.roll(&session).await;
        assert_eq!(roll, [(opened.user_id, Role::Owner)], "the new user owns it");
    }
}

#[tokio::test]
async fn the_app_opens_a_session_without_member_and_owner() {
    let service = Service::start().await;
    let request =
        proto::OpenSharedSessionRequest { session_id: "finals".to_owned(), ..Default::default() };
    refused(service.sessions().open_shared_session(request.clone()).await).blames(&["user_id"]);
    let opened = service.sessions().open_shared_session(as_app(request)).await;
    assert_eq!(opened.expect("it opens").into_inner().user_id, "");
    assert!(service.roll("finals").await.is_empty());
}
