//! What cannot be done is one line and the exit code 2.

use super::support::{Folder, command, make, run, sessiond, sessiond_reading};
use redb::{Database, TableDefinition};
use sessiond::log::redb::{FILE, Options, RedbLog};
use std::fs;

/// Each verb on a folder, with what else it takes.
fn verbs(store: &str) -> Vec<Vec<&str>> {
    let verb = |words: &[&'static str]| [&["store", words[0], store], &words[1..]].concat();
    vec![
        verb(&["ls"]),
        verb(&["show", "games/race"]),
        verb(&["check"]),
        verb(&["export"]),
        verb(&["export", "--session", "games/race"]),
        verb(&["compact"]),
    ]
}

fn all_say(folder: &Folder, name: &str, says: impl Fn(&str) -> bool) {
    for arguments in verbs(&folder.text(name)) {
        let line = sessiond(&arguments).refusal();
        assert!(says(&line), "{arguments:?}: {line}");
    }
}

#[test]
fn a_wrong_path_is_no_store_and_none_is_made() {
    let folder = Folder::new();
    fs::create_dir(folder.path("empty")).unwrap();
    fs::write(folder.path("file"), "no folder").unwrap();
    for name in ["nowhere", "empty", "file"] {
        let line = format!("there is no store in {}: it has no log.redb", folder.text(name));
        all_say(&folder, name, |said| said == line);
    }
    assert!(!folder.path("nowhere").exists());
    assert_eq!(fs::read_dir(folder.path("empty")).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("folder").join(FILE)).unwrap();
    all_say(&folder, "folder", |said| said.ends_with("log.redb is no file"));
    for (name, content) in [("text", "something else"), ("none", "")] {
        fs::create_dir(folder.path(name)).unwrap();
        fs::write(folder.path(name).join(FILE), content).unwrap();
    }
    all_say(&folder, "text", |said| said.contains("log.redb: the store is damaged: "));
    all_say(&folder, "none", |said| said.ends_with("log.redb is empty: no store"));
}

#[test]
fn a_store_that_is_cut_short_is_refused() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let whole = fs::read(folder.path("store").join(FILE)).unwrap();
    for part in [1, 300, 4096, whole.len() / 2] {
        fs::write(folder.path("store").join(FILE), &whole[..part]).unwrap();
        for arguments in verbs(&folder.text("store")) {
            let answer = sessiond(&arguments);
            assert!(answer.code == 2 && answer.err.lines().count() == 1, "{part}: {answer:?}");
            assert!(answer.err.contains("log.redb: the store is damaged: "), "{answer:?}");
        }
    }
}

#[test]
fn a_store_in_use_is_refused() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let _log = RedbLog::open(&folder.path("store"), Options::default()).unwrap();
    let line = format!("the store {} is in use by another process", folder.text("store"));
    all_say(&folder, "store", |said| said.starts_with(&line));
    let line = sessiond(&["store", "export", &folder.text("store")]).refusal();
    assert!(line.contains(", and that offers no export at "), "{line}");
    fs::write(folder.path("file"), "").unwrap();
    let import = ["store", "import", &folder.text("store")];
    assert!(sessiond_reading(&import, &folder.path("file")).refusal().contains("in use"));
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    const STORE: TableDefinition<'_, &str, u64> = TableDefinition::new("store");
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    {
        let database = Database::create(folder.path("store").join(FILE)).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(STORE).unwrap().insert("format", 7).unwrap();
        transaction.commit().unwrap();
    }
    let line = ": the store has format 7, this version knows up to 1: use a newer version";
    let line = folder.text("store") + "/log.redb" + line;
    all_say(&folder, "store", |said| said == line);
}

/// Rights do not hold root back, so this takes folders that nobody may write to.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_without_rights_is_refused() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let out = ["store", "export", &folder.text("store"), "--out", "/proc/sessiond"];
    let line = sessiond(&out).refusal();
    assert!(line.starts_with("/proc/sessiond.part: "), "{line}");
    fs::write(folder.path("file"), "").unwrap();
    let line =
        sessiond_reading(&["store", "import", "/proc/store"], &folder.path("file")).refusal();
    assert!(line.starts_with("/proc/store: "), "{line}");
}

#[test]
fn an_export_takes_the_place_of_no_device_folder_or_store() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    fs::create_dir(folder.path("taken")).unwrap();
    std::os::unix::net::UnixListener::bind(folder.path("socket")).unwrap();
    let store = folder.text("store");
    let refused = |out: &str| sessiond(&["store", "export", &store, "--out", out]).refusal();
    for name in ["taken", "socket"] {
        assert_eq!(refused(&folder.text(name)), format!("{} is no file", folder.text(name)));
    }
    for name in ["log.redb", "lock", "export.socket"] {
        let out = format!("{store}/../store/{name}");
        assert_eq!(refused(&out), format!("{out} is a file of the store"));
    }
    sessiond(&["store", "check", &store]).well();
}

#[test]
fn an_import_into_what_is_no_folder_is_refused() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let out = folder.text("file");
    sessiond(&["store", "export", &folder.text("store"), "--out", &out]).well();
    std::os::unix::fs::symlink("nowhere", folder.path("link")).unwrap();
    for name in ["file", "link"] {
        let import = ["store", "import", &folder.text(name)];
        let line = sessiond_reading(&import, &folder.path("file")).refusal();
        assert_eq!(line, format!("{} is no folder", folder.text(name)));
    }
}

/// What is done stays done.
#[cfg(target_os = "linux")]
#[test]
fn an_import_that_cannot_tell_of_it_is_an_import() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let (out, copy) = (folder.text("file"), folder.text("copy"));
    sessiond(&["store", "export", &folder.text("store"), "--out", &out]).well();
    let mut import = command(&["store", "import", &copy]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let input = fs::File::open(&out).unwrap();
    let output = import.stdin(input).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("the standard output: "));
    sessiond(&["store", "check", &copy]).well();
}

#[test]
fn a_session_that_is_not_there_is_refused() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let store = folder.text("store");
    for (name, line) in [
        ("games/none", "there is no session games/none"),
        ("race", "there is no session race: a name is APP/SESSION"),
        ("games/old", "there is no session games/old"),
    ] {
        assert_eq!(sessiond(&["store", "show", &store, name]).refusal(), line);
    }
    let export = |name: &str| sessiond(&["store", "export", &store, "--session", name]);
    let answer = export("games/none");
    assert_eq!(
        (answer.code, answer.err.as_str()),
        (2, "sessiond: there is no session games/none\n")
    );
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    for arguments in [
        &["store", "sl"][..],
        &["store", "ls"],
        &["store", "ls", "a", "--format", "xml"],
        &["store", "show", "a"],
        &["store", "import"],
        &["replay"],
        &["replay", "file", "--speed", "-1"],
        &["replay", "file", "--speed", "NaN"],
        &["replay", "file", "--session", "other"],
    ] {
        sessiond(arguments).refusal();
    }
}

#[test]
fn each_verb_has_a_help() {
    let help = sessiond(&["store", "--help"]).well();
    for verb in ["ls", "show", "check", "export", "import", "compact"] {
        assert!(help.contains(&format!("\n  {verb} ")), "{help}");
        sessiond(&["store", verb, "--help"]).well();
    }
    sessiond(&["replay", "--help"]).well();
}

#[test]
fn whoever_closes_the_output_early_has_seen_enough() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let mut ls = command(&["store", "ls", &folder.text("store")]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = ls.stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
    // A replay of a minute ends at once.
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/air_traffic/recording.jsonl");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let began = std::time::Instant::now();
    let status = command(&["replay", recording]).stdout(writer).status().unwrap();
    assert!(status.success() && began.elapsed().as_secs() < 30);
}
