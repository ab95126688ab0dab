//! Webhooks: what happens is pushed to the URLs of the operator, signed and tried again.
//!
//! A webhook reads the journals of its apps as a watcher does ([`crate::engine::EventWatch`]), one
//! thread for all of them, and what it has read waits in a [`queue`] that few threads work off. So
//! nothing that happens waits for a webhook, and a URL that does not answer costs no more than its
//! queue.

mod json;
mod queue;
mod reader;
mod sender;
mod settings;
mod signature;

use crate::{
    engine::Engine,
    identity::{Fault, fetch},
    session::limits::Micros,
};
use parking_lot::{Condvar, Mutex};
use queue::{Queue, Retry};
use settings::WebhookSettings;
use std::{
    io,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// The webhooks of a server, which runs threads for them.
#[derive(Debug, Default)]
pub struct Webhooks(Vec<Running>);

#[derive(Debug)]
struct Running {
    webhook: Arc<Webhook>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// One webhook.
#[derive(Debug)]
struct Webhook {
    settings: Arc<WebhookSettings>,
    engine: Engine,
    agent: ureq::Agent,
    state: Mutex<State>,
    /// Something has changed: there may be something to deliver, or room.
    changed: Condvar,
    bell: Arc<reader::Bell>,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    /// Nothing more is read or sent.
    is_over: bool,
    /// Its last delivery failed, which was logged.
    is_failing: bool,
    /// It has lost events since its last success, which was logged.
    is_losing: bool,
}

/// Webhooks as their file says them, all of it right.
#[derive(Debug, Clone, Default)]
pub struct Plan(Vec<(Arc<WebhookSettings>, ureq::Agent)>);

impl Plan {
    /// Reads the file. Every fault is reported.
    pub fn read(path: &Path) -> Result<Self, Vec<Fault>> {
        let plan = settings::read(path)?.into_iter().map(|webhook| {
            let WebhookSettings { url, authorities, timeout, .. } = &webhook;
            let agent = fetch::agent(url, authorities.as_deref(), Duration::from_micros(*timeout));
            agent.map(|agent| (Arc::new(webhook), agent)).map_err(|fault| vec![Fault(fault)])
        });
        plan.collect::<Result<_, _>>().map(Self)
    }
}

impl Webhooks {
    /// Begins to push what happens from the start of the server on.
    pub fn start(plan: Plan, engine: &Engine) -> io::Result<Self> {
        let mut all = Self::default();
        for (settings, agent) in plan.0 {
            let span = |micros: Micros| Duration::from_micros(micros);
            let retry =
                Retry { delay: span(settings.retry_delay), within: span(settings.retry_for) };
            let (queue, concurrency) = (Queue::new(retry), settings.concurrency);
            let state = State { queue, is_over: false, is_failing: false, is_losing: false };
            let webhook = Arc::new(Webhook {
                settings,
                engine: engine.clone(),
                agent,
                state: Mutex::new(state),
                changed: Condvar::new(),
                bell: Arc::default(),
            });
            let mut threads = Vec::new();
            let mut spawn = |work: fn(&Webhook)| {
                let webhook = webhook.clone();
                let thread = thread::Builder::new().name("webhook".to_owned());
                thread.spawn(move || work(&webhook)).map(|thread| threads.push(thread))
            };
            spawn(Webhook::read_on)?;
            for _ in 0..concurrency {
                spawn(Webhook::send_on)?;
            }
            all.0.push(Running { webhook, threads });
        }
        Ok(all)
    }

    /// Ends them: what waits is still delivered until then, unless it has failed before. Blocks.
    pub fn stop(self, ends_at: Instant) {
        for Running { webhook, .. } in &self.0 {
            webhook.bell.ring();
            let mut state = webhook.state.lock();
            while !(webhook.bell.is_quiet() && state.queue.is_idle()) && Instant::now() < ends_at {
                let soon = Instant::now() + Duration::from_millis(20);
                webhook.changed.wait_until(&mut state, soon.min(ends_at));
            }
            state.is_over = true;
            drop(state);
            webhook.changed.notify_all();
            webhook.bell.ring();
        }
        // A request under way ends by its timeout, and nobody waits for it.
        drop(self);
    }
}

impl Drop for Webhooks {
    fn drop(&mut self) {
        for Running { webhook, threads } in &mut self.0 {
            webhook.state.lock().is_over = true;
            webhook.changed.notify_all();
            webhook.bell.ring();
            threads.clear();
        }
    }
}
