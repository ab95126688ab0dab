//! `sessiond store ls`: which sessions there are, and how the store is.

use super::{
    Result, block_on, code,
    contents::{Contents, Known},
    json, print, source,
    store::{Format, LsArgs},
    text::{count, plain, second, size, table},
};
use crate::session::{member::Counts, replica::Replica};
use serde_json::{Value as Json, json};
use std::{fmt::Write, process::ExitCode};

/// The columns, and whether they are numbers.
const COLUMNS: [(&str, bool); 9] = [
    ("APP", false),
    ("SESSION", false),
    ("KIND", false),
    ("DURABILITY", false),
    ("EPOCH", true),
    ("REVISION", true),
    ("MEMBERS", true),
    ("BYTES", true),
    ("LAST CHANGE", false),
];

/// Does it.
pub fn run(arguments: &LsArgs) -> Result<ExitCode> {
    block_on(async {
        let contents = source::contents(&arguments.store).await?;
        let bytes = source::bytes_on_disk(&arguments.store.folder);
        let text = match arguments.format {
            Format::Text => text(&contents, bytes),
            Format::Json => format!("{:#}\n", json(&contents, bytes)),
        };
        print(text.as_bytes())?;
        Ok(code(contents.faults.is_empty()))
    })
}

/// How many are in a session, spectators included.
fn members(session: &Replica) -> usize {
    session.members().joined_count()
}

fn text(contents: &Contents, bytes: u64) -> String {
    let row = |(session, known): (&Replica, &Known)| {
        [
            plain(session.app()),
            plain(session.id()),
            json::kind_name(session.kind()).to_owned(),
            json::durability_name(session.info().settings.durability).to_owned(),
            session.epoch().0.to_string(),
            session.revision().to_string(),
            members(session).to_string(),
            known.bytes.to_string(),
            second(session.last_frame_at()),
        ]
    };
    let sessions = contents.sessions();
    let number = sessions.len() as u64;
    let rows: Vec<_> = sessions.into_iter().map(row).collect();
    let mut text = String::new();
    if !rows.is_empty() {
        text = table(&COLUMNS, &rows) + "\n";
    }
    let last_end = if contents.was_clean { "clean" } else { "not clean" };
    // Writing to a text cannot fail.
    let _ = writeln!(
        text,
        "{}, {}, {}; {}, {} on disk; the last end was {last_end}",
        count(number, "session", "sessions"),
        count(contents.users(), "user", "users"),
        count(contents.requests(), "request", "requests"),
        count(contents.entries, "log entry", "log entries"),
        size(bytes),
    );
    text
}

fn json(contents: &Contents, bytes: u64) -> Json {
    let session = |(session, known): (&Replica, &Known)| {
        let Counts { members, spectators } = session.members().counts();
        json!({
            "app": **session.app(), "session": **session.id(),
            "kind": json::kind_name(session.kind()),
            "durability": json::durability_name(session.info().settings.durability),
            "epoch": json::exact(session.epoch().0),
            "revision": json::exact(session.revision().0),
            "members": members, "spectators": spectators, "bytes": known.bytes,
            "last_change": super::text::moment(session.last_frame_at()),
        })
    };
    let sessions = contents.sessions();
    json!({
        "users": contents.users(), "requests": contents.requests(),
        "entries": contents.entries, "bytes_on_disk": bytes, "last_end_was_clean": contents.was_clean,
        "faults": contents.faults, "sessions": sessions.into_iter().map(session).collect::<Vec<_>>(),
    })
}
