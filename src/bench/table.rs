//! The report as text for people, and as lines for spreadsheets.

use super::{
    accounting::Machine,
    peer::PEERS,
    report::{Report, Row},
};
use std::fmt::{self, Display, Formatter};

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report { version, build, allocator, threads, seconds, repeat, scale, .. } = self;
        let Machine { cpu, cores, kernel } = &self.machine;
        writeln!(f, "sessiond {version}, {build} build, {allocator} allocator")?;
        writeln!(f, "{cores} cores of {cpu}, Linux {kernel}")?;
        match &self.address {
            Some(address) => {
                write!(f, "server at {address}, of which CPU and memory are not seen")?
            }
            None => write!(f, "server with {threads} threads")?,
        }
        write!(f, ", medians of {repeat} x {seconds} s")?;
        if *scale != 1.0 {
            write!(f, ", sizes x {scale}")?;
        }
        writeln!(f, "\n")?;
        let titles = ["us/delivery", "x floor", "bytes", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms"];
        line(f, "row", titles.map(str::to_owned))?;
        self.rows.iter().try_for_each(|row| write!(f, "{row}"))
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        line(f, &self.name, self.main.all().map(|(_, figure)| cell(figure)))?;
        let mut more = self.more.clone();
        for peer in PEERS {
            let figures = self.main.all().map(|(name, _)| more.remove(&format!("{peer}_{name}")));
            if figures.iter().any(Option::is_some) {
                line(f, &format!("    at {peer}"), figures.map(cell))?;
            }
        }
        let more: Vec<_> = more.iter().map(|(name, it)| format!("{name} {it}")).collect();
        for figures in more.chunks(3) {
            writeln!(f, "    {}", figures.join(", "))?;
        }
        for step in &self.steps {
            let cells = self.main.all().map(|(name, _)| cell(step.figures.get(name)));
            line(f, &format!("    at {}", step.at), cells)?;
        }
        for verdict in &self.goals {
            writeln!(f, "    {verdict}")?;
        }
        if !self.not_equal.is_empty() {
            writeln!(f, "    not equal: {}", self.not_equal)?;
        }
        if let Some(skipped) = &self.skipped {
            writeln!(f, "    not measured: {skipped}")?;
        }
        for text in [&self.merged, &self.overloaded].into_iter().flatten() {
            writeln!(f, "    {text}")?;
        }
        if let Some(failed) = &self.failed {
            writeln!(f, "    FAILED: {failed}")?;
        }
        Ok(())
    }
}

fn cell(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string())
}

fn line(f: &mut Formatter<'_>, name: &str, cells: [String; 7]) -> fmt::Result {
    write!(f, "{name:<24}")?;
    for cell in cells {
        write!(f, " {cell:>11}")?;
    }
    writeln!(f)
}

/// A line for each figure, with the size where a row has several.
pub fn csv(report: &Report) -> String {
    let mut lines = vec!["row,size,figure,value".to_owned()];
    for row in &report.rows {
        let name = &row.name;
        let main = row.main.all().into_iter().filter_map(|(name, it)| Some((name, it?)));
        let figures = main.chain(row.more.iter().map(|(name, it)| (&**name, *it)));
        lines.extend(figures.map(|(figure, value)| format!("{name},,{figure},{value}")));
        for step in &row.steps {
            let line = |(figure, value)| format!("{name},{},{figure},{value}", step.at);
            lines.extend(step.figures.iter().map(line));
        }
        for verdict in &row.goals {
            // 1 = reached, 0 = missed.
            let pass = verdict.pass().map(|pass| u8::from(pass).to_string()).unwrap_or_default();
            lines.push(format!("{name},,goal {},{pass}", verdict.title()));
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{catalogue, figures::Figures, report::Measured};

    fn report() -> Report {
        let figures = Figures::from_iter([
            ("p50_ms", 1.25),
            ("floor_ratio", 1.5),
            ("arrived", 0.5),
            ("redis_p50_ms", 0.5),
            ("redis_ratio", 2.0),
        ]);
        let step = (2.0, Figures::from_iter([("p99_ms", 7.0)]));
        let measured = Measured { figures, steps: vec![step] };
        let about = Some(catalogue::Row::Own10.about());
        Report {
            version: "1",
            build: "release",
            allocator: "system",
            address: None,
            threads: 1,
            seconds: 10.0,
            repeat: 3,
            scale: 1.0,
            machine: Machine { cpu: "A".into(), cores: 2, kernel: "6".into() },
            rows: vec![Row::new("own-10x50".into(), about, vec![measured], None)],
        }
    }

    #[test]
    fn the_table_has_figures_goals_and_what_went_wrong() {
        let text = report().to_string();
        for part in [
            "medians of 3 x 10 s\n",
            "own-10x50",
            "1.25",
            "    at redis                       -           -           -         0.5           -           -           -\n",
            "redis_ratio 2",
            "    at 2                           -           -           -           -           -           7           -\n",
            "    goal S1 floor_ratio <= 1.25: 1.5, missed by 20%\n",
            "    FAILED: arrived is 0.5",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn csv_has_a_line_of_four_cells_for_each_figure() {
        let text = csv(&report());
        assert!(text.lines().all(|line| line.split(',').count() == 4), "{text}");
        for line in [
            "own-10x50,,p50_ms,1.25",
            "own-10x50,2,p99_ms,7",
            "own-10x50,,goal S1 floor_ratio <= 1.25,0",
            "own-10x50,,goal S1 colyseus_ratio <= 0.5,",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in {text}");
        }
    }
}
