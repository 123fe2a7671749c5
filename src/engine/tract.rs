//! tract: the embedded engine. Always there, in pure Rust; runs networks and linear models.
//!
//! tract wants concrete shapes: with a symbolic batch a convolution is up to eight times slower. So the graph is
//! parsed once with symbols, and each set of input shapes gets a plan of its own, which is kept.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use half::f16;
use parking_lot::Mutex;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, IntoTValue, IntoTensor,
    Symbol, TDim, TValue, Tensor as TractTensor, ToDim, TractResult, TypedModel,
    TypedRunnableModel, tract_ndarray,
};

use super::{
    CancelToken, CompiledModel, Engine, EngineError, EngineOptions, Outputs, Session, Support,
};
use crate::model::{Batch, Dim, Graph, OutputKind, Package, Signature};
use crate::tensor::{Buffer, DType, Storage, Tensor, Value};

const NAME: &str = "tract";

/// Plans kept per model: a service sees few batch sizes, a client that tries them all must not fill the memory.
const MAX_PLANS: usize = 32;

/// The engine `tract`.
#[derive(Debug, Default)]
pub struct Tract;

impl Engine for Tract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> Option<String> {
        Some("0.23.9".to_owned())
    }

    fn check(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn supports(&self, graph: &Graph) -> Support {
        let reasons = refusals(graph);
        if reasons.is_empty() {
            Support::Yes
        } else {
            Support::No(reasons)
        }
    }

    fn estimate(&self, package: &Package) -> u64 {
        // The parsed weights, and a plan's packed copy of them.
        package.weight_bytes * 2 + (1 << 20)
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
        let load_error = |reason: String| {
            let file = package
                .model_file
                .strip_prefix(&package.root)
                .unwrap_or(&package.model_file);
            EngineError::Load {
                engine: NAME,
                file: file.display().to_string(),
                reason,
            }
        };
        let model = Model {
            file: package.model_file.clone(),
            signature: package.graph.signature.clone(),
            symbolic: None,
            footprint: self.estimate(package),
            plans: Mutex::new(VecDeque::new()),
        };
        // Strange models can panic the loader.
        let loaded = catch_unwind(AssertUnwindSafe(|| model.load()));
        match loaded {
            Ok(Ok(model)) => Ok(Arc::new(Shared(Arc::new(model)))),
            Ok(Err(error)) => Err(load_error(format!("{error:#}"))),
            Err(_) => Err(load_error("the loader panicked".to_owned())),
        }
    }
}

/// Why this graph cannot run here, or would give wrong answers.
fn refusals(graph: &Graph) -> Vec<String> {
    let known = tract_onnx::onnx().op_register.0;
    let missing = graph
        .operators
        .keys()
        .filter(|(_, operator)| !known.contains_key(operator.as_str()));
    let missing: Vec<String> = missing
        .map(|(domain, operator)| {
            if domain.is_empty() {
                format!("`{operator}`")
            } else {
                format!("`{domain}.{operator}`")
            }
        })
        .collect();
    let mut reasons = Vec::new();
    if !missing.is_empty() {
        let plural = if missing.len() == 1 { "" } else { "s" };
        reasons.push(format!(
            "it does not have the operator{plural} {}",
            missing.join(", ")
        ));
    }
    let trees = |node: &&crate::model::MlNode| node.op_type == "TreeEnsembleClassifier";
    if graph
        .ml_nodes
        .iter()
        .filter(trees)
        .any(|node| node.class_labels <= 2)
    {
        reasons.push("its binary `TreeEnsembleClassifier` gives wrong labels".to_owned());
    }
    if graph.ml_nodes.iter().any(|node| node.base_values == 2) {
        reasons
            .push("it does not read a `TreeEnsembleClassifier` with two `base_values`".to_owned());
    }
    for output in &graph.signature.outputs {
        if matches!(output.kind, OutputKind::Maps { .. }) {
            reasons.push(format!(
                "output `{}` is a sequence of maps, which it does not have",
                output.name
            ));
        }
    }
    if let Some(input) = graph
        .signature
        .inputs
        .iter()
        .find(|input| input.dtype == DType::Bf16)
    {
        reasons.push(format!(
            "input `{}` is BF16, which it does not have",
            input.name
        ));
    }
    reasons
}

struct Model {
    file: PathBuf,
    signature: Signature,
    /// The graph with symbols for free dimensions; `None` when it only parses with concrete shapes.
    symbolic: Option<Symbolic>,
    footprint: u64,
    /// Plans by input shapes, the most recently used last.
    plans: Mutex<VecDeque<(Shapes, Arc<TypedRunnableModel>)>>,
}

struct Symbolic {
    graph: TypedModel,
    /// The symbol of each free dimension: input, axis.
    symbols: Vec<(usize, usize, Symbol)>,
}

/// The shapes of the inputs.
type Shapes = Vec<Vec<usize>>;

impl Model {
    /// Proves that the graph can be compiled, and compiles it for one row.
    fn load(mut self) -> TractResult<Self> {
        // Free first dimensions are nearly always the rows, the same for all inputs; a graph with other ideas gets
        // symbols of its own for each.
        let symbolic = self
            .parse_symbolic(true)
            .or_else(|_| self.parse_symbolic(false));
        let symbolic_error = match symbolic {
            Ok(symbolic) => {
                self.symbolic = Some(symbolic);
                None
            }
            Err(error) => Some(error),
        };
        let one_row = |dim: &Dim| if let Dim::Fixed(size) = dim { *size } else { 1 };
        let shapes: Option<Shapes> = self
            .signature
            .inputs
            .iter()
            .map(|input| Some(input.shape.as_ref()?.iter().map(one_row).collect()))
            .collect();
        let compiled = shapes.map(|shapes| self.plan(shapes));
        match (compiled, symbolic_error) {
            (Some(Err(error)), Some(_)) => Err(error),
            _ => Ok(self),
        }
    }

    fn parse_symbolic(&self, shared_rows: bool) -> TractResult<Symbolic> {
        let mut graph = tract_onnx::onnx()
            .with_ignore_value_info(true)
            .model_for_path(&self.file)?;
        let mut symbols = Vec::new();
        for (index, input) in self.signature.inputs.iter().enumerate() {
            let Some(shape) = &input.shape else { continue };
            let mut dims: Vec<TDim> = Vec::with_capacity(shape.len());
            for (axis, dim) in shape.iter().enumerate() {
                match dim {
                    Dim::Fixed(size) => dims.push(size.to_dim()),
                    Dim::Any(name) => {
                        let name = match name {
                            Some(name)
                                if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') =>
                            {
                                name.clone()
                            }
                            _ if axis == 0 && shared_rows => "onstage_rows".to_owned(),
                            _ => format!("onstage_{index}_{axis}"),
                        };
                        let symbol = graph.symbols.sym(&name);
                        dims.push(symbol.to_dim());
                        symbols.push((index, axis, symbol));
                    }
                }
            }
            graph.set_input_fact(
                index,
                InferenceFact::dt_shape(datum_type(input.dtype)?, &dims),
            )?;
        }
        Ok(Symbolic {
            graph: graph.into_typed()?.into_decluttered()?,
            symbols,
        })
    }

    /// The plan for these input shapes: a kept one, or a new one.
    fn plan(&self, shapes: Shapes) -> TractResult<Arc<TypedRunnableModel>> {
        if let Some(plan) = self.kept(&shapes) {
            return Ok(plan);
        }
        let concrete = self.concrete_from_symbols(&shapes).transpose()?;
        let concrete = match concrete {
            Some(graph) => graph,
            None => self.parse_concrete(&shapes)?,
        };
        let plan = concrete.into_optimized()?.into_runnable()?;
        let mut plans = self.plans.lock();
        if plans.len() >= MAX_PLANS {
            plans.pop_front();
        }
        plans.push_back((shapes, Arc::clone(&plan)));
        Ok(plan)
    }

    fn kept(&self, shapes: &Shapes) -> Option<Arc<TypedRunnableModel>> {
        let mut plans = self.plans.lock();
        let index = plans.iter().position(|(kept, _)| kept == shapes)?;
        let entry = plans.remove(index)?;
        let plan = Arc::clone(&entry.1);
        plans.push_back(entry);
        Some(plan)
    }

    /// `None` when there is no symbolic graph, or when two sizes stand against each other for one symbol.
    fn concrete_from_symbols(&self, shapes: &Shapes) -> Option<TractResult<TypedModel>> {
        let symbolic = self.symbolic.as_ref()?;
        let mut sizes: HashMap<Symbol, TDim> = HashMap::new();
        for (input, axis, symbol) in &symbolic.symbols {
            let size = shapes.get(*input)?.get(*axis)?.to_dim();
            if *sizes.entry(symbol.clone()).or_insert_with(|| size.clone()) != size {
                return None;
            }
        }
        Some(symbolic.graph.set_symbols(&sizes))
    }

    fn parse_concrete(&self, shapes: &Shapes) -> TractResult<TypedModel> {
        let mut graph = tract_onnx::onnx()
            .with_ignore_value_info(true)
            .model_for_path(&self.file)?;
        for (index, (input, shape)) in self.signature.inputs.iter().zip(shapes).enumerate() {
            graph.set_input_fact(
                index,
                InferenceFact::dt_shape(datum_type(input.dtype)?, shape),
            )?;
        }
        graph.into_typed()?.into_decluttered()
    }

    fn run(&self, batch: &Batch) -> TractResult<Outputs> {
        let shapes: Shapes = batch
            .inputs()
            .iter()
            .map(|tensor| tensor.shape().to_vec())
            .collect();
        let inputs = batch
            .inputs()
            .iter()
            .map(to_tract)
            .collect::<TractResult<Vec<TValue>>>()?;
        let plan = self.plan(shapes)?;
        let outputs = plan.run(inputs.into_iter().collect())?;
        outputs.into_iter().map(from_tract).collect()
    }
}

/// The compiled model; its sessions add nothing, for tract's plans may run on several threads at once.
struct Shared(Arc<Model>);

impl CompiledModel for Shared {
    fn signature(&self) -> &Signature {
        &self.0.signature
    }

    fn footprint(&self) -> u64 {
        self.0.footprint
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
}

impl Session for Shared {
    fn run(&mut self, batch: &Batch, cancel: &CancelToken) -> Result<Outputs, EngineError> {
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        // The graph compiled; what fails now are shapes or values that it cannot put together.
        self.0.run(batch).map_err(|error| EngineError::Run {
            engine: NAME,
            reason: format!("{error:#}"),
            bad_input: true,
        })
    }
}

fn datum_type(dtype: DType) -> TractResult<DatumType> {
    Ok(match dtype {
        DType::Bool => DatumType::Bool,
        DType::U8 => DatumType::U8,
        DType::U16 => DatumType::U16,
        DType::U32 => DatumType::U32,
        DType::U64 => DatumType::U64,
        DType::I8 => DatumType::I8,
        DType::I16 => DatumType::I16,
        DType::I32 => DatumType::I32,
        DType::I64 => DatumType::I64,
        DType::F16 => DatumType::F16,
        DType::F32 => DatumType::F32,
        DType::F64 => DatumType::F64,
        DType::String => DatumType::String,
        DType::Bf16 => anyhow::bail!("tract has no BF16"),
    })
}

fn to_tract(tensor: &Tensor) -> TractResult<TValue> {
    let shape = tensor.shape();
    macro_rules! number {
        ($rust:ty) => {
            match tensor.as_slice::<$rust>() {
                Some(values) => TractTensor::from_shape(shape, values)?,
                None => {
                    TractTensor::from_shape(shape, &tensor.to_vec::<$rust>().unwrap_or_default())?
                }
            }
        };
    }
    let converted = match tensor.dtype() {
        DType::Bool => {
            let values: Vec<bool> = tensor.bytes().iter().map(|&byte| byte != 0).collect();
            TractTensor::from_shape(shape, &values)?
        }
        DType::U8 => number!(u8),
        DType::U16 => number!(u16),
        DType::U32 => number!(u32),
        DType::U64 => number!(u64),
        DType::I8 => number!(i8),
        DType::I16 => number!(i16),
        DType::I32 => number!(i32),
        DType::I64 => number!(i64),
        DType::F16 => number!(f16),
        DType::F32 => number!(f32),
        DType::F64 => number!(f64),
        DType::String => {
            let strings = tensor.as_strings().unwrap_or_default().to_vec();
            tract_ndarray::ArrayD::from_shape_vec(shape, strings)?.into_tensor()
        }
        DType::Bf16 => anyhow::bail!("tract has no BF16"),
    };
    Ok(converted.into_tvalue())
}

fn from_tract(value: TValue) -> TractResult<Value> {
    let tensor = value.into_tensor();
    let shape = tensor.shape().to_vec();
    let dtype = match tensor.datum_type() {
        DatumType::Bool => DType::Bool,
        DatumType::U8 => DType::U8,
        DatumType::U16 => DType::U16,
        DatumType::U32 => DType::U32,
        DatumType::U64 => DType::U64,
        DatumType::I8 => DType::I8,
        DatumType::I16 => DType::I16,
        DatumType::I32 => DType::I32,
        DatumType::I64 => DType::I64,
        DatumType::F16 => DType::F16,
        DatumType::F32 => DType::F32,
        DatumType::F64 => DType::F64,
        DatumType::String => {
            let strings = tensor
                .to_plain_array_view::<String>()?
                .iter()
                .cloned()
                .collect();
            return Ok(Value::Tensor(Tensor::from_strings(shape, strings)?));
        }
        // Shape arithmetic has a type of its own in tract; ONNX calls it INT64.
        DatumType::TDim => return from_tract(tensor.cast_to::<i64>()?.into_owned().into_tvalue()),
        other => anyhow::bail!("tract gave an output of type {other:?}"),
    };
    let storage = Storage::Owned(Arc::new(TractBuffer(tensor)));
    Ok(Value::Tensor(Tensor::from_storage(dtype, shape, storage)?))
}

/// tract's memory.
struct TractBuffer(TractTensor);

impl Buffer for TractBuffer {
    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
