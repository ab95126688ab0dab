//! The updates that users send, and what comes of them, read and written without a codec.

use super::{Result, grpc::framed};
use crate::proto::{
    PropsWrite, StreamUserPropsRequest, Value, stream_user_props_request::Message as Up, value,
};
use bytes::{BufMut, Bytes};
use prost::{
    Message,
    encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint},
};
use std::collections::BTreeMap;

/// The name of user `number` of a room.
pub fn user_id(number: usize) -> String {
    format!("u{number:03}")
}

/// The number of the user of this name.
pub fn user_number(user_id: &str) -> Option<usize> {
    user_id.strip_prefix('u')?.parse().ok()
}

/// A write of the props `x` and `y`, encoded once and filled in for each update.
#[derive(Debug, Clone)]
pub struct Template {
    message: Vec<u8>,
    x_at: usize,
    y_at: usize,
}

impl Template {
    /// Writes into this session.
    pub fn new(session_id: &str) -> Result<Self> {
        let [x, y] = [1.234567e-89, -9.876543e+21];
        let number = |number| Value { kind: Some(value::Kind::Number(number)) };
        let write = PropsWrite {
            set: BTreeMap::from([("x".to_owned(), number(x)), ("y".to_owned(), number(y))]),
            session_ids: vec![session_id.to_owned()],
            ..PropsWrite::default()
        };
        let message = StreamUserPropsRequest { seq: 0, message: Some(Up::Write(write)) };
        let message = message.encode_to_vec();
        let place = |number: f64| {
            let place = message.windows(8).position(|bytes| bytes == number.to_le_bytes());
            place.ok_or("a number is not encoded as eight bytes")
        };
        Ok(Template { x_at: place(x)?, y_at: place(y)?, message })
    }

    /// The update with this `seq`.
    pub fn update(&mut self, seq: u64, x: f64, y: f64) -> Result<Bytes> {
        self.message[self.x_at..][..8].copy_from_slice(&x.to_le_bytes());
        self.message[self.y_at..][..8].copy_from_slice(&y.to_le_bytes());
        framed(|buffer| {
            encode_key(1, WireType::Varint, buffer);
            encode_varint(seq, buffer);
            buffer.put_slice(&self.message);
            Ok(())
        })
    }
}

/// What one `StreamUserPropsResponse` brings.
#[derive(Debug, Default, PartialEq)]
pub struct Arrivals {
    /// How many users other than the receiver are in it with props.
    pub others: u64,
    /// How many writes it refuses.
    pub refusals: u64,
}

impl Arrivals {
    /// In the message that came to user `me`.
    pub fn of(message: &[u8], me: &str) -> Result<Self> {
        let mut arrivals = Arrivals::default();
        for_each_field(message, |field, value| match field {
            response::UPDATES => follow(value, &MEMBERS, &mut |member| {
                arrivals.others += u64::from(shows_other(member, me)?);
                Ok(())
            }),
            response::REFUSALS => {
                arrivals.refusals += 1;
                Ok(())
            }
            _ => Ok(()),
        })?;
        Ok(arrivals)
    }
}

/// Field numbers of `StreamUserPropsResponse`.
mod response {
    pub const UPDATES: u32 = 1;
    pub const REFUSALS: u32 = 3;
}

/// From a `SessionDelivery` to its members: update, changes, members.
const MEMBERS: [u32; 3] = [1, 6, 6];

/// Field numbers of `MemberChange`.
mod member {
    pub const USER_ID: u32 = 1;
    pub const PROPS: u32 = 2;
}

fn shows_other(member: &[u8], me: &str) -> Result<bool> {
    let (mut is_other, mut has_props) = (true, false);
    for_each_field(member, |field, value| {
        is_other &= field != member::USER_ID || value != me.as_bytes();
        has_props |= field == member::PROPS;
        Ok(())
    })?;
    Ok(is_other && has_props)
}

/// Calls `found` with every message at the end of this path of fields.
fn follow(message: &[u8], path: &[u32], found: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let Some((&next, rest)) = path.split_first() else { return found(message) };
    for_each_field(
        message,
        |field, value| {
            if field == next { follow(value, rest, found) } else { Ok(()) }
        },
    )
}

/// Calls `each` with every field that has a length, whatever is in it, and skips the others.
fn for_each_field(
    mut message: &[u8],
    mut each: impl FnMut(u32, &[u8]) -> Result<()>,
) -> Result<()> {
    let cut = || "a message is cut off";
    while !message.is_empty() {
        let (field, wire_type) = decode_key(&mut message)?;
        let skipped = match wire_type {
            WireType::Varint => {
                decode_varint(&mut message)?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut message)?)?;
                each(field, message.get(..length).ok_or_else(cut)?)?;
                length
            }
            WireType::StartGroup | WireType::EndGroup => return Err("a group".into()),
        };
        message = message.get(skipped..).ok_or_else(cut)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{
        Changes, MemberChange, NamedValue, Refusal, Role, SessionDelivery, SessionUpdate, Snapshot,
        StreamUserPropsResponse, named_value, session_update::Body,
    };

    fn response(body: Body, refusals: usize) -> Vec<u8> {
        let update = SessionUpdate { to_revision: 7, body: Some(body), ..Default::default() };
        StreamUserPropsResponse {
            updates: vec![SessionDelivery { update: Some(update), ..Default::default() }],
            acked_seq: 9,
            refusals: vec![Refusal { seq: 8, ..Default::default() }; refusals],
            ..Default::default()
        }
        .encode_to_vec()
    }

    fn changes(users: &[&str]) -> Changes {
        let x = named_value::Kind::Number(1.0);
        let member = |user: &&str| MemberChange {
            user_id: (*user).to_owned(),
            props: vec![NamedValue { name: "x".into(), kind: Some(x.clone()) }],
            role: Role::Member.into(),
            ..Default::default()
        };
        Changes { members: users.iter().map(member).collect(), ..Default::default() }
    }

    #[test]
    fn users_have_names_and_numbers() {
        assert_eq!(user_id(7), "u007");
        assert_eq!(user_id(1_234), "u1234");
        assert_eq!(user_number("u1234"), Some(1_234));
        assert_eq!(user_number("7"), None);
    }

    #[test]
    fn an_update_says_what_it_was_filled_with() {
        let mut template = Template::new("room").unwrap();
        for (seq, x, y) in [(2, 0.5, -1.0), (300, f64::MAX, 0.0)] {
            let update = template.update(seq, x, y).unwrap();
            let request = StreamUserPropsRequest::decode(&update[5..]).unwrap();
            let Some(Up::Write(write)) = request.message else { panic!("a write") };
            let number = |key| match write.set[key].kind {
                Some(value::Kind::Number(number)) => number,
                _ => panic!("{key} is a number"),
            };
            assert_eq!((request.seq, number("x"), number("y")), (seq, x, y));
            assert_eq!(write.session_ids, ["room"]);
        }
    }

    #[test]
    fn others_are_counted_and_oneself_is_not() {
        let message = response(Body::Changes(changes(&["u000", "u001", "u002"])), 0);
        assert_eq!(Arrivals::of(&message, "u001").unwrap(), Arrivals { others: 2, refusals: 0 });
        assert_eq!(Arrivals::of(&message, "u003").unwrap(), Arrivals { others: 3, refusals: 0 });
    }

    #[test]
    fn who_only_joined_is_no_delivery() {
        let mut joined = changes(&["u000"]);
        joined.members[0].props.clear();
        let message = response(Body::Changes(joined), 2);
        assert_eq!(Arrivals::of(&message, "u001").unwrap(), Arrivals { others: 0, refusals: 2 });
    }

    #[test]
    fn a_snapshot_is_no_delivery() {
        let snapshot = Snapshot { state: Some(changes(&["u000"])), ..Default::default() };
        let message = response(Body::Snapshot(snapshot), 0);
        assert_eq!(Arrivals::of(&message, "u001").unwrap(), Arrivals::default());
    }

    #[test]
    fn what_is_cut_off_is_noticed() {
        let message = response(Body::Changes(changes(&["u000"])), 0);
        assert!(Arrivals::of(&message[..message.len() - 3], "u001").is_err());
    }
}
