//! What moves between versions: stages and aliases.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A stage of MLflow's registry. Written in any case, shown as MLflow does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// No stage.
    None,
    /// Being tried.
    Staging,
    /// In use.
    Production,
    /// No longer in use.
    Archived,
}

/// A movable name for one version of a model, such as `champion`: letters, digits, `_` and `-`, at most 255, neither
/// `latest` nor `v` and a number, as MLflow has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Alias(String);

/// What decides which version of a model is wanted. Written `@champion` or `Production`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pointer {
    /// A movable name.
    Alias(Alias),
    /// A lifecycle label; of several versions in it the highest counts.
    Stage(Stage),
}

/// Why a text names no stage or alias.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// No such stage.
    #[error(
        "unknown stage `{0}`: expected `Staging`, `Production`, `Archived` or `None`; an alias is written `@{0}`"
    )]
    Stage(String),
    /// Not an alias that MLflow would take.
    #[error("invalid alias `{alias}`: {reason}")]
    Alias {
        /// The text.
        alias: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 4] = [Self::None, Self::Staging, Self::Production, Self::Archived];

    /// The name as MLflow writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Staging => "Staging",
            Self::Production => "Production",
            Self::Archived => "Archived",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Stage {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Self, PointerError> {
        let known = |stage: &Self| stage.as_str().eq_ignore_ascii_case(text);
        let found = Self::ALL.into_iter().find(known);
        found.ok_or_else(|| PointerError::Stage(text.escape_debug().to_string()))
    }
}

impl Alias {
    /// A checked alias, without the `@`.
    ///
    /// # Errors
    /// [`PointerError::Alias`] with the reason.
    pub fn new(alias: impl Into<String>) -> Result<Self, PointerError> {
        let alias = alias.into();
        let allowed = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
        let numbered = alias
            .strip_prefix(['v', 'V'])
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()));
        let reason = match alias.as_str() {
            "" => "it is empty",
            text if text.len() > 255 => "it is longer than 255 characters",
            text if !text.chars().all(allowed) => "only letters, digits, `_` and `-` are allowed",
            text if text.eq_ignore_ascii_case("latest") => "`latest` means the highest version",
            _ if numbered => "it looks like a version",
            _ => return Ok(Self(alias)),
        };
        Err(PointerError::Alias {
            alias: alias.escape_debug().to_string(),
            reason,
        })
    }

    /// The alias as text, without the `@`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Alias {
    type Error = PointerError;

    fn try_from(alias: String) -> Result<Self, PointerError> {
        Self::new(alias)
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Pointer {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Self, PointerError> {
        match text.strip_prefix('@') {
            Some(alias) => Alias::new(alias).map(Self::Alias),
            None => text.parse().map(Self::Stage),
        }
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alias(alias) => write!(f, "@{alias}"),
            Self::Stage(stage) => write!(f, "{stage}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_read_in_any_case_and_shown_as_mlflow_does() {
        assert_eq!("pRODUCTION".parse(), Ok(Pointer::Stage(Stage::Production)));
        assert_eq!(Stage::Staging.to_string(), "Staging");
        assert_eq!(
            "prod".parse::<Pointer>().unwrap_err().to_string(),
            "unknown stage `prod`: expected `Staging`, `Production`, `Archived` or `None`; an alias is written `@prod`"
        );
    }

    #[test]
    fn aliases_are_those_that_mlflow_takes() {
        for alias in ["champion", "Champion", "a-b_c", "v", "v2x", "2"] {
            assert_eq!(
                format!("@{alias}").parse::<Pointer>().unwrap().to_string(),
                format!("@{alias}")
            );
        }
        for alias in ["", "latest", "Latest", "v12", "V1", "a b", "a/b", "ä"] {
            assert!(Alias::new(alias).is_err(), "{alias:?}");
        }
    }
}
