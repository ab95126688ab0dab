//! The node before another one, and its clients.

use super::authority::{Authority, Pair};
use bytes::Bytes;
use h2::{SendStream, client::ResponseFuture};
use http::{HeaderName, HeaderValue, Method, Request};
use rcgen::ExtendedKeyUsagePurpose;
use sessiond::{
    config::Config,
    engine::{Clock, HashCost},
    proto::{
        GetSessionInfoRequest, OpenSharedSessionRequest, SubscribeToSessionRequest,
        SubscribeToSessionResponse, delivery_service_client::DeliveryServiceClient,
        session_service_client::SessionServiceClient,
    },
    server::{Among, Before, Owner, Server, StartError},
};
use std::{net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

pub const LOOPBACK: SocketAddr =
    SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0));

/// What must come in time; the test fails if it does not.
pub async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it comes in time")
}

/// The settings of a node.
pub fn config(name: &str) -> Config {
    Config { listen: LOOPBACK.into(), node: name.to_owned(), threads: 1, ..Config::default() }
}

/// The settings of a node to which others send on.
pub fn owner_config(name: &str) -> Config {
    Config { node_listen: Some(LOOPBACK.into()), ..config(name) }
}

/// A node before that at an address, if there is one.
pub async fn start(config: Config, owner: Option<SocketAddr>) -> Result<Server, StartError> {
    start_by(config, owner.map(Owner::There), Duration::ZERO).await.map(|(server, _)| server)
}

/// The same where calls look for the node that has the apps for so long, and that may change.
pub async fn start_by(
    config: Config,
    owner: Option<Owner>,
    patience: Duration,
) -> Result<(Server, watch::Sender<Owner>), StartError> {
    let (tell, told) = watch::channel(owner.unwrap_or(Owner::Here));
    let before = owner.map(|_| Before { owner: told, patience });
    let among = Among { before, nodes: None };
    let server = Server::start_among(config, Clock::machine(), HashCost::LEAST, among).await?;
    Ok((server, tell))
}

/// The certificate of a node with these names, which calls others and is called.
pub fn certificate(authority: &Authority, names: &[&str]) -> Pair {
    authority.issue(|params| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let names = rcgen::CertificateParams::new(names).expect("names");
        params.subject_alt_names = names.subject_alt_names;
        let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.extended_key_usages = both.into();
    })
}

/// The node of the clients.
pub struct Front {
    pub server: Server,
    pub channel: Channel,
}

impl Front {
    /// One before a node that any other may send on to.
    pub async fn before(owner: SocketAddr) -> Self {
        Self::with(config("the-front"), owner).await
    }

    pub async fn with(config: Config, owner: SocketAddr) -> Self {
        Self::patient(config, owner, Duration::ZERO).await
    }

    /// One whose calls look for the other node for so long.
    pub async fn patient(config: Config, owner: SocketAddr, patience: Duration) -> Self {
        Self::moving(config, Owner::There(owner), patience).await.0
    }

    /// The same where the owner may change.
    pub async fn moving(
        config: Config,
        owner: Owner,
        patience: Duration,
    ) -> (Self, watch::Sender<Owner>) {
        let (server, tell) = start_by(config, Some(owner), patience).await.expect("it starts");
        let channel = connect(server.address()).await;
        (Self { server, channel }, tell)
    }

    pub fn sessions(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel.clone())
    }

    pub fn delivery(&self) -> DeliveryServiceClient<Channel> {
        DeliveryServiceClient::new(self.channel.clone())
    }

    /// Opens a room of ada.
    pub async fn open(&self, session: &str) -> Result<(), Status> {
        let request = OpenSharedSessionRequest {
            session_id: session.to_owned(),
            user_id: "ada".to_owned(),
            join: Some(Default::default()),
            ..Default::default()
        };
        in_time(self.sessions().open_shared_session(request)).await.map(|_| ())
    }

    /// Asks for a session.
    pub async fn look(&self, session: &str) -> Result<(), Status> {
        let request = GetSessionInfoRequest {
            session_id: session.to_owned(),
            user_id: "ada".to_owned(),
            ..Default::default()
        };
        in_time(self.sessions().get_session_info(request)).await.map(|_| ())
    }

    /// Subscribes ada to a session.
    pub async fn watch(&self, session: &str) -> Streaming<SubscribeToSessionResponse> {
        let request = SubscribeToSessionRequest {
            session_id: session.to_owned(),
            user_id: "ada".to_owned(),
            ..Default::default()
        };
        let answer = in_time(self.delivery().subscribe_to_session(request)).await;
        answer.expect("streams are refused in their trailers").into_inner()
    }
}

pub async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("it accepts connections")
}

/// The reason of a refusal.
pub fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// After how long a refusal says to come again.
pub fn delay(status: &Status) -> Option<Duration> {
    status.get_error_details().retry_info().and_then(|info| info.retry_delay)
}

/// A client of HTTP/2 that does as it likes.
pub struct Raw(h2::client::SendRequest<Bytes>);

impl Raw {
    /// Connects, and lets each stream be sent so much before it grants more.
    pub async fn connect(address: SocketAddr, window: u32) -> Self {
        let socket = TcpStream::connect(address).await.expect("it accepts connections");
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(1 << 30);
        let (send, connection) = builder.handshake(socket).await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        Self(send)
    }

    /// Begins a call.
    pub async fn call(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("http://node{path}").parse().expect("a path");
        let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
        for (name, value) in grpc.iter().chain(headers) {
            let value = HeaderValue::from_str(value).expect("ASCII");
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
        let mut send = in_time(self.0.clone().ready()).await.expect("it is connected");
        send.send_request(request, false).expect("it is connected")
    }

    /// Makes a call with one message, and returns how it ends.
    pub async fn end_of(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
        message: Bytes,
    ) -> Result<Status, h2::Error> {
        let (response, mut send) = self.call(path, headers).await;
        send.send_data(message, true)?;
        let (head, mut body) = in_time(response).await?.into_parts();
        while let Some(data) = in_time(body.data()).await {
            let _ = body.flow_control().release_capacity(data?.len());
        }
        let trailers = in_time(body.trailers()).await?;
        let status = Status::from_header_map(&trailers.unwrap_or(head.headers));
        Ok(status.expect("a call ends with a status"))
    }
}
