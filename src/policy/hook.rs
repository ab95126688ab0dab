//! A backend that has a say: asked within bounds, and what it said remembered for a while.

use super::{
    breaker::{Breaker, News},
    cache::Cache,
    call::Line,
    lanes::{Lanes, Question},
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
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// A hook.
#[derive(Debug)]
pub struct Hook {
    settings: HookSettings,
    line: Line,
    lanes: Arc<Lanes>,
    cache: Mutex<Cache>,
}

impl Hook {
    /// A hook that nobody has asked yet.
    pub fn new(settings: HookSettings) -> Result<Self, String> {
        let HookSettings { address, authorities, timeout, secret, bounds, .. } = &settings;
        let (timeout, most) = (Duration::from_micros(*timeout), bounds.all_places());
        let line = Line::new(address, most, authorities.as_deref(), timeout, secret.clone())?;
        let breaker = Breaker::new(settings.failures, settings.open_for);
        Ok(Self {
            line,
            lanes: Lanes::new(settings.bounds, breaker),
            cache: Mutex::new(Cache::new(settings.cache)),
            settings,
        })
    }

    /// Whether it is set to just this.
    pub fn is_set_to(&self, settings: &HookSettings) -> bool {
        self.settings == *settings
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
        let begun = self.lanes.begin(&question.app, &question.user_id, clock.now())?;
        let span = Duration::from_micros(self.settings.timeout);
        let answer = timeout(span, self.call(&begun, question, clock)).await;
        let answer = answer.unwrap_or_else(|_| Err(Failure::Call("it did not answer".to_owned())));
        let taken = answer.and_then(|answer| {
            let taken = take(answer.clone()).map_err(Failure::Call)?;
            Ok((answer, taken))
        });
        match taken {
            Ok((answer, taken)) => {
                begun.succeeded(|app, news| self.note(app, news));
                if let Some(key) = key {
                    self.cache.lock().put(key, answer, clock.now());
                }
                Ok(taken)
            }
            Err(Failure::Busy) => {
                let app = begun.app();
                tracing::warn!(hook = &**self.name(), app, "too much waits for a hook");
                Err(SECOND)
            }
            Err(Failure::Call(reason)) => {
                let app = begun.app();
                tracing::warn!(hook = &**self.name(), app, fault = reason, "a hook failed");
                begun.failed(clock.now(), |app, news| self.note(app, news));
                Err(SECOND)
            }
        }
    }

    async fn call(
        &self,
        begun: &Question,
        question: AuthorizeRequest,
        clock: &Clock,
    ) -> Result<AuthorizeResponse, Failure> {
        let place = begun.place().await.map_err(|_| Failure::Busy)?;
        self.line.ask(question, place, clock.now()).await.map_err(Failure::Call)
    }

    fn note(&self, app: &str, news: News) {
        let hook = &**self.name();
        match news {
            News::None => {}
            News::Opened => {
                tracing::warn!(hook, app, "a hook fails in an app, and is not asked for a while");
            }
            News::Closed => tracing::info!(hook, app, "a hook that failed in an app answers again"),
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

/// The hash of a question: equal ones have equal bytes.
fn key(question: &AuthorizeRequest) -> super::cache::Key {
    let mut key = [0; 32];
    let hash = digest::digest(&digest::SHA256, &question.encode_to_vec());
    key.copy_from_slice(hash.as_ref());
    key
}
