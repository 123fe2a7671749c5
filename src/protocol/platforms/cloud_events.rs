//! CloudEvents on predict paths, as KServe takes them: in binary mode the headers are the event and the body its data, in
//! structured mode the event is one JSON object. The answer is an event in the same mode.

use std::time::SystemTime;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::budget::{Allowance, OverBudget};
use crate::error::Kinded;
use crate::http::Surface;
use crate::http::body::BodyError;
use crate::http::headers::MODEL_NAME;
use crate::protocol::json::{Json, JsonError, Reader, write_str};
use crate::protocol::meter::{Meter, block};
use crate::protocol::state::Shared;

/// Looking for the data of a larger event would be felt by other connections of the thread.
const LARGE: usize = 64 << 10;

/// What makes a request an event whose attributes are headers.
const SPEC_VERSION: HeaderName = HeaderName::from_static("ce-specversion");

/// The media type of an event that is one JSON object.
const STRUCTURED: &str = "application/cloudevents+json";

/// The version of the specification.
const SPECVERSION: &str = "1.0";

/// What kind of event an answer is, in KServe's words.
const TYPE: &str = "io.kserve.inference.response";

/// Who sends it: followed by the model's name.
const SOURCE: &str = "io.kserve.inference";

/// The attributes without which there is no event.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// How a request is an event.
enum Mode {
    Binary,
    Structured,
}

/// Lets `answer` answer the data of a request that is an event, and makes an event of the answer; any other request is
/// answered as it is. Errors stay what they are.
pub(crate) async fn around<A: Future<Output = Response>>(
    shared: &Shared,
    headers: &HeaderMap,
    (body, allowance): (Result<Bytes, BodyError>, &Allowance),
    answer: impl FnOnce(Result<Bytes, BodyError>) -> A,
) -> Response {
    let mode = match mode(headers) {
        Ok(mode) => mode,
        Err(error) => return refuse(&error.to_string()),
    };
    let Some(mode) = mode else {
        return answer(body).await;
    };
    let body = match (&mode, body) {
        (Mode::Structured, Ok(event)) => match unwrapped(shared, event, allowance).await {
            Ok(data) => Ok(data),
            Err(error) => return error.refusal(),
        },
        (_, body) => body,
    };
    let response = answer(body).await;
    if !response.status().is_success() {
        return response;
    }
    match mode {
        Mode::Binary => as_binary(response),
        Mode::Structured => as_structured(response).await,
    }
}

/// The header that an event lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event lacks the header `ce-{0}`")]
struct MissingHeader(&'static str);

/// `None` for a request that is no event.
///
/// # Errors
/// [`MissingHeader`].
fn mode(headers: &HeaderMap) -> Result<Option<Mode>, MissingHeader> {
    if is_structured(headers) {
        return Ok(Some(Mode::Structured));
    }
    if !headers.contains_key(SPEC_VERSION) {
        return Ok(None);
    }
    let missing = |name: &&&str| !headers.contains_key(format!("ce-{name}"));
    match REQUIRED.iter().find(missing) {
        Some(name) => Err(MissingHeader(name)),
        None => Ok(Some(Mode::Binary)),
    }
}

fn is_structured(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE);
    let media_type = media_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    let media_type = media_type.split(';').next().unwrap_or("").trim();
    media_type.eq_ignore_ascii_case(STRUCTURED)
}

fn refuse(message: &str) -> Response {
    Surface::V2.plain_error(StatusCode::BAD_REQUEST, message)
}

/// Why an event has no data.
#[derive(Debug, thiserror::Error)]
enum EventError {
    /// It is none, or broken.
    #[error("{0}")]
    Malformed(String),
    /// It takes more memory than there is for the request.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

impl EventError {
    fn refusal(&self) -> Response {
        match self {
            Self::Malformed(message) => refuse(message),
            Self::OverBudget(over) => {
                let status = StatusCode::from_u16(over.kind().http_status());
                let status = status.unwrap_or(StatusCode::PAYLOAD_TOO_LARGE);
                Surface::V2.plain_error(status, &over.to_string())
            }
        }
    }
}

impl From<JsonError> for EventError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::OverBudget(over) => over.into(),
            error @ JsonError::Malformed(_) => {
                Self::Malformed(format!("the event is no JSON: {error}"))
            }
        }
    }
}

fn malformed<T>(message: impl Into<String>) -> Result<T, EventError> {
    Err(EventError::Malformed(message.into()))
}

/// The data of an event. Of a large one it is looked for beside the connections.
async fn unwrapped(
    shared: &Shared,
    event: Bytes,
    allowance: &Allowance,
) -> Result<Bytes, EventError> {
    if event.len() < LARGE {
        return data_of(&event, &Meter::new(allowance));
    }
    let allowance = allowance.clone();
    let work = move || data_of(&event, &Meter::new(&allowance));
    shared.service().run_blocking(work).await
}

/// The data of an event: a part of its text, or what base64 encodes, which stays charged.
fn data_of(event: &Bytes, meter: &Meter) -> Result<Bytes, EventError> {
    let mut reader = Reader::metered(event, meter)?;
    if !reader.next_is_object()? {
        return malformed("the event is no JSON object");
    }
    let mut missing: Vec<&str> = REQUIRED.to_vec();
    let mut data = None;
    reader.object(|reader, key| {
        match key {
            "data" => data = Some(event.slice_ref(reader.raw()?)),
            "data_base64" => {
                let text = reader.value()?;
                let decoded = match &text {
                    Json::Text(text) => {
                        // No more than three bytes come of four.
                        meter.charge(block(text.len()))?;
                        BASE64_STANDARD.decode(text).ok()
                    }
                    _ => None,
                };
                let Some(decoded) = decoded else {
                    return malformed("`data_base64` of the event is no base64");
                };
                meter.keep(block(decoded.capacity()));
                data = Some(decoded.into());
            }
            _ => {
                missing.retain(|name| *name != key);
                reader.skip()?;
            }
        }
        Ok::<(), EventError>(())
    })?;
    reader.finish()?;
    if let Some(name) = missing.first() {
        return malformed(format!("the event lacks `{name}`"));
    }
    data.map_or_else(
        || malformed("the event has neither `data` nor `data_base64`"),
        Ok,
    )
}

/// The attributes of an answer.
fn attributes(response: &Response) -> [(&'static str, String); 5] {
    let model = response.headers().get(MODEL_NAME);
    let model = model.and_then(|name| name.to_str().ok()).unwrap_or("model");
    let time = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    [
        ("specversion", SPECVERSION.to_owned()),
        ("id", uuid::Uuid::new_v4().hyphenated().to_string()),
        ("source", format!("{SOURCE}.{model}")),
        ("type", TYPE.to_owned()),
        ("time", time.to_string()),
    ]
}

fn as_binary(mut response: Response) -> Response {
    for (name, value) in attributes(&response) {
        let name = axum::http::HeaderName::try_from(format!("ce-{name}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

async fn as_structured(response: Response) -> Response {
    let attributes = attributes(&response);
    let (mut parts, body) = response.into_parts();
    // It is ours, and whole already.
    let data = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let is_json = parts
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value == "application/json");
    let mut event = b"{".to_vec();
    for (name, value) in attributes {
        write_str(&mut event, name);
        event.extend_from_slice(b": ");
        write_str(&mut event, &value);
        event.extend_from_slice(b", ");
    }
    if is_json {
        event.extend_from_slice(b"\"datacontenttype\": \"application/json\", \"data\": ");
        event.extend_from_slice(&data);
    } else {
        event.extend_from_slice(b"\"data_base64\": ");
        write_str(&mut event, &BASE64_STANDARD.encode(&data));
    }
    event.push(b'}');
    parts.headers.remove(header::CONTENT_LENGTH);
    let structured = HeaderValue::from_static(STRUCTURED);
    parts.headers.insert(header::CONTENT_TYPE, structured);
    Response::from_parts(parts, Body::from(event))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(event: &'static str) -> Result<String, EventError> {
        let data = data_of(&Bytes::from(event), &Meter::unlimited())?;
        Ok(String::from_utf8(data.to_vec()).unwrap())
    }

    #[test]
    fn the_data_of_an_event_is_taken_as_it_stands() {
        let event = r#"{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": {"instances": [1.50, NaN]} }"#;
        assert_eq!(data(event).unwrap(), r#"{"instances": [1.50, NaN]}"#);
        let event = r#"{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": "e30="}"#;
        assert_eq!(data(event).unwrap(), "{}");
    }

    #[test]
    fn what_an_event_lacks_is_named() {
        for (event, part) in [
            ("[1]", "no JSON object"),
            ("{", "no JSON"),
            (
                r#"{"specversion": "1.0", "id": "1", "source": "s", "data": 1}"#,
                "`type`",
            ),
            (
                r#"{"specversion": "1.0", "id": "1", "source": "s", "type": "t"}"#,
                "neither `data`",
            ),
            (
                r#"{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": 5}"#,
                "no base64",
            ),
        ] {
            let error = data(event).unwrap_err().to_string();
            assert!(error.contains(part), "{event}: {error}");
        }
    }
}
