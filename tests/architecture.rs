//! The import rules of `src/lib.rs`: a room that uses what it must not fails here, and so do files of
//! the core that use each other in a circle.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What each room must not name, as it would stand in the code.
const FORBIDDEN: [(&str, &[&str]); 15] = [
    (
        "session",
        &[
            "tokio",
            "tonic",
            "prost",
            "hyper",
            "http",
            "dashmap",
            "tracing",
            "parking_lot",
            "rand",
            "argon2",
            "fastrand",
            "uuid",
            "std::time",
            "Instant",
            "SystemTime",
            "cel",
            "crate::expression",
            "crate::object_stream",
            "crate::engine",
            "crate::grpc",
            "crate::server",
            "crate::config",
            "crate::proto",
            "crate::bench",
            "crate::logging",
            "crate::record",
        ],
    ),
    (
        "expression",
        &[
            "tokio",
            "tonic",
            "prost",
            "hyper",
            "http",
            "dashmap",
            "tracing",
            "parking_lot",
            "rand",
            "argon2",
            "fastrand",
            "uuid",
            "Instant",
            "SystemTime",
            "crate::object_stream",
            "crate::engine",
            "crate::grpc",
            "crate::server",
            "crate::config",
            "crate::proto",
            "crate::bench",
            "crate::logging",
        ],
    ),
    (
        "object_stream",
        &[
            "cel",
            "tokio",
            "tonic",
            "prost",
            "hyper",
            "http",
            "dashmap",
            "tracing",
            "parking_lot",
            "rand",
            "argon2",
            "fastrand",
            "uuid",
            "std::time",
            "Instant",
            "SystemTime",
            "crate::record",
            "crate::engine",
            "crate::grpc",
            "crate::server",
            "crate::config",
            "crate::proto",
            "crate::bench",
            "crate::logging",
        ],
    ),
    (
        "record",
        &[
            "cel",
            "tokio",
            "tonic",
            "hyper",
            "http",
            "dashmap",
            "tracing",
            "parking_lot",
            "rand",
            "argon2",
            "fastrand",
            "uuid",
            "std::time",
            "Instant",
            "SystemTime",
            "crate::expression",
            "crate::engine",
            "crate::grpc",
            "crate::server",
            "crate::config",
            "crate::proto",
            "crate::bench",
            "crate::logging",
        ],
    ),
    (
        "engine",
        &[
            "cel",
            "tonic",
            "prost",
            "hyper",
            "http",
            "crate::object_stream",
            "crate::grpc",
            "crate::server",
            "crate::config",
            "crate::proto",
            "crate::bench",
            "crate::logging",
        ],
    ),
    (
        "log",
        &[
            "cel",
            "tonic",
            "prost",
            "hyper",
            "http",
            "crate::session",
            "crate::expression",
            "crate::object_stream",
            "crate::engine",
            "crate::grpc",
            "crate::server",
            "crate::config",
            "crate::proto",
            "crate::bench",
            "crate::logging",
        ],
    ),
    (
        "cluster",
        &[
            "cel",
            "tonic",
            "hyper",
            "http",
            "dashmap",
            "crate::expression",
            "crate::object_stream",
            "crate::engine",
            "crate::record",
            "crate::keeper",
            "crate::identity",
            "crate::policy",
            "crate::grpc",
            "crate::server",
            "crate::config",
            "crate::proto",
            "crate::bench",
            "crate::cli",
            "crate::logging",
        ],
    ),
    (
        "cluster/rules",
        &[
            "tokio",
            "prost",
            "async_nats",
            "tracing",
            "parking_lot",
            "fastrand",
            "rustix",
            "std::time",
            "Instant",
            "SystemTime",
        ],
    ),
    (
        "keeper",
        &[
            "cel",
            "tonic",
            "hyper",
            "http",
            "crate::grpc",
            "crate::server",
            "crate::config",
            "crate::proto",
            "crate::bench",
            "crate::cli",
            "crate::logging",
        ],
    ),
    (
        "identity",
        &[
            "cel",
            "tokio",
            "tonic",
            "prost",
            "hyper",
            "dashmap",
            "crate::expression",
            "crate::object_stream",
            "crate::engine",
            "crate::record",
            "crate::log",
            "crate::keeper",
            "crate::grpc",
            "crate::server",
            "crate::config",
            "crate::proto",
            "crate::bench",
            "crate::cli",
            "crate::logging",
        ],
    ),
    (
        "policy",
        &[
            "cel",
            "hyper",
            "dashmap",
            "crate::object_stream",
            "crate::record",
            "crate::log",
            "crate::keeper",
            "crate::grpc",
            "crate::server",
            "crate::config",
            "crate::bench",
            "crate::cli",
            "crate::logging",
        ],
    ),
    (
        "cli",
        &[
            "cel",
            "hyper",
            "dashmap",
            "crate::expression",
            "crate::engine",
            "crate::server",
            "crate::config",
            "crate::bench",
            "crate::logging",
        ],
    ),
    (
        "webhook",
        &[
            "cel",
            "tokio",
            "tonic",
            "hyper",
            "dashmap",
            "crate::expression",
            "crate::object_stream",
            "crate::record",
            "crate::log",
            "crate::keeper",
            "crate::server",
            "crate::config",
            "crate::bench",
            "crate::cli",
            "crate::logging",
        ],
    ),
    (
        "grpc",
        &[
            "cel",
            "argon2",
            "crate::server",
            "crate::config",
            "crate::bench",
            "crate::logging",
            "crate::webhook",
        ],
    ),
    (
        "bench",
        &["crate::session", "crate::engine", "crate::grpc", "crate::server", "crate::config"],
    ),
];

#[test]
fn no_room_uses_what_it_must_not() {
    let mut found = Vec::new();
    for (room, forbidden) in FORBIDDEN {
        let files = rust_files(Path::new("src").join(room));
        assert!(!files.is_empty(), "src/{room} is there");
        for file in files {
            let code = code(&fs::read_to_string(&file).expect("a readable file"));
            let names = forbidden.iter().filter(|name| uses(&code, name));
            found.extend(names.map(|name| format!("{}: {name}", file.display())));
        }
    }
    assert!(found.is_empty(), "forbidden imports:\n{}", found.join("\n"));
}

#[test]
fn the_files_of_the_core_use_each_other_in_no_circle() {
    let files = rust_files(Path::new("src/session").to_owned());
    let name = |file: &Path| file.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a readable file");
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        texts.insert(name(&file).expect("a name"), code(text));
    }
    // The front of the room uses all files, and its tests too.
    texts.retain(|name, _| !["mod", "tests"].contains(&name.as_str()));
    // Whoever uses nothing that is left is in no circle.
    loop {
        let names: Vec<_> = texts.keys().cloned().collect();
        let others = |own: &String, text: &mut String| {
            names.iter().any(|name| name != own && uses(text, &format!("super::{name}")))
        };
        texts.retain(others);
        if texts.len() == names.len() {
            break;
        }
    }
    assert!(texts.is_empty(), "in a circle, or before one: {:?}", texts.keys());
}

#[test]
fn a_forbidden_import_is_seen() {
    let sees = |text: &str, name| uses(&code(text), name);
    assert!(sees("use tokio::sync::mpsc;", "tokio"));
    assert!(sees("    let x: tonic::Status;", "tonic"));
    assert!(sees("use crate::grpc;", "crate::grpc"));
    assert!(sees(
        "use crate::{\n    engine::Engine,\n    config::{Config, settings},\n};",
        "crate::config"
    ));
    assert!(sees("use crate::{engine::{A, B}, config};", "crate::config"));
    assert!(!sees("use crate::{engine::{config, B}, session};", "crate::config"));
    assert!(sees("use super::{\n    Session,\n    role::Role,\n};", "super::role"));
    assert!(!sees("use super::{Session, error::role};", "super::role"));
    assert!(!sees("// what tokio::spawn does is not our concern", "tokio"));
    assert!(!sees("let tokio_free = 1;", "tokio"));
    assert!(!sees("use http_body::Body;", "http"));
}

/// The text without comments.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether code names a crate or room as a path, alone or in a group of imports.
fn uses(code: &str, name: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let alone = code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].chars().next();
        !before.is_some_and(|c| is_name(c) || (c == ':' && !name.starts_with("crate")))
            && !after.is_some_and(is_name)
    });
    let Some((root @ ("crate" | "super"), room)) = name.split_once("::") else { return alone };
    let grouped = code.split(&format!("{root}::{{")).skip(1).any(|group| {
        let mut depth = 0;
        let mut first = String::new();
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                c if depth == 0 => first.push(c),
                _ => {}
            }
        }
        let names = first.split(',').map(|item| item.trim().split("::").next().unwrap_or_default());
        names.into_iter().any(|item| item == room)
    });
    alone || grouped
}

fn rust_files(dir: PathBuf) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(rust_files(path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
