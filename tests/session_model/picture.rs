//! A client that follows the proto to the letter: what it receives, and what it knows after
//! applying it.

use sessiond::session::{
    Info, Session,
    ids::Key,
    log::Event,
    member::Departure,
    revision::Revision,
    role::Role,
    value::Value,
    view::{Cell, ChangeSink, Class, MemberChange, View},
};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that a view shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Picture {
    pub session: Option<Info>,
    pub data: BTreeMap<Key, Value>,
    pub private_data: BTreeMap<Key, Value>,
    pub members: BTreeMap<String, Figure>,
}

/// A member as a view shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    pub role: Role,
    pub disconnected: bool,
    /// Members stand in this order.
    pub order: u64,
    pub props: BTreeMap<Key, Value>,
}

/// What is received: the fields of `Changes` in the proto.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    pub session: Option<Info>,
    pub data: Diff,
    pub private_data: Diff,
    /// In the order of arrival.
    pub members: Vec<(String, Change)>,
    pub left: BTreeMap<String, Departure>,
}

/// What columns have in place of names: which number of a key each value came under.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    /// In the order of arrival: the number, its key, and whether it is named.
    cells: Vec<(u64, Key, bool)>,
}

/// The keys by the numbers that a client knows.
pub type Known = BTreeMap<u64, Key>;

impl Numbers {
    /// Those of the whole view.
    pub fn all(session: &Session, view: &View) -> Self {
        gather(|sink| session.show_all(view, sink)).numbers
    }

    /// Those of what changed in the view after a revision.
    pub fn after(session: &Session, view: &View, from: Revision) -> Self {
        gather(|sink| session.show_changes(view, from, sink)).numbers
    }

    /// Adds the names that come to those that are known. Then every number has the name that it
    /// has to have.
    pub fn teach(&self, known: &mut Known) {
        for (number, key, _) in self.cells.iter().filter(|(.., is_named)| *is_named) {
            let before = known.insert(*number, key.clone());
            assert!(before.is_none_or(|before| before == *key), "{number} is {key} now");
        }
        for (number, key, _) in &self.cells {
            assert_eq!(known.get(number), Some(key), "{number} of {known:?}");
        }
    }
}

/// Values that were set and keys that were removed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Diff {
    pub set: BTreeMap<Key, Value>,
    pub removed: BTreeSet<Key>,
}

/// What is received of one member.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    pub replaces: bool,
    pub role: Option<Role>,
    pub disconnected: Option<bool>,
    pub order: Option<u64>,
    pub props: Diff,
}

impl Diff {
    fn put(&mut self, key: &str, value: Option<&Value>) {
        let fresh = match value {
            Some(value) => self.set.insert(key.into(), value.clone()).is_none(),
            None => self.removed.insert(key.into()),
        };
        let once = fresh && !(self.set.contains_key(key) && self.removed.contains(key));
        assert!(once, "{key} came twice in one step");
    }

    fn apply(&self, map: &mut BTreeMap<Key, Value>) {
        map.extend(self.set.iter().map(|(key, value)| (key.clone(), value.clone())));
        map.retain(|key, _| !self.removed.contains(key));
    }
}

impl Changes {
    /// The whole view.
    pub fn all(session: &Session, view: &View) -> Self {
        collect(|sink| session.show_all(view, sink))
    }

    /// What changed in the view after a revision.
    pub fn after(session: &Session, view: &View, from: Revision) -> Self {
        collect(|sink| session.show_changes(view, from, sink))
    }

    /// What a snapshot names beside the state for who has come to a revision.
    pub fn departures_after(session: &Session, from: Revision) -> BTreeMap<String, Departure> {
        collect(|sink| session.show_departures(from, sink)).left
    }

    /// What an update of the log does in the view.
    pub fn logged(session: &Session, view: &View, event: &Event) -> Self {
        collect(|sink| session.show_logged(view, event, sink))
    }

    /// What is accepted of one member and not framed yet.
    pub fn pending(session: &Session, view: &View, user: &str) -> Self {
        collect(|sink| session.show_pending(view, user, sink))
    }

    /// What changed of one member after a revision.
    pub fn of_member_after(session: &Session, view: &View, user: &str, after: Revision) -> Self {
        collect(|sink| session.show_member_after(view, user, after, sink))
    }

    /// Nothing to send.
    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    /// What came about one member.
    pub fn of(&self, user: &str) -> Option<&Change> {
        self.members.iter().find(|(name, _)| name == user).map(|(_, change)| change)
    }
}

impl Picture {
    /// The members in the order in which they joined.
    pub fn in_join_order(&self) -> Vec<&str> {
        let mut members: Vec<_> = self.members.iter().collect();
        members.sort_by_key(|(_, figure)| figure.order);
        members.into_iter().map(|(user, _)| &**user).collect()
    }

    /// What a snapshot shows.
    pub fn of_snapshot(snapshot: &Changes) -> Self {
        let mut picture = Self::default();
        picture.apply(snapshot);
        assert!(picture.session.is_some(), "a snapshot describes the session");
        picture
    }

    /// Session replaces what is known of the session; data entries are set, then removed keys are
    /// dropped; members as their change says; who left is dropped.
    pub fn apply(&mut self, changes: &Changes) {
        if let Some(session) = &changes.session {
            self.session = Some(session.clone());
        }
        changes.data.apply(&mut self.data);
        changes.private_data.apply(&mut self.private_data);
        for (user, change) in &changes.members {
            if change.replaces {
                self.members.remove(user);
            }
            let known = self.members.entry(user.clone()).or_insert_with(|| Figure {
                role: change.role.expect("the role comes with a member that is new"),
                disconnected: false,
                order: change.order.expect("the order comes with a member that is new"),
                props: BTreeMap::new(),
            });
            known.role = change.role.unwrap_or(known.role);
            known.disconnected = change.disconnected.unwrap_or(known.disconnected);
            known.order = change.order.unwrap_or(known.order);
            change.props.apply(&mut known.props);
        }
        for user in changes.left.keys() {
            assert!(changes.of(user).is_none(), "{user} is in members and in left");
            self.members.remove(user);
        }
    }
}

/// Takes down what comes, and insists on the promised order.
#[derive(Default)]
struct Collector {
    changes: Changes,
    numbers: Numbers,
    /// The join order of the last member, where it came with it.
    order: Option<u64>,
    chapter: Chapter,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Chapter {
    #[default]
    Session,
    Data,
    PrivateData,
    Members,
    Left,
}

fn collect(show: impl FnOnce(&mut Collector)) -> Changes {
    gather(show).changes
}

fn gather(show: impl FnOnce(&mut Collector)) -> Collector {
    let mut collector = Collector::default();
    show(&mut collector);
    collector
}

impl Collector {
    fn turn_to(&mut self, chapter: Chapter) {
        assert!(self.chapter <= chapter, "{chapter:?} after {:?}", self.chapter);
        self.chapter = chapter;
    }
}

impl ChangeSink<'_> for Collector {
    fn session(&mut self, _: &Session, info: &Info, _: Class) {
        self.turn_to(Chapter::Session);
        assert!(self.changes.session.replace(info.clone()).is_none());
    }

    fn data(&mut self, key: &str, value: Option<&Value>) {
        self.turn_to(Chapter::Data);
        self.changes.data.put(key, value);
    }

    fn private_data(&mut self, key: &str, value: Option<&Value>) {
        self.turn_to(Chapter::PrivateData);
        self.changes.private_data.put(key, value);
    }

    fn member(&mut self, change: MemberChange<'_>) {
        self.turn_to(Chapter::Members);
        let MemberChange { user, replaces, role, disconnected, order } = change;
        assert!(self.changes.of(user).is_none(), "{user} came twice in one step");
        self.order = order;
        let props = Diff::default();
        let change = Change { replaces, role, disconnected, order, props };
        self.changes.members.push((user.to_string(), change));
    }

    fn prop(&mut self, key: &str, value: Option<&Value>) {
        self.turn_to(Chapter::Members);
        let (_, change) = self.changes.members.last_mut().expect("a prop follows its member");
        change.props.put(key, value);
    }

    fn cell(&mut self, cell: Cell<'_>, value: Option<&Value>) {
        let Cell { member, key, number, is_news } = cell;
        assert!(self.order.is_none_or(|order| order == member), "{key} of another member");
        if value.is_some() {
            self.numbers.cells.push((number, key.into(), is_news));
        }
        self.prop(key, value);
    }

    fn left(&mut self, user: &str, departure: Departure) {
        self.turn_to(Chapter::Left);
        let twice = self.changes.left.insert(user.to_owned(), departure).is_some();
        assert!(!twice, "{user} left twice in one step");
    }
}
