//! What is there after a crash, and after a stop.

use crate::stage::*;
use prost::Message;
use sessiond::{
    engine::{
        Delivery, Encoded, Options, Position, Refusal, Reply, RequestId, Resume, Scope, Step,
    },
    grpc::encode::PREFIX,
    proto,
    session::{
        ban::Ban,
        command::{Actor, Command, Write},
        error::Refusal as Rule,
        ids::Key,
        judging::{self, Operation},
        limits::SECOND,
        revision::Revision,
        settings::{Durability, Kind},
        value::Value,
        view::View,
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

/// Many times, as it is a matter of who has a lock first: writers and the stop wait for the same one.
#[tokio::test]
async fn what_is_accepted_while_the_server_stops_is_stored() {
    const WRITERS: usize = 3;
    for round in 0..100 {
        let mut stage = Stage::new().await;
        let live = stage.open("race", Durability::Async);
        for writer in 0..WRITERS {
            let user = user(&format!("user-{writer}"));
            stage.engine.join(&live, &user, join()).expect("it may");
        }
        stage.store().await;
        let is_over = Arc::new(AtomicBool::new(false));
        let (tell, begun) = mpsc::channel();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (engine, live, tell) = (stage.engine.clone(), live.clone(), tell.clone());
                std::thread::spawn(move || {
                    for number in 1.. {
                        let set = vec![(Key::from("x"), Value::Number(f64::from(number)))];
                        let user = user(&format!("user-{writer}"));
                        let command = Command::SetProps {
                            user: user.clone(),
                            write: Write::of(set),
                            term: 0,
                        };
                        if engine.command(&live, &Actor::of(&user), command).is_err() {
                            return f64::from(number - 1);
                        }
                        let _ = tell.send(());
                    }
                    unreachable!("it ends when it is refused")
                })
            })
            .collect();
        let holder = std::thread::spawn({
            let is_over = is_over.clone();
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    let held = live.lock();
                    std::thread::sleep(Duration::from_micros(50));
                    drop(held);
                }
            }
        });
        for _ in 0..10 * WRITERS {
            begun.recv().expect("they write");
        }
        let stopped = tokio::time::timeout(Duration::from_secs(10), stage.stop()).await;
        let stage = stopped.expect("all that was accepted has a frame");
        is_over.store(true, Ordering::Relaxed);
        holder.join().expect("no panic");
        let live = stage.find("race").expect("it is back");
        for (writer, thread) in writers.into_iter().enumerate() {
            let accepted = thread.join().expect("no panic");
            let stored = x_of(&live, &format!("user-{writer}")).unwrap_or_default();
            assert_eq!(stored, accepted, "round {round}, writer {writer}");
        }
    }
}

#[tokio::test]
async fn after_a_crash_a_sync_session_goes_on_and_never_uses_a_promised_revision() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Sync);
    stage.write(&live, "ada", 1.0).expect("it may");
    stage.store().await;
    stage.tick();
    stage.store().await;
    let shown = live.lock().revision();
    let epoch = live.lock().core.epoch();
    let promised = stage.write(&live, "ada", 2.0).expect("it may");
    assert_eq!(promised.revision, shown.next());

    let mut stage = stage.crash().await;
    let live = stage.find("race").expect("it is back");
    assert_eq!(live.lock().core.epoch(), epoch);
    assert_eq!(x_of(&live, "ada"), Some(1.0));
    for lost in 1..=3 {
        let at = Position { epoch, revision: Revision(shown.0 + lost) };
        assert!(matches!(at_once(stage.engine.framed(&live, at)), Some(Err(_))), "{lost}");
    }
    assert!(stage.compare(&live, promised.revision).is_err(), "what it named is lost");
    let next = stage.write(&live, "ada", 3.0).expect("it may");
    assert_eq!(next, Position { epoch, revision: Revision(shown.0 + 5) });
    stage.tick();
    stage.store().await;
    // Who was shown the last frame goes on from there.
    let class = live.lock().core.class_of(&Actor::App);
    let view = View { class, props: Default::default() };
    let view = live.lock().core.fingerprint(&view, None);
    let resume = Some(Resume { epoch, revision: shown, view });
    let options = Options { resume, ..Default::default() };
    let mut resumed = stage.watch(&live, options);
    let told = steps(&mut resumed);
    assert_eq!(told.len(), 1);
    let Step::Update(update) = &told[0] else { panic!("{told:?}") };
    let body = body_of(update);
    assert!(matches!(body, Some(proto::session_update::Body::Changes(_))), "{body:?}");
}

#[tokio::test]
async fn the_rules_of_a_session_outlive_a_crash() {
    for durability in [Durability::Sync, Durability::Async] {
        let mut stage = Stage::new().await;
        let (name, expression) = ("near".into(), "request.props.x < 100".into());
        let on = [Operation::Write].into_iter().collect();
        let rule = judging::Rule { name, on, expression, message: "too far".into() };
        stage.open_with("ruled", |settings| {
            (settings.durability, settings.rules) = (durability, [rule.clone()].into());
        });
        stage.tick();
        stage.store().await;
        let stage = stage.crash().await;
        let live = stage.find("ruled").expect("it is back");
        assert!(live.judges(Operation::Write) && !live.judges(Operation::Join));
        assert_eq!(live.rules().iter().map(|rule| &**rule.name()).collect::<Vec<_>>(), ["near"]);
        assert_eq!(*live.lock().core.accepted_info().settings.rules, [rule]);
        let unjudged = stage.write(&live, "ada", 1.0);
        assert_eq!(unjudged, Err(Refusal::Rules(Rule::NotJudged)));
    }
}

#[tokio::test]
async fn a_session_that_crashes_again_and_again_never_reuses_a_revision() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Sync);
    stage.store().await;
    let mut last = live.lock().revision();
    for round in 0..20 {
        let live = stage.find("race").expect("it is back");
        let promised = stage.write(&live, "ada", f64::from(round)).expect("it may").revision;
        assert!(promised > last, "{promised} after {last}");
        last = promised;
        stage = stage.crash().await;
    }
}

#[tokio::test]
async fn after_a_crash_an_async_session_is_back_as_it_was_stored_under_a_new_epoch() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Async);
    stage.write(&live, "ada", 1.0).expect("it may");
    stage.tick();
    stage.engine.advance(INTERVAL);
    stage.store().await;
    let epoch = live.lock().core.epoch();
    stage.write(&live, "ada", 2.0).expect("it may");
    stage.tick();
    let stage = stage.crash().await;
    let live = stage.find("race").expect("it is back");
    assert_eq!(x_of(&live, "ada"), Some(1.0));
    assert!(live.lock().core.epoch() > epoch);
    assert_eq!(live.lock().core.born(), epoch, "it stays where it was among the others");
}

#[tokio::test]
async fn no_term_of_a_host_that_is_lost_is_one_of_the_next() {
    let mut stage = Stage::new().await;
    let live = stage.open_kind(Kind::Hosted, "race", |it| it.durability = Durability::Async);
    stage.engine.join(&live, &user("ben"), join()).expect("it may");
    stage.tick();
    stage.engine.advance(INTERVAL);
    stage.store().await;
    let term_of = |stage: &Stage| {
        let live = stage.find("race").expect("it is there");
        let core = &live.lock().core;
        assert_eq!(core.accepted_info(), core.info(), "a write names the term that is shown");
        core.info().term
    };
    let mut last = term_of(&stage);
    for is_clean in [false, false, true, false] {
        let swap = Command::SwapHost { target: None, term: last };
        stage.command(&stage.find("race").expect("it is there"), swap);
        stage.tick();
        let given = term_of(&stage);
        assert_eq!(given, last + 1);
        stage = if is_clean { stage.stop().await } else { stage.crash().await };
        last = term_of(&stage);
        assert!(if is_clean { last == given } else { last > given }, "{last} after {given}");
    }
    // Nothing happens between a crash and a stop.
    stage = stage.stop().await;
    assert_eq!(term_of(&stage), last);
}

#[tokio::test]
async fn no_revision_of_a_lost_history_is_one_of_the_next() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Async);
    stage.write(&live, "ada", 0.0).expect("it may");
    stage.tick();
    stage.engine.advance(INTERVAL);
    stage.store().await;
    let mut shown = vec![live.lock().revision()];
    let refused = Err(Refusal::Rules(Rule::UnknownPosition));
    for round in 0..5 {
        let live = stage.find("race").expect("it is back");
        for x in 1..=7_u8 {
            let written = stage.write(&live, "ada", f64::from(x)).expect("it may").revision;
            assert!(written > *shown.last().expect("one"), "{written} after {shown:?}");
            shown.push(written);
            stage.tick();
        }
        shown.push(stage.write(&live, "ada", 8.0).expect("it may").revision);
        if round == 3 {
            // Until then nothing of it was stored since the first round.
            stage.engine.advance(INTERVAL);
            stage.store().await;
        }
        stage = stage.crash().await;
        let live = stage.find("race").expect("it is back");
        assert_eq!(x_of(&live, "ada"), Some(if round < 3 { 0.0 } else { 8.0 }));
        for revision in &shown {
            assert_eq!(stage.compare(&live, *revision), refused, "{revision} in round {round}");
            let at = Position { epoch: live.lock().core.epoch(), revision: *revision };
            assert!(matches!(at_once(stage.engine.framed(&live, at)), Some(Err(_))));
        }
        stage.tick();
        // More such frames than anybody has asked for, and still none of them is one of those.
        for _ in 0..40 {
            stage.write(&live, "ada", 1.0).expect("it may");
            stage.tick();
            assert_eq!(stage.compare(&live, shown[2]), refused);
            assert!(live.lock().revision() > *shown.last().expect("one"));
        }
        shown.push(live.lock().revision());
        let now = live.lock().revision();
        assert!(stage.compare(&live, now).is_ok(), "it is what is there");
        stage.tick();
        shown.push(live.lock().revision());
    }
}

#[tokio::test]
async fn whoever_was_told_all_of_a_sync_session_is_told_of_no_gap_where_nothing_was_lost() {
    for is_written in [false, true] {
        let mut stage = Stage::new().await;
        let live = stage.open("race", Durability::Sync);
        stage.store().await;
        for x in [1.0, 2.0] {
            stage.write(&live, "ada", x).expect("it may");
            stage.tick();
            stage.store().await;
        }
        let shown = live.lock().revision();
        let epoch = live.lock().core.epoch();
        // It was promised, and nobody was shown it.
        stage.write(&live, "ada", 3.0).expect("it may");

        let mut stage = stage.crash().await;
        stage = stage.crash().await;
        let live = stage.find("race").expect("it is back");
        if is_written {
            stage.write(&live, "ada", 4.0).expect("it may");
            stage.tick();
            stage.store().await;
        }
        let resume = |stage: &Stage, revision: Revision| {
            let class = live.lock().core.class_of(&Actor::App);
            let view = View { class, props: Default::default() };
            let view = Delivery::All.fingerprint(&live.lock().core, &view, None);
            let resume = Some(Resume { epoch, revision, view });
            stage.watch(&live, Options { resume, delivery: Delivery::All, ..Default::default() })
        };
        let mut resumed = resume(&stage, shown);
        if is_written {
            let [Step::Update(update)] = &steps(&mut resumed)[..] else { panic!("one update") };
            let snapshot = snapshot_of(update);
            assert_eq!(snapshot.reason(), proto::SnapshotReason::LogOverflow);
            assert_eq!(snapshot.lost_from, shown.0 + 1);
            assert_eq!(snapshot.lost_to, live.lock().revision().0);
            continue;
        }
        let mut earlier = resume(&stage, shown.previous());
        let [Step::Update(update)] = &steps(&mut earlier)[..] else { panic!("one update") };
        assert_eq!(snapshot_of(update).lost_from, shown.0, "the log was lost");
        let told = steps(&mut resumed);
        assert!(matches!(told[..], [Step::Heartbeat]), "{told:?}");
        let mut late = resume(&stage, shown);
        stage.write(&live, "ada", 5.0).expect("it may");
        stage.tick();
        stage.store().await;
        for subscription in [&mut resumed, &mut late, &mut resume(&stage, shown)] {
            let told = steps(subscription);
            let [Step::Update(update)] = &told[..] else { panic!("one update: {told:?}") };
            let body = body_of(update);
            let Some(proto::session_update::Body::Log(log)) = body else { panic!("{body:?}") };
            assert_eq!(log.updates.len(), 1);
        }
    }
}

fn body_of(update: &Encoded) -> Option<proto::session_update::Body> {
    let bytes = &update.messages[0].bytes[PREFIX..];
    let update = proto::SubscribeToSessionResponse::decode(bytes).expect("it decodes").update;
    update.expect("an update").body
}

fn snapshot_of(update: &Encoded) -> proto::Snapshot {
    match body_of(update) {
        Some(proto::session_update::Body::Snapshot(snapshot)) => snapshot,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_stored_of_an_async_session_is_behind_by_no_more_than_the_interval() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Async);
    stage.store().await;
    for tick in 0..200_u32 {
        stage.write(&live, "ada", f64::from(tick)).expect("it may");
        stage.tick();
        stage.store().await;
    }
    let stage = stage.crash().await;
    let live = stage.find("race").expect("it is back");
    let stored = x_of(&live, "ada").expect("it is stored");
    assert!(stored >= 199.0 - (INTERVAL / TICK) as f64, "{stored}");
}

#[tokio::test]
async fn after_a_stop_all_but_none_go_on_as_they_were() {
    let mut stage = Stage::new().await;
    let mut known = Vec::new();
    for (name, durability) in [("a", Durability::Async), ("s", Durability::Sync)] {
        let live = stage.open(name, durability);
        stage.write(&live, "ada", 7.0).expect("it may");
        known.push((name, live));
    }
    let none = stage.open("n", Durability::None);
    stage.write(&none, "ada", 7.0).expect("it may");
    stage.tick();
    stage.store().await;
    stage.write(&known[0].1, "ada", 8.0).expect("it may");
    stage.write(&known[1].1, "ada", 8.0).expect("it may");
    let stage = stage.stop().await;
    for (name, before) in known {
        let live = stage.find(name).expect("it is back");
        let (before, now) = (before.lock(), live.lock());
        assert_eq!(now.core.epoch(), before.core.epoch(), "{name}");
        assert_eq!(now.core.revision(), before.core.revision(), "{name}");
        drop(now);
        assert_eq!(x_of(&live, "ada"), Some(8.0), "{name}: what was accepted went out");
    }
    assert!(stage.find("n").is_none());
}

#[tokio::test]
async fn a_request_is_done_once_whether_the_process_dies_before_or_after_it_is_stored() {
    for is_stored in [false, true] {
        let mut stage = Stage::new().await;
        let live = stage.open("race", Durability::Async);
        stage.store().await;
        stage.engine.advance(INTERVAL);
        let once = |stage: &Stage, x: f64| {
            let request = RequestId { field: "request_id", id: Key::from("one"), content: 1 };
            let live = stage.find("race").expect("it is there");
            let scope = Scope::new(&app(), Some(&id("race")), &Actor::of(&user("ada")));
            stage.engine.once(&scope, request, || {
                Ok(Reply::Written(stage.write(&live, "ada", x).expect("it may")))
            })
        };
        once(&stage, 1.0).expect("it is done");
        stage.tick();
        if is_stored {
            stage.store().await;
            stage.write(&live, "ada", 2.0).expect("it may");
            stage.engine.advance(2 * INTERVAL);
            stage.store().await;
        }
        let mut stage = stage.crash().await;
        once(&stage, 3.0).expect("it is answered");
        stage.tick();
        stage.store().await;
        let live = stage.find("race").expect("it is there");
        // It was done before, or it is done now.
        assert_eq!(x_of(&live, "ada"), Some(if is_stored { 2.0 } else { 3.0 }));
    }
}

#[tokio::test]
async fn a_request_is_never_stored_without_what_it_did() {
    // In each order of the frame, the memory of the request, and the cut.
    for durability in [Durability::Async, Durability::Sync] {
        for cut_at in 0..3 {
            let mut stage = Stage::new().await;
            let live = stage.open("race", durability);
            stage.store().await;
            let request = RequestId { field: "request_id", id: Key::from("one"), content: 1 };
            let scope = Scope::new(&app(), Some(&id("race")), &Actor::of(&user("ada")));
            let outcome = stage.engine.once(&scope, request.clone(), || {
                let written = stage.write(&live, "ada", 1.0).expect("it may");
                if cut_at == 1 {
                    stage.tick();
                }
                Ok(Reply::Written(written))
            });
            outcome.expect("it is done");
            if cut_at == 0 {
                stage.store().await;
                stage.tick();
            }
            if cut_at < 2 {
                stage.store().await;
            }
            let stage = stage.crash().await;
            let live = stage.find("race").expect("it is there");
            let mut is_done_again = false;
            let again = stage.engine.once(&scope, request, || {
                is_done_again = true;
                Ok(Reply::Written(stage.write(&live, "ada", 1.0).expect("it may")))
            });
            again.expect("it is answered");
            let is_there = x_of(&live, "ada") == Some(1.0);
            assert_eq!(is_there, !is_done_again, "{durability:?}, {cut_at}");
        }
    }
}

#[tokio::test]
async fn a_request_is_stored_with_what_it_did_whoever_writes_before_it_is_remembered() {
    for durability in [Durability::Async, Durability::Sync] {
        for is_framed in [false, true] {
            let mut stage = Stage::new().await;
            let live = stage.open("race", durability);
            stage.store().await;
            let ban = Ban { reason: "".into(), until: None };
            stage.command(&live, Command::Ban { target: user("eve"), ban });
            stage.tick();
            stage.engine.advance(INTERVAL);
            stage.store().await;
            let request = RequestId { field: "request_id", id: Key::from("one"), content: 1 };
            let scope = Scope::new(&app(), Some(&id("race")), &Actor::App);
            let lift = |stage: &Stage, then: &dyn Fn()| {
                let live = stage.find("race").expect("it is there");
                stage.engine.once(&scope, request.clone(), || {
                    let unban = Command::Unban { target: user("eve") };
                    let lifted = stage.engine.command(&live, &Actor::App, unban)?;
                    then();
                    Ok(Reply::Written(lifted))
                })
            };
            let write = || {
                let (engine, live) = (stage.engine.clone(), live.clone());
                let write = Write::of(vec![(Key::from("x"), Value::Number(1.0))]);
                let command = Command::SetProps { user: user("ada"), write, term: 0 };
                let writer = move || engine.command(&live, &Actor::of(&user("ada")), command);
                std::thread::spawn(writer).join().expect("no panic").expect("it may");
            };
            lift(&stage, &write).expect("it is done");
            if is_framed {
                stage.tick();
                stage.engine.advance(INTERVAL);
            }
            stage.store().await;
            let stage = stage.crash().await;
            // Either both are stored, or neither.
            let again = lift(&stage, &|| ());
            assert!(again.is_ok(), "{durability:?}, {is_framed}: {again:?}");
        }
    }
}

#[tokio::test]
async fn a_request_on_a_user_is_done_once_whatever_its_sessions_are() {
    let mut stage = Stage::new().await;
    for (name, durability) in [("a", Durability::None), ("b", Durability::Async)] {
        stage.open(name, durability);
    }
    stage.store().await;
    let request = RequestId { field: "request_id", id: Key::from("one"), content: 1 };
    let scope = Scope::of_user(&app(), &user("ada"), &Actor::of(&user("ada")));
    let once = |stage: &Stage, level: i64| {
        let value = sessiond::session::value::Value::Integer(level);
        let write = sessiond::session::command::Write::of(vec![(Key::from("level"), value)]);
        let outcome = stage.engine.once(&scope, request.clone(), || {
            let outcomes = stage.engine.write_user(&app(), &user("ada"), &write)?;
            Ok(Reply::OnUser(outcomes.into()))
        });
        outcome.expect("it is answered");
    };
    once(&stage, 1);
    stage.tick();
    stage.engine.advance(INTERVAL);
    stage.store().await;
    let stage = stage.crash().await;
    once(&stage, 2);
    let props = stage.engine.user_props(&app(), &user("ada"));
    assert_eq!(props, [(Key::from("level"), sessiond::session::value::Value::Integer(1))]);
}

#[tokio::test]
async fn a_request_on_a_user_is_answered_from_memory_only_if_no_session_has_lost_it() {
    // In each order: the first session that the write is in, or the last, is stored long before the others.
    for durable in ["a", "b", "c"] {
        for is_all_stored in [false, true] {
            let mut stage = Stage::new().await;
            for name in ["a", "b", "c"] {
                let is_first = name == durable;
                stage.open(name, if is_first { Durability::Sync } else { Durability::Async });
            }
            stage.store().await;
            let request = RequestId { field: "request_id", id: Key::from("one"), content: 1 };
            let scope = Scope::of_user(&app(), &user("ada"), &Actor::of(&user("ada")));
            let once = |stage: &Stage, x: f64| {
                let value = sessiond::session::value::Value::Number(x);
                let write = sessiond::session::command::Write::of(vec![(Key::from("x"), value)]);
                let outcome = stage.engine.once(&scope, request.clone(), || {
                    let outcomes = stage.engine.write_user(&app(), &user("ada"), &write)?;
                    Ok(Reply::OnUser(outcomes.into()))
                });
                outcome.expect("it is answered");
            };
            once(&stage, 1.0);
            stage.tick();
            stage.store().await;
            if is_all_stored {
                stage.engine.advance(INTERVAL);
                stage.store().await;
            }
            let mut stage = stage.crash().await;
            once(&stage, 2.0);
            stage.tick();
            stage.store().await;
            let shown = |name| x_of(&stage.find(name).expect("it is back"), "ada");
            // It is answered from memory, or done again wherever it is concerned.
            let expected = Some(if is_all_stored { 1.0 } else { 2.0 });
            assert_eq!(["a", "b", "c"].map(shown), [expected; 3], "{durable}, {is_all_stored}");
        }
    }
}

#[tokio::test]
async fn what_is_set_on_a_user_is_back_until_the_user_is_forgotten() {
    let mut stage = Stage::new().await;
    let write = sessiond::session::command::Write::of(vec![(
        Key::from("level"),
        sessiond::session::value::Value::Integer(3),
    )]);
    stage.engine.write_user(&app(), &user("ada"), &write).expect("it may");
    stage.store().await;
    let mut stage = stage.crash().await;
    assert_eq!(stage.engine.user_props(&app(), &user("ada")).len(), 1);
    stage.engine.advance(61 * SECOND);
    stage.store().await;
    assert!(stage.engine.user_props(&app(), &user("ada")).is_empty());
    let stage = stage.crash().await;
    assert!(stage.engine.user_props(&app(), &user("ada")).is_empty());
}

#[tokio::test]
async fn of_two_exclusive_sessions_that_a_crash_leaves_a_user_in_the_last_counts() {
    let mut stage = Stage::new().await;
    let exclusive = |settings: &mut sessiond::session::settings::Settings| {
        settings.exclusive = true;
        settings.durability = Durability::Async;
    };
    let first = stage.open_with("first", exclusive);
    stage.engine.advance(INTERVAL);
    stage.store().await;
    // The second is stored, and that the user left the first one is not.
    let settings = {
        let mut settings = stage.engine.default_session();
        exclusive(&mut settings);
        settings.empty_ttl = 3600 * SECOND;
        settings
    };
    let opening = sessiond::session::Opening::new(
        app(),
        id("second"),
        sessiond::session::settings::Kind::Room,
        settings,
    );
    let moving = sessiond::session::command::Join { moves: true, ..join() };
    let opening = sessiond::session::Opening { opener: Some((user("ada"), moving)), ..opening };
    stage.engine.open(opening, false).expect("it opens");
    stage.store().await;
    assert!(!first.lock().core.counts("ada"));
    let stage = stage.crash().await;
    let is_in = |name: &str| stage.find(name).is_some_and(|live| live.lock().core.counts("ada"));
    assert_eq!((is_in("first"), is_in("second")), (false, true));
}

#[tokio::test]
async fn the_log_is_trimmed_and_nothing_is_lost_by_that() {
    let mut stage = Stage::trimming(4 * 1024).await;
    let mut names: Vec<_> = (0..8).map(|at| format!("room-{at}")).collect();
    for (at, name) in names.iter().enumerate() {
        let durability = if at % 2 == 0 { Durability::Sync } else { Durability::Async };
        stage.open(name, durability);
    }
    for round in 0..300_u32 {
        let name = &names[round as usize % names.len()];
        let live = stage.find(name).expect("it is there");
        stage.write(&live, "ada", f64::from(round)).expect("it may");
        stage.engine.advance(INTERVAL);
        stage.store().await;
        if round == 150 {
            let gone = names.pop().expect("a name");
            stage.command(&stage.find(&gone).expect("it is there"), Command::Delete);
            stage.store().await;
            stage = stage.crash().await;
        }
    }
    let before: Vec<_> =
        names.iter().map(|name| x_of(&stage.find(name).expect("it is there"), "ada")).collect();
    assert!(stage.batch_bytes_left() < 64 * 1024, "{}", stage.batch_bytes_left());
    let stage = stage.crash().await;
    let after: Vec<_> =
        names.iter().map(|name| x_of(&stage.find(name).expect("it is there"), "ada")).collect();
    assert_eq!(before, after);
    assert!(stage.find("room-7").is_none());
}
