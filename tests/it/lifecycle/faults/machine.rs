//! Disks that are full or read-only, processes that are killed, clocks that jump.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::json;

use super::{TAG, follow, one_model, until_champion};
use crate::lifecycle::swap::scene::{Load, answering, counter, until};

/// A disk of its own, for as long as this lives.
pub(crate) struct Disk(tempfile::TempDir);

impl Disk {
    /// `None` where this process may not mount: in most containers.
    pub(crate) fn of(kibibytes: u32) -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let size = format!("size={kibibytes}k");
        let mounted = mount(&["-t", "tmpfs", "-o", &size, "onstage-test"], disk.path());
        if let Err(error) = mounted {
            not_tried(&error);
            return None;
        }
        Some(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// As much as there is; the last write fails.
    pub(crate) fn fill(&self) {
        let _ = fs::write(self.path().join("filler"), vec![1; 2 << 20]);
    }

    /// Has room again, and can be written to.
    pub(crate) async fn recover(&self) {
        self.remount("rw").await;
        let _ = fs::remove_file(self.path().join("filler"));
    }

    fn text(&self) -> &str {
        self.path().to_str().unwrap()
    }

    /// The kernel closes the files of a process that was killed a moment after it is gone; until then the disk is busy.
    pub(crate) async fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let mut tries = 0;
        while let Err(error) = mount(&["-o", &options], self.path()) {
            tries += 1;
            assert!(tries < 100, "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

#[expect(clippy::print_stderr, reason = "what was not tried has to be said")]
fn not_tried(error: &str) {
    eprintln!("NOT TRIED: this process may not mount a small disk: {error}");
}

fn mount(arguments: &[&str], path: &Path) -> Result<(), String> {
    let mounted = Command::new("mount").args(arguments).arg(path).output();
    let output = mounted.map_err(|error| format!("mount: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn a_full_disk_stops_the_next_version_and_not_the_one_that_serves() {
    let Some(disk) = Disk::of(256) else { return };
    let (script, mlflow) = one_model().await;
    let server = follow(&mlflow, &["--cache-dir", disk.text()]).await;
    let body = json!({ "inputs": [[1.0, 1.0]] });
    let load = Load::with(&server, "/models/m/invocations", 2, &body);
    let filler = disk.path().join("filler");
    // As much as there is; the last write fails.
    let _ = fs::write(&filler, vec![1; 256 << 10]);
    script.champion(2);
    let failed = r#"onstage_candidate_failures_total{model="m",reason="fetch"}"#;
    until("the full disk is never noticed", &server, async || {
        counter(&server, failed).await > 0
    })
    .await;
    server.logged(&["No space left on device"]).await;
    assert_eq!(answering(&server, "/models/m/invocations").await, Some(1));
    fs::remove_file(filler).unwrap();
    until_champion(&server, 2).await;
    let (sent, failed) = load.end().await;
    assert!(sent > 100 && failed.is_empty(), "{sent}: {failed:?}");
}

#[tokio::test]
async fn a_cache_that_turns_read_only_is_read_and_a_new_process_writes_elsewhere() {
    let Some(disk) = Disk::of(1024) else { return };
    let (script, mlflow) = one_model().await;
    let flags = ["--cache-dir", disk.text()];
    let server = follow(&mlflow, &flags).await;
    until("it is never written down", &server, async || {
        fs::read_dir(disk.path().join("refs")).unwrap().count() == 1
    })
    .await;
    drop(server);
    disk.remount("ro").await;
    mlflow.asked();
    let server = follow(&mlflow, &flags).await;
    assert_eq!(answering(&server, "/models/m/invocations").await, Some(1));
    let fetched = mlflow
        .asked()
        .iter()
        .any(|asked| asked.path.ends_with("model.onnx"));
    assert!(!fetched, "it was there");
    script.champion(2);
    until_champion(&server, 2).await;
    server.logged(&["it is only read"]).await;
}

/// The file that is being fetched.
fn half(cache: &Path) -> Option<PathBuf> {
    let downloads = fs::read_dir(cache.join("downloads")).ok()?;
    let files = downloads.map(|entry| entry.unwrap().path().join("model.onnx"));
    { files }.find(|file| fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0))
}

#[tokio::test]
async fn a_download_that_was_killed_is_continued_and_half_of_it_is_never_served() {
    let cache = tempfile::tempdir().unwrap();
    let (script, mlflow) = one_model().await;
    let flags = ["--cache-dir", cache.path().to_str().unwrap()];
    let server = follow(&mlflow, &flags).await;
    script.stall();
    script.champion(2);
    until("the download never begins", &server, async || {
        half(cache.path()).is_some()
    })
    .await;
    assert_eq!(answering(&server, "/models/m/invocations").await, Some(1));
    // As `kill -9` does.
    drop(server);
    assert!(half(cache.path()).is_some());

    script.change(|answers| {
        answers.graph = Some(Box::new(|asked, graph| {
            let range = asked.header("range");
            let Some(from) = range
                .strip_prefix("bytes=")
                .and_then(|range| range.strip_suffix('-'))
            else {
                return graph.to_vec().into_response();
            };
            let from: usize = from.parse().unwrap();
            let whole = graph.len();
            assert_eq!(asked.header("if-range"), TAG);
            let headers = [
                (
                    "content-range",
                    format!("bytes {from}-{}/{whole}", whole - 1),
                ),
                ("etag", TAG.to_owned()),
            ];
            (StatusCode::PARTIAL_CONTENT, headers, graph[from..].to_vec()).into_response()
        }));
    });
    mlflow.asked();
    let server = follow(&mlflow, &flags).await;
    until_champion(&server, 2).await;
    let asked = mlflow.asked();
    let ranges: Vec<&str> = asked
        .iter()
        .map(|asked| asked.header("range"))
        .filter(|range| !range.is_empty())
        .collect();
    assert_eq!(ranges, ["bytes=20-"]);
}

#[tokio::test]
async fn two_processes_share_a_cache_and_one_is_killed() {
    let cache = tempfile::tempdir().unwrap();
    let (script, mlflow) = one_model().await;
    let flags = [
        "--cache-dir",
        cache.path().to_str().unwrap(),
        "--cache-size",
        "1B",
    ];
    let first = follow(&mlflow, &flags).await;
    let second = follow(&mlflow, &flags).await;
    // The first one is killed while it fetches what the second one wants too.
    script.stall();
    script.champion(2);
    until("the download never begins", &first, async || {
        half(cache.path()).is_some()
    })
    .await;
    drop(first);
    script.change(|answers| answers.graph = None);
    drop(follow(&mlflow, &flags).await);
    assert!(answering(&second, "/models/m/invocations").await.is_some());
    script.champion(3);
    until_champion(&second, 3).await;
}

#[tokio::test]
async fn a_clock_that_jumps_changes_no_decision() {
    let cache = tempfile::tempdir().unwrap();
    let (script, mlflow) = one_model().await;
    let flags = ["--cache-dir", cache.path().to_str().unwrap()];
    let server = follow(&mlflow, &flags).await;
    until("nothing is written down", &server, async || {
        let count = |name: &str| fs::read_dir(cache.path().join(name)).unwrap().count();
        count("refs") == 1 && count("known") == 1
    })
    .await;
    drop(server);
    script.instead(|| StatusCode::INTERNAL_SERVER_ERROR.into_response());
    for at in [
        SystemTime::UNIX_EPOCH,
        SystemTime::now() + Duration::from_secs(1 << 32),
    ] {
        for directory in ["known", "packages", "refs"] {
            for entry in fs::read_dir(cache.path().join(directory)).unwrap() {
                let file = fs::File::open(entry.unwrap().path()).unwrap();
                file.set_modified(at).unwrap();
            }
        }
        let server = follow(&mlflow, &flags).await;
        assert_eq!(answering(&server, "/models/m/invocations").await, Some(1));
        server.logged(&["serving the last known state"]).await;
    }
}
