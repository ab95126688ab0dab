//! The file of rules and hooks is read again when it changes, in sessions that are open too.

use crate::{
    hooks::backend::{Act, ByHook, Lobby, allowed, no, not_bob, try_bob},
    rules::policy_file,
    support::*,
};
use sessiond::proto::{ErrorReason, GatewayRequest, JoinOptions};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};
use tonic::{Code, Status};

/// A server, and the file of its policy.
async fn under(policy: &str) -> (Service, PathBuf) {
    let path = policy_file(policy);
    let file = path.clone();
    (Service::start_with(|config| config.policy = Some(file)).await, path)
}

/// Replaces a file as a whole, as whoever deploys does.
fn put(path: &Path, text: &str) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, text).expect("it is written");
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).expect("it is ours");
    fs::rename(fresh, path).expect("it is put");
}

fn rule(on: &str, expression: &str) -> String {
    format!(
        "[[rules]]\nname = \"the-rule\"\non = [{on:?}]\napps = \"*\"\nexpression = {expression:?}\n\
         message = \"not here\"\n"
    )
}

async fn try_join(service: &Service, user: &str) -> Result<(), Status> {
    service.try_join("finals", user, JoinOptions::default()).await.map(drop)
}

trait ByRule {
    fn by_rule(self) -> Self;
}

impl ByRule for Refused {
    #[track_caller]
    fn by_rule(self) -> Self {
        self.is(Code::PermissionDenied, "RULE_REFUSED").says("rule", "the-rule")
    }
}

#[tokio::test]
async fn a_changed_policy_is_in_force_in_sessions_that_are_open() {
    let (service, path) = under(&rule("write", "request.target == 'DATA'")).await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    put(&path, &rule("join", "request.user_id != 'cleo'"));
    service.read_policy_again();
    refused(try_join(&service, "cleo").await).by_rule();
    put(&path, &rule("subscribe", "request.user_id != 'bob'"));
    service.read_policy_again();
    try_join(&service, "cleo").await.expect("joins are not judged any more");
    service.refused_watch(subscription("finals", "bob")).await.by_rule();
    let _ada = service.watch("finals", "ada").await;
    put(&path, &rule("open", "false"));
    service.read_policy_again();
    let _bob = service.watch("finals", "bob").await;
    let open = opening("others", "ada", Default::default());
    refused(service.try_open(open).await).by_rule();
}

#[tokio::test]
async fn writes_are_judged_from_then_on_on_streams_that_are_open() {
    let (service, path) = under(&rule("open", "true")).await;
    service.open_room("finals", "ada").await;
    let mut ada = service.stream("finals", "ada").await;
    let seq = ada.write(write([("x", int(100))]));
    ada.until_acked(&service, seq).await;
    let mut gateway = service.gateway("gateway").await;
    let attaching =
        GatewayRequest { attach: vec![attach(1, "bob", "finals")], ..Default::default() };
    gateway.accepted(&service, attaching).await;

    put(&path, &rule("write", "request.props.x < 100"));
    service.read_policy_again();
    let over = || write([("x", int(100))]);
    refused(service.try_write("ada", over().in_session("finals")).await).by_rule();
    let seq = ada.write(over().in_session("finals"));
    ada.until_acked(&service, seq).await;
    assert_eq!(ada.refusals.last().map(|it| it.reason()), Some(ErrorReason::RuleRefused));
    let seq = gateway.write(1, over());
    let refusals = gateway.refusals_of(&service, seq).await;
    assert_eq!(refusals[0].reason(), ErrorReason::RuleRefused, "{refusals:?}");
    // What is set on users would come past.
    let seq = ada.write(over());
    ada.until_acked(&service, seq).await;
    assert_eq!(ada.refusals.last().map(|it| it.reason()), Some(ErrorReason::SessionIdNeeded));
    for x in [99, 98] {
        service.set_in("finals", "ada", [("x", int(x))]).await;
        let seq = gateway.write(1, write([("x", int(x))]));
        gateway.until_acked(&service, seq).await;
        assert!(gateway.refusals.is_empty(), "{:?}", gateway.refusals);
    }
    service.tick();
    let watcher = service.watch("finals", "ada").await;
    assert_eq!(watcher.rebuilt.props("ada"), shown([("x", int(98))]));
    assert_eq!(watcher.rebuilt.props("bob"), shown([("x", int(98))]));

    put(&path, &rule("open", "true"));
    service.read_policy_again();
    let seq = ada.write(over());
    ada.until_acked(&service, seq).await;
    service.tick();
    let watcher = service.watch("finals", "ada").await;
    assert_eq!(watcher.rebuilt.props("ada"), shown([("x", int(100))]));
}

#[tokio::test]
async fn a_policy_that_is_faulty_or_gone_changes_nothing() {
    let (service, path) = under(&rule("join", "request.user_id != 'bob'")).await;
    service.open_room("finals", "ada").await;
    let half = rule("join", "true");
    for faulty in [&half[..half.len() / 2], "", "[[rules]]\nname = \"a\"\n"] {
        put(&path, faulty);
        service.read_policy_again();
        refused(try_bob(&service).await).by_rule();
    }
    fs::remove_file(&path).expect("it is there");
    service.read_policy_again();
    refused(try_bob(&service).await).by_rule();
    put(&path, &half);
    service.read_policy_again();
    try_bob(&service).await.expect("it is whole again");
}

#[tokio::test]
async fn what_is_being_judged_ends_by_the_policy_it_began_with() {
    let slow = Lobby::start(|_| Act::Wait(allowed())).await;
    let strict = Lobby::start(|_| Act::Say(no("not any more"))).await;
    let more = "timeout = \"10s\"";
    let (service, path) = under(&slow.policy("[\"join\"]", more)).await;
    let service = Arc::new(service);
    service.open_room("finals", "ada").await;
    let joins = service.clone();
    let join = tokio::spawn(async move { try_bob(&joins).await });
    slow.until(|seen| seen.under_way.load(Ordering::SeqCst) == 1).await;
    put(&path, &strict.policy("[\"join\"]", more));
    service.read_policy_again();
    refused(service.try_join("finals", "cleo", JoinOptions::default()).await).by_hook();
    slow.let_go_on(1);
    in_time(join).await.expect("it ends").expect("he joins");
    assert_eq!(strict.count(), 1);
}

#[tokio::test]
async fn a_hook_that_stays_as_it_is_keeps_what_it_remembers() {
    let backend = Lobby::start(not_bob).await;
    let hook = backend.policy("[\"join\"]", "cache = \"1h\"");
    let (service, path) = under(&hook).await;
    service.open_room("finals", "ada").await;
    refused(try_bob(&service).await).by_hook();
    put(&path, &format!("{hook}{}", rule("open", "true")));
    service.read_policy_again();
    refused(try_bob(&service).await).by_hook();
    assert_eq!(backend.count(), 1, "it is not asked again");
    put(&path, &hook.replace("1h", "30m"));
    service.read_policy_again();
    refused(try_bob(&service).await).by_hook();
    assert_eq!(backend.count(), 2, "it is another hook");
}

#[tokio::test]
async fn the_secret_of_a_hook_is_read_again() {
    let backend = Lobby::start(not_bob).await;
    let secret = policy_file("one\n").with_extension("secret");
    put(&secret, "one\n");
    let name = secret.file_name().and_then(|name| name.to_str()).expect("text");
    let (service, _path) =
        under(&backend.policy("[\"join\"]", &format!("secret-file = {name:?}"))).await;
    service.open_room("finals", "ada").await;
    let shown = async || {
        refused(try_bob(&service).await).by_hook();
        let metadata = backend.seen.metadata.lock().clone().expect("it was asked");
        metadata.get("authorization").map(|it| it.as_bytes().to_vec()).unwrap_or_default()
    };
    assert_eq!(shown().await, b"Bearer one");
    put(&secret, "two\n");
    service.read_policy_again();
    assert_eq!(shown().await, b"Bearer two");
    put(&secret, "not a token\n");
    service.read_policy_again();
    assert_eq!(shown().await, b"Bearer two", "the one before stays in force");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("it is ours");
    service.read_policy_again();
    assert_eq!(shown().await, b"Bearer two");
    put(&secret, "three\n");
    service.read_policy_again();
    assert_eq!(shown().await, b"Bearer three");
}
