//! The baseline of a model: what its data looked like when it was trained or validated.
//!
//! A file, `baseline.json`, in the form of `statistics.json` of Amazon SageMaker Model Monitor, whose own files are read as
//! well. What that form has no place for is below one more key, `onstage`.

mod learn;
mod statistics;

use std::path::Path;

pub use self::learn::{Learner, Sketch};
pub use self::statistics::{ByScore, Content, ContentError, Dataset, Extra, FeatureStatistics};

use super::reference::Reference;
use crate::model::small_file;

/// The name of the file in a package.
pub const FILE: &str = "baseline.json";

/// Larger files are no baseline: 10,000 columns with a thousand values each are less.
const LARGEST: u64 = 64 << 20;

/// Most features of one.
const MOST_FEATURES: usize = 10_000;

/// What a window is compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// Columns first, then outputs.
    pub features: Vec<Reference>,
    /// How often the model was right in each bin of its score.
    pub accuracy: Option<Accuracy>,
    /// Rows of the data.
    pub rows: u64,
    /// The digest of the data.
    pub data: Option<String>,
}

/// How often the model was right, by its score.
#[derive(Debug, Clone, PartialEq)]
pub struct Accuracy {
    /// The output that is the score.
    pub feature: String,
    /// The share of right answers in each of its bins; none where no row was.
    pub by_bin: Vec<Option<f64>>,
}

/// Why a file is no baseline.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// It cannot be read.
    #[error("cannot read baseline `{path}`: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's reason.
        error: std::io::Error,
    },
    /// It is no JSON of that form.
    #[error(
        "baseline `{path}` is not in the form of SageMaker's `statistics.json`: {reason}; `onstage baseline` writes one"
    )]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl Baseline {
    /// Reads a file.
    ///
    /// # Errors
    /// [`BaselineError`].
    pub fn read(path: &Path) -> Result<Self, BaselineError> {
        let shown = || path.display().to_string();
        let unreadable = |error| BaselineError::Unreadable {
            path: shown(),
            error,
        };
        let text = small_file::read(path, LARGEST).map_err(unreadable)?;
        Self::parse(&text).map_err(|reason| BaselineError::Malformed {
            path: shown(),
            reason: reason.to_string(),
        })
    }

    /// The reference of this feature.
    pub fn feature(&self, name: &str) -> Option<&Reference> {
        self.features.iter().find(|feature| feature.name == name)
    }
}
