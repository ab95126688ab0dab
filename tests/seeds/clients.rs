//! Clients of the streams that carry something else than one session's latest state: what one user
//! shows to another, several sessions at once, and every single write.

use crate::support::*;
use sessiond::proto::{
    self, Changes, DeliveryOptions, EndReason, NamedValue, SessionUpdate, SnapshotReason,
    StreamUserPropsRequest, session_update::Body, stream_user_props_request::Message as Up,
};
use std::{collections::BTreeMap, time::Duration};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

/// How long a client looks for what may come.
const GLANCE: Duration = Duration::from_millis(20);

/// subscribeToUser with all defaults.
pub async fn subscribe_to_user(
    service: &Service,
    listener: &str,
    source: &str,
) -> (String, Watcher) {
    subscribe_to_user_with(service, listening(source, listener)).await
}

/// The id of the private session, and what the listener knows of it, with the snapshot applied.
pub async fn subscribe_to_user_with(
    service: &Service,
    request: proto::SubscribeToUserRequest,
) -> (String, Watcher) {
    let mut watcher = service.open_listener(request, Rebuilt::default()).await;
    assert_eq!(watcher.next_snapshot().await, SnapshotReason::First);
    // A watcher of a user keeps the id of the session where others have that of the subscriber.
    let session_id = watcher.user_id.clone();
    assert!(!session_id.is_empty(), "the first message names the session");
    (session_id, watcher)
}

/// All sessions of one user, as a client with several of them on one stream knows them: by id, or by
/// the handle that the client gave.
#[derive(Default)]
pub struct Sessions {
    /// The sessions that go on.
    pub known: BTreeMap<String, Rebuilt>,
    /// Why others ended.
    pub ended: BTreeMap<String, EndReason>,
    /// The sessions of the last message, in its order.
    pub last: Vec<String>,
}

impl Sessions {
    fn apply(&mut self, updates: Vec<proto::SessionDelivery>) {
        self.last.clear();
        for proto::SessionDelivery { update, handle, session_id } in updates {
            let name = if handle == 0 { session_id } else { handle.to_string() };
            assert!(!name.is_empty(), "each update says which session it is of");
            let rebuilt = self.known.entry(name.clone()).or_default();
            if let Some(Step::Ended(end)) = rebuilt.apply(update.expect("it has an update")) {
                self.known.remove(&name);
                self.ended.insert(name.clone(), end.reason());
            }
            self.last.push(name);
        }
    }

    /// A session.
    #[track_caller]
    pub fn of(&self, name: &str) -> &Rebuilt {
        let known = self.known.get(name);
        known.unwrap_or_else(|| panic!("{name} is there: {:?}", self.known.keys()))
    }
}

/// receiveSessionUpdates.
pub struct Inbox {
    down: Streaming<proto::ReceiveSessionUpdatesResponse>,
    /// What came.
    pub sessions: Sessions,
}

impl Inbox {
    /// Opens it; nothing is read yet.
    pub async fn open(service: &Service, user: &str) -> Self {
        let request =
            proto::ReceiveSessionUpdatesRequest { user_id: user.to_owned(), ..Default::default() };
        let answer = in_time(service.delivery().receive_session_updates(request)).await;
        let down = answer.expect("streams are refused in their trailers").into_inner();
        Self { down, sessions: Sessions::default() }
    }

    /// Reads one message.
    pub async fn next(&mut self) {
        let message = in_time(self.down.message()).await.expect("the stream goes on");
        let message = message.expect("the stream goes on");
        assert_eq!(message.go_away, None);
        self.sessions.apply(message.updates);
    }

    /// Reads until something is seen.
    pub async fn until(&mut self, seen: impl Fn(&Sessions) -> bool) {
        while !seen(&self.sessions) {
            self.next().await;
        }
    }

    /// Whether another message is there or about to come.
    pub async fn hears_something(&mut self) -> bool {
        timeout(GLANCE, self.down.message()).await.is_ok()
    }
}

/// A stream of one user's props up and the updates of several sessions down.
pub struct Duplex {
    up: mpsc::UnboundedSender<StreamUserPropsRequest>,
    down: Streaming<proto::StreamUserPropsResponse>,
    seq: u64,
    /// What came down.
    pub sessions: Sessions,
    /// What was dealt with.
    pub acked_seq: u64,
    /// What was refused.
    pub refusals: Vec<proto::Refusal>,
}

impl Duplex {
    /// Opens it with one subscription per session, numbered from 1.
    pub async fn open(service: &Service, user: &str, sessions: &[&str]) -> Self {
        let (up, outbox) = mpsc::unbounded_channel();
        let answer = service.delivery();
        let mut client = answer;
        let answer = in_time(client.stream_user_props(UnboundedReceiverStream::new(outbox))).await;
        let down = answer.expect("streams are refused in their trailers").into_inner();
        let mut duplex = Self {
            up,
            down,
            seq: 0,
            sessions: Sessions::default(),
            acked_seq: 0,
            refusals: Vec::new(),
        };
        let subscription = |(number, session): (usize, &&str)| proto::SessionSubscription {
            handle: number as u32 + 1,
            session_id: session.to_string(),
            ..Default::default()
        };
        let subscriptions = sessions.iter().enumerate().map(subscription).collect();
        let user_id = user.to_owned();
        duplex.send(Up::Open(proto::StreamOpen { user_id, subscriptions, ..Default::default() }));
        while duplex.sessions.known.len() < sessions.len() {
            duplex.next().await;
        }
        duplex
    }

    /// Sends a message up; returns its number.
    pub fn send(&mut self, message: Up) -> u64 {
        self.seq += 1;
        let request = StreamUserPropsRequest { seq: self.seq, message: Some(message) };
        self.up.send(request).expect("the stream goes on");
        self.seq
    }

    fn apply(&mut self, message: proto::StreamUserPropsResponse) {
        self.sessions.apply(message.updates);
        self.acked_seq = self.acked_seq.max(message.acked_seq);
        self.refusals.extend(message.refusals);
    }

    async fn next(&mut self) {
        let message = in_time(self.down.message()).await.expect("the stream goes on");
        self.apply(message.expect("the stream goes on"));
    }

    /// Ticks until a message that was sent has been dealt with.
    pub async fn until_acked(&mut self, service: &Service, seq: u64) {
        in_time(async {
            while self.acked_seq < seq {
                service.tick();
                while let Ok(message) = timeout(GLANCE, self.down.message()).await {
                    let message = message.expect("the stream goes on");
                    self.apply(message.expect("the stream goes on"));
                }
            }
        })
        .await;
    }
}

/// A subscription to every single write: what SessionStreaming calls onupdate.
pub struct EveryWrite {
    down: Streaming<proto::SubscribeToSessionResponse>,
    /// Where it began.
    pub snapshot: Rebuilt,
}

impl EveryWrite {
    /// Subscribes; returns with the first snapshot applied.
    pub async fn open(service: &Service, session: &str, user: &str) -> Self {
        let options =
            DeliveryOptions { delivery: proto::Delivery::All.into(), ..Default::default() };
        let request = proto::SubscribeToSessionRequest {
            options: Some(options),
            ..subscription(session, user)
        };
        let answer = in_time(service.delivery().subscribe_to_session(request)).await;
        let mut down = answer.expect("streams are refused in their trailers").into_inner();
        let first = in_time(down.message()).await.expect("the stream goes on");
        let first = first.and_then(|message| message.update).expect("a snapshot comes first");
        Self { down, snapshot: Rebuilt::from_snapshot(first) }
    }

    /// The writes and events of the next message, in order, each with its revision.
    pub async fn next(&mut self) -> Vec<(u64, Changes)> {
        let mut updates = Vec::new();
        loop {
            let message = in_time(self.down.message()).await.expect("the stream goes on");
            let update = message.and_then(|message| message.update).expect("the stream goes on");
            let SessionUpdate { more, body, .. } = update;
            let Some(Body::Log(log)) = body else { panic!("a log comes, not {body:?}") };
            let said = log.updates.into_iter();
            updates.extend(said.map(|it| (it.revision, it.change.expect("it has a change"))));
            if !more {
                return updates;
            }
        }
    }

    /// The same as `user.key=value`, for the props in it.
    pub async fn next_writes(&mut self) -> Vec<String> {
        self.next().await.iter().flat_map(|(_, change)| writes_in(change)).collect()
    }
}

/// The props that changed, as `user.key=value`.
pub fn writes_in(change: &Changes) -> Vec<String> {
    let of_member = |member: &proto::MemberChange| -> Vec<String> {
        let write = |named: &NamedValue| {
            let (key, value) = show_named(named);
            format!("{}.{key}={value}", member.user_id)
        };
        member.props.iter().map(write).collect()
    };
    change.members.iter().flat_map(of_member).collect()
}

/// Opens a private session, or is refused; no user = the app does it.
pub async fn try_open_private(
    service: &Service,
    request: proto::OpenPrivateSessionRequest,
) -> Result<proto::OpenPrivateSessionResponse, Status> {
    let answer = in_time(service.sessions().open_private_session(request)).await;
    answer.map(tonic::Response::into_inner)
}

/// What opens the private session source -> listener; its id is generated.
pub fn private_opening(
    user: &str,
    source: &str,
    listener: &str,
) -> proto::OpenPrivateSessionRequest {
    proto::OpenPrivateSessionRequest {
        session_id: String::new(),
        ..private(user, source, listener)
    }
}

/// Opens a private session; returns its description.
pub async fn open_private(
    service: &Service,
    request: proto::OpenPrivateSessionRequest,
) -> proto::SessionInfo {
    let opened = try_open_private(service, request).await.expect("it opens");
    opened.session.expect("it is told")
}
