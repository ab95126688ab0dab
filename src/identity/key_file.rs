//! The file of a server's API keys: what each allows, and hashes of their secrets.

use super::{
    api_key::{ApiKey, hex, is_id, unhex},
    denied::Denied,
    file::{self, Privacy},
    grant::{Apps, CredentialId, Grant, Kind, Origin},
    key::print,
    reading::{Fault, Faults, Section, moment},
};
use crate::session::{limits::Micros, role::Role};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

/// The most keys in a file.
pub const MAX_KEYS: usize = 10_000;

/// The longest note, in bytes.
pub const NOTE_BYTES: usize = 256;

/// What a file says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: Arc<str>,
    /// Where it may be used.
    pub apps: Apps,
    /// What it may do.
    pub kind: Kind,
    /// When it was made.
    pub created: Micros,
    /// From when on it is refused.
    pub expires: Option<Micros>,
    /// When it was revoked.
    pub revoked: Option<Micros>,
    /// What people noted of it.
    pub note: Option<String>,
    hash: [u8; 32],
}

impl Entry {
    /// The entry of a new key.
    pub fn new(key: &ApiKey, apps: Apps, kind: Kind, created: Micros) -> Self {
        let (id, hash) = (Arc::from(key.id()), key.hash());
        Self { id, apps, kind, created, expires: None, revoked: None, note: None, hash }
    }

    /// As it stands in a file.
    pub fn to_toml(&self) -> String {
        let apps = match &self.apps {
            Apps::All => "\"*\"".to_owned(),
            Apps::Only(apps) => {
                let names: Vec<_> = apps.iter().map(|app| quoted(app)).collect();
                format!("[{}]", names.join(", "))
            }
        };
        let mut text = format!("[[keys]]\nid = \"{}\"\n", self.id);
        // Writing to a text cannot fail.
        let _ = writeln!(text, "hash = \"sha256:{}\"", hex(&self.hash));
        let _ = writeln!(text, "apps = {apps}\nscope = \"{}\"", self.kind.scope());
        let _ = writeln!(text, "created = \"{}\"", moment(self.created));
        for (name, at) in [("expires", self.expires), ("revoked", self.revoked)] {
            if let Some(at) = at {
                let _ = writeln!(text, "{name} = \"{}\"", moment(at));
            }
        }
        if let Some(note) = &self.note {
            let _ = writeln!(text, "note = {}", quoted(note));
        }
        text
    }

    /// What the key allows.
    pub fn grant(&self, now: Micros) -> Result<Grant, Denied> {
        if self.revoked.is_some() {
            return Err(Denied::Revoked);
        }
        if self.expires.is_some_and(|expires| now >= expires) {
            return Err(Denied::KeyExpired);
        }
        Ok(Grant {
            apps: self.apps.clone(),
            kind: self.kind.clone(),
            sessions: None,
            most: Role::Owner,
            expires: self.expires,
            issued: Some(self.created),
            id: CredentialId::Key(self.id.clone()),
            subject: None,
            origin: Origin::Key(self.print()),
        })
    }

    /// Stands for the key and what it allows, whatever people noted of it.
    pub(super) fn print(&self) -> [u8; 32] {
        let decisive = Self { note: None, ..self.clone() };
        print(decisive.to_toml().as_bytes())
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// The keys of a file.
#[derive(Debug, Default)]
pub struct KeyFile(BTreeMap<Arc<str>, Entry>);

impl KeyFile {
    /// Reads a file.
    pub fn open(path: &Path) -> Result<Self, Vec<Fault>> {
        let text = file::read_text(path, Privacy::Secret).map_err(|fault| vec![Fault(fault)])?;
        Self::read(path, &text)
    }

    /// Reads the text of a file.
    pub fn read(path: &Path, text: &str) -> Result<Self, Vec<Fault>> {
        let faults = Faults::default();
        let mut root = Section::file(path, text, &faults);
        let mut keys = BTreeMap::new();
        for mut section in root.sections("keys", MAX_KEYS) {
            let entry = entry(&mut section);
            if let Some(entry) = entry {
                let id = entry.id.clone();
                if keys.insert(id, entry).is_some() {
                    section.fault("id", "another key has it");
                }
            }
            section.end();
        }
        root.end();
        let faults = faults.into_inner();
        if faults.is_empty() { Ok(Self(keys)) } else { Err(faults) }
    }

    /// All entries, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }

    /// The entry of an id.
    pub fn entry(&self, id: &str) -> Option<&Entry> {
        self.0.get(id)
    }

    /// What a key allows.
    pub fn check(&self, key: &[u8], now: Micros) -> Result<Grant, Denied> {
        let key = ApiKey::read(key).ok_or(Denied::DamagedKey)?;
        // The id is no secret: only the comparison of the hashes must not tell by its time.
        let entry = self.0.get(key.id()).ok_or(Denied::UnknownApiKey)?;
        let is_same = verify_slices_are_equal(&key.hash(), &entry.hash).is_ok();
        if is_same { entry.grant(now) } else { Err(Denied::UnknownApiKey) }
    }
}

fn entry(section: &mut Section<'_>) -> Option<Entry> {
    let id = section.value("id", "an id of eight hexadecimal digits", |value| {
        value.as_str().filter(|id| is_id(id)).map(Arc::from)
    });
    let hash = section.value("hash", "sha256: and 64 hexadecimal digits", |value| {
        unhex(value.as_str()?.strip_prefix("sha256:")?)?.try_into().ok()
    });
    let apps = section.apps("apps");
    let scope = section.scope("scope");
    let kind = scope.and_then(|scope| {
        let kind = scope.kind_without_user();
        if kind.is_none() {
            section.fault("scope", "a key is a backend's: backend, app or read");
        }
        kind
    });
    let created = section.moment("created");
    let expires = section.moment("expires");
    let revoked = section.moment("revoked");
    let note = section.text("note", NOTE_BYTES);
    for (name, is_there) in
        [("id", id.is_some()), ("hash", hash.is_some()), ("created", created.is_some())]
    {
        if !is_there {
            section.fault(name, "must be given");
        }
    }
    let (id, hash, created) = (id?, hash?, created?);
    Some(Entry { id, apps: apps?, kind: kind?, created, expires, revoked, note, hash })
}

/// Adds an entry to a file, which is made if it is not there.
pub fn add(path: &Path, entry: &Entry) -> Result<(), String> {
    change(path, |text| {
        let gap = if text.is_empty() || text.ends_with("\n\n") { "" } else { "\n" };
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        Ok(format!("{text}{end}{gap}{}", entry.to_toml()))
    })
}

/// Revokes a key of a file. The rest of the file stays as people wrote it.
pub fn revoke(path: &Path, id: &str, now: Micros) -> Result<(), String> {
    let keys = KeyFile::open(path).map_err(|faults| one_line(&faults))?;
    let entry = keys.entry(id).ok_or_else(|| format!("{} has no key {id}", path.display()))?;
    if entry.revoked.is_some() {
        return Err(format!("the key {id} is already revoked"));
    }
    let line = format!("revoked = \"{}\"", moment(now));
    change(path, |text| {
        let is_id = |it: &str| it.trim() == format!("id = \"{id}\"");
        let lines = text.lines().flat_map(|it| [Some(it), is_id(it).then_some(line.as_str())]);
        let lines: Vec<_> = lines.flatten().collect();
        let text = lines.join("\n") + "\n";
        let keys = KeyFile::read(path, &text).ok();
        let is_done = keys.is_some_and(|it| it.entry(id).is_some_and(|it| it.revoked.is_some()));
        let hint = || format!("add {line} below its id in {} by hand", path.display());
        if is_done { Ok(text) } else { Err(hint()) }
    })
}

/// Replaces a file as a whole, so that nobody reads half of it.
fn change(path: &Path, new: impl FnOnce(&str) -> Result<String, String>) -> Result<(), String> {
    let fault = |error: std::io::Error| format!("{}: {error}", path.display());
    // Held until the end, so that of two changes at a time none is lost.
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let folder = File::open(folder).map_err(fault)?;
    folder.lock().map_err(fault)?;
    let (old, mode) = match fs::metadata(path) {
        Ok(metadata) => {
            let text = file::read_text(path, Privacy::Secret)?;
            (text, metadata.permissions().mode() & 0o777)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (String::new(), 0o600),
        Err(error) => return Err(fault(error)),
    };
    let text = new(&old)?;
    KeyFile::read(path, &text).map_err(|faults| one_line(&faults))?;
    // Through a link, the file that it leads to is replaced, not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let fresh = target.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh).map_err(fault)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.and_then(|()| fs::rename(&fresh, &target)).map_err(|error| {
        let _ = fs::remove_file(&fresh);
        fault(error)
    })
}

fn one_line(faults: &[Fault]) -> String {
    let lines: Vec<_> = faults.iter().map(|fault| fault.0.as_str()).collect();
    lines.join("\n")
}
