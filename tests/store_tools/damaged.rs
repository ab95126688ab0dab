//! Stores that something is wrong with.

use super::support::{
    Folder, PARTITION, Stage, bytes, everything, make, run, sessiond, sessiond_reading,
};
use redb::{Database, TableDefinition, WriteTransaction};
use sessiond::{
    log::{
        Content, Log, NodeId, Snapshot, Writer,
        redb::{FILE, Options, RedbLog},
    },
    record::{self, Subject},
    session::settings::Durability,
};
use std::{fs, path::Path};

const CHAIN: TableDefinition<'_, (u8, u64), &[u8]> = TableDefinition::new("chain");
const SNAPSHOTS: TableDefinition<'_, (u8, u64), &[u8]> = TableDefinition::new("snapshots");

/// Changes a store behind its back.
fn edit(folder: &Path, edit: impl FnOnce(&WriteTransaction)) {
    let database = Database::create(folder.join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    edit(&transaction);
    transaction.commit().unwrap();
}

fn flip(
    transaction: &WriteTransaction,
    table: TableDefinition<'_, (u8, u64), &'static [u8]>,
    seq: u64,
) {
    let mut table = transaction.open_table(table).unwrap();
    let mut bytes = table.remove((PARTITION.0, seq)).unwrap().unwrap().value().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    table.insert((PARTITION.0, seq), &bytes[..]).unwrap();
}

/// A claim is 1, batches are 2, 3, 6, 7 and 8, the snapshots of quiz and old are 4 and 5.
fn made(folder: &Folder) -> String {
    run(make(&folder.path("store"), true));
    folder.text("store")
}

#[test]
fn a_damaged_batch_ends_reading_unless_it_is_a_salvage() {
    let folder = Folder::new();
    let store = made(&folder);
    edit(&folder.path("store"), |it| flip(it, CHAIN, 3));
    for verb in [&["ls"][..], &["export"], &["compact"]] {
        let answer = sessiond(&[&["store"], verb, &[&store]].concat());
        assert_eq!(answer.code, 2);
        assert!(
            answer.err.starts_with("sessiond: entry 3 of the store is damaged: `store check`"),
            "{answer:?}"
        );
        assert_eq!(answer.err.lines().count(), 1, "{answer:?}");
    }
    let answer = sessiond(&["store", "check", &store]);
    assert_eq!((answer.code, answer.err.as_str()), (1, ""));
    let gap = "session games/race: the record begins after what is known";
    assert_eq!(
        answer.out,
        format!("entry 3: is damaged\nentry 7: {gap}\n9 entries, 1 session: 2 faults\n")
    );
    let answer = sessiond(&["store", "ls", "--salvage", &store]);
    assert_eq!(answer.code, 1);
    assert!(answer.out.contains("games  quiz"), "{answer:?}");
    let lost = format!("sessiond: entry 3: is damaged\nsessiond: entry 7: {gap}\n");
    assert_eq!(answer.err, lost);
}

#[test]
fn a_damaged_snapshot_loses_its_session_alone() {
    let folder = Folder::new();
    let store = made(&folder);
    edit(&folder.path("store"), |it| flip(it, SNAPSHOTS, 4));
    let answer = sessiond(&["store", "check", &store]);
    let line = "entry 4: the snapshot of session games/quiz is damaged\n";
    assert_eq!(answer.out, format!("{line}9 entries, 1 session: 1 fault\n"));
    assert_eq!(answer.code, 1);
    let answer = sessiond(&["store", "show", "--salvage", &store, "games/race"]);
    assert!(answer.code == 1 && answer.out.contains("games/race"), "{answer:?}");
}

#[test]
fn a_gap_is_read_across_by_a_salvage_alone() {
    let folder = Folder::new();
    let store = made(&folder);
    edit(&folder.path("store"), |it| {
        it.open_table(CHAIN).unwrap().remove((PARTITION.0, 3)).unwrap();
    });
    let line = sessiond(&["store", "ls", &store]).refusal();
    let gap = "partition 0 of the store has a gap after 2: only a salvage reads across it";
    assert_eq!(line, gap);
    let answer = sessiond(&["store", "check", &store]);
    assert!(answer.code == 1 && answer.out.contains(gap), "{answer:?}");
    let answer = sessiond(&["store", "check", "--salvage", &store]);
    assert!(answer.code == 1, "{answer:?}");
    assert!(answer.out.contains("the log has 1 gap: entries are missing\n"), "{answer:?}");
    let answer = sessiond(&["store", "export", "--salvage", &store]);
    assert_eq!(answer.code, 1);
    assert_eq!(answer.err, "sessiond: the log has 1 gap: entries are missing\n");
}

#[test]
fn what_a_salvage_exports_becomes_a_store() {
    let folder = Folder::new();
    let store = made(&folder);
    edit(&folder.path("store"), |it| {
        flip(it, CHAIN, 2);
        flip(it, SNAPSHOTS, 5);
    });
    let out = folder.text("file");
    let line = sessiond(&["store", "export", &store, "--out", &out]).refusal();
    assert!(line.starts_with("entry 2 of the store is damaged"), "{line}");
    assert!(!folder.path("file").exists() && !folder.path("file.part").exists());
    let answer = sessiond(&["store", "export", "--salvage", &store, "--out", &out]);
    assert_eq!(answer.code, 1);
    let lost = "sessiond: entry 2 is lost\n\
                sessiond: entry 5, the snapshot of session games/old, is lost\n";
    assert_eq!(answer.err, lost);
    let answer = sessiond_reading(&["store", "import", &folder.text("copy")], &folder.path("file"));
    assert_eq!(answer.code, 0);
    assert_eq!(answer.err, "sessiond: 2 entries were lost before the export\n");
    let shown = sessiond(&["store", "show", "--salvage", &folder.text("copy"), "games/quiz"]);
    assert!(shown.out.contains("  score  9223372036854775807\n"), "{shown:?}");
}

#[test]
fn entries_that_make_no_sense_are_faults() {
    let folder = Folder::new();
    let store = folder.path("store");
    run(async {
        let log = RedbLog::open(&store, Options::default()).unwrap();
        let mut writer = log.claim(PARTITION, NodeId(1)).await.unwrap();
        writer.append("no entries".into()).await.unwrap();
        let mut stage = Stage::open("race", Durability::Async);
        let key = Subject::App(super::support::app("games")).key().into();
        let state = stage.snapshot().state;
        writer.snapshot(vec![Snapshot { key, state }]).await.unwrap();
        let mut newer = bytes(&[stage.record()]);
        newer[4] = 200;
        let end = newer.len() - 4;
        let sum = crc32fast::hash(&newer[4..end]);
        newer[end..].copy_from_slice(&sum.to_le_bytes());
        writer.append(newer.into()).await.unwrap();
    });
    let answer = sessiond(&["store", "check", &folder.text("store")]);
    assert_eq!(answer.code, 1);
    assert_eq!(
        answer.out,
        "entry 2: the entry is damaged\n\
         entry 3: the snapshot of app games tells of something else\n\
         entry 4: the entry has version 200, and this program knows versions up to 1\n\
         4 entries, 0 sessions: 3 faults\n"
    );
}

/// Gives an entry another place, after the same entry as before: keys lie side by side, each a partition
/// and eight bytes, least byte first.
fn misplace(folder: &Path, (before, seq): (u64, u64), to: u64) {
    let path = folder.join(FILE);
    let mut bytes = fs::read(&path).unwrap();
    let key = |seq: u64| [&[PARTITION.0][..], &seq.to_le_bytes()].concat();
    let (from, to) = ([key(before), key(seq)].concat(), [key(before), key(to)].concat());
    let is_there = |at: &usize| bytes[*at..].starts_with(&from);
    for at in (0..bytes.len() - from.len()).filter(is_there).collect::<Vec<_>>() {
        bytes[at..at + to.len()].copy_from_slice(&to);
    }
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_salvage_across_a_damaged_place_can_be_imported() {
    for (seq, to) in [((2, 3), 1 << 42), ((6, 7), 1 << 42), ((6, 7), 2)] {
        let folder = Folder::new();
        let store = made(&folder);
        misplace(&folder.path("store"), seq, to);
        let (out, copy) = (folder.text("file"), folder.text("copy"));
        let answer = sessiond(&["store", "export", "--salvage", &store, "--out", &out]);
        assert_eq!(answer.code, 1);
        assert!(answer.err.contains(&format!("entry {to} is lost\n")), "{answer:?}");
        let answer = sessiond_reading(&["store", "import", &copy], &folder.path("file"));
        assert_eq!(answer.code, 0, "{seq:?} to {to}: {answer:?}");
        let is_batch = |it: &&Content| matches!(it, Content::Batch(_));
        let kept = run(everything(&folder.path("copy"))).iter().filter(is_batch).count();
        assert_eq!(kept, 4, "{seq:?} to {to}");
    }
}

#[test]
fn a_lost_claim_loses_nothing_before_it() {
    let folder = Folder::new();
    let store = made(&folder);
    run(async {
        let log = RedbLog::open(&folder.path("store"), Options::default()).unwrap();
        let mut writer = log.claim(PARTITION, NodeId(2)).await.unwrap();
        assert_eq!(writer.term().0, 10);
        let record = Stage::open("late", Durability::Async).record();
        writer.append(bytes(&[record]).into()).await.unwrap();
    });
    edit(&folder.path("store"), |it| flip(it, CHAIN, 10));
    let (out, copy) = (folder.text("file"), folder.text("copy"));
    assert_eq!(sessiond(&["store", "export", "--salvage", &store, "--out", &out]).code, 1);
    assert_eq!(sessiond_reading(&["store", "import", &copy], &folder.path("file")).code, 0);
    let ls = sessiond(&["store", "ls", &copy]).well();
    assert!(ls.contains("games  race") && ls.contains("games  late"), "{ls}");
}

#[test]
fn pieces_around_a_lost_one_make_no_whole() {
    let folder = Folder::new();
    run(async {
        let log = RedbLog::open(&folder.path("store"), Options::default()).unwrap();
        let mut writer = log.claim(PARTITION, NodeId(2)).await.unwrap();
        let first = bytes(&[Stage::open("first", Durability::Async).record()]);
        let last = bytes(&[Stage::open("last", Durability::Async).record()]);
        let whole = [&first[..], &first, &last].concat();
        for piece in record::split(&whole, first.len() + 4) {
            writer.append(piece.into()).await.unwrap();
        }
    });
    edit(&folder.path("store"), |it| flip(it, CHAIN, 3));
    let (out, copy) = (folder.text("file"), folder.text("copy"));
    let store = folder.text("store");
    assert_eq!(sessiond(&["store", "export", "--salvage", &store, "--out", &out]).code, 1);
    assert_eq!(sessiond_reading(&["store", "import", &copy], &folder.path("file")).code, 0);
    let ls = sessiond(&["store", "ls", &copy]).out;
    assert!(!ls.contains("games  first"), "{ls}");
}

#[test]
fn a_file_that_is_damaged_anywhere_is_told_and_never_a_panic() {
    let folder = Folder::new();
    run(make(&folder.path("store"), true));
    let file = folder.path("store").join(FILE);
    let whole = fs::read(&file).unwrap();
    let store = folder.text("store");
    let mut random = fastrand::Rng::with_seed(7);
    // Where something is written: the rest is empty pages.
    let written: Vec<_> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    for turn in 0..60 {
        let mut bytes = whole.clone();
        for _ in 0..1 + turn % 3 {
            bytes[written[random.usize(..written.len())]] ^= 1 << random.u8(..8);
        }
        for verb in ["check", "ls", "export"] {
            fs::write(&file, &bytes).unwrap();
            let answer = sessiond(&["store", verb, "--salvage", &store]);
            assert!((0..=2).contains(&answer.code), "{turn}: {answer:?}");
            assert!(
                answer.err.lines().all(|it| it.starts_with("sessiond: ")),
                "{turn}: {answer:?}"
            );
        }
    }
}

#[test]
fn a_store_that_a_crash_has_left_can_be_read() {
    let folder = Folder::new();
    fs::create_dir(folder.path("crashed")).unwrap();
    run(async {
        let log = RedbLog::open(&folder.path("store"), Options::default()).unwrap();
        let mut writer = log.claim(PARTITION, NodeId(1)).await.unwrap();
        let mut stage = Stage::open("race", Durability::Async);
        writer.append(bytes(&[stage.record()]).into()).await.unwrap();
        let crashed = folder.path("crashed").join(FILE);
        fs::copy(folder.path("store").join(FILE), crashed).unwrap();
    });
    let out = sessiond(&["store", "ls", &folder.text("crashed")]).well();
    assert!(out.contains("games  race") && out.ends_with("was not clean\n"), "{out}");
}
