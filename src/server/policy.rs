//! What must hold for requests and who has a say in them, as a file says: read at the start, and again
//! whenever it or a file that it names changes.

use super::engines::Engines;
use crate::{
    identity::{Fault, file::Files},
    policy::{InForce, Policy},
};
use parking_lot::Mutex;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

/// How often it is looked whether a file has changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The file, and where it is in force.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    in_force: Arc<InForce>,
    seen: Mutex<Seen>,
}

/// The files as they were when they were last read, with or without success, and what was wrong.
#[derive(Debug)]
struct Seen {
    files: Files,
    faults: Vec<Fault>,
}

impl PolicyFile {
    /// Reads the file and those that it names; all that is wrong with them.
    pub fn open(path: &Path) -> Result<Arc<Self>, Vec<Fault>> {
        let (files, policy) = Policy::read(path, &Policy::default());
        let in_force = Arc::new(InForce::new(policy?));
        let seen = Mutex::new(Seen { files, faults: Vec::new() });
        Ok(Arc::new(Self { path: path.to_owned(), in_force, seen }))
    }

    /// What is in force.
    pub fn in_force(&self) -> &Arc<InForce> {
        &self.in_force
    }

    /// Reads the files again if one has changed, and logs what came of it: a fault once. Where something
    /// is wrong, everything stays as it is.
    pub fn read_if_changed(&self, engines: &Engines) {
        let mut seen = self.seen.lock();
        if !seen.files.have_changed() {
            return;
        }
        let file = self.path.display();
        let (files, policy) = Policy::read(&self.path, &self.in_force.current());
        match policy {
            Ok(policy) => {
                let judged = policy.judged();
                // In this order: whatever a session has judged, there is somebody to judge it.
                self.in_force.replace(policy);
                engines.judge_apps(judged);
                *seen = Seen { files, faults: Vec::new() };
                tracing::info!(%file, "policy: the rules and hooks were read again");
            }
            Err(faults) => {
                // The files that hold are watched too, even if a faulty file no longer names them.
                seen.files.extend(&files);
                if faults != seen.faults {
                    let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
                    let faults = told.join("; ");
                    tracing::error!(%faults, "policy: what was read before stays in force");
                }
                seen.faults = faults;
            }
        }
    }

    /// Starts the thread that looks at the files. It ends when nothing else holds this.
    pub fn watch(self: &Arc<Self>, engines: &Engines) -> io::Result<()> {
        let (file, engines) = (Arc::downgrade(self), engines.clone());
        thread::Builder::new().name("policy-file".into()).spawn(move || {
            while let Some(file) = Weak::upgrade(&file) {
                file.read_if_changed(&engines);
                drop(file);
                thread::sleep(LOOK_INTERVAL);
            }
        })?;
        Ok(())
    }
}
