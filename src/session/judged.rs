//! What was not judged is refused where it has to be, whichever way it comes. Who judges and how is no
//! affair of the session. The app itself is not judged.

use super::{
    Session,
    command::{Actor, Join},
    epoch::Epoch,
    error::Refusal,
    judging::{Operation, Operations, judged_by},
};

impl Session {
    /// What is judged here.
    pub fn judges(&self) -> Operations {
        self.judges
    }

    /// The server judges this, beside the rules of the session. It may change at any time: what was
    /// written before stays as it is.
    pub fn judge(&mut self, by_server: Operations) {
        self.judges = by_server.or(judged_by(&self.accepted.settings.rules));
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

    /// The same of a join, whose first props are a write; a user who opens the session is judged as that.
    pub(super) fn check_join_judged(&self, join: &Join) -> Result<(), Refusal> {
        let writes = self.judges.has(Operation::Write) && !join.props.is_empty();
        let is_judged = self.revision.is_none() || join.judged == Some(self.epoch);
        match (self.judges.has(Operation::Join) || writes) && !is_judged {
            true => Err(Refusal::NotJudged),
            false => Ok(()),
        }
    }
}
