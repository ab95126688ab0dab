//! What users send: joining, writing, and how they want to be served.

use super::{Door, path, values::plain_value};
use crate::{
    engine::{Delivery, Options, Password, Position, Resume},
    grpc::{judging::Judgements, once::Once},
    proto,
    session::{
        command::{Join, Write},
        ids::{Key, SessionId},
        limits::SECOND,
        revision::Revision,
        role::Role,
        settings::Presence,
        value::Value,
    },
};
use std::collections::{BTreeMap, HashSet};

/// The most messages a second that a subscriber may name as its bound.
const MAX_RATE_HZ: u32 = 1000;

/// In how many sessions a write may name that it is made.
const WRITTEN_SESSIONS: usize = 1000;

/// Bytes of a password.
const PASSWORD_BYTES: usize = 1024;

impl Door<'_> {
    /// How somebody joins. `by_stream` decides the default presence.
    pub fn join(&mut self, field: &str, join: proto::JoinOptions, by_stream: bool) -> Join {
        // The password goes its own way: see `Door::given`.
        let proto::JoinOptions { password: _, spectator, presence, props, r#move: moves } = join;
        let presence = self.presence(&format!("{field}.presence"), presence);
        let props = self.values(&format!("{field}.props"), props);
        let (is_stream, user_props, proven) = (by_stream, Vec::new(), None);
        if moves {
            // It leaves a session that the request does not name.
            self.reaches_other_sessions();
        }
        // A user who may not write is not waited for, and never becomes the host.
        let spectator = spectator || self.most == Role::Spectator;
        Join { spectator, presence, is_stream, props, user_props, moves, proven, ..Join::default() }
    }

    /// What happens to a member whose last stream is lost; none = by default.
    pub(super) fn presence(&mut self, field: &str, presence: i32) -> Option<Presence> {
        match proto::Presence::try_from(presence) {
            Ok(proto::Presence::Unspecified) => None,
            Ok(proto::Presence::Tied) => Some(Presence::Tied),
            Ok(proto::Presence::Explicit) => Some(Presence::Explicit),
            Err(_) => {
                self.fault(field, format!("{presence} is no presence"));
                None
            }
        }
    }

    /// The password that comes with a join.
    pub fn given(&mut self, field: &str, join: Option<&proto::JoinOptions>) -> Option<Password> {
        self.password(&format!("{field}.password"), join?.password.as_str())
    }

    /// A password; none where the field is empty.
    pub fn password(&mut self, field: &str, text: &str) -> Option<Password> {
        if text.len() > PASSWORD_BYTES {
            self.fault(field, format!("has {} bytes, more than {PASSWORD_BYTES}", text.len()));
        }
        (!text.is_empty()).then(|| text.into())
    }

    /// A write of props.
    pub fn props_write(&mut self, mut write: proto::PropsWrite) -> PropsWrite {
        let once = Once::of_write(&mut write);
        self.once(&once);
        let proto::PropsWrite {
            set,
            remove,
            if_revision,
            term,
            merge_maps,
            json,
            session_ids,
            request_id: _,
            ack,
        } = write;
        let durable = self.ack("write.ack", ack);
        let mut set = self.values("write.set", set);
        let typed = set.len();
        for (key, value) in json.map(|json| json.fields).unwrap_or_default() {
            let field = path("write.json", &key);
            let value = plain_value(value);
            set.extend(self.key(&field, &key).zip(self.value(&field, value, 1)));
        }
        let plain = set.len() - typed;
        let write = self.write("write.set", set, "write.remove", remove);
        let if_revision = self.revisions("write.if_revision", if_revision);
        let write = Write { if_revision, merge_maps, plain, ..write };
        if write.is_empty() && self.is_faultless() {
            self.fault("write", "must name at least one key in set, remove or json");
        }
        if term != 0 && session_ids.len() != 1 {
            self.fault("write.term", "needs exactly one session id");
        }
        if !write.if_revision.is_empty() && session_ids.len() != 1 {
            self.fault("write.if_revision", "needs exactly one session id");
        }
        if session_ids.len() > WRITTEN_SESSIONS {
            self.fault("write.session_ids", format!("has more than {WRITTEN_SESSIONS} ids"));
        }
        let mut known = HashSet::new();
        if session_ids.is_empty() {
            self.reaches_other_sessions();
        }
        let mut sessions = Vec::with_capacity(session_ids.len());
        for (at, id) in session_ids.iter().enumerate() {
            let field = format!("write.session_ids[{at}]");
            if let Some(id) = self.session(&field, id) {
                if !known.insert(id.clone()) {
                    self.fault(field, "is named twice");
                }
                sessions.push(id);
            }
        }
        PropsWrite { write, sessions, term, once, durable, judgements: Judgements::new() }
    }

    /// Keys that must not have changed after a revision.
    pub fn revisions(&mut self, field: &str, keys: BTreeMap<String, u64>) -> Vec<(Key, Revision)> {
        let most = self.limits.props_per_user;
        if keys.len() > most {
            self.fault(field, format!("has more than {most} keys"));
        }
        let keys = keys.into_iter();
        keys.filter_map(|(key, revision)| {
            let checked = self.key(&path(field, &key), &key)?;
            Some((checked, Revision(revision)))
        })
        .collect()
    }

    /// When a write counts as done: whether it is stored then.
    pub fn ack(&mut self, field: &str, ack: i32) -> bool {
        let ack = proto::Ack::try_from(ack);
        if let Err(unknown) = ack {
            self.fault(field, format!("{} is no ack", unknown.0));
        }
        ack == Ok(proto::Ack::Durable)
    }

    /// Keys to set and to remove, none twice, with the paths of their fields.
    pub fn write(
        &mut self,
        set_field: &str,
        set: Vec<(Key, Value)>,
        remove_field: &str,
        remove: Vec<String>,
    ) -> Write {
        let mut known: HashSet<&Key> = HashSet::with_capacity(set.len());
        let mut twice = Vec::new();
        for (key, _) in &set {
            if !known.insert(key) {
                twice.push(path(set_field, key));
            }
        }
        let removed: HashSet<&str> = remove.iter().map(String::as_str).collect();
        twice.extend(
            known
                .iter()
                .filter(|key| removed.contains::<str>(key))
                .map(|key| path(remove_field, key)),
        );
        if removed.len() < remove.len() {
            twice.push(remove_field.to_owned());
        }
        for field in twice {
            self.fault(field, "a key is named twice");
        }
        let remove =
            remove.iter().filter_map(|key| self.key(&path(remove_field, key), key)).collect();
        Write { set, remove, ..Write::default() }
    }

    /// How a subscriber wants to be served, from a snapshot on.
    pub fn delivery(&mut self, prefix: &str, options: &proto::DeliveryOptions) -> Options {
        let delivery = match proto::Delivery::try_from(options.delivery) {
            Ok(proto::Delivery::All) => Delivery::All,
            Ok(_) => Delivery::Latest,
            Err(_) => {
                self.fault(format!("{prefix}.delivery"), format!("{} is none", options.delivery));
                Delivery::Latest
            }
        };
        let delivery = match (proto::Encoding::try_from(options.encoding), delivery) {
            (Ok(proto::Encoding::Columns), Delivery::Latest) => Delivery::Columns,
            (Ok(_), delivery) => delivery,
            (Err(_), delivery) => {
                self.fault(format!("{prefix}.encoding"), format!("{} is none", options.encoding));
                delivery
            }
        };
        if options.exclude_self && options.encoding() == proto::Encoding::Columns {
            self.fault(format!("{prefix}.exclude_self"), "needs NAMED encoding");
        }
        let rate = options.max_rate_hz;
        if rate > MAX_RATE_HZ {
            self.fault(format!("{prefix}.max_rate_hz"), format!("must be at most {MAX_RATE_HZ}"));
        }
        Options {
            props: self.keys(&format!("{prefix}.props"), &options.props),
            exclude_self: options.exclude_self,
            delivery,
            interval: if rate == 0 { 0 } else { SECOND.div_ceil(u64::from(rate)) },
            resume: None,
        }
    }

    /// Where a subscriber continues.
    pub fn resume(&mut self, field: &str, resume: proto::Resume) -> Resume {
        let position = resume.position.unwrap_or_default();
        let Position { epoch, revision } = self.position(&format!("{field}.position"), position);
        Resume { epoch, revision, view: resume.view }
    }
}

/// A write of props that has passed the door.
#[derive(Debug, Clone)]
pub struct PropsWrite {
    /// The keys.
    pub write: Write,
    /// Where; none = on the user.
    pub sessions: Vec<SessionId>,
    /// See [`crate::session::command::Command::SetProps`].
    pub term: u64,
    /// Not to be done twice.
    pub once: Once,
    /// It counts as done when it is stored.
    pub durable: bool,
    /// What became of it in the sessions that judge it.
    pub judgements: Judgements,
}
