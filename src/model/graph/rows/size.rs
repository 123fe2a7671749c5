//! Sizes of axes as far as a graph tells them: numbers, symbols of open dimensions, and the number of rows.

use std::ops::Range;

/// The size of an axis: a product of a number, the sizes of open dimensions and, at most once, the number of rows.
///
/// Two sizes are equal for every request exactly when they are equal here, so that a size that is only *perhaps* equal
/// to another one has a symbol of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Size {
    factor: u64,
    /// Ascending; a symbol that stands twice is a square.
    symbols: Vec<u32>,
    rows: bool,
}

impl Size {
    pub(super) const ONE: Self = Self::known(1);

    /// The number of rows.
    pub(super) const ROWS: Self = Self {
        factor: 1,
        symbols: Vec::new(),
        rows: true,
    };

    pub(super) const fn known(size: u64) -> Self {
        Self {
            factor: size,
            symbols: Vec::new(),
            rows: false,
        }
    }

    pub(super) fn symbol(symbol: u32) -> Self {
        Self {
            factor: 1,
            symbols: vec![symbol],
            rows: false,
        }
    }

    pub(super) fn has_rows(&self) -> bool {
        self.rows
    }

    pub(super) fn is_one(&self) -> bool {
        *self == Self::ONE
    }

    /// Whether it is a symbol and nothing else, made after so many others.
    pub(super) fn is_symbol_after(&self, count: u32) -> bool {
        matches!(self, Self { factor: 1, symbols, rows: false } if matches!(symbols.as_slice(), [symbol] if *symbol > count))
    }

    /// The size, where it is a number.
    pub(super) fn number(&self) -> Option<u64> {
        (self.symbols.is_empty() && !self.rows).then_some(self.factor)
    }

    /// `None` for what is no size here: the square of the number of rows, or a number that no machine has.
    pub(super) fn times(&self, other: &Self) -> Option<Self> {
        if self.rows && other.rows {
            return None;
        }
        let mut symbols = [self.symbols.as_slice(), &other.symbols].concat();
        symbols.sort_unstable();
        Some(Self {
            factor: self.factor.checked_mul(other.factor)?,
            symbols,
            rows: self.rows || other.rows,
        })
    }

    /// The quotient, where it is a whole number for every request.
    pub(super) fn divided_by(&self, other: &Self) -> Option<Self> {
        if other.factor == 0
            || !self.factor.is_multiple_of(other.factor)
            || (other.rows && !self.rows)
        {
            return None;
        }
        let mut symbols = self.symbols.clone();
        for symbol in &other.symbols {
            let place = symbols.iter().position(|own| own == symbol)?;
            symbols.remove(place);
        }
        Some(Self {
            factor: self.factor / other.factor,
            symbols,
            rows: self.rows && !other.rows,
        })
    }
}

/// The product of sizes.
pub(super) fn product<'a>(sizes: impl IntoIterator<Item = &'a Size>) -> Option<Size> {
    let mut sizes = sizes.into_iter();
    sizes.try_fold(Size::ONE, |product, size| product.times(size))
}

/// An element of a tensor of integers, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Number {
    Known(i64),
    /// A size that is no plain number.
    Size(Size),
    /// Some number, the same for every request and every number of rows.
    Invariant,
    /// Depends on the number of rows in a way that is not followed.
    Tainted,
}

impl Number {
    pub(super) fn of_size(size: &Size) -> Self {
        match size.number().map(i64::try_from) {
            Some(Ok(number)) => Self::Known(number),
            _ => Self::Size(size.clone()),
        }
    }

    pub(super) fn depends_on_rows(&self) -> bool {
        match self {
            Self::Size(size) => size.has_rows(),
            Self::Tainted => true,
            Self::Known(_) | Self::Invariant => false,
        }
    }

    /// The number as a size, where it is certainly one.
    pub(super) fn to_size(&self) -> Option<Size> {
        match self {
            Self::Known(number) => Some(Size::known(u64::try_from(*number).ok()?)),
            Self::Size(size) => Some(size.clone()),
            Self::Invariant | Self::Tainted => None,
        }
    }

    pub(super) fn known(&self) -> Option<i64> {
        match self {
            Self::Known(number) => Some(*number),
            _ => None,
        }
    }

    /// What is left to say of a result that is not followed.
    pub(super) fn unknown(operands: &[&Self]) -> Self {
        if operands.iter().any(|operand| operand.depends_on_rows()) {
            Self::Tainted
        } else {
            Self::Invariant
        }
    }
}

/// `axis` counted from the front; negative ones count from the end, as everywhere in ONNX.
pub(super) fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let range: Range<i64> = 0..rank;
    let axis = if axis < 0 { axis + rank } else { axis };
    range.contains(&axis).then(|| usize::try_from(axis).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_sizes_only_where_they_are_whole_for_every_request() {
        let rows = Size::ROWS.times(&Size::known(6)).unwrap();
        assert_eq!(
            rows.divided_by(&Size::known(3)).unwrap(),
            Size::ROWS.times(&Size::known(2)).unwrap()
        );
        assert_eq!(rows.divided_by(&Size::ROWS), Some(Size::known(6)));
        assert_eq!(rows.divided_by(&Size::known(4)), None, "half a row");
        assert_eq!(rows.divided_by(&Size::symbol(0)), None);
        assert_eq!(Size::known(6).divided_by(&Size::ROWS), None);
        assert_eq!(rows.divided_by(&Size::known(0)), None);
        assert_eq!(Size::ROWS.times(&Size::ROWS), None);
    }

    #[test]
    fn negative_axes_count_from_the_end() {
        assert_eq!(
            [axis_of(-1, 3), axis_of(2, 3), axis_of(-3, 3)],
            [Some(2), Some(2), Some(0)]
        );
        assert_eq!([axis_of(3, 3), axis_of(-4, 3), axis_of(0, 0)], [None; 3]);
    }
}
