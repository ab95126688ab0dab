//! Several entries as one piece of bytes: each after its length in four bytes, least byte first.

use super::{Entry, Unreadable, VERSION, decode, encode_as};

/// Adds an entry.
pub fn put(batch: &mut Vec<u8>, entry: &Entry) {
    put_as(VERSION, batch, entry);
}

/// Adds an entry of a version, as [`encode_as`](super::encode_as) does.
pub fn put_as(version: u8, batch: &mut Vec<u8>, entry: &Entry) {
    let bytes = encode_as(version, entry);
    // A session is far smaller: its parts are bounded.
    let length = u32::try_from(bytes.len()).expect("an entry is smaller than 4 GiB");
    batch.extend(length.to_le_bytes());
    batch.extend(bytes);
}

/// The entries of a batch, in their order. After bytes that cannot be split there is nothing more.
#[derive(Debug)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    /// Those of these bytes.
    pub fn of(batch: &'a [u8]) -> Self {
        Self(batch)
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let split = self
            .0
            .split_first_chunk()
            .and_then(|(length, rest)| rest.split_at_checked(u32::from_le_bytes(*length) as usize));
        let (entry, rest) = split.unwrap_or_default();
        self.0 = rest;
        Some(if split.is_some() { decode(entry) } else { Err(Unreadable::Damaged) })
    }
}
