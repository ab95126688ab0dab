//! Where a server is, and how it is reached: with TLS or without.

use super::Result;
use crate::dial::{TlsArgs, Trust};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The certificate and the key of servers that are measured with TLS. Everybody has the key: nobody
/// else may use it for anything.
const CERTIFICATE: &str = include_str!("tls/server.pem");
const KEY: &str = include_str!("tls/server.key");

/// Where a server is.
#[derive(Debug, Clone)]
pub struct Place {
    pub address: SocketAddr,
    /// None = it is reached without TLS.
    pub tls: Option<Secure>,
}

/// How a server with TLS is reached.
#[derive(Debug, Clone)]
pub struct Secure {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }
}

impl Place {
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
        Ok(Self { address, tls: Some(Secure { config: Arc::new(config), name }) })
    }
}

/// The files of a server that is measured with TLS; they go with this.
#[derive(Debug)]
pub struct Pair {
    folder: PathBuf,
}

impl Pair {
    /// Writes them.
    pub fn write() -> Result<Self> {
        let name = format!("sessiond-bench-{}-{:x}", std::process::id(), fastrand::u64(..));
        let pair = Self { folder: std::env::temp_dir().join(name) };
        fs::create_dir(&pair.folder)?;
        for (path, text) in [(pair.certificate(), CERTIFICATE), (pair.key(), KEY)] {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(text.as_bytes())?;
        }
        Ok(pair)
    }

    pub fn certificate(&self) -> PathBuf {
        self.folder.join("server.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.folder.join("server.key")
    }

    /// How a server with them is reached.
    pub fn place(&self, address: SocketAddr) -> Result<Place> {
        let config = TlsArgs::default().client_config(&Trust::Holder(self.certificate()))?;
        let name = ServerName::try_from("localhost")?;
        Ok(Place { address, tls: Some(Secure { config: Arc::new(config), name }) })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let folder: &Path = &self.folder;
        let _ = fs::remove_dir_all(folder);
    }
}
