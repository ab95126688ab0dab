//! Where a server is, and how it is reached: with TLS or without.

use super::{Result, credentials::Credentials, folder::Folder};
use crate::dial::{TlsArgs, Trust};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The certificate and the key of servers that are measured with TLS. Everybody has the key: nobody
/// else may use it for anything.
const CERTIFICATE: &str = include_str!("tls/server.pem");
const KEY: &str = include_str!("tls/server.key");

/// Where a server is.
#[derive(Debug, Clone)]
pub struct Place {
    pub address: SocketAddr,
    /// Others that are the same service: a client that connects goes to each in turn.
    pub others: Arc<[SocketAddr]>,
    /// How many connections there were.
    pub turn: Arc<AtomicUsize>,
    /// None = it is reached without TLS.
    pub tls: Option<Secure>,
    /// What callers show there; none = nobody asks for credentials.
    pub credentials: Option<Arc<Credentials>>,
}

/// How a server with TLS is reached.
#[derive(Debug, Clone)]
pub struct Secure {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self { address, others: Arc::default(), turn: Arc::default(), tls: None, credentials: None }
    }
}

impl Place {
    /// Of a service at several addresses, at least one.
    pub fn of_several(addresses: Vec<SocketAddr>) -> Self {
        Self { others: addresses[1..].into(), ..addresses[0].into() }
    }

    /// Where the next connection goes.
    pub fn next_address(&self) -> SocketAddr {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % (self.others.len() + 1);
        turn.checked_sub(1).map_or(self.address, |other| self.others[other])
    }

    /// Of somebody else's server; `host` is what its address was given as.
    pub fn of(address: SocketAddr, host: &str, tls: &TlsArgs) -> Result<Self> {
        if !tls.is_given() {
            return Ok(address.into());
        }
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = tls.server_name.clone().unwrap_or_else(|| host.to_owned());
        let name = ServerName::try_from(name)?;
        let config = tls.client_config(&Trust::Authorities)?;
        let tls = Some(Secure { config: Arc::new(config), name });
        Ok(Self { tls, ..address.into() })
    }
}

/// The files of a server that is measured with TLS; they go with this.
#[derive(Debug)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
    _folder: Folder,
}

impl Pair {
    /// Writes them.
    pub fn write() -> Result<Self> {
        let folder = Folder::new()?;
        let certificate = folder.write("server.pem", CERTIFICATE.as_bytes())?;
        let key = folder.write("server.key", KEY.as_bytes())?;
        Ok(Self { certificate, key, _folder: folder })
    }

    /// How a server with them is reached.
    pub fn place(&self, address: SocketAddr) -> Result<Place> {
        let config = TlsArgs::default().client_config(&Trust::Holder(self.certificate.clone()))?;
        let name = ServerName::try_from("localhost")?;
        let tls = Some(Secure { config: Arc::new(config), name });
        Ok(Place { tls, ..address.into() })
    }
}
