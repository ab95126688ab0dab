//! States that are too large for one message: the old one or the new one, whole, whatever fails.

use super::{nats, proxy::Proxy};
use crate::support::*;
use bytes::Bytes;
use fastrand::Rng;
use sessiond::log::{
    Content, Log, MAX_SNAPSHOTS_BYTES, Reader, Seq, Snapshot, Writer,
    jetstream::{JetStreamLog, Settings},
};
use std::time::Duration;
use tokio::time::sleep;

/// A state that is known by its first byte.
fn state(name: u8, bytes: usize) -> Bytes {
    (0..bytes).map(|at| name.wrapping_add((at / 1000) as u8)).collect::<Vec<_>>().into()
}

fn of(key: &str, state: Bytes) -> Vec<Snapshot> {
    vec![Snapshot { key: key.to_owned().into(), state: Some(state) }]
}

#[tokio::test]
async fn a_large_state_is_read_as_it_was_stored() {
    let Some(server) = nats::shared() else { return };
    let log = nats::log(&server.url(), &nats::settings()).await;
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let sizes = [0, 1, 512 << 10, (512 << 10) + 1, 3 << 20, MAX_SNAPSHOTS_BYTES - 100, 17];
    for (round, size) in sizes.into_iter().enumerate() {
        let stored = state(round as u8, size);
        let seq = writer.snapshot(of("key", stored.clone())).await.expect("stored");
        let entries = everything(&log, PARTITION).await;
        assert_eq!(snapshots(&entries), [("key".into(), stored)], "{size} bytes");
        assert_eq!(entries.last().map(|entry| entry.seq), Some(seq));
    }
    writer.snapshot(of("key", state(1, 2 << 20))).await.expect("stored");
    writer.snapshot(vec![gone("key")]).await.expect("stored");
    assert!(snapshots(&everything(&log, PARTITION).await).is_empty());
}

#[tokio::test]
async fn a_reader_that_begins_in_the_middle_of_a_state_reads_all_of_it() {
    let Some(server) = nats::shared() else { return };
    let log = nats::log(&server.url(), &nats::settings()).await;
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    writer.append("before".into()).await.expect("stored");
    let stored = state(7, 2 << 20);
    let last = writer.snapshot(of("key", stored.clone())).await.expect("stored");
    assert_eq!(last, Seq(2 + 4));
    for from in 3..=6 {
        let mut reader = log.read(PARTITION, Seq(from));
        let entry = reader.next().await.expect("readable").expect("an entry");
        assert_eq!(entry.seq, last, "from {from}");
        assert!(matches!(entry.content, Content::Snapshot { state, .. } if state == stored));
        assert_eq!(reader.next().await.expect("readable"), None);
    }
}

/// The writer ends anywhere in the middle of it, for ever.
#[tokio::test]
async fn a_crash_between_pieces_leaves_the_old_state_or_the_new_one() {
    let Some(server) = nats::shared() else { return };
    let settings = Settings { patience: Duration::from_millis(300), ..nats::settings() };
    let log = nats::log(&server.url(), &settings).await;
    let mut random = Rng::with_seed(11);
    let mut current = state(0, 2 << 20);
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    writer.snapshot(of("key", current.clone())).await.expect("stored");
    let (mut olds, mut news) = (0, 0);
    for round in 1..=20 {
        let proxy = Proxy::to(&server.url()).await;
        let dying = nats::log(&proxy.url(), &settings).await;
        let mut writer = dying.claim(PARTITION, NODE).await.expect("a claim");
        let new = state(round, 2 << 20);
        // Four pieces, a little more than their bytes.
        let budget = if round % 4 == 0 { (2 << 20) + 4000 } else { random.u64(..(2 << 20) + 1000) };
        proxy.fail_after(budget);
        let outcome = writer.snapshot(of("key", new.clone())).await;
        drop((writer, dying, proxy));
        let found = snapshots(&everything(&log, PARTITION).await);
        let [(_, found)] = &found[..] else { panic!("round {round}: {} states", found.len()) };
        if *found == new {
            (current, news) = (new, news + 1);
        } else {
            assert!(*found == current, "round {round}: a mixture");
            assert!(outcome.is_err(), "round {round}: it was acked");
            olds += 1;
        }
    }
    assert!(olds > 0 && news > 0, "{olds} old, {news} new");
}

/// The server ends anywhere in the middle of it, and comes back. It may have forgotten then that it has
/// removed what was there before.
#[tokio::test]
async fn a_server_killed_between_pieces_leaves_the_old_state_or_the_new_one() {
    let Some(mut server) = nats::Server::start() else { return };
    let settings = Settings { patience: Duration::from_secs(10), ..nats::settings() };
    let log = nats::log(&server.url(), &settings).await;
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let mut random = Rng::with_seed(13);
    for round in 0..rounds() {
        let (a, b) = (state(round as u8, 3 << 20), state(round as u8 + 100, 3 << 20));
        writer.snapshot(of("key", a.clone())).await.expect("stored");
        assert_eq!(latest(&log).await, Some(a), "round {round}");
        let next = match round % 3 {
            0 => vec![gone("key")],
            1 => [of("other", b.clone()), of("key", b.clone())].concat(),
            _ => of("key", b.clone()),
        };
        let pause = Duration::from_micros(random.u64(..25_000));
        let kill = async {
            sleep(pause).await;
            let restarted = tokio::task::spawn_blocking(move || {
                server.restart();
                server
            });
            restarted.await.expect("it is back")
        };
        let (stored, back) = tokio::join!(writer.snapshot(next), kill);
        server = back;
        stored.expect("stored when it is back");
        let expected = (round % 3 != 0).then_some(b);
        assert!(latest(&log).await == expected, "round {round}");
        if round % 4 == 3 {
            writer = log.claim(PARTITION, NODE).await.expect("a claim");
        }
    }
    assert_eq!(log.counters().lost_entries, 0);
}

/// More for those who have the time.
fn rounds() -> u64 {
    std::env::var("NATS_KILLS").map_or(9, |it| it.parse().expect("a number"))
}

/// The state that a reader ends with. It may have been shown an earlier one, but never another after
/// that.
async fn latest(log: &JetStreamLog) -> Option<Bytes> {
    let found = snapshots(&everything(log, PARTITION).await);
    found.into_iter().rfind(|(key, _)| key == "key").map(|(_, state)| state)
}
