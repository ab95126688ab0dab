//! What files say, read again when they change.

use crate::identity::file::{self, Stamp};
use parking_lot::{Mutex, RwLock};
use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What was read, and what others will not like about it.
pub type Read<T> = Result<(T, Option<String>), Vec<String>>;

/// What some files say that are in force.
pub struct Watched<T> {
    /// What it is, in log lines.
    what: &'static str,
    paths: Vec<PathBuf>,
    read: Box<dyn Fn() -> Read<T> + Send + Sync>,
    current: RwLock<Arc<T>>,
    seen: Mutex<Seen>,
}

/// The files as they were when they were last read, with or without success, and what was wrong.
#[derive(Debug)]
struct Seen {
    stamps: Vec<Option<Stamp>>,
    faults: Vec<String>,
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What the files say may be secret.
        f.debug_struct("Watched").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the files; all that is wrong with them.
    pub fn open(
        what: &'static str,
        paths: Vec<PathBuf>,
        read: impl Fn() -> Read<T> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, Vec<String>> {
        let stamps = stamps(&paths);
        let (current, warning) = read()?;
        if let Some(warning) = warning {
            tracing::warn!("{what}: {warning}");
        }
        Ok(Arc::new(Self {
            what,
            paths,
            read: Box::new(read),
            current: RwLock::new(Arc::new(current)),
            seen: Mutex::new(Seen { stamps, faults: Vec::new() }),
        }))
    }

    /// What is in force.
    pub fn current(&self) -> Arc<T> {
        self.current.read().clone()
    }

    /// Reads the files again if one of them changed, and logs what came of it. What is wrong is
    /// logged once, and what was read before stays in force.
    fn reload_if_changed(&self) {
        let what = self.what;
        let mut seen = self.seen.lock();
        // Before they are read: what changes meanwhile is seen the next time.
        let stamps = stamps(&self.paths);
        if seen.stamps == stamps {
            return;
        }
        seen.stamps = stamps;
        match (self.read)() {
            Ok((current, warning)) => {
                *self.current.write() = Arc::new(current);
                seen.faults.clear();
                tracing::info!("{what}: read again");
                if let Some(warning) = warning {
                    tracing::warn!("{what}: {warning}");
                }
            }
            Err(faults) => {
                if seen.faults != faults {
                    let fault = faults.join("; ");
                    tracing::error!(fault, "{what}: what was read before stays in force");
                }
                seen.faults = faults;
            }
        }
    }

    /// Starts the thread that looks at the files. It ends when nothing else holds this.
    pub fn watch(self: &Arc<Self>) -> io::Result<()> {
        let watched = Arc::downgrade(self);
        thread::Builder::new().name("files".into()).spawn(move || {
            while let Some(watched) = Weak::upgrade(&watched) {
                watched.reload_if_changed();
                drop(watched);
                thread::sleep(LOOK_INTERVAL);
            }
        })?;
        Ok(())
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    paths.iter().map(|path| file::stamp(path)).collect()
}
