//! Models that cannot be opened, read, parsed or served, beside a good one: each is listed with its reason, and the good
//! one serves.

mod kinds;
mod random;
mod registry;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use self::kinds::{Kind, kinds, package};
use crate::lifecycle::swap::scene::metrics;
use crate::support::onnx::{save, times};
use crate::support::server::{Server, Starter};

/// The answer of the good package to `[1, 1]`, on the way that names it.
async fn good_answers(server: &Server, model: &str) {
    let path = format!("/models/{model}/invocations");
    let body = json!({ "inputs": [[1.0, 1.0]] }).to_string();
    let (status, answer) = server.post_json(&path, body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["predictions"]["y"], json!([[5.0, 5.0]]));
}

/// State and reason of a model's versions, by the repository index.
async fn listed(server: &Server, model: &str) -> Vec<(String, String, String)> {
    let (_, index) = server.post_json("/v2/repository/index", "{}").await;
    let rows = index.as_array().unwrap().iter();
    let rows = rows.filter(|row| row["name"] == model);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    rows.map(|row| {
        (
            text(&row["version"]),
            text(&row["state"]),
            text(&row["reason"]),
        )
    })
    .collect()
}

/// What of a broken model is not told as it should be: it is listed with its reason everywhere, and requests for it are
/// told it.
async fn untold(server: &Server, kind: &Kind, model: &str) -> Option<String> {
    let Kind {
        what, says, state, ..
    } = kind;
    let rows = listed(server, model).await;
    let [(_, "UNAVAILABLE", reason)] = rows
        .iter()
        .map(|(version, state, reason)| (version.as_str(), state.as_str(), reason.as_str()))
        .collect::<Vec<_>>()[..]
    else {
        return Some(format!("{what}: {rows:?}"));
    };
    if reason.is_empty() || reason.contains('\n') || !reason.contains(says) {
        return Some(format!("{what}: {reason}"));
    }
    let gauge = format!(r#"onstage_model_state{{model="{model}",state="{state}",version="1"}} 1"#);
    if !metrics(server).await.contains(&gauge) {
        return Some(format!("{what}: {gauge}"));
    }
    let path = format!("/models/{model}/invocations");
    let (status, answer) = server.post_json(&path, r#"{"inputs": [[1.0, 1.0]]}"#).await;
    if status != 503 || !answer["message"].as_str().unwrap().contains(says) {
        return Some(format!("{what}: {answer}"));
    }
    let ready = server.get(&format!("/v2/models/{model}/ready")).await;
    (ready.status() != 503).then(|| format!("{what}: ready"))
}

/// The same for all, given a few seconds: what cannot be read is tried again, and is loading for a moment then.
async fn are_told(server: &Server, bad: &[(String, Kind)]) {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let mut wrong = Vec::new();
        for (name, kind) in bad.iter().filter(|(_, kind)| kind.is_seen) {
            wrong.extend(untold(server, kind, name).await);
        }
        if wrong.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{wrong:#?}");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn is_ready(server: &Server) {
    assert_eq!(
        server.get("/v2/health/ready").await.status(),
        200,
        "{}",
        server.stderr()
    );
    assert_eq!(server.get("/ping").await.status(), 200);
}

/// A name for each kind.
fn names() -> impl Iterator<Item = (String, Kind)> {
    let kinds = kinds().into_iter().enumerate();
    kinds.map(|(number, kind)| (format!("kind{number:02}"), kind))
}

fn write_config(directory: &Path, models: &[(&str, &Path, bool)]) -> PathBuf {
    let mut text = String::new();
    for (name, source, required) in models {
        let _ = writeln!(
            text,
            "[models.{name}]\nsource = {source:?}\nrequired = {required}"
        );
    }
    let path = directory.join("onstage.toml");
    fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn models_of_the_configuration_that_are_not_required_are_listed_with_their_reasons() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    let good = root.join("good");
    package(&good);
    // A configuration file may name what no directory has.
    let all = names().map(|(name, kind)| {
        (
            name,
            Kind {
                is_seen: true,
                ..kind
            },
        )
    });
    let bad: Vec<_> = all.collect();
    let sources: Vec<_> = { bad.iter() }
        .map(|(name, kind)| kind.make(root, name))
        .collect();
    let mut models: Vec<(&str, &Path, bool)> = vec![("good", &good, true)];
    let optional = bad.iter().zip(&sources);
    models.extend(optional.map(|((name, _), source)| (name.as_str(), source.as_path(), false)));
    let config = write_config(root, &models);
    let server = Server::start(&["--config", config.to_str().unwrap()]).await;
    is_ready(&server).await;
    good_answers(&server, "good").await;
    are_told(&server, &bad).await;
    let url = server.url("");
    let status = Starter::command(&["status", "--url", &url]).run().await;
    for (name, kind) in &bad {
        let mut lines = status.stdout.lines();
        let line = lines.find(|line| line.contains(name.as_str()));
        assert!(line.is_some(), "{}: {}", kind.what, status.stdout);
    }
    assert!(status.stdout.contains("UNAVAILABLE"), "{}", status.stdout);
    server.terminate().await;
}

#[tokio::test]
async fn packages_of_a_directory_are_listed_with_their_reasons() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    package(&root.join("good"));
    let bad: Vec<_> = names().collect();
    for (name, kind) in &bad {
        kind.make(root, name);
    }
    let server = Server::start(&[root.to_str().unwrap()]).await;
    is_ready(&server).await;
    good_answers(&server, "good").await;
    are_told(&server, &bad).await;
    for (name, _) in bad.iter().filter(|(_, kind)| !kind.is_seen) {
        assert_eq!(listed(&server, name).await, []);
    }
    server.terminate().await;
}

#[tokio::test]
async fn each_of_them_alone_beside_a_good_one_leaves_it_its_name() {
    for (name, kind) in names() {
        let directory = TempDir::new().unwrap();
        let root = directory.path();
        save(&times(5.0), &root.join("good.onnx"));
        kind.make(root, &name);
        let server = Server::start(&[root.to_str().unwrap()]).await;
        is_ready(&server).await;
        let alone = kind.what == "nothing" || kind.what == "another file";
        if !alone {
            good_answers(&server, "good").await;
        }
    }
}

#[tokio::test]
async fn a_required_model_ends_the_server_with_its_reason() {
    let mut wrong = Vec::new();
    for (name, kind) in names() {
        let directory = TempDir::new().unwrap();
        let root = directory.path();
        let good = root.join("good");
        package(&good);
        let source = kind.make(root, &name);
        let config = write_config(root, &[("good", &good, true), ("bad", &source, true)]);
        for arguments in [
            vec!["--config", config.to_str().unwrap()],
            vec![good.to_str().unwrap(), source.to_str().unwrap()],
        ] {
            if kind.is_several && arguments[0] != "--config" {
                continue;
            }
            let ended = Starter::serve(&arguments).try_start().await;
            let ended = ended
                .err()
                .unwrap_or_else(|| panic!("{} serves", kind.what));
            assert_eq!(ended.status.code(), Some(1), "{}", kind.what);
            if !ended.stderr.contains(kind.says) {
                wrong.push(format!("{}: {}", kind.what, ended.stderr));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[tokio::test]
async fn a_directory_of_which_nothing_serves_ends_the_server_with_the_reasons() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    // One cannot be opened, the other one not be compiled.
    for (name, what) in [("one", "a text"), ("two", "an operator that nobody has")] {
        let kind = kinds().into_iter().find(|kind| kind.what == what).unwrap();
        kind.make(root, name);
    }
    let ended = Starter::serve(&[root.to_str().unwrap()]).run().await;
    assert_eq!(ended.status.code(), Some(1));
    for part in [
        "one version 1",
        "is a text file",
        "two version 1",
        "Enchant",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    fs::remove_file(root.join("two.onnx")).unwrap();
    fs::write(root.join("two.onnx"), "").unwrap();
    let ended = Starter::serve(&[root.to_str().unwrap()]).run().await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stderr.contains("none of the 2 packages"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn the_good_versions_of_a_tree_serve_without_the_broken_ones() {
    let directory = TempDir::new().unwrap();
    let tree = directory.path().join("fraud");
    package(&tree.join("2"));
    fs::create_dir_all(tree.join("1")).unwrap();
    fs::create_dir_all(tree.join("3")).unwrap();
    fs::write(tree.join("3/model.onnx"), "cut").unwrap();
    fs::create_dir_all(tree.join("v4")).unwrap();
    std::os::unix::fs::symlink("gone", tree.join("5")).unwrap();
    fs::write(tree.join("6"), "a file").unwrap();
    let config = write_config(directory.path(), &[("fraud", &tree, true)]);
    for arguments in [
        vec![tree.to_str().unwrap()],
        vec![directory.path().to_str().unwrap()],
        vec!["--config", config.to_str().unwrap()],
    ] {
        let server = Server::start(&arguments).await;
        is_ready(&server).await;
        good_answers(&server, "fraud").await;
        let rows = listed(&server, "fraud").await;
        let states: Vec<_> = rows
            .iter()
            .map(|(version, state, _)| (version.as_str(), state.as_str()))
            .collect();
        let broken = "UNAVAILABLE";
        assert_eq!(
            states,
            [
                ("1", broken),
                ("2", "READY"),
                ("3", broken),
                ("5", broken),
                ("6", broken)
            ]
        );
        assert!(
            rows.iter()
                .all(|(_, state, reason)| state == "READY" || !reason.is_empty())
        );
    }
}

#[tokio::test]
async fn of_two_packages_of_one_version_the_one_that_opens_serves() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    let note = "model_name: fraud\nmodel_version: '3'\n";
    for name in ["a", "b", "c"] {
        package(&root.join(name));
        fs::write(root.join(name).join("registered_model_meta"), note).unwrap();
    }
    fs::write(root.join("a/MLmodel"), "{[").unwrap();
    let server = Server::start(&[root.to_str().unwrap()]).await;
    is_ready(&server).await;
    good_answers(&server, "fraud").await;
    let [(_, _, broken)] = listed(&server, "a").await.try_into().unwrap();
    assert!(broken.contains("is not a valid `MLmodel` file"), "{broken}");
    let [(_, _, twin)] = listed(&server, "c").await.try_into().unwrap();
    assert!(twin.contains("are both model `fraud` version 3"), "{twin}");
    assert_eq!(listed(&server, "b").await, []);
}

#[tokio::test]
async fn a_name_that_a_directory_may_have_and_a_model_may_not_is_listed_as_the_nearest_one() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    package(&root.join("good"));
    package(&root.join("stats"));
    package(&root.join("a:b"));
    package(&root.join("noted"));
    fs::write(root.join("noted/registered_model_meta"), "model_name: a/b").unwrap();
    let server = Server::start(&[root.to_str().unwrap()]).await;
    is_ready(&server).await;
    good_answers(&server, "good").await;
    for (name, invalid) in [("stats_", "`stats`"), ("a_b", "`a:b`"), ("noted", "`a/b`")] {
        let [(_, state, reason)] = listed(&server, name).await.try_into().unwrap();
        assert_eq!(state, "UNAVAILABLE");
        assert!(
            reason.contains("invalid model name") && reason.contains(invalid),
            "{reason}"
        );
    }
}
