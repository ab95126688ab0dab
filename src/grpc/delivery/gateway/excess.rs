//! What waits because a user of a gateway, or its app, writes faster than it may.

use super::{Gateway, Server};
use crate::grpc::error::Refusal;
use crate::session::error::{Rate, Refusal as Rule};
use crate::{
    engine::{self, Attachment},
    grpc::delivery::{
        backlog::{Backlog, Messages, Place},
        stream::Moment,
    },
    session::{
        command::{Command, Write},
        limits::{Micros, SECOND},
    },
};
use rustc_hash::FxHashMap;

/// How long what waits does so at least: a tick by default.
const LEAST_WAIT: Micros = 10_000;

/// What waits of each user, by its handle.
#[derive(Debug, Default)]
pub struct Excess(FxHashMap<u32, Backlog>);

impl Excess {
    /// Takes one update of a user out of its bucket, unless something of it waits: nothing overtakes
    /// that.
    pub fn take_update(
        &self,
        user: &Attachment,
        handle: u32,
        now: Micros,
    ) -> Result<(), engine::Refusal> {
        if !self.0.contains_key(&handle) {
            return user.take_update(now);
        }
        let per_second = user.max_updates_per_second();
        let retry_after = SECOND / per_second.clamp(1, SECOND);
        Err(Rule::RateLimited { rate: Rate::Updates, per_second, retry_after }.into())
    }

    /// The last message before all that waits.
    pub fn after(&self) -> Option<u64> {
        self.0.values().filter_map(Backlog::after).min()
    }

    /// Has a plain write wait; refused if it would be in the end, or as over the rate if too much
    /// waits.
    pub fn add(
        &mut self,
        server: &Server,
        user: &Attachment,
        handle: u32,
        messages: Messages,
        write: Write,
        limited: Refusal,
    ) -> Result<(), Refusal> {
        let actor = user.actor();
        let check = |write: &Write| user.live().lock().core.check_write(&actor, user.user(), write);
        let backlog = self.0.entry(handle).or_default();
        let outcome = match check(&write) {
            // Whether there is room depends on what waits before it.
            Err(refusal) if backlog.is_empty() || !matches!(refusal, Rule::LimitReached { .. }) => {
                Err(refusal.into())
            }
            _ => {
                let stay = user.live().lock().core.stay(user.user());
                let place = Place { session: user.live().id.clone(), stay };
                let takes = |write: &Write| check(write).is_ok();
                match backlog.add(messages, write, vec![place], &server.limits, takes) {
                    true => Ok(()),
                    false => Err(limited),
                }
            }
        };
        if backlog.is_empty() {
            self.0.remove(&handle);
        }
        outcome
    }

    /// Drops what waits of a user that is not attached any more; returns whose messages it was.
    pub fn forget(&mut self, handle: u32) -> Vec<Messages> {
        let mut dropped = Vec::new();
        if let Some(mut backlog) = self.0.remove(&handle) {
            while let Some(waiting) = backlog.pop() {
                dropped.push(waiting.messages);
            }
        }
        dropped
    }
}

impl Gateway {
    /// Writes what has waited, as far as the rates of its users let it through.
    pub(super) fn catch_up(&mut self, server: &Server, moment: &mut Moment<'_, '_>) {
        if self.excess.0.is_empty() {
            return;
        }
        let Some(mut hold) = self.hold() else { return };
        let now = server.engine.clock().now();
        let mut next = Micros::MAX;
        let mut written = Vec::new();
        let mut refused = Vec::new();
        self.excess.0.retain(|&handle, backlog| {
            let Some(user) = hold.user(handle) else { return true };
            while !backlog.is_empty() {
                if let Err(limited) = user.take_update_in_turn(now) {
                    let retry = Refusal::from(limited).retry_after().unwrap_or_default();
                    next = next.min(retry);
                    break;
                }
                let Some(waiting) = backlog.pop() else { break };
                let made_in = waiting.places.first().and_then(|place| place.stay);
                let write = Write { made_in, ..waiting.write() };
                let command = Command::SetProps { user: user.user().clone(), write, term: 0 };
                match user.command(&server.engine, command) {
                    Ok(position) => {
                        written.push((user.live().clone(), waiting.messages, position.revision));
                    }
                    Err(refusal) => {
                        if !backlog.take_apart(&waiting, waiting.places.clone()) {
                            refused.push((waiting.messages.last, handle, refusal.into()));
                        }
                    }
                }
            }
            !backlog.is_empty()
        });
        self.hold_acks();
        hold.dealt_with(self.acks.seq());
        drop(hold);
        for (live, messages, revision) in written {
            self.expect(moment.feeds, &live, messages.after, revision);
        }
        for (seq, handle, refusal) in refused {
            self.refuse(seq, handle, &refusal);
            moment.feeds.want_tick(None);
        }
        if next < Micros::MAX {
            // The turns of many users in their app come one by one: they are looked at together.
            moment.timer.wake_at(now + next.max(LEAST_WAIT));
        }
    }
}
