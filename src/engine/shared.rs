//! A view as its subscribers share it: each step is encoded once for all who receive it alike.

use super::encoder::{Delivery, Encoded, Encoder, Snapshot, SnapshotReason, Start};
use crate::session::{Session, revision::Revision, view::View};
use std::sync::Arc;

/// A view that has subscribers, with what was encoded for it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) view: View,
    pub(super) delivery: Delivery,
    pub(super) fingerprint: u32,
    subscribers: usize,
    /// How many of them leave themselves out.
    excluding: usize,
    /// The last revision at which the view changed, as far as anybody in it knows.
    pub(super) changed: Revision,
    /// The step that led there.
    latest: Option<Kept<Arc<Encoded>>>,
    /// Steps that lead there from further back; none where the view shows nothing of it.
    merged: Vec<Kept<Option<Arc<Encoded>>>>,
    /// The last snapshot, as it was encoded at a revision.
    snapshot: Option<(Revision, Snapshot, Arc<Encoded>)>,
}

/// A step that was encoded, to be shared.
#[derive(Debug)]
struct Kept<T> {
    /// Where it begins.
    from: Revision,
    /// It says where each member lies; without that it is not for a subscriber that leaves itself out.
    spans: bool,
    step: T,
}

impl<T> Kept<T> {
    fn serves(&self, excludes: bool) -> bool {
        self.spans || !excludes
    }
}

/// How many merged steps a view keeps for sharing until its next change.
const MERGED: usize = 64;

/// The same of steps from the log, each of which may be as large as the log.
const MERGED_LOGS: usize = 4;

impl Delivery {
    /// From which revision on there are deltas, and why a subscriber that is further behind gets a
    /// snapshot.
    pub(super) fn reach(self, core: &Session) -> (Revision, SnapshotReason) {
        match self {
            Self::Latest | Self::Columns => (core.horizon(), SnapshotReason::TooOld),
            Self::All => (core.log_start(), SnapshotReason::LogOverflow),
        }
    }
}

impl Shared {
    /// A view that nobody has entered yet.
    pub(super) fn new(core: &Session, revision: Revision, view: View, delivery: Delivery) -> Self {
        Self {
            fingerprint: core.fingerprint(&view, None),
            view,
            delivery,
            subscribers: 0,
            excluding: 0,
            changed: revision,
            latest: None,
            merged: Vec::new(),
            snapshot: None,
        }
    }

    /// A subscriber enters; `exclude_self` says whether it leaves itself out.
    pub(super) fn enter(&mut self, exclude_self: bool) {
        self.subscribers += 1;
        self.excluding += usize::from(exclude_self);
    }

    /// A subscriber leaves; returns whether it was the last.
    pub(super) fn leave(&mut self, exclude_self: bool) -> bool {
        self.subscribers -= 1;
        self.excluding -= usize::from(exclude_self);
        self.subscribers == 0
    }

    /// Nothing leads across a frame: a subscriber that was before it gets a snapshot.
    pub(super) fn reset(&mut self, revision: Revision) {
        self.changed = revision;
        self.latest = None;
        self.merged.clear();
        self.snapshot = None;
    }

    /// Frames were made after one that was sent: encodes the step that leads to the last of them from
    /// the view's last change.
    pub(super) fn framed(
        &mut self,
        core: &Session,
        (told, revision): (Revision, Revision),
        encoder: &dyn Encoder,
    ) {
        let from = self.changed;
        let spans = self.excluding > 0;
        // Of several frames the first may be forgotten already.
        let is_cut = told < self.delivery.reach(core).0 && revision.previous() > told;
        let step = (!is_cut)
            .then(|| self.encode(core, Start { after: told, from }, spans, encoder))
            .flatten();
        let is_lost = is_cut || (self.delivery == Delivery::All && core.log_start() >= revision);
        if step.is_some() || is_lost {
            self.latest = step.map(|step| Kept { from, spans, step: Arc::new(step) });
            self.changed = revision;
            self.merged.clear();
            self.snapshot = None;
        }
    }

    /// What comes after a start, by the delivery of the view.
    fn encode(
        &self,
        core: &Session,
        start: Start,
        spans: bool,
        encoder: &dyn Encoder,
    ) -> Option<Encoded> {
        match self.delivery {
            Delivery::Latest => encoder.changes(core, &self.view, start, spans),
            Delivery::Columns => encoder.columns(core, &self.view, start),
            Delivery::All => encoder.log(core, &self.view, start, spans),
        }
    }

    pub(super) fn snapshot(
        &mut self,
        core: &Session,
        snapshot: Snapshot,
        encoder: &dyn Encoder,
    ) -> Arc<Encoded> {
        let revision = core.revision();
        match &self.snapshot {
            Some((at, known, encoded)) if (*at, *known) == (revision, snapshot) => encoded.clone(),
            _ => {
                let encoded = Arc::new(encoder.snapshot(core, &self.view, snapshot, None));
                // Nobody else would take that of a view with one subscriber.
                self.snapshot =
                    (self.subscribers > 1).then(|| (revision, snapshot, encoded.clone()));
                encoded
            }
        }
    }

    /// The step from a position to the last change: the latest one for a subscriber that was there,
    /// a merged one for one that is further behind.
    pub(super) fn step_from(
        &mut self,
        position: Revision,
        excludes: bool,
        core: &Session,
        encoder: &dyn Encoder,
    ) -> Option<Arc<Encoded>> {
        if position >= self.changed {
            return None;
        }
        if let Some(latest) = self.latest_from(position, excludes) {
            return Some(latest.clone());
        }
        let known = |kept: &&Kept<_>| kept.from == position && kept.serves(excludes);
        if let Some(kept) = self.merged.iter().find(known) {
            return kept.step.clone();
        }
        let spans = self.excluding > 0;
        let step = self.encode(core, Start::at(position), spans, encoder).map(Arc::new);
        let most = if self.delivery == Delivery::All { MERGED_LOGS } else { MERGED };
        if self.merged.len() < most {
            self.merged.push(Kept { from: position, spans, step: step.clone() });
        }
        step
    }

    /// The latest step, if it can be applied at a position.
    pub(super) fn latest_from(&self, position: Revision, excludes: bool) -> Option<&Arc<Encoded>> {
        let latest = self.latest.as_ref()?;
        (latest.from <= position && latest.serves(excludes)).then_some(&latest.step)
    }
}
