//! A restart is no worse than staying: whatever the candidate, the registry and the disk are like, and whenever the
//! process is killed, the next one begins with the last good version.
//!
//! `ONSTAGE_RESTARTS` says how many random rounds there are, `ONSTAGE_CHAOS_SEED` repeats a run.

use std::fs;
use std::path::Path;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::machine::Disk;
use super::{Script, partly};
use crate::lifecycle::chaos::Dice;
use crate::lifecycle::swap::scene::{answering, until};
use crate::support::imitation::Imitation;
use crate::support::server::{Server, Starter};

const PATH: &str = "/models/m/invocations";

/// Rounds of random restarts when nobody says.
const ROUNDS: u64 = 20;

/// What is wrong with the version that should come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Candidate {
    /// Nothing.
    Good,
    /// Its file is cut off.
    Truncated,
    /// Its file never comes to an end.
    Stalls,
    /// The registry has no such file.
    Absent,
    /// It fails on each row, which is found out in its probation.
    FailsOnRows,
    /// It has no ONNX model.
    Refused,
}

const CANDIDATES: [Candidate; 6] = [
    Candidate::Good,
    Candidate::Truncated,
    Candidate::Stalls,
    Candidate::Absent,
    Candidate::FailsOnRows,
    Candidate::Refused,
];

/// How the registry is when the server starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Registry {
    Up,
    Down,
    Silent,
    Broken,
}

const REGISTRIES: [Registry; 4] = [
    Registry::Up,
    Registry::Down,
    Registry::Silent,
    Registry::Broken,
];

/// A registry, and a cache that outlives the servers.
struct Scene {
    script: Script,
    mlflow: Imitation,
    directory: TempDir,
}

impl Scene {
    async fn set() -> Self {
        let script = Script::default();
        script.champion(1);
        let mlflow = script.serve().await;
        let directory = TempDir::new().unwrap();
        Self {
            script,
            mlflow,
            directory,
        }
    }

    fn starter(&self, cache: &Path, probation: &str) -> Starter {
        let config = self.directory.path().join("onstage.toml");
        let text = format!("[models.m]\nprobation = \"{probation}\"\n");
        fs::write(&config, text).unwrap();
        let arguments = [
            "--registry",
            &self.mlflow.url,
            "--follow",
            "@champion",
            "--poll-interval",
            "50ms",
            "--cache-dir",
            cache.to_str().unwrap(),
            "--config",
            config.to_str().unwrap(),
        ];
        Starter::serve(&arguments)
    }

    /// Makes a version the champion whose files are like this.
    fn promote(&self, version: u64, candidate: Candidate) {
        self.script.change(|answers| {
            answers.graph = match candidate {
                Candidate::Good | Candidate::FailsOnRows | Candidate::Refused => None,
                Candidate::Truncated => Some(Box::new(|_, graph| {
                    graph[..graph.len() / 2].to_vec().into_response()
                })),
                Candidate::Stalls => {
                    Some(Box::new(|_, graph| partly(&graph[..20], graph.len(), true)))
                }
                Candidate::Absent => Some(Box::new(|_, _| StatusCode::NOT_FOUND.into_response())),
            };
        });
        self.script.champion(version);
    }

    async fn turn(&self, registry: Registry) {
        self.script.truth();
        match registry {
            Registry::Up => self.mlflow.come_up().await,
            Registry::Down => self.mlflow.go_down().await,
            Registry::Silent => {
                self.mlflow.come_up().await;
                let silence = || partly(b"{", 100, true);
                self.script.instead(silence);
            }
            Registry::Broken => {
                self.mlflow.come_up().await;
                let broken = || StatusCode::INTERNAL_SERVER_ERROR.into_response();
                self.script.instead(broken);
            }
        }
    }
}

/// The number of a version of this kind: see `graph_of`.
fn number(candidate: Candidate, round: u64) -> u64 {
    match candidate {
        Candidate::FailsOnRows => 105 + 6 * round,
        Candidate::Refused => 10_000 + round,
        _ => 30_000 + round,
    }
}

/// Waits until the cache remembers that this version served.
async fn until_remembered(server: &Server, cache: &Path, version: u64) {
    let wanted = format!("\"default\":{version},");
    until("what serves is never written down", server, async || {
        let holds = |directory: &str, text: &str| {
            let files = fs::read_dir(cache.join(directory)).into_iter().flatten();
            let mut texts = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
            texts.any(|found| found.contains(text))
        };
        holds("served", &wanted) && holds("refs", "digest") && holds("known", "champion")
    })
    .await;
}

/// Asks until one of these versions answers; a server that says that it is ready must answer.
async fn begins_with(server: &Server, versions: &[u64], story: &str) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let is_ready = server.get("/ping").await.status() == 200;
        let answered = answering(server, PATH).await;
        match answered {
            Some(version) if versions.contains(&version) => return version,
            Some(version) => panic!("{story}: version {version} answers\n{}", server.stderr()),
            None => {}
        }
        let log = || server.stderr();
        assert!(!is_ready, "{story}: ready, and nothing answers\n{}", log());
        assert!(Instant::now() < deadline, "{story}: nothing\n{}", log());
        sleep(Duration::from_millis(10)).await;
    }
}

/// Each candidate with each state of the registry, in a cache like this.
async fn matrix(disk: Option<&Disk>, spoil: impl AsyncFn(&Disk)) {
    for candidate in CANDIDATES {
        for registry in REGISTRIES {
            let scene = Scene::set().await;
            let fresh = TempDir::new().unwrap();
            let cache = match disk {
                Some(disk) => disk.path().join(format!("{candidate:?}-{registry:?}")),
                None => fresh.path().to_owned(),
            };
            let story = format!("{candidate:?}, {registry:?}");
            let first = scene.starter(&cache, "1h").start().await;
            begins_with(&first, &[1], &story).await;
            until_remembered(&first, &cache, 1).await;
            let next = number(candidate, 0);
            scene.promote(next, candidate);
            // So that it has been heard of.
            sleep(Duration::from_millis(300)).await;
            drop(first);
            if let Some(disk) = disk {
                spoil(disk).await;
            }
            scene.turn(registry).await;
            let restarted = scene.starter(&cache, "1h").start().await;
            begins_with(&restarted, &[1, next], &story).await;
            // It stays so, whatever is tried meanwhile.
            for _ in 0..5 {
                sleep(Duration::from_millis(50)).await;
                assert_eq!(restarted.get("/ping").await.status(), 200, "{story}");
                assert!(answering(&restarted, PATH).await.is_some(), "{story}");
            }
            drop(restarted);
            if let Some(disk) = disk {
                disk.recover().await;
                let _ = fs::remove_dir_all(&cache);
            }
        }
    }
}

#[tokio::test]
async fn a_start_begins_with_the_last_good_version() {
    matrix(None, async |_| {}).await;
}

#[tokio::test]
async fn a_start_with_a_full_disk_begins_with_the_last_good_version() {
    let Some(disk) = Disk::of(1024) else { return };
    matrix(Some(&disk), async |disk| disk.fill()).await;
}

#[tokio::test]
async fn a_start_with_a_disk_that_can_only_be_read_begins_with_the_last_good_version() {
    let Some(disk) = Disk::of(1024) else { return };
    matrix(Some(&disk), async |disk| disk.remount("ro").await).await;
}

#[tokio::test]
async fn without_a_version_that_ever_served_a_start_is_not_ready() {
    for (candidate, registry) in [
        (Candidate::Truncated, Registry::Up),
        (Candidate::Good, Registry::Down),
        (Candidate::Good, Registry::Broken),
    ] {
        let scene = Scene::set().await;
        let cache = TempDir::new().unwrap();
        scene.promote(number(candidate, 0), candidate);
        scene.turn(registry).await;
        // On a port of our own, as a server that does not serve prints none.
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let starting = scene.starter(cache.path(), "1h").port(port).start();
        let url = format!("http://127.0.0.1:{port}");
        let asking = async {
            let client = reqwest::Client::new();
            let mut heard = 0;
            while heard < 20 {
                sleep(Duration::from_millis(100)).await;
                let Ok(ping) = client.get(format!("{url}/ping")).send().await else {
                    continue;
                };
                assert_eq!(ping.status(), 503, "{candidate:?}, {registry:?}");
                let live = client.get(format!("{url}/v2/health/live")).send().await;
                assert_eq!(live.unwrap().status(), 200);
                heard += 1;
            }
        };
        let mut kept = None;
        tokio::select! {
            // It may have settled; then it goes on not being ready.
            server = starting => kept = Some(server),
            () = asking => {}
        }
        if let Some(server) = kept {
            for _ in 0..10 {
                assert_eq!(server.get("/ping").await.status(), 503);
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[tokio::test]
async fn a_version_that_was_on_probation_is_tried_again_behind_the_last_proven_one() {
    let scene = Scene::set().await;
    let cache = TempDir::new().unwrap();
    let first = scene.starter(cache.path(), "1h").start().await;
    until_remembered(&first, cache.path(), 1).await;
    scene.promote(2, Candidate::Good);
    begins_with_eventually(&first, 2).await;
    drop(first);
    scene.turn(Registry::Broken).await;
    let again = scene.starter(cache.path(), "1h").start().await;
    again
        .logged(&["begins with the version that served before"])
        .await;
    begins_with_eventually(&again, 2).await;
    drop(again);
    // Until it has passed.
    let passes = scene.starter(cache.path(), "200ms").start().await;
    until_remembered(&passes, cache.path(), 2).await;
    drop(passes);
    let last = scene.starter(cache.path(), "1h").start().await;
    begins_with(&last, &[2], "proven").await;
    let log = last.stderr();
    assert!(
        !log.contains("begins with the version that served"),
        "{log}"
    );
}

async fn begins_with_eventually(server: &Server, version: u64) {
    until("the next version never comes", server, async || {
        let answered = answering(server, PATH).await;
        assert!(answered.is_some(), "{}", server.stderr());
        answered == Some(version)
    })
    .await;
}

#[tokio::test]
async fn a_champion_that_was_named_and_is_bad_does_not_end_the_server_that_a_good_one_can_serve() {
    let scene = Scene::set().await;
    let cache = TempDir::new().unwrap();
    let arguments = |uri: &'static str| {
        Starter::serve(&[
            uri,
            "--registry",
            &scene.mlflow.url,
            "--poll-interval",
            "50ms",
            "--cache-dir",
            cache.path().to_str().unwrap(),
        ])
    };
    let first = arguments("models:/m@champion").start().await;
    until_remembered(&first, cache.path(), 1).await;
    drop(first);
    scene.promote(2, Candidate::Truncated);
    let restarted = arguments("models:/m@champion").start().await;
    begins_with(&restarted, &[1], "named").await;
    restarted
        .logged(&[
            "begins with the version that served before",
            "cannot be served",
        ])
        .await;
    let url = restarted.url("");
    let status = Starter::command(&["status", "--url", &url]).run().await;
    for part in ["READY", "UNAVAILABLE"] {
        assert!(status.stdout.contains(part), "{}", status.stdout);
    }
    drop(restarted);
    // A number means that version and no other.
    let ended = arguments("models:/m/2").try_start().await;
    let ended = ended.err().expect("version 2 cannot be served");
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
}

#[expect(
    clippy::print_stderr,
    reason = "a seed that nobody sees cannot be replayed"
)]
fn seed() -> u64 {
    let variable = |name: &str| std::env::var(name).ok()?.parse().ok();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = variable("ONSTAGE_CHAOS_SEED").unwrap_or(u64::from(now.unwrap().subsec_nanos()));
    eprintln!("ONSTAGE_CHAOS_SEED={seed}");
    seed
}

/// Kills the server at any moment of whatever it does, and starts it again with the registry in any state.
#[tokio::test]
async fn whenever_it_is_killed_the_last_good_version_comes_back() {
    let seed = seed();
    let mut dice = Dice(seed);
    let rounds = std::env::var("ONSTAGE_RESTARTS").ok();
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let scene = Scene::set().await;
    let cache = TempDir::new().unwrap();
    let mut server = scene.starter(cache.path(), "300ms").start().await;
    until_remembered(&server, cache.path(), 1).await;
    let mut good = vec![1];
    let mut history = Vec::new();
    for round in 0..rounds {
        let pick =
            |dice: &mut Dice, count: usize| usize::try_from(dice.below(count as u64)).unwrap();
        let candidate = CANDIDATES[pick(&mut dice, CANDIDATES.len())];
        let registry = REGISTRIES[pick(&mut dice, REGISTRIES.len())];
        let (heard, killed) = (dice.below(3) > 0, dice.below(1200));
        history.push((candidate, registry, heard, killed));
        let story = format!("seed {seed}, round {round}, {:?}", history.last().unwrap());
        let next = number(candidate, round);
        // What is cut off or absent now may be whole when it is fetched again.
        if !matches!(candidate, Candidate::FailsOnRows | Candidate::Refused) {
            good.push(next);
        }
        if heard {
            scene.promote(next, candidate);
            sleep(Duration::from_millis(killed)).await;
            drop(server);
        } else {
            // It moves while nobody looks.
            drop(server);
            scene.promote(next, candidate);
        }
        scene.turn(registry).await;
        server = scene.starter(cache.path(), "300ms").start().await;
        begins_with(&server, &good, &story).await;
        sleep(Duration::from_millis(dice.below(800))).await;
        assert!(
            answering(&server, PATH).await.is_some(),
            "{story}\n{}",
            server.stderr()
        );
    }
}
