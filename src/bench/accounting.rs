//! What the kernel accounts: CPU, and waiting for it, per thread in nanoseconds, the machine's CPU,
//! resident memory.

use super::Result;
use serde::Serialize;
use std::{collections::BTreeMap, fs, io, time::Duration};

/// What a thread, or several, had of the CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Time {
    /// Was on a CPU.
    pub used: Duration,
    /// Could have run, and waited for a CPU. 0 of threads that give way to others on purpose.
    pub waited: Duration,
}

/// The time of each thread of a process so far, by thread id.
#[derive(Debug, Clone, Default)]
pub struct ThreadTimes(BTreeMap<u32, Time>);

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
            let read = |name| match fs::read_to_string(path.join(name)) {
                Err(error) if has_ended(&error) => Ok(None),
                text => text.map(Some),
            };
            let (Some(times_of), Some(stat)) = (read("schedstat")?, read("stat")?) else {
                continue;
            };
            let (used, waited) =
                schedstat(&times_of).ok_or("cannot make sense of /proc/<pid>/task/*/schedstat")?;
            let nice = nice(&stat).ok_or("cannot make sense of /proc/<pid>/task/*/stat")?;
            let waited = if nice > 0 { Duration::ZERO } else { waited };
            times.extend(id.map(|id| (id, Time { used, waited })));
        }
        Ok(ThreadTimes(times))
    }

    /// Of several processes: no two threads of a machine have the same id.
    pub fn of_all(pids: impl IntoIterator<Item = u32>) -> Result<Self> {
        let mut all = BTreeMap::new();
        for pid in pids {
            all.extend(Self::of(pid)?.0);
        }
        Ok(ThreadTimes(all))
    }

    /// The CPU of all threads since `earlier`, and how long that one waited that waited longest. Of threads that ended in between, what they had after
    /// it is lost.
    pub fn since(&self, earlier: &ThreadTimes) -> Time {
        self.each_since(earlier).fold(Time::default(), |sum, time| Time {
            used: sum.used + time.used,
            waited: sum.waited.max(time.waited),
        })
    }

    /// The CPU of the thread that used most since `earlier`.
    pub fn busiest_since(&self, earlier: &ThreadTimes) -> Duration {
        self.each_since(earlier).map(|time| time.used).max().unwrap_or_default()
    }

    fn each_since(&self, earlier: &ThreadTimes) -> impl Iterator<Item = Time> {
        self.0.iter().map(|(id, time)| {
            let before = earlier.0.get(id).copied().unwrap_or_default();
            Time {
                used: time.used.saturating_sub(before.used),
                waited: time.waited.saturating_sub(before.waited),
            }
        })
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

/// The first two of the three numbers: nanoseconds on a CPU, and waiting for one.
fn schedstat(text: &str) -> Option<(Duration, Duration)> {
    let mut numbers = text.split_whitespace().map(|it| it.parse().ok().map(Duration::from_nanos));
    Some((numbers.next()??, numbers.next()??))
}

/// The 19th field, of which the second is a name in parentheses.
fn nice(stat: &str) -> Option<i64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok()
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

    fn time(used: u64, waited: u64) -> Time {
        Time { used: Duration::from_nanos(used), waited: Duration::from_nanos(waited) }
    }

    fn times(threads: &[(u32, u64, u64)]) -> ThreadTimes {
        ThreadTimes(threads.iter().map(|&(id, used, waited)| (id, time(used, waited))).collect())
    }

    #[test]
    fn schedstat_begins_with_the_nanoseconds_on_a_cpu_and_waiting_for_one() {
        let nanos = Duration::from_nanos;
        assert_eq!(schedstat("1205370 92144 33\n"), Some((nanos(1_205_370), nanos(92_144))));
        assert_eq!(schedstat("1205370"), None);
        assert_eq!(schedstat("many 1 1"), None);
    }

    #[test]
    fn the_priority_of_a_thread_follows_its_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 3 1 0 0 39 19 2 0 100";
        assert_eq!(nice(stat), Some(19));
        assert_eq!(nice("7 (a) S 1"), None);
    }

    #[test]
    fn time_is_counted_per_thread() {
        let earlier = times(&[(1, 100, 5), (2, 1_000, 5)]);
        let begun_in_between = times(&[(1, 150, 6), (2, 1_000, 5), (3, 7, 2)]);
        assert_eq!(begun_in_between.since(&earlier), time(57, 2));
        assert_eq!(begun_in_between.busiest_since(&earlier), Duration::from_nanos(50));
        let ended_in_between = times(&[(1, 150, 5)]);
        assert_eq!(ended_in_between.since(&earlier), time(50, 0));
    }

    #[test]
    fn this_process_uses_cpu_and_memory() {
        let pid = std::process::id();
        let before = ThreadTimes::of(pid).unwrap();
        while ThreadTimes::of(pid).unwrap().since(&before).used.is_zero() {}
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
