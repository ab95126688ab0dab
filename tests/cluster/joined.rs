//! Nodes over a real server of NATS, in real time.

use crate::nats::{self, Server};
use sessiond::{
    cluster::{
        Cluster, Holding, JoinError, MoveRefused, NodeInfo, Order, Owner, PartitionStatus, Settings,
    },
    log::{Log, NodeId, Partition, Writer, memory::MemoryLog},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};

const PARTITIONS: usize = 4;

/// Nothing of this takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn info(id: u64, name: &str) -> NodeInfo {
    NodeInfo {
        id: NodeId(id),
        name: name.to_owned(),
        address: format!("{name}.example:7100"),
        format: 1,
        version: "1.2.3".to_owned(),
        started_at: 1,
    }
}

pub fn settings(cluster: &str) -> Settings {
    Settings { cluster: cluster.to_owned(), partitions: PARTITIONS, replicas: 1, is_new: true }
}

pub async fn join(server: &Server, cluster: &str, info: NodeInfo) -> Result<Cluster, JoinError> {
    let client = async_nats::connect(server.url()).await.expect("a connection");
    Cluster::join(client, &settings(cluster), info).await
}

/// A node that does what it is ordered to, at a log.
struct Node {
    cluster: Cluster,
    work: tokio::task::JoinHandle<()>,
}

impl Node {
    async fn start(server: &Server, cluster: &str, log: &MemoryLog, id: u64, name: &str) -> Self {
        let cluster = join(server, cluster, info(id, name)).await.expect("it joins");
        let work = tokio::spawn(obey(cluster.clone(), log.clone()));
        Self { cluster, work }
    }

    /// Ends like a process that is killed.
    fn kill(self) {
        self.work.abort();
    }

    /// Waits until the owners are as they should be.
    async fn until(&self, what: &str, is_so: impl Fn(&[Owner]) -> bool) {
        let mut owners = self.cluster.owners();
        let wait = async {
            while !is_so(&owners.borrow_and_update()) {
                owners.changed().await.expect("it lives");
            }
        };
        let owners = self.cluster.owners();
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: {:?}", owners.borrow()));
    }

    async fn until_all_are_owned(&self) {
        self.until("all are owned", |owners| !owners.contains(&Owner::Nobody)).await;
    }

    fn serving(&self) -> usize {
        let owned = |it: &&PartitionStatus| it.owner.as_ref() == Some(self.cluster.me());
        self.cluster.partitions().iter().filter(owned).count()
    }
}

async fn obey(cluster: Cluster, log: MemoryLog) {
    let mut writers = HashMap::new();
    loop {
        match cluster.order().await {
            Order::Claim(partition) => {
                let writer = log.claim(partition, cluster.me().id).await.expect("a claim");
                let term = writer.term();
                cluster.hold(partition, Holding::Loading(term));
                cluster.hold(partition, Holding::Serving(term));
                writers.insert(partition, writer);
            }
            Order::Give(partition, _) => {
                let writer = writers.remove(&partition).expect("it has it");
                cluster.hold(partition, Holding::Giving(writer.term()));
                let _ = writer.release().await;
                cluster.hold(partition, Holding::Nothing);
            }
        }
    }
}

fn is_at(owner: &Owner, id: u64) -> bool {
    matches!(owner, Owner::There(info) if info.id == NodeId(id))
}

#[tokio::test]
async fn nodes_share_and_take_over_from_one_that_died_and_one_that_leaves() {
    let Some(server) = nats::shared() else { return };
    let (cluster, log) = (nats::cluster(), MemoryLog::default());
    let (a, b, c) = tokio::join!(
        Node::start(server, &cluster, &log, 1, "node-a"),
        Node::start(server, &cluster, &log, 2, "node-b"),
        Node::start(server, &cluster, &log, 3, "node-c"),
    );
    for node in [&a, &b, &c] {
        node.until_all_are_owned().await;
        assert_eq!(node.cluster.format(), 1);
        assert_eq!(node.cluster.nodes().len(), 3);
    }
    assert_eq!(a.serving() + b.serving() + c.serving(), PARTITIONS);
    // Killed: the others take over.
    let died_at = Instant::now();
    c.kill();
    let is_free_of = |id: u64| {
        move |owners: &[Owner]| owners.iter().all(|it| *it != Owner::Nobody && !is_at(it, id))
    };
    for node in [&a, &b] {
        node.until("what the dead node had is owned", is_free_of(3)).await;
    }
    let took = died_at.elapsed();
    println!("all is claimed that a dead node had after {took:?}");
    assert!(took < Duration::from_secs(9), "{took:?}");
    // It leaves: nobody waits for its silence.
    let left_at = Instant::now();
    b.cluster.leave();
    a.until("all is here", |owners| owners.iter().all(|it| *it == Owner::Here)).await;
    let took = left_at.elapsed();
    println!("all is handed over after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(b.serving(), 0);
}

#[tokio::test]
async fn an_admin_moves_a_partition_from_any_node() {
    let Some(server) = nats::shared() else { return };
    let (cluster, log) = (nats::cluster(), MemoryLog::default());
    let (a, b) = tokio::join!(
        Node::start(server, &cluster, &log, 1, "node-a"),
        Node::start(server, &cluster, &log, 2, "node-b"),
    );
    a.until_all_are_owned().await;
    b.until_all_are_owned().await;
    for (at, partition) in (0..PARTITIONS as u32).enumerate() {
        // Whoever is asked, the owner does it.
        let asked = if at % 2 == 0 { &a } else { &b };
        asked.cluster.move_to(partition, "node-b").await.expect("it may");
    }
    b.until("all is here", |owners| owners.iter().all(|it| *it == Owner::Here)).await;
    a.until("all is there", |owners| owners.iter().all(|it| is_at(it, 2))).await;
    assert!(b.cluster.partitions().iter().all(|it| it.pinned));
    let last = Partition(PARTITIONS as u8 - 1);
    assert_eq!(
        a.cluster.move_to(4, "node-b").await,
        Err(MoveRefused::NoSuchPartition { partition: 4, last })
    );
    let nobody = "node-x".to_owned();
    assert_eq!(a.cluster.move_to(0, &nobody).await, Err(MoveRefused::NoSuchNode(nobody)));
}

#[tokio::test]
async fn a_name_that_a_living_process_has_is_refused_and_free_again_when_it_ended() {
    let Some(server) = nats::shared() else { return };
    let cluster = nats::cluster();
    let first = join(server, &cluster, info(9, "node a.b")).await.expect("it joins");
    let second = join(server, &cluster, info(1, "node a.b")).await.map(drop);
    let (name, address) = ("node a.b".to_owned(), "node a.b.example:7100".to_owned());
    let taken = JoinError::NameTaken { name, address };
    assert_eq!(second, Err(taken.clone()));
    assert_eq!(taken.to_string().lines().count(), 1);
    // The same name in another cluster is another name.
    join(server, &nats::cluster(), info(2, "node a.b")).await.expect("it joins");
    drop(first);
    join(server, &cluster, info(3, "node a.b")).await.expect("it joins");
}

#[tokio::test]
async fn of_two_that_take_a_name_at_once_one_joins() {
    let Some(server) = nats::shared() else { return };
    let cluster = nats::cluster();
    let both = tokio::join!(
        join(server, &cluster, info(1, "node-a")),
        join(server, &cluster, info(2, "node-a"))
    );
    assert!(both.0.is_ok() && matches!(both.1, Err(JoinError::NameTaken { .. })), "{both:?}");
}

#[tokio::test]
async fn what_is_no_name_is_refused() {
    let Some(server) = nats::shared() else { return };
    for cluster in ["", "a.b", "a b", "a*", "a>", &"a".repeat(33)] {
        let refused = join(server, cluster, info(1, "node-a")).await.map(drop);
        assert_eq!(refused, Err(JoinError::BadClusterName(cluster.to_owned())));
    }
    for name in ["", "a\nb", &"a".repeat(129)] {
        let refused = join(server, &nats::cluster(), info(1, name)).await.map(drop);
        assert_eq!(refused, Err(JoinError::BadNodeName { most: 128 }));
    }
}

#[tokio::test]
async fn a_node_that_cannot_read_what_the_others_write_does_not_join() {
    let Some(server) = nats::shared() else { return };
    let cluster = nats::cluster();
    let newer = NodeInfo { format: 2, ..info(1, "node-a") };
    let first = join(server, &cluster, newer.clone()).await.expect("it joins");
    let refused = join(server, &cluster, info(2, "node-b")).await.map(drop);
    assert_eq!(refused, Err(JoinError::Older { theirs: 2, known: 1 }));
    assert_eq!(first.format(), 2);
}

#[tokio::test]
async fn a_node_that_may_not_speak_is_told_what_it_needs() {
    let settings = r#"authorization { users: [ { user: a, password: b, permissions: {
        publish: ["other.>"], subscribe: [">"] } } ] }"#;
    let Some(server) = Server::with(settings) else { return };
    let options = async_nats::ConnectOptions::with_user_and_password("a".into(), "b".into());
    let client = options.connect(server.url()).await.expect("a connection");
    let cluster = "test".to_owned();
    let refused = Cluster::join(client, &self::settings(&cluster), info(1, "node-a")).await;
    let error = refused.map(drop).expect_err("it is not heard");
    let JoinError::Unheard { prefix, .. } = &error else { panic!("{error}") };
    assert_eq!(*prefix, cluster);
    assert!(error.to_string().contains("publish"), "{error}");
}

#[tokio::test]
async fn what_no_node_sends_is_counted_and_changes_nothing() {
    let Some(server) = nats::shared() else { return };
    let (cluster, log) = (nats::cluster(), MemoryLog::default());
    let node = Node::start(server, &cluster, &log, 1, "node-a").await;
    node.until_all_are_owned().await;
    let before = (node.cluster.nodes().len(), node.cluster.partitions());
    let client = async_nats::connect(server.url()).await.expect("a connection");
    let subjects = [format!("{cluster}.beat"), format!("{cluster}.node.{:016x}", 1)];
    let texts: [&[u8]; 5] = [b"", b"hello", b"sd\x01\xff\xff", b"sd\x02", &[0; 20_000]];
    for subject in &subjects {
        for text in texts {
            client.publish(subject.clone(), text.to_vec().into()).await.expect("it is sent");
        }
    }
    client.flush().await.expect("it is sent");
    // What is answered behind them was taken in after them.
    for subject in subjects {
        let ping = client.request(subject, "sd\x01\x12\x00".into());
        let _ = timeout(Duration::from_secs(2), ping).await;
    }
    let all = texts.len() as u64 * 2;
    assert_eq!(node.cluster.foreign(), all);
    assert_eq!((node.cluster.nodes().len(), node.cluster.partitions()), before);
}

#[tokio::test]
async fn while_nats_stands_still_nobody_takes_the_others_for_dead() {
    let Some(server) = Server::with("") else { return };
    let (cluster, log) = (nats::cluster(), MemoryLog::default());
    let (a, b) = tokio::join!(
        Node::start(&server, &cluster, &log, 1, "node-a"),
        Node::start(&server, &cluster, &log, 2, "node-b"),
    );
    a.until_all_are_owned().await;
    b.until_all_are_owned().await;
    let terms = |node: &Node| -> Vec<_> {
        node.cluster.partitions().iter().map(|it| it.holding.term()).collect()
    };
    let before = terms(&a);
    server.signal("STOP");
    let nobody = |owners: &[Owner]| owners.contains(&Owner::Nobody);
    a.until("what is elsewhere has no owner", nobody).await;
    b.until("what is elsewhere has no owner", nobody).await;
    server.signal("CONT");
    a.until_all_are_owned().await;
    b.until_all_are_owned().await;
    assert_eq!((terms(&a), terms(&b)), (before.clone(), before), "nobody claimed");
}

#[tokio::test]
async fn a_node_that_is_let_go_falls_silent() {
    let Some(server) = nats::shared() else { return };
    let cluster = nats::cluster();
    let a = join(server, &cluster, info(1, "node-a")).await.expect("it joins");
    let client = async_nats::connect(server.url()).await.expect("a connection");
    let mut beats = client.subscribe(format!("{cluster}.beat")).await.expect("it is heard");
    let wait = async { tokio_stream::StreamExt::next(&mut beats).await };
    timeout(PATIENCE, wait).await.expect("it speaks").expect("a beat");
    let weak = Arc::new(a);
    drop(weak);
    let next = async {
        // One may be on its way.
        tokio_stream::StreamExt::next(&mut beats).await;
        tokio_stream::StreamExt::next(&mut beats).await
    };
    assert!(timeout(Duration::from_secs(2), next).await.is_err(), "it still speaks");
}
