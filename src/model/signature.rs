//! The tensor interface of a graph, and the one check that each request passes before an engine sees it.

use std::collections::HashMap;
use std::fmt;

use super::batch::Batch;
use super::reshape::Reshapes;
use crate::error::{ErrorKind, Kinded};
use crate::tensor::{DType, Tensor, Value};

/// The named inputs and outputs of a graph. Declared output shapes are a hint, never relied on: some exporters get
/// them wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signature {
    /// In the graph's order. Weights are no inputs, even where the graph lists them among these.
    pub inputs: Vec<InputSpec>,
    /// In the graph's order.
    pub outputs: Vec<OutputSpec>,
    /// Tensors whose shape in the graph is another one than here; none in the signature of a graph.
    pub reshapes: Reshapes,
}

/// One input tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSpec {
    /// The name in the graph.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The shape; `None` when the graph leaves even the rank open.
    pub shape: Option<Vec<Dim>>,
    /// What counts when a request leaves the input out; `None` where each request must bring it.
    pub default: Option<Initializer>,
}

/// A tensor of the graph that an input of the same name replaces (ONNX IR, "Optional inputs").
#[derive(Debug, Clone)]
pub struct Initializer(pub Tensor);

impl PartialEq for Initializer {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (&self.0, &other.0);
        (one.dtype(), one.shape()) == (other.dtype(), other.shape())
            && one.bytes() == other.bytes()
            && one.as_strings() == other.as_strings()
    }
}

impl Eq for Initializer {}

/// One output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSpec {
    /// The name in the graph.
    pub name: String,
    /// What it is.
    pub kind: OutputKind,
}

/// The type of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputKind {
    /// A tensor; shape `None` when the rank is open.
    Tensor {
        /// The element type.
        dtype: DType,
        /// The declared shape.
        shape: Option<Vec<Dim>>,
    },
    /// A sequence of maps from class label to FP32 (ZipMap).
    Maps {
        /// Whether the labels are text (else INT64).
        text_labels: bool,
    },
    /// A sequence of tensors, each of a shape of its own.
    Sequence {
        /// Their element type.
        dtype: DType,
        /// The declared shape of each; `None` when the rank is open.
        shape: Option<Vec<Dim>>,
    },
}

impl OutputKind {
    /// The type in words, without the shape.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Tensor { dtype, .. } => dtype.oip_name(),
            Self::Maps { text_labels: true } => "maps from text to FP32",
            Self::Maps { text_labels: false } => "maps from INT64 to FP32",
            Self::Sequence { .. } => "a sequence of tensors",
        }
    }

    /// The type of its elements; of maps that of the scores.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Tensor { dtype, .. } | Self::Sequence { dtype, .. } => *dtype,
            Self::Maps { .. } => DType::F32,
        }
    }

    /// The shape of the tensors of a sequence as one tensor; `None` when their rank is open.
    pub fn stacked(&self) -> Option<Vec<Dim>> {
        match self {
            Self::Sequence {
                shape: Some(shape), ..
            } => Some([&[Dim::Any(None)], shape.as_slice()].concat()),
            _ => None,
        }
    }
}

/// One dimension of a shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// Exactly this size.
    Fixed(usize),
    /// Any size; the graph's symbol for it, when it has one.
    Any(Option<String>),
}

impl Dim {
    /// The size as the Open Inference Protocol writes it: −1 for any.
    pub fn to_i64(&self) -> i64 {
        match self {
            Self::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
            Self::Any(_) => -1,
        }
    }
}

/// How a request contradicts a [`Signature`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// An input that the model does not have.
    #[error("unknown input `{name}`; this model takes {expected}")]
    UnknownInput {
        /// The given name.
        name: String,
        /// The names that the model takes.
        expected: Names,
    },
    /// The same input twice.
    #[error("input `{0}` is given twice")]
    DuplicateInput(String),
    /// Inputs that the model needs and the request lacks.
    #[error("missing {0}")]
    MissingInputs(Names),
    /// Another element type.
    #[error("input `{name}` has datatype {actual}, expected {expected}")]
    DType {
        /// The input.
        name: String,
        /// Its type in the request.
        actual: DType,
        /// Its type in the model.
        expected: DType,
    },
    /// Another rank or fixed dimension.
    #[error(
        "input `{name}` has shape {actual:?}, expected {expected:?} (-1 is any size{})",
        batch_remark(expected)
    )]
    Shape {
        /// The input.
        name: String,
        /// Its shape in the request.
        actual: Vec<usize>,
        /// Its shape in the model.
        expected: Vec<i64>,
    },
}

/// Whoever forgets a dimension mostly forgets the first.
fn batch_remark(expected: &[i64]) -> &'static str {
    match expected.first() {
        Some(-1) => "; the first dimension is the batch",
        _ => "",
    }
}

impl Kinded for SignatureError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

/// Inputs that are searched one by one.
const FEW: usize = 16;

/// Names that a message lists.
const LISTED: usize = 50;

/// A list of input or output names for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.len() == 1 {
            "input "
        } else {
            "inputs "
        })?;
        for (index, name) in self.0.iter().take(LISTED).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}`{name}`")?;
        }
        match self.0.len().checked_sub(LISTED) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, " and {more} more"),
        }
    }
}

impl Signature {
    /// Puts named tensors into the graph's order and checks names, datatypes, ranks and fixed dimensions.
    ///
    /// # Errors
    /// [`SignatureError`], naming the input, what was expected and what was given.
    pub fn bind(&self, named: Vec<(String, Tensor)>) -> Result<Batch, SignatureError> {
        let mut slots: Vec<Option<Tensor>> = vec![None; self.inputs.len()];
        let mut places: Option<HashMap<&str, usize>> = None;
        for (next, (name, tensor)) in named.into_iter().enumerate() {
            // Most requests have the order of the graph, or few inputs.
            let index = match self.inputs.get(next) {
                Some(input) if input.name == name => Some(next),
                _ if self.inputs.len() <= FEW => {
                    self.inputs.iter().position(|input| input.name == name)
                }
                _ => {
                    let places = places.get_or_insert_with(|| self.places());
                    places.get(name.as_str()).copied()
                }
            };
            let Some(index) = index else {
                return Err(SignatureError::UnknownInput {
                    name,
                    expected: self.input_names(),
                });
            };
            let tensor = self.taken(index, tensor)?;
            if slots[index].replace(tensor).is_some() {
                return Err(SignatureError::DuplicateInput(name));
            }
        }
        for (input, slot) in self.inputs.iter().zip(&mut slots) {
            if slot.is_none() {
                *slot = input.default.as_ref().map(|default| default.0.clone());
            }
        }
        let missing = self
            .inputs
            .iter()
            .zip(&slots)
            .filter(|(_, slot)| slot.is_none());
        let missing: Vec<String> = missing.map(|(input, _)| input.name.clone()).collect();
        if !missing.is_empty() {
            return Err(SignatureError::MissingInputs(Names(missing)));
        }
        let inputs: Vec<Tensor> = slots.into_iter().flatten().collect();
        let shared = self.row_inputs().enumerate();
        let shared = shared
            .filter_map(|(index, carries)| (!carries).then_some(index))
            .collect();
        let sizes_agree = self.sizes_agree(&inputs);
        Ok(Batch::new(inputs, shared, sizes_agree))
    }

    /// Whether a call may bring any number of rows.
    pub fn has_batch_axis(&self) -> bool {
        self.row_inputs().any(|carries| carries)
    }

    /// The inputs that each request must bring.
    pub fn required(&self) -> impl Iterator<Item = &InputSpec> {
        self.inputs.iter().filter(|input| !input.is_optional())
    }

    /// The input that a tensor without a name is for: the only one that a request must bring, or the only one there is.
    pub fn sole_input(&self) -> Option<&InputSpec> {
        if let [input] = self.inputs.as_slice() {
            return Some(input);
        }
        let mut required = self.required();
        required.next().filter(|_| required.next().is_none())
    }

    /// Which inputs carry rows: those that every request brings and whose first dimension is open, and the same one where
    /// the graph names it. The others are the same for all rows of a call.
    pub fn row_inputs(&self) -> impl Iterator<Item = bool> {
        let name = self.rows_name();
        let dims = (0..self.inputs.len()).map(|index| self.rows_dim(index));
        dims.map(move |dim| match dim {
            Some(Dim::Any(Some(own))) => Some(own.as_str()) == name,
            Some(Dim::Any(None)) => true,
            Some(Dim::Fixed(_)) | None => false,
        })
    }

    /// What the graph calls the number of rows: the first name of an open first dimension.
    pub fn rows_name(&self) -> Option<&str> {
        (0..self.inputs.len()).find_map(|index| match self.rows_dim(index) {
            Some(Dim::Any(Some(name))) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether dimensions of one name have one size, and scalars no dimension, as the graph says; engines do not insist.
    fn sizes_agree(&self, inputs: &[Tensor]) -> bool {
        let mut sizes: Vec<(&str, usize)> = Vec::new();
        for (index, tensor) in inputs.iter().enumerate() {
            let shape = self.graph_shape(index);
            let is_scalar = shape.is_some_and(<[Dim]>::is_empty);
            if is_scalar && !tensor.shape().is_empty() {
                return false;
            }
            for (dim, &size) in shape.into_iter().flatten().zip(tensor.shape()) {
                let Dim::Any(Some(name)) = dim else {
                    continue;
                };
                match sizes.iter().find(|(other, _)| other == name) {
                    Some((_, other)) if *other != size => return false,
                    Some(_) => {}
                    None => sizes.push((name, size)),
                }
            }
        }
        true
    }

    /// The shape of an input in the graph; `None` when the graph leaves the rank open.
    fn graph_shape(&self, index: usize) -> Option<&[Dim]> {
        match self.reshapes.input(index) {
            Some(reshape) => Some(reshape.graph()),
            None => self.inputs[index].shape.as_deref(),
        }
    }

    /// The dimension of an input that may be that of the rows.
    fn rows_dim(&self, index: usize) -> Option<&Dim> {
        let is_optional = self.inputs[index].is_optional();
        self.graph_shape(index)?.first().filter(|_| !is_optional)
    }

    /// A tensor that a client sent for an input, in the shape of the graph.
    fn taken(&self, index: usize, tensor: Tensor) -> Result<Tensor, SignatureError> {
        let input = &self.inputs[index];
        input.check(&tensor)?;
        let Some(reshape) = self.reshapes.input(index) else {
            return Ok(tensor);
        };
        let misfit = input.misfit(&tensor);
        let shape = reshape.to_graph(tensor.shape());
        let reshaped = shape.and_then(|shape| tensor.reshaped(shape).ok());
        reshaped.ok_or(misfit)
    }

    /// The inputs of a batch of this signature as a client sends them.
    pub fn as_sent<'s>(
        &'s self,
        batch: &'s Batch,
    ) -> impl Iterator<Item = (&'s InputSpec, Tensor)> {
        let tensors = batch.inputs().iter().cloned().enumerate();
        let tensors = tensors.map(|(index, tensor)| {
            let reshape = self.reshapes.input(index);
            reshaped(tensor, |shape| reshape?.to_client(shape))
        });
        self.inputs.iter().zip(tensors)
    }

    /// A batch of another signature for this one; `None` when this one takes other inputs.
    pub fn rebind(&self, batch: &Batch, of: &Self) -> Option<Batch> {
        let named = of.as_sent(batch);
        let named = named.map(|(input, tensor)| (input.name.clone(), tensor));
        self.bind(named.collect()).ok()
    }

    /// What the graph gave, in the shapes for clients. A tensor whose shape the graph does not declare stays as it is:
    /// declared shapes of outputs are no promise.
    #[must_use]
    pub fn for_clients(&self, outputs: Vec<Value>) -> Vec<Value> {
        if self.reshapes.is_empty() {
            return outputs;
        }
        let outputs = outputs.into_iter().enumerate();
        let outputs = outputs.map(|(index, value)| match value {
            Value::Tensor(tensor) => {
                let reshape = self.reshapes.output(index);
                Value::Tensor(reshaped(tensor, |shape| reshape?.to_client(shape)))
            }
            other => other,
        });
        outputs.collect()
    }

    /// The first input of each name.
    fn places(&self) -> HashMap<&str, usize> {
        let named = self.inputs.iter().enumerate().rev();
        named
            .map(|(place, input)| (input.name.as_str(), place))
            .collect()
    }

    fn input_names(&self) -> Names {
        Names(self.inputs.iter().map(|input| input.name.clone()).collect())
    }
}

impl InputSpec {
    /// Whether a request may leave it out.
    pub fn is_optional(&self) -> bool {
        self.default.is_some()
    }

    /// Whether it takes this tensor.
    pub(super) fn check(&self, tensor: &Tensor) -> Result<(), SignatureError> {
        if tensor.dtype() != self.dtype {
            return Err(SignatureError::DType {
                name: self.name.clone(),
                actual: tensor.dtype(),
                expected: self.dtype,
            });
        }
        let Some(expected) = &self.shape else {
            return Ok(());
        };
        // ONNX Runtime checks no shape of a scalar, and clients without a word for scalars send `[1]`, or one for each row.
        if expected.is_empty() {
            return Ok(());
        }
        let fits = expected.len() == tensor.shape().len()
            && expected
                .iter()
                .zip(tensor.shape())
                .all(|(dim, &size)| match dim {
                    Dim::Fixed(fixed) => *fixed == size,
                    Dim::Any(_) => true,
                });
        if fits {
            return Ok(());
        }
        Err(self.misfit(tensor))
    }

    fn misfit(&self, tensor: &Tensor) -> SignatureError {
        SignatureError::Shape {
            name: self.name.clone(),
            actual: tensor.shape().to_vec(),
            expected: self.shape.iter().flatten().map(Dim::to_i64).collect(),
        }
    }
}

/// The tensor in the shape that `shape` makes of its own; as it is where that makes none.
fn reshaped(tensor: Tensor, shape: impl FnOnce(&[usize]) -> Option<Vec<usize>>) -> Tensor {
    match shape(tensor.shape()) {
        Some(shape) => tensor.clone().reshaped(shape).unwrap_or(tensor),
        None => tensor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        let input = |name: &str, width| InputSpec {
            name: name.to_owned(),
            dtype: DType::F32,
            shape: Some(vec![Dim::Any(None), Dim::Fixed(width)]),
            default: None,
        };
        Signature {
            inputs: vec![input("user", 2), input("item", 1)],
            outputs: vec![],
            ..Signature::default()
        }
    }

    fn tensor(shape: &[usize]) -> Tensor {
        let count = shape.iter().product();
        Tensor::from_vec(shape.to_vec(), vec![0.0f32; count]).unwrap()
    }

    fn bind(named: &[(&str, Tensor)]) -> Result<Batch, SignatureError> {
        signature().bind(
            named
                .iter()
                .map(|(name, tensor)| ((*name).to_owned(), tensor.clone()))
                .collect(),
        )
    }

    #[test]
    fn binds_inputs_into_the_order_of_the_graph() {
        let batch = bind(&[("item", tensor(&[3, 1])), ("user", tensor(&[3, 2]))]).unwrap();
        assert_eq!(batch.inputs()[0].shape(), [3, 2]);
        assert_eq!(batch.rows(), 3);
    }

    #[test]
    fn names_what_is_wrong_what_was_expected_and_what_was_given() {
        let user = || ("user", tensor(&[1, 2]));
        let message = |named: &[(&str, Tensor)]| bind(named).unwrap_err().to_string();
        assert_eq!(message(&[user()]), "missing input `item`");
        assert_eq!(message(&[user(), user()]), "input `user` is given twice");
        assert_eq!(
            message(&[("x", tensor(&[1]))]),
            "unknown input `x`; this model takes inputs `user`, `item`"
        );
        assert_eq!(
            message(&[("user", tensor(&[1, 3]))]),
            "input `user` has shape [1, 3], expected [-1, 2] (-1 is any size; the first dimension is the batch)"
        );
        let ints = Tensor::from_vec(vec![1, 2], vec![1i64, 2]).unwrap();
        assert_eq!(
            message(&[("user", ints)]),
            "input `user` has datatype INT64, expected FP32"
        );
    }
    #[test]
    fn rows_are_repeated_in_every_input() {
        let user = Tensor::from_vec(vec![2, 2], vec![1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let item = Tensor::from_vec(vec![2, 1], vec![5.0f32, 6.0]).unwrap();
        let batch = bind(&[("user", user), ("item", item)]).unwrap();
        let three = batch.repeat_rows(3).unwrap();
        let values = |index: usize| three.inputs()[index].to_vec::<f32>().unwrap();
        assert_eq!(values(0), [1.0, 2.0, 3.0, 4.0, 1.0, 2.0]);
        assert_eq!(values(1), [5.0, 6.0, 5.0]);
        let texts = Tensor::from_strings(vec![2], vec!["a".to_owned(), "b".to_owned()]).unwrap();
        let texts = texts.repeat_rows(3).unwrap();
        assert_eq!(texts.as_strings().unwrap(), ["a", "b", "a"]);
        let none = Tensor::from_vec(vec![0, 2], Vec::<f32>::new()).unwrap();
        assert!(none.repeat_rows(2).is_none());
    }

    #[test]
    fn inputs_with_the_same_open_first_dimension_carry_rows() {
        let with = |first: [Dim; 2]| {
            let mut signature = signature();
            for (input, dim) in signature.inputs.iter_mut().zip(first) {
                input.shape.as_mut().unwrap()[0] = dim;
            }
            let carriers: Vec<bool> = signature.row_inputs().collect();
            assert_eq!(signature.has_batch_axis(), carriers.contains(&true));
            carriers
        };
        let named = |name: &str| Dim::Any(Some(name.to_owned()));
        assert_eq!(with([Dim::Any(None), Dim::Any(None)]), [true, true]);
        assert_eq!(with([named("rows"), Dim::Any(None)]), [true, true]);
        assert_eq!(with([named("rows"), named("rows")]), [true, true]);
        assert_eq!(with([named("rows"), named("words")]), [true, false]);
        assert_eq!(with([Dim::Fixed(1), named("rows")]), [false, true]);
        assert_eq!(with([Dim::Fixed(1), Dim::Fixed(2)]), [false, false]);
        let zeros = signature().zeros().unwrap();
        assert_eq!(zeros.inputs()[0].to_vec::<f32>().unwrap(), [0.0, 0.0]);
    }

    /// Two matrices of rows and one number for all of them.
    fn with_threshold(user: &[usize], item: &[usize], threshold: f32) -> Batch {
        let named = |name: &str| Dim::Any(Some(name.to_owned()));
        let input = |name: &str, shape| InputSpec {
            name: name.to_owned(),
            dtype: DType::F32,
            shape: Some(shape),
            default: None,
        };
        let matrix = || vec![named("rows"), named("width")];
        let signature = Signature {
            inputs: vec![
                input("threshold", vec![]),
                input("user", matrix()),
                input("item", matrix()),
            ],
            outputs: vec![],
            ..Signature::default()
        };
        let threshold = Tensor::from_vec(vec![], vec![threshold]).unwrap();
        let named = [
            ("threshold", threshold),
            ("user", tensor(user)),
            ("item", tensor(item)),
        ];
        let named = named.map(|(name, tensor)| (name.to_owned(), tensor));
        signature.bind(named.into()).unwrap()
    }

    #[test]
    fn a_scalar_may_come_in_any_shape_and_then_runs_alone() {
        let signature = Signature {
            inputs: vec![InputSpec {
                name: "k".to_owned(),
                dtype: DType::F32,
                shape: Some(vec![]),
                default: None,
            }],
            outputs: vec![],
            ..Signature::default()
        };
        for shape in [&[][..], &[1], &[2], &[1, 1]] {
            let count = shape.iter().product();
            let tensor = Tensor::from_vec(shape.to_vec(), vec![1.0_f32; count]).unwrap();
            let batch = signature.bind(vec![("k".to_owned(), tensor)]).unwrap();
            assert_eq!(batch.inputs()[0].shape(), shape);
            assert!(!batch.is_even(), "{shape:?}");
        }
    }

    #[test]
    fn requests_join_when_what_they_share_is_equal() {
        let one = with_threshold(&[1, 2], &[1, 2], 0.5);
        assert!(one.may_join(&with_threshold(&[3, 2], &[3, 2], 0.5)));
        assert!(
            !one.may_join(&with_threshold(&[1, 2], &[1, 2], 0.25)),
            "another threshold"
        );
        assert!(
            !one.may_join(&with_threshold(&[1, 4], &[1, 4], 0.5)),
            "another width"
        );
        let uneven = with_threshold(&[1, 2], &[2, 2], 0.5);
        assert!(!uneven.is_even() && !uneven.may_join(&uneven.clone()));
        let contradicts = with_threshold(&[1, 2], &[1, 4], 0.5);
        assert!(!contradicts.is_even(), "two sizes of one name");
        let joined = Batch::join(&[&one, &with_threshold(&[3, 2], &[3, 2], 0.5)]).unwrap();
        assert_eq!(joined.rows(), 4);
        let shapes: Vec<&[usize]> = joined.inputs().iter().map(Tensor::shape).collect();
        assert_eq!(shapes, [&[][..], &[4, 2], &[4, 2]]);
        let last = joined.rows_of(3..4).unwrap();
        assert_eq!((last.rows(), last.inputs()[0].shape().len()), (1, 0));
    }
}
