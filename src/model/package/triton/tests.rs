use std::fs;

use tempfile::TempDir;

use super::*;
use crate::model::{Dim, OutputKind, Package, discover, survey};
use crate::tensor::Tensor;

/// A tree `m` of these versions of a classifier, with a configuration.
fn tree(versions: &[&str], config: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("m");
    fs::create_dir_all(&tree).unwrap();
    let graph = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/model-examples/iris/model.onnx"
    );
    for version in versions {
        fs::create_dir_all(tree.join(version)).unwrap();
        fs::copy(graph, tree.join(version).join("model.onnx")).unwrap();
    }
    fs::write(tree.join(CONFIG), config).unwrap();
    (directory, tree)
}

fn notice(config: &str) -> Option<String> {
    let (_directory, tree) = tree(&["1"], config);
    Package::open(&tree.join("1")).unwrap().notice
}

/// What a notice says of the fields.
fn unread(config: &str) -> String {
    let notice = notice(config).unwrap();
    let (_, fields) = notice.split_once("does not read: ").expect(&notice);
    fields.to_owned()
}

fn served(versions: &[&str], config: &str) -> Vec<String> {
    let (_directory, tree) = tree(versions, config);
    let names = |paths: Vec<PathBuf>| {
        let names = paths.iter().map(|path| path.file_name().unwrap());
        let names = names.map(|name| name.to_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let found = names(survey(&tree).unwrap().packages);
    assert_eq!(names(discover(&tree).unwrap()), found, "{config}");
    let above = tree.parent().unwrap();
    assert_eq!(names(survey(above).unwrap().packages), found, "{config}");
    found
}

#[test]
fn the_policy_chooses_versions() {
    let versions = ["1", "2", "3", "10"];
    let served = |config: &str| served(&versions, config);
    let all = versions.map(str::to_owned).to_vec();
    assert_eq!(served("version_policy { all {} }"), all);
    assert_eq!(served("name: 'm'"), all, "without a policy");
    assert_eq!(
        served("version_policy { specific {} }"),
        all,
        "it says nothing"
    );
    assert_eq!(served("version_policy {"), all, "a broken file");
    assert_eq!(served("version_policy: { latest: {} }"), ["10"]);
    assert_eq!(
        served("version_policy { latest { num_versions: 2 } }"),
        ["3", "10"]
    );
    assert_eq!(served("version_policy { latest { num_versions: 9 } }"), all);
    assert_eq!(
        served("version_policy { specific { versions: [10, 2] } }"),
        ["2", "10"]
    );
    assert_eq!(
        served("version_policy { specific { versions: 2 } all {} }"),
        all
    );
}

#[test]
fn a_version_that_is_wanted_and_not_there_is_shown() {
    let wanted = "version_policy { specific { versions: [1, 7] } }";
    assert_eq!(served(&["1", "2"], wanted), ["1", "7"]);
    let (_directory, tree) = tree(&["1", "2"], wanted);
    let missing = &survey(&tree).unwrap().packages[1];
    let error = Package::open(missing).unwrap_err().to_string();
    assert!(error.contains("does not exist"), "{error}");
}

#[test]
fn classes_are_called_as_the_lines_of_a_label_file() {
    let config = "output { name: 'probabilities' label_filename: 'names/iris.txt' }";
    let (_directory, tree) = tree(&["3"], config);
    fs::create_dir(tree.join("names")).unwrap();
    fs::write(
        tree.join("names/iris.txt"),
        "setosa\nversicolor\r\nvirginica\n",
    )
    .unwrap();
    let expected = ["setosa", "versicolor", "virginica"].map(str::to_owned);
    for path in [tree.join("3"), tree.join("3/model.onnx")] {
        let package = Package::open(&path).unwrap();
        assert_eq!(package.labels["probabilities"], expected, "{path:?}");
        assert_eq!(package.notice, None);
    }
    // Beside the graph, where there are no versions.
    fs::rename(tree.join("3/model.onnx"), tree.join("model.onnx")).unwrap();
    fs::remove_dir(tree.join("3")).unwrap();
    let package = Package::open(&tree).unwrap();
    assert_eq!(package.labels["probabilities"], expected);
}

#[test]
fn a_label_file_that_cannot_be_used_is_told() {
    let of = |file: &str| {
        unread(&format!(
            "output {{ name: 'label' label_filename: '{file}' }}"
        ))
    };
    assert_eq!(
        of("none.txt"),
        "`output.label_filename` (`none.txt` is missing)"
    );
    assert_eq!(
        of("1"),
        "`output.label_filename` (`1` is not a regular file)"
    );
    assert_eq!(of("../x"), "`output.label_filename` (`../x` contains `..`)");
    assert_eq!(
        of("/etc/hosts"),
        "`output.label_filename` (`/etc/hosts` is an absolute path)"
    );
    assert_eq!(
        of("1/model.onnx"),
        "`output.label_filename` (`1/model.onnx`: it is not UTF-8)"
    );
}

#[test]
fn wishes_that_mean_the_same_here_are_heeded() {
    let config = "max_batch_size: 8\n\
        dynamic_batching { max_queue_delay_microseconds: 2500 default_queue_policy { max_queue_size: 64 } }";
    let (_directory, tree) = tree(&["1"], config);
    let package = Package::open(&tree.join("1")).unwrap();
    let expected = Hints {
        max_batch_size: Some(8),
        max_queue_delay: Some(Duration::from_micros(2500)),
        max_queue_size: Some(64),
        ..Hints::default()
    };
    assert_eq!(package.manifest.hints, expected);
    assert_eq!(package.notice, None);
    fs::write(tree.join(CONFIG), "max_batch_size: 0 dynamic_batching {}").unwrap();
    let package = Package::open(&tree.join("1")).unwrap();
    assert_eq!(package.manifest.hints, Hints::default());
}

#[test]
fn what_says_what_is_so_anyway_is_no_news() {
    let config = "name: 'm' platform: 'onnxruntime_onnx' backend: 'onnxruntime' max_batch_size: 4\n\
        default_model_filename: 'model.onnx'\n\
        input [ { name: 'features' data_type: TYPE_FP32 format: FORMAT_NONE dims: [ 4 ] } ]\n\
        output [ { name: 'label' data_type: TYPE_INT64 dims: [ 1 ] }, { name: 'probabilities' dims: [ 3 ] } ]\n\
        version_policy { latest { num_versions: 1 } }\n\
        model_transaction_policy { decoupled: false }";
    assert_eq!(notice(config), None);
}

#[test]
fn all_else_is_named_in_one_sentence_with_what_to_use_instead() {
    let config = "instance_group [ { count: 2 kind: KIND_GPU }, { count: 1 } ]\n\
        optimization { cuda { graphs: true } }\n\
        input { name: 'features' dims: [ 2, 2 ] reshape { shape: [ 4 ] } }\n\
        dynamic_batching { preferred_batch_size: [ 4, 8 ] preserve_ordering: true }\n\
        model_transaction_policy { decoupled: true }\n\
        something_new: 1";
    assert_eq!(
        unread(config),
        "`instance_group` (`models.<name>.batching.instances` limits runs at a time, \
         `models.<name>.providers` chooses the device); \
         `optimization` (`models.<name>.providers`, and `onnx_session_options` of a package); \
         `dynamic_batching.preferred_batch_size` (it is measured); \
         `dynamic_batching.preserve_ordering`; \
         `model_transaction_policy.decoupled` (a request has one answer); \
         `something_new`; \
         `input.reshape` (`features`: the graph has another shape than [4])"
    );
}

#[test]
fn clients_see_the_shapes_of_dims_and_the_graph_those_of_reshape() {
    let config = "max_batch_size: 8\n\
        input { name: 'features' dims: [ 2, 1, 2 ] reshape { shape: [ 4 ] } }\n\
        output [ { name: 'probabilities' dims: [ 1, 3 ] reshape { shape: [ 3 ] } },\n\
            { name: 'label' dims: [ 1 ] reshape { shape: [ ] } } ]";
    let (_directory, tree) = tree(&["1"], config);
    let package = Package::open(&tree.join("1")).unwrap();
    assert_eq!(package.notice, None);
    let signature = package.signature();
    let sizes = |shape: &[Dim]| shape.iter().map(Dim::to_i64).collect::<Vec<_>>();
    let input = signature.inputs[0].shape.as_deref().unwrap();
    assert_eq!(sizes(input), [-1, 2, 1, 2]);
    let outputs = signature.outputs.iter().map(|output| match &output.kind {
        OutputKind::Tensor { shape, .. } => (output.name.as_str(), sizes(shape.as_ref().unwrap())),
        other => panic!("{other:?}"),
    });
    let outputs: BTreeMap<&str, Vec<i64>> = outputs.collect();
    assert_eq!(outputs["probabilities"], [-1, 1, 3]);
    assert_eq!(outputs["label"], [-1, 1]);
    let rows = Tensor::from_vec(vec![3, 2, 1, 2], vec![0.5_f32; 12]).unwrap();
    let batch = signature.bind(vec![("features".to_owned(), rows)]).unwrap();
    assert_eq!(batch.inputs()[0].shape(), [3, 4]);
    assert_eq!(batch.rows(), 3);
    let (_, sent) = signature.as_sent(&batch).next().unwrap();
    assert_eq!(sent.shape(), [3, 2, 1, 2]);
    let flat = Tensor::from_vec(vec![3, 4], vec![0.5_f32; 12]).unwrap();
    let error = signature.bind(vec![("features".to_owned(), flat)]);
    assert_eq!(
        error.unwrap_err().to_string(),
        "input `features` has shape [3, 4], expected [-1, 2, 1, 2] (-1 is any size; the first dimension is the batch)"
    );
}

#[test]
fn a_reshape_that_cannot_be_is_told_and_not_heeded() {
    for (dims, shape, reason) in [
        (
            "3",
            "4",
            "[3] and [4] do not hold the same number of elements, between dimensions of any size too",
        ),
        (
            "-1",
            "4",
            "[-1] and [4] do not hold the same number of elements, between dimensions of any size too",
        ),
        ("5", "5", "the graph has another shape than [5]"),
        ("4", "2, 2", "the graph has another shape than [2, 2]"),
        (
            "x",
            "4",
            "`x` is no dimension, expected a whole number, or -1 for any",
        ),
        (
            "-3",
            "4",
            "`-3` is no dimension, expected a whole number, or -1 for any",
        ),
        (
            "9223372036854775807, 4",
            "4",
            "[9223372036854775807, 4] and [4] do not hold the same number of elements, between dimensions of any size too",
        ),
    ] {
        let config = format!(
            "max_batch_size: 1 input {{ name: 'features' dims: [ {dims} ] reshape {{ shape: [ {shape} ] }} }}"
        );
        assert_eq!(
            unread(&config),
            format!("`input.reshape` (`features`: {reason})")
        );
        let (_directory, tree) = tree(&["1"], &config);
        let package = Package::open(&tree.join("1")).unwrap();
        assert_eq!(package.signature(), package.graph.signature);
    }
}

#[test]
fn what_the_graph_contradicts_is_told() {
    let config = "name: 'other' platform: 'tensorrt_plan' max_batch_size: 1 default_model_filename: 'model.plan'\n\
        input [ { name: 'features' data_type: TYPE_FP16 dims: 5 }, { name: 'x' } ]\n\
        output { name: 'label' dims: [ 1, 2 ] }";
    assert_eq!(
        unread(config),
        "`name` (it is `other`: the directory's name counts); \
         `platform` (it is `tensorrt_plan`: the `.onnx` file is served); \
         `default_model_filename` (it is `model.plan`: the only `.onnx` file, `model.onnx`, is served); \
         `input.data_type` (`features` is TYPE_FP32 in the graph); \
         `input.dims` (`features` has another shape in the graph); \
         `input.name` (the graph has no input `x`); \
         `output.dims` (`label` has another shape in the graph)"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_told_and_the_model_serves() {
    let described = notice("name: {").unwrap();
    assert!(
        described.contains("is not used, the model serves without it: line 1: "),
        "{described}"
    );
    let described = notice(&"#".repeat((1 << 20) + 1)).unwrap();
    assert!(described.contains("more than 1048576 bytes"), "{described}");
    let (_directory, tree) = tree(&["1"], "");
    fs::write(tree.join(CONFIG), b"name: '\xff'").unwrap();
    let described = Package::open(&tree.join("1")).unwrap().notice.unwrap();
    assert!(described.contains("it is not UTF-8"), "{described}");
    fs::remove_file(tree.join(CONFIG)).unwrap();
    fs::create_dir(tree.join(CONFIG)).unwrap();
    let described = Package::open(&tree.join("1")).unwrap().notice.unwrap();
    assert!(described.contains("is not a regular file"), "{described}");
}

#[test]
fn a_package_with_a_manifest_speaks_for_itself() {
    let config =
        "max_batch_size: 8 output { name: 'label' label_filename: 'x' } version_policy { all {} }";
    let (_directory, tree) = tree(&[], config);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("model-examples/iris");
    let version = tree.join("1");
    fs::create_dir_all(&version).unwrap();
    for file in ["MLmodel", "model.onnx"] {
        fs::copy(example.join(file), version.join(file)).unwrap();
    }
    let package = Package::open(&version).unwrap();
    assert_eq!(package.manifest.hints, Hints::default());
    let notice = package.notice.unwrap();
    assert!(
        notice.ends_with(
            "does not read: `max_batch_size` (the `MLmodel` file speaks for the package); \
             `output` (the `MLmodel` file speaks for the package)"
        ),
        "{notice}"
    );
}

#[test]
fn nothing_is_chosen_where_there_are_no_versions() {
    let (_directory, tree) = tree(&[], "");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("model-examples/iris/model.onnx");
    fs::copy(example, tree.join("model.onnx")).unwrap();
    fs::write(tree.join(CONFIG), "version_policy { latest {} }").unwrap();
    let notice = Package::open(&tree).unwrap().notice.unwrap();
    assert!(
        notice.ends_with("`version_policy` (there are no version directories)"),
        "{notice}"
    );
}

#[test]
fn a_long_list_of_versions_that_are_not_there_is_cut_short() {
    let many: Vec<String> = (1..=3000).map(|version| version.to_string()).collect();
    let config = format!(
        "version_policy {{ specific {{ versions: [{}] }} }}",
        many.join(", ")
    );
    let served = served(&["5", "2000"], &config);
    assert_eq!(served.len(), MOST_MISSING + 2);
    assert!(served.contains(&"5".to_owned()) && served.contains(&"2000".to_owned()));
}

#[test]
fn a_notice_has_an_end() {
    let many: String = (0..2000).map(|field| format!("f{field}: 1 ")).collect();
    let text = unread(&format!("{many} {}: 1", "long".repeat(50_000)));
    assert!(text.len() < 2000, "{}", text.len());
    assert!(text.ends_with("; and 1971 more"), "{text}");
}

#[test]
fn a_delay_that_no_client_waits_for_is_shortened() {
    let delayed = |micros: u64| {
        let config = format!("dynamic_batching {{ max_queue_delay_microseconds: {micros} }}");
        let (_directory, tree) = tree(&["1"], &config);
        let package = Package::open(&tree.join("1")).unwrap();
        (
            package.manifest.hints.max_queue_delay.unwrap(),
            package.notice,
        )
    };
    assert_eq!(delayed(5000), (Duration::from_millis(5), None));
    for micros in [10_000_000, u64::MAX] {
        let (delay, notice) = delayed(micros);
        assert_eq!(delay, LONGEST_DELAY);
        assert!(notice.unwrap().contains("100 ms at most"));
    }
}

#[test]
fn a_number_of_rows_that_is_none_is_told() {
    for wrong in ["-1", "8.0", "\"eight\""] {
        let text = unread(&format!("max_batch_size: {wrong}"));
        assert!(
            text.contains("`max_batch_size` (expected a whole number"),
            "{text}"
        );
    }
}
