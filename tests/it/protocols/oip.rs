//! Binary tensors of the Open Inference Protocol, as a client makes and reads them.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::server::Server;

const LENGTH: &str = "inference-header-content-length";

/// Elements as bytes; `FP16` and `BF16` are given as their bits.
pub(crate) fn encode(datatype: &str, elements: &[Value]) -> Vec<u8> {
    elements
        .iter()
        .flat_map(|element| bytes_of(datatype, element))
        .collect()
}

fn bytes_of(datatype: &str, element: &Value) -> Vec<u8> {
    let int = || {
        let big = element.as_u64().map(i128::from);
        big.or_else(|| element.as_i64().map(i128::from)).unwrap()
    };
    match datatype {
        "BOOL" => vec![u8::from(element.as_bool().unwrap())],
        "FP32" => {
            let text = element.to_string();
            text.parse::<f32>().unwrap().to_le_bytes().to_vec()
        }
        "FP64" => element.as_f64().unwrap().to_le_bytes().to_vec(),
        "BYTES" => {
            let text = element.as_str().unwrap();
            let length = u32::try_from(text.len()).unwrap();
            [&length.to_le_bytes(), text.as_bytes()].concat()
        }
        whole => int().to_le_bytes()[..width(whole)].to_vec(),
    }
}

/// Bytes as elements.
pub(crate) fn decode(datatype: &str, mut bytes: &[u8]) -> Vec<Value> {
    let mut elements = Vec::new();
    while !bytes.is_empty() {
        let size = if datatype == "BYTES" {
            4 + u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize
        } else {
            width(datatype)
        };
        let (element, rest) = bytes.split_at(size);
        elements.push(element_of(datatype, element));
        bytes = rest;
    }
    elements
}

fn element_of(datatype: &str, bytes: &[u8]) -> Value {
    let signed = datatype.starts_with("INT");
    let whole = || {
        let fill = if signed && bytes[bytes.len() - 1] > 127 {
            255
        } else {
            0
        };
        let mut wide = [fill; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        wide
    };
    match datatype {
        "BOOL" => json!(bytes[0] == 1),
        "FP32" => json!(f64::from(f32::from_le_bytes(bytes.try_into().unwrap()))),
        "FP64" => json!(f64::from_le_bytes(bytes.try_into().unwrap())),
        "BYTES" => json!(std::str::from_utf8(&bytes[4..]).unwrap()),
        _ if signed => json!(i64::from_le_bytes(whole())),
        _ => json!(u64::from_le_bytes(whole())),
    }
}

fn width(datatype: &str) -> usize {
    match datatype {
        "BOOL" | "UINT8" | "INT8" => 1,
        "UINT16" | "INT16" | "FP16" | "BF16" => 2,
        "UINT32" | "INT32" | "FP32" => 4,
        _ => 8,
    }
}

/// An answer in its parts.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) has_header: bool,
    pub(crate) json: Value,
    /// By output.
    pub(crate) binary: BTreeMap<String, Vec<u8>>,
}

impl Answered {
    /// The message of a request that must be refused with this status.
    pub(crate) fn refused(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{self:?}");
        let message = self.json["error"].as_str();
        message.unwrap_or_else(|| panic!("no `error` in {self:?}"))
    }
}

/// Posts JSON with bytes behind it, and takes the answer apart.
pub(crate) async fn post(server: &Server, path: &str, json: &Value, bytes: &[u8]) -> Answered {
    let json = json.to_string();
    let body = [json.as_bytes(), bytes].concat();
    let length = json.len().to_string();
    let request = server.request(Method::POST, path).header(LENGTH, length);
    answered(request.body(body)).await
}

/// Sends a request and takes the answer apart.
pub(crate) async fn answered(request: reqwest::RequestBuilder) -> Answered {
    let response = request.send().await.unwrap();
    let header = |name: &str| {
        let value = response.headers().get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let status = response.status().as_u16();
    let length = header(LENGTH).map(|length| length.parse::<usize>().unwrap());
    let content_type = header("content-type").unwrap_or_default();
    let body = response.bytes().await.unwrap();
    let (json, mut rest) = body.split_at(length.unwrap_or(body.len()));
    let json: Value = serde_json::from_slice(json).unwrap();
    let mut binary = BTreeMap::new();
    for output in json["outputs"].as_array().into_iter().flatten() {
        if let Some(size) = output["parameters"]["binary_data_size"].as_u64() {
            let (own, after) = rest.split_at(usize::try_from(size).unwrap());
            let name = output["name"].as_str().unwrap().to_owned();
            binary.insert(name, own.to_vec());
            rest = after;
        }
    }
    assert!(rest.is_empty(), "{} bytes are nobody's", rest.len());
    Answered {
        status,
        content_type,
        has_header: length.is_some(),
        json,
        binary,
    }
}
