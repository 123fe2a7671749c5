//! A scoring request from a package's input example.

use std::path::Path;

use super::confine::Confined;
use super::error::PackageError;
use crate::model::{ExampleInfo, small_file};

/// Larger examples are refused unread.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The ready request that MLflow saves, else one around the saved data. Texts are joined, not parsed: the data may hold
/// the `NaN` that Python writes.
pub(crate) fn request(
    root: &Confined,
    info: &ExampleInfo,
) -> Result<Option<Vec<u8>>, PackageError> {
    if let Some(ready) = &info.serving_input_path {
        return read(root, ready).map(Some);
    }
    let key = match info.kind.as_str() {
        "dataframe" => "dataframe_split",
        "ndarray" | "json_object" => "inputs",
        // Sparse matrices: MLflow's server does not take them either.
        _ => return Ok(None),
    };
    let data = read(root, &info.artifact_path)?;
    let data = data.trim_ascii();
    if info.has_params {
        return with_params(data, key)
            .map(Some)
            .ok_or_else(|| PackageError::Example {
                file: root.path().join(&info.artifact_path),
                reason: "has no `inputs` beside its `params`; expected `{\"inputs\": …, \"params\": …}`",
            });
    }
    // Data frames saved by other tools may be lists of records.
    let is_records = data.first() == Some(&b'[') && key == "dataframe_split";
    let key = if is_records { "dataframe_records" } else { key };
    Ok(Some(join(key, data, b"}")))
}

/// `{"inputs": DATA, "params": …}` with the key that the data needs.
fn with_params(text: &[u8], key: &str) -> Option<Vec<u8>> {
    let rest = text.strip_prefix(b"{")?.trim_ascii_start();
    let rest = rest.strip_prefix(b"\"inputs\"")?.trim_ascii_start();
    let rest = rest.strip_prefix(b":")?.trim_ascii_start();
    Some(join(key, rest, b""))
}

fn join(key: &str, data: &[u8], end: &[u8]) -> Vec<u8> {
    let mut request = format!("{{\"{key}\": ").into_bytes();
    request.extend(data);
    request.extend(end);
    request
}

fn read(root: &Confined, relative: &Path) -> Result<Vec<u8>, PackageError> {
    let file = root.file("input example", relative)?;
    let length = file.metadata().map_err(PackageError::io(&file))?.len();
    if length > MAX_BYTES {
        return Err(PackageError::Example {
            file,
            reason: "has more than 64 MiB; log the model with a smaller example",
        });
    }
    small_file::read(&file, MAX_BYTES).map_err(PackageError::io(&file))
}
