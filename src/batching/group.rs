//! Outputs of several requests in one, and taken apart again.

use crate::engine::Outputs;
use crate::tensor::Value;

/// The outputs of each request, which brought so many rows; `None` when an output does not have all of them.
pub fn split_outputs(outputs: &Outputs, rows: &[usize]) -> Option<Vec<Outputs>> {
    let all: usize = rows.iter().sum();
    if !outputs.iter().all(|output| output.rows() == Some(all)) {
        return None;
    }
    let mut start = 0;
    let parts = rows.iter().map(|rows| {
        let range = start..start + rows;
        start = range.end;
        outputs
            .iter()
            .map(|output| output.rows_of(range.clone()))
            .collect::<Option<Outputs>>()
    });
    parts.collect()
}

/// The outputs of one request that was run in parts; `None` when they do not fit together.
pub(super) fn join_outputs(parts: &[Outputs]) -> Option<Outputs> {
    let outputs = parts.first()?.len();
    let joined = (0..outputs).map(|output| {
        let values: Option<Vec<&Value>> = parts.iter().map(|part| part.get(output)).collect();
        Value::join_rows(&values?)
    });
    joined.collect()
}
