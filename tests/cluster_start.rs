//! Clusters that a node cannot be started in, as whoever starts it sees it: a clear line for each
//! reason, exit code 2, and nothing has changed.

#[allow(dead_code)]
#[path = "support/nats.rs"]
mod nats;

use nats::{Server, Three};
use serde_json::{Value, json};
use sessiond::proto::{
    ListNodesRequest, ListSessionsRequest, admin_service_client::AdminServiceClient,
    session_service_client::SessionServiceClient,
};
use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    thread,
};
use tonic_types::StatusExt;

/// Nobody listens there.
const NOWHERE: &str = "nats://127.0.0.1:1";

/// A node that needs no more than a cluster.
const NODE: [&str; 12] = [
    "--listen",
    "127.0.0.1:0",
    "--node-listen",
    "127.0.0.1:0",
    "--node",
    "ada",
    "--cluster-replicas",
    "1",
    "--cluster-log-bytes",
    "128MiB",
    "--cluster-partitions",
    "4",
];

#[test]
fn settings_that_do_not_fit_are_told_together_and_nothing_is_opened() {
    let folder = folder("fit");
    let (store, file) = (folder.join("store"), folder.join("file"));
    let (store, path) = (store.to_str().expect("text"), file.to_str().expect("text"));
    fs::write(&file, "no certificate").expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a mode");
    let listen = ["--listen", "127.0.0.1:0"];
    let with = |flags: &[&str]| refusals(&[&listen, flags].concat());
    let lines = with(&[
        "--cluster",
        NOWHERE,
        "--store",
        store,
        "--cluster-replicas",
        "2",
        "--cluster-credentials",
        path,
        "--cluster-ca",
        path,
    ]);
    assert_eq!(
        lines,
        [
            "a node of a cluster stores in NATS: leave out --store, or --cluster".to_owned(),
            "cluster-replicas is 2: expected 1, 3 or 5".to_owned(),
            "a node of a cluster needs a port for the other nodes: give one with --node-listen"
                .to_owned(),
            format!("others have access to {path} (its mode is 0644): chmod 600 it"),
            format!("{path} has no certificate in PEM"),
        ]
    );
    assert!(!Path::new(store).exists());
    for everywhere in [":7101", "0.0.0.0:7101", "[::]:7101"] {
        let lines = with(&["--cluster", NOWHERE, "--node-listen", everywhere]);
        let line = format!(
            "the port of nodes at {everywhere} is on all interfaces: say with --node-address where \
             other nodes reach it"
        );
        assert_eq!(lines, [line]);
    }
}

#[test]
fn settings_of_a_cluster_without_one_are_told_in_one_line_and_those_of_the_port_of_nodes_are_none()
{
    let lines = |flags: &[&str]| refusals(&[&["--listen", "127.0.0.1:0"], flags].concat());
    let others: &[&str] = &[
        "--cluster-name",
        "games",
        "--cluster-partitions",
        "4",
        "--cluster-replicas",
        "1",
        "--cluster-log-bytes",
        "128MiB",
        "--cluster-credentials",
        "file",
        "--cluster-ca",
        "file",
        "--node-address",
        "ada:7101",
    ];
    assert_eq!(
        lines(&[&["--node-listen", "127.0.0.1:0", "--node", "ada"], others].concat()),
        [
            "cluster-name, cluster-partitions, cluster-replicas, cluster-log-bytes, cluster-credentials, \
          cluster-ca and node-address are given without cluster: give that too, or leave them out"
        ]
    );
    assert_eq!(
        lines(&["--node-address", "ada:7101"]),
        ["node-address is given without cluster: give that too, or leave it out"]
    );
}

#[test]
fn servers_of_nats_that_cannot_be_used_are_told_without_passwords() {
    let refused = |url: &str| of_node(&["--cluster", url]);
    let line = refused("http://ada:s3cret@one,nats://two");
    assert_eq!(line, "the NATS servers cannot be used: URL 1 is not like nats://host:4222");
    let old = old_server();
    assert_eq!(
        refused(&format!("nats://{old}")),
        "the NATS servers cannot be used: version 2.9.10 is too old: 2.12 or later"
    );
    let Some(server) = Server::plain("# no jetstream") else { return };
    assert_eq!(
        refused(&server.url()),
        "the NATS servers cannot be used: JetStream is not enabled for this account"
    );
    let line = refused(&server.url().replace("nats://", "tls://"));
    assert!(line.starts_with("no NATS server can be reached: 127.0.0.1:"), "{line}");
    assert!(line.contains(": no TLS: "), "{line}");
    let users = "authorization { users: [{ user: ada, password: s3cret }] }";
    let Some(server) = Server::with(users) else { return };
    let host = server.url().replace("nats://", "");
    for url in [format!("nats://{host}"), format!("nats://ada:wr0ng@{host}")] {
        assert_eq!(refused(&url), format!("the NATS server refuses the credentials: {host}"));
    }
}

#[tokio::test]
async fn a_node_waits_for_nats_and_serves_nobody_before_it_has_joined() {
    let (nats, clients) = (free_port(), free_port());
    if nats::shared().is_none() {
        return;
    }
    let url = format!("nats://ada:s3cret@127.0.0.1:{nats}");
    let listen = format!("127.0.0.1:{clients}");
    let mut node = Node::start_at(&listen, &url);
    let line = node.log.line("waiting to join the cluster: ");
    let why = format!(": no NATS server can be reached: 127.0.0.1:{nats}: ");
    assert!(line.contains(&why) && !line.contains("s3cret"), "{line}");
    assert_eq!(health(&listen), Some(1), "it says that it is not well");
    let channel = tonic::transport::Endpoint::new(format!("http://{listen}")).expect("a URL");
    let channel = channel.connect().await.expect("it listens");
    let mut sessions = SessionServiceClient::new(channel.clone());
    let user_id = "ada".to_owned();
    let list = ListSessionsRequest { app: "app".to_owned(), user_id, ..Default::default() };
    let refused = sessions.list_sessions(list.clone()).await.expect_err("it has not joined");
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    let details = refused.get_error_details();
    assert_eq!(details.error_info().map(|info| &*info.reason), Some("STARTING"));
    assert!(details.retry_info().is_some_and(|info| info.retry_delay.is_some()));
    let mut admin = AdminServiceClient::new(channel);
    let refused =
        admin.list_nodes(ListNodesRequest::default()).await.expect_err("neither has this");
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");

    let users = "authorization { users: [{ user: ada, password: s3cret }] }";
    let _server = Server::with(&format!("listen: \"127.0.0.1:{nats}\"\n{users}")).expect("NATS");
    node.log.line("listening");
    assert_eq!(health(&listen), Some(0));
    sessions.list_sessions(list).await.expect("it has joined");
    assert_eq!(node.stop(), Some(0));
    let waits = node.log.lines().filter(|line| line.contains("waiting to join")).count();
    assert_eq!(waits, 0, "it is said once");
}

#[tokio::test]
async fn a_node_serves_nobody_as_long_as_it_cannot_learn_what_is_revoked() {
    let Some(mut three) = Three::start() else { return };
    let (client, listen) =
        (async_nats::connect(three.servers[0].url()).await, format!("127.0.0.1:{}", free_port()));
    let client = client.expect("a connection");
    // With one replica each, a stream is at one server: that of the notes is lost alone.
    let mut names = (0..20).map(|it| format!("--cluster-name=try-{it}"));
    let (name, server, _ada) = loop {
        let name = names.next().expect("NATS spreads its streams");
        let flags = ["--cluster-partitions=1", &name];
        let mut ada = Node::with("127.0.0.1:0", &three.urls(), &flags);
        ada.log.line("listening");
        let cluster = name.split('=').next_back().expect("a name");
        let [log, notes] = [
            server_of(&client, &format!("{cluster}-0")).await,
            server_of(&client, &format!("{cluster}-notes")).await,
        ];
        if log != notes {
            break (name, notes, ada);
        }
    };
    three.servers[server].kill();
    let flags = ["--cluster-partitions=1", "--node=ben", &name];
    let mut ben = Node::with(&listen, &three.urls(), &flags);
    ben.log.line("waiting to ");
    assert_eq!(health(&listen), Some(1), "it says that it is not well");
    three.servers[server].restart();
    ben.log.line("listening");
    assert_eq!(health(&listen), Some(0));
}

#[test]
fn what_credentials_lack_is_told_at_the_start() {
    let permissions = |publish: &str| {
        format!(
            "authorization {{ users: [{{ user: ada, password: s3cret, permissions: {{ \
             publish: [\"sessiond.>\", \"_INBOX.>\", {publish}], \
             subscribe: [\"sessiond.>\", \"_INBOX.>\"] }} }}] }}"
        )
    };
    let url = |server: &Server| server.url().replace("nats://", "nats://ada:s3cret@");
    let Some(server) = Server::with(&permissions("\"sessiond.x\"")) else { return };
    let line = of_node(&["--cluster", &url(&server)]);
    let lacks =
        |subject: &str| format!("Permissions Violation for Publish to \"$JS.API.{subject}\"");
    let of_streams =
        ["STREAM.INFO", "STREAM.CREATE", "STREAM.PURGE", "STREAM.MSG.GET", "DIRECT.GET"];
    let mut all: Vec<_> = of_streams.map(|it| lacks(&format!("{it}.sessiond-256"))).into();
    all.push(lacks("INFO"));
    let all = all.join("; ");
    assert_eq!(line, format!("the NATS server does not permit what the store needs: {all}"));

    // What only nodes need among each other.
    for (subject, what) in [
        ("sessiond.beat", "Publish to \"sessiond.beat\""),
        ("$JS.API.CONSUMER.>", "Publish to \"$JS.API.CONSUMER.CREATE.sessiond-notes\""),
        ("sessiond.note.*", "Publish to \"sessiond.note.none\""),
        ("sessiond.node.>", "Publish to \"sessiond.node."),
    ] {
        let all = "{ allow: [\"sessiond.>\", \"_INBOX.>\", \"$JS.API.>\"], deny: [DENIED] }";
        let denied = all.replace("DENIED", &format!("{subject:?}"));
        let server = Server::with(&format!(
            "authorization {{ users: [{{ user: ada, password: s3cret, permissions: {{ \
             publish: {denied}, subscribe: [\"sessiond.>\", \"_INBOX.>\"] }} }}] }}"
        ));
        let line = of_node(&["--cluster", &url(&server.expect("NATS"))]);
        assert!(line.contains(what), "{subject}: {line}");
    }

    // Without the system's rights it is said once what cannot be known.
    let server = Server::with(&permissions("\"$JS.API.>\"")).expect("NATS");
    let mut node = Node::start_at("127.0.0.1:0", &url(&server));
    let line =
        node.log.line("it cannot be checked that the NATS servers have sync_interval: always");
    assert!(line.contains("$SYS.REQ.SERVER.PING.JSZ"), "{line}");
    node.log.line("listening");
    assert_eq!(node.stop(), Some(0));
    let rest: Vec<_> = node.log.lines().collect();
    assert!(
        !rest.iter().any(|it| it.contains("sync_interval") || it.contains("ERROR")),
        "{rest:?}"
    );

    // As docs/cluster.md says how to grant them.
    let accounts = "accounts { \
        SYS: { users: [{ user: sys, password: s3cret }], exports: [{ \
            service: \"$SYS.REQ.SERVER.PING.JSZ\", response: stream, accounts: [SESSIONS] }] }, \
        SESSIONS: { jetstream: enabled, users: [{ user: ada, password: s3cret }], imports: [{ \
            service: { account: SYS, subject: \"$SYS.REQ.SERVER.PING.JSZ\" } }] } }\n\
        system_account: SYS\njetstream { store_dir: STORE }";
    let server = Server::with(accounts).expect("NATS");
    let mut node = Node::start_at("127.0.0.1:0", &url(&server));
    let line = node.log.line("the NATS server ");
    assert!(line.contains("set sync_interval: always"), "{line}");
}

#[test]
fn a_node_that_waits_for_nats_stops_when_it_is_told_to() {
    let mut node = Node::start_at("127.0.0.1:0", NOWHERE);
    node.log.line("waiting to join the cluster: ");
    assert_eq!(node.stop(), Some(0));
}

#[tokio::test]
async fn a_cluster_that_is_another_one_is_refused_and_left_alone() {
    let Some(server) = Server::with("") else { return };
    let url = server.url();
    let refused = |flags: &[&str]| of_node(&[&["--cluster", &url], flags].concat());
    let client = async_nats::connect(&url).await.expect("a connection");
    let (_node, node_address) = Node::start(&url);
    let before = streams(&client).await;
    assert_eq!(before.len(), 4, "{before:?}");

    assert_eq!(
        refused(&[]),
        format!(
            "the cluster has a node \"ada\" already, at {node_address}: stop that one first, or give this \
             one another name"
        )
    );
    let bob = "--node=bob";
    let cannot = |stream: &str| format!("the stream {stream} cannot be used: ");
    for (flag, difference) in [
        ("--cluster-partitions=2", "sessiond-partitions is \"4\", not \"2\" (cluster-partitions)"),
        ("--cluster-partitions=8", "sessiond-partitions is \"4\", not \"8\" (cluster-partitions)"),
        ("--cluster-log-bytes=256MiB", "max_bytes is 134217728, not 268435456 (cluster-log-bytes)"),
        ("--cluster-replicas=3", "num_replicas is 1, not 3 (cluster-replicas)"),
    ] {
        assert_eq!(refused(&[bob, flag]), format!("{}{difference}", cannot("sessiond-0")));
    }
    assert_eq!(streams(&client).await, before);

    // Somebody changes one.
    let mut config = before[2].clone();
    config["max_age"] = json!(3_600_000_000_000_u64);
    ask(&client, "STREAM.UPDATE.sessiond-2", config).await;
    let changed = streams(&client).await;
    let line = format!("{}max_age is 3600000000000, not 0", cannot("sessiond-2"));
    assert_eq!(refused(&[bob]), line);
    assert_eq!(streams(&client).await, changed);

    // And one of a cluster of another name has more replicas than there are servers.
    let line = refused(&[bob, "--cluster-name=blue", "--cluster-replicas=3"]);
    assert!(line.starts_with(&format!("{}it cannot be made: ", cannot("blue-1"))), "{line}");
    assert_eq!(streams(&client).await, changed);
}

/// Runs `sessiond serve` with flags that it refuses, and returns the lines that say why.
fn refusals(flags: &[&str]) -> Vec<String> {
    let output = serve(flags).output().expect("it runs");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{text}");
    assert!(!text.contains("s3cret") && !text.contains("wr0ng"), "{text}");
    assert!(!text.contains("ERROR"), "{text}");
    let lines = text.lines().filter_map(|line| line.strip_prefix("sessiond: "));
    lines.map(str::to_owned).collect()
}

/// The same for [`NODE`] with more flags, of which the last counts, and one reason.
fn of_node(flags: &[&str]) -> String {
    let lines = refusals(&with_others(flags));
    let [line] = &lines[..] else { panic!("{lines:?}") };
    line.clone()
}

/// Flags of the form `--name=value`, and those of [`NODE`] that are not among them.
fn with_others<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    let names: Vec<_> =
        flags.iter().filter_map(|flag| flag.split_once('=')).map(|(name, _)| name).collect();
    let others = NODE.chunks(2).filter(|pair| !names.contains(&pair[0])).flatten().copied();
    others.chain(flags.iter().copied()).collect()
}

fn serve(flags: &[&str]) -> Command {
    let mut serve = Command::new(env!("CARGO_BIN_EXE_sessiond"));
    serve.arg("serve").args(flags).env_clear();
    serve
}

/// A node of a cluster that runs.
struct Node {
    child: Child,
    log: Log,
}

/// What a process says, in lines of JSON.
struct Log(Lines<BufReader<ChildStderr>>);

impl Log {
    /// The next line that begins so.
    fn line(&mut self, begin: &str) -> String {
        let begin = format!("\"message\":\"{begin}");
        self.lines().find(|line| line.contains(&begin)).expect("it says so")
    }

    /// All that are left.
    fn lines(&mut self) -> impl Iterator<Item = String> + '_ {
        self.0.by_ref().map_while(Result::ok)
    }
}

impl Node {
    fn start_at(listen: &str, url: &str) -> Self {
        Self::with(listen, url, &[])
    }

    /// The same with more flags.
    fn with(listen: &str, url: &str, flags: &[&str]) -> Self {
        let listen = format!("--listen={listen}");
        let first = [&*listen, "--cluster", url, "--log-format", "json"];
        let mut child = serve(&with_others(&[&first, flags].concat()));
        let mut child = child.stderr(Stdio::piped()).spawn().expect("it runs");
        let log = Log(BufReader::new(child.stderr.take().expect("it is piped")).lines());
        Self { child, log }
    }

    /// A node that has joined, and where other nodes reach it.
    fn start(url: &str) -> (Self, String) {
        let mut node = Self::start_at("127.0.0.1:0", url);
        let line = node.log.line("listening for other nodes");
        let line: Value = serde_json::from_str(&line).expect("a JSON line");
        let address = line["address"].as_str().expect("an address").to_owned();
        (node, address)
    }

    /// Has it end, and returns its exit code.
    fn stop(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()));
        self.child.wait().expect("it ends").code()
    }
}

/// What `sessiond health` exits with.
fn health(address: &str) -> Option<i32> {
    let mut health = Command::new(env!("CARGO_BIN_EXE_sessiond"));
    health.args(["health", "--address", address]).env_clear();
    health.output().expect("it runs").status.code()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How each stream of partitions is set, by name.
async fn streams(client: &async_nats::Client) -> Vec<Value> {
    let mut all = Vec::new();
    let listed = ask(client, "STREAM.LIST", Value::Null).await;
    for stream in listed["streams"].as_array().expect("streams") {
        if stream["config"]["name"] != "sessiond-notes" {
            all.push(stream["config"].clone());
        }
    }
    all.sort_by_key(|config| config["name"].to_string());
    all
}

/// The number of the server that leads a stream.
async fn server_of(client: &async_nats::Client, stream: &str) -> usize {
    let info = ask(client, &format!("STREAM.INFO.{stream}"), Value::Null).await;
    let leader = info["cluster"]["leader"].as_str().expect("a leader");
    leader.trim_start_matches("server").parse().expect("a number")
}

async fn ask(client: &async_nats::Client, what: &str, body: Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let reply = client.request(format!("$JS.API.{what}"), body.into()).await.expect("a reply");
    let reply: Value = serde_json::from_slice(&reply.payload).expect("JSON");
    assert!(reply.get("error").is_none(), "{reply}");
    reply
}

/// Where somebody greets as an old server does, until the process ends.
fn old_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let info = json!({
        "server_id": "old", "server_name": "old", "version": "2.9.10", "proto": 1, "headers": true,
        "host": "127.0.0.1", "port": address.port(), "max_payload": 1_048_576, "jetstream": true,
    });
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut answers = stream.try_clone().expect("the same socket");
            let _ = write!(answers, "INFO {info}\r\n");
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if line == "PING" {
                    let _ = write!(answers, "PONG\r\n");
                }
            }
        }
    });
    address
}

fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cluster-start-{name}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a folder");
    path
}
