//! Which subjects there are. They all begin with the name of the cluster.

use super::Settings;
use crate::log::{Key, Partition};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

impl Settings {
    /// The stream of a partition.
    pub(super) fn stream(&self, partition: Partition) -> String {
        format!("{}-{partition}", self.cluster)
    }

    /// Where batches, claims, releases and trims of a partition go.
    pub(super) fn chain(&self, partition: Partition) -> String {
        format!("{}.l.{partition}", self.cluster)
    }

    /// What the subjects of the snapshots of a partition begin with.
    pub(super) fn snapshots(&self, partition: Partition) -> String {
        format!("{}.s.{partition}.", self.cluster)
    }

    /// What the subjects begin with where it is noted that a key is gone.
    pub(super) fn notes(&self, partition: Partition) -> String {
        format!("{}.g.{partition}.", self.cluster)
    }

    /// Where it is said that something was stored. It is not part of the stream.
    pub(super) fn wakes(&self, partition: Partition) -> String {
        format!("{}.w.{partition}", self.cluster)
    }
}

/// The subject of a key: its last part may not hold just any bytes, and not be empty.
pub fn of_key(begin: &str, key: &[u8]) -> String {
    let mut subject = begin.to_owned();
    URL_SAFE_NO_PAD.encode_string(key, &mut subject);
    if key.is_empty() {
        subject.push('=');
    }
    subject
}

/// The key that the last part of a subject stands for; none = it stands for none.
pub fn key_of(part: &str) -> Option<Key> {
    let part = if part == "=" { "" } else { part };
    URL_SAFE_NO_PAD.decode(part).ok().map(Key::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_subject_of_its_own() {
        for key in [&b""[..], b"=", b"a", b"app/session", &[0, 255, b'.', b'*', b'>', b' ']] {
            let subject = of_key("test.s.0.", key);
            let part = subject.strip_prefix("test.s.0.").expect("as it begins");
            assert!(!part.is_empty() && !part.contains(['.', '*', '>', ' ']), "{part}");
            assert_eq!(key_of(part).as_deref(), Some(key));
        }
        assert_eq!(key_of("!"), None);
    }
}
