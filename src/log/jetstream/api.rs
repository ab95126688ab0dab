//! What is asked of JetStream, and what it answers: the few requests that the log needs, without a
//! library that would send something again, or not, on its own.

use super::{
    connection::Connection,
    replies::{Place, Replies},
};
use crate::log::{LogError, Seq};
use async_nats::{HeaderMap, Message, StatusCode, connection::State};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// After how long something that has no reply is sent again.
pub const RESEND: Duration = Duration::from_millis(250);

/// The same of a request that a server may have to work on.
const RESEND_REQUEST: Duration = Duration::from_secs(2);

/// How many messages are read at a time, and bytes of them; the last one may go beyond.
const READ_MESSAGES: usize = 4096;
const READ_BYTES: usize = 4 << 20;

/// A header of a message that is stored: what tells it from all others.
pub const MSG_ID: &str = "Nats-Msg-Id";

/// A header of each message that is stored with others as a whole.
pub const BATCH_ID: &str = "Nats-Batch-Id";

/// Where servers are asked how they are set. That is the system's, so few may ask.
const OF_SERVERS: &str = "$SYS.REQ.SERVER.PING.JSZ";

/// Why a request has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// A server refused it, with a code that NATS lists.
    Refused(u32, String),
    /// It is not permitted, as a server says.
    Denied(Arc<str>),
    /// Nobody is there to answer, at the moment or at all.
    NoResponders,
    /// Nobody answered in time.
    Silent,
}

impl ApiError {
    /// What it says to somebody who looks at it.
    pub fn words(&self) -> String {
        match self {
            Self::Refused(code, text) => format!("{text} ({code})"),
            Self::Denied(words) => words.to_string(),
            Self::NoResponders => "no server is responsible at the moment".to_owned(),
            Self::Silent => "no server answered in time".to_owned(),
        }
    }

    /// Whether the same request may have a result a little later: there is no answer, or servers are
    /// about to stop, have just started, or look for a leader.
    pub fn may_pass(&self) -> bool {
        // Temporarily unavailable, asked of a server that leads no more, no resources, a stream whose
        // servers are away, a message that is being stored, a place that is not known yet, too many at
        // once, a group that lacks a message, too many groups.
        const PASSING: [u32; 9] = [10008, 10009, 10023, 10118, 10158, 10163, 10167, 10176, 10210];
        match self {
            Self::Refused(code, _) => PASSING.contains(code),
            Self::Denied(_) => false,
            Self::NoResponders | Self::Silent => true,
        }
    }
}

/// A message of a stream.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its subject.
    pub subject: String,
    /// Its place.
    pub seq: Seq,
    /// What tells it from all others.
    pub id: Option<String>,
    /// Whether it has the headers of what nodes store, whatever its bytes are by now.
    pub is_of_node: bool,
    /// Its bytes.
    pub payload: Bytes,
}

/// What the server says of a stream.
#[derive(Debug, Clone, Deserialize)]
pub struct StreamInfo {
    /// How it is set, as JSON.
    pub config: Value,
    /// What it holds.
    pub state: StreamState,
    /// Where it is; none of a server alone.
    #[serde(default)]
    pub cluster: Option<ClusterInfo>,
}

/// What a stream holds.
#[derive(Debug, Clone, Deserialize)]
pub struct StreamState {
    /// Bytes that count against its bound.
    pub bytes: u64,
    /// The last number that it gave out.
    pub last_seq: u64,
}

/// Where a stream is.
#[derive(Debug, Clone, Deserialize)]
pub struct ClusterInfo {
    /// All but the leader.
    #[serde(default)]
    pub replicas: Vec<Replica>,
}

/// A server that follows.
#[derive(Debug, Clone, Deserialize)]
pub struct Replica {
    /// It is not there.
    #[serde(default)]
    pub offline: bool,
    /// How much it is behind.
    #[serde(default)]
    pub lag: u64,
}

/// What the reply to a publish says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Ack {
    /// The place of the message, or of the last of a group.
    pub seq: u64,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

/// The way to JetStream.
#[derive(Debug, Clone)]
pub struct Api {
    connection: Connection,
    replies: Arc<Replies>,
    /// How long it is tried to get a result.
    patience: Duration,
}

impl Api {
    /// Begins to listen for replies.
    pub async fn open(connection: &Connection, patience: Duration) -> Result<Self, LogError> {
        let failed = |error: async_nats::SubscribeError| LogError::Broken(error.to_string().into());
        let replies = Replies::open(connection.client()).await.map_err(failed)?;
        Ok(Self { connection: connection.clone(), replies: Arc::new(replies), patience })
    }

    /// The same with another patience.
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Where replies come in.
    pub fn replies(&self) -> &Replies {
        &self.replies
    }

    /// How long it is tried to get a result.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.connection.client().connection_state() == State::Connected
    }

    /// Sends one message and waits for nothing; whether it could be handed over.
    pub async fn send(
        &self,
        subject: impl Into<async_nats::Subject>,
        reply: Option<async_nats::Subject>,
        headers: HeaderMap,
        payload: Bytes,
    ) -> bool {
        let (client, subject) = (self.connection.client(), subject.into());
        let sent = async {
            match (reply, headers.is_empty()) {
                (Some(reply), true) => client.publish_with_reply(subject, reply, payload).await,
                (Some(reply), false) => {
                    client.publish_with_reply_and_headers(subject, reply, headers, payload).await
                }
                (None, true) => client.publish(subject, payload).await,
                (None, false) => client.publish_with_headers(subject, headers, payload).await,
            }
        };
        // It waits where too much waits already.
        matches!(timeout(RESEND, sent).await, Ok(Ok(())))
    }

    /// One that could not be handed over has no reply either.
    async fn request(&self, subject: String, place: &Place, body: Bytes) {
        let reply = Some(place.subject.clone());
        let _ = self.send(subject, reply, HeaderMap::new(), body).await;
    }

    /// Asks until there is a result, and no longer than [`patience`](Self::patience).
    async fn ask<T: DeserializeOwned>(&self, request: &str, body: Value) -> Result<T, ApiError> {
        let until = Instant::now() + self.patience;
        loop {
            let error = match self.ask_once(request, &body, until).await {
                Err(error) if error.may_pass() => error,
                result => return result,
            };
            if Instant::now() + RESEND >= until {
                return Err(error);
            }
            if error != ApiError::Silent {
                sleep(RESEND).await;
            }
        }
    }

    async fn ask_once<T: DeserializeOwned>(
        &self,
        request: &str,
        body: &Value,
        until: Instant,
    ) -> Result<T, ApiError> {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let subject = format!("$JS.API.{request}");
        let mut place = self.replies.place();
        self.connection.denied().forget(&subject);
        self.request(subject.clone(), &place, body).await;
        let until = until.min(Instant::now() + RESEND_REQUEST);
        answer(&self.reply(&subject, &mut place, until).await?)
    }

    /// The next reply to what was sent on a subject.
    async fn reply(
        &self,
        subject: &str,
        place: &mut Place,
        until: Instant,
    ) -> Result<Message, ApiError> {
        let denied = self.connection.denied();
        tokio::select! {
            reply = timeout_at(until, place.reply()) => reply.map_err(|_| {
                let words = denied.of(self.replies.subject());
                words.map_or(ApiError::Silent, ApiError::Denied)
            }),
            words = denied.wait_for(subject) => Err(ApiError::Denied(words)),
        }
    }

    /// Sends something to find out whether it may be sent. Whatever is replied, it may.
    pub async fn probe(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), ApiError> {
        let mut place = self.replies.place();
        self.connection.denied().forget(&subject);
        self.send(subject.clone(), Some(place.subject.clone()), headers, payload).await;
        let until = Instant::now() + RESEND_REQUEST;
        self.reply(&subject, &mut place, until).await.map(drop)
    }

    /// Whether there is JetStream at all, and it may be used.
    pub async fn account(&self) -> Result<(), ApiError> {
        self.ask::<Value>("INFO", Value::Null).await.map(drop)
    }

    /// What the leader of a stream says of it; none = there is no such stream.
    pub async fn stream(&self, stream: &str) -> Result<Option<StreamInfo>, ApiError> {
        not_found(self.ask(&format!("STREAM.INFO.{stream}"), Value::Null).await, 10059)
    }

    /// Makes a stream. It does nothing if there is one with the same settings.
    pub async fn create(&self, stream: &str, settings: &Value) -> Result<(), ApiError> {
        let made = self.ask::<Value>(&format!("STREAM.CREATE.{stream}"), settings.clone()).await;
        made.map(drop)
    }

    /// Removes the messages of a subject below a place. Whenever it is done, it does not touch what
    /// is written later.
    pub async fn purge(&self, stream: &str, subject: &str, below: Seq) -> Result<(), ApiError> {
        let body = json!({ "filter": subject, "seq": below.0 });
        self.ask::<Value>(&format!("STREAM.PURGE.{stream}"), body).await.map(drop)
    }

    /// The message at a place, as the leader has it.
    pub async fn message(&self, stream: &str, seq: Seq) -> Result<Option<Stored>, ApiError> {
        self.message_by(stream, json!({ "seq": seq.0 })).await
    }

    /// The last message of a subject, as the leader has it.
    pub async fn last(&self, stream: &str, subject: &str) -> Result<Option<Stored>, ApiError> {
        self.message_by(stream, json!({ "last_by_subj": subject })).await
    }

    /// The first message of a subject from a place on, as the leader has it.
    pub async fn next(
        &self,
        stream: &str,
        subject: &str,
        from: Seq,
    ) -> Result<Option<Stored>, ApiError> {
        self.message_by(stream, json!({ "seq": from.0.max(1), "next_by_subj": subject })).await
    }

    async fn message_by(&self, stream: &str, body: Value) -> Result<Option<Stored>, ApiError> {
        #[derive(Deserialize)]
        struct Reply {
            message: Found,
        }
        #[derive(Deserialize)]
        struct Found {
            subject: String,
            seq: u64,
            #[serde(default)]
            hdrs: String,
            #[serde(default)]
            data: String,
        }
        let found = self.ask::<Reply>(&format!("STREAM.MSG.GET.{stream}"), body).await;
        let Some(Reply { message }) = not_found(found, 10037)? else { return Ok(None) };
        let decoded = |text: &str| STANDARD.decode(text).unwrap_or_default();
        let headers = String::from_utf8_lossy(&decoded(&message.hdrs)).into_owned();
        let header =
            |name| headers.lines().find_map(|line| line.split_once(':').filter(|it| it.0 == name));
        let id = header(MSG_ID).map(|(_, id)| id.trim().to_owned());
        Ok(Some(Stored {
            subject: message.subject,
            seq: Seq(message.seq),
            is_of_node: id.is_some() || header(BATCH_ID).is_some(),
            id,
            payload: decoded(&message.data).into(),
        }))
    }

    /// Some messages of a subject from a place on, in their order, as one of the servers has them: it may be a
    /// little behind the leader, but it never has a later message without an earlier one.
    pub async fn read(
        &self,
        stream: &str,
        filter: &str,
        from: Seq,
    ) -> Result<Vec<Stored>, ApiError> {
        let until = Instant::now() + self.patience;
        loop {
            match self.read_once(stream, filter, from).await {
                Err(error) if error.may_pass() && Instant::now() + RESEND < until => {
                    sleep(RESEND).await;
                }
                result => return result,
            }
        }
    }

    async fn read_once(
        &self,
        stream: &str,
        filter: &str,
        from: Seq,
    ) -> Result<Vec<Stored>, ApiError> {
        let mut place = self.replies.place();
        let body = json!({
            "seq": from.0.max(1), "next_by_subj": filter, "batch": READ_MESSAGES, "max_bytes": READ_BYTES,
        });
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        self.connection.denied().forget(&subject);
        self.request(subject.clone(), &place, body.to_string().into()).await;
        let mut read: Vec<Stored> = Vec::new();
        loop {
            let until = Instant::now() + RESEND_REQUEST;
            let message = match self.reply(&subject, &mut place, until).await {
                Ok(message) => message,
                // What came is of use.
                Err(_) if !read.is_empty() => return Ok(read),
                Err(error) => return Err(error),
            };
            match message.status.map(|status| status.as_u16()) {
                None => {}
                // There is nothing, or nothing more.
                Some(404 | 204) => return Ok(read),
                Some(503) => return Err(ApiError::NoResponders),
                Some(code) => {
                    let text = message.description.unwrap_or_default();
                    return Err(ApiError::Refused(code.into(), text));
                }
            }
            let header = |name| message.headers.as_ref().and_then(|headers| headers.get_last(name));
            let number = |name| header(name).and_then(|value| value.as_str().parse::<u64>().ok());
            let (seq, before) = (number("Nats-Sequence"), number("Nats-Last-Sequence"));
            let (Some(seq), Some(subject)) = (seq, header("Nats-Subject")) else {
                return Err(ApiError::Refused(0, "a message without a place".to_owned()));
            };
            // Each names the one before it: one that went missing on the way shows.
            if before != Some(read.last().map_or(0, |last| last.seq.0)) {
                return if read.is_empty() { Err(ApiError::Silent) } else { Ok(read) };
            }
            read.push(Stored {
                subject: subject.to_string(),
                seq: Seq(seq),
                id: None,
                is_of_node: header(MSG_ID).is_some() || header(BATCH_ID).is_some(),
                payload: message.payload,
            });
        }
    }

    /// Whether each server syncs whatever it stores before it answers; nothing if they do not say.
    pub async fn sync_settings(&self) -> Vec<(String, bool)> {
        #[derive(Deserialize)]
        struct Reply {
            server: Server,
            data: Data,
        }
        #[derive(Deserialize)]
        struct Server {
            name: String,
        }
        #[derive(Deserialize)]
        struct Data {
            #[serde(default)]
            config: Option<Config>,
        }
        #[derive(Deserialize)]
        struct Config {
            #[serde(default)]
            sync_always: bool,
        }
        let mut place = self.replies.place();
        self.request(OF_SERVERS.to_owned(), &place, Bytes::new()).await;
        let mut servers = Vec::new();
        let until = || Instant::now() + RESEND_REQUEST;
        while let Ok(reply) = self.reply(OF_SERVERS, &mut place, until()).await {
            match answer::<Reply>(&reply) {
                Ok(Reply { server, data: Data { config: Some(config) } }) => {
                    servers.push((server.name, config.sync_always));
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        servers
    }

    /// In the words of the log.
    pub fn told(&self, error: &ApiError) -> LogError {
        match error {
            ApiError::Denied(what) => LogError::NotPermitted(what.clone()),
            ApiError::Refused(10076 | 10039, _) => no_jetstream(),
            ApiError::Silent => LogError::Unreachable(error.words().into()),
            _ if error.may_pass() => LogError::NotReady(error.words().into()),
            _ => LogError::Unfit(error.words().into()),
        }
    }
}

/// Nobody can store anything there.
pub fn no_jetstream() -> LogError {
    LogError::Unfit(Arc::from("JetStream is not enabled for this account"))
}

/// What a reply says.
pub fn answer<T: DeserializeOwned>(reply: &Message) -> Result<T, ApiError> {
    if reply.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(ApiError::NoResponders);
    }
    let value: Value = serde_json::from_slice(&reply.payload).map_err(unreadable)?;
    if let Some(error) = value.get("error") {
        let Refusal { err_code, description } = Refusal::deserialize(error).map_err(unreadable)?;
        return Err(ApiError::Refused(err_code, description));
    }
    T::deserialize(value).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> ApiError {
    ApiError::Refused(0, format!("a reply that is none: {error}"))
}

fn not_found<T>(result: Result<T, ApiError>, code: u32) -> Result<Option<T>, ApiError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(ApiError::Refused(found, _)) if found == code => Ok(None),
        Err(error) => Err(error),
    }
}
