//! What the files of TLS say: a certificate and its key, and whose certificates clients may have.

use super::certificate::{Validity, validity};
use crate::{
    config::Config,
    identity::file::{self, Privacy},
    server::watched,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// What HTTP/2 is called in a handshake.
pub const ALPN: &[u8] = b"h2";

/// Which files there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate of the server, and those between it and its authority, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// The authorities of the certificates of clients, in PEM; none = no client is asked for one.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must have one.
    pub is_client_certificate_required: bool,
}

impl Files {
    /// As they are configured; none = there is no TLS. All settings that lack another.
    pub fn of(config: &Config) -> Result<Option<Self>, Vec<String>> {
        let Config { tls_certificate, tls_key, tls_client_ca, tls_require_client, .. } = config;
        let mut faults = Vec::new();
        let mut lacks = |is: bool, one: &str, other: &str| {
            if is {
                faults.push(format!("{one} is given without {other}"));
            }
        };
        let (has_certificate, has_key) = (tls_certificate.is_some(), tls_key.is_some());
        lacks(has_certificate && !has_key, "tls-certificate", "tls-key");
        lacks(has_key && !has_certificate, "tls-key", "tls-certificate");
        lacks(tls_client_ca.is_some() && !has_certificate, "tls-client-ca", "tls-certificate");
        lacks(
            *tls_require_client && tls_client_ca.is_none(),
            "tls-require-client",
            "tls-client-ca",
        );
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(tls_certificate.clone().zip(tls_key.clone()).map(|(certificate, key)| Self {
            certificate,
            key,
            client_ca: tls_client_ca.clone(),
            is_client_certificate_required: *tls_require_client,
        }))
    }

    /// All of them.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_ca)
    }
}

/// Reads the files; all that is wrong with them, a line each, or what clients will not like about the
/// certificate.
pub fn read(files: &Files) -> watched::Read<ServerConfig> {
    let Parts { chain, key, roots, warning } = parts(files)?;
    let config = config(files, chain, key, roots).map_err(|fault| vec![fault])?;
    Ok((config, warning))
}

/// The same for a client that trusts the authorities in the files, and is called itself by others that
/// do, at this host if it is known; what those will not like about the certificate.
pub fn read_client(files: &Files, host: Option<&str>) -> watched::Read<ClientConfig> {
    // That it has expired is said of the same files where they are served with.
    let Parts { chain, key, roots, warning } = parts(files)?;
    let roots = roots.unwrap_or_else(RootCertStore::empty);
    let distrusted = match warning {
        None => distrusted(files, &chain, &roots, host),
        Some(_) => None,
    };
    let config = client_config(files, chain, key, roots).map_err(|fault| vec![fault])?;
    Ok((config, distrusted))
}

/// Why others that trust the same authorities will not call the holder of a certificate.
fn distrusted(
    files: &Files,
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
    host: Option<&str>,
) -> Option<String> {
    let algorithms =
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let certificate = ParsedCertificate::try_from(&chain[0]).ok()?;
    let (of, now) = (files.certificate.display(), UnixTime::now());
    let signed = verify_server_cert_signed_by_trust_anchor(
        &certificate,
        roots,
        &chain[1..],
        now,
        algorithms.all,
    );
    if let Err(error) = signed {
        return Some(format!("others that trust the same authorities do not trust {of}: {error}"));
    }
    let host = host?;
    let is_named = ServerName::try_from(host)
        .is_ok_and(|name| verify_server_name(&certificate, &name).is_ok());
    (!is_named).then(|| format!("{of} does not name {host}: others do not call it there"))
}

/// What the files hold.
struct Parts {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Option<RootCertStore>,
    warning: Option<String>,
}

fn parts(files: &Files) -> Result<Parts, Vec<String>> {
    let mut faults = Vec::new();
    let mut note = |fault| faults.push(fault);
    let chain = certificates(&files.certificate).map_err(&mut note).ok();
    let key = private_key(&files.key).map_err(&mut note).ok();
    let roots = files.client_ca.as_deref().map(authorities).transpose().map_err(&mut note).ok();
    let (Some(chain), Some(key), Some(roots)) = (chain, key, roots) else { return Err(faults) };
    let of = files.certificate.display();
    let warning = match validity(&chain[0]) {
        Ok(Validity::Now) => None,
        Ok(Validity::Over(end)) => Some(format!("the certificate {of} has expired, at {end}")),
        Ok(Validity::Later(begin)) => {
            Some(format!("the certificate {of} is not valid before {begin}"))
        }
        Err(error) => return Err(vec![format!("{of} has a certificate that is damaged: {error}")]),
    };
    Ok(Parts { chain, key, roots, warning })
}

fn client_config(
    files: &Files,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: RootCertStore,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(|it| it.to_string())?;
    let builder = builder.with_root_certificates(roots);
    let mut config =
        builder.with_client_auth_cert(chain, key).map_err(|error| inconsistent(files, error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A session to resume would outlive the authorities that let it in.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What is wrong with a certificate and a key together.
fn inconsistent(files: &Files, error: rustls::Error) -> String {
    let (certificate, key) = (files.certificate.display(), files.key.display());
    match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("the key in {key} is not that of the certificate in {certificate}")
        }
        error => format!("{certificate} and {key}: {error}"),
    }
}

fn config(
    files: &Files,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Option<RootCertStore>,
) -> Result<ServerConfig, String> {
    // Not the one of the process: other code in it does not choose our cryptography.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(|it| it.to_string())?;
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match files.is_client_certificate_required {
                true => verifier,
                false => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|it| it.to_string())?)
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| inconsistent(files, error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Connections last: a session to resume would cost more memory than it saves time, and one that
    // outlives the authorities that let it in would pass them by.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The certificates in a file of PEM, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = file::read(path, Privacy::Public)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(format!("{} has no certificate in PEM", path.display()))
        }
        Ok(certificates) => Ok(certificates),
        // The library's words have bytes as numbers.
        Err(_) => Err(format!("{} is not PEM, or not all of it is there", path.display())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = file::read(path, Privacy::Secret)?;
    // The error never has the key in it.
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| format!("{} has no private key in PEM", path.display()))
}

/// Those whose certificates are trusted.
pub fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| {
            format!("{} has an authority that cannot be used: {error}", path.display())
        })?;
    }
    Ok(roots)
}
