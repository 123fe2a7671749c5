//! Names: who counts as whom, and who learns which.

use serde_json::{Value, json};

use super::scene::{Scene, key};
use super::tokens::{AUDIENCE, ISSUER, Signer, claims, key_set};
use crate::support::server::{Server, Starter};

/// A server that knows one key called `shop`, and tokens.
async fn serve(scene: &Scene, line: &str, flags: &[&str]) -> (Server, Signer) {
    let signer = Signer::new("key");
    scene.write("callers", line);
    scene.write("jwks.json", &key_set(&[&signer]));
    let (callers, keys) = (scene.path("callers"), scene.path("jwks.json"));
    let fixed = [
        "--callers-file",
        &callers,
        "--jwt-jwks",
        &keys,
        "--jwt-issuer",
        ISSUER,
        "--jwt-audience",
        AUDIENCE,
    ];
    let server = Starter::serve(&[&fixed, flags].concat())
        .with_onnxruntime()
        .start()
        .await;
    (server, signer)
}

async fn ask(server: &Server, secret: &str, path: &str, body: &str) -> (u16, String) {
    let request = server
        .request(reqwest::Method::POST, path)
        .bearer_auth(secret)
        .header("content-type", "application/json");
    let response = request.body(body.to_owned()).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

const ROW: &str = r#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#;

#[tokio::test]
async fn a_token_whose_subject_is_called_like_a_key_drains_another_quota() {
    let scene = Scene::new();
    let (secret, line) = key("shop", &["predict", "admin"], &["*"]);
    scene.write("token", "operator");
    let flags = [
        "model-examples/iris",
        "--engine",
        "tract",
        "--client-rate",
        "1",
        "--client-burst",
        "5",
        "--admin-port",
        "0",
        "--admin-token-file",
        &scene.path("token"),
    ];
    let (server, signer) = serve(&scene, &line, &flags).await;
    let mut claims = claims("onstage:predict onstage:admin");
    claims["sub"] = json!("shop");
    let token = signer.token(&claims);
    let mut refused = 0;
    for _ in 0..20 {
        let (status, _) = ask(&server, &token, "/invocations", ROW).await;
        refused += usize::from(status == 429);
    }
    assert!(refused > 5, "{refused}");
    let (status, text) = ask(&server, &secret, "/invocations", ROW).await;
    assert_eq!(status, 200, "{text}");

    // The audit log says which of the two it was.
    for (secret, issuer) in [(&secret, "callers"), (&token, ISSUER)] {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/admin/models/iris/hold", server.admin_url());
        let held = client.post(url).bearer_auth(secret).send().await.unwrap();
        assert_eq!(held.status(), 200, "{issuer}");
        let expected = format!(r#""caller":"shop","issuer":"{issuer}""#);
        server.logged(&[&expected]).await;
    }
}

#[tokio::test]
async fn callers_of_one_model_learn_no_names_of_others() {
    let scene = Scene::new();
    let (one, first) = key("one", &["predict", "read"], &["mine-*"]);
    let (all, second) = key("all", &["predict"], &["*"]);
    let lines = format!("{first}\n{second}");
    // With one model, with two, and with a default one.
    for flags in [
        &["model-examples/iris"][..],
        &["model-examples/iris", "model-examples/wine"],
        &[
            "model-examples/iris",
            "model-examples/wine",
            "--default-model",
            "wine",
        ],
    ] {
        let engine = ["--engine", "auto"];
        let (server, _) = serve(&scene, &lines, &[flags, &engine].concat()).await;
        for path in [
            "/invocations",
            "/models/mine-1/invocations",
            "/models/iris/versions/9/invocations",
            "/v2/models/mine-1/infer",
            "/v1/models/mine-1:predict",
            "/v2/repository/index",
        ] {
            let (status, text) = ask(&server, &one, path, ROW).await;
            assert!(matches!(status, 403 | 404), "{path}: {status} {text}");
            let named = path.contains("iris");
            assert!(named || !text.contains("iris"), "{path}: {text}");
            assert!(!text.contains("wine"), "{path}: {text}");
        }
        // Who may predict everywhere and read nothing is not told either.
        for path in ["/invocations", "/models/none/invocations"] {
            let (status, text) = ask(&server, &all, path, "{}").await;
            assert!(matches!(status, 400 | 404), "{path}: {status} {text}");
            if status == 404 {
                let _: Value = serde_json::from_str(&text).unwrap();
                assert!(
                    !text.contains("iris") && !text.contains("wine"),
                    "{path}: {text}"
                );
            }
        }
    }
}
