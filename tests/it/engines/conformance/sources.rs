//! What every registry does, whatever its kind: each fact is written once and holds for a directory, S3 (moto), Google
//! Cloud Storage and Azure (imitations), and a real MLflow server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::{ObjectStoreExt, PutPayload};
use onstage::model::{ModelId, ModelName, Package, Version};
use onstage::network::{self, NetworkConfig};
use onstage::registry::{
    Alias, Environment, Mlflow, NotLoadable, ObjectAccess, PackageRef, Pointer, Query,
    RegisteredModel, RegistryState, RegistryWriter, Source, SourceError, Stage, StoreRegistry,
    Which,
};
use rstest::rstest;
use tempfile::TempDir;

use crate::support::mlflow_server::{MlflowClient, MlflowServer};
use crate::support::object_servers::{BUCKET, Dialect, Imitation, S3Server};
use crate::support::server::project;

/// A name that MLflow takes and that a file system, a URL and a filter could all stumble over.
const NAME: &str = "my iris v2.1";

fn name(text: &str) -> ModelName {
    ModelName::new(text).unwrap()
}

fn id(version: u64) -> ModelId {
    ModelId {
        name: name(NAME),
        version: Version(version),
    }
}

fn alias(text: &str) -> Alias {
    Alias::new(text).unwrap()
}

fn iris() -> PathBuf {
    project().join("model-examples/iris")
}

/// What keeps a registry alive, and can end it.
enum Server {
    Directory { _directory: TempDir },
    S3(S3Server),
    Imitation(Imitation),
    Mlflow(MlflowServer),
}

/// One registry with two clients of it, who know nothing of each other.
struct Scene {
    server: Server,
    source: Arc<dyn Source>,
    writers: [Arc<dyn RegistryWriter>; 2],
    /// Registers packages where we cannot.
    python: Option<MlflowClient>,
    /// What takes files directly, where the registry is one of files.
    access: Option<(ObjectAccess, String)>,
}

fn files(access: &ObjectAccess, uri: &str) -> Arc<StoreRegistry> {
    Arc::new(StoreRegistry::open(uri, access.clone()).unwrap())
}

impl Scene {
    fn of_files(server: Server, uri: &str, variables: Vec<(String, String)>) -> Self {
        let client = network::client(&NetworkConfig::default()).unwrap();
        let access = ObjectAccess::new(client, Arc::new(Environment::from_iter(variables)));
        Self {
            server,
            source: files(&access, uri),
            writers: [files(&access, uri), files(&access, uri)],
            python: None,
            access: Some((access, uri.to_owned())),
        }
    }

    async fn directory() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let models = directory.path().join("50% of team a & b/models");
        std::fs::create_dir_all(&models).unwrap();
        let uri = models.display().to_string();
        Self::of_files(
            Server::Directory {
                _directory: directory,
            },
            &uri,
            Vec::new(),
        )
    }

    async fn s3() -> Self {
        let server = S3Server::start().await;
        let (uri, variables) = (format!("s3://{BUCKET}/some/where"), server.variables());
        Self::of_files(Server::S3(server), &uri, variables)
    }

    async fn google() -> Self {
        let server = Imitation::start(Dialect::Google).await;
        let (uri, variables) = (format!("gs://{BUCKET}/some/where"), server.variables());
        Self::of_files(Server::Imitation(server), &uri, variables)
    }

    async fn azure() -> Self {
        let server = Imitation::start(Dialect::Azure).await;
        let (uri, variables) = (format!("az://{BUCKET}/some/where"), server.variables());
        Self::of_files(Server::Imitation(server), &uri, variables)
    }

    async fn mlflow() -> Self {
        let server = MlflowServer::start("", &[], &[]).await;
        let python = MlflowClient::start(&server, &[]);
        let client = || {
            let environment = Arc::new(Environment::default());
            Arc::new(Mlflow::new(&server.url, &NetworkConfig::default(), environment).unwrap())
        };
        Self {
            source: client(),
            writers: [client(), client()],
            python: Some(python),
            access: None,
            server: Server::Mlflow(server),
        }
    }

    async fn register(&mut self) {
        match &mut self.python {
            None => {
                let registered = self.writers[0].register(&name(NAME), &iris()).await;
                registered.unwrap();
            }
            Some(python) => {
                let graph = iris().join("model.onnx").display().to_string();
                python
                    .eval(&format!("register('{NAME}', '{graph}')['version']"))
                    .await;
            }
        }
    }

    async fn everything(&self) -> Result<RegistryState, SourceError> {
        let query = Query {
            everything: true,
            ..Query::default()
        };
        self.source.snapshot(&query).await
    }

    /// The model, asked for alone; the whole list must say the same.
    async fn model(&self) -> RegisteredModel {
        let query = Query {
            models: [name(NAME)].into(),
            ..Query::default()
        };
        let mut alone = self.source.snapshot(&query).await.unwrap();
        let all = self.everything().await.unwrap();
        assert_eq!(alone.models[&name(NAME)], all.models[&name(NAME)]);
        alone.models.remove(&name(NAME)).unwrap()
    }

    async fn alias(&self, text: &str, version: u64) {
        let (alias, id) = (alias(text), id(version));
        self.writers[0].set_alias(&alias, &id).await.unwrap();
    }

    async fn stage(&self, stage: Stage, version: u64) {
        // As MLflow keeps those that are there in their stage, when it is not told otherwise.
        let archives = matches!(stage, Stage::Staging | Stage::Production);
        let (id, writer) = (id(version), &self.writers[1]);
        writer.transition(&id, stage, archives).await.unwrap();
    }

    async fn package(&self, version: u64) -> PackageRef {
        let query = Query {
            models: [name(NAME)].into(),
            versions: [id(version)].into(),
            ..Query::default()
        };
        let state = self.source.snapshot(&query).await.unwrap();
        let model = &state.models[&name(NAME)];
        model.package(&name(NAME), Version(version)).unwrap()
    }
}

fn read(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (name, path) = (entry.file_name().into_string().unwrap(), entry.path());
        if path.is_dir() {
            let below = read(&path).into_iter();
            found.extend(below.map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
    found
}

async fn an_empty_registry_says_so(scene: &Scene) {
    assert!(scene.everything().await.unwrap().models.is_empty());
}

async fn versions_aliases_stages_and_latest_are_told(scene: &mut Scene) {
    scene.register().await;
    let model = scene.model().await;
    assert_eq!(model.latest, Some(Version(1)));
    assert!(model.aliases.is_empty(), "{model:?}");
    scene.register().await;
    scene.alias("champion", 1).await;
    scene.stage(Stage::Production, 2).await;
    let model = scene.model().await;
    assert_eq!(model.latest, Some(Version(2)));
    assert_eq!(model.aliases, [(alias("champion"), Version(1))].into());
    assert_eq!(model.stages.get(&Stage::Production), Some(&Version(2)));
    let known: Vec<u64> = model.versions.keys().map(|version| version.0).collect();
    assert_eq!(known, [1, 2], "each version that is pointed to is told");
    for (which, version) in [
        (Which::Latest, Some(2)),
        (Which::Version(Version(1)), Some(1)),
        (Which::Pointer(Pointer::Alias(alias("champion"))), Some(1)),
        (Which::Pointer(Pointer::Stage(Stage::Production)), Some(2)),
        (Which::Pointer(Pointer::Stage(Stage::Staging)), None),
        (Which::Pointer(Pointer::Alias(alias("nobody"))), None),
    ] {
        assert_eq!(model.resolve(&which), version.map(Version), "{which:?}");
    }
    let revisions = |version| model.versions[&Version(version)].revision.clone();
    assert_ne!(revisions(1), revisions(2), "versions can be told apart");
}

async fn moves_are_seen(scene: &mut Scene) {
    scene.alias("champion", 2).await;
    scene.stage(Stage::Production, 1).await;
    scene.stage(Stage::Staging, 2).await;
    let model = scene.model().await;
    assert_eq!(model.aliases, [(alias("champion"), Version(2))].into());
    let stages = [Stage::Production, Stage::Staging].map(|stage| model.stages.get(&stage).copied());
    assert_eq!(stages, [Some(Version(1)), Some(Version(2))]);
    // A version that changes its stage is no longer in the other one.
    scene.stage(Stage::Production, 2).await;
    let model = scene.model().await;
    assert_eq!(model.stages.get(&Stage::Production), Some(&Version(2)));
    assert_eq!(model.stages.get(&Stage::Staging), None);
    scene.stage(Stage::Archived, 2).await;
    assert_eq!(scene.model().await.stages.get(&Stage::Production), None);
    let (name, champion) = (name(NAME), alias("champion"));
    for writer in &scene.writers {
        writer.delete_alias(&name, &champion).await.unwrap();
    }
    assert!(scene.model().await.aliases.is_empty());
}

async fn what_does_not_exist_is_not_found(scene: &Scene) {
    for writer in &scene.writers {
        for error in [
            writer.set_alias(&alias("a"), &id(9)).await.unwrap_err(),
            writer
                .transition(&id(9), Stage::Staging, false)
                .await
                .unwrap_err(),
        ] {
            assert!(matches!(error, SourceError::NotFound(_)), "{error:?}");
        }
    }
    let query = Query {
        models: [name("nobody.knows it"), name(NAME)].into(),
        versions: [id(9)].into(),
        ..Query::default()
    };
    let state = scene.source.snapshot(&query).await.unwrap();
    assert_eq!(state.models.len(), 1, "what does not exist is left out");
    let model = &state.models[&name(NAME)];
    assert!(!model.versions.contains_key(&Version(9)));
    let known = scene.package(1).await;
    let missing = PackageRef {
        id: id(9),
        location: known.location.replace("versions/1", "versions/9"),
        ..known
    };
    let directory = tempfile::tempdir().unwrap();
    let error = scene.source.fetch(&missing, directory.path()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, SourceError::NotFound(_)), "{error:?}");
    assert!(!error.is_transient());
}

async fn files_come_as_they_are_and_leftovers_are_repaired(scene: &Scene) {
    let package = scene.package(1).await;
    let directory = tempfile::tempdir().unwrap();
    scene
        .source
        .fetch(&package, directory.path())
        .await
        .unwrap();
    let whole = read(directory.path());
    let graph = std::fs::read(iris().join("model.onnx")).unwrap();
    assert_eq!(whole["model.onnx"], graph);
    let opened = Package::open(directory.path()).unwrap();
    if scene.python.is_none() {
        assert_eq!(whole, read(&iris()), "every file, and no other");
        assert_eq!(package.digest.as_ref(), Some(&opened.digest));
    }
    // What an earlier attempt has left: half a file, none, and one that is too long.
    let damage = |name: &str, bytes: Option<&[u8]>| {
        let path = directory.path().join(name);
        match bytes {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
    };
    damage("model.onnx", Some(&graph[..100]));
    scene
        .source
        .fetch(&package, directory.path())
        .await
        .unwrap();
    damage("MLmodel", None);
    damage("model.onnx", Some(&graph.repeat(2)));
    scene
        .source
        .fetch(&package, directory.path())
        .await
        .unwrap();
    assert!(read(directory.path()) == whole, "as in the first place");
    assert_eq!(
        Package::open(directory.path()).unwrap().digest,
        opened.digest
    );
}

async fn a_version_that_is_not_complete_cannot_be_had(scene: &mut Scene) {
    scene.register().await;
    if let Some((access, uri)) = &scene.access {
        let uri = match &scene.server {
            Server::Directory { .. } => format!("file://{uri}"),
            _ => uri.clone(),
        };
        let (store, root) = access.open(&uri.parse().unwrap()).unwrap();
        let versions = root.join("my%20iris%20v2.1").join("versions");
        let versions = object_store::path::Path::parse(versions.as_ref().replace("%25", "%"));
        let versions = versions.unwrap();
        let half = versions.clone().join("4").join("model.onnx");
        let half = store.put(&half, PutPayload::from_static(b"half"));
        half.await.unwrap();
        assert_eq!(scene.model().await.latest, Some(Version(3)));
        store.delete(&versions.join("3.json")).await.unwrap();
        assert_eq!(scene.model().await.latest, Some(Version(2)));
        let error = scene.writers[0].set_alias(&alias("a"), &id(3)).await;
        assert!(matches!(error, Err(SourceError::NotFound(_))), "{error:?}");
        // A number that was given once is not given again.
        scene.register().await;
        assert_eq!(scene.model().await.latest, Some(Version(4)));
    } else if let Some(python) = &mut scene.python {
        let set = "sql('mlflow.db', \"update model_versions set status = 'PENDING_REGISTRATION' where version = 3\")";
        python.eval(set).await;
        let model = scene.model().await;
        let package = model.package(&name(NAME), Version(3));
        let pending = NotLoadable::Unready("PENDING_REGISTRATION".to_owned());
        assert_eq!(package, Err(pending));
    }
}

/// Of files only: MLflow's own server keeps those who write apart.
async fn writers_at_once_lose_nothing(scene: &mut Scene) {
    let register = |writer: usize| {
        let writer = Arc::clone(&scene.writers[writer]);
        tokio::spawn(async move { writer.register(&name(NAME), &iris()).await.unwrap().0 })
    };
    let tasks = [0, 1, 0, 1].map(register);
    let mut given = Vec::new();
    for task in tasks {
        given.push(task.await.unwrap());
    }
    given.sort_unstable();
    let first = given[0];
    let expected: Vec<u64> = (first..first + 4).collect();
    assert_eq!(given, expected, "everyone has a number of their own");

    // One version goes on to Production while another one takes its place in Staging.
    let [one, other] = [&scene.writers[0], &scene.writers[1]];
    let [staged, next] = [id(first), id(first + 1)];
    for _ in 0..4 {
        scene.stage(Stage::Staging, first).await;
        let (one, other) = tokio::join!(
            one.transition(&staged, Stage::Production, true),
            other.transition(&next, Stage::Staging, true),
        );
        one.and(other).unwrap();
        let stages = scene.model().await.stages;
        let expected = [
            (Stage::Staging, Version(first + 1)),
            (Stage::Production, Version(first)),
        ];
        assert_eq!(stages, expected.into(), "neither change is lost");
    }
    let set = |writer: &Arc<dyn RegistryWriter>, version| {
        let writer = Arc::clone(writer);
        async move { writer.set_alias(&alias("champion"), &id(version)).await }
    };
    let all = tokio::join!(set(one, 1), set(other, 2), set(one, 2), set(other, 1));
    for result in [all.0, all.1, all.2, all.3] {
        result.unwrap();
    }
    assert!(matches!(
        scene.model().await.aliases[&alias("champion")].0,
        1 | 2
    ));
}

async fn a_refusal_is_an_error_and_no_empty_registry(scene: &Scene) {
    let package = scene.package(1).await;
    let (client, network) = (&scene.source, NetworkConfig::default());
    let source: Arc<dyn Source> = match &scene.server {
        Server::Directory { .. } => return,
        Server::S3(server) => {
            server.refuse(true).await;
            Arc::clone(client)
        }
        Server::Imitation(imitation) => {
            imitation.refuse(true);
            Arc::clone(client)
        }
        // Without users there is nobody to refuse: see `mlflow_registry.rs`. A wrong path is refused by every server.
        Server::Mlflow(server) => {
            let elsewhere = format!("{}/elsewhere", server.url);
            Arc::new(Mlflow::new(&elsewhere, &network, Arc::new(Environment::default())).unwrap())
        }
    };
    let query = Query {
        everything: true,
        models: [name(NAME)].into(),
        ..Query::default()
    };
    let directory = tempfile::tempdir().unwrap();
    let looked = source.snapshot(&query).await.map(drop);
    let fetched = source.fetch(&package, directory.path()).await;
    for error in [looked.unwrap_err(), fetched.unwrap_err()] {
        let is_refusal = matches!(error, SourceError::Unauthenticated { .. });
        let is_elsewhere = matches!(error, SourceError::Status { status: 404, .. });
        assert!(is_refusal || is_elsewhere, "{error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert!(read(directory.path()).is_empty(), "nothing was written");
    match &scene.server {
        Server::S3(server) => server.refuse(false).await,
        Server::Imitation(imitation) => imitation.refuse(false),
        Server::Directory { .. } | Server::Mlflow(_) => {}
    }
    assert_eq!(scene.everything().await.unwrap().models.len(), 1);
}

async fn what_has_gone_is_an_error_and_no_empty_registry(scene: Scene) {
    let package = scene.package(1).await;
    let source = Arc::clone(&scene.source);
    drop(scene);
    let query = Query {
        everything: true,
        models: [name(NAME)].into(),
        ..Query::default()
    };
    let looked = source.snapshot(&query).await;
    let error = looked.unwrap_err();
    assert!(
        matches!(error, SourceError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(error.is_transient());
    let directory = tempfile::tempdir().unwrap();
    let fetched = source.fetch(&package, directory.path()).await;
    fetched.unwrap_err();
    assert!(read(directory.path()).is_empty(), "nothing was written");
}

#[rstest]
#[case::google(Scene::google())]
#[case::azure(Scene::azure())]
#[tokio::test]
async fn a_look_at_a_store_reads_only_what_has_changed(
    #[future]
    #[case]
    scene: Scene,
) {
    let mut scene = scene.await;
    for _ in 0..3 {
        scene.register().await;
    }
    scene.alias("champion", 1).await;
    scene.stage(Stage::Production, 2).await;
    let Server::Imitation(imitation) = &scene.server else {
        unreachable!("both are imitations");
    };
    let asked = async || {
        imitation.gets();
        scene.everything().await.unwrap();
        imitation.gets()
    };
    assert_eq!(asked().await, 5, "three versions and two pointers");
    assert_eq!(asked().await, 0);
    scene.alias("champion", 3).await;
    assert_eq!(asked().await, 1);
    assert_eq!(scene.model().await.aliases[&alias("champion")], Version(3));
}

#[rstest]
#[case::directory(Scene::directory())]
#[case::s3(Scene::s3())]
#[case::google(Scene::google())]
#[case::azure(Scene::azure())]
#[case::mlflow(Scene::mlflow())]
#[tokio::test]
async fn a_source_does_what_every_source_does(
    #[future]
    #[case]
    scene: Scene,
) {
    let mut scene = scene.await;
    an_empty_registry_says_so(&scene).await;
    versions_aliases_stages_and_latest_are_told(&mut scene).await;
    moves_are_seen(&mut scene).await;
    what_does_not_exist_is_not_found(&scene).await;
    files_come_as_they_are_and_leftovers_are_repaired(&scene).await;
    a_version_that_is_not_complete_cannot_be_had(&mut scene).await;
    if scene.python.is_none() {
        writers_at_once_lose_nothing(&mut scene).await;
    }
    a_refusal_is_an_error_and_no_empty_registry(&scene).await;
    what_has_gone_is_an_error_and_no_empty_registry(scene).await;
}
