//! Messages between server and worker: what to load, and why something failed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::engine::{EngineError, EngineOptions, relative};
use crate::model::{Package, Provider};

/// A provider and its options.
type NamedOptions = (String, Vec<(String, String)>);

/// What a worker loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) engine: String,
    /// The package directory, or the bare graph.
    pub(crate) path: PathBuf,
    /// The model file as the package names it, for messages.
    pub(crate) file: String,
    /// What it must be: the server has checked this one.
    pub(crate) digest: String,
    pub(crate) intra_op_threads: Option<usize>,
    pub(crate) inter_op_threads: Option<usize>,
    pub(crate) providers: Option<Vec<NamedOptions>>,
    pub(crate) allows_quirks: bool,
    /// Bytes by which the worker may grow once the model is loaded.
    pub(crate) memory: Option<u64>,
}

impl Order {
    pub(crate) fn new(engine: &str, package: &Package, options: &EngineOptions) -> Self {
        let path = if package.is_bare {
            &package.model_file
        } else {
            &package.root
        };
        let provider = |provider: &Provider| (provider.name.clone(), provider.options.clone());
        let providers = options.providers.as_ref();
        Self {
            engine: engine.to_owned(),
            path: path.clone(),
            file: relative(package).display().to_string(),
            digest: package.digest.clone(),
            intra_op_threads: options.intra_op_threads,
            inter_op_threads: options.inter_op_threads,
            providers: providers.map(|providers| providers.iter().map(provider).collect()),
            allows_quirks: options.allows_quirks,
            memory: None,
        }
    }

    /// The same with a bound on memory.
    pub(crate) fn within(self, memory: Option<u64>) -> Self {
        Self { memory, ..self }
    }

    pub(crate) fn options(&self) -> EngineOptions {
        let provider = |(name, options): &NamedOptions| Provider {
            name: name.clone(),
            options: options.clone(),
        };
        let providers = self.providers.as_ref();
        EngineOptions {
            intra_op_threads: self.intra_op_threads,
            inter_op_threads: self.inter_op_threads,
            providers: providers.map(|providers| providers.iter().map(provider).collect()),
            allows_quirks: self.allows_quirks,
        }
    }
}

/// What a worker has loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) footprint: u64,
    pub(crate) plans_by_shape: bool,
}

/// An [`EngineError`] on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    Unavailable(String),
    Misconfigured(String),
    Unsupported(Vec<String>),
    Load { file: String, reason: String },
    Run { reason: String, bad_input: bool },
    Panicked(String),
    Lost(String),
    Cancelled,
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Unavailable { reason, .. } => Self::Unavailable(reason),
            EngineError::Misconfigured { reason, .. } => Self::Misconfigured(reason),
            EngineError::Unsupported { reasons, .. } => Self::Unsupported(reasons),
            EngineError::Load { file, reason, .. } => Self::Load { file, reason },
            EngineError::Run {
                reason, bad_input, ..
            } => Self::Run { reason, bad_input },
            EngineError::Panicked { reason, .. } => Self::Panicked(reason),
            EngineError::Lost { reason, .. } => Self::Lost(reason),
            EngineError::Cancelled => Self::Cancelled,
        }
    }
}

impl Failure {
    pub(crate) fn of_engine(self, engine: &'static str) -> EngineError {
        match self {
            Self::Unavailable(reason) => EngineError::Unavailable { engine, reason },
            Self::Misconfigured(reason) => EngineError::Misconfigured { engine, reason },
            Self::Unsupported(reasons) => EngineError::Unsupported { engine, reasons },
            Self::Load { file, reason } => EngineError::Load {
                engine,
                file,
                reason,
            },
            Self::Run { reason, bad_input } => EngineError::Run {
                engine,
                reason,
                bad_input,
            },
            Self::Panicked(reason) => EngineError::Panicked { engine, reason },
            Self::Lost(reason) => EngineError::Lost {
                engine,
                reason,
                process: None,
            },
            Self::Cancelled => EngineError::Cancelled,
        }
    }

    pub(crate) fn to_body(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn of_body(body: &[u8]) -> Self {
        serde_json::from_slice(body)
            .unwrap_or_else(|_| Self::Lost("the worker does not say why".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_the_same_on_the_other_side() {
        let errors = [
            Failure::Unavailable("a".to_owned()),
            Failure::Misconfigured("b".to_owned()),
            Failure::Unsupported(vec!["c".to_owned()]),
            Failure::Load {
                file: "d".to_owned(),
                reason: "e".to_owned(),
            },
            Failure::Run {
                reason: "f".to_owned(),
                bad_input: true,
            },
            Failure::Panicked("g".to_owned()),
            Failure::Lost("h".to_owned()),
            Failure::Cancelled,
        ];
        for failure in errors {
            assert_eq!(Failure::of_body(&failure.to_body()), failure);
            let there_and_back = Failure::from(failure.clone().of_engine("tract"));
            assert_eq!(there_and_back, failure);
        }
        assert!(matches!(Failure::of_body(b"x"), Failure::Lost(_)));
    }
}
