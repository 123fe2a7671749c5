//! The configuration file: TOML.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeString, DeTable, DeValue};

use super::error::shorten;
use super::keys::{find, is_section, suggest};
use super::{ConfigError, Entry, KeyPath, Origin, Raw};

/// The entries of the file at `path`.
pub(super) fn read(path: &Path) -> Result<Vec<(KeyPath, Entry)>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    entries(path, &text)
}

fn entries(path: &Path, text: &str) -> Result<Vec<(KeyPath, Entry)>, ConfigError> {
    let mut reader = Reader {
        path,
        text,
        entries: Vec::new(),
    };
    let parsed = DeTable::parse(text);
    let table = parsed.map_err(|error| reader.syntax(&error.to_string()))?;
    for (name, value) in sorted(table.get_ref()) {
        let path = KeyPath::new(vec![name.get_ref().to_string()]);
        reader.take(&path, name, value.get_ref())?;
    }
    Ok(reader.entries)
}

type Key<'t> = Spanned<DeString<'t>>;

/// By name, in which order mistakes are reported.
fn sorted<'a, 't>(table: &'a DeTable<'t>) -> Vec<(&'a Key<'t>, &'a Spanned<DeValue<'t>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by(|(one, _), (other, _)| one.get_ref().cmp(other.get_ref()));
    entries
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    entries: Vec<(KeyPath, Entry)>,
}

impl Reader<'_> {
    fn take(
        &mut self,
        path: &KeyPath,
        name: &Key<'_>,
        value: &DeValue<'_>,
    ) -> Result<(), ConfigError> {
        let raw = raw(value).map_err(|reason| self.syntax(&reason.to_string()))?;
        let origin = self.origin(name);
        if let Some(def) = find(path) {
            self.entries
                .push((path.clone(), Entry { def, raw, origin }));
            return Ok(());
        }
        if !is_section(path) {
            return Err(ConfigError::UnknownKey {
                suggestion: suggest(path).map(|meant| meant.to_string()),
                key: path.clone(),
                origin,
            });
        }
        let DeValue::Table(table) = value else {
            return Err(ConfigError::InvalidValue {
                value: shorten(&raw.to_string()),
                key: path.clone(),
                origin,
                expected: "a table".into(),
                hint: None,
            });
        };
        for (name, child) in sorted(table) {
            self.take(&path.child(name.get_ref()), name, child.get_ref())?;
        }
        Ok(())
    }

    /// Where a key stands.
    fn origin(&self, name: &Key<'_>) -> Origin {
        let before = &self.text.as_bytes()[..name.span().start];
        let breaks = before.iter().filter(|byte| **byte == b'\n').count();
        Origin::File {
            path: self.path.to_owned(),
            line: Some(breaks + 1),
        }
    }

    fn syntax(&self, reason: &str) -> ConfigError {
        ConfigError::Syntax {
            path: self.path.to_owned(),
            reason: reason.trim_end().to_owned(),
        }
    }
}

/// A number that TOML can write and no setting can be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum NumberError {
    #[error(transparent)]
    Integer(#[from] std::num::ParseIntError),
    #[error(transparent)]
    Float(#[from] std::num::ParseFloatError),
    #[error("floating-point number overflowed")]
    Overflow,
}

fn raw(value: &DeValue<'_>) -> Result<Raw, NumberError> {
    let text = match value {
        DeValue::Table(_) => return Ok(Raw::Table),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| raw(item.get_ref()));
            let items = items.collect::<Result<Vec<Raw>, _>>()?;
            let texts = items.into_iter().map(|item| match item {
                Raw::Text(text) => Some(text),
                Raw::List(_) | Raw::Table => None,
            });
            let texts: Option<Vec<String>> = texts.collect();
            return Ok(texts.map_or(Raw::Table, Raw::List));
        }
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => integer(number)?.to_string(),
        DeValue::Float(number) => float(number)?.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => time.to_string(),
    };
    Ok(Raw::Text(text))
}

fn integer(number: &DeInteger<'_>) -> Result<i64, NumberError> {
    Ok(i64::from_str_radix(number.as_str(), number.radix())?)
}

fn float(number: &DeFloat<'_>) -> Result<f64, NumberError> {
    let float: f64 = number.as_str().parse()?;
    if float.is_infinite() && !number.as_str().contains("inf") {
        return Err(NumberError::Overflow);
    }
    Ok(float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_line_of_keys_in_every_form() {
        let text = "telemetry.log_level = 'info'\n[server]\nport = 1\ntls = { cert_file = 'a' }\n\n\
                    [models.\"a.b c\"]\nengine = 'tract'\n";
        let found = entries(Path::new("f"), text).unwrap();
        let lines = found.into_iter().map(|(key, entry)| match entry.origin {
            Origin::File { line, .. } => (key.to_string(), line),
            other => panic!("{other:?}"),
        });
        let lines: Vec<(String, Option<usize>)> = lines.collect();
        let expected = [
            ("models.\"a.b c\".engine", 7),
            ("server.port", 3),
            ("server.tls.cert_file", 4),
            ("telemetry.log_level", 1),
        ];
        let expected = expected.map(|(key, line)| (key.to_owned(), Some(line)));
        assert_eq!(lines, expected);
    }

    #[test]
    fn numbers_are_read_in_every_form_and_refused_where_they_are_too_large() {
        let text_of = |number: &str| {
            let text = format!("[server]\nport = {number}\n");
            let found = entries(Path::new("f"), &text)?;
            Ok::<_, ConfigError>(found[0].1.raw.to_string())
        };
        assert_eq!(text_of("0x1f_90").unwrap(), "8080");
        assert_eq!(text_of("8_080").unwrap(), "8080");
        assert_eq!(text_of("1.50").unwrap(), "1.5");
        assert_eq!(
            text_of("99999999999999999999").unwrap_err().to_string(),
            "configuration file `f` is not valid TOML: number too large to fit in target type"
        );
        assert_eq!(
            text_of("1e999").unwrap_err().to_string(),
            "configuration file `f` is not valid TOML: floating-point number overflowed"
        );
    }
}
