//! Nodes as processes, at the same ports after each start.

use crate::{
    link::{Link, State},
    nats::Three,
    server::{self, signal},
};
use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitStatus},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Ports from here on: systems give none of these to clients. Each process has some of its own, so that
/// no cluster takes the port of a node that is down in another one.
const PORTS: u16 = 28_000;
const PORTS_EACH: u16 = 20;
const PROCESSES: u32 = 100;

/// How long a node may take to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// A node, and the links that lead to it and from it.
#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub address: SocketAddr,
    /// To each server of NATS.
    to_nats: Vec<Link>,
    /// From all other nodes.
    from_nodes: Link,
    child: Option<Child>,
    flags: Vec<String>,
    log: PathBuf,
}

impl Node {
    /// A node that is not started yet, which writes its log into this folder.
    pub async fn new(number: usize, nats: &Three, partitions: usize, folder: &Path) -> Self {
        let [address, node_port] = [port(), port()];
        let from_nodes = Link::to(node_port).await;
        let mut to_nats = Vec::new();
        for server in &nats.servers {
            let url = server.url();
            let address = url.trim_start_matches("nats://").parse().expect("an address");
            to_nats.push(Link::to(address).await);
        }
        let urls: Vec<_> = to_nats.iter().map(|it| format!("nats://{}", it.address)).collect();
        let name = format!("node-{number}");
        let flags = [
            ("--listen", address.to_string()),
            ("--node-listen", node_port.to_string()),
            ("--node-address", from_nodes.address.to_string()),
            ("--node", name.clone()),
            ("--cluster", urls.join(",")),
            ("--cluster-partitions", partitions.to_string()),
            ("--cluster-log-bytes", "128MiB".to_owned()),
            ("--tick-interval", "20ms".to_owned()),
            ("--drain-notice", "0s".to_owned()),
        ];
        Self {
            log: folder.join(format!("{name}.log")),
            flags: flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect(),
            name,
            address,
            to_nats,
            from_nodes,
            child: None,
        }
    }

    pub fn start(&mut self) {
        let mut log = fs::OpenOptions::new();
        let log = log.create(true).append(true).open(&self.log).expect("a log");
        let mut command = Command::new(server::program());
        server::without_settings(&mut command);
        let child =
            command.args(["serve", "--log-format", "json"]).args(&self.flags).stderr(log).spawn();
        self.child = Some(child.expect("the program runs"));
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is a child");
        child.wait().expect("it is a child");
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        signal(name, self.child.as_ref().expect("it runs").id());
    }

    /// Tells it to stop, and waits for that. None = it does not.
    pub async fn stop(&mut self) -> Option<(Duration, ExitStatus)> {
        self.signal("-TERM");
        let begun = Instant::now();
        while begun.elapsed() < STOPS_WITHIN {
            if let Some(status) = self.ended() {
                self.child = None;
                return Some((begun.elapsed(), status));
            }
            sleep(Duration::from_millis(5)).await;
        }
        None
    }

    /// How it ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().expect("it was started").try_wait().expect("it is a child")
    }

    /// What becomes of its links to NATS.
    pub fn set_nats(&self, state: State) {
        self.to_nats.iter().for_each(|link| link.set(state));
    }

    /// What becomes of the links to it from the other nodes.
    pub fn set_nodes(&self, state: State) {
        self.from_nodes.set(state);
    }

    /// Lines of its log that tell of a panic.
    pub fn panics(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains("panicked")).map(str::to_owned).collect()
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that is free. Each is given out once before any is again: those of a cluster differ, though nobody
/// listens there yet.
fn port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = PORTS + (process::id() % PROCESSES) as u16 * PORTS_EACH;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS_EACH;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A folder for logs, which goes with the test unless that fails.
#[derive(Debug)]
pub struct Logs(pub PathBuf);

impl Logs {
    pub fn new(seed: u64) -> Self {
        let name = format!("cluster-faults-{}-{seed}", process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("cluster_faults: the logs are in {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
