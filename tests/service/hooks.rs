//! Backends that have a say in what users ask for, over gRPC and over HTTP.

pub mod backend;
mod bounds;
mod http;

use crate::{
    rules::{bob_comes_in_by_no_way, under},
    support::*,
};
use backend::*;
use sessiond::proto::{
    self, AuthorizeResponse, Block, Column, Dictionary, DictionaryEntry, ErrorReason, EventKind,
    GatewayRequest, JoinOptions, JudgedOperation as Operation, Role, SessionSettings,
    authorize_request::Asked,
};
use tonic::Code;

#[tokio::test]
async fn a_hook_on_joins_is_asked_by_every_way_in() {
    let backend = Lobby::start(not_bob).await;
    let service = under(&backend.policy("[\"join\"]", "")).await;
    service.open_room("finals", "ada").await;
    bob_comes_in_by_no_way(&service, ErrorReason::HookRefused).await;
    let ways = backend.count();
    assert_eq!(ways, 7, "{:?}", backend.asked());
    let told = try_bob(&service).await.expect_err("he stays out").message().to_owned();
    assert_eq!(told, "bob stays out");
    let events = service.all_events("default").await;
    let events = events.iter().filter(|it| it.kind() == EventKind::HookRefused);
    assert_eq!(events.count(), ways + 1, "backends are told of each");
    service.join("finals", "cleo").await;
    let asked = backend.last();
    assert_eq!((asked.operation(), &*asked.app), (Operation::Join, "default"));
    assert_eq!((&*asked.session_id, &*asked.user_id), ("finals", "cleo"));
    assert_eq!(asked.caller.as_ref().map(|it| &*it.scope), Some("none"));
    let session = asked.session.expect("it is told");
    assert_eq!((&*session.owner_id, session.member_count), ("ada", Some(1)));
    let count = backend.count();
    service.join("finals", "cleo").await;
    assert_eq!(backend.count(), count, "joining again is not asked for");
}

#[tokio::test]
async fn a_hook_says_to_programs_why_it_refuses() {
    let backend = Lobby::start(|asked| {
        let reason = match &*asked.user_id {
            "bob" => "TOO_YOUNG_12".to_owned(),
            "longest" => "R".repeat(64),
            "too-long" => "R".repeat(65),
            "lower" => "too_young".to_owned(),
            _ => String::new(),
        };
        Act::Say(AuthorizeResponse { reason, ..no("you stay out") })
    })
    .await;
    let service = under(&backend.policy("[\"join\"]", "")).await;
    service.open_room("finals", "ada").await;
    let longest = "R".repeat(64);
    let users = ["bob", "longest", "too-long", "lower", "none"];
    let reasons = ["TOO_YOUNG_12", &*longest, "", "", ""];
    for (user, reason) in users.into_iter().zip(reasons) {
        let answer = service.try_join("finals", user, JoinOptions::default()).await;
        let told = refused(answer).by_hook();
        let said = told.metadata.get("hook_reason").map(|it| &**it);
        assert_eq!(said.unwrap_or_default(), reason, "{user}");
    }
    let events = service.all_events("default").await;
    let told: Vec<_> = events
        .iter()
        .filter_map(|it| match it.what.as_ref()? {
            proto::event::What::HookRefused(it) => Some((&*it.message, &*it.reason)),
            _ => None,
        })
        .collect();
    assert_eq!(told, reasons.map(|reason| ("you stay out", reason)));
}

#[tokio::test]
async fn a_hook_is_told_nothing_of_a_join_that_fails_anyway() {
    let backend = Lobby::start(not_bob).await;
    let service = under(&backend.policy("[\"join\"]", "")).await;
    let locked = SessionSettings { locked: Some(true), ..Default::default() };
    service.open_room_with("finals", "ada", locked).await;
    refused(try_bob(&service).await).is(Code::FailedPrecondition, "SESSION_LOCKED");
    assert_eq!(backend.asked(), []);
}

#[tokio::test]
async fn a_hook_changes_the_props_and_the_role_of_a_join() {
    let backend = Lobby::start(|asked| {
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
    let backend = Lobby::start(|asked| {
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
    let backend = Lobby::start(|asked| {
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
        let backend = Lobby::start(move |_| Act::Say(lie.clone())).await;
        let service = under(&backend.policy("[\"join\"]", "")).await;
        service.open_room("finals", "ada").await;
        let answer = service.try_join("finals", "bob", join()).await;
        refused(answer).by_no_hook();
        assert_eq!(service.names("finals").await, ["ada"], "{told}");
    }
    for path in ["exclusive", "durability", "password", "rules", "colour"] {
        let lie = with(|it| it.settings_mask = mask(path));
        let backend = Lobby::start(move |_| Act::Say(lie.clone())).await;
        let service = under(&backend.policy("[\"open\"]", "")).await;
        let open = opening("finals", "ada", SessionSettings::default());
        refused(service.try_open(open).await).by_no_hook();
    }
    let lie = with(|it| it.role = Role::Owner.into());
    let backend = Lobby::start(move |_| Act::Say(lie.clone())).await;
    let service = under(&backend.policy("[\"join\"]", "on-failure = \"allow\"")).await;
    service.open_room("finals", "ada").await;
    assert_eq!(service.join("finals", "bob").await.role(), Role::Member, "it passes unchanged");
}

#[tokio::test]
async fn a_hook_on_joins_has_its_say_of_those_who_join_at_an_opening() {
    let backend = Lobby::start(|_| {
        Act::Say(AuthorizeResponse { set: props([("team", text("red"))]), ..allowed() })
    })
    .await;
    let service = under(&backend.policy("[\"join\"]", "")).await;
    let users = vec!["bob".to_owned()];
    let open = proto::OpenSharedSessionRequest {
        users,
        ..opening("finals", "ada", SessionSettings::default())
    };
    service.try_open(open).await.expect("it opens");
    service.tick();
    let mut ada = service.stream("finals", "ada").await;
    ada.glance().await;
    let team = ada.rebuilt.state.members["bob"].props.get("team");
    assert!(team.is_some_and(|team| team.contains("red")), "{team:?}");
}

#[tokio::test]
async fn what_a_user_brings_itself_is_no_failure_of_a_hook() {
    let backend = Lobby::start(|asked| {
        let Some(Asked::Join(join)) = &asked.asked else { panic!("{asked:?}") };
        let set = if join.props.is_empty() { props([]) } else { props([("team", text("red"))]) };
        Act::Say(AuthorizeResponse { set, ..allowed() })
    })
    .await;
    let service = under(&backend.policy("[\"join\"]", "on-failure = \"allow\"")).await;
    service.open_room("finals", "ada").await;
    let many = (0..256).map(|number| (format!("p{number}"), int(number))).collect();
    for _ in 0..20 {
        let join =
            JoinOptions { props: std::collections::BTreeMap::clone(&many), ..Default::default() };
        let request = proto::JoinSessionRequest {
            session_id: "finals".to_owned(),
            user_id: "eve".to_owned(),
            join: Some(join),
            ..Default::default()
        };
        refused(service.sessions().join_session(request).await).by_hook();
    }
    let count = backend.count();
    service.join("finals", "bob").await;
    assert_eq!(backend.count(), count + 1, "it is still asked");
}

#[tokio::test]
async fn a_refusal_stays_one_however_it_is_said() {
    let long = "a\nb ".repeat(1000);
    let backend = Lobby::start(move |_| {
        Act::Say(AuthorizeResponse { role: Role::Owner.into(), ..no(&long) })
    })
    .await;
    let service = under(&backend.policy("[\"join\"]", "on-failure = \"allow\"")).await;
    service.open_room("finals", "ada").await;
    let answer = try_bob(&service).await;
    let told = answer.as_ref().expect_err("he stays out").message().to_owned();
    assert!(told.len() <= 256 && !told.chars().any(char::is_control), "{told:?}");
    refused(answer).by_hook();
}

#[tokio::test]
async fn the_writes_of_a_stream_keep_their_order_and_the_stream_goes_on_meanwhile() {
    let backend = Lobby::start(|asked| {
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
    let backend = Lobby::start(|_| Act::Wait(no("too late"))).await;
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
    let backend = Lobby::start(|asked| match &asked.asked {
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
async fn a_hook_on_subscriptions_is_asked_by_every_stream() {
    let backend = Lobby::start(not_bob).await;
    let service = under(&backend.policy("[\"subscribe\"]", "")).await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    service.refused_watch(subscription("finals", "bob")).await.by_hook();
    let mut stream = service.open_stream(stream_open("finals", "bob")).await;
    stream.refused().await.by_hook();
    let mut all = service.receive_with(receiving("bob")).await;
    all.refused().await.by_hook();
    service.refused_watch(tied("finals", "bob")).await.by_hook();
    let _ada = service.watch("finals", "ada").await;
    assert_eq!(backend.last().role(), Role::Owner);
}

#[tokio::test]
async fn a_stream_that_opens_what_it_joins_is_asked_for_as_an_opening() {
    let backend = Lobby::start(not_bob).await;
    let service = under(&backend.policy("[\"open\"]", "")).await;
    let open = |user: &str| proto::SubscribeToSessionRequest {
        open_if_missing: Some(proto::OpenSharedSessionRequest::default()),
        ..tied("finals", user)
    };
    service.refused_watch(open("bob")).await.by_hook();
    refused(service.try_open_private("bob", "bob", "ada").await).by_hook();
    service.refused_listener(listening("ada", "bob")).await.by_hook();
    let _ada = service.watch_with(open("ada")).await;
}
