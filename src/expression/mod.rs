//! Expressions that callers write: CEL, bounded, and without any effect. The only room that knows CEL.
//!
//! An expression is bounded twice. When it is made: its length, nodes and depth, a list of the
//! functions it may call, and no comprehension inside another or over a sum, so that nothing grows
//! by more than its own length. When it runs: each mention of a name costs what its value weighs, and
//! there is only so much to spend, so that `value.filter(x, x in value)` ends early on a long array.
//! Both together bound time and memory, so nothing has to be interrupted.

mod check;
mod convert;

use crate::session::{ids::Key, size, value::Value};
use cel::{
    Env, ExecutionError, IdedExpr,
    common::{
        types::{self, CelInt, CelString},
        value::{CowVal, Val},
    },
    context::VariableResolver,
    parser::PrattParser,
};
use check::Check;
use convert::{from_cel, to_cel, weight};
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::UNIX_EPOCH,
};

/// Bytes of an expression.
pub const SOURCE_BYTES: usize = 1024;

/// Nodes of an expression, with what its macros stand for.
pub const NODES: usize = 96;

/// Levels of an expression, with what its macros stand for.
pub const DEPTH: usize = 24;

/// Bytes of each value that an expression looks at, and of what comes out.
pub const VALUE_BYTES: usize = 64 * 1024;

/// What an expression may speak of.
#[derive(Debug)]
pub struct Vocabulary {
    /// The names that it may mention. One with a dot is written as a field, `request.user_id`.
    pub names: &'static [&'static str],
    /// Those of them that are maps and of which `name.key`, `name['key']` and `has(name.key)` are
    /// looked up by themselves.
    pub maps: &'static [&'static str],
    /// Whether it may call `timestamp`, which makes microseconds since 1970 of a moment in RFC 3339.
    pub timestamps: bool,
}

/// What an expression looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// A name of the vocabulary.
    pub name: &'static str,
    /// Only the entry of this key, of a map.
    pub key: Option<Key>,
    asks: Asks,
    /// What stands for it in the expression.
    path: String,
}

/// What is asked of something that is mentioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// What it is.
    Value,
    /// Whether it is there.
    Presence,
}

/// An expression, checked and ready to run.
pub struct Expression {
    source: Key,
    tree: IdedExpr,
    /// Each once.
    mentions: Vec<Mention>,
    nodes: usize,
    /// It has a comprehension.
    repeats: bool,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

impl Expression {
    /// Parses and checks an expression; says what is wrong with it.
    pub fn new(source: &str, vocabulary: &'static Vocabulary) -> Result<Self, String> {
        if source.len() > SOURCE_BYTES {
            return Err(format!("has {} bytes, more than {SOURCE_BYTES}", source.len()));
        }
        let parser = PrattParser::new()
            .max_recursion_depth(DEPTH as u16)
            .error_recovery_limit(1)
            .error_reporting_limit(1)
            .max_expression_node_count(4 * SOURCE_BYTES);
        let mut tree = parser.parse(source).map_err(|faults| {
            let first = faults.errors.first().map(|fault| fault.msg.clone());
            format!("is not CEL: {}", first.unwrap_or_default())
        })?;
        let mut check = Check::new(vocabulary);
        check.node(&mut tree, 1)?;
        let Check { nodes, repeats, mentions, .. } = check;
        Ok(Self { source: source.into(), tree, mentions, nodes, repeats })
    }

    /// The names that it mentions.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.mentions.iter().map(|mention| mention.name)
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Runs it on what `look` finds: what is not found is not there. `most` is what all mentions
    /// together may weigh. Null comes out where it has nothing to say; an error is said in words.
    pub fn run(
        &self,
        look: impl Fn(&Mention) -> Option<Value>,
        most: usize,
    ) -> Result<Value, String> {
        self.run_counted(look, most).0
    }

    /// The same, and about how many steps it took at most. A step is a node that is looked at, or an
    /// element or 64 bytes of a value.
    pub fn run_counted(
        &self,
        look: impl Fn(&Mention) -> Option<Value>,
        most: usize,
    ) -> (Result<Value, String>, usize) {
        let left = AtomicUsize::new(most);
        let result = self.run_within(look, &left);
        let spent = match left.load(Ordering::Relaxed) {
            SPENT => most,
            left => most - left,
        };
        let each = if self.repeats { spent + 1 } else { 1 };
        (result, spent + self.nodes * each)
    }

    fn run_within(
        &self,
        look: impl Fn(&Mention) -> Option<Value>,
        left: &AtomicUsize,
    ) -> Result<Value, String> {
        let mut inputs = Inputs { list: Vec::with_capacity(self.mentions.len()), left };
        for mention in &self.mentions {
            let found = look(mention);
            let found = match mention.asks {
                Asks::Value => found,
                Asks::Presence => Some(Value::Flag(found.is_some())),
            };
            if let Some(value) = found {
                inputs.list.push((&mention.path, Input::new(mention.name, &value)?));
            }
        }
        let run = || {
            let mut context = cel::Context::with_env(ENV.clone());
            context.set_variable_resolver(&inputs);
            cel::Value::resolve(&self.tree, &context)
        };
        // A defect of the interpreter must not end more than this run.
        let result = catch_unwind(AssertUnwindSafe(run))
            .map_err(|_| "the expression cannot be evaluated".to_owned())?;
        if left.load(Ordering::Relaxed) == SPENT {
            return Err("the expression looks at too much".to_owned());
        }
        let result = from_cel(&result.map_err(|fault| told(&fault))?)?;
        match size::of(&result) {
            bytes if bytes > VALUE_BYTES => {
                Err(format!("the result has {bytes} bytes, more than {VALUE_BYTES}"))
            }
            _ => Ok(result),
        }
    }
}

/// What every expression runs with.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::default().with_stdlib();
    env.add_overload("timestamp", "timestamp_string", vec![types::STRING_TYPE], timestamp)
        .expect("the library has no timestamps");
    Arc::new(env)
});

fn timestamp<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let text = args.first().and_then(|text| text.downcast_ref::<CelString<'_>>());
    let moment = text.and_then(|text| humantime::parse_rfc3339(text.inner()).ok());
    let since = moment.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
    let micros = since.and_then(|since| i64::try_from(since.as_micros()).ok());
    let micros = micros.ok_or_else(|| {
        let fault = "no moment in RFC 3339 and UTC, since 1970".to_owned();
        ExecutionError::function_error("timestamp", fault)
    })?;
    Ok(CowVal::owned(CelInt::from(micros)))
}

/// The words of an error, without the values that some of them carry.
fn told(fault: &ExecutionError) -> String {
    let mut text = fault.to_string();
    if text.len() > 200 {
        let cut = (0..=200).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(cut);
        text.push_str("...");
    }
    text
}

/// What is left once a run has tried to spend more than it had.
const SPENT: usize = usize::MAX;

/// What is mentioned, and what may still be spent on it.
struct Inputs<'a> {
    list: Vec<(&'a str, Input)>,
    left: &'a AtomicUsize,
}

struct Input {
    value: Box<dyn Val>,
    weight: usize,
}

impl Input {
    fn new(name: &str, value: &Value) -> Result<Self, String> {
        let bytes = size::of(value);
        if bytes > VALUE_BYTES {
            return Err(format!("{name} has {bytes} bytes, more than {VALUE_BYTES}"));
        }
        let input = to_cel(value).try_into().map_err(|fault| told(&fault))?;
        Ok(Self { value: input, weight: weight(value) })
    }
}

impl VariableResolver for Inputs<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let (_, input) = self.list.iter().find(|(path, _)| *path == variable)?;
        let left = self.left.load(Ordering::Relaxed);
        let rest = if left == SPENT { None } else { left.checked_sub(input.weight) };
        self.left.store(rest.unwrap_or(SPENT), Ordering::Relaxed);
        rest.map(|_| CowVal::Borrowed(input.value.as_ref()))
    }
}

#[cfg(test)]
mod tests;
