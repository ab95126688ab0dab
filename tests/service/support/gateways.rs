//! Streams of whole backends, as tests read and write them. Every view is a [`Rebuilt`].

use super::{GLANCE, Rebuilt, Refused, Service, Step, in_time, node_of, streams::Ending};
use prost::Message;
use sessiond::proto::{
    self, GatewayRequest, GatewayResponse, delivery_service_client::DeliveryServiceClient,
};
use std::collections::{BTreeMap, BTreeSet};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Status, Streaming, transport::Channel};

/// What goes up.
type Up = UnboundedReceiverStream<GatewayRequest>;

/// A backend's stream.
#[derive(Debug)]
pub struct Backend {
    /// Dropped first: a client that is gone does not close its side before.
    down: Option<Streaming<GatewayResponse>>,
    up: Option<mpsc::UnboundedSender<GatewayRequest>>,
    seq: u64,
    /// What the first message said.
    pub welcome: proto::Welcome,
    /// The views, by handle.
    pub views: BTreeMap<u32, Rebuilt>,
    /// How views ended.
    pub lost: BTreeMap<u32, proto::Ended>,
    /// The users that are attached, by handle.
    pub attached: BTreeMap<u32, proto::Attached>,
    /// How users ended.
    pub ended: BTreeMap<u32, proto::HandleEnded>,
    /// What was refused.
    pub refusals: Vec<proto::Refusal>,
    /// What was acknowledged.
    pub acked_seq: u64,
    /// That the stream is about to end.
    pub go_away: Option<proto::GoAway>,
    /// How many messages came.
    pub messages: usize,
    /// Views that were unsubscribed: what was on its way is passed over.
    pub dropped: BTreeSet<u32>,
    /// The steps of the last message, with the handles of their views.
    pub steps: Vec<(u32, Step)>,
}

/// A user to attach that joins a session.
pub fn attach(handle: u32, user: &str, session: &str) -> proto::Attach {
    proto::Attach {
        handle,
        user_id: user.to_owned(),
        session_id: session.to_owned(),
        join: Some(proto::JoinOptions::default()),
        open_if_missing: None,
    }
}

/// A view to subscribe to.
pub fn view(handle: u32, session: &str) -> proto::ViewSubscription {
    let session_id = session.to_owned();
    proto::ViewSubscription { handle, session_id, ..Default::default() }
}

/// A write by name.
pub fn write_of(handle: u32, write: proto::PropsWrite) -> proto::HandleWrite {
    proto::HandleWrite { handle, write: Some(write) }
}

impl Backend {
    /// Sends a message under the next number, which it returns.
    pub fn send(&mut self, request: GatewayRequest) -> u64 {
        self.seq += 1;
        let up = self.up.as_ref().expect("the sending side is open");
        let _ = up.send(GatewayRequest { seq: self.seq, ..request });
        self.seq
    }

    /// The number of the last message.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Sends a message under a number of its own.
    pub fn send_as(&mut self, seq: u64, request: GatewayRequest) {
        self.seq = seq - 1;
        self.send(request);
    }

    /// Attaches users; returns the number of the message.
    pub fn attach(&mut self, attach: Vec<proto::Attach>) -> u64 {
        self.send(GatewayRequest { attach, ..Default::default() })
    }

    /// Detaches a user; returns the number of the message.
    pub fn detach(&mut self, handle: u32, leave: bool) -> u64 {
        let detach = vec![proto::Detach { handle, leave, keep_role: false }];
        self.attached.remove(&handle);
        self.send(GatewayRequest { detach, ..Default::default() })
    }

    /// Subscribes to views; returns the number of the message.
    pub fn subscribe(&mut self, subscribe: Vec<proto::ViewSubscription>) -> u64 {
        self.send(GatewayRequest { subscribe, ..Default::default() })
    }

    /// Writes by name; returns the number of the message.
    pub fn write(&mut self, handle: u32, write: proto::PropsWrite) -> u64 {
        let writes = vec![write_of(handle, write)];
        self.send(GatewayRequest { writes, ..Default::default() })
    }

    /// Closes the sending side.
    pub fn close(&mut self) {
        self.up = None;
    }

    /// The client is gone. A server that reads what comes frame by frame may see it close its side
    /// before.
    pub fn cut(&mut self) {
        (self.down, self.up) = (None, None);
    }

    /// A view as the client knows it.
    #[track_caller]
    pub fn copy(&self, handle: u32) -> &Rebuilt {
        self.views.get(&handle).unwrap_or_else(|| panic!("view {handle} is there"))
    }

    fn apply(&mut self, message: GatewayResponse) {
        assert!(message.encoded_len() <= 1024 * 1024, "no message is larger than 1 MiB");
        let GatewayResponse { updates, acked_seq, refusals, ended, attached, welcome, go_away } =
            message;
        self.messages += 1;
        assert_eq!(welcome.is_some(), self.messages == 1, "the first message welcomes");
        if let Some(welcome) = welcome {
            self.welcome = welcome;
        }
        self.steps.clear();
        for delivery in updates {
            let handle = delivery.handle;
            assert!(handle > 0 && delivery.session_id.is_empty(), "{delivery:?}");
            if self.dropped.contains(&handle) {
                continue;
            }
            let copy = self.views.entry(handle).or_default();
            let step = copy.apply(delivery.update.expect("a delivery has an update"));
            if let Some(Step::Ended(ended)) = &step {
                self.views.remove(&handle);
                self.lost.insert(handle, ended.clone());
            }
            self.steps.extend(step.map(|step| (handle, step)));
        }
        // A handle that ended comes before it is in use again.
        for ended in ended {
            // Who ended while there was no stream is told too.
            let was_attached = self.attached.remove(&ended.handle).is_some();
            assert!(was_attached || self.welcome.resumed, "it is attached: {ended:?}");
            self.ended.insert(ended.handle, ended);
        }
        for attached in attached {
            let before = self.attached.insert(attached.handle, attached);
            assert_eq!(before, None, "its handle is free");
        }
        if acked_seq > 0 {
            assert!(self.acked_seq < acked_seq && acked_seq <= self.seq, "acks rise");
            self.acked_seq = acked_seq;
        }
        self.refusals.extend(refusals);
        self.go_away = go_away.or(self.go_away.take());
    }

    /// The next message, or how the stream ended.
    pub async fn next_message(&mut self) -> Result<(), Status> {
        let message = in_time(self.down.as_mut().expect("it is open").message()).await?;
        self.apply(message.ok_or_else(|| Status::ok("the stream is over"))?);
        Ok(())
    }

    /// The next message.
    pub async fn next(&mut self) {
        self.next_message().await.expect("the stream goes on");
    }

    /// A message that is there or about to come; whether there was one.
    pub async fn glance(&mut self) -> bool {
        let down = self.down.as_mut().expect("it is open");
        let Ok(message) = timeout(GLANCE, down.message()).await else { return false };
        self.apply(message.expect("the stream goes on").expect("the stream goes on"));
        true
    }

    /// Ticks, and reads what comes, until the client has seen something.
    pub async fn tick_until(&mut self, service: &Service, seen: impl Fn(&Self) -> bool) {
        in_time(async {
            while !seen(self) {
                service.tick();
                while !seen(self) && self.glance().await {}
            }
        })
        .await;
    }

    /// Ticks until a message that was sent has been dealt with.
    pub async fn until_acked(&mut self, service: &Service, seq: u64) {
        self.tick_until(service, |it| it.acked_seq >= seq).await;
    }

    /// Sends a message, and ticks until it has been dealt with and nothing of it was refused.
    pub async fn accepted(&mut self, service: &Service, request: GatewayRequest) {
        let seq = self.send(request);
        self.until_acked(service, seq).await;
        assert!(self.refusals.is_empty(), "{:?}", self.refusals);
    }

    /// The refusals of a message, once it has been dealt with.
    pub async fn refusals_of(&mut self, service: &Service, seq: u64) -> Vec<proto::Refusal> {
        self.until_acked(service, seq).await;
        self.refusals.extract_if(.., |refusal| refusal.seq == seq).collect()
    }

    /// Reads on to the end.
    pub async fn end(&mut self) -> Ending {
        let status = loop {
            if let Err(status) = self.next_message().await {
                break status;
            }
        };
        Ending { ended: None, go_away: self.go_away.take(), status }
    }

    /// How the stream is refused.
    pub async fn refused(&mut self) -> Refused {
        let ending = self.end().await;
        assert_ne!(ending.status.code(), Code::Ok);
        Refused::new(&ending.status)
    }
}

impl Service {
    /// Waits until the server has noticed that a backend is gone.
    pub async fn until_gateway_is_lost(&self) {
        in_time(async {
            while self.engine().gateways().1 == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Opens a backend's stream; the first message is read.
    pub async fn gateway(&self, id: &str) -> Backend {
        let mut backend = self.gateway_with(hello(id)).await;
        backend.next().await;
        backend
    }

    /// The same on a connection of its own.
    pub async fn gateway_apart(&self, id: &str) -> Backend {
        let (channel, first) = (self.connect().await, hello(id));
        let mut backend = gateway_on(channel, first, |request| request).await;
        backend.next().await;
        backend
    }

    /// Opens a backend's stream with any first message; nothing is read yet.
    pub async fn gateway_with(&self, first: GatewayRequest) -> Backend {
        self.gateway_as(first, |request| request).await
    }

    /// The same with metadata.
    pub async fn gateway_as(
        &self,
        first: GatewayRequest,
        change: impl FnOnce(Request<Up>) -> Request<Up>,
    ) -> Backend {
        gateway_on(self.channel(), first, change).await
    }
}

/// The first message of a backend.
fn hello(id: &str) -> GatewayRequest {
    let hello = proto::GatewayHello { gateway_id: id.to_owned(), ..Default::default() };
    GatewayRequest { hello: Some(hello), ..Default::default() }
}

async fn gateway_on(
    channel: Channel,
    first: GatewayRequest,
    change: impl FnOnce(Request<Up>) -> Request<Up>,
) -> Backend {
    let (up, outbox) = mpsc::unbounded_channel();
    let request = change(Request::new(UnboundedReceiverStream::new(outbox)));
    let answer = in_time(DeliveryServiceClient::new(channel).gateway(request)).await;
    let mut backend = Backend {
        down: Some(node_of(answer.expect("refused in its trailers"))),
        up: Some(up),
        seq: 0,
        welcome: proto::Welcome::default(),
        views: BTreeMap::new(),
        lost: BTreeMap::new(),
        attached: BTreeMap::new(),
        ended: BTreeMap::new(),
        refusals: Vec::new(),
        acked_seq: 0,
        go_away: None,
        messages: 0,
        dropped: BTreeSet::new(),
        steps: Vec::new(),
    };
    backend.send(first);
    backend
}
