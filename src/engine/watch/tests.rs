use super::*;
use crate::{
    engine::{
        listing::Order,
        testing::{self, Dice, IDS, USERS, act, app, engine, opening, settings, user},
    },
    session::{
        Opening,
        command::{Command, Join},
        limits::SECOND,
        settings::Setting,
    },
};
use journal::KEPT_FOR;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    task::{Wake, Waker},
};

#[derive(Default)]
struct Signal(AtomicBool);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A watcher that keeps the sessions as a client does.
struct Client {
    actor: Actor,
    filter: Option<&'static str>,
    watch: Option<SessionWatch>,
    cursor: Option<Cursor>,
    sessions: BTreeMap<SessionId, Outline>,
    resets: Vec<Reset>,
    /// Of which sessions it has heard.
    names: BTreeSet<SessionId>,
    /// What it got, as one letter each.
    told: String,
    is_whole: bool,
    signal: Arc<Signal>,
}

impl Client {
    fn new(engine: &Engine, actor: Actor, filter: Option<&'static str>) -> Self {
        let mut client = Self {
            actor,
            filter,
            watch: None,
            cursor: None,
            sessions: BTreeMap::new(),
            resets: Vec::new(),
            names: BTreeSet::new(),
            told: String::new(),
            is_whole: false,
            signal: Arc::default(),
        };
        client.come(engine);
        client
    }

    /// Watches from where it was.
    fn come(&mut self, engine: &Engine) {
        let filter = self.filter.map(|filter| Filter::new(filter).expect(filter));
        let watch = engine.watch_sessions(&app(), self.actor.clone(), filter, self.cursor.clone());
        self.watch = Some(watch.expect("nothing is in the way"));
        self.signal.0.store(true, Ordering::Relaxed);
    }

    /// Reads all that is there in messages with so many events, if it was woken.
    fn read(&mut self, most: usize) {
        if !self.signal.0.swap(false, Ordering::Relaxed) {
            return;
        }
        let waker = Waker::from(self.signal.clone());
        let mut cx = Context::from_waker(&waker);
        while self.read_one(&mut cx, most) {}
    }

    fn read_one(&mut self, cx: &mut Context<'_>, most: usize) -> bool {
        let watch = self.watch.as_mut().expect("it watches");
        let mut events = Vec::new();
        let take = |event: SessionEvent<'_>| {
            let has_room = events.len() < most;
            if has_room {
                events.push(match event {
                    SessionEvent::Opened(state) => ('o', Ok(Outline::shown(&state.core))),
                    SessionEvent::Changed(state) => ('c', Ok(Outline::shown(&state.core))),
                    SessionEvent::Ended(id) => ('e', Err(id.clone())),
                });
            }
            has_room
        };
        let Poll::Ready(told) = watch.poll(cx, take) else { return false };
        if let Some(reason) = told.reset {
            self.resets.push(reason);
            self.sessions.clear();
            self.is_whole = false;
        }
        for (letter, event) in events {
            self.told.push(letter);
            self.names.insert(event.as_ref().map_or_else(Clone::clone, |it| it.id().clone()));
            match event {
                Ok(outline) => drop(self.sessions.insert(outline.id().clone(), outline)),
                Err(id) => drop(self.sessions.remove(&id)),
            }
        }
        self.is_whole |= told.completes;
        assert_eq!(self.is_whole, !told.more, "it is told when the first picture is complete");
        self.cursor = watch.cursor();
        assert_eq!(self.cursor.is_some(), self.is_whole);
        true
    }

    /// What it got since the last call.
    fn hears(&mut self) -> String {
        self.read(usize::MAX);
        std::mem::take(&mut self.told)
    }

    fn ids(&self) -> Vec<&str> {
        self.sessions.keys().map(|id| &**id).collect()
    }

    /// What a listing finds for it.
    fn listed(&self, engine: &Engine) -> BTreeMap<SessionId, Outline> {
        let filter = self.filter.map(|filter| Filter::new(filter).expect(filter));
        let query = Query { member: None, filter: filter.as_ref(), order: Order::Id };
        let (mut found, mut after) = (BTreeMap::new(), None);
        loop {
            let take = |state: &State| {
                let outline = Outline::shown(&state.core);
                found.insert(outline.id().clone(), outline);
                true
            };
            after = engine.list((&app(), &self.actor), query, after, take);
            if after.is_none() {
                return found;
            }
        }
    }
}

/// Opens a session that stays without anybody in it.
fn room(engine: &Engine, id: &str) -> Arc<Live> {
    testing::room(engine, id, |settings| settings.empty_ttl = 3600 * SECOND)
}

fn by(id: &str) -> Actor {
    Actor::of(&user(id))
}

fn set(engine: &Engine, live: &Arc<Live>, setting: Setting) {
    engine.command(live, &Actor::App, Command::Update(vec![setting])).expect("the app may");
    engine.advance(SECOND);
}

#[test]
fn a_watcher_is_told_what_is_there_and_then_what_happens() {
    let engine = engine(settings());
    let first = room(&engine, "first");
    let mut eve = Client::new(&engine, by("eve"), None);
    assert_eq!(eve.hears(), "o");
    let second = room(&engine, "second");
    engine.advance(0);
    assert_eq!(eve.hears(), "o");
    set(&engine, &first, Setting::Locked(true));
    assert_eq!(eve.hears(), "c");
    engine.join(&second, &user("ada"), Join::default()).expect("there is a place");
    engine.advance(SECOND);
    assert_eq!(eve.hears(), "c", "there is one more");
    engine.command(&first, &Actor::App, Command::Delete).expect("the app may");
    engine.advance(0);
    assert_eq!(eve.hears(), "e");
    assert_eq!((eve.hears(), eve.ids()), (String::new(), vec!["second"]));
    assert_eq!(eve.resets, [Reset::First]);
}

#[test]
fn a_session_that_comes_to_be_hidden_ends_for_those_who_do_not_know_it() {
    let engine = engine(settings());
    let live = room(&engine, "room");
    engine.join(&live, &user("ada"), Join::default()).expect("there is a place");
    engine.advance(SECOND);
    let [mut app, mut ada, mut eve] =
        [Actor::App, by("ada"), by("eve")].map(|actor| Client::new(&engine, actor, None));
    let mut all = || [&mut app, &mut ada, &mut eve].map(Client::hears);
    assert_eq!(all(), ["o", "o", "o"]);
    engine.command(&live, &Actor::App, Command::Update(vec![Setting::Unlisted(true)])).expect("ok");
    engine.advance(SECOND);
    assert_eq!(all(), ["c", "c", "e"]);
    // By a role or by joining, and until that is over.
    let eves = user("eve");
    let role =
        |role| engine.set_role(&live, &Actor::App, &eves, role).map(|_| engine.advance(SECOND));
    role(crate::session::role::Role::Moderator).expect("the app may");
    assert_eq!(all(), ["", "", "o"]);
    role(crate::session::role::Role::Member).expect("the app may");
    assert_eq!(all(), ["", "", "e"]);
    engine.join(&live, &eves, Join::default()).expect("it knows the id");
    engine.advance(SECOND);
    assert_eq!(all(), ["c", "c", "o"]);
    let kick = Command::Kick { target: eves.clone(), reason: "".into() };
    engine.command(&live, &Actor::App, kick).expect("the app may");
    engine.advance(SECOND);
    assert_eq!(all(), ["c", "c", "e"]);
    set(&engine, &live, Setting::Unlisted(false));
    assert_eq!(all(), ["c", "c", "o"]);
}

#[test]
fn what_begins_or_ceases_to_match_opens_and_ends() {
    let engine = engine(settings());
    let live = room(&engine, "room");
    let mut eve = Client::new(&engine, by("eve"), Some("!locked && capacity > 3"));
    assert_eq!(eve.hears(), "o");
    for (setting, told) in [
        (Setting::Locked(true), "e"),
        (Setting::Capacity(2), ""),
        (Setting::Locked(false), ""),
        (Setting::Capacity(4), "o"),
        (Setting::Capacity(5), "c"),
    ] {
        set(&engine, &live, setting.clone());
        assert_eq!(eve.hears(), told, "{setting:?}");
    }
    set(&engine, &live, Setting::Locked(true));
    assert_eq!(eve.hears(), "e");
    engine.command(&live, &Actor::App, Command::Delete).expect("the app may");
    engine.advance(SECOND);
    assert_eq!(eve.hears(), "", "it was gone before");
}

#[test]
fn a_slow_watcher_is_told_of_each_session_once() {
    let engine = engine(settings());
    let [busy, gone] = ["busy", "gone"].map(|id| room(&engine, id));
    let mut eve = Client::new(&engine, by("eve"), None);
    assert_eq!(eve.hears(), "oo");
    for capacity in 1..100 {
        set(&engine, &busy, Setting::Capacity(capacity));
        set(&engine, &gone, Setting::Capacity(capacity));
        let brief = room(&engine, "brief");
        engine.command(&brief, &Actor::App, Command::Delete).expect("the app may");
    }
    engine.command(&gone, &Actor::App, Command::Delete).expect("the app may");
    engine.advance(SECOND);
    let told = eve.hears();
    assert_eq!(told.len(), 2, "what came and went it never knew: {told}");
    assert!(told.contains('e'));
    assert_eq!(eve.sessions, eve.listed(&engine));
}

#[test]
fn a_watcher_comes_back_to_what_happened_meanwhile() {
    let engine = engine(settings());
    let [kept, gone] = ["kept", "gone"].map(|id| room(&engine, id));
    let mut eve = Client::new(&engine, by("eve"), None);
    assert_eq!(eve.hears(), "oo");
    eve.watch = None;
    engine.command(&gone, &Actor::App, Command::Delete).expect("the app may");
    set(&engine, &kept, Setting::Locked(true));
    room(&engine, "new");
    engine.advance(KEPT_FOR / 2);
    eve.come(&engine);
    assert_eq!(eve.hears().len(), 3);
    assert_eq!((eve.sessions.clone(), eve.resets.len()), (eve.listed(&engine), 1));
    eve.watch = None;
    eve.come(&engine);
    assert_eq!(eve.hears(), "");
    assert!(eve.is_whole, "that there is nothing new is told too");
}

#[test]
fn a_cursor_that_leads_nowhere_begins_again_and_says_why() {
    let engine = engine(settings());
    room(&engine, "room");
    let mut eve = Client::new(&engine, by("eve"), None);
    eve.hears();
    let cursor = eve.cursor.clone().expect("the picture is complete");
    let comes_with = |actor: Actor, filter, cursor: Cursor| {
        let mut client = Client::new(&engine, actor, filter);
        client.cursor = Some(cursor);
        client.watch = None;
        client.come(&engine);
        assert_eq!(client.hears(), "o");
        client.resets.pop()
    };
    let other = Cursor { process: cursor.process + 1, ..cursor.clone() };
    assert_eq!(comes_with(by("eve"), None, other), Some(Reset::Restarted));
    let view = Some(Reset::OtherRequest);
    assert_eq!(comes_with(by("bob"), None, cursor.clone()), view);
    assert_eq!(comes_with(Actor::App, None, cursor.clone()), view);
    assert_eq!(comes_with(by("eve"), Some("!locked"), cursor.clone()), view);
    let short = Cursor { at: cursor.at[..1].to_vec(), ..cursor.clone() };
    assert_eq!(comes_with(by("eve"), None, short), view);
    let future = Cursor { at: vec![(0, u64::MAX); 2], ..cursor.clone() };
    assert_eq!(comes_with(by("eve"), None, future), Some(Reset::UnknownCursor));
    let old = Cursor { at: vec![(0, 0); 2], ..cursor.clone() };
    assert_eq!(comes_with(by("eve"), None, old), Some(Reset::TooOld));
    drop(eve);
    engine.advance(KEPT_FOR);
    assert_eq!(comes_with(by("eve"), None, cursor), Some(Reset::TooOld));
}

#[test]
fn who_is_too_far_behind_begins_again() {
    let engine = engine(settings());
    let mut eve = Client::new(&engine, by("eve"), None);
    assert_eq!(eve.hears(), "");
    for at in 0..=log::GONE {
        let live = room(&engine, &at.to_string());
        engine.command(&live, &Actor::App, Command::Delete).expect("the app may");
    }
    room(&engine, "last");
    engine.advance(SECOND);
    assert_eq!(eve.hears(), "o");
    assert_eq!(eve.resets, [Reset::First, Reset::TooOld]);
}

#[test]
fn nothing_is_kept_for_apps_that_nobody_watches() {
    let engine = engine(settings());
    let live = room(&engine, "room");
    set(&engine, &live, Setting::Locked(true));
    assert_eq!(engine.footprint().watched, 0);
    let jobs = engine.footprint().jobs;
    let (mut eve, mut ada) =
        (Client::new(&engine, by("eve"), None), Client::new(&engine, by("ada"), None));
    eve.hears();
    ada.hears();
    set(&engine, &live, Setting::Locked(false));
    assert_eq!(engine.footprint().watched, 4, "a log for all, an entry, and a log for each");
    let other = AppId::new("other").expect("an id");
    let elsewhere = Opening { app: other, ..opening(&engine, "room", |_| ()) };
    engine.open(elsewhere, false).expect("it opens");
    assert_eq!(engine.footprint().watched, 4);
    drop(eve);
    engine.advance(KEPT_FOR);
    assert_eq!(engine.footprint().watched, 3, "ada still watches");
    drop(ada);
    engine.advance(KEPT_FOR - 1);
    assert_eq!(engine.footprint().watched, 3);
    engine.advance(1);
    assert_eq!((engine.footprint().watched, engine.footprint().jobs), (0, jobs));
}

#[test]
fn what_is_opened_while_the_listing_goes_on_is_told_once_it_is_gone() {
    let engine = engine(settings());
    for at in 0..1500 {
        room(&engine, &format!("{at:04}"));
    }
    let mut eve = Client::new(&engine, by("eve"), None);
    let waker = Waker::from(eve.signal.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(eve.read_one(&mut cx, 1000));
    assert!(!eve.is_whole);
    let late = room(&engine, "zz");
    assert!(eve.read_one(&mut cx, 1000));
    assert!(eve.ids().contains(&"zz"));
    engine.command(&late, &Actor::App, Command::Delete).expect("the app may");
    eve.read(1000);
    assert!(eve.is_whole && !eve.ids().contains(&"zz"));
    assert_eq!(eve.sessions, eve.listed(&engine));
}

#[test]
fn every_watcher_comes_to_know_what_a_listing_finds_and_of_nothing_that_it_may_not_know() {
    const FILTERS: [Option<&str>; 3] =
        [None, Some("!locked"), Some("member_count + spectator_count > 1")];
    let (mut told, mut resumed) = (0, 0);
    for seed in 1..60_u64 {
        let engine = engine(settings());
        let mut dice = Dice(seed);
        let actors: Vec<_> = USERS.map(by).into_iter().chain([Actor::App, by("eve")]).collect();
        let mut clients = Vec::new();
        // How likely each of them reads: at once, now and then, seldom.
        for actor in &actors {
            for (filter, seldom) in FILTERS.into_iter().zip([1, 4, 15]) {
                clients.push((Client::new(&engine, actor.clone(), filter), seldom));
                clients.push((Client::new(&engine, actor.clone(), filter), 16 / seldom));
            }
        }
        let mut known = vec![BTreeSet::new(); actors.len()];
        let mut look = |engine: &Engine| {
            for (actor, known) in actors.iter().zip(&mut known) {
                for id in IDS {
                    let id = SessionId::new(id).expect("an id");
                    let live = engine.inner.registry.session(&app(), &id);
                    if live.is_some_and(|live| live.lock().is_visible_to(actor)) {
                        known.insert(id);
                    }
                }
            }
            known.clone()
        };
        for _ in 0..150 {
            act(&engine, &mut dice);
            look(&engine);
            engine.advance(dice.of(3) as u64 * SECOND / 100);
            let known = look(&engine);
            for (client, seldom) in &mut clients {
                if dice.of(40) == 0 && client.cursor.is_some() {
                    client.watch = None;
                    client.come(&engine);
                    resumed += 1;
                }
                if dice.of(*seldom) == 0 {
                    client.read(1 + dice.of(4));
                    told += client.told.len();
                    client.told.clear();
                    let at = actors.iter().position(|it| *it == client.actor).expect("it is one");
                    let told_of = &client.names;
                    assert!(told_of.is_subset(&known[at]), "{:?}: {told_of:?}", client.actor);
                }
            }
        }
        engine.advance(SECOND);
        for (client, _) in &mut clients {
            client.read(2);
            let (actor, filter) = (&client.actor, client.filter);
            assert_eq!(client.sessions, client.listed(&engine), "{seed} {actor:?} {filter:?}");
            assert!(client.is_whole);
            assert_eq!(client.resets, [Reset::First], "nobody had to begin again");
        }
        clients.clear();
        engine.advance(KEPT_FOR);
        assert_eq!(engine.footprint().watched, 0);
    }
    assert!(told > 20_000 && resumed > 1000, "{told} {resumed}");
}
