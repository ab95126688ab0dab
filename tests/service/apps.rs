//! How far apps are limited, over the wire: each limit one below and one above, the file that says so
//! and its reading again, and two apps side by side.

use crate::support::*;
use sessiond::{
    config::Config,
    engine::{AppLimit, Clock, HashCost},
    proto::{
        self, DeliveryOptions, ErrorReason, JoinOptions, PropsWrite, SessionSettings,
        SubscribeToSessionRequest, delivery_service_client::DeliveryServiceClient,
        object_stream_service_client::ObjectStreamServiceClient,
        session_service_client::SessionServiceClient, stream_user_props_request::Message as Up,
    },
    server::Server,
    session::ids::AppId,
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// A file of limits that a server reads.
struct Limits(PathBuf);

impl Limits {
    fn new(text: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("apps-{}-{number}.toml", std::process::id());
        let limits = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        limits.write(text);
        limits
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).expect("it is written");
    }

    async fn service(&self) -> Service {
        let file = self.0.clone();
        Service::start_with(|config| config.apps = Some(file)).await
    }
}

/// A server on which every app has these limits.
async fn service_with(limits: &str) -> Service {
    Limits::new(&format!("[limits]\n{limits}\n")).service().await
}

#[track_caller]
fn at_limit(told: Refused, limit: &str, most: impl ToString) -> Option<Duration> {
    let told = told.is(Code::ResourceExhausted, "APP_LIMIT");
    let told = told.says("limit", limit).says("most", &most.to_string()).says("app", "default");
    told.retry_after
}

fn n(value: i64) -> PropsWrite {
    write([("n", int(value))]).in_session("finals")
}

#[tokio::test]
async fn an_app_has_at_most_so_many_sessions() {
    let service = service_with("sessions = 2").await;
    service.open_room("a", "ada").await;
    service.open_room("b", "ada").await;
    let third = || opening("c", "ada", SessionSettings::default());
    let told = refused(service.try_open(third()).await);
    assert_eq!(at_limit(told, "sessions", 2), None, "nobody knows when there is room");
    service.try_delete("a", "ada").await.expect("it may");
    service.try_open(third()).await.expect("there is room again");
}

#[tokio::test]
async fn an_app_has_at_most_so_many_users() {
    let service = service_with("users = 2").await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    let told = refused(service.try_join("finals", "cat", JoinOptions::default()).await);
    at_limit(told, "users", 2);
    service.join("finals", "bob").await;
    // Who leaves is remembered for a minute.
    service.leave("finals", "bob").await;
    service.advance(61_000);
    service.join("finals", "cat").await;
}

#[tokio::test]
async fn an_app_has_at_most_so_many_members_in_all_sessions() {
    let service = service_with("members = 3").await;
    service.open_room("a", "ada").await;
    service.open_room("b", "ada").await;
    service.join("b", "bob").await;
    let told = refused(service.try_join("a", "bob", JoinOptions::default()).await);
    at_limit(told, "members", 3);
    let told = service.refused_watch(SubscribeToSessionRequest {
        join: Some(JoinOptions::default()),
        ..subscription("a", "cat")
    });
    at_limit(told.await, "members", 3);
    service.leave("b", "bob").await;
    service.join("a", "bob").await;
}

#[tokio::test]
async fn an_app_has_at_most_so_many_open_streams() {
    let service = service_with("streams = 2").await;
    service.open_room("finals", "ada").await;
    service.tick();
    let first = service.watch("finals", "ada").await;
    let _second = service.stream("finals", "ada").await;
    let told = service.refused_watch(subscription("finals", "ada")).await;
    at_limit(told, "streams", 2);
    drop(first);
    // The loss of a stream reaches the server in its own time.
    in_time(async {
        let app = AppId::new("default").expect("an id");
        while service.engine().app(&app).count(AppLimit::Streams) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    service.watch("finals", "ada").await;
}

#[tokio::test]
async fn the_users_of_an_app_write_at_most_so_many_updates_a_second_together() {
    let service = service_with("updates-per-second = 4").await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    // The snapshot of who joins counts as one.
    service.advance(1000);
    for value in 0..2 {
        for user in ["ada", "bob"] {
            service.try_write(user, n(value)).await.expect("it is within the rate");
        }
    }
    let told = refused(service.try_write("ada", n(9)).await);
    let after = at_limit(told, "updates-per-second", 4);
    assert_eq!(after, Some(Duration::from_millis(250)));
    service.advance(250);
    service.try_write("bob", n(9)).await.expect("there is one more");
    refused(service.try_write("ada", n(9)).await);
}

#[tokio::test]
async fn plain_writes_on_streams_over_the_rate_of_the_app_wait_and_merge() {
    let service = service_with("updates-per-second = 10").await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    service.tick();
    let (mut ada, mut bob) =
        (service.stream("finals", "ada").await, service.stream("finals", "bob").await);
    let before = service.engine().clock().now();
    for value in 0..50 {
        ada.write(n(value));
        bob.write(n(100 + value));
    }
    ada.until_acked(&service, 51).await;
    bob.until_acked(&service, 51).await;
    let passed = service.engine().clock().now() - before;
    assert!(ada.refusals.is_empty() && bob.refusals.is_empty());
    assert!((100_000..=1_000_000).contains(&passed), "each waits for its turn: {passed}");
    let mut all = service.watch("finals", "ada").await;
    service.tick_until(&mut all, |it| it.props("bob") == shown([("n", int(149))])).await;
    assert_eq!(all.rebuilt.props("ada"), shown([("n", int(49))]));
}

#[tokio::test]
async fn a_write_with_a_condition_over_the_rate_of_the_app_is_refused_item_by_item() {
    let service = service_with("updates-per-second = 2").await;
    service.open_room("finals", "ada").await;
    let mut ada = service.stream("finals", "ada").await;
    for value in 0..4 {
        ada.write(n(value));
    }
    let over = ada.write(PropsWrite { request_id: "once".to_owned(), ..n(9) });
    ada.until_acked(&service, over).await;
    let [refusal] = &*ada.refusals else { panic!("one: {:?}", ada.refusals) };
    assert_eq!((refusal.seq, refusal.reason()), (over, ErrorReason::AppLimit));
    assert!(refusal.retry_after.is_some());
    assert_eq!(ada.rebuilt.props("ada"), shown([("n", int(3))]));
}

#[tokio::test]
async fn an_app_makes_at_most_so_many_calls_a_second() {
    let service = service_with("calls-per-second = 5").await;
    service.open_room("finals", "ada").await;
    for _ in 0..4 {
        service.try_info("finals", "ada").await.expect("it is within the rate");
    }
    let told = refused(service.try_info("finals", "ada").await);
    let after = at_limit(told, "calls-per-second", 5);
    assert_eq!(after, Some(Duration::from_millis(200)));
    let mut objects = ObjectStreamServiceClient::new(service.channel());
    let request = proto::SetStreamRequest { user_id: "ada".into(), ..Default::default() };
    let told = refused(objects.set_stream(request.clone()).await);
    at_limit(told, "calls-per-second", 5);
    service.advance(200);
    objects.set_stream(request).await.expect("there is one more");
}

#[tokio::test]
async fn an_app_may_send_so_many_bytes_a_second_in_calls() {
    let service = service_with("bytes-in-per-second = \"64KiB\"").await;
    service.open_room("finals", "ada").await;
    let large = |at: usize| write([("x", data(16_000 + at))]);
    for at in 0..5 {
        service.try_write("ada", large(at)).await.expect("nothing is owed before it");
    }
    let told = refused(service.try_write("ada", large(5)).await);
    let after = at_limit(told, "bytes-in-per-second", 65536).expect("it says when");
    assert!(after < Duration::from_millis(260), "{after:?}");
    service.advance(260);
    service.try_write("ada", large(6)).await.expect("it is paid");
}

#[tokio::test]
async fn a_stream_whose_app_is_over_its_bytes_is_read_slower_and_loses_nothing() {
    let service = service_with("bytes-in-per-second = \"64KiB\"").await;
    service.open_room("finals", "ada").await;
    service.tick();
    let mut ada = service.stream("finals", "ada").await;
    let before = service.engine().clock().now();
    for at in 0..16 {
        ada.write(write([("x", data(15_000 + at))]).in_session("finals"));
    }
    ada.until_acked(&service, 17).await;
    assert!(ada.refusals.is_empty());
    let passed = service.engine().clock().now() - before;
    // 240 kB, of which 64 KiB come at once and as much waits in the window.
    assert!(passed >= 1_500_000, "{passed}");
    assert_eq!(ada.rebuilt.props("ada"), shown([("x", data(15_015))]));
}

#[tokio::test]
async fn an_app_over_its_bytes_out_is_told_later_and_in_one() {
    let service = service_with("bytes-out-per-second = \"64KiB\"").await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    service.tick();
    let options = DeliveryOptions { exclude_self: true, ..Default::default() };
    let mut bob = service.watch_with(subscription_with("finals", "bob", options)).await;
    let mut steps = 0;
    for value in 0..60 {
        let large = write([("x", data(15_000 + value))]);
        service.try_write("ada", large).await.expect("what comes in is not limited");
        service.tick();
        steps += usize::from(bob.glance().await.is_some());
    }
    // 900 kB in 0.6 s, of which there is a second's worth and 0.6 more.
    assert!((4..=9).contains(&steps), "{steps}");
    let last = shown([("x", data(15_059))]);
    let before = service.engine().clock().now();
    service.tick_until(&mut bob, |it| it.props("ada") == last).await;
    let passed = service.engine().clock().now() - before;
    assert!(passed <= 1_000_000, "{passed}");
}

#[tokio::test]
async fn the_end_of_a_stream_and_its_heartbeats_do_not_wait_for_the_bytes_of_the_app() {
    let service = service_with("bytes-out-per-second = \"64KiB\"").await;
    service.open_room("finals", "ada").await;
    service.tick();
    let mut ada = service.watch("finals", "ada").await;
    for value in 0..40 {
        service.try_write("ada", write([("x", data(15_000 + value))])).await.expect("it may");
        service.tick();
        ada.glance().await;
    }
    service.try_delete("finals", "ada").await.expect("it may");
    service.tick();
    loop {
        if let Step::Ended(_) = in_time(ada.next()).await {
            break;
        }
    }
}

#[tokio::test]
async fn limits_are_read_again_and_a_faulty_file_changes_nothing() {
    let limits = Limits::new("[limits]\nsessions = 1\n");
    let service = limits.service().await;
    service.open_room("a", "ada").await;
    let open = |id: &'static str| service.try_open(opening(id, "ada", SessionSettings::default()));
    at_limit(refused(open("b").await), "sessions", 1);
    limits.write("[limits]\nsessions = 3\n");
    service.read_apps_again();
    for id in ["b", "c"] {
        open(id).await.expect("there is room");
    }
    // An empty one is being written.
    for faulty in ["[limits]\nsessions = 9\nsession = 9\n", "\n"] {
        limits.write(faulty);
        service.read_apps_again();
        at_limit(refused(open("d").await), "sessions", 3);
    }
    limits.write("[limits]\nsessions = 1\n");
    service.read_apps_again();
    at_limit(refused(open("d").await), "sessions", 1);
    for id in ["a", "b", "c"] {
        service.try_info(id, "ada").await.expect("what there is stays");
    }
    fs::remove_file(&limits.0).expect("it is there");
    service.read_apps_again();
    at_limit(refused(open("d").await), "sessions", 1);
}

#[tokio::test]
async fn an_app_that_has_had_all_that_it_may_takes_nothing_from_another() {
    let limits = Limits::new("[apps.default.limits]\ncalls-per-second = 3\nsessions = 1\n");
    let service = limits.service().await;
    service.open_room("finals", "ada").await;
    at_limit(
        refused(service.try_open(opening("b", "ada", SessionSettings::default())).await),
        "sessions",
        1,
    );
    service.try_info("finals", "ada").await.expect("the third call");
    at_limit(refused(service.try_info("finals", "ada").await), "calls-per-second", 3);
    for id in ["a", "b", "c", "d"] {
        let open = opening(id, "ada", SessionSettings::default());
        let open = proto::OpenSharedSessionRequest { app: "other".into(), ..open };
        service.try_open(open).await.expect("the other app has no limit");
    }
}

#[tokio::test]
async fn what_was_stored_counts_after_a_restart() {
    let limits = Limits::new("[limits]\nsessions = 2\nmembers = 2\nusers = 2\n");
    let (file, store) = (limits.0.clone(), limits.0.with_extension("store"));
    let start = || {
        let (file, store) = (file.clone(), store.clone());
        Service::start_with(move |config| {
            (config.apps, config.store) = (Some(file), Some(store));
        })
    };
    let service = start().await;
    let lasting = || SessionSettings { empty_ttl: Some(minute()), ..Default::default() };
    service.try_open(opening("a", "ada", lasting())).await.expect("there is room");
    service.try_open(opening("b", "bob", lasting())).await.expect("there is room");
    service.stop().await;
    let service = start().await;
    at_limit(refused(service.try_open(opening("c", "", lasting())).await), "sessions", 2);
    at_limit(refused(service.try_join("a", "bob", JoinOptions::default()).await), "members", 2);
    let told = refused(service.try_open(opening("c", "cat", lasting())).await);
    at_limit(told, "users", 2);
    service.try_delete("b", "bob").await.expect("it is there");
    service.try_open(opening("c", "", lasting())).await.expect("there is room again");
}

fn minute() -> prost_types::Duration {
    prost_types::Duration { seconds: 60, nanos: 0 }
}

#[tokio::test]
async fn calls_that_would_wait_for_too_long_are_refused_and_everything_else_goes_on() {
    let config = Config {
        listen: std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into(),
        node: NODE.to_owned(),
        threads: 1,
        ..Config::default()
    };
    let server = Server::start_with(config, Clock::machine(), HashCost::LEAST).await;
    let server = server.expect("it starts");
    let channel = endpoint(server.address()).connect().await.expect("it listens");
    let sessions = SessionServiceClient::new(channel.clone());
    let users = (0..300).map(|number| format!("user {number}")).collect();
    let open = proto::OpenSharedSessionRequest {
        users,
        ..opening("finals", "ada", SessionSettings::default())
    };
    sessions.clone().open_shared_session(open).await.expect("it opens");
    let mut watch = DeliveryServiceClient::new(channel.clone())
        .subscribe_to_session(subscription("finals", "ada"))
        .await
        .expect("it opens")
        .into_inner();
    watch.message().await.expect("it is open").expect("the snapshot");

    // Each caller makes its next call when the last one is answered, and heeds no RetryInfo.
    let (told, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let callers: Vec<_> = (0..600)
        .map(|_| {
            let (told, mut sessions) = (told.clone(), sessions.clone());
            tokio::spawn(async move {
                loop {
                    let request = proto::GetSessionInfoRequest {
                        session_id: "finals".into(),
                        user_id: "ada".into(),
                        ..Default::default()
                    };
                    let answer = sessions.get_session_info(request).await;
                    if told.send(answer.map(drop)).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    let (mut done, mut refused) = (0, 0);
    in_time(async {
        while done < 50 || refused < 50 {
            match answers.recv().await.expect("callers go on") {
                Ok(()) => done += 1,
                Err(status) => {
                    let told = Refused::new(&status).is(Code::ResourceExhausted, "OVERLOADED");
                    let after = told.retry_after.expect("it says when");
                    let span = Duration::from_millis(200)..=Duration::from_secs(2);
                    assert!(span.contains(&after), "{after:?}");
                    refused += 1;
                }
            }
        }
    })
    .await;
    let mut health = HealthClient::new(channel.clone());
    for _ in 0..5 {
        let answer = in_time(health.check(HealthCheckRequest::default())).await;
        answer.expect("health is always told");
    }
    // The stream that was open is told of what others do on a stream of their own.
    let (up, messages) = tokio::sync::mpsc::unbounded_channel();
    let messages = tokio_stream::wrappers::UnboundedReceiverStream::new(messages);
    let mut delivery = DeliveryServiceClient::new(channel);
    let stream = delivery.stream_user_props(messages);
    let send = |seq, message| {
        let request = proto::StreamUserPropsRequest { seq, message: Some(message) };
        up.send(request).expect("the stream is open");
    };
    send(1, Up::Open(stream_open("finals", "user 0")));
    let _stream = in_time(stream).await.expect("streams open");
    send(2, Up::Write(n(1)));
    let update = in_time(watch.message()).await.expect("it is open");
    assert!(update.is_some());
    callers.into_iter().for_each(|caller| caller.abort());
    in_time(server.stop()).await;
}
