//! Every spelling of every path of the table.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use tokio::sync::watch;
use tower::ServiceExt;

use super::*;
use crate::protocol::state::ProtocolOptions;
use crate::serving::{Catalog, InferenceService, Running};
use crate::telemetry::{DURATION_BUCKETS, Metrics};

/// Every path of the table but the root, which has no words, with names in place of the braces.
fn paths() -> Vec<String> {
    let fill = |part: &str| {
        if part.starts_with('{') {
            "x1".to_owned()
        } else {
            part.to_owned()
        }
    };
    let fill_all = |path: &str| path.split('/').map(fill).collect::<Vec<_>>().join("/");
    let paths = table().map(|route| fill_all(&route.path));
    paths.filter(|path| path != "/").collect()
}

fn server(base_path: &str) -> Entry {
    let metrics = Arc::new(Metrics::new(&DURATION_BUCKETS));
    let service = InferenceService::new(Arc::new(Catalog::default()), metrics);
    let options = ProtocolOptions {
        max_body: 1024,
        base_path: base_path.to_owned(),
        ..ProtocolOptions::default()
    };
    let shared = Shared::new(service, options, watch::channel(Running::default()).1);
    entry(&shared, router(&shared))
}

/// The status of a request that no handler takes, for its method, and where it is sent.
async fn ask(server: &Entry, path: &str) -> (StatusCode, String) {
    let request = Request::builder().method(Method::TRACE).uri(path);
    let request = request.body(Body::empty()).unwrap();
    let response = server.clone().oneshot(request).await.unwrap();
    let target = response.headers().get("location");
    let target = target.map(|value| value.to_str().unwrap().to_owned());
    (response.status(), target.unwrap_or_default())
}

/// Whether the table has this path, each word as it stands; a name is any word.
fn is_in_table(path: &str) -> bool {
    let words: Vec<&str> = path.split('/').collect();
    let is_same = |(expected, word): (&str, &&str)| match expected.starts_with('{') {
        true => !word.is_empty(),
        false => expected == *word,
    };
    table().any(|route| {
        let expected = route.path.split('/');
        expected.clone().count() == words.len() && expected.zip(&words).all(is_same)
    })
}

#[test]
fn the_table_has_a_path_word_by_word() {
    for path in [
        "/v2",
        "/v2/models/a%2Fb/infer",
        "/models/INVOCATIONS/invocations",
    ] {
        assert!(is_in_table(path), "{path}");
    }
    for path in [
        "/V2",
        "/v2/models//infer",
        "/v2/models/x/INFER",
        "/v2%2Fmodels",
        "/v2/",
    ] {
        assert!(!is_in_table(path), "{path}");
    }
}

/// Other spellings of a path, with and without its names.
fn spellings(path: &str) -> Vec<String> {
    let words: Vec<&str> = path.split('/').skip(1).collect();
    let mut spelled = vec![
        format!("/{path}"),
        format!("{path}//"),
        format!("/.{path}"),
        format!("/x/..{path}"),
        format!("/x/%2e%2e{path}"),
        format!("{path}%2F"),
        format!("{path}%00"),
        format!("{path};x"),
        path.replacen('/', "/%2F", 1),
        path.replacen('/', "/%5C", 1),
    ];
    for (index, word) in words.iter().enumerate() {
        let with = |other: String| {
            let mut words = words.clone();
            words[index] = &other;
            format!("/{}", words.join("/"))
        };
        if index > 0 {
            spelled.push(with(format!("/{word}")));
            spelled.push(format!(
                "/{}%2F{}",
                words[..index].join("/"),
                words[index..].join("/")
            ));
        }
        if *word != "x1" {
            spelled.push(with(word.to_uppercase()));
            let first = word.as_bytes()[0];
            spelled.push(with(format!("%{first:02x}{}", &word[1..])));
            spelled.push(with(format!("%25{first:02x}{}", &word[1..])));
        }
    }
    spelled
}

#[tokio::test]
async fn no_second_spelling_of_a_path_reaches_a_handler() {
    let paths = paths();
    let server = server("");
    for path in &paths {
        let (status, _) = ask(&server, path).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        for spelling in spellings(path) {
            let (status, target) = ask(&server, &spelling).await;
            // V1 is read in any case, before its route is chosen.
            let is_v1 = path.starts_with("/v1/") && spelling.eq_ignore_ascii_case(path);
            // A name takes any text, so another spelling may be another path of the table, as it stands.
            let expected = match is_v1 || is_in_table(&spelling) {
                true => StatusCode::METHOD_NOT_ALLOWED,
                false => StatusCode::NOT_FOUND,
            };
            assert_eq!(status, expected, "{spelling} of {path}: {target}");
        }
    }
}

#[tokio::test]
async fn a_base_path_changes_no_answer() {
    let (plain, based) = (server(""), server("/api"));
    let described = async |server: &Entry, path: &str| {
        let request = Request::builder().method(Method::TRACE).uri(path);
        let request = request.body(Body::empty()).unwrap();
        let response = server.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 10).await;
        (status, body.unwrap())
    };
    for path in paths() {
        for spelling in [vec![path.clone()], spellings(&path)].concat() {
            let below = format!("/api{spelling}");
            let answers = (
                described(&plain, &spelling).await,
                described(&based, &below).await,
            );
            assert_eq!(answers.0, answers.1, "{spelling}");
        }
    }
}

#[tokio::test]
async fn names_that_are_no_names_reach_no_model() {
    let server = server("");
    for name in [
        ".", "..", "%2e%2e", "a%2Fb", "a%5Cb", "a:b", "%00", "a%0Ab", "stats", "%ff",
    ] {
        for (method, path) in [
            (Method::GET, format!("/v2/models/{name}/ready")),
            (Method::POST, format!("/v2/models/{name}/infer")),
            (Method::POST, format!("/v2/models/{name}/versions/1/infer")),
            (Method::POST, format!("/models/{name}/invocations")),
        ] {
            let request = Request::builder().method(method).uri(&path);
            let request = request.body(Body::empty()).unwrap();
            let response = server.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
            let body = axum::body::to_bytes(response.into_body(), 1 << 10).await;
            let text = String::from_utf8(body.unwrap().to_vec()).unwrap();
            // What is no UTF-8 reaches no handler, and no handler looks for what is no name.
            let described = match name {
                "%ff" => "Not Found",
                _ => "invalid model name",
            };
            assert!(text.contains(described), "{path}: {text}");
        }
    }
}

#[tokio::test]
async fn a_last_slash_is_redirected_within_this_server() {
    for base_path in ["", "/api"] {
        let server = server(base_path);
        for path in paths() {
            let path = format!("{base_path}{path}");
            let (status, target) = ask(&server, &format!("{path}/")).await;
            assert_eq!(status, StatusCode::TEMPORARY_REDIRECT, "{path}");
            assert_eq!(target, path);
        }
        for foreign in ["//example.com/", "/%5Cexample.com//", "//", "/x//y/"] {
            let (status, target) = ask(&server, foreign).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{foreign} {target}");
        }
    }
}
