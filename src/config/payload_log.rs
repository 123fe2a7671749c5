//! Settings of the payload log and of feedback.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, KeyPath, Loaded, error};
use crate::payload::{ColumnOptions, HashKey, PayloadOptions};

/// `[payload_log]`: it is on when there is a place for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayloadLogSettings {
    /// Where files go.
    pub uri: Option<String>,
    /// The share of requests that are kept.
    pub fraction: f64,
    /// Patterns of the models that are logged; none stands for all.
    pub models: Vec<String>,
    /// Columns that are left out.
    pub exclude: Vec<String>,
    /// Columns of which only a keyed hash is kept.
    pub hash: Vec<String>,
    /// The file with the key of that hash.
    pub hash_key_file: Option<PathBuf>,
    /// Headers that are kept.
    pub headers: Vec<String>,
    /// Whether bodies of failed requests are kept.
    pub errors: bool,
    /// Whether the values of large tensors are kept.
    pub tensors: bool,
    /// When a file is closed.
    #[serde(with = "humantime_serde")]
    pub roll: Duration,
    /// Bytes at which a file is closed.
    pub roll_size: u64,
    /// Bytes of rows that wait for the writer.
    pub queue: u64,
    /// Bytes of files that wait for the sink.
    pub spool: u64,
    /// The age at which files are deleted.
    #[serde(default, with = "humantime_serde")]
    pub keep: Option<Duration>,
}

/// `[feedback]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedbackSettings {
    /// Where labels go; `None` is where the payload log goes.
    pub uri: Option<String>,
}

/// What object stores and directories are called.
const SCHEMES: [&str; 9] = [
    "file", "s3", "s3a", "gs", "az", "abfs", "abfss", "wasb", "wasbs",
];

/// Headers that hold credentials.
const SECRET: [&str; 4] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-api-key",
];

/// A key that can be guessed hides nothing.
const SHORTEST_KEY: usize = 16;

/// Files of a second would be more files than rows.
const SHORTEST_ROLL: Duration = Duration::from_secs(1);

/// Files have the rows of an hour.
const SHORTEST_KEEP: Duration = Duration::from_secs(3600);

impl PayloadLogSettings {
    /// What the log keeps, with the key of its hashes read.
    ///
    /// # Errors
    /// When the file of the key cannot be read, or the key is too short.
    pub(crate) fn options(&self) -> anyhow::Result<PayloadOptions> {
        let file = self.hash_key_file.as_deref();
        let key = file.map(|file| {
            let key = super::secret::read(Some("payload_log.hash_key_file"), file)?;
            anyhow::ensure!(
                key.len() >= SHORTEST_KEY,
                "the key in `{}` (`payload_log.hash_key_file`) has {} bytes, expected at least {SHORTEST_KEY}: a short key can be guessed",
                file.display(),
                key.len()
            );
            Ok(HashKey::new(key.as_bytes()))
        });
        let lower = |name: &String| name.to_ascii_lowercase();
        Ok(PayloadOptions {
            fraction: self.fraction,
            models: self.models.clone(),
            columns: ColumnOptions {
                exclude: self.exclude.iter().cloned().collect(),
                hash: self.hash.iter().cloned().collect(),
                key: key.transpose()?,
                tensors: self.tensors,
            },
            headers: self.headers.iter().map(lower).collect(),
            errors: self.errors,
            roll: self.roll,
            roll_size: self.roll_size,
            queue: usize::try_from(self.queue).unwrap_or(usize::MAX),
            spool: self.spool,
            keep: self.keep,
        })
    }
}

/// What no kind of a single value tells.
///
/// # Errors
/// [`ConfigError::InvalidValue`].
pub(crate) fn check(loaded: &Loaded) -> Result<(), ConfigError> {
    let log = &loaded.settings.payload_log;
    let invalid = |key: &str, value: &str, expected: &str, hint: Option<&str>| {
        let key = KeyPath::parse(key);
        Err(ConfigError::InvalidValue {
            value: error::shorten(value),
            origin: loaded.origin(&key),
            key,
            expected: expected.into(),
            hint: hint.map(Into::into),
        })
    };
    let feedback = loaded.settings.feedback.uri.as_deref();
    for (key, uri) in [
        ("payload_log.uri", log.uri.as_deref()),
        ("feedback.uri", feedback),
    ] {
        let scheme = uri.and_then(|uri| uri.parse::<url::Url>().ok());
        let is_known = scheme.is_some_and(|url| SCHEMES.contains(&url.scheme()));
        if let Some(uri) = uri
            && !is_known
        {
            let expected = "`file:///DIRECTORY`, `s3://…`, `gs://…` or `az://…`";
            return invalid(key, uri, expected, None);
        }
    }
    for header in &log.headers {
        if axum::http::HeaderName::from_bytes(header.as_bytes()).is_err() {
            return invalid("payload_log.headers", header, "names of headers", None);
        }
        if SECRET.contains(&header.to_ascii_lowercase().as_str()) {
            let expected = "headers without credentials";
            return invalid("payload_log.headers", header, expected, None);
        }
    }
    for (key, columns) in [
        ("payload_log.exclude", &log.exclude),
        ("payload_log.hash", &log.hash),
    ] {
        if let Some(own) = columns.iter().find(|column| column.starts_with('_')) {
            let expected = "columns of models: those that begin with `_` are the log's own";
            return invalid(key, own, expected, None);
        }
    }
    if let Some(both) = log.hash.iter().find(|column| log.exclude.contains(column)) {
        let expected = "columns that `payload_log.exclude` does not leave out";
        return invalid("payload_log.hash", both, expected, None);
    }
    if !log.hash.is_empty() && log.hash_key_file.is_none() {
        let hint = "name a file with a random key, such as one that `openssl rand -hex 32` prints";
        let expected =
            "`payload_log.hash_key_file` as well, since a hash without a key can be tried out";
        return invalid(
            "payload_log.hash",
            &log.hash.join(", "),
            expected,
            Some(hint),
        );
    }
    if log.errors && !(log.exclude.is_empty() && log.hash.is_empty()) {
        let expected =
            "`false` with `payload_log.exclude` or `payload_log.hash`: bodies hold every column";
        return invalid("payload_log.errors", "true", expected, None);
    }
    check_sizes(log, invalid)
}

fn check_sizes(
    log: &PayloadLogSettings,
    invalid: impl Fn(&str, &str, &str, Option<&str>) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    let shown = |time: Duration| humantime::format_duration(time).to_string();
    if log.roll < SHORTEST_ROLL {
        return invalid("payload_log.roll", &shown(log.roll), "`1s` or more", None);
    }
    if let Some(keep) = log.keep.filter(|keep| *keep < SHORTEST_KEEP) {
        return invalid("payload_log.keep", &shown(keep), "`1h` or more", None);
    }
    let sizes = [
        ("payload_log.roll_size", log.roll_size),
        ("payload_log.queue", log.queue),
        ("payload_log.spool", log.spool),
    ];
    for (key, size) in sizes {
        if size == 0 {
            return invalid(key, "0", "a size such as `64MiB`", None);
        }
    }
    Ok(())
}
