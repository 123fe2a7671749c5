//! A cell that was null, or not there, in a table of numbers: a NaN of its own.
//!
//! Graphs know no missing numbers, only NaN, and neither do NumPy and pandas, whose rules tables follow. As in R, one NaN
//! among the many stands for what is missing, so that it can be told from a NaN that somebody sent. Graphs and answers see
//! no difference.

/// Tells missing numbers from others.
#[derive(Debug, Clone, Copy)]
pub struct Absent;

/// The payload of R's `NA`, at the low end of a single.
const SINGLE: u32 = 0x7fc0_0000 | 1954;

/// The same payload where rounding a double to a single leaves it in its place: 29 bits further up.
const DOUBLE: u64 = 0x7ff8_0000_0000_0000 | (1954 << 29);

impl Absent {
    /// A missing double.
    pub const F64: f64 = f64::from_bits(DOUBLE);

    /// A missing single.
    pub const F32: f32 = f32::from_bits(SINGLE);

    /// Whether a double stands for a missing one.
    pub fn is_f64(value: f64) -> bool {
        value.to_bits() == DOUBLE
    }

    /// Whether a single stands for a missing one.
    pub fn is_f32(value: f32) -> bool {
        value.to_bits() == SINGLE
    }

    /// A double rounded to a single, which is missing when that was.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "numpy rounds to the nearest single too, and overflows to infinity"
    )]
    pub fn narrow(value: f64) -> f32 {
        // The payload of a NaN after a conversion is not for the language to promise.
        if Self::is_f64(value) {
            return Self::F32;
        }
        value as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_number_is_a_nan_of_its_own_and_stays_so_when_rounded() {
        assert!(Absent::F64.is_nan() && Absent::F32.is_nan());
        assert!(Absent::is_f32(Absent::narrow(Absent::F64)));
        assert!(!Absent::is_f64(f64::NAN) && !Absent::is_f32(f32::NAN));
        let nan = Absent::narrow(f64::NAN);
        assert!(nan.is_nan() && !Absent::is_f32(nan));
        assert_eq!(Absent::narrow(1e300), f32::INFINITY);
    }
}
