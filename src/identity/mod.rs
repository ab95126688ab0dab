//! Who calls: tokens, API keys and client certificates, and what they allow. Deny by default: what is
//! not understood is refused.
//!
//! [`Identity::check`] never waits: no file and no network is touched in it. [`Identity::watch`] reads
//! files that changed and keys at URLs, on threads of its own.
//!
//! The rules are those of RFC 8725: a key says by which algorithm it verifies, an issuer has keys of
//! its own, and a token is believed in nothing before its signature is right.

mod algorithm;
pub mod api_key;
mod cache;
mod certificate;
mod denied;
pub mod fetch;
pub mod file;
mod grant;
mod issuer;
mod json;
mod jwks;
mod key;
pub mod key_file;
pub mod reading;
mod revocation;
mod settings;
mod shown;
pub mod signing;
mod source;
mod token;

pub use self::{
    algorithm::Algorithm,
    certificate::Certificate,
    denied::Denied,
    grant::{Apps, CredentialId, Grant, Kind, Scope},
    reading::{Fault, moment, read_moment},
    revocation::{MAX_SINGLE as MAX_REVOCATIONS, NoRoom, Revocation},
    shown::Shown,
    source::ASK_INTERVAL,
    token::MAX_TOKEN_BYTES,
};
pub(crate) use grant::Origin;
pub(crate) use settings::url_fault;

use self::{cache::Cache, revocation::Revocations, settings::Settings, source::News, token::Times};
use crate::session::limits::Micros;
use parking_lot::{Condvar, Mutex, RwLock};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How often files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a caller presents.
#[derive(Debug, Clone, Copy, Default)]
pub struct Presented<'a> {
    /// Every value of the metadata `authorization`.
    pub authorization: &'a [&'a [u8]],
    /// The client certificate, if TLS verified one.
    pub certificate: Option<&'a Certificate>,
}

/// Who may call.
#[derive(Debug)]
pub struct Identity {
    path: PathBuf,
    settings: RwLock<Arc<Settings>>,
    /// The files as they were when they were last read, with or without success.
    seen: Mutex<Seen>,
    revocations: Revocations,
    cache: Cache,
    generation: AtomicU64,
    /// A key is missing: the thread that reads URLs should look.
    missing: Mutex<bool>,
    wake: Condvar,
}

#[derive(Debug)]
struct Seen {
    files: file::Files,
    faults: Vec<Fault>,
}

impl Identity {
    /// Reads a file of settings and the files that it names, but no URL.
    pub fn open(path: &Path) -> Result<Self, Vec<Fault>> {
        let (files, settings) = Settings::read(path, &[]);
        let settings = settings?;
        let revocations = Revocations::default();
        revocations.set(settings.revoked.clone());
        Ok(Self {
            path: path.to_owned(),
            settings: RwLock::new(Arc::new(settings)),
            seen: Mutex::new(Seen { files, faults: Vec::new() }),
            revocations,
            cache: Cache::default(),
            generation: AtomicU64::new(0),
            missing: Mutex::new(false),
            wake: Condvar::new(),
        })
    }

    /// What a caller may do.
    pub fn check(&self, presented: &Presented<'_>, now: Micros) -> Result<Arc<Grant>, Denied> {
        let settings = self.settings.read().clone();
        // Where the table is empty, certificates only open the connection.
        let certificate = presented.certificate.filter(|_| !settings.certificates.is_empty());
        match (presented.authorization, certificate) {
            ([], None) => Err(Denied::Missing),
            ([], Some(certificate)) => {
                self.allowed(certificate::check(&settings.certificates, certificate, now)?)
            }
            ([value], None) => {
                let credential = bearer(value)?;
                if credential.starts_with(api_key::PREFIX.as_bytes()) {
                    self.check_key(credential, now)
                } else {
                    self.check_token(credential, now)
                }
            }
            _ => Err(Denied::Several),
        }
    }

    fn check_key(&self, key: &[u8], now: Micros) -> Result<Arc<Grant>, Denied> {
        let generation = self.generation();
        let print = key::print(key);
        if let Some(grant) = self.known(print, generation, now) {
            return Ok(grant);
        }
        let settings = self.settings.read().clone();
        let grant = self.allowed(settings.keys.check(key, now)?)?;
        self.cache.remember(print, &grant, generation);
        Ok(grant)
    }

    /// What a token or a key allows that was found good before, and still is.
    fn known(&self, print: [u8; 32], generation: u64, now: Micros) -> Option<Arc<Grant>> {
        let (grant, known_in) = self.cache.find(&print, now)?;
        if known_in != generation {
            // Whatever it is that changed, a credential that still holds is not verified again.
            self.holds(&grant, now).ok()?;
            self.cache.remember(print, &grant, generation);
        }
        Some(grant)
    }

    /// What a token alone allows: for streams that are given a fresh one.
    pub fn check_token(&self, token: &[u8], now: Micros) -> Result<Arc<Grant>, Denied> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Denied::TooLong);
        }
        // Before all that it stands for is looked at: what changes meanwhile is seen the next time.
        let generation = self.generation();
        let print = key::print(token);
        if let Some(grant) = self.known(print, generation, now) {
            return Ok(grant);
        }
        let settings = self.settings.read().clone();
        let times = Times { now, leeway: settings.leeway, longest_life: settings.longest_life };
        let granted = issuer::grant(&settings.issuers, token, times);
        if granted == Err(Denied::KeysOnTheWay) {
            *self.missing.lock() = true;
            self.wake.notify_all();
        }
        let grant = self.allowed(granted?)?;
        self.cache.remember(print, &grant, generation);
        Ok(grant)
    }

    fn allowed(&self, grant: Grant) -> Result<Arc<Grant>, Denied> {
        if self.revocations.has(&grant) { Err(Denied::Revoked) } else { Ok(Arc::new(grant)) }
    }

    /// Whether a grant that was given still holds: for streams, when the generation is another one or
    /// its time may be over.
    pub fn holds(&self, grant: &Grant, now: Micros) -> Result<(), Denied> {
        if grant.has_expired(now) {
            return Err(match grant.id {
                CredentialId::Token { .. } => Denied::Expired,
                CredentialId::Key(_) => Denied::KeyExpired,
                CredentialId::Certificate(_) => Denied::CertificateExpired,
                CredentialId::None => Denied::Missing,
            });
        }
        if self.revocations.has(grant) {
            return Err(Denied::Revoked);
        }
        let settings = self.settings.read().clone();
        let is_there = match (&grant.origin, &grant.id) {
            (Origin::Token { issuer, key }, _) => {
                settings.issuers.iter().any(|it| it.print == *issuer && it.has_key(key, now))
            }
            (Origin::Key(print), CredentialId::Key(id)) => {
                let entry = settings.keys.entry(id);
                if entry.is_some_and(|entry| entry.revoked.is_some()) {
                    return Err(Denied::Revoked);
                }
                entry.is_some_and(|entry| entry.print() == *print)
            }
            (Origin::Certificate(print), _) => {
                settings.certificates.iter().any(|entry| entry.print() == *print)
            }
            (Origin::Key(_) | Origin::Nothing, _) => false,
        };
        if is_there { Ok(()) } else { Err(Denied::Withdrawn) }
    }

    /// Has keys at URLs read soon, as a token was verified with one that is not known here: by somebody
    /// who has read them later.
    pub fn miss_key_of(&self, grant: &Grant, now: Micros) {
        let Origin::Token { issuer: print, .. } = &grant.origin else { return };
        let settings = self.settings.read().clone();
        let issuers = settings.issuers.iter().filter(|issuer| issuer.print == *print);
        for source in issuers.flat_map(|issuer| &issuer.sources) {
            source.ask(now);
        }
        *self.missing.lock() = true;
        self.wake.notify_all();
    }

    /// Changes whenever a grant may have ceased to hold, other than by its time. A stream asks for it
    /// before it has its credential checked, and asks [`Identity::holds`] again when it is another.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Until when a revocation of this moment lasts: for as long as a token of this moment may live, and
    /// that of a key until it is restored (`Micros::MAX`).
    pub fn lasts_until(&self, revocation: &Revocation, now: Micros) -> Micros {
        let settings = self.settings.read().clone();
        match revocation {
            Revocation::Key(_) => Micros::MAX,
            // A token that is issued later is meant too where a user is revoked; until then.
            _ => now.saturating_add(settings.longest_life).saturating_add(2 * settings.leeway),
        }
    }

    /// Revokes until a moment. False = it was revoked already, and the moment is moved.
    pub fn revoke_until(
        &self,
        revocation: Revocation,
        until: Micros,
        now: Micros,
    ) -> Result<bool, NoRoom> {
        let is_new = self.revocations.revoke(revocation, until, now)?;
        self.next_generation();
        Ok(is_new)
    }

    /// Whether there is room for a revocation.
    pub fn check_room(&self, revocation: &Revocation, now: Micros) -> Result<(), NoRoom> {
        self.revocations.check_room(revocation, now)
    }

    /// Whether there is a revocation by a call.
    pub fn is_revoked(&self, revocation: &Revocation) -> bool {
        self.revocations.is_called(revocation)
    }

    /// Takes a revocation by a call back. False = there is none.
    pub fn restore(&self, revocation: &Revocation) -> bool {
        self.revocations.restore(revocation)
    }

    /// The apps that a key holds in, if there is one of this id.
    pub fn apps_of_key(&self, id: &str) -> Option<Apps> {
        self.settings.read().keys.entry(id).map(|entry| entry.apps.clone())
    }

    /// The revocations by calls: a page as [`Revocations::page`] says.
    pub fn revocations(
        &self,
        after: &str,
        most: usize,
    ) -> (Vec<(Revocation, Micros)>, Option<String>) {
        self.revocations.page(after, most)
    }

    /// Reads all files again. Where something is wrong, everything stays as it is.
    pub fn reload(&self) -> Result<(), Vec<Fault>> {
        let mut seen = self.seen.lock();
        let old: Vec<_> = self.settings.read().sources().cloned().collect();
        let (files, settings) = Settings::read(&self.path, &old);
        // The files that hold are watched too, even if a faulty file no longer names them.
        seen.files.extend(&files);
        let settings = settings.inspect_err(|faults| seen.faults.clone_from(faults))?;
        *seen = Seen { files, faults: Vec::new() };
        let revoked = settings.revoked.clone();
        *self.settings.write() = Arc::new(settings);
        self.revocations.set(revoked);
        self.next_generation();
        *self.missing.lock() = true;
        self.wake.notify_all();
        Ok(())
    }

    /// Reads all files again if one of them changed, and logs what came of it. A fault is logged once.
    pub fn reload_if_changed(&self) {
        let known = {
            let seen = self.seen.lock();
            if !seen.files.have_changed() {
                return;
            }
            seen.faults.clone()
        };
        match self.reload() {
            Ok(()) => tracing::info!(file = %self.path.display(), "identity: read again"),
            Err(faults) => {
                for fault in faults.iter().filter(|fault| !known.contains(fault)) {
                    tracing::error!(%fault, "identity: what was read before stays in force");
                }
            }
        }
    }

    /// Reads keys at URLs that are due, and says when the next ones are. Blocks.
    pub fn fetch_due(&self, now: Micros) -> Option<Micros> {
        let settings = self.settings.read().clone();
        for source in settings.sources() {
            if !source.begin(now) {
                continue;
            }
            // What follows may be secret.
            let url = source.settings.url.split(['?', '#']).next();
            match source.end(fetch::read(&source.settings), now) {
                News::Changed(keys) => {
                    self.next_generation();
                    tracing::info!(url, keys, "identity: new keys");
                }
                News::Recovered => tracing::info!(url, "identity: the keys can be read again"),
                News::Failed(reason) if source.keys(now).is_none() => {
                    tracing::error!(
                        url,
                        reason,
                        "identity: keys cannot be read; there are none yet"
                    );
                }
                News::Failed(reason) => {
                    tracing::error!(url, reason, "identity: keys cannot be read; old ones stay");
                }
                News::Lost => {
                    self.next_generation();
                    tracing::error!(
                        url,
                        "identity: keys have not been read for max-age: none hold"
                    );
                }
                News::Same | News::StillFailing => {}
            }
        }
        self.revocations.forget(now);
        settings.sources().map(|source| source.due()).min()
    }

    /// Starts the threads that read changed files and keys at URLs. They end when nothing else holds
    /// the identity.
    pub fn watch(self: &Arc<Self>) -> io::Result<()> {
        let of_files = Arc::downgrade(self);
        thread::Builder::new().name("identity-files".into()).spawn(move || {
            while let Some(identity) = Weak::upgrade(&of_files) {
                identity.reload_if_changed();
                drop(identity);
                thread::sleep(LOOK_INTERVAL);
            }
        })?;
        let of_urls = Arc::downgrade(self);
        thread::Builder::new().name("identity-keys".into()).spawn(move || {
            while let Some(identity) = Weak::upgrade(&of_urls) {
                let now = now();
                let due = identity.fetch_due(now).unwrap_or(Micros::MAX);
                let wait = Duration::from_micros(due.saturating_sub(now)).min(LOOK_INTERVAL);
                let mut missing = identity.missing.lock();
                if !std::mem::take(&mut *missing) {
                    identity.wake.wait_for(&mut missing, wait);
                    *missing = false;
                }
            }
        })?;
        Ok(())
    }
}

/// The present.
pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}

/// What stands behind `Bearer`, a word without regard to case.
fn bearer(value: &[u8]) -> Result<&[u8], Denied> {
    let (scheme, rest) = value.split_at_checked(6).ok_or(Denied::Scheme)?;
    let rest = rest.strip_prefix(b" ").filter(|_| scheme.eq_ignore_ascii_case(b"bearer"));
    let credential = rest.ok_or(Denied::Scheme)?.trim_ascii_start();
    if credential.is_empty() { Err(Denied::Scheme) } else { Ok(credential) }
}
