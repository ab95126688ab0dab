//! Servers and streams that something is wrong with: one clear line each.

use super::nats::{self, Server};
use crate::support::*;
use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::{Value, json};
use sessiond::log::{
    AppendError, Content, Log, LogError, Reader, Seq, Writer,
    jetstream::{Connection, JetStreamLog, Servers, Settings},
};
use std::{
    fs,
    time::{Duration, Instant},
};

async fn refused(url: &str) -> String {
    let servers = Servers { urls: url.to_owned(), ..Servers::default() };
    Connection::open(&servers).await.expect_err("it is refused").to_string()
}

async fn unopened(url: &str, settings: Settings) -> LogError {
    JetStreamLog::open(&nats::connect(url).await, settings).await.expect_err("it is refused")
}

/// Has JetStream do something behind the log's back.
async fn ask(server: &Server, request: &str, body: Value) -> Value {
    let connection = nats::connect(&server.url()).await;
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let reply = connection.client().request(format!("$JS.API.{request}"), body).await;
    let reply = serde_json::from_slice::<Value>(&reply.expect("a reply").payload).expect("JSON");
    assert!(reply.get("error").is_none(), "{reply}");
    reply
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_soon() {
    let started = Instant::now();
    let error = refused("nats://ada:s3cret@127.0.0.1:1").await;
    assert!(error.starts_with("no NATS server can be reached: 127.0.0.1:1: "), "{error}");
    // One that takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    let error = refused(&format!("nats://{address}")).await;
    assert_eq!(error, format!("no NATS server can be reached: {address} did not answer in time"));
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}

#[tokio::test]
async fn wrong_credentials_are_told_without_them() {
    let users = "jetstream { store_dir: STORE }\n\
                 authorization { users: [{ user: ada, password: s3cret }] }";
    let Some(server) = Server::with(users) else { return };
    let host = server.url().replace("nats://", "");
    for url in [format!("nats://{host}"), format!("nats://ada:wr0ng@{host}")] {
        let error = refused(&url).await;
        assert_eq!(error, format!("the NATS server refuses the credentials: {host}"));
    }
    let log = nats::log(&format!("nats://ada:s3cret@{host}"), &nats::settings()).await;
    log.claim(PARTITION, NODE).await.expect("a claim");
    let servers = |path: &str| Servers {
        urls: server.url(),
        credentials: Some(path.into()),
        ..Servers::default()
    };
    let error = Connection::open(&servers("/nowhere")).await.expect_err("no file");
    assert!(error.to_string().starts_with("/nowhere: "), "{error}");
    let folder = Folder::new();
    let path = folder.path().join("credentials");
    fs::write(&path, "none").expect("a file");
    let error = Connection::open(&servers(path.to_str().expect("text"))).await.expect_err("none");
    let line = format!(
        "the NATS server refuses the credentials: {} is no file of credentials",
        path.display()
    );
    assert_eq!(error.to_string(), line);
}

#[tokio::test]
async fn a_server_without_jetstream_is_told() {
    let Some(server) = Server::with("# no jetstream") else { return };
    let settings = Settings { patience: Duration::from_secs(1), ..nats::settings() };
    let error = unopened(&server.url(), settings).await.to_string();
    assert_eq!(error, "the NATS servers cannot be used: JetStream is not enabled for this account");
}

#[tokio::test]
async fn what_is_not_permitted_is_told() {
    let users = "jetstream { store_dir: STORE }\n\
                 authorization { users: [{ user: ada, password: s3cret, permissions: { \
                 publish: { deny: [\"$JS.API.STREAM.CREATE.>\", \"$JS.API.STREAM.PURGE.>\", \
                 \"*.l.>\"] } } }, \
                 { user: bob, password: s3cret }, { user: eve, password: s3cret, permissions: { \
                 subscribe: { deny: [\"_INBOX.>\"] } } }] }";
    let Some(server) = Server::with(users) else { return };
    let host = server.url().replace("nats://", "");
    let (settings, started) = (nats::settings(), Instant::now());
    let error = unopened(&format!("nats://ada:s3cret@{host}"), settings.clone()).await.to_string();
    let line = "the NATS server does not permit what the store needs: ";
    assert!(error.starts_with(line) && error.contains("STREAM.CREATE"), "{error}");
    assert!(started.elapsed() < settings.patience / 2, "nobody waits for an answer");
    // Somebody else makes the streams.
    let log = nats::log(&format!("nats://bob:s3cret@{host}"), &settings).await;
    let error = unopened(&format!("nats://ada:s3cret@{host}"), settings.clone()).await.to_string();
    assert!(error.starts_with(line) && error.contains("STREAM.PURGE"), "{error}");
    assert!(error.contains(".l.0"), "all of it is told: {error}");
    let error = unopened(&format!("nats://eve:s3cret@{host}"), settings).await.to_string();
    assert!(error.starts_with(line) && error.contains("Subscription to \"_INBOX."), "{error}");
    // Whoever asked has changed nothing.
    let entries = everything(&log, PARTITION).await;
    assert!(entries.is_empty(), "{entries:?}");
}

/// What docs/cluster.md says that a user of a cluster may do.
const PERMISSIONS: &str = "publish: [\"*.>\", \"_INBOX.>\", \"$JS.API.>\"], \
                           subscribe: [\"*.>\", \"_INBOX.>\"]";

#[tokio::test]
async fn what_is_permitted_by_the_book_is_enough() {
    let users = format!(
        "authorization {{ users: [{{ user: ada, password: s3cret, permissions: {{ {PERMISSIONS} }} }}] }}"
    );
    let Some(server) = Server::with(&users) else { return };
    let url = server.url().replace("nats://", "nats://ada:s3cret@");
    let settings = nats::settings();
    let log = nats::log(&url, &settings).await;
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    writer.append("first".into()).await.expect("stored");
    writer.snapshot(vec![snapshot("a", "state"), gone("b")]).await.expect("stored");
    writer.trim(Seq(u64::MAX)).await.expect("trimmed");
    let entries = everything(&log, PARTITION).await;
    assert_eq!(snapshots(&entries).len(), 1);
    // Whoever finds out what is permitted touches nothing.
    let other = nats::log(&url, &settings).await;
    assert_eq!(everything(&other, PARTITION).await, entries);
    writer.append("second".into()).await.expect("nothing was stored between");
}

#[tokio::test]
async fn a_stream_with_other_settings_is_refused_with_every_difference_and_left_alone() {
    let Some(server) = nats::shared() else { return };
    let settings = nats::settings();
    nats::log(&server.url(), &settings).await;
    let stream = format!("{}-1", settings.cluster);
    let found = ask(server, &format!("STREAM.INFO.{stream}"), Value::Null).await;
    let mut config = found["config"].clone();
    config["max_age"] = json!(3_600_000_000_000_u64);
    config["discard"] = json!("old");
    config["duplicate_window"] = json!(1_000_000_000);
    let changed = ask(server, &format!("STREAM.UPDATE.{stream}"), config).await;
    let error = unopened(&server.url(), settings.clone()).await.to_string();
    let line = format!(
        "the stream {stream} cannot be used: discard is \"old\", not \"new\", max_age is \
         3600000000000, not 0, duplicate_window is 1000000000, not 120000000000"
    );
    assert_eq!(error, line);
    let after = ask(server, &format!("STREAM.INFO.{stream}"), Value::Null).await;
    assert_eq!(after["config"], changed["config"]);
}

#[tokio::test]
async fn a_cluster_with_another_count_of_partitions_or_format_is_refused() {
    let Some(server) = nats::shared() else { return };
    let settings = nats::settings();
    nats::log(&server.url(), &settings).await;
    for partitions in [3, 8] {
        let other = Settings { partitions, ..settings.clone() };
        let error = unopened(&server.url(), other).await.to_string();
        let line =
            format!("sessiond-partitions is \"4\", not \"{partitions}\" (cluster-partitions)");
        assert!(error.ends_with(&line), "{error}");
    }
    let stream = format!("{}-0", settings.cluster);
    let found = ask(server, &format!("STREAM.INFO.{stream}"), Value::Null).await;
    let mut config = found["config"].clone();
    config["metadata"]["sessiond-format"] = json!("2");
    ask(server, &format!("STREAM.UPDATE.{stream}"), config).await;
    let error = unopened(&server.url(), settings).await.to_string();
    assert!(error.ends_with("sessiond-format is \"2\", not \"1\""), "{error}");
}

#[tokio::test]
async fn a_stream_that_is_gone_is_not_made_again() {
    let Some(server) = nats::shared() else { return };
    for partition in [0, 2] {
        let settings = Settings { patience: Duration::from_secs(1), ..nats::settings() };
        let log = nats::log(&server.url(), &settings).await;
        let mut writers = Vec::new();
        for number in 0..4 {
            let partition = sessiond::log::Partition(number);
            writers.push(log.claim(partition, NODE).await.expect("a claim"));
        }
        let stream = format!("{}-{partition}", settings.cluster);
        ask(server, &format!("STREAM.DELETE.{stream}"), Value::Null).await;
        let line = format!("the stream {stream} cannot be used: it is gone");
        let error = unopened(&server.url(), settings.clone()).await.to_string();
        assert!(error.starts_with(&line), "{error}");
        let gone = sessiond::log::Partition(partition);
        let error = log.claim(gone, NODE).await.expect_err("it is gone").to_string();
        assert!(error.starts_with(&line), "{error}");
        let error = log.read(gone, Seq::START).next().await.expect_err("it is gone");
        assert!(error.to_string().starts_with(&line), "{error}");
    }
}

#[tokio::test]
async fn two_clusters_on_one_account_are_apart() {
    let Some(server) = nats::shared() else { return };
    let (a, b) = (nats::settings(), nats::settings());
    let (a, b) = (nats::log(&server.url(), &a).await, nats::log(&server.url(), &b).await);
    for (log, text) in [(&a, "a"), (&b, "b")] {
        let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
        assert_eq!(writer.append(text.into()).await, Ok(Seq(2)));
        writer.snapshot(vec![snapshot("key", text)]).await.expect("stored");
    }
    for (log, text) in [(&a, "a"), (&b, "b")] {
        let entries = everything(log, PARTITION).await;
        assert_eq!(batches(&entries), [(Seq(2), text.into())]);
        assert_eq!(snapshots(&entries), [("key".into(), text.into())]);
    }
}

#[tokio::test]
async fn a_partition_that_is_not_there_is_refused() {
    let Some(server) = nats::shared() else { return };
    let log = nats::log(&server.url(), &nats::settings()).await;
    let line = "the NATS servers cannot be used: there is no partition 255 of 4";
    assert_eq!(log.claim(OTHER, NODE).await.expect_err("none").to_string(), line);
    let error = log.read(OTHER, Seq::START).next().await.expect_err("none");
    assert_eq!(error.to_string(), line);
}

#[tokio::test]
async fn messages_of_somebody_else_are_passed_over_and_depose_the_writer() {
    let Some(server) = nats::shared() else { return };
    let settings = nats::settings();
    let log = nats::log(&server.url(), &settings).await;
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    writer.append("ours".into()).await.expect("stored");
    writer.snapshot(vec![snapshot("key", "state")]).await.expect("stored");
    let connection = nats::connect(&server.url()).await;
    // "key", no key at all, and more parts than a key has.
    for subject in ["l.0", "s.0.a2V5", "s.0.!", "s.0.a2V5.more"] {
        let subject = format!("{}.{subject}", settings.cluster);
        for payload in [&b""[..], b"something", &[1; 100]] {
            let payload = Bytes::copy_from_slice(payload);
            let stored = connection.client().request_with_headers(
                subject.clone(),
                HeaderMap::new(),
                payload,
            );
            stored.await.expect("it is stored");
        }
    }
    assert_eq!(writer.append("late".into()).await, Err(AppendError::Deposed));
    let entries = everything(&log, PARTITION).await;
    let lost = |entry: &sessiond::log::Entry| matches!(entry.content, Content::Lost { .. });
    assert!(!entries.iter().any(lost), "{entries:?}");
    assert_eq!(snapshots(&entries), [("key".into(), "state".into())]);
    assert_eq!(log.counters().lost_entries, 0);
    // What is whole is there, and it goes on.
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let seq = writer.append("more".into()).await.expect("stored");
    let entries = everything(&log, PARTITION).await;
    assert_eq!(batches(&entries), [(Seq(2), "ours".into()), (seq, "more".into())]);
    writer.trim(seq).await.expect("trimmed");
    assert_eq!(batches(&everything(&log, PARTITION).await), [(seq, "more".into())]);
}

#[tokio::test]
async fn what_somebody_removed_is_a_gap_and_what_was_trimmed_is_none() {
    let Some(server) = nats::shared() else { return };
    let settings = nats::settings();
    let log = nats::log(&server.url(), &settings).await;
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    for number in 0..6 {
        writer.append(format!("{number}").into()).await.expect("stored");
        writer.snapshot(vec![snapshot("key", "state")]).await.expect("stored");
    }
    writer.trim(Seq(4)).await.expect("trimmed");
    let oldest = batches(&everything(&log, PARTITION).await)[0].0;
    assert_eq!(oldest, Seq(4));
    // As a person does it with the tool of NATS.
    let purge = json!({ "filter": format!("{}.l.0", settings.cluster), "seq": 7 });
    ask(server, &format!("STREAM.PURGE.{}-0", settings.cluster), purge).await;
    let error = try_everything(&log, PARTITION).await.expect_err("a gap");
    let gap = |after| LogError::Gap { partition: PARTITION, after }.to_string();
    assert_eq!(error.to_string(), gap(Seq::START));
    let error = log.read(PARTITION, Seq(4)).next().await.expect_err("a gap");
    assert_eq!(error.to_string(), gap(Seq::START));
    // What follows is not touched by it.
    let mut reader = log.read(PARTITION, Seq(8));
    while reader.next().await.expect("readable").is_some() {}
}
