//! The streams of subscribers at the node that owns their sessions.

use crate::{
    call::Request,
    common::{Core, ToClient, Told},
    held::Part,
};
use sessiond::{
    cluster::BootMicros,
    engine::{Delivery, End, Options, Refusal, Resume, SessionKey, Step, Subscription},
    log::NodeId,
    session::{
        command::Actor,
        ids::SessionId,
        limits::{Micros, SECOND},
    },
};
use std::{
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

/// How often a connection shows that it is there.
const ALIVE: Micros = SECOND;

#[derive(Default)]
pub struct Streams(Vec<Stream>);

struct Stream {
    number: u64,
    entry: Option<(usize, NodeId)>,
    part: Arc<Part>,
    subscription: Subscription,
    /// When the last arrives that was sent, and when it was sent.
    last: (Micros, Micros),
}

impl Streams {
    pub fn open(
        &mut self,
        core: &mut Core,
        node: usize,
        (number, entry): (u64, Option<(usize, NodeId)>),
        part: Arc<Part>,
        request: &Request,
        resume: Option<Resume>,
    ) {
        let key = SessionKey::Id(request.session.clone());
        // A resumed subscriber goes on as it began.
        let delivery = delivery_of(&request.session);
        let options = Options { resume, delivery, ..Options::default() };
        let opened = part
            .engine
            .find(&request.app, Some(&key), &Actor::App)
            .and_then(|live| part.engine.subscribe(&live, &Actor::App, None, options));
        match opened {
            Ok(subscription) => {
                self.0.push(Stream { number, entry, part, subscription, last: (0, core.now) });
            }
            Err(refusal) => {
                let told = match refusal {
                    refusal if refusal.is_not_found() => Told::NotFound,
                    Refusal::Draining => Told::Lost,
                    refusal => {
                        core.wrong(format_args!("a subscriber is refused: {refusal:?}"));
                        Told::Lost
                    }
                };
                core.reply(node, entry, 0, ToClient::Stream(number, core.now, told));
            }
        }
    }

    /// Sends what there is.
    pub fn run(&mut self, core: &mut Core, node: usize, now: BootMicros) {
        self.0.retain_mut(|stream| stream.run(core, node, now));
    }
}

/// Subscribers of some sessions read props by name, those of others in columns.
fn delivery_of(session: &SessionId) -> Delivery {
    match session.bytes().map(u64::from).sum::<u64>() % 2 {
        0 => Delivery::Latest,
        _ => Delivery::Columns,
    }
}

impl Stream {
    /// Whether it goes on.
    fn run(&mut self, core: &mut Core, node: usize, now: BootMicros) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let step = self.subscription.poll_step(&mut cx);
            // What was made before the right was lost may have been made after that, too.
            if !self.part.may_answer(now, core.plant) {
                self.say(core, node, Told::Lost);
                return false;
            }
            let told = match step {
                Poll::Ready((Step::Update(update), _)) => {
                    Told::Messages(update.messages.iter().map(|it| it.bytes.clone()).collect())
                }
                Poll::Ready((Step::Heartbeat | Step::Quiet, at)) => Told::Heartbeat(at),
                Poll::Ready((Step::Ended(End::Draining), _)) => Told::Lost,
                Poll::Ready((Step::Ended(End::Deleted), _)) => Told::Ended,
                Poll::Ready((Step::Ended(end), _)) => {
                    core.wrong(format_args!("the app's stream ends: {end:?}"));
                    Told::Ended
                }
                Poll::Pending if self.part.stops.load(Ordering::Relaxed) => Told::Lost,
                Poll::Pending if core.now >= self.last.1 + ALIVE => Told::Alive,
                Poll::Pending => return true,
            };
            let goes_on = !matches!(told, Told::Ended | Told::Lost);
            if !(self.say(core, node, told) && goes_on) {
                return false;
            }
        }
    }

    /// Whether the connection is there.
    fn say(&mut self, core: &mut Core, node: usize, told: Told) -> bool {
        let message = ToClient::Stream(self.number, core.now, told);
        let Some(arrives) = core.reply(node, self.entry, self.last.0, message) else {
            return false;
        };
        self.last = (arrives, core.now);
        true
    }
}
