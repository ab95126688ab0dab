//! The rules: what a session is. Pure and synchronous: commands, ids and the time come in, accepted
//! or refused comes out, and [`Session::flush`] makes the frame.
//!
//! Everything exists twice: *accepted*, which the commands see and change, and *shown*, which is the
//! state as of the last frame and all that readers ever see. `flush` brings the second up to the
//! first and stamps what differs with the frame's revision; every snapshot and every delta is then a
//! question asked of the shown state ([`view`]).

pub mod command;
mod deadline;
pub mod error;
mod host;
pub mod ids;
pub mod limits;
pub mod member;
pub mod moderation;
mod names;
mod read;
mod removals;
pub mod role;
pub mod settings;
mod slots;
#[cfg(test)]
mod tests;
pub mod user;
pub mod value;
pub mod view;
mod writers;

use command::{Accepted, Actor, Command, Join, Setting, Write};
use deadline::Deadline;
use error::Refusal;
use host::Heritage;
use ids::{AppId, Key, SessionId, UserId};
use limits::{Limits, Micros};
use member::{Departed, Departure, MemberIx, Members, Membership, Presence, Shown};
use moderation::Ban;
use names::Names;
use removals::{Gone, Removals};
use role::{Act, Role, Standing};
use rustc_hash::FxHashMap;
use settings::{Kind, Settings};
use slots::{Layer, Slots};
use std::{collections::BTreeSet, sync::Arc};
use value::Value;
use writers::Writers;

/// What is told of a session as a whole, and sent whole when anything in it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// What the opener and admins choose.
    pub settings: Settings,
    /// Who owns it.
    pub owner: Option<UserId>,
    /// Hosted: whose props are shown.
    pub host: Option<UserId>,
    /// Hosted: counts hosts.
    pub term: u64,
}

/// What is needed to open a session.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The namespace.
    pub app: AppId,
    /// The id.
    pub id: SessionId,
    /// Who sees whom.
    pub kind: Kind,
    /// The settings.
    pub settings: Settings,
    /// Who joins and owns it; none = the app opens it.
    pub opener: Option<(UserId, Join)>,
    /// First shared data.
    pub data: Vec<(Key, Value)>,
    /// First private data.
    pub private_data: Vec<(Key, Value)>,
}

/// What one tick made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its revision.
    pub revision: u64,
    /// Host, owner or the selection of keys changed: members may have come to see another view.
    pub views_changed: bool,
    /// The memberships that ended.
    pub departed: Vec<Departed>,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    app: AppId,
    id: SessionId,
    kind: Kind,
    created_at: Micros,
    limits: Arc<Limits>,
    epoch: u64,
    revision: u64,
    last_frame_at: Micros,
    /// Something was accepted since the last frame.
    open: bool,
    ended: bool,

    accepted: Arc<Info>,
    shown: Arc<Info>,
    info_revision: u64,

    names: Names,
    members: Members,
    next_order: u64,
    spectators: usize,
    /// Roles other than member, of people who have joined and of people who have not.
    roles: FxHashMap<UserId, Role>,
    bans: FxHashMap<UserId, Ban>,
    /// Hosted: the props of a host that is gone, until there is another.
    heritage: Option<Heritage>,
    host_deadline: Option<Micros>,

    data: Slots,
    private_data: Slots,
    /// The revision of the last change of session data.
    data_revision: u64,
    data_dirty: bool,
    data_writers: Writers,
    removals: Removals,
    /// Who left since somebody last asked.
    left: Vec<UserId>,
    /// Which memberships ended since the last frame.
    departed: Vec<Departed>,

    deadlines: BTreeSet<(Micros, Deadline)>,
    emptied_at: Option<Micros>,
    empty_deadline: Option<Micros>,
    age_deadline: Option<Micros>,
}

impl Session {
    /// Opens a session and makes revision 1: settings, opener, initial props and data.
    /// `last_epoch` is the epoch of an earlier session of this id, if one is remembered.
    pub fn open(
        opening: Opening,
        limits: Arc<Limits>,
        now: Micros,
        last_epoch: u64,
    ) -> Result<Self, Refusal> {
        let Opening { app, id, kind, settings, opener, data, private_data } = opening;
        let owner = opener.as_ref().map(|(user, _)| user.clone());
        let accepted = Arc::new(Info { settings, owner: owner.clone(), host: None, term: 0 });
        let mut session = Self {
            app,
            id,
            kind,
            created_at: now,
            limits,
            epoch: now.max(last_epoch + 1),
            revision: 0,
            last_frame_at: now,
            open: true,
            ended: false,
            shown: accepted.clone(),
            accepted,
            info_revision: 0,
            names: Names::default(),
            members: Members::default(),
            next_order: 0,
            spectators: 0,
            roles: owner.into_iter().map(|user| (user, Role::Owner)).collect(),
            bans: FxHashMap::default(),
            heritage: None,
            host_deadline: None,
            data: Slots::default(),
            private_data: Slots::default(),
            data_revision: 0,
            data_dirty: false,
            data_writers: Writers::default(),
            removals: Removals::default(),
            left: Vec::new(),
            departed: Vec::new(),
            deadlines: BTreeSet::new(),
            emptied_at: None,
            empty_deadline: None,
            age_deadline: None,
        };
        session.set_data(&Actor::App, Write::of(data), Write::of(private_data))?;
        if let Some((user, join)) = opener {
            session.join(now, user, join)?;
        }
        session.settle_emptiness(now);
        session.settle_age();
        session.flush(now);
        Ok(session)
    }

    /// Does what is asked, or refuses it and changes nothing.
    pub fn apply(
        &mut self,
        now: Micros,
        actor: &Actor,
        command: Command,
    ) -> Result<Accepted, Refusal> {
        if self.ended {
            return Err(Refusal::SessionNotFound);
        }
        let mut concerned = true;
        match command {
            Command::Join { user, join } => self.join(now, user, join)?,
            Command::Leave { user, keep_role } => self.leave(now, &user, keep_role)?,
            Command::Delete => {
                self.check(actor, Act::Delete)?;
                self.ended = true;
            }
            Command::Update(changes) => {
                self.check(actor, Act::Update)?;
                self.update(now, changes);
            }
            Command::SetProps { user, write, term } => {
                let ix = self.writer(actor, &user)?;
                self.check_term(term)?;
                // What a membership that is over has left is forgotten with it.
                let known = self.horizon().max(self.removals.departed(&user));
                self.check_unchanged(
                    &self.members.get(ix).slots,
                    &write,
                    known,
                    "write.if_revision",
                )?;
                self.write_props(ix, Layer::Own, write)?;
            }
            Command::UserProps { user, write } => concerned = self.user_props(&user, write)?,
            Command::SetData { shared, private, term } => {
                self.check_data(actor, &shared, &private)?;
                self.check_term(term)?;
                let known = self.horizon();
                self.check_unchanged(&self.data, &shared, known, "if_revision")?;
                self.check_unchanged(&self.private_data, &private, known, "private_if_revision")?;
                self.set_data(actor, shared, private)?;
            }
            Command::SetRole { target, role, user_props } => {
                self.set_role(now, actor, target, role, user_props)?;
            }
            Command::Kick { target, reason } => self.kick(now, actor, &target, reason)?,
            Command::Ban { target, ban } => self.ban(now, actor, target, ban)?,
            Command::Unban { target } => self.unban(now, actor, &target)?,
            Command::SwapHost { target, term } => self.swap_host(actor, target, term)?,
            Command::StreamOpened { user } => {
                let ix = self.member(&user)?;
                self.stream_opened(now, ix);
            }
            Command::StreamClosed { user, membership, lost } => {
                let ix = self.member(&user)?;
                // Who left and came back has a new membership, which the old stream is nothing to.
                if self.members.membership(&user).is_some_and(|member| member.order == membership) {
                    self.stream_closed(now, ix, lost);
                }
            }
        }
        Ok(Accepted { revision: self.pending_revision(), concerned })
    }

    /// Makes the frame: shows what is accepted. None if nothing was accepted since the last one. The
    /// caller sends every view its changes before the next flush, which may forget removals.
    pub fn flush(&mut self, now: Micros) -> Option<Frame> {
        if !std::mem::take(&mut self.open) {
            return None;
        }
        self.expire_removals(now);
        self.revision += 1;
        self.last_frame_at = now;
        let revision = self.revision;
        let before = std::mem::replace(&mut self.shown, self.accepted.clone());
        let mut views_changed = false;
        if before != self.shown || revision == 1 {
            self.info_revision = revision;
            views_changed = before.host != self.shown.host
                || before.owner != self.shown.owner
                || before.settings.propnames != self.shown.settings.propnames
                || before.settings.hostprops != self.shown.settings.hostprops;
            self.names.select(&self.shown.settings);
        }
        self.frame_data(now);
        let marked = self.members.take_marked();
        for &ix in &marked {
            self.frame_member(now, ix);
        }
        self.members.reuse(marked);
        if before.host != self.shown.host {
            for host in [&before.host, &self.shown.host].into_iter().flatten() {
                if let Some(ix) = self.members.find(host)
                    && let Some(shown) = &mut self.members.get_mut(ix).shown
                {
                    shown.hosting = revision;
                    self.members.touch(ix, revision);
                }
            }
        }
        let departed = std::mem::take(&mut self.departed);
        Some(Frame { revision, views_changed, departed })
    }

    fn frame_data(&mut self, now: Micros) {
        if !std::mem::take(&mut self.data_dirty) {
            return;
        }
        self.data_writers.clear();
        let (revision, removals) = (self.revision, &mut self.removals);
        let shared = self.data.frame(revision, &mut self.names, |key| {
            removals.push(revision, now, Gone::Data(key));
        });
        let private = self.private_data.frame(revision, &mut self.names, |key| {
            removals.push(revision, now, Gone::PrivateData(key));
        });
        if shared || private {
            self.data_revision = revision;
        }
    }

    fn frame_member(&mut self, now: Micros, ix: MemberIx) {
        let (revision, removals) = (self.revision, &mut self.removals);
        let member = self.members.get_mut(ix);
        let Some(membership) = &member.now else {
            let member = self.members.remove(ix);
            if member.shown.is_some() {
                removals.push(revision, now, Gone::Member(member.user, member.departure));
            }
            return member.slots.dissolve(&mut self.names);
        };
        let mut changed = member.slots.frame(revision, &mut self.names, |key| {
            removals.push(revision, now, Gone::Prop(ix, key));
        });
        let Membership { role, disconnected, order, joined_at, .. } = *membership;
        match &mut member.shown {
            Some(shown) if shown.order == order => {
                if (shown.role, shown.disconnected) != (role, disconnected) {
                    (shown.role, shown.disconnected) = (role, disconnected);
                    shown.status = revision;
                    changed = true;
                }
            }
            shown => {
                let replaces =
                    if shown.is_some() { revision } else { removals.departed(&member.user) };
                *shown = Some(Shown {
                    role,
                    disconnected,
                    order,
                    joined_at,
                    joined: revision,
                    replaces,
                    status: revision,
                    hosting: 0,
                });
                changed = true;
            }
        }
        if changed {
            self.members.touch(ix, revision);
        }
    }

    fn join(&mut self, now: Micros, user: UserId, join: Join) -> Result<(), Refusal> {
        if let Some(ix) = self.members.find(&user).filter(|&ix| self.is_joined(ix)) {
            return self.join_again(now, ix, join);
        }
        let Join { spectator, presence, is_stream, props, user_props } = join;
        self.check_ban(now, &user)?;
        let role = match self.roles.get(&user) {
            Some(&role) => role,
            None if spectator => Role::Spectator,
            None => Role::Member,
        };
        if role == Role::Spectator && !props.is_empty() {
            return Err(Refusal::invalid("join.props", "a spectator never sends"));
        }
        // Whoever opens a session that is locked from the start is in.
        if self.accepted.settings.locked && self.revision > 0 {
            return Err(Refusal::Locked);
        }
        self.check_place(role)?;
        let most = self.limits.props_per_user;
        if props.len() > most {
            return Err(Refusal::LimitReached { limit: "max-props-per-user", most });
        }
        let by_default = if is_stream { Presence::Tied } else { Presence::Explicit };
        let order = self.next_order;
        self.next_order += 1;
        self.spectators += usize::from(role == Role::Spectator);
        let ix = self.members.join(
            &user,
            Membership {
                role,
                presence: presence.unwrap_or(by_default),
                disconnected: false,
                streams: 0,
                order,
                joined_at: now,
                deadline: None,
            },
        );
        let settings = &self.shown.settings;
        let slots = &mut self.members.get_mut(ix).slots;
        if role > Role::Spectator {
            for (layer, props) in [(Layer::User, user_props), (Layer::Own, props)] {
                for (key, value) in props {
                    slots.write(layer, &key, Some(value), &mut self.names, settings);
                }
            }
        }
        self.expect_stream(now, ix);
        self.open = true;
        self.settle_host(now);
        self.settle_emptiness(now);
        Ok(())
    }

    /// Spectators and everybody else have places of their own.
    fn check_place(&self, role: Role) -> Result<(), Refusal> {
        let (taken, places) = match role {
            Role::Spectator => (self.spectators, self.limits.members),
            _ => (self.members.joined_count() - self.spectators, self.accepted.settings.capacity),
        };
        if taken >= places {
            return Err(Refusal::Full { capacity: places });
        }
        Ok(())
    }

    /// Joining again changes no role; it connects the member again, and presence and props are taken
    /// where the call names them.
    fn join_again(&mut self, now: Micros, ix: MemberIx, join: Join) -> Result<(), Refusal> {
        if !join.props.is_empty() {
            if self.role_of(ix) < Role::Member {
                return Err(Refusal::RoleTooLow { needs: Role::Member });
            }
            self.write_props(ix, Layer::Own, Write::of(join.props))?;
        }
        if let (Some(presence), Some(membership)) =
            (join.presence, &mut self.members.get_mut(ix).now)
        {
            membership.presence = presence;
        }
        self.connected(now, ix);
        self.expect_stream(now, ix);
        Ok(())
    }

    fn leave(&mut self, now: Micros, user: &UserId, keep_role: bool) -> Result<(), Refusal> {
        let ix = self.member(user)?;
        self.remove_member(now, ix, Departure::Left);
        if !keep_role {
            self.roles.remove(user);
            if self.accepted.owner.as_ref() == Some(user) {
                self.pass_ownership(user);
            }
        }
        Ok(())
    }

    /// Ends a membership, for whatever reason; roles stay with the user id.
    fn remove_member(&mut self, now: Micros, ix: MemberIx, departure: Departure) {
        let user = self.members.get(ix).user.clone();
        self.set_deadline(ix, None);
        self.bequeath(&user);
        let Some(membership) = self.members.leave(ix, departure) else {
            return;
        };
        self.spectators -= usize::from(membership.role == Role::Spectator);
        if departure != Departure::Lost {
            self.give_up_hosting(&user);
        }
        self.left.push(user);
        let order = membership.order;
        self.departed.push(Departed { order, departure, reason: "".into(), until: None });
        self.open = true;
        self.settle_host(now);
        if self.members.joined_count() == 0 {
            self.emptied_at = Some(now);
            self.settle_emptiness(now);
        }
    }

    /// Its owner does not own the session any more: the first admin, else the first moderator, else
    /// the first member by joining does now, if there is another one.
    fn pass_ownership(&mut self, former: &UserId) {
        let first = |role: Role| {
            let mut joined = self.members.joined();
            joined
                .find(|(_, user, member)| member.role == role && *user != former)
                .map(|(ix, user, _)| (ix, user.clone()))
        };
        let next = [Role::Admin, Role::Moderator, Role::Member].into_iter().find_map(first);
        Arc::make_mut(&mut self.accepted).owner = next.as_ref().map(|(_, user)| user.clone());
        let Some((ix, user)) = next else { return };
        self.roles.insert(user, Role::Owner);
        if let Some(membership) = &mut self.members.get_mut(ix).now {
            membership.role = Role::Owner;
        }
        self.members.mark(ix);
    }

    fn update(&mut self, now: Micros, changes: Vec<Setting>) {
        let settings = &mut Arc::make_mut(&mut self.accepted).settings;
        for change in changes {
            settings.change(change);
        }
        self.open = true;
        self.settle_emptiness(now);
        self.settle_age();
    }

    /// A user changed its props on itself. Every session keeps them, so that a change of the
    /// selection shows them; it takes a revision only where the selection shows a written key.
    fn user_props(&mut self, user: &UserId, write: Write) -> Result<bool, Refusal> {
        let ix = self.member(user)?;
        if self.role_of(ix) < Role::Member {
            return Ok(false);
        }
        let settings = &self.accepted.settings;
        let concerned = write.keys().any(|key| settings.selects(key) || self.selects_of_host(key));
        self.write_layer(ix, Layer::User, write);
        self.open |= concerned;
        Ok(concerned)
    }

    fn selects_of_host(&self, key: &str) -> bool {
        self.kind == Kind::Hosted && self.accepted.settings.shows_of_host(key)
    }

    fn write_props(&mut self, ix: MemberIx, layer: Layer, write: Write) -> Result<(), Refusal> {
        self.check_room(&self.members.get(ix).slots, &write)?;
        self.write_layer(ix, layer, write);
        self.open = true;
        Ok(())
    }

    fn write_layer(&mut self, ix: MemberIx, layer: Layer, write: Write) {
        let settings = &self.shown.settings;
        let slots = &mut self.members.get_mut(ix).slots;
        write_all(slots, layer, write, &mut self.names, settings);
        self.members.mark(ix);
    }

    fn set_data(&mut self, writer: &Actor, shared: Write, private: Write) -> Result<(), Refusal> {
        self.check_room(&self.data, &shared)?;
        self.check_room(&self.private_data, &private)?;
        for (is_private, write) in [(false, &shared), (true, &private)] {
            let set = write.set.iter().map(|(key, value)| (key, Some(value)));
            for (key, value) in set.chain(write.remove.iter().map(|key| (key, None))) {
                let slots = if is_private { &self.private_data } else { &self.data };
                let before = || self.names.find(key).and_then(|key| slots.accepted(key)).cloned();
                let noted = (is_private, key.clone());
                self.data_writers.note(writer, noted, before, value.cloned());
            }
        }
        let settings = &self.shown.settings;
        write_all(&mut self.data, Layer::Own, shared, &mut self.names, settings);
        write_all(&mut self.private_data, Layer::Own, private, &mut self.names, settings);
        self.data_dirty = true;
        self.open = true;
        Ok(())
    }

    /// What a user wrote into the session data and no frame shows yet is as if it had never been
    /// written; what others wrote stays.
    fn take_back_data(&mut self, user: &UserId) {
        let settings = &self.shown.settings;
        self.data_writers.take_back(user, |(is_private, key), value| {
            let slots = if *is_private { &mut self.private_data } else { &mut self.data };
            slots.write(Layer::Own, key, value, &mut self.names, settings);
        });
    }

    /// Every key that `if_revision` names has not changed in a frame after that revision and has no
    /// change pending. From `known` on it is known when a key went that is not there. Revision 0
    /// says that the key is not there, however long that has been so.
    fn check_unchanged(
        &self,
        slots: &Slots,
        write: &Write,
        known: u64,
        field: &str,
    ) -> Result<(), Refusal> {
        let changed = |(key, revision): &&(Key, u64)| {
            match self.names.find(key).and_then(|key| slots.get(key)) {
                Some(slot) => slot.revision > *revision || slot.is_pending(),
                // Removed so long ago that nobody knows when.
                None => *revision > 0 && *revision < known,
            }
        };
        let lost: Vec<_> = write
            .if_revision
            .iter()
            .filter(changed)
            .map(|(key, revision)| {
                let path = format!("{field}[{key:?}]");
                error::Violation::new(path, format!("the key has changed after {revision}"))
            })
            .collect();
        if lost.is_empty() { Ok(()) } else { Err(Refusal::RevisionChanged(lost)) }
    }

    /// A user, and each part of the session data, has a bounded number of keys.
    fn check_room(&self, slots: &Slots, write: &Write) -> Result<(), Refusal> {
        let most = self.limits.props_per_user;
        let count = slots.count(Layer::Own);
        if count + write.set.len() <= most {
            return Ok(());
        }
        let holds =
            |key: &Key| self.names.find(key).is_some_and(|key| slots.holds(Layer::Own, key));
        let more = write.set.iter().filter(|(key, _)| !holds(key)).count();
        let fewer = write.remove.iter().filter(|key| holds(key)).count();
        if count + more - fewer > most {
            return Err(Refusal::LimitReached { limit: "max-props-per-user", most });
        }
        Ok(())
    }

    /// The member whose props an actor may write: its own, or anybody's for the app.
    fn writer(&self, actor: &Actor, user: &UserId) -> Result<MemberIx, Refusal> {
        let ix = self.member(user)?;
        if self.role_of(ix) < Role::Member {
            return Err(Refusal::RoleTooLow { needs: Role::Member });
        }
        self.check(actor, Act::WriteProps)?;
        Ok(ix)
    }

    /// The shared part is written from the role on that the settings name, the private part by
    /// those who see it. Who compares learns of changes, so for that it takes the same.
    fn check_data(&self, actor: &Actor, shared: &Write, private: &Write) -> Result<(), Refusal> {
        if !shared.is_empty() || !shared.if_revision.is_empty() {
            self.check(actor, Act::WriteData(self.accepted.settings.data_role))?;
        }
        let Actor::User(user) = actor else {
            return Ok(());
        };
        if private.is_empty() && private.if_revision.is_empty() {
            return Ok(());
        }
        self.check(actor, Act::WriteProps)?;
        match self.kind {
            Kind::Hosted if self.accepted.host.as_ref() != Some(user) => Err(Refusal::NeedsHost),
            Kind::Room if self.accepted.owner.as_ref() != Some(user) => {
                Err(Refusal::RoleTooLow { needs: Role::Owner })
            }
            _ => Ok(()),
        }
    }

    fn check_term(&self, term: u64) -> Result<(), Refusal> {
        if term != 0 && term != self.accepted.term {
            return Err(Refusal::StaleTerm { current: self.accepted.term });
        }
        Ok(())
    }

    /// Whether an actor may do something here, by the table in [`role`].
    pub fn check(&self, actor: &Actor, act: Act) -> Result<(), Refusal> {
        role::check(self.standing(actor), act)
    }

    /// In what capacity an actor acts here.
    pub fn standing(&self, actor: &Actor) -> Standing {
        let Actor::User(user) = actor else {
            return Standing::App;
        };
        match (self.members.membership(user), self.roles.get(user)) {
            (Some(membership), _) => Standing::Joined(membership.role),
            (None, Some(&role)) => Standing::Away(role),
            (None, None) => Standing::Outsider,
        }
    }

    /// Whether an actor may know of the session: an unlisted one is there for the app and for people
    /// with a role only.
    pub fn is_visible_to(&self, actor: &Actor) -> bool {
        !self.accepted.settings.unlisted || self.standing(actor) != Standing::Outsider
    }

    fn member(&self, user: &str) -> Result<MemberIx, Refusal> {
        self.members.find(user).filter(|&ix| self.is_joined(ix)).ok_or(Refusal::NotAMember)
    }

    fn is_joined(&self, ix: MemberIx) -> bool {
        self.members.get(ix).now.is_some()
    }

    fn role_of(&self, ix: MemberIx) -> Role {
        self.members.get(ix).now.as_ref().map_or(Role::Spectator, |membership| membership.role)
    }

    /// The namespace.
    pub fn app(&self) -> &AppId {
        &self.app
    }

    /// The id.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Who sees whom.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// When it was opened.
    pub fn created_at(&self) -> Micros {
        self.created_at
    }

    /// This incarnation of its history.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The last frame.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// When the last frame was made.
    pub fn last_frame_at(&self) -> Micros {
        self.last_frame_at
    }

    /// The frame that shows everything accepted so far.
    pub fn pending_revision(&self) -> u64 {
        self.revision + u64::from(self.open)
    }

    /// Whether the next [`Session::flush`] makes a frame.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The session is over: nothing is accepted any more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// What is told of the session as of the last frame.
    pub fn info(&self) -> &Arc<Info> {
        &self.shown
    }

    /// What is accepted and may not be framed yet.
    pub fn accepted_info(&self) -> &Arc<Info> {
        &self.accepted
    }

    /// Takes the list of who left since the last call; some may have joined again.
    pub fn take_left(&mut self) -> Vec<UserId> {
        std::mem::take(&mut self.left)
    }

    /// The members.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Deltas can begin at this revision or later.
    pub fn horizon(&self) -> u64 {
        self.removals.horizon
    }
}

fn write_all(
    slots: &mut Slots,
    layer: Layer,
    write: Write,
    names: &mut Names,
    settings: &Settings,
) {
    for (key, value) in write.set {
        slots.write(layer, &key, Some(value), names, settings);
    }
    for key in write.remove {
        slots.write(layer, &key, None, names, settings);
    }
}
