//! Requests that need no file: the examples of both packages, then zeros, ones and random numbers.

use serde::Serialize;

use crate::model::Package;
use crate::scoring::offline::{Offline, Refusal};

/// A request that the old package answers and the new one does not.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    pub(super) request: String,
    pub(super) reason: String,
}

/// What came of the requests.
#[derive(Debug, Default, Serialize)]
pub(super) struct Runs {
    /// Those that both answered.
    pub(super) answered: Vec<String>,
    pub(super) failures: Vec<Failure>,
    /// Why nothing was run.
    pub(super) skipped: Option<String>,
}

impl Runs {
    /// Nothing was run.
    pub(super) fn skipped(reason: String) -> Self {
        Self {
            skipped: Some(reason),
            ..Self::default()
        }
    }

    /// Asks both the same. What the old one does not answer tells nothing about the new one.
    pub(super) fn new((old, was): (&Package, &Offline), (new, is): (&Package, &Offline)) -> Self {
        let mut runs = Self::default();
        for (name, package) in [("the example of A", old), ("the example of B", new)] {
            // One that cannot be read is refused with its package.
            if let Ok(Some(body)) = package.serving_input() {
                let ask = |model: &Offline| Some(model.score("application/json", body.clone()));
                runs.note(name, ask(was), || ask(is));
            }
        }
        for (what, batch) in was.servable().signature().samples() {
            let ask = |model: &Offline| model.score_inputs(&was.servable(), &batch);
            let name = if batch.rows() > 1 {
                format!("{what}, two rows")
            } else {
                what.to_owned()
            };
            runs.note(&name, ask(was), || ask(is));
        }
        if runs.answered.is_empty() && runs.failures.is_empty() {
            return Self::skipped("A answers neither an example nor made-up inputs".to_owned());
        }
        runs
    }

    fn note(
        &mut self,
        request: &str,
        was: Option<Result<Vec<u8>, Refusal>>,
        is: impl FnOnce() -> Option<Result<Vec<u8>, Refusal>>,
    ) {
        let Some(Ok(_)) = was else { return };
        match is() {
            Some(Ok(_)) => self.answered.push(request.to_owned()),
            Some(Err(refusal)) => self.failures.push(Failure {
                request: request.to_owned(),
                reason: refusal
                    .to_string()
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" "),
            }),
            // Inputs of another form: the contract says so.
            None => {}
        }
    }
}
