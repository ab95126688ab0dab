//! What all nodes receive, also those that start later: notes, of which the last under each key
//! counts. They are kept in a stream of JetStream, and so in one order for all.

use super::{
    joined::Cluster,
    subjects::{Subjects, hexadecimal},
};
use async_nats::{Client, HeaderMap, StatusCode};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_stream::StreamExt;

/// Bytes of a note at most.
const MAX_NOTE_BYTES: usize = 16 * 1024;

/// Bytes of all notes at most: a hundred thousand revocations of users with long names have room.
const MAX_BYTES: u64 = 128 << 20;

/// How long JetStream has for one request.
const REQUEST_WAIT: Duration = Duration::from_secs(2);

/// How long it is tried to tell something. The servers choose a new leader within that.
const TELL_WAIT: Duration = Duration::from_secs(8);

/// How long it waits until something is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// The server says so often that there is nothing new.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is about, up to 1 KiB: the last note about it counts.
    pub key: Bytes,
    /// What it says.
    pub text: Bytes,
    /// How long it counts, in whole seconds; none = for ever.
    pub lasts: Option<Duration>,
}

/// What a node hears of notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// What one says. After the connection was lost, notes may come again.
    Note(Bytes),
    /// Everything that was sent before this node asked has come.
    UpToDate,
}

/// Why something is not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTold {
    /// There is no room for more.
    #[error("the cluster has no room for more notes")]
    Full,
    /// JetStream did not answer, or refuses. It may be sent all the same.
    #[error("the cluster cannot be told at the moment: {0}")]
    Failed(String),
    /// The stream is not as it should be.
    #[error("the stream {stream} of the cluster is not as it should be: {what}")]
    Foreign {
        /// Its name.
        stream: String,
        /// Each difference.
        what: String,
    },
}

/// Where a node has come to in the notes.
#[derive(Debug)]
pub(super) struct Notes {
    stream: String,
    prefix: String,
    replicas: usize,
    /// The place of the last that was heard here.
    heard: watch::Sender<u64>,
    /// How many follow here.
    followers: AtomicUsize,
}

/// How a note is to be stored.
struct Attempt {
    subject: String,
    /// The place of the note that it replaces; 0 = there is none.
    after: u64,
    /// What tells it from all other messages: so it is stored once.
    id: String,
}

#[derive(Default, Deserialize)]
struct Found {
    #[serde(default)]
    seq: u64,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    num_pending: u64,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    message: Found,
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

/// Codes of JetStream: there is no such stream; there is one already; it is full; there is no such message;
/// another one is the last of the subject.
const NO_STREAM: u32 = 10059;
const STREAM_EXISTS: u32 = 10058;
const STREAM_FULL: u32 = 10077;
const NO_MESSAGE: u32 = 10037;
const WRONG_LAST: u32 = 10071;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.description, self.err_code)
    }
}

impl Notes {
    pub fn new(subjects: &Subjects, replicas: usize) -> Self {
        Self {
            stream: format!("{}-notes", subjects.prefix),
            prefix: format!("{}.note", subjects.prefix),
            replicas,
            heard: watch::Sender::new(0),
            followers: AtomicUsize::new(0),
        }
    }

    /// How the stream is set. Only the last note about something is kept.
    fn settings(&self) -> Value {
        json!({
            "name": self.stream,
            "subjects": [format!("{}.*", self.prefix)],
            "retention": "limits",
            "storage": "file",
            "num_replicas": self.replicas,
            "max_msgs_per_subject": 1,
            "max_msg_size": MAX_NOTE_BYTES + 1024,
            "max_bytes": MAX_BYTES,
            "discard": "new",
            "allow_msg_ttl": true,
        })
    }

    /// Sees that the stream is set as it should be but for the number of its replicas. It is made only
    /// in a cluster that is new: with one that is gone went what is revoked.
    pub async fn open(&self, client: &Client, is_new: bool) -> Result<(), NotTold> {
        let info = self.ask(client, "STREAM.INFO", &Value::Null).await?;
        let info = match info.error {
            Some(Fault { err_code: NO_STREAM, .. }) if !is_new => {
                let what = format!(
                    "it is gone, although the partitions are there: restore a backup of it or, if nothing \
                     is revoked, make it empty with the settings {}",
                    self.settings()
                );
                return Err(NotTold::Foreign { stream: self.stream.clone(), what });
            }
            Some(Fault { err_code: NO_STREAM, .. }) => {
                let made = self.ask(client, "STREAM.CREATE", &self.settings()).await?;
                match made.error {
                    None => return Ok(()),
                    // Another node was faster.
                    Some(Fault { err_code: STREAM_EXISTS, .. }) => {
                        self.ask(client, "STREAM.INFO", &Value::Null).await?
                    }
                    Some(fault) => return Err(NotTold::Failed(fault.to_string())),
                }
            }
            Some(fault) => return Err(NotTold::Failed(fault.to_string())),
            None => info,
        };
        let settings = self.settings();
        let wanted = settings.as_object().into_iter().flatten();
        let differs = wanted.filter(|(name, value)| {
            *name != "num_replicas" && info.config.get(name.as_str()) != Some(value)
        });
        let what: Vec<_> = differs
            .map(|(name, value)| {
                let is = info.config.get(name.as_str()).unwrap_or(&Value::Null);
                format!("{name} is {is}, not {value}")
            })
            .collect();
        if what.is_empty() {
            return Ok(());
        }
        Err(NotTold::Foreign { stream: self.stream.clone(), what: what.join(", ") })
    }

    async fn ask(&self, client: &Client, what: &str, body: &Value) -> Result<Answer, NotTold> {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let asking = client.request(format!("$JS.API.{what}.{}", self.stream), body);
        let failed = |why: &dyn fmt::Display| NotTold::Failed(why.to_string());
        let answer = timeout(REQUEST_WAIT, asking).await.map_err(|_| failed(&"no answer"))?;
        let answer = answer.map_err(|error| failed(&error))?;
        serde_json::from_slice(&answer.payload).map_err(|error| failed(&error))
    }

    /// Sends what changes nothing to each subject that notes need; those subjects. What is not permitted
    /// the server says by itself.
    pub async fn probe(&self, client: &Client) -> [String; 2] {
        let subjects =
            [format!("$JS.API.CONSUMER.CREATE.{}", self.stream), format!("{}.none", self.prefix)];
        let mut headers = HeaderMap::new();
        // No stream ends there.
        headers.insert("Nats-Expected-Last-Sequence", i64::MAX.to_string());
        for subject in &subjects {
            let (subject, headers) = (subject.clone(), headers.clone());
            let _ = client.publish_with_headers(subject, headers, "{}".into()).await;
        }
        subjects
    }

    /// The place of the last note of a subject; 0 = there is none.
    async fn last(&self, client: &Client, subject: &str) -> Result<u64, NotTold> {
        let found = self.ask(client, "STREAM.MSG.GET", &json!({ "last_by_subj": subject })).await?;
        match found.error {
            None => Ok(found.message.seq),
            Some(Fault { err_code: NO_MESSAGE, .. }) => Ok(0),
            Some(fault) => Err(NotTold::Failed(fault.to_string())),
        }
    }

    /// Stores a note after the one that it is to replace; its place. None = that is not the last of its
    /// subject.
    async fn store(
        &self,
        client: &Client,
        note: &Note,
        attempt: &Attempt,
    ) -> Result<Option<u64>, NotTold> {
        if note.text.len() > MAX_NOTE_BYTES {
            return Err(NotTold::Failed(format!("it has more than {MAX_NOTE_BYTES} bytes")));
        }
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", attempt.id.as_str());
        headers.insert("Nats-Expected-Last-Subject-Sequence", attempt.after.to_string());
        if let Some(lasts) = note.lasts {
            headers.insert("Nats-TTL", format!("{}s", lasts.as_secs().max(1)));
        }
        let failed = |why: &dyn fmt::Display| NotTold::Failed(why.to_string());
        let subject = attempt.subject.clone();
        let asking = client.request_with_headers(subject, headers, note.text.clone());
        let answer = timeout(REQUEST_WAIT, asking).await.map_err(|_| failed(&"no answer"))?;
        let answer = answer.map_err(|error| failed(&error))?;
        let answer: Answer =
            serde_json::from_slice(&answer.payload).map_err(|error| failed(&error))?;
        match answer.error {
            None => Ok(Some(answer.seq)),
            Some(Fault { err_code: WRONG_LAST, .. }) => Ok(None),
            Some(Fault { err_code: STREAM_FULL, .. }) => Err(NotTold::Full),
            Some(fault) => Err(failed(&fault)),
        }
    }

    /// Tries until a note is stored. What is sent again is the same message after the same one: if a
    /// server that stood still stores an early attempt late, it replaces nothing that was said since.
    pub async fn tell(&self, client: &Client, note: &Note) -> Result<(), NotTold> {
        let ends_at = Instant::now() + TELL_WAIT;
        let mut attempt = None;
        let place = loop {
            match self.attempt(client, note, &mut attempt).await {
                Ok(Some(place)) => break place,
                // Another note about the same came first.
                Ok(None) if Instant::now() < ends_at => attempt = None,
                Ok(None) => return Err(NotTold::Failed("others are first all the time".into())),
                Err(NotTold::Failed(_)) if Instant::now() + AGAIN < ends_at => sleep(AGAIN).await,
                Err(refused) => return Err(refused),
            }
        };
        // In force here when it is said to be.
        let mut heard = self.heard.subscribe();
        let wait = heard.wait_for(|heard| *heard >= place);
        let is_here = match self.followers.load(Ordering::Acquire) {
            0 => true,
            _ => timeout(TELL_WAIT, wait).await.is_ok(),
        };
        match is_here {
            true => Ok(()),
            false => Err(NotTold::Failed("it is stored, and does not come back".to_owned())),
        }
    }

    async fn attempt(
        &self,
        client: &Client,
        note: &Note,
        attempt: &mut Option<Attempt>,
    ) -> Result<Option<u64>, NotTold> {
        self.open(client, false).await?;
        let attempt = match attempt {
            Some(attempt) => attempt,
            None => {
                let print = digest(&SHA256, &note.key);
                let subject = format!("{}.{}", self.prefix, hexadecimal(print.as_ref()));
                let after = self.last(client, &subject).await?;
                let id = uuid::Uuid::new_v4().simple().to_string();
                attempt.insert(Attempt { subject, after, id })
            }
        };
        self.store(client, note, attempt).await
    }

    /// Hands over all notes in their order, and goes on for ever.
    pub async fn follow(&self, client: &Client, mut take: impl FnMut(Heard) + Send) {
        let _following = Following::of(&self.followers);
        loop {
            if let Err(why) = self.follow_once(client, &mut take).await {
                tracing::warn!(%why, "what the cluster is told does not come in");
            }
            sleep(AGAIN).await;
        }
    }

    /// Until something fails. A new consumer hands out everything that counts, from the first on.
    async fn follow_once(
        &self,
        client: &Client,
        take: &mut (impl FnMut(Heard) + Send),
    ) -> Result<(), NotTold> {
        self.open(client, false).await?;
        let failed = |why: &dyn fmt::Display| NotTold::Failed(why.to_string());
        let inbox = client.new_inbox();
        let subscribed = client.subscribe(inbox.clone()).await;
        let mut messages = subscribed.map_err(|error| failed(&error))?;
        let heartbeat = HEARTBEAT.as_nanos() as u64;
        let settings = json!({
            "stream_name": self.stream,
            "config": {
                "deliver_subject": inbox,
                "deliver_policy": "all",
                "ack_policy": "none",
                "replay_policy": "instant",
                "mem_storage": true,
                "num_replicas": 1,
                "idle_heartbeat": heartbeat,
                "inactive_threshold": 5 * heartbeat,
            },
        });
        let made = self.ask(client, "CONSUMER.CREATE", &settings).await?;
        if let Some(fault) = made.error {
            return Err(failed(&fault));
        }
        let mut pending = made.num_pending;
        let mut number = 0;
        if pending == 0 {
            take(Heard::UpToDate);
        }
        loop {
            let next = timeout(3 * HEARTBEAT, messages.next()).await;
            let message = next.map_err(|_| failed(&"the server is silent"))?;
            let message = message.ok_or_else(|| failed(&"the connection is closed"))?;
            let Some(place) = message.reply.as_deref().and_then(Place::of) else {
                let last = message.headers.as_ref().and_then(|it| it.get("Nats-Last-Consumer"));
                let last = last.and_then(|last| last.as_str().parse::<u64>().ok());
                // A heartbeat says how many there were.
                match message.status {
                    Some(StatusCode::IDLE_HEARTBEAT) if last.is_none_or(|it| it <= number) => {
                        // Of what was there, the rest has been replaced or is over.
                        if std::mem::take(&mut pending) > 0 {
                            take(Heard::UpToDate);
                        }
                        continue;
                    }
                    _ => return Err(failed(&"something has got lost")),
                }
            };
            number += 1;
            if place.number != number {
                return Err(failed(&"something has got lost"));
            }
            take(Heard::Note(message.payload));
            self.heard.send_if_modified(|heard| {
                let is_newer = place.seq > *heard;
                *heard = place.seq.max(*heard);
                is_newer
            });
            if pending > 0 {
                pending -= 1;
                // Some may have been replaced meanwhile.
                if pending == 0 || place.pending == 0 {
                    pending = 0;
                    take(Heard::UpToDate);
                }
            }
        }
    }
}

/// Counts those that follow.
struct Following<'a>(&'a AtomicUsize);

impl<'a> Following<'a> {
    fn of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Where a message stands, as the subject says to which it would be acked.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// In the stream.
    seq: u64,
    /// Among those that this consumer has sent.
    number: u64,
    /// How many come behind it.
    pending: u64,
}

impl Place {
    /// `$JS.ACK.<stream>.<consumer>.<tries>.<seq>.<number>.<time>.<pending>`, or the same with a domain,
    /// an account and a token in between, of which the end is the same but for the token.
    fn of(subject: &str) -> Option<Self> {
        let tokens: Vec<_> = subject.strip_prefix("$JS.ACK.")?.split('.').collect();
        let at = match tokens.len() {
            7 => 3,
            8.. => 5,
            _ => return None,
        };
        let number = |at: usize| tokens.get(at)?.parse().ok();
        Some(Self { seq: number(at)?, number: number(at + 1)?, pending: number(at + 3)? })
    }
}

impl Cluster {
    /// Tells all nodes something, also those that start later. When this returns, this node has heard
    /// it, too, if it [follows](Self::follow_notes).
    pub async fn tell(&self, note: &Note) -> Result<(), NotTold> {
        self.notes().tell(self.client(), note).await
    }

    /// Hands over what all nodes receive, and goes on for ever: first what counts, then as it comes.
    pub async fn follow_notes(&self, take: impl FnMut(Heard) + Send) {
        self.notes().follow(self.client(), take).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_message_is_read() {
        let place = Some(Place { seq: 7, number: 2, pending: 3 });
        assert_eq!(Place::of("$JS.ACK.s.c.1.7.2.1700000000000000000.3"), place);
        assert_eq!(Place::of("$JS.ACK._.hash.s.c.1.7.2.1700000000000000000.3"), place);
        assert_eq!(Place::of("$JS.ACK._.hash.s.c.1.7.2.1700000000000000000.3.token"), place);
        for other in ["", "$JS.ACK.s.c", "$JS.ACK.s.c.1.x.2.3.4", "_INBOX.a"] {
            assert_eq!(Place::of(other), None, "{other}");
        }
    }
}
