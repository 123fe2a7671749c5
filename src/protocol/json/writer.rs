//! Tensors and numbers as JSON text, in the form that Python's `json.dumps` gives them.

use serde::{Deserialize, Serialize};

use crate::tensor::{DType, Element, MapSequence, Tensor, dispatch};

/// How a NaN or an infinity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NonFinite {
    /// As `null`: legal JSON.
    #[default]
    Null,
    /// As `NaN`, `Infinity`, `-Infinity`, which is no legal JSON but what Python writes and reads.
    Bare,
}

/// How nested lists are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Lists nested to the tensor's shape.
    Nested,
    /// One list of all elements.
    Flat,
}

/// What separates the items of a list or an object: Python's `json.dumps` default.
const SEPARATOR: &[u8] = b", ";

/// Writes the elements of `tensor`; a nested scalar stands alone, without brackets. 16- and 32-bit floats are widened
/// to 64 bits first, as numpy's `tolist` does.
pub(crate) fn write_tensor(
    out: &mut Vec<u8>,
    tensor: &Tensor,
    layout: Layout,
    non_finite: NonFinite,
) {
    let flat = [tensor.len()];
    let shape = if layout == Layout::Flat {
        &flat[..]
    } else {
        tensor.shape()
    };
    dispatch!(
        tensor.dtype(),
        integer T => integers::<T>(out, shape, tensor),
        float T => floats::<T>(out, shape, tensor, non_finite),
        DType::Bool => nested(out, shape, tensor.bytes(), &|out, byte| {
            write_bool(out, *byte != 0);
        }),
        DType::String => {
            let texts = tensor.as_strings().unwrap_or_default();
            nested(out, shape, texts, &|out, text| write_str(out, text));
        },
    );
}

/// Writes the tensors of a sequence as a list.
pub(crate) fn write_sequence(out: &mut Vec<u8>, tensors: &[Tensor], non_finite: NonFinite) {
    out.push(b'[');
    for (index, tensor) in tensors.iter().enumerate() {
        separate(out, index);
        write_tensor(out, tensor, Layout::Nested, non_finite);
    }
    out.push(b']');
}

/// Writes the element at `index` of the flattened tensor.
pub(crate) fn write_element(
    out: &mut Vec<u8>,
    tensor: &Tensor,
    index: usize,
    non_finite: NonFinite,
) {
    fn at<T: Element>(tensor: &Tensor, index: usize) -> T {
        let width = size_of::<T>();
        bytemuck::pod_read_unaligned(&tensor.bytes()[index * width..(index + 1) * width])
    }
    fn wide_at<T: Element + Into<f64>>(tensor: &Tensor, index: usize) -> f64 {
        at::<T>(tensor, index).into()
    }
    dispatch!(
        tensor.dtype(),
        integer T => write_integer(out, at::<T>(tensor, index)),
        float T => write_float(out, wide_at::<T>(tensor, index), non_finite),
        DType::Bool => write_bool(out, tensor.bytes()[index] != 0),
        DType::String => write_str(out, &tensor.as_strings().unwrap_or_default()[index]),
    );
}

/// Writes a row of maps as an object; `labels` are those of all rows.
pub(crate) fn write_map(
    out: &mut Vec<u8>,
    labels: &[String],
    maps: &MapSequence,
    row: usize,
    non_finite: NonFinite,
) {
    out.push(b'{');
    for (index, label) in labels.iter().enumerate() {
        write_key(out, index, label);
        write_element(out, &maps.scores, row * labels.len() + index, non_finite);
    }
    out.push(b'}');
}

fn integers<T: Element + itoa::Integer>(out: &mut Vec<u8>, shape: &[usize], tensor: &Tensor) {
    with_slice::<T>(tensor, |values| {
        nested(out, shape, values, &|out, value| write_integer(out, *value))
    });
}

fn floats<T: Element + Into<f64>>(
    out: &mut Vec<u8>,
    shape: &[usize],
    tensor: &Tensor,
    non_finite: NonFinite,
) {
    with_slice::<T>(tensor, |values| {
        nested(out, shape, values, &|out, value| {
            write_float(out, (*value).into(), non_finite)
        });
    });
}

/// Hands over the elements, copied only when they lie misaligned.
fn with_slice<T: Element>(tensor: &Tensor, read: impl FnOnce(&[T])) {
    match tensor.as_slice::<T>() {
        Some(values) => read(values),
        None => read(&tensor.to_vec::<T>().unwrap_or_default()),
    }
}

/// Writes what stands in front of the item at `index` of a list or an object.
pub(crate) fn separate(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.extend_from_slice(SEPARATOR);
    }
}

/// Writes the key of the entry at `index` of an object, and all that stands in front of its value.
pub(crate) fn write_key(out: &mut Vec<u8>, index: usize, key: &str) {
    separate(out, index);
    write_str(out, key);
    out.extend_from_slice(b": ");
}

fn nested<T>(out: &mut Vec<u8>, shape: &[usize], values: &[T], write: &impl Fn(&mut Vec<u8>, &T)) {
    let Some((&count, inner)) = shape.split_first() else {
        values.iter().for_each(|value| write(out, value));
        return;
    };
    let width = inner.iter().product::<usize>();
    out.push(b'[');
    for index in 0..count {
        separate(out, index);
        nested(
            out,
            inner,
            &values[index * width..(index + 1) * width],
            write,
        );
    }
    out.push(b']');
}

fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Writes a list of whole numbers, such as a shape.
pub(crate) fn write_integers<T: itoa::Integer + Copy>(out: &mut Vec<u8>, values: &[T]) {
    nested(out, &[values.len()], values, &|out, value| {
        write_integer(out, *value)
    });
}

/// Writes a whole number.
pub(crate) fn write_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes the shortest text that reads back as `value`, as Python's `repr` does: `1e+21`, `2.4e-07`, `2.0`.
pub(crate) fn write_float(out: &mut Vec<u8>, value: f64, non_finite: NonFinite) {
    if value.is_finite() {
        write_finite(out, value);
        return;
    }
    out.extend_from_slice(match non_finite {
        NonFinite::Null => b"null",
        NonFinite::Bare if value.is_nan() => b"NaN",
        NonFinite::Bare if value > 0.0 => b"Infinity",
        NonFinite::Bare => b"-Infinity",
    });
}

/// Python's `repr` of a finite float.
pub(crate) fn python_float(value: f64) -> String {
    let mut out = Vec::new();
    write_finite(&mut out, value);
    String::from_utf8(out).expect("digits are ASCII")
}

fn write_finite(out: &mut Vec<u8>, value: f64) {
    let mut buffer = zmij::Buffer::new();
    let shortest = buffer.format_finite(value);
    // The digits agree; Python writes an exponent from 1e16 up and below 1e-4, with a sign and two digits at least.
    let plain = value == 0.0 || (1e-4..1e16).contains(&value.abs());
    match shortest.split_once('e') {
        None if plain => out.extend_from_slice(shortest.as_bytes()),
        None => write_digits(out, shortest, 0, plain),
        Some((mantissa, exponent)) => {
            let exponent = exponent.parse().expect("an exponent is a small number");
            write_digits(out, mantissa, exponent, plain);
        }
    }
}

/// Writes a mantissa such as `-1.25` or `0.00001` and a power of ten in Python's form.
fn write_digits(out: &mut Vec<u8>, mantissa: &str, exponent: i32, plain: bool) {
    let mantissa = match mantissa.strip_prefix('-') {
        Some(mantissa) => {
            out.push(b'-');
            mantissa
        }
        None => mantissa,
    };
    let point = mantissa.find('.').unwrap_or(mantissa.len());
    // The shortest text has 17 digits at most, and a few zeros around them.
    let mut all = [b'0'; 32];
    let bytes = mantissa.bytes().filter(|byte| *byte != b'.');
    let length = all
        .iter_mut()
        .zip(bytes)
        .map(|(digit, byte)| *digit = byte)
        .count();
    let all = &all[..length];
    let leading = all.iter().take_while(|digit| **digit == b'0').count();
    let behind = all.iter().rev().take_while(|digit| **digit == b'0').count();
    let digits = all.get(leading..length - behind).unwrap_or_default();
    // The power of ten of the first digit.
    let power = exponent + power_of(point) - 1 - power_of(leading);
    let zeros = |out: &mut Vec<u8>, count: usize| out.resize(out.len() + count, b'0');
    if plain && power < 0 {
        out.extend_from_slice(b"0.");
        zeros(out, power.unsigned_abs() as usize - 1);
        out.extend_from_slice(digits);
    } else if plain {
        let whole = power.unsigned_abs() as usize + 1;
        out.extend_from_slice(&digits[..whole.min(digits.len())]);
        zeros(out, whole.saturating_sub(digits.len()));
        out.push(b'.');
        out.extend_from_slice(
            digits
                .get(whole..)
                .filter(|rest| !rest.is_empty())
                .unwrap_or(b"0"),
        );
    } else {
        out.extend_from_slice(&digits[..1]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(if power < 0 { b"e-" } else { b"e+" });
        zeros(out, usize::from(power.abs() < 10));
        write_integer(out, power.abs());
    }
}

fn power_of(digits: usize) -> i32 {
    i32::try_from(digits).unwrap_or(0)
}

/// Writes a JSON string in ASCII, other characters as `\uXXXX`, as Python does.
pub(crate) fn write_str(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            ' '..='~' => out.push(character as u8),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tensor: &Tensor, layout: Layout) -> String {
        let mut out = Vec::new();
        write_tensor(&mut out, tensor, layout, NonFinite::Null);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (2.0, "2.0"),
            (1e21, "1e+21"),
            (2.4e-7, "2.4e-07"),
            (f64::from(0.2f32), "0.20000000298023224"),
            (1e16, "1e+16"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e15, "1000000000000000.0"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-0.000_012_5, "-1.25e-05"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (1e100, "1e+100"),
        ] {
            assert_eq!(python_float(value), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_float_has_an_exponent_only_where_python_writes_one(digits in 0u32..1 << 24, power in -30i32..30) {
            let value = f64::from(digits) * 10f64.powi(power);
            let text = python_float(value);
            let is_plain = value == 0.0 || (1e-4..1e16).contains(&value);
            match text.split_once('e') {
                None => proptest::prop_assert!(is_plain && text.contains('.'), "{}", text),
                Some((mantissa, exponent)) => {
                    proptest::prop_assert!(!is_plain && exponent.len() >= 3, "{}", text);
                    proptest::prop_assert!(exponent.starts_with(['+', '-']), "{}", text);
                    proptest::prop_assert!(!mantissa.starts_with('0') && !mantissa.ends_with(['0', '.']), "{}", text);
                }
            }
        }
    }

    #[test]
    fn tensors_are_nested_to_their_shape_or_flat() {
        let tensor =
            Tensor::from_vec(vec![2, 2], vec![1.0f32, 0.5, f32::NAN, f32::INFINITY]).unwrap();
        assert_eq!(text(&tensor, Layout::Nested), "[[1.0, 0.5], [null, null]]");
        assert_eq!(text(&tensor, Layout::Flat), "[1.0, 0.5, null, null]");
        let mut out = Vec::new();
        write_tensor(&mut out, &tensor, Layout::Flat, NonFinite::Bare);
        assert_eq!(out, b"[1.0, 0.5, NaN, Infinity]");
        let scalar = Tensor::from_vec(vec![], vec![7i64]).unwrap();
        assert_eq!(text(&scalar, Layout::Nested), "7");
        let empty = Tensor::from_vec::<u8>(vec![2, 0], vec![]).unwrap();
        assert_eq!(text(&empty, Layout::Nested), "[[], []]");
        let bools = Tensor::from_bools(vec![2], &[true, false]).unwrap();
        assert_eq!(text(&bools, Layout::Nested), "[true, false]");
    }

    #[test]
    fn strings_are_ascii_with_surrogate_pairs() {
        let mut out = Vec::new();
        write_str(&mut out, "é\"\\\n\u{1}😀\u{7f}");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\"\\u00e9\\\"\\\\\\n\\u0001\\ud83d\\ude00\\u007f\""
        );
    }

    proptest::proptest! {
        #[test]
        fn a_written_float_reads_back_bit_for_bit(bits: u64) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                let parsed: f64 = python_float(value).parse().unwrap();
                assert_eq!(parsed.to_bits(), bits);
            }
        }
    }
}
