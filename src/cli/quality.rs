//! `onstage quality`: how good predictions were, once the truth is known.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::doctor::to_json;
use super::log::{access, settings};
use super::remote::block_on;
use super::text::{self, Page};
use super::{Console, Failure};
use crate::payload::{Every, Quality, QualityRequest, Window, quality};

#[derive(Debug, Args)]
pub(super) struct QualityArgs {
    /// File or folder of the payload log, or its URI in an object store
    #[arg(value_name = "LOG")]
    log: String,
    /// Labels: a folder or Parquet file of them, JSON lines, or SageMaker's ground truth
    #[arg(value_name = "LABELS")]
    labels: String,
    /// Length of the windows, such as 1d or 12h, or `month`
    #[arg(long, value_name = "TIME", default_value = "1d")]
    every: Every,
    /// Model to compare, if the log has several
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(
    args: &QualityArgs,
    environment: &[(OsString, OsString)],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let settings = settings(args.config.as_ref(), environment)?;
    let access = access(&settings, environment)?;
    let request = QualityRequest {
        log: &args.log,
        labels: &args.labels,
        every: args.every,
        model: args.model.as_deref(),
    };
    let measured = block_on(async { Ok(quality(request, &access).await?) })?;
    if args.json {
        return console.print(&to_json(&measured));
    }
    console.print(&render(&measured, text::width(environment)))
}

fn render(quality: &Quality, width: usize) -> String {
    let mut page = Page::new(width);
    page.heading(&format!("Quality of {}", quality.model));
    let rows: Vec<[String; 6]> = quality.windows.iter().flat_map(rows).collect();
    page.table(
        ["from", "rows", "labelled", "metric", "value", "95 %"],
        &rows,
    );
    let labels = &quality.labels;
    let mut lines = vec![("labels", labels.total.to_string())];
    let further = [
        ("replaced by later ones", labels.duplicates),
        ("not in the log", labels.unknown),
        ("with the client's own prediction", labels.client),
    ];
    let further = further.into_iter().filter(|(_, count)| *count > 0);
    lines.extend(further.map(|(what, count)| (what, count.to_string())));
    page.rows(&lines);
    page.into_text()
}

fn rows(window: &Window) -> Vec<[String; 6]> {
    let first = [
        window.from.clone(),
        window.rows.to_string(),
        format!("{:.1} %", 100.0 * window.coverage),
    ];
    if window.metrics.is_empty() {
        let [from, rows, labelled] = first;
        let none = || "-".to_owned();
        return vec![[from, rows, labelled, none(), none(), none()]];
    }
    let metrics = window.metrics.iter().enumerate();
    let row = |(place, (name, estimate)): (usize, (&&str, &crate::payload::Estimate))| {
        let [from, rows, labelled] = if place == 0 {
            first.clone()
        } else {
            Default::default()
        };
        let value = format!("{:.4}", estimate.value);
        let interval = format!("{:.4} to {:.4}", estimate.low, estimate.high);
        [from, rows, labelled, (*name).to_owned(), value, interval]
    };
    metrics.map(row).collect()
}
