//! Names that are valid once built: apps, sessions, users and keys.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

/// The most bytes that an app, session or user id may have.
pub const ID_BYTES: usize = 128;

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// It is empty.
    #[error("must not be empty")]
    Empty,
    /// It has more than [`ID_BYTES`] bytes, or for keys more than the configured limit.
    #[error("has {bytes} bytes, more than {most}")]
    TooLong {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        most: usize,
    },
    /// It holds a control character.
    #[error("must not contain control characters")]
    Control,
}

/// Checks a text against the rules of ids: 1 to `most` bytes, no control characters.
pub fn check(text: &str, most: usize) -> Result<(), BadId> {
    if text.is_empty() {
        Err(BadId::Empty)
    } else if text.len() > most {
        Err(BadId::TooLong { bytes: text.len(), most })
    } else if text.chars().any(char::is_control) {
        Err(BadId::Control)
    } else {
        Ok(())
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// An id of 1 to [`ID_BYTES`] bytes without control characters.
            pub fn new(text: &str) -> Result<Self, BadId> {
                check(text, ID_BYTES)?;
                Ok(Self(text.into()))
            }
        }

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A namespace of sessions and users.
    AppId
);
id!(
    /// A session within an app.
    SessionId
);
id!(
    /// A user within an app.
    UserId
);

/// The name of a prop or of a piece of session data; checked against the configured limit at the
/// door.
pub type Key = Arc<str>;
