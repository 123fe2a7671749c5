//! Requests over HTTP. The first byte of the data chooses the model, the rest is what its client sends.

use std::sync::Once;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::request::Builder;
use axum::http::{Method, StatusCode, Uri, header};

use super::stage::{Answered, BASE_PATH, MODELS, stage};

/// JSON on MLflow's paths: split, records, inputs, instances.
pub(super) fn mlflow_json(data: &[u8]) {
    scoring("application/json", data);
}

/// CSV likewise.
pub(super) fn mlflow_csv(data: &[u8]) {
    scoring("text/csv", data);
}

/// Parquet likewise.
pub(super) fn mlflow_parquet(data: &[u8]) {
    static TOLERANT: Once = Once::new();
    TOLERANT.call_once(tolerate_libraries);
    scoring("application/vnd.apache.parquet", data);
}

/// The library panics on some broken files, which the server takes for that: only a panic of our own code is a finding.
fn tolerate_libraries() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or("", |location| location.file());
        if !place.contains("/registry/src/") {
            hook(panic);
        }
    }));
}

/// The Open Inference Protocol in JSON.
pub(super) fn oip_json(data: &[u8]) {
    let Some((model, body)) = addressed(data) else {
        return;
    };
    send(post(&format!("/v2/models/{model}/infer")), body);
}

/// The same with tensors as bytes: two bytes more say where the JSON ends.
pub(super) fn oip_binary(data: &[u8]) {
    let Some((model, rest)) = addressed(data) else {
        return;
    };
    let Some((length, body)) = rest.split_first_chunk::<2>() else {
        return;
    };
    let length = u16::from_le_bytes(*length);
    let request = post(&format!("/v2/models/{model}/infer"))
        .header("inference-header-content-length", length);
    send(request, body);
}

/// V1, by rows and by columns.
pub(super) fn v1_json(data: &[u8]) {
    let Some((model, body)) = addressed(data) else {
        return;
    };
    send(post(&format!("/v1/models/{model}:predict")), body);
}

/// Events on predict paths: one more byte says in which mode, and of which protocol the data are.
pub(super) fn cloud_event(data: &[u8]) {
    let Some((model, rest)) = addressed(data) else {
        return;
    };
    let Some((&way, body)) = rest.split_first() else {
        return;
    };
    let path = match way & 1 {
        0 => format!("/v1/models/{model}:predict"),
        _ => format!("/v2/models/{model}/infer"),
    };
    let request = match way & 2 {
        0 => post(&path).header(header::CONTENT_TYPE, "application/cloudevents+json"),
        _ => post(&path)
            .header("ce-specversion", "1.0")
            .header("ce-id", "1")
            .header("ce-source", "here")
            .header("ce-type", "request"),
    };
    send(request, body);
}

/// Compressed bodies: the first byte says how.
pub(super) fn inflate(data: &[u8]) {
    let Some((&way, body)) = data.split_first() else {
        return;
    };
    let coding = ["gzip", "deflate"][usize::from(way & 1)];
    let request = post("/invocations")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_ENCODING, coding);
    send(request, body);
}

/// Paths: the first byte is the method. Behind a base path each must mean the same.
pub(super) fn path(data: &[u8]) {
    let Some((&method, path)) = data.split_first() else {
        return;
    };
    let method = [Method::GET, Method::POST, Method::DELETE][usize::from(method % 3)].clone();
    let ask = |prefix: &str| {
        let path = [prefix.as_bytes(), path].concat();
        let uri = Uri::try_from(path).ok()?;
        let request = Request::builder().method(method.clone()).uri(uri);
        request.body(Body::empty()).ok()
    };
    if path.first() != Some(&b'/') {
        return;
    }
    let (Some(request), Some(prefixed)) = (ask(""), ask(BASE_PATH)) else {
        return;
    };
    // The root is the base path itself, and the base path with a slash is sent there.
    if request.uri().path() == "/" {
        return;
    }
    let (plain, based) = (stage().http(request), stage().based(prefixed));
    judge(&plain);
    assert_eq!(plain.head.status, based.head.status);
    let kind = |answer: &Answered| answer.head.headers.get(header::CONTENT_TYPE).cloned();
    assert_eq!(kind(&plain), kind(&based));
    if plain.head.status.is_client_error() {
        assert_eq!(
            plain.body, based.body,
            "an error has another form behind a base path"
        );
    }
}

fn scoring(content_type: &str, data: &[u8]) {
    let Some((model, body)) = addressed(data) else {
        return;
    };
    let request = post(&format!("/models/{model}/invocations"));
    send(request.header(header::CONTENT_TYPE, content_type), body);
}

fn addressed(data: &[u8]) -> Option<(&'static str, &[u8])> {
    let (&first, rest) = data.split_first()?;
    let model = MODELS[usize::from(first.wrapping_sub(b'0')) % MODELS.len()];
    Some((model, rest))
}

fn post(path: &str) -> Builder {
    Request::post(path)
}

fn send(request: Builder, body: &[u8]) {
    let body = Body::from(Bytes::copy_from_slice(body));
    let request = request.body(body).expect("the head is well formed");
    judge(&stage().http(request));
}

/// No request is a failure of the server, and what says that it is JSON is JSON.
fn judge(answer: &Answered) {
    let status = answer.head.status;
    let told = String::from_utf8_lossy(&answer.body);
    assert!(
        !status.is_server_error() || status == StatusCode::NOT_IMPLEMENTED,
        "{status}: {told}"
    );
    let kind = answer.head.headers.get(header::CONTENT_TYPE);
    // `/ping` answers a line feed, `/version` a version, and both say that it is JSON, as MLflow's server does.
    let as_mlflow = |byte: &u8| byte.is_ascii_digit() || b".\n".contains(byte);
    let is_told = answer.body.is_empty() || !answer.body.iter().all(as_mlflow);
    if kind.is_some_and(|kind| kind == "application/json") && is_told {
        let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(&answer.body);
        assert!(parsed.is_ok(), "{status}: no JSON: {told}");
    }
}
