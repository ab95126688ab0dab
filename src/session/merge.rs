//! What a write makes of the value that is there: it replaces it, removes it, or is merged into it.

use super::{
    command::Write,
    error::{Faults, Path, Refusal},
    ids::Key,
    schema::Paths,
    size,
    value::Value,
};
use std::collections::BTreeMap;

/// What becomes of one value.
#[derive(Debug, Clone, PartialEq)]
pub enum Patch {
    /// It is this from then on.
    Put(Value),
    /// It goes.
    Remove,
    /// A map keeps its other entries, and to each of these happens what is said here. Anything else
    /// becomes a map of these.
    Merge(BTreeMap<Key, Patch>),
}

impl Patch {
    /// What setting `value` does. Merging goes down into maps within maps, and nowhere else.
    pub fn set(value: &Value, merges: bool) -> Self {
        match value {
            Value::Map(entries) if merges => {
                let entry = |(key, value): &(Key, Value)| (key.clone(), Self::set(value, true));
                Self::Merge(entries.iter().map(entry).collect())
            }
            value => Self::Put(value.clone()),
        }
    }

    /// What comes of it where `base` is.
    pub fn apply(&self, base: Option<&Value>) -> Option<Value> {
        match self {
            Self::Put(value) => Some(value.clone()),
            Self::Remove => None,
            Self::Merge(patches) => {
                let mut entries: BTreeMap<Key, Value> = match base {
                    Some(Value::Map(entries)) => entries.iter().cloned().collect(),
                    _ => BTreeMap::new(),
                };
                for (key, patch) in patches {
                    match patch.apply(entries.get(key)) {
                        Some(value) => entries.insert(key.clone(), value),
                        None => entries.remove(key),
                    };
                }
                Some(Value::Map(entries.into_iter().collect()))
            }
        }
    }

    /// Both in one, this first. It holds no more than the value that comes of it, however often.
    pub fn then(self, later: Self) -> Self {
        match (self, later) {
            (Self::Merge(mut patches), Self::Merge(later)) => {
                for (key, later) in later {
                    let both = match patches.remove(&key) {
                        Some(patch) => patch.then(later),
                        None => later,
                    };
                    patches.insert(key, both);
                }
                Self::Merge(patches)
            }
            (earlier @ (Self::Put(_) | Self::Remove), later @ Self::Merge(_)) => {
                match later.apply(earlier.apply(None).as_ref()) {
                    Some(value) => Self::Put(value),
                    None => Self::Remove,
                }
            }
            (_, later) => later,
        }
    }
}

impl Write {
    /// What becomes of each key, where one that is removed is set back to its default.
    pub fn patches<'a>(
        &'a self,
        default: impl Fn(&Key) -> Option<&'a Value>,
    ) -> impl Iterator<Item = (&'a Key, Patch)> {
        let set = self.set.iter().map(|(key, value)| (key, Patch::set(value, self.merge_maps)));
        set.chain(self.remove.iter().map(move |key| {
            (key, default(key).map_or(Patch::Remove, |default| Patch::Put(default.clone())))
        }))
    }

    /// The write that replaces where this one merges, given what is there. A value that it makes
    /// too large is at fault; too deep is none, as neither of those it is made of is.
    pub fn merged<'a>(
        mut self,
        paths: Paths,
        most_bytes: usize,
        there: impl Fn(&Key) -> Option<&'a Value>,
    ) -> Result<Self, Refusal> {
        if !std::mem::take(&mut self.merge_maps) {
            return Ok(self);
        }
        let mut faults = Faults::default();
        let plain = self.set.len().saturating_sub(self.plain);
        for (at, (key, value)) in self.set.iter_mut().enumerate() {
            let base = there(key);
            if !matches!((&*value, base), (Value::Map(_), Some(Value::Map(_)))) {
                continue;
            }
            if let Some(merged) = Patch::set(value, true).apply(base) {
                let bytes = size::of(&merged);
                if bytes > most_bytes {
                    let root = Path::Root(if at < plain { paths.set } else { paths.json });
                    let path = Path::Key(&root, key);
                    let told = format!("has {bytes} bytes when merged, more than {most_bytes}");
                    faults.add(path, told);
                }
                *value = merged;
            }
        }
        if faults.is_empty() { Ok(self) } else { Err(Refusal::Invalid(faults.close())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        let scalar = (0i64..3).prop_map(Value::Integer);
        scalar.prop_recursive(3, 16, 3, |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..3).prop_map(|entries| {
                Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
            })
        })
    }

    fn patch() -> impl Strategy<Value = Patch> {
        let set = (value(), any::<bool>()).prop_map(|(value, merges)| Patch::set(&value, merges));
        prop_oneof![5 => set, 1 => Just(Patch::Remove)]
    }

    proptest! {
        #[test]
        fn two_in_one_do_what_both_do(
            base in prop::option::of(value()),
            first in patch(),
            second in patch(),
        ) {
            let one_by_one = second.apply(first.apply(base.as_ref()).as_ref());
            prop_assert_eq!(first.then(second).apply(base.as_ref()), one_by_one);
        }

        #[test]
        fn merging_keeps_what_it_does_not_name(base in value(), new in value()) {
            let merged = Patch::set(&new, true).apply(Some(&base));
            let merged = merged.expect("it removes nothing");
            for path in paths(&new) {
                prop_assert_eq!(at(&merged, &path), at(&new, &path));
            }
            for path in paths(&base) {
                let named = (0..=path.len()).any(|end| {
                    at(&new, &path[..end]).is_some_and(|there| !matches!(there, Value::Map(_)))
                }) || at(&new, &path).is_some();
                if !named {
                    prop_assert_eq!(at(&merged, &path), at(&base, &path));
                }
            }
        }
    }

    /// Where something else than a map is.
    fn paths(value: &Value) -> Vec<Vec<Key>> {
        let Value::Map(entries) = value else { return vec![Vec::new()] };
        let below = |(key, value): &(Key, Value)| -> Vec<Vec<Key>> {
            let longer = |rest: Vec<Key>| [vec![key.clone()], rest].concat();
            paths(value).into_iter().map(longer).collect()
        };
        entries.iter().flat_map(below).collect()
    }

    fn at<'a>(value: &'a Value, path: &[Key]) -> Option<&'a Value> {
        let [first, rest @ ..] = path else { return Some(value) };
        let Value::Map(entries) = value else { return None };
        entries.iter().find(|(key, _)| key == first).and_then(|(_, value)| at(value, rest))
    }
}
