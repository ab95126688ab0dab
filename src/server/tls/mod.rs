//! TLS: what the server shows of itself, whom it lets shake hands, and the socket of who has.
//!
//! A handshake runs on a thread of its own (`handshakes`), as one costs as much as a tick of many
//! sessions; the connection then goes to the thread that serves it, like one without TLS. What
//! comes after the handshake goes through `stream`, below everything that is counted and bounded
//! for a socket.

mod certificate;
mod handshakes;
mod reading;
mod stream;
mod wire;

pub use self::{
    handshakes::{Handshakes, Secured},
    reading::Files,
    stream::Stream,
};

use self::reading::{Read, read};
use crate::identity::file::{self, Stamp};
use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use std::{
    io,
    path::PathBuf,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The certificate, the key and the authorities that are in force.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    config: RwLock<Arc<ServerConfig>>,
    seen: Mutex<Seen>,
}

/// The files as they were when they were last read, with or without success, and what was wrong.
#[derive(Debug)]
struct Seen {
    stamps: Stamps,
    faults: Vec<String>,
}

type Stamps = Vec<(PathBuf, Option<Stamp>)>;

impl Tls {
    /// Reads the files; all that is wrong with them.
    pub fn open(files: Files) -> Result<Arc<Self>, Vec<String>> {
        let stamps = stamps(&files);
        let Read { config, warning } = read(&files)?;
        if let Some(warning) = warning {
            tracing::warn!("tls: {warning}");
        }
        let config = RwLock::new(Arc::new(config));
        Ok(Arc::new(Self { files, config, seen: Mutex::new(Seen { stamps, faults: Vec::new() }) }))
    }

    /// What a new connection is served with.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.read().clone()
    }

    /// Reads the files again if one of them changed, and logs what came of it. What is wrong is
    /// logged once, and what was read before stays in force.
    pub fn reload_if_changed(&self) {
        let mut seen = self.seen.lock();
        // Before they are read: what changes meanwhile is seen the next time.
        let stamps = stamps(&self.files);
        if seen.stamps == stamps {
            return;
        }
        seen.stamps = stamps;
        match read(&self.files) {
            Ok(Read { config, warning }) => {
                *self.config.write() = Arc::new(config);
                seen.faults.clear();
                tracing::info!("tls: the certificate was read again");
                if let Some(warning) = warning {
                    tracing::warn!("tls: {warning}");
                }
            }
            Err(faults) => {
                if seen.faults != faults {
                    let fault = faults.join("; ");
                    tracing::error!(fault, "tls: what was read before stays in force");
                }
                seen.faults = faults;
            }
        }
    }

    /// Starts the thread that looks at the files. It ends when nothing else holds this.
    pub fn watch(self: &Arc<Self>) -> io::Result<()> {
        let tls = Arc::downgrade(self);
        thread::Builder::new().name("tls-files".into()).spawn(move || {
            while let Some(tls) = Weak::upgrade(&tls) {
                tls.reload_if_changed();
                drop(tls);
                thread::sleep(LOOK_INTERVAL);
            }
        })?;
        Ok(())
    }
}

fn stamps(files: &Files) -> Stamps {
    files.paths().map(|path| (path.clone(), file::stamp(path))).collect()
}
