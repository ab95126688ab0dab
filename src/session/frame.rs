//! What one tick made.

use super::{
    Session,
    limits::Micros,
    member::{Departed, MemberIx, Membership, Shown},
    removals::Gone,
    revision::Revision,
};

/// What one tick made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its revision.
    pub revision: Revision,
    /// Host, owner or the selection of keys changed: members may have come to see another view.
    pub views_changed: bool,
    /// The memberships that ended.
    pub departed: Vec<Departed>,
}

impl Session {
    /// Makes the frame: shows what is accepted. None if nothing was accepted since the last one. The
    /// caller sends every view its changes before the next flush, which may forget removals.
    pub fn flush(&mut self, now: Micros) -> Option<Frame> {
        self.make_frame(now, true)
    }

    /// The same; without values it shows who is there and the info of the session, but nothing that
    /// was written.
    pub(super) fn make_frame(&mut self, now: Micros, values: bool) -> Option<Frame> {
        if !std::mem::take(&mut self.open) {
            return None;
        }
        self.expire_removals(now);
        self.revision = self.revision.next();
        self.last_frame_at = now;
        let revision = self.revision;
        let before = std::mem::replace(&mut self.shown, self.accepted.clone());
        let mut views_changed = false;
        if before != self.shown || revision == Revision::FIRST {
            self.info_revision = revision;
            let sight_changed = before.host != self.shown.host
                || before.settings.propnames != self.shown.settings.propnames
                || before.settings.hostprops != self.shown.settings.hostprops;
            if sight_changed {
                self.sight_revision = revision;
            }
            views_changed = sight_changed || before.owner != self.shown.owner;
            if let Some(names) = self.names.some_mut() {
                names.select(&self.shown.settings);
            }
        }
        if values {
            self.frame_data(now);
        }
        self.frame_members(now, values);
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
        self.shown_seats = self.seats();
        self.seal_log();
        let departed = self.take_untold(|untold| &mut untold.departed);
        Some(Frame { revision, views_changed, departed })
    }

    fn frame_members(&mut self, now: Micros, values: bool) {
        let Some(members) = self.members.some_mut() else { return };
        let marked = members.take_marked();
        for &ix in &marked {
            self.frame_member(now, ix, values);
        }
        self.members.reuse(marked);
    }

    fn frame_member(&mut self, now: Micros, ix: MemberIx, values: bool) {
        let (revision, removals) = (self.revision, &mut self.removals);
        let member = self.members.get_mut(ix);
        let Some(membership) = &member.now else {
            let member = self.members.remove(ix);
            if member.shown.is_some() {
                removals.push(revision, now, Gone::Member(member.user, member.departure));
            }
            return member.slots.dissolve(&mut self.names);
        };
        let mut changed = values
            && member.slots.frame(revision, &mut self.names, |key| {
                removals.push(revision, now, Gone::Prop(ix, key));
            });
        let Membership { role, disconnected, order, joined_at, .. } = *membership;
        let role_before = member.shown.as_ref().map(|shown| shown.role);
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
                    hosting: Revision::NONE,
                });
                changed = true;
            }
        }
        if role_before != Some(role) {
            self.members.show_role(role_before, role);
        }
        if changed {
            self.members.touch(ix, revision);
        }
    }
}
