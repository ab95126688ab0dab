//! What tells a client that its view shows something else than what changed in the state.

use super::{
    Session,
    ids::UserId,
    settings::{Keys, Kind},
    view::{Class, View},
};

impl Session {
    /// A number that changes when a view comes to show something else than what changed in the
    /// state, for somebody to whom the props of one user are not shown: a client that holds another
    /// number needs a snapshot. It is the same in every build and on every machine.
    pub fn fingerprint(&self, view: &View, except: Option<&UserId>) -> u32 {
        let settings = &self.shown.settings;
        let mut hash = Hash::default();
        hash.put(&[kind(self.kind()), class(view.class)]);
        hash.put_keys(&view.props);
        match (self.kind(), view.class) {
            (Kind::Hosted, Class::Members) if !settings.hostprops.is_empty() => {
                hash.put_keys(&settings.hostprops);
            }
            (Kind::Hosted, Class::Host) => {
                hash.put_keys(&settings.propnames);
                hash.put_keys(&settings.hostprops);
            }
            _ => hash.put_keys(&settings.propnames),
        }
        if let Some(user) = except {
            hash.put_text(user);
        }
        // Zero is what a client sends that names none.
        ((hash.0 ^ (hash.0 >> 32)) as u32).max(1)
    }
}

fn kind(kind: Kind) -> u8 {
    match kind {
        Kind::Room => 1,
        Kind::Hosted => 2,
        Kind::Private => 3,
    }
}

fn class(class: Class) -> u8 {
    match class {
        Class::Members => 1,
        Class::Host => 2,
    }
}

/// FNV-1a of 64 bits over bytes that are laid down here: one for the kind and one for the class; the
/// keys that the subscription names; the keys that the settings select, as far as the class depends
/// on them; the user whose props are left out, if there is one. Keys are counted and then come in
/// order, each as a text; a text is its length and its bytes. Numbers have 32 bits, least byte first.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn put_number(&mut self, number: usize) {
        self.put(&(number as u32).to_le_bytes());
    }

    fn put_text(&mut self, text: &str) {
        self.put_number(text.len());
        self.put(text.as_bytes());
    }

    fn put_keys(&mut self, keys: &Keys) {
        self.put_number(keys.len());
        keys.iter().for_each(|key| self.put_text(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        let of = |text: &str| {
            let mut hash = Hash::default();
            hash.put(text.as_bytes());
            hash.0
        };
        let known = [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c)];
        for (text, hash) in known.into_iter().chain([("foobar", 0x8594_4171_f739_67e8)]) {
            assert_eq!(of(text), hash, "{text}");
        }
    }
}
