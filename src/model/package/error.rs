//! What can be wrong with a package.

use std::io;
use std::path::{Path, PathBuf};

use super::fit::Misfit;
use crate::error::{ErrorKind, Kinded};
use crate::model::{Conversion, GraphError, IdError, ManifestError, ModelId};

/// Why a directory is no package that can be served.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Nothing has this path.
    #[error("model path `{}` does not exist{}", path.display(), hint(.similar))]
    NotFound {
        /// The path as given.
        path: PathBuf,
        /// A path beside it that looks like it.
        similar: Option<PathBuf>,
    },
    /// The operating system refused.
    #[error("cannot read `{}`: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// A file of another kind.
    #[error(
        "`{}` is no model; expected a package directory (with an `MLmodel` file) or an `.onnx` file",
        .0.display()
    )]
    NotAModel(PathBuf),
    /// A directory without anything that looks like a model.
    #[error(
        "`{}` holds no model: looked for an `MLmodel` file, an `.onnx` file, version directories such as \
         `1/model.onnx`, and directories with one of these; found {found}",
        path.display()
    )]
    Nothing {
        /// The directory.
        path: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// A directory that could stand for several models.
    #[error(
        "`{}` holds several models and no `MLmodel` file that chooses one: {}; name one of the files",
        path.display(),
        list(files)
    )]
    SeveralModels {
        /// The directory.
        path: PathBuf,
        /// The candidates.
        files: Vec<String>,
    },
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The graph is wrong.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The name that follows from the path or the registry cannot be a model's.
    #[error("package `{}`: {error}; choose another name with `--name`", path.display())]
    Name {
        /// The package.
        path: PathBuf,
        /// The reason.
        error: IdError,
    },
    /// One name for several models.
    #[error(
        "`{}` holds {count} packages, and one name stands for a single model: name one of them",
        path.display()
    )]
    SeveralPackages {
        /// The directory.
        path: PathBuf,
        /// How many are in it.
        count: usize,
    },
    /// Two packages of one version.
    #[error(
        "`{}` and `{}` are both model `{}` version {}: rename one, or serve it with `--name`",
        path.display(),
        other.display(),
        id.name,
        id.version
    )]
    Twice {
        /// What both are.
        id: ModelId,
        /// The first one.
        path: PathBuf,
        /// The second one.
        other: PathBuf,
    },
    /// The note that a registry client leaves is damaged.
    #[error("`{}` is not valid: {reason}; expected `model_name` and `model_version`", path.display())]
    RegisteredMeta {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file that the package uses is not inside it.
    #[error("package `{}`: {part} `{}` {reason}; a package may use only files inside its own directory", root.display(), file.display())]
    Outside {
        /// The package.
        root: PathBuf,
        /// What the file is used for.
        part: String,
        /// The path as written in the package.
        file: PathBuf,
        /// How it leaves the package.
        reason: &'static str,
    },
    /// A file that the package uses is not there.
    #[error("package `{}`: {part} `{}` {reason}; copy the whole package again, with all its files", root.display(), file.display())]
    Missing {
        /// The package.
        root: PathBuf,
        /// What the file is used for.
        part: String,
        /// The path as written in the package.
        file: PathBuf,
        /// `is missing`, or what is there instead.
        reason: &'static str,
    },
    /// External data that ends before a tensor does.
    #[error(
        "package `{}`: tensor `{tensor}` needs {needed} bytes of `{}`, which has {found}; the file is cut off: copy it again",
        root.display(),
        file.display()
    )]
    ExternalData {
        /// The package.
        root: PathBuf,
        /// The tensor.
        tensor: String,
        /// The file, as written in the model.
        file: PathBuf,
        /// Where the tensor ends.
        needed: u64,
        /// Where the file ends.
        found: u64,
    },
    /// The signature and the graph cannot both be right.
    #[error(
        "package `{}`: the signature contradicts the graph: {misfit}; log the model again with a signature of the graph's own inputs",
        root.display()
    )]
    Misfit {
        /// The package.
        root: PathBuf,
        /// The contradiction.
        misfit: Misfit,
    },
    /// More files than any package has.
    #[error("package `{}` holds more than {limit} files and directories; is it another directory?", root.display())]
    TooManyFiles {
        /// The package.
        root: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// Directories nested deeper than in any package.
    #[error("package `{}` has more than {limit} directories inside each other; is it another directory?", root.display())]
    TooDeep {
        /// The package.
        root: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// The input example is not what the manifest says.
    #[error("input example `{}` {reason}", file.display())]
    Example {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

impl PackageError {
    /// Whether the package is whole, and of a kind that is not served.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Manifest(error) if error.kind() == ErrorKind::Unsupported)
    }

    /// The same about a package that its user knows by another name than the path of its files.
    #[must_use]
    pub(crate) fn named(self, conversion: Conversion) -> Self {
        match self {
            Self::Manifest(error) => Self::Manifest(error.named(conversion)),
            error => error,
        }
    }

    /// Turns an I/O error about `path` into an error of this kind.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |error| Self::Io {
            path: path.to_owned(),
            error,
        }
    }
}

impl Kinded for PackageError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::Nothing { .. } => ErrorKind::NotFound,
            Self::Manifest(error) => error.kind(),
            Self::Graph(error) => error.kind(),
            _ => ErrorKind::InvalidArgument,
        }
    }
}

fn hint(similar: &Option<PathBuf>) -> String {
    let hint = |path: &PathBuf| format!("; did you mean `{}`?", path.display());
    similar.as_ref().map(hint).unwrap_or_default()
}

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
