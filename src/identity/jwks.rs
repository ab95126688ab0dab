//! Key sets: RFC 7517, as issuers publish them.

use super::{
    algorithm::{Algorithm, Family},
    json,
    key::{KID_BYTES, VerifyingKey},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

/// The most keys that a set may have.
pub const MAX_KEYS: usize = 64;

/// The largest set, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// Where a set comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A file of this machine, that may hold secrets.
    File,
    /// A URL, which many read: it holds public keys only.
    Url,
}

/// Reads a set. `allowed` says which algorithms its keys may be for; empty = those of public keys.
/// Keys of kinds that are not known, for encryption or for other algorithms are left out, as issuers
/// have such keys too. There must be one that is left.
pub fn read(
    bytes: &[u8],
    allowed: &[Algorithm],
    place: Place,
) -> Result<Vec<VerifyingKey>, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("has more than {MAX_BYTES} bytes"));
    }
    let set =
        json::object(bytes).ok_or("is no JSON object, or one with a name that stands twice")?;
    let Some(Value::Array(entries)) = set.get("keys") else {
        return Err("has no list called keys".into());
    };
    if entries.len() > MAX_KEYS {
        return Err(format!("has {} keys, more than {MAX_KEYS}", entries.len()));
    }
    let mut keys: Vec<VerifyingKey> = Vec::new();
    for (place_in_set, entry) in entries.iter().enumerate() {
        let entry = entry.as_object().ok_or(format!("keys[{place_in_set}] is no object"))?;
        let read = key(entry, allowed, place);
        let Some(key) = read.map_err(|fault| format!("keys[{place_in_set}] {fault}"))? else {
            continue;
        };
        let is_same = |other: &VerifyingKey| {
            key.kid.is_some()
                && other.kid == key.kid
                && other.algorithms().any(|it| key.algorithms().any(|own| own == it))
        };
        if keys.iter().any(is_same) {
            return Err(format!("keys[{place_in_set}] has the kid of another key"));
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err("has no key that could verify a token".into());
    }
    Ok(keys)
}

/// One key; none = it is not for us.
fn key(
    entry: &Map<String, Value>,
    allowed: &[Algorithm],
    place: Place,
) -> Result<Option<VerifyingKey>, String> {
    let kty = text(entry, "kty")?.ok_or("has no kty")?;
    if text(entry, "use")?.is_some_and(|purpose| purpose != "sig") {
        return Ok(None);
    }
    if let Some(operations) = entry.get("key_ops") {
        let operations = operations.as_array().ok_or("has a key_ops that is no list")?;
        if !operations.iter().any(|operation| operation == "verify") {
            return Ok(None);
        }
    }
    let curve = text(entry, "crv")?;
    let family = match (kty, curve) {
        ("RSA", _) => Family::Rsa,
        ("EC", Some("P-256")) => Family::P256,
        ("EC", Some("P-384")) => Family::P384,
        ("OKP", Some("Ed25519")) => Family::Ed25519,
        // A URL is no place for a secret: whatever is there is known to many.
        ("oct", _) if place == Place::File => Family::Secret,
        _ => return Ok(None),
    };
    let algorithms = algorithms(text(entry, "alg")?, family, allowed);
    let Some(first) = algorithms.first().copied() else { return Ok(None) };
    let kid = text(entry, "kid")?.map(str::to_owned);
    if kid.as_ref().is_some_and(|kid| kid.is_empty() || kid.len() > KID_BYTES) {
        return Err(format!("has a kid that is empty or longer than {KID_BYTES} bytes"));
    }
    let key = match family {
        Family::Secret => VerifyingKey::secret(&part(entry, "k")?, &algorithms),
        Family::Rsa => VerifyingKey::rsa(&part(entry, "n")?, &part(entry, "e")?, &algorithms),
        Family::P256 | Family::P384 => {
            let length = if family == Family::P256 { 32 } else { 48 };
            let (x, y) = (part(entry, "x")?, part(entry, "y")?);
            if [&x, &y].iter().any(|part| part.len() != length) {
                return Err(format!("has an x or y that has not {length} bytes"));
            }
            VerifyingKey::point(&[&[4][..], &x, &y].concat(), first)
        }
        Family::Ed25519 => {
            let x = part(entry, "x")?;
            if x.len() != 32 {
                return Err("has an x that has not 32 bytes".into());
            }
            VerifyingKey::point(&x, first)
        }
    };
    Ok(Some(key?.called(kid)))
}

/// What a key may verify: what the set says of it, as far as the settings allow that. A key of which
/// the set says nothing verifies what the settings name, or what is usual for its kind.
fn algorithms(alg: Option<&str>, family: Family, allowed: &[Algorithm]) -> Vec<Algorithm> {
    let fits = |algorithm: &Algorithm| algorithm.family() == family;
    let is_allowed = |algorithm: &Algorithm| {
        let by_default = allowed.is_empty() && algorithm.family() != Family::Secret;
        fits(algorithm) && (by_default || allowed.contains(algorithm))
    };
    match alg {
        // RFC 9864 calls EdDSA with this curve Ed25519.
        Some("Ed25519") => Some(Algorithm::EdDSA).filter(is_allowed).into_iter().collect(),
        Some(name) => Algorithm::read(name).filter(is_allowed).into_iter().collect(),
        None if allowed.is_empty() => {
            let usual = [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
            usual.into_iter().filter(fits).collect()
        }
        None => allowed.iter().copied().filter(fits).collect(),
    }
}

fn text<'a>(entry: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match entry.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("has a {name} that is no string")),
    }
}

fn part(entry: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let text = text(entry, name)?.ok_or_else(|| format!("has no {name}"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("has a {name} that is not base64url"))
}
