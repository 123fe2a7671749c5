//! The payload log: the real binary writes it, and what others wrote reads it. Commands of `docs/guides/payload-log.md`.

mod kept;
mod outage;
mod places;
mod readers;
mod replay;
mod truth;

use std::path::{Path, PathBuf};
use std::time::Duration;

use onstage::payload::LogFile;
use tempfile::TempDir;

use crate::support::server::{Server, Starter, project};

pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Directories of a server that logs.
pub(super) struct Place {
    directory: TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// What makes a server log there.
    pub(super) fn flags(&self) -> Vec<String> {
        let uri = format!("file://{}", self.log().display());
        let cache = self.path("cache").display().to_string();
        [
            "--payload-log",
            &uri,
            "--cache-dir",
            &cache,
            "--payload-roll",
            "1s",
        ]
        .map(str::to_owned)
        .into()
    }

    pub(super) fn starter(&self, model: &str, more: &[&str]) -> Starter {
        let flags = self.flags();
        let flags = flags.iter().map(String::as_str);
        let arguments: Vec<&str> = [model]
            .into_iter()
            .chain(flags)
            .chain(more.iter().copied())
            .collect();
        Starter::serve(&arguments)
    }

    pub(super) async fn serve(&self, model: &str, more: &[&str]) -> Server {
        self.starter(model, more).start().await
    }

    /// The files in the log, in the order of their paths.
    pub(super) fn files(&self) -> Vec<LogFile> {
        let log = self.log();
        let paths = paths(&log).into_iter();
        let read = |path: PathBuf| {
            let name = path.strip_prefix(&log).unwrap().display().to_string();
            LogFile::parse(&name, std::fs::read(&path).unwrap().into()).unwrap()
        };
        paths.map(read).collect()
    }

    /// Waits until the log has so many rows, and nothing is on its way any more.
    pub(super) async fn rows(&self, rows: usize) -> Vec<LogFile> {
        let counted = || {
            let files = self.files();
            files.iter().map(|file| file.rows.num_rows()).sum::<usize>()
        };
        let is_waiting = |path: &PathBuf| path.iter().any(|part| part == "ready");
        let arrived = async {
            while counted() < rows || paths(&self.path("cache")).iter().any(is_waiting) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let arrived = tokio::time::timeout(PATIENCE, arrived).await;
        assert!(arrived.is_ok(), "{} of {rows} rows came", counted());
        self.files()
    }
}

/// The Parquet files below a directory, sorted.
pub(super) fn paths(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rest = vec![directory.to_owned()];
    while let Some(directory) = rest.pop() {
        let entries = std::fs::read_dir(directory).into_iter().flatten();
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                rest.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "parquet")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The texts of a column in all files.
pub(super) fn texts(files: &[LogFile], column: &str) -> Vec<Option<String>> {
    files
        .iter()
        .flat_map(|file| file.texts(column).unwrap())
        .collect()
}

/// The value of a series, 0 when there is none.
pub(super) async fn metric(server: &Server, series: &str) -> f64 {
    let page = server.get("/metrics").await.text().await.unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0.0, |value| value.trim().parse().unwrap())
}

pub(super) fn example(file: &str) -> String {
    std::fs::read_to_string(project().join("model-examples").join(file)).unwrap()
}
