//! Export and import.

use super::support::{
    Folder, PARTITION, START, Stage, app, bytes, entries, everything, make, run, sessiond,
    sessiond_reading, snapshot, user,
};
use serde_json::Value as Json;
use sessiond::{
    log::{
        Content, Log, NodeId, Seq, Writer,
        redb::{Options, RedbLog},
    },
    object_stream::record::{AppChange, Change},
    record::{self, UserRecord},
    session::{epoch::Epoch, settings::Durability, value::Value},
};
use std::{fs, path::Path};

fn export(folder: &Folder, store: &str, file: &str) {
    let (store, out) = (folder.text(store), folder.text(file));
    let said = sessiond(&["store", "export", &store, "--out", &out]).well();
    assert_eq!(said, "");
}

fn import(folder: &Folder, file: &str, store: &str) -> String {
    sessiond_reading(&["store", "import", &folder.text(store)], &folder.path(file)).well()
}

#[test]
fn an_export_becomes_an_equal_store() {
    for is_clean in [true, false] {
        let folder = Folder::new();
        run(make(&folder.path("store"), is_clean));
        export(&folder, "store", "first");
        let said = import(&folder, "first", "copy");
        let entries = if is_clean { 9 } else { 8 };
        let at = folder.text("copy");
        assert_eq!(said, format!("{entries} entries imported into {at}\n"));
        let contents = |name: &str| run(everything(&folder.path(name)));
        assert_eq!(contents("copy"), contents("store"));
        // From now on the places are the same, too.
        export(&folder, "copy", "second");
        import(&folder, "second", "copy of the copy");
        export(&folder, "copy of the copy", "third");
        let text = |name: &str| fs::read_to_string(folder.path(name)).unwrap();
        assert_eq!(text("second"), text("third"));
        for verb in ["ls", "check"] {
            let said = |name: &str| {
                let said = sessiond(&["store", verb, &folder.text(name)]).well();
                // A store that was written at once may take less space.
                said.split(" log entries").next().unwrap().to_owned()
            };
            assert_eq!(said("copy"), said("store"));
        }
    }
}

#[test]
fn the_standard_output_is_the_same_as_a_file() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    export(&folder, "store", "file");
    let out = sessiond(&["store", "export", &folder.text("store")]).well();
    assert_eq!(out, fs::read_to_string(folder.path("file")).unwrap());
    assert!(!folder.path("file.part").exists());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(folder.path("file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn every_line_says_what_its_bytes_mean() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let out = sessiond(&["store", "export", &folder.text("store")]).well();
    let lines: Vec<Json> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["format"], "sessiond store");
    assert_eq!(lines[0]["version"], 1);
    assert_eq!(lines[1]["kind"], "claim");
    assert_eq!(lines[1]["node"], u64::MAX.to_string());
    let first = &lines[2]["entries"];
    assert_eq!(first[0]["session"]["session"], "race");
    assert_eq!(first[0]["session"]["has_password"], true);
    assert_eq!(first[3]["user"]["props"]["color"]["text"], "red");
    assert_eq!(first[4]["request"]["content"], u64::MAX.to_string());
    let strange = &lines[3]["entries"][0]["session"]["members"][0]["slots"][1]["value"];
    let items = &strange["map"]["entries"]["a b"]["list"]["items"];
    assert_eq!(items[1]["integer"], i64::MIN.to_string());
    assert_eq!(items[2]["number"], "NaN");
    assert_eq!(items[3]["numbers"]["items"][0], "-Infinity");
    assert_eq!(items[4]["floats"]["items"][0], 0.1);
    assert_eq!(items[5]["data"], "AP8K");
    assert_eq!(lines.last().unwrap()["end"]["lines"], 9);
}

#[test]
fn a_log_whose_first_claims_are_trimmed_is_imported_as_it_is() {
    let folder = Folder::new();
    let store = folder.path("store");
    run(async {
        let log = RedbLog::open(&store, Options::default()).unwrap();
        let mut writer = log.claim(PARTITION, NodeId(1)).await.unwrap();
        let mut stage = Stage::open("race", Durability::Async);
        let state = stage.snapshot();
        writer.snapshot(vec![state, snapshot(&[stage.record()])]).await.unwrap();
        for number in 0..3 {
            stage.set("ada", "x", sessiond::session::value::Value::Integer(number));
            stage.flush();
            let batch = super::support::bytes(&[stage.record()]);
            writer.append(batch.into()).await.unwrap();
        }
        writer.trim(Seq(u64::MAX)).await.unwrap();
    });
    let contents = run(everything(&store));
    let [Content::Snapshot { .. }, Content::Batch(_)] = &contents[..] else {
        panic!("{contents:?}");
    };
    export(&folder, "store", "file");
    import(&folder, "file", "copy");
    assert_eq!(run(everything(&folder.path("copy"))), contents);
}

#[test]
fn an_empty_store_may_be_imported_into_and_no_other() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    export(&folder, "store", "file");
    drop(RedbLog::open(&folder.path("empty"), Options::default()).unwrap());
    import(&folder, "file", "empty");
    let full = folder.text("empty");
    let line = sessiond_reading(&["store", "import", &full], &folder.path("file")).refusal();
    let there = "with session games/quiz and 2 more";
    assert_eq!(line, format!("there is a store in {full} already, {there}"));
    assert_eq!(run(entries(&folder.path("empty"))).len(), 9);
}

/// A store that was served once and has nothing but the greatest epoch.
async fn served(folder: &Path, epoch: Epoch, others: &[record::Entry]) {
    let log = RedbLog::open(folder, Options::default()).unwrap();
    let mut writer = log.claim(PARTITION, NodeId(1)).await.unwrap();
    let entries = [&[record::Entry::GreatestEpoch(epoch)], others].concat();
    writer.append(bytes(&entries).into()).await.unwrap();
    writer.release().await.unwrap();
}

#[test]
fn a_store_that_was_served_and_holds_nothing_may_be_imported_into() {
    for (own, is_clean) in [(START + 1, true), (START + 1, false), (1, true)] {
        let folder = Folder::new();
        run(make(&folder.path("store"), is_clean));
        export(&folder, "store", "file");
        run(served(&folder.path("served"), Epoch(own), &[]));
        import(&folder, "file", "served");
        let out = sessiond(&["store", "ls", &folder.text("served")]).well();
        assert!(out.contains("2 sessions, 1 user"), "{out}");
        let end = if is_clean { "the last end was clean\n" } else { "not clean\n" };
        assert!(out.ends_with(end), "{out}");
        assert_eq!(greatest_epoch(&run(everything(&folder.path("served")))), own.max(START));
    }
}

/// What of the epochs is known to a log.
fn greatest_epoch(contents: &[Content]) -> u64 {
    let batch = |content: &Content| match content {
        Content::Batch(bytes) | Content::Snapshot { state: bytes, .. } => bytes.clone(),
        _ => Default::default(),
    };
    let epoch = |entry| match entry {
        Ok(record::Entry::GreatestEpoch(epoch)) => epoch.0,
        _ => 0,
    };
    let all = contents.iter().map(batch);
    all.flat_map(|batch| record::Entries::of(&batch).map(epoch).collect::<Vec<_>>()).max().unwrap()
}

#[test]
fn a_store_that_holds_anything_is_not_imported_into() {
    let known = record::Entry::User(UserRecord {
        app: app("games"),
        user: user("ada"),
        props: vec![("color".into(), Value::Text("red".into()))],
    });
    let functions = AppChange {
        app: app("games"),
        serial: 1,
        after: 0,
        is_all: true,
        forgotten: 0,
        shared: 0,
        functions: None,
        gone: Vec::new(),
        ends: Vec::new(),
    };
    let streams = record::Entry::Streams(Change::App(functions));
    for (entry, name) in [
        (known, "user games/ada"),
        (streams, "the object streams of app games"),
        (Stage::open("race", Durability::Async).record(), "session games/race"),
    ] {
        let folder = Folder::new();
        run(make(&folder.path("store"), true));
        export(&folder, "store", "file");
        run(served(&folder.path("served"), Epoch(1), &[entry]));
        let before = run(everything(&folder.path("served")));
        let served = folder.text("served");
        let import = ["store", "import", &served];
        let line = sessiond_reading(&import, &folder.path("file")).refusal();
        assert_eq!(line, format!("there is a store in {served} already, with {name}"));
        assert_eq!(run(everything(&folder.path("served"))), before);
    }
}

/// Imports lines, and says in which words it is refused; nothing is left then.
fn refused(folder: &Folder, lines: &[u8]) -> String {
    let (file, copy) = (folder.path("bad"), folder.text("copy"));
    fs::write(&file, lines).unwrap();
    let line = sessiond_reading(&["store", "import", &copy], &file).refusal();
    assert!(!Path::new(&copy).exists(), "{line}");
    line
}

#[test]
fn a_bad_export_is_refused_with_its_line_and_leaves_nothing() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let good = sessiond(&["store", "export", &folder.text("store")]).well();
    let lines: Vec<_> = good.split_inclusive('\n').collect();
    let with = |at: usize, line: &str| {
        let mut lines = lines.clone();
        lines[at] = line;
        lines.concat().into_bytes()
    };
    for (bad, reason) in [
        (Vec::new(), "line 1: this is not an export of a store"),
        (b"\xff\xfe".to_vec(), "line 1: this is not an export of a store"),
        (
            with(0, "{\"format\":\"sessiond history\",\"version\":1}\n"),
            "line 1: this is not an export",
        ),
        (
            with(0, "{\"format\":\"sessiond store\",\"version\":2}\n"),
            "line 1: it has version 2, this",
        ),
        (with(0, "{\"format\":\"sessiond store\"}\n"), "line 1: it has no version"),
        (lines[..5].concat().into_bytes(), "line 5: the export ends early"),
        (lines[..lines.len() - 1].concat().into_bytes(), "line 10: the export ends early"),
        (good.as_bytes()[..good.len() - 20].to_vec(), "line 11: "),
        (with(3, "{\"seq\":\n"), "line 4: EOF while parsing a value (at character "),
        (with(3, "{\"seq\":1,\"kind\":\"batch\",\"bytes\":\"\"}\n"), "line 4: entry 1 comes after"),
        (
            with(3, "{\"seq\":3,\"kind\":\"batch\",\"bytes\":\"?\"}\n"),
            "line 4: \"bytes\" is missing",
        ),
        (with(3, "{\"seq\":3,\"kind\":\"batch\"}\n"), "line 4: \"bytes\" is missing or no base64"),
        (
            with(3, "{\"seq\":3,\"kind\":\"snapshot\",\"bytes\":\"\"}\n"),
            "line 4: \"key\" is missing",
        ),
        (with(3, "{\"seq\":3,\"kind\":\"song\"}\n"), "line 4: an entry of the kind \"song\""),
        (
            with(3, "{\"seq\":3,\"kind\":\"claim\",\"node\":\"x\"}\n"),
            "line 4: a claim without a node",
        ),
        (with(3, "{\"seq\":-3,\"kind\":\"release\"}\n"), "line 4: \"seq\" is no number"),
        (with(3, "[]\n"), "line 4: invalid"),
        (with(3, &lines[3].replace("\"x\"", "\"z\"")), "line 11: the checksum is wrong"),
        (with(3, ""), "line 10: there should be 9 lines of data, not 8"),
        ([good.as_bytes(), b"more\n"].concat(), "line 12: there is something behind the end"),
    ] {
        let line = refused(&folder, &bad);
        assert!(line.starts_with(reason), "{line:?} should be {reason:?}");
    }
    let much = "A".repeat(2 * 768 * 1024);
    let line = refused(
        &folder,
        &with(3, &format!("{{\"seq\":3,\"kind\":\"batch\",\"bytes\":\"{much}\"}}\n")),
    );
    assert!(line.starts_with("line 4: 1179648 bytes, but no more than 786432"), "{line}");
}

#[test]
fn an_import_that_was_killed_is_no_obstacle() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    export(&folder, "store", "file");
    run(make(&folder.path("copy").join("import.unfinished"), true));
    import(&folder, "file", "copy");
    assert!(!folder.path("copy").join("import.unfinished").exists());
    assert_eq!(run(everything(&folder.path("copy"))), run(everything(&folder.path("store"))));
}
