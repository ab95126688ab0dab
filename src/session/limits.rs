//! Every bound of the core, with its unit. The configuration fills them in.

/// A moment or a span in microseconds; moments count from 1970.
pub type Micros = u64;

/// One second.
pub const SECOND: Micros = 1_000_000;

/// How many changes about users that no frame tells are noted one by one.
pub const NOTES: usize = 256;

/// What a session may hold.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a key of props, data, metadata and maps.
    pub key_bytes: usize,
    /// Bytes of one encoded value.
    pub value_bytes: usize,
    /// Levels of nesting of a value; the outermost counts as 1.
    pub nesting: usize,
    /// Keys of one user, on the user and in each session, and keys of each part of session data.
    pub props_per_user: usize,
    /// Members of one session, spectators not counted; also the bound of spectators.
    pub members: usize,
    /// How many removals and departures a session remembers.
    pub removals: usize,
    /// For how long it remembers them.
    pub removal_memory: Micros,
    /// How many changes about users that no frame tells are noted one by one; a record of more tells
    /// of all users. [`NOTES`] but in tests.
    pub notes: usize,
    /// How long a tied member may be without any stream after joining.
    pub join_timeout: Micros,
    /// Updates of the log that ALL delivery is made from.
    pub log_updates: usize,
    /// Bytes of that log.
    pub log_bytes: usize,
    /// How long the log stays when nobody subscribes to all any more.
    pub log_memory: Micros,
}

/// How long a tied member whose stream the server ended (age, draining, slow, token) is shown as
/// disconnected at least.
pub const SERVER_END_GRACE: Micros = 30 * SECOND;

/// How long a tied member that is lost stays where the settings do not say so.
pub const REJOIN_GRACE: Micros = 10 * SECOND;

/// The least life of a session that nobody has joined since it was opened.
pub const UNUSED_TTL: Micros = 60 * SECOND;

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_bytes: 128,
            value_bytes: 16 * 1024,
            nesting: 8,
            props_per_user: 256,
            members: 10_000,
            removals: 1024,
            removal_memory: 300 * SECOND,
            notes: NOTES,
            join_timeout: 15 * SECOND,
            log_updates: 4096,
            log_bytes: 1024 * 1024,
            log_memory: 60 * SECOND,
        }
    }
}
