//! What becomes of a call whose other node did not answer it.

use super::door::STRANGER_METADATA;
use crate::{
    grpc::{Context, error::Refusal},
    session::limits::{Micros, SECOND},
};
use h2::Reason;
use http::HeaderMap;
use std::io;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The reasons of a refusal by a node that does not have the app, and by one that has just been started
/// in the place of the node that was meant.
const NOT_DONE: [&str; 2] = ["NOT_OWNER", "STARTING"];

/// When those come back whose node was lost, at the earliest.
const RETURN: Micros = SECOND / 5;

/// Nothing of a call was done: it may be sent to another node, or to the same one again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotDone(pub String);

/// Why a call was not answered.
#[derive(Debug)]
pub enum Failure {
    /// It reached nobody who would do it.
    NotDone(NotDone),
    /// It reached a node that does not take this one for a node, and has done nothing.
    Stranger,
    /// It was sent, and what became of it is not known.
    Lost(String),
}

impl NotDone {
    /// See [`Failure::Stranger`].
    pub fn by_a_stranger() -> Self {
        Self("the node does not take this one for a node".to_owned())
    }

    /// What its client gets if it is sent to nobody else.
    pub fn status(&self, server: &Context) -> Status {
        server.node.status(&Refusal::NotOwner)
    }
}

impl Failure {
    /// What an error of a call's stream means; `is_answered` if its head had come back.
    pub fn of(error: &h2::Error, is_answered: bool) -> Self {
        let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        // A stream fails with the GOAWAY of the other side only if it is above the last one that the
        // other side has seen.
        let is_unseen = error.is_go_away();
        match error.is_remote() && (is_unseen || (is_refused && !is_answered)) {
            true => Self::not_done(error),
            false => Self::Lost(error.to_string()),
        }
    }

    /// The call was never sent.
    pub fn not_done(why: impl ToString) -> Self {
        Self::NotDone(NotDone(why.to_string()))
    }

    /// What the client of a call gets.
    pub fn status(&self, server: &Context, is_stream: bool) -> Status {
        match self {
            Self::NotDone(not_done) => not_done.status(server),
            Self::Stranger => NotDone::by_a_stranger().status(server),
            Self::Lost(_) => lost(server, is_stream),
        }
    }
}

/// What the client of a call gets whose node was lost, or has lost the app.
pub fn lost(server: &Context, is_stream: bool) -> Status {
    let spread = if is_stream { server.streams.drain_spread } else { 0 };
    let retry_after = RETURN + fastrand::u64(0..=spread);
    server.node.status(&Refusal::NodeLost { is_stream, retry_after })
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::not_done(error)
    }
}

/// The status that a call ended with; or that nothing of it was done, as its node says: it does not have
/// the app, or does not know who sends the call.
pub fn ended(headers: &HeaderMap) -> Result<Status, Failure> {
    let no_status = || Failure::Lost("it ended without a status".to_owned());
    let status = Status::from_header_map(headers).ok_or_else(no_status)?;
    if headers.contains_key(STRANGER_METADATA) {
        tracing::warn!("another node does not take this one for a node: its secret is another one");
        return Err(Failure::Stranger);
    }
    let is_not_done = status.code() == Code::Unavailable
        && status
            .get_details_error_info()
            .is_some_and(|info| NOT_DONE.contains(&info.reason.as_str()));
    match is_not_done {
        true => Err(Failure::not_done(status.message())),
        false => Ok(status),
    }
}
