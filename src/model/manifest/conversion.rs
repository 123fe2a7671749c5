//! The way out for a package that only Python can load: the command that converts it.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use super::FlavorNames;
use crate::model::{ModelId, ModelName};

/// The flavors that `onstage-convert` takes.
const CONVERTIBLE: [&str; 5] = ["sklearn", "lightgbm", "xgboost", "catboost", "pytorch"];

/// How to convert one package, named as its user knows it: never by a file of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversion {
    /// What is to be converted.
    source: String,
    /// Where the result goes.
    target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Directory(String),
    Model(String),
}

impl Conversion {
    /// Of the package in a directory of this machine, to one beside it.
    pub fn of_directory(path: &Path) -> Self {
        let source = path.display().to_string();
        // A path without a name, such as `.`, cannot be extended.
        let target = match path.file_name() {
            Some(name) => path.with_file_name(format!("{}-onnx", name.display())),
            None => path.join("onnx"),
        };
        Self {
            source,
            target: Target::Directory(target.display().to_string()),
        }
    }

    /// Of a registered version, to a new version of the same model.
    pub fn of_version(id: &ModelId) -> Self {
        Self {
            source: format!("models:/{}/{}", id.name, id.version),
            target: Target::Model(id.name.to_string()),
        }
    }

    /// Of what a URI names, to a directory called after the model.
    pub fn of_uri(uri: &str, name: &ModelName) -> Self {
        Self {
            source: uri.to_owned(),
            target: Target::Directory(format!("{name}-onnx")),
        }
    }

    /// What is to be converted, as its user knows it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What to do about a package with these flavors.
    pub(super) fn advice(&self, flavors: &FlavorNames) -> String {
        if flavors
            .0
            .iter()
            .any(|flavor| CONVERTIBLE.contains(&flavor.as_str()))
        {
            return format!("convert it to ONNX (docs/guides/convert.md): `{self}`");
        }
        "convert it to ONNX by an exporter of its library, and log the result with `mlflow.onnx.log_model` \
         (docs/guides/convert.md)"
            .to_owned()
    }
}

/// The command, to be pasted into a shell.
impl fmt::Display for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (flag, target) = match &self.target {
            Target::Directory(path) => ("-o", path),
            Target::Model(name) => ("--register", name),
        };
        let (source, target) = (word(&self.source), word(target));
        write!(f, "onstage-convert {source} {flag} {target}")
    }
}

/// One word of a shell; no path or name has a NUL, which no shell can take.
fn word(text: &str) -> Cow<'_, str> {
    shlex::try_quote(text).unwrap_or(Cow::Borrowed(text))
}
