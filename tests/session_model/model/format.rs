//! The fixed format of a session: what fits it, what holds until it is written, what a reset leaves.

use super::{Model, Props};
use crate::session_model::framed::{Framed, FramedMember};
use sessiond::session::{
    access::Standing,
    command::{Actor, Write},
    error::{Refusal, Violation},
    ids::UserId,
    limits::Micros,
    role::Role,
    schema::{Field, Fields, Schema, Type},
    value::Value,
};
use std::sync::Arc;

/// The types that come in these stories, which have no bounds.
fn fits(field: &Field, value: &Value) -> bool {
    match field.of {
        Type::Any => true,
        Type::Text => matches!(value, Value::Text(_)),
        Type::Number => matches!(value, Value::Integer(_) | Value::Number(_)),
        other => panic!("no story has {other:?}"),
    }
}

/// What is wrong with a write, whoever writes it, and what needs a higher role.
#[derive(Default)]
pub struct Misfits {
    wrong: bool,
    all: Vec<Violation>,
}

impl Misfits {
    pub fn of(
        mut self,
        fields: &Fields,
        write: &Write,
        rank: Option<Role>,
        paths: [&str; 2],
    ) -> Self {
        let set = write.set.iter().map(|(key, value)| (paths[0], key, Some(value)));
        for (list, key, value) in set.chain(write.remove.iter().map(|key| (paths[1], key, None))) {
            let path = format!("{list}[{key:?}]");
            let Some((_, field)) = fields.iter().find(|(known, _)| known == key) else {
                self.wrong = true;
                self.all.push(Violation::new(path, "unknown"));
                continue;
            };
            if value.is_some_and(|value| !fits(field, value)) {
                self.wrong = true;
                self.all.push(Violation::new(path.clone(), "type"));
            }
            if rank.is_some_and(|rank| field.writer.is_some_and(|writer| rank < writer)) {
                self.all.push(Violation::new(path, "role"));
            }
        }
        self
    }

    pub fn end(self) -> Result<(), Refusal> {
        match self.all {
            none if none.is_empty() => Ok(()),
            all if self.wrong => Err(Refusal::Invalid(all)),
            all => Err(Refusal::NotAWriter(all)),
        }
    }
}

impl Model {
    /// What holds where nothing is written.
    pub fn defaults(&self, part: fn(&Schema) -> &Fields) -> Props {
        let fields = self.info.schema.as_deref().map(|schema| part(schema).iter());
        let fields = fields.into_iter().flatten();
        fields.filter_map(|(key, field)| Some((key.clone(), field.default.clone()?))).collect()
    }

    /// The data as it begins.
    pub fn begin_data(&mut self) {
        self.data = self.defaults(|schema| &schema.data);
        self.private_data = self.defaults(|schema| &schema.private_data);
    }

    /// The write with what comes of removing a key that has a default.
    pub fn set_back(&self, part: fn(&Schema) -> &Fields, write: &Write) -> Write {
        let mut write = write.clone();
        for (key, default) in self.defaults(part) {
            if write.remove.contains(&key) {
                write.remove.retain(|removed| *removed != key);
                write.set.push((key, default));
            }
        }
        write
    }

    pub fn rank(&self, actor: &Actor) -> Option<Role> {
        match self.standing(actor) {
            Standing::App => None,
            Standing::Joined(role) | Standing::Away(role) => Some(role),
            Standing::Outsider => Some(Role::Spectator),
        }
    }

    pub fn needs_fitting_props(
        &self,
        rank: Option<Role>,
        write: &Write,
        paths: [&str; 2],
    ) -> Result<(), Refusal> {
        let Some(schema) = &self.info.schema else { return Ok(()) };
        Misfits::default().of(&schema.props, write, rank, paths).end()
    }

    pub fn needs_fitting_data(
        &self,
        rank: Option<Role>,
        (shared, private): (&Write, &Write),
        [shared_paths, private_paths]: [[&str; 2]; 2],
    ) -> Result<(), Refusal> {
        let Some(schema) = &self.info.schema else { return Ok(()) };
        Misfits::default()
            .of(&schema.data, shared, rank, shared_paths)
            .of(&schema.private_data, private, rank, private_paths)
            .end()
    }

    /// Frames what is open as if nothing had been written, and then the values as they begin.
    pub fn reset(
        &mut self,
        now: Micros,
        actor: &Actor,
        schema: Option<Arc<Schema>>,
    ) -> Result<(), Refusal> {
        if self.ended {
            return Err(Refusal::SessionNotFound);
        }
        self.needs(actor, self.info.settings.reset_role)?;
        if self.open {
            let last = self.last().clone();
            let old = |user: &UserId, member: &mut FramedMember| {
                let known = last.members.get(user).filter(|known| known.order == member.order);
                member.props = known.map(|known| known.props.clone()).unwrap_or_default();
            };
            let mut next = self.framed();
            next.members.iter_mut().for_each(|(user, member)| old(user, member));
            let Framed { data, private_data, .. } = last.clone();
            self.frame(Framed { data, private_data, ..next }, now);
        }
        self.info.schema = schema.or(self.info.schema.take());
        let first = self.first_props(&[]);
        for member in self.members.values_mut() {
            let sends = member.role >= Role::Member;
            member.props = if sends { first.clone() } else { Props::new() };
        }
        self.begin_data();
        self.heritage = None;
        self.frame(self.framed(), now);
        self.removals.retain(|removal| removal.of_member);
        self.horizon_at_most = self.revision();
        Ok(())
    }
}
