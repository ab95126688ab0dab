//! Stores that something is wrong with: one clear line each, or one entry that is lost and counted.

use super::{faulty::FaultyDisk, support::*};
use fastrand::Rng;
use redb::{Database, TableDefinition};
use sessiond::log::{
    Content, Entry, Log, LogError, Reader, Seq, Writer,
    redb::{FILE, Options, RedbLog},
};
use std::{fs, path::Path};

const CHAIN: TableDefinition<'_, (u8, u64), &[u8]> = TableDefinition::new("chain");
const SNAPSHOTS: TableDefinition<'_, (u8, u64), &[u8]> = TableDefinition::new("snapshots");
const HEADS: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("heads");
const STORE: TableDefinition<'_, &str, u64> = TableDefinition::new("store");

fn open(folder: &Path) -> Result<RedbLog, LogError> {
    RedbLog::open(folder, Options::default())
}

/// A store with a claim, ten batches from 2 on, and the snapshots of two keys at 12 and 13.
async fn filled(folder: &Path) {
    let log = open(folder).expect("a new store");
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    for number in 0..10 {
        writer.append(format!("batch {number}").into()).await.expect("stored");
    }
    let snapshots = vec![snapshot("a", "state of a"), snapshot("b", "state of b")];
    writer.snapshot(snapshots).await.expect("stored");
}

/// Changes a store behind its back.
fn edit(folder: &Path, edit: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::create(folder.join(FILE)).expect("a database");
    let transaction = database.begin_write().expect("a transaction");
    edit(&transaction);
    transaction.commit().expect("a commit");
}

fn flip(
    transaction: &redb::WriteTransaction,
    table: TableDefinition<'_, (u8, u64), &'static [u8]>,
    seq: u64,
) {
    let mut table = transaction.open_table(table).expect("a table");
    let key = (PARTITION.0, seq);
    let mut bytes = table.remove(key).expect("readable").expect("an entry").value().to_vec();
    *bytes.last_mut().expect("bytes") ^= 1;
    table.insert(key, &bytes[..]).expect("inserted");
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let folder = Folder::new();
    let log = open(folder.path()).expect("a new store");
    let error = open(folder.path()).expect_err("it is open");
    assert!(error.to_string().ends_with("is in use by another process"), "{error}");
    drop(log);
    open(folder.path()).expect("it is free");
}

#[tokio::test]
async fn a_writer_that_is_left_holds_no_lock() {
    let folder = Folder::new();
    let log = open(folder.path()).expect("a new store");
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let mut reader = log.read(PARTITION, Seq::START);
    drop(log);
    let _next = open(folder.path()).expect("it is free");
    let error = writer.append("late".into()).await.expect_err("it is closed");
    assert_eq!(error.to_string(), "the store failed: it is closed");
    let error = reader.next().await.expect_err("it is closed");
    assert_eq!(error.to_string(), "the store failed: it is closed");
}

#[tokio::test]
async fn a_folder_that_cannot_be_had_is_named() {
    let folder = Folder::new();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").expect("a file");
    let error = open(&file.join("store")).expect_err("no folder");
    assert!(matches!(error, LogError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("file/store"), "{error}");
}

/// Rights do not hold root back, so this takes a folder that nobody may write to.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_folder_without_rights_is_named() {
    let error = open(Path::new("/proc/sessiond")).expect_err("nobody makes folders there");
    assert!(error.to_string().starts_with("/proc/sessiond: "), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_and_left_alone() {
    for content in [&b"something else"[..], &[b'x'; 100_000]] {
        let folder = Folder::new();
        fs::write(folder.path().join(FILE), content).expect("a file");
        let error = open(folder.path()).expect_err("no store");
        assert!(matches!(error, LogError::Damaged(_)), "{error}");
        assert_eq!(fs::read(folder.path().join(FILE)).expect("the file"), content);
    }
}

#[tokio::test]
async fn a_store_whose_file_is_gone_or_empty_is_no_new_store() {
    let folder = Folder::new();
    let path = folder.path().join(FILE);
    let refused = |path: &Path| {
        let error = open(folder.path()).expect_err("it is not new");
        assert!(matches!(error, LogError::Lost(_)), "{error}");
        let line = format!("{} is gone or empty, although there was a store", path.display());
        assert!(error.to_string().starts_with(&line), "{error}");
    };
    // Whoever has lost a file has an empty one, whatever else is in the folder.
    fs::write(&path, "").expect("a file");
    refused(&path);
    assert_eq!(fs::metadata(&path).expect("the file").len(), 0);
    fs::remove_file(&path).expect("it is there");
    filled(folder.path()).await;
    fs::remove_file(&path).expect("it is there");
    refused(&path);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_of_zeros_and_one_without_tables_are_no_new_stores() {
    let folder = Folder::new();
    let path = folder.path().join(FILE);
    for length in [1, 9, 4096, 100_000] {
        fs::write(&path, vec![0; length]).expect("a file");
        let error = open(folder.path()).expect_err("no store");
        assert!(matches!(error, LogError::Damaged(_)), "{length}: {error}");
        assert_eq!(fs::read(&path).expect("the file"), vec![0; length]);
    }
    fs::remove_file(&path).expect("it is there");
    edit(folder.path(), |_| {});
    let error = open(folder.path()).expect_err("no store");
    assert!(error.to_string().contains("it has no tables"), "{error}");
}

#[tokio::test]
async fn a_crash_while_a_store_is_made_leaves_nothing_in_the_way() {
    for left in [&b""[..], &[0; 5000], b"something"] {
        let folder = Folder::new();
        fs::write(folder.path().join("lock"), "").expect("a file");
        fs::write(folder.path().join("log.redb.new"), left).expect("a file");
        filled(folder.path()).await;
        assert!(!folder.path().join("log.redb.new").exists());
        assert_eq!(everything(&open(folder.path()).expect("it"), PARTITION).await.len(), 13);
    }
}

#[tokio::test]
async fn an_entry_whose_place_is_damaged_hides_no_other() {
    let folder = Folder::new();
    filled(folder.path()).await;
    misplace(folder.path(), 5, 1 << 42);
    let options = Options { salvage: true, ..Options::default() };
    let log = RedbLog::open(folder.path(), options).expect("the store");
    let entries = everything(&log, PARTITION).await;
    assert_eq!(batches(&entries).len(), 9, "{entries:?}");
}

/// Gives an entry of the chain a place that it has not, in the middle of the others: keys lie side by
/// side, each a partition and eight bytes, least byte first.
fn misplace(folder: &Path, seq: u64, to: u64) {
    let path = folder.join(FILE);
    let mut bytes = fs::read(&path).expect("the file");
    let key = |seq: u64| [&[PARTITION.0][..], &seq.to_le_bytes()].concat();
    let (from, to) = ([key(seq - 1), key(seq)].concat(), [key(seq - 1), key(to)].concat());
    let is_there = |at: &usize| bytes[*at..].starts_with(&from);
    let places: Vec<_> = (0..bytes.len() - from.len()).filter(is_there).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(&to);
    }
    fs::write(&path, bytes).expect("it is written");
}

#[tokio::test]
async fn a_database_of_somebody_else_is_refused() {
    let folder = Folder::new();
    const THEIRS: TableDefinition<'_, u64, u64> = TableDefinition::new("theirs");
    edit(folder.path(), |it| drop(it.open_table(THEIRS).expect("a table")));
    let error = open(folder.path()).expect_err("no store");
    assert!(matches!(error, LogError::Damaged(_)), "{error}");
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused() {
    let folder = Folder::new();
    filled(folder.path()).await;
    edit(folder.path(), |it| {
        it.open_table(STORE).expect("a table").insert("format", 7).expect("inserted");
    });
    let error = open(folder.path()).expect_err("a newer format");
    let expected = "the store has format 7, this version knows up to 1: use a newer version";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn an_entry_with_a_flipped_bit_is_lost_alone() {
    let folder = Folder::new();
    filled(folder.path()).await;
    edit(folder.path(), |it| {
        flip(it, CHAIN, 5);
        flip(it, SNAPSHOTS, 12);
    });
    let log = open(folder.path()).expect("the store");
    let entries = everything(&log, PARTITION).await;
    assert_eq!(entries.len(), 13);
    let lost = |seq, key| Entry { seq: Seq(seq), term: Seq(0), content: Content::Lost { key } };
    assert!(entries.contains(&lost(5, None)), "{entries:?}");
    assert!(entries.contains(&lost(12, Some("a".into()))), "{entries:?}");
    assert_eq!(log.counters().lost_entries, 2);
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    writer.append("more".into()).await.expect("stored");
    assert_eq!(batches(&everything(&log, PARTITION).await).len(), 10);
}

#[tokio::test]
async fn the_last_entry_is_lost_alone_too() {
    let folder = Folder::new();
    filled(folder.path()).await;
    edit(folder.path(), |it| {
        flip(it, CHAIN, 11);
        let mut heads = it.open_table(HEADS).expect("a table");
        heads.insert(PARTITION.0, &[7; 36][..]).expect("inserted");
    });
    let log = open(folder.path()).expect("the store");
    assert_eq!(everything(&log, PARTITION).await.len(), 13);
    let writer = log.claim(PARTITION, NODE).await.expect("a claim");
    assert_eq!(writer.term(), Seq(14));
}

#[tokio::test]
async fn a_gap_is_an_error_unless_it_is_salvaged() {
    for gap in [1, 5, 11] {
        let folder = Folder::new();
        filled(folder.path()).await;
        edit(folder.path(), |it| {
            let mut chain = it.open_table(CHAIN).expect("a table");
            assert!(chain.remove((PARTITION.0, gap)).expect("readable").is_some());
        });
        let log = open(folder.path()).expect("the store");
        let error = try_everything(&log, PARTITION).await.expect_err("a gap");
        assert!(matches!(error, LogError::Gap { after, .. } if after == Seq(gap - 1)), "{error}");
        // What follows on it is not touched by it.
        let mut reader = log.read(PARTITION, Seq(12));
        assert!(reader.next().await.is_ok());
        drop((log, reader));
        let options = Options { salvage: true, ..Options::default() };
        let log = RedbLog::open(folder.path(), options).expect("the store");
        assert_eq!(everything(&log, PARTITION).await.len(), 12, "without {gap}");
        assert_eq!(log.counters().gaps, 1);
    }
}

#[tokio::test]
async fn a_file_cut_short_is_an_error() {
    let folder = Folder::new();
    filled(folder.path()).await;
    let path = folder.path().join(FILE);
    let whole = fs::read(&path).expect("the file");
    for length in (1..=40).map(|it| whole.len() * it / 41).chain([1, 9, 320, 4096, 5000]) {
        let disk = FaultyDisk::with(whole[..length].to_vec());
        let read = async {
            let log = RedbLog::on(disk, Options::default())?;
            try_everything(&log, PARTITION).await
        };
        let error = read.await.expect_err("it is cut short");
        assert!(matches!(error, LogError::Damaged(_)), "{length}: {error}");
    }
}

/// Anywhere in the file: whole, with entries that are lost, or an error, but never a panic and
/// never something else than what was written.
#[tokio::test]
async fn a_flipped_bit_anywhere_is_noticed_or_does_no_harm() {
    let folder = Folder::new();
    filled(folder.path()).await;
    let whole = fs::read(folder.path().join(FILE)).expect("the file");
    let log = open(folder.path()).expect("the store");
    let expected = everything(&log, PARTITION).await;
    let mut random = Rng::with_seed(7);
    let used: Vec<_> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    for _ in 0..400 {
        let mut bytes = whole.clone();
        bytes[*random.choice(&used).expect("bytes")] ^= 1 << random.u8(..8);
        let disk = FaultyDisk::with(bytes);
        let read = async {
            let log = RedbLog::on(disk, Options::default())?;
            try_everything(&log, PARTITION).await
        };
        for entry in read.await.unwrap_or_default() {
            let is_lost = matches!(entry.content, Content::Lost { .. });
            assert!(is_lost || expected.contains(&entry), "{entry:?}");
        }
    }
}
