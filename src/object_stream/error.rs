//! Why a call of object streams is refused.

use crate::session::error::Violation;

/// Why something was refused. What is refused has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The request is wrong; every fault is named.
    Invalid(Vec<Violation>),
    /// No such object stream, or none that the caller may read.
    NotFound,
    /// The name is taken by an object stream that the caller may not read.
    NameTaken,
    /// Only the creator of the object stream or function, or the app itself, may do it.
    NeedsCreator,
    /// No stream function of that name.
    FunctionNotFound,
    /// The expression of a stream function is refused.
    BadExpression(String),
    /// A bound was met.
    LimitReached {
        /// Which one, as the configuration calls it.
        limit: &'static str,
        /// Its value.
        most: usize,
    },
}
