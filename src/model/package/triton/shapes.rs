//! The shapes of a configuration beside those of the graph.

use super::error::ReshapeError;
use super::notice::Notice;
use super::text::Message;
use crate::model::{Dim, Graph, OutputKind, Reshape, Reshapes};
use crate::tensor::DType;

/// Whether tensors have one more dimension than a configuration says, for the rows.
pub(super) fn has_rows(config: &Message<'_>) -> bool {
    config.number("max_batch_size").unwrap_or(0) > 0
}

/// Inputs or outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Input,
    Output,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Input, Self::Output];

    /// The field of a configuration.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }

    /// What the graph says of them.
    pub(super) fn tensors(self, graph: &Graph) -> Vec<Tensor<'_>> {
        match self {
            Self::Input => inputs(graph),
            Self::Output => outputs(graph),
        }
    }
}

/// Tensors that clients send or get in the shape of `dims`, and the graph takes or gives in the shape of `reshape`.
pub(super) fn reshapes(config: &Message<'_>, graph: &Graph, notice: &mut Notice) -> Reshapes {
    let mut reshapes = Reshapes::default();
    for side in Side::BOTH {
        let tensors = side.tensors(graph);
        for described in config.messages(side.field()) {
            let Some(reshape) = described.message("reshape") else {
                continue;
            };
            let name = described.text("name").unwrap_or_default();
            let place = tensors.iter().position(|tensor| tensor.name == name);
            // The notice of contradictions names tensors that the graph does not have.
            let Some(place) = place else {
                continue;
            };
            match shapes(described, reshape, &tensors[place], has_rows(config)) {
                Ok(reshape) if side == Side::Input => reshapes.add_input(place, reshape),
                Ok(reshape) => reshapes.add_output(place, reshape),
                Err(reason) => {
                    let field = format!("{}.reshape", side.field());
                    notice.add(&field, &format!("`{name}`: {reason}"));
                }
            }
        }
    }
    reshapes
}

/// Dimensions of one tensor, at most; ONNX Runtime takes no more.
const MOST_DIMS: usize = 64;

fn shapes(
    described: &Message<'_>,
    reshape: &Message<'_>,
    tensor: &Tensor<'_>,
    has_rows: bool,
) -> Result<Reshape, ReshapeError> {
    if tensor.dtype.is_none() {
        return Err(ReshapeError::NotATensor);
    }
    let texts = |message: &Message<'_>, field: &str| -> Vec<String> {
        let texts = message.all(field).take(MOST_DIMS + 1);
        let texts = texts.filter_map(|value| value.as_text().map(str::to_owned));
        texts.collect()
    };
    let (dims, shape) = (texts(described, "dims"), texts(reshape, "shape"));
    if dims.len().max(shape.len()) > MOST_DIMS {
        return Err(ReshapeError::TooManyDimensions { most: MOST_DIMS });
    }
    let words: Vec<&str> = shape.iter().map(String::as_str).collect();
    if !tensor.fits(&words, has_rows) {
        let shape = shape.join(", ");
        return Err(ReshapeError::OtherShape { shape });
    }
    let rows = has_rows.then(|| match tensor.shape.and_then(<[Dim]>::first) {
        Some(dim) => dim.clone(),
        None => Dim::Any(None),
    });
    let with_rows = |said: &[String]| {
        let rows = rows.iter().cloned().map(Ok);
        rows.chain(said.iter().map(|text| dim(text)))
            .collect::<Result<Vec<Dim>, ReshapeError>>()
    };
    let client = with_rows(&dims)?;
    let mut graph = with_rows(&shape)?;
    // The names of the graph's own dimensions tell which of them are one.
    for (own, said) in tensor.shape.iter().copied().flatten().zip(&mut graph) {
        if matches!((own, &said), (Dim::Any(_), Dim::Any(_))) {
            *said = own.clone();
        }
    }
    Reshape::new(client, graph).ok_or_else(|| ReshapeError::Elements {
        dims: dims.join(", "),
        shape: shape.join(", "),
    })
}

fn dim(text: &str) -> Result<Dim, ReshapeError> {
    match text {
        "-1" => Ok(Dim::Any(None)),
        text => {
            let size = text.parse().map(Dim::Fixed);
            size.map_err(|_| ReshapeError::Dimension(text.to_owned()))
        }
    }
}

/// An input or output of the graph.
pub(super) struct Tensor<'g> {
    pub(super) name: &'g str,
    /// `None` for maps.
    pub(super) dtype: Option<DType>,
    shape: Option<&'g [Dim]>,
}

impl Tensor<'_> {
    /// Whether these dimensions, without the rows where there are rows, can be those of the graph.
    pub(super) fn fits(&self, dims: &[&str], has_rows: bool) -> bool {
        let Some(shape) = self.shape else {
            return true;
        };
        let shape = match (has_rows, shape.split_first()) {
            (true, Some((_, rest))) => rest,
            _ => shape,
        };
        let fits = |(said, dim): (&&str, &Dim)| match dim {
            Dim::Any(_) => true,
            Dim::Fixed(size) => said.starts_with('-') || said.parse() == Ok(*size),
        };
        // `dims` must not be empty, so configurations describe a scalar as one element.
        let is_scalar = shape.is_empty() && dims == ["1"];
        is_scalar || shape.len() == dims.len() && dims.iter().zip(shape).all(fits)
    }
}

fn inputs(graph: &Graph) -> Vec<Tensor<'_>> {
    let inputs = graph.signature.inputs.iter();
    let tensor = inputs.map(|input| Tensor {
        name: &input.name,
        dtype: Some(input.dtype),
        shape: input.shape.as_deref(),
    });
    tensor.collect()
}

fn outputs(graph: &Graph) -> Vec<Tensor<'_>> {
    let outputs = graph.signature.outputs.iter();
    let tensor = outputs.map(|output| {
        let (dtype, shape) = match &output.kind {
            OutputKind::Tensor { dtype, shape } => (Some(*dtype), shape.as_deref()),
            OutputKind::Maps { .. } | OutputKind::Sequence { .. } => (None, None),
        };
        Tensor {
            name: &output.name,
            dtype,
            shape,
        }
    });
    tensor.collect()
}
