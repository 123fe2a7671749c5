//! What is in the log, what is kept out of it, and what goes again.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{PATIENCE, Place, example, metric, texts};
use crate::support::server::Starter;

const PENGUINS: &str = "model-examples/penguins";

#[tokio::test]
async fn requests_of_every_protocol_are_rows_and_failed_ones_too() {
    let place = Place::new();
    let server = place
        .serve(PENGUINS, &["--payload-header", "X-Tenant"])
        .await;
    let scoring = server
        .request(Method::POST, "/invocations")
        .header("content-type", "application/json")
        .header("x-request-id", "scoring")
        .header("x-tenant", "blue")
        .body(example("penguins/request.json"));
    assert_eq!(scoring.send().await.unwrap().status(), 200);
    let opted_out = server
        .request(Method::POST, "/invocations")
        .header("content-type", "application/json")
        .header("x-onstage-log", "off")
        .body(example("penguins/request.json"));
    assert_eq!(opted_out.send().await.unwrap().status(), 200);
    let tensor = |name: &str, datatype: &str, value: serde_json::Value| json!({ "name": name, "datatype": datatype, "shape": [1, 1], "data": [value] });
    let inference = json!({ "id": "oip", "inputs": [
        tensor("island", "BYTES", "Dream".into()), tensor("sex", "BYTES", "male".into()),
        tensor("bill_length_mm", "FP32", 39.5.into()), tensor("bill_depth_mm", "FP32", 18.0.into()),
        tensor("flipper_length_mm", "FP32", 181.0.into()), tensor("body_mass_g", "FP32", 3750.0.into()),
    ]});
    let (status, answer) = server
        .post_json("/v2/models/penguins/infer", inference.to_string())
        .await;
    assert_eq!(status, 200, "{answer}");
    let failed = server
        .request(Method::POST, "/invocations")
        .header("content-type", "application/json")
        .header("x-request-id", "failed")
        .body("{\"inputs\": 1}");
    assert_eq!(failed.send().await.unwrap().status(), 400);
    let files = place.rows(6).await;
    assert_eq!(
        files.iter().map(|file| file.rows.num_rows()).sum::<usize>(),
        6
    );
    assert!(
        files[0]
            .name
            .starts_with("model=penguins/version=1/date=20"),
        "{}",
        files[0].name
    );
    let own = |text: &str| Some(text.to_owned());
    let scoring = || own("scoring");
    assert_eq!(
        texts(&files, "_request_id"),
        [
            scoring(),
            scoring(),
            scoring(),
            scoring(),
            own("oip"),
            own("failed")
        ]
    );
    assert_eq!(texts(&files, "_header_x_tenant")[0], own("blue"));
    assert_eq!(texts(&files, "_error_code")[5], own("invalid_argument"));
    assert_eq!(
        texts(&files, "island")[..5],
        ["Torgersen", "Biscoe", "Dream", "Torgersen", "Dream"].map(own)
    );
    assert_eq!(texts(&files, "island")[5], None);
    assert!(
        texts(&files, "prediction_label")[..5]
            .iter()
            .all(Option::is_some)
    );
    // It is counted a moment after it is there.
    let written = "onstage_payload_rows_total{model=\"penguins\",outcome=\"written\"}";
    let counted = async {
        while metric(&server, written).await != 6.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let counted = tokio::time::timeout(PATIENCE, counted).await;
    assert!(counted.is_ok(), "{}", metric(&server, written).await);
}

#[tokio::test]
async fn columns_are_left_out_or_hashed_and_rows_are_found_again_to_be_deleted() {
    let place = Place::new();
    let key = place.path("key");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef\n").unwrap();
    let config = place.path("onstage.toml");
    let text = format!(
        "[payload_log]\nuri = \"file://{}\"\nexclude = [\"sex\"]\nhash = [\"island\"]\nhash_key_file = \"{}\"\nroll = \"1s\"\n\
         [registry]\ncache_dir = \"{}\"\n",
        place.log().display(),
        key.display(),
        place.path("cache").display()
    );
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let server = Starter::serve(&[PENGUINS, "--config", &config])
        .start()
        .await;
    for id in ["first", "second"] {
        let request = server
            .request(Method::POST, "/invocations")
            .header("content-type", "application/json")
            .header("x-request-id", id)
            .body(example("penguins/request.json"));
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let files = place.rows(8).await;
    assert!(files[0].column("sex").is_err());
    // By Python: hmac.new(key, b"Torgersen", "sha256").hexdigest()
    let hashes = texts(&files, "island");
    let hash = |index: usize| hashes[index].clone().unwrap();
    assert_eq!(hash(0), hash(3));
    assert_eq!(hash(0).len(), 64);
    assert_ne!(hash(0), hash(1));
    drop(server);
    let delete = async |more: &[&str]| {
        let arguments = [&["log", "delete", "--config", &config], more].concat();
        Starter::command(&arguments).run().await
    };
    let ended = delete(&["--request-id", "first"]).await;
    assert_eq!(
        ended.stdout, "deleted 4 rows from 1 files\n",
        "{}",
        ended.stderr
    );
    assert_eq!(
        texts(&place.files(), "_request_id"),
        vec![Some("second".to_owned()); 4]
    );
    // The other rows of the request go as well: it is the person's.
    let ended = delete(&["--column", "island", "--value", "Biscoe"]).await;
    assert_eq!(
        ended.stdout, "deleted 4 rows from 1 files\n",
        "{}",
        ended.stderr
    );
    assert_eq!(place.files().len(), 0);
    let log = place.log().display().to_string();
    let replayed = Starter::command(&["predict", PENGUINS, "-i", &log])
        .run()
        .await;
    assert_eq!(replayed.status.code(), Some(1));
    assert!(
        replayed.stderr.contains("holds no Parquet files"),
        "{}",
        replayed.stderr
    );
}

#[tokio::test]
async fn a_model_is_switched_off_and_on_while_it_serves() {
    let place = Place::new();
    let token = place.path("token");
    std::fs::write(&token, "correct horse battery staple\n").unwrap();
    let token = token.display().to_string();
    let server = place
        .serve(
            "model-examples/iris",
            &["--admin-port", "0", "--admin-token-file", &token],
        )
        .await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let switch = async |path: &str, body: &str| {
        let request = client
            .post(format!(
                "{}/admin/models/{path}/payload-log",
                server.admin_url()
            ))
            .bearer_auth("correct horse battery staple")
            .body(body.to_owned());
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let ask = async || {
        let body = json!({ "inputs": [[5.1, 3.5, 1.4, 0.2]] }).to_string();
        assert_eq!(server.post_json("/invocations", body).await.0, 200);
    };
    assert_eq!(
        switch("iris", "{\"enabled\": false}").await,
        (200, "{\"enabled\":false}".to_owned())
    );
    ask().await;
    assert_eq!(switch("iris", "{\"enabled\": true}").await.0, 200);
    ask().await;
    assert_eq!(switch("iris", "{}").await.0, 400);
    assert_eq!(switch("other", "{\"enabled\": true}").await.0, 404);
    assert_eq!(place.rows(1).await.len(), 1);
    assert_eq!(server.terminate().await.status.code(), Some(0));
    assert_eq!(
        place
            .files()
            .iter()
            .map(|file| file.rows.num_rows())
            .sum::<usize>(),
        1
    );
}

#[tokio::test]
async fn settings_that_make_no_sense_end_with_78_and_a_sentence() {
    let cases: [(&str, &str); 12] = [
        ("uri = \"/var/log\"", "expected `file:///DIRECTORY`"),
        ("uri = \"ftp://x/y\"", "expected `file:///DIRECTORY`"),
        ("fraction = 1.5", "a number from 0 to 1"),
        (
            "headers = [\"Authorization\"]",
            "headers without credentials",
        ),
        ("headers = [\"cookie\"]", "headers without credentials"),
        ("hash = [\"a\"]", "`payload_log.hash_key_file` as well"),
        ("exclude = [\"_caller\"]", "are the log's own"),
        (
            "exclude = [\"a\"]\nhash = [\"a\"]\nhash_key_file = \"k\"",
            "does not leave out",
        ),
        (
            "errors = true\nexclude = [\"a\"]",
            "bodies hold every column",
        ),
        ("roll = \"10ms\"", "`1s` or more"),
        ("keep = \"1m\"", "`1h` or more"),
        ("queue = 0", "a size such as"),
    ];
    let place = Place::new();
    let file = place.path("onstage.toml");
    for (text, expected) in cases {
        std::fs::write(&file, format!("[payload_log]\n{text}\n")).unwrap();
        let config = file.display().to_string();
        let ended = Starter::command(&[
            "serve",
            "model-examples/iris",
            "--config",
            &config,
            "--check-config",
        ])
        .run()
        .await;
        assert_eq!(ended.status.code(), Some(78), "{text}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{text}: {}", ended.stderr);
    }
    std::fs::write(place.path("short"), "short").unwrap();
    let text = format!(
        "[payload_log]\nuri = \"file://{}\"\nhash = [\"x\"]\nhash_key_file = \"{}\"\n",
        place.log().display(),
        place.path("short").display()
    );
    std::fs::write(&file, text).unwrap();
    let config = file.display().to_string();
    let cache = place.path("cache").display().to_string();
    let arguments = [
        "model-examples/iris",
        "--config",
        &config,
        "--cache-dir",
        &cache,
    ];
    let Err(ended) = Starter::serve(&arguments).try_start().await else {
        panic!("a short key is taken");
    };
    assert!(
        ended.stderr.contains("has 5 bytes, expected at least 16"),
        "{}",
        ended.stderr
    );
}
