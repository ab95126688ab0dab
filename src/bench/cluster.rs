//! Nodes of a cluster of their own, with the servers of NATS that keep its log.

use super::{
    PATIENCE, Result,
    args::BenchArgs,
    folder::Folder,
    grpc::Connection,
    process::{Process, free_address},
    rows::Skipped,
    server::GATEWAY_USERS,
    socket::Socket,
    tally::Tally,
};
use crate::{
    cluster::rules::{RIPENING, STAY},
    proto::{
        ListPartitionsRequest, ListPartitionsResponse, MovePartitionRequest, Partition,
        PartitionState,
    },
};
use prost::Message;
use std::{
    env,
    fmt::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{process::Command, time::sleep};

/// How long to wait before looking again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Partitions that stay where they are for so long have come to the nodes that are to have them.
const SETTLED: Duration = Duration::from_micros(STAY + RIPENING);

/// What a cluster is made of.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub nodes: usize,
    /// Servers of NATS; each has everything.
    pub servers: usize,
    pub partitions: usize,
}

/// Servers of NATS. They end with this, and what they stored goes.
#[derive(Debug)]
pub struct Nats {
    servers: Vec<Process>,
    _folder: Folder,
}

/// The nodes of a cluster.
#[derive(Debug)]
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub nats: Nats,
    args: Arguments,
    started: usize,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub process: Process,
}

/// What all nodes are given.
#[derive(Debug)]
struct Arguments {
    threads: usize,
    size: Size,
    durability: &'static str,
}

impl Nats {
    /// Starts so many, which store what is acked; the row is left out where the program is missing.
    async fn start(count: usize) -> Result<Self> {
        let program = program()?;
        let folder = Folder::new()?;
        let addresses = || (0..count).map(|_| free_address()).collect::<Result<Vec<_>>>();
        let (listen, routes) = (addresses()?, addresses()?);
        let all = routes.iter().map(|it| format!("nats://{it}")).collect::<Vec<_>>().join(", ");
        let mut servers = Vec::new();
        for (number, (listen, route)) in listen.iter().zip(&routes).enumerate() {
            let store = folder.path().join(format!("nats-{number}"));
            let mut settings = format!(
                "server_name: nats-{number}\nlisten: \"{listen}\"\njetstream {{ store_dir: {store:?}, \
                 sync_interval: always, max_file_store: 1T }}\n"
            );
            if count > 1 {
                let cluster = format!("{{ name: bench, listen: \"{route}\", routes: [{all}] }}");
                writeln!(settings, "cluster {cluster}")?;
            }
            let settings = folder.write(&format!("nats-{number}.conf"), settings.as_bytes())?;
            let mut command = Command::new(&program);
            command.arg("-c").arg(settings);
            servers.push(Process::start_other(&mut command, *listen).await?);
        }
        Ok(Self { servers, _folder: folder })
    }

    fn urls(&self) -> String {
        let urls = self.servers.iter().map(|it| format!("nats://{}", it.address));
        urls.collect::<Vec<_>>().join(",")
    }
}

fn program() -> Result<PathBuf> {
    if let Some(named) = env::var_os("NATS_SERVER") {
        return Ok(named.into());
    }
    let is_there = |path: &PathBuf| path.is_file();
    let found = env::var_os("PATH").and_then(|path| {
        env::split_paths(&path).map(|folder| Path::join(&folder, "nats-server")).find(is_there)
    });
    let missing = "needs nats-server on the PATH, or named by NATS_SERVER";
    found.ok_or_else(|| Skipped(missing).into())
}

impl Cluster {
    /// Starts one, and waits until every node knows an owner of each partition.
    pub async fn start(args: &BenchArgs, size: Size, durability: &'static str) -> Result<Self> {
        if args.address.is_some() {
            return Err(Skipped("needs servers of its own, not the one at --address").into());
        }
        let nats = Nats::start(size.servers).await?;
        let args = Arguments { threads: args.threads, size, durability };
        let mut cluster = Self { nodes: Vec::new(), nats, args, started: 0 };
        for _ in 0..size.nodes {
            cluster.add_node().await?;
        }
        for node in &cluster.nodes {
            cluster.served(node.process.address).await?;
        }
        Ok(cluster)
    }

    /// Starts one more node.
    pub async fn add_node(&mut self) -> Result<()> {
        let Arguments { threads, size, durability } = self.args;
        let name = format!("node-{}", self.started);
        let begun = Instant::now();
        let process = loop {
            let command_line = format!(
                "serve --listen 127.0.0.1:0 --log-format json --threads {threads} \
                 --max-gateway-users {GATEWAY_USERS} --node {name} --node-listen 127.0.0.1:0 \
                 --cluster {} --cluster-partitions {} --cluster-replicas {} \
                 --durability {durability}",
                self.nats.urls(),
                size.partitions,
                size.servers,
            );
            let command_line: Vec<_> = command_line.split(' ').map(str::to_owned).collect();
            match Process::start(&command_line).await {
                Ok(process) => break process,
                // Servers that have just been started have to find each other.
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        };
        self.started += 1;
        self.nodes.push(Node { name, process });
        Ok(())
    }

    /// Waits until a node knows an owner of each partition that answers; returns them.
    pub async fn served(&self, at: SocketAddr) -> Result<Vec<Partition>> {
        let connection = connect(at).await?;
        let begun = Instant::now();
        loop {
            let partitions = partitions(&connection).await?;
            if partitions.iter().all(|it| it.state() == PartitionState::Serving) {
                return Ok(partitions);
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("not all is served after {PATIENCE:?}: {partitions:?}").into());
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until the nodes have shared the partitions among them: a stream ends when its partition moves.
    pub async fn settled(&self) -> Result<()> {
        let at = self.nodes[0].process.address;
        let owners = |partitions: Vec<Partition>| {
            partitions.into_iter().map(|it| it.node).collect::<Vec<_>>()
        };
        let begun = Instant::now();
        let (mut last, mut since) = (owners(self.served(at).await?), begun);
        while since.elapsed() < SETTLED {
            sleep(LOOK_AGAIN).await;
            let now = owners(self.served(at).await?);
            if now != last {
                (last, since) = (now, Instant::now());
            }
            if begun.elapsed() > PATIENCE {
                return Err("partitions do not stay where they are".into());
            }
        }
        Ok(())
    }

    /// Gives all partitions to a node, where they stay.
    pub async fn pin(&self, to: &Node) -> Result<()> {
        for node in &self.nodes {
            let connection = connect(node.process.address).await?;
            for partition in partitions(&connection).await? {
                if partition.node != node.name {
                    continue;
                }
                let (partition, node) = (partition.partition, to.name.clone());
                let request = MovePartitionRequest { partition: Some(partition), node };
                connection.unary("AdminService/MovePartition", &request).await?;
            }
        }
        let begun = Instant::now();
        while self.served(to.process.address).await?.iter().any(|it| it.node != to.name) {
            if begun.elapsed() > PATIENCE {
                return Err("a partition does not come to its node".into());
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }
}

async fn connect(at: SocketAddr) -> Result<Connection> {
    let socket = Socket::connect(at, None, Arc::new(Tally::default())).await?;
    Ok(Connection::open(socket, &at.into()).await?.for_app())
}

async fn partitions(connection: &Connection) -> Result<Vec<Partition>> {
    let request = ListPartitionsRequest::default();
    let reply = connection.unary("AdminService/ListPartitions", &request).await?;
    Ok(ListPartitionsResponse::decode(reply)?.partitions)
}
