//! Who may use a route: declared in the route table, for each method, and decided here once the route is certain.
//!
//! The decision is taken behind the router, on the parameters that the handler gets: there is no second reading of a
//! path that could differ from the first.

use std::fmt::Display;
use std::sync::Arc;

use axum::extract::{RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::MethodRouter;

use super::{Route, Shared, Surface};
use crate::error::ErrorKind;
use crate::middleware::auth::{Caller, Guard, On, Refusal, Scope};
use crate::telemetry::short;

/// Who may use one method of a route. There is no row without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody: probes, which know no secrets.
    Public,
    /// Whoever has the scope for any model: it tells nothing about models.
    Server(Scope),
    /// Whoever has the scope for the model in the path, or in the message.
    Model(Scope),
    /// Whoever has the scope for the default model.
    Default(Scope),
    /// Whoever has the scope for every model: it is about all of them.
    Every(Scope),
    /// As `Every(Read)`, unless the operator shows the metrics to everybody.
    Metrics,
}

/// The names of parameters that are a model's name.
const MODEL: [&str; 2] = ["model", "name"];

#[derive(Clone)]
struct Gate {
    shared: Shared,
    guard: Guard,
    surface: Surface,
    decisions: Arc<[(Method, Access)]>,
}

/// The methods of a route behind their decisions; as they are where nobody is asked.
pub(super) fn guarded(route: &Route, shared: &Shared) -> MethodRouter<Shared> {
    let methods = route.methods.clone();
    let Some(guard) = shared.guard().cloned() else {
        return methods;
    };
    let gate = Gate {
        shared: shared.clone(),
        guard,
        surface: route.surface,
        decisions: route.decisions().into(),
    };
    methods.route_layer(from_fn_with_state(gate, pass))
}

async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let allowed = gate.decide(&mut parts).await;
    match allowed {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(refusal) => refused(gate.surface, refusal),
    }
}

impl Gate {
    async fn decide(&self, parts: &mut Parts) -> Result<(), Refusal> {
        let access = self.access(&parts.method);
        let named = match access {
            Access::Model(_) => model(parts).await,
            Access::Default(_) => default_model(&self.shared),
            _ => None,
        };
        let (scope, on) = match access {
            Access::Public => return Ok(()),
            Access::Metrics if self.shared.0.options.public_metrics => return Ok(()),
            Access::Metrics => (Scope::Read, On::EveryModel),
            Access::Server(scope) => (scope, On::Server),
            Access::Every(scope) => (scope, On::EveryModel),
            Access::Model(scope) => (scope, named.as_deref().map_or(On::EveryModel, On::Model)),
            Access::Default(scope) => (scope, named.as_deref().map_or(On::EveryModel, On::Default)),
        };
        let caller = parts.extensions.get::<Caller>();
        self.guard.check(caller, scope, on, parts.uri.path())
    }

    /// What no row declares is for whoever may do everything.
    fn access(&self, method: &Method) -> Access {
        // Answered by the handler of GET.
        let method = if method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let mut decisions = self.decisions.iter();
        let found = decisions.find(|(declared, _)| declared == method);
        found.map_or(Access::Every(Scope::Admin), |(_, access)| *access)
    }
}

/// The name in the path, as the handler reads it. A verb of V1 stands behind a colon, which no name holds.
pub(super) async fn model(parts: &mut Parts) -> Option<String> {
    use axum::extract::FromRequestParts as _;
    let parameters = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    let mut parameters = parameters.iter();
    let (_, value) = parameters.find(|(name, _)| MODEL.contains(name))?;
    let name = value.split(':').next().unwrap_or(value);
    Some(name.to_owned())
}

/// The name of the model that answers where none is named. Without one the answer would tell all names.
fn default_model(shared: &Shared) -> Option<String> {
    let snapshot = shared.service().catalog().snapshot();
    let name = snapshot.default_name().ok()?;
    Some(name.as_str().to_owned())
}

/// Whether a body may be looked at before the route is known: not that of a stranger.
///
/// # Errors
/// The answer to a stranger.
pub(super) fn may_send(shared: &Shared, request: &Request) -> Result<(), Box<Response>> {
    let Some(guard) = shared.guard() else {
        return Ok(());
    };
    let path = request.uri().path();
    let known = guard.know(request.extensions().get::<Caller>(), path);
    known
        .map(drop)
        .map_err(|refusal| Box::new(refused(Surface::of(path), refusal)))
}

/// Whether the caller of a gRPC message may do this; everybody may where nobody is asked.
///
/// # Errors
/// The answer to a caller that may not.
pub(super) fn permit(
    shared: &Shared,
    caller: Option<&Caller>,
    scope: Scope,
    on: On<'_>,
    path: &str,
) -> Result<(), Refusal> {
    match shared.guard() {
        Some(guard) => guard.check(caller, scope, on, path),
        None => Ok(()),
    }
}

/// A refusal in the words of a surface.
pub(super) fn refused(surface: Surface, refusal: Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.kind.http_status());
    let status = status.unwrap_or(StatusCode::FORBIDDEN);
    let mut response = match surface {
        Surface::Mlflow => {
            let code = match refusal.kind {
                ErrorKind::Unauthenticated => "UNAUTHENTICATED",
                _ => "PERMISSION_DENIED",
            };
            let body = serde_json::json!({ "error_code": code, "message": refusal.message });
            surface.json_error(status, body.to_string())
        }
        Surface::V1 | Surface::V2 => surface.plain_error(status, &refusal.message),
    };
    let challenge = HeaderValue::from_static(refusal.challenge);
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// The record of something that a caller changed, or wanted to.
pub(super) fn record(
    caller: Option<&Caller>,
    model: &str,
    action: &str,
    failed: Option<&dyn Display>,
) {
    let (name, issuer) = caller.map_or(("-", "-"), |caller| (caller.name(), caller.issuer()));
    let model = short(model);
    let request_id = caller.and_then(|caller| caller.request_id.to_str().ok());
    let request_id = request_id.unwrap_or("-");
    match failed {
        None => {
            tracing::info!(target: "onstage::audit", caller = name, issuer, model, action, request_id, outcome = "done", "done by hand");
        }
        Some(error) => {
            tracing::warn!(target: "onstage::audit", caller = name, issuer, model, action, request_id, outcome = "failed", %error, "asked for by hand, and not done");
        }
    }
}

/// The methods of the management API behind their decision: each is for administrators of the model in its path, or
/// of all models.
pub(super) async fn pass_admin(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let named = model(&mut parts).await;
    let on = named.as_deref().map_or(On::EveryModel, On::Model);
    let caller = parts.extensions.get::<Caller>();
    match guard.check(caller, Scope::Admin, on, parts.uri.path()) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(refusal) => refused(Surface::V2, refusal),
    }
}

/// One decision of the table of routes, for tests and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRow {
    /// Whether it is a method of gRPC.
    pub is_grpc: bool,
    /// The method of HTTP.
    pub method: String,
    /// The path below the base path, with `{…}` for parameters.
    pub path: String,
    /// Who may use it: `public`, or the scope and what it must be for: `predict model`.
    pub access: String,
}

/// Every decision: for each method of each route of HTTP and for each method of gRPC. With `multi_model` those of
/// routes by which models come and go.
pub fn access_table(multi_model: bool) -> Vec<AccessRow> {
    let routes = super::table().chain(super::sagemaker::routes(multi_model));
    let of_route = |route: Route| {
        let decisions = route.decisions().into_iter();
        let rows = decisions.map(|(method, access)| AccessRow {
            is_grpc: false,
            method: method.to_string(),
            path: route.path.to_string(),
            access: access.to_string(),
        });
        rows.collect::<Vec<_>>()
    };
    let of_grpc = super::v2_grpc::METHODS.iter();
    let of_grpc = of_grpc.map(|(path, access)| AccessRow {
        is_grpc: true,
        method: "POST".to_owned(),
        path: (*path).to_owned(),
        access: access.to_string(),
    });
    routes.flat_map(of_route).chain(of_grpc).collect()
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::Server(scope) => write!(f, "{scope} server"),
            Self::Model(scope) => write!(f, "{scope} model"),
            Self::Default(scope) => write!(f, "{scope} default"),
            Self::Every(scope) => write!(f, "{scope} every"),
            Self::Metrics => f.write_str("read every (metrics)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_with_a_model_in_its_path_decides_by_it() {
        for row in access_table(true).iter().filter(|row| !row.is_grpc) {
            let names_model = MODEL
                .iter()
                .any(|name| row.path.contains(&format!("{{{name}}}")));
            assert_eq!(row.access.ends_with(" model"), names_model, "{row:?}");
        }
    }

    #[test]
    fn nothing_but_probes_is_for_everybody() {
        let public: Vec<String> = access_table(true)
            .into_iter()
            .filter(|row| row.access == "public")
            .map(|row| row.path)
            .collect();
        let probes = [
            "/ping",
            "/health",
            "/version",
            "/v2/health/live",
            "/v2/health/ready",
            "/",
            "/grpc.health.v1.Health/Check",
            "/grpc.health.v1.Health/Watch",
            "/inference.GRPCInferenceService/ServerLive",
            "/inference.GRPCInferenceService/ServerReady",
        ];
        assert_eq!(public, probes);
    }

    #[test]
    fn what_changes_models_or_asks_them_is_never_a_matter_of_reading() {
        for row in access_table(true) {
            let is_act = row.path.ends_with("/load") || row.path.ends_with("/unload");
            let is_act = is_act || row.method == "DELETE" || row.path.ends_with("ModelLoad");
            if is_act {
                assert!(row.access.starts_with("admin"), "{row:?}");
            }
            let asks = [
                "/infer",
                "/invocations",
                "/invoke",
                "ModelInfer",
                "ModelStreamInfer",
            ];
            if asks.iter().any(|end| row.path.ends_with(end)) {
                assert!(row.access.starts_with("predict"), "{row:?}");
            }
        }
    }
}
