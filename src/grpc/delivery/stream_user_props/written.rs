//! What became of writes.

use super::super::{
    acks::Frame,
    backlog::{Place, Waiting},
};
use crate::{
    grpc::error::Refusal,
    session::{ids::SessionId, revision::Revision},
};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// What became of a write that was not refused as a whole.
#[derive(Default)]
pub struct Written {
    /// Some session took it, or the user.
    pub is_taken: bool,
    /// The frames that hold it, as far as the stream subscribes to their sessions.
    pub results: SmallVec<[Frame; 1]>,
    pub refused: Vec<(SessionId, Refusal)>,
    /// The stream learns of the end of the tick already.
    pub hears_of_tick: bool,
}

impl Written {
    /// One subscription took it, and tells of its tick.
    pub fn here(place: usize, revision: Revision) -> Self {
        Self {
            is_taken: true,
            results: smallvec![Frame { place, revision }],
            hears_of_tick: true,
            ..Self::default()
        }
    }
}

/// Where what waited is to be tried again, message by message: where it was refused. On the user all
/// of it is written, or nothing.
pub fn left_over(waiting: &Waiting, outcome: &Result<Written, Refusal>) -> Option<Arc<[Place]>> {
    let places = &waiting.places;
    match outcome {
        Err(_) => Some(places.clone()),
        Ok(written) if written.refused.is_empty() => None,
        Ok(written) if places.is_empty() => (!written.is_taken).then(|| places.clone()),
        Ok(written) => {
            let is_refused =
                |place: &&Place| written.refused.iter().any(|(id, _)| *id == place.session);
            Some(places.iter().filter(is_refused).cloned().collect())
        }
    }
}
