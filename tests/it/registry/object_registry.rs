//! A registry in an object store, from the first version to the swap, with the real binary and S3 (moto).

use std::time::Duration;

use serde_json::json;

use crate::support::object_servers::{BUCKET, S3Server};
use crate::support::server::{Server, Starter};

const PATIENCE: Duration = Duration::from_secs(20);

/// The factor by which the served version multiplies.
async fn factor(server: &Server) -> f64 {
    let body = json!({ "inputs": [[1.0, 1.0]] }).to_string();
    let (status, answer) = server.post_json("/invocations", body).await;
    assert_eq!(status, 200, "{answer}");
    answer["predictions"]["y"][0][0].as_f64().unwrap()
}

#[tokio::test]
async fn a_pointer_that_moves_in_s3_swaps_the_served_version() {
    let s3 = S3Server::start().await;
    let registry = format!("s3://{BUCKET}/team a/models");
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let starter = |starter: Starter| {
        let variables = s3.variables().into_iter();
        variables.fold(starter, |starter, (name, value)| starter.env(&name, value))
    };
    let onstage = async |arguments: &[&str]| {
        let ended = starter(Starter::command(arguments)).run().await;
        assert!(ended.status.success(), "{arguments:?}: {}", ended.stderr);
        ended.stdout
    };
    for number in [1, 2] {
        let (graph, package) = (path(&format!("{number}.onnx")), path(&number.to_string()));
        let times = crate::support::onnx::times(number as f32 * 10.0);
        crate::support::onnx::save(&times, std::path::Path::new(&graph));
        onstage(&["package", &graph, "-o", &package]).await;
        let register = [
            "registry",
            "register",
            "scale",
            &package,
            "--registry",
            &registry,
        ];
        assert_eq!(onstage(&register).await, format!("{number}\n"));
    }
    let promote = async |version: &str| {
        let move_to = ["registry", "transition", "scale", version, "Production"];
        onstage(&[&move_to[..], &["--registry", &registry]].concat()).await;
    };
    promote("1").await;
    let follow = [
        "--registry",
        &registry,
        "--follow",
        "Production",
        "--poll-interval",
        "100ms",
    ];
    let server = starter(Starter::serve(&follow)).start().await;
    assert_eq!(factor(&server).await, 10.0);
    promote("2").await;
    let swapped = async {
        while factor(&server).await != 20.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let swapped = tokio::time::timeout(PATIENCE, swapped).await;
    assert!(swapped.is_ok(), "version 2 never came: {}", server.stderr());

    let copy = path("copy");
    let pull = [
        "pull",
        "models:/scale/Production",
        "--registry",
        &registry,
        "-o",
        &copy,
    ];
    let pulled = onstage(&pull).await;
    let row = "scale  2        Production       copied\n";
    assert!(pulled.ends_with(row), "{pulled}");
    drop(s3);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(factor(&server).await, 20.0, "an outage unloads nothing");
    server.terminate().await;
}
