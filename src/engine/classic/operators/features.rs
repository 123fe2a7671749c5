//! Operators that prepare features: `Scaler`, `Normalizer`, `Imputer`, `Binarizer`, `FeatureVectorizer`,
//! `ArrayFeatureExtractor`, `ZipMap`.

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run, count};
use super::super::value::{Element, Slice, Value, View, each_type};
use super::linear::{as_floats, check_number};
use crate::tensor::{DType, Labels};

/// One number for all features, or one for each.
fn repeated<T: Copy>(list: &[T], column: usize) -> T {
    match list {
        [one] => *one,
        list => list[column],
    }
}

/// Refuses rows whose width is not that of these lists.
fn check_width(columns: usize, lists: &[usize]) -> Result<(), Failure> {
    match { lists }
        .iter()
        .find(|length| **length != 1 && **length != columns)
    {
        Some(expected) => Err(Failure::shapes(format!(
            "rows have {columns} features; expected {expected}"
        ))),
        None => Ok(()),
    }
}

/// The width of a row as these operators count it: the second dimension, of a vector the only one.
fn width(view: View<'_>) -> usize {
    match view.shape {
        [] => 1,
        [columns] => *columns,
        [_, columns, ..] => *columns,
    }
}

/// `(x − offset) · scale`.
struct Scaler {
    offset: Vec<f32>,
    scale: Vec<f32>,
}

impl Operator for Scaler {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let columns = width(input);
        check_width(columns, &[self.offset.len(), self.scale.len()])?;
        let output = outputs[0].start::<f32>(input.shape);
        let scaled = |index: usize, value: f32| {
            let column = index % columns;
            (value - repeated(&self.offset, column)) * repeated(&self.scale, column)
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "the output is FP32"
        )]
        match input.data {
            Slice::F32(elements) if self.offset.len() == columns && self.scale.len() == columns => {
                for row in elements.chunks_exact(columns.max(1)) {
                    let parts = row.iter().zip(&self.offset).zip(&self.scale);
                    output.extend(parts.map(|((value, offset), scale)| (value - offset) * scale));
                }
            }
            Slice::F32(elements) => {
                output.extend(
                    elements
                        .iter()
                        .enumerate()
                        .map(|(index, value)| scaled(index, *value)),
                );
            }
            Slice::F64(elements) => {
                output.extend(elements.iter().enumerate().map(|(index, value)| {
                    let column = index % columns;
                    let offset = f64::from(repeated(&self.offset, column));
                    ((value - offset) * f64::from(repeated(&self.scale, column))) as f32
                }))
            }
            Slice::I64(elements) => {
                output.extend(
                    elements
                        .iter()
                        .enumerate()
                        .map(|(index, value)| scaled(index, *value as f32)),
                );
            }
            Slice::I32(elements) => {
                output.extend(
                    elements
                        .iter()
                        .enumerate()
                        .map(|(index, value)| scaled(index, *value as f32)),
                );
            }
            _ => return Err(Failure::new("only numbers can be scaled".to_owned())),
        }
        Ok(())
    }
}

pub(super) fn scaler(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["offset", "scale"])?;
    check_number(node)?;
    let (offset, scale) = (
        node.floats("offset").to_vec(),
        node.floats("scale").to_vec(),
    );
    if offset.is_empty() || offset.len() != scale.len() {
        return Err(node.refuse(format!(
            "has {} offsets and {} scales",
            offset.len(),
            scale.len()
        )));
    }
    Built::one(DType::F32, Scaler { offset, scale })
}

/// The length by which rows are divided.
#[derive(Clone, Copy)]
enum Norm {
    Max,
    L1,
    L2,
}

struct Normalizer(Norm);

impl Operator for Normalizer {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        if input.shape.len() > 2 {
            return Err(Failure::new(format!(
                "rows of the shape {:?} are not supported",
                input.shape
            )));
        }
        let columns = width(input);
        let mut memory = std::mem::take(&mut run.scratch.floats);
        let elements = as_floats(input, &mut memory)?;
        let output = outputs[0].start::<f32>(input.shape);
        for row in elements.chunks_exact(columns.max(1)) {
            let norm = match self.0 {
                // The largest, not the farthest from 0.
                Norm::Max => row.iter().fold(
                    f32::MIN,
                    |most, value| if most < *value { *value } else { most },
                ),
                Norm::L1 => row.iter().map(|value| value.abs()).sum(),
                Norm::L2 => row.iter().map(|value| value * value).sum::<f32>().sqrt(),
            };
            if norm == 0.0 {
                output.extend_from_slice(row);
            } else {
                output.extend(row.iter().map(|value| value / norm));
            }
        }
        run.scratch.floats = memory;
        Ok(())
    }
}

pub(super) fn normalizer(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["norm"])?;
    check_number(node)?;
    let norm = match node.text("norm")?.unwrap_or("MAX") {
        "MAX" => Norm::Max,
        "L1" => Norm::L1,
        "L2" => Norm::L2,
        other => return Err(node.refuse(format!("`norm` is `{}`", other.escape_debug()))),
    };
    Built::one(DType::F32, Normalizer(norm))
}

/// Puts numbers in the place of what is missing.
struct Imputer<T> {
    imputed: Vec<T>,
    is_missing: fn(T, T) -> bool,
    missing: T,
}

impl<T: Element + Copy> Operator for Imputer<T> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let columns = width(input);
        check_width(columns, &[self.imputed.len()])?;
        let elements = input.elements::<T>()?.iter().enumerate();
        outputs[0]
            .start::<T>(input.shape)
            .extend(elements.map(|(index, value)| {
                if (self.is_missing)(*value, self.missing) {
                    repeated(&self.imputed, index % columns)
                } else {
                    *value
                }
            }));
        Ok(())
    }
}

pub(super) fn imputer(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[
        "imputed_value_floats",
        "imputed_value_int64s",
        "replaced_value_float",
        "replaced_value_int64",
    ])?;
    let missing = |count: usize| match count {
        0 => Err(node.refuse("has no values to impute")),
        _ => Ok(()),
    };
    match node.dtype(0)? {
        DType::F32 => {
            let imputed = node.floats("imputed_value_floats").to_vec();
            missing(imputed.len())?;
            let replaced = node.float("replaced_value_float").unwrap_or(0.0);
            let is_missing: fn(f32, f32) -> bool = if replaced.is_nan() {
                |value, _| value.is_nan()
            } else {
                |value, missing| value == missing
            };
            Built::one(
                DType::F32,
                Imputer {
                    imputed,
                    is_missing,
                    missing: replaced,
                },
            )
        }
        DType::I64 => {
            let imputed = node.ints("imputed_value_int64s").to_vec();
            missing(imputed.len())?;
            let replaced = node.int("replaced_value_int64").unwrap_or(0);
            let is_missing: fn(i64, i64) -> bool = |value, missing| value == missing;
            Built::one(
                DType::I64,
                Imputer {
                    imputed,
                    is_missing,
                    missing: replaced,
                },
            )
        }
        other => Err(node.unsupported(other)),
    }
}

/// 1 above a threshold, else 0.
struct Binarizer(f32);

impl Operator for Binarizer {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let elements = input.elements::<f32>()?;
        if let Some(index) = elements.iter().position(|value| value.is_nan()) {
            return Err(Failure::new(format!("element {index} is NaN")));
        }
        let binary = elements
            .iter()
            .map(|value| if *value > self.0 { 1.0 } else { 0.0 });
        outputs[0].start::<f32>(input.shape).extend(binary);
        Ok(())
    }
}

pub(super) fn binarizer(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["threshold"])?;
    match node.dtype(0)? {
        DType::F32 => Built::one(
            DType::F32,
            Binarizer(node.float("threshold").unwrap_or(0.0)),
        ),
        other => Err(node.unsupported(other)),
    }
}

/// The columns of several inputs side by side.
struct FeatureVectorizer(Vec<usize>);

impl Operator for FeatureVectorizer {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let (rows, _) = inputs.get(0)?.samples();
        let total: usize = self.0.iter().sum();
        count(&[rows, total])?;
        let output = outputs[0].start::<f32>(&[rows, total]);
        output.resize(rows * total, 0.0);
        let mut before = 0;
        for (input, wanted) in inputs.iter().zip(&self.0) {
            let (own_rows, columns) = input.samples();
            if own_rows != rows {
                return Err(Failure::new(
                    "its inputs have different numbers of rows".to_owned(),
                ));
            }
            let elements = as_floats(input, &mut run.scratch.floats)?;
            let kept = columns.min(*wanted);
            for row in 0..rows {
                let from = &elements[row * columns..][..kept];
                output[row * total + before..][..kept].copy_from_slice(from);
            }
            before += wanted;
        }
        Ok(())
    }
}

pub(super) fn feature_vectorizer(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["inputdimensions"])?;
    let widths = node
        .ints("inputdimensions")
        .iter()
        .map(|width| usize::try_from(*width).ok());
    let widths = widths
        .collect::<Option<Vec<_>>>()
        .filter(|widths| widths.len() == node.inputs.len());
    let widths = widths.ok_or_else(|| node.refuse("`inputdimensions` does not fit its inputs"))?;
    for index in 0..node.inputs.len() {
        if node.dtype(index)? != node.dtype(0)? {
            return Err(node.refuse("its inputs are of different types"));
        }
    }
    check_number(node)?;
    Built::one(DType::F32, FeatureVectorizer(widths))
}

/// Columns of the last axis, by their places.
struct ArrayFeatureExtractor;

impl Operator for ArrayFeatureExtractor {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let (input, picked) = (inputs.get(0)?, inputs.get(1)?);
        let (rows, columns) = input.table();
        if input.shape.is_empty() {
            return Err(Failure::new("a scalar has no features".to_owned()));
        }
        let places = picked.elements::<i64>()?.iter().map(|index| {
            let place = usize::try_from(*index)
                .ok()
                .filter(|place| *place < columns);
            place.ok_or_else(|| {
                Failure::shapes(format!("index {index} is not one of {columns} features"))
            })
        });
        let places = places.collect::<Result<Vec<_>, _>>()?;
        if places.is_empty() {
            return Err(Failure::new("no features are picked".to_owned()));
        }
        // Of a vector the features of one row.
        let mut shape = match input.shape {
            [_] => vec![1],
            [outer @ .., _] => outer.to_vec(),
            [] => Vec::new(),
        };
        shape.push(places.len());
        let length = count(&shape)?;
        each_type!(input.data, elements => {
            let output = outputs[0].start(&shape);
            output.reserve(length);
            for row in 0..rows {
                let row = &elements[row * columns..][..columns];
                output.extend(places.iter().map(|place| row[*place].clone()));
            }
        });
        Ok(())
    }
}

pub(super) fn array_feature_extractor(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[])?;
    if node.dtype(1)? != DType::I64 {
        return Err(node.refuse("indices must be INT64"));
    }
    match node.dtype(0)? {
        DType::Bool => Err(node.unsupported(DType::Bool)),
        dtype => Built::one(dtype, ArrayFeatureExtractor),
    }
}

/// Scores in the order of their sorted labels: a map has no other.
struct ZipMap {
    /// For each column of the output that of the input.
    order: Vec<usize>,
}

impl Operator for ZipMap {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let columns = self.order.len();
        let rows = match input.shape {
            [found] if *found == columns => 1,
            [rows, found] if *found == columns => *rows,
            shape => {
                return Err(Failure::shapes(format!(
                    "scores of the shape {shape:?} do not fit {columns} labels"
                )));
            }
        };
        let elements = input.elements::<f32>()?;
        let output = outputs[0].start::<f32>(&[rows, columns]);
        for row in elements.chunks_exact(columns.max(1)) {
            output.extend(self.order.iter().map(|column| row[*column]));
        }
        Ok(())
    }
}

pub(super) fn zip_map(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["classlabels_int64s", "classlabels_strings"])?;
    if node.dtype(0)? != DType::F32 {
        return Err(node.unsupported(node.dtype(0)?));
    }
    let (texts, numbers) = (
        node.texts("classlabels_strings")?,
        node.ints("classlabels_int64s"),
    );
    let mut order: Vec<usize> = (0..texts.len().max(numbers.len())).collect();
    let labels = match (texts.is_empty(), numbers.is_empty()) {
        (false, true) => {
            order.sort_by(|a, b| texts[*a].cmp(&texts[*b]));
            Labels::String(order.iter().map(|place| texts[*place].clone()).collect())
        }
        (true, false) => {
            order.sort_by_key(|place| numbers[*place]);
            Labels::Int64(order.iter().map(|place| numbers[*place]).collect())
        }
        _ => return Err(node.refuse("must have labels of one type")),
    };
    let are_distinct = match &labels {
        Labels::String(labels) => labels.windows(2).all(|pair| pair[0] != pair[1]),
        Labels::Int64(labels) => labels.windows(2).all(|pair| pair[0] != pair[1]),
    };
    if !are_distinct {
        return Err(node.refuse("has a label twice"));
    }
    let built = Built::one(DType::F32, ZipMap { order })?;
    Ok(Built {
        labels: Some(labels),
        ..built
    })
}
