//! What an expression may be made of.

use super::{DEPTH, Mention, NODES, Vocabulary};
use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr, operators},
};

/// All that an expression may call. Everything here takes time in proportion to its arguments.
const CALLS: [&str; 31] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::NOT_STRICTLY_FALSE,
    operators::IN,
    "size",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "bool",
    "type",
    "dyn",
    "contains",
    "startsWith",
    "endsWith",
];

/// The same where moments are spoken of.
const TIMESTAMP: &str = "timestamp";

/// Where in a comprehension a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    /// What is run over.
    Range,
    /// What is done with each element.
    Body,
}

/// Looks at an expression before it is ever run.
pub struct Check {
    vocabulary: &'static Vocabulary,
    /// How many nodes it has.
    pub nodes: usize,
    /// Whether it has a comprehension.
    pub repeats: bool,
    /// What it looks at, each once.
    pub mentions: Vec<Mention>,
    /// The variables of the comprehension that is looked at.
    names: Vec<String>,
    within: Option<Within>,
}

impl Check {
    /// Nothing is looked at yet.
    pub fn new(vocabulary: &'static Vocabulary) -> Self {
        let (mentions, names) = (Vec::new(), Vec::new());
        Self { vocabulary, nodes: 0, repeats: false, mentions, names, within: None }
    }

    /// Looks at a node and at what is in it; says what is wrong with them.
    pub fn node(&mut self, node: &IdedExpr, depth: usize) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > NODES {
            return Err(format!("has more than {NODES} nodes"));
        }
        if depth > DEPTH {
            return Err(format!("is deeper than {DEPTH}"));
        }
        match &node.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.name(name, None),
            Expr::Select(select) => match &select.operand.expr {
                // What is asked of `has` is the map itself.
                Expr::Ident(map) if !select.test && self.is_map(map) => {
                    self.nodes += 1;
                    self.name(map, Some(&select.field))
                }
                _ => self.node(&select.operand, depth + 1),
            },
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                if name == "matches" {
                    return Err("must not use regular expressions".to_owned());
                }
                let tells_time = name == TIMESTAMP && self.vocabulary.timestamps;
                if !CALLS.contains(&name) && !tells_time {
                    return Err(format!("must not call `{name}`"));
                }
                if name == operators::ADD && self.within == Some(Within::Range) {
                    return Err("must not run over a sum".to_owned());
                }
                call.target.iter().try_for_each(|target| self.node(target, depth + 1))?;
                call.args.iter().try_for_each(|argument| self.node(argument, depth + 1))
            }
            Expr::List(list) => {
                list.elements.iter().try_for_each(|item| self.node(item, depth + 1))
            }
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.node(&entry.key, depth + 1)?;
                    self.node(&entry.value, depth + 1)
                }
                EntryExpr::StructField(_) => Err("must not build structs".to_owned()),
            }),
            Expr::Comprehension(run) => {
                if self.within.is_some() {
                    return Err("must not nest or chain comprehensions".to_owned());
                }
                self.repeats = true;
                self.within = Some(Within::Range);
                self.node(&run.iter_range, depth + 1)?;
                self.within = Some(Within::Body);
                self.names = [&run.iter_var, &run.accu_var]
                    .into_iter()
                    .chain(&run.iter_var2)
                    .cloned()
                    .collect();
                for part in [&run.accu_init, &run.loop_cond, &run.loop_step, &run.result] {
                    self.node(part, depth + 1)?;
                }
                self.names.clear();
                self.within = None;
                Ok(())
            }
            Expr::Struct(_) => Err("must not build structs".to_owned()),
            Expr::Unspecified => Err("is empty".to_owned()),
        }
    }

    /// Whether a name stands for a map whose entries are looked up by themselves.
    fn is_map(&self, name: &String) -> bool {
        self.vocabulary.maps.contains(&name.as_str()) && !self.names.contains(name)
    }

    fn name(&mut self, name: &String, key: Option<&String>) -> Result<(), String> {
        if self.names.contains(name) {
            return Ok(());
        }
        let names = self.vocabulary.names;
        let Some(name) = names.iter().find(|known| *known == name) else {
            let known: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            let known = match &*known {
                [first @ .., last] if !first.is_empty() => {
                    format!("{} and {last}", first.join(", "))
                }
                known => known.concat(),
            };
            return Err(format!("knows only {known}, not `{name}`"));
        };
        let path = key.map_or_else(|| (*name).to_owned(), |key| format!("{name}.{key}"));
        if self.mentions.iter().all(|known| known.path != path) {
            let key = key.map(|key| key.as_str().into());
            self.mentions.push(Mention { name, key, path });
        }
        Ok(())
    }
}
