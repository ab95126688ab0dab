//! A cluster of nodes that decide by the real rules, over a network, a log and a clock of the test's.

use sessiond::{
    cluster::{
        Holding, MoveRefused, NodeInfo, Order, Owner,
        rules::{BEAT_INTERVAL, Beat, BootMicros, ClaimNow, Ownership},
    },
    log::{NodeId, Partition, Seq},
    session::limits::{Micros, SECOND},
};
use std::{collections::BTreeMap, sync::Arc};

/// How far the clock goes at a time.
pub const STEP: Micros = SECOND / 10;

/// How long a node waits for an answer.
const ANSWER_WAIT: Micros = SECOND;

/// How often an owner appends.
const APPEND_INTERVAL: Micros = SECOND;

/// One partition of the log: its fence and nothing else.
#[derive(Debug, Default)]
pub struct Fence {
    seq: u64,
    pub term: u64,
    pub released: bool,
}

#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub id: NodeId,
    pub ownership: Ownership,
    /// It runs; else it is dead or has left.
    pub running: bool,
    pub leaving: bool,
    /// It does nothing until then.
    pub paused_until: BootMicros,
    /// Nothing reaches it and it reaches nobody but the log until then.
    pub cut_until: BootMicros,
    /// It does not reach the log until then.
    pub logless_until: BootMicros,
    /// Nothing reaches it until then, and then all of it does.
    pub held_until: BootMicros,
    /// It does not hear itself until then.
    pub deaf_until: BootMicros,
    /// It cannot claim.
    pub cannot_claim: bool,
    /// What it has claimed it cannot read.
    pub cannot_read: bool,
    beat_at: BootMicros,
    append_at: BootMicros,
    works: BTreeMap<Partition, Work>,
    pub held: BTreeMap<Partition, Holding>,
}

/// What the runner of a partition is at, and when it is done.
#[derive(Debug, Clone, Copy)]
enum Work {
    Claim(BootMicros),
    Load(BootMicros),
    Give(BootMicros),
}

#[derive(Debug, Clone)]
enum Message {
    Beat(Beat),
    Ping {
        from: NodeId,
    },
    Pong {
        of: NodeId,
        beat: Box<Beat>,
    },
    ClaimNow {
        from: NodeId,
        claim: ClaimNow,
    },
    /// What a node says to that.
    Outcome {
        of: NodeId,
        claim: ClaimNow,
        is_taken: bool,
    },
}

/// What happened in a course.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Ordered {
        node: usize,
        order: Order,
    },
    /// A claim put an end to the term of an owner that had not released.
    Deposed {
        node: usize,
        by: usize,
        partition: Partition,
    },
}

#[derive(Debug)]
pub struct Course {
    pub now: BootMicros,
    pub random: fastrand::Rng,
    pub nodes: Vec<Node>,
    pub log: Vec<Fence>,
    pub events: Vec<(BootMicros, Event)>,
    /// What is on the way: when it arrives, and at which node.
    network: Vec<(BootMicros, NodeId, Message)>,
    /// Who waits for an answer of whom, until when.
    pings: Vec<(BootMicros, NodeId, NodeId)>,
    /// Who has told whom to claim something, and waits for an answer until when.
    tellings: Vec<(BootMicros, NodeId, NodeId, ClaimNow)>,
    ids: u64,
}

impl Course {
    pub fn new(seed: u64, partitions: usize) -> Self {
        Self {
            now: BootMicros(1_000_000_000),
            random: fastrand::Rng::with_seed(seed),
            nodes: Vec::new(),
            log: (0..partitions).map(|_| Fence::default()).collect(),
            events: Vec::new(),
            network: Vec::new(),
            pings: Vec::new(),
            tellings: Vec::new(),
            ids: 0,
        }
    }

    /// Starts a process of a name; one that ran under it has ended.
    pub fn start(&mut self, name: &str) -> usize {
        self.start_with(name, 1)
    }

    /// The same of one that knows records up to a version.
    pub fn start_with(&mut self, name: &str, format: u8) -> usize {
        self.ids += 1;
        let id = NodeId(self.random.u64(..) ^ self.ids);
        let info = NodeInfo {
            id,
            name: name.to_owned(),
            address: format!("{name}:1"),
            format,
            version: "1".to_owned(),
            started_at: 0,
        };
        let beat_at = self.now.after(self.random.u64(..BEAT_INTERVAL));
        let node = Node {
            name: name.to_owned(),
            id,
            ownership: Ownership::new(Arc::new(info), self.log.len(), self.now),
            running: true,
            leaving: false,
            paused_until: BootMicros(0),
            cut_until: BootMicros(0),
            logless_until: BootMicros(0),
            held_until: BootMicros(0),
            deaf_until: BootMicros(0),
            cannot_claim: false,
            cannot_read: false,
            beat_at,
            append_at: self.now,
            works: BTreeMap::new(),
            held: BTreeMap::new(),
        };
        match self.nodes.iter().position(|node| node.name == name) {
            Some(at) => {
                assert!(!self.nodes[at].running, "two of one name");
                self.nodes[at] = node;
                at
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        }
    }

    pub fn kill(&mut self, node: usize) {
        self.nodes[node].running = false;
    }

    pub fn leave(&mut self, node: usize) {
        self.nodes[node].leaving = true;
        self.nodes[node].ownership.leave();
        self.nodes[node].beat_at = self.now;
    }

    pub fn move_to(&mut self, partition: Partition, name: &str) -> Result<(), MoveRefused> {
        let now = self.now;
        let owner = self.owner(partition).ok_or(MoveRefused::NoOwner(partition))?;
        self.nodes[owner].ownership.move_to(partition, name, now)
    }

    /// The node whose term of a partition is in force, if it runs and serves.
    pub fn owner(&self, partition: Partition) -> Option<usize> {
        let term = self.log[usize::from(partition.0)].term;
        self.nodes.iter().position(|node| {
            node.running
                && node.held.get(&partition).and_then(|held| held.term()) == Some(Seq(term))
        })
    }

    pub fn run(&mut self, span: Micros) {
        let ends_at = self.now.after(span);
        while self.now < ends_at {
            self.step();
        }
    }

    /// Goes on for a while; the longest time that a partition is nobody's.
    pub fn longest_gap(&mut self, span: Micros) -> Micros {
        let (ends_at, mut longest) = (self.now.after(span), 0);
        let mut owned_at = vec![self.now; self.log.len()];
        while self.now < ends_at {
            self.step();
            for (at, owned_at) in owned_at.iter_mut().enumerate() {
                if self.owner(Partition(at as u8)).is_some() {
                    *owned_at = self.now;
                }
                longest = longest.max(self.now.since(*owned_at));
            }
        }
        longest
    }

    fn step(&mut self) {
        self.now = self.now.after(STEP);
        self.deliver();
        for at in 0..self.nodes.len() {
            if self.nodes[at].running && self.nodes[at].paused_until <= self.now {
                self.work(at);
            }
        }
    }

    /// Brings what is due; what is for a node that stands still waits for it.
    fn deliver(&mut self) {
        let network = std::mem::take(&mut self.network);
        for (at, to, message) in network {
            let node = self.nodes.iter().position(|node| node.id == to && node.running);
            let Some(node) = node else { continue };
            let is_held = self.nodes[node].held_until > self.now;
            if self.nodes[node].paused_until > self.now || is_held || at > self.now {
                self.network.push((at, to, message));
                continue;
            }
            self.take(node, message);
        }
        let now = self.now;
        let pings = std::mem::take(&mut self.pings);
        for (until, from, of) in pings {
            if until > now {
                self.pings.push((until, from, of));
            } else if let Some(node) = self.nodes.iter_mut().find(|node| node.id == from) {
                node.ownership.unanswered(of);
            }
        }
        let tellings = std::mem::take(&mut self.tellings);
        for (until, from, to, claim) in tellings {
            if until > now {
                self.tellings.push((until, from, to, claim));
            } else if let Some(node) = self.nodes.iter_mut().find(|node| node.id == from) {
                node.ownership.not_taken(to, claim, now);
            }
        }
    }

    fn take(&mut self, node: usize, message: Message) {
        let now = self.now;
        let own = &mut self.nodes[node];
        match message {
            Message::Beat(beat) => drop(own.ownership.heard(&beat, now)),
            Message::Ping { from } => {
                let (of, beat) = (own.id, Box::new(own.ownership.answer(0)));
                self.send(node, from, Message::Pong { of, beat });
            }
            Message::Pong { of, beat } => {
                own.ownership.answered(&beat, now);
                let id = own.id;
                self.pings.retain(|(_, from, asked)| (*from, *asked) != (id, of));
            }
            Message::ClaimNow { from, claim } => {
                let (of, is_taken) = (own.id, own.ownership.claim_now(claim, now));
                self.send(node, from, Message::Outcome { of, claim, is_taken });
            }
            Message::Outcome { of, claim, is_taken } => {
                let id = own.id;
                if !is_taken {
                    own.ownership.not_taken(of, claim, now);
                }
                let is_other = |it: &(_, NodeId, NodeId, ClaimNow)| (it.1, it.2) != (id, of);
                self.tellings.retain(|it| is_other(it) || it.3 != claim);
            }
        }
    }

    fn send(&mut self, from: usize, to: NodeId, message: Message) {
        let is_cut = |node: &Node| node.cut_until > self.now;
        let to_cut = self.nodes.iter().any(|node| node.id == to && is_cut(node));
        if to != self.nodes[from].id && (to_cut || is_cut(&self.nodes[from])) {
            return;
        }
        if to == self.nodes[from].id && self.nodes[from].deaf_until > self.now {
            return;
        }
        let delay = self.random.u64(..STEP / 2);
        self.network.push((self.now.after(delay), to, message));
    }

    fn work(&mut self, at: usize) {
        let now = self.now;
        self.nodes[at].ownership.step(now);
        self.log_work(at);
        let node = &mut self.nodes[at];
        let (to_ask, released) = (node.ownership.nodes_to_ask(now), node.ownership.released(now));
        let id = node.id;
        for of in to_ask {
            self.pings.push((now.after(ANSWER_WAIT), id, of));
            self.send(at, of, Message::Ping { from: id });
        }
        for (to, claim) in released {
            self.tellings.push((now.after(ANSWER_WAIT), id, to, claim));
            self.send(at, to, Message::ClaimNow { from: id, claim });
        }
        while let Some(order) = self.nodes[at].ownership.order(now) {
            self.obey(at, order);
        }
        if self.nodes[at].beat_at <= now {
            self.beat(at);
        }
        // A node that leaves stops when it has nothing left, or nobody to give it to.
        let has_heir = self.nodes.iter().any(|it| it.running && !it.leaving);
        let node = &mut self.nodes[at];
        let is_done = node.held.is_empty() && node.ownership.is_all_taken();
        if node.leaving && (is_done || !has_heir) && node.works.is_empty() {
            self.beat(at);
            self.nodes[at].running = false;
        }
    }

    fn beat(&mut self, at: usize) {
        let beat = self.nodes[at].ownership.beat(0);
        self.nodes[at].beat_at = self.now.after(BEAT_INTERVAL);
        let all: Vec<_> = self.nodes.iter().filter(|it| it.running).map(|it| it.id).collect();
        for to in all {
            self.send(at, to, Message::Beat(beat.clone()));
        }
    }

    fn obey(&mut self, at: usize, order: Order) {
        self.events.push((self.now, Event::Ordered { node: at, order }));
        self.nodes[at].beat_at = self.now;
        let span = self.random.u64(..SECOND);
        let done = self.now.after(span);
        let node = &mut self.nodes[at];
        let (partition, work) = match order {
            Order::Claim(partition) => {
                assert!(!node.held.contains_key(&partition), "it has that already");
                (partition, Work::Claim(done))
            }
            Order::Give(partition, to) => {
                assert_ne!(to, node.id, "given to itself");
                assert!(matches!(node.held.get(&partition), Some(Holding::Serving(_))));
                let term = node.held[&partition].term().expect("a term");
                self.hold(at, partition, Holding::Giving(term));
                (partition, Work::Give(done))
            }
        };
        let before = self.nodes[at].works.insert(partition, work);
        assert!(before.is_none(), "two orders at once for {partition}: {before:?}, {order:?}");
    }

    fn hold(&mut self, at: usize, partition: Partition, holding: Holding) {
        let node = &mut self.nodes[at];
        match holding {
            Holding::Nothing => drop(node.held.remove(&partition)),
            _ => drop(node.held.insert(partition, holding)),
        }
        node.ownership.hold(partition, holding, self.now);
        node.beat_at = self.now;
    }

    /// What the runners do at the log.
    fn log_work(&mut self, at: usize) {
        if self.nodes[at].logless_until > self.now {
            return;
        }
        if self.nodes[at].append_at <= self.now {
            self.nodes[at].append_at = self.now.after(APPEND_INTERVAL);
            for (partition, holding) in self.nodes[at].held.clone() {
                if holding.term() != Some(Seq(self.log[usize::from(partition.0)].term)) {
                    self.nodes[at].works.remove(&partition);
                    self.hold(at, partition, Holding::Nothing);
                }
            }
        }
        for (partition, work) in self.nodes[at].works.clone() {
            match work {
                Work::Claim(done) if done <= self.now => {
                    // Now and then the log does not answer.
                    if self.random.u8(..8) == 0 || self.nodes[at].cannot_claim {
                        self.nodes[at].works.remove(&partition);
                        self.hold(at, partition, Holding::Nothing);
                        continue;
                    }
                    let term = self.claim(at, partition);
                    self.hold(at, partition, Holding::Loading(term));
                    let loaded = self.now.after(self.random.u64(..SECOND));
                    self.nodes[at].works.insert(partition, Work::Load(loaded));
                }
                Work::Load(done) if done <= self.now => {
                    let term = self.nodes[at].held[&partition].term().expect("a term");
                    self.nodes[at].works.remove(&partition);
                    let is_read = !self.nodes[at].cannot_read;
                    let holding = if is_read { Holding::Serving(term) } else { Holding::Nothing };
                    self.hold(at, partition, holding);
                }
                Work::Give(done) if done <= self.now => {
                    let term = self.nodes[at].held[&partition].term();
                    let fence = &mut self.log[usize::from(partition.0)];
                    if term == Some(Seq(fence.term)) {
                        fence.seq += 1;
                        fence.released = true;
                    }
                    self.nodes[at].works.remove(&partition);
                    self.hold(at, partition, Holding::Nothing);
                }
                _ => {}
            }
        }
    }

    fn claim(&mut self, by: usize, partition: Partition) -> Seq {
        if let Some(node) = self.owner(partition)
            && !self.log[usize::from(partition.0)].released
        {
            self.events.push((self.now, Event::Deposed { node, by, partition }));
        }
        let fence = &mut self.log[usize::from(partition.0)];
        fence.seq += 1;
        fence.term = fence.seq;
        fence.released = false;
        Seq(fence.term)
    }

    /// Every partition has one owner that serves it, and every node knows that.
    pub fn check_settled(&self) {
        let running: Vec<_> = self.nodes.iter().filter(|node| node.running).collect();
        for partition in (0..self.log.len()).map(|at| Partition(at as u8)) {
            let Some(owner) = self.owner(partition) else { panic!("{partition} has no owner") };
            let owner = &self.nodes[owner];
            assert!(matches!(owner.held[&partition], Holding::Serving(_)), "{partition}");
            for node in &running {
                let told = &node.ownership.owners(self.now)[usize::from(partition.0)];
                let is_right = match told {
                    Owner::Here => node.id == owner.id,
                    Owner::There(info) => info.id == owner.id,
                    Owner::Nobody => false,
                };
                assert!(is_right, "{} believes that {partition} is {told:?}", node.name);
            }
        }
        for node in running {
            for partition in node.held.keys() {
                assert_eq!(self.owner(*partition).map(|at| self.nodes[at].id), Some(node.id));
            }
        }
    }
}
