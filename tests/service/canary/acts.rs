//! People, who listen, look and try.

use super::ear::Ear;
use crate::support::*;
use sessiond::proto::{
    self, Delivery, DeliveryOptions, Encoding, JoinOptions, PropsWrite, Role, SessionSettings,
    delivery_service_client::DeliveryServiceClient, event_service_client::EventServiceClient,
    object_stream_service_client::ObjectStreamServiceClient,
    session_service_client::SessionServiceClient, stream_user_props_request::Message as Up,
};
use std::{collections::BTreeMap, future::Future, sync::Mutex};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Response, Status, Streaming, transport::Channel};

/// Calls, whatever becomes of it.
macro_rules! tries {
    ($client:expr => $call:ident $request:ident { $($field:ident $(: $value:expr)?),* }) => {
        let request = proto::$request { $($field $(: $value)?,)* ..Default::default() };
        let _ = in_time($client.$call(sent(request))).await;
    };
}

/// How sessions are received.
fn ways() -> [DeliveryOptions; 3] {
    let columns = DeliveryOptions { encoding: Encoding::Columns.into(), ..Default::default() };
    let all = DeliveryOptions { delivery: Delivery::All.into(), ..Default::default() };
    [DeliveryOptions::default(), columns, all]
}

/// Whose data is asked for.
const TARGETS: [&str; 6] = ["owner", "admin", "member", "host", "source", ""];

/// Somebody with a connection of their own, whose every byte is heard.
pub struct Person {
    /// Who it is, as calls name it.
    pub name: &'static str,
    /// Whether it may change what others see: it then does so only where a test says so.
    pub is_powerful: bool,
    /// What it was sent.
    pub ear: Ear,
    listening: Mutex<Vec<JoinHandle<()>>>,
    /// The sending sides of streams, which stay open.
    sending: Mutex<Vec<mpsc::UnboundedSender<proto::StreamUserPropsRequest>>>,
    backends: Mutex<Vec<mpsc::UnboundedSender<proto::GatewayRequest>>>,
}

impl Person {
    /// Somebody on a connection.
    pub fn new(name: &'static str, channel: Channel) -> Self {
        let is_powerful =
            ["owner", "admin", "moderator", "host", "source", "keeper", ""].contains(&name);
        let (listening, sending, backends) = Default::default();
        Self { name, is_powerful, ear: Ear::new(channel), listening, sending, backends }
    }

    fn user(&self) -> String {
        self.name.to_owned()
    }

    /// The unary calls.
    pub fn sessions(&self) -> SessionServiceClient<Ear> {
        SessionServiceClient::new(self.ear.clone())
    }

    /// The calls of object streams.
    pub fn streams(&self) -> ObjectStreamServiceClient<Ear> {
        ObjectStreamServiceClient::new(self.ear.clone())
    }

    fn delivery(&self) -> DeliveryServiceClient<Ear> {
        DeliveryServiceClient::new(self.ear.clone())
    }

    /// Hears a stream to its end.
    async fn hears<T: Send + 'static>(
        &self,
        stream: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    ) {
        let Ok(answer) = in_time(stream).await else { return };
        let mut down = answer.into_inner();
        let listening =
            tokio::spawn(async move { while let Ok(Some(_)) = down.message().await {} });
        self.listening.lock().expect("nothing panics under it").push(listening);
    }

    /// Waits until all that it listens to has ended.
    pub async fn has_heard_all(&mut self) {
        for listening in self.listening.get_mut().expect("nothing panics under it") {
            in_time(listening).await.expect("it does not panic");
        }
    }

    fn subscription_to(
        &self,
        session: &str,
        options: DeliveryOptions,
    ) -> proto::SubscribeToSessionRequest {
        proto::SubscribeToSessionRequest {
            options: Some(options),
            ..subscription(session, self.name)
        }
    }

    /// Opens every kind of stream about these sessions, to listen until they end.
    pub async fn listens(&self, sessions: &[&str]) {
        for session in sessions {
            for options in ways() {
                let request = self.subscription_to(session, options);
                self.hears(self.delivery().subscribe_to_session(sent(request))).await;
            }
        }
        self.gateway(sessions).await;
        self.streams_props(sessions, None).await;
        let user_id = self.user();
        let all = proto::ReceiveSessionUpdatesRequest { user_id, ..Default::default() };
        self.hears(self.delivery().receive_session_updates(sent(all))).await;
        for filter in ["", "metadata.theme != '' || member_count > 4", "owner_id == 'source'"] {
            let (user_id, filter) = (self.user(), filter.to_owned());
            let all = proto::WatchSessionsRequest { user_id, filter, ..Default::default() };
            self.hears(self.delivery().watch_sessions(sent(all))).await;
        }
        if self.name.is_empty() {
            let start = proto::EventStart::Earliest.into();
            let all = proto::WatchEventsRequest { start, ..Default::default() };
            let mut events = EventServiceClient::new(self.ear.clone());
            self.hears(events.watch_events(all)).await;
        }
        let user_id = self.user();
        let streams = proto::SubscribeToStreamsRequest { user_id, ..Default::default() };
        self.hears(self.streams().subscribe_to_streams(sent(streams))).await;
        if ["listener", "outsider"].contains(&self.name) {
            let source = proto::SubscribeToUserRequest {
                user_id: self.user(),
                source_id: "source".to_owned(),
                ..Default::default()
            };
            self.hears(self.delivery().subscribe_to_user(sent(source))).await;
        }
    }

    /// A gateway that attaches the person in these sessions, and asks for every view of them.
    async fn gateway(&self, sessions: &[&str]) {
        let hello = proto::GatewayHello {
            gateway_id: format!("gateway of {}", self.name),
            ..Default::default()
        };
        let hello = proto::GatewayRequest { seq: 1, hello: Some(hello), ..Default::default() };
        let numbered = |(number, session): (usize, &&str)| proto::Attach {
            handle: number as u32 + 1,
            user_id: self.user(),
            session_id: session.to_string(),
            ..Default::default()
        };
        let attach = sessions.iter().enumerate().map(numbered).collect();
        let mut subscribe = Vec::new();
        for session in sessions {
            for options in ways() {
                for which in [proto::View::Members, proto::View::Host] {
                    subscribe.push(proto::ViewSubscription {
                        view: which.into(),
                        options: Some(options.clone()),
                        ..view(subscribe.len() as u32 + 1, session)
                    });
                }
            }
        }
        let all = proto::GatewayRequest { seq: 2, attach, subscribe, ..Default::default() };
        let (up, outbox) = mpsc::unbounded_channel();
        [hello, all].into_iter().for_each(|message| _ = up.send(message));
        let request = tonic::Request::new(UnboundedReceiverStream::new(outbox));
        let request = if self.name.is_empty() { as_app(request) } else { request };
        self.hears(self.delivery().gateway(request)).await;
        self.backends.lock().expect("nothing panics under it").push(up);
    }

    /// A stream of props about these sessions, with a write up.
    async fn streams_props(&self, sessions: &[&str], write: Option<PropsWrite>) {
        let numbered = |(number, session): (usize, &&str)| proto::SessionSubscription {
            handle: number as u32 + 1,
            session_id: session.to_string(),
            ..Default::default()
        };
        let open = proto::StreamOpen {
            user_id: self.user(),
            subscriptions: sessions.iter().enumerate().map(numbered).collect(),
            ..Default::default()
        };
        let (up, outbox) = mpsc::unbounded_channel();
        let messages = [Some(Up::Open(open)), write.map(Up::Write)].into_iter().flatten();
        for (message, seq) in messages.zip(1..) {
            let message = Some(message);
            let _ = up.send(proto::StreamUserPropsRequest { seq, message });
        }
        let outbox = UnboundedReceiverStream::new(outbox);
        self.hears(self.delivery().stream_user_props(outbox)).await;
        self.sending.lock().expect("nothing panics under it").push(up);
    }

    /// Asks for a session, and for the first message of a subscription to it.
    pub async fn looks_at(&self, session: &str) {
        tries! { self.sessions() => get_session_info GetSessionInfoRequest {
            session_id: session.to_owned(), user_id: self.user()
        } }
        let request = subscription(session, self.name);
        if let Ok(answer) = in_time(self.delivery().subscribe_to_session(sent(request))).await {
            let _ = in_time(answer.into_inner().message()).await;
        }
    }

    /// Asks for sessions and object streams without being told their ids; who guesses names them.
    pub async fn tries_names(&self, session_name: &str, stream: &str, guesses: bool) {
        let user = || self.user();
        for member_id in ["", "owner", "source", "listener", "banned"] {
            let member_id = member_id.to_owned();
            tries! { self.sessions() => list_sessions ListSessionsRequest {
                user_id: user(), member_id
            } }
        }
        for (filter, order) in [("metadata.theme != ''", 2), ("!has(metadata.theme)", 3)] {
            let filter = filter.to_owned();
            tries! { self.sessions() => list_sessions ListSessionsRequest {
                user_id: user(), filter, order
            } }
        }
        tries! { self.streams() => get_all_stream_updates GetAllStreamUpdatesRequest {
            user_id: user()
        } }
        let cursor = "0".to_owned();
        tries! { self.streams() => get_all_stream_updates GetAllStreamUpdatesRequest {
            user_id: user(), cursor
        } }
        if !guesses {
            return;
        }
        tries! { self.sessions() => get_session_info GetSessionInfoRequest {
            name: session_name.to_owned(), user_id: user()
        } }
        tries! { self.sessions() => list_sessions ListSessionsRequest {
            name: session_name.to_owned(), user_id: user()
        } }
        let settings = SessionSettings { name: session_name.to_owned(), ..Default::default() };
        let _ =
            in_time(self.sessions().open_shared_session(sent(opening("", self.name, settings))))
                .await;
        tries! { self.sessions() => join_session JoinSessionRequest {
            name: session_name.to_owned(), user_id: user()
        } }
        self.tries_stream(stream).await;
    }

    /// Every call about an object stream that is somebody else's.
    async fn tries_stream(&self, stream: &str) {
        let (user, name) = (|| self.user(), || stream.to_owned());
        let mut streams = self.streams();
        tries! { streams => set_stream SetStreamRequest { user_id: user(), name: name() } }
        tries! { streams => remove_stream RemoveStreamRequest { user_id: user(), name: name() } }
        tries! { streams => update_stream_data UpdateStreamDataRequest {
            user_id: user(), name: name(), set: props([("x", int(1))])
        } }
        tries! { streams => set_stream_func SetStreamFuncRequest { user_id: user(), name: name() } }
        tries! { streams => get_stream_update GetStreamUpdateRequest {
            user_id: user(), name: name()
        } }
        let request = proto::SubscribeToStreamsRequest {
            user_id: user(),
            names: vec![name()],
            ..Default::default()
        };
        self.hears(streams.subscribe_to_streams(sent(request))).await;
    }
}

/// Everything that there is to call about one session, so that it only reads or is refused. What is
/// sent has the word `tried` in it.
pub async fn everything(person: &Person, session: &str, tried: &str) {
    reads(person, session).await;
    writes_that_are_refused(person, session, tried).await;
    openings_that_are_refused(person, session, tried).await;
    if !person.is_powerful {
        powers(person, session, tried).await;
    }
    if ["outsider", "guesser", "banned"].contains(&person.name) {
        entrances(person, session, tried).await;
    }
}

/// Everything that reads, also what is pending.
pub async fn reads(person: &Person, session: &str) {
    let (user, session_id) = (|| person.user(), || session.to_owned());
    let mut sessions = person.sessions();
    person.looks_at(session).await;
    let request = proto::GetSessionInfoRequest {
        session_id: session_id(),
        user_id: user(),
        ..Default::default()
    };
    let info = in_time(sessions.get_session_info(sent(request))).await.map(Response::into_inner);
    let last = info.ok().and_then(|info| info.position).unwrap_or_default();
    for target in TARGETS {
        let of = |since| proto::GetUpdatedUserDataRequest {
            session_id: session_id(),
            user_id: user(),
            target_user_id: target.to_owned(),
            since,
            ..Default::default()
        };
        let first = proto::Position { revision: 1, ..last };
        for request in [of(None), of(Some(last)), of(Some(first))] {
            let _ = in_time(sessions.get_updated_user_data(sent(request))).await;
        }
        tries! { sessions => transmit_session_updates TransmitSessionUpdatesRequest {
            session_id: session_id(), user_id: user(), target_user_id:
            target.to_owned(), resend: true
        } }
    }
    tries! { sessions => get_first_match GetFirstMatchRequest {
        session_id: session_id(), user_id: user()
    } }
    person
        .hears(person.delivery().subscribe_to_session(sent(subscription(session, person.name))))
        .await;
    // A cursor that no message had: of whatever happened since the server began.
    let request = proto::WatchSessionsRequest {
        user_id: user(),
        cursor: "AQAAAAAAAAABAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        ..Default::default()
    };
    person.hears(person.delivery().watch_sessions(sent(request))).await;
}

async fn writes_that_are_refused(person: &Person, session: &str, tried: &str) {
    let mut sessions = person.sessions();
    let set = || BTreeMap::from([(tried.to_owned(), text(tried)), ("shown".to_owned(), no_kind())]);
    let invalid = || PropsWrite { set: set(), ..Default::default() }.in_session(session);
    let durable = || PropsWrite {
        ack: proto::Ack::Durable.into(),
        ..write([("shown", text(tried))]).in_session(session)
    };
    for write in [invalid(), durable()] {
        tries! { sessions => set_user_props SetUserPropsRequest {
            user_id: person.user(), write: Some(write.clone())
        } }
        person.streams_props(&[session], Some(write)).await;
    }
    let value = || BTreeMap::from([("round".to_owned(), text(tried))]);
    let durable = proto::SetSessionDataRequest {
        set: value(),
        private_set: value(),
        ack: proto::Ack::Durable.into(),
        ..data_of(session, person.name)
    };
    let _ = in_time(sessions.set_session_data(sent(durable))).await;
    let invalid = proto::SetSessionDataRequest {
        set: set(),
        private_set: set(),
        ..data_of(session, person.name)
    };
    let _ = in_time(sessions.set_session_data(sent(invalid))).await;
    let harmless = proto::UpdateSessionRequest {
        session_id: session.to_owned(),
        user_id: person.user(),
        settings: Some(SessionSettings { metadata: value(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["tick_interval".to_owned()] }),
        ..Default::default()
    };
    let _ = in_time(sessions.update_session(sent(harmless))).await;
}

async fn openings_that_are_refused(person: &Person, session: &str, tried: &str) {
    let mut sessions = person.sessions();
    let value = || BTreeMap::from([("round".to_owned(), text(tried))]);
    let taken = proto::OpenSharedSessionRequest {
        data: value(),
        private_data: value(),
        ..opening(session, person.name, SessionSettings::default())
    };
    let _ = in_time(sessions.open_shared_session(sent(taken))).await;
    let private =
        |source: &str, listener: &str, session_id: &str| proto::OpenPrivateSessionRequest {
            user_id: person.user(),
            source_id: source.to_owned(),
            listener_id: listener.to_owned(),
            session_id: session_id.to_owned(),
            props: value(),
            data: value(),
            roles: [("outsider".to_owned(), Role::Admin.into())].into(),
            ..Default::default()
        };
    for request in [private("source", "listener", ""), private("banned", "outsider", session)] {
        let _ = in_time(sessions.open_private_session(sent(request))).await;
    }
}

/// What is for others to do.
async fn powers(person: &Person, session: &str, tried: &str) {
    let (user, session_id) = (|| person.user(), || session.to_owned());
    let (target, reason) = (|| "member".to_owned(), || tried.to_owned());
    let mut sessions = person.sessions();
    let private_set = BTreeMap::from([("seed".to_owned(), text(tried))]);
    let request = proto::SetSessionDataRequest { private_set, ..data_of(session, person.name) };
    let _ = in_time(sessions.set_session_data(sent(request))).await;
    let metadata = BTreeMap::from([("theme".to_owned(), text(tried))]);
    let request = proto::UpdateSessionRequest {
        session_id: session_id(),
        user_id: user(),
        settings: Some(SessionSettings { metadata, ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["metadata".to_owned()] }),
        ..Default::default()
    };
    let _ = in_time(sessions.update_session(sent(request))).await;
    let request = proto::ResetSessionRequest {
        session_id: session_id(),
        user_id: user(),
        schema: Some(proto::Schema {
            data_example: BTreeMap::from([("round".to_owned(), text(tried))]),
            ..Default::default()
        }),
        ..Default::default()
    };
    let _ = in_time(sessions.reset_session(sent(request))).await;
    tries! { sessions => delete_session DeleteSessionRequest {
        session_id: session_id(), user_id: user()
    } }
    tries! { sessions => swap_host SwapHostRequest {
        session_id: session_id(), user_id: user(), target_user_id: target()
    } }
    tries! { sessions => set_role SetRoleRequest {
        session_id: session_id(), user_id: user(), target_user_id: user(), role:
        Role::Owner.into()
    } }
    for targets in [vec![user()], vec![target(), "outsider".to_owned()], vec!["banned".to_owned()]]
    {
        tries! { sessions => reserve_seats ReserveSeatsRequest {
            session_id: session_id(), user_id: user(), target_user_ids: targets.clone()
        } }
        tries! { sessions => release_seats ReleaseSeatsRequest {
            session_id: session_id(), user_id: user(), target_user_ids: targets
        } }
    }
    tries! { sessions => kick_user KickUserRequest {
        session_id: session_id(), user_id: user(), target_user_id: "admin".to_owned(),
        reason: reason()
    } }
    let request =
        proto::BanUserRequest { reason: reason(), ..ban_of(session, person.name, "outsider") };
    let _ = in_time(sessions.ban_user(sent(request))).await;
    tries! { sessions => unban_user UnbanUserRequest {
        session_id: session_id(), user_id: user(), target_user_id: "banned".to_owned()
    } }
}

/// How those who are outside try to get in, and to act as if they were in.
async fn entrances(person: &Person, session: &str, tried: &str) {
    let (user, session_id) = (|| person.user(), || session.to_owned());
    let mut sessions = person.sessions();
    let password = || JoinOptions {
        password: tried.to_owned(),
        props: BTreeMap::from([("shown".to_owned(), text(tried))]),
        ..Default::default()
    };
    tries! { sessions => join_session JoinSessionRequest {
        session_id: session_id(), user_id: user(), join: Some(password())
    } }
    tries! { sessions => join_session JoinSessionRequest { newest: true, user_id: user() } }
    let request = proto::OpenSharedSessionRequest {
        get_if_exists: true,
        join: Some(password()),
        ..opening(session, person.name, SessionSettings::default())
    };
    let _ = in_time(sessions.open_shared_session(sent(request))).await;
    let request = proto::SubscribeToSessionRequest {
        join: Some(password()),
        ..subscription(session, person.name)
    };
    person.hears(person.delivery().subscribe_to_session(sent(request))).await;
    tries! { sessions => leave_session LeaveSessionRequest {
        session_id: session_id(), user_id: user()
    } }
    let set = BTreeMap::from([("shown".to_owned(), text(tried))]);
    let request = proto::SetUserPropsRequest {
        user_id: user(),
        write: Some(PropsWrite { set: set.clone(), ..Default::default() }.in_session(session)),
        ..Default::default()
    };
    let _ = in_time(sessions.set_user_props(sent(request))).await;
    let request = proto::SetSessionDataRequest { set, ..data_of(session, person.name) };
    let _ = in_time(sessions.set_session_data(sent(request))).await;
}
