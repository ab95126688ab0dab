//! Files of the settings: bounded, and secret ones readable by nobody else.

use std::{
    collections::BTreeMap,
    fs::{File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The largest file, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// What others may not have of a secret file: reading and writing, and the group not writing. The
/// group may read, as volumes of Kubernetes are the group's.
const FORBIDDEN: u32 = 0o027;

/// Whether others may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    /// They may.
    Public,
    /// They must not.
    Secret,
}

/// Reads a file.
pub fn read(path: &Path, privacy: Privacy) -> Result<Vec<u8>, String> {
    let fault = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let file = File::open(path).map_err(fault)?;
    // Of the open file, not of the path: it could be another one by now.
    let metadata = file.metadata().map_err(fault)?;
    if !metadata.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    let mode = metadata.mode() & 0o777;
    if privacy == Privacy::Secret && mode & FORBIDDEN != 0 {
        return Err(format!(
            "others have access to {} (its mode is {mode:04o}): chmod 600 it",
            path.display()
        ));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("{} has more than {MAX_BYTES} bytes", path.display()));
    }
    Ok(bytes)
}

/// Reads a file of text.
pub fn read_text(path: &Path, privacy: Privacy) -> Result<String, String> {
    let bytes = read(path, privacy)?;
    String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", path.display()))
}

/// Bytes of a secret that something is signed or verified with, at least: nobody guesses as many random
/// ones.
pub const SECRET_BYTES: usize = 32;

/// Reads a secret: any bytes. See [`secret_of`] for the end of a line.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = read(path, Privacy::Secret)?;
    bytes.truncate(secret_of(&bytes).len());
    Ok(bytes)
}

/// Reads a secret of an HMAC, of this many bytes at most.
pub fn read_hmac_secret(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    let secret = read_secret(path)?;
    if (SECRET_BYTES..=most).contains(&secret.len()) {
        return Ok(secret);
    }
    let bytes = secret.len();
    Err(format!("{} has {bytes} bytes; a secret has {SECRET_BYTES} to {most}", path.display()))
}

/// The secret that the bytes of a file are, the same for every secret: an editor ends a line, with LF or
/// CRLF, and one such end is not part of it. All else is, whatever bytes they are.
pub fn secret_of(bytes: &[u8]) -> &[u8] {
    let line = bytes.strip_suffix(b"\n");
    line.map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Changes when a file does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp([i64; 6]);

/// The stamp of a file; none = it is not there.
pub fn stamp(path: &Path) -> Option<Stamp> {
    let of = |it: Metadata| {
        let (inode, size) = (it.ino() as i64, it.size() as i64);
        Stamp([inode, size, it.mtime(), it.mtime_nsec(), it.ctime(), it.ctime_nsec()])
    };
    std::fs::metadata(path).ok().map(of)
}

/// Files that were read, and how they were before.
#[derive(Debug, Clone, Default)]
pub struct Files(BTreeMap<PathBuf, Option<Stamp>>);

impl Files {
    /// Remembers a file as it is before it is read: if it changes meanwhile, it is read again.
    pub fn note(&mut self, path: &Path) {
        self.0.insert(path.to_owned(), stamp(path));
    }

    /// Whether one of them is not as it was.
    pub fn have_changed(&self) -> bool {
        self.0.iter().any(|(path, known)| stamp(path) != *known)
    }

    /// Adds others, which may be the same ones as they were later.
    pub fn extend(&mut self, others: &Self) {
        self.0.extend(others.0.iter().map(|(path, stamp)| (path.clone(), stamp.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_end_of_a_line_is_not_part_of_a_secret() {
        for (bytes, secret) in [
            (&b"secret"[..], &b"secret"[..]),
            (b"secret\n", b"secret"),
            (b"secret\r\n", b"secret"),
            (b"secret\n\n", b"secret\n"),
            (b"secret \n", b"secret "),
            (b"secret\r", b"secret\r"),
            (b"\xff\x00\n", b"\xff\x00"),
            (b"\n", b""),
        ] {
            assert_eq!(secret_of(bytes), secret, "{bytes:?}");
        }
    }
}
