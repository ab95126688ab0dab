//! Backends that have a say in what users ask for, over gRPC and over HTTP.

use crate::{
    rules::{bob_comes_in_by_no_way, under},
    support::*,
};
use parking_lot::Mutex;
use sessiond::proto::{
    self, AuthorizeRequest, AuthorizeResponse, Block, Column, Dictionary, DictionaryEntry,
    ErrorReason, GatewayRequest, JoinOptions, Operation, Role, SessionSettings,
    authorize_request::Asked,
    hook_service_server::{HookService, HookServiceServer},
};
use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, async_trait, transport};

/// What a backend does with a question.
enum Act {
    Say(AuthorizeResponse),
    Fail(Code),
    /// Never answers.
    Hang,
    /// Answers once it is let.
    Wait(AuthorizeResponse),
}

type Decide = Box<dyn Fn(&AuthorizeRequest) -> Act + Send + Sync>;

/// What a backend has seen, and how it is let go on.
#[derive(Default)]
struct Seen {
    asked: Mutex<Vec<AuthorizeRequest>>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    given_up: AtomicUsize,
    metadata: Mutex<Option<tonic::metadata::MetadataMap>>,
}

struct Backend {
    address: SocketAddr,
    seen: Arc<Seen>,
    gate: Arc<Semaphore>,
}

struct Serves {
    decide: Decide,
    seen: Arc<Seen>,
    gate: Arc<Semaphore>,
}

/// A call that is under way.
struct UnderWay {
    seen: Arc<Seen>,
    is_done: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.seen.under_way.fetch_sub(1, Ordering::SeqCst);
        if !self.is_done {
            self.seen.given_up.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl HookService for Serves {
    async fn authorize(
        &self,
        request: Request<AuthorizeRequest>,
    ) -> Result<Response<AuthorizeResponse>, Status> {
        let seen = self.seen.clone();
        let under_way = seen.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most_under_way.fetch_max(under_way, Ordering::SeqCst);
        let mut call = UnderWay { seen, is_done: false };
        *self.seen.metadata.lock() = Some(request.metadata().clone());
        let request = request.into_inner();
        self.seen.asked.lock().push(request.clone());
        let answer = match (self.decide)(&request) {
            Act::Say(answer) => Ok(Response::new(answer)),
            Act::Fail(code) => Err(Status::new(code, "secret words of the backend")),
            Act::Hang => std::future::pending().await,
            Act::Wait(answer) => {
                self.gate.acquire().await.expect("it is open").forget();
                Ok(Response::new(answer))
            }
        };
        call.is_done = true;
        answer
    }
}

impl Backend {
    /// A backend over gRPC.
    async fn start(decide: impl Fn(&AuthorizeRequest) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (seen, gate) = (Arc::new(Seen::default()), Arc::new(Semaphore::new(0)));
        let serves = Serves { decide: Box::new(decide), seen: seen.clone(), gate: gate.clone() };
        tokio::spawn(
            transport::Server::builder()
                .add_service(HookServiceServer::new(serves))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self { address, seen, gate }
    }

    /// Which users it was asked about, and what for.
    fn asked(&self) -> Vec<(Operation, String)> {
        let asked = self.seen.asked.lock();
        asked.iter().map(|it| (it.operation(), it.user_id.clone())).collect()
    }

    fn count(&self) -> usize {
        self.seen.asked.lock().len()
    }

    fn last(&self) -> AuthorizeRequest {
        self.seen.asked.lock().last().cloned().expect("it was asked")
    }

    /// Lets so many calls that wait be answered.
    fn let_go_on(&self, count: usize) {
        self.gate.add_permits(count);
    }

    /// Waits until it has seen something.
    async fn until(&self, has_seen: impl Fn(&Seen) -> bool) {
        in_time(async {
            while !has_seen(&self.seen) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// The policy with this hook.
    fn policy(&self, on: &str, more: &str) -> String {
        policy(&format!("grpc://{}", self.address), on, more)
    }
}

fn policy(url: &str, on: &str, more: &str) -> String {
    format!("[[hooks]]\nname = \"lobby\"\nurl = {url:?}\napps = \"*\"\non = {on}\n{more}\n")
}

fn allowed() -> AuthorizeResponse {
    AuthorizeResponse { allowed: true, ..Default::default() }
}

fn no(message: &str) -> AuthorizeResponse {
    AuthorizeResponse { message: message.to_owned(), ..Default::default() }
}

/// Refuses bob.
fn not_bob(asked: &AuthorizeRequest) -> Act {
    Act::Say(if asked.user_id == "bob" { no("bob stays out") } else { allowed() })
}

trait ByHook {
    fn is_unavailable(self) -> Self;
    fn is_refused(self) -> Self;
}

impl ByHook for Refused {
    #[track_caller]
    fn is_unavailable(self) -> Self {
        assert!(self.retry_after.is_some(), "{self:?}");
        self.is(Code::Unavailable, "HOOK_UNAVAILABLE").says("hook", "lobby")
    }

    #[track_caller]
    fn is_refused(self) -> Self {
        self.is(Code::PermissionDenied, "HOOK_REFUSED").says("hook", "lobby")
    }
}

async fn try_bob(service: &Service) -> Result<proto::JoinSessionResponse, Status> {
    service.try_join("finals", "bob", JoinOptions::default()).await
}

#[tokio::test]
async fn a_hook_on_joins_is_asked_by_every_way_in() {
    let backend = Backend::start(not_bob).await;
    let service = under(&backend.policy("[\"join\"]", "")).await;
    service.open_room("finals", "ada").await;
    bob_comes_in_by_no_way(&service, ErrorReason::HookRefused).await;
    let ways = backend.count();
    assert_eq!(ways, 7, "{:?}", backend.asked());
    let told = try_bob(&service).await.expect_err("he stays out").message().to_owned();
    assert_eq!(told, "bob stays out");
    service.join("finals", "cleo").await;
    let asked = backend.last();
    assert_eq!((asked.operation(), &*asked.app), (Operation::Join, "default"));
    assert_eq!((&*asked.session_id, &*asked.user_id), ("finals", "cleo"));
    assert_eq!(asked.caller.as_ref().map(|it| &*it.kind), Some("app"));
    let session = asked.session.expect("it is told");
    assert_eq!((&*session.owner_id, session.member_count), ("ada", Some(1)));
    let count = backend.count();
    service.join("finals", "cleo").await;
    assert_eq!(backend.count(), count, "joining again is not asked for");
}

#[tokio::test]
async fn a_hook_is_told_nothing_of_a_join_that_fails_anyway() {
    let backend = Backend::start(not_bob).await;
    let service = under(&backend.policy("[\"join\"]", "")).await;
    let locked = SessionSettings { locked: Some(true), ..Default::default() };
    service.open_room_with("finals", "ada", locked).await;
    refused(try_bob(&service).await).is(Code::FailedPrecondition, "SESSION_LOCKED");
    assert_eq!(backend.asked(), []);
}

#[tokio::test]
async fn a_hook_changes_the_props_and_the_role_of_a_join() {
    let backend = Backend::start(|asked| {
        let Some(Asked::Join(join)) = &asked.asked else { panic!("{asked:?}") };
        assert_eq!(join.props, props([("x", int(1)), ("y", int(2))]));
        Act::Say(AuthorizeResponse {
            set: props([("y", int(3)), ("team", text("red"))]),
            omit: vec!["x".to_owned()],
            role: Role::Moderator.into(),
            ..allowed()
        })
    })
    .await;
    let service = under(&backend.policy("[\"join\"]", "max-role = \"moderator\"")).await;
    service.open_room("finals", "ada").await;
    let joined = service.join_with("finals", "bob", [("x", int(1)), ("y", int(2))]).await;
    assert_eq!(joined.role(), Role::Moderator);
    service.tick();
    let ada = service.watch("finals", "ada").await;
    assert_eq!(ada.rebuilt.props("bob"), shown([("y", int(3)), ("team", text("red"))]));
}

#[tokio::test]
async fn a_hook_changes_the_settings_and_first_props_of_an_opening() {
    let backend = Backend::start(|asked| {
        let Some(Asked::Open(open)) = &asked.asked else { panic!("{asked:?}") };
        let settings = open.settings.as_ref().expect("they are told");
        assert_eq!((settings.capacity, settings.locked), (Some(5), Some(false)));
        Act::Say(AuthorizeResponse {
            settings: Some(SessionSettings { capacity: Some(3), ..Default::default() }),
            settings_mask: Some(prost_types::FieldMask {
                paths: vec!["capacity".to_owned(), "locked".to_owned()],
            }),
            set: props([("team", text("red"))]),
            ..allowed()
        })
    })
    .await;
    let service = under(&backend.policy("[\"open\"]", "")).await;
    let settings = SessionSettings { capacity: Some(5), ..Default::default() };
    service.open_room_with("finals", "ada", settings).await;
    assert_eq!(backend.asked(), [(Operation::Open, "ada".to_owned())]);
    let ada = service.watch("finals", "ada").await;
    let settings = ada.rebuilt.session().settings.clone().expect("they are told");
    assert_eq!((settings.capacity, settings.locked), (Some(3), Some(false)));
    assert_eq!(ada.rebuilt.props("ada"), shown([("team", text("red"))]));
}

#[tokio::test]
async fn a_hook_changes_what_a_write_sets_and_removes() {
    let backend = Backend::start(|asked| {
        let Some(Asked::Write(write)) = &asked.asked else { panic!("{asked:?}") };
        let omit = write.set.keys().filter(|key| *key == "cheat").cloned().collect();
        Act::Say(AuthorizeResponse { set: props([("seen", int(1))]), omit, ..allowed() })
    })
    .await;
    let service = under(&backend.policy("[\"write\"]", "")).await;
    service.open_room("finals", "ada").await;
    service.set_in("finals", "ada", [("x", int(1)), ("cheat", int(9))]).await;
    let asked = backend.last();
    assert_eq!((asked.operation(), asked.role()), (Operation::Write, Role::Owner));
    service.tick();
    let ada = service.watch("finals", "ada").await;
    assert_eq!(ada.rebuilt.props("ada"), shown([("x", int(1)), ("seen", int(1))]));
}

#[tokio::test]
async fn an_answer_that_changes_what_it_may_not_is_a_failure() {
    fn with(change: impl FnOnce(&mut AuthorizeResponse)) -> AuthorizeResponse {
        let mut answer = allowed();
        change(&mut answer);
        answer
    }
    let mask = |path: &str| Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
    let join = || JoinOptions { props: props([("x", int(1))]), ..Default::default() };
    let lies = vec![
        with(|it| it.role = Role::Moderator.into()),
        with(|it| it.role = Role::Owner.into()),
        with(|it| it.role = 77),
        with(|it| it.settings_mask = mask("capacity")),
        with(|it| it.set = props([("", int(1))])),
        with(|it| it.set = props([("deep", nested(9))])),
        with(|it| it.set = props([("large", data(16 * 1024))])),
        with(|it| it.set = (0..257).map(|at| (format!("k{at}"), int(at))).collect()),
    ];
    for lie in lies {
        let told = format!("{lie:?}");
        let backend = Backend::start(move |_| Act::Say(lie.clone())).await;
        let service = under(&backend.policy("[\"join\"]", "")).await;
        service.open_room("finals", "ada").await;
        let answer = service.try_join("finals", "bob", join()).await;
        refused(answer).is_unavailable();
        assert_eq!(service.names("finals").await, ["ada"], "{told}");
    }
    for path in ["exclusive", "durability", "password", "rules", "colour"] {
        let lie = with(|it| it.settings_mask = mask(path));
        let backend = Backend::start(move |_| Act::Say(lie.clone())).await;
        let service = under(&backend.policy("[\"open\"]", "")).await;
        let open = opening("finals", "ada", SessionSettings::default());
        refused(service.try_open(open).await).is_unavailable();
    }
    let lie = with(|it| it.role = Role::Owner.into());
    let backend = Backend::start(move |_| Act::Say(lie.clone())).await;
    let service = under(&backend.policy("[\"join\"]", "on-failure = \"allow\"")).await;
    service.open_room("finals", "ada").await;
    assert_eq!(service.join("finals", "bob").await.role(), Role::Member, "it passes unchanged");
}

#[tokio::test]
async fn a_refusal_stays_one_however_it_is_said() {
    let long = "a\nb ".repeat(1000);
    let backend = Backend::start(move |_| {
        Act::Say(AuthorizeResponse { role: Role::Owner.into(), ..no(&long) })
    })
    .await;
    let service = under(&backend.policy("[\"join\"]", "on-failure = \"allow\"")).await;
    service.open_room("finals", "ada").await;
    let answer = try_bob(&service).await;
    let told = answer.as_ref().expect_err("he stays out").message().to_owned();
    assert!(told.len() <= 256 && !told.chars().any(char::is_control), "{told:?}");
    refused(answer).is_refused();
}

#[tokio::test]
async fn a_hook_that_does_not_answer_is_unavailable_after_its_timeout() {
    let backend = Backend::start(|_| Act::Hang).await;
    let service = under(&backend.policy("[\"join\"]", "timeout = \"50ms\"")).await;
    service.open_room("finals", "ada").await;
    refused(try_bob(&service).await).is_unavailable();
    backend.until(|seen| seen.given_up.load(Ordering::SeqCst) == 1).await;
    let open = backend.policy("[\"join\"]", "timeout = \"50ms\"\non-failure = \"allow\"");
    let service = under(&open).await;
    service.open_room("finals", "ada").await;
    try_bob(&service).await.expect("it passes");
}

#[tokio::test]
async fn a_status_of_a_hook_is_a_failure_and_its_words_are_not_told() {
    let backend = Backend::start(|_| Act::Fail(Code::PermissionDenied)).await;
    let service = under(&backend.policy("[\"join\"]", "")).await;
    service.open_room("finals", "ada").await;
    let answer = try_bob(&service).await;
    let told = format!("{:?}", answer.as_ref().expect_err("it fails"));
    assert!(!told.contains("secret words"), "{told}");
    refused(answer).is_unavailable();
}

#[tokio::test]
async fn a_backend_that_is_down_refuses_or_lets_pass_as_it_is_set() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = gone.local_addr().expect("an address");
    drop(gone);
    for scheme in ["grpc", "http"] {
        let url = format!("{scheme}://{address}");
        let closed = under(&policy(&url, "[\"join\"]", "")).await;
        closed.open_room("finals", "ada").await;
        refused(try_bob(&closed).await).is_unavailable();
        let open = under(&policy(&url, "[\"join\"]", "on-failure = \"allow\"")).await;
        open.open_room("finals", "ada").await;
        try_bob(&open).await.expect("it passes");
    }
}

#[tokio::test]
async fn a_hook_that_fails_is_left_alone_for_a_while_and_then_tried_once() {
    let is_well = Arc::new(AtomicUsize::new(0));
    let well = is_well.clone();
    let backend = Backend::start(move |_| match well.load(Ordering::SeqCst) {
        0 => Act::Fail(Code::Internal),
        _ => Act::Say(allowed()),
    })
    .await;
    let more = "failures = 2\nopen-for = \"10s\"";
    let service = under(&backend.policy("[\"join\"]", more)).await;
    service.open_room("finals", "ada").await;
    for _ in 0..2 {
        refused(try_bob(&service).await).is_unavailable();
    }
    let left_alone = refused(try_bob(&service).await).is_unavailable();
    assert_eq!(left_alone.retry_after, Some(Duration::from_secs(10)));
    assert_eq!(backend.count(), 2, "it is not asked");
    service.advance(10_000);
    refused(try_bob(&service).await).is_unavailable();
    refused(try_bob(&service).await).is_unavailable();
    assert_eq!(backend.count(), 3, "it is tried once");
    is_well.store(1, Ordering::SeqCst);
    service.advance(10_000);
    try_bob(&service).await.expect("it is well again");
    service.join("finals", "cleo").await;
    assert_eq!(backend.count(), 5);
}

#[tokio::test]
async fn an_answer_is_remembered_for_the_time_that_is_set() {
    let backend = Backend::start(not_bob).await;
    let service = under(&backend.policy("[\"join\"]", "cache = \"5s\"")).await;
    service.open_room("finals", "ada").await;
    for _ in 0..3 {
        refused(try_bob(&service).await).is_refused();
    }
    assert_eq!(backend.count(), 1);
    let with = JoinOptions { props: props([("x", int(1))]), ..Default::default() };
    refused(service.try_join("finals", "bob", with).await).is_refused();
    assert_eq!(backend.count(), 2, "another question is asked");
    service.advance(5_000);
    refused(try_bob(&service).await).is_refused();
    assert_eq!(backend.count(), 3, "the time is over");
}

#[tokio::test]
async fn so_many_calls_are_under_way_and_so_many_wait() {
    let backend = Backend::start(|_| Act::Wait(allowed())).await;
    let more = "max-concurrent = 2\nmax-waiting = 1\ntimeout = \"10s\"";
    let service = Arc::new(under(&backend.policy("[\"join\"]", more)).await);
    service.open_room("finals", "ada").await;
    let mut joins = Vec::new();
    for at in 0..3 {
        let service = service.clone();
        joins.push(tokio::spawn(async move {
            service.try_join("finals", &format!("user-{at}"), JoinOptions::default()).await
        }));
    }
    backend.until(|seen| seen.under_way.load(Ordering::SeqCst) == 2).await;
    // One waits for its place, sooner or later; then there is no room for another.
    let refusal = in_time(async {
        loop {
            let deadline = Duration::from_millis(50);
            let asked = service.try_join("finals", "late", JoinOptions::default());
            if let Ok(answer) = tokio::time::timeout(deadline, asked).await {
                break refused(answer);
            }
        }
    })
    .await;
    refusal.is_unavailable();
    backend.let_go_on(10);
    for join in joins {
        in_time(join).await.expect("it ends").expect("it joins");
    }
    assert_eq!(backend.seen.most_under_way.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn one_user_does_not_take_the_places_of_all_others() {
    let backend = Backend::start(|asked| match &*asked.user_id {
        "bob" => Act::Wait(no("go away")),
        _ => Act::Say(allowed()),
    })
    .await;
    let more = "max-concurrent = 32\ntimeout = \"10s\"";
    let service = Arc::new(under(&backend.policy("[\"join\"]", more)).await);
    service.open_room("finals", "ada").await;
    let mut joins = Vec::new();
    for _ in 0..16 {
        let service = service.clone();
        joins.push(tokio::spawn(async move { try_bob(&service).await }));
    }
    backend.until(|seen| seen.under_way.load(Ordering::SeqCst) == 16).await;
    refused(try_bob(&service).await).is_unavailable();
    service.join("finals", "cleo").await;
    backend.let_go_on(16);
    for join in joins {
        refused(in_time(join).await.expect("it ends")).is_refused();
    }
    backend.let_go_on(1);
    refused(try_bob(&service).await).is_refused();
}

#[tokio::test]
async fn the_writes_of_a_stream_keep_their_order_and_the_stream_goes_on_meanwhile() {
    let backend = Backend::start(|asked| {
        let Some(Asked::Write(write)) = &asked.asked else { panic!("{asked:?}") };
        match write.set.contains_key("slow") {
            true => Act::Wait(allowed()),
            false => Act::Say(allowed()),
        }
    })
    .await;
    let policy = backend.policy("[\"write\"]", "timeout = \"10s\"");
    let service = under(&policy).await;
    service.open_room("finals", "ada").await;
    let mut ada = service.stream("finals", "ada").await;
    let slow = write([("x", int(1)), ("slow", int(1))]);
    let first = ada.write(slow.in_session("finals"));
    let last = ada.write(write([("x", int(2))]).in_session("finals"));
    backend.until(|seen| seen.asked.lock().len() == 1).await;
    service.join("finals", "bob").await;
    in_time(async {
        while !ada.rebuilt.knows("bob") {
            service.tick();
            ada.glance().await;
        }
    })
    .await;
    assert_eq!((ada.acked_seq, backend.count()), (1, 1), "the next one waits for its turn");
    backend.let_go_on(1);
    ada.until_acked(&service, last).await;
    assert!(first < last && ada.refusals.is_empty(), "{:?}", ada.refusals);
    assert_eq!(ada.rebuilt.props("ada"), shown([("x", int(2)), ("slow", int(1))]));
    ada.close();
    assert_eq!(ada.end().await.status.code(), Code::Ok);
}

#[tokio::test]
async fn a_client_that_is_done_is_told_what_became_of_a_write_that_waits() {
    let backend = Backend::start(|_| Act::Wait(no("too late"))).await;
    let service = under(&backend.policy("[\"write\"]", "timeout = \"10s\"")).await;
    service.open_room("finals", "ada").await;
    let mut ada = service.stream("finals", "ada").await;
    let seq = ada.write(write([("x", int(1))]).in_session("finals"));
    ada.close();
    backend.until(|seen| seen.asked.lock().len() == 1).await;
    backend.let_go_on(1);
    ada.until_acked(&service, seq).await;
    assert_eq!(ada.refusals[0].reason(), ErrorReason::HookRefused);
    assert_eq!(ada.refusals[0].message, "too late");
}

#[tokio::test]
async fn the_writes_of_a_gateway_are_asked_for_one_by_one_and_keep_their_order() {
    let backend = Backend::start(|asked| match &asked.asked {
        Some(Asked::Write(write)) if write.set.get("x") == Some(&num(100.0)) => {
            Act::Say(no("too far"))
        }
        Some(Asked::Write(write)) if write.set.get("x") == Some(&num(50.0)) => {
            Act::Wait(AuthorizeResponse { set: props([("x", num(51.0))]), ..allowed() })
        }
        _ => Act::Say(allowed()),
    })
    .await;
    let service = under(&backend.policy("[\"write\", \"join\"]", "timeout = \"10s\"")).await;
    service.open_room("finals", "ada").await;
    let mut gateway = service.gateway("gateway").await;
    let request = GatewayRequest {
        attach: vec![attach(1, "bob", "finals"), attach(2, "cleo", "finals")],
        subscribe: vec![view(1, "finals")],
        ..Default::default()
    };
    gateway.accepted(&service, request).await;
    let entry = DictionaryEntry { number: 1, name: "x".to_owned() };
    let column = Column { prop: 1, numbers: vec![50.0, 100.0], ..Default::default() };
    let rows = GatewayRequest {
        dictionary: Some(Dictionary { props: vec![entry] }),
        blocks: vec![Block { users: vec![1, 2], columns: vec![column], ..Default::default() }],
        writes: vec![write_of(2, write([("y", num(1.0))]))],
        ..Default::default()
    };
    gateway.send(rows);
    let last = gateway.write(2, write([("y", num(2.0))]));
    backend.until(|seen| seen.asked.lock().len() == 3).await;
    backend.let_go_on(1);
    gateway.until_acked(&service, last).await;
    let [refusal] = &gateway.refusals[..] else { panic!("one is: {:?}", gateway.refusals) };
    assert_eq!((refusal.handle, refusal.reason()), (2, ErrorReason::HookRefused));
    assert_eq!(gateway.copy(1).props("bob"), shown([("x", num(51.0))]));
    assert_eq!(gateway.copy(1).props("cleo"), shown([("y", num(2.0))]));
}

#[tokio::test]
async fn a_call_that_is_given_up_gives_up_its_hook() {
    let backend = Backend::start(|_| Act::Hang).await;
    let service = under(&backend.policy("[\"join\"]", "timeout = \"10s\"")).await;
    service.open_room("finals", "ada").await;
    let mut sessions = service.sessions();
    let request = proto::JoinSessionRequest {
        session_id: "finals".to_owned(),
        user_id: "bob".to_owned(),
        ..Default::default()
    };
    let call = tokio::spawn(async move { sessions.join_session(request).await });
    backend.until(|seen| seen.under_way.load(Ordering::SeqCst) == 1).await;
    call.abort();
    backend.until(|seen| seen.given_up.load(Ordering::SeqCst) == 1).await;
    assert_eq!(service.names("finals").await, ["ada"]);
}

#[tokio::test]
async fn a_hook_on_subscriptions_is_asked_by_every_stream() {
    let backend = Backend::start(not_bob).await;
    let service = under(&backend.policy("[\"subscribe\"]", "")).await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    service.refused_watch(subscription("finals", "bob")).await.is_refused();
    let mut stream = service.open_stream(stream_open("finals", "bob")).await;
    stream.refused().await.is_refused();
    let mut all = service.receive_with(receiving("bob")).await;
    all.refused().await.is_refused();
    service.refused_watch(tied("finals", "bob")).await.is_refused();
    let _ada = service.watch("finals", "ada").await;
    assert_eq!(backend.last().role(), Role::Owner);
}

#[tokio::test]
async fn a_stream_that_opens_what_it_joins_is_asked_for_as_an_opening() {
    let backend = Backend::start(not_bob).await;
    let service = under(&backend.policy("[\"open\"]", "")).await;
    let open = |user: &str| proto::SubscribeToSessionRequest {
        open_if_missing: Some(proto::OpenSharedSessionRequest::default()),
        ..tied("finals", user)
    };
    service.refused_watch(open("bob")).await.is_refused();
    refused(service.try_open_private("bob", "bob", "ada").await).is_refused();
    service.refused_listener(listening("ada", "bob")).await.is_refused();
    let _ada = service.watch_with(open("ada")).await;
}

/// A certificate for this machine, with its key, and the authority that has signed it, all in PEM.
fn certificate() -> (String, String, String) {
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let mut authority = rcgen::CertificateParams::new(vec![]).expect("no names");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let signed = authority.self_signed(&authority_key).expect("it signs itself").pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let own = rcgen::CertificateParams::new(names).expect("good names");
    let own = own.signed_by(&key, &issuer).expect("it is signed");
    (own.pem(), key.serialize_pem(), signed)
}

#[tokio::test]
async fn a_backend_over_tls_is_judged_by_its_certificate() {
    let (own, key, authority) = certificate();
    let (_, _, other) = certificate();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let (seen, gate) = (Arc::new(Seen::default()), Arc::new(Semaphore::new(0)));
    let serves = Serves { decide: Box::new(not_bob), seen: seen.clone(), gate };
    let identity = transport::Identity::from_pem(own, key);
    let tls = transport::ServerTlsConfig::new().identity(identity);
    tokio::spawn(
        transport::Server::builder()
            .tls_config(tls)
            .expect("it is well formed")
            .add_service(HookServiceServer::new(serves))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let url = format!("grpcs://localhost:{port}");
    let known = format!("ca-file = {:?}", secret("hook-ca", &authority));
    let service = under(&policy(&url, "[\"join\"]", &known)).await;
    service.open_room("finals", "ada").await;
    refused(try_bob(&service).await).is_refused();
    service.join("finals", "cleo").await;
    let unknown = format!("ca-file = {:?}", secret("hook-other-ca", &other));
    for more in [&*unknown, ""] {
        let service = under(&policy(&url, "[\"join\"]", more)).await;
        service.open_room("finals", "ada").await;
        refused(try_bob(&service).await).is_unavailable();
    }
    assert_eq!(seen.asked.lock().len(), 2, "nothing was sent to whoever is not known");
    // Not gRPC, but the handshake is that of JSON over HTTPS: whoever is not known is told nothing.
    let https = policy(&format!("https://localhost:{port}/"), "[\"join\"]", &unknown);
    let service = under(&https).await;
    service.open_room("finals", "ada").await;
    refused(try_bob(&service).await).is_unavailable();
}

/// A backend over HTTP that gives these bytes for an answer; what it was sent is kept.
async fn http(answer: impl Into<Vec<u8>>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let sent = Arc::new(Mutex::new(Vec::new()));
    let (keeps, answer) = (sent.clone(), Arc::new(answer.into()));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (keeps, answer) = (keeps.clone(), answer.clone());
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !is_whole(&request) {
                    let mut bytes = [0; 4096];
                    match socket.read(&mut bytes).await {
                        Ok(0) | Err(_) => return,
                        Ok(count) => request.extend_from_slice(&bytes[..count]),
                    }
                }
                keeps.lock().push(String::from_utf8_lossy(&request).into_owned());
                let _ = socket.write_all(&answer).await;
            });
        }
    });
    (address, sent)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
    });
    body.len() >= length.unwrap_or_default()
}

fn ok(body: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

async fn over_http(address: SocketAddr, more: &str) -> Service {
    let policy = policy(&format!("http://{address}/authorize"), "[\"join\"]", more);
    let service = under(&policy).await;
    service.open_room("finals", "ada").await;
    service
}

#[tokio::test]
async fn a_hook_over_http_is_sent_json_and_answers_with_json() {
    let answer = r#"{"allowed": true, "role": "ROLE_SPECTATOR", "settingsMask": ""}"#;
    let (address, sent) = http(ok(answer)).await;
    let service = over_http(address, "").await;
    let joined = try_bob(&service).await.expect("he joins");
    assert_eq!(joined.role(), Role::Spectator);
    let request = sent.lock().first().cloned().expect("it was sent something");
    let (head, body) = request.split_once("\r\n\r\n").expect("it is whole");
    let head = head.to_lowercase();
    assert!(head.starts_with("post /authorize http/1.1"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).expect("it is JSON");
    assert_eq!(body["operation"], "OPERATION_JOIN");
    assert_eq!((&body["userId"], &body["sessionId"]), (&"bob".into(), &"finals".into()));
    assert_eq!(body["caller"]["kind"], "app");
    assert_eq!(body["session"]["ownerId"], "ada");
    let (address, _) = http(ok(r#"{"message": "not today"}"#)).await;
    let service = over_http(address, "").await;
    let answer = try_bob(&service).await;
    assert_eq!(answer.as_ref().expect_err("he stays out").message(), "not today");
    refused(answer).is_refused();
}

#[tokio::test]
async fn whatever_else_comes_over_http_is_a_failure() {
    let redirect =
        format!("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
    let large = format!("{{\"allowed\": true, \"message\": \"{}\"}}", "x".repeat(10 << 20));
    let answers = [
        ok("nonsense"),
        ok("{\"allowed\": true} and more"),
        ok("{\"allowed\": \"perhaps\"}"),
        ok("{\"alowed\": true}"),
        ok(""),
        ok(&large),
        redirect.into_bytes(),
        b"HTTP/1.1 500 Oh\r\ncontent-length: 17\r\n\r\n{\"allowed\": true}".to_vec(),
        b"HTTP/1.1 204 No\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH\r\n".to_vec(),
        Vec::new(),
    ];
    for answer in answers {
        let told = String::from_utf8_lossy(&answer[..answer.len().min(60)]).into_owned();
        let (address, sent) = http(answer).await;
        let service = over_http(address, "timeout = \"500ms\"").await;
        refused(try_bob(&service).await).is_unavailable();
        assert_eq!(service.names("finals").await, ["ada"], "{told}");
        assert_eq!(sent.lock().len(), 1, "it was asked once: {told}");
    }
}

/// A file of a secret.
fn secret(name: &str, text: &str) -> String {
    use std::os::unix::fs::OpenOptionsExt;
    let file = format!("{name}-{}", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&file);
    let _ = std::fs::remove_file(&path);
    let mut open = std::fs::OpenOptions::new();
    let mut file_of = open.write(true).create_new(true).mode(0o600).open(path).expect("it is made");
    std::io::Write::write_all(&mut file_of, text.as_bytes()).expect("it is written");
    file
}

#[tokio::test]
async fn a_backend_knows_who_asks_by_a_token_or_by_a_signature() {
    let token = secret("hook-token", "a-token\n");
    let bearer = format!("secret-file = {token:?}\nsecret-as = \"bearer\"");
    let (address, sent) = http(ok("{\"allowed\": true}")).await;
    let service = over_http(address, &bearer).await;
    try_bob(&service).await.expect("he joins");
    let request = sent.lock()[0].to_lowercase();
    assert!(request.contains("authorization: bearer a-token\r\n"), "{request}");
    let backend = Backend::start(not_bob).await;
    let service = under(&backend.policy("[\"join\"]", &bearer)).await;
    service.open_room("finals", "ada").await;
    service.join("finals", "cleo").await;
    let metadata = backend.seen.metadata.lock().clone().expect("it was asked");
    assert_eq!(metadata.get("authorization").map(|it| it.as_bytes()), Some(&b"Bearer a-token"[..]));

    let key = "k".repeat(32);
    let file = secret("hook-key", &key);
    let (address, sent) = http(ok("{\"allowed\": true}")).await;
    let service = over_http(address, &format!("secret-file = {file:?}")).await;
    try_bob(&service).await.expect("he joins");
    let request = sent.lock()[0].clone();
    let (head, body) = request.split_once("\r\n\r\n").expect("it is whole");
    let signature = head.lines().find_map(|it| it.strip_prefix("sessiond-signature: "));
    let signature = signature.expect("it is signed");
    let (time, tag) = signature.split_once(",v1=").expect("both parts");
    let time = time.strip_prefix("t=").expect("the time");
    assert_eq!(time, (BEGIN / 1_000_000).to_string());
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.as_bytes());
    let expected = aws_lc_rs::hmac::sign(&key, format!("{time}.{body}").as_bytes());
    let expected: String = expected.as_ref().iter().map(|it| format!("{it:02x}")).collect();
    assert_eq!(tag, expected);
}

#[tokio::test]
async fn bad_hooks_keep_the_server_from_starting_and_every_fault_is_named() {
    use sessiond::{
        config::Config,
        engine::Clock,
        server::{Server, StartError},
    };
    let token = secret("hook-open-token", "a-token");
    let bad = format!(
        r#"
[[hooks]]
url = "ftp://b.example"
on = []
apps = "*"
timeout = "1h"
on-failure = "shrug"
max-role = "owner"
max-concurrent = 0

[[hooks]]
name = "b"
url = "http://b.example/"
on = ["join"]
apps = "*"
secret-file = {token:?}
secret-as = "bearer"

[[hooks]]
name = "b"
url = "grpc://b.example:1"
on = ["join"]
apps = "*"
secret-file = {token:?}
time-out = "1s"
"#
    );
    let policy = Some(crate::rules::policy_file(&bad));
    let config = Config { policy, ..Config::default() };
    let Err(StartError::Policy(faults)) = Server::start(config, Clock::stepped(BEGIN)).await else {
        panic!("it does not start")
    };
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    for fault in [
        "hooks[0].url: expected a URL",
        "hooks[0].on: expected a list of open, join, write and subscribe",
        "hooks[0].timeout: expected a duration of 10ms to 10s",
        "hooks[0].on-failure: expected refuse or allow",
        "hooks[0].max-role: expected spectator, member, moderator or admin",
        "hooks[0].max-concurrent: expected a number of 1 to 1000",
        "hooks[1].secret-as: a bearer token needs TLS",
        "hooks[2].secret-file: ",
        "hooks[2].time-out: there is no such key; the nearest is \"timeout\"",
    ] {
        assert!(told.iter().any(|told| told.contains(fault)), "{fault} is not in {told:#?}");
    }
    assert!(!told.join("\n").contains("a-token"), "no secret is told: {told:#?}");
}

/// A program that ends with the test.
struct Program(std::process::Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_backend_in_the_document_works() {
    // Where there is no Python nobody can run it; .ci/run brings one.
    let has_python = std::process::Command::new("python3").arg("-c").arg("").status();
    if !has_python.is_ok_and(|status| status.success()) {
        eprintln!("there is no python3: the backend in the document is not run");
        return;
    }
    let document = include_str!("../../docs/hooks.md");
    let (_, program) = document.split_once("```python\n").expect("there is one");
    let (program, _) = program.split_once("```").expect("it ends");
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let here = program.replace("8080", &address.port().to_string());
    assert_ne!(here, program, "it says where it listens");
    let mut python = std::process::Command::new("python3");
    let python = python.arg("-c").arg(here).stderr(std::process::Stdio::null());
    let _running = Program(python.spawn().expect("it runs"));
    in_time(async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let service = over_http(address, "timeout = \"5s\"").await;
    refused(service.try_join("finals", "eve", JoinOptions::default()).await).is_refused();
    service.join("finals", "bob").await;
    service.tick();
    let ada = service.watch("finals", "ada").await;
    assert_eq!(ada.rebuilt.props("bob"), shown([("team", text("red"))]));
}
