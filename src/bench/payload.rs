//! What an update carries. Every value of a kind has the same size on the wire, so that an update is
//! encoded once and filled in for each sending.

use super::Result;
use crate::proto::{Floats, NamedValue, Value, named_value, value::Kind};
use std::str::FromStr;

/// The props of each update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// 64-bit numbers.
    Numbers,
    /// Lists of one 32-bit number.
    Floats,
    /// Integers, of which each takes four bytes.
    Integers,
    /// Text of so many bytes.
    Text(usize),
    /// So many bytes.
    Data(usize),
}

/// Values are no longer than the server allows.
const VALUE_BYTES_MAX: usize = 16 << 10;
/// Integers from here take four bytes on the wire, for as many as [`INTEGERS`].
const INTEGERS_FROM: i64 = 1 << 22;
const INTEGERS: u64 = 1 << 22;
/// A float tells so many updates apart by its whole part and keeps four bits for the rest.
const FLOATS: u64 = 1 << 20;
/// What text consists of.
const LETTERS: [u8; 16] = *b"abcdefghijklmnop";

impl FromStr for Payload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, bytes) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
        let bytes = bytes.map(|bytes| {
            let bytes = bytes.parse().ok().filter(|bytes| (1..=VALUE_BYTES_MAX).contains(bytes));
            bytes.ok_or_else(|| format!("not a number of bytes in 1..{VALUE_BYTES_MAX}"))
        });
        match (kind, bytes.transpose()?) {
            ("numbers", None) => Ok(Payload::Numbers),
            ("floats", None) => Ok(Payload::Floats),
            ("integers", None) => Ok(Payload::Integers),
            ("text", Some(bytes)) => Ok(Payload::Text(bytes)),
            ("data", Some(bytes)) => Ok(Payload::Data(bytes)),
            _ => Err("not one of numbers, floats, integers, text:BYTES and data:BYTES".to_owned()),
        }
    }
}

impl Payload {
    /// What this prop is. By the first one, an update is known among the others.
    pub fn of_prop(self, prop: usize) -> Self {
        match (prop, self) {
            (1.., kind) => kind,
            (0, Payload::Floats) => Payload::Floats,
            (0, _) => Payload::Numbers,
        }
    }

    /// A value. It ends, as every value of the kind, with what [`Payload::write`] writes.
    pub fn sample(self) -> Value {
        let mut bytes = Vec::new();
        self.write(&mut bytes, Update { number: 0, rest: 0 });
        let kind = match self {
            Payload::Numbers => Kind::Number(f64::from_le_bytes(bytes.try_into().expect("eight"))),
            Payload::Floats => {
                let item = f32::from_le_bytes(bytes.try_into().expect("four"));
                Kind::Floats(Floats { items: vec![item] })
            }
            Payload::Integers => Kind::Integer(INTEGERS_FROM),
            Payload::Text(_) => Kind::Text(String::from_utf8(bytes).expect("letters")),
            Payload::Data(_) => Kind::Data(bytes),
        };
        Value { kind: Some(kind) }
    }

    /// How many bytes [`Payload::write`] writes.
    pub fn bytes(self) -> usize {
        match self {
            Payload::Numbers => 8,
            Payload::Floats | Payload::Integers => 4,
            Payload::Text(bytes) | Payload::Data(bytes) => bytes,
        }
    }

    /// Appends the value that the update has, as it stands on the wire.
    pub fn write(self, bytes: &mut Vec<u8>, update: Update) {
        match self {
            Payload::Numbers => bytes.extend(update.as_number().to_le_bytes()),
            Payload::Floats => bytes.extend(update.as_float().to_le_bytes()),
            Payload::Integers => {
                let zigzag = ((INTEGERS_FROM as u64) + update.rest % INTEGERS) << 1;
                let septet = |at: u32| (zigzag >> (7 * at)) as u8 & 0x7f;
                bytes.extend([septet(0) | 0x80, septet(1) | 0x80, septet(2) | 0x80, septet(3)]);
            }
            Payload::Text(count) | Payload::Data(count) => {
                let letter = |at: usize| LETTERS[(update.rest >> (4 * (at % 16))) as usize & 15];
                bytes.extend((0..count).map(letter));
            }
        }
    }
}

/// One value of one update.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    /// The number of the update among those of its user.
    pub number: u64,
    /// Anything.
    pub rest: u64,
}

impl Update {
    /// As a number, whose whole part says which update it is.
    pub fn as_number(self) -> f64 {
        self.number as f64 + (self.rest >> 44) as f64 / f64::from(1 << 20)
    }

    fn as_float(self) -> f32 {
        (self.number % FLOATS) as f32 + (self.rest >> 60) as f32 / 16.0
    }
}

/// Which of its user's updates this prop shows, if it is one that tells.
pub fn update_number(prop: &NamedValue) -> Option<usize> {
    match &prop.kind {
        Some(named_value::Kind::Number(x)) => Some(*x as usize),
        Some(named_value::Kind::Floats(Floats { items })) => Some(*items.first()? as usize),
        _ => None,
    }
}

/// The name of a prop.
pub fn prop_name(prop: usize) -> String {
    match prop {
        0 => "x".to_owned(),
        1 => "y".to_owned(),
        other => format!("p{other}"),
    }
}

/// Numbers that look like no others, the same in every run.
#[derive(Debug)]
pub struct Walk(u64);

impl Walk {
    /// The walk of user `number`.
    pub fn new(number: usize) -> Self {
        Walk(number as u64)
    }

    /// The next one.
    pub fn step(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    const KINDS: [Payload; 5] =
        [Payload::Numbers, Payload::Floats, Payload::Integers, Payload::Text(40), Payload::Data(3)];

    #[test]
    fn kinds_are_read_by_name() {
        let names = ["numbers", "floats", "integers", "text:40", "data:3"];
        for (name, kind) in names.into_iter().zip(KINDS) {
            assert_eq!(name.parse(), Ok(kind));
        }
        for wrong in ["", "number", "text", "text:0", "text:x", "data:16385", "numbers:8"] {
            assert!(wrong.parse::<Payload>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_value_of_a_kind_has_the_size_of_its_sample() {
        let mut walk = Walk::new(7);
        for kind in KINDS {
            for number in [0, 1, 1_000_000] {
                let mut bytes = Vec::new();
                kind.write(&mut bytes, Update { number, rest: walk.step() });
                assert_eq!(bytes.len(), kind.bytes(), "{kind:?}");
                let sample = kind.sample().encode_to_vec();
                let mut filled = sample.clone();
                let at = filled.len() - bytes.len();
                filled[at..].copy_from_slice(&bytes);
                let read = Value::decode(&filled[..]).expect("a value");
                assert_eq!(read.encode_to_vec(), filled, "{kind:?}");
            }
        }
    }

    #[test]
    fn the_first_prop_names_the_update() {
        for kind in
            [Payload::Numbers, Payload::Floats, Payload::Text(9)].map(|kind| kind.of_prop(0))
        {
            let mut bytes = Vec::new();
            kind.write(&mut bytes, Update { number: 12_345, rest: u64::MAX });
            let kind = match kind {
                Payload::Floats => {
                    let item = f32::from_le_bytes(bytes.try_into().unwrap());
                    named_value::Kind::Floats(Floats { items: vec![item] })
                }
                _ => named_value::Kind::Number(f64::from_le_bytes(bytes.try_into().unwrap())),
            };
            let prop = NamedValue { name: "x".into(), kind: Some(kind) };
            assert_eq!(update_number(&prop), Some(12_345));
        }
        let flag = named_value::Kind::Flag(true);
        assert_eq!(update_number(&NamedValue { kind: Some(flag), ..Default::default() }), None);
    }

    #[test]
    fn steps_differ() {
        let mut walk = Walk::new(7);
        let steps: Vec<u64> = (0..1_000).map(|_| walk.step()).collect();
        assert!(steps.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
