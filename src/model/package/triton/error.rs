//! Why a configuration, or a part of it, is not used.

use std::io;

use crate::model::package::error::PackageError;

/// Why a file has no text.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("it {0}")]
    TooLarge(io::Error),
    #[error("{0}")]
    Io(io::Error),
}

/// Why an output has no labels.
#[derive(Debug, thiserror::Error)]
pub(super) enum LabelsError {
    #[error("{0}")]
    Directory(io::Error),
    /// It is not there, or outside of the model's directory.
    #[error("`{file}` {reason}")]
    Place { file: String, reason: &'static str },
    #[error("{0}")]
    Package(PackageError),
    #[error("`{file}`: {error}")]
    File { file: String, error: FileError },
}

/// Why a tensor keeps the shape of the graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReshapeError {
    #[error("only tensors have shapes")]
    NotATensor,
    #[error("expected at most {most} dimensions")]
    TooManyDimensions { most: usize },
    #[error("the graph has another shape than [{shape}]")]
    OtherShape { shape: String },
    #[error("`{0}` is no dimension, expected a whole number, or -1 for any")]
    Dimension(String),
    #[error(
        "[{dims}] and [{shape}] do not hold the same number of elements, between dimensions of any size too"
    )]
    Elements { dims: String, shape: String },
}
