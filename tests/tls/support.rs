//! Servers with TLS, and clients of them.

use super::authority::{Authority, Folder, Pair};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use sessiond::{
    config::Config,
    engine::{Clock, HashCost},
    proto::{
        GetSessionInfoRequest, OpenSharedSessionRequest,
        session_service_client::SessionServiceClient,
    },
    server::{Server, StartError},
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Request, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What must come in time; the test fails if it does not.
pub async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it comes in time")
}

/// A server with TLS, its authority and its files.
pub struct Service {
    pub authority: Authority,
    pub folder: Folder,
    pub server: Server,
}

impl Service {
    /// A server with a certificate for this machine.
    pub async fn start() -> Self {
        Self::start_with(|_, _, _| {}).await
    }

    /// The same with other settings.
    pub async fn start_with(change: impl FnOnce(&mut Config, &Authority, &Folder)) -> Self {
        let (authority, folder) = (Authority::new(), Folder::new());
        folder.write_pair(&authority.server());
        let mut config = config(&folder);
        change(&mut config, &authority, &folder);
        let server = start(config).await.expect("it starts");
        Self { authority, folder, server }
    }

    /// A server that asks clients for certificates of its own authority.
    pub async fn asking(
        is_required: bool,
        change: impl FnOnce(&mut Config, &Authority, &Folder),
    ) -> Self {
        Self::start_with(|config, authority, folder| {
            config.tls_client_ca = Some(folder.write("ca.pem", &authority.pem()));
            config.tls_require_client = is_required;
            change(config, authority, folder);
        })
        .await
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// A client that trusts the authority, with a certificate or without.
    pub async fn client(&self, shows: Option<&Pair>) -> Result<Client, tonic::transport::Error> {
        let channel = self.endpoint(shows).connect().await?;
        Ok(SessionServiceClient::new(channel))
    }

    pub fn endpoint(&self, shows: Option<&Pair>) -> Endpoint {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.pem()))
            .domain_name("localhost");
        if let Some(Pair { certificate, key }) = shows {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address()));
        endpoint.expect("an address").tls_config(tls).expect("its TLS")
    }

    /// A handshake by hand.
    pub async fn shake_hands(&self, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.address()).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, socket).await
    }

    /// How clients by hand do it: in these versions, naming these protocols.
    pub fn client_config(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
        shows: Option<&Pair>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority.pem().as_bytes());
        roots.add(authority.expect("PEM")).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("known versions")
            .with_root_certificates(roots);
        let mut config = match shows {
            None => config.with_no_client_auth(),
            Some(Pair { certificate, key }) => {
                let chain =
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                config.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        config
    }
}

/// A client of the service.
pub type Client = SessionServiceClient<Channel>;

/// The settings of a server with the pair in the folder.
pub fn config(folder: &Folder) -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
        threads: 2,
        tls_certificate: Some(folder.path("server.pem")),
        tls_key: Some(folder.path("server.key")),
        ..Config::default()
    }
}

pub async fn start(config: Config) -> Result<Server, StartError> {
    Server::start_with(config, Clock::machine(), HashCost::LEAST).await
}

fn as_app<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("sessiond-as", "app".parse().expect("ASCII"));
    request
}

/// Opens a room as the app.
pub async fn open_room(client: &mut Client, app: &str, id: &str) -> Result<(), Status> {
    let (app, session_id) = (app.to_owned(), id.to_owned());
    let opening = OpenSharedSessionRequest { app, session_id, ..Default::default() };
    in_time(client.open_shared_session(as_app(opening))).await.map(drop)
}

/// How many members a room has, as the app sees it.
pub async fn members(client: &mut Client, app: &str, id: &str) -> Result<usize, Status> {
    let (app, session_id) = (app.to_owned(), id.to_owned());
    let request = GetSessionInfoRequest { app, session_id, ..Default::default() };
    let answer = in_time(client.get_session_info(as_app(request))).await?;
    Ok(answer.into_inner().members.len())
}

/// All that comes until the other side closes, and how that ends.
pub async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> (Vec<u8>, io::Result<()>) {
    let mut rest = Vec::new();
    let end = in_time(stream.read_to_end(&mut rest)).await;
    (rest, end.map(drop))
}
