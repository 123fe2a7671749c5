//! Versions that load, keep the contract and fail at run time, under load: kept off by their own example, or taken back
//! while the version before answers what they fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::candidates::{Candidate, example, like_the_good_one, publish};
use crate::lifecycle::swap::scene::{Files, answering, counter, metrics, until};
use crate::support::onnx::{Parts, save};
use crate::support::server::Server;

const PATH: &str = "/models/scale/invocations";

/// Reasons of what an engine sees when it loads a graph; where it does, nothing is left to fail.
const SEEN_THROUGH: [&str; 2] = ["compile", "unsupported"];

/// What becomes of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It never goes on stage.
    KeptOff(&'static str),
    /// It is on stage for a while.
    TakenBack,
    /// It serves, as nothing of what it answers is wrong.
    Serves,
}

/// A way to fail at run time.
struct Kind {
    what: &'static str,
    graph: Vec<u8>,
    /// An example on which it fails, if it can.
    example: &'static str,
    fate_with_example: Fate,
    fate: Fate,
    /// What two groups of clients send.
    rows: [&'static str; 2],
    /// Statuses of answers that the version before cannot take over in time.
    may_fail: &'static [u16],
}

/// Anything goes for these rows: the version before answers them.
const PLAIN: [&str; 2] = ["[[1.0, 1.0]]", "[[0.0, 1.0]]"];

impl Kind {
    /// One that fails on each request, and so on its example.
    fn always(what: &'static str, graph: Parts) -> Self {
        Self {
            what,
            graph: graph.model(),
            example: "[[1.0, 1.0]]",
            fate_with_example: Fate::KeptOff("example"),
            fate: Fate::TakenBack,
            rows: PLAIN,
            may_fail: &[],
        }
    }
}

/// An index that no loader can see: nothing of what comes in, and six.
fn six(parts: Parts) -> Parts {
    parts
        .filled("nothing", &[1], 0.0)
        .filled("six_there", &[1], 6.0)
        .integers("one_long", &[1])
        .node("ReduceMax", &["x"], "largest")
        .node("Mul", &["largest", "nothing"], "zero_there")
        .node("Add", &["zero_there", "six_there"], "sixes")
        .node_with("Cast", &["sixes"], "whole_sixes", &[("to", 7)])
        .node("Reshape", &["whole_sixes", "one_long"], "six")
}

/// The column with the number 6, of two.
pub(crate) fn gather() -> Parts {
    six(like_the_good_one())
        .node_with("Gather", &["x", "six"], "column", &[("axis", 1)])
        .node("Mul", &["column", "x"], "y")
}

/// Multiplies numbers from 0 to below `limit`, and fails on others.
pub(crate) fn multiplies_below(limit: u64, factor: f32) -> Parts {
    like_the_good_one()
        .filled("factors", &[limit], factor)
        .node_with("Cast", &["x"], "index", &[("to", 7)])
        .node("Gather", &["factors", "index"], "factor")
        .node("Mul", &["x", "factor"], "y")
}

/// A row that stands for so many columns as its first number, thousandfold.
fn tiles(factor: f32) -> Parts {
    let mut parts = like_the_good_one()
        .filled("thousand", &[1, 1], factor)
        .integers("one", &[1])
        .integers("first", &[0])
        .integers("columns", &[1])
        .node_with("Gather", &["x", "first"], "head", &[("axis", 1)])
        .node("Mul", &["head", "thousand"], "many")
        .node("ReduceMax", &["many"], "most")
        .node_with("Cast", &["most"], "count", &[("to", 7)])
        .node("Reshape", &["count", "one"], "counts")
        .node_with("Concat", &["one", "counts"], "repeats", &[("axis", 0)])
        .node("Tile", &["x", "repeats"], "v0");
    for step in 0..60 {
        let (from, to) = (format!("v{step}"), format!("v{}", step + 1));
        parts = parts.node("Tanh", &[&from], &to);
    }
    parts
        .node("ReduceSum", &["v60", "columns"], "sum")
        .node("Mul", &["x", "sum"], "y")
}

/// Fails from eight rows on.
fn fails_on_eight_rows() -> Parts {
    like_the_good_one()
        .filled("seven", &[7], 1.0)
        .integers("one", &[1])
        .node("Shape", &["x"], "shape")
        .integers("first", &[0])
        .node("Gather", &["shape", "first"], "rows")
        .node("Sub", &["rows", "one"], "last")
        .node("Gather", &["seven", "last"], "factor")
        .node("Mul", &["x", "factor"], "y")
}

/// The smallest number divided by −1, which raises a signal in ONNX Runtime; other numbers are divided as they are.
fn divides() -> Parts {
    like_the_good_one()
        .integers("minus", &[u64::MAX])
        .node_with("Cast", &["x"], "whole", &[("to", 7)])
        .node("Div", &["whole", "minus"], "quotient")
        .node_with("Cast", &["quotient"], "y", &[("to", 1)])
}

/// Fails one run in ten, at random, unless the row is all zeros: the first requests say nothing.
fn fails_now_and_then() -> Parts {
    like_the_good_one()
        .filled("eighteen", &[18], 1.0)
        .filled("twenty", &[1], 20.0)
        .integers("one", &[1])
        .node_with("RandomUniformLike", &["twenty"], "chance", &[("dtype", 1)])
        .node("Mul", &["chance", "twenty"], "twentieths")
        .node("ReduceMax", &["x"], "largest")
        .node("Mul", &["twentieths", "largest"], "scaled")
        .node_with("Cast", &["scaled"], "place", &[("to", 7)])
        .node("Reshape", &["place", "one"], "index")
        .node("Gather", &["eighteen", "index"], "factor")
        .node("Mul", &["x", "factor"], "y")
}

fn kinds() -> Vec<Kind> {
    let example = Fate::KeptOff("example");
    vec![
        Kind::always("an index that is out of range", gather()),
        Kind::always(
            "a shape that cannot be",
            six(like_the_good_one())
                .node("Reshape", &["x", "six"], "flat")
                .node("ReduceSum", &["flat"], "sum")
                .node("Mul", &["x", "sum"], "y"),
        ),
        Kind::always(
            "shapes that do not fit together",
            six(like_the_good_one())
                .node_with("ConstantOfShape", &["six"], "six_zeros", &[])
                .node("Add", &["x", "six_zeros"], "y"),
        ),
        Kind::always(
            "a whole number divided by zero",
            six(like_the_good_one())
                .node("Sub", &["six", "six"], "zero")
                .node_with("Cast", &["x"], "whole", &[("to", 7)])
                .node("Div", &["whole", "zero"], "quotient")
                .node_with("Cast", &["quotient"], "y", &[("to", 1)]),
        ),
        Kind {
            rows: ["[[1.0, 1.0]]", "[[5.0, 5.0]]"],
            example: "[[5.0, 5.0]]",
            ..Kind::always("half of the rows", multiplies_below(2, 1.0))
        },
        Kind {
            example: "[[0.0, 0.0]]",
            fate_with_example: Fate::TakenBack,
            ..Kind::always("one run in ten, at random", fails_now_and_then())
        },
        Kind {
            fate_with_example: example,
            example: "[[1.0, 1.0], [2.0, 2.0]]",
            rows: ["[[1.0, 1.0]]", "[[1.0, 1.0], [2.0, 2.0]]"],
            ..Kind::always(
                "more than one row",
                like_the_good_one().integers("shape", &[1, 2]).node(
                    "Reshape",
                    &["x", "shape"],
                    "y",
                ),
            )
        },
        Kind {
            fate_with_example: Fate::Serves,
            fate: Fate::Serves,
            ..Kind::always("joint runs of eight rows alone", fails_on_eight_rows())
        },
        Kind {
            fate_with_example: Fate::KeptOff("nonfinite"),
            may_fail: &[200],
            ..Kind::always(
                "NaN",
                like_the_good_one()
                    .filled("nan", &[1], f32::NAN)
                    .node("Mul", &["x", "nan"], "y"),
            )
        },
        Kind {
            // The form of the answer is the contract's matter; MLflow answers it too.
            fate_with_example: Fate::Serves,
            fate: Fate::Serves,
            ..Kind::always(
                "an output of another shape",
                like_the_good_one().integers("repeats", &[1, 2]).node(
                    "Tile",
                    &["x", "repeats"],
                    "y",
                ),
            )
        },
        Kind {
            // Fine on its example, and late on what clients send.
            example: "[[0.0, 0.0]]",
            fate_with_example: Fate::TakenBack,
            may_fail: &[504, 429],
            ..Kind::always("time-outs", tiles(10_000_000.0))
        },
    ]
}

/// What only a process of its own survives.
fn deadly(engine: &str) -> Vec<Kind> {
    let kind = |what, graph, rows| Kind {
        example: "[[0.0, 0.0]]",
        fate_with_example: Fate::TakenBack,
        rows,
        may_fail: &[503, 504, 429],
        ..Kind::always(what, graph)
    };
    let memory = kind("out of memory", tiles(1e12), PLAIN);
    match engine {
        "tract" => vec![memory],
        _ => {
            let smallest = ["[[-9223372036854775808.0, 1.0]]", "[[1.0, 1.0]]"];
            vec![memory, kind("a signal", divides(), smallest)]
        }
    }
}

/// Clients that go on, each with rows of its own; what failed, by status.
struct Clients {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<(u64, Vec<String>)>>,
}

impl Clients {
    fn start(server: &Server, rows: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |rows: &&str| {
            let (stop, url) = (Arc::clone(&stop), server.url(PATH));
            let rows: Value = serde_json::from_str(rows).unwrap();
            tokio::spawn(async move {
                let client = reqwest::Client::new();
                let (mut sent, mut failed) = (0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let answer = client
                        .post(&url)
                        .json(&json!({ "inputs": rows }))
                        .send()
                        .await;
                    sent += 1;
                    let answer = answer.unwrap();
                    let status = answer.status().as_u16();
                    let body = answer.text().await.unwrap();
                    if status != 200 || body.contains("null") {
                        failed.push(format!("{status} {body}"));
                    }
                    sleep(Duration::from_millis(1)).await;
                }
                (sent, failed)
            })
        };
        let tasks = rows.iter().map(client).collect();
        Self { stop, tasks }
    }

    async fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut sent, mut failed) = (0, Vec::new());
        for task in self.tasks {
            let (more, others) = task.await.unwrap();
            sent += more;
            failed.extend(others);
        }
        (sent, failed)
    }
}

async fn failures(server: &Server, reason: &str) -> u64 {
    let series = format!(r#"onstage_candidate_failures_total{{model="scale",reason="{reason}"}}"#);
    counter(server, &series).await
}

/// The repository index on one version.
async fn told(server: &Server, version: u64) -> String {
    let (_, index) = server.post_json("/v2/repository/index", "{}").await;
    let version = version.to_string();
    let entries = index.as_array().unwrap().iter();
    let mut entries = entries.filter(|entry| entry["version"] == *version);
    entries.next().map_or(String::new(), Value::to_string)
}

/// Puts a candidate on stage under load and sees to it that its fate is what it should be.
async fn try_out(
    files: &Files,
    server: &Server,
    kind: &Kind,
    (version, has_example): (u64, bool),
) -> Fate {
    let what = format!("{}, example: {has_example}", kind.what);
    let (graph, rows) = (
        kind.graph.clone(),
        format!("{{\"inputs\": {}}}", kind.example),
    );
    let candidate = Candidate {
        what: kind.what,
        reason: "",
        files: Box::new(move |directory| {
            save(&graph, &directory.join("model.onnx"));
            if has_example {
                example(directory, &rows);
            }
        }),
        wrong_digest: false,
    };
    publish(&files.models, version, &candidate);
    let clients = Clients::start(server, &kind.rows.repeat(4));
    sleep(Duration::from_millis(100)).await;
    let expected = if has_example {
        kind.fate_with_example
    } else {
        kind.fate
    };
    let fate = settle(files, server, (&what, expected), version).await;
    let (sent, failed) = clients.end().await;
    let allowed = |failure: &&String| {
        let status = failure.split(' ').next().unwrap().parse().unwrap();
        !kind.may_fail.contains(&status)
    };
    let others: Vec<&String> = failed.iter().filter(allowed).collect();
    assert!(
        others.is_empty(),
        "{what}: of {sent} {others:?}\n{}",
        server.stderr()
    );
    assert!(
        failed.len() < 400,
        "{what}: {} of {sent} failed",
        failed.len()
    );
    #[expect(clippy::print_stderr, reason = "what a failed run is compared with")]
    {
        eprintln!("{what}: {fate:?}, {} of {sent} failed", failed.len());
    }
    files.promote(1).await;
    until("it does not go", server, async || {
        answering(server, PATH).await == Some(1)
    })
    .await;
    fate
}

/// Promotes a version and waits for what becomes of it, which must be as expected unless its engine sees through it.
async fn settle(
    files: &Files,
    server: &Server,
    (what, expected): (&str, Fate),
    version: u64,
) -> Fate {
    let reason = match expected {
        Fate::KeptOff(reason) => reason,
        Fate::TakenBack => "probation",
        Fate::Serves => "none",
    };
    let mut before = Vec::new();
    for reason in SEEN_THROUGH.into_iter().chain([reason]) {
        before.push((reason, failures(server, reason).await));
    }
    files.promote(version).await;
    let promoted = Instant::now();
    loop {
        for (counted, count) in &before {
            if failures(server, counted).await > *count {
                assert_eq!(answering(server, PATH).await, Some(1), "{what}");
                let told = told(server, version).await;
                assert!(told.contains("UNAVAILABLE"), "{what}: {told}");
                return match *counted {
                    "probation" => Fate::TakenBack,
                    reason => Fate::KeptOff(reason),
                };
            }
        }
        let serves = expected == Fate::Serves && answering(server, PATH).await == Some(version);
        if serves {
            sleep(Duration::from_secs(1)).await;
            assert_eq!(answering(server, PATH).await, Some(version), "{what}");
            return Fate::Serves;
        }
        let told = told(server, version).await;
        let log = || server.stderr();
        assert!(
            promoted.elapsed() < Duration::from_secs(40),
            "{what}: {told}\n{}",
            log()
        );
        sleep(Duration::from_millis(20)).await;
    }
}

#[rstest]
#[case::tract("tract", false)]
#[case::onnxruntime("onnxruntime", false)]
#[case::tract_apart("tract", true)]
#[case::onnxruntime_apart("onnxruntime", true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_at_run_time_is_kept_off_or_taken_back(
    #[case] engine: &str,
    #[case] isolated: bool,
) {
    let files = Files::of(&[1.0]).await;
    let isolation = if isolated { "process" } else { "none" };
    let settings = format!("isolation = '{isolation}'\nrequest_timeout = '2s'");
    let flags = ["--engine", engine, "--poll-interval", "200ms"];
    let server = files.serve(&settings, &flags).await;
    let all = if isolated { deadly(engine) } else { kinds() };
    let mut version = 1;
    let mut fates = Vec::new();
    for kind in &all {
        for has_example in [true, false] {
            version += 1;
            fates.push(try_out(&files, &server, kind, (version, has_example)).await);
        }
    }
    let count = |fate: Fate| fates.iter().filter(|one| **one == fate).count();
    // Whatever an engine sees through when it loads a graph, enough must be left.
    if !isolated {
        assert!(count(Fate::TakenBack) >= 4, "{fates:?}");
        assert!(count(Fate::KeptOff("example")) >= 3, "{fates:?}");
    } else if engine == "tract" {
        // It calculates what it can when it loads a graph, and so its process ends there and not on stage.
        let on_stage = count(Fate::TakenBack) + count(Fate::KeptOff("compile"));
        assert_eq!(on_stage, fates.len(), "{fates:?}");
    } else {
        assert!(count(Fate::TakenBack) >= 1, "{fates:?}");
    }
    let text = metrics(&server).await;
    assert!(text.contains("onstage_engine_errors_total"), "{text}");
    server.terminate().await;
}

/// Twenty-three clients with rows that both versions answer, one with rows that only the old one does, over one
/// connection and over ever new ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_of_twenty_four_takes_nothing_back() {
    let files = Files::of(&[1.0]).await;
    let server = files
        .serve(
            "probation = '6s'",
            &["--engine", "onnxruntime", "--poll-interval", "200ms"],
        )
        .await;
    let candidate = Candidate {
        what: "refuses some rows",
        reason: "",
        files: Box::new(|directory| {
            save(
                &multiplies_below(2, 1.0).model(),
                &directory.join("model.onnx"),
            )
        }),
        wrong_digest: false,
    };
    publish(&files.models, 2, &candidate);
    let clients = Clients::start(&server, &["[[1.0, 1.0]]"; 23]);
    let hostile = Clients::start(&server, &["[[5.0, 5.0]]"]);
    sleep(Duration::from_millis(300)).await;
    files.promote(2).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, url) = (Arc::clone(&stop), server.url(PATH));
    let reconnecting = tokio::spawn(async move {
        let mut failed = 0;
        while !stopped.load(Ordering::Relaxed) {
            let client = reqwest::Client::new();
            let body = json!({ "inputs": [[5.0, 5.0]] });
            let answer = client.post(&url).json(&body).send().await.unwrap();
            failed += u64::from(answer.status() != 200);
        }
        failed
    });
    server.logged(&["passed its probation"]).await;
    stop.store(true, Ordering::Relaxed);
    let (sent, failed) = clients.end().await;
    assert!(sent > 1000 && failed.is_empty(), "{sent}: {failed:?}");
    // Once it has passed, the rows that it refuses are refused.
    let (_, refused) = hostile.end().await;
    assert!(
        refused.iter().all(|refusal| refusal.starts_with("400")),
        "{refused:?}"
    );
    reconnecting.await.unwrap();
    assert_eq!(failures(&server, "probation").await, 0);
    assert_eq!(answering(&server, PATH).await, Some(2));
    let replays = r#"onstage_replays_total{model="scale",outcome="answered",version="2"}"#;
    assert!(counter(&server, replays).await > 20);
    server.terminate().await;
}

/// A version that does well for a hundred requests, until its process is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ends_counts_once_and_no_client_feels_it() {
    let files = Files::of(&[1.0, 1.0]).await;
    let settings = "isolation = 'process'";
    let server = files
        .serve(settings, &["--engine", "tract", "--poll-interval", "200ms"])
        .await;
    let clients = Clients::start(&server, &["[[1.0, 1.0]]"; 8]);
    files.promote(2).await;
    until("it never came", &server, async || {
        answering(&server, PATH).await == Some(2)
    })
    .await;
    let served =
        r#"onstage_requests_total{model="scale",outcome="success",protocol="mlflow",version="2"}"#;
    until("it does not serve", &server, async || {
        counter(&server, served).await > 100
    })
    .await;
    assert_eq!(failures(&server, "probation").await, 0);
    let lost = r#"onstage_engine_errors_total{model="scale",reason="lost",version="2"}"#;
    let process = last_worker(&server);
    let status = std::process::Command::new("kill")
        .args(["-9", &process])
        .status();
    assert!(status.unwrap().success());
    until("nothing was lost", &server, async || {
        counter(&server, lost).await > 0
    })
    .await;
    let (sent, failed) = clients.end().await;
    assert!(sent > 100 && failed.is_empty(), "{sent}: {failed:?}");
    assert_eq!(
        failures(&server, "probation").await,
        0,
        "a process that ends once counts once"
    );
    server.terminate().await;
}

/// The worker that began last, by the log.
fn last_worker(server: &Server) -> String {
    let log = server.stderr();
    let line = log
        .lines()
        .rfind(|line| line.contains("a worker serves"))
        .unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    line["process"].to_string()
}
