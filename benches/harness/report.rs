//! What is printed: figures, and whether they are within their bars.

use std::fmt::{Display, Formatter};
use std::process::Command;
use std::time::Duration;

/// The outcome of one scenario.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<String>,
    bars: Vec<String>,
}

impl Report {
    /// A line of a table, or of text.
    pub(crate) fn line(&mut self, line: impl Into<String>) {
        self.figures.push(line.into());
    }

    /// A figure that must not pass `bar`.
    pub(crate) fn bar(&mut self, what: &str, measured: f64, bar: f64, unit: &str) {
        let met = if measured <= bar { "yes" } else { "**no**" };
        let measured = number(measured);
        let bar = number(bar);
        let line = format!("| {what} | {measured}{unit} | ≤ {bar}{unit} | {met} |");
        self.bars.push(line);
    }

    /// A figure that must reach `bar`.
    pub(crate) fn at_least(&mut self, what: &str, measured: f64, bar: f64) {
        let met = if measured >= bar { "yes" } else { "**no**" };
        let (measured, bar) = (number(measured), number(bar));
        let line = format!("| {what} | {measured} | ≥ {bar} | {met} |");
        self.bars.push(line);
    }

    /// Something that must not happen at all.
    pub(crate) fn never(&mut self, what: &str, seen: &[String]) {
        self.bar(what, seen.len() as f64, 0.0, "");
        // A few tell enough of what went wrong.
        for one in seen.iter().take(5) {
            self.line(format!("* {what}: {one}"));
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for line in &self.figures {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "\n| | measured | bar | met |\n|---|---|---|---|")?;
        for bar in &self.bars {
            writeln!(f, "{bar}")?;
        }
        Ok(())
    }
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value}")
    } else {
        format!("{value:.2}")
    }
}

/// Milliseconds for a table.
pub(crate) fn ms(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1e3)
}

/// The value that this share of all values does not pass. Sorts them.
pub(crate) fn quantile(values: &mut [Duration], share: f64) -> Duration {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    let index = (values.len() as f64 * share) as usize;
    values.get(index.min(last)).copied().unwrap_or_default()
}

/// A median with its confidence interval of at least 95 %, by the ranks of the values: no distribution is assumed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Median {
    pub(crate) value: f64,
    low: f64,
    high: f64,
}

impl Median {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let count = values.len();
        // The rank below which the median lies with a chance of 2.5 %, normal approximation of the binomial.
        let half = count as f64 / 2.0;
        let rank = (half - 0.98 * (count as f64).sqrt()).floor().max(1.0) as usize;
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self {
            value: (at(count.saturating_sub(1) / 2) + at(count / 2)) / 2.0,
            low: at(rank - 1),
            high: at(count.saturating_sub(rank)),
        }
    }
}

impl Median {
    /// Between which values the median lies.
    pub(crate) fn range(&self) -> (f64, f64) {
        (self.low, self.high)
    }
}

impl Display for Median {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { value, low, high } = self;
        let digits = if *value < 10.0 { 3 } else { 1 };
        write!(f, "{value:.digits$} ({low:.digits$} to {high:.digits$})")
    }
}

/// Where and with what it was measured.
pub(crate) fn machine(engine: &str) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let memory: f64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    let version = Command::new(env!("CARGO_BIN_EXE_onstage"))
        .arg("--version")
        .output();
    let version = version.map_or(String::new(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    });
    format!(
        "{version} on {engine}; {cores} cores of {}, {:.0} GB of memory, Linux {}\n",
        field(&read("/proc/cpuinfo"), "model name"),
        memory / 1024.0 / 1024.0,
        read("/proc/sys/kernel/osrelease").trim(),
    )
}
