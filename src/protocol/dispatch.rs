//! Bodies of the Open Inference Protocol on paths that are another protocol's: SageMaker and Vertex AI have one path for
//! all that their clients send. See `docs/adr/0006-foreign-bodies.md`.

use axum::body::Bytes;
use axum::http::{HeaderMap, header};

use super::json::{JsonError, Reader};
use super::oip::error::OipError;
use crate::http::headers::LENGTH_HEADER;
use crate::model::Schema;
use crate::protocol::oip::rest::Framing;
use crate::protocol::state::Shared;
use crate::serving::Selector;

/// The media type by which Triton's clients say on SageMaker where the JSON of a binary body ends.
pub(crate) const SAGEMAKER: &str = "application/vnd.sagemaker-triton.binary+json";

/// The same on Vertex AI.
pub(crate) const VERTEX: &str = "application/vnd.vertex-ai-triton.binary+json";

/// The parameter that they have.
const HEADER_SIZE: &str = "json-header-size";

/// The key of a tensor's type, which no body of another protocol has.
const DATATYPE: &str = "datatype";

/// How far a body is looked at before it is taken for one of the path's own protocol.
const GLANCE: usize = 1024;

/// How far its tensors are looked for: name, shape and datatype of the first are small.
const BEGINNING: usize = 64 << 10;

/// How the body is framed, when it is one of the Open Inference Protocol; `alias` is the media type of the platform whose
/// path it came on.
pub(crate) fn framing(
    shared: &Shared,
    selector: &Selector,
    headers: &HeaderMap,
    body: &Bytes,
    alias: &'static str,
) -> Option<Framing> {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.map_or("", |value| value.to_str().unwrap_or("?"));
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let media_type = media_type.trim();
    let is = |known: &str| media_type.eq_ignore_ascii_case(known);
    if let Some(alias) = [SAGEMAKER, VERTEX].into_iter().find(|alias| is(alias)) {
        return Some(Framing {
            json: header_size(parameters).map(Some),
            alias: Some(alias),
        });
    }
    let is_binary = is("application/octet-stream") && headers.contains_key(LENGTH_HEADER);
    let is_json = || {
        (media_type.is_empty() || is("application/json"))
            && has_tensors(body)
            && !takes_datatypes(shared, selector)
    };
    if is_binary || (headers.contains_key(LENGTH_HEADER) && is_json()) {
        return Some(Framing::from_headers(headers));
    }
    // These platforms hand no header of the protocol on, so that the type must say where the JSON of the answer ends.
    is_json().then_some(Framing {
        json: Ok(None),
        alias: Some(alias),
    })
}

fn header_size(parameters: &str) -> Result<usize, OipError> {
    let mut named = parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='));
    let size = named.find(|(name, _)| name.trim().eq_ignore_ascii_case(HEADER_SIZE));
    let size = size.and_then(|(_, size)| size.trim().parse().ok());
    size.ok_or_else(|| {
        OipError::Invalid(format!(
            "the content type has no `{HEADER_SIZE}`: expected the number of bytes of the JSON"
        ))
    })
}

/// Whether the first of `inputs` is an object with a name, a shape and a datatype.
fn has_tensors(body: &[u8]) -> bool {
    let glance = &body[..body.len().min(GLANCE)];
    let mut parts = glance.windows(DATATYPE.len());
    parts.any(|part| part == DATATYPE.as_bytes()) && first_is_tensor(body).unwrap_or(false)
}

/// The body is looked at no further than it takes, and no further than its beginning.
fn first_is_tensor(body: &[u8]) -> Result<bool, JsonError> {
    let beginning = &body[..body.len().min(BEGINNING)];
    // It may end in the middle of a character.
    let beginning = match std::str::from_utf8(beginning) {
        Err(error) if error.error_len().is_none() => &beginning[..error.valid_up_to()],
        _ => beginning,
    };
    let mut reader = Reader::new(beginning)?;
    if !reader.next_is_object()? {
        return Ok(false);
    }
    let mut missing = vec!["name", "shape", DATATYPE];
    // What ends the reading once all is known, or nothing will be.
    let stop = || JsonError::Malformed(String::new());
    let read = reader.object(|reader, key| {
        if key != "inputs" || !reader.next_is_list_of_objects()? {
            return reader.skip();
        }
        reader.each(|reader, _| {
            reader.object(|reader, key| {
                missing.retain(|known| *known != key);
                if missing.is_empty() {
                    return Err(stop());
                }
                reader.skip()
            })?;
            Err(stop())
        })?;
        Err(stop())
    });
    if missing.is_empty() {
        return Ok(true);
    }
    read.map(|()| false)
}

/// Whether the model has a column of this name: then a record with that key is one.
fn takes_datatypes(shared: &Shared, selector: &Selector) -> bool {
    let Ok(servable) = shared.service().catalog().lookup(selector) else {
        return false;
    };
    let signature = servable.package().manifest.signature.as_ref();
    match signature.and_then(|signature| signature.inputs.as_ref()) {
        Some(Schema::Columns(columns)) => {
            let mut names = columns.iter().filter_map(|column| column.name.as_deref());
            names.any(|name| name == DATATYPE)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tensors_with_a_datatype_are_taken_for_such_a_body() {
        let tensor = r#"{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}"#;
        assert!(has_tensors(
            format!(r#"{{"id": "1", "inputs": [{tensor}]}}"#).as_bytes()
        ));
        for body in [
            r#"{"inputs": [[1.0]]}"#,
            r#"{"inputs": {"datatype": [1]}}"#,
            r#"{"inputs": [{"datatype": "FP32", "x": 1}]}"#,
            r#"{"instances": [{"name": "x", "shape": [1], "datatype": "FP32"}]}"#,
            r#"[{"datatype": 1}]"#,
            r#"{"inputs": [{"datatype"#,
            "",
        ] {
            assert!(!has_tensors(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn the_size_of_the_json_stands_in_the_content_type() {
        assert_eq!(header_size(" json-header-size=12").unwrap(), 12);
        assert_eq!(
            header_size("charset=utf-8; JSON-Header-Size = 7").unwrap(),
            7
        );
        for wrong in [
            "",
            "json-header-size",
            "json-header-size=x",
            "json-header-size=-1",
        ] {
            assert!(header_size(wrong).is_err(), "{wrong}");
        }
    }
}
