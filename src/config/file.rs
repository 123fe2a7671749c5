//! The configuration file: TOML.

use std::path::Path;

use config::{File, FileFormat, Source, ValueKind};

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
        text: &text,
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
    text: &'a str,
    entries: Vec<(KeyPath, Entry)>,
}

impl Reader<'_> {
    fn take(&mut self, path: &KeyPath, value: ValueKind) -> Result<(), ConfigError> {
        let origin = Origin::File {
            path: self.path.to_owned(),
            line: line_of(self.text, path.parts()),
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

/// The line of `parts` when it stands in the usual form, a `[section]` and `key = value` lines. The parser keeps no
/// positions; a key in another form is named without its line.
fn line_of(text: &str, parts: &[String]) -> Option<usize> {
    let (last, section) = parts.split_last()?;
    let mut current: Vec<String> = Vec::new();
    let mut of_section = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
        {
            current = split_key(header);
            if current == parts {
                of_section = Some(index + 1);
            }
            continue;
        }
        let Some((key, _)) = line.split_once('=') else {
            continue;
        };
        if current == section && split_key(key) == std::slice::from_ref(last) {
            return Some(index + 1);
        }
    }
    of_section
}

fn split_key(key: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    for c in key.trim().chars() {
        let part = parts.last_mut().expect("it begins with one and only grows");
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('.', None) => parts.push(String::new()),
            (c, None) if c.is_whitespace() => {}
            (c, _) => part.push(c),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_line_of_keys_and_tables() {
        let text = "[server]\nport = 1\n\n[models.\"a.b c\"]\nengine = 'tract'\n[empty]\n";
        let line = |parts: &[&str]| {
            let parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            line_of(text, &parts)
        };
        assert_eq!(line(&["server", "port"]), Some(2));
        assert_eq!(line(&["models", "a.b c", "engine"]), Some(5));
        assert_eq!(line(&["empty"]), Some(6));
        assert_eq!(line(&["engine", "port"]), None);
    }
}
