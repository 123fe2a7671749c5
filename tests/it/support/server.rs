//! A real `onstage serve`, started for one test.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
const LOG_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The root of this project; relative paths in the arguments of [`Server::start`] begin here.
pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The library of ONNX Runtime that the tests use.
pub(crate) fn onnxruntime() -> String {
    let path = std::env::var("ORT_DYLIB_PATH").unwrap_or_default();
    assert!(
        Path::new(&path).is_file(),
        "`ORT_DYLIB_PATH` is `{path}`, expected the path of libonnxruntime: run `make test`, or set it to \
         `site-packages/onnxruntime/capi/libonnxruntime.so.*` of the Python package `onnxruntime`"
    );
    path
}

/// How a process ended before it served.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A command line for the binary, with nothing of this process's environment but `PATH`.
pub(crate) struct Starter {
    arguments: Vec<OsString>,
    environment: BTreeMap<String, OsString>,
    directory: PathBuf,
    reads_stderr: bool,
}

impl Starter {
    /// `onstage serve` with these arguments, on free ports.
    pub(crate) fn serve(arguments: &[&str]) -> Self {
        let fixed = ["--port", "0", "--grpc-port", "0"];
        Self {
            arguments: ["serve"]
                .iter()
                .chain(arguments)
                .chain(&fixed)
                .map(Into::into)
                .collect(),
            environment: BTreeMap::new(),
            directory: project().to_path_buf(),
            reads_stderr: true,
        }
    }

    /// Any command of the binary, exactly with these arguments.
    pub(crate) fn command(arguments: &[&str]) -> Self {
        Self {
            arguments: arguments.iter().map(Into::into).collect(),
            ..Self::serve(&[])
        }
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// Listens for HTTP on this port.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.arguments
            .extend(["--port".into(), port.to_string().into()]);
        self
    }

    /// Makes ONNX Runtime available.
    pub(crate) fn with_onnxruntime(self) -> Self {
        self.env("ORT_DYLIB_PATH", onnxruntime())
    }

    /// Starts in another directory than the root of the project.
    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.directory = directory.to_path_buf();
        self
    }

    /// Leaves what the process writes to stderr in the pipe, until that is full.
    pub(crate) fn with_unread_stderr(mut self) -> Self {
        self.reads_stderr = false;
        self
    }

    /// Waits until the server serves.
    pub(crate) async fn start(self) -> Server {
        match self.try_start().await {
            Ok(server) => server,
            Err(ended) => panic!(
                "the server ended with {} before it served\nstdout:\n{}\nstderr:\n{}",
                ended.status, ended.stdout, ended.stderr
            ),
        }
    }

    /// Waits until the server serves or has ended.
    pub(crate) async fn try_start(self) -> Result<Server, Ended> {
        let reads_stderr = self.reads_stderr;
        let mut process = self.spawn();
        let stdout = Transcript::of(process.stdout.take().unwrap());
        let stderr = if reads_stderr {
            Transcript::of(process.stderr.take().unwrap())
        } else {
            Transcript::of(tokio::io::empty())
        };
        let deadline = tokio::time::Instant::now() + START_TIMEOUT;
        loop {
            if let Some(http) = first_address(&stdout.text()) {
                onstage::network::install_provider();
                let client = reqwest::Client::builder()
                    .no_proxy()
                    .timeout(REQUEST_TIMEOUT)
                    .build()
                    .unwrap();
                return Ok(Server {
                    process,
                    http,
                    stdout,
                    stderr,
                    client,
                });
            }
            if let Some(status) = process.try_wait().unwrap() {
                return Err(Ended {
                    status,
                    stdout: stdout.rest().await,
                    stderr: stderr.rest().await,
                });
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "no address on stdout within {START_TIMEOUT:?}\nstdout:\n{}\nstderr:\n{}",
                stdout.text(),
                stderr.text()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Runs a command that ends by itself.
    pub(crate) async fn run(self) -> Ended {
        let process = self.spawn();
        let output = tokio::time::timeout(START_TIMEOUT, process.wait_with_output())
            .await
            .expect("the command ends in time")
            .unwrap();
        Ended {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn spawn(self) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onstage"));
        command
            .args(self.arguments)
            .current_dir(self.directory)
            .env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }
}

/// A server that has printed its address. Dropping it kills the process.
pub(crate) struct Server {
    process: Child,
    http: SocketAddr,
    stdout: Transcript,
    stderr: Transcript,
    client: reqwest::Client,
}

impl Server {
    /// `onstage serve` with these arguments; ONNX Runtime is there when they name it.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let starter = Starter::serve(arguments);
        if arguments.contains(&"onnxruntime") {
            starter.with_onnxruntime().start().await
        } else {
            starter.start().await
        }
    }

    /// The number of the process.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.id().expect("the server still runs")
    }

    /// Where gRPC is spoken.
    pub(crate) fn grpc_address(&self) -> SocketAddr {
        let block = self.stdout();
        let address = block
            .split_once("gRPC")
            .and_then(|(_, rest)| rest.split_whitespace().next());
        address
            .unwrap_or_else(|| panic!("no gRPC address in the block:\n{block}"))
            .parse()
            .unwrap()
    }

    /// Where the management API is, when it was asked for.
    pub(crate) fn admin_url(&self) -> String {
        let block = self.stdout();
        let line = block.lines().find(|line| line.trim().starts_with("admin"));
        let line = line.unwrap_or_else(|| panic!("no management API in the block:\n{block}"));
        line.split_whitespace().nth(1).unwrap().to_owned()
    }

    /// A request to be completed; the connections of one server are shared and kept.
    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// Where HTTP is spoken.
    pub(crate) fn address(&self) -> SocketAddr {
        self.http
    }

    /// The URL of a path that begins with `/`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// What the process has written to stdout so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What the process has written to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// What the process has written to stderr, once all of this is in it: the log is written a moment after its events.
    pub(crate) async fn logged(&self, expected: &[&str]) -> String {
        let deadline = tokio::time::Instant::now() + LOG_TIMEOUT;
        loop {
            let log = self.stderr();
            let missing = expected.iter().find(|text| !log.contains(**text));
            let Some(missing) = missing else {
                return log;
            };
            let now = tokio::time::Instant::now();
            assert!(now < deadline, "the log never says `{missing}`:\n{log}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Response {
        let request = self
            .client
            .post(self.url(path))
            .header("content-type", content_type);
        request.body(body).send().await.unwrap()
    }

    /// Posts JSON; gives the status and the answer, which must be JSON too.
    pub(crate) async fn post_json(
        &self,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> (u16, Value) {
        let response = self.post(path, "application/json", body).await;
        let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
        match serde_json::from_str(&text) {
            Ok(value) => (status, value),
            Err(error) => panic!("{path} answered {status} with no JSON ({error}): {text}"),
        }
    }

    /// Sends SIGTERM without waiting.
    pub(crate) fn signal_termination(&self) {
        let process = self.process_id();
        // The shell's own `kill`: not every machine has the program.
        let status = std::process::Command::new("sh")
            .args(["-c", &format!("kill -TERM {process}")])
            .status();
        assert!(status.unwrap().success());
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) async fn terminate(self) -> Ended {
        self.signal_termination();
        self.ended().await
    }

    /// Waits for the end of a server that was told to stop.
    pub(crate) async fn ended(mut self) -> Ended {
        let status = tokio::time::timeout(STOP_TIMEOUT, self.process.wait())
            .await
            .expect("the server ends in time after SIGTERM")
            .unwrap();
        Ended {
            status,
            stdout: self.stdout.rest().await,
            stderr: self.stderr.rest().await,
        }
    }
}

/// Everything that a stream has brought so far.
struct Transcript {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Transcript {
    fn of(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&text);
        let reader = tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream
                .read_until(b'\n', &mut line)
                .await
                .is_ok_and(|read| read > 0)
            {
                shared
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// The whole text; the process must have ended.
    async fn rest(self) -> String {
        self.reader.await.unwrap();
        self.text.lock().unwrap().clone()
    }
}

/// The first `http://127.0.0.1:<port>`, or `https://…`, of the block that `serve` prints; of any other address the same port.
fn first_address(block: &str) -> Option<SocketAddr> {
    const SCHEME: &str = "://";
    // An unfinished last line may end in the middle of the port.
    let whole = &block[..=block.rfind('\n')?];
    let rest = &whole[whole.find("://127.0.0.1:")? + SCHEME.len()..];
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))?;
    rest[..end].parse().ok()
}

#[test]
fn finds_the_address_in_the_first_whole_line_that_has_one() {
    let address = Some(SocketAddr::from(([127, 0, 0, 1], 8123)));
    assert_eq!(
        first_address("serving\n  HTTP  http://127.0.0.1:8123/base\n"),
        address
    );
    assert_eq!(
        first_address("HTTP http://127.0.0.1:8123\nx http://127.0.0.1:9/\n"),
        address
    );
    assert_eq!(first_address("HTTP http://127.0.0.1:81"), None);
    assert_eq!(first_address("serving\n"), None);
}
