//! The cluster with its load, and what is known of it.

use crate::{
    check,
    churn::Churn,
    disk::Disk,
    faults::Fault,
    fleet::Fleet,
    link::{Link, State},
    load::{self, Room},
    moves,
    nats::{self, Member, Three},
    nodes::{Logs, Node},
    passing::Passing,
    probes::{self, Line},
    times::Times,
    world::{World, wall},
};
use parking_lot::Mutex;
use std::{
    fmt::Display,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

pub const NODES: usize = 3;

/// The server of NATS whose disk can be full.
pub const ON_DISK: usize = 2;

/// The size of that: more than the logs take as long as they are cut off.
const DISK: &str = "1g";

/// How long the cluster may take until every partition is served, once everything is mended.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// How long a check may take.
const CHECKED_WITHIN: Duration = Duration::from_secs(180);

/// How long whoever knows the partitions has to say them.
const ANSWER: Duration = Duration::from_secs(2);

/// How large it is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub partitions: usize,
    /// Sessions of each app.
    pub rooms: usize,
    /// Subscribers of each session.
    pub subscribers: usize,
    /// How often a partition is probed.
    pub probes: Duration,
}

/// Three servers of NATS and three nodes.
#[derive(Debug)]
pub struct Stage {
    pub world: Arc<World>,
    pub fleet: Arc<Fleet>,
    pub nodes: Vec<Node>,
    pub nats: Three,
    /// None where none can be mounted.
    pub disk: Option<Arc<Disk>>,
    /// Between servers of NATS: of each pair, the one that looks for the other first.
    routes: Vec<(usize, usize, Link)>,
    pub lines: Vec<Arc<Line>>,
    rooms: Vec<Arc<Room>>,
    churns: Vec<(usize, Arc<Mutex<Churn>>)>,
    passing: Vec<Arc<Passing>>,
    tasks: JoinSet<()>,
    _logs: Logs,
}

impl Stage {
    /// Starts everything. None where there is no NATS.
    pub async fn start(seed: u64, size: Size) -> Option<Self> {
        let program = nats::program()?;
        let (disk, ports) = (Disk::new(DISK).map(Arc::new), Three::ports());
        let mut routes = Vec::new();
        for (from, to) in [(0, 1), (0, 2), (1, 2)] {
            routes.push((from, to, Link::to(([127, 0, 0, 1], ports[to]).into()).await));
        }
        let nats = Three::of([0, 1, 2].map(|number| {
            let disk = disk.as_ref().filter(|_| number == ON_DISK);
            let links = routes.iter().filter(|(from, ..)| *from == number);
            Member {
                program: disk.map_or(program.clone(), |disk| disk.program(&program)),
                store: disk.map(|disk| disk.at.join("store")),
                port: ports[number],
                // A server that looks for nobody takes itself for one that is misconfigured.
                routes: links
                    .map(|(.., link)| link.address.port())
                    .chain([ports[number]])
                    .collect(),
            }
        }));
        let (logs, world) = (Logs::new(seed), Arc::new(World::new(seed)));
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let mut node = Node::new(number, &nats, size.partitions, &logs.0).await;
            node.start();
            nodes.push(node);
        }
        let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
        let fleet = Arc::new(Fleet::new(&addresses, size.partitions));
        // Sessions that are not stored end with their owner: those are apart.
        let numbers = (0..).filter(|number| number % 3 != 2);
        let apps = (0..size.partitions).cycle();
        let rooms = numbers.zip(apps).take(size.partitions * size.rooms);
        let rooms = rooms.map(|(it, app)| Arc::new(Room::new(it, app, size.subscribers)));
        let churns = (0..size.partitions).map(|it| (it, Arc::new(Mutex::new(Churn::new(it)))));
        let lines = (0..size.partitions).map(|app| Arc::new(Line::new(app)));
        let mut stage = Self {
            rooms: rooms.collect(),
            churns: churns.collect(),
            passing: (0..size.partitions).map(|app| Arc::new(Passing::new(app))).collect(),
            lines: lines.collect(),
            tasks: JoinSet::new(),
            world,
            fleet,
            nodes,
            nats,
            disk,
            routes,
            _logs: logs,
        };
        stage.open(size).await;
        Some(stage)
    }

    /// Opens the sessions, and begins with the load.
    async fn open(&mut self, size: Size) {
        let begun = Instant::now();
        while self.owners().await.contains(&None) && begun.elapsed() < BACK_WITHIN {
            self.look_at_nodes();
            sleep(Duration::from_millis(100)).await;
        }
        let mut opening = JoinSet::new();
        for line in &self.lines {
            let line = line.clone();
            let (world, fleet) = (self.world.clone(), self.fleet.clone());
            opening.spawn(async move { probes::open(&world, &fleet, &line).await });
        }
        for room in self.rooms.iter().cloned() {
            opening.spawn(load::open(self.world.clone(), self.fleet.clone(), room));
        }
        self.join(opening).await;
        self.tell(format_args!("the sessions are open after {:.1?}", begun.elapsed()));
        let (world, fleet) = (&self.world, &self.fleet);
        for line in &self.lines {
            let line = line.clone();
            let probing = probes::probe(world.clone(), fleet.clone(), line, NODES, size.probes);
            self.tasks.spawn(probing);
        }
        for room in &self.rooms {
            for facts in [&load::CONTROL[..], &load::CALLS] {
                let (world, fleet, room) = (world.clone(), fleet.clone(), room.clone());
                self.tasks.spawn(load::write_on(world, fleet, room, facts));
            }
            let (writing, reading) = (world.clone(), fleet.clone());
            self.tasks.spawn(moves::move_on(writing, reading, room.clone()));
            for reader in 0..room.copies.len() {
                let (world, fleet, room) = (world.clone(), fleet.clone(), room.clone());
                self.tasks.spawn(load::read_on(world, fleet, room, reader));
            }
        }
        for (app, churn) in self.churns.iter().cloned() {
            self.tasks.spawn(load::churn(world.clone(), fleet.clone(), app, churn));
        }
        for passing in &self.passing {
            self.tasks.spawn(passing.clone().pass_on(world.clone(), fleet.clone()));
        }
    }

    /// Does something to the cluster, waits until it is mended, and holds everything against what was
    /// answered.
    pub async fn round(
        &mut self,
        number: u64,
        fault: Fault,
        owners: &[Option<usize>],
        times: &mut Times,
    ) {
        self.world.begin(number, &fault.to_string());
        self.lines.iter().for_each(|line| line.begin());
        self.world.gaps();
        let epochs = self.world.figures().epochs;
        let passing: Vec<_> = self.passing.iter().map(|passing| passing.epoch()).collect();
        fault.run(self).await;
        let mended = Instant::now();
        self.wait(mended).await;
        let mut worst = Duration::ZERO;
        for (partition, line) in self.lines.iter().enumerate() {
            let is_meant = fault.node().is_none_or(|it| owners[partition] == Some(it));
            if is_meant {
                times.note(fault.name(), line.worst());
            }
            worst = worst.max(line.worst());
        }
        self.tell(format_args!("round {number}: {fault}: {worst:.2?} at worst"));
        self.check(fault.is_hand_over()).await;
        for (partition, epoch) in passing.into_iter().enumerate() {
            // Whoever had it ends.
            if fault.ends().is_some() && fault.ends() == owners[partition] {
                self.passing[partition].is_over(&self.world, &self.fleet, epoch).await;
            }
        }
        if fault.is_hand_over() && self.world.figures().epochs > epochs {
            self.world.violation("streams", "an epoch is another one after a hand-over");
        }
        self.world.gaps().into_iter().for_each(|gap| times.note(fault.streams(), gap));
    }

    /// What becomes of the links between a server of NATS and the others.
    pub fn set_routes(&self, server: usize, state: State) {
        let meant = self.routes.iter().filter(|(from, to, _)| [*from, *to].contains(&server));
        meant.for_each(|(.., link)| link.set(state));
    }

    /// Waits until every partition is served that was not.
    async fn wait(&mut self, mended: Instant) {
        loop {
            self.look_at_nodes();
            let is_served = |line: &Arc<Line>| line.is_served_since(mended);
            let missing = self.lines.iter().filter(|line| !is_served(line)).count();
            if missing == 0 {
                return;
            }
            if mended.elapsed() > BACK_WITHIN {
                let missing: Vec<_> =
                    (0..self.lines.len()).filter(|it| !is_served(&self.lines[*it])).collect();
                self.world.violation("partitions", format_args!("{missing:?} are not served"));
                for node in 0..self.nodes.len() {
                    let said = timeout(ANSWER, self.fleet.partitions(node)).await;
                    self.tell(format_args!("node-{node} says {said:?}"));
                }
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts nodes again that have ended, as whoever runs them does.
    fn look_at_nodes(&mut self) {
        for number in 0..self.nodes.len() {
            if let Some(status) = self.nodes[number].ended() {
                let words = self.nodes[number].last_words();
                self.tell(format_args!("node-{number} has ended by itself: {status}: {words}"));
                self.world.count(|figures| figures.exits += 1);
                self.nodes[number].start();
            }
        }
    }

    /// Holds everything against what was answered.
    async fn check(&mut self, is_handed_over: bool) {
        while let Some(ended) = self.tasks.try_join_next() {
            let what = ended.expect_err("they go on for ever");
            self.world.violation("a client", what);
        }
        let world = self.world.clone();
        let Ok(_gate) = timeout(CHECKED_WITHIN, world.gate.write()).await else {
            return self.world.violation("a writer", "it waits for ever");
        };
        let mut checks = JoinSet::new();
        for room in self.rooms.iter().cloned() {
            let (world, fleet) = (self.world.clone(), self.fleet.clone());
            checks.spawn(check::check(world, fleet, room, is_handed_over));
        }
        for (app, churn) in self.churns.iter().cloned() {
            let (world, fleet) = (self.world.clone(), self.fleet.clone());
            checks.spawn(check::check_churn(world, fleet, app, churn));
        }
        self.join(checks).await;
        for node in &self.nodes {
            for panic in node.panics() {
                self.world.violation(&node.name, panic);
            }
        }
    }

    /// Waits for tasks. One that panics has found something.
    async fn join(&self, mut tasks: JoinSet<()>) {
        loop {
            match timeout(CHECKED_WITHIN, tasks.join_next()).await {
                Ok(None) => return,
                Ok(Some(Ok(()))) => {}
                Ok(Some(Err(panic))) => self.world.violation("a client", panic),
                Err(_) => return self.world.violation("a client", "it waits for ever"),
            }
        }
    }

    /// The owners of the partitions, as far as somebody says them.
    pub async fn owners(&self) -> Vec<Option<usize>> {
        for node in 0..self.nodes.len() {
            if let Ok(Ok(said)) = timeout(ANSWER, self.fleet.partitions(node)).await {
                let number = |name: &str| self.nodes.iter().position(|node| node.name == name);
                return said.into_iter().map(|it| number(&it.node)).collect();
            }
        }
        vec![None; self.lines.len()]
    }

    /// Says a figure even where the output of tests that pass is not shown.
    pub fn tell(&self, figure: impl Display) {
        let _ = writeln!(std::io::stderr(), "cluster_faults: {} {figure}", wall());
    }
}
