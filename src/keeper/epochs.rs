//! Up to which epoch sessions may be opened: that is stored ahead, so after a crash no epoch is given out
//! twice.

use super::{Keeper, micros};
use crate::{
    log::{LogError, Writer},
    record::{Entry, Subject},
    session::{
        epoch::Epoch,
        limits::{Micros, SECOND},
    },
};

/// How far ahead of the clock the stored greatest epoch is, so that it need not be stored whenever a
/// session is opened that nothing else is stored of. After a crash epochs go on behind it, so it is no
/// more than a slow store needs.
const EPOCHS_AHEAD: Micros = 10 * SECOND;

/// How far it is ahead of the last epoch that was given out, which may be ahead of the clock itself:
/// then each session that is opened takes one.
const OPENINGS_AHEAD: u64 = 1_000_000;

/// How often it is looked whether it still is.
const EPOCHS_INTERVAL: Micros = 2 * SECOND;

impl<W: Writer> Keeper<W> {
    /// Sees to it that every epoch which a session has is below the one that is stored.
    pub(super) async fn keep_epochs(&mut self) -> Result<(), LogError> {
        let (now, last) = (self.engine.clock().now(), self.engine.last_epoch().0);
        let sign_of_life = self.options.sign_of_life.map(micros);
        let is_silent = sign_of_life.is_some_and(|least| now - self.stored_at >= least / 2);
        self.look_at_epochs = now + sign_of_life.map_or(EPOCHS_INTERVAL, |least| least / 2);
        let least = ahead(now, last, EPOCHS_AHEAD / 2, OPENINGS_AHEAD / 2);
        if is_silent || self.epochs < least {
            self.store_epochs().await?;
        }
        Ok(())
    }

    /// Stores up to which epoch sessions may be opened; whether there is space for that.
    pub(super) async fn store_epochs(&mut self) -> Result<bool, LogError> {
        let (now, last) = (self.engine.clock().now(), self.engine.last_epoch().0);
        let epochs = self.epochs.max(ahead(now, last, EPOCHS_AHEAD, OPENINGS_AHEAD));
        // In the place of the last one, so that a server that has nothing to do stores no more and more.
        let state = self.versions.state(&[Entry::GreatestEpoch(epochs)]);
        let left = self.store_whole(vec![(Subject::Epochs, state)]).await?;
        self.epochs = epochs;
        Ok(left.is_empty())
    }
}

/// An epoch that no session reaches for a while, or with so many openings.
fn ahead(now: Micros, last: u64, clock: Micros, openings: u64) -> Epoch {
    Epoch((now + clock).max(last + openings))
}
