//! What the updates of the open frame lead to, tried before they are told: somebody who applies them
//! one by one has to end where the frame does.

use super::{
    Info, Session,
    ids::{Key, UserId},
    log::{Event, Values, Whole},
    member::{Member, MemberIx, Membership},
    role::Role,
    slots::Slots,
    value::Value,
};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// The last frame, with what was applied since.
pub struct Replay<'a> {
    session: &'a Session,
    info: Arc<Info>,
    members: FxHashMap<UserId, Replayed>,
    data: FxHashMap<(bool, Key), Option<Value>>,
}

/// A member as it is known to somebody who applied everything.
#[derive(Debug, Clone)]
struct Replayed {
    status: Option<Status>,
    /// The membership is the one that the last frame shows, and so are the props that are not named.
    goes_on: bool,
    props: FxHashMap<Key, Option<Value>>,
}

#[derive(Debug, Clone, Copy)]
struct Status {
    order: u64,
    role: Role,
    disconnected: bool,
}

impl<'a> Replay<'a> {
    pub fn new(session: &'a Session) -> Self {
        Self {
            session,
            info: session.shown.clone(),
            members: FxHashMap::default(),
            data: FxHashMap::default(),
        }
    }

    /// Applies an update. A swap comes to know what it shows of the hosts.
    pub fn apply(&mut self, event: &mut Event) {
        match event {
            Event::Props { user, values, .. } => {
                self.member(user).props.extend(values.iter().cloned());
            }
            Event::Data { shared, private, .. } => {
                for (is_private, values) in [(false, shared), (true, private)] {
                    let values = values.iter().cloned();
                    self.data.extend(values.map(|(key, value)| ((is_private, key), value)));
                }
            }
            Event::Joined { who, .. } => {
                let Whole { order, role, disconnected, .. } = *who;
                let props = who.props.iter();
                let joined = Replayed {
                    status: Some(Status { order, role, disconnected }),
                    goes_on: false,
                    props: props.map(|(key, value)| (key.clone(), Some(value.clone()))).collect(),
                };
                self.members.insert(who.user.clone(), joined);
            }
            Event::Status { user, role, disconnected } => {
                if let Some(status) = &mut self.member(user).status {
                    (status.role, status.disconnected) = (*role, *disconnected);
                }
            }
            Event::Left { user, .. } => {
                let gone = Replayed { status: None, goes_on: false, props: FxHashMap::default() };
                self.members.insert(user.clone(), gone);
            }
            Event::Info(info) => self.info = info.clone(),
            Event::Swap { info, hosts, shown } => {
                self.info = info.clone();
                let hosts = hosts.iter().flatten();
                *shown = hosts.filter_map(|host| self.whole(host)).collect();
            }
        }
    }

    /// What else has to be told so that it leads to what is accepted.
    pub fn corrections(mut self) -> Vec<Event> {
        let session = self.session;
        let mut events = Vec::new();
        for &ix in session.members.marked() {
            self.correct_member(ix, &mut events);
        }
        let [shared, private] = [(false, &session.data), (true, &session.private_data)]
            .map(|(is_private, slots)| self.data_left(is_private, slots));
        if !(shared.is_empty() && private.is_empty()) {
            events.push(Event::Data { writer: None, shared, private, merges: false });
        }
        let accepted = &session.accepted;
        if self.info.host != accepted.host {
            let hosts = [self.info.host.clone(), accepted.host.clone()];
            let is_in = |host: &&UserId| session.members.membership(host).is_some();
            let shown = hosts.iter().flatten().filter(is_in);
            let shown = shown.filter_map(|host| session.whole(session.members.find(host)?));
            let shown = shown.collect();
            events.push(Event::Swap { info: accepted.clone(), hosts, shown });
        } else if self.info != *accepted {
            events.push(Event::Info(accepted.clone()));
        }
        events
    }

    fn correct_member(&mut self, ix: MemberIx, events: &mut Vec<Event>) {
        let session = self.session;
        let member = session.members.get(ix);
        let of_host = self.info.host.as_ref() == Some(&member.user);
        let known = self.member(&member.user).clone();
        let user = member.user.clone();
        let Some(Membership { order, role, disconnected, .. }) = member.now else {
            if known.status.is_some() {
                events.push(Event::Left { user, departure: member.departure });
            }
            return;
        };
        let Some(status) = known.status.filter(|status| status.order == order) else {
            if let Some(who) = session.whole(ix) {
                let replaces = known.status.is_some();
                events.push(Event::Joined { who: Whole { of_host, ..who }, replaces });
            }
            return;
        };
        if (status.role, status.disconnected) != (role, disconnected) {
            events.push(Event::Status { user: user.clone(), role, disconnected });
        }
        let values = self.props_left(&known, member);
        if !values.is_empty() {
            events.push(Event::Props { user, of_host, values });
        }
    }

    fn props_left(&self, known: &Replayed, member: &Member) -> Values {
        let session = self.session;
        let mut values = Vec::new();
        for slot in member.slots.iter() {
            let key = session.names.key(slot.key);
            let replayed = match known.props.get(key) {
                Some(value) => value.as_ref(),
                None => slot.shown.as_ref().filter(|_| known.goes_on),
            };
            if replayed != slot.accepted.as_ref() && session.is_logged(key) {
                values.push((key.clone(), slot.accepted.clone()));
            }
        }
        // What was set and removed again may have no slot any more.
        let set = known.props.iter().filter(|(_, value)| value.is_some());
        let is_gone = |key: &Key| {
            let slot = session.names.find(key).and_then(|key| member.slots.get(key));
            slot.is_none()
        };
        values.extend(set.filter(|(key, _)| is_gone(key)).map(|(key, _)| (key.clone(), None)));
        values
    }

    fn data_left(&self, is_private: bool, slots: &Slots) -> Values {
        let names = &self.session.names;
        let mut values = Vec::new();
        for slot in slots.iter() {
            let key = names.key(slot.key);
            let replayed = match self.data.get(&(is_private, key.clone())) {
                Some(value) => value.as_ref(),
                None => slot.shown.as_ref(),
            };
            if replayed != slot.accepted.as_ref() {
                values.push((key.clone(), slot.accepted.clone()));
            }
        }
        for ((of_private, key), value) in &self.data {
            let is_gone = || names.find(key).and_then(|key| slots.get(key)).is_none();
            if *of_private == is_private && value.is_some() && is_gone() {
                values.push((key.clone(), None));
            }
        }
        values
    }

    /// A member as of now; as the last frame shows it, if nothing was applied yet.
    fn member(&mut self, user: &UserId) -> &mut Replayed {
        let session = self.session;
        self.members.entry(user.clone()).or_insert_with(|| {
            let member = session.members.find(user).map(|ix| session.members.get(ix));
            let shown = member.and_then(|member| member.shown.as_ref());
            Replayed {
                status: shown.map(|shown| Status {
                    order: shown.order,
                    role: shown.role,
                    disconnected: shown.disconnected,
                }),
                goes_on: true,
                props: FxHashMap::default(),
            }
        })
    }

    /// All that is known of a member, if it is one.
    fn whole(&mut self, user: &UserId) -> Option<Whole> {
        let of_host = self.info.host.as_ref() == Some(user);
        let session = self.session;
        let known = self.member(user);
        let Status { order, role, disconnected } = known.status?;
        let mut props = Vec::new();
        if known.goes_on
            && let Some(ix) = session.members.find(user)
        {
            for slot in session.members.get(ix).slots.iter() {
                let key = session.names.key(slot.key);
                let value = slot.shown.as_ref().filter(|_| !known.props.contains_key(key));
                props.extend(value.map(|value| (key.clone(), value.clone())));
            }
        }
        let set = known.props.iter();
        props.extend(set.filter_map(|(key, value)| Some((key.clone(), value.clone()?))));
        props.retain(|(key, _)| session.is_logged(key));
        props.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Some(Whole { user: user.clone(), of_host, order, role, disconnected, props })
    }
}
