//! Several replicas: on one registry, told by one webhook, and restarted one after the other behind a balancer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::lifecycle::swap::scene::{Files, Load, counter, follow, until, until_version, version};
use crate::support::mlflow_server::{MlflowClient, MlflowServer, WEBHOOKS};
use crate::support::server::{Server, Starter};

const REPLICAS: usize = 3;
const PATH: &str = "/models/scale/invocations";

async fn promote(python: &mut MlflowClient, version: u64) {
    let alias = format!("client.set_registered_model_alias('scale', 'champion', '{version}')");
    python.eval(&alias).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stderr, reason = "the figure is for people")]
async fn replicas_on_one_registry_all_serve_the_new_version() {
    let mlflow = MlflowServer::start("", &[], &[]).await;
    let mut python = MlflowClient::start(&mlflow, &[]);
    for factor in 1..=2 {
        python
            .eval(&format!("register('scale', times({factor}))"))
            .await;
    }
    promote(&mut python, 1).await;
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        replicas.push(follow(&mlflow.url, &["--poll-interval", "500ms"]).await);
    }
    let loads = replicas.iter().map(|replica| Load::start(replica, PATH, 1));
    let loads: Vec<Load> = loads.collect();
    for replica in &replicas {
        assert_eq!(version(replica, PATH).await, 1);
    }
    promote(&mut python, 2).await;
    let moved = Instant::now();
    for replica in &replicas {
        until_version(replica, PATH, 2).await;
        eprintln!(
            "a replica serves the new version after {:?}",
            moved.elapsed()
        );
    }
    let published = r#"onstage_swaps_total{model="scale",outcome="published"}"#;
    for (replica, load) in replicas.iter().zip(loads) {
        let (sent, failures) = load.end().await;
        assert!(sent > 20 && failures.is_empty(), "{sent}: {failures:?}");
        assert_eq!(counter(replica, published).await, 2, "version 1, then 2");
        assert_eq!(version(replica, PATH).await, 2);
    }
}

#[tokio::test]
async fn a_hint_that_one_replica_gets_reaches_all_and_goes_no_further() {
    let mlflow = MlflowServer::start("", &[], &WEBHOOKS).await;
    let mut python = MlflowClient::start(&mlflow, &[]);
    let secret = mlflow.home().join("secret");
    std::fs::write(&secret, "s3cr3t\n").unwrap();
    let secret = secret.to_str().unwrap();
    let mut replicas: Vec<Server> = Vec::new();
    for _ in 0..REPLICAS {
        let peers: Vec<String> = { replicas.iter() }
            .map(|replica| replica.address().to_string())
            .collect();
        let mut flags = vec!["--poll-interval", "1h", "--webhook-secret-file", secret];
        flags.extend(["--log-level", "info,onstage=debug"]);
        flags.extend(peers.iter().flat_map(|peer| ["--peer", peer.as_str()]));
        replicas.push(follow(&mlflow.url, &flags).await);
    }
    let told = replicas.last().unwrap().url("");
    let register = ["registry", "webhook", "--registry", &mlflow.url];
    let rest = [
        "--url",
        &told,
        "--webhook-secret-file",
        secret,
        "--register",
    ];
    let registered = Starter::command(&[&register[..], &rest[..]].concat())
        .run()
        .await;
    assert_eq!(registered.status.code(), Some(0), "{}", registered.stderr);
    python.eval("register('scale', times(1))").await;
    promote(&mut python, 1).await;
    for replica in &replicas {
        until("the hint never came", replica, async || {
            let answer = replica.post(PATH, "application/json", r#"{"inputs": [[1.0]]}"#);
            answer.await.status() == 200
        })
        .await;
    }
    let [first, second, third] = replicas.as_slice() else {
        panic!("three replicas");
    };
    let passed = |replica: &Server| replica.stderr().matches("a hint was passed on").count();
    until("it is never passed on", third, async || passed(third) > 0).await;
    assert_eq!(passed(first), 0, "it has no peers");
    assert_eq!(passed(second), 0, "what was passed on goes no further");
}

/// Spreads connections over the replicas that are ready, as a Service does: it knows nothing of requests.
struct Balancer {
    address: SocketAddr,
    replicas: Arc<Mutex<Vec<(SocketAddr, bool)>>>,
}

impl Balancer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let replicas: Arc<Mutex<Vec<(SocketAddr, bool)>>> = Arc::default();
        tokio::spawn(probe(Arc::clone(&replicas)));
        let shared = Arc::clone(&replicas);
        tokio::spawn(async move {
            for turn in 0.. {
                let (mut client, _) = listener.accept().await.unwrap();
                let replicas = Arc::clone(&shared);
                tokio::spawn(async move {
                    let mut replica = connect(&replicas, turn).await;
                    let _ = copy_bidirectional(&mut client, &mut replica).await;
                });
            }
        });
        Self { address, replicas }
    }

    fn add(&self, server: &Server) {
        self.replicas.lock().push((server.address(), false));
    }

    fn remove(&self, server: &Server) {
        self.replicas
            .lock()
            .retain(|(address, _)| *address != server.address());
    }

    async fn until_ready(&self, count: usize) {
        let ready = async {
            while self
                .replicas
                .lock()
                .iter()
                .filter(|(_, ready)| *ready)
                .count()
                != count
            {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(30), ready).await.unwrap();
    }
}

/// A connection that was refused is tried elsewhere; nothing else is.
async fn connect(replicas: &Mutex<Vec<(SocketAddr, bool)>>, turn: usize) -> TcpStream {
    loop {
        let ready: Vec<SocketAddr> = {
            let replicas = replicas.lock();
            let ready = replicas.iter().filter(|(_, ready)| *ready);
            ready.map(|(address, _)| *address).collect()
        };
        for attempt in 0..ready.len() {
            let address = ready[(turn + attempt) % ready.len()];
            if let Ok(stream) = TcpStream::connect(address).await {
                return stream;
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
}

async fn probe(replicas: Arc<Mutex<Vec<(SocketAddr, bool)>>>) {
    onstage::network::install_provider();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    loop {
        let known = replicas.lock().clone();
        for (address, _) in known {
            let url = format!("http://{address}/v2/health/ready");
            let ready = client
                .get(url)
                .send()
                .await
                .is_ok_and(|answer| answer.status() == 200);
            for (other, state) in replicas.lock().iter_mut() {
                if *other == address {
                    *state = ready;
                }
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_behind_a_balancer_fails_no_request() {
    let files = Files::of(&[1.0]).await;
    let start = || files.serve("", &["--engine", "tract", "--shutdown-delay", "1s"]);
    let balancer = Balancer::start().await;
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        let replica = start().await;
        balancer.add(&replica);
        replicas.push(replica);
    }
    balancer.until_ready(REPLICAS).await;
    let url = format!("http://{}{PATH}", balancer.address);
    let load = Load::at(&url, 8, &json!({ "inputs": [[1.0, 1.0]] }));
    for _ in 0..REPLICAS {
        // As a Deployment with one more than wanted and none less: first a new one, then an old one goes.
        let replica = start().await;
        balancer.add(&replica);
        replicas.push(replica);
        balancer.until_ready(REPLICAS + 1).await;
        let old = replicas.remove(0);
        old.signal_termination();
        balancer.until_ready(REPLICAS).await;
        balancer.remove(&old);
        let ended = old.ended().await;
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    }
    let (sent, failures) = load.end().await;
    assert!(sent > 100 && failures.is_empty(), "{sent}: {failures:?}");
}
