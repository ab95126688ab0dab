//! The log of a node, as clients and whoever runs the node see it: taken by somebody else, full, and on a
//! disk that is full.
#![cfg(target_os = "linux")]

#[path = "support/disk.rs"]
mod disk;
#[allow(dead_code)]
#[path = "support/nats.rs"]
mod nats;
#[allow(dead_code)]
#[path = "chaos/server.rs"]
mod server;

use disk::Disk;
use nats::Server as Nats;
use server::Server;
use sessiond::{
    log::{
        Log, NodeId, Partition,
        jetstream::{Connection, JetStreamLog, Servers, Settings},
    },
    proto::{
        self, Ack, Durability, Position, SessionSettings,
        delivery_service_client::DeliveryServiceClient,
        session_service_client::SessionServiceClient, value::Kind,
    },
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt;

/// Everything is over by then.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of the log of a partition: as few as there may be.
const LOG_BYTES: u64 = 128 << 20;

#[tokio::test]
async fn an_owner_that_is_deposed_acks_nothing_that_is_not_stored_and_says_so_once() {
    let Some(nats) = Nats::start() else { return };
    let node = node(&nats);
    let room = Room::open(&node, "room").await;
    let writing = room.clone();
    let is_claimed = Arc::<AtomicBool>::default();
    let claimed = is_claimed.clone();
    let writer = tokio::spawn(async move {
        let (mut acked, mut later, begun) = (Vec::new(), 0, Instant::now());
        while later < 50 {
            let is_later = claimed.load(Ordering::SeqCst);
            let sent = Instant::now();
            match timeout(LIMIT, writing.write("n", acked.len() as i64)).await.expect("an answer") {
                Ok(position) => {
                    acked.push(position);
                    later += u32::from(is_later);
                }
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                    assert!(sent.elapsed() < Duration::from_secs(9), "{:?}", sent.elapsed());
                }
            }
            assert!(begun.elapsed() < LIMIT, "{} acked", acked.len());
        }
        acked
    });
    sleep(Duration::from_millis(500)).await;
    let servers = Servers { urls: nats.url(), name: "rival".to_owned(), ..Servers::default() };
    let settings =
        Settings { partitions: 1, replicas: 1, max_bytes: LOG_BYTES, ..Settings::default() };
    let connection = Connection::open(&servers).await.expect("a connection");
    let log = JetStreamLog::open(&connection, settings).await.expect("the same log");
    let rival = log.claim(Partition(0), NodeId(7)).await.expect("a claim");
    is_claimed.store(true, Ordering::SeqCst);
    let acked = writer.await.expect("no panic");
    assert!(acked.is_sorted_by_key(|it| it.revision), "{acked:?}");
    assert!(acked.iter().all(|it| it.epoch == acked[0].epoch), "a SYNC session goes on as it was");
    let now = room.position().await.expect("it is served again");
    assert!(now.revision >= acked.last().expect("some").revision);
    drop(rival);
    let (code, words) = stop(node).await;
    assert_eq!((code, words), (Some(0), vec![]), "it is no error that somebody else claims");
}

#[tokio::test]
async fn a_full_log_refuses_writes_serves_readers_and_takes_writes_when_there_is_space() {
    let Some(nats) = Nats::start() else { return };
    let mut node = node(&nats);
    node.expects_alarms();
    let kept = Room::open(&node, "kept").await;
    let before = kept.write("n", 1).await.expect("there is space");
    let mut reader = kept.watch().await;
    let mut large = Vec::new();
    let full = 'full: loop {
        assert!(large.len() < 64, "it is never full");
        let room = Room::open(&node, &format!("large-{}", large.len())).await;
        large.push(room.clone());
        for part in 0..8 {
            if let Err(full) = room.write_large(part).await {
                break 'full full;
            }
        }
    };
    assert_full(&full);
    assert_full(&kept.write("n", 2).await.expect_err("there is no space"));
    let now = kept.position().await.expect("readers go on");
    assert_eq!((now.epoch, now.revision), (before.epoch, before.revision));
    assert!(timeout(Duration::from_millis(300), reader.message()).await.is_err(), "it is open");

    for room in &large {
        room.delete().await.expect("that makes space");
    }
    let begun = Instant::now();
    let after = loop {
        match kept.write("n", 3).await {
            Ok(position) => break position,
            Err(full) => assert_full(&full),
        }
        assert!(begun.elapsed() < LIMIT, "there is no space");
        sleep(Duration::from_millis(50)).await;
    };
    assert!(after.epoch == before.epoch && after.revision > before.revision);
    timeout(LIMIT, reader.message()).await.expect("soon").expect("it is open").expect("an update");
    assert!(node.is_running());
    stop(node).await;

    // And it is all there for whoever comes next.
    let node = self::node(&nats);
    let kept = Room::over(node.connect().await, "kept");
    let found = until(|| async { kept.position().await.ok() }).await;
    assert_eq!((found.epoch, found.revision), (after.epoch, after.revision));
    assert!(Room::over(node.connect().await, "large-0").position().await.is_err());
}

#[tokio::test]
async fn while_nats_does_not_answer_nobody_is_told_that_there_is_no_space() {
    let Some(nats) = Nats::start() else { return };
    let node = node(&nats);
    let room = Room::open(&node, "room").await;
    let before = room.write("n", 1).await.expect("there is space");
    nats.signal("STOP");
    // Longer than the log waits for an answer, twice.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(12) {
        let outcome = timeout(Duration::from_secs(12), room.write("n", 2)).await;
        let refused = outcome.expect("an answer").expect_err("nothing can be stored");
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert!(refused.get_error_details().retry_info().is_some(), "{refused:?}");
    }
    nats.signal("CONT");
    let after = until(|| async {
        match room.write("n", 3).await {
            Ok(position) => Some(position),
            Err(refused) => {
                assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
                None
            }
        }
    });
    let after = after.await;
    assert!(after.epoch == before.epoch && after.revision > before.revision);
    assert_eq!(stop(node).await, (Some(0), vec![]), "it is no error of the node");
}

#[tokio::test]
async fn a_stream_that_is_deleted_while_its_node_runs_is_named_and_calls_are_refused() {
    let Some(nats) = Nats::start() else { return };
    let mut node = node(&nats);
    let room = Room::open(&node, "room").await;
    room.write("n", 1).await.expect("there is space");
    let client = async_nats::connect(nats.url()).await.expect("a connection");
    let reply = client.request("$JS.API.STREAM.DELETE.sessiond-0", "".into()).await;
    let reply = reply.expect("a reply");
    assert!(reply.payload.windows(14).any(|it| it == b"\"success\":true"), "{reply:?}");
    // What waits for the store, and what waits for an owner.
    for _ in 0..2 {
        let outcome = timeout(Duration::from_secs(12), room.write("n", 2)).await;
        let refused = outcome.expect("an answer").expect_err("nothing can be stored");
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert!(refused.get_error_details().retry_info().is_some(), "{refused:?}");
    }
    assert!(node.is_running());
    let (_, words) = stop(node).await;
    let is_named = words.iter().any(|line| line.contains("the stream sessiond-0 is gone"));
    assert!(is_named, "{words:?}");
}

/// As docs/cluster.md says: a server whose disk was full answers again when it is started again.
#[tokio::test]
async fn while_the_disk_of_nats_is_full_nothing_is_acked_and_nothing_that_was_is_lost() {
    let Some(program) = nats::program() else { return };
    let Some(disk) = Disk::new("96m") else { return };
    let settings = format!(
        "jetstream {{ store_dir: {:?}, max_file_store: 1T, sync_interval: always }}",
        disk.at
    );
    let mut nats = Nats::by(disk.program(&program), &settings);
    let mut node = node(&nats);
    node.expects_alarms();
    let room = Room::open(&node, "room").await;
    let before = room.write("n", 1).await.expect("there is space");
    disk.fill();
    let begun = Instant::now();
    let mut last = before;
    let refused = loop {
        match timeout(Duration::from_secs(12), room.write("n", 2)).await.expect("an answer") {
            Ok(position) => last = position,
            Err(status) => break status,
        }
        assert!(begun.elapsed() < LIMIT, "the disk is never full");
    };
    assert_eq!(refused.code(), Code::Unavailable, "a log that is silent is not full: {refused:?}");
    assert!(refused.get_error_details().retry_info().is_some(), "{refused:?}");
    disk.free();
    nats.restart();
    let after = until(|| async { room.write("n", 3).await.ok() }).await;
    assert!(after.epoch == last.epoch && after.revision > last.revision, "{last:?} {after:?}");
    assert!(node.is_running());
}

/// A node alone in its cluster, which has one partition.
fn node(nats: &Nats) -> Server {
    let bytes = LOG_BYTES.to_string();
    let of_cluster = ["--cluster", &nats.url(), "--cluster-partitions", "1"].map(str::to_owned);
    let of_log = ["--cluster-replicas", "1", "--cluster-log-bytes", &bytes].map(str::to_owned);
    let of_node = ["--node-listen", "127.0.0.1:0", "--node", "ada"].map(str::to_owned);
    let large = ["--max-request-bytes", "1MiB"].map(str::to_owned);
    let flags = [&of_cluster[..], &of_log, &of_node, &large].concat();
    Server::start(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

/// How it ends that is told to, and what it had to say of errors.
async fn stop(mut node: Server) -> (Option<i32>, Vec<String>) {
    node.terminate();
    node.exit(LIMIT).await.expect("it ends");
    node.last_words()
}

fn assert_full(status: &Status) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| &*info.reason);
    assert_eq!(
        (status.code(), reason),
        (Code::ResourceExhausted, Some("STORE_FULL")),
        "{status:?}"
    );
}

async fn until<T, F: Future<Output = Option<T>>>(mut what: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Ok(Some(outcome)) = timeout(LIMIT, what()).await {
            return outcome;
        }
        assert!(begun.elapsed() < LIMIT, "it takes too long");
        sleep(Duration::from_millis(50)).await;
    }
}

/// A SYNC session, as the app sees it.
#[derive(Clone)]
struct Room {
    id: String,
    calls: SessionServiceClient<Channel>,
    streams: DeliveryServiceClient<Channel>,
}

impl Room {
    fn over(channel: Channel, id: &str) -> Self {
        let streams = DeliveryServiceClient::new(channel.clone());
        Self { id: id.to_owned(), calls: SessionServiceClient::new(channel), streams }
    }

    async fn open(node: &Server, id: &str) -> Self {
        let room = Self::over(node.connect().await, id);
        let settings =
            SessionSettings { durability: Durability::Sync.into(), ..Default::default() };
        let request = proto::OpenSharedSessionRequest {
            session_id: id.to_owned(),
            user_id: "ada".to_owned(),
            settings: Some(settings),
            ..Default::default()
        };
        until(|| async {
            match room.calls.clone().open_shared_session(request.clone()).await {
                Ok(_) => Some(()),
                // The node has no partition yet, or there is no space for more.
                Err(status) if status.code() == Code::Unavailable => None,
                Err(status) if status.code() == Code::ResourceExhausted => Some(()),
                Err(status) => panic!("{status:?}"),
            }
        })
        .await;
        room
    }

    /// Sets something, which is stored when this returns.
    async fn write(&self, key: &str, value: i64) -> Result<Position, Status> {
        let value = proto::Value { kind: Some(Kind::Integer(value)) };
        self.set([(key.to_owned(), value)].into()).await
    }

    /// The same of half a MiB; each part takes the place of what it was before.
    async fn write_large(&self, part: usize) -> Result<Position, Status> {
        let text = |key: usize| format!("{part} {key} {}", "x".repeat(15_000));
        let value = |key| proto::Value { kind: Some(Kind::Text(text(key))) };
        self.set((0..30).map(|key| (format!("{part}-{key}"), value(key))).collect()).await
    }

    async fn set(&self, set: BTreeMap<String, proto::Value>) -> Result<Position, Status> {
        let request = proto::SetSessionDataRequest {
            session_id: self.id.clone(),
            set,
            ack: Ack::Durable.into(),
            ..Default::default()
        };
        let reply = self.calls.clone().set_session_data(as_app(request)).await?.into_inner();
        Ok(reply.position.unwrap_or_default())
    }

    async fn position(&self) -> Result<Position, Status> {
        let request =
            proto::GetSessionInfoRequest { session_id: self.id.clone(), ..Default::default() };
        let info = self.calls.clone().get_session_info(as_app(request)).await?.into_inner();
        Ok(info.position.unwrap_or_default())
    }

    /// Its updates from now on.
    async fn watch(&self) -> tonic::Streaming<proto::SubscribeToSessionResponse> {
        let request =
            proto::SubscribeToSessionRequest { session_id: self.id.clone(), ..Default::default() };
        let stream = self.streams.clone().subscribe_to_session(as_app(request)).await;
        let mut stream = stream.expect("it is open").into_inner();
        stream.message().await.expect("it is open").expect("a snapshot");
        stream
    }

    async fn delete(&self) -> Result<(), Status> {
        let request =
            proto::DeleteSessionRequest { session_id: self.id.clone(), ..Default::default() };
        match self.calls.clone().delete_session(as_app(request)).await {
            Err(status) if status.code() == Code::NotFound => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

fn as_app<T>(request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("sessiond-as", "app".parse().expect("ASCII"));
    request
}
