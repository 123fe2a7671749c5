//! Whether a caller may use a route: decided behind the router, once the route is certain.
//!
//! The decision is taken on the parameters that the handler gets: there is no second reading of a path that could differ
//! from the first.

use std::fmt::Display;
use std::sync::Arc;

use axum::extract::{RawPathParams, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::MethodRouter;

use super::access::Access;
use super::route::Route;
use super::state::Shared;
use crate::http::Surface;
use crate::middleware::auth::{Caller, Guard, On, Refusal, Scope};
use crate::telemetry::short;

/// The names of parameters that are a model's name.
pub(crate) const MODEL: [&str; 2] = ["model", "name"];

#[derive(Clone)]
struct Gate {
    shared: Shared,
    guard: Guard,
    surface: Surface,
    decisions: Arc<[(Method, Access)]>,
}

/// The methods of a route behind their access checks; unchanged without authentication.
pub(crate) fn guarded(route: &Route, shared: &Shared) -> MethodRouter<Shared> {
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
        Err(refusal) => gate.surface.refused(refusal),
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
            Access::Metrics if self.shared.has_public_metrics() => return Ok(()),
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
pub(crate) async fn model(parts: &mut Parts) -> Option<String> {
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

/// Whether the caller of a gRPC message may do this; without authentication everybody may.
///
/// # Errors
/// The answer to a caller that may not.
pub(crate) fn permit(
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

/// The record of something that a caller changed, or wanted to.
pub(crate) fn record(
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
pub(crate) async fn pass_admin(
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
        Err(refusal) => Surface::V2.refused(refusal),
    }
}
