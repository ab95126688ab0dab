//! Many nodes.

use super::{Bench, turns};
use crate::bench::{
    PATIENCE, Result,
    args::BenchArgs,
    cluster::{Cluster, Node, Size},
    figures::Figures,
    grpc::Connection,
    load::Plan,
    server::Server,
    service::{SESSION_ID, Service, app},
    socket::Socket,
    tally::{Tally, latency_histogram},
};
use crate::proto::{Ack, GetSessionInfoRequest, SetSessionDataRequest, Value, value};
use hdrhistogram::Histogram;
use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    task::{JoinHandle, spawn_local},
    time::{Instant, sleep, timeout},
};

/// Calls that are made one after the other, to time them.
const TIMED_CALLS: usize = 1_000;
/// Nodes that are stopped, one after the other.
const STOPS: usize = 10;
/// How long a node that was started is left alone before the next one is stopped: by then it knows the
/// others.
const KNOWN: Duration = Duration::from_secs(5);
/// How often somebody calls while nodes are stopped.
const CALL_EVERY: Duration = Duration::from_millis(5);
/// So many answers say that the owner answers.
const ANSWERS: usize = 20;

/// Rooms of 50 at the node that has them, in turns with the same at one that sends everything on to it.
pub async fn forwarded(bench: &Bench) -> Result<Figures> {
    let plan = rooms(bench);
    bench.progress.step("two clusters of two nodes start".to_owned());
    let mut servers = Vec::new();
    for called in 0..2 {
        let size = Size { nodes: 2, servers: 1, partitions: 1 };
        let cluster = Cluster::start(&bench.args, size, "none").await?;
        cluster.pin(&cluster.nodes[0]).await?;
        servers.push(Server::of_cluster(cluster, |number| number == called));
    }
    let [here, there] = <[Server; 2]>::try_from(servers).map_err(|_| "there are two")?;
    bench.progress.step("the owner is called, and in turns another node".to_owned());
    let mut pair = turns::Pair::start(&plan, here, there).await?;
    let (mut figures, _) = pair.measure(&bench.args).await?;
    bench.progress.step("one call at a time".to_owned());
    let mut times = [latency_histogram(), latency_histogram()];
    let request =
        GetSessionInfoRequest { app: app(0), session_id: SESSION_ID.to_owned(), ..<_>::default() };
    let connections = [pair.server(0), pair.server(1)].map(|it| it.place.address);
    let connections = [connect(connections[0]).await?, connect(connections[1]).await?];
    for _ in 0..bench.args.scaled(TIMED_CALLS, 10) {
        for (connection, times) in connections.iter().zip(&mut times) {
            let begin = Instant::now();
            connection.unary("SessionService/GetSessionInfo", &request).await?;
            times.record(begin.elapsed().as_micros() as u64)?;
        }
    }
    pair.stop(&mut figures).await?;
    let [before, after] = times.map(|times| millis(&times, 0.5));
    figures.extend([
        ("call_p50_ms", after),
        ("call_p50_ms_before", before),
        ("call_p50_more_ms", after - before),
    ]);
    Ok(figures)
}

/// Rooms of 50 at a server that is alone and stores nothing, in turns with the same at a node whose
/// sessions are stored by three servers of NATS.
pub async fn stored(bench: &Bench, durability: &'static str) -> Result<Figures> {
    let plan = rooms(bench);
    bench.progress.step("a cluster of one node starts".to_owned());
    let size = Size { nodes: 1, servers: 3, partitions: 4 };
    let cluster = Cluster::start(&bench.args, size, durability).await?;
    let without = Server::start_with(&bench.args, bench.args.threads).await?;
    let with = Server::of_cluster(cluster, |_| true);
    bench.progress.step(format!("nothing is stored, and in turns durability {durability}"));
    let mut pair = turns::Pair::start(&plan, without, with).await?;
    let (mut figures, _) = pair.measure(&bench.args).await?;
    bench.progress.step("one commit at a time".to_owned());
    let connection = connect(pair.server(1).place.address).await?;
    let mut times = latency_histogram();
    for number in 0..bench.args.scaled(TIMED_CALLS, 10) {
        let begin = Instant::now();
        write(&connection, number, Ack::Durable).await?;
        times.record(begin.elapsed().as_micros() as u64)?;
    }
    pair.stop(&mut figures).await?;
    figures.extend([
        ("durable_write_p50_ms", millis(&times, 0.5)),
        ("durable_write_p99_ms", millis(&times, 0.99)),
    ]);
    Ok(figures)
}

/// The load of 40 rooms at a server that is alone, in turns with the same at three nodes, each connection
/// to one of them in turn.
pub async fn three(bench: &Bench) -> Result<Figures> {
    let plan = bench.plan(bench.args.scaled(10, 3), bench.args.scaled(50, 2));
    bench.progress.step("a cluster of three nodes starts".to_owned());
    let size = Size { nodes: 3, servers: 1, partitions: 32 };
    let cluster = Cluster::start(&bench.args, size, "none").await?;
    cluster.settled().await?;
    let alone = Server::start_with(&bench.args, bench.args.threads).await?;
    let three = Server::of_cluster(cluster, |_| true);
    bench.progress.step("a server alone, and in turns three nodes".to_owned());
    let mut pair = turns::Pair::start(&plan, alone, three).await?;
    let (mut figures, _) = pair.measure(&bench.args).await?;
    pair.stop(&mut figures).await?;
    Ok(figures)
}

/// How a node comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It is asked to stop, and gives away what it has.
    HandOver,
    /// It is killed.
    Kill,
}

/// How long a session is not served when its owner stops, as a client sees it that calls another
/// node all the time. Another node is started for each that stops.
pub async fn stopped(bench: &Bench, how: Stop) -> Result<Figures> {
    let args: &BenchArgs = &bench.args;
    bench.progress.step("a cluster of three nodes starts".to_owned());
    let size = Size { nodes: 3, servers: 3, partitions: 1 };
    let mut cluster = Cluster::start(args, size, "async").await?;
    let service = Service::connect(cluster.nodes[0].process.address).await?;
    service.open_rooms(&bench.plan(1, 2)).await?;
    let mut gaps = latency_histogram();
    let stops = args.scaled(STOPS, 1);
    for number in 1..=stops {
        sleep(KNOWN).await;
        bench.progress.step(format!("stop {number} of {stops}"));
        let owner = owner(&cluster).await?;
        let at = cluster.nodes.iter().position(|node| node.name == owner);
        let Node { process, .. } = cluster.nodes.remove(at.ok_or("nobody owns it")?);
        let caller = Caller::start(&cluster.nodes[0]).await?;
        caller.answered().await?;
        match how {
            Stop::HandOver => process.end().await?,
            Stop::Kill => process.stop().await?,
        }
        while self::owner(&cluster).await? == owner {
            sleep(CALL_EVERY).await;
        }
        caller.answered().await?;
        gaps.record(caller.stop().as_micros() as u64)?;
        cluster.add_node().await?;
    }
    Ok(Figures::from_iter([
        ("stops", stops as f64),
        ("gap_p50_ms", millis(&gaps, 0.5)),
        ("gap_p99_ms", millis(&gaps, 0.99)),
    ]))
}

/// The node that has the session.
async fn owner(cluster: &Cluster) -> Result<String> {
    let partitions = cluster.served(cluster.nodes[0].process.address).await?;
    Ok(partitions.first().map(|it| it.node.clone()).unwrap_or_default())
}

/// Somebody who writes all the time, one call after the other, until each is answered.
struct Caller {
    /// The longest time without an answer, and how many calls were answered.
    seen: Rc<Cell<(Duration, usize)>>,
    calling: JoinHandle<Result<()>>,
}

impl Caller {
    async fn start(node: &Node) -> Result<Self> {
        let connection = connect(node.process.address).await?;
        let seen: Rc<Cell<(Duration, usize)>> = Rc::default();
        let own = seen.clone();
        let calling = spawn_local(async move {
            for number in 0.. {
                let begin = Instant::now();
                // While nobody has it, it waits; refused, it is made again.
                while let Err(error) = write(&connection, number, Ack::Accepted).await {
                    if begin.elapsed() > PATIENCE {
                        return Err(error);
                    }
                    sleep(CALL_EVERY).await;
                }
                let (longest, answers) = own.get();
                own.set((longest.max(begin.elapsed()), answers + 1));
                sleep(CALL_EVERY).await;
            }
            Ok(())
        });
        Ok(Self { seen, calling })
    }

    /// Waits until so many more calls are answered.
    async fn answered(&self) -> Result<()> {
        let until = self.seen.get().1 + ANSWERS;
        while self.seen.get().1 < until {
            if self.calling.is_finished() {
                return Err("a call was refused, or not answered".into());
            }
            sleep(CALL_EVERY).await;
        }
        Ok(())
    }

    /// Ends; returns the longest time without an answer.
    fn stop(self) -> Duration {
        self.calling.abort();
        self.seen.get().0
    }
}

fn rooms(bench: &Bench) -> Plan {
    bench.plan(bench.args.scaled(10, 1), bench.args.scaled(50, 2))
}

async fn connect(at: SocketAddr) -> Result<Connection> {
    let socket = Socket::connect(at, None, Arc::new(Tally::default())).await?;
    Ok(Connection::open(socket, &at.into()).await?.for_app())
}

async fn write(connection: &Connection, number: usize, ack: Ack) -> Result<()> {
    let value = Value { kind: Some(value::Kind::Number(number as f64)) };
    let request = SetSessionDataRequest {
        app: app(0),
        session_id: SESSION_ID.to_owned(),
        set: [("number".to_owned(), value)].into(),
        ack: ack.into(),
        ..SetSessionDataRequest::default()
    };
    let call = connection.unary("SessionService/SetSessionData", &request);
    let late = |_| format!("a call was not answered for {PATIENCE:?}");
    timeout(PATIENCE, call).await.map_err(late)?.map(drop)
}

fn millis(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1_000.0
}
