//! A client's copy of a session, rebuilt from updates by the rules of the proto, to the letter: what
//! the rules do not allow fails the test.

use super::values::{Shown, flag, floats as floats_of, int, num, show, show_named, text};
use prost::Message;
use sessiond::proto::{
    self, Changes, DepartureReason, NamedValue, Role, SessionUpdate, SnapshotReason,
    session_update::Body,
};
use std::collections::{BTreeMap, HashSet};

/// One step of a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The whole state.
    Snapshot(SnapshotReason),
    /// What changed.
    Changes {
        /// The revision that it starts from.
        from: u64,
        /// The revision that it leads to.
        to: u64,
        /// In how many messages it came.
        parts: usize,
        /// The changes, whatever parts they came in.
        changes: Box<Changes>,
    },
    /// Every accepted write and event.
    Log {
        /// The revision that it starts from.
        from: u64,
        /// The revision that it leads to.
        to: u64,
        /// In how many messages it came.
        parts: usize,
        /// The updates, whatever parts they came in.
        updates: Vec<proto::LoggedUpdate>,
    },
    /// Nothing changed up to a revision.
    Heartbeat(u64),
    /// The session is over for this stream.
    Ended(proto::Ended),
}

/// What a client knows of one session.
#[derive(Debug, Clone, Default)]
pub struct Rebuilt {
    /// The incarnation.
    pub epoch: u64,
    /// The position.
    pub revision: u64,
    /// The fingerprint of the view.
    pub view: u32,
    /// All that the view shows.
    pub state: State,
    /// The revisions whose updates were lost before the last snapshot, as it says; 0 = none.
    pub lost: (u64, u64),
    /// The members in the order of joining.
    pub order: Vec<String>,
    /// The users who left, as the last step says; nobody of them is back by its end.
    pub left: BTreeMap<String, DepartureReason>,
    /// The names of props in columns.
    pub names: BTreeMap<u64, String>,
    /// The parts of a step that is not complete.
    parts: Vec<SessionUpdate>,
    ended: bool,
}

/// What a view shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The description.
    pub session: Option<proto::SessionInfo>,
    /// The shared data.
    pub data: Shown,
    /// The private data.
    pub private_data: Shown,
    /// The members by id.
    pub members: BTreeMap<String, Member>,
}

/// What is known of a member.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Member {
    /// The role.
    pub role: Role,
    /// Whether it is disconnected.
    pub disconnected: bool,
    /// Where it stands in the order of joining.
    pub join_order: u64,
    /// The props.
    pub props: Shown,
}

impl Rebuilt {
    /// What a snapshot holds.
    pub fn from_snapshot(snapshot: SessionUpdate) -> Self {
        let mut rebuilt = Self::default();
        assert!(matches!(rebuilt.apply(snapshot), Some(Step::Snapshot(SnapshotReason::First))));
        rebuilt
    }

    /// The same knowledge, to continue with on another stream.
    pub fn again(&self) -> Self {
        Self { ended: false, parts: Vec::new(), ..self.clone() }
    }

    /// Where to continue.
    pub fn resume(&self) -> proto::Resume {
        let position = proto::Position { epoch: self.epoch, revision: self.revision };
        proto::Resume { position: Some(position), view: self.view }
    }

    /// Whether somebody is a member.
    pub fn knows(&self, user: &str) -> bool {
        self.state.members.contains_key(user)
    }

    /// The props of a member.
    #[track_caller]
    pub fn props(&self, user: &str) -> Shown {
        self.member(user).props.clone()
    }

    /// A member.
    #[track_caller]
    pub fn member(&self, user: &str) -> &Member {
        let member = self.state.members.get(user);
        member.unwrap_or_else(|| panic!("{user} is a member: {:?}", self.state.members))
    }

    /// The description of the session.
    pub fn session(&self) -> &proto::SessionInfo {
        self.state.session.as_ref().expect("a snapshot tells it")
    }

    /// Applies a message. None while more parts of its step are to come.
    pub fn apply(&mut self, update: SessionUpdate) -> Option<Step> {
        assert!(update.encoded_len() <= 1024 * 1024, "no message is larger than 1 MiB");
        assert!(!self.ended, "nothing comes after the end: {update:?}");
        if let Some(first) = self.parts.first() {
            match (&first.body, &update.body) {
                (Some(Body::Log(_)), Some(Body::Log(_))) => {}
                (Some(Body::Log(_)), _) => panic!("parts of the log go on with the log"),
                (_, body) => assert!(matches!(body, Some(Body::Changes(_))), "{body:?}"),
            }
            let span = (update.from_revision, update.to_revision);
            assert_eq!(span, (first.from_revision, first.to_revision), "all parts have one span");
        }
        let more = update.more;
        self.parts.push(update);
        if more {
            return None;
        }
        let parts = std::mem::take(&mut self.parts);
        self.left.clear();
        let step = self.step(parts);
        let mut members: Vec<_> = self.state.members.iter().collect();
        members.sort_by_key(|(_, member)| member.join_order);
        let is_told_apart = |pair: &[(_, &Member)]| pair[0].1.join_order < pair[1].1.join_order;
        assert!(members.windows(2).all(is_told_apart), "each has a place of its own: {members:?}");
        self.order = members.into_iter().map(|(user, _)| user.clone()).collect();
        Some(step)
    }

    fn step(&mut self, parts: Vec<SessionUpdate>) -> Step {
        let [first, ..] = &*parts else { unreachable!("a step has a part") };
        let (epoch, from, to) = (first.epoch, first.from_revision, first.to_revision);
        let is_snapshot = matches!(first.body, Some(Body::Snapshot(_)));
        let is_delta = matches!(first.body, Some(Body::Changes(_) | Body::Log(_)));
        assert_eq!(from == 0, !is_delta, "{first:?}");
        if to == 0 && matches!(first.body, Some(Body::Heartbeat(_))) {
            // Nothing can be shown yet.
            return Step::Heartbeat(0);
        }
        assert!(to >= 1, "every step leads somewhere: {first:?}");
        let carries_epoch = is_snapshot || matches!(first.body, Some(Body::Ended(_)));
        assert_eq!(epoch != 0, carries_epoch, "{first:?}");
        if matches!(first.body, Some(Body::Log(_))) {
            return self.log(from, to, parts);
        }
        let count = parts.len();
        // One frame's changes say nothing that the client knows.
        let is_one_frame = !is_snapshot && to == self.revision + 1;
        let mut whole = Changes::default();
        let mut reason = None;
        for part in parts {
            let changes = match part.body.expect("an update has a body") {
                Body::Snapshot(snapshot) => {
                    assert_ne!(snapshot.view, 0, "a snapshot has a fingerprint");
                    self.begin_snapshot(epoch, snapshot.view);
                    self.lost = (snapshot.lost_from, snapshot.lost_to);
                    reason = Some(SnapshotReason::try_from(snapshot.reason).expect("is known"));
                    snapshot.state.expect("a snapshot has a state")
                }
                Body::Changes(changes) => changes,
                Body::Heartbeat(_) => {
                    assert!(self.revision <= to, "a heartbeat never goes back");
                    self.revision = to;
                    return Step::Heartbeat(to);
                }
                Body::Ended(ended) => {
                    assert!(self.epoch == 0 || self.epoch == epoch, "one epoch to the end");
                    assert!(self.revision <= to, "the end never goes back");
                    self.revision = to;
                    self.ended = true;
                    return Step::Ended(ended);
                }
                Body::Log(log) => panic!("changes go on with {log:?}"),
            };
            self.take(&changes, is_one_frame, is_snapshot);
            append(&mut whole, changes);
        }
        if let Some(reason) = reason {
            self.revision = to;
            return Step::Snapshot(reason);
        }
        let revision = self.revision;
        assert!(from <= revision && revision < to, "from {from} to {to} at {revision}");
        self.check_whole(&whole);
        self.revision = to;
        Step::Changes { from, to, parts: count, changes: Box::new(whole) }
    }

    /// Applies every update, one after the other.
    fn log(&mut self, from: u64, to: u64, parts: Vec<SessionUpdate>) -> Step {
        let revision = self.revision;
        assert!(from <= revision && revision < to, "from {from} to {to} at {revision}");
        let count = parts.len();
        let mut updates = Vec::new();
        for part in parts {
            let Some(Body::Log(log)) = part.body else { unreachable!("all parts are of the log") };
            assert_ne!(log.updates, [], "no part is empty");
            updates.extend(log.updates);
        }
        let mut at = from;
        for update in &updates {
            assert!(from < update.revision && update.revision <= to, "within {from} to {to}");
            assert!(at <= update.revision, "in the order of the frames: {updates:?}");
            at = update.revision;
            let change = update.change.as_ref().expect("an update changes something");
            assert_ne!(*change, Changes::default(), "an update changes something");
            for departure in &change.left {
                assert!(self.knows(&departure.user_id), "who leaves was a member: {departure:?}");
            }
            self.take(change, false, false);
            self.check_whole(change);
        }
        self.revision = to;
        Step::Log { from, to, parts: count, updates }
    }

    fn begin_snapshot(&mut self, epoch: u64, view: u32) {
        *self = Self { epoch, view, ..Self::default() };
    }

    fn take(&mut self, changes: &Changes, is_one_frame: bool, is_snapshot: bool) {
        let Changes { session, data, data_removed, private_data, private_data_removed, .. } =
            changes;
        if let Some(session) = session {
            let news = self.state.session.as_ref() != Some(session);
            assert!(news || !is_one_frame, "the description is sent when it changed");
            assert_eq!(session.last_frame_at, None, "set in replies only");
            assert_eq!(session.member_count, None, "set in replies only");
            self.state.session = Some(session.clone());
        }
        apply(&mut self.state.data, data, data_removed, is_one_frame);
        apply(&mut self.state.private_data, private_data, private_data_removed, is_one_frame);
        for change in &changes.members {
            self.take_member(change, is_one_frame, is_snapshot);
        }
        for departure in &changes.left {
            let reason = DepartureReason::try_from(departure.reason).expect("it is known");
            let known = self.state.members.remove(&departure.user_id);
            assert!(known.is_some() || !is_one_frame, "who leaves was a member: {departure:?}");
            if is_snapshot {
                assert_eq!(known, None, "a snapshot shows nobody who has left");
            }
            self.left.insert(departure.user_id.clone(), reason);
        }
        let named = changes.dictionary.iter().flat_map(|it| &it.props);
        for proto::DictionaryEntry { number, name } in named {
            let before = self.names.insert(*number, name.clone());
            assert!(before.is_none_or(|before| before == *name), "{number} is {name:?} for ever");
        }
        for block in &changes.blocks {
            self.take_block(block, is_one_frame);
        }
    }

    /// Sets the props of a block, whose members and names are known by now.
    fn take_block(&mut self, block: &proto::Block, is_one_frame: bool) {
        assert_ne!(block.runs.is_empty(), block.users.is_empty(), "one of both: {block:?}");
        let mut users = block.users.clone();
        let mut next = 0;
        for run in block.runs.chunks(2) {
            let &[gap, length] = run else { panic!("pairs of a gap and a length: {block:?}") };
            users.extend(next + gap..next + gap + length);
            next += gap + length;
        }
        assert!(users.is_sorted_by(|a, b| a < b), "by join order, each once: {block:?}");
        assert_ne!(block.columns, [], "a block has columns");
        for column in &block.columns {
            let name = self.names.get(&column.prop);
            let name =
                name.unwrap_or_else(|| panic!("{} is named: {block:?}", column.prop)).clone();
            let values = values_of(column);
            assert_eq!(values.len(), users.len(), "a value for each: {block:?}");
            for (user, value) in users.iter().zip(values) {
                let mut members = self.state.members.values_mut();
                let member = members.find(|member| member.join_order == *user);
                let member = member.unwrap_or_else(|| panic!("{user} is a member: {block:?}"));
                let before = member.props.insert(name.clone(), show(&value));
                let is_new = before != Some(show(&value));
                assert!(is_new || !is_one_frame, "what is set is new: {block:?}");
            }
        }
    }

    fn take_member(&mut self, change: &proto::MemberChange, is_one_frame: bool, is_snapshot: bool) {
        let user = &change.user_id;
        let role = Role::try_from(change.role).expect("a role that is known");
        let known = self.knows(user);
        if change.replaces {
            assert!(!is_snapshot, "there is nothing to replace in a snapshot");
            assert!(known || !is_one_frame, "who is replaced was a member: {change:?}");
            self.state.members.remove(user);
        }
        self.left.remove(user);
        let is_new = !known || change.replaces;
        assert!(!is_new || role != Role::Unspecified, "who is new has a role: {change:?}");
        assert_eq!(is_new, change.join_order != 0, "who is new has a place: {change:?}");
        let member = self.state.members.entry(user.clone()).or_default();
        if !is_new && is_one_frame {
            let news = (role != Role::Unspecified && role != member.role)
                || change.disconnected.is_some_and(|it| it != member.disconnected)
                || !change.props.is_empty()
                || !change.removed.is_empty();
            assert!(news, "a change says something new: {change:?}");
        }
        if role != Role::Unspecified {
            member.role = role;
        }
        if change.join_order != 0 {
            member.join_order = change.join_order;
        }
        if let Some(disconnected) = change.disconnected {
            member.disconnected = disconnected;
        }
        apply(&mut member.props, &change.props, &change.removed, is_one_frame && !is_new);
    }

    /// What holds for a step as a whole, whatever parts it came in.
    fn check_whole(&self, changes: &Changes) {
        let left: HashSet<_> = changes.left.iter().map(|departure| &departure.user_id).collect();
        assert_eq!(left.len(), changes.left.len(), "nobody leaves twice: {changes:?}");
        for change in &changes.members {
            assert!(!left.contains(&change.user_id), "nobody is in both: {changes:?}");
        }
    }
}

fn apply(known: &mut Shown, set: &[NamedValue], removed: &[String], is_one_frame: bool) {
    let mut named = HashSet::new();
    for (key, value) in set.iter().map(show_named) {
        assert!(!key.is_empty() && named.insert(key.clone()), "{key:?} is named once");
        let before = known.insert(key, value.clone());
        assert!(before != Some(value) || !is_one_frame, "what is set is new: {set:?}");
    }
    for key in removed {
        assert!(named.insert(key.clone()), "{key:?} is named once");
        let before = known.remove(key);
        assert!(before.is_some() || !is_one_frame, "what is removed was there: {removed:?}");
    }
}

fn append(whole: &mut Changes, part: Changes) {
    let Changes { session, data, data_removed, private_data, private_data_removed, .. } = part;
    whole.session = session.or(whole.session.take());
    whole.data.extend(data);
    whole.data_removed.extend(data_removed);
    whole.private_data.extend(private_data);
    whole.private_data_removed.extend(private_data_removed);
    whole.members.extend(part.members);
    whole.left.extend(part.left);
    whole
        .dictionary
        .get_or_insert_default()
        .props
        .extend(part.dictionary.unwrap_or_default().props);
    whole.dictionary = whole.dictionary.take().filter(|it| !it.props.is_empty());
    whole.blocks.extend(part.blocks);
}

/// The values of a column, of whose arrays one is filled.
fn values_of(column: &proto::Column) -> Vec<proto::Value> {
    let proto::Column { prop: _, numbers, floats, integers, flags, texts, values } = column;
    let arrays = [
        numbers.iter().map(|it| num(*it)).collect(),
        floats.iter().map(|it| floats_of(&[*it])).collect(),
        integers.iter().map(|it| int(*it)).collect(),
        flags.iter().map(|it| flag(*it)).collect(),
        texts.iter().map(text).collect(),
        values.clone(),
    ];
    let mut filled = arrays.into_iter().filter(|array: &Vec<_>| !array.is_empty());
    let values = filled.next().expect("an array is filled");
    assert_eq!(filled.next(), None, "only one: {column:?}");
    values
}
