//! Values as bytes.

use super::{bytes_len, field, put_bytes, put_head, put_varint};
use crate::session::{ids::Key, value::Value};
use bytes::BufMut;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The length of a value's content, without a head.
pub fn value_len(value: &Value) -> usize {
    let packed = |len: usize| if len == 0 { 0 } else { bytes_len(1, len) };
    match value {
        Value::Null => 2,
        Value::Flag(_) => 2,
        Value::Integer(value) => 1 + encoded_len_varint(zigzag(*value)),
        Value::Number(_) => 9,
        Value::Text(text) => bytes_len(field::value::TEXT, text.len()),
        Value::Data(data) => bytes_len(field::value::DATA, data.len()),
        Value::Numbers(items) => bytes_len(field::value::NUMBERS, packed(items.len() * 8)),
        Value::Floats(items) => bytes_len(field::value::FLOATS, packed(items.len() * 4)),
        Value::Integers(items) => bytes_len(field::value::INTEGERS, packed(integers_len(items))),
        Value::List(items) => bytes_len(field::value::LIST, list_len(items)),
        Value::Map(entries) => bytes_len(field::value::MAP, map_len(entries)),
    }
}

fn integers_len(items: &[i64]) -> usize {
    items.iter().map(|item| encoded_len_varint(zigzag(*item))).sum()
}

fn list_len(items: &[Value]) -> usize {
    items.iter().map(|item| bytes_len(1, value_len(item))).sum()
}

fn map_len(entries: &[(Key, Value)]) -> usize {
    entries.iter().map(|(key, value)| bytes_len(1, entry_len(key, value))).sum()
}

fn entry_len(key: &str, value: &Value) -> usize {
    bytes_len(1, key.len()) + bytes_len(2, value_len(value))
}

/// The content itself.
pub fn put_value(buf: &mut Vec<u8>, value: &Value) {
    use field::value as kind;
    match value {
        Value::Null => put_head(buf, kind::NULL, 0),
        Value::Flag(flag) => put_varint(buf, kind::FLAG, u64::from(*flag)),
        Value::Integer(integer) => put_varint(buf, kind::INTEGER, zigzag(*integer)),
        Value::Number(number) => {
            encode_key(kind::NUMBER, WireType::SixtyFourBit, buf);
            buf.put_f64_le(*number);
        }
        Value::Text(text) => put_bytes(buf, kind::TEXT, text.as_bytes()),
        Value::Data(data) => put_bytes(buf, kind::DATA, data),
        Value::Numbers(items) => put_packed(buf, kind::NUMBERS, items.len() * 8, |buf| {
            items.iter().for_each(|item| buf.put_f64_le(*item));
        }),
        Value::Floats(items) => put_packed(buf, kind::FLOATS, items.len() * 4, |buf| {
            items.iter().for_each(|item| buf.put_f32_le(*item));
        }),
        Value::Integers(items) => put_packed(buf, kind::INTEGERS, integers_len(items), |buf| {
            items.iter().for_each(|item| encode_varint(zigzag(*item), buf));
        }),
        Value::List(items) => {
            put_head(buf, kind::LIST, list_len(items));
            for item in &**items {
                put_head(buf, 1, value_len(item));
                put_value(buf, item);
            }
        }
        Value::Map(entries) => {
            put_head(buf, kind::MAP, map_len(entries));
            for (key, value) in &**entries {
                put_head(buf, 1, entry_len(key, value));
                put_bytes(buf, 1, key.as_bytes());
                put_head(buf, 2, value_len(value));
                put_value(buf, value);
            }
        }
    }
}

/// A field that holds a message whose only field is a packed array.
fn put_packed(buf: &mut Vec<u8>, tag: u32, len: usize, put: impl FnOnce(&mut Vec<u8>)) {
    put_head(buf, tag, if len == 0 { 0 } else { bytes_len(1, len) });
    if len > 0 {
        put_head(buf, 1, len);
        put(buf);
    }
}
