//! Models are loaded at a lower priority than they run at.

use std::collections::BTreeSet;
use std::fs;

use crate::support::server::{Server, Starter};

use super::scene::until;

/// The nice value of threads that run models: below that of connections, above that of loading.
const RUNS: i32 = 5;

/// The names of the process's threads with a lower priority than runs, but for those that fetch, which never serve.
fn slow_threads(server: &Server) -> Vec<String> {
    let slow = threads(server).into_iter();
    let slow = slow.filter(|(name, nice)| *nice > RUNS && name != "fetch");
    slow.map(|(name, _)| name).collect()
}

/// The different nice values of the threads whose names begin so.
fn nice_values(server: &Server, name: &str) -> Vec<i32> {
    let named = threads(server).into_iter();
    let named = named.filter(|(other, _)| other.starts_with(name));
    let values: BTreeSet<i32> = named.map(|(_, nice)| nice).collect();
    values.into_iter().collect()
}

/// The process's threads with their nice values.
fn threads(server: &Server) -> Vec<(String, i32)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.process_id())).unwrap();
    let thread = |task: std::io::Result<fs::DirEntry>| {
        // It may have ended by now.
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).ok()?;
        let (name, fields) = stat.rsplit_once(')')?;
        let nice = fields.split_whitespace().nth(16)?.parse().ok()?;
        Some((name.split_once('(')?.1.to_owned(), nice))
    };
    tasks.filter_map(thread).collect()
}

#[tokio::test]
async fn what_was_loaded_while_others_serve_does_not_run_at_the_priority_of_loading() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (models, shared, own) = (path("models"), path("shared"), path("own"));
    for package in [&shared, &own] {
        let graph = "model-examples/iris/model.onnx";
        let made = Starter::command(&["package", graph, "-o", package]).run();
        assert_eq!(made.await.status.code(), Some(0));
    }
    // One more thread than the pool that all models share.
    let threads = std::thread::available_parallelism().unwrap().get() + 1;
    let manifest = format!("{own}/MLmodel");
    let written = fs::read_to_string(&manifest).unwrap();
    let option = format!("onnx_session_options:\n      intra_op_num_threads: {threads}\n");
    let written = written.replace("onnx_session_options: null\n", &option);
    fs::write(&manifest, &written).unwrap();
    let registry = async |arguments: &[&str]| {
        let command = [&["registry"], arguments, &["--registry", &models]].concat();
        let ended = Starter::command(&command).run().await;
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    };
    registry(&["register", "first", &shared]).await;
    registry(&["alias", "first", "champion", "1"]).await;
    let config = path("onstage.toml");
    let engine = "[models.first]\nengine = 'tract'\n";
    fs::write(&config, engine).unwrap();
    let follow = ["--registry", &models, "--follow", "@champion"];
    let rest = ["--config", &config, "--engine", "onnxruntime"];
    let server = Server::start(&[follow, rest].concat()).await;
    for (name, package) in [("shared", &shared), ("own", &own)] {
        registry(&["register", name, package]).await;
        registry(&["alias", name, "champion", "1"]).await;
        let ready = format!("/v2/models/{name}/ready");
        until("it never came", &server, async || {
            server.get(&ready).await.status() == 200
        })
        .await;
        // The thread that loaded it ends at about that time.
        until("slow threads stay", &server, async || {
            slow_threads(&server).is_empty()
        })
        .await;
    }
    assert_eq!(nice_values(&server, "runner-"), [RUNS]);
    assert_eq!(nice_values(&server, "http-"), [0]);
    server.terminate().await;
}
