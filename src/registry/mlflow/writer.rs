//! Changes that `onstage registry` makes in MLflow.

use std::path::Path;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Dialect, Mlflow, wire};
use crate::model::{ModelId, ModelName, Version};
use crate::registry::{Alias, RegistryWriter, SourceError, Stage};

impl Mlflow {
    async fn change(&self, method: Method, call: &str, body: Value) -> Result<(), SourceError> {
        let path = self.dialect.path(call);
        let _: wire::Nothing = self.api.send(method, &path, &body).await?;
        Ok(())
    }
}

#[async_trait]
impl RegistryWriter for Mlflow {
    async fn register(&self, name: &ModelName, directory: &Path) -> Result<Version, SourceError> {
        let directory = directory.display();
        Err(SourceError::Unsupported(format!(
            "models are registered in MLflow with its own client, which links them to their run: \
             `mlflow.register_model(\"runs:/RUN/model\", \"{name}\")`, or for the directory `{directory}` \
             `mlflow.onnx.log_model(onnx.load(…), name=\"model\", registered_model_name=\"{name}\")`"
        )))
    }

    async fn transition(
        &self,
        version: &ModelId,
        stage: Stage,
        archive_existing: bool,
    ) -> Result<(), SourceError> {
        if self.dialect == Dialect::UnityCatalog {
            return Err(SourceError::Unsupported(
                "Unity Catalog has no stages: use an alias".to_owned(),
            ));
        }
        // MLflow answers 500 to this one.
        if archive_existing && matches!(stage, Stage::None | Stage::Archived) {
            return Err(SourceError::Invalid(format!(
                "existing versions can be archived by a transition to `Staging` or `Production` only, not to `{stage}`"
            )));
        }
        let body = json!({
            "name": version.name.as_str(),
            "version": version.version.to_string(),
            "stage": stage.as_str(),
            "archive_existing_versions": archive_existing,
        });
        self.change(Method::POST, "model-versions/transition-stage", body)
            .await
    }

    async fn set_alias(&self, alias: &Alias, version: &ModelId) -> Result<(), SourceError> {
        let body = json!({
            "name": version.name.as_str(),
            "alias": alias.as_str(),
            "version": version.version.to_string(),
        });
        self.change(Method::POST, "registered-models/alias", body)
            .await
    }

    async fn delete_alias(&self, name: &ModelName, alias: &Alias) -> Result<(), SourceError> {
        let body = json!({"name": name.as_str(), "alias": alias.as_str()});
        self.change(Method::DELETE, "registered-models/alias", body)
            .await
    }
}
