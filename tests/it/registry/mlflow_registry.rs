//! Our client against a real `mlflow server`: what its own Python client does is what we see.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use onstage::model::{ModelId, ModelName, Package, Version};
use onstage::network::NetworkConfig;
use onstage::registry::{
    Alias, Environment, Mlflow, Query, RegisteredModel, RegistryState, RegistryWriter, Source,
    SourceError, Stage, VersionStatus,
};

use onstage::registry::notify::webhook::{self, Hint};

use crate::support::mlflow_server::{MlflowClient, MlflowServer, TlsServer};
use crate::support::server::{Starter, project};

fn registry(url: &str, variables: &[(&str, &str)]) -> Mlflow {
    let environment = Environment::from_iter(variables.iter().copied());
    Mlflow::new(url, &NetworkConfig::default(), Arc::new(environment)).unwrap()
}

fn name(name: &str) -> ModelName {
    ModelName::new(name).unwrap()
}

fn id(text: &str, version: u64) -> ModelId {
    ModelId {
        name: name(text),
        version: Version(version),
    }
}

fn everything() -> Query {
    Query {
        everything: true,
        ..Query::default()
    }
}

fn one(model: &str, version: Option<u64>) -> Query {
    Query {
        models: [name(model)].into(),
        versions: version
            .map(|version| id(model, version))
            .into_iter()
            .collect(),
        ..Query::default()
    }
}

/// `@alias` and stages with the versions they lead to, and `latest`.
fn pointers(model: &RegisteredModel) -> BTreeMap<String, u64> {
    let aliases = model
        .aliases
        .iter()
        .map(|(alias, version)| (format!("@{alias}"), version.0));
    let stages = model
        .stages
        .iter()
        .map(|(stage, version)| (stage.to_string(), version.0));
    let latest = model.latest.map(|version| ("latest".to_owned(), version.0));
    aliases.chain(stages).chain(latest).collect()
}

fn points(expected: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let pair = |(name, version): &(&str, u64)| ((*name).to_owned(), *version);
    expected.iter().map(pair).collect()
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    let read = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read(entry.path()).unwrap())
    };
    entries.map(read).collect()
}

fn graph() -> String {
    project()
        .join("model-examples/iris/model.onnx")
        .display()
        .to_string()
}

/// One server and one Python, and what happens with them, in this order.
struct Scene {
    server: MlflowServer,
    python: MlflowClient,
    registry: Mlflow,
}

impl Scene {
    async fn look(&self, query: &Query) -> RegistryState {
        self.registry.snapshot(query).await.unwrap()
    }

    async fn iris(&self) -> RegisteredModel {
        let all = self.look(&everything()).await.models;
        let alone = self.look(&one("iris", None)).await.models;
        let (all, alone) = (&all[&name("iris")], &alone[&name("iris")]);
        assert_eq!(all, alone, "a search and a single look tell the same");
        all.clone()
    }

    /// A list of a model's versions is for people: what is followed needs only those that something points to.
    async fn every_version_is_told_when_it_is_asked_for(&mut self) {
        let versions = async |query: Query, model: &str| {
            let state = self.registry.snapshot(&query).await.unwrap();
            let versions = state.models[&name(model)].versions.keys();
            versions.map(|version| version.0).collect::<Vec<u64>>()
        };
        let every = |model: &str| Query {
            every_version: true,
            ..one(model, None)
        };
        assert_eq!(versions(one("iris", None), "iris").await, [3]);
        assert_eq!(versions(every("iris"), "iris").await, [1, 2, 3]);
        let odd = "it's";
        self.python
            .eval(&format!(
                "[register(\"{odd}\", '{}') for _ in range(2)]",
                graph()
            ))
            .await;
        assert_eq!(versions(every(odd), odd).await, [1, 2]);
        let delete = format!("client.delete_registered_model(\"{odd}\")");
        self.python.eval(&delete).await;
    }

    async fn stages_and_aliases_are_followed(&mut self) {
        assert_eq!(
            pointers(&self.iris().await),
            points(&[("None", 3), ("latest", 3)])
        );
        self.python
            .eval("client.transition_model_version_stage('iris', '2', 'Production')")
            .await;
        self.python
            .eval("client.set_registered_model_alias('iris', 'champion', '1')")
            .await;
        self.python
            .eval("client.set_registered_model_tag('iris', 'team', 'flowers')")
            .await;
        let iris = self.iris().await;
        let expected = [
            ("@champion", 1),
            ("None", 3),
            ("Production", 2),
            ("latest", 3),
        ];
        assert_eq!(pointers(&iris), points(&expected));
        assert_eq!(iris.tags["team"], "flowers");
        let versions: Vec<u64> = iris.versions.keys().map(|version| version.0).collect();
        assert_eq!(versions, [1, 2, 3], "an alias brings its version along");
        let revisions: std::collections::BTreeSet<_> = iris
            .versions
            .values()
            .map(|version| &version.revision)
            .collect();
        assert_eq!(revisions.len(), 3, "versions can be told apart: {iris:?}");
        self.python
            .eval("client.transition_model_version_stage('iris', '3', 'Production', archive_existing_versions=True)")
            .await;
        let expected = [
            ("@champion", 1),
            ("Archived", 2),
            ("None", 1),
            ("Production", 3),
            ("latest", 3),
        ];
        assert_eq!(pointers(&self.iris().await), points(&expected));
    }

    async fn our_changes_are_mlflows(&mut self) {
        let champion = Alias::new("champion").unwrap();
        self.registry
            .set_alias(&champion, &id("iris", 2))
            .await
            .unwrap();
        let by_alias = "client.get_model_version_by_alias('iris', 'champion').version";
        assert_eq!(self.python.eval(by_alias).await, "2");
        self.registry
            .transition(&id("iris", 1), Stage::Staging, false)
            .await
            .unwrap();
        let stage = "client.get_model_version('iris', '1').current_stage";
        assert_eq!(self.python.eval(stage).await, "Staging");
        self.registry
            .delete_alias(&name("iris"), &champion)
            .await
            .unwrap();
        assert!(self.iris().await.aliases.is_empty());
        for (result, expected) in [
            (
                self.registry.set_alias(&champion, &id("iris", 9)).await,
                "9",
            ),
            (
                self.registry
                    .transition(&id("nope", 1), Stage::Staging, false)
                    .await,
                "nope",
            ),
        ] {
            let error = result.unwrap_err();
            assert!(matches!(error, SourceError::NotFound(_)), "{error:?}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        let archived = self
            .registry
            .transition(&id("iris", 1), Stage::Archived, true)
            .await;
        assert!(matches!(archived, Err(SourceError::Invalid(_))));
    }

    async fn deleted_versions_and_models_are_gone(&mut self) {
        self.python
            .eval("client.set_registered_model_alias('iris', 'new', '3')")
            .await;
        self.python
            .eval("client.delete_model_version('iris', '3')")
            .await;
        let expected = [("Archived", 2), ("Staging", 1), ("latest", 2)];
        assert_eq!(pointers(&self.iris().await), points(&expected));
        let pinned = self.look(&one("iris", Some(3))).await;
        let versions = &pinned.models[&name("iris")].versions;
        assert!(!versions.contains_key(&Version(3)));
        assert!(self.look(&one("nope", Some(1))).await.models.is_empty());
    }

    async fn an_unready_version_says_so(&mut self) {
        self.python
            .eval("client.set_registered_model_alias('iris', 'soon', '2')")
            .await;
        let set = "sql('mlflow.db', \"update model_versions set status = 'PENDING_REGISTRATION' where version = 2\")";
        self.python.eval(set).await;
        let iris = self.iris().await;
        let unready = VersionStatus::Unready("PENDING_REGISTRATION".to_owned());
        assert_eq!(iris.versions[&Version(2)].status, unready);
        assert_eq!(iris.versions[&Version(1)].status, VersionStatus::Ready);
    }

    async fn more_models_than_one_page_are_all_seen(&mut self) {
        let fill = "sql('mlflow.db', \"with recursive n(i) as (select 1 union all select i + 1 from n where i < 1205) \
                    insert into registered_models (workspace, name, creation_time, last_updated_time) \
                    select 'default', 'many ' || i, 1, 1 from n\")";
        self.python.eval(fill).await;
        assert_eq!(self.look(&everything()).await.models.len(), 1206);
        self.python
            .eval("client.delete_registered_model('many 7')")
            .await;
        let state = self.look(&everything()).await;
        assert_eq!(state.models.len(), 1205);
        assert!(
            state.models.contains_key(&name("iris")) && !state.models.contains_key(&name("many 7"))
        );
    }
}

/// Version 1 of `iris` by its name, and by the identities it has as a logged model and in its run.
async fn packages_are_fetched_whole_and_continued(scene: &Scene, logged: &serde_json::Value) {
    let iris = scene.iris().await;
    let by_name = iris.package(&name("iris"), Version(1)).unwrap();
    let (model, run) = (
        logged["id"].as_str().unwrap(),
        logged["run"].as_str().unwrap(),
    );
    let by_model = scene
        .registry
        .resolve(&format!("models:/{model}").parse().unwrap())
        .await;
    let by_run = scene
        .registry
        .resolve(&format!("runs:/{run}/model").parse().unwrap())
        .await;
    let mut seen = Vec::new();
    for package in [by_name, by_model.unwrap(), by_run.unwrap()] {
        let directory = tempfile::tempdir().unwrap();
        scene
            .registry
            .fetch(&package, directory.path())
            .await
            .unwrap();
        let whole = files(directory.path());
        assert_eq!(whole["model.onnx"], std::fs::read(graph()).unwrap());
        Package::open(directory.path()).unwrap();
        // A second attempt finds half a file.
        let half = &whole["model.onnx"][..100];
        std::fs::write(directory.path().join("model.onnx"), half).unwrap();
        scene
            .registry
            .fetch(&package, directory.path())
            .await
            .unwrap();
        assert_eq!(files(directory.path()), whole);
        seen.push(whole);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
    for uri in [
        "models:/m-00000000000000000000000000000000".to_owned(),
        "runs:/00000000000000000000000000000000/model".to_owned(),
    ] {
        let error = scene
            .registry
            .resolve(&uri.parse().unwrap())
            .await
            .unwrap_err();
        assert!(
            matches!(error, SourceError::NotFound(_)),
            "{uri}: {error:?}"
        );
    }
}

const SECRET: &str = "s3cr3t";

/// What has been delivered to our address: the hints that were genuine.
async fn deliveries() -> (String, tokio::sync::mpsc::UnboundedReceiver<Hint>) {
    let (hints, received) = tokio::sync::mpsc::unbounded_channel();
    let receiver = Arc::new(webhook::Receiver::new(SECRET));
    let route = move |headers: axum::http::HeaderMap, body: axum::body::Bytes| async move {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let headers = webhook::Headers {
            delivery_id: header(webhook::DELIVERY_ID),
            timestamp: header(webhook::TIMESTAMP),
            signature: header(webhook::SIGNATURE),
        };
        let hint = receiver.receive(headers, &body, std::time::SystemTime::now());
        hints.send(hint.unwrap()).unwrap();
    };
    let router = axum::Router::new().route("/base/webhooks/mlflow", axum::routing::post(route));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, received)
}

/// The command makes the webhook once, and what MLflow sends from then on is genuine.
async fn a_webhook_tells_of_changes_at_once(server: &MlflowServer, python: &mut MlflowClient) {
    let (url, mut received) = deliveries().await;
    let secret = server.home().join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let secret = secret.to_str().unwrap();
    let arguments = [
        "registry",
        "webhook",
        "--url",
        &url,
        "--webhook-secret-file",
        secret,
    ];
    let command = |extra: &[&str]| {
        Starter::command(&[&arguments[..], extra].concat()).env("MLFLOW_TRACKING_URI", &server.url)
    };
    let made = command(&["--register"]).run().await;
    assert!(made.status.success(), "{}", made.stderr);
    assert!(
        made.stderr.contains("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS"),
        "{}",
        made.stderr
    );
    let again = command(&["--register"]).run().await;
    assert_eq!(again.stdout, made.stdout, "there is one already");
    assert!(
        again.stderr.contains("is there already (ACTIVE)"),
        "{}",
        again.stderr
    );

    python.eval("client.create_registered_model('told')").await;
    let hint = tokio::time::timeout(Duration::from_secs(20), received.recv()).await;
    assert_eq!(hint.unwrap(), Some(Hint::Model(name("told"))));
    python.eval("client.delete_registered_model('told')").await;

    // Without the flag the call is only printed.
    let printed = command(&["--name", "by-hand"]).run().await;
    assert!(
        printed.stdout.contains(&format!("$(cat '{secret}')")),
        "{}",
        printed.stdout
    );
}

#[tokio::test]
async fn a_real_server_is_followed() {
    let allowed = [
        ("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http"),
        ("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true"),
        (
            "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY",
            "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        ),
    ];
    let server = MlflowServer::start("", &[], &allowed).await;
    let mut python = MlflowClient::start(&server, &[]);
    a_webhook_tells_of_changes_at_once(&server, &mut python).await;
    let registry = registry(&server.url, &[]);
    assert!(
        registry
            .snapshot(&everything())
            .await
            .unwrap()
            .models
            .is_empty()
    );
    let logged = python
        .eval(&format!("register('iris', '{}')", graph()))
        .await;
    let again = format!(
        "mlflow.register_model('models:/{}', 'iris').version",
        logged["id"].as_str().unwrap()
    );
    python.eval(&again).await;
    python.eval(&again).await;
    let mut scene = Scene {
        server,
        python,
        registry,
    };
    scene.every_version_is_told_when_it_is_asked_for().await;
    scene.stages_and_aliases_are_followed().await;
    packages_are_fetched_whole_and_continued(&scene, &logged).await;
    scene.our_changes_are_mlflows().await;
    scene.deleted_versions_and_models_are_gone().await;
    scene.an_unready_version_says_so().await;
    scene.more_models_than_one_page_are_all_seen().await;
    // After it is gone there is an error, not an empty registry.
    let Scene {
        server, registry, ..
    } = scene;
    drop(server);
    let error = registry.snapshot(&everything()).await.unwrap_err();
    assert!(
        matches!(error, SourceError::Unreachable { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_with_users_a_prefix_and_artifacts_elsewhere_is_followed() {
    let (user, password) = ("admin", "correct-horse-battery");
    let artifacts = tempfile::tempdir().unwrap();
    let root = format!("file://{}", artifacts.path().display());
    let server = MlflowServer::start(
        "/pre/fix",
        &[
            "--app-name",
            "basic-auth",
            "--static-prefix",
            "/pre/fix",
            "--no-serve-artifacts",
            "--default-artifact-root",
            &root,
        ],
        &[
            ("MLFLOW_FLASK_SERVER_SECRET_KEY", "x"),
            ("MLFLOW_AUTH_ADMIN_PASSWORD", password),
        ],
    )
    .await;
    let credentials = [
        ("MLFLOW_TRACKING_USERNAME", user),
        ("MLFLOW_TRACKING_PASSWORD", password),
    ];
    let mut python = MlflowClient::start(&server, &credentials);
    python
        .eval(&format!("register('iris', '{}')", graph()))
        .await;

    for variables in [
        vec![],
        vec![("MLFLOW_TRACKING_TOKEN", password)],
        vec![credentials[0], ("MLFLOW_TRACKING_PASSWORD", "wrong")],
    ] {
        let error = registry(&server.url, &variables)
            .snapshot(&everything())
            .await
            .unwrap_err();
        assert!(
            matches!(error, SourceError::Unauthenticated { .. }),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("You are not authenticated"),
            "{error}"
        );
        assert!(!error.to_string().contains(password), "{error}");
    }
    let without_prefix = server.url.strip_suffix("/pre/fix").unwrap();
    let error = registry(without_prefix, &credentials)
        .snapshot(&one("iris", None))
        .await
        .unwrap_err();
    assert!(
        matches!(error, SourceError::Status { status: 404, .. }),
        "{error:?}"
    );

    let with_user = server.url.replace("://", &format!("://{user}:{password}@"));
    for registry in [
        registry(&server.url, &credentials),
        registry(&with_user, &[]),
    ] {
        let state = registry.snapshot(&one("iris", Some(1))).await.unwrap();
        let package = state.models[&name("iris")]
            .package(&name("iris"), Version(1))
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        registry.fetch(&package, directory.path()).await.unwrap();
        Package::open(directory.path()).unwrap();
        assert_eq!(registry.address(), server.url);
    }
}

#[tokio::test]
async fn certificates_are_checked_and_shown_as_mlflows_variables_say() {
    let server = TlsServer::start().await;
    let (authority, client) = (server.pem("authority"), server.pem("client"));
    let identity = ("MLFLOW_TRACKING_CLIENT_CERT_PATH", client.as_str());
    let trusted = ("MLFLOW_TRACKING_SERVER_CERT_PATH", authority.as_str());
    let unchecked = ("MLFLOW_TRACKING_INSECURE_TLS", "true");
    for (variables, works) in [
        (vec![trusted, identity], true),
        (vec![unchecked, identity], true),
        (vec![identity], false),
        (vec![trusted], false),
    ] {
        let result = registry(&server.url, &variables)
            .snapshot(&everything())
            .await;
        assert_eq!(result.is_ok(), works, "{variables:?}: {result:?}");
    }
    let network = NetworkConfig {
        ca_file: Some(authority.clone().into()),
    };
    let environment = Arc::new(Environment::from_iter([identity]));
    let registry = Mlflow::new(&server.url, &network, environment).unwrap();
    registry.snapshot(&everything()).await.unwrap();
}
