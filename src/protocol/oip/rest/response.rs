//! An infer response: JSON, and behind it the outputs that were asked for as bytes.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;

use crate::http::headers::LENGTH_HEADER;
use crate::model::ModelId;
use crate::protocol::json::{
    Layout, NonFinite, write_integer, write_integers, write_key, write_str, write_tensor,
};
use crate::protocol::oip::error::OipError;
use crate::protocol::oip::outputs::Sent;
use crate::protocol::oip::raw;
use crate::tensor::DType;

/// Up to here it is cheaper to put an answer together than to send it in parts.
const ONE_PIECE: usize = 64 << 10;

/// What a few small outputs take.
const TYPICAL: usize = 512;

/// What goes back to the client.
#[derive(Debug)]
pub(crate) struct InferResponse {
    json: Vec<u8>,
    /// The bytes of the binary outputs, in order.
    tensors: Vec<Bytes>,
}

impl InferResponse {
    /// Writes the outputs.
    ///
    /// # Errors
    /// When one cannot be written in the form in which it was asked for.
    pub(crate) fn new(
        model: &ModelId,
        id: Option<&str>,
        outputs: &[Sent<'_>],
        non_finite: NonFinite,
    ) -> Result<Self, OipError> {
        let mut json = Vec::with_capacity(TYPICAL);
        let mut tensors = Vec::new();
        json.extend_from_slice(b"{\"model_name\": ");
        write_str(&mut json, model.name.as_str());
        json.extend_from_slice(b", \"model_version\": \"");
        write_integer(&mut json, model.version.0);
        json.push(b'"');
        if let Some(id) = id {
            json.extend_from_slice(b", \"id\": ");
            write_str(&mut json, id);
        }
        json.extend_from_slice(b", \"outputs\": [");
        for (index, output) in outputs.iter().enumerate() {
            json.extend_from_slice(if index > 0 { b", " } else { b"" });
            tensors.extend(write_output(&mut json, output, non_finite)?);
        }
        json.extend_from_slice(b"]}");
        Ok(Self { json, tensors })
    }

    /// The answer of HTTP; `alias` is the media type that says how long the JSON is, in place of the header.
    pub(crate) fn into_response(self, alias: Option<&str>) -> Response {
        let (json, binary) = (self.json.len(), self.tensors.iter().map(Bytes::len).sum());
        if binary == 0 {
            return super::json(axum::http::StatusCode::OK, self.json);
        }
        let mut response = self.into_body(binary).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(json + binary));
        let content_type = match alias {
            None => {
                headers.insert(LENGTH_HEADER, HeaderValue::from(json));
                Ok(HeaderValue::from_static("application/octet-stream"))
            }
            Some(alias) => format!("{alias};json-header-size={json}").try_into(),
        };
        if let Ok(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        response
    }

    fn into_body(self, binary: usize) -> Body {
        let mut json = self.json;
        if json.len() + binary <= ONE_PIECE {
            json.reserve_exact(binary);
            self.tensors
                .iter()
                .for_each(|tensor| json.extend_from_slice(tensor));
            return json.into();
        }
        let parts = std::iter::once(json.into()).chain(self.tensors);
        Body::from_stream(stream::iter(parts.map(Ok::<Bytes, Infallible>)))
    }
}

/// Writes an output; what it gives back goes behind the JSON.
fn write_output(
    out: &mut Vec<u8>,
    output: &Sent<'_>,
    non_finite: NonFinite,
) -> Result<Option<Bytes>, OipError> {
    let Sent {
        name,
        tensor,
        labels,
        binary,
    } = output;
    out.extend_from_slice(b"{\"name\": ");
    write_str(out, name);
    let (dtype, shape) = (tensor.dtype(), tensor.shape());
    let datatype = dtype.oip_name();
    out.extend_from_slice(b", \"datatype\": \"");
    out.extend_from_slice(datatype.as_bytes());
    out.extend_from_slice(b"\", \"shape\": ");
    write_integers(out, shape);
    let bytes = binary.then(|| raw::encode(tensor)).transpose()?;
    if labels.is_some() || bytes.is_some() {
        out.extend_from_slice(b", \"parameters\": {");
        if let Some(labels) = labels {
            out.extend_from_slice(b"\"labels\": ");
            write_str(out, labels);
        }
        if let Some(bytes) = &bytes {
            write_key(out, usize::from(labels.is_some()), "binary_data_size");
            write_integer(out, bytes.len());
        }
        out.push(b'}');
    }
    if bytes.is_none() {
        if matches!(dtype, DType::F16 | DType::Bf16) {
            return Err(OipError::Invalid(format!(
                "output `{name}` is {dtype}, which has no JSON form: ask for it with the parameter `binary_data`, or for \
                 other outputs"
            )));
        }
        out.extend_from_slice(b", \"data\": ");
        write_tensor(out, tensor, Layout::Flat, non_finite);
    }
    out.push(b'}');
    Ok(bytes)
}
