//! What the engine needs from whoever knows the wire: a view of a session in, bytes out.

use crate::session::{Session, ids::UserId, view::View};
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
    /// What changed in a view after the revision `after`, in a message that says the changes go
    /// from `from` to the session's revision; none if the view shows nothing of it.
    fn changes(
        &self,
        session: &Session,
        view: &View,
        after: u64,
        from: u64,
        spans: bool,
    ) -> Option<Encoded>;

    /// The whole view; `except` leaves the props of one user out.
    fn snapshot(
        &self,
        session: &Session,
        view: &View,
        reason: SnapshotReason,
        except: Option<&UserId>,
    ) -> Encoded;
}
