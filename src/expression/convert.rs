//! The values of the domain as CEL has them, and back.

use crate::session::{ids::Key, value::Value};
use cel::objects::Key as CelKey;
use std::{collections::HashMap, sync::Arc};

/// Levels of nesting of what comes out.
const LEVELS: usize = 32;

/// What it costs to mention a value: an element weighs 1, and so do 64 bytes of text or data.
pub fn weight(value: &Value) -> usize {
    1 + match value {
        Value::Null | Value::Flag(_) | Value::Integer(_) | Value::Number(_) => 0,
        Value::Text(text) => text.len() / 64,
        Value::Data(data) => data.len() / 64,
        Value::Numbers(items) => items.len(),
        Value::Floats(items) => items.len(),
        Value::Integers(items) => items.len(),
        Value::List(items) => items.iter().map(weight).sum(),
        Value::Map(entries) => {
            entries.iter().map(|(key, value)| 1 + key.len() / 64 + weight(value)).sum()
        }
    }
}

/// A value for an expression.
pub fn to_cel(value: &Value) -> cel::Value {
    fn list(items: impl Iterator<Item = cel::Value>) -> cel::Value {
        cel::Value::List(Arc::new(items.collect()))
    }
    match value {
        Value::Null => cel::Value::Null,
        Value::Flag(flag) => cel::Value::Bool(*flag),
        Value::Integer(integer) => cel::Value::Int(*integer),
        Value::Number(number) => cel::Value::Float(*number),
        Value::Text(text) => cel::Value::String(Arc::new(text.to_string())),
        Value::Data(data) => cel::Value::Bytes(Arc::new(data.to_vec())),
        Value::Numbers(items) => list(items.iter().map(|item| cel::Value::Float(*item))),
        Value::Floats(items) => list(items.iter().map(|item| cel::Value::Float((*item).into()))),
        Value::Integers(items) => list(items.iter().map(|item| cel::Value::Int(*item))),
        Value::List(items) => list(items.iter().map(to_cel)),
        Value::Map(entries) => {
            let entry = |(key, value): &(Key, Value)| {
                (CelKey::String(Arc::new(key.to_string())), to_cel(value))
            };
            let map: HashMap<_, _> = entries.iter().map(entry).collect();
            cel::Value::Map(cel::objects::Map { map: Arc::new(map) })
        }
    }
}

/// What comes out of an expression; says why it is no value.
pub fn from_cel(value: &cel::Value) -> Result<Value, String> {
    from_cel_at(value, 1)
}

fn from_cel_at(value: &cel::Value, level: usize) -> Result<Value, String> {
    if level > LEVELS {
        return Err(format!("the result is nested deeper than {LEVELS}"));
    }
    Ok(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(flag) => Value::Flag(*flag),
        cel::Value::Int(integer) => Value::Integer(*integer),
        cel::Value::UInt(integer) => i64::try_from(*integer)
            .map(Value::Integer)
            .map_err(|_| "the result is no 64-bit integer".to_owned())?,
        cel::Value::Float(number) => Value::Number(*number),
        cel::Value::String(text) => Value::Text(text.as_str().into()),
        cel::Value::Bytes(data) => Value::Data(data.as_slice().into()),
        cel::Value::List(items) => {
            let items: Result<Vec<_>, _> =
                items.iter().map(|item| from_cel_at(item, level + 1)).collect();
            Value::List(items?.into())
        }
        cel::Value::Map(map) => {
            let mut entries = Vec::with_capacity(map.map.len());
            for (key, item) in map.map.iter() {
                let CelKey::String(key) = key else {
                    return Err("the result has a map whose keys are not text".to_owned());
                };
                entries.push((Key::from(key.as_str()), from_cel_at(item, level + 1)?));
            }
            entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            Value::Map(entries.into())
        }
        _ => return Err("the result is no value".to_owned()),
    })
}
