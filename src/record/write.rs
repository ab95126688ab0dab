//! Entries as messages. Each struct is taken apart whole, so that a field that is added is not
//! forgotten here.

use super::{
    Entry, Place, Reply, RequestRecord, UserRecord, info,
    names::{write_departure, write_kind, write_presence, write_role},
    streams, value, wire,
};
use crate::session::{
    ban::Ban,
    epoch::Epoch,
    private::Pair,
    record::{
        Begin, Birth, Connection, Heritage, Joined, Mark, Member, Name, People, Person, Record,
        Removal, Removed, Slot, Status, Waiting,
    },
    revision::Revision,
};
use wire::{entry::Kind, record, removal::What, request};

pub fn entry(entry: &Entry) -> wire::Entry {
    let kind = match entry {
        Entry::Session(record) => Kind::Session(session(record)),
        Entry::Gone { app, id, epoch } => {
            Kind::Gone(wire::Gone { app: app.to_string(), id: id.to_string(), epoch: epoch.0 })
        }
        Entry::GreatestEpoch(epoch) => Kind::GreatestEpoch(epoch.0),
        Entry::Request(request) => Kind::Request(self::request(request)),
        Entry::Streams(change) => Kind::Streams(streams::write(change)),
        Entry::User(UserRecord { app, user, props }) => Kind::User(wire::User {
            app: app.to_string(),
            user: user.to_string(),
            props: value::write_all(props),
        }),
    };
    wire::Entry { kind: Some(kind) }
}

fn request(request: &RequestRecord) -> wire::Request {
    let RequestRecord { app, place, by, id, content, at, reply } = request;
    let reply = match reply {
        Reply::Message(bytes) => request::Reply::Message(bytes.to_vec()),
        Reply::Written(epoch, revision) => request::Reply::Written(position(*epoch, *revision)),
        Reply::OnUser(written) => request::Reply::OnUser(wire::OnUser {
            sessions: written.iter().map(|(id, ..)| id.to_string()).collect(),
            positions: written.iter().map(|(_, at, revision)| position(*at, *revision)).collect(),
        }),
    };
    wire::Request {
        app: app.to_string(),
        place: Some(match place {
            Place::Session(id) => request::Place::Session(id.to_string()),
            Place::User(user) => request::Place::User(user.to_string()),
            Place::App => request::Place::WholeApp(true),
        }),
        by: by.user().map(|user| user.to_string()),
        id: id.as_ref().into(),
        content: *content,
        at: *at,
        reply: Some(reply),
    }
}

fn position(epoch: Epoch, revision: Revision) -> wire::Position {
    wire::Position { epoch: epoch.0, revision: revision.0 }
}

fn session(record: &Record) -> wire::Record {
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
    let now = until.revision;
    let begin = match begin {
        Begin::Nothing(born) => record::Begin::Birth(birth(born)),
        Begin::Mark(since) => record::Begin::Since(mark(since)),
    };
    wire::Record {
        app: app.to_string(),
        id: id.to_string(),
        begin: Some(begin),
        until: Some(mark(until)),
        framed_at: *framed_at,
        info: info.as_deref().map(info::write),
        info_revision: info_revision.0,
        sight_revision: sight_revision.0,
        password: password.as_ref().map(|hash| wire::Password {
            hash: hash.as_ref().map(|hash| hash.as_bytes().to_vec()),
        }),
        names: names.iter().map(name).collect(),
        numbered: *numbered,
        data: slots(data, now),
        private_data: slots(private_data, now),
        members: members.iter().map(|it| member(it, now)).collect(),
        joins: *joins,
        removals: removals.iter().map(removal).collect(),
        remembered: *remembered,
        horizon: horizon.0,
        reset_revision: reset_revision.0,
        people_is_all: *is_all,
        people: list.iter().map(person).collect(),
        heritage: heritage.as_ref().map(|Heritage { of, props }| wire::Heritage {
            of: *of,
            props: value::write_all(props),
        }),
        host_until: *host_until,
        empty_since: *empty_since,
        waiting: waiting.iter().map(waits).collect(),
        skipped: skipped.iter().map(|revision| revision.0).collect(),
        epoch_revision: epoch_revision.0,
        has_ended: *has_ended,
    }
}

fn mark(mark: &Mark) -> wire::Mark {
    let Mark { epoch, revision, notes } = mark;
    wire::Mark { epoch: epoch.0, revision: revision.0, notes: *notes }
}

fn birth(birth: &Birth) -> wire::Birth {
    let Birth { kind, pair, opened_at, epoch } = birth;
    let pair = pair.as_ref().map(|Pair { source, listener }| wire::Pair {
        source: source.to_string(),
        listener: listener.to_string(),
    });
    wire::Birth { kind: write_kind(*kind), pair, opened_at: *opened_at, epoch: epoch.0 }
}

fn name(name: &Name) -> wire::Name {
    let Name { place, key, serial, news } = name;
    wire::Name { place: *place, key: key.to_string(), serial: *serial, news: news.0 }
}

fn slots(slots: &[Slot], now: Revision) -> Vec<wire::Slot> {
    let slot = |Slot { place, revision, value }: &Slot| wire::Slot {
        place: *place,
        age: age(*revision, now),
        value: value.as_ref().map(value::write),
    };
    slots.iter().map(slot).collect()
}

fn age(revision: Revision, now: Revision) -> u64 {
    now.0.saturating_sub(revision.0)
}

fn member(member: &Member, now: Revision) -> wire::Member {
    let Member { order, changed, joined, status, hosting, slots: changes } = member;
    wire::Member {
        order: *order,
        age: age(*changed, now),
        joined: joined.as_ref().map(|Joined { user, at, revision, replaces }| wire::Joined {
            user: user.to_string(),
            at: *at,
            revision: revision.0,
            replaces: replaces.0,
        }),
        status: status.as_ref().map(|Status { role, disconnected, revision }| wire::Status {
            role: write_role(*role),
            disconnected: *disconnected,
            revision: revision.0,
        }),
        hosting: hosting.0,
        slots: slots(changes, now),
    }
}

fn removal(removal: &Removal) -> wire::Removal {
    let Removal { revision, at, what } = removal;
    let what = what.as_ref().map(|what| match what {
        Removed::Prop(order, place) => {
            What::Prop(wire::RemovedProp { order: *order, place: *place })
        }
        Removed::Data(place) => What::Data(*place),
        Removed::PrivateData(place) => What::PrivateData(*place),
        Removed::Member(user, departure) => What::Member(wire::RemovedMember {
            user: user.to_string(),
            departure: write_departure(*departure),
        }),
    });
    wire::Removal { revision: revision.0, at: *at, what }
}

fn person(person: &Person) -> wire::Person {
    let Person { user, role, ban, seat, connection } = person;
    wire::Person {
        user: user.to_string(),
        role: role.map_or(0, write_role),
        ban: ban
            .as_ref()
            .map(|Ban { reason, until }| wire::Ban { reason: reason.to_string(), until: *until }),
        seat: *seat,
        connection: connection.as_ref().map(|connection| {
            let Connection { presence, absent, has_streamed, until } = connection;
            wire::Connection {
                presence: write_presence(*presence),
                absent: *absent,
                has_streamed: *has_streamed,
                until: *until,
            }
        }),
    }
}

fn waits(waiting: &Waiting) -> wire::Waiting {
    let Waiting { order, key, value } = waiting;
    wire::Waiting { order: *order, key: key.to_string(), value: value.as_ref().map(value::write) }
}
