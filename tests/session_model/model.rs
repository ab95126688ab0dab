//! A session told as plainly as possible: maps, rules in the order in which they are read, nothing
//! kept up to date that can be worked out.

mod format;
mod hosting;
mod moderation;
mod opening;

use super::{
    framed::{Framed, FramedMember, SHARED_ONLY, difference, may_see, selects, selects_of_host},
    picture::Change,
};
use hosting::Heritage;
use sessiond::session::{
    Info, Opening,
    access::Standing,
    ban::Ban,
    command::{Accepted, Actor, Command, Join, Write},
    error::{Limit, Refusal, Violation},
    ids::{Key, UserId},
    limits::{Limits, Micros, SERVER_END_GRACE, UNUSED_TTL},
    member::{Departed, Departure},
    password::PasswordHash,
    revision::Revision,
    role::Role,
    settings::{Kind, Presence, Setting, Settings},
    value::Value,
    view::View,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Values by key.
pub type Props = BTreeMap<Key, Value>;

/// The session as its rules describe it.
#[derive(Debug, Clone)]
pub struct Model {
    pub kind: Kind,
    pub limits: Limits,
    pub epoch: u64,
    pub created_at: Micros,
    pub info: Info,
    pub members: BTreeMap<UserId, Member>,
    /// Roles that were given, whether the user has joined or not.
    pub roles: BTreeMap<UserId, Role>,
    pub data: Props,
    pub private_data: Props,
    /// Both as of the last frame.
    framed_data: [Props; 2],
    /// What is set on users, of any session; kept by whoever keeps the users.
    pub users: BTreeMap<UserId, Props>,
    /// The framed states; revision 1 comes first.
    pub history: Vec<Framed>,
    /// Something was accepted since the last frame.
    pub open: bool,
    pub ended: bool,
    /// Who left since somebody last asked, in order.
    pub left: Vec<UserId>,
    /// The revision from which on every removal must still be known.
    pub horizon_at_most: Revision,
    /// The memberships that ended since the last frame, whether a frame ever showed them or not.
    pub departed: Vec<Departed>,
    bans: BTreeMap<UserId, Ban>,
    /// Places that are held, until when.
    pub seats: BTreeMap<UserId, Micros>,
    password: Option<PasswordHash>,
    /// All writes of data since the last frame, those of the private part marked.
    data_log: Vec<(Actor, bool, Write)>,
    /// Whoever has been host, if only for a moment.
    hosts: BTreeSet<UserId>,
    departures: BTreeMap<UserId, Departure>,
    removals: Vec<Removal>,
    orders: u64,
    emptied_at: Option<Micros>,
    /// When a lost host is replaced.
    host_due: Option<Micros>,
    /// What the next host takes over, where there is no host to ask.
    heritage: Option<Heritage>,
}

/// Something that went, and is remembered.
#[derive(Debug, Clone, Copy)]
struct Removal {
    revision: Revision,
    at: Micros,
    of_member: bool,
}

/// A membership.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub role: Role,
    pub presence: Presence,
    pub disconnected: bool,
    pub streams: u32,
    pub has_streamed: bool,
    pub order: u64,
    pub joined_at: Micros,
    /// When it leaves unless something happens.
    pub due: Option<Micros>,
    /// What is accepted, whichever way it came.
    pub props: Props,
}

impl Model {
    /// Opens a session and frames it.
    pub fn open(
        opening: Opening,
        limits: Limits,
        now: Micros,
        last_epoch: u64,
        users: BTreeMap<UserId, Props>,
    ) -> Result<Self, Refusal> {
        let owner = opening.opener.as_ref().map(|(user, _)| user.clone());
        let mut model = Self {
            kind: opening.kind,
            limits,
            epoch: now.max(last_epoch + 1),
            created_at: now,
            roles: owner.iter().map(|user| (user.clone(), Role::Owner)).collect(),
            info: Info {
                settings: opening.settings.into(),
                owner,
                host: None,
                term: 0,
                has_password: opening.password.is_some(),
                schema: opening.schema,
            },
            password: None,
            members: BTreeMap::new(),
            data: Props::new(),
            private_data: Props::new(),
            framed_data: Default::default(),
            users,
            history: Vec::new(),
            open: true,
            ended: false,
            left: Vec::new(),
            horizon_at_most: Revision::NONE,
            departed: Vec::new(),
            bans: BTreeMap::new(),
            seats: BTreeMap::new(),
            data_log: Vec::new(),
            hosts: BTreeSet::new(),
            departures: BTreeMap::new(),
            removals: Vec::new(),
            orders: 1,
            emptied_at: None,
            host_due: None,
            heritage: None,
        };
        let (data, private) = (Write::of(opening.data), Write::of(opening.private_data));
        model.begin_data();
        model.needs_fitting_data(None, (&data, &private), [["data", ""], ["private_data", ""]])?;
        model.write_data(&Actor::App, &data, &private)?;
        model.gather(now, opening.opener, opening.people)?;
        model.password = opening.password;
        model.flush(now);
        Ok(model)
    }

    /// The revision of the last frame.
    pub fn revision(&self) -> Revision {
        Revision(self.history.len() as u64)
    }

    /// The revision that shows what is accepted.
    pub fn pending_revision(&self) -> Revision {
        if self.open { self.revision().next() } else { self.revision() }
    }

    /// The state as of a revision.
    pub fn at(&self, revision: Revision) -> &Framed {
        &self.since(revision)[0]
    }

    /// The states from a revision on.
    pub fn since(&self, revision: Revision) -> &[Framed] {
        &self.history[revision.0 as usize - 1..]
    }

    /// The last framed state.
    pub fn last(&self) -> &Framed {
        self.at(self.revision())
    }

    /// Does what is asked, or says why not.
    pub fn apply(
        &mut self,
        now: Micros,
        actor: &Actor,
        command: &Command,
    ) -> Result<Accepted, Refusal> {
        if self.ended {
            return Err(Refusal::SessionNotFound);
        }
        let mut concerned = true;
        match command {
            Command::Join { user, join } => self.join(now, user, join)?,
            Command::Leave { user, keep_role } => self.leave(now, user, *keep_role)?,
            Command::Delete => {
                self.needs(actor, Role::Owner)?;
                self.ended = true;
            }
            Command::Update(changes) => {
                self.needs(actor, Role::Admin)?;
                self.update(now, changes);
            }
            Command::SetProps { user, write, term } => {
                if self.member(user)?.role < Role::Member {
                    return Err(Refusal::RoleTooLow { needs: Role::Member });
                }
                self.needs_joined(actor, Role::Member)?;
                let paths = ["write.set", "write.remove"];
                self.needs_fitting_props(self.rank(actor), write, paths)?;
                self.needs_term(*term)?;
                self.needs_host_of_term(Some(user), *term)?;
                let shown =
                    |framed: &Framed, key: &Key| framed.members.get(user)?.props.get(key).cloned();
                let field = "write.if_revision";
                self.needs_unchanged(write, field, &self.accepted_props(user), shown)?;
                self.write_props(user, write)?;
            }
            Command::UserProps { user, write, hidden } => {
                concerned = self.user_props(user, write, *hidden)?;
            }
            Command::SetData { shared, private, term } => {
                if !shared.is_empty() {
                    self.needs_joined(actor, self.info.settings.data_role)?;
                }
                if !private.is_empty() {
                    self.needs_keeper(actor)?;
                }
                let paths = [["set", "remove"], ["private_set", "private_remove"]];
                self.needs_fitting_data(self.rank(actor), (shared, private), paths)?;
                self.needs_term(*term)?;
                let writer = actor.user();
                self.needs_host_of_term(writer, *term)?;
                let (data, private_data) = (self.data.clone(), self.private_data.clone());
                let shown = |framed: &Framed, key: &Key| framed.data.get(key).cloned();
                self.needs_unchanged(shared, "if_revision", &data, shown)?;
                let shown = |framed: &Framed, key: &Key| framed.private_data.get(key).cloned();
                let field = "private_if_revision";
                self.needs_unchanged(private, field, &private_data, shown)?;
                self.write_data(actor, shared, private)?;
            }
            Command::SetRole { target, role, user_props } => {
                self.set_role(now, actor, (target, user_props), *role)?;
            }
            Command::Kick { target, reason } => {
                self.needs(actor, Role::Moderator)?;
                self.member(target).map_err(|_| Refusal::MemberNotFound)?;
                self.needs_rank_above(actor, target)?;
                self.throw_out(now, target, Departure::Kicked);
                self.departed.last_mut().expect("somebody left").reason = reason.clone();
                self.take_back_data(target);
            }
            Command::Ban { target, ban } => self.ban(now, actor, target, ban)?,
            Command::Unban { target } => {
                self.needs(actor, Role::Moderator)?;
                self.ban_of(now, target).ok_or(Refusal::BanNotFound)?;
                self.bans.remove(target);
            }
            Command::ReserveSeats { users, until } => self.reserve(now, actor, users, *until)?,
            Command::ReleaseSeats { users } => {
                if actor.user().is_none_or(|user| *users != [user.clone()]) {
                    self.needs(actor, Role::Admin)?;
                }
                self.seats.retain(|user, _| !users.contains(user));
            }
            Command::SwapHost { target, term } => self.swap_host(actor, target.as_ref(), *term)?,
            Command::SourceSeen { .. } => unreachable!("{SHARED_ONLY}"),
            Command::StreamOpened { user } => {
                let member = self.member_mut(user)?;
                member.streams += 1;
                member.has_streamed = true;
                member.due = None;
                self.is_shown(now, user, false);
            }
            Command::StreamClosed { user, membership, lost } => {
                if self.member(user)?.order == *membership {
                    self.stream_closed(now, user, *lost)?;
                }
            }
        }
        Ok(Accepted { revision: self.pending_revision(), concerned })
    }

    /// Makes a frame if there is anything to frame.
    pub fn flush(&mut self, now: Micros) -> Option<Revision> {
        if !self.open {
            return None;
        }
        self.frame(self.framed(), now);
        Some(self.revision())
    }

    /// Makes this the next frame.
    fn frame(&mut self, next: Framed, now: Micros) {
        self.open = false;
        let Limits { removals: most, removal_memory, .. } = self.limits;
        while let Some(&Removal { revision, at, .. }) = self.removals.first()
            && (self.removals.len() > most || at + removal_memory <= now)
        {
            self.horizon_at_most = self.horizon_at_most.max(revision);
            self.removals.remove(0);
        }
        self.departures.clear();
        self.departed.clear();
        self.data_log.clear();
        self.framed_data = [self.data.clone(), self.private_data.clone()];
        let gone = self.history.last().map_or([0, 0], |last| last.removals_to(&next));
        self.history.push(next);
        let revision = self.revision();
        for (count, of_member) in gone.into_iter().zip([false, true]) {
            let removal = Removal { revision, at: now, of_member };
            self.removals.extend((0..count).map(|_| removal));
        }
    }

    /// What is accepted, as a frame shows it.
    fn framed(&self) -> Framed {
        let framed = |(user, member): (&UserId, &Member)| {
            let framed = FramedMember {
                role: member.role,
                disconnected: member.disconnected,
                order: member.order,
                joined_at: member.joined_at,
                props: self.accepted_props(user),
            };
            (user.clone(), framed)
        };
        let shown = self.history.last();
        let mut departures = self.departures.clone();
        departures.retain(|user, _| {
            let was_shown = shown.is_some_and(|shown| shown.members.contains_key(user));
            was_shown && !self.members.contains_key(user)
        });
        Framed {
            kind: self.kind,
            info: self.info.clone(),
            data: self.data.clone(),
            private_data: self.private_data.clone(),
            members: self.members.iter().map(framed).collect(),
            departures,
        }
    }

    /// What is due, earliest first.
    fn due(&self) -> Vec<(Micros, Due)> {
        let members = self.members.iter();
        let mut due: Vec<_> =
            members.filter_map(|(user, m)| Some((m.due?, Due::Member(user.clone())))).collect();
        due.extend(self.host_due.map(|at| (at, Due::Host)));
        due.extend(self.seats.iter().map(|(user, at)| (*at, Due::Seat(user.clone()))));
        due.extend(self.empty_due().map(|at| (at, Due::End)));
        let max_age = self.info.settings.max_age;
        due.extend((max_age > 0).then(|| (self.created_at + max_age, Due::End)));
        due.sort();
        due
    }

    /// When something is due next.
    pub fn next_deadline(&self) -> Option<Micros> {
        self.due().first().map(|(at, _)| *at)
    }

    /// Does what is due, one thing after the other.
    pub fn pass_time(&mut self, now: Micros) {
        while !self.ended
            && let Some((at, due)) = self.due().first().cloned()
            && at <= now
        {
            match due {
                Due::Member(user) => self.remove(now, &user, Departure::Lost),
                Due::Host => {
                    self.host_due = None;
                    self.open = true;
                    self.elect();
                }
                Due::Seat(user) => drop(self.seats.remove(&user)),
                Due::End => self.ended = true,
            }
        }
    }

    /// In what capacity somebody acts.
    pub fn standing(&self, actor: &Actor) -> Standing {
        let Some(user) = actor.user() else { return Standing::App };
        match (self.members.get(user), self.roles.get(user)) {
            (Some(member), _) => Standing::Joined(member.role),
            (None, Some(role)) => Standing::Away(*role),
            (None, None) => Standing::Outsider,
        }
    }

    /// What the last writes left; spectators have none.
    pub fn accepted_props(&self, user: &UserId) -> Props {
        self.members[user].props.clone()
    }

    /// What somebody begins with who comes to send.
    pub(super) fn first_props(&self, user_props: &[(Key, Value)]) -> Props {
        match self.info.schema {
            Some(_) => self.defaults(|schema| &schema.props),
            None => user_props.iter().cloned().collect(),
        }
    }

    /// What is accepted of a member and not framed, as far as a view shows it as of the last frame
    /// and will show it as of the next.
    pub fn pending(&self, view: &View, user: &UserId) -> Option<Change> {
        let (now, last) = (self.members.get(user)?, self.last());
        let known = last.members.get(user);
        let same = known.filter(|known| known.order == now.order);
        let visible = |props: Props| {
            let will_see = |key: &Key| may_see(self.kind, &self.info, view, user, key);
            let both = |key: &Key| last.may_see(view, user, key) && will_see(key);
            let visible = props.into_iter().filter(|(key, _)| both(key));
            visible.collect::<Props>()
        };
        let before = visible(same.map(|same| same.props.clone()).unwrap_or_default());
        let was_disconnected = same.is_some_and(|same| same.disconnected);
        let change = Change {
            replaces: same.is_none() && known.is_some(),
            role: (same.map(|same| same.role) != Some(now.role)).then_some(now.role),
            disconnected: (was_disconnected != now.disconnected).then_some(now.disconnected),
            order: same.is_none().then_some(now.order),
            props: difference(&before, &visible(self.accepted_props(user))),
        };
        (change != Change::default()).then_some(change)
    }

    fn join(&mut self, now: Micros, user: &UserId, join: &Join) -> Result<(), Refusal> {
        if self.members.contains_key(user) {
            return self.join_again(now, user, join);
        }
        let rank = self.roles.get(user).copied();
        let may_pass = self.password.is_none()
            || self.password == join.proven
            || rank.is_some_and(|role| role > Role::Member);
        if !may_pass && self.info.settings.unlisted && rank.is_none() {
            return Err(Refusal::SessionNotFound);
        }
        if let Some(ban) = self.ban_of(now, user) {
            return Err(Refusal::Banned { until: ban.until });
        }
        let asked = if join.spectator { Role::Spectator } else { Role::Member };
        let role = self.roles.get(user).copied().unwrap_or(asked);
        let is_spectator = role == Role::Spectator;
        if is_spectator && !join.props.is_empty() {
            return Err(Refusal::Invalid(vec![Violation::new("join.props", "")]));
        }
        if self.info.settings.locked {
            return Err(Refusal::Locked);
        }
        self.needs_place(is_spectator, user)?;
        let by_default = if join.is_stream { Presence::Tied } else { Presence::Explicit };
        let mut member = Member {
            role,
            presence: join.presence.unwrap_or(by_default),
            disconnected: false,
            streams: 0,
            has_streamed: false,
            order: self.orders,
            joined_at: now,
            due: None,
            props: Props::new(),
        };
        let write = Write::of(join.props.clone());
        if !is_spectator {
            member.props = self.first_props(&join.user_props);
        }
        let props = self.written(&member.props, &write);
        if self.info.schema.is_none() {
            props.clone()?;
        }
        self.needs_fitting_props(Some(role), &write, ["join.props", ""])?;
        member.props = props?;
        if !may_pass {
            return Err(Refusal::WrongPassword);
        }
        self.orders += 1;
        self.members.insert(user.clone(), member);
        self.seats.remove(user);
        self.open = true;
        self.expect_stream(now, user);
        self.settle_host(now, None);
        Ok(())
    }

    fn join_again(&mut self, now: Micros, user: &UserId, join: &Join) -> Result<(), Refusal> {
        let member = self.member_mut(user)?;
        member.presence = join.presence.unwrap_or(member.presence);
        let only_by_streams = member.presence == Presence::Explicit && member.has_streamed;
        let is_lost = only_by_streams && member.streams == 0;
        self.is_shown(now, user, is_lost);
        self.expect_stream(now, user);
        Ok(())
    }

    fn expect_stream(&mut self, now: Micros, user: &UserId) {
        let join_timeout = self.limits.join_timeout;
        let Some(member) = self.members.get_mut(user) else { return };
        let waits = member.presence == Presence::Tied && member.streams == 0;
        let grace = member.due.unwrap_or(0);
        member.due = waits.then_some(grace.max(now + join_timeout));
    }

    fn is_shown(&mut self, now: Micros, user: &UserId, disconnected: bool) {
        let Some(member) = self.members.get_mut(user) else { return };
        if std::mem::replace(&mut member.disconnected, disconnected) != disconnected {
            self.open = true;
            self.settle_host(now, None);
        }
    }

    fn stream_closed(&mut self, now: Micros, user: &UserId, lost: bool) -> Result<(), Refusal> {
        let rejoin_grace = self.info.settings.rejoin_grace;
        let grace = if lost { rejoin_grace } else { rejoin_grace.max(SERVER_END_GRACE) };
        let member = self.member_mut(user)?;
        member.streams = member.streams.saturating_sub(1);
        if member.streams > 0 {
            return Ok(());
        }
        if member.presence == Presence::Tied && grace == 0 {
            self.remove(now, user, Departure::Lost);
            return Ok(());
        }
        if member.presence == Presence::Tied {
            member.due = Some(now + grace);
        }
        self.is_shown(now, user, true);
        Ok(())
    }

    fn leave(&mut self, now: Micros, user: &UserId, keep_role: bool) -> Result<(), Refusal> {
        self.member(user)?;
        self.remove(now, user, Departure::Left);
        if keep_role {
            return Ok(());
        }
        if self.roles.get(user) != Some(&Role::Spectator) {
            self.roles.remove(user);
        }
        self.disown(user);
        Ok(())
    }

    /// If the user owned the session, the highest and earliest of the others does now.
    fn disown(&mut self, user: &UserId) {
        if self.info.owner.as_ref() != Some(user) {
            return;
        }
        let others = self.members.iter().filter(|(other, _)| *other != user);
        let heirs = others.filter(|(_, member)| member.role >= Role::Member);
        let heir = heirs.max_by_key(|(_, member)| (member.role, std::cmp::Reverse(member.order)));
        self.info.owner = heir.map(|(heir, _)| heir.clone());
        if let Some(owner) = self.info.owner.clone() {
            self.put_role(&owner, Role::Owner);
        }
    }

    fn remove(&mut self, now: Micros, user: &UserId, departure: Departure) {
        self.bequeath(user);
        let Some(member) = self.members.remove(user) else { return };
        self.departures.insert(user.clone(), departure);
        let order = member.order;
        self.departed.push(Departed { order, departure, reason: "".into(), until: None });
        self.left.push(user.clone());
        self.open = true;
        self.settle_host(now, Some((user, departure)));
        if self.members.is_empty() {
            self.emptied_at = Some(now);
            self.end_if_empty_for_too_long(now);
        }
    }

    fn empty_due(&self) -> Option<Micros> {
        let ttl = self.info.settings.empty_ttl;
        let at = match self.emptied_at {
            Some(emptied_at) => emptied_at + ttl,
            None => self.created_at + ttl.max(UNUSED_TTL),
        };
        self.members.is_empty().then_some(at)
    }

    fn end_if_empty_for_too_long(&mut self, now: Micros) {
        self.ended |= self.empty_due().is_some_and(|at| at <= now);
    }

    fn update(&mut self, now: Micros, changes: &[Setting]) {
        for change in changes {
            match change {
                Setting::Password(password) => self.password.clone_from(password),
                change => self.settings_mut().change(change.clone()),
            }
        }
        self.info.has_password = self.password.is_some();
        self.open = true;
        self.end_if_empty_for_too_long(now);
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.info.settings)
    }

    fn user_props(&mut self, user: &UserId, write: &Write, hidden: bool) -> Result<bool, Refusal> {
        if self.member(user)?.role < Role::Member {
            return Ok(false);
        }
        let concerned = self.shows_any(write);
        if self.info.schema.is_some() {
            return if concerned { Err(Refusal::SessionIdNeeded) } else { Ok(false) };
        }
        let props = self.written(&self.member(user)?.props, write)?;
        if concerned || hidden {
            self.member_mut(user)?.props = props;
        }
        self.open |= concerned;
        Ok(concerned)
    }

    fn shows_any(&self, write: &Write) -> bool {
        let settings = &self.info.settings;
        let hosted = self.kind == Kind::Hosted;
        let shows = |key: &Key| selects(settings, key) || hosted && selects_of_host(settings, key);
        write.keys().any(shows)
    }

    fn write_props(&mut self, user: &UserId, write: &Write) -> Result<(), Refusal> {
        let write = self.set_back(|schema| &schema.props, write);
        let props = self.written(&self.member(user)?.props, &write)?;
        self.member_mut(user)?.props = props;
        self.open = true;
        Ok(())
    }

    fn write_data(
        &mut self,
        writer: &Actor,
        shared: &Write,
        private: &Write,
    ) -> Result<(), Refusal> {
        let shared = self.set_back(|schema| &schema.data, shared);
        let private = self.set_back(|schema| &schema.private_data, private);
        let data = self.written(&self.data, &shared)?;
        self.private_data = self.written(&self.private_data, &private)?;
        self.data = data;
        for (is_private, write) in [(false, shared), (true, private)] {
            self.data_log.push((writer.clone(), is_private, write));
        }
        self.open = true;
        Ok(())
    }

    /// The map after the write, if it is not too large then.
    pub fn written(&self, before: &Props, write: &Write) -> Result<Props, Refusal> {
        let mut after = before.clone();
        after.extend(write.set.iter().cloned());
        after.retain(|key, _| !write.remove.contains(key));
        let most = self.limits.props_per_user;
        if after.len() > most {
            return Err(Refusal::LimitReached { limit: Limit::PropsPerUser, most });
        }
        Ok(after)
    }

    /// The first in join order of whom something holds.
    fn first(&self, holds: impl Fn(&UserId, &Member) -> bool) -> Option<UserId> {
        let matching = self.members.iter().filter(|(user, member)| holds(user, member));
        matching.min_by_key(|(_, member)| member.order).map(|(user, _)| user.clone())
    }

    fn member(&self, user: &UserId) -> Result<&Member, Refusal> {
        self.members.get(user).ok_or(Refusal::NotAMember)
    }

    fn member_mut(&mut self, user: &UserId) -> Result<&mut Member, Refusal> {
        self.members.get_mut(user).ok_or(Refusal::NotAMember)
    }

    fn needs_place(&self, spectator: bool, user: &UserId) -> Result<(), Refusal> {
        let capacity = if spectator { self.limits.members } else { self.info.settings.capacity };
        let alike = |member: &&Member| (member.role == Role::Spectator) == spectator;
        let held = self.seats.keys().filter(|holder| !spectator && *holder != user);
        if self.members.values().filter(alike).count() + held.count() >= capacity {
            return Err(Refusal::Full { capacity });
        }
        Ok(())
    }

    /// All get a place or none; who is in, or comes as a spectator, needs none.
    fn reserve(
        &mut self,
        now: Micros,
        actor: &Actor,
        users: &[UserId],
        until: Micros,
    ) -> Result<(), Refusal> {
        match (self.needs(actor, Role::Admin), actor) {
            (Err(_), Actor::User(user)) if *users == [user.id().clone()] => {
                self.clone().join(now, user, &Join::default())?;
            }
            (outcome, _) => outcome?,
        }
        for (at, user) in users.iter().enumerate() {
            if let Some(ban) = self.ban_of(now, user) {
                let why = Box::new(Refusal::Banned { until: ban.until });
                return Err(Refusal::OfUser { at, why });
            }
        }
        let mut after = self.seats.clone();
        for user in users {
            let watches = self.roles.get(user) == Some(&Role::Spectator);
            if !watches && !self.members.contains_key(user) {
                after.insert(user.clone(), until);
            }
        }
        let members = self.members.values().filter(|member| member.role != Role::Spectator);
        let capacity = self.info.settings.capacity;
        if after.len() > self.seats.len() && members.count() + after.len() > capacity {
            return Err(Refusal::Full { capacity });
        }
        self.seats = after;
        Ok(())
    }

    /// Every key that is compared has the same value in all frames from its revision on, and now.
    fn needs_unchanged(
        &self,
        write: &Write,
        field: &str,
        accepted: &Props,
        shown: impl Fn(&Framed, &Key) -> Option<Value>,
    ) -> Result<(), Refusal> {
        let changed = |(key, revision): &&(Key, Revision)| {
            if revision.is_none() {
                return accepted.contains_key(key) || shown(self.last(), key).is_some();
            }
            let mut values = self.since(*revision).iter().map(|framed| shown(framed, key));
            let first = values.next().expect("the revision is one of the past");
            values.any(|value| value != first) || accepted.get(key).cloned() != first
        };
        let violation =
            |(key, _): &(Key, Revision)| Violation::new(format!("{field}[{key:?}]"), "has changed");
        let lost: Vec<_> = write.if_revision.iter().filter(changed).map(violation).collect();
        if lost.is_empty() { Ok(()) } else { Err(Refusal::RevisionChanged(lost)) }
    }

    /// For acts that a role allows whether its bearer has joined or not.
    fn needs(&self, actor: &Actor, needs: Role) -> Result<(), Refusal> {
        match self.standing(actor) {
            Standing::App => Ok(()),
            Standing::Joined(role) | Standing::Away(role) if role >= needs => Ok(()),
            Standing::Away(_) | Standing::Outsider if needs <= Role::Member => {
                Err(Refusal::NotAMember)
            }
            _ => Err(Refusal::RoleTooLow { needs }),
        }
    }

    /// For acts of members.
    fn needs_joined(&self, actor: &Actor, needs: Role) -> Result<(), Refusal> {
        match self.standing(actor) {
            Standing::App => Ok(()),
            Standing::Joined(role) if role >= needs => Ok(()),
            Standing::Joined(_) => Err(Refusal::RoleTooLow { needs }),
            Standing::Away(_) | Standing::Outsider => Err(Refusal::NotAMember),
        }
    }

    /// Private data belongs to the host, in a room to the owner.
    fn needs_keeper(&self, actor: &Actor) -> Result<(), Refusal> {
        self.needs_joined(actor, Role::Member)?;
        let Some(user) = actor.user() else { return Ok(()) };
        match self.kind {
            Kind::Hosted if self.info.host.as_ref() != Some(user) => Err(Refusal::NeedsHost),
            Kind::Room if self.info.owner.as_ref() != Some(user) => {
                Err(Refusal::RoleTooLow { needs: Role::Owner })
            }
            _ => Ok(()),
        }
    }

    fn needs_host_of_term(&self, writer: Option<&UserId>, term: u64) -> Result<(), Refusal> {
        match writer {
            Some(writer) if term != 0 && !self.is_host(writer) => Err(Refusal::NotTheHost),
            _ => Ok(()),
        }
    }

    fn needs_term(&self, term: u64) -> Result<(), Refusal> {
        match term {
            0 => Ok(()),
            _ if self.kind == Kind::Room => Err(Refusal::WrongKind),
            term if term == self.info.term => Ok(()),
            _ => Err(Refusal::StaleTerm { current: self.info.term }),
        }
    }
}

/// What may be due. No two of the same kind fall on the same moment in these tests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Member(UserId),
    Host,
    Seat(UserId),
    End,
}
