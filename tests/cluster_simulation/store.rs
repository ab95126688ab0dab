//! The log itself, at the other end of the network, and what is planted in it.

use crate::{
    clock::at_once,
    plant::Plant,
    way::{Answer, Ask, Claimed},
};
use sessiond::log::{
    AppendError, Call, Log, Message, NodeId, Partition, Port, Reader, Seq,
    memory::{MemoryLog, MemoryPort},
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

/// Numbers from here on are those of calls that are stored although the fence refuses them.
const FORGED: u64 = 1 << 40;

#[derive(Debug)]
pub struct Store {
    plant: Plant,
    log: MemoryLog,
    /// Where each partition ends, and the term of its last claim.
    heads: BTreeMap<Partition, Head>,
    /// What was answered to claims: one that comes again is known.
    claims: HashMap<(NodeId, u64), Option<Claimed>>,
    forged: u64,
    /// The last call of each writer whose term is over.
    over: HashMap<(Partition, Seq), (u64, Seq)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Head {
    end: Seq,
    term: Seq,
}

impl Store {
    pub fn new(plant: Plant) -> Self {
        Self {
            plant,
            log: MemoryLog::default(),
            heads: BTreeMap::new(),
            claims: HashMap::new(),
            forged: FORGED,
            over: HashMap::new(),
        }
    }

    /// How many claims are stored.
    pub fn claims(&self) -> u64 {
        self.claims.values().flatten().count() as u64
    }

    pub fn answer(&mut self, from: NodeId, question: u64, ask: Ask) -> Answer {
        match ask {
            Ask::Post(port, message) => Answer::Stored(self.post(&port, message)),
            Ask::Claim(partition, node, after) => {
                if let Some(known) = self.claims.get(&(from, question)) {
                    return Answer::Claimed(known.clone());
                }
                let claimed = self.claim(partition, node, after);
                self.claims.insert((from, question), claimed.clone());
                Answer::Claimed(claimed)
            }
            Ask::End(partition) => Answer::End(self.heads.entry(partition).or_default().end),
            Ask::Read(partition, from) => {
                let mut reader = self.log.read(partition, from);
                let mut entries = VecDeque::new();
                loop {
                    match at_once(reader.next()).expect("it answers at once") {
                        Ok(Some(entry)) => entries.push_back(entry),
                        Ok(None) => break Answer::Entries(Some(entries)),
                        Err(_) => break Answer::Entries(None),
                    }
                }
            }
        }
    }

    fn claim(&mut self, partition: Partition, node: NodeId, after: Seq) -> Option<Claimed> {
        let head = self.heads.entry(partition).or_default();
        if head.end != after && self.plant != Plant::NoExpectation {
            return None;
        }
        let writer = at_once(self.log.claim(partition, node)).and_then(Result::ok);
        let writer = writer.expect("a claim never fails here");
        let term = sessiond::log::Writer::term(&writer);
        *head = Head { end: term, term };
        Some(Claimed::new(Some(writer).into()))
    }

    fn post(&mut self, port: &Arc<MemoryPort>, mut message: Message) -> Result<Seq, AppendError> {
        let head = self.heads.entry(message.partition).or_default();
        let (term, number) = (message.call.term, message.call.number);
        match self.plant {
            Plant::NoExpectation => {
                self.forged += 1;
                message.call = Call { term: head.term, number: self.forged };
            }
            Plant::OldTermAccepted if term < head.term => {
                let known = self.over.get(&(message.partition, term));
                if let Some((_, at)) = known.filter(|(last, _)| *last == number) {
                    return Ok(*at);
                }
                self.forged += 1;
                message.call = Call { term: head.term, number: self.forged };
            }
            _ => {}
        }
        let partition = message.partition;
        let stored = at_once(port.post(message)).expect("it is stored at once");
        if let Ok(seq) = stored {
            head.end = head.end.max(seq);
            self.over.insert((partition, term), (number, seq));
        }
        stored
    }
}
