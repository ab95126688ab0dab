//! The store on a disk that fails at any point. Whatever happens, it opens afterwards, nothing that
//! was acked is lost, and nothing is there twice.
//!
//! `FAULTS=10000` is the long run.

use super::{
    faulty::{FaultyDisk, Kind},
    support::*,
};
use bytes::Bytes;
use fastrand::Rng;
use sessiond::log::{
    AppendError, Content, Log, LogError, Numbered, Partition, Seq, Snapshot, Writer,
    redb::{Options, RedbLog, RedbPort},
};
use std::collections::{BTreeMap, BTreeSet};

/// Points in the normal run.
const POINTS: usize = 300;

/// What the writer of one partition does.
const STEPS: usize = 12;

const KEYS: [&str; 3] = ["a", "b", "c"];

fn options() -> Options {
    Options { cache_bytes: 256 << 10, ..Options::default() }
}

/// What a partition must have.
#[derive(Debug, Default)]
struct Model {
    acked: BTreeMap<Seq, Bytes>,
    /// Sent, and it is not known what became of them.
    possible: BTreeSet<Bytes>,
    /// What each key may have; none = nothing.
    keys: BTreeMap<&'static str, Vec<Option<Bytes>>>,
    /// Below this place nothing has to be there.
    trimmed: Seq,
}

/// What a writer came to.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Done,
    Broken,
}

#[tokio::test]
async fn whatever_fails_nothing_acked_is_lost() {
    let points = std::env::var("FAULTS").map_or(POINTS, |it| it.parse().expect("a number"));
    let mut met = BTreeMap::new();
    for point in 0..points {
        let kind = Kind::ALL[point % Kind::ALL.len()];
        let mut random = Rng::with_seed(point as u64);
        let (seed, wanted) = (random.u64(..), random.f64());
        // Without a fault first, to see how many points there are.
        let disk = FaultyDisk::default();
        let mut models = [Model::default(), Model::default()];
        let end = work(&disk, &mut models, &mut Rng::with_seed(seed)).await;
        assert_eq!(end, End::Done);
        let after = (disk.operations() as f64 * wanted) as usize;

        let disk = FaultyDisk::default();
        disk.fail(after, kind);
        let mut models = [Model::default(), Model::default()];
        let end = work(&disk, &mut models, &mut Rng::with_seed(seed)).await;
        let what = format!("point {point}: {kind:?} after {after} operations: {end:?}");
        *met.entry((kind as u8, disk.has_failed())).or_insert(0) += 1;
        let mut disk = disk.after_crash(&mut random);
        // Twice: what opening has mended stays mended.
        for _ in 0..2 {
            check(&disk, &models, &what).await;
            disk = disk.after_crash(&mut random);
        }
    }
    let failed: usize = met.iter().filter(|((_, failed), _)| *failed).map(|(_, count)| count).sum();
    assert!(failed * 10 > points * 9, "most points are met: {met:?}");
}

/// Two writers at once, until they are done or nothing goes any more.
async fn work(disk: &FaultyDisk, models: &mut [Model; 2], random: &mut Rng) -> End {
    let log = loop {
        match RedbLog::on(disk.clone(), options()) {
            Ok(log) => break log,
            Err(LogError::Full) => disk.free(),
            Err(_) => return End::Broken,
        }
    };
    let [one, other] = models;
    let ends = tokio::join!(
        write(&log, disk, PARTITION, one, random.fork()),
        write(&log, disk, OTHER, other, random.fork()),
    );
    if ends.0 == End::Done { ends.1 } else { ends.0 }
}

async fn write(
    log: &RedbLog,
    disk: &FaultyDisk,
    partition: Partition,
    model: &mut Model,
    mut random: Rng,
) -> End {
    let mut writer = loop {
        match log.claim(partition, NODE).await {
            Ok(writer) => break writer,
            Err(LogError::Full) => disk.free(),
            Err(_) => return End::Broken,
        }
    };
    for number in 0..STEPS {
        match step(&mut writer, disk, model, number, &mut random).await {
            Ok(()) => {}
            Err(AppendError::Broken(_)) => return End::Broken,
            Err(other) => panic!("{other}"),
        }
    }
    End::Done
}

async fn step(
    writer: &mut Numbered<RedbPort>,
    disk: &FaultyDisk,
    model: &mut Model,
    number: usize,
    random: &mut Rng,
) -> Result<(), AppendError> {
    match random.u8(..10) {
        0..=5 => {
            let size = *random.choice(&[20, 600, 5_000, 40_000]).expect("some");
            let mut batch = format!("{number} of {}", writer.term()).into_bytes();
            batch.resize(size, random.u8(..));
            let batch = Bytes::from(batch);
            model.possible.insert(batch.clone());
            let mut outcome = writer.append(batch.clone()).await;
            while retried(&outcome, disk) {
                outcome = match writer.settle().await {
                    Ok(None) => writer.append(batch.clone()).await,
                    settled => settled.map(|seq| seq.expect("it was sent")),
                };
            }
            let before = model.acked.insert(outcome?, batch.clone());
            assert_eq!(before, None, "a place is taken once");
            model.possible.remove(&batch);
        }
        6..=8 => {
            let mut states = BTreeMap::new();
            for _ in 0..random.usize(1..20) {
                let state = random.bool().then(|| vec![random.u8(..); random.usize(..3000)].into());
                states.insert(*random.choice(&KEYS).expect("some"), state);
            }
            for (key, state) in &states {
                let may = model.keys.entry(key).or_insert_with(|| vec![None]);
                may.push(state.clone());
            }
            let snapshots = states.iter().map(|(key, state)| Snapshot {
                key: Bytes::from_static(key.as_bytes()),
                state: state.clone(),
            });
            let snapshots: Vec<_> = snapshots.collect();
            let mut outcome = writer.snapshot(snapshots.clone()).await;
            while retried(&outcome, disk) {
                outcome = match writer.settle().await {
                    Ok(None) => writer.snapshot(snapshots.clone()).await,
                    settled => settled.map(|seq| seq.expect("it was sent")),
                };
            }
            outcome?;
            for (key, state) in states {
                model.keys.insert(key, vec![state]);
            }
        }
        _ => {
            let below = model.acked.keys().nth(model.acked.len() / 2).copied().unwrap_or_default();
            model.trimmed = model.trimmed.max(below);
            let mut outcome = writer.trim(below).await.map(|()| below);
            while retried(&outcome, disk) {
                outcome = match writer.settle().await {
                    Ok(None) => writer.trim(below).await.map(|()| below),
                    settled => settled.map(|seq| seq.expect("it was sent")),
                };
            }
            outcome?;
        }
    }
    Ok(())
}

/// Whether there was no space, which there is then. Nothing is opened again for that.
fn retried(outcome: &Result<Seq, AppendError>, disk: &FaultyDisk) -> bool {
    let again = matches!(outcome, Err(error) if *error == AppendError::Full || error.is_unknown());
    if again {
        disk.free();
    }
    again
}

async fn check(disk: &FaultyDisk, models: &[Model; 2], what: &str) {
    let log = match RedbLog::on(disk.clone(), options()) {
        Ok(log) => log,
        Err(error) => panic!("{what}: {error}"),
    };
    for (partition, model) in [PARTITION, OTHER].into_iter().zip(models) {
        let what = format!("{what}, partition {partition}");
        let entries = match try_everything(&log, partition).await {
            Ok(entries) => entries,
            Err(error) => panic!("{what}: {error}"),
        };
        assert!(entries.iter().is_sorted_by(|a, b| a.seq < b.seq), "{what}: each place once");
        let lost = entries.iter().find(|it| matches!(it.content, Content::Lost { .. }));
        assert_eq!(lost, None, "{what}");
        let found: BTreeMap<_, _> = batches(&entries).into_iter().collect();
        for (seq, batch) in &model.acked {
            let there = found.get(seq);
            assert!(
                there == Some(batch) || (there.is_none() && *seq < model.trimmed),
                "{what}: {seq} was acked"
            );
        }
        let mut possible = model.possible.clone();
        for (seq, batch) in &found {
            let known = model.acked.get(seq) == Some(batch) || possible.remove(batch);
            assert!(known, "{what}: {seq} was sent once or never");
        }
        let snapshots: BTreeMap<_, _> = snapshots(&entries).into_iter().collect();
        for (key, may) in &model.keys {
            let state = snapshots.get(key.as_bytes());
            assert!(may.iter().any(|it| it.as_ref() == state), "{what}: snapshot of {key}");
        }
    }
    // And it goes on.
    let mut writer = log.claim(Partition(7), NODE).await.expect("a claim");
    let seq = writer.append("more".into()).await.expect("stored");
    let entries = everything(&log, Partition(7)).await;
    assert_eq!(batches(&entries).last(), Some(&(seq, "more".into())), "{what}");
}

/// After an error nothing is acked, and one line says why.
#[tokio::test]
async fn after_an_error_nothing_is_acked() {
    let disk = FaultyDisk::default();
    let log = RedbLog::on(disk.clone(), options()).expect("a new store");
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    writer.append("first".into()).await.expect("stored");
    disk.fail(0, Kind::Error);
    for _ in 0..3 {
        let error = writer.append("second".into()).await.expect_err("the disk is gone");
        assert!(matches!(error, AppendError::Broken(_)), "{error}");
        assert!(error.to_string().contains("Input/output error"), "{error}");
    }
    let error = log.claim(OTHER, NODE).await.expect_err("the disk is gone");
    assert!(matches!(error, LogError::Broken(_)), "{error}");
    assert_eq!(log.counters().entries, 2);
}
