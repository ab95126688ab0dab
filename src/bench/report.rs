//! The report: rows of figures, and what there is to say of them.

use super::{accounting::Machine, catalogue::About, figures::Figures, goal::Verdict};
use serde::Serialize;
use std::{collections::BTreeMap, ops::RangeInclusive};

/// Bounds of figures, beyond which a row fails: a server that loses messages is cheap.
const BOUNDS: [(&str, RangeInclusive<f64>); 2] =
    [("arrived", 0.99..=1.01), ("floor_arrived", 0.99..=f64::INFINITY)];

/// How much was merged into later updates.
pub const MERGED_PERCENT: &str = "merged_percent";

/// A few users write just at the tick. Where more is merged than this, the server does not keep pace,
/// and the cost of a delivery is of fewer deliveries than were meant.
pub const MERGED_PERCENT_MAX: f64 = 5.0;

/// The longest that the generator sent an update late.
pub const LATE_MS: &str = "generator_late_ms";

/// How much of the time generator or server were kept from working: they waited for a core, or the
/// generator woke up late, whichever was more.
pub const LOST_PERCENT: &str = "lost_percent";

/// Where more was lost than this, the machine was overloaded: it decides about the other figures, and
/// nothing can be held against the server. The bounds of what must arrive are as narrow.
const LOST_PERCENT_MAX: f64 = 1.0;

/// Everything that was measured, and on what.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of this program: generator, floor and, where it is a child, server.
    pub version: &'static str,
    /// `release` or `debug`.
    pub build: &'static str,
    /// `jemalloc` or `system`.
    pub allocator: &'static str,
    /// Where the server was; absent = a child for each repetition.
    pub address: Option<String>,
    /// Threads of the server that was started.
    pub threads: usize,
    /// Measured time of each repetition.
    pub seconds: f64,
    /// Repetitions, of which the figures are the medians.
    pub repeat: usize,
    /// What the sizes of the rows were multiplied by.
    pub scale: f64,
    /// What it ran on.
    pub machine: Machine,
    /// The rows.
    pub rows: Vec<Row>,
}

/// What was measured once.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// Of the row as a whole.
    pub figures: Figures,
    /// Of sizes that were measured one after the other, by size.
    pub steps: Vec<(f64, Figures)>,
}

impl From<Figures> for Measured {
    fn from(figures: Figures) -> Self {
        Measured { figures, steps: Vec::new() }
    }
}

/// One row: medians of its repetitions.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// The figures that most rows have.
    #[serde(flatten)]
    pub main: Main,
    /// What else there is to say.
    #[serde(flatten)]
    pub more: Figures,
    /// What was measured at several sizes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// What the row is meant to reach, and whether it does: by the repetitions that nothing disturbed.
    pub goals: Vec<Verdict>,
    /// What the figures compare although it is not the same.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub not_equal: &'static str,
    /// Why it was not measured; absent = it was.
    pub skipped: Option<String>,
    /// That the server did not keep pace; absent = it did.
    pub merged: Option<String>,
    /// What kept the figures from saying something about the server; absent = nothing.
    pub overloaded: Option<String>,
    /// What went wrong; absent = nothing.
    pub failed: Option<String>,
    repetitions: Vec<Figures>,
}

/// The figures that most rows have.
#[derive(Debug, Serialize)]
pub struct Main {
    pub server_cpu_us_per_delivery: Option<f64>,
    pub floor_ratio: Option<f64>,
    pub bytes_per_delivery: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p90_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub p99_9_ms: Option<f64>,
}

/// The medians at one size.
#[derive(Debug, Serialize)]
pub struct Step {
    /// The size.
    pub at: f64,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// How the repetitions of a row ended early.
#[derive(Debug)]
pub enum Stop {
    /// It cannot be measured here.
    Skipped(String),
    /// Something went wrong.
    Failed(String),
}

impl Row {
    /// From what the repetitions brought, and what ended them early.
    pub fn new(
        name: String,
        about: Option<&About>,
        repetitions: Vec<Measured>,
        stop: Option<Stop>,
    ) -> Self {
        let (repetitions, steps): (Vec<_>, Vec<_>) =
            repetitions.into_iter().map(|it| (it.figures.rounded(), it.steps)).unzip();
        let overloaded = repetitions.iter().find_map(overload);
        let sound: Vec<_> = repetitions.iter().filter(|it| overload(it).is_none()).collect();
        let (skipped, error) = match stop {
            Some(Stop::Skipped(why)) => (Some(why), None),
            Some(Stop::Failed(error)) => (None, Some(error)),
            None => (None, None),
        };
        let failed = error.or_else(|| sound.iter().find_map(|it| out_of_bounds(it)));
        let merged = sound.iter().find_map(|it| merged(it));
        let mut more = Figures::medians(&repetitions);
        let goals = about.map_or(&[][..], |about| about.goals);
        let undisturbed = Figures::medians(sound);
        let goals = goals.iter().map(|goal| goal.verdict(&undisturbed, &more)).collect();
        Row {
            name,
            main: Main {
                server_cpu_us_per_delivery: more.remove("server_cpu_us_per_delivery"),
                floor_ratio: more.remove("floor_ratio"),
                bytes_per_delivery: more.remove("bytes_per_delivery"),
                p50_ms: more.remove("p50_ms"),
                p90_ms: more.remove("p90_ms"),
                p99_ms: more.remove("p99_ms"),
                p99_9_ms: more.remove("p99_9_ms"),
            },
            more,
            steps: medians_by_size(&steps),
            goals,
            not_equal: about.map_or("", |about| about.not_equal),
            skipped,
            merged,
            overloaded,
            failed,
            repetitions,
        }
    }
}

impl Main {
    /// All, by name.
    pub fn all(&self) -> [(&'static str, Option<f64>); 7] {
        [
            ("server_cpu_us_per_delivery", self.server_cpu_us_per_delivery),
            ("floor_ratio", self.floor_ratio),
            ("bytes_per_delivery", self.bytes_per_delivery),
            ("p50_ms", self.p50_ms),
            ("p90_ms", self.p90_ms),
            ("p99_ms", self.p99_ms),
            ("p99_9_ms", self.p99_9_ms),
        ]
    }
}

/// The medians of each size, in order. Not every repetition need have every size.
fn medians_by_size(repetitions: &[Vec<(f64, Figures)>]) -> Vec<Step> {
    // Sizes are counts: as bits, positive numbers have the same order.
    let mut by_size = BTreeMap::<u64, Vec<&Figures>>::new();
    for (at, figures) in repetitions.iter().flatten() {
        by_size.entry(at.to_bits()).or_default().push(figures);
    }
    let step = |(at, all)| Step { at: f64::from_bits(at), figures: Figures::medians(all) };
    by_size.into_iter().map(step).collect()
}

/// What to say of a repetition in which the machine had no time for the benchmark.
fn overload(figures: &Figures) -> Option<String> {
    let lost = figures.get(LOST_PERCENT).filter(|lost| *lost > LOST_PERCENT_MAX)?;
    let late = figures.get(LATE_MS).unwrap_or_default();
    Some(format!("machine overloaded: generator late by {late} ms, {lost}% of the time lost"))
}

/// What to say of a repetition in which the server did not keep pace.
fn merged(figures: &Figures) -> Option<String> {
    let merged = figures.get(MERGED_PERCENT).filter(|merged| *merged > MERGED_PERCENT_MAX)?;
    Some(format!("not kept pace with: {merged}% of the updates were merged into later ones"))
}

/// The first figure that is out of its bounds. One that is no number is.
fn out_of_bounds(figures: &Figures) -> Option<String> {
    BOUNDS.iter().find_map(|(name, bounds)| {
        let figure = figures.get(name).filter(|figure| !bounds.contains(figure))?;
        Some(format!("{name} is {figure}, not in {} to {}", bounds.start(), bounds.end()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::catalogue;
    use serde_json::json;

    fn row(repetitions: &[&[(&'static str, f64)]]) -> Row {
        let measured = |figures: &&[(&'static str, f64)]| {
            Measured::from(figures.iter().copied().collect::<Figures>())
        };
        Row::new("own-2x3".into(), None, repetitions.iter().map(measured).collect(), None)
    }

    #[test]
    fn a_row_is_an_object_with_all_columns() {
        let row = row(&[&[("p50_ms", 1.0), ("arrived", 1.0)], &[("p50_ms", 3.0)]]);
        assert_eq!(
            serde_json::to_value(row).unwrap(),
            json!({
                "name": "own-2x3",
                "server_cpu_us_per_delivery": null,
                "floor_ratio": null,
                "bytes_per_delivery": null,
                "p50_ms": 2.0,
                "p90_ms": null,
                "p99_ms": null,
                "p99_9_ms": null,
                "arrived": 1.0,
                "goals": [],
                "skipped": null,
                "merged": null,
                "overloaded": null,
                "failed": null,
                "repetitions": [{"p50_ms": 1.0, "arrived": 1.0}, {"p50_ms": 3.0}],
            })
        );
    }

    #[test]
    fn the_goals_of_a_row_are_held_against_its_medians() {
        let measured = |ratio| Measured::from(Figures::from_iter([("floor_ratio", ratio)]));
        let repetitions = vec![measured(1.0), measured(1.2), measured(9.0)];
        let about = catalogue::Row::Own10.about();
        let row = Row::new("own-10x50".into(), Some(about), repetitions, None);
        let pass: Vec<_> = row.goals.iter().map(Verdict::pass).collect();
        assert_eq!(pass[..2], [Some(true), None]);
        // What an overloaded machine measured says nothing.
        let starved = Figures::from_iter([("floor_ratio", 9.0), (LOST_PERCENT, 50.0)]);
        let row = Row::new("own-10x50".into(), Some(about), vec![starved.into()], None);
        assert_eq!(row.goals[0].pass(), None);
    }

    #[test]
    fn sizes_are_in_order_each_with_its_medians() {
        let step = |at, figure| (at, Figures::from_iter([("p99_ms", figure)]));
        let measured = |steps| Measured { figures: Figures::default(), steps };
        let repetitions =
            vec![measured(vec![step(10.0, 5.0), step(2.0, 1.0)]), measured(vec![step(2.0, 3.0)])];
        let row = Row::new("scale".into(), None, repetitions, None);
        let steps: Vec<_> =
            row.steps.iter().map(|step| (step.at, step.figures.get("p99_ms"))).collect();
        assert_eq!(steps, [(2.0, Some(2.0)), (10.0, Some(5.0))]);
    }

    #[test]
    fn what_did_not_arrive_fails_the_row() {
        assert_eq!(row(&[&[("arrived", 0.991)]]).failed, None);
        assert!(row(&[&[("arrived", 1.0)], &[("arrived", 0.989)]]).failed.is_some());
        assert!(row(&[&[("arrived", 1.0), ("floor_arrived", 0.5)]]).failed.is_some());
        assert!(row(&[&[("arrived", f64::NAN)]]).failed.is_some());
    }

    #[test]
    fn a_server_that_does_not_keep_pace_is_told_and_fails_no_row() {
        let row = row(&[&[("arrived", 1.0), (MERGED_PERCENT, 7.0)]]);
        let told = "not kept pace with: 7% of the updates were merged into later ones";
        assert_eq!((row.merged.as_deref(), row.failed), (Some(told), None));
    }

    #[test]
    fn an_overloaded_machine_is_named_and_fails_no_row() {
        let starved = [("arrived", 0.5), (LATE_MS, 43.0), (LOST_PERCENT, 1.01)];
        let overloaded = row(&[&starved, &[("arrived", 1.0), (LOST_PERCENT, 1.0)]]);
        let told = "machine overloaded: generator late by 43 ms, 1.01% of the time lost";
        assert_eq!(overloaded.overloaded.as_deref(), Some(told));
        assert_eq!(overloaded.failed, None);
        // What is lost while the machine has time is lost by the server.
        let lossy = row(&[&starved, &[("arrived", 0.5), (LOST_PERCENT, 1.0)]]);
        assert!(lossy.failed.is_some());
        let measured = Measured::from(starved.into_iter().collect::<Figures>());
        let stop = Some(Stop::Failed("no answer".into()));
        let broken = Row::new("own".into(), None, vec![measured], stop);
        assert_eq!(broken.failed.as_deref(), Some("no answer"));
    }
}
