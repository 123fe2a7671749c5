//! What the operator chose of how a model is loaded and run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::batching::BatcherConfig;
use crate::engine::{EngineChoice, EngineOptions};
use crate::model::{Hints, ResponseForm, RowProof};
use crate::serving::RowSharing;
use crate::signing::SealPolicy;

/// What the operator chose for one model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Which engine.
    pub engine: EngineChoice,
    /// Whether it runs in a process of its own.
    pub isolated: bool,
    /// Threads and providers.
    pub engine_options: EngineOptions,
    /// How requests wait and run together.
    pub batching: BatchingOptions,
    /// Which models may run rows of several requests together.
    pub rows: RowPolicy,
    /// Requests that may be in work at a time.
    pub max_concurrency: Option<usize>,
    /// The most rows of one request.
    pub max_rows: Option<usize>,
    /// Time for one request.
    pub request_timeout: Duration,
    /// Whether to run the package's example before serving; `None` leaves that to the package.
    pub warmup: Option<bool>,
    /// Whether a package whose own example fails in the engine may serve.
    pub example: ExamplePolicy,
    /// The form of scoring answers.
    pub response: ResponseForm,
    /// Whose signature the package needs.
    pub seal: SealPolicy,
    /// How long it may take.
    pub limits: LoadLimits,
}

/// How long a load may take before its place goes to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadLimits {
    /// Time to fetch the package.
    pub fetch: Duration,
    /// Time for each phase after that: to verify, to compile, to warm up.
    pub phase: Duration,
}

/// When rows of several requests may share a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowPolicy {
    /// When the graph proves that no row depends on another.
    #[default]
    Proven,
    /// Always: the operator knows that no row depends on another.
    Independent,
}

impl RowPolicy {
    pub(super) fn sharing(self, proof: &RowProof) -> RowSharing {
        match (proof, self) {
            (RowProof::Independent, _) => RowSharing::Proven,
            (RowProof::Unproven(reason), Self::Proven) => RowSharing::Alone(reason.clone()),
            (RowProof::Unproven(reason), Self::Independent) => RowSharing::Declared(reason.clone()),
        }
    }
}

/// What it means that the package's own example fails in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExamplePolicy {
    /// The version cannot be served.
    #[default]
    Require,
    /// A warning.
    Warn,
}

/// What the operator chose of how requests wait and run together. What is `None` is for the package to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchingOptions {
    /// The most rows of one call of the engine.
    pub max_rows: Option<usize>,
    /// The longest wait for more rows.
    pub max_delay: Option<Duration>,
    /// Requests that may wait, at most.
    pub max_queue_size: usize,
    /// The most runs at a time; never more than there are runners.
    pub instances: Option<usize>,
}

impl BatchingOptions {
    pub(super) fn with(&self, hints: &Hints, runners: usize) -> BatcherConfig {
        let max_delay = self.max_delay.or(hints.max_queue_delay).unwrap_or_default();
        let wished = hints.max_queue_size.unwrap_or(self.max_queue_size);
        BatcherConfig {
            max_queue_size: self.max_queue_size.min(wished),
            instances: self.instances.map_or(runners, |most| most.min(runners)),
            groups: false,
            max_rows: self.max_rows.or(hints.max_batch_size),
            max_delay,
            // Who waits for company must not run ahead of it.
            in_place: if max_delay.is_zero() {
                IN_PLACE
            } else {
                Duration::ZERO
            },
        }
    }
}
/// Handing a request to a runner and back costs some tens of microseconds; what is quicker than that runs where it is.
const IN_PLACE: Duration = Duration::from_micros(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_may_wish_where_the_operator_is_silent_and_never_for_more() {
        let hints = Hints {
            max_batch_size: Some(8),
            max_queue_delay: Some(Duration::from_millis(2)),
            max_queue_size: Some(5000),
            ..Hints::default()
        };
        let silent = BatchingOptions {
            max_rows: None,
            max_delay: None,
            max_queue_size: 1024,
            instances: None,
        };
        let config = silent.with(&hints, 4);
        assert_eq!(
            (config.max_rows, config.max_delay),
            (Some(8), Duration::from_millis(2))
        );
        assert_eq!((config.max_queue_size, config.instances), (1024, 4));
        assert_eq!(config.in_place, Duration::ZERO, "it waits for company");
        let chosen = BatchingOptions {
            max_rows: Some(2),
            max_delay: Some(Duration::ZERO),
            instances: Some(9),
            ..silent
        };
        let config = chosen.with(&hints, 4);
        assert_eq!(
            (config.max_rows, config.max_delay),
            (Some(2), Duration::ZERO)
        );
        assert_eq!((config.instances, config.in_place), (4, IN_PLACE));
    }
}
