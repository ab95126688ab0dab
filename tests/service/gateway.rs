//! Gateway: one backend's stream for many users and sessions.

use crate::support::*;
use sessiond::proto::{
    self, Block, Column, Dictionary, DictionaryEntry, EndReason, ErrorReason, GatewayHello,
    GatewayRequest, Role, SessionSettings, ViewSubscription,
};
use tonic::Code;

/// A service with the room `finals` of ada, and a backend with bob and cleo attached in it, as users
/// 1 and 2, that receives it as view 1.
async fn with_backend() -> (Service, Backend) {
    let service = Service::with_room().await;
    let mut backend = service.gateway("backend").await;
    let request = GatewayRequest {
        attach: vec![attach(1, "bob", "finals"), attach(2, "cleo", "finals")],
        subscribe: vec![view(1, "finals")],
        ..Default::default()
    };
    backend.accepted(&service, request).await;
    (service, backend)
}

fn names<const N: usize>(props: [(u64, &str); N]) -> Option<Dictionary> {
    let entry = |(number, name): (u64, &str)| DictionaryEntry { number, name: name.to_owned() };
    Some(Dictionary { props: props.map(entry).to_vec() })
}

fn numbers(prop: u64, numbers: &[f64]) -> Column {
    Column { prop, numbers: numbers.to_vec(), ..Default::default() }
}

/// A block of users one by one.
fn block(users: &[u32], columns: Vec<Column>) -> Block {
    let users = users.iter().map(|&user| user.into()).collect();
    Block { users, columns, ..Default::default() }
}

#[tokio::test]
async fn a_backend_attaches_users_and_receives_their_session_once() {
    let (service, mut backend) = with_backend().await;
    assert!(!backend.welcome.resumed);
    assert_eq!(backend.welcome.node, NODE);
    assert_eq!(backend.welcome.max_message_bytes, 1 << 20);
    assert_eq!(backend.attached.len(), 2);
    assert_eq!(backend.attached[&1].role(), Role::Member);
    let position = backend.attached[&1].position.expect("a join has a frame");
    backend.tick_until(&service, |it| it.copy(1).knows("cleo")).await;
    assert!(position.revision <= backend.copy(1).revision);
    backend.write(1, write([("x", int(1))]));
    let seq = backend.write(2, write([("y", int(2))]));
    backend.until_acked(&service, seq).await;
    assert_eq!(backend.copy(1).props("bob"), shown([("x", int(1))]));
    assert_eq!(backend.copy(1).props("cleo"), shown([("y", int(2))]));
    assert!(backend.steps.len() <= 1, "the session comes once: {:?}", backend.steps);
    let mut ada = service.watch("finals", "ada").await;
    let bob = ada.rebuilt.member("bob");
    assert!(!bob.disconnected, "an attached user is connected");
    drop(backend);
    service.tick_until(&mut ada, |it| it.knows("bob")).await;
}

#[tokio::test]
async fn columns_go_up_as_lists_and_as_runs() {
    let (service, mut backend) = with_backend().await;
    let request = GatewayRequest {
        dictionary: names([(7, "x"), (8, "name")]),
        blocks: vec![
            block(&[2, 1], vec![numbers(7, &[2.5, 1.5])]),
            Block {
                runs: vec![1, 2],
                columns: vec![Column {
                    prop: 8,
                    texts: vec!["Bob".into(), "Cleo".into()],
                    ..Default::default()
                }],
                ..Default::default()
            },
        ],
        ..Default::default()
    };
    backend.accepted(&service, request).await;
    let of = |x, name: &str| shown([("x", num(x)), ("name", text(name))]);
    assert_eq!(backend.copy(1).props("bob"), of(1.5, "Bob"));
    assert_eq!(backend.copy(1).props("cleo"), of(2.5, "Cleo"));
}

#[tokio::test]
async fn every_kind_of_value_goes_up_in_columns() {
    let (service, mut backend) = with_backend().await;
    let column = |prop| Column { prop, ..Default::default() };
    let columns = vec![
        numbers(1, &[f64::NAN]),
        Column { floats: vec![1.5], ..column(2) },
        Column { integers: vec![-3], ..column(3) },
        Column { flags: vec![false], ..column(4) },
        Column { texts: vec![String::new()], ..column(5) },
        Column { values: vec![null()], ..column(6) },
        Column { values: vec![map([("a", list(vec![int(1)]))])], ..column(7) },
    ];
    let props = [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e"), (6, "f"), (7, "g")];
    let request = GatewayRequest {
        dictionary: names(props),
        blocks: vec![block(&[1], columns)],
        ..Default::default()
    };
    backend.accepted(&service, request).await;
    let expected = shown([
        ("a", num(f64::NAN)),
        ("b", floats(&[1.5])),
        ("c", int(-3)),
        ("d", flag(false)),
        ("e", text("")),
        ("f", null()),
        ("g", map([("a", list(vec![int(1)]))])),
    ]);
    assert_eq!(backend.copy(1).props("bob"), expected);
}

#[tokio::test]
async fn a_block_that_is_not_well_formed_is_refused_whole_and_the_rest_is_done() {
    let (service, mut backend) = with_backend().await;
    backend
        .accepted(
            &service,
            GatewayRequest { dictionary: names([(1, "x"), (2, "y")]), ..Default::default() },
        )
        .await;
    let both = Column { prop: 1, numbers: vec![1.0], integers: vec![1], ..Default::default() };
    let runs = |runs: &[u64]| Block {
        runs: runs.to_vec(),
        columns: vec![numbers(1, &[1.0])],
        ..Default::default()
    };
    let bad = [
        (block(&[1, 2], vec![numbers(1, &[1.0])]), "blocks[0].columns[0]"),
        (block(&[1], vec![both]), "blocks[0].columns[0]"),
        (block(&[1], vec![Column { prop: 1, ..Default::default() }]), "blocks[0].columns[0]"),
        (block(&[1], vec![numbers(9, &[1.0])]), "blocks[0].columns[0].prop"),
        (block(&[1], vec![numbers(1, &[1.0]), numbers(1, &[2.0])]), "blocks[0].columns[1].prop"),
        (block(&[1], vec![]), "blocks[0].columns"),
        (block(&[], vec![numbers(1, &[1.0])]), "blocks[0].users"),
        (Block { runs: vec![1, 1], ..block(&[1], vec![numbers(1, &[1.0])]) }, "blocks[0].runs"),
        (runs(&[1]), "blocks[0].runs"),
        (runs(&[u64::MAX, 1]), "blocks[0].runs"),
        (runs(&[4_294_967_295, 4_294_967_295]), "blocks[0].runs"),
        (
            Block { users: vec![1 << 40], columns: vec![numbers(1, &[1.0])], ..Default::default() },
            "blocks[0].users",
        ),
        (runs(&[1, 0]), "blocks[0].runs"),
    ];
    for (at, (bad, field)) in bad.into_iter().enumerate() {
        let good = block(&[2], vec![numbers(2, &[at as f64])]);
        let seq = backend.send(GatewayRequest { blocks: vec![bad, good], ..Default::default() });
        let refusals = backend.refusals_of(&service, seq).await;
        let [refusal] = &*refusals else { panic!("one is refused: {refusals:?}") };
        assert_eq!((refusal.handle, refusal.code), (0, Code::InvalidArgument as i32), "{field}");
        assert!(refusal.fields.iter().any(|it| it.field == field), "{field}: {refusal:?}");
        assert_eq!(backend.copy(1).props("bob"), shown([]), "{field}");
        assert_eq!(backend.copy(1).props("cleo"), shown([("y", num(at as f64))]));
    }
}

#[tokio::test]
async fn a_value_that_may_not_be_refuses_its_row_and_no_other() {
    let (service, mut backend) = with_backend().await;
    let large = "x".repeat(17 * 1024);
    let texts = |texts: &[&str]| Column {
        prop: 2,
        texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        ..Default::default()
    };
    let values = |values: Vec<proto::Value>| Column { prop: 3, values, ..Default::default() };
    let seq = backend.send(GatewayRequest {
        dictionary: names([(1, "x"), (2, "name"), (3, "z")]),
        blocks: vec![block(
            &[1, 2],
            vec![
                numbers(1, &[1.0, 2.0]),
                texts(&[&large, "Cleo"]),
                values(vec![map([("a", no_kind())]), null()]),
            ],
        )],
        ..Default::default()
    });
    let refusals = backend.refusals_of(&service, seq).await;
    let [refusal] = &*refusals else { panic!("one is refused: {refusals:?}") };
    assert_eq!((refusal.handle, refusal.reason()), (1, ErrorReason::InvalidFields));
    let blamed: Vec<_> = refusal.fields.iter().map(|it| &*it.field).collect();
    assert_eq!(blamed, ["blocks[0].columns[1].texts[0]", r#"blocks[0].columns[2].values[0]["a"]"#]);
    assert_eq!(backend.copy(1).props("bob"), shown([]));
    let cleo = shown([("x", num(2.0)), ("name", text("Cleo")), ("z", null())]);
    assert_eq!(backend.copy(1).props("cleo"), cleo);
}

#[tokio::test]
async fn a_dictionary_that_renames_is_refused_with_all_blocks_of_its_message() {
    let (service, mut backend) = with_backend().await;
    backend
        .accepted(&service, GatewayRequest { dictionary: names([(1, "x")]), ..Default::default() })
        .await;
    let seq = backend.send(GatewayRequest {
        dictionary: names([(1, "y"), (2, "z")]),
        blocks: vec![block(&[1], vec![numbers(1, &[1.0])])],
        ..Default::default()
    });
    let refusals = backend.refusals_of(&service, seq).await;
    assert_eq!(refusals.len(), 1);
    assert_eq!(refusals[0].fields[0].field, "dictionary.props[0]");
    assert_eq!(backend.copy(1).props("bob"), shown([]));
    // Nothing of it was learnt, and the same name once more is no fault.
    let again = GatewayRequest { dictionary: names([(1, "x"), (2, "w")]), ..Default::default() };
    backend.accepted(&service, again).await;
    let twice = names([(3, "a"), (4, "b"), (3, "c"), (4, "b")]);
    let seq = backend.send(GatewayRequest { dictionary: twice, ..Default::default() });
    let refusals = backend.refusals_of(&service, seq).await;
    let faults: Vec<_> = refusals[0].fields.iter().map(|it| &*it.field).collect();
    assert_eq!(faults, ["dictionary.props[2]"]);
}

#[tokio::test]
async fn handles_that_are_unknown_zero_or_in_use_are_refused_one_by_one() {
    let (service, mut backend) = with_backend().await;
    let seq = backend.send(GatewayRequest {
        attach: vec![attach(0, "dora", "finals"), attach(1, "dora", "finals")],
        subscribe: vec![view(0, "finals"), view(1, "finals")],
        dictionary: names([(1, "x")]),
        blocks: vec![block(&[9, 1], vec![numbers(1, &[9.0, 1.0])])],
        writes: vec![write_of(8, write([("x", int(1))]))],
        unsubscribe: vec![7],
        detach: vec![proto::Detach { handle: 6, ..Default::default() }],
        ..Default::default()
    });
    let refusals = backend.refusals_of(&service, seq).await;
    let handles: Vec<_> = refusals.iter().map(|it| (it.handle, it.view_handle)).collect();
    let (user, view) = (|handle| (handle, 0), |handle| (0, handle));
    assert_eq!(handles, [user(0), user(1), user(0), view(1), user(9), user(8), view(7), user(6)]);
    for refusal in &refusals[4..] {
        assert_eq!(refusal.reason(), ErrorReason::UnknownHandle);
        assert_eq!(refusal.code, Code::NotFound as i32);
    }
    assert_eq!(refusals[1].fields[0].field, "attach[1].handle");
    assert_eq!(backend.copy(1).props("bob"), shown([("x", num(1.0))]), "the rest is done");
    assert!(!backend.copy(1).knows("dora"));
}

#[tokio::test]
async fn each_user_is_refused_by_its_own_role_ban_and_rate() {
    let service = Service::with_room().await;
    service.try_ban("finals", "ada", "bob").await.expect("he is banned");
    let mut backend = service.gateway("backend").await;
    let spectator = proto::JoinOptions { spectator: true, ..Default::default() };
    let seq = backend.attach(vec![
        attach(1, "bob", "finals"),
        proto::Attach { join: Some(spectator), ..attach(2, "cleo", "finals") },
        attach(3, "dora", "nowhere"),
        proto::Attach { join: None, ..attach(4, "eve", "finals") },
        attach(5, "fay", "finals"),
    ]);
    let refusals = backend.refusals_of(&service, seq).await;
    let reasons: Vec<_> = refusals.iter().map(|it| (it.handle, it.reason())).collect();
    let expected =
        [(1, ErrorReason::Banned), (3, ErrorReason::SessionNotFound), (4, ErrorReason::NotAMember)];
    assert_eq!(reasons, expected);
    assert_eq!(backend.attached.keys().copied().collect::<Vec<_>>(), [2, 5]);
    let seq = backend.write(2, write([("x", int(1))]));
    let refusals = backend.refusals_of(&service, seq).await;
    assert_eq!(refusals[0].reason(), ErrorReason::RoleTooLow);
}

#[tokio::test]
async fn over_a_users_rate_the_last_value_of_a_key_is_kept_and_others_are_not_held_up() {
    let service = Service::start_with(|config| config.max_updates_per_second = 10).await;
    service.open_room("finals", "ada").await;
    let mut backend = service.gateway("backend").await;
    let request = GatewayRequest {
        attach: vec![attach(1, "bob", "finals"), attach(2, "cleo", "finals")],
        subscribe: vec![view(1, "finals")],
        dictionary: names([(1, "x")]),
        ..Default::default()
    };
    backend.accepted(&service, request).await;
    let mut last = 0;
    for x in 0..30 {
        let blocks = vec![block(&[1], vec![numbers(1, &[f64::from(x)])])];
        last = backend.send(GatewayRequest { blocks, ..Default::default() });
    }
    backend.write(2, write([("y", int(1))]));
    backend.tick_until(&service, |it| it.copy(1).props("cleo").contains_key("y")).await;
    let held = backend.copy(1).props("bob");
    assert_ne!(held, shown([("x", num(29.0))]), "it waits");
    backend.until_acked(&service, last).await;
    assert_eq!(backend.copy(1).props("bob"), shown([("x", num(29.0))]));
    assert!(backend.refusals.is_empty());
}

#[tokio::test]
async fn a_role_is_kept_only_by_a_user_who_leaves() {
    let (service, mut backend) = with_backend().await;
    let detach = vec![proto::Detach { handle: 1, leave: false, keep_role: true }];
    let seq = backend.send(GatewayRequest { detach, ..Default::default() });
    let refusals = backend.refusals_of(&service, seq).await;
    assert_eq!((refusals.len(), refusals[0].handle), (1, 1));
    assert_eq!(refusals[0].fields[0].field, "detach[0].keep_role");
    let seq = backend.write(1, write([("x", int(1))]));
    backend.until_acked(&service, seq).await;
    assert!(backend.refusals.is_empty(), "it is still attached");
}

#[tokio::test]
async fn a_view_needs_an_attached_user_who_may_see_it() {
    let service = Service::with_room().await;
    let mut backend = service.gateway("backend").await;
    let host = ViewSubscription { view: proto::View::Host.into(), ..view(2, "finals") };
    let seq = backend.subscribe(vec![view(1, "finals"), host.clone(), view(3, "nowhere")]);
    let refusals = backend.refusals_of(&service, seq).await;
    assert_eq!(refusals.len(), 3, "{refusals:?}");
    for refusal in refusals {
        assert_eq!(
            refusal.reason(),
            ErrorReason::NoView,
            "whether the session is there is not told"
        );
    }
    let request = GatewayRequest {
        attach: vec![attach(1, "ada", "finals")],
        subscribe: vec![view(1, "finals"), host],
        ..Default::default()
    };
    backend.accepted(&service, request).await;
    service.set_private_data("finals", "ada", [("secret", int(1))]).await;
    backend.tick_until(&service, |it| !it.copy(2).state.private_data.is_empty()).await;
    assert!(backend.copy(1).state.private_data.is_empty(), "members do not see it");
}

#[tokio::test]
async fn a_view_ends_when_the_last_user_who_may_see_it_goes() {
    let (service, mut backend) = with_backend().await;
    backend.detach(1, true);
    backend.tick_until(&service, |it| !it.copy(1).knows("bob")).await;
    assert!(backend.lost.is_empty(), "cleo may see it");
    let seq = backend.detach(2, true);
    backend.tick_until(&service, |it| !it.lost.is_empty()).await;
    backend.until_acked(&service, seq).await;
    assert_eq!(backend.lost[&1].reason(), EndReason::ViewLost);
    assert!(backend.ended.is_empty(), "who is detached does not end");
    // The handles are free again.
    let request = GatewayRequest {
        attach: vec![attach(1, "bob", "finals")],
        subscribe: vec![view(1, "finals")],
        ..Default::default()
    };
    backend.accepted(&service, request).await;
}

#[tokio::test]
async fn the_view_of_the_host_goes_with_the_hosting() {
    let service = Service::start().await;
    service.open_hosted("show", "ada", SessionSettings::default()).await;
    let mut backend = service.gateway("backend").await;
    let request = GatewayRequest {
        attach: vec![attach(1, "ada", "show")],
        subscribe: vec![ViewSubscription { view: proto::View::Host.into(), ..view(1, "show") }],
        ..Default::default()
    };
    backend.accepted(&service, request).await;
    service.join("show", "bob").await;
    let _bob = service.watch("show", "bob").await;
    service.try_swap_host("show", "ada", "bob", 0).await.expect("it hands over");
    service.set_private_data("show", "bob", [("secret", int(1))]).await;
    backend.tick_until(&service, |it| !it.lost.is_empty()).await;
    assert_eq!(backend.lost[&1].reason(), EndReason::ViewLost);
}

#[tokio::test]
async fn a_handle_ends_with_the_reason_when_its_user_goes() {
    let (service, mut backend) = with_backend().await;
    service.try_kick("finals", "ada", "bob", "").await.expect("he is kicked");
    backend.tick_until(&service, |it| it.ended.contains_key(&1)).await;
    assert_eq!(backend.ended[&1].reason(), EndReason::Kicked);
    service.try_ban("finals", "ada", "cleo").await.expect("she is banned");
    backend.tick_until(&service, |it| it.ended.contains_key(&2) && !it.lost.is_empty()).await;
    assert_eq!(backend.ended[&2].reason(), EndReason::Banned);
    assert_eq!(backend.lost[&1].reason(), EndReason::ViewLost);
    let request = GatewayRequest {
        attach: vec![attach(1, "bob", "finals")],
        subscribe: vec![view(1, "finals")],
        ..Default::default()
    };
    backend.accepted(&service, request).await;
    service.try_delete("finals", "ada").await.expect("it is deleted");
    backend.lost.clear();
    let is_over = |it: &Backend| it.ended[&1].reason() == EndReason::Deleted;
    backend.tick_until(&service, |it| is_over(it) && !it.lost.is_empty()).await;
    assert_eq!(backend.lost[&1].reason(), EndReason::Deleted);
}

#[tokio::test]
async fn the_newest_attachment_of_a_user_wins() {
    let (service, mut first) = with_backend().await;
    let mut second = service.gateway("another").await;
    let request = GatewayRequest {
        attach: vec![attach(1, "bob", "finals"), attach(2, "dora", "finals")],
        ..Default::default()
    };
    second.accepted(&service, request).await;
    first.tick_until(&service, |it| it.ended.contains_key(&1)).await;
    assert_eq!(first.ended[&1].reason(), EndReason::TakenOver);
    let seq = first.write(1, write([("x", int(1))]));
    assert_eq!(first.refusals_of(&service, seq).await[0].reason(), ErrorReason::UnknownHandle);
    second.write(1, write([("x", int(2))]));
    first.tick_until(&service, |it| it.copy(1).props("bob") == shown([("x", int(2))])).await;
    assert!(!first.copy(1).member("bob").disconnected, "he was connected all the time");
}

#[tokio::test]
async fn users_stay_connected_for_the_grace_of_a_lost_stream() {
    let (service, backend) = with_backend().await;
    let mut ada = service.watch("finals", "ada").await;
    drop(backend);
    service.until_gateway_is_lost().await;
    service.advance(29_000);
    assert!(!ada.rebuilt.member("bob").disconnected);
    service.advance(2_000);
    service.tick_until(&mut ada, |it| it.member("bob").disconnected).await;
    assert!(ada.rebuilt.member("cleo").disconnected);
}

#[tokio::test]
async fn a_stream_of_the_same_id_takes_over_and_is_told_what_there_is() {
    let (service, mut first) = with_backend().await;
    let mut ada = service.watch("finals", "ada").await;
    let seq = first.write(1, write([("x", int(1))]));
    first.until_acked(&service, seq).await;
    let resume = first.copy(1).resume();
    let before = first.copy(1).again();
    let mut second = service.gateway("backend").await;
    assert!(second.welcome.resumed);
    assert_eq!((second.welcome.last_seq, second.welcome.attached_users), (seq, 2));
    let users: Vec<_> = second.attached.values().map(|it| (it.handle, &*it.user_id)).collect();
    assert_eq!(users, [(1, "bob"), (2, "cleo")]);
    assert!(second.attached.values().all(|it| it.session_id == "finals"));
    first.end().await.is(EndReason::TakenOver, Code::Aborted);
    second.views.insert(1, before);
    let again = ViewSubscription { resume: Some(resume), ..view(1, "finals") };
    second
        .accepted(&service, GatewayRequest { subscribe: vec![again], ..Default::default() })
        .await;
    let seq = second.write(2, write([("y", int(1))]));
    second.until_acked(&service, seq).await;
    assert_eq!(second.copy(1).props("cleo"), shown([("y", int(1))]));
    drop(first);
    service.tick_until(&mut ada, |it| it.props("cleo") == shown([("y", int(1))])).await;
    assert!(!ada.rebuilt.member("bob").disconnected, "nobody was lost");
}

#[tokio::test]
async fn the_stream_that_takes_over_is_told_exactly_what_was_applied() {
    const USERS: u32 = 1000;
    const EACH: u32 = 50;
    /// Has every user show the number of the message.
    fn all(backend: &mut Backend, seq: u64, attach: Vec<proto::Attach>) {
        let integers = vec![seq as i64; EACH as usize];
        let column = Column { prop: 1, integers, ..Default::default() };
        let block = |at: u32| Block {
            runs: vec![u64::from(1 + at * EACH), EACH.into()],
            columns: vec![column.clone()],
            ..Default::default()
        };
        let blocks = (0..USERS / EACH).map(block).collect();
        let dictionary = names([(1, "n")]);
        let request = GatewayRequest { attach, dictionary, blocks, ..Default::default() };
        backend.send_as(seq, request);
    }
    let service = Service::start_with(|config| config.max_updates_per_second = 1_000_000).await;
    service.open_room("finals", "ada").await;
    let mut old = service.gateway_apart("backend").await;
    let users = (1..=USERS).map(|at| (at, format!("user-{at}")));
    let attached = users.clone().map(|(handle, user)| attach(handle, &user, "finals"));
    all(&mut old, 2, attached.collect());
    old.until_acked(&service, 2).await;
    let (mut sent, mut amid) = (2, 0);
    for _ in 0..20 {
        let before = sent;
        for _ in 0..40 {
            sent += 1;
            all(&mut old, sent, Vec::new());
        }
        let new = service.gateway_apart("backend").await;
        let last = new.welcome.last_seq;
        amid += usize::from(before < last && last < sent);
        old.end().await.is(EndReason::TakenOver, Code::Aborted);
        assert!(old.acked_seq <= last, "{} was acked, {last} applied", old.acked_seq);
        assert!(old.refusals.is_empty(), "{:?}", old.refusals);
        service.tick();
        let ada = service.watch("finals", "ada").await;
        for (_, user) in users.clone() {
            let expected = shown([("n", int(last as i64))]);
            assert_eq!(ada.rebuilt.props(&user), expected, "{user}: {last} was applied last");
        }
        old = new;
    }
    assert!(amid > 0, "another stream took over while messages were dealt with");
}

#[tokio::test]
async fn a_backend_that_comes_back_within_the_grace_goes_on() {
    let (service, mut first) = with_backend().await;
    let mut ada = service.watch("finals", "ada").await;
    let seq = first.write(1, write([("x", int(1))]));
    first.until_acked(&service, seq).await;
    drop(first);
    service.until_gateway_is_lost().await;
    // Meanwhile one of its users goes.
    service.try_kick("finals", "ada", "cleo", "").await.expect("she is kicked");
    service.advance(20_000);
    let mut second = service.gateway("backend").await;
    assert!(second.welcome.resumed);
    assert_eq!(second.welcome.last_seq, seq);
    // It is over by now, if it still ran.
    service.advance(35_000);
    let seq = second.write(1, write([("x", int(2))]));
    second.until_acked(&service, seq).await;
    service.tick_until(&mut ada, |it| it.props("bob") == shown([("x", int(2))])).await;
    assert!(!ada.rebuilt.member("bob").disconnected && !ada.rebuilt.knows("cleo"));
}

#[tokio::test]
async fn a_client_that_closes_its_side_gets_all_acks_and_its_users_are_detached() {
    let (service, mut backend) = with_backend().await;
    let mut ada = service.watch("finals", "ada").await;
    let seq = backend.write(1, write([("x", int(1))]));
    backend.close();
    backend.until_acked(&service, seq).await;
    assert_eq!(backend.end().await.status.code(), Code::Ok);
    service.tick_until(&mut ada, |it| it.member("bob").disconnected).await;
}

#[tokio::test]
async fn the_first_message_is_a_hello_and_no_other_is() {
    let service = Service::with_room().await;
    let hello = |id: &str| GatewayHello { gateway_id: id.to_owned(), ..Default::default() };
    let none = GatewayRequest::default();
    let wrong = (Code::InvalidArgument, "WRONG_FIRST_MESSAGE");
    let mut backend = service.gateway_with(none).await;
    backend.refused().await.is(wrong.0, wrong.1);
    let unnamed = GatewayRequest { hello: Some(hello("")), ..Default::default() };
    service.gateway_with(unnamed).await.refused().await.blames(&["hello.gateway_id"]);
    let more =
        GatewayRequest { hello: Some(hello("a")), unsubscribe: vec![1], ..Default::default() };
    service.gateway_with(more).await.refused().await.blames(&["hello"]);
    let mut backend = service.gateway("backend").await;
    backend.send(GatewayRequest { hello: Some(hello("backend")), ..Default::default() });
    backend.refused().await.is(wrong.0, wrong.1);
    let mut backend = service.gateway("backend").await;
    backend.send_as(1, GatewayRequest::default());
    backend.refused().await.is(Code::InvalidArgument, "SEQ_NOT_RISING");
}

#[tokio::test]
async fn a_silent_gateway_ends_and_its_users_wait_for_it() {
    let (service, mut backend) = with_backend().await;
    service.advance(39_000);
    backend.send(GatewayRequest { heartbeat: Some(proto::Heartbeat {}), ..Default::default() });
    let seq = backend.seq();
    backend.until_acked(&service, seq).await;
    service.advance(39_000);
    service.advance(2_000);
    backend.end().await.is(EndReason::Silent, Code::DeadlineExceeded);
}

#[tokio::test]
async fn an_age_is_announced_before_it_is_reached() {
    let service = Service::start_with(|config| {
        config.stream_max_age = Some(std::time::Duration::from_secs(100));
    })
    .await;
    service.open_room("finals", "ada").await;
    let mut backend = service.gateway("backend").await;
    for _ in 0..120 {
        backend.send(GatewayRequest { heartbeat: Some(proto::Heartbeat {}), ..Default::default() });
        service.advance(1_000);
        while backend.go_away.is_none() && backend.glance().await {}
        if backend.go_away.is_some() {
            break;
        }
    }
    let go_away = backend.go_away.clone().expect("it is announced");
    assert_eq!(go_away.reason(), EndReason::Age);
    assert!(go_away.deadline.is_some() && go_away.reconnect_delay.is_some());
    // Everything goes on until then.
    let request = GatewayRequest { attach: vec![attach(1, "bob", "finals")], ..Default::default() };
    backend.accepted(&service, request).await;
    service.advance(11_000);
    backend.end().await.is(EndReason::Age, Code::Unavailable);
}

#[tokio::test]
async fn a_stop_is_told_from_when_it_began_and_to_whoever_was_told_a_later_end() {
    let service = Service::start_with(|config| {
        config.stream_max_age = Some(std::time::Duration::from_secs(100));
    })
    .await;
    let mut backend = service.gateway("backend").await;
    for _ in 0..120 {
        backend.send(GatewayRequest { heartbeat: Some(proto::Heartbeat {}), ..Default::default() });
        service.advance(1_000);
        while backend.go_away.is_none() && backend.glance().await {}
        if backend.go_away.is_some() {
            break;
        }
    }
    let micros = |go_away: &proto::GoAway| {
        let at = go_away.deadline.expect("it has a deadline");
        (at.seconds, at.nanos)
    };
    let age = backend.go_away.take().expect("it is announced");
    assert_eq!(age.reason(), EndReason::Age);
    service.begin_to_stop();
    backend.next().await;
    let stop = backend.go_away.take().expect("it ends earlier");
    assert_eq!(stop.reason(), EndReason::Draining);
    assert!(micros(&stop) < micros(&age));
    service.advance(500);
    let mut late = service.gateway("late").await;
    while late.go_away.is_none() {
        late.next().await;
    }
    let told = late.go_away.take().expect("it is told");
    assert_eq!((told.reason(), micros(&told)), (EndReason::Draining, micros(&stop)));
}

#[tokio::test]
async fn a_message_that_is_too_large_names_the_limit_of_gateways() {
    let (_service, mut backend) = with_backend().await;
    backend.write(1, write([("x", text("x".repeat(1 << 20)))]));
    let told = backend.refused().await.is(Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
    told.says("limit", "max-gateway-request-bytes").says("most", "1048576");
}

#[tokio::test]
async fn ten_thousand_users_attach_with_one_message() {
    let service = Service::start().await;
    service.open_room("finals", "ada").await;
    let mut backend = service.gateway("backend").await;
    let users: Vec<_> = (1..=9_999).map(|at| attach(at, &format!("user-{at}"), "finals")).collect();
    let seq = backend.attach(users);
    backend.tick_until(&service, |it| it.attached.len() == 9_999 && it.acked_seq >= seq).await;
    assert!(backend.refusals.is_empty());
    let seq = backend.attach(vec![attach(10_000, "one more", "finals")]);
    let refusals = backend.refusals_of(&service, seq).await;
    assert_eq!(refusals[0].reason(), ErrorReason::SessionFull);
}

#[tokio::test]
async fn too_many_parts_of_a_message_refuse_it_whole() {
    let (service, mut backend) = with_backend().await;
    let users: Vec<_> = (3..=10_003).map(|at| attach(at, "u", "finals")).collect();
    let seq = backend.attach(users);
    let refusals = backend.refusals_of(&service, seq).await;
    assert_eq!(refusals.len(), 1);
    assert_eq!(refusals[0].fields[0].field, "attach");
    assert!(refusals[0].message.contains("has 10001 entries, more than 10000"));
    assert_eq!(backend.attached.len(), 2);
    let unsubscribe = (1..=10_001).collect();
    let seq = backend.send(GatewayRequest { unsubscribe, ..Default::default() });
    assert_eq!(backend.refusals_of(&service, seq).await[0].fields[0].field, "unsubscribe");
}

#[tokio::test]
async fn a_message_that_takes_too_much_memory_is_refused_whole() {
    let (service, mut backend) = with_backend().await;
    let small = map([("", null())]);
    let column = Column { prop: 1, values: vec![small; 80_000], ..Default::default() };
    let seq = backend.send(GatewayRequest {
        dictionary: names([(1, "x")]),
        blocks: vec![Block { runs: vec![1, 80_000], columns: vec![column], ..Default::default() }],
        ..Default::default()
    });
    let refusals = backend.refusals_of(&service, seq).await;
    assert_eq!(refusals.len(), 1);
    assert_eq!(refusals[0].fields[0].field, "blocks");
    assert!(refusals[0].message.contains("memory"), "{refusals:?}");
    // The stream goes on.
    backend.attach(vec![attach(3, "dan", "finals")]);
    backend.tick_until(&service, |it| it.attached.contains_key(&3)).await;
}

#[tokio::test]
async fn refusals_of_many_users_are_bounded() {
    let (service, mut backend) = with_backend().await;
    let flags = Column { prop: 1, flags: vec![true; 100_000], ..Default::default() };
    let seq = backend.send(GatewayRequest {
        dictionary: names([(1, "x")]),
        blocks: vec![Block { runs: vec![1, 100_000], columns: vec![flags], ..Default::default() }],
        ..Default::default()
    });
    let refusals = backend.refusals_of(&service, seq).await;
    assert_eq!(refusals.len(), 1001);
    assert!(
        refusals.last().is_some_and(|last| last.message.contains("98998 more")),
        "{refusals:?}"
    );
    assert_eq!(backend.copy(1).props("bob"), shown([("x", flag(true))]));
}

#[tokio::test]
async fn the_app_receives_views_without_attached_users() {
    let service = Service::with_room().await;
    let hello = GatewayHello { gateway_id: "watcher".to_owned(), ..Default::default() };
    let first = GatewayRequest { hello: Some(hello), ..Default::default() };
    let mut backend = service.gateway_as(first, as_app).await;
    backend.next().await;
    let host = ViewSubscription { view: proto::View::Host.into(), ..view(2, "finals") };
    let subscribe = vec![view(1, "finals"), host];
    backend.accepted(&service, GatewayRequest { subscribe, ..Default::default() }).await;
    service.set_private_data("finals", "ada", [("secret", int(1))]).await;
    backend.tick_until(&service, |it| !it.copy(2).state.private_data.is_empty()).await;
    assert!(backend.copy(1).knows("ada"));
    assert_ne!(backend.copy(1).view, backend.copy(2).view);
}

#[tokio::test]
async fn a_join_with_a_password_waits_for_nothing_else() {
    let service = Service::start().await;
    let settings = SessionSettings { password: Some("open".to_owned()), ..Default::default() };
    service.open_room_with("finals", "ada", settings).await;
    let mut backend = service.gateway("backend").await;
    let join =
        |password: &str| proto::JoinOptions { password: password.to_owned(), ..Default::default() };
    let seq = backend.attach(vec![
        proto::Attach { join: Some(join("open")), ..attach(1, "bob", "finals") },
        proto::Attach { join: Some(join("shut")), ..attach(2, "cleo", "finals") },
    ]);
    let write_seq = backend.write(1, write([("x", int(1))]));
    backend.until_acked(&service, write_seq).await;
    let refusals = backend.refusals_of(&service, seq).await;
    assert_eq!(refusals.len(), 1);
    assert_eq!((refusals[0].handle, refusals[0].reason()), (2, ErrorReason::WrongPassword));
    assert!(backend.refusals.is_empty(), "the write came after the join");
}

#[tokio::test]
async fn what_is_conflated_refused_lost_and_taken_over_is_counted() {
    let service = Service::with_room().await;
    let mut backend = service.gateway("backend").await;
    let slow = proto::DeliveryOptions { max_rate_hz: 10, ..Default::default() };
    let request = GatewayRequest {
        attach: vec![attach(1, "bob", "finals")],
        subscribe: vec![ViewSubscription { options: Some(slow), ..view(1, "finals") }],
        ..Default::default()
    };
    backend.accepted(&service, request).await;
    let counters = service.engine().counters();
    let count = || {
        (
            counters.attached_users.read(),
            counters.refused_attaches.read(),
            counters.lost_views.read(),
            counters.gateways_taken_over.read(),
        )
    };
    assert_eq!(count(), (1, 0, 0, 0));
    let (steps, conflated) = (counters.encoded_steps.read(), counters.conflated_steps.read());
    for x in 0..30 {
        let seq = backend.write(1, write([("x", int(x))]));
        backend.until_acked(&service, seq).await;
    }
    backend.tick_until(&service, |it| it.copy(1).props("bob") == shown([("x", int(29))])).await;
    assert!(counters.encoded_steps.read() >= steps + 30, "each frame is encoded once");
    assert!(counters.conflated_steps.read() > conflated, "and some were read in one");
    let seq = backend.attach(vec![attach(2, "cleo", "nowhere"), attach(0, "dora", "finals")]);
    assert_eq!(backend.refusals_of(&service, seq).await.len(), 2);
    backend.detach(1, true);
    backend.tick_until(&service, |it| !it.lost.is_empty()).await;
    let _second = service.gateway("backend").await;
    backend.end().await.is(EndReason::TakenOver, Code::Aborted);
    assert_eq!(count(), (1, 2, 1, 1));
}
