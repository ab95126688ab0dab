//! What is noted in the log while somebody listens to every accepted write. Without a listener none
//! of it costs more than a look whether there is a log.

use super::{
    Session,
    command::{Actor, Write},
    deadline::Deadline,
    ids::{Key, UserId},
    limits::Micros,
    log::{Event, Eyes, Log, Values, Whole},
    member::{Departure, MemberIx},
    revision::Revision,
    settings::Kind,
    slots::Slots,
    view::{Class, View},
};

impl Session {
    /// Somebody subscribes to all: there is a log from the next frame on. What is accepted already
    /// is not in it, so the caller closes the open frame first.
    pub fn keep_log(&mut self) {
        match &mut self.log {
            Some(_) => self.deadlines.set(Deadline::Log, None),
            None => {
                let info = self.accepted.clone();
                let mut log = Log::new(self.shown_from(), info, self.eyes(), &self.limits);
                if self.open {
                    log.cut();
                }
                self.log = Some(Box::new(log));
            }
        }
    }

    /// Nobody subscribes to all any more: the log stays for a while, for those who come back.
    pub fn release_log(&mut self, now: Micros) {
        if self.log.is_some() && self.deadlines.at(Deadline::Log).is_none() {
            self.deadlines.set(Deadline::Log, Some(now + self.limits.log_memory));
        }
    }

    /// Every frame after this revision can be sent update by update.
    pub fn log_start(&self) -> Revision {
        self.log.as_ref().map_or_else(|| self.shown_from(), |log| log.start)
    }

    /// Whether an actor in the class of a view has seen by the same rules ever since a revision, so
    /// that it may get all updates since. A member gets none of before it joined.
    pub fn log_fits(&self, actor: &Actor, view: &View, revision: Revision) -> bool {
        let Some(log) = &self.log else { return true };
        let member = actor.user().and_then(|user| self.members.find(user));
        let shown = member.and_then(|ix| self.members.get(ix).shown.as_ref());
        let keeps = view.class == Class::Host && *actor != Actor::App;
        revision >= log.since[view.class as usize]
            && shown.is_none_or(|shown| revision >= shown.joined)
            && !(keeps && revision < log.keeper_since)
    }

    /// The updates of the frames after a revision, which must not be before
    /// [`Session::log_start`]; [`Session::show_logged`] shows what a view sees of one.
    pub fn logged_after(&self, revision: Revision) -> impl Iterator<Item = (Revision, &Event)> {
        self.log.iter().flat_map(move |log| log.after(revision))
    }

    /// Bytes of the log.
    pub fn log_bytes(&self) -> usize {
        self.log.as_ref().map_or(0, |log| log.bytes())
    }

    /// Forgets the oldest updates, so that no more bytes are left.
    pub fn shorten_log(&mut self, most_bytes: usize) {
        if let Some(log) = &mut self.log {
            log.shorten(most_bytes);
        }
    }

    /// Nothing up to the next frame can be sent one by one.
    pub(super) fn cut_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.cut();
        }
    }

    /// Whether there is a log.
    pub fn has_log(&self) -> bool {
        self.log.is_some()
    }

    /// Whether any view shows a prop of this name, as of the last frame: a view that comes to see
    /// others with the next one is sent from the start anyway.
    pub(super) fn is_logged(&self, key: &str) -> bool {
        let settings = &self.shown.settings;
        settings.selects(key) || (self.kind == Kind::Hosted && settings.shows_of_host(key))
    }

    /// The keys of a write of props, for [`Session::log_props`] once it is done.
    pub(super) fn keys_to_log(&self, write: &Write) -> Vec<Key> {
        match &self.log {
            None => Vec::new(),
            Some(_) => write.keys().filter(|key| self.is_logged(key)).cloned().collect(),
        }
    }

    /// Props were written: what is accepted of them now is noted.
    pub(super) fn log_props(&mut self, ix: MemberIx, keys: Vec<Key>) {
        let Some(log) = self.log.as_mut().filter(|_| !keys.is_empty()) else { return };
        let member = self.members.get(ix);
        let (names, slots) = (&self.names, &member.slots);
        let accepted = |key: &Key| names.find(key).and_then(|key| slots.accepted(key)).cloned();
        let values: Values = keys.into_iter().map(|key| (key.clone(), accepted(&key))).collect();
        let of_host = self.accepted.host.as_ref() == Some(&member.user);
        log.push(Event::Props { user: member.user.clone(), of_host, values });
    }

    /// A member is about to lose all its props and stays.
    pub(super) fn log_cleared(&mut self, ix: MemberIx) {
        let Some(who) = self.log.as_ref().and_then(|_| self.whole(ix)) else { return };
        let values: Values = who.props.into_iter().map(|(key, _)| (key, None)).collect();
        if let Some(log) = self.log.as_mut().filter(|_| !values.is_empty()) {
            log.push(Event::Props { user: who.user, of_host: who.of_host, values });
        }
    }

    /// The keys of a write of data, for [`Session::log_data`] once it is done.
    pub(super) fn data_keys_to_log(&self, shared: &Write, private: &Write) -> [Vec<Key>; 2] {
        match &self.log {
            None => Default::default(),
            Some(_) => [shared, private].map(|write| write.keys().cloned().collect()),
        }
    }

    /// Session data was written.
    pub(super) fn log_data(&mut self, [shared, private]: [Vec<Key>; 2]) {
        if shared.is_empty() && private.is_empty() {
            return;
        }
        let Some(log) = &mut self.log else { return };
        let names = &self.names;
        let values = |slots: &Slots, keys: Vec<Key>| -> Values {
            let accepted = |key: &Key| names.find(key).and_then(|key| slots.accepted(key)).cloned();
            keys.into_iter().map(|key| (key.clone(), accepted(&key))).collect()
        };
        let (shared, private) =
            (values(&self.data.shared, shared), values(&self.data.private, private));
        log.push(Event::Data { shared, private });
    }

    /// Somebody joined.
    pub(super) fn log_joined(&mut self, ix: MemberIx) {
        let Some(who) = self.log.as_ref().and_then(|_| self.whole(ix)) else { return };
        if let Some(log) = &mut self.log {
            log.push(Event::Joined(who));
        }
    }

    /// Role or connection of a member changed.
    pub(super) fn log_status(&mut self, ix: MemberIx) {
        let Some(log) = &mut self.log else { return };
        let member = self.members.get(ix);
        if let Some(now) = &member.now {
            let (role, disconnected) = (now.role, now.disconnected);
            log.push(Event::Status { user: member.user.clone(), role, disconnected });
        }
    }

    /// Somebody left.
    pub(super) fn log_left(&mut self, user: &UserId, departure: Departure) {
        if let Some(log) = &mut self.log {
            log.push(Event::Left { user: user.clone(), departure });
        }
    }

    /// The host changed; both are sent again.
    pub(super) fn log_swap(&mut self, old: Option<UserId>) {
        if self.log.is_none() {
            return;
        }
        let info = self.accepted.clone();
        let hosts = [old.as_ref(), info.host.as_ref()].into_iter().flatten();
        let hosts = hosts.filter_map(|host| self.whole(self.members.find(host)?)).collect();
        if let Some(log) = &mut self.log {
            log.push(Event::Swap { info, hosts });
        }
    }

    /// The settings were written, changed or not.
    pub(super) fn log_settings(&mut self) {
        if let Some(log) = &mut self.log {
            log.push(Event::Info(self.accepted.clone()));
        }
    }

    /// Something was done that may have changed what readers learn of the session.
    pub(super) fn log_info(&mut self) {
        if let Some(log) = &self.log
            && log.info != self.accepted
        {
            self.log_settings();
        }
    }

    /// What a user wrote into its props and no frame shows yet is taken back.
    pub(super) fn cut_log_of(&mut self, user: &UserId) {
        if self.log.as_ref().is_some_and(|log| log.tells_props_of(user)) {
            self.cut_log();
        }
    }

    /// The frame is made: its updates are sent under its revision.
    pub(super) fn seal_log(&mut self) {
        if self.log.is_none() {
            return;
        }
        let (eyes, revision) = (self.eyes(), self.revision);
        let Some(log) = &mut self.log else { return };
        log.seal(revision);
        for (class, since) in log.since.iter_mut().enumerate() {
            if log.eyes.prints[class] != eyes.prints[class] {
                *since = revision;
            }
        }
        if log.eyes.keeper != eyes.keeper {
            log.keeper_since = revision;
        }
        log.eyes = eyes;
    }

    fn eyes(&self) -> Eyes {
        let view = |class| View { class, props: Default::default() };
        let print = |class| self.fingerprint(&view(class), None);
        Eyes { prints: [print(Class::Members), print(Class::Host)], keeper: self.keeper().cloned() }
    }

    /// All that is accepted of a member.
    pub(super) fn whole(&self, ix: MemberIx) -> Option<Whole> {
        let member = self.members.get(ix);
        let now = member.now.as_ref()?;
        let accepted = member.slots.all_accepted();
        let props = accepted.map(|(key, value)| (self.names.key(key).clone(), value.clone()));
        Some(Whole {
            user: member.user.clone(),
            of_host: self.accepted.host.as_ref() == Some(&member.user),
            order: now.order,
            role: now.role,
            disconnected: now.disconnected,
            props: props.filter(|(key, _)| self.is_logged(key)).collect(),
        })
    }
}
