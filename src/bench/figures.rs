//! Figures by name; the unit is the end of the name.

use serde::Serialize;
use std::collections::{BTreeMap, btree_map};

/// What was measured once, or the medians of that.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// One of them.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Adds one, or puts it in the place of an earlier one.
    pub fn set(&mut self, name: impl Into<String>, figure: f64) {
        self.0.insert(name.into(), figure);
    }

    /// Adds one if it is there.
    pub fn set_some(&mut self, name: impl Into<String>, figure: Option<f64>) {
        if let Some(figure) = figure {
            self.set(name, figure);
        }
    }

    /// Keeps the greater one.
    pub fn raise(&mut self, name: &str, figure: f64) {
        let greater = self.get(name).map_or(figure, |known| known.max(figure));
        self.set(name, greater);
    }

    /// Takes one out.
    pub fn remove(&mut self, name: &str) -> Option<f64> {
        self.0.remove(name)
    }

    /// All, by name.
    pub fn iter(&self) -> btree_map::Iter<'_, String, f64> {
        self.0.iter()
    }

    /// Of each figure the median of those that have it.
    pub fn medians<'a>(all: impl IntoIterator<Item = &'a Figures>) -> Self {
        let mut values = BTreeMap::<&String, Vec<f64>>::new();
        for (name, value) in all.into_iter().flat_map(Figures::iter) {
            values.entry(name).or_default().push(*value);
        }
        values.into_iter().map(|(name, values)| (name.clone(), rounded(median(values)))).collect()
    }

    /// The same, no more precise than a measurement is.
    pub fn rounded(self) -> Self {
        self.0.into_iter().map(|(name, value)| (name, rounded(value))).collect()
    }
}

impl<N: Into<String>> FromIterator<(N, f64)> for Figures {
    fn from_iter<I: IntoIterator<Item = (N, f64)>>(figures: I) -> Self {
        Figures(figures.into_iter().map(|(name, figure)| (name.into(), figure)).collect())
    }
}

impl<N: Into<String>> Extend<(N, f64)> for Figures {
    fn extend<I: IntoIterator<Item = (N, f64)>>(&mut self, figures: I) {
        self.0.extend(figures.into_iter().map(|(name, figure)| (name.into(), figure)));
    }
}

/// Of an even number of values, the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let lower = (values.len() - 1) / 2;
    (values[lower] + values[upper]) / 2.0
}

/// To four digits: no figure is more precise than that.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
        assert_eq!(median(vec![5.0]), 5.0);
    }

    #[test]
    fn medians_are_of_those_that_have_the_figure() {
        let all: Vec<Figures> = [[("a", 1.0), ("b", 9.0)], [("a", 3.0), ("c", 4.0)]]
            .into_iter()
            .map(Figures::from_iter)
            .collect();
        let medians = Figures::from_iter([("a", 2.0), ("b", 9.0), ("c", 4.0)]);
        assert_eq!(Figures::medians(&all), medians);
    }

    #[test]
    fn figures_have_four_digits() {
        assert_eq!(rounded(0.123_456), 0.123_5);
        assert_eq!(rounded(123_456.0), 123_500.0);
        assert_eq!(rounded(0.0), 0.0);
    }
}
