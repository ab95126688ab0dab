//! Where a partition has come to, and whether what comes in may follow. Each implementation that
//! keeps order itself asks here, so that the fence is in one place.

use super::{Seq, error::AppendError};

/// Where a partition has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Head {
    /// The last place that was given away.
    pub seq: Seq,
    /// The last batch, claim or release: each names the one before it, so that a gap shows.
    pub chain: Seq,
    /// Everything of that chain below this place is trimmed.
    pub oldest: Seq,
    /// The last claim.
    pub term: Seq,
    /// Whether its writer has given the partition back.
    pub released: bool,
    /// The last call of its writer that is stored.
    number: u64,
    /// The last place that this call took.
    stored_at: Seq,
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The claim of the caller.
    pub term: Seq,
    /// The number of the call, from 1 on. A call that is not stored leaves its number to the next.
    pub number: u64,
}

impl Head {
    /// As it is found when nobody writes yet.
    pub fn found(seq: Seq, chain: Seq, oldest: Seq) -> Self {
        Self { seq, chain, oldest, ..Self::default() }
    }

    /// Whether a call is to be stored; a place = it is stored already. Of the last call that was stored it
    /// is that one's last place, of an older one, which comes again late, nobody waits for it.
    pub fn admit(&self, call: Call) -> Result<Option<Seq>, AppendError> {
        if call.term != self.term {
            Err(AppendError::Deposed)
        } else if call.number <= self.number {
            Ok(Some(self.stored_at))
        } else if self.released {
            Err(AppendError::Deposed)
        } else {
            Ok(None)
        }
    }

    /// Gives the next place to an entry of the chain, and names the entry before it.
    pub fn link(&mut self) -> (Seq, Seq) {
        let previous = self.chain;
        self.seq = self.seq.next();
        self.chain = self.seq;
        (self.seq, previous)
    }

    /// Gives the next place to a snapshot.
    pub fn place(&mut self) -> Seq {
        self.seq = self.seq.next();
        self.seq
    }

    /// A new writer has its term.
    pub fn claimed(&mut self) {
        *self =
            Self { term: self.chain, released: false, number: 0, stored_at: self.chain, ..*self };
    }

    /// A call is stored, with all its entries.
    pub fn stored(&mut self, call: Call) {
        self.number = call.number;
        self.stored_at = self.seq;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_comes_again_however_late_is_not_stored_again() {
        let mut head = Head::default();
        head.link();
        head.claimed();
        let term = head.term;
        let call = |number| Call { term, number };
        for number in 1..=3 {
            assert_eq!(head.admit(call(number)), Ok(None));
            head.link();
            head.stored(call(number));
        }
        for number in 1..=3 {
            assert_eq!(head.admit(call(number)), Ok(Some(head.seq)), "{number}");
        }
        assert_eq!(head.admit(call(4)), Ok(None));
    }
}
