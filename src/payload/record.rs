//! One request as the log keeps it: copies of its own, so that a record holds no more memory than it says.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use twox_hash::XxHash3_64;

use super::layout::{Plan, WIDEST};
use crate::model::{Batch, ModelId, Signature};
use crate::tensor::{DType, Labels, Storage, Tensor, Value};

/// What a record takes beside its values: texts, books of the queue.
const OVERHEAD: usize = 512;

/// In which role a version answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It serves.
    Serving,
    /// It was asked as well, and its answer was thrown away.
    Shadow,
    /// It gets a part of the traffic.
    Canary,
}

impl Role {
    /// The value of `_role`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Shadow => "shadow",
            Self::Canary => "canary",
        }
    }
}

/// One request.
#[derive(Debug)]
pub struct Record {
    /// Its id.
    pub request_id: String,
    /// When it came.
    pub time: SystemTime,
    /// Who answered.
    pub model: ModelId,
    /// The alias or stage by which it was found.
    pub alias: Option<String>,
    /// In which role.
    pub role: Role,
    /// The HTTP status of the answer, whatever the protocol.
    pub status: u16,
    /// What kind of failure; `None` of an answer.
    pub error_code: Option<&'static str>,
    /// How long it took.
    pub duration: Duration,
    /// The name that its caller proved.
    pub caller: Option<Arc<str>>,
    /// The headers that are kept, in the order of the options.
    pub headers: Vec<Option<String>>,
    /// The share of requests that were kept when it was.
    pub fraction: f64,
    /// The body of a failed request, where it is kept.
    pub(super) body: Option<Bytes>,
    /// What the columns of this version are.
    pub(super) plan: Arc<Plan>,
    /// What the model saw and answered; `None` of a failed request.
    pub(super) seen: Option<Seen>,
}

impl Record {
    /// Rows of the log.
    pub(super) fn rows(&self) -> usize {
        self.seen.as_ref().map_or(1, |seen| seen.rows)
    }

    /// Bytes of memory.
    pub(super) fn size(&self) -> usize {
        let texts = self.request_id.len()
            + self
                .headers
                .iter()
                .flatten()
                .map(String::len)
                .sum::<usize>();
        let body = self.body.as_ref().map_or(0, Bytes::len);
        OVERHEAD + texts + body + self.seen.as_ref().map_or(0, Seen::size)
    }
}

/// What a model saw and answered.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) rows: usize,
    /// In the order of the signature.
    pub(super) inputs: Vec<Kept>,
    pub(super) outputs: Vec<Kept>,
}

/// What is kept of one tensor.
#[derive(Debug)]
pub(super) enum Kept {
    Values(Tensor),
    /// A tensor that is too large to be columns: its shape and a hash for each row, or one hash when it has no rows.
    Digest {
        shape: Vec<usize>,
        hashes: Vec<u64>,
    },
    Maps(Labels, Tensor),
}

impl Seen {
    /// Copies what a model of this signature saw and answered. The values of wide tensors are kept with `tensors` only.
    pub(super) fn capture(
        signature: &Signature,
        batch: &Batch,
        outputs: &[Value],
        tensors: bool,
    ) -> Self {
        let rows = batch.rows();
        let sent = signature.as_sent(batch);
        let inputs = sent.map(|(_, tensor)| Kept::tensor(&tensor, rows, tensors));
        let inputs = inputs.collect();
        let outputs = outputs.iter().map(|value| match value {
            Value::Tensor(tensor) => Kept::tensor(tensor, rows, tensors),
            Value::Maps(maps) => Kept::Maps(maps.labels.clone(), copy(&maps.scores)),
            Value::Sequence(parts) => Kept::sequence(parts),
        });
        Self {
            rows,
            inputs,
            outputs: outputs.collect(),
        }
    }

    fn size(&self) -> usize {
        self.inputs
            .iter()
            .chain(&self.outputs)
            .map(Kept::size)
            .sum()
    }
}

impl Kept {
    fn tensor(tensor: &Tensor, rows: usize, tensors: bool) -> Self {
        let has_rows = tensor.rows() == Some(rows);
        let inner = if has_rows {
            &tensor.shape()[1..]
        } else {
            tensor.shape()
        };
        let is_wide = inner.len() > 1 || inner.iter().any(|width| *width > WIDEST);
        if !is_wide || tensors {
            return Self::Values(copy(tensor));
        }
        Self::Digest {
            shape: inner.to_vec(),
            hashes: hashes(tensor, if has_rows { rows } else { 1 }),
        }
    }

    /// A sequence has no axis of rows: one hash of all of its tensors.
    fn sequence(parts: &[Tensor]) -> Self {
        let all: Vec<u8> = parts
            .iter()
            .flat_map(|part| hashes(part, 1))
            .flat_map(u64::to_le_bytes)
            .collect();
        Self::Digest {
            shape: vec![parts.len()],
            hashes: vec![XxHash3_64::oneshot(&all)],
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Values(tensor) => tensor.size(),
            Self::Digest { hashes, .. } => size_of_val(hashes.as_slice()),
            Self::Maps(labels, scores) => scores.size() + 32 * labels.len(),
        }
    }
}

/// A hash for each of so many rows.
pub(super) fn hashes(tensor: &Tensor, rows: usize) -> Vec<u64> {
    if let Some(texts) = tensor.as_strings() {
        let width = texts.len() / rows.max(1);
        let row = |row: usize| {
            let texts = texts[row * width..][..width].iter();
            // The length in front keeps ["ab", "c"] and ["a", "bc"] apart.
            let parts =
                texts.flat_map(|text| [&text.len().to_le_bytes()[..], text.as_bytes()].concat());
            XxHash3_64::oneshot(&parts.collect::<Vec<u8>>())
        };
        return (0..rows).map(row).collect();
    }
    let bytes = tensor.bytes();
    let width = bytes.len() / rows.max(1);
    (0..rows)
        .map(|row| XxHash3_64::oneshot(&bytes[row * width..][..width]))
        .collect()
}

/// The same tensor in memory of its own: what it came from may be a part of something much larger.
fn copy(tensor: &Tensor) -> Tensor {
    if tensor.dtype() == DType::String {
        return tensor.clone();
    }
    let storage = Storage::Shared(Bytes::copy_from_slice(tensor.bytes()));
    let copied = Tensor::from_storage(tensor.dtype(), tensor.shape().to_vec(), storage);
    let copied = copied.expect("the same bytes fill the same shape");
    // Readers ask for aligned elements.
    match copied.aligned() {
        Cow::Owned(aligned) => aligned,
        Cow::Borrowed(_) => copied,
    }
}
