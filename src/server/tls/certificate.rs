//! What a certificate says of its holder, and when.

use crate::{
    identity::{Certificate, moment},
    session::limits::Micros,
};
use rustls::pki_types::CertificateDer;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_cert::{
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// Whether a certificate is valid at the moment.
pub enum Validity {
    /// It is.
    Now,
    /// It was, until then.
    Over(String),
    /// It will be, from then on.
    Later(String),
}

/// Whether a certificate is valid.
pub fn validity(der: &CertificateDer<'_>) -> Result<Validity, x509_cert::der::Error> {
    let certificate = x509_cert::Certificate::from_der(der)?;
    let validity = certificate.tbs_certificate().validity();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let begin = validity.not_before.to_unix_duration();
    let end = validity.not_after.to_unix_duration();
    Ok(match () {
        () if now < begin => Validity::Later(moment(micros(begin))),
        () if now >= end => Validity::Over(moment(micros(end))),
        () => Validity::Now,
    })
}

/// What the certificate of a client that was verified says of its holder.
pub fn read(der: &CertificateDer<'_>) -> Result<Certificate, x509_cert::der::Error> {
    let certificate = x509_cert::Certificate::from_der(der)?;
    let body = certificate.tbs_certificate();
    let mut said = Certificate {
        subject: body.subject().to_string(),
        expires: Some(micros(body.validity().not_after.to_unix_duration())),
        ..Certificate::default()
    };
    let names = body.get_extension::<SubjectAltName>()?;
    for name in names.into_iter().flat_map(|(_, names)| names.0) {
        match name {
            GeneralName::DnsName(name) => said.dns.push(name.to_string()),
            GeneralName::UniformResourceIdentifier(uri) => said.uris.push(uri.to_string()),
            GeneralName::Rfc822Name(email) => said.emails.push(email.to_string()),
            _ => {}
        }
    }
    Ok(said)
}

fn micros(span: Duration) -> Micros {
    Micros::try_from(span.as_micros()).unwrap_or(Micros::MAX)
}
