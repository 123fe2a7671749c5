//! One infer request, from its body to its answer.

use std::time::Duration;

use axum::body::Bytes;

use super::binary::{self, Parts};
use super::request::{self, InferRequest};
use super::response::InferResponse;
use crate::budget::Allowance;
use crate::engine::Outputs;
use crate::model::Batch;
use crate::protocol::json::NonFinite;
use crate::protocol::oip::content;
use crate::protocol::oip::error::OipError;
use crate::protocol::oip::outputs::Selection;
use crate::serving::{Codec, Servable, Wishes};

/// One infer request.
pub(super) struct InferCodec {
    /// Taken by `decode`; an error of the headers or of reading the body is reported there, where it is counted.
    body: Option<Result<Received, OipError>>,
    bytes: usize,
    non_finite: NonFinite,
    id: Option<String>,
    selection: Selection,
    wishes: Wishes,
    /// What the request may hold.
    allowance: Allowance,
}

/// What came in.
pub(super) struct Received {
    pub(super) body: Bytes,
    /// The bytes of it that are JSON; `None` for all.
    pub(super) json: Option<usize>,
    /// How long the client waits, by the headers.
    pub(super) timeout: Option<Duration>,
}

impl Received {
    /// Numbers as bytes are at most copied, which is many times quicker than reading them as JSON.
    fn effort(&self) -> usize {
        let json = self.json.unwrap_or(self.body.len());
        json + self.body.len().saturating_sub(json) / 16
    }
}

impl InferCodec {
    pub(super) fn new(
        received: Result<Received, OipError>,
        non_finite: NonFinite,
        allowance: Allowance,
    ) -> Self {
        Self {
            bytes: received.as_ref().map_or(0, Received::effort),
            body: Some(received),
            non_finite,
            id: None,
            selection: Selection::default(),
            wishes: Wishes::default(),
            allowance,
        }
    }
}

impl Codec for InferCodec {
    type Answer = InferResponse;
    type Error = OipError;

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn decode(&mut self, servable: &Servable) -> Result<Batch, OipError> {
        let received = self.body.take().expect("a request is decoded once")?;
        let signature = servable.signature();
        self.wishes.timeout = received.timeout;
        let (json, mut section) = match Parts::of(received.body, received.json)? {
            Parts::Json(json, section) => (json, section),
            Parts::Raw(body) => {
                self.selection = Selection::new(&[], signature, true)?;
                return Ok(signature.bind(vec![binary::only_tensor(signature, body)?])?);
            }
        };
        let InferRequest {
            id,
            inputs,
            outputs,
            parameters,
        } = request::parse(&json)?;
        let inputs = inputs.into_iter();
        let named: Result<Vec<_>, _> = inputs
            .map(|input| input.into_tensor(&mut section, parameters.content))
            .collect();
        let mut named = named?;
        content::columns(signature, &mut named);
        section.finish()?;
        self.id = id;
        self.selection = Selection::new(&outputs, signature, parameters.binary_output)?;
        let timeouts = [received.timeout, parameters.wishes.timeout];
        self.wishes = Wishes {
            timeout: timeouts.into_iter().flatten().min(),
            ..parameters.wishes
        };
        Ok(signature.bind(named)?)
    }

    fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    fn wishes(&self) -> Wishes {
        self.wishes
    }

    fn encode(self, servable: &Servable, outputs: Outputs) -> Result<InferResponse, OipError> {
        self.allowance.charge(self.selection.size(&outputs))?;
        let sent = self.selection.apply(servable.signature(), &outputs)?;
        InferResponse::new(servable.id(), self.id.as_deref(), &sent, self.non_finite)
    }
}
