//! How a receiver knows that a request is ours: HMAC-SHA256 over the moment and the body.

use crate::identity::file::{self, Stamp};
use aws_lc_rs::hmac;
use parking_lot::Mutex;
use std::{fmt, fmt::Write, path::PathBuf};

/// The header that has the signature: `t=<seconds since 1970>,v1=<hexadecimal>`, with a `v1` for each
/// secret. Signed is the text of the seconds, a full stop, and the body.
pub const HEADER: &str = "sessiond-signature";

/// How many bytes a secret may have.
const MOST_BYTES: usize = 4096;

/// A secret in a file, which is read again when it changes.
pub struct Secret {
    path: PathBuf,
    known: Mutex<(Option<Stamp>, hmac::Key)>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Secret {
    /// Reads a secret in a file that others may not read.
    pub fn open(path: PathBuf) -> Result<Self, String> {
        // Before it is read: what changes meanwhile is seen the next time.
        let stamp = file::stamp(&path);
        let key = read(&path)?;
        Ok(Self { path, known: Mutex::new((stamp, key)) })
    }

    /// The key as the file has it now; as it was before where the file cannot be used.
    fn key(&self) -> hmac::Key {
        let mut known = self.known.lock();
        let stamp = file::stamp(&self.path);
        if stamp != known.0 {
            match read(&self.path) {
                Ok(key) => known.1 = key,
                Err(fault) => tracing::error!(fault, "webhook: the secret before stays in force"),
            }
            known.0 = stamp;
        }
        known.1.clone()
    }
}

fn read(path: &std::path::Path) -> Result<hmac::Key, String> {
    let secret = file::read_hmac_secret(path, MOST_BYTES)?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret))
}

/// The value of the header for a body that is sent then, in seconds since 1970.
pub fn sign(secrets: &[Secret], seconds: u64, body: &[u8]) -> String {
    let mut value = format!("t={seconds}");
    for secret in secrets {
        let mut context = hmac::Context::with_key(&secret.key());
        context.update(format!("{seconds}.").as_bytes());
        context.update(body);
        value.push_str(",v1=");
        for byte in context.sign().as_ref() {
            let _ = write!(value, "{byte:02x}");
        }
    }
    value
}
