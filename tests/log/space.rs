//! A disk that is full, or as full as it may be.

use super::{
    faulty::{FaultyDisk, Kind},
    support::*,
};
use bytes::Bytes;
use sessiond::log::{
    AppendError, Log, Seq, Writer,
    redb::{ASIDE, Disk, Options, RESERVE, RedbLog},
    space::FLOOR,
};

#[tokio::test]
async fn a_full_store_takes_snapshots_and_trims_and_then_batches_again() {
    let folder = Folder::new();
    let options = Options { max_bytes: RESERVE + (2 << 20), ..Options::default() };
    let log = RedbLog::open(folder.path(), options).expect("a new store");
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    for _ in 0..2 {
        let mut last = Seq::START;
        let batch = Bytes::from(vec![7; 60_000]);
        let mut count = 0;
        let full = loop {
            match writer.append(batch.clone()).await {
                Ok(seq) => last = seq,
                Err(error) => break error,
            }
            count += 1;
        };
        assert_eq!(full, AppendError::Full);
        assert!((20..40).contains(&count), "{count}");
        assert_eq!(writer.append(batch.clone()).await, Err(AppendError::Full));
        assert_eq!(writer.settle().await, Ok(None), "it is known");
        writer.snapshot(vec![snapshot("key", "state")]).await.expect("there is a reserve");
        writer.trim(last).await.expect("it makes space");
    }
    assert_eq!(log.counters().full, 4);
    writer.append("more".into()).await.expect("there is space again");
    assert!(log.counters().used_bytes < 1 << 20);
}

#[tokio::test]
async fn a_full_store_takes_a_batch_from_its_reserve_down_to_the_floor() {
    let folder = Folder::new();
    let options = Options { max_bytes: FLOOR + (8 << 20), ..Options::default() };
    let log = RedbLog::open(folder.path(), options).expect("a new store");
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let batch = Bytes::from(vec![7; 500_000]);
    assert_eq!(writer.append(batch.clone()).await, Err(AppendError::Full));
    let mut count = 0;
    let mut room = writer.room();
    while let Ok(seq) = writer.append_from_reserve(batch.clone()).await {
        assert!(seq > writer.term() && writer.room() < room, "{room}");
        (room, count) = (writer.room(), count + 1);
    }
    assert!((10..16).contains(&count) && room >= FLOOR, "{count} {room}");
    writer.snapshot(vec![snapshot("key", "state")]).await.expect("there is a margin");
}

#[tokio::test]
async fn what_was_accepted_before_the_disk_was_full_takes_what_is_set_aside() {
    let disk = FaultyDisk::default();
    let options = Options { sets_aside: true, ..Options::default() };
    let log = RedbLog::on(disk.clone(), options).expect("a new store");
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let batch = Bytes::from(vec![7; 100_000]);
    for after in 0..3 {
        writer.append(batch.clone()).await.expect("there is space");
        let before = batches(&everything(&log, PARTITION).await).len();
        disk.fail(after, Kind::Space);
        writer.append(batch.clone()).await.expect("there is what was set aside");
        assert_eq!(batches(&everything(&log, PARTITION).await).len(), before + 1, "once");
    }
    disk.fail(0, Kind::Space);
    disk.give_back();
    disk.fail(0, Kind::Space);
    assert_eq!(writer.append(batch.clone()).await, Err(AppendError::Full));
}

#[test]
fn a_server_sets_space_aside_where_there_is_enough() {
    let folder = Folder::new();
    let options = Options { sets_aside: true, ..Options::default() };
    drop(RedbLog::open(folder.path(), options).expect("a new store"));
    let file = std::fs::metadata(folder.path().join(ASIDE));
    assert!(file.is_ok_and(|file| file.len() == 32 << 20) || cfg!(not(target_os = "linux")));
}

#[tokio::test]
async fn a_disk_without_space_refuses_and_goes_on_when_there_is_some() {
    let disk = FaultyDisk::default();
    let log = RedbLog::on(disk.clone(), Options::default()).expect("a new store");
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let mut stored = vec![(writer.append("first".into()).await.expect("stored"), "first".into())];
    for round in 0..3 {
        disk.fail(0, Kind::Space);
        let batch = Bytes::from(vec![round; 100_000]);
        for _ in 0..3 {
            assert_eq!(writer.append(batch.clone()).await, Err(AppendError::Full));
        }
        // Readers go on.
        assert_eq!(batches(&everything(&log, PARTITION).await), stored);
        disk.free();
        stored.push((writer.append(batch.clone()).await.expect("there is space"), batch));
        assert_eq!(batches(&everything(&log, PARTITION).await), stored);
    }
    assert_eq!(log.counters().full, 9);
}

#[tokio::test]
async fn what_is_unknown_for_want_of_space_is_settled_when_there_is_some() {
    let disk = FaultyDisk::default();
    let log = RedbLog::on(disk.clone(), Options::default()).expect("a new store");
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    for after in 0..30 {
        let before = batches(&everything(&log, PARTITION).await).len();
        disk.fail(after, Kind::SpaceForNothing);
        let outcome = writer.append(vec![7; 10_000].into()).await;
        disk.free();
        let stored = match outcome {
            Err(AppendError::UnknownFull) => writer.settle().await.expect("settled").is_some(),
            ref outcome => outcome.is_ok(),
        };
        let batches = batches(&everything(&log, PARTITION).await).len();
        assert_eq!(batches, before + usize::from(stored), "after {after}: {outcome:?}");
    }
}

#[tokio::test]
async fn readers_notice_nothing_of_a_disk_without_space() {
    let disk = FaultyDisk::default();
    let options = Options { cache_bytes: 0, ..Options::default() };
    let log = RedbLog::on(disk.clone(), options).expect("a new store");
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    for number in 0..20 {
        writer.append(vec![number; 10_000].into()).await.expect("stored");
    }
    let expected = everything(&log, PARTITION).await;
    let write = async {
        for after in 0..40 {
            disk.fail(after % 2, Kind::Space);
            assert_eq!(writer.append(vec![7; 10_000].into()).await, Err(AppendError::Full));
            disk.free();
        }
    };
    let read = async {
        for _ in 0..40 {
            assert_eq!(everything(&log, PARTITION).await, expected);
        }
    };
    tokio::join!(write, read);
}

#[tokio::test]
async fn what_is_trimmed_is_used_again() {
    let folder = Folder::new();
    let log = RedbLog::open(folder.path(), Options::default()).expect("a new store");
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let mut sizes = Vec::new();
    for _ in 0..6 {
        let mut last = Seq::START;
        for _ in 0..30 {
            last = writer.append(vec![7; 100_000].into()).await.expect("stored");
        }
        writer.trim(last).await.expect("trimmed");
        sizes.push(log.counters().disk_bytes);
    }
    assert!(sizes[5] <= sizes[1] * 3 / 2, "{sizes:?}");
}

/// More than one transaction trims at once, with appends of another partition between them.
#[tokio::test]
async fn a_long_trim_is_done_when_it_says_so() {
    let log = RedbLog::on(FaultyDisk::default(), Options::default()).expect("a new store");
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let mut other = log.claim(OTHER, NODE).await.expect("a claim");
    let mut last = Seq::START;
    for _ in 0..5000 {
        last = writer.append("batch".into()).await.expect("stored");
    }
    let (trimmed, appended) = tokio::join!(writer.trim(last), other.append("batch".into()));
    assert_eq!((trimmed, appended), (Ok(()), Ok(Seq(2))));
    assert_eq!(batches(&everything(&log, PARTITION).await), [(last, "batch".into())]);
    assert_eq!(writer.append("more".into()).await, Ok(last.next()));
}

#[tokio::test]
async fn compacting_gives_space_back_and_loses_nothing() {
    let folder = Folder::new();
    let log = RedbLog::open(folder.path(), Options::default()).expect("a new store");
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let mut last = Seq::START;
    for number in 0..60_u8 {
        last = writer.append(vec![number; 100_000].into()).await.expect("stored");
        writer.snapshot(vec![snapshot("key", &number.to_string())]).await.expect("stored");
    }
    writer.trim(last).await.expect("trimmed");
    let (entries, before) = (everything(&log, PARTITION).await, log.counters());
    // Readers wait for it, and it for them.
    let (compacted, read) = tokio::join!(log.compact(), everything(&log, PARTITION));
    assert_eq!((compacted, read), (Ok(()), entries.clone()));
    assert_eq!(everything(&log, PARTITION).await, entries);
    writer.append("more".into()).await.expect("stored");
    let after = log.counters();
    assert!(after.disk_bytes * 2 < before.disk_bytes, "{before:?} {after:?}");
}
