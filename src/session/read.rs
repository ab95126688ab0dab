//! Questions about single members.

use super::{
    Session,
    ids::UserId,
    member::{Member, Shown},
    revision::Revision,
    role::Role,
    slots::Slot,
    view::{ChangeSink, MemberChange, View},
};

impl Session {
    /// The first member by joining, as of the last frame, among these users and roles; neither =
    /// any member.
    pub fn first_match(&self, users: &[UserId], roles: &[Role]) -> Option<(&Member, &Shown)> {
        let any = users.is_empty() && roles.is_empty();
        let named = users.iter().filter_map(|user| {
            let member = self.members.get(self.members.find(user)?);
            Some((member, member.shown.as_ref()?))
        });
        let by_role = (any || !roles.is_empty()).then(|| self.members.shown());
        let by_role =
            by_role.into_iter().flatten().filter(|(_, shown)| any || roles.contains(&shown.role));
        named.chain(by_role).min_by_key(|(_, shown)| shown.order)
    }

    /// What is accepted of a member and no frame shows yet, as far as the view shows it and goes on
    /// to show it.
    pub fn show_pending<'a>(&'a self, view: &View, user: &str, sink: &mut impl ChangeSink<'a>) {
        let Some(member) = self.members.find(user).map(|ix| self.members.get(ix)) else { return };
        let Some(membership) = &member.now else { return };
        let shown = member.shown.as_ref().filter(|shown| shown.order == membership.order);
        let role =
            (shown.map(|shown| shown.role) != Some(membership.role)).then_some(membership.role);
        let was_disconnected = shown.is_some_and(|shown| shown.disconnected);
        let disconnected = membership.disconnected != was_disconnected;
        let replaces = shown.is_none() && member.shown.is_some();
        // What replaces is all of it.
        let is_news = |slot: &&Slot| {
            if replaces { slot.accepted.is_some() } else { slot.is_pending() }
        };
        let pending = |slot: &&Slot| is_news(slot) && self.sees_pending(view, member, slot);
        let slots: Vec<_> = member.slots.iter().filter(pending).collect();
        if role.is_none() && !disconnected && slots.is_empty() {
            return;
        }
        sink.member(MemberChange {
            user: &member.user,
            replaces,
            role,
            disconnected: disconnected.then_some(membership.disconnected),
            order: shown.is_none().then_some(membership.order),
        });
        for slot in slots {
            sink.prop(self.names.key(slot.key), slot.accepted.as_ref());
        }
    }

    /// What changed of a member after a revision; all of it, marked as replacing, where that cannot
    /// be shown any more, or where who sees what has changed since.
    pub fn show_member_after<'a>(
        &'a self,
        view: &View,
        user: &str,
        after: Revision,
        sink: &mut impl ChangeSink<'a>,
    ) {
        let Some(member) = self.members.find(user).map(|ix| self.members.get(ix)) else { return };
        let Some(shown) = &member.shown else { return };
        if after < self.horizon().max(self.sight_revision) {
            self.show_whole(view, member, shown, true, sink);
        } else if member.changed > after {
            self.show_member(view, after, member, shown, sink);
        }
    }
}
