//! The environment: `ONSTAGE_SERVER__PORT` is `server.port`.

use std::ffi::OsString;

use super::keys::{find, suggest};
use super::{ConfigError, Entry, KeyPath, Origin, Raw};

const PREFIX: &str = "ONSTAGE_";
const SEPARATOR: &str = "__";

/// What the environment holds for us.
#[derive(Debug, Default)]
pub(super) struct Environment {
    pub(super) entries: Vec<(KeyPath, Entry)>,
    pub(super) notices: Vec<String>,
}

/// The entries of `variables`. `models` are the names in the file, which a variable may write in any case.
pub(super) fn read(
    variables: &[(OsString, OsString)],
    models: &[String],
) -> Result<Environment, ConfigError> {
    let mut found = Environment::default();
    for (name, value) in variables {
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        // An empty variable is how many tools unset one.
        if value.is_empty() {
            continue;
        }
        let Some(value) = value.to_str() else {
            return Err(ConfigError::NotUnicode(name.into_owned()));
        };
        if is_service_link(rest, value) {
            let notice = format!(
                "ignored environment variable `{name}`, which Kubernetes sets for a Service"
            );
            found.notices.push(notice);
            continue;
        }
        let path = key_path(rest, models);
        let Some(def) = find(&path) else {
            return Err(unknown(name.into_owned(), &path));
        };
        let origin = Origin::Environment(name.into_owned());
        let raw = Raw::Text(value.to_owned());
        found.entries.push((path, Entry { def, raw, origin }));
    }
    Ok(found)
}

fn unknown(name: String, path: &KeyPath) -> ConfigError {
    let meant = suggest(path).filter(|meant| find(meant).is_some());
    let suggestion = meant.map(|meant| {
        let parts: Vec<String> = meant
            .parts()
            .iter()
            .map(|part| part.to_uppercase())
            .collect();
        format!("{PREFIX}{}", parts.join(SEPARATOR))
    });
    ConfigError::UnknownVariable { name, suggestion }
}

/// The key that the variable `ONSTAGE_<rest>` stands for.
fn key_path(rest: &str, models: &[String]) -> KeyPath {
    let parts: Vec<&str> = rest.split(SEPARATOR).collect();
    let lower = |parts: &[&str]| parts.iter().map(|part| part.to_lowercase()).collect();
    if parts.len() < 3 || !parts[0].eq_ignore_ascii_case("models") {
        return KeyPath::new(lower(&parts));
    }
    let parts = &parts[1..];
    // A name may itself hold the separator: the key at the end decides where it stops.
    let nested = parts.len() >= 3 && parts[parts.len() - 2].eq_ignore_ascii_case("batching");
    let (name, key) = parts.split_at(parts.len() - if nested { 2 } else { 1 });
    let mut path = vec![
        "models".to_owned(),
        model_name(&name.join(SEPARATOR), models),
    ];
    path.extend::<Vec<String>>(lower(key));
    KeyPath::new(path)
}

/// Variables are written in capitals, models mostly not: a name of the file counts in any case, and one that is all
/// capitals is taken as lower case.
fn model_name(written: &str, models: &[String]) -> String {
    let known = |name: &&String| name.to_lowercase() == written.to_lowercase();
    if models.iter().any(|name| name == written) {
        written.to_owned()
    } else if let Some(name) = models.iter().find(known) {
        name.clone()
    } else if written.chars().any(char::is_lowercase) {
        written.to_owned()
    } else {
        written.to_lowercase()
    }
}

/// Whether this is one of the variables that Kubernetes sets for each Service, here one whose name begins with
/// `onstage`: `ONSTAGE_SERVICE_HOST`, `ONSTAGE_SERVICE_PORT_HTTP`, `ONSTAGE_PORT=tcp://…`, `ONSTAGE_PORT_8080_TCP_ADDR`.
fn is_service_link(rest: &str, value: &str) -> bool {
    if rest.contains(SEPARATOR) {
        return false;
    }
    let words: Vec<&str> = rest.split('_').collect();
    let links = ["tcp://", "udp://", "sctp://"];
    let is_protocol = |word: &str| matches!(word, "TCP" | "UDP" | "SCTP");
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    match words.as_slice() {
        [.., "SERVICE", "HOST"] | [.., "SERVICE", "PORT"] => true,
        [.., "PORT", number, protocol, "PROTO" | "PORT" | "ADDR"]
        | [.., "PORT", number, protocol]
            if is_number(number) && is_protocol(protocol) =>
        {
            true
        }
        [.., "PORT"] => links.iter().any(|link| value.starts_with(link)),
        words => words.windows(2).any(|pair| pair == ["SERVICE", "PORT"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KEYS;

    fn read_one(name: &str, value: &str) -> Result<Environment, ConfigError> {
        let models = ["Fraud".to_owned(), "a.b".to_owned()];
        read(&[(name.into(), value.into())], &models)
    }

    fn key(name: &str) -> String {
        read_one(name, "x").unwrap().entries[0].0.to_string()
    }

    #[test]
    fn every_variable_of_the_table_is_read_as_its_key() {
        for def in KEYS {
            let name = def.variable().replace("<NAME>", "FRAUD2");
            assert_eq!(key(&name), def.path_for("fraud2").to_string());
        }
    }

    #[test]
    fn a_model_of_the_file_is_found_in_any_case() {
        assert_eq!(key("ONSTAGE_MODELS__FRAUD__ENGINE"), "models.Fraud.engine");
        assert_eq!(key("ONSTAGE_MODELS__A.B__ENGINE"), "models.\"a.b\".engine");
        assert_eq!(key("ONSTAGE_MODELS__Iris__ENGINE"), "models.Iris.engine");
        assert_eq!(key("ONSTAGE_MODELS__A__B__ENGINE"), "models.a__b.engine");
        let nested = key("ONSTAGE_MODELS__IRIS__BATCHING__INSTANCES");
        assert_eq!(nested, "models.iris.batching.instances");
    }

    #[test]
    fn service_links_are_ignored_with_a_notice() {
        let links = [
            ("ONSTAGE_PORT", "tcp://10.0.0.7:8080"),
            ("ONSTAGE_SERVICE_HOST", "10.0.0.7"),
            ("ONSTAGE_SERVICE_PORT", "8080"),
            ("ONSTAGE_SERVICE_PORT_HTTP", "8080"),
            ("ONSTAGE_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
            ("ONSTAGE_PORT_8080_TCP_ADDR", "10.0.0.7"),
            ("ONSTAGE_METRICS_SERVICE_HOST", "10.0.0.8"),
            ("ONSTAGE_METRICS_PORT", "tcp://10.0.0.8:9090"),
        ];
        for (name, value) in links {
            let found = read_one(name, value).unwrap();
            assert!(found.entries.is_empty(), "{name}");
            assert!(found.notices[0].contains(name), "{name}");
        }
    }

    #[test]
    fn a_variable_without_nesting_is_an_error_that_names_the_right_one() {
        for (name, meant) in [
            ("ONSTAGE_PORT", "ONSTAGE_SERVER__PORT"),
            ("ONSTAGE_LOG_LEVEL", "ONSTAGE_TELEMETRY__LOG_LEVEL"),
            ("ONSTAGE_SERVER_PORT", "ONSTAGE_SERVER__PORT"),
            ("ONSTAGE_SERVER__PROT", "ONSTAGE_SERVER__PORT"),
        ] {
            let error = read_one(name, "9000").unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("unknown environment variable `{name}`")
            );
            assert_eq!(error.hint(), Some(format!("did you mean `{meant}`?")));
        }
    }

    #[test]
    fn an_empty_variable_and_a_foreign_one_are_nothing() {
        for (name, value) in [
            ("ONSTAGE_SERVER__PORT", ""),
            ("ONSTAGE_X", ""),
            ("PATH", "/bin"),
        ] {
            assert!(read_one(name, value).unwrap().entries.is_empty());
        }
    }
}
