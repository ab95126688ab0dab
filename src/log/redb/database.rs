//! redb's database: how it is opened, and its errors in our words.

use super::{
    disk::{Disk, Fault, Faults, Unfinished, Watched},
    tables::{FORMAT, FORMAT_KEY, Row, STORE, Tables},
};
use crate::log::LogError;
use redb::{
    Builder, CommitError, CompactionError, Database, DatabaseError, Durability, Error,
    ReadableDatabase, StorageBackend, StorageError, TableError, TableHandle, TransactionError,
    WriteTransaction,
};
use std::{
    cell::Cell,
    fmt, io,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::Once,
};

/// What went wrong in here.
#[derive(Debug)]
pub enum Problem {
    /// redb says so.
    Redb(Error),
    /// It is not open.
    Closed,
    /// Anything else.
    Other(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redb(error) => error.fmt(f),
            Self::Closed => f.write_str("it is closed"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                Self::Redb(error.into())
            }
        }
    )*};
}

from_redb!(
    Error,
    StorageError,
    TableError,
    TransactionError,
    CommitError,
    CompactionError,
    DatabaseError
);

thread_local! {
    /// Whether a panic on this thread becomes an error, of which one line is kept.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Has nothing written about panics that become errors.
fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !IS_GUARDED.get() {
                told(panic);
            }
        }));
    });
}

/// Runs something that reads pages. redb may panic over a page that was changed behind its back.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    keep_quiet();
    let was_guarded = IS_GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(was_guarded);
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Problem::Other(format!("its pages contradict each other: {}", text.unwrap_or("?"))))
    })
}

/// Begins to write.
pub fn begin(database: &Database) -> Result<WriteTransaction, Problem> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate).expect("a new transaction");
    // Without this, opening after a crash walks through all pages.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Opens the store on a disk, or makes one if it is empty and may be, and reads where each partition
/// has come to.
pub fn open(
    disk: &dyn Disk,
    faults: &Faults,
    cache_bytes: usize,
) -> Result<(Database, Vec<Row>), LogError> {
    let opened = guarded(|| {
        let backend = disk.open().map_err(|error| Problem::Redb(Error::Io(error)))?;
        database(backend, disk.may_be_new(), faults, cache_bytes)
    });
    let database = opened.map_err(|problem| in_our_words(problem, faults))?;
    match guarded(|| format(&database, disk.may_be_new())) {
        Ok(FORMAT) => {}
        Ok(found) => return Err(LogError::Newer { found, known: FORMAT }),
        Err(problem) => return Err(in_our_words(problem, faults)),
    }
    let rows = guarded(|| {
        let transaction = begin(&database)?;
        let rows = Tables::open(&transaction)?.rows()?;
        transaction.abort()?;
        Ok(rows)
    });
    Ok((database, rows.map_err(|problem| in_our_words(problem, faults))?))
}

/// Makes a store in an empty place. All of it is durable then.
pub fn make(unfinished: &Unfinished, faults: &Faults, cache_bytes: usize) -> Result<(), LogError> {
    let made = guarded(|| {
        let backend = unfinished.open().map_err(|error| Problem::Redb(Error::Io(error)))?;
        let database = database(backend, true, faults, cache_bytes)?;
        format(&database, true).map(drop)
    });
    made.map_err(|problem| in_our_words(problem, faults))
}

fn database(
    backend: Box<dyn StorageBackend>,
    may_be_new: bool,
    faults: &Faults,
    cache_bytes: usize,
) -> Result<Database, Problem> {
    let io = |error| Problem::Redb(Error::Io(error));
    let backend = match may_be_new {
        true => Watched::emptied(backend, faults.clone()).map_err(io)?,
        false => Watched::new(backend, faults.clone()),
    };
    if !may_be_new && backend.len().map_err(io)? == 0 {
        return Err(Problem::Other("it is empty".to_owned()));
    }
    Ok(Builder::new().set_cache_size(cache_bytes).create_with_backend(backend)?)
}

/// The format of a store; a new one gets it here, with its tables.
fn format(database: &Database, may_be_new: bool) -> Result<u64, Problem> {
    let reading = database.begin_read()?;
    let names: Vec<_> = reading.list_tables()?.map(|it| it.name().to_owned()).collect();
    if names.is_empty() && may_be_new {
        drop(reading);
        let transaction = begin(database)?;
        transaction.open_table(STORE)?.insert(FORMAT_KEY, FORMAT)?;
        drop(Tables::open(&transaction)?);
        transaction.commit()?;
        return Ok(FORMAT);
    }
    if names.is_empty() {
        return Err(Problem::Other("it has no tables".to_owned()));
    }
    let format = reading.open_table(STORE)?.get(FORMAT_KEY)?;
    match format.map(|it| it.value()) {
        Some(0) | None => Err(Problem::Other("it says no format".to_owned())),
        Some(format) => Ok(format),
    }
}

/// Why a store does not open or cannot be read.
pub fn in_our_words(problem: Problem, faults: &Faults) -> LogError {
    use io::ErrorKind::{InvalidData, UnexpectedEof};

    let text = problem.to_string().into();
    match problem {
        _ if faults.worst() == Fault::Space => LogError::Full,
        // The disk has given what it has, and it is not what it should be.
        Problem::Redb(Error::Io(error)) if matches!(error.kind(), InvalidData | UnexpectedEof) => {
            LogError::Damaged(text)
        }
        Problem::Redb(Error::Io(error)) if is_no_space(&error) => LogError::Full,
        Problem::Redb(Error::Io(_) | Error::PreviousIo | Error::DatabaseClosed)
        | Problem::Closed => LogError::Broken(text),
        Problem::Redb(Error::Corrupted(text)) => LogError::Damaged(text.into()),
        _ => LogError::Damaged(text),
    }
}

/// Whether an error of the system says that there is no space, or no more for this user or process.
pub fn is_no_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};

    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
