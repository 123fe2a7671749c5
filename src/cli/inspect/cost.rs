//! The measured cost of a package on one engine.

use std::time::Duration;

use serde::Serialize;

use crate::cli::text::Page;
use crate::scoring::measure::{Cost, Point};

const EXAMPLE: &str = "input example";
const ZEROS: &str = "zeros";

#[derive(Debug, Clone, Serialize)]
pub(super) struct CostReport {
    engine: &'static str,
    compile_milliseconds: f64,
    /// What the rows hold: `input example` or `zeros`.
    rows_from: &'static str,
    batches: Vec<BatchCost>,
    /// Why there are no more.
    stopped: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct BatchCost {
    rows: usize,
    calls: usize,
    milliseconds_per_call: f64,
    microseconds_per_row: f64,
    /// Whether a row is cheapest in calls of this size.
    best: bool,
}

impl CostReport {
    pub(super) fn new(engine: &'static str, cost: &Cost) -> Self {
        let best = cost.points.iter().min_by(|one, other| {
            let (one, other) = (microseconds_per_row(one), microseconds_per_row(other));
            one.total_cmp(&other)
        });
        let best = best.map(|best| best.rows);
        let batch = |point: &Point| BatchCost {
            rows: point.rows,
            calls: point.calls,
            milliseconds_per_call: milliseconds(point.per_call),
            microseconds_per_row: microseconds_per_row(point),
            best: best == Some(point.rows) && cost.points.len() > 1,
        };
        Self {
            engine,
            compile_milliseconds: milliseconds(cost.compile),
            rows_from: if cost.from_example { EXAMPLE } else { ZEROS },
            batches: cost.points.iter().map(batch).collect(),
            stopped: cost.stopped.clone(),
        }
    }

    pub(super) fn render(&self, page: &mut Page) {
        let (engine, compile) = (self.engine, number(self.compile_milliseconds));
        let rows = match self.rows_from {
            EXAMPLE => "the rows of the input example",
            _ => "rows of zeros",
        };
        page.heading(&format!(
            "Cost on {engine} here, with {rows} (loaded in {compile} ms)"
        ));
        let row = |batch: &BatchCost| {
            [
                batch.rows.to_string(),
                number(batch.milliseconds_per_call),
                number(batch.microseconds_per_row),
                if batch.best { "best" } else { "" }.to_owned(),
            ]
        };
        if !self.batches.is_empty() {
            let rows: Vec<[String; 4]> = self.batches.iter().map(row).collect();
            page.table(["rows", "ms per call", "µs per row", ""], &rows);
        }
        if let Some(stopped) = &self.stopped {
            page.rows(&[("stopped", stopped)]);
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1e3)
}

fn microseconds_per_row(point: &Point) -> f64 {
    rounded(point.per_call.as_secs_f64() * 1e6 / point.rows.max(1) as f64)
}

/// To what a clock tells: a tenth of a microsecond, or of a nanosecond for rows.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Three digits or so, which is more than a busy machine repeats.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.4}"),
    }
}
