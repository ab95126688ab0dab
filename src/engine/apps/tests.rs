use super::*;
use crate::{
    engine::{
        Engine, Options, UserStream,
        testing::{Dice, IDS, USERS, act, app, engine, opening, room, settings, user},
    },
    session::{
        Opening,
        command::{Actor, Command, Join},
        ids::SessionId,
    },
};

fn limited(limits: AppLimits) -> Engine {
    let engine = engine(settings());
    engine.limit_apps(AppsSettings { others: limits, named: HashMap::new() });
    engine
}

fn one(limit: AppLimit, most: u64) -> AppLimits {
    AppLimits::default().with(limit, most)
}

fn refusal(limit: AppLimit, most: u64, retry_after: Option<Micros>) -> Refusal {
    Refusal::AppLimit { app: app(), limit, most, retry_after }
}

/// What there is of an app: sessions, users, members. It looks at all of it.
fn recount(engine: &Engine) -> [usize; 3] {
    let sessions = engine.inner.registry.all();
    let members = sessions.iter().map(|live| live.lock().core.members().joined_count()).sum();
    let footprint = engine.inner.registry.footprint();
    [footprint.sessions, footprint.users, members]
}

fn counted(engine: &Engine) -> [usize; 3] {
    let app = engine.app(&app());
    [AppLimit::Sessions, AppLimit::Users, AppLimit::Members].map(|limit| app.count(limit))
}

/// One thing that somebody does about what is counted, beside [`act`].
fn come_and_go(engine: &Engine, dice: &mut Dice, streams: &mut Vec<UserStream>) {
    let (who, id) = (user(USERS[dice.of(USERS.len())]), IDS[dice.of(IDS.len())]);
    let key = SessionId::new(id).expect("an id");
    match dice.of(8) {
        0 => streams.extend(engine.user_stream(&app(), &who)),
        1 if !streams.is_empty() => drop(streams.swap_remove(dice.of(streams.len()))),
        // A user who subscribed is lost, and what ends by time ends.
        2 => engine.advance((1 + dice.of(30) as Micros) * SECOND),
        3 => engine.advance(10_000),
        4 => {
            let Some(live) = engine.inner.registry.session(&app(), &key) else { return };
            let actor = Actor::of(&who);
            let _ = engine.subscribe(&live, &actor, Some(Join::default()), Options::default());
        }
        5 => {
            let opening = opening(engine, id, |settings| {
                settings.exclusive = true;
                settings.empty_ttl = 5 * SECOND;
            });
            let join = Join { moves: true, ..Join::default() };
            let _ = engine.open(Opening { opener: Some((who, join)), ..opening }, true);
        }
        _ => act(engine, dice),
    }
}

#[test]
fn what_ends_gives_back_what_it_had_and_no_counter_is_ever_above_its_limit() {
    for seed in 1..=40 {
        let limits = match seed % 4 {
            0 => AppLimits::default(),
            1 => one(AppLimit::Sessions, 3),
            2 => one(AppLimit::Users, 3),
            _ => one(AppLimit::Members, 5),
        };
        let engine = limited(limits);
        let (mut dice, mut streams) = (Dice(seed * 7919), Vec::new());
        for step in 0..400 {
            come_and_go(&engine, &mut dice, &mut streams);
            assert_eq!(counted(&engine), recount(&engine), "seed {seed}, step {step}");
            let all = [AppLimit::Sessions, AppLimit::Users, AppLimit::Members];
            for (count, limit) in counted(&engine).into_iter().zip(all) {
                let most = limits.most(limit).unwrap_or(u64::MAX);
                assert!(count as u64 <= most, "seed {seed}, step {step}: {count} {limit:?}");
            }
        }
        streams.clear();
        for live in engine.inner.registry.all() {
            let _ = engine.command(&live, &Actor::App, Command::Delete);
        }
        engine.advance(3600 * SECOND);
        assert_eq!(counted(&engine), [0; 3], "seed {seed}");
    }
}

#[test]
fn each_limit_lets_one_below_through_and_refuses_one_above() {
    let engine = limited(one(AppLimit::Sessions, 2));
    room(&engine, "a", |_| {});
    room(&engine, "b", |_| {});
    let third = engine.open(opening(&engine, "c", |_| {}), false).expect_err("there are two");
    assert_eq!(third, refusal(AppLimit::Sessions, 2, None));
    assert_eq!(engine.inner.registry.footprint().sessions, 2);

    let engine = limited(one(AppLimit::Users, 2));
    let _streams = ["ada", "ben"].map(|id| engine.user_stream(&app(), &user(id)).expect("room"));
    let third = engine.user_stream(&app(), &user("cat")).expect_err("there are two");
    assert_eq!(third, refusal(AppLimit::Users, 2, None));
    engine.user_stream(&app(), &user("ben")).expect("it is known");

    let engine = limited(one(AppLimit::Members, 3));
    let (a, b) = (room(&engine, "a", |_| {}), room(&engine, "b", |_| {}));
    for (live, id) in [(&a, "ada"), (&b, "ada"), (&b, "ben")] {
        engine.join(live, &user(id), Join::default()).expect("there is room");
    }
    let fourth = engine.join(&a, &user("ben"), Join::default()).expect_err("there are three");
    assert_eq!(fourth, refusal(AppLimit::Members, 3, None));
    engine.join(&a, &user("ada"), Join::default()).expect("it is in already");
    let leave = Command::Leave { user: user("ben"), keep_role: false };
    engine.command(&b, &Actor::of(&user("ben")), leave).expect("it leaves");
    engine.join(&a, &user("ben"), Join::default()).expect("there is room again");
}

#[test]
fn a_limit_that_is_lowered_takes_nothing_away_and_lets_nothing_more_in() {
    let engine = limited(AppLimits::default());
    let lives = ["a", "b", "c"].map(|id| room(&engine, id, |_| {}));
    for live in &lives {
        engine.join(live, &user("ada"), Join::default()).expect("there is no limit");
    }
    let others = one(AppLimit::Sessions, 1).with(AppLimit::Members, 2);
    engine.limit_apps(AppsSettings { others, named: HashMap::new() });
    assert_eq!(counted(&engine), [3, 1, 3]);
    assert!(engine.open(opening(&engine, "d", |_| {}), false).is_err());
    assert!(engine.join(&lives[0], &user("ben"), Join::default()).is_err());
    for live in &lives {
        engine.join(live, &user("ada"), Join::default()).expect("it is in already");
    }
    for live in &lives[..2] {
        engine.command(live, &Actor::App, Command::Delete).expect("it may go");
    }
    engine.join(&lives[2], &user("ben"), Join::default()).expect("there is room again");
}

#[test]
fn who_moves_within_an_app_that_is_full_of_members_may() {
    let engine = limited(one(AppLimit::Members, 1));
    let exclusive = |id| room(&engine, id, |settings| settings.exclusive = true);
    let (a, b) = (exclusive("a"), exclusive("b"));
    engine.join(&a, &user("ada"), Join::default()).expect("there is room");
    let moves = Join { moves: true, ..Join::default() };
    engine.join(&b, &user("ada"), moves).expect("it leaves the other one");
    assert_eq!(counted(&engine), [1, 1, 1], "the other one ends without members");
    assert!(engine.join(&b, &user("ben"), Join::default()).is_err());
}

#[test]
fn each_app_has_the_limits_of_its_name() {
    let engine = engine(settings());
    let named = [(app(), one(AppLimit::Sessions, 1))].into();
    engine.limit_apps(AppsSettings { others: AppLimits::default(), named });
    room(&engine, "a", |_| {});
    assert!(engine.open(opening(&engine, "b", |_| {}), false).is_err());
    let other = AppId::new("other").expect("an id");
    for id in ["a", "b"] {
        let opening = Opening { app: other.clone(), ..opening(&engine, id, |_| {}) };
        engine.open(opening, false).expect("it has no limit");
    }
    assert_eq!(engine.app(&other).count(AppLimit::Sessions), 2);
}

#[test]
fn apps_that_nobody_holds_are_forgotten_and_those_that_owe_something_are_not() {
    let engine = limited(one(AppLimit::Calls, 10));
    let owes = engine.app(&app());
    owes.spend(AppLimit::Calls, engine.clock().now(), 1000);
    drop(owes);
    for number in 0..10_000 {
        engine.app(&AppId::new(&format!("app {number}")).expect("an id"));
    }
    assert!(engine.inner.apps.apps.len() <= 4 * UNHELD, "{}", engine.inner.apps.apps.len());
    let now = engine.clock().now();
    assert!(engine.app(&app()).owed(AppLimit::Calls, now) > 0);
}

#[test]
fn updates_over_the_rate_of_the_app_have_their_turns_one_after_the_other() {
    let engine = limited(one(AppLimit::Updates, 10));
    let streams = USERS.map(|id| engine.user_stream(&app(), &user(id)).expect("room"));
    for _ in 0..10 {
        streams[0].take_update().expect("a second's worth is there");
    }
    let now = || engine.clock().now();
    for (at, stream) in streams.iter().enumerate() {
        let wait = (1 + at as Micros) * SECOND / 10;
        let limited = refusal(AppLimit::Updates, 10, Some(wait));
        assert_eq!(stream.take_update_in_turn(now()), Err(limited.clone()), "{at}");
        assert_eq!(stream.take_update_in_turn(now()), Err(limited), "it has its turn: {at}");
    }
    assert!(streams[0].take_update().is_err(), "nobody comes before those who wait");
    for stream in &streams {
        engine.advance(SECOND / 10);
        stream.take_update_in_turn(now()).expect("its turn has come");
    }
    engine.limit_apps(AppsSettings::default());
    streams[0].take_update_in_turn(now()).expect("there is no limit any more");
}
