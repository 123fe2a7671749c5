//! The embedded engine: tract, always there.
//!
//! tract is fast only on concrete shapes, so a graph is read once with symbols for its open dimensions, and each set of
//! input shapes gets a plan of its own, made when first seen and kept in a small [`cache`]. Graphs that cannot be read
//! with symbols are read again for each set of shapes.

mod cache;
mod convert;
mod exact;
mod load;
mod overlooked;
mod plan;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::*;

use self::cache::Plans;
use self::exact::Quirk;
use self::load::{Defaults, Loaded, Loader, Numbers, Runnable, Shapes};
use self::overlooked::overlooked;
use self::plan::{Plan, State};
use super::{
    CancelToken, CompiledModel, Engine, EngineError, EngineOptions, Outputs, Session, Support,
};
use crate::engine::one_line;
use crate::error::panic_text;
use crate::model::{Batch, Graph, InputSpec, Package, Signature};
use crate::tensor::{Tensor, Value};

const NAME: &str = "tract";

/// tract's release, as pinned in `Cargo.lock`; the crate does not tell it.
const VERSION: &str = "0.23.9";

/// The embedded engine.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tract;

impl Engine for Tract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> Option<String> {
        Some(VERSION.to_owned())
    }

    fn check(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn supports(&self, package: &Package) -> Support {
        support::judge(&package.graph)
    }

    fn missing_operators(&self, graph: &Graph) -> Vec<(String, String)> {
        support::lacking(graph)
    }

    fn estimate(&self, package: &Package) -> u64 {
        estimate(package)
    }

    fn compile(
        &self,
        package: &Package,
        options: &EngineOptions,
        cancel: &CancelToken,
    ) -> Result<Arc<dyn CompiledModel>, EngineError> {
        if let Support::No(reasons) = self.supports(package) {
            return Err(EngineError::Unsupported {
                engine: NAME,
                reasons,
            });
        }
        if options.intra_op_threads.is_some() || options.inter_op_threads.is_some() {
            tracing::debug!(
                "engine `tract` runs each request on one thread; thread counts do not apply"
            );
        }
        let failed = |broken: Broken| match broken {
            _ if cancel.is_cancelled() => EngineError::Cancelled,
            Broken::Quirks(reasons) => refused(reasons),
            broken => super::load_error(NAME, package, broken.to_string()),
        };
        let quirks = options.allows_quirks;
        let opened = open(Loader::new(package, quirks, Defaults::Replaceable), cancel);
        let has_defaults = package.graph.signature.inputs.iter();
        let has_defaults = { has_defaults }.any(InputSpec::is_optional);
        let opened = match opened {
            Err(Broken::Error(_) | Broken::Panic(_)) if has_defaults && !cancel.is_cancelled() => {
                open(Loader::new(package, quirks, Defaults::Constant), cancel)
            }
            opened => opened,
        };
        let (loader, loaded) = opened.map_err(failed)?;
        let model = Model {
            plans: Plans::new(loaded),
            loader,
            footprint: estimate(package),
        };
        // With one possible plan, what it cannot do shows now and not to every client.
        if let Some(shapes) = model.loader.fixed_shapes()
            && !cancel.is_cancelled()
        {
            guarded(|| model.plan(&shapes)).map_err(failed)?;
        }
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        Ok(Arc::new(TractModel(Arc::new(model))))
    }
}

/// The key that runs a graph all the same.
const QUIRKS: &str = "`models.<name>.engine_quirks = \"allow\"` runs it all the same";

/// Reads the graph; unless the operator allows it, none that tract answers wrongly for some values.
fn open(loader: Loader, cancel: &CancelToken) -> Result<(Loader, Loaded), Broken> {
    let proto = guarded(|| loader.read())?;
    if !loader.allows_quirks() {
        let reasons = overlooked(&proto);
        if !reasons.is_empty() {
            return Err(Broken::Quirks(reasons));
        }
    }
    let loaded = guarded(|| loader.load(&proto, cancel))?;
    Ok((loader, loaded))
}

fn refused(mut reasons: Vec<String>) -> EngineError {
    reasons.extend([super::select::REMEDY.to_owned(), QUIRKS.to_owned()]);
    EngineError::Unsupported {
        engine: NAME,
        reasons,
    }
}

/// The weights, once as read and once as packed for the kernels.
fn estimate(package: &Package) -> u64 {
    package
        .weight_bytes
        .saturating_mul(2)
        .saturating_add(4 << 20)
}

/// A loaded graph and its plans.
struct Model {
    loader: Loader,
    plans: Plans,
    footprint: u64,
}

struct TractModel(Arc<Model>);

impl CompiledModel for TractModel {
    fn signature(&self) -> &Signature {
        self.0.loader.signature()
    }

    fn footprint(&self) -> u64 {
        self.0.footprint
    }

    fn plans_by_shape(&self) -> bool {
        true
    }

    fn forget(&self, batch: &Batch) {
        if let Ok(inputs) = self.0.loader.feed(batch.inputs()) {
            self.0.plans.forget(&shapes_of(&inputs));
        }
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(TractSession {
            model: Arc::clone(&self.0),
            kept: None,
        }))
    }
}

struct TractSession {
    model: Arc<Model>,
    /// The plan of the last run and what it needs to run again.
    kept: Option<(Arc<Runnable>, State)>,
}

impl Session for TractSession {
    fn run(&mut self, batch: &Batch, cancel: &CancelToken) -> Result<Outputs, EngineError> {
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        // Not kept when the run fails or panics.
        let mut kept = self.kept.take();
        let outputs = guarded(|| self.model.run(batch.inputs(), cancel, &mut kept));
        if outputs.is_ok() {
            self.kept = kept;
        }
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        outputs.map_err(|broken| match broken {
            broken @ (Broken::Error(_) | Broken::Quirks(_)) => EngineError::Run {
                engine: NAME,
                reason: broken.to_string(),
                // The graph is compiled, names, datatypes and ranks are right: what is left are sizes and values.
                bad_input: true,
            },
            Broken::Panic(reason) => EngineError::Panicked {
                engine: NAME,
                reason,
            },
        })
    }
}

impl Model {
    fn plan(&self, shapes: &Shapes) -> TractResult<Arc<Plan>> {
        self.plans.get_or_make(shapes, |loaded| {
            let fast = self.loader.runnable(loaded, shapes, Numbers::Plain)?;
            Ok(Plan::new(fast))
        })
    }

    fn run(
        &self,
        inputs: &[Tensor],
        cancel: &CancelToken,
        kept: &mut Option<(Arc<Runnable>, State)>,
    ) -> TractResult<Outputs> {
        let signature = self.loader.signature();
        convert::check_inputs(signature, inputs)?;
        let inputs = self.loader.feed(inputs)?;
        let shapes = shapes_of(&inputs);
        let plan = self.plan(&shapes)?;
        let inputs = inputs
            .into_iter()
            .map(convert::to_tract)
            .collect::<TractResult<TVec<TValue>>>()?;
        let exact = || {
            let loaded = self.plans.loaded();
            self.loader.runnable(loaded, &shapes, Numbers::Any)
        };
        let outputs = plan.run(inputs, cancel, kept, exact)?;
        outputs
            .into_iter()
            .zip(&signature.outputs)
            .map(|(output, spec)| convert::from_tract(output, spec).map(Value::Tensor))
            .collect()
    }
}

fn shapes_of(inputs: &[&Tensor]) -> Shapes {
    inputs.iter().map(|input| input.shape().to_vec()).collect()
}

/// How tract did not do its work.
enum Broken {
    Error(String),
    /// It would answer wrongly for some values: one sentence for each reason.
    Quirks(Vec<String>),
    Panic(String),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(reason) => f.write_str(reason),
            Self::Quirks(reasons) => f.write_str(&reasons.join("; ")),
            Self::Panic(reason) => write!(f, "tract panicked: {reason}"),
        }
    }
}

/// Runs `work`, with a panic in tract turned into an error like any other.
fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, Broken> {
    // tract's models and states are dropped or only read after a panic: nothing half changed is seen again.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| match error.downcast::<Quirk>() {
            Ok(quirk) => Broken::Quirks(vec![quirk.to_string()]),
            Err(error) => Broken::Error(super::one_line(&format!("{error:#}"))),
        }),
        Err(panic) => Err(Broken::Panic(one_line(panic_text(&*panic)))),
    }
}

#[cfg(test)]
mod tests {
    use super::VERSION;

    #[test]
    fn the_version_is_that_of_the_lock_file() {
        let lock = include_str!("../../../Cargo.lock");
        let entry = format!("name = \"tract-onnx\"\nversion = \"{VERSION}\"");
        assert!(lock.contains(&entry), "expected {entry}");
    }
}
