//! What was dealt with of what came up a stream, and when the client may learn of it.

use super::compose::MOST;
use crate::{grpc::error::Refusal, proto, session::revision::Revision};
use prost::Message;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// How many refusals wait before nothing more is read until they are reported.
const REFUSALS: usize = 128;

/// Among how many of the last frames it is looked for one that is waited for already.
const LOOKS: usize = 8;

/// How many frames are waited for, or four for each subscription, before they are merged.
const WAITS: usize = 1024;

/// Bytes of the refusals in one message.
const REFUSALS_BYTES: usize = 256 * 1024;

/// The numbers of messages must rise, from 1 on.
pub fn check_seq(seq: u64, last: u64) -> Result<(), Refusal> {
    if seq <= last { Err(Refusal::SeqNotRising { seq, last }) } else { Ok(()) }
}

/// What was dealt with and not reported yet.
#[derive(Debug, Default)]
pub struct Acks {
    /// Everything up to here was dealt with, but for what waits to be written.
    seq: u64,
    /// The last message before all that waits to be written.
    held_after: Option<u64>,
    /// The frames that hold results and were not said yet, in the order of the first result.
    waits: VecDeque<Wait>,
    /// How many may wait until they are merged.
    most_waits: usize,
    /// What was reported to the client.
    told: u64,
    refusals: Vec<proto::Refusal>,
    /// Not all refusals that could be reported did fit; the others follow in a message of their own.
    overflows: bool,
}

/// A frame that a subscription of the stream says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Which subscription.
    pub place: usize,
    /// Which frame.
    pub revision: Revision,
}

/// A frame that holds results.
#[derive(Debug)]
struct Wait {
    /// The last message without a result in it.
    after: u64,
    frame: Frame,
}

/// Acks and refusals that go with a message.
#[derive(Debug, Default)]
pub struct Told {
    /// Everything up to here was dealt with; 0 = no news.
    pub acked_seq: u64,
    /// What was refused.
    pub refusals: Vec<proto::Refusal>,
}

impl Told {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.acked_seq == 0 && self.refusals.is_empty()
    }
}

impl Acks {
    /// Everything up to here was dealt with, reported or not.
    pub fn seq(&self) -> u64 {
        self.held_after.map_or(self.seq, |held| held.min(self.seq))
    }

    /// The last message that came.
    pub fn last(&self) -> u64 {
        self.seq
    }

    /// The last message that was reported to the client.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// What comes after a message waits to be written; none = nothing does.
    pub fn hold(&mut self, after: Option<u64>) {
        self.held_after = after;
    }

    /// The messages after one that are being dealt with have a result in a frame. Returns whether
    /// that is news.
    pub fn wait_for(&mut self, after: u64, frame: Frame) -> bool {
        let covers = |known: Frame| known.place == frame.place && known.revision >= frame.revision;
        if self.waits.iter().rev().take(LOOKS).any(|wait| covers(wait.frame)) {
            return false;
        }
        self.waits.push_back(Wait { after, frame });
        if self.waits.len() >= self.most_waits.max(WAITS) {
            self.merge_waits();
        }
        true
    }

    /// Has each subscription wait for one frame, its last, so that what waits is bounded by how many
    /// there are. Acks may come later by that, and never too early.
    fn merge_waits(&mut self) {
        let mut merged: FxHashMap<usize, Wait> = FxHashMap::default();
        for Wait { after, frame } in self.waits.drain(..) {
            let known = merged.entry(frame.place).or_insert(Wait { after, frame });
            known.after = known.after.min(after);
            known.frame.revision = known.frame.revision.max(frame.revision);
        }
        let mut merged: Vec<Wait> = merged.into_values().collect();
        merged.sort_unstable_by_key(|wait| wait.after);
        self.waits = merged.into();
        self.most_waits = 4 * self.waits.len();
    }

    /// A message, or a part of it, is refused.
    pub fn refuse(&mut self, refusal: proto::Refusal) {
        // What has waited is refused later than what came after it.
        let at = self.refusals.partition_point(|known| known.seq <= refusal.seq);
        self.refusals.insert(at, refusal);
    }

    /// A message was dealt with.
    pub fn dealt_with(&mut self, seq: u64) {
        self.seq = seq;
    }

    /// What can be reported beside so many bytes of updates: the seq, and the refusals up to it.
    /// `said` is the revision up to which everything of a subscription was said.
    pub fn take(&mut self, said: impl Fn(usize) -> Revision, bytes: usize) -> Told {
        let is_said = |frame: Frame| frame.revision <= said(frame.place);
        while self.waits.front().is_some_and(|wait| is_said(wait.frame)) {
            self.waits.pop_front();
        }
        let seq = self.waits.front().map_or(self.seq(), |wait| wait.after.min(self.seq()));
        if seq <= self.told && self.refusals.is_empty() {
            return Told::default();
        }
        let later = self.refusals.partition_point(|refusal| refusal.seq <= seq);
        let mut room = REFUSALS_BYTES.min(MOST.saturating_sub(bytes));
        let fits = |refusal: &&proto::Refusal| {
            let bytes = refusal.encoded_len() + 8;
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        };
        // A message of their own takes at least one, however large: the stream goes on.
        let least = later.min(usize::from(bytes == 0));
        let taken = self.refusals[..later].iter().take_while(fits).count().max(least);
        self.overflows = taken < later;
        let rest = self.refusals.split_off(taken);
        let refusals = std::mem::replace(&mut self.refusals, rest);
        // Of a message that several sessions refused, all are reported before it is acked.
        let seq = match self.refusals.first().filter(|_| self.overflows) {
            Some(next) => next.seq - 1,
            None => seq,
        };
        let news = seq > self.told;
        self.told = self.told.max(seq);
        Told { acked_seq: if news { seq } else { 0 }, refusals }
    }

    /// What can be reported at the end of the stream.
    pub fn take_all(&mut self) -> Told {
        self.take(|_| Revision::MAX, 0)
    }

    /// Whether refusals wait that can be reported at once.
    pub fn overflows(&self) -> bool {
        self.overflows
    }

    /// Whether so many refusals wait that no more should come.
    pub fn is_full(&self) -> bool {
        self.refusals.len() >= REFUSALS
    }

    /// Whether everything was reported.
    pub fn is_told(&self) -> bool {
        self.seq == self.told && self.refusals.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(place: usize, revision: u64) -> Frame {
        Frame { place, revision: Revision(revision) }
    }

    fn write(acks: &mut Acks, seq: u64, results: &[Frame]) {
        results.iter().for_each(|&frame| _ = acks.wait_for(seq - 1, frame));
        acks.dealt_with(seq);
    }

    #[test]
    fn a_message_is_acked_once_all_its_frames_and_those_before_are_said() {
        let mut acks = Acks::default();
        write(&mut acks, 1, &[]);
        write(&mut acks, 2, &[frame(0, 5), frame(1, 9)]);
        write(&mut acks, 3, &[frame(0, 5)]);
        write(&mut acks, 4, &[frame(1, 10)]);
        write(&mut acks, 5, &[frame(0, 5)]);
        let mut tell = |said: [u64; 2]| acks.take(|place| Revision(said[place]), 0).acked_seq;
        assert_eq!(tell([4, 8]), 1);
        assert_eq!(tell([5, 8]), 0, "one of two is not said yet");
        assert_eq!(tell([5, 9]), 3);
        assert_eq!(tell([5, 10]), 5);
        assert!(acks.is_told());
    }

    #[test]
    fn what_is_waited_for_is_noted_once_per_frame() {
        let mut acks = Acks::default();
        (1..=10_000)
            .for_each(|seq| write(&mut acks, seq, &[frame(0, 1 + seq / 9_000), frame(1, 3)]));
        assert_eq!(acks.waits.len(), 3);
    }

    #[test]
    fn a_client_that_reads_nothing_has_one_frame_of_each_subscription_waited_for() {
        let mut acks = Acks::default();
        for seq in 1..=100_000 {
            let frames = (0..20).map(|at| frame(seq as usize % 50 * 20 + at, seq));
            write(&mut acks, seq, &frames.collect::<Vec<_>>());
        }
        assert!(acks.waits.len() <= 4 * 1000, "{}", acks.waits.len());
        let told = acks.take(|_| Revision(99_000), 0).acked_seq;
        assert!(told < 99_000, "the last results are not said yet: {told}");
        assert_eq!(acks.take(|_| Revision(100_000), 0).acked_seq, 100_000);
    }

    fn refusal(seq: u64, bytes: usize) -> proto::Refusal {
        proto::Refusal { seq, message: "x".repeat(bytes), ..Default::default() }
    }

    #[test]
    fn what_waits_to_be_written_holds_the_acks_of_what_comes_after() {
        let mut acks = Acks::default();
        write(&mut acks, 1, &[frame(0, 5)]);
        acks.hold(Some(1));
        [2, 3].into_iter().for_each(|seq| acks.dealt_with(seq));
        acks.refuse(refusal(3, 20));
        let told = acks.take(|_| Revision(9), 0);
        assert_eq!((told.acked_seq, told.refusals.len(), acks.seq()), (1, 0, 1));
        assert!(acks.take_all().is_empty() && !acks.is_told(), "nor at the end");
        // It is written now: one session shows it, another refuses it.
        acks.wait_for(1, frame(0, 10));
        acks.refuse(refusal(2, 20));
        acks.hold(None);
        assert!(acks.take(|_| Revision(9), 0).is_empty());
        let told = acks.take(|_| Revision(10), 0);
        assert_eq!(told.acked_seq, 3);
        assert!(told.refusals.iter().map(|it| it.seq).eq([2, 3]));
        assert!(acks.is_told());
    }

    #[test]
    fn refusals_leave_room_for_the_updates_beside_them() {
        let mut acks = Acks::default();
        acks.refuse(refusal(1, 1_000));
        acks.dealt_with(1);
        let Told { acked_seq, refusals } = acks.take(|_| Revision::NONE, MOST - 100);
        assert_eq!((acked_seq, refusals.len()), (0, 0));
        assert!(acks.overflows());
        assert_eq!(acks.take(|_| Revision::NONE, 0).acked_seq, 1);
    }

    #[test]
    fn a_message_is_acked_when_all_who_refused_it_were_named() {
        let mut acks = Acks::default();
        for _ in 0..2 {
            acks.refuse(refusal(7, 200_000));
        }
        acks.dealt_with(7);
        let told: Vec<_> = (0..2).map(|_| acks.take(|_| Revision::NONE, 0)).collect();
        assert!(told[0].acked_seq < 7, "one of its refusals is not told yet");
        assert_eq!(told[1].acked_seq, 7);
        assert!(told.iter().all(|told| told.refusals.len() == 1));
    }

    #[test]
    fn refusals_that_do_not_fit_a_message_follow_in_the_next() {
        let mut acks = Acks::default();
        for seq in 1..=100 {
            acks.refuse(refusal(seq, 10_000));
            acks.dealt_with(seq);
        }
        let (mut told, mut messages) = (0, 0);
        loop {
            let Told { acked_seq, refusals } = acks.take(|_| Revision::NONE, 0);
            let bytes: usize = refusals.iter().map(Message::encoded_len).sum();
            assert!(bytes <= REFUSALS_BYTES && !refusals.is_empty());
            assert!(refusals.iter().map(|refusal| refusal.seq).eq(told + 1..=acked_seq));
            (told, messages) = (acked_seq, messages + 1);
            if !acks.overflows {
                break;
            }
        }
        assert_eq!(told, 100);
        assert!(messages > 1 && acks.is_told());
    }
}
