//! The rules of sessions.

use super::Door;
use crate::{
    engine::rule::{RULES, Rule as Checked},
    proto,
    session::{
        ids::Key,
        judging::{Operation, Operations, Rule},
    },
};
use std::{collections::HashSet, sync::Arc};

impl Door<'_> {
    /// The rules of a new session; each is read as it will be read when it judges.
    pub(super) fn rules(&mut self, field: &str, rules: &[proto::SessionRule]) -> Arc<[Rule]> {
        if rules.len() > RULES {
            self.fault(field, format!("has {} rules, more than {RULES}", rules.len()));
            return [].into();
        }
        let mut names = HashSet::new();
        let one = |(at, rule): (usize, &proto::SessionRule)| {
            self.within(&format!("{field}[{at}]."), |door| {
                let on = door.judged("on", &rule.on);
                if !names.insert(rule.name.clone()) {
                    door.fault("name", "is that of another rule");
                }
                let rule = Rule {
                    name: Key::from(&*rule.name),
                    on: on.unwrap_or_default(),
                    expression: Key::from(&*rule.expression),
                    message: Key::from(&*rule.message),
                };
                match Checked::new(&rule) {
                    Ok(_) => Some(rule),
                    Err(faults) => {
                        // What it is on may have been reported already.
                        let faults =
                            faults.into_iter().filter(|(it, _)| *it != "on" || on.is_some());
                        faults.for_each(|(field, fault)| door.fault(field, fault));
                        None
                    }
                }
            })
        };
        rules.iter().enumerate().filter_map(one).collect()
    }

    fn judged(&mut self, field: &str, on: &[i32]) -> Option<Operations> {
        let one = |(at, on): (usize, &i32)| match proto::JudgedOperation::try_from(*on) {
            Ok(proto::JudgedOperation::Join) => Some(Operation::Join),
            Ok(proto::JudgedOperation::Write) => Some(Operation::Write),
            Ok(proto::JudgedOperation::Subscribe) => Some(Operation::Subscribe),
            Ok(proto::JudgedOperation::Open) => {
                self.fault(format!("{field}[{at}]"), "a session is open before its rules hold");
                None
            }
            Ok(proto::JudgedOperation::Unspecified) | Err(_) => {
                self.fault(format!("{field}[{at}]"), format!("{on} is no operation"));
                None
            }
        };
        on.iter().enumerate().map(one).collect::<Vec<_>>().into_iter().collect()
    }
}
