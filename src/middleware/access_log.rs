//! One line per request, for those requests that the operator wants to see.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use tokio::time::Instant;

use super::grpc;
use crate::error::ErrorKind;
use crate::serving::RequestId;
use crate::telemetry::{AccessLog, Lines, short, trace};

/// The trace of the client (W3C Trace Context).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Lines in a second for those who proved no name; the next one says how many had none.
static STRANGERS: Lines = Lines::new(100);

/// Probes and scrapes never get a line.
const PROBES: [&str; 9] = [
    "/ping",
    "/health",
    "/version",
    "/metrics",
    "/v2/health/live",
    "/v2/health/ready",
    "/grpc.health.v1.Health/Check",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
];

/// What the line of a request is made of.
pub(super) struct Watch {
    policy: AccessLog,
    /// What the client says of its trace.
    traceparent: Option<HeaderValue>,
    method: Method,
    uri: Uri,
    id: RequestId,
    started: Instant,
}

impl Watch {
    /// `None` for requests that never get a line.
    pub(super) fn begin(policy: AccessLog, request: &Request, id: &RequestId) -> Option<Self> {
        (!is_probe(request.uri().path())).then(|| Self {
            policy,
            traceparent: request.headers().get(TRACEPARENT).cloned(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            id: id.clone(),
            started: Instant::now(),
        })
    }

    /// The trace that the request belongs to, also when it is not sampled.
    fn trace_id(&self) -> Option<String> {
        let own = trace::current().map(|trace| trace.id());
        own.or_else(|| trace::id_of(self.traceparent.as_ref()?).map(str::to_owned))
    }

    /// Writes the line, when there is one to write; `is_known` says whether the client proved a name.
    pub(super) fn end(self, response: &Response, is_known: bool) {
        let grpc_status = grpc::status(response.headers());
        let status = response.status();
        let failed = has_failed(status, grpc_status) && !is_of_stranger(status, grpc_status);
        if !is_wanted(self.policy, failed, &self.id) {
            return;
        }
        let untold = if is_known || self.policy == AccessLog::All {
            None
        } else {
            match STRANGERS.next() {
                Some(untold) => Some(untold).filter(|untold| *untold > 0),
                None => return,
            }
        };
        let header = |name| {
            let value = response.headers().get(name);
            value.and_then(|value| value.to_str().ok()).unwrap_or("-")
        };
        tracing::info!(
            target: "onstage::access",
            method = %self.method,
            path = short(self.uri.path()),
            status = response.status().as_u16(),
            grpc_status,
            took_ms = self.started.elapsed().as_secs_f64() * 1e3,
            model = header("x-model-name"),
            version = header("x-model-version"),
            request_id = self.id.as_str(),
            trace_id = self.trace_id(),
            untold,
            "request"
        );
    }
}

/// Whether the path is for those who ask how the server is.
pub(super) fn is_probe(path: &str) -> bool {
    PROBES.iter().any(|probe| path.ends_with(probe))
}

/// Of gRPC the status of HTTP says nothing.
fn has_failed(status: StatusCode, grpc_status: Option<i32>) -> bool {
    let http = status.is_client_error() || status.is_server_error();
    http || grpc_status.is_some_and(|code| code != 0)
}

/// Whether it was refused because nobody knows who sent it. That is told in the audit log, in few lines: a stranger
/// must not fill a disk.
fn is_of_stranger(status: StatusCode, grpc_status: Option<i32>) -> bool {
    let kind = ErrorKind::Unauthenticated;
    status.as_u16() == kind.http_status() || grpc_status == Some(kind.grpc_code())
}

fn is_wanted(policy: AccessLog, failed: bool, id: &RequestId) -> bool {
    match policy {
        AccessLog::Errors => failed,
        AccessLog::All => true,
        AccessLog::Sampled(rate) => failed || hash_share(id) < rate,
    }
}

/// A number in 0..1 from the request's id: the same request is sampled, or not, on every hop.
fn hash_share(id: &RequestId) -> f64 {
    let hash = id
        .as_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share needs no more than 53 bits"
    )]
    let share = (mixed >> 11) as f64 / (1u64 << 53) as f64;
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_the_asked_share_is_sampled_and_errors_always() {
        let id = |n: u32| RequestId::given(format!("request-{n}").as_bytes()).unwrap();
        let policy = AccessLog::Sampled(0.1);
        let sampled = (0..10_000)
            .filter(|&n| is_wanted(policy, false, &id(n)))
            .count();
        assert!((700..1300).contains(&sampled), "{sampled}");
        assert!(is_wanted(policy, true, &id(0)));
        assert!(!is_wanted(AccessLog::Errors, false, &id(0)));
    }

    #[test]
    fn a_call_of_grpc_has_failed_when_its_own_status_says_so() {
        assert!(has_failed(StatusCode::BAD_REQUEST, None));
        assert!(has_failed(StatusCode::OK, Some(5)));
        assert!(!has_failed(StatusCode::OK, Some(0)));
        assert!(!has_failed(StatusCode::OK, None));
        assert!(is_of_stranger(StatusCode::UNAUTHORIZED, None));
        assert!(is_of_stranger(StatusCode::OK, Some(16)));
        assert!(!is_of_stranger(StatusCode::FORBIDDEN, Some(7)));
    }
}
