//! What is known of sessions by those who use them, and whether what anybody is told fits it.

use crate::{
    call::{FACTS, Fact},
    rebuilt::{Rebuilt, State},
};
use prost::Message;
use sessiond::session::{limits::Micros, settings::Durability};
use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
};

/// Something that is written again and again by one writer, each time with the next number.
#[derive(Debug, Default)]
pub struct Register {
    pub sent: u64,
    /// What was answered, and when.
    answered: Vec<(Micros, u64)>,
}

impl Register {
    pub fn send(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    pub fn answered(&mut self, number: u64, now: Micros) {
        self.answered.push((now, number));
    }

    /// The last number that was answered by then.
    pub fn answered_by(&self, at: Micros) -> u64 {
        let before = self.answered.partition_point(|(when, _)| *when <= at);
        before.checked_sub(1).map_or(0, |last| self.answered[last].1)
    }
}

/// A session that is there all the time; one of which nothing is stored is opened again when it is gone.
#[derive(Debug)]
pub struct Room {
    pub number: usize,
    pub durability: Durability,
    /// How often it was lost.
    pub lost: u64,
    /// When it was answered that it is open.
    pub opened_at: Option<Micros>,
    pub facts: BTreeMap<Fact, Register>,
    /// What each epoch and revision shows, by the fingerprint of the view.
    shown: HashMap<(u64, u64, u32), u64>,
}

impl Room {
    pub fn new(number: usize, lost: u64) -> Self {
        let durability = match number % 4 {
            0 | 1 => Durability::Sync,
            2 => Durability::Async,
            _ => Durability::None,
        };
        let facts = FACTS.map(|fact| (fact, Register::default())).into();
        Self { number, durability, lost, opened_at: None, facts, shown: HashMap::new() }
    }

    pub fn id(&self) -> String {
        format!("room-{}-{}", self.number, self.lost)
    }

    /// Whether what is answered of a fact is stored.
    fn is_stored(&self, fact: Fact) -> bool {
        match self.durability {
            Durability::None => false,
            Durability::Async => fact != Fact::Data,
            Durability::Sync => true,
        }
    }

    /// What somebody is shown that was made at a moment.
    pub fn note(&mut self, copy: &Rebuilt, made_at: Micros) -> Result<(), String> {
        let print = print_of(&copy.state);
        let key = (copy.epoch, copy.revision, copy.view);
        if *self.shown.entry(key).or_insert(print) != print {
            let (epoch, revision) = (copy.epoch, copy.revision);
            return Err(format!("two states at {epoch}.{revision}: one is {:?}", copy.state));
        }
        for fact in FACTS {
            if let Some(found) = found(&copy.state, fact, &self.id()) {
                self.judge(fact, found, made_at)?;
            }
        }
        Ok(())
    }

    /// Whether a number may be found that was looked for at a moment. Of a fact with two states the number
    /// says which of them it is.
    pub fn judge(&self, fact: Fact, found: u64, at: Micros) -> Result<(), String> {
        let register = &self.facts[&fact];
        let (sent, acked) = (register.sent, register.answered_by(at));
        let must = if self.is_stored(fact) { acked } else { 0 };
        let is_right = match fact {
            Fact::Role => sent > must || found == must % 2,
            Fact::Ban => sent > must || (found == must || (found == 0 && must.is_multiple_of(2))),
            _ => must <= found && found <= sent,
        };
        match is_right {
            true => Ok(()),
            false => Err(format!("{fact:?}: found {found}, but {acked} was answered of {sent}")),
        }
    }
}

/// What a state tells of a fact.
fn found(state: &State, fact: Fact, id: &str) -> Option<u64> {
    let number = |shown: Option<&String>| {
        shown.map_or(0, |shown| shown.trim_end_matches('i').parse().unwrap_or(u64::MAX))
    };
    let of = |key: &str| number(state.members.get(&format!("ada-{id}"))?.props.get(key)).into();
    match fact {
        Fact::Data => Some(number(state.data.get("plain"))),
        Fact::StoredData => Some(number(state.data.get("stored"))),
        Fact::StoredProps => of("stored"),
        Fact::OnUser => of("own"),
        // Look tells of them.
        Fact::Settings | Fact::Ban | Fact::Role => None,
    }
}

fn print_of(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    let session = state.session.as_ref().map(Message::encode_to_vec);
    (session, &state.data, &state.private_data).hash(&mut hasher);
    for (user, member) in &state.members {
        let role = member.role as i32;
        (user, role, member.disconnected, member.join_order, &member.props).hash(&mut hasher);
    }
    hasher.finish()
}
