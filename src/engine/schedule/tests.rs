use super::*;
use crate::{
    engine::{
        EngineSettings,
        testing::{engine, room, settings, user},
    },
    session::{
        command::{Actor, Command, Join, Setting, Write},
        limits::SECOND,
        settings::Pacing,
        value::Value,
    },
};

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
    engine.command(live, &Actor::User(user("ann")), command).expect("it is a member");
}

fn update(engine: &Engine, live: &Arc<Live>, setting: Setting) {
    engine.update(live, &Actor::App, vec![setting]).expect("the app may");
}

fn revision(live: &Live) -> u64 {
    live.lock().core.revision()
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
