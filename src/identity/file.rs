//! Files of the settings: bounded, and secret ones readable by nobody else.

use std::{
    fs::{File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    path::Path,
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
