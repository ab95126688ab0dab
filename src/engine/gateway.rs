//! Gateways: backends that hold the presence of many users, on one stream that may be replaced by
//! another.
//!
//! What a gateway holds belongs to its id. A stream takes it over by taking a turn, and the stream that
//! held it before finds that its turn is over. It deals with a message under one hold. Lock order: a
//! gateway first, and last of all the post of a gateway.

use super::error::Refusal;
use super::{
    Credential, Engine, Position,
    live::{Live, State},
    position,
    shard::{Job, Listed},
    subscriber::{End, Options, Subscriber, Subscription},
    users::UserStream,
};
use crate::session::{
    command::{Actor, Command, Join},
    ids::{AppId, Key, UserId},
    limits::Micros,
    member::MemberIx,
    revision::Revision,
    role::Role,
    view::Class,
};
use dashmap::Entry;
use parking_lot::{ArcMutexGuard, Mutex, MutexGuard, RawMutex};
use rustc_hash::FxHashMap;
use std::{
    fmt, mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// A gateway, whether it has a stream or is waited for.
#[derive(Debug)]
pub struct Gateway {
    app: AppId,
    id: Key,
    held: Arc<Mutex<Held>>,
    post: Mutex<Post>,
}

/// What a gateway holds.
#[derive(Debug, Default)]
struct Held {
    users: FxHashMap<u32, Attachment>,
    /// How many users it has attached.
    attached: u64,
    /// The stream that holds it, by its number; 0 = none does.
    turn: u64,
    /// See [`Hold::dealt_with`].
    last_seq: u64,
    /// When it is given up; none = a stream holds it.
    waiting: Option<Listed>,
    /// It was given up: a stream that found it looks again.
    is_over: bool,
}

/// What happened to users of a gateway that it did not get yet. Nothing else is locked meanwhile.
#[derive(Debug, Default)]
struct Post {
    /// Each with the number of its attachment.
    ended: Vec<(u32, u64, End)>,
    waker: Option<Waker>,
}

/// What a session keeps of a user that a gateway has attached.
#[derive(Debug)]
pub(super) struct AttachedBy {
    gateway: Arc<Gateway>,
    handle: u32,
    /// See [`Attachment::number`].
    number: u64,
}

/// A user that a gateway has attached in a session; it counts as a stream of the user.
#[derive(Debug)]
pub struct Attachment {
    stream: UserStream,
    live: Arc<Live>,
    /// The membership.
    order: u64,
    /// Where the session has the member.
    ix: MemberIx,
    /// Tells it from others under the same handle.
    number: u64,
}

/// What a user is shown as when it was attached.
#[derive(Debug, Clone, Copy)]
pub struct Entered {
    /// Its role.
    pub role: Role,
    /// The frame that shows it.
    pub position: Position,
}

/// What a gateway finds when it opens.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Another stream held it, or it was waited for.
    pub resumed: bool,
    /// See [`Hold::dealt_with`].
    pub last_seq: u64,
    /// Who is still attached.
    pub users: Vec<(u32, UserId, Arc<Live>, Role)>,
}

impl AttachedBy {
    /// Tells the gateway that it has the user no more; returns whom to wake.
    pub(super) fn end(&self, end: End) -> Option<Waker> {
        let mut post = self.gateway.post.lock();
        post.ended.push((self.handle, self.number, end));
        post.waker.take()
    }

    /// Whether a gateway has it.
    pub(super) fn is_of(&self, gateway: &Arc<Gateway>) -> bool {
        Arc::ptr_eq(&self.gateway, gateway)
    }
}

impl Attachment {
    /// The user.
    pub fn user(&self) -> &UserId {
        &self.stream.user
    }

    /// The user as the actor.
    pub fn actor(&self) -> Actor {
        Actor::of(&self.stream.user)
    }

    /// The session.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Where the session has the member, and which membership it is, by its order.
    pub(super) fn place(&self) -> (MemberIx, u64) {
        (self.ix, self.order)
    }

    /// How many updates the user may write in a second.
    pub fn max_updates_per_second(&self) -> u64 {
        self.stream.max_updates_per_second()
    }

    /// Takes one update of the user out of its bucket.
    pub fn take_update(&self, now: Micros) -> Result<(), Refusal> {
        self.stream.take_update_at(now)
    }

    /// See [`UserStream::take_update_in_turn`].
    pub fn take_update_in_turn(&self, now: Micros) -> Result<(), Refusal> {
        self.stream.take_update_in_turn(now)
    }

    /// Applies a command of the user to the session.
    pub fn command(&self, engine: &Engine, command: Command) -> Result<Position, Refusal> {
        engine.command(&self.live, &self.actor(), command)
    }

    /// Gives it up; `lost` says whether the client caused that.
    fn give_up(self, engine: &Engine, gateway: &Arc<Gateway>, lost: bool) {
        let wake = {
            let mut state = self.live.lock();
            let is_it = |by: &AttachedBy| by.is_of(gateway) && by.number == self.number;
            if state.attached.get(&self.order).is_some_and(is_it) {
                state.attached.remove(&self.order);
                state.attached.tidy(FxHashMap::is_empty);
            }
            let at = state.core.revision();
            state.end_lost_views(at)
        };
        wake.into_iter().for_each(Waker::wake);
        let user = self.stream.user.clone();
        let closed = Command::StreamClosed { user, membership: self.order, lost };
        // The member may have left and the session may have ended before.
        let _ = engine.command(&self.live, &Actor::App, closed);
    }
}

impl Engine {
    /// A stream opens a gateway: it is new, or is taken over from the stream that holds it.
    pub fn open_gateway(
        &self,
        app: &AppId,
        id: &Key,
        grace: Micros,
    ) -> Result<(GatewayStream, Found), Refusal> {
        let _work = self.begin_work()?;
        loop {
            let key = (app.clone(), id.clone());
            let gateway = match self.inner.gateways.entry(key) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(place) => {
                    let (app, id) = (app.clone(), id.clone());
                    let (held, post) = (Arc::default(), Mutex::default());
                    let new = Arc::new(Gateway { app, id, held, post });
                    place.insert(new.clone());
                    new
                }
            };
            let mut held = gateway.held.lock();
            if held.is_over {
                continue;
            }
            let resumed = held.turn > 0 || held.waiting.is_some();
            if held.turn > 0 {
                self.counters().gateways_taken_over.count();
            }
            let turn = self.inner.turns.fetch_add(1, Ordering::Relaxed) + 1;
            (held.turn, held.waiting) = (turn, None);
            let role = |it: &Attachment| {
                let state = it.live.lock();
                state.core.members().membership(&it.stream.user).map(|member| member.role)
            };
            let still = |(handle, it): (&u32, &Attachment)| {
                Some((*handle, it.stream.user.clone(), it.live.clone(), role(it)?))
            };
            let mut users: Vec<_> = held.users.iter().filter_map(still).collect();
            users.sort_unstable_by_key(|(handle, ..)| *handle);
            let found = Found { resumed, last_seq: held.last_seq, users };
            drop(held);
            // The stream that held it looks, and finds that its turn is over.
            let waker = gateway.post.lock().waker.take();
            waker.into_iter().for_each(Waker::wake);
            let engine = self.clone();
            return Ok((GatewayStream { engine, gateway, turn, grace, lost: true }, found));
        }
    }

    /// Gives a gateway up that was waited for in vain.
    pub(super) fn give_gateway_up(&self, gateway: &Arc<Gateway>) {
        let users = {
            let mut held = gateway.held.lock();
            let now = self.clock().now();
            if held.waiting.take_if(|listed| listed.at() <= now).map(Listed::fell_due).is_none() {
                return;
            }
            held.is_over = true;
            mem::take(&mut held.users)
        };
        self.forget_gateway(gateway);
        users.into_values().for_each(|user| user.give_up(self, gateway, true));
    }

    fn forget_gateway(&self, gateway: &Arc<Gateway>) {
        let key = (gateway.app.clone(), gateway.id.clone());
        self.inner.gateways.remove_if(&key, |_, known| Arc::ptr_eq(known, gateway));
    }

    /// How many gateways a stream holds, and how many are waited for.
    pub fn gateways(&self) -> (usize, usize) {
        let all = self.inner.gateways.iter();
        let gateways: Vec<_> = all.map(|entry| entry.value().clone()).collect();
        let held = gateways.iter().filter(|it| it.held.lock().turn > 0).count();
        (held, gateways.len() - held)
    }
}

/// A stream that holds a gateway, as long as no other one does. Dropped, the gateway is waited for.
#[derive(Debug)]
pub struct GatewayStream {
    engine: Engine,
    gateway: Arc<Gateway>,
    turn: u64,
    /// How long it is waited for.
    grace: Micros,
    lost: bool,
}

/// What a gateway holds, while its stream deals with a message: no other stream takes it over
/// meanwhile, so what was dealt with is what the next one learns.
pub struct Hold {
    engine: Engine,
    gateway: Arc<Gateway>,
    held: ArcMutexGuard<RawMutex, Held>,
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("held", &*self.held).finish_non_exhaustive()
    }
}

impl GatewayStream {
    /// What the gateway holds; none if another stream has taken it over.
    pub fn hold(&self) -> Option<Hold> {
        let Self { engine, gateway, .. } = self;
        let held = gateway.held.lock_arc();
        let is_mine = held.turn == self.turn;
        is_mine.then(|| Hold { engine: engine.clone(), gateway: gateway.clone(), held })
    }

    /// Waits for users that the gateway has no more, or for another stream to take it over.
    pub fn poll_post(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut post = self.gateway.post.lock();
        if !post.ended.is_empty() {
            return Poll::Ready(());
        }
        if !post.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            post.waker = Some(cx.waker().clone());
        }
        drop(post);
        // It may have been taken over before anybody could be woken.
        if self.gateway.held.lock().turn == self.turn { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Subscribes to a view for as long as a user is attached who may see it, or for the app. None
    /// if there is no such user.
    pub fn subscribe(
        &self,
        live: &Arc<Live>,
        class: Class,
        of_app: bool,
        options: Options,
    ) -> Option<Subscription> {
        let reader = (!of_app).then(|| self.gateway.clone());
        let mut state = live.lock();
        if state.core.has_ended() || reader.as_ref().is_some_and(|it| !state.may_see(it, class)) {
            return None;
        }
        let (subscription, wake) =
            self.engine.enlist_view(live, &mut state, (class, reader), options);
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        Some(subscription)
    }

    /// The client has ended the stream: nobody is waited for.
    pub fn close(&mut self) {
        self.grace = 0;
    }

    /// What the stream does from now on is done with this credential.
    pub fn act_by(&mut self, credential: Arc<Credential>) {
        self.engine = self.engine.acting_by(credential);
    }

    /// The server ends the stream, not the client.
    pub fn ended_by_server(&mut self) {
        self.lost = false;
    }
}

impl Hold {
    /// A user under its handle.
    pub fn user(&self, handle: u32) -> Option<&Attachment> {
        self.held.users.get(&handle)
    }

    /// How many users are attached.
    pub fn users(&self) -> usize {
        self.held.users.len()
    }

    /// Everything up to this message of the stream was dealt with: the stream that takes over learns it.
    pub fn dealt_with(&mut self, seq: u64) {
        self.held.last_seq = seq;
    }

    /// Attaches a user under a handle that is free, joining first if `join` says how.
    pub fn attach(
        &mut self,
        handle: u32,
        live: &Arc<Live>,
        user: &UserId,
        join: Option<Join>,
    ) -> Result<Entered, Refusal> {
        let Self { engine, gateway, .. } = self;
        let stream = engine.user_stream(&live.app, user)?;
        let number = self.held.attached + 1;
        let begin = |state: &mut MutexGuard<'_, State>| {
            let ix = state.core.members().find(user)?;
            let membership = state.core.members().membership(user)?;
            let (order, role) = (membership.order, membership.role);
            let by = AttachedBy { gateway: gateway.clone(), handle, number };
            let before = state.attached.insert(order, by);
            let position = position(state, state.core.pending_revision());
            // The newest attachment wins.
            let wake = before.and_then(|before| before.end(End::TakenOver));
            Some((order, ix, Entered { role, position }, wake))
        };
        let begun = engine.open_stream(live, user, join, begin)?;
        let (order, ix, entered, wake) = begun.ok_or(Refusal::NOT_FOUND)?;
        wake.into_iter().for_each(Waker::wake);
        self.held.attached = number;
        engine.counters().attached_users.count();
        let attachment = Attachment { stream, live: live.clone(), order, ix, number };
        self.held.users.insert(handle, attachment);
        Ok(entered)
    }

    /// Detaches a user as if a stream of it was lost; returns whether it was attached.
    pub fn detach(&mut self, handle: u32) -> bool {
        let Some(user) = self.held.users.remove(&handle) else { return false };
        user.give_up(&self.engine, &self.gateway, true);
        true
    }

    /// Has a user leave its session, and detaches it.
    pub fn leave(&mut self, handle: u32, keep_role: bool) -> Option<Result<Position, Refusal>> {
        let Self { engine, gateway, held } = self;
        let user = held.users.get(&handle)?;
        // It does not get the end that it asks for.
        let attached = user.live.lock().attached.remove(&user.order);
        let leave = Command::Leave { user: user.stream.user.clone(), keep_role };
        match user.command(engine, leave) {
            Ok(position) => {
                if let Some(user) = held.users.remove(&handle) {
                    user.give_up(engine, gateway, true);
                }
                Some(Ok(position))
            }
            Err(refusal) => {
                if let Some(attached) = attached {
                    user.live.lock().attached.insert(user.order, attached);
                }
                Some(Err(refusal))
            }
        }
    }

    /// Takes out the users that the gateway has no more, with what happened to them.
    pub fn take_ended(&mut self) -> Vec<(u32, End)> {
        let Self { engine, gateway, held } = self;
        let ended = mem::take(&mut gateway.post.lock().ended);
        let mut told = Vec::with_capacity(ended.len());
        for (handle, number, end) in ended {
            if held.users.get(&handle).is_none_or(|it| it.number != number) {
                continue;
            }
            if let Some(user) = held.users.remove(&handle) {
                user.give_up(engine, gateway, true);
                told.push((handle, end));
            }
        }
        told
    }
}

impl Drop for GatewayStream {
    fn drop(&mut self) {
        let Self { engine, gateway, grace, lost, .. } = self;
        let users = {
            let mut held = gateway.held.lock();
            if held.turn != self.turn {
                return;
            }
            held.turn = 0;
            if *grace > 0 && !held.users.is_empty() {
                let at = engine.clock().now() + *grace;
                let job = Job::Gateway(Arc::downgrade(gateway));
                held.waiting = Some(engine.shard_of(&(&gateway.app, &gateway.id)).add(at, job));
                return;
            }
            held.is_over = true;
            mem::take(&mut held.users)
        };
        engine.forget_gateway(gateway);
        users.into_values().for_each(|user| user.give_up(engine, gateway, *lost));
    }
}

impl State {
    /// Whether a gateway has attached a user who may see what a class sees.
    pub(super) fn may_see(&self, gateway: &Arc<Gateway>, class: Class) -> bool {
        match class {
            Class::Members => self.attached.values().any(|by| by.is_of(gateway)),
            Class::Host => {
                let keeper = self.core.keeper();
                let membership = keeper.and_then(|user| self.core.members().membership(user));
                let by = membership.and_then(|member| self.attached.get(&member.order));
                by.is_some_and(|by| by.is_of(gateway))
            }
        }
    }

    /// Ends the views of gateways that have no attached user any more who may see them: these are
    /// shown nothing that comes after a frame. Returns whom to wake.
    pub(super) fn end_lost_views(&mut self, at: Revision) -> Vec<Waker> {
        let is_lost = |subscriber: &Subscriber| match (&subscriber.gateway, subscriber.class) {
            (Some(gateway), Some(class)) => !self.may_see(gateway, class),
            _ => false,
        };
        let going_on = self.subscribers.iter().filter(|(_, it)| it.end.is_none());
        let lost: Vec<usize> = going_on.filter(|(_, it)| is_lost(it)).map(|(key, _)| key).collect();
        let mut wake = Vec::new();
        for key in lost {
            let subscriber = &mut self.subscribers[key];
            subscriber.out_since.get_or_insert(at);
            subscriber.end = Some(End::ViewLost);
            self.counters.lost_views.count();
            wake.extend(subscriber.rouse());
        }
        wake
    }
}

/// Numbers the streams that hold gateways.
pub(super) type Turns = AtomicU64;
