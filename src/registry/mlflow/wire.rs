//! MLflow's JSON. What is empty is left out by the server, so everything has a default.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::answer::AnswerError;

type Object = serde_json::Map<String, Value>;

/// What is empty is left out, so an object without any of the fields is an empty answer only when it has no others: that
/// of somebody else must not be taken for a registry without models.
fn refuse_others(object: &Object, known: &[&'static str]) -> Result<(), AnswerError> {
    let is_ours = object.is_empty() || known.iter().any(|name| object.contains_key(*name));
    if is_ours {
        return Ok(());
    }
    Err(AnswerError::OtherObject { expected: known[0] })
}

fn take<T>(object: &mut Object, name: &'static str) -> Result<T, AnswerError>
where
    T: DeserializeOwned + Default,
{
    match object.remove(name) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => {
            let read = serde_json::from_value(value);
            read.map_err(|error| AnswerError::Field { name, error })
        }
    }
}

/// Models as they stand there: one that cannot be read must not hide the others.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Object")]
pub(super) struct SearchModels {
    pub(super) registered_models: Vec<Value>,
    pub(super) next_page_token: String,
}

impl TryFrom<Object> for SearchModels {
    type Error = AnswerError;

    fn try_from(mut object: Object) -> Result<Self, AnswerError> {
        refuse_others(&object, &["registered_models", "next_page_token"])?;
        Ok(Self {
            registered_models: take(&mut object, "registered_models")?,
            next_page_token: take(&mut object, "next_page_token")?,
        })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct GetModel {
    pub(super) registered_model: Value,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Model {
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
    pub(super) model_version: Value,
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

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SearchVersions {
    pub(super) model_versions: Vec<ModelVersion>,
    pub(super) next_page_token: String,
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
#[serde(try_from = "Object")]
pub(super) struct ListArtifacts {
    pub(super) files: Vec<Artifact>,
}

impl TryFrom<Object> for ListArtifacts {
    type Error = AnswerError;

    fn try_from(mut object: Object) -> Result<Self, AnswerError> {
        refuse_others(&object, &["files", "root_uri", "next_page_token"])?;
        let files = take(&mut object, "files")?;
        Ok(Self { files })
    }
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
    Ok(match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    })
}

/// A text, also as a number.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(serde::de::Error::custom(format!(
            "invalid value `{other}`, expected a version"
        ))),
    }
}
