//! Keys that verify tokens. A key knows what it may verify; a token has no say in that.

use super::algorithm::{Algorithm, Family};
use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac, rsa,
    signature::{ParsedPublicKey, RsaPublicKeyComponents},
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use std::fmt;

/// The sizes that an RSA key may have, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The longest name of a key, in bytes.
pub const KID_BYTES: usize = 256;

/// A key that verifies tokens.
pub struct VerifyingKey {
    /// Its name, if it has one: a token that names a key is verified by one of that name.
    pub kid: Option<String>,
    by: Vec<(Algorithm, Material)>,
    print: [u8; 32],
    material: [u8; 32],
}

enum Material {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl VerifyingKey {
    /// A secret. It has to be long enough for each algorithm.
    pub fn secret(secret: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        if is_public(secret) {
            return Err("is a key that is not secret, or not a secret alone".into());
        }
        let mut by = Vec::new();
        for algorithm in algorithms {
            let hmac = algorithm.hmac().ok_or_else(|| misfit(*algorithm, "a secret"))?;
            let least = algorithm.least_secret_bytes();
            if secret.len() < least {
                let bytes = secret.len();
                return Err(format!("has {bytes} bytes; {algorithm} needs at least {least}"));
            }
            by.push((*algorithm, Material::Secret(Box::new(hmac::Key::new(hmac, secret)))));
        }
        Ok(Self::new(by, secret, secret))
    }

    /// A public key in a PEM file. Without algorithms it verifies those of its kind: RS256, ES256,
    /// ES384 or EdDSA.
    pub fn pem(pem: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(pem)
            .map_err(|_| "has no public key in PEM, which begins with BEGIN PUBLIC KEY")?;
        let spki: &[u8] = spki.as_ref();
        let kinds = [Algorithm::EdDSA, Algorithm::ES256, Algorithm::ES384, Algorithm::RS256];
        let kind = kinds.into_iter().find(|algorithm| algorithm.public_key(spki).is_some());
        let kind = kind.ok_or("has a public key that is not RSA, P-256, P-384 or Ed25519")?;
        let material = match kind.family() {
            Family::Rsa => {
                let key = rsa::PublicKey::from_der(spki).map_err(|_| "has a damaged RSA key")?;
                let RsaPublicKeyComponents::<Vec<u8>> { n, e } = (&key).into();
                check_rsa(&n)?;
                [n, e].concat()
            }
            // The key itself stands at the end.
            family => spki[spki.len().saturating_sub(family.point_bytes())..].to_vec(),
        };
        let defaults = [kind];
        let algorithms = if algorithms.is_empty() { &defaults } else { algorithms };
        let mut by = Vec::new();
        for algorithm in algorithms {
            let key = algorithm.public_key(spki).filter(|_| algorithm.family() == kind.family());
            let key = key.ok_or_else(|| misfit(*algorithm, name_of(kind.family())))?;
            by.push((*algorithm, Material::Public(key)));
        }
        Ok(Self::new(by, spki, &material))
    }

    /// An RSA key of its two numbers, as they are in a key set.
    pub fn rsa(modulus: &[u8], exponent: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        let n = &modulus[modulus.iter().take_while(|byte| **byte == 0).count()..];
        check_rsa(n)?;
        let mut by = Vec::new();
        for algorithm in algorithms {
            let parameters = algorithm.rsa().ok_or_else(|| misfit(*algorithm, "an RSA key"))?;
            let key = RsaPublicKeyComponents { n, e: exponent }.to_parsed_public_key(parameters);
            by.push((*algorithm, Material::Public(key.map_err(|_| "is a damaged RSA key")?)));
        }
        let bytes = [n, exponent].concat();
        Ok(Self::new(by, &bytes, &bytes))
    }

    /// A point of a curve.
    pub fn point(point: &[u8], algorithm: Algorithm) -> Result<Self, String> {
        let key = algorithm.public_key(point).ok_or("is not on its curve")?;
        Ok(Self::new(vec![(algorithm, Material::Public(key))], point, point))
    }

    /// `bytes` as the file or the set has the key, `material` as every file and set would.
    fn new(by: Vec<(Algorithm, Material)>, bytes: &[u8], material: &[u8]) -> Self {
        let mut whole = b"sessiond key ".to_vec();
        whole.extend(bytes);
        for (algorithm, _) in &by {
            whole.extend(algorithm.name().as_bytes());
        }
        Self { kid: None, by, print: print(&whole), material: print(material) }
    }

    /// The same key under a name.
    pub fn called(mut self, kid: Option<String>) -> Self {
        self.kid = kid;
        self
    }

    /// Stands for the key and what it may verify. The name is not part of it.
    pub fn print(&self) -> [u8; 32] {
        self.print
    }

    /// Whether it is the same secret or the same public key, whatever it may verify and however it is
    /// written.
    pub fn is_same(&self, other: &Self) -> bool {
        self.material == other.material
    }

    /// What it verifies.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.by.iter().map(|(algorithm, _)| *algorithm)
    }

    /// Whether a signature is right; none = the key is not for this algorithm.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Option<bool> {
        let (_, material) = self.by.iter().find(|(own, _)| *own == algorithm)?;
        Some(match material {
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
        })
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithms: Vec<_> = self.algorithms().collect();
        f.debug_struct("VerifyingKey").field("kid", &self.kid).field("by", &algorithms).finish()
    }
}

/// The SHA-256 of bytes.
pub fn print(bytes: &[u8]) -> [u8; 32] {
    let mut print = [0; 32];
    print.copy_from_slice(digest(&SHA256, bytes).as_ref());
    print
}

/// Whether bytes are a key that everybody may know, or a key in a wrapping: neither is a secret.
fn is_public(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    let begins = |start: &&[u8]| text.starts_with(start);
    let wrapped = [&b"-----BEGIN"[..], b"ssh-", b"ecdsa-sha2-"];
    // Random bytes may begin as an object does.
    let is_object = text.starts_with(b"{") && std::str::from_utf8(text).is_ok();
    let point = bytes.len() == 32;
    is_object
        || wrapped.iter().any(begins)
        || !point && Algorithm::ALL.into_iter().any(|it| it.public_key(bytes).is_some())
}

fn check_rsa(modulus: &[u8]) -> Result<(), String> {
    let zeros = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = (modulus.len() * 8).saturating_sub(zeros);
    if RSA_BITS.contains(&bits) {
        return Ok(());
    }
    let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
    Err(format!("is an RSA key of {bits} bits; it must have {least} to {most}"))
}

fn misfit(algorithm: Algorithm, key: &str) -> String {
    format!("is {key}, which {algorithm} does not take")
}

fn name_of(family: Family) -> &'static str {
    match family {
        Family::Secret => "a secret",
        Family::Rsa => "an RSA key",
        Family::P256 => "a key of the curve P-256",
        Family::P384 => "a key of the curve P-384",
        Family::Ed25519 => "an Ed25519 key",
    }
}
