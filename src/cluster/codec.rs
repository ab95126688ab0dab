//! Messages between nodes as bytes. Nothing that comes in is trusted: what is not ours, or makes no
//! sense, is foreign, and changes nothing.

use super::rules::{Beat, ClaimNow, Held, Holding, MoveRefused, NodeInfo};
use crate::{
    log::{NodeId, Partition, Seq},
    session::limits::Micros,
};
use bytes::Bytes;
use prost::Message as _;
use std::sync::Arc;

/// The messages of `cluster.proto`.
#[allow(missing_docs)]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/sessiond.cluster.v1.rs"));
}

use wire::message::Kind;

/// What every message begins with: whose it is, and the version. A version that others cannot read has
/// another number; fields are added without.
const MARK: [u8; 3] = [b's', b'd', 1];

/// Bytes of a message at most: room for a beat about 256 partitions.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// Bytes of the name of a node at most.
pub const MAX_NAME_BYTES: usize = 128;

/// Bytes of the address of a node, and of its version, at most.
const MAX_TEXT_BYTES: usize = 256;

/// The last moment that can be written: in the year 9999.
const LAST_MOMENT: Micros = 253_402_300_799_999_999;

/// What nodes say to each other.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// A node is alive, and owns this.
    Beat(Beat),
    /// Asks a node for a beat.
    Ping,
    /// Tells a node to claim what is released.
    ClaimNow(ClaimNow),
    /// Asks a node to read what is about to be released for it.
    ReadAhead(Partition),
    /// Asks the owner of a partition to move it, as an admin wants it.
    Move { partition: Partition, to: String },
    /// What came of it.
    Outcome(Result<(), Why>),
    /// A process asks who has its name.
    WhoHas { id: NodeId, address: String },
    /// A process says that it has the name, or asks for it, too.
    Named { id: NodeId, address: String, joined: bool },
}

/// Why something is not done. It names nothing that the one who asks does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    NoSuchPartition,
    NoSuchNode,
    NotAlive,
    NotReady,
    NoOwner,
    Busy,
    Other,
}

impl From<&MoveRefused> for Why {
    fn from(refused: &MoveRefused) -> Self {
        match refused {
            MoveRefused::NoSuchPartition { .. } => Self::NoSuchPartition,
            MoveRefused::NoSuchNode(_) => Self::NoSuchNode,
            MoveRefused::NotAlive(_) => Self::NotAlive,
            MoveRefused::NotReady(_) => Self::NotReady,
            MoveRefused::NoOwner(_) => Self::NoOwner,
            MoveRefused::Busy(_) => Self::Busy,
            MoveRefused::Unanswered(_) => Self::Other,
        }
    }
}

impl Why {
    /// The same for the one who asked for the move.
    pub fn told(self, partition: Partition, to: &str) -> MoveRefused {
        match self {
            Self::NoSuchNode => MoveRefused::NoSuchNode(to.to_owned()),
            Self::NotAlive => MoveRefused::NotAlive(to.to_owned()),
            Self::NotReady => MoveRefused::NotReady(to.to_owned()),
            Self::NoOwner | Self::NoSuchPartition => MoveRefused::NoOwner(partition),
            Self::Busy => MoveRefused::Busy(partition),
            Self::Other => MoveRefused::Unanswered(partition),
        }
    }
}

/// Bytes that are no message of a node that this one understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign;

/// The bytes of a message.
pub fn encode(message: &Message) -> Bytes {
    let kind = match message {
        Message::Beat(beat) => Kind::Beat(beat_out(beat)),
        Message::Ping => Kind::Ping(wire::Ping {}),
        Message::ClaimNow(ClaimNow { partition, ended, pinned }) => {
            let partition = partition.0.into();
            Kind::ClaimNow(wire::ClaimNow { partition, ended: ended.0, pinned: *pinned })
        }
        Message::ReadAhead(partition) => {
            Kind::ReadAhead(wire::ReadAhead { partition: partition.0.into() })
        }
        Message::Move { partition, to } => {
            Kind::Move(wire::Move { partition: partition.0.into(), to: to.clone() })
        }
        Message::Outcome(outcome) => {
            let refused = outcome.map_or_else(why_out, |()| wire::Why::Unspecified);
            Kind::Outcome(wire::Outcome { refused: refused.into() })
        }
        Message::WhoHas { id, address } => {
            Kind::WhoHas(wire::WhoHas { id: id.0, address: address.clone() })
        }
        Message::Named { id, address, joined } => {
            Kind::Named(wire::Named { id: id.0, address: address.clone(), joined: *joined })
        }
    };
    let message = wire::Message { kind: Some(kind) };
    let mut bytes = Vec::with_capacity(MARK.len() + message.encoded_len());
    bytes.extend(MARK);
    message.encode_raw(&mut bytes);
    bytes.into()
}

/// The message that was sent as these bytes.
pub fn decode(bytes: &[u8]) -> Result<Message, Foreign> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(Foreign);
    }
    let message = bytes.strip_prefix(&MARK).ok_or(Foreign)?;
    let message = wire::Message::decode(message).map_err(|_| Foreign)?;
    Ok(match message.kind.ok_or(Foreign)? {
        Kind::Beat(beat) => Message::Beat(beat_in(beat)?),
        Kind::Ping(wire::Ping {}) => Message::Ping,
        Kind::ClaimNow(wire::ClaimNow { partition, ended, pinned }) => {
            let partition = partition_in(partition)?;
            Message::ClaimNow(ClaimNow { partition, ended: Seq(ended), pinned })
        }
        Kind::ReadAhead(wire::ReadAhead { partition }) => {
            Message::ReadAhead(partition_in(partition)?)
        }
        Kind::Move(wire::Move { partition, to }) => {
            Message::Move { partition: partition_in(partition)?, to: text_in(to, MAX_NAME_BYTES)? }
        }
        Kind::Outcome(outcome) => Message::Outcome(match outcome.refused() {
            wire::Why::Unspecified if outcome.refused == 0 => Ok(()),
            why => Err(why_in(why)),
        }),
        Kind::WhoHas(wire::WhoHas { id, address }) => {
            Message::WhoHas { id: NodeId(id), address: text_in(address, MAX_TEXT_BYTES)? }
        }
        Kind::Named(wire::Named { id, address, joined }) => {
            let address = text_in(address, MAX_TEXT_BYTES)?;
            Message::Named { id: NodeId(id), address, joined }
        }
    })
}

fn beat_out(beat: &Beat) -> wire::Beat {
    let NodeInfo { id, name, address, format, version, started_at } = &*beat.node;
    let node = wire::Node {
        id: id.0,
        name: name.clone(),
        address: address.clone(),
        format: u32::from(*format),
        version: version.clone(),
        started_at: *started_at,
    };
    let held = beat.held.iter().map(|held| {
        let phase = match held.holding {
            Holding::Nothing => wire::Phase::Unspecified,
            Holding::Loading(_) => wire::Phase::Loading,
            Holding::Serving(_) => wire::Phase::Serving,
            Holding::Giving(_) => wire::Phase::Giving,
        };
        wire::Held {
            partition: held.partition.0.into(),
            phase: phase.into(),
            term: held.holding.term().unwrap_or_default().0,
            pinned: held.pinned,
        }
    });
    wire::Beat {
        node: Some(node),
        number: beat.number,
        wall: beat.wall,
        leaving: beat.leaving,
        declines: beat.declines,
        held: held.collect(),
        claiming: beat.claiming.iter().map(|partition| partition.0.into()).collect(),
    }
}

fn beat_in(beat: wire::Beat) -> Result<Beat, Foreign> {
    let wire::Node { id, name, address, format, version, started_at } = beat.node.ok_or(Foreign)?;
    let node = NodeInfo {
        id: NodeId(id),
        name: text_in(name, MAX_NAME_BYTES)?,
        address: text_in(address, MAX_TEXT_BYTES)?,
        format: u8::try_from(format).map_err(|_| Foreign)?,
        version: text_in(version, MAX_TEXT_BYTES)?,
        started_at: started_at.min(LAST_MOMENT),
    };
    if node.name.is_empty() || beat.held.len() > 256 || beat.claiming.len() > 256 {
        return Err(Foreign);
    }
    let held = beat.held.into_iter().map(|held| {
        let term = Seq(held.term);
        let holding = match held.phase() {
            wire::Phase::Loading => Holding::Loading(term),
            wire::Phase::Serving => Holding::Serving(term),
            wire::Phase::Giving => Holding::Giving(term),
            wire::Phase::Unspecified => return Err(Foreign),
        };
        Ok(Held { partition: partition_in(held.partition)?, holding, pinned: held.pinned })
    });
    Ok(Beat {
        held: held.collect::<Result<_, _>>()?,
        claiming: beat.claiming.into_iter().map(partition_in).collect::<Result<_, _>>()?,
        node: Arc::new(node),
        number: beat.number,
        wall: beat.wall,
        leaving: beat.leaving,
        declines: beat.declines,
    })
}

fn partition_in(partition: u32) -> Result<Partition, Foreign> {
    u8::try_from(partition).map(Partition).map_err(|_| Foreign)
}

/// It is logged and listed: no control characters.
fn text_in(text: String, most: usize) -> Result<String, Foreign> {
    let is_fit = text.len() <= most && !text.chars().any(char::is_control);
    if is_fit { Ok(text) } else { Err(Foreign) }
}

fn why_out(why: Why) -> wire::Why {
    match why {
        Why::NoSuchPartition => wire::Why::NoSuchPartition,
        Why::NoSuchNode => wire::Why::NoSuchNode,
        Why::NotAlive => wire::Why::NotAlive,
        Why::NotReady => wire::Why::NotReady,
        Why::NoOwner => wire::Why::NoOwner,
        Why::Busy => wire::Why::Busy,
        Why::Other => wire::Why::Other,
    }
}

/// What a later version says, too.
fn why_in(why: wire::Why) -> Why {
    match why {
        wire::Why::NoSuchPartition => Why::NoSuchPartition,
        wire::Why::NoSuchNode => Why::NoSuchNode,
        wire::Why::NotAlive => Why::NotAlive,
        wire::Why::NotReady => Why::NotReady,
        wire::Why::NoOwner => Why::NoOwner,
        wire::Why::Busy => Why::Busy,
        wire::Why::Other | wire::Why::Unspecified => Why::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat() -> Beat {
        let node = NodeInfo {
            id: NodeId(u64::MAX),
            name: "node-a".to_owned(),
            address: "node-a:7100".to_owned(),
            format: 3,
            version: "0.1.0".to_owned(),
            started_at: 7,
        };
        let holdings =
            [Holding::Loading(Seq(1)), Holding::Serving(Seq(2)), Holding::Giving(Seq(3))];
        let held = holdings.into_iter().enumerate().map(|(at, holding)| Held {
            partition: Partition(255 - at as u8),
            holding,
            pinned: at == 1,
        });
        Beat {
            node: Arc::new(node),
            number: 9,
            wall: 10,
            leaving: true,
            declines: true,
            held: held.collect(),
            claiming: vec![Partition(4)],
        }
    }

    fn all() -> Vec<Message> {
        let (id, address) = (NodeId(5), "a:1".to_owned());
        let whys = [
            Why::NoSuchPartition,
            Why::NoSuchNode,
            Why::NotAlive,
            Why::NotReady,
            Why::NoOwner,
            Why::Busy,
            Why::Other,
        ];
        let claim = ClaimNow { partition: Partition(1), ended: Seq(2), pinned: true };
        let mut all = vec![
            Message::Beat(beat()),
            Message::Ping,
            Message::ClaimNow(claim),
            Message::ReadAhead(Partition(3)),
            Message::Move { partition: Partition(3), to: "node-b".to_owned() },
            Message::Outcome(Ok(())),
            Message::WhoHas { id, address: address.clone() },
            Message::Named { id, address, joined: true },
        ];
        all.extend(whys.map(|why| Message::Outcome(Err(why))));
        all
    }

    #[test]
    fn every_message_comes_in_as_it_went_out() {
        for message in all() {
            assert_eq!(decode(&encode(&message)), Ok(message));
        }
    }

    #[test]
    fn a_beat_about_all_partitions_has_room() {
        let held = (0..=255).map(|at| Held {
            partition: Partition(at),
            holding: Holding::Serving(Seq(u64::MAX)),
            pinned: true,
        });
        let text = "x".repeat(MAX_NAME_BYTES);
        let node = NodeInfo { name: text.clone(), address: text, ..(*beat().node).clone() };
        let claiming = (0..=255).map(Partition).collect();
        let beat = Beat { node: Arc::new(node), held: held.collect(), claiming, ..beat() };
        assert!(decode(&encode(&Message::Beat(beat))).is_ok());
    }

    #[test]
    fn bytes_that_are_damaged_are_foreign_or_another_message_and_no_panic() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let message = &all()[random.usize(..all().len())];
            let mut bytes = encode(message).to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn what_would_break_a_line_of_the_log_is_foreign() {
        let node = NodeInfo { name: "a\nb".to_owned(), ..(*beat().node).clone() };
        let beat = Beat { node: Arc::new(node), ..beat() };
        assert_eq!(decode(&encode(&Message::Beat(beat))), Err(Foreign));
        assert_eq!(decode(b"sd\x02"), Err(Foreign), "another version");
        assert_eq!(decode(&[MARK.as_slice(), &[0; MAX_MESSAGE_BYTES]].concat()), Err(Foreign));
    }
}
