use std::io::Cursor;

use proptest::prelude::*;
use prost::Message;

use super::proto::{
    AttributeProto, Dimension, DimensionValue, ElementType, FunctionProto, GraphProto, MapType,
    NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TensorType, TypeProto, TypeValue,
    ValueInfoProto, WholeTensor,
};
use super::*;
use crate::model::{Dim, OutputKind};
use crate::tensor::DType;

const MODELS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/conformance/mlflow/models"
);

fn real(package: &str) -> Graph {
    Graph::read(&Path::new(MODELS).join(package).join("model.onnx")).unwrap()
}

fn read(bytes: &[u8]) -> Result<Graph, GraphProblem> {
    Graph::decode(Cursor::new(bytes), bytes.len() as u64)
}

fn message(model: &ModelProto) -> String {
    read(&model.encode_to_vec()).unwrap_err().to_string()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn tensor_type(code: i32, dims: &[Option<DimensionValue>]) -> TypeProto {
    let dim = dims.iter().map(|value| Dimension {
        value: value.clone(),
    });
    TypeProto {
        value: Some(TypeValue::Tensor(TensorType {
            elem_type: Some(code),
            shape: Some(TensorShapeProto { dim: dim.collect() }),
        })),
    }
}

fn value(name: &str, kind: TypeProto) -> ValueInfoProto {
    ValueInfoProto {
        name: text(name),
        r#type: Some(kind),
    }
}

fn node(domain: &str, op_type: &str) -> NodeProto {
    NodeProto {
        op_type: text(op_type),
        domain: text(domain),
        ..NodeProto::default()
    }
}

/// A model of one operator with the input `x` and the output `y`.
fn model() -> ModelProto {
    ModelProto {
        ir_version: Some(9),
        producer_name: text("test"),
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(17),
        }],
        graph: Some(GraphProto {
            node: vec![node("", "Relu")],
            input: vec![value("x", tensor_type(1, &[None]))],
            output: vec![value("y", tensor_type(1, &[None]))],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

fn graph_of(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

fn external(name: &str, entries: &[(&str, &str)]) -> TensorProto {
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
        key: text(key),
        value: text(value),
    };
    TensorProto::from(WholeTensor {
        dims: vec![2, 3],
        data_type: Some(1),
        name: text(name),
        external_data: entries.iter().map(entry).collect(),
        data_location: Some(1),
        ..WholeTensor::default()
    })
}

#[test]
fn reads_a_real_classifier() {
    let graph = real("iris_logreg");
    assert_eq!(graph.signature.inputs.len(), 1);
    let input = &graph.signature.inputs[0];
    assert_eq!(input.dtype, DType::F32);
    let shape = input.shape.as_ref().unwrap();
    assert!(
        matches!(shape[..], [Dim::Any(_), Dim::Fixed(4)]),
        "{shape:?}"
    );
    let names: Vec<&str> = graph
        .signature
        .outputs
        .iter()
        .map(|o| o.name.as_str())
        .collect();
    assert_eq!(names, ["label", "probabilities"]);
    let classifier = graph
        .ml_nodes
        .iter()
        .find(|n| n.op_type == "LinearClassifier");
    assert_eq!(classifier.unwrap().class_labels, 3);
    let key = ("ai.onnx.ml".to_owned(), "LinearClassifier".to_owned());
    assert_eq!(graph.operators.get(&key), Some(&1));
    assert!(
        graph.producer.starts_with("skl2onnx "),
        "{}",
        graph.producer
    );
    assert!(graph.opsets.iter().any(|(domain, _)| domain.is_empty()));
}

#[test]
fn zip_map_outputs_are_maps() {
    let graph = real("iris_zipmap");
    let kinds: Vec<&OutputKind> = graph.signature.outputs.iter().map(|o| &o.kind).collect();
    assert!(matches!(
        kinds[0],
        OutputKind::Tensor {
            dtype: DType::I64,
            ..
        }
    ));
    assert_eq!(kinds[1], &OutputKind::Maps { text_labels: false });
}

#[test]
fn says_which_operator_makes_an_output() {
    let origin = |package: &str, output: &str| {
        let graph = real(package);
        let origin = graph.origins.get(output).unwrap();
        (origin.op_type.clone(), origin.index)
    };
    let classifier = |index| ("LinearClassifier".to_owned(), index);
    assert_eq!(origin("iris_logreg", "label"), classifier(0));
    // A Normalizer and a Cast are looked through.
    assert_eq!(origin("iris_logreg", "probabilities"), classifier(1));
    assert_eq!(origin("iris_zipmap", "output_label"), classifier(0));
    assert_eq!(
        origin("iris_zipmap", "output_probability"),
        ("ZipMap".to_owned(), 0)
    );
}

#[test]
fn maps_have_their_labels() {
    let labels = ["0", "1", "2"].map(str::to_owned).to_vec();
    let expected = [("output_probability".to_owned(), labels)].into();
    assert_eq!(real("iris_zipmap").labels, expected);
    assert!(real("iris_logreg").labels.is_empty());
}

#[test]
fn operators_in_a_circle_make_nothing() {
    let mut model = model();
    let circle = |input: &str, output: &str| NodeProto {
        input: vec![input.to_owned()],
        output: vec![output.to_owned()],
        ..node("", "Identity")
    };
    graph_of(&mut model).node = vec![circle("y", "z"), circle("z", "y")];
    let graph = read(&model.encode_to_vec()).unwrap();
    assert!(graph.origins.is_empty());
}

#[test]
fn reads_every_type_of_input() {
    let graph = real("churn_tensors");
    let types: Vec<DType> = graph.signature.inputs.iter().map(|i| i.dtype).collect();
    assert_eq!(types.iter().filter(|t| **t == DType::String).count(), 2);
    let forest = real("diabetes_rf");
    assert!(
        forest
            .ml_nodes
            .iter()
            .any(|n| n.op_type.starts_with("TreeEnsemble"))
    );
}

#[test]
fn names_the_files_of_external_data() {
    let graph = real("mlp10");
    assert!(!graph.external_data.is_empty());
    for data in &graph.external_data {
        assert!(data.location.ends_with(".data"), "{data:?}");
        assert!(data.length.is_some_and(|length| length > 0), "{data:?}");
    }
}

#[test]
fn finds_external_data_and_operators_in_subgraphs_attributes_and_functions() {
    let mut model = model();
    let mut branch = NodeProto {
        attribute: vec![AttributeProto {
            name: text("then_branch"),
            g: Some(Box::new(GraphProto {
                node: vec![node("ai.onnx", "Relu"), node("mine", "Twice")],
                initializer: vec![external("inner", &[("location", "a"), ("offset", "8")])],
                ..GraphProto::default()
            })),
            ..AttributeProto::default()
        }],
        ..node("", "If")
    };
    branch.attribute.push(AttributeProto {
        t: Some(Box::new(external(
            "value",
            &[("location", "b"), ("length", "7")],
        ))),
        ..AttributeProto::default()
    });
    graph_of(&mut model).node.push(branch);
    model.functions = vec![FunctionProto {
        name: text("Twice"),
        domain: text("mine"),
        node: vec![node("", "Add")],
        ..FunctionProto::default()
    }];
    let graph = read(&model.encode_to_vec()).unwrap();
    let operators: Vec<(&str, usize)> = graph
        .operators
        .iter()
        .map(|((_, name), count)| (name.as_str(), *count))
        .collect();
    assert_eq!(operators, [("Add", 1), ("If", 1), ("Relu", 2)]);
    assert!(
        graph
            .functions
            .contains(&("mine".to_owned(), "Twice".to_owned()))
    );
    let data: Vec<_> = graph
        .external_data
        .iter()
        .map(|d| (d.tensor.as_str(), d.location.as_str(), d.offset, d.length))
        .collect();
    // The first length follows from six floats.
    assert_eq!(
        data,
        [("inner", "a", 8, Some(24)), ("value", "b", 0, Some(7))]
    );
}

/// With the inputs `x` and `k`, of which `k` has two numbers as its initializer.
fn with_initializer() -> ModelProto {
    let mut model = model();
    let graph = graph_of(&mut model);
    graph.input.push(value("k", tensor_type(7, &[None])));
    let head = WholeTensor {
        dims: vec![2],
        data_type: Some(7),
        name: text("k"),
        ..WholeTensor::default()
    };
    let initializer = TensorProto::with_integers(head, vec![3, 4]);
    graph.initializer.push(initializer);
    model
}

#[test]
fn an_input_with_a_small_initializer_is_optional() {
    let graph = read(&with_initializer().encode_to_vec()).unwrap();
    let [x, k] = graph.signature.inputs.as_slice() else {
        panic!("{:?}", graph.signature);
    };
    assert!(!x.is_optional());
    let default = k.default.as_ref().unwrap();
    assert_eq!(default.0.to_vec::<i64>().unwrap(), [3, 4]);
}

#[test]
fn an_initializer_that_no_request_could_replace_is_no_input() {
    type Edit<'a> = &'a dyn Fn(&mut ModelProto);
    let cases: [(&str, Edit<'_>); 4] = [
        // Before version 4 each initializer was listed.
        ("an old file", &|m| m.ir_version = Some(3)),
        ("another type", &|m| {
            graph_of(m).input[1].r#type = Some(tensor_type(1, &[None]));
        }),
        ("another shape", &|m| {
            let three = [Some(DimensionValue::Value(3))];
            graph_of(m).input[1].r#type = Some(tensor_type(7, &three));
        }),
        ("a large one", &|m| {
            let mut head = (*graph_of(m).initializer[0]).clone();
            head.dims = vec![1_000];
            let initializer = TensorProto::with_integers(head, vec![i64::MAX; 1_000]);
            graph_of(m).initializer = vec![initializer];
        }),
    ];
    for (what, edit) in cases {
        let mut model = with_initializer();
        edit(&mut model);
        let graph = read(&model.encode_to_vec()).unwrap();
        assert_eq!(graph.signature.inputs.len(), 1, "{what}");
    }
}

#[test]
fn an_output_that_is_named_twice_is_one_output() {
    let mut model = model();
    let again = graph_of(&mut model).output[0].clone();
    graph_of(&mut model).output.push(again);
    let graph = read(&model.encode_to_vec()).unwrap();
    assert_eq!(graph.signature.outputs.len(), 1);
}

#[test]
fn tells_fixed_named_open_and_unknown_dimensions_apart() {
    let mut model = model();
    let dims = [
        Some(DimensionValue::Param("batch".to_owned())),
        Some(DimensionValue::Param(String::new())),
        Some(DimensionValue::Value(-1)),
        Some(DimensionValue::Value(3)),
    ];
    graph_of(&mut model).input[0].r#type = Some(tensor_type(16, &dims));
    let input = read(&model.encode_to_vec())
        .unwrap()
        .signature
        .inputs
        .remove(0);
    assert_eq!(input.dtype, DType::Bf16);
    let expected = [
        Dim::Any(text("batch")),
        Dim::Any(None),
        Dim::Any(None),
        Dim::Fixed(3),
    ];
    assert_eq!(input.shape.unwrap(), expected);

    graph_of(&mut model).input[0].r#type = Some(TypeProto {
        value: Some(TypeValue::Tensor(TensorType {
            elem_type: Some(1),
            shape: None,
        })),
    });
    let graph = read(&model.encode_to_vec()).unwrap();
    assert_eq!(graph.signature.inputs[0].shape, None);
}

#[test]
fn says_what_is_wrong_with_a_graph() {
    let edited = |edit: &dyn Fn(&mut ModelProto)| {
        let mut model = model();
        edit(&mut model);
        message(&model)
    };
    type Edit<'a> = &'a dyn Fn(&mut ModelProto);
    let cases: [(Edit<'_>, &str); 8] = [
        (&|m| m.graph = None, "holds no graph"),
        (&|m| m.opset_import.clear(), "names no operator set"),
        (&|m| graph_of(m).input.clear(), "has a graph without inputs"),
        (
            &|m| graph_of(m).output.clear(),
            "has a graph without outputs",
        ),
        (
            &|m| graph_of(m).input.push(value("x", tensor_type(1, &[]))),
            "has two inputs of the name `x`",
        ),
        (
            &|m| graph_of(m).input[0].name = None,
            "has an input without a name",
        ),
        (
            &|m| {
                graph_of(m)
                    .initializer
                    .push(external("w", &[("length", "1")]))
            },
            "has a tensor `w` whose external data names no file",
        ),
        (
            &|m| {
                let entries = [("location", "w"), ("offset", "-4")];
                graph_of(m).initializer.push(external("w", &entries));
            },
            "has a tensor `w` whose external data has offset `-4`; expected a number of bytes",
        ),
    ];
    for (edit, expected) in cases {
        let message = edited(edit);
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn a_type_that_no_request_has_is_unsupported_and_named() {
    let sequence = TypeProto {
        value: Some(TypeValue::Sequence(ElementType {
            elem_type: Some(Box::new(tensor_type(1, &[]))),
        })),
    };
    let map = TypeProto {
        value: Some(TypeValue::Map(MapType {
            key_type: Some(8),
            value_type: Some(Box::new(tensor_type(11, &[]))),
        })),
    };
    for (kind, name) in [
        (sequence, "seq(tensor(float))"),
        (map, "map(string, tensor(double))"),
        (tensor_type(14, &[]), "tensor(complex64)"),
        (tensor_type(99, &[]), "tensor(element type 99)"),
        (TypeProto::default(), "undefined"),
    ] {
        let mut model = model();
        graph_of(&mut model).input[0].r#type = Some(kind);
        let problem = read(&model.encode_to_vec()).unwrap_err();
        let text = problem.to_string();
        assert!(
            text.starts_with(&format!("has input `x` of type {name}; expected")),
            "{text}"
        );
        let error = GraphError {
            file: PathBuf::new(),
            problem,
        };
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn says_what_a_file_is_that_is_no_model() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.onnx");
    let whole = model().encode_to_vec();
    let random: Vec<u8> = (0..400u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect();
    for (bytes, expected) in [
        (&b""[..], "is empty; expected an ONNX model"),
        (b"hello, world\n", "is a text file"),
        ("{\"größe\": 1}".as_bytes(), "is a text file"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a Git LFS pointer",
        ),
        (&whole[..whole.len() - 3], "is cut off"),
        (&random, "is not an ONNX model: "),
        (
            &[0x28, 1],
            "is not an ONNX model: it holds neither a version nor a graph",
        ),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let message = Graph::read(&path).unwrap_err().to_string();
        let expected = format!("model file `{}` {expected}", path.display());
        assert!(message.starts_with(&expected), "{message}");
        assert!(
            !message.ends_with('.') && !message.contains('\n'),
            "{message}"
        );
    }
    let missing = Graph::read(&directory.path().join("missing")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let folder = Graph::read(directory.path()).unwrap_err().to_string();
    assert!(
        folder.contains("cannot be read: is not a regular file"),
        "{folder}"
    );
}

#[test]
fn a_file_of_two_gibibytes_is_refused_unread() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.onnx");
    // Sparse: takes no space.
    std::fs::File::create(&path)
        .unwrap()
        .set_len(1 << 31)
        .unwrap();
    let message = Graph::read(&path).unwrap_err().to_string();
    assert!(message.contains("has 2147483648 bytes"), "{message}");
}

#[test]
fn weights_inside_the_file_are_skipped() {
    let mut bytes = model().encode_to_vec();
    // An unknown field of 300 kB, as the contents of a tensor are to us, and then the producer once more.
    bytes.extend([0xFA, 0x3F, 0xE0, 0xA7, 0x12]);
    bytes.extend(vec![7; 300_000]);
    bytes.extend(b"\x1a\x031.2");
    assert_eq!(read(&bytes).unwrap().producer, "test 1.2");
}

#[test]
fn nesting_without_end_is_an_error() {
    let mut graph = GraphProto::default();
    for _ in 0..200 {
        let attribute = AttributeProto {
            g: Some(Box::new(graph)),
            ..AttributeProto::default()
        };
        graph = GraphProto {
            node: vec![NodeProto {
                attribute: vec![attribute],
                ..NodeProto::default()
            }],
            ..GraphProto::default()
        };
    }
    let mut model = model();
    graph_of(&mut model).node.extend(graph.node);
    assert!(
        message(&model).contains("subgraphs inside each other"),
        "{}",
        message(&model)
    );
}

proptest! {
    #[test]
    fn changed_bytes_never_panic(
        package in prop::sample::select(vec!["iris_zipmap", "mlp10", "order_total", "two_tower"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = std::fs::read(Path::new(MODELS).join(package).join("model.onnx")).unwrap();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        let _ = read(&bytes).map_err(|problem| problem.to_string());
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
    }
}
