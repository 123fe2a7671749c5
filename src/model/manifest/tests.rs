use proptest::prelude::*;

use super::*;
use crate::model::{ColType, DataType, ModelId, ModelName, ParamType, Schema, TensorType, Version};
use crate::tensor::DType;

const MODELS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/conformance/mlflow/models"
);

const ONNX: &str = "flavors: {onnx: {data: model.onnx}}\n";

fn real(package: &str) -> Manifest {
    Manifest::read(&Path::new(MODELS).join(package).join("MLmodel")).unwrap()
}

fn parse(text: &str) -> Result<Manifest, ManifestProblem> {
    Manifest::parse(text.as_bytes())
}

fn problem(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

fn with_inputs(json: &str) -> String {
    format!("{ONNX}signature:\n  inputs: '{json}'\n  outputs: null\n  params: null\n")
}

fn inputs(json: &str) -> Schema {
    parse(&with_inputs(json))
        .unwrap()
        .signature
        .unwrap()
        .inputs
        .unwrap()
}

#[test]
fn reads_a_manifest_of_mlflow_3() {
    let manifest = real("mlp10");
    assert_eq!(manifest.onnx.data, Path::new("model.onnx"));
    let providers: Vec<&str> = manifest
        .onnx
        .providers
        .iter()
        .map(|p| p.name.as_str())
        .collect();
    assert_eq!(providers, ["CUDAExecutionProvider", "CPUExecutionProvider"]);
    assert_eq!(manifest.onnx.session.intra_op_num_threads, Some(1));
    assert_eq!(manifest.onnx.session.graph_optimization_level, Some(99));
    assert!(!manifest.onnx.session.parallel);
    assert_eq!(manifest.mlflow_version.as_deref(), Some("3.17.2"));
    assert_eq!(manifest.metadata["team"], "demo");
    assert_eq!(
        manifest.created.as_deref(),
        Some("2026-11-23 07:46:38.920886")
    );
    assert_eq!((manifest.run_id, manifest.model_id), (None, None));
    let Some(Schema::Tensors(tensors)) = manifest.signature.unwrap().inputs else {
        panic!("expected tensors");
    };
    assert_eq!(tensors[0].name, None);
    assert_eq!(tensors[0].dtype, TensorType::Plain(DType::F32));
    assert_eq!(tensors[0].shape, [-1, 10]);
}

#[test]
fn reads_a_manifest_of_mlflow_2() {
    let manifest = real("house_v2");
    assert_eq!(
        manifest.run_id.as_deref(),
        Some("0123456789abcdef0123456789abcdef")
    );
    let example = manifest.example.unwrap();
    assert_eq!(example.artifact_path, Path::new("input_example.json"));
    assert_eq!(example.serving_input_path, None);
    assert_eq!(
        (example.kind.as_str(), example.has_params),
        ("dataframe", false)
    );
}

#[test]
fn reads_manifests_of_mlflow_1() {
    let manifest = real("v1_columns");
    assert_eq!(manifest.mlflow_version, None);
    assert_eq!(manifest.onnx.data, Path::new("model.onnx"));
    let example = manifest.example.unwrap();
    assert_eq!(example.artifact_path, Path::new("input_example.json"));
    let Some(Schema::Columns(columns)) = manifest.signature.unwrap().inputs else {
        panic!("expected columns");
    };
    assert!(columns.iter().all(|column| column.required));

    let Some(Schema::Columns(columns)) = real("v1_numbered").signature.unwrap().inputs else {
        panic!("expected columns");
    };
    assert_eq!(columns[1].name.as_deref(), Some("1"));

    let manifest = real("v1_tensor");
    assert_eq!(manifest.mlflow_version.as_deref(), Some("1.30.0"));
}

#[test]
fn reads_parameters() {
    let manifest = real("price_params");
    assert!(manifest.example.unwrap().has_params);
    let params = manifest.signature.unwrap().params.unwrap();
    let shown: Vec<_> = params
        .iter()
        .map(|p| (p.name.as_str(), &p.kind, p.is_list))
        .collect();
    let scalar = |kind| ParamType::Scalar(kind);
    assert_eq!(
        shown,
        [
            ("temperature", &scalar(DataType::Double), false),
            ("max_len", &scalar(DataType::Integer), false),
            ("verbose", &scalar(DataType::Boolean), false),
            ("tags", &scalar(DataType::String), true),
        ]
    );
    assert_eq!(params[0].default, 0.5);
}

#[test]
fn reads_every_real_manifest() {
    let mut count = 0;
    for entry in std::fs::read_dir(MODELS).unwrap() {
        let manifest = Manifest::read(&entry.unwrap().path().join("MLmodel")).unwrap();
        assert_eq!(manifest.onnx.data, Path::new("model.onnx"));
        count += 1;
    }
    assert_eq!(count, 32);
}

#[test]
fn reads_every_type_of_column() {
    let Schema::Columns(scalars) = (match real("typed_events").signature.unwrap().inputs {
        Some(schema) => schema,
        None => panic!("expected inputs"),
    }) else {
        panic!("expected columns");
    };
    assert_eq!(scalars[6].kind, ColType::Scalar(DataType::Binary));
    assert!(scalars[0].required && !scalars[7].required);

    let nested = inputs(
        r#"[{"type":"array","items":{"type":"array","items":{"type":"double"}},"name":"a"},
            {"type":"object","properties":{"x":{"type":"string"},"y":{"type":"map","values":{"type":"any"},"required":false}},"name":"o","required":false},
            {"type":"map","values":{"type":"float"},"name":"m","required":null},
            {"type":"any","name":"any"},
            {"type":"sparkml vector","name":"v"},
            {"type":"long","name":"old","optional":true}]"#,
    );
    let Schema::Columns(columns) = nested else {
        panic!("expected columns");
    };
    let double = || Box::new(ColType::Scalar(DataType::Double));
    assert_eq!(
        columns[0].kind,
        ColType::Array(Box::new(ColType::Array(double())))
    );
    let ColType::Object(properties) = &columns[1].kind else {
        panic!("expected an object");
    };
    assert!(properties[0].required && !properties[1].required);
    assert_eq!(properties[1].kind, ColType::Map(Box::new(ColType::Any)));
    assert_eq!(
        columns[2].kind,
        ColType::Map(Box::new(ColType::Scalar(DataType::Float)))
    );
    assert_eq!(columns[4].kind, ColType::Array(double()));
    let required: Vec<bool> = columns.iter().map(|column| column.required).collect();
    assert_eq!(required, [true, false, true, true, true, false]);
}

#[test]
fn reads_every_type_of_tensor() {
    let dtype = |name: &str| {
        let json = format!(
            r#"[{{"type":"tensor","tensor-spec":{{"dtype":"{name}","shape":[-1,2]}},"name":"x"}}]"#
        );
        match inputs(&json) {
            Schema::Tensors(mut tensors) => tensors.remove(0).dtype,
            Schema::Columns(_) => panic!("expected tensors"),
        }
    };
    assert_eq!(dtype("float16"), TensorType::Plain(DType::F16));
    assert_eq!(dtype("uint8"), TensorType::Plain(DType::U8));
    assert_eq!(dtype("int64"), TensorType::Plain(DType::I64));
    assert_eq!(dtype("str"), TensorType::Plain(DType::String));
    assert_eq!(dtype("str160"), TensorType::Plain(DType::String));
    assert_eq!(dtype("<U"), TensorType::Plain(DType::String));
    assert_eq!(dtype("object"), TensorType::Object);
    assert_eq!(dtype("O"), TensorType::Object);
    assert_eq!(dtype("bytes"), TensorType::Bytes);
    assert_eq!(
        dtype("datetime64[ns]"),
        TensorType::Other("datetime64[ns]".to_owned())
    );
    assert_eq!(
        dtype("complex64"),
        TensorType::Other("complex64".to_owned())
    );
}

#[test]
fn types_of_tensors_may_be_written_as_numpy_reads_them() {
    for (written, dtype) in [
        ("<f4", DType::F32),
        (">f8", DType::F64),
        ("f2", DType::F16),
        ("half", DType::F16),
        ("single", DType::F32),
        ("float", DType::F64),
        ("int", DType::I64),
        ("=i4", DType::I32),
        ("|u1", DType::U8),
        ("b", DType::I8),
        ("B", DType::U8),
        ("?", DType::Bool),
        ("bool_", DType::Bool),
        ("unicode", DType::String),
    ] {
        let json =
            format!(r#"[{{"type":"tensor","tensor-spec":{{"dtype":"{written}","shape":[-1]}}}}]"#);
        let Schema::Tensors(tensors) = inputs(&json) else {
            panic!("expected tensors");
        };
        assert_eq!(tensors[0].dtype, TensorType::Plain(dtype), "{written}");
    }
}

#[test]
fn defaults_of_parameters_may_be_what_only_python_calls_json() {
    let text = format!(
        "{ONNX}signature:\n  params: '[{{\"name\": \"NaN \\\" Infinity\", \"default\": -Infinity, \"shape\": null, \
         \"type\": \"double\"}}, {{\"name\": \"b\", \"default\": [NaN, 1.0], \"shape\": [-1], \"dtype\": \"float\"}}]'\n"
    );
    let params = parse(&text).unwrap().signature.unwrap().params.unwrap();
    assert_eq!(params[0].name, "NaN \" Infinity");
    assert_eq!(params[0].default, Value::Null);
    assert_eq!(params[1].default, serde_json::json!([null, 1.0]));
}

#[test]
fn providers_may_be_names_pairs_one_name_or_nothing() {
    let providers = |yaml: &str| {
        parse(&format!(
            "flavors: {{onnx: {{data: m, providers: {yaml}}}}}"
        ))
        .unwrap()
        .onnx
        .providers
    };
    let plain = |name: &str| Provider {
        name: name.to_owned(),
        options: vec![],
    };
    assert_eq!(providers("null"), []);
    assert_eq!(providers("[]"), []);
    assert_eq!(providers("A"), [plain("A")]);
    let mixed = providers(
        "[[A, {device_id: 1, fast: true, mode: x, limit: null, list: [1, 2]}], B, [C], [D, null]]",
    );
    assert_eq!(mixed[1..], [plain("B"), plain("C"), plain("D")]);
    let options = [
        ("device_id", "1"),
        ("fast", "True"),
        ("mode", "x"),
        ("limit", "None"),
        ("list", "[1,2]"),
    ];
    let options: Vec<_> = options
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    assert_eq!(mixed[0].options, options);
    assert_eq!(
        problem("flavors: {onnx: {data: m, providers: [1]}}"),
        "has `1` for `flavors.onnx.providers`; expected names or lists of a name and options"
    );
}

/// `PyYAML` writes and reads all of this, and so does MLflow.
#[test]
fn metadata_may_be_whatever_python_writes() {
    let metadata = |yaml: &str| {
        let manifest = parse(&format!("{ONNX}metadata:\n{yaml}")).unwrap();
        Value::Object(manifest.metadata)
    };
    let read = metadata(
        "  icon: !!binary |\n    /wA=\n  by: {null: 1, 2: a, true: b, 1.5: c, ~: 3}\n  set: !!set {x: null}\n  \
         big: 10000000000000000000000000000000000000000\n",
    );
    assert_eq!(read["icon"], "/wA=\n");
    assert_eq!(
        read["by"],
        serde_json::json!({"null": 3, "2": "a", "true": "b", "1.5": "c"})
    );
    assert_eq!(read["set"], serde_json::json!({"x": null}));
    assert!(read["big"].is_number() || read["big"].is_string(), "{read}");
    assert_eq!(metadata("  a: 1\n  a: 2\n"), serde_json::json!({"a": 2}));
    let twice = parse("flavors: {}\nflavors: {onnx: {data: one.onnx, data: two.onnx}}\n").unwrap();
    assert_eq!(twice.onnx.data, Path::new("two.onnx"));
    let keyed = metadata("  ? [1, 2]\n  : pair\n  ? {a: 1}\n  : map\n");
    assert_eq!(
        keyed,
        serde_json::json!({"[1,2]": "pair", "{\"a\":1}": "map"})
    );
}

#[test]
fn session_options_are_read_as_mlflow_reads_them() {
    let session = |yaml: &str| {
        parse(&format!(
            "flavors: {{onnx: {{data: m, onnx_session_options: {yaml}}}}}"
        ))
        .map(|manifest| manifest.onnx.session)
    };
    let read = session(
        "{execution_mode: Parallel, graph_optimization_level: 0, intra_op_num_threads: 0, inter_op_num_threads: 3, \
         extra_session_config: {session.x: '1', session.y: 2}, log_severity_level: 2}",
    )
    .unwrap();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let expected = SessionOptions {
        intra_op_num_threads: None,
        inter_op_num_threads: Some(3),
        parallel: true,
        graph_optimization_level: None,
        extra: vec![pair("session.x", "1"), pair("session.y", "2")],
    };
    assert_eq!(read, expected);
    assert_eq!(session("null").unwrap(), SessionOptions::default());
    assert_eq!(session("[]").unwrap(), SessionOptions::default());
    for (written, level) in [(1, 1), (3, 3), (7, 3), (99, 99), (100, 99)] {
        let read = session(&format!("{{graph_optimization_level: {written}}}")).unwrap();
        assert_eq!(read.graph_optimization_level, Some(level), "{written}");
    }
    // ONNX Runtime takes any number below 1 for its default.
    let negative = session("{intra_op_num_threads: -1, inter_op_num_threads: -8}").unwrap();
    assert_eq!(negative, SessionOptions::default());
    assert!(session("{intra_op_num_threads: many}").is_err());
}

/// The error of a package of these flavors in the directory `path`.
fn foreign(path: &str, flavors: &str) -> ManifestError {
    let problem = parse(&format!("flavors: {flavors}")).unwrap_err();
    ManifestError::new(&Path::new(path).join("MLmodel"), problem)
}

const SKLEARN: &str = "{sklearn: {}, python_function: {loader_module: mlflow.sklearn}}";

#[test]
fn a_model_that_python_must_load_ends_with_the_command_that_converts_it() {
    let error = foreign("m", SKLEARN);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let message = error.to_string();
    assert!(
        message.starts_with("package `m` names the loader `mlflow.sklearn`"),
        "{message}"
    );
    assert!(
        message.ends_with("`onstage-convert m -o m-onnx`"),
        "{message}"
    );
    let without_loader = foreign("m", "{sklearn: {}, python_function: {}}").to_string();
    assert!(
        without_loader.starts_with("package `m` has no `onnx` flavor, only `sklearn`,"),
        "{without_loader}"
    );
    assert!(
        without_loader.ends_with("`onstage-convert m -o m-onnx`"),
        "{without_loader}"
    );
}

#[test]
fn a_flavor_without_converter_gets_no_command() {
    let message = foreign("m", "{spark: {}, crate: {}}").to_string();
    assert!(
        message.starts_with("package `m` has no `onnx` flavor, only `spark`, `crate`;"),
        "{message}"
    );
    assert!(!message.contains("onstage-convert"), "{message}");
    assert!(message.contains("mlflow.onnx.log_model"), "{message}");
}

#[test]
fn the_command_can_be_pasted_into_a_shell() {
    let command = |path: &str| foreign(path, SKLEARN).conversion.to_string();
    assert_eq!(command("."), "onstage-convert . -o ./onnx");
    assert_eq!(
        command("my models/it's"),
        r#"onstage-convert "my models/it's" -o "my models/it's-onnx""#
    );
    let id = ModelId {
        name: ModelName::new("my model").unwrap(),
        version: Version(3),
    };
    let named = foreign("cache/abc", SKLEARN).named(Conversion::of_version(&id));
    assert_eq!(
        named.conversion.to_string(),
        "onstage-convert 'models:/my model/3' --register 'my model'"
    );
    assert!(!named.to_string().contains("cache"), "{named}");
}

#[test]
fn the_python_flavor_alone_is_enough() {
    let text =
        "flavors: {python_function: {loader_module: mlflow.onnx, data: a.onnx, env: conda.yaml}}";
    assert_eq!(parse(text).unwrap().onnx.data, Path::new("a.onnx"));
}

#[test]
fn identifiers_that_look_like_numbers_stay_text() {
    let manifest = parse(&format!(
        "{ONNX}run_id: 00881234567890123456789012345678\nmodel_id: 1e10\nmlflow_version: 2.10\nmetadata: {{x: .nan}}\n"
    ))
    .unwrap();
    assert_eq!(
        manifest.run_id.as_deref(),
        Some("00881234567890123456789012345678")
    );
    assert_eq!(manifest.model_id.as_deref(), Some("1e10"));
    assert_eq!(manifest.mlflow_version.as_deref(), Some("2.10"));
}

#[test]
fn a_signature_without_parts_is_none() {
    let text =
        format!("{ONNX}signature: {{inputs: null, outputs: '', params: null}}\nunknown: [1]\n");
    assert_eq!(parse(&text).unwrap().signature, None);
}

#[test]
fn says_what_is_wrong_with_a_manifest() {
    let tensor = r#"{"type":"tensor","tensor-spec":{"dtype":"float32","shape":[-1]}}"#;
    for (text, expected) in [
        (
            "mlflow_version: 3.1.0\n",
            "names no flavors; expected `flavors.onnx`",
        ),
        ("flavors: {}\n", "names no flavors"),
        (
            "flavors: [onnx]\n",
            "has a list for `flavors`; expected a mapping",
        ),
        (
            "flavors: {onnx: {}}\n",
            "has nothing for `flavors.onnx.data`",
        ),
        (
            "flavors: {onnx: {data: [1]}}\n",
            "has a list for `flavors.onnx.data`; expected text",
        ),
        ("flavors: {onnx: [\n", "is not a valid `MLmodel` file: "),
        ("just text\n", "is not a valid `MLmodel` file: "),
        (&with_inputs("["), "has invalid JSON (EOF while parsing"),
        (
            &with_inputs("[]"),
            "has an empty list for `signature.inputs`; expected all columns",
        ),
        (
            &with_inputs("{}"),
            "has a mapping for `signature.inputs`; expected the JSON text of a list",
        ),
        (
            &with_inputs("[1]"),
            "has `1` for `signature.inputs[0]`; expected a mapping",
        ),
        (
            &with_inputs(r#"[{"type":"decimal","name":"a"}]"#),
            "has `\"decimal\"` for `signature.inputs[0].type`; expected a column type",
        ),
        (
            &with_inputs(r#"[{"type":"array","name":"a"}]"#),
            "has nothing for `signature.inputs[0].items`; expected a mapping",
        ),
        (
            &with_inputs(r#"[{"type":"long","name":"a"},{"type":"long"}]"#),
            "has named and unnamed entries for `signature.inputs`",
        ),
        (
            &with_inputs(&format!("[{tensor},{tensor}]")),
            "has several unnamed tensors",
        ),
        (
            &with_inputs(&format!(r#"[{tensor},{{"type":"long"}}]"#)),
            "has columns and tensors",
        ),
        (
            &with_inputs(r#"[{"type":"tensor","tensor-spec":{"dtype":"float32"}}]"#),
            "has nothing for `signature.inputs[0].tensor-spec.shape`; expected a list of sizes",
        ),
    ] {
        let message = problem(text);
        assert!(message.starts_with(expected), "{text:?}: {message}");
        assert!(
            !message.contains('\n') && !message.ends_with('.'),
            "{message}"
        );
    }
    let binary = Manifest::parse(b"flavors:\n  onnx: \xff\n").unwrap_err();
    assert_eq!(
        binary.to_string(),
        "is not UTF-8 text: line 2 holds other bytes"
    );
    let large = vec![b' '; 5 << 20];
    assert!(matches!(
        Manifest::parse(&large),
        Err(ManifestProblem::TooLarge)
    ));
}

#[test]
fn hostile_yaml_is_refused_in_bounded_time() {
    let deep = format!("metadata: {}\n", "[".repeat(100_000));
    assert!(parse(&deep).is_err());
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let references = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{references}]\n"));
    }
    bomb.push_str("metadata: {x: *a9}\n");
    assert!(parse(&bomb).is_err());
    let json = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(parse(&with_inputs(&json)).is_err());
}

proptest! {
    #[test]
    fn changed_bytes_never_panic(
        package in prop::sample::select(vec!["price_params", "mlp10", "typed_events"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = std::fs::read(Path::new(MODELS).join(package).join("MLmodel")).unwrap();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        let _ = Manifest::parse(&bytes).map_err(|problem| problem.to_string());
    }
}
