//! What the last bytes are for that a log may take.

/// Space that batches leave, in bytes: snapshots and trims make space again, and what was accepted
/// before anybody knew how little there is has a place.
pub const RESERVE: u64 = 64 << 20;

/// Space that batches leave which take of the reserve, in bytes.
pub const FLOOR: u64 = 8 << 20;

/// Space that snapshots leave to trims, in bytes.
pub const MARGIN: u64 = 4 << 20;
