//! Servers that stop, replies that are lost, and writers that do not know of each other.

use super::{nats, proxy::Proxy};
use crate::support::*;
use bytes::Bytes;
use sessiond::log::{AppendError, BootMicros, Log, NodeId, Seq, Writer, jetstream::Settings};
use std::time::Duration;
use tokio::time::sleep;

/// So that what is unknown is soon known to be.
fn impatient() -> Settings {
    Settings { patience: Duration::from_secs(1), ..nats::settings() }
}

#[tokio::test]
async fn of_fifty_races_of_two_writers_each_has_one_winner() {
    let Some(server) = nats::shared() else { return };
    let settings = nats::settings();
    // Each over a connection of its own, as two nodes have.
    let one = nats::log(&server.url(), &settings).await;
    let other = nats::log(&server.url(), &settings).await;
    for round in 0..50 {
        let claims = tokio::join!(one.claim(PARTITION, NODE), other.claim(PARTITION, NodeId(2)));
        let (mut a, mut b) = (claims.0.expect("a claim"), claims.1.expect("a claim"));
        let text = |name| Bytes::from(format!("{name} {round}"));
        let outcomes = tokio::join!(a.append(text("one")), b.append(text("other")));
        let (winner, loser) = if a.term() > b.term() { outcomes } else { (outcomes.1, outcomes.0) };
        assert!(winner.is_ok(), "round {round}: {winner:?}");
        assert_eq!(loser, Err(AppendError::Deposed), "round {round}");
    }
    assert_eq!(batches(&everything(&one, PARTITION).await).len(), 50);
}

#[tokio::test]
async fn while_a_server_stands_still_an_append_is_unknown_and_then_stored_once() {
    let Some(server) = nats::Server::start() else { return };
    let log = nats::log(&server.url(), &impatient()).await;
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    writer.append("first".into()).await.expect("stored");
    let (before, sent) = (BootMicros::now(), writer.last_sent());
    assert!(sent < before);
    server.signal("STOP");
    assert_eq!(writer.append("second".into()).await, Err(AppendError::Unknown));
    assert_eq!(writer.append("third".into()).await, Err(AppendError::Unknown));
    assert_eq!(writer.settle().await, Err(AppendError::Unknown));
    assert_eq!(writer.last_sent(), sent, "it is not known to be stored");
    let unknown_at = BootMicros::now();
    server.signal("CONT");
    let mut settled = writer.settle().await;
    while settled == Err(AppendError::Unknown) {
        settled = writer.settle().await;
    }
    assert_eq!(settled, Ok(Some(Seq(3))));
    // The first time counts, not the one that succeeded.
    assert!(writer.last_sent() > before && writer.last_sent() < unknown_at);
    writer.append("third".into()).await.expect("stored");
    let stored: Vec<_> =
        batches(&everything(&log, PARTITION).await).into_iter().map(|(_, it)| it).collect();
    assert_eq!(stored, ["first", "second", "third"]);
}

/// A server alone looks at the place before it looks whether it knows the message. So this is what
/// happens anywhere once the servers have forgotten what they had deduplicated.
#[tokio::test]
async fn what_is_stored_and_sent_again_is_known_by_its_id() {
    let Some(server) = nats::shared() else { return };
    let proxy = Proxy::to(&server.url()).await;
    let log = nats::log(&proxy.url(), &nats::settings()).await;
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    for number in 0..5 {
        proxy.mute(true);
        let batch = Bytes::from(format!("{number}"));
        let keys = [snapshot("a", "state"), snapshot("b", "state"), gone("c")];
        let heard = async {
            sleep(Duration::from_millis(400)).await;
            proxy.mute(false);
            proxy.cut();
        };
        if number % 2 == 0 {
            let (stored, ()) = tokio::join!(writer.append(batch), heard);
            stored.expect("it is found");
        } else {
            let (stored, ()) = tokio::join!(writer.snapshot(keys.to_vec()), heard);
            stored.expect("it is found");
        }
    }
    let entries = everything(&log, PARTITION).await;
    assert_eq!(batches(&entries).len(), 3);
    assert_eq!(snapshots(&entries).len(), 2);
    // A claim, three batches, and three messages twice.
    assert_eq!(entries.last().map(|entry| entry.seq), Some(Seq(1 + 3 + 2 * 3)));
}

#[tokio::test]
async fn a_writer_that_is_deposed_while_its_reply_is_lost_knows_it() {
    let Some(server) = nats::shared() else { return };
    let proxy = Proxy::to(&server.url()).await;
    let settings = impatient();
    let cut_off = nats::log(&proxy.url(), &settings).await;
    let other = nats::log(&server.url(), &settings).await;
    let mut old = cut_off.claim(PARTITION, NODE).await.expect("a claim");
    proxy.fail_after(0);
    assert_eq!(old.append("lost".into()).await, Err(AppendError::Unknown));
    let mut new = other.claim(PARTITION, NodeId(2)).await.expect("a claim");
    new.append("new".into()).await.expect("stored");
    proxy.fail_after(u64::MAX);
    let mut settled = old.settle().await;
    while settled == Err(AppendError::Unknown) {
        settled = old.settle().await;
    }
    assert_eq!(settled, Err(AppendError::Deposed));
    let stored = batches(&everything(&other, PARTITION).await);
    assert_eq!(stored, [(Seq(3), "new".into())]);
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_has_all_that_was_acked() {
    let Some(mut server) = nats::Server::start() else { return };
    let log = nats::log(&server.url(), &nats::settings()).await;
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let mut acked = Vec::new();
    for number in 0..4 {
        for count in 0..20 {
            let batch = Bytes::from(format!("{number} {count}"));
            acked.push((writer.append(batch.clone()).await.expect("stored"), batch));
        }
        server.restart();
    }
    assert_eq!(batches(&everything(&log, PARTITION).await), acked);
}
