//! How an entry is written: 24 bytes of head, the key of a snapshot, the bytes.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | version, 1 |
//! | 1 | kind |
//! | 2..4 | length of the key |
//! | 4..8 | CRC-32 of partition, place and everything else |
//! | 8..16 | term |
//! | 16..24 | the batch, claim or release before this one; 0 in a snapshot |
//!
//! Numbers are little-endian.

use crate::log::{Content, Entry, LogError, NodeId, Partition, Seq};
use bytes::Bytes;

/// The version that is written, and the greatest that is read.
const VERSION: u8 = 1;

/// Bytes before the key.
const HEAD: usize = 24;

const CLAIM: u8 = 1;
const BATCH: u8 = 2;
const SNAPSHOT: u8 = 3;
const RELEASE: u8 = 4;

/// An entry as it is written, in the parts that it is made of.
pub struct Written<'a> {
    partition: Partition,
    seq: Seq,
    head: [u8; HEAD],
    key: &'a [u8],
    body: Body<'a>,
}

enum Body<'a> {
    Bytes(&'a [u8]),
    Node([u8; 8]),
}

impl<'a> Written<'a> {
    /// Takes an entry of a partition, and the one of its chain before it.
    pub fn new(partition: Partition, entry: &'a Entry, previous: Seq) -> Self {
        let (kind, key, body) = match &entry.content {
            Content::Claim(node) => (CLAIM, &[][..], Body::Node(node.0.to_le_bytes())),
            Content::Batch(batch) => (BATCH, &[][..], Body::Bytes(batch)),
            Content::Snapshot { key, state } => (SNAPSHOT, &key[..], Body::Bytes(state)),
            Content::Release => (RELEASE, &[][..], Body::Bytes(&[])),
            Content::Lost { .. } => unreachable!("what is lost is not written"),
        };
        let mut head = [0; HEAD];
        head[0] = VERSION;
        head[1] = kind;
        head[2..4].copy_from_slice(&(key.len() as u16).to_le_bytes());
        head[8..16].copy_from_slice(&entry.term.0.to_le_bytes());
        head[16..24].copy_from_slice(&previous.0.to_le_bytes());
        let mut written = Self { partition, seq: entry.seq, head, key, body };
        let sum = sum(partition, entry.seq, &written.head, &[written.key, written.body()]);
        written.head[4..8].copy_from_slice(&sum.to_le_bytes());
        written
    }

    /// Where it belongs.
    pub fn place(&self) -> (u8, u64) {
        (self.partition.0, self.seq.0)
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        HEAD + self.key.len() + self.body().len()
    }

    /// Writes it where exactly as many bytes are free.
    pub fn write(&self, to: &mut [u8]) {
        let (head, rest) = to.split_at_mut(HEAD);
        let (key, body) = rest.split_at_mut(self.key.len());
        head.copy_from_slice(&self.head);
        key.copy_from_slice(self.key);
        body.copy_from_slice(self.body());
    }

    fn body(&self) -> &[u8] {
        match &self.body {
            Body::Bytes(bytes) => bytes,
            Body::Node(node) => node,
        }
    }
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// An entry, and the one of its chain before it.
    Whole(Entry, Seq),
    /// Its checksum is wrong.
    Lost,
}

/// Reads what is written at a place.
pub fn read(partition: Partition, seq: Seq, bytes: &[u8]) -> Result<Read, LogError> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Ok(Read::Lost) };
    if sum(partition, seq, head, &[rest]) != u32::from_le_bytes(part(head, 4)) {
        return Ok(Read::Lost);
    }
    if head[0] > VERSION {
        return Err(LogError::Newer { found: head[0].into(), known: VERSION.into() });
    }
    let key = usize::from(u16::from_le_bytes(part(head, 2)));
    let Some((key, body)) = rest.split_at_checked(key) else { return Ok(Read::Lost) };
    let content = match (head[1], body) {
        (CLAIM, node) if node.len() == 8 => Content::Claim(NodeId(number(node))),
        (BATCH, batch) => Content::Batch(Bytes::copy_from_slice(batch)),
        (SNAPSHOT, state) => Content::Snapshot {
            key: Bytes::copy_from_slice(key),
            state: Bytes::copy_from_slice(state),
        },
        (RELEASE, _) => Content::Release,
        _ => return Ok(Read::Lost),
    };
    let (term, previous) = (Seq(number(&head[8..16])), Seq(number(&head[16..24])));
    Ok(Read::Whole(Entry { seq, term, content }, previous))
}

fn sum(partition: Partition, seq: Seq, head: &[u8; HEAD], rest: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[partition.0]);
    hasher.update(&seq.0.to_le_bytes());
    hasher.update(&head[..4]);
    hasher.update(&head[8..]);
    rest.iter().for_each(|bytes| hasher.update(bytes));
    hasher.finalize()
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("as many bytes")
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(part(bytes, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITION: Partition = Partition(7);

    fn written(entry: &Entry, previous: Seq) -> Vec<u8> {
        let written = Written::new(PARTITION, entry, previous);
        let mut bytes = vec![0; written.len()];
        written.write(&mut bytes);
        bytes
    }

    fn entries() -> [Entry; 4] {
        let snapshot = Content::Snapshot { key: "a/b".into(), state: "state".into() };
        [Content::Claim(NodeId(9)), Content::Batch("batch".into()), snapshot, Content::Release]
            .map(|content| Entry { seq: Seq(300), term: Seq(299), content })
    }

    #[test]
    fn what_is_written_is_read() {
        for entry in entries() {
            let bytes = written(&entry, Seq(298));
            let read = read(PARTITION, entry.seq, &bytes).expect("a version that is known");
            assert_eq!(read, Read::Whole(entry, Seq(298)));
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_loses_the_entry() {
        for entry in entries() {
            let bytes = written(&entry, Seq(298));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let read = read(PARTITION, entry.seq, &flipped).expect("no version");
                assert_eq!(read, Read::Lost, "bit {bit} of {entry:?}");
            }
        }
    }

    #[test]
    fn an_entry_at_another_place_is_lost() {
        let [entry, ..] = entries();
        let bytes = written(&entry, Seq(298));
        assert_eq!(read(PARTITION, Seq(301), &bytes).expect("known"), Read::Lost);
        assert_eq!(read(Partition(8), entry.seq, &bytes).expect("known"), Read::Lost);
    }

    #[test]
    fn an_entry_of_a_newer_version_is_an_error() {
        let [entry, ..] = entries();
        let mut bytes = written(&entry, Seq(298));
        bytes[0] = VERSION + 1;
        let (head, rest) = bytes.split_first_chunk().expect("a head");
        let sum = sum(PARTITION, entry.seq, head, &[rest]);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        let error = read(PARTITION, entry.seq, &bytes).expect_err("a newer version");
        assert!(matches!(error, LogError::Newer { found: 2, known: 1 }), "{error}");
    }
}
