//! How much memory a request takes once it is decoded, looked at before it is: two bytes may be a
//! message of hundreds.

use super::{
    error::Refusal,
    wire::{Content, field},
};
use crate::{proto, session::error::Violation};
use bytes::Bytes;
use prost::Message;

/// Bytes that any request may take, and that each of its bytes may take besides. Vectors that grow
/// may add as much again.
const MOST: (usize, usize) = (4 << 20, 16);

/// How many users, views, blocks or writes a message of a gateway may have of each.
const PARTS: usize = 10_000;

/// Bytes that each byte of a gateway's message may take, and those of a short one.
const MOST_OF_GATEWAY: (usize, usize) = (24, 1 << 20);

/// What messages may be nested; prost does not decode what is nested deeper.
const DEPTH: usize = 100;

/// Bytes of a text or a vector, what it holds apart.
const POINTER: usize = size_of::<String>();

/// Entries that a node of a map has room for, and that each one takes of it where there are many.
const NODE: (usize, usize) = (12, 3);

/// What a message is made of.
#[derive(Debug)]
pub struct Shape {
    /// Bytes of its type.
    size: usize,
    /// The fields that take more than that, with their numbers and names.
    parts: &'static [(u32, &'static str, Part)],
}

/// How a field takes memory.
#[derive(Debug)]
enum Part {
    /// A message that its message has room for.
    Within(&'static Shape),
    /// Any number of messages that stand apart.
    Apart(&'static Shape),
    /// Entries of a map.
    Entries(&'static Shape),
    /// A text or bytes.
    Text,
    /// Many of them.
    Texts,
    /// Numbers of any length.
    Numbers,
    /// Numbers of so many bytes.
    Fixed(usize),
}

/// A message whose shape is known; none = it is no request.
pub trait Shaped {
    /// The shape.
    const SHAPE: Option<&'static Shape>;
}

/// A field of a request.
#[derive(Debug, Clone, Copy)]
struct Weighed {
    name: &'static str,
    /// How often it is there.
    count: usize,
    /// What it takes.
    bytes: usize,
}

/// Decodes a message, unless it would take too much memory.
pub fn decode<M: Message + Default + Shaped>(message: Bytes) -> Result<M, Refusal> {
    let (base, times) = MOST;
    check(&weigh::<M>(&message), base + times * message.len())?;
    M::decode(message).map_err(|fault| Refusal::Malformed(fault.to_string()))
}

/// Refuses a gateway's message that has too many parts or would take too much memory.
pub fn check_gateway(message: &[u8]) -> Result<(), Refusal> {
    let fields = weigh::<proto::GatewayRequest>(message);
    let too_many = fields.iter().filter(|field| field.count > PARTS).map(|field| {
        Violation::new(field.name, format!("has {} entries, more than {PARTS}", field.count))
    });
    let too_many: Vec<_> = too_many.collect();
    if !too_many.is_empty() {
        return Err(Refusal::Invalid(too_many));
    }
    let (times, short) = MOST_OF_GATEWAY;
    check(&fields, times * message.len().max(short))
}

fn check(fields: &[Weighed], most: usize) -> Result<(), Refusal> {
    let bytes: usize = fields.iter().map(|field| field.bytes).sum();
    match fields.iter().max_by_key(|field| field.bytes) {
        Some(heaviest) if bytes > most => {
            let text = format!(
                "the message takes {bytes} bytes of memory once it is read, more than {most}: send less in one"
            );
            Err(Refusal::invalid(heaviest.name, text))
        }
        _ => Ok(()),
    }
}

/// Weighs the fields of a request. What cannot be decoded is weighed up to there.
fn weigh<M: Shaped>(message: &[u8]) -> Vec<Weighed> {
    let Some(shape) = M::SHAPE else { return Vec::new() };
    let names = shape.parts.iter().map(|&(_, name, _)| name);
    let mut fields: Vec<_> = names.map(|name| Weighed { name, count: 0, bytes: 0 }).collect();
    let mut rest = message;
    while let Some((at, content)) = shape.next(&mut rest) {
        let part = &shape.parts[at].2;
        let field = &mut fields[at];
        field.bytes += part.weigh(content, field.count == 0, 1);
        field.count += part.count(content);
    }
    fields
}

impl Shape {
    /// The next field that takes more than its message.
    fn next<'a>(&self, rest: &mut &'a [u8]) -> Option<(usize, Content<'a>)> {
        loop {
            let (number, content) = field(rest)?;
            if let Some(at) = self.parts.iter().position(|&(known, ..)| known == number) {
                return Some((at, content));
            }
        }
    }

    /// What a message takes beside its own size.
    fn weigh(&self, mut rest: &[u8], depth: usize) -> usize {
        let (mut bytes, mut begun) = (0, 0u64);
        while depth < DEPTH
            && let Some((at, content)) = self.next(&mut rest)
        {
            let is_first = begun & (1 << at) == 0;
            begun |= 1 << at;
            bytes += self.parts[at].2.weigh(content, is_first, depth + 1);
        }
        bytes
    }
}

impl Part {
    fn weigh(&self, content: Content<'_>, is_first: bool, depth: usize) -> usize {
        match (self, content) {
            (Self::Within(shape), Content::Bytes(bytes)) => shape.weigh(bytes, depth),
            (Self::Apart(shape), Content::Bytes(bytes)) => shape.size + shape.weigh(bytes, depth),
            (Self::Entries(shape), Content::Bytes(bytes)) => {
                let entries = if is_first { NODE.0 } else { NODE.1 };
                entries * shape.size + shape.weigh(bytes, depth)
            }
            (Self::Text, Content::Bytes(bytes)) => bytes.len(),
            (Self::Texts, Content::Bytes(bytes)) => POINTER + bytes.len(),
            (Self::Numbers, Content::Bytes(bytes)) => size_of::<u64>() * bytes.len(),
            (Self::Fixed(_), Content::Bytes(bytes)) => bytes.len(),
            // One by one.
            (Self::Numbers | Self::Fixed(_), _) => size_of::<u64>(),
            // It does not decode.
            _ => 0,
        }
    }

    /// How many there are in a field.
    fn count(&self, content: Content<'_>) -> usize {
        match (self, content) {
            (Self::Numbers, Content::Bytes(bytes)) => {
                bytes.iter().filter(|byte| **byte < 0x80).count()
            }
            (Self::Fixed(size), Content::Bytes(bytes)) => bytes.len() / size,
            _ => 1,
        }
    }
}

#[allow(dead_code)]
mod shapes {
    use super::{Part, Shape, Shaped};
    include!(concat!(env!("OUT_DIR"), "/shape.rs"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::value::Kind;
    use std::iter::repeat_n;

    /// A message of so many bytes at most that has one thing again and again.
    fn of(piece: impl Message, most: usize) -> Bytes {
        let piece = piece.encode_to_vec();
        repeat_n(piece.as_slice(), most / piece.len()).collect::<Vec<_>>().concat().into()
    }

    fn empty<T: Default>() -> T {
        T::default()
    }

    fn map_of_one() -> proto::Value {
        let entries = [(String::new(), proto::Value::default())].into();
        proto::Value { kind: Some(Kind::Map(proto::MapValue { entries })) }
    }

    fn gateway(request: proto::GatewayRequest) -> Bytes {
        of(request, 1 << 20)
    }

    #[test]
    fn what_would_take_memory_out_of_proportion_is_refused_by_its_field() {
        use proto::*;
        let column = Column { values: vec![map_of_one(); 1000], ..Default::default() };
        let dictionary = Dictionary { props: vec![empty(); 1000] };
        let set = (0..1000).map(|at| (at.to_string(), map_of_one())).collect();
        let write = PropsWrite { set, ..Default::default() };
        let none = empty::<GatewayRequest>;
        for (field, message) in [
            ("attach", gateway(GatewayRequest { attach: vec![empty()], ..none() })),
            ("subscribe", gateway(GatewayRequest { subscribe: vec![empty()], ..none() })),
            ("writes", gateway(GatewayRequest { writes: vec![empty()], ..none() })),
            ("blocks", gateway(GatewayRequest { blocks: vec![empty()], ..none() })),
            (
                "blocks",
                gateway(GatewayRequest {
                    blocks: vec![Block { columns: vec![empty(); 1000], ..empty() }],
                    ..none()
                }),
            ),
            (
                "blocks",
                gateway(GatewayRequest {
                    blocks: vec![Block { columns: vec![column], ..empty() }],
                    ..none()
                }),
            ),
            (
                "writes",
                gateway(GatewayRequest {
                    writes: vec![HandleWrite { write: Some(write), ..empty() }],
                    ..none()
                }),
            ),
        ] {
            let refused = check_gateway(&message).expect_err(field);
            let super::Refusal::Invalid(faults) = refused else { panic!("{refused:?}") };
            assert_eq!(faults[0].field, field);
        }
        let names = gateway(GatewayRequest { dictionary: Some(dictionary), ..none() });
        assert_eq!(check_gateway(&names), Ok(()));
        let open = StreamOpen { subscriptions: vec![empty(); 1000], ..empty() };
        let open = stream_user_props_request::Message::Open(open);
        let open = of(StreamUserPropsRequest { message: Some(open), ..empty() }, 1 << 16);
        assert!(decode::<StreamUserPropsRequest>(open).is_err());
    }

    #[test]
    fn ten_thousand_of_everything_have_room() {
        use proto::*;
        let text = |at: u32| format!("user-{at}");
        let attach = (0..10_000).map(|handle| Attach {
            handle,
            user_id: text(handle),
            session_id: "finals".into(),
            join: Some(JoinOptions::default()),
            ..Default::default()
        });
        let writes = (0..10_000).map(|handle| {
            let number = Value { kind: Some(Kind::Number(0.5)) };
            let set = [("x".to_owned(), number)].into();
            HandleWrite { handle, write: Some(PropsWrite { set, ..Default::default() }) }
        });
        let detach = (0..10_000).map(|handle| Detach { handle, ..Default::default() });
        let request = GatewayRequest {
            attach: attach.collect(),
            detach: detach.collect(),
            writes: writes.collect(),
            ..Default::default()
        };
        let message = Bytes::from(request.encode_to_vec());
        assert_eq!(check_gateway(&message), Ok(()));
    }

    #[test]
    fn fields_are_counted_however_they_are_packed() {
        let request = proto::GatewayRequest {
            unsubscribe: vec![1, 300, 70_000],
            detach: vec![Default::default(); 2],
            ..Default::default()
        };
        let fields = weigh::<proto::GatewayRequest>(&request.encode_to_vec());
        let count = |name| fields.iter().find(|field| field.name == name).map(|it| it.count);
        assert_eq!((count("unsubscribe"), count("detach")), (Some(3), Some(2)));
    }
}
