//! A real `mlflow server`, and MLflow's own Python client, started for one test.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::server::{onnxruntime, project};

/// A busy machine takes a minute to import what MLflow imports.
const START_TIMEOUT: Duration = Duration::from_secs(180);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The Python that has MLflow: the one that `MLFLOW_PYTHON` names (`make mlflow-matrix` names others), else the one whose
/// ONNX Runtime the tests use.
pub(crate) fn python() -> PathBuf {
    if let Some(named) = std::env::var_os("MLFLOW_PYTHON") {
        return named.into();
    }
    let library = PathBuf::from(onnxruntime());
    let found = library
        .ancestors()
        .map(|directory| directory.join("bin/python"));
    let mut found = found.filter(|python| python.is_file());
    found.next().unwrap_or_else(|| {
        panic!(
            "no Python above `{}`, expected the library to be in a virtual environment with MLflow: run `make test`",
            library.display()
        )
    })
}

/// A command of that Python with nothing of this process's environment but `PATH` and what finds Python packages.
pub(crate) fn command(home: &Path) -> Command {
    let mut command = Command::new(python());
    command.env_clear().env("HOME", home).current_dir(home);
    for name in ["PATH", "PYTHONPATH"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("MLFLOW_DISABLE_TELEMETRY", "true")
        // Else a server starts eight processes for jobs that no test has, each of which imports MLflow.
        .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
        .env("GIT_PYTHON_REFRESH", "quiet")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
}

/// What lets a server of MLflow send webhooks to this machine.
pub(crate) const WEBHOOKS: [(&str, &str); 3] = [
    ("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http"),
    ("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true"),
    (
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY",
        "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    ),
];

/// A tracking server on a database of its own. Dropping it ends it and its workers.
pub(crate) struct MlflowServer {
    process: Child,
    home: TempDir,
    /// With the prefix.
    pub(crate) url: String,
}

impl MlflowServer {
    /// `mlflow server` with these arguments and variables; waits until it answers.
    pub(crate) async fn start(
        prefix: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let home = tempfile::tempdir().unwrap();
        let port = free_port();
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        let process = command(home.path())
            .args(["-m", "mlflow", "server", "--workers", "1"])
            .args(["--backend-store-uri", "sqlite:///mlflow.db"])
            .args(["--port", &port.to_string()])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{port}{prefix}");
        let mut server = Self { process, home, url };
        server.wait().await;
        server
    }

    async fn wait(&mut self) {
        onstage::network::install_provider();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let deadline = tokio::time::Instant::now() + START_TIMEOUT;
        loop {
            let health = client.get(format!("{}/health", self.url)).send().await;
            if health.is_ok_and(|response| response.status().is_success()) {
                return;
            }
            let ended = self.process.try_wait().unwrap();
            let late = tokio::time::Instant::now() > deadline;
            assert!(
                ended.is_none() && !late,
                "`mlflow server` does not answer ({ended:?}):\n{}",
                std::fs::read_to_string(self.home.path().join("log")).unwrap()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where it keeps its database.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }
}

impl Drop for MlflowServer {
    fn drop(&mut self) {
        if let Some(group) = self.process.id() {
            // The whole group: the workers outlive their parent otherwise.
            let script = format!("kill -TERM -{group}; sleep 0.3; kill -KILL -{group} 2>/dev/null");
            let _ = std::process::Command::new("sh")
                .args(["-c", &script])
                .status();
        }
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// MLflow's own client.
pub(crate) struct MlflowClient {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl MlflowClient {
    /// Of the server at `server.url`.
    pub(crate) fn start(server: &MlflowServer, environment: &[(&str, &str)]) -> Self {
        let mut process = command(server.home())
            .arg(project().join("tests/it/support/mlflow_client.py"))
            .arg(&server.url)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        Self {
            _process: process,
            input,
            output,
        }
    }

    /// The value of a Python expression.
    pub(crate) async fn eval(&mut self, expression: &str) -> Value {
        let line = format!("{}\n", Value::from(expression));
        self.input.write_all(line.as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.output.next_line()).await;
        let answer = answer.expect("Python answers in time").unwrap();
        let answer: Value = serde_json::from_str(&answer.expect("Python still runs")).unwrap();
        match answer.get("error") {
            Some(error) => panic!("`{expression}`: {error}"),
            None => answer["value"].clone(),
        }
    }
}

/// An HTTPS server that wants a client's certificate, with the certificates in a directory of its own.
pub(crate) struct TlsServer {
    _process: Child,
    directory: TempDir,
    pub(crate) url: String,
}

impl TlsServer {
    /// Waits until it listens.
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut process = command(directory.path())
            .arg(project().join("tests/it/support/tls_server.py"))
            .arg(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = tokio::time::timeout(START_TIMEOUT, output.next_line()).await;
        let port = port.unwrap().unwrap().expect("Python prints its port");
        Self {
            _process: process,
            directory,
            url: format!("https://127.0.0.1:{port}"),
        }
    }

    /// The PEM file `authority` or `client`.
    pub(crate) fn pem(&self, name: &str) -> String {
        let path = self.directory.path().join(format!("{name}.pem"));
        path.to_str().unwrap().to_owned()
    }
}
