//! Which nodes there are, by what is heard of them. A node hears itself, too: so it knows whether it
//! is heard.

use super::{
    Beat, BootMicros, FORGOTTEN_AFTER, Held, MOST_NODES, NodeInfo, PING_AFTER, SILENCE, UNHEARD,
    placement::Candidate,
};
use crate::log::NodeId;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// So many own beats may be on their way: more than come in [`UNHEARD`], at once on each change.
const MOST_UNDER_WAY: usize = 1_024;

/// A node, as others know it.
#[derive(Debug, Clone)]
pub struct Member {
    /// What it tells of itself.
    pub info: Arc<NodeInfo>,
    /// When it was heard last.
    pub heard_at: BootMicros,
    /// Since when it has been alive without a break.
    pub alive_since: BootMicros,
    /// Whether it is about to stop.
    pub leaving: bool,
    /// Whether it claims nothing now that is released for it.
    pub declines: bool,
    /// What it owns, as it says.
    pub held: Vec<Held>,
    number: u64,
    /// When it was last asked and did not answer.
    unanswered_at: Option<BootMicros>,
    /// It is being asked since then.
    asked_at: Option<BootMicros>,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is heard.
    Alive,
    /// It is heard, and about to stop.
    Leaving,
    /// It has not been heard for [`SILENCE`].
    Silent,
}

impl Member {
    /// How it is.
    pub fn standing(&self, now: BootMicros) -> Standing {
        match (now.since(self.heard_at) < SILENCE, self.leaving) {
            (false, _) => Standing::Silent,
            (true, true) => Standing::Leaving,
            (true, false) => Standing::Alive,
        }
    }

    /// Whether it would claim now what is released for it, of records up to a version.
    pub(super) fn takes(&self, format: u8, now: BootMicros) -> bool {
        self.standing(now) == Standing::Alive && !self.declines && self.info.format >= format
    }

    pub(super) fn is_alive(&self, now: BootMicros) -> bool {
        self.standing(now) != Standing::Silent
    }

    /// Whether it has been silent for so long that others claim what it owns: it was asked meanwhile
    /// and did not answer.
    pub(super) fn is_gone(&self, now: BootMicros) -> bool {
        !self.is_alive(now) && self.was_asked()
    }

    /// Whether it was asked since it fell silent, and did not answer.
    fn was_asked(&self) -> bool {
        self.unanswered_at.is_some_and(|at| at.since(self.heard_at) >= PING_AFTER)
    }
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Members {
    me: NodeId,
    all: BTreeMap<NodeId, Member>,
    /// Own beats that may still come back: their numbers, and when each was made.
    under_way: VecDeque<(u64, BootMicros)>,
    /// Since when this node has heard itself without a break, and when it made what it heard last.
    link: Option<(BootMicros, BootMicros)>,
    /// Until it speaks itself a node takes in whatever it hears.
    has_spoken: bool,
    /// When a node came, went or began to leave last.
    changed_at: BootMicros,
    /// Who was there then.
    there: Vec<NodeId>,
}

impl Members {
    pub fn new(me: NodeId, now: BootMicros) -> Self {
        Self {
            me,
            all: BTreeMap::new(),
            under_way: VecDeque::new(),
            link: None,
            has_spoken: false,
            changed_at: now,
            there: Vec::new(),
        }
    }

    /// This node makes a beat, which comes back to it.
    pub fn speaks(&mut self, number: u64, now: BootMicros) {
        if !std::mem::replace(&mut self.has_spoken, true) {
            // What it hears until that comes back is no older than this.
            self.link = Some((now, now));
        }
        if self.under_way.len() >= MOST_UNDER_WAY {
            self.under_way.pop_front();
        }
        self.under_way.push_back((number, now));
    }

    /// Takes a beat in that was heard with all others; false = it is old, or there are too many nodes.
    ///
    /// All come in one order, and some may have waited for long: while this node stood still, or
    /// somewhere on their way. The own beat before them says for how long at most, as this node knows when
    /// it made that. What may be old says nothing about now.
    pub fn heard(&mut self, beat: &Beat, now: BootMicros) -> bool {
        if beat.node.id == self.me {
            return self.heard_itself(beat, now);
        }
        let is_recent = !self.has_spoken || self.connected_since(now).is_some();
        is_recent && self.take(beat, now)
    }

    fn heard_itself(&mut self, beat: &Beat, now: BootMicros) -> bool {
        while self.under_way.front().is_some_and(|(number, _)| *number < beat.number) {
            self.under_way.pop_front();
        }
        let front = self.under_way.front().filter(|(number, _)| *number == beat.number);
        let Some((_, made_at)) = front.copied() else { return false };
        self.under_way.pop_front();
        if now.since(made_at) >= UNHEARD {
            return false;
        }
        let since = self.link.filter(|(_, last)| now.since(*last) < UNHEARD);
        self.link = Some((since.map_or(now, |(since, _)| since), made_at));
        self.take(beat, now)
    }

    /// Takes a beat in that a node has sent when it was asked; false = it is old, or nobody has asked.
    pub fn answers(&mut self, beat: &Beat, now: BootMicros) -> bool {
        let asked_at = self.all.get_mut(&beat.node.id).and_then(|member| member.asked_at.take());
        asked_at.is_some_and(|at| now.since(at) < UNHEARD) && self.take(beat, now)
    }

    fn take(&mut self, beat: &Beat, now: BootMicros) -> bool {
        let id = beat.node.id;
        if id != self.me && !self.all.contains_key(&id) && self.all.len() >= MOST_NODES {
            return false;
        }
        let member = self.all.entry(id).or_insert_with(|| Member {
            info: beat.node.clone(),
            heard_at: now,
            alive_since: now,
            leaving: false,
            declines: true,
            held: Vec::new(),
            number: 0,
            unanswered_at: None,
            asked_at: None,
        });
        if beat.number <= member.number {
            return false;
        }
        if now.since(member.heard_at) >= SILENCE {
            member.alive_since = now;
        }
        member.heard_at = now;
        member.number = beat.number;
        member.leaving = beat.leaving;
        member.declines = beat.declines;
        member.held.clone_from(&beat.held);
        if member.info != beat.node {
            member.info = beat.node.clone();
        }
        true
    }

    /// This node did nothing for a while, so it knows of nobody whether it is alive.
    pub fn cut_off(&mut self) {
        self.link = None;
    }

    /// Since when this node is connected, if it is.
    pub fn connected_since(&self, now: BootMicros) -> Option<BootMicros> {
        self.link.filter(|(_, last)| now.since(*last) < UNHEARD).map(|(since, _)| since)
    }

    pub fn get(&self, id: NodeId) -> Option<&Member> {
        self.all.get(&id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Member> {
        self.all.values()
    }

    pub fn alive(&self, now: BootMicros) -> impl Iterator<Item = &Member> {
        self.all.values().filter(move |member| member.is_alive(now))
    }

    /// Those that may own partitions: alive and not about to stop.
    pub fn candidates(&self, now: BootMicros) -> Vec<Candidate<'_>> {
        let standing = self.all.values().filter(|it| it.standing(now) == Standing::Alive);
        standing.map(|it| Candidate { id: it.info.id, name: &it.info.name }).collect()
    }

    /// Sees whether the candidates are others than before, and forgets nodes that are long silent, and
    /// where there are too many the longest silent, but for those that `owns` says to own something.
    pub fn look(&mut self, now: BootMicros, owns: impl Fn(NodeId) -> bool) {
        let there: Vec<_> = self.candidates(now).iter().map(|it| it.id).collect();
        if there != self.there {
            self.there = there;
            self.changed_at = now;
        }
        self.all.retain(|id, it| now.since(it.heard_at) < FORGOTTEN_AFTER || owns(*id));
        while self.all.len() >= MOST_NODES {
            // A process that is over keeps no other one out.
            let over = self.all.values().filter(|it| !it.is_alive(now) && !owns(it.info.id));
            let Some(id) = over.min_by_key(|it| it.heard_at).map(|it| it.info.id) else { break };
            self.all.remove(&id);
        }
    }

    /// When a node came, went or began to leave last.
    pub fn changed_at(&self) -> BootMicros {
        self.changed_at
    }

    /// The nodes that are to be asked now whether they are alive, among those that own something.
    pub fn nodes_to_ask(&mut self, now: BootMicros, owns: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
        let due = self.all.values_mut().filter(|it| {
            let is_silent = now.since(it.heard_at) >= PING_AFTER;
            is_silent && !it.was_asked() && it.asked_at.is_none() && owns(it.info.id)
        });
        due.map(|it| {
            it.asked_at = Some(now);
            it.info.id
        })
        .collect()
    }

    /// A node that was to be asked did not answer. What it did answer is a beat.
    pub fn unanswered(&mut self, id: NodeId) {
        if let Some(member) = self.all.get_mut(&id) {
            member.unanswered_at = member.asked_at.take();
        }
    }
}
