//! Space that is set aside for the moment in which the disk is full: a file that holds nothing, and
//! whose removal leaves its blocks to what was accepted before anybody knew.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// The name of the file, in the folder of the store.
pub const FILE: &str = "reserve";

/// Bytes that are set aside.
const BYTES: u64 = 32 << 20;

/// The file, whether it is there or not.
#[derive(Debug)]
pub struct Aside {
    path: PathBuf,
    /// The file system does not do it.
    is_refused: AtomicBool,
}

impl Aside {
    /// That of a store's folder.
    pub fn new(folder: &Path) -> Self {
        Self { path: folder.join(FILE), is_refused: AtomicBool::new(false) }
    }

    /// Bytes that are set aside now.
    #[cfg(unix)]
    pub fn bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;

        fs::metadata(&self.path).map_or(0, |file| file.blocks() * 512)
    }

    /// Bytes that are set aside now.
    #[cfg(not(unix))]
    pub fn bytes(&self) -> u64 {
        0
    }

    /// Sets space aside, unless that is done. A file system that cannot do that goes without.
    pub fn set(&self) {
        if self.bytes() >= BYTES || self.is_refused.load(Ordering::Relaxed) {
            return;
        }
        let outcome = fs::File::create(&self.path).and_then(|file| allocate(&file));
        if outcome.is_err() {
            self.is_refused.store(true, Ordering::Relaxed);
            self.give_back();
        }
    }

    /// Gives the space back; false = there was none.
    pub fn give_back(&self) -> bool {
        fs::remove_file(&self.path).is_ok()
    }
}

#[cfg(target_os = "linux")]
fn allocate(file: &fs::File) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};

    Ok(fallocate(file, FallocateFlags::empty(), 0, BYTES)?)
}

#[cfg(not(target_os = "linux"))]
fn allocate(_: &fs::File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
