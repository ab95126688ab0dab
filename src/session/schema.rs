//! The fixed format of a session's values: which keys there are, what they hold, who writes them.

use super::{
    Session,
    access::Standing,
    command::{Actor, Write},
    error::{Faults, Path, Refusal},
    ids::Key,
    limits::Limits,
    role::Role,
    size,
    value::Value,
};
use std::sync::Arc;

/// The format of a session. A part without fields has no keys: nothing can be written there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// Every member's props.
    pub props: Fields,
    /// The shared session data.
    pub data: Fields,
    /// The private session data.
    pub private_data: Fields,
}

impl Schema {
    /// About how many bytes it holds.
    pub fn bytes(&self) -> usize {
        [&self.props, &self.data, &self.private_data].into_iter().map(fields_bytes).sum()
    }
}

fn fields_bytes(fields: &Fields) -> usize {
    fields.iter().map(|(key, field)| key.len() + field.bytes()).sum()
}

/// Fields by key, ordered, each key once.
pub type Fields = Arc<[(Key, Field)]>;

/// What one key holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The type of its values.
    pub of: Type,
    /// What it holds until it is written.
    pub default: Option<Value>,
    /// The least value or length.
    pub min: Option<f64>,
    /// The greatest value or length.
    pub max: Option<f64>,
    /// The lowest role that writes it; none = every role that writes there at all.
    pub writer: Option<Role>,
    /// Maps: their entries; none = any.
    pub fields: Fields,
    /// Lists: each element; none = any.
    pub items: Option<Arc<Field>>,
}

/// Bounds that are no numbers are refused.
impl Eq for Field {}

/// The types of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // named as the kinds of `Value`
pub enum Type {
    /// Any value.
    Any,
    Integer,
    /// A number or an integer.
    Number,
    Text,
    Flag,
    Data,
    Numbers,
    Floats,
    Integers,
    List,
    Map,
}

impl Field {
    /// A field of a type, without anything else.
    pub fn new(of: Type) -> Self {
        Self {
            of,
            default: None,
            min: None,
            max: None,
            writer: None,
            fields: Fields::default(),
            items: None,
        }
    }

    fn bytes(&self) -> usize {
        let default = self.default.as_ref().map_or(0, size::of);
        let items = self.items.as_ref().map_or(0, |items| items.bytes());
        64 + default + fields_bytes(&self.fields) + items
    }

    /// The field that an example is of: numbers of either kind are numbers, entries of maps have
    /// fields of their own, lists hold anything, null may be anything.
    fn like(example: &Value) -> Self {
        let of = match example {
            Value::Null => Type::Any,
            Value::Integer(_) | Value::Number(_) => Type::Number,
            Value::Text(_) => Type::Text,
            Value::Flag(_) => Type::Flag,
            Value::Data(_) => Type::Data,
            Value::Numbers(_) => Type::Numbers,
            Value::Floats(_) => Type::Floats,
            Value::Integers(_) => Type::Integers,
            Value::List(_) => Type::List,
            Value::Map(_) => Type::Map,
        };
        let fields = match example {
            Value::Map(entries) => {
                entries.iter().map(|(key, value)| (key.clone(), Self::like(value))).collect()
            }
            _ => Fields::default(),
        };
        Self { fields, ..Self::new(of) }
    }

    /// Whether values have a size that can be bounded, and in which unit.
    fn measure(&self) -> Option<&'static str> {
        match self.of {
            Type::Integer | Type::Number => Some(""),
            Type::Text => Some(" characters"),
            Type::Data => Some(" bytes"),
            Type::Numbers | Type::Floats | Type::Integers | Type::List => Some(" elements"),
            Type::Any | Type::Flag | Type::Map => None,
        }
    }

    /// Whether only whole sizes come, so that something whole has to lie between the bounds.
    fn is_whole(&self) -> bool {
        self.of != Type::Number
    }

    /// Names what is wrong with the field itself.
    fn check(&self, path: &Path<'_>, level: usize, limits: &Limits, faults: &mut Faults) {
        let at = |name| Path::Field(path, name);
        if level > limits.nesting {
            return faults.add(path, format!("is nested deeper than {}", limits.nesting));
        }
        if level > 1 && self.default.is_some() {
            faults.add(at("default_value"), "only a key of a part has a default");
        }
        if level > 1 && self.writer.is_some() {
            faults.add(at("writer"), "only a key of a part has a writer");
        }
        self.check_bounds(path, faults);
        if self.of != Type::Map && !self.fields.is_empty() {
            faults.add(at("fields"), "is for maps");
        }
        if self.of != Type::List && self.items.is_some() {
            faults.add(at("items"), "is for lists");
        }
        if let Some(default) = self.default.as_ref().filter(|_| level == 1) {
            self.check_value(default, &at("default_value"), faults);
        }
        for (key, field) in &*self.fields {
            field.check(&Path::Key(&at("fields"), key), level + 1, limits, faults);
        }
        if let Some(items) = &self.items {
            items.check(&at("items"), level + 1, limits, faults);
        }
    }

    fn check_bounds(&self, path: &Path<'_>, faults: &mut Faults) {
        let bounds = [("min", self.min), ("max", self.max)];
        for (name, bound) in bounds.into_iter().filter_map(|(name, it)| Some((name, it?))) {
            if bound.is_nan() {
                faults.add(Path::Field(path, name), "must be a number");
            } else if self.measure().is_none() {
                faults.add(Path::Field(path, name), "this type has no bounds");
            }
        }
        let is_length = !matches!(self.of, Type::Integer | Type::Number);
        let min = self.min.unwrap_or(f64::NEG_INFINITY);
        let min = if is_length { min.max(0.0) } else { min };
        let max = self.max.unwrap_or(f64::INFINITY);
        let nothing_whole = self.is_whole() && min.ceil() > max.floor();
        if self.measure().is_some() && (min > max || nothing_whole) {
            let name = if self.max.is_some() { "max" } else { "min" };
            faults.add(Path::Field(path, name), "no value is between min and max");
        }
    }

    /// Names what does not fit of a value.
    fn check_value(&self, value: &Value, path: &Path<'_>, faults: &mut Faults) {
        let size = match (self.of, value) {
            (Type::Any, _) | (Type::Flag, Value::Flag(_)) => return,
            (Type::Integer | Type::Number, Value::Integer(integer)) => Size::Whole(*integer),
            (Type::Number, Value::Number(number)) => Size::Number(*number),
            (Type::Text, Value::Text(text)) if self.is_unbounded() => Size::of(text.len()),
            (Type::Text, Value::Text(text)) => Size::of(text.chars().count()),
            (Type::Data, Value::Data(data)) => Size::of(data.len()),
            (Type::Numbers, Value::Numbers(items)) => Size::of(items.len()),
            (Type::Floats, Value::Floats(items)) => Size::of(items.len()),
            (Type::Integers, Value::Integers(items)) => Size::of(items.len()),
            (Type::List, Value::List(items)) => {
                if let Some(field) = &self.items {
                    for (at, item) in items.iter().enumerate() {
                        field.check_value(item, &Path::Item(path, at), faults);
                    }
                }
                Size::of(items.len())
            }
            (Type::Map, Value::Map(entries)) => {
                if !self.fields.is_empty() {
                    for (key, value) in &**entries {
                        let path = Path::Key(path, key);
                        match find(&self.fields, key) {
                            Some(field) => field.check_value(value, &path, faults),
                            None => faults.add(path, UNKNOWN),
                        }
                    }
                }
                return;
            }
            _ => {
                let (should, is) = (self.of.name(), type_of(value));
                return faults.add(path, format!("must be {should}, not {is}"));
            }
        };
        let unit = self.measure().unwrap_or_default();
        if size.is_nan() && !self.is_unbounded() {
            return faults.add(path, "is no number within the bounds");
        }
        let must = if unit.is_empty() { "must be" } else { "must have" };
        if let Some(min) = self.min.filter(|min| !size.is_at_least(*min)) {
            faults.add(path, format!("{must} at least {min}{unit}"));
        }
        if let Some(max) = self.max.filter(|max| !size.is_at_most(*max)) {
            faults.add(path, format!("{must} at most {max}{unit}"));
        }
    }

    fn is_unbounded(&self) -> bool {
        self.min.is_none() && self.max.is_none()
    }
}

const UNKNOWN: &str = "is not in the schema";

/// What bounds are about: the value of a number, the length of everything else.
#[derive(Debug, Clone, Copy)]
enum Size {
    Whole(i64),
    Number(f64),
}

impl Size {
    fn of(length: usize) -> Self {
        Self::Whole(i64::try_from(length).unwrap_or(i64::MAX))
    }

    fn is_nan(self) -> bool {
        matches!(self, Self::Number(number) if number.is_nan())
    }

    /// Integers are not compared as doubles, which do
    /// not tell large ones apart.
    fn is_at_least(self, min: f64) -> bool {
        match self {
            Self::Number(number) => number >= min,
            Self::Whole(whole) => i128::from(whole) >= min.ceil() as i128,
        }
    }

    fn is_at_most(self, max: f64) -> bool {
        match self {
            Self::Number(number) => number <= max,
            Self::Whole(whole) => i128::from(whole) <= max.floor() as i128,
        }
    }
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Flag => "a flag",
            Self::Data => "data",
            Self::Numbers => "an array of numbers",
            Self::Floats => "an array of floats",
            Self::Integers => "an array of integers",
            Self::List => "a list",
            Self::Map => "a map",
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Integer(_) => Type::Integer.name(),
        value => Field::like(value).of.name(),
    }
}

fn find<'a>(fields: &'a Fields, key: &str) -> Option<&'a Field> {
    let at = fields.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
    Some(&fields[at].1)
}

/// The format of one part out of the fields at `path` in the request: names everything that is wrong
/// with them.
pub fn part(
    path: &str,
    mut fields: Vec<(Key, Field)>,
    limits: &Limits,
    faults: &mut Faults,
) -> Fields {
    fields.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    for (key, field) in &fields {
        field.check(&Path::Key(&Path::Root(path), key), 1, limits, faults);
    }
    fields.into()
}

/// Whether a part may have so many keys. Asked before anything is said of them one by one.
pub fn has_room(path: &str, keys: usize, limits: &Limits, faults: &mut Faults) -> bool {
    let most = limits.props_per_user;
    if keys > most {
        faults.add(path, format!("has {keys} keys, more than {most}"));
    }
    keys <= most
}

/// The fields that default values are examples of.
pub fn by_example(examples: Vec<(Key, Value)>) -> Vec<(Key, Field)> {
    let field = |(key, value): (Key, Value)| {
        let field = Field { default: Some(value.clone()), ..Field::like(&value) };
        (key, field)
    };
    examples.into_iter().map(field).collect()
}

/// What the keys of a part hold until they are written.
pub fn defaults(fields: &Fields) -> Vec<(Key, Value)> {
    let held = |(key, field): &(Key, Field)| Some((key.clone(), field.default.clone()?));
    fields.iter().filter_map(held).collect()
}

/// What a key of a part holds until it is written, and again when it is removed.
pub fn default_of<'a>(fields: Option<&'a Fields>, key: &str) -> Option<&'a Value> {
    find(fields?, key)?.default.as_ref()
}

/// Where the keys of a write stand in the request.
#[derive(Debug, Clone, Copy)]
pub struct Paths {
    /// Those that are set.
    pub set: &'static str,
    /// Those that are set as plain JSON.
    pub json: &'static str,
    /// Those that are removed.
    pub remove: &'static str,
}

impl Paths {
    /// A write of props.
    pub const PROPS: Self = Self { set: "write.set", json: "write.json", remove: "write.remove" };
    /// A write of shared data.
    pub const DATA: Self = Self { set: "set", json: "", remove: "remove" };
    /// A write of private data.
    pub const PRIVATE_DATA: Self = Self { set: "private_set", json: "", remove: "private_remove" };
    /// First props.
    pub const JOIN: Self = Self::only_set("join.props");
    /// First props of the source of a private session.
    pub const FIRST_PROPS: Self = Self::only_set("props");
    /// First shared data.
    pub const FIRST_DATA: Self = Self::only_set("data");
    /// First private data.
    pub const FIRST_PRIVATE_DATA: Self = Self::only_set("private_data");

    const fn only_set(set: &'static str) -> Self {
        Self { set, json: "", remove: "" }
    }
}

/// Looks at everything that one request writes.
#[derive(Debug, Default)]
pub(super) struct Examination {
    faults: Faults,
    /// There are other faults than a role that is too low.
    is_invalid: bool,
}

impl Examination {
    /// Looks at what is written into one part, with which role; none = the app writes.
    pub(super) fn write(
        &mut self,
        rank: Option<Role>,
        fields: &Fields,
        write: &Write,
        paths: Paths,
    ) {
        let plain = write.set.len().saturating_sub(write.plain);
        for (at, (key, value)) in write.set.iter().enumerate() {
            let root = Path::Root(if at < plain { paths.set } else { paths.json });
            let path = Path::Key(&root, key);
            let Some(field) = find(fields, key) else {
                self.unknown(&path);
                continue;
            };
            let before = self.faults.count();
            field.check_value(value, &path, &mut self.faults);
            self.is_invalid |= self.faults.count() > before;
            self.writer(rank, field, &path);
        }
        for key in &write.remove {
            let root = Path::Root(paths.remove);
            let path = Path::Key(&root, key);
            match find(fields, key) {
                Some(field) => self.writer(rank, field, &path),
                None => self.unknown(&path),
            }
        }
    }

    fn unknown(&mut self, path: &Path<'_>) {
        self.faults.add(path, UNKNOWN);
        self.is_invalid = true;
    }

    fn writer(&mut self, rank: Option<Role>, field: &Field, path: &Path<'_>) {
        let (Some(rank), Some(needs)) = (rank, field.writer) else { return };
        if rank < needs {
            self.faults.add(path, format!("needs the role {needs} or a higher one"));
        }
    }

    /// Passes if everything fits.
    pub(super) fn close(self) -> Result<(), Refusal> {
        match self.faults.close() {
            faults if faults.is_empty() => Ok(()),
            faults if self.is_invalid => Err(Refusal::Invalid(faults)),
            faults => Err(Refusal::NotAWriter(faults)),
        }
    }
}

impl Session {
    /// Whether a write of props fits the schema, where there is one.
    pub(super) fn check_props_format(
        &self,
        rank: Option<Role>,
        write: &Write,
        paths: Paths,
    ) -> Result<(), Refusal> {
        let Some(schema) = &self.accepted.schema else { return Ok(()) };
        let mut examination = Examination::default();
        examination.write(rank, &schema.props, write, paths);
        examination.close()
    }

    /// Whether a write of session data fits the schema, where there is one.
    pub(super) fn check_data_format(
        &self,
        rank: Option<Role>,
        (shared, shared_paths): (&Write, Paths),
        (private, private_paths): (&Write, Paths),
    ) -> Result<(), Refusal> {
        let Some(schema) = &self.accepted.schema else { return Ok(()) };
        let mut examination = Examination::default();
        examination.write(rank, &schema.data, shared, shared_paths);
        examination.write(rank, &schema.private_data, private, private_paths);
        examination.close()
    }

    /// With which role somebody writes; none = the app, which may do everything.
    pub(super) fn rank_of(&self, actor: &Actor) -> Option<Role> {
        match self.standing(actor) {
            Standing::App => None,
            Standing::Joined(role) | Standing::Away(role) => Some(role),
            Standing::Outsider => Some(Role::Spectator),
        }
    }
}
