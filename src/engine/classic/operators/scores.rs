//! What the operators of ai.onnx.ml do to scores at the end: `post_transform`, and class labels.

use super::super::failure::Refusal;
use super::super::node::Node;
use super::super::value::Value;
use crate::tensor::DType;

/// `post_transform`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl Transform {
    /// The attribute of a node.
    ///
    /// # Errors
    /// [`Refusal`] for a name that ONNX does not have.
    pub(super) fn new(node: &Node<'_>) -> Result<Self, Refusal> {
        Ok(match node.text("post_transform")?.unwrap_or("NONE") {
            "NONE" => Self::None,
            "SOFTMAX" => Self::Softmax,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            other => {
                let message = format!("`post_transform` is `{}`", other.escape_debug());
                return Err(node.refuse(message));
            }
        })
    }

    /// Transforms the scores of a row that has two or more.
    pub(super) fn apply(self, scores: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Logistic => scores
                .iter_mut()
                .for_each(|score| *score = logistic(*score)),
            Self::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
            Self::Softmax => softmax(scores),
            Self::SoftmaxZero => softmax_zero(scores),
        }
    }

    /// Transforms the only score of a row: what compares scores with each other has nothing to do.
    pub(super) fn apply_to_one(self, score: f32) -> f32 {
        match self {
            Self::Probit => probit(score),
            _ => score,
        }
    }
}

pub(super) fn logistic(score: f32) -> f32 {
    let value = 1.0 / (1.0 + (-score.abs()).exp());
    if score < 0.0 { 1.0 - value } else { value }
}

/// The inverse of the normal distribution's cumulative function, by Winitzki's approximation of the inverse error
/// function (2008), as ONNX Runtime calculates it.
fn probit(score: f32) -> f32 {
    const A: f32 = 0.147;
    let x = 2.0 * score - 1.0;
    let sign = if x < 0.0 { -1.0 } else { 1.0 };
    let log = ((1.0 - x) * (1.0 + x)).ln();
    #[expect(clippy::approx_constant, reason = "as many digits as ONNX Runtime has")]
    let pi = 3.141_59;
    let v = 2.0 / (pi * A) + 0.5 * log;
    let v2 = 1.0 / A * log;
    let v3 = -v + (v * v - v2).sqrt();
    std::f32::consts::SQRT_2 * (sign * v3.sqrt())
}

fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - most).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// Softmax in which what is 0 stays 0.
fn softmax_zero(scores: &mut [f32]) {
    const SMALL: f32 = 0.000_000_1;
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (-most).exp();
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        if score.abs() > SMALL {
            *score = (*score - most).exp();
            sum += *score;
        } else {
            *score *= scale;
        }
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// The labels of classes.
#[derive(Debug, Clone)]
pub(super) enum ClassLabels {
    Int64(Vec<i64>),
    Text(Vec<String>),
}

impl ClassLabels {
    /// The attributes `classlabels_strings` and `classlabels_int64s`, the latter under the name that the operator has.
    ///
    /// # Errors
    /// [`Refusal`] when both are there, or none is.
    pub(super) fn new(node: &Node<'_>, integers: &str) -> Result<Self, Refusal> {
        let texts = node.texts("classlabels_strings")?;
        let numbers = node.ints(integers);
        match (texts.is_empty(), numbers.is_empty()) {
            (false, true) => Ok(Self::Text(texts)),
            (true, false) => Ok(Self::Int64(numbers.to_vec())),
            (true, true) => Err(node.refuse("has no class labels")),
            (false, false) => Err(node.refuse("has class labels of both types")),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Int64(labels) => labels.len(),
            Self::Text(labels) => labels.len(),
        }
    }

    pub(super) fn dtype(&self) -> DType {
        match self {
            Self::Int64(_) => DType::I64,
            Self::Text(_) => DType::String,
        }
    }

    /// Begins an output of labels.
    pub(super) fn start(&self, rows: usize, output: &mut Value) {
        match self {
            Self::Int64(_) => output.start::<i64>(&[rows]).reserve(rows),
            Self::Text(_) => output.start::<String>(&[rows]).reserve(rows),
        }
    }

    /// Adds the label of a class to an output that [`Self::start`] began.
    pub(super) fn push(&self, class: usize, output: &mut Value) {
        use super::super::value::Element;
        match self {
            Self::Int64(labels) => i64::vec_of(&mut output.data).push(labels[class]),
            Self::Text(labels) => String::vec_of(&mut output.data).push(labels[class].clone()),
        }
    }
}

/// The place of the largest score, of equal ones the first.
pub(super) fn best(scores: &[f32]) -> usize {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate().skip(1) {
        if *score > scores[best] {
            best = class;
        }
    }
    best
}
