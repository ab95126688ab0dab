//! What must be true of what is asked for, by the rules of the server and by those of a session.

use crate::support::*;
use sessiond::{
    config::Config,
    proto::{
        self, Block, Column, Dictionary, DictionaryEntry, ErrorReason, GatewayRequest, JoinOptions,
        JudgedOperation as Operation, Role, SessionRule as Rule, SessionSettings,
    },
    server::{Server, StartError},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};
use tonic::Code;

/// A file of rules and hooks.
pub fn policy_file(text: &str) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("policy-{}-{number}.toml", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).expect("it is written");
    path
}

/// A server with a policy.
pub async fn under(policy: &str) -> Service {
    let path = policy_file(policy);
    Service::start_with(|config| config.policy = Some(path)).await
}

/// A rule of a session.
fn rule(on: &[Operation], expression: &str) -> Rule {
    Rule {
        name: "the-rule".to_owned(),
        on: on.iter().map(|it| (*it).into()).collect(),
        expression: expression.to_owned(),
        message: "not here".to_owned(),
    }
}

fn ruled(on: &[Operation], expression: &str) -> SessionSettings {
    SessionSettings { rules: vec![rule(on, expression)], ..Default::default() }
}

/// A service with the room `finals` of ada, with a rule.
async fn with_rule(on: &[Operation], expression: &str) -> Service {
    let service = Service::start().await;
    service.open_room_with("finals", "ada", ruled(on, expression)).await;
    service
}

/// Refused by the rule.
trait ByRule {
    fn by_rule(self) -> Self;
}

impl ByRule for Refused {
    #[track_caller]
    fn by_rule(self) -> Self {
        self.is(Code::PermissionDenied, "RULE_REFUSED").says("rule", "the-rule")
    }
}

#[track_caller]
fn is_by_rule(refusal: &proto::Refusal) {
    assert_eq!(refusal.reason(), ErrorReason::RuleRefused, "{refusal:?}");
    assert_eq!(refusal.code, Code::PermissionDenied as i32);
    assert!(refusal.message.starts_with("not here"), "{refusal:?}");
    assert_eq!(refusal.metadata.get("rule").map(String::as_str), Some("the-rule"));
}

#[tokio::test]
async fn a_rule_on_writes_judges_set_user_props_and_set_session_data() {
    let holds = "request.target == 'DATA' ? !has(request.data.secret) \
                 : request.props.x < 100 && member.role >= MEMBER";
    let service = with_rule(&[Operation::Write], holds).await;
    service.set_in("finals", "ada", [("x", int(99))]).await;
    let answer = service.try_write("ada", write([("x", int(100))]).in_session("finals")).await;
    refused(answer).by_rule();
    let answer = service.try_write("ada", write([("y", int(1))]).in_session("finals")).await;
    let told = answer.as_ref().expect_err("x is missing").message().to_owned();
    assert!(told.contains("cannot be evaluated"), "{told}");
    refused(answer).by_rule();
    service.set_data("finals", "ada", [("open", int(1))]).await;
    let data = proto::SetSessionDataRequest {
        set: props([("secret", int(1))]),
        ..data_of("finals", "ada")
    };
    refused(service.try_set_data(data).await).by_rule();
    service.tick();
    let ada = service.watch("finals", "ada").await;
    assert_eq!(ada.rebuilt.props("ada"), shown([("x", int(99))]), "nothing else was written");
}

#[tokio::test]
async fn what_the_app_itself_writes_is_not_judged() {
    let service = with_rule(&[Operation::Write], "false").await;
    let by_app = proto::SetUserPropsRequest {
        target_user_id: "ada".to_owned(),
        write: Some(write([("x", int(1))]).in_session("finals")),
        ..Default::default()
    };
    service.try_set_props(by_app).await.expect("the app may");
    service.set_data("finals", "", [("open", int(1))]).await;
}

#[tokio::test]
async fn a_write_is_judged_in_each_session_that_it_names() {
    let service = with_rule(&[Operation::Write], "request.props.x < 100").await;
    service.open_room("free", "ada").await;
    let both = write([("x", int(100))]).in_session("finals").in_session("free");
    let results = service.try_write("ada", both).await.expect("one takes it");
    let of = |id: &str| results.iter().find(|it| it.session_id == id).expect("it is told");
    is_by_rule(of("finals").refusal.as_ref().expect("it is refused"));
    assert!(of("free").position.is_some());
    let on_user = service.try_write("ada", write([("x", int(1))])).await.expect("one takes it");
    let of = |id: &str| on_user.iter().find(|it| it.session_id == id).expect("it is told");
    let needs_id = of("finals").refusal.as_ref().expect("it is refused");
    assert_eq!(needs_id.reason(), ErrorReason::SessionIdNeeded);
    assert!(of("free").position.is_some());
}

#[tokio::test]
async fn a_stream_of_props_is_judged_write_by_write_and_lives_on() {
    let service = with_rule(&[Operation::Write], "request.props.x < 100").await;
    let mut ada = service.stream("finals", "ada").await;
    let good = ada.write(write([("x", int(1))]).in_session("finals"));
    let bad = ada.write(write([("x", int(100))]).in_session("finals"));
    let last = ada.write(write([("x", int(2))]).in_session("finals"));
    ada.until_acked(&service, last).await;
    assert!(good < bad && bad < last);
    let [refusal] = &ada.refusals[..] else { panic!("one is refused: {:?}", ada.refusals) };
    assert_eq!(refusal.seq, bad);
    is_by_rule(refusal);
    assert_eq!(ada.rebuilt.props("ada"), shown([("x", int(2))]));
}

#[tokio::test]
async fn a_judged_write_over_the_rate_is_refused_and_does_not_wait() {
    let service = Service::start_with(|config| config.max_updates_per_second = 2).await;
    service.open_room_with("finals", "ada", ruled(&[Operation::Write], "true")).await;
    let mut ada = service.stream("finals", "ada").await;
    let one = |x| write([("x", int(x))]).in_session("finals");
    ada.write(one(1));
    ada.write(one(2));
    let over = ada.write(one(3));
    ada.until_acked(&service, over).await;
    let [refusal] = &ada.refusals[..] else { panic!("one is refused: {:?}", ada.refusals) };
    assert_eq!((refusal.seq, refusal.reason()), (over, ErrorReason::RateLimited));
}

#[tokio::test]
async fn the_rows_and_writes_of_a_gateway_are_judged_one_by_one() {
    let service = with_rule(&[Operation::Write], "request.props.x < 100.0").await;
    service.open_room("free", "ada").await;
    let mut backend = service.gateway("backend").await;
    let request = GatewayRequest {
        attach: vec![
            attach(1, "bob", "finals"),
            attach(2, "cleo", "finals"),
            attach(3, "dan", "free"),
        ],
        subscribe: vec![view(1, "finals"), view(2, "free")],
        ..Default::default()
    };
    backend.accepted(&service, request).await;
    let entry = DictionaryEntry { number: 1, name: "x".to_owned() };
    let column = Column { prop: 1, numbers: vec![1.0, 100.0, 100.0], ..Default::default() };
    let block = Block { users: vec![1, 2, 3], columns: vec![column], ..Default::default() };
    let blocks = GatewayRequest {
        dictionary: Some(Dictionary { props: vec![entry] }),
        blocks: vec![block],
        ..Default::default()
    };
    let seq = backend.send(blocks);
    backend.until_acked(&service, seq).await;
    let [refusal] = &backend.refusals[..] else { panic!("one is refused: {:?}", backend.refusals) };
    assert_eq!((refusal.seq, refusal.handle), (seq, 2));
    is_by_rule(refusal);
    backend.refusals.clear();
    let writes = vec![
        write_of(1, write([("x", num(100.0))])),
        write_of(2, write([("x", num(3.0))])),
        write_of(1, write([("x", num(4.0))])),
    ];
    let seq = backend.send(GatewayRequest { writes, ..Default::default() });
    backend.until_acked(&service, seq).await;
    let [refusal] = &backend.refusals[..] else { panic!("one is refused: {:?}", backend.refusals) };
    assert_eq!((refusal.seq, refusal.handle), (seq, 1));
    is_by_rule(refusal);
    assert_eq!(backend.copy(1).props("bob"), shown([("x", num(4.0))]));
    assert_eq!(backend.copy(1).props("cleo"), shown([("x", num(3.0))]));
    assert_eq!(backend.copy(2).props("dan"), shown([("x", num(100.0))]), "that room has no rule");
}

/// Bob joins `finals` in every way that there is: each is refused for this reason.
pub async fn bob_comes_in_by_no_way(service: &Service, reason: ErrorReason) {
    let name = reason.as_str_name().trim_start_matches("ERROR_REASON_");
    let is = |refused: Refused| refused.is(Code::PermissionDenied, name);
    is(refused(service.try_join("finals", "bob", JoinOptions::default()).await));
    let again = proto::OpenSharedSessionRequest {
        get_if_exists: true,
        ..opening("finals", "bob", SessionSettings::default())
    };
    is(refused(service.try_open(again).await));
    let or_open = proto::JoinSessionRequest {
        session_id: "finals".to_owned(),
        user_id: "bob".to_owned(),
        open_if_missing: Some(proto::OpenSharedSessionRequest::default()),
        ..Default::default()
    };
    is(refused(service.try_join_as(or_open).await));
    let newest =
        proto::JoinSessionRequest { user_id: "bob".to_owned(), newest: true, ..Default::default() };
    is(refused(service.try_join_as(newest).await));
    is(service.refused_watch(tied("finals", "bob")).await);
    let mut stream = service.open_stream(stream_joining("finals", "bob")).await;
    is(stream.refused().await);
    let mut backend = service.gateway("of-bob").await;
    let seq = backend.attach(vec![attach(1, "bob", "finals")]);
    backend.until_acked(service, seq).await;
    let [refusal] = &backend.refusals[..] else { panic!("it is refused: {:?}", backend.refusals) };
    assert_eq!(refusal.handle, 1);
    assert_eq!(refusal.reason(), reason);
    assert_eq!(service.names("finals").await, ["ada"]);
}

#[tokio::test]
async fn a_rule_on_joins_judges_every_way_in() {
    let service = with_rule(&[Operation::Join], "request.user_id != 'bob'").await;
    bob_comes_in_by_no_way(&service, ErrorReason::RuleRefused).await;
    let events = service.all_events("default").await;
    let events = events.iter().filter(|it| it.kind() == proto::EventKind::RuleRefused);
    assert_eq!(events.count(), 7, "backends are told of each");
    service.join("finals", "cleo").await;
    let newest = |user: &str| proto::JoinSessionRequest {
        user_id: user.to_owned(),
        newest: true,
        ..Default::default()
    };
    let joined = service.try_join_as(newest("dan")).await.expect("he joins");
    assert_eq!(joined.session_id, "finals");
    let mut backend = service.gateway("backend").await;
    let request = GatewayRequest { attach: vec![attach(1, "eve", "finals")], ..Default::default() };
    backend.accepted(&service, request).await;
    let _watcher = service.watch_joining("finals", "fay").await;
    service.tick();
    assert_eq!(service.names("finals").await, ["ada", "cleo", "dan", "eve", "fay"]);
}

#[tokio::test]
async fn a_rule_of_the_server_on_joins_judges_every_way_in_of_its_apps_alone() {
    let policy = |apps: &str| {
        format!(
            "[[rules]]\nname = \"the-rule\"\non = [\"join\"]\napps = {apps}\n\
             expression = \"request.user_id != 'bob'\"\nmessage = \"not here\"\n"
        )
    };
    let service = under(&policy("[\"default\"]")).await;
    service.open_room("finals", "ada").await;
    bob_comes_in_by_no_way(&service, ErrorReason::RuleRefused).await;
    let elsewhere = under(&policy("[\"games\"]")).await;
    elsewhere.open_room("finals", "ada").await;
    elsewhere.join("finals", "bob").await;
}

#[tokio::test]
async fn a_rule_on_subscribing_judges_every_stream_of_a_user() {
    let holds = "member.role >= MODERATOR";
    let service = with_rule(&[Operation::Subscribe], holds).await;
    service.join("finals", "bob").await;
    service.refused_watch(subscription("finals", "bob")).await.by_rule();
    let outsider = service.refused_watch(subscription("finals", "dan")).await;
    outsider.is(Code::FailedPrecondition, "NOT_A_MEMBER");
    service.refused_watch(tied("finals", "cleo")).await.by_rule();
    assert_eq!(service.names("finals").await, ["ada", "bob"], "and she has not joined");
    let mut stream = service.open_stream(stream_open("finals", "bob")).await;
    stream.refused().await.by_rule();
    let mut all = service.receive("bob").await;
    service.tick();
    assert!(all.glance().await.is_none_or(|it| it.sessions().is_empty()), "he is told nothing");
    service.set_role("finals", "ada", "bob", Role::Moderator).await;
    let _bob = service.watch("finals", "bob").await;
    let _ada = service.watch("finals", "ada").await;
}

#[tokio::test]
async fn first_props_are_judged_as_a_write() {
    let service = with_rule(&[Operation::Write], "request.props.x < 100").await;
    let first = |x| JoinOptions { props: props([("x", int(x))]), ..Default::default() };
    refused(service.try_join("finals", "bob", first(100)).await).by_rule();
    service.try_join("finals", "bob", first(99)).await.expect("he joins");
    service.join("finals", "cleo").await;
    service.set("dan", [("x", int(100))]).await;
    service.join("finals", "dan").await;
    service.tick();
    let ada = service.watch("finals", "ada").await;
    assert_eq!(ada.rebuilt.props("bob"), shown([("x", int(99))]));
    assert_eq!(ada.rebuilt.props("dan"), shown([]), "what is set on him was not judged here");
}

const OPENINGS: &str = r#"
[[rules]]
name = "the-rule"
on = ["open"]
apps = "*"
expression = "request.capacity <= 8 && request.kind != 'HOSTED' && caller.scope == 'none'"
message = "not here"
"#;

#[tokio::test]
async fn a_rule_on_openings_judges_every_way_to_open() {
    let service = under(OPENINGS).await;
    let small = || SessionSettings { capacity: Some(8), ..Default::default() };
    service.open_room_with("small", "ada", small()).await;
    let large = SessionSettings { capacity: Some(9), ..Default::default() };
    refused(service.try_open(opening("large", "ada", large)).await).by_rule();
    let missing = |settings| proto::JoinSessionRequest {
        session_id: "missing".to_owned(),
        user_id: "bob".to_owned(),
        open_if_missing: Some(proto::OpenSharedSessionRequest {
            settings: Some(settings),
            ..Default::default()
        }),
        ..Default::default()
    };
    refused(service.try_join_as(missing(SessionSettings::default())).await).by_rule();
    service.try_join_as(missing(small())).await.expect("it opens");
    let mut backend = service.gateway("backend").await;
    let open_if_missing = Some(Box::default());
    let asked = proto::Attach { open_if_missing, ..attach(1, "cleo", "other") };
    let seq = backend.attach(vec![asked]);
    backend.until_acked(&service, seq).await;
    is_by_rule(&backend.refusals[0]);
    let private = service.try_open_private("ada", "ada", "bob").await;
    private.expect("it has two places");
    let by_app = opening("by-app", "", SessionSettings::default());
    service.try_open(by_app).await.expect("the app itself is not judged");
}

#[tokio::test]
async fn a_rule_on_openings_judges_private_sessions_too() {
    let policy = OPENINGS.replace("request.capacity <= 8", "request.kind != 'PRIVATE'");
    let service = under(&policy).await;
    refused(service.try_open_private("ada", "ada", "bob").await).by_rule();
    service.refused_listener(listening("ada", "bob")).await.by_rule();
}

#[tokio::test]
async fn rules_are_part_of_the_settings_and_fixed_at_the_opening() {
    let service = with_rule(&[Operation::Write, Operation::Join], "request.props.x < 100").await;
    let info = service.info("finals", "ada").await;
    let settings = info.session.and_then(|it| it.settings).expect("it tells them");
    let known = rule(&[Operation::Join, Operation::Write], "request.props.x < 100");
    assert_eq!(settings.rules, [known]);
    let outside = service.info("finals", "zed").await.session.expect("it is listed");
    assert_eq!(outside.settings.expect("they are told").rules, [], "they are for those who are in");
    let change = service.try_update("finals", "ada", &["rules"], SessionSettings::default()).await;
    refused(change).blames(&["update_mask[\"rules\"]"]);
}

#[tokio::test]
async fn a_bad_rule_is_a_fault_of_its_field() {
    let service = Service::start().await;
    let with = |rules: Vec<Rule>| {
        let settings = SessionSettings { rules, ..Default::default() };
        service.try_open(opening("finals", "ada", settings))
    };
    let good = || rule(&[Operation::Write], "true");
    let bad = vec![
        Rule { expression: "request.prop.x < 1".to_owned(), ..good() },
        Rule { name: "b".to_owned(), on: vec![], ..good() },
        Rule { name: String::new(), ..good() },
        Rule { name: "d".to_owned(), message: "m".repeat(257), ..good() },
        Rule { name: "e".to_owned(), on: vec![Operation::Open.into(), 9], ..good() },
        Rule { name: "b".to_owned(), ..good() },
    ];
    refused(with(bad).await).blames(&[
        "settings.rules[0].expression",
        "settings.rules[1].on",
        "settings.rules[2].name",
        "settings.rules[3].message",
        "settings.rules[4].on[0]",
        "settings.rules[4].on[1]",
        "settings.rules[5].name",
    ]);
    let named = |at: usize| Rule { name: format!("rule-{at}"), ..good() };
    refused(with((0..9).map(named).collect()).await).blames(&["settings.rules"]);
    with((0..8).map(named).collect()).await.expect("so many there may be");
}

#[tokio::test]
async fn a_bad_policy_keeps_the_server_from_starting_and_every_fault_is_named() {
    let bad = r#"
[[rules]]
name = "a"
on = ["write"]
apps = "*"
expression = "request.prop.x < 1"
message = "no"

[[rules]]
name = "b"
on = ["eat"]
expression = "true"
messages = "no"
"#;
    let config = Config { policy: Some(policy_file(bad)), ..Config::default() };
    let clock = sessiond::engine::Clock::stepped(BEGIN);
    let Err(StartError::Policy(faults)) = Server::start(config, clock).await else {
        panic!("it does not start")
    };
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    for fault in [
        "rules[0].expression: knows only",
        "rules[1].on: expected a list of open, join, write and subscribe",
        "rules[1].apps: must be given",
        "rules[1].message: must be given",
        "rules[1].messages: there is no such key; the nearest is \"message\"",
    ] {
        assert!(told.iter().any(|told| told.contains(fault)), "{fault} is not in {told:#?}");
    }
}

#[tokio::test]
async fn those_who_join_at_an_opening_are_judged_as_joining() {
    let policy = "[[rules]]\nname = \"the-rule\"\non = [\"join\"]\napps = \"*\"\n\
                  expression = \"request.user_id != 'bob' && session.owner_id == 'ada'\"\n\
                  message = \"not here\"\n";
    let service = under(policy).await;
    let with = |users: &[&str]| proto::OpenSharedSessionRequest {
        users: users.iter().map(ToString::to_string).collect(),
        ..opening("finals", "ada", SessionSettings::default())
    };
    refused(service.try_open(with(&["cleo", "bob"])).await).by_rule();
    service.try_open(with(&["cleo", "dan"])).await.expect("nobody is bob");
    assert_eq!(service.names("finals").await, ["ada", "cleo", "dan"]);
}

#[tokio::test]
async fn a_join_that_is_repeated_by_its_request_id_is_not_judged_again() {
    let service = with_rule(&[Operation::Join], "session.member_count < 2").await;
    let join = || proto::JoinSessionRequest {
        session_id: "finals".to_owned(),
        user_id: "bob".to_owned(),
        request_id: "once".to_owned(),
        ..Default::default()
    };
    let first = service.try_join_as(join()).await.expect("there is room");
    service.leave("finals", "bob").await;
    service.join("finals", "cleo").await;
    let again = service.try_join_as(join()).await.expect("it is what it was");
    assert_eq!(again.position, first.position);
    let other = proto::JoinSessionRequest { request_id: "twice".to_owned(), ..join() };
    refused(service.try_join_as(other).await).by_rule();
}

#[tokio::test]
async fn a_session_that_is_opened_again_under_its_id_has_its_own_rules() {
    let service = with_rule(&[Operation::Write], "request.props.x < 100").await;
    let mut ada = service.stream("finals", "ada").await;
    service.delete("finals", "ada").await.expect("it ends");
    ada.end().await;
    service
        .open_room_with("finals", "ada", ruled(&[Operation::Write], "request.props.x > 100"))
        .await;
    service.set_in("finals", "ada", [("x", int(101))]).await;
    let answer = service.try_write("ada", write([("x", int(1))]).in_session("finals")).await;
    refused(answer).by_rule();
}
