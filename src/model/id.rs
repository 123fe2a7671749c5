//! Names and versions of models.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a registered model: the stream of versions that a client asks for.
///
/// Holds what MLflow allows: any text without `/`, `:` and control characters, and not `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ModelName(String);

/// One version of a model: a decimal number, as MLflow and Triton count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

/// A model and one of its versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ModelId {
    /// The model.
    pub name: ModelName,
    /// Its version.
    pub version: Version,
}

/// Why a text is no model name or version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The name is empty, reserved, or holds a character that it may not.
    #[error("invalid model name `{name}`: {reason}")]
    Name {
        /// The text, control characters escaped.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The version is no positive decimal number.
    #[error("invalid version `{0}`: expected a decimal number such as `3`")]
    Version(String),
}

impl ModelName {
    /// A checked name.
    ///
    /// # Errors
    /// [`IdError::Name`] with the reason.
    pub fn new(name: impl Into<String>) -> Result<Self, IdError> {
        let name = name.into();
        let reason = match name.as_str() {
            "" => "it is empty",
            "." | ".." => "it names a directory",
            "stats" => "`/v2/models/stats` is a path of the protocol",
            text if text.len() > 256 => "it is longer than 256 bytes",
            text if text.contains(['/', '\\', ':']) => "`/`, `\\` and `:` are not allowed",
            text if text.contains(char::is_control) => "control characters are not allowed",
            _ => return Ok(Self(name)),
        };
        Err(IdError::Name {
            name: name.escape_debug().to_string(),
            reason,
        })
    }

    /// The name that is most like `text`, for what has to be called something although it may not be called that.
    pub fn nearest(text: &str) -> Self {
        let allowed = |c: char| match c {
            '/' | '\\' | ':' => '_',
            c if c.is_control() => '_',
            c => c,
        };
        let mut name: String = text.chars().map(allowed).collect();
        while name.len() > 256 {
            name.pop();
        }
        Self::new(name.as_str()).unwrap_or_else(|_| Self(format!("{name}_")))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ModelName {
    type Error = IdError;

    fn try_from(name: String) -> Result<Self, IdError> {
        Self::new(name)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Version {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits
            .then(|| text.parse().ok())
            .flatten()
            .map(Self)
            .ok_or_else(|| IdError::Version(text.escape_debug().to_string()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_what_mlflow_allows() {
        for name in ["iris", "fraud v2.1", "größe", "a@b", "-"] {
            assert!(ModelName::new(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a:b", "a\\b", "a\nb", "stats"] {
            assert!(ModelName::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn the_nearest_name_is_one() {
        let long = "ä".repeat(300);
        for (text, nearest) in [
            ("iris", "iris"),
            ("a:b\n/c\\", "a_b__c_"),
            ("stats", "stats_"),
            ("", "_"),
            ("..", ".._"),
            (&long, &"ä".repeat(128)),
        ] {
            let name = ModelName::nearest(text);
            assert_eq!(name.as_str(), nearest);
            assert_eq!(ModelName::new(nearest), Ok(name));
        }
    }

    #[test]
    fn versions_are_decimal_numbers() {
        assert_eq!("12".parse(), Ok(Version(12)));
        for text in ["", "v1", "-1", "+1", "1.0", "99999999999999999999999"] {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
    }
}
