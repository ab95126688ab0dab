//! The same load at two servers that differ in one thing, in turns: both run all the time, and while one
//! has its turn the other has nothing to do. What else the machine does meanwhile comes to both alike.

use super::{Result, add_changes, add_strain, load_figures};
use crate::bench::{
    args::BenchArgs,
    figures::Figures,
    load::{Load, Plan},
    measure::{Window, watch_a_turn},
    peer::Peer,
    server::Server,
    service::Service,
};
use std::time::Duration;

/// How long a turn is: some ticks, and shorter than what disturbs a machine lasts.
const TURN: Duration = Duration::from_secs(1);

/// Two servers, each with the load.
pub struct Pair<'a> {
    plan: &'a Plan,
    sides: [Side; 2],
}

struct Side {
    server: Server,
    service: Service,
    load: Load,
}

impl Side {
    async fn start(plan: &Plan, server: Server) -> Result<Self> {
        let service = Service::connect(server.place.clone()).await?;
        service.open_rooms(plan).await?;
        let mut load = Load::start(plan, &Peer::Sessiond { place: server.place.clone() }).await?;
        load.rest().await?;
        Ok(Self { server, service, load })
    }

    async fn turn(&mut self, duration: Duration) -> Result<Window> {
        watch_a_turn(&mut self.load, &self.server.processes, duration).await
    }
}

impl<'a> Pair<'a> {
    /// Opens the rooms of the plan at both; nothing is sent yet.
    pub async fn start(plan: &'a Plan, first: Server, second: Server) -> Result<Self> {
        let sides = [Side::start(plan, first).await?, Side::start(plan, second).await?];
        Ok(Self { plan, sides })
    }

    /// The first server, 0, or the second one, 1.
    pub fn server(&self, side: usize) -> &Server {
        &self.sides[side].server
    }

    /// Sends the load in turns. Returns the figures of the second server with what has changed, and how
    /// many updates it was sent in all. The change of the CPU is the median of those between two turns
    /// beside each other.
    pub async fn measure(&mut self, args: &BenchArgs) -> Result<(Figures, u64)> {
        let turn = TURN.min(args.duration());
        let turns = (args.duration().as_secs_f64() / turn.as_secs_f64()).round().max(1.0) as usize;
        for side in &mut self.sides {
            side.turn(args.warm_up()).await?;
        }
        let mut whole: [Option<Window>; 2] = [None, None];
        let mut ratios = Vec::new();
        for number in 0..2 * turns {
            // What changes steadily comes to both alike, if each is the first as often.
            let order = if number % 2 == 0 { [0, 1] } else { [1, 0] };
            let mut costs = [None; 2];
            for side in order {
                let window = self.sides[side].turn(turn).await?;
                costs[side] = window.cost();
                whole[side] = Some(match whole[side].take() {
                    None => window,
                    Some(earlier) => earlier.and(window),
                });
            }
            if let [Some(first), Some(second)] = costs {
                ratios.push(second / first);
            }
        }
        let figures_of = |window: &Window| {
            let mut figures = load_figures(window, self.plan);
            add_strain(&mut figures, window);
            figures
        };
        let [Some(first), Some(second)] = whole else { return Err("there was no turn".into()) };
        let mut figures = figures_of(&second);
        add_changes(&mut figures, &figures_of(&first));
        let change = |share: f64| (quantile(&mut ratios.clone(), share) - 1.0) * 100.0;
        if !ratios.is_empty() {
            figures.extend([
                ("cpu_change_percent", change(0.5)),
                ("cpu_change_q1_percent", change(0.25)),
                ("cpu_change_q3_percent", change(0.75)),
                ("pairs_of_turns", ratios.len() as f64),
            ]);
        }
        Ok((figures, self.sides[1].load.counts().updates))
    }

    /// Ends the load and the servers; adds what share of what was sent has arrived.
    pub async fn stop(self, figures: &mut Figures) -> Result<()> {
        let mut arrived = Vec::new();
        for Side { server, service, load } in self.sides {
            arrived.push(load.stop().await?.arrived());
            service.delete_rooms(self.plan).await?;
            server.stop().await?;
        }
        // That of the side where more is wrong.
        let wrong = |share: &f64| (share - 1.0).abs();
        let worst = arrived.into_iter().max_by(|a, b| wrong(a).total_cmp(&wrong(b)));
        figures.set_some("arrived", worst);
        Ok(())
    }
}

/// The value that so large a share is below, between two of them if need be.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = share * (values.len() - 1) as f64;
    let (below, above) = (values[at.floor() as usize], values[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_between_the_values_beside_it() {
        let values = || [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&mut values(), 0.5), 2.5);
        assert_eq!(quantile(&mut values(), 0.25), 1.75);
        assert_eq!(quantile(&mut values(), 0.75), 3.25);
        assert_eq!(quantile(&mut [7.0], 0.5), 7.0);
    }
}
