//! The facts as text for people.

use super::report::{Answers, Comparison, EngineReport, Outcome, Report};
use crate::cli::text::Page;
use crate::scoring::difference::Difference;

pub(super) fn render(report: &Report, width: usize) -> String {
    let mut page = Page::new(width);
    let word = if report.passed {
        "passed"
    } else {
        "did not pass"
    };
    page.heading(&format!(
        "{} version {} {word}",
        report.model, report.version
    ));
    let mut package = vec![("path", &report.path), ("digest", &report.digest)];
    if !report.signature.is_empty() {
        package.push(("signature", &report.signature));
    }
    page.rows(&package);
    page.heading("Engines");
    page.rows(&report.engines.iter().map(engine).collect::<Vec<_>>());
    page.heading("Requests");
    page.rows(&report.requests.iter().map(request).collect::<Vec<_>>());
    let rows = rows(&report.requests);
    if !rows.is_empty() {
        page.heading("Largest differences");
        let headings = [
            "request", "compared", "output", "values", "absolute", "relative", "verdict",
        ];
        page.table(headings, &rows);
    }
    for (heading, lines) in [("Notes", &report.notes), ("Problems", &report.problems)] {
        if !lines.is_empty() {
            page.heading(heading);
            let rows: Vec<(&str, &String)> = lines.iter().map(|line| ("-", line)).collect();
            page.rows(&rows);
        }
    }
    page.into_text()
}

fn engine(engine: &EngineReport) -> (&'static str, String) {
    let text = match &engine.outcome {
        Outcome::Ran => "runs it".to_owned(),
        Outcome::Unavailable(reason) => format!("is not here: {reason}"),
        Outcome::Unsupported(reason) => format!("cannot run it: {reason}"),
        Outcome::Failed(reason) => format!("failed: {reason}"),
    };
    let version = engine.version.as_deref().unwrap_or("");
    (
        engine.engine,
        format!("{version} {text}").trim_start().to_owned(),
    )
}

fn request(answers: &Answers) -> (&str, String) {
    let text = match answers.engines.as_slice() {
        [] => "no answer".to_owned(),
        engines => format!("answered by {}", engines.join(", ")),
    };
    (&answers.request, text)
}

fn rows(requests: &[Answers]) -> Vec<[String; 7]> {
    let mut rows = Vec::new();
    for answers in requests {
        for comparison in &answers.comparisons {
            let outputs = comparison.outputs.iter();
            rows.extend(outputs.map(|output| row(&answers.request, comparison, output)));
        }
    }
    rows
}

fn row(request: &str, comparison: &Comparison, output: &Difference) -> [String; 7] {
    let verdict = match output.passes() {
        true if output.tolerance > 0.0 => format!("within {:e}", output.tolerance),
        true => "equal".to_owned(),
        false => format!("{} of {} differ", output.beyond, output.values),
    };
    [
        request.to_owned(),
        format!("{} with {}", comparison.engine, comparison.with),
        output.output.clone(),
        output.values.to_string(),
        number(output.largest_absolute),
        number(output.largest_relative),
        verdict,
    ]
}

/// Two digits tell how large a difference is.
pub(in crate::cli) fn number(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else {
        format!("{value:.1e}")
    }
}
