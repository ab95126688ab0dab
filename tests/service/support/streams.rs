//! Streams as tests read and write them. Every message is applied to a [`Rebuilt`].

use super::{GLANCE, Rebuilt, Refused, Service, Step, in_time};
use sessiond::proto::{
    self, Changes, EndReason, SnapshotReason, delivery_service_client::DeliveryServiceClient,
    stream_user_props_request::Message as Up,
};
use std::pin::Pin;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{Stream, StreamExt, wrappers::UnboundedReceiverStream};
use tonic::{Code, Response, Status, Streaming, transport::Channel};

/// How a stream ended.
#[derive(Debug)]
pub struct Ending {
    /// Its last message; none if it had none.
    pub ended: Option<proto::Ended>,
    /// The last message of a stream without session.
    pub go_away: Option<proto::GoAway>,
    /// Its status; OK where it has none.
    pub status: Status,
}

impl Ending {
    /// Ended with OK, for this reason.
    #[track_caller]
    pub fn is_ok(&self, reason: EndReason) {
        assert_eq!(self.reason(), Some(reason));
        assert_eq!(self.status.code(), Code::Ok, "{self:?}");
    }

    /// Cut off in the middle of a message: its client did not read.
    #[track_caller]
    pub fn is_cut(&self, code: Code) {
        assert_eq!((self.reason(), self.status.code()), (None, code), "{self:?}");
    }

    /// Ended with a code whose reason says the same as the last message.
    #[track_caller]
    pub fn is(&self, reason: EndReason, code: Code) -> Refused {
        assert_eq!(self.reason(), Some(reason), "{self:?}");
        let name = reason.as_str_name().trim_start_matches("END_REASON_");
        Refused::new(&self.status).is(code, name)
    }

    fn reason(&self) -> Option<EndReason> {
        let of_session = self.ended.as_ref().map(proto::Ended::reason);
        of_session.or(self.go_away.as_ref().map(proto::GoAway::reason))
    }
}

/// The messages of a stream that only receives. Those of SubscribeToUser are told as if they were of
/// SubscribeToSession: the first one's `user_id` is the id of the private session then.
type Messages =
    Pin<Box<dyn Stream<Item = Result<proto::SubscribeToSessionResponse, Status>> + Send>>;

/// A stream that only receives.
pub struct Watcher {
    down: Messages,
    /// The session as this client knows it.
    pub rebuilt: Rebuilt,
    /// Whose stream it is, as the first message said.
    pub user_id: String,
    /// How many messages came.
    pub messages: usize,
}

impl Watcher {
    pub(super) fn new(
        down: Streaming<proto::SubscribeToSessionResponse>,
        rebuilt: Rebuilt,
    ) -> Self {
        Self { down: Box::pin(down), rebuilt, user_id: String::new(), messages: 0 }
    }

    pub(super) fn of_user(
        down: Streaming<proto::SubscribeToUserResponse>,
        rebuilt: Rebuilt,
    ) -> Self {
        let down = down.map(|message| {
            let proto::SubscribeToUserResponse { update, session_id: user_id } = message?;
            Ok(proto::SubscribeToSessionResponse { update, user_id })
        });
        Self { down: Box::pin(down), rebuilt, user_id: String::new(), messages: 0 }
    }

    /// The next message, or how the stream ended.
    pub(super) async fn next_message(&mut self) -> Result<Option<Step>, Status> {
        let message = in_time(self.down.next()).await;
        let message = message.unwrap_or_else(|| Err(Status::ok("the stream is over")))?;
        Ok(self.apply(message))
    }

    fn apply(&mut self, message: proto::SubscribeToSessionResponse) -> Option<Step> {
        self.messages += 1;
        if self.messages == 1 {
            self.user_id = message.user_id;
        } else {
            assert_eq!(message.user_id, "", "only the first message says it");
        }
        self.rebuilt.apply(message.update.expect("every message has an update"))
    }

    /// The next step, all parts of it.
    pub async fn next(&mut self) -> Step {
        loop {
            if let Some(step) = self.next_message().await.expect("the stream goes on") {
                return step;
            }
        }
    }

    /// A step that is there or about to come; none = nothing came for a short while.
    pub async fn glance(&mut self) -> Option<Step> {
        loop {
            let message = timeout(GLANCE, self.down.next()).await.ok()?;
            let message = message.expect("the stream goes on").expect("the stream goes on");
            if let Some(step) = self.apply(message) {
                return Some(step);
            }
        }
    }

    /// The next step, which is a snapshot; returns why.
    pub async fn next_snapshot(&mut self) -> SnapshotReason {
        match self.next().await {
            Step::Snapshot(reason) => reason,
            other => panic!("a snapshot comes, not {other:?}"),
        }
    }

    /// The next step, which tells what changed.
    pub async fn next_changes(&mut self) -> Changes {
        match self.next().await {
            Step::Changes { changes, .. } => *changes,
            other => panic!("changes come, not {other:?}"),
        }
    }

    /// The next step, which tells every update.
    pub async fn next_log(&mut self) -> Vec<proto::LoggedUpdate> {
        match self.next().await {
            Step::Log { updates, .. } => updates,
            other => panic!("the log comes, not {other:?}"),
        }
    }

    /// From where to where the next step goes, which tells what changed.
    pub async fn next_span(&mut self) -> (u64, u64) {
        match self.next().await {
            Step::Changes { from, to, .. } => (from, to),
            other => panic!("changes come, not {other:?}"),
        }
    }

    /// The next step, which is a heartbeat; returns its revision.
    pub async fn next_heartbeat(&mut self) -> u64 {
        match self.next().await {
            Step::Heartbeat(revision) => revision,
            other => panic!("a heartbeat comes, not {other:?}"),
        }
    }

    /// Reads on to the end.
    pub async fn end(&mut self) -> Ending {
        let mut ended = None;
        let status = loop {
            match self.next_message().await {
                Ok(Some(Step::Ended(it))) => ended = Some(it),
                Ok(_) => {}
                Err(status) => break status,
            }
        };
        Ending { ended, go_away: None, status }
    }
}

/// What came in one message down a stream of props.
#[derive(Debug, Default)]
pub struct Down {
    /// The step that it completed.
    pub step: Option<Step>,
    /// What it acknowledged.
    pub acked_seq: u64,
    /// What it refused.
    pub refusals: Vec<proto::Refusal>,
}

/// A stream of one user's props up and a session's updates down.
#[derive(Debug)]
pub struct PropsStream {
    up: Option<mpsc::UnboundedSender<proto::StreamUserPropsRequest>>,
    down: Streaming<proto::StreamUserPropsResponse>,
    /// The session as this client knows it.
    pub rebuilt: Rebuilt,
    /// Whose stream it is, as the first message said.
    pub user_id: String,
    /// How many messages came.
    pub messages: usize,
    /// What was acknowledged.
    pub acked_seq: u64,
    /// What was refused.
    pub refusals: Vec<proto::Refusal>,
    /// The number of its only session; 0 = none.
    pub handle: u32,
    seq: u64,
    go_away: Option<proto::GoAway>,
}

impl PropsStream {
    pub(super) async fn begin(
        mut client: DeliveryServiceClient<Channel>,
        node_of: fn(
            Response<Streaming<proto::StreamUserPropsResponse>>,
        ) -> Streaming<proto::StreamUserPropsResponse>,
    ) -> Self {
        let (up, outbox) = mpsc::unbounded_channel();
        let answer = in_time(client.stream_user_props(UnboundedReceiverStream::new(outbox))).await;
        Self {
            up: Some(up),
            down: node_of(answer.expect("streams are refused in their trailers")),
            rebuilt: Rebuilt::default(),
            user_id: String::new(),
            messages: 0,
            acked_seq: 0,
            refusals: Vec::new(),
            handle: 0,
            seq: 0,
            go_away: None,
        }
    }

    /// Sends a message under the next number, which it returns.
    pub fn send(&mut self, message: Up) -> u64 {
        self.seq += 1;
        self.send_as(self.seq, Some(message));
        self.seq
    }

    /// Sends a message under any number.
    pub fn send_as(&mut self, seq: u64, message: Option<Up>) {
        let up = self.up.as_ref().expect("the sending side is open");
        self.seq = seq;
        let _ = up.send(proto::StreamUserPropsRequest { seq, message });
    }

    /// Sends a write; returns its number.
    pub fn write(&mut self, write: proto::PropsWrite) -> u64 {
        self.send(Up::Write(write))
    }

    /// Closes the sending side.
    pub fn close(&mut self) {
        self.up = None;
    }

    /// The next message, or how the stream ended.
    pub async fn next_message(&mut self) -> Result<Down, Status> {
        let message = in_time(self.down.message()).await?;
        Ok(self.apply(message.ok_or_else(|| Status::ok("the stream is over"))?))
    }

    fn apply(&mut self, message: proto::StreamUserPropsResponse) -> Down {
        let proto::StreamUserPropsResponse { updates, acked_seq, refusals, go_away, user_id } =
            message;
        self.messages += 1;
        if self.messages == 1 {
            self.user_id = user_id;
        } else {
            assert_eq!(user_id, "", "only the first message says it");
        }
        if acked_seq > 0 {
            assert!(self.acked_seq < acked_seq && acked_seq <= self.seq, "acks rise");
            self.acked_seq = acked_seq;
        }
        for refusal in &refusals {
            assert!(refusal.seq <= self.acked_seq, "what is refused is dealt with: {refusal:?}");
        }
        self.refusals.extend(refusals.iter().cloned());
        let has_end = go_away.is_some();
        self.go_away = go_away.or(self.go_away.take());
        let mut step = None;
        let has_update = !updates.is_empty();
        for delivery in updates {
            assert_eq!((delivery.handle, &*delivery.session_id), (self.handle, ""));
            step = self.rebuilt.apply(delivery.update.expect("a delivery has an update"));
        }
        let says = has_update || acked_seq > 0 || !refusals.is_empty() || has_end;
        assert!(says || self.messages == 1 || self.rebuilt.epoch == 0, "no message is empty");
        Down { step, acked_seq, refusals }
    }

    /// The next message with a step, all parts of it; acks and refusals are noted.
    pub async fn next(&mut self) -> Step {
        loop {
            if let Some(step) = self.next_message().await.expect("the stream goes on").step {
                return step;
            }
        }
    }

    /// The next step, which is a snapshot; returns why.
    pub async fn next_snapshot(&mut self) -> SnapshotReason {
        match self.next().await {
            Step::Snapshot(reason) => reason,
            other => panic!("a snapshot comes, not {other:?}"),
        }
    }

    /// The next step, which tells what changed.
    pub async fn next_changes(&mut self) -> Changes {
        match self.next().await {
            Step::Changes { changes, .. } => *changes,
            other => panic!("changes come, not {other:?}"),
        }
    }

    /// A message that is there or about to come; none = nothing came for a short while.
    pub async fn glance(&mut self) -> Option<Down> {
        let message = timeout(GLANCE, self.down.next()).await.ok()?;
        Some(self.apply(message.expect("the stream goes on").expect("the stream goes on")))
    }

    /// Ticks until a message that was sent has been dealt with; returns the message that says so.
    /// The clock moves by as many ticks as the message takes to reach the server.
    pub async fn until_acked(&mut self, service: &Service, seq: u64) -> Down {
        in_time(async {
            loop {
                service.tick();
                while let Some(down) = self.glance().await {
                    if down.acked_seq >= seq {
                        return down;
                    }
                }
            }
        })
        .await
    }

    /// Reads on to the end.
    pub async fn end(&mut self) -> Ending {
        let mut ended = None;
        let status = loop {
            match self.next_message().await {
                Ok(Down { step: Some(Step::Ended(it)), .. }) => ended = Some(it),
                Ok(_) => {}
                Err(status) => break status,
            }
        };
        Ending { ended, go_away: self.go_away.take(), status }
    }

    /// How the stream is refused.
    pub async fn refused(&mut self) -> Refused {
        loop {
            if let Err(status) = self.next_message().await {
                return Refused::new(&status);
            }
        }
    }
}
