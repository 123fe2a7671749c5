//! Patterns of names and tags.

/// Whether the whole of `text` fits a pattern in which `*` stands for any text, also none; everything else is itself.
pub fn fits_pattern(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    // `split` gives one part at least, which has to stand at the beginning.
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    // Each part as far to the left as it goes: no choice has to be taken back.
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, text, fits) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "abc", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "ac", true),
            ("ab*bc", "abc", false),
            ("*b*", "abc", true),
            ("a*b*c", "aXbYc", true),
            ("abc", "abcd", false),
        ] {
            assert_eq!(fits_pattern(pattern, text), fits, "{pattern:?} {text:?}");
        }
    }
}
