//! The wire's types as the domain's. Every fault of a request is named, with the path of its field.

mod opening;
mod rules;
mod schema;
mod settings;
mod values;
mod writes;

pub use writes::PropsWrite;

use crate::grpc::error::{Refusal, Uncovered};
use crate::{
    engine::{Filter, Order, Position, SessionKey},
    identity::{self, Grant},
    proto,
    session::{
        epoch::Epoch,
        error::{Faults, Path},
        ids::{self, AppId, Key, SessionId, UserId},
        limits::{Limits, Micros, SECOND},
        private::Pair,
        revision::Revision,
        role::Role,
    },
};
use std::{ops::RangeInclusive, sync::Arc};

/// The app of requests that name none.
pub const DEFAULT_APP: &str = "default";

/// Bytes of a reason that somebody gives.
const REASON_BYTES: usize = 1024;

/// How much a page of a list has by default, and at most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;

const DAY: Micros = 24 * 3600 * SECOND;

/// Where the moments end that can be written as texts.
const YEAR_10000: Micros = 253_402_300_800 * SECOND;

/// Checks one request and collects its faults.
#[derive(Debug)]
pub struct Door<'a> {
    limits: &'a Limits,
    /// The credential, if it holds in a few sessions only.
    grant: Option<&'a Grant>,
    /// The credential is that of a user.
    is_of_user: bool,
    /// The highest role that the credential allows.
    most: Role,
    /// What the credential does not allow.
    denied: Option<Uncovered>,
    faults: Faults,
    other: Option<Refusal>,
}

impl<'a> Door<'a> {
    /// A door with the limits of the server.
    pub fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            grant: None,
            is_of_user: false,
            most: Role::Owner,
            denied: None,
            faults: Faults::default(),
            other: None,
        }
    }

    /// The same for the bearer of a credential, which may hold in a few sessions only.
    pub fn of(limits: &'a Limits, grant: &'a Grant) -> Self {
        let limited = grant.sessions.as_ref().map(|_| grant);
        let is_of_user = matches!(grant.kind, identity::Kind::User(_));
        Self { grant: limited, is_of_user, most: grant.most, ..Self::new(limits) }
    }

    /// Notes what the credential does not allow: nothing else of the request is reported then.
    pub fn deny(&mut self, what: Uncovered) {
        self.denied.get_or_insert(what);
    }

    /// The request has others join, as no user may.
    pub fn acts_on_users(&mut self) {
        if self.is_of_user {
            self.deny(Uncovered::User);
        }
    }

    /// The request makes its user the owner of a session.
    pub fn gives_ownership(&mut self) {
        if self.most < Role::Owner {
            self.deny(Uncovered::Role);
        }
    }

    /// The request reaches sessions that it does not name.
    pub fn reaches_other_sessions(&mut self) {
        if self.grant.is_some() {
            self.deny(Uncovered::OtherSessions);
        }
    }

    /// The limits of the server.
    pub fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// Passes if no fault was found.
    pub fn close(self) -> Result<(), Refusal> {
        if let Some(denied) = self.denied {
            return Err(Refusal::Uncovered(denied));
        }
        if !self.faults.is_empty() {
            return Err(Refusal::Invalid(self.faults.close()));
        }
        self.other.map_or(Ok(()), Err)
    }

    /// Passes with what was read of the request if no fault was found. Whatever the door does not
    /// read, it has noted a fault of.
    pub fn close_with<T>(self, read: impl FnOnce() -> Option<T>) -> Result<T, Refusal> {
        self.close()?;
        let read = read();
        debug_assert!(read.is_some(), "a fault is noted of whatever is not read");
        read.ok_or_else(|| Refusal::invalid("", "the request cannot be read"))
    }

    /// Whether no fault was found so far.
    pub fn is_faultless(&self) -> bool {
        self.faults.is_empty() && self.denied.is_none()
    }

    /// Notes a fault.
    pub fn fault(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.faults.add(field.into(), description);
    }

    /// Looks at a message within the request: the paths of its fields begin with `prefix`.
    pub fn within<T>(&mut self, prefix: &str, look: impl FnOnce(&mut Self) -> T) -> T {
        let outside = self.faults.enter(prefix);
        let seen = look(self);
        self.faults.back_to(outside);
        seen
    }

    /// A namespace; empty = the default one.
    pub fn app_in(&mut self, field: &str, text: &str) -> AppId {
        let text = if text.is_empty() { DEFAULT_APP } else { text };
        self.id(field, text, AppId::new)
            .unwrap_or_else(|| AppId::new(DEFAULT_APP).expect("a constant that is an id"))
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
        if self.grant.is_some_and(|grant| !grant.allows_session(text)) {
            self.deny(Uncovered::Session);
        }
        self.id(field, text, SessionId::new)
    }

    /// The source of a private session with its listener, who stands in another field.
    pub fn pair(&mut self, source: &str, field: &str, listener: Option<UserId>) -> Option<Pair> {
        let source = self.user("source_id", source);
        let (source, listener) = (source?, listener?);
        if source == listener {
            self.fault("source_id", format!("must be another user than {field}"));
            return None;
        }
        Some(Pair { source, listener })
    }

    /// A session by its id or by its name, of which exactly one must be given.
    pub fn session_or_name(&mut self, id: &str, name: &str) -> Option<SessionKey> {
        match (id.is_empty(), name.is_empty()) {
            (false, true) => self.session("session_id", id).map(SessionKey::Id),
            (true, false) => {
                self.reaches_other_sessions();
                self.named("name", name).map(SessionKey::Name)
            }
            (true, true) => {
                self.fault("session_id", "must be given, or the name instead");
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
        let epoch = Epoch(position.epoch);
        Position { epoch, revision: Revision(position.revision) }
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
            (None, span) => Some(now + self.span("duration", span, 1000..=36500 * DAY, 0)),
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

    /// Which sessions are asked for; none where the field is empty: all of them.
    pub fn filter(&mut self, field: &str, source: &str) -> Option<Filter> {
        if source.is_empty() {
            return None;
        }
        Filter::new(source).map_err(|fault| self.fault(field, fault)).ok()
    }

    /// The order of a list; absent = by id.
    pub fn order(&mut self, field: &str, order: i32) -> Order {
        match proto::SessionOrder::try_from(order) {
            Ok(proto::SessionOrder::Unspecified | proto::SessionOrder::Id) => Order::Id,
            Ok(proto::SessionOrder::CreatedAt) => Order::Oldest,
            Ok(proto::SessionOrder::CreatedAtDescending) => Order::Newest,
            Err(_) => {
                self.fault(field, format!("{order} is no order"));
                Order::Id
            }
        }
    }

    /// How much a page has; 0 = by default.
    pub fn page_size(&mut self, field: &str, size: u32) -> usize {
        match size as usize {
            0 => PAGE,
            size if size <= LARGEST_PAGE => size,
            _ => {
                self.fault(field, format!("must be at most {LARGEST_PAGE}"));
                PAGE
            }
        }
    }

    /// A span within a range; absent = the default. A range that begins with 0 takes 0.
    pub fn span(
        &mut self,
        field: &str,
        span: Option<prost_types::Duration>,
        range: RangeInclusive<Micros>,
        default: Micros,
    ) -> Micros {
        let Some(span) = span else { return default };
        let nanos = i128::from(span.seconds) * 1_000_000_000 + i128::from(span.nanos);
        let is_whole = (0..1_000_000_000).contains(&span.nanos) && span.nanos % 1000 == 0;
        match Micros::try_from(nanos / 1000) {
            Ok(micros) if is_whole && range.contains(&micros) => micros,
            _ => {
                let (least, most) = (told(*range.start()), told(*range.end()));
                let text = format!("must be between {least} and {most}, in whole microseconds");
                self.fault(field, text);
                default
            }
        }
    }
}

/// A span in words: whole days as such, not in years and months, which are of no length.
fn told(span: Micros) -> String {
    match (span / DAY, span % DAY) {
        (1, 0) => "1 day".to_owned(),
        (days @ 2.., 0) => format!("{days} days"),
        _ => humantime::format_duration(std::time::Duration::from_micros(span)).to_string(),
    }
}

/// The path of an entry of a map.
pub fn path(prefix: &str, key: &str) -> String {
    Path::Key(&Path::Root(prefix), key).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::error::FAULTS_BYTES;

    #[test]
    fn so_many_faults_are_named_as_clients_take_and_the_others_counted() {
        let limits = Limits::default();
        let mut door = Door::new(&limits);
        for at in 0..10_000 {
            door.fault(format!("remove[{at}]"), "the key must not be empty");
        }
        let Err(Refusal::Invalid(named)) = door.close() else { panic!("it is refused") };
        let bytes: usize = named.iter().map(|v| v.field.len() + v.description.len()).sum();
        assert!(bytes <= FAULTS_BYTES + 32);
        let counted = format!("and {} more", 10_000 - (named.len() - 1));
        assert_eq!(named.last().map(|last| &*last.description), Some(&*counted));
    }
}
