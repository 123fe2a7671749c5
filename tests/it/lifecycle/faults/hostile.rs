//! Packages that somebody made to end the server: each alone in a registry beside a good model, in the server and in a
//! process of its own. The good model serves, its next release passes, and a restart comes up.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rstest::rstest;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::candidates::like_the_good_one;
use crate::lifecycle::swap::scene::{answering, registry, until};
use crate::support::onnx::{Parts, message, number, save, text, times};
use crate::support::server::{Server, Starter};

/// A package that is no good to anybody.
struct Hostile {
    what: &'static str,
    /// Writes its files into an empty directory.
    files: Box<dyn Fn(&Path)>,
}

const MANIFEST: &str = "flavors:\n  onnx:\n    data: model.onnx\n";

fn graph(what: &'static str, make: impl Fn() -> Vec<u8> + 'static) -> Hostile {
    let files = move |directory: &Path| save(&make(), &directory.join("model.onnx"));
    Hostile {
        what,
        files: Box::new(files),
    }
}

/// A package whose graph is good.
fn package(what: &'static str, spoil: impl Fn(&Path) + 'static) -> Hostile {
    let files = move |directory: &Path| {
        save(&times(5.0), &directory.join("model.onnx"));
        fs::write(directory.join("MLmodel"), MANIFEST).unwrap();
        spoil(directory);
    };
    Hostile {
        what,
        files: Box::new(files),
    }
}

fn manifest(what: &'static str, make: impl Fn() -> String + 'static) -> Hostile {
    package(what, move |directory| {
        fs::write(directory.join("MLmodel"), make()).unwrap();
    })
}

/// A chain of operators that do nothing.
fn chain(length: usize, all_are_outputs: bool) -> Vec<u8> {
    let mut parts = Parts::default().value(true, "x", 1, &[0, 2]);
    let mut from = "x".to_owned();
    for step in 0..length {
        let to = format!("v{step}");
        parts = parts.node("Identity", &[&from], &to);
        if all_are_outputs || step + 1 == length {
            parts = parts.value(false, &to, 1, &[0, 2]);
        }
        from = to;
    }
    parts.model()
}

/// Fields of a graph beside a good one.
fn beside(field: u64, bytes: &[u8], times: usize) -> Vec<u8> {
    let graph = message(field, bytes).repeat(times);
    let good = like_the_good_one().node("Identity", &["x"], "y");
    good.with(&graph).model()
}

fn operator(name: &str, domain: &str, attributes: &[u8]) -> Vec<u8> {
    let names = [text(1, "x"), text(2, "y"), text(4, name), text(7, domain)];
    [&names.concat(), attributes].concat()
}

/// A graph in a graph in a graph …
fn nested(depth: usize) -> Vec<u8> {
    let mut inner = message(1, &operator("Identity", "", &[]));
    for _ in 0..depth {
        let attribute = [text(1, "then_branch"), message(6, &inner), number(20, 5)];
        inner = message(1, &operator("If", "", &message(5, &attribute.concat())));
    }
    like_the_good_one().with(&inner).model()
}

/// Functions of which each calls the next one twice; the last one calls this one.
fn functions(count: usize, last: &str) -> Vec<u8> {
    let functions = (0..count).flat_map(|index| {
        let next = match index + 1 {
            next if next == count => last.to_owned(),
            next => format!("f{next}"),
        };
        let domain = if next == "Identity" { "" } else { "own" };
        let call = message(7, &operator(&next, domain, &[]));
        let function = [
            text(1, &format!("f{index}")),
            text(4, "x"),
            text(5, "y"),
            call.repeat(2),
            message(9, &number(2, 17)),
            text(10, "own"),
        ];
        message(25, &function.concat())
    });
    let functions: Vec<u8> = functions.collect();
    let call = message(1, &operator("f0", "own", &[]));
    let model = like_the_good_one().with(&call).model();
    [model, functions].concat()
}

/// What comes of `operator` with a shape of so many elements.
fn giant(operator: &str) -> Vec<u8> {
    let shape = [1 << 20, 1 << 20];
    let parts = like_the_good_one().integers("shape", &shape);
    let parts = match operator {
        "ConstantOfShape" => parts.node(operator, &["shape"], "all"),
        _ => parts
            .filled("one", &[1, 1], 1.0)
            .node(operator, &["one", "shape"], "all"),
    };
    let parts = parts.node("ReduceSum", &["all"], "sum");
    parts.node("Mul", &["x", "sum"], "y").model()
}

/// So many functions of ten million numbers.
fn endless(functions: usize) -> Vec<u8> {
    let mut parts = like_the_good_one()
        .integers("repeats", &[1, 5_000_000])
        .integers("axis", &[1])
        .node("Tile", &["x", "repeats"], "v0");
    for step in 0..functions {
        let (from, to) = (format!("v{step}"), format!("v{}", step + 1));
        parts = parts.node("Tanh", &[&from], &to);
    }
    let last = format!("v{functions}");
    let parts = parts.node("ReduceSum", &[&last, "axis"], "sum");
    parts.node("Mul", &["x", "sum"], "y").model()
}

/// A tensor whose shape is larger than any memory, and that holds nothing.
fn hollow(dims: &[u64]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| number(1, *dim)).collect();
    let tensor = [dims, number(2, 1), text(8, "w")].concat();
    let parts = like_the_good_one().with(&message(5, &tensor));
    parts.node("Mul", &["x", "w"], "y").model()
}

fn elsewhere(location: &str) -> Vec<u8> {
    crate::support::onnx::with_external_data(location)
}

fn session(options: &str) -> String {
    format!("{MANIFEST}    onnx_session_options:\n{options}")
}

fn graphs() -> Vec<Hostile> {
    vec![
        graph("a million nodes and one", || beside(1, b"", 1_000_001)),
        graph("a chain of 100,000", || chain(100_000, false)),
        graph("a chain whose links are outputs", || chain(15_000, true)),
        graph("thirty thousand outputs", || chain(30_000, true)),
        graph("graphs in graphs", || nested(30)),
        graph("functions that double", || functions(40, "Identity")),
        graph("functions that call themselves", || functions(3, "f0")),
        graph("too many attributes", || {
            let attributes = message(5, &text(1, "a")).repeat(100_000);
            beside(1, &operator("Identity", "", &attributes), 1)
        }),
        graph("too many initializers", || beside(5, b"", 1_100_000)),
        graph("too many dimensions", || hollow(&[1; 10_000])),
        graph("a shape beyond all memory", || hollow(&[1 << 40, 1 << 40])),
        graph("negative dimensions", || hollow(&[u64::MAX, 2])),
        graph("a name of ten megabytes", || {
            beside(1, &operator(&"x".repeat(10 << 20), "", &[]), 1)
        }),
        graph("a constant of a tebibyte", || giant("ConstantOfShape")),
        graph("an expansion to a tebibyte", || giant("Expand")),
        graph("repetitions to a tebibyte", || giant("Tile")),
        graph("no end", || endless(2000)),
        graph("a circle", || {
            let parts = like_the_good_one().node("Identity", &["y"], "z");
            parts.node("Identity", &["z"], "y").model()
        }),
        graph("an operator that feeds itself", || {
            like_the_good_one().node("Add", &["y", "x"], "y").model()
        }),
        graph("weights in a device", || elsewhere("/dev/zero")),
        graph("weights outside", || elsewhere("../../../../etc/passwd")),
        graph("garbage", || {
            [0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f, 1].repeat(1000)
        }),
    ]
}

fn manifests() -> Vec<Hostile> {
    vec![
        manifest("a manifest of five megabytes", || {
            format!("{MANIFEST}#{}", "x".repeat(5 << 20))
        }),
        manifest("aliases of aliases", || {
            let mut text = "a0: &a0 [x]\n".to_owned();
            for step in 1..10 {
                let before = format!("*a{},", step - 1).repeat(10);
                text.push_str(&format!("a{step}: &a{step} [{before}]\n"));
            }
            text + MANIFEST
        }),
        manifest("lists in lists", || {
            format!(
                "deep: {}{}\n{MANIFEST}",
                "[".repeat(50_000),
                "]".repeat(50_000)
            )
        }),
        manifest("twenty thousand threads", || {
            let inter = "      inter_op_num_threads: 20000\n      execution_mode: parallel\n";
            session(&format!("      intra_op_num_threads: 20000\n{inter}"))
        }),
        manifest("threads without number", || {
            session("      intra_op_num_threads: 9223372036854775807\n")
        }),
        manifest("options that name files", || {
            let entry = "session.model_external_initializers_file_folder_path: /etc";
            session(&format!("      extra_session_config:\n        {entry}\n"))
        }),
        manifest("a model outside", || {
            "flavors:\n  onnx:\n    data: ../../../../etc/passwd\n".to_owned()
        }),
        package("an example of a hundred megabytes", |directory| {
            super::example(directory, "[[1.0, 1.0]]");
            let file = fs::File::create(directory.join("serving_input_example.json")).unwrap();
            file.set_len(100 << 20).unwrap();
        }),
        package("a note of a hundred megabytes", |directory| {
            let file = fs::File::create(directory.join("registered_model_meta")).unwrap();
            file.set_len(100 << 20).unwrap();
        }),
        package("hints beyond reason", |directory| {
            let hints = "metadata:\n  onstage:\n    batching:\n      max_batch_size: 9223372036854775807\n      \
                         max_queue_delay: 9999999h\n";
            fs::write(directory.join("MLmodel"), format!("{MANIFEST}{hints}")).unwrap();
        }),
    ]
}

/// Puts a version into a registry as somebody would who has access to its files.
fn publish(models: &Path, model: &str, version: u64, files: &dyn Fn(&Path)) {
    let versions = models.join(model).join("versions");
    let directory = versions.join(version.to_string());
    fs::create_dir_all(&directory).unwrap();
    files(&directory);
    let digest = onstage::model::Content::read(&directory).unwrap().digest;
    let record = json!({ "created": "2026-01-01T00:00:00Z", "digest": digest });
    fs::write(versions.join(format!("{version}.json")), record.to_string()).unwrap();
    let aliases = models.join(model).join("aliases");
    fs::create_dir_all(&aliases).unwrap();
    fs::write(aliases.join("champion"), version.to_string()).unwrap();
}

fn good(factor: f32) -> impl Fn(&Path) {
    move |directory| {
        save(&times(factor), &directory.join("model.onnx"));
        fs::write(directory.join("MLmodel"), MANIFEST).unwrap();
    }
}

const GOOD: &str = "/models/good/invocations";

/// What a test serves.
struct Scene {
    models: PathBuf,
    directory: tempfile::TempDir,
    config: String,
    engine: &'static str,
}

impl Scene {
    fn set(hostile: &Hostile, isolation: &str, engine: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let models = directory.path().join("models");
        publish(&models, "good", 1, &good(1.0));
        publish(&models, "evil", 1, &*hostile.files);
        let config = format!(
            "[models.evil]\nisolation = \"{isolation}\"\n[engine]\nload_timeout = \"3s\"\nmemory_budget = \"2GiB\"\n"
        );
        Self {
            models,
            directory,
            config,
            engine,
        }
    }

    /// A server, which a hostile package may end twice.
    async fn start(&self, story: &str) -> Server {
        let config = self.directory.path().join("onstage.toml");
        fs::write(&config, &self.config).unwrap();
        let cache = self.directory.path().join("cache");
        let arguments = [
            "--registry",
            self.models.to_str().unwrap(),
            "--follow",
            "@champion",
            "--poll-interval",
            "100ms",
            "--cache-dir",
            cache.to_str().unwrap(),
            "--config",
            config.to_str().unwrap(),
            "--engine",
            self.engine,
        ];
        for _ in 0..3 {
            let starter = Starter::serve(&arguments).with_onnxruntime();
            if let Ok(server) = starter.try_start().await
                && self.lives(&server).await
            {
                return server;
            }
        }
        panic!("{story}: it ends again and again");
    }

    /// Whether the server is still there once everything has settled.
    async fn lives(&self, server: &Server) -> bool {
        let ask = server.request(reqwest::Method::GET, "/v2/health/live");
        let settled = Instant::now() + Duration::from_millis(300);
        while Instant::now() < settled {
            let asked = ask.try_clone().unwrap().send().await;
            if asked.is_err() {
                return false;
            }
            sleep(Duration::from_millis(50)).await;
        }
        true
    }
}

async fn leaves_the_good_one_alone(hostile: &Hostile, isolation: &str, engine: &'static str) {
    let story = format!("{} ({isolation}, {engine})", hostile.what);
    let scene = Scene::set(hostile, isolation, engine);
    let server = scene.start(&story).await;
    until(&story, &server, async || {
        answering(&server, GOOD).await == Some(1)
    })
    .await;
    publish(&scene.models, "good", 2, &good(2.0));
    until(&story, &server, async || {
        answering(&server, GOOD).await == Some(2)
    })
    .await;
    // As `kill -9` does.
    drop(server);
    let again = scene.start(&story).await;
    until(&story, &again, async || {
        answering(&again, GOOD).await.is_some()
    })
    .await;
    assert_eq!(again.get("/ping").await.status(), 200, "{story}");
}

#[rstest]
#[case::tract("none", "tract")]
#[case::onnxruntime("none", "onnxruntime")]
#[case::isolated_tract("process", "tract")]
#[case::isolated_onnxruntime("process", "onnxruntime")]
#[tokio::test]
async fn a_hostile_graph_leaves_the_good_model_alone(
    #[case] isolation: &str,
    #[case] engine: &'static str,
) {
    for hostile in graphs() {
        leaves_the_good_one_alone(&hostile, isolation, engine).await;
    }
}

#[rstest]
#[case::onnxruntime("none", "onnxruntime")]
#[case::isolated_onnxruntime("process", "onnxruntime")]
#[tokio::test]
async fn a_hostile_manifest_leaves_the_good_model_alone(
    #[case] isolation: &str,
    #[case] engine: &'static str,
) {
    for hostile in manifests() {
        leaves_the_good_one_alone(&hostile, isolation, engine).await;
    }
}

/// The series of a load that failed for this reason.
fn failures(model: &str, reason: &str) -> String {
    format!(r#"onstage_candidate_failures_total{{model="{model}",reason="{reason}"}}"#)
}

#[tokio::test]
async fn loads_that_hang_give_their_places_to_others() {
    let never = graph("no end", || endless(2000));
    let scene = Scene::set(&never, "none", "tract");
    for model in ["evil2", "evil3", "evil4"] {
        publish(&scene.models, model, 1, &*never.files);
    }
    let server = scene.start("hanging loads").await;
    until("the good one never serves", &server, async || {
        answering(&server, GOOD).await == Some(1)
    })
    .await;
    for model in ["evil", "evil2", "evil3", "evil4"] {
        until("it is never counted", &server, async || {
            let text = crate::lifecycle::swap::scene::metrics(&server).await;
            text.contains(&failures(model, "hung"))
        })
        .await;
    }
    publish(&scene.models, "good", 2, &good(2.0));
    until("the next release never comes", &server, async || {
        answering(&server, GOOD).await == Some(2)
    })
    .await;
}

#[tokio::test]
async fn what_ended_the_process_twice_is_not_tried_again_before_somebody_says_so() {
    let never = graph("no end", || endless(2000));
    let mut scene = Scene::set(&never, "none", "tract");
    scene.config = "[engine]\nload_timeout = \"10m\"\n[server]\nadmin_port = 0\n".to_owned();
    fs::write(
        scene.directory.path().join("token"),
        "a-token-of-some-length",
    )
    .unwrap();
    let token = scene.directory.path().join("token");
    scene
        .config
        .push_str(&format!("admin_token_file = {token:?}\n"));
    let cache = scene.directory.path().join("cache");
    let texts = || -> Vec<String> {
        let loads = fs::read_dir(cache.join("loads")).into_iter().flatten();
        loads
            .filter_map(|file| fs::read_to_string(file.ok()?.path()).ok())
            .collect()
    };
    for round in 0..2 {
        let unfinished = format!("\"unfinished\":{round},\"loading\":[\"");
        let is_loading = || {
            let texts = texts();
            let has = |part: &str| texts.iter().any(|text| text.contains(part));
            has(&unfinished) && has("\"served\":true")
        };
        let starting = scene.start("killed while it loads");
        tokio::select! {
            _ = starting => panic!("it waits for what loads"),
            () = async { while !is_loading() { sleep(Duration::from_millis(10)).await; } } => {}
        }
        // Dropping it has killed the process.
        sleep(Duration::from_millis(200)).await;
    }
    let server = scene.start("not tried again").await;
    assert_eq!(answering(&server, GOOD).await, Some(1));
    until("it is never counted", &server, async || {
        let text = crate::lifecycle::swap::scene::metrics(&server).await;
        text.contains(&failures("evil", "unfinished"))
    })
    .await;
    server.logged(&["loads of it never returned"]).await;
}

/// A user who may read, and nothing else, tries to keep the cache locked.
#[tokio::test]
async fn a_reader_who_locks_what_he_can_stops_no_load() {
    let harmless = graph("nothing", || times(7.0));
    let scene = Scene::set(&harmless, "none", "tract");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(scene.directory.path(), open).unwrap();
    let cache = scene.directory.path().join("cache");
    // As an operator may have made it.
    fs::create_dir(&cache).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&cache, open).unwrap();
    let server = scene.start("a reader").await;
    let script = "for file in \"$0\"/lock \"$0\"/downloads/*.lock \"$0\"/holders/*; do flock -n \"$file\" sleep 60 & done; wait";
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let reader = Command::new("setpriv")
        .args(user)
        .args(["bash", "-c", script])
        .arg(&cache)
        .process_group(0)
        .spawn();
    let Ok(mut reader) = reader else { return };
    sleep(Duration::from_millis(500)).await;
    publish(&scene.models, "good", 2, &good(2.0));
    until("the reader stops the load", &server, async || {
        answering(&server, GOOD).await == Some(2)
    })
    .await;
    let group = format!("-{}", reader.id());
    let _ = Command::new("kill").args(["-9", "--", &group]).status();
    let _ = reader.wait();
    registry(&["list", "--registry", scene.models.to_str().unwrap()]).await;
}
