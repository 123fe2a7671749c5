//! The model repository: which models there are, where each version stands, and what a request may change.

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::http::body::object;
use crate::protocol::oip::error::OipError;
use crate::protocol::oip::index::rows;
use crate::serving::CatalogSnapshot;

/// The body of a request; what else is in it is of no concern.
#[derive(Debug, Default, Deserialize)]
struct Filter {
    /// Whether to list only what answers.
    #[serde(default)]
    ready: bool,
}

/// `POST /v2/repository/index`.
pub(crate) fn index(snapshot: &CatalogSnapshot, body: &Bytes) -> Result<Vec<u8>, OipError> {
    let filter = filter(body)?;
    let listed = rows(snapshot, filter.ready);
    serde_json::to_vec(&listed).map_err(|error| OipError::Invalid(error.to_string()))
}

/// Checks that a request to load or unload changes nothing but that.
///
/// # Errors
/// [`OipError::NotImplemented`] for another configuration or other files, which a request must not bring.
pub(crate) fn refuse_overrides(body: &[u8]) -> Result<(), OipError> {
    #[derive(Default, Deserialize)]
    struct Change {
        #[serde(default)]
        parameters: Map<String, Value>,
    }
    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    let change: Change = object(body).map_err(|error| {
        OipError::Invalid(format!(
            "the body is not understood: {error}; expected nothing, or `{{\"parameters\": {{…}}}}`"
        ))
    })?;
    let is_override = |name: &&String| *name == "config" || name.starts_with("file:");
    match change.parameters.keys().find(is_override) {
        Some(name) => Err(OipError::NotImplemented(format!(
            "the parameter `{name}` is refused: configuration and files of a model come from its package and this server's \
             configuration, never from a request"
        ))),
        None => Ok(()),
    }
}

fn filter(body: &Bytes) -> Result<Filter, OipError> {
    if body.trim_ascii().is_empty() {
        return Ok(Filter::default());
    }
    object(body).map_err(|error| {
        OipError::Invalid(format!(
            "the body is no filter: {error}; expected nothing, or `{{\"ready\": true}}`"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    use crate::model::{ModelName, Version};
    use crate::serving::{FailureReason, VersionEntry, VersionState};

    fn snapshot(states: Vec<VersionState>) -> CatalogSnapshot {
        let mut snapshot = CatalogSnapshot::default();
        let model = snapshot.models.entry(ModelName::new("fraud").unwrap());
        let model = model.or_default();
        for (version, state) in (1..).zip(states) {
            let servable = None;
            let entry = VersionEntry { state, servable };
            model.versions.insert(Version(version), entry);
        }
        snapshot
    }

    fn listed(snapshot: &CatalogSnapshot, body: &'static str) -> Value {
        serde_json::from_slice(&index(snapshot, &Bytes::from(body)).unwrap()).unwrap()
    }

    #[test]
    fn each_version_has_a_state_of_the_protocol_and_a_reason() {
        let message = "the file is gone".to_owned();
        let states = vec![
            VersionState::Ready,
            VersionState::WarmingUp,
            VersionState::Draining,
            VersionState::Unloaded,
            VersionState::Failed(FailureReason {
                label: "fetch",
                message,
                detail: String::new(),
                attempt: 1,
                retry_at: None,
            }),
        ];
        let row = |version: &str, state: &str, reason: &str| json!({ "name": "fraud", "version": version, "state": state, "reason": reason });
        assert_eq!(
            listed(&snapshot(states), ""),
            json!([
                row("1", "READY", ""),
                row("2", "LOADING", "warming up"),
                row("3", "UNLOADING", ""),
                row("4", "UNAVAILABLE", "unloaded"),
                row("5", "UNAVAILABLE", "the file is gone"),
            ])
        );
    }

    #[test]
    fn the_filter_leaves_what_does_not_answer() {
        let snapshot = snapshot(vec![VersionState::Compiling]);
        assert_eq!(listed(&snapshot, r#"{"ready": true, "x": 1}"#), json!([]));
        for body in [" \n", "{}", r#"{"ready": false}"#] {
            assert_eq!(listed(&snapshot, body).as_array().unwrap().len(), 1);
        }
        for body in ["[", r#"{"ready": "yes"}"#, "7"] {
            let error = index(&snapshot, &Bytes::from(body)).unwrap_err();
            assert!(error.to_string().contains("no filter"), "{body}: {error}");
        }
    }

    #[test]
    fn a_request_brings_no_configuration_and_no_files() {
        for body in [
            "",
            " ",
            "{}",
            r#"{"parameters": {"unload_dependents": true}}"#,
        ] {
            refuse_overrides(body.as_bytes()).unwrap();
        }
        for name in ["config", "file:1/model.onnx"] {
            let body = json!({ "parameters": { name: "x" } }).to_string();
            let error = refuse_overrides(body.as_bytes()).unwrap_err();
            assert!(matches!(&error, OipError::NotImplemented(message) if message.contains(name)));
        }
        for body in ["[", "7", r#"{"parameters": 7}"#] {
            assert!(matches!(
                refuse_overrides(body.as_bytes()),
                Err(OipError::Invalid(_))
            ));
        }
    }
}
