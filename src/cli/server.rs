//! A server that a tool calls: where it is, how it is called, and with which credential.

use super::Result;
use crate::{
    dial::{TlsArgs, Trust},
    grpc::caller::AS_METADATA,
    identity::file::{self, Privacy},
};
use std::{path::PathBuf, time::Duration};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Which server, and who calls.
#[derive(Debug, clap::Args)]
pub struct ServerArgs {
    /// Where the server listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7000")]
    pub address: String,
    /// A file with the API key or token to show; the server asks for one that holds in all apps with
    /// the scope app
    #[arg(long, value_name = "FILE")]
    pub credential: Option<PathBuf>,
    /// How the server is called, where the URL begins with https://.
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// A connection, and what each call of the app itself carries.
#[derive(Debug)]
pub struct Server {
    pub channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
}

impl ServerArgs {
    /// Connects.
    pub async fn connect(&self) -> Result<Server> {
        let authorization = self.credential.as_ref().map(|path| {
            let text = file::read_text(path, Privacy::Secret)?;
            let value = format!("Bearer {}", text.trim()).parse::<MetadataValue<Ascii>>();
            let mut value = value.map_err(|_| format!("{} is no credential", path.display()))?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        let authorization = authorization.transpose()?;
        let channel = connect(&self.address, &self.tls, Some(ANSWER)).await?;
        Ok(Server { channel, authorization })
    }
}

impl Server {
    /// A request of the app itself.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(AS_METADATA, MetadataValue::from_static("app"));
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }
}

/// Connects to the server at a URL, of which each answer may take so long.
pub async fn connect(url: &str, tls: &TlsArgs, answer: Option<Duration>) -> Result<Channel> {
    let refused = |error: &dyn std::error::Error| {
        let why = std::iter::successors(error.source(), |error| error.source()).last();
        let why = why.map_or_else(|| error.to_string(), ToString::to_string);
        format!("no server answers at {url}: {why}")
    };
    let mut endpoint = match url.split_once("://") {
        Some(("http", _)) if tls.is_given() => {
            return Err(format!("{url} is without TLS: with TLS it begins with https://"));
        }
        Some(("http", _)) => {
            Endpoint::from_shared(url.to_owned()).map_err(|error| refused(&error))?
        }
        Some(("https", _)) => tls.endpoint(url, &Trust::Authorities)?,
        _ => {
            return Err(format!(
                "{url} is no address of a server: it begins with http:// or https://"
            ));
        }
    };
    if let Some(answer) = answer {
        endpoint = endpoint.timeout(answer);
    }
    endpoint.connect_timeout(CONNECT).connect().await.map_err(|error| refused(&error))
}

/// Why a server did not do what it was asked, in one line.
pub fn told(status: &Status) -> String {
    format!("the server refused it: {:?}: {}", status.code(), status.message())
}
