//! Which engine runs a graph.

use std::str::FromStr;
use std::sync::Arc;

use super::{Engine, EngineError, Support};
use crate::model::Graph;

/// The operator's choice of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// ONNX Runtime when its library is there, else tract.
    #[default]
    Auto,
    /// The embedded engine.
    Tract,
    /// ONNX Runtime.
    OnnxRuntime,
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "tract" => Ok(Self::Tract),
            "onnxruntime" => Ok(Self::OnnxRuntime),
            other => Err(format!(
                "unknown engine `{other}`: expected `auto`, `tract` or `onnxruntime`"
            )),
        }
    }
}

/// The engines of this build, best first.
#[derive(Clone)]
pub struct Engines(Vec<Arc<dyn Engine>>);

impl Engines {
    /// A table of engines; `auto` takes the first that is available.
    pub fn new(engines: Vec<Arc<dyn Engine>>) -> Self {
        Self(engines)
    }

    /// The engine for a graph. Depends on the choice, the graph and on which libraries are there, and on nothing
    /// else, so that replicas answer alike.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] or [`EngineError::Unsupported`], with what to do about it.
    pub fn choose(
        &self,
        choice: EngineChoice,
        graph: &Graph,
    ) -> Result<Arc<dyn Engine>, EngineError> {
        match choice {
            EngineChoice::Auto => self.automatic(graph),
            EngineChoice::Tract => self.named("tract", graph),
            EngineChoice::OnnxRuntime => self.named("onnxruntime", graph),
        }
    }

    fn named(&self, name: &'static str, graph: &Graph) -> Result<Arc<dyn Engine>, EngineError> {
        let engine = self
            .0
            .iter()
            .find(|engine| engine.name() == name)
            .ok_or_else(|| EngineError::Unavailable {
                engine: name,
                reason: "this build does not have it".to_owned(),
                explicit: true,
            })?;
        engine.check()?;
        match engine.supports(graph) {
            Support::Yes => Ok(Arc::clone(engine)),
            Support::No(reasons) => Err(EngineError::Unsupported {
                engine: name,
                reasons,
            }),
        }
    }

    fn automatic(&self, graph: &Graph) -> Result<Arc<dyn Engine>, EngineError> {
        let mut reasons = Vec::new();
        for engine in &self.0 {
            match engine.check() {
                // The first that is there decides, also when it then refuses: no silent switch between machines.
                Ok(()) => {
                    return match engine.supports(graph) {
                        Support::Yes => Ok(Arc::clone(engine)),
                        Support::No(refusal) => {
                            reasons.splice(0..0, refusal);
                            Err(EngineError::Unsupported {
                                engine: engine.name(),
                                reasons,
                            })
                        }
                    };
                }
                // An explicit library that does not load is not to be passed over in silence.
                Err(EngineError::Unavailable {
                    explicit: true,
                    engine,
                    reason,
                }) => {
                    return Err(EngineError::Unavailable {
                        explicit: true,
                        engine,
                        reason,
                    });
                }
                Err(error) => reasons.push(error.to_string()),
            }
        }
        Err(EngineError::Unavailable {
            engine: "auto",
            reason: reasons.join("; "),
            explicit: false,
        })
    }
}

impl std::fmt::Debug for Engines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|engine| engine.name()))
            .finish()
    }
}
