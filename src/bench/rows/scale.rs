//! What size does to the cost of a delivery.

use super::{Bench, busy};
use crate::bench::{
    Result,
    load::Plan,
    report::{LATE_MS, LOST_PERCENT, MERGED_PERCENT, Measured},
};
use std::time::Duration;

/// Users in a room, rooms, milliseconds between two updates of a user: all in all about as many
/// messages, in which no more than a hundred users change.
const ROOMS: [(usize, usize, u64); 5] =
    [(2, 100, 50), (10, 50, 50), (50, 10, 50), (200, 2, 100), (1_000, 1, 500)];
/// From here on the cost of a delivery must not grow.
const GROWTH_FROM: f64 = 10.0;

/// Rooms of more and more users.
pub async fn users(bench: &Bench) -> Result<Measured> {
    let mut measured = Measured::default();
    for (users, rooms, period) in ROOMS {
        let users = bench.args.scaled(users, 2);
        let period = Duration::from_millis(period);
        let plan = Plan { period, ..bench.plan(bench.args.scaled(rooms, 1), users) };
        let figures = busy::beside_others(bench, &plan).await?;
        measured.steps.push((users as f64, figures));
    }
    Ok(with_growth(measured, "server_cpu_us_per_delivery", GROWTH_FROM))
}

/// Adds how much a cost grows from one size to the next at most, from this size on, and the worst of what decides
/// whether the row can be believed.
pub fn with_growth(mut measured: Measured, cost: &str, from: f64) -> Measured {
    let Measured { figures, steps } = &mut measured;
    let costs = steps.iter().filter(|(at, _)| *at >= from);
    let costs: Vec<f64> = costs.filter_map(|(_, figures)| figures.get(cost)).collect();
    let growth = costs.windows(2).map(|pair| pair[1] / pair[0]).max_by(f64::total_cmp);
    figures.set_some("growth", growth);
    for name in [LATE_MS, LOST_PERCENT, MERGED_PERCENT] {
        let worst = steps.iter().filter_map(|(_, figures)| figures.get(name));
        figures.set_some(name, worst.max_by(f64::total_cmp));
    }
    let least = steps.iter().filter_map(|(_, figures)| figures.get("arrived"));
    figures.set_some("arrived", least.min_by(f64::total_cmp));
    measured
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::Figures;

    #[test]
    fn growth_is_the_worst_from_one_size_to_the_next() {
        let step = |at, cost| (at, Figures::from_iter([("us", cost), ("arrived", cost / 4.0)]));
        let steps = vec![step(2.0, 1.0), step(10.0, 4.0), step(50.0, 2.0), step(200.0, 3.0)];
        let measured = with_growth(Measured { figures: Figures::default(), steps }, "us", 10.0);
        assert_eq!(measured.figures.get("growth"), Some(1.5));
        assert_eq!(measured.figures.get("arrived"), Some(0.25));
    }
}
