//! A stream that is as full as it may be.

use super::nats;
use crate::support::*;
use bytes::Bytes;
use sessiond::log::{
    AppendError, Log, Seq, Snapshot, Writer,
    space::{FLOOR, RESERVE},
};

#[tokio::test]
async fn above_half_of_a_stream_there_is_space_for_snapshots_and_trims_make_more() {
    let Some(server) = nats::shared() else { return };
    let settings = nats::settings();
    let log = nats::log(&server.url(), &settings).await;
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let batch = Bytes::from(vec![7; 700_000]);
    for round in 0..2 {
        let mut stored = Vec::new();
        let full = loop {
            match writer.append(batch.clone()).await {
                Ok(seq) => stored.push(seq),
                Err(error) => break error,
            }
        };
        assert_eq!(full, AppendError::Full);
        let bytes = stored.len() as u64 * batch.len() as u64;
        let half = settings.max_bytes / 2;
        assert!(bytes < half && bytes > half - (2 << 20), "round {round}: {bytes}");
        assert!(writer.room() < RESERVE + batch.len() as u64 && writer.room() > RESERVE);
        assert_eq!(writer.settle().await, Ok(None), "it is known");
        let large = Snapshot { key: "key".into(), state: Some(vec![1; 20 << 20].into()) };
        writer.snapshot(vec![large]).await.expect("there is the other half");
        writer.append_from_reserve(batch.clone()).await.expect("there is a reserve");
        writer.snapshot(vec![gone("key")]).await.expect("it is there");
        writer.trim(Seq(u64::MAX)).await.expect("it makes space");
    }
    assert_eq!(log.counters().full, 2);
    writer.append(batch).await.expect("there is space again");
}

#[tokio::test]
async fn what_is_left_of_a_stream_is_for_snapshots_alone() {
    let Some(server) = nats::shared() else { return };
    let log = nats::log(&server.url(), &nats::settings()).await;
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let batch = Bytes::from(vec![7; 700_000]);
    while writer.append_from_reserve(batch.clone()).await.is_ok() {}
    assert!(writer.room() < FLOOR + batch.len() as u64, "{}", writer.room());
    let of = |bytes| vec![Snapshot { key: "key".into(), state: Some(vec![1; bytes].into()) }];
    writer.snapshot(of(100_000)).await.expect("there is what no batch takes");
    assert_eq!(writer.snapshot(of(20 << 20)).await, Err(AppendError::Full));
    writer.release().await.expect("that needs little");
}

/// Somebody else takes what this cluster was to have.
#[tokio::test]
async fn a_server_without_space_refuses_and_takes_more_when_there_is_some() {
    let settings = "jetstream { store_dir: STORE, max_file_store: 600M, sync_interval: always }";
    let Some(server) = nats::Server::with(settings) else { return };
    let settings = nats::settings();
    let other = nats::connect(&server.url()).await;
    let log = nats::log(&server.url(), &settings).await;
    let error = sessiond::log::jetstream::JetStreamLog::open(&other, nats::settings())
        .await
        .expect_err("there is space for one");
    assert!(error.to_string().contains("insufficient storage"), "{error}");
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    writer.append("more".into()).await.expect("it is set aside");
}
