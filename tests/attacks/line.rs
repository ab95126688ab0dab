//! What attackers and honest users are connected by: a socket, with TLS if the environment says
//! `SESSIOND_ATTACK_TLS=1`. Then every attack runs inside of TLS.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    env, fs,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

/// The name in the server's certificate.
const NAME: &str = "localhost";

/// The certificates of this run, if it is one with TLS.
static SECRETS: LazyLock<Option<Secrets>> = LazyLock::new(|| {
    let is_asked = env::var("SESSIOND_ATTACK_TLS").is_ok_and(|text| text == "1");
    is_asked.then(Secrets::new)
});

struct Secrets {
    authority: String,
    certificate: PathBuf,
    key: PathBuf,
    client: Arc<ClientConfig>,
}

impl Secrets {
    fn new() -> Self {
        let mut of_authority = CertificateParams::new(Vec::new()).expect("no names");
        of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().expect("a key");
        let authority = of_authority.self_signed(&authority_key).expect("it is signed").pem();
        let key = KeyPair::generate().expect("a key");
        let issuer = Issuer::from_params(&of_authority, &authority_key);
        let of_server = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
        let certificate = of_server.signed_by(&key, &issuer).expect("it is signed").pem();

        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let write = |name: &str, text: &str| {
            let path = folder.join(format!("attacks-{}-{name}", std::process::id()));
            fs::write(&path, text).expect("it is written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
            path
        };
        let mut roots = RootCertStore::empty();
        let der = CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM");
        roots.add(der).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider);
        let client = client.with_safe_default_protocol_versions().expect("versions");
        let mut client = client.with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            certificate: write("server.pem", &certificate),
            key: write("server.key", &key.serialize_pem()),
            authority,
            client: Arc::new(client),
        }
    }
}

/// The settings of a server that is attacked on this kind of line.
pub fn settings() -> Vec<String> {
    let Some(secrets) = &*SECRETS else { return Vec::new() };
    vec![
        format!("--tls-certificate={}", secrets.certificate.display()),
        format!("--tls-key={}", secrets.key.display()),
    ]
}

/// How a server is called that is attacked on this kind of line.
pub fn endpoint(address: SocketAddr) -> Endpoint {
    let Some(secrets) = &*SECRETS else {
        return Endpoint::from_shared(format!("http://{address}")).expect("an address");
    };
    let authority = Certificate::from_pem(&secrets.authority);
    let tls = ClientTlsConfig::new().ca_certificate(authority).domain_name(NAME);
    let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("an address");
    endpoint.tls_config(tls).expect("its TLS")
}

/// What a client that waits is connected by.
pub trait Way: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Way for T {}

/// Connects a client that waits.
pub async fn connect(address: SocketAddr) -> io::Result<Box<dyn Way>> {
    let socket = tokio::net::TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let Some(secrets) = &*SECRETS else { return Ok(Box::new(socket)) };
    let connector = tokio_rustls::TlsConnector::from(secrets.client.clone());
    let name = ServerName::try_from(NAME).expect("a name");
    Ok(Box::new(connector.connect(name, socket).await?))
}

/// What a client is connected by that does one thing at a time.
#[derive(Debug)]
pub struct Line {
    socket: TcpStream,
    /// The handshake begins with the first byte that is read or written.
    tls: Option<Box<ClientConnection>>,
}

impl Line {
    pub fn new(socket: TcpStream) -> Self {
        let tls = SECRETS.as_ref().map(|secrets| {
            let name = ServerName::try_from(NAME).expect("a name");
            Box::new(ClientConnection::new(secrets.client.clone(), name).expect("a client"))
        });
        Self { socket, tls }
    }

    /// The longest that one write waits for room.
    pub fn set_write_timeout(&self, limit: Duration) {
        let _ = self.socket.set_write_timeout(Some(limit));
        if self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            // Until it is over, to write is to read as well.
            let _ = self.socket.set_read_timeout(Some(limit));
        }
    }

    /// The longest that one read waits.
    pub fn set_read_timeout(&self, limit: Duration) {
        let _ = self.socket.set_read_timeout(Some(limit));
    }

    /// Throws away all that comes, on a thread of its own.
    pub fn discard(&mut self) {
        while let Some(tls) = self.tls.as_mut().filter(|tls| tls.is_handshaking()) {
            if tls.complete_io(&mut self.socket).is_err() {
                return;
            }
        }
        let mut socket = self.socket.try_clone().expect("a second handle");
        let _ = socket.set_read_timeout(None);
        std::thread::spawn(move || {
            let mut buffer = [0; 1 << 16];
            while socket.read(&mut buffer).is_ok_and(|read| read > 0) {}
        });
    }

    pub fn shutdown(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.read(buffer),
            Some(tls) if tls.is_handshaking() => {
                rustls::Stream::new(&mut **tls, &mut self.socket).read(buffer)
            }
            // What came before the server closed is read although nothing can be written any more.
            Some(tls) => loop {
                match tls.reader().read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    outcome => return outcome,
                }
                let ended = tls.read_tls(&mut self.socket)? == 0;
                tls.process_new_packets().map_err(io::Error::other)?;
                if ended {
                    return tls.reader().read(buffer);
                }
            },
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.write(bytes),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.socket).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
