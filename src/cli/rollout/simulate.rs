//! `onstage rollout simulate`: the state machine of the server on looks that others recorded.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cli::{Console, Failure, text};
use crate::lifecycle::rollout::{
    Action, Finding, Looked, Plan, PlanParts, Promotion, RecordedLook, Recording, Weight,
};

#[derive(Debug, Args)]
pub(in crate::cli) struct SimulateArgs {
    /// JSON lines, one for each look; `-` is stdin
    #[arg(long, value_name = "FILE")]
    observations: PathBuf,
    /// Weights in per cent [default: 1,5,25,50]
    #[arg(
        long,
        value_name = "PERCENT",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    steps: Vec<Weight>,
    /// Time between two looks, such as 10m [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    interval: Option<Duration>,
    /// Answers of the challenger that a step needs [default: 500]
    #[arg(long, value_name = "COUNT")]
    min_requests: Option<u64>,
    /// Who moves the alias after the last step: manual or auto [default: manual]
    #[arg(long, value_name = "WAY")]
    promote: Option<Promotion>,
    /// Time after which the rollout ends at the stable version [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    deadline: Option<Duration>,
    /// Share of the compared rows that may differ, from 0 to 1 [default: no limit]
    #[arg(long, value_name = "SHARE")]
    max_disagreement: Option<f64>,
    /// PSI of the scores above which a step is not taken [default: 0.2]
    #[arg(long, value_name = "PSI")]
    psi_hold: Option<f64>,
    /// Print JSON lines instead of text
    #[arg(long)]
    json: bool,
}

/// A line of the output.
#[derive(Debug, Serialize)]
struct Row<'a> {
    at: String,
    action: &'static str,
    /// Of the traffic, from then on.
    percent: u8,
    state: Option<&'static str>,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    numbers: Option<&'a Finding>,
}

/// No look needs more.
const LONGEST_LINE: u64 = 1 << 20;

pub(in crate::cli) fn run(
    args: &SimulateArgs,
    environment: &[(OsString, OsString)],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let plan = Plan::new(args.parts()).map_err(|error| Failure::usage(error.to_string()))?;
    let file = &args.observations;
    let looks = decide(Recording::new(plan), open(file)?)
        .map_err(|problem| Failure::failed(format!("`{}`: {problem:#}", file.display())))?;
    if args.json {
        return looks.iter().try_for_each(|looked| {
            let row = serde_json::to_string(&Row::new(looked)).map_err(anyhow::Error::from)?;
            console.print(&format!("{row}\n"))
        });
    }
    let rows: Vec<[String; 5]> = looks
        .iter()
        .map(|looked| Row::new(looked).cells())
        .collect();
    let mut page = text::Page::new(text::width(environment));
    page.heading("Looks");
    page.table(["at", "weight", "state", "action", "reason"], &rows);
    console.print(&page.into_text())
}

fn open(file: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let opened = File::open(file)
        .map_err(|error| Failure::failed(format!("cannot read `{}`: {error}", file.display())))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// What is decided at each line.
fn decide(mut recording: Recording, mut lines: Box<dyn BufRead>) -> anyhow::Result<Vec<Looked>> {
    let mut looks = Vec::new();
    for number in 1_u64.. {
        let mut line = String::new();
        let read = (&mut lines).take(LONGEST_LINE).read_line(&mut line);
        let in_line = |problem: String| anyhow::anyhow!("line {number}: {problem}");
        match read.map_err(|error| in_line(error.to_string()))? {
            0 => break,
            length if length as u64 == LONGEST_LINE => {
                return Err(in_line(format!("longer than {LONGEST_LINE} bytes")));
            }
            _ if line.trim().is_empty() => continue,
            _ => {}
        }
        let look: RecordedLook =
            serde_json::from_str(&line).map_err(|error| in_line(problem(&error)))?;
        let looked = recording.look(&look);
        looks.push(looked.map_err(|error| in_line(error.to_string()))?);
    }
    if looks.is_empty() {
        anyhow::bail!("there are no looks in it");
    }
    Ok(looks)
}

/// Without the line, which is always the first of one.
fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(text) => format!("{text} at column {}", error.column()),
        None => text,
    }
}

impl SimulateArgs {
    fn parts(&self) -> PlanParts {
        let usual = PlanParts::default();
        PlanParts {
            steps: if self.steps.is_empty() {
                usual.steps
            } else {
                self.steps.iter().copied().map(i64::from).collect()
            },
            interval: self.interval.unwrap_or(usual.interval),
            min_requests: self.min_requests.unwrap_or(usual.min_requests),
            promote: self.promote.unwrap_or(usual.promote),
            deadline: self.deadline.unwrap_or(usual.deadline),
            max_disagreement: self.max_disagreement,
            psi_hold: self.psi_hold.unwrap_or(usual.psi_hold),
        }
    }
}

impl<'a> Row<'a> {
    fn new(looked: &'a Looked) -> Self {
        let numbers = match &looked.action {
            Action::End(ended) => ended.numbers.as_ref(),
            _ => None,
        };
        Self {
            at: looked.at.to_string(),
            action: looked.action.word(),
            percent: looked.percent,
            state: looked.phase.word(),
            reason: looked.action.to_string(),
            numbers,
        }
    }

    fn cells(self) -> [String; 5] {
        let state = self.state.unwrap_or("none");
        let weight = format!("{} %", self.percent);
        [
            self.at,
            weight,
            state.to_owned(),
            self.action.to_owned(),
            self.reason,
        ]
    }
}
