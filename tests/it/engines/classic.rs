//! The classic engine, held against what nobody here wrote: ONNX Runtime's answers to converted models, to graphs of one
//! operator and to random ones, the node tests of onnx, and the libraries that train models.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use onstage::engine::{CancelToken, Classic, CompiledModel, Engine, EngineError, EngineOptions};
use onstage::model::Package;
use onstage::tensor::{DType, Labels, Tensor, Value};
use serde_json::Value as Json;
use tokio::process::Command;

use crate::engines::conformance::engines::numbers;
use crate::support::mlflow_server::python;
use crate::support::server::project;

/// What may differ: a part of the largest number of a row, which counts for at least 1.
const TOLERANCE: f64 = 1e-5;

/// What became of the cases of a file.
#[derive(Debug, Default)]
struct Tally {
    right: usize,
    /// Where ONNX Runtime has no answer either.
    alike: usize,
    /// By reason.
    refused: BTreeMap<String, Vec<String>>,
    failed: Vec<String>,
    wrong: Vec<String>,
}

impl Tally {
    fn refusals(&self) -> usize {
        self.refused.values().map(Vec::len).sum()
    }

    #[track_caller]
    fn assert_right(&self) {
        let faults: Vec<&String> = self.wrong.iter().chain(&self.failed).collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

/// Runs each case on the classic engine.
fn run(directory: &Path, cases: &[Json]) -> Tally {
    let mut tally = Tally::default();
    let mut last = (String::new(), None);
    for case in cases {
        let model = case["model"].as_str().unwrap().to_owned();
        if last.0 != model {
            let loaded = load(&directory.join(&model));
            last = (model, Some(loaded));
        }
        let Some(loaded) = &last.1 else { continue };
        let name = format!("{} ({})", case["name"].as_str().unwrap(), last.0);
        judge(loaded, case, name, &mut tally);
    }
    tally
}

fn load(path: &Path) -> Result<std::sync::Arc<dyn CompiledModel>, String> {
    let package = Package::open(path).map_err(|error| error.to_string())?;
    let compiled = Classic.compile(&package, &EngineOptions::default(), &CancelToken::new());
    match compiled {
        Err(EngineError::Unsupported { reasons, .. }) => Err(reasons.join("; ")),
        compiled => Ok(compiled.unwrap()),
    }
}

fn judge(
    loaded: &Result<std::sync::Arc<dyn CompiledModel>, String>,
    case: &Json,
    name: String,
    tally: &mut Tally,
) {
    let expected = case["outputs"].as_array();
    let model = match (loaded, expected) {
        (Ok(model), _) => model,
        (Err(_), None) => {
            tally.alike += 1;
            return;
        }
        (Err(reason), Some(_)) => {
            tally.refused.entry(reason.clone()).or_default().push(name);
            return;
        }
    };
    let inputs = case["inputs"].as_array().unwrap().iter();
    let inputs = inputs.map(|input| (input["name"].as_str().unwrap().to_owned(), tensor(input)));
    let signature = model.signature();
    let outcome = signature
        .bind(inputs.collect())
        .map_err(|error| error.to_string());
    let outcome = outcome.and_then(|batch| {
        let mut session = model.session().unwrap();
        // Memory of the first run must leave no trace in the second one.
        let first = session
            .run(&batch, &CancelToken::new())
            .map_err(|error| error.to_string())?;
        let second = session.run(&batch, &CancelToken::new()).unwrap();
        assert_eq!(
            format!("{first:?}").len(),
            format!("{second:?}").len(),
            "{name}"
        );
        Ok(second)
    });
    match (outcome, expected) {
        (Ok(outputs), Some(expected)) => {
            let names = signature.outputs.iter().map(|output| output.name.as_str());
            match difference(&outputs, &names.collect::<Vec<_>>(), expected) {
                None => tally.right += 1,
                Some(difference) => tally.wrong.push(format!("{name}: {difference}")),
            }
        }
        (Err(error), Some(_)) => tally.failed.push(format!("{name}: {error}")),
        // Some of what ONNX Runtime lacks is here.
        (_, None) => tally.alike += 1,
    }
}

fn number(json: &Json) -> f64 {
    match json {
        Json::String(text) if text == "NaN" => f64::NAN,
        Json::String(text) if text == "Infinity" => f64::INFINITY,
        Json::String(text) if text == "-Infinity" => f64::NEG_INFINITY,
        Json::Null => f64::NAN,
        number => number.as_f64().unwrap(),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the files hold doubles that equal them"
)]
fn tensor(json: &Json) -> Tensor {
    let shape = json["shape"].as_array().unwrap().iter();
    let shape = shape
        .map(|dim| usize::try_from(dim.as_u64().unwrap()).unwrap())
        .collect();
    let data = json["data"].as_array().unwrap().iter();
    let made = match DType::from_oip(json["datatype"].as_str().unwrap()).unwrap() {
        DType::F32 => Tensor::from_vec(shape, data.map(|value| number(value) as f32).collect()),
        DType::F64 => Tensor::from_vec(shape, data.map(number).collect()),
        DType::I64 => Tensor::from_vec(shape, data.map(|value| value.as_i64().unwrap()).collect()),
        DType::I32 => {
            let values = data.map(|value| i32::try_from(value.as_i64().unwrap()).unwrap());
            Tensor::from_vec(shape, values.collect())
        }
        DType::I16 => {
            let values = data.map(|value| i16::try_from(value.as_i64().unwrap()).unwrap());
            Tensor::from_vec(shape, values.collect())
        }
        DType::Bool => {
            let values: Vec<bool> = data
                .map(|value| value == &Json::Bool(true) || value == 1)
                .collect();
            Tensor::from_bools(shape, &values)
        }
        DType::String => {
            let values = data.map(|value| value.as_str().unwrap().to_owned());
            Tensor::from_strings(shape, values.collect())
        }
        other => panic!("no case has {other}"),
    };
    made.unwrap()
}

/// What differs first.
fn difference(outputs: &[Value], names: &[&str], expected: &[Json]) -> Option<String> {
    expected.iter().enumerate().find_map(|(index, expected)| {
        let name = expected["name"].as_str().unwrap_or_default();
        let at = names.iter().position(|own| *own == name).unwrap_or(index);
        let difference = match &outputs[at] {
            Value::Tensor(found) => unlike(found, &tensor(expected), library(expected)),
            Value::Maps(maps) => {
                let rows = expected["values"].as_array().unwrap();
                let keys = match &maps.labels {
                    Labels::Int64(labels) => Json::from(labels.clone()),
                    Labels::String(labels) => Json::from(labels.clone()),
                };
                if !rows.is_empty() && keys != expected["keys"] {
                    return Some(format!("keys {keys} and not {}", expected["keys"]));
                }
                let values = rows.iter().flat_map(|row| row.as_array().unwrap());
                #[expect(clippy::cast_possible_truncation, reason = "they are scores")]
                let values = values.map(|value| number(value) as f32).collect();
                let scores = Tensor::from_vec(maps.scores.shape().to_vec(), values).unwrap();
                unlike(&maps.scores, &scores, library(expected))
            }
            Value::Sequence(found) => {
                let expected = expected["tensors"].as_array().unwrap();
                let pairs = found.iter().zip(expected);
                { pairs }.find_map(|(found, expected)| unlike(found, &tensor(expected), None))
            }
        };
        difference.map(|difference| format!("`{name}`: {difference}"))
    })
}

/// What the library that trained the model answers.
fn library(expected: &Json) -> Option<Vec<f64>> {
    let values = expected["library"].as_array()?.iter();
    values
        .map(|value| value.is_number().then(|| number(value)))
        .collect()
}

/// Numbers may also be near to those of the library, which calculates in double precision: where sums cancel each other,
/// ONNX Runtime is as far from it, by other rounding.
fn unlike(found: &Tensor, right: &Tensor, library: Option<Vec<f64>>) -> Option<String> {
    let kind = |tensor: &Tensor| format!("{} {:?}", tensor.dtype(), tensor.shape());
    if kind(found) != kind(right) {
        return Some(format!("{} and not {}", kind(found), kind(right)));
    }
    if !found.dtype().is_float() {
        let is_same = found.bytes() == right.bytes() && found.as_strings() == right.as_strings();
        return (!is_same).then(|| format!("{:?} and not {:?}", shown(found), shown(right)));
    }
    let rows = found.rows().unwrap_or(1).max(1);
    let (found, right) = (numbers(found), numbers(right));
    let width = (found.len() / rows).max(1);
    let library = library.filter(|values| values.len() == right.len());
    let off = |values: &[f64]| {
        let pairs = library.iter().flatten().zip(values);
        pairs
            .map(|(library, value)| (library - value).abs())
            .fold(0.0, f64::max)
    };
    let is_finite = found.iter().all(|value| value.is_finite());
    let largest = library
        .iter()
        .flatten()
        .fold(1.0, |most: f64, value| most.max(value.abs()));
    // Where ONNX Runtime is far from the library, the graph says something else, and its answer counts.
    let noise = off(&right).clamp(TOLERANCE * largest, 100.0 * TOLERANCE * largest);
    if library.is_some() && is_finite && off(&found) <= 4.0 * noise {
        return None;
    }
    let mut pairs = found.chunks(width).zip(right.chunks(width)).enumerate();
    pairs.find_map(|(row, (found, right))| {
        let finite = right.iter().filter(|value| value.is_finite());
        let most = finite.fold(1.0, |most: f64, value| most.max(value.abs()));
        let is_near = |found: f64, right: f64| {
            found == right
                || (found.is_nan() && right.is_nan())
                || (found - right).abs() <= TOLERANCE * most
        };
        let mut wrong = found
            .iter()
            .zip(right)
            .filter(|(found, right)| !is_near(**found, **right));
        let (found, right) = wrong.next()?;
        Some(format!("{found} and not {right} in row {row}"))
    })
}

fn shown(tensor: &Tensor) -> Vec<String> {
    match tensor.as_strings() {
        Some(texts) => texts.iter().take(20).cloned().collect(),
        None => numbers(tensor)
            .iter()
            .take(20)
            .map(f64::to_string)
            .collect(),
    }
}

fn read(file: &Path) -> Json {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn converted_models_answer_as_on_onnx_runtime() {
    let directory = project().join("tests/models/census");
    let mut models = 0;
    let mut tally = Tally::default();
    for row in read(&directory.join("manifest.json")).as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        let file = read(&directory.join(format!("{name}.json")));
        let cases = file["cases"].as_array().unwrap().iter().map(|case| {
            let mut case = case.clone();
            case["name"] = name.into();
            case["model"] = row["file"].clone();
            case
        });
        let one = run(&directory, &cases.collect::<Vec<_>>());
        tally.wrong.extend(one.wrong);
        tally.failed.extend(one.failed);
        tally.refused.extend(one.refused);
        tally.right += one.right;
        models += 1;
    }
    tally.assert_right();
    assert!(tally.refused.is_empty(), "{:#?}", tally.refused);
    assert_eq!((models, tally.right), (182, 728));
}

#[test]
fn graphs_of_one_operator_answer_as_on_onnx_runtime_or_are_refused() {
    let directory = project().join("tests/classic/traps");
    let cases = read(&directory.join("traps.json"));
    let tally = run(&directory, cases.as_array().unwrap());
    tally.assert_right();
    // Votes and transforms that ONNX Runtime answers in a way that nobody can mean.
    let refused: Vec<&String> = tally.refused.values().flatten().collect();
    assert_eq!(refused.len(), 6, "{refused:#?}");
    assert_eq!((tally.right, tally.alike), (84, 7));
}

#[tokio::test]
async fn structures_that_are_easily_read_wrongly_answer_as_on_onnx_runtime() {
    let made = tempfile::tempdir().unwrap();
    let cases = record("structures.py", &[], made.path()).await;
    let tally = run(made.path(), cases.as_array().unwrap());
    tally.assert_right();
    // Expressions whose matches differ between the engines of regular expressions, and models of nothing.
    let refused: Vec<&String> = tally.refused.values().flatten().collect();
    let is_known = |name: &&String| name.starts_with("Tokenizer") || name.contains("no features");
    assert!(refused.iter().all(is_known), "{:#?}", tally.refused);
    assert_eq!((tally.right, tally.alike, refused.len()), (40, 2, 5));
}

/// Runs a script of `tests/classic` that writes cases and models.
async fn record(script: &str, arguments: &[&OsStr], directory: &Path) -> Json {
    let script = project().join("tests/classic").join(script);
    let mut command = Command::new(python());
    command.arg("-B").arg(script).args(arguments);
    command.arg("--out").arg(directory);
    let output = command.stdin(Stdio::null()).output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    read(&directory.join("cases.json"))
}

/// Where the seeds of random cases begin; `CLASSIC_SEED` repeats a run.
fn seed() -> String {
    let seed = std::env::var("CLASSIC_SEED").unwrap_or_else(|_| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        (now.as_secs() % 1_000_000).to_string()
    });
    #[expect(clippy::print_stdout, reason = "shown when a test fails")]
    {
        println!("CLASSIC_SEED={seed}");
    }
    seed
}

#[tokio::test]
async fn models_trained_now_answer_as_on_onnx_runtime() {
    let made = tempfile::tempdir().unwrap();
    let seed = seed();
    let arguments = ["--seed", &seed, "--count", "48"].map(OsStr::new);
    let cases = record("trained.py", &arguments, made.path()).await;
    let tally = run(made.path(), cases.as_array().unwrap());
    tally.assert_right();
    let refused = tally.refusals();
    assert!(
        tally.right > 100 && refused * 20 < tally.right,
        "{:#?}",
        tally.refused
    );
}

/// The wheel of onnx that still ships its node tests, beside the packages of the tests.
fn node_tests() -> PathBuf {
    let environment = python().ancestors().nth(2).unwrap().to_owned();
    environment.join("onnx-1.20.1/onnx/backend/test/data/node")
}

#[tokio::test]
async fn the_node_tests_of_onnx_pass() {
    let made = tempfile::tempdir().unwrap();
    let data = node_tests();
    assert!(
        data.is_dir(),
        "`{}` is missing: run `make venv`",
        data.display()
    );
    let arguments = [OsStr::new("--data"), data.as_os_str()];
    let cases = record("nodes.py", &arguments, made.path()).await;
    // Where ONNX Runtime answers otherwise than onnx, so does the engine.
    let cases = cases.as_array().unwrap().iter();
    let cases: Vec<Json> = cases
        .filter(|case| case["runtime"] == "same")
        .cloned()
        .collect();
    let tally = run(made.path(), &cases);
    tally.assert_right();
    let is_classic = |name: &str| name.starts_with("test_ai_onnx_ml_");
    let classic = { cases.iter() }.filter(|case| case["name"].as_str().is_some_and(is_classic));
    assert_eq!(classic.count(), 8);
    let mut refusals = tally.refused.values().flatten();
    assert!(
        !refusals.any(|name| is_classic(name)),
        "{:#?}",
        tally.refused
    );
    let refused = tally.refusals();
    assert!(
        tally.right >= 540 && refused <= 10,
        "{} right, {:#?}",
        tally.right,
        tally.refused
    );
}

/// Cases of random graphs in which ONNX Runtime does not agree with itself, or with any reading of the standard.
fn is_incoherent(case: &Json, model: &[u8]) -> Option<&'static str> {
    let holds = |text: &str| {
        model
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    let has_nan = || case["inputs"].to_string().contains("NaN");
    match case["family"].as_str().unwrap_or_default() {
        "gather" if case["inputs"].to_string().contains("BYTES") => {
            Some("texts of an axis that is not the last one come out empty")
        }
        "top_k" if has_nan() => Some("where NaN goes depends on the algorithm"),
        _ if holds("BRANCH_EQ") || holds("membership_values") => Some(
            "tests for equality with equal leaves are merged, and the leaves of later trees are mixed up",
        ),
        _ => None,
    }
}

#[tokio::test]
async fn random_graphs_answer_as_on_onnx_runtime() {
    let made = tempfile::tempdir().unwrap();
    let seed = seed();
    let arguments = ["--seed", &seed, "--count", "1500"].map(OsStr::new);
    let cases = record("operators.py", &arguments, made.path()).await;
    let is_sound = |case: &&Json| {
        let model = fs::read(made.path().join(case["model"].as_str().unwrap())).unwrap();
        is_incoherent(case, &model).is_none()
    };
    let cases: Vec<Json> = cases
        .as_array()
        .unwrap()
        .iter()
        .filter(is_sound)
        .cloned()
        .collect();
    let tally = run(made.path(), &cases);
    // Of thousands of hostile numbers a few are left of sums that cancel each other, in single precision.
    let faults = tally.wrong.len() + tally.failed.len();
    assert!(
        faults * 250 <= tally.right,
        "{:#?}\n{:#?}",
        tally.wrong,
        tally.failed
    );
    assert!(tally.refusals() * 20 <= tally.right, "{:#?}", tally.refused);
}

/// Changes a few bytes of a file, always the same ones for a seed.
fn mutation(whole: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes = whole.to_vec();
    for _ in 0..=next() % 3 {
        let at = usize::try_from(next()).unwrap() % bytes.len();
        bytes[at] = match next() % 3 {
            0 => bytes[at] ^ (1 << (next() % 8)),
            1 => next().to_le_bytes()[3],
            _ => [0, 1, 0x7f, 0x80, 0xff][usize::try_from(next() % 5).unwrap()],
        };
    }
    bytes
}

/// What the engine accepts of damaged graphs, ONNX Runtime answers alike, where it accepts it.
#[cfg(unix)]
#[test]
fn damaged_graphs_that_are_accepted_answer_as_on_onnx_runtime() {
    let runtime = crate::engines::conformance::engines::isolated_onnxruntime();
    let census = project().join("tests/models/census");
    let made = tempfile::tempdir().unwrap();
    let damaged = made.path().join("model.onnx");
    let (mut compared, mut wrong) = (0, Vec::new());
    for row in read(&census.join("manifest.json")).as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        let whole = fs::read(census.join(row["file"].as_str().unwrap())).unwrap();
        if whole.len() > 4_000 {
            continue;
        }
        let case = &read(&census.join(format!("{name}.json")))["cases"][2];
        let inputs = case["inputs"].as_array().unwrap().iter();
        let inputs: Vec<_> = inputs
            .map(|input| (input["name"].as_str().unwrap().to_owned(), tensor(input)))
            .collect();
        for seed in 0..40 {
            fs::write(&damaged, mutation(&whole, seed)).unwrap();
            let answer = |engine: &dyn Engine| {
                let package = Package::open(&damaged).ok()?;
                let (options, cancel) = (EngineOptions::default(), CancelToken::new());
                let model = engine.compile(&package, &options, &cancel).ok()?;
                let batch = model.signature().bind(inputs.clone()).ok()?;
                model.session().ok()?.run(&batch, &cancel).ok()
            };
            let Some(ours) = answer(&Classic) else {
                continue;
            };
            let Some(theirs) = answer(&*runtime) else {
                continue;
            };
            compared += 1;
            let pairs = ours.iter().zip(&theirs);
            let differences = pairs.filter_map(|pair| match pair {
                (Value::Tensor(ours), Value::Tensor(theirs)) => unlike(ours, theirs, None),
                (Value::Maps(ours), Value::Maps(theirs)) => {
                    unlike(&ours.scores, &theirs.scores, None)
                }
                _ => None,
            });
            wrong
                .extend(differences.map(|difference| format!("{name}, seed {seed}: {difference}")));
        }
    }
    assert!(compared > 200, "{compared}");
    // Weights of 10³⁰ and their like leave sums that cancel each other.
    assert!(
        wrong.len() * 50 <= compared,
        "{compared} compared: {wrong:#?}"
    );
}
