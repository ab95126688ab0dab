//! Who may call: what a credential allows, over the wire, and what becomes of open streams.

use crate::support::*;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value as Json, json};
use sessiond::cluster::Nodes;
use sessiond::config::Config;
use sessiond::identity::{
    Apps, Kind,
    api_key::ApiKey,
    key_file::{self, Entry},
};
use sessiond::proto::{
    self, admin_service_client::AdminServiceClient, delivery_service_client::DeliveryServiceClient,
    revocation::What, session_service_client::SessionServiceClient,
    stream_user_props_request::Message as Up,
};
use sessiond::session::ids::AppId;
use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Code, Request, Status, Streaming, service::interceptor::InterceptedService, transport::Channel,
};

const SECRET: &str = "for tests only: 0123456789abcdef";

const SETTINGS: &str = r#"
key-file = "keys.toml"

[[issuers]]
name = "tests"
issuer = "https://issuer.test"
audiences = ["sessiond"]
apps = ["games", "chat"]
scopes = ["user", "backend", "app", "read"]

[[issuers.keys]]
kid = "secret"
secret-file = "secret"
algorithms = ["HS256"]
"#;

/// The claims of a token that holds for an hour from the begin of the tests.
pub fn claims(scope: &str) -> Json {
    let now = BEGIN / 1_000_000;
    json!({
        "iss": "https://issuer.test", "aud": "sessiond", "sub": "ada", "app": "games",
        "scope": scope, "iat": now, "exp": now + 3600,
    })
}

/// The same with another value of one claim.
pub fn with(mut claims: Json, name: &str, value: impl Into<Json>) -> Json {
    claims[name] = value.into();
    claims
}

pub fn token(claims: &Json) -> String {
    let header = Header { kid: Some("secret".to_owned()), ..Header::new(Algorithm::HS256) };
    encode(&header, claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("it is signed")
}

/// The key of somebody who may do everything everywhere.
static OPERATOR: LazyLock<ApiKey> = LazyLock::new(|| ApiKey::generate().expect("it is random"));

pub fn operator() -> String {
    OPERATOR.reveal()
}

/// The key of the backend of one app.
static LOBBY: LazyLock<ApiKey> = LazyLock::new(|| ApiKey::generate().expect("it is random"));

pub fn lobby() -> String {
    LOBBY.reveal()
}

/// A server that asks for credentials.
pub async fn service() -> Service {
    service_with(SETTINGS).await
}

/// The same with other settings of who may call.
async fn service_with(settings: &str) -> Service {
    service_whose_apps(settings, None).await
}

/// The same as one of several nodes.
pub async fn service_among(nodes: Arc<dyn Nodes>) -> Service {
    service_of(SETTINGS, None, Some(nodes)).await
}

/// The same with limits of apps.
async fn service_whose_apps(settings: &str, limits: Option<&str>) -> Service {
    service_of(settings, limits, None).await
}

async fn service_of(
    settings: &str,
    limits: Option<&str>,
    nodes: Option<Arc<dyn Nodes>>,
) -> Service {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("who-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a folder");
    let secret = folder.join("secret");
    fs::write(&secret, SECRET).expect("it is written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&secret, mode).expect("it is ours");
    let all = Kind::Backend { may_act_as_app: true };
    let entry = Entry::new(&OPERATOR, Apps::All, all, BEGIN);
    key_file::add(&folder.join("keys.toml"), &entry).expect("it is added");
    let games = Apps::Only([AppId::new("games").expect("an id")].into());
    let entry = Entry::new(&LOBBY, games, Kind::Backend { may_act_as_app: false }, BEGIN);
    key_file::add(&folder.join("keys.toml"), &entry).expect("it is added");
    let file = folder.join("identity.toml");
    fs::write(&file, settings).expect("it is written");
    let apps = limits.map(|limits| {
        let file = folder.join("apps.toml");
        fs::write(&file, limits).expect("it is written");
        file
    });
    let change = |config: &mut Config| {
        config.identity = Some(file);
        config.apps = apps;
    };
    Service::start_among(change, nodes).await
}

pub type Bearing = InterceptedService<Channel, Bearer>;

/// Puts a credential on every call.
#[derive(Clone)]
pub struct Bearer {
    authorization: Vec<String>,
    as_app: bool,
}

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for value in &self.authorization {
            let value = value.parse().expect("ASCII");
            request.metadata_mut().append("authorization", value);
        }
        if self.as_app {
            request.metadata_mut().insert("sessiond-as", "app".parse().expect("ASCII"));
        }
        Ok(request)
    }
}

pub fn bearing(service: &Service, token: &str, as_app: bool) -> Bearing {
    let authorization = vec![format!("Bearer {token}")];
    InterceptedService::new(service.channel(), Bearer { authorization, as_app })
}

pub fn sessions(service: &Service, token: &str) -> SessionServiceClient<Bearing> {
    SessionServiceClient::new(bearing(service, token, false))
}

pub fn sessions_as_app(service: &Service, token: &str) -> SessionServiceClient<Bearing> {
    SessionServiceClient::new(bearing(service, token, true))
}

/// The reason why a call of the bearer of a credential is refused; none = it is let in.
pub async fn refused_call(service: &Service, credential: &str) -> Option<String> {
    let request = proto::ListSessionsRequest {
        app: "games".to_owned(),
        user_id: "ada".to_owned(),
        ..Default::default()
    };
    let listed = in_time(sessions(service, credential).list_sessions(request)).await;
    listed.err().map(|status| Refused::new(&status).reason)
}

fn info(app: &str, session: &str, user: &str) -> proto::GetSessionInfoRequest {
    proto::GetSessionInfoRequest {
        app: app.to_owned(),
        session_id: session.to_owned(),
        user_id: user.to_owned(),
        ..Default::default()
    }
}

pub fn open(app: &str, session: &str, user: &str) -> proto::OpenSharedSessionRequest {
    let join = Some(proto::JoinOptions::default());
    let opening = opening(session, user, proto::SessionSettings::default());
    proto::OpenSharedSessionRequest { app: app.to_owned(), join, ..opening }
}

/// Calls any path with some bytes, with these credentials, as the app or not.
async fn call(
    service: &Service,
    (authorization, as_app): (&[String], bool),
    path: &str,
    message: Vec<u8>,
) -> Result<(), Status> {
    let mut request = Request::new(tokio_stream::iter(vec![Bytes::from(message)]));
    for value in authorization {
        request.metadata_mut().append("authorization", value.parse().expect("ASCII"));
    }
    if as_app {
        request.metadata_mut().insert("sessiond-as", "app".parse().expect("ASCII"));
    }
    let mut answer = service.request_raw(path, request).await?;
    in_time(answer.message()).await.map(drop)
}

/// A stream of ada with a token, in the session `finals`, which it opens; and its messages up.
async fn stream(
    service: &Service,
    token: &str,
) -> (mpsc::UnboundedSender<proto::StreamUserPropsRequest>, Streaming<proto::StreamUserPropsResponse>)
{
    let (up, messages) = mpsc::unbounded_channel();
    let subscription = proto::SessionSubscription {
        session_id: "finals".to_owned(),
        join: Some(proto::JoinOptions::default()),
        open_if_missing: Some(Box::new(proto::OpenSharedSessionRequest::default())),
        ..Default::default()
    };
    let first = proto::StreamOpen {
        app: "games".to_owned(),
        subscriptions: vec![subscription],
        ..Default::default()
    };
    let message = Some(Up::Open(first));
    up.send(proto::StreamUserPropsRequest { seq: 1, message }).expect("it is open");
    let mut client = DeliveryServiceClient::new(bearing(service, token, false));
    let down = in_time(client.stream_user_props(UnboundedReceiverStream::new(messages))).await;
    let mut down = down.expect("it opens").into_inner();
    let first = in_time(down.message()).await.expect("it goes on").expect("a message");
    assert_eq!(first.user_id, "ada", "the user of the token, who was not named");
    (up, down)
}

/// Lets time pass until a message is acked; what was refused until then.
async fn until_acked(
    service: &Service,
    down: &mut Streaming<proto::StreamUserPropsResponse>,
    seq: u64,
) -> Vec<proto::Refusal> {
    let mut refusals = Vec::new();
    let wait = async {
        loop {
            service.tick();
            if let Ok(message) = timeout(GLANCE, down.message()).await {
                let message = message.expect("it goes on").expect("a message");
                refusals.extend(message.refusals);
                if message.acked_seq >= seq {
                    break;
                }
            }
        }
    };
    in_time(wait).await;
    refusals
}

/// The rest of a stream that is over: what it was refused, and how it ended.
async fn rest(
    down: &mut Streaming<proto::StreamUserPropsResponse>,
) -> (Vec<proto::Refusal>, Status) {
    let mut refusals = Vec::new();
    loop {
        match in_time(down.message()).await {
            Ok(Some(message)) => refusals.extend(message.refusals),
            Ok(None) => return (refusals, Status::ok("")),
            Err(status) => return (refusals, status),
        }
    }
}

#[tokio::test]
async fn without_a_valid_credential_no_call_passes_but_health_and_reflection() {
    let service = service().await;
    let now = BEGIN / 1_000_000;
    let good = token(&claims("app"));
    let bad: [(&str, Vec<String>, &str); 7] = [
        ("none", vec![], "BAD_CREDENTIALS"),
        ("two", vec![format!("Bearer {good}"); 2], "BAD_CREDENTIALS"),
        ("another scheme", vec![format!("Basic {good}")], "BAD_CREDENTIALS"),
        ("nonsense", vec!["Bearer nonsense".to_owned()], "BAD_CREDENTIALS"),
        ("cut", vec![format!("Bearer {}", &good[..good.len() - 1])], "BAD_CREDENTIALS"),
        (
            "another audience",
            vec![format!("Bearer {}", token(&with(claims("app"), "aud", "other")))],
            "BAD_CREDENTIALS",
        ),
        (
            "expired",
            vec![format!("Bearer {}", token(&with(claims("app"), "exp", now - 60)))],
            "TOKEN_EXPIRED",
        ),
    ];
    for (name, authorization, reason) in bad {
        for Call { path, .. } in calls() {
            let answer = call(&service, (&authorization, true), &path, vec![0xff]).await;
            println!("{path}, {name}");
            refused(answer).is(Code::Unauthenticated, reason);
        }
    }
    let mut health = tonic_health::pb::health_client::HealthClient::new(service.channel());
    let asked = tonic_health::pb::HealthCheckRequest::default();
    in_time(health.check(asked)).await.expect("health is told to everybody");
}

#[tokio::test]
async fn no_credential_reaches_into_an_app_that_it_does_not_hold_in() {
    let service = service().await;
    // Field 1 of every request of one message is its app.
    let in_app = |app: &str| [&[10, app.len() as u8], app.as_bytes()].concat();
    for scope in ["user", "app"] {
        let bearer = [format!("Bearer {}", token(&claims(scope)))];
        let bearer = (&bearer[..], scope == "app");
        for Call { path, .. } in calls() {
            let others = ["StreamUserProps", "Gateway", "AdminService", "EventService"];
            if others.iter().any(|it| path.contains(it)) {
                continue;
            }
            for app in ["chat", "default", "games2", "*"] {
                println!("{path} in {app}");
                let answer = call(&service, bearer, &path, in_app(app)).await;
                refused(answer).is(Code::PermissionDenied, "NOT_ENTITLED");
            }
            if ["ReceiveSessionUpdates", "WatchSessions", "SubscribeToStreams"]
                .iter()
                .any(|it| path.ends_with(it))
            {
                // It would go on and on.
                continue;
            }
            // In its own app another fault is found, if any.
            let answer = call(&service, bearer, &path, in_app("games")).await;
            let code = answer.as_ref().err().map(Status::code);
            assert_ne!(code, Some(Code::PermissionDenied), "{path} in its own app");
        }
    }
}

#[tokio::test]
async fn each_kind_of_credential_makes_the_calls_that_it_may() {
    let service = service().await;
    let reads = [
        "GetSessionInfo",
        "ListSessions",
        "GetUpdatedUserData",
        "GetFirstMatch",
        "SubscribeToSession",
        "WatchSessions",
        "SubscribeToStreams",
    ];
    for Call { path, .. } in calls() {
        let name = path.rsplit_once('/').expect("a path").1;
        let is_admin = path.contains("AdminService");
        let may: [(&str, bool); 4] = [
            ("user", !is_admin && !["Gateway", "WatchEvents"].contains(&name)),
            ("backend", true),
            ("app", true),
            ("read", reads.contains(&name)),
        ];
        for (scope, may) in may {
            let bearer = [format!("Bearer {}", token(&claims(scope)))];
            println!("{path} by {scope}");
            let answer = call(&service, (&bearer, false), &path, vec![0xff]).await;
            // What is let in is refused as garbage.
            let (code, reason) = match may {
                true => (Code::InvalidArgument, "MALFORMED_MESSAGE"),
                false => (Code::PermissionDenied, "NOT_ENTITLED"),
            };
            refused(answer).is(code, reason);
        }
    }
}

#[tokio::test]
async fn a_user_acts_as_itself_named_or_not_and_as_nobody_else() {
    let service = service().await;
    let token = token(&claims("user"));
    let mut ada = sessions(&service, &token);
    let opened = in_time(ada.open_shared_session(open("games", "finals", ""))).await;
    assert_eq!(opened.expect("it opens").into_inner().user_id, "ada");
    in_time(ada.get_session_info(info("games", "finals", ""))).await.expect("as itself");
    in_time(ada.get_session_info(info("games", "finals", "ada"))).await.expect("as itself");
    let as_ben = in_time(ada.get_session_info(info("games", "finals", "ben"))).await;
    refused(as_ben).is(Code::PermissionDenied, "NOT_ENTITLED");
    let join = proto::JoinSessionRequest {
        app: "games".to_owned(),
        session_id: "finals".to_owned(),
        user_id: "ben".to_owned(),
        ..Default::default()
    };
    refused(in_time(ada.join_session(join)).await).is(Code::PermissionDenied, "NOT_ENTITLED");
    let with_ben = proto::OpenSharedSessionRequest {
        users: vec!["ben".to_owned()],
        ..open("games", "other", "")
    };
    let in_passing = proto::JoinSessionRequest {
        app: "games".to_owned(),
        session_id: "other".to_owned(),
        open_if_missing: Some(with_ben.clone()),
        ..Default::default()
    };
    let opened = in_time(ada.open_shared_session(with_ben)).await;
    refused(opened).is(Code::PermissionDenied, "NOT_ENTITLED");
    refused(in_time(ada.join_session(in_passing)).await).is(Code::PermissionDenied, "NOT_ENTITLED");
    let mut as_app = sessions_as_app(&service, &token);
    let as_app = in_time(as_app.get_session_info(info("games", "finals", ""))).await;
    refused(as_app).is(Code::PermissionDenied, "NOT_ENTITLED");
}

#[tokio::test]
async fn only_a_credential_that_says_so_acts_as_the_app() {
    let service = service().await;
    let mut backend = sessions_as_app(&service, &token(&claims("backend")));
    let refused_to = in_time(backend.open_shared_session(open("games", "finals", ""))).await;
    refused(refused_to).is(Code::PermissionDenied, "NOT_ENTITLED");
    let mut as_ben = sessions(&service, &token(&claims("backend")));
    in_time(as_ben.open_shared_session(open("games", "finals", "ben"))).await.expect("as any user");
    let mut app = sessions_as_app(&service, &token(&claims("app")));
    in_time(app.get_session_info(info("games", "finals", ""))).await.expect("as the app");
    let mut reader = sessions_as_app(&service, &token(&claims("read")));
    in_time(reader.get_session_info(info("games", "finals", ""))).await.expect("it reads");
    let mut reader = sessions(&service, &token(&claims("read")));
    let as_ben = in_time(reader.get_session_info(info("games", "finals", "ben"))).await;
    refused(as_ben).is(Code::PermissionDenied, "NOT_ENTITLED");
}

#[tokio::test]
async fn a_token_for_a_few_sessions_reaches_no_others() {
    let service = service().await;
    let mut everywhere = sessions(&service, &token(&claims("user")));
    for session in ["finals", "other"] {
        let opened = in_time(everywhere.open_shared_session(open("games", session, ""))).await;
        opened.expect("it opens");
    }
    let few = token(&with(claims("user"), "sessions", json!(["finals", "next"])));
    let mut few = sessions(&service, &few);
    in_time(few.get_session_info(info("games", "finals", ""))).await.expect("it names it");
    in_time(few.open_shared_session(open("games", "next", ""))).await.expect("it names it");
    let if_missing = proto::JoinSessionRequest {
        app: "games".to_owned(),
        session_id: "finals".to_owned(),
        open_if_missing: Some(proto::OpenSharedSessionRequest::default()),
        ..Default::default()
    };
    in_time(few.join_session(if_missing)).await.expect("it names it");
    for refused_to in [
        in_time(few.get_session_info(info("games", "other", ""))).await.err(),
        in_time(few.open_shared_session(open("games", "third", ""))).await.err(),
        in_time(few.open_shared_session(open("games", "", ""))).await.err(),
        in_time(few.list_sessions(proto::ListSessionsRequest {
            app: "games".to_owned(),
            ..Default::default()
        }))
        .await
        .err(),
        in_time(few.set_user_props(proto::SetUserPropsRequest {
            app: "games".to_owned(),
            write: Some(write([("x", int(1))])),
            ..Default::default()
        }))
        .await
        .err(),
        in_time(few.join_session(proto::JoinSessionRequest {
            app: "games".to_owned(),
            newest: true,
            ..Default::default()
        }))
        .await
        .err(),
        // It would take the user out of another one.
        in_time(few.join_session(proto::JoinSessionRequest {
            app: "games".to_owned(),
            session_id: "next".to_owned(),
            join: Some(proto::JoinOptions { r#move: true, ..Default::default() }),
            ..Default::default()
        }))
        .await
        .err(),
    ] {
        Refused::new(&refused_to.expect("it is refused"))
            .is(Code::PermissionDenied, "NOT_ENTITLED");
    }
}

#[tokio::test]
async fn a_token_limits_the_role_of_its_user() {
    let service = service().await;
    let mut owner = sessions(&service, &token(&claims("user")));
    in_time(owner.open_shared_session(open("games", "finals", ""))).await.expect("it opens");
    let limited = |role: &str| token(&with(claims("user"), "role", role));
    let delete = || proto::DeleteSessionRequest {
        app: "games".to_owned(),
        session_id: "finals".to_owned(),
        ..Default::default()
    };
    let mut moderator = sessions(&service, &limited("moderator"));
    let deleted = in_time(moderator.delete_session(delete())).await;
    refused(deleted).is(Code::PermissionDenied, "ROLE_TOO_LOW");
    // Whoever opens a session owns it.
    let opened = in_time(moderator.open_shared_session(open("games", "next", ""))).await;
    refused(opened).is(Code::PermissionDenied, "NOT_ENTITLED");
    let private = proto::OpenPrivateSessionRequest {
        app: "games".to_owned(),
        source_id: "ada".to_owned(),
        listener_id: "ben".to_owned(),
        ..Default::default()
    };
    let opened = in_time(moderator.open_private_session(private)).await;
    refused(opened).is(Code::PermissionDenied, "NOT_ENTITLED");
    let mut spectator = sessions(&service, &limited("spectator"));
    let set = proto::SetUserPropsRequest {
        app: "games".to_owned(),
        write: Some(proto::PropsWrite {
            session_ids: vec!["finals".to_owned()],
            ..write([("x", int(1))])
        }),
        ..Default::default()
    };
    let written = in_time(spectator.set_user_props(set.clone())).await;
    refused(written).is(Code::PermissionDenied, "ROLE_TOO_LOW");
    // Nor on the user, which all its sessions would be shown.
    let on_user = proto::SetUserPropsRequest {
        write: set.write.map(|it| proto::PropsWrite { session_ids: vec![], ..it }),
        ..set
    };
    let written = in_time(spectator.set_user_props(on_user)).await;
    refused(written).is(Code::PermissionDenied, "ROLE_TOO_LOW");
    let guest = token(&with(with(claims("user"), "sub", "cyd"), "role", "spectator"));
    let join = proto::JoinSessionRequest {
        app: "games".to_owned(),
        session_id: "finals".to_owned(),
        ..Default::default()
    };
    in_time(sessions(&service, &guest).join_session(join)).await.expect("it joins");
    service.tick();
    let info = in_time(owner.get_session_info(info("games", "finals", ""))).await.expect("it is");
    let session = info.into_inner().session.expect("it is told");
    assert_eq!((session.member_count, session.spectator_count), (Some(1), Some(1)), "{session:?}");
    // What only the owner sees, nobody sees who may not act as one, and rules judge by the same role.
    let secret = proto::SetSessionDataRequest {
        app: "games".to_owned(),
        session_id: "finals".to_owned(),
        private_set: [("secret".to_owned(), int(7))].into(),
        ..Default::default()
    };
    in_time(owner.set_session_data(secret)).await.expect("it owns the session");
    service.tick();
    let join = || proto::JoinSessionRequest {
        app: "games".to_owned(),
        session_id: "finals".to_owned(),
        ..Default::default()
    };
    let seen = in_time(owner.join_session(join())).await.expect("it is in").into_inner();
    assert!(format!("{:?}", seen.snapshot).contains("secret"), "{seen:?}");
    let seen = in_time(moderator.join_session(join())).await.expect("it is in").into_inner();
    assert!(seen.snapshot.is_some() && !format!("{:?}", seen.snapshot).contains("secret"));
    let of_admins = proto::SessionRule {
        name: "admins".to_owned(),
        on: vec![proto::JudgedOperation::Write.into()],
        expression: "member.role >= ADMIN".to_owned(),
        message: "only admins write".to_owned(),
    };
    let settings = proto::SessionSettings { rules: vec![of_admins], ..Default::default() };
    let ruled = proto::OpenSharedSessionRequest {
        settings: Some(settings),
        join: Some(proto::JoinOptions::default()),
        ..open("games", "ruled", "")
    };
    in_time(owner.open_shared_session(ruled)).await.expect("it opens");
    let write = proto::SetUserPropsRequest {
        app: "games".to_owned(),
        write: Some(proto::PropsWrite {
            session_ids: vec!["ruled".to_owned()],
            ..write([("x", int(1))])
        }),
        ..Default::default()
    };
    in_time(owner.set_user_props(write.clone())).await.expect("it is above an admin");
    let written = in_time(moderator.set_user_props(write)).await;
    refused(written).is(Code::PermissionDenied, "RULE_REFUSED");
    in_time(sessions(&service, &limited("owner")).delete_session(delete())).await.expect("it may");
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires_and_the_user_is_awaited() {
    let service = service().await;
    let short = with(claims("user"), "exp", BEGIN / 1_000_000 + 60);
    let (_up, mut down) = stream(&service, &token(&short)).await;
    // With the leeway for clocks that differ.
    service.advance(89_000);
    service.advance(1_000);
    let (_, status) = rest(&mut down).await;
    Refused::new(&status).is(Code::Unauthenticated, "TOKEN_EXPIRED");
    let mut app = sessions_as_app(&service, &token(&claims("app")));
    service.advance(29_000);
    in_time(app.get_session_info(info("games", "finals", ""))).await.expect("it is awaited");
}

#[tokio::test]
async fn a_fresh_token_keeps_a_stream_and_a_wrong_one_changes_nothing() {
    let service = service().await;
    let now = BEGIN / 1_000_000;
    let short = with(claims("user"), "exp", now + 60);
    let (up, mut down) = stream(&service, &token(&short)).await;
    let send = |seq, claims: &Json| {
        let message = Some(Up::Token(token(claims)));
        up.send(proto::StreamUserPropsRequest { seq, message }).expect("it is open");
    };
    send(2, &with(claims("user"), "sub", "ben"));
    send(3, &claims("backend"));
    send(4, &with(claims("user"), "app", "chat"));
    send(5, &with(claims("user"), "exp", now - 60));
    send(6, &with(claims("user"), "role", "member"));
    let refusals = until_acked(&service, &mut down, 6).await;
    let reasons: Vec<_> = refusals.iter().map(proto::Refusal::reason).collect();
    use proto::ErrorReason::{NotEntitled, TokenExpired};
    assert_eq!(reasons, [NotEntitled, NotEntitled, NotEntitled, TokenExpired, NotEntitled]);
    send(7, &with(claims("user"), "exp", now + 600));
    assert_eq!(until_acked(&service, &mut down, 7).await, []);
    service.advance(120_000);
    let write =
        proto::StreamUserPropsRequest { seq: 8, message: Some(Up::Write(write([("x", int(1))]))) };
    up.send(write).expect("it is open");
    assert_eq!(until_acked(&service, &mut down, 8).await, []);
    service.advance(600_000);
    let (_, status) = rest(&mut down).await;
    Refused::new(&status).is(Code::Unauthenticated, "TOKEN_EXPIRED");
}

#[tokio::test]
async fn a_revoked_token_ends_its_streams_and_makes_no_calls() {
    let service = service().await;
    let of_ada = token(&with(claims("user"), "jti", "a1"));
    let (_up, mut down) = stream(&service, &of_ada).await;
    let mut admin = AdminServiceClient::new(bearing(&service, &operator(), true));
    let revocation = proto::Revocation { what: Some(What::TokenId("a1".to_owned())) };
    let request = proto::RevokeCredentialsRequest { revocation: Some(revocation.clone()) };
    let revoked = in_time(admin.revoke_credentials(request)).await.expect("it may");
    assert!(revoked.into_inner().lasts.is_some_and(|lasts| lasts.seconds > 0));
    let (_, status) = rest(&mut down).await;
    Refused::new(&status).is(Code::Unauthenticated, "CREDENTIAL_REVOKED");
    assert!(status.message().contains("revoked"), "{status:?}");
    let mut ada = sessions(&service, &of_ada);
    let call = in_time(ada.get_session_info(info("games", "finals", ""))).await;
    refused(call).is(Code::Unauthenticated, "CREDENTIAL_REVOKED");
    let listed = in_time(admin.list_revocations(proto::ListRevocationsRequest::default())).await;
    let listed = listed.expect("it may").into_inner().revocations;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].revocation, Some(revocation.clone()));
    let request = proto::RestoreCredentialsRequest { revocation: Some(revocation) };
    assert!(
        in_time(admin.restore_credentials(request)).await.expect("it may").into_inner().restored
    );
    in_time(ada.get_session_info(info("games", "finals", ""))).await.expect("it holds again");
}

#[tokio::test]
async fn a_stream_that_was_let_in_and_not_opened_is_revoked_too() {
    let service = service().await;
    let of_ada = token(&with(claims("user"), "jti", "a2"));
    let (up, messages) = mpsc::unbounded_channel();
    let mut client = DeliveryServiceClient::new(bearing(&service, &of_ada, false));
    let down = in_time(client.stream_user_props(UnboundedReceiverStream::new(messages))).await;
    let mut down = down.expect("it is let in").into_inner();
    let mut admin = AdminServiceClient::new(bearing(&service, &operator(), true));
    let revocation = Some(proto::Revocation { what: Some(What::TokenId("a2".to_owned())) });
    let request = proto::RevokeCredentialsRequest { revocation };
    in_time(admin.revoke_credentials(request)).await.expect("it may");
    let open = proto::StreamOpen { app: "games".to_owned(), ..Default::default() };
    let message = Some(Up::Open(open));
    up.send(proto::StreamUserPropsRequest { seq: 1, message }).expect("it is open");
    let (_, status) = rest(&mut down).await;
    Refused::new(&status).is(Code::Unauthenticated, "CREDENTIAL_REVOKED");
}

#[tokio::test]
async fn only_who_may_do_everything_everywhere_revokes() {
    let service = service().await;
    let of_one_app = bearing(&service, &token(&claims("app")), true);
    let mut admin = AdminServiceClient::new(of_one_app);
    let request = proto::ListRevocationsRequest::default();
    refused(in_time(admin.list_revocations(request)).await)
        .is(Code::PermissionDenied, "NOT_ENTITLED");
    let mut admin = AdminServiceClient::new(bearing(&service, &operator(), false));
    let request = proto::ListRevocationsRequest::default();
    refused(in_time(admin.list_revocations(request)).await)
        .is(Code::InvalidArgument, "INVALID_FIELDS");
    let unguarded = Service::start().await;
    let bearer = Bearer { authorization: vec![], as_app: true };
    let channel = InterceptedService::new(unguarded.channel(), bearer);
    let request = proto::ListRevocationsRequest::default();
    refused(in_time(AdminServiceClient::new(channel).list_revocations(request)).await)
        .is(Code::FailedPrecondition, "NO_IDENTITY");
}

#[tokio::test]
async fn what_cannot_be_meant_is_not_revoked_and_a_key_is_for_good() {
    let service = service().await;
    let mut admin = AdminServiceClient::new(bearing(&service, &operator(), true));
    let before = |seconds: u64| {
        let time = Some(prost_types::Timestamp { seconds: seconds as i64, nanos: 0 });
        What::IssuedBefore(proto::IssuedBefore { time, ..Default::default() })
    };
    let everywhere = proto::RevokedUser { user_id: "ada".to_owned(), app: "*".to_owned() };
    for what in [before(BEGIN / 1_000_000 + 60), What::User(everywhere)] {
        let revocation = Some(proto::Revocation { what: Some(what) });
        let request = proto::RevokeCredentialsRequest { revocation };
        let revoked = in_time(admin.revoke_credentials(request)).await;
        refused(revoked).is(Code::InvalidArgument, "INVALID_FIELDS");
    }
    let revocation = proto::Revocation { what: Some(What::KeyId("1f3a9c20".to_owned())) };
    let request = proto::RevokeCredentialsRequest { revocation: Some(revocation) };
    let revoked = in_time(admin.revoke_credentials(request)).await.expect("it may").into_inner();
    assert_eq!(revoked.lasts, None);
    let listed = in_time(admin.list_revocations(proto::ListRevocationsRequest::default())).await;
    let listed = listed.expect("it may").into_inner().revocations;
    assert_eq!((listed.len(), listed[0].until), (1, None));
}

#[tokio::test]
async fn users_leave_a_fifth_of_the_calls_of_their_app_to_its_backends() {
    let limits = "[limits]\ncalls-per-second = 10\n";
    let service = service_whose_apps(SETTINGS, Some(limits)).await;
    let mut user = sessions(&service, &token(&claims("user")));
    let mut backend = sessions(&service, &token(&claims("backend")));
    in_time(user.open_shared_session(open("games", "finals", ""))).await.expect("it opens");
    for _ in 1..8 {
        in_time(user.get_session_info(info("games", "finals", ""))).await.expect("it may");
    }
    let over = in_time(user.get_session_info(info("games", "finals", ""))).await;
    refused(over).is(Code::ResourceExhausted, "APP_LIMIT");
    for _ in 0..2 {
        let as_ada = info("games", "finals", "ada");
        in_time(backend.get_session_info(as_ada)).await.expect("it may");
    }
    let over = in_time(backend.get_session_info(info("games", "finals", "ada"))).await;
    refused(over).is(Code::ResourceExhausted, "APP_LIMIT");
}

#[tokio::test]
async fn a_call_that_there_is_not_is_told_as_such() {
    let service = service().await;
    let channel = bearing(&service, &token(&claims("user")), false);
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("it is there");
    let path = http::uri::PathAndQuery::from_static("/sessiond.v1.SessionService/Later");
    let codec =
        tonic_prost::ProstCodec::<proto::GetSessionInfoRequest, proto::SessionInfo>::default();
    let call = client.unary(Request::new(info("games", "finals", "")), path, codec);
    refused(in_time(call).await).is(Code::Unimplemented, "NOT_IMPLEMENTED");
}

#[tokio::test]
async fn while_keys_cannot_be_had_a_call_may_be_tried_again() {
    // Nobody listens there.
    let keys = "\n[[issuers.keys]]\njwks-url = \"http://127.0.0.1:9/keys\"\n";
    let service = service_with(&format!("{SETTINGS}{keys}")).await;
    let header = Header { kid: Some("next".to_owned()), ..Header::new(Algorithm::HS256) };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = encode(&header, &claims("user"), &key).expect("it is signed");
    let mut ada = sessions(&service, &token);
    let call = in_time(ada.get_session_info(info("games", "finals", ""))).await;
    refused(call).is(Code::Unavailable, "KEYS_UNAVAILABLE");
}

#[tokio::test]
async fn a_token_is_told_nowhere() {
    let service = service().await;
    let forged = token(&claims("user"));
    let (head, signature) = forged.rsplit_once('.').expect("a token");
    let mut bytes = BASE64.decode(signature).expect("base64");
    bytes[0] ^= 1;
    let forged = format!("{head}.{}", BASE64.encode(bytes));
    let mut ada = sessions(&service, &forged);
    let call = in_time(ada.get_session_info(info("games", "finals", ""))).await;
    let status = call.expect_err("it is forged");
    let told = format!("{status:?}");
    for secret in [head, SECRET, "issuer.test"] {
        assert!(!told.contains(secret), "{told}");
    }
}
