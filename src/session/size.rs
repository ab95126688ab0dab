//! How many bytes values have on the wire, for the bounds of what is held and sent.

use super::{ids::Key, value::Value};

/// Bytes of a value as a message, its own head not counted.
pub fn of(value: &Value) -> usize {
    match value {
        Value::Null => 2,
        Value::Flag(_) => 2,
        Value::Integer(integer) => 1 + integer_bytes(*integer),
        Value::Number(_) => 9,
        Value::Text(text) => with_head(text.len()),
        Value::Data(data) => with_head(data.len()),
        Value::Numbers(items) => with_head(packed(8 * items.len())),
        Value::Floats(items) => with_head(packed(4 * items.len())),
        Value::Integers(items) => with_head(packed(of_integers(items))),
        Value::List(items) => with_head(of_items(items)),
        Value::Map(entries) => with_head(of_entries(entries)),
    }
}

/// Bytes of the items of a list, with their heads.
pub fn of_items(items: &[Value]) -> usize {
    items.iter().map(|item| with_head(of(item))).sum()
}

/// Bytes of the entries of a map, with their heads.
pub fn of_entries(entries: &[(Key, Value)]) -> usize {
    entries.iter().map(|(key, value)| with_head(of_entry(key, value))).sum()
}

/// Bytes of one entry of a map, its own head not counted.
pub fn of_entry(key: &str, value: &Value) -> usize {
    with_head(key.len()) + with_head(of(value))
}

/// Bytes of packed integers, without a head.
pub fn of_integers(items: &[i64]) -> usize {
    items.iter().map(|item| integer_bytes(*item)).sum()
}

/// Bytes of a zigzag varint.
pub fn integer_bytes(integer: i64) -> usize {
    varint_bytes(((integer << 1) ^ (integer >> 63)) as u64)
}

/// Bytes of a field with its tag and length.
pub fn with_head(content: usize) -> usize {
    1 + varint_bytes(content as u64) + content
}

/// Bytes of a packed field; none if it is empty.
fn packed(content: usize) -> usize {
    if content == 0 { 0 } else { with_head(content) }
}

fn varint_bytes(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}
