//! Which model a request means.

use super::error::OipError;
use crate::model::ModelName;
use crate::serving::{Selector, VersionSelector};

/// The model of this name; without a version the server chooses.
///
/// # Errors
/// A name or version that no model can have.
pub(crate) fn select(model: String, version: Option<&str>) -> Result<Selector, OipError> {
    let model = ModelName::new(model).map_err(|error| OipError::NotFound(error.to_string()))?;
    let version = match version {
        Some(version) => VersionSelector::Exactly(
            version
                .parse()
                .map_err(|error| OipError::NotFound(format!("{error}")))?,
        ),
        None => VersionSelector::Default,
    };
    Ok(Selector {
        model: Some(model),
        version,
    })
}
