//! Columns by name.

use std::collections::HashMap;

use super::Column;
use crate::budget::OverBudget;
use crate::protocol::json::Json;
use crate::protocol::meter::{Meter, block_of};

/// Finds columns by name, in a time that does not depend on their number.
///
/// Early versions of MLflow wrote the positions of columns without names into signatures: a position is found by its
/// digits.
pub(crate) struct Names<'f> {
    texts: HashMap<&'f str, Found>,
    positions: HashMap<i64, Found>,
}

/// Where the first column of a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) index: usize,
    /// Whether there are others.
    pub(crate) is_repeated: bool,
}

impl<'f> Names<'f> {
    /// Of these columns.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn new(columns: &'f [Column], meter: &Meter) -> Result<Self, OverBudget> {
        // Maps double, and have a byte more for each place.
        let places = columns.len().saturating_mul(3);
        meter.charge(block_of::<(u8, &str, Found)>(places))?;
        let mut names = Self {
            texts: HashMap::new(),
            positions: HashMap::new(),
        };
        for (index, column) in columns.iter().enumerate() {
            let found = Found {
                index,
                is_repeated: false,
            };
            let known = match &column.name {
                Json::Text(text) => names.texts.entry(text.as_str()).or_insert(found),
                Json::Int(position) => names.positions.entry(*position).or_insert(found),
                _ => continue,
            };
            known.is_repeated |= known.index != index;
        }
        Ok(names)
    }

    /// The first column of this name.
    pub(crate) fn find(&self, name: &str) -> Option<Found> {
        let text = self.texts.get(name).copied();
        let position = name
            .parse()
            .ok()
            .and_then(|position: i64| self.positions.get(&position));
        match (text, position.copied()) {
            (Some(text), Some(position)) => Some(Found {
                index: text.index.min(position.index),
                is_repeated: true,
            }),
            (text, position) => text.or(position),
        }
    }
}
