//! The wire's types as the domain's. Every fault of a request is named, with the path of its field.

use crate::{
    engine::{Position, SessionKey},
    object_stream::{Func, Mode},
    proto,
    session::{
        command::{Actor, Join, Setting, Write},
        error::{Refusal, Violation},
        ids::{self, AppId, Key, SessionId, UserId},
        limits::{Limits, Micros, SECOND},
        member::Presence,
        role::Role,
        settings::{Keys, Kind, Pacing, Settings},
        value::Value,
    },
};
use prost::Message;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// The app of requests that name none.
pub const DEFAULT_APP: &str = "default";

/// Bytes of all metadata of a session, encoded: it must fit into a message beside other things.
pub const METADATA_BYTES: usize = 256 * 1024;

/// Bytes of the faults of a request that are named; further ones are counted. Clients refuse
/// metadata of more than 8 KiB or 16 KiB, in which it is encoded again as text.
const FAULTS_BYTES: usize = 4 * 1024;

/// How many ids a list of successors may have.
const SUCCESSORS: usize = 256;

/// Bytes of a reason that somebody gives.
const REASON_BYTES: usize = 1024;

const DAY: Micros = 24 * 3600 * SECOND;

/// Where the moments end that can be told as texts.
const YEAR_10000: Micros = 253_402_300_800 * SECOND;

/// Checks one request and collects its faults.
#[derive(Debug)]
pub struct Door<'a> {
    limits: &'a Limits,
    violations: Vec<Violation>,
    /// Bytes of what is in there.
    bytes: usize,
    /// Faults that are only counted.
    unnamed: usize,
    other: Option<Refusal>,
}

impl<'a> Door<'a> {
    /// A door with the limits of the server.
    pub fn new(limits: &'a Limits) -> Self {
        Self { limits, violations: Vec::new(), bytes: 0, unnamed: 0, other: None }
    }

    /// Passes if no fault was found.
    pub fn close(self) -> Result<(), Refusal> {
        let Self { mut violations, unnamed, .. } = self;
        if unnamed > 0 {
            violations.push(Violation::new("", format!("and {unnamed} more")));
        }
        if !violations.is_empty() {
            return Err(Refusal::Invalid(violations));
        }
        self.other.map_or(Ok(()), Err)
    }

    /// Whether no fault was found so far.
    pub fn is_faultless(&self) -> bool {
        self.violations.is_empty()
    }

    /// Notes a fault.
    pub fn fault(&mut self, field: impl Into<String>, description: impl Into<String>) {
        let violation = Violation::new(field, description);
        let bytes = violation.field.len() + violation.description.len() + 8;
        if self.bytes + bytes > FAULTS_BYTES {
            self.unnamed += 1;
            return;
        }
        self.bytes += bytes;
        self.violations.push(violation);
    }

    /// Refuses a field that the server does not have yet, if it is set: nothing is ever ignored.
    pub fn not_yet(&mut self, field: &str, is_set: bool) {
        if is_set {
            self.other.get_or_insert(Refusal::NotImplemented { field: field.to_owned() });
        }
    }

    /// A namespace; empty = the default one.
    pub fn app(&mut self, text: &str) -> AppId {
        self.app_in("app", text)
    }

    /// A namespace in a field of another path.
    pub fn app_in(&mut self, field: &str, text: &str) -> AppId {
        let text = if text.is_empty() { DEFAULT_APP } else { text };
        self.id(field, text, AppId::new)
            .unwrap_or_else(|| AppId::new(DEFAULT_APP).expect("a constant that is an id"))
    }

    /// Who acts; empty = the app.
    pub fn actor(&mut self, text: &str) -> Actor {
        self.optional_user("user_id", text).map_or(Actor::App, Actor::User)
    }

    /// A user, or none where the field is empty.
    pub fn optional_user(&mut self, field: &str, text: &str) -> Option<UserId> {
        if text.is_empty() { None } else { self.user(field, text) }
    }

    /// A user.
    pub fn user(&mut self, field: &str, text: &str) -> Option<UserId> {
        self.id(field, text, UserId::new)
    }

    /// A session.
    pub fn session(&mut self, field: &str, text: &str) -> Option<SessionId> {
        self.id(field, text, SessionId::new)
    }

    /// A session by its id or by its name, of which exactly one must be given.
    pub fn session_or_name(&mut self, id: &str, name: &str) -> Option<SessionKey> {
        match (id.is_empty(), name.is_empty()) {
            (false, true) => self.session("session_id", id).map(SessionKey::Id),
            (true, false) => self.named("name", name).map(SessionKey::Name),
            (true, true) => {
                self.fault("session_id", "this or name must be given");
                None
            }
            (false, false) => {
                self.fault("name", "only one of session_id and name may be given");
                None
            }
        }
    }

    fn id<T>(
        &mut self,
        field: &str,
        text: &str,
        new: fn(&str) -> Result<T, ids::BadId>,
    ) -> Option<T> {
        new(text).map_err(|bad| self.fault(field, bad.to_string())).ok()
    }

    /// How somebody joins. `by_stream` decides the default presence.
    pub fn join(&mut self, field: &str, join: proto::JoinOptions, by_stream: bool) -> Join {
        let proto::JoinOptions { password, spectator, presence, props, r#move: moves } = join;
        self.not_yet(&format!("{field}.password"), !password.is_empty());
        self.not_yet(&format!("{field}.move"), moves);
        let presence = match proto::Presence::try_from(presence) {
            Ok(proto::Presence::Unspecified) => None,
            Ok(proto::Presence::Tied) => Some(Presence::Tied),
            Ok(proto::Presence::Explicit) => Some(Presence::Explicit),
            Err(_) => {
                self.fault(format!("{field}.presence"), format!("{presence} is no presence"));
                None
            }
        };
        let props = self.values(&format!("{field}.props"), props);
        Join { spectator, presence, is_stream: by_stream, props, user_props: Vec::new() }
    }

    /// A write of props.
    pub fn props_write(&mut self, write: proto::PropsWrite) -> PropsWrite {
        let proto::PropsWrite {
            set,
            remove,
            if_revision,
            term,
            merge_maps,
            json,
            session_ids,
            request_id,
            ack,
        } = write;
        self.not_yet("write.merge_maps", merge_maps);
        self.not_yet("write.request_id", !request_id.is_empty());
        self.ack("write.ack", ack);
        let mut set = self.values("write.set", set);
        for (key, value) in json.map(|json| json.fields).unwrap_or_default() {
            let field = path("write.json", &key);
            let value = plain_value(value);
            set.extend(self.key(&field, &key).zip(self.value(&field, value, 1)));
        }
        let write = self.write("write.set", set, "write.remove", remove);
        let write =
            Write { if_revision: self.revisions("write.if_revision", if_revision), ..write };
        if write.is_empty() && self.violations.is_empty() {
            self.fault("write", "must name at least one key in set, remove or json");
        }
        if term != 0 && session_ids.len() != 1 {
            self.fault("write.term", "needs exactly one session id");
        }
        if !write.if_revision.is_empty() && session_ids.len() != 1 {
            self.fault("write.if_revision", "needs exactly one session id");
        }
        let mut known = HashSet::new();
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
        PropsWrite { write, sessions, term }
    }

    /// Keys that must not have changed after a revision.
    pub fn revisions(&mut self, field: &str, keys: HashMap<String, u64>) -> Vec<(Key, u64)> {
        let most = self.limits.props_per_user;
        if keys.len() > most {
            self.fault(field, format!("has more than {most} keys"));
        }
        let keys = keys.into_iter();
        keys.filter_map(|(key, revision)| {
            let checked = self.key(&path(field, &key), &key)?;
            Some((checked, revision))
        })
        .collect()
    }

    /// A role to give.
    pub fn new_role(&mut self, field: &str, role: i32) -> Option<Role> {
        match proto::Role::try_from(role) {
            Ok(proto::Role::Spectator) => Some(Role::Spectator),
            Ok(proto::Role::Unspecified) => {
                self.fault(field, "must be set");
                None
            }
            _ => self.role(field, role),
        }
    }

    /// A position that must be of this kind: both numbers set.
    pub fn position(&mut self, field: &str, position: proto::Position) -> Position {
        if position.epoch == 0 || position.revision == 0 {
            self.fault(field, "needs epoch and revision");
        }
        Position { epoch: position.epoch, revision: position.revision }
    }

    /// A text for people, up to 1,024 bytes.
    pub fn reason(&mut self, field: &str, text: &str) -> Arc<str> {
        if text.len() > REASON_BYTES {
            self.fault(field, format!("has {} bytes, more than {REASON_BYTES}", text.len()));
        }
        text.into()
    }

    /// When something ends that begins now: at a moment, or after a span; neither = never.
    pub fn until(
        &mut self,
        now: Micros,
        until: Option<prost_types::Timestamp>,
        duration: Option<prost_types::Duration>,
    ) -> Option<Micros> {
        match (until, duration) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                self.fault("duration", "only one of until and duration may be given");
                None
            }
            (None, span) => Some(now + self.span("duration", span, (1000, 36500 * DAY), 0)),
            (Some(until), None) => {
                let micros = i128::from(until.seconds) * 1_000_000 + i128::from(until.nanos) / 1000;
                let is_later = |until: &Micros| (now + 1..YEAR_10000).contains(until);
                let later = Micros::try_from(micros).ok().filter(is_later);
                if later.is_none() || !(0..1_000_000_000).contains(&until.nanos) {
                    self.fault("until", "must be a moment in the future, before the year 10000");
                }
                later
            }
        }
    }

    /// When a write counts as done; there is no store to wait for.
    pub fn ack(&mut self, field: &str, ack: i32) {
        match proto::Ack::try_from(ack) {
            Ok(proto::Ack::Durable) => {
                self.other.get_or_insert(Refusal::NoStore);
            }
            Ok(_) => {}
            Err(_) => self.fault(field, format!("{ack} is no ack")),
        }
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
        Write { set, remove, if_revision: Vec::new() }
    }

    /// Named values.
    pub fn values(
        &mut self,
        field: &str,
        values: HashMap<String, proto::Value>,
    ) -> Vec<(Key, Value)> {
        let mut out = Vec::with_capacity(values.len());
        for (key, value) in values {
            // The path of a value is needed only for what is wrong with it.
            match (ids::check(&key, self.limits.key_bytes), quick_value(&value)) {
                (Ok(()), Some(value)) => out.push((Key::from(key), value)),
                _ => {
                    let field = path(field, &key);
                    out.extend(self.key(&field, &key).zip(self.value(&field, value, 1)));
                }
            }
        }
        out
    }

    /// Keys and values of an object stream, whose keys may be nested.
    pub fn nested_values(
        &mut self,
        field: &str,
        values: HashMap<String, proto::Value>,
    ) -> Vec<(Key, Value)> {
        let mut out = Vec::with_capacity(values.len());
        for (key, value) in values {
            let field = path(field, &key);
            out.extend(self.nested_key(&field, &key).zip(self.value(&field, value, 1)));
        }
        out
    }

    /// A key of an object stream: what follows the first dot is a key in the map before it.
    pub fn nested_key(&mut self, field: &str, key: &str) -> Option<Key> {
        match key.split_once('.') {
            None => self.key(field, key),
            Some((outer, inner)) => {
                self.key(field, outer).zip(self.key(field, inner)).map(|_| key.into())
            }
        }
    }

    /// How a key of an object stream is read.
    pub fn func(&mut self, field: &str, func: Option<proto::StreamFunc>) -> Func {
        use proto::stream_func::Func as Wire;
        let default = Func::Mode(Mode::AllLatest);
        match func.and_then(|func| func.func) {
            None => default,
            Some(Wire::Mode(mode)) => match proto::StreamMode::try_from(mode) {
                Ok(proto::StreamMode::Latest) => Func::Mode(Mode::Latest),
                Ok(proto::StreamMode::Unspecified | proto::StreamMode::AllLatest) => default,
                Err(_) => {
                    self.fault(format!("{field}.mode"), format!("{mode} is no mode"));
                    default
                }
            },
            Some(Wire::Name(name)) => {
                self.named(&format!("{field}.name"), &name).map_or(default, Func::Named)
            }
        }
    }

    /// The name of a prop.
    pub fn key(&mut self, field: &str, key: &str) -> Option<Key> {
        match ids::check(key, self.limits.key_bytes) {
            Ok(()) => Some(key.into()),
            Err(bad) => {
                self.fault(field, format!("the key {bad}"));
                None
            }
        }
    }

    /// A value at a level of nesting, of which the outermost is 1.
    fn value(&mut self, field: &str, value: proto::Value, level: usize) -> Option<Value> {
        use proto::value::Kind as Wire;
        let size = value.encoded_len();
        if level == 1 && size > self.limits.value_bytes {
            let most = self.limits.value_bytes;
            self.fault(field, format!("has {size} bytes, more than {most}"));
            return None;
        }
        if level > self.limits.nesting {
            self.fault(field, format!("is nested deeper than {}", self.limits.nesting));
            return None;
        }
        let Some(kind) = value.kind else {
            self.fault(field, "has no kind: set one of null, flag, integer, number, text, data, numbers, floats, integers, list and map");
            return None;
        };
        Some(match kind {
            Wire::Null(proto::Null {}) => Value::Null,
            Wire::Flag(flag) => Value::Flag(flag),
            Wire::Integer(integer) => Value::Integer(integer),
            Wire::Number(number) => Value::Number(number),
            Wire::Text(text) => Value::Text(text.into()),
            Wire::Data(data) => Value::Data(data.into()),
            Wire::Numbers(numbers) => Value::Numbers(numbers.items.into()),
            Wire::Floats(floats) => Value::Floats(floats.items.into()),
            Wire::Integers(integers) => Value::Integers(integers.items.into()),
            Wire::List(list) => {
                let mut items = Vec::with_capacity(list.items.len());
                for (at, item) in list.items.into_iter().enumerate() {
                    items.push(self.value(&format!("{field}[{at}]"), item, level + 1)?);
                }
                Value::List(items.into())
            }
            Wire::Map(map) => {
                let mut entries = Vec::with_capacity(map.entries.len());
                for (key, item) in map.entries {
                    let field = path(field, &key);
                    let key = self.key(&field, &key);
                    let item = self.value(&field, item, level + 1);
                    entries.push(key.zip(item)?);
                }
                entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                Value::Map(entries.into())
            }
        })
    }

    /// What kind of shared session.
    pub fn kind(&mut self, kind: i32) -> Kind {
        match proto::SessionKind::try_from(kind) {
            Ok(proto::SessionKind::Unspecified | proto::SessionKind::Room) => Kind::Room,
            Ok(proto::SessionKind::Hosted) => Kind::Hosted,
            Ok(proto::SessionKind::Private) => {
                self.fault("kind", "a private session is opened with OpenPrivateSession");
                Kind::Room
            }
            Err(_) => {
                self.fault("kind", format!("{kind} is no kind of session"));
                Kind::Room
            }
        }
    }

    /// The settings of a new session.
    pub fn settings(
        &mut self,
        kind: Kind,
        wire: &proto::SessionSettings,
        base: Settings,
    ) -> Settings {
        let mut settings = base.clone();
        for name in SETTINGS {
            if let Some(change) = self.setting(kind, name, wire, &base) {
                settings.change(change);
            }
        }
        settings
    }

    /// The settings that a mask names; what is named and absent goes back to its default.
    pub fn settings_update(
        &mut self,
        kind: Kind,
        wire: &proto::SessionSettings,
        mask: Option<prost_types::FieldMask>,
        base: &Settings,
    ) -> Vec<Setting> {
        let paths = mask.map(|mask| mask.paths).unwrap_or_default();
        if paths.is_empty() {
            self.fault("update_mask", "must name at least one setting");
        }
        let mut known = HashSet::new();
        let mut changes = Vec::new();
        for name in &paths {
            let field = path("update_mask", name);
            if !SETTINGS.contains(&name.as_str()) {
                self.fault(field, format!("is no setting; there are {}", SETTINGS.join(", ")));
            } else if !known.insert(name) {
                self.fault(field, "is named twice");
            } else if name == "exclusive" {
                self.fault(field, "is fixed at the opening");
            } else {
                if matches!(name.as_str(), "password" | "reset_role") {
                    self.not_yet(&format!("settings.{name}"), true);
                }
                changes.extend(self.setting(kind, name, wire, base));
            }
        }
        changes
    }

    /// One setting by its name on the wire, its default where it is absent.
    fn setting(
        &mut self,
        kind: Kind,
        name: &str,
        wire: &proto::SessionSettings,
        base: &Settings,
    ) -> Option<Setting> {
        let field = format!("settings.{name}");
        let hosted = |door: &mut Self, is_set: bool| {
            if is_set && kind != Kind::Hosted {
                door.fault(&field, "is for hosted sessions only");
            }
        };
        Some(match name {
            "name" => {
                let name = if wire.name.is_empty() { None } else { self.named(&field, &wire.name) };
                Setting::Name(name)
            }
            "propnames" => Setting::Propnames(self.keys(&field, &wire.propnames)),
            "hostprops" => {
                hosted(self, !wire.hostprops.is_empty());
                Setting::Hostprops(self.keys(&field, &wire.hostprops))
            }
            "tick_interval" => {
                let range = (1000, 60 * SECOND);
                Setting::Tick(self.span(&field, wire.tick_interval, range, base.tick))
            }
            "pacing" => Setting::Pacing(match proto::Pacing::try_from(wire.pacing) {
                Ok(proto::Pacing::Unspecified | proto::Pacing::Tick) => Pacing::Tick,
                Ok(proto::Pacing::Eager) => Pacing::Eager,
                Err(_) => {
                    self.fault(&field, format!("{} is no pacing", wire.pacing));
                    Pacing::Tick
                }
            }),
            "capacity" => {
                let most = self.limits.members;
                let capacity = wire.capacity.map_or(most, |capacity| capacity as usize);
                if capacity == 0 || capacity > most {
                    self.fault(&field, format!("must be between 1 and {most}"));
                }
                Setting::Capacity(capacity)
            }
            "locked" => Setting::Locked(wire.locked.unwrap_or(false)),
            "unlisted" => Setting::Unlisted(wire.unlisted.unwrap_or(false)),
            "metadata" => {
                let size: usize = wire
                    .metadata
                    .iter()
                    .map(|(key, value)| key.len() + value.encoded_len() + 8)
                    .sum();
                if size > METADATA_BYTES {
                    self.fault(&field, format!("has {size} bytes, more than {METADATA_BYTES}"));
                }
                if wire.metadata.len() > self.limits.props_per_user {
                    let most = self.limits.props_per_user;
                    self.fault(&field, format!("has more than {most} keys"));
                }
                let mut metadata = self.values(&field, wire.metadata.clone());
                metadata.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                Setting::Metadata(metadata.into())
            }
            "successors" => {
                hosted(self, !wire.successors.is_empty());
                if wire.successors.len() > SUCCESSORS {
                    self.fault(&field, format!("has more than {SUCCESSORS} ids"));
                }
                let ids = wire.successors.iter().enumerate();
                let users: Vec<_> =
                    ids.filter_map(|(at, id)| self.user(&format!("{field}[{at}]"), id)).collect();
                Setting::Successors(users.into())
            }
            "host_grace" => {
                hosted(self, wire.host_grace.is_some());
                Setting::HostGrace(self.span(&field, wire.host_grace, (0, 3600 * SECOND), 0))
            }
            "inherit_host_data" => {
                hosted(self, wire.inherit_host_data.is_some());
                Setting::InheritHostData(wire.inherit_host_data.unwrap_or(true))
            }
            "rejoin_grace" => {
                Setting::RejoinGrace(self.span(&field, wire.rejoin_grace, (0, DAY), 0))
            }
            "empty_ttl" => Setting::EmptyTtl(self.span(&field, wire.empty_ttl, (0, 365 * DAY), 0)),
            "max_age" => Setting::MaxAge(self.span(&field, wire.max_age, (0, 36500 * DAY), 0)),
            "data_role" => {
                let role = self.role(&field, wire.data_role);
                Setting::DataRole(role.unwrap_or(Role::Member))
            }
            "exclusive" => {
                self.not_yet(&field, wire.exclusive.unwrap_or(false));
                return None;
            }
            "password" => {
                self.not_yet(&field, wire.password.as_ref().is_some_and(|text| !text.is_empty()));
                return None;
            }
            "reset_role" => {
                self.not_yet(&field, wire.reset_role != 0);
                return None;
            }
            _ => return None,
        })
    }

    /// A role of somebody who may write; none where the field is absent.
    fn role(&mut self, field: &str, role: i32) -> Option<Role> {
        match proto::Role::try_from(role) {
            Ok(proto::Role::Unspecified) => None,
            Ok(proto::Role::Owner) => Some(Role::Owner),
            Ok(proto::Role::Admin) => Some(Role::Admin),
            Ok(proto::Role::Moderator) => Some(Role::Moderator),
            Ok(proto::Role::Member) => Some(Role::Member),
            Ok(proto::Role::Spectator) => {
                self.fault(field, "a spectator never sends");
                None
            }
            Err(_) => {
                self.fault(field, format!("{role} is no role"));
                None
            }
        }
    }

    /// The name of a session: bounded like an id.
    pub fn named(&mut self, field: &str, name: &str) -> Option<Key> {
        let checked = ids::check(name, ids::ID_BYTES);
        checked.map(|()| name.into()).map_err(|bad| self.fault(field, bad.to_string())).ok()
    }

    /// A selection of keys.
    pub fn keys(&mut self, field: &str, keys: &[String]) -> Keys {
        let most = self.limits.props_per_user;
        if keys.len() > most {
            self.fault(field, format!("has more than {most} keys"));
        }
        let keys = keys.iter().enumerate();
        Arc::new(keys.filter_map(|(at, key)| self.key(&format!("{field}[{at}]"), key)).collect())
    }

    /// A span within a range; absent = the default. A range that begins with 0 takes 0.
    pub fn span(
        &mut self,
        field: &str,
        span: Option<prost_types::Duration>,
        (least, most): (Micros, Micros),
        default: Micros,
    ) -> Micros {
        let Some(span) = span else { return default };
        let nanos = i128::from(span.seconds) * 1_000_000_000 + i128::from(span.nanos);
        let is_whole = (0..1_000_000_000).contains(&span.nanos) && span.nanos % 1000 == 0;
        match Micros::try_from(nanos / 1000) {
            Ok(micros) if is_whole && (least..=most).contains(&micros) => micros,
            _ => {
                let show =
                    |micros| humantime::format_duration(std::time::Duration::from_micros(micros));
                let range = format!("must be between {} and {}", show(least), show(most));
                self.fault(field, format!("{range}, in whole microseconds"));
                default
            }
        }
    }

    /// How a subscriber wants to be served: the keys, and whether without its own props.
    pub fn delivery(&mut self, prefix: &str, options: &proto::DeliveryOptions) -> (Keys, bool) {
        match proto::Delivery::try_from(options.delivery) {
            Ok(delivery) => {
                self.not_yet(&format!("{prefix}.delivery"), delivery == proto::Delivery::All);
            }
            Err(_) => {
                self.fault(format!("{prefix}.delivery"), format!("{} is none", options.delivery));
            }
        }
        match proto::Encoding::try_from(options.encoding) {
            Ok(encoding) => {
                self.not_yet(&format!("{prefix}.encoding"), encoding == proto::Encoding::Columns);
            }
            Err(_) => {
                self.fault(format!("{prefix}.encoding"), format!("{} is none", options.encoding));
            }
        }
        self.not_yet(&format!("{prefix}.max_rate_hz"), options.max_rate_hz != 0);
        (self.keys(&format!("{prefix}.props"), &options.props), options.exclude_self)
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
}

/// Every setting by its name on the wire.
const SETTINGS: [&str; 19] = [
    "name",
    "propnames",
    "hostprops",
    "tick_interval",
    "pacing",
    "capacity",
    "locked",
    "unlisted",
    "metadata",
    "successors",
    "host_grace",
    "inherit_host_data",
    "rejoin_grace",
    "empty_ttl",
    "max_age",
    "exclusive",
    "password",
    "data_role",
    "reset_role",
];

/// A value that cannot be at fault.
fn quick_value(value: &proto::Value) -> Option<Value> {
    use proto::value::Kind as Wire;
    match value.kind.as_ref()? {
        Wire::Null(_) => Some(Value::Null),
        Wire::Flag(flag) => Some(Value::Flag(*flag)),
        Wire::Integer(integer) => Some(Value::Integer(*integer)),
        Wire::Number(number) => Some(Value::Number(*number)),
        _ => None,
    }
}

/// A plain JSON value; its numbers are doubles.
fn plain_value(value: prost_types::Value) -> proto::Value {
    use prost_types::value::Kind as Plain;
    use proto::value::Kind as Wire;
    let kind = value.kind.map(|kind| match kind {
        Plain::NullValue(_) => Wire::Null(proto::Null {}),
        Plain::NumberValue(number) => Wire::Number(number),
        Plain::StringValue(text) => Wire::Text(text),
        Plain::BoolValue(flag) => Wire::Flag(flag),
        Plain::StructValue(map) => {
            let entries = map.fields.into_iter().map(|(key, value)| (key, plain_value(value)));
            Wire::Map(proto::Map { entries: entries.collect() })
        }
        Plain::ListValue(list) => {
            let items = list.values.into_iter().map(plain_value).collect();
            Wire::List(proto::List { items })
        }
    });
    proto::Value { kind }
}

fn path(prefix: &str, key: &str) -> String {
    // A path is for people to find the field by: a long key is cut.
    let shown: String = key.chars().take(64).collect();
    format!("{prefix}[{shown:?}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_faults_are_named_as_clients_take_and_the_others_counted() {
        let limits = Limits::default();
        let mut door = Door::new(&limits);
        for at in 0..10_000 {
            door.fault(format!("remove[{at}]"), "the key must not be empty");
        }
        let Err(refusal @ Refusal::Invalid(_)) = door.close() else { panic!("it is refused") };
        let Refusal::Invalid(named) = &refusal else { unreachable!() };
        let bytes: usize = named.iter().map(|v| v.field.len() + v.description.len()).sum();
        assert!(bytes <= FAULTS_BYTES + 32 && refusal.to_string().len() < 1024);
        let counted = format!("and {} more", 10_000 - (named.len() - 1));
        assert_eq!(named.last().map(|last| &*last.description), Some(&*counted));
    }
}
