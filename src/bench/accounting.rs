//! What the kernel accounts: CPU per thread in nanoseconds, the machine's CPU, resident memory.

use super::Result;
use serde::Serialize;
use std::{collections::BTreeMap, fs, io, time::Duration};

/// The CPU that each thread of a process has used so far, by thread id.
#[derive(Debug, Clone, Default)]
pub struct ThreadTimes(BTreeMap<u32, Duration>);

impl ThreadTimes {
    /// Of the process `pid`.
    pub fn of(pid: u32) -> Result<Self> {
        let mut times = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = task?.path();
            let id = path.file_name().and_then(|name| name.to_str()).and_then(|id| id.parse().ok());
            // A thread may end between the listing and the reading, or while it is read (ESRCH).
            let has_ended = |error: &io::Error| {
                error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(3)
            };
            let text = match fs::read_to_string(path.join("schedstat")) {
                Err(error) if has_ended(&error) => continue,
                text => text?,
            };
            let time =
                schedstat(&text).ok_or("cannot make sense of /proc/<pid>/task/*/schedstat")?;
            times.extend(id.map(|id| (id, time)));
        }
        Ok(ThreadTimes(times))
    }

    /// What the threads used since `earlier`. Of threads that ended in between, what they used after
    /// it is lost.
    pub fn since(&self, earlier: &ThreadTimes) -> Duration {
        let before = |id| earlier.0.get(id).copied().unwrap_or_default();
        self.0.iter().map(|(id, time)| time.saturating_sub(before(id))).sum()
    }
}

/// The machine's CPU so far, in clock ticks.
#[derive(Debug, Clone, Copy)]
pub struct MachineTimes {
    idle: u64,
    total: u64,
}

impl MachineTimes {
    /// Until now.
    pub fn now() -> Result<Self> {
        Self::parse(&fs::read_to_string("/proc/stat")?)
            .ok_or_else(|| "cannot make sense of /proc/stat".into())
    }

    /// How much of all cores was in use since `earlier`, time that a hypervisor gave to others
    /// included.
    pub fn busy_percent_since(&self, earlier: &MachineTimes) -> f64 {
        let total = self.total.saturating_sub(earlier.total);
        let idle = self.idle.saturating_sub(earlier.idle);
        percent(total.saturating_sub(idle) as f64, total as f64)
    }

    fn parse(text: &str) -> Option<Self> {
        let all_cores = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // user, nice, system, idle, iowait, irq, softirq, steal; guest times are part of user.
        let times: Vec<u64> =
            all_cores.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(MachineTimes { idle: times.get(3)? + times.get(4)?, total: times.iter().sum() })
    }
}

/// The physical memory that the process `pid` holds.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    resident(&fs::read_to_string(format!("/proc/{pid}/status"))?)
        .ok_or_else(|| "cannot make sense of /proc/<pid>/status".into())
}

/// How many files this process, and so each child, may have open.
pub fn open_files_limit() -> Result<usize> {
    open_files(&fs::read_to_string("/proc/self/limits")?)
        .ok_or_else(|| "cannot make sense of /proc/self/limits".into())
}

/// What the figures were measured on.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The model, as the kernel calls it.
    pub cpu: String,
    /// How many cores this process may use.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    /// This one; what cannot be found out is `unknown`.
    pub fn here() -> Self {
        let unknown = || "unknown".to_owned();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Machine {
            cpu: cpu_model(&cpus).map_or_else(unknown, str::to_owned),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: release.map_or_else(unknown, |release| release.trim().to_owned()),
        }
    }
}

/// `part` of `whole`; nothing of nothing is 0.
pub fn percent(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { 100.0 * part / whole }
}

/// The first of the three numbers: nanoseconds on a CPU.
fn schedstat(text: &str) -> Option<Duration> {
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        soft => soft.parse().ok(),
    }
}

fn cpu_model(cpus: &str) -> Option<&str> {
    let line = cpus.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(threads: &[(u32, u64)]) -> ThreadTimes {
        ThreadTimes(threads.iter().map(|&(id, ns)| (id, Duration::from_nanos(ns))).collect())
    }

    #[test]
    fn schedstat_begins_with_the_nanoseconds_on_a_cpu() {
        assert_eq!(schedstat("1205370 92144 33\n"), Some(Duration::from_nanos(1_205_370)));
        assert_eq!(schedstat(""), None);
        assert_eq!(schedstat("many"), None);
    }

    #[test]
    fn cpu_is_counted_per_thread() {
        let earlier = times(&[(1, 100), (2, 1_000)]);
        let begun_in_between = times(&[(1, 150), (2, 1_000), (3, 7)]);
        assert_eq!(begun_in_between.since(&earlier), Duration::from_nanos(57));
        let ended_in_between = times(&[(1, 150)]);
        assert_eq!(ended_in_between.since(&earlier), Duration::from_nanos(50));
    }

    #[test]
    fn this_process_uses_cpu_and_memory() {
        let pid = std::process::id();
        let before = ThreadTimes::of(pid).unwrap();
        while ThreadTimes::of(pid).unwrap().since(&before).is_zero() {}
        assert!(resident_bytes(pid).unwrap() > 100_000);
        assert!(open_files_limit().unwrap() > 0);
    }

    #[test]
    fn waiting_for_disks_is_not_busy() {
        let text = |line: &str| MachineTimes::parse(&format!("{line}\ncpu0 1 1 1 1\n")).unwrap();
        let earlier = text("cpu  100 0 50 800 40 0 10 0 0 0");
        let later = text("cpu  130 0 60 850 45 0 10 5 20 0");
        assert_eq!(later.busy_percent_since(&earlier), 45.0);
        assert!(MachineTimes::parse("cpu  1 2\n").is_none());
    }

    #[test]
    fn resident_memory_is_in_kilobytes() {
        assert_eq!(resident("VmSize:\t 9 kB\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        assert_eq!(resident("Name: kernel thread\n"), None);
    }

    #[test]
    fn the_soft_limit_of_open_files_counts() {
        let limits = |soft: &str| format!("Max open files            {soft}   524288   files\n");
        assert_eq!(open_files(&limits("1024")), Some(1_024));
        assert_eq!(open_files(&limits("unlimited")), Some(usize::MAX));
        assert_eq!(open_files("Max processes 5 5\n"), None);
    }

    #[test]
    fn the_cpu_has_a_name() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: A: B\n"), Some("A: B"));
        assert_eq!(cpu_model(""), None);
    }

    #[test]
    fn nothing_of_nothing_is_no_percent() {
        assert_eq!(percent(0.0, 0.0), 0.0);
        assert_eq!(percent(1.0, 8.0), 12.5);
    }
}
