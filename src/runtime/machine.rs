//! What the operating system gives us: CPU features, cgroup limits, threads.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use thread_priority::{ThreadPriority, ThreadPriorityValue};

/// The machine as this process sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// `x86_64`, `aarch64`, …
    pub architecture: &'static str,
    /// The operating system.
    pub system: &'static str,
    /// Instruction sets that matter to the engines.
    pub cpu_features: Vec<&'static str>,
    /// What the container may use.
    pub cgroup: Cgroup,
    /// Threads that run at the same time: CPUs, affinity and quota together.
    pub threads: usize,
    /// Memory of the whole machine.
    pub memory_bytes: Option<u64>,
}

/// Limits of the control group, the tightest along its path.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Cgroup {
    /// 1 or 2; absent outside of Linux.
    pub version: Option<u8>,
    /// CPUs' worth of time.
    pub cpu_quota: Option<f64>,
    /// Bytes of memory.
    pub memory_limit_bytes: Option<u64>,
}

impl Machine {
    /// Asks the operating system.
    pub fn detect() -> Self {
        Self {
            architecture: std::env::consts::ARCH,
            system: std::env::consts::OS,
            cpu_features: cpu_features(),
            cgroup: Cgroup::read(Path::new("/")),
            threads: threads(),
            memory_bytes: memory(Path::new("/")),
        }
    }
}

/// Bytes that this process may take: the limit of its control group, else all that the machine has.
pub fn memory_limit() -> Option<u64> {
    let root = Path::new("/");
    let limits = [Cgroup::read(root).memory_limit_bytes, memory(root)];
    limits.into_iter().flatten().min()
}

/// How many files this process may have open; `None` where the system does not say.
pub fn open_files() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Bytes that are free for this user on the disk of a directory.
#[cfg(unix)]
pub fn free_space(directory: &Path) -> Option<u64> {
    let stats = rustix::fs::statvfs(directory).ok()?;
    Some(stats.f_bavail.saturating_mul(stats.f_frsize))
}

/// Bytes that are free for this user on the disk of a directory.
#[cfg(not(unix))]
pub fn free_space(_: &Path) -> Option<u64> {
    None
}

/// Bytes of memory that this process holds now.
pub fn resident() -> Option<u64> {
    kibibytes(Path::new("/proc/self/status"), "VmRSS:")
}

/// Bytes that a process has beside what it was told that it may grow by: stacks of threads, and what allocators hold back.
const SLACK: u64 = 64 << 20;

/// From here on the data of this process may grow by so many bytes and a little; a request for more memory fails.
///
/// # Errors
/// Where the system does not bound that.
#[cfg(target_os = "linux")]
pub fn limit_growth(bytes: u64) -> std::io::Result<()> {
    use rlimit::{Resource, getrlimit, setrlimit};
    let unknown = || std::io::Error::other("it does not tell how much memory it has");
    let now = kibibytes(Path::new("/proc/self/status"), "VmData:").ok_or_else(unknown)?;
    let limit = now.saturating_add(bytes).saturating_add(SLACK);
    let (_, maximum) = getrlimit(Resource::DATA)?;
    let limit = limit.min(maximum);
    // Nobody in this process may raise it again.
    setrlimit(Resource::DATA, limit, limit)
}

/// Not there.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn limit_growth(_: u64) -> std::io::Result<()> {
    Err(std::io::Error::other("this system cannot do that"))
}

/// The same of another process.
pub fn resident_of(process: u32) -> Option<u64> {
    kibibytes(Path::new(&format!("/proc/{process}/status")), "VmRSS:")
}

/// Threads that run at the same time: CPUs, affinity and quota together; at least one.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// CPUs' worth of time that this process may use: the quota of its control group, else the threads that run at the same
/// time.
#[expect(clippy::cast_precision_loss, reason = "a count of CPUs")]
pub fn cpus() -> f64 {
    let threads = threads() as f64;
    let quota = Cgroup::read(Path::new("/")).cpu_quota;
    quota.map_or(threads, |quota| quota.min(threads))
}

/// CPU time that this process has used.
pub fn cpu_time() -> Option<Duration> {
    ticks(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// Linux tells user and system time in hundredths of a second, on every architecture.
fn ticks(stat: &str) -> Option<Duration> {
    // The name of the program, in parentheses, may hold spaces and parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(Duration::from_millis(
        user.checked_add(system)?.checked_mul(10)?,
    ))
}

/// Who goes first when there are more threads than CPUs. Those that talk to clients have the normal priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// `nice 5`: runs of models, which take long beside a request for a small one.
    Runs,
    /// `nice 15`: loading and freeing, which nobody who is served must feel.
    Background,
}

impl Priority {
    /// The priority of this thread from here on, and of those that it starts.
    pub fn take(self) {
        let of_100: u8 = match self {
            Self::Runs => 35,
            Self::Background => 10,
        };
        let lower = ThreadPriorityValue::try_from(of_100).map(ThreadPriority::Crossplatform);
        // Where the system refuses, it competes with serving on equal terms.
        if let Ok(Err(error)) = lower.map(thread_priority::set_current_thread_priority) {
            tracing::debug!(?error, "at normal priority");
        }
    }
}

/// The nice value of this thread.
#[cfg(all(test, target_os = "linux"))]
pub fn niceness() -> i32 {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let field = fields.split_whitespace().nth(16);
    field
        .and_then(|nice| nice.parse().ok())
        .expect("as proc(5) says")
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<&'static str> {
    let features = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    there(&features)
}

#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected;
    let features = [
        ("neon", is_aarch64_feature_detected!("neon")),
        ("fp16", is_aarch64_feature_detected!("fp16")),
        ("dotprod", is_aarch64_feature_detected!("dotprod")),
        ("i8mm", is_aarch64_feature_detected!("i8mm")),
        ("bf16", is_aarch64_feature_detected!("bf16")),
        ("sve", is_aarch64_feature_detected!("sve")),
    ];
    there(&features)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> Vec<&'static str> {
    there(&[])
}

fn there(features: &[(&'static str, bool)]) -> Vec<&'static str> {
    let there = features.iter().filter(|(_, there)| *there);
    there.map(|(name, _)| *name).collect()
}

fn memory(root: &Path) -> Option<u64> {
    kibibytes(&root.join("proc/meminfo"), "MemTotal:")
}

/// The bytes that a line of a file of `/proc` tells.
fn kibibytes(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

impl Cgroup {
    /// The limits of this process, its files under `root`.
    fn read(root: &Path) -> Self {
        let Ok(groups) = fs::read_to_string(root.join("proc/self/cgroup")) else {
            return Self::default();
        };
        let mount = root.join("sys/fs/cgroup");
        if mount.join("cgroup.controllers").exists() {
            let group = groups.lines().find_map(|line| line.strip_prefix("0::"));
            let folders = folders(&mount, group.unwrap_or("/"));
            return Self {
                version: Some(2),
                cpu_quota: tightest(folders.iter().filter_map(|folder| quota_v2(folder))),
                memory_limit_bytes: folders
                    .iter()
                    .filter_map(|folder| number(&folder.join("memory.max")))
                    .min(),
            };
        }
        // `hierarchy:controllers:group`; without controllers it is version 2, which is not mounted.
        if !groups.lines().any(|line| {
            line.split(':')
                .nth(1)
                .is_some_and(|names| !names.is_empty())
        }) {
            return Self::default();
        }
        let of = |controller: &str| {
            let group = groups.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, group) = rest.split_once(':')?;
                controllers
                    .split(',')
                    .any(|name| name == controller)
                    .then_some(group)
            });
            folders(&mount.join(controller), group.unwrap_or("/"))
        };
        let limits = of("memory");
        Self {
            version: Some(1),
            cpu_quota: tightest(of("cpu").iter().filter_map(|folder| quota_v1(folder))),
            memory_limit_bytes: limits
                .iter()
                .filter_map(|folder| number(&folder.join("memory.limit_in_bytes")))
                // Without a limit, v1 says the largest page-aligned number.
                .filter(|limit| *limit < 1 << 62)
                .min(),
        }
    }
}

/// The folder of `group` and all above it: a limit holds for everything below. In a container the group may be named
/// as the host sees it, and only the mount itself is there.
fn folders(mount: &Path, group: &str) -> Vec<PathBuf> {
    let own = mount.join(group.trim_start_matches('/'));
    let above = own
        .ancestors()
        .take_while(|folder| folder.starts_with(mount));
    above.map(Path::to_owned).collect()
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a second")]
fn quota_v1(folder: &Path) -> Option<f64> {
    // -1 is no quota, and no u64.
    let quota = number(&folder.join("cpu.cfs_quota_us"))?;
    let period = number(&folder.join("cpu.cfs_period_us"))?;
    (period > 0).then(|| quota as f64 / period as f64)
}

fn quota_v2(folder: &Path) -> Option<f64> {
    let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
    let mut words = text.split_whitespace();
    let quota: f64 = words.next()?.parse().ok()?;
    let period: f64 = words.next()?.parse().ok()?;
    (period > 0.0).then(|| quota / period)
}

fn tightest(quotas: impl Iterator<Item = f64>) -> Option<f64> {
    quotas.min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn reads_the_tightest_limit_of_version_2() {
        let root = root(&[
            ("proc/self/cgroup", "0::/pod/app\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
            ("sys/fs/cgroup/pod/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/pod/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/pod/app/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/pod/app/memory.max", "max\n"),
        ]);
        let expected = Cgroup {
            version: Some(2),
            cpu_quota: Some(1.5),
            memory_limit_bytes: Some(1 << 30),
        };
        assert_eq!(Cgroup::read(root.path()), expected);
    }

    #[test]
    fn reads_version_1_and_takes_its_largest_number_for_no_limit() {
        let limits = |quota: &str, memory: &str| {
            let root = root(&[
                (
                    "proc/self/cgroup",
                    "4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n",
                ),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", memory),
            ]);
            let cgroup = Cgroup::read(root.path());
            assert_eq!(cgroup.version, Some(1));
            (cgroup.cpu_quota, cgroup.memory_limit_bytes)
        };
        assert_eq!(limits("50000\n", "4096\n"), (Some(0.5), Some(4096)));
        assert_eq!(limits("-1\n", "9223372036854771712\n"), (None, None));
    }

    #[test]
    fn reads_cpu_time_behind_a_name_with_parentheses() {
        let stat = "7 (a) (b c) S 1 7 7 0 -1 4194304 90 0 0 0 150 30 4 4 20 0 9 0 100 1000 50 18446744073709551615";
        assert_eq!(ticks(stat), Some(Duration::from_millis(1800)));
        assert_eq!(ticks("7 (a) S 1"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn finds_nothing_where_there_is_nothing() {
        assert_eq!(Cgroup::read(root(&[]).path()), Cgroup::default());
        let unmounted = root(&[("proc/self/cgroup", "0::/\n")]);
        assert_eq!(Cgroup::read(unmounted.path()), Cgroup::default());
    }

    #[test]
    fn reads_the_memory_of_the_machine() {
        let root = root(&[("proc/meminfo", "MemTotal:  2048 kB\nMemFree: 1 kB\n")]);
        assert_eq!(memory(root.path()), Some(2 << 20));
    }
}
