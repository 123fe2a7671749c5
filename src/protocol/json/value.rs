//! What the reader makes of a document: values, with lists of scalars side by side.

use std::ops::Range;

use super::numbers::{MAX_EXACT, Numbers};
use crate::budget::OverBudget;
use crate::protocol::meter::{Meter, block, block_of};

/// A JSON value. Rectangular lists of scalars are [`Json::Array`]; only ragged ones and lists of objects are
/// [`Json::List`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Int(i64),
    /// A whole number beyond `i64`, as its digits.
    Big(Box<str>),
    Float(f64),
    Text(String),
    /// Boxed: it is large, and a list of several types has a value of this type per element.
    Array(Box<Flat>),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// A rectangular n-dimensional list of scalars.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Flat {
    pub(crate) shape: Vec<usize>,
    pub(crate) cells: Cells,
}

/// Scalars in order, in the narrowest form that loses nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cells {
    Int(Vec<i64>),
    Number(Numbers),
    Bool(Vec<bool>),
    Text(Vec<String>),
    Mixed(Vec<Json>),
}

/// Rows turned into columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Columns {
    /// The keys of records, in order of first appearance; empty for rows without keys.
    pub(crate) names: Vec<String>,
    /// One entry per column, each of `rows` cells.
    pub(crate) cells: Vec<Cells>,
    /// The rows of records that lack the key of each column.
    pub(crate) gaps: Vec<Vec<Range<usize>>>,
    pub(crate) rows: usize,
}

/// A list while it is read, or put together: rectangular as long as its items are.
#[derive(Debug)]
pub(crate) enum Items {
    /// So many items of the shape `inner`; of none it says nothing.
    Flat {
        inner: Vec<usize>,
        count: usize,
        cells: Cells,
    },
    List(Vec<Json>),
}

type Result<T> = std::result::Result<T, OverBudget>;

impl Json {
    /// A rectangular list.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn array(shape: Vec<usize>, cells: Cells, meter: &Meter) -> Result<Self> {
        meter.charge(block_of::<Flat>(1))?;
        Ok(Self::Array(Box::new(Flat { shape, cells })))
    }

    /// Bytes that it takes on the heap.
    pub(crate) fn heap(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) => 0,
            Self::Big(digits) => block(digits.len()),
            Self::Text(text) => block(text.capacity()),
            Self::Array(flat) => block_of::<Flat>(1) + flat.heap(),
            Self::List(items) => heap_of(items),
            Self::Object(entries) => {
                let heap = |(key, value): &(String, Self)| block(key.capacity()) + value.heap();
                block_of::<(String, Self)>(entries.capacity())
                    + entries.iter().map(heap).sum::<usize>()
            }
        }
    }
}

fn heap_of(items: &Vec<Json>) -> usize {
    block_of::<Json>(items.capacity()) + items.iter().map(Json::heap).sum::<usize>()
}

impl Flat {
    /// Bytes that it takes on the heap.
    pub(crate) fn heap(&self) -> usize {
        block_of::<usize>(self.shape.capacity()) + self.cells.heap()
    }
}

impl Default for Items {
    fn default() -> Self {
        Self::Flat {
            inner: Vec::new(),
            count: 0,
            cells: Cells::default(),
        }
    }
}

impl Items {
    /// The cells of `count` items of a shape, which begin at `start`, are taken away from what was read.
    pub(crate) fn split_off(
        cells: &mut Cells,
        start: usize,
        (inner, count): (&[usize], usize),
        meter: &Meter,
    ) -> Result<Self> {
        meter.charge(block_of::<usize>(inner.len()))?;
        Ok(Self::Flat {
            inner: inner.to_vec(),
            count,
            cells: cells.split_off(start, meter)?.narrowed(meter)?,
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Flat { count, .. } => *count,
            Self::List(items) => items.len(),
        }
    }

    /// Adds an item.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn push(&mut self, value: Json, meter: &Meter) -> Result<()> {
        let other = match (&mut *self, value) {
            (Self::List(items), value) => return meter.push(items, value),
            (
                Self::Flat {
                    inner,
                    count: count @ 0,
                    cells,
                },
                Json::Array(flat),
            ) => {
                meter.release(block_of::<Flat>(1));
                (*inner, *cells, *count) = (flat.shape, flat.cells, 1);
                return Ok(());
            }
            (
                Self::Flat {
                    inner,
                    count,
                    cells,
                },
                Json::Array(flat),
            ) if *inner == flat.shape => {
                *count += 1;
                let heap = block_of::<Flat>(1) + block_of::<usize>(flat.shape.capacity());
                cells.append(flat.cells, meter)?;
                meter.release(heap);
                return Ok(());
            }
            (_, other @ (Json::Array(_) | Json::List(_) | Json::Object(_))) => other,
            (
                Self::Flat {
                    inner,
                    count,
                    cells,
                },
                scalar,
            ) if inner.is_empty() => {
                *count += 1;
                return cells.push(scalar, meter);
            }
            (_, scalar) => scalar,
        };
        let mut items = std::mem::take(self).into_list(meter)?;
        meter.push(&mut items, other)?;
        *self = Self::List(items);
        Ok(())
    }

    fn into_list(self, meter: &Meter) -> Result<Vec<Json>> {
        let (inner, count, cells) = match self {
            Self::List(items) => return Ok(items),
            Self::Flat {
                inner,
                count,
                cells,
            } => (inner, count, cells),
        };
        let flat = cells.slots() + block_of::<usize>(inner.capacity());
        let mut items = meter.vec(count + 1)?;
        let mut scalars = cells.into_iter();
        if inner.is_empty() {
            items.extend(scalars);
        } else {
            let width = inner.iter().product();
            for _ in 0..count {
                let mut row = Cells::default();
                for cell in scalars.by_ref().take(width) {
                    row.push(cell, meter)?;
                }
                meter.charge(block_of::<usize>(inner.len()))?;
                items.push(Json::array(inner.clone(), row, meter)?);
            }
        }
        meter.release(flat);
        Ok(items)
    }

    /// The list.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn finish(self, meter: &Meter) -> Result<Json> {
        match self {
            Self::List(items) => Ok(Json::List(items)),
            Self::Flat {
                inner,
                count,
                cells,
            } => {
                meter.charge(block_of::<usize>(inner.len() + 1))?;
                let shape = [&[count], inner.as_slice()].concat();
                meter.release(block_of::<usize>(inner.capacity()));
                Json::array(shape, cells, meter)
            }
        }
    }
}

impl Default for Cells {
    fn default() -> Self {
        Self::Int(Vec::new())
    }
}

impl Cells {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Int(values) => values.len(),
            Self::Number(numbers) => numbers.values.len(),
            Self::Bool(values) => values.len(),
            Self::Text(values) => values.len(),
            Self::Mixed(values) => values.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A single value.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn one(value: Json, meter: &Meter) -> Result<Self> {
        Self::new([value], meter)
    }

    /// Values in order.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn new(values: impl IntoIterator<Item = Json>, meter: &Meter) -> Result<Self> {
        let mut cells = Self::default();
        for value in values {
            cells.push(value, meter)?;
        }
        Ok(cells)
    }

    /// Bytes that the vector itself takes on the heap, without what its values point to.
    fn slots(&self) -> usize {
        match self {
            Self::Int(values) => block_of::<i64>(values.capacity()),
            Self::Number(numbers) => {
                block_of::<f64>(numbers.values.capacity())
                    + block_of::<u64>(numbers.marks.0.capacity())
            }
            Self::Bool(values) => block(values.capacity()),
            Self::Text(values) => block_of::<String>(values.capacity()),
            Self::Mixed(values) => block_of::<Json>(values.capacity()),
        }
    }

    /// Bytes that they take on the heap.
    pub(crate) fn heap(&self) -> usize {
        match self {
            Self::Text(values) => {
                let texts = values.iter().map(|text| block(text.capacity()));
                self.slots() + texts.sum::<usize>()
            }
            Self::Mixed(values) => heap_of(values),
            Self::Int(_) | Self::Number(_) | Self::Bool(_) => self.slots(),
        }
    }

    /// Appends a value, changing the form when it does not fit.
    ///
    /// # Errors
    /// [`OverBudget`].
    pub(crate) fn push(&mut self, value: Json, meter: &Meter) -> Result<()> {
        match (&mut *self, value) {
            (Self::Int(values), Json::Int(value)) => meter.push(values, value),
            (Self::Number(numbers), Json::Float(value)) => meter.push(&mut numbers.values, value),
            (Self::Number(numbers), Json::Int(value)) if value.unsigned_abs() <= MAX_EXACT => {
                numbers.push_whole(value, meter)
            }
            (Self::Number(numbers), Json::Null) => numbers.push_null(meter),
            (Self::Bool(values), Json::Bool(value)) => meter.push(values, value),
            (Self::Text(values), Json::Text(value)) => meter.push(values, value),
            (Self::Mixed(values), value) => meter.push(values, value),
            (_, value) => self.widen(value, meter),
        }
    }

    fn widen(&mut self, value: Json, meter: &Meter) -> Result<()> {
        if self.is_empty() {
            meter.release(self.slots());
            *self = match value {
                Json::Int(_) => Self::Int(Vec::new()),
                Json::Float(_) | Json::Null => Self::Number(Numbers::default()),
                Json::Bool(_) => Self::Bool(Vec::new()),
                Json::Text(_) => Self::Text(Vec::new()),
                _ => Self::Mixed(Vec::new()),
            };
            return self.push(value, meter);
        }
        if let (Self::Int(ints), Json::Float(_) | Json::Null) = (&mut *self, &value)
            && ints.iter().all(|int| int.unsigned_abs() <= MAX_EXACT)
        {
            *self = Self::Number(Numbers::whole(std::mem::take(ints), meter)?);
            return self.push(value, meter);
        }
        let before = self.slots();
        let mut values = meter.vec(self.len() + 1 + self.len() / 4)?;
        values.extend(std::mem::take(self).into_iter());
        values.push(value);
        meter.release(before);
        *self = Self::Mixed(values);
        Ok(())
    }

    /// Appends those of another list.
    fn append(&mut self, other: Self, meter: &Meter) -> Result<()> {
        let slots = other.slots();
        for value in other.into_iter() {
            self.push(value, meter)?;
        }
        meter.release(slots);
        Ok(())
    }

    /// Drops what comes behind the first `len`. The form stays, though a narrower one may do.
    pub(crate) fn truncate(&mut self, len: usize) {
        match self {
            Self::Int(values) => values.truncate(len),
            Self::Number(numbers) => numbers.truncate(len),
            Self::Bool(values) => values.truncate(len),
            Self::Text(values) => values.truncate(len),
            Self::Mixed(values) => values.truncate(len),
        }
    }

    fn split_off(&mut self, at: usize, meter: &Meter) -> Result<Self> {
        let count = self.len().saturating_sub(at);
        Ok(match self {
            Self::Int(values) => Self::Int(split_off(values, at, meter)?),
            Self::Bool(values) => Self::Bool(split_off(values, at, meter)?),
            Self::Text(values) => Self::Text(split_off(values, at, meter)?),
            Self::Mixed(values) => Self::Mixed(split_off(values, at, meter)?),
            Self::Number(numbers) => {
                let mut tail = Numbers {
                    values: meter.vec(count)?,
                    ..Numbers::default()
                };
                for index in at..at + count {
                    tail.push(numbers.get(index), meter)?;
                }
                numbers.truncate(at);
                Self::Number(tail)
            }
        })
    }

    /// The same values in the narrowest form.
    pub(crate) fn narrowed(self, meter: &Meter) -> Result<Self> {
        match self {
            Self::Number(_) | Self::Mixed(_) => {
                let slots = self.slots();
                let narrow = Self::new(self.into_iter(), meter)?;
                meter.release(slots);
                Ok(narrow)
            }
            narrow => Ok(narrow),
        }
    }

    /// The scalars one by one.
    pub(crate) fn into_iter(self) -> Box<dyn Iterator<Item = Json>> {
        match self {
            Self::Int(values) => Box::new(values.into_iter().map(Json::Int)),
            Self::Number(numbers) => {
                let all = 0..numbers.values.len();
                Box::new(all.map(move |index| numbers.get(index)))
            }
            Self::Bool(values) => Box::new(values.into_iter().map(Json::Bool)),
            Self::Text(values) => Box::new(values.into_iter().map(Json::Text)),
            Self::Mixed(values) => Box::new(values.into_iter()),
        }
    }

    /// A copy of one of them.
    pub(crate) fn get(&self, index: usize) -> Option<Json> {
        match self {
            Self::Int(values) => values.get(index).copied().map(Json::Int),
            Self::Number(numbers) => (index < numbers.values.len()).then(|| numbers.get(index)),
            Self::Bool(values) => values.get(index).copied().map(Json::Bool),
            Self::Text(values) => values.get(index).cloned().map(Json::Text),
            Self::Mixed(values) => values.get(index).cloned(),
        }
    }
}

fn split_off<T>(values: &mut Vec<T>, at: usize, meter: &Meter) -> Result<Vec<T>> {
    meter.charge(block_of::<T>(values.len().saturating_sub(at)))?;
    let mut tail = values.split_off(at);
    // Of a whole vector it gives the vector itself.
    tail.shrink_to_fit();
    Ok(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn scalar() -> impl Strategy<Value = Json> {
        prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            (-3_i64..3).prop_map(Json::Int),
            Just(Json::Int(i64::MAX)),
            (-2_i32..2).prop_map(|float| Json::Float(f64::from(float))),
            "[ab]{0,2}".prop_map(Json::Text),
        ]
    }

    fn is_widest(values: &[Json]) -> bool {
        let kinds = values.iter().map(|value| match value {
            Json::Bool(_) => 0,
            Json::Text(_) => 1,
            _ => 2,
        });
        let mut kinds: Vec<i32> = kinds.collect();
        kinds.dedup();
        kinds.len() > 1
    }

    proptest! {
        #[test]
        fn cells_are_what_was_pushed_in_whatever_form(
            values in prop::collection::vec(scalar(), 0..100),
            at in 0_usize..100,
        ) {
            let meter = Meter::unlimited();
            let mut cells = Cells::new(values.clone(), &meter).unwrap();
            prop_assert_eq!(cells.heap(), meter.held() + cells_texts(&values));
            prop_assert!(!is_widest(&values) || matches!(cells, Cells::Mixed(_)));
            prop_assert_eq!(cells.clone().into_iter().collect::<Vec<_>>(), values.clone());
            let at = at.min(values.len());
            let tail = cells.split_off(at, &meter).unwrap();
            prop_assert_eq!(tail.clone().into_iter().collect::<Vec<_>>(), values[at..].to_vec());
            prop_assert_eq!(cells.clone().into_iter().collect::<Vec<_>>(), values[..at].to_vec());
            cells.push(Json::Int(1), &meter).unwrap();
            prop_assert_eq!(cells.get(at), Some(Json::Int(1)));
            let again = Cells::new(values[at..].to_vec(), &meter).unwrap();
            // By their text: a missing number is NaN inside. Nothing is nothing in every form.
            let narrowed = tail.narrowed(&meter).unwrap();
            if at < values.len() {
                prop_assert_eq!(format!("{narrowed:?}"), format!("{again:?}"));
            }
        }
    }

    /// The reader charges texts, nobody else does.
    fn cells_texts(values: &[Json]) -> usize {
        values.iter().map(Json::heap).sum()
    }
}
