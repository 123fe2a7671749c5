//! Our own engine for classic models: trees, linear models, and the pipelines around them, as converters write them.
//!
//! ```text
//! graph ──compile──► program: operators in order, each with the places of what it takes and gives
//!                      └─ run ── one after the other, in memory that the session keeps
//! ```
//!
//! It knows tensors and graphs and nothing of serving. There are no plans by shape: the first axis is free, and the answer
//! to a row depends neither on the rows beside it nor on threads. Where ONNX Runtime differs from the specification, its
//! answers are ours; forms that it answers in a way that nobody can mean are refused (docs/adr/0022-an-engine-of-our-own.md).

mod body;
mod compile;
mod failure;
mod folding;
mod known;
mod node;
mod operator;
mod operators;
mod order;
mod program;
mod registers;
mod value;

use std::sync::Arc;
use std::time::Duration;

use self::compile::Compiled;
use self::failure::{Failure, Refusal};
use self::known::{Array, Known};
use self::program::{Place, Registers};
use self::value::View;
use super::{
    CancelToken, CompiledModel, Engine, EngineError, EngineOptions, Outputs, Session, Support,
    load_error,
};
use crate::model::{Batch, Dim, Extent, Graph, InputSpec, Package, Signature, onnx};
use crate::tensor::{DType, Labels, MapSequence, Tensor, Value};

const NAME: &str = "classic";

/// The engine of classic models.
#[derive(Debug, Default, Clone, Copy)]
pub struct Classic;

/// Weights of matrices from which a graph is a neural net, for which the other engines have kernels.
const MOST_MATRIX_WEIGHTS: usize = 1 << 20;

impl Classic {
    fn compiled(package: &Package) -> Result<Arc<dyn CompiledModel>, EngineError> {
        let graph = &package.graph;
        let missing = missing(graph);
        if !missing.is_empty() {
            let names = missing.iter().map(|(domain, name)| match domain.as_str() {
                "" => format!("`{name}`"),
                domain => format!("`{domain}.{name}`"),
            });
            let names = names.collect::<Vec<_>>().join(", ");
            return Err(unsupported(format!("it lacks {names}")));
        }
        if !graph.external_data.is_empty() {
            return Err(unsupported("its weights are in other files".to_owned()));
        }
        let failed = |reason: String| load_error(NAME, package, reason);
        let model = onnx::read(&package.model_file).map_err(|error| failed(error.to_string()))?;
        let inputs = graph.signature.inputs.iter();
        let inputs: Vec<_> = inputs
            .map(|input| (input.name.clone(), input.dtype))
            .collect();
        let refused = |refusal: Refusal| unsupported(refusal.to_string());
        let compiled = compile::compile(&model, &inputs).map_err(refused)?;
        let weights = compiled.program.matrix_weights();
        if weights > MOST_MATRIX_WEIGHTS {
            let reason = format!("its matrices hold {weights} weights: it is a neural net");
            return Err(unsupported(reason));
        }
        try_shapes(package, &compiled).map_err(|failure| unsupported(failure.to_string()))?;
        let model = Model::new(package, compiled);
        Ok(Arc::new(ClassicModel(Arc::new(model))))
    }
}

/// Rows of a trial.
const TRIAL_ROWS: usize = 2;

/// A trial takes no more operations than this.
const MOST_TRIAL_WORK: u64 = 1 << 24;

/// Runs the graph once on zeros of the sizes that it declares: what cannot fit them fails now, and not for every client.
/// Failures that come of the values say nothing.
///
/// # Errors
/// [`Failure::Shapes`].
fn try_shapes(package: &Package, compiled: &Compiled) -> Result<(), Failure> {
    let graph = &package.graph;
    let inputs = graph.signature.inputs.iter().map(|input| {
        let dims = input.shape.as_deref()?;
        let (rank, dims) = (dims.len(), dims.iter().enumerate());
        let shape = dims.map(|(axis, dim)| match dim {
            Dim::Fixed(size) => Some(*size),
            // Of a vector that would be its features.
            Dim::Any(_) => (axis == 0 && rank > 1).then_some(TRIAL_ROWS),
        });
        zeros(input.dtype, &shape.collect::<Option<Vec<_>>>()?)
    });
    // Where a size is open the graph may mean any.
    let Some(inputs) = inputs.collect::<Option<Vec<value::Value>>>() else {
        return Ok(());
    };
    let extents = inputs.iter().map(|input| Extent {
        shape: input.shape.clone(),
        longest: 0,
    });
    if graph.work.needs(&extents.collect::<Vec<_>>()).work > MOST_TRIAL_WORK {
        return Ok(());
    }
    let views: Vec<View<'_>> = inputs.iter().map(value::Value::view).collect();
    let outcome = compiled
        .program
        .run(&views, &mut Registers::default(), &CancelToken::new());
    match outcome {
        Err(failure @ Failure::Shapes(_)) => Err(failure),
        _ => Ok(()),
    }
}

fn zeros(dtype: DType, shape: &[usize]) -> Option<value::Value> {
    let count = operator::count(shape)
        .ok()
        .filter(|count| *count < 1 << 20)?;
    let shape = shape.to_vec();
    Some(match dtype {
        DType::F32 => value::Value::new(shape, vec![0.0f32; count]),
        DType::F64 => value::Value::new(shape, vec![0.0f64; count]),
        DType::I64 => value::Value::new(shape, vec![0i64; count]),
        DType::I32 => value::Value::new(shape, vec![0i32; count]),
        DType::Bool => value::Value::new(shape, vec![false; count]),
        DType::String => value::Value::new(shape, vec![String::new(); count]),
        _ => return None,
    })
}

fn unsupported(reason: String) -> EngineError {
    EngineError::Unsupported {
        engine: NAME,
        reasons: vec![reason],
    }
}

fn missing(graph: &Graph) -> Vec<(String, String)> {
    let operators = graph.operators.keys();
    let missing = operators.filter(|(domain, name)| !operators::is_known(domain, name));
    missing.cloned().collect()
}

impl Engine for Classic {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> Option<String> {
        Some(env!("CARGO_PKG_VERSION").to_owned())
    }

    fn check(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// The whole graph is compiled: that takes milliseconds, and only so are the forms of all operators known.
    fn supports(&self, package: &Package) -> Support {
        match Self::compiled(package) {
            Ok(model) => Support::Compiled(model),
            Err(EngineError::Unsupported { reasons, .. }) => Support::No(reasons),
            Err(error) => Support::No(vec![error.to_string()]),
        }
    }

    fn missing_operators(&self, graph: &Graph) -> Vec<(String, String)> {
        missing(graph)
    }

    /// Attributes as read, and in the form of the kernels.
    fn estimate(&self, package: &Package) -> u64 {
        package
            .weight_bytes
            .saturating_mul(4)
            .saturating_add(1 << 20)
    }

    fn compile(
        &self,
        package: &Package,
        _options: &EngineOptions,
        cancel: &CancelToken,
    ) -> Result<Arc<dyn CompiledModel>, EngineError> {
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        Self::compiled(package)
    }
}

/// A compiled graph with its outputs.
struct Model {
    signature: Signature,
    compiled: Compiled,
    /// Whether each array of the outputs, in order, is the last one at its place.
    is_last: Vec<bool>,
    footprint: u64,
}

struct ClassicModel(Arc<Model>);

impl Model {
    fn new(package: &Package, compiled: Compiled) -> Self {
        let places = &compiled.program.outputs;
        let is_last = (0..places.len()).map(|index| !places[index + 1..].contains(&places[index]));
        Self {
            signature: package.graph.signature.clone(),
            is_last: is_last.collect(),
            footprint: compiled.program.size().saturating_add(64 << 10),
            compiled,
        }
    }

    fn run(
        &self,
        inputs: &[Tensor],
        registers: &mut Registers,
        cancel: &CancelToken,
    ) -> Result<Outputs, Failure> {
        let specs = &self.signature.inputs;
        let is_alike = |(tensor, spec): (&Tensor, &InputSpec)| tensor.dtype() == spec.dtype;
        if inputs.len() != specs.len() || !inputs.iter().zip(specs).all(is_alike) {
            return Err(Failure::new(
                "the batch was made for another model".to_owned(),
            ));
        }
        let aligned: Vec<_> = inputs.iter().map(Tensor::aligned).collect();
        let views = aligned.iter().map(|tensor| View::of_tensor(tensor));
        let views = views.collect::<Result<Vec<_>, _>>()?;
        let program = &self.compiled.program;
        program.run(&views, registers, cancel)?;
        let mut is_last = self.is_last.iter();
        let mut tensor = |array: &Array| {
            let is_last = is_last.next().copied().unwrap_or(false);
            let value = match array.place {
                place @ Place::Register(_) if is_last => program.take(place, &views, registers),
                place => program.copy(place, &views, registers),
            };
            value
                .into_tensor()
                .map_err(|error| Failure::new(error.to_string()))
        };
        let outputs = self.compiled.outputs.iter().map(|output| match output {
            Known::Array(array) => Ok(Value::Tensor(tensor(array)?)),
            Known::Maps { labels, scores } => Ok(Value::Maps(maps(labels, tensor(scores)?))),
            Known::Sequence(arrays) => {
                let tensors = arrays.iter().map(&mut tensor);
                Ok(Value::Sequence(tensors.collect::<Result<_, _>>()?))
            }
        });
        outputs.collect()
    }
}

fn maps(labels: &Labels, scores: Tensor) -> MapSequence {
    MapSequence {
        labels: labels.clone(),
        scores,
    }
}

impl CompiledModel for ClassicModel {
    fn signature(&self) -> &Signature {
        &self.0.signature
    }

    fn footprint(&self) -> u64 {
        self.0.footprint
    }

    fn stated_cost(&self) -> Option<Duration> {
        self.0.compiled.program.cost().map(Duration::from_nanos)
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(ClassicSession {
            model: Arc::clone(&self.0),
            registers: Registers::default(),
            lets_go: false,
        }))
    }
}

struct ClassicSession {
    model: Arc<Model>,
    registers: Registers,
    /// The next run is so large that its memory is not kept for later ones.
    lets_go: bool,
}

/// Memory of a run that a session keeps for the next one.
const MOST_KEPT: u64 = 16 << 20;

impl Session for ClassicSession {
    fn run(&mut self, batch: &Batch, cancel: &CancelToken) -> Result<Outputs, EngineError> {
        let outcome = self.model.run(batch.inputs(), &mut self.registers, cancel);
        if self.lets_go {
            self.registers = Registers::default();
        }
        outcome.map_err(|failure| match failure {
            Failure::Cancelled => EngineError::Cancelled,
            // Types are right and the graph is compiled: what is left are sizes and values.
            Failure::Operator(reason) | Failure::Shapes(reason) => EngineError::Run {
                engine: NAME,
                reason,
                bad_input: true,
            },
        })
    }

    fn expect(&mut self, bytes: u64) {
        self.lets_go = bytes > MOST_KEPT;
    }
}
