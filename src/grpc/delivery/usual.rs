//! The write that most messages are: the same keys as before, set to scalars, in the session that
//! the stream subscribes to. It is read without taking the generated types in between; whatever is
//! not exactly that is left to them, so this decides nothing about what is valid.

use crate::{
    grpc::{
        field::{
            props_write::{self, set_entry},
            stream_user_props_request as request, value,
        },
        wire::{Content, field},
    },
    session::{ids::Key, value::Value},
};

/// The most keys that are known by heart.
const KEYS: usize = 16;

/// The keys of a stream's writes.
#[derive(Debug, Default)]
pub struct Usual {
    keys: Vec<Key>,
}

/// A message that is nothing unusual.
#[derive(Debug, PartialEq)]
pub struct UsualWrite {
    /// Its number.
    pub seq: u64,
    /// The keys to set, none twice.
    pub set: Vec<(Key, Value)>,
}

impl Usual {
    /// Learns the keys of a write that was found valid.
    pub fn learn<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        for key in keys {
            if self.keys.len() < KEYS && !self.keys.contains(key) {
                self.keys.push(key.clone());
            }
        }
    }

    /// Reads a `StreamUserPropsRequest`, if it is a usual one that names `session` alone.
    pub fn read(&self, message: &[u8], session: &str) -> Option<UsualWrite> {
        let mut rest = message;
        let (mut seq, mut write) = (None, None);
        while !rest.is_empty() {
            match field(&mut rest)? {
                (request::SEQ, Content::Varint(value)) => seq = Some(value),
                (request::WRITE, Content::Bytes(bytes)) if write.is_none() => write = Some(bytes),
                _ => return None,
            }
        }
        let mut rest = write?;
        let mut set = Vec::with_capacity(self.keys.len());
        let mut named = false;
        while !rest.is_empty() {
            match field(&mut rest)? {
                (props_write::SET, Content::Bytes(entry)) => {
                    let (key, value) = self.entry(entry)?;
                    if set.iter().any(|(known, _)| known == key) {
                        return None;
                    }
                    set.push((key.clone(), value));
                }
                (props_write::SESSION_IDS, Content::Bytes(id))
                    if id == session.as_bytes() && !named =>
                {
                    named = true
                }
                _ => return None,
            }
        }
        (named && !set.is_empty()).then_some(UsualWrite { seq: seq?, set })
    }

    fn entry(&self, mut entry: &[u8]) -> Option<(&Key, Value)> {
        let (set_entry::KEY, Content::Bytes(key)) = field(&mut entry)? else { return None };
        let key = self.keys.iter().find(|known| known.as_bytes() == key)?;
        let (set_entry::VALUE, Content::Bytes(mut value)) = field(&mut entry)? else {
            return None;
        };
        let scalar = match field(&mut value)? {
            (value::FLAG, Content::Varint(flag @ (0 | 1))) => Value::Flag(flag == 1),
            (value::INTEGER, Content::Varint(zigzag)) => {
                Value::Integer((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
            }
            (value::NUMBER, Content::Fixed64(bits)) => Value::Number(f64::from_bits(bits)),
            _ => return None,
        };
        (entry.is_empty() && value.is_empty()).then_some((key, scalar))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{grpc::convert::door::Door, proto, session::limits::Limits};
    use proptest::prelude::*;
    use prost::Message;
    use proto::{stream_user_props_request::Message as Up, value::Kind};

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            any::<bool>().prop_map(Kind::Flag),
            any::<i64>().prop_map(Kind::Integer),
            any::<f64>().prop_map(Kind::Number),
            "[a-z]{0,3}".prop_map(Kind::Text),
            Just(Kind::Null(proto::NullValue {})),
        ]
    }

    fn message() -> impl Strategy<Value = proto::StreamUserPropsRequest> {
        let set = prop::collection::hash_map("[x-z]", kind(), 0..4);
        let ids = prop::collection::vec("[ab]", 0..3);
        (any::<u64>(), set, ids, 0u64..2).prop_map(|(seq, set, session_ids, term)| {
            let value = |kind| proto::Value { kind: Some(kind) };
            let set = set.into_iter().map(|(key, kind)| (key, value(kind))).collect();
            let write = proto::PropsWrite { set, session_ids, term, ..Default::default() };
            proto::StreamUserPropsRequest { seq, message: Some(Up::Write(write)) }
        })
    }

    fn usual() -> Usual {
        let mut usual = Usual::default();
        usual.learn(["x", "y"].map(Key::from).iter());
        usual
    }

    fn sorted(mut set: Vec<(Key, Value)>) -> Vec<(Key, Value)> {
        set.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        set
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_the_generated_types_read(message in message()) {
            let bytes = message.encode_to_vec();
            let Some(UsualWrite { seq, set }) = usual().read(&bytes, "a") else { return Ok(()) };
            let Some(Up::Write(write)) = message.message else { unreachable!() };
            let limits = Limits::default();
            let mut door = Door::new(&limits);
            let known = door.props_write(write);
            prop_assert!(door.close().is_ok());
            prop_assert_eq!(seq, message.seq);
            prop_assert_eq!(sorted(set), sorted(known.write.set));
            prop_assert!(known.write.remove.is_empty() && known.term == 0);
            prop_assert_eq!(known.sessions.len(), 1);
            prop_assert_eq!(&*known.sessions[0], "a");
        }

        #[test]
        fn garbage_is_left_to_the_generated_types(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(UsualWrite { seq, .. }) = usual().read(&bytes, "a") {
                let known = proto::StreamUserPropsRequest::decode(&*bytes).expect("it decodes");
                prop_assert_eq!(seq, known.seq);
            }
        }
    }

    #[test]
    fn a_usual_write_is_read() {
        let number = proto::Value { kind: Some(Kind::Number(1.5)) };
        let write = proto::PropsWrite {
            set: [("x".to_owned(), number)].into(),
            session_ids: vec!["a".to_owned()],
            ..Default::default()
        };
        let message = proto::StreamUserPropsRequest { seq: 7, message: Some(Up::Write(write)) };
        let bytes = message.encode_to_vec();
        let read = UsualWrite { seq: 7, set: vec![("x".into(), Value::Number(1.5))] };
        assert_eq!(usual().read(&bytes, "a"), Some(read));
        assert_eq!(usual().read(&bytes, "b"), None);
        assert_eq!(Usual::default().read(&bytes, "a"), None);
    }
}
