//! Calls over gRPC.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};

use super::stage::{Answered, stage};

const SERVICE: &str = "/inference.GRPCInferenceService";

/// Codes that say that the server is to blame: unknown and internal.
const FAILURES: [&str; 2] = ["2", "13"];

/// One message of `ModelInfer`, as protobuf has it.
pub(super) fn infer(message: &[u8]) {
    let Ok(length) = u32::try_from(message.len()) else {
        return;
    };
    let mut frame = vec![0];
    frame.extend(length.to_be_bytes());
    frame.extend(message);
    judge(&call("ModelInfer", None, frame));
}

/// The frames of a stream; the first byte says which compression its frames may have, and the method.
pub(super) fn stream(data: &[u8]) {
    let Some((&way, frames)) = data.split_first() else {
        return;
    };
    let encoding = [None, Some("gzip"), Some("deflate")][usize::from(way % 3)];
    let method = match way & 4 {
        0 => "ModelStreamInfer",
        _ => "ModelInfer",
    };
    judge(&call(method, encoding, frames.to_vec()));
}

fn call(method: &str, encoding: Option<&'static str>, body: Vec<u8>) -> Answered {
    let mut request = Request::post(format!("{SERVICE}/{method}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", HeaderValue::from_static(encoding));
    }
    let request = request.body(Body::from(body));
    stage().grpc(request.expect("the head is well formed"))
}

fn judge(answer: &Answered) {
    let places = [&answer.trailers, &answer.head.headers];
    let value = |name: &str| {
        let found = places.iter().find_map(|place| place.get(name));
        found.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let code = value("grpc-status").expect("every call has a status");
    let message = value("grpc-message").unwrap_or_default();
    assert!(!FAILURES.contains(&code.as_str()), "{code}: {message}");
}
