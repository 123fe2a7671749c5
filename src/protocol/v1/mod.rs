//! The V1 protocol, as KServe and TensorFlow Serving speak it over REST: predict by rows and by columns, status,
//! metadata.
//!
//! ```text
//! path ─► Target        body ─► request ─► Signature::bind ─► engine ─► answer
//! ```

mod answer;
mod metadata;
mod path;
mod request;

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::time::Instant;

use self::path::Target;
pub(crate) use self::path::{allowed, normalized};
use self::request::Form;
use super::access::Access;
use super::json::{self, NonFinite};
use super::meter::{Meter, tensor_heap};
use super::oip::error::OipError;
use super::openapi::{Answer, Operation};
use super::size;
use crate::budget::Allowance;
use crate::engine::Outputs;
use crate::http::body::{BodyError, Head, Received, held};
use crate::http::headers::{model_headers, timeout_header};
use crate::http::{Surface, json};
use crate::middleware::auth::Scope;
use crate::model::{Batch, Version};
use crate::protocol::platforms::cloud_events;
use crate::protocol::route::Route;
use crate::protocol::state::Shared;
use crate::serving::{
    Codec, LookupError, RequestId, RequestOptions, Selector, Servable, VersionSelector,
};
use crate::telemetry::Protocol;

pub(crate) fn routes() -> Vec<Route> {
    let row = |path: &'static str, methods, operations| {
        Route::new(path, Surface::V1, methods, operations)
    };
    let documented =
        |access, summary, schema| Operation::get(access, summary, Answer::Json(schema));
    let model = || get(status).post(act);
    let described = || {
        let documented = documented(READ, "what it takes and gives", "SignatureDef");
        vec![documented.fails(&[400, 404, 500, 503, 504])]
    };
    vec![
        row(
            "/",
            get(|| async { json(StatusCode::OK, r#"{"status": "alive"}"#.into()) }),
            vec![documented(
                Access::Public,
                "whether the process lives",
                "Alive",
            )],
        ),
        row(
            "/v1/models",
            get(models),
            vec![documented(
                Access::Every(Scope::Read),
                "the names of the models",
                "ModelNames",
            )],
        ),
        row(
            "/v1/models/{model}",
            model(),
            acts("the version that serves"),
        ),
        row(
            "/v1/models/{model}/versions/{version}",
            model(),
            acts("one version"),
        ),
        row(
            "/v1/models/{model}/labels/{label}",
            model(),
            acts("the version of an alias or a stage"),
        ),
        row("/v1/models/{model}/metadata", get(metadata), described()),
        row(
            "/v1/models/{model}/versions/{version}/metadata",
            get(metadata),
            described(),
        ),
        row(
            "/v1/models/{model}/labels/{label}/metadata",
            get(metadata),
            described(),
        ),
    ]
}

const READ: Access = Access::Model(Scope::Read);

/// What a path with a model takes.
fn acts(summary: &'static str) -> Vec<Operation> {
    let status = Operation::get(READ, summary, Answer::Json("ModelStatus")).or_unready();
    let predict = Operation::predict(summary).verb(":predict");
    // A name with a verb behind it is read by no other method.
    vec![status.fails(&[400, 404, 405]), predict]
}

/// The parameters of a route: `model`, and `version` or `label` where it has one.
type Parameters = Path<Vec<(String, String)>>;

async fn models(State(shared): State<Shared>) -> Response {
    let snapshot = shared.service().catalog().snapshot();
    json(StatusCode::OK, metadata::models(&snapshot))
}

/// 503 while the model cannot answer, as KServe has it; what is not there at all is 404.
async fn status(
    State(shared): State<Shared>,
    uri: Uri,
    Path(parameters): Parameters,
) -> Result<Response, OipError> {
    let snapshot = shared.service().catalog().snapshot();
    let target = Target::parse(parameters, &snapshot)?;
    if target.verb.is_some() {
        return Ok(method_not_allowed(Surface::V1, uri.path()));
    }
    let ready = match snapshot.lookup(&target.selector) {
        // What is loaded on demand would be answered.
        Ok(_) | Err(LookupError::Asleep { .. }) => true,
        Err(LookupError::NotReady { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    let Some(name) = &target.selector.model else {
        return Err(malformed());
    };
    let version = asked_version(&target.selector, &snapshot.models[name]);
    let body = metadata::status(&snapshot, name, version, ready);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok(json(status, body))
}

fn asked_version(selector: &Selector, model: &crate::serving::ModelEntry) -> Option<Version> {
    match &selector.version {
        VersionSelector::Default => None,
        VersionSelector::Exactly(version) => Some(*version),
        VersionSelector::Pointer(pointer) => model.follow(pointer),
    }
}

async fn metadata(
    State(shared): State<Shared>,
    Path(parameters): Parameters,
) -> Result<Response, OipError> {
    let service = shared.service();
    let target = Target::parse(parameters, &service.catalog().snapshot())?;
    let servable = service.find(&target.selector, Instant::now()).await?;
    Ok(json(StatusCode::OK, metadata::signature(&servable)))
}

/// A verb behind the colon of a path.
async fn act(
    State(shared): State<Shared>,
    Path(parameters): Parameters,
    received: Received,
) -> Result<Response, OipError> {
    let target = Target::parse(parameters, &shared.service().catalog().snapshot())?;
    match target.verb.as_deref() {
        Some("predict") => {
            let Received {
                headers,
                body,
                allowance,
            } = received;
            let head = Head {
                headers: &headers,
                allowance: &allowance,
            };
            let answer = |body| predict(&shared, &target.selector, head, body);
            Ok(cloud_events::around(&shared, &headers, (body, &allowance), answer).await)
        }
        Some(verb @ ("classify" | "regress" | "explain")) => Err(OipError::NotImplemented(
            format!("`:{verb}` is not built: an ONNX model answers `:predict`"),
        )),
        _ => Err(malformed()),
    }
}

fn malformed() -> OipError {
    let forms = "`/v1/models/{name}:predict`, `/v1/models/{name}/versions/{version}:predict` or \
                 `/v1/models/{name}/labels/{label}:predict`";
    OipError::Invalid(format!("malformed request: expected {forms}"))
}

/// Answers a body of V1.
pub(crate) async fn predict(
    shared: &Shared,
    selector: &Selector,
    head: Head<'_>,
    body: Result<Bytes, BodyError>,
) -> Response {
    let body = body.map_err(OipError::from);
    let (timeout, body) = match timeout_header(head.headers) {
        Ok(timeout) => (timeout, body),
        Err(error) => (None, Err(OipError::Invalid(error.to_string()))),
    };
    let bytes = body.as_ref().map_or(0, Bytes::len);
    shared.service().metrics().request_size(bytes);
    let codec = PredictCodec {
        effort: body.as_ref().map_or(0, |body| json::effort(body)),
        body: Some(body),
        form: Form::Columns,
        id: None,
        non_finite: shared.non_finite(),
        timeout,
        allowance: head.allowance.clone(),
    };
    let answered = shared.service().infer(Protocol::V1, selector, codec).await;
    let mut response = match answered.result {
        Ok(body) => json(StatusCode::OK, body),
        Err(error) => error.into_response(),
    };
    model_headers(&mut response, answered.model.as_ref());
    held(response, head.allowance.clone())
}

/// One predict request.
struct PredictCodec {
    /// Taken by `decode`; an error of the headers or of reading the body is reported there, where it is counted.
    body: Option<Result<Bytes, OipError>>,
    effort: usize,
    /// What the request may hold, until it is answered.
    allowance: Allowance,
    /// Known once the body was read.
    form: Form,
    id: Option<RequestId>,
    non_finite: NonFinite,
    /// How long the client waits.
    timeout: Option<Duration>,
}

impl Codec for PredictCodec {
    type Answer = Vec<u8>;
    type Error = OipError;

    fn bytes(&self) -> usize {
        self.effort
    }

    fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    fn request_id(&self) -> Option<RequestId> {
        self.id.clone()
    }

    fn request_options(&self) -> RequestOptions {
        RequestOptions {
            timeout: self.timeout,
            urgent: false,
        }
    }

    fn decode(&mut self, servable: &Servable) -> Result<Batch, OipError> {
        let body = self.body.take().expect("a request is decoded once")?;
        let meter = Meter::new(&self.allowance);
        let request = request::parse(body, servable.signature(), &meter)?;
        self.form = request.form;
        self.id = request.id;
        let batch = servable.signature().bind(request.named)?;
        meter.keep(batch.inputs().iter().map(tensor_heap).sum());
        Ok(batch)
    }

    fn encode(self, servable: &Servable, outputs: Outputs) -> Result<Vec<u8>, OipError> {
        self.allowance.charge(size::in_json(&outputs))?;
        answer::write_answer(self.form, servable.signature(), &outputs, self.non_finite)
            .map_err(|error| OipError::Invalid(error.to_string()))
    }
}

/// The answer to a method that the path does not have, with those that it has where its route alone does not tell them.
pub(crate) fn method_not_allowed(surface: Surface, path: &str) -> Response {
    let refusal = surface.method_not_allowed();
    match allowed(path).filter(|_| surface == Surface::V1) {
        Some(allowed) => ([(header::ALLOW, allowed)], refusal).into_response(),
        None => refusal,
    }
}
