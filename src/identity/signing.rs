//! Makes tokens, for trials and tests: `sessiond token new`. The server itself issues none.

use super::{
    algorithm::Algorithm,
    file::{self, Privacy},
    key::VerifyingKey,
    settings,
};
use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
        RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Map, Value};
use std::{fmt, path::Path};

/// A key that signs tokens.
pub struct SigningKey {
    algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Secret(Box<hmac::Key>),
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Reads a key: a private key in PEM (PKCS #8), or else a secret, in the encoding that the settings
    /// would name for it. Without an algorithm it signs by HS256, RS256, ES256, ES384 or EdDSA.
    pub fn open(
        path: &Path,
        encoding: Option<&str>,
        algorithm: Option<Algorithm>,
    ) -> Result<Self, String> {
        let bytes = file::read(path, Privacy::Secret)?;
        let key = if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
            Self::pem(&bytes, algorithm)
        } else {
            settings::decoded(&bytes, encoding).and_then(|secret| Self::secret(&secret, algorithm))
        };
        key.map_err(|fault| format!("{} {fault}", path.display()))
    }

    /// A secret.
    pub fn secret(secret: &[u8], algorithm: Option<Algorithm>) -> Result<Self, String> {
        let algorithm = algorithm.unwrap_or(Algorithm::HS256);
        // Judged as the server judges it.
        VerifyingKey::secret(secret, &[algorithm])?;
        let hmac = algorithm.hmac().ok_or("is a secret")?;
        Ok(Self { algorithm, pair: Pair::Secret(Box::new(hmac::Key::new(hmac, secret))) })
    }

    /// A private key in PEM.
    pub fn pem(pem: &[u8], algorithm: Option<Algorithm>) -> Result<Self, String> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem)
            .map_err(|_| "has no private key in PKCS #8, which begins with BEGIN PRIVATE KEY")?;
        let der = der.secret_pkcs8_der();
        let (usual, pair) = if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            (Algorithm::EdDSA, Pair::Ed25519(pair))
        } else if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der) {
            (Algorithm::ES256, Pair::Ecdsa(pair))
        } else if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, der) {
            (Algorithm::ES384, Pair::Ecdsa(pair))
        } else if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
            (Algorithm::RS256, Pair::Rsa(pair))
        } else {
            return Err("has a private key that is not RSA, P-256, P-384 or Ed25519".into());
        };
        let algorithm = algorithm.unwrap_or(usual);
        if algorithm.family() != usual.family() {
            return Err(format!("is a key that {algorithm} does not take"));
        }
        Ok(Self { algorithm, pair })
    }

    /// The algorithm that it signs by.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Makes a token.
    pub fn sign(
        &self,
        kid: Option<&str>,
        typ: &str,
        claims: &Map<String, Value>,
    ) -> Result<String, String> {
        let mut header = Map::new();
        header.insert("alg".into(), self.algorithm.name().into());
        header.insert("typ".into(), typ.into());
        if let Some(kid) = kid {
            header.insert("kid".into(), kid.into());
        }
        let part = |object: &Map<String, Value>| {
            let text = serde_json::to_vec(object).map_err(|error| error.to_string())?;
            Ok::<_, String>(URL_SAFE_NO_PAD.encode(text))
        };
        let message = format!("{}.{}", part(&header)?, part(claims)?);
        let signature = self.signature(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let random = SystemRandom::new();
        let fault = |_| "the key cannot sign".to_owned();
        match &self.pair {
            Pair::Secret(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Ecdsa(pair) => {
                let signature = pair.sign(&random, message).map_err(fault)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let encoding = encoding(self.algorithm).ok_or("the key cannot sign")?;
                pair.sign(encoding, &random, message, &mut signature).map_err(fault)?;
                Ok(signature)
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

fn encoding(algorithm: Algorithm) -> Option<&'static dyn RsaEncoding> {
    match algorithm {
        Algorithm::RS256 => Some(&RSA_PKCS1_SHA256),
        Algorithm::RS384 => Some(&RSA_PKCS1_SHA384),
        Algorithm::RS512 => Some(&RSA_PKCS1_SHA512),
        Algorithm::PS256 => Some(&RSA_PSS_SHA256),
        Algorithm::PS384 => Some(&RSA_PSS_SHA384),
        Algorithm::PS512 => Some(&RSA_PSS_SHA512),
        _ => None,
    }
}
