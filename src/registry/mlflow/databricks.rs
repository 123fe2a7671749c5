//! Databricks: its workspace registry, and Unity Catalog with temporary credentials for the files.
//!
//! Written from what MLflow's client sends and tested against an imitation, not against the service.

use std::sync::Arc;

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{Dialect, Mlflow, server};
use crate::model::ModelId;
use crate::registry::{Environment, ObjectAccess, SourceError};

/// `databricks`, `databricks-uc`, with a profile or without.
pub(super) fn is_meant(uri: &str) -> bool {
    let scheme = uri.split_once("://").map_or(uri, |(scheme, _)| scheme);
    matches!(scheme, "databricks" | "databricks-uc")
}

/// The form of the API, the workspace's address and the token.
pub(super) fn workspace(
    uri: &str,
    environment: &Environment,
) -> Result<(Dialect, Url, String), SourceError> {
    let dialect = if uri.starts_with("databricks-uc") {
        Dialect::UnityCatalog
    } else {
        Dialect::OpenSource
    };
    let needed = |name: &str| {
        environment.get(name).ok_or_else(|| {
            SourceError::Invalid(format!(
                "`{uri}` needs `DATABRICKS_HOST` and `DATABRICKS_TOKEN`, and `{name}` is not set; profiles of \
                 `~/.databrickscfg` are not read"
            ))
        })
    };
    let (host, token) = (needed("DATABRICKS_HOST")?, needed("DATABRICKS_TOKEN")?);
    let address = if host.contains("://") {
        host.to_owned()
    } else {
        format!("https://{host}")
    };
    Ok((dialect, server(&address)?, token.to_owned()))
}

#[derive(Deserialize)]
struct Answer {
    credentials: Temporary,
}

#[derive(Deserialize)]
struct Temporary {
    #[serde(alias = "r2_temp_credentials")]
    aws_temp_credentials: Option<Aws>,
    azure_user_delegation_sas: Option<Azure>,
    gcp_oauth_token: Option<Gcp>,
    #[serde(default)]
    storage_mode: String,
}

#[derive(Deserialize)]
struct Aws {
    access_key_id: String,
    secret_access_key: String,
    #[serde(default)]
    session_token: String,
}

#[derive(Deserialize)]
struct Azure {
    sas_token: String,
}

#[derive(Deserialize)]
struct Gcp {
    oauth_token: String,
}

impl Temporary {
    /// `environment`, with these credentials instead of those in it.
    fn applied(self, environment: &Environment) -> Option<Environment> {
        if let Some(aws) = self.aws_temp_credentials {
            let variables = [
                ("AWS_ACCESS_KEY_ID", aws.access_key_id),
                ("AWS_SECRET_ACCESS_KEY", aws.secret_access_key),
                ("AWS_SESSION_TOKEN", aws.session_token),
            ];
            // The region and the endpoint stay.
            return Some(environment.with(|_| true, variables));
        }
        if let Some(azure) = self.azure_user_delegation_sas {
            let variables = [("AZURE_STORAGE_SAS_TOKEN", azure.sas_token)];
            let keep = |name: &str| {
                !name.starts_with("AZURE_")
                    || matches!(name, "AZURE_STORAGE_ENDPOINT" | "AZURE_ALLOW_HTTP")
            };
            return Some(environment.with(keep, variables));
        }
        let gcp = self.gcp_oauth_token?;
        let variables = [("GOOGLE_BEARER_TOKEN", gcp.oauth_token)];
        let keep = |name: &str| !name.starts_with("GOOGLE_") || name == "GOOGLE_BASE_URL";
        Some(environment.with(keep, variables))
    }
}

impl Mlflow {
    /// Where the files of a version in Unity Catalog are, and the means to read them for a while.
    pub(super) async fn unity_catalog_files(
        &self,
        id: &ModelId,
    ) -> Result<(ObjectAccess, Url), SourceError> {
        let uri = self.artifact_uri(id).await?;
        let path = Dialect::UnityCatalog.path("model-versions/generate-temporary-credentials");
        let body = json!({
            "name": id.name.as_str(),
            "version": id.version.to_string(),
            "operation": "MODEL_VERSION_OPERATION_READ",
        });
        let answer: Answer = self.api.send(Method::POST, &path, &body).await?;
        let mode = answer.credentials.storage_mode.clone();
        let environment = answer.credentials.applied(&self.environment);
        let environment = environment.filter(|_| mode != "DEFAULT_STORAGE").ok_or_else(|| {
            SourceError::Unsupported(format!(
                "{id} is in storage that Databricks gives no credentials of S3, Azure or Google Cloud for \
                 (`storage_mode` `{mode}`): download it with `mlflow.artifacts.download_artifacts` and serve the directory"
            ))
        })?;
        let url = Url::parse(&uri)
            .map_err(|_| SourceError::Unsupported(format!("{id} is at `{uri}`, expected a URL")))?;
        let access = self.objects.with_environment(Arc::new(environment));
        Ok((access, url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_needs_a_host_and_a_token() {
        let environment =
            |variables: &[(&str, &str)]| Environment::from_iter(variables.iter().copied());
        let host = ("DATABRICKS_HOST", "adb.example.net");
        let token = ("DATABRICKS_TOKEN", "s3cret");
        let error = workspace("databricks-uc", &environment(&[host])).unwrap_err();
        assert!(
            error.to_string().contains("`DATABRICKS_TOKEN` is not set"),
            "{error}"
        );
        let full = environment(&[host, token]);
        for (uri, dialect) in [
            ("databricks", Dialect::OpenSource),
            ("databricks-uc", Dialect::UnityCatalog),
            ("databricks-uc://profile", Dialect::UnityCatalog),
        ] {
            assert!(is_meant(uri));
            let (found, base, _) = workspace(uri, &full).unwrap();
            assert_eq!(
                (found, base.as_str()),
                (dialect, "https://adb.example.net/")
            );
        }
        assert!(!is_meant("databricksx") && !is_meant("https://databricks"));
    }

    #[test]
    fn temporary_credentials_replace_those_of_the_environment() {
        let environment = Environment::from_iter([
            ("AWS_ACCESS_KEY_ID", "mine"),
            ("AWS_REGION", "eu-central-1"),
            ("AZURE_STORAGE_ACCESS_KEY", "mine"),
            ("GOOGLE_APPLICATION_CREDENTIALS", "mine"),
        ]);
        let applied = |json: &str| {
            let answer: Answer = serde_json::from_str(json).unwrap();
            answer.credentials.applied(&environment)
        };
        let aws = applied(
            r#"{"credentials":{"aws_temp_credentials":{"access_key_id":"a","secret_access_key":"b","session_token":"c"},"expiration_time":1}}"#,
        );
        let aws = aws.unwrap();
        assert_eq!(aws.get("AWS_ACCESS_KEY_ID"), Some("a"));
        assert_eq!(aws.get("AWS_REGION"), Some("eu-central-1"));
        let azure = applied(r#"{"credentials":{"azure_user_delegation_sas":{"sas_token":"s"}}}"#);
        assert_eq!(azure.unwrap().starting_with("AZURE_").count(), 1);
        let gcp = applied(r#"{"credentials":{"gcp_oauth_token":{"oauth_token":"s"}}}"#);
        assert_eq!(gcp.unwrap().starting_with("GOOGLE_").count(), 1);
        assert!(applied(r#"{"credentials":{"storage_mode":"DEFAULT_STORAGE"}}"#).is_none());
    }
}
