//! Which changes of the contract a new version may bring.

use std::fmt;
use std::str::FromStr;

use super::{Change, Comparison, compare};
use crate::model::Package;

/// How much of its predecessor's contract a new version has to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignaturePolicy {
    /// What clients need: the version may take more and give more.
    #[default]
    Compatible,
    /// All of it.
    Exact,
    /// Nothing.
    Any,
}

/// One row per policy.
const POLICIES: [(SignaturePolicy, &str); 3] = [
    (SignaturePolicy::Compatible, "compatible"),
    (SignaturePolicy::Exact, "exact"),
    (SignaturePolicy::Any, "any"),
];

/// Not the name of a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signature policy `{}`: expected `compatible`, `exact` or `any`", .0.escape_debug())]
pub struct PolicyError(String);

/// Changes of the contract that a policy does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the contract changed in a way that signature policy `{policy}` does not allow: {}",
    changes.join("; ")
)]
pub struct ContractError {
    /// The policy.
    pub policy: SignaturePolicy,
    /// The changes, in words.
    pub changes: Vec<String>,
}

impl SignaturePolicy {
    /// Whether `new` may take the place of `old`.
    ///
    /// # Errors
    /// [`ContractError`] with the changes that it does not allow.
    pub fn check(self, old: &Package, new: &Package) -> Result<(), ContractError> {
        match self {
            Self::Any => Ok(()),
            Self::Compatible | Self::Exact => self.judge(&compare(old, new)),
        }
    }

    /// Whether these changes are allowed.
    ///
    /// # Errors
    /// [`ContractError`] with those that are not.
    pub fn judge(self, comparison: &Comparison) -> Result<(), ContractError> {
        let changes: Vec<String> = match self {
            Self::Any => return Ok(()),
            Self::Compatible => comparison.incompatible().map(Change::to_string).collect(),
            Self::Exact => comparison.changes.iter().map(Change::to_string).collect(),
        };
        if changes.is_empty() {
            return Ok(());
        }
        Err(ContractError {
            policy: self,
            changes,
        })
    }
}

impl FromStr for SignaturePolicy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let row = POLICIES.iter().find(|row| row.1 == text);
        row.map(|row| row.0)
            .ok_or_else(|| PolicyError(text.to_owned()))
    }
}

impl fmt::Display for SignaturePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = POLICIES.iter().find(|row| row.0 == *self);
        f.write_str(row.expect("the table has a row for each policy").1)
    }
}
