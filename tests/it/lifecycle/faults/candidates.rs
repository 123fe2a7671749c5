//! Bad versions go on stage one after the other, under load: none of them serves longer than its probation, and nobody
//! else feels it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use onstage::model::Content;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::lifecycle::swap::scene::{
    Files, Load, answering, counter, registry, until, until_answering,
};
use crate::support::onnx::{Parts, save, times};
use crate::support::server::Server;

/// How long a version may be taken back.
const PROBATION: Duration = Duration::from_secs(30);

/// Where the candidates would answer.
const PATH: &str = "/models/scale/invocations";

/// A version that should not serve, and the reason that the metrics give for it.
pub(crate) struct Candidate {
    pub(crate) what: &'static str,
    pub(crate) reason: &'static str,
    /// Writes its files into an empty directory.
    pub(crate) files: Box<dyn Fn(&Path)>,
    /// Whether the registry names another digest.
    pub(crate) wrong_digest: bool,
}

/// A package that is good but for what the function does to it.
fn spoiled(what: &'static str, reason: &'static str, spoil: impl Fn(&Path) + 'static) -> Candidate {
    let files = move |directory: &Path| {
        save(&times(5.0), &directory.join("model.onnx"));
        fs::write(directory.join("MLmodel"), MANIFEST).unwrap();
        spoil(directory);
    };
    Candidate {
        what,
        reason,
        files: Box::new(files),
        wrong_digest: false,
    }
}

/// A bare graph.
fn graph(what: &'static str, reason: &'static str, graph: Vec<u8>) -> Candidate {
    Candidate {
        what,
        reason,
        files: Box::new(move |directory| save(&graph, &directory.join("model.onnx"))),
        wrong_digest: false,
    }
}

const MANIFEST: &str = "flavors:\n  onnx:\n    data: model.onnx\n    onnx_version: 1.19.0\n";

/// `x` to `y` like the version that serves.
pub(crate) fn like_the_good_one() -> Parts {
    Parts::default()
        .value(true, "x", 1, &[0, 2])
        .value(false, "y", 1, &[0, 2])
}

/// Numbers that look random and are the same in every run.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % below
    }
}

pub(crate) fn example(directory: &Path, rows: &str) {
    fs::write(directory.join("serving_input_example.json"), rows).unwrap();
    fs::write(directory.join("input_example.json"), rows).unwrap();
    let manifest = format!(
        "{MANIFEST}saved_input_example_info:\n  artifact_path: input_example.json\n  \
         serving_input_path: serving_input_example.json\n  type: ndarray\n  format: tf-serving\n"
    );
    fs::write(directory.join("MLmodel"), manifest).unwrap();
}

fn truncate(path: &Path, part: impl Fn(usize) -> usize) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..part(bytes.len())]).unwrap();
}

/// Two hundred functions of two million numbers for each row: more than a second on any machine.
fn slow() -> Vec<u8> {
    let mut parts = like_the_good_one()
        .integers("repeats", &[1, 1_000_000])
        .integers("axis", &[1])
        .node("Tile", &["x", "repeats"], "v0");
    for step in 0..200 {
        let (from, to) = (format!("v{step}"), format!("v{}", step + 1));
        parts = parts.node("Tanh", &[&from], &to);
    }
    parts
        .node("ReduceSum", &["v200", "axis"], "sum")
        .node("Mul", &["x", "sum"], "y")
        .model()
}

/// Files that are no package.
fn broken_files(random: &mut Seeded) -> Vec<Candidate> {
    let garbage: Vec<u8> = (0..500)
        .map(|_| u8::try_from(random.next(256)).unwrap())
        .collect();
    let cut = random.next(80) + 10;
    let onnx = |directory: &Path| directory.join("model.onnx");
    let manifest = |text: &'static str| {
        move |directory: &Path| fs::write(directory.join("MLmodel"), text).unwrap()
    };
    let invalid = "invalid_package";
    vec![
        spoiled("a graph of random bytes", invalid, move |directory| {
            fs::write(directory.join("model.onnx"), &garbage).unwrap();
        }),
        spoiled("a graph that is cut off", invalid, move |directory| {
            truncate(&directory.join("model.onnx"), |length| length.min(cut));
        }),
        spoiled("an empty graph", invalid, move |directory| {
            truncate(&onnx(directory), |_| 0);
        }),
        spoiled("no graph", invalid, move |directory| {
            fs::remove_file(onnx(directory)).unwrap();
        }),
        spoiled("a manifest that is none", invalid, manifest("{[")),
        spoiled(
            "a manifest that is a bomb",
            invalid,
            manifest("a: &a [1,1,1]\nb: &b [*a,*a,*a]\nc: [*b,*b]\n"),
        ),
        spoiled(
            "a manifest of another flavor",
            "no_onnx_model",
            manifest("flavors:\n  sklearn:\n    pickled_model: model.pkl\n"),
        ),
        spoiled(
            "a manifest that leads outside",
            invalid,
            manifest("flavors:\n  onnx:\n    data: ../../../../../etc/passwd\n"),
        ),
    ]
}

/// Packages that answer other requests than those that are sent.
fn other_contracts() -> Vec<Candidate> {
    vec![
        graph(
            "other input names",
            "contract_changed",
            Parts::default()
                .value(true, "renamed", 1, &[0, 2])
                .value(false, "y", 1, &[0, 2])
                .node("Identity", &["renamed"], "y")
                .model(),
        ),
        graph(
            "another data type",
            "contract_changed",
            Parts::default()
                .value(true, "x", 11, &[0, 2])
                .value(false, "y", 11, &[0, 2])
                .node("Identity", &["x"], "y")
                .model(),
        ),
        graph(
            "another shape",
            "contract_changed",
            Parts::default()
                .value(true, "x", 1, &[0, 3])
                .value(false, "y", 1, &[0, 3])
                .node("Identity", &["x"], "y")
                .model(),
        ),
        graph(
            "an output less",
            "contract_changed",
            Parts::default()
                .value(true, "x", 1, &[0, 2])
                .value(false, "z", 1, &[0, 2])
                .node("Identity", &["x"], "z")
                .model(),
        ),
        graph(
            "an input more",
            "contract_changed",
            like_the_good_one()
                .value(true, "more", 1, &[0, 2])
                .node("Add", &["x", "more"], "y")
                .model(),
        ),
    ]
}

/// Packages that look as they should.
fn bad_inside() -> Vec<Candidate> {
    vec![
        graph(
            "an operator that nobody has",
            "unsupported",
            like_the_good_one().node("Enchant", &["x"], "y").model(),
        ),
        graph(
            "weights in a file that is not there",
            "invalid_package",
            crate::support::onnx::with_external_data("weights.bin"),
        ),
        spoiled(
            "weights of 10 GB, or so it says",
            "invalid_package",
            |directory| {
                let graph =
                    crate::support::onnx::with_external_data_of("weights.bin", 10_000_000_000);
                save(&graph, &directory.join("model.onnx"));
                fs::write(directory.join("weights.bin"), [0; 8]).unwrap();
            },
        ),
        spoiled(
            "an example whose outputs are not finite",
            "nonfinite",
            |directory| {
                save(&times(f32::INFINITY), &directory.join("model.onnx"));
                example(directory, r#"{"inputs": [[1.0, 2.0]]}"#);
            },
        ),
        graph(
            "too large",
            "memory",
            like_the_good_one()
                .filled("large", &[3000, 3000], 0.0)
                .filled("in", &[2, 3000], 0.0)
                .filled("out", &[3000, 2], 0.0)
                .node("MatMul", &["x", "in"], "a")
                .node("MatMul", &["a", "large"], "b")
                .node("MatMul", &["b", "out"], "y")
                .model(),
        ),
        Candidate {
            wrong_digest: true,
            ..spoiled("another digest than the registry names", "digest", |_| {})
        },
        graph("NaN for every request", "probation", times(f32::NAN)),
        graph("slower than a request may take", "probation", slow()),
    ]
}

fn candidates(seed: u64) -> Vec<Candidate> {
    let mut random = Seeded(seed);
    let mut all = broken_files(&mut random);
    all.extend(other_contracts());
    all.extend(bad_inside());
    // In another order for each seed.
    for last in (1..all.len()).rev() {
        all.swap(last, random.next(last + 1));
    }
    all
}

/// Puts a candidate into the registry without the checks of `onstage registry register`.
pub(crate) fn publish(models: &str, version: u64, candidate: &Candidate) {
    let versions = PathBuf::from(models).join("scale/versions");
    let directory = versions.join(version.to_string());
    fs::create_dir(&directory).unwrap();
    (candidate.files)(&directory);
    // As `onstage registry register` would have it: the digest of a bare graph is that of its files alone.
    let package = onstage::model::Package::open(&directory);
    let digest = match package {
        Ok(package) => package.digest,
        Err(_) => Content::read(&directory).unwrap().digest,
    };
    let digest = if candidate.wrong_digest {
        format!("sha256:{}", "0".repeat(64))
    } else {
        digest
    };
    let record = json!({ "created": "2026-01-01T00:00:00Z", "digest": digest });
    let written = versions.join(format!(".{version}"));
    fs::write(&written, record.to_string()).unwrap();
    fs::rename(written, versions.join(format!("{version}.json"))).unwrap();
}

/// Threads and open files.
fn held(server: &Server) -> (usize, usize) {
    let process = PathBuf::from(format!("/proc/{}", server.process_id()));
    let count = |name: &str| fs::read_dir(process.join(name)).unwrap().count();
    (count("task"), count("fd"))
}

async fn failures(server: &Server, reason: &str) -> u64 {
    let series = format!(r#"onstage_candidate_failures_total{{model="scale",reason="{reason}"}}"#);
    counter(server, &series).await
}

/// Promotes a candidate, and waits until it is refused or taken back: never later than its probation, and on stage
/// before only where nothing else could tell.
async fn come_and_go(files: &Files, server: &Server, candidate: &Candidate, version: u64) {
    let Candidate { what, reason, .. } = candidate;
    publish(&files.models, version, candidate);
    let counted = failures(server, reason).await;
    files.promote(version).await;
    let promoted = Instant::now();
    let mut seen: Option<(Instant, Instant)> = None;
    let deadline = promoted + PROBATION + Duration::from_secs(150);
    while failures(server, reason).await == counted {
        let log = || server.stderr();
        assert!(
            Instant::now() < deadline,
            "{what} is never refused as {reason}: {}",
            log()
        );
        if answering(server, PATH).await == Some(version) {
            let now = Instant::now();
            seen = Some((seen.map_or(now, |(first, _)| first), now));
        }
        sleep(Duration::from_millis(20)).await;
    }
    let served = seen.map_or(Duration::ZERO, |(first, last)| last - first);
    assert!(served <= PROBATION, "{what}: served for {served:?}");
    assert!(
        *reason == "probation" || seen.is_none(),
        "{what} was on stage"
    );
    assert_eq!(answering(server, PATH).await, Some(1), "{what}");
    files.promote(1).await;
    until("it is not forgotten", server, async || {
        let (_, index) = server.post_json("/v2/repository/index", "{}").await;
        index.as_array().unwrap().len() == 2
    })
    .await;
}

#[tokio::test]
async fn twenty_one_bad_candidates_come_and_go_and_nobody_else_feels_it() {
    let files = Files::of(&[1.0, 2.0]).await;
    let good = files.directory.path().join("package-0");
    let good = good.to_str().unwrap();
    registry(&["register", "other", good, "--registry", &files.models]).await;
    registry(&[
        "alias",
        "other",
        "champion",
        "1",
        "--registry",
        &files.models,
    ])
    .await;
    let settings = format!(
        "probation = \"{}s\"\nrequest_timeout = \"300ms\"",
        PROBATION.as_secs()
    );
    let server = files
        .serve(
            &settings,
            &["--memory-budget", "64MiB", "--poll-interval", "200ms"],
        )
        .await;
    let body = json!({ "inputs": [[1.0, 1.0]] });
    let other = Load::with(&server, "/models/other/invocations", 2, &body);
    let load = Load::with(&server, PATH, 8, &body);
    let mut before = None;
    for (candidate, version) in candidates(42).iter().zip(3..) {
        come_and_go(&files, &server, candidate, version).await;
        before.get_or_insert_with(|| held(&server));
    }
    files.promote(2).await;
    until_answering(&server, PATH, 2).await;
    let (sent, failed) = other.end().await;
    assert!(sent > 1000 && failed.is_empty(), "{sent}: {failed:?}");
    let (sent, failed) = load.end().await;
    // Only what was on probation may have failed.
    let (late, others): (Vec<&String>, Vec<&String>) = { failed.iter() }.partition(|failure| {
        let is_late = failure.starts_with("504") || failure.starts_with("429");
        is_late || failure.contains("answered")
    });
    assert!(sent > 1000 && others.is_empty(), "{sent}: {others:?}");
    assert!(late.len() < 1000, "{}", late.len());
    let (threads_before, open_before) = before.unwrap();
    // Threads for files go ten seconds after their last use.
    until("threads or files leak", &server, async || {
        let (threads, open) = held(&server);
        threads <= threads_before + 8 && open <= open_before + 4
    })
    .await;
    let history: Value = server.post_json("/v2/repository/index", "{}").await.1;
    assert!(!history.to_string().contains("UNAVAILABLE"), "{history}");
}
