//! What an expression may be made of.

use super::{Asks, DEPTH, Mention, NODES, Vocabulary};
use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr, LiteralValue, operators},
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

    /// Looks at a node and at what is in it; says what is wrong with them. What asks for one entry of
    /// a map is made a name, so that the map is not looked up.
    pub fn node(&mut self, node: &mut IdedExpr, depth: usize) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > NODES {
            return Err(format!("has more than {NODES} nodes"));
        }
        if depth > DEPTH {
            return Err(format!("is deeper than {DEPTH}"));
        }
        if let Some(entry) = self.entry(&node.expr).or_else(|| self.field(&node.expr)) {
            self.nodes += 1;
            node.expr = Expr::Ident(entry.path.clone());
            self.note(entry);
            return Ok(());
        }
        self.check_field(&node.expr)?;
        match &mut node.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.node(&mut select.operand, depth + 1),
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
                call.target.iter_mut().try_for_each(|target| self.node(target, depth + 1))?;
                call.args.iter_mut().try_for_each(|argument| self.node(argument, depth + 1))
            }
            Expr::List(list) => {
                list.elements.iter_mut().try_for_each(|item| self.node(item, depth + 1))
            }
            Expr::Map(map) => map.entries.iter_mut().try_for_each(|entry| match &mut entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.node(&mut entry.key, depth + 1)?;
                    self.node(&mut entry.value, depth + 1)
                }
                EntryExpr::StructField(_) => Err("must not build structs".to_owned()),
            }),
            Expr::Comprehension(run) => {
                if self.within.is_some() {
                    return Err("must not nest or chain comprehensions".to_owned());
                }
                self.repeats = true;
                self.within = Some(Within::Range);
                self.node(&mut run.iter_range, depth + 1)?;
                self.within = Some(Within::Body);
                self.names = [&run.iter_var, &run.accu_var]
                    .into_iter()
                    .chain(&run.iter_var2)
                    .cloned()
                    .collect();
                for part in
                    [&mut run.accu_init, &mut run.loop_cond, &mut run.loop_step, &mut run.result]
                {
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

    /// The entry of a map that a node asks for, and in which way.
    fn entry(&self, node: &Expr) -> Option<Mention> {
        let mention = |map: &IdedExpr, key: &str, asks: Asks| {
            let map = self.named(&map.expr)?;
            let name = self.vocabulary.maps.iter().find(|known| **known == map)?;
            let path = match asks {
                Asks::Value => format!("{name}[{key:?}]"),
                Asks::Presence => format!("has({name}[{key:?}])"),
            };
            Some(Mention { name, key: Some(key.into()), asks, path })
        };
        match node {
            Expr::Select(select) => {
                let asks = if select.test { Asks::Presence } else { Asks::Value };
                mention(&select.operand, &select.field, asks)
            }
            Expr::Call(call) if call.func_name == operators::INDEX => match &*call.args {
                [map, IdedExpr { expr: Expr::Literal(LiteralValue::String(key)), .. }] => {
                    mention(map, key.inner(), Asks::Value)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// What stands for a name of the vocabulary: the name, or a field of something, `of.field`.
    fn named(&self, node: &Expr) -> Option<String> {
        let free = |name: &String| !self.names.contains(name);
        match node {
            Expr::Ident(name) => Some(name.clone()).filter(free),
            Expr::Select(select) if !select.test => match &select.operand.expr {
                Expr::Ident(of) if free(of) => Some(format!("{of}.{}", select.field)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The name of the vocabulary that is written `of.field`, or whether it is there.
    fn field(&self, node: &Expr) -> Option<Mention> {
        let Expr::Select(select) = node else { return None };
        let Expr::Ident(of) = &select.operand.expr else { return None };
        let dotted = format!("{of}.{}", select.field);
        let name = self.vocabulary.names.iter().find(|known| **known == dotted)?;
        let (asks, path) = match select.test {
            true => (Asks::Presence, format!("has({name})")),
            false => (Asks::Value, (*name).to_owned()),
        };
        (!self.names.contains(of)).then_some(Mention { name, key: None, asks, path })
    }

    /// A field that is not known of something that has fields.
    fn check_field(&self, node: &Expr) -> Result<(), String> {
        let Expr::Select(select) = node else { return Ok(()) };
        let Expr::Ident(of) = &select.operand.expr else { return Ok(()) };
        let prefix = format!("{of}.");
        let is_of = |name: &&&str| name.starts_with(&prefix);
        let known: Vec<_> = self.vocabulary.names.iter().filter(is_of).copied().collect();
        match known.is_empty() || self.names.contains(of) {
            true => Ok(()),
            false => Err(unknown(&known, &format!("{prefix}{}", select.field))),
        }
    }

    fn name(&mut self, name: &str) -> Result<(), String> {
        if self.names.iter().any(|known| known == name) {
            return Ok(());
        }
        let names = self.vocabulary.names;
        let Some(name) = names.iter().find(|known| **known == name) else {
            return Err(unknown(names, name));
        };
        self.note(Mention { name, key: None, asks: Asks::Value, path: (*name).to_owned() });
        Ok(())
    }

    fn note(&mut self, mention: Mention) {
        if self.mentions.iter().all(|known| known.path != mention.path) {
            self.mentions.push(mention);
        }
    }
}

/// That a name is not known, with those that are.
fn unknown(names: &[&str], name: &str) -> String {
    let known: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    let known = match &*known {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        known => known.concat(),
    };
    format!("knows only {known}, not `{name}`")
}
