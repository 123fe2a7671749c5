//! How much work it can be to read a document.

/// Documents up to here are read in a moment, whatever they hold.
const SMALL: usize = 8 << 10;

/// Larger ones take long, whatever they hold.
const LARGE: usize = 256 << 10;

/// How many times the work of a digit it is to make a list, an object or a text.
const LIST: usize = 40;
const QUOTE: usize = 10;

/// The work of reading a body, in that of a digit of a number: what it can be, not what it is.
///
/// Lists, objects and texts may each take memory of their own, which is why they count; a small body is not looked at.
pub(crate) fn effort(body: &[u8]) -> usize {
    if !(SMALL..LARGE).contains(&body.len()) {
        return body.len();
    }
    let weight = |byte: &u8| match byte {
        b'[' | b'{' => 1 + LIST,
        b'"' => 1 + QUOTE,
        _ => 1,
    };
    body.iter().map(weight).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_texts_count_more_than_numbers() {
        let of = |part: &str| effort(part.repeat(20_000 / part.len()).as_bytes());
        assert!((19_000..21_000).contains(&of("1.25,7.5,-3.25e8,0.125,")));
        assert!(of("[1],") > 10 * 20_000);
        assert!(of("\"\",") > 7 * 20_000);
        assert!(of("{},") > 10 * 20_000);
        assert_eq!(effort(&[b'['; SMALL - 1]), SMALL - 1);
        assert_eq!(effort(&[b'['; LARGE]), LARGE);
    }
}
