//! The file of callers and the keys of tokens, as configured.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::config::{JwtSettings, Settings};
use crate::middleware::auth::{
    Authenticator, Callers, KeySource, KeySourceError, TokenOptions, Tokens, UnknownAlgorithm,
};
use crate::network::{self, NetworkConfig};
use crate::server::reload::Reload;

/// The longest wait for keys: requests may wait for them too.
const LONGEST_FETCH: Duration = Duration::from_secs(5);

/// The time between two looks while there are no keys.
const SOON: Duration = Duration::from_secs(2);

/// A set of keys is a few kilobytes.
const LARGEST_SET: usize = 1 << 20;

/// The callers, and what keeps them up to date.
pub(crate) struct Known {
    pub(crate) authenticator: Authenticator,
    pub(crate) watched: Option<Arc<dyn Reload>>,
    refresher: Option<JoinHandle<()>>,
}

impl Known {
    /// The callers that the settings name; `None` without authentication.
    ///
    /// # Errors
    /// A file that cannot be read or holds something else, or settings that do not fit together.
    pub(crate) async fn load(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let auth = &settings.auth;
        if !auth.is_on() {
            return Ok(None);
        }
        let file = auth.callers_file.as_deref();
        let read = file.map(read_callers).transpose()?;
        let (callers, seen) = read.unwrap_or_default();
        let network = settings.network.config();
        let tokens = match &auth.jwt.jwks {
            Some(place) => Some(Arc::new(tokens(place, &auth.jwt, &network)?)),
            None => None,
        };
        let refresher = match &tokens {
            Some(tokens) => Some(refresher(tokens, &auth.jwt).await?),
            None => None,
        };
        let authenticator = Authenticator::new(callers, tokens);
        let watched = file.map(|file| -> Arc<dyn Reload> {
            Arc::new(CallersFile {
                file: file.to_owned(),
                seen: Mutex::new(Some(seen)),
                authenticator: authenticator.clone(),
            })
        });
        Ok(Some(Self {
            authenticator,
            watched,
            refresher,
        }))
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        if let Some(refresher) = &self.refresher {
            refresher.abort();
        }
    }
}

fn read_callers(file: &Path) -> anyhow::Result<(Callers, String)> {
    let named = || format!("`{}` (`auth.callers_file`)", file.display());
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", named()))?;
    let callers = Callers::parse(&text).with_context(named)?;
    Ok((callers, text))
}

/// The file of callers, as it was last.
struct CallersFile {
    file: PathBuf,
    /// `None` when it could not be read.
    seen: Mutex<Option<String>>,
    authenticator: Authenticator,
}

impl Reload for CallersFile {
    fn reload(&self) {
        let text = std::fs::read_to_string(&self.file);
        let mut seen = self.seen.lock();
        if text.as_ref().ok() == seen.as_ref() {
            return;
        }
        let parsed = match &text {
            Ok(text) => Callers::parse(text).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        *seen = text.ok();
        let file = self.file.display();
        match parsed {
            Ok(callers) => {
                tracing::info!(target: "onstage::audit", %file, count = callers.count(), "the callers have changed");
                self.authenticator.replace(callers);
            }
            Err(reason) => {
                tracing::error!(%file, %reason, "the file of callers cannot be used: those from before still count");
            }
        }
    }
}

fn tokens(place: &str, jwt: &JwtSettings, network: &NetworkConfig) -> anyhow::Result<Tokens> {
    let Some(issuer) = &jwt.issuer else {
        bail!("`auth.jwt.jwks` needs `auth.jwt.issuer`, which every token must name");
    };
    if jwt.audience.is_empty() {
        bail!(
            "`auth.jwt.jwks` needs `auth.jwt.audience`: without it tokens for other services would be taken"
        );
    }
    let algorithms: Result<Vec<_>, UnknownAlgorithm> =
        jwt.algorithms.iter().map(|name| name.parse()).collect();
    let options = TokenOptions {
        issuer: issuer.clone(),
        audience: jwt.audience.clone(),
        // What is none was refused when the configuration was checked.
        algorithms: algorithms?,
        leeway: jwt.leeway,
    };
    let source: Box<dyn KeySource> = if is_address(place) {
        Box::new(Address {
            client: network::client(network)?,
            url: place.to_owned(),
        })
    } else {
        Box::new(KeysFile(place.into()))
    };
    Ok(Tokens::new(options, source))
}

fn is_address(place: &str) -> bool {
    ["https://", "http://"]
        .iter()
        .any(|scheme| place.starts_with(scheme))
}

/// Looks at the keys once, and from then on from time to time.
///
/// # Errors
/// When they are in a file that cannot be used: that does not resolve itself, while a provider may only be late.
async fn refresher(tokens: &Arc<Tokens>, jwt: &JwtSettings) -> anyhow::Result<JoinHandle<()>> {
    let place = jwt.jwks.as_deref().unwrap_or_default();
    let mut result = tokens.refresh().await;
    if let Err(reason) = &result
        && !is_address(place)
    {
        bail!("`{place}` (`auth.jwt.jwks`): {reason}");
    }
    let (tokens, interval) = (Arc::clone(tokens), jwt.refresh_interval.max(SOON / 2));
    let is_file = !is_address(place);
    Ok(tokio::spawn(async move {
        loop {
            if let Err(reason) = &result {
                tracing::error!(%reason, "the keys of tokens cannot be read: those from before are still used");
            }
            let wait = if result.is_err() || is_file {
                interval.min(SOON)
            } else {
                interval
            };
            tokio::time::sleep(wait).await;
            result = tokens.refresh().await;
        }
    }))
}

struct KeysFile(PathBuf);

#[async_trait]
impl KeySource for KeysFile {
    async fn fetch(&self) -> Result<Vec<u8>, KeySourceError> {
        let read = tokio::fs::read(&self.0).await;
        Ok(read?)
    }
}

struct Address {
    client: reqwest::Client,
    url: String,
}

#[async_trait]
impl KeySource for Address {
    async fn fetch(&self) -> Result<Vec<u8>, KeySourceError> {
        let fetched = tokio::time::timeout(LONGEST_FETCH, self.get()).await;
        fetched.unwrap_or(Err(KeySourceError::Timeout))
    }
}

impl Address {
    async fn get(&self) -> Result<Vec<u8>, KeySourceError> {
        let response = self.client.get(&self.url).send().await;
        let response = response.map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(KeySourceError::Status(response.status().as_u16()));
        }
        let mut chunks = response.bytes_stream();
        let mut body = Vec::new();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(unreachable)?);
            if body.len() > LARGEST_SET {
                return Err(KeySourceError::TooLarge { limit: LARGEST_SET });
            }
        }
        Ok(body)
    }
}

fn unreachable(error: reqwest::Error) -> KeySourceError {
    KeySourceError::Unreachable(network::reason(error))
}
