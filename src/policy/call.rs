//! How a backend is asked: by gRPC, or by a POST of JSON.

use super::{json, lanes::Place};
use crate::{
    identity::fetch,
    proto::{AuthorizeRequest, AuthorizeResponse, hook_service_client::HookServiceClient},
    session::limits::{Micros, SECOND},
};
use aws_lc_rs::{digest, hmac};
use http::Uri;
use prost::Message;
use std::{fmt, sync::Arc, time::Duration};
use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use ureq::Agent;

/// Bytes of an answer.
pub const ANSWER_BYTES: usize = 256 * 1024;

/// The header, or the metadata, with the HMAC of a request.
const SIGNATURE: &str = "sessiond-signature";

/// Where a backend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// It takes JSON.
    Http(String),
    /// It speaks gRPC; the URL as HTTP/2 has it.
    Grpc(String),
}

impl Address {
    /// Reads a URL; says what is wrong with it.
    pub fn read(url: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str =
            "expected a URL: http://, https://, grpc:// or grpcs://, without a user";
        let (scheme, rest) = url.split_once("://").ok_or(EXPECTED)?;
        let as_http = match scheme {
            "http" | "https" => url.to_owned(),
            "grpc" => format!("http://{rest}"),
            "grpcs" => format!("https://{rest}"),
            _ => return Err(EXPECTED),
        };
        let uri: Uri = as_http.parse().map_err(|_| EXPECTED)?;
        let authority = uri.authority().ok_or(EXPECTED)?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(EXPECTED);
        }
        match scheme.starts_with("http") {
            true => Ok(Self::Http(as_http)),
            false if !matches!(uri.path(), "" | "/") || uri.query().is_some() => {
                Err("a gRPC URL has a host and a port only")
            }
            false => Ok(Self::Grpc(as_http)),
        }
    }

    /// Whether it speaks gRPC.
    pub fn is_grpc(&self) -> bool {
        matches!(self, Self::Grpc(_))
    }

    /// Whether others on the way could read what is sent, and answer in its place.
    pub fn is_open(&self) -> bool {
        let (Self::Http(url) | Self::Grpc(url)) = self;
        let uri: Uri = url.parse().unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        uri.scheme_str() != Some("https") && !is_here
    }
}

/// How the backend knows who asks.
#[derive(Clone)]
pub enum Secret {
    /// A token that is sent along.
    Bearer(String),
    /// A key that requests are signed with.
    Hmac(Arc<HmacKey>),
}

/// A key, and what tells it from others.
pub struct HmacKey {
    key: hmac::Key,
    print: digest::Digest,
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bearer(own), Self::Bearer(other)) => own == other,
            (Self::Hmac(own), Self::Hmac(other)) => own.print.as_ref() == other.print.as_ref(),
            _ => false,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer",
            Self::Hmac(_) => "Hmac",
        })
    }
}

impl Secret {
    /// To sign with.
    pub fn hmac(secret: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let print = digest::digest(&digest::SHA256, secret);
        Self::Hmac(Arc::new(HmacKey { key, print }))
    }

    /// The header that says who asks.
    fn header(&self, body: &[u8], now: Micros) -> (&'static str, String) {
        match self {
            Self::Bearer(token) => ("authorization", format!("Bearer {token}")),
            Self::Hmac(key) => {
                let time = now / SECOND;
                let mut context = hmac::Context::with_key(&key.key);
                context.update(format!("{time}.").as_bytes());
                context.update(body);
                let tag = context.sign();
                let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                (SIGNATURE, format!("t={time},v1={hex}"))
            }
        }
    }
}

/// The thread that all calls of a hook are made on, apart from those that serve. It ends when this is
/// gone, and nobody waits for calls that are still on their way.
#[derive(Debug)]
struct Calls {
    handle: Handle,
    _over: oneshot::Sender<()>,
}

impl Calls {
    /// Starts it. A call over HTTP blocks a thread of its own, of which there are so many at most.
    fn start(most_blocked: usize) -> std::io::Result<Self> {
        let mut runtime = runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(most_blocked).build()?;
        let handle = runtime.handle().clone();
        let (over, is_over) = oneshot::channel::<()>();
        std::thread::Builder::new().name("hook".to_owned()).spawn(move || {
            let _ = runtime.block_on(is_over);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _over: over })
    }
}

/// A backend, ready to be asked.
#[derive(Debug)]
pub struct Line {
    calls: Calls,
    way: Way,
    secret: Option<Secret>,
}

#[derive(Debug, Clone)]
enum Way {
    Http(Agent, String),
    Grpc(Channel),
}

impl Line {
    /// The line to an address, for so many calls at a time. `authorities` are those that its certificate
    /// is judged by, in PEM; none = the web's.
    pub fn new(
        address: &Address,
        most: usize,
        authorities: Option<&[u8]>,
        timeout: Duration,
        secret: Option<Secret>,
    ) -> Result<Self, String> {
        // Over gRPC only the address is looked up on such a thread.
        let most_blocked = if address.is_grpc() { 1 } else { most };
        let calls = Calls::start(most_blocked);
        let calls = calls.map_err(|error| format!("its thread does not start: {error}"))?;
        let way = match address {
            Address::Http(url) => Way::Http(fetch::agent(url, authorities, timeout)?, url.clone()),
            Address::Grpc(url) => {
                let endpoint = Endpoint::from_shared(url.clone()).map_err(|it| it.to_string())?;
                let endpoint = endpoint
                    .user_agent("sessiond")
                    .map_err(|it| it.to_string())?
                    .connect_timeout(timeout)
                    .http2_keep_alive_interval(Duration::from_secs(20))
                    .keep_alive_timeout(Duration::from_secs(10));
                let endpoint = match url.starts_with("https://") {
                    true => endpoint.tls_config(tls(authorities)).map_err(|it| it.to_string())?,
                    false => endpoint,
                };
                // The connection belongs to the thread of the hook.
                let _within = calls.handle.enter();
                Way::Grpc(endpoint.connect_lazy())
            }
        };
        Ok(Self { calls, way, secret })
    }

    /// Asks; says what went wrong, in words without anything secret. A call that nobody waits for any
    /// more is dropped; one over HTTP keeps its place, which is one of its user's, until its timeout.
    pub async fn ask(
        &self,
        question: AuthorizeRequest,
        place: Place,
        now: Micros,
    ) -> Result<AuthorizeResponse, String> {
        let (way, secret) = (self.way.clone(), self.secret.clone());
        let call = async move {
            match way {
                Way::Grpc(channel) => {
                    let _place = place;
                    by_grpc(channel, question, secret.as_ref(), now).await
                }
                Way::Http(agent, url) => {
                    let call = tokio::task::spawn_blocking(move || {
                        let _place = place;
                        by_http(&agent, &url, &question, secret.as_ref(), now)
                    });
                    call.await.unwrap_or_else(|_| Err("the call was given up".to_owned()))
                }
            }
        };
        let task = AbortOnDropHandle::new(self.calls.handle.spawn(call));
        task.await.unwrap_or_else(|_| Err("the call was given up".to_owned()))
    }
}

fn tls(authorities: Option<&[u8]>) -> ClientTlsConfig {
    match authorities {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_webpki_roots(),
    }
}

async fn by_grpc(
    channel: Channel,
    question: AuthorizeRequest,
    secret: Option<&Secret>,
    now: Micros,
) -> Result<AuthorizeResponse, String> {
    let header = secret.map(|secret| secret.header(&question.encode_to_vec(), now));
    let mut request = Request::new(question);
    if let Some((name, value)) = header {
        let value = MetadataValue::try_from(value).map_err(|_| "the secret is no metadata")?;
        request.metadata_mut().insert(name, value);
    }
    let mut client = HookServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES);
    match client.authorize(request).await {
        Ok(answer) => Ok(answer.into_inner()),
        // What it says in words may be anything.
        Err(status) => Err(format!("it answers {:?}", status.code())),
    }
}

fn by_http(
    agent: &Agent,
    url: &str,
    question: &AuthorizeRequest,
    secret: Option<&Secret>,
    now: Micros,
) -> Result<AuthorizeResponse, String> {
    let body = json::question(question)?;
    let mut request = agent
        .post(url)
        .header("content-type", "application/json")
        .header("accept", "application/json");
    if let Some((name, value)) = secret.map(|secret| secret.header(&body, now)) {
        request = request.header(name, value);
    }
    let mut response = request.send(&body[..]).map_err(|error| fetch::reason_of(&error))?;
    let status = response.status();
    if status.is_redirection() {
        return Err(format!("it answers {status}: redirects are not followed"));
    }
    if status != 200 {
        return Err(format!("it answers {status}"));
    }
    let body = response.body_mut().with_config().limit(ANSWER_BYTES as u64);
    let body = body.read_to_vec().map_err(|error| match error {
        ureq::Error::BodyExceedsLimit(_) => {
            format!("its answer has more than {ANSWER_BYTES} bytes")
        }
        error => fetch::reason_of(&error),
    })?;
    json::answer(&body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url_of_four_kinds() {
        let http = |url: &str| Ok(Address::Http(url.to_owned()));
        let grpc = |url: &str| Ok(Address::Grpc(url.to_owned()));
        assert_eq!(
            Address::read("http://127.0.0.1:80/ask?x=1"),
            http("http://127.0.0.1:80/ask?x=1")
        );
        assert_eq!(Address::read("https://b.example"), http("https://b.example"));
        assert_eq!(Address::read("grpc://b.example:50051"), grpc("http://b.example:50051"));
        assert_eq!(Address::read("grpcs://b.example"), grpc("https://b.example"));
        for wrong in [
            "",
            "b.example",
            "ftp://b.example",
            "http://",
            "https://a:b@c",
            "grpc://b/path",
            "grpc://b/?q",
        ] {
            assert!(Address::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn others_could_read_what_goes_to_another_machine_without_tls() {
        let is_open = |url: &str| Address::read(url).expect(url).is_open();
        assert!(is_open("http://b.example/") && is_open("grpc://10.0.0.1:1"));
        for closed in
            ["https://b.example", "grpcs://b.example", "http://localhost:1", "grpc://[::1]:1"]
        {
            assert!(!is_open(closed), "{closed}");
        }
    }

    #[test]
    fn a_signature_is_that_of_the_time_and_the_body() {
        let (name, value) = Secret::hmac(b"key").header(b"{}", 7 * SECOND + 1);
        assert_eq!(name, "sessiond-signature");
        // printf '7.{}' | openssl dgst -sha256 -hmac key
        let tag = "77bc83bd1f40422311e47918b203449aecf84b02c1568bb1b570ac2a474cc2d8";
        assert_eq!(value, format!("t=7,v1={tag}"));
        let shown = format!("{:?}", Secret::Bearer("secret".to_owned()));
        assert!(!shown.contains("secret"));
    }
}
