//! What an entry is about: what a snapshot is taken of as a whole.

use super::{Entry, Place, RequestRecord, UserRecord};
use crate::session::ids::{AppId, SessionId, UserId};

/// What an entry is about. A snapshot of it holds everything that there is to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// The greatest epoch.
    Epochs,
    /// A session, with the requests to it.
    Session(AppId, SessionId),
    /// A user, with the requests to it.
    User(AppId, UserId),
    /// An app: the requests to it.
    App(AppId),
    /// The object streams of an app.
    Streams(AppId),
    /// The counter of all object streams.
    StreamCounter,
}

impl Subject {
    /// That of an entry.
    pub fn of(entry: &Entry) -> Self {
        match entry {
            Entry::GreatestEpoch(_) => Self::Epochs,
            Entry::Session(record) => Self::Session(record.app.clone(), record.id.clone()),
            Entry::Gone { app, id, .. } => Self::Session(app.clone(), id.clone()),
            Entry::User(UserRecord { app, user, .. }) => Self::User(app.clone(), user.clone()),
            Entry::Request(request) => Self::of_request(request),
            Entry::Streams(change) => match change.app() {
                Some(app) => Self::Streams(app.clone()),
                None => Self::StreamCounter,
            },
        }
    }

    fn of_request(RequestRecord { app, place, .. }: &RequestRecord) -> Self {
        match place {
            Place::Session(id) => Self::Session(app.clone(), id.clone()),
            Place::User(user) => Self::User(app.clone(), user.clone()),
            Place::App => Self::App(app.clone()),
        }
    }

    /// The key of its snapshots: a letter, and then the ids, the first after its length.
    pub fn key(&self) -> Vec<u8> {
        let (letter, app, id): (_, &str, &str) = match self {
            Self::Epochs => (b'e', "", ""),
            Self::Session(app, id) => (b's', app, id),
            Self::User(app, user) => (b'u', app, user),
            Self::App(app) => (b'a', app, ""),
            Self::Streams(app) => (b'o', app, ""),
            Self::StreamCounter => (b'c', "", ""),
        };
        let mut key = Vec::with_capacity(2 + app.len() + id.len());
        // Ids are shorter than that.
        key.extend([letter, app.len() as u8]);
        key.extend(app.bytes().chain(id.bytes()));
        key
    }
}
