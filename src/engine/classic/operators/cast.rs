//! `Cast`: from each element type to each other one, text included, by the rules of ONNX Runtime, which are those of
//! C++: numbers as text have eight significant digits, text as a number ends where it stops being one.

use std::marker::PhantomData;

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run};
use super::super::value::{Element, Value};
use super::unary::each;
use crate::tensor::DType;

/// Significant digits of a floating-point number as text.
const DIGITS: usize = 8;

/// Numbers of one type from those of another, as a C++ compiler casts them on x86-64.
trait Number: Element + Copy {
    fn to_f32(self) -> f32;
    fn to_f64(self) -> f64;
    fn to_i64(self) -> i64;
    fn to_i32(self) -> i32;
    fn to_bool(self) -> bool;
    fn to_text(self) -> String;
}

/// What is no whole number in range becomes the smallest one (`cvttss2si`).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "that is what a cast is"
)]
pub(super) fn whole_i64(value: f64) -> i64 {
    let is_in_range = value >= i64::MIN as f64 && value < -(i64::MIN as f64);
    if is_in_range { value as i64 } else { i64::MIN }
}

#[expect(clippy::cast_possible_truncation, reason = "that is what a cast is")]
pub(super) fn whole_i32(value: f64) -> i32 {
    let truncated = value.trunc();
    let is_in_range = truncated >= f64::from(i32::MIN) && truncated <= f64::from(i32::MAX);
    if is_in_range {
        truncated as i32
    } else {
        i32::MIN
    }
}

macro_rules! number {
    ($($rust:ty: $i64:expr, $i32:expr, $bool:expr, $text:expr;)*) => {
        $(#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_lossless, clippy::unnecessary_cast, reason = "that is what a cast is")]
        impl Number for $rust {
            fn to_f32(self) -> f32 { self as f32 }
            fn to_f64(self) -> f64 { self as f64 }
            fn to_i64(self) -> i64 { let cast: fn(Self) -> i64 = $i64; cast(self) }
            fn to_i32(self) -> i32 { let cast: fn(Self) -> i32 = $i32; cast(self) }
            fn to_bool(self) -> bool { let cast: fn(Self) -> bool = $bool; cast(self) }
            fn to_text(self) -> String { let cast: fn(Self) -> String = $text; cast(self) }
        })*
    };
}

number! {
    f32: |v| whole_i64(f64::from(v)), |v| whole_i32(f64::from(v)), |v| v != 0.0, |v| float_text(f64::from(v));
    f64: |v| whole_i64(v), |v| whole_i32(v), |v| v != 0.0, float_text;
    i64: |v| v, |v| v as i32, |v| v != 0, |v| v.to_string();
    i32: |v| i64::from(v), |v| v, |v| v != 0, |v| v.to_string();
}

impl Number for bool {
    fn to_f32(self) -> f32 {
        f32::from(u8::from(self))
    }

    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }

    fn to_i64(self) -> i64 {
        i64::from(self)
    }

    fn to_i32(self) -> i32 {
        i32::from(self)
    }

    fn to_bool(self) -> bool {
        self
    }

    fn to_text(self) -> String {
        u8::from(self).to_string()
    }
}

/// As `printf("%.8g")` writes it.
pub(super) fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "INF" } else { "-INF" }.to_owned();
    }
    let scientific = format!("{value:.*e}", DIGITS - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let most = i32::try_from(DIGITS).unwrap_or(i32::MAX);
    if (-4..most).contains(&exponent) {
        let decimals = usize::try_from(most - 1 - exponent).unwrap_or_default();
        return without_zeros(&format!("{value:.decimals$}")).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs())
}

fn without_zeros(text: &str) -> &str {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}

fn no_number(text: &str) -> Failure {
    let shown: String = text.chars().take(40).collect();
    Failure::new(format!("text `{}` is not a number", shown.escape_debug()))
}

fn after_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r'])
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

/// The number at the start of a text, as `strtod` reads it.
pub(super) fn text_to_f64(text: &str) -> Result<f64, Failure> {
    let (is_negative, unsigned) = split_sign(after_blanks(text));
    let starts = |word: &str| {
        unsigned
            .get(..word.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(word))
    };
    let value = if starts("inf") {
        f64::INFINITY
    } else if starts("nan") {
        f64::NAN
    } else {
        let hex = if starts("0x") {
            hexadecimal(&unsigned[2..])
        } else {
            None
        };
        let value = match hex {
            Some(value) => value,
            None => decimal(unsigned).ok_or_else(|| no_number(text))?,
        };
        if value.is_infinite() {
            let shown: String = text.chars().take(40).collect();
            return Err(Failure::new(format!(
                "text `{}` is too large a number",
                shown.escape_debug()
            )));
        }
        value
    };
    Ok(if is_negative { -value } else { value })
}

/// The longest decimal number at the start.
fn decimal(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        bytes[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let whole = digits(0);
    let mut end = whole;
    let mut fraction = 0;
    if bytes.get(end) == Some(&b'.') {
        fraction = digits(end + 1);
        end += 1 + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits((end + 1 + sign).min(bytes.len()));
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    text[..end].parse().ok()
}

/// Hexadecimal digits with an optional point and exponent of two, without `0x`.
fn hexadecimal(text: &str) -> Option<f64> {
    let mut value = 0.0f64;
    let mut scale = 0i32;
    let mut has_digits = false;
    let mut is_fraction = false;
    let mut rest = text.char_indices();
    let mut end = text.len();
    for (at, character) in &mut rest {
        match character.to_digit(16) {
            Some(digit) => {
                has_digits = true;
                value = value * 16.0 + f64::from(digit);
                scale -= if is_fraction { 4 } else { 0 };
            }
            None if character == '.' && !is_fraction => is_fraction = true,
            None => {
                end = at;
                break;
            }
        }
    }
    if !has_digits {
        return None;
    }
    if let Some(power) = text[end..].strip_prefix(['p', 'P']) {
        let (is_negative, digits) = split_sign(power);
        let length = digits.bytes().take_while(u8::is_ascii_digit).count();
        if let Ok(power) = digits[..length].parse::<i32>() {
            scale = scale.saturating_add(if is_negative { -power } else { power });
        }
    }
    Some(value * 2.0f64.powi(scale))
}

/// The whole number at the start of a text, as `strtoll` reads it.
pub(super) fn text_to_i64(text: &str) -> Result<i64, Failure> {
    let trimmed = after_blanks(text);
    let (_, digits) = split_sign(trimmed);
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    if length == 0 {
        return Err(no_number(text));
    }
    let end = trimmed.len() - digits.len() + length;
    trimmed[..end].parse().map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        Failure::new(format!(
            "text `{}` is too large a number",
            shown.escape_debug()
        ))
    })
}

/// Text that may be no number.
struct Parse<O, F>(F, PhantomData<fn() -> O>);

impl<O: Element, F: Fn(&str) -> Result<O, Failure> + Send + Sync> Operator for Parse<O, F> {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let texts = input.elements::<String>()?;
        let output = outputs[0].start::<O>(input.shape);
        output.reserve(texts.len());
        for text in texts {
            output.push((self.0)(text)?);
        }
        Ok(())
    }
}

fn parse<O: Element>(
    read: impl Fn(&str) -> Result<O, Failure> + Send + Sync + 'static,
) -> Result<Built, Refusal> {
    Built::one(O::DTYPE, Parse(read, PhantomData))
}

fn from<T: Number>(node: &Node<'_>, to: DType) -> Result<Built, Refusal> {
    match to {
        DType::F32 => each(|value: &T| value.to_f32()),
        DType::F64 => each(|value: &T| value.to_f64()),
        DType::I64 => each(|value: &T| value.to_i64()),
        DType::I32 => each(|value: &T| value.to_i32()),
        DType::Bool => each(|value: &T| value.to_bool()),
        DType::String => each(|value: &T| value.to_text()),
        other => Err(node.refuse(format!("a cast to {other} is not supported"))),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "that is what a cast is")]
fn from_text(node: &Node<'_>, to: DType) -> Result<Built, Refusal> {
    match to {
        DType::F32 => parse(|text| text_to_f64(text).map(|value| value as f32)),
        DType::F64 => parse(text_to_f64),
        DType::I64 => parse(text_to_i64),
        DType::I32 => parse(|text| text_to_i64(text).map(|value| value as i32)),
        DType::String => each(String::clone),
        other => Err(node.refuse(format!("a cast from text to {other} is not supported"))),
    }
}

/// The type that a node casts to.
///
/// # Errors
/// [`Refusal`] when it names none that is supported.
pub(super) fn target(node: &Node<'_>) -> Result<DType, Refusal> {
    let code = node.int("to").unwrap_or_default();
    let dtype = i32::try_from(code).ok().and_then(DType::from_onnx);
    dtype.ok_or_else(|| node.refuse(format!("a cast to element type {code} is not supported")))
}

pub(super) fn cast(node: &Node<'_>) -> Result<Built, Refusal> {
    // The two last ones speak of types of eight bits alone.
    node.only(&["to", "saturate", "round_mode"])?;
    let to = target(node)?;
    match node.dtype(0)? {
        DType::F32 => from::<f32>(node, to),
        DType::F64 => from::<f64>(node, to),
        DType::I64 => from::<i64>(node, to),
        DType::I32 => from::<i32>(node, to),
        DType::Bool => from::<bool>(node, to),
        DType::String => from_text(node, to),
        other => Err(node.unsupported(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_eight_digits() {
        let written = [
            (1.0, "1"),
            (f64::from(0.1f32), "0.1"),
            (1e10, "1e+10"),
            (1e-7, "1e-07"),
            (123_456_789.0, "1.2345679e+08"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "INF"),
            (-0.0, "-0"),
            (16_777_216.0, "16777216"),
            (0.333_333_333_333, "0.33333333"),
            (0.0001, "0.0001"),
            (99_999_999.9, "1e+08"),
        ];
        for (value, text) in written {
            assert_eq!(float_text(value), text);
        }
    }

    #[test]
    fn a_number_ends_where_the_text_stops_being_one() {
        let read = [
            (" 2 ", 2.0),
            ("1e3", 1000.0),
            ("0x10", 16.0),
            ("0x1.8p1", 3.0),
            ("0x", 0.0),
            ("1_000", 1.0),
            ("1,5", 1.0),
            ("1e", 1.0),
            ("+.5e+", 0.5),
            ("-INF", f64::NEG_INFINITY),
        ];
        for (text, value) in read {
            assert_eq!(text_to_f64(text).unwrap(), value, "{text}");
        }
        for text in ["", "abc", ".", "-", "1e999"] {
            assert!(text_to_f64(text).is_err(), "{text}");
        }
        assert_eq!(text_to_i64(" -3.9").unwrap(), -3);
        assert!(text_to_i64("x").is_err());
        assert!(text_to_i64("9223372036854775808").is_err());
    }

    #[test]
    fn what_no_whole_number_can_hold_is_the_smallest_one() {
        assert_eq!(f32::NAN.to_i64(), i64::MIN);
        assert_eq!(1e20f32.to_i64(), i64::MIN);
        assert_eq!((-1.9f64).to_i32(), -1);
        assert_eq!(3e9f64.to_i32(), i32::MIN);
    }
}
