//! Larger models than the examples, with random weights, made by the script of the harness.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::contender::python;

/// Makes `NAME-1.onnx` in a directory of its own.
pub(crate) fn made(name: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/harness/models.py");
    let mut command = Command::new(python());
    let status = command.args([script, name]).arg(directory.path()).status();
    assert!(status.unwrap().success(), "{script} {name}");
    let file = directory.path().join(format!("{name}.onnx"));
    std::fs::rename(directory.path().join(format!("{name}-1.onnx")), &file).unwrap();
    (directory, file)
}
