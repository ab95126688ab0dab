//! How a keeper goes on when its log is full, or does not answer.
//!
//! What was accepted before anybody knew is stored from the log's reserve; from then on the engine
//! refuses what takes space. Meanwhile subjects are stored as a whole and batches are trimmed, however
//! much that costs, until there is enough space again.
//!
//! A log that does not answer is not full: what is on its way is sent again until its outcome is known,
//! and nobody gets the answer that there is no space.

use super::{Finish, Keeper};
use crate::{
    engine::Space,
    log::{
        AppendError, LogError, Seq, Snapshot, Writer,
        space::{FLOOR, RESERVE},
    },
    session::limits::{Micros, SECOND},
};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

/// How often it is looked how much space there is.
const LOOK: Micros = SECOND;

/// The same while there is too little, and after how long it is tried again to store something that
/// there was no space for.
const RETRY: Micros = SECOND / 4;

/// The same while space is being made.
const SOON: Micros = SECOND / 50;

/// A log with less room than this is filling up.
const ENOUGH: u64 = RESERVE + (1 << 20);

/// One with more than this is not full any more.
const ENOUGH_AGAIN: u64 = RESERVE + (4 << 20);

/// With less room nothing is taken, even if it only takes away: what happens anyway has to be stored.
const LOW: u64 = 3 * FLOOR;

/// With less room than this, snapshots may cost any number of bytes.
const SCARCE: u64 = 2 * RESERVE;

/// How much space there is, as far as a keeper knows.
#[derive(Debug)]
pub struct Room {
    /// Bytes, as of the last look.
    bytes: u64,
    pub look_at: Micros,
    told: Space,
    /// Snapshots of so many bytes found no room.
    too_large: u64,
    /// It waits for space where there is none, and for a log that does not answer: somebody is served
    /// meanwhile.
    pub is_patient: bool,
    /// The log does not answer.
    is_silent: bool,
    /// Then it does not wait any more.
    pub stop: CancellationToken,
}

impl Room {
    /// Before the first look.
    pub fn new(now: Micros) -> Self {
        Self {
            bytes: u64::MAX,
            look_at: now,
            told: Space::Free,
            too_large: 0,
            is_patient: false,
            is_silent: false,
            stop: CancellationToken::new(),
        }
    }

    /// Whether there is so little that snapshots may cost any number of bytes.
    pub fn is_scarce(&self) -> bool {
        self.bytes < SCARCE
    }

    /// So many bytes were written.
    pub fn take(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(2 * bytes as u64);
    }
}

/// What a writer is to do.
#[derive(Debug)]
pub enum Call {
    Append(Bytes),
    Snapshot(Vec<Snapshot>),
}

impl Call {
    async fn make(&self, writer: &mut impl Writer, is_full: bool) -> Result<Seq, AppendError> {
        match self {
            Self::Append(batch) if is_full => writer.append_from_reserve(batch.clone()).await,
            Self::Append(batch) => writer.append(batch.clone()).await,
            Self::Snapshot(snapshots) => writer.snapshot(snapshots.clone()).await,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Append(batch) => batch.len() as u64,
            Self::Snapshot(snapshots) => {
                let states = snapshots.iter().filter_map(|it| it.state.as_ref());
                states.map(|state| state.len() as u64).sum()
            }
        }
    }
}

impl<W: Writer> Keeper<W> {
    /// Does something until it is done: waits for space, and finds out what became of it. It is given
    /// up if the log has failed, if there is no space or no answer and nobody may wait for it, and if
    /// there is no space for snapshots, or never will be: they can be stored later, or as batches.
    pub(super) async fn insist(&mut self, call: Call) -> Result<Seq, LogError> {
        let mut is_full = self.room.told < Space::Free;
        let mut outcome = call.make(&mut self.writer, is_full).await;
        loop {
            match outcome {
                Ok(seq) => {
                    self.stored_at = self.engine.clock().now();
                    self.note_answer(true);
                    if self.room.told == Space::Gone {
                        self.note_space(Space::Low);
                    }
                    return Ok(seq);
                }
                Err(AppendError::Full) if matches!(call, Call::Snapshot(_)) => {
                    self.room.too_large = call.bytes();
                    return Err(LogError::Full);
                }
                Err(AppendError::TooLarge { .. }) if matches!(call, Call::Snapshot(_)) => {
                    return Err(LogError::Full);
                }
                Err(AppendError::Full) if !is_full => {
                    // What was accepted before anybody knew takes of the reserve.
                    is_full = true;
                    self.note_space(Space::Reserved);
                    outcome = call.make(&mut self.writer, is_full).await;
                }
                Err(AppendError::Full) if !self.room.is_patient => return Err(LogError::Full),
                Err(AppendError::Full) => {
                    self.note_space(Space::Gone);
                    self.wait().await;
                    self.trim().await?;
                    outcome = call.make(&mut self.writer, is_full).await;
                }
                Err(AppendError::Unknown | AppendError::UnknownFull) => {
                    outcome = match self.writer.settle().await {
                        Ok(Some(seq)) => Ok(seq),
                        Ok(None) => call.make(&mut self.writer, is_full).await,
                        Err(error) => {
                            self.wait_to_know(&error).await?;
                            Err(error)
                        }
                    };
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits before it is asked again what became of something, unless that is known.
    async fn wait_to_know(&mut self, error: &AppendError) -> Result<(), LogError> {
        match error {
            unknown if unknown.is_unknown() && !self.room.is_patient => {
                return Err(unknown.clone().into());
            }
            AppendError::UnknownFull => self.note_space(Space::Gone),
            AppendError::Unknown => self.note_answer(false),
            _ => return Ok(()),
        }
        self.wait().await;
        Ok(())
    }

    /// Says once that the log does not answer, and once that it does again.
    fn note_answer(&mut self, is_there: bool) {
        if self.room.is_silent != is_there {
            return;
        }
        self.room.is_silent = !is_there;
        match is_there {
            true => tracing::info!("the log answers again"),
            false => tracing::warn!(
                "the log does not answer: what is to be stored waits, and is sent again"
            ),
        }
    }

    async fn wait(&mut self) {
        let clock = self.engine.clock();
        tokio::select! {
            biased;
            () = clock.sleep_until(clock.now() + RETRY) => {}
            () = self.room.stop.cancelled() => self.room.is_patient = false,
        }
    }

    /// Looks how much space there is; where there is too little, makes some.
    pub async fn mind_space(&mut self) -> Result<(), LogError> {
        let mut next = LOOK;
        if self.room.told < Space::Free {
            let is_more = self.make_room().await?;
            next = if is_more { SOON } else { RETRY };
        }
        let room = self.writer.room();
        self.room.bytes = room;
        self.room.look_at = self.engine.clock().now() + next;
        let enough = if self.room.told == Space::Free { ENOUGH } else { ENOUGH_AGAIN };
        self.note_space(match room {
            _ if room >= enough => Space::Free,
            _ if room >= LOW => Space::Reserved,
            _ => Space::Low,
        });
        Ok(())
    }

    /// Whether anything was trimmed.
    async fn make_room(&mut self) -> Result<bool, LogError> {
        // A try that is bound to fail would cost what it stores otherwise.
        if self.writer.room() > FLOOR + 2 * self.room.too_large {
            self.renew().await
        } else {
            self.trim().await
        }
    }

    /// Trims what is not needed any more; whether there was anything.
    pub(super) async fn trim(&mut self) -> Result<bool, LogError> {
        let Some(below) = self.cover.trim() else { return Ok(false) };
        match self.writer.trim(below).await {
            Ok(()) => Ok(true),
            // The next one removes that, too.
            Err(AppendError::Full) => Ok(false),
            Err(error) if error.is_unknown() => {
                // It is done again with the next call.
                loop {
                    match self.writer.settle().await {
                        Ok(_) => break,
                        Err(error) if error.is_unknown() => self.wait_to_know(&error).await?,
                        Err(AppendError::Full) => return Ok(false),
                        Err(error) => return Err(error.into()),
                    }
                }
                self.note_answer(true);
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn note_space(&mut self, space: Space) {
        let before = std::mem::replace(&mut self.room.told, space);
        if before == space {
            return;
        }
        match space {
            Space::Free => {
                self.room.too_large = 0;
                tracing::info!("there is space in the store again");
            }
            Space::Gone => {
                tracing::error!("there is no space left in the store: nothing more is stored");
            }
            _ if before == Space::Free => {
                tracing::error!("there is little space left in the store: writes are refused");
            }
            Space::Reserved | Space::Low => {}
        }
        if space < Space::Free {
            let soon = self.engine.clock().now() + RETRY;
            self.room.look_at = self.room.look_at.min(soon);
        }
        self.engine.note_space(space);
    }

    /// How it ends when nothing changes any more.
    pub(super) fn finish(&self, outcome: Result<(), LogError>) -> Result<Finish, LogError> {
        match outcome {
            Ok(()) if self.engine.is_all_stored() => Ok(Finish::Stored),
            Ok(()) => Ok(Finish::Unstored { streams: false }),
            Err(LogError::Full | LogError::Silent) => {
                Ok(Finish::Unstored { streams: self.has_open_streams })
            }
            Err(error) => Err(error),
        }
    }
}
