//! What the last owner of the sessions has left.

use super::{
    Engine, GROUPS,
    apps::{AppLimit, Share},
    live::Live,
    logs::LogShare,
    registry,
};
use crate::{
    record::{RequestRecord, UserRecord},
    session::{
        Session,
        command::{Actor, Command, Write},
        epoch::Epoch,
        ids::{AppId, UserId},
        limits::Micros,
        record::Mark,
        replica::Replica,
        settings::{Durability, Setting},
    },
};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

/// Everything that was stored.
#[derive(Debug, Default)]
pub struct Restored {
    /// The sessions.
    pub sessions: Vec<Replica>,
    /// The users with what is set on them.
    pub users: Vec<UserRecord>,
    /// The requests that were done.
    pub requests: Vec<RequestRecord>,
    /// No session had a greater epoch.
    pub greatest_epoch: Epoch,
    /// The last owner stored everything before it ended.
    pub is_clean: bool,
    /// Something that was stored is lost.
    pub is_damaged: bool,
}

impl Engine {
    /// Takes in what was stored, before anybody is served. Where the last owner did not end cleanly,
    /// the server waits for [`Engine::store_everything`] first.
    pub fn restore(&self, restored: Restored) {
        let Restored { mut sessions, users, requests, greatest_epoch, is_clean, is_damaged } =
            restored;
        let now = self.clock().now();
        let epochs = sessions.iter().map(|replica| replica.epoch());
        let last = epochs.max().unwrap_or_default().max(greatest_epoch);
        self.inner.last_epoch.fetch_max(last.0, Ordering::Relaxed);
        sessions.sort_unstable_by_key(|replica| replica.born());
        let mut sources = Vec::new();
        let mut members: BTreeMap<(AppId, UserId), Vec<Membership>> = BTreeMap::new();
        for replica in sessions {
            let known = replica.mark();
            let durability = replica.info().settings.durability;
            let mut core = replica.promote(now);
            match durability {
                _ if is_clean && !is_damaged => {}
                Durability::Sync if !is_damaged => core.skip_promised(),
                _ => core.begin_again(now, self.next_epoch(now)),
            }
            let live = self.put_back(core, known);
            let state = live.lock();
            let app = live.app.clone();
            if let Some(pair) = state.core.pair() {
                sources.push((app.clone(), pair.source.clone(), live.id.clone()));
            }
            for (_, user, membership) in state.core.members().joined() {
                let membership = Membership { live: live.clone(), at: membership.joined_at };
                members.entry((app.clone(), user.clone())).or_default().push(membership);
            }
        }
        for UserRecord { app, user, props } in users {
            self.with_known(&app, &user, |record| record.write(&Write::of(props)));
        }
        for (app, user, id) in sources {
            self.with_known(&app, &user, |record| {
                record.sources.insert(id);
            });
        }
        for ((app, user), mut memberships) in members {
            // Of several exclusive sessions, which are stored each at its own time, the last counts.
            memberships.sort_by_key(|membership| membership.at);
            let exclusive = |membership: &&Membership| membership.live.exclusive;
            let slot = memberships.iter().rfind(exclusive);
            let slot = slot.map(|membership| membership.live.id.clone());
            let (stays, left): (Vec<_>, Vec<_>) = memberships.into_iter().partition(|membership| {
                !membership.live.exclusive || Some(&membership.live.id) == slot.as_ref()
            });
            self.with_known(&app, &user, |record| {
                stays.iter().for_each(|it| record.sessions.insert(it.live.id.clone()));
                record.slot = slot;
            });
            for Membership { live, .. } in left {
                let leave = Command::Leave { user: user.clone(), keep_role: false };
                let _ = live.lock().core.apply(now, &Actor::of(&user), leave);
            }
        }
        requests.into_iter().for_each(|request| self.remember_again(request));
        for live in self.inner.registry.all() {
            self.schedule(&live, &mut live.lock());
        }
    }

    /// What was stored is read from now on, or has been.
    pub fn note_start(&self, is_starting: bool) {
        self.inner.starting.store(is_starting, Ordering::Release);
    }

    /// Whether what was stored is still read.
    pub fn is_starting(&self) -> bool {
        self.inner.starting.load(Ordering::Acquire)
    }

    /// The epoch before that of a session which begins now.
    pub(super) fn next_epoch(&self, now: Micros) -> Epoch {
        let next = |last: u64| Some(Epoch(last).next(now).0);
        let last = self.inner.last_epoch.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        Epoch(last.unwrap_or_default())
    }

    /// The greatest epoch that any session has had.
    pub fn last_epoch(&self) -> Epoch {
        Epoch(self.inner.last_epoch.load(Ordering::Relaxed))
    }

    fn put_back(&self, mut core: Session, known: Mark) -> Arc<Live> {
        let name = core.accepted_info().settings.name.clone();
        if name.is_some_and(|name| self.inner.registry.named(core.app(), &name).is_some()) {
            // It had given the name up, or the other one had: whichever was opened first keeps it.
            let rename = Command::Update(vec![Setting::Name(None)]);
            let _ = core.apply(self.clock().now(), &Actor::App, rename);
        }
        let members = core.members().joined_count();
        let members = self.app(core.app()).hold(AppLimit::Members, members);
        let by_server = self.judged_in(core.app());
        let live = self.live(core, members);
        {
            let mut state = live.lock();
            let mark = state.core.mark();
            let is_known = mark.epoch == known.epoch;
            if let Some(gate) = &mut state.gate {
                gate.flight = None;
                (gate.asked, gate.stored) = (is_known.then_some(known), is_known.then_some(known));
                gate.restored = (!is_known).then_some(mark);
            }
        }
        self.inner.registry.put_back(&live);
        self.judge_new(&live, by_server);
        live
    }

    /// A session that is to be found from now on.
    pub(super) fn live(&self, mut core: Session, members: Share) -> Arc<Live> {
        core.judge(self.judged_in(core.app()));
        core.share_app(members.app().id());
        self.inner.alike.share(&mut core);
        let hash = registry::hash(core.app(), core.id());
        let shard = (hash % self.inner.shards.len() as u64) as usize;
        let logs = LogShare::new(self.inner.logs.clone());
        let counters = self.inner.counters.clone();
        Live::new(core, members, shard, (hash >> 32) % GROUPS, logs, counters)
    }
}

/// That a user is in a session.
#[derive(Debug)]
struct Membership {
    live: Arc<Live>,
    at: Micros,
}
