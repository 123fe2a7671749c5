//! `onstage baseline`: what it makes, and what it refuses. Whoever serves what it made is in `served.rs`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::onnx::{self, Parts};
use crate::support::server::{onnxruntime, project};

fn onstage(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onstage"))
        .args(arguments)
        .env("COLUMNS", "200")
        .output()
        .unwrap()
}

/// What a command that should fail says.
fn refusal(arguments: &[&str]) -> String {
    let ended = onstage(arguments);
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    stderr
}

fn done(arguments: &[&str]) -> String {
    let ended = onstage(arguments);
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{stderr}");
    String::from_utf8(ended.stdout).unwrap()
}

struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// A copy of an example.
    fn example(&self, name: &str, into: &str) -> String {
        let to = PathBuf::from(self.path(into));
        std::fs::create_dir(&to).unwrap();
        let from = project().join("model-examples").join(name);
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
            }
        }
        to.to_str().unwrap().to_owned()
    }

    /// A graph that gives back the tensor `x`, of shape `[n, 2]`.
    fn echo(&self) -> String {
        self.write("echo.onnx", onnx::echo(&[("FP32", 1)]))
    }

    fn read(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }
}

/// Rows of iris, `factor` times as large as they are.
fn flowers(factor: f64) -> String {
    let row = |number: u32| {
        let step = f64::from(number % 50) / 20.0;
        format!(
            "{},{},{},{}\n",
            factor * (4.0 + step),
            3.0,
            1.0 + step,
            step
        )
    };
    let rows: String = (0..500).map(row).collect();
    format!("a,b,c,d\n{rows}")
}

#[test]
fn a_package_gets_a_baseline_that_digest_inspect_and_diff_know() {
    let scene = Scene::new();
    let (one, other) = (scene.example("iris", "one"), scene.example("iris", "other"));
    let digest = |package: &str| -> Value {
        serde_json::from_str(&done(&["inspect", package, "--no-measure", "--json"])).unwrap()
    };
    let before = digest(&one)["digest"].clone();
    let table = scene.write("rows.csv", flowers(1.0));
    let told = done(&["baseline", &table, &one, "--follow-up"]);
    assert!(
        told.contains("rows  500") && told.contains("features[0]"),
        "{told}"
    );
    let after = digest(&one);
    assert_ne!(after["digest"], before);
    assert_eq!(after["baseline"]["rows"], 500);
    assert_eq!(after["baseline"]["problem"], Value::Null);
    let names = after["baseline"]["features"].as_array().unwrap();
    assert_eq!(names.len(), 4 + 1 + 3, "columns, the label, probabilities");
    // Once more gives the same file: the manifest is written once.
    done(&["baseline", &table, &one, "--follow-up"]);
    assert_eq!(digest(&one)["digest"], after["digest"]);
    let table = scene.write("larger.csv", flowers(2.0));
    done(&["baseline", &table, &other]);
    let diff: Value = serde_json::from_str(&done(&["diff", &one, &other, "--json"])).unwrap();
    let psi = |feature: &str| {
        let all = diff["baselines"].as_array().unwrap();
        let found = all.iter().find(|found| found["feature"] == feature);
        found.unwrap()["psi"].as_f64().unwrap()
    };
    assert!(psi("features[0]") > 1.0 && psi("features[1]") < 1e-9);
}

#[test]
fn a_signed_package_is_left_alone_and_a_signature_covers_the_baseline() {
    let scene = Scene::new();
    let package = scene.example("iris", "signed");
    let table = scene.write("rows.csv", flowers(1.0));
    std::fs::write(Path::new(&package).join("model.sig"), "x").unwrap();
    let said = refusal(&["baseline", &table, &package]);
    assert!(
        said.contains("is signed") && said.contains("hint:"),
        "{said}"
    );
    assert!(!Path::new(&package).join("baseline.json").exists());
}

#[test]
fn a_graph_alone_needs_a_file_for_its_baseline() {
    let scene = Scene::new();
    let (graph, table) = (
        scene.echo(),
        scene.write("rows.csv", "a,b\n1.5,2.5\n3.5,4.5\n"),
    );
    let said = refusal(&["baseline", &table, &graph]);
    assert!(
        said.contains("no `MLmodel`") && said.contains("--output"),
        "{said}"
    );
    let file = scene.path("b.json");
    done(&["baseline", &table, &graph, "-o", &file]);
    let made = scene.read("b.json");
    let names: Vec<&Value> = made["features"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["FP32[0]", "FP32[1]"]);
    assert_eq!(made["onstage"]["outputs"][0]["name"], "prediction[0]");
    assert!(
        made["onstage"]["data"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
}

#[test]
fn data_that_is_none_is_refused_with_the_reason() {
    let scene = Scene::new();
    let graph = scene.echo();
    let out = scene.path("b.json");
    let refuse = |table: &str, more: &[&str]| {
        let arguments = ["baseline", table, &graph, "-o", &out];
        refusal(&[&arguments[..], more].concat())
    };
    let empty = scene.write("empty.csv", "a,b\n");
    assert!(refuse(&empty, &[]).contains("the data has no rows"));
    let missing = scene.path("nothing.csv");
    assert!(refuse(&missing, &[]).contains("cannot read"));
    let text = scene.write("rows.txt", "a,b\n1,2\n");
    assert!(refuse(&text, &[]).contains("neither `.csv` nor `.parquet`"));
    let broken = scene.write("broken.parquet", "PAR1 this is no table PAR1");
    assert!(refuse(&broken, &[]).contains("is no table"));
    let wide = scene.write("wide.csv", "a,b,c\n1.5,2.5,3.5\n");
    let said = refuse(&wide, &[]);
    assert!(
        said.contains("rows 1 to") && said.contains("shape"),
        "{said}"
    );
    let rows = scene.write("rows.csv", "a,b\n1.5,2.5\n");
    assert!(refuse(&rows, &["--label", "y"]).contains("no column `y`"));
    assert!(refuse(&rows, &["--exclude", "z"]).contains("`z`"));
}

#[test]
fn a_column_without_a_value_and_one_with_a_single_value_have_bins_too() {
    let scene = Scene::new();
    let graph = scene.echo();
    let rows: String = (0..50).map(|_| ",7.5\n").collect();
    let table = scene.write("rows.csv", format!("a,b\n{rows}"));
    let file = scene.path("b.json");
    let told = done(&["baseline", &table, &graph, "-o", &file]);
    assert!(told.contains("100.0 %"), "{told}");
    let made = scene.read("b.json");
    let first = &made["features"][0]["numerical_statistics"];
    assert_eq!(
        first["common"],
        json!({"num_present": 0, "num_missing": 50})
    );
    let second = &made["features"][1]["numerical_statistics"]["distribution"]["kll"]["buckets"];
    assert_eq!(
        second,
        &json!([{"lower_bound": 7.5, "upper_bound": 7.5, "count": 50.0}])
    );
}

/// A graph that takes the text `t` and gives its length, more or less: the number that comes with it.
fn texts(scene: &Scene) -> String {
    let parts = Parts::default()
        .value(true, "t", 8, &[0])
        .value(true, "x", 1, &[0])
        .node("Identity", &["x"], "y")
        .value(false, "y", 1, &[0]);
    scene.write("texts.onnx", parts.model())
}

#[test]
fn free_text_leaves_its_lengths_and_none_of_its_values() {
    let scene = Scene::new();
    let (graph, library) = (texts(&scene), onnxruntime());
    let file = scene.path("b.json");
    let secret = |number: u32| format!("secret-{number}");
    let make = |table: &str| {
        done(&[
            "baseline",
            table,
            &graph,
            "-o",
            &file,
            "--libonnxruntime",
            &library,
        ])
    };
    let many: String = (0..1500)
        .map(|number| format!("{},1.5\n", secret(number)))
        .collect();
    let table = scene.write("many.csv", format!("t,x\n{many}"));
    make(&table);
    let made = scene.read("b.json");
    assert!(!made.to_string().contains("secret"), "{made}");
    assert!(made["onstage"]["lengths"]["t"]["buckets"].is_array());
    // Few values are kept, unless they are excluded; a text of a megabyte is free text.
    let few: String = (0..50)
        .map(|number| format!("{},1.5\n", secret(number % 3)))
        .collect();
    let table = scene.write("few.csv", format!("t,x\n{few}"));
    make(&table);
    assert!(scene.read("b.json").to_string().contains("secret-2"));
    let private = [
        "baseline",
        &table,
        &graph,
        "-o",
        &file,
        "--libonnxruntime",
        &library,
        "--exclude",
        "t",
    ];
    let told = done(&private);
    assert!(told.contains("free text"), "{told}");
    assert!(!scene.read("b.json").to_string().contains("secret"));
    let long = "x".repeat(1 << 20);
    let table = scene.write("long.csv", format!("t,x\n{long},1.5\nb,2.5\n"));
    make(&table);
    assert!(std::fs::metadata(&file).unwrap().len() < 10_000);
}
