//! Messages as entries. Whatever a session could not hold is refused.

use super::{
    Entry, Place, Reply, RequestRecord, Unreadable, UserRecord, info,
    names::{read_departure, read_kind, read_presence, read_role},
    streams, value, wire,
};
use crate::session::{
    ban::Ban,
    command::Actor,
    epoch::Epoch,
    ids::{AppId, SessionId, UserId},
    password::PasswordHash,
    private::Pair,
    record::{
        Begin, Birth, Connection, Heritage, Joined, Mark, Member, Name, People, Person, Record,
        Removal, Removed, Slot, Status, Waiting,
    },
    revision::Revision,
    role::Role,
    settings,
};
use std::sync::Arc;
use wire::{entry::Kind, record, removal::What, request};

pub type Read<T> = Result<T, Unreadable>;

/// Numbers and moments are less, so that there is room to count on.
const BOUND: u64 = 1 << 62;

pub fn entry(entry: wire::Entry) -> Read<Entry> {
    let wire::Entry { kind } = entry;
    Ok(match kind.ok_or(Unreadable::Malformed("an entry of no kind"))? {
        Kind::Session(record) => Entry::Session(Box::new(session(record)?)),
        Kind::Gone(wire::Gone { app, id, epoch }) => {
            Entry::Gone { app: app_id(app)?, id: session_id(id)?, epoch: Epoch(moment(epoch)?) }
        }
        Kind::GreatestEpoch(epoch) => Entry::GreatestEpoch(Epoch(moment(epoch)?)),
        Kind::Request(request) => Entry::Request(Box::new(self::request(request)?)),
        Kind::Streams(change) => Entry::Streams(streams::read(change)?),
        Kind::User(wire::User { app, user: id, props }) => Entry::User(UserRecord {
            app: app_id(app)?,
            user: user(id)?,
            props: value::read_all(props)?,
        }),
    })
}

fn request(request: wire::Request) -> Read<RequestRecord> {
    let wire::Request { app, place, by, id, content, at, reply } = request;
    let reply = reply.ok_or(Unreadable::Malformed("a request without a reply"))?;
    Ok(RequestRecord {
        app: app_id(app)?,
        place: match place.ok_or(Unreadable::Malformed("a request to nothing"))? {
            request::Place::Session(id) => Place::Session(session_id(id)?),
            request::Place::User(id) => Place::User(user(id)?),
            request::Place::WholeApp(_) => Place::App,
        },
        by: by.map(user).transpose()?.map_or(Actor::App, |user| Actor::of(&user)),
        id: id.into(),
        content,
        at: moment(at)?,
        reply: match reply {
            request::Reply::Message(bytes) => Reply::Message(bytes.into()),
            request::Reply::Written(at) => {
                let (epoch, revision) = position(at)?;
                Reply::Written(epoch, revision)
            }
            request::Reply::OnUser(wire::OnUser { sessions, positions }) => {
                if sessions.len() != positions.len() {
                    return Err(Unreadable::Malformed("sessions without positions"));
                }
                let written = sessions.into_iter().zip(positions).map(|(id, at)| {
                    let (epoch, revision) = position(at)?;
                    Ok((session_id(id)?, epoch, revision))
                });
                Reply::OnUser(written.collect::<Read<_>>()?)
            }
        },
    })
}

fn position(at: wire::Position) -> Read<(Epoch, Revision)> {
    let wire::Position { epoch, revision } = at;
    Ok((Epoch(moment(epoch)?), Revision(moment(revision)?)))
}

fn session(record: wire::Record) -> Read<Record> {
    let wire::Record {
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
        people_is_all,
        people,
        heritage,
        host_until,
        empty_since,
        waiting,
        skipped,
        epoch_revision,
        has_ended,
    } = record;
    let until = mark(until.ok_or(Unreadable::Malformed("a record without an end"))?)?;
    let now = until.revision;
    let begin = match begin.ok_or(Unreadable::Malformed("a record without a beginning"))? {
        record::Begin::Birth(born) => Begin::Nothing(birth(born)?),
        record::Begin::Since(since) => Begin::Mark(mark(since)?),
    };
    let heritage = heritage.map(|wire::Heritage { of, props }| {
        Ok(Heritage { of: moment(of)?, props: value::read_all(props)? })
    });
    Ok(Record {
        app: app_id(app)?,
        id: session_id(id)?,
        begin,
        until,
        framed_at: moment(framed_at)?,
        info: info.map(|info| info::read(info).map(Arc::new)).transpose()?,
        info_revision: revision(info_revision)?,
        sight_revision: revision(sight_revision)?,
        password: password.map(|wire::Password { hash }| hash.map(|hash| PasswordHash::new(&hash))),
        names: all(names, name)?,
        numbered: moment(numbered)?,
        data: slots(data, now)?,
        private_data: slots(private_data, now)?,
        members: all(members, |it| member(it, now))?,
        joins: moment(joins)?,
        removals: all(removals, removal)?,
        remembered,
        horizon: revision(horizon)?,
        reset_revision: revision(reset_revision)?,
        people: People { is_all: people_is_all, list: all(people, person)? },
        heritage: heritage.transpose()?,
        host_until: host_until.map(moment).transpose()?,
        empty_since: empty_since.map(moment).transpose()?,
        waiting: all(waiting, waits)?,
        skipped: skipped.into_iter().map(|at| Ok(Revision(moment(at)?))).collect::<Read<_>>()?,
        epoch_revision: revision(epoch_revision)?,
        has_ended,
    })
}

pub fn all<A, B>(list: Vec<A>, read: impl FnMut(A) -> Read<B>) -> Read<Vec<B>> {
    list.into_iter().map(read).collect()
}

fn mark(mark: wire::Mark) -> Read<Mark> {
    let wire::Mark { epoch, revision: last, notes } = mark;
    Ok(Mark { epoch: Epoch(moment(epoch)?), revision: revision(last)?, notes: moment(notes)? })
}

fn birth(birth: wire::Birth) -> Read<Birth> {
    let wire::Birth { kind, pair, opened_at, epoch } = birth;
    let pair = pair.map(|wire::Pair { source, listener }| {
        Ok(Pair { source: user(source)?, listener: user(listener)? })
    });
    let pair = pair.transpose()?;
    let kind = read_kind(kind)?.ok_or(Unreadable::Malformed("a session of no kind"))?;
    if (kind == settings::Kind::Private) != pair.is_some() {
        return Err(Unreadable::Malformed("a pair that is none"));
    }
    Ok(Birth { kind, pair, opened_at: moment(opened_at)?, epoch: Epoch(moment(epoch)?) })
}

fn name(name: wire::Name) -> Read<Name> {
    let wire::Name { place, key, serial, news } = name;
    Ok(Name { place, key: key.into(), serial, news: revision(news)? })
}

fn slots(slots: Vec<wire::Slot>, now: Revision) -> Read<Vec<Slot>> {
    let slot = |wire::Slot { place, age, value }| {
        let value = value.map(value::read).transpose()?;
        Ok(Slot { place, revision: aged(age, now)?, value })
    };
    all(slots, slot)
}

/// The revision of so many frames ago; none is before the first.
fn aged(age: u64, now: Revision) -> Read<Revision> {
    let revision = now.0.checked_sub(age).filter(|revision| *revision > 0);
    revision.map(Revision).ok_or(Unreadable::Malformed("a change before the first frame"))
}

fn member(member: wire::Member, now: Revision) -> Read<Member> {
    let wire::Member { order, age, joined, status, hosting, slots: changes } = member;
    let joined = joined.map(|wire::Joined { user: id, at, revision: since, replaces }| {
        Ok(Joined {
            user: user(id)?,
            at: moment(at)?,
            revision: revision(since)?,
            replaces: revision(replaces)?,
        })
    });
    let status = status.map(|wire::Status { role: of, disconnected, revision: since }| {
        Ok(Status { role: role(of)?, disconnected, revision: revision(since)? })
    });
    Ok(Member {
        order: moment(order)?,
        changed: aged(age, now)?,
        joined: joined.transpose()?,
        status: status.transpose()?,
        hosting: revision(hosting)?,
        slots: slots(changes, now)?,
    })
}

fn removal(removal: wire::Removal) -> Read<Removal> {
    let wire::Removal { revision: since, at, what } = removal;
    let what = what.map(|what| {
        Ok(match what {
            What::Prop(wire::RemovedProp { order, place }) => Removed::Prop(order, place),
            What::Data(place) => Removed::Data(place),
            What::PrivateData(place) => Removed::PrivateData(place),
            What::Member(wire::RemovedMember { user: id, departure }) => {
                let departure = read_departure(departure)?;
                let departure = departure.ok_or(Unreadable::Malformed("no departure"))?;
                Removed::Member(user(id)?, departure)
            }
        })
    });
    Ok(Removal { revision: revision(since)?, at: moment(at)?, what: what.transpose()? })
}

fn person(person: wire::Person) -> Read<Person> {
    let wire::Person { user: id, role, ban, seat, connection } = person;
    let connection = connection.map(|connection| {
        let wire::Connection { presence, absent, has_streamed, until } = connection;
        let presence = read_presence(presence)?.ok_or(Unreadable::Malformed("no presence"))?;
        Ok(Connection { presence, absent, has_streamed, until })
    });
    Ok(Person {
        user: user(id)?,
        role: read_role(role)?,
        ban: ban.map(|wire::Ban { reason, until }| Ban { reason: reason.into(), until }),
        seat,
        connection: connection.transpose()?,
    })
}

fn waits(waiting: wire::Waiting) -> Read<Waiting> {
    let wire::Waiting { order, key, value } = waiting;
    Ok(Waiting { order, key: key.into(), value: value.map(value::read).transpose()? })
}

pub fn app_id(text: String) -> Read<AppId> {
    AppId::new(&text).map_err(|_| Unreadable::Malformed("an app id"))
}

fn session_id(text: String) -> Read<SessionId> {
    SessionId::new(&text).map_err(|_| Unreadable::Malformed("a session id"))
}

pub fn user(text: String) -> Read<UserId> {
    UserId::new(&text).map_err(|_| Unreadable::Malformed("a user id"))
}

pub fn role(of: i32) -> Read<Role> {
    read_role(of)?.ok_or(Unreadable::Malformed("no role"))
}

fn revision(number: u64) -> Read<Revision> {
    moment(number).map(Revision)
}

/// A number that is counted on, or a moment.
pub fn moment(number: u64) -> Read<u64> {
    (number < BOUND).then_some(number).ok_or(Unreadable::Malformed("a number without a bound"))
}
