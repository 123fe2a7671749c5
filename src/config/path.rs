//! Keys as they stand in a file, and where a value comes from.

use std::fmt;
use std::path::PathBuf;

/// A key: `server.port`, or `models.fraud.engine`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath(Vec<String>);

impl KeyPath {
    /// The key with these parts.
    pub fn new(parts: Vec<String>) -> Self {
        Self(parts)
    }

    /// The key written with dots; for keys outside of `models`.
    pub fn parse(dotted: &str) -> Self {
        Self(dotted.split('.').map(str::to_owned).collect())
    }

    /// The parts, outermost first.
    pub fn parts(&self) -> &[String] {
        &self.0
    }

    /// The model's name in a key of a model.
    pub fn model(&self) -> Option<String> {
        match self.0.as_slice() {
            [section, name, _, ..] if section == "models" => Some(name.clone()),
            _ => None,
        }
    }

    pub(super) fn child(&self, part: &str) -> Self {
        let mut parts = self.0.clone();
        parts.push(part.to_owned());
        Self(parts)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            if !part.is_empty() && part.chars().all(bare) {
                write!(f, "{dot}{part}")?;
            } else {
                write!(f, "{dot}{part:?}")?;
            }
        }
        Ok(())
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A configuration file.
    File {
        /// The file, as given.
        path: PathBuf,
        /// The line, where it could be told.
        line: Option<usize>,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: None } => write!(f, "`{}`", path.display()),
            Self::File {
                path,
                line: Some(line),
            } => write!(f, "`{}`, line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable `{name}`"),
            Self::Flag(flag) => write!(f, "flag `{flag}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_toml_must_quote_are_quoted() {
        let path = |name: &str| {
            KeyPath::parse("models")
                .child(name)
                .child("engine")
                .to_string()
        };
        assert_eq!(path("fraud-2"), "models.fraud-2.engine");
        assert_eq!(path("fraud v2.1"), r#"models."fraud v2.1".engine"#);
    }
}
