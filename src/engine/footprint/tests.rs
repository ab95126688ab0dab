use super::*;
use crate::{
    engine::{
        Alarm, EngineSettings, Live, Options, REMEMBERED_FOR, Reply, RequestId, Scope,
        testing::{app, engine, opening, room, settings, user},
    },
    session::{
        Opening,
        command::{Actor, Command, Join, Write},
        ids::{Key, UserId},
        limits::{Micros, SECOND},
        private::{Pair, Private},
        settings::Kind,
        value::Value,
    },
};
use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
};

const YEAR: Micros = 365 * 24 * 3600 * SECOND;

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn write(user: &UserId) -> Command {
    let set = vec![(Key::from("key"), Value::Flag(true))];
    let write = Write { set, ..Write::default() };
    Command::SetProps { user: user.clone(), write, term: 0 }
}

/// Opens a session that would wait a year for somebody, and deletes it.
fn session(engine: &Engine, id: &str) {
    let live = room(engine, id, |settings| {
        settings.name = Some(id.into());
        settings.empty_ttl = YEAR;
        settings.max_age = YEAR;
        settings.tick = 60 * SECOND;
    });
    engine.command(&live, &Actor::App, Command::Delete).expect("it is there");
}

/// The same with somebody in it that reads, writes, waits, and does things once.
fn session_in_use(engine: &Engine, id: &str) {
    let ann = user(id);
    let live = room(engine, id, |settings| {
        settings.rejoin_grace = YEAR;
        settings.tick = 60 * SECOND;
    });
    let options = Options { interval: SECOND, ..Options::default() };
    let actor = Actor::of(&ann);
    let subscription = engine.subscribe(&live, &actor, Some(Join::default()), options);
    let mut subscription = subscription.expect("it is open to all");
    assert!(subscription.poll_step(&mut cx()).is_ready(), "it is the snapshot");
    let position = engine.command(&live, &actor, write(&ann)).expect("it is a member");
    let mut read = pin!(engine.framed(&live, position));
    assert!(read.as_mut().poll(&mut cx()).is_pending());
    request(engine, &Scope::new(&app(), Some(&live.id), &actor));
    drop(subscription);
    engine.command(&live, &Actor::App, Command::Delete).expect("it is there");
}

fn request(engine: &Engine, scope: &Scope) {
    let request = RequestId { field: "request_id", id: "id".into(), content: 1 };
    let done = engine.once(scope, request, || Ok(Reply::Message("done".into())));
    done.expect("it is done");
}

/// A user comes and goes, more than once.
fn user_stream(engine: &Engine, id: &str) {
    for _ in 0..3 {
        let stream = engine.user_stream(&app(), &user(id)).expect("there is room");
        let mut follower = stream.follow();
        assert!(follower.poll_sessions(&mut cx()).is_ready(), "at first it looks");
        assert!(follower.poll_sessions(&mut cx()).is_pending());
    }
}

/// A stream that says heartbeats, and puts them off, until it ends.
fn alarm(engine: &Engine, at: usize) {
    let (alarm, now) = (Alarm::new(), engine.clock().now());
    for after in [15, 16, 5] {
        alarm.set(engine.shard(at), now + after * SECOND, Waker::noop());
    }
}

/// Uses a session that stays, as [`session_in_use`] does, and leaves it.
fn stay(engine: &Engine, live: &Arc<Live>, id: &str) {
    let ann = user(id);
    let actor = Actor::of(&ann);
    let subscription = engine.subscribe(live, &actor, Some(Join::default()), Options::default());
    let mut subscription = subscription.expect("it is open to all");
    let _ = subscription.poll_step(&mut cx());
    let position = engine.command(live, &actor, write(&ann)).expect("it is a member");
    let mut read = pin!(engine.framed(live, position));
    assert!(read.as_mut().poll(&mut cx()).is_pending());
    drop(subscription);
    let leave = Command::Leave { user: ann, keep_role: false };
    engine.command(live, &actor, leave).expect("it is a member");
}

#[test]
fn what_ends_takes_all_that_is_on_a_list_for_it_along() {
    let engine = engine(settings());
    for at in 0..50 {
        session(&engine, &format!("s{at}"));
        alarm(&engine, at);
    }
    assert_eq!(engine.footprint(), Footprint::default(), "nothing waits for its moment to come");
}

#[test]
fn a_second_round_of_all_there_is_leaves_no_more_than_the_first() {
    let engine = engine(settings());
    let lasting = room(&engine, "lasting", |settings| settings.empty_ttl = YEAR);
    engine.advance(SECOND);
    let before = engine.footprint();
    let round = || {
        for at in 0..50 {
            let id = &format!("s{at}");
            session(&engine, id);
            session_in_use(&engine, id);
            user_stream(&engine, id);
            alarm(&engine, at);
            stay(&engine, &lasting, id);
            request(&engine, &Scope::of_user(&app(), &user(id), &Actor::App));
        }
        request(&engine, &Scope::new(&app(), None, &Actor::App));
        engine.footprint()
    };
    let first = round();
    assert_eq!((first.sessions, first.users, first.books), (1, 50, 51), "these are remembered");
    assert_eq!(round(), first);
    assert_eq!(lasting.lock().waiting(), 0);
    assert!(lasting.lock().subscribers.is_empty() && lasting.lock().views.is_empty());
    engine.advance(REMEMBERED_FOR + SECOND);
    assert_eq!(engine.footprint(), before, "and forgotten in time");
}

#[test]
fn a_user_that_comes_and_goes_is_looked_for_once() {
    let engine = engine(EngineSettings { user_ttl: 60 * SECOND, ..settings() });
    for _ in 0..100 {
        user_stream(&engine, "ann");
    }
    assert_eq!((engine.footprint().users, engine.footprint().jobs), (1, 1));
    engine.advance(59 * SECOND);
    let stream = engine.user_stream(&app(), &user("ann")).expect("there is room");
    engine.advance(10 * SECOND);
    let streaming = Footprint { users: 1, ..Footprint::default() };
    assert_eq!(engine.footprint(), streaming, "it is not looked for while it has a stream");
    drop(stream);
    engine.advance(60 * SECOND - 1);
    assert_eq!(engine.footprint().users, 1);
    engine.advance(1);
    assert_eq!(engine.footprint(), Footprint::default());
}

#[test]
fn a_user_that_somebody_holds_when_it_is_forgotten_is_looked_for_again() {
    let engine = engine(settings());
    user_stream(&engine, "ann");
    let record = engine.inner.registry.user(&app(), &user("ann"));
    engine.advance(60 * SECOND);
    assert_eq!(engine.footprint().users, 1);
    drop(record);
    engine.advance(60 * SECOND);
    assert_eq!(engine.footprint(), Footprint::default());
}

/// Pages of memory that the process has.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("it is a number")
}

/// Takes minutes: `cargo test --release --lib a_million_of_each -- --ignored --nocapture`
#[cfg(target_os = "linux")]
#[test]
#[ignore = "takes minutes"]
fn a_million_of_each_twice_take_no_more_memory_than_once() {
    const MANY: usize = 1_000_000;
    let engine = engine(settings());
    let lasting = room(&engine, "lasting", |settings| settings.empty_ttl = YEAR);
    type Act<'a> = &'a dyn Fn(usize, &str);
    let kinds: [(&str, Act<'_>); 6] = [
        ("sessions", &|_, id| session(&engine, id)),
        ("sessions in use", &|_, id| session_in_use(&engine, id)),
        ("streams of users", &|_, id| user_stream(&engine, id)),
        ("alarms", &|at, _| alarm(&engine, at)),
        ("readers of a session that stays", &|_, id| stay(&engine, &lasting, id)),
        ("request ids", &|_, id| {
            request(&engine, &Scope::of_user(&app(), &user(id), &Actor::App));
        }),
    ];
    for (what, act) in kinds {
        let round = |number: usize| {
            for at in 0..MANY {
                act(at, &format!("{number}-{at}"));
                // A hundred in a second.
                engine.advance(SECOND / 100);
            }
            resident()
        };
        let (first, second) = (round(1), round(2));
        println!("{what}: {first} pages after {MANY}, {second} after as many again");
        assert!(second < first + first / 20, "{what}");
    }
}

#[test]
fn the_source_that_ends_its_private_session_by_leaving_it_is_forgotten() {
    let engine = engine(settings());
    let pair = Pair { source: user("ann"), listener: user("ben") };
    let opening = opening(&engine, "pair", |_| {});
    let opening = Opening { kind: Kind::Private, ..opening };
    let opened = engine.open_private(opening, Private::of(pair, None, Vec::new()), true);
    let live = opened.expect("it opens").0.live;
    engine.join(&live, &user("ann"), Join::default()).expect("it is the source");
    let leave = Command::Leave { user: user("ann"), keep_role: false };
    engine.command(&live, &Actor::of(&user("ann")), leave).expect("it leaves");
    engine.advance(YEAR);
    assert_eq!(engine.footprint(), Footprint::default());
}
