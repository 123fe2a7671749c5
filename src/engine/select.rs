//! The table of engines and the choice of one for a graph.

use serde::{Deserialize, Serialize};

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{Engine, EngineError, Support};
use crate::model::Graph;

/// How to get ONNX Runtime, for messages about graphs that only it can run.
pub(super) const REMEDY: &str = "ONNX Runtime can: install it with `pip install onnxruntime`, or name its library with \
                      `--libonnxruntime`, `engine.libonnxruntime` or `ORT_DYLIB_PATH`";

/// Which engine the operator wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// ONNX Runtime where its library is, else tract.
    #[default]
    Auto,
    /// The embedded engine.
    Tract,
    /// ONNX Runtime.
    OnnxRuntime,
}

/// Another name than those of the engines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown engine `{0}`; expected `auto`, `tract` or `onnxruntime`")]
pub struct UnknownEngine(String);

impl EngineChoice {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Tract, Self::OnnxRuntime];

    /// The name in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tract => "tract",
            Self::OnnxRuntime => "onnxruntime",
        }
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EngineChoice {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        let choice = Self::ALL.into_iter().find(|choice| choice.as_str() == text);
        choice.ok_or_else(|| UnknownEngine(text.escape_debug().to_string()))
    }
}

/// The engines of this process, the preferred one first.
#[derive(Clone)]
pub struct Engines(Vec<Arc<dyn Engine>>);

impl Engines {
    /// A table; `auto` takes the first engine that is there.
    pub fn new(engines: Vec<Arc<dyn Engine>>) -> Self {
        Self(engines)
    }

    /// Every engine of the table, there or not.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Engine>> {
        self.0.iter()
    }

    /// The engine for `graph`. Depends only on the graph and on which libraries are there, so that replicas answer
    /// alike: `auto` does not fall back to another engine for a single graph.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] or [`EngineError::Unsupported`], with the remedy.
    pub fn choose(
        &self,
        choice: EngineChoice,
        graph: &Graph,
    ) -> Result<Arc<dyn Engine>, EngineError> {
        let engine = self.chosen(choice)?;
        match engine.supports(graph) {
            Support::Yes => Ok(Arc::clone(engine)),
            Support::No(mut reasons) => {
                if engine.name() != EngineChoice::OnnxRuntime.as_str() {
                    reasons.push(REMEDY.to_owned());
                }
                Err(EngineError::Unsupported {
                    engine: engine.name(),
                    reasons,
                })
            }
        }
    }

    /// Starts what all models of a choice share, if it is there: its threads inherit the priority of the caller.
    pub fn start(&self, choice: EngineChoice) {
        // A missing or broken engine is reported for the model that needs it.
        let _ = self.chosen(choice);
    }

    fn chosen(&self, choice: EngineChoice) -> Result<&Arc<dyn Engine>, EngineError> {
        match choice {
            EngineChoice::Auto => self.first_there(),
            named => self.named(named.as_str()),
        }
    }

    fn first_there(&self) -> Result<&Arc<dyn Engine>, EngineError> {
        let mut refused = None;
        for engine in &self.0 {
            match engine.check() {
                Ok(()) => return Ok(engine),
                // The operator named a library: serving with another engine instead would hide that it is broken.
                Err(error @ EngineError::Misconfigured { .. }) => return Err(error),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or(EngineError::Unavailable {
            engine: EngineChoice::Auto.as_str(),
            reason: "this build has no engine".to_owned(),
        }))
    }

    fn named(&self, name: &'static str) -> Result<&Arc<dyn Engine>, EngineError> {
        let engine = self.0.iter().find(|engine| engine.name() == name);
        let engine = engine.ok_or_else(|| EngineError::Unavailable {
            engine: name,
            reason: "this build does not have it".to_owned(),
        })?;
        engine.check().map(|()| engine)
    }
}

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|engine| engine.name());
        f.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::Fake;

    fn graph() -> Graph {
        crate::engine::fake::graph(&[("x", crate::tensor::DType::F32)])
    }

    fn names(engines: Vec<Fake>) -> Engines {
        let engines = engines
            .into_iter()
            .map(|fake| Arc::new(fake) as Arc<dyn Engine>);
        Engines::new(engines.collect())
    }

    #[test]
    fn auto_takes_the_first_engine_that_is_there() {
        let there = names(vec![Fake::named("onnxruntime"), Fake::named("tract")]);
        let chosen = there.choose(EngineChoice::Auto, &graph()).unwrap();
        assert_eq!(chosen.name(), "onnxruntime");
        let missing = names(vec![
            Fake::named("onnxruntime").missing(),
            Fake::named("tract"),
        ]);
        let chosen = missing.choose(EngineChoice::Auto, &graph()).unwrap();
        assert_eq!(chosen.name(), "tract");
    }

    #[test]
    fn a_named_engine_that_is_missing_is_an_error() {
        let engines = names(vec![
            Fake::named("onnxruntime").missing(),
            Fake::named("tract"),
        ]);
        let error = engines
            .choose(EngineChoice::OnnxRuntime, &graph())
            .err()
            .unwrap();
        assert!(matches!(
            error,
            EngineError::Unavailable {
                engine: "onnxruntime",
                ..
            }
        ));
    }

    #[test]
    fn a_graph_that_tract_cannot_run_names_the_reason_and_the_remedy() {
        let tract = Fake::named("tract").refusing("it lacks the operator `Loop`");
        let engines = names(vec![Fake::named("onnxruntime").missing(), tract]);
        let error = engines.choose(EngineChoice::Auto, &graph()).err().unwrap();
        assert_eq!(
            error.to_string(),
            "engine `tract` cannot run this graph: it lacks the operator `Loop`; ONNX Runtime can: install it with \
             `pip install onnxruntime`, or name its library with `--libonnxruntime`, `engine.libonnxruntime` or \
             `ORT_DYLIB_PATH`"
        );
    }

    #[test]
    fn a_broken_library_that_the_operator_named_is_an_error_for_auto_too() {
        let engines = names(vec![
            Fake::named("onnxruntime").misconfigured(),
            Fake::named("tract"),
        ]);
        let error = engines.choose(EngineChoice::Auto, &graph()).err().unwrap();
        assert!(matches!(error, EngineError::Misconfigured { .. }));
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_valid_ones() {
        for choice in EngineChoice::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!(
            "ort".parse::<EngineChoice>().unwrap_err().to_string(),
            "unknown engine `ort`; expected `auto`, `tract` or `onnxruntime`"
        );
    }
}
