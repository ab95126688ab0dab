//! `sessiond key`: the API keys of backends.

use super::{
    Result, print,
    store::Format,
    text::{count, plain},
};
use crate::{
    identity::{
        Apps, Kind, Scope,
        api_key::{self, ApiKey},
        key_file::{self, Entry, KeyFile, NOTE_BYTES},
        moment, now,
    },
    session::{ids::AppId, limits::Micros},
};
use serde_json::json;
use std::{fmt::Write, path::PathBuf, process::ExitCode, time::Duration};

/// What to do with API keys.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a key, and print it once
    ///
    /// The key is printed on the standard output and stored nowhere. Its entry, with a hash of it, is
    /// appended to the key file, or without --file printed on the standard error.
    New(NewArgs),
    /// List the keys of a file
    List(ListArgs),
    /// Revoke a key of a file
    ///
    /// A server that uses the file refuses the key within two seconds.
    Revoke(RevokeArgs),
}

#[derive(Debug, clap::Args)]
struct NewArgs {
    /// An app that the key is for; may be given several times. '*' is all apps
    #[arg(long, value_name = "APP", required = true)]
    app: Vec<String>,
    /// What it may do: act as any user of its apps (backend), and as the app itself (app), or read
    /// only (read)
    #[arg(long, value_name = "SCOPE", default_value = "backend")]
    #[arg(value_parser = ["backend", "app", "read"])]
    scope: String,
    /// Append its entry to this key file, which is made if it is not there
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How long it is valid, such as 90d; unless given, until it is revoked
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// A note for people: who has it, and what for
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// The key file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// The id of the key: the characters between the underscores
    #[arg(value_name = "ID")]
    id: String,
    /// The key file
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

/// Does it.
pub fn run(arguments: KeyArgs) -> Result<ExitCode> {
    match arguments.verb {
        Verb::New(arguments) => new(arguments),
        Verb::List(arguments) => list(&arguments),
        Verb::Revoke(arguments) => {
            if !api_key::is_id(&arguments.id) {
                return Err("the id of a key is eight hexadecimal digits".into());
            }
            key_file::revoke(&arguments.file, &arguments.id, now())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn new(arguments: NewArgs) -> Result<ExitCode> {
    let apps = apps(&arguments.app)?;
    let kind = Scope::read(&arguments.scope).and_then(Scope::kind_without_user);
    let kind: Kind = kind.ok_or("the scope of a key is backend, app or read")?;
    if let Some(note) = &arguments.note
        && (note.is_empty() || note.len() > NOTE_BYTES || note.chars().any(char::is_control))
    {
        return Err(format!("a note has 1 to {NOTE_BYTES} bytes and no control characters"));
    }
    let now = now();
    let key = ApiKey::generate()?;
    let mut entry = Entry::new(&key, apps, kind, now);
    entry.expires = arguments.ttl.map(|ttl| until(now, ttl)).transpose()?;
    entry.note = arguments.note;
    // The key last: nobody has one that the file does not know.
    match &arguments.file {
        Some(file) => key_file::add(file, &entry)?,
        None => eprint!("{}", entry.to_toml()),
    }
    print(format!("{}\n", key.reveal()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The apps of some arguments.
pub fn apps(names: &[String]) -> Result<Apps> {
    if names == ["*"] {
        return Ok(Apps::All);
    }
    let app = |name: &String| match AppId::new(name) {
        Ok(_) if name == "*" => Err("'*' is all apps: give no other beside it".to_owned()),
        Ok(app) => Ok(app),
        Err(fault) => Err(format!("the app {fault}")),
    };
    names.iter().map(app).collect::<Result<_>>().map(Apps::Only)
}

/// The moment that is so far away.
pub fn until(now: Micros, ttl: Duration) -> Result<Micros> {
    // A moment beyond the year 9999 cannot be written.
    const MOST: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);
    if ttl.is_zero() || ttl > MOST {
        return Err("a ttl is longer than 0 and at most 100 years".into());
    }
    Ok(now + ttl.as_micros() as Micros)
}

fn list(arguments: &ListArgs) -> Result<ExitCode> {
    let keys = KeyFile::open(&arguments.file).map_err(|faults| {
        let lines: Vec<_> = faults.into_iter().map(|fault| fault.0).collect();
        lines.join("\n")
    })?;
    let now = now();
    let entries: Vec<_> = keys.entries().collect();
    let text = match arguments.format {
        Format::Text => text(&entries, now),
        Format::Json => {
            let entries: Vec<_> = entries.iter().map(|entry| json(entry, now)).collect();
            format!("{:#}\n", json!(entries))
        }
    };
    print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn state(entry: &Entry, now: Micros) -> &'static str {
    match entry {
        Entry { revoked: Some(_), .. } => "revoked",
        Entry { expires: Some(expires), .. } if *expires <= now => "expired",
        _ => "valid",
    }
}

fn names(apps: &Apps) -> Vec<String> {
    match apps {
        Apps::All => vec!["*".to_owned()],
        Apps::Only(apps) => apps.iter().map(|app| plain(app)).collect(),
    }
}

fn json(entry: &Entry, now: Micros) -> serde_json::Value {
    json!({
        "id": *entry.id,
        "apps": names(&entry.apps),
        "scope": entry.kind.scope().word(),
        "state": state(entry, now),
        "created": moment(entry.created),
        "expires": entry.expires.map(moment),
        "revoked": entry.revoked.map(moment),
        "note": entry.note,
    })
}

fn text(entries: &[&Entry], now: Micros) -> String {
    let head = ["ID", "SCOPE", "STATE", "CREATED", "EXPIRES", "APPS", "NOTE"].map(str::to_owned);
    let row = |entry: &&Entry| {
        [
            entry.id.to_string(),
            entry.kind.scope().to_string(),
            state(entry, now).to_owned(),
            moment(entry.created),
            entry.expires.map_or_else(|| "never".to_owned(), moment),
            names(&entry.apps).join(","),
            entry.note.as_deref().map(plain).unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = [head].into_iter().chain(entries.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..7).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows.iter().filter(|_| !entries.is_empty()) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let gap = if entries.is_empty() { "" } else { "\n" };
    let _ = writeln!(text, "{gap}{}", count(entries.len() as u64, "key", "keys"));
    text
}
