//! `onstage diff`: whether one package could take the place of another.

mod log;
mod render;
mod runs;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::doctor::to_json;
use super::inspect::open;
use super::log::Logged;
use super::predict::Body;
use super::{Console, Failure, LookArgs, progress, text};
use crate::config::Settings;
use crate::engine::EngineChoice;
use crate::model::{self, Change, Comparison, Package, Verdict};
use crate::scoring::difference;
use crate::scoring::difference::{Difference, Tolerances};
use crate::scoring::offline::Offline;
use crate::scoring::replay::LogComparison;
use runs::Runs;

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The package that clients use now
    #[arg(value_name = "A")]
    old: PathBuf,
    /// The package that could take its place
    #[arg(value_name = "B")]
    new: PathBuf,
    /// JSON, CSV or Parquet file with a request body for both, or a file or folder of the payload log; `-` is stdin
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Content type of the data [default: text/csv for .csv, else application/json]
    #[arg(long, value_name = "TYPE", requires = "data")]
    content_type: Option<String>,
    /// Engine for the data: auto, classic, tract or onnxruntime [default: as `serve` chooses]
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineChoice>,
    #[command(flatten)]
    look: LookArgs,
}

/// Everything that the command tells.
#[derive(Debug, Serialize)]
struct Report {
    old: Side,
    new: Side,
    compatible: bool,
    changes: Vec<ChangeReport>,
    /// Only with data.
    answers: Option<Answers>,
    /// Only where the contracts agree.
    runs: Option<Runs>,
}

#[derive(Debug, Serialize)]
struct Side {
    path: String,
    model: String,
    version: u64,
    digest: String,
}

#[derive(Debug, Serialize)]
struct ChangeReport {
    compatible: bool,
    part: &'static str,
    /// The name, or the place from 1 on; none when all fields are meant.
    field: Option<String>,
    was: Option<String>,
    is: Option<String>,
    message: String,
}

#[derive(Debug, Serialize)]
struct Answers {
    /// The engine of each side.
    engines: [&'static str; 2],
    /// Why the new one does not answer what the old one answers.
    refusal: Option<String>,
    outputs: Vec<Difference>,
    /// Only of a log.
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogComparison>,
}

pub(super) fn run(
    args: &DiffArgs,
    environment: Vec<(OsString, OsString)>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let width = text::width(&environment);
    let settings = args.look.load(environment.clone())?.settings;
    let (old, new) = (open(&args.old)?, open(&args.new)?);
    let comparison = model::compare(&old, &new);
    let answers = match &args.data {
        Some(file) => Some(match Logged::find(file, &settings, &environment)? {
            Some(logged) => log::answers(args, (&old, &new), &logged, &settings)?,
            None => {
                let body = Body::read(file, args.content_type.as_deref())?;
                answers(args, (&old, &new), &body, &settings)?
            }
        }),
        None => None,
    };
    let runs = comparison
        .is_compatible()
        .then(|| runs(args, (&old, &new), &settings));
    let report = Report::new(&old, &new, &comparison, (answers, runs));
    if args.look.json {
        console.print(&to_json(&report))?;
    } else {
        console.print(&render::render(&report, width))?;
    }
    report.verdict(
        &args.old.display().to_string(),
        &args.new.display().to_string(),
    )
}

/// Runs both on what needs no file.
fn runs(args: &DiffArgs, (old, new): (&Package, &Package), settings: &Settings) -> Runs {
    let progress = progress::spinner();
    progress.set_message("running");
    let load = |package: &Package, path: &PathBuf| {
        let loaded = Offline::choose(package, args.engine, settings);
        loaded.map_err(|error| format!("`{}` was not run: {error:#}", path.display()))
    };
    let runs = load(old, &args.old)
        .and_then(|was| Ok((was, load(new, &args.new)?)))
        .map(|(was, is)| Runs::new((old, &was), (new, &is)));
    progress.finish_and_clear();
    runs.unwrap_or_else(Runs::skipped)
}

/// Asks both the same. What the old one refuses tells nothing about the new one.
fn answers(
    args: &DiffArgs,
    (old, new): (&Package, &Package),
    body: &Body,
    settings: &Settings,
) -> Result<Answers, Failure> {
    let progress = progress::spinner();
    let load = |package: &Package, path: &PathBuf| {
        progress.set_message(format!("loading {}", path.display()));
        Offline::choose(package, args.engine, settings)
    };
    let (was, is) = (load(old, &args.old)?, load(new, &args.new)?);
    progress.set_message("running");
    let ask = |model: &Offline| model.score(&body.content_type, body.bytes.clone());
    let reference = ask(&was).map_err(|refusal| {
        let path = args.old.display();
        Failure::failed(format!("`{path}` does not answer the data: {refusal}"))
    })?;
    let answer = ask(&is);
    progress.finish_and_clear();
    let tolerances = Tolerances::new(&old.graph.signature, None);
    let parsed = |answer: &[u8]| difference::parse(answer).unwrap_or(Value::Null);
    Ok(Answers {
        engines: [was.engine(), is.engine()],
        outputs: match &answer {
            Ok(answer) => {
                difference::compare(&parsed(&reference), &parsed(answer), &tolerances, true)
            }
            Err(_) => Vec::new(),
        },
        refusal: answer.err().map(|refusal| refusal.to_string()),
        log: None,
    })
}

impl Report {
    fn new(
        old: &Package,
        new: &Package,
        comparison: &Comparison,
        (answers, runs): (Option<Answers>, Option<Runs>),
    ) -> Self {
        let failed = |runs: &Runs| !runs.failures.is_empty();
        let refused = answers.as_ref().is_some_and(|one| one.refusal.is_some())
            || runs.as_ref().is_some_and(failed);
        Self {
            old: Side::new(old),
            new: Side::new(new),
            compatible: comparison.is_compatible() && !refused,
            changes: comparison.changes.iter().map(ChangeReport::new).collect(),
            answers,
            runs,
        }
    }

    fn verdict(&self, old: &str, new: &str) -> Result<(), Failure> {
        if self.compatible {
            return Ok(());
        }
        let breaking = self.changes.iter().filter(|change| !change.compatible);
        let mut reasons: Vec<String> = breaking.map(|change| change.message.clone()).collect();
        let refusal = self.answers.as_ref().and_then(|one| one.refusal.as_ref());
        reasons.extend(refusal.map(|refusal| format!("it does not answer the data: {refusal}")));
        let failures = self.runs.iter().flat_map(|runs| &runs.failures);
        reasons.extend(failures.map(|failure| {
            format!(
                "it fails on {}, which `{old}` answers: {}",
                failure.request, failure.reason
            )
        }));
        let reasons = reasons.join("; ");
        Err(Failure::failed(format!(
            "`{new}` cannot take the place of `{old}`: {reasons}"
        )))
    }
}

impl Side {
    fn new(package: &Package) -> Self {
        Self {
            path: package.root.display().to_string(),
            model: package.id.name.to_string(),
            version: package.id.version.0,
            digest: package.digest.clone(),
        }
    }
}

impl ChangeReport {
    fn new(change: &Change) -> Self {
        let label = |label: &model::Label| match label {
            model::Label::Name(name) => name.clone(),
            model::Label::Place(place) => place.to_string(),
        };
        Self {
            compatible: change.verdict == Verdict::Compatible,
            part: change.part.word(),
            field: change.field.as_ref().map(label),
            was: change.was.clone(),
            is: change.is.clone(),
            message: change.to_string(),
        }
    }
}
