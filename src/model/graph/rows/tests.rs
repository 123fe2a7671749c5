//! Rules by example. That what is proven really holds is tried against ONNX Runtime, by `tests/rows`.

use rstest::rstest;

use super::super::proto::{
    Dimension, DimensionValue, TensorShapeProto, TensorType, TypeProto, TypeValue, ValueInfoProto,
    WholeTensor,
};
use super::super::values::signature_of;
use super::*;

/// A graph written down: inputs as `x[N,4]`, constants as `c=[1,2]` or `w[4,8]`, nodes as `y = Op(x, c) axis=1 perm=[1,0]`.
fn model(text: &str) -> ModelProto {
    let mut graph = GraphProto::default();
    let mut last = String::new();
    for line in text
        .split(';')
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        if let Some((outputs, call)) = line.split_once(" = ") {
            let node = node(outputs, call);
            last.clone_from(&node.output[0]);
            graph.node.push(node);
        } else if let Some((name, numbers)) = line.split_once('=') {
            graph.initializer.push(integers(name, numbers));
        } else if let Some(weights) = line.strip_prefix("const ") {
            let (name, dims) = named_dims(weights);
            let dims = dims.iter().map(|dim| dim.parse().unwrap()).collect();
            let head = WholeTensor {
                name: Some(name),
                dims,
                data_type: Some(1),
                ..WholeTensor::default()
            };
            graph.initializer.push(head.into());
        } else {
            graph.input.push(input(line));
        }
    }
    graph.output.push(value(&last, &[]));
    let opset = OperatorSetIdProto {
        domain: None,
        version: Some(17),
    };
    let classic = OperatorSetIdProto {
        domain: Some("ai.onnx.ml".to_owned()),
        version: Some(3),
    };
    ModelProto {
        graph: Some(graph),
        opset_import: vec![opset, classic],
        ..ModelProto::default()
    }
}

fn named_dims(text: &str) -> (String, Vec<String>) {
    let (name, dims) = text.trim_end_matches(']').split_once('[').unwrap();
    let dims = dims.split(',').filter(|dim| !dim.is_empty());
    (name.to_owned(), dims.map(str::to_owned).collect())
}

fn input(text: &str) -> ValueInfoProto {
    let (name, dims) = named_dims(text);
    value(&name, &dims)
}

fn value(name: &str, dims: &[String]) -> ValueInfoProto {
    let dim = dims.iter().map(|dim| Dimension {
        value: Some(match dim.parse() {
            Ok(size) => DimensionValue::Value(size),
            Err(_) if dim == "?" => DimensionValue::Param(String::new()),
            Err(_) => DimensionValue::Param(dim.clone()),
        }),
    });
    let shape = Some(TensorShapeProto { dim: dim.collect() });
    let kind = TypeValue::Tensor(TensorType {
        elem_type: Some(1),
        shape,
    });
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { value: Some(kind) }),
    }
}

fn numbers(text: &str) -> Vec<i64> {
    let inner = text.trim().trim_matches(['[', ']']);
    inner
        .split(',')
        .filter(|number| !number.is_empty())
        .map(|number| number.trim().parse().unwrap())
        .collect()
}

fn integers(name: &str, text: &str) -> TensorProto {
    let numbers = numbers(text);
    let dims = if text.contains('[') {
        vec![numbers.len() as i64]
    } else {
        vec![]
    };
    let head = WholeTensor {
        name: Some(name.to_owned()),
        dims,
        data_type: Some(7),
        ..WholeTensor::default()
    };
    TensorProto::with_integers(head, numbers)
}

fn node(outputs: &str, call: &str) -> NodeProto {
    let (op, rest) = call.split_once('(').unwrap();
    let (inputs, attributes) = rest.split_once(')').unwrap();
    let list = |text: &str| -> Vec<String> {
        text.split(',').map(|name| name.trim().to_owned()).collect()
    };
    let attribute = |text: &str| {
        let (name, value) = text.split_once('=').unwrap();
        let mut attribute = AttributeProto {
            name: Some(name.to_owned()),
            ..AttributeProto::default()
        };
        match value.parse() {
            Ok(number) => attribute.i = Some(number),
            Err(_) if value.starts_with('[') => attribute.ints = numbers(value),
            Err(_) => attribute.s = Some(value.as_bytes().to_vec()),
        }
        attribute
    };
    let classic = [
        "Scaler",
        "TreeEnsembleRegressor",
        "LinearClassifier",
        "LabelEncoder",
        "ArrayFeatureExtractor",
    ];
    NodeProto {
        op_type: Some(op.to_owned()),
        domain: classic.contains(&op).then(|| "ai.onnx.ml".to_owned()),
        input: list(inputs),
        output: list(outputs),
        attribute: attributes.split_whitespace().map(attribute).collect(),
        ..NodeProto::default()
    }
}

fn judge(text: &str) -> RowProof {
    let model = model(text);
    let signature = signature_of(model.graph.as_ref().unwrap(), 0).unwrap();
    analyse(&model, &signature)
}

#[rstest]
#[case::elements("x[N,4]; y = Relu(x)")]
#[case::a_constant_for_each_column("x[N,4]; const b[4]; y = Add(x, b)")]
#[case::a_constant_of_one_row("x[N,4]; const b[1,4]; y = Add(x, b)")]
#[case::two_inputs("x[N,4]; z[N,1]; y = Mul(x, z)")]
#[case::unnamed_rows("x[?,4]; z[?,4]; y = Mul(x, z)")]
#[case::features("x[N,4]; const w[4,3]; y = MatMul(x, w)")]
#[case::gemm("x[N,4]; const w[3,4]; const b[3]; y = Gemm(x, w, b) transB=1")]
#[case::inner_axis("x[N,4]; y = ReduceMean(x) axes=[-1]")]
#[case::flattened("x[N,2,3]; y = Flatten(x)")]
#[case::minus_one_for_the_rows("x[N,2,3]; s=[-1,6]; y = Reshape(x, s)")]
#[case::zero_for_the_rows("x[N,2,3]; s=[0,-1]; y = Reshape(x, s)")]
#[case::as_torch_views(
    "x[N,T,8]; i=0; a=[0]; m=[-1]; f = Shape(x); n = Gather(f, i); u = Unsqueeze(n, a); s = Concat(u, m) axis=0; y = Reshape(x, s)"
)]
#[case::merged_and_split_again(
    "x[N,T,8]; const w[8,8]; s=[-1,8]; f = Shape(x); a = Reshape(x, s); b = MatMul(a, w); y = Reshape(b, f)"
)]
#[case::heads(
    "x[N,T,8]; s=[0,0,2,4]; a = Reshape(x, s); b = Transpose(a) perm=[0,2,1,3]; c = Transpose(a) perm=[0,2,3,1]; d = MatMul(b, c); y = Softmax(d)"
)]
#[case::back_and_forth("x[N,4]; a = Transpose(x); y = Transpose(a)")]
#[case::embedding("x[N,T]; const w[100,8]; y = Gather(w, x)")]
#[case::first_token("x[N,T,8]; i=0; y = Gather(x, i) axis=1")]
#[case::its_own_row(
    "x[N,4]; i=0; e=1; f = Shape(x); n = Gather(f, i); r = Range(i, n, e); y = Gather(x, r)"
)]
#[case::all_rows_of_a_slice("x[N,4]; a=[0]; b=[9223372036854775807]; y = Slice(x, a, b, a)")]
#[case::all_rows_of_a_slice_by_tf2onnx("x[N,4]; a=[0]; b=[1000000000]; y = Slice(x, a, b, a)")]
#[case::expanded_with_the_rows(
    "x[N,4]; const w[1,4]; f = Shape(x); e = Expand(w, f); y = Add(x, e)"
)]
#[case::zeros_for_each_row("x[N,4]; f = Shape(x); z = ConstantOfShape(f); y = Add(x, z)")]
#[case::a_shared_input("x[N,4]; t[]; y = Mul(x, t)")]
#[case::a_shared_table("x[N,T]; w[V,8]; y = Gather(w, x)")]
#[case::image(
    "x[N,1,8,8]; const w[4,1,3,3]; a = Conv(x, w); b = MaxPool(a) kernel_shape=[2,2] strides=[2,2]; s=[-1,36]; y = Reshape(b, s)"
)]
#[case::recurrent(
    "x[N,T,4]; const w[1,8,4]; const r[1,8,8]; a = Transpose(x) perm=[1,0,2]; s, l = RNN(a, w, r) hidden_size=8; z=[0]; y = Squeeze(l, z)"
)]
#[case::sum_of_products("x[N,I,4]; z[N,4,J]; y = Einsum(x, z) equation=nik,nkj->nij")]
#[case::trees("x[N,4]; y = TreeEnsembleRegressor(x)")]
#[case::labels(
    "x[N,4]; const w[1,3]; l, s = LinearClassifier(x); a = ArrayFeatureExtractor(w, l); b=[-1]; y = Reshape(a, b)"
)]
fn is_proven(#[case] text: &str) {
    assert_eq!(judge(text), RowProof::Independent);
}

#[rstest]
#[case::mean(
    "x[N,4]; m = ReduceMean(x) axes=[0]; y = Sub(x, m)",
    "`ReduceMean` brings the rows together"
)]
#[case::everything(
    "x[N,4]; m = ReduceMax(x); y = Div(x, m)",
    "`ReduceMax` brings the rows together"
)]
#[case::no_operation_without_axes(
    "x[N,4]; a = ReduceSum(x) noop_with_empty_axes=1; y = CumSum(a, a)",
    "`CumSum`"
)]
#[case::outer_sum(
    "x[N,1]; z[1,N]; y = Add(x, z)",
    "input `z` has the number of rows on an inner axis"
)]
#[case::outer_product(
    "x[N,4]; t = Transpose(x); y = MatMul(x, t)",
    "`MatMul` multiplies each row with others"
)]
#[case::a_list_beside_a_table(
    "x[N,4]; z[N]; y = Add(x, z)",
    "`Add` brings each row together with others"
)]
#[case::unknown_size_where_the_rows_are(
    "x[N,4]; z[M,4]; y = Add(x, z)",
    "`Add` has another size where the rows are"
)]
#[case::numbered(
    "x[N,4]; i=0; e=1; f = Shape(x); n = Gather(f, i); r = Range(i, n, e); y = Cast(r) to=1",
    "`Cast` calculates with the position of a row"
)]
#[case::counted(
    "x[N,4]; i=0; f = Shape(x); n = Gather(f, i); c = Cast(n) to=1; y = Mul(x, c)",
    "`Cast` calculates with the number of rows"
)]
#[case::half_rows(
    "x[N,3]; s=[-1,2]; y = Reshape(x, s)",
    "`Reshape` may cut a row in two"
)]
#[case::mixed_by_a_reshape(
    "x[N,4]; s=[4,-1]; a = Reshape(x, s); t = Transpose(a); y = Relu(t)",
    "`Reshape` moves the rows among other elements"
)]
#[case::doubled(
    "x[N,4]; s=[-1,2]; y = Reshape(x, s)",
    "output `y` has another number of rows than the inputs"
)]
#[case::on_another_axis(
    "x[N,4]; y = Transpose(x)",
    "output `y` has the rows on another axis than the first"
)]
#[case::without_rows("x[N,4]; const w[3]; y = Relu(w)", "output `y` has no rows")]
#[case::many_rows_of_a_slice(
    "x[N,4]; a=[0]; b=[999999999]; y = Slice(x, a, b, a)",
    "`Slice` works along the rows"
)]
#[case::reversed(
    "x[N,4]; a=[-1]; b=[-9223372036854775807]; c=[0]; y = Slice(x, a, b, c, a)",
    "`Slice` works along the rows"
)]
#[case::rows_by_number(
    "x[N,4]; i[N]; y = Gather(x, i)",
    "`Gather` may read other rows, by their number"
)]
#[case::no_axes_to_squeeze(
    "x[N,1]; y = Squeeze(x)",
    "`Squeeze` removes axes of size 1 without naming them"
)]
#[case::triangle(
    "x[N,4]; y = Trilu(x)",
    "`Trilu` keeps elements by the position of their row"
)]
#[case::softmax_of_rows("x[N,4]; y = Softmax(x) axis=0", "`Softmax` brings the rows together")]
#[case::dynamic_scale(
    "x[N,4]; q, s, z = DynamicQuantizeLinear(x); y = DequantizeLinear(q, s, z)",
    "`DynamicQuantizeLinear` has no rule"
)]
#[case::training(
    "x[N,4]; const a[4]; y, m, v = BatchNormalization(x, a, a, a, a) training_mode=1",
    "learns from all rows of a run"
)]
#[case::drops(
    "x[N,4]; const r[]; t=1; y = Dropout(x, r, t)",
    "`Dropout` may drop elements at random"
)]
#[case::one_row_of_features(
    "x[N]; y = Scaler(x)",
    "`Scaler` reads all rows as the features of one"
)]
#[case::other_operator("x[N,4]; y = Mystery(x)", "`Mystery` has no rule")]
#[case::random(
    "x[N,4]; r = RandomNormalLike(x); y = Add(x, r)",
    "`RandomNormalLike` draws random numbers"
)]
#[case::places_of_a_pool(
    "x[N,1,4,4]; y, p = MaxPool(x) kernel_shape=[2,2]; q = Cast(p) to=1",
    "`MaxPool` numbers its places"
)]
#[case::fixed_rows("x[4,4]; y = Relu(x)", "output `y` has no rows")]
fn is_not_proven(#[case] text: &str, #[case] reason: &str) {
    match judge(text) {
        RowProof::Independent => panic!("proven, expected `{reason}`"),
        RowProof::Unproven(found) => assert!(found.contains(reason), "{found}"),
    }
}

/// Functions that call each other twice each would be followed for ever.
#[test]
fn a_small_file_of_many_calls_is_given_up() {
    let mut model = model("x[N,4]; y = F0(x)");
    model.graph.as_mut().unwrap().node[0].domain = Some("own".to_owned());
    model.functions = (0..40)
        .map(|level| {
            let mut first = node("a", &format!("F{}(x)", level + 1));
            let mut second = node("y", &format!("F{}(a)", level + 1));
            first.domain = Some("own".to_owned());
            second.domain = Some("own".to_owned());
            FunctionProto {
                name: Some(format!("F{level}")),
                domain: Some("own".to_owned()),
                input: vec!["x".to_owned()],
                output: vec!["y".to_owned()],
                node: vec![first, second],
                ..FunctionProto::default()
            }
        })
        .collect();
    let signature = signature_of(model.graph.as_ref().unwrap(), 0).unwrap();
    let RowProof::Unproven(reason) = analyse(&model, &signature) else {
        panic!("proven");
    };
    assert!(reason.contains("too large"), "{reason}");
}
