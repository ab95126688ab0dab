//! Who issues tokens, and what its tokens may say.

use super::{
    denied::Denied,
    grant::{Apps, Grant, Scope},
    key::VerifyingKey,
    source::{Asked, Source},
    token::{Times, Unverified},
};
use crate::session::limits::Micros;
use std::{collections::BTreeSet, sync::Arc};

/// How many keys are tried on a token that names none: each costs time, and anybody can send one.
const MAX_TRIES: usize = 8;

/// Who issues tokens.
#[derive(Debug)]
pub struct Issuer {
    /// Its name for people.
    pub name: Arc<str>,
    /// What its tokens say of their issuer; none = they need not say anything.
    pub iss: Option<String>,
    /// For whom its tokens are: a token must name one. Empty = a token must name none.
    pub audiences: BTreeSet<String>,
    /// Of which type its tokens are; none = of any.
    pub typ: Option<String>,
    /// Where its tokens may be used.
    pub apps: Apps,
    /// What its tokens may be for.
    pub scopes: BTreeSet<Scope>,
    /// The keys of the settings.
    pub keys: Vec<Arc<VerifyingKey>>,
    /// The keys elsewhere.
    pub sources: Vec<Arc<Source>>,
    /// Stands for all of the above but the keys.
    pub print: [u8; 32],
}

impl Issuer {
    /// All keys that there are at the moment.
    pub fn all_keys(&self, now: Micros) -> Vec<Arc<VerifyingKey>> {
        let fetched = self.sources.iter().filter_map(|source| source.keys(now));
        let fetched = fetched.flat_map(|keys| keys.iter().cloned().collect::<Vec<_>>());
        self.keys.iter().cloned().chain(fetched).collect()
    }

    /// Whether one of its keys is one of another issuer, as far as the settings tell: nobody could say
    /// which of both a token is of.
    pub fn shares_key(&self, other: &Self) -> bool {
        let is_theirs = |key: &Arc<VerifyingKey>| other.keys.iter().any(|it| it.is_same(key));
        let url = |source: &Arc<Source>| source.settings.url.clone();
        self.keys.iter().any(is_theirs)
            || self.sources.iter().any(|it| other.sources.iter().map(url).any(|of| of == url(it)))
    }

    /// Whether a key that verified a token is still one of its keys.
    pub fn has_key(&self, print: &[u8; 32], now: Micros) -> bool {
        self.all_keys(now).iter().any(|key| key.print() == *print)
    }
}

/// What a token allows, if one of the issuers issued it.
pub fn grant(issuers: &[Issuer], token: &[u8], times: Times) -> Result<Grant, Denied> {
    let token = Unverified::read(token)?;
    let keys = issuers
        .iter()
        .flat_map(|issuer| issuer.all_keys(times.now).into_iter().map(move |key| (issuer, key)));
    let of_name: Vec<_> = keys.filter(|(_, key)| token.may_be_of(key)).collect();
    let of_kind: Vec<_> = of_name
        .iter()
        .filter(|(_, key)| key.algorithms().any(|algorithm| algorithm == token.algorithm))
        .collect();
    if of_kind.len() > MAX_TRIES {
        return Err(Denied::NeedsKid);
    }
    for (issuer, key) in &of_kind {
        if token.is_of(key) == Some(true) {
            return token.grant(issuer, key, times);
        }
    }
    // Nobody but an issuer can make a key that is not known yet, so keys are looked for only where
    // the token names one that no key has.
    let named = token.kid.as_deref();
    let is_named = of_name.iter().any(|(_, key)| key.kid.is_some() && key.kid.as_deref() == named);
    let asked = issuers
        .iter()
        .flat_map(|issuer| &issuer.sources)
        .map(|source| if is_named { source.state(times.now) } else { source.ask(times.now) });
    match asked.max() {
        Some(Asked::Unavailable) => Err(Denied::KeysUnavailable),
        Some(Asked::OnTheWay) if !is_named => Err(Denied::KeysOnTheWay),
        _ if of_name.is_empty() => Err(Denied::UnknownKey),
        _ if of_kind.is_empty() => Err(Denied::Algorithm),
        _ => Err(Denied::Signature),
    }
}
