//! Streams that open while a frame of a SYNC session waits for the store.

use crate::support::*;
use sessiond::{
    config::Config,
    engine::Engine,
    proto::{Durability, SessionSettings, SnapshotReason},
};
use std::{
    path::Path,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

const HEARTBEAT: u64 = 15_000;

/// A service with a store.
async fn storing() -> Service {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name =
        format!("held-back-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    Service::start_with(|config: &mut Config| config.store = Some(folder)).await
}

/// A store that stores nothing more until this is dropped.
struct Held(Option<(mpsc::Sender<()>, thread::JoinHandle<()>)>);

impl Held {
    fn new(engine: &Engine) -> Self {
        let engine = engine.clone();
        let ((release, released), (begin, begun)) = (mpsc::channel(), mpsc::channel());
        let holds = move || {
            engine.pinned(|| {
                let _ = begin.send(());
                let _ = released.recv();
            });
        };
        let thread = thread::spawn(holds);
        begun.recv().expect("it holds");
        Self(Some((release, thread)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((release, thread)) = self.0.take() {
            drop(release);
            let _ = thread.join();
        }
    }
}

/// Rooms whose frames wait for the store, each with a host and ada.
async fn rooms(service: &Service, names: &[&str]) {
    for name in names {
        let settings =
            SessionSettings { durability: Durability::Sync.into(), ..Default::default() };
        service.open_room_with(name, "host", settings).await;
        service.join(name, "ada").await;
    }
    service.tick();
}

/// Every room has a frame that waits.
async fn hold(service: &Service, names: &[&str]) -> Held {
    let held = Held::new(service.engine());
    for name in names {
        service.set_in(name, "host", [("x", int(1))]).await;
    }
    service.engine().advance(TICK * 1000);
    assert!(!service.engine().is_all_shown(), "it is held");
    held
}

/// The store goes on, until all frames are shown.
fn release(service: &Service, held: Held) {
    drop(held);
    while !service.engine().is_all_shown() {
        thread::sleep(Duration::from_millis(1));
        // What came meanwhile may have to be framed first.
        service.engine().advance(TICK * 1000);
    }
    service.tick();
}

#[tokio::test]
async fn a_stream_that_has_nothing_to_show_yet_says_that_it_is_alive() {
    let names = ["a", "b"];
    let service = storing().await;
    rooms(&service, &names).await;
    let mut known = service.watch("a", "ada").await.rebuilt;
    let held = hold(&service, &names).await;

    let mut one = service.open_watcher(subscription("a", "ada"), Rebuilt::default()).await;
    let mut resumed = service.resume(subscription("a", "ada"), &known).await;
    let mut several = service.open_several(several_open("ada", &names)).await;
    let mut all = service.receive_with(receiving("ada")).await;
    for _ in 0..2 {
        assert!(one.glance().await.is_none() && resumed.glance().await.is_none());
        assert!(several.glance().await.is_none() && all.glance().await.is_none());
        service.engine().advance(HEARTBEAT * 1000);
        assert_eq!(one.next_heartbeat().await, 0);
        assert_eq!(resumed.next_heartbeat().await, known.revision);
        for beat in [several.next().await, all.next().await] {
            assert_eq!(beat.sessions(), names, "each says so");
            assert_eq!(
                (beat.step("a"), beat.step("b")),
                (&Step::Heartbeat(0), &Step::Heartbeat(0))
            );
        }
    }

    release(&service, held);
    assert_eq!(one.next_snapshot().await, SnapshotReason::First);
    assert!(resumed.next_span().await.1 > known.revision, "what was held back");
    let x = shown([("x", int(1))]);
    let shows = |copy: &Rebuilt| copy.knows("host") && copy.props("host") == x;
    several.tick_until(&service, |it| names.iter().all(|name| shows(it.copy(name)))).await;
    all.tick_until(&service, |it| names.iter().all(|name| shows(it.copy(name)))).await;
    known = one.rebuilt;
    assert_eq!(known.props("host"), x);
    assert_eq!((&*one.user_id, &*several.user_id), ("ada", "ada"), "the first message says it");
}

#[tokio::test]
async fn what_can_be_shown_does_not_wait_for_what_is_held_back() {
    let names = ["a", "b"];
    let service = storing().await;
    rooms(&service, &names).await;
    let settings = SessionSettings { durability: Durability::None.into(), ..Default::default() };
    service.open_room_with("kept nowhere", "host", settings).await;
    service.join("kept nowhere", "ada").await;
    service.tick();
    let held = hold(&service, &names).await;
    let mut several = service.open_several(several_open("ada", &["a", "kept nowhere"])).await;
    let first = several.next().await;
    assert_eq!(first.sessions(), ["kept nowhere"], "what can be shown is");
    service.engine().advance(HEARTBEAT * 1000);
    let beat = several.next().await;
    assert_eq!(beat.step("a"), &Step::Heartbeat(0));
    assert!(matches!(beat.step("kept nowhere"), Step::Heartbeat(1..)), "{beat:?}");
    release(&service, held);
    assert_eq!(several.next().await.step("a"), &Step::Snapshot(SnapshotReason::First));
}
