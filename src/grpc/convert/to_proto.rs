//! The domain's types as the wire's.

use crate::{
    engine::{self, Credential, State, encoder::SnapshotReason},
    identity::Revocation,
    proto,
    session::{
        Info, Session,
        access::Standing,
        ban::Ban,
        command::Actor,
        ids::{Key, UserId},
        judging::{Operation, Rule},
        limits::{Micros, SECOND},
        member::{Departure, Shown},
        role::Role,
        schema::{Field, Fields, Schema, Type},
        settings::{Durability, Kind, Pacing, Presence, Settings},
        value::Value,
        view::{ChangeSink, Class, MemberChange},
    },
};
use std::collections::BTreeMap;

/// A role.
pub fn role(role: Role) -> proto::Role {
    match role {
        Role::Owner => proto::Role::Owner,
        Role::Admin => proto::Role::Admin,
        Role::Moderator => proto::Role::Moderator,
        Role::Member => proto::Role::Member,
        Role::Spectator => proto::Role::Spectator,
    }
}

/// Why there is a snapshot.
pub fn snapshot_reason(reason: SnapshotReason) -> proto::SnapshotReason {
    match reason {
        SnapshotReason::First => proto::SnapshotReason::First,
        SnapshotReason::EpochChanged => proto::SnapshotReason::EpochChanged,
        SnapshotReason::TooOld => proto::SnapshotReason::TooOld,
        SnapshotReason::Future => proto::SnapshotReason::Future,
        SnapshotReason::ViewChanged => proto::SnapshotReason::ViewChanged,
        SnapshotReason::ResetSchema => proto::SnapshotReason::ResetSchema,
        SnapshotReason::Resent => proto::SnapshotReason::Resent,
        SnapshotReason::LogOverflow => proto::SnapshotReason::LogOverflow,
    }
}

/// What happens to a member whose last stream is lost.
fn presence(presence: Presence) -> proto::Presence {
    match presence {
        Presence::Tied => proto::Presence::Tied,
        Presence::Explicit => proto::Presence::Explicit,
    }
}

fn durability(durability: Durability) -> proto::Durability {
    match durability {
        Durability::None => proto::Durability::None,
        Durability::Async => proto::Durability::Async,
        Durability::Sync => proto::Durability::Sync,
    }
}

/// Why somebody left.
pub fn departure(departure: Departure) -> proto::DepartureReason {
    match departure {
        Departure::Left => proto::DepartureReason::Left,
        Departure::Lost => proto::DepartureReason::Lost,
        Departure::Kicked => proto::DepartureReason::Kicked,
        Departure::Banned => proto::DepartureReason::Banned,
    }
}

/// A position.
pub fn position(position: engine::Position) -> proto::Position {
    proto::Position { epoch: position.epoch.0, revision: position.revision.0 }
}

/// A moment.
pub fn moment(at: Micros) -> prost_types::Timestamp {
    let (seconds, micros) = (at / SECOND, at % SECOND);
    prost_types::Timestamp { seconds: seconds as i64, nanos: micros as i32 * 1000 }
}

/// A span.
pub fn span(span: Micros) -> prost_types::Duration {
    let (seconds, micros) = (span / SECOND, span % SECOND);
    prost_types::Duration { seconds: seconds as i64, nanos: micros as i32 * 1000 }
}

/// A revocation.
pub fn revocation(revocation: &Revocation) -> proto::Revocation {
    use proto::revocation::What;
    fn text<T: ToString>(id: &Option<T>) -> String {
        id.as_ref().map(T::to_string).unwrap_or_default()
    }
    let what = match revocation {
        Revocation::Token(id) => What::TokenId(id.to_string()),
        Revocation::Key(id) => What::KeyId(id.to_string()),
        Revocation::User { app, user } => {
            What::User(proto::RevokedUser { user_id: user.to_string(), app: text(app) })
        }
        Revocation::IssuedBefore { app, issuer, user, time } => {
            What::IssuedBefore(proto::IssuedBefore {
                time: Some(moment(*time)),
                app: text(app),
                issuer: text(issuer),
                user_id: text(user),
            })
        }
    };
    proto::Revocation { what: Some(what) }
}

/// A credential, as events name it.
pub fn credential(credential: &Credential) -> proto::EventCredential {
    use proto::EventCredentialKind as Kind;
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    let none = proto::EventCredential::default();
    match credential {
        Credential::Token { issuer, id, subject } => proto::EventCredential {
            kind: Kind::Token.into(),
            name: text(id),
            issuer: issuer.to_string(),
            subject: text(subject),
        },
        Credential::Key(name) => {
            proto::EventCredential { kind: Kind::Key.into(), name: name.to_string(), ..none }
        }
        Credential::Certificate(name) => {
            let kind = Kind::Certificate.into();
            proto::EventCredential { kind, name: name.to_string(), ..none }
        }
    }
}

/// A session as updates tell it; the format of private data is for those who see the data, and rules
/// are for those who are in.
///
/// `class` is that of the reader; none = somebody outside.
pub fn session_info(session: &Session, info: &Info, class: Option<Class>) -> proto::SessionInfo {
    let id = |user: &Option<UserId>| user.as_deref().unwrap_or_default().to_owned();
    let mut settings = settings(&info.settings);
    if class.is_none() {
        settings.rules.clear();
    }
    proto::SessionInfo {
        app: session.app().to_string(),
        session_id: session.id().to_string(),
        kind: kind(session.kind()).into(),
        settings: Some(settings),
        owner_id: id(&info.owner),
        host_id: id(&info.host),
        term: info.term,
        source_id: session.pair().map(|pair| pair.source.to_string()).unwrap_or_default(),
        listener_id: session.pair().map(|pair| pair.listener.to_string()).unwrap_or_default(),
        created_at: Some(moment(session.created_at())),
        has_password: info.has_password,
        schema: info.schema.as_deref().map(|it| told_schema(it, session, info, class)),
        ..Default::default()
    }
}

/// A session as reads tell it to somebody: with the time of the last frame and the counts.
pub fn session_summary(state: &State, reader: &Actor) -> proto::SessionInfo {
    let session = &state.core;
    let is_inside = matches!(session.standing(reader), Standing::App | Standing::Joined(_));
    let class = is_inside.then(|| session.class_of(reader));
    let outline = state.outline();
    let counts = outline.counts();
    proto::SessionInfo {
        last_frame_at: Some(moment(state.shown_at())),
        member_count: Some(counts.members as u32),
        spectator_count: Some(counts.spectators as u32),
        reserved_count: Some(outline.seats() as u32),
        ..session_info(session, outline.info(), class)
    }
}

/// The members as of the last frame, in join order.
pub fn members(session: &Session) -> Vec<proto::Member> {
    let mut shown: Vec<_> = session.members().shown().collect();
    shown.sort_unstable_by_key(|(_, shown)| shown.order);
    shown.into_iter().map(|(known, shown)| member(&known.user, shown)).collect()
}

/// A member as of the last frame.
pub fn member(user: &UserId, shown: &Shown) -> proto::Member {
    proto::Member {
        user_id: user.to_string(),
        role: role(shown.role).into(),
        disconnected: shown.disconnected,
        joined_at: Some(moment(shown.joined_at)),
    }
}

/// Takes in what changed about one member.
#[derive(Debug, Default)]
pub struct OneMember(pub Option<proto::MemberChange>);

impl ChangeSink<'_> for OneMember {
    fn session(&mut self, _: &Session, _: &Info, _: Class) {}

    fn data(&mut self, _: &str, _: Option<&Value>) {}

    fn private_data(&mut self, _: &str, _: Option<&Value>) {}

    fn member(&mut self, change: MemberChange<'_>) {
        self.0 = Some(proto::MemberChange {
            user_id: change.user.to_string(),
            replaces: change.replaces,
            role: change.role.map_or(proto::Role::Unspecified, role).into(),
            disconnected: change.disconnected,
            join_order: change.order.unwrap_or_default(),
            ..Default::default()
        });
    }

    fn prop(&mut self, key: &str, value: Option<&Value>) {
        let Some(member) = &mut self.0 else { return };
        match value {
            Some(value) => member.props.push(named_value(key, value)),
            None => member.removed.push(key.to_owned()),
        }
    }

    fn left(&mut self, _: &str, _: Departure) {}
}

/// A ban of a user.
pub fn ban(user: &UserId, ban: &Ban) -> proto::Ban {
    proto::Ban {
        user_id: user.to_string(),
        reason: ban.reason.to_string(),
        until: ban.until.map(moment),
    }
}

/// Who sees whom.
pub fn kind(kind: Kind) -> proto::SessionKind {
    match kind {
        Kind::Room => proto::SessionKind::Room,
        Kind::Hosted => proto::SessionKind::Hosted,
        Kind::Private => proto::SessionKind::Private,
    }
}

/// All settings, defaults filled in.
pub fn settings(settings: &Settings) -> proto::SessionSettings {
    let keys = |keys: &std::collections::BTreeSet<Key>| {
        keys.iter().map(|key| key.to_string()).collect::<Vec<_>>()
    };
    let pacing = match settings.pacing {
        Pacing::Tick => proto::Pacing::Tick,
        Pacing::Eager => proto::Pacing::Eager,
    };
    proto::SessionSettings {
        name: settings.name.as_deref().unwrap_or_default().to_owned(),
        propnames: keys(&settings.propnames),
        hostprops: keys(&settings.hostprops),
        tick_interval: Some(span(settings.tick)),
        pacing: pacing.into(),
        capacity: Some(settings.capacity as u32),
        locked: Some(settings.locked),
        unlisted: Some(settings.unlisted),
        metadata: settings
            .metadata
            .iter()
            .map(|(key, value)| (key.to_string(), self::value(value)))
            .collect(),
        successors: settings.successors.iter().map(ToString::to_string).collect(),
        host_grace: Some(span(settings.host_grace)),
        inherit_host_data: Some(settings.inherit_host_data),
        presence: settings.presence.map_or(proto::Presence::Unspecified, presence).into(),
        rejoin_grace: Some(span(settings.rejoin_grace)),
        empty_ttl: Some(span(settings.empty_ttl)),
        max_age: Some(span(settings.max_age)),
        exclusive: Some(settings.exclusive),
        password: None,
        data_role: role(settings.data_role).into(),
        reset_role: role(settings.reset_role).into(),
        durability: durability(settings.durability).into(),
        rules: settings.rules.iter().map(rule).collect(),
    }
}

fn rule(rule: &Rule) -> proto::SessionRule {
    proto::SessionRule {
        name: rule.name.to_string(),
        on: rule.on.iter().map(|it| operation(it).into()).collect(),
        expression: rule.expression.to_string(),
        message: rule.message.to_string(),
    }
}

/// What is judged.
pub fn operation(operation: Operation) -> proto::JudgedOperation {
    match operation {
        Operation::Open => proto::JudgedOperation::Open,
        Operation::Join => proto::JudgedOperation::Join,
        Operation::Write => proto::JudgedOperation::Write,
        Operation::Subscribe => proto::JudgedOperation::Subscribe,
    }
}

/// A schema, by its fields.
pub fn schema(schema: &Schema) -> proto::Schema {
    proto::Schema {
        props: fields(&schema.props),
        data: fields(&schema.data),
        private_data: fields(&schema.private_data),
        ..Default::default()
    }
}

/// As much of it as may be shown.
fn told_schema(
    schema: &Schema,
    session: &Session,
    info: &Info,
    class: Option<Class>,
) -> proto::Schema {
    let sees_private = class.is_some_and(Class::sees_private_data);
    let private = if sees_private { fields(&schema.private_data) } else { BTreeMap::new() };
    proto::Schema {
        props: told(&schema.props, |key| session.tells_default(info, class, key)),
        data: told(&schema.data, |_| class.is_some()),
        private_data: private,
        ..Default::default()
    }
}

/// Fields with those defaults that may be shown.
fn told(told: &Fields, tells: impl Fn(&str) -> bool) -> BTreeMap<String, proto::Field> {
    let mut told = fields(told);
    for (key, field) in &mut told {
        field.default_value = field.default_value.take().filter(|_| tells(key));
    }
    told
}

fn fields(fields: &Fields) -> BTreeMap<String, proto::Field> {
    fields.iter().map(|(key, it)| (key.to_string(), field(it))).collect()
}

fn field(field: &Field) -> proto::Field {
    proto::Field {
        r#type: match field.of {
            Type::Any => proto::FieldType::Any,
            Type::Integer => proto::FieldType::Integer,
            Type::Number => proto::FieldType::Number,
            Type::Text => proto::FieldType::Text,
            Type::Flag => proto::FieldType::Flag,
            Type::Data => proto::FieldType::Data,
            Type::Numbers => proto::FieldType::Numbers,
            Type::Floats => proto::FieldType::Floats,
            Type::Integers => proto::FieldType::Integers,
            Type::List => proto::FieldType::List,
            Type::Map => proto::FieldType::Map,
        }
        .into(),
        default_value: field.default.as_ref().map(value),
        min: field.min,
        max: field.max,
        writer: field.writer.map_or(proto::Role::Unspecified, role).into(),
        fields: fields(&field.fields),
        items: field.items.as_deref().map(|items| Box::new(self::field(items))),
    }
}

/// A value.
pub fn value(value: &Value) -> proto::Value {
    use proto::value::Kind as Wire;
    let kind = match value {
        Value::Null => Wire::Null(proto::NullValue {}),
        Value::Flag(flag) => Wire::Flag(*flag),
        Value::Integer(integer) => Wire::Integer(*integer),
        Value::Number(number) => Wire::Number(*number),
        Value::Text(text) => Wire::Text(text.to_string()),
        Value::Data(data) => Wire::Data(data.to_vec()),
        Value::Numbers(items) => Wire::Numbers(proto::Numbers { items: items.to_vec() }),
        Value::Floats(items) => Wire::Floats(proto::Floats { items: items.to_vec() }),
        Value::Integers(items) => Wire::Integers(proto::Integers { items: items.to_vec() }),
        Value::List(items) => {
            Wire::List(proto::ListValue { items: items.iter().map(self::value).collect() })
        }
        Value::Map(entries) => {
            let entry = |(key, item): &(Key, Value)| (key.to_string(), self::value(item));
            Wire::Map(proto::MapValue { entries: entries.iter().map(entry).collect() })
        }
    };
    proto::Value { kind: Some(kind) }
}

/// A value with its name.
pub fn named_value(name: &str, value: &Value) -> proto::NamedValue {
    use proto::{named_value::Kind as Named, value::Kind as Plain};
    let kind = self::value(value).kind.map(|kind| match kind {
        Plain::Null(null) => Named::Null(null),
        Plain::Flag(flag) => Named::Flag(flag),
        Plain::Integer(integer) => Named::Integer(integer),
        Plain::Number(number) => Named::Number(number),
        Plain::Text(text) => Named::Text(text),
        Plain::Data(data) => Named::Data(data),
        Plain::Numbers(items) => Named::Numbers(items),
        Plain::Floats(items) => Named::Floats(items),
        Plain::Integers(items) => Named::Integers(items),
        Plain::List(items) => Named::List(items),
        Plain::Map(entries) => Named::Map(entries),
    });
    proto::NamedValue { name: name.to_owned(), kind }
}
