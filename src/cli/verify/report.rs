//! The facts, gathered: the JSON that `onstage verify --json` prints.

use serde::Serialize;

use super::requests::Requests;
use crate::model::Package;
use crate::scoring::difference::Difference;

/// Everything that the command prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) version: u64,
    pub(super) path: String,
    pub(super) digest: String,
    /// Who has signed the package, or that nobody asked.
    pub(super) signature: String,
    pub(super) passed: bool,
    /// Why it did not pass.
    pub(super) problems: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) engines: Vec<EngineReport>,
    pub(super) requests: Vec<Answers>,
}

#[derive(Debug, Serialize)]
pub(super) struct EngineReport {
    pub(super) engine: &'static str,
    pub(super) version: Option<String>,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// What became of an engine.
#[derive(Debug, Serialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It loaded the package.
    Ran,
    /// It is not on this machine.
    Unavailable(String),
    /// It is not for this graph.
    Unsupported(String),
    /// It should have loaded the package.
    Failed(String),
}

/// What came back for one request.
#[derive(Debug, Serialize)]
pub(super) struct Answers {
    pub(super) request: String,
    /// Those that answered.
    pub(super) engines: Vec<&'static str>,
    pub(super) comparisons: Vec<Comparison>,
}

/// The answer of an engine beside another answer.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    pub(super) engine: &'static str,
    /// Another engine, or the file with the recorded answer.
    pub(super) with: String,
    pub(super) outputs: Vec<Difference>,
}

impl Report {
    pub(super) fn new(package: &Package, requests: &Requests) -> Self {
        Self {
            model: package.id.name.to_string(),
            version: package.id.version.0,
            path: package.root.display().to_string(),
            digest: package.digest.clone(),
            signature: String::new(),
            passed: false,
            problems: Vec::new(),
            notes: requests.notes.clone(),
            engines: Vec::new(),
            requests: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, text: &str) {
        if !self.notes.iter().any(|note| note == text) {
            self.notes.push(text.to_owned());
        }
    }

    /// Draws the conclusions from the comparisons.
    pub(super) fn finish(mut self) -> Self {
        for answers in &self.requests {
            for comparison in &answers.comparisons {
                let failed = comparison.outputs.iter().filter(|output| !output.passes());
                for output in failed {
                    let first = output.first.as_deref().unwrap_or_default();
                    self.problems.push(format!(
                        "{} differs from {} on {}: {first}",
                        comparison.engine, comparison.with, answers.request
                    ));
                }
            }
        }
        self.passed = self.problems.is_empty();
        self
    }
}
