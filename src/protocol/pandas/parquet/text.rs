//! Texts, and what Python prints of decimals and dates.

use super::{ParquetError, broken};

/// A text.
pub(crate) fn text(bytes: &[u8]) -> Result<String, ParquetError> {
    let text = std::str::from_utf8(bytes);
    let text = text.map_err(|_| broken("a text is not UTF-8"))?;
    Ok(text.to_owned())
}

/// A whole number of up to 16 bytes, the highest first.
pub(crate) fn big_endian(bytes: &[u8]) -> Result<i128, ParquetError> {
    let Some((&first, _)) = bytes.split_first() else {
        return Ok(0);
    };
    if bytes.len() > 16 {
        return Err(broken("a decimal has more than 38 digits"));
    }
    let sign = if first & 0x80 == 0 { 0 } else { -1 };
    Ok(bytes
        .iter()
        .fold(sign, |value, &byte| (value << 8) | i128::from(byte)))
}

/// A whole number with a point in it.
pub(crate) fn decimal(unscaled: i128, scale: i32) -> Result<String, ParquetError> {
    let scale = usize::try_from(scale).ok().filter(|&scale| scale <= 76);
    let scale = scale.ok_or_else(|| broken("a decimal has no such scale"))?;
    let sign = if unscaled < 0 { "-" } else { "" };
    let width = scale + 1;
    let digits = format!("{:0>width$}", unscaled.unsigned_abs());
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    Ok(format!("{sign}{whole}{point}{fraction}"))
}

/// Days since 1970.
pub(crate) fn date(days: i32) -> Result<String, ParquetError> {
    let span = jiff::Span::new().try_days(days);
    let date = span.and_then(|span| jiff::civil::date(1970, 1, 1).checked_add(span));
    let date = date.map_err(|_| broken("a date is out of range"))?;
    Ok(date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_and_dates_are_told_as_python_prints_them() {
        assert_eq!(decimal(-12345, 2).unwrap(), "-123.45");
        assert_eq!(decimal(5, 3).unwrap(), "0.005");
        assert_eq!(decimal(7, 0).unwrap(), "7");
        assert!(decimal(7, -1).is_err() && decimal(7, i32::MAX).is_err());
        assert_eq!(big_endian(&[0xff, 0x85]).unwrap(), -123);
        assert_eq!(big_endian(&[0x01, 0x00]).unwrap(), 256);
        assert!(big_endian(&[0; 17]).is_err());
        assert_eq!(date(19_844).unwrap(), "2024-05-01");
        assert!(date(i32::MAX).is_err());
    }
}
