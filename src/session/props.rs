//! Writes of users' props.

use super::{
    Session,
    command::{Actor, Write},
    error::{Faults, Path, Refusal},
    ids::{Key, UserId},
    member::MemberIx,
    names::Names,
    role::{Act, Role},
    schema::Paths,
    settings::{Kind, Settings},
    slots::{Layer, Slots},
};

impl Session {
    /// A user changed its props on itself. Every session keeps them, so that a change of the
    /// selection shows them; it takes a revision only where the selection shows a written key. One
    /// with a schema takes only what names it.
    pub(super) fn user_props(&mut self, user: &UserId, write: Write) -> Result<bool, Refusal> {
        let ix = self.member(user)?;
        if self.role_of(ix) < Role::Member || self.check_is_source(user).is_err() {
            return Ok(false);
        }
        let settings = &self.accepted.settings;
        let concerned = write.keys().any(|key| settings.selects(key) || self.selects_of_host(key));
        if self.accepted.schema.is_some() {
            return if concerned { Err(Refusal::SchemaNeedsSessionId) } else { Ok(false) };
        }
        self.write_layer(ix, Layer::Beneath, write);
        self.open |= concerned;
        Ok(concerned)
    }

    pub(super) fn selects_of_host(&self, key: &str) -> bool {
        self.kind == Kind::Hosted && self.accepted.settings.shows_of_host(key)
    }

    pub(super) fn write_props(
        &mut self,
        ix: MemberIx,
        layer: Layer,
        write: Write,
    ) -> Result<(), Refusal> {
        let slots = &self.members.get(ix).slots;
        let write = self.merged(slots, write, Paths::PROPS)?;
        self.check_room(slots, &write)?;
        self.write_layer(ix, layer, write);
        self.open = true;
        Ok(())
    }

    /// The write that replaces where this one merges: into the value that is accepted, which of a
    /// key that has none in this session is the user's.
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

    pub(super) fn write_layer(&mut self, ix: MemberIx, layer: Layer, write: Write) {
        let logged = self.keys_to_log(&write);
        let settings = &self.shown.settings;
        let slots = &mut self.members.get_mut(ix).slots;
        write_all(slots, layer, write, &mut self.names, settings);
        self.log_props(ix, layer, logged);
        self.members.mark(ix);
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

    /// Every key that `if_revision` names has not changed in a frame after that revision and has no
    /// change pending. From `known` on it is known when a key went that is not there. Revision 0
    /// says that the key is not there, however long that has been so.
    pub(super) fn check_unchanged(
        &self,
        slots: &Slots,
        write: &Write,
        known: u64,
        field: &str,
    ) -> Result<(), Refusal> {
        if write.if_revision.iter().any(|(_, revision)| *revision > self.pending_revision()) {
            return Err(Refusal::UnknownPosition);
        }
        let changed = |(key, revision): &&(Key, u64)| {
            match self.names.find(key).and_then(|key| slots.get(key)) {
                Some(slot) => slot.revision > *revision || slot.is_pending(),
                // Removed so long ago that nobody knows when.
                None => *revision > 0 && *revision < known,
            }
        };
        let (mut lost, root) = (Faults::default(), Path::Root(field));
        for (key, revision) in write.if_revision.iter().filter(changed) {
            lost.add(Path::Key(&root, key), format!("the key has changed after {revision}"));
        }
        if lost.is_empty() { Ok(()) } else { Err(Refusal::RevisionChanged(lost.close())) }
    }

    /// A user, and each part of the session data, has a bounded number of keys.
    pub(super) fn check_room(&self, slots: &Slots, write: &Write) -> Result<(), Refusal> {
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
}

pub(super) fn write_all(
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
