//! What the store on a disk costs: `cargo test --release --test log measure -- --ignored
//! --nocapture`.

use super::support::*;
use bytes::Bytes;
use sessiond::log::{
    Log, Reader, Seq, Snapshot, Writer,
    redb::{Options, RedbLog},
};
use std::time::{Duration, Instant};

#[tokio::test]
#[ignore = "it measures"]
async fn measure_commits() {
    for (bytes, count) in [(4 << 10, 2000), (64 << 10, 1000), (768 << 10, 200)] {
        let folder = Folder::new();
        let log = RedbLog::open(folder.path(), Options::default()).expect("a new store");
        let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
        let batch = Bytes::from(vec![7; bytes]);
        let mut times = Vec::new();
        for number in 0..count {
            let started = Instant::now();
            let seq = writer.append(batch.clone()).await.expect("stored");
            times.push(started.elapsed());
            if number % 500 == 499 {
                writer.trim(seq).await.expect("trimmed");
            }
        }
        let (p50, p99) = percentiles(times);
        let counters = log.counters();
        println!("{bytes} B: commit p50 {p50:?} p99 {p99:?}, {} B on disk", counters.disk_bytes);
    }
}

#[tokio::test]
#[ignore = "it measures"]
async fn measure_snapshots() {
    const COUNT: usize = 100_000;
    let folder = Folder::new();
    let log = RedbLog::open(folder.path(), Options::default()).expect("a new store");
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let state = Bytes::from(vec![7; 1024]);
    for round in 0..3 {
        for at_once in [100, 1000, 10_000] {
            let started = Instant::now();
            let mut times = Vec::new();
            for piece in 0..COUNT / at_once {
                let key =
                    |it: usize| format!("app/session-{:08}", (piece * at_once + it) * 7919 % COUNT);
                let snapshot = |it| Snapshot { key: key(it).into(), state: Some(state.clone()) };
                let started = Instant::now();
                writer.snapshot((0..at_once).map(snapshot).collect()).await.expect("stored");
                times.push(started.elapsed());
            }
            let all = started.elapsed();
            let (p50, p99) = percentiles(times);
            println!(
                "round {round}: {COUNT} snapshots, {at_once} at once: {all:?}, each call p50 {p50:?} p99 {p99:?}"
            );
        }
    }
    let counters = log.counters();
    println!("{} B used as estimated, {} B on disk", counters.used_bytes, counters.disk_bytes);
    drop((writer, log));
    let started = Instant::now();
    let log = RedbLog::open(folder.path(), Options::default()).expect("the store");
    let opened = started.elapsed();
    let mut reader = log.read(PARTITION, Seq::START);
    let mut count = 0;
    while reader.next().await.expect("readable").is_some() {
        count += 1;
    }
    println!("opened in {opened:?}, {count} entries read {:?} later", started.elapsed() - opened);
    let started = Instant::now();
    log.compact().await.expect("compacted");
    println!("compacted in {:?}", started.elapsed());
    drop(reader);
    drop(log);
    let log = RedbLog::open(folder.path(), Options::default()).expect("the store");
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    writer.append("more".into()).await.expect("stored");
    println!("{} B on disk", log.counters().disk_bytes);
}

fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}
