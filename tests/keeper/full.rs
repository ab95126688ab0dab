//! A store that has little space, or none.

use crate::stage::*;
use sessiond::{
    engine::{End, Options, Refusal, Step, Unstored},
    keeper::Finish,
    log::space::{FLOOR, RESERVE},
    session::{
        command::{Actor, Command, Cost},
        revision::Revision,
        settings::Durability,
        value::Value,
    },
};
use tokio::task::yield_now;

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn what_was_accepted_before_the_store_was_full_is_stored_and_later_writes_are_refused() {
    let mut stage = Stage::new().await;
    let sync = stage.open("sync", Durability::Sync);
    let ended = stage.open("async", Durability::Async);
    stage.engine.join(&sync, &user("ben"), join()).expect("it may");
    stage.store().await;
    stage.log.set_room(Some(RESERVE));
    stage.write(&sync, "ada", 1.0).expect("nobody knows yet");
    stage.tick();
    stage.store().await;
    assert!(!live_is_in_flight(&stage, "sync"));
    assert_eq!(stage.write(&sync, "ada", 2.0), Err(Refusal::StoreFull));
    // What only takes away is done.
    let ben = Actor::of(&user("ben"));
    let leave = Command::Leave { user: user("ben"), keep_role: false };
    stage.engine.command(&sync, &ben, leave).expect("it gives a place up");
    stage.command(&ended, Command::Delete);
    stage.tick();
    stage.store().await;
    let stage = stage.crash().await;
    let sync = stage.find("sync").expect("it is back");
    assert_eq!(x_of(&sync, "ada"), Some(1.0));
    assert_eq!(sync.lock().core.members().joined().count(), 1);
    assert!(stage.find("async").is_none());
}

#[tokio::test]
async fn a_full_store_makes_room_and_takes_writes_again() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Async);
    stage.store().await;
    stage.log.set_room(Some(RESERVE + 6 * MIB));
    fill(&mut stage, "race").await;
    assert_eq!(stage.write(&live, "ada", 1.0), Err(Refusal::StoreFull));
    for _ in 0..3 {
        stage.mind_space().await;
    }
    stage.write(&live, "ada", 1.0).expect("there is space again");
    stage.engine.advance(INTERVAL);
    stage.store().await;
    let stage = stage.crash().await;
    assert_eq!(x_of(&stage.find("race").expect("it is back"), "ada"), Some(1.0));
}

#[tokio::test]
async fn a_deletion_makes_room_in_a_store_that_is_full_of_sessions() {
    let mut stage = Stage::new().await;
    let names = ["a", "b", "c"];
    for name in names {
        stage.open(name, Durability::Async);
    }
    stage.store().await;
    stage.log.set_room(Some(RESERVE + 6 * MIB));
    for name in names.iter().cycle().take(30) {
        fill_with(&mut stage, name, 200).await;
    }
    for _ in 0..5 {
        stage.mind_space().await;
    }
    let live = stage.find("c").expect("it is there");
    assert_eq!(stage.write(&live, "ada", 1.0), Err(Refusal::StoreFull), "the state takes it all");
    for name in ["a", "b"] {
        stage.command(&stage.find(name).expect("it is there"), Command::Delete);
    }
    stage.store().await;
    for _ in 0..5 {
        stage.mind_space().await;
    }
    stage.write(&live, "ada", 1.0).expect("there is space again");
}

#[tokio::test]
async fn deletions_leave_space_for_what_happens_anyway() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Async);
    let short = stage.open_with("short", |settings| settings.max_age = INTERVAL);
    stage.store().await;
    stage.log.set_room(Some(2 * FLOOR));
    stage.mind_space().await;
    let delete = stage.engine.command(&live, &Actor::App, Command::Delete);
    assert_eq!(delete, Err(Refusal::StoreFull));
    stage.engine.advance(2 * INTERVAL);
    assert!(short.lock().core.has_ended());
    stage.store().await;
    let stage = stage.crash().await;
    assert!(stage.find("short").is_none() && stage.find("race").is_some());
}

#[tokio::test]
async fn without_any_space_readers_of_what_waits_are_told() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Sync);
    let ending = stage.open("ending", Durability::Sync);
    stage.store().await;
    let mut reader = stage.watch(&live, Options::default());
    let mut last = stage.watch(&ending, Options::default());
    assert_eq!((steps(&mut reader).len(), steps(&mut last).len()), (1, 1));
    stage.log.set_room(Some(0));
    let position = stage.write(&live, "ada", 1.0).expect("nobody knows yet");
    stage.command(&ending, Command::Delete);
    stage.tick();
    assert_eq!(stage.engine.check_shows_soon(&live), Ok(()));
    assert!(at_once(stage.store()).is_none());
    assert_eq!(stage.engine.check_shows_soon(&live), Err(Refusal::StoreFull));
    let read = at_once(stage.engine.framed(&live, position));
    assert_eq!(read, Some(Err(Refusal::StoreFull)));

    stage.engine.drain();
    assert!(steps(&mut reader).is_empty(), "the frame may still come");
    stage.engine.give_up_storing();
    for reader in [&mut reader, &mut last] {
        let told = steps(reader);
        assert!(matches!(*told, [Step::Ended(End::Draining)]), "{told:?}");
        assert_eq!(reader.position().revision, Revision(1), "it was shown no more");
    }
}

#[tokio::test]
async fn a_log_that_does_not_answer_is_not_full() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Sync);
    stage.store().await;
    let position = stage.write(&live, "ada", 1.0).expect("it may");
    stage.tick();
    stage.log.lose_replies(4);
    let engine = stage.engine.clone();
    let meanwhile = async {
        for number in 0..20 {
            engine.advance(125_000);
            yield_now().await;
            assert_eq!(engine.check_space_for(Cost::More), Ok(()));
            assert_eq!(engine.check_shows_soon(&live), Ok(()));
            let framed = at_once(engine.framed(&live, position));
            assert!(number >= 4 || framed.is_none(), "it is not known to be stored");
        }
    };
    tokio::join!(stage.store(), meanwhile);
    assert_eq!(at_once(stage.engine.framed(&live, position)), Some(Ok(())));
}

#[tokio::test]
async fn a_stop_without_an_answer_says_what_is_not_stored() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Sync);
    stage.store().await;
    stage.write(&live, "ada", 1.0).expect("it may");
    stage.tick();
    stage.engine.drain();
    stage.log.lose_replies(u32::MAX);
    let (engine, finish) = stage.stop_without_space().await;
    assert_eq!(finish, Finish::Unstored { streams: false });
    assert_eq!(engine.unstored(), Unstored { sessions: vec![(app(), id("race"))], users: 0 });
}

#[tokio::test]
async fn a_stop_without_space_says_what_is_not_stored() {
    let mut stage = Stage::new().await;
    let (race, ending) =
        (stage.open("race", Durability::Sync), stage.open("end", Durability::Sync));
    stage.open("stored", Durability::Sync);
    stage.store().await;
    stage.log.set_room(Some(0));
    stage.write(&race, "ada", 1.0).expect("nobody knows yet");
    stage.command(&ending, Command::Delete);
    stage.tick();
    stage.engine.drain();
    let (engine, finish) = stage.stop_without_space().await;
    assert_eq!(finish, Finish::Unstored { streams: false });
    let sessions = vec![(app(), id("race")), (app(), id("end"))];
    assert_eq!(engine.unstored(), Unstored { sessions, users: 0 });
}

#[tokio::test]
async fn a_stop_with_a_full_store_takes_of_the_reserve() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Async);
    stage.store().await;
    stage.log.set_room(Some(RESERVE));
    stage.write(&live, "ada", 1.0).expect("nobody knows yet");
    let stage = stage.stop().await;
    assert_eq!(x_of(&stage.find("race").expect("it is back"), "ada"), Some(1.0));
}

fn live_is_in_flight(stage: &Stage, name: &str) -> bool {
    let live = stage.find(name).expect("it is there");
    at_once(stage.engine.shown(&live)).is_none()
}

/// Writes over the same key until that is refused.
async fn fill(stage: &mut Stage, name: &str) {
    for _ in 0..1000 {
        if !fill_once(stage, name, "big").await {
            return;
        }
    }
    panic!("it is never full");
}

/// Writes so many keys, as far as that is not refused.
async fn fill_with(stage: &mut Stage, name: &str, keys: usize) {
    for key in 0..keys {
        if !fill_once(stage, name, &format!("key-{key}")).await {
            return;
        }
    }
}

async fn fill_once(stage: &mut Stage, name: &str, key: &str) -> bool {
    let live = stage.find(name).expect("it is there");
    // Another one each time.
    let now = stage.engine.clock().now();
    let big = Value::Text(format!("{now:0>16000}").into());
    let is_taken = stage.write_value(&live, "ada", key, big).is_ok();
    stage.engine.advance(INTERVAL);
    stage.store().await;
    is_taken
}
