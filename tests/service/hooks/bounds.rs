//! What happens where a backend does not answer, or is asked too much.

use super::backend::*;
use crate::{rules::under, support::*};
use sessiond::proto::{self, JoinOptions, JoinSessionResponse, SessionSettings};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpListener;
use tonic::{Code, Response, Status};

#[tokio::test]
async fn a_hook_that_does_not_answer_is_unavailable_after_its_timeout() {
    let backend = Lobby::start(|_| Act::Hang).await;
    let service = under(&backend.policy("[\"join\"]", "timeout = \"50ms\"")).await;
    service.open_room("finals", "ada").await;
    refused(try_bob(&service).await).by_no_hook();
    backend.until(|seen| seen.given_up.load(Ordering::SeqCst) == 1).await;
    let open = backend.policy("[\"join\"]", "timeout = \"50ms\"\non-failure = \"allow\"");
    let service = under(&open).await;
    service.open_room("finals", "ada").await;
    try_bob(&service).await.expect("it passes");
}

#[tokio::test]
async fn a_status_of_a_hook_is_a_failure_and_its_words_are_not_told() {
    let backend = Lobby::start(|_| Act::Fail(Code::PermissionDenied)).await;
    let service = under(&backend.policy("[\"join\"]", "")).await;
    service.open_room("finals", "ada").await;
    let answer = try_bob(&service).await;
    let told = format!("{:?}", answer.as_ref().expect_err("it fails"));
    assert!(!told.contains("secret words"), "{told}");
    refused(answer).by_no_hook();
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
        refused(try_bob(&closed).await).by_no_hook();
        let open = under(&policy(&url, "[\"join\"]", "on-failure = \"allow\"")).await;
        open.open_room("finals", "ada").await;
        try_bob(&open).await.expect("it passes");
    }
}

#[tokio::test]
async fn a_hook_that_fails_is_left_alone_for_a_while_and_then_tried_once() {
    let is_well = Arc::new(AtomicUsize::new(0));
    let well = is_well.clone();
    let backend = Lobby::start(move |_| match well.load(Ordering::SeqCst) {
        0 => Act::Fail(Code::Internal),
        _ => Act::Say(allowed()),
    })
    .await;
    let more = "failures = 2\nopen-for = \"10s\"";
    let service = under(&backend.policy("[\"join\"]", more)).await;
    service.open_room("finals", "ada").await;
    for _ in 0..2 {
        refused(try_bob(&service).await).by_no_hook();
    }
    let left_alone = refused(try_bob(&service).await).by_no_hook();
    assert_eq!(left_alone.retry_after, Some(Duration::from_secs(10)));
    assert_eq!(backend.count(), 2, "it is not asked");
    service.advance(10_000);
    refused(try_bob(&service).await).by_no_hook();
    refused(try_bob(&service).await).by_no_hook();
    assert_eq!(backend.count(), 3, "it is tried once");
    is_well.store(1, Ordering::SeqCst);
    service.advance(10_000);
    try_bob(&service).await.expect("it is well again");
    service.join("finals", "cleo").await;
    assert_eq!(backend.count(), 5);
}

#[tokio::test]
async fn an_answer_is_remembered_for_the_time_that_is_set() {
    let backend = Lobby::start(not_bob).await;
    let service = under(&backend.policy("[\"join\"]", "cache = \"5s\"")).await;
    service.open_room("finals", "ada").await;
    for _ in 0..3 {
        refused(try_bob(&service).await).by_hook();
    }
    assert_eq!(backend.count(), 1);
    let with = JoinOptions { props: props([("x", int(1))]), ..Default::default() };
    refused(service.try_join("finals", "bob", with).await).by_hook();
    assert_eq!(backend.count(), 2, "another question is asked");
    service.advance(5_000);
    refused(try_bob(&service).await).by_hook();
    assert_eq!(backend.count(), 3, "the time is over");
}

#[tokio::test]
async fn so_many_calls_are_under_way_and_so_many_wait() {
    let backend = Lobby::start(|_| Act::Wait(allowed())).await;
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
    refusal.by_no_hook();
    backend.let_go_on(10);
    for join in joins {
        in_time(join).await.expect("it ends").expect("it joins");
    }
    assert_eq!(backend.seen.most_under_way.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn one_user_does_not_take_the_places_of_all_others() {
    let backend = Lobby::start(|asked| match &*asked.user_id {
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
    refused(try_bob(&service).await).by_no_hook();
    service.join("finals", "cleo").await;
    backend.let_go_on(16);
    for join in joins {
        refused(in_time(join).await.expect("it ends")).by_hook();
    }
    backend.let_go_on(1);
    refused(try_bob(&service).await).by_hook();
}

/// Joins the room of an app, of which there is one in each.
async fn try_in(service: &Service, app: &str, user: &str) -> Result<JoinSessionResponse, Status> {
    let request = proto::JoinSessionRequest {
        app: app.to_owned(),
        session_id: "finals".to_owned(),
        user_id: user.to_owned(),
        ..Default::default()
    };
    in_time(service.sessions().join_session(request)).await.map(Response::into_inner)
}

/// A service with a room in two apps.
async fn with_two_apps(policy: &str) -> Arc<Service> {
    let service = under(policy).await;
    for app in ["games", "chat"] {
        let open = opening("finals", "ada", SessionSettings::default());
        let open = proto::OpenSharedSessionRequest { app: app.to_owned(), ..open };
        service.try_open(open).await.expect("it opens");
    }
    Arc::new(service)
}

#[tokio::test]
async fn a_hook_that_fails_in_one_app_is_asked_in_another() {
    let backend = Lobby::start(|asked| match &*asked.app {
        "games" => Act::Fail(Code::Internal),
        _ => Act::Say(allowed()),
    })
    .await;
    let more = "failures = 2\nopen-for = \"10s\"";
    let service = with_two_apps(&backend.policy("[\"join\"]", more)).await;
    for _ in 0..3 {
        refused(try_in(&service, "games", "bob").await).by_no_hook();
    }
    assert_eq!(backend.count(), 2, "it is left alone in games");
    try_in(&service, "chat", "bob").await.expect("it answers in chat");
}

#[tokio::test]
async fn an_app_that_a_hook_hangs_for_does_not_take_the_places_of_another() {
    let backend = Lobby::start(|asked| match &*asked.app {
        "games" => Act::Hang,
        _ => Act::Say(allowed()),
    })
    .await;
    let more = "max-concurrent = 2\nmax-waiting = 2\ntimeout = \"10s\"";
    let service = with_two_apps(&backend.policy("[\"join\"]", more)).await;
    let mut joins = tokio::task::JoinSet::new();
    for user in ["bob", "cleo", "dan", "eve"] {
        let service = service.clone();
        joins.spawn(async move { try_in(&service, "games", user).await });
    }
    backend.until(|seen| seen.under_way.load(Ordering::SeqCst) == 2).await;
    for user in ["bob", "cleo", "dan"] {
        try_in(&service, "chat", user).await.expect("it has places of its own");
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_gives_up_its_hook() {
    let backend = Lobby::start(|_| Act::Hang).await;
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
