//! How the program calls a server as a client: with TLS or without, and whom it trusts.

use crate::identity::file::{self, Privacy};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// How a server with TLS is called.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// The authorities of the server's certificate, in PEM
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The certificate to show, and those between it and its authority, in PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// The private key of the certificate to show, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// The name in the server's certificate, if it is not that in the address
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
}

/// Whom a client trusts.
#[derive(Debug)]
pub enum Trust {
    /// The authorities of the arguments, or those of the web.
    Authorities,
    /// Anybody who has one of the certificates in this file and its key, whatever name is in it.
    Holder(PathBuf),
}

impl TlsArgs {
    /// Whether one of them is given.
    pub fn is_given(&self) -> bool {
        self.ca.is_some() || self.cert.is_some() || self.server_name.is_some()
    }

    /// What is at a URL with https.
    pub fn endpoint(&self, url: &str, trust: &Trust) -> Result<Endpoint, String> {
        let endpoint = Endpoint::from_shared(url.to_owned());
        let endpoint = endpoint.map_err(|error| format!("{url} is no address: {error}"))?;
        let mut config = ClientTlsConfig::new();
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        if let (Some(certificate), Some(key)) = (&self.cert, &self.key) {
            let certificate = file::read(certificate, Privacy::Public)?;
            config =
                config.identity(Identity::from_pem(certificate, file::read(key, Privacy::Secret)?));
        }
        match (trust, &self.ca) {
            (Trust::Authorities, None) => endpoint.tls_config(config.with_webpki_roots()),
            (_, Some(ca)) => {
                certificates(ca)?;
                let pem = file::read(ca, Privacy::Public)?;
                endpoint.tls_config(config.ca_certificate(Certificate::from_pem(pem)))
            }
            (Trust::Holder(path), None) => {
                let known = certificates(path)?.swap_remove(0);
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                endpoint.tls_config_with_verifier(config, Arc::new(Holder { known, provider }))
            }
        }
        .map_err(|error| {
            let why = std::iter::successors(std::error::Error::source(&error), |it| it.source());
            format!("TLS cannot be used: {}", why.last().unwrap_or(&error))
        })
    }
}

impl TlsArgs {
    /// The same for a client that speaks HTTP/2 by itself.
    pub fn client_config(&self, trust: &Trust) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match (trust, &self.ca) {
            (Trust::Holder(path), None) => {
                let known = certificates(path)?.swap_remove(0);
                let holder = Arc::new(Holder { known, provider });
                builder.dangerous().with_custom_certificate_verifier(holder)
            }
            (_, ca) => {
                let mut roots = RootCertStore::empty();
                match ca {
                    None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
                    Some(ca) => {
                        for certificate in certificates(ca)? {
                            let added = roots.add(certificate);
                            added.map_err(|error| format!("{}: {error}", ca.display()))?;
                        }
                    }
                }
                builder.with_root_certificates(roots)
            }
        };
        let mut config = match (&self.cert, &self.key) {
            (Some(chain), Some(key)) => {
                let bytes = file::read(key, Privacy::Secret)?;
                let bytes = PrivateKeyDer::from_pem_slice(&bytes);
                let read = bytes.map_err(|_| format!("{} has no private key", key.display()))?;
                let pair = builder.with_client_auth_cert(certificates(chain)?, read);
                pair.map_err(|error| format!("{}: {error}", chain.display()))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// The certificates in a file of PEM, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = file::read(path, Privacy::Public)?;
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
    if certificates.is_empty() {
        return Err(format!("{} has no certificate in PEM", path.display()));
    }
    Ok(certificates)
}

/// Trusts the holder of one certificate.
#[derive(Debug)]
struct Holder {
    known: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Holder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.known {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
