//! `docs/store.md` shows what the program says.

use super::support::{Folder, make, run, sessiond};
use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/store.md");

/// The parts of the document between these fences.
fn blocks(text: &str, kind: &str) -> Vec<String> {
    let fence = format!("```{kind}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// Disks differ in how much space a file takes.
fn without_sizes(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        let unit = |word: &&&str| word.starts_with("KiB") || word.starts_with("MiB");
        let is_unit = |at: usize| words.get(at + 1).filter(unit).is_some();
        let word = |at: usize| if is_unit(at) { "1.0" } else { words[at] };
        (0..words.len()).map(word).collect::<Vec<_>>().join(" ") + "\n"
    });
    lines.collect()
}

#[test]
fn the_document_shows_what_is_printed() {
    let folder = Folder::new();
    run(make(&folder.path("data"), true));
    let text = fs::read_to_string(DOCUMENT).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_sessiond")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), env::var("PATH").unwrap());
    let (mut shown, mut printed) = (String::new(), String::new());
    for block in blocks(&text, "console") {
        shown += &block;
        for line in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
            let mut shell = Command::new("sh");
            shell.args(["-c", line]).current_dir(folder.path("")).env("PATH", &path);
            let output = shell.stdin(Stdio::null()).output().unwrap();
            assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]), "{line}");
            printed += &format!("$ {line}\n{}", String::from_utf8(output.stdout).unwrap());
        }
    }
    let (shown, printed) = (without_sizes(&shown), without_sizes(&printed));
    assert!(shown == printed, "what is printed now:\n{printed}");
}

#[test]
fn the_history_that_is_shown_can_be_played() {
    let folder = Folder::new();
    let text = fs::read_to_string(DOCUMENT).unwrap();
    let [history] = &blocks(&text, "json")[..] else { panic!("one history is shown") };
    fs::write(folder.path("file"), history).unwrap();
    let out = sessiond(&["replay", &folder.text("file"), "--speed", "0"]).well();
    assert!(out.contains("ben: x 1.5, y removed\n"), "{out}");
}
