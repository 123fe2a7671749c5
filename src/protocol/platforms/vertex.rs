//! Paths that a platform chose for what other paths answer too: Vertex AI's routes.

use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};

use crate::http::Surface;
use crate::http::body::{Head, Received};
use crate::protocol::access::Access;
use crate::protocol::oip::rest;
use crate::protocol::openapi::{Answer, Operation};
use crate::protocol::route::Route;
use crate::protocol::state::{ProtocolOptions, Shared};
use crate::protocol::{dispatch, v1};
use crate::serving::{Selector, VersionSelector};

/// The rows that the options add to `table`. A path of the table keeps its meaning: one that is served as `/ping` and
/// `/invocations` needs no other.
pub(crate) fn routes(options: &ProtocolOptions, table: &[Route]) -> Vec<Route> {
    let wanted = [&options.health_route, &options.predict_route];
    let [health, predict] = wanted.map(|path| {
        let path = path.as_ref()?;
        let is_known = table.iter().any(|route| route.path == *path);
        (!is_known).then(|| path.clone())
    });
    let row =
        |path: String, methods, operations| Route::new(path, Surface::V1, methods, operations);
    let health_told = Operation::get(
        Access::Public,
        "readiness of the server",
        Answer::Json("Ready"),
    )
    .or_unready();
    let predicted = Operation::predict("the default model").of_default();
    match (health, predict) {
        (Some(health), Some(predict)) if health == predict => {
            vec![row(
                health,
                get(rest::ready).post(answer),
                vec![health_told, predicted],
            )]
        }
        (health, predict) => {
            let health = health.map(|path| row(path, get(rest::ready), vec![health_told]));
            let predict = predict.map(|path| row(path, post(answer), vec![predicted]));
            health.into_iter().chain(predict).collect()
        }
    }
}

/// `{"instances": […], "parameters": …}` for the default model.
async fn answer(State(shared): State<Shared>, received: Received) -> Response {
    let Received {
        headers,
        body,
        allowance,
    } = received;
    let head = Head {
        headers: &headers,
        allowance: &allowance,
    };
    let selector = Selector {
        model: None,
        version: VersionSelector::Default,
    };
    match body {
        Ok(body) => {
            match dispatch::framing(&shared, &selector, &headers, &body, dispatch::VERTEX) {
                Some(framing) => {
                    rest::infer_framed(&shared, &selector, head, Ok(body), framing).await
                }
                None => v1::predict(&shared, &selector, head, Ok(body)).await,
            }
        }
        rejected => v1::predict(&shared, &selector, head, rejected).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(health: &str, predict: &str) -> Vec<String> {
        let options = ProtocolOptions {
            health_route: Some(health.to_owned()),
            predict_route: Some(predict.to_owned()),
            ..ProtocolOptions::default()
        };
        let table = crate::protocol::mlflow::routes();
        let routes = routes(&options, &table).into_iter();
        routes.map(|route| route.path.into_owned()).collect()
    }

    #[test]
    fn a_route_that_is_there_already_is_not_added() {
        assert!(added("/ping", "/invocations").is_empty());
        assert_eq!(added("/a", "/a"), ["/a"]);
        assert_eq!(added("/ping", "/b"), ["/b"]);
        assert_eq!(added("/a", "/b"), ["/a", "/b"]);
    }
}
