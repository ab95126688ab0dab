//! Where the bytes of the store lie: a file in a folder of its own, or what a test puts in its
//! place.

use super::{aside::Aside, database::is_no_space};
use redb::{StorageBackend, backends::FileBackend};
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

/// The name of the file with the entries, in the folder of the store.
pub const FILE: &str = "log.redb";

/// The name of the file that is locked as long as a process has the store open.
pub const LOCK: &str = "lock";

/// The name under which that file is made. A crash may leave it; then it is made again.
const UNFINISHED: &str = "log.redb.new";

/// What the locked file says once there is a store beside it.
const MARK: &[u8] = b"there is a store\n";

/// A place for the bytes of one store.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Opens it. It is opened again after there was no space.
    fn open(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Whether a store is made if there is nothing. Where one was, nothing is damage.
    fn may_be_new(&self) -> bool {
        true
    }

    /// How much space there is.
    fn space(&self) -> io::Result<Space>;

    /// Sets space aside that is there for the moment in which there is none left; it counts as
    /// available.
    fn set_aside(&self) {}

    /// Gives back what was set aside; false = there was nothing.
    fn give_back(&self) -> bool {
        false
    }
}

/// The space of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that the store takes.
    pub taken: u64,
    /// Bytes that it could take beyond that.
    pub available: u64,
}

/// A file in a folder. The folder is locked against other processes until this is dropped.
#[derive(Debug)]
pub struct FileDisk {
    folder: PathBuf,
    path: PathBuf,
    aside: Aside,
    // Kept open: the lock ends with it.
    lock: File,
}

/// Why a folder cannot be had.
#[derive(Debug)]
pub enum FolderError {
    /// Another process has it.
    InUse,
    /// The system refuses something about a path.
    Refused(PathBuf, io::Error),
    /// There was a store, and this file of it is gone or empty.
    Lost(PathBuf),
}

fn refused(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |error| FolderError::Refused(path, error)
}

impl FileDisk {
    /// Makes the folder if it is not there, and locks it.
    pub fn lock(folder: &Path) -> Result<Self, FolderError> {
        // What is in there is for the owner's eyes only, whatever the umask is.
        let mut made = fs::DirBuilder::new();
        made.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut made, 0o700);
        made.create(folder).map_err(refused(folder))?;
        let path = folder.join(LOCK);
        let lock = writable(&path).map_err(refused(&path))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => FolderError::InUse,
            fs::TryLockError::Error(error) => FolderError::Refused(path, error),
        })?;
        let aside = Aside::new(folder);
        Ok(Self { folder: folder.to_owned(), path: folder.join(FILE), aside, lock })
    }

    /// Whether there is no store yet. A folder that had one, and whose file is gone or empty, is not
    /// taken for a new one: a server that starts there would believe that nothing was ever stored.
    pub fn is_new(&self) -> Result<bool, FolderError> {
        match fs::metadata(&self.path) {
            Ok(file) if file.is_file() && file.len() == 0 => {
                Err(FolderError::Lost(self.path.clone()))
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FolderError::Refused(self.path.clone(), error))
            }
            Err(_) => match self.lock.metadata().map_err(refused(&self.folder.join(LOCK)))?.len() {
                0 => Ok(true),
                _ => Err(FolderError::Lost(self.path.clone())),
            },
        }
    }

    /// Where a new store is made.
    pub fn unfinished(&self) -> Result<Unfinished, FolderError> {
        let path = self.folder.join(UNFINISHED);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FolderError::Refused(path, error))
            }
            _ => Ok(Unfinished(path)),
        }
    }

    /// A new store is whole: it gets its name, which is as durable as what is in it.
    pub fn finish(&self, unfinished: &Unfinished) -> Result<(), FolderError> {
        fs::rename(&unfinished.0, &self.path).map_err(refused(&self.path))?;
        File::open(&self.folder).and_then(|it| it.sync_all()).map_err(refused(&self.folder))
    }

    /// Remembers beside the store that there is one.
    pub fn mark(&self) -> io::Result<()> {
        let mut lock = &self.lock;
        if lock.metadata()?.len() == 0 {
            lock.write_all(MARK)?;
            lock.sync_all()?;
        }
        Ok(())
    }
}

/// A store that is being made. What is left of it goes with this, if it has no other name by then.
#[derive(Debug)]
pub struct Unfinished(PathBuf);

impl Unfinished {
    /// Opens it.
    pub fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(FileBackend::new(writable(&self.0)?).map_err(io::Error::other)?))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn writable(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

impl Disk for FileDisk {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }

    fn may_be_new(&self) -> bool {
        false
    }

    #[cfg(unix)]
    fn space(&self) -> io::Result<Space> {
        use rustix::process::{Resource, getrlimit};
        use std::os::unix::fs::MetadataExt;

        let file = fs::metadata(&self.path)?;
        // The file has holes where nothing was written yet, so its length says little.
        let taken = file.blocks() * 512;
        let disk = rustix::fs::statvfs(&self.path)?;
        let on_disk = disk.f_bavail * disk.f_frsize + self.aside.bytes();
        // How far it may grow does depend on the length.
        let in_file =
            getrlimit(Resource::Fsize).current.map(|most| most.saturating_sub(file.len()));
        Ok(Space { taken, available: on_disk.min(in_file.unwrap_or(u64::MAX)) })
    }

    fn set_aside(&self) {
        self.aside.set();
    }

    fn give_back(&self) -> bool {
        self.aside.give_back()
    }

    #[cfg(not(unix))]
    fn space(&self) -> io::Result<Space> {
        Ok(Space { taken: fs::metadata(&self.path)?.len(), available: u64::MAX })
    }
}

/// What went wrong on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// A write found no space. Nothing that was synced is affected.
    Space,
    /// Anything else: it is not known what is on the disk.
    Other,
}

/// Remembers what went wrong on a disk: redb tells of it with an error that says less.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<AtomicU8>);

impl Faults {
    /// The worst since it was cleared.
    pub fn worst(&self) -> Fault {
        match self.0.load(Ordering::Relaxed) {
            0 => Fault::None,
            1 => Fault::Space,
            _ => Fault::Other,
        }
    }

    /// Forgets them: the disk is opened again, or has done everything.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn note(&self, error: &io::Error, space: bool) {
        let fault = if space && is_no_space(error) { 1 } else { 2 };
        self.0.fetch_max(fault, Ordering::Relaxed);
    }
}

/// A disk as redb sees it.
#[derive(Debug)]
pub struct Watched {
    inner: Box<dyn StorageBackend>,
    faults: Faults,
}

impl Watched {
    /// What is there.
    pub fn new(inner: Box<dyn StorageBackend>, faults: Faults) -> Self {
        Self { inner, faults }
    }

    /// An empty place for a new store, or what is there. A crash while a store is made leaves a few
    /// bytes without redb's mark, which is written last; they are dropped.
    pub fn emptied(inner: Box<dyn StorageBackend>, faults: Faults) -> io::Result<Self> {
        let length = inner.len()?;
        if length > 0 && is_unfinished(&*inner, length)? {
            inner.set_len(0)?;
        }
        Ok(Self::new(inner, faults))
    }

    fn noted<T>(&self, result: io::Result<T>, space: bool) -> io::Result<T> {
        result.inspect_err(|error| self.faults.note(error, space))
    }
}

/// Whether redb has begun to make a database and has not come to its end: no mark, and nothing but
/// zeros behind the first page.
fn is_unfinished(backend: &dyn StorageBackend, length: u64) -> io::Result<bool> {
    /// More than a new database takes.
    const MOST: u64 = 16 << 20;
    const MARK: usize = 9;
    const PAGE: usize = 4096;
    if length > MOST {
        return Ok(false);
    }
    let mut bytes = vec![0; length as usize];
    backend.read(0, &mut bytes)?;
    let zeros = |range: &[u8]| range.iter().all(|byte| *byte == 0);
    Ok(zeros(&bytes[..bytes.len().min(MARK)]) && zeros(bytes.get(PAGE..).unwrap_or_default()))
}

// It takes no locks: the one that opens a disk has locked the whole folder.
impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.noted(self.inner.len(), false)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.noted(self.inner.read(offset, out), false)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.noted(self.inner.set_len(len), true)
    }

    fn sync_data(&self) -> io::Result<()> {
        // Without space, too: after a sync that failed nobody knows what is there.
        self.noted(self.inner.sync_data(), false)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.noted(self.inner.write(offset, data), true)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}
