//! What is judged before it is done: the rules of the server, and the backends that have a say.
//!
//! The rules of a session are the session's own affair, and come after these. What is asked for, and
//! what a backend may change of it, `grpc/judging.rs` knows.

mod breaker;
mod cache;
mod call;
mod hook;
mod json;
mod lanes;
mod settings;

use crate::{
    engine::rule::{JudgedApps, Rule},
    identity::{Apps, Fault, file::Files},
    session::judging::{Operation, Operations},
};
pub use hook::Hook;
use parking_lot::RwLock;
use std::{path::Path, sync::Arc};

/// The policy that is in force, until another takes its place. What is being judged meanwhile is judged
/// to its end by the one with which that began.
#[derive(Debug, Default)]
pub struct InForce(RwLock<Arc<Policy>>);

impl InForce {
    /// With a policy.
    pub fn new(policy: Policy) -> Self {
        Self(RwLock::new(Arc::new(policy)))
    }

    /// The policy.
    pub fn current(&self) -> Arc<Policy> {
        self.0.read().clone()
    }

    /// Puts another one in its place.
    pub fn replace(&self, policy: Policy) {
        *self.0.write() = Arc::new(policy);
    }
}

/// The rules and hooks of a server.
#[derive(Debug, Default)]
pub struct Policy {
    rules: Vec<AppRule>,
    hooks: Vec<Arc<Hook>>,
}

/// A rule for some apps.
#[derive(Debug)]
struct AppRule {
    apps: Apps,
    rule: Rule,
}

impl Policy {
    /// Reads the file and all that it names, and says which files these are, or everything that is wrong
    /// with them. Hooks that are set to what they were before stay the same ones, with what they remember.
    pub fn read(path: &Path, before: &Self) -> (Files, Result<Self, Vec<Fault>>) {
        settings::read(path, &before.hooks)
    }

    /// What is judged in which app.
    pub fn judged(&self) -> JudgedApps {
        let mut judged = JudgedApps::default();
        for AppRule { apps, rule } in &self.rules {
            judge(&mut judged, apps, rule.on());
        }
        for hook in &self.hooks {
            judge(&mut judged, hook.apps(), hook.on());
        }
        judged
    }

    /// The rules of an app.
    pub fn rules<'a>(&'a self, app: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(|it| holds_in(&it.apps, app)).map(|it| &it.rule)
    }

    /// The hooks that have a say in something in an app, in their order.
    pub fn hooks<'a>(
        &'a self,
        app: &'a str,
        operation: Operation,
    ) -> impl Iterator<Item = &'a Arc<Hook>> {
        let has_say =
            move |hook: &&Arc<Hook>| hook.on().has(operation) && holds_in(hook.apps(), app);
        self.hooks.iter().filter(has_say)
    }
}

fn holds_in(apps: &Apps, app: &str) -> bool {
    match apps {
        Apps::All => true,
        Apps::Only(apps) => apps.contains(app),
    }
}

fn judge(judged: &mut JudgedApps, apps: &Apps, on: Operations) {
    match apps {
        Apps::All => judged.everywhere = judged.everywhere.or(on),
        Apps::Only(apps) => {
            for app in apps {
                let of_app = judged.apps.entry(app.clone()).or_default();
                *of_app = of_app.or(on);
            }
        }
    }
}
