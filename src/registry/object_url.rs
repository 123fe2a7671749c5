//! Object stores by URL: `s3:`, `gs:`, `az:`, `wasb(s):`, `abfs(s):` and `file:`.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{HttpClient, HttpConnector};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::{Environment, SourceError};
use crate::network::{self, NetworkConfig};

/// The URLs that [`ObjectAccess::open`] takes, for messages.
const SCHEMES: &str = "`s3:`, `gs:`, `az:`, `wasbs:`, `abfss:` and `file:`";

/// What opening a store takes beside its URL.
#[derive(Debug, Clone)]
pub struct ObjectAccess {
    client: reqwest::Client,
    environment: Arc<Environment>,
}

impl ObjectAccess {
    /// Stores are reached through `client`, with the credentials of `environment`.
    pub fn new(client: reqwest::Client, environment: Arc<Environment>) -> Self {
        Self {
            client,
            environment,
        }
    }

    /// The same client with other credentials.
    pub(crate) fn with_environment(&self, environment: Arc<Environment>) -> Self {
        Self::new(self.client.clone(), environment)
    }

    /// The store of `url` and the place in it. Nothing is sent yet.
    ///
    /// # Errors
    /// [`SourceError::Unsupported`] for other schemes, [`SourceError::Invalid`] for what no store can be made of.
    pub fn open(&self, url: &Url) -> Result<(Arc<dyn ObjectStore>, Path), SourceError> {
        let path = || {
            Path::from_url_path(url.path())
                .map_err(|error| SourceError::Invalid(format!("invalid path in `{url}`: {error}")))
        };
        let invalid = |error: object_store::Error| {
            SourceError::Invalid(format!("cannot open `{}`: {error}", without_secrets(url)))
        };
        let store: Arc<dyn ObjectStore> = match url.scheme() {
            "s3" | "s3a" => Arc::new(self.s3(url).map_err(invalid)?),
            "gs" => Arc::new(self.gcs(url).map_err(invalid)?),
            "az" | "wasb" | "wasbs" | "abfs" | "abfss" => {
                Arc::new(self.azure(url).map_err(invalid)?)
            }
            "file" => return local(url),
            other => {
                return Err(SourceError::Unsupported(format!(
                    "`{}`: files cannot be read from `{other}:`, only from {SCHEMES}",
                    without_secrets(url)
                )));
            }
        };
        Ok((store, path()?))
    }

    fn s3(&self, url: &Url) -> object_store::Result<impl ObjectStore + use<>> {
        let mut builder = AmazonS3Builder::new().with_url(url.as_str());
        let variables = self.environment.starting_with("AWS_");
        for (name, value) in variables {
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        if let Some(endpoint) = self.environment.get("MLFLOW_S3_ENDPOINT_URL") {
            builder = builder.with_endpoint(endpoint).with_allow_http(true);
        }
        builder = builder.with_retry(retries());
        if self.environment.is_true("MLFLOW_S3_IGNORE_TLS") {
            // Not a client of the store's own, which would follow redirects to anywhere.
            let unchecked = network::client_with(&NetworkConfig::default(), |builder| {
                builder.tls_danger_accept_invalid_certs(true)
            });
            let unchecked = unchecked.map_err(|error| object_store::Error::Generic {
                store: "S3",
                source: error.into(),
            })?;
            let builder = builder.with_allow_http(true);
            return builder.with_http_connector(Connector(unchecked)).build();
        }
        builder.with_http_connector(self.connector()).build()
    }

    fn gcs(&self, url: &Url) -> object_store::Result<impl ObjectStore + use<>> {
        let mut builder = GoogleCloudStorageBuilder::new().with_url(url.as_str());
        for (name, value) in self.environment.starting_with("GOOGLE_") {
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        if let Some(path) = self.environment.get("SERVICE_ACCOUNT") {
            builder = builder.with_service_account_path(path);
        }
        let builder = builder.with_retry(retries());
        builder.with_http_connector(self.connector()).build()
    }

    fn azure(&self, url: &Url) -> object_store::Result<impl ObjectStore + use<>> {
        // `wasbs://container@account.blob…/path` is the older spelling of `abfss://container@account.dfs…/path`.
        let text = match url.as_str().split_once(':') {
            Some(("wasb" | "wasbs", rest)) => format!("abfss:{rest}"),
            _ => url.to_string(),
        };
        let mut builder = MicrosoftAzureBuilder::new();
        let connection = self.environment.get("AZURE_STORAGE_CONNECTION_STRING");
        for (key, value) in connection.into_iter().flat_map(connection_settings) {
            builder = builder.with_config(key, value);
        }
        for (name, value) in self.environment.starting_with("AZURE_") {
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        if let Some(endpoint) = self.environment.get("IDENTITY_ENDPOINT") {
            builder = builder.with_msi_endpoint(endpoint);
        }
        let builder = builder.with_url(text).with_retry(retries());
        builder.with_http_connector(self.connector()).build()
    }

    fn connector(&self) -> Connector {
        Connector(self.client.clone())
    }
}

/// Lets a store use our client, and with it the proxies and certificates of every outgoing connection.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

/// Few: whoever calls us tries again by itself, later and knowing what it waits for.
fn retries() -> RetryConfig {
    RetryConfig {
        max_retries: 2,
        retry_timeout: Duration::from_secs(30),
        ..RetryConfig::default()
    }
}

/// What a connection string of Azure says: `AccountName=…;AccountKey=…;BlobEndpoint=…`.
fn connection_settings(
    text: &str,
) -> impl Iterator<Item = (object_store::azure::AzureConfigKey, String)> {
    use object_store::azure::AzureConfigKey as Key;
    text.split(';').filter_map(|part| {
        let (name, value) = part.split_once('=')?;
        let key = match name.trim() {
            "AccountName" => Key::AccountName,
            "AccountKey" => Key::AccessKey,
            "SharedAccessSignature" => Key::SasKey,
            "BlobEndpoint" => Key::Endpoint,
            _ => return None,
        };
        Some((key, value.trim().to_owned()))
    })
}

fn local(url: &Url) -> Result<(Arc<dyn ObjectStore>, Path), SourceError> {
    let directory = url
        .to_file_path()
        .map_err(|()| SourceError::Invalid(format!("`{url}` is no path of this machine")))?;
    let store = LocalFileSystem::new_with_prefix(&directory).map_err(|error| {
        SourceError::NotFound(format!("cannot open `{}`: {error}", directory.display()))
    })?;
    Ok((Arc::new(store), Path::default()))
}

/// `url` for messages: a query or a user may be a key.
pub fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    if url.password().is_some() || matches!(url.scheme(), "http" | "https") {
        // An error says that this URL can have none.
        let _ = url.set_password(None);
        let _ = url.set_username("");
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str, variables: &[(&str, &str)]) -> Result<String, SourceError> {
        crate::network::install_provider();
        let environment = Environment::from_iter(variables.iter().copied());
        let access = ObjectAccess::new(reqwest::Client::new(), Arc::new(environment));
        let url = url.parse().unwrap();
        let (store, path) = access.open(&url)?;
        Ok(format!("{store} {path}"))
    }

    #[test]
    fn the_stores_of_mlflow_are_opened_with_the_environments_credentials() {
        let s3 = [
            ("AWS_ACCESS_KEY_ID", "k"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:9"),
        ];
        assert_eq!(
            open("s3://bucket/a/b%20c", &s3).unwrap(),
            "AmazonS3(bucket) a/b c"
        );
        let gcs = open("gs://bucket/a", &[("GOOGLE_SKIP_SIGNATURE", "true")]);
        assert_eq!(gcs.unwrap(), "GoogleCloudStorage(bucket) a");
        let azure = "Ok(\"MicrosoftAzure { account: me, container: box } a\")";
        let connection = "DefaultEndpointsProtocol=https;AccountName=me;AccountKey=a2V5";
        for (url, name, value) in [
            (
                "wasbs://box@me.blob.core.windows.net/a",
                "AZURE_STORAGE_ACCESS_KEY",
                "a2V5",
            ),
            (
                "abfss://box@me.dfs.core.windows.net/a",
                "AZURE_STORAGE_KEY_UNKNOWN",
                "x",
            ),
            ("az://box/a", "AZURE_STORAGE_CONNECTION_STRING", connection),
        ] {
            assert_eq!(format!("{:?}", open(url, &[(name, value)])), azure, "{url}");
        }
    }

    #[test]
    fn other_schemes_are_named_without_their_secrets() {
        assert_eq!(
            open("dbfs:/x", &[]).unwrap_err().to_string(),
            "`dbfs:/x`: files cannot be read from `dbfs:`, only from `s3:`, `gs:`, `az:`, `wasbs:`, `abfss:` and `file:`"
        );
        let error = open("ftp://me:s3cret@host/x?key=s3cret", &[]).unwrap_err();
        let error = error.to_string();
        assert!(!error.contains("s3cret"), "{error}");
        assert!(open("file:///does/not/exist", &[]).is_err());
    }
}
