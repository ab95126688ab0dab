//! What is known here of a session's password: a hash that somebody else makes and compares, because
//! that takes long.

use std::{fmt, sync::Arc};

/// What a password was hashed to: opaque, and equal only to itself, as each has a salt of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Arc<[u8]>);

impl PasswordHash {
    /// A hash that was made.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// What its maker wrote down.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
