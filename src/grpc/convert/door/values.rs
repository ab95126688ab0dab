//! Keys and values.

use super::{Door, path};
use crate::{
    object_stream::{Func, Mode},
    proto,
    session::{
        ids::{self, Key},
        settings::Keys,
        value::Value,
    },
};
use prost::Message;
use std::{collections::BTreeMap, sync::Arc};

impl Door<'_> {
    /// Named values.
    pub fn values(
        &mut self,
        field: &str,
        values: BTreeMap<String, proto::Value>,
    ) -> Vec<(Key, Value)> {
        let mut out = Vec::with_capacity(values.len());
        for (key, value) in values {
            // The path of a value is needed only for what is wrong with it.
            match (ids::check(&key, self.limits.key_bytes), quick_value(&value)) {
                (Ok(()), Some(value)) => out.push((Key::from(key), value)),
                _ => {
                    let field = path(field, &key);
                    out.extend(self.key(&field, &key).zip(self.value(&field, value, 1)));
                }
            }
        }
        out
    }

    /// Keys and values of an object stream, whose keys may be nested.
    pub fn nested_values(
        &mut self,
        field: &str,
        values: BTreeMap<String, proto::Value>,
    ) -> Vec<(Key, Value)> {
        let mut out = Vec::with_capacity(values.len());
        for (key, value) in values {
            let field = path(field, &key);
            out.extend(self.nested_key(&field, &key).zip(self.value(&field, value, 1)));
        }
        out
    }

    /// A key of an object stream: what follows the first dot is a key in the map before it.
    pub fn nested_key(&mut self, field: &str, key: &str) -> Option<Key> {
        match key.split_once('.') {
            None => self.key(field, key),
            Some((outer, inner)) => {
                self.key(field, outer).zip(self.key(field, inner)).map(|_| key.into())
            }
        }
    }

    /// How a key of an object stream is read.
    pub fn func(&mut self, field: &str, func: Option<proto::StreamFunc>) -> Func {
        use proto::stream_func::Func as Wire;
        let default = Func::Mode(Mode::AllLatest);
        match func.and_then(|func| func.func) {
            None => default,
            Some(Wire::Mode(mode)) => match proto::StreamMode::try_from(mode) {
                Ok(proto::StreamMode::Latest) => Func::Mode(Mode::Latest),
                Ok(proto::StreamMode::Unspecified | proto::StreamMode::AllLatest) => default,
                Err(_) => {
                    self.fault(format!("{field}.mode"), format!("{mode} is no mode"));
                    default
                }
            },
            Some(Wire::Name(name)) => {
                self.named(&format!("{field}.name"), &name).map_or(default, Func::Named)
            }
        }
    }

    /// The name of a prop.
    pub fn key(&mut self, field: &str, key: &str) -> Option<Key> {
        match ids::check(key, self.limits.key_bytes) {
            Ok(()) => Some(key.into()),
            Err(bad) => {
                self.fault(field, format!("the key {bad}"));
                None
            }
        }
    }

    /// A value at a level of nesting, of which the outermost is 1.
    pub fn value(&mut self, field: &str, value: proto::Value, level: usize) -> Option<Value> {
        use proto::value::Kind as Wire;
        let size = value.encoded_len();
        if level == 1 && size > self.limits.value_bytes {
            let most = self.limits.value_bytes;
            self.fault(field, format!("has {size} bytes, more than {most}"));
            return None;
        }
        if level > self.limits.nesting {
            self.fault(field, format!("is nested deeper than {}", self.limits.nesting));
            return None;
        }
        let Some(kind) = value.kind else {
            self.fault(field, "has no kind: set one of null, flag, integer, number, text, data, numbers, floats, integers, list and map");
            return None;
        };
        Some(match kind {
            Wire::Null(proto::NullValue {}) => Value::Null,
            Wire::Flag(flag) => Value::Flag(flag),
            Wire::Integer(integer) => Value::Integer(integer),
            Wire::Number(number) => Value::Number(number),
            Wire::Text(text) => Value::Text(text.into()),
            Wire::Data(data) => Value::Data(data.into()),
            Wire::Numbers(numbers) => Value::Numbers(numbers.items.into()),
            Wire::Floats(floats) => Value::Floats(floats.items.into()),
            Wire::Integers(integers) => Value::Integers(integers.items.into()),
            Wire::List(list) => {
                let count = list.items.len();
                let mut items = Vec::with_capacity(count);
                for (at, item) in list.items.into_iter().enumerate() {
                    items.extend(self.value(&format!("{field}[{at}]"), item, level + 1));
                }
                (items.len() == count).then(|| Value::List(items.into()))?
            }
            Wire::Map(map) => {
                let count = map.entries.len();
                let mut entries = Vec::with_capacity(count);
                for (key, item) in map.entries {
                    let field = path(field, &key);
                    let key = self.key(&field, &key);
                    let item = self.value(&field, item, level + 1);
                    entries.extend(key.zip(item));
                }
                if entries.len() < count {
                    return None;
                }
                entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                Value::Map(entries.into())
            }
        })
    }

    /// A selection of keys.
    pub fn keys(&mut self, field: &str, keys: &[String]) -> Keys {
        let most = self.limits.props_per_user;
        if keys.len() > most {
            self.fault(field, format!("has more than {most} keys"));
        }
        let keys = keys.iter().enumerate();
        Arc::new(keys.filter_map(|(at, key)| self.key(&format!("{field}[{at}]"), key)).collect())
    }
}

/// A value that cannot be at fault.
fn quick_value(value: &proto::Value) -> Option<Value> {
    use proto::value::Kind as Wire;
    match value.kind.as_ref()? {
        Wire::Null(_) => Some(Value::Null),
        Wire::Flag(flag) => Some(Value::Flag(*flag)),
        Wire::Integer(integer) => Some(Value::Integer(*integer)),
        Wire::Number(number) => Some(Value::Number(*number)),
        _ => None,
    }
}

/// A plain JSON value; its numbers are doubles.
pub(super) fn plain_value(value: prost_types::Value) -> proto::Value {
    use prost_types::value::Kind as Plain;
    use proto::value::Kind as Wire;
    let kind = value.kind.map(|kind| match kind {
        Plain::NullValue(_) => Wire::Null(proto::NullValue {}),
        Plain::NumberValue(number) => Wire::Number(number),
        Plain::StringValue(text) => Wire::Text(text),
        Plain::BoolValue(flag) => Wire::Flag(flag),
        Plain::StructValue(map) => {
            let entries = map.fields.into_iter().map(|(key, value)| (key, plain_value(value)));
            Wire::Map(proto::MapValue { entries: entries.collect() })
        }
        Plain::ListValue(list) => {
            let items = list.values.into_iter().map(plain_value).collect();
            Wire::List(proto::ListValue { items })
        }
    });
    proto::Value { kind }
}
