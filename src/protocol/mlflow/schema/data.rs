//! Request data after parsing, and how it contradicts a schema.

use std::collections::HashSet;

use crate::budget::OverBudget;
use crate::protocol::meter::{Meter, block_of};
use crate::protocol::pandas::array::Array;
use crate::protocol::pandas::frame::Frame;
use crate::protocol::pandas::python::{self, PyError};

/// Names that a message lists.
const LISTED: usize = 20;

/// Request data after parsing.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    /// A data frame.
    Frame(Frame),
    /// One array.
    Array(Array),
    /// Arrays by name.
    Mapping(Vec<(String, Array)>),
    /// A list of objects, as the table that they make.
    Objects(Frame),
}

/// Why data is not what the schema asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SchemaError {
    /// It contradicts the schema.
    #[error("{0}")]
    Contradicts(String),
    /// It takes more memory than there is for the request.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

impl From<PyError> for SchemaError {
    fn from(error: PyError) -> Self {
        match error {
            PyError::OverBudget(over) => over.into(),
            error @ PyError::Raised { .. } => Self::Contradicts(error.to_string()),
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, SchemaError>;

pub(crate) fn check_names<'s>(
    specs: impl Iterator<Item = (&'s str, bool)>,
    given: impl Iterator<Item = std::borrow::Cow<'s, str>>,
    meter: &Meter,
) -> Result<()> {
    let held = meter.held();
    let mut names = Vec::new();
    for name in given {
        meter.push(&mut names, name)?;
    }
    // A set doubles.
    meter.charge(block_of::<(u8, &str)>(3 * names.len()))?;
    let known: HashSet<&str> = names.iter().map(AsRef::as_ref).collect();
    let specs: Vec<(&str, bool)> = specs.collect();
    let missing = specs
        .iter()
        .filter(|(name, required)| *required && !known.contains(name));
    let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
    if missing.is_empty() {
        meter.settle(held, 0);
        return Ok(());
    }
    let wanted: HashSet<&str> = specs.iter().map(|(name, _)| *name).collect();
    let extra = names.iter().map(AsRef::as_ref);
    let extra = extra.filter(|given| !wanted.contains(given));
    let extra: Vec<&str> = extra.take(LISTED + 1).collect();
    let mut message = format!("Model is missing inputs {}.", name_list(&missing));
    if !extra.is_empty() {
        message += &format!(" Note that there were extra inputs: {}.", name_list(&extra));
    }
    Err(SchemaError::Contradicts(message))
}

/// The names as Python prints a list of them; a client that sends a thousand wrong ones does not get them all back.
pub(crate) fn name_list(names: &[&str]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(LISTED)
        .map(|name| python::shown(name))
        .collect();
    let more = if names.len() > LISTED { ", …" } else { "" };
    format!("[{}{more}]", shown.join(", "))
}
