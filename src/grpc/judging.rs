//! The one place where what is asked for is judged, whichever call or stream asks: by the rules of the
//! server, the hooks, and the rules of the session. Nothing is locked meanwhile, and nothing is done
//! before. That everything passes here the engine sees to, which refuses what was not judged.

use super::{
    Context,
    convert::door::PropsWrite,
    hooks::{Said, question},
    room,
};
use crate::{
    engine::{
        self, JudgedRefusal, Live, RefusedBy, SessionKey,
        asked::{Asked, Bearer, Request, Verdict},
        rule::{Rule as Judge, judge},
    },
    identity::{CredentialId, Grant},
    policy::Policy,
    session::{
        Opening,
        command::{Actor, Command, Join, Write},
        epoch::Epoch,
        error::Refusal as Rule,
        ids::{AppId, SessionId, UserId},
        judging::{Operation, Operations, judged_by},
        private::Private,
        role::Role,
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// What became of a write in the sessions that judge it.
pub type Judgements = BTreeMap<SessionId, Result<Write, engine::Refusal>>;

/// What was judged, as it may be done.
struct Passed {
    request: Request,
    /// The role that a new member gets.
    role: Option<Role>,
}

/// What of a verdict is noted as an event; a hook that fails is for the log.
fn noted(verdict: &Verdict) -> Option<(RefusedBy, Arc<str>, Arc<str>)> {
    match verdict {
        Verdict::Rule { name, message, why } => Some((
            RefusedBy::Rule { is_faulty: why.is_some() },
            (**name).into(),
            (**message).into(),
        )),
        Verdict::Hook { name, message, reason } => {
            let reason = reason.clone();
            Some((RefusedBy::Hook { reason }, name.clone(), message.as_str().into()))
        }
        Verdict::HookUnavailable { .. } => None,
    }
}

impl Grant {
    /// Whose credential it is, as it is sent to those who judge.
    pub fn bearer(&self) -> Bearer {
        let scope = match self.id {
            CredentialId::None => "none",
            _ => self.kind.scope().word(),
        };
        Bearer { scope, most: self.most, subject: self.subject.clone() }
    }
}

impl Context {
    /// Judges what is asked for; `rules` are those of the session.
    async fn judge(
        &self,
        policy: &Policy,
        mut asked: Asked,
        rules: &[Judge],
    ) -> Result<Passed, engine::Refusal> {
        match self.judge_quietly(policy, &mut asked, rules).await {
            Ok(role) => Ok(Passed { request: asked.request, role }),
            Err(verdict) => Err(self.refused(&asked, verdict)),
        }
    }

    /// The one place where it is known that something was refused by a rule or a hook, whichever way it
    /// came.
    fn refused(&self, asked: &Asked, verdict: Verdict) -> engine::Refusal {
        let operation = asked.request.operation();
        let (by, name) = match &verdict {
            Verdict::Rule { name, .. } => ("rule", &**name),
            Verdict::Hook { name, .. } => ("hook", &**name),
            Verdict::HookUnavailable { name, .. } => ("no hook", &**name),
        };
        tracing::debug!(
            app = %asked.app,
            session = asked.session_id.as_deref().unwrap_or_default(),
            user = %asked.user,
            operation = operation.word(),
            by,
            name,
            "refused"
        );
        if let Some((by, name, message)) = noted(&verdict)
            // Writes may come so fast that nothing else would be left in the journal.
            && operation != Operation::Write
        {
            let refusal = JudgedRefusal { by, name, operation, message };
            self.engine.note_refusal(&asked.app, asked.session_id.clone(), &asked.user, refusal);
        }
        verdict.into()
    }

    /// What hooks change of it is changed, and the role that they give to a new member is returned.
    async fn judge_quietly(
        &self,
        policy: &Policy,
        asked: &mut Asked,
        rules: &[Judge],
    ) -> Result<Option<Role>, Verdict> {
        // Nobody is asked for what a rule refuses anyway.
        judge_by_rules(policy, asked, rules)?;
        if policy.hooks(&asked.app, asked.request.operation()).next().is_none() {
            return Ok(None);
        }
        let before = asked.request.clone();
        let role = self.ask_hooks(policy, asked).await?;
        if asked.request != before {
            judge_by_rules(policy, asked, rules)?;
        }
        Ok(role)
    }

    async fn ask_hooks(&self, policy: &Policy, asked: &mut Asked) -> Result<Option<Role>, Verdict> {
        let mut role = None;
        let app = asked.app.clone();
        for hook in policy.hooks(&app, asked.request.operation()) {
            let take = |answer| self.take(hook, asked, answer);
            let said = hook.ask(self.engine.clock(), question(asked), take).await;
            room::wait().await;
            match said {
                Ok(Said::Passed { request, role: given }) => {
                    (asked.request, role) = (*request, given.or(role));
                }
                Ok(Said::Refused { message, reason }) => {
                    return Err(Verdict::Hook { name: hook.name().clone(), message, reason });
                }
                Err(_) if hook.lets_pass() => {}
                Err(retry_after) => {
                    let name = hook.name().clone();
                    return Err(Verdict::HookUnavailable { name, retry_after });
                }
            }
        }
        Ok(role)
    }

    /// Judges that a user joins a session. A user who is in joins again, which is not judged.
    pub(super) async fn judge_join(
        &self,
        live: &Live,
        user: &UserId,
        join: &mut Join,
        bearer: &Bearer,
    ) -> Result<(), engine::Refusal> {
        let writes = live.judges(Operation::Write) && !join.props.is_empty();
        if !live.judges(Operation::Join) && !writes {
            return Ok(());
        }
        let (role, epoch) = {
            let core = &live.lock().core;
            // Whatever else is wrong with it is reported without asking anybody.
            match core.check_join(self.engine.clock().now(), user, join) {
                Err(Rule::NotJudged) => (core.role_on_joining(user, join), core.epoch()),
                _ => return Ok(()),
            }
        };
        if !join.is_by_app {
            self.engine.check_change(&live.app, user)?;
        }
        let policy = &*self.policy.current();
        if live.judges(Operation::Join) {
            let (spectator, props) = (join.spectator, join.props.clone());
            let (asked, _) = Asked::of(live, user, bearer, Request::Join { spectator, props });
            let passed = self.judge(policy, asked, live.rules()).await?;
            join.role = passed.role;
            join.props = passed.request.props().to_vec();
        }
        if live.judges(Operation::Write) && !join.props.is_empty() {
            let request = Request::Props { set: join.props.clone(), remove: Vec::new() };
            let (asked, _) = Asked::of(live, user, bearer, request);
            let asked = asked.as_role(join.role.unwrap_or(role));
            join.props = self.judge(policy, asked, live.rules()).await?.request.props().to_vec();
        }
        join.judged = Some(epoch);
        Ok(())
    }

    /// Judges that a session is opened, and that those join it whom the opening names. What the app
    /// itself opens is not judged. `private` is what else is set in a private session.
    pub(super) async fn judge_opening(
        &self,
        actor: &Actor,
        opening: &mut Opening,
        private: Option<&mut Private>,
        bearer: &Bearer,
    ) -> Result<(), engine::Refusal> {
        let own: Vec<Judge> = opening.settings.rules.iter().map(Judge::known).collect();
        let of_app = self.engine.judged_in(&opening.app);
        let judged = of_app.or(judged_by(&opening.settings.rules));
        let Some(user) = actor.user().filter(|_| !judged.is_empty()) else {
            opening.is_judged = true;
            return Ok(());
        };
        self.engine.check_change(&opening.app, user)?;
        let policy = &*self.policy.current();
        if judged.has(Operation::Open) {
            let asked = Asked::opening(opening, user, bearer);
            let passed = self.judge(policy, asked, &own).await?;
            if let Request::Open { settings, props, .. } = passed.request {
                opening.settings = *settings;
                if let Some((_, join)) = &mut opening.opener {
                    join.props = props;
                }
            }
        }
        self.judge_first_props(policy, opening, private, bearer, (judged, &own)).await?;
        for at in 0..opening.people.users.len() {
            if !judged.has(Operation::Join) {
                break;
            }
            let now = self.engine.clock().now();
            let (user, join) = &opening.people.users[at];
            let asked = Asked::first_join(opening, (user, join), now, bearer);
            let passed = self.judge(policy, asked, &own).await?;
            let join = &mut opening.people.users[at].1;
            join.role = passed.role;
            join.props = passed.request.props().to_vec();
            if judged.has(Operation::Write) && !join.props.is_empty() {
                // What a hook has set is a write of the new member.
                let (user, join) = &opening.people.users[at];
                let role = join.role.unwrap_or(Role::Member);
                let asked = Asked::first_props(opening, (user, join), role, now, bearer);
                let passed = self.judge(policy, asked, &own).await?;
                opening.people.users[at].1.props = passed.request.props().to_vec();
            }
            tokio::task::yield_now().await;
        }
        opening.is_judged = true;
        Ok(())
    }

    /// First props of a session that is opened are a write of whose they are.
    async fn judge_first_props(
        &self,
        policy: &Policy,
        opening: &mut Opening,
        private: Option<&mut Private>,
        bearer: &Bearer,
        (judged, own): (Operations, &[Judge]),
    ) -> Result<(), engine::Refusal> {
        if !judged.has(Operation::Write) {
            return Ok(());
        }
        let now = self.engine.clock().now();
        if let Some((user, join)) = opening.opener.clone().filter(|(_, it)| !it.props.is_empty()) {
            let asked = Asked::first_props(opening, (&user, &join), Role::Owner, now, bearer);
            let props = self.judge(policy, asked, own).await?.request.props().to_vec();
            if let Some((_, join)) = &mut opening.opener {
                join.props = props;
            }
        }
        if let Some(private) = private.filter(|private| !private.props.is_empty()) {
            let join = Join { props: private.props.clone(), ..Join::default() };
            let source = &private.pair.source;
            let asked = Asked::first_props(opening, (source, &join), Role::Owner, now, bearer);
            private.props = self.judge(policy, asked, own).await?.request.props().to_vec();
        }
        Ok(())
    }

    /// Judges that a user begins to receive a session. Returns in which epoch it was.
    pub(super) async fn judge_subscribe(
        &self,
        live: &Live,
        user: &UserId,
        role: Option<Role>,
        bearer: &Bearer,
    ) -> Result<Option<Epoch>, engine::Refusal> {
        if !live.judges(Operation::Subscribe) {
            return Ok(None);
        }
        let (asked, epoch) = Asked::of(live, user, bearer, Request::Subscribe);
        let asked = role.into_iter().fold(asked, Asked::as_role);
        if asked.member.is_none() {
            // It is refused for that.
            return Ok(None);
        }
        self.judge(&self.policy.current(), asked, live.rules()).await?;
        Ok(Some(epoch))
    }

    /// Judges a write of props in each session that it names.
    pub(super) async fn judge_write(
        &self,
        app: &AppId,
        actor: &Actor,
        write: &mut PropsWrite,
        bearer: &Bearer,
    ) {
        let Some(user) = actor.user() else { return };
        for id in &write.sessions {
            if !self.engine.judges(app, id, Operation::Write) {
                continue;
            }
            let found = self.engine.find(app, Some(&SessionKey::Id(id.clone())), actor);
            // What there is not says so itself.
            let Ok(live) = found else { continue };
            let outcome = self.judge_write_in(&live, user, write.write.clone(), bearer).await;
            write.judgements.insert(id.clone(), outcome);
        }
    }

    /// Judges a write of props in a session.
    pub(super) async fn judge_write_in(
        &self,
        live: &Live,
        user: &UserId,
        mut write: Write,
        bearer: &Bearer,
    ) -> Result<Write, engine::Refusal> {
        let request = Request::Props { set: write.set.clone(), remove: write.remove.clone() };
        let (asked, epoch) = Asked::of(live, user, bearer, request);
        if asked.member.is_none() {
            // It is refused for that.
            return Ok(write);
        }
        let judged = self.judge(&self.policy.current(), asked, live.rules()).await?;
        if let Request::Props { set, remove } = judged.request
            && (&set, &remove) != (&write.set, &write.remove)
        {
            // Whose faults are named as those of plain JSON is known of what was written only.
            (write.set, write.remove, write.plain) = (set, remove, 0);
        }
        write.judged = Some(epoch);
        Ok(write)
    }

    /// Judges a command of a user, if it is one that is judged.
    pub(super) async fn judge_command(
        &self,
        live: &Live,
        actor: &Actor,
        mut command: Command,
        bearer: &Bearer,
    ) -> Result<Command, engine::Refusal> {
        if let (Some(user), Command::SetData { shared, private, .. }) = (actor.user(), &mut command)
            && live.judges(Operation::Write)
        {
            let request = Request::Data {
                shared: Box::new(shared.clone()),
                private: Box::new(private.clone()),
            };
            let (asked, epoch) = Asked::of(live, user, bearer, request);
            if asked.member.is_some() {
                self.judge(&self.policy.current(), asked, live.rules()).await?;
                shared.judged = Some(epoch);
            }
        }
        Ok(command)
    }

    /// Has hooks judge that a user begins to receive all sessions that it joins. Rules judge each of
    /// them.
    pub(super) async fn judge_following(
        &self,
        app: &AppId,
        user: &UserId,
        bearer: &Bearer,
    ) -> Result<(), engine::Refusal> {
        let policy = &*self.policy.current();
        if policy.hooks(app, Operation::Subscribe).next().is_none() {
            return Ok(());
        }
        let mut asked = Asked {
            app: app.clone(),
            session_id: None,
            user: user.clone(),
            bearer: bearer.clone(),
            session: None,
            member: None,
            request: Request::Subscribe,
        };
        let outcome = self.ask_hooks(policy, &mut asked).await;
        outcome.map(drop).map_err(|verdict| self.refused(&asked, verdict))
    }

    /// Judges by rules alone that a user receives a session which it has joined meanwhile. Hooks were
    /// asked when its stream began.
    pub(super) fn judge_followed(
        &self,
        live: &Live,
        user: &UserId,
        bearer: &Bearer,
    ) -> Result<Option<Epoch>, engine::Refusal> {
        if !live.judges(Operation::Subscribe) {
            return Ok(None);
        }
        let (asked, epoch) = Asked::of(live, user, bearer, Request::Subscribe);
        let outcome = judge_by_rules(&self.policy.current(), &asked, live.rules());
        outcome.map(|()| Some(epoch)).map_err(|verdict| self.refused(&asked, verdict))
    }
}

fn judge_by_rules(policy: &Policy, asked: &Asked, rules: &[Judge]) -> Result<(), Verdict> {
    judge(policy.rules(&asked.app).chain(rules), asked)
}
