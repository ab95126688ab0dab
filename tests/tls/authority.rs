//! Certificates of an authority that exists for a test.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType, date_time_ymd,
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// An authority.
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    certificate: Certificate,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// One that nobody knows yet.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        let name = format!("authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("it is signed");
        Self { params, key, certificate }
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate that it issues.
    pub fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).expect("it is signed");
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// The certificate of a server on this machine.
    pub fn server(&self) -> Pair {
        self.server_at(&["localhost", "127.0.0.1"])
    }

    /// The certificate of a server with these names.
    pub fn server_at(&self, names: &[&str]) -> Pair {
        self.issue(|params| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            params.subject_alt_names =
                CertificateParams::new(names).expect("names").subject_alt_names;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    /// The certificate of a client with this name, and what else is told.
    pub fn client(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        self.issue(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, "Example");
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            change(params);
        })
    }
}

/// It is over.
pub fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
}

/// It names a URI.
pub fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().expect("ASCII"))
}

/// A folder of files for one test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tls-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file that nobody else may read.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("it is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        path
    }

    /// Writes a pair as `server.pem` and `server.key`.
    pub fn write_pair(&self, pair: &Pair) {
        self.write("server.pem", &pair.certificate);
        self.write("server.key", &pair.key);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
