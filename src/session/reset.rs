//! All values of a session back to where they began.

use super::{
    Session, access::Act, command::Actor, error::Refusal, event::What, frame::Frame,
    limits::Micros, role::Role, schema::Schema,
};
use std::sync::Arc;

impl Session {
    /// Replaces the schema, if there is a new one, and sets all props and all session data back to
    /// the defaults. Without any schema nothing is left, though users keep what is set on them.
    ///
    /// The reset is alone in its frame, which is made at once: what was accepted before is framed
    /// first, without the writes, which keep their positions and change nothing. No delta leads
    /// across it. Returns the last frame of both, with what happened in either.
    pub fn reset(
        &mut self,
        now: Micros,
        actor: &Actor,
        schema: Option<Arc<Schema>>,
    ) -> Result<Frame, Refusal> {
        if self.has_ended() {
            return Err(Refusal::SessionNotFound);
        }
        self.check(actor, Act::Reset(self.accepted.settings.reset_role))?;
        let happened = self.untold.events.len();
        self.happened(What::Reset { new_schema: schema.is_some() });
        self.attribute(happened, actor);
        // Nobody gets what was before one by one, as no delta leads across.
        self.cut_log();
        let before = self.make_frame(now, false);
        if schema.is_some() {
            Arc::make_mut(&mut self.accepted).schema = schema;
        }
        self.forget_values();
        self.open = true;
        self.cut_log();
        let frame = self.flush(now);
        self.removals.begin_at(self.revision);
        self.reset_revision = self.revision;
        let views_changed = [&before, &frame].into_iter().flatten().any(|it| it.views_changed);
        let departed = before.map(|before| before.departed).unwrap_or_default();
        Ok(Frame { revision: self.revision, views_changed, departed })
    }

    fn forget_values(&mut self) {
        self.begin_data();
        if let Some(data) = self.data.some_mut() {
            data.writers.clear();
            data.dirty = true;
        }
        // What a host that is gone has left was of before.
        self.heritage = None;
        let first = self.first_props(Vec::new());
        let joined: Vec<_> = self.members.joined().map(|(ix, ..)| ix).collect();
        for ix in joined {
            let sends = self.role_of(ix) > Role::Spectator;
            let first = if sends { first.clone() } else { Vec::new() };
            let (names, settings) = (&mut self.names, &self.shown.settings);
            self.members.get_mut(ix).slots.begin_anew(first, names, settings);
            self.members.mark(ix);
        }
    }
}
