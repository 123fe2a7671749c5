//! Paths of V1: `models/{model}[/versions/{n}|/labels/{label}][:verb]`, without regard to case but for the names.

use std::borrow::Cow;

use axum::http::Uri;
use axum::http::uri::PathAndQuery;

use crate::model::{Alias, ModelName, Pointer, Stage};
use crate::protocol::oip::error::OipError;
use crate::serving::{CatalogSnapshot, Selector, VersionSelector};

/// What a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) selector: Selector,
    /// What stands after the colon, in lower case.
    pub(crate) verb: Option<String>,
}

impl Target {
    /// Reads the parameters of a route. A label is an alias, or a stage where no alias has its name.
    ///
    /// # Errors
    /// A name, version or label that cannot be one.
    pub(crate) fn parse(
        parameters: Vec<(String, String)>,
        snapshot: &CatalogSnapshot,
    ) -> Result<Self, OipError> {
        let mut target = Self {
            selector: Selector {
                model: None,
                version: VersionSelector::Default,
            },
            verb: None,
        };
        for (parameter, mut text) in parameters {
            // No name, version or label holds a colon.
            if let Some((name, verb)) = text.split_once(':') {
                target.verb = Some(verb.to_ascii_lowercase());
                text = name.to_owned();
            }
            let not_found = |error: &dyn std::fmt::Display| OipError::NotFound(error.to_string());
            match parameter.as_str() {
                "version" => {
                    let version = text.parse().map_err(|error| not_found(&error))?;
                    target.selector.version = VersionSelector::Exactly(version);
                }
                "label" => {
                    let pointer = pointer(&target.selector, &text, snapshot)?;
                    target.selector.version = VersionSelector::Pointer(pointer);
                }
                _ => {
                    let model = ModelName::new(text).map_err(|error| not_found(&error))?;
                    target.selector.model = Some(model);
                }
            }
        }
        Ok(target)
    }
}

fn pointer(
    selector: &Selector,
    label: &str,
    snapshot: &CatalogSnapshot,
) -> Result<Pointer, OipError> {
    let alias = Alias::new(label).map_err(|error| OipError::NotFound(error.to_string()));
    let Ok(stage) = label.parse::<Stage>() else {
        return alias.map(Pointer::Alias);
    };
    let model = selector.model.as_ref();
    let model = model.and_then(|name| snapshot.models.get(name));
    match alias {
        Ok(alias) if model.is_some_and(|model| model.aliases.contains_key(&alias)) => {
            Ok(Pointer::Alias(alias))
        }
        _ => Ok(Pointer::Stage(stage)),
    }
}

/// The methods of a path with a model, of which one route has both kinds: those with a verb are called, the others read.
pub(crate) fn allowed(path: &str) -> Option<&'static str> {
    let names = path.strip_prefix("/v1/models/")?;
    let has_verb = percent_encoding::percent_decode_str(names).any(|byte| byte == b':');
    Some(if has_verb { "POST" } else { "GET, HEAD" })
}

/// The path with its fixed parts in lower case, when it is one of V1; TensorFlow Serving reads them in any case.
pub(crate) fn normalized(uri: Uri) -> Uri {
    let path = uri.path();
    let is_v1 = |prefix: &[u8]| prefix.eq_ignore_ascii_case(b"/v1");
    if !path
        .as_bytes()
        .first_chunk::<3>()
        .is_some_and(|prefix| is_v1(prefix))
    {
        return uri;
    }
    let Some(lower) = lower_case(path) else {
        return uri;
    };
    let query = uri
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    let Ok(path_and_query) = PathAndQuery::try_from(format!("{lower}{query}")) else {
        return uri;
    };
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(path_and_query);
    Uri::from_parts(parts).unwrap_or_default()
}

/// `None` when nothing changes.
fn lower_case(path: &str) -> Option<String> {
    let mut changed = false;
    let parts: Vec<Cow<'_, str>> = path
        .split('/')
        .enumerate()
        .map(|(place, part)| {
            let fixed: &[&str] = match place {
                1 => &["v1"],
                2 => &["models"],
                4 | 6 => &["versions", "labels", "metadata"],
                _ => return Cow::Borrowed(part),
            };
            let known = fixed.iter().find(|known| known.eq_ignore_ascii_case(part));
            match known {
                Some(&known) if known != part => {
                    changed = true;
                    Cow::Borrowed(known)
                }
                _ => Cow::Borrowed(part),
            }
        })
        .collect();
    changed.then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Version;
    use crate::serving::ModelEntry;

    fn target(parameters: &[(&str, &str)], snapshot: &CatalogSnapshot) -> Result<Target, OipError> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Target::parse(parameters.iter().map(owned).collect(), snapshot)
    }

    #[test]
    fn fixed_parts_are_read_in_any_case_and_names_as_they_are() {
        for (given, expected) in [
            ("/V1/Models/Iris:Predict", "/v1/models/Iris:Predict"),
            ("/v1/MODELS/Iris/VERSIONS/3", "/v1/models/Iris/versions/3"),
            (
                "/v1/models/A/Labels/B/MetaData?x=Y",
                "/v1/models/A/labels/B/metadata?x=Y",
            ),
            ("/%56%31/models/a", "/%56%31/models/a"),
            ("/V1/%6Dodels/a", "/v1/%6Dodels/a"),
            ("/v1/models/Versions", "/v1/models/Versions"),
            ("/V2/Models/a", "/V2/Models/a"),
            ("/v1", "/v1"),
            ("/", "/"),
        ] {
            let uri = normalized(given.parse().unwrap());
            assert_eq!(uri.to_string(), expected, "{given}");
        }
    }

    #[test]
    fn a_verb_is_called_and_a_name_is_read() {
        for (path, expected) in [
            ("/v1/models/a", Some("GET, HEAD")),
            ("/v1/models/a/versions/1/metadata", Some("GET, HEAD")),
            ("/v1/models/a:predict", Some("POST")),
            ("/v1/models/a/versions/1%3Apredict", Some("POST")),
            ("/own/predict", None),
        ] {
            assert_eq!(allowed(path), expected, "{path}");
        }
    }

    #[test]
    fn a_label_is_an_alias_or_a_stage() {
        let mut snapshot = CatalogSnapshot::default();
        let named = |label: &str, snapshot: &CatalogSnapshot| {
            let target = target(&[("model", "m"), ("label", label)], snapshot).unwrap();
            match target.selector.version {
                VersionSelector::Pointer(pointer) => pointer.to_string(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(named("champion", &snapshot), "@champion");
        assert_eq!(named("production", &snapshot), "Production");
        let mut model = ModelEntry::default();
        let alias = Alias::new("production").unwrap();
        model.aliases.insert(alias, Version(1));
        let name = ModelName::new("m").unwrap();
        snapshot.models.insert(name, model);
        assert_eq!(named("production", &snapshot), "@production");
        let error = target(&[("model", "m"), ("label", "latest")], &snapshot).unwrap_err();
        assert!(error.to_string().contains("latest"), "{error}");
    }

    #[test]
    fn the_verb_stands_behind_a_colon_of_the_last_part() {
        let snapshot = CatalogSnapshot::default();
        let parsed = target(&[("model", "m"), ("version", "3:Predict")], &snapshot).unwrap();
        assert_eq!(parsed.verb.as_deref(), Some("predict"));
        assert_eq!(
            parsed.selector.version,
            VersionSelector::Exactly(Version(3))
        );
        let parsed = target(&[("model", "a b")], &snapshot).unwrap();
        assert_eq!(parsed.verb, None);
        for wrong in [&[("model", "..")][..], &[("model", "m"), ("version", "x")]] {
            assert!(target(wrong, &snapshot).is_err(), "{wrong:?}");
        }
    }
}
