//! What the people who run a cluster ask of it, by calls and on the command line.

use crate::{
    identity::{bearing, lobby, operator, refused_call, service_among},
    support::*,
};
use sessiond::{
    cluster::{
        Heard, Holding, MoveRefused, Moving, NodeInfo, NodeStatus, Nodes, NotTold, Note,
        PartitionStatus, Standing, Take, Telling,
    },
    log::{NodeId, Partition, Seq},
    proto::{self, admin_service_client::AdminServiceClient},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{process::Command, sync::watch};
use tonic::Code;

/// A cluster of three nodes that does what it is told and nothing else.
#[derive(Debug, Default)]
struct Three {
    moves: Mutex<Vec<(u32, String)>>,
    board: Arc<Board>,
}

fn info(id: u64, name: &str) -> Arc<NodeInfo> {
    Arc::new(NodeInfo {
        id: NodeId(id),
        name: name.to_owned(),
        address: format!("{name}.example:7100"),
        format: 1,
        version: "1.2.3".to_owned(),
        started_at: BEGIN,
    })
}

impl Nodes for Three {
    fn nodes(&self) -> Vec<NodeStatus> {
        let status = |id, name, standing, silent_for, partitions| NodeStatus {
            info: info(id, name),
            standing,
            silent_for,
            partitions,
            is_me: id == 1,
        };
        vec![
            status(1, "node-a", Standing::Alive, 100_000, 2),
            status(2, "node-b", Standing::Leaving, 200_000, 1),
            status(0xc, "node-c", Standing::Silent, 5_000_000, 0),
        ]
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        let status = |partition, owner, holding, pinned| PartitionStatus {
            partition: Partition(partition),
            owner,
            holding,
            pinned,
        };
        vec![
            status(0, Some(info(1, "node-a")), Holding::Serving(Seq(7)), true),
            status(1, Some(info(1, "node-a")), Holding::Loading(Seq(8)), false),
            status(2, Some(info(2, "node-b")), Holding::Giving(Seq(9)), false),
            status(3, None, Holding::Nothing, false),
        ]
    }

    fn move_to<'a>(&'a self, partition: u32, node: &'a str) -> Moving<'a> {
        let outcome = match (partition, node) {
            (0, "node-b") => {
                self.moves.lock().expect("no panic").push((partition, node.to_owned()));
                Ok(())
            }
            (0 | 1, "node-c") => Err(MoveRefused::NotAlive(node.to_owned())),
            (0 | 1, "node-x") => Err(MoveRefused::NoSuchNode(node.to_owned())),
            (1, _) => Err(MoveRefused::Busy(Partition(1))),
            (2, _) => Err(MoveRefused::Unanswered(Partition(2))),
            (3, _) => Err(MoveRefused::NoOwner(Partition(3))),
            _ => Err(MoveRefused::NoSuchPartition { partition, last: Partition(3) }),
        };
        Box::pin(async { outcome })
    }

    fn tell<'a>(&'a self, note: &'a Note) -> Telling<'a> {
        self.board.tell(note)
    }

    fn follow<'a>(&'a self, take: Take<'a>) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.board.follow(take))
    }
}

/// What the nodes are told: the last of each key, in order.
#[derive(Debug, Default)]
struct Board {
    notes: watch::Sender<Vec<Note>>,
    fails: AtomicBool,
}

impl Board {
    fn tell<'a>(&'a self, note: &'a Note) -> Telling<'a> {
        Box::pin(async {
            if self.fails.load(Ordering::Relaxed) {
                return Err(NotTold::Failed("no answer".to_owned()));
            }
            self.notes.send_modify(|notes| notes.push(note.clone()));
            Ok(())
        })
    }

    async fn follow(&self, mut take: Take<'_>) {
        let mut notes = self.notes.subscribe();
        let mut heard = 0;
        loop {
            let all: Vec<_> = notes.borrow_and_update()[heard..].to_vec();
            let last_of_its_key =
                |(at, note): &(usize, &Note)| all[at + 1..].iter().all(|it| it.key != note.key);
            let is_first = heard == 0;
            heard += all.len();
            for (_, note) in all.iter().enumerate().filter(last_of_its_key) {
                take(Heard::Note(note.text.clone()));
            }
            if is_first {
                take(Heard::UpToDate);
            }
            if notes.changed().await.is_err() {
                return;
            }
        }
    }
}

fn admin(service: &Service) -> AdminServiceClient<tonic::transport::Channel> {
    AdminServiceClient::new(service.channel())
}

fn a_move(partition: u32, node: &str) -> proto::MovePartitionRequest {
    proto::MovePartitionRequest { partition: Some(partition), node: node.to_owned() }
}

#[tokio::test]
async fn the_nodes_and_partitions_are_told_as_they_are() {
    let service = Service::start_among(|_| {}, Some(Arc::new(Three::default()))).await;
    let nodes = in_time(admin(&service).list_nodes(as_app(proto::ListNodesRequest {}))).await;
    let nodes = nodes.expect("it may").into_inner().nodes;
    let expected = proto::Node {
        name: "node-c".to_owned(),
        process_id: "000000000000000c".to_owned(),
        state: proto::NodeState::Silent.into(),
        address: "node-c.example:7100".to_owned(),
        version: "1.2.3".to_owned(),
        record_format: 1,
        started_at: Some(prost_types::Timestamp { seconds: 1_767_225_600, nanos: 0 }),
        silent_for: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        partition_count: 0,
        is_this_node: false,
    };
    assert_eq!((nodes.len(), &nodes[2]), (3, &expected));
    assert!(nodes[0].is_this_node && nodes[0].state() == proto::NodeState::Alive);
    assert_eq!(nodes[1].state(), proto::NodeState::Leaving);
    let request = as_app(proto::ListPartitionsRequest {});
    let partitions = in_time(admin(&service).list_partitions(request)).await;
    let partitions = partitions.expect("it may").into_inner().partitions;
    let states: Vec<_> = partitions.iter().map(proto::Partition::state).collect();
    use proto::PartitionState::{Giving, Loading, NoOwner, Serving};
    assert_eq!(states, [Serving, Loading, Giving, NoOwner]);
    let expected = proto::Partition {
        partition: 0,
        node: "node-a".to_owned(),
        process_id: "0000000000000001".to_owned(),
        state: Serving.into(),
        moved: true,
    };
    assert_eq!(partitions[0], expected);
    assert_eq!(partitions[3].node, "");
}

#[tokio::test]
async fn a_move_is_done_or_refused_for_one_clear_reason() {
    let three = Arc::new(Three::default());
    let service = Service::start_among(|_| {}, Some(three.clone())).await;
    let moved = async |partition, node: &str| {
        in_time(admin(&service).move_partition(as_app(a_move(partition, node)))).await
    };
    moved(0, "node-b").await.expect("it is moved");
    for (partition, node, code, reason) in [
        (0, "node-c", Code::NotFound, "NODE_NOT_FOUND"),
        (0, "node-x", Code::NotFound, "NODE_NOT_FOUND"),
        (1, "node-b", Code::Unavailable, "PARTITION_BUSY"),
        (2, "node-b", Code::Unavailable, "PARTITION_BUSY"),
        (3, "node-b", Code::Unavailable, "PARTITION_BUSY"),
    ] {
        refused(moved(partition, node).await).is(code, reason);
    }
    refused(moved(4, "node-b").await)
        .is(Code::InvalidArgument, "INVALID_FIELDS")
        .names(&["partition"]);
    for node in ["", &"a".repeat(129)] {
        refused(moved(0, node).await).is(Code::InvalidArgument, "INVALID_FIELDS").names(&["node"]);
    }
    // Which one is said, also if it is the first.
    let nothing = as_app(proto::MovePartitionRequest::default());
    refused(in_time(admin(&service).move_partition(nothing)).await)
        .is(Code::InvalidArgument, "INVALID_FIELDS")
        .names(&["partition", "node"]);
    assert_eq!(*three.moves.lock().expect("no panic"), [(0, "node-b".to_owned())]);
}

#[tokio::test]
async fn a_server_alone_has_no_nodes() {
    let service = Service::start().await;
    let mut admin = admin(&service);
    refused(in_time(admin.list_nodes(as_app(proto::ListNodesRequest {}))).await)
        .is(Code::FailedPrecondition, "NO_CLUSTER");
    refused(in_time(admin.list_partitions(as_app(proto::ListPartitionsRequest {}))).await)
        .is(Code::FailedPrecondition, "NO_CLUSTER");
    refused(in_time(admin.move_partition(as_app(a_move(0, "node-a")))).await)
        .is(Code::FailedPrecondition, "NO_CLUSTER");
}

/// What the program prints, or why it refuses.
async fn tool(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_sessiond"))
        .args(arguments)
        .env_clear()
        .output()
        .await
        .expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it is text");
    match output.status.code() {
        Some(0) => Ok(text(output.stdout)),
        Some(2) => Err(text(output.stderr)),
        other => panic!("{other:?}: {}", text(output.stderr)),
    }
}

#[tokio::test]
async fn the_tools_print_tables_and_json() {
    let three = Arc::new(Three::default());
    let service = Service::start_among(|_| {}, Some(three.clone())).await;
    let url = format!("http://{}", service.address());
    let nodes = in_time(tool(&["nodes", "--address", &url])).await.expect("it prints");
    let expected = "\
NODE      STATE    PARTITIONS     HEARD  ADDRESS              VERSION  STARTED
node-a *  alive             2  0.1s ago  node-a.example:7100  1.2.3    2026-01-01T00:00:00Z
node-b    leaving           1  0.2s ago  node-b.example:7100  1.2.3    2026-01-01T00:00:00Z
node-c    silent            0  5.0s ago  node-c.example:7100  1.2.3    2026-01-01T00:00:00Z

3 nodes, 1 alive; * has answered
";
    assert_eq!(nodes, expected);
    let moving = ["partitions", "--address", &url, "--move", "0=node-b"];
    let partitions = in_time(tool(&moving)).await.expect("it prints");
    let expected = "\
PARTITION  STATE     NODE    MOVED
        0  serving   node-a  here by an admin
        1  loading   node-a
        2  giving    node-b
        3  no owner

4 partitions, 1 serving
";
    assert_eq!(partitions, expected);
    assert_eq!(three.moves.lock().expect("no panic").len(), 1);
    for (tool_name, length) in [("nodes", 3), ("partitions", 4)] {
        let json = in_time(tool(&[tool_name, "--address", &url, "--format", "json"])).await;
        let json: serde_json::Value =
            serde_json::from_str(&json.expect("it prints")).expect("it is JSON");
        assert_eq!(json.as_array().map(Vec::len), Some(length));
        assert_eq!(json[0]["node"], "node-a");
    }
}

#[tokio::test]
async fn the_tools_refuse_in_one_line() {
    let service = Service::start_among(|_| {}, Some(Arc::new(Three::default()))).await;
    let alone = Service::start().await;
    let (url, alone) =
        (format!("http://{}", service.address()), format!("http://{}", alone.address()));
    let folder = Folder::new("tools");
    let missing = folder.path("missing");
    let missing = missing.to_str().expect("a path");
    for (arguments, part) in [
        (&["nodes", "--address", &alone][..], "the server is alone"),
        (&["partitions", "--address", &url, "--move", "1=node-b"], "1=node-b: "),
        (&["partitions", "--address", &url, "--move", "1"], "expected the number"),
        (&["partitions", "--address", &url, "--move", "x=node-b"], "expected the number"),
        (&["nodes", "--address", "localhost:7000"], "begins with http:// or https://"),
        (&["nodes", "--address", "http://127.0.0.1:1"], "no server answers"),
        (&["nodes", "--address", &url, "--credential", missing], "cannot read"),
        (&["nodes", "--address", &url, "--ca", missing], "begins with https://"),
    ] {
        let reason = in_time(tool(arguments)).await.expect_err("it refuses");
        assert_eq!(reason.lines().count(), 1, "{reason}");
        assert!(reason.contains(part), "{reason}");
    }
}

/// A folder of one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("nodes-{name}-{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn the_tools_show_a_credential_that_others_cannot_read() {
    let service = service_among(Arc::new(Three::default())).await;
    let url = format!("http://{}", service.address());
    let folder = Folder::new("credential");
    let file = folder.path("operator.key");
    fs::write(&file, format!("{}\n", operator())).expect("a file");
    let path = file.to_str().expect("a path");
    let asks = ["nodes", "--address", &url, "--credential", path];
    let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("a file");
    mode(0o644);
    let reason = in_time(tool(&asks)).await.expect_err("others may read it");
    assert!(reason.contains("chmod 600"), "{reason}");
    mode(0o600);
    in_time(tool(&asks)).await.expect("it may");
    let reason = in_time(tool(&asks[..3])).await.expect_err("it shows none");
    assert!(reason.contains("a credential is needed"), "{reason}");
}

/// That of a key, which lasts until it is restored: the clock of the machine is not that of the tests.
fn of_key(key: &str) -> Option<proto::Revocation> {
    let id = key.split('_').nth(1).expect("a key has an id").to_owned();
    Some(proto::Revocation { what: Some(proto::revocation::What::KeyId(id)) })
}

/// Waits until the bearer of a credential is let in, or is not.
async fn is_let_in(service: &Service, credential: &str, is_in: bool) {
    let see = async {
        while refused_call(service, credential).await.as_deref()
            != (!is_in).then_some("CREDENTIAL_REVOKED")
        {
            tokio::task::yield_now().await;
        }
    };
    in_time(see).await;
}

#[tokio::test]
async fn a_revocation_is_in_force_at_all_nodes_and_at_those_that_start_later() {
    let board = Arc::new(Board::default());
    let node = || Arc::new(Three { board: board.clone(), ..Three::default() });
    let (a, b) = (service_among(node()).await, service_among(node()).await);
    let lobby = lobby();
    is_let_in(&b, &lobby, true).await;
    let mut admin = AdminServiceClient::new(bearing(&a, &operator(), true));
    let revoke = proto::RevokeCredentialsRequest { revocation: of_key(&lobby) };
    in_time(admin.revoke_credentials(revoke.clone())).await.expect("it may");
    is_let_in(&a, &lobby, false).await;
    is_let_in(&b, &lobby, false).await;
    // It starts with what is in force.
    let c = service_among(node()).await;
    assert_eq!(refused_call(&c, &lobby).await.as_deref(), Some("CREDENTIAL_REVOKED"));
    let mut admin = AdminServiceClient::new(bearing(&c, &operator(), true));
    let restore = proto::RestoreCredentialsRequest { revocation: of_key(&lobby) };
    let restored = in_time(admin.restore_credentials(restore)).await.expect("it may").into_inner();
    assert!(restored.restored);
    for service in [&a, &b, &c] {
        is_let_in(service, &lobby, true).await;
    }
    is_let_in(&service_among(node()).await, &lobby, true).await;
    // Nothing is in force here that the others do not know.
    board.fails.store(true, Ordering::Relaxed);
    refused(in_time(admin.revoke_credentials(revoke)).await).is(Code::Unavailable, "NOT_TOLD");
    assert_eq!(refused_call(&c, &lobby).await, None);
}
