//! A session as it is shown to a user who may see all of it.

use crate::session::{
    Info,
    ids::{Key, UserId},
    limits::Micros,
    record::{People, Person, Record, Slot},
    replica::Replica,
    role::Role,
    value::Value,
};
use std::{collections::BTreeMap, sync::Arc};

/// Values by key.
pub type Values = BTreeMap<Key, Value>;

/// A session as of its last frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// What readers learn of it as a whole.
    pub info: Option<Arc<Info>>,
    /// Who is in it.
    pub members: BTreeMap<UserId, Seated>,
    /// Shared session data.
    pub data: Values,
    /// Private session data.
    pub private_data: Values,
    /// What no frame tells.
    pub people: BTreeMap<UserId, Person>,
    /// It is over.
    pub has_ended: bool,
}

/// A member.
#[derive(Debug, Clone, PartialEq)]
pub struct Seated {
    /// Which membership of the session it is.
    pub order: u64,
    /// Since when.
    pub joined_at: Micros,
    /// The role.
    pub role: Role,
    /// The last stream is lost.
    pub disconnected: bool,
    /// The props.
    pub props: Values,
}

impl Seen {
    /// What a session shows now.
    pub fn of(session: &Replica) -> Self {
        // There is always one: what is accepted of a replica is what is shown.
        session.snapshot().map(Self::of_snapshot).unwrap_or_default()
    }

    fn of_snapshot(snapshot: Record) -> Self {
        let keys: BTreeMap<u32, Key> =
            snapshot.names.into_iter().map(|name| (name.place, name.key)).collect();
        // Without a value it is only known that it was removed.
        let value = |slot: Slot| Some((keys.get(&slot.place)?.clone(), slot.value?));
        let values = |slots: Vec<Slot>| slots.into_iter().filter_map(value).collect::<Values>();
        let members = snapshot.members.into_iter().filter_map(|member| {
            let (joined, status) = (member.joined?, member.status?);
            let seated = Seated {
                order: member.order,
                joined_at: joined.at,
                role: status.role,
                disconnected: status.disconnected,
                props: values(member.slots),
            };
            Some((joined.user, seated))
        });
        let People { is_all: _, list } = snapshot.people;
        Self {
            info: snapshot.info,
            members: members.collect(),
            data: values(snapshot.data),
            private_data: values(snapshot.private_data),
            people: list.into_iter().map(|person| (person.user.clone(), person)).collect(),
            has_ended: snapshot.has_ended,
        }
    }
}
