//! Patterns of names: `*` is any text, also none; everything else is itself.

use std::fmt;
use std::str::FromStr;

use crate::model::fits_pattern;

/// A pattern such as `fraud-*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a pattern has 1 to 256 characters and no control characters; `*` stands for any text")]
pub struct PatternError;

impl Pattern {
    /// Matches every name.
    pub fn all() -> Self {
        Self("*".into())
    }

    /// Whether it matches every name, also those that nobody has thought of yet.
    pub fn is_all(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }

    /// Whether it matches the whole of `text`.
    pub fn matches(&self, text: &str) -> bool {
        fits_pattern(&self.0, text)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let fits = (1..=256).contains(&text.chars().count());
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(PatternError)
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(text)
    }

    #[test]
    fn a_star_is_any_text_and_all_else_is_itself() {
        for (pattern, text, expected) in [
            ("iris", "iris", true),
            ("iris", "iris2", false),
            ("iris", "Iris", false),
            ("*", "", true),
            ("*", "any thing", true),
            ("fraud-*", "fraud-", true),
            ("fraud-*", "fraud-eu-2", true),
            ("fraud-*", "my-fraud-eu", false),
            ("*-eu", "fraud-eu", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("a.b?", "a.b?", true),
            ("a.b?", "aXbX", false),
            ("ä*", "äö", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!("**".parse::<Pattern>().unwrap().is_all());
        assert!(!"a*".parse::<Pattern>().unwrap().is_all());
        for wrong in ["", "a\nb", &"x".repeat(257)] {
            assert_eq!(wrong.parse::<Pattern>(), Err(PatternError));
        }
    }

    /// As slow and as plain as can be.
    fn by_definition(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|at| by_definition(rest, &text[at..])),
            Some((c, rest)) => text.first() == Some(c) && by_definition(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn matches_what_the_definition_matches(pattern in "[ab*]{1,8}", text in "[ab]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = by_definition(&chars(&pattern), &chars(&text));
            prop_assert_eq!(matches(&pattern, &text), expected);
        }
    }
}
