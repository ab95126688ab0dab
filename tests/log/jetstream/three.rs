//! Three servers that keep each stream together.

use super::nats::{self, Three};
use crate::support::*;
use bytes::Bytes;
use serde_json::Value;
use sessiond::log::{
    AppendError, Log, Reader, Seq, Writer,
    jetstream::{JetStreamLog, Settings},
};
use std::time::{Duration, Instant};

/// How long everything may take in which a leader is found.
const ELECTION: Duration = Duration::from_secs(60);

/// A log on three servers that have just been started.
pub async fn log(three: &Three, settings: Settings) -> (JetStreamLog, Settings) {
    let settings = Settings { replicas: 3, ..settings };
    let connection = nats::connect(&three.urls()).await;
    let started = Instant::now();
    loop {
        match JetStreamLog::open(&connection, settings.clone()).await {
            Ok(log) => return (log, settings),
            Err(error) => assert!(started.elapsed() < ELECTION, "{error}"),
        }
    }
}

/// The number of the server that leads a stream.
async fn leader(three: &Three, settings: &Settings) -> usize {
    let connection = nats::connect(&three.urls()).await;
    let subject = format!("$JS.API.STREAM.INFO.{}-0", settings.cluster);
    let reply = connection.client().request(subject, Bytes::new()).await.expect("a reply");
    let info: Value = serde_json::from_slice(&reply.payload).expect("JSON");
    let leader = info["cluster"]["leader"].as_str().expect("a leader").to_owned();
    leader.trim_start_matches("server").parse().expect("a number")
}

#[tokio::test]
async fn a_leader_that_is_killed_takes_nothing_with_it_that_was_acked() {
    let Some(mut three) = Three::start() else { return };
    let (log, settings) = log(&three, nats::settings()).await;
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let write = async {
        let mut acked = Vec::new();
        for round in 0..2 {
            let leader = leader(&three, &settings).await;
            for number in 0..200 {
                if number == 100 {
                    three.servers[leader].kill();
                }
                let batch = Bytes::from(format!("{round} {number}"));
                let started = Instant::now();
                let mut outcome = writer.append(batch.clone()).await;
                while outcome == Err(AppendError::Unknown) {
                    assert!(started.elapsed() < ELECTION);
                    outcome = writer.settle().await.map(|seq| seq.expect("it was unknown"));
                }
                acked.push((outcome.expect("stored"), batch));
            }
            three.servers[leader].restart();
        }
        acked
    };
    // Meanwhile somebody follows.
    let follow = async {
        let mut reader = log.read(PARTITION, Seq::START);
        let mut seen = Vec::new();
        while seen.len() < 401 {
            match reader.next().await.expect("readable") {
                Some(entry) => seen.push(entry),
                None => reader.changed().await.expect("it goes on"),
            }
        }
        batches(&seen)
    };
    let (acked, seen) = tokio::join!(write, follow);
    assert_eq!(seen, acked);
    assert_eq!(batches(&everything(&log, PARTITION).await), acked);
    let seqs: Vec<_> = acked.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, (2..=401).map(Seq).collect::<Vec<_>>(), "without a gap");
}

/// Each node talks to another server.
#[tokio::test]
async fn of_races_over_three_servers_each_has_one_winner() {
    let Some(three) = Three::start() else { return };
    let (one, settings) = log(&three, nats::settings()).await;
    let other = nats::log(&three.servers[0].url(), &settings).await;
    for round in 0..50 {
        let claims = tokio::join!(one.claim(PARTITION, NODE), other.claim(PARTITION, NODE));
        let (mut a, mut b) = (claims.0.expect("a claim"), claims.1.expect("a claim"));
        let text = |name| Bytes::from(format!("{name} {round}"));
        let outcomes = tokio::join!(a.append(text("one")), b.append(text("other")));
        let (winner, loser) = if a.term() > b.term() { outcomes } else { (outcomes.1, outcomes.0) };
        assert!(winner.is_ok(), "round {round}: {winner:?}");
        assert_eq!(loser, Err(AppendError::Deposed), "round {round}");
    }
    assert_eq!(batches(&everything(&one, PARTITION).await).len(), 50);
}
