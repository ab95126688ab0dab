//! How far apps are limited, as a file says: read at the start, and again whenever it changes.

use super::engines::Engines;
use crate::{
    config::{ConfigError, read_apps},
    identity::file::{Stamp, stamp},
};
use parking_lot::Mutex;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

/// How often it is looked whether the file has changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The file, and whom it limits.
#[derive(Debug)]
pub struct AppsFile {
    path: PathBuf,
    engines: Engines,
    /// The file as it was when it was last read, with or without success, and what was wrong with it.
    seen: Mutex<(Option<Stamp>, Vec<String>)>,
}

impl AppsFile {
    /// Reads the file and limits the apps as it says.
    pub fn open(path: &Path, engines: &Engines) -> Result<Arc<Self>, Vec<ConfigError>> {
        let seen = stamp(path);
        engines.limit_apps(read_apps(path)?);
        let (path, engines) = (path.to_owned(), engines.clone());
        Ok(Arc::new(Self { path, engines, seen: Mutex::new((seen, Vec::new())) }))
    }

    /// Reads the file again if it has changed, and logs what came of it: a fault once. Where something
    /// is wrong, everything stays as it is.
    pub fn read_if_changed(&self) {
        let mut seen = self.seen.lock();
        let is = stamp(&self.path);
        if is == seen.0 {
            return;
        }
        seen.0 = is;
        let file = self.path.display();
        match read_apps(&self.path) {
            Ok(settings) => {
                self.engines.limit_apps(settings);
                seen.1.clear();
                tracing::info!(%file, "apps: the limits were read again");
            }
            Err(faults) => {
                let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
                if faults != seen.1 {
                    let faults = faults.join("; ");
                    tracing::error!(%faults, "apps: the limits that were read before stay in force");
                }
                seen.1 = faults;
            }
        }
    }

    /// Starts the thread that looks at the file. It ends when nothing else holds this.
    pub fn watch(self: &Arc<Self>) -> io::Result<()> {
        let file = Arc::downgrade(self);
        thread::Builder::new().name("apps-file".into()).spawn(move || {
            while let Some(file) = Weak::upgrade(&file) {
                file.read_if_changed();
                drop(file);
                thread::sleep(LOOK_INTERVAL);
            }
        })?;
        Ok(())
    }
}
