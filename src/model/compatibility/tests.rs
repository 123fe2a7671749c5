use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::model::{
    ColSpec, ColType, DataType, Dim, InputSpec, OutputKind, OutputSpec, ParamSpec, ParamType,
    Property, Schema, TensorSpec, TensorType,
};
use crate::tensor::DType;

/// What a version declares and what its graph is.
#[derive(Debug, Clone)]
struct Sample {
    signature: Option<ModelSignature>,
    graph: Signature,
}

/// `name:type` columns, `name?` for an optional one, `:type` for one without a name. An object is `{a:long}` with one
/// property.
fn columns(text: &str) -> Schema {
    let column = |entry: &str| {
        let (name, kind) = entry.split_once(':').unwrap();
        let required = !name.ends_with('?');
        let name = name.trim_end_matches('?');
        ColSpec {
            name: (!name.is_empty()).then(|| name.to_owned()),
            required,
            kind: cell(kind),
        }
    };
    Schema::Columns(text.split_whitespace().map(column).collect())
}

fn cell(text: &str) -> ColType {
    if let Some(items) = inside(text, '[', ']') {
        return ColType::Array(Box::new(cell(items)));
    }
    if let Some(values) = inside(text, '<', '>') {
        return ColType::Map(Box::new(cell(values)));
    }
    if let Some(properties) = inside(text, '{', '}') {
        let Schema::Columns(columns) = columns(&properties.replace(',', " ")) else {
            panic!("columns are columns");
        };
        let property = |column: ColSpec| Property {
            name: column.name.unwrap(),
            required: column.required,
            kind: column.kind,
        };
        return ColType::Object(columns.into_iter().map(property).collect());
    }
    match text {
        "any" => ColType::Any,
        scalar => ColType::Scalar(DataType::from_mlflow(scalar).unwrap()),
    }
}

fn inside(text: &str, open: char, close: char) -> Option<&str> {
    text.strip_prefix(open)?.strip_suffix(close)
}

/// `name:dtype[sizes]` tensors.
fn tensors(text: &str) -> Schema {
    let tensor = |entry: &str| {
        let (name, rest) = entry.split_once(':').unwrap();
        let (dtype, sizes) = rest.trim_end_matches(']').split_once('[').unwrap();
        let sizes = sizes.split(',').map(|size| size.parse().unwrap());
        TensorSpec {
            name: (!name.is_empty()).then(|| name.to_owned()),
            dtype: match dtype {
                "object" => TensorType::Object,
                plain => TensorType::Plain(DType::from_numpy(plain).unwrap()),
            },
            shape: sizes.collect(),
        }
    };
    Schema::Tensors(text.split_whitespace().map(tensor).collect())
}

/// `name:type=default` params, `name*` for a list.
fn params(text: &str) -> Vec<ParamSpec> {
    let param = |entry: &str| {
        let (name, rest) = entry.split_once(':').unwrap();
        let (kind, default) = rest.split_once('=').unwrap();
        ParamSpec {
            name: name.trim_end_matches('*').to_owned(),
            kind: match cell(kind) {
                ColType::Scalar(scalar) => ParamType::Scalar(scalar),
                ColType::Object(properties) => ParamType::Object(properties),
                other => panic!("{other:?} is no param"),
            },
            default: serde_json::from_str(default).unwrap(),
            is_list: name.ends_with('*'),
        }
    };
    text.split_whitespace().map(param).collect()
}

/// A graph of `name:dtype[sizes]` inputs and outputs; a size may be a symbol, `?` leaves the rank open, and the dtypes
/// `labels` and `indices` are ZipMap's rows.
fn graph(text: &str) -> Signature {
    let (inputs, outputs) = text.split_once("->").unwrap();
    let values = |text: &'_ str| {
        let value = |entry: &str| {
            let (name, rest) = entry.split_once(':').unwrap();
            let (dtype, sizes) = rest.trim_end_matches(']').split_once('[').unwrap();
            let size = |size: &str| match size.parse() {
                Ok(fixed) => Dim::Fixed(fixed),
                Err(_) => Dim::Any((size != "-1").then(|| size.to_owned())),
            };
            let shape = (sizes != "?").then(|| sizes.split(',').map(size).collect());
            let kind = match dtype {
                "labels" | "indices" => OutputKind::Maps {
                    text_labels: dtype == "labels",
                },
                dtype => OutputKind::Tensor {
                    dtype: DType::from_numpy(dtype).unwrap(),
                    shape,
                },
            };
            (name.to_owned(), kind)
        };
        text.split_whitespace().map(value).collect::<Vec<_>>()
    };
    let inputs = values(inputs).into_iter().map(|(name, kind)| match kind {
        OutputKind::Tensor { dtype, shape } => InputSpec {
            name,
            dtype,
            shape,
            default: None,
        },
        OutputKind::Maps { .. } | OutputKind::Sequence { .. } => panic!("this is no input"),
    });
    let outputs = values(outputs).into_iter();
    Signature {
        inputs: inputs.collect(),
        outputs: outputs
            .map(|(name, kind)| OutputSpec { name, kind })
            .collect(),
        ..Signature::default()
    }
}

/// A version by its declaration: `columns …`, `tensors …`, `outputs columns|tensors …`, `params …` or `graph …`.
fn sample(text: &str) -> Sample {
    let mut sample = Sample {
        signature: None,
        graph: graph("x:float32[-1,4] -> y:float32[-1]"),
    };
    for part in text.split(';') {
        let (word, rest) = part.trim().split_once(' ').unwrap_or((part.trim(), ""));
        if word == "graph" {
            sample.graph = graph(rest);
            continue;
        }
        let signature = sample.signature.get_or_insert_default();
        match word {
            "columns" => signature.inputs = Some(columns(rest)),
            "tensors" => signature.inputs = Some(tensors(rest)),
            "gives" => {
                signature.outputs = Some(if rest.contains('[') {
                    tensors(rest)
                } else {
                    columns(rest)
                });
            }
            "params" => signature.params = Some(params(rest)),
            other => panic!("`{other}` is no part of a sample"),
        }
    }
    sample
}

fn compared(old: &Sample, new: &Sample) -> Comparison {
    compare_contracts(
        Contract {
            signature: old.signature.as_ref(),
            graph: &old.graph,
        },
        Contract {
            signature: new.signature.as_ref(),
            graph: &new.graph,
        },
    )
}

/// Each pair and what is said about it: `ok` when nothing differs, `+` before what is compatible, `!` before what breaks.
#[rstest]
#[case::same("columns a:double b?:long", "columns a:double b?:long", "ok")]
// Columns of a request.
#[case::required_column_added(
    "columns a:double",
    "columns a:double b:long",
    "!input `b` is new (required long): clients do not send it"
)]
#[case::optional_column_added(
    "columns a:double",
    "columns a:double b?:long",
    "+input `b` is new (optional long)"
)]
#[case::column_removed(
    "columns a:double b:long",
    "columns a:double",
    "!input `b` is gone (required long): clients send it"
)]
#[case::optional_column_removed(
    "columns a:double b?:long",
    "columns a:double",
    "!input `b` is gone (optional long): clients send it"
)]
#[case::column_renamed(
    "columns a:double",
    "columns A:double",
    "!input `A` is new (required double): clients do not send it; !input `a` is gone (required double): clients send it"
)]
#[case::integer_to_long(
    "columns a:integer",
    "columns a:long",
    "+input `a` is long, was integer"
)]
#[case::long_to_integer(
    "columns a:long",
    "columns a:integer",
    "!input `a` is integer, was long: clients send what it was"
)]
#[case::float_to_double(
    "columns a:float",
    "columns a:double",
    "+input `a` is double, was float"
)]
#[case::double_to_float(
    "columns a:double",
    "columns a:float",
    "!input `a` is float, was double: clients send what it was"
)]
#[case::integer_to_double(
    "columns a:integer",
    "columns a:double",
    "+input `a` is double, was integer"
)]
#[case::long_to_double(
    "columns a:long",
    "columns a:double",
    "!input `a` is double, was long: clients send what it was"
)]
#[case::integer_to_float(
    "columns a:integer",
    "columns a:float",
    "!input `a` is float, was integer: clients send what it was"
)]
#[case::text_to_number(
    "columns a:string",
    "columns a:double",
    "!input `a` is double, was string: clients send what it was"
)]
#[case::anything_is_wider(
    "columns a:datetime",
    "columns a:any",
    "+input `a` is any, was datetime"
)]
#[case::anything_no_more(
    "columns a:any",
    "columns a:string",
    "!input `a` is string, was any: clients send what it was"
)]
#[case::required_to_optional(
    "columns a:double",
    "columns a?:double",
    "+input `a` is optional, was required"
)]
#[case::optional_to_required(
    "columns a?:double",
    "columns a:double",
    "!input `a` is required, was optional: clients may leave it out"
)]
#[case::narrowed_and_required(
    "columns a?:double",
    "columns a:long",
    "!input `a` is long, was double: clients send what it was; \
     !input `a` is required, was optional: clients may leave it out"
)]
#[case::named_columns_reordered(
    "columns a:double b:long",
    "columns b:long a:double",
    "+inputs come in another order: `b` in the place of `a`"
)]
#[case::column_inserted(
    "columns a:double c:double",
    "columns a:double b?:long c:double",
    "+input `b` is new (optional long)"
)]
// Columns without names are known by their place.
#[case::unnamed_reordered(
    "columns :double :string",
    "columns :string :double",
    "!input 1 is string, was double: clients send what it was; \
     !input 2 is double, was string: clients send what it was"
)]
#[case::unnamed_added(
    "columns :double",
    "columns :double :double",
    "!input 2 is new (required double): clients do not send it"
)]
#[case::unnamed_removed(
    "columns :double :long",
    "columns :double",
    "!input 2 is gone (required long): clients send it"
)]
#[case::names_lost(
    "columns a:double",
    "columns :double",
    "!inputs are columns without names, were columns with names: clients send what it was"
)]
#[case::names_gained(
    "columns :double",
    "columns a:double",
    "!inputs are columns with names, were columns without names: clients send what it was"
)]
#[case::columns_to_tensor(
    "columns a:double",
    "tensors x:float64[-1,1]",
    "!inputs are tensors with names, were columns with names: clients send what it was"
)]
// Types with something inside.
#[case::array_widened(
    "columns a:[integer]",
    "columns a:[long]",
    "+input `a` is array of long, was array of integer"
)]
#[case::array_narrowed(
    "columns a:[[double]]",
    "columns a:[[float]]",
    "!input `a` is array of array of float, was array of array of double: clients send what it was"
)]
#[case::array_to_scalar(
    "columns a:[long]",
    "columns a:long",
    "!input `a` is long, was array of long: clients send what it was"
)]
#[case::map_widened(
    "columns a:<float>",
    "columns a:<double>",
    "+input `a` is map of double, was map of float"
)]
#[case::optional_property_added(
    "columns a:{k:long}",
    "columns a:{k:long,j?:string}",
    "+input `a` is {k: long, j?: string}, was {k: long}"
)]
#[case::required_property_added(
    "columns a:{k:long}",
    "columns a:{k:long,j:string}",
    "!input `a` is {k: long, j: string}, was {k: long}: clients send what it was"
)]
#[case::property_removed(
    "columns a:{k:long,j?:string}",
    "columns a:{k:long}",
    "!input `a` is {k: long}, was {k: long, j?: string}: clients send what it was"
)]
#[case::property_required(
    "columns a:[{k?:long}]",
    "columns a:[{k:long}]",
    "!input `a` is array of {k: long}, was array of {k?: long}: clients send what it was"
)]
#[case::inner_any(
    "columns a:[{k:long}]",
    "columns a:[any]",
    "+input `a` is array of any, was array of {k: long}"
)]
// Tensors of a request.
#[case::same_tensor("tensors x:float32[-1,4]", "tensors x:float32[-1,4]", "ok")]
#[case::fixed_size_changed(
    "tensors x:float32[-1,4]",
    "tensors x:float32[-1,5]",
    "!input `x` has shape [-1, 5], had shape [-1, 4]: clients send what it was"
)]
#[case::fixed_to_any_size(
    "tensors x:float32[-1,28,28]",
    "tensors x:float32[-1,-1,-1]",
    "+input `x` has shape [-1, -1, -1], had shape [-1, 28, 28]"
)]
#[case::any_to_fixed_size(
    "tensors x:float32[-1,4]",
    "tensors x:float32[1,4]",
    "!input `x` has shape [1, 4], had shape [-1, 4]: clients send what it was"
)]
#[case::rank_changed(
    "tensors x:float32[-1,4]",
    "tensors x:float32[-1,4,1]",
    "!input `x` has shape [-1, 4, 1], had shape [-1, 4]: clients send what it was"
)]
#[case::tensor_retyped(
    "tensors x:float32[-1]",
    "tensors x:float64[-1]",
    "!input `x` is float64, was float32: clients send what it was"
)]
#[case::text_to_object(
    "tensors x:str[-1]",
    "tensors x:object[-1]",
    "+input `x` is object, was str"
)]
#[case::object_to_text(
    "tensors x:object[-1]",
    "tensors x:str[-1]",
    "!input `x` is str, was object: clients send what it was"
)]
#[case::unnamed_tensor_resized(
    "tensors :float32[-1,4]",
    "tensors :float32[-1,3]",
    "!input 1 has shape [-1, 3], had shape [-1, 4]: clients send what it was"
)]
#[case::tensors_reordered(
    "tensors x:float32[-1] y:int64[-1]",
    "tensors y:int64[-1] x:float32[-1]",
    "+inputs come in another order: `y` in the place of `x`"
)]
// Answers: the other way round.
#[case::output_added(
    "gives p:double",
    "gives p:double q:long",
    "+output `q` is new (required long)"
)]
#[case::output_removed(
    "gives p:double q:long",
    "gives p:double",
    "!output `q` is gone (required long): clients read it"
)]
#[case::output_wider(
    "gives p:float",
    "gives p:double",
    "!output `p` is double, was float: clients read what it was"
)]
#[case::output_narrower(
    "gives p:double",
    "gives p:float",
    "!output `p` is float, was double: clients read what it was"
)]
#[case::output_less_than_anything("gives p:any", "gives p:long", "+output `p` is long, was any")]
#[case::output_anything(
    "gives p:long",
    "gives p:any",
    "!output `p` is any, was long: clients read what it was"
)]
#[case::output_maybe_missing(
    "gives p:long",
    "gives p?:long",
    "!output `p` is optional, was required: clients expect it in every answer"
)]
#[case::output_always_there(
    "gives p?:long",
    "gives p:long",
    "+output `p` is required, was optional"
)]
#[case::output_property_added(
    "gives p:{k:long}",
    "gives p:{k:long,j:long}",
    "+output `p` is {k: long, j: long}, was {k: long}"
)]
#[case::output_property_maybe(
    "gives p:{k:long}",
    "gives p:{k?:long}",
    "!output `p` is {k?: long}, was {k: long}: clients read what it was"
)]
#[case::more_classes(
    "gives p:float32[-1,3]",
    "gives p:float32[-1,4]",
    "!output `p` has shape [-1, 4], had shape [-1, 3]: clients read what it was"
)]
#[case::any_number_of_classes(
    "gives p:float32[-1,3]",
    "gives p:float32[-1,-1]",
    "!output `p` has shape [-1, -1], had shape [-1, 3]: clients read what it was"
)]
#[case::known_number_of_classes(
    "gives p:float32[-1,-1]",
    "gives p:float32[-1,3]",
    "+output `p` has shape [-1, 3], had shape [-1, -1]"
)]
#[case::rows_follow_the_request(
    "tensors x:float32[1,4]; gives p:float32[1,3]",
    "tensors x:float32[-1,4]; gives p:float32[-1,3]",
    "+input `x` has shape [-1, 4], had shape [1, 4]; +output `p` has shape [-1, 3], had shape [1, 3]"
)]
#[case::rows_do_not_follow(
    "tensors x:float32[1,4]; gives p:float32[1,3]",
    "tensors x:float32[1,4]; gives p:float32[-1,3]",
    "!output `p` has shape [-1, 3], had shape [1, 3]: clients read what it was"
)]
// Params.
#[case::param_added(
    "columns a:long",
    "columns a:long; params t:double=0.5",
    "+param `t` is new (double, default 0.5)"
)]
#[case::param_removed(
    "columns a:long; params t:double=0.5",
    "columns a:long",
    "!param `t` is gone (double, default 0.5): clients send it"
)]
#[case::param_wider(
    "params t:long=1",
    "params t:double=1",
    "+param `t` is double, was long"
)]
#[case::param_narrower(
    "params t:double=1",
    "params t:long=1",
    "!param `t` is long, was double: clients send what it was"
)]
#[case::param_default(
    "params t:double=0.5",
    "params t:double=0.7",
    "+param `t` has the default 0.7, had 0.5"
)]
#[case::param_list(
    "params t:double=1",
    "params t*:double=[1]",
    "!param `t` is list of double, was double: clients send what it was; \
     +param `t` has the default [1], had 1"
)]
#[case::param_object(
    "params t:{k:long}={}",
    "params t:{k:long,j?:long}={}",
    "+param `t` is {k: long, j?: long}, was {k: long}"
)]
// Without signatures the graphs are the contract.
#[case::batch_dimension_renamed(
    "graph x:float32[N,4] -> y:int64[N]",
    "graph x:float32[batch,4] -> y:int64[batch]",
    "ok"
)]
#[case::graph_input_renamed(
    "graph x:float32[-1,4] -> y:int64[-1]",
    "graph z:float32[-1,4] -> y:int64[-1]",
    "!input `z` is new (FP32, shape [-1, 4]): clients do not send it; \
     !input `x` is gone (FP32, shape [-1, 4]): clients send it"
)]
#[case::graph_rank_opened(
    "graph x:float32[-1,4] -> y:int64[?]",
    "graph x:float32[?] -> y:int64[-1]",
    "+input `x` has an open shape, had shape [-1, 4]; +output `y` has shape [-1], had an open shape"
)]
#[case::graph_rank_closed(
    "graph x:float32[?] -> y:int64[-1]",
    "graph x:float32[-1,4] -> y:int64[?]",
    "!input `x` has shape [-1, 4], had an open shape: clients send what it was; \
     !output `y` has an open shape, had shape [-1]: clients read what it was"
)]
#[case::graph_retyped(
    "graph x:float32[-1] -> y:int64[-1]",
    "graph x:float64[-1] -> y:int32[-1]",
    "!input `x` is FP64, was FP32: clients send what it was; \
     !output `y` is INT32, was INT64: clients read what it was"
)]
#[case::labels_become_numbers(
    "graph x:float32[-1] -> y:labels[?]",
    "graph x:float32[-1] -> y:indices[?]",
    "!output `y` is maps from INT64 to FP32, was maps from text to FP32: clients read what it was"
)]
#[case::maps_become_a_tensor(
    "graph x:float32[-1] -> y:indices[?]",
    "graph x:float32[-1] -> y:float32[-1,3]",
    "!output `y` is FP32, was maps from INT64 to FP32: clients read what it was"
)]
#[case::signature_gained(
    "graph x:float32[-1] -> y:int64[-1]",
    "graph x:float32[-1] -> y:int64[-1]; columns a:float",
    "+inputs are declared in the signature, were by the graph only: the graphs were compared instead"
)]
#[case::signature_lost(
    "graph x:float32[-1,2] -> y:int64[-1]; columns a:float b:float",
    "graph x:float32[-1,3] -> y:int64[-1]",
    "+inputs are declared by the graph only, were in the signature: the graphs were compared instead; \
     !input `x` has shape [-1, 3], had shape [-1, 2]: clients send what it was"
)]
#[case::signatures_go_before_graphs(
    "graph x:float32[-1] -> y:int64[-1]; columns a:float; gives p:long",
    "graph z:float32[-1] -> w:int64[-1]; columns a:float; gives p:long",
    "ok"
)]
fn each_change_is_judged_from_the_clients_side(
    #[case] old: &str,
    #[case] new: &str,
    #[case] expected: &str,
) {
    let comparison = compared(&sample(old), &sample(new));
    let line = |change: &Change| match change.verdict {
        Verdict::Compatible => format!("+{change}"),
        Verdict::Incompatible => format!("!{change}"),
    };
    let lines: Vec<String> = comparison.changes.iter().map(line).collect();
    let found = if lines.is_empty() {
        "ok".to_owned()
    } else {
        lines.join("; ")
    };
    assert_eq!(found, expected);
    assert_eq!(comparison.is_compatible(), !expected.contains('!'));
}

#[test]
fn policies_differ_in_what_they_allow() {
    let old = sample("columns a:float b:double");
    let judge = |policy: SignaturePolicy, new: &str| policy.judge(&compared(&old, &sample(new)));
    let (same, wider, other) = (
        "columns a:float b:double",
        "columns a:double b:double",
        "columns a:double c:double",
    );
    for policy in [
        SignaturePolicy::Compatible,
        SignaturePolicy::Exact,
        SignaturePolicy::Any,
    ] {
        assert_eq!(judge(policy, same), Ok(()));
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
    assert_eq!(judge(SignaturePolicy::Compatible, wider), Ok(()));
    assert_eq!(judge(SignaturePolicy::Any, other), Ok(()));
    insta::assert_snapshot!(judge(SignaturePolicy::Exact, wider).unwrap_err());
    insta::assert_snapshot!(judge(SignaturePolicy::Compatible, other).unwrap_err());
    insta::assert_snapshot!("Exact".parse::<SignaturePolicy>().unwrap_err());
}

fn cells() -> impl Strategy<Value = ColType> {
    let names = [
        "boolean", "integer", "long", "float", "double", "string", "binary", "datetime", "any",
    ];
    let leaf = prop::sample::select(names.to_vec()).prop_map(cell);
    leaf.prop_recursive(3, 12, 3, |inner| {
        let property = ("[a-c]", any::<bool>(), inner.clone());
        let property = property.prop_map(|(name, required, kind)| Property {
            name,
            required,
            kind,
        });
        prop_oneof![
            inner
                .clone()
                .prop_map(|kind| ColType::Array(Box::new(kind))),
            inner.prop_map(|kind| ColType::Map(Box::new(kind))),
            prop::collection::vec(property, 0..3).prop_map(ColType::Object),
        ]
    })
}

fn schemas() -> impl Strategy<Value = Schema> {
    let name = || prop::option::of("[a-d]");
    let column = (name(), any::<bool>(), cells()).prop_map(|(name, required, kind)| ColSpec {
        name,
        required,
        kind,
    });
    let dtype = prop_oneof![
        Just(TensorType::Object),
        Just(TensorType::Plain(DType::F32)),
        Just(TensorType::Plain(DType::String)),
    ];
    let tensor = (name(), dtype, prop::collection::vec(-2i64..4, 0..3));
    let tensor = tensor.prop_map(|(name, dtype, shape)| TensorSpec { name, dtype, shape });
    prop_oneof![
        prop::collection::vec(column, 0..5).prop_map(Schema::Columns),
        prop::collection::vec(tensor, 0..5).prop_map(Schema::Tensors),
    ]
}

fn samples() -> impl Strategy<Value = Sample> {
    let param = ("[a-c]", any::<bool>()).prop_map(|(name, is_list)| ParamSpec {
        name,
        kind: ParamType::Scalar(DataType::Long),
        default: json!(1),
        is_list,
    });
    let params = prop::option::of(prop::collection::vec(param, 0..3));
    let signature = (
        prop::option::of(schemas()),
        prop::option::of(schemas()),
        params,
    );
    let signature = signature.prop_map(|(inputs, outputs, params)| ModelSignature {
        inputs,
        outputs,
        params,
    });
    let graphs = [
        "x:float32[-1,4] -> y:int64[-1] p:labels[?]",
        "x:float32[1,4] z:str[?] -> y:int64[1]",
    ];
    let graph = prop::sample::select(graphs.to_vec()).prop_map(graph);
    (prop::option::of(signature), graph).prop_map(|(signature, graph)| Sample { signature, graph })
}

proptest! {
    #[test]
    fn a_version_can_take_its_own_place(sample in samples()) {
        prop_assert_eq!(compared(&sample, &sample), Comparison::default());
    }

    #[test]
    fn every_change_is_seen_in_both_directions(old in samples(), new in samples()) {
        let (forth, back) = (compared(&old, &new), compared(&new, &old));
        prop_assert_eq!(forth.changes.is_empty(), back.changes.is_empty());
        prop_assert_eq!(SignaturePolicy::Any.judge(&forth), Ok(()));
        prop_assert_eq!(SignaturePolicy::Compatible.judge(&forth).is_ok(), forth.is_compatible());
    }
}
