//! Values as JSON without loss, written as protobuf writes them: `{"number": 1.5}`,
//! `{"integer": "7"}`, `{"data": "AAE="}`, `{"map": {"entries": {…}}}`.

use crate::session::{ids::Key, value::Value};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value as Json, json};

/// Levels of nesting at most. The reader of JSON has its own bound, which is wider.
const NESTING: usize = 64;

/// A value.
pub fn write(value: &Value) -> Json {
    match value {
        Value::Null => json!({ "null": {} }),
        Value::Flag(flag) => json!({ "flag": flag }),
        Value::Integer(integer) => json!({ "integer": integer.to_string() }),
        Value::Number(of) => json!({ "number": number(*of) }),
        Value::Text(text) => json!({ "text": **text }),
        Value::Data(data) => json!({ "data": STANDARD.encode(data) }),
        Value::Numbers(items) => items_of("numbers", items.iter().map(|item| number(*item))),
        Value::Floats(items) => items_of("floats", items.iter().map(|item| float(*item))),
        Value::Integers(items) => {
            items_of("integers", items.iter().map(|item| Json::String(item.to_string())))
        }
        Value::List(items) => items_of("list", items.iter().map(write)),
        Value::Map(entries) => json!({ "map": { "entries": write_all(entries) } }),
    }
}

fn items_of(kind: &str, items: impl Iterator<Item = Json>) -> Json {
    json!({ kind: { "items": items.collect::<Vec<_>>() } })
}

/// Keyed values, as an object.
pub fn write_all(values: &[(Key, Value)]) -> Json {
    let one = |(key, value): &(Key, Value)| (key.to_string(), write(value));
    Json::Object(values.iter().map(one).collect())
}

/// A number; those that JSON does not have are names.
pub fn number(number: f64) -> Json {
    if number.is_finite() { json!(number) } else { Json::from(name_of(number)) }
}

/// The shortest number that is read as this float again.
fn float(float: f32) -> Json {
    if !float.is_finite() {
        return name_of(float.into()).into();
    }
    let short = float.to_string().parse().ok().filter(|short: &f64| *short as f32 == float);
    json!(short.unwrap_or(float.into()))
}

fn name_of(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// Reads a value; none = it is not written as one.
fn read(json: &Json, level: usize) -> Option<Value> {
    let object = json.as_object().filter(|object| object.len() == 1 && level <= NESTING)?;
    let (kind, json) = object.iter().next()?;
    Some(match kind.as_str() {
        "null" => json.as_object().filter(|it| it.is_empty()).map(|_| Value::Null)?,
        "flag" => Value::Flag(json.as_bool()?),
        "integer" => Value::Integer(integer(json)?),
        "number" => Value::Number(read_number(json)?),
        "text" => Value::Text(json.as_str()?.into()),
        "data" => Value::Data(STANDARD.decode(json.as_str()?).ok()?.into()),
        "numbers" => Value::Numbers(items(json, read_number)?.into()),
        "floats" => Value::Floats(items(json, read_float)?.into()),
        "integers" => Value::Integers(items(json, integer)?.into()),
        "list" => Value::List(items(json, |item| read(item, level + 1))?.into()),
        "map" => Value::Map(read_entries(json.get("entries")?, level)?.into()),
        _ => return None,
    })
}

fn items<T>(json: &Json, read: impl FnMut(&Json) -> Option<T>) -> Option<Vec<T>> {
    json.get("items")?.as_array()?.iter().map(read).collect()
}

/// Reads keyed values, in the order of their keys.
pub fn read_all(json: &Json) -> Option<Vec<(Key, Value)>> {
    read_entries(json, 0)
}

fn read_entries(json: &Json, level: usize) -> Option<Vec<(Key, Value)>> {
    let object: &Map<String, Json> = json.as_object()?;
    let one =
        |(key, value): (&String, &Json)| Some((Key::from(key.as_str()), read(value, level + 1)?));
    let mut entries = object.iter().map(one).collect::<Option<Vec<_>>>()?;
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Some(entries)
}

/// An integer, as text or as a number.
fn integer(json: &Json) -> Option<i64> {
    json.as_i64().or_else(|| json.as_str()?.parse().ok())
}

fn read_number(json: &Json) -> Option<f64> {
    json.as_f64().or_else(|| match json.as_str()? {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    })
}

fn read_float(json: &Json) -> Option<f32> {
    read_number(json).map(|number| number as f32)
}

/// A value as people read it, in one line.
pub fn told(value: &Value) -> String {
    let list = |items: Vec<String>| format!("[{}]", items.join(", "));
    match value {
        Value::Null => "null".to_owned(),
        Value::Flag(flag) => flag.to_string(),
        Value::Integer(integer) => integer.to_string(),
        Value::Number(number) => format!("{number:?}"),
        Value::Text(text) => format!("{text:?}"),
        Value::Data(data) => format!("data:{}", STANDARD.encode(data)),
        Value::Numbers(items) => list(items.iter().map(|item| format!("{item:?}")).collect()),
        Value::Floats(items) => list(items.iter().map(|item| format!("{item:?}")).collect()),
        Value::Integers(items) => list(items.iter().map(i64::to_string).collect()),
        Value::List(items) => list(items.iter().map(told).collect()),
        Value::Map(entries) => {
            let one = |(key, value): &(Key, Value)| format!("{key:?}: {}", told(value));
            format!("{{{}}}", entries.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Flag),
            any::<i64>().prop_map(Value::Integer),
            numbers().prop_map(Value::Number),
            any::<String>().prop_map(|text| Value::Text(text.into())),
            any::<Vec<u8>>().prop_map(|data| Value::Data(data.into())),
            prop::collection::vec(numbers(), 0..4).prop_map(|items| Value::Numbers(items.into())),
            prop::collection::vec(floats(), 0..4).prop_map(|items| Value::Floats(items.into())),
            any::<Vec<i64>>().prop_map(|items| Value::Integers(items.into())),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let map = prop::collection::btree_map(any::<String>(), inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(|items| Value::List(items.into())),
                map.prop_map(|map| {
                    Value::Map(map.into_iter().map(|(key, value)| (key.into(), value)).collect())
                }),
            ]
        })
    }

    fn numbers() -> impl Strategy<Value = f64> {
        any::<u64>().prop_map(f64::from_bits)
    }

    fn floats() -> impl Strategy<Value = f32> {
        any::<u32>().prop_map(f32::from_bits)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in values()) {
            let text = write(&value).to_string();
            let json = serde_json::from_str(&text).expect("JSON");
            prop_assert_eq!(read(&json, 1), Some(value));
        }
    }

    #[test]
    fn what_is_no_value_is_not_read() {
        for json in [
            json!(1),
            json!({}),
            json!({ "number": 1.0, "flag": true }),
            json!({ "number": "one" }),
            json!({ "integer": "1.5" }),
            json!({ "data": "?" }),
            json!({ "list": { "items": [1] } }),
            json!({ "map": {} }),
            json!({ "color": "red" }),
        ] {
            assert_eq!(read(&json, 1), None, "{json}");
        }
    }
}
