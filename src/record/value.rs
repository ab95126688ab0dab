//! Values and keyed values, both ways.

use super::{Unreadable, wire};
use crate::session::{ids::Key, value::Value};
use std::sync::Arc;
use wire::value::Kind;

pub fn write(value: &Value) -> wire::Value {
    let kind = match value {
        Value::Null => Kind::Null(wire::Null {}),
        Value::Flag(flag) => Kind::Flag(*flag),
        Value::Integer(integer) => Kind::Integer(*integer),
        Value::Number(number) => Kind::Number(*number),
        Value::Text(text) => Kind::Text(text.as_ref().into()),
        Value::Data(data) => Kind::Data(data.to_vec()),
        Value::Numbers(items) => Kind::Numbers(wire::Numbers { items: items.to_vec() }),
        Value::Floats(items) => Kind::Floats(wire::Floats { items: items.to_vec() }),
        Value::Integers(items) => Kind::Integers(wire::Integers { items: items.to_vec() }),
        Value::List(items) => Kind::List(wire::List { items: items.iter().map(write).collect() }),
        Value::Map(entries) => Kind::Map(wire::Map {
            keys: entries.iter().map(|(key, _)| key.as_ref().into()).collect(),
            values: entries.iter().map(|(_, value)| write(value)).collect(),
        }),
    };
    wire::Value { kind: Some(kind) }
}

pub fn read(value: wire::Value) -> Result<Value, Unreadable> {
    let wire::Value { kind } = value;
    Ok(match kind.ok_or(Unreadable::Malformed("a value of no kind"))? {
        Kind::Null(wire::Null {}) => Value::Null,
        Kind::Flag(flag) => Value::Flag(flag),
        Kind::Integer(integer) => Value::Integer(integer),
        Kind::Number(number) => Value::Number(number),
        Kind::Text(text) => Value::Text(text.into()),
        Kind::Data(data) => Value::Data(data.into()),
        Kind::Numbers(wire::Numbers { items }) => Value::Numbers(items.into()),
        Kind::Floats(wire::Floats { items }) => Value::Floats(items.into()),
        Kind::Integers(wire::Integers { items }) => Value::Integers(items.into()),
        Kind::List(wire::List { items }) => {
            Value::List(items.into_iter().map(read).collect::<Result<_, _>>()?)
        }
        Kind::Map(wire::Map { keys, values }) => {
            let is_ordered = keys.is_sorted_by(|a, b| a < b);
            if keys.len() != values.len() || !is_ordered {
                return Err(Unreadable::Malformed("a map that is none"));
            }
            let entry = |(key, value): (String, _)| Ok((Key::from(key), read(value)?));
            let entries: Result<Arc<[_]>, _> = keys.into_iter().zip(values).map(entry).collect();
            Value::Map(entries?)
        }
    })
}

pub fn write_all(props: &[(Key, Value)]) -> Vec<wire::Property> {
    let property = |(key, value): &(Key, Value)| wire::Property {
        key: key.as_ref().into(),
        value: Some(write(value)),
    };
    props.iter().map(property).collect()
}

pub fn read_all<T: FromIterator<(Key, Value)>>(
    props: Vec<wire::Property>,
) -> Result<T, Unreadable> {
    let property = |wire::Property { key, value }| {
        let value = value.ok_or(Unreadable::Malformed("a key without a value"))?;
        Ok((Key::from(key), read(value)?))
    };
    props.into_iter().map(property).collect()
}
