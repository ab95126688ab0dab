//! How something is stored: as one message, or as several that the server stores as a whole.
//!
//! The first message names the place after which it must stand, and that is always one that this
//! writer knows to be its own last. So what arrives late, from a writer that is deposed or from a
//! server that had stood still, is refused for ever. That is why nothing is sent ahead: a message
//! that named a place which is only expected could follow on the claim of somebody else.
//!
//! There is no space where a server says so, and nowhere else. Servers that restart, or look for a
//! leader, refuse in other words, or do not answer: then it is sent again.

use super::{
    Shared,
    api::{self, Ack, ApiError, BATCH_ID, MSG_ID, RESEND},
    replies::Place,
};
use crate::log::{BootMicros, Partition, Seq};
use async_nats::HeaderMap;
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// After how long several messages are sent again that have no reply.
const RESEND_MANY: Duration = Duration::from_secs(1);

/// One message.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where it goes.
    pub subject: String,
    /// Whether it takes the place of all messages of its subject.
    pub replaces: bool,
    /// Its bytes.
    pub payload: Bytes,
}

/// Messages that are stored as a whole, at places one after the other.
#[derive(Debug)]
pub struct Delivery {
    partition: Partition,
    /// The place before them.
    after: Seq,
    messages: Vec<Outgoing>,
    /// What tells the first from all other messages.
    id: String,
    /// When it was sent for the first time.
    first_sent: Option<BootMicros>,
    /// How often it was sent.
    attempts: u32,
    /// How many replies there were.
    replies: u32,
    /// The last reply was that a server has no resources, which passes unless it really has none.
    lacks_resources: bool,
    /// Nobody was there who takes it.
    is_unheard: bool,
    /// It was reported that it is refused for now.
    is_told: bool,
    place: Option<Place>,
}

/// Why something is not stored, or not known to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undelivered {
    /// Something else stands at its place. The last place of the stream, where the server has said it.
    Behind(Option<Seq>),
    /// There is no space for it.
    Full,
    /// It is not known.
    Unknown,
    /// Something that cannot be.
    Broken(Arc<str>),
}

/// What one attempt came to.
enum Attempt {
    Stored,
    Again,
    /// Again, but not at once.
    Later,
}

impl Delivery {
    /// Takes the messages, and the place before them.
    pub fn new(partition: Partition, after: Seq, messages: Vec<Outgoing>) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        Self {
            partition,
            after,
            messages,
            id,
            first_sent: None,
            attempts: 0,
            replies: 0,
            lacks_resources: false,
            is_unheard: false,
            is_told: false,
            place: None,
        }
    }

    /// When it was sent for the first time.
    pub fn first_sent(&self) -> Option<BootMicros> {
        self.first_sent
    }

    /// The place of its last message.
    pub fn last(&self) -> Seq {
        Seq(self.after.0 + self.messages.len() as u64)
    }

    /// Bytes that it takes in the stream, as a server counts them.
    pub fn bytes(&self) -> u64 {
        // Numbers, time, checksum and the headers, which are of much the same length.
        const AROUND: usize = 22 + 4 + 8 + 200;
        let bytes = |it: &Outgoing| (AROUND + it.subject.len() + it.payload.len()) as u64;
        self.messages.iter().map(bytes).sum()
    }

    /// Sends it until it is known what became of it, and no longer than the log is patient. It may
    /// be called again if that is unknown.
    pub async fn deliver(&mut self, shared: &Shared) -> Result<(), Undelivered> {
        let until = Instant::now() + shared.api.patience();
        loop {
            match self.attempt(shared).await? {
                Attempt::Stored => {
                    self.place = None;
                    return Ok(());
                }
                Attempt::Again => {}
                Attempt::Later => sleep(RESEND).await,
            }
            if Instant::now() >= until {
                if self.is_unheard {
                    self.is_there(shared).await?;
                }
                let is_full = self.lacks_resources && self.is_answered();
                return Err(if is_full { Undelivered::Full } else { Undelivered::Unknown });
            }
        }
    }

    /// Whether every reply is there: nothing that was sent can be stored later on.
    fn is_answered(&self) -> bool {
        self.replies >= self.attempts
    }

    async fn attempt(&mut self, shared: &Shared) -> Result<Attempt, Undelivered> {
        // What waits for a connection would only be sent twice when there is one.
        if shared.api.is_connected() {
            self.send(shared).await;
        }
        let patience = if self.messages.len() > 1 { RESEND_MANY } else { RESEND };
        (self.lacks_resources, self.is_unheard) = (false, false);
        loop {
            let Some(place) = &mut self.place else { return Ok(Attempt::Later) };
            let denied = shared.api.connection().denied();
            let reply = tokio::select! {
                reply = timeout(patience, place.reply()) => reply,
                words = denied.wait_for(&self.messages[0].subject) => {
                    self.replies += 1;
                    self.tell(shared, &ApiError::Denied(words));
                    return Ok(Attempt::Later);
                }
            };
            let Ok(reply) = reply else { return Ok(Attempt::Again) };
            self.replies += 1;
            match api::answer::<Ack>(&reply) {
                Ok(ack) if Seq(ack.seq) == self.last() => return Ok(Attempt::Stored),
                Ok(ack) => {
                    let why = format!("stored at {} what belongs at {}", ack.seq, self.last());
                    return Err(Undelivered::Broken(why.into()));
                }
                // Of what was sent before, another reply may say that it is stored.
                Err(ApiError::Refused(code, text)) if is_full(code, &text) => {
                    if self.is_answered() {
                        return Err(Undelivered::Full);
                    }
                }
                Err(error) => return self.refused(shared, &error).await,
            }
        }
    }

    async fn send(&mut self, shared: &Shared) {
        self.attempts += 1;
        shared.api.connection().denied().forget(&self.messages[0].subject);
        let now = BootMicros::now();
        let reply = self.place.get_or_insert_with(|| shared.api.replies().place()).subject.clone();
        let count = self.messages.len();
        for (number, message) in (1..).zip(&self.messages) {
            let mut headers = HeaderMap::new();
            if number == 1 {
                headers.insert("Nats-Expected-Last-Sequence", self.after.0.to_string().as_str());
                headers.insert(MSG_ID, self.id.as_str());
            }
            if message.replaces {
                headers.insert("Nats-Rollup", "sub");
            }
            let mut to = None;
            if count > 1 {
                // What is left of an earlier attempt is not continued.
                let batch = format!("{}-{}", self.id, self.attempts);
                headers.insert(BATCH_ID, batch.as_str());
                headers.insert("Nats-Batch-Sequence", number.to_string().as_str());
            }
            if number == count {
                to = Some(reply.clone());
                if count > 1 {
                    headers.insert("Nats-Batch-Commit", "1");
                }
            }
            let sent =
                shared.api.send(message.subject.clone(), to, headers, message.payload.clone());
            if !sent.await {
                return;
            }
        }
        self.first_sent.get_or_insert(now);
    }

    async fn refused(&mut self, shared: &Shared, error: &ApiError) -> Result<Attempt, Undelivered> {
        match error {
            // Another last place, or its identity is known: it may be stored already.
            ApiError::Refused(code @ (10071 | 10164 | 10201), text) => {
                let last = text.rsplit(' ').next().and_then(|it| it.parse().ok()).map(Seq);
                // The only one that was sent is the one that was refused.
                if self.attempts == 1 && *code != 10201 {
                    return Err(Undelivered::Behind(last));
                }
                self.look(shared).await
            }
            error if may_pass(error) => {
                self.lacks_resources = matches!(error, ApiError::Refused(10023, _));
                self.is_unheard = matches!(error, ApiError::NoResponders);
                if let ApiError::Refused(..) = error {
                    self.tell(shared, error);
                }
                Ok(Attempt::Later)
            }
            _ => Err(Undelivered::Broken(error.words().into())),
        }
    }

    /// Nobody takes what is for a stream that is gone.
    async fn is_there(&self, shared: &Shared) -> Result<(), Undelivered> {
        let stream = shared.settings.stream(self.partition);
        match shared.api.stream(&stream).await {
            Ok(None) => Err(gone(&stream)),
            Ok(Some(_)) | Err(_) => Ok(()),
        }
    }

    /// Says once what a server says: if it lasts, somebody has to do something about it.
    fn tell(&mut self, shared: &Shared, error: &ApiError) {
        if !std::mem::replace(&mut self.is_told, true) {
            let stream = shared.settings.stream(self.partition);
            tracing::warn!(stream, "what is to be stored waits: {}", error.words());
        }
    }

    /// Whether what stands at its place is it; none = nothing stands there.
    async fn found(&self, shared: &Shared, stream: &str) -> Result<Option<bool>, ApiError> {
        let found = shared.api.message(stream, self.after.next()).await?;
        Ok(found.map(|found| found.id.as_ref() == Some(&self.id)))
    }

    /// Looks what stands at its place.
    async fn look(&self, shared: &Shared) -> Result<Attempt, Undelivered> {
        let stream = shared.settings.stream(self.partition);
        let first = self.after.next();
        match self.found(shared, &stream).await {
            Ok(None) => {}
            Ok(Some(true)) => return Ok(Attempt::Stored),
            Ok(Some(false)) => return Err(Undelivered::Behind(None)),
            Err(_) => return Ok(Attempt::Later),
        }
        match shared.api.stream(&stream).await {
            Ok(Some(info)) if info.state.last_seq >= first.0 => {
                match self.found(shared, &stream).await {
                    // It was stored since it was looked for.
                    Ok(Some(true)) => Ok(Attempt::Stored),
                    // Something stood there, and a later writer removed it.
                    Ok(Some(false) | None) => Err(Undelivered::Behind(None)),
                    Err(_) => Ok(Attempt::Later),
                }
            }
            // It is on its way, of whomever it is.
            Ok(Some(info)) if info.state.last_seq == self.after.0 => Ok(Attempt::Later),
            Ok(Some(info)) => {
                let why = format!(
                    "the stream {stream} ends at {}, although {} was stored in it",
                    info.state.last_seq, self.after
                );
                Err(Undelivered::Broken(why.into()))
            }
            Ok(None) => Err(gone(&stream)),
            Err(_) => Ok(Attempt::Later),
        }
    }
}

fn gone(stream: &str) -> Undelivered {
    Undelivered::Broken(format!("the stream {stream} is gone").into())
}

/// Whether a refusal is for want of space, now and until there is some: the stream, the account or the
/// disk is full.
fn is_full(code: u32, text: &str) -> bool {
    const WORDS: [&str; 2] = ["maximum bytes exceeded", "no space left"];
    matches!(code, 10002 | 10047) || WORDS.iter().any(|word| text.contains(word))
}

/// Whether a message that is refused may be stored a little later. A server says of what it stores that
/// it fails when it is about to stop, too; and it may have JetStream off, and on again.
fn may_pass(error: &ApiError) -> bool {
    error.may_pass() || matches!(error, ApiError::Refused(10039 | 10076 | 10077, _))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_space_is_told_from_other_refusals() {
        for (code, text) in [
            (10077, "maximum bytes exceeded"),
            (10077, "write /data/1.blk: no space left on device"),
            (10002, "resource limits exceeded for account"),
            (10047, "insufficient storage resources available"),
        ] {
            assert!(is_full(code, text), "{text}");
        }
        for (code, text) in [
            (10071, "wrong last sequence: 7"),
            (10077, "message size exceeds maximum allowed"),
            (10008, "JetStream system temporarily unavailable"),
            (10023, "insufficient resources"),
        ] {
            assert!(!is_full(code, text), "{text}");
        }
    }

    #[test]
    fn servers_that_restart_or_look_for_a_leader_refuse_for_now() {
        for (code, text) in [
            (10008, "JetStream system temporarily unavailable"),
            (10009, "JetStream cluster can not handle request"),
            (10023, "insufficient resources"),
            (10076, "JetStream not enabled"),
            (10077, "store is closed"),
            (10118, "stream is offline"),
        ] {
            assert!(may_pass(&ApiError::Refused(code, text.to_owned())), "{text}");
        }
        assert!(may_pass(&ApiError::NoResponders) && may_pass(&ApiError::Silent));
        assert!(!may_pass(&ApiError::Refused(
            10109,
            "invalid stream operation on sealed stream".to_owned()
        )));
    }
}
