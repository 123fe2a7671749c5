//! Traces: what one request, or one load of a model, spent its time on, sent to a collector over OTLP.
//!
//! A [`Trace`] exists only for what is sampled. Everything else is an `Option` that is `None`: a server without a
//! collector makes no spans, and a request that is not sampled makes one that nobody keeps. What runs inside
//! [`Trace::scope`] finds its trace with [`current`].

#[cfg(feature = "otel")]
mod otlp;
#[cfg(feature = "otel")]
mod spans;
#[cfg(not(feature = "otel"))]
#[path = "without.rs"]
mod spans;

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::HeaderValue;
use url::Url;

pub use self::spans::{Trace, Tracer, current};

/// Where traces go.
#[derive(Clone)]
pub struct TraceOptions {
    /// The collector: `http://host:4318`, or for gRPC `http://host:4317`.
    pub endpoint: Url,
    /// Whether it speaks gRPC; else HTTP with protobuf.
    pub grpc: bool,
    /// What the operator calls this server; `None` leaves it to `OTEL_RESOURCE_ATTRIBUTES`, else it is `onstage`.
    pub service_name: Option<String>,
    /// Certificates to trust beside those of the system, for gRPC.
    pub ca_file: Option<PathBuf>,
    /// For HTTP.
    pub client: reqwest::Client,
    /// Hears how many spans were lost, and why.
    pub lost: Lost,
}

/// Hears how many spans were lost: `queue_full`, or `export` when the collector did not take them.
pub type Lost = Arc<dyn Fn(&'static str, usize) + Send + Sync>;

impl std::fmt::Debug for TraceOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let endpoint = self.endpoint.host_str();
        f.debug_struct("TraceOptions")
            .field("endpoint", &endpoint)
            .field("grpc", &self.grpc)
            .finish_non_exhaustive()
    }
}

/// Why there are no traces. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Made without the feature.
    #[error("this build of onstage exports no traces: it was made without the feature `otel`")]
    Feature,
    /// No address of a collector.
    #[error("expected the URL of a collector, such as `http://127.0.0.1:4318`")]
    Endpoint,
    /// The exporter refuses its settings, most of which come from `OTEL_…` variables.
    #[error("cannot export traces: {0}")]
    Exporter(String),
    /// The certificates cannot be read.
    #[error("cannot read `{}` (`network.ca_file`)", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Whether this build can send traces there.
///
/// # Errors
/// [`TraceError::Endpoint`], [`TraceError::Feature`].
pub fn check_endpoint(endpoint: &str) -> Result<Url, TraceError> {
    let url = endpoint.parse::<Url>().ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or(TraceError::Endpoint)?;
    if cfg!(feature = "otel") {
        Ok(url)
    } else {
        Err(TraceError::Feature)
    }
}

/// A value that a span carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// A word that we chose.
    Word(&'static str),
    /// A text of somebody else.
    Text(String),
    /// A count, or a code.
    Number(i64),
}

impl From<&'static str> for Attribute {
    fn from(word: &'static str) -> Self {
        Self::Word(word)
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<usize> for Attribute {
    fn from(count: usize) -> Self {
        Self::Number(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl From<u16> for Attribute {
    fn from(code: u16) -> Self {
        Self::Number(code.into())
    }
}

impl From<i32> for Attribute {
    fn from(code: i32) -> Self {
        Self::Number(code.into())
    }
}

/// The id of the trace that a client says its request belongs to, by its header `traceparent`: 32 hexadecimal digits,
/// for the log, also where no traces are exported.
pub fn id_of(traceparent: &HeaderValue) -> Option<&str> {
    let text = traceparent.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, id) = (parts.next()?, parts.next()?);
    let is_hex = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let known = version.len() == 2 && is_hex(version) && version != "ff";
    let valid = id.len() == 32 && is_hex(id) && id.bytes().any(|byte| byte != b'0');
    (known && valid).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_is_taken_from_a_valid_traceparent_only() {
        let id = |text: &str| id_of(&text.parse().unwrap()).map(str::to_owned);
        let valid = "0af7651916cd43dd8448eb211c80319c";
        let given = format!("00-{valid}-b7ad6b7169203331-01");
        assert_eq!(id(&given).as_deref(), Some(valid));
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319\"-b7ad6b7169203331-01",
        ] {
            assert_eq!(id(text), None, "{text}");
        }
    }

    #[test]
    fn an_endpoint_is_a_url_of_http() {
        for text in ["", "collector:4317", "ftp://collector", "http://", "4317"] {
            assert!(
                matches!(check_endpoint(text), Err(TraceError::Endpoint)),
                "{text}"
            );
        }
        let checked = check_endpoint("http://127.0.0.1:4318");
        if cfg!(feature = "otel") {
            assert!(checked.is_ok());
        } else {
            assert!(matches!(checked, Err(TraceError::Feature)));
        }
    }
}
