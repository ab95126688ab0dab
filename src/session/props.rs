//! Writes of users' props.

use super::{
    Session,
    access::Act,
    command::{Actor, Write},
    error::{Faults, Limit, Path, Refusal},
    ids::{Key, UserId},
    member::{MemberIx, Stay},
    names::{KeyIx, Names},
    revision::Revision,
    role::Role,
    schema::{Fields, Paths, default_of, defaults},
    settings::{Kind, Settings},
    slots::Slots,
    value::Value,
};
use smallvec::SmallVec;
use std::collections::BTreeSet;

impl Session {
    /// A user changed its props on itself. Every session takes that, so that a change of the
    /// selection shows it later; it takes a revision only where the selection shows a written key,
    /// and elsewhere only if it is to take `hidden` keys. One with a schema, or whose writes are judged,
    /// takes only what names it.
    pub(super) fn user_props(
        &mut self,
        user: &UserId,
        write: Write,
        hidden: bool,
    ) -> Result<bool, Refusal> {
        let ix = self.member(user)?;
        if self.role_of(ix) < Role::Member || self.check_is_source(user).is_err() {
            return Ok(false);
        }
        let settings = &self.accepted.settings;
        let concerned = write.keys().any(|key| settings.selects(key) || self.selects_of_host(key));
        if self.takes_named_writes_only() {
            return if concerned { Err(Refusal::SessionIdNeeded) } else { Ok(false) };
        }
        let slots = &self.members.get(ix).slots;
        let write = self.merged(slots, write, Paths::PROPS)?;
        self.check_room(slots, &write)?;
        if concerned || hidden {
            self.put_props(ix, write);
            self.open |= concerned;
        }
        Ok(concerned)
    }

    pub(super) fn selects_of_host(&self, key: &str) -> bool {
        self.kind == Kind::Hosted && self.accepted.settings.shows_of_host(key)
    }

    pub(super) fn write_props(&mut self, ix: MemberIx, write: Write) -> Result<(), Refusal> {
        let slots = &self.members.get(ix).slots;
        let write = self.merged(slots, write, Paths::PROPS)?;
        self.check_room(slots, &write)?;
        self.put_props(ix, write);
        Ok(())
    }

    /// The write that replaces where this one merges: into the value that is accepted.
    pub(super) fn merged(
        &self,
        slots: &Slots,
        write: Write,
        paths: Paths,
    ) -> Result<Write, Refusal> {
        write.merged(paths, self.limits.value_bytes, |key| {
            self.names.find(key).and_then(|key| slots.accepted(key))
        })
    }

    pub(super) fn put_props(&mut self, ix: MemberIx, write: Write) {
        let logged = self.keys_to_log(&write);
        let (names, settings) = (&mut self.names, &self.shown.settings);
        let slots = &mut self.members.get_mut(ix).slots;
        let fields = self.accepted.schema.as_deref().map(|schema| &schema.props);
        write_all(slots, write, fields, names, settings);
        self.log_props(ix, logged);
        self.members.mark(ix);
    }

    /// The keys as slots know them, where a member's row of values for them may be put as it is; none
    /// where each write has to be looked at: a format, a judge, a log, another kind, a key that nobody has.
    pub fn columns(&self, keys: &[Key]) -> Option<SmallVec<[KeyIx; 8]>> {
        let is_plain = !self.takes_named_writes_only() && self.log.is_none();
        if !is_plain || self.kind == Kind::Private || self.has_ended() {
            return None;
        }
        keys.iter().map(|key| self.names.find(key)).collect()
    }

    /// Puts a row of values for the keys of [`Session::columns`], of a membership. False = it has to be
    /// written as any other, and nothing is written yet.
    pub fn put_row(
        &mut self,
        (ix, order): (MemberIx, u64),
        keys: &[KeyIx],
        value: impl Fn(usize) -> Value,
    ) -> bool {
        let Some(member) = self.members.try_get_mut(ix) else { return false };
        let may_write =
            member.now.as_ref().is_some_and(|it| it.order == order && it.role >= Role::Member);
        if !may_write || !member.slots.put(keys, value) {
            return false;
        }
        self.members.mark(ix);
        self.open = true;
        true
    }

    /// With what a new member begins: the schema's defaults, or what is set on the user.
    pub(super) fn first_props(&self, user_props: Vec<(Key, Value)>) -> Vec<(Key, Value)> {
        match &self.accepted.schema {
            Some(schema) => defaults(&schema.props),
            None if self.takes_named_writes_only() => Vec::new(),
            None => user_props,
        }
    }

    /// Whether a new member may begin with both what is set on the user and its first props.
    pub(super) fn check_first_props(
        &self,
        user_props: &[(Key, Value)],
        props: &[(Key, Value)],
    ) -> Result<(), Refusal> {
        let user_props = if self.takes_named_writes_only() { &[] } else { user_props };
        let keys: BTreeSet<_> = user_props.iter().chain(props).map(|(key, _)| key).collect();
        self.check_count(keys.len())
    }

    fn check_count(&self, keys: usize) -> Result<(), Refusal> {
        let most = self.limits.props_per_user;
        if keys > most {
            return Err(Refusal::LimitReached { limit: Limit::PropsPerUser, most });
        }
        Ok(())
    }

    /// The member whose props an actor may write: its own, or anybody's for the app.
    pub(super) fn writer(&self, actor: &Actor, user: &UserId) -> Result<MemberIx, Refusal> {
        let ix = self.member(user)?;
        if self.role_of(ix) < Role::Member {
            return Err(Refusal::RoleTooLow { needs: Role::Member });
        }
        self.check(actor, Act::WriteProps)?;
        Ok(ix)
    }

    /// The stay of a member.
    pub fn stay(&self, user: &UserId) -> Option<Stay> {
        let order = self.members.membership(user)?.order;
        Some(Stay { epoch: self.epoch, order, reset: self.reset_revision })
    }

    /// Whether a write that was made in a stay still counts: one of before a reset changes nothing,
    /// as what was pending then. The membership that made it must go on.
    pub(super) fn still_counts(&self, user: &UserId, write: &Write) -> Result<bool, Refusal> {
        let (Some(then), Some(now)) = (write.made_in, self.stay(user)) else { return Ok(true) };
        if (then.epoch, then.order) != (now.epoch, now.order) {
            return Err(Refusal::NotAMember);
        }
        Ok(then.reset == now.reset)
    }

    /// Whether a write without conditions would be refused as things stand.
    pub fn check_write(&self, actor: &Actor, user: &UserId, write: &Write) -> Result<(), Refusal> {
        let ix = self.writer(actor, user)?;
        self.check_is_source(user)?;
        self.check_props_format(self.rank_of(actor), write, Paths::PROPS)?;
        let slots = &self.members.get(ix).slots;
        let write = self.merged(slots, write.clone(), Paths::PROPS)?;
        self.check_room(slots, &write)
    }

    /// Every key that `if_revision` names has not changed in a frame after that revision and has no
    /// change pending. From `known` on it is known when a key went that is not there. Revision 0
    /// says that nothing is shown or pending under the key, whatever was there before.
    pub(super) fn check_unchanged(
        &self,
        slots: &Slots,
        write: &Write,
        known: Revision,
        field: &str,
    ) -> Result<(), Refusal> {
        if write.if_revision.iter().any(|(_, revision)| self.is_unknown(*revision)) {
            return Err(Refusal::UnknownPosition);
        }
        let changed = |(key, revision): &&(Key, Revision)| {
            match (self.names.find(key).and_then(|key| slots.get(key)), *revision) {
                (Some(slot), Revision::NONE) => slot.shown.is_some() || slot.accepted.is_some(),
                (Some(slot), revision) => slot.revision > revision || slot.is_pending(),
                // Removed so long ago that nobody knows when.
                (None, revision) => revision.is_some() && revision < known,
            }
        };
        let (mut lost, root) = (Faults::default(), Path::Root(field));
        for (key, revision) in write.if_revision.iter().filter(changed) {
            let fault = match *revision {
                Revision::NONE => "the key holds a value, or one is pending".to_owned(),
                revision => format!("the key has changed after {revision}"),
            };
            lost.add(Path::Key(&root, key), fault);
        }
        if lost.is_empty() { Ok(()) } else { Err(Refusal::RevisionChanged(lost.close())) }
    }

    /// A user, and each part of the session data, has a bounded number of keys.
    pub(super) fn check_room(&self, slots: &Slots, write: &Write) -> Result<(), Refusal> {
        let count = slots.count();
        if count + write.set.len() <= self.limits.props_per_user {
            return Ok(());
        }
        let holds =
            |key: &Key| self.names.find(key).is_some_and(|key| slots.accepted(key).is_some());
        let more = write.set.iter().filter(|(key, _)| !holds(key)).count();
        let fewer = write.remove.iter().filter(|key| holds(key)).count();
        self.check_count(count + more - fewer)
    }
}

/// Writes all of it. A key that is removed is set back to its default, where there is one.
pub(super) fn write_all(
    slots: &mut Slots,
    write: Write,
    fields: Option<&Fields>,
    names: &mut Names,
    settings: &Settings,
) {
    for (key, value) in write.set {
        slots.write(&key, Some(value), names, settings);
    }
    for key in write.remove {
        let default = default_of(fields, &key).cloned();
        slots.write(&key, default, names, settings);
    }
}
