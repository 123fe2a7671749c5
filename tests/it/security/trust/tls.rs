//! Connections: what is spoken, who may connect, what happens to those who never finish.

use std::time::Duration;

use reqwest::Version;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::scene::{Authority, Scene, flags};
use crate::support::server::Server;

async fn serve(scene: &Scene, more: &[&str]) -> Server {
    let tls = scene.tls();
    scene.serve(&[&flags(&tls)[..], more].concat()).await
}

fn url(server: &Server, path: &str) -> String {
    format!("https://{}{path}", server.address())
}

#[tokio::test]
async fn every_port_speaks_tls_and_both_versions_of_http() {
    let scene = Scene::new();
    scene.write("token", "secret");
    let token = scene.path("token");
    let server = serve(&scene, &["--admin-port", "0", "--admin-token-file", &token]).await;
    let client = scene.client().build().unwrap();
    let ready = client
        .get(url(&server, "/v2/health/ready"))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (ready.status().as_u16(), ready.version()),
        (200, Version::HTTP_2)
    );
    let old = scene.client().http1_only().build().unwrap();
    let metrics = old.get(url(&server, "/metrics")).send().await.unwrap();
    assert_eq!(
        (metrics.status().as_u16(), metrics.version()),
        (200, Version::HTTP_11)
    );
    let text = metrics.text().await.unwrap();
    assert!(text.contains("onstage_tls_certificate_expiry_timestamp_seconds "));
    let admin = server.admin_url();
    assert!(admin.starts_with("https://"), "{admin}");
    let models = client
        .get(format!("{admin}/admin/models"))
        .bearer_auth("secret");
    assert_eq!(models.send().await.unwrap().status(), 200);
    let live = format!(
        "https://{}/inference.GRPCInferenceService/ServerLive",
        server.grpc_address()
    );
    let call = client
        .post(live)
        .header("content-type", "application/grpc")
        .body(vec![0; 5]);
    let answer = call.send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, Version::HTTP_2)
    );
    // `length 2, field 1, true`.
    assert_eq!(answer.bytes().await.unwrap()[5..], [8, 1]);
    for address in [server.address(), server.grpc_address()] {
        let plain = format!("http://{address}/v2/health/live");
        assert!(client.get(plain).send().await.is_err());
    }
}

#[tokio::test]
async fn a_client_that_trusts_another_authority_does_not_connect() {
    let (scene, other) = (Scene::new(), Scene::new());
    let server = serve(&scene, &[]).await;
    let client = other.client().build().unwrap();
    assert!(client.get(url(&server, "/health")).send().await.is_err());
}

#[tokio::test]
async fn required_certificates_are_of_the_authority_of_clients() {
    let (scene, clients, others) = (
        Scene::new(),
        Authority::new("clients"),
        Authority::new("others"),
    );
    scene.write("clients.pem", &clients.pem);
    let authority = scene.path("clients.pem");
    let server = serve(
        &scene,
        &[
            "--tls-client-auth",
            "required",
            "--tls-client-ca-file",
            &authority,
        ],
    )
    .await;
    let ask = async |builder: reqwest::ClientBuilder| {
        let client = builder.build().unwrap();
        client.get(url(&server, "/health")).send().await
    };
    assert!(ask(scene.client()).await.is_err());
    assert!(
        ask(scene.client_as(&others.client("spiffe://x/y")))
            .await
            .is_err()
    );
    assert!(
        ask(scene.client_as(&scene.authority.client("spiffe://x/y")))
            .await
            .is_err()
    );
    let answer = ask(scene.client_as(&clients.client("spiffe://x/y")))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn versions_older_than_the_oldest_are_refused() {
    let scene = Scene::new();
    let (old, new) = (
        serve(&scene, &[]).await,
        serve(&scene, &["--tls-min-version", "1.3"]).await,
    );
    let client = scene
        .client()
        .tls_version_max(reqwest::tls::Version::TLS_1_2);
    let client = client.build().unwrap();
    assert_eq!(
        client
            .get(url(&old, "/health"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert!(client.get(url(&new, "/health")).send().await.is_err());
}

#[tokio::test]
async fn whoever_never_finishes_a_handshake_is_sent_away() {
    let scene = Scene::new();
    let server = serve(&scene, &["--tls-handshake-timeout", "200ms"]).await;
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    silent.write_all(&[0x16, 3, 1]).await.unwrap();
    let mut buffer = [0; 64];
    let read = tokio::time::timeout(Duration::from_secs(30), silent.read(&mut buffer)).await;
    assert!(matches!(read.expect("the server closes"), Ok(0) | Err(_)));
    let client = scene.client().build().unwrap();
    assert_eq!(
        client
            .get(url(&server, "/health"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn files_that_are_no_certificates_end_the_start() {
    let scene = Scene::new();
    scene.write("other.key", &scene.authority.server().1);
    let (cert, key) = (scene.path("pair/tls.crt"), scene.path("pair/tls.key"));
    let other = scene.path("other.key");
    for (flags, expected) in [
        (
            &["--tls-cert-file", &cert][..],
            "needs `server.tls.key_file`",
        ),
        (
            &["--tls-cert-file", &cert, "--tls-key-file", &other],
            "do not fit together",
        ),
        (
            &["--tls-cert-file", &key, "--tls-key-file", &key],
            "holds no certificate",
        ),
        (
            &["--tls-cert-file", &cert, "--tls-key-file", &cert],
            "no private key",
        ),
        (&["--callers-file", &key], "line 1: "),
        (&["--jwt-jwks", &key], "needs `auth.jwt.issuer`"),
        (
            &["--jwt-jwks", &key, "--jwt-issuer", "x"],
            "needs `auth.jwt.audience`",
        ),
        (
            &[
                "--jwt-jwks",
                &key,
                "--jwt-issuer",
                "x",
                "--jwt-audience",
                "y",
            ],
            "no set of keys",
        ),
    ] {
        let ended = scene
            .starter(flags)
            .try_start()
            .await
            .err()
            .expect("it does not start");
        assert_eq!(ended.status.code(), Some(1), "{flags:?}");
        assert!(
            ended.stderr.contains(expected),
            "{flags:?}: {}",
            ended.stderr
        );
        assert!(!ended.stderr.contains("PRIVATE KEY"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_server_for_others_without_callers_warns_once() {
    let scene = Scene::new();
    scene.write("callers", "");
    let callers = scene.path("callers");
    let warned = async |flags: &[&str]| {
        let server = scene.serve(flags).await;
        server
            .terminate()
            .await
            .stderr
            .matches("anybody who reaches")
            .count()
    };
    assert_eq!(warned(&["--host", "0.0.0.0"]).await, 1);
    assert_eq!(warned(&["--host", "127.0.0.1"]).await, 0);
    assert_eq!(
        warned(&["--host", "0.0.0.0", "--callers-file", &callers]).await,
        0
    );
}
