//! A node: its rules, what it holds, and what it says to others. What the server does around the rules,
//! on the clock and the network of the simulation.

use crate::{
    call::{self, Outcome, Request},
    clock::{Machine, Watch, poll},
    common::{Core, Message, ToClient, Told},
    held::{self, Desk, Part},
    net::NODES,
    plant::Plant,
    streams::Streams,
    way::{Answer, Ask, Way},
};
use sessiond::{
    cluster::{
        BootMicros, MoveRefused, NodeInfo, Order, Owner, Standing, partition_of,
        rules::{BEAT_INTERVAL, Beat, ClaimNow, Ownership, QUIET},
    },
    log::{NodeId, Partition, Seq},
    session::limits::{Micros, SECOND},
};
use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
};
use tokio_util::sync::CancellationToken;

/// How often it is looked what time alone has changed, and where logs end.
const STEP: Micros = SECOND / 10;

/// How long a node has to answer.
const ANSWER_WAIT: Micros = SECOND;

/// How often a node is told that something was released for it, at most.
const TELLINGS: u32 = 3;

/// How long a node that stops looks for somebody to give to.
const LEAVE_PATIENCE: Micros = 10 * SECOND;

pub const NAMES: [&str; NODES] = ["node-a", "node-b", "node-c"];

type Running<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A process of a node.
pub struct Process {
    at: usize,
    pub id: NodeId,
    machine: Machine,
    /// What the wall clock was before the boot clock, when it began.
    wall: (Micros, BootMicros),
    pub ownership: Ownership,
    pub desk: Arc<Desk>,
    lives: Vec<Life>,
    calls: Vec<Open>,
    streams: Streams,
    look: Option<(Partition, Running<Option<Seq>>)>,
    /// Whom it waits for, and until when.
    pings: Vec<(BootMicros, usize, NodeId)>,
    tellings: Vec<Telling>,
    told: u64,
    beat_at: BootMicros,
    step_at: BootMicros,
    /// It is about to stop, until then at most.
    leaving: Option<BootMicros>,
    /// How many beats it has heard.
    heard: u64,
}

/// A partition that it claims, holds or gives away.
struct Life {
    partition: Partition,
    give: CancellationToken,
    life: Running<()>,
}

/// A call that is being done.
struct Open {
    number: u64,
    entry: Option<(usize, NodeId)>,
    part: Arc<Part>,
    outcome: Running<Outcome>,
}

/// A node that is told to claim something.
struct Telling {
    number: u64,
    to: NodeId,
    claim: ClaimNow,
    again_at: BootMicros,
    tries: u32,
}

impl Process {
    pub fn start(core: &mut Core, at: usize, machine: Machine, partitions: usize) -> Self {
        let now = machine.boot(core.now);
        let id = NodeId(core.draw.u64(..));
        let info = NodeInfo {
            id,
            name: NAMES[at].to_owned(),
            address: format!("{at}"),
            format: 1,
            version: "1".to_owned(),
            started_at: machine.wall(core.now),
        };
        let watch = Watch::new(now);
        let wall = (machine.wall(core.now), now);
        let desk = Desk {
            id,
            plant: core.plant,
            watch: watch.clone(),
            wall: wall.0.into(),
            way: Way::new(watch),
            ends: Default::default(),
            parts: Default::default(),
            holdings: Default::default(),
        };
        core.present[at] = Some(id);
        Self {
            at,
            id,
            machine,
            wall,
            ownership: Ownership::new(info.into(), partitions, now),
            desk: desk.into(),
            lives: Vec::new(),
            calls: Vec::new(),
            streams: Streams::default(),
            look: None,
            pings: Vec::new(),
            tellings: Vec::new(),
            told: 0,
            beat_at: now.after(core.draw.u64(..BEAT_INTERVAL)),
            step_at: now,
            leaving: None,
            heard: 0,
        }
    }

    fn now(&self) -> BootMicros {
        self.desk.watch.now()
    }

    /// It is about to stop.
    pub fn leave(&mut self) {
        self.ownership.leave();
        self.leaving = Some(self.now().after(LEAVE_PATIENCE));
        self.beat_at = BootMicros(0);
    }

    /// An admin moves a partition to the node of a name.
    pub fn move_to(&mut self, partition: Partition, name: &str) -> Result<(), MoveRefused> {
        let now = self.now();
        self.ownership.move_to(partition, name, now)
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Whether it has stopped as it should.
    pub fn has_left(&self) -> bool {
        self.is_leaving() && self.lives.is_empty()
    }

    /// Whether it may answer for a partition at a moment, whatever it is doing.
    pub fn may_answer(&self, partition: Partition, now: Micros) -> bool {
        let parts = self.desk.parts.lock();
        let part = parts.get(&partition);
        part.is_some_and(|part| part.may_answer(self.machine.boot(now), self.desk.plant))
    }

    /// Whether it serves a partition.
    pub fn serves(&self, partition: Partition, now: Micros) -> bool {
        let part = self.desk.parts.lock().get(&partition).cloned();
        part.is_some_and(|it| it.is_open() && !it.is_given()) && self.may_answer(partition, now)
    }

    /// Brings its clocks up to date.
    pub fn wake(&mut self, core: &Core) {
        let now = self.machine.boot(core.now);
        self.desk.watch.set(now);
        let (wall, boot) = self.wall;
        let wall = wall + now.since(boot);
        self.desk.wall.store(wall, Ordering::Relaxed);
        let parts: Vec<_> = self.desk.parts.lock().values().cloned().collect();
        for part in parts {
            let engine = &part.engine;
            engine.advance(wall.saturating_sub(engine.clock().now()));
        }
    }

    /// Does what is due.
    pub fn turn(&mut self, core: &mut Core) {
        let now = self.now();
        let is_step = self.step_at <= now;
        if is_step {
            self.step_at = now.after(STEP);
            self.ownership.step(now);
        }
        self.run(core);
        if is_step || !self.tellings.is_empty() {
            self.step(core, now);
        }
        let mut is_ordered = self.leaving.is_some();
        while let Some(order) = self.ownership.order(now) {
            self.obey(core, order);
            is_ordered = true;
        }
        if self.leaving.is_some() {
            self.go(now);
        }
        if is_ordered {
            self.run(core);
        }
        if self.beat_at <= now {
            self.beat_at = now.after(BEAT_INTERVAL);
            let beat = self.beat();
            core.tell_all(self.at, &Message::Beat(beat));
        }
    }

    fn beat(&mut self) -> Beat {
        self.ownership.beat(self.desk.wall.load(Ordering::Relaxed))
    }

    fn step(&mut self, core: &mut Core, now: BootMicros) {
        for node in self.ownership.nodes_to_ask(now) {
            let to = core.present.iter().position(|id| *id == Some(node));
            self.pings.push((now.after(ANSWER_WAIT), to.unwrap_or(NODES), node));
            if let Some(to) = to {
                core.tell(self.at, to, &Message::Ping { from: self.at });
            }
        }
        let ownership = &mut self.ownership;
        self.pings.retain(|(until, _, node)| {
            if *until <= now {
                ownership.unanswered(*node);
            }
            *until > now
        });
        for (to, claim) in self.ownership.released(now) {
            self.told += 1;
            let (number, again_at) = (self.told, BootMicros(0));
            self.tellings.push(Telling { number, to, claim, again_at, tries: 0 });
        }
        for telling in self.tellings.iter_mut().filter(|it| it.again_at <= now) {
            telling.again_at = now.after(ANSWER_WAIT);
            telling.tries += 1;
            let Some(to) = core.present.iter().position(|id| *id == Some(telling.to)) else {
                continue;
            };
            let (number, claim) = (telling.number, telling.claim);
            if telling.tries <= TELLINGS {
                core.tell(self.at, to, &Message::ClaimNow { from: self.at, number, claim });
            }
        }
        self.tellings.retain(|telling| telling.tries <= TELLINGS);
        if self.look.is_none()
            && let Some(partition) = self.next_silent(core, now)
        {
            let way = self.desk.way.clone();
            let look = async move {
                match way.ask(Ask::End(partition)).await {
                    Some(Answer::End(end)) => Some(end),
                    _ => None,
                }
            };
            self.look = Some((partition, Box::pin(look)));
        }
    }

    fn next_silent(&self, core: &mut Core, now: BootMicros) -> Option<Partition> {
        let silent = self.ownership.silent(QUIET, now);
        (!silent.is_empty()).then(|| silent[core.draw.usize(..silent.len())])
    }

    fn obey(&mut self, core: &mut Core, order: Order) {
        core.trace(format_args!("{} is to {order:?}", NAMES[self.at]));
        self.beat_at = BootMicros(0);
        match order {
            Order::Claim(partition) => {
                let give = CancellationToken::new();
                let life = held::hold(self.desk.clone(), partition, give.clone());
                self.lives.push(Life { partition, give, life: Box::pin(life) });
            }
            Order::Give(partition, _) => {
                self.lives
                    .iter()
                    .filter(|it| it.partition == partition)
                    .for_each(|life| life.give.cancel());
            }
        }
    }

    /// It stops: where there is nobody to give to, everything is released.
    fn go(&mut self, now: BootMicros) {
        let nodes = self.ownership.nodes(now);
        let mut others = nodes.iter().filter(|node| !node.is_me);
        let is_alone = !others.any(|node| node.standing == Standing::Alive);
        if is_alone || self.leaving.is_some_and(|until| until <= now) {
            self.lives.iter().for_each(|life| life.give.cancel());
        }
    }

    /// Polls everything.
    fn run(&mut self, core: &mut Core) {
        self.lives.retain_mut(|life| poll(life.life.as_mut()).is_pending());
        let holdings = std::mem::take(&mut *self.desk.holdings.lock());
        let now = self.now();
        for (partition, holding) in holdings {
            core.trace(format_args!("{} has of {partition} now: {holding:?}", NAMES[self.at]));
            self.ownership.hold(partition, holding, now);
            self.beat_at = BootMicros(0);
            self.step_at = BootMicros(0);
        }
        if let Some((partition, look)) = &mut self.look
            && let Poll::Ready(end) = poll(look.as_mut())
        {
            if let Some(end) = end {
                self.desk.ends.lock().see(*partition, end, now);
            }
            self.look = None;
        }
        let (at, plant) = (self.at, self.desk.plant);
        self.calls.retain_mut(|call| {
            let Poll::Ready(outcome) = poll(call.outcome.as_mut()) else { return true };
            // What was done may be undone: another node may own the partition, and know nothing of it.
            let may_answer = call.part.may_answer(now, plant);
            let outcome = if may_answer { outcome } else { Outcome::Unavailable };
            core.reply(at, call.entry, 0, ToClient::Reply(call.number, outcome));
            false
        });
        self.streams.run(core, at, now);
        for (question, ask) in self.desk.way.take() {
            core.ask(at, self.id, question, &ask);
        }
    }

    /// Takes in what has come; what is to be done about it is done with the next [`turn`](Self::turn).
    pub fn take(&mut self, core: &mut Core, message: Message) {
        let now = self.now();
        match message {
            Message::Beat(mut beat) => {
                self.heard += 1;
                if self.desk.plant == Plant::OldBeatsCount && beat.node.id != self.id {
                    beat.number = self.heard;
                }
                self.ownership.heard(&beat, now);
            }
            Message::Ping { from } => {
                let wall = self.desk.wall.load(Ordering::Relaxed);
                let beat = self.ownership.answer(wall);
                core.tell(self.at, from, &Message::Pong(beat));
            }
            Message::Pong(beat) => {
                let id = beat.node.id;
                if self.pings.iter().any(|(_, _, node)| *node == id) {
                    self.ownership.answered(&beat, now);
                    self.pings.retain(|(_, _, node)| *node != id);
                }
            }
            Message::ClaimNow { from, number, claim } => {
                self.ownership.claim_now(claim, now);
                core.tell(self.at, from, &Message::Taken { number });
            }
            Message::Taken { number } => self.tellings.retain(|it| it.number != number),
            Message::Answer { process, question, answer } if process == self.id => {
                self.desk.way.answered(question, answer);
            }
            Message::Answer { .. } => {}
            Message::Call { number, request, entry } => match self.find(core, &request, entry) {
                Found::Here(part) => {
                    core.trace(format_args!("{} does call {number}", NAMES[self.at]));
                    let outcome = Box::pin(call::serve(part.engine.clone(), request));
                    self.calls.push(Open { number, entry, part, outcome });
                }
                Found::There(to) => {
                    let entry = Some((self.at, self.id));
                    core.call(self.at, to, Message::Call { number, request, entry });
                }
                Found::Nowhere => {
                    let reply = ToClient::Reply(number, Outcome::Unavailable);
                    core.reply(self.at, entry, 0, reply);
                }
            },
            Message::Subscribe { number, request, resume, entry } => {
                match self.find(core, &request, entry) {
                    Found::Here(part) => {
                        self.streams.open(core, self.at, (number, entry), part, &request, resume);
                    }
                    Found::There(to) => {
                        let entry = Some((self.at, self.id));
                        core.call(
                            self.at,
                            to,
                            Message::Subscribe { number, request, resume, entry },
                        );
                    }
                    Found::Nowhere => {
                        let lost = ToClient::Stream(number, core.now, Told::Lost);
                        core.reply(self.at, entry, 0, lost);
                    }
                }
            }
        }
    }

    fn find(&self, core: &Core, request: &Request, entry: Option<(usize, NodeId)>) -> Found {
        let owners = self.ownership.owners(self.now());
        let partition = partition_of(&request.app, owners.len());
        match &owners[usize::from(partition.0)] {
            Owner::Here => {
                let part = self.desk.parts.lock().get(&partition).cloned();
                let is_open = |part: &Arc<Part>| {
                    let may_answer = part.may_answer(self.now(), self.desk.plant);
                    part.is_open() && !part.is_given() && may_answer
                };
                part.filter(is_open).map_or(Found::Nowhere, Found::Here)
            }
            Owner::There(info) if entry.is_none() => {
                let to = core.present.iter().position(|id| *id == Some(info.id));
                to.map_or(Found::Nowhere, Found::There)
            }
            _ => Found::Nowhere,
        }
    }
}

enum Found {
    Here(Arc<Part>),
    There(usize),
    Nowhere,
}
