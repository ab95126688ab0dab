//! Random backends do random things on their gateways, take each other over and lose their
//! connections. Beside them an observer of each class reads every session by itself: each step of each
//! view leads to what the observer of its class saw at that revision, and an ack never comes before
//! the frame that holds what it acks.
//!
//! A run is told by its seed, which a failure prints: `BACKENDS_SEED=7` runs that one, and
//! `BACKENDS_SEEDS=200` the first 200.

use crate::support::*;
use fastrand::Rng;
use sessiond::proto::{
    self, Block, Column, DeliveryOptions, Dictionary, DictionaryEntry, Encoding, EndReason,
    GatewayRequest, JoinOptions, OpenSharedSessionRequest, SessionKind, SessionSettings, View,
    ViewSubscription,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const SESSIONS: [&str; 3] = ["room", "hosted", "quiz"];
const USERS: [&str; 8] = ["ada", "bob", "cid", "dan", "eve", "fay", "gus", "hal"];
const KEYS: [&str; 3] = ["a", "b", "c"];
const BACKENDS: usize = 3;
const ROUNDS: usize = 40;

/// What marks in the session data how far everybody has read.
const MARK: &str = "mark";

type Class = (&'static str, View);

/// A view of a backend, as the client has it.
#[derive(Debug, Clone)]
struct Seen {
    class: Class,
    options: DeliveryOptions,
    /// What it led to, step by step, since it was looked at last.
    steps: Vec<(u64, State)>,
}

/// A write that was sent, and what it must be seen as once it is acked.
#[derive(Debug)]
struct Sent {
    seq: u64,
    handle: u32,
    session: &'static str,
    user: String,
    key: &'static str,
    value: i64,
}

struct Peer {
    id: String,
    backend: Backend,
    /// Who is under which handle, as far as the client knows.
    users: BTreeMap<u32, (String, &'static str)>,
    views: BTreeMap<u32, Seen>,
    sent: Vec<Sent>,
    is_named: bool,
}

/// What a run did.
#[derive(Debug, Default)]
struct Tally {
    operations: usize,
    cuts: usize,
    take_overs: usize,
    steps: usize,
    resumed: usize,
    acked: usize,
    lost: usize,
}

struct World {
    service: Service,
    seed: u64,
    random: Rng,
    peers: Vec<Peer>,
    observers: BTreeMap<Class, Watcher>,
    /// What each class saw at each revision at which it saw something.
    history: BTreeMap<Class, BTreeMap<u64, State>>,
    /// Memberships that ended in this round: what was written in them may be gone.
    gone: BTreeSet<(String, &'static str)>,
    count: i64,
    tally: Tally,
}

#[tokio::test]
async fn every_step_of_every_view_is_what_its_class_sees_and_no_ack_comes_before_its_frame() {
    let number = |name| std::env::var(name).ok().map(|it| it.parse().expect("a number"));
    let seeds: Vec<u64> = match (number("BACKENDS_SEED"), number("BACKENDS_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, seeds) => (1..=seeds.unwrap_or(3)).collect(),
    };
    let mut all = Tally::default();
    for seed in seeds {
        let tally = run(seed).await;
        all.operations += tally.operations;
        all.cuts += tally.cuts;
        all.take_overs += tally.take_overs;
        all.steps += tally.steps;
        all.resumed += tally.resumed;
        all.acked += tally.acked;
        all.lost += tally.lost;
    }
    println!("{all:?}");
    let tried = [all.cuts, all.take_overs, all.steps, all.resumed, all.acked, all.lost];
    assert!(tried.into_iter().all(|tried| tried > 0), "it tries all: {all:?}");
}

async fn run(seed: u64) -> Tally {
    let service = Service::start_with(|config| {
        config.max_updates_per_second = 1_000_000;
        config.user_ttl = Duration::from_secs(24 * 3_600);
        config.max_removals = if seed.is_multiple_of(2) { 10 } else { 10_000 };
    })
    .await;
    let mut world = World {
        service,
        seed,
        random: Rng::with_seed(seed),
        peers: Vec::new(),
        observers: BTreeMap::new(),
        history: BTreeMap::new(),
        gone: BTreeSet::new(),
        count: 0,
        tally: Tally::default(),
    };
    world.begin().await;
    for _ in 0..ROUNDS {
        world.gone.clear();
        for _ in 0..world.random.usize(1..6) {
            world.act().await;
            if world.random.bool() {
                world.service.tick();
            }
        }
        world.agree().await;
    }
    std::mem::take(&mut world.tally)
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("BACKENDS_SEED={}", self.seed);
        }
    }
}

impl World {
    async fn begin(&mut self) {
        for session in SESSIONS {
            let is_hosted = session != "room";
            let settings = SessionSettings {
                empty_ttl: Some(ms(3_600_000)),
                hostprops: if session == "quiz" { vec!["a".to_owned()] } else { Vec::new() },
                ..Default::default()
            };
            let kind = if is_hosted { SessionKind::Hosted } else { SessionKind::Room };
            let open = OpenSharedSessionRequest {
                session_id: session.to_owned(),
                kind: kind.into(),
                settings: Some(settings),
                ..Default::default()
            };
            self.service.try_open(open).await.expect("it opens");
            self.service.spectate(session, "eye").await;
            self.service.tick();
            let eye = self.service.watch(session, "eye").await;
            let app = self.service.watch(session, "").await;
            for (class, watcher) in [(View::Members, eye), (View::Host, app)] {
                let seen = (watcher.rebuilt.revision, watcher.rebuilt.state.clone());
                self.history.insert((session, class), [seen].into());
                self.observers.insert((session, class), watcher);
            }
        }
        for at in 0..BACKENDS {
            let id = format!("backend-{at}");
            let backend = self.service.gateway(&id).await;
            let (users, views, sent) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
            self.peers.push(Peer { id, backend, users, views, sent, is_named: false });
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.usize(..from.len())]
    }

    fn next(&mut self) -> i64 {
        self.count += 1;
        self.count
    }

    async fn act(&mut self) {
        self.tally.operations += 1;
        let at = self.random.usize(..BACKENDS);
        match self.random.u8(..20) {
            0..=4 => self.attach(at),
            5 => self.detach(at).await,
            6..=7 => self.subscribe(at),
            8 => self.unsubscribe(at),
            9..=12 => self.write_by_name(at),
            13..=15 => self.write_in_columns(at),
            16 => self.remove_a_member().await,
            17 => self.swap_host().await,
            18 => self.take_over(at).await,
            _ => self.cut(at).await,
        }
    }

    fn attach(&mut self, at: usize) {
        let (user, session) = (self.pick(&USERS), self.pick(&SESSIONS));
        let spectator = self.random.u8(..6) == 0;
        let peer = &mut self.peers[at];
        let handle = (1..).find(|handle| !peer.users.contains_key(handle)).expect("one is free");
        let join = Some(JoinOptions { spectator, ..Default::default() });
        peer.backend.attach(vec![proto::Attach { join, ..attach(handle, user, session) }]);
        peer.users.insert(handle, (user.to_owned(), session));
    }

    /// One that the server knows of too.
    fn user_of(&mut self, at: usize) -> Option<(u32, String, &'static str)> {
        let peer = &self.peers[at];
        let users: Vec<_> = peer.users.iter().collect();
        let (handle, (user, session)) = *users.get(self.random.usize(..users.len().max(1)))?;
        Some((*handle, user.clone(), *session))
    }

    async fn detach(&mut self, at: usize) {
        // What the client does not know yet would be taken for a fault of the server.
        self.settle(at).await;
        let Some((handle, user, session)) = self.user_of(at) else { return };
        let leave = self.random.bool();
        let peer = &mut self.peers[at];
        peer.backend.detach(handle, leave);
        peer.users.remove(&handle);
        self.gone.insert((user, session));
    }

    fn subscribe(&mut self, at: usize) {
        let class = (self.pick(&SESSIONS), self.pick(&[View::Members, View::Host]));
        let options = self.options();
        let peer = &mut self.peers[at];
        let is_free = |it: &u32| !peer.views.contains_key(it) && !peer.backend.dropped.contains(it);
        let handle = (1..).find(is_free).expect("one is free");
        peer.subscribe(handle, class, options, None);
    }

    fn options(&mut self) -> DeliveryOptions {
        DeliveryOptions {
            max_rate_hz: if self.random.u8(..4) == 0 { 20 } else { 0 },
            encoding: self.pick(&[Encoding::Named, Encoding::Columns]).into(),
            ..Default::default()
        }
    }

    fn unsubscribe(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        let Some(&handle) = peer.views.keys().next() else { return };
        // The handle is not used again: what is on its way is not told from what comes then.
        peer.backend.send(GatewayRequest { unsubscribe: vec![handle], ..Default::default() });
        peer.views.remove(&handle);
        peer.backend.dropped.insert(handle);
    }

    fn write_by_name(&mut self, at: usize) {
        let Some((handle, user, session)) = self.user_of(at) else { return };
        let (key, value) = (self.pick(&KEYS), self.next());
        let peer = &mut self.peers[at];
        let seq = peer.backend.write(handle, write([(key, int(value))]));
        peer.sent.push(Sent { seq, handle, session, user, key, value });
    }

    fn write_in_columns(&mut self, at: usize) {
        let users = self.peers[at].users.clone();
        let users: Vec<_> = users.into_iter().filter(|_| self.random.bool()).collect();
        if users.is_empty() {
            return;
        }
        let key = self.random.usize(..KEYS.len());
        let values: Vec<i64> = users.iter().map(|_| self.next()).collect();
        let column = Column { prop: key as u64, integers: values.clone(), ..Default::default() };
        let handles = users.iter().map(|(handle, _)| (*handle).into()).collect();
        let block = Block { users: handles, columns: vec![column], ..Default::default() };
        let peer = &mut self.peers[at];
        let entry = |(at, key): (usize, &&str)| DictionaryEntry {
            number: at as u64,
            name: key.to_string(),
        };
        let names = Dictionary { props: KEYS.iter().enumerate().map(entry).collect() };
        let dictionary = Some(names).filter(|_| !std::mem::replace(&mut peer.is_named, true));
        let seq = peer.backend.send(GatewayRequest {
            dictionary,
            blocks: vec![block],
            ..Default::default()
        });
        for ((handle, (user, session)), value) in users.into_iter().zip(values) {
            peer.sent.push(Sent { seq, handle, session, user, key: KEYS[key], value });
        }
    }

    async fn remove_a_member(&mut self) {
        let (user, session) = (self.pick(&USERS), self.pick(&SESSIONS));
        let removed = match self.random.bool() {
            true => self.service.try_kick(session, "", user, "").await.is_ok(),
            false => self.service.try_leave(session, user, false).await.is_ok(),
        };
        if removed {
            self.gone.insert((user.to_owned(), session));
        }
    }

    async fn swap_host(&mut self) {
        let (user, session) = (self.pick(&USERS), self.pick(&["hosted", "quiz"]));
        let _ = self.service.try_swap_host(session, "", user, 0).await;
    }

    /// The same backend opens another stream while it has one.
    async fn take_over(&mut self, at: usize) {
        self.settle(at).await;
        self.tally.take_overs += 1;
        let id = self.peers[at].id.clone();
        let new = self.service.gateway(&id).await;
        let mut old = std::mem::replace(&mut self.peers[at].backend, new);
        old.end().await.is(EndReason::TakenOver, tonic::Code::Aborted);
        self.go_on(at, old);
    }

    /// The connection is lost, and the backend comes back within the grace.
    async fn cut(&mut self, at: usize) {
        self.settle(at).await;
        self.tally.cuts += 1;
        let id = self.peers[at].id.clone();
        self.peers[at].backend.cut();
        in_time(async {
            while self.service.engine().gateways().0 >= BACKENDS {
                tokio::task::yield_now().await;
            }
        })
        .await;
        if self.random.bool() {
            self.service.advance(self.random.u64(..2_000));
        }
        let new = self.service.gateway(&id).await;
        let old = std::mem::replace(&mut self.peers[at].backend, new);
        self.go_on(at, old);
    }

    /// The new stream of a backend knows what the old one knew, and resumes its views.
    fn go_on(&mut self, at: usize, old: Backend) {
        let peer = &mut self.peers[at];
        peer.is_named = false;
        let welcome = &peer.backend.welcome;
        if welcome.resumed {
            assert_eq!(welcome.last_seq, old.seq(), "all that was sent was dealt with");
        } else {
            self.gone.extend(peer.users.values().cloned());
        }
        let still: BTreeMap<u32, (String, &str)> = peer
            .backend
            .attached
            .values()
            .map(|it| {
                let session =
                    SESSIONS.into_iter().find(|id| *id == it.session_id).expect("it is one");
                (it.handle, (it.user_id.clone(), session))
            })
            .collect();
        for (handle, user) in &still {
            assert_eq!(peer.users.get(handle), Some(user), "who is attached was attached");
        }
        peer.users = still;
        peer.sent.clear();
        let views = std::mem::take(&mut peer.views);
        for (handle, seen) in views {
            let Some(copy) = old.views.get(&handle) else { continue };
            let (copy, resume) = (copy.again(), copy.resume());
            peer.subscribe(handle, seen.class, seen.options, Some(resume));
            peer.backend.views.insert(handle, copy);
            self.tally.resumed += 1;
        }
    }

    /// Reads what a backend is sent until all that it sent was dealt with.
    async fn settle(&mut self, at: usize) {
        let seq = self.peers[at].backend.send(GatewayRequest::default());
        in_time(async {
            while self.peers[at].backend.acked_seq < seq {
                self.service.tick();
                while self.peers[at].backend.acked_seq < seq && self.read(at).await {}
            }
        })
        .await;
    }

    /// Reads a message, if one comes.
    async fn read(&mut self, at: usize) -> bool {
        let Self { peers, gone, tally, .. } = self;
        let peer = &mut peers[at];
        if !peer.backend.glance().await {
            return false;
        }
        for (handle, step) in &peer.backend.steps {
            match step {
                Step::Ended(ended) => {
                    assert_eq!(ended.reason(), EndReason::ViewLost);
                    tally.lost += 1;
                    peer.views.remove(handle);
                }
                Step::Heartbeat(_) => {}
                _ => {
                    let copy = peer.backend.views.get(handle);
                    // The step before the end of a view is not kept.
                    if let (Some(copy), Some(seen)) = (copy, peer.views.get_mut(handle)) {
                        seen.steps.push((copy.revision, copy.state.clone()));
                    }
                }
            }
        }
        for refusal in std::mem::take(&mut peer.backend.refusals) {
            // Who could not be attached, or is gone, and views that nobody may see.
            let is_of = |sent: &Sent| sent.seq == refusal.seq && sent.handle == refusal.handle;
            let before = peer.sent.len();
            peer.sent.retain(|sent| !is_of(sent));
            let is_write = peer.sent.len() < before;
            match refusal.reason() {
                proto::ErrorReason::NoView => drop(peer.views.remove(&refusal.view_handle)),
                proto::ErrorReason::UnknownHandle | proto::ErrorReason::RoleTooLow => {
                    // A view may have ended before it was unsubscribed.
                    let is_view = peer.backend.dropped.contains(&refusal.view_handle);
                    assert!(is_write || is_view, "{refusal:?}");
                }
                _ if is_write => {}
                _ => drop(peer.users.remove(&refusal.handle)),
            }
        }
        let ended: Vec<u32> = peer.backend.ended.keys().copied().collect();
        for handle in ended {
            peer.backend.ended.remove(&handle);
            if let Some((user, session)) = peer.users.remove(&handle) {
                gone.insert((user, session));
            }
        }
        let acked = peer.backend.acked_seq;
        let sent = std::mem::take(&mut peer.sent).into_iter();
        let (done, waiting): (Vec<Sent>, _) = sent.partition(|it| it.seq <= acked);
        peer.sent = waiting;
        for sent in done {
            for (handle, seen) in &peer.views {
                let (session, which) = seen.class;
                let is_whole =
                    session == sent.session && (which == View::Host || session == "room");
                let is_paced = seen.options.max_rate_hz > 0;
                let is_gone = gone.contains(&(sent.user.clone(), sent.session));
                let Some(copy) = peer.backend.views.get(handle) else { continue };
                if !is_whole || is_paced || is_gone {
                    continue;
                }
                tally.acked += 1;
                let member = copy.state.members.get(&sent.user);
                let shown = member.and_then(|member| member.props.get(sent.key));
                let value = shown.and_then(|shown| number(shown));
                assert!(
                    value >= Some(sent.value),
                    "it is {shown:?} when {sent:?} is acked, at {} of {:?}: {:?}",
                    copy.revision,
                    seen.class,
                    copy.state.members
                );
            }
        }
        true
    }

    /// Everybody reads on to a mark, and every step since the last one is what its class saw.
    async fn agree(&mut self) {
        for at in 0..BACKENDS {
            self.settle(at).await;
        }
        let mark = self.next();
        for session in SESSIONS {
            self.service.set_data(session, "", [(MARK, int(mark))]).await;
        }
        self.service.advance(100);
        let expected = shown([(MARK, int(mark))]);
        let mut observers = std::mem::take(&mut self.observers);
        for (class, observer) in &mut observers {
            let history = self.history.get_mut(class).expect("it is observed");
            while observer.rebuilt.state.data != expected {
                observer.next().await;
                let known = &observer.rebuilt;
                history.insert(known.revision, known.state.clone());
            }
        }
        self.observers = observers;
        for at in 0..BACKENDS {
            let is_there = |peer: &Peer| {
                peer.views.keys().all(|handle| {
                    peer.backend.views.get(handle).is_some_and(|it| it.state.data == expected)
                })
            };
            in_time(async {
                while !is_there(&self.peers[at]) {
                    self.service.tick();
                    while !is_there(&self.peers[at]) && self.read(at).await {}
                }
            })
            .await;
            for seen in self.peers[at].views.values_mut() {
                for (revision, state) in seen.steps.drain(..) {
                    self.tally.steps += 1;
                    let history = &self.history[&seen.class];
                    let (_, expected) = history.range(..=revision).next_back().expect("it began");
                    assert_eq!(state, *expected, "{:?} at {revision}", seen.class);
                }
            }
        }
    }
}

/// The number that a value is shown as.
fn number(shown: &str) -> Option<i64> {
    shown.trim_matches(|it: char| !it.is_ascii_digit()).parse().ok()
}

impl Peer {
    fn subscribe(
        &mut self,
        handle: u32,
        class: Class,
        options: DeliveryOptions,
        resume: Option<proto::Resume>,
    ) {
        let (session, which) = class;
        let subscription = ViewSubscription {
            view: which.into(),
            options: Some(options.clone()),
            resume,
            ..view(handle, session)
        };
        self.backend.subscribe(vec![subscription]);
        self.views.insert(handle, Seen { class, options, steps: Vec::new() });
    }
}
