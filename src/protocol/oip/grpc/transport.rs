//! What every call passes on its way to the services and back.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tonic::Status;

use super::metered::{Charges, metered};
use super::status::{OURS, status, unreadable};
use super::{access, layouts};
use crate::error::Kinded;
use crate::protocol::state::Shared;
use crate::telemetry::Protocol;

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPTS: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Chooses the compression of the answer, and tells refusals of the library in the words and codes of all others.
pub(crate) async fn adapt(
    State(shared): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if let Err(refused) = access::enter(&shared, path, request.extensions()) {
        return refused.into_http();
    }
    choose_compression(request.headers_mut());
    let started = Instant::now();
    let (request, charges) = counted(&shared, request);
    let mut response = charges.held(next.run(request).await);
    if response.headers_mut().remove(OURS).is_some() {
        return response;
    }
    let refused = Status::from_header_map(response.headers());
    let refused = refused.and_then(|refused| unreadable(&refused, shared.body_limits().max_bytes));
    let Some(error) = refused else {
        return response;
    };
    let metrics = shared.service().metrics();
    metrics.unknown_request(Protocol::V2Grpc, Some(error.kind()), started.elapsed());
    status(&error, None).into_http()
}

/// The call with its messages counted.
fn counted(shared: &Shared, request: Request) -> (Request, Charges) {
    let (mut parts, body) = request.into_parts();
    let charges = Charges::default();
    let layout = layouts::find(parts.uri.path());
    let body = metered((&parts.headers, body), layout, shared, &charges);
    parts.extensions.insert(charges.clone());
    (Request::from_parts(parts, body), charges)
}

/// Answers are compressed as the request was: almost every client says that it accepts compression, and for small
/// answers on a fast network it costs more than it saves.
fn choose_compression(headers: &mut HeaderMap) {
    let encoding = headers.get(ENCODING);
    let encoding = encoding.filter(|encoding| *encoding != "identity").cloned();
    let accepts = headers.remove(ACCEPTS);
    let (Some(encoding), Some(accepts)) = (encoding, accepts) else {
        return;
    };
    let (wanted, accepts) = (encoding.to_str(), accepts.to_str());
    let accepted = wanted
        .ok()
        .zip(accepts.ok())
        .is_some_and(|(wanted, accepts)| accepts.split(',').any(|one| one.trim() == wanted));
    if accepted {
        headers.insert(ACCEPTS, encoding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(encoding: Option<&str>, accepts: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in [(ENCODING, encoding), (ACCEPTS, accepts)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().unwrap());
            }
        }
        choose_compression(&mut headers);
        let chosen = headers.get(ACCEPTS)?;
        Some(chosen.to_str().unwrap().to_owned())
    }

    #[test]
    fn answers_are_compressed_as_requests_are() {
        let all = Some("identity, deflate, gzip");
        assert_eq!(chosen(Some("gzip"), all).as_deref(), Some("gzip"));
        assert_eq!(chosen(Some("deflate"), all).as_deref(), Some("deflate"));
        assert_eq!(chosen(None, all), None);
        assert_eq!(chosen(Some("identity"), all), None);
        assert_eq!(chosen(Some("gzip"), None), None);
        assert_eq!(chosen(Some("gzip"), Some("deflate")), None);
    }
}
