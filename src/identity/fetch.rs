//! Reads keys at a URL.

use super::{jwks::MAX_BYTES, source::SourceSettings};
use std::{sync::Arc, time::Duration};
use ureq::{
    Agent,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

/// A client of one URL. A call of it blocks for as long as the timeout.
pub fn agent(url: &str, authorities: Option<&[u8]>, timeout: Duration) -> Result<Agent, String> {
    let roots = match authorities {
        None => RootCerts::WebPki,
        Some(pem) => RootCerts::new_with_certs(&certificates(pem)?),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider);
    let is_plain = url.starts_with("http://");
    let mut config = Agent::config_builder()
        .tls_config(tls.build())
        .https_only(!is_plain)
        // A redirect leads to somebody whom the settings do not name.
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_global(Some(timeout))
        .user_agent("sessiond");
    if is_plain {
        config = config.proxy(None);
    }
    Ok(config.build().into())
}

/// Reads what is at the URL. Blocks for as long as the settings allow.
pub fn read(settings: &SourceSettings) -> Result<Vec<u8>, String> {
    let timeout = Duration::from_micros(settings.timeout);
    let agent = agent(&settings.url, settings.authorities.as_deref(), timeout)?;
    let request = agent.get(&settings.url).header("accept", "application/json");
    let mut response = request.call().map_err(|error| reason_of(&error))?;
    let status = response.status();
    if status.is_redirection() {
        return Err(format!("it answers {status}: redirects are not followed"));
    }
    if status != 200 {
        return Err(format!("it answers {status}"));
    }
    let body = response.body_mut().with_config().limit(MAX_BYTES as u64);
    body.read_to_vec().map_err(|error| match error {
        ureq::Error::BodyExceedsLimit(_) => format!("the key set has more than {MAX_BYTES} bytes"),
        error => reason_of(&error),
    })
}

/// The certificates of a PEM file.
pub fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let items = parse_pem(pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(_) => Some(Err("is not PEM".to_owned())),
    });
    let certificates: Vec<_> = items.collect::<Result<_, _>>()?;
    if certificates.is_empty() { Err("has no certificate".into()) } else { Ok(certificates) }
}

/// Why a request failed, in words that tell nothing of the URL, which may have a secret in it.
pub fn reason_of(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "it takes longer than its timeout".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        ureq::Error::ConnectionFailed => "it cannot be connected to".to_owned(),
        ureq::Error::Rustls(error) => error.to_string(),
        _ => "the request failed".to_owned(),
    }
}
