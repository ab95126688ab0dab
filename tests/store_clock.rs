//! A clock that was set back while nobody served: no history gets an epoch that was used, and what was stored is
//! there.

use sessiond::{
    engine::{Clock, Engine, EngineSettings, KeepingSettings, SessionKey},
    grpc::encode::Wire,
    keeper::{self, Keeper, KeeperOptions},
    log::{NodeId, memory::MemoryLog},
    session::{
        Opening,
        ban::Ban,
        command::{Actor, Command, Write},
        epoch::Epoch,
        ids::{AppId, SessionId, UserId},
        limits::{Limits, Micros, SECOND},
        settings::{Durability, Kind},
        value::Value,
    },
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

const BEGIN: Micros = 1_800_000_000 * SECOND;
const DAY: Micros = 86_400 * SECOND;

/// How long each server serves.
const SERVED: Micros = 20 * SECOND;

fn engine(now: Micros) -> Engine {
    let keeping = KeepingSettings { interval: 200_000, durability: Durability::Async };
    let settings = EngineSettings {
        max_replay_bytes: 1024 * 1024,
        keeping: Some(keeping),
        shards: 1,
        tick: 10_000,
        user_ttl: SECOND,
        max_sessions: 100,
        max_users: 100,
        max_sessions_per_user: 100,
        max_listeners_per_user: 100,
        max_logs_bytes: 1 << 20,
        events: Default::default(),
        max_updates_per_second: 100,
        max_changes_per_second: 1_000_000,
        limits: Limits::default(),
        judged: Default::default(),
    };
    Engine::new(settings, Clock::stepped(now), Arc::new(Wire::default()))
}

/// Opens what a log holds, has it changed, and ends without a word, or in peace.
async fn serve(log: &MemoryLog, now: Micros, is_clean: bool, change: impl FnOnce(&Engine)) {
    let engine = engine(now);
    let limits = Arc::new(Limits::default());
    let (writer, loaded) = keeper::open(log, NodeId(now), &limits).await.expect("it opens");
    let options = KeeperOptions {
        interval: Duration::from_millis(10),
        batch_bytes: 1 << 20,
        sign_of_life: None,
    };
    let mut keeper = Keeper::new(engine.clone(), None, writer, loaded, options);
    keeper.begin().await.expect("it begins");
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(keeper.run(stop.clone()));
    change(&engine);
    // Frames are made, and the keeper's turn comes in between.
    for _ in 0..SERVED / SECOND {
        engine.advance(SECOND);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    engine.store_everything().await;
    if is_clean {
        stop.cancel();
        keeping.await.expect("it ends").expect("it stores");
    } else {
        keeping.abort();
    }
}

fn open(engine: &Engine, id: &str, durability: Durability) -> Epoch {
    let mut settings = engine.default_session();
    settings.durability = durability;
    settings.empty_ttl = 10 * DAY;
    let id = SessionId::new(id).expect("an id");
    let opening = Opening::new(app(), id, Kind::Room, settings);
    let live = engine.open(opening, false).expect("it is free").0.live;
    let ban = Ban { reason: "".into(), until: Some(engine.clock().now() + 2 * DAY) };
    let command = Command::Ban { target: UserId::new("mallory").expect("an id"), ban };
    engine.command(&live, &Actor::App, command).expect("the app may");
    live.lock().core.epoch()
}

fn epoch(engine: &Engine, id: &str) -> Epoch {
    let key = SessionKey::Id(SessionId::new(id).expect("an id"));
    let live = engine.find(&app(), Some(&key), &Actor::App).expect("it is back");
    let state = live.lock();
    assert_eq!(state.core.bans(engine.clock().now(), &Actor::App).len(), 1, "the ban holds");
    state.core.epoch()
}

fn app() -> AppId {
    AppId::new("app").expect("an id")
}

#[tokio::test]
async fn however_often_a_server_crashes_epochs_stay_near_the_clock() {
    let log = MemoryLog::default();
    let (mut now, mut last) = (BEGIN, Epoch::default());
    serve(&log, now, false, |engine| last = open(engine, "async", Durability::Async)).await;
    for _ in 0..20 {
        now += SERVED + SECOND;
        serve(&log, now, false, |engine| {
            let again = epoch(engine, "async");
            assert!(again > last, "{again:?} after {last:?}");
            assert!(again.0 < now + 15 * SECOND, "{again:?} at {now}");
            last = open(engine, "new", Durability::None).max(again);
        })
        .await;
    }
}

#[tokio::test]
async fn after_a_clock_went_back_by_a_day_epochs_still_rise() {
    let log = MemoryLog::default();
    let mut first = Vec::new();
    serve(&log, BEGIN, false, |engine| {
        first.push(open(engine, "sync", Durability::Sync));
        first.push(open(engine, "async", Durability::Async));
    })
    .await;
    let greatest = *first.iter().max().expect("two");
    serve(&log, BEGIN - DAY, false, |engine| {
        assert_eq!(epoch(engine, "sync"), first[0], "a SYNC session goes on");
        let again = epoch(engine, "async");
        assert!(again > greatest, "{again:?} after {greatest:?}");
        let new = open(engine, "new", Durability::None);
        assert!(new > again, "{new:?} after {again:?}");
        first.push(again);
    })
    .await;
    serve(&log, BEGIN - 2 * DAY, true, |engine| {
        assert!(epoch(engine, "async") > first[2]);
    })
    .await;
    serve(&log, BEGIN - 3 * DAY, false, |engine| {
        assert_eq!(epoch(engine, "sync"), first[0]);
        assert!(epoch(engine, "async") > first[2], "after a clean end it goes on");
    })
    .await;
}

#[tokio::test]
async fn after_a_clock_went_back_what_is_written_is_shown_with_the_next_tick() {
    for is_clean in [true, false] {
        let log = MemoryLog::default();
        let ids = [("sync", Durability::Sync), ("async", Durability::Async)];
        serve(&log, BEGIN, is_clean, |engine| {
            for (id, durability) in ids {
                open(engine, id, durability);
            }
        })
        .await;
        serve(&log, BEGIN - 10 * SECOND, true, |engine| {
            for (id, _) in ids {
                let key = SessionKey::Id(SessionId::new(id).expect("an id"));
                let live = engine.find(&app(), Some(&key), &Actor::App).expect("it is back");
                let before = live.lock().core.revision();
                let shared = Write::of(vec![("x".into(), Value::Flag(true))]);
                let write = Command::SetData { shared, private: Write::default(), term: 0 };
                engine.command(&live, &Actor::App, write).expect("the app may");
                engine.advance(SECOND);
                assert!(live.lock().core.revision() > before, "{id}, clean: {is_clean}");
            }
        })
        .await;
    }
}
