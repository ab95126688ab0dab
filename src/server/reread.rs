//! Files that are read again when they change. Where something is wrong with them, what was read before
//! stays in force.

use crate::identity::file::Files;
use parking_lot::Mutex;
use std::{
    fmt, io,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

/// How often files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Which files were read, and all that is wrong with them. What they say is in force if nothing is.
pub type Outcome = (Files, Result<(), Vec<String>>);

/// Files, and what reads them.
pub struct Reread {
    /// What they say, in log lines.
    what: &'static str,
    read: Box<dyn Fn() -> Outcome + Send + Sync>,
    seen: Mutex<Seen>,
}

/// The files as they were when they were last read, with or without success, and what was wrong.
struct Seen {
    files: Files,
    faults: Vec<String>,
}

impl fmt::Debug for Reread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What the files say may be secret.
        f.debug_struct("Reread").field("what", &self.what).finish_non_exhaustive()
    }
}

impl Reread {
    /// Files that were read once.
    pub fn new(
        what: &'static str,
        files: Files,
        read: impl Fn() -> Outcome + Send + Sync + 'static,
    ) -> Arc<Self> {
        let seen = Mutex::new(Seen { files, faults: Vec::new() });
        Arc::new(Self { what, read: Box::new(read), seen })
    }

    /// Reads the files again if one of them has changed, and logs what came of it: a fault once.
    pub fn if_changed(&self) {
        let mut seen = self.seen.lock();
        if !seen.files.have_changed() {
            return;
        }
        let what = self.what;
        let (files, outcome) = (self.read)();
        match outcome {
            Ok(()) => {
                *seen = Seen { files, faults: Vec::new() };
                tracing::info!("{what}: read again");
            }
            Err(faults) => {
                // The files that hold are watched too, even if a faulty file no longer names them.
                seen.files.extend(&files);
                if faults != seen.faults {
                    let told = faults.join("; ");
                    tracing::error!(faults = told, "{what}: what was read before stays in force");
                }
                seen.faults = faults;
            }
        }
    }

    /// Starts the thread that looks at the files. It ends when nothing else holds this.
    pub fn watch(self: &Arc<Self>) -> io::Result<()> {
        let files = Arc::downgrade(self);
        thread::Builder::new().name("files".into()).spawn(move || {
            while let Some(files) = Weak::upgrade(&files) {
                files.if_changed();
                drop(files);
                thread::sleep(LOOK_INTERVAL);
            }
        })?;
        Ok(())
    }
}
