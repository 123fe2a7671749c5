//! Certificates, keys and the keys of tokens change under load: nobody who is known is refused, nobody else is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::scene::{Scene, flags, key};
use super::tokens::{AUDIENCE, ISSUER, Signer, claims, key_set};

/// A provider whose keys a test changes, over HTTP. `None`: it is broken.
struct Provider {
    url: String,
    keys: Arc<Mutex<Option<String>>>,
    _server: JoinSet<()>,
}

impl Provider {
    async fn start(keys: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let keys = Arc::new(Mutex::new(Some(keys)));
        let (shared, mut server) = (Arc::clone(&keys), JoinSet::new());
        server.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let _ = stream.read(&mut request).await;
                let answer = shared.lock().clone();
                let (status, body) = match &answer {
                    Some(keys) => ("200 OK", keys.as_str()),
                    None => ("500 Broken", "{}"),
                };
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        Self {
            url,
            keys,
            _server: server,
        }
    }

    fn set(&self, keys: Option<String>) {
        *self.keys.lock() = keys;
    }
}

/// What has been asked, and which answers were wrong.
#[derive(Default)]
struct Counts {
    asked: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

/// The credentials of the moment.
#[derive(Clone)]
struct Good(Arc<Mutex<Vec<String>>>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_keys_and_tokens_change_under_load() {
    let scene = Scene::new();
    let signers: Vec<Signer> = (0..4)
        .map(|number| Signer::new(&format!("key-{number}")))
        .collect();
    let provider = Provider::start(key_set(&[&signers[0]])).await;
    let keys: Vec<_> = (0..4).map(|_| key("load", &["read"], &["*"])).collect();
    scene.write("callers", &keys[0].1);
    let mut serve = scene.tls();
    let more = [
        "--callers-file",
        &scene.path("callers"),
        "--jwt-jwks",
        &provider.url,
        "--jwt-issuer",
        ISSUER,
        "--jwt-audience",
        AUDIENCE,
    ];
    serve.extend(more.map(str::to_owned));
    let server = scene.serve(&flags(&serve)).await;
    let url = format!("https://{}/v2", server.address());
    let token = |number: usize| signers[number].token(&claims("onstage:read"));
    let good = Good(Arc::new(Mutex::new(vec![keys[0].0.clone(), token(0)])));
    let forged = Signer::new("key-0").token(&claims("onstage:read"));
    let bad = vec![
        String::new(),
        "onstage_x".to_owned(),
        forged,
        key("x", &["read"], &["*"]).0,
    ];
    let (counts, stop) = (
        Arc::new(Counts::default()),
        Arc::new(AtomicBool::new(false)),
    );
    let mut load = JoinSet::new();
    for worker in 0..4 {
        // Each request of half of them is a handshake.
        let idle = if worker % 2 == 0 { 0 } else { 4 };
        let client = scene.client().pool_max_idle_per_host(idle).build().unwrap();
        load.spawn(ask(
            client,
            url.clone(),
            (good.clone(), bad.clone()),
            Arc::clone(&counts),
            Arc::clone(&stop),
        ));
    }

    for number in 1..4 {
        scene.renew();
        let (before, now) = (&keys[number - 1], &keys[number]);
        // First both are known, then callers change, then the old one is not known any more.
        scene.write("callers", &format!("{}\n{}", before.1, now.1));
        provider.set(Some(key_set(&[&signers[number - 1], &signers[number]])));
        let client = scene.client().build().unwrap();
        until(&client, &url, &now.0, 200).await;
        until(&client, &url, &token(number), 200).await;
        *good.0.lock() = vec![now.0.clone(), token(number)];
        // Requests with the old ones have been answered when as many more have.
        settle(&counts).await;
        scene.write("callers", &now.1);
        until(&client, &url, &before.0, 401).await;
        provider.set(None);
        scene.write("callers", "nonsense");
        while server
            .stderr()
            .matches("those from before still count")
            .count()
            < number
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        settle(&counts).await;
        scene.write("callers", &now.1);
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    let wrong = std::mem::take(&mut *counts.wrong.lock());
    assert!(
        wrong.is_empty(),
        "{} of {}: {:?}",
        wrong.len(),
        counts.asked.load(Ordering::Relaxed),
        &wrong[..wrong.len().min(5)]
    );
    let client = scene.client().build().unwrap();
    let metrics = client
        .get(url.replace("/v2", "/metrics"))
        .bearer_auth(&keys[3].0);
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("onstage_tls_reloads_total{outcome=\"success\"} 3"),
        "{metrics}"
    );
    server.logged(&["those from before still count"]).await;
}

/// Asks until it is told to stop: good ones must pass, bad ones must not.
async fn ask(
    client: reqwest::Client,
    url: String,
    (good, bad): (Good, Vec<String>),
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
) {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let (secret, expected) = if turn % 3 == 0 {
            (bad[turn / 3 % bad.len()].clone(), 401)
        } else {
            let good = good.0.lock();
            (good[turn % good.len()].clone(), 200)
        };
        let answer = client.get(&url).bearer_auth(&secret).send().await;
        let said = match answer {
            Ok(response) => response.status().as_u16().to_string(),
            Err(error) => format!("{error:?}"),
        };
        if said != expected.to_string() {
            counts
                .wrong
                .lock()
                .push(format!("expected {expected}: {said}"));
        }
        counts.asked.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until every worker has asked again.
async fn settle(counts: &Counts) {
    let begun = counts.asked.load(Ordering::Relaxed);
    while counts.asked.load(Ordering::Relaxed) < begun + 40 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until(client: &reqwest::Client, url: &str, secret: &str, status: u16) {
    for _ in 0..600 {
        let answer = client.get(url).bearer_auth(secret).send().await.unwrap();
        if answer.status() == status {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never {status}");
}

#[tokio::test]
async fn sighup_looks_at_the_files_at_once() {
    let scene = Scene::new();
    let (secret, line) = key("a", &["read"], &["*"]);
    scene.write("callers", "");
    let callers = scene.path("callers");
    let server = scene
        .serve(&["--callers-file", &callers, "--reload-interval", "1h"])
        .await;
    scene.write("callers", &line);
    let kill = format!("kill -HUP {}", server.process_id());
    assert!(
        std::process::Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap()
            .success()
    );
    let client = scene.client().build().unwrap();
    until(&client, &server.url("/v2"), &secret, 200).await;
}
