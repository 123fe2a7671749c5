//! The files beside the model file that hold weights.

use serde::Serialize;

use crate::model::Package;

/// A file beside the model file that holds weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct ExternalFile {
    pub(super) file: String,
    pub(super) bytes: u64,
    pub(super) tensors: usize,
}

pub(super) fn external_files(package: &Package) -> Vec<ExternalFile> {
    let directory = package.model_file.parent().unwrap_or(&package.root);
    let mut files: Vec<ExternalFile> = Vec::new();
    for tensor in &package.graph.external_data {
        match files.iter_mut().find(|file| file.file == tensor.location) {
            Some(file) => file.tensors += 1,
            None => files.push(ExternalFile {
                file: tensor.location.clone(),
                // It was there when the package was opened.
                bytes: directory
                    .join(&tensor.location)
                    .metadata()
                    .map_or(0, |found| found.len()),
                tensors: 1,
            }),
        }
    }
    files
}
