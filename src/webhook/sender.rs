//! The threads that deliver.

use super::{
    Webhook, json,
    queue::{Batch, Kept},
    signature,
};
use crate::identity::{self, fetch};
use std::{mem, time::Instant};

/// The header that names a delivery; it is the same whenever that is tried again.
const DELIVERY: &str = "sessiond-delivery";

/// How much of an answer is read, so that the connection can be used again. It says nothing.
const ANSWER_BYTES: u64 = 64 << 10;

impl Webhook {
    /// Delivers what waits, until the webhook is over.
    pub fn send_on(&self) {
        loop {
            let batch = {
                let mut state = self.state.lock();
                loop {
                    if state.is_over {
                        return;
                    }
                    let now = Instant::now();
                    if let Some(batch) = state.queue.take(now) {
                        break batch;
                    }
                    match state.queue.next_due() {
                        Some(due) => drop(self.changed.wait_until(&mut state, due)),
                        None => self.changed.wait(&mut state),
                    }
                }
            };
            let outcome = self.deliver(&batch);
            self.note(&batch, outcome);
        }
    }

    /// Whether a delivery was taken, or why not.
    fn deliver(&self, batch: &Batch) -> Result<(), String> {
        let body = json::delivery(self.engine.process(), &batch.events, batch.gap.as_ref())?;
        let seconds = identity::now() / 1_000_000;
        let request = self
            .agent
            .post(&self.settings.url)
            .header("content-type", "application/json")
            .header(DELIVERY, batch.name(self.engine.process()))
            .header(signature::HEADER, signature::sign(&self.settings.secrets, seconds, &body));
        let mut response = request.send(&body[..]).map_err(|error| fetch::reason_of(&error))?;
        let status = response.status();
        let _ = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec();
        match status {
            status if status.is_success() => Ok(()),
            status if status.is_redirection() => {
                Err(format!("it answers {status}: redirects are not followed"))
            }
            status => Err(format!("it answers {status}")),
        }
    }

    /// Logs the first failure, the first loss, and that it goes on: not each of many.
    fn note(&self, batch: &Batch, outcome: Result<(), String>) {
        let webhook = &*self.settings.name;
        let mut state = self.state.lock();
        let kept = state.queue.done(batch, outcome.is_ok(), Instant::now());
        // Others of its sessions may fail still.
        let is_failing = outcome.is_err() || state.is_failing && state.queue.has_failing();
        let was_failing = mem::replace(&mut state.is_failing, is_failing);
        let is_new_loss = kept == Kept::Lost && !mem::replace(&mut state.is_losing, true);
        if outcome.is_ok() {
            state.is_losing = false;
        }
        drop(state);
        // There may be room, and the lane may have more.
        self.changed.notify_all();
        match outcome {
            Ok(()) if was_failing && !is_failing => {
                tracing::info!(webhook, "webhook: it takes events again")
            }
            Err(reason) if !was_failing => {
                tracing::warn!(webhook, reason, "webhook: a delivery failed and is tried again");
            }
            _ => {}
        }
        if is_new_loss {
            tracing::error!(webhook, "webhook: events are lost; their receiver will be told");
        }
    }
}

impl Batch {
    /// Names the delivery: it is as unique as its first event, or else as its gap.
    pub fn name(&self, process: u64) -> String {
        match (self.events.first(), &self.gap) {
            (Some(event), _) => event.name(process),
            (None, gap) => {
                let number = gap.as_ref().map_or(0, |gap| gap.number);
                format!("{process:016x}-gap-{number:x}")
            }
        }
    }
}
