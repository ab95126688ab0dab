//! The last accepted writes and events, one by one and in order: what ALL delivery is made from.
//! There is a log only while somebody listens and for a while after; it is bounded, and a reader
//! that needs what has fallen out of it learns that.

use super::{
    Info,
    ids::{Key, UserId},
    limits::Limits,
    member::Departure,
    revision::Revision,
    role::Role,
    size,
    value::Value,
};
use std::{collections::VecDeque, sync::Arc};

/// Bytes that an update counts for beside what it holds.
const UPDATE_BYTES: usize = 64;

/// Bytes that a key or a member in an update counts for beside its name and values.
const ITEM_BYTES: usize = 32;

/// Keys at the values that were accepted; none = removed.
pub type Values = Vec<(Key, Option<Value>)>;

/// One accepted write or event.
#[derive(Debug, Clone)]
pub enum Event {
    /// Props of a member changed.
    Props {
        /// Whose.
        user: UserId,
        /// It was host then.
        of_host: bool,
        /// How.
        values: Values,
    },
    /// Session data changed.
    Data {
        /// The shared part.
        shared: Values,
        /// The private part.
        private: Values,
    },
    /// A member joined, with the props that it begins with.
    Joined(Whole),
    /// The role of a member or its connection changed.
    Status {
        /// Who.
        user: UserId,
        /// The role.
        role: Role,
        /// Its last stream is lost.
        disconnected: bool,
    },
    /// A member left.
    Left {
        /// Who.
        user: UserId,
        /// Why.
        departure: Departure,
    },
    /// What readers learn of the session changed.
    Info(Arc<Info>),
    /// Somebody else became host.
    Swap {
        /// What readers learn of the session since.
        info: Arc<Info>,
        /// The old host and the new one as they are then, as far as they are members.
        hosts: Vec<Whole>,
    },
}

/// All that is shown of a member at one moment.
#[derive(Debug, Clone)]
pub struct Whole {
    /// Who.
    pub user: UserId,
    /// It is host.
    pub of_host: bool,
    /// Which membership.
    pub order: u64,
    /// The role.
    pub role: Role,
    /// Its last stream is lost.
    pub disconnected: bool,
    /// The props.
    pub props: Vec<(Key, Value)>,
}

impl Event {
    /// What the update counts for, in bytes.
    fn bytes(&self) -> usize {
        let item = |name: &str, value: usize| ITEM_BYTES + name.len() + value;
        let values = |values: &Values| -> usize {
            let size = |value: &Option<Value>| value.as_ref().map_or(0, size::of);
            values.iter().map(|(key, value)| item(key, size(value))).sum()
        };
        let whole = |who: &Whole| -> usize {
            let props = who.props.iter().map(|(key, value)| item(key, size::of(value)));
            item(&who.user, props.sum())
        };
        let settings = |info: &Info| -> usize {
            let Info { settings, schema, .. } = info;
            let keys = settings.propnames.iter().chain(&*settings.hostprops);
            let metadata = settings.metadata.iter().map(|(key, value)| item(key, size::of(value)));
            let successors = settings.successors.iter().map(|user| item(user, 0));
            let settings = keys.map(|key| item(key, 0)).chain(metadata).chain(successors);
            settings.sum::<usize>() + schema.as_ref().map_or(0, |schema| schema.bytes())
        };
        UPDATE_BYTES
            + match self {
                Self::Props { user, values: set, .. } => user.len() + values(set),
                Self::Data { shared, private, .. } => values(shared) + values(private),
                Self::Joined(who) => whole(who),
                Self::Status { user, .. } | Self::Left { user, .. } => user.len(),
                Self::Info(info) => settings(info),
                Self::Swap { info, hosts } => {
                    settings(info) + hosts.iter().map(whole).sum::<usize>()
                }
            }
    }
}

/// The updates of one frame.
#[derive(Debug)]
struct Framed {
    revision: Revision,
    updates: Vec<Event>,
    bytes: usize,
}

/// The updates of the last frames and of the open one.
#[derive(Debug)]
pub struct Log {
    frames: VecDeque<Framed>,
    open: Vec<Event>,
    /// The open frame had more than the log can hold, or some of it was taken back: it is not sent.
    lost: bool,
    updates: usize,
    bytes: usize,
    most_updates: usize,
    most_bytes: usize,
    /// Every frame after this revision is in it.
    pub start: Revision,
    /// What readers learnt of the session last.
    pub info: Arc<Info>,
    /// What decides who sees what, as of the last frame.
    pub(super) eyes: Eyes,
    /// By class: since when it has seen by the same rules.
    pub since: [Revision; 2],
    /// Since when the same user has been in the host's class.
    pub keeper_since: Revision,
}

/// What decides which rules apply to a class of readers, and who is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eyes {
    /// By class.
    pub prints: [u32; 2],
    /// Who is in the host's class.
    pub keeper: Option<UserId>,
}

impl Log {
    /// A log that begins after the frame `start`.
    pub fn new(start: Revision, info: Arc<Info>, eyes: Eyes, limits: &Limits) -> Self {
        Self {
            frames: VecDeque::new(),
            open: Vec::new(),
            lost: false,
            updates: 0,
            bytes: 0,
            most_updates: limits.log_updates,
            most_bytes: limits.log_bytes,
            start,
            info,
            eyes,
            since: [Revision::NONE; 2],
            keeper_since: Revision::NONE,
        }
    }

    /// Bytes of all that it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Something was accepted.
    pub fn push(&mut self, event: Event) {
        if let Event::Info(info) | Event::Swap { info, .. } = &event {
            self.info = info.clone();
        }
        if self.lost {
            return;
        }
        self.updates += 1;
        self.bytes += event.bytes();
        self.open.push(event);
        self.shorten(self.most_bytes);
    }

    /// Forgets the oldest frames until it fits; of the open one all or nothing.
    pub fn shorten(&mut self, most_bytes: usize) {
        while self.updates > self.most_updates || self.bytes > most_bytes {
            match self.frames.pop_front() {
                Some(oldest) => {
                    self.start = oldest.revision;
                    self.updates -= oldest.updates.len();
                    self.bytes -= oldest.bytes;
                }
                None => self.cut(),
            }
        }
    }

    /// Nothing of the open frame is sent one by one: the log begins again after it.
    pub fn cut(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.updates -= open.len();
        self.bytes -= bytes_of(&open);
        self.lost = true;
    }

    /// Whether the open frame tells of props that a user has written or come with.
    pub fn tells_props_of(&self, user: &UserId) -> bool {
        self.open.iter().any(|event| match event {
            Event::Props { user: of, .. } => of == user,
            Event::Joined(who) => who.user == *user && !who.props.is_empty(),
            _ => false,
        })
    }

    /// The open frame is made under a revision.
    pub fn seal(&mut self, revision: Revision) {
        if std::mem::take(&mut self.lost) {
            self.frames.clear();
            (self.updates, self.bytes) = (0, 0);
            self.start = revision;
            return;
        }
        let updates = std::mem::take(&mut self.open);
        if !updates.is_empty() {
            let bytes = bytes_of(&updates);
            self.frames.push_back(Framed { revision, updates, bytes });
        }
    }

    /// The updates of the frames after `revision`, with their revisions.
    pub fn after(&self, revision: Revision) -> impl Iterator<Item = (Revision, &Event)> {
        let from = self.frames.partition_point(|frame| frame.revision <= revision);
        self.frames
            .range(from..)
            .flat_map(|frame| frame.updates.iter().map(|event| (frame.revision, event)))
    }
}

fn bytes_of(events: &[Event]) -> usize {
    events.iter().map(Event::bytes).sum()
}
