//! What may be judged before a session is asked: by rules of its own, and by the server.

use super::ids::Key;

/// What may be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Somebody opens a session.
    Open,
    /// A user who is not in joins.
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
    /// As a number, and back.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Those of a number that [`Operations::bits`] made.
    pub fn of_bits(bits: u8) -> Self {
        Self(bits)
    }

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
    /// What is sent to a user who is refused.
    pub message: Key,
}

/// What some rules judge.
pub fn judged_by(rules: &[Rule]) -> Operations {
    rules.iter().fold(Operations::default(), |all, rule| all.or(rule.on))
}
