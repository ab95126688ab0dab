//! A subscriber that reads a session at one node after the other, and comes back where it was.

use crate::{
    call::{Request, What},
    check::Room,
    common::{Core, Event, Message, ToClient, Told},
    net::{CLIENTS, NODES},
    rebuilt::{Rebuilt, Step},
};
use prost::Message as _;
use sessiond::{
    engine::Resume,
    grpc::encode::PREFIX,
    proto::{SnapshotReason, SubscribeToSessionResponse},
    session::{
        epoch::Epoch,
        ids::{AppId, SessionId},
        limits::{Micros, SECOND},
        revision::Revision,
        settings::Durability,
    },
};

/// After so long without a word a connection is taken for dead.
const SILENCE: Micros = 3 * SECOND;

pub struct Reader {
    pub room: usize,
    copy: Rebuilt,
    /// Of the session that it reads: how often it was lost before.
    pub lost: u64,
    stream: Option<Stream>,
    rests_until: Micros,
    /// How many steps it was shown.
    pub shown: u64,
}

struct Stream {
    number: u64,
    heard_at: Micros,
    /// Nothing was shown on it yet.
    is_new: bool,
}

impl Reader {
    pub fn new(room: usize) -> Self {
        let copy = Rebuilt::default();
        Self { room, copy, lost: 0, stream: None, rests_until: 0, shown: 0 }
    }

    /// Whether it reads this stream.
    pub fn hears(&self, number: u64) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.number == number)
    }

    pub fn turn(&mut self, core: &mut Core, app: &AppId, room: &Room, numbers: &mut u64) {
        if self.stream.as_ref().is_some_and(|it| it.heard_at + SILENCE <= core.now) {
            self.stream = None;
        }
        if self.stream.is_some() || self.rests_until > core.now || room.opened_at.is_none() {
            return;
        }
        if self.lost != room.lost {
            *self = Self { lost: room.lost, shown: self.shown, ..Self::new(self.room) };
        }
        *numbers += 1;
        let number = *numbers;
        self.copy = self.copy.again();
        let Rebuilt { epoch, revision, view, .. } = self.copy;
        let resume = Resume { epoch: Epoch(epoch), revision: Revision(revision), view };
        let resume = (epoch != 0).then_some(resume);
        let session = SessionId::new(&room.id()).expect("an id");
        let request = Request { app: app.clone(), session, what: What::Look, id: None };
        self.stream = Some(Stream { number, heard_at: core.now, is_new: true });
        let to = core.draw.usize(..NODES);
        let message = Message::Subscribe { number, request, resume, entry: None };
        match core.present[to] {
            Some(_) => core.call(CLIENTS, to, message),
            None => {
                let lost = ToClient::Stream(number, core.now, Told::Lost);
                core.at(core.now, Event::AtClient(lost));
            }
        }
    }

    /// Takes in what its stream says.
    pub fn take(
        &mut self,
        core: &mut Core,
        room: &mut Room,
        made_at: Micros,
        told: Told,
    ) -> Result<(), String> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        stream.heard_at = core.now;
        match told {
            Told::Alive => Ok(()),
            _ if self.lost != room.lost => {
                self.stream = None;
                Ok(())
            }
            Told::Heartbeat(Revision(at)) => {
                stream.is_new = false;
                let before = self.copy.revision;
                self.copy.revision = at;
                match before <= at {
                    true => Ok(()),
                    false => Err(format!("a heartbeat goes back from {before} to {at}")),
                }
            }
            Told::Messages(messages) => {
                for bytes in messages {
                    self.show(core, room, made_at, &bytes[PREFIX..])?;
                }
                Ok(())
            }
            Told::Ended => Err("its stream says that it was deleted".into()),
            Told::NotFound | Told::Lost => {
                self.stream = None;
                self.rests_until = core.now + core.draw.u64(SECOND / 20..SECOND);
                Ok(())
            }
        }
    }

    fn show(
        &mut self,
        core: &mut Core,
        room: &mut Room,
        made_at: Micros,
        bytes: &[u8],
    ) -> Result<(), String> {
        let message = SubscribeToSessionResponse::decode(bytes).map_err(|it| it.to_string())?;
        let before = (self.copy.epoch, self.copy.revision);
        let Some(step) = message.update.and_then(|update| self.copy.apply(update)) else {
            return Ok(());
        };
        self.shown += 1;
        let is_first = self.stream.as_mut().is_some_and(|it| std::mem::take(&mut it.is_new));
        let is_new = before.0 == 0;
        let after = (self.copy.epoch, self.copy.revision);
        let number = self.stream.as_ref().map_or(0, |stream| stream.number);
        core.trace(format_args!(
            "{} is shown at {}.{} on stream {number}: {step:?}",
            room.id(),
            after.0,
            after.1
        ));
        let is_right = match &step {
            Step::Snapshot(SnapshotReason::First) => is_new && is_first,
            Step::Snapshot(SnapshotReason::EpochChanged) => {
                !is_new && is_first && room.durability != Durability::Sync
            }
            Step::Changes { .. } => !is_new,
            _ => false,
        };
        if !is_right {
            return Err(format!("a stream at {before:?} comes to {after:?} by {step:?}"));
        }
        if after < before {
            return Err(format!("a subscriber goes back from {before:?} to {after:?}"));
        }
        room.note(&self.copy, made_at)
    }
}
