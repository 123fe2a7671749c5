use std::time::Duration;

use super::*;
use crate::model::{Alias, ModelId, ModelName, Stage, Version};
use crate::registry::{Environment, RegistryWriter};

const IRIS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/model-examples/iris");

fn registry(directory: &FilePath) -> StoreRegistry {
    crate::network::install_provider();
    let client = reqwest::Client::new();
    let access = ObjectAccess::new(client, Arc::new(Environment::new(&[])));
    StoreRegistry::open(directory.to_str().unwrap(), access).unwrap()
}

fn id(version: u64) -> ModelId {
    ModelId {
        name: ModelName::new("my iris").unwrap(),
        version: Version(version),
    }
}

fn alias(text: &str) -> Alias {
    Alias::new(text).unwrap()
}

async fn filled(versions: u64) -> (tempfile::TempDir, StoreRegistry) {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(directory.path());
    for _ in 0..versions {
        registry
            .register(&id(1).name, FilePath::new(IRIS))
            .await
            .unwrap();
    }
    (directory, registry)
}

async fn everything(registry: &StoreRegistry) -> RegistryState {
    let query = Query {
        everything: true,
        ..Query::default()
    };
    registry.snapshot(&query).await.unwrap()
}

#[tokio::test]
async fn what_is_written_is_read() {
    let (directory, registry) = filled(3).await;
    registry
        .set_alias(&alias("champion"), &id(2))
        .await
        .unwrap();
    registry
        .transition(&id(1), Stage::Production, false)
        .await
        .unwrap();
    registry
        .transition(&id(3), Stage::Production, true)
        .await
        .unwrap();
    registry
        .transition(&id(1), Stage::Staging, false)
        .await
        .unwrap();
    let state = everything(&registry).await;
    let model = &state.models[&id(1).name];
    assert_eq!(model.latest, Some(Version(3)));
    assert_eq!(model.aliases, [(alias("champion"), Version(2))].into());
    let stages = [
        (Stage::Staging, Version(1)),
        (Stage::Production, Version(3)),
    ];
    assert_eq!(model.stages, stages.into());
    let pointer = directory.path().join("my%20iris/stages/Production");
    assert_eq!(std::fs::read_to_string(pointer).unwrap(), "3");
    let history = std::fs::read_dir(directory.path().join("my%20iris/history")).unwrap();
    assert_eq!(history.count(), 7, "one object for each change");

    registry
        .transition(&id(3), Stage::Archived, false)
        .await
        .unwrap();
    registry
        .delete_alias(&id(1).name, &alias("champion"))
        .await
        .unwrap();
    registry
        .delete_alias(&id(1).name, &alias("nobody"))
        .await
        .unwrap();
    let state = everything(&registry).await;
    let model = &state.models[&id(1).name];
    assert!(model.aliases.is_empty());
    assert_eq!(model.stages, [(Stage::Staging, Version(1))].into());
}

#[tokio::test]
async fn a_package_comes_back_as_it_was() {
    let (_directory, registry) = filled(1).await;
    let state = everything(&registry).await;
    let package = state.models[&id(1).name]
        .package(&id(1).name, Version(1))
        .unwrap();
    let fetched = tempfile::tempdir().unwrap();
    registry.fetch(&package, fetched.path()).await.unwrap();
    let opened = crate::model::Package::open(fetched.path()).unwrap();
    assert_eq!(Some(opened.digest), package.digest);
}

#[tokio::test]
async fn a_graph_alone_is_registered_without_what_lies_beside_it() {
    let files = tempfile::tempdir().unwrap();
    let graph = files.path().join("flowers.onnx");
    std::fs::copy(FilePath::new(IRIS).join("model.onnx"), &graph).unwrap();
    for beside in ["MLmodel", "secret.txt", "other.onnx"] {
        std::fs::write(files.path().join(beside), "nobody's business").unwrap();
    }
    let (_directory, registry) = filled(1).await;
    let version = registry.register(&id(1).name, &graph).await.unwrap();
    assert_eq!(version, Version(2));
    let state = everything(&registry).await;
    let package = state.models[&id(1).name].package(&id(1).name, version);
    let package = package.unwrap();
    let original = crate::model::Package::open(&graph).unwrap();
    assert_eq!(package.digest.as_ref(), Some(&original.digest));
    let fetched = tempfile::tempdir().unwrap();
    registry.fetch(&package, fetched.path()).await.unwrap();
    let stored = std::fs::read_dir(fetched.path()).unwrap();
    let stored: Vec<_> = stored.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(stored, ["flowers.onnx"]);
}

#[tokio::test]
async fn those_who_register_at_once_get_different_versions() {
    let directory = tempfile::tempdir().unwrap();
    let registries = [(); 4].map(|()| registry(directory.path()));
    let name = id(1).name;
    let register = |registry: &'static StoreRegistry| {
        let name = name.clone();
        tokio::spawn(async move {
            registry
                .register(&name, FilePath::new(IRIS))
                .await
                .unwrap()
                .0
        })
    };
    let mut versions = Vec::new();
    for task in registries.map(|registry| register(Box::leak(Box::new(registry)))) {
        versions.push(task.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, [1, 2, 3, 4]);
}

#[tokio::test]
async fn writers_of_a_directory_wait_for_each_other_and_readers_for_nobody() {
    let (directory, registry) = filled(1).await;
    let path = directory.path().join("my%20iris/.lock");
    let other = std::fs::File::create(path).unwrap();
    other.lock().unwrap();
    let (alias, id) = (alias("champion"), id(1));
    let set = registry.set_alias(&alias, &id);
    let mut set = std::pin::pin!(set);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut set).await;
    assert!(early.is_err(), "it waits");
    everything(&registry).await;
    drop(other);
    set.await.unwrap();
    let model = &everything(&registry).await.models[&id.name];
    assert_eq!(model.aliases.get(&alias), Some(&Version(1)));
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_and_not_an_empty_registry() {
    let (directory, registry) = filled(1).await;
    registry
        .set_alias(&alias("champion"), &id(1))
        .await
        .unwrap();
    let model = directory.path().join("my%20iris");
    for (file, garbage, reason) in [
        ("aliases/champion", "one", "aliases/champion"),
        (
            "aliases/champion",
            "7",
            "points to version 7, which does not exist",
        ),
        ("versions/1.json", "{", "versions/1.json"),
    ] {
        let good = std::fs::read(model.join(file)).unwrap();
        std::fs::write(model.join(file), garbage).unwrap();
        let query = Query {
            everything: true,
            ..Query::default()
        };
        let error = registry.snapshot(&query).await.unwrap_err();
        assert!(matches!(error, SourceError::Malformed { .. }), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
        std::fs::write(model.join(file), good).unwrap();
    }
    everything(&registry).await;
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let (_directory, registry) = filled(1).await;
    let error = registry
        .set_alias(&alias("a"), &id(5))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("model `my iris` has no version 5") && error.ends_with("it has `1`"),
        "{error}"
    );
    let other = ModelName::new("rose").unwrap();
    let error = registry
        .delete_alias(&other, &alias("a"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("no model `rose`"), "{error}");
}

#[tokio::test]
async fn a_change_is_told_by_the_file_system() {
    let (_directory, registry) = filled(1).await;
    let changes = registry.changes().unwrap();
    registry
        .set_alias(&alias("champion"), &id(1))
        .await
        .unwrap();
    tokio::time::timeout(Duration::from_secs(10), changes.notified())
        .await
        .unwrap();
}

#[test]
fn a_store_of_mlflow_is_not_taken_for_a_registry() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("0")).unwrap();
    std::fs::write(directory.path().join("0/meta.yaml"), "").unwrap();
    crate::network::install_provider();
    let access = ObjectAccess::new(reqwest::Client::new(), Arc::new(Environment::new(&[])));
    let error = StoreRegistry::open(directory.path().to_str().unwrap(), access).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("mlflow server --backend-store-uri"),
        "{error}"
    );
}
