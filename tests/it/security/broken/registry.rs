//! The same in a registry: what is wrong with one model is its own affair.

use std::fs;
use std::path::{Path, PathBuf};

use onstage::model::Content;
use serde_json::json;
use tempfile::TempDir;

use super::kinds::package;
use super::{is_ready, listed};
use crate::lifecycle::swap::scene::{
    answering, candidate_failures, counter, metrics, registry, until, until_answering,
};
use crate::support::onnx::{save, times};
use crate::support::server::{Server, Starter};

const SKLEARN: &str = "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n    model_path: model.pkl\n  \
                       sklearn:\n    pickled_model: model.pkl\n";

/// A registry of files.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        Self { directory }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("models")
    }

    fn uri(&self) -> String {
        self.root().to_str().unwrap().to_owned()
    }

    /// A new version without the checks of `onstage registry register`.
    fn add(&self, model: &str, version: u64, files: impl Fn(&Path)) {
        let versions = self.root().join(model).join("versions");
        let place = versions.join(version.to_string());
        fs::create_dir_all(&place).unwrap();
        files(&place);
        let digest = Content::read(&place).unwrap().digest;
        let record = json!({ "created": "2026-01-01T00:00:00Z", "digest": digest });
        self.write(
            model,
            &format!("versions/{version}.json"),
            &record.to_string(),
        );
    }

    /// Replaces a record, or an alias, in one step.
    fn write(&self, model: &str, file: &str, text: &str) {
        let path = self.root().join(model).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let written = self.directory.path().join("written");
        fs::write(&written, text).unwrap();
        fs::rename(written, path).unwrap();
    }

    fn champion(&self, model: &str, version: u64) {
        self.write(model, "aliases/champion", &version.to_string());
    }

    async fn follow(&self, flags: &[&str]) -> Server {
        let uri = self.uri();
        let cache = self.directory.path().join("cache");
        let fixed = [
            "--registry",
            &uri,
            "--follow",
            "@champion",
            "--cache-dir",
            cache.to_str().unwrap(),
        ];
        Server::start(&[&fixed, flags].concat()).await
    }
}

fn good(place: &Path) {
    package(place);
}

fn sklearn(place: &Path) {
    fs::write(place.join("MLmodel"), SKLEARN).unwrap();
    fs::write(place.join("model.pkl"), "no pickle").unwrap();
}

/// Nothing that an alert of the chart would page for.
async fn nobody_is_paged(server: &Server, model: &str) {
    let text = metrics(server).await;
    let failed = format!(r#"onstage_model_state{{model="{model}",state="failed""#);
    for line in text.lines().filter(|line| line.starts_with(&failed)) {
        assert!(line.ends_with(" 0"), "{line}");
    }
    let out_of_sync = format!("onstage_model_out_of_sync_seconds{{model=\"{model}\"}} 0\n");
    assert!(text.contains(&out_of_sync), "{text}");
}

#[tokio::test]
async fn a_version_that_is_no_onnx_package_is_unsupported_until_the_alias_moves_on() {
    let files = Files::new();
    files.add("scale", 1, good);
    files.champion("scale", 1);
    files.add("forest", 1, sklearn);
    files.champion("forest", 1);
    let server = files.follow(&[]).await;
    is_ready(&server).await;
    assert_eq!(
        answering(&server, "/models/scale/invocations").await,
        Some(1)
    );
    let [(version, state, reason)] = listed(&server, "forest").await.try_into().unwrap();
    assert_eq!((version.as_str(), state.as_str()), ("1", "UNAVAILABLE"));
    for part in [
        "unsupported",
        "mlflow.sklearn",
        "`onstage-convert …/1 -o forest-onnx`",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
    let state = r#"onstage_model_state{model="forest",state="unsupported",version="1"} 1"#;
    assert!(metrics(&server).await.contains(state));
    assert_eq!(candidate_failures(&server).await, 0);
    nobody_is_paged(&server, "forest").await;
    let status = Starter::command(&["status", "--url", &server.url("")])
        .run()
        .await;
    assert!(status.stdout.contains("unsupported"), "{}", status.stdout);

    // The same in the place of a version that serves.
    files.add("scale", 2, sklearn);
    files.champion("scale", 2);
    let refused = r#"onstage_candidate_failures_total{model="scale",reason="no_onnx_model"}"#;
    until("it is never refused", &server, async || {
        counter(&server, refused).await == 1
    })
    .await;
    assert_eq!(
        answering(&server, "/models/scale/invocations").await,
        Some(1)
    );
    is_ready(&server).await;
    nobody_is_paged(&server, "scale").await;

    for (model, version) in [("scale", 3), ("forest", 2)] {
        files.add(model, version, good);
        files.champion(model, version);
        until_answering(&server, &format!("/models/{model}/invocations"), version).await;
        nobody_is_paged(&server, model).await;
    }
    is_ready(&server).await;
    server.terminate().await;
}

#[tokio::test]
async fn records_that_cannot_be_read_concern_their_own_model_only() {
    let files = Files::new();
    for model in ["good", "other"] {
        files.add(model, 1, good);
        files.champion(model, 1);
    }
    let break_it = || {
        files.write("other", "aliases/champion", "one");
        files.add("good", 2, good);
        files.champion("good", 2);
    };
    break_it();
    let server = files.follow(&[]).await;
    is_ready(&server).await;
    assert_eq!(
        answering(&server, "/models/good/invocations").await,
        Some(2)
    );
    let [(version, state, reason)] = listed(&server, "other").await.try_into().unwrap();
    assert_eq!((version.as_str(), state.as_str()), ("", "UNAVAILABLE"));
    assert!(reason.contains("records of it cannot be read"), "{reason}");
    assert!(server.stderr().contains("aliases/champion"));
    let (status, answer) = server
        .post_json("/models/other/invocations", r#"{"inputs": [[1, 1]]}"#)
        .await;
    assert_eq!(status, 503, "{answer}");
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("records of it cannot be read"),
        "{answer}"
    );

    files.champion("other", 1);
    until_answering(&server, "/models/other/invocations", 1).await;
    for (file, garbage) in [
        ("versions/1.json", "{"),
        ("versions/1.json", "[]"),
        ("aliases/champion", "7"),
        ("aliases/champion", "one"),
        ("stages/Production", "\u{0}"),
    ] {
        let path = files.root().join("other").join(file);
        let before = fs::read_to_string(&path).unwrap_or_default();
        files.write("other", file, garbage);
        // Later than the broken record, and seen all the same.
        let version = if answering(&server, "/models/good/invocations").await == Some(2) {
            1
        } else {
            2
        };
        files.champion("good", version);
        until_answering(&server, "/models/good/invocations", version).await;
        assert_eq!(
            answering(&server, "/models/other/invocations").await,
            Some(1),
            "{file} {garbage}"
        );
        is_ready(&server).await;
        files.write("other", file, &before);
    }
    server.terminate().await;
}

#[tokio::test]
async fn what_a_file_system_can_do_to_a_registry_concerns_one_model() {
    let files = Files::new();
    files.add("good", 1, good);
    files.champion("good", 1);
    let root = files.root();
    let link = |to: &str, at: &str| {
        let path = root.join(at);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(to, path).unwrap();
    };
    link("champion", "a/aliases/champion");
    link("b", "b");
    link("..", "c/round");
    link("gone", "d");
    fs::create_dir_all(root.join("e/versions/1.json")).unwrap();
    fs::create_dir_all(root.join("f/aliases/champion")).unwrap();
    fs::create_dir_all(root.join("g")).unwrap();
    fs::write(root.join("h"), "a file").unwrap();
    files.write("i", "versions/1.json", "\u{fffd}");
    let server = files.follow(&[]).await;
    is_ready(&server).await;
    assert_eq!(
        answering(&server, "/models/good/invocations").await,
        Some(1)
    );
    let [(_, state, _)] = listed(&server, "i").await.try_into().unwrap();
    assert_eq!(state, "UNAVAILABLE");
    server.terminate().await;
}

/// A version whose files are not what its record says, or cannot be had.
#[tokio::test]
async fn files_that_cannot_be_fetched_do_not_keep_a_server_from_being_ready() {
    let files = Files::new();
    files.add("good", 1, good);
    files.champion("good", 1);
    files.add("gone", 1, good);
    files.champion("gone", 1);
    fs::remove_dir_all(files.root().join("gone/versions/1")).unwrap();
    files.add("altered", 1, good);
    files.champion("altered", 1);
    save(
        &times(6.0),
        &files.root().join("altered/versions/1/model.onnx"),
    );
    let server = files.follow(&[]).await;
    is_ready(&server).await;
    assert_eq!(
        answering(&server, "/models/good/invocations").await,
        Some(1)
    );
    for (model, says) in [("gone", ""), ("altered", "digest")] {
        let [(_, _, reason)] = listed(&server, model).await.try_into().unwrap();
        assert!(reason.contains(says), "{model}: {reason}");
    }
    // What is tried again and again, or comes later, does not take the others out of rotation.
    files.add("later", 1, |place| {
        drop(fs::write(place.join("model.onnx"), "cut"))
    });
    files.champion("later", 1);
    let failed = r#"onstage_candidate_failures_total{model="later",reason="invalid_package"}"#;
    until("it never fails", &server, async || {
        is_ready(&server).await;
        counter(&server, failed).await > 0
    })
    .await;
    server.terminate().await;
}

#[tokio::test]
async fn a_model_of_the_registry_that_is_not_required_may_be_missing() {
    let files = Files::new();
    let local = files.directory.path().join("local");
    package(&local);
    let config = files.directory.path().join("onstage.toml");
    let text = format!(
        "[models.local]\nsource = {local:?}\n[models.absent]\nsource = \"models:/nobody@champion\"\nrequired = false\n\
         [models.numbered]\nsource = \"models:/scale/7\"\nrequired = false\n"
    );
    fs::write(&config, text).unwrap();
    let uri = files.uri();
    let cache = files.directory.path().join("cache");
    let arguments = [
        "--config",
        config.to_str().unwrap(),
        "--registry",
        &uri,
        "--cache-dir",
        cache.to_str().unwrap(),
    ];
    // There is no such directory yet.
    let server = Server::start(&arguments).await;
    is_ready(&server).await;
    assert_eq!(
        answering(&server, "/models/local/invocations").await,
        Some(1)
    );
    for model in ["absent", "numbered"] {
        let [(_, state, reason)] = listed(&server, model).await.try_into().unwrap();
        assert_eq!(state, "UNAVAILABLE");
        assert!(reason.contains("cannot be reached"), "{reason}");
    }
    let gauge = r#"onstage_model_state{model="absent",state="failed",version=""} 1"#;
    assert!(metrics(&server).await.contains(gauge));
    files.add("scale", 1, good);
    until("the registry is read", &server, async || {
        let rows = listed(&server, "absent").await;
        rows[0].2 == "the registry does not have `models:/nobody@champion`"
    })
    .await;
    files.add("nobody", 1, good);
    files.champion("nobody", 1);
    until_answering(&server, "/models/absent/invocations", 1).await;
    assert!(!metrics(&server).await.contains(gauge));
    // As it is at the start of another server.
    let again = Server::start(&arguments).await;
    is_ready(&again).await;
    assert_eq!(
        answering(&again, "/models/absent/invocations").await,
        Some(1)
    );
    assert_eq!(listed(&again, "numbered").await.len(), 1);
    let server = again;
    server.terminate().await;

    // A required one is missed.
    let required = fs::read_to_string(&config)
        .unwrap()
        .replace("required = false", "");
    fs::write(&config, required).unwrap();
    let ended = Starter::serve(&arguments).run().await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stderr.contains("does not have `models:/scale/7`"),
        "{}",
        ended.stderr
    );
    registry(&["list", "--registry", &uri]).await;
}
