//! What is due when, and what everybody in the simulation has in common.

use crate::{
    call::{Outcome, Request},
    net::{CLIENTS, LOG, NODES, Net},
    plant::Plant,
    way::{Answer, Ask},
};
use bytes::Bytes;
use sessiond::{
    cluster::rules::{Beat, ClaimNow},
    engine::Resume,
    log::NodeId,
    session::{limits::Micros, revision::Revision},
};
use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    fmt::Arguments,
    hash::{DefaultHasher, Hasher},
};

/// What happens at a moment.
#[derive(Debug)]
pub enum Event {
    /// Everybody does what is due.
    Turn,
    /// A node does what comes of what it has heard.
    NodeTurn(usize),
    AtNode(usize, Message),
    AtLog {
        node: usize,
        process: NodeId,
        question: u64,
        ask: Ask,
    },
    AtClient(ToClient),
}

/// What a node hears.
#[derive(Debug, Clone)]
pub enum Message {
    Beat(Beat),
    Ping {
        from: usize,
    },
    Pong(Beat),
    ClaimNow {
        from: usize,
        number: u64,
        claim: ClaimNow,
    },
    /// A node knows by now that a partition is released for it.
    Taken {
        number: u64,
    },
    Answer {
        process: NodeId,
        question: u64,
        answer: Answer,
    },
    /// A call, and the node that has sent it on.
    Call {
        number: u64,
        request: Request,
        entry: Option<(usize, NodeId)>,
    },
    Subscribe {
        number: u64,
        request: Request,
        resume: Option<Resume>,
        entry: Option<(usize, NodeId)>,
    },
}

#[derive(Debug)]
pub enum ToClient {
    Reply(u64, Outcome),
    /// What a stream says, and when it was made.
    Stream(u64, Micros, Told),
}

#[derive(Debug)]
pub enum Told {
    Messages(Vec<Bytes>),
    /// Nothing has changed up to a revision.
    Heartbeat(Revision),
    /// The connection is there.
    Alive,
    /// The session is over.
    Ended,
    NotFound,
    /// It is to be tried again.
    Lost,
}

pub struct Core {
    pub now: Micros,
    pub draw: fastrand::Rng,
    pub net: Net,
    pub plant: Plant,
    /// The processes that run.
    pub present: [Option<NodeId>; NODES],
    /// What is wrong.
    pub fault: Option<String>,
    queue: BinaryHeap<Due>,
    queued: u64,
    /// The last of what happened, if anybody wants to know.
    trace: Option<Vec<String>>,
    print: DefaultHasher,
}

struct Due {
    at: Micros,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The first is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl Core {
    pub fn new(draw: fastrand::Rng, plant: Plant, is_traced: bool) -> Self {
        Self {
            now: 0,
            draw,
            net: Net::default(),
            plant,
            present: [None; NODES],
            fault: None,
            queue: BinaryHeap::new(),
            queued: 0,
            trace: is_traced.then(Vec::new),
            print: DefaultHasher::new(),
        }
    }

    pub fn at(&mut self, at: Micros, event: Event) {
        self.queued += 1;
        self.queue.push(Due { at, number: self.queued, event });
    }

    pub fn next(&mut self) -> Option<Event> {
        let Due { at, number, event } = self.queue.pop()?;
        self.now = self.now.max(at);
        self.print.write_u64(at);
        self.print.write_u64(number);
        Some(event)
    }

    /// A number that is the same if the same has happened.
    pub fn print(&self) -> u64 {
        self.print.finish()
    }

    /// Something is wrong; the first of it counts.
    pub fn wrong(&mut self, what: Arguments<'_>) {
        self.trace(format_args!("WRONG: {what}"));
        if self.fault.is_none() {
            self.fault = Some(what.to_string());
        }
    }

    pub fn trace(&mut self, what: Arguments<'_>) {
        let now = self.now as f64 / 1e6;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:>10.4} {what}"));
        }
    }

    pub fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    /// From a node to another one.
    pub fn tell(&mut self, from: usize, to: usize, message: &Message) {
        for at in self.net.arrivals((from, to), false, self.now, &mut self.draw) {
            self.at(at, Event::AtNode(to, message.clone()));
        }
    }

    /// From a node to all; to itself it comes by the way of the log's servers.
    pub fn tell_all(&mut self, from: usize, message: &Message) {
        for to in 0..NODES {
            if to != from {
                self.tell(from, to, message);
            } else if !self.net.is_cut(LOG, from, self.now) {
                for at in self.net.arrivals((from, LOG), false, self.now, &mut self.draw) {
                    self.at(at, Event::AtNode(to, message.clone()));
                }
            }
        }
    }

    pub fn ask(&mut self, node: usize, process: NodeId, question: u64, ask: &Ask) {
        for at in self.net.arrivals((node, LOG), false, self.now, &mut self.draw) {
            self.at(at, Event::AtLog { node, process, question, ask: ask.clone() });
        }
    }

    pub fn answer(&mut self, node: usize, process: NodeId, question: u64, answer: &Answer) {
        for at in self.net.arrivals((LOG, node), false, self.now, &mut self.draw) {
            let answer = answer.clone();
            self.at(at, Event::AtNode(node, Message::Answer { process, question, answer }));
        }
    }

    /// A call to another node, or from a client, which comes once or not at all.
    pub fn call(&mut self, from: usize, to: usize, message: Message) {
        let arrivals = self.net.arrivals((from, to), true, self.now, &mut self.draw);
        if let Some(at) = arrivals.first() {
            self.at(*at, Event::AtNode(to, message));
        }
    }

    /// From a node to a client, by the node that the client has called. Nothing comes before `after`.
    /// Returns when it comes; none = the connection is gone.
    pub fn reply(
        &mut self,
        node: usize,
        entry: Option<(usize, NodeId)>,
        after: Micros,
        reply: ToClient,
    ) -> Option<Micros> {
        let mut at = self.now;
        if let Some((entry, process)) = entry {
            if self.present[entry] != Some(process) {
                return None;
            }
            at = *self.net.arrivals((node, entry), true, at, &mut self.draw).first()?;
        }
        let from = entry.map_or(node, |(entry, _)| entry);
        let at = *self.net.arrivals((from, CLIENTS), true, at, &mut self.draw).first()?;
        let at = at.max(after);
        self.at(at, Event::AtClient(reply));
        Some(at)
    }
}
