//! The tables of the store, and what one transaction does to them.

use super::entry::Written;
use crate::log::{Content, Entry, Partition, Seq, Snapshot, head::Head};
use redb::{AccessGuard, Error, ReadableTable, Table, TableDefinition, WriteTransaction};

/// Words about the store as a whole: its format.
pub const STORE: TableDefinition<'_, &str, u64> = TableDefinition::new("store");

/// Where each partition has come to; see [`Row`].
pub const HEADS: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("heads");

/// Batches, claims and releases by partition and place.
pub const CHAIN: TableDefinition<'_, (u8, u64), &[u8]> = TableDefinition::new("chain");

/// Snapshots by partition and place.
pub const SNAPSHOTS: TableDefinition<'_, (u8, u64), &[u8]> = TableDefinition::new("snapshots");

/// The place of the snapshot of each key, by partition and key.
pub const KEYS: TableDefinition<'_, (u8, &[u8]), u64> = TableDefinition::new("keys");

/// The row of [`STORE`] with the format.
pub const FORMAT_KEY: &str = "format";

/// The format that is written, and the greatest that is read.
pub const FORMAT: u64 = 1;

/// How many entries one transaction trims at most, so that no append waits long for it.
const TRIMMED_AT_ONCE: usize = 4096;

/// Where a partition has come to, and how many bytes it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Row {
    /// Where it has come to.
    pub head: Head,
    /// Bytes that its entries take in the file, estimated.
    pub used: u64,
}

impl Row {
    /// Four numbers and their CRC-32.
    const BYTES: usize = 36;

    /// What is stored of it.
    pub fn write(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let numbers = [self.head.seq.0, self.head.chain.0, self.head.oldest.0, self.used];
        for (to, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        let sum = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// None if the checksum is wrong.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (numbers, sum) = bytes.split_at_checked(32)?;
        if sum != crc32fast::hash(numbers).to_le_bytes() {
            return None;
        }
        let mut numbers = numbers
            .chunks_exact(8)
            .map(|it| u64::from_le_bytes(it.try_into().expect("eight bytes")));
        let mut number = || numbers.next().expect("four numbers");
        let head = Head::found(Seq(number()), Seq(number()), Seq(number()));
        Some(Self { head, used: number() })
    }
}

/// Bytes that an entry takes in the file: small ones share pages that are partly empty, a large one
/// has a power of two of pages to itself.
pub fn footprint(bytes: usize) -> u64 {
    const PAGE: u64 = 4096;
    const AROUND: u64 = 48;
    let bytes = bytes as u64 + AROUND;
    if bytes < PAGE / 2 { bytes * 3 / 2 } else { bytes.div_ceil(PAGE).next_power_of_two() * PAGE }
}

/// The tables of one transaction.
pub struct Tables<'t> {
    heads: Table<'t, u8, &'static [u8]>,
    chain: Table<'t, (u8, u64), &'static [u8]>,
    snapshots: Table<'t, (u8, u64), &'static [u8]>,
    keys: Table<'t, (u8, &'static [u8]), u64>,
}

impl<'t> Tables<'t> {
    /// Opens all of them, and makes those that are not there.
    pub fn open(transaction: &'t WriteTransaction) -> Result<Self, Error> {
        Ok(Self {
            heads: transaction.open_table(HEADS)?,
            chain: transaction.open_table(CHAIN)?,
            snapshots: transaction.open_table(SNAPSHOTS)?,
            keys: transaction.open_table(KEYS)?,
        })
    }

    /// Where each partition has come to, for all that have a row. A row that cannot be read is made
    /// again from the entries: nothing of theirs is lost with it.
    pub fn rows(&self) -> Result<Vec<Row>, Error> {
        (0..=u8::MAX).map(|partition| self.row(partition)).collect()
    }

    fn row(&self, partition: u8) -> Result<Row, Error> {
        let stored = self.heads.get(partition)?;
        let Some(bytes) = stored else { return Ok(Row::default()) };
        if let Some(row) = Row::read(bytes.value()) {
            return Ok(row);
        }
        let range = (partition, 0)..=(partition, u64::MAX);
        let place = |entry: Option<(AccessGuard<'_, (u8, u64)>, _)>| {
            Seq(entry.map_or(0, |(key, _): (_, AccessGuard<'_, &[u8]>)| key.value().1))
        };
        let mut all = self.chain.range(range.clone())?;
        let oldest = place(all.next().transpose()?);
        let chain = oldest.max(place(all.next_back().transpose()?));
        let snapshot = place(self.snapshots.range(range)?.next_back().transpose()?);
        let head = Head::found(chain.max(snapshot), chain, oldest);
        Ok(Row { head, used: self.used(partition)? })
    }

    fn used(&self, partition: u8) -> Result<u64, Error> {
        let mut used = 0;
        for table in [&self.chain, &self.snapshots] {
            for entry in table.range((partition, 0)..=(partition, u64::MAX))? {
                used += footprint(entry?.1.value().len());
            }
        }
        Ok(used)
    }

    /// Writes where a partition has come to.
    pub fn set_row(&mut self, partition: Partition, row: &Row) -> Result<(), Error> {
        self.heads.insert(partition.0, &row.write()[..])?;
        Ok(())
    }

    /// Adds a batch, claim or release.
    pub fn add(
        &mut self,
        partition: Partition,
        row: &mut Row,
        content: Content,
    ) -> Result<(), Error> {
        let (seq, previous) = row.head.link();
        let term = if let Content::Claim(_) = content { seq } else { row.head.term };
        let entry = Entry { seq, term, content };
        put(&mut self.chain, &Written::new(partition, &entry, previous), row)
    }

    /// Replaces the snapshot of a key.
    pub fn snapshot(
        &mut self,
        partition: Partition,
        row: &mut Row,
        snapshot: &Snapshot,
    ) -> Result<(), Error> {
        let seq = row.head.place();
        let Snapshot { key, state } = snapshot;
        let place = (partition.0, &key[..]);
        let earlier = match state {
            Some(_) => self.keys.insert(place, seq.0)?,
            None => self.keys.remove(place)?,
        };
        if let Some(earlier) = earlier.map(|it| it.value())
            && let Some(bytes) = self.snapshots.remove((partition.0, earlier))?
        {
            row.used = row.used.saturating_sub(footprint(bytes.value().len()));
        }
        let Some(state) = state.clone() else { return Ok(()) };
        let content = Content::Snapshot { key: key.clone(), state };
        let entry = Entry { seq, term: row.head.term, content };
        put(&mut self.snapshots, &Written::new(partition, &entry, Seq(0)), row)
    }

    /// Removes what the chain has below a place, except for its last entry. Whether there is more
    /// to remove.
    pub fn trim(&mut self, partition: Partition, row: &mut Row, below: Seq) -> Result<bool, Error> {
        row.head.oldest = row.head.oldest.max(row.head.chain.min(below));
        let range = (partition.0, 0)..(partition.0, row.head.oldest.0);
        let mut removed = 0;
        for entry in self.chain.extract_from_if(range, |_, _| true)?.take(TRIMMED_AT_ONCE) {
            row.used = row.used.saturating_sub(footprint(entry?.1.value().len()));
            removed += 1;
        }
        Ok(removed == TRIMMED_AT_ONCE)
    }
}

fn put(
    table: &mut Table<'_, (u8, u64), &'static [u8]>,
    written: &Written<'_>,
    row: &mut Row,
) -> Result<(), Error> {
    written.write(table.insert_reserve(written.place(), written.len())?.as_mut());
    row.used += footprint(written.len());
    Ok(())
}
