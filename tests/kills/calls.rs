//! The calls that the load and the checker make.

use crate::{
    server::endpoint,
    slot::Fact,
    values::{int, props, write},
};
use prost_types::FieldMask;
use sessiond::proto::{
    self, Ack, Position, Role, delivery_service_client::DeliveryServiceClient,
    session_service_client::SessionServiceClient,
};
use std::net::SocketAddr;
use tonic::{Request, Response, Status, Streaming, service::interceptor::InterceptedService};

type Channel = tonic::transport::Channel;
pub type AsApp = InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>;

/// The server, seen from a client.
#[derive(Debug, Clone)]
pub struct Calls {
    /// The app whose sessions they are.
    pub of: String,
    /// As users.
    pub users: SessionServiceClient<Channel>,
    /// As the app.
    pub app: SessionServiceClient<AsApp>,
    /// The streams of users.
    pub streams: DeliveryServiceClient<Channel>,
    /// The streams of the app.
    pub app_streams: DeliveryServiceClient<AsApp>,
}

impl Calls {
    /// On a connection of its own.
    pub async fn connect(address: SocketAddr) -> Result<Self, tonic::transport::Error> {
        Ok(Self::over(endpoint(address).connect().await?, String::new()))
    }

    /// On this connection, to sessions of this app.
    pub fn over(channel: Channel, of: String) -> Self {
        let by_app = as_app as fn(Request<()>) -> Result<Request<()>, Status>;
        Self {
            of,
            users: SessionServiceClient::new(channel.clone()),
            app: SessionServiceClient::with_interceptor(channel.clone(), by_app),
            streams: DeliveryServiceClient::new(channel.clone()),
            app_streams: DeliveryServiceClient::with_interceptor(channel, by_app),
        }
    }

    /// A session as the app sees it.
    pub async fn info(
        &mut self,
        id: &str,
        min_position: Option<Position>,
    ) -> Result<proto::GetSessionInfoResponse, Status> {
        let session_id = id.to_owned();
        let request = proto::GetSessionInfoRequest {
            app: self.of.clone(),
            session_id,
            min_position,
            ..Default::default()
        };
        self.app.get_session_info(request).await.map(Response::into_inner)
    }

    /// Sets session data on condition that what `plain` holds has not changed since a revision.
    pub async fn compare(&mut self, id: &str, revision: u64) -> Result<Position, Status> {
        let request = proto::SetSessionDataRequest {
            app: self.of.clone(),
            session_id: id.to_owned(),
            set: props([("compared", int(revision as i64))]),
            if_revision: [("plain".to_owned(), revision)].into(),
            ..Default::default()
        };
        let reply = self.app.set_session_data(request).await?.into_inner();
        Ok(reply.position.unwrap_or_default())
    }

    /// Makes a frame, and waits for it.
    pub async fn frame(&mut self, id: &str) -> Result<Position, Status> {
        let request = proto::SetSessionDataRequest {
            app: self.of.clone(),
            session_id: id.to_owned(),
            set: props([("framed", int(fastrand::i64(..)))]),
            ..Default::default()
        };
        let reply = self.app.set_session_data(request).await?.into_inner();
        self.info(id, reply.position).await.map(|info| info.position.unwrap_or_default())
    }

    /// What a user changed after a position.
    pub async fn changed(&mut self, id: &str, user: String, since: Position) -> Result<(), Status> {
        let request = proto::GetUpdatedUserDataRequest {
            app: self.of.clone(),
            session_id: id.to_owned(),
            target_user_id: user,
            since: Some(since),
            ..Default::default()
        };
        self.app.get_updated_user_data(request).await.map(drop)
    }

    /// The updates of a session, as the app sees it.
    pub async fn subscribe(
        &mut self,
        id: &str,
        resume: Option<proto::Resume>,
    ) -> Result<Streaming<proto::SubscribeToSessionResponse>, Status> {
        let session_id = id.to_owned();
        let request = proto::SubscribeToSessionRequest {
            app: self.of.clone(),
            session_id,
            resume,
            ..Default::default()
        };
        self.app_streams.subscribe_to_session(request).await.map(Response::into_inner)
    }

    /// Ends a session.
    pub async fn delete(&mut self, id: &str, request_id: String) -> Result<(), Status> {
        let session_id = id.to_owned();
        let request = proto::DeleteSessionRequest {
            app: self.of.clone(),
            session_id,
            request_id,
            ..Default::default()
        };
        self.app.delete_session(request).await.map(drop)
    }

    /// Makes the write of a fact that has this number. It is the same request each time.
    pub async fn put(
        &mut self,
        id: &str,
        users: &Users,
        fact: Fact,
        number: u64,
    ) -> Result<Option<Position>, Status> {
        let session_id = id.to_owned();
        let request_id = format!("{fact:?}-{number}");
        let is_odd = number % 2 == 1;
        let value = int(number as i64);
        let position = match fact {
            Fact::Settings => {
                let metadata = props([("n", value)]);
                let request = proto::UpdateSessionRequest {
                    app: self.of.clone(),
                    session_id,
                    settings: Some(proto::SessionSettings { metadata, ..Default::default() }),
                    update_mask: Some(FieldMask { paths: vec!["metadata".to_owned()] }),
                    request_id,
                    ..Default::default()
                };
                self.app.update_session(request).await?.into_inner().position
            }
            Fact::Ban if is_odd => {
                let request = proto::BanUserRequest {
                    app: self.of.clone(),
                    session_id,
                    target_user_id: users.banned(),
                    reason: number.to_string(),
                    request_id,
                    ..Default::default()
                };
                self.app.ban_user(request).await?.into_inner().position
            }
            Fact::Ban => {
                let target_user_id = users.banned();
                let request = proto::UnbanUserRequest {
                    app: self.of.clone(),
                    session_id,
                    target_user_id,
                    request_id,
                    ..Default::default()
                };
                self.app.unban_user(request).await?.into_inner().position
            }
            Fact::Role => {
                let request = proto::SetRoleRequest {
                    app: self.of.clone(),
                    session_id,
                    target_user_id: users.promoted(),
                    role: if is_odd { Role::Moderator } else { Role::Member }.into(),
                    request_id,
                    ..Default::default()
                };
                self.app.set_role(request).await?.into_inner().position
            }
            Fact::Guest if is_odd => {
                let request = proto::JoinSessionRequest {
                    app: self.of.clone(),
                    session_id,
                    user_id: users.guest(),
                    omit_snapshot: true,
                    request_id,
                    ..Default::default()
                };
                self.users.join_session(request).await?.into_inner().position
            }
            Fact::Guest => {
                let request = proto::KickUserRequest {
                    app: self.of.clone(),
                    session_id,
                    target_user_id: users.guest(),
                    request_id,
                    ..Default::default()
                };
                self.app.kick_user(request).await?.into_inner().position
            }
            Fact::Data | Fact::StoredData => {
                let is_stored = fact == Fact::StoredData;
                let (key, ack) =
                    if is_stored { ("stored", Ack::Durable) } else { ("plain", Ack::Accepted) };
                let request = proto::SetSessionDataRequest {
                    app: self.of.clone(),
                    session_id,
                    set: props([(key, value)]),
                    ack: ack.into(),
                    request_id: if is_stored { request_id } else { String::new() },
                    ..Default::default()
                };
                self.app.set_session_data(request).await?.into_inner().position
            }
            Fact::StoredProps | Fact::OnUser => {
                let key = if fact == Fact::OnUser { "own" } else { "stored" };
                let mut write = write([(key, value)]);
                (write.ack, write.request_id) = (Ack::Durable.into(), request_id);
                if fact == Fact::StoredProps {
                    write.session_ids = vec![session_id];
                }
                let user_id = users.writer();
                let write = Some(write);
                let request = proto::SetUserPropsRequest {
                    app: self.of.clone(),
                    user_id,
                    write,
                    ..Default::default()
                };
                let reply = self.users.set_user_props(request).await?.into_inner();
                reply.results.first().and_then(|result| result.position)
            }
            Fact::Streamed | Fact::StoredStreamed => unreachable!("they go up a stream"),
        };
        Ok(position)
    }
}

/// Says that it is the app itself that calls.
pub fn as_app(mut request: Request<()>) -> Result<Request<()>, Status> {
    request.metadata_mut().insert("sessiond-as", "app".parse().expect("ASCII"));
    Ok(request)
}

/// The users of a session, each with a part of its own.
#[derive(Debug, Clone)]
pub struct Users(pub usize);

impl Users {
    /// Writes; of a private session it is the source.
    pub fn writer(&self) -> String {
        format!("writer-{}", self.0)
    }

    /// Is made a moderator, and a member again; of a private session it is the listener.
    pub fn promoted(&self) -> String {
        format!("promoted-{}", self.0)
    }

    /// Is banned, and not any more.
    pub fn banned(&self) -> String {
        format!("banned-{}", self.0)
    }

    /// Joins, and is kicked.
    pub fn guest(&self) -> String {
        format!("guest-{}", self.0)
    }
}
