//! Protobuf on the wire, read and written without a codec: the numbers of the fields that the load
//! generator knows, and how to find them.

use super::Result;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

/// The field number of `seq`, in every message up.
pub const SEQ: u32 = 1;

/// Field numbers of the entry of a map.
pub mod map_entry {
    pub const KEY: u32 = 1;
    pub const VALUE: u32 = 2;
}

/// Field numbers of `StreamUserPropsResponse`.
pub mod user_props {
    pub const UPDATES: u32 = 1;
    pub const REFUSALS: u32 = 3;
}

/// Field numbers of `SubscribeToSessionResponse`.
pub mod subscription {
    pub const UPDATE: u32 = 1;
}

/// Field numbers of `SessionDelivery`.
pub mod delivery {
    pub const UPDATE: u32 = 1;
    pub const HANDLE: u32 = 2;
}

/// Field numbers of `SessionUpdate`.
pub mod session_update {
    pub const FROM_REVISION: u32 = 2;
    pub const TO_REVISION: u32 = 3;
    pub const MORE: u32 = 4;
    pub const SNAPSHOT: u32 = 5;
    pub const CHANGES: u32 = 6;
    pub const ENDED: u32 = 9;
}

/// Field numbers of `Snapshot`.
pub mod snapshot {
    pub const STATE: u32 = 5;
}

/// Field numbers of `Changes`.
pub mod changes {
    pub const MEMBERS: u32 = 6;
    pub const DICTIONARY: u32 = 8;
    pub const BLOCKS: u32 = 9;
}

/// Field numbers of `MemberChange`.
pub mod member {
    pub const USER_ID: u32 = 1;
    pub const PROPS: u32 = 2;
    pub const JOIN_ORDER: u32 = 7;
}

/// Field numbers of `NamedValue`.
pub mod named_value {
    pub const NUMBER: u32 = 4;
    pub const FLOATS: u32 = 8;
    pub const NAME: u32 = 15;
}

/// Field numbers of `Block`.
pub mod block {
    pub const RUNS: u32 = 1;
    pub const USERS: u32 = 2;
    pub const COLUMNS: u32 = 3;
}

/// Field numbers of `Column`.
pub mod column {
    pub const PROP: u32 = 1;
    pub const NUMBERS: u32 = 2;
    pub const FLOATS: u32 = 3;
    pub const INTEGERS: u32 = 4;
    pub const TEXTS: u32 = 6;
    pub const VALUES: u32 = 7;
}

/// Appends a field that has a length.
pub fn put_bytes(field: u32, bytes: &[u8], message: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, message);
    encode_varint(bytes.len() as u64, message);
    message.extend(bytes);
}

/// Appends a field that is an unsigned number.
pub fn put_number(field: u32, number: u64, message: &mut Vec<u8>) {
    encode_key(field, WireType::Varint, message);
    encode_varint(number, message);
}

/// A field of a message.
#[derive(Debug, Clone, Copy)]
pub enum Field<'a> {
    /// Its number and what has a length.
    Bytes(u32, &'a [u8]),
    /// Its number and value.
    Varint(u32, u64),
    /// Its number and eight bytes.
    Fixed64(u32, &'a [u8]),
}

/// Calls `each` with every field, except for those of four bytes.
pub fn for_each<'a>(
    mut message: &'a [u8],
    mut each: impl FnMut(Field<'a>) -> Result<()>,
) -> Result<()> {
    let cut = || "a message is cut off";
    while !message.is_empty() {
        let (field, wire_type) = decode_key(&mut message)?;
        let length = match wire_type {
            WireType::Varint => {
                each(Field::Varint(field, decode_varint(&mut message)?))?;
                continue;
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut message)?)?,
            WireType::StartGroup | WireType::EndGroup => return Err("a group".into()),
        };
        let (value, rest) = message.split_at_checked(length).ok_or_else(cut)?;
        message = rest;
        match wire_type {
            WireType::LengthDelimited => each(Field::Bytes(field, value))?,
            WireType::SixtyFourBit => each(Field::Fixed64(field, value))?,
            _ => {}
        }
    }
    Ok(())
}

/// Calls `each` with every field that has a length.
pub fn for_each_bytes<'a>(
    message: &'a [u8],
    mut each: impl FnMut(u32, &'a [u8]) -> Result<()>,
) -> Result<()> {
    for_each(message, |field| match field {
        Field::Bytes(number, value) => each(number, value),
        _ => Ok(()),
    })
}

/// Calls `each` with every run of users of a block: from where, and how many.
pub fn for_each_run(block: &[u8], mut each: impl FnMut(u64, u64)) -> Result<()> {
    for_each_bytes(block, |field, mut value| {
        let mut next = 0_u64;
        while !value.is_empty() {
            match field {
                block::RUNS => {
                    let from = next.saturating_add(decode_varint(&mut value)?);
                    let length = decode_varint(&mut value)?;
                    each(from, length);
                    next = from.saturating_add(length);
                }
                block::USERS => each(decode_varint(&mut value)?, 1),
                _ => break,
            }
        }
        Ok(())
    })
}
