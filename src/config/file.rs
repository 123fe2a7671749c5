//! The configuration file: TOML.

use std::collections::HashMap;
use std::path::Path;

use config::{File, FileFormat, Source, ValueKind};
use toml::de::{DeTable, DeValue};

use super::error::shorten;
use super::keys::{find, is_section, suggest};
use super::{ConfigError, Entry, KeyPath, Origin, Raw};

/// The entries of the file at `path`.
pub(super) fn read(path: &Path) -> Result<Vec<(KeyPath, Entry)>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let parsed = File::from_str(&text, FileFormat::Toml).collect();
    let table = parsed.map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        reason: error.to_string().trim_end().to_owned(),
    })?;
    let mut reader = Reader {
        path,
        lines: Lines::new(&text),
        entries: Vec::new(),
    };
    let mut sections: Vec<_> = table.into_iter().collect();
    sections.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (name, value) in sections {
        reader.take(&KeyPath::new(vec![name]), value.kind)?;
    }
    Ok(reader.entries)
}

struct Reader<'a> {
    path: &'a Path,
    lines: Lines,
    entries: Vec<(KeyPath, Entry)>,
}

impl Reader<'_> {
    fn take(&mut self, path: &KeyPath, value: ValueKind) -> Result<(), ConfigError> {
        let origin = Origin::File {
            path: self.path.to_owned(),
            line: self.lines.of_key(path),
        };
        if let Some(def) = find(path) {
            let raw = raw(value);
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
        let ValueKind::Table(table) = value else {
            return Err(ConfigError::InvalidValue {
                value: shorten(&raw(value).to_string()),
                key: path.clone(),
                origin,
                expected: "a table".into(),
                hint: None,
            });
        };
        let mut children: Vec<_> = table.into_iter().collect();
        children.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (name, child) in children {
            self.take(&path.child(&name), child.kind)?;
        }
        Ok(())
    }
}

fn raw(value: ValueKind) -> Raw {
    match value {
        ValueKind::Table(_) => Raw::Table,
        ValueKind::Array(items) => {
            let text = |item: config::Value| match raw(item.kind) {
                Raw::Text(text) => Some(text),
                Raw::List(_) | Raw::Table => None,
            };
            let items: Option<Vec<String>> = items.into_iter().map(text).collect();
            items.map_or(Raw::Table, Raw::List)
        }
        ValueKind::Nil => Raw::Text(String::new()),
        ValueKind::Boolean(value) => Raw::Text(value.to_string()),
        ValueKind::I64(value) => Raw::Text(value.to_string()),
        ValueKind::I128(value) => Raw::Text(value.to_string()),
        ValueKind::U64(value) => Raw::Text(value.to_string()),
        ValueKind::U128(value) => Raw::Text(value.to_string()),
        ValueKind::Float(value) => Raw::Text(value.to_string()),
        ValueKind::String(value) => Raw::Text(value),
    }
}

/// The line of each key and table: of those the parser that reads values keeps no positions.
struct Lines(HashMap<Vec<String>, usize>);

impl Lines {
    fn new(text: &str) -> Self {
        let mut lines = Self(HashMap::new());
        if let Ok(table) = DeTable::parse(text) {
            lines.add(text, &[], table.get_ref());
        }
        lines
    }

    fn add(&mut self, text: &str, path: &[String], table: &DeTable<'_>) {
        for (name, value) in table {
            let path = [path, &[name.get_ref().to_string()]].concat();
            let before = &text.as_bytes()[..name.span().start];
            let breaks = before.iter().filter(|byte| **byte == b'\n').count();
            if let DeValue::Table(table) = value.get_ref() {
                self.add(text, &path, table);
            }
            self.0.insert(path, breaks + 1);
        }
    }

    fn of_key(&self, path: &KeyPath) -> Option<usize> {
        self.0.get(path.parts()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_line_of_keys_in_every_form() {
        let text = "telemetry.log_level = 'info'\n[server]\nport = 1\ntls = { cert_file = 'a' }\n\n\
                    [models.\"a.b c\"]\nengine = 'tract'\n[empty]\n";
        let lines = Lines::new(text);
        let line = |parts: &[&str]| {
            let parts = parts.iter().map(|part| (*part).to_owned());
            lines.of_key(&KeyPath::new(parts.collect()))
        };
        assert_eq!(line(&["telemetry", "log_level"]), Some(1));
        assert_eq!(line(&["server", "port"]), Some(3));
        assert_eq!(line(&["server", "tls", "cert_file"]), Some(4));
        assert_eq!(line(&["models", "a.b c", "engine"]), Some(7));
        assert_eq!(line(&["empty"]), Some(8));
        assert_eq!(line(&["engine", "port"]), None);
    }
}
