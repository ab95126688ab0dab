//! Every limit: what is just within it passes, and what is just beyond is refused and named.

use crate::support::*;
use sessiond::proto::{
    DeliveryOptions, JoinOptions, PropsWrite, Role, SessionSettings, StreamOpen,
    SubscribeToSessionRequest,
};
use tonic::Code;

fn limit(told: Refused, name: &str, most: usize) {
    let told = told.is(Code::ResourceExhausted, "LIMIT_REACHED");
    told.says("limit", name).says("most", &most.to_string());
}

#[tokio::test]
async fn a_key_has_at_most_128_bytes() {
    let service = Service::with_room().await;
    let (fits, too_long) = ("é".repeat(64), "é".repeat(64) + "x");
    let field = format!("write.set[{:?}]", "é".repeat(64));
    for key in [&fits, &too_long] {
        let is_fine = key == &fits;
        let answers = [
            service.try_write("ada", write([(&**key, int(1))])).await,
            service.try_write("ada", write([("map", map([(&**key, int(1))]))])).await,
        ];
        let [plain, inner] = answers.map(|answer| answer.map_err(|status| Refused::new(&status)));
        assert_eq!((plain.is_ok(), inner.is_ok()), (is_fine, is_fine));
        if let (Err(plain), Err(inner)) = (plain, inner) {
            plain.blames(&[&field]);
            inner.blames(&[&format!("write.set[\"map\"][{:?}]", "é".repeat(64))]);
        }
    }
    service.tick();
    let ada = service.watch("finals", "ada").await;
    assert_eq!(ada.rebuilt.props("ada").len(), 2);
}

#[tokio::test]
async fn a_value_has_at_most_16_kib() {
    let service = Service::with_room().await;
    // Three bytes of the encoded value say what it is and how long.
    service.set("ada", [("x", data(16 * 1024 - 3))]).await;
    let told = refused(service.try_write("ada", write([("x", data(16 * 1024 - 2))])).await);
    told.blames(&["write.set[\"x\"]"]);
    service.tick();
    let ada = service.watch("finals", "ada").await;
    assert_eq!(ada.rebuilt.props("ada"), shown([("x", data(16 * 1024 - 3))]));
}

#[tokio::test]
async fn a_value_is_nested_at_most_8_deep() {
    let service = Service::with_room().await;
    let maps = |levels| (1..levels).fold(int(1), |inner, _| map([("m", inner)]));
    service.set("ada", [("lists", nested(8)), ("maps", maps(8))]).await;
    let too_deep = write([("lists", nested(9)), ("maps", maps(9))]);
    let told = refused(service.try_write("ada", too_deep).await);
    told.blames(&[
        &format!("write.set[\"lists\"]{}", "[0]".repeat(8)),
        &format!("write.set[\"maps\"]{}", "[\"m\"]".repeat(8)),
    ]);
    // What prost itself refuses to decode is refused as well.
    let told = refused(service.try_write("ada", write([("x", nested(200))])).await);
    told.is(Code::InvalidArgument, "MALFORMED_MESSAGE");
    service.tick();
    let ada = service.watch("finals", "ada").await;
    assert_eq!(ada.rebuilt.props("ada"), shown([("lists", nested(8)), ("maps", maps(8))]));
}

#[tokio::test]
async fn a_user_has_at_most_so_many_props() {
    const MOST: usize = 4;
    let service = Service::start_with(|config| config.max_props_per_user = MOST).await;
    service.open_room("finals", "ada").await;
    let full = |from: i64| {
        let mut write = PropsWrite::default();
        for key in from..from + MOST as i64 {
            write.set.insert(format!("key {key}"), int(key));
        }
        write
    };
    let change = PropsWrite {
        remove: vec!["key 0".to_owned()],
        ..write([("new", int(1)), ("key 1", int(9))])
    };
    let held: Vec<_> = (0..MOST).map(|key| format!("key {key}")).chain(["new".into()]).collect();
    for place in [&["finals".to_owned()][..], &[]] {
        let on = |write: PropsWrite| PropsWrite { session_ids: place.to_vec(), ..write };
        service.try_write("ada", on(full(0))).await.expect("they fit");
        let told = refused(service.try_write("ada", on(write([("one more", int(1))]))).await);
        limit(told, "max-props-per-user", MOST);
        service.try_write("ada", on(change.clone())).await.expect("one goes, one comes");
        let all = PropsWrite { remove: held.clone(), ..Default::default() };
        service.try_write("ada", on(all)).await.expect("there is room again");
    }
    let props = |count: i64| {
        let set = (0..count).map(|key| (format!("key {key}"), int(key)));
        set.collect::<std::collections::BTreeMap<_, _>>()
    };
    let joining = |count| JoinOptions { props: props(count), ..Default::default() };
    let told = refused(service.try_join("finals", "bob", joining(MOST as i64 + 1)).await);
    limit(told, "max-props-per-user", MOST);
    service.try_join("finals", "bob", joining(MOST as i64)).await.expect("they fit");
    for is_private in [false, true] {
        let with = |count| {
            let mut request = data_of("finals", "ada");
            *(if is_private { &mut request.private_set } else { &mut request.set }) = props(count);
            request
        };
        let told = refused(service.try_set_data(with(MOST as i64 + 1)).await);
        limit(told, "max-props-per-user", MOST);
        service.try_set_data(with(MOST as i64)).await.expect("they fit");
    }
    let mut request = opening("other", "ada", SessionSettings::default());
    request.data = props(MOST as i64 + 1);
    limit(refused(service.try_open(request).await), "max-props-per-user", MOST);
    refused(service.try_info("other", "").await).is(Code::NotFound, "SESSION_NOT_FOUND");
    service.tick();
    let ada = service.watch("finals", "ada").await;
    assert_eq!(ada.rebuilt.order, ["ada", "bob"]);
    assert_eq!(ada.rebuilt.state.data.len(), MOST);
}

#[tokio::test]
async fn a_session_has_places_up_to_its_capacity() {
    let service = Service::start_with(|config| config.max_members = 5).await;
    service.open_room("finals", "ada").await;
    for (capacity, fits) in [(0, false), (6, false), (5, true), (1, true)] {
        let settings = SessionSettings { capacity: Some(capacity), ..Default::default() };
        let answer = service.try_update("finals", "ada", &["capacity"], settings).await;
        match fits {
            true => drop(answer.expect("it is within the limit")),
            false => drop(refused(answer).blames(&["settings.capacity"])),
        }
    }
    let told = refused(service.try_join("finals", "kim", JoinOptions::default()).await);
    let told = told.is(Code::ResourceExhausted, "SESSION_FULL");
    told.says("limit", "capacity").says("most", "1");
}

#[tokio::test]
async fn there_are_at_most_so_many_sessions() {
    let service = Service::start_with(|config| config.max_sessions = 2).await;
    service.open_room("one", "ada").await;
    service.open_room("two", "ada").await;
    let settings = SessionSettings { name: "the third".to_owned(), ..Default::default() };
    let third = opening("three", "ada", settings);
    limit(refused(service.try_open(third.clone()).await), "max-sessions", 2);
    service.try_delete("one", "ada").await.expect("it is deleted");
    service.try_open(third).await.expect("there is room, and the name is free");
    refused(service.try_open(opening("three", "ada", Default::default())).await);
    service.try_delete("two", "ada").await.expect("it is deleted");
    service.open_room("four", "ada").await;
}

#[tokio::test]
async fn a_user_is_in_at_most_so_many_sessions() {
    let service = Service::start_with(|config| config.max_sessions_per_user = 2).await;
    for session in ["one", "two", "three"] {
        service.open_room(session, "app's").await;
        service.leave(session, "app's").await;
        service.open_room(session, "").await;
    }
    service.join("one", "ada").await;
    service.join("two", "ada").await;
    service.join("two", "ada").await;
    let join = async || service.try_join("three", "ada", JoinOptions::default()).await;
    limit(refused(join().await), "max-sessions-per-user", 2);
    let request = SubscribeToSessionRequest {
        join: Some(JoinOptions::default()),
        ..subscription("three", "ada")
    };
    limit(service.refused_watch(request).await, "max-sessions-per-user", 2);
    let open = opening("four", "ada", Default::default());
    limit(refused(service.try_open(open).await), "max-sessions-per-user", 2);
    service.leave("one", "ada").await;
    join().await.expect("there is room again");
    service.try_delete("two", "").await.expect("it is deleted");
    service.open_room("four", "ada").await;
}

#[tokio::test]
async fn there_are_at_most_so_many_users() {
    let service = Service::start_with(|config| config.max_users = 2).await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    let answer = service.try_join("finals", "kim", JoinOptions::default()).await;
    limit(refused(answer), "max-users", 2);
    limit(refused(service.try_write("kim", write([("x", int(1))])).await), "max-users", 2);
    let open = StreamOpen { user_id: "kim".to_owned(), ..Default::default() };
    limit(service.open_stream(open).await.refused().await, "max-users", 2);
    service.leave("finals", "bob").await;
    service.advance(60_010);
    service.join("finals", "kim").await;
}

/// A server where a user makes 2 changes of sessions and members at once, and then 2 a second.
async fn two_changes_at_once() -> Service {
    Service::start_with(|config| {
        (config.max_changes_per_second, config.max_sessions_per_user) = (2, 2);
    })
    .await
}

#[tokio::test]
async fn a_user_changes_sessions_and_members_at_most_so_often_a_second() {
    let service = two_changes_at_once().await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    service.advance(1_000);
    let over = |told: Refused, millis| {
        let told = told.is(Code::ResourceExhausted, "RATE_LIMITED");
        let told = told.says("limit", "max-changes-per-second").says("most", "2");
        assert_eq!(told.retry_after, Some(std::time::Duration::from_millis(millis)));
    };
    // What ends something is never refused; joining again is no change.
    service.join("finals", "bob").await;
    for _ in 0..2 {
        service.leave("finals", "bob").await;
        service.join("finals", "bob").await;
    }
    service.join("finals", "bob").await;
    service.leave("finals", "bob").await;
    over(refused(service.try_join("finals", "bob", JoinOptions::default()).await), 500);
    let mut other = opening("other", "bob", SessionSettings::default());
    over(refused(service.try_open(other.clone()).await), 500);
    over(service.open_stream(stream_joining("finals", "bob")).await.refused().await, 500);
    service.advance(499);
    over(refused(service.try_join("finals", "bob", JoinOptions::default()).await), 1);
    service.advance(1);
    service.join("finals", "bob").await;
    over(refused(service.try_open(other.clone()).await), 500);
    // Others have their own, and so has the app.
    for _ in 0..2 {
        service.try_ban("finals", "ada", "eve").await.expect("it fits");
    }
    over(refused(service.try_ban("finals", "ada", "eve").await), 500);
    other.user_id.clear();
    for number in 0..5 {
        other.session_id = number.to_string();
        service.try_open(other.clone()).await.expect("the app may");
    }
    service.try_open_as(private("", "eve", "bob")).await.expect("the app has bob join");
}

#[tokio::test]
async fn a_stream_joins_all_its_sessions_or_waits_until_it_may() {
    let service = two_changes_at_once().await;
    for session in ["a", "b"] {
        service.open_room(session, "ada").await;
    }
    service.join("a", "bob").await;
    service.leave("a", "bob").await;
    let open = several_joining("bob", &["a", "b"]);
    let told = service.open_stream(open.clone()).await.refused().await;
    let told = told.is(Code::ResourceExhausted, "RATE_LIMITED");
    assert_eq!(told.retry_after, Some(std::time::Duration::from_millis(500)));
    service.tick();
    assert_eq!(service.names("a").await, ["ada"], "it has joined none of them");
    service.advance(490);
    service.open_several(open).await.next().await;
}

#[tokio::test]
async fn everybody_whom_an_opening_names_counts_as_a_change() {
    let service = two_changes_at_once().await;
    let mut crowded = opening("finals", "ada", SessionSettings::default());
    for number in 0..5 {
        crowded.roles.insert(format!("admin {number}"), Role::Admin.into());
    }
    service.try_open(crowded).await.expect("it fits");
    let answer = service.try_ban("finals", "ada", "eve").await;
    let told = refused(answer).is(Code::ResourceExhausted, "RATE_LIMITED");
    assert_eq!(told.retry_after, Some(std::time::Duration::from_millis(2_500)));
    service.advance(2_500);
    service.try_ban("finals", "ada", "eve").await.expect("one more fits");
}

#[tokio::test]
async fn a_user_writes_at_most_so_often_a_second() {
    let service = Service::start_with(|config| config.max_updates_per_second = 10).await;
    service.open_room("finals", "ada").await;
    service.join("finals", "bob").await;
    for value in 0..5 {
        service.set("ada", [("x", int(value))]).await;
        service.set_data("finals", "ada", [("x", int(value))]).await;
    }
    let mut data = data_of("finals", "ada");
    data.set = props([("x", int(9))]);
    for told in [
        refused(service.try_write("ada", write([("x", int(9))])).await),
        refused(service.try_write("ada", write([("x", int(9))]).in_session("finals")).await),
        refused(service.try_set_data(data.clone()).await),
    ] {
        let told = told.is(Code::ResourceExhausted, "RATE_LIMITED");
        let told = told.says("limit", "max-updates-per-second").says("most", "10");
        assert_eq!(told.retry_after, Some(std::time::Duration::from_millis(100)));
    }
    service.set("bob", [("x", int(1))]).await;
    service.advance(99);
    refused(service.try_set_data(data.clone()).await).is(Code::ResourceExhausted, "RATE_LIMITED");
    service.advance(1);
    service.try_set_data(data).await.expect("one more fits");
    let answer = service.try_write("ada", write([("x", int(9))])).await;
    refused(answer).is(Code::ResourceExhausted, "RATE_LIMITED");
    service.advance(2_000);
    for value in 0..10 {
        service.set("ada", [("x", int(value))]).await;
    }
    refused(service.try_write("ada", write([("x", int(9))])).await);
}

#[tokio::test]
async fn lists_of_names_have_at_most_256_entries() {
    let service = Service::start().await;
    service.open_hosted("lecture", "ada", SessionSettings::default()).await;
    let names = |count: usize| (0..count).map(|n| format!("name {n}")).collect::<Vec<_>>();
    let metadata = |count: i64| (0..count).map(|n| (format!("key {n}"), int(n))).collect::<_>();
    let with = |count: usize| SessionSettings {
        propnames: names(count),
        hostprops: names(count),
        successors: names(count),
        metadata: metadata(count as i64),
        ..Default::default()
    };
    let mask = ["propnames", "hostprops", "successors", "metadata"];
    service.update("lecture", "ada", &mask, with(256)).await;
    let told = refused(service.try_update("lecture", "ada", &mask, with(257)).await);
    told.blames(&[
        "settings.propnames",
        "settings.hostprops",
        "settings.successors",
        "settings.metadata",
    ]);
    let filter = |count| SubscribeToSessionRequest {
        options: Some(DeliveryOptions { props: names(count), ..Default::default() }),
        ..subscription("lecture", "ada")
    };
    service.refused_watch(filter(257)).await.blames(&["options.props"]);
    service.watch_with(filter(256)).await;
}

#[tokio::test]
async fn ids_and_names_have_at_most_128_bytes() {
    let service = Service::start().await;
    let long = "é".repeat(64);
    let settings = SessionSettings { name: long.clone(), ..Default::default() };
    service.open_room_with(&long, &long, settings).await;
    let watcher = service.watch(&long, &long).await;
    assert_eq!(watcher.user_id, long);
    service.try_info_by_name(&long, &long).await.expect("it is there");
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed() {
    let service = Service::start_with(|config| config.max_connections = 1).await;
    service.open_room("finals", "ada").await;
    // One that is not in use would make room.
    let _busy = service.watch("finals", "ada").await;
    if let Ok(second) = endpoint(service.address()).connect().await {
        let mut client = sessiond::proto::session_service_client::SessionServiceClient::new(second);
        let answer = in_time(client.list_sessions(sessiond::proto::ListSessionsRequest::default()));
        assert!(answer.await.is_err(), "nobody serves it");
    }
    service.is_fine().await;
}

#[tokio::test]
async fn the_next_stream_on_a_full_connection_waits() {
    let service = Service::start_with(|config| config.max_streams_per_connection = 2).await;
    service.open_room("finals", "ada").await;
    let one = service.watch("finals", "ada").await;
    let two = service.watch("finals", "ada").await;
    let mut waiting = Box::pin(service.info("finals", "ada"));
    // Meanwhile another connection is served as often as it likes.
    let other =
        sessiond::proto::session_service_client::SessionServiceClient::new(service.connect().await);
    for _ in 0..20 {
        let mut other = other.clone();
        let request = sessiond::proto::ListSessionsRequest::default();
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("there is no stream for it"),
            answer = other.list_sessions(sent(request)) => drop(answer.expect("it is listed")),
        }
    }
    drop(one);
    in_time(waiting).await;
    drop(two);
}
