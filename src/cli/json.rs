//! What is written down, as JSON for people and programs that read an export. It is never read back:
//! an import takes the bytes beside it. So a password is left out here.

use super::{text::moment, value};
use crate::{
    object_stream::record::Change,
    record::{Entry, Place, Reply, RequestRecord, UserRecord},
    session::{
        Info,
        ban::Ban,
        epoch::Epoch,
        judging::{Operation, Rule},
        limits::Micros,
        private::Pair,
        record::{
            Begin, Birth, Connection, Heritage, Joined, Mark, Member, Name, People, Person, Record,
            Removal, Removed, Slot, Status, Waiting,
        },
        revision::Revision,
        role::Role,
        schema::{Field, Fields, Schema, Type},
        settings::{Durability, Keys, Kind, Pacing, Presence, Settings},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value as Json, json};

/// An entry, by the name of its kind. A kind that is added is dealt with here.
pub fn entry(entry: &Entry) -> Json {
    match entry {
        Entry::Session(record) => json!({ "session": session(record) }),
        Entry::Gone { app, id, epoch } => {
            json!({ "gone": { "app": **app, "session": **id, "epoch": exact(epoch.0) } })
        }
        Entry::GreatestEpoch(epoch) => json!({ "greatest_epoch": exact(epoch.0) }),
        Entry::User(record) => json!({ "user": user(record) }),
        Entry::Request(record) => json!({ "request": request(record) }),
        Entry::Streams(change) => json!({ "streams": streams(change) }),
    }
}

/// A whole number without loss: as text where programs that have doubles only would round it.
pub fn exact(number: u64) -> Json {
    const EXACT: u64 = 1 << 53;
    if number <= EXACT { number.into() } else { number.to_string().into() }
}

/// Bytes as text.
pub fn bytes(bytes: &[u8]) -> Json {
    STANDARD.encode(bytes).into()
}

/// Puts what there is under a name.
fn put<T>(object: &mut Map<String, Json>, name: &str, what: Option<T>, write: impl Fn(T) -> Json) {
    object.extend(what.map(|what| (name.to_owned(), write(what))));
}

fn object(json: Json) -> Map<String, Json> {
    if let Json::Object(object) = json { object } else { Map::new() }
}

fn at(at: Micros) -> Json {
    moment(at).into()
}

fn revision(of: Revision) -> Json {
    exact(of.0)
}

fn user(record: &UserRecord) -> Json {
    let UserRecord { app, user, props } = record;
    json!({ "app": **app, "user": **user, "props": value::write_all(props) })
}

/// Of what an entry about object streams tells; the rest is in the bytes.
fn streams(change: &Change) -> Json {
    let app = change.app().map(|app| app.to_string());
    let kind = match change {
        Change::Counter(counter) => {
            return json!({ "kind": "counter", "revision": exact(counter.revision) });
        }
        Change::App(_) => "app",
        Change::Stream(stream) => {
            return json!({ "kind": "stream", "app": app, "stream": *stream.name });
        }
        Change::Forgotten { .. } => "forgotten",
    };
    json!({ "kind": kind, "app": app })
}

fn request(record: &RequestRecord) -> Json {
    let RequestRecord { app, place, by, id, content, at: done, reply } = record;
    let position = |epoch: &Epoch, of: &Revision| json!({ "epoch": exact(epoch.0), "revision": revision(*of) });
    let place = match place {
        Place::Session(id) => json!({ "session": **id }),
        Place::User(user) => json!({ "user": **user }),
        Place::App => json!({ "app": {} }),
    };
    let reply = match reply {
        Reply::Message(message) => json!({ "message": bytes(message) }),
        Reply::Written(epoch, revision) => json!({ "written": position(epoch, revision) }),
        Reply::OnUser(written) => {
            let one = |(id, epoch, revision): &(_, Epoch, Revision)| json!({ "session": id_text(id), "position": position(epoch, revision) });
            json!({ "on_user": written.iter().map(one).collect::<Vec<_>>() })
        }
    };
    let by = by.user().map(|user| user.to_string());
    json!({
        "app": **app, "place": place, "by": by, "id": **id,
        "content": content.to_string(), "at": at(*done), "reply": reply,
    })
}

fn id_text(id: &impl ToString) -> String {
    id.to_string()
}

fn session(record: &Record) -> Json {
    let Record {
        app,
        id,
        begin,
        until,
        framed_at,
        info,
        info_revision,
        sight_revision,
        password,
        names,
        numbered,
        data,
        private_data,
        members,
        joins,
        removals,
        remembered,
        horizon,
        reset_revision,
        people: People { is_all, list },
        heritage,
        host_until,
        empty_since,
        waiting,
        skipped,
        epoch_revision,
        has_ended,
    } = record;
    let (key, value) = match begin {
        Begin::Nothing(birth) => ("birth", self::birth(birth)),
        Begin::Mark(since) => ("since", mark(since)),
    };
    let mut json = object(json!({
        "app": **app, "session": **id, key: value, "until": mark(until), "framed_at": at(*framed_at),
        "info_revision": revision(*info_revision), "sight_revision": revision(*sight_revision),
        "names": all(names, name), "numbered": exact(*numbered),
        "data": all(data, slot), "private_data": all(private_data, slot),
        "members": all(members, member), "joins": exact(*joins),
        "removals": all(removals, removal), "remembered": exact(*remembered),
        "horizon": revision(*horizon), "reset_revision": revision(*reset_revision),
        "people_is_all": is_all, "people": all(list, person),
        "waiting": all(waiting, waits), "has_ended": has_ended,
        "skipped": all(skipped, |of| revision(*of)), "epoch_revision": revision(*epoch_revision),
    }));
    put(&mut json, "info", info.as_deref(), self::info);
    put(&mut json, "has_password", password.as_ref(), |hash| hash.is_some().into());
    put(
        &mut json,
        "heritage",
        heritage.as_ref(),
        |Heritage { of, props }| json!({ "of": exact(*of), "props": value::write_all(props) }),
    );
    put(&mut json, "host_until", *host_until, at);
    put(&mut json, "empty_since", *empty_since, at);
    Json::Object(json)
}

fn all<T>(list: &[T], one: impl Fn(&T) -> Json) -> Json {
    list.iter().map(one).collect::<Vec<_>>().into()
}

fn mark(mark: &Mark) -> Json {
    let Mark { epoch, revision: of, notes } = mark;
    json!({ "epoch": exact(epoch.0), "revision": revision(*of), "notes": exact(*notes) })
}

fn birth(birth: &Birth) -> Json {
    let Birth { kind, pair, opened_at, epoch } = birth;
    let mut json = object(json!({
        "kind": kind_name(*kind), "opened_at": at(*opened_at), "epoch": exact(epoch.0),
    }));
    put(&mut json, "pair", pair.as_ref(), self::pair);
    Json::Object(json)
}

/// Between whom a private session is.
pub fn pair(pair: &Pair) -> Json {
    let Pair { source, listener } = pair;
    json!({ "source": **source, "listener": **listener })
}

fn name(name: &Name) -> Json {
    let Name { place, key, serial, news } = name;
    json!({ "place": place, "key": **key, "serial": exact(*serial), "news": revision(*news) })
}

fn slot(slot: &Slot) -> Json {
    let Slot { place, revision: of, value } = slot;
    let value = value.as_ref().map(value::write);
    json!({ "place": place, "revision": revision(*of), "value": value })
}

fn member(member: &Member) -> Json {
    let Member { order, changed, joined, status, hosting, slots } = member;
    let mut json = object(json!({
        "order": exact(*order), "changed": revision(*changed), "hosting": revision(*hosting),
        "slots": all(slots, slot),
    }));
    put(&mut json, "joined", joined.as_ref(), |joined| {
        let Joined { user, at: moment, revision: of, replaces } = joined;
        let (of, replaces) = (revision(*of), revision(*replaces));
        json!({ "user": **user, "at": at(*moment), "revision": of, "replaces": replaces })
    });
    put(&mut json, "status", status.as_ref(), |status| {
        let Status { role, disconnected, revision: of } = status;
        let (role, of) = (role.to_string(), revision(*of));
        json!({ "role": role, "disconnected": disconnected, "revision": of })
    });
    Json::Object(json)
}

fn removal(removal: &Removal) -> Json {
    let Removal { revision: of, at: moment, what } = removal;
    let mut json = object(json!({ "revision": revision(*of), "at": at(*moment) }));
    put(&mut json, "what", what.as_ref(), |what| match what {
        Removed::Prop(order, place) => {
            json!({ "prop": { "order": exact(*order), "place": place } })
        }
        Removed::Data(place) => json!({ "data": place }),
        Removed::PrivateData(place) => json!({ "private_data": place }),
        Removed::Member(user, departure) => {
            let departure = format!("{departure:?}").to_lowercase();
            json!({ "member": { "user": **user, "departure": departure } })
        }
    });
    Json::Object(json)
}

/// What no frame tells of a user.
pub fn person(person: &Person) -> Json {
    let Person { user, role, ban, seat, connection } = person;
    let mut json = object(json!({ "user": **user }));
    put(&mut json, "role", *role, |role: Role| role.to_string().into());
    put(
        &mut json,
        "ban",
        ban.as_ref(),
        |Ban { reason, until }| json!({ "reason": **reason, "until": until.map(moment) }),
    );
    put(&mut json, "seat_until", *seat, at);
    put(&mut json, "connection", connection.as_ref(), |connection| {
        let Connection { presence, absent, has_streamed, until } = connection;
        json!({
            "presence": presence_name(*presence), "absent": absent, "has_streamed": has_streamed,
            "until": until.map(moment),
        })
    });
    Json::Object(json)
}

fn waits(waiting: &Waiting) -> Json {
    let Waiting { order, key, value } = waiting;
    json!({ "order": exact(*order), "key": **key, "value": value.as_ref().map(value::write) })
}

/// What readers learn of a session as a whole.
pub fn info(info: &Info) -> Json {
    let Info { settings: of, owner, host, term, has_password, schema: format } = info;
    json!({
        "settings": settings(of), "owner": owner.as_deref(), "host": host.as_deref(),
        "term": exact(*term), "has_password": has_password,
        "schema": format.as_deref().map(schema),
    })
}

fn settings(settings: &Settings) -> Json {
    let Settings {
        name,
        propnames,
        hostprops,
        tick,
        pacing,
        capacity,
        locked,
        unlisted,
        metadata,
        successors,
        host_grace,
        inherit_host_data,
        presence,
        rejoin_grace,
        empty_ttl,
        max_age,
        exclusive,
        data_role,
        reset_role,
        durability,
        rules,
    } = settings;
    let keys = |keys: &Keys| keys.iter().map(|key| key.to_string()).collect::<Vec<_>>();
    let successors: Vec<_> = successors.iter().map(|user| user.to_string()).collect();
    json!({
        "name": name.as_deref(), "propnames": keys(propnames), "hostprops": keys(hostprops),
        "tick_us": exact(*tick), "pacing": pacing_name(*pacing),
        "capacity": exact(*capacity as u64), "locked": locked, "unlisted": unlisted,
        "metadata": value::write_all(metadata), "successors": successors,
        "host_grace_us": exact(*host_grace), "inherit_host_data": inherit_host_data,
        "presence": presence.map(presence_name), "rejoin_grace_us": exact(*rejoin_grace),
        "empty_ttl_us": exact(*empty_ttl), "max_age_us": exact(*max_age), "exclusive": exclusive,
        "data_role": data_role.to_string(), "reset_role": reset_role.to_string(),
        "durability": durability_name(*durability),
        "rules": rules.iter().map(rule).collect::<Vec<_>>(),
    })
}

fn rule(rule: &Rule) -> Json {
    let Rule { name, on, expression, message } = rule;
    let on: Vec<_> = on.iter().map(Operation::word).collect();
    json!({ "name": **name, "on": on, "expression": **expression, "message": **message })
}

fn schema(schema: &Schema) -> Json {
    let Schema { props, data, private_data } = schema;
    json!({ "props": fields(props), "data": fields(data), "private_data": fields(private_data) })
}

fn fields(fields: &Fields) -> Json {
    Json::Object(fields.iter().map(|(key, of)| (key.to_string(), field(of))).collect())
}

fn field(field: &Field) -> Json {
    let Field { of, default, min, max, writer, fields: within, items } = field;
    let mut json = object(json!({ "type": type_name(*of) }));
    put(&mut json, "default", default.as_ref(), value::write);
    put(&mut json, "min", *min, value::number);
    put(&mut json, "max", *max, value::number);
    put(&mut json, "writer", *writer, |role: Role| role.to_string().into());
    put(&mut json, "fields", Some(within).filter(|it| !it.is_empty()), fields);
    put(&mut json, "items", items.as_deref(), self::field);
    Json::Object(json)
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident($of:ident): $($value:ident $text:literal)*;)*) => {$(
        $(#[$doc])*
        pub fn $name(of: $of) -> &'static str {
            match of {
                $($of::$value => $text,)*
            }
        }
    )*};
}

names! {
    /// Who sees whom.
    kind_name(Kind): Room "room" Hosted "hosted" Private "private";
    /// What outlives a crash.
    durability_name(Durability): None "none" Async "async" Sync "sync";
    /// What happens to members without a stream.
    presence_name(Presence): Tied "tied" Explicit "explicit";
    /// When frames are made.
    pacing_name(Pacing): Tick "tick" Eager "eager";
    /// What a field holds.
    type_name(Type): Any "any" Integer "integer" Number "number" Text "text" Flag "flag" Data "data"
        Numbers "numbers" Floats "floats" Integers "integers" List "list" Map "map";
}
