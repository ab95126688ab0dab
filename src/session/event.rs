//! What happened in a session, for those who keep watch over the app and keep records: who came and
//! went, what was done to whom, and by whom. Never what anybody wrote.

use super::{
    Session,
    command::{Actor, Command},
    ids::UserId,
    limits::Micros,
    member::Departure,
    role::Role,
    settings::Kind,
};
use std::sync::Arc;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Who caused it; none = nobody did: time has passed, or a connection was lost.
    pub by: Option<Actor>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The session opened.
    Opened(Kind),
    /// The session is over, and so are all memberships.
    Ended(Ended),
    /// A user joined.
    Joined {
        /// Who.
        user: UserId,
        /// As what.
        role: Role,
    },
    /// A user is not a member any more.
    Left {
        /// Who.
        user: UserId,
        /// Why.
        departure: Departure,
    },
    /// A user has another role.
    RoleChanged {
        /// Who.
        user: UserId,
        /// The role before.
        from: Role,
        /// The role from now on.
        to: Role,
    },
    /// Somebody else owns the session, or nobody.
    OwnerChanged {
        /// Who owned it.
        from: Option<UserId>,
        /// Who does now.
        to: Option<UserId>,
    },
    /// Somebody else hosts the session, or nobody.
    HostChanged {
        /// Who hosted it.
        from: Option<UserId>,
        /// Who does now.
        to: Option<UserId>,
        /// Counts hosts.
        term: u64,
    },
    /// Somebody kicked a member.
    Kicked {
        /// Whom.
        user: UserId,
        /// In the words of the one who kicked.
        reason: Arc<str>,
    },
    /// Somebody banned a user.
    Banned {
        /// Whom.
        user: UserId,
        /// In the words of the one who banned.
        reason: Arc<str>,
        /// When the ban ends; none = never.
        until: Option<Micros>,
    },
    /// Somebody ended a ban.
    Unbanned {
        /// Whose.
        user: UserId,
    },
    /// Settings changed.
    SettingsChanged {
        /// Their names, as in `SessionSettings`.
        names: Vec<&'static str>,
    },
    /// All values went back to where they began.
    Reset {
        /// With a new schema.
        new_schema: bool,
    },
    /// Places are held.
    SeatsReserved {
        /// For whom.
        users: Vec<UserId>,
        /// Until then, at the latest.
        until: Micros,
    },
    /// Places were given back.
    SeatsReleased {
        /// Whose.
        users: Vec<UserId>,
    },
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Somebody deleted it.
    Deleted,
    /// Nobody was in it for long enough.
    Empty,
    /// It was as old as it may become.
    Age,
    /// It is private, and its source left.
    SourceLeft,
}

impl What {
    /// Whether it follows from the state of the session, and is nobody's doing.
    fn is_of_itself(&self) -> bool {
        matches!(self, Self::Ended(Ended::Empty | Ended::Age))
    }
}

impl Session {
    /// Takes what happened since this was asked last, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.take_untold(|untold| &mut untold.events)
    }

    /// Something happened; who caused it is filled in when the command is done.
    ///
    /// The end is the last thing that happens: what a command does beside it concerns nobody.
    pub(super) fn happened(&mut self, what: What) {
        if !self.lifetime.has_ended() {
            self.untold.events.push(Event { by: None, what });
        }
    }

    /// The session is over.
    pub(super) fn end(&mut self, why: Ended) {
        if !self.lifetime.has_ended() {
            self.happened(What::Ended(why));
            self.lifetime.end();
        }
    }

    /// What happened since there were `before` events is the doing of an actor.
    pub(super) fn attribute(&mut self, before: usize, actor: &Actor) {
        let Some(untold) = self.untold.some_mut() else { return };
        for event in untold.events.iter_mut().skip(before) {
            if !event.what.is_of_itself() {
                event.by = Some(actor.clone());
            }
        }
    }
}

impl Command {
    /// Whether it tells what has happened, and is nobody's wish.
    pub(super) fn is_report(&self) -> bool {
        matches!(
            self,
            Self::SourceSeen { .. } | Self::StreamOpened { .. } | Self::StreamClosed { .. }
        )
    }
}
