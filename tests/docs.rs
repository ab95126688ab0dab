//! The documents name only what is there.

use prost::Message;
use prost_types::FileDescriptorSet;
use sessiond::proto;
use std::{collections::BTreeSet, fs, path::Path};

const COMING_FROM: &str = "docs/coming-from.md";

/// Calls that none of the older systems had.
const NEW: [&str; 12] = [
    "Gateway",
    "WatchSessions",
    "WatchEvents",
    "ReserveSeats",
    "ReleaseSeats",
    "RevokeCredentials",
    "RestoreCredentials",
    "ListRevocations",
    "ListNodes",
    "ListPartitions",
    "MovePartition",
    "Authorize",
];

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(proto::DESCRIPTORS).expect("the descriptors are compiled in")
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

#[test]
fn every_call_takes_the_place_of_one_of_the_older_systems() {
    let text = read(COMING_FROM);
    let words: BTreeSet<&str> = text.split(|it: char| !it.is_ascii_alphanumeric()).collect();
    let files = descriptors();
    let services = files
        .file
        .iter()
        .filter(|file| file.package() == "sessiond.v1")
        .flat_map(|file| &file.service);
    let missing: Vec<&str> = services
        .flat_map(|service| &service.method)
        .map(|method| method.name())
        .filter(|name| !NEW.contains(name) && !words.contains(name))
        .collect();
    assert!(missing.is_empty(), "{COMING_FROM} says nothing of {missing:?}");
}

#[test]
fn what_is_written_in_capitals_is_a_name_of_the_contract_or_a_code() {
    let text = read(COMING_FROM);
    let files = descriptors();
    let values: Vec<&str> = files
        .file
        .iter()
        .flat_map(|file| &file.enum_type)
        .flat_map(|it| &it.value)
        .map(|value| value.name())
        .collect();
    let codes = [
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "FAILED_PRECONDITION",
    ];
    let is_name = |word: &&str| word.contains('_') && !word.contains(|it: char| it.is_lowercase());
    let unknown: BTreeSet<&str> = text
        .split(|it: char| !it.is_ascii_alphanumeric() && it != '_')
        .filter(is_name)
        .filter(|word| !codes.contains(word))
        .filter(|word| !values.contains(word))
        .filter(|word| !values.iter().any(|value| value.ends_with(&format!("_{word}"))))
        .collect();
    assert!(unknown.is_empty(), "{COMING_FROM} names {unknown:?}");
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "RELIABILITY.md",
        "SECURITY.md",
        COMING_FROM,
        "docs/store.md",
        "docs/security.md",
        "docs/events.md",
        "docs/hooks.md",
        "docs/limits.md",
        "docs/cluster.md",
        "examples/air_traffic/README.md",
        "examples/tower/README.md",
        "examples/session_server/README.md",
        "examples/object_streams/README.md",
        "examples/backend/README.md",
        "fuzz/README.md",
    ];
    for document in documents {
        let text = read(document);
        let folder = root.join(document);
        let folder = folder.parent().expect("it lies in a folder");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let there = if path.is_empty() { root.join(document) } else { folder.join(path) };
            assert!(there.exists(), "{document} links to {link}");
            if !heading.is_empty() {
                let text = fs::read_to_string(there).expect("a document");
                let is_there = headings(&text).any(|it| it == heading);
                assert!(is_there, "{document} links to {link}, and no heading is #{heading}");
            }
        }
    }
}

/// How links name the headings of a document.
fn headings(text: &str) -> impl Iterator<Item = String> + '_ {
    let titles = text.lines().filter(|line| line.starts_with('#'));
    titles.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        title.chars().filter(|it| it.is_alphanumeric() || "-_".contains(*it)).collect()
    })
}
