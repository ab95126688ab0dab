//! Passwords are hashed and compared on threads of their own: it takes longer than a tick.
//!
//! The threads have the lowest priority, there are few of them, and few passwords wait for them, so
//! that however many come nobody else is held up. What is guessed is counted where it is hashed, not
//! where it comes in: of those that come at once no more are hashed than may be wrong.

use super::error::Refusal;
use super::{
    Clock,
    apps::{App, AppLimit, Lanes},
    guesses::{Guess, Guesses, Peer},
    priority,
};
use crate::session::{
    limits::{Micros, SECOND},
    password::PasswordHash,
};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::{fmt, io, sync::Arc, thread, time::Instant};
use tokio::sync::oneshot;

/// How many passwords wait at most.
const WAITING: usize = 1024;

/// How many passwords of one app wait at most. Apps take turns, so that it holds back no other one.
const WAITING_PER_APP: usize = 256;

/// How many passwords of one peer wait at most, so that it leaves room for others.
const WAITING_PER_PEER: usize = 32;

/// When those come again for whom there was no room: half of what waits is done by then.
const RETRY_AFTER: Micros = 2 * SECOND;

/// Bytes of salt before the hash.
const SALT: usize = 16;

/// Bytes of a hash.
const HASH: usize = 32;

/// A password as somebody typed it. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<str>);

impl From<&str> for Password {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a hash costs anybody who makes one, guessers included.
#[derive(Debug, Clone, Copy)]
pub struct HashCost {
    /// Memory that it fills, in KiB.
    pub memory_kib: u32,
    /// How many times it does.
    pub passes: u32,
}

impl HashCost {
    /// What OWASP recommends for argon2id.
    pub const RECOMMENDED: Self = Self { memory_kib: 19 * 1024, passes: 2 };

    /// As little as there can be: for tests, which have nothing to protect.
    pub const LEAST: Self = Self { memory_kib: Params::MIN_M_COST, passes: 1 };
}

/// The threads that hash, and what they have to do.
#[derive(Debug)]
pub struct Passwords {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    hasher: Hasher,
    guesses: Mutex<Guesses>,
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: Lanes<Job>,
    held: bool,
    closed: bool,
}

#[derive(Debug)]
enum Job {
    Hash {
        app: Arc<App>,
        password: Password,
        peer: Peer,
        done: oneshot::Sender<PasswordHash>,
    },
    Compare {
        app: Arc<App>,
        password: Password,
        with: Compared,
        done: oneshot::Sender<Result<bool, Refusal>>,
    },
}

/// What a password is compared with.
#[derive(Debug)]
pub struct Compared {
    /// The hash of the right one; none = there is no right one, which takes as long to find out.
    pub hash: Option<PasswordHash>,
    /// Who guesses, if it is one.
    pub guess: Guess,
    /// When.
    pub now: Micros,
}

impl Passwords {
    /// Starts the threads.
    pub fn start(threads: usize, cost: HashCost, clock: Clock) -> io::Result<Self> {
        let inner = Arc::new(Inner {
            clock,
            hasher: Hasher::new(cost),
            guesses: Mutex::default(),
            queue: Mutex::default(),
            ready: Condvar::new(),
        });
        let passwords = Self { inner };
        for number in 0..threads {
            let inner = passwords.inner.clone();
            let name = format!("passwords-{number}");
            thread::Builder::new().name(name).spawn(move || inner.work())?;
        }
        Ok(passwords)
    }

    /// Hashes a new password of an app that came from somewhere.
    pub async fn hash(
        &self,
        app: Arc<App>,
        password: Password,
        peer: Peer,
    ) -> Result<PasswordHash, Refusal> {
        let (done, hash) = oneshot::channel();
        self.inner.add(Job::Hash { app, password, peer, done })?;
        hash.await.map_err(|_| Refusal::Draining)
    }

    /// Whether a password is the right one; refused if it may not be guessed now.
    pub async fn compare(
        &self,
        app: Arc<App>,
        password: Password,
        with: Compared,
    ) -> Result<bool, Refusal> {
        self.inner.guesses.lock().check(&with.guess, with.now)?;
        let (done, outcome) = oneshot::channel();
        self.inner.add(Job::Compare { app, password, with, done })?;
        outcome.await.map_err(|_| Refusal::Draining)?
    }

    /// Nothing more is taken up while this is held, for a test of what happens meanwhile.
    pub fn hold(&self) -> Held<'_> {
        self.inner.queue.lock().held = true;
        Held(&self.inner)
    }

    /// How many passwords wait for whom an answer still matters.
    pub fn waiting(&self) -> usize {
        self.inner.queue.lock().jobs.iter().filter(|job| !job.is_given_up()).count()
    }
}

/// See [`Passwords::hold`].
#[derive(Debug)]
pub struct Held<'a>(&'a Inner);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.queue.lock().held = false;
        self.0.ready.notify_all();
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        let mut queue = self.inner.queue.lock();
        queue.closed = true;
        queue.jobs.clear();
        self.inner.ready.notify_all();
    }
}

impl Inner {
    fn add(&self, job: Job) -> Result<(), Refusal> {
        let (app, peer) = (job.app().clone(), job.peer());
        app.check_owed(AppLimit::PasswordTime, self.clock.now(), 0)?;
        let mut queue = self.queue.lock();
        if queue.bound_met(&app, peer).is_some() {
            // A caller who has gone away does not wait any more.
            queue.jobs.retain(|job| !job.is_given_up());
        }
        if let Some((limit, most)) = queue.bound_met(&app, peer) {
            return Err(Refusal::PasswordsBusy { limit, most, retry_after: RETRY_AFTER });
        }
        queue.jobs.push(&app, job);
        self.ready.notify_one();
        Ok(())
    }

    /// One thread's life.
    fn work(&self) {
        priority::lower();
        let mut memory = Vec::new();
        while let Some(job) = self.next(&mut memory) {
            let (app, began) = (job.app().clone(), Instant::now());
            self.done(job, &mut memory);
            let took = began.elapsed().as_micros() as u64;
            app.spend(AppLimit::PasswordTime, self.clock.now(), took);
        }
    }

    /// The next job, if there will be one. The memory is given back while there is none.
    fn next(&self, memory: &mut Vec<Block>) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return None;
            }
            if !queue.held
                && let Some(job) = queue.jobs.pop()
            {
                return Some(job);
            }
            if memory.capacity() > 0 {
                MutexGuard::unlocked(&mut queue, || *memory = Vec::new());
            } else {
                self.ready.wait(&mut queue);
            }
        }
    }

    fn done(&self, job: Job, memory: &mut Vec<Block>) {
        if job.is_given_up() {
            return;
        }
        // The caller who waited may be gone: then nobody hears of it.
        match job {
            Job::Hash { password, done, .. } => {
                let _ = done.send(self.hasher.hash(&password, memory));
            }
            Job::Compare { password, with: Compared { hash, guess, now }, done, .. } => {
                let taken = self.guesses.lock().take(&guess, now);
                let _ = done.send(taken.map(|()| {
                    let is_right = self.hasher.is_hash_of(hash.as_ref(), &password, memory);
                    if is_right {
                        self.guesses.lock().give_back(&guess);
                    }
                    is_right
                }));
            }
        }
    }
}

impl Queue {
    /// Which bound leaves no room for another password of an app from a peer, and what it is.
    fn bound_met(&self, app: &Arc<App>, peer: Peer) -> Option<(&'static str, usize)> {
        if self.jobs.len() >= WAITING {
            return Some(("password-queue", WAITING));
        }
        if self.jobs.len_of(app) >= WAITING_PER_APP {
            return Some(("password-queue-per-app", WAITING_PER_APP));
        }
        let waiting = self.jobs.iter().filter(|job| job.peer() == peer).count();
        (waiting >= WAITING_PER_PEER).then_some(("password-queue-per-address", WAITING_PER_PEER))
    }
}

impl Job {
    fn app(&self) -> &Arc<App> {
        match self {
            Self::Hash { app, .. } | Self::Compare { app, .. } => app,
        }
    }

    fn peer(&self) -> Peer {
        match self {
            Self::Hash { peer, .. } => *peer,
            Self::Compare { with, .. } => with.guess.peer,
        }
    }

    fn is_given_up(&self) -> bool {
        match self {
            Job::Hash { done, .. } => done.is_closed(),
            Job::Compare { done, .. } => done.is_closed(),
        }
    }
}

/// Hashes with argon2id.
struct Hasher {
    argon2: Argon2<'static>,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

impl Hasher {
    fn new(HashCost { memory_kib, passes }: HashCost) -> Self {
        let params = Params::new(memory_kib, passes, 1, Some(HASH));
        let params = params.expect("the costs that there are are within what argon2 takes");
        Self { argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params) }
    }

    /// The salt and the hash.
    fn hash(&self, password: &Password, memory: &mut Vec<Block>) -> PasswordHash {
        let mut bytes = [0; SALT + HASH];
        let (salt, hash) = bytes.split_at_mut(SALT);
        getrandom::fill(salt).expect("the system has randomness");
        hash.copy_from_slice(&self.hash_with(salt, password, memory));
        PasswordHash::new(&bytes)
    }

    fn is_hash_of(
        &self,
        hash: Option<&PasswordHash>,
        password: &Password,
        memory: &mut Vec<Block>,
    ) -> bool {
        let none = [0; SALT + HASH];
        let (salt, known) = hash.map_or(&none[..], PasswordHash::as_bytes).split_at(SALT);
        let guessed = self.hash_with(salt, password, memory);
        // All of it is looked at, however much is equal.
        let differs = guessed.iter().zip(known).fold(0, |differs, (a, b)| differs | (a ^ b));
        hash.is_some() && differs == 0
    }

    fn hash_with(&self, salt: &[u8], password: &Password, memory: &mut Vec<Block>) -> [u8; HASH] {
        memory.resize(self.argon2.params().block_count(), Block::new());
        let mut hash = [0; HASH];
        let password = password.0.as_bytes();
        let hashed = self.argon2.hash_password_into_with_memory(password, salt, &mut hash, memory);
        hashed.expect("salt, hash and memory have the sizes that argon2 takes");
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashed(hasher: &Hasher, password: &str) -> PasswordHash {
        hasher.hash(&password.into(), &mut Vec::new())
    }

    #[test]
    fn a_hash_is_of_its_password_only() {
        let hasher = Hasher::new(HashCost::LEAST);
        let mut memory = Vec::new();
        let hash = hashed(&hasher, "secret");
        for (password, is_right) in [("secret", true), ("Secret", false), ("secret ", false)] {
            assert_eq!(hasher.is_hash_of(Some(&hash), &password.into(), &mut memory), is_right);
        }
        assert!(!hasher.is_hash_of(None, &"secret".into(), &mut memory));
    }

    #[test]
    fn two_hashes_of_one_password_differ() {
        let hasher = Hasher::new(HashCost::LEAST);
        assert_ne!(hashed(&hasher, "secret"), hashed(&hasher, "secret"));
    }

    #[test]
    fn what_is_left_in_the_memory_changes_no_hash() {
        let hasher = Hasher::new(HashCost::LEAST);
        let mut memory = Vec::new();
        let fresh = hasher.hash_with(&[1; SALT], &"secret".into(), &mut memory);
        hasher.hash_with(&[2; SALT], &"other".into(), &mut memory);
        assert_eq!(hasher.hash_with(&[1; SALT], &"secret".into(), &mut memory), fresh);
    }

    #[test]
    fn nothing_prints_a_password() {
        let password = Password::from("secret");
        let hash = hashed(&Hasher::new(HashCost::LEAST), "secret");
        assert_eq!(format!("{password:?} {hash:?}"), "*** ***");
    }
}
