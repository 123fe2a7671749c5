//! The one route table, and the router of it.

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::Uri;
use tower::ServiceExt;
use tower::util::MapRequestLayer;

use super::route::Route;
use super::state::Shared;
use super::{feedback, gate, health, mlflow, openapi, v1};
use crate::http::{Entry, path};
use crate::protocol::oip::{grpc, rest};
use crate::protocol::platforms::sagemaker;
use crate::protocol::platforms::vertex;
use crate::telemetry::trace;

/// The route table: every path of the main listener.
pub(crate) fn table() -> impl Iterator<Item = Route> {
    let table = [
        mlflow::routes(),
        feedback::routes(),
        rest::routes(),
        v1::routes(),
        health::routes(),
        openapi::routes(),
    ];
    table.into_iter().flatten()
}

/// The router of every protocol; [`entry`] goes in front of it.
pub fn router(shared: &Shared) -> Router {
    let options = shared.options();
    let mut table: Vec<Route> = table()
        .chain(sagemaker::routes(options.multi_model))
        .collect();
    let more = vertex::routes(options, &table);
    table.extend(more);
    shared
        .documentation()
        .remember(table.iter().map(Route::row).collect());
    let mut router: Router<Shared> = Router::new();
    for route in table {
        let surface = route.surface;
        let methods = gate::guarded(&route, shared)
            .fallback(move |uri: Uri| async move { v1::method_not_allowed(surface, uri.path()) });
        router = router.route(&route.path, methods);
    }
    if options.tracer.is_on() {
        router = router.route_layer(MapRequestLayer::new(name_route));
    }
    let router = router.fallback(path::not_found).with_state(shared.clone());
    // What has no route may have one in lower case; all else is not slowed down by looking.
    let again = router.clone();
    let router = router.fallback(move |request: Request| again.oneshot(normalized(request)));
    match shared.base_path() {
        "" => router,
        base_path => Router::new()
            .nest(base_path, router)
            .fallback(path::not_found),
    }
}

/// The router with what comes before any route.
pub fn entry(shared: &Shared, router: Router) -> Entry {
    let limits = shared.body_limits().clone();
    Entry::new(router, limits, shared.guard().cloned(), shared.base_path())
}

/// Names the trace after the pattern of the route.
fn name_route(request: Request) -> Request {
    let matched = request.extensions().get::<MatchedPath>();
    if let Some((matched, trace)) = matched.zip(trace::current()) {
        trace.rename(format!("{} {}", request.method(), matched.as_str()));
        trace.set("http.route", matched.as_str().to_owned());
    }
    request
}

/// The request with the path that the table knows.
fn normalized(request: Request) -> Request {
    let (mut parts, body) = request.into_parts();
    parts.uri = v1::normalized(parts.uri);
    Request::from_parts(parts, body)
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
    let routes = table().chain(sagemaker::routes(multi_model));
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
    let of_grpc = grpc::METHODS.iter();
    let of_grpc = of_grpc.map(|(path, access)| AccessRow {
        is_grpc: true,
        method: "POST".to_owned(),
        path: (*path).to_owned(),
        access: access.to_string(),
    });
    routes.flat_map(of_route).chain(of_grpc).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::gate::MODEL;

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

#[cfg(test)]
#[path = "path_tests.rs"]
mod path_tests;
