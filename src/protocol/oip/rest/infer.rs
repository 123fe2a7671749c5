//! One infer request, from its body to its answer.

use std::time::Duration;

use axum::body::Bytes;

use super::binary::{self, Parts};
use super::request::{self, InferRequest};
use super::response::InferResponse;
use crate::budget::Allowance;
use crate::engine::Outputs;
use crate::model::Batch;
use crate::protocol::json::{self, NonFinite};
use crate::protocol::meter::{Meter, tensor_heap};
use crate::protocol::oip::content;
use crate::protocol::oip::error::OipError;
use crate::protocol::oip::outputs::Selection;
use crate::serving::{Codec, RequestId, RequestOptions, Servable};

/// One infer request.
pub(crate) struct InferCodec {
    /// Taken by `decode`; an error of the headers or of reading the body is reported there, where it is counted.
    body: Option<Result<Received, OipError>>,
    effort: usize,
    /// What the request may hold, until it is answered.
    allowance: Allowance,
    non_finite: NonFinite,
    id: Option<String>,
    selection: Selection,
    request_options: RequestOptions,
}

/// What came in.
pub(crate) struct Received {
    pub(crate) body: Bytes,
    /// The bytes of it that are JSON; `None` for all.
    pub(crate) json: Option<usize>,
    /// How long the client waits, by the headers.
    pub(crate) timeout: Option<Duration>,
}

impl Received {
    /// Numbers as bytes are at most copied, which is many times quicker than reading them as JSON. Texts are not.
    fn effort(&self) -> usize {
        const TEXTS: &[u8] = b"BYTES";
        let length = self.json.unwrap_or(self.body.len()).min(self.body.len());
        let (json, bytes) = self.body.split_at(length);
        let described = json::effort(json);
        // One body without JSON is one text, or numbers.
        let has_texts = !bytes.is_empty() && json.windows(TEXTS.len()).any(|part| part == TEXTS);
        described
            + if has_texts {
                2 * bytes.len()
            } else {
                bytes.len() / 16
            }
    }
}

impl InferCodec {
    pub(crate) fn new(
        received: Result<Received, OipError>,
        non_finite: NonFinite,
        allowance: Allowance,
    ) -> Self {
        Self {
            effort: received.as_ref().map_or(0, Received::effort),
            allowance,
            body: Some(received),
            non_finite,
            id: None,
            selection: Selection::default(),
            request_options: RequestOptions::default(),
        }
    }
}

/// The tensors, which stay charged to the request; what lies in the body is already.
fn kept(batch: Batch, meter: &Meter) -> Result<Batch, OipError> {
    meter.keep(batch.inputs().iter().map(tensor_heap).sum());
    Ok(batch)
}

impl Codec for InferCodec {
    type Answer = InferResponse;
    type Error = OipError;

    fn bytes(&self) -> usize {
        self.effort
    }

    fn decode(&mut self, servable: &Servable) -> Result<Batch, OipError> {
        let received = self.body.take().expect("a request is decoded once")?;
        let signature = servable.signature();
        self.request_options.timeout = received.timeout;
        let meter = Meter::new(&self.allowance);
        let (json, mut section) = match Parts::split(received.body, received.json)? {
            Parts::Json(json, section) => (json, section),
            Parts::Raw(body) => {
                self.selection = Selection::new(&[], signature, true)?;
                let named = vec![binary::only_tensor(signature, body, &meter)?];
                return kept(signature.bind(named)?, &meter);
            }
        };
        let InferRequest {
            id,
            inputs,
            outputs,
            parameters,
        } = request::parse(&json, &meter)?;
        meter.free(json);
        let mut named = meter.vec(inputs.len())?;
        for input in inputs {
            named.push(input.into_tensor(&mut section, &meter, parameters.content)?);
        }
        content::columns(signature, &mut named);
        section.finish()?;
        self.id = id;
        self.selection = Selection::new(&outputs, signature, parameters.binary_output)?;
        let timeouts = [received.timeout, parameters.request_options.timeout];
        self.request_options = RequestOptions {
            timeout: timeouts.into_iter().flatten().min(),
            ..parameters.request_options
        };
        kept(signature.bind(named)?, &meter)
    }

    fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    fn request_id(&self) -> Option<RequestId> {
        RequestId::given(self.id.as_ref()?.as_bytes())
    }

    fn request_options(&self) -> RequestOptions {
        self.request_options
    }

    fn encode(self, servable: &Servable, outputs: Outputs) -> Result<InferResponse, OipError> {
        let of = (servable.signature(), &servable.package().labels);
        self.allowance.charge(self.selection.size(of, &outputs))?;
        let sent = self.selection.apply(of, &outputs)?;
        InferResponse::new(servable.id(), self.id.as_deref(), &sent, self.non_finite)
    }
}
