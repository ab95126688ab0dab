//! Sessions with a password: who is let in, how often one may guess, and what is told of it.

use crate::support::*;
use prost::Message;
use sessiond::proto::{
    self, JoinOptions, JoinSessionRequest, OpenSharedSessionRequest, SessionSettings,
    SubscribeToSessionRequest, session_service_client::SessionServiceClient,
};
use std::{net::Ipv4Addr, time::Duration};
use tokio::task::{JoinHandle, yield_now};
use tonic::{Code, Status, transport::Channel};

const RIGHT: &str = "open sesame";
const WRONG: &str = "open barley";

/// How many wrong passwords may come at once.
const AT_ONCE: usize = 10;

/// How many passwords may wait to be hashed.
const WAITING: usize = 256;

/// How many of one address.
const WAITING_PER_PEER: usize = 32;

fn with_password(password: &str) -> SessionSettings {
    SessionSettings { password: Some(password.to_owned()), ..Default::default() }
}

fn unlisted(password: &str) -> SessionSettings {
    SessionSettings { unlisted: Some(true), ..with_password(password) }
}

fn giving(password: &str) -> JoinOptions {
    JoinOptions { password: password.to_owned(), ..Default::default() }
}

fn joining(session: &str, user: &str, password: &str) -> JoinSessionRequest {
    JoinSessionRequest {
        session_id: session.to_owned(),
        user_id: user.to_owned(),
        join: Some(giving(password)),
        ..Default::default()
    }
}

fn watching(session: &str, user: &str, password: &str) -> SubscribeToSessionRequest {
    SubscribeToSessionRequest { join: Some(giving(password)), ..subscription(session, user) }
}

fn streaming(session: &str, user: &str, password: &str) -> proto::StreamOpen {
    let mut open = stream_open(session, user);
    open.subscriptions[0].join = Some(giving(password));
    open
}

/// What opens a session or joins the one that exists, with the same password for both.
fn opening_or_joining(session: &str, user: &str, password: &str) -> OpenSharedSessionRequest {
    OpenSharedSessionRequest {
        get_if_exists: true,
        join: Some(giving(password)),
        ..opening(session, user, with_password(password))
    }
}

impl Service {
    async fn is_in(&self, session: &str, user: &str) -> bool {
        self.tick();
        self.info(session, "").await.members.iter().any(|member| member.user_id == user)
    }

    async fn join_giving(
        &self,
        session: &str,
        user: &str,
        password: &str,
    ) -> Result<proto::JoinSessionResponse, Status> {
        self.try_join(session, user, giving(password)).await
    }

    /// The calls of somebody at another address of this machine.
    async fn sessions_from(&self, host: u8) -> SessionServiceClient<Channel> {
        let from = Ipv4Addr::new(127, 0, 0, host);
        let endpoint = endpoint(self.address()).local_address(Some(from.into()));
        SessionServiceClient::new(endpoint.connect().await.expect("the server accepts it"))
    }

    /// Joins with the right password, which waits while passwords are held.
    fn joins(&self, user: &str) -> JoinHandle<Joined> {
        joins(self.sessions(), user)
    }

    /// Waits until so many passwords wait to be hashed.
    async fn until_waiting(&self, number: usize) {
        in_time(async {
            while self.passwords().waiting() != number {
                self.try_info("nowhere", "").await.expect_err("there is none");
                yield_now().await;
            }
        })
        .await;
    }
}

type Joined = Result<tonic::Response<proto::JoinSessionResponse>, Status>;

fn joins(mut sessions: SessionServiceClient<Channel>, user: &str) -> JoinHandle<Joined> {
    let request = joining("finals", user, RIGHT);
    tokio::spawn(async move { sessions.join_session(request).await })
}

/// A session of ada's with a password.
async fn service_with_password() -> Service {
    let service = Service::start().await;
    service.open_room_with("finals", "ada", with_password(RIGHT)).await;
    service
}

#[track_caller]
fn is_wrong(told: Refused) {
    told.is(Code::PermissionDenied, "WRONG_PASSWORD");
}

#[tokio::test]
async fn whoever_joins_by_whatever_call_needs_the_right_password() {
    let service = service_with_password().await;
    for password in ["", WRONG] {
        is_wrong(refused(service.join_giving("finals", "eve", password).await));
        is_wrong(service.refused_watch(watching("finals", "eve", password)).await);
        is_wrong(service.open_stream(streaming("finals", "eve", password)).await.refused().await);
        let open = opening_or_joining("finals", "eve", password);
        is_wrong(refused(service.try_open(open).await));
    }
    assert!(!service.is_in("finals", "eve").await);
    assert_eq!(service.revision("finals").await, 1, "nothing changed");

    service.join_giving("finals", "bob", RIGHT).await.expect("it joins");
    let mut watcher = service.watch_with(watching("finals", "cleo", RIGHT)).await;
    assert_eq!(watcher.user_id, "cleo");
    let mut stream = service.open_stream(streaming("finals", "dan", RIGHT)).await;
    assert_eq!(stream.next_snapshot().await, proto::SnapshotReason::First);
    let open = opening_or_joining("finals", "emil", RIGHT);
    assert!(service.try_open(open).await.expect("it joins").existed);
    let nameless = watching("finals", "", RIGHT);
    assert_ne!(service.watch_with(nameless).await.user_id, "");
    for user in ["bob", "cleo", "dan", "emil"] {
        assert!(service.is_in("finals", user).await, "{user}");
    }
    watcher.next_changes().await;
}

#[tokio::test]
async fn a_password_has_up_to_1024_bytes() {
    let service = Service::start().await;
    let (longest, longer) = ("p".repeat(1024), "p".repeat(1025));
    let open = opening("finals", "ada", with_password(&longer));
    refused(service.try_open(open).await).blames(&["settings.password"]);
    service.open_room_with("finals", "ada", with_password(&longest)).await;
    service.join_giving("finals", "bob", &longest).await.expect("it joins");
    refused(service.join_giving("finals", "eve", &longer).await).blames(&["join.password"]);
    let told = service.refused_watch(watching("finals", "eve", &longer)).await;
    told.blames(&["join.password"]);
    let told = service.open_stream(streaming("finals", "eve", &longer)).await.refused().await;
    told.blames(&["open.subscriptions[0].join.password"]);
    let update = service.try_update("finals", "ada", &["password"], with_password(&longer)).await;
    refused(update).blames(&["settings.password"]);
}

#[tokio::test]
async fn a_private_session_has_none_and_stays_hidden_from_whoever_gives_one() {
    let service = Service::start().await;
    let open = proto::OpenPrivateSessionRequest {
        settings: Some(with_password(RIGHT)),
        ..private("ada", "ada", "bob")
    };
    let opened = service.sessions().open_private_session(sent(open)).await;
    refused(opened).blames(&["settings.password"]);
    let opened = service.try_open_private("ada", "ada", "bob").await.expect("it opens");
    let id = opened.session.expect("it is told").session_id;
    let update = service.try_update(&id, "ada", &["password"], with_password(RIGHT)).await;
    refused(update).blames(&["settings.password"]);
    let there = service.join_giving(&id, "eve", WRONG).await.expect_err("it is refused");
    let nowhere = service.join_giving("nowhere", "eve", WRONG).await.expect_err("it is refused");
    assert_eq!(all_of(&there, &id), all_of(&nowhere, "nowhere"));
    service.join_giving(&id, "bob", WRONG).await.expect("there is no password");
}

#[tokio::test]
async fn whether_there_is_a_password_is_told_and_nothing_of_it_to_anybody() {
    let service = Service::start().await;
    let secret = "cMKS8mRJ";
    let mut told = Vec::new();
    let open = opening("finals", "ada", with_password(secret));
    let opened = service.try_open(open.clone()).await.expect("it opens");
    assert!(opened.session.as_ref().is_some_and(|session| session.has_password));
    told.push(opened.encode_to_vec());
    let update = service.try_update("finals", "ada", &["password"], with_password(secret)).await;
    told.push(update.expect("it is updated").encode_to_vec());
    let joined = service.join_giving("finals", "bob", secret).await;
    told.push(joined.expect("it joins").encode_to_vec());
    service.tick();
    for user in ["ada", "bob", "eve", ""] {
        let info = service.info("finals", user).await;
        assert!(info.session.as_ref().is_some_and(|session| session.has_password), "{user}");
        told.push(info.encode_to_vec());
    }
    let listed = service.try_list(proto::ListSessionsRequest::default()).await;
    let listed = listed.expect("it lists");
    assert!(listed.sessions[0].has_password);
    told.push(listed.encode_to_vec());
    let watcher = service.watch_with(watching("finals", "cleo", secret)).await;
    let session = watcher.rebuilt.session();
    assert!(session.has_password);
    assert_eq!(session.settings.as_ref().and_then(|settings| settings.password.as_ref()), None);
    told.push(session.encode_to_vec());
    told.push(bytes_of(service.try_open(open).await));
    told.push(bytes_of(service.join_giving("finals", "eve", &secret[1..]).await));
    let long = secret.repeat(200);
    told.push(bytes_of(service.join_giving("finals", "eve", &long).await));
    for bytes in told {
        let leaks = bytes.windows(secret.len() - 1).any(|some| some == &secret.as_bytes()[1..]);
        assert!(!leaks, "{:?}", String::from_utf8_lossy(&bytes));
    }
}

/// What travels of a refusal.
fn bytes_of<T>(answer: Result<T, Status>) -> Vec<u8> {
    let status = answer.err().expect("it is refused");
    [status.message().as_bytes(), status.details()].concat()
}

/// All that a refusal of a request for this session tells, but for the name that the request gave. The
/// entries of a map come in any order.
fn all_of(status: &Status, asked: &str) -> impl PartialEq + std::fmt::Debug + use<> {
    let metadata = status.metadata().clone().into_headers();
    let mut names: Vec<_> = metadata.keys().map(ToString::to_string).collect();
    names.sort();
    let bytes = status.details().len();
    let told = Refused::new(status);
    let text = status.message().replace(asked, "");
    let mut metadata: Vec<_> =
        told.metadata.iter().map(|(key, value)| (key.clone(), value.replace(asked, ""))).collect();
    metadata.sort();
    ((told.code, told.reason, metadata, told.retry_after), (text, names, bytes))
}

#[tokio::test]
async fn an_unlisted_session_with_a_wrong_password_answers_like_one_that_is_not_there() {
    let service = Service::start().await;
    let settings = SessionSettings { name: "hideout".to_owned(), ..unlisted(RIGHT) };
    service.open_room_with("hidden", "ada", settings).await;
    service.try_ban("hidden", "ada", "bob").await.expect("it is banned");
    let mut sessions = service.sessions();
    for password in ["", WRONG] {
        for user in ["eve", "bob"] {
            let by_name = ["hideout", "nowhere"].map(|name| JoinSessionRequest {
                name: name.to_owned(),
                ..joining("", user, password)
            });
            let [there, nowhere] = by_name;
            let there = sessions.join_session(there).await.expect_err("it is refused");
            let nowhere = sessions.join_session(nowhere).await.expect_err("it is refused");
            assert_eq!(all_of(&there, "hideout"), all_of(&nowhere, "nowhere"));
            refused(Err::<(), _>(there)).is(Code::NotFound, "SESSION_NOT_FOUND");
        }
        service.advance(60_000);
        let mut told = Vec::new();
        for session in ["hidden", "absent"] {
            let unary = service.join_giving(session, "eve", password).await;
            told.push(all_of(&unary.expect_err("it is refused"), session));
            let watch = watching(session, "eve", password);
            let mut watch =
                service.delivery().subscribe_to_session(sent(watch)).await.expect("it begins");
            let status = watch.get_mut().message().await.expect_err("it is refused");
            told.push(all_of(&status, session));
            let mut stream = service.open_stream(streaming(session, "eve", password)).await;
            let status = stream.next_message().await.expect_err("it is refused");
            told.push(all_of(&status, session));
        }
        let (there, nowhere) = told.split_at(3);
        assert_eq!(there, nowhere);
    }
    service.advance(60_000);
    let open = opening_or_joining("hidden", "eve", WRONG);
    refused(service.try_open(open).await).is(Code::AlreadyExists, "SESSION_EXISTS");
    let told = refused(service.join_giving("hidden", "bob", RIGHT).await);
    told.is(Code::PermissionDenied, "BANNED");
    service.join_giving("hidden", "eve", RIGHT).await.expect("it joins");
}

#[tokio::test]
async fn guesses_are_limited_alike_whether_an_unlisted_session_is_there_or_not() {
    let service = Service::start().await;
    service.open_room_with("hidden", "ada", unlisted(RIGHT)).await;
    for (own, hosts) in [(false, [2, 3]), (true, [4, 5])] {
        let mut answers = Vec::new();
        for (session, host) in ["hidden", "absent"].into_iter().zip(hosts) {
            let mut sessions = service.sessions_from(host).await;
            let mut told = Vec::new();
            for number in 0..AT_ONCE + 3 {
                let other = format!("unknown-{number}");
                let guessed = if own { session } else { &other };
                let wrong = sessions.join_session(joining(guessed, "eve", WRONG)).await;
                told.push(all_of(&wrong.expect_err("it is refused"), guessed));
            }
            let right = sessions.join_session(joining(session, "eve", RIGHT)).await;
            told.push(all_of(&right.expect_err("it is refused"), session));
            answers.push(told);
        }
        assert!(answers[0] == answers[1], "{answers:?}");
    }
}

#[tokio::test]
async fn guesses_at_what_the_user_may_not_know_of_count_together_and_at_nothing_else() {
    let service = service_with_password().await;
    service.open_room_with("hidden", "ada", unlisted(RIGHT)).await;
    for number in 0..AT_ONCE {
        let told = refused(service.join_giving(&format!("id-{number}"), "eve", WRONG).await);
        told.is(Code::NotFound, "SESSION_NOT_FOUND");
    }
    let wait = Duration::from_secs(6);
    for session in ["another", "hidden"] {
        is_too_many(refused(service.join_giving(session, "eve", WRONG).await), wait);
    }
    let by_name = JoinSessionRequest { name: "nobody's".to_owned(), ..joining("", "eve", WRONG) };
    is_too_many(refused(service.sessions().join_session(by_name).await), wait);
    for _ in 0..AT_ONCE {
        is_wrong(refused(service.join_giving("finals", "eve", WRONG).await));
    }
    is_too_many(refused(service.join_giving("finals", "eve", WRONG).await), wait);
    service.advance(6_000);
    service.join_giving("hidden", "eve", RIGHT).await.expect("it joins");
}

#[track_caller]
fn is_too_many(told: Refused, retry_after: Duration) {
    assert_eq!(told.retry_after, Some(retry_after));
    told.is(Code::ResourceExhausted, "TOO_MANY_GUESSES")
        .says("limit", "guesses")
        .says("most", "10");
}

#[tokio::test]
async fn ten_guesses_at_once_and_then_one_every_six_seconds_per_session_and_peer() {
    let service = Service::start().await;
    for session in ["finals", "other"] {
        service.open_room_with(session, "ada", with_password(RIGHT)).await;
    }
    // What is not given is not guessed, and what is right is none either.
    for user in 0..2 * AT_ONCE {
        is_wrong(refused(service.join_giving("finals", "eve", "").await));
        service.join_giving("finals", &format!("user-{user}"), RIGHT).await.expect("it joins");
    }
    for _ in 0..AT_ONCE {
        is_wrong(refused(service.join_giving("finals", "eve", WRONG).await));
    }
    let wait = Duration::from_secs(6);
    is_too_many(refused(service.join_giving("finals", "eve", RIGHT).await), wait);
    is_too_many(refused(service.join_giving("finals", "mallory", WRONG).await), wait);
    is_too_many(service.refused_watch(watching("finals", "eve", RIGHT)).await, wait);
    let mut stream = service.open_stream(streaming("finals", "eve", RIGHT)).await;
    is_too_many(stream.refused().await, wait);
    let open = opening_or_joining("finals", "eve", RIGHT);
    is_too_many(refused(service.try_open(open).await), wait);
    let mut again = SessionServiceClient::new(service.connect().await);
    let told = refused(again.join_session(joining("finals", "eve", RIGHT)).await);
    is_too_many(told, wait);

    // Elsewhere, from elsewhere, and who needs none.
    is_wrong(refused(service.join_giving("other", "eve", WRONG).await));
    let mut elsewhere = service.sessions_from(2).await;
    let told = refused(elsewhere.join_session(joining("finals", "eve", WRONG)).await);
    is_wrong(told);
    elsewhere.join_session(joining("finals", "bob", RIGHT)).await.expect("it joins");
    service.join_giving("finals", "bob", WRONG).await.expect("it has joined");

    service.advance(5_000);
    let wait = Duration::from_secs(1);
    is_too_many(refused(service.join_giving("finals", "eve", RIGHT).await), wait);
    service.advance(1_000);
    is_wrong(refused(service.join_giving("finals", "eve", WRONG).await));
    service.advance(6_000);
    service.join_giving("finals", "eve", RIGHT).await.expect("it joins");
}

#[tokio::test]
async fn of_guesses_that_come_at_once_no_more_are_compared_than_may_be_wrong() {
    let service = service_with_password().await;
    let held = service.passwords().hold();
    let guesses = (0..3 * AT_ONCE).map(|_| {
        let mut sessions = service.sessions();
        tokio::spawn(async move { sessions.join_session(joining("finals", "eve", WRONG)).await })
    });
    let guesses: Vec<_> = guesses.collect();
    service.until_waiting(3 * AT_ONCE).await;
    drop(held);
    let mut wrong = 0;
    for guess in guesses {
        let told = refused(in_time(guess).await.expect("it is answered"));
        wrong += usize::from(told.reason == "WRONG_PASSWORD");
        assert!(["WRONG_PASSWORD", "TOO_MANY_GUESSES"].contains(&&*told.reason), "{told:?}");
    }
    assert_eq!(wrong, AT_ONCE);
}

#[tokio::test]
async fn while_passwords_are_compared_everything_else_goes_on_on_the_same_thread() {
    let service = Service::start_with(|config| config.threads = 1).await;
    service.open_room_with("finals", "ada", with_password(RIGHT)).await;
    let mut watcher = service.watch("finals", "ada").await;
    let held = service.passwords().hold();
    let mut pending = Vec::new();
    for number in 0..20 {
        let mut sessions = service.sessions();
        let (user, password) =
            (format!("user-{number}"), if number % 2 == 0 { RIGHT } else { WRONG });
        pending.push(tokio::spawn(async move {
            sessions.join_session(joining("finals", &user, password)).await.is_ok()
        }));
    }
    service.until_waiting(20).await;
    for x in 0..5 {
        service.set_in("finals", "ada", [("x", int(x))]).await;
        service.tick();
        watcher.next_changes().await;
        assert_eq!(watcher.rebuilt.props("ada"), shown([("x", int(x))]));
    }
    assert!(pending.iter().all(|join| !join.is_finished()));
    drop(held);
    for (number, join) in pending.into_iter().enumerate() {
        assert_eq!(in_time(join).await.expect("it is answered"), number % 2 == 0);
    }
    service.tick();
    let joined = watcher.next_changes().await;
    assert_eq!(joined.members.len(), 10);
}

#[tokio::test]
async fn what_no_password_would_change_is_refused_without_comparing_one() {
    let service = Service::start().await;
    let settings = SessionSettings { capacity: Some(1), ..with_password(RIGHT) };
    service.open_room_with("full", "ada", settings).await;
    let settings = SessionSettings { locked: Some(true), ..with_password(RIGHT) };
    service.open_room_with("locked", "ada", settings).await;
    service.open_room_with("finals", "ada", with_password(RIGHT)).await;
    service.join_giving("finals", "bob", RIGHT).await.expect("it joins");
    service.try_ban("finals", "ada", "eve").await.expect("it is banned");

    let _held = service.passwords().hold();
    let told = refused(service.join_giving("full", "eve", RIGHT).await);
    told.is(Code::ResourceExhausted, "SESSION_FULL");
    let told = refused(service.join_giving("locked", "eve", RIGHT).await);
    told.is(Code::FailedPrecondition, "SESSION_LOCKED");
    let told = refused(service.join_giving("finals", "eve", RIGHT).await);
    told.is(Code::PermissionDenied, "BANNED");
    let told = service.refused_watch(watching("finals", "eve", RIGHT)).await;
    told.is(Code::PermissionDenied, "BANNED");
    let open = opening("finals", "eve", with_password(RIGHT));
    refused(service.try_open(open).await).is(Code::AlreadyExists, "SESSION_EXISTS");
    let update = service.try_update("finals", "bob", &["password"], with_password(WRONG)).await;
    refused(update).is(Code::PermissionDenied, "ROLE_TOO_LOW");
    let mut faulty = watching("finals", "dan", RIGHT);
    faulty.options = Some(proto::DeliveryOptions { encoding: 99, ..Default::default() });
    service.refused_watch(faulty).await.blames(&["options.encoding"]);
    service.join_giving("finals", "bob", WRONG).await.expect("it has joined");
}

#[tokio::test]
async fn what_changes_while_a_password_is_compared_counts() {
    let service = service_with_password().await;
    let held = service.passwords().hold();
    let [bob, eve] = ["bob", "eve"].map(|user| service.joins(user));
    service.until_waiting(2).await;
    service.try_ban("finals", "ada", "eve").await.expect("it is banned");
    drop(held);
    in_time(bob).await.expect("it is answered").expect("it joins");
    let told = refused(in_time(eve).await.expect("it is answered"));
    told.is(Code::PermissionDenied, "BANNED");
}

#[tokio::test]
async fn a_stream_that_is_given_up_while_its_password_is_compared_has_done_nothing() {
    let service = service_with_password().await;
    let held = service.passwords().hold();
    let watch =
        service.delivery().subscribe_to_session(sent(watching("finals", "bob", RIGHT))).await;
    let stream = service.open_stream(streaming("finals", "cleo", RIGHT)).await;
    service.until_waiting(2).await;
    drop((watch, stream));
    service.until_waiting(0).await;
    drop(held);
    service.is_fine().await;
    service.tick();
    assert_eq!(service.revision("finals").await, 1, "nothing changed");
    service.join_giving("finals", "dan", RIGHT).await.expect("passwords are compared");
}

#[tokio::test]
async fn what_is_sent_while_the_password_is_compared_is_not_lost() {
    let service = service_with_password().await;
    let held = service.passwords().hold();
    let mut stream = service.open_stream(streaming("finals", "bob", RIGHT)).await;
    for x in 1..=100 {
        stream.write(write([("x", int(x))]).in_session("finals"));
    }
    stream.close();
    service.until_waiting(1).await;
    drop(held);
    assert_eq!(stream.next_snapshot().await, proto::SnapshotReason::First);
    stream.until_acked(&service, 101).await;
    assert_eq!(stream.refusals, []);
    assert_eq!(stream.rebuilt.props("bob"), shown([("x", int(100))]));
    assert_eq!(stream.end().await.status.code(), Code::Ok);
}

#[tokio::test]
async fn what_comes_in_one_piece_with_the_password_waits_in_order() {
    let service = service_with_password().await;
    let held = service.passwords().hold();
    let up = |seq, message| {
        let message = Some(message);
        proto::StreamUserPropsRequest { seq, message }.encode_to_vec().into()
    };
    use proto::stream_user_props_request::Message as Up;
    let messages = vec![
        up(1, Up::Open(streaming("finals", "bob", RIGHT))),
        up(2, Up::Write(write([("x", int(1))]).in_session("finals"))),
        up(2, Up::Write(write([("x", int(2))]).in_session("finals"))),
    ];
    let path = "/sessiond.v1.DeliveryService/StreamUserProps";
    let mut stream = service.stream_raw(path, messages).await.expect("it begins");
    service.until_waiting(1).await;
    drop(held);
    let end = in_time(async {
        loop {
            match stream.message().await {
                Ok(message) => assert!(message.is_some(), "it does not end with OK"),
                Err(end) => return end,
            }
        }
    });
    let told = Refused::new(&end.await);
    told.is(Code::InvalidArgument, "SEQ_NOT_RISING").says("acked_seq", "2");
}

#[tokio::test]
async fn so_many_passwords_wait_and_the_next_is_refused_for_now() {
    let service = service_with_password().await;
    let held = service.passwords().hold();
    let mut waiting = Vec::new();
    let mut sessions = service.sessions();
    for number in 0..WAITING {
        if number % WAITING_PER_PEER == 0 {
            sessions = service.sessions_from(2 + (number / WAITING_PER_PEER) as u8).await;
        }
        waiting.push(joins(sessions.clone(), &format!("user-{number}")));
    }
    service.until_waiting(WAITING).await;
    let busy = |told: Refused| {
        assert_eq!(told.retry_after, Some(Duration::from_secs(2)));
        let told = told.is(Code::ResourceExhausted, "LIMIT_REACHED");
        told.says("limit", "password-queue-per-app").says("most", "256");
    };
    busy(refused(service.join_giving("finals", "bob", RIGHT).await));
    busy(service.refused_watch(watching("finals", "bob", RIGHT)).await);
    busy(refused(service.try_open(opening("other", "bob", with_password(RIGHT))).await));
    refused(service.try_info("other", "").await).is(Code::NotFound, "SESSION_NOT_FOUND");

    // Who goes away makes room.
    waiting.pop().expect("somebody waits").abort();
    service.until_waiting(WAITING - 1).await;
    waiting.push(service.joins("bob"));
    service.until_waiting(WAITING).await;
    drop(held);
    for join in waiting {
        in_time(join).await.expect("it is answered").expect("it joins");
    }
}

#[tokio::test]
async fn an_address_has_its_share_of_the_passwords_that_wait_and_leaves_room_for_others() {
    let service = service_with_password().await;
    let held = service.passwords().hold();
    let user = |number: usize| service.joins(&format!("user-{number}"));
    let mut waiting: Vec<_> = (0..WAITING_PER_PEER).map(user).collect();
    service.until_waiting(WAITING_PER_PEER).await;
    let busy = |told: Refused| {
        assert_eq!(told.retry_after, Some(Duration::from_secs(2)));
        let told = told.is(Code::ResourceExhausted, "LIMIT_REACHED");
        told.says("limit", "password-queue-per-address").says("most", "32");
    };
    busy(refused(service.join_giving("finals", "bob", RIGHT).await));
    busy(refused(service.join_giving("nowhere", "bob", RIGHT).await));
    busy(service.refused_watch(watching("finals", "bob", RIGHT)).await);
    busy(refused(service.try_open(opening("other", "bob", with_password(RIGHT))).await));
    let update = service.try_update("finals", "ada", &["password"], with_password(WRONG)).await;
    busy(refused(update));

    waiting.push(joins(service.sessions_from(2).await, "eve"));
    service.until_waiting(WAITING_PER_PEER + 1).await;
    // Who goes away makes room.
    waiting.swap_remove(0).abort();
    service.until_waiting(WAITING_PER_PEER).await;
    waiting.push(service.joins("bob"));
    service.until_waiting(WAITING_PER_PEER + 1).await;
    drop(held);
    for join in waiting {
        in_time(join).await.expect("it is answered").expect("it joins");
    }
}

#[tokio::test]
async fn of_two_who_open_or_join_at_once_with_one_password_both_are_in() {
    let service = Service::start().await;
    let held = service.passwords().hold();
    let mut both = Vec::new();
    for user in ["ada", "bob"] {
        let mut sessions = service.sessions();
        both.push(tokio::spawn(async move {
            sessions.open_shared_session(sent(opening_or_joining("finals", user, RIGHT))).await
        }));
    }
    service.until_waiting(2).await;
    drop(held);
    let mut existed = Vec::new();
    for open in both {
        let opened = in_time(open).await.expect("it is answered").expect("it opens or joins");
        existed.push(opened.into_inner().existed);
    }
    existed.sort();
    assert_eq!(existed, [false, true]);
    assert!(service.is_in("finals", "ada").await && service.is_in("finals", "bob").await);
}

#[tokio::test]
async fn a_server_that_stops_lets_nobody_in_whose_password_was_right() {
    let service = service_with_password().await;
    let held = service.passwords().hold();
    let join = service.joins("bob");
    service.until_waiting(1).await;
    service.drain();
    drop(held);
    let told = refused(in_time(join).await.expect("it is answered"));
    told.is(Code::Unavailable, "DRAINING");
}

/// What joins a session or opens it, with the same password for both.
fn joining_or_opening(session: &str, user: &str, password: &str) -> JoinSessionRequest {
    let missing = OpenSharedSessionRequest {
        settings: Some(with_password(password)),
        ..OpenSharedSessionRequest::default()
    };
    JoinSessionRequest { open_if_missing: Some(missing), ..joining(session, user, password) }
}

#[tokio::test]
async fn what_is_opened_because_it_was_missing_has_its_password_and_guesses_nothing() {
    let service = Service::start().await;
    let mut sessions = service.sessions();
    for number in 0..2 * AT_ONCE {
        let join = joining_or_opening(&format!("room-{number}"), "ada", RIGHT);
        assert!(sessions.join_session(join).await.expect("it opens").into_inner().opened);
    }
    let again = sessions.join_session(joining_or_opening("room-0", "bob", RIGHT)).await;
    assert!(!again.expect("it joins").into_inner().opened);
    is_wrong(refused(sessions.join_session(joining_or_opening("room-0", "eve", WRONG)).await));
    is_wrong(refused(service.try_join("room-1", "eve", JoinOptions::default()).await));
    service.open_room_with("hidden", "ada", unlisted(RIGHT)).await;
    let told = refused(sessions.join_session(joining_or_opening("hidden", "eve", WRONG)).await);
    told.is(Code::AlreadyExists, "SESSION_EXISTS");
    let mut long = joining_or_opening("other", "ada", "");
    long.open_if_missing.get_or_insert_default().settings = Some(with_password(&"p".repeat(1025)));
    refused(sessions.join_session(long).await).blames(&["open_if_missing.settings.password"]);
}

#[tokio::test]
async fn the_newest_session_is_one_without_password_and_else_one_is_opened_with_it() {
    let service = Service::start().await;
    service.open_room("open", "ada").await;
    service.advance(1);
    service.open_room_with("closed", "ada", with_password(RIGHT)).await;
    let newest =
        |user: &str| JoinSessionRequest { newest: true, ..joining_or_opening("", user, RIGHT) };
    let mut sessions = service.sessions();
    let held = service.passwords().hold();
    let joined = in_time(sessions.join_session(newest("bob"))).await.expect("it joins");
    assert_eq!(joined.into_inner().session_id, "open", "and nothing was hashed");
    drop(held);
    service.try_delete("open", "ada").await.expect("it is deleted");
    let opened = in_time(sessions.join_session(newest("bob"))).await.expect("it opens");
    let opened = opened.into_inner();
    assert!(opened.opened && opened.session_id != "closed");
    is_wrong(refused(service.try_join(&opened.session_id, "eve", JoinOptions::default()).await));
}

#[tokio::test]
async fn no_exclusive_session_elsewhere_betrays_an_unlisted_one() {
    let service = Service::start().await;
    let exclusive = |settings| SessionSettings { exclusive: Some(true), ..settings };
    service.open_room_with("mine", "eve", exclusive(SessionSettings::default())).await;
    service.open_room_with("hidden", "ada", exclusive(unlisted(RIGHT))).await;
    for password in ["", WRONG] {
        let told = refused(service.join_giving("hidden", "eve", password).await);
        told.is(Code::NotFound, "SESSION_NOT_FOUND");
        let told = service.refused_watch(watching("hidden", "eve", password)).await;
        told.is(Code::NotFound, "SESSION_NOT_FOUND");
        let mut several = streaming("hidden", "eve", password);
        several.subscriptions[0].handle = 1;
        several.subscriptions.push(proto::SessionSubscription {
            handle: 2,
            session_id: "mine".to_owned(),
            ..Default::default()
        });
        let told = service.open_stream(several).await.refused().await;
        told.is(Code::NotFound, "SESSION_NOT_FOUND");
    }
    let told = refused(service.join_giving("hidden", "eve", RIGHT).await);
    told.is(Code::FailedPrecondition, "ALREADY_IN_SESSION");
}

#[tokio::test]
async fn a_stream_over_several_sessions_gives_each_its_password_or_joins_none() {
    let service = Service::start().await;
    for (session, password) in [("first", RIGHT), ("second", WRONG)] {
        service.open_room_with(session, "ada", with_password(password)).await;
    }
    let open = |user: &str, passwords: [&str; 2]| {
        let subscriptions = [("first", 1), ("second", 2)].into_iter().zip(passwords);
        let one = |((session, handle), password): ((&str, u32), &str)| proto::SessionSubscription {
            handle,
            session_id: session.to_owned(),
            join: Some(giving(password)),
            ..Default::default()
        };
        proto::StreamOpen {
            user_id: user.to_owned(),
            subscriptions: subscriptions.map(one).collect(),
            ..Default::default()
        }
    };
    for (user, passwords) in [("eve", [RIGHT, RIGHT]), ("eve", [WRONG, WRONG]), ("eve", ["", ""])] {
        let told = service.open_stream(open(user, passwords)).await.refused().await;
        is_wrong(told);
        assert!(!service.is_in("first", user).await && !service.is_in("second", user).await);
    }
    let _stream = service.open_stream(open("bob", [RIGHT, WRONG])).await;
    in_time(async {
        while !(service.is_in("first", "bob").await && service.is_in("second", "bob").await) {
            yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_done_before_its_password_is_checked_is_let_in_and_out() {
    let service = service_with_password().await;
    let held = service.passwords().hold();
    let mut dan = service.open_stream(streaming("finals", "dan", RIGHT)).await;
    service.until_waiting(1).await;
    dan.close();
    // What a call after it is answered with, its close is ahead of.
    service.revision("finals").await;
    drop(held);
    assert_eq!(dan.end().await.status.code(), Code::Ok);
}
