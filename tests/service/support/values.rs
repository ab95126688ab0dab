//! Values as tests write them and as they read them.

use prost::Message;
use sessiond::proto::{self, PropsWrite, Value, value::Kind};
use std::collections::BTreeMap;

/// Props as a client shows them: by key, each value as a text that also tells its kind.
pub type Shown = BTreeMap<String, String>;

/// An integer.
pub fn int(value: i64) -> Value {
    Kind::Integer(value).into_value()
}

/// A double.
pub fn num(value: f64) -> Value {
    Kind::Number(value).into_value()
}

/// A text.
pub fn text(value: impl Into<String>) -> Value {
    Kind::Text(value.into()).into_value()
}

/// A packed array of floats.
pub fn floats(items: &[f32]) -> Value {
    Kind::Floats(proto::Floats { items: items.to_vec() }).into_value()
}

/// A boolean.
pub fn flag(value: bool) -> Value {
    Kind::Flag(value).into_value()
}

/// Null.
pub fn null() -> Value {
    Kind::Null(proto::NullValue {}).into_value()
}

/// Bytes.
pub fn data(bytes: usize) -> Value {
    Kind::Data(vec![7; bytes]).into_value()
}

/// A list.
pub fn list(items: Vec<Value>) -> Value {
    Kind::List(proto::ListValue { items }).into_value()
}

/// A map.
pub fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Kind::Map(proto::MapValue { entries: props(entries) }).into_value()
}

/// A value without a kind.
pub fn no_kind() -> Value {
    Value { kind: None }
}

/// A list in a list in a list, so many levels in all.
pub fn nested(levels: usize) -> Value {
    (1..levels).fold(int(1), |inner, _| list(vec![inner]))
}

trait IntoValue {
    fn into_value(self) -> Value;
}

impl IntoValue for Kind {
    fn into_value(self) -> Value {
        Value { kind: Some(self) }
    }
}

/// Values by key, as requests take them.
pub fn props<const N: usize>(set: [(&str, Value); N]) -> BTreeMap<String, Value> {
    set.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Values by key, as a client shows them.
pub fn shown<const N: usize>(set: [(&str, Value); N]) -> Shown {
    set.into_iter().map(|(key, value)| (key.to_owned(), show(&value))).collect()
}

/// A write that sets keys.
pub fn write<const N: usize>(set: [(&str, Value); N]) -> PropsWrite {
    PropsWrite { set: props(set), ..Default::default() }
}

/// A write that removes keys.
pub fn removal(keys: &[&str]) -> PropsWrite {
    PropsWrite { remove: keys.iter().map(ToString::to_string).collect(), ..Default::default() }
}

/// Where a write goes.
pub trait InSession {
    /// To one session only.
    fn in_session(self, session: &str) -> Self;
}

impl InSession for PropsWrite {
    fn in_session(mut self, session: &str) -> Self {
        self.session_ids.push(session.to_owned());
        self
    }
}

/// A value as a text that is equal for equal values of the same kind, NaN included.
pub fn show(value: &Value) -> String {
    match value.kind.as_ref().expect("a value that is sent has a kind") {
        Kind::Null(_) => "null".to_owned(),
        Kind::Flag(flag) => flag.to_string(),
        Kind::Integer(integer) => format!("{integer}i"),
        Kind::Number(number) => format!("{number:?}"),
        Kind::Text(text) => format!("{text:?}"),
        Kind::Data(data) => format!("data{data:?}"),
        Kind::Numbers(numbers) => format!("numbers{:?}", numbers.items),
        Kind::Floats(floats) => format!("floats{:?}", floats.items),
        Kind::Integers(integers) => format!("integers{:?}", integers.items),
        Kind::List(list) => format!("{:?}", list.items.iter().map(show).collect::<Vec<_>>()),
        Kind::Map(map) => format!("{:?}", show_all(&map.entries)),
    }
}

fn show_all(values: &BTreeMap<String, Value>) -> Shown {
    values.iter().map(|(key, value)| (key.clone(), show(value))).collect()
}

/// A named value, read as its bytes, which are also those of its value.
pub fn show_named(named: &proto::NamedValue) -> (String, String) {
    let value = Value::decode(&*named.encode_to_vec()).expect("they parse as a value");
    (named.name.clone(), show(&value))
}
