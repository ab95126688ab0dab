//! One framed state of the model, kept forever: what each view shows of it, and what leads from
//! one to the next.

use super::picture::{Change, Changes, Diff, Figure, Picture};
use sessiond::session::{
    Info,
    ids::{Key, UserId},
    limits::Micros,
    member::Departure,
    role::Role,
    settings::{Kind, Settings},
    value::Value,
    view::{Class, View},
};
use std::collections::BTreeMap;

/// The state as of one revision.
#[derive(Debug, Clone)]
pub struct Framed {
    pub kind: Kind,
    pub info: Info,
    pub data: BTreeMap<Key, Value>,
    pub private_data: BTreeMap<Key, Value>,
    pub members: BTreeMap<UserId, FramedMember>,
    /// Who left in this frame, and how at last.
    pub departures: BTreeMap<UserId, Departure>,
}

/// A membership as of one revision.
#[derive(Debug, Clone, PartialEq)]
pub struct FramedMember {
    pub role: Role,
    pub disconnected: bool,
    /// Which membership of the user it is; join order.
    pub order: u64,
    pub joined_at: Micros,
    /// With those that no view shows.
    pub props: BTreeMap<Key, Value>,
}

/// Whether the session shows a key at all.
pub fn selects(settings: &Settings, key: &str) -> bool {
    settings.propnames.is_empty() || settings.propnames.contains(key)
}

/// Whether members of a hosted session see a key of the host.
pub fn selects_of_host(settings: &Settings, key: &str) -> bool {
    match settings.hostprops.is_empty() {
        true => selects(settings, key),
        false => settings.hostprops.contains(key),
    }
}

/// Private sessions have a model of their own in `rules::private`.
pub const SHARED_ONLY: &str = "the model is of shared sessions";

impl Framed {
    /// Whether the view may show this key of this user: the rule of who sees what.
    pub fn may_see(&self, view: &View, user: &UserId, key: &str) -> bool {
        may_see(self.kind, &self.info, view, user, key)
    }

    /// What the view shows.
    pub fn picture(&self, view: &View) -> Picture {
        let sees_private = view.class == Class::Host;
        Picture {
            session: Some(self.info.clone()),
            data: self.data.clone(),
            private_data: if sees_private { self.private_data.clone() } else { BTreeMap::new() },
            members: self
                .members
                .iter()
                .map(|(user, member)| {
                    let figure = Figure {
                        role: member.role,
                        disconnected: member.disconnected,
                        order: member.order,
                        props: self.visible(view, user, member),
                    };
                    (user.to_string(), figure)
                })
                .collect(),
        }
    }

    /// Everything that decides which props the view selects.
    pub fn selection(&self, view: &View) -> impl PartialEq + use<> {
        let Settings { propnames, hostprops, .. } = &*self.info.settings;
        let shown = match (self.kind, view.class) {
            (Kind::Room, _) => vec![propnames],
            (Kind::Hosted, Class::Members) if hostprops.is_empty() => vec![propnames],
            (Kind::Hosted, Class::Members) => vec![hostprops],
            (Kind::Hosted, Class::Host) => vec![propnames, hostprops],
            (Kind::Private, _) => unreachable!("{SHARED_ONLY}"),
        };
        shown.into_iter().cloned().collect::<Vec<_>>()
    }

    /// Users in join order.
    pub fn in_join_order(&self) -> Vec<String> {
        let mut members: Vec<_> = self.members.iter().collect();
        members.sort_by_key(|(_, member)| member.order);
        members.into_iter().map(|(user, _)| user.to_string()).collect()
    }

    /// Whether the user hosts.
    pub fn is_host(&self, user: &str) -> bool {
        self.info.host.as_deref() == Some(user)
    }

    /// Exactly what the next frame sends into the view, if its selection stays the same.
    pub fn changes_to(&self, next: &Framed, view: &View) -> Changes {
        let (before, after) = (self.picture(view), next.picture(view));
        let mut changes = Changes {
            session: (self.info != next.info).then(|| next.info.clone()),
            data: difference(&before.data, &after.data),
            private_data: difference(&before.private_data, &after.private_data),
            ..Changes::default()
        };
        for user in next.members.keys() {
            if let Some(change) = self.change_of(next, user, &before, &after) {
                changes.members.push((user.to_string(), change));
            }
        }
        let gone = self.members.keys().filter(|user| !next.members.contains_key(*user));
        changes.left = gone.map(|user| (user.to_string(), next.departures[user])).collect();
        changes
    }

    fn change_of(
        &self,
        next: &Framed,
        user: &UserId,
        before: &Picture,
        after: &Picture,
    ) -> Option<Change> {
        let new = &after.members[&**user];
        let anew = |replaces| Change {
            replaces,
            role: Some(new.role),
            disconnected: new.disconnected.then_some(true),
            order: Some(new.order),
            props: Diff { set: new.props.clone(), ..Diff::default() },
        };
        let Some(known) = self.members.get(user) else {
            return Some(anew(false));
        };
        let came_back = known.order != next.members[user].order;
        if came_back || self.is_host(user) != next.is_host(user) {
            return Some(anew(true));
        }
        let old = &before.members[&**user];
        let status = (old.role, old.disconnected) != (new.role, new.disconnected);
        let change = Change {
            replaces: false,
            role: status.then_some(new.role),
            disconnected: status.then_some(new.disconnected),
            order: None,
            props: difference(&old.props, &new.props),
        };
        (change != Change::default()).then_some(change)
    }

    /// How many removals of keys, and of members, a session has to remember because of what went from
    /// here to `next`.
    pub fn removals_to(&self, next: &Framed) -> [usize; 2] {
        let gone = |before: &BTreeMap<Key, Value>, after: &BTreeMap<Key, Value>| {
            before.keys().filter(|key| !after.contains_key(*key)).count()
        };
        let stays = |(user, member): (&UserId, &FramedMember)| {
            next.members.get(user).map(|after| gone(&member.props, &after.props))
        };
        let stay: Vec<_> = self.members.iter().filter_map(stays).collect();
        let left = self.members.len() - stay.len();
        let of_data = gone(&self.data, &next.data) + gone(&self.private_data, &next.private_data);
        [stay.iter().sum::<usize>() + of_data, left]
    }

    fn visible(&self, view: &View, user: &UserId, member: &FramedMember) -> BTreeMap<Key, Value> {
        let visible = member.props.iter().filter(|(key, _)| self.may_see(view, user, key));
        visible.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

/// What leads from one map to another.
pub fn difference(before: &BTreeMap<Key, Value>, after: &BTreeMap<Key, Value>) -> Diff {
    let news = after.iter().filter(|(key, value)| before.get(*key) != Some(value));
    Diff {
        set: news.map(|(key, value)| (key.clone(), value.clone())).collect(),
        removed: before.keys().filter(|key| !after.contains_key(*key)).cloned().collect(),
    }
}

/// Whether a view shows a key of somebody, where the session is described like this.
pub fn may_see(kind: Kind, info: &Info, view: &View, user: &UserId, key: &str) -> bool {
    let settings = &info.settings;
    let of_host = info.host.as_ref() == Some(user) && selects_of_host(settings, key);
    let by_class = match (kind, view.class) {
        (Kind::Room, _) => selects(settings, key),
        (Kind::Hosted, Class::Members) => of_host,
        (Kind::Hosted, Class::Host) => of_host || selects(settings, key),
        (Kind::Private, _) => unreachable!("{SHARED_ONLY}"),
    };
    by_class && (view.props.is_empty() || view.props.contains(key))
}
