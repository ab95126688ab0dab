//! A stretch of time, and what was used and done in it.

use super::{
    Result,
    accounting::{MachineTimes, ThreadTimes, percent},
    load::Load,
    process::Process,
    tally::Counts,
};
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// Measures from its start to its end.
pub struct Meter<'a> {
    server: Option<(&'a [Process], ThreadTimes)>,
    own: ThreadTimes,
    machine: MachineTimes,
    start: Instant,
}

/// What was used meanwhile.
#[derive(Debug, Clone)]
pub struct Usage {
    /// How long it was.
    pub elapsed: Duration,
    /// The CPU of the measured processes, where they are children of this one.
    pub server_cpu: Option<Duration>,
    /// The CPU of that one of its threads that used most.
    pub busiest_thread: Duration,
    /// The CPU of this process, the load generator.
    pub own_cpu: Duration,
    /// How long a thread of the two waited for a CPU, whichever waited longest.
    pub waited: Duration,
    /// How much of all cores was in use, by whomever.
    pub machine_percent: f64,
}

impl<'a> Meter<'a> {
    /// Begins to watch this process and those of a server; there are none of one that is not a child.
    pub fn start(server: &'a [Process]) -> Result<Self> {
        Ok(Meter {
            own: ThreadTimes::of(std::process::id())?,
            machine: MachineTimes::now()?,
            start: Instant::now(),
            server: match server {
                [] => None,
                _ => Some((server, Process::cpu(server)?)),
            },
        })
    }

    /// Ends.
    pub fn stop(self) -> Result<Usage> {
        let server = self.server.map(|(server, before)| {
            Process::cpu(server).map(|cpu| (cpu.since(&before), cpu.busiest_since(&before)))
        });
        let server = server.transpose()?;
        let busiest_thread = server.map(|(_, busiest)| busiest).unwrap_or_default();
        let server = server.map(|(time, _)| time);
        let own = ThreadTimes::of(std::process::id())?.since(&self.own);
        Ok(Usage {
            server_cpu: server.map(|time| time.used),
            busiest_thread,
            elapsed: self.start.elapsed(),
            own_cpu: own.used,
            waited: own.waited.max(server.unwrap_or_default().waited),
            machine_percent: MachineTimes::now()?.busy_percent_since(&self.machine),
        })
    }
}

impl Usage {
    /// The server's CPU, in percent of one core.
    pub fn server_percent(&self) -> Option<f64> {
        self.server_cpu.map(|cpu| self.percent(cpu))
    }

    /// The generator's CPU, in percent of one core.
    pub fn own_percent(&self) -> f64 {
        self.percent(self.own_cpu)
    }

    /// So much time, in percent of all.
    pub fn percent(&self, time: Duration) -> f64 {
        percent(time.as_secs_f64(), self.elapsed.as_secs_f64())
    }
}

/// What a load did in a stretch of time.
pub struct Window {
    /// What was used.
    pub usage: Usage,
    /// What was sent and received.
    pub counts: Counts,
    /// The longest that an update was sent late.
    pub late: Duration,
    /// Microseconds from sending to arrival, at the timed receivers.
    pub latency: Histogram<u64>,
}

impl Window {
    /// This one and a later one of the same load, as one.
    pub fn and(mut self, later: Self) -> Self {
        self.latency += later.latency;
        let (usage, more) = (self.usage, later.usage);
        let elapsed = usage.elapsed + more.elapsed;
        let share = |it: &Usage| it.machine_percent * it.elapsed.as_secs_f64();
        let machine_percent = (share(&usage) + share(&more)) / elapsed.as_secs_f64();
        Window {
            usage: Usage {
                elapsed,
                server_cpu: usage.server_cpu.zip(more.server_cpu).map(|(cpu, more)| cpu + more),
                busiest_thread: usage.busiest_thread + more.busiest_thread,
                own_cpu: usage.own_cpu + more.own_cpu,
                waited: usage.waited + more.waited,
                machine_percent,
            },
            counts: self.counts + later.counts,
            late: self.late.max(later.late),
            latency: self.latency,
        }
    }

    /// The server's CPU for each delivery, in microseconds.
    pub fn cost(&self) -> Option<f64> {
        let micros = self.usage.server_cpu?.as_secs_f64() * 1e6;
        Some(micros / self.counts.deliveries as f64)
    }
}

/// Watches a load that rests while it sends for so long, and until all of that has arrived.
pub async fn watch_a_turn(
    load: &mut Load,
    server: &[Process],
    duration: Duration,
) -> Result<Window> {
    load.take_latency();
    load.take_late();
    let before = load.counts();
    let meter = Meter::start(server)?;
    load.resume();
    load.go_on(duration).await?;
    load.rest().await?;
    let usage = Usage { elapsed: duration, ..meter.stop()? };
    let counts = load.counts() - before;
    Ok(Window { usage, counts, late: load.take_late(), latency: load.take_latency() })
}

/// Watches a load for so long.
pub async fn watch(load: &mut Load, server: &[Process], duration: Duration) -> Result<Window> {
    load.take_latency();
    load.take_late();
    let before = load.counts();
    let meter = Meter::start(server)?;
    load.go_on(duration).await?;
    let usage = meter.stop()?;
    let counts = load.counts() - before;
    Ok(Window { usage, counts, late: load.take_late(), latency: load.take_latency() })
}
