use super::*;
use crate::{
    engine::{
        Cut, EngineSettings, KeepingSettings, Options,
        testing::{engine, room, settings, user},
    },
    session::{
        command::{Actor, Command, Join, Write},
        limits::SECOND,
        settings::{Durability, Pacing, Setting},
        value::Value,
    },
};

const TICK: Micros = 50_000;

/// A session with one member, quiet for longer than any tick.
fn session(pacing: Pacing, tick: Micros) -> (Engine, Arc<Live>) {
    let engine = engine(EngineSettings { shards: 1, ..settings() });
    let live = room(&engine, "finals", |settings| {
        settings.pacing = pacing;
        settings.tick = tick;
    });
    engine.join(&live, &user("ann"), Join::default()).expect("it is open to all");
    engine.advance(120 * SECOND);
    (engine, live)
}

fn write(engine: &Engine, live: &Arc<Live>) {
    let number = Value::Integer(engine.clock().now() as i64);
    let write = Write { set: vec![("key".into(), number)], ..Write::default() };
    let command = Command::SetProps { user: user("ann"), write, term: 0 };
    engine.command(live, &Actor::of(&user("ann")), command).expect("it is a member");
}

fn update(engine: &Engine, live: &Arc<Live>, setting: Setting) {
    engine.update(live, &Actor::App, vec![setting]).expect("the app may");
}

fn revision(live: &Live) -> u64 {
    live.lock().core.revision().0
}

/// How long it takes until there is another frame.
#[track_caller]
fn next_frame(engine: &Engine, live: &Live) -> Micros {
    let (began, before) = (engine.clock().now(), revision(live));
    let next = engine.shard(0).next().expect("there is an open frame");
    engine.advance(next - began);
    assert_eq!(revision(live), before + 1);
    next - began
}

#[test]
fn a_shorter_tick_brings_the_open_frame_nearer() {
    for before in [4 * SECOND, 60 * SECOND] {
        for pacing in [Pacing::Tick, Pacing::Eager] {
            let (engine, live) = session(pacing, before);
            write(&engine, &live);
            next_frame(&engine, &live);
            write(&engine, &live);
            engine.advance(20_000);
            update(&engine, &live, Setting::Tick(10_000));
            assert!(next_frame(&engine, &live) <= 10_000, "{pacing:?}");
            assert_eq!(engine.footprint().jobs, 0, "the old moment is off the list");
        }
    }
}

#[test]
fn eager_pacing_brings_the_open_frame_of_a_quiet_session_nearer() {
    let (engine, live) = session(Pacing::Tick, 4 * SECOND);
    write(&engine, &live);
    update(&engine, &live, Setting::Pacing(Pacing::Eager));
    assert_eq!(next_frame(&engine, &live), 0);
}

#[test]
fn a_longer_tick_holds_for_the_next_frame_and_leaves_the_open_one_where_it_is() {
    for pacing in [Pacing::Tick, Pacing::Eager] {
        let (engine, live) = session(pacing, 10_000);
        write(&engine, &live);
        update(&engine, &live, Setting::Tick(60 * SECOND));
        assert!(next_frame(&engine, &live) <= 10_000, "{pacing:?}");
        write(&engine, &live);
        assert!(next_frame(&engine, &live) > 10_000, "{pacing:?}");
    }
}

#[test]
fn an_open_frame_is_on_the_list_once_however_often_the_tick_changes() {
    let (engine, live) = session(Pacing::Tick, 60 * SECOND);
    write(&engine, &live);
    for tick in (1..60).rev() {
        update(&engine, &live, Setting::Tick(tick * SECOND));
        assert_eq!(engine.footprint().jobs, 1);
    }
}

/// When frames are made in ten seconds of a session with a write in each tick, where every frame
/// keeps its thread busy for as long as `work` before it reads again what was written.
fn frames_with(work: Micros, first_write: Micros) -> Vec<Micros> {
    let (engine, live) = session(Pacing::Tick, TICK);
    let (clock, shard) = (engine.clock(), engine.shard(0));
    let end = clock.now() + 10 * SECOND;
    let mut next_write = clock.now() + first_write;
    let mut frames = Vec::new();
    while clock.now() < end {
        let next = shard.next().map_or(next_write, |tick| tick.min(next_write));
        clock.step_to(next);
        engine.shard_wakes(0);
        while clock.now() < end {
            while next_write <= clock.now() {
                write(&engine, &live);
                next_write += TICK;
            }
            let before = revision(&live);
            engine.run_due(shard);
            match revision(&live) - before {
                0 => break,
                made => assert_eq!(made, 1),
            }
            frames.push(clock.now());
            clock.step_to(clock.now() + work);
        }
        engine.shard_rests(0);
    }
    frames
}

fn is_on_the_grid(at: Micros, live: &Live) -> bool {
    at % TICK == live.group() * TICK / GROUPS
}

#[test]
fn a_thread_with_more_to_do_than_fits_into_a_tick_makes_as_many_frames_as_it_can() {
    for work in [55_000, 70_000, 120_000] {
        for first_write in (0..TICK).step_by(7_000) {
            let frames = frames_with(work, first_write).len() as u64;
            let most = 10 * SECOND / work;
            assert!((most - 2..=most + 1).contains(&frames), "{frames} of {most}");
        }
    }
}

#[test]
fn frames_that_can_be_on_time_fall_on_the_tick() {
    let (_, live) = session(Pacing::Tick, TICK);
    for work in [0, 5_000, 45_000] {
        for first_write in (1_000..TICK).step_by(7_000) {
            let frames = frames_with(work, first_write);
            assert!((199..=201).contains(&frames.len()), "{}", frames.len());
            assert!(frames.iter().all(|at| is_on_the_grid(*at, &live)), "{work} {first_write}");
        }
    }
}

#[test]
fn a_write_after_a_quiet_time_waits_for_the_tick() {
    let (engine, live) = session(Pacing::Tick, TICK);
    for after in [1, 13_000, 3 * TICK + 7, 100 * TICK + 49_000] {
        engine.shard_rests(0);
        engine.advance(after);
        engine.shard_wakes(0);
        write(&engine, &live);
        let at = engine.shard(0).next().expect("there is an open frame");
        assert!(is_on_the_grid(at, &live) && at - engine.clock().now() <= TICK);
        engine.advance(TICK);
    }
}

#[test]
fn what_was_missed_is_not_made_up_for() {
    let (engine, live) = session(Pacing::Tick, TICK);
    write(&engine, &live);
    engine.shard_wakes(0);
    engine.clock().step_to(engine.clock().now() + 10 * TICK + 1_000);
    write(&engine, &live);
    engine.run_due(engine.shard(0));
    let late = revision(&live);
    write(&engine, &live);
    engine.run_due(engine.shard(0));
    assert_eq!(revision(&live), late, "one frame for all that was missed");
    next_frame(&engine, &live);
    assert!(is_on_the_grid(engine.clock().now(), &live), "the next one is in step again");
}

#[test]
fn a_busy_thread_visits_a_session_that_nothing_changes_in_once_a_tick() {
    let (engine, live) = session(Pacing::Tick, TICK);
    let subscription = engine.subscribe(&live, &Actor::App, None, Options::default());
    let subscription = subscription.expect("the app may");
    engine.shard_wakes(0);
    engine.clock().step_to(engine.clock().now() + 10 * TICK + 1_000);
    subscription.want_tick();
    assert_eq!(engine.shard(0).next(), Some(engine.clock().now()), "the visit is late");
    engine.run_due(engine.shard(0));
    subscription.want_tick();
    let next = engine.shard(0).next().expect("it is scheduled");
    assert!(next > engine.clock().now() && is_on_the_grid(next, &live));
}

#[test]
fn a_frame_that_is_made_while_an_older_one_is_stored_is_stored_next() {
    let keeping = KeepingSettings { interval: 200_000, durability: Durability::Sync };
    let settings = EngineSettings { shards: 1, keeping: Some(keeping), ..settings() };
    let engine = engine(settings);
    let live = room(&engine, "finals", |settings| settings.tick = TICK);
    let store = |cut: Option<Cut>| engine.note_stored(cut.expect("something is to be stored"));
    store(engine.cut());
    engine.join(&live, &user("ann"), Join::default()).expect("it is open to all");
    engine.advance(TICK);
    store(engine.cut());
    assert!(engine.want_whole(&live.app, &live.id));
    let whole = engine.cut();
    for _ in 0..2 {
        write(&engine, &live);
        engine.advance(2 * TICK);
    }
    store(whole);
    engine.advance(2 * TICK);
    store(engine.cut());
    assert!(!live.lock().is_in_flight(), "what was written is shown");
    let shown = live.lock().revision().0;
    assert_eq!(shown, revision(&live));
    assert!(engine.is_all_stored());
}

#[test]
fn what_streams_leave_behind_when_they_end_is_stored_at_a_stop() {
    let keeping = KeepingSettings { interval: 200_000, durability: Durability::Async };
    let settings = EngineSettings { shards: 1, keeping: Some(keeping), ..settings() };
    let engine = engine(settings);
    let live = room(&engine, "finals", |settings| settings.tick = TICK);
    engine.join(&live, &user("ann"), Join::default()).expect("it is open to all");
    engine.advance(SECOND);
    let store = || {
        while let Some(cut) = engine.cut() {
            engine.note_stored(cut)
        }
    };
    store();
    engine.drain();
    let left = Command::Leave { user: user("ann"), keep_role: false };
    let _ = live.lock().core.apply(engine.clock().now(), &Actor::of(&user("ann")), left);
    assert!(!engine.is_all_stored() || live.lock().core.is_open());
    engine.want_everything_stored();
    store();
    assert!(engine.is_all_stored() && !live.lock().core.is_open());
}
