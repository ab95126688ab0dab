//! `ls`, `show`, `check` and `compact`.

use super::support::{Folder, HASH, everything, make, run, sessiond};
use serde_json::Value as Json;
use sessiond::log::Content;

#[test]
fn ls_lists_sessions_and_what_there_is_in_all() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let out = sessiond(&["store", "ls", &folder.text("store")]).well();
    let lines: Vec<_> = out.lines().collect();
    let words = |at: usize| lines[at].split_whitespace().collect::<Vec<_>>();
    assert!(lines[0].starts_with("APP    SESSION  KIND  DURABILITY"), "{out}");
    assert_eq!(words(1)[..7], ["games", "quiz", "room", "sync", "1704067200000000", "2", "1"]);
    assert_eq!(words(2)[..7], ["games", "race", "room", "async", "1704067200000000", "4", "1"]);
    assert_eq!(words(2)[8], "2024-01-01T00:00:03Z");
    assert!(lines[4].starts_with("2 sessions, 1 user, 1 request; 9 log entries, "), "{out}");
    assert!(lines[4].ends_with(" on disk; the last end was clean"), "{out}");
    let column = |line: &str| line.find("room").or(line.find("KIND")).unwrap();
    assert!(lines[..3].iter().all(|line| column(line) == column(lines[0])), "{out}");
}

#[test]
fn ls_tells_an_end_that_was_not_clean() {
    let folder = Folder::new();
    run(make(&folder.path("store"), false));
    let out = sessiond(&["store", "ls", &folder.text("store")]).well();
    assert!(out.ends_with("the last end was not clean\n"), "{out}");
    let out = sessiond(&["store", "ls", &folder.text("store"), "--format", "json"]).well();
    let json: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(json["last_end_was_clean"], false);
    assert_eq!(json["sessions"][1]["session"], "race");
    assert_eq!(json["sessions"][1]["members"], 1);
    assert_eq!(json["entries"], 8);
}

#[test]
fn show_tells_everything_but_the_password() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let text = sessiond(&["store", "show", &folder.text("store"), "games/race"]).well();
    for part in [
        "session      games/race\n",
        "password     yes\n",
        "  locked             yes\n",
        "  ada  owner, explicit, number 1, joined 2024-01-01T00:00:00.000000Z\n",
        "  map  \"hills\"\n",
        "  ben  moderator\n",
        "  eve  banned until 2024-01-01T01:00:00.000000Z: \"spam\"\n",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    let out = sessiond(&["store", "show", &folder.text("store"), "games/race", "--format", "json"])
        .well();
    let json: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(json["info"]["settings"]["name"], "The race");
    assert_eq!(json["data"]["map"]["text"], "hills");
    assert_eq!(json["info"]["has_password"], true);
    let hash = String::from_utf8(HASH.into()).unwrap();
    assert!(!out.contains(&hash) && !text.contains(&hash) && !out.contains("\"password\""));
}

#[test]
fn show_prints_values_without_loss() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let out = sessiond(&["store", "show", &folder.text("store"), "games/quiz", "--format", "json"])
        .well();
    let json: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(json["members"][0]["props"]["score"]["integer"], i64::MAX.to_string());
}

#[test]
fn check_finds_nothing_wrong_with_a_good_store() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let out = sessiond(&["store", "check", &folder.text("store")]).well();
    assert_eq!(out, "9 entries, 2 sessions: nothing is wrong\n");
}

#[test]
fn compact_removes_what_snapshots_replace_and_nothing_else() {
    for is_clean in [true, false] {
        let folder = Folder::new();
        let store = folder.text("store");
        run(make(&folder.path("store"), is_clean));
        let shown = |name| sessiond(&["store", "show", &store, name, "--format", "json"]).well();
        let before = ["games/race", "games/quiz"].map(shown);
        let snapshots = |contents: &[Content]| {
            contents.iter().filter(|it| matches!(it, Content::Snapshot { .. })).count()
        };
        assert_eq!(snapshots(&run(everything(&folder.path("store")))), 2);
        let out = sessiond(&["store", "compact", &store]).well();
        assert!(out.contains(" removed, "), "{out}");
        // The one of the session that is gone.
        assert_eq!(snapshots(&run(everything(&folder.path("store")))), 1);
        assert_eq!(["games/race", "games/quiz"].map(shown), before);
        let out = sessiond(&["store", "ls", &store]).well();
        assert!(out.contains("\n2 sessions, 1 user, 1 request; "), "{out}");
        let end = if is_clean { "clean" } else { "not clean" };
        assert!(out.ends_with(&format!("the last end was {end}\n")), "{out}");
        sessiond(&["store", "check", &store]).well();
    }
}
