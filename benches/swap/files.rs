//! A registry of files, made for the occasion.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use onstage::model::{ModelId, ModelName, Version};
use onstage::network::{self, NetworkConfig};
use onstage::registry::{Alias, Environment, ObjectAccess, RegistryWriter, StoreRegistry};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::Scale;
use crate::server::{Server, Starter, onnxruntime};

/// How long a version may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nothing stays loaded beside what serves, so that each swap loads.
pub(crate) const EACH_SWAP_LOADS: &str = "keep_previous = 0\nprobation = '0s'";

/// See the module.
pub(crate) struct Files {
    directory: TempDir,
    registry: StoreRegistry,
}

impl Files {
    pub(crate) fn new() -> Self {
        network::install_provider();
        let directory = tempfile::tempdir().unwrap();
        let client = network::client(&NetworkConfig::default()).unwrap();
        let access = ObjectAccess::new(client, Arc::new(Environment::new(&[])));
        let models = directory.path().join("models");
        let registry = StoreRegistry::open(models.to_str().unwrap(), access).unwrap();
        Self {
            directory,
            registry,
        }
    }

    /// Where files that are not of the registry may be put.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Version N of `model` multiplies by N. Version 1 is the champion.
    pub(crate) async fn add_times(&self, model: &str, versions: u64) {
        for version in 1..=versions {
            let graph = self.directory().join(format!("times-{version}.onnx"));
            crate::onnx::save(&crate::onnx::times(version as f32), &graph);
            self.add_graph(model, &graph).await;
        }
        self.promote(model, 1).await;
    }

    /// Versions 1 and 2 of what the script beside this file makes under the name `model`; version 1 is the champion.
    pub(crate) async fn add_generated(&self, model: &str) {
        // The Python in whose directory the library is.
        let library = PathBuf::from(onnxruntime());
        let mut above = library.ancestors().map(|path| path.join("bin/python"));
        let python = above.find(|python| python.is_file()).expect("`make venv`");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/harness/models.py");
        let mut command = Command::new(python);
        let made = command.args([script, model]).arg(self.directory()).status();
        assert!(made.unwrap().success(), "{script} {model}");
        for version in [1, 2] {
            let graph = self.directory().join(format!("{model}-{version}.onnx"));
            self.add_graph(model, &graph).await;
        }
        self.promote(model, 1).await;
    }

    async fn add_graph(&self, model: &str, graph: &Path) {
        let package = graph.with_extension("package");
        if !package.exists() {
            let example = graph.with_extension("example.json");
            let [graph, package, example] =
                [graph, &package, &example].map(|path| path.to_str().unwrap());
            let mut arguments = vec!["package", graph, "-o", package];
            if Path::new(example).exists() {
                arguments.extend(["--input-example", example]);
            }
            let made = Starter::command(&arguments).run().await;
            assert_eq!(made.status.code(), Some(0), "{}", made.stderr);
        }
        self.add_package(model, &package).await;
    }

    pub(crate) async fn add_package(&self, model: &str, package: &Path) {
        let name = ModelName::new(model).unwrap();
        self.registry.register(&name, package).await.unwrap();
    }

    /// Moves the alias `champion`.
    pub(crate) async fn promote(&self, model: &str, version: u64) {
        let id = ModelId {
            name: ModelName::new(model).unwrap(),
            version: Version(version),
        };
        let champion = Alias::new("champion").unwrap();
        self.registry.set_alias(&champion, &id).await.unwrap();
    }

    /// A server for these targets, with the same settings for each of `models`.
    pub(crate) async fn serve(&self, models: &[&str], settings: &str, scale: &Scale) -> Server {
        let sections = models
            .iter()
            .map(|model| format!("[models.{model}]\n{settings}\n"));
        let config = self.directory().join("onstage.toml");
        std::fs::write(&config, sections.collect::<String>()).unwrap();
        let targets: Vec<String> = models
            .iter()
            .map(|model| format!("models:/{model}@champion"))
            .collect();
        let registry = self.directory().join("models");
        let cache = self.directory().join("cache");
        let mut arguments: Vec<&str> = targets.iter().map(String::as_str).collect();
        arguments.extend(["--registry", registry.to_str().unwrap()]);
        arguments.extend(["--config", config.to_str().unwrap()]);
        arguments.extend(["--cache-dir", cache.to_str().unwrap()]);
        arguments.extend(["--engine", &scale.engine, "--default-model", models[0]]);
        Server::start(&arguments).await
    }
}

/// How many versions the server has announced as being on stage, the first one included.
pub(crate) fn announced(server: &Server) -> usize {
    server.stderr().matches("\"on stage\"").count()
}

/// Waits until that many versions have been announced.
pub(crate) async fn until_announced(server: &Server, count: usize) {
    let wait = async {
        while announced(server) < count {
            sleep(Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, wait).await.is_err() {
        panic!("no {count} versions came on stage: {}", server.stderr());
    }
}
