//! The time in which a partition is this node's: a node that has lost it answers no more.

use crate::{
    cluster::{Before, BootMicros, Right},
    grpc::delivery::hot::{HotStream, Next},
    session::limits::Micros,
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tonic::Status;

/// How often a call that waits looks whether this node may answer again.
const LOOK: Duration = Duration::from_millis(100);

/// The time from a claim until the partition is another node's.
#[derive(Debug)]
pub struct Tenure {
    right: Arc<Right>,
    is_given: AtomicBool,
    /// Is cancelled when the right lapses, and made new when it holds again.
    spell: Mutex<CancellationToken>,
    /// How often it was made new.
    spells: AtomicU64,
    streams: TaskTracker,
}

impl Tenure {
    /// It begins with a claim. See [`Right::claimed`].
    pub fn begin(sent_at: BootMicros, before: Before) -> Self {
        let streams = TaskTracker::new();
        streams.close();
        Self {
            right: Right::claimed(sent_at, before).into(),
            is_given: AtomicBool::new(false),
            spell: Mutex::default(),
            spells: AtomicU64::new(0),
            streams,
        }
    }

    /// The right to answer.
    pub fn right(&self) -> &Arc<Right> {
        &self.right
    }

    /// Whether this node may answer now.
    pub fn holds(&self) -> bool {
        self.right.holds()
    }

    /// Whether new calls may come.
    pub fn is_open(&self) -> bool {
        !self.is_given() && self.holds()
    }

    /// Whether the partition is being handed over.
    pub fn is_given(&self) -> bool {
        self.is_given.load(Ordering::Acquire)
    }

    /// Hands the partition over: what comes from now on waits for the next owner.
    pub fn give(&self) {
        self.is_given.store(true, Ordering::Release);
    }

    /// This node answers no more: its streams end.
    pub fn end(&self) {
        self.right.end();
        self.spell.lock().cancel();
    }

    /// The same where not everything is stored: calls that wait for that are answered that this node is
    /// lost, although the partition was about to be handed over.
    pub fn lose(&self) {
        self.is_given.store(false, Ordering::Release);
        self.end();
    }

    /// Looks whether the right has lapsed, and ends streams if it has. To be called often.
    pub fn look(&self) {
        let mut spell = self.spell.lock();
        match (self.holds(), spell.is_cancelled()) {
            (false, false) => spell.cancel(),
            (true, true) => {
                *spell = CancellationToken::new();
                self.spells.fetch_add(1, Ordering::Release);
            }
            _ => {}
        }
    }

    /// Waits until this node may answer no more, or has not been allowed to for so long. Where the
    /// partition is handed over, the next owner answers.
    pub async fn lapsed_for(&self, patience: Duration) {
        loop {
            let spell = self.spell.lock().clone();
            spell.cancelled().await;
            let until = Instant::now() + patience;
            while !self.holds() {
                let is_lost = self.right.is_over() || Instant::now() >= until;
                if is_lost && !self.is_given() {
                    return;
                }
                sleep(LOOK).await;
            }
            self.look();
        }
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Waits until no stream is left.
    pub async fn streams_ended(&self) {
        self.streams.wait().await;
    }

    /// The number of the spell that there is now, and its end.
    fn lapse(&self) -> (u64, Lapse) {
        let spell = self.spell.lock();
        (self.spells.load(Ordering::Acquire), Box::pin(spell.clone().cancelled_owned()))
    }

    /// A stream that ends with `lost` when this node may not answer any more.
    pub fn guard(self: &Arc<Self>, stream: Box<dyn HotStream>, lost: Status) -> Guarded {
        let (spell, lapse) = self.lapse();
        Guarded {
            spell,
            lapse,
            woken: None,
            lost,
            stream,
            _token: self.streams.token(),
            tenure: self.clone(),
        }
    }
}

/// Is over when the right lapses.
type Lapse = Pin<Box<WaitForCancellationFutureOwned>>;

/// A stream of a partition.
pub struct Guarded {
    tenure: Arc<Tenure>,
    stream: Box<dyn HotStream>,
    lost: Status,
    /// The spell whose end it waits for.
    spell: u64,
    lapse: Lapse,
    /// Whom a lapse wakes.
    woken: Option<Waker>,
    _token: TaskTrackerToken,
}

impl Guarded {
    /// Has the task woken when the right lapses. Where it would be already, this takes no lock: all
    /// streams of the partition would share it.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_of_now = self.spell == self.tenure.spells.load(Ordering::Acquire);
        if is_of_now && self.woken.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        if !is_of_now {
            (self.spell, self.lapse) = self.tenure.lapse();
        }
        self.woken = Some(cx.waker().clone());
        self.lapse.as_mut().poll(cx)
    }
}

impl HotStream for Guarded {
    fn take_in(&mut self, data: Bytes) {
        self.stream.take_in(data);
    }

    fn closed(&mut self) {
        self.stream.closed();
    }

    fn waiting(&self) -> usize {
        self.stream.waiting()
    }

    fn is_full(&self) -> bool {
        self.stream.is_full()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let next = self.stream.poll_next(cx);
        // What was made before the right was lost may have been made after that, too.
        if !self.tenure.holds() || (next.is_pending() && self.wait(cx).is_ready()) {
            return Poll::Ready(Next::End(self.lost.clone()));
        }
        next
    }

    fn poll_over(&mut self, blocked_since: Micros, cx: &mut Context<'_>) -> Poll<Status> {
        if !self.tenure.holds() || self.wait(cx).is_ready() {
            return Poll::Ready(self.lost.clone());
        }
        self.stream.poll_over(blocked_since, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_for_a_hand_over_that_fails_learns_that_its_node_is_lost() {
        let tenure = Tenure::begin(BootMicros::now(), Before::Released);
        tenure.give();
        let mut waiting = std::pin::pin!(tenure.lapsed_for(Duration::from_secs(60)));
        let soon = tokio::time::timeout(LOOK, &mut waiting).await;
        assert!(soon.is_err(), "the next owner answers");
        tenure.lose();
        let soon = tokio::time::timeout(10 * LOOK, &mut waiting).await;
        assert!(soon.is_ok(), "there is none that knows of it");
    }
}
