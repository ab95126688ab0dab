//! Where every call comes in: whose it is, and whether its credential allows it at all.

use super::{
    error::{CredentialFault, Refusal, Uncovered},
    permits::{Needs, Permit},
};
use crate::{
    engine::{Peer, Rates},
    identity::{Certificate, Denied, Grant, Identity, Presented, Shown},
    session::limits::Micros,
};
use http::{HeaderMap, header::AUTHORIZATION};
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Lets callers in.
#[derive(Debug, Clone)]
pub struct Entrance {
    /// None = every caller is believed.
    guard: Option<Arc<Guard>>,
    /// What callers may do of whom no credential is asked.
    unasked: Arc<Grant>,
}

#[derive(Debug)]
struct Guard {
    identity: Arc<Identity>,
    /// As of which generation of the identity, and what is cancelled with the next.
    changed: Mutex<(u64, CancellationToken)>,
    /// How many calls each address had refused of late; none = any number.
    refused: Option<Mutex<Rates>>,
}

impl Entrance {
    /// The entrance where callers are who the identity says; without one, every caller is a backend
    /// of all apps. `most_refused` calls of one address are refused in a second before it has to
    /// wait; 0 = any number.
    pub fn new(identity: Option<Arc<Identity>>, most_refused: usize) -> Self {
        let unasked = if identity.is_some() { Grant::of_nobody() } else { Grant::of_anybody() };
        let guard = identity.map(|identity| {
            let changed = Mutex::new((identity.generation(), CancellationToken::new()));
            let refused = Rates::new(most_refused).map(Mutex::new);
            Arc::new(Guard { identity, changed, refused })
        });
        Self { guard, unasked: Arc::new(unasked) }
    }

    /// Lets a caller in whose credential allows the call, on a connection that has shown this before.
    pub fn admit(
        &self,
        path: &str,
        headers: &HeaderMap,
        (certificate, shown): (Option<&Certificate>, &mut Shown),
        peer: Peer,
        now: Micros,
    ) -> Result<Arc<Grant>, Refusal> {
        let Some(Guard { identity, refused: rates, .. }) = self.guard.as_deref() else {
            return Ok(self.unasked.clone());
        };
        let permit = Permit::of(path);
        if permit.needs() == Needs::Nothing {
            return Ok(self.unasked.clone());
        }
        let values = headers.get_all(AUTHORIZATION).iter();
        let authorization: SmallVec<[&[u8]; 2]> = values.map(|value| value.as_bytes()).collect();
        let presented = Presented { authorization: &authorization, certificate };
        let grant = identity.check_on(shown, &presented, now).map_err(refused);
        let grant = grant.map_err(|refusal| match (&refusal, rates) {
            // One that has expired was good: its holder must learn that it needs another.
            (Refusal::Unauthenticated { fault: CredentialFault::Bad, .. }, Some(rates)) => {
                let mut rates = rates.lock();
                match rates.take(peer, now) {
                    Ok(()) => refusal,
                    Err(retry_after) => Refusal::TooManyRefused { most: rates.most(), retry_after },
                }
            }
            _ => refusal,
        })?;
        if !permit.is_known() {
            return Err(Refusal::NotImplemented { field: path.to_owned() });
        }
        permit.check(&grant).map_err(Refusal::Uncovered)?;
        Ok(grant)
    }

    /// Lets a caller in whom another node has let in: the credential is looked at once more, as it may
    /// have been revoked here before there.
    pub fn admit_introduced(
        &self,
        path: &str,
        grant: Grant,
        now: Micros,
    ) -> Result<Arc<Grant>, Refusal> {
        if let Some(Guard { identity, .. }) = self.guard.as_deref() {
            identity.holds(&grant, now).map_err(|denied| match denied {
                // The other node may have read a file or fetched a key that is yet to be read here.
                Denied::Withdrawn | Denied::Missing => {
                    identity.miss_key_of(&grant, now);
                    let why = "this node does not know the credential, which another one does";
                    Refusal::KeysUnavailable { why: why.to_owned() }
                }
                denied => refused(denied),
            })?;
        }
        let permit = Permit::of(path);
        if !permit.is_known() {
            return Err(Refusal::NotImplemented { field: path.to_owned() });
        }
        permit.check(&grant).map_err(Refusal::Uncovered)?;
        Ok(Arc::new(grant))
    }

    /// What a token allows that comes up on a stream, for the credential before it: as much, and to
    /// the same caller.
    pub fn renew(
        &self,
        before: &Arc<Grant>,
        token: &str,
        now: Micros,
    ) -> Result<Arc<Grant>, Refusal> {
        let Some(Guard { identity, .. }) = self.guard.as_deref() else {
            return Ok(self.unasked.clone());
        };
        let grant = identity.check_token(token.as_bytes(), now).map_err(refused)?;
        if grant.kind != before.kind {
            return Err(Refusal::Uncovered(Uncovered::User));
        }
        if !before.apps.is_within(&grant.apps) {
            return Err(Refusal::Uncovered(Uncovered::App));
        }
        if grant.sessions != before.sessions {
            return Err(Refusal::Uncovered(Uncovered::OtherSessions));
        }
        if grant.most != before.most {
            return Err(Refusal::Uncovered(Uncovered::Role));
        }
        Ok(grant)
    }

    /// Who says whose a call is; none = nobody.
    pub fn identity(&self) -> Option<&Identity> {
        self.guard.as_ref().map(|guard| &*guard.identity)
    }

    /// Is cancelled soon after the next generation begins.
    pub fn changed(&self) -> Option<CancellationToken> {
        self.guard.as_ref().map(|guard| guard.changed.lock().1.clone())
    }

    /// Is another one when a credential that was valid may not be so any more; none = that never
    /// happens.
    pub fn generation(&self) -> Option<u64> {
        self.guard.as_ref().map(|guard| guard.identity.generation())
    }

    /// Looks whether anything has changed, and tells all streams if so.
    pub fn look(&self) {
        let Some(guard) = &self.guard else { return };
        let generation = guard.identity.generation();
        let mut changed = guard.changed.lock();
        if changed.0 != generation {
            let (_, told) =
                std::mem::replace(&mut *changed, (generation, CancellationToken::new()));
            drop(changed);
            told.cancel();
        }
    }

    /// Whether a credential is still valid, but for its own end.
    pub fn is_valid(&self, grant: &Grant, now: Micros) -> bool {
        let Some(guard) = &self.guard else { return true };
        match guard.identity.holds(grant, now) {
            Ok(()) => true,
            // The stream ends for that by itself.
            Err(_) if grant.has_expired(now) => true,
            Err(_) => false,
        }
    }
}

fn refused(denied: Denied) -> Refusal {
    if denied.is_temporary() {
        return Refusal::KeysUnavailable { why: denied.to_string() };
    }
    let fault = match denied {
        Denied::Expired | Denied::KeyExpired | Denied::CertificateExpired => {
            CredentialFault::Expired
        }
        Denied::Revoked => CredentialFault::Revoked,
        _ => CredentialFault::Bad,
    };
    Refusal::Unauthenticated { fault, why: denied.to_string() }
}
