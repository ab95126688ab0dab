//! What one key holds, and which of it is new since a revision.

use crate::session::{size, value::Value};
use std::collections::VecDeque;

/// How many elements an array keeps.
pub const ARRAY_ELEMENTS: usize = 16 * 1024;

/// How many bytes of elements an array keeps, or as many as one value may have, if that is more:
/// with its head, a function still takes it.
pub const ARRAY_BYTES: usize = 64 * 1024 - 64;

/// How many of the values that readers got are remembered for keys with a function.
pub(super) const RECALLED: usize = 4;

/// What readers get of a key that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Of an array the last element, of anything else the value.
    Latest,
    /// Of an array all elements that are new, of anything else the value.
    AllLatest,
}

/// What is new of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The value, the new elements, or the last one.
    pub value: Value,
    /// These elements take the place of what the reader has of the array.
    pub restarted: bool,
}

/// One key.
#[derive(Debug)]
pub struct Leaf {
    pub(super) content: Content,
    pub(super) changed: u64,
    pub(super) recalled: VecDeque<Recalled>,
}

/// What a key holds.
#[derive(Debug)]
pub enum Content {
    /// A value that is no array.
    One(Value),
    /// An array.
    Many(Array),
}

/// A value that a reader got, held from one revision until before another.
#[derive(Debug)]
pub struct Recalled {
    pub(super) from: u64,
    pub(super) until: u64,
    pub(super) value: Value,
    /// Whether it was written since.
    pub(super) is_recorded: bool,
}

impl Leaf {
    /// A key that holds a value since a revision.
    pub fn new(value: Value, revision: u64) -> Self {
        let content = match Elements::of(&value) {
            Some(elements) => Content::Many(Array::new(elements, revision)),
            None => Content::One(value),
        };
        Self { content, changed: revision, recalled: VecDeque::new() }
    }

    /// The revision of its last change.
    pub fn changed(&self) -> u64 {
        self.changed
    }

    /// Sets it; false = it held that already. An array that begins with what is there goes on;
    /// any other, such as a shorter one, starts again.
    pub fn set(&mut self, value: Value, revision: u64, most_bytes: usize) -> bool {
        if let (Content::Many(array), Some(new)) = (&mut self.content, Elements::of(&value)) {
            let kept = array.elements.len();
            let goes_on = kept <= new.len()
                && array.elements.kind() == new.kind()
                && array.elements.part(0, kept) == new.part(0, kept);
            if goes_on && kept == new.len() {
                return false;
            }
            if goes_on {
                array.append(new.part(kept, new.len()), revision, most_bytes);
            } else {
                *array = Array::new(new, revision);
            }
        } else if matches!(&self.content, Content::One(held) if *held == value) {
            return false;
        } else {
            self.content = Leaf::new(value, revision).content;
        }
        self.change(revision);
        true
    }

    /// Appends the elements of an array of the same kind, which [`Leaf::appends`] has made sure of;
    /// false = there are none.
    pub fn append(&mut self, more: Value, revision: u64, most_bytes: usize) -> bool {
        let Content::Many(array) = &mut self.content else { return false };
        if !array.append(more, revision, most_bytes) {
            return false;
        }
        self.change(revision);
        true
    }

    /// Says why a value cannot be appended.
    pub fn appends(&self, more: &Value) -> Result<(), String> {
        let kind = kind(more);
        match &self.content {
            Content::Many(array) if array.elements.kind() == kind => Ok(()),
            Content::Many(array) => Err(format!(
                "the key holds {}, to which {kind} cannot be appended",
                array.elements.kind()
            )),
            Content::One(value) => {
                Err(format!("the key holds {}, which is no array", self::kind(value)))
            }
        }
    }

    fn change(&mut self, revision: u64) {
        self.changed = revision;
        if let Some(newest) = self.recalled.back_mut().filter(|newest| newest.until == u64::MAX) {
            newest.until = revision;
        }
    }

    /// Whether it holds an empty map.
    pub fn is_empty_map(&self) -> bool {
        matches!(&self.content, Content::One(Value::Map(entries)) if entries.is_empty())
    }

    /// What is new for a reader that has everything up to `after`. Of an array, elements that came
    /// later than `to` wait for the next read.
    pub fn news(&self, after: u64, to: u64, mode: Mode) -> Option<News> {
        if self.changed <= after {
            return None;
        }
        let array = match &self.content {
            Content::One(value) => return Some(News { value: value.clone(), restarted: false }),
            Content::Many(array) => array,
        };
        if array.began > to {
            return None;
        }
        let (begin, end) = (array.count(after), array.count(to));
        match mode {
            Mode::Latest => {
                let value = (begin < end).then(|| array.elements.at(end - 1))?;
                Some(News { value, restarted: false })
            }
            Mode::AllLatest if begin == end && array.began <= after => None,
            Mode::AllLatest => {
                let restarted = array.began > after || array.lost > after;
                Some(News { value: array.elements.part(begin, end), restarted })
            }
        }
    }

    /// All that it holds.
    pub fn whole(&self) -> Value {
        match &self.content {
            Content::One(value) => value.clone(),
            Content::Many(array) => array.elements.part(0, array.elements.len()),
        }
    }

    /// Remembers that a reader got what it holds now.
    pub fn remember(&mut self) {
        if self.recalled.back().is_some_and(|newest| newest.from == self.changed) {
            return;
        }
        if self.recalled.len() == RECALLED {
            self.recalled.pop_front();
        }
        let value = self.whole();
        let is_recorded = false;
        self.recalled.push_back(Recalled {
            from: self.changed,
            until: u64::MAX,
            value,
            is_recorded,
        });
    }

    /// What it held at a revision, if a reader got it then and it is not too long ago.
    pub fn recall(&self, revision: u64) -> Option<&Value> {
        let held = |known: &&Recalled| (known.from..known.until).contains(&revision);
        self.recalled.iter().find(held).map(|known| &known.value)
    }
}

/// An array that remembers at which revision its elements came.
#[derive(Debug)]
pub struct Array {
    pub(super) elements: Elements,
    /// How many elements came at which revision, in order.
    pub(super) marks: VecDeque<(u64, usize)>,
    pub(super) bytes: usize,
    /// The revision at which its first element became its first.
    pub(super) began: u64,
    /// The revision of the newest element that was dropped.
    pub(super) lost: u64,
}

impl Array {
    pub(super) fn new(elements: Elements, revision: u64) -> Self {
        let bytes = (0..elements.len()).map(|at| elements.bytes(at)).sum();
        let marks = match elements.len() {
            0 => VecDeque::new(),
            count => VecDeque::from([(revision, count)]),
        };
        Self { elements, marks, bytes, began: revision, lost: 0 }
    }

    fn append(&mut self, more: Value, revision: u64, most_bytes: usize) -> bool {
        let count = self.add(more);
        if count == 0 {
            return false;
        }
        self.marks.push_back((revision, count));
        while self.elements.len() > 1
            && (self.elements.len() > ARRAY_ELEMENTS || self.bytes > most_bytes)
        {
            let Some(came) = self.drop_first() else { break };
            self.lost = came;
        }
        true
    }

    /// Leaves the elements from one place until before another.
    pub(super) fn cut(&mut self, begin: usize, end: usize) {
        while self.elements.len() > end {
            self.bytes -= self.elements.bytes(self.elements.len() - 1);
            self.elements.drop_last();
            let Some((_, count)) = self.marks.back_mut() else { break };
            *count -= 1;
            if *count == 0 {
                self.marks.pop_back();
            }
        }
        for _ in 0..begin {
            self.drop_first();
        }
    }

    /// Adds elements of its kind, without a mark; how many.
    pub(super) fn add(&mut self, more: Value) -> usize {
        let before = self.elements.len();
        self.elements.extend(more);
        self.bytes +=
            (before..self.elements.len()).map(|at| self.elements.bytes(at)).sum::<usize>();
        self.elements.len() - before
    }

    /// Drops its first element; the revision at which that came.
    fn drop_first(&mut self) -> Option<u64> {
        self.bytes -= self.elements.bytes(0);
        self.elements.drop_first();
        let (revision, count) = self.marks.front_mut()?;
        let came = *revision;
        *count -= 1;
        if *count == 0 {
            self.marks.pop_front();
        }
        Some(came)
    }

    /// How many of its elements came up to a revision.
    pub(super) fn count(&self, revision: u64) -> usize {
        let later = self.marks.iter().rev().take_while(|(at, _)| *at > revision);
        self.elements.len() - later.map(|(_, count)| count).sum::<usize>()
    }
}

/// The elements of an array of one kind.
#[derive(Debug)]
pub enum Elements {
    List(VecDeque<Value>),
    Numbers(VecDeque<f64>),
    Floats(VecDeque<f32>),
    Integers(VecDeque<i64>),
}

macro_rules! each {
    ($elements:expr, $items:ident => $do:expr) => {
        match $elements {
            Elements::List($items) => $do,
            Elements::Numbers($items) => $do,
            Elements::Floats($items) => $do,
            Elements::Integers($items) => $do,
        }
    };
}

impl Elements {
    pub(super) fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::List(items) => Self::List(items.iter().cloned().collect()),
            Value::Numbers(items) => Self::Numbers(items.iter().copied().collect()),
            Value::Floats(items) => Self::Floats(items.iter().copied().collect()),
            Value::Integers(items) => Self::Integers(items.iter().copied().collect()),
            _ => return None,
        })
    }

    pub(super) fn kind(&self) -> &'static str {
        kind(&self.part(0, 0))
    }

    pub(super) fn len(&self) -> usize {
        each!(self, items => items.len())
    }

    fn drop_last(&mut self) {
        each!(self, items => drop(items.pop_back()));
    }

    fn drop_first(&mut self) {
        each!(self, items => drop(items.pop_front()));
    }

    fn extend(&mut self, more: Value) {
        match (self, more) {
            (Self::List(items), Value::List(more)) => items.extend(more.iter().cloned()),
            (Self::Numbers(items), Value::Numbers(more)) => items.extend(more.iter()),
            (Self::Floats(items), Value::Floats(more)) => items.extend(more.iter()),
            (Self::Integers(items), Value::Integers(more)) => items.extend(more.iter()),
            _ => {}
        }
    }

    pub(super) fn part(&self, begin: usize, end: usize) -> Value {
        match self {
            Self::List(items) => Value::List(items.range(begin..end).cloned().collect()),
            Self::Numbers(items) => Value::Numbers(items.range(begin..end).copied().collect()),
            Self::Floats(items) => Value::Floats(items.range(begin..end).copied().collect()),
            Self::Integers(items) => Value::Integers(items.range(begin..end).copied().collect()),
        }
    }

    fn at(&self, at: usize) -> Value {
        match self {
            Self::List(items) => items[at].clone(),
            Self::Numbers(items) => Value::Number(items[at]),
            Self::Floats(items) => Value::Number(items[at].into()),
            Self::Integers(items) => Value::Integer(items[at]),
        }
    }

    fn bytes(&self, at: usize) -> usize {
        match self {
            Self::List(items) => size::with_head(size::of(&items[at])),
            Self::Numbers(_) => 8,
            Self::Floats(_) => 4,
            Self::Integers(items) => size::integer_bytes(items[at]),
        }
    }
}

/// How many elements an array has; none = the value is no array.
pub fn elements(value: &Value) -> Option<usize> {
    Some(match value {
        Value::List(items) => items.len(),
        Value::Numbers(items) => items.len(),
        Value::Floats(items) => items.len(),
        Value::Integers(items) => items.len(),
        _ => return None,
    })
}

/// What a value is called on the wire.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Flag(_) => "a flag",
        Value::Integer(_) => "an integer",
        Value::Number(_) => "a number",
        Value::Text(_) => "text",
        Value::Data(_) => "data",
        Value::Numbers(_) => "numbers",
        Value::Floats(_) => "floats",
        Value::Integers(_) => "integers",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    }
}
