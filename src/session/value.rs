//! What a prop or a piece of session data holds.

use super::ids::Key;
use std::sync::Arc;

/// One typed value. Cloning is cheap: everything larger than a word is shared.
///
/// Equality is what "no change" means: kinds differ, NaN equals NaN, and -0.0 is not 0.0.
#[derive(Debug, Clone)]
pub enum Value {
    /// A value of its own; it removes nothing.
    Null,
    /// A boolean.
    Flag(bool),
    /// A 64-bit integer.
    Integer(i64),
    /// A double, NaN and infinities included.
    Number(f64),
    /// Text.
    Text(Arc<str>),
    /// Bytes.
    Data(Arc<[u8]>),
    /// A packed array of doubles.
    Numbers(Arc<[f64]>),
    /// A packed array of 32-bit floats.
    Floats(Arc<[f32]>),
    /// A packed array of integers.
    Integers(Arc<[i64]>),
    /// A list.
    List(Arc<[Value]>),
    /// A map, ordered by key, each key once.
    Map(Arc<[(Key, Value)]>),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        use Value::*;
        match (self, other) {
            (Null, Null) => true,
            (Flag(a), Flag(b)) => a == b,
            (Integer(a), Integer(b)) => a == b,
            (Number(a), Number(b)) => same_number(*a, *b),
            (Text(a), Text(b)) => a == b,
            (Data(a), Data(b)) => a == b,
            (Numbers(a), Numbers(b)) => {
                a.len() == b.len() && a.iter().zip(&**b).all(|(a, b)| same_number(*a, *b))
            }
            (Floats(a), Floats(b)) => {
                a.len() == b.len()
                    && a.iter().zip(&**b).all(|(a, b)| same_number((*a).into(), (*b).into()))
            }
            (Integers(a), Integers(b)) => a == b,
            (List(a), List(b)) => a == b,
            (Map(a), Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

fn same_number(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_over_nan_is_no_change() {
        assert_eq!(Value::Number(f64::NAN), Value::Number(-f64::NAN));
        assert_eq!(Value::Numbers([1.0, f64::NAN].into()), Value::Numbers([1.0, f64::NAN].into()));
        assert_ne!(Value::Number(f64::NAN), Value::Number(0.0));
    }

    #[test]
    fn the_sign_of_zero_is_a_change_however_deep_it_lies() {
        let of = |zero: f64| {
            let number = Value::Number(zero);
            [
                number.clone(),
                Value::Numbers([1.0, zero].into()),
                Value::Floats([1.0, zero as f32].into()),
                Value::List([number.clone()].into()),
                Value::Map([("k".into(), Value::List([number].into()))].into()),
            ]
        };
        for (zero, negative) in of(0.0).into_iter().zip(of(-0.0)) {
            assert_ne!(zero, negative);
            assert_eq!(negative, negative.clone());
        }
    }

    #[test]
    fn the_kind_decides() {
        assert_ne!(Value::Integer(1), Value::Number(1.0));
        assert_ne!(Value::Null, Value::Text("".into()));
        assert_eq!(size_of::<Option<Value>>(), 24);
    }
}
