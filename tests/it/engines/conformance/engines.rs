//! What every engine must do: right answers for every datatype, clear refusals, no panic on any input.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, LazyLock};

use half::{bf16, f16};
use onstage::config::Settings;
use onstage::engine::onnxruntime::library::{Surroundings, look_up};
use onstage::engine::onnxruntime::{Config, Outcome};
#[cfg(unix)]
use onstage::engine::worker::Workers;
use onstage::engine::{
    CancelToken, Classic, CompiledModel, Engine, EngineError, EngineOptions, OnnxRuntime, Outputs,
    Session, Support, Tract,
};
use onstage::model::{Batch, Dim, InputSpec, Package, Provider, Signature};
use onstage::tensor::{DType, Labels, Storage, Tensor, Value};

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

static ONNX_RUNTIME: LazyLock<OnnxRuntime> = LazyLock::new(|| {
    let engine = OnnxRuntime::new(Config {
        surroundings: Surroundings::of_process(None),
        ..Config::default()
    });
    if let Err(error) = engine.check() {
        panic!(
            "these tests need ONNX Runtime: {error}; run them by `make test`, or `pip install onnxruntime` and set \
             `ORT_DYLIB_PATH` to the library in it"
        );
    }
    engine
});

/// Makes processes of their own for models.
#[cfg(unix)]
pub(crate) fn workers() -> Workers {
    let Settings {
        engine, telemetry, ..
    } = Settings::default();
    let settings = onstage::app::WorkerSettings { engine, telemetry };
    let settings = serde_json::to_string(&settings).unwrap();
    let program = env!("CARGO_BIN_EXE_onstage").into();
    let arguments = ["worker", "--settings", &settings].map(Into::into).to_vec();
    Workers::new(program, arguments, Arc::new(|_| {})).unwrap()
}

/// ONNX Runtime, in a process of its own for each model: whatever a graph does to it, it does to that process.
#[cfg(unix)]
pub(crate) fn isolated_onnxruntime() -> Arc<dyn Engine> {
    let onnxruntime = OnnxRuntime::new(Config {
        surroundings: Surroundings::of_process(None),
        ..Config::default()
    });
    workers().isolate(Arc::new(onnxruntime), Some(4 << 30))
}

/// All again, each model in a process of its own.
#[cfg(unix)]
static ISOLATED: LazyLock<Vec<Arc<dyn Engine>>> = LazyLock::new(|| {
    let workers = workers();
    vec![
        workers.isolate(Arc::new(Classic), Some(4 << 30)),
        workers.isolate(Arc::new(Tract), Some(4 << 30)),
        isolated_onnxruntime(),
    ]
});

#[cfg(not(unix))]
static ISOLATED: LazyLock<Vec<Arc<dyn Engine>>> = LazyLock::new(Vec::new);

/// In this process.
fn own() -> [&'static dyn Engine; 3] {
    [&Classic, &Tract, &*ONNX_RUNTIME]
}

/// The two that take graphs of every kind.
fn general() -> [&'static dyn Engine; 2] {
    [&Tract, &*ONNX_RUNTIME]
}

/// Whether the classic engine is asked for what it leaves to the others; it says why.
fn leaves(engine: &dyn Engine, package: &Package) -> bool {
    if engine.name() != "classic" {
        return false;
    }
    match engine.supports(package) {
        Support::Yes | Support::Compiled(_) => false,
        Support::No(reasons) => {
            assert!(!reasons.is_empty() && !reasons[0].is_empty());
            true
        }
    }
}

fn engines() -> Vec<&'static dyn Engine> {
    let mut engines = own().to_vec();
    engines.extend(ISOLATED.iter().map(|engine| &**engine));
    engines
}

fn little(name: &str) -> Package {
    open(&format!("tests/models/{name}.onnx"))
}

fn real(name: &str) -> Package {
    open(&format!("tests/conformance/mlflow/models/{name}"))
}

fn open(path: &str) -> Package {
    Package::open(&Path::new(SOURCE).join(path)).unwrap()
}

fn compile(engine: &dyn Engine, package: &Package) -> Result<Arc<dyn CompiledModel>, EngineError> {
    engine.compile(package, &EngineOptions::default(), &CancelToken::new())
}

fn run(model: &dyn CompiledModel, inputs: Vec<(&str, Tensor)>) -> Result<Outputs, EngineError> {
    let batch = bind(model.signature(), inputs);
    model.session().unwrap().run(&batch, &CancelToken::new())
}

fn bind(signature: &Signature, inputs: Vec<(&str, Tensor)>) -> Batch {
    let named = inputs
        .into_iter()
        .map(|(name, tensor)| (name.to_owned(), tensor));
    signature.bind(named.collect()).unwrap()
}

/// The answers of `engine` to one input, all of them tensors.
fn answers(engine: &dyn Engine, package: &Package, inputs: Vec<(&str, Tensor)>) -> Vec<Tensor> {
    let model = compile(engine, package).unwrap();
    let outputs = run(&*model, inputs).unwrap();
    outputs
        .iter()
        .map(|output| output.as_tensor().unwrap().clone())
        .collect()
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_vec(shape.to_vec(), values.to_vec()).unwrap()
}

/// Every element as a number.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    macro_rules! widen {
        ($($dtype:ident: $rust:ty => $convert:expr),* $(,)?) => {
            match tensor.dtype() {
                $(DType::$dtype => tensor.to_vec::<$rust>().unwrap().into_iter().map($convert).collect(),)*
                DType::Bool => tensor.bytes().iter().map(|&byte| f64::from(byte)).collect(),
                DType::String => panic!("text is no number"),
            }
        };
    }
    widen!(
        U8: u8 => f64::from, U16: u16 => f64::from, U32: u32 => f64::from, U64: u64 => |v| v as f64,
        I8: i8 => f64::from, I16: i16 => f64::from, I32: i32 => f64::from, I64: i64 => |v| v as f64,
        F16: f16 => f64::from, Bf16: bf16 => f64::from, F32: f32 => f64::from, F64: f64 => f64::from,
    )
}

/// `rows` rows of values that differ, for any input.
fn sample(input: &InputSpec, rows: usize) -> Tensor {
    let dims = input
        .shape
        .as_deref()
        .unwrap_or_default()
        .iter()
        .enumerate();
    let shape: Vec<usize> = dims
        .map(|(axis, dim)| match dim {
            Dim::Fixed(size) => *size,
            Dim::Any(_) if axis == 0 => rows,
            Dim::Any(_) => 2,
        })
        .collect();
    sample_of(input.dtype, shape)
}

fn sample_of(dtype: DType, shape: Vec<usize>) -> Tensor {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|index| ((index * 7) % 11) as f32 / 2.0);
    macro_rules! narrow {
        ($($dtype:ident => $convert:expr),* $(,)?) => {
            match dtype {
                $(DType::$dtype => Tensor::from_vec(shape, values.map($convert).collect()),)*
                DType::Bool => {
                    let values: Vec<bool> = values.map(|value| value > 2.0).collect();
                    Tensor::from_bools(shape, &values)
                }
                DType::String => {
                    let values = values.map(|value| format!("größe {value}")).collect();
                    Tensor::from_strings(shape, values)
                }
            }
        };
    }
    narrow!(
        U8 => |v| v as u8, U16 => |v| v as u16, U32 => |v| v as u32, U64 => |v| v as u64,
        I8 => |v| -v as i8, I16 => |v| -v as i16, I32 => |v| -v as i32, I64 => |v| -v as i64,
        F16 => f16::from_f32, Bf16 => bf16::from_f32, F32 => |v| v, F64 => f64::from,
    )
    .unwrap()
}

fn sample_batch(package: &Package, rows: usize) -> Batch {
    let signature = &package.graph.signature;
    let inputs = signature.inputs.iter();
    bind(
        signature,
        inputs
            .map(|input| (input.name.as_str(), sample(input, rows)))
            .collect(),
    )
}

fn reasons(package: &Package) -> Vec<String> {
    Tract.supports(package).reasons()
}

const DTYPES: [&str; 14] = [
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16",
    "bfloat16", "float32", "float64", "str",
];

const REAL: [&str; 14] = [
    "churn_cols",
    "churn_tensors",
    "cnn28",
    "diabetes_rf",
    "house_v2",
    "iris_logreg",
    "iris_nosig",
    "iris_zipmap",
    "mlp10",
    "order_total",
    "price_params",
    "sensor_optional",
    "two_tower",
    "typed_events",
];

#[test]
fn every_engine_of_the_build_is_held_to_this_suite() {
    let names = |engines: &[&dyn Engine]| -> BTreeSet<&str> {
        engines.iter().map(|engine| engine.name()).collect()
    };
    let built = onstage::config::engines(&Settings::default().engine);
    let built: Vec<&dyn Engine> = built.iter().map(|engine| &**engine).collect();
    assert_eq!(names(&built), names(&own()));
}

#[test]
fn every_datatype_comes_back_unchanged_also_without_rows() {
    for engine in engines() {
        for name in DTYPES {
            let package = little(&format!("twice_{name}"));
            if engine.name() == "tract" && name == "bfloat16" {
                assert_eq!(
                    reasons(&package),
                    ["it has no BF16, the datatype of `x`, `y`"]
                );
                continue;
            }
            if leaves(engine, &package) {
                continue;
            }
            let dtype = package.graph.signature.inputs[0].dtype;
            for rows in [0, 1, 3] {
                let x = sample_of(dtype, vec![rows, 2]);
                let y = &answers(engine, &package, vec![("x", x.clone())])[0];
                let context = format!("{} {name} with {rows} rows", engine.name());
                assert_eq!(y.dtype(), dtype, "{context}");
                assert_eq!(y.shape(), [rows * 2, 2], "{context}");
                match x.as_strings() {
                    Some(texts) => {
                        assert_eq!(
                            y.as_strings().unwrap(),
                            [texts, texts].concat(),
                            "{context}"
                        )
                    }
                    None => assert_eq!(y.bytes(), x.bytes().repeat(2), "{context}"),
                }
            }
        }
    }
}

#[test]
fn a_misaligned_slice_of_a_request_is_read_rightly() {
    let bytes: Vec<u8> = [0u8]
        .into_iter()
        .chain([1.5f32, -2.5].iter().flat_map(|v| v.to_le_bytes()))
        .collect();
    for engine in engines() {
        let storage = Storage::Shared(bytes::Bytes::from(bytes.clone()).slice(1..));
        let x = Tensor::from_storage(DType::F32, vec![1, 2], storage).unwrap();
        let y = &answers(engine, &little("twice_float32"), vec![("x", x)])[0];
        assert_eq!(numbers(y), [1.5, -2.5, 1.5, -2.5], "{}", engine.name());
    }
}

#[test]
fn both_engines_give_the_same_answers_to_real_packages() {
    let mut compared = 0;
    for name in REAL {
        let package = real(name);
        let onnx_runtime = compile(&*ONNX_RUNTIME, &package).unwrap();
        if !reasons(&package).is_empty() {
            continue;
        }
        let tract = compile(&Tract, &package).unwrap();
        for rows in [1, 2, 5] {
            let batch = sample_batch(&package, rows);
            let answer = |model: &dyn CompiledModel| {
                model
                    .session()
                    .unwrap()
                    .run(&batch, &CancelToken::new())
                    .unwrap()
            };
            let (theirs, ours) = (answer(&*onnx_runtime), answer(&*tract));
            for (a, b) in theirs.iter().zip(&ours) {
                let (a, b) = (a.as_tensor().unwrap(), b.as_tensor().unwrap());
                assert_eq!((a.dtype(), a.shape()), (b.dtype(), b.shape()), "{name}");
                if a.dtype() == DType::String {
                    assert_eq!(a.as_strings(), b.as_strings(), "{name}");
                    continue;
                }
                for (a, b) in numbers(a).into_iter().zip(numbers(b)) {
                    assert!(
                        (a - b).abs() <= 1e-5 * a.abs().max(1.0),
                        "{name}: {a} and {b}"
                    );
                }
            }
            compared += 1;
        }
    }
    assert!(compared >= 20, "only {compared} answers were compared");
}

#[test]
fn without_rows_an_engine_answers_without_rows_or_blames_the_input() {
    for engine in engines() {
        let mut refused = Vec::new();
        for (name, package) in supported(engine) {
            let model = compile(engine, &package).unwrap();
            let mut session = model.session().unwrap();
            let none = sample_batch(&package, 0);
            let context = format!("{} {name}", engine.name());
            match session.run(&none, &CancelToken::new()) {
                Ok(outputs) => {
                    for output in &outputs {
                        assert_eq!(output.rows(), Some(0), "{context}: {output:?}");
                    }
                }
                Err(EngineError::Run {
                    bad_input: true, ..
                }) => refused.push(name),
                Err(error) => panic!("{context}: {error}"),
            }
            session
                .run(&sample_batch(&package, 1), &CancelToken::new())
                .unwrap_or_else(|error| panic!("{context}, after it had no rows: {error}"));
        }
        // Its `Reshape` to `[0, -1]` means nothing when there are no rows, and ONNX Runtime says so.
        let allowed: &[&str] = if engine.name() == "onnxruntime" {
            &["cnn28"]
        } else {
            &[]
        };
        assert_eq!(refused, allowed, "{}", engine.name());
    }
}

#[test]
fn tract_says_which_real_packages_it_cannot_run_and_why() {
    let refused: Vec<(&str, Vec<String>)> = REAL
        .into_iter()
        .map(|name| (name, reasons(&real(name))))
        .filter(|(_, reasons)| !reasons.is_empty())
        .collect();
    let missing_operators = |operators: &str| vec![format!("it lacks the {operators}")];
    let expected = [
        (
            "churn_cols",
            missing_operators(
                "operators `ai.onnx.ml.OneHotEncoder`, `ai.onnx.ml.Scaler`, `ai.onnx.ml.ZipMap`",
            ),
        ),
        (
            "churn_tensors",
            missing_operators("operators `ai.onnx.ml.OneHotEncoder`, `ai.onnx.ml.Scaler`"),
        ),
        (
            "diabetes_rf",
            missing_operators("operator `ai.onnx.ml.TreeEnsembleRegressor`"),
        ),
        (
            "iris_zipmap",
            missing_operators("operator `ai.onnx.ml.ZipMap`"),
        ),
    ];
    assert_eq!(refused, expected);
}

#[test]
fn tract_refuses_labels_that_are_texts_and_picked_features() {
    let traps = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/classic/traps");
    let cases = [
        (
            "62_afe_2_d_one_index.onnx",
            "it gives wrong shapes for `ai.onnx.ml.ArrayFeatureExtractor`",
        ),
        (
            "14_two_ids_logits_softmax_strings.onnx",
            "it cannot read labels of `ai.onnx.ml.TreeEnsembleClassifier` that are texts",
        ),
    ];
    for (file, expected) in cases {
        let reasons = reasons(&Package::open(&traps.join(file)).unwrap());
        assert!(
            reasons.iter().any(|reason| reason == expected),
            "{reasons:?}"
        );
    }
}

#[test]
fn tract_refuses_what_it_lacks_or_answers_wrongly() {
    let cases = [
        ("loop", vec!["it lacks the operator `Loop`"]),
        (
            "other_domain",
            vec!["it lacks the operator `com.example.Add`"],
        ),
        (
            "own_function",
            vec!["it cannot call functions that a model defines itself (`own.Double`)"],
        ),
        (
            "trees_two_classes",
            vec![
                "it gives wrong labels for `ai.onnx.ml.TreeEnsembleClassifier` with two classes",
                "it cannot read `ai.onnx.ml.TreeEnsembleClassifier` with two `base_values`",
            ],
        ),
        (
            "zip_map_text",
            vec!["it lacks the operator `ai.onnx.ml.ZipMap`"],
        ),
        ("trees_three_classes", vec![]),
        ("linear_sum", vec![]),
        ("if_one_row", vec![]),
    ];
    for (name, expected) in cases {
        let package = little(name);
        assert_eq!(reasons(&package), expected, "{name}");
        if !expected.is_empty() {
            let error = compile(&Tract, &package).err().unwrap();
            assert!(
                matches!(error, EngineError::Unsupported { .. }),
                "{name}: {error}"
            );
        }
    }
}

/// Numbers that programs get wrong: missing, infinite, far beyond what an exponential takes, and indices beyond the last.
#[test]
fn tract_answers_special_numbers_as_onnx_runtime_does() {
    let row = || floats(&[1, 3], &[f32::NAN, 1.0, 2.0]);
    let bytes = |values: &[u8]| Tensor::from_vec(vec![3], values.to_vec()).unwrap();
    let integers = |values: &[u32]| Tensor::from_vec(vec![3], values.to_vec()).unwrap();
    let indices = Tensor::from_vec(vec![3], vec![-1_i64, 1, 5]).unwrap();
    let large = || floats(&[1, 2], &[0.0, 200.0]);
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let sums = || {
        let rows = [
            [-1000.0, -1001.0, -1002.0],
            [300.0, 0.0, -300.0],
            [1.0, 2.0, 3.0],
            [inf, 0.0, -inf],
            [-inf, -inf, -inf],
            [nan, 1.0, 2.0],
        ];
        floats(&[6, 3], &rows.concat())
    };
    let cases: Vec<(&str, Vec<(&str, Tensor)>)> = vec![
        ("logistic", vec![("x", row())]),
        ("tanh", vec![("x", row())]),
        ("clip", vec![("x", row())]),
        ("max", vec![("x", row())]),
        ("relu", vec![("x", row())]),
        ("zero", vec![("x", row())]),
        ("logsoftmax", vec![("x", large())]),
        ("logsumexp", vec![("x", sums())]),
        ("logsumexp_flat", vec![("x", sums())]),
        ("softplus", vec![("x", floats(&[1, 2], &[100.5, -200.0]))]),
        ("onehot", vec![("x", indices)]),
        (
            "shift_u8",
            vec![("x", bytes(&[1, 1, 255])), ("k", bytes(&[8, 9, 4]))],
        ),
        (
            "shift_u32",
            vec![("x", integers(&[1, 1, 255])), ("k", integers(&[32, 33, 4]))],
        ),
    ];
    for (name, inputs) in cases {
        let package = little(&format!("special/{name}"));
        let [ours, theirs] = general().map(|engine| answers(engine, &package, inputs.clone()));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours.shape(), theirs.shape(), "{name}");
            for (ours, theirs) in numbers(ours).into_iter().zip(numbers(theirs)) {
                let same = ours == theirs || (ours.is_nan() && theirs.is_nan());
                let near = (ours - theirs).abs() <= 1e-4 * theirs.abs().max(1.0);
                assert!(same || near, "{name}: {ours} and {theirs}");
            }
        }
    }
}

#[test]
fn tract_refuses_slices_that_the_data_decides_unless_it_is_told_otherwise() {
    let package = little("special/slice");
    let refused = compile(&Tract, &package).err().unwrap().to_string();
    for part in ["`Slice`", "ONNX Runtime can", "engine_quirks"] {
        assert!(refused.contains(part), "{refused}");
    }
    let options = EngineOptions {
        allows_quirks: true,
        ..EngineOptions::default()
    };
    Tract
        .compile(&package, &options, &CancelToken::new())
        .unwrap();
}

#[test]
fn tract_refuses_attributes_that_it_overlooks_when_it_reads_the_file() {
    let x = sample_of(DType::F32, vec![3, 1, 2]);
    let one_way = little("lstm_reverse");
    let error = compile(&Tract, &one_way).err().unwrap();
    assert!(matches!(error, EngineError::Unsupported { .. }), "{error}");
    for part in [
        "`direction` = `reverse`",
        "`LSTM`",
        "pip install onnxruntime",
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
    answers(&*ONNX_RUNTIME, &one_way, vec![("x", x.clone())]);

    let both_ways = little("lstm_bidirectional");
    let [ours, theirs] =
        general().map(|engine| answers(engine, &both_ways, vec![("x", x.clone())]));
    assert_eq!(ours[0].shape(), [3, 2, 1, 3]);
    for (a, b) in numbers(&ours[0]).into_iter().zip(numbers(&theirs[0])) {
        assert!((a - b).abs() < 1e-6, "{a} and {b}");
    }
}

#[test]
fn classifiers_that_tract_takes_agree_with_onnx_runtime() {
    let x = floats(
        &[5, 2],
        &[0.0, 0.0, 1.0, 0.1, -1.0, 0.3, 0.5, 0.0, 0.25, 0.125],
    );
    for name in ["linear_sum", "linear_each", "trees_three_classes"] {
        let package = little(name);
        let [ours, theirs] =
            general().map(|engine| answers(engine, &package, vec![("x", x.clone())]));
        assert_eq!(numbers(&ours[0]), numbers(&theirs[0]), "{name}: labels");
        for (a, b) in numbers(&ours[1]).into_iter().zip(numbers(&theirs[1])) {
            assert!((a - b).abs() < 1e-6, "{name}: scores {a} and {b}");
        }
    }
}

#[test]
fn zip_map_keeps_its_labels_in_order() {
    let package = little("zip_map_text");
    let model = compile(&*ONNX_RUNTIME, &package).unwrap();
    for rows in [1, 2] {
        let x = floats(&[rows, 2], &[0.25, 0.75, 1.0, 0.0][..rows * 2]);
        let outputs = run(&*model, vec![("x", x.clone())]).unwrap();
        let Value::Maps(maps) = &outputs[0] else {
            panic!("expected maps, got {outputs:?}");
        };
        assert_eq!(maps.labels, Labels::String(vec!["no".into(), "yes".into()]));
        assert_eq!(maps.scores.shape(), [rows, 2]);
        assert_eq!(maps.scores.bytes(), x.bytes());
    }
    let iris = real("iris_zipmap");
    let model = compile(&*ONNX_RUNTIME, &iris).unwrap();
    let batch = sample_batch(&iris, 3);
    let outputs = model
        .session()
        .unwrap()
        .run(&batch, &CancelToken::new())
        .unwrap();
    let Value::Maps(maps) = &outputs[1] else {
        panic!("expected maps, got {outputs:?}");
    };
    assert_eq!(maps.labels, Labels::Int64(vec![0, 1, 2]));
    for row in maps.scores.as_slice::<f32>().unwrap().chunks(3) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{row:?}");
    }
}

#[test]
fn graphs_with_odd_shapes_are_answered() {
    for engine in engines() {
        let name = engine.name();
        let sizes = answers(
            engine,
            &little("sizes"),
            vec![("x", floats(&[3, 2], &[0.0; 6]))],
        );
        assert_eq!(
            (sizes[0].dtype(), numbers(&sizes[0])),
            (DType::I64, vec![3.0, 2.0]),
            "{name}"
        );

        for shape in [vec![], vec![2], vec![1, 2, 1]] {
            let x = sample_of(DType::F32, shape.clone());
            let y = answers(engine, &little("any_rank"), vec![("x", x.clone())]);
            assert_eq!(
                (y[0].shape(), numbers(&y[0])),
                (&shape[..], numbers(&x)),
                "{name}"
            );
        }

        let y = answers(
            engine,
            &little("wrong_output_shape"),
            vec![("x", floats(&[2], &[-1.0, 2.0]))],
        );
        assert_eq!(numbers(&y[0]), [1.0, 2.0], "{name}");

        if leaves(engine, &little("if_one_row")) {
            continue;
        }
        for (rows, expected) in [(1, vec![1.0, 2.0]), (2, vec![1.0, -2.0, 3.0, -4.0])] {
            let x = floats(&[rows, 2], &[-1.0, 2.0, -3.0, 4.0][..rows * 2]);
            let y = answers(engine, &little("if_one_row"), vec![("x", x)]);
            assert_eq!(numbers(&y[0]), expected, "{name} with {rows} rows");
        }
    }
}

#[test]
fn a_scalar_output_has_no_dimensions() {
    for engine in engines() {
        for (rows, total) in [(0, 0.0), (1, 3.0), (3, 21.0)] {
            let values: Vec<f32> = (1..=rows * 2).map(|value| value as f32).collect();
            let x = floats(&[rows, 2], &values);
            let y = &answers(engine, &little("scalar"), vec![("x", x)])[0];
            let context = format!("{} with {rows} rows", engine.name());
            assert_eq!(y.shape(), [0; 0], "{context}");
            assert_eq!(numbers(y), [total], "{context}");
        }
    }
}

#[test]
fn inputs_of_one_symbol_may_still_be_broadcast() {
    for engine in engines() {
        for (package, shapes) in [
            ("add", [vec![2], vec![1]]),
            ("unnamed_dims", [vec![2, 2], vec![1, 2]]),
        ] {
            let [a, b] = shapes.map(|shape| sample_of(DType::F32, shape));
            let y = answers(
                engine,
                &little(package),
                vec![("a", a.clone()), ("b", b.clone())],
            );
            let (a, b) = (numbers(&a), numbers(&b));
            let expected: Vec<f64> = (0..a.len()).map(|i| a[i] + b[i % b.len()]).collect();
            assert_eq!(numbers(&y[0]), expected, "{} {package}", engine.name());
        }
    }
}

#[test]
fn an_output_that_is_an_input_outlives_the_request() {
    for engine in engines() {
        let package = little("passthrough");
        let values: Vec<f32> = (0..20_000).map(|value| value as f32).collect();
        let model = compile(engine, &package).unwrap();
        let outputs = run(&*model, vec![("x", floats(&[10_000, 2], &values))]).unwrap();
        drop(model);
        // Whatever memory the request had is used again.
        let other = vec![-1.0f32; values.len()];
        let [x, y] = [&outputs[0], &outputs[1]].map(|output| output.as_tensor().unwrap());
        assert_eq!(
            x.as_slice::<f32>().unwrap(),
            values,
            "{} {}",
            engine.name(),
            other.len()
        );
        let doubled: Vec<f32> = values.iter().map(|value| value * 2.0).collect();
        assert_eq!(y.as_slice::<f32>().unwrap(), doubled, "{}", engine.name());
    }
}

#[test]
fn inputs_that_contradict_the_graph_are_an_error_and_the_session_lives_on() {
    for engine in engines() {
        let name = engine.name();
        let model = compile(engine, &little("add")).unwrap();
        let mut session = model.session().unwrap();
        let pair = |a: usize, b: usize| {
            let tensor = |count| sample_of(DType::F32, vec![count]);
            bind(model.signature(), vec![("a", tensor(a)), ("b", tensor(b))])
        };
        let cancel = CancelToken::new();
        session.run(&pair(2, 2), &cancel).unwrap();
        let error = session.run(&pair(2, 3), &cancel).unwrap_err();
        assert!(
            matches!(
                error,
                EngineError::Run {
                    bad_input: true,
                    ..
                }
            ),
            "{name}: {error}"
        );
        session.run(&pair(3, 3), &cancel).unwrap();

        let model = compile(engine, &little("gather")).unwrap();
        let index = |value: i64| {
            let x = sample_of(DType::F32, vec![2, 2]);
            let index = Tensor::from_vec(vec![1], vec![value]).unwrap();
            run(&*model, vec![("x", x), ("index", index)])
        };
        index(1).unwrap();
        // tract panics on such an index, which is a failure of its own.
        let error = index(99).unwrap_err();
        assert!(
            matches!(
                error,
                EngineError::Run {
                    bad_input: true,
                    ..
                } | EngineError::Panicked { .. }
            ),
            "{name}: {error}"
        );
        index(0).unwrap();
    }
}

#[test]
fn a_batch_for_another_model_is_an_error() {
    for engine in engines() {
        let model = compile(engine, &little("twice_float32")).unwrap();
        let mut session = model.session().unwrap();
        for other in ["twice_int64", "twice_str", "add"] {
            let batch = sample_batch(&little(other), 2);
            let error = session.run(&batch, &CancelToken::new()).unwrap_err();
            assert!(
                error.to_string().contains("made for another model"),
                "{error}"
            );
        }
    }
}

#[test]
fn text_may_hold_anything_but_a_nul_for_onnx_runtime() {
    let package = little("twice_str");
    let texts = |text: &str| {
        Tensor::from_strings(vec![1, 2], vec![text.to_owned(), String::new()]).unwrap()
    };
    for engine in engines() {
        let y = &answers(engine, &package, vec![("x", texts("größe ✓"))])[0];
        assert_eq!(y.as_strings().unwrap()[2], "größe ✓");
    }
    let model = compile(&*ONNX_RUNTIME, &package).unwrap();
    let error = run(&*model, vec![("x", texts("a\0b"))]).unwrap_err();
    assert!(
        matches!(
            error,
            EngineError::Run {
                bad_input: true,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn several_sessions_run_at_once() {
    for engine in engines() {
        let is_left = leaves(engine, &real("cnn28"));
        let name = if is_left { "diabetes_rf" } else { "cnn28" };
        let model = compile(engine, &real(name)).unwrap();
        std::thread::scope(|scope| {
            for rows in 1..=4 {
                let model = &model;
                scope.spawn(move || {
                    let batch = sample_batch(&real(name), rows);
                    let mut session = model.session().unwrap();
                    let mut answer = || {
                        let outputs = session.run(&batch, &CancelToken::new()).unwrap();
                        numbers(outputs[0].as_tensor().unwrap())
                    };
                    let first = answer();
                    for _ in 0..20 {
                        assert_eq!(answer(), first);
                    }
                });
            }
        });
    }
}

/// The real packages that `engine` runs.
fn supported(engine: &dyn Engine) -> impl Iterator<Item = (&'static str, Package)> {
    REAL.into_iter()
        .map(|name| (name, real(name)))
        .filter(|(_, package)| engine.supports(package).reasons().is_empty())
}

/// One answer, exactly: datatypes, shapes and every bit.
fn exactly(outputs: &[Value]) -> String {
    let tensor = |tensor: &Tensor| {
        let (dtype, shape, bytes) = (tensor.dtype(), tensor.shape(), tensor.bytes());
        format!("{dtype} {shape:?} {bytes:?} {:?}", tensor.as_strings())
    };
    let text = |output: &Value| match output {
        Value::Tensor(output) => tensor(output),
        Value::Maps(maps) => format!("{:?} {}", maps.labels, tensor(&maps.scores)),
        Value::Sequence(tensors) => tensors.iter().map(tensor).collect(),
    };
    outputs.iter().map(text).collect::<Vec<_>>().join("\n")
}

fn answer(session: &mut dyn Session, batch: &Batch) -> String {
    exactly(&session.run(batch, &CancelToken::new()).unwrap())
}

#[test]
fn sessions_that_run_at_once_answer_as_one_that_runs_alone() {
    for engine in engines() {
        for (name, package) in supported(engine) {
            let batch = sample_batch(&package, 3);
            let alone = {
                let model = compile(engine, &package).unwrap();
                answer(&mut *model.session().unwrap(), &batch)
            };
            let model = compile(engine, &package).unwrap();
            let start = Barrier::new(4);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let mut session = model.session().unwrap();
                        start.wait();
                        for _ in 0..5 {
                            let together = answer(&mut *session, &batch);
                            assert_eq!(together, alone, "{} {name}", engine.name());
                        }
                    });
                }
            });
        }
    }
}

#[test]
fn answers_do_not_depend_on_the_batch_sizes_that_ran_before() {
    for engine in engines() {
        for (name, package) in supported(engine) {
            let used = compile(engine, &package).unwrap();
            let mut used = used.session().unwrap();
            for rows in [1, 7, 3, 1] {
                let batch = sample_batch(&package, rows);
                let fresh = compile(engine, &package).unwrap();
                let expected = answer(&mut *fresh.session().unwrap(), &batch);
                let context = format!("{} {name} with {rows} rows", engine.name());
                assert_eq!(answer(&mut *used, &batch), expected, "{context}");
            }
        }
    }
}

#[test]
fn more_batch_sizes_than_are_remembered_are_answered() {
    for engine in engines() {
        let model = compile(engine, &little("twice_float32")).unwrap();
        for rows in (1..=40).chain([1, 40]) {
            let x = sample_of(DType::F32, vec![rows, 2]);
            let outputs = run(&*model, vec![("x", x)]).unwrap();
            assert_eq!(outputs[0].as_tensor().unwrap().shape(), [rows * 2, 2]);
        }
    }
}

#[test]
fn a_cancelled_token_ends_a_load_and_a_run() {
    let cancelled = CancelToken::new();
    cancelled.cancel();
    for engine in engines() {
        let package = little("twice_float32");
        let options = EngineOptions::default();
        let error = engine
            .compile(&package, &options, &cancelled)
            .err()
            .unwrap();
        assert!(matches!(error, EngineError::Cancelled), "{error}");
        let model = compile(engine, &package).unwrap();
        let error = model
            .session()
            .unwrap()
            .run(&sample_batch(&package, 1), &cancelled)
            .unwrap_err();
        assert!(matches!(error, EngineError::Cancelled), "{error}");
    }
}

/// A package whose files are changed after they were read, as by a bad copy.
fn damaged(package: &Package, file: &Path, bytes: &[u8], root: &Path) -> Package {
    for entry in std::fs::read_dir(&package.root).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), root.join(entry.file_name())).unwrap();
        }
    }
    std::fs::write(root.join(file.file_name().unwrap()), bytes).unwrap();
    Package {
        root: root.to_owned(),
        model_file: root.join(package.model_file.file_name().unwrap()),
        ..package.clone()
    }
}

#[test]
fn damaged_files_are_load_errors_that_name_the_file() {
    let package = real("mlp10");
    let weights = package
        .root
        .join("7f3c1d52-6a1e-11ef-9b7c-0123456789ab.data");
    for file in [package.model_file.clone(), weights] {
        let whole = std::fs::read(&file).unwrap();
        for end in [0, 1, 7, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            let root = tempfile::tempdir().unwrap();
            let damaged = damaged(&package, &file, &whole[..end], root.path());
            for engine in engines() {
                if leaves(engine, &package) {
                    continue;
                }
                let context = format!("{} with {end} bytes of {}", engine.name(), file.display());
                let error = compile(engine, &damaged).err().expect(&context).to_string();
                assert!(
                    error.contains("cannot load `model.onnx`"),
                    "{context}: {error}"
                );
                assert!(!error.contains('\n'), "{context}: {error}");
            }
        }
    }
}

#[test]
fn noise_after_a_good_beginning_is_a_load_error() {
    // The second has no rank, so that an engine may be tempted to leave the reading for later.
    for (package, seed) in [(real("cnn28"), 1), (little("any_rank"), 2)] {
        let whole = std::fs::read(&package.model_file).unwrap();
        for kept in [8, 16, whole.len() / 4, whole.len() / 2] {
            let mut state = u64::try_from(kept).unwrap() * 31 + seed;
            let noise = std::iter::repeat_with(|| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            });
            let bytes: Vec<u8> = whole[..kept]
                .iter()
                .copied()
                .chain(noise)
                .take(whole.len())
                .collect();
            let root = tempfile::tempdir().unwrap();
            std::fs::write(root.path().join("model.onnx"), bytes).unwrap();
            let damaged = Package {
                root: root.path().to_owned(),
                model_file: root.path().join("model.onnx"),
                ..package.clone()
            };
            for engine in engines() {
                if leaves(engine, &package) {
                    continue;
                }
                let name = &package.id.name;
                let context = format!("{} with {kept} good bytes of {name}", engine.name());
                let error = compile(engine, &damaged).err().expect(&context);
                assert!(
                    matches!(error, EngineError::Load { .. }),
                    "{context}: {error}"
                );
            }
        }
    }
}

#[test]
fn a_file_with_flipped_bits_never_panics() {
    let package = real("two_tower");
    let whole = std::fs::read(&package.model_file).unwrap();
    for index in (0..whole.len()).step_by(whole.len() / 60) {
        let mut bytes = whole.clone();
        bytes[index] ^= 0b0101_0101;
        let root = tempfile::tempdir().unwrap();
        let damaged = damaged(&package, &package.model_file, &bytes, root.path());
        let batch = sample_batch(&package, 2);
        for engine in engines() {
            if let Ok(model) = compile(engine, &damaged) {
                let _ = model.session().unwrap().run(&batch, &CancelToken::new());
            }
        }
    }
}

#[test]
fn the_options_of_a_package_reach_onnx_runtime() {
    let mut package = little("twice_float32");
    let works = |package: &Package, options: &EngineOptions| {
        let model = ONNX_RUNTIME.compile(package, options, &CancelToken::new())?;
        model
            .session()?
            .run(&sample_batch(package, 2), &CancelToken::new())
    };
    let options = &mut package.manifest.onnx.session;
    options.intra_op_num_threads = Some(3);
    options.inter_op_num_threads = Some(2);
    options.parallel = true;
    options.graph_optimization_level = Some(1);
    options.extra = vec![("session.disable_prepacking".into(), "1".into())];
    works(&package, &EngineOptions::default()).unwrap();
    let operator = EngineOptions {
        intra_op_threads: Some(1),
        ..EngineOptions::default()
    };
    works(&package, &operator).unwrap();
    package.manifest.onnx.session.extra = vec![("k".repeat(3000), "1".into())];
    let error = works(&package, &EngineOptions::default()).unwrap_err();
    assert!(matches!(error, EngineError::Load { .. }), "{error}");
}

#[test]
fn providers_that_are_not_there_leave_the_cpu() {
    let mut package = little("twice_float32");
    let provider = |name: &str| Provider {
        name: name.to_owned(),
        options: vec![("device_id".to_owned(), "0".to_owned())],
    };
    package.manifest.onnx.providers = vec![
        provider("CUDAExecutionProvider"),
        provider("CPUExecutionProvider"),
    ];
    for operator in [
        None,
        Some(vec![provider("NoSuchExecutionProvider")]),
        Some(vec![]),
    ] {
        let options = EngineOptions {
            providers: operator,
            ..EngineOptions::default()
        };
        let model = ONNX_RUNTIME
            .compile(&package, &options, &CancelToken::new())
            .unwrap();
        model
            .session()
            .unwrap()
            .run(&sample_batch(&package, 1), &CancelToken::new())
            .unwrap();
    }
}

#[test]
fn a_library_that_does_not_work_is_skipped_with_its_reason() {
    let root = tempfile::tempdir().unwrap();
    let fake = |file: &str, contents: &[u8]| -> PathBuf {
        let path = root.path().join(file);
        std::fs::write(&path, contents).unwrap();
        path
    };
    let text = fake("libonnxruntime.so.9.9.9", b"not a library");
    let surroundings = Surroundings {
        system: vec![root.path().to_owned()],
        ..Surroundings::default()
    };
    let engine = OnnxRuntime::new(Config {
        surroundings,
        ..Config::default()
    });
    let error = engine.check().unwrap_err();
    assert!(matches!(error, EngineError::Unavailable { .. }), "{error}");
    assert!(
        error.to_string().contains("pip install onnxruntime"),
        "{error}"
    );
    assert_eq!(engine.version(), None);
    let tried = engine.tried();
    assert_eq!(tried.len(), 1);
    assert_eq!(tried[0].path, text);
    assert!(matches!(tried[0].outcome, Outcome::Refused(_)), "{tried:?}");

    for path in [text, root.path().join("missing.so")] {
        let surroundings = Surroundings::of_process(Some(path.clone()));
        let engine = OnnxRuntime::new(Config {
            surroundings,
            ..Config::default()
        });
        let error = engine.check().unwrap_err();
        assert!(
            matches!(error, EngineError::Misconfigured { .. }),
            "{error}"
        );
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "{error}"
        );
    }
}

#[test]
fn a_second_look_up_tells_the_same_as_the_first() {
    let works = look_up(&Surroundings::of_process(None))
        .into_iter()
        .find_map(|place| place.libraries.into_iter().next())
        .expect("libonnxruntime, as by `make test`");
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("libonnxruntime.so"), b"not a library").unwrap();
    let twice = [(); 2].map(|()| {
        let surroundings = Surroundings {
            executable: Some(root.path().to_owned()),
            system: vec![works.parent().unwrap().to_owned()],
            ..Surroundings::default()
        };
        OnnxRuntime::new(Config {
            surroundings,
            ..Config::default()
        })
    });
    for engine in &twice {
        engine.check().unwrap();
    }
    let [first, second] = &twice;
    assert!(matches!(first.tried()[0].outcome, Outcome::Refused(_)));
    assert_eq!(first.tried(), second.tried());
}

#[test]
fn onnx_runtime_tells_its_version_and_where_it_came_from() {
    let version = ONNX_RUNTIME.version().unwrap();
    assert!(version.starts_with("1."), "{version}");
    let loaded = |tried: &&onstage::engine::onnxruntime::Tried| {
        matches!(tried.outcome, Outcome::Loaded { .. })
    };
    assert_eq!(ONNX_RUNTIME.tried().iter().filter(loaded).count(), 1);
}
