//! How files of settings are read: every fault is found, and named with its place.

use super::grant::{Apps, Scope};
use crate::session::{
    ids::AppId,
    limits::{Micros, SECOND},
};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};
use toml::{Table, Value};

/// Something wrong in a file, in one line that names the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(pub String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where faults are collected.
#[derive(Debug, Default)]
pub struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    /// Adds one.
    pub fn add(&self, place: &str, message: impl fmt::Display) {
        self.0.borrow_mut().push(Fault(format!("{place}: {message}")));
    }

    /// All of them.
    pub fn into_inner(self) -> Vec<Fault> {
        self.0.into_inner()
    }
}

/// A table of a file.
#[derive(Debug)]
pub struct Section<'a> {
    place: String,
    table: Table,
    known: Vec<&'static str>,
    faults: &'a Faults,
}

impl<'a> Section<'a> {
    /// The table that is the whole file.
    pub fn file(path: &Path, text: &str, faults: &'a Faults) -> Self {
        let place = path.display().to_string();
        let table = text.parse().unwrap_or_else(|error: toml::de::Error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
            faults.add(&format!("{place}:{line}"), error.message());
            Table::new()
        });
        Self { place, table, known: Vec::new(), faults }
    }

    /// Adds a fault of a key.
    pub fn fault(&self, key: &str, message: impl fmt::Display) {
        self.faults.add(&self.place_of(key), message);
    }

    /// Adds a fault of the whole table.
    pub fn fault_here(&self, message: impl fmt::Display) {
        self.faults.add(&self.place, message);
    }

    /// Whether a fault was found, anywhere.
    pub fn has_faults(&self) -> bool {
        !self.faults.0.borrow().is_empty()
    }

    fn place_of(&self, key: &str) -> String {
        let joint = if self.place.ends_with(".toml") || self.is_file() { ": " } else { "." };
        format!("{}{joint}{key}", self.place)
    }

    fn is_file(&self) -> bool {
        !self.place.contains(": ")
    }

    /// Takes what is under a key.
    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    /// Takes a value that is read from what TOML has.
    pub fn value<T>(
        &mut self,
        key: &'static str,
        takes: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(key)?;
        let read = read(&value);
        if read.is_none() {
            self.fault(key, format!("expected {takes}"));
        }
        read
    }

    /// The same of a value that must be there.
    pub fn needed<T>(
        &mut self,
        key: &'static str,
        takes: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key, takes, read);
        if value.is_none() && self.lacks(key) {
            self.fault(key, format!("must be given: {takes}"));
        }
        value
    }

    /// Takes a string of at least one and at most so many bytes, without control characters.
    pub fn text(&mut self, key: &'static str, most: usize) -> Option<String> {
        self.value(key, &format!("a string of 1 to {most} bytes"), |value| {
            value.as_str().filter(|text| is_text(text, most)).map(str::to_owned)
        })
    }

    /// Takes a list of such strings.
    pub fn texts(&mut self, key: &'static str, most: usize) -> Option<BTreeSet<String>> {
        self.value(key, &format!("a list of strings of 1 to {most} bytes"), |value| {
            let text = |it: &Value| it.as_str().filter(|text| is_text(text, most)).map(Into::into);
            value.as_array()?.iter().map(text).collect()
        })
    }

    /// Takes a duration such as 30s.
    pub fn duration(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Option<Micros> {
        let ends = [range.start(), range.end()].map(|it| humantime::format_duration(*it));
        let takes = format!("a duration of {} to {}, such as \"30s\"", ends[0], ends[1]);
        self.value(key, &takes, |value| {
            let duration = humantime::parse_duration(value.as_str()?).ok()?;
            range.contains(&duration).then_some(duration.as_micros() as Micros)
        })
    }

    /// Takes a number.
    pub fn count(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<usize>,
    ) -> Option<usize> {
        let takes = format!("a number of {} to {}", range.start(), range.end());
        self.value(key, &takes, |value| {
            let count = usize::try_from(value.as_integer()?).ok()?;
            range.contains(&count).then_some(count)
        })
    }

    /// Takes a moment, as a string or as TOML writes it.
    pub fn moment(&mut self, key: &'static str) -> Option<Micros> {
        self.value(key, "a moment such as \"2026-01-31T12:00:00Z\"", |value| {
            let text = match value {
                Value::Datetime(moment) => moment.to_string(),
                value => value.as_str()?.to_owned(),
            };
            read_moment(&text)
        })
    }

    /// Takes apps: "*" for all, or a list of names.
    pub fn apps(&mut self, key: &'static str) -> Option<Apps> {
        let apps = self.value(key, "\"*\" for all, or a list of apps", |value| match value {
            Value::String(all) if all == "*" => Some(Apps::All),
            Value::Array(names) if !names.is_empty() => {
                let app = |it: &Value| AppId::new(it.as_str().filter(|name| *name != "*")?).ok();
                names.iter().map(app).collect::<Option<_>>().map(Apps::Only)
            }
            _ => None,
        });
        if apps.is_none() && self.lacks(key) {
            self.fault(key, "must be given: \"*\" for all, or a list of apps");
        }
        apps
    }

    /// Takes a scope.
    pub fn scope(&mut self, key: &'static str) -> Option<Scope> {
        let read = |value: &Value| Scope::read(value.as_str()?);
        let scope = self.value(key, "user, backend, app or read", read);
        if scope.is_none() && self.lacks(key) {
            self.fault(key, "must be given: user, backend, app or read");
        }
        scope
    }

    /// Whether a key that was read has no fault, and so was not there.
    fn lacks(&self, key: &str) -> bool {
        !self.has_fault(key)
    }

    /// Whether a fault of a key was added.
    pub fn has_fault(&self, key: &str) -> bool {
        let place = format!("{}: ", self.place_of(key));
        self.faults.0.borrow().iter().any(|fault| fault.0.starts_with(&place))
    }

    /// Takes a table.
    pub fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        let Value::Table(table) = self.take(key)? else {
            self.fault(key, "expected a table");
            return None;
        };
        let place = self.place_of(key);
        Some(Section { place, table, known: Vec::new(), faults: self.faults })
    }

    /// Takes a list of at most so many tables.
    pub fn sections(&mut self, key: &'static str, most: usize) -> Vec<Section<'a>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let Value::Array(items) = value else {
            self.fault(key, "expected a list of tables");
            return Vec::new();
        };
        if items.len() > most {
            self.fault(key, format!("there are {}, more than {most}", items.len()));
            return Vec::new();
        }
        let mut sections = Vec::new();
        for (number, item) in items.into_iter().enumerate() {
            let place = format!("{}[{number}]", self.place_of(key));
            match item {
                Value::Table(table) => {
                    let known = Vec::new();
                    sections.push(Section { place, table, known, faults: self.faults });
                }
                _ => self.faults.add(&place, "expected a table"),
            }
        }
        sections
    }

    /// Ends the reading: what is left is not known.
    pub fn end(self) {
        for key in self.table.keys() {
            let likeness = |name: &str| strsim::normalized_damerau_levenshtein(name, key);
            let nearest = self.known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
            let nearest = nearest.filter(|name| likeness(name) > 0.4);
            let way_out = nearest.map(|name| format!("; the nearest is {name:?}"));
            self.fault(key, format!("there is no such key{}", way_out.unwrap_or_default()));
        }
    }
}

fn is_text(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Reads a moment.
pub fn read_moment(text: &str) -> Option<Micros> {
    let at = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Micros::try_from(at.as_micros()).ok()
}

/// Writes a moment, to the second.
pub fn moment(at: Micros) -> String {
    let whole = Duration::from_secs(at / SECOND);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + whole).to_string()
}
