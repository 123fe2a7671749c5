//! What a registry's answers could make us do for somebody else: send credentials to other servers, read files of this
//! machine, take a page for a registry, tell clients what stands in it. Real servers on different addresses.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use onstage::model::{ModelId, ModelName, Version};
use onstage::network::{self, NetworkConfig};
use onstage::registry::{
    ArtifactPlaces, Environment, Mlflow, ObjectAccess, PackageRef, Query, Source, SourceError,
    fetch_objects,
};
use serde_json::json;
use tempfile::TempDir;

use crate::lifecycle::faults::one_model;
use crate::lifecycle::swap::scene::{answering, counter, until};
use crate::support::imitation::{Asked, Imitation, absent, json_answer, with_status};
use crate::support::server::{Server, Starter, project};

/// Everything that identifies us to a registry.
const SECRETS: [(&str, &str); 3] = [
    ("MLFLOW_TRACKING_USERNAME", "me"),
    ("MLFLOW_TRACKING_PASSWORD", "s3cret"),
    ("MLFLOW_WORKSPACE", "inner-team"),
];

fn mlflow_at(url: &str, variables: &[(&str, &str)], places: ArtifactPlaces) -> Mlflow {
    let environment = Arc::new(Environment::from_iter(variables.iter().copied()));
    let mlflow = Mlflow::new(url, &NetworkConfig::default(), environment).unwrap();
    mlflow.with_places(places).unwrap()
}

fn everything() -> Query {
    Query {
        everything: true,
        ..Query::default()
    }
}

fn package() -> PackageRef {
    PackageRef {
        id: ModelId {
            name: ModelName::new("m").unwrap(),
            version: Version(1),
        },
        location: "models:/m-1".to_owned(),
        revision: "r".to_owned(),
        digest: None,
    }
}

fn redirect(to: &str) -> Response {
    (StatusCode::FOUND, [("location", to.to_owned())]).into_response()
}

/// A server that nobody should come to; its answers would be good ones.
async fn foreign() -> Imitation {
    Imitation::start_at("127.0.0.2:0", |asked| {
        match asked.path.contains("registered-models/search") {
            true => json_answer(&json!({"registered_models": [{"name": "theirs"}]})),
            false => "theirs".into_response(),
        }
    })
    .await
}

#[tokio::test]
async fn no_redirect_leads_credentials_to_another_server() {
    let last = foreign().await;
    let last_url = format!("{}/api", last.url);
    // A second foreign hop was where a library put back what it had taken away.
    let first = Imitation::start_at("127.0.0.2:0", move |_| redirect(&last_url)).await;
    let port = first.url.rsplit(':').next().unwrap().to_owned();
    for target in [
        format!("{}/x", first.url),
        format!("http://localhost:{port}/x"),
        format!("//127.0.0.2:{port}/x"),
        format!("http://me:s3cret@127.0.0.2:{port}/x"),
    ] {
        let there = target.clone();
        let server = Imitation::start(move |_| redirect(&there)).await;
        for variables in [&SECRETS[..], &[("MLFLOW_TRACKING_TOKEN", "s3cret")]] {
            let registry = mlflow_at(&server.url, variables, ArtifactPlaces::default());
            let error = registry.snapshot(&everything()).await.unwrap_err();
            assert!(
                matches!(error, SourceError::Unreachable { .. }),
                "{error:?}"
            );
            let text = error.to_string();
            assert!(text.contains("redirects to another server"), "{text}");
            assert!(!text.contains("s3cret"), "{text}");
            let directory = TempDir::new().unwrap();
            let fetched = registry.fetch(&package(), directory.path()).await;
            assert!(fetched.is_err(), "{target}");
        }
    }
    assert_eq!(first.asked().len() + last.asked().len(), 0);
}

#[tokio::test]
async fn redirects_within_a_server_keep_credentials_and_end() {
    let server = Imitation::start(|asked| match asked.path.as_str() {
        "/moved" => json_answer(&json!({"registered_models": [{"name": "m"}]})),
        _ => redirect("/moved"),
    })
    .await;
    let registry = mlflow_at(&server.url, &SECRETS, ArtifactPlaces::default());
    registry.snapshot(&everything()).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    for asked in asked {
        assert_eq!(asked.header("authorization"), "Basic bWU6czNjcmV0");
        assert_eq!(asked.header("x-mlflow-workspace"), "inner-team");
        assert_eq!(asked.header("referer"), "");
    }
    let endless = Imitation::start(|_| redirect("/again")).await;
    let registry = mlflow_at(&endless.url, &[], ArtifactPlaces::default());
    let error = registry.snapshot(&everything()).await.unwrap_err();
    assert!(error.to_string().contains("more than 10 times"), "{error}");
}

/// A server with one package of one file, `model.onnx`, that it hands out as `answer` says.
async fn handing_out(answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) -> Imitation {
    Imitation::start(move |asked| {
        let path = asked.path.as_str();
        if path.contains("get-download-uri") {
            return json_answer(&json!({"artifact_uri": "mlflow-artifacts:/1"}));
        }
        if path.contains("artifacts?path=") {
            let file = json!({"path": "model.onnx", "is_dir": false, "file_size": 6});
            return json_answer(&json!({"files": [file]}));
        }
        answer(asked)
    })
    .await
}

/// A server that signs URLs at another one.
async fn signing(url: String, headers: serde_json::Value) -> Imitation {
    handing_out(move |asked| match asked.path.contains("/presigned/") {
        true => json_answer(&json!({"url": url, "headers": headers})),
        false => with_status(501, "text/plain", "no proxied transfers"),
    })
    .await
}

async fn fetch(server: &Imitation, places: ArtifactPlaces) -> Result<Vec<u8>, SourceError> {
    let registry = mlflow_at(&server.url, &SECRETS, places);
    let directory = TempDir::new().unwrap();
    registry.fetch(&package(), directory.path()).await?;
    Ok(std::fs::read(directory.path().join("model.onnx")).unwrap())
}

#[tokio::test]
async fn signed_urls_lead_to_known_hosts_alone_and_with_known_headers() {
    let there = foreign().await;
    let url = format!("{}/bucket?signature=s3cret", there.url);
    let allowed = || ArtifactPlaces {
        hosts: vec!["127.0.0.2".to_owned()],
        ..ArtifactPlaces::default()
    };
    let server = signing(url.clone(), json!({"x-amz-meta": "1"})).await;
    let error = fetch(&server, ArtifactPlaces::default()).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("`127.0.0.2`") && text.contains("`registry.artifact_hosts`"),
        "{text}"
    );
    assert!(!text.contains("s3cret"), "{text}");
    assert_eq!(there.asked().len(), 0);

    assert_eq!(fetch(&server, allowed()).await.unwrap(), b"theirs");
    let [asked] = there.asked().try_into().unwrap();
    for name in ["authorization", "x-mlflow-workspace", "cookie"] {
        assert_eq!(asked.header(name), "", "{name}");
    }
    assert_eq!(asked.header("x-amz-meta"), "1");

    for header in ["metadata-flavor", "authorization", "cookie", "host"] {
        let server = signing(url.clone(), json!({ header: "x" })).await;
        let error = fetch(&server, allowed()).await.unwrap_err().to_string();
        assert!(error.contains(&format!("`{header}`")), "{error}");
    }
    assert_eq!(there.asked().len(), 0);

    // A known host is no way to an unknown one.
    let target = format!("{}/elsewhere", there.url);
    let between = Imitation::start(move |_| redirect(&target)).await;
    let server = signing(between.url.clone(), json!({})).await;
    assert!(fetch(&server, ArtifactPlaces::default()).await.is_err());
    assert_eq!(
        (!between.asked().is_empty(), there.asked().len()),
        (true, 0)
    );
}

#[tokio::test]
async fn other_artifact_servers_are_asked_only_where_that_is_allowed_and_without_credentials() {
    let there = Imitation::start_at("127.0.0.2:0", |asked| {
        match asked.path.contains("artifacts?path=") {
            true => json_answer(&json!({"files": [{"path": "model.onnx", "file_size": 6}]})),
            false => "theirs".into_response(),
        }
    })
    .await;
    let authority = there.url.strip_prefix("http://").unwrap().to_owned();
    for uri in [
        format!("mlflow-artifacts://{authority}/1"),
        format!("{}/api/2.0/mlflow-artifacts/artifacts/1", there.url),
    ] {
        let server =
            Imitation::start(move |_| json_answer(&json!({ "artifact_uri": uri.clone() }))).await;
        let error = fetch(&server, ArtifactPlaces::default()).await.unwrap_err();
        assert!(
            error.to_string().contains("`registry.artifact_hosts`"),
            "{error}"
        );
        assert_eq!(there.asked().len(), 0);
        let places = ArtifactPlaces {
            hosts: vec![authority.clone()],
            ..ArtifactPlaces::default()
        };
        assert_eq!(fetch(&server, places).await.unwrap(), b"theirs");
        for asked in there.asked() {
            for name in ["authorization", "x-mlflow-workspace"] {
                assert_eq!(asked.header(name), "", "{name}");
            }
        }
    }
}

#[tokio::test]
async fn an_object_store_redirects_no_keys_to_another_server() {
    let there = foreign().await;
    let target = there.url.clone();
    let store = Imitation::start(move |asked| redirect(&format!("{target}{}", asked.path))).await;
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AKIAME"),
        ("AWS_SECRET_ACCESS_KEY", "s3cret"),
        ("AWS_SESSION_TOKEN", "session"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ENDPOINT_URL", store.url.as_str()),
    ];
    let client = network::client(&NetworkConfig::default()).unwrap();
    let environment = Environment::from_iter(variables);
    let access = ObjectAccess::new(client, Arc::new(environment));
    let directory = TempDir::new().unwrap();
    let url = "s3://bucket/models".parse().unwrap();
    let fetched = tokio::time::timeout(
        Duration::from_secs(60),
        fetch_objects(&access, &url, directory.path()),
    );
    assert!(fetched.await.unwrap().is_err());
    assert!(!store.asked().is_empty());
    assert_eq!(there.asked().len(), 0);
}

/// A server by a name that only its proxy knows, so that it is not on this machine.
fn far_away(proxy: &Imitation, more: &[&str]) -> Starter {
    let fixed = [
        "--registry",
        "http://mlflow.example:5000",
        "models:/m@champion",
    ];
    Starter::serve(&[&fixed, more].concat()).env("HTTP_PROXY", proxy.url.as_str())
}

#[tokio::test]
async fn a_registry_on_another_machine_names_no_files_of_this_one() {
    let iris = project().join("model-examples/iris");
    let named = iris.to_str().unwrap().to_owned();
    for uri in [named.clone(), format!("file://{named}")] {
        // What served once may serve again.
        let cache = TempDir::new().unwrap();
        let server = Imitation::start(move |asked| {
            let path = asked.path.as_str();
            if path.contains("get-download-uri") {
                return json_answer(&json!({"artifact_uri": uri.clone()}));
            }
            let version = json!({"version": "1", "status": "READY", "source": "s"});
            if path.contains("model-versions/get?") {
                return json_answer(&json!({ "model_version": version }));
            }
            let champion = json!({"alias": "champion", "version": "1"});
            json_answer(&json!({"registered_model": {"name": "m", "aliases": [champion]}}))
        })
        .await;
        let cache_dir = cache.path().to_str().unwrap();
        let flags = ["--cache-dir", cache_dir];
        let Err(ended) = far_away(&server, &flags).try_start().await else {
            panic!("it serves a file that another machine named");
        };
        assert!(
            ended.stderr.contains("`registry.local_artifacts`"),
            "{}",
            ended.stderr
        );
        let allowed = project().join("model-examples");
        let starter =
            far_away(&server, &flags).env("ONSTAGE_REGISTRY__LOCAL_ARTIFACTS", allowed.as_os_str());
        let server = starter.start().await;
        assert_eq!(server.get("/v2/models/m/ready").await.status(), 200);
    }
}

#[tokio::test]
async fn a_foreign_answer_is_an_outage_and_nothing_of_it_is_told_to_clients() {
    let elsewhere = Imitation::start_at("127.0.0.2:0", |asked| {
        match asked.path.contains("registered-models/search") {
            true => json_answer(&json!({})),
            false => absent(),
        }
    })
    .await;
    let (script, mlflow) = one_model().await;
    let server = follow(&mlflow).await;
    let failures = async || {
        counter(
            &server,
            r#"onstage_registry_syncs_total{outcome="failure"}"#,
        )
        .await
    };
    let location = elsewhere.url.clone();
    let answers: [Box<dyn Fn() -> Response + Send + Sync>; 7] = [
        Box::new(|| with_status(200, "text/html", "<html>FOREIGN sign in</html>")),
        Box::new(|| with_status(200, "application/json", "{}")),
        Box::new(|| json_answer(&json!({"FOREIGN": "portal"}))),
        Box::new(|| json_answer(&json!({"registered_models": [], "FOREIGN": 1}))),
        Box::new(|| json_answer(&json!([{"FOREIGN": 1}]))),
        Box::new(|| with_status(404, "text/html", "FOREIGN")),
        Box::new(move || {
            redirect(&format!(
                "{location}/api/2.0/mlflow/registered-models/search"
            ))
        }),
    ];
    for (index, answer) in answers.into_iter().enumerate() {
        let before = failures().await;
        script.instead(answer);
        until("it is no outage", &server, async || {
            failures().await > before + 1
        })
        .await;
        assert_eq!(
            answering(&server, "/models/m/invocations").await,
            Some(1),
            "{index}"
        );
        for path in [
            "/v2/repository/index",
            "/v2/models/m",
            "/v1/models/m",
            "/metrics",
        ] {
            let response = match path {
                "/v2/repository/index" => server.post(path, "application/json", "{}").await,
                _ => server.get(path).await,
            };
            let text = response.text().await.unwrap();
            assert!(!text.contains("FOREIGN"), "{index} {path}: {text}");
        }
        script.truth();
        let seen = counter(
            &server,
            r#"onstage_registry_syncs_total{outcome="success"}"#,
        )
        .await;
        until("it does not come back", &server, async || {
            counter(
                &server,
                r#"onstage_registry_syncs_total{outcome="success"}"#,
            )
            .await
                > seen
        })
        .await;
    }
    assert_eq!(elsewhere.asked().len(), 0);
}

async fn follow(mlflow: &Imitation) -> Server {
    let flags = [
        "--registry",
        &mlflow.url,
        "--follow",
        "@champion",
        "--poll-interval",
        "100ms",
    ];
    Starter::serve(&flags).start().await
}

/// A version whose files cannot be had: the page that comes instead is in no answer, and no path of the cache.
#[tokio::test]
async fn a_version_that_cannot_be_fetched_is_told_without_the_page_and_without_paths() {
    let (script, mlflow) = one_model().await;
    let cache = TempDir::new().unwrap();
    let cache_dir = cache.path().to_str().unwrap();
    let flags = [
        "--registry",
        &mlflow.url,
        "--follow",
        "@champion",
        "--poll-interval",
        "100ms",
    ];
    let server = Starter::serve(&[&flags[..], &["--cache-dir", cache_dir]].concat());
    let server = server.start().await;
    let answers: [fn() -> Response; 3] = [
        || with_status(500, "text/html", "<html>FOREIGN page</html>"),
        || with_status(403, "text/html", "<html>FOREIGN page</html>"),
        // A graph that is none.
        || vec![b'F'; 10].into_response(),
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        script.change(|answers| answers.graph = Some(Box::new(move |_, _| answer())));
        let version = 2 + u64::try_from(number).unwrap();
        script.champion(version);
        let row = async || {
            let response = server
                .post("/v2/repository/index", "application/json", "{}")
                .await;
            let index: serde_json::Value = response.json().await.unwrap();
            let rows = index.as_array().unwrap().clone();
            let version = version.to_string();
            rows.into_iter()
                .find(|row| row["version"] == version.as_str())
        };
        until("it is never tried", &server, async || {
            row()
                .await
                .is_some_and(|row| row["state"] == "UNAVAILABLE" && row["reason"] != "")
        })
        .await;
        let path = format!("/models/m/versions/{version}/invocations");
        let answer = server
            .post(&path, "application/json", r#"{"inputs": [[1.0, 1.0]]}"#)
            .await;
        let status = answer.status().as_u16();
        let texts = [
            row().await.unwrap().to_string(),
            answer.text().await.unwrap(),
        ];
        for text in texts {
            assert!(!text.contains("FOREIGN"), "{status} {text}");
            assert!(!text.contains(cache_dir), "{status} {text}");
        }
    }
    server.logged(&["FOREIGN page"]).await;
}

#[tokio::test]
async fn an_unprivileged_user_cannot_read_the_cache() {
    let (_script, mlflow) = one_model().await;
    let parent = TempDir::new().unwrap();
    std::fs::set_permissions(parent.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let cache = parent.path().join("cache");
    let cache_dir = cache.to_str().unwrap();
    let flags = [
        "--registry",
        &mlflow.url,
        "--follow",
        "@champion",
        "--cache-dir",
        cache_dir,
    ];
    let server = Starter::serve(&flags).start().await;
    assert_eq!(answering(&server, "/models/m/invocations").await, Some(1));
    until("it is never written down", &server, async || {
        std::fs::read_dir(cache.join("refs")).unwrap().count() == 1
    })
    .await;
    let mut files = 0;
    modes(&cache, &mut |path, is_directory, mode| {
        let expected = if is_directory { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{}: {mode:o}", path.display());
        files += usize::from(!is_directory);
    });
    assert!(files > 3, "{files}");
    // Where the tests run as root, another user tries as well.
    let tried = std::process::Command::new("setpriv")
        .args([
            "--reuid",
            "65534",
            "--clear-groups",
            "find",
            cache_dir,
            "-type",
            "f",
        ])
        .output();
    if let Ok(tried) = tried {
        let found = String::from_utf8_lossy(&tried.stdout);
        assert_eq!(found, "", "{}", String::from_utf8_lossy(&tried.stderr));
    }
}

fn modes(path: &Path, look: &mut impl FnMut(&Path, bool, u32)) {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    look(
        path,
        metadata.is_dir(),
        metadata.permissions().mode() & 0o777,
    );
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            modes(&entry.unwrap().path(), look);
        }
    }
}

/// A server that follows a registry of files, and looks at it often.
fn follow_files(models: &Path, cache: &Path) -> Starter {
    Starter::serve(&[
        "--registry",
        models.to_str().unwrap(),
        "--follow",
        "@champion",
        "--poll-interval",
        "100ms",
        "--cache-dir",
        cache.to_str().unwrap(),
    ])
}

/// A registry of files with iris as version 1 and as champion.
async fn registry_of_files() -> TempDir {
    let directory = TempDir::new().unwrap();
    let models = directory.path().join("models");
    let models = models.to_str().unwrap();
    for arguments in [
        &[
            "registry",
            "register",
            "iris",
            "model-examples/iris",
            "--registry",
            models,
        ][..],
        &[
            "registry",
            "alias",
            "iris",
            "champion",
            "1",
            "--registry",
            models,
        ],
    ] {
        let ended = Starter::command(arguments).run().await;
        assert!(ended.status.success(), "{}", ended.stderr);
    }
    directory
}

#[tokio::test]
async fn links_out_of_a_registry_of_files_and_pipes_in_it_stop_their_model_alone() {
    let directory = registry_of_files().await;
    let models = directory.path().join("models");
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "7").unwrap();
    let outside = directory.path().join("outside");
    std::fs::create_dir_all(outside.join("versions")).unwrap();
    for (name, place) in [("link", "aliases/champion"), ("record", "versions/1.json")] {
        let path = models.join(name).join(place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(&secret, &path).unwrap();
    }
    symlink(&outside, models.join("whole")).unwrap();
    let pipe = models.join("pipe/aliases");
    std::fs::create_dir_all(&pipe).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(pipe.join("champion"))
        .status();
    assert!(made.unwrap().success());
    let cache = directory.path().join("cache");
    let server = follow_files(&models, &cache).start().await;
    assert_eq!(server.get("/v2/models/iris/ready").await.status(), 200);
    let log = server
        .logged(&[
            r#""model":"link""#,
            r#""model":"record""#,
            r#""model":"pipe""#,
            r#""model":"whole""#,
        ])
        .await;
    assert!(log.contains("leads out of the registry"), "{log}");
    assert!(log.contains("it is a pipe"), "{log}");
    // Looks go on.
    let looks = async || {
        counter(
            &server,
            r#"onstage_registry_syncs_total{outcome="success"}"#,
        )
        .await
    };
    let before = looks().await;
    until("it hangs", &server, async || looks().await > before + 3).await;
}

#[tokio::test]
async fn a_version_that_is_a_link_out_of_the_registry_is_served_only_where_that_is_allowed() {
    let directory = registry_of_files().await;
    let models = directory.path().join("models");
    let version = models.join("iris/versions/1");
    let moved = directory.path().join("moved");
    std::fs::rename(&version, &moved).unwrap();
    symlink(&moved, &version).unwrap();
    let starter = || {
        let cache = directory.path().join("cache");
        let flags = [
            "--registry",
            models.to_str().unwrap(),
            "models:/iris@champion",
            "--cache-dir",
            cache.to_str().unwrap(),
        ];
        Starter::serve(&flags)
    };
    let Err(ended) = starter().try_start().await else {
        panic!("it follows a link out of the registry");
    };
    assert!(
        ended.stderr.contains("`registry.local_artifacts`"),
        "{}",
        ended.stderr
    );
    let allowed = starter().env("ONSTAGE_REGISTRY__LOCAL_ARTIFACTS", moved.as_os_str());
    let server = allowed.start().await;
    assert_eq!(server.get("/v2/models/iris/ready").await.status(), 200);
}

#[tokio::test]
async fn an_alias_that_is_deleted_and_set_again_unloads_nothing_and_one_that_stays_away_does() {
    let directory = registry_of_files().await;
    let models = directory.path().join("models");
    let pointer = models.join("iris/aliases/champion");
    let serve = async |delay: &str| {
        let cache = directory.path().join("cache");
        let starter = follow_files(&models, &cache).env("ONSTAGE_REGISTRY__UNLOAD_DELAY", delay);
        starter.start().await
    };
    let ready = async |server: &Server| server.get("/v2/models/iris/ready").await.status() == 200;
    let successes = async |server: &Server| {
        counter(server, r#"onstage_registry_syncs_total{outcome="success"}"#).await
    };
    let server = serve("1h").await;
    for _ in 0..3 {
        std::fs::remove_file(&pointer).unwrap();
        let before = successes(&server).await;
        until("no look", &server, async || {
            successes(&server).await > before + 2
        })
        .await;
        assert!(ready(&server).await);
        std::fs::write(&pointer, "1").unwrap();
    }
    drop(server);
    let server = serve("0s").await;
    assert!(ready(&server).await);
    std::fs::remove_file(&pointer).unwrap();
    until("it is never unloaded", &server, async || {
        !ready(&server).await
    })
    .await;
}

#[tokio::test]
async fn strangers_fill_no_log() {
    let server = Starter::serve(&["model-examples/iris", "--engine", "tract"])
        .start()
        .await;
    let path = format!("/{}", "x".repeat(8000));
    let before = server.stderr().len();
    let began = tokio::time::Instant::now();
    for _ in 0..40 {
        let sent = (0..50).map(|_| server.get(&path));
        for response in futures_util::future::join_all(sent).await {
            assert_eq!(response.status(), 404);
        }
    }
    let seconds = began.elapsed().as_secs();
    let log = server.stderr()[before..].to_owned();
    let lines: Vec<&str> = { log.lines() }
        .filter(|line| line.contains("xxxx"))
        .collect();
    assert!(!lines.is_empty(), "{log}");
    assert!(lines.iter().all(|line| line.len() < 700), "{}", lines[0]);
    // As many as there were seconds, times a hundred.
    let most = 100 * (usize::try_from(seconds).unwrap() + 2);
    assert!(lines.len() <= most, "{} lines in {seconds} s", lines.len());
}
