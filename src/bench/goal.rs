//! What a row is meant to reach, and whether it does.

use super::figures::Figures;
use serde::{Serialize, Serializer};
use std::fmt::{self, Display, Formatter};

/// A bound of one figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    /// Its number among the goals, S1 to S10, D1 to D4, A1 to A3, I1, I2, C1 to C4.
    pub number: &'static str,
    /// The figure.
    pub figure: &'static str,
    /// What it is to be.
    pub limit: Limit,
    /// It counts only while this other figure is at most that.
    pub while_at_most: Option<(&'static str, f64)>,
}

/// What a figure is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// So much or less.
    AtMost(f64),
    /// So much or more.
    AtLeast(f64),
}

impl Goal {
    /// A figure that is to be so much or less.
    pub const fn at_most(number: &'static str, figure: &'static str, limit: f64) -> Self {
        Goal { number, figure, limit: Limit::AtMost(limit), while_at_most: None }
    }

    /// A figure that is to be so much or more.
    pub const fn at_least(number: &'static str, figure: &'static str, limit: f64) -> Self {
        Goal { number, figure, limit: Limit::AtLeast(limit), while_at_most: None }
    }

    /// The same, but only while another figure is at most that.
    pub const fn while_at_most(self, figure: &'static str, limit: f64) -> Self {
        Goal { while_at_most: Some((figure, limit)), ..self }
    }

    /// What the figures say to it. `all` are those of disturbed repetitions, too, which say nothing.
    pub fn verdict(self, figures: &Figures, all: &Figures) -> Verdict {
        let finite = |figures: &Figures| figures.get(self.figure).filter(|it| it.is_finite());
        let figure = finite(figures);
        let disturbed = finite(all).filter(|_| figure.is_none());
        let counts = match self.while_at_most {
            Some((other, most)) => figures.get(other).is_none_or(|other| other <= most),
            None => true,
        };
        Verdict { goal: self, figure, disturbed, counts }
    }
}

/// Whether a goal is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    goal: Goal,
    /// Absent = it was not measured.
    figure: Option<f64>,
    /// What was measured only where the machine was overloaded.
    disturbed: Option<f64>,
    counts: bool,
}

impl Verdict {
    /// Whether it is; `None` = nobody knows, or it does not count here.
    pub fn pass(&self) -> Option<bool> {
        Some(self.share()? <= 1.0)
    }

    /// The figure as a share of its bound, the other way round where more is better: over 1, the goal
    /// is missed.
    pub fn share(&self) -> Option<f64> {
        let figure = self.figure.filter(|_| self.counts)?;
        Some(match self.goal.limit {
            Limit::AtMost(limit) => figure / limit,
            Limit::AtLeast(limit) => limit / figure,
        })
    }

    /// What is measured, and its bound.
    pub fn title(&self) -> String {
        let Goal { number, figure, limit, .. } = self.goal;
        format!("{number} {figure} {limit}")
    }
}

impl Display for Limit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Limit::AtMost(limit) => write!(f, "<= {limit}"),
            Limit::AtLeast(limit) => write!(f, ">= {limit}"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "goal {}: ", self.title())?;
        match (self.figure, self.share()) {
            (None, _) => match self.disturbed {
                Some(figure) => {
                    write!(f, "{figure}, not held against it: the machine was overloaded")
                }
                None => write!(f, "not measured in this run"),
            },
            (Some(figure), None) => {
                let (other, most) = self.goal.while_at_most.unwrap_or_default();
                write!(f, "{figure}, does not count over {other} {most}")
            }
            (Some(figure), Some(share)) if share <= 1.0 => write!(f, "{figure}, pass"),
            (Some(figure), Some(_)) => {
                let (Limit::AtMost(limit) | Limit::AtLeast(limit)) = self.goal.limit;
                write!(f, "{figure}, missed by {:.0}%", 100.0 * (figure / limit - 1.0).abs())
            }
        }
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields {
            number: &'static str,
            figure: &'static str,
            limit: String,
            value: Option<f64>,
            pass: Option<bool>,
        }
        let Goal { number, figure, limit, .. } = self.goal;
        let limit = limit.to_string();
        Fields { number, figure, limit, value: self.figure, pass: self.pass() }
            .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(goal: Goal, figures: &[(&str, f64)]) -> String {
        let figures = figures.iter().copied().collect();
        goal.verdict(&figures, &figures).to_string()
    }

    #[test]
    fn a_verdict_says_by_how_much_a_goal_is_missed() {
        let ratio = Goal::at_most("S1", "floor_ratio", 1.25);
        assert_eq!(
            told(ratio, &[("floor_ratio", 1.25)]),
            "goal S1 floor_ratio <= 1.25: 1.25, pass"
        );
        let missed = "goal S1 floor_ratio <= 1.25: 1.5, missed by 20%";
        assert_eq!(told(ratio, &[("floor_ratio", 1.5)]), missed);
        let speedup = Goal::at_least("S9", "speedup", 1.8);
        assert_eq!(told(speedup, &[("speedup", 1.9)]), "goal S9 speedup >= 1.8: 1.9, pass");
        let missed = "goal S9 speedup >= 1.8: 0.9, missed by 50%";
        assert_eq!(told(speedup, &[("speedup", 0.9)]), missed);
    }

    #[test]
    fn what_was_not_measured_is_neither_reached_nor_missed() {
        let goal = Goal::at_most("S1", "colyseus_ratio", 0.5);
        for figures in [&[][..], &[("colyseus_ratio", f64::NAN)]] {
            let figures = figures.iter().copied().collect();
            assert_eq!(goal.verdict(&figures, &figures).pass(), None);
        }
        assert!(told(goal, &[]).ends_with("not measured in this run"));
        let disturbed = [("colyseus_ratio", 0.9)].into_iter().collect();
        let verdict = goal.verdict(&Figures::default(), &disturbed);
        assert_eq!(verdict.pass(), None);
        let told = "0.9, not held against it: the machine was overloaded";
        assert!(verdict.to_string().ends_with(told), "{verdict}");
    }

    #[test]
    fn a_goal_counts_only_while_its_condition_holds() {
        let goal = Goal::at_most("S5", "p99_ms", 53.0).while_at_most("server_cpu_percent", 60.0);
        let pass = |cpu| {
            let figures = [("p99_ms", 80.0), ("server_cpu_percent", cpu)].into_iter().collect();
            goal.verdict(&figures, &figures).pass()
        };
        assert_eq!((pass(60.0), pass(61.0)), (Some(false), None));
    }
}
