//! The table of engines and the choice of one for a graph.

use serde::{Deserialize, Serialize};

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{CancelToken, CompiledModel, Engine, EngineError, EngineOptions, Support};
use crate::model::Package;

/// How to get ONNX Runtime, for messages about graphs that only it can run.
pub(super) const REMEDY: &str = "ONNX Runtime can: install it with `pip install onnxruntime`, or name its library with \
                      `--libonnxruntime`, `engine.libonnxruntime` or `ORT_DYLIB_PATH`";

/// Which engine the operator wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// The classic engine where it supports the graph, else ONNX Runtime where its library is, else tract.
    #[default]
    Auto,
    /// Our own, for classic models.
    Classic,
    /// The embedded engine for neural nets.
    Tract,
    /// ONNX Runtime.
    OnnxRuntime,
}

/// Another name than those of the engines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown engine `{0}`; expected `auto`, `classic`, `tract` or `onnxruntime`")]
pub struct UnknownEngine(String);

impl EngineChoice {
    /// Every choice.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Classic, Self::Tract, Self::OnnxRuntime];

    /// The name in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Classic => "classic",
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

/// An engine for a package, and the model where the engine compiled it to find out whether it can.
pub struct Chosen {
    engine: Arc<dyn Engine>,
    model: Option<Arc<dyn CompiledModel>>,
}

impl Chosen {
    /// `engine`, unless it refuses the package: then why.
    ///
    /// # Errors
    /// The reasons of [`Support::No`].
    pub fn new(engine: &Arc<dyn Engine>, package: &Package) -> Result<Self, Vec<String>> {
        let model = match engine.supports(package) {
            Support::Yes => None,
            Support::Compiled(model) => Some(model),
            Support::No(reasons) => return Err(reasons),
        };
        let engine = Arc::clone(engine);
        Ok(Self { engine, model })
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// The same engine, made into another one: what was compiled stays behind.
    #[must_use]
    pub fn map(self, wrap: impl FnOnce(Arc<dyn Engine>) -> Arc<dyn Engine>) -> Self {
        Self {
            engine: wrap(self.engine),
            model: None,
        }
    }

    /// The compiled model. Blocking and slow, unless the choice took it.
    ///
    /// # Errors
    /// As [`Engine::compile`].
    pub fn compile(
        self,
        package: &Package,
        options: &EngineOptions,
        cancel: &CancelToken,
    ) -> Result<Arc<dyn CompiledModel>, EngineError> {
        match self.model {
            Some(model) => Ok(model),
            None => self.engine.compile(package, options, cancel),
        }
    }
}

impl fmt::Debug for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chosen = f.debug_struct("Chosen");
        chosen.field("engine", &self.engine.name());
        chosen.finish_non_exhaustive()
    }
}

/// The engines of this process, the preferred one first.
#[derive(Clone)]
pub struct Engines(Vec<Arc<dyn Engine>>);

impl Engines {
    /// A table; of those that are no classic engine `auto` takes the first one that is there.
    pub fn new(engines: Vec<Arc<dyn Engine>>) -> Self {
        Self(engines)
    }

    /// Every engine of the table, there or not.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Engine>> {
        self.0.iter()
    }

    /// The engine for a package, which is there and supports it. `auto` takes the classic engine for every graph that it supports, which depends on the
    /// graph alone, and for others an engine that depends only on which libraries are there: so replicas answer alike.
    /// Execution providers are ONNX Runtime's: who configures them does not get the classic engine.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] or [`EngineError::Unsupported`], with the remedy.
    pub fn choose(
        &self,
        choice: EngineChoice,
        package: &Package,
        options: &EngineOptions,
    ) -> Result<Chosen, EngineError> {
        if choice == EngineChoice::Auto
            && options.providers.is_none()
            && let Ok(classic) = self.named(EngineChoice::Classic.as_str())
            && let Ok(chosen) = Chosen::new(classic, package)
        {
            return Ok(chosen);
        }
        let engine = self.find(choice)?;
        Chosen::new(engine, package).map_err(|mut reasons| {
            if engine.name() != EngineChoice::OnnxRuntime.as_str() {
                reasons.push(REMEDY.to_owned());
            }
            EngineError::Unsupported {
                engine: engine.name(),
                reasons,
            }
        })
    }

    /// Starts what all models of an engine share, before its package is known: its threads inherit the priority of the
    /// caller. A missing or broken engine is reported for the model that needs it.
    pub fn start(&self, choice: EngineChoice) {
        let _ = self.find(choice);
    }

    fn find(&self, choice: EngineChoice) -> Result<&Arc<dyn Engine>, EngineError> {
        match choice {
            EngineChoice::Auto => self.first_there(),
            named => self.named(named.as_str()),
        }
    }

    fn first_there(&self) -> Result<&Arc<dyn Engine>, EngineError> {
        let mut refused = None;
        let general = self
            .0
            .iter()
            .filter(|engine| engine.name() != EngineChoice::Classic.as_str());
        for engine in general {
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

    fn package() -> Package {
        crate::engine::fake::package("m", 1, &[("x", crate::tensor::DType::F32)])
    }

    fn choose(engines: &Engines, choice: EngineChoice) -> Result<&'static str, EngineError> {
        let chosen = engines.choose(choice, &package(), &EngineOptions::default());
        chosen.map(|chosen| chosen.engine().name())
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
        assert_eq!(choose(&there, EngineChoice::Auto).unwrap(), "onnxruntime");
        let missing = names(vec![
            Fake::named("onnxruntime").missing(),
            Fake::named("tract"),
        ]);
        assert_eq!(choose(&missing, EngineChoice::Auto).unwrap(), "tract");
    }

    #[test]
    fn auto_takes_the_classic_engine_for_what_it_supports_and_no_providers() {
        let others = || vec![Fake::named("onnxruntime"), Fake::named("tract")];
        let supporting = names([vec![Fake::named("classic")], others()].concat());
        assert_eq!(choose(&supporting, EngineChoice::Auto).unwrap(), "classic");
        let providers = EngineOptions {
            providers: Some(vec![]),
            ..EngineOptions::default()
        };
        let chosen = supporting.choose(EngineChoice::Auto, &package(), &providers);
        assert_eq!(chosen.unwrap().engine().name(), "onnxruntime");
        let refusing = Fake::named("classic").refusing("it is a neural net");
        let refusing = names([vec![refusing], others()].concat());
        assert_eq!(
            choose(&refusing, EngineChoice::Auto).unwrap(),
            "onnxruntime"
        );
        let named = choose(&refusing, EngineChoice::Classic).unwrap_err();
        assert!(named.to_string().contains("it is a neural net"), "{named}");
    }

    #[test]
    fn a_named_engine_that_is_missing_is_an_error() {
        let engines = names(vec![
            Fake::named("onnxruntime").missing(),
            Fake::named("tract"),
        ]);
        let error = choose(&engines, EngineChoice::OnnxRuntime).unwrap_err();
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
        let error = choose(&engines, EngineChoice::Auto).unwrap_err();
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
        let error = choose(&engines, EngineChoice::Auto).unwrap_err();
        assert!(matches!(error, EngineError::Misconfigured { .. }));
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_valid_ones() {
        for choice in EngineChoice::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!(
            "ort".parse::<EngineChoice>().unwrap_err().to_string(),
            "unknown engine `ort`; expected `auto`, `classic`, `tract` or `onnxruntime`"
        );
    }
}
