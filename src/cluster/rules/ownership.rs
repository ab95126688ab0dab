//! What a node knows of who owns what, and what it does about it.

use super::{
    Beat, BootMicros, ClaimNow, Held, Holding, NodeInfo, Order, Owner, RANK_WAIT, REST, SILENCE,
    STAY, UNHEARD, claiming,
    giving::{self, Giver},
    handing::{self, Handing},
    members::{Member, Members, Standing},
    place::{Asked, Place, Task},
    placement::all,
};
use crate::{
    log::{NodeId, Partition, Seq},
    session::limits::Micros,
};
use std::sync::Arc;

/// The state of one node. Everything comes with the time, which never goes back.
#[derive(Debug)]
pub struct Ownership {
    me: Arc<NodeInfo>,
    members: Members,
    places: Vec<Place>,
    /// The number of the last beat of this node.
    number: u64,
    leaving: bool,
    /// When something was done last.
    stepped_at: BootMicros,
    /// When a hand-over ended last.
    gave_at: BootMicros,
    /// The greatest version of records that was to be written here.
    written: u8,
}

/// What is known of a partition, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Which.
    pub partition: Partition,
    /// Who owns it, if that node is alive.
    pub owner: Option<Arc<NodeInfo>>,
    /// What the owner does with it.
    pub holding: Holding,
    /// Whether an admin has moved it there.
    pub pinned: bool,
}

/// What is known of a node, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// What it tells of itself.
    pub info: Arc<NodeInfo>,
    /// How it is.
    pub standing: Standing,
    /// How long ago it was heard.
    pub silent_for: Micros,
    /// How many partitions it owns.
    pub partitions: usize,
    /// Whether it is the node that knows this.
    pub is_me: bool,
}

/// Why a partition is not moved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoveRefused {
    /// There are not so many.
    #[error("there is no partition {partition}: they are 0 to {last}")]
    NoSuchPartition {
        /// Which was named.
        partition: u32,
        /// The last that there is.
        last: Partition,
    },
    /// Nobody of this name is known.
    #[error("there is no node {0:?}")]
    NoSuchNode(String),
    /// It is about to stop, or nothing is heard of it.
    #[error("node {0:?} is about to stop, or silent")]
    NotAlive(String),
    /// It would claim nothing now.
    #[error("node {0:?} takes nothing over at the moment")]
    NotReady(String),
    /// Nobody who is alive owns it now.
    #[error("partition {0} has no owner at the moment")]
    NoOwner(Partition),
    /// Its owner takes it over or gives it away now.
    #[error("partition {0} is being handed over")]
    Busy(Partition),
    /// The owner did not answer.
    #[error("the owner of partition {0} does not answer")]
    Unanswered(Partition),
}

impl Ownership {
    /// A node that knows of nobody yet. There are 1 to 256 partitions.
    pub fn new(me: Arc<NodeInfo>, partitions: usize, now: BootMicros) -> Self {
        Self {
            members: Members::new(me.id, now),
            me,
            places: all(partitions).map(|partition| Place::new(partition, now)).collect(),
            number: 0,
            leaving: false,
            stepped_at: now,
            gave_at: now,
            written: 0,
        }
    }

    /// To be called at least each quarter of [`UNHEARD`]: sees what changes by time alone, and that
    /// the process has stood still. What it heard before that says nothing about now.
    pub fn step(&mut self, now: BootMicros) {
        if now.since(self.stepped_at) >= UNHEARD {
            self.members.cut_off();
        }
        self.stepped_at = now;
        let places = &self.places;
        self.members.look(now, |id| places.iter().any(|place| place.owner == Some(id)));
    }

    /// Takes in the beat of a node, its own too, in the order in which all come in. False = it says
    /// nothing new, or it is old news: it may have waited for longer than [`UNHEARD`].
    pub fn heard(&mut self, beat: &Beat, now: BootMicros) -> bool {
        self.step(now);
        let is_news = self.members.heard(beat, now);
        if is_news {
            self.take(beat, now);
        }
        is_news
    }

    /// Takes in the beat that a node has sent when it was [asked](Self::nodes_to_ask). False = it says
    /// nothing new, or the answer took so long that it is old news.
    pub fn answered(&mut self, beat: &Beat, now: BootMicros) -> bool {
        self.step(now);
        let is_news = self.members.answers(beat, now);
        if is_news {
            self.take(beat, now);
        }
        is_news
    }

    fn take(&mut self, beat: &Beat, now: BootMicros) {
        let node = beat.node.id;
        // What this node does itself it knows better than its last beat.
        if node != self.me.id {
            for place in &mut self.places {
                match beat.held.iter().find(|held| held.partition == place.partition) {
                    Some(held) => place.held_by(node, *held),
                    None => place.given_up_by(node, now),
                }
                place.claimed_by(node, beat.claiming.contains(&place.partition), now);
            }
            self.pass_on_what_is_given_up(node, beat, now);
        }
    }

    /// A node that was to claim something says that it does not any more, and has not got it.
    fn pass_on_what_is_given_up(&mut self, node: NodeId, beat: &Beat, now: BootMicros) {
        for at in 0..self.places.len() {
            let is_claiming = beat.claiming.contains(&self.places[at].partition);
            let handing = self.places[at].handing.as_mut().filter(|it| it.is_for(node));
            if handing.is_some_and(|handing| handing.says(is_claiming)) {
                self.pass_on(at, now);
            }
        }
    }

    fn pass_on(&mut self, at: usize, now: BootMicros) {
        let Self { me, leaving, written, .. } = self;
        let giver = handing::Giver { me: me.id, leaving: *leaving, format: *written };
        handing::pass_on(giver, &self.members, &mut self.places, now, at);
    }

    /// The nodes that are to be asked now whether they are alive. What one answers is a beat.
    pub fn nodes_to_ask(&mut self, now: BootMicros) -> Vec<NodeId> {
        if self.members.connected_since(now).is_none() {
            return Vec::new();
        }
        let (places, me) = (&self.places, self.me.id);
        let owns = |id| id != me && places.iter().any(|place| place.owner == Some(id));
        self.members.nodes_to_ask(now, owns)
    }

    /// A node that was asked did not answer.
    pub fn unanswered(&mut self, node: NodeId) {
        self.members.unanswered(node);
    }

    /// What this node does with a partition from now on. After a claim that was ordered it is Nothing
    /// (it failed, or somebody else claimed later), or Loading with the term. After an order to give
    /// it is Giving, and then Nothing if it is released, or Serving if it stays after all.
    pub fn hold(&mut self, partition: Partition, holding: Holding, now: BootMicros) {
        let me = self.me.id;
        let Some(place) = self.places.get_mut(usize::from(partition.0)) else { return };
        let before = std::mem::replace(&mut place.own, holding);
        if holding == Holding::Nothing {
            place.given_up_by(me, now);
            match (place.task.take(), before.term()) {
                (Some(Task::Giving { to, pinned }), Some(ended)) if ended >= place.term => {
                    self.gave_at = now;
                    place.handing = Some(Handing::new(to, ClaimNow { partition, ended, pinned }));
                }
                (Some(Task::Claiming { again, .. }), _) => {
                    place.asked = again;
                    place.not_before = now.after(REST);
                }
                (None, Some(_)) if matches!(before, Holding::Loading(_)) => {
                    // It cannot be read here: another node may be able to, and goes first.
                    place.not_before = now.after(SILENCE + 2 * RANK_WAIT);
                }
                _ => {}
            }
            place.move_to = None;
            return;
        }
        if before == Holding::Nothing {
            place.own_since = now;
            place.asked = None;
            place.handing = None;
        }
        let mut pinned = place.pinned && place.owner == Some(me);
        match place.task {
            Some(Task::Claiming { pinned: by_admin, .. }) => {
                pinned |= by_admin;
                place.task = None;
            }
            Some(Task::Giving { .. }) if matches!(holding, Holding::Serving(_)) => {
                place.task = None;
                place.move_to = None;
                place.not_before = now.after(if self.leaving { REST } else { STAY });
            }
            _ => {}
        }
        place.held_by(me, Held { partition, holding, pinned });
    }

    /// A node has released a partition for this one. False = it is not taken: this node
    /// [declines](Self::declines), or somebody has claimed since.
    pub fn claim_now(&mut self, asked: ClaimNow, now: BootMicros) -> bool {
        let declines = self.declines(now);
        let Some(place) = self.places.get_mut(usize::from(asked.partition.0)) else { return false };
        if declines || place.term > asked.ended || place.own != Holding::Nothing {
            return false;
        }
        // The node that released it may not have said so in a beat yet.
        place.term = asked.ended;
        if let Some(owner) = place.owner {
            place.given_up_by(owner, now);
        }
        place.asked = Some(Asked { claim: asked, is_own: false });
        place.not_before = BootMicros(0);
        true
    }

    /// Whether this node claims nothing that is released for it: it is about to stop; or it does not hear
    /// itself, so what it hears may be old news.
    pub fn declines(&self, now: BootMicros) -> bool {
        self.leaving || self.members.connected_since(now).is_none()
    }

    /// Moves a partition that this node owns to a node, by an admin, until that node goes.
    pub fn move_to(
        &mut self,
        partition: Partition,
        name: &str,
        now: BootMicros,
    ) -> Result<(), MoveRefused> {
        let to = self.alive_by_name(name, now)?;
        let me = self.me.id;
        let place = self.place(u32::from(partition.0))?;
        if place.owner != Some(me) {
            return Err(MoveRefused::NoOwner(partition));
        }
        let place = &mut self.places[usize::from(partition.0)];
        if place.task.is_some() || !matches!(place.own, Holding::Serving(_)) {
            return Err(MoveRefused::Busy(partition));
        }
        if to == me {
            place.pinned = true;
        } else {
            place.move_to = Some(to);
            place.not_before = now;
        }
        Ok(())
    }

    /// The node of a name that may be given partitions.
    pub fn alive_by_name(&self, name: &str, now: BootMicros) -> Result<NodeId, MoveRefused> {
        let mut named = self.members.all().filter(|it| it.info.name == name).peekable();
        if named.peek().is_none() {
            return Err(MoveRefused::NoSuchNode(name.to_owned()));
        }
        let mut alive = named.filter(|it| it.standing(now) == Standing::Alive);
        let found = alive.next().ok_or_else(|| MoveRefused::NotAlive(name.to_owned()))?;
        let is_ready = found.info.id == self.me.id || found.takes(self.written, now);
        is_ready.then_some(found.info.id).ok_or_else(|| MoveRefused::NotReady(name.to_owned()))
    }

    fn place(&self, partition: u32) -> Result<&Place, MoveRefused> {
        let place = self.places.get(partition as usize);
        let last = self.places.last().map_or(Partition(0), |place| place.partition);
        place.ok_or(MoveRefused::NoSuchPartition { partition, last })
    }

    /// The partition of a number, if there is one.
    pub fn partition(&self, number: u32) -> Result<Partition, MoveRefused> {
        self.place(number).map(|place| place.partition)
    }

    /// This node is about to stop: it claims nothing more, and gives away what it has.
    pub fn leave(&mut self) {
        self.leaving = true;
        for place in &mut self.places {
            place.asked = None;
            place.not_before = BootMicros(0);
        }
    }

    /// What this node is to do next, if there is anything. What was ordered is not ordered again
    /// before [`hold`](Self::hold) has said what came of it.
    pub fn order(&mut self, now: BootMicros) -> Option<Order> {
        self.step(now);
        let me = self.me.id;
        if !self.leaving
            && let Some((at, pinned)) = claiming::due(me, &self.members, &self.places, now)
        {
            let place = &mut self.places[at];
            let again = place.asked.take().filter(|asked| asked.is_own);
            place.task = Some(Task::Claiming { pinned, again });
            return Some(Order::Claim(place.partition));
        }
        let giver =
            Giver { me, leaving: self.leaving, gave_at: self.gave_at, format: self.written };
        let (at, to, pinned) = giving::due(giver, &self.members, &self.places, now)?;
        let place = &mut self.places[at];
        place.task = Some(Task::Giving { to, pinned });
        Some(Order::Give(place.partition, to))
    }

    /// What was released here since this was asked last, and which node is to claim it. Of each,
    /// [`not_taken`](Self::not_taken) is to hear if it is not taken.
    pub fn released(&mut self, now: BootMicros) -> Vec<(NodeId, ClaimNow)> {
        for at in 0..self.places.len() {
            let to = self.places[at].handing.as_ref().and_then(Handing::untold);
            let member = to.map(|to| self.members.get(to));
            if member.is_some_and(|it| !it.is_some_and(|it| it.takes(self.written, now))) {
                self.pass_on(at, now);
            }
        }
        let handings = self.places.iter_mut().filter_map(|place| place.handing.as_mut());
        handings.filter_map(Handing::tell).collect()
    }

    /// A node that was asked to claim what is released here does not. It is taken back at once, or if
    /// this node leaves the next best is to take it.
    pub fn not_taken(&mut self, by: NodeId, claim: ClaimNow, now: BootMicros) {
        let at = usize::from(claim.partition.0);
        let handing = self.places.get(at).and_then(|place| place.handing.as_ref());
        if handing.is_some_and(|it| it.is_for(by) && it.claim.ended == claim.ended) {
            self.pass_on(at, now);
        }
    }

    /// Whether somebody has claimed all that was released here.
    pub fn is_all_taken(&self) -> bool {
        self.places.iter().all(|place| place.handing.is_none())
    }

    /// What this node is to say now to all nodes, itself too.
    pub fn beat(&mut self, wall: Micros) -> Beat {
        let beat = self.answer(wall);
        self.members.speaks(self.number, self.stepped_at);
        beat
    }

    /// What this node is to say to one that asks.
    pub fn answer(&mut self, wall: Micros) -> Beat {
        self.number += 1;
        let held = self.places.iter().filter(|place| place.own != Holding::Nothing);
        let held = held.map(|place| Held {
            partition: place.partition,
            holding: place.own,
            pinned: place.pinned && place.owner == Some(self.me.id),
        });
        let claiming = self.places.iter().filter(|place| place.is_being_claimed());
        Beat {
            node: self.me.clone(),
            number: self.number,
            wall,
            leaving: self.leaving,
            declines: self.declines(self.stepped_at),
            held: held.collect(),
            claiming: claiming.map(|place| place.partition).collect(),
        }
    }

    /// Who owns each partition.
    pub fn owners(&self, now: BootMicros) -> Vec<Owner> {
        let owner = |place: &Place| match place.owner {
            Some(id) if id == self.me.id => Owner::Here,
            Some(id) => {
                let alive = self.members.get(id).filter(|it| it.is_alive(now));
                alive.map_or(Owner::Nobody, |it| Owner::There(it.info.clone()))
            }
            None => Owner::Nobody,
        };
        self.places.iter().map(owner).collect()
    }

    /// All partitions, for people.
    pub fn partitions(&self, now: BootMicros) -> Vec<PartitionStatus> {
        let owned = |(place, owner): (&Place, Owner)| {
            let owner = match owner {
                Owner::Here => Some(self.me.clone()),
                Owner::There(info) => Some(info),
                Owner::Nobody => None,
            };
            let holding = if owner.is_some() { place.holding } else { Holding::Nothing };
            let pinned = place.pinned && owner.is_some();
            PartitionStatus { partition: place.partition, owner, holding, pinned }
        };
        self.places.iter().zip(self.owners(now)).map(owned).collect()
    }

    /// All nodes that are known, by name, for people.
    pub fn nodes(&self, now: BootMicros) -> Vec<NodeStatus> {
        let status = |member: &Member| NodeStatus {
            standing: member.standing(now),
            silent_for: now.since(member.heard_at),
            partitions: self.owned_by(member.info.id),
            is_me: member.info.id == self.me.id,
            info: member.info.clone(),
        };
        let mut nodes: Vec<_> = self.members.all().map(status).collect();
        nodes.sort_by(|a, b| (&a.info.name, a.info.id).cmp(&(&b.info.name, b.info.id)));
        nodes
    }

    fn owned_by(&self, node: NodeId) -> usize {
        self.places.iter().filter(|place| place.owner == Some(node)).count()
    }

    /// The term of the greatest claim of a partition that was heard of; zero if there is none.
    pub fn term(&self, partition: Partition) -> Seq {
        self.places.get(usize::from(partition.0)).map_or(Seq::START, |place| place.term)
    }

    /// All nodes that are known, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.all()
    }

    /// A node.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.get(id)
    }

    /// Since when this node hears itself without a break; none = it is not connected.
    pub fn connected_since(&self, now: BootMicros) -> Option<BootMicros> {
        self.members.connected_since(now)
    }

    /// The partitions whose owner was not heard for so long, and those of which no owner is known.
    pub fn silent(&self, span: Micros, now: BootMicros) -> Vec<Partition> {
        let is_silent = |place: &&Place| match place.owner {
            Some(owner) if owner == self.me.id => false,
            Some(owner) => {
                let member = self.members.get(owner);
                member.is_none_or(|member| now.since(member.heard_at) >= span)
            }
            None => true,
        };
        self.places.iter().filter(is_silent).map(|place| place.partition).collect()
    }

    /// The version of records to write now: that of the oldest node which is alive. A node that
    /// takes a partition over from now on knows at least this one.
    pub fn format_to_write(&mut self, now: BootMicros) -> u8 {
        let format = self.format(now);
        self.written = self.written.max(format);
        format
    }

    /// The version of records that every node which is alive can write.
    pub fn format(&self, now: BootMicros) -> u8 {
        let others = self.members.alive(now).map(|member| member.info.format);
        others.fold(self.me.format, u8::min)
    }
}
