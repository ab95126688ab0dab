//! What every log promises: each test runs over each implementation.

use super::{
    jetstream::{nats, three},
    support::*,
};
use bytes::Bytes;
use sessiond::log::{
    AppendError, Content, Log, LogError, MAX_BATCH_BYTES, MAX_KEY_BYTES, NodeId, Partition, Reader,
    Seq, Snapshot, Writer,
    jetstream::JetStreamLog,
    memory::MemoryLog,
    redb::{Options, RedbLog},
};
use std::{collections::BTreeSet, pin::pin, time::Duration};
use tokio::time::timeout;

/// An implementation, and how a reply of it is lost.
trait Subject {
    type Log: Log;

    /// Another partition than the first, the last that it may have.
    const LAST: Partition = OTHER;

    fn log(&self) -> &Self::Log;

    /// Appends so that it is stored and nobody knows.
    async fn append_without_reply(&self, writer: &mut <Self::Log as Log>::Writer, batch: Bytes);
}

struct Memory(MemoryLog);

impl Subject for Memory {
    type Log = MemoryLog;

    fn log(&self) -> &MemoryLog {
        &self.0
    }

    async fn append_without_reply(&self, writer: &mut <MemoryLog as Log>::Writer, batch: Bytes) {
        self.0.lose_replies(1);
        assert_eq!(writer.append(batch).await, Err(AppendError::Unknown));
    }
}

struct OnDisk(RedbLog, #[expect(dead_code, reason = "it is removed at the end")] Folder);

impl OnDisk {
    fn new() -> Self {
        let folder = Folder::new();
        Self(RedbLog::open(folder.path(), Options::default()).expect("a new store"), folder)
    }
}

impl Subject for OnDisk {
    type Log = RedbLog;

    fn log(&self) -> &RedbLog {
        &self.0
    }

    async fn append_without_reply(&self, writer: &mut <RedbLog as Log>::Writer, batch: Bytes) {
        give_up(writer.append(batch)).await;
    }
}

struct OverNats(JetStreamLog);

impl OverNats {
    async fn new() -> Option<Self> {
        Some(Self(nats::log(&nats::shared()?.url(), &nats::settings()).await))
    }
}

impl Subject for OverNats {
    type Log = JetStreamLog;

    const LAST: Partition = Partition(3);

    fn log(&self) -> &JetStreamLog {
        &self.0
    }

    async fn append_without_reply(&self, writer: &mut <JetStreamLog as Log>::Writer, batch: Bytes) {
        give_up(writer.append(batch)).await;
    }
}

/// Whoever gives up waiting knows as little as whoever has lost the reply.
async fn give_up(append: impl Future) {
    let mut append = pin!(append);
    std::future::poll_fn(|cx| {
        assert!(append.as_mut().poll(cx).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
}

macro_rules! every_log {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Memory(Default::default())).await;
            })*
        }
        mod on_disk {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::OnDisk::new()).await;
            })*
        }
        mod over_nats {
            $(#[tokio::test]
            async fn $name() {
                if let Some(subject) = super::OverNats::new().await {
                    super::$name(subject).await;
                }
            })*

            #[tokio::test]
            async fn every_rule_holds_on_three_servers() {
                let Some(three) = super::nats::Three::start() else { return };
                $(
                    let (log, _) = super::three::log(&three, super::nats::settings()).await;
                    super::$name(super::OverNats(log)).await;
                )*
            }
        }
    };
}

every_log!(
    batches_are_whole_and_in_order,
    partitions_are_apart,
    an_old_writer_is_deposed,
    of_two_writers_one_wins,
    a_writer_deposed_with_a_call_on_its_way_says_nothing_is_stored_that_is_not,
    what_is_sent_again_is_stored_once,
    nothing_is_sent_while_something_is_unknown,
    a_claim_comes_after_everything_before_it,
    a_trim_takes_what_is_below_and_no_snapshot,
    a_trim_never_takes_the_last,
    a_reader_of_what_is_trimmed_is_told,
    a_reader_from_the_beginning_finds_snapshots_from_before_a_trim,
    a_snapshot_replaces_the_one_before,
    a_key_that_is_gone_has_no_snapshot,
    a_reader_follows,
    a_reader_begins_anywhere,
    a_release_is_a_clean_end,
    what_is_too_large_is_refused,
);

async fn batches_are_whole_and_in_order(subject: impl Subject) {
    let log = subject.log();
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let mut sent = Vec::new();
    for size in [0, 1, 4096, MAX_BATCH_BYTES, 70_000, 12] {
        let batch = Bytes::from(vec![size as u8; size]);
        let seq = writer.append(batch.clone()).await.expect("stored");
        sent.push((seq, batch));
    }
    assert!(sent.is_sorted_by_key(|(seq, _)| *seq));
    let entries = everything(log, PARTITION).await;
    assert_eq!(entries[0].content, Content::Claim(NODE));
    assert_eq!(entries[0].seq, writer.term());
    assert!(entries.iter().all(|entry| entry.term == writer.term()));
    assert_eq!(batches(&entries), sent);
}

async fn partitions_are_apart<S: Subject>(subject: S) {
    let log = subject.log();
    let mut one = log.claim(PARTITION, NODE).await.expect("a claim");
    let mut other = log.claim(S::LAST, NODE).await.expect("a claim");
    for number in 0..20 {
        let text = |name: &str| Bytes::from(format!("{name} {number}"));
        let (one, other) = tokio::join!(one.append(text("one")), other.append(text("other")));
        assert_eq!(one, other, "both have numbers of their own");
    }
    one.snapshot(vec![snapshot("key", "one")]).await.expect("stored");
    other.snapshot(vec![snapshot("key", "other")]).await.expect("stored");
    one.trim(Seq(10)).await.expect("trimmed");
    let (one, other) = (everything(log, PARTITION).await, everything(log, S::LAST).await);
    assert!(batches(&one).iter().all(|(_, it)| it.starts_with(b"one")));
    assert_eq!(batches(&other).len(), 20);
    assert!(batches(&other).iter().all(|(_, it)| it.starts_with(b"other")));
    assert_eq!(snapshots(&one), [("key".into(), "one".into())]);
    assert_eq!(snapshots(&other), [("key".into(), "other".into())]);
}

async fn an_old_writer_is_deposed(subject: impl Subject) {
    let log = subject.log();
    let mut old = log.claim(PARTITION, NODE).await.expect("a claim");
    old.append("mine".into()).await.expect("stored");
    let mut new = log.claim(PARTITION, NodeId(2)).await.expect("a claim");
    assert!(new.term() > old.term());
    let deposed = Err(AppendError::Deposed);
    assert_eq!(old.append("late".into()).await, deposed);
    assert_eq!(old.snapshot(vec![snapshot("key", "late")]).await, deposed);
    assert_eq!(old.trim(Seq(9)).await, Err(AppendError::Deposed));
    assert_eq!(old.release().await, Err(AppendError::Deposed));
    let seq = new.append("next".into()).await.expect("stored");
    let entries = everything(log, PARTITION).await;
    assert_eq!(batches(&entries), [(Seq(2), "mine".into()), (seq, "next".into())]);
    assert!(snapshots(&entries).is_empty());
    assert_eq!(entries.last().map(|entry| entry.term), Some(new.term()));
}

async fn a_writer_deposed_with_a_call_on_its_way_says_nothing_is_stored_that_is_not(
    subject: impl Subject,
) {
    let log = subject.log();
    let mut acked = Vec::new();
    for round in 0..10 {
        let mut old = log.claim(PARTITION, NODE).await.expect("a claim");
        let batch = Bytes::from(format!("on its way {round}"));
        subject.append_without_reply(&mut old, batch.clone()).await;
        let new = log.claim(PARTITION, NodeId(2)).await.expect("a claim");
        match old.settle().await {
            Ok(Some(seq)) => {
                assert!(seq < new.term(), "nothing of it comes after the claim");
                acked.push((seq, batch));
            }
            outcome => assert_eq!(outcome, Err(AppendError::Deposed)),
        }
        for _ in 0..2 {
            assert_eq!(old.append("late".into()).await, Err(AppendError::Deposed));
            assert_eq!(old.settle().await, Ok(None), "that is known");
        }
    }
    let found = batches(&everything(log, PARTITION).await);
    assert!(acked.iter().all(|it| found.contains(it)), "{acked:?} {found:?}");
    assert!(found.iter().all(|(_, batch)| batch != "late"), "{found:?}");
}

async fn of_two_writers_one_wins(subject: impl Subject) {
    let log = subject.log();
    for round in 0..30 {
        let (one, other) = tokio::join!(log.claim(PARTITION, NODE), log.claim(PARTITION, NODE));
        let (mut one, mut other) = (one.expect("a claim"), other.expect("a claim"));
        let text = |name| Bytes::from(format!("{name} {round}"));
        let outcomes = tokio::join!(one.append(text("one")), other.append(text("other")));
        let (winner, loser) =
            if one.term() > other.term() { outcomes } else { (outcomes.1, outcomes.0) };
        assert!(winner.is_ok());
        assert_eq!(loser, Err(AppendError::Deposed));
    }
    assert_eq!(batches(&everything(log, PARTITION).await).len(), 30);
}

async fn what_is_sent_again_is_stored_once(subject: impl Subject) {
    let log = subject.log();
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let mut sent = Vec::new();
    for number in 0..20 {
        // The same bytes twice are two batches, as long as nothing is unknown.
        let batch = Bytes::from(format!("batch {}", number / 2));
        subject.append_without_reply(&mut writer, batch.clone()).await;
        let seq = writer.settle().await.expect("settled").expect("it was unknown");
        assert_eq!(writer.settle().await, Ok(None));
        sent.push((seq, batch));
    }
    assert_eq!(batches(&everything(log, PARTITION).await), sent);
}

async fn nothing_is_sent_while_something_is_unknown(subject: impl Subject) {
    let log = subject.log();
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    subject.append_without_reply(&mut writer, "first".into()).await;
    assert_eq!(writer.append("second".into()).await, Err(AppendError::Unknown));
    assert_eq!(writer.trim(Seq(9)).await, Err(AppendError::Unknown));
    writer.settle().await.expect("settled");
    writer.append("third".into()).await.expect("stored");
    let stored: Vec<_> =
        batches(&everything(log, PARTITION).await).into_iter().map(|(_, it)| it).collect();
    assert_eq!(stored, ["first", "third"]);
}

async fn a_claim_comes_after_everything_before_it(subject: impl Subject) {
    let log = subject.log();
    for round in 0..20 {
        let mut old = log.claim(PARTITION, NODE).await.expect("a claim");
        let appends = async {
            let mut acked = Vec::new();
            loop {
                match old.append(format!("round {round}").into()).await {
                    Ok(seq) => acked.push(seq),
                    Err(error) => break (acked, error),
                }
                tokio::task::yield_now().await;
            }
        };
        let claim = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            log.claim(PARTITION, NodeId(2)).await.expect("a claim")
        };
        let ((acked, error), new) = tokio::join!(appends, claim);
        assert_eq!(error, AppendError::Deposed);
        // Read up to the claim, as whoever serves the partition does.
        let mut reader = log.read(PARTITION, Seq::START);
        let mut found = BTreeSet::new();
        while let Some(entry) = reader.next().await.expect("readable") {
            found.insert(entry.seq);
            if entry.seq == new.term() {
                break;
            }
        }
        assert!(acked.iter().all(|seq| found.contains(seq)), "round {round}: {acked:?}");
    }
}

async fn a_trim_takes_what_is_below_and_no_snapshot(subject: impl Subject) {
    let log = subject.log();
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    writer.append("first".into()).await.expect("stored");
    writer.snapshot(vec![snapshot("key", "state")]).await.expect("stored");
    let second = writer.append("second".into()).await.expect("stored");
    let third = writer.append("third".into()).await.expect("stored");
    writer.trim(second).await.expect("trimmed");
    let entries = everything(log, PARTITION).await;
    assert_eq!(batches(&entries), [(second, "second".into()), (third, "third".into())]);
    assert_eq!(snapshots(&entries), [("key".into(), "state".into())]);
    // Never back, and nothing is where something was.
    writer.trim(Seq::START).await.expect("trimmed");
    assert!(writer.append("fourth".into()).await.expect("stored") > third);
    assert_eq!(batches(&everything(log, PARTITION).await).len(), 3);
}

async fn a_trim_never_takes_the_last(subject: impl Subject) {
    let log = subject.log();
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    writer.append("first".into()).await.expect("stored");
    let last = writer.append("last".into()).await.expect("stored");
    writer.trim(Seq(u64::MAX)).await.expect("trimmed");
    assert_eq!(batches(&everything(log, PARTITION).await), [(last, "last".into())]);
}

async fn a_reader_of_what_is_trimmed_is_told(subject: impl Subject) {
    let log = subject.log();
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let mut slow = log.read(PARTITION, Seq::START);
    while slow.next().await.expect("readable").is_some() {}
    let mut seqs = Vec::new();
    for number in 0..5 {
        seqs.push(writer.append(format!("{number}").into()).await.expect("stored"));
    }
    writer.trim(seqs[3]).await.expect("trimmed");
    let trimmed =
        |error: &LogError| matches!(error, LogError::Trimmed { oldest, .. } if *oldest == seqs[3]);
    assert!(slow.next().await.is_err_and(|error| trimmed(&error)));
    assert!(log.read(PARTITION, seqs[0]).next().await.is_err_and(|error| trimmed(&error)));
    let next = log.read(PARTITION, seqs[3]).next().await.expect("readable").expect("an entry");
    assert_eq!(next.seq, seqs[3]);
}

async fn a_reader_from_the_beginning_finds_snapshots_from_before_a_trim(subject: impl Subject) {
    let log = subject.log();
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    // More than a reader takes at a time.
    for number in 0..20 {
        let keys = (0..100).map(|key| snapshot(&format!("{number}-{key}"), "state"));
        writer.snapshot(keys.collect()).await.expect("stored");
    }
    writer.append("trimmed".into()).await.expect("stored");
    let last = writer.append("last".into()).await.expect("stored");
    writer.trim(last).await.expect("trimmed");
    let entries = everything(log, PARTITION).await;
    assert_eq!(snapshots(&entries).len(), 2000);
    assert_eq!(batches(&entries), [(last, "last".into())]);
}

async fn a_snapshot_replaces_the_one_before(subject: impl Subject) {
    let log = subject.log();
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    writer.snapshot(vec![snapshot("a", "1"), snapshot("b", "1")]).await.expect("stored");
    writer.append("between".into()).await.expect("stored");
    let last = writer
        .snapshot(vec![snapshot("a", "2"), snapshot("c", "1"), snapshot("a", "3")])
        .await
        .expect("stored");
    let entries = everything(log, PARTITION).await;
    assert!(entries.is_sorted_by_key(|entry| entry.seq));
    assert_eq!(entries.last().map(|entry| entry.seq), Some(last));
    let expected = [("b", "1"), ("c", "1"), ("a", "3")].map(|(k, s)| (k.into(), s.into()));
    assert_eq!(snapshots(&entries), expected);
}

async fn a_key_that_is_gone_has_no_snapshot(subject: impl Subject) {
    let log = subject.log();
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    writer.snapshot(vec![snapshot("a", "1"), snapshot("b", "1")]).await.expect("stored");
    writer.snapshot(vec![gone("a"), gone("never there")]).await.expect("stored");
    let left = [("b".into(), "1".into())];
    assert_eq!(snapshots(&everything(log, PARTITION).await), left);
    writer.snapshot(vec![gone("b"), snapshot("a", "2")]).await.expect("stored");
    assert_eq!(snapshots(&everything(log, PARTITION).await), [("a".into(), "2".into())]);
}

async fn a_reader_follows(subject: impl Subject) {
    let log = subject.log();
    let mut reader = log.read(PARTITION, Seq::START);
    assert_eq!(reader.next().await.expect("readable"), None);
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    let write = async {
        for number in 0..50 {
            writer.append(format!("{number}").into()).await.expect("stored");
            if number % 10 == 0 {
                writer.snapshot(vec![snapshot("key", "state"), gone("key")]).await.expect("stored");
            }
        }
    };
    let follow = async {
        let mut seen = Vec::new();
        while seen.len() < 50 {
            match reader.next().await.expect("readable") {
                Some(entry) => seen.extend(batches(&[entry])),
                None => reader.changed().await.expect("more"),
            }
        }
        seen
    };
    let both = async { tokio::join!(write, follow) };
    let ((), seen) = timeout(Duration::from_secs(30), both).await.expect("it is woken");
    let numbers: Vec<_> = (0..50).map(|it| Bytes::from(it.to_string())).collect();
    assert_eq!(seen.into_iter().map(|(_, it)| it).collect::<Vec<_>>(), numbers);
}

async fn a_reader_begins_anywhere(subject: impl Subject) {
    let log = subject.log();
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    for number in 0..5 {
        writer.append(format!("{number}").into()).await.expect("stored");
        writer.snapshot(vec![snapshot("key", "state")]).await.expect("stored");
    }
    let all = everything(log, PARTITION).await;
    for from in 1..=all.len() as u64 + 9 {
        let mut reader = log.read(PARTITION, Seq(from));
        let mut seqs = Vec::new();
        while let Some(entry) = reader.next().await.expect("readable") {
            seqs.push(entry.seq);
        }
        let expected = all.iter().map(|entry| entry.seq).filter(|seq| *seq >= Seq(from));
        assert_eq!(seqs, expected.collect::<Vec<_>>(), "from {from}");
    }
}

async fn a_release_is_a_clean_end(subject: impl Subject) {
    let log = subject.log();
    let mut writer = log.claim(PARTITION, NODE).await.expect("a claim");
    writer.append("mine".into()).await.expect("stored");
    let term = writer.term();
    writer.release().await.expect("released");
    let entries = everything(log, PARTITION).await;
    let last = entries.last().expect("an entry");
    assert_eq!((&last.content, last.term), (&Content::Release, term));
    let mut next = log.claim(PARTITION, NODE).await.expect("a claim");
    assert!(next.term() > last.seq);
    next.append("next".into()).await.expect("stored");
}

async fn what_is_too_large_is_refused(subject: impl Subject) {
    let log = subject.log();
    let mut writer = log.claim(Partition(3), NODE).await.expect("a claim");
    let batch = Bytes::from(vec![0; MAX_BATCH_BYTES + 1]);
    let too_large = |outcome| matches!(outcome, Err(AppendError::TooLarge { .. }));
    assert!(too_large(writer.append(batch).await));
    let key = Bytes::from(vec![0; MAX_KEY_BYTES + 1]);
    assert!(too_large(writer.snapshot(vec![Snapshot { key, state: None }]).await));
    writer.append("small".into()).await.expect("stored");
}
