//! How an entry is written in a message: 32 bytes of head, the key of a snapshot, the bytes.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | version, 1 |
//! | 1 | kind |
//! | 2..4 | length of the key |
//! | 4..8 | CRC-32 of partition, place and everything else |
//! | 8..16 | term |
//! | 16..24 | in the chain: the batch, claim, release or trim before this one; 0 = see [`Chain`] |
//! | 24..32 | in the chain: everything of it below this place is trimmed; in a snapshot: which piece (4 bytes) of how many (4 bytes) |
//!
//! Numbers are little-endian.

use crate::log::{LogError, NodeId, Partition, Seq};
use bytes::{BufMut, Bytes, BytesMut};

/// The version that is written, and the greatest that is read.
const VERSION: u8 = 1;

/// Bytes before the key.
const HEAD: usize = 32;

/// The most that a message has beside key and bytes.
pub const OVERHEAD: usize = HEAD;

const CLAIM: u8 = 1;
const BATCH: u8 = 2;
const PIECE: u8 = 3;
const RELEASE: u8 = 4;
const TRIM: u8 = 5;
const GONE: u8 = 6;

/// What is written in one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A batch, claim, release or trim.
    Chain(Chain, Link),
    /// A piece of a snapshot: the whole has `count` of them, one after the other.
    Piece {
        /// Whose state it is.
        key: Bytes,
        /// Its number, from 0 on.
        index: u32,
        /// How many there are.
        count: u32,
        /// Its bytes of the state.
        bytes: Bytes,
    },
    /// A key is gone: what there is of its snapshots before this place counts for nothing.
    Gone {
        /// Which key.
        key: Bytes,
    },
}

/// An entry of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chain {
    /// A writer claimed the partition. In a race with a writer that never rests it cannot know the
    /// entry before it, and then it names none.
    Claim(NodeId),
    /// What a writer appended.
    Batch(Bytes),
    /// The writer gave the partition back.
    Release,
    /// What is trimmed has changed. It is written before anything is removed, so what is missing
    /// below that place is no gap.
    Trim,
}

/// What every entry of the chain knows of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// The entry before it.
    pub previous: Seq,
    /// Everything below this place is trimmed.
    pub oldest: Seq,
}

/// A record at its place.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// Where.
    pub partition: Partition,
    /// Its sequence number in the stream.
    pub seq: Seq,
    /// The term of its writer.
    pub term: Seq,
}

/// Writes a record for a place.
pub fn write(at: At, record: &Record) -> Bytes {
    let node;
    let (kind, key, body, numbers) = match record {
        Record::Chain(chain, link) => {
            let (kind, body) = match chain {
                Chain::Claim(NodeId(id)) => {
                    node = id.to_le_bytes();
                    (CLAIM, &node[..])
                }
                Chain::Batch(batch) => (BATCH, &batch[..]),
                Chain::Release => (RELEASE, &[][..]),
                Chain::Trim => (TRIM, &[][..]),
            };
            (kind, &[][..], body, (link.previous.0, link.oldest.0))
        }
        Record::Piece { key, index, count, bytes } => {
            let of = u64::from(*index) | u64::from(*count) << 32;
            (PIECE, &key[..], &bytes[..], (0, of))
        }
        Record::Gone { key } => (GONE, &key[..], &[][..], (0, 0)),
    };
    let mut written = BytesMut::with_capacity(HEAD + key.len() + body.len());
    written.put_u8(VERSION);
    written.put_u8(kind);
    written.put_u16_le(key.len() as u16);
    written.put_u32_le(0);
    written.put_u64_le(at.term.0);
    written.put_u64_le(numbers.0);
    written.put_u64_le(numbers.1);
    written.put_slice(key);
    written.put_slice(body);
    let sum = sum(at.partition, at.seq, &written);
    written[4..8].copy_from_slice(&sum.to_le_bytes());
    written.freeze()
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// A record, and the term of its writer.
    Whole(Record, Seq),
    /// Its checksum is wrong, or no writer of this log wrote it.
    Lost,
}

/// Reads what a message at a place holds.
pub fn read(partition: Partition, seq: Seq, bytes: &Bytes) -> Result<Read, LogError> {
    if bytes.len() < HEAD || sum(partition, seq, bytes).to_le_bytes() != bytes[4..8] {
        return Ok(Read::Lost);
    }
    if bytes[0] > VERSION {
        return Err(LogError::Newer { found: bytes[0].into(), known: VERSION.into() });
    }
    let key = HEAD + usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
    if key > bytes.len() {
        return Ok(Read::Lost);
    }
    let (key, body) = (bytes.slice(HEAD..key), bytes.slice(key..));
    let (term, first, second) = (number(&bytes[8..]), number(&bytes[16..]), number(&bytes[24..]));
    let chain = |chain| Record::Chain(chain, Link { previous: Seq(first), oldest: Seq(second) });
    let record = match bytes[1] {
        CLAIM if body.len() == 8 => chain(Chain::Claim(NodeId(number(&body)))),
        BATCH => chain(Chain::Batch(body)),
        RELEASE => chain(Chain::Release),
        TRIM => chain(Chain::Trim),
        PIECE => {
            Record::Piece { key, index: second as u32, count: (second >> 32) as u32, bytes: body }
        }
        GONE => Record::Gone { key },
        _ => return Ok(Read::Lost),
    };
    Ok(Read::Whole(record, Seq(term)))
}

/// Over everything but the sum itself.
fn sum(partition: Partition, seq: Seq, written: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[partition.0]);
    hasher.update(&seq.0.to_le_bytes());
    hasher.update(&written[..4]);
    hasher.update(&written[8..]);
    hasher.finalize()
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: At = At { partition: Partition(7), seq: Seq(300), term: Seq(299) };

    fn records() -> Vec<Record> {
        let link = Link { previous: Seq(298), oldest: Seq(17) };
        let chain =
            [Chain::Claim(NodeId(9)), Chain::Batch("batch".into()), Chain::Release, Chain::Trim];
        let piece = Record::Piece { key: "a/b".into(), index: 2, count: 5, bytes: "state".into() };
        let others = [piece, Record::Gone { key: "a/b".into() }];
        chain.map(|it| Record::Chain(it, link)).into_iter().chain(others).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for record in records() {
            let read = read(AT.partition, AT.seq, &write(AT, &record));
            assert_eq!(read.expect("a known version"), Read::Whole(record, AT.term));
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_loses_the_record() {
        for record in records() {
            let written = write(AT, &record);
            for bit in 0..written.len() * 8 {
                let mut flipped = written.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let read = read(AT.partition, AT.seq, &flipped.into());
                assert_eq!(read.expect("no version"), Read::Lost, "bit {bit} of {record:?}");
            }
        }
    }

    #[test]
    fn a_record_at_another_place_or_cut_short_is_lost() {
        for record in records() {
            let written = write(AT, &record);
            let is_lost = |read: Result<Read, LogError>| read.expect("known") == Read::Lost;
            assert!(is_lost(read(AT.partition, Seq(301), &written)));
            assert!(is_lost(read(Partition(8), AT.seq, &written)));
            for length in 0..written.len() {
                assert!(is_lost(read(AT.partition, AT.seq, &written.slice(..length))), "{length}");
            }
        }
    }

    #[test]
    fn a_record_of_a_newer_version_is_an_error() {
        for record in records() {
            let mut written = write(AT, &record).to_vec();
            written[0] = VERSION + 1;
            let sum = sum(AT.partition, AT.seq, &written);
            written[4..8].copy_from_slice(&sum.to_le_bytes());
            let error = read(AT.partition, AT.seq, &written.into()).expect_err("a newer version");
            assert!(matches!(error, LogError::Newer { found: 2, known: 1 }), "{error}");
        }
    }
}
