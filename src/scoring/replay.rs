//! Logged requests, run again on one package or on two.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::offline::{Offline, Refusal};
use super::shift;
use crate::engine::Outputs;
use crate::model::Package;
use crate::payload::{LogFile, PayloadError, Replay};
use crate::tensor::{DType, Tensor, Value};

/// Why a log cannot be run again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log.
    #[error(transparent)]
    Log(#[from] PayloadError),
    /// The package refuses a request.
    #[error("`{file}`, row {row}: {refusal}")]
    Refused {
        /// The file.
        file: String,
        /// The first row of the request.
        row: usize,
        /// What it says.
        refusal: Refusal,
    },
}

/// What a package answers to every request of a log, one after the other.
#[derive(Debug)]
pub struct Replayed {
    plan: Replay,
    /// For each request the outputs.
    answers: Vec<Outputs>,
    /// How long the runs took together.
    took: Duration,
}

impl Replayed {
    /// Nothing yet, for this package.
    pub fn new(package: &Package) -> Self {
        Self {
            plan: Replay::new(package),
            answers: Vec::new(),
            took: Duration::ZERO,
        }
    }

    /// Runs the requests of one file, each alone, as it came.
    ///
    /// # Errors
    /// When a request cannot be read, or the package does not answer it.
    pub fn run(&mut self, model: &Offline, file: &LogFile) -> Result<(), ReplayError> {
        for rows in file.requests()? {
            let row = rows.start;
            let batch = self.plan.batch(file, rows)?;
            let began = Instant::now();
            let outputs = model.run(batch);
            self.took += began.elapsed();
            self.answers
                .push(outputs.map_err(|refusal| ReplayError::Refused {
                    file: file.name.clone(),
                    row,
                    refusal,
                })?);
        }
        Ok(())
    }

    /// How many requests were answered.
    pub fn requests(&self) -> usize {
        self.answers.len()
    }

    /// All answers as one: the rows of each output in the order of the requests. `None` when they are not alike, or there
    /// are none.
    pub fn joined(&self) -> Option<Outputs> {
        let outputs = self.answers.first()?.len();
        let join = |output: usize| {
            let parts: Option<Vec<&Value>> = self
                .answers
                .iter()
                .map(|answer| answer.get(output))
                .collect();
            Value::join_rows(&parts?)
        };
        (0..outputs).map(join).collect()
    }
}

/// How two packages answer a log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogComparison {
    /// Requests of the log.
    pub requests: usize,
    /// Rows of the log.
    pub rows: usize,
    /// The share of rows in which an output differs by more than its type's tolerance.
    pub disagreement: f64,
    /// The population stability index of the scores, of A against B; none where no output is a score.
    pub score_psi: Option<f64>,
    /// The time of B as a multiple of the time of A.
    pub slowdown: f64,
}

impl LogComparison {
    /// Compares what both answered; `None` when their answers have other forms.
    pub fn new(old: &Replayed, new: &Replayed) -> Option<Self> {
        let (was, is) = (old.joined()?, new.joined()?);
        let rows = was.iter().find_map(Value::rows)?;
        let mut differs = vec![false; rows];
        for (was, is) in was.iter().zip(&is) {
            mark_differences(was, is, &mut differs)?;
        }
        let beyond = differs.iter().filter(|differs| **differs).count();
        let scores = was
            .iter()
            .zip(&is)
            .find_map(|(was, is)| Some((scores(was)?, scores(is)?)));
        let indexes = scores.map(|(was, is)| {
            let columns = was.iter().zip(&is);
            columns
                .map(|(was, is)| shift::psi(was, is))
                .fold(0.0, f64::max)
        });
        let (was, is) = (old.took.as_secs_f64(), new.took.as_secs_f64());
        Some(Self {
            requests: old.requests(),
            rows,
            disagreement: beyond as f64 / rows.max(1) as f64,
            score_psi: indexes,
            slowdown: is / was.max(f64::MIN_POSITIVE),
        })
    }
}

/// Numbers of a type pass when they are this close absolutely or relatively: as `diff` compares answers.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-7,
        DType::F32 => 1e-4,
        DType::F16 => 1e-2,
        DType::Bf16 => 5e-2,
        _ => 0.0,
    }
}

fn mark_differences(was: &Value, is: &Value, differs: &mut [bool]) -> Option<()> {
    let ([was], [is]) = (was.tensors(), is.tensors()) else {
        return None;
    };
    let rows = differs.len();
    if was.len() != is.len() || was.rows() != Some(rows) {
        return None;
    }
    let width = was.len() / rows.max(1);
    if let (Some(was), Some(is)) = (was.as_strings(), is.as_strings()) {
        for (index, (was, is)) in was.iter().zip(is).enumerate() {
            differs[index / width.max(1)] |= was != is;
        }
        return Some(());
    }
    let tolerance = tolerance(was.dtype());
    let (was, is) = (doubles(was)?, doubles(is)?);
    for (index, (was, is)) in was.iter().zip(&is).enumerate() {
        let apart = (was - is).abs();
        let is_close = was == is
            || (was.is_nan() && is.is_nan())
            || apart <= tolerance
            || apart <= tolerance * was.abs();
        differs[index / width.max(1)] |= !is_close;
    }
    Some(())
}

/// The columns of scores of an output: the second of two probabilities, the only number, each of several classes.
fn scores(value: &Value) -> Option<Vec<Vec<f64>>> {
    let [tensor] = value.tensors() else {
        return None;
    };
    let rows = tensor
        .rows()
        .filter(|rows| *rows > 0 && tensor.dtype().is_float())?;
    let values = doubles(tensor)?;
    let width = values.len() / rows;
    let column = |column: usize| values.iter().skip(column).step_by(width).copied().collect();
    match width {
        0 => None,
        2 => Some(vec![column(1)]),
        width => Some((0..width).map(column).collect()),
    }
}

/// Numbers as doubles; `None` of text.
pub(crate) fn doubles(tensor: &Tensor) -> Option<Vec<f64>> {
    let bytes = || tensor.bytes().iter();
    Some(match tensor.dtype() {
        DType::Bool | DType::U8 => bytes().map(|value| f64::from(*value)).collect(),
        DType::I8 => tensor.to_vec::<i8>()?.into_iter().map(f64::from).collect(),
        DType::U16 => tensor.to_vec::<u16>()?.into_iter().map(f64::from).collect(),
        DType::I16 => tensor.to_vec::<i16>()?.into_iter().map(f64::from).collect(),
        DType::U32 => tensor.to_vec::<u32>()?.into_iter().map(f64::from).collect(),
        DType::I32 => tensor.to_vec::<i32>()?.into_iter().map(f64::from).collect(),
        DType::U64 => tensor
            .to_vec::<u64>()?
            .into_iter()
            .map(|value| value as f64)
            .collect(),
        DType::I64 => tensor
            .to_vec::<i64>()?
            .into_iter()
            .map(|value| value as f64)
            .collect(),
        DType::F16 => tensor
            .to_vec::<half::f16>()?
            .into_iter()
            .map(f64::from)
            .collect(),
        DType::Bf16 => tensor
            .to_vec::<half::bf16>()?
            .into_iter()
            .map(f64::from)
            .collect(),
        DType::F32 => tensor.to_vec::<f32>()?.into_iter().map(f64::from).collect(),
        DType::F64 => tensor.to_vec::<f64>()?,
        DType::String => return None,
    })
}
