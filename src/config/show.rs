//! The output of `--check-config`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::value::{Kind, Value};
use super::{Entry, KEYS, KeyPath, Origin, Raw};

/// TOML, with the origin of each value as a comment. Keys without a value are comments.
pub(super) fn show(entries: &BTreeMap<KeyPath, (Entry, Value)>) -> String {
    let rows = rows(entries);
    let width = rows.iter().map(|(left, _)| left.chars().count()).max();
    let width = width.unwrap_or(0).min(60);
    let mut text = String::new();
    for (left, right) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{left:width$}  # {right}");
    }
    text
}

fn rows(entries: &BTreeMap<KeyPath, (Entry, Value)>) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for def in KEYS {
        if def.is_per_model() {
            continue;
        }
        let path = def.path_for("");
        match entries.get(&path) {
            Some(entry) => rows.push(row(&path, entry)),
            None => rows.push((format!("# {path} ="), "not set".to_owned())),
        }
    }
    let of_models = entries.iter().filter(|(path, _)| path.model().is_some());
    rows.extend(of_models.map(|(path, entry)| row(path, entry)));
    rows
}

fn row(path: &KeyPath, (entry, value): &(Entry, Value)) -> (String, String) {
    let left = format!("{path} = {}", literal(entry, value));
    let right = match &entry.origin {
        Origin::Default => "default".to_owned(),
        origin => format!("from {origin}"),
    };
    (left, right)
}

fn literal(entry: &Entry, value: &Value) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    match (value, &entry.raw) {
        (Value::List(items), _) => serde_json::Value::from(items.as_slice()).to_string(),
        (Value::Bool(value), _) => value.to_string(),
        (Value::Fraction(value), _) => value.to_string(),
        (Value::Integer(value), _) if entry.def.kind != Kind::Size => value.to_string(),
        (Value::Text(text), _) if entry.def.kind == Kind::Uri => quoted(&without_password(text)),
        (Value::Text(text), _) => quoted(text),
        // As it was written: `60s` is not `1m` to a reader.
        (_, Raw::Text(text)) => quoted(text),
        (_, raw) => quoted(&raw.to_string()),
    }
}

/// `https://user:***@host/`: from the colon after the user's name to the last `@` before the path.
fn without_password(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return uri.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or(user);
            format!("{scheme}://{user}:***@{host}{path}")
        }
        None => uri.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_left_out() {
        let cases = [
            ("https://me:s3cret@host/x", "https://me:***@host/x"),
            ("https://me:a@b@host", "https://me:***@host"),
            ("https://token@host", "https://token:***@host"),
            ("https://host/a@b", "https://host/a@b"),
            ("./registry", "./registry"),
        ];
        for (uri, shown) in cases {
            assert_eq!(without_password(uri), shown);
        }
    }
}
