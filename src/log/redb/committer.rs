//! The one thread that writes. The calls of all partitions that wait go into one transaction, and
//! each has its answer when that is durable. While it commits, the next ones gather.

use super::{
    Inner, Options,
    database::{self, Problem},
    disk::{Disk, Fault},
    queue::{Action, Job, Outcome},
    tables::{Row, Tables, footprint},
};
use crate::log::{
    AppendError, Content, LogError, Seq, Snapshot,
    numbered::{Message, Post},
    space::MARGIN,
};
use std::{mem, sync::Arc, time::Instant};
use tokio::sync::watch;

/// Where so many bytes are available, some are set aside.
const AMPLE: u64 = 128 << 20;

/// What became of a job in a transaction.
enum Answer {
    Done(Outcome),
    /// There is more of it for the next transaction.
    More,
}

/// What a transaction adds.
#[derive(Default)]
struct Added {
    entries: u64,
    bytes: u64,
}

/// The thread, and what only it may touch.
pub struct Committer {
    pub inner: Arc<Inner>,
    pub disk: Arc<dyn Disk>,
    pub options: Options,
    /// One for each partition, as of the last commit.
    pub rows: Vec<Row>,
    /// The rows of a commit that failed for want of space, while it is not known whether it is
    /// stored.
    pub uncertain: Option<Vec<Row>>,
    /// Tells readers where each partition has come to.
    pub heads: Vec<watch::Sender<Seq>>,
}

impl Committer {
    /// The life of the thread. The store is closed at its end.
    pub fn run(mut self) {
        self.measure();
        while let Some(jobs) = self.inner.queue.take() {
            let (compacts, jobs): (Vec<_>, Vec<_>) =
                jobs.into_iter().partition(|job| matches!(job.action, Action::Compact));
            if !jobs.is_empty() {
                self.commit(jobs);
            }
            for job in compacts {
                let outcome = self.compact();
                self.measure();
                let _ = job.reply.send(outcome);
            }
        }
        let _ = self.inner.broken.set("it is closed".into());
        *self.inner.database.write() = None;
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let started = Instant::now();
        let mut answers = Vec::with_capacity(jobs.len());
        match self.try_commit(&jobs, &mut answers) {
            Ok(added) => {
                let mut counters = self.inner.counters.lock();
                counters.commits += 1;
                counters.entries += added.entries;
                counters.bytes += added.bytes;
                counters.commit_times.add(started.elapsed());
            }
            Err(error) => {
                answers = jobs.iter().map(|_| Answer::Done(Err(error.clone()))).collect();
            }
        }
        let is_full = |answer: &&Answer| matches!(answer, Answer::Done(Err(AppendError::Full)));
        self.inner.counters.lock().full += answers.iter().filter(is_full).count() as u64;
        for (row, head) in self.rows.iter().zip(&self.heads) {
            head.send_if_modified(|seq| mem::replace(seq, row.head.seq) != row.head.seq);
        }
        self.measure();
        for (job, answer) in jobs.into_iter().zip(answers) {
            match answer {
                Answer::Done(outcome) => drop(job.reply.send(outcome)),
                Answer::More => self.inner.queue.add(job),
            }
        }
    }

    /// Stores what the jobs want and answers each, or none of them with an error that is the same
    /// for all.
    fn try_commit(
        &mut self,
        jobs: &[Job],
        answers: &mut Vec<Answer>,
    ) -> Result<Added, AppendError> {
        self.ready()?;
        let mut rows = self.rows.clone();
        let mut added = Added::default();
        let stored = database::guarded(|| self.store(jobs, &mut rows, &mut added, answers));
        let Err(problem) = stored else {
            self.inner.faults.clear();
            self.rows = rows;
            return Ok(added);
        };
        if self.inner.faults.worst() != Fault::Space {
            return Err(self.fail(&problem));
        }
        // Space that was kept for this moment: what was accepted by now finds a place.
        let is_given_back = self.disk.give_back();
        // redb takes nothing more after an error, whichever it was. So it is opened again, and
        // shows whether the commit had come through.
        self.uncertain = Some(rows);
        match self.reopen() {
            Ok(true) => Ok(added),
            Ok(false) if is_given_back => {
                answers.clear();
                self.try_commit(jobs, answers)
            }
            Ok(false) => Err(AppendError::Full),
            Err(AppendError::Full) => Err(AppendError::UnknownFull),
            Err(other) => Err(other),
        }
    }

    /// Sees to it that the store is open.
    fn ready(&mut self) -> Result<(), AppendError> {
        if let Some(why) = self.inner.broken.get() {
            return Err(AppendError::Broken(why.clone()));
        }
        let is_open = self.inner.database.read().is_some();
        if is_open {
            return Ok(());
        }
        match self.reopen() {
            // What was uncertain still is.
            Err(AppendError::Full) if self.uncertain.is_some() => Err(AppendError::UnknownFull),
            outcome => outcome.map(drop),
        }
    }

    /// Opens the store again after there was no space. Whether the commit that was uncertain is
    /// stored.
    fn reopen(&mut self) -> Result<bool, AppendError> {
        let inner = self.inner.clone();
        // Held until it is open again, so that readers wait and notice nothing.
        let mut open = inner.database.write();
        // What is open has to be closed first.
        *open = None;
        inner.faults.clear();
        let (database, found) =
            match database::open(&*self.disk, &inner.faults, self.options.cache_bytes) {
                Ok(opened) => opened,
                Err(LogError::Full) => return Err(AppendError::Full),
                Err(error) => {
                    drop(open);
                    return Err(self.fail(&Problem::Other(error.to_string())));
                }
            };
        *open = Some(database);
        let is_found =
            |rows: &Vec<Row>| rows.iter().zip(&found).all(|(a, b)| a.write() == b.write());
        let stored = self.uncertain.take().filter(is_found);
        let is_stored = stored.is_some();
        if let Some(rows) = stored {
            self.rows = rows;
        }
        Ok(is_stored)
    }

    /// Nothing more is taken until the code that uses the log opens it again.
    fn fail(&mut self, problem: &Problem) -> AppendError {
        let why: Arc<str> = problem.to_string().into();
        *self.inner.database.write() = None;
        AppendError::Broken(self.inner.broken.get_or_init(|| why).clone())
    }

    fn store(
        &self,
        jobs: &[Job],
        rows: &mut [Row],
        added: &mut Added,
        answers: &mut Vec<Answer>,
    ) -> Result<(), Problem> {
        let database = self.inner.database.read();
        let database = database.as_ref().ok_or(Problem::Closed)?;
        let transaction = database::begin(database)?;
        let mut room = self.inner.room(self.used());
        let mut tables = Tables::open(&transaction)?;
        for job in jobs {
            let (partition, answer) = match &job.action {
                Action::Claim(partition, node) => {
                    let row = &mut rows[usize::from(partition.0)];
                    tables.add(*partition, row, Content::Claim(*node))?;
                    row.head.claimed();
                    (*partition, Answer::Done(Ok(row.head.term)))
                }
                Action::Call(message) => {
                    let row = &mut rows[usize::from(message.partition.0)];
                    let before = row.used;
                    let answer = call(&mut tables, row, message, room)?;
                    room = room.saturating_sub(row.used.saturating_sub(before));
                    (message.partition, answer)
                }
                Action::Compact => unreachable!("it has no transaction"),
            };
            let row = &rows[usize::from(partition.0)];
            if row.write() != self.rows[usize::from(partition.0)].write() {
                tables.set_row(partition, row)?;
            }
            if matches!(answer, Answer::Done(Ok(_))) {
                added.entries += job.action.entries() as u64;
                added.bytes += job.action.bytes() as u64;
            }
            answers.push(answer);
        }
        drop(tables);
        Ok(transaction.commit()?)
    }

    fn used(&self) -> u64 {
        self.rows.iter().map(|row| row.used).sum()
    }

    /// Gives free space back to the system. Everything waits meanwhile.
    fn compact(&mut self) -> Outcome {
        self.ready()?;
        let compacted = database::guarded(|| {
            let mut database = self.inner.database.write();
            let database = database.as_mut().ok_or(Problem::Closed)?;
            Ok(database.compact()?)
        });
        match compacted {
            Ok(_) => Ok(Seq::START),
            Err(_) if self.inner.faults.worst() == Fault::Space => {
                self.reopen()?;
                Err(AppendError::Full)
            }
            Err(problem) => Err(self.fail(&problem)),
        }
    }

    fn measure(&self) {
        let space = self.disk.space().ok();
        {
            let mut counters = self.inner.counters.lock();
            counters.used_bytes = self.used();
            if let Some(space) = space {
                counters.disk_bytes = space.taken;
            }
        }
        if self.options.sets_aside && space.is_some_and(|space| space.available >= AMPLE) {
            self.disk.set_aside();
        }
    }
}

/// Does what a writer calls, if it may, is not done yet and finds space.
fn call(
    tables: &mut Tables<'_>,
    row: &mut Row,
    message: &Message,
    room: u64,
) -> Result<Answer, Problem> {
    match row.head.admit(message.call) {
        Ok(None) => {}
        Ok(Some(seq)) => return Ok(Answer::Done(Ok(seq))),
        Err(deposed) => return Ok(Answer::Done(Err(deposed))),
    }
    if room < needed(&message.content) {
        return Ok(Answer::Done(Err(AppendError::Full)));
    }
    let partition = message.partition;
    match &message.content {
        Post::Batch(batch, _) => tables.add(partition, row, Content::Batch(batch.clone()))?,
        Post::Snapshots(snapshots) => {
            for snapshot in snapshots.iter() {
                tables.snapshot(partition, row, snapshot)?;
            }
        }
        Post::Trim(below) => {
            if tables.trim(partition, row, *below)? {
                return Ok(Answer::More);
            }
        }
        Post::Release => {
            tables.add(partition, row, Content::Release)?;
            row.head.released = true;
        }
    }
    row.head.stored(message.call);
    Ok(Answer::Done(Ok(row.head.seq)))
}

/// Space that has to be there. What removes more than it adds is always tried.
fn needed(content: &Post) -> u64 {
    let state =
        |it: &Snapshot| it.state.as_ref().map(|state| footprint(it.key.len() + state.len()));
    match content {
        Post::Batch(batch, left) => left + footprint(batch.len()),
        Post::Snapshots(snapshots) if snapshots.iter().any(|it| it.state.is_some()) => {
            MARGIN + snapshots.iter().filter_map(state).sum::<u64>()
        }
        Post::Snapshots(_) | Post::Trim(_) | Post::Release => 0,
    }
}
