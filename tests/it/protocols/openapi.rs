//! The description of all paths, and the page to try them.

use std::fs;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::server::{Server, project};

const JSON: &str = "application/json";

async fn iris(arguments: &[&str]) -> Server {
    let fixed = ["model-examples/iris", "--engine", "tract"];
    Server::start(&[&fixed, arguments].concat()).await
}

async fn document(server: &Server, prefix: &str) -> Value {
    let response = server.get(&format!("{prefix}/openapi.json")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], JSON);
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// Method, path and description of each operation.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let items = document["paths"].as_object().unwrap().iter();
    let all = items.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
    });
    all.collect()
}

/// Why `value` is not what `schema` describes; knows the keywords that the document uses.
fn violation(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    let fails = |schema: &Value| violation(document, schema, value);
    let checks = schema.as_object().unwrap().iter();
    checks.into_iter().find_map(|(keyword, rule)| {
        let refuse = |reason: &str| Some(format!("{reason} ({keyword}: {rule}): {value}"));
        let list = || rule.as_array().unwrap().iter();
        let items = || value.as_array().into_iter().flatten();
        match keyword.as_str() {
            "$ref" => {
                let pointer = rule.as_str().unwrap().trim_start_matches('#');
                fails(document.pointer(pointer).unwrap())
            }
            "type" if rule.is_string() && !has_type(value, rule) => refuse("another type"),
            "type" if rule.is_array() && !list().any(|name| has_type(value, name)) => {
                refuse("another type")
            }
            "enum" if !list().any(|one| one == value) => refuse("not among them"),
            "const" if rule != value => refuse("another value"),
            "anyOf" if list().all(|one| fails(one).is_some()) => refuse("none fits"),
            "oneOf" if list().filter(|one| fails(one).is_none()).count() != 1 => {
                refuse("not one fits")
            }
            "required" => list()
                .find(|name| value.is_object() && value.get(name.as_str().unwrap()).is_none())
                .and_then(|name| refuse(&format!("{name} is missing"))),
            "properties" => rule.as_object().unwrap().iter().find_map(|(name, schema)| {
                let found = value.get(name)?;
                violation(document, schema, found)
            }),
            "items" => items().find_map(|item| violation(document, rule, item)),
            "prefixItems" => {
                { items().zip(list()) }.find_map(|(item, schema)| violation(document, schema, item))
            }
            "minItems" if items().count() < usize_of(rule) => refuse("too short"),
            "maxItems" if items().count() > usize_of(rule) => refuse("too long"),
            "minimum" if value.as_f64() < rule.as_f64() => refuse("too small"),
            "maximum" if value.as_f64() > rule.as_f64() => refuse("too large"),
            "type" | "enum" | "const" | "anyOf" | "oneOf" => None,
            "minItems" | "maxItems" | "minimum" | "maximum" => None,
            "description" | "examples" | "default" | "contentEncoding" | "additionalProperties" => {
                None
            }
            unknown => panic!("the test does not know `{unknown}`"),
        }
    })
}

fn usize_of(rule: &Value) -> usize {
    usize::try_from(rule.as_u64().unwrap()).unwrap()
}

fn has_type(value: &Value, name: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("no type `{other}`"),
    }
}

/// Sends a request and checks that its status is declared, and its body what the document says.
async fn declared(
    server: &Server,
    document: &Value,
    (method, path, operation): (&str, &str, &Value),
    (at, body): (&str, Option<&Value>),
) -> u16 {
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
    let mut request = server.request(method, at);
    if let Some(body) = body {
        request = request.header("content-type", JSON).body(body.to_string());
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let content_type = response.headers().get("content-type");
    let content_type =
        content_type.map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    let text = response.text().await.unwrap();
    let told = &operation["responses"][status.to_string()];
    assert!(told.is_object(), "{path}: {status} is not declared: {text}");
    if let Some(content) = told.get("content") {
        let media = content_type.split(';').next().unwrap();
        let told = content.get(media);
        let told = told
            .unwrap_or_else(|| panic!("{path}: {status} with `{content_type}` is not declared"));
        if media == JSON {
            let answer = serde_json::from_str(&text).unwrap();
            let wrong = violation(document, &told["schema"], &answer);
            assert_eq!(wrong, None, "{path}: {status} {text}");
        }
    }
    status
}

/// One line for each operation and each schema.
#[tokio::test]
async fn the_description_of_iris_is_stable() {
    let document = document(&iris(&[]).await, "").await;
    assert_eq!(document["openapi"], "3.1.0");
    let operations = operations(&document).into_iter();
    let operations = operations.map(|(method, path, told)| format!("{method} {path} {told}"));
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let schemas = schemas.iter().map(|(name, told)| format!("{name} {told}"));
    let lines: Vec<String> = operations.chain(schemas).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[rstest]
#[case::tract(&["model-examples/iris", "--engine", "tract"], 3)]
#[case::recorded(&["tests/conformance/mlflow/models", "--engine", "onnxruntime"], 40)]
#[case::examples(&["model-examples", "--engine", "onnxruntime"], 12)]
#[tokio::test]
async fn the_examples_are_answered_as_the_description_says(
    #[case] arguments: &[&str],
    #[case] least: usize,
) {
    let server = Server::start(arguments).await;
    let document = document(&server, "").await;
    let (mut answered, mut failures) = (0, Vec::new());
    for (method, path, operation) in operations(&document) {
        let content = &operation["requestBody"]["content"][JSON];
        let Some(example) = content.get("example") else {
            continue;
        };
        let wrong = violation(&document, &content["schema"], example);
        assert_eq!(wrong, None, "{path}: {example}");
        let asked = (method, path, operation);
        let status = declared(&server, &document, asked, (path, Some(example))).await;
        if status == 200 {
            answered += 1;
        } else {
            failures.push(format!("{path}: {status} to {example}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(answered >= least, "only {answered} examples");
}

#[tokio::test]
async fn what_is_answered_is_what_the_description_says() {
    let server = iris(&[]).await;
    let document = document(&server, "").await;
    let no_request = json!({ "x": 1 });
    for (name, version) in [("iris", "1"), ("iris", "7"), ("rose", "x")] {
        for (method, path, operation) in operations(&document) {
            let at = path
                .replace("{name}", name)
                .replace("{model}", name)
                .replace("{version}", version)
                .replace("{stage}", "Production")
                .replace("{alias}", "champion")
                .replace("{label}", "champion")
                .replace("{file}", "index.css")
                .replace("{region}", "a")
                .replace("{repository}", "b");
            let body = operation.get("requestBody").map(|_| &no_request);
            declared(&server, &document, (method, path, operation), (&at, body)).await;
        }
    }
}

#[tokio::test]
async fn only_the_first_fifty_models_have_paths_of_their_own() {
    let home = tempfile::tempdir().unwrap();
    for index in 0..51 {
        let package = home.path().join(format!("m {index:02}"));
        fs::create_dir(&package).unwrap();
        for file in [
            "MLmodel",
            "model.onnx",
            "serving_input_example.json",
            "input_example.json",
        ] {
            let from = project().join("model-examples/iris").join(file);
            fs::copy(from, package.join(file)).unwrap();
        }
    }
    let server = Server::start(&[home.path().to_str().unwrap(), "--engine", "tract"]).await;
    let document = document(&server, "").await;
    let paths = document["paths"].as_object().unwrap();
    let own = paths.keys().filter(|path| path.starts_with("/models/m%20"));
    assert_eq!(own.count(), 50);
    let told = document["info"]["description"].as_str().unwrap();
    assert!(told.contains("50 of 51"), "{told}");
    let example =
        &paths["/models/m%2007/invocations"]["post"]["requestBody"]["content"][JSON]["example"];
    let (status, _) = server
        .post_json("/models/m%2007/invocations", example.to_string())
        .await;
    assert_eq!(status, 200);
}

#[rstest]
#[case::root("")]
#[case::prefix("/ml")]
#[tokio::test]
async fn the_page_and_its_files_come_from_this_server_alone(#[case] prefix: &str) {
    let base_path = ["--base-path", prefix];
    let server = iris(if prefix.is_empty() { &[] } else { &base_path }).await;
    let servers = &document(&server, prefix).await["servers"][0]["url"];
    assert_eq!(servers, if prefix.is_empty() { "/" } else { prefix });
    let page = guarded(&server, &format!("{prefix}/docs"), "text/html").await;
    let quoted = page.split(['"', '\'']);
    let links: Vec<&str> = { quoted }
        .filter(|text| text.starts_with("docs/"))
        .collect();
    assert!(links.len() >= 5, "{page}");
    for link in links {
        let kind = match link.rsplit('.').next().unwrap() {
            "js" => "javascript",
            "css" => "text/css",
            _ => "image/png",
        };
        // Relative to the page.
        let text = guarded(&server, &format!("{prefix}/{link}"), kind).await;
        if kind == "text/css" {
            let foreign = text
                .split("url(")
                .skip(1)
                .find(|url| !url.trim_start_matches('"').starts_with("data:"));
            assert_eq!(foreign, None, "{link}");
        }
    }
    let start = guarded(
        &server,
        &format!("{prefix}/docs/swagger-initializer.js"),
        "javascript",
    )
    .await;
    assert!(start.contains(r#""openapi.json""#), "{start}");
    for text in [&page, &start] {
        assert!(
            !text.contains("http:") && !text.contains("https:"),
            "{text}"
        );
    }
    for absent in [
        "index.html",
        "oauth2-redirect.html",
        "..%2Fopenapi.json",
        "x",
    ] {
        let response = server.get(&format!("{prefix}/docs/{absent}")).await;
        assert_eq!(response.status(), 404, "{absent}");
    }
}

/// A part of the page, which must forbid everything that is not from here.
async fn guarded(server: &Server, path: &str, kind: &str) -> String {
    let response = server.get(path).await;
    assert_eq!(response.status(), 200, "{path}");
    let header = |name: &str| response.headers()[name].to_str().unwrap();
    assert!(
        header("content-type").contains(kind),
        "{path}: {}",
        header("content-type")
    );
    let policy = header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(
        policy.contains("script-src 'self';") && policy.contains("connect-src 'self'"),
        "{policy}"
    );
    assert!(
        !policy.contains("http") && !policy.contains('*'),
        "{policy}"
    );
    assert_eq!(header("x-content-type-options"), "nosniff");
    String::from_utf8_lossy(&response.bytes().await.unwrap()).into_owned()
}
