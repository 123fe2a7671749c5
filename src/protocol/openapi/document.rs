//! The document: a path item for each row of the route table, and after them those of the models.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::models::{self, Model};
use super::operation::{Answer, Operation, RequestBody};
use super::reference::reference;
use super::shared_schemas;
use crate::http::Surface;
use crate::protocol::access::Access;
use crate::serving::CatalogSnapshot;

/// A row of the route table without its handlers.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) path: String,
    pub(crate) surface: Surface,
    pub(crate) operations: Vec<Operation>,
}

impl Row {
    /// Whether one of its methods does anything.
    fn is_offered(&self) -> bool {
        let mut operations = self.operations.iter();
        operations.any(|operation| operation.answer != Answer::Never)
    }
}

/// The whole document.
pub(crate) fn write(rows: &[Row], snapshot: &CatalogSnapshot, base_path: &str) -> Value {
    let models = models::documented(snapshot);
    let mut paths = Map::new();
    // A path of which every method is refused is for clients of other servers, not for readers.
    for row in rows.iter().filter(|row| row.is_offered()) {
        for operation in &row.operations {
            let path = format!("{}{}", row.path, operation.verb);
            let described = describe(row, operation, &path);
            put(&mut paths, path, operation.method, described);
        }
    }
    for model in &models {
        for path in model.paths() {
            let general = &paths.get(path.general).map(|item| item["post"].clone());
            if let Some(operation) = general {
                let operation = model.specialise(operation, &path);
                put(&mut paths, path.concrete, "post", operation);
            }
        }
    }
    if let Some(model) = models::default_model(snapshot, &models)
        && let Some(operation) = paths.get_mut("/invocations")
    {
        operation["post"] = model.specialise_default(&operation["post"]);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "onstage",
            "version": env!("CARGO_PKG_VERSION"),
            "description": introduction(snapshot, &models),
        },
        "servers": [{ "url": if base_path.is_empty() { "/" } else { base_path } }],
        "paths": paths,
        "components": { "schemas": shared_schemas::all() },
    })
}

/// Says which operations need a key or a token: all but those for everybody.
pub(crate) fn secure(document: &mut Value, rows: &[Row]) {
    document["components"]["securitySchemes"] = json!({
        "bearer": { "type": "http", "scheme": "bearer", "description": "an API key, or a token" },
        "key": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
    });
    document["security"] = json!([{ "bearer": [] }, { "key": [] }]);
    for row in rows {
        for operation in &row.operations {
            if operation.access == Access::Public {
                let path = format!("{}{}", row.path, operation.verb);
                document["paths"][path][operation.method]["security"] = json!([]);
            }
        }
    }
}

fn put(paths: &mut Map<String, Value>, path: String, method: &str, operation: Value) {
    let item = paths.entry(path).or_insert_with(|| json!({}));
    item[method] = operation;
}

fn introduction(snapshot: &CatalogSnapshot, models: &[Model]) -> String {
    let wanted = snapshot.models.len();
    let shown = models.len();
    let rest = if shown < wanted {
        format!("; {shown} of {wanted} models are here, the others are asked by the same paths")
    } else {
        String::new()
    };
    format!("Every path of this server, and those of its models with what each takes{rest}.")
}

fn describe(row: &Row, operation: &Operation, path: &str) -> Value {
    let mut described = json!({
        "operationId": operation_id(operation.method, path),
        "summary": operation.summary,
        "tags": [tag(&row.path)],
    });
    let parameters: Vec<Value> = names(&row.path).map(parameter).collect();
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(body) = request_body(operation.body) {
        described["requestBody"] = body;
    }
    described["responses"] = responses(row.surface, operation);
    described
}

fn operation_id(method: &str, path: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric();
    let words = path.split(|c| !is_word(c)).filter(|word| !word.is_empty());
    let words: Vec<&str> = std::iter::once(method).chain(words).collect();
    words.join("_")
}

fn tag(path: &str) -> &'static str {
    match Surface::from_path(path) {
        Surface::V1 => "V1",
        Surface::V2 => "Open Inference Protocol v2",
        Surface::Mlflow if matches!(path, "/docs" | "/docs/{file}" | "/openapi.json") => {
            "this page"
        }
        Surface::Mlflow if matches!(path, "/" | "/metrics") => "operation",
        Surface::Mlflow if path.ends_with("/feedback") => "feedback",
        Surface::Mlflow => "MLflow",
    }
}

/// The names in the braces.
fn names(path: &str) -> impl Iterator<Item = &str> {
    let parts = path.split('/');
    parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn parameter(name: &str) -> Value {
    let schema = match name {
        "version" => json!({ "type": "integer", "minimum": 1 }),
        "stage" => json!({ "type": "string", "examples": ["Production"] }),
        "alias" | "label" => json!({ "type": "string", "examples": ["champion"] }),
        _ => json!({ "type": "string", "minLength": 1 }),
    };
    json!({ "name": name, "in": "path", "required": true, "schema": schema })
}

fn request_body(body: RequestBody) -> Option<Value> {
    let (required, content) = match body {
        RequestBody::None => return None,
        RequestBody::Scoring => (
            true,
            json!({
                "application/json": { "schema": reference("ScoringRequest") },
                "text/csv": { "schema": { "type": "string" } },
                "application/vnd.apache.parquet": {},
            }),
        ),
        RequestBody::Infer => (
            true,
            json!({
                "application/json": { "schema": reference("InferRequest") },
                "application/octet-stream": {},
            }),
        ),
        RequestBody::Predict => (true, json_content("PredictRequest")),
        RequestBody::Optional(schema) => (false, json_content(schema)),
        RequestBody::Json(schema) => (true, json_content(schema)),
        RequestBody::Lines(schema) => (
            true,
            json!({ "application/x-ndjson": { "schema": reference(schema) } }),
        ),
    };
    Some(json!({ "required": required, "content": content }))
}

fn json_content(schema: &str) -> Value {
    json!({ "application/json": { "schema": reference(schema) } })
}

fn responses(surface: Surface, operation: &Operation) -> Value {
    let mut responses = Map::new();
    let error = match (operation.body, surface) {
        (RequestBody::Scoring, _) => "ScoringError",
        (_, Surface::Mlflow) => "Detail",
        (_, Surface::V1 | Surface::V2) => "Error",
    };
    if operation.answer != Answer::Never {
        let status = match operation.answer {
            Answer::Accepted(_) => "202",
            _ => "200",
        };
        responses.insert(status.to_owned(), success(operation.answer));
    }
    if operation.tells_unready {
        responses.insert("503".to_owned(), unready(operation.answer, error));
    }
    let statuses: BTreeSet<u16> = operation.errors.iter().copied().collect();
    for status in statuses {
        let described = failure(status, error, operation.body);
        responses.entry(status.to_string()).or_insert(described);
    }
    responses.into()
}

fn success(answer: Answer) -> Value {
    let mut success = json!({ "description": "success" });
    match answer {
        Answer::Never | Answer::Empty => {}
        Answer::Media(media) => {
            success["content"] = json!({ media: { "schema": { "type": "string" } } })
        }
        Answer::Json(schema) | Answer::Accepted(schema) => {
            success["content"] = json_content(schema);
        }
        Answer::Prediction(schema) => {
            let text = json!({ "schema": { "type": "string" } });
            let headers = json!({ "x-model-name": text, "x-model-version": text });
            success["headers"] = headers;
            success["content"] = json_content(schema);
            // Tensors may be asked for as bytes, on the paths of other protocols too.
            success["content"]["application/octet-stream"] = json!({});
        }
    }
    success
}

fn unready(answer: Answer, error: &str) -> Value {
    let mut unready = json!({ "description": "not ready" });
    if let Answer::Json(schema) = answer {
        let schema = json!({ "anyOf": [reference(schema), reference(error)] });
        unready["content"] = json!({ "application/json": { "schema": schema } });
    }
    unready
}

fn failure(status: u16, error: &str, body: RequestBody) -> Value {
    let mut failure = json!({ "description": reason(status) });
    // MLflow's words for a request that took too long are no JSON, whatever their content type says.
    if (status, body) != (504, RequestBody::Scoring) {
        failure["content"] = json_content(error);
    }
    if (status, body) == (415, RequestBody::Scoring) {
        failure["content"]["text/plain"] = json!({ "schema": { "type": "string" } });
    }
    if matches!(status, 429 | 503) {
        failure["headers"] = json!({ "retry-after": { "schema": { "type": "integer" } } });
    }
    failure
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "the request contradicts the protocol or the signature",
        403 => "not on this listener",
        404 => "no such model, version or file",
        405 => "another method",
        409 => "it is there already, or a setting is missing",
        413 => "larger than `server.max_body`",
        415 => "a content type or encoding that is not served",
        429 => "too many requests wait",
        501 => "a part of the protocol that is not there",
        503 => "not ready",
        504 => "the deadline passed",
        507 => "no room for another model",
        _ => "the model or the server failed",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use tokio::sync::watch;
    use tower::ServiceExt;

    use super::*;
    use crate::protocol::platforms::{sagemaker, vertex};
    use crate::protocol::route::Route;
    use crate::protocol::router::{entry, router, table};
    use crate::protocol::state::{ProtocolOptions, Shared};
    use crate::serving::{Catalog, InferenceService, Running};
    use crate::telemetry::{DURATION_BUCKETS, Metrics};

    fn options() -> ProtocolOptions {
        ProtocolOptions {
            max_body: 1024,
            health_route: Some("/own/health".to_owned()),
            predict_route: Some("/own/predict".to_owned()),
            multi_model: true,
            ..ProtocolOptions::default()
        }
    }

    /// Every row that there can be.
    fn rows() -> Vec<Row> {
        let mut rows: Vec<Route> = table().chain(sagemaker::routes(true)).collect();
        rows.extend(vertex::routes(&options(), &rows));
        rows.iter().map(Route::row).collect()
    }

    #[test]
    fn every_row_is_in_the_document_and_nothing_else() {
        let rows = rows();
        let document = write(&rows, &CatalogSnapshot::default(), "");
        let mut documented: BTreeMap<&str, usize> = BTreeMap::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let path = path.split_once(':').map_or(path.as_str(), |(path, _)| path);
            *documented.entry(path).or_default() += item.as_object().unwrap().len();
        }
        let rows = rows
            .iter()
            .filter(|row| row.is_offered())
            .map(|row| (row.path.as_str(), row.operations.len()));
        assert_eq!(documented, rows.collect());
        assert!(documented.contains_key("/openapi.json") && documented.contains_key("/own/health"));
    }

    #[test]
    fn operations_have_names_of_their_own_and_every_reference_leads_somewhere() {
        let document = write(&rows(), &CatalogSnapshot::default(), "/api");
        assert_eq!(document["servers"][0]["url"], "/api");
        let items = document["paths"].as_object().unwrap().values();
        let operations = items.flat_map(|item| item.as_object().unwrap().values());
        let mut seen = BTreeSet::new();
        for operation in operations {
            let id = operation["operationId"].as_str().unwrap();
            assert!(seen.insert(id), "{id} twice");
            assert!(
                !operation["responses"].as_object().unwrap().is_empty(),
                "{id}"
            );
        }
        let text = document.to_string();
        let references = text.split("#/components/schemas/").skip(1);
        for name in references.filter_map(|rest| rest.split('"').next()) {
            let schema = document["components"]["schemas"].get(name);
            assert!(schema.is_some(), "no schema `{name}`");
        }
    }

    #[tokio::test]
    async fn the_documented_methods_of_a_path_are_those_that_it_answers() {
        let metrics = Arc::new(Metrics::new(&DURATION_BUCKETS));
        let service = InferenceService::new(Arc::new(Catalog::default()), metrics);
        let shared = Shared::new(service, options(), watch::channel(Running::default()).1);
        let server = entry(&shared, router(&shared));
        for row in rows() {
            let filled: Vec<&str> = row.path.split('/').collect();
            let filled = filled
                .iter()
                .map(|part| if part.starts_with('{') { "7" } else { part });
            let path = filled.collect::<Vec<_>>().join("/");
            for method in ["get", "post", "put", "delete", "patch"] {
                let request = Request::builder()
                    .method(method.to_uppercase().as_str())
                    .uri(&path);
                let request = request.body(Body::empty()).unwrap();
                let status = server.clone().oneshot(request).await.unwrap().status();
                let documented = row
                    .operations
                    .iter()
                    .any(|operation| operation.method == method);
                let taken = status != StatusCode::METHOD_NOT_ALLOWED;
                assert_eq!(taken, documented, "{method} {path}: {status}");
            }
        }
    }
}
