//! The connection to the NATS servers, shared by all in this process that need one.
//!
//! The first one is there within [`PATIENCE`], or it is known why not, in one line. After that it comes
//! back by itself, however long that takes.

use super::denied::{Denied, Said};
use crate::log::LogError;
use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerError, ServerInfo,
};
use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

/// How long the first connection may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long one server may take to greet.
const GREETING: Duration = Duration::from_secs(4);

/// How often a server is asked whether it is still there. One that was silent three times is left.
const PING: Duration = Duration::from_secs(1);

/// How long it waits at most before it tries the next server.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where the servers are, and as whom they are called.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    /// `nats://host:4222`, or `tls://`, with commas between several. A user and a password may stand
    /// before the host of the first: `nats://user:password@host:4222`.
    pub urls: String,
    /// A file of credentials, as `nsc` makes it.
    pub credentials: Option<PathBuf>,
    /// A file with the certificates of those that the servers' certificates come from; none = those
    /// that the system trusts. TLS is used where a URL or a server asks for it, or this is set.
    pub ca: Option<PathBuf>,
    /// What the servers show this connection as.
    pub name: String,
}

/// A connection. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Connection {
    client: Client,
    denied: Denied,
    losses: Arc<AtomicU64>,
}

impl Connection {
    /// Connects for the first time.
    pub async fn open(servers: &Servers) -> Result<Self, LogError> {
        let addresses = addresses(&servers.urls)?;
        let denied = Denied::default();
        let losses = Arc::<AtomicU64>::default();
        let options = options(servers, &addresses, denied.clone(), losses.clone())?;
        let hosts = hosts(&addresses);
        let silent = || LogError::Unreachable(format!("{hosts} did not answer in time").into());
        let client = timeout(PATIENCE, options.connect(addresses)).await.map_err(|_| silent())?;
        let client = client.map_err(|error| match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                LogError::Unauthorized(hosts.clone().into())
            }
            ConnectErrorKind::TimedOut => silent(),
            _ => match innermost(&error) {
                (cause, true) => LogError::NoTls(format!("{hosts}: no TLS: {cause}").into()),
                (cause, false) => LogError::Unreachable(format!("{hosts}: {cause}").into()),
            },
        })?;
        Ok(Self { client, denied, losses })
    }

    /// How often it was lost.
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// For those who send messages that are not of the log.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What the servers do not permit.
    pub fn denied(&self) -> &Denied {
        &self.denied
    }

    /// What the server says of itself to which this is a connection.
    pub fn server(&self) -> ServerInfo {
        self.client.server_info()
    }
}

fn options(
    servers: &Servers,
    addresses: &[ServerAddr],
    denied: Denied,
    losses: Arc<AtomicU64>,
) -> Result<ConnectOptions, LogError> {
    let mut options = ConnectOptions::new()
        .name(&servers.name)
        .connection_timeout(GREETING)
        .ping_interval(PING)
        .max_reconnects(None)
        .reconnect_delay_callback(|attempts| {
            let pause = Duration::from_millis(50 * attempts.saturating_sub(1) as u64);
            pause.min(LONGEST_PAUSE)
        })
        .event_callback(move |event| {
            if matches!(event, Event::Disconnected) {
                losses.fetch_add(1, Ordering::Relaxed);
            }
            note(&event, &denied);
            std::future::ready(())
        });
    // Servers that are found later have no URL of ours.
    let user = addresses.iter().find_map(|address| address.username());
    if let Some(user) = user {
        let password = addresses.iter().find_map(|address| address.password());
        let password = decoded(password.unwrap_or_default());
        options = options.user_and_password(decoded(user), password);
    }
    if let Some(path) = &servers.credentials {
        let text = std::fs::read_to_string(path).map_err(|error| refused(path, error))?;
        let unreadable = |_| {
            LogError::Unauthorized(format!("{} is no file of credentials", path.display()).into())
        };
        options = options.credentials(&text).map_err(unreadable)?;
    }
    if let Some(path) = &servers.ca {
        std::fs::metadata(path).map_err(|error| refused(path, error))?;
        options = options.add_root_certificates(path.clone()).require_tls(true);
    }
    Ok(options)
}

/// Errors are reported where they are noticed; here only what has no other place.
fn note(event: &Event, denied: &Denied) {
    match event {
        Event::Disconnected => tracing::warn!("the connection to the NATS server is lost"),
        Event::Connected => tracing::info!("there is a connection to a NATS server"),
        Event::LameDuckMode => tracing::info!("the NATS server is about to stop"),
        Event::SlowConsumer(_) => tracing::warn!("messages of the NATS server were dropped"),
        Event::ServerError(ServerError::Other(error)) => {
            // The one who asks for what is the system's says more of it.
            let is_told_elsewhere = error.contains("\"$SYS.");
            match denied.hear(error) {
                Said::DeniedAgain => {}
                Said::Denied if is_told_elsewhere => {}
                Said::Denied | Said::Other => tracing::warn!("the NATS server says: {error}"),
            }
        }
        Event::ServerError(error) => tracing::warn!("the NATS server says: {error}"),
        Event::ClientError(error) => tracing::debug!("no connection: {error}"),
        Event::Draining | Event::Closed => {}
    }
}

fn addresses(urls: &str) -> Result<Vec<ServerAddr>, LogError> {
    let mut addresses = Vec::new();
    let mut faulty = Vec::new();
    for (place, url) in urls.split(',').map(str::trim).enumerate() {
        match url.parse::<ServerAddr>() {
            Ok(address) if !address.host().is_empty() => addresses.push(address),
            // The URL itself may hold a password.
            _ => faulty.push(format!("URL {} is not like nats://host:4222", place + 1)),
        }
    }
    if faulty.is_empty() { Ok(addresses) } else { Err(LogError::Unfit(faulty.join(", ").into())) }
}

/// What may be said of URLs.
fn hosts(addresses: &[ServerAddr]) -> String {
    let host = |address: &ServerAddr| format!("{}:{}", address.host(), address.port());
    addresses.iter().map(host).collect::<Vec<_>>().join(", ")
}

/// A URL escapes what has a meaning in it.
fn decoded(escaped: &str) -> String {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn refused(path: &Path, error: std::io::Error) -> LogError {
    LogError::Refused { path: path.to_owned(), error: Arc::new(error) }
}

/// The cause, without what was tried, and whether it is one of TLS.
fn innermost(error: &(dyn Error + 'static)) -> (String, bool) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let is_of_tls = wrapped.is_some_and(|it| it.is::<async_nats::rustls::Error>());
    (error.to_string(), is_of_tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_urls_holds_no_password() {
        let found = addresses("nats://ada:s3cret@one:1, tls://two").expect("two URLs");
        assert_eq!(hosts(&found), "one:1, two:4222");
        let error = addresses("nats://ada:s3cret@one:99999999,,nats://two").expect_err("faulty");
        let line = "the NATS servers cannot be used: URL 1 is not like nats://host:4222, URL 2 is \
                    not like nats://host:4222";
        assert_eq!(error.to_string(), line);
    }

    #[test]
    fn a_password_may_be_escaped() {
        assert_eq!(decoded("a%40b%2fc%"), "a@b/c%");
        assert_eq!(decoded("plain"), "plain");
    }
}
