//! A whole cluster with its log and its clients, from one seed.

use crate::{
    call::Outcome,
    client::Clients,
    clock::Machine,
    common::{Core, Event, Message, ToClient, Told},
    faults::Fault,
    net::{LOG, NODES},
    node::{NAMES, Process},
    plant::Plant,
    store::Store,
};
use sessiond::{
    cluster::partition_of,
    log::Partition,
    session::{
        ids::AppId,
        limits::{Micros, SECOND},
    },
};
use std::collections::BTreeSet;

/// How often everybody does what is due, whether anything has come or not.
const TURN: Micros = SECOND / 25;

/// How long it takes until a node does something about what it has heard.
const AWAKE_AFTER: std::ops::Range<Micros> = 0..10_000;

/// When the first fault comes at the earliest.
const FIRST_FAULT: Micros = 7 * SECOND;

/// How long there are faults.
const FAULTS: std::ops::Range<Micros> = 15 * SECOND..35 * SECOND;

/// How long it is from one fault to the next.
const BETWEEN: std::ops::Range<Micros> = SECOND / 2..5 * SECOND;

/// So long after the end of the faults every partition is served.
const BACK_WITHIN: Micros = 15 * SECOND;

/// So long a hand-over may take.
const HANDED_OVER_WITHIN: Micros = 2 * SECOND;

/// So long after that, everything that was asked for is answered.
const ANSWERED_WITHIN: Micros = 6 * SECOND;

/// What came of a simulation.
#[derive(Debug, Default, Clone, Copy)]
pub struct Figures {
    pub faults: u64,
    /// Steps that subscribers were shown.
    pub shown: u64,
    /// Simulated time.
    pub time: Micros,
    pub claims: u64,
    /// The same if and only if the same has happened.
    pub print: u64,
}

pub struct World {
    core: Core,
    store: Store,
    nodes: Vec<Node>,
    clients: Clients,
    partitions: usize,
    figures: Figures,
    next_fault: Micros,
    /// When the faults end.
    heal_at: Micros,
    /// Since when all nodes run, after the end of the faults.
    settled_at: Option<Micros>,
    /// When each partition was served last.
    served_at: Vec<Micros>,
}

struct Node {
    machine: Machine,
    process: Option<Process>,
    starts_at: Micros,
    paused_until: Micros,
    /// What has come since it looked.
    mail: Vec<Message>,
    /// It is about to look.
    is_busy: bool,
}

impl World {
    pub fn new(seed: u64, plant: Plant, is_traced: bool) -> Self {
        let mut core = Core::new(fastrand::Rng::with_seed(seed), plant, is_traced);
        let partitions = core.draw.usize(4..=8);
        let apps = apps(&mut core.draw, partitions);
        let nodes = (0..NODES).map(|_| Node {
            machine: Machine::draw(&mut core.draw),
            process: None,
            starts_at: core.draw.u64(..SECOND),
            paused_until: 0,
            mail: Vec::new(),
            is_busy: false,
        });
        let nodes = nodes.collect();
        let next_fault = FIRST_FAULT + core.draw.u64(BETWEEN);
        let heal_at = FIRST_FAULT + core.draw.u64(FAULTS);
        let clients = Clients::new(&mut core, apps);
        core.at(0, Event::Turn);
        Self {
            core,
            store: Store::new(plant),
            nodes,
            clients,
            partitions,
            figures: Figures::default(),
            next_fault,
            heal_at,
            settled_at: None,
            served_at: vec![0; partitions],
        }
    }

    /// Runs it to its end, or until something is wrong.
    pub fn run(&mut self) -> Result<Figures, String> {
        while let Some(event) = self.core.next() {
            let mut is_over = false;
            match event {
                Event::Turn => {
                    is_over = self.turn();
                    self.core.at(self.core.now + TURN, Event::Turn);
                }
                Event::NodeTurn(node) => {
                    self.nodes[node].is_busy = false;
                    self.turn_node(node);
                }
                Event::AtNode(node, message) => {
                    self.at_node(node, message);
                    continue;
                }
                Event::AtLog { node, process, question, ask } => {
                    let answer = self.store.answer(process, question, ask);
                    self.core.answer(node, process, question, &answer);
                    continue;
                }
                Event::AtClient(told) => self.clients.take(&mut self.core, told),
            }
            if let Some(fault) = self.core.fault.take() {
                return Err(fault);
            }
            if is_over {
                break;
            }
        }
        self.figures.time = self.core.now;
        self.figures.shown = self.clients.shown();
        self.figures.claims = self.store.claims();
        self.figures.print = self.core.print();
        Ok(self.figures)
    }

    pub fn take_trace(&mut self) -> Vec<String> {
        self.core.take_trace()
    }

    /// Everybody does what is due. Whether it is over.
    fn turn(&mut self) -> bool {
        let now = self.core.now;
        for at in 0..NODES {
            self.turn_node(at);
        }
        self.check_owners();
        self.clients.turn(&mut self.core);
        if now < self.heal_at {
            if self.next_fault <= now {
                self.next_fault = now + self.core.draw.u64(BETWEEN);
                let fault = Fault::draw(&mut self.core, self.partitions);
                self.fault(fault);
            }
            return false;
        }
        if self.settled_at.is_none() {
            self.settle();
        }
        let Some(settled_at) = self.settled_at else { return false };
        self.note_served();
        let for_long = now - settled_at;
        if for_long >= BACK_WITHIN && !self.clients.is_quiet {
            self.clients.is_quiet = true;
            self.check_served();
        }
        if for_long < BACK_WITHIN + ANSWERED_WITHIN {
            return false;
        }
        if !self.clients.is_idle() {
            self.core.wrong(format_args!("something that was asked for is not answered"));
        }
        true
    }

    fn turn_node(&mut self, at: usize) {
        let (core, node) = (&mut self.core, &mut self.nodes[at]);
        if node.process.as_ref().is_some_and(Process::has_left) {
            core.trace(format_args!("{} has left", NAMES[at]));
            core.present[at] = None;
            node.process = None;
            node.starts_at = node.starts_at.max(core.now + SECOND / 2);
        }
        if node.process.is_none() && node.starts_at <= core.now {
            let process = Process::start(core, at, node.machine, self.partitions);
            core.trace(format_args!("{} starts as {:?}", NAMES[at], process.id));
            node.process = Some(process);
            (node.paused_until, node.mail) = (0, Vec::new());
        }
        if node.paused_until > core.now {
            return;
        }
        let Some(process) = &mut node.process else { return };
        process.wake(core);
        let mail = std::mem::take(&mut node.mail);
        // Whether what has come is seen first, or what time has brought.
        if mail.is_empty() || core.draw.bool() {
            process.turn(core);
        }
        if !mail.is_empty() {
            mail.into_iter().for_each(|message| process.take(core, message));
            process.turn(core);
        }
        self.check_owners();
    }

    fn at_node(&mut self, at_node: usize, message: Message) {
        let (core, node) = (&mut self.core, &mut self.nodes[at_node]);
        match &mut node.process {
            None => refuse(core, message),
            Some(_) if node.paused_until > core.now => node.mail.push(message),
            Some(_) => {
                node.mail.push(message);
                if !std::mem::replace(&mut node.is_busy, true) {
                    let at = core.now + core.draw.u64(AWAKE_AFTER);
                    core.at(at, Event::NodeTurn(at_node));
                }
            }
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.figures.faults += 1;
        let core = &mut self.core;
        core.trace(format_args!("FAULT {fault:?}"));
        match fault {
            Fault::Crash(at, until) => {
                core.present[at] = None;
                let node = &mut self.nodes[at];
                node.process = None;
                node.mail.clear();
                node.starts_at = until;
            }
            Fault::Pause(at, until) => self.nodes[at].paused_until = until,
            Fault::Cut { from, to, both, until } => {
                core.net.cut(from, to, until);
                if both {
                    core.net.cut(to, from, until);
                }
            }
            Fault::Alone(node, until) => {
                for other in (0..NODES).filter(|other| *other != node) {
                    core.net.cut(node, other, until);
                    core.net.cut(other, node, until);
                }
            }
            Fault::Worsen(end, until) => core.net.worsen(end, until),
            Fault::Stall(until) => core.net.stalled = until,
            Fault::Leave(at, until) => {
                let node = &mut self.nodes[at];
                if let Some(process) = node.process.as_mut().filter(|it| !it.is_leaving()) {
                    process.leave();
                    node.starts_at = until;
                }
            }
            Fault::Move(partition, to) => {
                let processes = self.nodes.iter_mut().filter_map(|node| node.process.as_mut());
                let now = core.now;
                for process in processes.filter(|it| it.serves(partition, now)) {
                    let outcome = process.move_to(partition, NAMES[to]);
                    core.trace(format_args!("the move: {outcome:?}"));
                }
            }
            Fault::SetWall(at) => self.nodes[at].machine.set_wall(&mut core.draw),
        }
    }

    /// All faults are over; whoever stops goes on to do so.
    fn settle(&mut self) {
        let now = self.core.now;
        self.core.net.heal();
        for node in &mut self.nodes {
            node.paused_until = 0;
            node.starts_at = node.starts_at.min(now);
        }
        let runs = |node: &Node| node.process.as_ref().is_some_and(|it| !it.is_leaving());
        if self.nodes.iter().all(runs) {
            self.core.trace(format_args!("all faults are over"));
            self.settled_at = Some(now);
        }
    }

    fn all_partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.partitions).map(|at| Partition(at as u8))
    }

    /// At any moment at most one node may answer for a partition.
    fn check_owners(&mut self) {
        let now = self.core.now;
        for partition in self.all_partitions() {
            let may_answer =
                |node: &Node| node.process.as_ref().is_some_and(|it| it.may_answer(partition, now));
            let count = self.nodes.iter().filter(|node| may_answer(node)).count();
            if count > 1 {
                let who: Vec<_> = (0..NODES).filter(|at| may_answer(&self.nodes[*at])).collect();
                self.core.wrong(format_args!("nodes {who:?} may answer for partition {partition}"));
            }
        }
    }

    fn note_served(&mut self) {
        let now = self.core.now;
        for partition in self.all_partitions() {
            let serves = |node: &Node| {
                node.process.as_ref().is_some_and(|process| process.serves(partition, now))
            };
            if self.nodes.iter().any(serves) {
                self.served_at[usize::from(partition.0)] = now;
            }
        }
    }

    /// A partition that is served may be on its way to another node.
    fn check_served(&mut self) {
        let now = self.core.now;
        for partition in self.all_partitions() {
            if self.served_at[usize::from(partition.0)] + HANDED_OVER_WITHIN < now {
                let within = BACK_WITHIN / SECOND;
                self.core.wrong(format_args!(
                    "partition {partition} is not served {within} s after the faults"
                ));
            }
        }
    }
}

/// Nobody is there to hear it. Whoever has called is told so by its own machine.
fn refuse(core: &mut Core, message: Message) {
    let told = match message {
        Message::Call { number, entry: None, .. } => ToClient::Reply(number, Outcome::Unavailable),
        Message::Subscribe { number, entry: None, .. } => {
            ToClient::Stream(number, core.now, Told::Lost)
        }
        _ => return,
    };
    core.at(core.now, Event::AtClient(told));
}

/// Apps of different partitions: of most of them.
fn apps(draw: &mut fastrand::Rng, partitions: usize) -> Vec<AppId> {
    let mut apps = Vec::new();
    let mut taken = BTreeSet::new();
    let first = draw.u64(..1_000);
    for number in first.. {
        let name = format!("app-{number}");
        if taken.insert(partition_of(&name, partitions)) {
            apps.push(AppId::new(&name).expect("an id"));
        }
        if apps.len() == LOG + 1 {
            break;
        }
    }
    apps
}
