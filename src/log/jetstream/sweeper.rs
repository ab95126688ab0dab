//! Removes what is left of keys that are gone.
//!
//! A key is gone when that is written down, at a place, on a subject of its own. Its snapshots before
//! that place are removed then, and after them the note. A server that is killed can forget that it has
//! removed something, even if it is one of three: so the note has to be there until the removal, an
//! entry like any other, is done everywhere; and readers go by the note.

use super::{
    Shared,
    api::{RESEND, Stored},
    entry::{self, Read, Record},
    subjects,
};
use crate::log::{Key, Partition, Seq};
use std::{collections::VecDeque, sync::Arc};
use tokio::{sync::Notify, task::JoinSet, time::sleep};
use tokio_util::task::AbortOnDropHandle;

/// How many keys are removed at the same time.
const AT_ONCE: usize = 16;

/// Sweeps a partition as long as somebody has it. It removes nothing that is written later than what it
/// knows, so it does no harm if its writer is deposed.
#[derive(Debug)]
pub struct Sweeper {
    soon: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

impl Sweeper {
    /// Begins with what an earlier writer has left.
    pub fn start(shared: Arc<Shared>, partition: Partition) -> Self {
        let soon = Arc::<Notify>::default();
        let wakes = soon.clone();
        let task = tokio::spawn(async move {
            loop {
                sweep(&shared, partition).await;
                wakes.notified().await;
            }
        });
        Self { soon, _task: AbortOnDropHandle::new(task) }
    }

    /// There is something to remove.
    pub fn wake(&self) {
        self.soon.notify_one();
    }
}

async fn sweep(shared: &Arc<Shared>, partition: Partition) {
    let stream = shared.settings.stream(partition);
    let notes = format!("{}>", shared.settings.notes(partition));
    loop {
        let found = match shared.api.read(&stream, &notes, Seq(1)).await {
            Ok(found) if found.is_empty() => return,
            Ok(found) => found,
            Err(_) => {
                sleep(RESEND).await;
                continue;
            }
        };
        let mut rest: VecDeque<_> =
            found.iter().filter_map(|it| note(shared, partition, it)).collect();
        if rest.is_empty() {
            // They are of somebody else.
            return;
        }
        let mut running = JoinSet::new();
        loop {
            while running.len() < AT_ONCE
                && let Some((key, seq)) = rest.pop_front()
            {
                running.spawn(remove(shared.clone(), partition, key, seq));
            }
            if running.join_next().await.is_none() {
                break;
            }
        }
        // The server that was asked may be behind what was done.
        sleep(RESEND).await;
    }
}

/// A key that is gone, and since which place.
pub fn note(shared: &Shared, partition: Partition, stored: &Stored) -> Option<(Key, Seq)> {
    let key = stored.subject.strip_prefix(&shared.settings.notes(partition));
    let key = key.and_then(subjects::key_of)?;
    match entry::read(partition, stored.seq, &stored.payload) {
        Ok(Read::Whole(Record::Gone { key: of }, _)) if of == key => Some((key, stored.seq)),
        _ => None,
    }
}

async fn remove(shared: Arc<Shared>, partition: Partition, key: Key, gone: Seq) {
    let settings = &shared.settings;
    let stream = settings.stream(partition);
    let of_key = |begin: String| subjects::of_key(&begin, &key);
    let snapshots = of_key(settings.snapshots(partition));
    // What fails is tried again with the next sweep.
    if shared.api.purge(&stream, &snapshots, gone).await.is_ok() {
        let _ = shared.api.purge(&stream, &of_key(settings.notes(partition)), gone.next()).await;
    }
}
