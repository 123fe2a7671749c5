//! Our MLflow client against an imitation that answers what a real server only answers on a bad day.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use onstage::model::{ModelId, ModelName, Version};
use onstage::network::NetworkConfig;
use onstage::registry::{
    Environment, Mlflow, PackageRef, Query, RegistryState, Source, SourceError,
};
use serde_json::{Value, json};

use crate::support::imitation::{Asked, Imitation, absent, json_answer, with_status};

fn mlflow_at(url: &str, variables: &[(&str, &str)]) -> Mlflow {
    let environment = Environment::from_iter(variables.iter().copied());
    Mlflow::new(url, &NetworkConfig::default(), Arc::new(environment)).unwrap()
}

fn name(text: &str) -> ModelName {
    ModelName::new(text).unwrap()
}

fn everything() -> Query {
    Query {
        everything: true,
        ..Query::default()
    }
}

fn one(model: &str) -> Query {
    Query {
        models: [name(model)].into(),
        ..Query::default()
    }
}

fn package() -> PackageRef {
    PackageRef {
        id: ModelId {
            name: name("m"),
            version: Version(1),
        },
        location: "models:/m-1".to_owned(),
        revision: "r".to_owned(),
        digest: None,
    }
}

async fn look(registry: &Mlflow, query: &Query) -> Result<RegistryState, SourceError> {
    let looked = registry.snapshot(query);
    let looked = tokio::time::timeout(Duration::from_secs(20), looked);
    looked.await.expect("a look at the registry ends")
}

/// A registry without models.
fn empty(asked: &Asked) -> Response {
    match asked.path.contains("registered-models/search") {
        true => json_answer(&json!({})),
        false => absent(),
    }
}

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

#[tokio::test]
async fn no_bad_answer_is_taken_for_an_empty_registry() {
    for (status, kind, body, expected) in [
        (
            500,
            JSON,
            r#"{"error_code":"INTERNAL_ERROR","message":"oh\nno"}"#,
            "answered 500: oh no",
        ),
        (
            502,
            HTML,
            "<html><h1>Bad Gateway</h1></html>",
            "answered 502: Bad Gateway",
        ),
        (503, "text/plain", "", "answered 503: no reason given"),
        (
            401,
            HTML,
            "You are not authenticated.",
            "refuses the credentials: You are not authenticated.",
        ),
        (
            403,
            "text/plain",
            "Permission denied",
            "refuses the credentials: Permission denied",
        ),
        (
            404,
            HTML,
            "<h1>Not Found</h1>",
            "is this the address of an MLflow tracking server?",
        ),
        (
            404,
            JSON,
            r#"{"detail":"Not Found"}"#,
            "is this the address of an MLflow tracking server?",
        ),
        (
            200,
            HTML,
            "<html>Please log in</html>",
            "expected a JSON object, found `Please log in` (text/html)",
        ),
        (200, JSON, "[]", "expected a JSON object, found `[]`"),
        (200, JSON, "", "expected a JSON object, found ``"),
        (
            200,
            JSON,
            r#"{"registered_models": [{"#,
            "expected a JSON object, found EOF",
        ),
        (
            200,
            JSON,
            r#"{"registered_models": {"name": 1}}"#,
            "expected a JSON object, found `registered_models`: invalid type",
        ),
        // Somebody else's objects, of which nobody says that it has no model.
        (
            200,
            JSON,
            r#"{"status": "ok"}"#,
            "found another object, without `registered_models`",
        ),
        (200, JSON, "{}", "found missing field `registered_model`"),
        (
            200,
            JSON,
            r#"{"registered_models": []}"#,
            "found missing field `registered_model`",
        ),
        (200, JSON, r#"{"registered_model": null}"#, ""),
        (204, JSON, "", "expected a JSON object"),
    ] {
        let server = Imitation::start(move |_| with_status(status, kind, body)).await;
        let queries = if expected.is_empty() {
            vec![one("m")]
        } else {
            vec![everything(), one("m")]
        };
        for query in queries {
            let result = look(&mlflow_at(&server.url, &[]), &query).await;
            let error = result.expect_err(body).to_string();
            let is_single = !query.everything && status == 200 && body.starts_with('{');
            assert!(
                error.contains(expected) || is_single,
                "{status} {body}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn errors_say_whether_and_when_to_try_again() {
    let server = Imitation::start(|_| {
        let headers = [("retry-after", "7")];
        (StatusCode::TOO_MANY_REQUESTS, headers, "slow down").into_response()
    })
    .await;
    let error = look(&mlflow_at(&server.url, &[]), &everything())
        .await
        .unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert!(error.is_transient());
    let server = Imitation::start(|_| with_status(401, HTML, "no")).await;
    let error = look(&mlflow_at(&server.url, &[]), &everything())
        .await
        .unwrap_err();
    assert!(error.is_transient(), "it may be the page of a proxy");
}

#[tokio::test]
async fn redirects_are_followed_to_mlflow_and_not_to_a_page() {
    let server = Imitation::start(|asked| match asked.path.split('?').next().unwrap() {
        "/api/2.0/mlflow/registered-models/search" => {
            (StatusCode::FOUND, [("location", "/moved?x=1")]).into_response()
        }
        "/moved" => json_answer(&json!({"registered_models": [{"name": "m"}]})),
        "/api/2.0/mlflow/registered-models/get" => {
            (StatusCode::FOUND, [("location", "/login")]).into_response()
        }
        _ => with_status(200, HTML, "<html>Log in</html>"),
    })
    .await;
    let registry = mlflow_at(&server.url, &[]);
    let state = look(&registry, &everything()).await.unwrap();
    assert!(state.models.contains_key(&name("m")));
    let error = look(&registry, &one("m")).await.unwrap_err();
    assert!(matches!(error, SourceError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn silence_ends_after_the_timeout_wherever_it_begins() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let whole = format!("http://{}", silent.local_addr().unwrap());
    let server = Imitation::start(|_| {
        let begin = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"{"))]);
        Body::from_stream(begin.chain(stream::pending())).into_response()
    })
    .await;
    for url in [&whole, &server.url] {
        let registry = mlflow_at(url, &[("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")]);
        let error = look(&registry, &everything()).await.unwrap_err();
        assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
        assert!(
            error.to_string().ends_with("no answer within 1s"),
            "{error}"
        );
    }
}

/// A registry of fifty models, each with an alias for a version that no stage names.
fn fifty(asked: &Asked) -> Response {
    let path = asked.path.as_str();
    if path.contains("registered-models/search") {
        let model = |number: u32| {
            json!({
                "name": format!("model {number}"), "creation_timestamp": 1,
                "latest_versions": [{"version": "3", "current_stage": "Production", "source": "s", "status": "READY"}],
                "aliases": [{"alias": "champion", "version": "1"}],
            })
        };
        let models: Vec<Value> = (0..50).map(model).collect();
        return json_answer(&json!({"registered_models": models}));
    }
    if path.contains("model-versions/get") {
        return json_answer(
            &json!({"model_version": {"version": "1", "status": "READY", "source": "s"}}),
        );
    }
    absent()
}

#[tokio::test]
async fn a_look_at_fifty_models_is_one_request_once_their_versions_are_known() {
    let server = Imitation::start(fifty).await;
    let names = (0..50).map(|number| name(&format!("model {number}")));
    let by_name = Query {
        models: names.collect(),
        ..Query::default()
    };
    for query in [everything(), by_name] {
        let registry = mlflow_at(&server.url, &[]);
        let state = look(&registry, &query).await.unwrap();
        assert_eq!(state.models.len(), 50);
        assert_eq!(server.asked().len(), 51);
        for _ in 0..3 {
            assert_eq!(look(&registry, &query).await.unwrap(), state);
            assert_eq!(server.asked().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_model_that_slips_between_two_pages_is_still_there() {
    let looks = Arc::new(Mutex::new(0));
    let server = Imitation::start(move |asked| {
        let model = |name: &str| json!({"name": name});
        let path = asked.path.as_str();
        if path.contains("registered-models/get") {
            return match path.contains("name=slips") {
                true => json_answer(&json!({"registered_model": model("slips")})),
                false => absent(),
            };
        }
        if path.contains("page_token=2") {
            return json_answer(&json!({"registered_models": [model("last")]}));
        }
        let mut looks = looks.lock().unwrap();
        *looks += 1;
        let all = vec![model("first"), model("slips"), model("deleted")];
        let models = if *looks == 1 {
            all
        } else {
            vec![model("first")]
        };
        json_answer(&json!({"registered_models": models, "next_page_token": "2"}))
    })
    .await;
    let registry = mlflow_at(&server.url, &[]);
    let names = |state: RegistryState| -> Vec<String> {
        state.models.keys().map(ToString::to_string).collect()
    };
    let before = names(look(&registry, &everything()).await.unwrap());
    assert_eq!(before, ["deleted", "first", "last", "slips"]);
    let after = names(look(&registry, &everything()).await.unwrap());
    assert_eq!(after, ["first", "last", "slips"]);
}

#[tokio::test]
async fn pages_without_end_are_an_error() {
    let server = Imitation::start(|_| json_answer(&json!({"next_page_token": "again"}))).await;
    let error = look(&mlflow_at(&server.url, &[]), &everything())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("does not end"), "{error}");
}

#[tokio::test]
async fn odd_names_versions_and_stages_do_not_hide_the_others() {
    let server = Imitation::start(|_| {
        json_answer(&json!({"registered_models": [
            {"name": "back\\slash", "latest_versions": [{"version": "1"}]},
            {"name": "m", "latest_versions": [
                {"version": 2, "current_stage": "Deleted_Internal"},
                {"version": 1, "current_stage": "production", "status": "FAILED_REGISTRATION", "status_message": "disk full"},
            ], "aliases": [{"alias": "latest", "version": "1"}]},
        ]}))
    })
    .await;
    let state = look(&mlflow_at(&server.url, &[]), &everything())
        .await
        .unwrap();
    let shown = serde_json::to_value(&state.models).unwrap();
    assert_eq!(
        shown,
        json!({"m": {
            "aliases": {}, "stages": {"Production": 1}, "latest": 1, "tags": {},
            "versions": {"1": {
                "status": {"Unready": "FAILED_REGISTRATION: disk full"},
                "location": "", "revision": "@0", "digest": null,
            }},
        }})
    );
}

#[tokio::test]
async fn one_model_that_cannot_be_read_stops_itself_alone() {
    for broken in [
        json!({"name": "b", "latest_versions": [{"version": "not a number"}]}),
        json!({"name": "b", "latest_versions": "none"}),
        json!({"name": "b", "aliases": [{"alias": "champion", "version": "-1"}]}),
        json!({"name": "b", "aliases": [{"alias": "champion", "version": {}}]}),
        json!({"name": "b", "tags": [{"value": "without a key"}]}),
        json!({"name": "b", "tags": 7}),
        json!({"name": "b", "aliases": [{"alias": "champion", "version": "99999999999999999999"}]}),
        json!({"name": "b", "aliases": [{"alias": "champion", "version": "5"}]}),
    ] {
        let answer = broken.clone();
        let server = Imitation::start(move |asked| {
            if asked.path.contains("model-versions/get") {
                let version = json!({"version": {"no": "text"}, "source": "s"});
                return json_answer(&json!({ "model_version": version }));
            }
            json_answer(&json!({"registered_models": [
                answer, {"name": "m", "latest_versions": [{"version": "1", "source": "s"}]},
            ]}))
        })
        .await;
        let registry = mlflow_at(&server.url, &[]);
        let state = look(&registry, &everything()).await.unwrap();
        let names = |keys: Vec<&ModelName>| keys.iter().map(ToString::to_string).collect();
        let (there, others): (Vec<String>, Vec<String>) = (
            names(state.models.keys().collect()),
            names(state.broken.keys().collect()),
        );
        assert_eq!(
            (there, others),
            (vec!["m".to_owned()], vec!["b".to_owned()]),
            "{broken}"
        );
    }
}

#[tokio::test]
async fn a_model_without_a_name_hides_none_that_was_known() {
    let nameless = Arc::new(Mutex::new(false));
    let is_nameless = nameless.clone();
    let server = Imitation::start(move |asked| {
        let model = |name: &str| json!({"name": name});
        if asked.path.contains("registered-models/get") {
            return match asked.path.contains("name=n") {
                true => json_answer(&json!({"registered_model": model("n")})),
                false => absent(),
            };
        }
        let other = match *is_nameless.lock().unwrap() {
            true => json!({"latest_versions": []}),
            false => model("n"),
        };
        json_answer(&json!({"registered_models": [model("m"), other]}))
    })
    .await;
    let registry = mlflow_at(&server.url, &[]);
    let before = look(&registry, &everything()).await.unwrap();
    *nameless.lock().unwrap() = true;
    let after = look(&registry, &everything()).await.unwrap();
    assert_eq!((before.models.len(), &after), (2, &before));
}

const CONTENT: &[u8] = b"0123456789";

/// A server with one package of two files: `answer` says what becomes of `model.onnx`.
async fn package_server(answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) -> Imitation {
    Imitation::start(move |asked| {
        let path = asked.path.as_str();
        if path.contains("get-download-uri") {
            return json_answer(&json!({"artifact_uri": "mlflow-artifacts:/1/a"}));
        }
        match path.strip_prefix("/api/2.0/mlflow-artifacts/") {
            Some("artifacts?path=1%2Fa") => json_answer(&json!({"files": [
                {"path": "MLmodel", "is_dir": false, "file_size": 2},
                {"path": "data", "is_dir": true},
            ]})),
            Some("artifacts?path=1%2Fa%2Fdata") => json_answer(&json!({"files": [
                {"path": "model.onnx", "is_dir": false, "file_size": CONTENT.len()},
            ]})),
            Some("artifacts/1/a/MLmodel") => "ok".into_response(),
            _ => answer(asked),
        }
    })
    .await
}

async fn fetch(registry: &Mlflow, directory: &Path) -> Result<(), SourceError> {
    let package = package();
    let fetched = registry.fetch(&package, directory);
    let fetched = tokio::time::timeout(Duration::from_secs(20), fetched);
    fetched.await.expect("fetching ends")
}

fn graph(directory: &Path) -> Vec<u8> {
    std::fs::read(directory.join("data/model.onnx")).unwrap_or_default()
}

/// Half of the content with the length of the whole: the connection breaks.
fn half(content: &'static [u8], etag: &'static str) -> Response {
    let parts = [Ok(Bytes::from_static(&content[..4])), Err("broken")];
    // The error would overtake the bytes.
    let parts = stream::iter(parts).then(|part| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        part
    });
    let length = content.len().to_string();
    let headers = [("content-length", length.as_str()), ("etag", etag)];
    (headers, Body::from_stream(parts)).into_response()
}

/// What follows the fourth byte.
fn rest(content: &'static [u8], etag: &'static str) -> Response {
    let headers = [("content-range", "bytes 4-9/10"), ("etag", etag)];
    (StatusCode::PARTIAL_CONTENT, headers, &content[4..]).into_response()
}

#[tokio::test]
async fn a_file_whose_connection_breaks_is_continued_while_it_is_the_same() {
    let server = package_server(|asked| match asked.header("range") {
        "" => half(CONTENT, "\"a\""),
        "bytes=4-" if asked.header("if-range") == "\"a\"" => rest(CONTENT, "\"a\""),
        other => panic!("range {other}"),
    })
    .await;
    let (registry, directory) = (mlflow_at(&server.url, &[]), tempfile::tempdir().unwrap());
    fetch(&registry, directory.path()).await.unwrap();
    assert_eq!(graph(directory.path()), CONTENT);
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

const OTHER: &[u8] = b"abcdefghij";

#[tokio::test]
async fn a_file_that_changes_between_two_ranges_is_fetched_anew() {
    type Later = fn(&Asked) -> Response;
    let knows_if_range: Later = |_| ([("etag", "\"b\"")], OTHER).into_response();
    let ignores_if_range: Later = |asked| match asked.header("range") {
        "" => ([("etag", "\"b\"")], OTHER).into_response(),
        _ => rest(OTHER, "\"b\""),
    };
    let says_nothing: Later = |asked| match asked.header("range") {
        "" => OTHER.into_response(),
        _ => {
            let headers = [("content-range", "bytes 4-9/10")];
            (StatusCode::PARTIAL_CONTENT, headers, &OTHER[4..]).into_response()
        }
    };
    let has_nothing_left: Later = |asked| match asked.header("range") {
        "" => OTHER.into_response(),
        _ => StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
    };
    for later in [
        knows_if_range,
        ignores_if_range,
        says_nothing,
        has_nothing_left,
    ] {
        let begun = std::sync::atomic::AtomicBool::new(false);
        let server = package_server(move |asked| {
            if begun.swap(true, std::sync::atomic::Ordering::SeqCst) {
                return later(asked);
            }
            half(CONTENT, "\"a\"")
        })
        .await;
        let directory = tempfile::tempdir().unwrap();
        let registry = mlflow_at(&server.url, &[]);
        fetch(&registry, directory.path()).await.unwrap();
        assert_eq!(graph(directory.path()), OTHER);
    }
}

#[tokio::test]
async fn of_a_server_that_does_not_say_what_content_it_sends_no_range_is_asked() {
    for tag in ["", "W/\"a\""] {
        let server = package_server(move |_| half(CONTENT, tag)).await;
        let directory = tempfile::tempdir().unwrap();
        let registry = mlflow_at(&server.url, &[]);
        let error = fetch(&registry, directory.path()).await.unwrap_err();
        assert!(
            matches!(error, SourceError::Unreachable { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("`data/model.onnx`"), "{error}");
        fetch(&registry, directory.path()).await.unwrap_err();
        let asked = server.asked();
        let graphs = { asked.iter() }.filter(|asked| asked.path.ends_with("model.onnx"));
        let ranges: Vec<&str> = graphs.map(|asked| asked.header("range")).collect();
        assert_eq!(
            ranges, [""; 6],
            "three attempts each time, from the beginning"
        );
    }
}

#[tokio::test]
async fn a_file_that_is_not_as_long_as_listed_is_refused() {
    for body in [&b"012345678"[..], b"0123456789x"] {
        let server = package_server(move |_| body.into_response()).await;
        let directory = tempfile::tempdir().unwrap();
        let error = fetch(&mlflow_at(&server.url, &[]), directory.path())
            .await
            .unwrap_err();
        assert!(matches!(error, SourceError::Malformed { .. }), "{error:?}");
        assert!(error.to_string().contains("expected 10"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_hands_out_nothing_itself_is_asked_for_signed_urls() {
    let store = Imitation::start(|asked| match asked.path.as_str() {
        "/bucket/model.onnx?signature=abc" => CONTENT.into_response(),
        _ => with_status(403, "application/xml", "<Error/>"),
    })
    .await;
    let signed = format!("{}/bucket/model.onnx?signature=abc", store.url);
    let server = package_server(move |asked| {
        if asked.path.contains("/presigned/1/a/data/model.onnx") {
            return json_answer(
                &json!({"url": signed, "headers": {"x-amz-extra": "1"}, "file_size": 10}),
            );
        }
        with_status(403, "text/plain", "proxied transfers are off")
    })
    .await;
    let registry = mlflow_at(&server.url, &[("MLFLOW_TRACKING_TOKEN", "s3cret")]);
    let directory = tempfile::tempdir().unwrap();
    fetch(&registry, directory.path()).await.unwrap();
    assert_eq!(graph(directory.path()), CONTENT);
    assert!(
        server
            .asked()
            .iter()
            .all(|asked| asked.header("authorization") == "Bearer s3cret")
    );
    let [asked] = store.asked().try_into().unwrap();
    assert_eq!(
        (asked.header("authorization"), asked.header("x-amz-extra")),
        ("", "1")
    );

    // Where there is neither, the first refusal counts.
    let server = package_server(|_| with_status(501, "text/plain", "not today")).await;
    let empty = tempfile::tempdir().unwrap();
    let error = fetch(&mlflow_at(&server.url, &[]), empty.path())
        .await
        .unwrap_err();
    assert!(
        matches!(error, SourceError::Status { status: 501, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn silence_in_the_middle_of_a_file_ends() {
    let server = package_server(|_| {
        let begin = stream::iter([Ok::<_, Infallible>(Bytes::from_static(&CONTENT[..4]))]);
        Body::from_stream(begin.chain(stream::pending())).into_response()
    })
    .await;
    let registry = mlflow_at(&server.url, &[("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")]);
    let directory = tempfile::tempdir().unwrap();
    let error = fetch(&registry, directory.path()).await.unwrap_err();
    assert!(error.to_string().contains("no bytes for 1s"), "{error}");
    assert_eq!(graph(directory.path()), &CONTENT[..4]);
}

#[tokio::test]
async fn a_hostile_list_of_files_writes_nothing() {
    for path in ["../escape", "/tmp/escape", "a/../../escape", ""] {
        let server = Imitation::start(move |asked| {
            if asked.path.contains("get-download-uri") {
                return json_answer(&json!({"artifact_uri": "mlflow-artifacts:/1/a"}));
            }
            json_answer(&json!({"files": [{"path": path, "is_dir": false, "file_size": 1}]}))
        })
        .await;
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("inner");
        std::fs::create_dir(&directory).unwrap();
        let error = fetch(&mlflow_at(&server.url, &[]), &directory)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("inside of the package"),
            "{path}: {error}"
        );
        assert_eq!(
            std::fs::read_dir(outer.path()).unwrap().count(),
            1,
            "{path}"
        );
    }
    // Folders in folders without end.
    let server = Imitation::start(|asked| {
        if asked.path.contains("get-download-uri") {
            return json_answer(&json!({"artifact_uri": "mlflow-artifacts:/1/a"}));
        }
        json_answer(&json!({"files": [{"path": "d", "is_dir": true}]}))
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let error = fetch(&mlflow_at(&server.url, &[]), directory.path())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("folders"), "{error}");
}

#[tokio::test]
async fn places_that_cannot_be_read_are_named() {
    for (uri, expected) in [
        ("dbfs:/databricks/x", "`dbfs:/databricks/x`"),
        ("hdfs://name/x", "only from `s3:`"),
        ("./mlruns/0/x", "`./mlruns/0/x`"),
        ("https://elsewhere/x", "no artifact proxy of MLflow"),
    ] {
        let server = Imitation::start(move |_| json_answer(&json!({"artifact_uri": uri}))).await;
        let directory = tempfile::tempdir().unwrap();
        let error = fetch(&mlflow_at(&server.url, &[]), directory.path())
            .await
            .unwrap_err();
        assert!(matches!(error, SourceError::Unsupported(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn each_way_to_identify_us_is_sent() {
    let server = Imitation::start(empty).await;
    let credentials = [
        ("MLFLOW_TRACKING_USERNAME", "me"),
        ("MLFLOW_TRACKING_PASSWORD", "s3cret"),
        ("MLFLOW_TRACKING_TOKEN", "token"),
    ];
    for (variables, expected) in [
        (&credentials[..0], ""),
        (&credentials[..], "Basic bWU6czNjcmV0"),
        (&credentials[2..], "Bearer token"),
    ] {
        let registry = mlflow_at(&server.url, variables);
        look(&registry, &everything()).await.unwrap();
        assert_eq!(server.asked()[0].header("authorization"), expected);
        assert!(!format!("{registry:?}").contains("s3cret"));
    }
    let registry = mlflow_at(&server.url, &[("MLFLOW_WORKSPACE", "team-a")]);
    look(&registry, &everything()).await.unwrap();
    assert_eq!(server.asked()[0].header("x-mlflow-workspace"), "team-a");
}

/// As MLflow's client speaks to Unity Catalog, and S3 with what that hands out.
fn unity_catalog(asked: &Asked) -> Response {
    const BELOW: &str = "/api/2.0/mlflow/unity-catalog/";
    let path = asked.path.as_str();
    if let Some(call) = path.strip_prefix(BELOW) {
        let call = call.split('?').next().unwrap();
        return json_answer(&match call {
            "registered-models/search" => json!({"registered_models": [{"name": "c.s.m"}]}),
            "registered-models/get" => json!({"registered_model": {
                "name": "c.s.m", "aliases": [{"alias": "champion", "version": "2"}],
            }}),
            "model-versions/get" => json!({"model_version": {
                "version": "2", "status": "READY", "storage_location": "s3://bucket/m/2",
            }}),
            "model-versions/get-download-uri" => json!({"artifact_uri": "s3://bucket/m/2"}),
            "model-versions/generate-temporary-credentials" => json!({"credentials": {
                "aws_temp_credentials": {
                    "access_key_id": "TEMPORARY", "secret_access_key": "x", "session_token": "y",
                },
                "expiration_time": 1,
            }}),
            _ => return absent(),
        });
    }
    if path.starts_with("/bucket?") {
        let list = "<?xml version=\"1.0\"?><ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>\
                    <Contents><Key>m/2/MLmodel</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                    <Size>2</Size><ETag>\"a\"</ETag></Contents></ListBucketResult>";
        return with_status(200, "application/xml", list);
    }
    let headers = [
        ("etag", "\"a\""),
        ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
    ];
    (headers, "ok").into_response()
}

#[tokio::test]
async fn unity_catalog_is_read_as_mlflows_client_does() {
    let server = Imitation::start(unity_catalog).await;
    let registry = mlflow_at(
        "databricks-uc",
        &[
            ("DATABRICKS_HOST", &server.url),
            ("DATABRICKS_TOKEN", "workspace token"),
            ("AWS_ENDPOINT_URL", &server.url),
        ],
    );
    let state = look(&registry, &everything()).await.unwrap();
    let model = &state.models[&name("c.s.m")];
    let aliases: Vec<_> = model
        .aliases
        .iter()
        .map(|(alias, version)| (alias.as_str(), version.0))
        .collect();
    assert_eq!(aliases, [("champion", 2)]);
    let asked = server.asked();
    assert!(
        asked
            .iter()
            .all(|asked| asked.header("authorization") == "Bearer workspace token")
    );

    let package = model.package(&name("c.s.m"), Version(2)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    registry.fetch(&package, directory.path()).await.unwrap();
    assert_eq!(
        std::fs::read(directory.path().join("MLmodel")).unwrap(),
        b"ok"
    );
    let to_the_store = |asked: &&Asked| asked.path.starts_with("/bucket");
    let asked = server.asked();
    let store: Vec<&Asked> = asked.iter().filter(to_the_store).collect();
    assert_eq!(store.len(), 2);
    for asked in store {
        assert!(
            asked
                .header("authorization")
                .contains("Credential=TEMPORARY/")
        );
        assert_eq!(asked.header("x-amz-security-token"), "y");
    }
    let names: BTreeSet<_> = state.models.keys().collect();
    assert_eq!(names.len(), 1);
}
