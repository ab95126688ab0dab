//! Users who write faster than they may: what waits, what is refused, and what counts.

use crate::support::*;
use sessiond::proto::{
    DeliveryOptions, ErrorReason, Field, FieldType, JoinOptions, OpenSharedSessionRequest,
    PropsWrite, Role, Schema, SubscribeToSessionRequest,
};
use std::collections::BTreeMap;
use tonic::Code;

async fn service_with(rate: usize) -> Service {
    let service = Service::start_with(|config| config.max_updates_per_second = rate).await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    service.tick();
    service
}

fn n(value: i64) -> PropsWrite {
    write([("n", int(value))]).in_session("finals")
}

/// What was refused, and why.
fn refusals(stream: &PropsStream) -> Vec<(u64, ErrorReason)> {
    stream.refusals.iter().map(|it| (it.seq, it.reason())).collect()
}

#[tokio::test]
async fn of_300_writes_at_once_none_is_refused_and_the_last_of_every_key_is_shown() {
    let service = service_with(200).await;
    let everything =
        DeliveryOptions { delivery: sessiond::proto::Delivery::All.into(), ..Default::default() };
    let bob = subscription_with("finals", "bob", everything);
    let mut bob = service.watch_with(bob).await;
    let mut ada = service.stream("finals", "ada").await;
    let before = service.engine().clock().now();
    let keys = ["on user", "in session", "on user too", "in session too"];
    // Every other one on the user, which is another target.
    for value in 1..=300 {
        let key = keys[value as usize % 4];
        let write = write([(key, int(value))]);
        ada.write(if value % 2 == 0 { write } else { write.in_session("finals") });
    }
    ada.until_acked(&service, 301).await;
    assert_eq!(refusals(&ada), []);
    let last =
        shown([(keys[0], int(300)), (keys[1], int(297)), (keys[2], int(298)), (keys[3], int(299))]);
    assert_eq!(ada.rebuilt.props("ada"), last);
    let passed = service.engine().clock().now() - before;
    let mut told = BTreeMap::<String, i64>::new();
    let mut updates = 0;
    while bob.rebuilt.props("ada") != last {
        for update in bob.next_log().await {
            for prop in &update.change.expect("it has one").members[0].props {
                let Some(sessiond::proto::named_value::Kind::Integer(value)) = prop.kind else {
                    panic!("all are integers")
                };
                let before = told.insert(prop.name.clone(), value);
                assert!(before < Some(value), "{}: {before:?}, then {value}", prop.name);
            }
            updates += 1;
        }
    }
    assert!(bob.glance().await.is_none());
    let most = 200 + passed / 5_000;
    assert!((201..=most).contains(&updates), "{updates} in {passed} us");
}

#[tokio::test]
async fn a_write_with_a_condition_a_term_or_a_request_id_is_refused_with_the_time_to_wait() {
    let service = service_with(5).await;
    let mut ada = service.stream("finals", "ada").await;
    let mut over = Vec::new();
    for value in 0..8 {
        ada.write(n(value));
        if value >= 5 {
            let if_revision = [("other".to_owned(), 0)].into();
            over.push(ada.write(PropsWrite { if_revision, ..n(90) }));
            let request_id = format!("once {value}");
            over.push(ada.write(PropsWrite { request_id, ..n(91) }));
            over.push(ada.write(PropsWrite { term: 1, ..n(92) }));
        }
    }
    let last = over[over.len() - 1];
    ada.until_acked(&service, last).await;
    let limited = over.into_iter().map(|seq| (seq, ErrorReason::RateLimited));
    assert_eq!(refusals(&ada), limited.collect::<Vec<_>>());
    for refusal in &ada.refusals {
        assert_eq!(refusal.code, Code::ResourceExhausted as i32);
        let after = refusal.retry_after.expect("it says when to try again");
        assert!(after.seconds == 0 && (1..=200_000_000).contains(&after.nanos), "{after:?}");
    }
    assert_eq!(ada.rebuilt.props("ada"), shown([("n", int(7))]));
    service.advance(200);
    let unconditional = ada.write(PropsWrite { request_id: "once".to_owned(), ..n(8) });
    ada.until_acked(&service, unconditional).await;
    assert_eq!(ada.rebuilt.props("ada"), shown([("n", int(8))]));
}

#[tokio::test]
async fn what_waits_is_written_when_the_rate_lets_it_and_acked_when_it_is_framed() {
    let service = service_with(5).await;
    let mut bob = service.watch("finals", "bob").await;
    let mut open = stream_open("finals", "ada");
    open.subscriptions.clear();
    let mut ada = service.open_stream(open).await;
    ada.next_message().await.expect("it is open");
    for value in 0..8 {
        ada.write(n(value));
    }
    let before = service.engine().clock().now();
    service.tick_until(&mut bob, |it| it.props("ada") == shown([("n", int(7))])).await;
    let passed = service.engine().clock().now() - before;
    assert!((200_000..=400_000).contains(&passed), "a token is there after 200 ms: {passed}");
    ada.until_acked(&service, 9).await;
    assert_eq!(refusals(&ada), []);
}

#[tokio::test]
async fn a_stream_that_its_client_closes_ends_when_what_waits_is_written_and_acked() {
    let service = service_with(2).await;
    let mut ada = service.stream("finals", "ada").await;
    for value in 0..5 {
        ada.write(n(value));
    }
    ada.close();
    ada.until_acked(&service, 6).await;
    assert_eq!(ada.rebuilt.props("ada"), shown([("n", int(4))]));
    assert_eq!(ada.end().await.status.code(), Code::Ok);
    assert_eq!(refusals(&ada), []);
}

#[tokio::test]
async fn each_target_waits_by_itself_and_what_is_acked_is_shown() {
    let service = service_with(2).await;
    service.open_room("semis", "ada").await;
    service.tick();
    let mut ada = service.several("ada", &["finals", "semis"]).await;
    for value in 0..20 {
        let session = ["finals", "semis"][value as usize % 2];
        ada.write(write([("n", int(value))]).in_session(session));
    }
    ada.until_acked(&service, 21).await;
    assert_eq!(ada.refusals, []);
    assert_eq!(ada.copy("finals").props("ada"), shown([("n", int(18))]));
    assert_eq!(ada.copy("semis").props("ada"), shown([("n", int(19))]));
}

#[tokio::test]
async fn maps_that_wait_are_merged_as_one_after_the_other() {
    let service = service_with(1).await;
    let mut ada = service.stream("finals", "ada").await;
    let merge = |value| PropsWrite { merge_maps: true, ..write([("at", value)]) };
    let writes = [
        write([("at", map([("x", int(1)), ("z", int(1))]))]),
        merge(map([("x", int(2))])),
        merge(map([("y", int(3))])),
        write([("gone", int(1))]),
        removal(&["gone"]),
    ];
    for write in writes {
        ada.write(write.in_session("finals"));
    }
    ada.until_acked(&service, 6).await;
    assert_eq!(refusals(&ada), []);
    let at = map([("x", int(2)), ("y", int(3)), ("z", int(1))]);
    assert_eq!(ada.rebuilt.props("ada"), shown([("at", at)]));
}

#[tokio::test]
async fn what_more_than_64_kib_would_wait_with_is_refused() {
    let service = service_with(1).await;
    let mut ada = service.stream("finals", "ada").await;
    let large = |key: &str| write([(key, text("x".repeat(15_000)))]).in_session("finals");
    let keys = ["now", "a", "b", "c", "d", "e"];
    let writes: Vec<u64> = keys.iter().map(|key| ada.write(large(key))).collect();
    ada.until_acked(&service, writes[5]).await;
    assert_eq!(refusals(&ada), [(writes[5], ErrorReason::RateLimited)]);
    let held: Vec<_> = ada.rebuilt.props("ada").into_keys().collect();
    assert_eq!(held, ["a", "b", "c", "d", "now"]);
}

#[tokio::test]
async fn a_write_that_the_session_refuses_takes_nothing_that_waits_along() {
    let service = Service::start_with(|config| config.max_updates_per_second = 2).await;
    let format = Schema { props_example: props([("n", int(0))]), ..Default::default() };
    let open = OpenSharedSessionRequest {
        schema: Some(format),
        ..opening("finals", "ada", Default::default())
    };
    service.try_open(open).await.expect("it opens");
    let mut ada = service.stream("finals", "ada").await;
    for value in 0..4 {
        ada.write(n(value));
    }
    let wrong = ada.write(write([("n", text("four"))]).in_session("finals"));
    let unknown = ada.write(write([("n", int(4))]).in_session("nowhere"));
    let last = ada.write(n(5));
    ada.until_acked(&service, last).await;
    let expected = [(wrong, ErrorReason::InvalidFields), (unknown, ErrorReason::SessionNotFound)];
    assert_eq!(refusals(&ada), expected);
    assert_eq!(ada.rebuilt.props("ada"), shown([("n", int(5))]));
}

#[tokio::test]
async fn what_waits_is_not_acked_where_the_stream_ends_otherwise() {
    let service = service_with(2).await;
    let mut ada = service.stream("finals", "ada").await;
    let writes: Vec<u64> = (0..4).map(|value| ada.write(n(value))).collect();
    ada.until_acked(&service, writes[1]).await;
    service.try_kick("finals", "bob", "ada", "").await.expect_err("he may not");
    service.drain();
    ada.end().await;
    assert_eq!(ada.acked_seq, writes[1]);
}

#[tokio::test]
async fn the_first_props_of_a_join_count_as_an_update() {
    let service = Service::start_with(|config| config.max_updates_per_second = 4).await;
    let join = || JoinOptions { props: props([("x", int(1))]), ..Default::default() };
    let open = |id: &str| OpenSharedSessionRequest {
        join: Some(join()),
        ..opening(id, "ada", Default::default())
    };
    for id in ["a", "b", "c"] {
        service.open_room(id, "host").await;
    }
    service.try_open(open("one")).await.expect("the first");
    service.try_join("a", "ada", join()).await.expect("the second and, as a snapshot, the third");
    let request = |id| SubscribeToSessionRequest { join: Some(join()), ..subscription(id, "ada") };
    service.watch_with(request("b")).await;
    let is_limited = |told: Refused| drop(told.is(Code::ResourceExhausted, "RATE_LIMITED"));
    is_limited(refused(service.try_open(open("two")).await));
    is_limited(refused(service.try_join("c", "ada", join()).await));
    is_limited(service.refused_watch(request("c")).await);
    is_limited(refused(service.try_write("ada", write([("x", int(9))])).await));
    assert!(!service.names("c").await.contains(&"ada".to_owned()));
    // They count only where they are taken.
    service.try_join("a", "ada", join()).await.expect("she is in already");
    service.try_join("c", "ada", JoinOptions::default()).await.expect("there are none");
}

#[tokio::test]
async fn of_several_that_are_had_or_none_what_was_joined_is_left_again() {
    let service = Service::start_with(|config| config.max_updates_per_second = 1).await;
    for id in ["a", "b"] {
        service.open_room(id, "host").await;
    }
    let mut open = several_open("ada", &["a", "b", "new"]);
    for subscription in &mut open.subscriptions {
        let props = props([("x", int(1))]);
        subscription.join = Some(JoinOptions { props, ..Default::default() });
    }
    open.subscriptions[2].open_if_missing = Some(Default::default());
    open.subscriptions.swap(0, 2);
    let told = service.open_several(open).await.refused().await;
    told.is(Code::ResourceExhausted, "RATE_LIMITED").says("subscription", "open.subscriptions[1]");
    service.tick();
    for id in ["a", "b"] {
        assert_eq!(service.names(id).await, ["host"]);
    }
    refused(service.try_info("new", "").await).is(Code::NotFound, "SESSION_NOT_FOUND");
}

/// What a write of the second after the rate is used up, and what comes with it, leads to.
async fn with_a_write_waiting(act: impl AsyncFnOnce(&Service)) -> (Service, PropsStream, u64) {
    let service = service_with(1).await;
    service.open_room("semis", "bob").await;
    service.join("semis", "ada").await;
    service.tick();
    let mut ada = service.stream("finals", "ada").await;
    ada.write(n(1));
    let waits = ada.write(write([("k", text("before"))]).in_session("semis"));
    ada.until_acked(&service, waits - 1).await;
    act(&service).await;
    (service, ada, waits)
}

#[tokio::test]
async fn what_waits_is_not_written_in_another_membership_than_its_own() {
    let leave = async |service: &Service| {
        service.try_leave("semis", "ada", false).await.expect("it leaves");
        service.join("semis", "ada").await;
    };
    let kick = async |service: &Service| {
        service.try_kick("semis", "bob", "ada", "").await.expect("it is kicked");
        service.join("semis", "ada").await;
    };
    let ban = async |service: &Service| {
        service.try_ban("semis", "bob", "ada").await.expect("it is banned");
        service.try_unban("semis", "bob", "ada").await.expect("the ban ends");
        service.join("semis", "ada").await;
    };
    let anew = async |service: &Service| {
        service.try_delete("semis", "bob").await.expect("it ends");
        service.open_room("semis", "eve").await;
        service.join("semis", "ada").await;
    };
    let refused = |seq| [(seq, ErrorReason::NotAMember)];
    let (service, mut ada, waits) = with_a_write_waiting(leave).await;
    ada.until_acked(&service, waits).await;
    assert_eq!(refusals(&ada), refused(waits), "leave");
    let (service, mut ada, waits) = with_a_write_waiting(kick).await;
    ada.until_acked(&service, waits).await;
    assert_eq!(refusals(&ada), refused(waits), "kick");
    let (service, mut ada, waits) = with_a_write_waiting(ban).await;
    ada.until_acked(&service, waits).await;
    assert_eq!(refusals(&ada), refused(waits), "ban");
    let (service, mut ada, waits) = with_a_write_waiting(anew).await;
    ada.until_acked(&service, waits).await;
    assert_eq!(refusals(&ada), refused(waits), "another session of the same id");
}

#[tokio::test]
async fn what_waits_during_a_reset_changes_nothing_as_what_is_pending() {
    let reset = async |service: &Service| {
        service.try_reset("semis", "bob", None).await.expect("it is reset");
    };
    let (service, mut ada, waits) = with_a_write_waiting(reset).await;
    ada.until_acked(&service, waits).await;
    assert_eq!(refusals(&ada), []);
    let bob = service.watch("semis", "bob").await;
    assert_eq!(bob.rebuilt.props("ada"), shown([]));
}

#[tokio::test]
async fn what_was_merged_and_is_refused_at_last_takes_nothing_else_along() {
    let service = Service::start_with(|config| config.max_updates_per_second = 1).await;
    let field = |writer: Role| Field {
        r#type: FieldType::Integer.into(),
        default_value: Some(int(0)),
        writer: writer.into(),
        ..Default::default()
    };
    let fields = [("a", Role::Unspecified), ("b", Role::Moderator)];
    let fields = fields.map(|(name, writer)| (name.to_owned(), field(writer)));
    let format = Schema { props: fields.into(), ..Default::default() };
    let open = OpenSharedSessionRequest {
        schema: Some(format),
        ..opening("finals", "bob", Default::default())
    };
    service.try_open(open).await.expect("it opens");
    service.join("finals", "ada").await;
    service.set_role("finals", "", "ada", Role::Moderator).await;
    service.advance(1_000);
    let mut ada = service.stream("finals", "ada").await;
    let set = |key, value| write([(key, int(value))]).in_session("finals");
    let now = ada.write(set("a", 1));
    let free = ada.write(set("a", 2));
    let both = ada.write(PropsWrite { set: props([("a", int(3)), ("b", int(3))]), ..set("a", 3) });
    let last = ada.write(set("a", 4));
    ada.until_acked(&service, now).await;
    service.set_role("finals", "", "ada", Role::Member).await;
    ada.until_acked(&service, last).await;
    assert_eq!(refusals(&ada), [(both, ErrorReason::NotAWriter)], "{free}");
    assert_eq!(ada.rebuilt.props("ada"), shown([("a", int(4)), ("b", int(0))]));
}

#[tokio::test]
async fn there_is_room_for_a_write_that_fits_after_what_waits_before_it() {
    let service = service_with(1).await;
    let mut ada = service.stream("finals", "ada").await;
    let all = (0..256).map(|n| (format!("key {n}"), int(0))).collect();
    ada.write(PropsWrite { set: all, ..n(0) });
    ada.write(removal(&["key 0"]).in_session("finals"));
    let last = ada.write(write([("new", int(1))]).in_session("finals"));
    ada.until_acked(&service, last).await;
    assert_eq!(refusals(&ada), []);
    let held = ada.rebuilt.props("ada");
    assert!(held.len() == 256 && held.contains_key("new"), "{held:?}");
}

#[tokio::test]
async fn a_write_in_very_many_sessions_counts_as_several_updates() {
    let service = Service::start_with(|config| {
        config.max_updates_per_second = 10;
        config.max_sessions_per_user = 200;
    })
    .await;
    let ids: Vec<String> = (0..150).map(|n| format!("room {n}")).collect();
    for id in &ids {
        service.open_room(id, "host").await;
        service.join(id, "ada").await;
    }
    service.advance(2_000);
    // How many writes go through at once. Each is in 150 sessions: three times 64 hold them.
    let through = async |write: &PropsWrite| {
        let mut done = 0;
        while service.try_write("ada", write.clone()).await.is_ok() {
            done += 1;
        }
        service.advance(10_000);
        done
    };
    let on_user = write([("n", int(1))]);
    let named = |most: usize| PropsWrite { session_ids: ids[..most].to_vec(), ..on_user.clone() };
    assert_eq!(through(&on_user).await, 4, "three each, and the last one is let through");
    assert_eq!(through(&named(150)).await, 4);
    assert_eq!(through(&named(64)).await, 10);
    let too_many = (0..1001).map(|n| format!("room {n}")).collect();
    let too_many = PropsWrite { session_ids: too_many, ..on_user };
    refused(service.try_write("ada", too_many).await).blames(&["write.session_ids"]);
}
