//! Choices among a few names, as numbers.

use super::{Unreadable, wire};
use crate::object_stream::Mode;
use crate::session::{
    member::Departure,
    role::Role,
    schema::Type,
    settings::{Durability, Kind, Pacing, Presence},
};

/// Two functions that lead from one to the other. A name that is added is dealt with here.
macro_rules! names {
    ($write:ident, $read:ident, $of:ident: $($name:ident)*) => {
        pub fn $write(of: $of) -> i32 {
            match of {
                $($of::$name => wire::$of::$name as i32,)*
            }
        }

        /// None = unspecified.
        pub fn $read(of: i32) -> Result<Option<$of>, Unreadable> {
            match wire::$of::try_from(of) {
                Ok(wire::$of::Unspecified) => Ok(None),
                $(Ok(wire::$of::$name) => Ok(Some($of::$name)),)*
                Err(_) => Err(Unreadable::Malformed(stringify!($of))),
            }
        }
    };
}

names!(write_kind, read_kind, Kind: Room Hosted Private);
names!(write_presence, read_presence, Presence: Tied Explicit);
names!(write_pacing, read_pacing, Pacing: Tick Eager);
names!(write_durability, read_durability, Durability: None Async Sync);
names!(write_role, read_role, Role: Spectator Member Moderator Admin Owner);
names!(write_departure, read_departure, Departure: Left Lost Kicked Banned);
names!(write_mode, read_mode, Mode: Latest AllLatest);
names!(
    write_type, read_type, Type:
    Any Integer Number Text Flag Data Numbers Floats Integers List Map
);
