//! A session as its records tell it, and how it comes to be owned again.

use super::{
    Session,
    deadline::{Deadline, Deadlines, Lifetime},
    host,
    ids::UserId,
    judging::judged_by,
    limits::{Limits, Micros, SERVER_END_GRACE},
    member::{MemberIx, Membership, Shown},
    names::{KeyIx, Name, Names},
    notes::Notes,
    record::{
        self, Begin, Birth, Joined, Mark, People, Person, Record, Removal, Removed, Slot, Waiting,
    },
    removals::{Gone, Removals},
    seldom::Seldom,
    settings::Presence,
    skipped::Skipped,
    slots::Slots,
};
use std::{ops::Deref, sync::Arc};

/// Why a record cannot be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is of another session.
    #[error("the record is of another session")]
    OtherSession,
    /// Something is missing between what is known and the record.
    #[error("the record begins after what is known")]
    Gap,
    /// It names something that is not there, or is something else.
    #[error("the record does not fit what is known: {0}")]
    Contradiction(&'static str),
}

/// A session that somebody else owns: it shows what the owner's shows, under the same revisions, and
/// takes no commands. What is accepted is what is shown.
#[derive(Debug)]
pub struct Replica {
    session: Session,
    waiting: Vec<Waiting>,
}

impl Deref for Replica {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Replica {
    /// The session of a snapshot.
    pub fn begin(snapshot: Record, limits: Arc<Limits>) -> Result<Self, Unfit> {
        let Begin::Nothing(birth) = &snapshot.begin else { return Err(Unfit::Gap) };
        let Some(info) = &snapshot.info else { return Err(Unfit::Contradiction("no settings")) };
        let Birth { kind, pair, opened_at, epoch: born } = birth.clone();
        let session = Session {
            app: snapshot.app.clone(),
            id: snapshot.id.clone(),
            kind,
            pair: pair.map(Arc::new),
            is_source_seen: false,
            judges: judged_by(&info.settings.rules),
            notes: Notes::after(0, limits.notes),
            limits,
            epoch: snapshot.until.epoch,
            born,
            revision: Default::default(),
            skipped: Seldom::NONE,
            epoch_revision: Default::default(),
            last_frame_at: opened_at,
            open: false,
            accepted: info.clone(),
            shown: info.clone(),
            info_revision: Default::default(),
            sight_revision: Default::default(),
            password: None,
            password_revision: Default::default(),
            names: Names::default(),
            members: Seldom::NONE,
            roles: Seldom::NONE,
            bans: Seldom::NONE,
            seats: Seldom::NONE,
            shown_seats: 0,
            heritage: None,
            data: Seldom::NONE,
            removals: Seldom::NONE,
            reset_revision: Default::default(),
            untold: Seldom::NONE,
            log: None,
            lifetime: Lifetime::begin(opened_at),
            deadlines: Deadlines::default(),
        };
        let mut replica = Self { session, waiting: Vec::new() };
        replica.take(snapshot)?;
        Ok(replica)
    }

    /// The session after a record. One of which everything is known already changes nothing; one that
    /// tells some of it again does no harm. After a refusal nothing is left of the replica, as some of
    /// the record may have been applied.
    pub fn apply(mut self, record: Record) -> Result<Self, Unfit> {
        if (&record.app, &record.id) != (&self.app, &self.id) {
            return Err(Unfit::OtherSession);
        }
        let known = self.mark();
        if record.until < known {
            return Ok(self);
        }
        match record.begin {
            Begin::Nothing(_) => return Self::begin(record, self.session.limits),
            Begin::Mark(mark) => {
                let Mark { epoch, revision, notes } = mark;
                if epoch != known.epoch || revision > known.revision || notes > known.notes {
                    return Err(Unfit::Gap);
                }
            }
        }
        self.take(record)?;
        Ok(self)
    }

    fn take(&mut self, record: Record) -> Result<(), Unfit> {
        let Record {
            app: _,
            id: _,
            begin: _,
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
            people,
            heritage,
            host_until,
            empty_since,
            waiting,
            skipped,
            epoch_revision,
            has_ended,
        } = record;
        let session = &mut self.session;
        if let Some(info) = info {
            session.names.select(&info.settings);
            (session.accepted, session.shown) = (info.clone(), info);
        }
        (session.info_revision, session.sight_revision) = (info_revision, sight_revision);
        if let Some(password) = password {
            (session.password, session.password_revision) = (password, until.revision);
        }
        let known = session.revision;
        let removals = removals.into_iter().filter(|removal| removal.revision > known);
        let removals: Vec<_> = removals.collect();
        session.remove_departed(&removals);
        session.forget_all_but(remembered, removals.len())?;
        let places: Vec<_> = names.iter().map(|name| name.place).collect();
        names.into_iter().try_for_each(|name| session.put_name(name))?;
        if session.names.last != numbered {
            session.names.last = numbered;
        }
        session.put_data(data, false)?;
        session.put_data(private_data, true)?;
        for member in members {
            if member.order > joins {
                return Err(Unfit::Contradiction("a membership that has not begun"));
            }
            session.put_member(member)?;
        }
        if session.members.begun != joins {
            session.members.begun = joins;
        }
        if let Some(members) = session.members.some_mut() {
            let marked = members.take_marked();
            members.reuse(marked);
        }
        removals.into_iter().try_for_each(|removal| session.put_removal(removal))?;
        for place in places {
            // Its owner has it for what no frame shows yet.
            session.names.at(place).into_iter().for_each(|ix| session.names.drop_unused(ix));
        }
        session.put_people(people)?;
        if session.removals.horizon != horizon {
            session.removals.horizon = horizon;
        }
        session.reset_revision = reset_revision;
        session.heritage =
            heritage.map(|record::Heritage { of, props }| host::Heritage { of, props }.into());
        session.deadlines.set(Deadline::Host, host_until);
        session.lifetime.emptied_at = empty_since;
        session.lifetime.ended = has_ended;
        session.skipped = Seldom::NONE;
        if !skipped.is_empty() {
            session.skipped = Skipped(skipped).into();
        }
        session.epoch_revision = epoch_revision;
        (session.revision, session.last_frame_at) = (until.revision, framed_at);
        session.notes = Notes::after(until.notes, session.limits.notes);
        self.waiting = waiting;
        Ok(())
    }

    /// Makes an owner of the replica, at the same epoch and revision. Whatever streams there were
    /// are gone: members that had one are expected back within `join_timeout`, and then shown as
    /// disconnected; tied ones leave if they stay away. A grace that ran out while there was no owner
    /// runs again from its start. Bans, seats and the end of the session by age or emptiness come at
    /// their moments; call [`Session::pass_time`] for those that are over.
    pub fn promote(self, now: Micros) -> Session {
        let Self { mut session, waiting } = self;
        // The clock of the last owner may have been ahead: the next frame does not wait for that moment.
        session.last_frame_at = session.last_frame_at.min(now);
        let settings = session.shown.settings.clone();
        for Waiting { order, key, value } in waiting {
            let Some(ix) = session.members.of_order(order) else { continue };
            session.members.get_mut(ix).slots.write(&key, value, &mut session.names, &settings);
            session.members.mark(ix);
        }
        if session.has_ended() {
            return session;
        }
        let joined: Vec<_> = session.members.joined().map(|(ix, ..)| ix).collect();
        joined.into_iter().for_each(|ix| session.expect_back(now, ix));
        if session.deadlines.at(Deadline::Host).is_some_and(|at| at <= now) {
            session.deadlines.set(Deadline::Host, Some(now + settings.host_grace));
        }
        session.seats_over(now);
        session.settle_age();
        session.settle_emptiness(now);
        session
    }
}

impl Session {
    /// Members that left are gone before anything else, as others may have got their keys.
    fn remove_departed(&mut self, removals: &[Removal]) {
        for removal in removals {
            let Some(Removed::Member(user, departure)) = &removal.what else { continue };
            let Some(ix) = self.members.find(user) else { continue };
            self.stop_expecting(ix);
            self.members.leave(ix, *departure);
            self.members.take_marked();
            self.members.remove(ix).slots.dissolve(&mut self.names);
        }
    }

    /// Forgets the oldest removals, so that together with `news` more so many are left.
    fn forget_all_but(&mut self, left: u64, news: usize) -> Result<(), Unfit> {
        let all = (self.removals.list.len() + news) as u64;
        let over = all.checked_sub(left).filter(|over| *over <= self.removals.list.len() as u64);
        for _ in 0..over.ok_or(Unfit::Contradiction("removals that were never told"))? {
            let oldest = self.removals.some_mut().and_then(Removals::pop);
            let Some((revision, gone)) = oldest else { break };
            self.forget(revision, gone);
        }
        Ok(())
    }

    fn put_name(&mut self, name: record::Name) -> Result<(), Unfit> {
        let record::Name { place, key, serial, news } = name;
        let settings = &self.shown.settings;
        let (selected, of_host) = (settings.selects(&key), settings.shows_of_host(&key));
        let name = Name { key, serial, news, uses: 0, selected, of_host };
        let fits = self.names.put(place, name);
        fits.then_some(()).ok_or(Unfit::Contradiction("a key in the place of another"))
    }

    fn key_at(&self, place: u32) -> Result<KeyIx, Unfit> {
        self.names.at(place).ok_or(Unfit::Contradiction("a place without a key"))
    }

    fn put_data(&mut self, slots: Vec<Slot>, is_private: bool) -> Result<(), Unfit> {
        for Slot { place, revision, value } in slots {
            let key = self.key_at(place)?;
            let data = &mut *self.data;
            let part = if is_private { &mut data.private } else { &mut data.shared };
            part.put_shown(key, value, revision, &mut self.names);
            data.revision = data.revision.max(revision);
        }
        Ok(())
    }

    fn put_member(&mut self, member: record::Member) -> Result<(), Unfit> {
        let record::Member { order, changed, joined, status, hosting, slots } = member;
        let known = self.members.of_order(order).map(|ix| self.members.get(ix));
        let (user, now, shown) = match (joined, status, known) {
            (Some(joined), Some(status), known) => {
                if known.is_some_and(|member| member.user != joined.user) {
                    return Err(Unfit::Contradiction("a membership of another user"));
                }
                let Joined { user, at, revision, replaces } = joined;
                let (role, disconnected) = (status.role, status.disconnected);
                let now = Membership {
                    role,
                    // How it is connected comes with the people.
                    presence: Presence::Explicit,
                    disconnected,
                    absent: false,
                    streams: 0,
                    has_streamed: false,
                    order,
                    joined_at: at,
                };
                let shown = Shown {
                    role,
                    disconnected,
                    order,
                    joined_at: at,
                    joined: revision,
                    replaces,
                    status: status.revision,
                    hosting,
                };
                (user, now, shown)
            }
            (None, status, Some(member)) => {
                let (Some(now), Some(shown)) = (&member.now, &member.shown) else {
                    return Err(Unfit::Contradiction("a membership that is over"));
                };
                let (mut now, mut shown) = (now.clone(), shown.clone());
                if let Some(status) = status {
                    (now.role, now.disconnected) = (status.role, status.disconnected);
                    (shown.role, shown.disconnected) = (status.role, status.disconnected);
                    shown.status = status.revision;
                }
                shown.hosting = hosting;
                (member.user.clone(), now, shown)
            }
            _ => return Err(Unfit::Contradiction("a membership without a beginning")),
        };
        let ix = self.members.put(&user, now, shown);
        for Slot { place, revision, value } in slots {
            let key = self.key_at(place)?;
            let slots: &mut Slots = &mut self.members.get_mut(ix).slots;
            slots.put_shown(key, value, revision, &mut self.names);
        }
        self.members.touch(ix, changed);
        Ok(())
    }

    fn put_removal(&mut self, removal: Removal) -> Result<(), Unfit> {
        let Removal { revision, at, what } = removal;
        let gone = match what {
            None => Gone::Nothing,
            Some(Removed::Data(place)) => Gone::Data(self.key_at(place)?),
            Some(Removed::PrivateData(place)) => Gone::PrivateData(self.key_at(place)?),
            Some(Removed::Prop(order, place)) => {
                let ix = self.members.of_order(order);
                let ix = ix.ok_or(Unfit::Contradiction("a removal from nobody"))?;
                Gone::Prop(ix, self.key_at(place)?)
            }
            Some(Removed::Member(user, departure)) => Gone::Member(user, departure),
        };
        self.removals.push(revision, at, gone);
        Ok(())
    }

    fn put_people(&mut self, people: People) -> Result<(), Unfit> {
        let People { is_all, list } = people;
        if is_all {
            (self.roles, self.bans, self.seats) = (Seldom::NONE, Seldom::NONE, Seldom::NONE);
        }
        for Person { user, role, ban, seat, connection } in list {
            if let Some(connection) = connection {
                self.connect(&user, connection)?;
            }
            match role {
                Some(role) => self.roles.by_user.insert(user.clone(), role),
                None => self.roles.some_mut().and_then(|it| it.by_user.remove(&user)),
            };
            match ban {
                Some(ban) => self.bans.0.insert(user.clone(), ban),
                None => self.bans.some_mut().and_then(|it| it.0.remove(&user)),
            };
            match seat {
                Some(until) => self.seats.insert(user, until),
                None => self.seats.some_mut().and_then(|it| it.remove(&user)),
            };
        }
        self.shown_seats = self.seats.len();
        Ok(())
    }

    fn connect(&mut self, user: &UserId, connection: record::Connection) -> Result<(), Unfit> {
        let record::Connection { presence, absent, has_streamed, until } = connection;
        let ix = self.members.find(user);
        let member = ix.and_then(|ix| Some((ix, self.members.get_mut(ix).now.as_mut()?)));
        let (ix, membership) = member.ok_or(Unfit::Contradiction("a connection of nobody"))?;
        (membership.presence, membership.absent) = (presence, absent);
        membership.has_streamed = has_streamed;
        self.deadlines.set(Deadline::Member(ix), until);
        Ok(())
    }

    /// The streams of a member have ended with the session's owner.
    fn expect_back(&mut self, now: Micros, ix: MemberIx) {
        let until = self.deadlines.at(Deadline::Member(ix));
        let Some(membership) = &self.members.get(ix).now else { return };
        let is_tied = membership.presence == Presence::Tied;
        let may_come = is_tied || membership.has_streamed || membership.absent;
        let is_disconnected = membership.disconnected;
        self.stop_expecting(ix);
        if !is_disconnected && may_come {
            let at = now + self.limits.join_timeout;
            self.deadlines.set(Deadline::Return(ix), Some(at));
        } else if is_tied {
            let grace = self.accepted.settings.rejoin_grace.max(SERVER_END_GRACE);
            let at = until.filter(|at| *at > now).unwrap_or(now + grace);
            self.deadlines.set(Deadline::Member(ix), Some(at));
        }
    }
}
