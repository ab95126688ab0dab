//! Tokens and API keys that were verified: a client sends the same one with every call, and an RSA
//! signature costs more than the rest of a small call.

use super::grant::Grant;
use crate::session::limits::Micros;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// The most tokens and keys that are remembered.
pub const MAX_TOKENS: usize = 10_000;

/// Grants by the prints of their tokens and keys. Only one that was good gets in, so that nobody without
/// one can push others out.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// With the generation in which it was last found good.
    grants: HashMap<[u8; 32], (Arc<Grant>, u64)>,
    /// In the order in which they came.
    order: VecDeque<[u8; 32]>,
}

impl Cache {
    /// What a token or a key allows if its time is not over, and the generation in which it did.
    pub fn find(&self, print: &[u8; 32], now: Micros) -> Option<(Arc<Grant>, u64)> {
        let known = self.0.lock();
        let (grant, generation) = known.grants.get(print)?;
        (!grant.has_expired(now)).then(|| (grant.clone(), *generation))
    }

    /// A token or a key is good in a generation.
    pub fn remember(&self, print: [u8; 32], grant: &Arc<Grant>, generation: u64) {
        let mut known = self.0.lock();
        if known.grants.insert(print, (grant.clone(), generation)).is_some() {
            return;
        }
        known.order.push_back(print);
        if known.order.len() > MAX_TOKENS
            && let Some(oldest) = known.order.pop_front()
        {
            known.grants.remove(&oldest);
        }
    }

    /// How many there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().grants.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::grant::{Apps, CredentialId, Kind, Origin},
        session::role::Role,
    };

    fn grant(expires: Micros) -> Arc<Grant> {
        Arc::new(Grant {
            apps: Apps::All,
            kind: Kind::Reader,
            sessions: None,
            most: Role::Owner,
            expires: Some(expires),
            issued: None,
            id: CredentialId::Key("a".into()),
            subject: None,
            origin: Origin::Key([0; 32]),
        })
    }

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let cache = Cache::default();
        let print = |number: usize| {
            let mut print = [0; 32];
            print[..8].copy_from_slice(&number.to_le_bytes());
            print
        };
        let grant = grant(10);
        for number in 0..=MAX_TOKENS {
            cache.remember(print(number), &grant, 1);
            cache.remember(print(number), &grant, 2);
        }
        assert_eq!(cache.len(), MAX_TOKENS);
        assert_eq!(cache.find(&print(0), 0), None);
        assert_eq!(cache.find(&print(1), 9), Some((grant, 2)));
        assert_eq!(cache.find(&print(1), 10), None, "its time is over");
    }
}
