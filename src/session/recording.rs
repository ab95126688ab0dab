//! What of a session is written down. This is the one place that lists everything a session is made
//! of: each struct is taken apart whole, so that a field that is added has to be dealt with here.

use super::{
    Session,
    ban::Bans,
    data::Data,
    deadline::{Deadline, Lifetime},
    host,
    ids::UserId,
    member::{self, MemberIx, Members, Membership, Shown},
    names::{self, NamesByKey},
    record::{
        Begin, Birth, Connection, Heritage, Joined, Mark, Member, Name, People, Person, Record,
        Removal, Removed, Slot, Status, Waiting,
    },
    removals::{self, Gone, Removals},
    revision::Revision,
    role::Roles,
    skipped::Skipped,
    slots::{self, Slots},
};
use std::collections::BTreeSet;

impl Session {
    /// How far the session is written down by a record that is made now.
    pub fn mark(&self) -> Mark {
        Mark { epoch: self.epoch, revision: self.revision, notes: self.notes.count() }
    }

    /// Everything there is, for a reader that has nothing.
    pub fn snapshot(&self) -> Option<Record> {
        self.record(None)
    }

    /// Everything that changed since a mark; a snapshot where that is not known any more.
    ///
    /// None while something is accepted that no frame shows: a record is of whole frames, so a
    /// caller that wants one asks after the next [`Session::flush`].
    pub fn record_since(&self, mark: &Mark) -> Option<Record> {
        let is_known = mark.epoch == self.epoch
            && mark.revision.is_some()
            && mark.revision <= self.revision
            && mark.revision >= self.horizon();
        self.record(is_known.then_some(mark))
    }

    fn record(&self, since: Option<&Mark>) -> Option<Record> {
        let Self {
            app,
            id,
            kind,
            pair,
            // The next owner of the session finds out whether the app sees the source.
            is_source_seen: _,
            // The rules are among the settings; what else is judged, the owner knows.
            judges: _,
            limits: _,
            epoch: _,
            born,
            revision: _,
            skipped,
            epoch_revision,
            last_frame_at,
            open,
            // What is accepted is what is shown, between frames.
            accepted: _,
            shown,
            info_revision,
            sight_revision,
            password,
            password_revision,
            names,
            members,
            roles,
            bans,
            seats: _,
            // They are the seats, between frames.
            shown_seats: _,
            heritage,
            data,
            removals,
            reset_revision,
            notes: _,
            // These are for the owner's own engine, which takes them away with each command.
            untold: _,
            // A client that listens to every update learns that there is a gap.
            log: _,
            lifetime,
            // Those of members and of the host; all others follow from what they are for.
            deadlines,
        } = self;
        if *open {
            return None;
        }
        let Lifetime { opened_at, emptied_at, ended } = lifetime;
        let Skipped(skipped) = &**skipped;
        let (Roles { by_user: _, changed: _ }, Bans(_)) = (&**roles, &**bans);
        let NamesByKey { names: _, free: _, index: _, last } = &**names;
        let Members {
            slab: _,
            by_user: _,
            by_order: _,
            begun,
            counts: _,
            shown_counts: _,
            dirty,
            newest: _,
            oldest: _,
        } = &**members;
        let Data { shared, private, revision: _, dirty: _, writers: _ } = &**data;
        let Removals { list, departed: _, horizon } = &**removals;
        let birth = || Birth {
            kind: *kind,
            pair: pair.as_deref().cloned(),
            opened_at: *opened_at,
            epoch: *born,
        };
        let begin = since.map_or_else(|| Begin::Nothing(birth()), |mark| Begin::Mark(*mark));
        let from = since.map_or(Revision::NONE, |mark| mark.revision);
        let mut changed: Vec<_> = members.changed_after(from).collect();
        changed.reverse();
        let gone = list.iter().filter(|removal| removal.revision > from);
        Some(Record {
            app: app.clone(),
            id: id.clone(),
            begin,
            until: self.mark(),
            framed_at: *last_frame_at,
            info: (*info_revision > from).then(|| shown.clone()),
            info_revision: *info_revision,
            sight_revision: *sight_revision,
            password: (*password_revision > from).then(|| password.clone()),
            names: names.told_after(from).map(name).collect(),
            numbered: *last,
            data: slots_after(shared, from),
            private_data: slots_after(private, from),
            members: changed.iter().map(|(member, shown)| of_member(member, shown, from)).collect(),
            joins: *begun,
            removals: gone.map(|removal| self.removal(removal)).collect(),
            remembered: list.len() as u64,
            horizon: *horizon,
            reset_revision: *reset_revision,
            people: self.people(since),
            heritage: heritage.as_ref().map(|it| {
                let host::Heritage { of, props } = &**it;
                Heritage { of: *of, props: props.clone() }
            }),
            host_until: deadlines.at(Deadline::Host),
            empty_since: emptied_at.filter(|_| self.is_empty()),
            waiting: dirty.iter().flat_map(|&ix| self.waiting(ix)).collect(),
            skipped: skipped.clone(),
            epoch_revision: *epoch_revision,
            has_ended: *ended,
        })
    }

    fn removal(&self, removal: &removals::Removal) -> Removal {
        let removals::Removal { revision, at, gone } = removal;
        let is_tombstone = |slots: &Slots, key| {
            let slot = slots.get(key);
            slot.is_some_and(|slot| slot.shown.is_none() && slot.revision == *revision)
        };
        let what = match gone {
            Gone::Nothing => None,
            Gone::Data(key) => {
                is_tombstone(&self.data.shared, *key).then_some(Removed::Data(key.place()))
            }
            Gone::PrivateData(key) => {
                is_tombstone(&self.data.private, *key).then_some(Removed::PrivateData(key.place()))
            }
            Gone::Prop(ix, key) => {
                let member = self.members.try_get(*ix);
                let member = member.filter(|member| is_tombstone(&member.slots, *key));
                let shown = member.and_then(|member| member.shown.as_ref());
                shown.map(|shown| Removed::Prop(shown.order, key.place()))
            }
            Gone::Member(user, departure) => Some(Removed::Member(user.clone(), *departure)),
        };
        Removal { revision: *revision, at: *at, what }
    }

    fn people(&self, since: Option<&Mark>) -> People {
        let noted = since.and_then(|mark| self.notes.since(mark.notes));
        let is_all = noted.is_none();
        let users = noted.unwrap_or_else(|| {
            let joined = self.members.joined().map(|(_, user, _)| user);
            let Bans(bans) = &*self.bans;
            let known: BTreeSet<_> = self
                .roles
                .users()
                .chain(bans.keys())
                .chain(self.seats.keys())
                .chain(joined)
                .collect();
            known.into_iter().cloned().collect()
        });
        let person = |user: UserId| {
            let connection = self.members.find(&user).and_then(|ix| self.connection(ix));
            Person {
                role: self.roles.of(&user),
                ban: self.bans.0.get(&user).cloned(),
                seat: self.seats.get(&user).copied(),
                connection,
                user,
            }
        };
        People { is_all, list: users.into_iter().map(person).collect() }
    }

    fn connection(&self, ix: MemberIx) -> Option<Connection> {
        let Membership {
            role: _,
            presence,
            disconnected: _,
            absent,
            // They end with their owner.
            streams: _,
            has_streamed,
            order: _,
            joined_at: _,
        } = self.members.get(ix).now.as_ref()?;
        Some(Connection {
            presence: *presence,
            absent: *absent,
            has_streamed: *has_streamed,
            until: self.deadlines.at(Deadline::Member(ix)),
        })
    }

    /// What is accepted of a member and waits for a frame.
    fn waiting(&self, ix: MemberIx) -> Vec<Waiting> {
        let member = self.members.get(ix);
        let Some(Membership { order, .. }) = &member.now else { return Vec::new() };
        let pending = member.slots.iter().filter(|slot| slot.is_pending());
        let waiting = |slot: &slots::Slot| Waiting {
            order: *order,
            key: self.names.key(slot.key).clone(),
            value: slot.accepted.clone(),
        };
        pending.map(waiting).collect()
    }
}

fn of_member(member: &member::Member, shown: &Shown, from: Revision) -> Member {
    let member::Member {
        user,
        now: _,
        shown: _,
        slots,
        departure: _,
        dirty: _,
        changed,
        newer: _,
        older: _,
    } = member;
    let Shown { role, disconnected, order, joined_at, joined, replaces, status, hosting } = shown;
    let status = Status { role: *role, disconnected: *disconnected, revision: *status };
    let begins =
        || Joined { user: user.clone(), at: *joined_at, revision: *joined, replaces: *replaces };
    Member {
        order: *order,
        changed: *changed,
        joined: (*joined > from).then(begins),
        status: (status.revision > from).then_some(status),
        hosting: *hosting,
        slots: slots_after(slots, from),
    }
}

fn slots_after(slots: &Slots, from: Revision) -> Vec<Slot> {
    let Slots { slots, dirty: _ } = slots;
    let slot = |slot: &slots::Slot| {
        let slots::Slot { key, is_dirty: _, accepted: _, shown, revision } = slot;
        Slot { place: key.place(), revision: *revision, value: shown.clone() }
    };
    slots.iter().filter(|slot| slot.revision > from).map(slot).collect()
}

fn name((place, name): (u32, &names::Name)) -> Name {
    // Whether it is selected follows from the settings, and the slots count how often it is used.
    let names::Name { key, serial, news, uses: _, selected: _, of_host: _ } = name;
    Name { place, key: key.clone(), serial: *serial, news: *news }
}
