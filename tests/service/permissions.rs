//! Who may call what: every unary call of the contract by everybody, against one table. A call
//! without a line fails.

use crate::support::*;
use prost::Message;
use sessiond::proto::{self, Role};
use std::collections::BTreeSet;
use tonic::Code;

/// Who calls, as the columns of the table; each is called like this, and the app is called nothing.
const CALLERS: [&str; 7] = ["owner", "admin", "moderator", "member", "spectator", "outsider", ""];

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
const TABLE: [(&str, [Outcome; 7]); 26] = [
    // call                    owner admin moderator member spectator outsider app
    ("GetSessionInfo", [Done, Done, Done, Done, Done, Done, Done]),
    ("ListSessions", [Done, Done, Done, Done, Done, Done, Done]),
    ("OpenSharedSession", [Done, Done, Done, Done, Done, Done, Done]),
    // As the source, or as the app.
    ("OpenPrivateSession", [Done; 7]),
    ("UpdateSession", [Done, Done, Low, Low, Low, Low, Done]),
    ("ResetSession", [Done, Done, Low, Low, Low, Low, Done]),
    ("JoinSession", [Done, Done, Done, Done, Done, Done, Done]),
    ("LeaveSession", [Done, Done, Done, Done, Done, NotIn, NeedsUser]),
    ("DeleteSession", [Done, Low, Low, Low, Low, Low, Done]),
    ("SetUserProps", [Done, Done, Done, Done, Low, NotIn, Done]),
    ("SetSessionData", [Done, Done, Done, Done, Low, NotIn, Done]),
    ("GetUpdatedUserData", [Done, Done, Done, Done, Done, NotIn, Done]),
    ("GetFirstMatch", [Done, Done, Done, Done, Done, NotIn, Done]),
    ("SwapHost", [Done, Done, Done, Low, Low, Low, Done]),
    ("SetRole", [Done, Done, Low, Low, Low, Low, Done]),
    ("KickUser", [Done, Done, Done, Low, Low, Low, Done]),
    ("BanUser", [Done, Done, Done, Low, Low, Low, Done]),
    ("UnbanUser", [Done, Done, Done, Low, Low, Low, Done]),
    ("TransmitSessionUpdates", [Done, Done, Done, Low, Low, Low, Done]),
    ("SetStream", [Done, Low, Low, Low, Low, Hidden, Done]),
    ("RemoveStream", [Done, Low, Low, Low, Low, Hidden, Done]),
    ("UpdateStreamData", [Done, Low, Low, Low, Low, Hidden, Done]),
    ("SetStreamFunc", [Done, Low, Low, Low, Low, Hidden, Done]),
    // Whoever adds a function owns it.
    ("AddStreamFunc", [Done, Done, Done, Done, Done, Done, Done]),
    ("GetStreamUpdate", [Done, Done, Done, Done, Done, Hidden, Done]),
    // Shows what the caller may read, which may be nothing.
    ("GetAllStreamUpdates", [Done, Done, Done, Done, Done, Done, Done]),
];

/// A request of somebody, in the session and about the object stream of this name.
fn request(call: &str, name: &str, caller: &str) -> Vec<u8> {
    let (app, user_id) = (String::new(), caller.to_owned());
    let (session_id, target_user_id) = (name.to_owned(), "target".to_owned());
    let value = props([("x", int(1))]);
    match call {
        "GetSessionInfo" => {
            proto::GetSessionInfoRequest { app, user_id, session_id, ..Default::default() }
                .encode_to_vec()
        }
        "ListSessions" => {
            proto::ListSessionsRequest { app, user_id, ..Default::default() }.encode_to_vec()
        }
        "OpenSharedSession" => {
            proto::OpenSharedSessionRequest { app, user_id, ..Default::default() }.encode_to_vec()
        }
        "UpdateSession" => proto::UpdateSessionRequest {
            app,
            user_id,
            session_id,
            settings: None,
            update_mask: Some(prost_types::FieldMask { paths: vec!["locked".to_owned()] }),
            ..Default::default()
        }
        .encode_to_vec(),
        "JoinSession" => {
            proto::JoinSessionRequest { app, user_id, session_id, ..Default::default() }
                .encode_to_vec()
        }
        "LeaveSession" => {
            proto::LeaveSessionRequest { app, user_id, session_id, ..Default::default() }
                .encode_to_vec()
        }
        "DeleteSession" => {
            proto::DeleteSessionRequest { app, user_id, session_id, ..Default::default() }
                .encode_to_vec()
        }
        "SetUserProps" => proto::SetUserPropsRequest {
            app,
            target_user_id: if caller.is_empty() { target_user_id } else { String::new() },
            user_id,
            write: Some(write([("x", int(1))]).in_session(name)),
        }
        .encode_to_vec(),
        "SetSessionData" => proto::SetSessionDataRequest {
            app,
            user_id,
            session_id,
            set: value,
            ..Default::default()
        }
        .encode_to_vec(),
        "GetUpdatedUserData" => proto::GetUpdatedUserDataRequest {
            app,
            user_id,
            session_id,
            target_user_id,
            ..Default::default()
        }
        .encode_to_vec(),
        "GetFirstMatch" => {
            proto::GetFirstMatchRequest { app, user_id, session_id, ..Default::default() }
                .encode_to_vec()
        }
        "SwapHost" => proto::SwapHostRequest {
            app,
            user_id,
            session_id,
            target_user_id,
            ..Default::default()
        }
        .encode_to_vec(),
        "SetRole" => proto::SetRoleRequest {
            app,
            user_id,
            session_id,
            target_user_id,
            role: Role::Moderator.into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "KickUser" => proto::KickUserRequest {
            app,
            user_id,
            session_id,
            target_user_id,
            ..Default::default()
        }
        .encode_to_vec(),
        "BanUser" => ban_of(name, caller, "target").encode_to_vec(),
        "UnbanUser" => proto::UnbanUserRequest {
            app,
            user_id,
            session_id,
            target_user_id: "banned".to_owned(),
            ..Default::default()
        }
        .encode_to_vec(),
        "TransmitSessionUpdates" => {
            proto::TransmitSessionUpdatesRequest { app, user_id, session_id, ..Default::default() }
                .encode_to_vec()
        }
        "SetStream" => stream_of(caller, name).encode_to_vec(),
        "RemoveStream" => {
            proto::RemoveStreamRequest { app, user_id, name: name.to_owned(), ..Default::default() }
                .encode_to_vec()
        }
        "UpdateStreamData" => proto::UpdateStreamDataRequest {
            app,
            user_id,
            name: name.to_owned(),
            set: value,
            ..Default::default()
        }
        .encode_to_vec(),
        "SetStreamFunc" => proto::SetStreamFuncRequest {
            app,
            user_id,
            name: name.to_owned(),
            ..Default::default()
        }
        .encode_to_vec(),
        "AddStreamFunc" => proto::AddStreamFuncRequest {
            app,
            user_id,
            name: name.to_owned(),
            expression: "value".to_owned(),
        }
        .encode_to_vec(),
        "GetStreamUpdate" => proto::GetStreamUpdateRequest {
            app,
            user_id,
            name: name.to_owned(),
            ..Default::default()
        }
        .encode_to_vec(),
        "GetAllStreamUpdates" => {
            proto::GetAllStreamUpdatesRequest { app, user_id, ..Default::default() }.encode_to_vec()
        }
        "ResetSession" => {
            proto::ResetSessionRequest { app, user_id, session_id, ..Default::default() }
                .encode_to_vec()
        }
        "OpenPrivateSession" => {
            let source = if caller.is_empty() { "owner" } else { caller };
            private(caller, source, "listener").encode_to_vec()
        }
        _ => panic!("{call} has a request"),
    }
}

fn stream_of(caller: &str, name: &str) -> proto::SetStreamRequest {
    proto::SetStreamRequest {
        user_id: caller.to_owned(),
        name: name.to_owned(),
        object: props([("x", int(0))]),
        readers: CALLERS[..5].iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

/// Every unary call of the contract, with its path.
fn unary_calls() -> Vec<(String, String)> {
    let descriptors = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS)
        .expect("the descriptors are compiled in");
    let files = descriptors.file.iter().filter(|file| file.package() == "sessiond.v1");
    let services = files.flat_map(|file| &file.service);
    let calls = services.flat_map(|service| {
        service.method.iter().map(move |method| {
            let path = format!("/sessiond.v1.{}/{}", service.name(), method.name());
            (method, path)
        })
    });
    calls
        .filter(|(method, _)| !method.client_streaming() && !method.server_streaming())
        .map(|(method, path)| (method.name().to_owned(), path))
        .collect()
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
    let stream = stream_of("owner", name).encode_to_vec();
    let made = service.call_raw("/sessiond.v1.ObjectStreamService/SetStream", stream).await;
    made.expect("the stream is made");
    service.tick();
}

async fn outcome(service: &Service, path: &str, request: Vec<u8>) -> Outcome {
    let Err(status) = service.call_raw(path, request).await else { return Done };
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
    let calls = unary_calls();
    for (call, path) in &calls {
        let line = TABLE.iter().find(|(name, _)| name == call);
        let Some((_, line)) = line else { panic!("{call} has no line in the table") };
        let mut found = Vec::new();
        for caller in CALLERS {
            let name = format!("{call} {caller}");
            stage(&service, &name).await;
            found.push(outcome(&service, path, request(call, &name, caller)).await);
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
        let found = outcome(&service, &path, request(&call, &name, "outsider")).await;
        assert_eq!(found, expected, "{call}");
        let unknown = request(&call, "no such session", "outsider");
        if expected == Hidden {
            assert_eq!(outcome(&service, &path, unknown).await, Hidden, "{call}");
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
