//! Private sessions: what one user, the source, shows to another, the listener.
//!
//! The source is shown from the opening on, whether it has joined or not: one that has not is a
//! member all the same, marked *absent*, and shown as disconnected unless the app sees it elsewhere.
//! The session lives by its listener, and ends when the source leaves it.

use super::{
    Session,
    ban::Ban,
    command::{Join, Write},
    error::Refusal,
    event::What,
    ids::{Key, UserId},
    limits::Micros,
    member::{MemberIx, Membership},
    role::Role,
    schema::Paths,
    settings::{Kind, Presence},
    value::Value,
};
use std::sync::Arc;

/// Whose props are shown to whom. There is one private session per app and pair.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Whose props are shown.
    pub source: UserId,
    /// Who receives them.
    pub listener: UserId,
}

/// What a private session needs to open, beside what every session does.
#[derive(Debug, Clone)]
pub struct Private {
    /// Between whom.
    pub pair: Pair,
    /// Who owns it.
    pub owner: UserId,
    /// First props of the source, in this session only.
    pub props: Vec<(Key, Value)>,
    /// What is set on the source.
    pub user_props: Vec<(Key, Value)>,
    /// The app sees the source: it has a stream, or has joined a session.
    pub is_present: bool,
}

impl Session {
    /// Between whom, in a private session.
    pub fn pair(&self) -> Option<&Pair> {
        self.pair.as_deref()
    }

    /// The role of the source of a session that opens.
    pub(super) fn role_of_source(&self, private: &Private) -> Role {
        self.roles.of(&private.pair.source).unwrap_or(Role::Member)
    }

    /// Shows the source, who has not joined.
    pub(super) fn show_source(&mut self, now: Micros, private: Private) -> Result<(), Refusal> {
        let role = self.role_of_source(&private);
        let Private { pair, props, user_props, is_present, owner: _ } = private;
        self.check_first_props(&user_props, &props)?;
        let first = self.first_props(user_props);
        self.is_source_seen = is_present;
        let order = self.members.next_order();
        let ix = self.members.join(
            &pair.source,
            Membership {
                role,
                presence: Presence::Explicit,
                disconnected: !is_present,
                absent: true,
                streams: 0,
                has_streamed: false,
                order,
                joined_at: now,
            },
        );
        self.put_props(ix, Write::of(first));
        self.put_props(ix, Write::of(props));
        Ok(())
    }

    /// The app sees the source, or does not any more.
    pub(super) fn source_seen(&mut self, is_present: bool) {
        self.is_source_seen = is_present;
        let Some(ix) = self.pair.as_ref().and_then(|pair| self.members.find(&pair.source)) else {
            return;
        };
        if self.members.get(ix).now.as_ref().is_some_and(|source| source.absent) {
            self.show_absent(ix);
        }
    }

    /// The source's own membership is over, and nobody wished it: it is shown as absent.
    pub(super) fn source_lost(&mut self, ix: MemberIx) {
        self.stop_expecting(ix);
        let member = self.members.get_mut(ix);
        let Some(source) = &mut member.now else { return };
        (source.absent, source.presence) = (true, Presence::Explicit);
        (source.streams, source.has_streamed) = (0, false);
        let user = member.user.clone();
        self.notes.add(&user);
        self.untold.left.push(user);
        self.show_absent(ix);
    }

    pub(super) fn show_absent(&mut self, ix: MemberIx) {
        let is_disconnected = !self.is_source_seen;
        let Some(source) = &mut self.members.get_mut(ix).now else { return };
        if std::mem::replace(&mut source.disconnected, is_disconnected) != is_disconnected {
            self.log_status(ix);
            self.members.mark(ix);
            self.open = true;
        }
    }

    /// Whether the absent source may join with these first props.
    pub(super) fn check_source_joins(&self, ix: MemberIx, join: &Join) -> Result<(), Refusal> {
        self.check_join_judged(join)?;
        if join.props.is_empty() {
            return Ok(());
        }
        let write = Write::of(join.props.clone());
        self.check_props_format(Some(self.role_of(ix)), &write, Paths::JOIN)?;
        self.check_room(&self.members.get(ix).slots, &write)
    }

    /// The absent source joins: that is a membership of its own, with first props.
    pub(super) fn source_joins(&mut self, ix: MemberIx, join: &Join) -> Result<(), Refusal> {
        if self.members.get(ix).now.as_ref().is_none_or(|source| !source.absent) {
            return Ok(());
        }
        self.check_source_joins(ix, join)?;
        self.put_props(ix, Write::of(join.props.clone()));
        let (user, role) = (self.members.get(ix).user.clone(), self.role_of(ix));
        self.happened(What::Joined { user, role });
        let presence = self.presence_by_default(join.is_stream);
        if let Some(source) = &mut self.members.get_mut(ix).now {
            (source.absent, source.presence) = (false, presence);
        }
        self.notes.add(&self.members.get(ix).user);
        self.open = true;
        Ok(())
    }

    /// Whether it is a private session that shows this user.
    pub fn is_source(&self, user: &str) -> bool {
        self.pair.as_ref().is_some_and(|pair| *pair.source == *user)
    }

    /// A private session takes its source and its listener only.
    pub(super) fn check_pair(&self, user: &UserId) -> Result<(), Refusal> {
        match &self.pair {
            Some(pair) if *user != pair.source && *user != pair.listener => {
                Err(Refusal::NotOfThePair)
            }
            _ => Ok(()),
        }
    }

    /// Only the source's props are shown, so only it has any.
    pub(super) fn check_is_source(&self, user: &str) -> Result<(), Refusal> {
        match self.kind {
            Kind::Private if !self.is_source(user) => Err(Refusal::NeedsSource),
            _ => Ok(()),
        }
    }

    /// Whether somebody has joined of their own; an absent source has not.
    pub fn has_joined(&self, user: &str) -> bool {
        self.members.membership(user).is_some_and(|membership| !membership.absent)
    }

    /// Whether everybody has gone by whom the session lives.
    pub(super) fn is_empty(&self) -> bool {
        match &self.pair {
            Some(pair) => self.members.membership(&pair.listener).is_none(),
            None => self.members.joined_count() == 0,
        }
    }

    /// The ban of the listener: it holds only as long as the session does, so the session stays.
    pub(super) fn listener_ban(&self, now: Micros) -> Option<&Ban> {
        self.bans.of(now, &self.pair.as_ref()?.listener)
    }

    /// Who is banned has changed, and with the listener's ban how long the session stays.
    pub(super) fn settle_listener(&mut self, now: Micros) {
        if self.pair.is_some() {
            self.settle_emptiness(now);
        }
    }

    /// Whether the session lives by this user.
    pub(super) fn lives_by(&self, user: &UserId) -> bool {
        self.pair.as_ref().is_none_or(|pair| pair.listener == *user)
    }
}

impl Private {
    /// What is set on the source is filled in later. Nobody named = the source owns it.
    pub fn of(pair: Pair, owner: Option<UserId>, props: Vec<(Key, Value)>) -> Self {
        let owner = owner.unwrap_or_else(|| pair.source.clone());
        Self { pair, owner, props, user_props: Vec::new(), is_present: false }
    }

    /// The pair, to be shared.
    pub(super) fn shared_pair(&self) -> Arc<Pair> {
        Arc::new(self.pair.clone())
    }
}
