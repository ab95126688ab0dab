//! The fields of a message as they come, before anything is made of them.

use prost::encoding::{WireType, decode_key, decode_varint};

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// A number of any length.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32,
    /// A text, bytes, a message, or many numbers.
    Bytes(&'a [u8]),
    /// A group begins or ends, which no message of ours has.
    Group,
}

/// The next field with its number; none if there is none that is whole.
pub fn field<'a>(rest: &mut &'a [u8]) -> Option<(u32, Content<'a>)> {
    let (tag, wire) = decode_key(rest).ok()?;
    let content = match wire {
        WireType::Varint => Content::Varint(decode_varint(rest).ok()?),
        WireType::SixtyFourBit => {
            let (bits, after) = rest.split_first_chunk::<8>()?;
            *rest = after;
            Content::Fixed64(u64::from_le_bytes(*bits))
        }
        WireType::ThirtyTwoBit => {
            *rest = rest.split_first_chunk::<4>()?.1;
            Content::Fixed32
        }
        WireType::LengthDelimited => {
            let len = usize::try_from(decode_varint(rest).ok()?).ok()?;
            let (bytes, after) = rest.split_at_checked(len)?;
            *rest = after;
            Content::Bytes(bytes)
        }
        WireType::StartGroup | WireType::EndGroup => Content::Group,
    };
    Some((tag, content))
}
