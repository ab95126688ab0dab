//! The updates that users send, encoded once and filled in for each sending.

use super::{
    Result,
    grpc::framed,
    payload::{Payload, Update, Walk, prop_name},
    wire::{SEQ, map_entry, put_bytes},
};
use crate::proto::PropsWrite;
use bytes::{BufMut, Bytes};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, message, string},
};

/// The name of user `number` of a room.
pub fn user_id(number: usize) -> String {
    format!("u{number:03}")
}

/// The number of the user of this name.
pub fn user_number(user_id: &str) -> Option<usize> {
    user_id.strip_prefix('u')?.parse().ok()
}

/// A write of some props, encoded once and filled in for each update.
#[derive(Debug, Clone)]
pub struct Template {
    message: Vec<u8>,
    /// Where the values are.
    places: Vec<(usize, Payload)>,
}

impl Template {
    /// A `PropsWrite` of so many props, in this session; none = where it is clear.
    pub fn of_write(props: usize, payload: Payload, session_id: Option<&str>) -> Self {
        let mut template = Template { message: Vec::new(), places: Vec::new() };
        for prop in 0..props {
            let payload = payload.of_prop(prop);
            let mut entry = Vec::new();
            string::encode(map_entry::KEY, &prop_name(prop), &mut entry);
            message::encode(map_entry::VALUE, &payload.sample(), &mut entry);
            put_bytes(props_write::SET, &entry, &mut template.message);
            template.places.push((template.message.len() - payload.bytes(), payload));
        }
        let session_ids = session_id.into_iter().map(str::to_owned).collect();
        let rest = PropsWrite { session_ids, ..PropsWrite::default() };
        template.message.extend(rest.encode_to_vec());
        template
    }

    /// How long the message is.
    pub fn bytes(&self) -> usize {
        self.message.len()
    }

    /// This message as a field of another one, after other fields of that one.
    pub fn in_field(self, field: u32, before: &[u8]) -> Self {
        let mut message = before.to_vec();
        put_bytes(field, &self.message, &mut message);
        let shift = message.len() - self.message.len();
        let places = self.places.into_iter().map(|(at, payload)| (at + shift, payload)).collect();
        Template { message, places }
    }

    /// Messages one after the other: lists of a message are joined.
    pub fn joined(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut sum = Template { message: Vec::new(), places: Vec::new() };
        for part in parts {
            let shift = sum.message.len();
            sum.places.extend(part.places.iter().map(|(at, payload)| (at + shift, *payload)));
            sum.message.extend(part.message);
        }
        sum
    }

    /// The message with this `seq`, its first field, and the values of update `number`.
    pub fn update(&mut self, seq: u64, number: u64, walk: &mut Walk) -> Result<Bytes> {
        let mut value = Vec::new();
        for &(at, payload) in &self.places {
            value.clear();
            payload.write(&mut value, Update { number, rest: walk.step() });
            self.message[at..][..value.len()].copy_from_slice(&value);
        }
        framed(self.message.len() + 11, |buffer| {
            encode_key(SEQ, WireType::Varint, buffer);
            encode_varint(seq, buffer);
            buffer.put_slice(&self.message);
            Ok(())
        })
    }
}

/// Field numbers of `PropsWrite`.
mod props_write {
    pub const SET: u32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{StreamUserPropsRequest, stream_user_props_request::Message as Up, value};

    #[test]
    fn users_have_names_and_numbers() {
        assert_eq!(user_id(7), "u007");
        assert_eq!(user_id(1_234), "u1234");
        assert_eq!(user_number("u1234"), Some(1_234));
        assert_eq!(user_number("7"), None);
    }

    #[test]
    fn an_update_says_what_it_was_filled_with() {
        let write = Template::of_write(3, Payload::Text(5), Some("room"));
        let mut template = write.in_field(3, &[]);
        let mut walk = Walk::new(1);
        for (seq, number) in [(2, 0), (300, 299)] {
            let update = template.update(seq, number, &mut walk).unwrap();
            let request = StreamUserPropsRequest::decode(&update[5..]).unwrap();
            assert_eq!(request.seq, seq);
            let Some(Up::Write(write)) = request.message else { panic!("a write") };
            assert_eq!(write.session_ids, ["room"]);
            let kind = |key: &str| write.set[key].kind.clone();
            let Some(value::Kind::Number(x)) = kind("x") else { panic!("x is a number") };
            assert_eq!(x as u64, number);
            for key in ["y", "p2"] {
                let Some(value::Kind::Text(text)) = kind(key) else { panic!("{key} is text") };
                assert_eq!(text.len(), 5);
            }
        }
    }

    #[test]
    fn templates_are_joined_and_each_is_filled_in() {
        let write = || Template::of_write(1, Payload::Numbers, None).in_field(3, &[]);
        let mut both = Template::joined([write(), write()]);
        let mut alone = write();
        let update = |template: &mut Template| template.update(2, 9, &mut Walk::new(1)).unwrap();
        let (both, alone) = (update(&mut both), update(&mut alone));
        assert_eq!(both.len() - 7, 2 * (alone.len() - 7));
        assert_eq!(both[7..][..alone.len() - 7], alone[7..]);
        assert_ne!(both[alone.len()..], alone[7..]);
    }
}
