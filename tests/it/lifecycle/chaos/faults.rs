//! What goes wrong, and how it becomes well again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use reqwest::Method;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::Dice;
use crate::lifecycle::faults::machine::Disk;
use crate::lifecycle::faults::{Script, partly};
use crate::lifecycle::swap::scene;
use crate::lifecycle::swap::scene::answering;
use crate::support::imitation::{Imitation, with_status};
use crate::support::server::Server;

const TOKEN: &str = "chaos";

/// Versions that are as they should be; those above are not.
const GOOD: u64 = 9;

const PATH: &str = "/models/m/invocations";

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The champion is another good version.
    Swap,
    /// The champion cannot be served.
    BadCandidate,
    /// The registry answers with errors, pages or nothing.
    RegistryFails,
    /// Downloads end early, or do not go on.
    DownloadBreaks,
    /// No byte more fits the disk of the cache.
    DiskFull,
    /// Files of the cache are not what they were.
    CacheDamaged,
    /// Files are from the future or from long ago.
    ClockJumps,
    /// Connections that send a head byte by byte.
    SlowClients,
    /// Connections that end in the middle.
    HalfOpen,
    /// Bodies that take memory.
    LargeBodies,
    /// The model is unloaded by hand and loaded again.
    Unload,
}

impl Fault {
    const ALL: [Self; 11] = [
        Self::Swap,
        Self::BadCandidate,
        Self::RegistryFails,
        Self::DownloadBreaks,
        Self::DiskFull,
        Self::CacheDamaged,
        Self::ClockJumps,
        Self::SlowClients,
        Self::HalfOpen,
        Self::LargeBodies,
        Self::Unload,
    ];

    pub(crate) fn roll(dice: &mut Dice) -> Self {
        // Half of what happens are swaps: faults matter most in the middle of one.
        match dice.below(2) {
            0 => Self::Swap,
            _ => Self::ALL[usize::try_from(dice.below(11)).unwrap()],
        }
    }
}

/// A server that follows an imitation of MLflow, and where to hurt it.
pub(crate) struct Scene {
    pub(crate) server: Server,
    script: Script,
    _mlflow: Imitation,
    cache: PathBuf,
    _disk: Option<Disk>,
    directory: TempDir,
    /// Connections that are not closed yet.
    open: Vec<TcpStream>,
}

impl Scene {
    pub(crate) async fn set() -> Self {
        let script = Script::default();
        script.champion(1);
        script.change(|answers| {
            answers.graph = Some(Box::new(|asked, graph| candidate(&asked.path, graph)))
        });
        let mlflow = script.serve().await;
        let directory = tempfile::tempdir().unwrap();
        // Without leave to mount, the disk is everybody's and never full.
        let disk = Disk::of(2048);
        let cache = match &disk {
            Some(disk) => disk.path().to_owned(),
            None => directory.path().join("cache"),
        };
        let token = directory.path().join("token");
        fs::write(&token, TOKEN).unwrap();
        let flags = [
            "--cache-dir",
            cache.to_str().unwrap(),
            "--poll-interval",
            "50ms",
            "--admin-port",
            "0",
            "--admin-token-file",
            token.to_str().unwrap(),
        ];
        let server = scene::follow(&mlflow.url, &flags).await;
        Self {
            server,
            script,
            _mlflow: mlflow,
            cache,
            _disk: disk,
            directory,
            open: Vec::new(),
        }
    }

    /// Everything that is made once is made: sessions, threads, pools, what the allocator keeps.
    pub(crate) async fn warm_up(&mut self, dice: &mut Dice) {
        for version in 1..=GOOD {
            self.script.champion(version);
            scene::until_answering(&self.server, PATH, version).await;
        }
        self.commit(Fault::LargeBodies, dice).await;
        self.relent().await;
    }

    pub(crate) fn log(&self) -> String {
        let log = self.server.stderr();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    pub(crate) async fn commit(&mut self, fault: Fault, dice: &mut Dice) {
        match fault {
            Fault::Swap => self.script.champion(1 + dice.below(GOOD)),
            Fault::BadCandidate => self.script.champion(100 + dice.below(40)),
            Fault::RegistryFails => self.fail_registry(dice),
            Fault::DownloadBreaks => {
                let silence = dice.below(2) == 0;
                self.script.change(|answers| {
                    answers.graph = Some(Box::new(move |_, graph| {
                        partly(&graph[..20], graph.len(), silence)
                    }));
                });
                self.script.champion(1 + dice.below(GOOD));
            }
            Fault::DiskFull => {
                if self._disk.is_some() {
                    // As much as there is; the last write fails.
                    let _ = fs::write(self.cache.join("filler"), vec![1; 4 << 20]);
                }
                self.script.champion(1 + dice.below(GOOD));
            }
            Fault::CacheDamaged => self.damage_cache(dice),
            Fault::ClockJumps => self.jump(dice),
            Fault::SlowClients => {
                self.slow_clients(b"POST /models/m/invocations HTTP/1.1\r\nHo", dice)
                    .await
            }
            Fault::HalfOpen => {
                let begun = b"POST /models/m/invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n{\"inputs\": [[";
                self.slow_clients(begun, dice).await;
                self.open.clear();
            }
            Fault::LargeBodies => self.large_bodies().await,
            Fault::Unload => {
                self.admin("unload").await;
                sleep(Duration::from_millis(dice.below(100))).await;
                self.admin("load").await;
            }
        }
    }

    /// All is well again, but for which version is the champion.
    pub(crate) async fn relent(&mut self) {
        self.script.truth();
        self.script.change(|answers| {
            answers.graph = Some(Box::new(|asked, graph| candidate(&asked.path, graph)));
        });
        let _ = fs::remove_file(self.cache.join("filler"));
        if self.open.len() > 50 {
            self.open.clear();
        }
    }

    /// Whether every version that is wanted from now on serves.
    pub(crate) async fn recovers(&mut self, within: Duration) -> bool {
        self.open.clear();
        self.relent().await;
        self.admin("resume").await;
        let deadline = Instant::now() + within;
        for version in [1, 2] {
            self.script.champion(version);
            while answering(&self.server, PATH).await != Some(version) {
                if Instant::now() > deadline {
                    return false;
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        self.server.get("/v2/health/ready").await.status() == 200
    }

    fn fail_registry(&self, dice: &mut Dice) {
        match dice.below(4) {
            0 => self
                .script
                .instead(|| StatusCode::INTERNAL_SERVER_ERROR.into_response()),
            1 => self
                .script
                .instead(|| with_status(200, "text/html", "<h1>Please log in</h1>")),
            2 => self.script.instead(|| {
                with_status(200, "application/json", r#"{"registered_models": [{"name""#)
            }),
            // One that is silent is asked again much later, which takes longer than this.
            _ => self.script.instead(|| partly(b"{", 1000, false)),
        }
    }

    fn damage_cache(&self, dice: &mut Dice) {
        let mut files = Vec::new();
        for folder in ["packages", "refs", "known"] {
            list(&self.cache.join(folder), &mut files);
        }
        files.sort();
        if files.is_empty() {
            return;
        }
        let count = u64::try_from(files.len()).unwrap();
        let file = &files[usize::try_from(dice.below(count)).unwrap()];
        match dice.below(3) {
            0 => drop(fs::remove_file(file)),
            1 => drop(fs::write(file, b"")),
            _ => drop(fs::write(file, vec![0xff; 64])),
        }
    }

    fn jump(&self, dice: &mut Dice) {
        let at = match dice.below(2) {
            0 => SystemTime::UNIX_EPOCH,
            _ => SystemTime::now() + Duration::from_secs(1 << 32),
        };
        let mut files = Vec::new();
        list(&self.cache, &mut files);
        for file in files {
            if let Ok(file) = fs::File::open(file) {
                let _ = file.set_modified(at);
            }
        }
    }

    async fn slow_clients(&mut self, begun: &[u8], dice: &mut Dice) {
        for _ in 0..1 + dice.below(20) {
            let mut stream = TcpStream::connect(self.server.address()).await.unwrap();
            let end = usize::try_from(dice.below(u64::try_from(begun.len()).unwrap())).unwrap();
            let _ = stream.write_all(&begun[..end]).await;
            self.open.push(stream);
        }
    }

    async fn large_bodies(&self) {
        let number = b"[1.5,2.5],".repeat(1 << 19);
        let body = [b"{\"inputs\": [", &number[..], b"[1,2]]}"].concat();
        let whole = self.server.post(PATH, "application/json", body).await;
        // Answered, refused as odd, or unloaded by hand at this moment.
        let status = whole.status().as_u16();
        assert!(status < 500 || status == 503, "{status}");
        let nested = self
            .server
            .post(PATH, "application/json", vec![b'['; 8 << 20])
            .await;
        assert!(
            nested.status().is_client_error() || nested.status() == 503,
            "{}",
            nested.status()
        );
    }

    async fn admin(&self, action: &str) {
        let url = format!("{}/admin/models/m/{action}", self.server.admin_url());
        let request = reqwest::Client::new()
            .request(Method::POST, url)
            .bearer_auth(TOKEN);
        let _ = request
            .body("")
            .timeout(Duration::from_secs(30))
            .send()
            .await;
        assert!(self.directory.path().exists());
    }
}

/// Good versions as they are; the others broken, each in its way.
fn candidate(path: &str, graph: &[u8]) -> axum::response::Response {
    let version = path
        .rsplit('/')
        .nth(1)
        .and_then(|version| version.parse::<u64>().ok());
    match version {
        Some(version) if version >= 100 => match version % 6 {
            0 => graph[..graph.len() / 2].to_vec().into_response(),
            1 => b"not a graph".to_vec().into_response(),
            2 => vec![0xff; graph.len()].into_response(),
            3 | 4 => graph.to_vec().into_response(),
            _ => crate::support::onnx::echo(&[("FP64", 11)]).into_response(),
        },
        _ => graph.to_vec().into_response(),
    }
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => list(&entry.path(), files),
            Ok(_) => files.push(entry.path()),
            Err(_) => {}
        }
    }
}
