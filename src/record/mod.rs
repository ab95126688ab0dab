//! What is written down of sessions and object streams, as bytes: versioned, checksummed, and read by every later
//! version.
//!
//! An entry is a byte for the version, a message of `record.proto`, and a CRC-32 of both, least byte
//! first. That frame is the same in all versions, so that damage is not taken for a version that is
//! not known here. Nothing that is read is trusted: what makes no sense is an error, never a panic,
//! and never a session or stream that is wrong.

mod batch;
mod info;
mod names;
mod parts;
mod read;
mod streams;
mod subject;
mod value;
mod write;

pub use self::{
    batch::{Entries, put, put_as},
    parts::{Joiner, more_follows, split},
    subject::Subject,
};

use crate::{
    object_stream::record::Change,
    session::{
        command::Actor,
        epoch::Epoch,
        ids::{AppId, Key, SessionId, UserId},
        limits::{Micros, SECOND},
        record::Record,
        revision::Revision,
        value::Value,
    },
};
use bytes::Bytes;
use prost::Message;

/// The messages of `record.proto`.
#[allow(missing_docs, clippy::large_enum_variant)]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/sessiond.record.v1.rs"));
}

/// The version that is written, unless an earlier one is asked for.
pub const VERSION: u8 = 1;

/// The first version that there was.
const FIRST_VERSION: u8 = 1;

/// Bytes of the checksum.
const CHECKSUM: usize = size_of::<u32>();

/// Something that is written down.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// What changed of a session, or all of it.
    Session(Box<Record>),
    /// A session is over, and nothing of it is left to know.
    Gone {
        /// Its namespace.
        app: AppId,
        /// Its id.
        id: SessionId,
        /// Its epoch: another session of its id has a greater one.
        epoch: Epoch,
    },
    /// No session that is gone had a greater epoch.
    GreatestEpoch(Epoch),
    /// What is known of a user beside its sessions.
    User(UserRecord),
    /// A request with an id was done.
    Request(Box<RequestRecord>),
    /// What changed of object streams, or all of them.
    Streams(Change),
}

/// How long it is remembered that a request was done.
pub const REMEMBERED_FOR: Micros = 120 * SECOND;

/// A request with an id that was done, and what it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// The namespace.
    pub app: AppId,
    /// What it acts on.
    pub place: Place,
    /// Who made it.
    pub by: Actor,
    /// Its id.
    pub id: Key,
    /// A hash of what else is in it.
    pub content: u64,
    /// When it was done.
    pub at: Micros,
    /// What it was answered.
    pub reply: Reply,
}

/// What a request acts on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// A session, named by its id.
    Session(SessionId),
    /// A user.
    User(UserId),
    /// Neither.
    App,
}

/// What a request was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The whole reply, encoded.
    Message(Bytes),
    /// The frame that holds a write.
    Written(Epoch, Revision),
    /// The frames that hold a write on a user, in each session that took it.
    OnUser(Vec<(SessionId, Epoch, Revision)>),
}

/// What is known of a user beside its sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct UserRecord {
    /// The namespace.
    pub app: AppId,
    /// Who.
    pub user: UserId,
    /// What is set on it; nothing = it is as a user that nobody knows.
    pub props: Vec<(Key, Value)>,
}

/// Why bytes are no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// They are not what was written.
    #[error("the entry is damaged")]
    Damaged,
    /// A later version of the program wrote them.
    #[error("the entry has version {0}, and this program knows versions up to {VERSION}")]
    Newer(u8),
    /// They were written whole, and make no sense.
    #[error("the entry makes no sense: {0}")]
    Malformed(&'static str),
}

/// The bytes of an entry.
pub fn encode(entry: &Entry) -> Vec<u8> {
    encode_as(VERSION, entry)
}

/// The bytes of an entry for readers that know versions up to this one. A reader that knows a version that
/// there never was, or a later one, is written to as if it knew the first, or the last.
pub fn encode_as(version: u8, entry: &Entry) -> Vec<u8> {
    let message = write::entry(entry);
    let mut bytes = Vec::with_capacity(1 + message.encoded_len() + CHECKSUM);
    bytes.push(version.clamp(FIRST_VERSION, VERSION));
    message.encode_raw(&mut bytes);
    let checksum = crc32fast::hash(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

/// The entry that was written as these bytes, by this version or an earlier one.
pub fn decode(bytes: &[u8]) -> Result<Entry, Unreadable> {
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(Unreadable::Damaged)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err(Unreadable::Damaged);
    }
    match body.split_first() {
        Some((&VERSION, message)) => {
            let message = wire::Entry::decode(message);
            read::entry(message.map_err(|_| Unreadable::Malformed("no message"))?)
        }
        Some((0, _)) | None => Err(Unreadable::Malformed("version 0")),
        Some((&newer, _)) => Err(Unreadable::Newer(newer)),
    }
}
