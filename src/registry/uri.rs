//! `models:/…` and `runs:/…`: how MLflow names a version.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::{Alias, IdError, ModelName, Pointer, PointerError, Stage, Version};

/// A parsed URI.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ModelUri {
    /// A registered model: `models:/name/3`, `models:/name/latest`, `models:/name/Production`, `models:/name@champion`.
    Registered {
        /// The registered name.
        name: ModelName,
        /// Which version.
        which: Which,
    },
    /// A logged model, `models:/m-<32 hex digits>`: never changes.
    Logged(String),
    /// Artifacts of a run, `runs:/<run id>/<path>`: never changes.
    Run {
        /// The run.
        run: String,
        /// The artifact path.
        path: String,
    },
}

/// Which version of a registered model a [`ModelUri`] means.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Which {
    /// This one, for good.
    Version(Version),
    /// The highest one, whatever its stage.
    Latest,
    /// The one that an alias or stage points to.
    Pointer(Pointer),
}

/// Why a text is no [`ModelUri`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Another scheme, or parts missing.
    #[error(
        "invalid model URI `{0}`: expected `models:/NAME/VERSION`, `models:/NAME/latest`, `models:/NAME/STAGE`, `models:/NAME@ALIAS`, `models:/m-ID` or `runs:/RUN/PATH`"
    )]
    Form(String),
    /// The name.
    #[error("invalid model URI `{uri}`: {error}")]
    Name {
        /// The whole text.
        uri: String,
        /// What is wrong with the name.
        error: IdError,
    },
    /// The alias or the stage.
    #[error("invalid model URI `{uri}`: {error}")]
    Pointer {
        /// The whole text.
        uri: String,
        /// What is wrong.
        error: PointerError,
    },
}

impl TryFrom<String> for ModelUri {
    type Error = UriError;

    fn try_from(text: String) -> Result<Self, UriError> {
        text.parse()
    }
}

impl From<ModelUri> for String {
    fn from(uri: ModelUri) -> Self {
        uri.to_string()
    }
}

impl ModelUri {
    /// Whether `text` is meant as one: it begins with `models:` or `runs:`.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("models:") || text.starts_with("runs:")
    }
}

impl FromStr for ModelUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let form = || UriError::Form(text.escape_debug().to_string());
        if let Some(rest) = text.strip_prefix("runs:/") {
            let (run, path) = rest.split_once('/').ok_or_else(form)?;
            let is_id = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric());
            let climbs = path.split('/').any(|part| matches!(part, "" | "." | ".."));
            if !is_id(run) || climbs {
                return Err(form());
            }
            return Ok(Self::Run {
                run: run.to_owned(),
                path: path.to_owned(),
            });
        }
        let rest = text.strip_prefix("models:/").ok_or_else(form)?;
        if is_logged_model(rest) {
            return Ok(Self::Logged(rest.to_owned()));
        }
        let pointer = |error| UriError::Pointer {
            uri: text.to_owned(),
            error,
        };
        let (name, which) = match (rest.split_once('/'), rest.rsplit_once('@')) {
            (Some((name, which)), _) => (name, parse_which(which).map_err(pointer)?),
            (None, Some((name, alias))) => {
                let alias = Alias::new(alias).map_err(pointer)?;
                (name, Which::Pointer(Pointer::Alias(alias)))
            }
            (None, None) => return Err(form()),
        };
        let name = ModelName::new(name).map_err(|error| UriError::Name {
            uri: text.to_owned(),
            error,
        })?;
        Ok(Self::Registered { name, which })
    }
}

/// `m-` and 32 hexadecimal digits.
fn is_logged_model(text: &str) -> bool {
    text.strip_prefix("m-")
        .is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn parse_which(text: &str) -> Result<Which, PointerError> {
    if let Ok(version) = text.parse() {
        return Ok(Which::Version(version));
    }
    if text.eq_ignore_ascii_case("latest") {
        return Ok(Which::Latest);
    }
    let stage: Stage = text.parse()?;
    Ok(Which::Pointer(Pointer::Stage(stage)))
}

impl fmt::Display for ModelUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { name, which } => match which {
                Which::Version(version) => write!(f, "models:/{name}/{version}"),
                Which::Latest => write!(f, "models:/{name}/latest"),
                Which::Pointer(Pointer::Stage(stage)) => write!(f, "models:/{name}/{stage}"),
                Which::Pointer(Pointer::Alias(alias)) => write!(f, "models:/{name}@{alias}"),
            },
            Self::Logged(id) => write!(f, "models:/{id}"),
            Self::Run { run, path } => write!(f, "runs:/{run}/{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parsed_is_shown_again() {
        for uri in [
            "models:/iris/3",
            "models:/iris/latest",
            "models:/iris/Production",
            "models:/fraud v2.1@champion",
            "models:/a@b@champion",
            "models:/m-0123456789abcdef0123456789abcdef",
            "runs:/88fe0000/model",
            "runs:/88fe0000/deep/model",
        ] {
            assert_eq!(uri.parse::<ModelUri>().unwrap().to_string(), uri);
        }
        assert_eq!(
            "models:/iris/STAGING"
                .parse::<ModelUri>()
                .unwrap()
                .to_string(),
            "models:/iris/Staging"
        );
    }

    #[test]
    fn what_is_not_a_model_uri_is_told_so() {
        for uri in [
            "models:/",
            "models:/iris",
            "models://host/iris/1",
            "models:/iris/nope",
            "models:/iris@v1",
            "models:/a:b/1",
            "runs:/x",
            "runs:/x/",
            "runs:/x/../y",
            "runs:/x y/z",
            "s3://bucket/iris",
        ] {
            assert!(uri.parse::<ModelUri>().is_err(), "{uri}");
        }
    }
}
