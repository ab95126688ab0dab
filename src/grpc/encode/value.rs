//! Values as bytes.

use super::{bytes_len, field, put_bytes, put_head, put_varint};
use crate::session::{size, value::Value};
use bytes::BufMut;
use prost::encoding::{WireType, encode_key, encode_varint};

/// The content of a value, without a head.
pub fn put_value(buf: &mut Vec<u8>, value: &Value) {
    use field::{
        list_value::ITEMS,
        map_value::{ENTRIES, entries_entry},
        value as kind,
    };
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
        Value::Integers(items) => {
            put_packed(buf, kind::INTEGERS, size::of_integers(items), |buf| {
                items.iter().for_each(|item| encode_varint(zigzag(*item), buf));
            })
        }
        Value::List(items) => {
            put_head(buf, kind::LIST, size::of_items(items));
            for item in &**items {
                put_head(buf, ITEMS, size::of(item));
                put_value(buf, item);
            }
        }
        Value::Map(entries) => {
            put_head(buf, kind::MAP, size::of_entries(entries));
            for (key, value) in &**entries {
                put_head(buf, ENTRIES, size::of_entry(key, value));
                put_bytes(buf, entries_entry::KEY, key.as_bytes());
                put_head(buf, entries_entry::VALUE, size::of(value));
                put_value(buf, value);
            }
        }
    }
}

/// As integers are on the wire.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// A field that holds a message whose only field is a packed array.
fn put_packed(buf: &mut Vec<u8>, tag: u32, len: usize, put: impl FnOnce(&mut Vec<u8>)) {
    use field::numbers::ITEMS;
    put_head(buf, tag, if len == 0 { 0 } else { bytes_len(ITEMS, len) });
    if len > 0 {
        put_head(buf, ITEMS, len);
        put(buf);
    }
}
