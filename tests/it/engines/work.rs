//! How much a run takes is known before it starts: of which graphs, and that what serves everywhere is not confined.

use std::path::{Path, PathBuf};

use onstage::model::{Extent, Graph, Needs};
use serde_json::json;

use crate::support::onnx;
use crate::support::onnx::Parts;
use crate::support::server::{Server, project};

const MIB: u64 = 1 << 20;

fn graphs_below(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(graphs_below(&path));
        } else if path.extension().is_some_and(|end| end == "onnx") {
            found.push(path);
        }
    }
    found
}

/// The models of the census and of the examples are what people convert and serve.
#[test]
fn no_classic_model_is_confined_or_kept_from_the_threads_of_connections() {
    let mut count = 0;
    for folder in ["tests/models/census", "model-examples"] {
        for path in graphs_below(&project().join(folder)) {
            // Some have outputs that no protocol has.
            let Ok(graph) = Graph::read(&path) else {
                continue;
            };
            count += 1;
            assert_eq!(graph.work.unbounded(), None, "{}", path.display());
            assert_eq!(graph.work.open(), None, "{}", path.display());
        }
    }
    assert!(count > 180, "{count}");
}

fn read(model: &[u8]) -> Graph {
    let length = model.len() as u64;
    Graph::decode(std::io::Cursor::new(model), length).unwrap()
}

fn needs(graph: &Graph, shapes: &[&[usize]]) -> Needs {
    let extent = |shape: &&[usize]| Extent {
        shape: shape.to_vec(),
        longest: 0,
    };
    let extents: Vec<Extent> = shapes.iter().map(extent).collect();
    graph.work.needs(&extents)
}

/// Graphs that make as much of a few bytes as these say.
fn attacks() -> Vec<(&'static str, Parts)> {
    let number = || {
        Parts::default()
            .value(true, "x", 7, &[1])
            .integers("one", &[1])
            .integers("none", &[])
    };
    let count = || {
        number()
            .integers("zero", &[0])
            .node("Squeeze", &["x", "zero"], "n")
    };
    let scalars = || {
        count()
            .node("Sub", &["n", "n"], "nothing")
            .node("Div", &["n", "n"], "step")
    };
    vec![
        (
            "Range",
            scalars().node("Range", &["nothing", "n", "step"], "y"),
        ),
        (
            "ConstantOfShape",
            number().node("ConstantOfShape", &["x"], "y"),
        ),
        ("Expand", number().node("Expand", &["one", "x"], "y")),
        ("Tile", number().node("Tile", &["one", "x"], "y")),
        (
            "Pad",
            number()
                .node_with("Concat", &["x", "x"], "pads", &[("axis", 0)])
                .node("Pad", &["one", "pads"], "y"),
        ),
        (
            "OneHot",
            number()
                .integers("values", &[0, 1])
                .node("OneHot", &["one", "x", "values"], "y"),
        ),
        (
            "Reshape",
            number()
                .node("ConstantOfShape", &["one"], "flat")
                .node("Reshape", &["flat", "x"], "y"),
        ),
        (
            "Loop",
            onnx::loops(number().node("Squeeze", &["x"], "n"), "n", "x"),
        ),
        // How far below 0 the smaller one is nobody knows.
        (
            "ConstantOfShape",
            number()
                .integers("ten", &[10])
                .node("Min", &["x", "ten"], "few")
                .node("Abs", &["few"], "many")
                .node("ConstantOfShape", &["many"], "y"),
        ),
    ]
}

/// Lists of shapes that double with each node.
#[test]
fn lists_that_double_are_followed_to_their_size_and_not_to_their_end() {
    let mut doubled = Parts::default()
        .value(true, "x", 1, &[0, 2])
        .node("Shape", &["x"], "s0");
    for depth in 0..40 {
        let (from, to) = (format!("s{depth}"), format!("s{}", depth + 1));
        doubled = doubled.node_with("Concat", &[&from, &from], &to, &[("axis", 0)]);
    }
    let graph = read(&doubled.value(false, "s40", 7, &[0]).model());
    let extent = Extent {
        shape: vec![1, 2],
        longest: 0,
    };
    assert!(graph.work.needs(&[extent]).bytes > 1 << 40);
}

#[test]
fn what_values_may_make_as_large_as_they_like_is_not_bounded() {
    for (operator, parts) in attacks() {
        let graph = read(&parts.value(false, "y", 7, &[1]).model());
        let reason = graph
            .work
            .unbounded()
            .unwrap_or_else(|| panic!("{operator} is bounded"));
        assert!(reason.contains(&format!("`{operator}`")), "{reason}");
        assert_eq!(graph.work.open(), Some(reason));
    }
}

#[test]
fn what_shapes_bound_is_bounded() {
    let x = || {
        Parts::default()
            .value(true, "x", 1, &[0, 2])
            .node("Shape", &["x"], "shape")
    };
    let first = || {
        x().integers("zero", &[0])
            .node("Gather", &["shape", "zero"], "rows")
    };
    let graphs = [
        x().node("ConstantOfShape", &["shape"], "y"),
        x().filled("one", &[1], 1.0)
            .node("Expand", &["one", "shape"], "y"),
        first()
            .node("Squeeze", &["rows"], "n")
            .node("Sub", &["n", "n"], "o")
            .integers("two", &[2])
            .node("Squeeze", &["two"], "step")
            .node("Range", &["o", "n", "step"], "y"),
        first()
            .integers("minus", &[u64::MAX])
            .node_with("Concat", &["rows", "minus"], "to", &[("axis", 0)])
            .node("Reshape", &["x", "to"], "y"),
        x().node_with("Cast", &["shape"], "float", &[("to", 1)])
            .filled("half", &[1], 0.5)
            .node("Mul", &["float", "half"], "smaller")
            .node("Floor", &["smaller"], "whole")
            .node_with("Cast", &["whole"], "to", &[("to", 7)])
            .node("ConstantOfShape", &["to"], "y"),
        // As many as there are that are not zero, and no more.
        x().node("NonZero", &["x"], "places")
            .node("Shape", &["places"], "how")
            .node("ConstantOfShape", &["how"], "y"),
        // A value, but no more than a constant.
        x().integers("ten", &[10])
            .integers("axes", &[0, 1])
            .node_with("ReduceMax", &["x", "axes"], "most", &[("keepdims", 0)])
            .node_with("Cast", &["x"], "all", &[("to", 7)])
            .integers("at", &[0, 0])
            .node("GatherND", &["all", "at"], "value")
            .integers("none", &[0])
            .node("Clip", &["value", "none", "ten"], "few")
            .node("ConstantOfShape", &["few"], "y"),
    ];
    for (index, parts) in graphs.into_iter().enumerate() {
        let graph = read(&parts.value(false, "y", 1, &[0]).model());
        assert_eq!(graph.work.unbounded(), None, "{index}");
    }
}

#[test]
fn a_column_and_a_row_make_a_matrix() {
    let graph = Parts::default()
        .value(true, "column", 1, &[0, 1])
        .value(true, "row", 1, &[1, 0])
        .node("Add", &["column", "row"], "y")
        .value(false, "y", 1, &[0, 0]);
    let graph = read(&graph.model());
    assert_eq!(graph.work.unbounded(), None);
    let matrix = 100_000 * 100_000;
    let large = needs(&graph, &[&[100_000, 1], &[1, 100_000]]);
    assert!(
        large.bytes >= 4 * matrix && large.bytes < 5 * matrix,
        "{large:?}"
    );
    assert!(large.work >= matrix);
    let small = needs(&graph, &[&[1, 1], &[1, 1]]);
    assert!(small.bytes < 100, "{small:?}");
}

/// What is not needed any more is not counted, and what is written over is counted once.
#[test]
fn a_chain_holds_two_tensors_at_a_time() {
    let mut parts = Parts::default()
        .filled("weights", &[2, 2], 1.0)
        .value(true, "x", 1, &[0, 2]);
    for step in 0..50 {
        let from = if step == 0 {
            "x".to_owned()
        } else {
            format!("h{step}")
        };
        let to = format!("h{}", step + 1);
        parts = parts.node("MatMul", &[&from, "weights"], &to);
    }
    let graph = read(
        &parts
            .node("Relu", &["h50"], "y")
            .value(false, "y", 1, &[0, 2])
            .model(),
    );
    let rows = 1 << 20;
    let needs = needs(&graph, &[&[rows, 2]]);
    let one = rows as u64 * 8;
    // The request's own, and two of them.
    assert!(
        needs.bytes >= 2 * one && needs.bytes <= 3 * one,
        "{} MiB",
        needs.bytes / MIB
    );
    assert_eq!(needs.work, 50 * rows as u64 * 4 + rows as u64 * 2);
}

#[test]
fn batches_of_images_take_what_their_layers_take() {
    let graph = Parts::default()
        .filled("kernel", &[32, 3, 3, 3], 1.0)
        .node("Conv", &["x", "kernel"], "maps")
        .node("GlobalAveragePool", &["maps"], "y")
        .value(true, "x", 1, &[0, 3, 224, 224])
        .value(false, "y", 1, &[0, 32, 1, 1]);
    let graph = read(&graph.model());
    let one = needs(&graph, &[&[1, 3, 224, 224]]);
    let many = needs(&graph, &[&[400, 3, 224, 224]]);
    let maps = 32 * 222 * 222 * 4;
    assert!(one.bytes >= maps && one.bytes < 3 * maps, "{one:?}");
    assert!(
        many.bytes >= 400 * maps && many.bytes < 450 * maps,
        "{many:?}"
    );
    assert_eq!(many.work / 400, one.work);
}

#[test]
fn a_constant_of_a_subgraph_hides_one_of_the_same_name_around_it() {
    let branch = |size: u64| {
        Parts::default()
            .integers("c", &[size])
            .node("ConstantOfShape", &["c"], "z")
            .value(false, "z", 1, &[0])
    };
    let bodies = [
        ("then_branch", branch(400_000_000)),
        ("else_branch", branch(1)),
    ];
    let graph = Parts::default()
        .integers("c", &[2])
        .node_around("If", &["on"], "y", bodies)
        .value(true, "on", 9, &[])
        .value(false, "y", 1, &[0]);
    let needs = needs(&read(&graph.model()), &[&[]]);
    assert!(needs.bytes >= 1_600_000_000, "{needs:?}");
}

/// Rows are run in parts where they do not fit; what they give is still held together.
#[tokio::test]
async fn outputs_that_no_memory_holds_are_refused_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let graph = Parts::default()
        .node("Mul", &["x", "b"], "y")
        .value(true, "x", 1, &[0, 1])
        .value(true, "b", 1, &[8000])
        .value(false, "y", 1, &[0, 8000]);
    let path = directory.path().join("outer.onnx");
    onnx::save(&graph.model(), &path);
    let path = path.to_str().unwrap();
    let server =
        Server::start(&[path, "--engine", "onnxruntime", "--request-memory", "64MiB"]).await;
    let ask = async |rows: usize| {
        let of = |name: &str, shape: &[usize]| {
            let count: usize = shape.iter().product();
            json!({ "name": name, "datatype": "FP32", "shape": shape, "data": vec![1.0; count] })
        };
        let inputs = json!({ "inputs": [of("x", &[rows, 1]), of("b", &[8000])] });
        server
            .post_json("/v2/models/outer/infer", inputs.to_string())
            .await
    };
    let (status, answer) = ask(8000).await;
    assert_eq!(status, 413, "{answer}");
    let message = answer["error"].as_str().unwrap();
    assert!(message.contains("`limits.memory`"), "{message}");
    assert_eq!(ask(2).await.0, 200);
}
