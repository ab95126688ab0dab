//! ALL delivery: every accepted write and event, in order, or a marker that says what is missing.

use crate::support::*;
use sessiond::{
    config::Config,
    proto::{
        self, Delivery, DeliveryOptions, EndReason, LoggedUpdate, Role, SessionSettings,
        SnapshotReason, SubscribeToSessionRequest,
    },
};

/// A member's subscription to every update.
fn all(session: &str, user: &str) -> SubscribeToSessionRequest {
    all_with(session, user, DeliveryOptions::default())
}

fn all_with(session: &str, user: &str, options: DeliveryOptions) -> SubscribeToSessionRequest {
    let options = DeliveryOptions { delivery: Delivery::All.into(), ..options };
    subscription_with(session, user, options)
}

/// Each update in few words.
fn told(updates: &[LoggedUpdate]) -> Vec<String> {
    updates.iter().map(told_one).collect()
}

fn told_one(update: &LoggedUpdate) -> String {
    let change = update.change.as_ref().expect("it changes something");
    let values = |set: &[proto::NamedValue], removed: &[String]| {
        let set = set.iter().map(show_named).map(|(key, value)| format!("{key}={value}"));
        let removed = removed.iter().map(|key| format!("-{key}"));
        set.chain(removed).collect::<Vec<_>>().join(" ")
    };
    let mut words = Vec::new();
    if let Some(session) = &change.session {
        words.push(format!("host {:?} owner {:?}", session.host_id, session.owner_id));
    }
    if !change.data.is_empty() || !change.data_removed.is_empty() {
        words.push(format!("data {}", values(&change.data, &change.data_removed)));
    }
    if !change.private_data.is_empty() {
        words.push(format!("private {}", values(&change.private_data, &[])));
    }
    for member in &change.members {
        let mut word = member.user_id.clone();
        if member.role() != Role::Unspecified {
            word += &format!(" {:?}", member.role());
        }
        if member.disconnected == Some(true) {
            word += " disconnected";
        }
        if !member.props.is_empty() || !member.removed.is_empty() {
            word += &format!(" {}", values(&member.props, &member.removed));
        }
        words.push(word);
    }
    words.extend(change.left.iter().map(|left| format!("{} {:?}", left.user_id, left.reason())));
    words.join(", ")
}

/// Loses the stream of a member who is tied to it, and waits until the server has noticed.
async fn lose(service: &Service, watcher: Watcher, session: &str, user: &str) -> Rebuilt {
    let mut onlooker = service.watch(session, "").await;
    let known = watcher.rebuilt.again();
    drop(watcher);
    service.tick_until(&mut onlooker, |it| it.member(user).disconnected).await;
    known
}

/// A room whose second member is tied to its stream and listens to everything.
async fn room_with_listener(change: impl FnOnce(&mut Config)) -> (Service, Watcher) {
    let service = Service::start_with(|config| {
        config.max_updates_per_second = 1_000_000;
        change(config);
    })
    .await;
    let settings =
        SessionSettings { rejoin_grace: Some(ms(600_000)), ..SessionSettings::default() };
    service.open_room_with("finals", "ada", settings).await;
    let bob = all("finals", "bob");
    let join = Some(proto::JoinOptions::default());
    // The first subscription closes the frame that is open, so the join is in the snapshot.
    let bob = service.watch_with(SubscribeToSessionRequest { join, ..bob }).await;
    assert_eq!(bob.rebuilt.order, ["ada", "bob"]);
    (service, bob)
}

#[tokio::test]
async fn every_write_is_sent_in_order_equal_values_included() {
    let service = Service::with_room_of_two().await;
    let mut latest = service.watch("finals", "ada").await;
    let mut ada = service.watch_with(all("finals", "ada")).await;
    for (user, value) in [("bob", 1), ("ada", 1), ("bob", 1), ("bob", 2), ("bob", 1)] {
        service.set_in("finals", user, [("x", int(value))]).await;
    }
    service.tick();
    let updates = ada.next_log().await;
    assert_eq!(told(&updates), ["bob x=1i", "ada x=1i", "bob x=1i", "bob x=2i", "bob x=1i"]);
    assert!(updates.iter().all(|update| update.revision == 3));
    latest.next_changes().await;
    assert_eq!(ada.rebuilt.state, latest.rebuilt.state);

    // What changes nothing is an update too, and silence for whoever takes the latest state.
    service.set_in("finals", "bob", [("x", int(1))]).await;
    service.tick();
    assert_eq!(told(&ada.next_log().await), ["bob x=1i"]);
    service.set_in("finals", "bob", [("y", int(1)), ("x", int(0))]).await;
    service.tick();
    assert_eq!(latest.next_span().await, (3, 5));
    assert_eq!(told(&ada.next_log().await), ["bob x=0i y=1i"], "a write is one update");
    assert_eq!(ada.rebuilt.state, latest.rebuilt.state);
}

#[tokio::test]
async fn events_are_sent_like_writes() {
    let service = Service::with_room_of_two().await;
    let mut ada = service.watch_with(all("finals", "ada")).await;
    service.join_with("finals", "kim", [("x", int(1))]).await;
    service.set_data("finals", "kim", [("round", int(1))]).await;
    service.set_private_data("finals", "ada", [("plan", int(1))]).await;
    service.set_role("finals", "ada", "kim", Role::Moderator).await;
    service.try_kick("finals", "kim", "bob", "").await.expect("she may");
    service.set_role("finals", "ada", "kim", Role::Owner).await;
    service.leave("finals", "kim").await;
    service.tick();
    let expected = [
        "kim Member x=1i",
        "data round=1i",
        "private plan=1i",
        "kim Moderator",
        "bob Kicked",
        "ada Admin",
        "kim Owner",
        "host \"\" owner \"kim\"",
        "kim Left",
        "ada Owner",
        "host \"\" owner \"ada\"",
    ];
    assert_eq!(told(&ada.next_log().await), expected);
    assert_eq!(ada.rebuilt.state, service.watch("finals", "ada").await.rebuilt.state);
}

#[tokio::test]
async fn who_was_away_gets_every_update_from_the_log() {
    let (service, bob) = room_with_listener(|_| {}).await;
    let known = lose(&service, bob, "finals", "bob").await;
    for value in [1, 1, 2] {
        service.set_in("finals", "ada", [("x", int(value))]).await;
        service.tick();
    }
    let mut bob = service.resume(all("finals", "bob"), &known).await;
    let Step::Log { from, to, parts, updates } = bob.next().await else { panic!("the log") };
    assert_eq!((from, to, parts), (known.revision, known.revision + 4, 1));
    assert_eq!(told(&updates), ["bob Member disconnected", "ada x=1i", "ada x=1i", "ada x=2i"]);
    // It goes on from there.
    service.tick();
    assert_eq!(told(&bob.next_log().await), ["bob Member"]);
    // Who resumes where nothing happened gets a heartbeat.
    let known = bob.rebuilt.again();
    let mut again = service.resume(all("finals", "bob"), &known).await;
    assert_eq!(again.next_heartbeat().await, known.revision);
}

/// Writes of 1 KiB each, as the log counts them: key, name and value with 96 bytes beside.
fn one_kib() -> [(&'static str, proto::Value); 1] {
    // A value counts as it goes over the wire, here with three bytes of its own.
    [("x", data(1024 - 96 - 3 - "x".len() - "ada".len()))]
}

#[tokio::test]
async fn who_falls_out_of_the_log_is_told_what_is_lost() {
    assert_eq!(Config::default().max_log_updates, 4096);
    assert_eq!(Config::default().max_log_bytes, 1024 * 1024);
    let updates: fn(&mut Config) = |config| config.max_log_updates = 20;
    let bytes: fn(&mut Config) = |config| config.max_log_bytes = 20 * 1024;
    for bound in [updates, bytes] {
        let (service, bob) = room_with_listener(bound).await;
        let known = lose(&service, bob, "finals", "bob").await;
        // From here on nothing but the writes is in the log.
        let mut bob = service.resume(all("finals", "bob"), &known).await;
        bob.next_log().await;
        service.tick();
        bob.next_log().await;
        let known = bob.rebuilt.again();
        for _ in 0..20 {
            service.set_in("finals", "ada", one_kib()).await;
            service.tick();
            bob.next_log().await;
        }
        let mut within = service.resume(all("finals", "bob"), &known).await;
        assert_eq!(within.next_log().await.len(), 20);
        service.set_in("finals", "ada", one_kib()).await;
        service.tick();
        let mut beyond = service.resume(all("finals", "bob"), &known).await;
        assert_eq!(beyond.next_snapshot().await, SnapshotReason::LogOverflow);
        assert_eq!(beyond.rebuilt.lost, (known.revision + 1, known.revision + 21));
        // Who keeps up loses nothing, however small the log is.
        bob.next_log().await;
        assert_eq!(bob.rebuilt.state, beyond.rebuilt.state);
        service.set_in("finals", "ada", [("x", int(1))]).await;
        service.tick();
        assert_eq!(told(&beyond.next_log().await), ["ada x=1i"]);
    }
}

#[tokio::test]
async fn all_logs_have_a_bound_together() {
    let (service, bob) = room_with_listener(|config| config.max_logs_bytes = 8 * 1024).await;
    service.open_room("other", "ada").await;
    let mut other = service.watch_with(all("other", "ada")).await;
    let (first, second) = (bob.rebuilt.again(), other.rebuilt.again());
    for session in ["finals", "other", "other", "other", "other", "other", "other", "other"] {
        service.set_in(session, "ada", one_kib()).await;
        service.tick();
    }
    let mut within = service.resume(all("other", "ada"), &second).await;
    assert_eq!(within.next_log().await.len(), 7);
    service.set_in("other", "ada", one_kib()).await;
    service.tick();
    let mut beyond = service.resume(all("other", "ada"), &second).await;
    assert_eq!(beyond.next_snapshot().await, SnapshotReason::LogOverflow);
    assert_eq!(beyond.rebuilt.lost, (second.revision + 1, second.revision + 8));
    // Who needed the room gives it, nobody else.
    let mut within = service.resume(all("finals", "bob"), &first).await;
    assert_eq!(within.next_log().await.len(), 1);
    let mut updates = 0;
    while updates < 8 {
        updates += other.next_log().await.len();
    }
    assert_eq!(other.rebuilt.state, beyond.rebuilt.state, "who keeps up loses nothing");
}

#[tokio::test]
async fn a_newcomer_is_told_nothing_of_before_it_joined_wherever_it_resumes() {
    let (service, _bob) = room_with_listener(|_| {}).await;
    let zoe = service.watch_with(all("finals", "ada")).await.rebuilt.again();
    service.set_in("finals", "ada", [("secret", int(1))]).await;
    service.tick();
    service.try_write("ada", removal(&["secret"]).in_session("finals")).await.expect("it goes");
    service.tick();
    service.join("finals", "zoe").await;
    service.tick();
    let mut resumed = service.resume(all("finals", "zoe"), &zoe).await;
    assert_eq!(resumed.next_snapshot().await, SnapshotReason::ViewChanged);
}

#[tokio::test]
async fn a_resume_that_no_log_can_help_says_why() {
    let (service, bob) = room_with_listener(|_| {}).await;
    let known = bob.rebuilt.again();
    let mut future = known.again();
    future.revision += 1;
    let mut resumed = service.resume(all("finals", "bob"), &future).await;
    assert_eq!(resumed.next_snapshot().await, SnapshotReason::Future);
    assert_eq!(resumed.rebuilt.lost, (0, 0));
    let filter = DeliveryOptions { props: vec!["y".to_owned()], ..Default::default() };
    let mut resumed = service.resume(all_with("finals", "bob", filter), &known).await;
    assert_eq!(resumed.next_snapshot().await, SnapshotReason::ViewChanged);
    let mut epoch = known.again();
    epoch.epoch -= 1;
    let mut resumed = service.resume(all("finals", "bob"), &epoch).await;
    assert_eq!(resumed.next_snapshot().await, SnapshotReason::EpochChanged);
    assert_eq!(resumed.rebuilt.lost, (0, 0));
}

#[tokio::test]
async fn a_view_that_changes_is_sent_anew_and_goes_on_from_there() {
    let service = Service::with_room_of_two().await;
    let mut ada = service.watch_with(all("finals", "ada")).await;
    let before = ada.rebuilt.again();
    service.set_in("finals", "bob", [("x", int(1)), ("y", int(1))]).await;
    service.tick();
    ada.next_log().await;
    service.update("finals", "ada", &["propnames"], propnames(&["y"])).await;
    service.set_in("finals", "bob", [("y", int(2))]).await;
    service.tick();
    assert_eq!(ada.next_snapshot().await, SnapshotReason::ViewChanged);
    assert_eq!(ada.rebuilt.lost, (4, 4), "what this frame did is told by the snapshot only");
    assert_eq!(ada.rebuilt.props("bob"), shown([("y", int(2))]));
    service.set_in("finals", "bob", [("x", int(3)), ("y", int(3))]).await;
    service.tick();
    assert_eq!(told(&ada.next_log().await), ["bob y=3i"]);
    // Whoever names the new view cannot have had it before.
    let mut claimed = before;
    claimed.view = ada.rebuilt.view;
    let mut resumed = service.resume(all("finals", "ada"), &claimed).await;
    assert_eq!(resumed.next_snapshot().await, SnapshotReason::ViewChanged);
}

#[tokio::test]
async fn only_these_keys_and_nothing_of_oneself_where_that_is_asked_for() {
    let service = Service::with_room_of_two().await;
    let filter = DeliveryOptions { props: vec!["x".to_owned()], ..Default::default() };
    let mut filtered = service.watch_with(all_with("finals", "bob", filter)).await;
    let without = DeliveryOptions { exclude_self: true, ..Default::default() };
    let mut others = service.watch_with(all_with("finals", "bob", without)).await;
    let mut both = service.watch_with(all("finals", "bob")).await;
    service.set_in("finals", "bob", [("x", int(1))]).await;
    service.set_in("finals", "ada", [("x", int(2)), ("y", int(2))]).await;
    service.set_in("finals", "bob", [("y", int(3))]).await;
    service.set_role("finals", "", "bob", Role::Moderator).await;
    service.tick();
    assert_eq!(told(&filtered.next_log().await)[..2], ["bob x=1i", "ada x=2i"]);
    let role = "bob Moderator";
    assert_eq!(told(&others.next_log().await)[..2], ["ada x=2i y=2i", role]);
    assert_eq!(told(&both.next_log().await)[..4], ["bob x=1i", "ada x=2i y=2i", "bob y=3i", role]);
    // Nothing but oneself is a heartbeat.
    service.set_in("finals", "bob", [("x", int(4))]).await;
    service.tick();
    assert_eq!(others.next_heartbeat().await, both.rebuilt.revision + 1);
    assert_eq!(others.rebuilt.props("bob"), shown([]));
}

#[tokio::test]
async fn a_large_log_comes_in_parts() {
    let (service, bob) = room_with_listener(|config| config.max_log_bytes = 8 << 20).await;
    let known = lose(&service, bob, "finals", "bob").await;
    for frame in 0..2 {
        for _ in 0..60 {
            service.set_in("finals", "ada", [("x", data(16_000 + frame))]).await;
        }
        service.tick();
    }
    let mut bob = service.resume(all("finals", "bob"), &known).await;
    let Step::Log { parts, updates, .. } = bob.next().await else { panic!("the log") };
    assert_eq!((parts, updates.len()), (2, 121));
    assert_eq!(bob.rebuilt.props("ada"), shown([("x", data(16_001))]));
}

#[tokio::test]
async fn a_stream_of_props_gets_every_update_and_its_acks() {
    let service = Service::with_room_of_two().await;
    let mut open = stream_open("finals", "bob");
    open.subscriptions[0].options =
        Some(DeliveryOptions { delivery: Delivery::All.into(), ..Default::default() });
    let mut bob = service.open_stream(open).await;
    assert_eq!(bob.next_snapshot().await, SnapshotReason::First);
    let mut told_all = Vec::new();
    let first = bob.write(write([("x", int(1))]).in_session("finals"));
    let down = bob.until_acked(&service, first).await;
    let Some(Step::Log { updates, .. }) = down.step else { panic!("with its frame: {down:?}") };
    told_all.extend(told(&updates));
    let second = bob.write(write([("x", int(1))]).in_session("finals"));
    let down = bob.until_acked(&service, second).await;
    let Some(Step::Log { updates, .. }) = down.step else { panic!("with its frame: {down:?}") };
    told_all.extend(told(&updates));
    assert_eq!(told_all, ["bob x=1i", "bob x=1i"]);
}

#[tokio::test]
async fn what_is_sent_again_comes_after_what_was_not_sent_yet() {
    let service = Service::with_room_of_two().await;
    let mut ada = service.watch_with(all("finals", "ada")).await;
    service.set_in("finals", "bob", [("x", int(1))]).await;
    service.try_transmit("finals", "ada", "", true).await.expect("she may");
    service.tick();
    // The snapshot may go out at once, or with the frame.
    let mut steps = vec![ada.next().await, ada.next().await];
    steps.sort_by_key(|step| matches!(step, Step::Snapshot(_)));
    let Step::Log { updates, .. } = &steps[0] else { panic!("{steps:?}") };
    assert_eq!(told(updates), ["bob x=1i"]);
    assert_eq!(steps[1], Step::Snapshot(SnapshotReason::Resent));
    assert_eq!(ada.rebuilt.lost, (0, 0));
    assert_eq!(ada.rebuilt.props("bob"), shown([("x", int(1))]));
}

#[tokio::test]
async fn the_last_writes_come_before_the_end() {
    let service = Service::with_room_of_two().await;
    let mut ada = service.watch_with(all("finals", "ada")).await;
    service.set_in("finals", "bob", [("x", int(1))]).await;
    service.try_delete("finals", "ada").await.expect("it is deleted");
    assert_eq!(told(&ada.next_log().await), ["bob x=1i"]);
    ada.end().await.is_ok(EndReason::Deleted);
}

#[tokio::test]
async fn a_reset_is_told_by_a_snapshot_and_what_it_drops_is_not_sent() {
    let service = Service::with_room_of_two().await;
    let mut ada = service.watch_with(all("finals", "ada")).await;
    let before = ada.rebuilt.again();
    service.set_in("finals", "bob", [("x", int(1))]).await;
    service.tick();
    ada.next_log().await;
    service.set_in("finals", "bob", [("x", int(2))]).await;
    let reset = service.try_reset("finals", "ada", None).await.expect("she may");
    let after = service.set_in("finals", "bob", [("x", int(3))]).await;
    assert_eq!((reset.revision, after), (5, 6), "what was open has a frame of its own");
    assert_eq!(ada.next_snapshot().await, SnapshotReason::ResetSchema);
    assert_eq!(ada.rebuilt.lost, (4, 5));
    assert_eq!(ada.rebuilt.props("bob"), shown([]));
    let since = ada.rebuilt.again();
    service.tick();
    assert_eq!(told(&ada.next_log().await), ["bob x=3i"]);
    let mut within = service.resume(all("finals", "ada"), &since).await;
    assert_eq!(told(&within.next_log().await), ["bob x=3i"]);
    let mut beyond = service.resume(all("finals", "ada"), &before).await;
    assert_eq!(beyond.next_snapshot().await, SnapshotReason::ResetSchema);
    assert_eq!(beyond.rebuilt.lost, (before.revision + 1, 6), "nothing is lost in silence");
}

/// A subscription to every update, once a second.
fn slowly(session: &str, user: &str) -> SubscribeToSessionRequest {
    let options = DeliveryOptions { max_rate_hz: 1, ..Default::default() };
    all_with(session, user, options)
}

#[tokio::test]
async fn what_is_asked_for_again_comes_now_despite_the_rate() {
    let service = Service::with_room_of_two().await;
    let mut bob = service.watch_with(slowly("finals", "bob")).await;
    service.set_in("finals", "ada", [("x", int(1))]).await;
    service.tick();
    assert_eq!(bob.glance().await, None);
    service.try_transmit("finals", "bob", "bob", true).await.expect("it is himself");
    assert_eq!(told(&bob.next_log().await), ["ada x=1i"]);
    assert_eq!(bob.next_snapshot().await, SnapshotReason::Resent);
    assert_eq!(bob.rebuilt.lost, (0, 0));
    service.set_in("finals", "ada", [("x", int(2))]).await;
    service.tick();
    assert_eq!(bob.glance().await, None, "his rate holds again");
    service.advance(1_000);
    assert_eq!(told(&bob.next_log().await), ["ada x=2i"]);
}

#[tokio::test]
async fn a_view_that_changes_while_something_is_to_be_sent_again_is_sent_as_changed() {
    let service = Service::start().await;
    service.open_hosted("lecture", "host", SessionSettings::default()).await;
    for user in ["ada", "bob"] {
        service.join("lecture", user).await;
    }
    service.tick();
    let latest = DeliveryOptions { max_rate_hz: 1, ..Default::default() };
    let latest = subscription_with("lecture", "ada", latest);
    for request in [slowly("lecture", "ada"), latest] {
        service.try_swap_host("lecture", "", "host", 0).await.expect("the app may");
        service.tick();
        let mut ada = service.watch_with(request).await;
        service.set_in("lecture", "bob", [("x", text("hidden from members"))]).await;
        service.tick();
        // To everybody, each at its rate: it waits.
        service.try_transmit("lecture", "host", "", true).await.expect("the host may");
        assert_eq!(ada.glance().await, None);
        service.set_in("lecture", "bob", [("x", text("for the next host"))]).await;
        service.try_swap_host("lecture", "host", "ada", 0).await.expect("the host may");
        service.tick();
        service.advance(1_000);
        assert_eq!(ada.next_snapshot().await, SnapshotReason::ViewChanged);
        assert_eq!(ada.rebuilt.props("bob"), shown([("x", text("for the next host"))]));
    }
}

#[tokio::test]
async fn a_listener_gets_every_write_of_the_source_and_its_presence() {
    let service = Service::start().await;
    let options = DeliveryOptions { delivery: Delivery::All.into(), ..Default::default() };
    let request =
        proto::SubscribeToUserRequest { options: Some(options), ..listening("ada", "bob") };
    let mut bob = service.open_listener(request, Rebuilt::default()).await;
    assert_eq!(bob.next_snapshot().await, SnapshotReason::First);
    assert!(bob.rebuilt.member("ada").disconnected, "she is not there yet");
    for value in [1, 1, 2] {
        service.set("ada", [("x", int(value))]).await;
    }
    // The first message of this stream tells the id of the session.
    service.join(&bob.user_id.clone(), "ada").await;
    service.tick();
    let told = told(&bob.next_log().await);
    assert_eq!(told[..3], ["ada x=1i", "ada x=1i", "ada x=2i"]);
    assert!(told[3..].iter().all(|word| word.starts_with("ada Owner")), "{told:?}");
    assert!(!bob.rebuilt.member("ada").disconnected);
}
