//! Operators on text: `StringNormalizer`, `Tokenizer`. Case does not depend on a locale.

use std::collections::HashSet;

use regex::Regex;

use super::super::failure::{Failure, Refusal};
use super::super::node::Node;
use super::super::operator::{Built, Inputs, Operator, Run, count};
use super::super::value::Value;
use crate::tensor::DType;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Case {
    Lower,
    Upper,
    Keep,
}

impl Case {
    /// One code point for each: what would become two stays.
    fn apply(self, text: &str) -> String {
        fn single<I: Iterator<Item = char>>(character: char, mut changed: I) -> char {
            match (changed.next(), changed.next()) {
                (Some(one), None) => one,
                _ => character,
            }
        }
        match self {
            // The one letter whose small form in Unicode's simple mapping is not its only one.
            Self::Lower => text
                .replace('İ', "i")
                .chars()
                .map(|c| single(c, c.to_lowercase()))
                .collect(),
            Self::Upper => text.chars().map(|c| single(c, c.to_uppercase())).collect(),
            Self::Keep => text.to_owned(),
        }
    }
}

/// Changes case and leaves out some words.
struct StringNormalizer {
    case: Case,
    stopwords: HashSet<String>,
    /// What words are compared in.
    compare: Case,
}

impl Operator for StringNormalizer {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        let is_row = match input.shape {
            [words] | [1, words] if *words > 0 => input.shape.len() == 2,
            shape => {
                return Err(Failure::new(format!(
                    "texts of the shape {shape:?} are not supported"
                )));
            }
        };
        let texts = input.elements::<String>()?.iter();
        let is_kept = |text: &&String| match self.compare {
            _ if self.stopwords.is_empty() => true,
            Case::Keep => !self.stopwords.contains(text.as_str()),
            case => !self.stopwords.contains(&case.apply(text)),
        };
        let mut kept: Vec<String> = texts
            .filter(is_kept)
            .map(|text| self.case.apply(text))
            .collect();
        if kept.is_empty() {
            kept.push(String::new());
        }
        let shape = [1, kept.len()];
        let shape = if is_row { &shape[..] } else { &shape[1..] };
        *outputs[0].start::<String>(shape) = kept;
        Ok(())
    }

    fn cost(&self) -> Option<u64> {
        None
    }
}

pub(super) fn string_normalizer(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&[
        "case_change_action",
        "is_case_sensitive",
        "locale",
        "stopwords",
    ])?;
    if node.dtype(0)? != DType::String {
        return Err(node.unsupported(node.dtype(0)?));
    }
    let case = match node.text("case_change_action")?.unwrap_or("NONE") {
        "LOWER" => Case::Lower,
        "UPPER" => Case::Upper,
        "NONE" => Case::Keep,
        other => {
            return Err(node.refuse(format!(
                "`case_change_action` is `{}`",
                other.escape_debug()
            )));
        }
    };
    let compare = match (node.flag("is_case_sensitive", false), case) {
        (true, _) => Case::Keep,
        (false, Case::Upper) => Case::Upper,
        (false, _) => Case::Lower,
    };
    let stopwords = node
        .texts("stopwords")?
        .into_iter()
        .map(|word| compare.apply(&word));
    Built::one(
        DType::String,
        StringNormalizer {
            case,
            stopwords: stopwords.collect(),
            compare,
        },
    )
}

/// How text becomes tokens.
enum Split {
    Characters,
    /// Everything that matches is a token.
    Matches(Regex),
    /// Everything between matches is one.
    Separators(Vec<Regex>),
}

struct Tokenizer {
    split: Split,
    least: usize,
    pad: String,
    marks: bool,
}

impl Tokenizer {
    fn tokens(&self, text: &str) -> Vec<String> {
        let is_long = |token: &&str| token.chars().count() >= self.least.max(1);
        match &self.split {
            Split::Characters => text.chars().map(String::from).collect(),
            Split::Matches(expression) => {
                let found = expression.find_iter(text).map(|found| found.as_str());
                found.filter(is_long).map(str::to_owned).collect()
            }
            Split::Separators(separators) => {
                let mut parts = vec![text];
                for separator in separators {
                    parts = parts
                        .into_iter()
                        .flat_map(|part| separator.split(part))
                        .collect();
                }
                parts
                    .into_iter()
                    .filter(is_long)
                    .map(str::to_owned)
                    .collect()
            }
        }
    }
}

/// The marks of the beginning and the end of a text (`com.microsoft.Tokenizer`).
const MARKS: [&str; 2] = ["\u{2}", "\u{3}"];

impl Operator for Tokenizer {
    fn run(
        &self,
        inputs: &Inputs<'_>,
        outputs: &mut [Value],
        _run: &mut Run<'_>,
    ) -> Result<(), Failure> {
        let input = inputs.get(0)?;
        if !matches!(input.shape.len(), 1 | 2) {
            return Err(Failure::new(format!(
                "texts of the shape {:?} are not supported",
                input.shape
            )));
        }
        let texts = input.elements::<String>()?;
        if texts.is_empty() {
            outputs[0].start::<String>(&[0, 0][..input.shape.len()]);
            return Ok(());
        }
        let mut tokens: Vec<Vec<String>> = texts.iter().map(|text| self.tokens(text)).collect();
        let mut most = tokens.iter().map(Vec::len).max().unwrap_or(0);
        // Where no text has a token there are no marks either.
        let marks = self.marks && most > 0;
        if marks {
            most += 2;
        }
        let shape = [input.shape, &[most]].concat();
        let length = count(&shape)?;
        let output = outputs[0].start::<String>(&shape);
        output.reserve(length);
        for tokens in &mut tokens {
            if marks {
                tokens.insert(0, MARKS[0].to_owned());
                tokens.push(MARKS[1].to_owned());
            }
            let missing = most - tokens.len();
            output.append(tokens);
            output.extend(std::iter::repeat_n(&self.pad, missing).cloned());
        }
        Ok(())
    }

    fn cost(&self) -> Option<u64> {
        None
    }
}

/// The classes of RE2, which are those of ASCII, for an engine whose classes are those of Unicode.
fn ascii_classes(pattern: &str) -> String {
    let mut written = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            written.push(character);
            continue;
        }
        match characters.next() {
            Some('w') => written.push_str("[0-9A-Za-z_]"),
            Some('W') => written.push_str("[^0-9A-Za-z_]"),
            Some('d') => written.push_str("[0-9]"),
            Some('D') => written.push_str("[^0-9]"),
            Some('s') => written.push_str("[\\t\\n\\x0c\\r ]"),
            Some('S') => written.push_str("[^\\t\\n\\x0c\\r ]"),
            Some('b') => written.push_str("(?-u:\\b)"),
            Some('B') => written.push_str("(?-u:\\B)"),
            Some(other) => written.extend(['\\', other]),
            None => written.push('\\'),
        }
    }
    written
}

/// Whether ONNX Runtime, which takes the longest match and reads classes as RE2 does, may find something else.
fn is_ambiguous(pattern: &str) -> bool {
    let (mut in_class, mut last) = (false, ' ');
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            ']' => in_class = false,
            '[' if in_class => return true,
            '[' => in_class = true,
            '&' | '~' | '-' if in_class && last == character => return true,
            '|' if !in_class => return true,
            // Of as few as possible.
            '?' if !in_class && matches!(last, '*' | '+' | '?' | '}') => return true,
            _ => {}
        }
        last = character;
    }
    false
}

fn expression(node: &Node<'_>, pattern: &str) -> Result<Regex, Refusal> {
    if is_ambiguous(pattern) {
        let shown = pattern.escape_debug();
        let reason = format!(
            "alternatives, lazy repetitions and nested classes, as in `{shown}`, are not supported"
        );
        return Err(node.refuse(reason));
    }
    Regex::new(&ascii_classes(pattern)).map_err(|error| {
        let error = error.to_string();
        let line = error.lines().last().unwrap_or_default();
        node.refuse(format!(
            "cannot use the expression `{}`: {line}",
            pattern.escape_debug()
        ))
    })
}

pub(super) fn tokenizer(node: &Node<'_>) -> Result<Built, Refusal> {
    node.only(&["mark", "mincharnum", "pad_value", "separators", "tokenexp"])?;
    if node.dtype(0)? != DType::String {
        return Err(node.unsupported(node.dtype(0)?));
    }
    let separators = node.texts("separators")?;
    let least = node.int("mincharnum").unwrap_or(1);
    let split = match (separators.as_slice(), node.text("tokenexp")?) {
        // ONNX Runtime takes this one, too, for "each character": it matches the end of a line.
        ([], Some(".")) if least <= 1 => Split::Characters,
        ([], Some(pattern)) if !pattern.is_empty() => Split::Matches(expression(node, pattern)?),
        ([only], _) if only.is_empty() => {
            if least > 1 {
                return Err(node.refuse("`mincharnum` does not go with single characters"));
            }
            Split::Characters
        }
        ([], _) => return Err(node.refuse("has neither `separators` nor `tokenexp`")),
        (_, Some(pattern)) if !pattern.is_empty() => {
            return Err(node.refuse("`separators` with `tokenexp` are not supported"));
        }
        (separators, _) => {
            let separators = separators
                .iter()
                .map(|separator| expression(node, separator));
            let separators = separators.collect::<Result<Vec<_>, _>>()?;
            if separators.iter().any(|separator| separator.is_match("")) {
                return Err(node.refuse("a separator that matches nothing at all is not supported"));
            }
            Split::Separators(separators)
        }
    };
    Built::one(
        DType::String,
        Tokenizer {
            split,
            least: usize::try_from(least).unwrap_or(1),
            pad: node.text("pad_value")?.unwrap_or_default().to_owned(),
            marks: node.flag("mark", false),
        },
    )
}
