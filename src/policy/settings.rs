//! The file of rules and hooks.

use super::{AppRule, Policy};
use crate::{
    engine::rule::Rule,
    expression::SOURCE_BYTES,
    identity::{
        Fault,
        file::{self, Privacy},
        reading::{Faults, Section},
    },
    session::{
        ids::Key,
        judging::{self, Operation, Operations},
    },
};
use std::path::Path;

/// How many rules there may be.
const MAX_RULES: usize = 64;

/// Reads the file and all that it names.
pub fn read(path: &Path) -> Result<Policy, Vec<Fault>> {
    let faults = Faults::default();
    let policy = policy(path, &faults);
    let faults = faults.into_inner();
    policy.filter(|_| faults.is_empty()).ok_or(faults)
}

fn policy(path: &Path, faults: &Faults) -> Option<Policy> {
    let text = file::read_text(path, Privacy::Public);
    let text = text.map_err(|fault| faults.add("policy", fault)).ok()?;
    let mut root = Section::file(path, &text, faults);
    let mut rules: Vec<AppRule> = Vec::new();
    for section in root.sections("rules", MAX_RULES) {
        let Some(rule) = rule(section) else { continue };
        if rules.iter().any(|other| other.rule.name() == rule.rule.name()) {
            root.fault("rules", format!("two have the name {:?}", rule.rule.name()));
        }
        rules.push(rule);
    }
    if rules.is_empty() {
        root.fault_here("nothing would be judged: give rules");
    }
    root.end();
    Some(Policy { rules })
}

/// What is judged.
fn operations(section: &mut Section<'_>) -> Option<Operations> {
    let read = |value: &toml::Value| {
        let operation = |it: &toml::Value| {
            let word = it.as_str()?;
            Operation::ALL.into_iter().find(|operation| operation.word() == word)
        };
        let operations: Option<Operations> = value.as_array()?.iter().map(operation).collect();
        operations.filter(|operations| !operations.is_empty())
    };
    let takes = "a list of open, join, write and subscribe";
    section.needed("on", takes, read)
}

fn rule(mut section: Section<'_>) -> Option<AppRule> {
    let name = section.needed("name", "a name", |value| value.as_str().map(Key::from));
    let on = operations(&mut section);
    let apps = section.apps("apps");
    let text = |value: &toml::Value| value.as_str().map(Key::from);
    let takes = format!("an expression of up to {SOURCE_BYTES} bytes");
    let expression = section.needed("expression", &takes, text);
    let message = section.needed("message", "what is told to whoever is refused", text);
    let rule = match (name, on, expression, message) {
        (Some(name), Some(on), Some(expression), Some(message)) => {
            Rule::new(&judging::Rule { name, on, expression, message })
                .map_err(|(field, fault)| section.fault(field, fault))
                .ok()
        }
        _ => None,
    };
    section.end();
    Some(AppRule { apps: apps?, rule: rule? })
}
