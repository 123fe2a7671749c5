//! From a file to a runnable plan.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tract_onnx::pb::{ModelProto, TensorProto};
use tract_onnx::prelude::*;

use super::convert::datum_type;
use super::exact::{Quirk, check, make_exact, make_right, register, shift_log_sums};
use crate::engine::CancelToken;
use crate::model::{Dim, Initializer, InputSpec, Package, Signature};
use crate::tensor::Tensor;

/// A graph for concrete shapes, ready to run.
pub(super) type Runnable = TypedRunnableModel;

/// How a graph is made to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    /// Fast, where all numbers are plain.
    Plain,
    /// Right, whatever they are.
    Any,
}

/// The shape of each input.
pub(super) type Shapes = Vec<Vec<usize>>;

/// Sizes of open inner dimensions that are tried where a graph can only be read with concrete shapes: one, and what
/// image and audio models take.
const PROBES: [usize; 3] = [1, 32, 320];

/// What becomes of inputs that a request may leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defaults {
    /// They are inputs like the others.
    Replaceable,
    /// They are constants, where the graph can be read in no other way, as tract wants to know its shapes.
    Constant,
}

/// Reads a graph.
pub(super) struct Loader {
    file: PathBuf,
    signature: Signature,
    defaults: Defaults,
    /// Whether the graph means the same with symbols.
    takes_symbols: bool,
    allows_quirks: bool,
}

/// A graph as read.
pub(super) enum Loaded {
    /// With a symbol for each open dimension of each input (`None`: a fixed one).
    Symbolic {
        /// As it was read.
        typed: Box<TypedModel>,
        /// As tract rewrote it for plain numbers.
        model: Box<TypedModel>,
        symbols: Vec<Vec<Option<Symbol>>>,
    },
    /// Only readable with concrete shapes.
    ByShape,
}

impl Loader {
    pub(super) fn new(package: &Package, allows_quirks: bool, defaults: Defaults) -> Self {
        // tract compares two dimensions by how they are written, so that `N == 1` is false for every N.
        let equal = (String::new(), "Equal".to_owned());
        Self {
            file: package.model_file.clone(),
            signature: package.graph.signature.clone(),
            defaults,
            takes_symbols: !package.graph.operators.contains_key(&equal),
            allows_quirks,
        }
    }

    /// Whether it reads graphs that are answered wrongly for some values.
    pub(super) fn allows_quirks(&self) -> bool {
        self.allows_quirks
    }

    pub(super) fn signature(&self) -> &Signature {
        &self.signature
    }

    fn takes(&self, input: &InputSpec) -> bool {
        self.defaults == Defaults::Replaceable || !input.is_optional()
    }

    /// Those that tract sees.
    fn inputs(&self) -> impl Iterator<Item = &InputSpec> {
        let inputs = self.signature.inputs.iter();
        inputs.filter(|input| self.takes(input))
    }

    /// The tensors of a request that tract sees.
    pub(super) fn feed<'a>(&'a self, inputs: &'a [Tensor]) -> TractResult<Vec<&'a Tensor>> {
        for (input, tensor) in self.signature.inputs.iter().zip(inputs) {
            let default = input.default.as_ref().filter(|_| !self.takes(input));
            if default.is_some_and(|default| *default != Initializer(tensor.clone())) {
                return Err(TractError::msg(format!(
                    "tract has to know input `{}` when it reads the graph, so that no request can replace it: leave it out, \
                     or use ONNX Runtime",
                    input.name
                )));
            }
        }
        let fed = self.signature.inputs.iter().zip(inputs);
        let fed = fed.filter(|(input, _)| self.takes(input));
        Ok(fed.map(|(_, tensor)| tensor).collect())
    }

    /// The file as it stands, but for initializers that are inputs.
    pub(super) fn read(&self) -> TractResult<ModelProto> {
        let mut model = onnx().proto_model_for_path(&self.file)?;
        let replaced = self.inputs().filter(|input| input.is_optional());
        let replaced: HashSet<&str> = replaced.map(|input| input.name.as_str()).collect();
        if let Some(graph) = model.graph.as_mut().filter(|_| !replaced.is_empty()) {
            let is_constant = |tensor: &TensorProto| !replaced.contains(tensor.name.as_str());
            graph.initializer.retain(is_constant);
        }
        Ok(model)
    }

    /// Makes a graph of what [`Self::read`] gave, with symbols where that works.
    pub(super) fn load(&self, proto: &ModelProto, cancel: &CancelToken) -> TractResult<Loaded> {
        let model = self.parse(proto)?;
        let mut first_error = None;
        if self.takes_symbols || self.fixed_shapes().is_some() {
            match self.symbolic(model) {
                Ok(loaded) => return Ok(loaded),
                Err(error) if error.is::<Quirk>() => return Err(error),
                Err(error) => first_error = Some(error),
            }
        }
        for probe in PROBES {
            if cancel.is_cancelled() {
                break;
            }
            match self.concrete(&self.probe_shapes(probe), Numbers::Plain) {
                Ok(_) => return Ok(Loaded::ByShape),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| TractError::msg("cancelled")))
    }

    /// The only shapes that fit, when no input leaves a dimension open.
    pub(super) fn fixed_shapes(&self) -> Option<Shapes> {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => Some(*size),
            Dim::Any(_) => None,
        };
        self.inputs()
            .map(|input| input.shape.as_deref()?.iter().map(size).collect())
            .collect()
    }

    /// What runs the graph for `shapes`.
    pub(super) fn runnable(
        &self,
        loaded: &Loaded,
        shapes: &Shapes,
        numbers: Numbers,
    ) -> TractResult<Arc<Runnable>> {
        if let Loaded::Symbolic {
            typed,
            model,
            symbols,
        } = loaded
            && let Some(values) = bind(symbols, shapes)
        {
            let model = match numbers {
                Numbers::Plain => model,
                Numbers::Any => typed,
            };
            let concrete = model.set_symbols(&values);
            if let Ok(runnable) = concrete.and_then(|model| optimized(model, numbers)) {
                return Ok(runnable);
            }
        }
        self.concrete(shapes, numbers)
    }

    fn parse(&self, proto: &ModelProto) -> TractResult<InferenceModel> {
        // Where the files with external data are.
        let folder = self.file.parent().and_then(Path::to_str);
        let parsed = onnx().parse(proto, folder)?;
        if !parsed.unresolved_inputs.is_empty() {
            let message = format!("nothing gives {:?}", parsed.unresolved_inputs);
            return Err(TractError::msg(message));
        }
        let mut model = parsed.model;
        let names: Vec<&str> = model
            .inputs
            .iter()
            .map(|outlet| model.node(outlet.node).name.as_str())
            .collect();
        let expected = self.inputs().map(|input| input.name.as_str());
        if !expected.eq(names.iter().copied()) {
            let message = format!("tract reads the inputs as {names:?}");
            return Err(TractError::msg(message));
        }
        // A value that the graph names twice is one output.
        let mut seen = HashSet::new();
        let outlets = std::mem::take(&mut model.outputs).into_iter();
        model.outputs = outlets.filter(|outlet| seen.insert(*outlet)).collect();
        let labels: Vec<Option<&str>> = model
            .outputs
            .iter()
            .map(|outlet| model.outlet_label(*outlet))
            .collect();
        let expected = self
            .signature
            .outputs
            .iter()
            .map(|output| Some(output.name.as_str()));
        if !expected.eq(labels.iter().copied()) {
            let message = format!("tract reads the outputs as {labels:?}");
            return Err(TractError::msg(message));
        }
        Ok(model)
    }

    fn symbolic(&self, mut model: InferenceModel) -> TractResult<Loaded> {
        let mut symbols = Vec::new();
        for (index, input) in self.inputs().enumerate() {
            let shape = input
                .shape
                .as_ref()
                .ok_or_else(|| TractError::msg(format!("input `{}` has no rank", input.name)))?;
            let row: Vec<Option<Symbol>> = shape
                .iter()
                .enumerate()
                .map(|(axis, dim)| symbol(&model, index, axis, dim))
                .collect();
            let dims: TVec<TDim> = shape
                .iter()
                .zip(&row)
                .map(|(dim, symbol)| match (dim, symbol) {
                    (Dim::Fixed(size), _) => size.to_dim(),
                    (Dim::Any(_), Some(symbol)) => symbol.to_dim(),
                    (Dim::Any(_), None) => TDim::from(1),
                })
                .collect();
            model.set_input_fact(index, InferenceFact::dt_shape(element(input)?, dims))?;
            symbols.push(row);
        }
        let typed = Box::new(right(model)?);
        let model = Box::new(typed.clone().into_decluttered()?);
        self.check(&model)?;
        Ok(Loaded::Symbolic {
            typed,
            model,
            symbols,
        })
    }

    fn concrete(&self, shapes: &Shapes, numbers: Numbers) -> TractResult<Arc<Runnable>> {
        let mut model = self.parse(&self.read()?)?;
        for (index, (input, shape)) in self.inputs().zip(shapes).enumerate() {
            model.set_input_fact(index, InferenceFact::dt_shape(element(input)?, shape))?;
        }
        let runnable = optimized(right(model)?, numbers)?;
        self.check(runnable.model())?;
        Ok(runnable)
    }

    fn check(&self, model: &TypedModel) -> TractResult<()> {
        if self.allows_quirks {
            return Ok(());
        }
        check(model)
    }

    fn probe_shapes(&self, size: usize) -> Shapes {
        let open = |axis: usize| if axis == 0 { 1 } else { size };
        let shape = |input: &InputSpec| {
            let dims = input.shape.as_deref().unwrap_or_default();
            dims.iter()
                .enumerate()
                .map(|(axis, dim)| match dim {
                    Dim::Fixed(size) => *size,
                    Dim::Any(_) => open(axis),
                })
                .collect()
        };
        self.inputs().map(shape).collect()
    }
}

/// A graph whose operators are right on plain numbers.
fn right(model: InferenceModel) -> TractResult<TypedModel> {
    let mut model = model.into_typed()?;
    shift_log_sums(&mut model)?;
    make_right(&mut model);
    Ok(model)
}

fn optimized(mut model: TypedModel, numbers: Numbers) -> TractResult<Arc<Runnable>> {
    if numbers == Numbers::Any {
        make_exact(&mut model);
    }
    model.into_optimized()?.into_runnable()
}

/// tract-onnx with what exporters wrote about inner shapes left out: it contradicts concrete input shapes.
pub(super) fn onnx() -> &'static tract_onnx::Onnx {
    static ONNX: OnceLock<tract_onnx::Onnx> = OnceLock::new();
    ONNX.get_or_init(|| register(tract_onnx::onnx().with_ignore_value_info(true)))
}

/// One symbol for each name of a dimension, and one of our own for each dimension without.
fn symbol(model: &InferenceModel, input: usize, axis: usize, dim: &Dim) -> Option<Symbol> {
    match dim {
        Dim::Fixed(_) => None,
        // Prefixed, because a name may be anything that tract would take for an expression.
        Dim::Any(Some(name)) => Some(model.symbols.sym(&format!("onstage_named_{name}"))),
        Dim::Any(None) => Some(model.symbols.sym(&format!("onstage_{input}_{axis}"))),
    }
}

fn element(input: &InputSpec) -> TractResult<DatumType> {
    datum_type(input.dtype).ok_or_else(|| TractError::msg("tract has no bfloat16"))
}

/// What each symbol stands for, unless one would stand for two sizes.
fn bind(symbols: &[Vec<Option<Symbol>>], shapes: &Shapes) -> Option<HashMap<Symbol, TDim>> {
    let mut sizes: HashMap<Symbol, usize> = HashMap::new();
    for (row, shape) in symbols.iter().zip(shapes) {
        if row.len() != shape.len() {
            return None;
        }
        for (symbol, &size) in row.iter().zip(shape) {
            if let Some(symbol) = symbol
                && sizes
                    .insert(symbol.clone(), size)
                    .is_some_and(|known| known != size)
            {
                return None;
            }
        }
    }
    let dims = sizes
        .into_iter()
        .map(|(symbol, size)| (symbol, size.to_dim()));
    Some(dims.collect())
}
