//! What the log on JetStream costs: `cargo test --release --test log jetstream::measure -- --ignored
//! --nocapture --test-threads 1`.

use super::{
    nats::{self, Server, Three},
    three,
};
use crate::support::*;
use bytes::Bytes;
use sessiond::log::{
    Log, Reader, Seq, Snapshot, Writer,
    jetstream::{JetStreamLog, Settings},
};
use std::time::{Duration, Instant};

const KEYS: usize = 100_000;

async fn measure(name: &str, log: &JetStreamLog) {
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    for bytes in [4 << 10, 64 << 10, 768 << 10] {
        let batch = Bytes::from(vec![7; bytes]);
        let mut times = Vec::new();
        let mut last = Seq::START;
        for _ in 0..(200 << 20) / bytes.max(100 << 10) / 2 {
            let started = Instant::now();
            last = writer.append(batch.clone()).await.expect("stored");
            times.push(started.elapsed());
        }
        times.sort();
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!("{name}: append of {bytes} B p50 {p50:?} p99 {p99:?} of {}", times.len());
        writer.trim(last).await.expect("trimmed");
    }
    let state = Bytes::from(vec![7; 1024]);
    for at_once in [1, 256, 2000] {
        let count = if at_once == 1 { 1000 } else { KEYS };
        for round in 0..2 {
            let started = Instant::now();
            let mut longest = Duration::ZERO;
            for first in (0..count).step_by(at_once) {
                let key = |it: usize| format!("app/session-{:08}", (first + it) * 7919 % KEYS);
                let snapshots = (0..at_once.min(count - first))
                    .map(|it| Snapshot { key: key(it).into(), state: Some(state.clone()) });
                let started = Instant::now();
                writer.snapshot(snapshots.collect()).await.expect("stored");
                longest = longest.max(started.elapsed());
            }
            let speed = count as f64 / started.elapsed().as_secs_f64();
            println!(
                "{name}: {count} snapshots of 1 KB, {at_once} at once, round {round}: {speed:.0} a \
                 second, the longest call {longest:?}"
            );
        }
    }
    let started = Instant::now();
    let large = Snapshot { key: "large".into(), state: Some(vec![3; 31 << 20].into()) };
    writer.snapshot(vec![large]).await.expect("stored");
    println!("{name}: one snapshot of 31 MiB in {:?}", started.elapsed());
    let started = Instant::now();
    let mut reader = log.read(PARTITION, Seq::START);
    let mut count = 0;
    while reader.next().await.expect("readable").is_some() {
        count += 1;
    }
    println!("{name}: {count} entries read in {:?}", started.elapsed());
    let started = Instant::now();
    log.claim(PARTITION, NODE).await.expect("a claim");
    println!("{name}: claimed in {:?}", started.elapsed());
}

#[tokio::test]
#[ignore = "it measures"]
async fn measure_one_server() {
    let Some(server) = Server::start() else { return };
    let settings = Settings { max_bytes: 1 << 30, ..nats::settings() };
    measure("R1", &nats::log(&server.url(), &settings).await).await;
}

#[tokio::test]
#[ignore = "it measures"]
async fn measure_three_servers() {
    let Some(three) = Three::start() else { return };
    let settings = Settings { max_bytes: 1 << 30, ..nats::settings() };
    let (log, _) = three::log(&three, settings).await;
    measure("R3", &log).await;
}
