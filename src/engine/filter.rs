//! Which sessions somebody asks for: an expression over what a session is.

use crate::{
    expression::{Expression, Mention, Vocabulary},
    session::{
        Info, Opening, Session,
        ids::{Key, SessionId, UserId},
        limits::Micros,
        member::Counts,
        settings::Kind,
        value::Value,
    },
};
use std::sync::Arc;

/// What a filter may speak of.
static VOCABULARY: Vocabulary = Vocabulary {
    names: &[
        "session_id",
        "kind",
        "name",
        "metadata",
        "member_count",
        "spectator_count",
        "reserved_count",
        "capacity",
        "locked",
        "has_password",
        "created_at",
        "owner_id",
        "host_id",
    ],
    maps: &["metadata"],
    timestamps: true,
};

/// What all mentions in a filter may weigh for one session: as much as a few hundred entries of
/// metadata.
const WEIGHT: usize = 1024;

/// What a session is, as far as a filter looks at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    id: SessionId,
    kind: Kind,
    created_at: Micros,
    info: Arc<Info>,
    counts: Counts,
    seats: usize,
}

impl Outline {
    /// As the last frame shows it.
    pub fn shown(session: &Session) -> Self {
        let (counts, seats) = (session.members().shown_counts(), session.shown_seats());
        Self::of(session, session.info(), counts, seats)
    }

    /// As it is, whether a frame shows it yet or not.
    pub fn accepted(session: &Session) -> Self {
        let (counts, seats) = (session.members().counts(), session.seats());
        Self::of(session, session.accepted_info(), counts, seats)
    }

    /// Which session.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// What readers learn of it.
    pub fn info(&self) -> &Arc<Info> {
        &self.info
    }

    /// Who is in it, counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The places that are held.
    pub fn seats(&self) -> usize {
        self.seats
    }

    fn of(session: &Session, info: &Arc<Info>, counts: Counts, seats: usize) -> Self {
        Self {
            id: session.id().clone(),
            kind: session.kind(),
            created_at: session.created_at(),
            info: info.clone(),
            counts,
            seats,
        }
    }

    /// The same with so many places held.
    pub fn with_seats(self, seats: usize) -> Self {
        Self { seats, ..self }
    }

    /// That of a session that is about to be opened.
    pub fn opening(opening: &Opening, now: Micros) -> Self {
        let Opening { id, kind, settings, password, opener, schema, .. } = opening;
        let owner = opener.as_ref().map(|(user, _)| user.clone());
        let info = Info {
            settings: Arc::new(settings.clone()),
            owner,
            host: None,
            term: 0,
            has_password: password.is_some(),
            schema: schema.clone(),
        };
        Self {
            id: id.clone(),
            kind: *kind,
            created_at: now,
            info: Arc::new(info),
            counts: Counts::default(),
            seats: 0,
        }
    }

    /// Who sees whom.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// When the session was opened.
    pub fn created_at(&self) -> Micros {
        self.created_at
    }

    /// What stands for a name of the vocabulary, or for an entry of it; none = there is no such entry.
    pub(super) fn look(&self, name: &str, key: Option<&Key>) -> Option<Value> {
        let Info { settings, .. } = &*self.info;
        let count = |count: usize| Value::Integer(count as i64);
        let id = |user: &Option<UserId>| Value::Text(user.as_deref().unwrap_or_default().into());
        Some(match name {
            "session_id" => Value::Text((*self.id).into()),
            "kind" => Value::Text(kind(self.kind).into()),
            "name" => Value::Text(settings.name.as_deref().unwrap_or_default().into()),
            "metadata" => match key {
                None => Value::Map(settings.metadata.clone()),
                Some(key) => {
                    let at = settings.metadata.binary_search_by(|(known, _)| known.cmp(key));
                    settings.metadata[at.ok()?].1.clone()
                }
            },
            "member_count" => count(self.counts.members),
            "spectator_count" => count(self.counts.spectators),
            "reserved_count" => count(self.seats),
            "capacity" => count(settings.capacity),
            "locked" => Value::Flag(settings.locked),
            "has_password" => Value::Flag(self.info.has_password),
            "created_at" => count(self.created_at as usize),
            "owner_id" => id(&self.info.owner),
            "host_id" => id(&self.info.host),
            _ => return None,
        })
    }
}

/// A kind as the contract names it.
pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Room => "ROOM",
        Kind::Hosted => "HOSTED",
        Kind::Private => "PRIVATE",
    }
}

/// Chooses among sessions.
#[derive(Debug)]
pub struct Filter(Expression);

impl Filter {
    /// Parses and checks an expression; says what is wrong with it.
    pub fn new(source: &str) -> Result<Self, String> {
        let expression = Expression::new(source, &VOCABULARY)?;
        // What it yields of a session without anything it mostly yields of every session.
        match expression.run(nothing, WEIGHT) {
            Ok(Value::Flag(_)) | Err(_) => Ok(Self(expression)),
            Ok(_) => Err("must yield true or false".to_owned()),
        }
    }

    /// The expression.
    pub fn source(&self) -> &str {
        self.0.source()
    }

    /// Whether it chooses a session, which it does not where it cannot be evaluated. What it takes is
    /// taken from the allowance. Nothing is locked meanwhile.
    pub fn chooses(&self, session: &Outline, allowance: &mut Allowance) -> bool {
        let (result, steps) =
            self.0.run_counted(|it| session.look(it.name, it.key.as_ref()), WEIGHT);
        allowance.0 = allowance.0.saturating_sub(steps);
        result == Ok(Value::Flag(true))
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl Eq for Filter {}

/// What there is of each name before a session has anything.
fn nothing(mention: &Mention) -> Option<Value> {
    Some(match mention.name {
        "metadata" if mention.key.is_some() => return None,
        "metadata" => Value::Map([].into()),
        "locked" | "has_password" => Value::Flag(false),
        "session_id" | "kind" | "name" | "owner_id" | "host_id" => Value::Text("".into()),
        _ => Value::Integer(0),
    })
}

/// How many steps the filters of one call may still take: some milliseconds' worth. A call that has
/// none left answers with what it has found and says where to go on.
#[derive(Debug)]
pub struct Allowance(usize);

impl Default for Allowance {
    fn default() -> Self {
        Self(64 * 1024)
    }
}

impl Allowance {
    /// Whether nothing is left.
    pub fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        listing::LOOKS,
        testing::{engine, room, settings},
    };

    fn outline(metadata: &[(&str, Value)]) -> Outline {
        let engine = engine(settings());
        let entries = metadata.iter().map(|(key, value)| ((*key).into(), value.clone()));
        let live = room(&engine, "arena", |settings| {
            settings.metadata = entries.collect();
            settings.name = Some("The Arena".into());
            settings.capacity = 8;
        });
        let state = live.lock();
        Outline::shown(&state.core)
    }

    fn chooses(source: &str, session: &Outline) -> bool {
        let filter = Filter::new(source).expect(source);
        filter.chooses(session, &mut Allowance::default())
    }

    #[test]
    fn a_filter_sees_what_a_session_is() {
        let session =
            outline(&[("level", Value::Integer(3)), ("mode", Value::Text("duel".into()))]);
        for holds in [
            "true",
            "session_id == 'arena' && kind == 'ROOM' && name.startsWith('The')",
            "metadata.mode == 'duel' && metadata.level >= 3 && metadata['level'] < 4",
            "member_count + spectator_count + reserved_count == 0 && member_count < capacity && capacity == 8",
            "!locked && !has_password && owner_id == '' && host_id == ''",
            "created_at == timestamp('1970-01-01T00:01:40Z')",
            "has(metadata.mode) && !has(metadata.map)",
            "metadata.mode in ['duel', 'race'] && metadata.exists(key, key == 'level')",
        ] {
            assert!(chooses(holds, &session), "{holds}");
        }
        for fails in ["false", "locked", "metadata.map == 'moon'", "!(metadata.map == 'moon')"] {
            assert!(!chooses(fails, &session), "{fails}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_what_is_wrong() {
        let refused = |source: &str| Filter::new(source).expect_err(source);
        assert!(refused("").contains("not CEL"));
        assert!(refused("colour == 'red'").contains("knows only `session_id`, `kind`"));
        assert!(refused("name.matches('a+')").contains("regular expressions"));
        assert!(refused("member_count + 1").contains("true or false"));
        assert!(refused("name").contains("true or false"));
        assert!(refused(&"a".repeat(1025)).contains("1025 bytes"));
        // Of a session without metadata nothing is known.
        Filter::new("metadata.open").expect("it may be a flag");
    }

    #[test]
    fn a_costly_filter_spends_the_allowance_of_its_call_soon() {
        let entries: Vec<_> = (0..100).map(|at| format!("{at:03}")).collect();
        let entries: Vec<_> = entries.iter().map(|key| (&**key, Value::Flag(true))).collect();
        let session = outline(&entries);
        let looks = |source: &str| {
            let (filter, mut allowance) =
                (Filter::new(source).expect(source), Allowance::default());
            (1..).find(|_| {
                filter.chooses(&session, &mut allowance);
                allowance.is_spent()
            })
        };
        assert!(looks("metadata.all(key, metadata[key])") < Some(20));
        assert!(
            looks("metadata.mode == 'duel' && member_count < capacity && !locked") > Some(LOOKS)
        );
    }
}
