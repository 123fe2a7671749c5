//! A request that a model answers: the package's own example, else zeros.

use serde_json::{Map, Value, json};

use crate::model::{
    Batch, ColSpec, ColType, DataType, Dim, OutputKind, OutputSpec, ResponseOutput, Schema,
    Signature,
};
use crate::protocol::json::{Layout, NonFinite, write_tensor};
use crate::protocol::mlflow;
use crate::serving::Servable;
use crate::tensor::{DType, Tensor};

/// Bytes of an example; larger ones are no help to a reader.
const MOST_BYTES: usize = 16 << 10;

/// Elements likewise, and of the zeros that are made for want of an example.
const MOST_ELEMENTS: usize = 4096;

/// The same data for both protocols, where they can carry it.
#[derive(Debug, Default)]
pub(crate) struct Examples {
    pub(crate) scoring: Option<Value>,
    pub(crate) infer: Option<Value>,
}

/// Examples that this model takes.
pub(crate) fn examples(servable: &Servable) -> Examples {
    saved(servable).unwrap_or_else(|| made(servable))
}

fn saved(servable: &Servable) -> Option<Examples> {
    let body = servable.package().serving_input().ok().flatten()?;
    if body.len() > MOST_BYTES {
        return None;
    }
    let scoring = serde_json::from_slice(&body).ok()?;
    let batch = mlflow::example_batch(servable, body).ok()?;
    Some(Examples {
        scoring: Some(scoring),
        infer: infer(servable.signature(), &batch),
    })
}

fn made(servable: &Servable) -> Examples {
    let graph = servable.signature();
    let zeros = is_small(graph).then(|| graph.zeros()).flatten();
    let declared = servable.package().manifest.signature.as_ref();
    let scoring = match declared.and_then(|declared| declared.inputs.as_ref()) {
        Some(Schema::Columns(columns)) if answers_rows(servable) => row(columns, 0),
        Some(Schema::Columns(_)) => None,
        _ => zeros.as_ref().and_then(|zeros| inputs(graph, zeros)),
    };
    let is_taken = |body: &Value| mlflow::example_batch(servable, body.to_string().into()).is_ok();
    Examples {
        scoring: scoring.filter(is_taken),
        infer: zeros.and_then(|zeros| infer(graph, &zeros)),
    }
}

/// Whether a batch of one row is small enough to be made.
pub(crate) fn is_small(graph: &Signature) -> bool {
    let elements = |shape: &[Dim]| {
        shape.iter().try_fold(1_usize, |count, dim| match dim {
            Dim::Fixed(size) => count.checked_mul(*size),
            Dim::Any(_) => Some(count),
        })
    };
    let mut inputs = graph.inputs.iter();
    inputs.all(|input| {
        let shape = input.shape.as_deref();
        shape
            .and_then(elements)
            .is_some_and(|count| count <= MOST_ELEMENTS)
    })
}

/// Whether a data frame gets an answer: every output has as many elements for a row as the others.
fn answers_rows(servable: &Servable) -> bool {
    let elements = |output: &OutputSpec| match &output.kind {
        OutputKind::Tensor {
            shape: Some(shape), ..
        } => shape.iter().skip(1).fold(1_usize, |count, dim| match dim {
            Dim::Fixed(size) => count.saturating_mul(*size),
            Dim::Any(_) => count,
        }),
        OutputKind::Tensor { shape: None, .. }
        | OutputKind::Maps { .. }
        | OutputKind::Sequence { .. } => 1,
    };
    let mut counts = servable.signature().outputs.iter().map(elements);
    let first = counts.next();
    servable.response() != ResponseOutput::All || counts.all(|count| Some(count) == first)
}

/// A data frame of one row of this number.
pub(crate) fn row(columns: &[ColSpec], number: u8) -> Option<Value> {
    let cells = columns.iter().map(|column| cell(&column.kind, number));
    let cells: Option<Vec<Value>> = cells.collect();
    let names: Option<Vec<&str>> = columns
        .iter()
        .map(|column| column.name.as_deref())
        .collect();
    let mut split = json!({ "data": [cells?] });
    if let Some(names) = names {
        split["columns"] = json!(names);
    }
    Some(json!({ "dataframe_split": split }))
}

fn cell(kind: &ColType, number: u8) -> Option<Value> {
    let ColType::Scalar(scalar) = kind else {
        return None;
    };
    Some(match scalar {
        DataType::Boolean => json!(number % 2 == 1),
        DataType::Integer | DataType::Long => json!(number),
        DataType::Float | DataType::Double => json!(f64::from(number)),
        DataType::String if number > 0 => json!(number.to_string()),
        DataType::String | DataType::Binary => json!(""),
        DataType::Datetime => json!("2026-01-31T12:00:00"),
    })
}

/// A scoring body: one tensor alone, or each under its name.
pub(crate) fn inputs(graph: &Signature, batch: &Batch) -> Option<Value> {
    let mut named = graph.as_sent(batch);
    if batch.inputs().len() == 1 {
        let (_, tensor) = named.next()?;
        return Some(json!({ "inputs": data(&tensor, Layout::Nested)? }));
    }
    let named: Option<Map<String, Value>> = named
        .map(|(input, tensor)| Some((input.name.clone(), data(&tensor, Layout::Nested)?)))
        .collect();
    Some(json!({ "inputs": named? }))
}

/// A body of the Open Inference Protocol; `None` when there are too many elements.
pub(crate) fn infer(graph: &Signature, batch: &Batch) -> Option<Value> {
    let elements: usize = batch.inputs().iter().map(Tensor::len).sum();
    if elements > MOST_ELEMENTS {
        return None;
    }
    let named = graph.as_sent(batch);
    let inputs: Option<Vec<Value>> = named
        .map(|(input, tensor)| {
            Some(json!({
                "name": input.name,
                "datatype": tensor.dtype().oip_name(),
                "shape": tensor.shape(),
                "data": data(&tensor, Layout::Flat)?,
            }))
        })
        .collect();
    Some(json!({ "inputs": inputs? }))
}

/// `None` for what has no JSON form.
fn data(tensor: &Tensor, layout: Layout) -> Option<Value> {
    if matches!(tensor.dtype(), DType::F16 | DType::Bf16) {
        return None;
    }
    let mut text = Vec::new();
    // NaN is no JSON, so the example is left out.
    write_tensor(&mut text, tensor, layout, NonFinite::Bare);
    serde_json::from_slice(&text).ok()
}
