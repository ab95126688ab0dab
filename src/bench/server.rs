//! The measured server: a child of this process, or somebody else's.

use super::{
    Result,
    args::BenchArgs,
    cluster::{Cluster, Nats},
    credentials::Credentials,
    place::{Pair, Place},
    process::Process,
    rows::Skipped,
};
use std::{path::Path, sync::Arc};
use tokio::net::lookup_host;

/// One backend may have so many users: rows ask how many the server can serve, not how many it lets in.
pub const GATEWAY_USERS: usize = 10_000_000;

/// A server that listens.
pub struct Server {
    /// Where, and how it is reached.
    pub place: Place,
    /// Its process, where it is a child; of a cluster all nodes.
    pub processes: Vec<Process>,
    /// What it needs for TLS, where it is a child with TLS.
    _pair: Option<Pair>,
    /// What keeps the log, where it is a cluster.
    _nats: Option<Nats>,
}

impl Server {
    /// A new one, or the one that the arguments name.
    pub async fn start(args: &BenchArgs) -> Result<Self> {
        if let Some(address) = &args.address {
            let found = lookup_host(address).await?.next().ok_or("the address is of no host")?;
            let place = Place::of(found, address, &args.tls)?;
            return Ok(Server { place, processes: Vec::new(), _pair: None, _nats: None });
        }
        Self::start_with(args, args.threads).await
    }

    /// A new one with so many threads.
    pub async fn start_with(args: &BenchArgs, threads: usize) -> Result<Self> {
        Self::launch(args, threads, &[]).await
    }

    /// A new one that speaks TLS.
    pub async fn start_with_tls(args: &BenchArgs) -> Result<Self> {
        let pair = Pair::write()?;
        let files = [("--tls-certificate", &pair.certificate), ("--tls-key", &pair.key)]
            .map(|(flag, file)| format!("{flag}={}", file.display()));
        let server = Self::launch(args, args.threads, &files).await?;
        Ok(Server { place: pair.place(server.place.address)?, _pair: Some(pair), ..server })
    }

    /// A new one where each call needs one of these credentials.
    pub async fn start_with_identity(
        args: &BenchArgs,
        credentials: Arc<Credentials>,
    ) -> Result<Self> {
        let file = format!("--identity={}", credentials.settings().display());
        let server = Self::launch(args, args.threads, &[file]).await?;
        let place = Place { credentials: Some(credentials), ..server.place };
        Ok(Server { place, ..server })
    }

    /// A new one whose apps are limited by a file.
    pub async fn start_with_apps(args: &BenchArgs, file: &Path) -> Result<Self> {
        Self::launch(args, args.threads, &[format!("--apps={}", file.display())]).await
    }

    /// A new one whose sessions are stored in a folder and have this durability.
    pub async fn start_with_store(
        args: &BenchArgs,
        folder: &Path,
        durability: &str,
    ) -> Result<Self> {
        let store = format!("--store={}", folder.display());
        let durability = format!("--durability={durability}");
        Self::launch(args, args.threads, &[durability, store]).await
    }

    /// The nodes of a cluster, whose clients call one of them, or each in turn.
    pub fn of_cluster(cluster: Cluster, called: impl Fn(usize) -> bool) -> Self {
        let Cluster { nodes, nats, .. } = cluster;
        let processes: Vec<_> = nodes.into_iter().map(|node| node.process).collect();
        let called = processes.iter().enumerate().filter(|(number, _)| called(*number));
        let addresses = called.map(|(_, process)| process.address).collect();
        Server { place: Place::of_several(addresses), processes, _pair: None, _nats: Some(nats) }
    }

    /// A child. What rows compare differs in these flags alone. Where somebody else's server is
    /// measured, the row is left out.
    async fn launch(args: &BenchArgs, threads: usize, flags: &[String]) -> Result<Self> {
        if args.address.is_some() {
            return Err(Skipped("needs a server of its own, not the one at --address").into());
        }
        let command_line = format!(
            "serve --listen 127.0.0.1:0 --log-format json --threads {threads} \
             --max-gateway-users {GATEWAY_USERS}"
        );
        let command_line = command_line.split(' ').map(str::to_owned);
        let command_line: Vec<_> = command_line.chain(flags.iter().cloned()).collect();
        let process = Process::start(&command_line).await?;
        Ok(Server {
            place: process.address.into(),
            processes: vec![process],
            _pair: None,
            _nats: None,
        })
    }

    /// The memory it holds, as far as that can be seen from here.
    pub fn resident_bytes(&self) -> Result<Option<u64>> {
        self.sum(Process::resident_bytes)
    }

    /// The bytes that it has had the kernel write so far, as far as that can be seen from here.
    pub fn written_bytes(&self) -> Result<Option<u64>> {
        self.sum(Process::written_bytes)
    }

    fn sum(&self, of: impl Fn(&Process) -> Result<u64>) -> Result<Option<u64>> {
        let all: Vec<_> = self.processes.iter().map(of).collect::<Result<_>>()?;
        Ok((!all.is_empty()).then(|| all.iter().sum()))
    }

    /// Ends it, if it is a child.
    pub async fn stop(self) -> Result<()> {
        for process in self.processes {
            process.stop().await?;
        }
        Ok(())
    }
}
