//! `POST /webhooks/mlflow`: MLflow says that something changed, and the watcher looks at once.
//!
//! A delivery is only a hint: onstage polls the registry all the same. The route exists only with a secret.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::sync::Notify;

use super::peers::Peers;
use crate::network::NetworkConfig;
use crate::registry::notify::webhook::{
    DELIVERY_ID, Headers, Hint, Receiver, SIGNATURE, TIMESTAMP,
};
use crate::telemetry::{Lines, short};

/// The path below the base path.
const PATH: &str = "/webhooks/mlflow";

/// An event of MLflow is a few hundred bytes; a description may be longer.
const LONGEST_BODY: usize = 1 << 20;

/// What the operator chose.
#[derive(Debug)]
pub(crate) struct Options<'o> {
    /// The path in front of every other.
    pub(crate) base_path: &'o str,
    /// Other replicas: `registry.peers`.
    pub(crate) peers: &'o [String],
    /// What deliveries are signed with.
    pub(crate) secret: Option<String>,
}

/// The route, when there is a secret.
///
/// # Errors
/// When a peer has no address.
pub(crate) fn router(
    options: Options<'_>,
    network: NetworkConfig,
    hint: &Arc<Notify>,
) -> anyhow::Result<Router> {
    let path = format!("{}{PATH}", options.base_path);
    let peers = Peers::new(options.peers, path.clone(), network)?;
    let Some(secret) = options.secret else {
        if peers.is_some() {
            tracing::warn!(
                "`registry.peers` has no effect without `registry.webhook_secret_file`: there are no hints to pass on"
            );
        }
        return Ok(Router::new());
    };
    let peers = peers.map(Arc::new);
    let receiver = Arc::new(Receiver::new(secret));
    let hint = Arc::clone(hint);
    let handler = move |headers: HeaderMap, body: Result<Bytes, BytesRejection>| {
        let answer = match body {
            Ok(body) => {
                let (answer, is_news) = receive(&receiver, &hint, &headers, &body);
                if let Some(peers) = peers.as_ref().filter(|_| is_news) {
                    peers.pass_on(&headers, &body);
                }
                answer
            }
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                let message = format!("a delivery has at most {LONGEST_BODY} bytes");
                refusal(rejection.status(), &message)
            }
            Err(rejection) => refusal(rejection.status(), &rejection.body_text()),
        };
        async move { answer }
    };
    let other_method = || async {
        let refusal = refusal(StatusCode::METHOD_NOT_ALLOWED, "deliveries come by POST");
        ([(header::ALLOW, "POST")], refusal)
    };
    let route = post(handler).fallback(other_method);
    let route = route.layer(DefaultBodyLimit::max(LONGEST_BODY));
    Ok(Router::new().route(&path, route))
}

/// Lines of refused deliveries in a second: whoever knows the path can send some.
static REFUSED: Lines = Lines::new(10);

/// The answer, and whether it was something to look at that was not known yet.
fn receive(
    receiver: &Receiver,
    hint: &Notify,
    headers: &HeaderMap,
    body: &[u8],
) -> (Response, bool) {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let of_mlflow = Headers {
        delivery_id: text(DELIVERY_ID),
        timestamp: text(TIMESTAMP),
        signature: text(SIGNATURE),
    };
    match receiver.receive(of_mlflow, body, SystemTime::now()) {
        Ok(received) => {
            if let Hint::Model(model) = &received {
                tracing::debug!(%model, "MLflow says that something changed");
                hint.notify_one();
            }
            let is_news = matches!(received, Hint::Model(_));
            ((StatusCode::OK, "ok\n").into_response(), is_news)
        }
        Err(error) => {
            if let Some(untold) = REFUSED.next() {
                tracing::warn!(
                    error = short(&error.to_string()),
                    untold,
                    "a webhook was refused"
                );
            }
            let status = StatusCode::from_u16(error.status());
            let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (refusal(status, &error.to_string()), false)
        }
    }
}

fn refusal(status: StatusCode, message: &str) -> Response {
    let body = serde_json::json!({ "error": message }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
