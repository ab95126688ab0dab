//! The rules: what a session is. Pure and synchronous: commands, ids and the time come in, accepted
//! or refused comes out, and [`Session::flush`] makes the frame.
//!
//! Everything exists twice: *accepted*, which the commands see and change, and *shown*, which is the
//! state as of the last frame and all that readers ever see. `flush` brings the second up to the
//! first and stamps what differs with the frame's revision; every snapshot and every delta is then a
//! question asked of the shown state ([`view`]).

pub mod access;
pub mod ban;
pub mod command;
mod data;
mod deadline;
pub mod epoch;
pub mod error;
pub mod event;
mod fingerprint;
pub mod frame;
pub mod growth;
mod host;
pub mod ids;
mod joining;
mod judged;
pub mod judging;
pub mod limits;
mod listening;
pub mod log;
pub mod member;
pub mod merge;
mod moderation;
mod names;
mod notes;
pub mod opening;
pub mod password;
pub mod private;
mod props;
mod read;
pub mod record;
mod recording;
mod removals;
pub mod replica;
mod reset;
pub mod revision;
pub mod role;
pub mod schema;
pub mod seats;
pub mod seldom;
pub mod settings;
pub mod size;
mod skipped;
mod slots;
#[cfg(test)]
mod tests;
mod untold;
pub mod user;
pub mod value;
pub mod view;
mod writers;

use access::{Act, Standing};
use ban::Bans;
use command::{Accepted, Actor, Command, Join, Write};
use data::Data;
use deadline::{Deadlines, Lifetime};
use epoch::Epoch;
use error::Refusal;
use event::{Ended, What};
use host::Heritage;
use ids::{AppId, Key, SessionId, UserId};
use judging::{Operations, judged_by};
use limits::{Limits, Micros};
use log::Log;
use member::{MemberIx, Members};
use names::Names;
use notes::Notes;
use opening::People;
use password::PasswordHash;
use private::{Pair, Private};
use removals::Removals;
use revision::Revision;
use role::{Role, Roles};
use schema::{Paths, Schema};
use seats::Seats;
use seldom::Seldom;
use settings::{Kind, Setting, Settings};
use skipped::Skipped;
use std::sync::Arc;
use untold::Untold;
use value::Value;

/// What readers learn of a session as a whole; it is sent whole when anything in it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// What the opener and admins choose.
    pub settings: Arc<Settings>,
    /// Who owns it.
    pub owner: Option<UserId>,
    /// Hosted: whose props are shown.
    pub host: Option<UserId>,
    /// Hosted: counts hosts.
    pub term: u64,
    /// Joining needs a password.
    pub has_password: bool,
    /// The format of its values; none = free.
    pub schema: Option<Arc<Schema>>,
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
    /// What people need to join.
    pub password: Option<PasswordHash>,
    /// Who joins and owns it; none = the app opens it.
    pub opener: Option<(UserId, Join)>,
    /// Who else is known from the start.
    pub people: People,
    /// Between whom, if it is a private session.
    pub private: Option<Private>,
    /// First shared data.
    pub data: Vec<(Key, Value)>,
    /// First private data.
    pub private_data: Vec<(Key, Value)>,
    /// The format of props and data; none = free.
    pub schema: Option<Arc<Schema>>,
    /// What is judged beside the rules of the settings.
    pub judges: Operations,
    /// It was judged itself.
    pub is_judged: bool,
}

impl Opening {
    /// A session with these settings, without opener and data.
    pub fn new(app: AppId, id: SessionId, kind: Kind, settings: Settings) -> Self {
        Self {
            app,
            id,
            kind,
            settings,
            password: None,
            opener: None,
            people: People::default(),
            private: None,
            data: Vec::new(),
            private_data: Vec::new(),
            schema: None,
            judges: Operations::default(),
            is_judged: false,
        }
    }
}

/// One session.
#[derive(Debug)]
pub struct Session {
    app: AppId,
    id: SessionId,
    kind: Kind,
    pair: Option<Arc<Pair>>,
    /// The app sees the source of a private session.
    is_source_seen: bool,
    /// What is judged: see [`judging`].
    judges: Operations,
    limits: Arc<Limits>,
    epoch: Epoch,
    /// The epoch in which it was opened, by which sessions are in the order of their opening.
    born: Epoch,
    revision: Revision,
    /// Revisions that no frame has.
    skipped: Seldom<Skipped>,
    /// The revision with which the epoch began: those before it are of other epochs. None = it is the
    /// epoch in which the session was opened.
    epoch_revision: Revision,
    last_frame_at: Micros,
    /// Something was accepted since the last frame.
    open: bool,

    accepted: Arc<Info>,
    shown: Arc<Info>,
    info_revision: Revision,
    /// The revision at which it last changed who sees which keys of whom.
    sight_revision: Revision,
    /// Shown to nobody.
    password: Option<PasswordHash>,
    /// The frame that came with its last change.
    password_revision: Revision,

    names: Names,
    members: Seldom<Members>,
    roles: Seldom<Roles>,
    bans: Seldom<Bans>,
    /// Places that are held for users who have not joined.
    seats: Seldom<Seats>,
    /// How many of them are shown.
    shown_seats: usize,
    /// Hosted: the props of a host that is gone, until there is another.
    heritage: Option<Box<Heritage>>,

    data: Seldom<Data>,
    removals: Seldom<Removals>,
    /// The frame of the last reset, if there was one.
    reset_revision: Revision,
    /// About whom something changed that no frame tells.
    notes: Notes,
    /// What others have still to learn of what happened.
    untold: Seldom<Untold>,
    /// Every update one by one, while somebody listens.
    log: Option<Box<Log>>,

    lifetime: Lifetime,
    deadlines: Deadlines,
}

impl Session {
    /// Opens a session and makes revision 1: settings, people, initial props and data.
    /// `last_epoch` is the epoch of an earlier session of this id, if one is remembered.
    pub fn open(
        opening: Opening,
        limits: Arc<Limits>,
        now: Micros,
        last_epoch: Epoch,
    ) -> Result<Self, Refusal> {
        let Opening {
            app,
            id,
            kind,
            settings,
            password,
            opener,
            people,
            private,
            data,
            private_data,
            schema,
            judges,
            is_judged: _,
        } = opening;
        let owner = match (&private, &opener) {
            (Some(private), _) => Some(private.owner.clone()),
            (None, opener) => opener.as_ref().map(|(user, _)| user).or(people.owner()).cloned(),
        };
        let has_password = password.is_some();
        let judges = judges.or(judged_by(&settings.rules));
        let (settings, owned_by, host) = (Arc::new(settings), owner.clone(), None);
        let info = Info { settings, owner: owned_by, host, term: 0, has_password, schema };
        let accepted = Arc::new(info);
        let mut session = Self {
            app,
            id,
            kind,
            pair: private.as_ref().map(Private::shared_pair),
            is_source_seen: false,
            judges,
            notes: Notes::after(0, limits.notes),
            limits,
            epoch: last_epoch.next(now),
            born: last_epoch.next(now),
            revision: Revision::NONE,
            skipped: Seldom::NONE,
            epoch_revision: Revision::NONE,
            last_frame_at: now,
            open: true,
            shown: accepted.clone(),
            accepted,
            info_revision: Revision::NONE,
            sight_revision: Revision::NONE,
            password,
            password_revision: Revision::FIRST,
            names: Names::default(),
            members: Seldom::NONE,
            roles: Seldom::NONE,
            bans: Seldom::NONE,
            seats: Seldom::NONE,
            shown_seats: 0,
            heritage: None,
            data: Seldom::NONE,
            removals: Seldom::NONE,
            reset_revision: Revision::NONE,
            untold: Seldom::NONE,
            log: None,
            lifetime: Lifetime::begin(now),
            deadlines: Deadlines::default(),
        };
        let by = opener.as_ref().map_or(Actor::App, |(user, _)| Actor::of(user));
        let (data, private_data) = (Write::of(data), Write::of(private_data));
        session.happened(What::Opened(session.kind));
        session.know(owner, people.roles, people.bans);
        session.check_first_format(&data, &private_data, private.as_ref(), opener.as_ref())?;
        session.begin_data();
        if !(data.is_empty() && private_data.is_empty()) {
            session.set_data(&Actor::App, data, private_data)?;
        }
        session.gather(now, private, opener, people.users)?;
        session.attribute(0, &by);
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
        if self.lifetime.has_ended() {
            return Err(Refusal::SessionNotFound);
        }
        let mut concerned = true;
        let (happened, is_report) = (self.untold.events.len(), command.is_report());
        match command {
            Command::Join { user, join } => self.join(now, user, join)?,
            Command::Leave { user, keep_role } => self.leave(now, &user, keep_role)?,
            Command::Delete => {
                self.check(actor, Act::Delete)?;
                self.end(Ended::Deleted);
            }
            Command::Update(changes) => {
                self.check(actor, Act::Update)?;
                self.update(now, changes);
            }
            Command::SetProps { user, write, term } => {
                let ix = self.writer(actor, &user)?;
                self.check_is_source(&user)?;
                self.check_judged(actor, write.judged)?;
                self.check_props_format(self.rank_of(actor), &write, Paths::PROPS)?;
                self.check_term(&Actor::of(&user), term)?;
                // What a membership that is over has left is forgotten with it.
                let known = self.horizon().max(self.removals.departed(&user));
                self.check_unchanged(
                    &self.members.get(ix).slots,
                    &write,
                    known,
                    "write.if_revision",
                )?;
                if self.still_counts(&user, &write)? {
                    self.write_props(ix, write)?;
                }
                self.open = true;
            }
            Command::UserProps { user, write, hidden } => {
                concerned = self.user_props(&user, write, hidden)?;
            }
            Command::SetData { shared, private, term } => {
                self.check_data(actor, &shared, &private)?;
                self.check_judged(actor, shared.judged)?;
                let paths = (Paths::DATA, Paths::PRIVATE_DATA);
                let rank = self.rank_of(actor);
                self.check_data_format(rank, (&shared, paths.0), (&private, paths.1))?;
                self.check_term(actor, term)?;
                let known = self.horizon();
                self.check_unchanged(&self.data.shared, &shared, known, "if_revision")?;
                self.check_unchanged(&self.data.private, &private, known, "private_if_revision")?;
                self.set_data(actor, shared, private)?;
            }
            Command::SetRole { target, role, user_props } => {
                self.set_role(now, actor, target, role, user_props)?;
            }
            Command::Kick { target, reason } => self.kick(now, actor, &target, reason)?,
            Command::Ban { target, ban } => self.ban(now, actor, target, ban)?,
            Command::ReserveSeats { users, until } => {
                self.reserve_seats(now, actor, users, until)?;
            }
            Command::ReleaseSeats { users } => self.release_seats(actor, &users)?,
            Command::Unban { target } => self.unban(now, actor, &target)?,
            Command::SwapHost { target, term } => self.swap_host(actor, target, term)?,
            Command::SourceSeen { is_present } => {
                self.source_seen(is_present);
                concerned = self.open;
            }
            Command::StreamOpened { user } => {
                let ix = self.member(&user)?;
                self.stream_opened(now, ix);
            }
            Command::StreamClosed { user, membership, lost } => {
                let ix = self.member(&user)?;
                // A user who left and came back has a new membership, which the old stream is
                // nothing to.
                if self.members.membership(&user).is_some_and(|member| member.order == membership) {
                    self.stream_closed(now, ix, lost);
                }
            }
        }
        self.log_info();
        if !is_report {
            self.attribute(happened, actor);
        }
        Ok(Accepted { revision: self.pending_revision(), concerned })
    }

    fn update(&mut self, now: Micros, changes: Vec<Setting>) {
        let names = changes.iter().map(Setting::name).collect();
        self.happened(What::SettingsChanged { names });
        let info = Arc::make_mut(&mut self.accepted);
        for change in changes {
            match change {
                Setting::Password(password) => {
                    info.has_password = password.is_some();
                    self.password = password;
                    self.password_revision = self.revision.next();
                }
                change => Arc::make_mut(&mut info.settings).change(change),
            }
        }
        self.log_settings();
        self.open = true;
        self.settle_emptiness(now);
        self.settle_age();
    }

    /// A term is that of a host: a user who names one believes to be the host.
    fn check_term(&self, writer: &Actor, term: u64) -> Result<(), Refusal> {
        self.check_current(term)?;
        match writer {
            Actor::User(user) if term != 0 && self.accepted.host.as_ref() != Some(user) => {
                Err(Refusal::NotTheHost)
            }
            _ => Ok(()),
        }
    }

    /// Whether a term, where one is named, is the current one.
    fn check_current(&self, term: u64) -> Result<(), Refusal> {
        if term != 0 && self.kind != Kind::Hosted {
            return Err(Refusal::WrongKind);
        }
        if term != 0 && term != self.accepted.term {
            return Err(Refusal::StaleTerm { current: self.accepted.term });
        }
        Ok(())
    }

    /// Whether an actor may do something here, by the table in [`access`].
    pub fn check(&self, actor: &Actor, act: Act) -> Result<(), Refusal> {
        access::check(self.standing(actor), act)
    }

    /// In what capacity an actor acts here.
    pub fn standing(&self, actor: &Actor) -> Standing {
        let Actor::User(user) = actor else {
            return Standing::App;
        };
        match (self.members.membership(user), self.roles.of(user)) {
            (Some(membership), _) => Standing::Joined(user.limit(membership.role)),
            (None, Some(role)) => Standing::Away(user.limit(role)),
            (None, None) => Standing::Outsider,
        }
    }

    /// Whether a user is in the session, as memberships are counted.
    pub fn counts(&self, user: &str) -> bool {
        !self.has_ended() && self.has_joined(user)
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
        self.lifetime.opened_at()
    }

    /// This incarnation of its history.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The epoch in which it was opened, by which sessions are in the order of their opening.
    pub fn born(&self) -> Epoch {
        self.born
    }

    /// The last frame.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// When the last frame was made.
    pub fn last_frame_at(&self) -> Micros {
        self.last_frame_at
    }

    /// The frame that shows everything accepted so far.
    pub fn pending_revision(&self) -> Revision {
        if self.open { self.revision.next() } else { self.revision }
    }

    /// Whether the next [`Session::flush`] makes a frame.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The session is over: nothing is accepted any more.
    pub fn has_ended(&self) -> bool {
        self.lifetime.has_ended()
    }

    /// What readers learn of the session as of the last frame.
    pub fn info(&self) -> &Arc<Info> {
        &self.shown
    }

    /// Shares settings with others that have the same, and all that readers learn of it where that
    /// is the same. False = it has other settings, or something that no frame shows yet.
    pub fn share_info(&mut self, same: &Arc<Info>) -> bool {
        let is_shown = Arc::ptr_eq(&self.accepted, &self.shown);
        if !is_shown || self.accepted.settings != same.settings {
            return false;
        }
        if self.accepted == *same {
            self.accepted = same.clone();
        } else {
            Arc::make_mut(&mut self.accepted).settings = same.settings.clone();
        }
        self.shown = self.accepted.clone();
        true
    }

    /// Shares the id of its app with others.
    pub fn share_app(&mut self, same: &AppId) {
        if self.app == *same {
            self.app = same.clone();
        }
    }

    /// What is accepted and may not be framed yet.
    pub fn accepted_info(&self) -> &Arc<Info> {
        &self.accepted
    }

    /// Takes the list of the users who left since the last call; some may have joined again.
    pub fn take_left(&mut self) -> Vec<UserId> {
        self.take_untold(|untold| &mut untold.left)
    }

    /// The members.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The frame of the last reset, after which nothing is as it was, if there was one.
    pub fn reset_revision(&self) -> Revision {
        self.reset_revision
    }

    /// Deltas can begin at this revision or later.
    pub fn horizon(&self) -> Revision {
        self.removals.horizon
    }
}
