//! What is kept of requests: the payload log, and the labels that follow it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::ServeRequest;
use super::registry::cache_directory;
use crate::config::Settings;
use crate::middleware::RawOptions;
use crate::network;
use crate::payload::{Feedback, FeedbackParts, PayloadLog, PayloadParts, Sink};
use crate::protocol::Shared;
use crate::registry::{Environment, ObjectAccess};
use crate::telemetry::Metrics;

/// How long the last files may take to reach their place when the server ends.
const LAST_FILES: Duration = Duration::from_secs(5);

/// What is configured of it.
#[derive(Default)]
pub(super) struct Logs {
    pub(super) payload_log: Option<Arc<PayloadLog>>,
    pub(super) feedback: Option<Arc<Feedback>>,
}

impl Logs {
    /// Starts what is configured.
    ///
    /// # Errors
    /// When a place makes no sense, or nothing can be written below the cache directory.
    pub(super) fn start(request: &ServeRequest, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let settings = &request.settings;
        let log = &settings.payload_log;
        let labels = settings.feedback.uri.as_deref();
        let (key, labels) = match labels {
            Some(uri) => ("feedback.uri", Some(uri)),
            None => ("payload_log.uri", log.uri.as_deref()),
        };
        if log.uri.is_none() && labels.is_none() {
            return Ok(Self::default());
        }
        let client = network::client(&settings.network.config())?;
        let access = ObjectAccess::new(client, Arc::clone(&request.environment));
        let open = |key: &str, uri: &str| {
            Sink::open(uri, &access).with_context(|| format!("invalid `{key}`"))
        };
        let cache = cache_directory(settings, &request.environment).context(
            "the payload log and feedback need a directory for files that wait to be sent: name one in `registry.cache_dir`",
        )?;
        let replica = replica(&request.environment);
        let payload_log = log.uri.as_deref().map(|uri| {
            let parts = PayloadParts {
                options: log.options()?,
                sink: open("payload_log.uri", uri)?,
                cache: cache.clone(),
                replica: replica.clone(),
                metrics: Arc::clone(metrics),
            };
            PayloadLog::start(parts).context("cannot start the payload log")
        });
        let feedback = labels.map(|uri| {
            let parts = FeedbackParts {
                sink: open(key, uri)?,
                cache: cache.clone(),
                replica: replica.clone(),
                metrics: Arc::clone(metrics),
            };
            Feedback::start(parts).context("cannot start to take feedback")
        });
        Ok(Self {
            payload_log: payload_log.transpose()?,
            feedback: feedback.transpose()?,
        })
    }
}

/// What the log keeps of requests as they come.
pub(super) fn raw_options(settings: &Settings) -> RawOptions {
    let log = &settings.payload_log;
    if log.uri.is_none() {
        return RawOptions::default();
    }
    let headers = log.headers.iter().filter_map(|name| name.parse().ok());
    RawOptions {
        headers: headers.collect(),
        bodies: log.errors,
    }
}

/// Sends the last files; the next start sends those for which there is no time.
pub(super) async fn close(shared: &Shared) {
    let options = shared.options();
    let (log, feedback) = (options.payload_log.clone(), options.feedback.clone());
    let log = async {
        if let Some(log) = log {
            log.close(LAST_FILES).await;
        }
    };
    let feedback = async {
        if let Some(feedback) = feedback {
            feedback.close(LAST_FILES).await;
        }
    };
    tokio::join!(log, feedback);
}

/// How long [`close`] may take.
pub(super) fn patience(shared: &Shared) -> Duration {
    let options = shared.options();
    let is_on = options.payload_log.is_some() || options.feedback.is_some();
    if is_on { LAST_FILES } else { Duration::ZERO }
}

/// What this replica is called: the name of its machine, or of its pod.
fn replica(environment: &Environment) -> String {
    let file = PathBuf::from("/proc/sys/kernel/hostname");
    let name = std::fs::read_to_string(file).ok();
    let name = name.as_deref().or_else(|| environment.get("HOSTNAME"));
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    let name: String = name
        .unwrap_or_default()
        .trim()
        .chars()
        .take(64)
        .map(allowed)
        .collect();
    if name.is_empty() {
        "replica".to_owned()
    } else {
        name
    }
}
