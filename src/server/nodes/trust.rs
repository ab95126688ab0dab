//! Which nodes belong together: they have certificates of an authority of their own, or they know a
//! secret, or both.

use super::{Door, peers::NodeAddress};
use crate::{
    config::Config,
    identity::file::{self, Privacy},
    server::{
        tls::{self, Tls},
        watched::Watched,
    },
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::{HeaderMap, HeaderValue};
use rustls::ClientConfig;
use std::{fmt, io, path::Path, sync::Arc};

/// The metadata that the secret of the nodes travels in.
pub const SECRET_METADATA: &str = "sessiond-node-secret";

/// How long a secret is, in bytes: one that is shorter could be guessed.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 32..=256;

/// How many secrets hold at a time. Two are needed where one takes the other's place.
const MOST_SECRETS: usize = 8;

/// What the nodes of a cluster know each other by.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    tls: Option<Both>,
    secrets: Option<Arc<Watched<Secrets>>>,
}

/// TLS as it is served, and as others are called.
#[derive(Debug, Clone)]
struct Both {
    server: Arc<Tls>,
    client: Arc<Watched<ClientConfig>>,
}

impl Trust {
    /// Reads the files that the settings name; all that is wrong with them.
    pub fn open(config: &Config) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let Config { node_listen, node_certificate, node_key, node_ca, node_secret, .. } = config;
        let files =
            [("node-certificate", node_certificate), ("node-key", node_key), ("node-ca", node_ca)];
        let given = files.iter().find(|(_, file)| file.is_some());
        for (name, _) in files.iter().filter(|(_, file)| file.is_none()) {
            faults.extend(given.map(|(given, _)| format!("{given} is given without {name}")));
        }
        let given = given.map(|(name, _)| *name).or(node_secret.as_ref().map(|_| "node-secret"));
        if let (None, Some(given)) = (node_listen, given) {
            faults.push(format!("{given} is given without node-listen"));
        }
        let files = match (node_certificate, node_key, node_ca) {
            (Some(certificate), Some(key), Some(ca)) => Some(tls::Files {
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: Some(ca.clone()),
                is_client_certificate_required: true,
            }),
            _ => None,
        };
        let mut note = |of: Vec<String>| faults.extend(of);
        let tls = files.map(|files| {
            let server = tls::open("TLS of nodes", files.clone())?;
            let host = config.node_address.as_deref().and_then(|it| it.parse::<NodeAddress>().ok());
            let host = host.map(|address| address.host().to_owned());
            let client = tls::open_client("TLS of nodes, as a client", files, host)?;
            Ok(Both { server, client })
        });
        let tls = tls.transpose().map_err(&mut note).ok();
        let secrets = node_secret.clone().map(|path| {
            Watched::open("the secret of the nodes", vec![path.clone()], move || {
                Secrets::read(&path).map(|secrets| (secrets, None))
            })
        });
        let secrets = secrets.transpose().map_err(&mut note).ok();
        match (tls, secrets) {
            (Some(tls), Some(secrets)) if faults.is_empty() => Ok(Self { tls, secrets }),
            _ => Err(faults),
        }
    }

    /// Whether anybody who reaches the port is taken for a node.
    pub fn is_blind(&self) -> bool {
        self.tls.is_none() && self.secrets.is_none()
    }

    /// Whether what nodes tell each other can be read by anybody who sees it.
    pub fn is_clear(&self) -> bool {
        self.tls.is_none()
    }

    /// How the port is served, with TLS.
    pub fn server(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref().map(|both| &both.server)
    }

    /// How other nodes are called, with TLS.
    pub fn client(&self) -> Option<Arc<ClientConfig>> {
        self.tls.as_ref().map(|both| both.client.current())
    }

    /// The secret that is shown to other nodes.
    pub fn secret(&self) -> Option<HeaderValue> {
        self.secrets.as_ref().map(|secrets| secrets.current().shown())
    }

    /// Whether a call shows a secret of the nodes, or needs none.
    pub fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(secrets) = &self.secrets else { return true };
        let mut values = headers.get_all(SECRET_METADATA).iter();
        match (values.next(), values.next()) {
            (Some(only), None) => secrets.current().has(only.as_bytes()),
            _ => false,
        }
    }

    /// The door for a new connection.
    pub fn door(&self) -> Arc<Door> {
        Arc::new(Door::new(self.clone(), self.secrets.is_none()))
    }

    /// Starts the threads that read files again that change.
    pub fn watch(&self) -> io::Result<()> {
        if let Some(Both { server, client }) = &self.tls {
            server.watch()?;
            client.watch()?;
        }
        self.secrets.iter().try_for_each(Watched::watch)
    }
}

/// The secrets of the nodes: the first is shown, all are taken.
pub struct Secrets(Vec<HeaderValue>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secrets").field(&self.0.len()).finish()
    }
}

impl Secrets {
    /// Reads them, one a line; what is wrong never has a secret in it.
    fn read(path: &Path) -> Result<Self, Vec<String>> {
        let text = file::read_text(path, Privacy::Secret).map_err(|fault| vec![fault])?;
        let (file, mut faults, mut secrets) = (path.display(), Vec::new(), Vec::new());
        let (least, most) = (SECRET_BYTES.start(), SECRET_BYTES.end());
        for (at, line) in text.lines().map(str::trim).enumerate() {
            let number = at + 1;
            if line.is_empty() {
                continue;
            }
            if !SECRET_BYTES.contains(&line.len()) {
                faults.push(format!("{file}, line {number}: a secret has {least} to {most} bytes"));
            } else if !line.bytes().all(|byte| byte.is_ascii_graphic()) {
                faults.push(format!("{file}, line {number}: a secret is of printable ASCII"));
            } else {
                secrets.extend(HeaderValue::from_str(line).ok());
            }
        }
        if secrets.is_empty() && faults.is_empty() {
            faults.push(format!("{file} has no secret"));
        }
        if secrets.len() > MOST_SECRETS {
            faults.push(format!("{file} has more than {MOST_SECRETS} secrets"));
        }
        if faults.is_empty() { Ok(Self(secrets)) } else { Err(faults) }
    }

    fn shown(&self) -> HeaderValue {
        self.0[0].clone()
    }

    /// Whether it is one of them. How long that takes says nothing but how long they are.
    fn has(&self, shown: &[u8]) -> bool {
        let is = |secret: &HeaderValue| verify_slices_are_equal(secret.as_bytes(), shown).is_ok();
        self.0.iter().fold(false, |found, secret| is(secret) | found)
    }
}
