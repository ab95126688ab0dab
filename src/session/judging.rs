//! What is judged before a session is asked, by rules of its own and by whoever serves it. Who judges
//! and how is no affair of the session: it knows what has to be judged, and refuses what was not,
//! whichever way it comes. The app itself is not judged.

use super::{
    Session,
    command::{Actor, Join},
    epoch::Epoch,
    error::Refusal,
    ids::Key,
};

/// What may be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Somebody opens a session.
    Open,
    /// A user joins who is not in.
    Join,
    /// A member writes props or session data.
    Write,
    /// A member begins to receive.
    Subscribe,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Open, Self::Join, Self::Write, Self::Subscribe];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Join => "join",
            Self::Write => "write",
            Self::Subscribe => "subscribe",
        }
    }
}

/// A set of operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Operations(u8);

impl Operations {
    /// Whether an operation is among them.
    pub fn has(self, operation: Operation) -> bool {
        self.0 & (1 << operation as u8) != 0
    }

    /// What is in one of both.
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether none is.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Operation> {
        Operation::ALL.into_iter().filter(move |operation| self.has(*operation))
    }
}

impl FromIterator<Operation> for Operations {
    fn from_iter<T: IntoIterator<Item = Operation>>(operations: T) -> Self {
        Self(operations.into_iter().fold(0, |all, one| all | (1 << one as u8)))
    }
}

/// A rule of a session, as it was written. Names and bounds: `Rule` in the proto.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// How it is called.
    pub name: Key,
    /// What it judges.
    pub on: Operations,
    /// What must be true.
    pub expression: Key,
    /// What is told to whoever is refused.
    pub message: Key,
}

/// What some rules judge.
pub fn judged_by(rules: &[Rule]) -> Operations {
    rules.iter().fold(Operations::default(), |all, rule| all.or(rule.on))
}

impl Session {
    /// What is judged here.
    pub fn judges(&self) -> Operations {
        self.judges
    }

    /// Whoever serves the session judges this too.
    pub fn also_judge(&mut self, operations: Operations) {
        self.judges = self.judges.or(operations);
    }

    /// Whether writes must name the session. What is set on users takes no notice of formats and of
    /// who judges, so such a session neither takes nor shows it.
    pub(super) fn takes_named_writes_only(&self) -> bool {
        self.accepted.schema.is_some() || self.judges.has(Operation::Write)
    }

    /// Whether a write that was judged in an epoch, or never, may be made.
    pub(super) fn check_judged(&self, actor: &Actor, judged: Option<Epoch>) -> Result<(), Refusal> {
        let is_judged = judged == Some(self.epoch);
        match actor {
            Actor::User(_) if self.judges.has(Operation::Write) && !is_judged => {
                Err(Refusal::NotJudged)
            }
            _ => Ok(()),
        }
    }

    /// The same of a join, whose first props are a write; who opens the session is judged as that.
    pub(super) fn check_join_judged(&self, join: &Join) -> Result<(), Refusal> {
        let writes = self.judges.has(Operation::Write) && !join.props.is_empty();
        let is_judged = self.revision.is_none() || join.judged == Some(self.epoch);
        match (self.judges.has(Operation::Join) || writes) && !is_judged {
            true => Err(Refusal::NotJudged),
            false => Ok(()),
        }
    }
}
