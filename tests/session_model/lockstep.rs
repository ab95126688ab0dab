//! The session and its model, side by side: what happens to one happens to the other, and after
//! every step both are asked the same questions.

use super::{
    framed::SHARED_ONLY,
    invariants::Invariants,
    listener::Listener,
    model::{Model, Props},
    people::people,
    picture::Changes,
    shadow::{self, Shadow},
    steps::{KEYS, MANY_UPDATES, Put, Puts, Start, Step, Term, USERS, Who, password},
    subscriber::{self, Subscriber, Watch},
};
use sessiond::session::{
    Info, Opening, Session,
    ban::Ban,
    command::{Actor, Command, Join, Write},
    epoch::Epoch,
    error::Refusal,
    ids::{AppId, Key, SessionId, UserId},
    limits::Micros,
    member::{MemberIx, Membership},
    revision::Revision,
    role::Role,
    schema::Schema,
    settings::{Keys, Kind, Setting, Settings},
    user::User,
    value::Value,
    view::{Class, View},
};
use std::{collections::BTreeMap, sync::Arc};

/// Any moment will do; whole milliseconds are taken by spans, see [`Lockstep::tell`].
const BEGINNING: Micros = 1_000_000_000_000;

/// Two sessions that must be the same.
pub struct Lockstep {
    start: Start,
    session: Session,
    model: Model,
    invariants: Invariants,
    now: Micros,
    users: BTreeMap<UserId, User>,
    watches: Vec<Watch>,
    subscribers: Vec<Subscriber>,
    /// How many texts were made that are written once only.
    fresh: u64,
    listener: Listener,
    shadows: Vec<Shadow>,
}

impl Lockstep {
    pub fn begin(start: Start) -> Self {
        let now = BEGINNING;
        let mut users = BTreeMap::new();
        let (session, model) = open(&start, now, 0, BTreeMap::new(), &mut users);
        let invariants = Invariants::begin(session.bans(now, &Actor::App));
        let shadows = Shadow::all(&start.limits);
        let filters = [&[][..], &["a"], &["b", "c"]];
        let filters = filters.map(|keys| Keys::new(keys.iter().copied().map(Key::from).collect()));
        let classes = [Class::Members, Class::Host];
        let views = filters
            .iter()
            .flat_map(|props| classes.map(|class| View { class, props: props.clone() }));
        let fixed = views
            .clone()
            .map(|view| Subscriber::new(subscriber::Who::Class(view.class), view.props));
        let own = USERS.map(|user| {
            let user = UserId::new(user).unwrap();
            Subscriber::new(subscriber::Who::User(user), filters[0].clone())
        });
        let mut both = Self {
            start,
            session,
            model,
            invariants,
            now,
            users,
            watches: views.clone().map(Watch::new).collect(),
            subscribers: fixed.chain(own).collect(),
            fresh: 0,
            listener: Listener::default(),
            shadows,
        };
        both.framed(0);
        both.compare();
        both
    }

    /// One step of the story. Each is told a microsecond after the one before it, and every span is
    /// in milliseconds, so that no two moments are the same by chance.
    pub fn tell(&mut self, step: Step) {
        self.now += 1;
        if self.model.ended {
            self.open_anew();
        }
        match step {
            Step::Join { user, spectator, presence, is_stream, set, proven } => {
                let props = self.values(&user, set);
                let user_props = self.model.users.get(&user).cloned().unwrap_or_default();
                let user_props = user_props.into_iter().collect();
                let (proven, moves) = (proven.map(password), false);
                let join = Join {
                    spectator,
                    presence,
                    is_stream,
                    props,
                    user_props,
                    moves,
                    proven,
                    ..Join::default()
                };
                let actor = Actor::of(&user);
                let joined = self.apply(&actor, Command::Join { user: user.clone(), join });
                if joined && is_stream {
                    self.apply(&actor, Command::StreamOpened { user });
                }
            }
            Step::Leave { user, keep_role } => {
                let user = self.somebody(user);
                self.apply(&Actor::of(&user), Command::Leave { user, keep_role });
            }
            Step::SetProps { who, user, write, term } => {
                let user = self.somebody(user);
                let (write, term) = (self.write(&user, write), self.term(term));
                let actor = match who {
                    Who::App => Actor::App,
                    _ => Actor::of(&user),
                };
                self.apply(&actor, Command::SetProps { user, write, term });
            }
            Step::Restore { user, key } => self.restore(self.somebody(user), key),
            Step::SetOnUser { user, write } => self.set_on_user(self.somebody(user), write),
            Step::SetData { who, shared, private, term } => {
                let shared = self.write("data", shared);
                let private = self.write("private", private);
                let command = Command::SetData { shared, private, term: self.term(term) };
                self.apply(&self.keeper(who), command);
            }
            Step::Update { who, changes } => {
                self.apply(&self.keeper(who), Command::Update(changes));
            }
            Step::Compare { user, of_data, key, behind, write } => {
                let user = self.somebody(user);
                let write = self.write(if of_data { "data" } else { &user }, write);
                self.compare_and_set(user, of_data, (key, behind), write);
            }
            Step::SetRole { who, target, role } => {
                let (target, actor) = (self.somebody(target), self.superior(who));
                let user_props = self.model.users.get(&target).cloned().unwrap_or_default();
                let user_props = user_props.into_iter().collect();
                self.apply(&actor, Command::SetRole { target, role, user_props });
            }
            Step::Kick { who, target } => {
                let (target, actor) = (self.somebody(target), self.superior(who));
                self.apply(&actor, Command::Kick { target, reason: "".into() });
            }
            Step::Ban { who, target, span } => {
                let (target, actor) = (self.somebody(target), self.superior(who));
                let ban = Ban { reason: "".into(), until: span.map(|span| self.now + span) };
                self.apply(&actor, Command::Ban { target, ban });
            }
            Step::Unban { who, target } => {
                let actor = self.superior(who);
                let banned = self.model.banned(self.now).first().map(|(user, _)| user.clone());
                self.apply(&actor, Command::Unban { target: banned.unwrap_or(target) });
            }
            Step::Reserve { who, users, span } => {
                let (actor, users) = self.holder(who, users);
                let until = self.now + span;
                self.apply(&actor, Command::ReserveSeats { users, until });
            }
            Step::Release { who, users } => {
                let (actor, users) = self.holder(who, users);
                self.apply(&actor, Command::ReleaseSeats { users });
            }
            Step::SwapHost { who, target, term } => {
                let actor = self.superior(who);
                let target = target.map(|target| self.somebody(target));
                self.apply(&actor, Command::SwapHost { target, term: self.term(term) });
            }
            Step::Listen => {
                // The log begins after a whole frame.
                if !self.session.has_log() {
                    self.flush(0);
                }
                self.listener.begin(&mut self.session);
            }
            Step::RestoreSelection => {
                let settings = self.model.last().info.settings.clone();
                let Settings { propnames, hostprops, .. } = (*settings).clone();
                let changes = vec![Setting::Propnames(propnames), Setting::Hostprops(hostprops)];
                self.apply(&Actor::App, Command::Update(changes));
            }
            Step::Reset { who, schema } => {
                let actor = self.keeper(who);
                let fits = self.start.limits.props_per_user >= KEYS.len();
                self.reset(&actor, schema.filter(|_| fits));
            }
            Step::Delete { who } => {
                self.apply(&self.keeper(who), Command::Delete);
            }
            Step::OpenStream { user } => {
                let user = self.somebody(user);
                self.apply(&Actor::of(&user), Command::StreamOpened { user });
            }
            Step::CloseStream { user, lost, is_old } => {
                self.close_stream(self.somebody(user), lost, is_old);
            }
            Step::LoseHost => {
                if let Some(host) = self.model.info.host.clone() {
                    self.close_stream(host, true, false);
                }
            }
            Step::Pass { by, unnoticed } => {
                self.now += by;
                if !unnoticed {
                    self.session.pass_time(self.now);
                    self.model.pass_time(self.now);
                }
            }
            Step::Flush { asleep, from_everywhere } => {
                self.flush(asleep);
                if from_everywhere {
                    self.resume_from_everywhere();
                }
            }
        }
        self.compare();
        let any = self.now as usize % self.watches.len();
        self.watches[any].between_frames(&self.session, &self.model);
        if !self.session.is_open() {
            let views: Vec<_> = self.watches.iter().map(|watch| watch.view.clone()).collect();
            for shadow in &mut self.shadows {
                shadow.follow(&self.session, &views, self.now);
            }
        }
    }

    /// The story is over: everybody wakes up.
    pub fn end(mut self) {
        self.now += 1;
        self.flush(0);
        self.resume_from_everywhere();
        self.compare();
        let views: Vec<_> = self.watches.iter().map(|watch| watch.view.clone()).collect();
        shadow::take_over(&mut self.session, &self.start.limits, &views, self.now);
    }

    /// The same becomes of a command in both, and a refused one leaves no trace.
    fn apply(&mut self, actor: &Actor, command: Command) -> bool {
        let expected = self.model.apply(self.now, actor, &command);
        let before = expected.is_err().then(|| format!("{:?}", self.session));
        let told = format!("{actor:?} {command:?}");
        let ranks = Invariants::ranks(&self.session, actor, &command);
        let answer = self.session.apply(self.now, actor, command.clone());
        if answer.is_ok() {
            self.invariants.accepted(self.now, actor, &command, &ranks);
            self.listener.hear(actor, &command);
        }
        match (&answer, &expected) {
            (Err(Refusal::Invalid(found)), Err(Refusal::Invalid(expected)))
            | (Err(Refusal::NotAWriter(found)), Err(Refusal::NotAWriter(expected)))
            | (Err(Refusal::RevisionChanged(found)), Err(Refusal::RevisionChanged(expected))) => {
                let fields = |list: &[sessiond::session::error::Violation]| {
                    list.iter().map(|violation| violation.field.clone()).collect::<Vec<_>>()
                };
                assert_eq!(fields(found), fields(expected), "{told}");
            }
            _ => assert_eq!(answer, expected, "{told}"),
        }
        if let Some(before) = before {
            assert_eq!(format!("{:?}", self.session), before, "{told} was refused");
        }
        self.compare();
        answer.is_ok()
    }

    fn close_stream(&mut self, user: UserId, lost: bool, is_old: bool) {
        let order = self.model.members.get(&user).map_or(0, |member| member.order);
        let membership = if is_old { order.wrapping_sub(1) } else { order };
        let actor = Actor::of(&user);
        self.apply(&actor, Command::StreamClosed { user, membership, lost });
    }

    /// Sets a key to what the last frame shows: A->B->A, if it was written since.
    fn restore(&mut self, user: UserId, key: Key) {
        let framed = self.model.last().members.get(&user);
        let value = framed.and_then(|member| member.props.get(&key)).cloned();
        let write = match value {
            Some(value) => Write::of(vec![(key, value)]),
            None => Write { remove: vec![key], ..Write::default() },
        };
        let actor = Actor::of(&user);
        self.apply(&actor, Command::SetProps { user, write, term: 0 });
    }

    /// The one session of the user takes the write first, if it shows a key of it, then the record,
    /// and the session that shows none.
    fn set_on_user(&mut self, user: UserId, write: Puts) {
        let write = self.write(&user, write);
        let record = self.model.users.entry(user.clone()).or_default().clone();
        let expected = self.model.written(&record, &write);
        let most = self.start.limits.props_per_user;
        let known = self.users.entry(user.clone()).or_default();
        assert_eq!(known.check_room(&write, most).as_ref().err(), expected.as_ref().err());
        let Ok(record) = expected else { return };
        let is_in = !self.model.ended && self.model.members.contains_key(&user);
        let command =
            |hidden| Command::UserProps { user: user.clone(), write: write.clone(), hidden };
        if self.apply(&Actor::App, command(false)) || !is_in {
            self.apply(&Actor::App, command(true));
            self.users.entry(user.clone()).or_default().write(&write);
            self.model.users.insert(user, record);
        }
    }

    /// Only from where on it is known what went, as how long it is known is not for the model to say;
    /// or whether nothing is there.
    fn compare_and_set(
        &mut self,
        user: UserId,
        of_data: bool,
        (key, behind): (Key, u64),
        write: Write,
    ) {
        let history = self.model.history.iter().zip((1..).map(Revision));
        let gone = history.filter(|(framed, _)| framed.departures.contains_key(&user));
        let gone = gone.map(|(_, revision)| revision).last().unwrap_or(Revision::FIRST);
        let known = self.session.horizon().max(gone);
        let revision = match behind {
            3 => Revision::NONE,
            behind => Revision(self.model.revision().0.saturating_sub(behind)).max(known),
        };
        let write = Write { if_revision: vec![(key, revision)], ..write };
        let actor = Actor::of(&user);
        let command = match of_data {
            true => Command::SetData { shared: write, private: Write::default(), term: 0 },
            false => Command::SetProps { user, write, term: 0 },
        };
        self.apply(&actor, command);
    }

    /// Makes one or two frames at once, over which no delta leads.
    fn reset(&mut self, actor: &Actor, schema: Option<Arc<Schema>>) {
        let (last, departed) = (self.model.last().info.clone(), self.model.departed.clone());
        let before = format!("{:?}", self.session);
        let frames = 1 + usize::from(self.model.open);
        let expected = self.model.reset(self.now, actor, schema.clone());
        let answer = self.session.reset(self.now, actor, schema);
        let Ok(frame) = answer else {
            assert_eq!(answer.map(|_| ()), expected);
            return assert_eq!(format!("{:?}", self.session), before, "a refusal leaves no trace");
        };
        expected.unwrap();
        let views_changed = views_differ(&last, &self.model.last().info);
        let told = (frame.revision, frame.views_changed, frame.departed);
        assert_eq!(told, (self.model.revision(), views_changed, departed));
        assert_eq!(self.session.horizon(), self.model.revision());
        for watch in &mut self.watches {
            watch.reset(&self.session, &self.model, frames);
        }
        self.listener.reset(&self.session);
        for subscriber in &mut self.subscribers {
            subscriber.catch_up(&self.session, &self.watches, &self.model);
        }
    }

    fn flush(&mut self, asleep: u16) {
        let before = self.model.last().info.clone();
        let (was_open, departed) = (self.model.open, self.model.departed.clone());
        let frame = self.session.flush(self.now);
        let revision = frame.as_ref().map(|frame| frame.revision);
        assert_eq!(revision, self.model.flush(self.now));
        assert_eq!(frame.is_some(), was_open);
        let Some(frame) = frame else { return };
        let after = &self.model.last().info;
        assert_eq!((frame.views_changed, frame.departed), (views_differ(&before, after), departed));
        assert_eq!(self.session.last_frame_at(), self.now);
        assert!(before.term <= after.term);
        self.framed(asleep);
    }

    /// A frame was made: every view shows what it has to show.
    fn framed(&mut self, asleep: u16) {
        for watch in &mut self.watches {
            watch.frame(&self.session, &self.model);
        }
        let forgets = self.start.limits.log_updates < MANY_UPDATES;
        self.listener.frame(&self.session, &self.model, forgets);
        for (bit, subscriber) in self.subscribers.iter_mut().enumerate() {
            if asleep & (1 << bit) == 0 {
                subscriber.catch_up(&self.session, &self.watches, &self.model);
            }
        }
    }

    fn resume_from_everywhere(&self) {
        for watch in &self.watches {
            watch.resume_from_everywhere(&self.session, &self.model);
        }
    }

    /// Whatever can be asked of a session is answered by both alike.
    fn compare(&mut self) {
        let (session, model) = (&mut self.session, &mut self.model);
        assert_eq!(session.take_left(), std::mem::take(&mut model.left));
        assert_eq!(**session.accepted_info(), model.info);
        assert_eq!(**session.info(), model.last().info);
        let position = (session.epoch().0, session.revision(), session.pending_revision());
        assert_eq!(position, (model.epoch, model.revision(), model.pending_revision()));
        assert_eq!((session.is_open(), session.has_ended()), (model.open, model.ended));
        // Those that were over by the end of it may still be there, or not.
        if !model.ended {
            assert_eq!(session.seats(), model.seats.len());
        }
        if !model.open {
            assert_eq!(session.shown_seats(), session.seats());
        }
        assert!(session.horizon() <= model.horizon_at_most.min(session.revision()));
        if !model.ended {
            assert_eq!(session.next_deadline(), model.next_deadline());
        }
        let mut expected: Vec<_> = model.members.iter().collect();
        expected.sort_by_key(|(_, member)| member.order);
        let joined: Vec<(MemberIx, _, _)> = session.members().joined().collect();
        assert_eq!(joined.len(), expected.len());
        assert_eq!(session.members().joined_count(), expected.len());
        for ((_, user, found), (name, member)) in joined.iter().zip(&expected) {
            assert_eq!(user, name);
            let Membership { role, presence, disconnected, streams, order, joined_at, .. } = found;
            assert_eq!((role, presence), (&member.role, &member.presence), "{user}");
            assert_eq!((disconnected, streams), (&member.disconnected, &member.streams), "{user}");
            assert_eq!((order, joined_at), (&member.order, &member.joined_at), "{user}");
        }
        for user in USERS {
            let user = UserId::new(user).unwrap();
            let keeps = |info: &Info| match model.kind {
                Kind::Hosted => info.host.as_ref() == Some(&user),
                Kind::Room => info.owner.as_ref() == Some(&user),
                Kind::Private => unreachable!("{SHARED_ONLY}"),
            };
            let class = |keeps: bool| if keeps { Class::Host } else { Class::Members };
            let (keeps_now, keeps_next) = (keeps(&model.last().info), keeps(&model.info));
            let actor = Actor::of(&user);
            assert_eq!(session.standing(&actor), model.standing(&actor));
            assert_eq!(session.class_of(&actor), class(keeps_now));
            assert_eq!(session.class_of_pending(&actor), class(keeps_now && keeps_next));
            let Some(user) = actor.user() else { unreachable!("it is a user") };
            for class in [Class::Members, Class::Host] {
                let view = View { class, props: Keys::default() };
                let pending = Changes::pending(session, &view, user);
                let expected = model.pending(&view, user);
                assert_eq!(pending.of(user), expected.as_ref(), "{user} as {view:?} sees it");
            }
            let first = session.first_match(std::slice::from_ref(user), &[]);
            let is_shown = model.last().members.contains_key(user);
            assert_eq!(first.map(|(member, _)| &member.user), is_shown.then_some(user));
        }
        self.invariants.hold(self.now, session);
        assert_eq!(session.class_of(&Actor::App), Class::Host);
        let first = session.first_match(&[], &[]).map(|(member, _)| member.user.to_string());
        assert_eq!(first.as_ref(), model.last().in_join_order().first());
        assert_eq!(session.bans(self.now, &Actor::App), model.banned(self.now));
        if let Some(host) = &model.info.host {
            let hosts = |membership: &Membership| {
                !membership.disconnected && membership.role >= Role::Member
            };
            let is_fit = session.members().membership(host).is_some_and(hosts);
            assert!(is_fit || model.waits_for_host(), "{host} hosts");
        }
    }

    /// After the end nothing is accepted; then somebody opens a session of the same id.
    fn open_anew(&mut self) {
        self.apply(&Actor::App, Command::Update(Vec::new()));
        self.flush(0);
        let users = std::mem::take(&mut self.model.users);
        let epoch = self.session.epoch().0;
        (self.session, self.model) = open(&self.start, self.now, epoch, users, &mut self.users);
        self.invariants = Invariants::begin(self.session.bans(self.now, &Actor::App));
        self.watches.iter_mut().for_each(Watch::start_anew);
        self.shadows.iter_mut().for_each(Shadow::start_anew);
        self.listener = Listener::default();
        self.framed(0);
        self.compare();
    }

    /// The user, or instead of an outsider mostly the next member.
    fn somebody(&self, user: UserId) -> UserId {
        let mut members = self.model.members.keys();
        if self.now.is_multiple_of(8) || self.model.members.contains_key(&user) {
            return user;
        }
        members.clone().find(|member| **member > user).or(members.next()).cloned().unwrap_or(user)
    }

    /// Who asks for something that not everybody may do.
    fn keeper(&self, who: Who) -> Actor {
        let keeper = self.model.info.host.clone().or_else(|| self.model.info.owner.clone());
        match who {
            Who::App => Actor::App,
            Who::Oneself(user) => Actor::of(&keeper.unwrap_or(user)),
            Who::Other(user) => Actor::of(&user),
        }
    }

    /// Who asks for places, and for whom: in most cases somebody for itself.
    fn holder(&self, who: Who, mut users: Vec<UserId>) -> (Actor, Vec<UserId>) {
        if let Who::Oneself(_) = who {
            users.truncate(1);
            return (Actor::of(&users[0]), users);
        }
        (self.superior(who), users)
    }

    /// Who asks for something that takes a rank.
    fn superior(&self, who: Who) -> Actor {
        let above = |role: &Role| *role >= Role::Moderator;
        match who {
            Who::App => Actor::App,
            Who::Oneself(user) => {
                let known = self.model.roles.get(&user).filter(|role| above(role)).map(|_| user);
                let mut roles = self.model.roles.iter();
                let superior = roles.find(|(_, role)| above(role)).map(|(user, _)| user.clone());
                known.or(superior).map_or(Actor::App, |user| Actor::of(&user))
            }
            Who::Other(user) => Actor::of(&user),
        }
    }

    fn term(&self, term: Term) -> u64 {
        let current = self.model.info.term;
        match term {
            Term::Any => 0,
            Term::Current => current,
            Term::Older => current.saturating_sub(1),
            Term::Newer => current + 1,
        }
    }

    fn write(&mut self, owner: &str, puts: Puts) -> Write {
        Write { remove: puts.remove, ..Write::of(self.values(owner, puts.set)) }
    }

    fn values(&mut self, owner: &str, puts: Vec<(Key, Put)>) -> Vec<(Key, Value)> {
        let mut value = |key: &Key, put| match put {
            Put::Usual(value) => value,
            Put::Fresh => {
                self.fresh += 1;
                Value::Text(format!("{owner}/{key}/{}", self.fresh).into())
            }
        };
        puts.into_iter().map(|(key, put)| (key.clone(), value(&key, put))).collect()
    }
}

/// Whether somebody may have come to see another view.
fn views_differ(before: &Info, after: &Info) -> bool {
    (&before.host, &before.owner) != (&after.host, &after.owner)
        || before.settings.propnames != after.settings.propnames
        || before.settings.hostprops != after.settings.hostprops
}

fn open(
    start: &Start,
    now: Micros,
    last_epoch: u64,
    props: BTreeMap<UserId, Props>,
    records: &mut BTreeMap<UserId, User>,
) -> (Session, Model) {
    let value = |text: &str| (Key::from("a"), Value::Text(text.into()));
    let mut join = |user: &UserId| {
        let props = vec![value(&format!("{user}/a/0"))];
        let user_props = records.entry(user.clone()).or_default().props();
        Join { props, user_props, ..Join::default() }
    };
    let opener = start.opener.clone().map(|user| (user.clone(), join(&user)));
    let people = people(start.opener.as_ref(), &start.places, now, |user| Join {
        props: Vec::new(),
        ..join(user)
    });
    let (app, id) = (AppId::new("app").unwrap(), SessionId::new("session").unwrap());
    let mut opening = Opening {
        opener,
        people,
        data: vec![value("data/a/0")],
        private_data: vec![value("private/a/0")],
        schema: start.schema.clone(),
        ..Opening::new(app, id, start.kind, start.settings.clone())
    };
    loop {
        let limits = start.limits.clone();
        let model = Model::open(opening.clone(), limits.clone(), now, last_epoch, props.clone());
        let session = Session::open(opening.clone(), Arc::new(limits), now, Epoch(last_epoch));
        match (session, model) {
            (Ok(session), Ok(model)) => {
                assert_eq!((session.revision(), session.created_at()), (Revision::FIRST, now));
                return (session, model);
            }
            (session, model) => {
                assert_eq!(session.err(), model.err());
                // There is no room for all of them, or for all that the opener begins with.
                if std::mem::take(&mut opening.people.users).is_empty() {
                    let (_, join) = opening.opener.as_mut().expect("somebody had no room");
                    assert!(!std::mem::take(&mut join.props).is_empty());
                }
            }
        }
    }
}
