//! A disk that fails: with an error, without space, or because the power goes, at any write, change
//! of length or sync.

use fastrand::Rng;
use parking_lot::Mutex;
use redb::StorageBackend;
use sessiond::log::redb::{Disk, Space};
use std::{
    io::{self, ErrorKind},
    sync::Arc,
};

/// Bytes that a disk writes completely or not at all.
const SECTOR: usize = 512;

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An error, and from then on each time.
    Error,
    /// There is no space, from then on until some is freed. What has its place can be written over:
    /// the first page, say.
    Space,
    /// Not even that, as where files are copied on write.
    SpaceForNothing,
    /// Half of what is written is there, then an error.
    ShortWrite,
    /// The power goes. What was not synced is lost.
    LostTail,
    /// The power goes. Of what was not synced some sectors are there.
    TornPage,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::Error,
        Self::Space,
        Self::SpaceForNothing,
        Self::ShortWrite,
        Self::LostTail,
        Self::TornPage,
    ];

    /// Whether the system ends, and not just the process.
    fn is_power(self) -> bool {
        matches!(self, Self::LostTail | Self::TornPage)
    }

    fn is_space(self) -> bool {
        matches!(self, Self::Space | Self::SpaceForNothing)
    }
}

/// Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What the process sees.
    current: Vec<u8>,
    /// What is there for certain.
    synced: Vec<u8>,
    unsynced: Vec<Change>,
    /// Writes, changes of length and syncs so far.
    operations: usize,
    /// At which of them it fails.
    fault: Option<(usize, Kind)>,
    failed: bool,
    /// Some space was set aside.
    has_aside: bool,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl FaultyDisk {
    /// A disk with something on it.
    pub fn with(bytes: Vec<u8>) -> Self {
        let state = State { current: bytes.clone(), synced: bytes, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// It fails after so many operations more.
    pub fn fail(&self, after: usize, kind: Kind) {
        let mut state = self.0.lock();
        state.fault = Some((state.operations + after, kind));
    }

    pub fn operations(&self) -> usize {
        self.0.lock().operations
    }

    pub fn has_failed(&self) -> bool {
        self.0.lock().failed
    }

    /// There is space again, if that was what it lacked.
    pub fn free(&self) {
        let mut state = self.0.lock();
        if state.failed {
            state.fault.take_if(|(_, kind)| kind.is_space());
        }
    }

    /// What the next process finds.
    pub fn after_crash(&self, random: &mut Rng) -> Self {
        let state = self.0.lock();
        let mut bytes = match state.fault {
            // The process ends, the system goes on, and sometimes it does not either.
            fault if !fault.is_some_and(|(_, kind)| kind.is_power()) && random.bool() => {
                return Self::with(state.current.clone());
            }
            _ => state.synced.clone(),
        };
        if !matches!(state.fault, Some((_, Kind::LostTail))) {
            // Lengths come to the disk in their order, sectors in any.
            let lengths = random.usize(..=state.unsynced.len());
            for (number, change) in state.unsynced.iter().enumerate() {
                match change {
                    Change::Length(length) if number < lengths => bytes.resize(*length, 0),
                    Change::Length(_) => {}
                    Change::Write(offset, data) => torn(&mut bytes, *offset, data, random),
                }
            }
        }
        Self::with(bytes)
    }
}

/// Writes some of the sectors: none, all, or a few.
fn torn(bytes: &mut [u8], offset: usize, data: &[u8], random: &mut Rng) {
    let survival = *random.choice(&[0.0, 0.5, 1.0]).expect("three");
    let mut at = 0;
    while at < data.len() {
        let end = data.len().min(at + SECTOR - (offset + at) % SECTOR);
        if random.f64() < survival
            && let Some(to) = bytes.get_mut(offset + at..offset + end)
        {
            to.copy_from_slice(&data[at..end]);
        }
        at = end;
    }
}

impl State {
    /// Counts an operation; how it fails, if it does.
    fn operate(&mut self) -> Option<Kind> {
        self.operations += 1;
        let kind = self.fault.filter(|(at, _)| self.operations > *at).map(|(_, kind)| kind);
        self.failed |= kind.is_some();
        kind
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        self.current[offset..offset + data.len()].copy_from_slice(data);
        self.unsynced.push(Change::Write(offset, data.to_vec()));
    }
}

impl Disk for FaultyDisk {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.clone()))
    }

    fn space(&self) -> io::Result<Space> {
        Ok(Space { taken: self.0.lock().current.len() as u64, available: u64::MAX })
    }

    fn set_aside(&self) {
        self.0.lock().has_aside = true;
    }

    fn give_back(&self) -> bool {
        let mut state = self.0.lock();
        let was_there = std::mem::take(&mut state.has_aside);
        state.fault.take_if(|(_, kind)| was_there && kind.is_space());
        was_there
    }
}

impl StorageBackend for FaultyDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = offset as usize;
        let state = self.0.lock();
        let bytes = state.current.get(offset..offset + out.len());
        out.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = length as usize;
        let mut state = self.0.lock();
        match state.operate() {
            None => {}
            Some(kind) if kind.is_space() && length <= state.current.len() => {}
            Some(kind) => return Err(kind.error()),
        }
        state.current.resize(length, 0);
        state.unsynced.push(Change::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        match state.operate() {
            None => {}
            Some(kind) if kind.is_space() => {}
            Some(kind) => return Err(kind.error()),
        }
        let State { synced, unsynced, .. } = &mut *state;
        for change in unsynced.drain(..) {
            match change {
                Change::Write(offset, data) => {
                    synced[offset..offset + data.len()].copy_from_slice(&data);
                }
                Change::Length(length) => synced.resize(length, 0),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        let offset = offset as usize;
        match state.operate() {
            None => state.write(offset, data),
            Some(Kind::Space) if offset == 0 => state.write(offset, data),
            Some(kind) if kind == Kind::ShortWrite || kind.is_space() => {
                // Where a commit is made valid all of it may be there, whatever the error says.
                let there = if offset == 0 { data.len() } else { data.len() / 2 };
                state.write(offset, &data[..there]);
                return Err(kind.error());
            }
            Some(kind) => return Err(kind.error()),
        }
        Ok(())
    }
}

impl Kind {
    fn error(self) -> io::Error {
        match self {
            Self::Space | Self::SpaceForNothing => ErrorKind::StorageFull.into(),
            // EIO
            _ => io::Error::from_raw_os_error(5),
        }
    }
}
