//! What the engine needs from the code that knows the wire: a view of a session in, bytes out.

use crate::session::{Session, ids::UserId, revision::Revision, view::View};
use bytes::Bytes;
use rustc_hash::FxHashMap;
use std::ops::Range;

/// Why a subscriber gets a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SnapshotReason {
    /// The subscription is new.
    First,
    /// Resume named another incarnation.
    EpochChanged,
    /// Resume named a revision from which removals are no longer known.
    TooOld,
    /// Resume named a revision that the session has not reached.
    Future,
    /// The view shows something else.
    ViewChanged,
    /// The session was reset.
    ResetSchema,
    /// Somebody asked for it.
    Resent,
    /// ALL delivery: the log does not reach back to where the subscriber was.
    LogOverflow,
}

/// A snapshot for a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Why.
    pub reason: SnapshotReason,
    /// Names the users who left after this revision, if the subscriber has come to one.
    pub since: Revision,
    /// From this revision on the subscriber did not get what it should have got one by one; none =
    /// nothing is lost.
    pub lost_from: Revision,
    /// How what comes after it is delivered.
    pub delivery: Delivery,
}

impl Snapshot {
    /// For a subscriber that has got nothing before.
    pub fn new(reason: SnapshotReason) -> Self {
        let none = Revision::NONE;
        Self { reason, since: none, lost_from: none, delivery: Delivery::Latest }
    }
}

/// What a subscriber receives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delivery {
    /// The latest state of each key.
    #[default]
    Latest,
    /// The same, with props in columns.
    Columns,
    /// Every accepted write and event.
    All,
}

impl Delivery {
    /// What a client names to continue: the fingerprint of its view, with another one for each
    /// delivery. As in [`Session::fingerprint`], `except` is a user whose props are left out.
    pub fn fingerprint(self, session: &Session, view: &View, except: Option<&UserId>) -> u32 {
        let of_view = session.fingerprint(view, except);
        match self {
            Self::Latest => of_view,
            Self::Columns => (of_view ^ 0x5555_5555).max(1),
            // Zero is what a client sends that names none.
            Self::All => (!of_view).max(1),
        }
    }
}

/// Where a step begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The step holds what came after this revision.
    pub after: Revision,
    /// Its messages say that it goes on from this one: between the two the view showed nothing.
    pub from: Revision,
}

impl Start {
    /// At a revision, as its messages say.
    pub fn at(revision: Revision) -> Self {
        Self { after: revision, from: revision }
    }
}

/// One step of one view, encoded once and shared by all who are in it.
#[derive(Debug, Clone, Default)]
pub struct Encoded {
    /// The messages of the step, in order; more than one only where a step is too large for one.
    pub messages: Vec<Message>,
}

/// One message of a step.
#[derive(Debug, Clone)]
pub struct Message {
    /// The message as the wire takes it.
    pub bytes: Bytes,
    /// Where in `bytes` the changes lie, and in there each member's; recorded on request, so that a
    /// subscriber's own props can be cut out without encoding again.
    pub spans: Option<Spans>,
    /// The same for a message of the log.
    pub updates: Option<UpdateSpans>,
}

/// Where the updates of members lie in a message of the log.
#[derive(Debug, Clone, Default)]
pub struct UpdateSpans {
    /// All updates.
    pub all: Range<usize>,
    /// Those with props of a member, in order.
    pub of: FxHashMap<UserId, Vec<UpdateSpan>>,
}

/// Where an update with props of a member lies.
#[derive(Debug, Clone)]
pub struct UpdateSpan {
    /// All of it.
    pub whole: Range<usize>,
    /// What it is without those props; empty if that is nothing.
    pub rest: Vec<u8>,
}

/// Where things lie in a message.
#[derive(Debug, Clone, Default)]
pub struct Spans {
    /// The changes.
    pub changes: Range<usize>,
    /// Each member's part.
    pub members: FxHashMap<UserId, MemberSpan>,
}

/// Where a member's part lies.
#[derive(Debug, Clone)]
pub struct MemberSpan {
    /// All of it.
    pub whole: Range<usize>,
    /// Who, with what changed beside the props; empty if nothing did.
    pub status: Range<usize>,
}

/// Pure: the same state gives the same bytes.
pub trait Encoder: Send + Sync + 'static {
    /// What changed in a view from a start to the session's revision; none if the view shows nothing
    /// of it.
    fn changes(&self, session: &Session, view: &View, start: Start, spans: bool)
    -> Option<Encoded>;

    /// The same with props in columns.
    fn columns(&self, session: &Session, view: &View, start: Start) -> Option<Encoded>;

    /// Every update of the log from a start, which the log must reach back to, to the session's
    /// revision; none if the view shows nothing of them.
    fn log(&self, session: &Session, view: &View, start: Start, spans: bool) -> Option<Encoded>;

    /// The whole view; `except` leaves the props of one user out.
    fn snapshot(
        &self,
        session: &Session,
        view: &View,
        snapshot: Snapshot,
        except: Option<&UserId>,
    ) -> Encoded;
}
