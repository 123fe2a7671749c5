//! Each operator on tract, held against ONNX Runtime: `tests/operators` records what that answers to onnx's node models,
//! for plain numbers and for those that programs get wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use onstage::engine::{CancelToken, CompiledModel, Engine, EngineOptions, Outputs, Tract};
use onstage::model::Package;
use onstage::tensor::{DType, Storage, Tensor};
use serde::Deserialize;
use tokio::process::Command;

use crate::engines::conformance::engines::numbers;
use crate::support::mlflow_server::python;
use crate::support::server::project;

/// A run of a model, and what ONNX Runtime answered.
#[derive(Debug, Deserialize)]
struct Case {
    model: String,
    class: String,
    inputs: Vec<Recorded>,
    outputs: Vec<Recorded>,
}

#[derive(Debug, Deserialize)]
struct Recorded {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    start: usize,
    bytes: usize,
}

impl Recorded {
    fn tensor(&self, tensors: &[u8]) -> Tensor {
        let dtype = DType::from_numpy(&self.dtype).unwrap();
        let bytes = tensors[self.start..self.start + self.bytes].to_vec();
        let storage = Storage::Shared(bytes.into());
        Tensor::from_storage(dtype, self.shape.clone(), storage).unwrap()
    }
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Right,
    /// At load, with a reason.
    Refused,
    /// At run time, where ONNX Runtime has an answer.
    Failed,
    Wrong,
}

/// A model on tract, or why it is not.
enum Loaded {
    Model(Arc<dyn CompiledModel>),
    Refused(String),
}

fn load(path: &Path) -> Loaded {
    let package = match Package::open(path) {
        Ok(package) => package,
        Err(error) => return Loaded::Refused(error.to_string()),
    };
    match Tract.compile(&package, &EngineOptions::default(), &CancelToken::new()) {
        Ok(model) => Loaded::Model(model),
        Err(error) => Loaded::Refused(error.to_string()),
    }
}

fn outcome(model: &Loaded, case: &Case, tensors: &[u8]) -> (Outcome, String) {
    let model = match model {
        Loaded::Model(model) => model,
        Loaded::Refused(reason) => return (Outcome::Refused, reason.clone()),
    };
    let named = case.inputs.iter();
    let named = named.map(|input| (input.name.clone(), input.tensor(tensors)));
    let batch = match model.signature().bind(named.collect()) {
        Ok(batch) => batch,
        Err(error) => return (Outcome::Refused, error.to_string()),
    };
    let mut session = model.session().unwrap();
    match session.run(&batch, &CancelToken::new()) {
        Ok(outputs) => match difference(&outputs, case, tensors) {
            None => (Outcome::Right, String::new()),
            Some(difference) => (Outcome::Wrong, difference),
        },
        Err(error) => (Outcome::Failed, error.to_string()),
    }
}

/// What differs first.
fn difference(outputs: &Outputs, case: &Case, tensors: &[u8]) -> Option<String> {
    let pairs = outputs.iter().zip(&case.outputs);
    pairs.into_iter().find_map(|(output, expected)| {
        let (output, expected) = (output.as_tensor()?, expected.tensor(tensors));
        let kind = |tensor: &Tensor| format!("{:?} {:?}", tensor.dtype(), tensor.shape());
        if kind(output) != kind(&expected) {
            return Some(format!("{} and not {}", kind(output), kind(&expected)));
        }
        let dtype = output.dtype();
        let pairs = numbers(output).into_iter().zip(numbers(&expected));
        let mut wrong = pairs.enumerate();
        let mut wrong = wrong
            .by_ref()
            .filter(|(_, (found, right))| !is_near(dtype, *found, *right));
        let (at, (found, right)) = wrong.next()?;
        let more = wrong.count();
        Some(format!("{found} and not {right} at {at}, and {more} more"))
    })
}

/// Half numbers may differ in their last place and the one before.
fn is_near(dtype: DType, found: f64, right: f64) -> bool {
    let tolerance = if dtype == DType::F16 { 2e-3 } else { 1e-4 };
    found == right
        || (found.is_nan() && right.is_nan())
        || (found - right).abs() <= tolerance * right.abs().max(1.0)
}

async fn record(directory: &Path) {
    let script = project().join("tests/operators/record.py");
    let mut command = Command::new(python());
    command.arg("-B").arg(script).arg("--out").arg(directory);
    let output = command.stdin(Stdio::null()).output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

/// What may differ: models by the beginning of their names, classes, and why.
type Allowed = (&'static str, &'static [&'static str], &'static str);

const OVERFLOW: &str =
    "sums of the largest numbers overflow, and their order decides what becomes of them";
const PARAMETERS: &str = "ONNX Runtime multiplies by infinite parameters in another order";
const OWN_LOOPS: &str =
    "ONNX Runtime keeps or loses a missing number by its place; here it is kept";
const BOUNDS: &str = "ONNX Runtime takes a missing bound for none, and the largest number for a bound that is not given";
const GATES: &str = "ONNX Runtime's own sigmoid and tanh lose missing numbers; here they are kept";
const WRAPS: &str = "a build with checks for overflow refuses what an optimised one wraps around as ONNX Runtime does";
const NO_ROWS: &str = "without rows there is no answer that the standard names";
const POSITIONS: &str = "a position that is no plain number is nowhere";
const TRANSFORM: &str = "differences are small beside the sums that they are left of";
const SCALE: &str = "of numbers that are not finite there is no scale";
const NOT_PLAIN: [&str; 3] = ["nan", "inf", "-inf"];
const BEYOND: [&str; 4] = ["nan", "inf", "-inf", "largest"];

#[rustfmt::skip]
/// tract takes another kernel where the processor has other vector instructions.
const TANH_OF_SOME: &str = "on some processors 1.05 · 10⁻⁴ at -300, from a tanh that ends a little above -1";

const ALLOWED: &[Allowed] = &[
    ("add_", &["integers"], WRAPS),
    ("sub_", &["integers"], WRAPS),
    ("mod_", &["integers"], WRAPS),
    ("pow_", &["integers"], WRAPS),
    ("attention_", &["largest"], OVERFLOW),
    (
        "attention_4d_attn_mask_bool_expanded",
        &["300"],
        "scores of 10⁵ in single precision, in an exponential",
    ),
    (
        "attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_expanded",
        &["300"],
        "scores of 10⁵ in single precision, in an exponential",
    ),
    (
        "attention_4d_attn_mask_4d_causal_expanded",
        &["nan"],
        "ONNX Runtime fuses it, and loses a row of missing scores",
    ),
    ("basic_conv", &["largest"], OVERFLOW),
    ("causal_conv", &["largest", "300"], OVERFLOW),
    ("conv_", &["largest"], OVERFLOW),
    ("clip", &NOT_PLAIN, BOUNDS),
    (
        "dft_",
        &["recorded", "300", "nan", "inf", "-inf", "largest"],
        TRANSFORM,
    ),
    ("dynamicquantizelinear", &["nan", "-inf", "empty"], SCALE),
    ("einsum_", &["largest"], OVERFLOW),
    ("flexattention_", &["largest"], OVERFLOW),
    ("gelu_tanh_2_expanded", &["300"], TANH_OF_SOME),
    ("globalaveragepool", &["largest"], OVERFLOW),
    ("globalmaxpool", &["nan"], OWN_LOOPS),
    ("gridsample", &BEYOND, POSITIONS),
    ("group_normalization", &["largest"], OVERFLOW),
    ("gru_", &NOT_PLAIN, GATES),
    ("lstm_", &NOT_PLAIN, GATES),
    ("simple_rnn_", &["inf", "-inf"], GATES),
    ("simple_rnn_", &["empty"], NO_ROWS),
    ("rnn_", &["inf", "-inf"], GATES),
    ("rnn_", &["empty"], NO_ROWS),
    (
        "hardmax_",
        &["nan"],
        "ONNX Runtime marks none where the first number is missing",
    ),
    ("hardmax_", &["empty"], NO_ROWS),
    ("instancenorm_", &["largest"], OVERFLOW),
    ("l1normalization_", &["empty"], NO_ROWS),
    ("layer_normalization_", &["largest"], OVERFLOW),
    ("layer_normalization_", &["inf", "-inf"], PARAMETERS),
    (
        "lrn",
        &BEYOND,
        "ONNX Runtime takes from a running sum what leaves the window, and infinity stays in it",
    ),
    ("matmul_", &["largest"], OVERFLOW),
    ("maxpool_", &["nan"], OWN_LOOPS),
    ("mvn", &["largest"], OVERFLOW),
    ("nllloss_", &["largest"], OVERFLOW),
    ("nllloss_", &["empty"], NO_ROWS),
    ("nonmaxsuppression_", &["empty"], NO_ROWS),
    ("reduce_log_", &["largest"], OVERFLOW),
    ("reduce_max_", &["nan"], OWN_LOOPS),
    ("reduce_max_", &["empty"], NO_ROWS),
    ("reduce_mean_", &["empty"], NO_ROWS),
    ("reduce_min_", &["nan"], OWN_LOOPS),
    ("reduce_min_", &["empty"], NO_ROWS),
    ("resize_", &["empty"], NO_ROWS),
    ("rotary_embedding", &["largest"], OVERFLOW),
    ("slice_", &["empty"], NO_ROWS),
];

#[tokio::test]
async fn operators_on_tract_answer_as_on_onnx_runtime_or_are_refused() {
    let made = tempfile::tempdir().unwrap();
    // A corpus that is there already, for those who work on it.
    let directory = match std::env::var_os("ONSTAGE_OPERATORS") {
        Some(directory) => directory.into(),
        None => made.path().to_owned(),
    };
    if !directory.join("cases.jsonl").exists() {
        record(&directory).await;
    }
    let tensors = fs::read(directory.join("tensors.bin")).unwrap();
    let lines = fs::read_to_string(directory.join("cases.jsonl")).unwrap();
    let mut table = Table::default();
    let mut last = (String::new(), None);
    for line in lines.lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        if last.0 != case.model {
            last = (case.model.clone(), Some(load(&directory.join(&case.model))));
        }
        let Some(model) = &last.1 else { continue };
        let (outcome, reason) = outcome(model, &case, &tensors);
        table.count(&case, outcome, &reason);
    }
    let text = table.text();
    assert!(
        table.unexplained.is_empty(),
        "{}\n{text}",
        table.unexplained.join("\n")
    );
    let unused: Vec<&Allowed> = { ALLOWED.iter() }
        .filter(|allowed| !table.used.contains(allowed) && allowed.2 != TANH_OF_SOME)
        .collect();
    assert!(
        unused.is_empty(),
        "no difference needs these any more: {unused:?}"
    );
    // Of those that it ran before anything was refused for its answers.
    let ran = table.of(
        "recorded",
        &[Outcome::Right, Outcome::Wrong, Outcome::Failed],
    );
    assert!(ran >= MOST_RAN * 95 / 100, "only {ran} models run\n{text}");
    if let Some(file) = std::env::var_os("ONSTAGE_RECORD") {
        fs::write(file, text).unwrap();
    }
}

/// Models that tract ran before anything was refused for its answers.
const MOST_RAN: usize = 1055;

/// The outcomes by class.
#[derive(Default)]
struct Table {
    counts: BTreeMap<String, BTreeMap<Outcome, usize>>,
    unexplained: Vec<String>,
    used: BTreeSet<Allowed>,
}

impl Table {
    fn count(&mut self, case: &Case, outcome: Outcome, reason: &str) {
        let Case { model, class, .. } = case;
        let counts = self.counts.entry(class.clone()).or_default();
        *counts.entry(outcome).or_default() += 1;
        if matches!(outcome, Outcome::Right | Outcome::Refused) {
            return;
        }
        let name = model.trim_start_matches("models/test_");
        let allowed = ALLOWED.iter().find(|(prefix, classes, _)| {
            name.starts_with(prefix) && classes.contains(&class.as_str())
        });
        match allowed {
            Some(allowed) => drop(self.used.insert(*allowed)),
            None => {
                let reason: String = reason.chars().take(200).collect();
                let line = format!("{outcome:?}\t{class}\t{name}\t{reason}");
                self.unexplained.push(line);
            }
        }
    }

    fn of(&self, class: &str, outcomes: &[Outcome]) -> usize {
        let counts = &self.counts[class];
        outcomes
            .iter()
            .filter_map(|outcome| counts.get(outcome))
            .sum()
    }

    /// For the documentation.
    fn text(&self) -> String {
        let mut text = "| inputs | right | refused at load | error at run time | other answer, with a reason |\n|---|---|---|---|---|\n".to_owned();
        for class in self.counts.keys() {
            let count = |outcome| self.of(class, &[outcome]);
            let (right, refused) = (count(Outcome::Right), count(Outcome::Refused));
            let (failed, wrong) = (count(Outcome::Failed), count(Outcome::Wrong));
            let _ = writeln!(
                text,
                "| {class} | {right} | {refused} | {failed} | {wrong} |"
            );
        }
        text
    }
}
