//! The report as a drawing: how near each row is to its goals, latencies, and what size does.

use super::report::{Report, Row, Step};
use std::fmt::Write;

const WIDTH: f64 = 960.0;
/// Where bars and axes begin; names stand on the left.
const LEFT: f64 = 430.0;
const RIGHT: f64 = 60.0;
const LINE: f64 = 20.0;
const CHART: f64 = 160.0;
/// Bars end here, in multiples of the goal.
const SHARE_MAX: f64 = 3.0;

const REACHED: &str = "#2e7d4f";
const MISSED: &str = "#b3462d";
const POINTS: [(&str, &str); 4] =
    [("p50", "#1b3a57"), ("p90", "#3f7cac"), ("p99", "#e09f3e"), ("p99.9", "#b3462d")];

/// The whole drawing.
pub fn svg(report: &Report) -> String {
    let mut page = Page { body: String::new(), y: 10.0 };
    page.title(&format!("sessiond {}, {} build", report.version, report.build));
    page.note(&format!("{} cores of {}", report.machine.cores, report.machine.cpu));
    page.goals(&report.rows);
    page.latencies(&report.rows);
    for row in report.rows.iter().filter(|row| row.steps.len() > 1) {
        page.steps(row);
    }
    let Page { body, y } = page;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" \
         viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

struct Page {
    body: String,
    /// What is above is taken.
    y: f64,
}

impl Page {
    fn title(&mut self, text: &str) {
        self.y += 1.5 * LINE;
        let y = self.y;
        self.element(&format!(
            "<text x=\"20\" y=\"{y}\" font-size=\"16\" font-weight=\"bold\">{}</text>",
            escaped(text)
        ));
    }

    fn note(&mut self, text: &str) {
        self.y += LINE;
        self.text(20.0, self.y, "start", text);
    }

    /// A bar for each goal that was measured; the line in the middle is the goal.
    fn goals(&mut self, rows: &[Row]) {
        let goals = rows.iter().flat_map(|row| row.goals.iter().map(move |goal| (row, goal)));
        let goals: Vec<_> =
            goals.filter_map(|(row, goal)| Some((row, goal, goal.share()?))).collect();
        if goals.is_empty() {
            return;
        }
        self.title("Goals: shorter is better, the line is the goal");
        let top = self.y;
        let scale = (WIDTH - LEFT - RIGHT) / SHARE_MAX;
        for (row, goal, share) in goals {
            self.y += LINE;
            self.text(LEFT - 8.0, self.y, "end", &format!("{}: {}", row.name, goal.title()));
            let width = share.clamp(0.0, SHARE_MAX) * scale;
            let colour = if share <= 1.0 { REACHED } else { MISSED };
            let y = self.y - 11.0;
            self.element(&format!(
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"14\" fill=\"{colour}\"/>"
            ));
            let share = if share > 99.0 { "> 99".into() } else { format!("{share:.2}") };
            self.text(LEFT + width + 4.0, self.y, "start", &share);
        }
        self.line((LEFT + scale, top + 4.0), (LEFT + scale, self.y + 6.0), "black");
    }

    /// Percentiles of each row, on a logarithmic axis.
    fn latencies(&mut self, rows: &[Row]) {
        let points = |row: &Row| {
            let main = &row.main;
            [main.p50_ms, main.p90_ms, main.p99_ms, main.p99_9_ms]
        };
        let rows: Vec<_> =
            rows.iter().filter(|row| points(row).iter().any(Option::is_some)).collect();
        let all = rows.iter().flat_map(|row| points(row)).flatten();
        let Some(axis) = Axis::around(all, (LEFT, WIDTH - RIGHT)) else { return };
        self.title("Latency in ms");
        self.y += LINE;
        for (at, (name, colour)) in POINTS.iter().enumerate() {
            let x = LEFT + 70.0 * at as f64;
            self.dot(x, self.y - 4.0, colour);
            self.text(x + 8.0, self.y, "start", name);
        }
        let top = self.y + 6.0;
        for row in &rows {
            self.y += LINE;
            self.text(LEFT - 8.0, self.y, "end", &row.name);
            for (point, (_, colour)) in points(row).into_iter().zip(POINTS) {
                if let Some(milliseconds) = point {
                    self.dot(axis.at(milliseconds), self.y - 4.0, colour);
                }
            }
        }
        self.y += LINE;
        for tick in axis.ticks() {
            let x = axis.at(tick);
            self.line((x, top), (x, self.y - 14.0), "#cccccc");
            self.text(x, self.y, "middle", &tick.to_string());
        }
    }

    /// Cost, or latency, over size; both axes are logarithmic.
    fn steps(&mut self, row: &Row) {
        // A ramp is about latency, other sizes about cost, where that is seen.
        let is_ramp = row.more.get("too_many_rooms").is_some();
        let figures = ["server_cpu_us_per_delivery", "p99_ms"];
        let figure = figures.into_iter().skip(usize::from(is_ramp)).find(|figure| {
            row.steps.iter().filter(|step| step.figures.get(figure).is_some()).count() > 1
        });
        let Some(figure) = figure else { return };
        let value = |step: &Step| Some((step.at, step.figures.get(figure)?));
        let points: Vec<_> = row.steps.iter().filter_map(value).collect();
        let across = Axis::around(points.iter().map(|point| point.0), (LEFT, WIDTH - RIGHT));
        let ends = (self.y + 2.0 * LINE + CHART, self.y + 2.0 * LINE);
        let up = Axis::around(points.iter().map(|point| point.1), ends);
        let (Some(across), Some(up)) = (across, up) else { return };
        self.title(&format!("{}: {figure} by size", row.name));
        let places: Vec<_> = points.iter().map(|(x, y)| (across.at(*x), up.at(*y))).collect();
        for pair in places.windows(2) {
            self.line(pair[0], pair[1], POINTS[1].1);
        }
        for ((x, y), (_, value)) in places.iter().zip(&points) {
            self.dot(*x, *y, POINTS[1].1);
            self.text(*x, y - 8.0, "middle", &value.to_string());
        }
        for ((x, _), (at, _)) in places.iter().zip(&points) {
            self.text(*x, ends.0 + LINE, "middle", &at.to_string());
        }
        self.line((LEFT, ends.0 + 4.0), (WIDTH - RIGHT, ends.0 + 4.0), "#cccccc");
        self.y = ends.0 + LINE;
    }

    fn dot(&mut self, x: f64, y: f64, colour: &str) {
        self.element(&format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.element(&format!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
        ));
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = escaped(text);
        self.element(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    fn element(&mut self, element: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.body, "{element}");
    }
}

/// A logarithmic axis.
struct Axis {
    /// Powers of ten.
    from: f64,
    to: f64,
    ends: (f64, f64),
}

impl Axis {
    /// Over whole powers of ten; none where there is nothing to show.
    fn around(values: impl Iterator<Item = f64>, ends: (f64, f64)) -> Option<Self> {
        let logs: Vec<f64> = values.filter(|it| *it > 0.0).map(f64::log10).collect();
        let least = logs.iter().copied().min_by(f64::total_cmp)?.floor();
        let most = logs.iter().copied().max_by(f64::total_cmp)?.ceil();
        Some(Axis { from: least, to: most.max(least + 1.0), ends })
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.max(f64::MIN_POSITIVE).log10() - self.from) / (self.to - self.from);
        self.ends.0 + share.clamp(0.0, 1.0) * (self.ends.1 - self.ends.0)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (self.from as i32..=self.to as i32).map(|power| 10_f64.powi(power))
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_goes_from_one_power_of_ten_to_another() {
        let axis = Axis::around([0.3, 40.0].into_iter(), (0.0, 300.0)).unwrap();
        assert_eq!(axis.at(0.1), 0.0);
        assert_eq!(axis.at(10.0), 200.0);
        assert_eq!(axis.at(100.0), 300.0);
        assert_eq!(axis.ticks().count(), 4);
        assert!(Axis::around([0.0].into_iter(), (0.0, 1.0)).is_none());
    }

    #[test]
    fn text_is_no_markup() {
        assert_eq!(escaped("a <= b & c"), "a &lt;= b &amp; c");
    }
}
