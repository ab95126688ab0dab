//! One partition, the nodes that may own it, and the stream that keeps its log.
//!
//! Any node may claim at any time: whatever `cluster::rules` decides is among that. How long an owner
//! may answer says the real [`Right`].
//!
//! What was sent may arrive at any time from then on, or never. So a message that is late, lost, or
//! sent again has no step of its own: a copy that comes after another one is known, and one that comes
//! too late is refused. A reply comes at any time after that, or never. A node that stands still is one
//! that takes no step, and is taken here to answer meanwhile if it may. Time goes on in seconds, and
//! only how long ago something was matters, so no course has an end.

use crate::checker::Model;
use sessiond::cluster::{Before, BootMicros, Right};

/// How many nodes there are.
pub const NODES: usize = 3;

/// How many records clients write.
pub const RECORDS: usize = 2;

/// The moment of every state.
const NOW: BootMicros = BootMicros(100_000_000);

/// What was sent longer ago than this, in seconds, gives no right, however long.
const OLDEST_SENT: u8 = 3;

/// What was seen longer ago than this, in seconds, has left none.
const OLDEST_SEEN: u8 = 4;

/// What is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Messages are stored whatever was expected to be the last before them.
    NoExpectation,
    /// An owner answers however long ago it has sent what is stored.
    AnswersForEver,
    /// A deposed owner goes on where the stream has come to, and readers take what it writes.
    OldTermAccepted,
    /// The partition is released first, and what is left is stored then.
    ReleasesBeforeTheFlush,
    /// An owner answers as soon as its claim is stored.
    AnswersAtOnce,
    /// The right counts from the moment at which something is known to be stored.
    RightFromTheReply,
    /// An owner answers until it knows that its release is stored.
    AnswersWhileItReleases,
    /// An owner releases while the one before it may still answer.
    ReleasesTooEarly,
}

/// What there is of things that cost states.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Entries of the stream.
    pub entries: usize,
    pub claims: u8,
    pub crashes: u8,
}

#[derive(Debug)]
pub struct World {
    pub fault: Fault,
    pub bounds: Bounds,
}

/// What is stored. No two messages are the same, so one that is sent again is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Message {
    what: What,
    /// The term of the writer; of a claim zero.
    term: u8,
    /// What is to be the last before it.
    expected: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum What {
    Claim {
        by: u8,
    },
    /// A batch with a record, or what is appended each second.
    Batch(Option<u8>),
    Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Role {
    Idle,
    Claiming { sent: Sent, seen_ago: u8 },
    Owner(Owner),
}

/// What waits for a reply, and how long ago it was sent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Sent {
    message: Message,
    ago: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Owner {
    term: u8,
    /// The last entry of the stream, as far as it knows.
    last: u8,
    /// The records that it shows, one bit each.
    has: u8,
    /// A record that it has taken and that is not stored.
    taken: Option<u8>,
    sent: Option<Sent>,
    /// How long ago the last was sent that is stored.
    right_ago: u8,
    /// How long ago what stood before the claim was seen; none = it was a release, or nothing.
    before_ago: Option<u8>,
    right_over: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    nodes: [Role; NODES],
    stream: Vec<Message>,
    /// What was sent and may still be stored, in order.
    sent: Vec<Message>,
    /// By which term each record was taken; zero = by none yet.
    taken_by: [u8; RECORDS],
    /// The records whose clients know that they are stored.
    acked: u8,
    /// How many nodes have claimed: the others are all the same.
    nodes_used: usize,
    claims: u8,
    crashes: u8,
}

/// What happens; each with the node that does it.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "they are printed")]
pub enum Action {
    SecondPasses,
    Claims(usize),
    /// Of what was sent and may still be stored, the one at this place of its list.
    Arrives(usize),
    HearsThatItIsStored(usize),
    HearsThatItIsRefused(usize),
    Takes(usize, u8),
    Appends(usize),
    Releases(usize),
    Crashes(usize),
}

impl World {
    fn may_answer(&self, node: &Role) -> bool {
        matches!(node, Role::Owner(owner) if self.right(owner).holds_at(NOW))
    }

    fn right(&self, owner: &Owner) -> Right {
        let ago = |ago: u8| BootMicros(NOW.0 - u64::from(ago) * 1_000_000);
        let before = match owner.before_ago {
            Some(seen) if self.fault != Fault::AnswersAtOnce => Before::SeenAt(ago(seen)),
            _ => Before::Released,
        };
        let right = Right::claimed(ago(owner.right_ago), before);
        if self.fault == Fault::AnswersForEver {
            right.extend(NOW);
        }
        if owner.right_over {
            right.end();
        }
        right
    }

    /// The records that a reader of the stream up to a place has.
    fn read(&self, stream: &[Message]) -> u8 {
        let (mut has, mut term) = (0, 0);
        for (at, message) in stream.iter().enumerate() {
            match message.what {
                What::Claim { .. } => term = at as u8 + 1,
                What::Batch(Some(record))
                    if message.term == term || self.fault == Fault::OldTermAccepted =>
                {
                    has |= 1 << record;
                }
                _ => {}
            }
        }
        has
    }

    /// Whether the stream takes a message now.
    fn takes(&self, stream: &[Message], message: &Message) -> bool {
        let is_next = usize::from(message.expected) == stream.len();
        is_next || self.fault == Fault::NoExpectation
    }

    /// Whether it is refused if it comes, now and for ever.
    fn refuses(&self, stream: &[Message], message: &Message) -> bool {
        let is_late = usize::from(message.expected) < stream.len();
        is_late && self.fault != Fault::NoExpectation
    }

    /// A node hears that what it waits for is stored at a place.
    fn stored(&self, state: &mut State, at: usize, sent: Sent, place: u8) {
        let ago = if self.fault == Fault::RightFromTheReply { 0 } else { sent.ago };
        let Role::Owner(owner) = &mut state.nodes[at] else {
            let Role::Claiming { seen_ago, .. } = state.nodes[at] else { return };
            let before = usize::from(place) - 1;
            let is_clean = before == 0 || state.stream[before - 1].what == What::Release;
            state.nodes[at] = Role::Owner(Owner {
                term: place,
                last: place,
                has: self.read(&state.stream[..usize::from(place)]),
                taken: None,
                sent: None,
                right_ago: ago,
                before_ago: (!is_clean).then_some(seen_ago),
                right_over: false,
            });
            return;
        };
        owner.sent = None;
        owner.last = place;
        owner.right_ago = owner.right_ago.min(ago);
        match sent.message.what {
            What::Batch(Some(record)) => {
                owner.taken = None;
                owner.has |= 1 << record;
                // The ack is an answer as any other.
                if self.right(owner).holds_at(NOW) {
                    state.acked |= 1 << record;
                }
            }
            What::Release => state.nodes[at] = Role::Idle,
            _ => {}
        }
    }

    /// A node hears that what it waits for is refused: it is deposed.
    fn refused(&self, state: &mut State, at: usize) {
        match &mut state.nodes[at] {
            Role::Owner(owner) if self.fault == Fault::OldTermAccepted => {
                owner.last = state.stream.len() as u8;
                owner.sent = None;
            }
            role => *role = Role::Idle,
        }
    }
}

impl Role {
    fn waits_for(&self) -> Option<Sent> {
        match self {
            Role::Idle => None,
            Role::Claiming { sent, .. } => Some(*sent),
            Role::Owner(owner) => owner.sent,
        }
    }
}

impl State {
    fn send(&mut self, message: Message) {
        self.sent.push(message);
        self.sent.sort();
    }

    fn a_second_later(&self) -> Self {
        let older = |ago: &mut u8| *ago = OLDEST_SENT.min(*ago + 1);
        let older_seen = |ago: &mut u8| *ago = OLDEST_SEEN.min(*ago + 1);
        let mut state = self.clone();
        for node in &mut state.nodes {
            match node {
                Role::Idle => {}
                Role::Claiming { sent, seen_ago } => {
                    older(&mut sent.ago);
                    older_seen(seen_ago);
                }
                Role::Owner(owner) => {
                    older(&mut owner.right_ago);
                    owner.before_ago.iter_mut().for_each(older_seen);
                    owner.sent.iter_mut().for_each(|sent| older(&mut sent.ago));
                }
            }
        }
        state
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn begin(&self) -> State {
        State {
            nodes: [Role::Idle; NODES],
            stream: Vec::new(),
            sent: Vec::new(),
            taken_by: [0; RECORDS],
            acked: 0,
            nodes_used: 0,
            claims: self.bounds.claims,
            crashes: self.bounds.crashes,
        }
    }

    fn next(&self, state: &State, take: &mut dyn FnMut(Action, State)) {
        take(Action::SecondPasses, state.a_second_later());
        for (at, message) in state.sent.iter().enumerate() {
            if state.stream.len() < self.bounds.entries && self.takes(&state.stream, message) {
                let mut next = state.clone();
                next.stream.push(next.sent.remove(at));
                let State { sent, stream, .. } = &mut next;
                sent.retain(|message| !self.refuses(stream, message));
                take(Action::Arrives(at), next);
            }
        }
        for at in 0..NODES {
            self.next_of(state, at, take);
        }
    }

    fn fault(&self, state: &State) -> Option<&'static str> {
        let answering = state.nodes.iter().filter(|node| self.may_answer(node));
        let mut count = 0;
        for node in answering {
            count += 1;
            let Role::Owner(owner) = node else { continue };
            if state.acked & !owner.has != 0 {
                return Some("an owner that may answer does not know what was acked");
            }
        }
        if count > 1 {
            return Some("two nodes may answer");
        }
        if state.acked & !self.read(&state.stream) != 0 {
            return Some("what was acked is lost");
        }
        let terms: Vec<_> = state
            .nodes
            .iter()
            .filter_map(|node| match node {
                Role::Owner(owner) => Some(owner.term),
                _ => None,
            })
            .collect();
        if (1..terms.len()).any(|at| terms[..at].contains(&terms[at])) {
            return Some("two owners have one term");
        }
        let mut released = state.stream.iter().enumerate();
        released.find_map(|(at, message)| {
            let stored = self.read(&state.stream[..at]);
            let taken = |record: &usize| state.taken_by[*record] == message.term;
            let lost = (0..RECORDS).filter(taken).any(|record| stored & 1 << record == 0);
            (message.what == What::Release && lost).then_some("a clean end has lost what was taken")
        })
    }
}

impl World {
    /// What a node may do.
    fn next_of(&self, state: &State, at: usize, take: &mut dyn FnMut(Action, State)) {
        let node = state.nodes[at];
        if node != Role::Idle && state.crashes > 0 {
            let mut next = state.clone();
            next.nodes[at] = Role::Idle;
            next.crashes -= 1;
            take(Action::Crashes(at), next);
        }
        if let Some(sent) = node.waits_for() {
            let mut next = state.clone();
            if let Some(place) = state.stream.iter().position(|it| *it == sent.message) {
                self.stored(&mut next, at, sent, place as u8 + 1);
                take(Action::HearsThatItIsStored(at), next);
            } else if self.refuses(&state.stream, &sent.message) {
                self.refused(&mut next, at);
                take(Action::HearsThatItIsRefused(at), next);
            }
            return;
        }
        match node {
            Role::Idle if state.claims > 0 && at <= state.nodes_used => {
                // It looks where the stream is, and claims at the next place.
                let expected = state.stream.len() as u8;
                let message = Message { what: What::Claim { by: at as u8 }, term: 0, expected };
                if state.sent.contains(&message) {
                    return;
                }
                let mut next = state.clone();
                next.nodes[at] = Role::Claiming { sent: Sent { message, ago: 0 }, seen_ago: 0 };
                next.claims -= 1;
                next.nodes_used = next.nodes_used.max(at + 1);
                next.send(message);
                take(Action::Claims(at), next);
            }
            Role::Owner(owner) => self.next_of_owner(state, at, owner, take),
            _ => {}
        }
    }

    fn next_of_owner(
        &self,
        state: &State,
        at: usize,
        owner: Owner,
        take: &mut dyn FnMut(Action, State),
    ) {
        let sending = |what: What, owner: Owner| {
            let message = Message { what, term: owner.term, expected: owner.last };
            let mut next = state.clone();
            next.nodes[at] = Role::Owner(Owner { sent: Some(Sent { message, ago: 0 }), ..owner });
            next.send(message);
            next
        };
        let free = state.taken_by.iter().position(|by| *by == 0);
        if let (Some(record), None) = (free, owner.taken)
            && self.right(&owner).holds_at(NOW)
        {
            let mut next = state.clone();
            next.nodes[at] = Role::Owner(Owner { taken: Some(record as u8), ..owner });
            next.taken_by[record] = owner.term;
            take(Action::Takes(at, record as u8), next);
        }
        take(Action::Appends(at), sending(What::Batch(owner.taken), owner));
        let is_stored = owner.taken.is_none() || self.fault == Fault::ReleasesBeforeTheFlush;
        let is_time =
            self.right(&owner).may_release_at(NOW) || self.fault == Fault::ReleasesTooEarly;
        if is_stored && is_time {
            // It answers no more from before the release is sent.
            let right_over = self.fault != Fault::AnswersWhileItReleases;
            take(Action::Releases(at), sending(What::Release, Owner { right_over, ..owner }));
        }
    }
}
