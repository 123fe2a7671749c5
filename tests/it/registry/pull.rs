//! `onstage pull`: from a registry into a directory, which then stands in for it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::mlflow_server::{MlflowClient, MlflowServer};
use crate::support::server::{Ended, Starter};

const IRIS: &str = "model-examples/iris";

async fn onstage(arguments: &[&str]) -> Ended {
    Starter::command(arguments).run().await
}

async fn fine(arguments: &[&str]) -> String {
    let ended = onstage(arguments).await;
    assert!(ended.status.success(), "{arguments:?}: {}", ended.stderr);
    ended.stdout
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A registry of files with two different versions of `my iris`, and a place for copies of them.
async fn registry(directory: &Path) -> (PathBuf, PathBuf) {
    let other = directory.join("other");
    std::fs::create_dir(&other).unwrap();
    for name in ["MLmodel", "model.onnx"] {
        let from = crate::support::server::project().join(IRIS).join(name);
        std::fs::copy(from, other.join(name)).unwrap();
    }
    let (from, to) = (directory.join("models"), directory.join("out"));
    let models = text(&from);
    for package in [IRIS, text(&other)] {
        let register = [
            "registry",
            "register",
            "my iris",
            package,
            "--registry",
            models,
        ];
        fine(&register).await;
    }
    fine(&[
        "registry",
        "alias",
        "my iris",
        "champion",
        "2",
        "--registry",
        models,
    ])
    .await;
    fine(&[
        "registry",
        "transition",
        "my iris",
        "1",
        "Production",
        "--registry",
        models,
    ])
    .await;
    (from, to)
}

#[tokio::test]
async fn what_was_pulled_is_called_by_its_model() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = registry(directory.path()).await;
    let uri = "models:/my iris/1";
    fine(&["pull", uri, "--registry", text(&from), "-o", text(&to)]).await;
    let version = to.join("my%20iris/versions/1");
    let verified = fine(&["verify", text(&version)]).await;
    assert!(
        verified.starts_with("my iris version 1 passed"),
        "{verified}"
    );
}

#[tokio::test]
async fn versions_come_with_the_pointers_that_were_asked_for_and_once_only() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = registry(directory.path()).await;
    let (from, to) = (text(&from), text(&to));
    let pull = [
        "pull",
        "models:/my iris@champion",
        "--registry",
        from,
        "-o",
        to,
    ];
    let expected = "  model    version  stages, aliases\n  my iris  2        @champion        ";
    assert_eq!(fine(&pull).await, format!("{expected}copied\n"));
    assert_eq!(fine(&pull).await, format!("{expected}was there already\n"));
    let list = ["registry", "list", "--registry", to, "--json"];
    let listed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let only = json!([{"name": "my iris", "latest": 2, "stages": {}, "aliases": {"champion": 2}}]);
    assert_eq!(listed(&fine(&list).await), only);

    // The pointer moves there, and the new one comes along.
    fine(&[
        "registry",
        "alias",
        "my iris",
        "champion",
        "1",
        "--registry",
        from,
    ])
    .await;
    let follow = ["--follow", "Production", "--follow", "@champion", "--json"];
    let pulled = fine(&[&["pull", "--registry", from, "-o", to], &follow[..]].concat()).await;
    let mut pulled = listed(&pulled);
    let digest = pulled[0]["digest"].take();
    assert!(digest.as_str().unwrap().starts_with("sha256:"), "{digest}");
    let expected = json!([{
        "model": "my iris",
        "version": 1,
        "digest": null,
        "pointers": ["@champion", "Production"],
        "copied": true,
    }]);
    assert_eq!(pulled, expected);
    let both = json!([{
        "name": "my iris",
        "latest": 2,
        "stages": {"Production": 1},
        "aliases": {"champion": 1},
    }]);
    assert_eq!(listed(&fine(&list).await), both);
    let nobody = ["--follow", "@champion", "--filter", "fraud-*", "--json"];
    let none = fine(&[&["pull", "--registry", from, "-o", to], &nobody[..]].concat()).await;
    assert_eq!(listed(&none), json!([]));
}

#[tokio::test]
async fn another_package_under_the_same_number_is_refused_and_leftovers_are_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = registry(directory.path()).await;
    let (from, to) = (text(&from), text(&to));
    // An attempt that was killed has left half a package and a file that is none of it.
    let place = directory.path().join("out/my%20iris/versions");
    std::fs::create_dir_all(place.join("1")).unwrap();
    std::fs::write(place.join("1.reserved"), "imported").unwrap();
    std::fs::write(place.join("1/model.onnx"), "half").unwrap();
    std::fs::write(place.join("1/stale.txt"), "old").unwrap();
    let pull = ["pull", "models:/my iris/1", "--registry", from, "-o", to];
    fine(&pull).await;
    assert!(!place.join("1/stale.txt").exists());
    fine(&["inspect", "--no-measure", text(&place.join("1"))]).await;

    let different = directory.path().join("other");
    let other = directory.path().join("elsewhere");
    let register = ["registry", "register", "my iris", text(&different)];
    fine(&[&register[..], &["--registry", text(&other)]].concat()).await;
    let pull = [
        "pull",
        "models:/my iris/1",
        "--registry",
        text(&other),
        "-o",
        to,
    ];
    let refused = onstage(&pull).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.stderr.contains("version 1 of model `my iris` in `")
            && refused.stderr.contains("is another package"),
        "{}",
        refused.stderr
    );

    // A number that somebody is registering is not taken away.
    std::fs::write(place.join("2.reserved"), "").unwrap();
    let pull = ["pull", "models:/my iris/2", "--registry", from, "-o", to];
    let refused = onstage(&pull).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.stderr.contains("is being registered by somebody"),
        "{}",
        refused.stderr
    );
    let missing = ["pull", "models:/my iris/9", "--registry", from, "-o", to];
    let missing = onstage(&missing).await;
    assert!(
        missing.stderr.contains("does not have `models:/my iris/9`"),
        "{}",
        missing.stderr
    );
    let left: Vec<_> = std::fs::read_dir(to)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["my%20iris"], "nothing on its way is left");
}

#[tokio::test]
async fn what_was_pulled_from_mlflow_serves_when_mlflow_is_down() {
    let mlflow = MlflowServer::start("", &[], &[]).await;
    let mut python = MlflowClient::start(&mlflow, &[]);
    for call in [
        "register('scale', times(1))",
        "register('scale', times(2))",
        "client.set_registered_model_alias('scale', 'champion', '2')",
        "client.transition_model_version_stage('scale', '1', 'Production')",
        // A model that is no ONNX graph is followed by nobody.
        "client.create_registered_model('python').name",
        "(lambda run: [client.log_text(run.info.run_id, 'flavors: {python_function: {loader_module: x}}', 'model/MLmodel'), \
         client.create_model_version('python', run.info.artifact_uri + '/model', run.info.run_id).version])(client.create_run('0'))",
        "client.set_registered_model_alias('python', 'champion', '1')",
    ] {
        python.eval(call).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let to = text(directory.path());
    let pull = [
        "pull",
        "models:/scale/Production",
        "--follow",
        "@champion",
        "--registry",
        &mlflow.url,
        "-o",
        to,
    ];
    let pulled = onstage(&pull).await;
    assert!(pulled.status.success(), "{}", pulled.stderr);
    let expected = "  model  version  stages, aliases\n  scale  1        Production       copied\n  \
                    scale  2        @champion        copied\n";
    assert_eq!(pulled.stdout, expected);
    assert!(
        pulled
            .stderr
            .contains("note: python version 1 is left out: "),
        "{}",
        pulled.stderr
    );
    let again = onstage(&pull).await;
    assert_eq!(
        again.stdout,
        expected.replace("copied", "was there already")
    );
    let named = [
        "pull",
        "models:/python/1",
        "--registry",
        &mlflow.url,
        "-o",
        to,
    ];
    let named = onstage(&named).await;
    assert!(
        named.stderr.contains("python version 1 is no package"),
        "{}",
        named.stderr
    );

    let url = mlflow.url.clone();
    drop((python, mlflow));
    let fallback = ["--registry", &url, "--registry-fallback", to];
    let follow = ["--follow", "@champion", "--follow", "Production"];
    let server = Starter::serve(&[&fallback[..], &follow[..]].concat())
        .start()
        .await;
    for (path, factor) in [
        ("/invocations", 2.0),
        ("/models/scale/stages/Production/invocations", 1.0),
    ] {
        let (status, answer) = server.post_json(path, r#"{"inputs": [[3.0]]}"#).await;
        assert_eq!(
            (status, &answer["predictions"]["y"][0][0]),
            (200, &json!(3.0 * factor)),
            "{path}"
        );
    }
    server.terminate().await;
}
