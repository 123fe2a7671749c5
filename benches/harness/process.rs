//! What the system tells of a process.

use std::fs;

/// Memory, threads and files of a process at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) resident_mb: f64,
    pub(crate) threads: usize,
    pub(crate) files: usize,
}

impl Usage {
    pub(crate) fn of(process: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
        let field = |name: &str| -> f64 {
            let line = status.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_whitespace().nth(1));
            value.expect("Linux tells").parse().expect("a number")
        };
        let files = fs::read_dir(format!("/proc/{process}/fd")).expect("it is ours");
        Self {
            resident_mb: field("VmRSS:") / 1024.0,
            threads: field("Threads:") as usize,
            files: files.count(),
        }
    }

    pub(crate) fn row(self, what: impl std::fmt::Display) -> String {
        let Self {
            resident_mb,
            threads,
            files,
        } = self;
        format!("| {what} | {resident_mb:.1} | {threads} | {files} |")
    }

    pub(crate) const HEAD: &str =
        "| swaps | resident, MB | threads | open files |\n|---|---|---|---|";
}

/// Seconds of processor time that a process has taken.
pub(crate) fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // The name in parentheses may hold spaces; times are in hundredths of a second on Linux.
    let rest = stat.rsplit_once(')').expect("a name in parentheses").1;
    let ticks = |index| -> f64 {
        let field = rest.split_whitespace().nth(index);
        field.expect("Linux tells").parse().expect("a number")
    };
    (ticks(11) + ticks(12)) / 100.0
}

/// Nanoseconds of processor time that the threads of these processes have taken, of those that still run.
pub(crate) fn cpu_nanoseconds(processes: &[u32]) -> f64 {
    let of_task = |task: fs::DirEntry| -> Option<f64> {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    let of_process = |process: &u32| -> f64 {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
        tasks.flatten().filter_map(of_task).sum()
    };
    processes.iter().map(of_process).sum()
}

/// A process and those that it started, as far as they run.
pub(crate) fn family(process: u32) -> Vec<u32> {
    let mut members = vec![process];
    let mut index = 0;
    while let Some(parent) = members.get(index).copied() {
        let tasks = fs::read_dir(format!("/proc/{parent}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children"));
            let children = children.unwrap_or_default();
            members.extend(
                children
                    .split_whitespace()
                    .filter_map(|id| id.parse::<u32>().ok()),
            );
        }
        index += 1;
    }
    members
}
