//! An identity of a folder of its own, and tokens for it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use sessiond::identity::{Denied, Grant, Identity, Presented};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

pub const SECOND: u64 = 1_000_000;
pub const MINUTE: u64 = 60 * SECOND;

/// The present of the tests, in seconds: 2026-01-01T00:00:00Z.
pub const NOW_SECONDS: u64 = 1_767_225_600;
pub const NOW: u64 = NOW_SECONDS * SECOND;

pub const ISSUER: &str = "https://issuer.test";

/// 64 bytes: enough for HS512.
pub const SECRET: &[u8] = b"for tests only: 0123456789abcdef0123456789abcdef0123456789abcdef";

/// An issuer with a key of each kind; the keys follow.
pub const ISSUER_TOML: &str = r#"
[[issuers]]
name = "tests"
issuer = "https://issuer.test"
audiences = ["sessiond", "other"]
apps = ["games", "chat"]
scopes = ["user", "backend", "app", "read"]
"#;

pub const KEYS_TOML: &str = r#"
[[issuers.keys]]
kid = "secret"
secret-file = "secret"
algorithms = ["HS256", "HS384", "HS512"]

[[issuers.keys]]
kid = "rsa"
public-key-file = "rsa.pub.pem"
algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]

[[issuers.keys]]
kid = "p256"
public-key-file = "p256.pub.pem"

[[issuers.keys]]
kid = "p384"
public-key-file = "p384.pub.pem"

[[issuers.keys]]
kid = "ed25519"
public-key-file = "ed25519.pub.pem"
"#;

/// Every algorithm, and the name of its key.
pub const ALGORITHMS: [(Algorithm, &str); 12] = [
    (Algorithm::HS256, "secret"),
    (Algorithm::HS384, "secret"),
    (Algorithm::HS512, "secret"),
    (Algorithm::RS256, "rsa"),
    (Algorithm::RS384, "rsa"),
    (Algorithm::RS512, "rsa"),
    (Algorithm::PS256, "rsa"),
    (Algorithm::PS384, "rsa"),
    (Algorithm::PS512, "rsa"),
    (Algorithm::ES256, "p256"),
    (Algorithm::ES384, "p384"),
    (Algorithm::EdDSA, "ed25519"),
];

/// A folder for one test, with the keys for tests in it, removed at the end.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("identity-{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let folder = Self(folder);
        for entry in fs::read_dir(keys()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            folder.write_secret(&name, &fs::read(path).unwrap());
        }
        folder.write_secret("secret", SECRET);
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        // As an editor does: no reader sees half of it.
        fs::write(self.path("fresh"), bytes).unwrap();
        fs::rename(self.path("fresh"), self.path(name)).unwrap();
    }

    pub fn write_secret(&self, name: &str, bytes: &[u8]) {
        self.write(name, bytes);
        self.allow(name, 0o600);
    }

    pub fn allow(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The identity of some settings.
    pub fn identity(&self, toml: &str) -> Arc<Identity> {
        let faults = |faults| panic!("{faults:?}");
        Arc::new(self.try_identity(toml).unwrap_or_else(faults))
    }

    /// The same, or the faults of the settings.
    pub fn try_identity(&self, toml: &str) -> Result<Identity, Vec<String>> {
        self.write("identity.toml", toml);
        let text = |faults: Vec<sessiond::identity::Fault>| {
            faults
                .into_iter()
                .map(|it| it.to_string().replace(self.0.to_str().unwrap(), ""))
                .collect()
        };
        Identity::open(&self.path("identity.toml")).map_err(text)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn keys() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/identity/keys")
}

/// An issuer with all keys.
pub fn standard() -> (Folder, Arc<Identity>) {
    let folder = Folder::new();
    let identity = folder.identity(&format!("{ISSUER_TOML}{KEYS_TOML}"));
    (folder, identity)
}

/// What signs by an algorithm, of the keys for tests.
pub fn signer(algorithm: Algorithm) -> EncodingKey {
    let read = |name: &str| fs::read(keys().join(name)).unwrap();
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => EncodingKey::from_secret(SECRET),
        Algorithm::ES256 => EncodingKey::from_ec_pem(&read("p256.pem")).unwrap(),
        Algorithm::ES384 => EncodingKey::from_ec_pem(&read("p384.pem")).unwrap(),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(&read("ed25519.pem")).unwrap(),
        _ => EncodingKey::from_rsa_pem(&read("rsa.pem")).unwrap(),
    }
}

pub fn other_rsa() -> EncodingKey {
    EncodingKey::from_rsa_pem(&fs::read(keys().join("rsa-other.pem")).unwrap()).unwrap()
}

pub fn public_key(name: &str) -> Vec<u8> {
    fs::read(keys().join(name)).unwrap()
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of any text, signed.
pub fn sign(header: &str, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", b64(header), b64(claims));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// The claims of a good token of ada's.
pub fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "sessiond", "sub": "ada", "app": "games", "scope": "user",
        "iat": NOW_SECONDS, "exp": NOW_SECONDS + 3600, "jti": "token-1",
    })
}

/// The same with some claims changed, or with null left out.
pub fn claims_with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        }
    }
    claims
}

/// A token with these claims, signed by the Ed25519 key.
pub fn token(claims: &Value) -> String {
    let header = r#"{"alg":"EdDSA","kid":"ed25519"}"#;
    sign(header, &claims.to_string(), &signer(Algorithm::EdDSA), Algorithm::EdDSA)
}

/// Presents a credential behind Bearer.
pub fn check(identity: &Identity, credential: &str, now: u64) -> Result<Arc<Grant>, Denied> {
    let value = format!("Bearer {credential}");
    check_values(identity, &[value.as_bytes()], now)
}

pub fn check_values(identity: &Identity, values: &[&[u8]], now: u64) -> Result<Arc<Grant>, Denied> {
    identity.check(&Presented { authorization: values, certificate: None }, now)
}
