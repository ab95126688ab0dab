//! The report: rows of figures, as a table or as JSON.

use super::accounting::Machine;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    ops::RangeInclusive,
};

/// Figures by name; the unit is the end of the name.
pub type Figures = BTreeMap<&'static str, f64>;

/// Bounds of figures, beyond which a row fails: a server that loses messages is cheap.
const BOUNDS: [(&str, RangeInclusive<f64>); 3] = [
    ("arrived", 0.99..=1.01),
    ("floor_arrived", 0.99..=f64::INFINITY),
    // A few users write just at the tick. More means that server or generator cannot keep pace.
    ("merged_percent", 0.0..=5.0),
];

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
    pub seconds: u64,
    /// Repetitions, of which the figures are the medians.
    pub repeat: usize,
    /// What it ran on.
    pub machine: Machine,
    /// The rows.
    pub rows: Vec<Row>,
}

/// One row: medians of its repetitions.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    server_cpu_us_per_delivery: Option<f64>,
    floor_ratio: Option<f64>,
    bytes_per_delivery: Option<f64>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    /// What else there is to say.
    #[serde(flatten)]
    more: Figures,
    /// What kept the figures from saying something about the server; absent = nothing.
    overloaded: Option<String>,
    /// What went wrong; absent = nothing.
    pub failed: Option<String>,
    /// The figures of each repetition.
    repetitions: Vec<Figures>,
}

impl Row {
    /// From the figures of the repetitions, and the error that ended them early.
    pub fn new(name: String, mut repetitions: Vec<Figures>, error: Option<String>) -> Self {
        for value in repetitions.iter_mut().flat_map(BTreeMap::values_mut) {
            *value = rounded(*value);
        }
        let overloaded = repetitions.iter().find_map(overload);
        let mut sound = repetitions.iter().filter(|figures| overload(figures).is_none());
        let failed = error.or_else(|| sound.find_map(out_of_bounds));
        let mut more = medians(&repetitions);
        Row {
            name,
            server_cpu_us_per_delivery: more.remove("server_cpu_us_per_delivery"),
            floor_ratio: more.remove("floor_ratio"),
            bytes_per_delivery: more.remove("bytes_per_delivery"),
            p50_ms: more.remove("p50_ms"),
            p99_ms: more.remove("p99_ms"),
            more,
            overloaded,
            failed,
            repetitions,
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report { version, build, allocator, threads, seconds, repeat, .. } = self;
        let Machine { cpu, cores, kernel } = &self.machine;
        writeln!(f, "sessiond {version}, {build} build, {allocator} allocator")?;
        writeln!(f, "{cores} cores of {cpu}, Linux {kernel}")?;
        match &self.address {
            Some(address) => write!(f, "server at {address}")?,
            None => write!(f, "server with {threads} threads")?,
        }
        writeln!(f, ", medians of {repeat} x {seconds} s\n")?;
        let titles = ["us/delivery", "x floor", "bytes", "p50 ms", "p99 ms"].map(str::to_owned);
        line(f, "row", &titles)?;
        for row in &self.rows {
            let figures = [
                row.server_cpu_us_per_delivery,
                row.floor_ratio,
                row.bytes_per_delivery,
                row.p50_ms,
                row.p99_ms,
            ];
            line(f, &row.name, &figures.map(|it| it.map_or("-".to_owned(), |it| it.to_string())))?;
            let more: Vec<_> = row.more.iter().map(|(name, it)| format!("{name} {it}")).collect();
            for figures in more.chunks(3) {
                writeln!(f, "    {}", figures.join(", "))?;
            }
            if let Some(overloaded) = &row.overloaded {
                writeln!(f, "    {overloaded}")?;
            }
            if let Some(failed) = &row.failed {
                writeln!(f, "    FAILED: {failed}")?;
            }
        }
        Ok(())
    }
}

fn line(f: &mut Formatter<'_>, name: &str, cells: &[String; 5]) -> fmt::Result {
    write!(f, "{name:<18}")?;
    for cell in cells {
        write!(f, " {cell:>11}")?;
    }
    writeln!(f)
}

/// Of each figure the median of the repetitions that have it.
fn medians(repetitions: &[Figures]) -> Figures {
    let mut values = BTreeMap::<_, Vec<f64>>::new();
    for (name, value) in repetitions.iter().flatten() {
        values.entry(*name).or_default().push(*value);
    }
    values.into_iter().map(|(name, values)| (name, rounded(median(values)))).collect()
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

/// What to say of a repetition in which the machine had no time for the benchmark.
fn overload(figures: &Figures) -> Option<String> {
    let lost = figures.get(LOST_PERCENT).filter(|lost| **lost > LOST_PERCENT_MAX)?;
    let late = figures.get(LATE_MS).copied().unwrap_or_default();
    Some(format!("machine overloaded: generator late by {late} ms, {lost}% of the time lost"))
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
    use serde_json::{Value, json};

    fn row(repetitions: &[&[(&'static str, f64)]]) -> Row {
        let figures = repetitions.iter().map(|it| it.iter().copied().collect()).collect();
        Row::new("own-10x50".into(), figures, None)
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
        assert_eq!(median(vec![5.0]), 5.0);
    }

    #[test]
    fn figures_have_four_digits() {
        assert_eq!(rounded(0.123_456), 0.123_5);
        assert_eq!(rounded(123_456.0), 123_500.0);
        assert_eq!(rounded(0.0), 0.0);
    }

    #[test]
    fn a_row_is_an_object_with_all_columns() {
        let row = row(&[&[("p50_ms", 1.0), ("arrived", 1.0)], &[("p50_ms", 3.0)]]);
        assert_eq!(
            serde_json::to_value(row).unwrap(),
            json!({
                "name": "own-10x50",
                "server_cpu_us_per_delivery": null,
                "floor_ratio": null,
                "bytes_per_delivery": null,
                "p50_ms": 2.0,
                "p99_ms": null,
                "arrived": 1.0,
                "overloaded": null,
                "failed": null,
                "repetitions": [{"p50_ms": 1.0, "arrived": 1.0}, {"p50_ms": 3.0}],
            })
        );
    }

    #[test]
    fn what_did_not_arrive_fails_the_row() {
        assert_eq!(row(&[&[("arrived", 0.991)]]).failed, None);
        assert!(row(&[&[("arrived", 1.0)], &[("arrived", 0.989)]]).failed.is_some());
        assert!(row(&[&[("arrived", 1.0), ("floor_arrived", 0.5)]]).failed.is_some());
        assert!(row(&[&[("arrived", f64::NAN)]]).failed.is_some());
        assert!(row(&[&[("arrived", 1.0), ("merged_percent", 7.0)]]).failed.is_some());
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
        let broken = Row::new("own".into(), vec![starved.into()], Some("no answer".into()));
        assert_eq!(broken.failed.as_deref(), Some("no answer"));
    }

    #[test]
    fn a_report_has_rows_and_its_machine() {
        let machine = Machine { cpu: "A".into(), cores: 2, kernel: "6".into() };
        let report = Report {
            version: "1",
            build: "release",
            allocator: "system",
            address: None,
            threads: 1,
            seconds: 10,
            repeat: 3,
            machine,
            rows: vec![row(&[&[("p50_ms", 1.25), ("arrived", 0.5)]])],
        };
        let value: Value = serde_json::to_value(&report).unwrap();
        assert_eq!(value["rows"][0]["p50_ms"], 1.25);
        assert_eq!(value["machine"]["cores"], 2);
        let text = report.to_string();
        assert!(text.contains("own-10x50"), "{text}");
        assert!(text.contains("FAILED: arrived is 0.5"), "{text}");
    }
}
