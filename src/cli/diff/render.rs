//! The facts as text for people.

use super::runs::Runs;
use super::{Answers, ChangeReport, Report, Side};
use crate::cli::text::Page;
use crate::cli::verify::number;

/// Rows of columns that are printed; JSON has all of them.
const MOST_COLUMNS: usize = 40;

pub(super) fn render(report: &Report, width: usize) -> String {
    let mut page = Page::new(width);
    let word = if report.compatible { "can" } else { "cannot" };
    page.heading(&format!("B {word} take the place of A"));
    page.rows(&[("A", side(&report.old)), ("B", side(&report.new))]);
    page.heading("Contract");
    if report.changes.is_empty() {
        page.rows(&[("same", "requests and answers have the same form")]);
    } else {
        let rows: Vec<[String; 5]> = report.changes.iter().map(change).collect();
        page.table(["field", "", "was", "is", "clients"], &rows);
    }
    if let Some(answers) = &report.answers {
        page.heading("Answers to the data");
        answered(&mut page, answers);
    }
    if let Some(runs) = &report.runs {
        ran(&mut page, runs);
    }
    page.into_text()
}

fn ran(page: &mut Page, runs: &Runs) {
    page.heading("Runs");
    let mut rows: Vec<(&str, String)> = Vec::new();
    if !runs.answered.is_empty() {
        rows.push(("both", format!("answer {}", runs.answered.join("; "))));
    }
    let failures = runs.failures.iter();
    rows.extend(failures.map(|one| ("B", format!("fails on {}: {}", one.request, one.reason))));
    rows.extend(runs.skipped.iter().map(|reason| ("none", reason.clone())));
    page.rows(&rows);
}

fn side(side: &Side) -> String {
    format!("{} version {}, {}", side.model, side.version, side.path)
}

fn change(change: &ChangeReport) -> [String; 5] {
    let gone = || "-".to_owned();
    [
        change.part.to_owned(),
        change.field.clone().unwrap_or_else(|| "(all)".to_owned()),
        change.was.clone().unwrap_or_else(gone),
        change.is.clone().unwrap_or_else(gone),
        if change.compatible { "go on" } else { "break" }.to_owned(),
    ]
}

fn answered(page: &mut Page, answers: &Answers) {
    let [old, new] = answers.engines;
    let mut rows = vec![("A", format!("answers on {old}"))];
    match &answers.refusal {
        Some(refusal) => rows.push(("B", format!("refuses it on {new}: {refusal}"))),
        None => rows.push(("B", format!("answers on {new}"))),
    }
    page.rows(&rows);
    if answers.refusal.is_some() {
        return;
    }
    if let Some(log) = &answers.log {
        page.rows(&[
            (
                "log",
                format!("{} requests, {} rows", log.requests, log.rows),
            ),
            (
                "disagreement",
                format!("{:.4} of the rows differ", log.disagreement),
            ),
            (
                "score PSI",
                log.score_psi
                    .map_or("-".to_owned(), |psi| format!("{psi:.4}")),
            ),
            (
                "slowdown",
                format!("B takes {:.2} times as long as A", log.slowdown),
            ),
        ]);
    }
    page.heading("Largest differences");
    let row = |output: &super::Difference| {
        let differ = match output.beyond {
            0 => "none".to_owned(),
            beyond => format!("{beyond} of {}", output.values),
        };
        [
            output.output.clone(),
            output.values.to_string(),
            number(output.largest_absolute),
            number(output.largest_relative),
            differ,
        ]
    };
    let rows: Vec<[String; 5]> = answers.outputs.iter().take(MOST_COLUMNS).map(row).collect();
    page.table(
        ["output", "values", "absolute", "relative", "differ"],
        &rows,
    );
    let left = answers.outputs.len().saturating_sub(MOST_COLUMNS);
    if left > 0 {
        page.rows(&[("…", format!("{left} more; `--json` prints all"))]);
    }
}
