//! Cuts the bytes of a request into its messages.

use crate::grpc::{compression, encode::PREFIX, error::Refusal};
use bytes::{Buf, Bytes, BytesMut};

/// How the messages of a request come in.
#[derive(Debug, Clone, Copy)]
pub struct Framing {
    /// The most bytes of a message, before and after it is inflated.
    pub most: usize,
    /// Messages may be compressed, with gzip.
    pub gzip: bool,
}

/// What precedes a message.
struct Prefix {
    compressed: bool,
    length: usize,
}

/// The bytes that came in and are not taken out yet.
#[derive(Debug)]
pub struct Inbox {
    framing: Framing,
    /// What came in last, as it came; it may pin more memory than it shows.
    piece: Bytes,
    /// What came before it.
    buffer: BytesMut,
}

impl Inbox {
    /// An empty one.
    pub fn new(framing: Framing) -> Self {
        Self { framing, piece: Bytes::new(), buffer: BytesMut::new() }
    }

    /// Takes bytes in.
    pub fn push(&mut self, data: Bytes) {
        self.keep();
        match self.buffer.is_empty() {
            true => self.piece = data,
            false => self.buffer.extend_from_slice(&data),
        }
    }

    /// The next message that is whole. After a fault nothing else can be read.
    pub fn next(&mut self) -> Option<Result<Bytes, Refusal>> {
        let data: &[u8] = if self.buffer.is_empty() { &self.piece } else { &self.buffer };
        let whole = match self.prefix(data) {
            Err(refusal) => return Some(Err(refusal)),
            Ok(prefix) => prefix.filter(|prefix| data.len() >= PREFIX + prefix.length),
        };
        let Some(prefix) = whole else {
            self.keep();
            return None;
        };
        let message = if self.buffer.is_empty() {
            self.piece.advance(PREFIX);
            self.piece.split_to(prefix.length)
        } else {
            self.buffer.advance(PREFIX);
            self.buffer.split_to(prefix.length).freeze()
        };
        Some(match prefix.compressed {
            true => compression::inflate(&message, self.framing.most),
            false => Ok(message),
        })
    }

    /// How many bytes are in here.
    pub fn len(&self) -> usize {
        self.piece.len() + self.buffer.len()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies what waits, so that it pins no more than itself.
    fn keep(&mut self) {
        if !self.piece.is_empty() {
            self.buffer.extend_from_slice(&std::mem::take(&mut self.piece));
        }
    }

    /// The prefix of the next message, once it is there.
    fn prefix(&self, data: &[u8]) -> Result<Option<Prefix>, Refusal> {
        let Framing { most, gzip } = self.framing;
        let Some((prefix, _)) = data.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let [flag, length @ ..] = *prefix;
        let compressed = match flag {
            0 => false,
            1 if gzip => true,
            1 => return Err(Refusal::Malformed("it is compressed, without an encoding".into())),
            flag => return Err(Refusal::Malformed(format!("its compressed flag is {flag}"))),
        };
        let length = u32::from_be_bytes(length) as usize;
        if length > most {
            return Err(Refusal::MessageTooLarge { most });
        }
        Ok(Some(Prefix { compressed, length }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;
    use proptest::prelude::*;

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.put_u8(0);
            bytes.put_u32(message.len() as u32);
            bytes.put_slice(message);
        }
        bytes
    }

    fn inbox() -> Inbox {
        Inbox::new(Framing { most: 64, gzip: false })
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_they_are_cut_and_whenever_they_are_taken(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
            cuts in prop::collection::vec((1usize..40, 0usize..4), 1..60),
        ) {
            let mut inbox = inbox();
            let mut out = Vec::new();
            let mut rest = Bytes::from(framed(&messages));
            for &(cut, taken) in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                inbox.push(rest.split_to(rest.len().min(cut)));
                let taken = std::iter::from_fn(|| inbox.next()).take(taken);
                out.extend(taken.map(|message| message.expect("all are fine").to_vec()));
            }
            out.extend(std::iter::from_fn(|| inbox.next()).map(|it| it.expect("all are").to_vec()));
            prop_assert_eq!(out, messages);
            prop_assert!(inbox.is_empty());
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_by_its_prefix() {
        let next = |length: u32| {
            let mut inbox = inbox();
            let mut prefix = vec![0];
            prefix.put_u32(length);
            inbox.push(prefix.into());
            inbox.next()
        };
        assert_eq!(next(64), None);
        assert_eq!(next(65), Some(Err(Refusal::MessageTooLarge { most: 64 })));
    }
}
