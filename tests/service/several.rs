//! StreamUserProps with several subscriptions: one user, more than one session.

use crate::support::*;
use sessiond::proto::{
    DeliveryOptions, EndReason, ErrorReason, JoinOptions, Pacing, Presence, SessionSettings,
    SnapshotReason, StreamOpen,
};
use tonic::Code;

/// Rooms that frame a change after a quiet interval at once, with the user in them.
async fn eager_rooms(service: &Service, user: &str, sessions: &[&str]) {
    for session in sessions {
        let settings = SessionSettings { pacing: Pacing::Eager.into(), ..Default::default() };
        service.open_room_with(session, "host", settings).await;
        service.join(session, user).await;
    }
    service.advance(100);
}

/// A service whose users may write as often as a test likes.
async fn unlimited() -> Service {
    Service::start_with(|config| config.max_updates_per_second = 1_000_000).await
}

async fn rooms(service: &Service, user: &str, sessions: &[&str]) {
    for session in sessions {
        service.open_room(session, "host").await;
        service.join(session, user).await;
    }
    service.tick();
}

#[tokio::test]
async fn a_tick_that_gets_shorter_holds_for_the_next_message() {
    let service = Service::start().await;
    let tick = |span| SessionSettings { tick_interval: Some(ms(span)), ..Default::default() };
    for session in ["a", "b"] {
        service.open_room_with(session, "host", tick(60_000)).await;
        service.join(session, "ada").await;
    }
    service.advance(60_000);
    let mut ada = service.several("ada", &["a", "b"]).await;
    service.set_in("a", "host", [("x", int(1))]).await;
    service.update("a", "host", &["tick_interval"], tick(10)).await;
    ada.tick_until(&service, |ada| ada.copy("a").props("host") == shown([("x", int(1))])).await;
}

#[tokio::test]
async fn what_several_sessions_say_within_a_tick_goes_in_one_message() {
    const ROUNDS: usize = 20;
    let sessions = ["a", "b", "c", "d", "e", "f"];
    let service = unlimited().await;
    rooms(&service, "ada", &sessions).await;
    let mut ada = service.several("ada", &sessions).await;
    assert_eq!((ada.messages, &*ada.user_id), (1, "ada"));
    let (mut updates, mut ticks) = (0, 0);
    for round in 0..ROUNDS {
        for session in sessions {
            service.set_in(session, "host", [("x", int(round as i64))]).await;
        }
        let x = shown([("x", int(round as i64))]);
        while sessions.iter().any(|session| ada.copy(session).props("host") != x) {
            service.tick();
            ticks += 1;
            while let Some(parcel) = ada.glance().await {
                updates += parcel.updates;
            }
        }
    }
    assert!(ada.messages <= 1 + ticks + 1, "{} messages in {ticks} ticks", ada.messages);
    assert!(updates > 3 * ROUNDS, "{updates} updates in {ROUNDS} rounds");
}

#[tokio::test]
async fn what_comes_after_a_quiet_interval_goes_at_once_and_what_follows_waits() {
    let service = Service::start().await;
    eager_rooms(&service, "ada", &["a", "b", "c"]).await;
    let mut ada = service.several("ada", &["a", "b", "c"]).await;
    service.advance(100);
    service.set_in("a", "host", [("x", int(1))]).await;
    service.advance(0);
    assert_eq!(ada.next().await.sessions(), ["a"]);
    service.set_in("b", "host", [("x", int(2))]).await;
    service.advance(0);
    assert!(ada.glance().await.is_none(), "it waits for the interval");
    service.advance(5);
    service.set_in("c", "host", [("x", int(3))]).await;
    service.advance(4);
    assert!(ada.glance().await.is_none(), "so does this");
    service.advance(1);
    assert_eq!(ada.next().await.sessions(), ["b", "c"], "both come in one message");
    service.advance(100);
    assert!(ada.glance().await.is_none());
    service.set_in("c", "host", [("x", int(4))]).await;
    service.advance(0);
    assert_eq!(ada.next().await.sessions(), ["c"], "the interval was quiet");
}

#[tokio::test]
async fn the_shortest_interval_of_its_sessions_is_that_of_the_stream() {
    let service = Service::start().await;
    eager_rooms(&service, "ada", &["quick"]).await;
    let eager = SessionSettings {
        pacing: Pacing::Eager.into(),
        tick_interval: Some(ms(1_000)),
        ..Default::default()
    };
    service.open_room_with("slow", "host", eager).await;
    service.join("slow", "ada").await;
    service.advance(1_000);
    let mut ada = service.several("ada", &["slow", "quick"]).await;
    service.advance(1_000);
    service.set_in("slow", "host", [("x", int(1))]).await;
    service.advance(0);
    assert_eq!(ada.next().await.sessions(), ["slow"]);
    service.set_in("quick", "host", [("x", int(1))]).await;
    service.advance(9);
    assert!(ada.glance().await.is_none());
    service.advance(1);
    assert_eq!(ada.next().await.sessions(), ["quick"]);
}

#[tokio::test]
async fn an_ack_comes_with_or_after_the_frames_of_all_sessions_that_took_the_write() {
    let service = Service::start().await;
    eager_rooms(&service, "ada", &["quick", "other"]).await;
    let slow = SessionSettings { tick_interval: Some(ms(200)), ..Default::default() };
    service.open_room_with("slow", "host", slow).await;
    service.join("slow", "ada").await;
    service.advance(200);
    let sessions = ["quick", "slow", "other"];
    let mut ada = service.several("ada", &sessions).await;
    let only_quick = ada.write(write([("x", int(1))]).in_session("quick"));
    ada.until_acked(&service, only_quick).await;
    assert_eq!(ada.copy("quick").props("ada"), shown([("x", int(1))]));
    // On the user, and in two of three sessions.
    let on_user = ada.write(write([("y", int(2))]));
    let in_two = ada.write(write([("z", int(3))]).in_session("slow").in_session("quick"));
    let quick_again = ada.write(write([("x", int(4))]).in_session("quick"));
    in_time(async {
        while ada.acked_seq < quick_again {
            service.tick();
            while ada.glance().await.is_some() {
                let has =
                    |session: &str, key: &str| ada.copy(session).props("ada").contains_key(key);
                if ada.acked_seq >= on_user {
                    assert!(
                        sessions.iter().all(|session| has(session, "y")),
                        "{:?}",
                        ada.acked_seq
                    );
                }
                if ada.acked_seq >= in_two {
                    assert!(has("slow", "z") && has("quick", "z"));
                }
            }
        }
    })
    .await;
    assert_eq!(ada.copy("quick").props("ada")["x"], shown([("x", int(4))])["x"]);
    assert!(!ada.copy("other").props("ada").contains_key("z"));
    assert_eq!(ada.refusals, []);
}

#[tokio::test]
async fn a_refusal_names_the_session_that_refused() {
    let service = Service::start().await;
    rooms(&service, "ada", &["a"]).await;
    service.open_room("b", "host").await;
    service.spectate("b", "ada").await;
    service.open_room("foreign", "host").await;
    service.tick();
    let mut ada = service.several("ada", &["a", "b"]).await;
    let alone = ada.write(write([("x", int(1))]).in_session("b"));
    let among = write([("x", int(2))]).in_session("a").in_session("b").in_session("foreign");
    let among = ada.write(among);
    let whole = ada.write(Default::default());
    ada.until_acked(&service, whole).await;
    let told: Vec<_> =
        ada.refusals.iter().map(|it| (it.seq, it.handle, &*it.session_id, it.reason())).collect();
    let (too_low, not_a_member) = (ErrorReason::RoleTooLow, ErrorReason::NotAMember);
    assert_eq!(
        told,
        [
            (alone, 2, "b", too_low),
            (among, 2, "b", too_low),
            (among, 0, "foreign", not_a_member),
            (whole, 0, "", ErrorReason::InvalidFields),
        ]
    );
    assert_eq!(ada.copy("a").props("ada"), shown([("x", int(2))]));
}

#[tokio::test]
async fn one_sessions_end_is_told_and_the_others_go_on_to_the_last() {
    let service = Service::start().await;
    rooms(&service, "ada", &["left", "kicked", "deleted", "last"]).await;
    let mut ada = service.several("ada", &["left", "kicked", "deleted", "last"]).await;
    service.advance(100);
    service.leave("left", "ada").await;
    ada.tick_until(&service, |it| !it.carries("left")).await;
    service.try_kick("kicked", "host", "ada", "enough").await.expect("she may");
    service.tick();
    let parcel = ada.next().await;
    assert_eq!(parcel.end_of("kicked"), EndReason::Kicked);
    // What was accepted before the end comes with it.
    service.set_in("deleted", "host", [("x", int(1))]).await;
    service.try_delete("deleted", "host").await.expect("she may");
    let parcel = ada.next().await;
    assert_eq!(parcel.sessions(), ["deleted", "deleted"]);
    assert!(matches!(parcel.steps[0].1, Step::Changes { .. }));
    assert_eq!(parcel.end_of("deleted"), EndReason::Deleted);
    let seq = ada.write(write([("x", int(2))]));
    ada.until_acked(&service, seq).await;
    assert_eq!(ada.copy("last").props("ada"), shown([("x", int(2))]));
    service.try_ban("last", "host", "ada").await.expect("she may");
    service.tick();
    let (last, ending) = ada.end().await;
    assert_eq!(last.end_of("last"), EndReason::Banned);
    ending.is(EndReason::Banned, Code::PermissionDenied);
}

#[tokio::test]
async fn an_end_does_not_wait_for_the_interval() {
    let service = Service::start().await;
    eager_rooms(&service, "ada", &["a", "b", "c"]).await;
    let mut ada = service.several("ada", &["a", "b", "c"]).await;
    service.advance(100);
    service.set_in("a", "host", [("x", int(1))]).await;
    service.advance(0);
    ada.next().await;
    service.set_in("b", "host", [("x", int(1))]).await;
    service.advance(0);
    assert!(ada.glance().await.is_none());
    service.try_delete("c", "host").await.expect("she may");
    let parcel = ada.next().await;
    assert_eq!(parcel.end_of("c"), EndReason::Deleted);
    assert_eq!(parcel.sessions(), ["b", "c"], "what waits goes with it");
}

#[tokio::test]
async fn a_write_that_waits_for_a_session_that_ended_is_acked() {
    let service = Service::start().await;
    rooms(&service, "ada", &["a", "b"]).await;
    let mut ada = service.several("ada", &["a", "b"]).await;
    let seq = ada.write(write([("x", int(1))]));
    service.try_delete("b", "host").await.expect("she may");
    ada.until_acked(&service, seq).await;
    assert!(!ada.carries("b"));
}

#[tokio::test]
async fn closing_the_sending_side_ends_the_stream_once_all_is_acked() {
    let service = Service::start().await;
    rooms(&service, "ada", &["a", "b"]).await;
    let mut ada = service.several("ada", &["a", "b"]).await;
    let seq = ada.write(write([("x", int(1))]));
    ada.close();
    ada.until_acked(&service, seq).await;
    assert_eq!(ada.copy("b").props("ada"), shown([("x", int(1))]));
    assert_eq!(ada.end().await.1.status.code(), Code::Ok);
}

#[tokio::test]
async fn each_session_resumes_where_the_client_was() {
    let service = Service::start().await;
    rooms(&service, "ada", &["delta", "quiet", "other"]).await;
    let _stays = service.receive("ada").await;
    let mut ada = service.several("ada", &["delta", "quiet", "other"]).await;
    let known = ["delta", "quiet", "other"].map(|session| ada.copy(session).clone());
    ada.close();
    ada.end().await;
    service.set_in("delta", "host", [("x", int(1))]).await;
    service.tick();
    let mut open = several_open("ada", &["delta", "quiet", "other", "new"]);
    for (subscription, rebuilt) in open.subscriptions.iter_mut().zip(&known) {
        subscription.resume = Some(rebuilt.resume());
    }
    open.subscriptions[2].options =
        Some(DeliveryOptions { props: vec!["y".to_owned()], ..Default::default() });
    open.subscriptions[3].join = Some(JoinOptions::default());
    service.open_room("new", "host").await;
    let mut ada = service.open_several(open).await;
    for (session, rebuilt) in ["delta", "quiet", "other"].iter().zip(&known) {
        ada.remember(session, rebuilt);
    }
    let first = ada.next().await;
    assert_eq!(first.sessions(), ["delta", "quiet", "other", "new"]);
    assert!(matches!(first.step("delta"), Step::Changes { from: 2, to: 3, .. }), "{first:?}");
    assert_eq!(*first.step("quiet"), Step::Heartbeat(2));
    assert_eq!(*first.step("other"), Step::Snapshot(SnapshotReason::ViewChanged));
    assert_eq!(*first.step("new"), Step::Snapshot(SnapshotReason::First));
}

#[tokio::test]
async fn each_subscription_has_options_of_its_own() {
    let service = Service::start().await;
    rooms(&service, "ada", &["all", "some", "others"]).await;
    let mut open = several_open("ada", &["all", "some", "others"]);
    let only_x = DeliveryOptions { props: vec!["x".to_owned()], ..Default::default() };
    open.subscriptions[1].options = Some(only_x);
    let others = DeliveryOptions { exclude_self: true, ..Default::default() };
    open.subscriptions[2].options = Some(others);
    let mut ada = service.open_several(open).await;
    ada.next().await;
    let seq = ada.write(write([("x", int(1)), ("y", int(2))]));
    ada.until_acked(&service, seq).await;
    assert_eq!(ada.copy("all").props("ada"), shown([("x", int(1)), ("y", int(2))]));
    assert_eq!(ada.copy("some").props("ada"), shown([("x", int(1))]));
    assert_eq!(ada.copy("others").props("ada"), shown([]));
    assert_eq!(ada.copy("others").revision, 3, "it arrives as a heartbeat");
}

#[tokio::test]
async fn handles_are_distinct_and_every_fault_is_named() {
    let service = Service::start().await;
    rooms(&service, "ada", &["a", "b", "c"]).await;
    let mut open = several_open("ada", &["a", "b", "c", "a", ""]);
    open.subscriptions[1].handle = 0;
    open.subscriptions[2].handle = 1;
    open.subscriptions[4].options =
        Some(DeliveryOptions { delivery: 77, max_rate_hz: 1001, ..Default::default() });
    open.subscriptions[4].resume = Some(Default::default());
    service.open_several(open).await.refused().await.blames(&[
        "open.subscriptions[1].handle",
        "open.subscriptions[2].handle",
        "open.subscriptions[3].session_id",
        "open.subscriptions[4].options.delivery",
        "open.subscriptions[4].options.max_rate_hz",
        "open.subscriptions[4].resume.position",
        "open.subscriptions[4].session_id",
    ]);
    let mut nobody = several_open("", &["a", "b"]);
    nobody.subscriptions[0].join = Some(JoinOptions::default());
    service.open_several(nobody).await.refused().await.blames(&["open.user_id"]);
    let bad = several_open("a\nb", &["a", "b"]);
    service.open_several(bad).await.refused().await.blames(&["open.user_id"]);
    service.is_fine().await;
}

#[tokio::test]
async fn a_stream_subscribes_to_at_most_64_sessions() {
    let service = Service::start().await;
    let names: Vec<String> = (0..65).map(|at| format!("room {at}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    rooms(&service, "ada", &names).await;
    let too_many = service.open_several(several_open("ada", &names)).await.refused().await;
    too_many.blames(&["open.subscriptions"]);
    let ada = service.several("ada", &names[..64]).await;
    assert!(ada.carries("room 63"));
}

#[tokio::test]
async fn joining_generates_one_user_for_all_subscriptions() {
    let service = Service::start().await;
    rooms(&service, "ada", &["a", "b"]).await;
    let open = several_joining("", &["a", "b"]);
    let mut new = service.open_several(open).await;
    new.next().await;
    let user = new.user_id.clone();
    assert!(!user.is_empty());
    new.tick_until(&service, |it| it.copy("a").knows(&user) && it.copy("b").knows(&user)).await;
}

#[tokio::test]
async fn a_refused_subscription_refuses_the_call_and_nobody_has_joined() {
    let service = Service::start().await;
    rooms(&service, "ada", &["in", "full", "locked"]).await;
    let one = SessionSettings { capacity: Some(2), ..Default::default() };
    service.update("full", "host", &["capacity"], one).await;
    let locked = SessionSettings { locked: Some(true), ..Default::default() };
    service.update("locked", "host", &["locked"], locked).await;
    service.open_room("open", "host").await;
    service.open_room("banned", "host").await;
    service.try_ban("banned", "host", "bob").await.expect("she may");
    service.tick();
    let revision = service.revision("open").await;
    for (at, (session, joins, code, reason)) in [
        ("in", false, Code::FailedPrecondition, "NOT_A_MEMBER"),
        ("full", true, Code::ResourceExhausted, "SESSION_FULL"),
        ("locked", true, Code::FailedPrecondition, "SESSION_LOCKED"),
        ("banned", true, Code::PermissionDenied, "BANNED"),
        ("nothing", true, Code::NotFound, "SESSION_NOT_FOUND"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut open = several_open("bob", &["open", session]);
        open.subscriptions[0].join = Some(JoinOptions::default());
        open.subscriptions[1].join = joins.then(JoinOptions::default);
        if at % 2 == 1 {
            open.subscriptions.reverse();
        }
        let told = service.open_several(open).await.refused().await.is(code, reason);
        let field = format!("open.subscriptions[{}]", 1 - at % 2);
        told.says("subscription", &field).says("acked_seq", "0");
        service.tick();
        let info = service.info("open", "").await;
        assert_eq!(info.position.map(|it| it.revision), Some(revision), "{session}");
        assert_eq!(info.members.len(), 1, "{session}");
    }
    let props = [("x".to_owned(), int(1))].into();
    let spectator = JoinOptions { spectator: true, props, ..Default::default() };
    let mut open = several_open("bob", &["in", "open"]);
    open.subscriptions[0].join = Some(JoinOptions::default());
    open.subscriptions[1].join = Some(spectator);
    let told = service.open_several(open).await.refused().await;
    told.blames(&["open.subscriptions[1].join.props"]);
    service.tick();
    assert_eq!(service.info("in", "").await.members.len(), 2);
}

#[tokio::test]
async fn a_refused_call_counts_all_sessions_that_it_would_join() {
    let service = Service::start_with(|config| config.max_sessions_per_user = 3).await;
    for session in ["a", "b", "c", "d"] {
        service.open_room(session, "").await;
    }
    service.join("a", "ada").await;
    let mut open = several_joining("ada", &["a", "b", "c", "d"]);
    let told = service.open_several(open.clone()).await.refused().await;
    let told = told.is(Code::ResourceExhausted, "LIMIT_REACHED");
    told.says("limit", "max-sessions-per-user").says("subscription", "open.subscriptions[3]");
    service.tick();
    for session in ["b", "c", "d"] {
        assert_eq!(service.info(session, "").await.members, [], "{session}");
    }
    open.subscriptions.pop();
    let mut ada = service.open_several(open).await;
    assert_eq!(ada.next().await.sessions(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_refused_call_disconnects_nobody() {
    let service = Service::start().await;
    rooms(&service, "ada", &["b"]).await;
    service.open_room("a", "host").await;
    let tied = JoinOptions { presence: Presence::Tied.into(), ..Default::default() };
    service.try_join("a", "ada", tied).await.expect("she joins");
    service.tick();
    let revision = service.revision("a").await;
    let mut refused = service.open_several(several_open("ada", &["a", "b", "nothing"])).await;
    refused.refused().await.is(Code::NotFound, "SESSION_NOT_FOUND");
    service.tick();
    assert_eq!(service.revision("a").await, revision, "nothing happened to her membership");
}

#[tokio::test]
async fn the_loss_of_the_stream_is_lost_presence_in_every_session() {
    let service = Service::start().await;
    for session in ["a", "b"] {
        service.open_room(session, "host").await;
    }
    let open = several_joining("ada", &["a", "b"]);
    let mut ada = service.open_several(open).await;
    ada.next().await;
    service.tick();
    let mut a = service.watch("a", "host").await;
    let mut b = service.watch("b", "host").await;
    assert!(a.rebuilt.knows("ada") && b.rebuilt.knows("ada"));
    drop(ada);
    service.tick_until(&mut a, |it| it.member("ada").disconnected).await;
    service.tick_until(&mut b, |it| it.member("ada").disconnected).await;
}

#[tokio::test]
async fn a_heartbeat_carries_every_sessions_position() {
    let service = Service::start().await;
    rooms(&service, "ada", &["a", "b"]).await;
    service.set("ada", [("x", int(1))]).await;
    service.tick();
    let mut ada = service.several("ada", &["a", "b"]).await;
    // A silent frame, which only a heartbeat tells of.
    service.set("ada", [("x", int(1))]).await;
    service.advance(14_000);
    service.set_in("b", "host", [("x", int(1))]).await;
    service.tick();
    assert_eq!(ada.next().await.sessions(), ["b"]);
    assert_eq!(ada.copy("a").revision, 3);
    service.advance(990);
    let beat = ada.next().await;
    assert_eq!(beat.sessions(), ["a", "b"], "the silence of one session is enough");
    assert_eq!((beat.step("a"), beat.step("b")), (&Step::Heartbeat(4), &Step::Heartbeat(5)));
    service.advance(14_990);
    assert!(ada.glance().await.is_none());
    service.advance(20);
    assert_eq!(ada.next().await.sessions(), ["a", "b"]);
}

#[tokio::test]
async fn a_message_is_filled_up_to_1_mib_and_the_rest_follows_at_once() {
    let service = Service::start().await;
    // More than a message in one session, so that its snapshot comes in parts.
    let sessions = [("a", 80), ("b", 20), ("c", 20), ("d", 20)];
    let names = sessions.map(|(session, _)| session);
    rooms(&service, "ada", &names).await;
    for (session, users) in sessions {
        for user in 0..users {
            let name = format!("user {user}");
            service.join_with(session, &name, [("data", data(16_000))]).await;
        }
    }
    service.tick();
    let mut ada = service.open_several(several_open("ada", &names)).await;
    let mut messages = Vec::new();
    while !ada.carries("d") {
        let parcel = ada.next().await;
        let steps: Vec<_> = parcel.sessions().into_iter().map(str::to_owned).collect();
        messages.push((parcel.updates, steps.join("")));
    }
    let expected = [(1, ""), (3, "abc"), (1, "d")].map(|(updates, of)| (updates, of.to_owned()));
    assert_eq!(messages, expected);
    for (session, users) in sessions {
        assert_eq!(ada.copy(session).state.members.len(), users + 2);
    }
}

#[tokio::test]
async fn a_slow_reader_gets_one_merged_delta_per_session() {
    let service = unlimited().await;
    rooms(&service, "ada", &["a", "b"]).await;
    let mut ada = service.several("ada", &["a", "b"]).await;
    // More than the window of the stream, so that the server cannot go on.
    service.set_in("a", "host", [("big", data(16_000))]).await;
    for round in 0..40 {
        for session in ["a", "b"] {
            for key in ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"] {
                let value = format!("{round}{}", "x".repeat(4_000));
                service.set_in(session, "host", [(key, text(&value))]).await;
            }
        }
        service.tick();
    }
    service.advance(40);
    let revision = service.revision("b").await;
    ada.tick_until(&service, |it| it.copy("b").revision == revision).await;
    assert!(ada.messages < 30, "{} messages", ada.messages);
    let direct = service.watch("b", "ada").await;
    assert_eq!(ada.copy("b").state, direct.rebuilt.state);
}

#[tokio::test]
async fn who_does_not_read_for_too_long_is_ended_as_slow() {
    let service = unlimited().await;
    rooms(&service, "ada", &["a", "b"]).await;
    let mut ada = service.several("ada", &["a", "b"]).await;
    for round in 0..140 {
        for key in ["k0", "k1", "k2", "k3"] {
            let value = format!("{round}{}", "x".repeat(12_000));
            service.set_in("a", "host", [(key, text(&value))]).await;
        }
        service.advance(500);
    }
    let (_, ending) = ada.end().await;
    ending.is_cut(Code::ResourceExhausted);
}

#[tokio::test]
async fn a_stop_sends_what_was_accepted_in_every_session_and_goes_away() {
    let service = Service::start().await;
    rooms(&service, "ada", &["a", "b", "c"]).await;
    let mut ada = service.several("ada", &["a", "b", "c"]).await;
    for session in ["a", "b", "c"] {
        service.set_in(session, "host", [("x", int(1))]).await;
    }
    let (_, (_, ending)) = tokio::join!(service.stop_under(), ada.end());
    let told = ending.is(EndReason::Draining, Code::Unavailable);
    assert!(told.retry_after.is_some());
    assert!(ending.go_away.is_some_and(|it| it.reconnect_delay.is_some()));
    for session in ["a", "b", "c"] {
        assert_eq!(ada.copy(session).props("host"), shown([("x", int(1))]));
    }
}

#[tokio::test]
async fn a_drain_ends_the_stream_when_all_its_sessions_have_told() {
    let service = Service::start().await;
    rooms(&service, "ada", &["a", "b"]).await;
    let mut ada = service.several("ada", &["a", "b"]).await;
    service.drain();
    ada.end().await.1.is(EndReason::Draining, Code::Unavailable);
    let again = service.open_several(several_open("ada", &["a", "b"])).await.refused().await;
    again.is(Code::Unavailable, "DRAINING");
}

#[tokio::test]
async fn age_and_silence_end_the_stream_as_a_whole() {
    let service = Service::start_with(|config| {
        config.stream_max_age = Some(std::time::Duration::from_secs(60));
    })
    .await;
    rooms(&service, "ada", &["a", "b"]).await;
    let mut ada = service.several("ada", &["a", "b"]).await;
    service.advance(60_000);
    let (_, ending) = ada.end().await;
    ending.is(EndReason::Age, Code::Unavailable);
    let open = StreamOpen { silence_timeout: Some(ms(2_000)), ..several_open("ada", &["a", "b"]) };
    let mut ada = service.open_several(open).await;
    ada.next().await;
    service.advance(2_000);
    ada.end().await.1.is(EndReason::Silent, Code::DeadlineExceeded);
    assert_eq!(service.info("a", "").await.members.len(), 2, "she was not tied to it");
}
