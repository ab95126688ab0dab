//! Between a frame and those who are shown it.

use crate::stage::*;
use sessiond::{
    engine::{Delivery, End, Options, Query, Refusal, Step},
    session::{
        ban::Ban,
        command::{Actor, Command},
        revision::Revision,
        settings::{Durability, Setting},
    },
};
use std::{sync::mpsc, thread};

#[tokio::test]
async fn a_frame_of_a_sync_session_is_shown_to_nobody_before_it_is_stored() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Sync);
    stage.store().await;
    let mut reader = stage.watch(&live, Options::default());
    let mut listener =
        stage.watch(&live, Options { delivery: Delivery::All, ..Options::default() });
    stage.tick();
    stage.store().await;
    assert_eq!((steps(&mut reader).len(), steps(&mut listener).len()), (1, 1), "the snapshots");

    let position = stage.write(&live, "ada", 1.0).expect("it may");
    assert_eq!(position.revision, Revision(2), "it is promised at once");
    reader.want_tick();
    stage.tick();
    assert!(steps(&mut reader).is_empty() && steps(&mut listener).is_empty());
    assert!(at_once(stage.engine.shown(&live)).is_none(), "reads wait");
    assert!(at_once(stage.engine.framed(&live, position)).is_none(), "so do those for the frame");
    let mut newcomer = stage.watch(&live, Options::default());
    assert!(steps(&mut newcomer).is_empty(), "a first snapshot waits, too");
    assert_eq!(live.lock().revision(), Revision(1));
    assert_eq!(reader.position().revision, Revision(1));

    stage.store().await;
    assert!(matches!(*steps(&mut reader), [Step::Update(_)]));
    assert!(matches!(*steps(&mut listener), [Step::Update(_)]));
    assert!(matches!(*steps(&mut newcomer), [Step::Update(_)]));
    assert!(matches!(at_once(stage.engine.shown(&live)), Some(Ok(_))));
    assert_eq!(at_once(stage.engine.framed(&live, position)), Some(Ok(())));
    assert_eq!(live.lock().revision(), Revision(2));
}

#[tokio::test]
async fn ticks_that_fall_into_the_time_of_a_commit_are_merged() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Sync);
    stage.store().await;
    for x in 1..=5 {
        stage.write(&live, "ada", f64::from(x)).expect("it may");
        stage.tick();
    }
    assert_eq!(live.lock().core.revision(), Revision(2), "one frame is on its way");
    stage.store().await;
    stage.tick();
    assert_eq!(live.lock().core.revision(), Revision(3));
    assert_eq!(x_of(&live, "ada"), Some(5.0));
}

#[tokio::test]
async fn an_async_session_is_shown_at_once() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Async);
    let mut reader = stage.watch(&live, Options::default());
    assert_eq!(steps(&mut reader).len(), 1);
    stage.write(&live, "ada", 1.0).expect("it may");
    stage.tick();
    assert!(matches!(*steps(&mut reader), [Step::Update(_)]));
    stage.store().await;
}

#[tokio::test]
async fn whoever_waits_for_the_store_has_the_next_commit_come_at_once() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Async);
    stage.write(&live, "ada", 1.0).expect("it may");
    stage.tick();
    stage.store().await;
    stage.write(&live, "ada", 2.0).expect("it may");
    {
        let mut stored = std::pin::pin!(stage.engine.stored(&live));
        assert!(at_once(stored.as_mut()).is_none());
        stage.engine.advance(TICK);
        let urgent = at_once(stage.engine.kept_urgently());
        assert!(urgent.is_some(), "it does not wait for the interval");
    }
    stage.store().await;
    assert!(at_once(stage.engine.stored(&live)).is_some());
}

#[tokio::test]
async fn what_happens_to_nobody_in_a_frame_is_stored_too() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Sync);
    stage.store().await;
    // The user is not in the session: nobody is shown anything of the ban.
    let ban = Ban { reason: "cheats".into(), until: None };
    stage.command(&live, Command::Ban { target: user("eve"), ban });
    stage.tick();
    stage.store().await;
    let stage = stage.crash().await;
    let live = stage.find("race").expect("it is back");
    let bans = live.lock().core.bans(stage.engine.clock().now(), &Actor::App);
    assert_eq!(bans.len(), 1);
}

#[tokio::test]
async fn a_sync_session_is_listed_when_its_opening_is_stored_and_joined_before() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Sync);
    let listed = |stage: &Stage| {
        let mut found = 0;
        stage.engine.list((&app(), &Actor::App), Query::default(), None, |_| {
            found += 1;
            true
        });
        found
    };
    assert_eq!(listed(&stage), 0);
    stage.engine.join(&live, &user("ben"), join()).expect("it may");
    stage.store().await;
    assert_eq!(listed(&stage), 1);
}

#[tokio::test]
async fn a_listing_shows_what_is_stored() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Sync);
    stage.store().await;
    stage.command(&live, Command::Update(vec![Setting::Locked(true)]));
    stage.tick();
    assert!(!live.lock().outline().info().settings.locked);
    stage.store().await;
    assert!(live.lock().outline().info().settings.locked);
}

#[tokio::test]
async fn a_sync_session_comes_to_be_listed_when_the_frame_that_shows_it_so_is_stored() {
    let mut stage = Stage::new().await;
    let live = stage.open_with("race", |settings| {
        (settings.durability, settings.unlisted) = (Durability::Sync, true);
    });
    stage.tick();
    stage.store().await;
    let eve = Actor::of(&user("eve"));
    let listed = |stage: &Stage| {
        let mut found = 0;
        stage.engine.list((&app(), &eve), Query::default(), None, |state| {
            assert!(!state.outline().info().settings.unlisted, "it is shown as hidden");
            found += 1;
            true
        });
        found
    };
    stage.command(&live, Command::Update(vec![Setting::Unlisted(false)]));
    assert_eq!((listed(&stage), live.lock().is_visible_to(&eve)), (0, false), "no frame shows it");
    stage.tick();
    assert_eq!((listed(&stage), live.lock().is_visible_to(&eve)), (0, false), "it is in flight");
    stage.store().await;
    assert_eq!((listed(&stage), live.lock().is_visible_to(&eve)), (1, true));
    // Who may not see it any more does not from the update on.
    stage.command(&live, Command::Update(vec![Setting::Unlisted(true)]));
    assert_eq!((listed(&stage), live.lock().is_visible_to(&eve)), (0, false));
}

#[tokio::test]
async fn who_subscribes_to_a_sync_session_is_told_of_its_end_when_that_is_stored() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Sync);
    stage.store().await;
    let mut reader = stage.watch(&live, Options::default());
    assert_eq!(steps(&mut reader).len(), 1);
    stage.write(&live, "ada", 1.0).expect("it may");
    stage.tick();
    stage.write(&live, "ada", 2.0).expect("it may");
    stage.command(&live, Command::Delete);
    assert!(steps(&mut reader).is_empty());
    assert!(stage.find("race").is_none(), "its id is free at once");
    stage.store().await;
    let told = steps(&mut reader);
    assert!(matches!(*told, [Step::Update(_), Step::Ended(End::Deleted)]), "{told:?}");
    let stage = stage.crash().await;
    assert!(stage.find("race").is_none());
}

#[tokio::test]
async fn without_space_nothing_that_is_to_be_stored_is_taken_and_the_rest_goes_on() {
    let mut stage = Stage::new().await;
    let sync = stage.open("sync", Durability::Sync);
    let none = stage.open("none", Durability::None);
    stage.store().await;
    stage.log.set_room(Some(0));
    stage.write(&sync, "ada", 1.0).expect("nobody knows yet");
    stage.tick();
    {
        let mut storing = std::pin::pin!(stage.store());
        assert!(at_once(storing.as_mut()).is_none());
    }
    let read = at_once(stage.engine.shown(&sync)).map(|read| read.err());
    assert_eq!(read, Some(Some(Refusal::StoreFull)), "nobody knows how long the frame takes");
    stage.log.set_room(None);
    let refused = stage.write(&sync, "ada", 2.0);
    assert_eq!(refused, Err(Refusal::StoreFull));
    stage.write(&none, "ada", 2.0).expect("it is not stored");
}

#[tokio::test]
async fn a_durability_without_a_store_is_refused() {
    use sessiond::{
        engine::{Clock, Engine},
        grpc::encode::Wire,
        session::{Opening, settings::Kind},
    };
    let stage = Stage::new().await;
    let settings =
        sessiond::engine::EngineSettings { keeping: None, ..stage.engine.settings().clone() };
    let engine = Engine::new(settings, Clock::stepped(1), std::sync::Arc::new(Wire::default()));
    assert_eq!(engine.default_session().durability, Durability::None);
    for durability in [Durability::Async, Durability::Sync] {
        let mut settings = engine.default_session();
        settings.durability = durability;
        let opening = Opening::new(app(), id("race"), Kind::Room, settings);
        assert_eq!(engine.open(opening, false).err(), Some(Refusal::NoStore));
    }
}

#[tokio::test]
async fn a_session_that_somebody_always_holds_has_its_turn() {
    let mut stage = Stage::new().await;
    let live = stage.open("race", Durability::Sync);
    stage.store().await;
    let [eve, bob] = ["eve", "bob"].map(user);
    for target in [eve.clone(), bob.clone()] {
        let ban = Ban { reason: "".into(), until: None };
        stage.command(&live, Command::Ban { target, ban });
    }
    stage.tick();
    stage.store().await;
    let (engine, known) = (stage.engine.clone(), live.clone());
    let ((tell, told), (release, released)) = (mpsc::channel(), mpsc::channel());
    let holder = thread::spawn(move || {
        engine.pinned(|| {
            let unban = Command::Unban { target: eve };
            engine.command(&known, &Actor::App, unban).expect("it is accepted");
            tell.send(()).expect("it waits");
            released.recv().expect("it says so");
        });
    });
    told.recv().expect("it is held");
    stage.engine.pinned(|| stage.command(&live, Command::Unban { target: bob }));
    // Nothing is in the queue, and whoever stores is called all the same.
    assert!(at_once(stage.engine.to_be_kept()).is_some());
    let engine = stage.engine.clone();
    let cut = thread::spawn(move || engine.cut().map(|cut| cut.items.len()));
    release.send(()).expect("it waits");
    holder.join().expect("no panic");
    assert_eq!(cut.join().expect("no panic"), Some(1), "it waits for all that hold the session");
}
