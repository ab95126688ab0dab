//! Random users do random things. After every tick each reader's copy is what a newcomer is told.

use crate::support::*;
use fastrand::Rng;
use sessiond::proto::{
    Delivery, DeliveryOptions, EndReason, JoinOptions, Pacing, PropsWrite, SessionKind,
    SessionSettings, SubscribeToSessionRequest, Value,
};
use std::collections::BTreeSet;

const USERS: [&str; 5] = ["ada", "bob", "eve", "kim", "zoe"];
const SESSIONS: [&str; 3] = ["room", "hosted", "eager"];
const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const ROUNDS: usize = 120;

/// A reader, and how it differs from others in its view.
struct Reader {
    session: &'static str,
    user: &'static str,
    request: SubscribeToSessionRequest,
    watcher: Watcher,
}

struct World {
    service: Service,
    random: Rng,
    joined: BTreeSet<(&'static str, &'static str)>,
    readers: Vec<Reader>,
    writers: Vec<(&'static str, &'static str, PropsStream)>,
}

#[tokio::test]
async fn every_reader_knows_what_a_newcomer_is_told() {
    for seed in [1, 2, 3] {
        run(seed).await;
    }
}

async fn run(seed: u64) {
    let service = Service::start_with(|config| {
        config.max_updates_per_second = 1_000_000;
        config.max_removals = 20;
        config.tick_interval = std::time::Duration::from_millis(TICK);
    })
    .await;
    let settings = SessionSettings { empty_ttl: Some(ms(3_600_000)), ..Default::default() };
    service.open_room_with("room", "", settings.clone()).await;
    let eager = SessionSettings {
        pacing: Pacing::Eager.into(),
        tick_interval: Some(ms(3 * TICK)),
        ..settings.clone()
    };
    service.open_room_with("eager", "", eager).await;
    let mut hosted = opening("hosted", "", settings);
    hosted.kind = SessionKind::Hosted.into();
    service.try_open(hosted).await.expect("it opens");
    let mut world = World {
        service,
        random: Rng::with_seed(seed),
        joined: BTreeSet::new(),
        readers: Vec::new(),
        writers: Vec::new(),
    };
    for round in 0..ROUNDS {
        for _ in 0..world.random.usize(1..8) {
            world.act().await;
        }
        world.service.tick();
        world.agree(&format!("seed {seed}, round {round}")).await;
    }
    world.finish().await;
}

impl World {
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.usize(..from.len())]
    }

    fn value(&mut self) -> Value {
        let small = self.random.i64(0..3);
        match self.random.u8(0..8) {
            0 => num(f64::NAN),
            1 => text(format!("text {small}")),
            2 => list(vec![int(small), null()]),
            3 => map([("m", int(small))]),
            4 => flag(small == 0),
            _ => int(small),
        }
    }

    fn write(&mut self) -> PropsWrite {
        let mut write = PropsWrite::default();
        for key in KEYS {
            match self.random.u8(0..6) {
                0 => drop(write.set.insert(key.to_owned(), self.value())),
                1 => write.remove.push(key.to_owned()),
                _ => {}
            }
        }
        if write.set.is_empty() && write.remove.is_empty() {
            write.set.insert("a".to_owned(), self.value());
        }
        write
    }

    fn keys(&mut self) -> Vec<String> {
        let random = &mut self.random;
        KEYS.iter().filter(|_| random.bool()).map(ToString::to_string).collect()
    }

    async fn act(&mut self) {
        let (session, user) = (self.pick(&SESSIONS), self.pick(&USERS));
        let is_member = self.joined.contains(&(session, user));
        match self.random.u8(0..20) {
            0..5 => {
                let write = self.write().in_session(session);
                // Spectators and people outside are refused, which changes nothing.
                let _ = self.service.try_write(user, write).await;
            }
            5..8 => {
                let write = self.write();
                self.service.try_write(user, write).await.expect("one may write on oneself");
            }
            8 => {
                let PropsWrite { set, remove, .. } = self.write();
                let mut request = data_of(session, "");
                match self.random.bool() {
                    true => (request.set, request.remove) = (set, remove),
                    false => (request.private_set, request.private_remove) = (set, remove),
                }
                self.service.try_set_data(request).await.expect("the app may everything");
            }
            9..12 if !is_member => {
                let spectator = self.random.u8(0..5) == 0;
                let join = JoinOptions { spectator, ..Default::default() };
                self.service.try_join(session, user, join).await.expect("it joins");
                self.joined.insert((session, user));
            }
            9 => self.leave(session, user).await,
            10..13 if is_member && self.readers.len() < 10 => self.read(session, user).await,
            13 if is_member && self.writers.len() < 4 => {
                let stream = self.service.stream(session, user).await;
                self.writers.push((session, user, stream));
            }
            14..17 if !self.writers.is_empty() => {
                let write = self.write();
                let at = self.random.usize(..self.writers.len());
                self.writers[at].2.write(write);
            }
            17 => {
                let settings = SessionSettings { propnames: self.keys(), ..Default::default() };
                self.service.update(session, "", &["propnames"], settings).await;
            }
            18 => {
                let settings = SessionSettings { hostprops: self.keys(), ..Default::default() };
                self.service.update("hosted", "", &["hostprops"], settings).await;
            }
            19 if !self.readers.is_empty() => {
                // A connection is lost; the client resumes, at once or some ticks later.
                let at = self.random.usize(..self.readers.len());
                let Reader { session, user, request, watcher } = self.readers.swap_remove(at);
                let known = watcher.rebuilt.again();
                drop(watcher);
                if self.random.bool() {
                    self.service.tick();
                }
                let watcher = self.service.resume(request.clone(), &known).await;
                self.readers.push(Reader { session, user, request, watcher });
            }
            _ => {}
        }
    }

    async fn read(&mut self, session: &'static str, user: &'static str) {
        let props = if self.random.u8(0..3) == 0 { self.keys() } else { Vec::new() };
        let exclude_self = self.random.u8(0..3) == 0;
        let options = DeliveryOptions { props, exclude_self, ..Default::default() };
        let who = if self.random.u8(0..6) == 0 { "" } else { user };
        let exclude_self = exclude_self && !who.is_empty();
        let delivery = self.pick(&[Delivery::Latest, Delivery::All]).into();
        let options = DeliveryOptions { exclude_self, delivery, ..options };
        let request =
            SubscribeToSessionRequest { options: Some(options), ..subscription(session, who) };
        let watcher = self.service.watch_with(request.clone()).await;
        self.readers.push(Reader { session, user: who, request, watcher });
    }

    /// Leaves; the streams of the membership end with the next frame, at the latest after three
    /// ticks.
    async fn leave(&mut self, session: &'static str, user: &'static str) {
        self.service.leave(session, user).await;
        self.joined.remove(&(session, user));
        if self.random.bool() {
            self.service.join(session, user).await;
            self.joined.insert((session, user));
        }
        self.service.advance(3 * TICK);
        let ends = |it: &mut Reader| (it.session, it.user) == (session, user);
        for mut reader in self.readers.extract_if(.., ends) {
            reader.watcher.end().await.is_ok(EndReason::Left);
        }
        let ends = |it: &mut (&str, &str, PropsStream)| (it.0, it.1) == (session, user);
        for (_, _, mut writer) in self.writers.extract_if(.., ends) {
            writer.end().await.is_ok(EndReason::Left);
        }
    }

    /// Every reader comes to know what somebody who subscribes now is told. Frames are made by
    /// ticks only, so this stands until the next one.
    async fn agree(&mut self, when: &str) {
        for reader in &mut self.readers {
            let mut expected = told_now(&self.service, reader.session, reader.user).await;
            let options = reader.request.options.as_ref().expect("they are set");
            for (user, member) in &mut expected.members {
                if options.exclude_self && user == reader.user {
                    member.props.clear();
                }
                member
                    .props
                    .retain(|key, _| options.props.is_empty() || options.props.contains(key));
            }
            while reader.watcher.rebuilt.state != expected {
                let known = reader.watcher.rebuilt.state.clone();
                let next = tokio::time::timeout(std::time::Duration::from_secs(5), async {
                    reader.watcher.next().await
                });
                if next.await.is_err() {
                    panic!("{when}: {:?}\nknows {known:#?}\nnot {expected:#?}", reader.request);
                }
            }
        }
        for (session, user, stream) in &mut self.writers {
            let expected = told_now(&self.service, session, user).await;
            while stream.rebuilt.state != expected {
                stream.next_message().await.unwrap_or_else(|status| panic!("{when}: {status:?}"));
            }
        }
    }

    /// What was sent up comes to be acknowledged.
    async fn finish(mut self) {
        for at in 0..self.writers.len() {
            let last = self.writers[at].2.write(write([("last", int(1))]));
            self.writers[at].2.until_acked(&self.service, last).await;
        }
        self.agree("at the end").await;
    }
}

/// What a newcomer would be told; joining again is how a member asks without a stream.
async fn told_now(service: &Service, session: &str, user: &str) -> State {
    if user.is_empty() {
        return service.watch(session, user).await.rebuilt.state;
    }
    let reply = service.join(session, user).await;
    Rebuilt::from_snapshot(reply.snapshot.expect("it is small")).state
}
