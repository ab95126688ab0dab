//! Values that belong to the session itself.

use super::{
    Session,
    access::Act,
    command::{Actor, Write},
    error::Refusal,
    ids::UserId,
    limits::Micros,
    props::write_all,
    removals::Gone,
    revision::Revision,
    role::Role,
    schema::{Fields, Paths, Schema, default_of, defaults},
    seldom::empty,
    settings::Kind,
    slots::Slots,
    writers::Writers,
};

/// The session data.
#[derive(Debug, Default)]
pub(super) struct Data {
    pub shared: Slots,
    pub private: Slots,
    /// The revision of the last change of either.
    pub revision: Revision,
    /// Something was accepted since the last frame.
    pub dirty: bool,
    /// Who wrote what since then.
    pub writers: Writers,
}

empty!(Data);

impl Session {
    pub(super) fn set_data(
        &mut self,
        writer: &Actor,
        shared: Write,
        private: Write,
    ) -> Result<(), Refusal> {
        let in_shared = self.merged(&self.data.shared, shared.clone(), Paths::DATA);
        let in_private = self.merged(&self.data.private, private.clone(), Paths::PRIVATE_DATA);
        let (in_shared, in_private) = both(in_shared, in_private)?;
        self.check_room(&self.data.shared, &shared)?;
        self.check_room(&self.data.private, &private)?;
        let schema = self.accepted.schema.clone();
        let fields = schema.as_deref().map(|schema| [&schema.data, &schema.private_data]);
        for (is_private, write) in [(false, &shared), (true, &private)] {
            let fields = fields.map(|parts| parts[usize::from(is_private)]);
            for (key, patch) in write.patches(|key| default_of(fields, key)) {
                let Data { shared, private, writers, .. } = &mut *self.data;
                let slots = if is_private { private } else { shared };
                let names = &self.names;
                let before = || names.find(key).and_then(|key| slots.accepted(key)).cloned();
                writers.note(writer, (is_private, key.clone()), before, patch);
            }
        }
        let logged = self.data_keys_to_log(&shared, &private);
        let (names, settings) = (&mut self.names, &self.shown.settings);
        let [of_shared, of_private] = fields.map_or([None; 2], |parts| parts.map(Some));
        write_all(&mut self.data.shared, in_shared, of_shared, names, settings);
        write_all(&mut self.data.private, in_private, of_private, names, settings);
        self.log_data(logged);
        self.data.dirty = true;
        self.open = true;
        Ok(())
    }

    /// The session data is what the schema has it hold until it is written.
    pub(super) fn begin_data(&mut self) {
        let schema = self.accepted.schema.as_deref();
        let values = |part: fn(&Schema) -> &Fields| {
            schema.map(|schema| defaults(part(schema))).unwrap_or_default()
        };
        let (shared, private) = (values(|it| &it.data), values(|it| &it.private_data));
        let is_empty = shared.is_empty() && private.is_empty();
        if is_empty && self.data.some_mut().is_none() {
            return;
        }
        let (names, settings) = (&mut self.names, &self.shown.settings);
        self.data.shared.begin_anew(shared, names, settings);
        self.data.private.begin_anew(private, names, settings);
        self.data.dirty = true;
    }

    /// What a user wrote into the session data and no frame shows yet is as if it had never been
    /// written; what others wrote stays.
    pub(super) fn take_back_data(&mut self, user: &UserId) {
        let settings = &self.shown.settings;
        let mut is_told = false;
        let Some(data) = self.data.some_mut() else { return };
        let Data { shared, private, writers, .. } = data;
        writers.take_back(user, |(is_private, key), value| {
            is_told = true;
            let slots = if *is_private { &mut *private } else { &mut *shared };
            slots.write(key, value, &mut self.names, settings);
        });
        if is_told {
            self.cut_log();
        }
    }

    /// The shared part is written from the role on that the settings name, the private part by
    /// those who see it. A user who compares learns of changes, so comparing needs the same.
    pub(super) fn check_data(
        &self,
        actor: &Actor,
        shared: &Write,
        private: &Write,
    ) -> Result<(), Refusal> {
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
            Kind::Hosted if self.accepted.host.as_ref() != Some(user.id()) => {
                Err(Refusal::NeedsHost)
            }
            Kind::Room
                if self.accepted.owner.as_ref() != Some(user.id())
                    || user.limit(Role::Owner) < Role::Owner =>
            {
                Err(Refusal::RoleTooLow { needs: Role::Owner })
            }
            Kind::Private if !self.is_source(user) => Err(Refusal::NeedsSource),
            _ => Ok(()),
        }
    }

    pub(super) fn frame_data(&mut self, now: Micros) {
        let Some(data) = self.data.some_mut() else { return };
        if !std::mem::take(&mut data.dirty) {
            return;
        }
        data.writers.clear();
        let (revision, removals) = (self.revision, &mut self.removals);
        let shared = data.shared.frame(revision, &mut self.names, |key| {
            removals.push(revision, now, Gone::Data(key));
        });
        let private = data.private.frame(revision, &mut self.names, |key| {
            removals.push(revision, now, Gone::PrivateData(key));
        });
        if shared || private {
            data.revision = revision;
        }
    }
}

/// Both, or the faults of both.
fn both<T>(a: Result<T, Refusal>, b: Result<T, Refusal>) -> Result<(T, T), Refusal> {
    match (a, b) {
        (Err(Refusal::Invalid(a)), Err(Refusal::Invalid(b))) => {
            Err(Refusal::Invalid([a, b].concat()))
        }
        (a, b) => Ok((a?, b?)),
    }
}
