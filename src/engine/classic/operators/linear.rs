//! Linear models: `LinearClassifier` and `LinearRegressor`.

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run};
use super::super::value::{Slice, Value, View};
use super::matmul::dot;
use super::scores::{ClassLabels, Transform, best, logistic};
use crate::tensor::DType;

/// A matrix of weights, one row for each output.
struct Weights {
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
    features: usize,
}

impl Weights {
    fn new(node: &Node<'_>, outputs: usize) -> Result<Self, Refusal> {
        let coefficients = node.floats("coefficients").to_vec();
        let intercepts = node.floats("intercepts").to_vec();
        if outputs == 0 || coefficients.is_empty() || !coefficients.len().is_multiple_of(outputs) {
            let count = coefficients.len();
            return Err(node.refuse(format!("has {count} coefficients for {outputs} outputs")));
        }
        if !intercepts.is_empty() && intercepts.len() != outputs {
            let count = intercepts.len();
            return Err(node.refuse(format!("has {count} intercepts for {outputs} outputs")));
        }
        Ok(Self {
            features: coefficients.len() / outputs,
            coefficients,
            intercepts,
        })
    }

    fn outputs(&self) -> usize {
        self.coefficients.len() / self.features
    }

    /// Adds the scores of all rows, which [`View::rows_of`] has checked, to `scores`.
    fn scores(&self, rows: &[f32], scores: &mut Vec<f32>, run: &Run<'_>) -> Result<(), Failure> {
        for (index, row) in rows.chunks_exact(self.features.max(1)).enumerate() {
            if index.is_multiple_of(1024) {
                run.check()?;
            }
            for (output, weights) in self.coefficients.chunks_exact(self.features).enumerate() {
                let intercept = self.intercepts.get(output).copied().unwrap_or(0.0);
                scores.push(dot(row, weights, 0.0) + intercept);
            }
        }
        Ok(())
    }
}

/// Numbers of any type as FP32, in memory that is used again where they are of another one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the operators calculate in FP32"
)]
pub(super) fn as_floats<'a>(
    view: View<'a>,
    memory: &'a mut Vec<f32>,
) -> Result<&'a [f32], Failure> {
    memory.clear();
    match view.data {
        Slice::F32(elements) => return Ok(elements),
        Slice::F64(elements) => memory.extend(elements.iter().map(|value| *value as f32)),
        Slice::I64(elements) => memory.extend(elements.iter().map(|value| *value as f32)),
        Slice::I32(elements) => memory.extend(elements.iter().map(|value| *value as f32)),
        Slice::I16(_) | Slice::Bool(_) | Slice::Text(_) => {
            return Err(Failure::new(format!(
                "numbers of {} are not supported",
                view.dtype()
            )));
        }
    }
    Ok(memory)
}

/// Refuses inputs that [`as_floats`] does not take.
pub(super) fn check_number(node: &Node<'_>) -> Result<(), Refusal> {
    match node.dtype(0)? {
        DType::F32 | DType::F64 | DType::I64 | DType::I32 => Ok(()),
        other => Err(node.unsupported(other)),
    }
}

struct Classifier {
    weights: Weights,
    labels: ClassLabels,
    transform: Transform,
}

impl Operator for Classifier {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let rows = input.rows_of(self.weights.features)?;
        let mut memory = std::mem::take(&mut run.scratch.floats);
        let features = as_floats(input, &mut memory)?;
        let [labels, scores] = outputs else {
            return Err(Failure::new("has two outputs".to_owned()));
        };
        let classes = self.labels.len();
        self.labels.start(rows, labels);
        let scores = scores.start::<f32>(&[rows, classes]);
        scores.reserve(rows * classes);
        self.weights.scores(features, scores, run)?;
        if self.weights.outputs() == 1 {
            spread(scores, self.transform);
            for scores in scores.chunks_exact(2) {
                self.labels
                    .push(usize::from(is_second(scores, self.transform)), labels);
            }
        } else {
            for scores in scores.chunks_exact_mut(classes) {
                self.labels.push(best(scores), labels);
                self.transform.apply(scores);
            }
        }
        run.scratch.floats = memory;
        Ok(())
    }

    fn size(&self) -> u64 {
        (self.weights.coefficients.len() * 4) as u64
    }

    fn cost(&self) -> Option<u64> {
        Some(60 + self.weights.coefficients.len() as u64)
    }
}

/// Whether the one score that became these two was positive.
fn is_second(scores: &[f32], transform: Transform) -> bool {
    match transform {
        Transform::Logistic => scores[1] > 0.5,
        _ => scores[1] > 0.0,
    }
}

/// Makes two scores of each one, in place.
fn spread(scores: &mut Vec<f32>, transform: Transform) {
    let rows = scores.len();
    scores.resize(rows * 2, 0.0);
    for row in (0..rows).rev() {
        let score = scores[row];
        let pair = match transform {
            Transform::Logistic => [logistic(-score), logistic(score)],
            _ => [1.0 - score, score],
        };
        scores[row * 2..][..2].copy_from_slice(&pair);
    }
}

pub(super) fn classifier(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[
        "classlabels_ints",
        "classlabels_strings",
        "coefficients",
        "intercepts",
        "multi_class",
        "post_transform",
    ])?;
    check_number(node)?;
    let labels = ClassLabels::new(node, "classlabels_ints")?;
    let transform = Transform::new(node)?;
    // ONNX Runtime counts the rows of weights by their intercepts.
    let outputs = node.floats("intercepts").len();
    if outputs == 0 {
        return Err(node.refuse("has no intercepts"));
    }
    let is_pair = outputs == 1 && labels.len() == 2;
    if !is_pair && (outputs != labels.len() || outputs < 2) {
        return Err(node.refuse(format!(
            "{outputs} rows of weights for {} classes are not supported",
            labels.len()
        )));
    }
    if is_pair && transform == Transform::Probit {
        return Err(node.refuse("`post_transform` PROBIT of one row of weights is not supported"));
    }
    let weights = Weights::new(node, outputs)?;
    let dtypes = [labels.dtype(), DType::F32];
    Built::two(
        dtypes,
        Classifier {
            weights,
            labels,
            transform,
        },
    )
}

struct Regressor {
    weights: Weights,
    transform: Transform,
}

impl Operator for Regressor {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let rows = input.rows_of(self.weights.features)?;
        let targets = self.weights.outputs();
        let output = outputs[0].start::<f32>(&[rows, targets]);
        output.reserve(rows * targets);
        self.weights.scores(input.elements::<f32>()?, output, run)?;
        if targets == 1 {
            output
                .iter_mut()
                .for_each(|score| *score = self.transform.apply_to_one(*score));
        } else {
            output
                .chunks_exact_mut(targets)
                .for_each(|scores| self.transform.apply(scores));
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        (self.weights.coefficients.len() * 4) as u64
    }

    fn cost(&self) -> Option<u64> {
        Some(40 + self.weights.coefficients.len() as u64)
    }
}

pub(super) fn regressor(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["coefficients", "intercepts", "post_transform", "targets"])?;
    if node.dtype(0)? != DType::F32 {
        return Err(node.unsupported(node.dtype(0)?));
    }
    let targets = node.int("targets").unwrap_or(1);
    let targets =
        usize::try_from(targets).map_err(|_| node.refuse(format!("`targets` is {targets}")))?;
    let weights = Weights::new(node, targets)?;
    let transform = Transform::new(node)?;
    Built::one(DType::F32, Regressor { weights, transform })
}
