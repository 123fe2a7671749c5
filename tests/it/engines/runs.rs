//! A run can always be left: whatever a model does with a few bytes, the server answers, serves other models, and stops.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use onstage::protocol::inference::ModelInferRequest;
use reqwest::Method;
use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::lifecycle::swap::scene::{counter, until};
use crate::protocols::grpc;
use crate::support::onnx::{Parts, loops, save};
use crate::support::server::{Server, project};

const DRAIN: Duration = Duration::from_secs(2);

/// What a promise of a time may be late by on a machine that does other things too.
const LATE: Duration = Duration::from_secs(1);

/// A graph that runs for as long as it likes for what `values` and `shape` say.
struct Trap {
    graph: Parts,
    datatype: &'static str,
    shape: [usize; 2],
    value: f64,
}

/// A number of rounds that no machine ends.
fn endless() -> Trap {
    let graph = Parts::default()
        .value(true, "x", 7, &[0, 1])
        .integers("flat", &[1])
        .integers("axes", &[0, 1])
        .node_with("ReduceMax", &["x"], "most", &[("keepdims", 0)])
        .node("Reshape", &["most", "flat"], "state");
    Trap {
        graph: loops(graph, "most", "state").value(false, "y", 7, &[1]),
        datatype: "INT64",
        shape: [1, 1],
        value: 1e18,
    }
}

/// One operator that takes many seconds, and does not look up meanwhile.
fn product() -> Trap {
    const WIDTH: u64 = 8192;
    let graph = Parts::default()
        .filled("widen", &[1, WIDTH], 1.0)
        .node("MatMul", &["x", "widen"], "matrix")
        .node("MatMul", &["matrix", "matrix"], "product")
        .integers("columns", &[1])
        .node("ReduceSum", &["product", "columns"], "y")
        .value(true, "x", 1, &[0, 1])
        .value(false, "y", 1, &[0, 1]);
    Trap {
        graph,
        datatype: "FP32",
        shape: [8192, 1],
        value: 1.0,
    }
}

impl Trap {
    fn data(&self) -> Vec<serde_json::Value> {
        let one = match self.datatype {
            "INT64" => json!(1_000_000_000_000_000_000_i64),
            _ => json!(self.value),
        };
        vec![one; self.shape[0]]
    }

    fn raw(&self) -> Vec<u8> {
        let one = match self.datatype {
            "INT64" => 1_000_000_000_000_000_000_i64.to_le_bytes().to_vec(),
            _ => 1.0_f32.to_le_bytes().to_vec(),
        };
        one.repeat(self.shape[0])
    }
}

async fn serve(trap: Trap, engine: &str, isolation: &str) -> (Arc<Server>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trap.onnx");
    save(&trap.graph.model(), &path);
    let config = directory.path().join("onstage.toml");
    let settings = format!(
        "[models.trap]\nisolation = '{isolation}'\nrequest_timeout = '1s'\nwarmup = false\n"
    );
    std::fs::write(&config, settings).unwrap();
    let server = start(&[&path], engine, &config).await;
    (Arc::new(server), directory)
}

async fn start(models: &[&Path], engine: &str, config: &Path) -> Server {
    let mut arguments = vec!["model-examples/iris"];
    arguments.extend(models.iter().map(|path| path.to_str().unwrap()));
    let drain = format!("{DRAIN:?}");
    arguments.extend([
        "--engine",
        engine,
        "--config",
        config.to_str().unwrap(),
        "--drain-timeout",
        &drain,
    ]);
    Server::start(&arguments).await
}

/// The status of three requests over each protocol, as far as they are answered.
fn spring(server: &Arc<Server>, trap: &Trap) -> Vec<JoinHandle<u16>> {
    let data = trap.data();
    let rows: Vec<_> = data.iter().map(|number| json!([number])).collect();
    let input = json!({"name": "x", "datatype": trap.datatype, "shape": trap.shape, "data": data});
    let bodies = [
        ("/models/trap/invocations", json!({ "inputs": rows })),
        ("/v2/models/trap/infer", json!({ "inputs": [input] })),
        ("/v1/models/trap:predict", json!({ "instances": rows })),
    ];
    let mut tasks = Vec::new();
    for _ in 0..3 {
        for (path, body) in &bodies {
            let (server, path, body) = (Arc::clone(server), *path, body.to_string());
            tasks.push(tokio::spawn(async move {
                let request = server.request(Method::POST, path);
                let request = request
                    .header("content-type", "application/json")
                    .body(body);
                request
                    .send()
                    .await
                    .map_or(0, |answer| answer.status().as_u16())
            }));
        }
        let server = Arc::clone(server);
        let [rows, columns] = trap.shape.map(|size| i64::try_from(size).unwrap());
        let request = ModelInferRequest {
            model_name: "trap".to_owned(),
            inputs: vec![grpc::input("x", trap.datatype, &[rows, columns])],
            raw_input_contents: vec![trap.raw().into()],
            ..ModelInferRequest::default()
        };
        tasks.push(tokio::spawn(async move {
            let mut client = grpc::client(&server).await;
            match client.model_infer(request).await {
                Ok(_) => 200,
                Err(status) => match status.code() {
                    tonic::Code::DeadlineExceeded => 504,
                    tonic::Code::Unavailable => 503,
                    tonic::Code::ResourceExhausted => 429,
                    _ => 0,
                },
            }
        }));
    }
    tasks
}

/// The server answers, and serves the other model.
async fn is_well(server: &Server) {
    let answers = async {
        assert_eq!(server.get("/ping").await.status(), 200);
        let body = std::fs::read(project().join("model-examples/iris/request.json")).unwrap();
        let answer = server
            .post("/models/iris/invocations", "application/json", body)
            .await;
        assert_eq!(answer.status(), 200);
    };
    let patience = Duration::from_secs(20);
    let answered = tokio::time::timeout(patience, answers).await;
    assert!(answered.is_ok(), "nobody answers\n{}", server.stderr());
}

async fn stops_in_time(server: Arc<Server>) {
    let server = Arc::into_inner(server).expect("nobody else has it");
    let began = Instant::now();
    let ended = server.terminate().await;
    let took = began.elapsed();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(
        took < DRAIN + Duration::from_secs(1) + LATE,
        "{took:?}\n{}",
        ended.stderr
    );
}

#[rstest]
#[case::loop_confined(endless(), endless(), "onnxruntime", "none")]
#[case::loop_isolated(endless(), endless(), "onnxruntime", "process")]
#[case::product_on_onnxruntime(product(), product(), "onnxruntime", "none")]
#[case::product_isolated_on_onnxruntime(product(), product(), "onnxruntime", "process")]
#[case::product_on_tract(product(), product(), "tract", "none")]
#[case::product_isolated_on_tract(product(), product(), "tract", "process")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_hang_keep_nothing_from_being_served_or_from_stopping(
    #[case] trap: Trap,
    #[case] again: Trap,
    #[case] engine: &str,
    #[case] isolation: &str,
) {
    let (server, _files) = serve(trap, engine, isolation).await;
    let hanging = spring(&server, &again);
    tokio::time::sleep(Duration::from_millis(200)).await;
    is_well(&server).await;
    for status in join_all(hanging).await {
        let status = status.unwrap();
        assert!(
            [429, 503, 504].contains(&status),
            "{status}\n{}",
            server.stderr()
        );
    }
    is_well(&server).await;
    let hanging = spring(&server, &again);
    tokio::time::sleep(Duration::from_millis(300)).await;
    is_well(&server).await;
    hanging.into_iter().for_each(|task| task.abort());
    until("requests were given up", &server, async || {
        Arc::strong_count(&server) == 1
    })
    .await;
    stops_in_time(server).await;
}

/// Where nothing ends a run by force, its thread is left behind, and before too many are the model gets its own process.
#[rstest]
#[case("tract")]
#[case("onnxruntime")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_whose_runs_do_not_end_is_moved_into_a_process(#[case] engine: &str) {
    let (server, _files) = serve(product(), engine, "none").await;
    let statuses = join_all(spring(&server, &product())).await;
    assert!(
        statuses
            .iter()
            .all(|status| *status.as_ref().unwrap() != 200)
    );
    let abandoned = r#"onstage_abandoned_runs_total{model="trap"}"#;
    // On a busy machine many of them never begin.
    for _ in 0..60 {
        if counter(&server, abandoned).await >= 3 {
            break;
        }
        join_all(spring(&server, &product())).await;
        sleep(Duration::from_millis(100)).await;
    }
    assert!(
        counter(&server, abandoned).await >= 3,
        "{}",
        server.stderr()
    );
    server.logged(&["runs in a process of its own now"]).await;
    is_well(&server).await;
    stops_in_time(server).await;
}

/// Bytes that the process holds.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process_id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        << 10
}

#[rstest]
#[case("tract")]
#[case("onnxruntime")]
#[tokio::test]
async fn the_memory_of_a_very_large_run_is_given_back(#[case] engine: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wide.onnx");
    let wide = Parts::default()
        .filled("widen", &[1, 8192], 1.0)
        .integers("columns", &[1])
        .node("MatMul", &["x", "widen"], "matrix")
        .node("ReduceSum", &["matrix", "columns"], "y")
        .value(true, "x", 1, &[0, 1])
        .value(false, "y", 1, &[0, 1]);
    save(&wide.model(), &path);
    let config = directory.path().join("onstage.toml");
    std::fs::write(&config, "").unwrap();
    let server = start(&[&path], engine, &config).await;
    let infer = async |rows: usize| {
        let input =
            json!({"name": "x", "datatype": "FP32", "shape": [rows, 1], "data": vec![1.0; rows]});
        let body = json!({ "inputs": [input] }).to_string();
        server.post_json("/v2/models/wide/infer", body).await.0
    };
    assert_eq!(infer(10).await, 200);
    let before = resident(&server);
    // A gibibyte.
    assert_eq!(infer(32_768).await, 200);
    let after = resident(&server);
    assert!(
        after < before + (256 << 20),
        "{} MiB were kept",
        (after - before) >> 20
    );
}

/// One number that stands for very many.
fn bomb(operator: &str) -> Vec<u8> {
    let parts = Parts::default()
        .value(true, "x", 7, &[1])
        .integers("one", &[1]);
    let parts = match operator {
        "Range" => parts
            .integers("axes", &[0])
            .node("Squeeze", &["x", "axes"], "n")
            .node("Sub", &["n", "n"], "nothing")
            .node("Div", &["n", "n"], "step")
            .node("Range", &["nothing", "n", "step"], "y"),
        "Tile" => parts.node("Tile", &["one", "x"], "y"),
        _ => parts.node("Expand", &["one", "x"], "y"),
    };
    parts.value(false, "y", 7, &[0]).model()
}

/// The statuses of many requests from several connections.
async fn attack(server: &Arc<Server>, path: &str, body: String) -> Vec<u16> {
    let connections = (0..4).map(|_| {
        let (server, path, body) = (Arc::clone(server), path.to_owned(), body.clone());
        tokio::spawn(async move {
            let mut statuses = Vec::new();
            for _ in 0..3 {
                statuses.push(server.post_json(&path, body.clone()).await.0);
            }
            statuses
        })
    });
    let statuses = join_all(connections).await.into_iter();
    statuses.flat_map(|statuses| statuses.unwrap()).collect()
}

#[rstest]
#[case("tract")]
#[case("onnxruntime")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_bytes_that_stand_for_all_memory_end_no_server_and_fail_nobody_else(
    #[case] engine: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let sum = Parts::default()
        .value(true, "column", 1, &[0, 1])
        .value(true, "row", 1, &[1, 0])
        .node("Add", &["column", "row"], "y")
        .value(false, "y", 1, &[0, 0]);
    let config = directory.path().join("onstage.toml");
    let names = ["range", "tile", "expand", "sum"];
    let models = [bomb("Range"), bomb("Tile"), bomb("Expand"), sum.model()];
    let sources = names.iter().zip(&models).map(|(name, model)| {
        let path = directory.path().join(format!("{name}.onnx"));
        save(model, &path);
        // tract does not load all of them.
        format!(
            "[models.{name}]\nsource = '{}'\nrequired = false\n",
            path.display()
        )
    });
    std::fs::write(&config, sources.collect::<String>()).unwrap();
    let server = Arc::new(start(&[], engine, &config).await);
    let block = server.stdout();
    let is_served = |name: &&&str| block.contains(&format!("\n  {name} "));
    let confined: Vec<&&str> = names[..3].iter().filter(is_served).collect();
    assert!(!confined.is_empty() && is_served(&&"sum"), "{block}");
    let own = block.matches("in a process of its own").count();
    assert_eq!(own, confined.len(), "{block}");
    let healthy = {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            for _ in 0..200 {
                is_well(&server).await;
            }
        })
    };
    let number = json!({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1], "data": [1_000_000_000_000_i64]}]});
    for name in confined {
        let path = format!("/v2/models/{name}/infer");
        let statuses = attack(&server, &path, number.to_string()).await;
        let expected = |status: &u16| [400, 500, 503].contains(status);
        assert!(
            statuses.iter().all(expected),
            "{name}: {statuses:?}\n{}",
            server.stderr()
        );
    }
    let many = vec![1.0; 100_000];
    let column =
        json!({"name": "column", "datatype": "FP32", "shape": [many.len(), 1], "data": many});
    let row = json!({"name": "row", "datatype": "FP32", "shape": [1, many.len()], "data": many});
    let body = json!({ "inputs": [column, row] }).to_string();
    let statuses = attack(&server, "/v2/models/sum/infer", body).await;
    assert!(statuses.iter().all(|status| *status == 413), "{statuses:?}");
    healthy.await.unwrap();
    is_well(&server).await;
    stops_in_time(server).await;
}
