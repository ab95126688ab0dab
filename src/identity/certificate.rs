//! Client certificates: a table from what they name to what they allow.

use super::{
    denied::Denied,
    grant::{Apps, CredentialId, Grant, Kind, Origin},
    key::print,
};
use crate::session::{limits::Micros, role::Role};
use std::sync::Arc;

/// What a client certificate that was verified says of its holder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject, as RFC 4514 writes it: `CN=billing,O=Example`.
    pub subject: String,
    /// The DNS names of its subject.
    pub dns: Vec<String>,
    /// The URIs of its subject, such as a SPIFFE id.
    pub uris: Vec<String>,
    /// The mail addresses of its subject.
    pub emails: Vec<String>,
    /// From when on it is refused.
    pub expires: Option<Micros>,
}

/// What an entry of the table looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// The whole subject.
    Subject(String),
    /// One of the DNS names, whatever its case; a `*` in a certificate is no wildcard here.
    Dns(String),
    /// One of the URIs.
    Uri(String),
    /// One of the mail addresses.
    Email(String),
}

impl Name {
    fn is_of(&self, certificate: &Certificate) -> bool {
        match self {
            Self::Subject(subject) => certificate.subject == *subject,
            Self::Dns(name) => certificate.dns.iter().any(|it| it.eq_ignore_ascii_case(name)),
            Self::Uri(uri) => certificate.uris.contains(uri),
            Self::Email(email) => certificate.emails.contains(email),
        }
    }
}

/// An entry of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, for the audit.
    pub name: Arc<str>,
    /// Which certificates it is about.
    pub of: Name,
    /// Where they may be used.
    pub apps: Apps,
    /// What they allow.
    pub kind: Kind,
}

impl Entry {
    /// Stands for the entry.
    pub(super) fn print(&self) -> [u8; 32] {
        print(format!("{self:?}").as_bytes())
    }
}

/// What a certificate allows: what the first entry that is about it says.
pub fn check(table: &[Entry], certificate: &Certificate, now: Micros) -> Result<Grant, Denied> {
    let entry = table.iter().find(|entry| entry.of.is_of(certificate));
    let entry = entry.ok_or(Denied::UnknownCertificate)?;
    if certificate.expires.is_some_and(|expires| now >= expires) {
        return Err(Denied::CertificateExpired);
    }
    let subject = match &entry.kind {
        Kind::User(user) => Some(Arc::from(&**user)),
        _ => None,
    };
    Ok(Grant {
        apps: entry.apps.clone(),
        kind: entry.kind.clone(),
        sessions: None,
        most: Role::Owner,
        expires: certificate.expires,
        issued: None,
        id: CredentialId::Certificate(entry.name.clone()),
        subject,
        origin: Origin::Certificate(entry.print()),
    })
}
