//! The servers that are compared. Each is a process of its own, the server that answers a constant too.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::{Client, Request, Wire};
use crate::drive::closed_loop;
use crate::process::family;
use crate::server::{Server, Starter, onnxruntime};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running server.
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    process: Process,
}

/// Dropping it ends the server.
enum Process {
    Ours(Box<Server>),
    Other(Other),
}

struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        for process in family(self.0.id()).into_iter().rev() {
            let _ = Command::new("kill").arg(process.to_string()).status();
        }
        let _ = self.0.wait();
    }
}

impl Contender {
    /// This binary as an axum server that reads each body and answers a constant.
    pub(crate) fn constant() -> Self {
        Self::itself("constant axum server", &["constant"])
    }

    /// The same for bodies of any size.
    pub(crate) fn sink() -> Self {
        Self::itself("sink", &["sink"])
    }

    /// This binary as the least that serves a model: axum, serde and ONNX Runtime.
    pub(crate) fn bare(model: &str) -> Self {
        Self::itself("bare handler", &["bare", model])
    }

    fn itself(name: &str, arguments: &[&str]) -> Self {
        let (child, address) = itself(arguments);
        Self {
            name: name.to_owned(),
            address: address.parse().expect("it prints its address"),
            process: Process::Other(Other(child)),
        }
    }

    /// `onstage serve` with these arguments.
    pub(crate) async fn onstage(name: &str, arguments: &[&str]) -> Self {
        let starter = Starter::serve(arguments).with_onnxruntime();
        Self::started(name, starter.start().await)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it speaks gRPC.
    pub(crate) fn grpc_address(&self) -> SocketAddr {
        match &self.process {
            Process::Ours(server) => server.grpc_address(),
            Process::Other(_) => unreachable!("the others speak HTTP only"),
        }
    }

    pub(crate) fn started(name: &str, server: Server) -> Self {
        Self {
            name: name.to_owned(),
            address: server.address(),
            process: Process::Ours(Box::new(server)),
        }
    }

    /// `mlflow models serve`, with one worker, as MLflow starts it.
    pub(crate) fn mlflow(package: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("it is bound");
        drop(free);
        let port = address.port().to_string();
        let arguments = [
            "-m",
            "mlflow",
            "models",
            "serve",
            "-m",
            package,
            "--env-manager",
            "local",
        ];
        let child = Command::new(python())
            .args(arguments)
            .args(["--host", "127.0.0.1", "--port", &port])
            // It starts `uvicorn` by its name.
            .env("PATH", path_with(&python()))
            .env("MLFLOW_DISABLE_TELEMETRY", "true")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`make venv` has set up Python");
        let contender = Self {
            name: "mlflow models serve".to_owned(),
            address,
            process: Process::Other(Other(child)),
        };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(
                Instant::now() < deadline,
                "`mlflow models serve` does not start"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        contender
    }

    /// Its processes.
    pub(crate) fn processes(&self) -> Vec<u32> {
        match &self.process {
            Process::Ours(server) => vec![server.process_id()],
            Process::Other(other) => family(other.0.id()),
        }
    }

    /// Asks until what is learned or made on first use is there.
    pub(crate) fn warm_up(&self, request: &Request, times: usize) {
        if request.wire() == Wire::Grpc {
            let round = closed_loop(request, &[], 1, Duration::from_millis(200));
            assert!(
                round.answers > 0 && round.refused == 0,
                "{} refuses the call",
                self.name
            );
            return;
        }
        let mut client = Client::connect(request).expect("the server listens");
        for _ in 0..times {
            let answer = client.ask().expect("the server answers");
            assert_eq!(answer.status, 200, "{} refuses the request", self.name);
        }
    }
}

/// `PATH` with the directory of `program` in front.
fn path_with(program: &std::path::Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let ours = program.parent().map(std::path::Path::to_path_buf);
    let all = ours.into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(all).expect("they were taken apart")
}

/// The Python in whose directory the library is.
pub(crate) fn python() -> PathBuf {
    let library = PathBuf::from(onnxruntime());
    let mut above = library.ancestors().map(|path| path.join("bin/python"));
    above.find(|python| python.is_file()).expect("`make venv`")
}

/// This binary in another role: the process, and the first line that it prints.
pub(crate) fn itself(arguments: &[&str]) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().expect("it runs"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it ran before");
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("it is piped");
    // One byte at a time would be needed to leave the rest; the constant server prints nothing more.
    BufReader::with_capacity(1, stdout)
        .read_line(&mut line)
        .expect("it prints a line");
    (child, line.trim().to_owned())
}
