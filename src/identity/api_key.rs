//! Keys of backends: `sessiond_`, an id, a secret of 256 random bits and a checksum.
//!
//! Only a SHA-256 of the secret is stored. A slow hash is for secrets that people choose, which can be
//! guessed; nobody guesses 256 random bits, and a slow hash would cost every call.

use super::key::print;
use std::fmt;

/// How every key begins: so that it differs from a token, and is found where it should not be.
pub const PREFIX: &str = "sessiond_";

/// How many characters an id has.
pub const ID_CHARS: usize = 8;

const SECRET_BYTES: usize = 32;

/// A key as its owner has it.
pub struct ApiKey {
    id: String,
    secret: [u8; SECRET_BYTES],
}

impl ApiKey {
    /// A new one.
    pub fn generate() -> Result<Self, String> {
        let (mut id, mut secret) = ([0; ID_CHARS / 2], [0; SECRET_BYTES]);
        for bytes in [&mut id[..], &mut secret[..]] {
            getrandom::fill(bytes).map_err(|error| format!("no randomness: {error}"))?;
        }
        Ok(Self { id: hex(&id), secret })
    }

    /// Reads one; none = it is damaged.
    pub fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (id, rest) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let (secret, checksum) = rest.split_at_checked(SECRET_BYTES * 2)?;
        let is_whole = is_id(id) && checksum == checksum_of(id, secret);
        let secret = is_whole.then(|| unhex(secret))??;
        Some(Self { id: id.to_owned(), secret: secret.try_into().ok()? })
    }

    /// Names it, without a secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What is stored of it.
    pub fn hash(&self) -> [u8; 32] {
        print(&self.secret)
    }

    /// The whole key. It is shown once, to its owner.
    pub fn reveal(&self) -> String {
        let secret = hex(&self.secret);
        let checksum = checksum_of(&self.id, &secret);
        format!("{PREFIX}{}_{secret}{checksum}", self.id)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Whether a text is the id of a key.
pub fn is_id(text: &str) -> bool {
    text.len() == ID_CHARS && unhex(text).is_some()
}

/// Tells a key that was cut off or mistyped from one that is not known.
fn checksum_of(id: &str, secret: &str) -> String {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(id.as_bytes());
    hasher.update(secret.as_bytes());
    hex(&hasher.finalize().to_be_bytes())
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads hexadecimal digits, in lower case only.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_printed_and_in_no_other_form() {
        let key = ApiKey::generate().expect("randomness");
        let text = key.reveal();
        let again = ApiKey::read(text.as_bytes()).expect("a key");
        assert_eq!((again.id(), again.hash()), (key.id(), key.hash()));
        assert_ne!(ApiKey::generate().expect("randomness").reveal(), text);
        for end in 0..text.len() {
            assert!(ApiKey::read(&text.as_bytes()[..end]).is_none(), "cut at {end}");
        }
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] ^= 1;
            assert!(ApiKey::read(&other).is_none(), "changed at {at}");
        }
        assert!(ApiKey::read(format!("{text} ").as_bytes()).is_none());
        assert!(ApiKey::read(text.to_uppercase().as_bytes()).is_none());
        assert!(!format!("{key:?}").contains(&text[20..40]));
    }
}
