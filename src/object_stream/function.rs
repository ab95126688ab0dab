//! Functions of readers: CEL expressions over `value` and `last`. The only file that knows CEL.
//!
//! An expression is bounded twice. When it is added: its length, nodes and depth, a list of the
//! functions it may call, and no comprehension inside another or over a sum, so that nothing grows
//! by more than its own length. When it runs: each mention of `value` or `last` costs what it
//! weighs, and there is only so much to spend, so that `value.filter(x, x in value)` ends early on a
//! long array. Both together bound time and memory, so nothing has to be interrupted.

use crate::session::{ids::Key, size, value::Value};
use cel::{
    Env, IdedExpr,
    common::{
        ast::{EntryExpr, Expr, operators},
        value::CowVal,
    },
    context::VariableResolver,
    objects::Key as CelKey,
    parser::PrattParser,
};
use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Bytes of an expression.
pub const SOURCE_BYTES: usize = 1024;

/// Nodes of an expression, with what its macros stand for.
pub const NODES: usize = 96;

/// Levels of an expression, with what its macros stand for.
pub const DEPTH: usize = 24;

/// Bytes of `value` and of `last`, each, and of what comes out.
pub const INPUT_BYTES: usize = 64 * 1024;

/// What all mentions of `value` and `last` in one run may weigh: an element weighs 1, and so do 64
/// bytes of text or data.
const BUDGET: usize = 24 * 1024;

/// Levels of nesting of what comes out.
const RESULT_LEVELS: usize = 32;

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

/// A function, checked and ready to run.
pub struct Function {
    source: Key,
    expression: IdedExpr,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Function").field(&self.source).finish()
    }
}

impl Function {
    /// Parses and checks an expression; says what is wrong with it.
    pub fn new(source: &str) -> Result<Self, String> {
        if source.len() > SOURCE_BYTES {
            return Err(format!("has {} bytes, more than {SOURCE_BYTES}", source.len()));
        }
        let parser = PrattParser::new()
            .max_recursion_depth(DEPTH as u16)
            .error_recovery_limit(1)
            .error_reporting_limit(1)
            .max_expression_node_count(4 * SOURCE_BYTES);
        let expression = parser.parse(source).map_err(|faults| {
            let first = faults.errors.first().map(|fault| fault.msg.clone());
            format!("is not CEL: {}", first.unwrap_or_default())
        })?;
        let mut check = Check { nodes: 0, names: Vec::new(), within: None };
        check.node(&expression, 1)?;
        Ok(Self { source: source.into(), expression })
    }

    /// The expression as it was added.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Runs it. Null comes out where it has nothing to say; an error is told in words.
    pub fn call(&self, value: &Value, last: &Value) -> Result<Value, String> {
        static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::default().with_stdlib()));
        let inputs = Inputs {
            value: Input::new("value", value)?,
            last: Input::new("last", last)?,
            left: AtomicUsize::new(BUDGET),
        };
        let run = || {
            let mut context = cel::Context::with_env(ENV.clone());
            context.set_variable_resolver(&inputs);
            cel::Value::resolve(&self.expression, &context)
        };
        // A defect of the interpreter must not end more than this run.
        let result = catch_unwind(AssertUnwindSafe(run))
            .map_err(|_| "the expression cannot be evaluated".to_owned())?;
        if inputs.left.load(Ordering::Relaxed) == SPENT {
            return Err("the expression looks at too much".to_owned());
        }
        let result = result.map_err(|fault| told(&fault))?;
        let result = from_cel(&result, 1)?;
        match size::of(&result) {
            bytes if bytes > INPUT_BYTES => {
                Err(format!("the result has {bytes} bytes, more than {INPUT_BYTES}"))
            }
            _ => Ok(result),
        }
    }
}

/// The words of an error, without the values that some of them carry.
fn told(fault: &cel::ExecutionError) -> String {
    let mut text = fault.to_string();
    if text.len() > 200 {
        let cut = (0..=200).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(cut);
        text.push_str("...");
    }
    text
}

/// Where in a comprehension a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    /// What is run over.
    Range,
    /// What is done with each element.
    Body,
}

struct Check {
    nodes: usize,
    /// The variables of the comprehension that is looked at.
    names: Vec<String>,
    within: Option<Within>,
}

impl Check {
    fn node(&mut self, node: &IdedExpr, depth: usize) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > NODES {
            return Err(format!("has more than {NODES} nodes"));
        }
        if depth > DEPTH {
            return Err(format!("is deeper than {DEPTH}"));
        }
        match &node.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => {
                if name == "value" || name == "last" || self.names.contains(name) {
                    return Ok(());
                }
                Err(format!("knows only `value` and `last`, not `{name}`"))
            }
            Expr::Select(select) => self.node(&select.operand, depth + 1),
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                if name == "matches" {
                    return Err("must not use regular expressions".to_owned());
                }
                if !CALLS.contains(&name) {
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
}

/// What is left once a run has tried to spend more than it had.
const SPENT: usize = usize::MAX;

/// `value` and `last`, and what may still be spent on them.
struct Inputs {
    value: Input,
    last: Input,
    left: AtomicUsize,
}

struct Input {
    value: Box<dyn cel::common::value::Val>,
    weight: usize,
}

impl Input {
    fn new(name: &str, value: &Value) -> Result<Self, String> {
        let bytes = size::of(value);
        if bytes > INPUT_BYTES {
            return Err(format!("{name} has {bytes} bytes, more than {INPUT_BYTES}"));
        }
        let input = to_cel(value).try_into().map_err(|fault| told(&fault))?;
        Ok(Self { value: input, weight: weight(value) })
    }
}

impl VariableResolver for Inputs {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let input = match variable {
            "value" => &self.value,
            "last" => &self.last,
            _ => return None,
        };
        let left = self.left.load(Ordering::Relaxed);
        let rest = if left == SPENT { None } else { left.checked_sub(input.weight) };
        self.left.store(rest.unwrap_or(SPENT), Ordering::Relaxed);
        rest.map(|_| CowVal::Borrowed(input.value.as_ref()))
    }
}

fn weight(value: &Value) -> usize {
    1 + match value {
        Value::Null | Value::Flag(_) | Value::Integer(_) | Value::Number(_) => 0,
        Value::Text(text) => text.len() / 64,
        Value::Data(data) => data.len() / 64,
        Value::Numbers(items) => items.len(),
        Value::Floats(items) => items.len(),
        Value::Integers(items) => items.len(),
        Value::List(items) => items.iter().map(weight).sum(),
        Value::Map(entries) => {
            entries.iter().map(|(key, value)| 1 + key.len() / 64 + weight(value)).sum()
        }
    }
}

fn to_cel(value: &Value) -> cel::Value {
    fn list(items: impl Iterator<Item = cel::Value>) -> cel::Value {
        cel::Value::List(Arc::new(items.collect()))
    }
    match value {
        Value::Null => cel::Value::Null,
        Value::Flag(flag) => cel::Value::Bool(*flag),
        Value::Integer(integer) => cel::Value::Int(*integer),
        Value::Number(number) => cel::Value::Float(*number),
        Value::Text(text) => cel::Value::String(Arc::new(text.to_string())),
        Value::Data(data) => cel::Value::Bytes(Arc::new(data.to_vec())),
        Value::Numbers(items) => list(items.iter().map(|item| cel::Value::Float(*item))),
        Value::Floats(items) => list(items.iter().map(|item| cel::Value::Float((*item).into()))),
        Value::Integers(items) => list(items.iter().map(|item| cel::Value::Int(*item))),
        Value::List(items) => list(items.iter().map(to_cel)),
        Value::Map(entries) => {
            let entry = |(key, value): &(Key, Value)| {
                (CelKey::String(Arc::new(key.to_string())), to_cel(value))
            };
            let map: HashMap<_, _> = entries.iter().map(entry).collect();
            cel::Value::Map(cel::objects::Map { map: Arc::new(map) })
        }
    }
}

fn from_cel(value: &cel::Value, level: usize) -> Result<Value, String> {
    if level > RESULT_LEVELS {
        return Err(format!("the result is nested deeper than {RESULT_LEVELS}"));
    }
    Ok(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(flag) => Value::Flag(*flag),
        cel::Value::Int(integer) => Value::Integer(*integer),
        cel::Value::UInt(integer) => i64::try_from(*integer)
            .map(Value::Integer)
            .map_err(|_| "the result is no 64-bit integer".to_owned())?,
        cel::Value::Float(number) => Value::Number(*number),
        cel::Value::String(text) => Value::Text(text.as_str().into()),
        cel::Value::Bytes(data) => Value::Data(data.as_slice().into()),
        cel::Value::List(items) => {
            let items: Result<Vec<_>, _> =
                items.iter().map(|item| from_cel(item, level + 1)).collect();
            Value::List(items?.into())
        }
        cel::Value::Map(map) => {
            let mut entries = Vec::with_capacity(map.map.len());
            for (key, item) in map.map.iter() {
                let CelKey::String(key) = key else {
                    return Err("the result has a map whose keys are not text".to_owned());
                };
                entries.push((Key::from(key.as_str()), from_cel(item, level + 1)?));
            }
            entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            Value::Map(entries.into())
        }
        _ => return Err("the result is no value".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(source: &str, value: Value, last: Value) -> Result<Value, String> {
        Function::new(source).expect("it is fine").call(&value, &last)
    }

    fn refused(source: &str) -> String {
        Function::new(source).expect_err("it is refused")
    }

    fn integers(items: impl IntoIterator<Item = i64>) -> Value {
        Value::Integers(items.into_iter().collect())
    }

    fn list(items: impl IntoIterator<Item = i64>) -> Value {
        Value::List(items.into_iter().map(Value::Integer).collect())
    }

    #[test]
    fn expressions_see_what_the_key_holds_and_held() {
        assert_eq!(
            run("value - last", Value::Integer(7), Value::Integer(5)),
            Ok(Value::Integer(2))
        );
        assert_eq!(
            run("last == null ? value : null", Value::Number(0.5), Value::Null),
            Ok(Value::Number(0.5))
        );
        assert_eq!(
            run("value.filter(x, x > last)", integers(1..5), Value::Integer(2)),
            Ok(list(3..5))
        );
        assert_eq!(run("value.map(x, x * 2)", integers(1..3), Value::Null), Ok(list([2, 4])));
        assert_eq!(run("size(value)", integers(1..3), Value::Null), Ok(Value::Integer(2)));
        assert_eq!(
            run("value.exists(x, x == 2) && !value.all(x, x == 2)", integers(1..3), Value::Null),
            Ok(Value::Flag(true))
        );
        let map = Value::Map([("hp".into(), Value::Integer(3))].into());
        assert_eq!(
            run("has(value.hp) ? value.hp : 0", map.clone(), Value::Null),
            Ok(Value::Integer(3))
        );
        assert_eq!(run("{'n': value.hp}.n", map, Value::Null), Ok(Value::Integer(3)));
        assert_eq!(
            run("value + '!'", Value::Text("go".into()), Value::Null),
            Ok(Value::Text("go!".into()))
        );
    }

    #[test]
    fn errors_are_told_and_never_crash() {
        for source in [
            "value + 'a'",
            "value / 0",
            "value % 0",
            "-(value - 1)",
            "value * 2",
            "value.a",
            "value[0]",
            "int('x')",
            "{1: 2}",
            "uint(18446744073709551615u)",
            "value < 'a'",
            "value()",
            "[1][9]",
            "int(1e300)",
        ] {
            if let Ok(function) = Function::new(source) {
                assert!(
                    function.call(&Value::Integer(i64::MIN), &Value::Null).is_err(),
                    "{source}"
                );
            }
        }
    }

    #[test]
    fn what_could_grow_is_refused() {
        assert!(refused("value.matches('a+')").contains("regular expressions"));
        assert!(refused("matches(value, 'a+')").contains("regular expressions"));
        assert!(refused("value.map(x, value.map(y, x + y))").contains("nest"));
        assert!(refused("[value].map(x, x + x).map(x, x + x)").contains("nest"));
        assert!(refused("value.filter(x, last.exists(y, x == y))").contains("nest"));
        assert!(refused("(value + value).map(x, x)").contains("sum"));
        assert!(refused("unknown + 1").contains("`unknown`"));
        assert!(refused("value.explode()").contains("`explode`"));
        assert!(refused("value.optMap(x, x)").contains("`optMap`"));
        assert!(refused("Thing{a: 1}").contains("struct"));
        assert!(refused("value +").contains("not CEL"));
        assert!(refused("").contains("not CEL"));
        assert!(refused("@result").contains("not CEL"));
    }

    #[test]
    fn length_nodes_and_depth_are_bounded() {
        let spaced = |bytes: usize| format!("value{}", " ".repeat(bytes - 5));
        assert!(Function::new(&spaced(SOURCE_BYTES)).is_ok());
        assert!(refused(&spaced(SOURCE_BYTES + 1)).contains("1025 bytes"));

        let listed = |nodes: usize| format!("[{}]", vec!["1"; nodes - 1].join(","));
        assert!(Function::new(&listed(NODES)).is_ok());
        assert!(refused(&listed(NODES + 1)).contains("nodes"));

        let selected = |depth: usize| format!("value{}", ".a".repeat(depth - 1));
        assert!(Function::new(&selected(DEPTH)).is_ok());
        assert!(refused(&selected(DEPTH + 1)).contains("deeper"));
        for nested in [
            format!("{}1{}", "[".repeat(400), "]".repeat(400)),
            format!("{}1{}", "(".repeat(400), ")".repeat(400)),
            "[".repeat(SOURCE_BYTES),
            "(".repeat(SOURCE_BYTES),
            "!-".repeat(SOURCE_BYTES / 2),
            "{1:".repeat(300),
            "value?".repeat(150),
            "true?1:".repeat(140) + "1",
            "value.a(".repeat(100),
            "value[".repeat(170),
            "1+".repeat(500) + "1",
            "has(".repeat(250),
            "value.map(x,".repeat(80),
        ] {
            let deep = Function::new(&nested);
            assert!(deep.is_err() || nested.starts_with("(((("), "{nested}");
        }
    }

    #[test]
    fn the_largest_inputs_take_little() {
        let most = integers(std::iter::repeat_n(1, 16_384));
        let text = Value::Text("a".repeat(INPUT_BYTES - 16).into());
        for source in [
            "value.map(x, [x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x])",
            "value.filter(x, x in value)",
            "value.map(x, value)",
            "value.filter(x, x in last)",
            "value.exists(x, value == last && x == 2)",
            "value.map(x, value + value)",
            "[value,value,value,value,value,value].map(x, x + x + x + x + x + x + x + x)",
            "value + value + value + value + value + value + value + value",
            "value.exists_one(x, value.contains(last))",
            "value.all(x, x == 1 || value == last)",
        ] {
            let function = Function::new(source).expect(source);
            for (value, last) in [(&most, &most), (&text, &text), (&most, &text)] {
                let _ = function.call(value, last);
            }
        }
        let quadratic = run("value.filter(x, x in value)", most, Value::Null);
        assert_eq!(quadratic, Err("the expression looks at too much".to_owned()));
        let small = run("value.filter(x, x in value)", integers(0..150), Value::Null);
        assert_eq!(small, Ok(list(0..150)));
    }

    #[test]
    fn inputs_and_results_are_bounded() {
        let text = |bytes: usize| Value::Text("a".repeat(bytes).into());
        let fits = INPUT_BYTES - size::of(&text(INPUT_BYTES - 100)) + INPUT_BYTES - 100;
        assert!(run("size(value)", text(fits), Value::Null).is_ok());
        assert!(run("size(value)", text(fits + 1), Value::Null).is_err());
        assert!(run("1", Value::Null, text(fits + 1)).is_err());
        assert!(run("value + value", text(fits / 2 + 8), Value::Null).is_err());
    }

    const WORDS: [&str; 48] = [
        "value",
        "last",
        "x",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ".",
        ":",
        "?",
        "+",
        "-",
        "*",
        "/",
        "%",
        "==",
        "<",
        "&&",
        "||",
        "!",
        "in",
        "value.map(x, ",
        "value.filter(x, ",
        "last.all(x, ",
        "has(value.a)",
        "size(",
        "int(",
        "string(",
        "bytes(",
        "'a'",
        "b'a'",
        "0",
        "1",
        "-1",
        "9223372036854775807",
        "1u",
        "1.5",
        "1e308",
        "null",
        "true",
        "value[0]",
        ".a",
        ".?a",
        "value.a",
        "\u{0}",
    ];

    fn inputs() -> impl Strategy<Value = Value> {
        let map = Value::Map([("a".into(), Value::Integer(1)), ("b".into(), Value::Null)].into());
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Integer),
            any::<f64>().prop_map(Value::Number),
            ".{0,8}".prop_map(|text| Value::Text(text.as_str().into())),
            prop::collection::vec(any::<i64>(), 0..40).prop_map(integers),
            Just(Value::List([map.clone(), Value::Flag(true), integers(0..3)].into())),
            Just(map),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_written_comes_to_a_bounded_end(
            words in prop::collection::vec(prop::sample::select(&WORDS), 1..14),
            value in inputs(),
            last in inputs(),
        ) {
            // Half of them with their brackets closed, so that more of them are expressions.
            let open = words.join(" ");
            let closed = |bracket: char| match bracket {
                '(' => Some(')'),
                '[' => Some(']'),
                '{' => Some('}'),
                _ => None,
            };
            let ends: String = open.chars().rev().filter_map(closed).collect();
            for source in [format!("{open}{ends}"), open] {
                if let Ok(function) = Function::new(&source)
                    && let Ok(result) = function.call(&value, &last)
                {
                    prop_assert!(size::of(&result) <= INPUT_BYTES);
                }
            }
        }
    }
}
