//! Parts of a session in which most sessions have nothing.

use std::{
    fmt,
    iter::Flatten,
    ops::{Deref, DerefMut},
    option,
};

/// A part that takes the room of a pointer while nothing is in it. It reads as an empty one, and is
/// made by the first that writes: so code that may have nothing to write looks before.
pub struct Seldom<T>(Option<Box<T>>);

/// What can be read where there is nothing.
pub trait Empty: Default + 'static {
    /// An empty one.
    fn empty() -> &'static Self;
}

/// A default is what is read where there is nothing.
macro_rules! empty {
    ($type:ty) => {
        impl $crate::session::seldom::Empty for $type {
            fn empty() -> &'static Self {
                static EMPTY: std::sync::LazyLock<$type> =
                    std::sync::LazyLock::new(Default::default);
                &EMPTY
            }
        }
    };
}
pub(crate) use empty;

impl<T: Empty> Seldom<T> {
    /// Nothing.
    pub const NONE: Self = Self(None);

    /// What there is to change; none = nothing was ever written.
    pub fn some_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// Takes a list out of it, which is empty where there is nothing.
    pub fn take<L: Default>(&mut self, list: impl FnOnce(&mut T) -> &mut L) -> L {
        self.some_mut().map(|it| std::mem::take(list(it))).unwrap_or_default()
    }

    /// Whatever is in it, to be changed.
    pub fn iter_mut<'a>(&'a mut self) -> <&'a mut Self as IntoIterator>::IntoIter
    where
        &'a mut T: IntoIterator,
    {
        self.into_iter()
    }

    /// Gives the room back where nothing is left.
    pub fn tidy(&mut self, is_empty: impl FnOnce(&T) -> bool) {
        if self.0.as_deref().is_some_and(is_empty) {
            self.0 = None;
        }
    }
}

impl<'a, T> IntoIterator for &'a mut Seldom<T>
where
    &'a mut T: IntoIterator,
{
    type Item = <&'a mut T as IntoIterator>::Item;
    type IntoIter = Flatten<option::IntoIter<&'a mut T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.as_deref_mut().into_iter().flatten()
    }
}

impl<T> From<T> for Seldom<T> {
    fn from(it: T) -> Self {
        Self(Some(Box::new(it)))
    }
}

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Empty> Deref for Seldom<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or_else(|| T::empty())
    }
}

impl<T: Empty> DerefMut for Seldom<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: Empty + fmt::Debug> fmt::Debug for Seldom<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Part {
        list: Vec<u8>,
    }
    empty!(Part);

    impl<'a> IntoIterator for &'a mut Part {
        type Item = &'a mut u8;
        type IntoIter = std::slice::IterMut<'a, u8>;

        fn into_iter(self) -> Self::IntoIter {
            self.list.iter_mut()
        }
    }

    #[test]
    fn what_is_only_read_or_taken_from_is_not_made() {
        let mut part = Seldom::<Part>::default();
        assert_eq!(*part, Part::default());
        assert!(part.take(|it| &mut it.list).is_empty() && part.some_mut().is_none());
        assert!(part.iter_mut().next().is_none() && part.some_mut().is_none());
        part.list.push(7);
        part.tidy(|it| it.list.is_empty());
        assert_eq!(part.take(|it| &mut it.list), [7]);
        part.tidy(|it| it.list.is_empty());
        assert!(part.some_mut().is_none());
        assert_eq!(size_of::<Seldom<Part>>(), size_of::<usize>());
    }
}
