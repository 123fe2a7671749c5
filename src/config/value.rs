//! What a value may be, and what is said when it is not.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;

use crate::engine::onnxruntime::OperatorLibrary;
use crate::middleware::auth::TokenAlgorithm;
use crate::telemetry::{AccessLog, check_filter};

/// A value as it stands in a file, a variable or a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// Text, or a number or boolean of a file.
    Text(String),
    /// A list of them.
    List(Vec<String>),
    /// A table where a value should be.
    Table,
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::List(items) => write!(f, "{items:?}"),
            Self::Table => f.write_str("{…}"),
        }
    }
}

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text but none.
    Text,
    /// A path.
    Path,
    /// An address, perhaps with a password that is never printed.
    Uri,
    /// The path under which everything is served: empty, or `/like/this`.
    BasePath,
    /// One more path: `/like/this`.
    Route,
    /// `true` or `false`.
    Bool,
    /// A TCP port, 0 for any free one.
    Port,
    /// A TCP port, or `off`.
    PortOrOff,
    /// A whole number from this one on.
    Integer(u32),
    /// A number from 0 to 1.
    Fraction,
    /// A number of bytes with a unit.
    Size,
    /// A time span with a unit.
    Duration,
    /// One of these.
    Choice(&'static [&'static str]),
    /// Texts; separated by commas in variables.
    List,
    /// Web origins, or `*`.
    Origins,
    /// Libraries, each as `PATH@sha256:HEX`.
    Libraries,
    /// Algorithms of signatures.
    Algorithms,
    /// A log filter.
    LogFilter,
    /// An access log setting.
    AccessLog,
}

/// A checked value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Off,
    Text(String),
    Bool(bool),
    Integer(u64),
    Fraction(f64),
    Duration(Duration),
    List(Vec<String>),
}

/// What is wrong with a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) expected: String,
    pub(super) hint: Option<String>,
}

impl From<&str> for Problem {
    fn from(expected: &str) -> Self {
        Self {
            expected: expected.to_owned(),
            hint: None,
        }
    }
}

/// Longer waits are mistakes, and would overflow the clock.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

impl Kind {
    /// What the value of a flag is called in `--help`.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Text | Self::LogFilter | Self::AccessLog => "VALUE",
            Self::Path | Self::Route => "PATH",
            Self::Uri => "URI",
            Self::BasePath => "PREFIX",
            Self::Bool => "BOOL",
            Self::Port | Self::PortOrOff => "PORT",
            Self::Integer(_) => "N",
            Self::Fraction => "FRACTION",
            Self::Size => "SIZE",
            Self::Duration => "DURATION",
            Self::Choice(_) => "NAME",
            Self::List => "ITEM",
            Self::Origins => "ORIGIN",
            Self::Libraries => "PATH@SHA256",
            Self::Algorithms => "NAME",
        }
    }

    /// Whether the value is a list.
    pub fn is_list(self) -> bool {
        matches!(
            self,
            Self::List | Self::Origins | Self::Libraries | Self::Algorithms
        )
    }

    pub(super) fn parse(self, raw: &Raw) -> Result<Value, Problem> {
        match raw {
            Raw::Table => Err("a plain value".into()),
            Raw::List(items) if self.is_list() => self.parse_list(items.clone()),
            Raw::List(_) => Err("one value, not a list".into()),
            Raw::Text(text) if self.is_list() => {
                let items = text.split(',').map(str::trim);
                self.parse_list(
                    items
                        .filter(|item| !item.is_empty())
                        .map(str::to_owned)
                        .collect(),
                )
            }
            Raw::Text(text) => self.parse_text(text),
        }
    }

    fn parse_list(self, items: Vec<String>) -> Result<Value, Problem> {
        if items.iter().any(String::is_empty) {
            return Err("a list of texts that are not empty".into());
        }
        if self == Self::Origins && !items.iter().all(|item| is_origin(item)) {
            return Err("origins such as `https://example.com`, or `*`".into());
        }
        let is_library = |item: &String| item.parse::<OperatorLibrary>().is_ok();
        if self == Self::Libraries && !items.iter().all(is_library) {
            return Err(
                "paths with their digests, such as `/opt/lib/operators.so@sha256:2cf2…`".into(),
            );
        }
        let is_algorithm = |item: &String| item.parse::<TokenAlgorithm>().is_ok();
        if self == Self::Algorithms && (items.is_empty() || !items.iter().all(is_algorithm)) {
            return Err(format!("some of {}", TokenAlgorithm::names())
                .as_str()
                .into());
        }
        Ok(Value::List(items))
    }

    fn parse_text(self, text: &str) -> Result<Value, Problem> {
        match self {
            Self::Text
            | Self::Path
            | Self::Uri
            | Self::List
            | Self::Origins
            | Self::Libraries
            | Self::Algorithms => match text {
                "" => Err("a text that is not empty".into()),
                text => Ok(Value::Text(text.to_owned())),
            },
            Self::BasePath => base_path(text),
            Self::Route => route(text),
            Self::Bool => match text {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err("`true` or `false`".into()),
            },
            Self::Port => port(text).ok_or_else(|| "a port from 0 to 65535".into()),
            Self::PortOrOff if text == "off" => Ok(Value::Off),
            Self::PortOrOff => port(text).ok_or_else(|| "a port from 0 to 65535, or `off`".into()),
            Self::Integer(least) => integer(text, least),
            Self::Fraction => fraction(text),
            Self::Size => size(text),
            Self::Duration => duration(text),
            Self::Choice(choices) => choice(text, choices),
            Self::LogFilter => match check_filter(text) {
                Ok(()) => Ok(Value::Text(text.to_owned())),
                Err(error) => Err(error.to_string().as_str().into()),
            },
            Self::AccessLog => match text.parse::<AccessLog>() {
                Ok(_) => Ok(Value::Text(text.to_owned())),
                Err(error) => Err(error.to_string().as_str().into()),
            },
        }
    }
}

impl Value {
    /// The form that the settings are deserialised from.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Off => serde_json::Value::Null,
            Self::Text(text) => text.as_str().into(),
            Self::Bool(value) => (*value).into(),
            Self::Integer(value) => (*value).into(),
            Self::Fraction(value) => (*value).into(),
            Self::Duration(value) => humantime::format_duration(*value).to_string().into(),
            Self::List(items) => items.as_slice().into(),
        }
    }
}

/// Digits only: `+5` and ` 5` are somebody's mistake.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn port(text: &str) -> Option<Value> {
    let port = number(text).filter(|port| u16::try_from(*port).is_ok());
    port.map(Value::Integer)
}

fn integer(text: &str, least: u32) -> Result<Value, Problem> {
    let fits = |value: &u64| (u64::from(least)..=u64::from(u32::MAX)).contains(value);
    let value = number(text).filter(fits).map(Value::Integer);
    value.ok_or_else(|| Problem {
        expected: format!("a whole number, {least} or more"),
        hint: None,
    })
}

fn fraction(text: &str) -> Result<Value, Problem> {
    let fits = |value: &f64| (0.0..=1.0).contains(value);
    let value = text.parse().ok().filter(fits).map(Value::Fraction);
    value.ok_or_else(|| "a number from 0 to 1, such as `0.1`".into())
}

fn size(text: &str) -> Result<Value, Problem> {
    const EXPECTED: &str = "a size such as `64MiB`";
    match number(text) {
        Some(0) => return Ok(Value::Integer(0)),
        Some(bytes) => {
            return Err(Problem {
                expected: EXPECTED.to_owned(),
                hint: Some(format!("give it a unit: `{bytes}B` or `{bytes}MiB`")),
            });
        }
        None => {}
    }
    // The parser saturates: a size near the end of the address space is a mistake.
    let fits = |size: &ByteSize| size.as_u64() < u64::MAX / 4;
    let size = text.parse::<ByteSize>().ok().filter(fits);
    size.map(|size| Value::Integer(size.as_u64()))
        .ok_or_else(|| EXPECTED.into())
}

fn duration(text: &str) -> Result<Value, Problem> {
    const EXPECTED: &str = "a duration such as `5ms`";
    if number(text).is_some_and(|value| value > 0) {
        return Err(Problem {
            expected: EXPECTED.to_owned(),
            hint: Some(format!("give it a unit: `{text}ms` or `{text}s`")),
        });
    }
    match humantime::parse_duration(text) {
        Ok(value) if value <= LONGEST => Ok(Value::Duration(value)),
        Ok(_) => Err("a duration of at most `1year`".into()),
        Err(_) => Err(EXPECTED.into()),
    }
}

fn choice(text: &str, choices: &[&str]) -> Result<Value, Problem> {
    if choices.contains(&text) {
        return Ok(Value::Text(text.to_owned()));
    }
    let names: Vec<String> = choices.iter().map(|choice| format!("`{choice}`")).collect();
    let meant = closest(text, choices.iter().copied());
    Err(Problem {
        expected: format!("one of {}", names.join(", ")),
        hint: meant.map(|meant| format!("did you mean `{meant}`?")),
    })
}

/// What the router takes as it is: no parameters, nothing that is encoded.
fn route(text: &str) -> Result<Value, Problem> {
    let segment = |segment: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~:@".contains(c);
        !matches!(segment, "" | "." | "..")
            && segment.starts_with(|c| c != ':')
            && segment.chars().all(allowed)
    };
    let segments = text.strip_prefix('/').map(|rest| rest.split('/'));
    let fits = segments.is_some_and(|mut segments| segments.all(segment));
    let value = fits.then(|| Value::Text(text.to_owned()));
    value.ok_or_else(|| "a path such as `/v1/endpoints/1/deployedModels/2:predict`".into())
}

fn base_path(text: &str) -> Result<Value, Problem> {
    let path = text.trim_end_matches('/');
    let segment = |segment: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        !matches!(segment, "" | "." | "..") && segment.chars().all(allowed)
    };
    let fits = path.is_empty()
        || path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(segment));
    if fits {
        return Ok(Value::Text(path.to_owned()));
    }
    Err("a path such as `/models`, of letters, digits, `-`, `.`, `_` and `~`".into())
}

fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|host| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        !host.is_empty() && host.chars().all(allowed)
    })
}

/// The candidate that `text` is most like, when it is like one at all.
pub(super) fn closest<'a>(
    text: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let text = text.to_lowercase();
    candidates
        .map(|candidate| (likeness(&text, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

/// 1 for equal texts, 0 for texts that have nothing in common. `onnx` is like `onnxruntime`.
pub(super) fn likeness(one: &str, other: &str) -> f64 {
    let begun = one.len() >= 3 && (other.starts_with(one) || one.starts_with(other));
    let distance = strsim::normalized_damerau_levenshtein(one, other);
    if begun { distance.max(0.65) } else { distance }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const ENGINES: Kind = Kind::Choice(super::super::keys::ENGINES);

    fn parse(kind: Kind, text: &str) -> Result<Value, Problem> {
        kind.parse(&Raw::Text(text.to_owned()))
    }

    fn hint(kind: Kind, text: &str) -> Option<String> {
        parse(kind, text).unwrap_err().hint
    }

    #[rstest]
    #[case(Kind::Port, "0", Value::Integer(0))]
    #[case(Kind::Port, "65535", Value::Integer(65535))]
    #[case(Kind::PortOrOff, "off", Value::Off)]
    #[case(Kind::Integer(1), "4", Value::Integer(4))]
    #[case(Kind::Fraction, "0.05", Value::Fraction(0.05))]
    #[case(Kind::Fraction, "1", Value::Fraction(1.0))]
    #[case(Kind::Size, "64MiB", Value::Integer(64 << 20))]
    #[case(Kind::Size, "1.5 KB", Value::Integer(1500))]
    #[case(Kind::Size, "17B", Value::Integer(17))]
    #[case(Kind::Size, "0", Value::Integer(0))]
    #[case(Kind::Duration, "5ms", Value::Duration(Duration::from_millis(5)))]
    #[case(Kind::Duration, "1m 30s", Value::Duration(Duration::from_secs(90)))]
    #[case(Kind::Duration, "0", Value::Duration(Duration::ZERO))]
    #[case(Kind::BasePath, "", Value::Text(String::new()))]
    #[case(Kind::BasePath, "/", Value::Text(String::new()))]
    #[case(Kind::BasePath, "/ml/v1/", Value::Text("/ml/v1".to_owned()))]
    #[case(Kind::List, "a, b,", Value::List(vec!["a".to_owned(), "b".to_owned()]))]
    #[case(Kind::Route, "/v1/a/2:predict", Value::Text("/v1/a/2:predict".to_owned()))]
    #[case(Kind::Bool, "true", Value::Bool(true))]
    #[case(ENGINES, "tract", Value::Text("tract".to_owned()))]
    fn reads(#[case] kind: Kind, #[case] text: &str, #[case] value: Value) {
        assert_eq!(parse(kind, text), Ok(value));
    }

    #[rstest]
    #[case(Kind::Text, &[""])]
    #[case(Kind::Port, &["65536", "-1", "+1", "http", "80.0", "tcp://10.0.0.1:80"])]
    #[case(Kind::PortOrOff, &["none", "OFF", ""])]
    #[case(Kind::Integer(1), &["0", "-1", "1.0", "4294967296", "99999999999999999999999"])]
    #[case(Kind::Fraction, &["", "1.1", "-0.1", "NaN", "inf", "10%"])]
    #[case(Kind::Size, &["", "64", "-1MiB", "64 parsecs", "99999999EiB", "NaN", "infMiB"])]
    #[case(Kind::Duration, &["", "10x", "10", "-5ms", "2years", "99999999999999999999s"])]
    #[case(Kind::Route, &["", "/", "a", "/a/", "//a", "/{x}", "/*a", "/:a", "/a b", "/a?b", "/../a"])]
    #[case(Kind::BasePath, &["ml", "/a//b", "/../a", "/{x}", "/a b", "/a?b", "/*"])]
    #[case(Kind::Bool, &["yes", "1", "TRUE"])]
    #[case(Kind::Libraries, &["/x.so", "/x.so@sha256:12"])]
    #[case(Kind::Origins, &["example.com", "https://example.com/path", "https://"])]
    fn refuses(#[case] kind: Kind, #[case] texts: &[&str]) {
        for text in texts {
            assert!(parse(kind, text).is_err(), "{kind:?} {text:?}");
        }
    }

    #[test]
    fn says_which_unit_is_missing() {
        assert_eq!(
            hint(Kind::Size, "64").unwrap(),
            "give it a unit: `64B` or `64MiB`"
        );
        assert_eq!(
            hint(Kind::Duration, "10").unwrap(),
            "give it a unit: `10ms` or `10s`"
        );
        assert_eq!(hint(Kind::Duration, "10x"), None);
    }

    #[test]
    fn suggests_what_was_probably_meant() {
        for meant in ["onnx", "ONNXRuntime", "onxruntime"] {
            assert_eq!(hint(ENGINES, meant).unwrap(), "did you mean `onnxruntime`?");
        }
        assert_eq!(hint(ENGINES, "tensorrt"), None);
    }
}
