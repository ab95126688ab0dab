//! WatchSessions as tests read it. Every message is applied as a client does.

use super::{GLANCE, Refused, Service, in_time, sent, streams::Ending};
use prost::Message;
use sessiond::proto::{
    SessionEventKind as Kind, SessionInfo, WatchResetReason, WatchSessionsRequest,
    WatchSessionsResponse,
};
use std::collections::BTreeMap;
use tokio::time::timeout;
use tonic::{Request, Status, Streaming};

/// A stream of which sessions there are.
pub struct SessionsWatcher {
    down: Streaming<WatchSessionsResponse>,
    /// The sessions as this client knows them.
    pub sessions: BTreeMap<String, SessionInfo>,
    /// Where to continue.
    pub cursor: String,
    /// Why it began again.
    pub resets: Vec<WatchResetReason>,
    /// Whether its first picture is complete.
    pub is_whole: bool,
    /// How many messages came.
    pub messages: usize,
    /// The largest of them.
    pub largest: usize,
}

impl Service {
    /// Watches the sessions that somebody may know of; returns with the first picture complete.
    pub async fn watch_sessions(&self, user: &str, filter: &str) -> SessionsWatcher {
        let (user_id, filter) = (user.to_owned(), filter.to_owned());
        let request = WatchSessionsRequest { user_id, filter, ..Default::default() };
        let mut watcher = self.open_sessions_watcher(request).await;
        watcher.picture().await;
        watcher
    }

    /// Watches again from where a client was, with what it knows; nothing is read yet.
    pub async fn resume_sessions(
        &self,
        request: WatchSessionsRequest,
        from: SessionsWatcher,
    ) -> SessionsWatcher {
        let request = WatchSessionsRequest { cursor: from.cursor.clone(), ..request };
        let down = self.open_sessions_watcher(request).await.down;
        SessionsWatcher { down, is_whole: true, ..from }
    }

    /// Watches; nothing is read yet.
    pub async fn open_sessions_watcher(&self, request: WatchSessionsRequest) -> SessionsWatcher {
        self.open_sessions_watcher_by(sent(request)).await
    }

    /// The same by a call with metadata of its own.
    pub async fn open_sessions_watcher_by(
        &self,
        request: Request<WatchSessionsRequest>,
    ) -> SessionsWatcher {
        let answer = in_time(self.delivery().watch_sessions(request)).await;
        let down = super::node_of(answer.expect("streams are refused in their trailers"));
        SessionsWatcher {
            down,
            sessions: BTreeMap::new(),
            cursor: String::new(),
            resets: Vec::new(),
            is_whole: false,
            messages: 0,
            largest: 0,
        }
    }

    /// The refusal of such a call.
    pub async fn refused_sessions_watcher(&self, request: WatchSessionsRequest) -> Refused {
        let mut watcher = self.open_sessions_watcher(request).await;
        super::refused(watcher.next_message().await)
    }
}

impl SessionsWatcher {
    /// The next message, or how the stream ended.
    pub async fn next_message(&mut self) -> Result<WatchSessionsResponse, Status> {
        let message = in_time(self.down.message()).await?;
        let message = message.ok_or_else(|| Status::ok("the stream is over"))?;
        self.apply(&message);
        Ok(message)
    }

    fn apply(&mut self, message: &WatchSessionsResponse) {
        self.messages += 1;
        self.largest = self.largest.max(message.encoded_len());
        if message.reset != 0 {
            self.resets.push(message.reset());
            self.sessions.clear();
            self.is_whole = false;
        }
        self.is_whole |= !message.more && message.go_away.is_none();
        let has_cursor = !message.more && message.go_away.is_none();
        assert_eq!(!message.cursor.is_empty(), has_cursor, "{message:?}");
        if has_cursor {
            self.cursor = message.cursor.clone();
        }
        let mut names: Vec<_> = message.events.iter().map(|it| self.put(it.kind(), it)).collect();
        let many = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), many, "each session is told once: {message:?}");
    }

    fn put(&mut self, of: Kind, event: &sessiond::proto::SessionEvent) -> String {
        let session = event.session.clone().expect("every event has a session");
        let id = session.session_id.clone();
        match of {
            Kind::Opened | Kind::Changed => drop(self.sessions.insert(id.clone(), session)),
            Kind::Ended => {
                let (app, session_id) = (session.app.clone(), id.clone());
                assert_eq!(session, SessionInfo { app, session_id, ..Default::default() });
                self.sessions.remove(&id);
            }
            Kind::Unspecified => panic!("never sent"),
        }
        id
    }

    /// Reads until the first picture is complete.
    pub async fn picture(&mut self) {
        while !self.is_whole {
            self.next_message().await.expect("the stream goes on");
        }
    }

    /// What the next message tells, as type and id.
    pub async fn next(&mut self) -> Vec<(Kind, String)> {
        told(&self.next_message().await.expect("the stream goes on"))
    }

    /// The same of a message that is there or about to come; none = nothing came for a short while.
    pub async fn glance(&mut self) -> Option<Vec<(Kind, String)>> {
        let message = timeout(GLANCE, self.down.message()).await.ok()?;
        let message = message.expect("the stream goes on").expect("the stream goes on");
        self.apply(&message);
        Some(told(&message))
    }

    /// The ids of the sessions that it knows.
    pub fn ids(&self) -> Vec<&str> {
        self.sessions.keys().map(String::as_str).collect()
    }

    /// Reads on to the end.
    pub async fn end(&mut self) -> Ending {
        let mut go_away = None;
        loop {
            match self.next_message().await {
                Ok(message) => go_away = message.go_away.or(go_away),
                Err(status) => return Ending { ended: None, go_away, status },
            }
        }
    }
}

fn told(message: &WatchSessionsResponse) -> Vec<(Kind, String)> {
    let told = message.events.iter().map(|event| {
        let session = event.session.as_ref().expect("every event has a session");
        (event.kind(), session.session_id.clone())
    });
    told.collect()
}
