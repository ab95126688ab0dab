//! A backend that has a say: asked within bounds, and what it said remembered for a while.

use super::{
    breaker::{Breaker, News},
    cache::Cache,
    call::{Calls, Line},
    settings::HookSettings,
};
use crate::{
    engine::Clock,
    identity::Apps,
    proto::{AuthorizeRequest, AuthorizeResponse},
    session::{
        judging::Operations,
        limits::{Micros, SECOND},
        role::Role,
    },
};
use aws_lc_rs::digest;
use parking_lot::Mutex;
use prost::Message;
use rustc_hash::FxHashMap;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, time::timeout};

/// How many questions about the same user a hook is asked at a time: more fail, so that one user does
/// not take the places of all others.
const PER_USER: usize = 16;

/// A user of an app.
type Who = (String, String);

/// A hook.
#[derive(Debug)]
pub struct Hook {
    settings: HookSettings,
    line: Line,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// How many questions there are about each user of an app.
    users: Mutex<FxHashMap<Who, usize>>,
    breaker: Mutex<Breaker>,
    cache: Mutex<Cache>,
}

impl Hook {
    /// A hook that nobody has asked yet.
    pub fn new(calls: &Calls, settings: HookSettings) -> Result<Self, String> {
        let HookSettings { address, authorities, timeout, secret, .. } = &settings;
        let timeout = Duration::from_micros(*timeout);
        let line = Line::new(calls, address, authorities.as_deref(), timeout, secret.clone())?;
        Ok(Self {
            line,
            places: Arc::new(Semaphore::new(settings.max_concurrent)),
            waiting: AtomicUsize::new(0),
            users: Mutex::default(),
            breaker: Mutex::new(Breaker::new(settings.failures, settings.open_for)),
            cache: Mutex::new(Cache::new(settings.cache)),
            settings,
        })
    }

    /// How it is called.
    pub fn name(&self) -> &Arc<str> {
        &self.settings.name
    }

    /// What it has a say in.
    pub fn on(&self) -> Operations {
        self.settings.on
    }

    /// In which apps.
    pub fn apps(&self) -> &Apps {
        &self.settings.apps
    }

    /// The highest role that it may give.
    pub fn max_role(&self) -> Role {
        self.settings.max_role
    }

    /// Whether what is asked for passes where it cannot be asked.
    pub fn lets_pass(&self) -> bool {
        self.settings.lets_pass
    }

    /// Asks, and takes what it says; an answer that cannot be taken is a failure. Fails with the time
    /// after which it is worth trying again.
    pub async fn ask<T>(
        &self,
        clock: &Clock,
        question: AuthorizeRequest,
        take: impl Fn(AuthorizeResponse) -> Result<T, String>,
    ) -> Result<T, Micros> {
        let key = self.cache.lock().is_used().then(|| key(&question));
        let known = key.as_ref().and_then(|key| self.cache.lock().find(key, clock.now()));
        if let Some(taken) = known.and_then(|known| take((*known).clone()).ok()) {
            return Ok(taken);
        }
        let _one = OfUser::begin(&self.users, &question).ok_or(SECOND)?;
        self.breaker.lock().begin(clock.now())?;
        let mut call = Begun { hook: self, clock, is_over: false };
        let span = Duration::from_micros(self.settings.timeout);
        let answer = timeout(span, self.call(question, clock)).await;
        call.is_over = true;
        let answer = answer.unwrap_or_else(|_| Err(Failure::Call("it did not answer".to_owned())));
        let taken = answer.and_then(|answer| {
            let taken = take(answer.clone()).map_err(Failure::Call)?;
            Ok((answer, taken))
        });
        match taken {
            Ok((answer, taken)) => {
                let news = self.breaker.lock().succeeded();
                self.note(news);
                if let Some(key) = key {
                    self.cache.lock().put(key, answer, clock.now());
                }
                Ok(taken)
            }
            Err(Failure::Busy) => {
                self.breaker.lock().given_up(clock.now());
                tracing::warn!(hook = &**self.name(), "too much waits for a hook");
                Err(SECOND)
            }
            Err(Failure::Call(reason)) => {
                tracing::warn!(hook = &**self.name(), reason, "a hook failed");
                let news = self.breaker.lock().failed(clock.now());
                self.note(news);
                Err(SECOND)
            }
        }
    }

    async fn call(
        &self,
        question: AuthorizeRequest,
        clock: &Clock,
    ) -> Result<AuthorizeResponse, Failure> {
        let place = match self.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                let _waits = Waits::begin(&self.waiting, self.settings.max_waiting)?;
                self.places.clone().acquire_owned().await.map_err(|_| Failure::Busy)?
            }
        };
        self.line.ask(question, place, clock.now()).await.map_err(Failure::Call)
    }

    fn note(&self, news: News) {
        let hook = &**self.name();
        match news {
            News::None => {}
            News::Opened => tracing::warn!(hook, "a hook fails, and is not asked for a while"),
            News::Closed => tracing::info!(hook, "a hook that failed answers again"),
        }
    }
}

/// Why nothing was said.
enum Failure {
    /// Too many wait already.
    Busy,
    /// The call failed.
    Call(String),
}

/// A call that has begun. Given up, nothing is known of it.
struct Begun<'a> {
    hook: &'a Hook,
    clock: &'a Clock,
    is_over: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.hook.breaker.lock().given_up(self.clock.now());
        }
    }
}

/// One of the questions about a user.
struct OfUser<'a> {
    users: &'a Mutex<FxHashMap<Who, usize>>,
    who: Who,
}

impl<'a> OfUser<'a> {
    /// None if there are as many as there may be.
    fn begin(users: &'a Mutex<FxHashMap<Who, usize>>, question: &AuthorizeRequest) -> Option<Self> {
        let who = (question.app.clone(), question.user_id.clone());
        let mut counts = users.lock();
        let count = counts.entry(who.clone()).or_default();
        if *count >= PER_USER {
            return None;
        }
        *count += 1;
        Some(Self { users, who })
    }
}

impl Drop for OfUser<'_> {
    fn drop(&mut self) {
        let mut counts = self.users.lock();
        if let Some(count) = counts.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.who);
            }
        }
    }
}

/// One of those who wait for a place.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(waiting: &'a AtomicUsize, most: usize) -> Result<Self, Failure> {
        let waits = Self(waiting);
        match waiting.fetch_add(1, Ordering::Relaxed) < most {
            true => Ok(waits),
            false => Err(Failure::Busy),
        }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The hash of a question: equal ones have equal bytes.
fn key(question: &AuthorizeRequest) -> super::cache::Key {
    let mut key = [0; 32];
    let hash = digest::digest(&digest::SHA256, &question.encode_to_vec());
    key.copy_from_slice(hash.as_ref());
    key
}
