//! MLflow's JSON. What is empty is left out by the server, so everything has a default.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SearchModels {
    pub(super) registered_models: Vec<Model>,
    pub(super) next_page_token: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct GetModel {
    pub(super) registered_model: Model,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Model {
    pub(super) name: String,
    #[serde(default, deserialize_with = "number")]
    pub(super) creation_timestamp: Option<u64>,
    #[serde(default)]
    pub(super) latest_versions: Vec<ModelVersion>,
    #[serde(default)]
    pub(super) aliases: Vec<AliasTarget>,
    #[serde(default)]
    pub(super) tags: Vec<Tag>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct AliasTarget {
    pub(super) alias: String,
    #[serde(deserialize_with = "text")]
    pub(super) version: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Tag {
    pub(super) key: String,
    #[serde(default)]
    pub(super) value: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct GetVersion {
    pub(super) model_version: ModelVersion,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ModelVersion {
    #[serde(deserialize_with = "text")]
    pub(super) version: String,
    #[serde(default)]
    pub(super) current_stage: Option<String>,
    #[serde(default)]
    pub(super) source: Option<String>,
    #[serde(default)]
    pub(super) storage_location: Option<String>,
    #[serde(default)]
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) status_message: Option<String>,
    #[serde(default, deserialize_with = "number")]
    pub(super) creation_timestamp: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct DownloadUri {
    pub(super) artifact_uri: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct GetLoggedModel {
    pub(super) model: LoggedModel,
}

#[derive(Debug, Deserialize)]
pub(super) struct LoggedModel {
    pub(super) info: LoggedModelInfo,
}

#[derive(Debug, Deserialize)]
pub(super) struct LoggedModelInfo {
    #[serde(default)]
    pub(super) name: String,
    pub(super) artifact_uri: String,
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) source_run_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SearchLoggedModels {
    pub(super) models: Vec<LoggedModel>,
    pub(super) next_page_token: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct GetRun {
    pub(super) run: Run,
}

#[derive(Debug, Deserialize)]
pub(super) struct Run {
    pub(super) info: RunInfo,
}

#[derive(Debug, Deserialize)]
pub(super) struct RunInfo {
    pub(super) artifact_uri: String,
    pub(super) experiment_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ListArtifacts {
    pub(super) files: Vec<Artifact>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Artifact {
    pub(super) path: String,
    #[serde(default)]
    pub(super) is_dir: bool,
    #[serde(default, deserialize_with = "number")]
    pub(super) file_size: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct Presigned {
    pub(super) url: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

/// An answer of which nothing is needed.
#[derive(Debug, Deserialize)]
pub(super) struct Nothing {}

/// A whole number, also as text: protocol buffers write large ones so.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::Number(number) => number.as_u64(),
        serde_json::Value::String(text) => text.parse().ok(),
        _ => None,
    })
}

/// A text, also as a number.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => Ok(text),
        serde_json::Value::Number(number) => Ok(number.to_string()),
        other => Err(serde::de::Error::custom(format!(
            "invalid value `{other}`, expected a version"
        ))),
    }
}
