//! Numbers side by side, with marks for those that are whole or missing.

use super::value::Json;
use crate::budget::OverBudget;
use crate::protocol::meter::Meter;
use crate::tensor::Absent;

type Result<T> = std::result::Result<T, OverBudget>;

/// Whole numbers up to here are exact as `f64`.
pub(crate) const MAX_EXACT: u64 = 1 << 53;

/// Numbers of which at least one is a float, or missing.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Numbers {
    /// NaN where one is missing.
    pub(crate) values: Vec<f64>,
    pub(super) marks: Marks,
    /// How many are missing.
    pub(crate) nulls: usize,
}

/// How each number was written: two bits for each, and none behind the last that is no float.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Marks(pub(super) Vec<u64>);

/// A number that was written as a whole one.
const WHOLE: u64 = 1;

/// None at all: `null`.
const NULL: u64 = 2;

/// Marks in each word.
const MARKS: usize = 32;

impl Numbers {
    /// Whole numbers, in the place that they have.
    #[expect(
        clippy::cast_precision_loss,
        reason = "callers check that the numbers are exact"
    )]
    pub(super) fn whole(ints: Vec<i64>, meter: &Meter) -> Result<Self> {
        let words = ints.len().div_ceil(MARKS);
        let mut marks = meter.vec(words + words / 4 + 1)?;
        marks.resize(words, u64::MAX / 3 * WHOLE);
        let behind = words * MARKS - ints.len();
        if let Some(last) = marks.last_mut() {
            *last >>= 2 * behind;
        }
        Ok(Self {
            values: ints.into_iter().map(|int| int as f64).collect(),
            marks: Marks(marks),
            nulls: 0,
        })
    }

    pub(super) fn push(&mut self, value: Json, meter: &Meter) -> Result<()> {
        match value {
            Json::Int(int) => self.push_whole(int, meter),
            Json::Float(float) => meter.push(&mut self.values, float),
            _ => self.push_null(meter),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "callers check that the number is exact"
    )]
    pub(super) fn push_whole(&mut self, value: i64, meter: &Meter) -> Result<()> {
        self.marks.set(self.values.len(), WHOLE, meter)?;
        meter.push(&mut self.values, value as f64)
    }

    pub(super) fn push_null(&mut self, meter: &Meter) -> Result<()> {
        self.marks.set(self.values.len(), NULL, meter)?;
        self.nulls += 1;
        meter.push(&mut self.values, Absent::F64)
    }

    #[expect(clippy::cast_possible_truncation, reason = "exact by construction")]
    pub(super) fn get(&self, index: usize) -> Json {
        match self.marks.get(index) {
            WHOLE => Json::Int(self.values[index] as i64),
            NULL => Json::Null,
            _ => Json::Float(self.values[index]),
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        let dropped = len..self.values.len();
        let nulls = dropped.filter(|&index| self.marks.get(index) == NULL);
        self.nulls -= nulls.count();
        self.values.truncate(len);
        self.marks.0.truncate(len.div_ceil(MARKS));
        if let Some(last) = self.marks.0.get_mut(len / MARKS) {
            *last &= (1 << (2 * (len % MARKS))) - 1;
        }
    }

    /// Whether none is there.
    pub(crate) fn is_null(&self) -> bool {
        self.nulls == self.values.len()
    }
}

impl Marks {
    pub(super) fn get(&self, index: usize) -> u64 {
        let word = self.0.get(index / MARKS).copied().unwrap_or(0);
        (word >> (2 * (index % MARKS))) & 3
    }

    /// Marks one that has no mark yet.
    pub(super) fn set(&mut self, index: usize, mark: u64, meter: &Meter) -> Result<()> {
        while self.0.len() <= index / MARKS {
            meter.push(&mut self.0, 0)?;
        }
        self.0[index / MARKS] |= mark << (2 * (index % MARKS));
        Ok(())
    }
}
