//! Rules: expressions that must be true of what is asked for, or it is refused.
//!
//! A rule looks at what was asked, and at the outline of the session as it was then, as a filter does:
//! nothing is locked while it runs. One that cannot be evaluated refuses, and says why.

use super::{
    Engine,
    asked::{Asked, Verdict},
    live::Live,
};
use crate::{
    expression::{Expression, Mention, Vocabulary},
    session::{
        ids::{AppId, Key},
        judging::{self, Operation, Operations},
        value::Value,
    },
};
use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

/// What a rule may speak of.
static VOCABULARY: Vocabulary = Vocabulary {
    names: &[
        "request.user_id",
        "request.session_id",
        "request.target",
        "request.props",
        "request.removed",
        "request.data",
        "request.private_data",
        "request.private_removed",
        "request.spectator",
        "request.kind",
        "request.name",
        "request.capacity",
        "request.locked",
        "request.unlisted",
        "request.metadata",
        "member.role",
        "member.is_host",
        "session.session_id",
        "session.kind",
        "session.name",
        "session.metadata",
        "session.member_count",
        "session.spectator_count",
        "session.reserved_count",
        "session.capacity",
        "session.locked",
        "session.has_password",
        "session.created_at",
        "session.owner_id",
        "session.host_id",
        "caller.scope",
        "caller.subject",
        "SPECTATOR",
        "MEMBER",
        "MODERATOR",
        "ADMIN",
        "OWNER",
    ],
    maps: &[
        "request.props",
        "request.data",
        "request.private_data",
        "request.metadata",
        "session.metadata",
    ],
    timestamps: true,
};

/// Whether there is something to a name where this is asked for.
fn is_known(name: &str, operation: Operation) -> bool {
    use Operation::{Join, Open, Subscribe, Write};
    match name {
        "request.target"
        | "request.data"
        | "request.private_data"
        | "request.removed"
        | "request.private_removed" => operation == Write,
        "request.props" => matches!(operation, Open | Join | Write),
        "request.spectator" => operation == Join,
        "request.kind" | "request.name" | "request.capacity" | "request.locked"
        | "request.unlisted" | "request.metadata" => operation == Open,
        "member.role" | "member.is_host" => matches!(operation, Write | Subscribe),
        name if name.starts_with("session.") => operation != Open,
        _ => true,
    }
}

/// Bytes of the name of a rule.
pub const NAME_BYTES: usize = 64;

/// Bytes of the message of a rule.
pub const MESSAGE_BYTES: usize = 256;

/// How many rules a session has.
pub const RULES: usize = 8;

/// What all mentions in one run may weigh: as much as all props of a member.
const WEIGHT: usize = 1024;

/// How many steps all rules that judge the same thing may take together: about a millisecond's worth.
const STEPS: usize = 32 * 1024;

/// A rule that is ready to judge.
#[derive(Debug)]
pub struct Rule {
    name: Key,
    on: Operations,
    message: Key,
    /// Or what is wrong with it, if it was written for another version of the server.
    expression: Result<Expression, String>,
}

impl Rule {
    /// Parses and checks a rule. Says which fields of it are at fault, and what is wrong with each.
    pub fn new(rule: &judging::Rule) -> Result<Self, Vec<(&'static str, String)>> {
        let mut faults = Vec::new();
        let texts = [("name", &rule.name, NAME_BYTES), ("message", &rule.message, MESSAGE_BYTES)];
        for (field, text, most) in texts {
            if text.is_empty() {
                faults.push((field, "must be given".to_owned()));
            } else if text.len() > most {
                faults.push((field, format!("has {} bytes, more than {most}", text.len())));
            } else if text.chars().any(char::is_control) {
                faults.push((field, "must not have control characters".to_owned()));
            }
        }
        if rule.on.is_empty() {
            faults.push(("on", "must name something".to_owned()));
        }
        let expression = expression(&rule.expression, rule.on);
        if let Err(fault) = &expression {
            faults.push(("expression", fault.clone()));
        }
        if faults.is_empty() { Ok(Self::made(rule, expression)) } else { Err(faults) }
    }

    /// A rule that was checked when its session was opened.
    pub fn known(rule: &judging::Rule) -> Self {
        Self::made(rule, expression(&rule.expression, rule.on))
    }

    fn made(rule: &judging::Rule, expression: Result<Expression, String>) -> Self {
        let judging::Rule { name, on, message, .. } = rule;
        Self { name: name.clone(), on: *on, message: message.clone(), expression }
    }

    /// What it judges.
    pub fn on(&self) -> Operations {
        self.on
    }

    /// How it is called.
    pub fn name(&self) -> &Key {
        &self.name
    }

    fn check(&self, asked: &Asked, left: &mut usize) -> Result<(), Verdict> {
        if !self.on.has(asked.request.operation()) {
            return Ok(());
        }
        let outcome = match &self.expression {
            Err(fault) => Err(format!("the expression {fault}")),
            Ok(_) if *left == 0 => Err("all rules together look at too much".to_owned()),
            Ok(expression) => {
                let (outcome, steps) =
                    expression.run_counted(|mention| asked.look(mention), WEIGHT);
                *left = left.saturating_sub(steps);
                outcome
            }
        };
        let why = match outcome {
            Ok(Value::Flag(true)) => return Ok(()),
            Ok(Value::Flag(false)) => None,
            Ok(_) => Some("the expression does not yield true or false".to_owned()),
            Err(fault) => Some(fault),
        };
        let (name, message) = (self.name.clone(), self.message.clone());
        Err(Verdict::Rule { name, message, why })
    }
}

/// Judges what is asked for by rules, in their order; the first that does not hold refuses it.
pub fn judge<'a>(rules: impl IntoIterator<Item = &'a Rule>, asked: &Asked) -> Result<(), Verdict> {
    let mut left = STEPS;
    rules.into_iter().try_for_each(|rule| rule.check(asked, &mut left))
}

fn expression(source: &str, on: Operations) -> Result<Expression, String> {
    let expression = Expression::new(source, &VOCABULARY)?;
    for operation in on.iter() {
        let lacking = expression.names().find(|name| !is_known(name, operation));
        if let Some(name) = lacking {
            return Err(format!("is about {}, where there is no `{name}`", operation.word()));
        }
    }
    // What it yields where nothing is there it mostly yields everywhere.
    match expression.run(nothing, WEIGHT) {
        Ok(Value::Flag(_)) | Err(_) => Ok(expression),
        Ok(_) => Err("must yield true or false".to_owned()),
    }
}

/// What there is of each name before anything is set.
fn nothing(mention: &Mention) -> Option<Value> {
    if VOCABULARY.maps.contains(&mention.name) {
        return mention.key.is_none().then(|| Value::Map([].into()));
    }
    Some(match mention.name {
        "request.removed" | "request.private_removed" => Value::List([].into()),
        "request.spectator"
        | "request.locked"
        | "request.unlisted"
        | "member.is_host"
        | "session.locked"
        | "session.has_password" => Value::Flag(false),
        name if name.ends_with("_count") || name.ends_with("capacity") => Value::Integer(0),
        "session.created_at" | "member.role" | "SPECTATOR" | "MEMBER" | "MODERATOR" | "ADMIN"
        | "OWNER" => Value::Integer(0),
        _ => Value::Text("".into()),
    })
}

/// What is judged in each app, beside the rules of its sessions.
#[derive(Debug, Clone, Default)]
pub struct JudgedApps {
    /// In all of them.
    pub everywhere: Operations,
    /// In some.
    pub apps: BTreeMap<AppId, Operations>,
}

impl JudgedApps {
    /// What is judged in an app.
    pub fn of(&self, app: &AppId) -> Operations {
        self.everywhere.or(self.apps.get(app).copied().unwrap_or_default())
    }
}

impl Live {
    /// Whether this is judged here before it is done. It takes no lock. What comes while that changes is
    /// refused if it should have been judged, and is asked for again.
    pub fn judges(&self, operation: Operation) -> bool {
        Operations::of_bits(self.judges.load(Relaxed)).has(operation)
    }

    fn judge(&self, by_server: Operations) {
        let mut state = self.lock();
        state.core.judge(by_server);
        self.judges.store(state.core.judges().bits(), Relaxed);
    }

    /// The rules of the session itself.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

impl Engine {
    /// What is judged in an app.
    pub fn judged_in(&self, app: &AppId) -> Operations {
        self.inner.judged.read().of(app)
    }

    /// Changes what is judged, in the sessions that are open too.
    pub fn judge_apps(&self, judged: JudgedApps) {
        *self.inner.judged.write() = judged;
        for live in self.inner.registry.all() {
            live.judge(self.judged_in(&live.app));
        }
    }

    /// A session that can be found from now on: what is judged may have changed since it was made.
    pub(super) fn judge_new(&self, live: &Live, by_server: Operations) {
        let now = self.judged_in(&live.app);
        if now != by_server {
            live.judge(now);
        }
    }
}

/// The rules of a session, ready to judge.
pub(super) fn rules_of(rules: &[judging::Rule]) -> Box<[Rule]> {
    rules.iter().map(Rule::known).collect()
}

#[cfg(test)]
mod tests;
