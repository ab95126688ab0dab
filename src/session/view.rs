//! Who sees what: a view is a function of the framed state.

use super::{
    Info, Session,
    command::Actor,
    ids::UserId,
    log::{Event, Whole},
    member::{Departure, Member, Shown},
    removals::Gone,
    revision::Revision,
    role::Role,
    settings::{Keys, Kind},
    slots::Slot,
    value::Value,
};

/// Whose eyes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Ordinary members. Room: everyone's `propnames`. Hosted: the host's `hostprops`.
    Members,
    /// The host; in a room the owner; in a private session the source; the app. Everyone's `propnames`, what the
    /// members see of the host, and the private session data.
    Host,
}

impl Class {
    /// Whether its readers see the private session data.
    pub fn sees_private_data(self) -> bool {
        self == Self::Host
    }
}

/// A class of readers; everyone in it receives the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Whose eyes.
    pub class: Class,
    /// Only these keys of props; empty = all that the class sees.
    pub props: Keys,
}

impl View {
    fn names(&self, key: &str) -> bool {
        self.props.is_empty() || self.props.contains(key)
    }
}

/// Takes in what a view shows, in this order: session, data, private data, members one after the
/// other (`member`, then its `prop`s), departures. A value of none is a removal. Members and their
/// props live as long as `'a`, so that a sink may arrange them before it is done with them.
pub trait ChangeSink<'a> {
    /// Something of the session's description changed; of its schema the view sees the format of
    /// the private data where it sees the data itself.
    fn session(&mut self, session: &Session, info: &Info, class: Class);
    /// Shared session data.
    fn data(&mut self, key: &str, value: Option<&Value>);
    /// Private session data.
    fn private_data(&mut self, key: &str, value: Option<&Value>);
    /// A member changed; its props follow.
    fn member(&mut self, change: MemberChange<'a>);
    /// A prop of the last `member`.
    fn prop(&mut self, key: &'a str, value: Option<&'a Value>);
    /// The same, for a sink that shows props in columns.
    fn cell(&mut self, cell: Cell<'a>, value: Option<&'a Value>) {
        self.prop(cell.key, value);
    }
    /// A member left.
    fn left(&mut self, user: &str, departure: Departure);
}

/// Where a prop of a member stands among all props of all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell<'a> {
    /// The member, by [`super::member::Membership::order`].
    pub member: u64,
    /// The key.
    pub key: &'a str,
    /// The number of the key: no other key of the session ever has it.
    pub number: u64,
    /// The reader may not know whose number it is. It knows that of every value that it is shown
    /// already.
    pub is_news: bool,
}

/// What changed about a member beside its props.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberChange<'a> {
    /// Who.
    pub user: &'a UserId,
    /// Forget what is known of the member first.
    pub replaces: bool,
    /// The role, if it changed.
    pub role: Option<Role>,
    /// Whether it is disconnected, if that changed.
    pub disconnected: Option<bool>,
    /// Where the membership stands in join order, as [`super::member::Membership::order`]; named
    /// wherever this is all of the member, as then nobody need know it.
    pub order: Option<u64>,
}

impl Session {
    /// The class that an actor belongs to, as of the last frame.
    pub fn class_of(&self, actor: &Actor) -> Class {
        self.class_in(&self.shown, actor)
    }

    /// The class in which an actor sees what no frame shows yet: a user who has handed the hosting
    /// on sees it as the member that it is from the next frame on.
    pub fn class_of_pending(&self, actor: &Actor) -> Class {
        match self.class_in(&self.accepted, actor) {
            Class::Host => self.class_of(actor),
            Class::Members => Class::Members,
        }
    }

    fn class_in(&self, info: &Info, actor: &Actor) -> Class {
        let Actor::User(user) = actor else {
            return Class::Host;
        };
        let is_keeper = self.keeper_in(info) == Some(user.id());
        // A user who may not act as an owner does not see what only the owner sees.
        let may_see = self.kind != Kind::Room || user.limit(Role::Owner) == Role::Owner;
        if is_keeper && may_see { Class::Host } else { Class::Members }
    }

    /// The user in the host's class, as of the last frame.
    pub fn keeper(&self) -> Option<&UserId> {
        self.keeper_in(&self.shown)
    }

    fn keeper_in<'a>(&'a self, info: &'a Info) -> Option<&'a UserId> {
        match self.kind {
            Kind::Hosted => info.host.as_ref(),
            Kind::Room => info.owner.as_ref(),
            Kind::Private => self.pair().map(|pair| &pair.source),
        }
    }

    /// Whether an actor may know of the session. The app may, and everybody if it is listed; else
    /// those who have joined, and its insiders.
    pub fn is_visible_to(&self, actor: &Actor) -> bool {
        match actor {
            Actor::App => true,
            Actor::User(user) => self.is_listed() || self.is_known_to(user),
        }
    }

    /// Whether a user may know of the session, listed or not.
    pub fn is_known_to(&self, user: &UserId) -> bool {
        self.is_insider(user) || self.members.membership(user).is_some()
    }

    /// Whether everybody may know of the session. It is listed from the frame on that shows it so, as
    /// people outside are shown nothing of the time before, and until an update is accepted that hides
    /// it.
    pub fn is_listed(&self) -> bool {
        let unlisted = self.accepted.settings.unlisted || self.shown.settings.unlisted;
        self.pair.is_none() && !unlisted
    }

    /// Whether a user may know of the session without having joined it, listed or not: by a role, and
    /// of a private one as its source or listener, or by a role from moderator on.
    fn is_insider(&self, user: &str) -> bool {
        let role = self.roles.of(user);
        match &self.pair {
            None => role.is_some(),
            Some(pair) => {
                *pair.source == *user || *pair.listener == *user || role >= Some(Role::Moderator)
            }
        }
    }

    /// The users who may know of the session, listed or not; some may come twice.
    pub fn knowers(&self) -> impl Iterator<Item = &UserId> {
        let pair = self.pair.iter().flat_map(|pair| [&pair.source, &pair.listener]);
        let insiders = self.roles.users().chain(pair).filter(|user| self.is_insider(user));
        insiders.chain(self.members.joined().map(|(_, user, _)| user))
    }

    /// Notes that somebody may have come to know of the session, or not know of it any more. What
    /// everybody knows of need not be noted, unless the frame that shows it as listed is the last one:
    /// that may not be shown yet.
    pub(super) fn sight_may_change(&mut self, user: &UserId) {
        if !self.is_listed() || self.info_revision == self.revision {
            self.untold.sight_changed.push(user.clone());
        }
    }

    /// Takes the list of users who may have come to know of the session, or not know of it any more,
    /// since the last call, as long as it is not listed.
    pub fn take_sight_changes(&mut self) -> Vec<UserId> {
        let mut users = self.take_untold(|untold| &mut untold.sight_changed);
        users.extend(self.roles.take(|roles| &mut roles.changed));
        users
    }

    /// Whether the default of a prop is sent: it is what the prop holds until it is written, so a
    /// reader who sees the one gets the other. People outside see nothing.
    pub fn tells_default(&self, info: &Info, class: Option<Class>, key: &str) -> bool {
        let settings = &info.settings;
        match (self.kind, class) {
            (_, None) => false,
            (Kind::Hosted, Some(Class::Members)) => settings.shows_of_host(key),
            (Kind::Hosted, Some(Class::Host)) => {
                settings.selects(key) || settings.shows_of_host(key)
            }
            (Kind::Room | Kind::Private, Some(_)) => settings.selects(key),
        }
    }

    /// Whether somebody who knows the id or the name may try to join: of an unlisted session that is
    /// enough.
    pub fn is_open_to(&self, user: &UserId) -> bool {
        self.pair().is_none() || self.is_visible_to(&Actor::of(user))
    }

    /// Shows a whole view, members in join order.
    pub fn show_all<'a>(&'a self, view: &View, sink: &mut impl ChangeSink<'a>) {
        sink.session(self, &self.shown, view.class);
        let value = |slot: &'_ Slot| slot.shown.is_some();
        for slot in self.data.shared.iter().filter(|slot| value(slot)) {
            sink.data(self.names.key(slot.key), slot.shown.as_ref());
        }
        if view.class.sees_private_data() {
            for slot in self.data.private.iter().filter(|slot| value(slot)) {
                sink.private_data(self.names.key(slot.key), slot.shown.as_ref());
            }
        }
        let mut members: Vec<_> = self.members.shown().collect();
        members.sort_unstable_by_key(|(_, shown)| shown.order);
        for (member, shown) in members {
            self.show_whole(view, member, shown, false, sink);
        }
    }

    /// Shows what changed in a view after revision `from`, which must not be before
    /// [`Session::horizon`] unless the view showed no change since.
    pub fn show_changes<'a>(&'a self, view: &View, from: Revision, sink: &mut impl ChangeSink<'a>) {
        if self.info_revision > from {
            sink.session(self, &self.shown, view.class);
        }
        if self.data.revision > from {
            for slot in self.data.shared.iter().filter(|slot| slot.revision > from) {
                sink.data(self.names.key(slot.key), slot.shown.as_ref());
            }
            if view.class.sees_private_data() {
                for slot in self.data.private.iter().filter(|slot| slot.revision > from) {
                    sink.private_data(self.names.key(slot.key), slot.shown.as_ref());
                }
            }
        }
        for (member, shown) in self.members.changed_after(from) {
            self.show_member(view, from, member, shown, sink);
        }
        self.show_departures(from, sink);
    }

    /// Shows the users who have left after revision `from` and are not back, as far as that is remembered.
    pub fn show_departures<'a>(&self, from: Revision, sink: &mut impl ChangeSink<'a>) {
        for (user, departure) in self.departures_after(from) {
            sink.left(user, departure);
        }
    }

    /// Whether [`Session::show_departures`] shows anybody.
    pub fn has_departures(&self, from: Revision) -> bool {
        self.departures_after(from).next().is_some()
    }

    fn departures_after(&self, from: Revision) -> impl Iterator<Item = (&UserId, Departure)> {
        let is_back = |user: &UserId| {
            self.members.find(user).is_some_and(|ix| self.members.get(ix).shown.is_some())
        };
        self.removals.departures_after(from).filter(move |(user, _)| !is_back(user))
    }

    pub(super) fn show_member<'a>(
        &'a self,
        view: &View,
        from: Revision,
        member: &'a Member,
        shown: &'a Shown,
        sink: &mut impl ChangeSink<'a>,
    ) {
        let other_props = self.kind == Kind::Hosted && shown.hosting > from;
        if shown.joined > from || other_props {
            let replaces = shown.replaces > from || shown.joined <= from;
            return self.show_whole(view, member, shown, replaces, sink);
        }
        let status = shown.status > from;
        let mut begun = false;
        let mut begin = |sink: &mut _| {
            if !std::mem::replace(&mut begun, true) {
                ChangeSink::member(
                    sink,
                    MemberChange {
                        user: &member.user,
                        replaces: false,
                        role: status.then_some(shown.role),
                        disconnected: status.then_some(shown.disconnected),
                        order: None,
                    },
                );
            }
        };
        if status {
            begin(sink);
        }
        for slot in member.slots.iter().filter(|slot| slot.revision > from) {
            if self.sees(view, member, slot) {
                begin(sink);
                sink.cell(self.cell(shown, slot, from), slot.shown.as_ref());
            }
        }
    }

    /// A prop, for a reader who has come to a revision. If no member has come to show the key since
    /// then, the reader was shown a value of it before, and knows its number.
    fn cell(&self, shown: &Shown, slot: &Slot, from: Revision) -> Cell<'_> {
        Cell {
            member: shown.order,
            key: self.names.key(slot.key),
            number: self.names.serial(slot.key),
            is_news: self.names.news(slot.key) > from,
        }
    }

    pub(super) fn show_whole<'a>(
        &'a self,
        view: &View,
        member: &'a Member,
        shown: &'a Shown,
        replaces: bool,
        sink: &mut impl ChangeSink<'a>,
    ) {
        sink.member(MemberChange {
            user: &member.user,
            replaces,
            role: Some(shown.role),
            disconnected: shown.disconnected.then_some(true),
            order: Some(shown.order),
        });
        for slot in member.slots.iter() {
            if slot.shown.is_some() && self.sees(view, member, slot) {
                // Any of it may not have been shown before.
                sink.cell(self.cell(shown, slot, Revision::NONE), slot.shown.as_ref());
            }
        }
    }

    /// Shows what a view sees of an update of the log; nothing where it sees nothing.
    pub fn show_logged<'a>(
        &'a self,
        view: &View,
        event: &'a Event,
        sink: &mut impl ChangeSink<'a>,
    ) {
        let sees_private = view.class.sees_private_data();
        match event {
            Event::Props { user, of_host, values } => {
                let mut begun = false;
                for (key, value) in values {
                    if !self.sees_logged(view, user, *of_host, key) {
                        continue;
                    }
                    if !std::mem::replace(&mut begun, true) {
                        let (replaces, role, disconnected, order) = (false, None, None, None);
                        sink.member(MemberChange { user, replaces, role, disconnected, order });
                    }
                    sink.prop(key, value.as_ref());
                }
            }
            Event::Data { shared, private } => {
                for (key, value) in shared {
                    sink.data(key, value.as_ref());
                }
                for (key, value) in private.iter().filter(|_| sees_private) {
                    sink.private_data(key, value.as_ref());
                }
            }
            Event::Joined(who) => self.show_logged_whole(view, who, false, sink),
            Event::Status { user, role, disconnected } => {
                let (replaces, order) = (false, None);
                let (role, disconnected) = (Some(*role), Some(*disconnected));
                sink.member(MemberChange { user, replaces, role, disconnected, order });
            }
            Event::Left { user, departure } => sink.left(user, *departure),
            Event::Info(info) => sink.session(self, info, view.class),
            Event::Swap { info, hosts } => {
                sink.session(self, info, view.class);
                for who in hosts {
                    self.show_logged_whole(view, who, true, sink);
                }
            }
        }
    }

    fn show_logged_whole<'a>(
        &'a self,
        view: &View,
        who: &'a Whole,
        replaces: bool,
        sink: &mut impl ChangeSink<'a>,
    ) {
        sink.member(MemberChange {
            user: &who.user,
            replaces,
            role: Some(who.role),
            disconnected: who.disconnected.then_some(true),
            order: Some(who.order),
        });
        for (key, value) in &who.props {
            if self.sees_logged(view, &who.user, who.of_host, key) {
                sink.prop(key, Some(value));
            }
        }
    }

    /// Whether the view shows this prop of this member.
    pub(super) fn sees(&self, view: &View, member: &Member, slot: &Slot) -> bool {
        let (names, key) = (&self.names, slot.key);
        let is_host = || self.shown.host.as_ref() == Some(&member.user);
        let (selected, of_host) = (|| names.is_selected(key), || names.is_of_host(key));
        self.class_sees(view.class, &member.user, selected, of_host, is_host)
            && view.names(names.key(key))
    }

    /// Whether the view shows this prop of this member now, and will when the open frame is closed.
    pub(super) fn sees_pending(&self, view: &View, member: &Member, slot: &Slot) -> bool {
        let (key, next) = (self.names.key(slot.key), &self.accepted);
        let is_host = || next.host.as_ref() == Some(&member.user);
        let selected = || next.settings.selects(key);
        let of_host = || next.settings.shows_of_host(key);
        self.sees(view, member, slot)
            && self.class_sees(view.class, &member.user, selected, of_host, is_host)
    }

    /// Whether the view shows a prop in the log, of somebody who was host then or not. It goes by the
    /// selection of now: a reader that got it by another one gets everything again.
    fn sees_logged(&self, view: &View, user: &UserId, is_host: bool, key: &str) -> bool {
        let settings = &self.shown.settings;
        let (selected, of_host) = (|| settings.selects(key), || settings.shows_of_host(key));
        self.class_sees(view.class, user, selected, of_host, || is_host) && view.names(key)
    }

    /// The one rule of whose props are shown to whom.
    fn class_sees(
        &self,
        class: Class,
        user: &UserId,
        is_selected: impl Fn() -> bool,
        is_of_host: impl Fn() -> bool,
        is_host: impl Fn() -> bool,
    ) -> bool {
        match (self.kind, class) {
            (Kind::Room, _) => is_selected(),
            (Kind::Private, _) => self.is_source(user) && is_selected(),
            (Kind::Hosted, Class::Members) => is_of_host() && is_host(),
            (Kind::Hosted, Class::Host) => is_selected() || (is_of_host() && is_host()),
        }
    }

    /// Forgets removals that are over the bounds.
    pub(super) fn expire_removals(&mut self, now: super::limits::Micros) {
        while let Some(removals) = self.removals.some_mut()
            && let Some((revision, gone)) = removals.expire(now, &self.limits)
        {
            self.forget(revision, gone);
        }
    }

    /// Forgets what went at a revision.
    pub(super) fn forget(&mut self, revision: Revision, gone: Gone) {
        let needed = match gone {
            Gone::Member(..) => true,
            Gone::Nothing => false,
            Gone::Data(key) => self.data.shared.forget(key, revision, &mut self.names),
            Gone::PrivateData(key) => self.data.private.forget(key, revision, &mut self.names),
            Gone::Prop(ix, key) => match self.members.try_get_mut(ix) {
                Some(member) => member.slots.forget(key, revision, &mut self.names),
                None => false,
            },
        };
        if needed {
            self.removals.horizon = self.removals.horizon.max(revision);
        }
    }
}
