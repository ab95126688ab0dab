//! How the program calls a server as a client: with TLS or without, and whom it trusts.

use crate::identity::file::{self, Privacy};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use std::{path::PathBuf, sync::Arc};
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
    /// Whoever has one of the certificates in this file and its key, whatever name is in it.
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
                let pem = file::read(ca, Privacy::Public)?;
                if CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).next().is_none() {
                    return Err(format!("{} has no certificate in PEM", ca.display()));
                }
                endpoint.tls_config(config.ca_certificate(Certificate::from_pem(pem)))
            }
            (Trust::Holder(path), None) => {
                let pem = file::read(path, Privacy::Public)?;
                let known = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).next();
                let known = known.ok_or(format!("{} has no certificate in PEM", path.display()))?;
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
