use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::fit::Misfit;
use super::*;
use crate::error::{ErrorKind, Kinded};

const MODELS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/conformance/mlflow/models"
);

fn real(name: &str) -> PathBuf {
    Path::new(MODELS).join(name)
}

fn onnx(name: &str) -> Vec<u8> {
    fs::read(real(name).join("model.onnx")).unwrap()
}

/// A copy of a real package, `m` in a directory of its own.
fn copy(name: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("m");
    copy_to(name, &root);
    (directory, root)
}

fn copy_to(name: &str, root: &Path) {
    fs::create_dir_all(root).unwrap();
    for entry in fs::read_dir(real(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), root.join(entry.file_name())).unwrap();
    }
}

fn data_file(root: &Path) -> PathBuf {
    let mut entries = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "data")
        })
        .unwrap()
}

fn message(path: &Path) -> String {
    let message = Package::open(path).unwrap_err().to_string();
    assert!(
        !message.contains('\n') && !message.ends_with('.'),
        "{message}"
    );
    message
}

fn manifest(root: &Path, inputs: &str) {
    let text = format!(
        "flavors: {{onnx: {{data: model.onnx}}}}\nsignature: {{inputs: '{inputs}', outputs: null, params: null}}\n"
    );
    fs::write(root.join("MLmodel"), text).unwrap();
}

fn id(path: &Path) -> String {
    Package::open(path).unwrap().id.to_string()
}

fn names(paths: &[PathBuf], root: &Path) -> Vec<String> {
    paths
        .iter()
        .map(|path| {
            path.strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[test]
fn every_real_package_opens() {
    let mut digests = Vec::new();
    for path in discover(Path::new(MODELS)).unwrap() {
        let package = Package::open(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(package.id.version.0, 1);
        assert_eq!(package.id.name.as_str(), path.file_name().unwrap());
        assert!(package.model_file.starts_with(&package.root));
        assert!(package.weight_bytes > 100);
        digests.push(package.digest);
    }
    assert_eq!(digests.len(), 32);
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 32, "digests differ");
}

#[test]
fn weights_are_the_model_and_its_external_data() {
    let package = Package::open(&real("mlp10")).unwrap();
    let data = fs::metadata(data_file(&real("mlp10"))).unwrap().len();
    assert_eq!(package.weight_bytes, onnx("mlp10").len() as u64 + data);
}

#[test]
fn a_bare_graph_and_a_directory_with_one_are_packages() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("two towers.onnx");
    fs::write(&file, onnx("two_tower")).unwrap();
    let bare = Package::open(&file).unwrap();
    assert_eq!(bare.id.to_string(), "two towers version 1");
    assert_eq!(bare.manifest.signature, None);
    assert_eq!(bare.serving_input().unwrap(), None);
    // A neighbour changes nothing.
    fs::write(directory.path().join("notes.txt"), "x").unwrap();
    assert_eq!(Package::open(&file).unwrap().digest, bare.digest);

    let package = Package::open(directory.path()).unwrap();
    assert_eq!(
        package.id.name.as_str(),
        directory.path().file_name().unwrap()
    );
    assert_eq!(package.digest, bare.digest);

    fs::write(directory.path().join("b.onnx"), onnx("two_tower")).unwrap();
    let message = message(directory.path());
    assert!(
        message.contains("several models") && message.contains("`b.onnx`, `two towers.onnx`"),
        "{message}"
    );
}

#[test]
fn names_follow_the_registry_then_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("iris/3");
    copy_to("iris_logreg", &root);
    assert_eq!(id(&root), "iris version 3");
    assert_eq!(id(&root.join(".")), "iris version 3");
    assert_eq!(id(&root.join("../3")), "iris version 3");
    assert_eq!(id(&root.join("model.onnx")), "iris version 3");
    let chosen = Package::open_named(&root, Some(ModelName::new("x").unwrap())).unwrap();
    assert_eq!(chosen.id.to_string(), "x version 3");

    let digest = Package::open(&root).unwrap().digest;
    let meta = root.join("registered_model_meta");
    fs::write(&meta, "model_name: flowers v2\nmodel_version: '12'\n").unwrap();
    assert_eq!(id(&root), "flowers v2 version 12");
    assert_eq!(Package::open(&root).unwrap().digest, digest);
    fs::write(&meta, "model_name: null\nmodel_version: null\n").unwrap();
    assert_eq!(id(&root), "iris version 3");
    fs::write(&meta, "model_name: [\n").unwrap();
    assert!(message(&root).contains("registered_model_meta` is not valid: "));
    fs::write(&meta, "model_name: a/b\n").unwrap();
    assert!(message(&root).contains("choose another name with `--name`"));
}

#[test]
fn the_root_may_be_a_link_and_names_the_model() {
    let (directory, root) = copy("iris_logreg");
    let link = directory.path().join("current");
    symlink(&root, &link).unwrap();
    let package = Package::open(&link).unwrap();
    assert_eq!(package.id.name.as_str(), "current");
    assert_eq!(package.root, root.canonicalize().unwrap());
}

#[test]
fn links_as_kubernetes_makes_them_stay_inside() {
    let (directory, flat) = copy("mlp10");
    let volume = directory.path().join("volume");
    copy_to("mlp10", &volume.join("..2024_01_01"));
    symlink("..2024_01_01", volume.join("..data")).unwrap();
    for entry in fs::read_dir(&flat).unwrap() {
        let name = entry.unwrap().file_name();
        symlink(Path::new("..data").join(&name), volume.join(&name)).unwrap();
    }
    let package = Package::open(&volume).unwrap();
    assert_eq!(package.digest, Package::open(&flat).unwrap().digest);
}

#[test]
fn a_digest_covers_every_visible_file_and_its_path() {
    let (_directory, root) = copy("iris_logreg");
    let digest = || Package::open(&root).unwrap().digest;
    let before = digest();
    assert_eq!(before, Package::open(&real("iris_logreg")).unwrap().digest);
    assert_eq!(before.len(), "sha256:".len() + 64);
    fs::create_dir(root.join(".git")).unwrap();
    fs::write(root.join(".git/HEAD"), "x").unwrap();
    fs::write(root.join(".DS_Store"), "x").unwrap();
    assert_eq!(digest(), before);
    fs::create_dir(root.join("code")).unwrap();
    fs::write(root.join("code/a.py"), "x").unwrap();
    let with_code = digest();
    assert_ne!(with_code, before);
    fs::rename(root.join("code/a.py"), root.join("code/b.py")).unwrap();
    assert_ne!(digest(), with_code);
    fs::remove_dir_all(root.join("code")).unwrap();
    symlink(".", root.join("self")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    assert_eq!(digest(), before);
}

#[test]
fn a_digest_does_not_depend_on_what_a_file_system_keeps_for_itself() {
    let (_directory, root) = copy("iris_logreg");
    let before = Package::open(&root).unwrap().digest;
    fs::create_dir(root.join("lost+found")).unwrap();
    fs::write(root.join("lost+found/#12"), "x").unwrap();
    assert_eq!(Package::open(&root).unwrap().digest, before);
}

#[test]
fn links_and_directories_without_end_are_refused_in_bounded_time() {
    let (_directory, root) = copy("iris_logreg");
    // Each level doubles the paths to the next one: 2^30 of them, and not one file.
    for level in 0..30 {
        let directory = root.join(format!("d{level}"));
        fs::create_dir(&directory).unwrap();
        for name in ["x", "y"] {
            symlink(format!("../d{}", level + 1), directory.join(name)).unwrap();
        }
    }
    fs::create_dir(root.join("d30")).unwrap();
    let text = message(&root);
    assert!(
        text.contains("holds more than 100000 files and directories"),
        "{text}"
    );

    let (_directory, root) = copy("iris_logreg");
    fs::create_dir_all(root.join("d/".repeat(63))).unwrap();
    Package::open(&root).unwrap();
    fs::create_dir_all(root.join("d/".repeat(64))).unwrap();
    let text = message(&root);
    assert!(
        text.contains("has more than 64 directories inside each other"),
        "{text}"
    );
}

#[test]
fn files_outside_the_package_are_refused() {
    let (directory, root) = copy("mlp10");
    let secret = directory.path().join("secret.data");
    fs::copy(data_file(&root), &secret).unwrap();
    let data = data_file(&root);

    fs::remove_file(&data).unwrap();
    symlink(&secret, &data).unwrap();
    let linked = message(&root);
    assert!(linked.contains("external data of tensor `"), "{linked}");
    assert!(
        linked.contains("is a symbolic link that leads outside; a package may use only files"),
        "{linked}"
    );

    let edited = |text: &str| {
        fs::write(root.join("MLmodel"), text).unwrap();
        message(&root)
    };
    let above = edited("flavors: {onnx: {data: ../m/model.onnx}}\n");
    assert!(
        above.contains("model file `../m/model.onnx` contains `..`"),
        "{above}"
    );
    let absolute = edited("flavors: {onnx: {data: /etc/passwd}}\n");
    assert!(
        absolute.contains("model file `/etc/passwd` is an absolute path"),
        "{absolute}"
    );
    let example = edited(
        "flavors: {onnx: {data: model.onnx}}\nsaved_input_example_info: {artifact_path: ../x.json, type: ndarray}\n",
    );
    assert!(
        example.contains("input example `../x.json` contains `..`"),
        "{example}"
    );

    let (directory, root) = copy("iris_logreg");
    fs::write(directory.path().join("secret"), "x").unwrap();
    symlink("../secret", root.join("notes")).unwrap();
    assert!(message(&root).contains("file `notes` is a symbolic link that leads outside"));
    let moved = directory.path().join("MLmodel");
    fs::rename(root.join("MLmodel"), &moved).unwrap();
    symlink(&moved, root.join("MLmodel")).unwrap();
    assert!(message(&root).contains("manifest `MLmodel` is a symbolic link that leads outside"));
}

#[test]
fn external_data_must_be_there_and_long_enough() {
    let (_directory, root) = copy("mlp10");
    let data = data_file(&root);
    let bytes = fs::read(&data).unwrap();
    fs::write(&data, &bytes[..bytes.len() - 1]).unwrap();
    let short = message(&root);
    let expected = format!("needs {} bytes of `", bytes.len());
    assert!(
        short.contains(&expected) && short.contains(&format!("which has {}", bytes.len() - 1)),
        "{short}"
    );
    fs::remove_file(&data).unwrap();
    let missing = message(&root);
    assert!(
        missing.contains("is missing; copy the whole package again"),
        "{missing}"
    );
    fs::create_dir(&data).unwrap();
    assert!(message(&root).contains("is not a regular file"));
}

#[test]
fn a_broken_package_says_what_is_broken() {
    let (_directory, root) = copy("iris_logreg");
    let model = root.join("model.onnx");
    fs::write(&model, "").unwrap();
    assert!(message(&root).ends_with("model.onnx` is empty; expected an ONNX model"));
    fs::remove_file(&model).unwrap();
    assert!(message(&root).contains("model file `model.onnx` is missing"));
    fs::write(root.join("MLmodel"), "flavors: {}").unwrap();
    assert!(message(&root).contains("MLmodel` names no flavors"));
    fs::write(
        root.join("MLmodel"),
        "flavors: {python_function: {loader_module: mlflow.sklearn}}",
    )
    .unwrap();
    assert_eq!(
        Package::open(&root).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

#[test]
fn a_signature_that_contradicts_the_graph_is_refused() {
    let tensor = |name: &str, dtype: &str, shape: &str| {
        format!(
            r#"{{"name":"{name}","type":"tensor","tensor-spec":{{"dtype":"{dtype}","shape":{shape}}}}}"#
        )
    };
    let unnamed = |dtype: &str, shape: &str| {
        format!(r#"[{{"type":"tensor","tensor-spec":{{"dtype":"{dtype}","shape":{shape}}}}}]"#)
    };
    let misfit = |package: &str, inputs: &str| {
        let (_directory, root) = copy(package);
        manifest(&root, inputs);
        match Package::open(&root) {
            Ok(_) => None,
            Err(PackageError::Misfit { misfit, .. }) => Some(misfit.to_string()),
            Err(error) => panic!("{error}"),
        }
    };
    for (dtype, shape) in [
        ("float32", "[-1,4]"),
        ("float64", "[-1,4]"),
        ("float32", "[1,-1]"),
    ] {
        assert_eq!(misfit("iris_logreg", &unnamed(dtype, shape)), None);
    }
    let columns = r#"[{"type":"double","name":"whatever"},{"type":"string","name":"b"}]"#;
    assert_eq!(misfit("iris_logreg", columns), None);
    let columns = r#"[{"type":"double","name":"qty","required":false},{"type":"double","name":"price"},{"type":"binary","name":"c"}]"#;
    assert_eq!(misfit("order_total", columns), None);
    let nested = r#"[{"type":"double","name":"a"},{"type":"array","items":{"type":"double"},"name":"b","required":false}]"#;
    assert_eq!(misfit("iris_logreg", nested), None);

    for (package, inputs, expected) in [
        (
            "iris_logreg",
            unnamed("int64", "[-1,4]"),
            "input `X` has dtype `int64` in the signature and `float32` in the graph",
        ),
        (
            "iris_logreg",
            unnamed("object", "[-1,4]"),
            "input `X` has dtype `object` in the signature and `float32` in the graph",
        ),
        (
            "iris_logreg",
            unnamed("float32", "[-1,5]"),
            "input `X` has shape [-1, 5] in the signature and [-1, 4] in the graph (-1 is any size)",
        ),
        (
            "iris_logreg",
            unnamed("float32", "[-1]"),
            "input `X` has shape [-1] in the signature and [-1, 4] in the graph (-1 is any size)",
        ),
        (
            "iris_logreg",
            format!("[{}]", tensor("Y", "float32", "[-1,4]")),
            "the graph takes input `X`, for which the signature has no tensor",
        ),
        (
            "two_tower",
            unnamed("float32", "[-1,4]"),
            "the signature has one unnamed tensor, but the graph takes inputs `user`, `item`",
        ),
        (
            "two_tower",
            format!(
                "[{},{},{}]",
                tensor("user", "float32", "[-1,4]"),
                tensor("item", "float32", "[-1,4]"),
                tensor("shop", "float32", "[-1,4]")
            ),
            "the signature has a tensor `shop`, but the graph takes inputs `user`, `item`",
        ),
        (
            "order_total",
            r#"[{"type":"double","name":"price"},{"type":"double","name":"Qty"}]"#.to_owned(),
            "the graph takes input `qty`, for which the signature has no column",
        ),
        (
            "order_total",
            r#"[{"type":"array","items":{"type":"double"},"name":"price"},{"type":"double","name":"qty"}]"#.to_owned(),
            "the graph takes column `price` of the signature, whose type `Array(double)` no ONNX tensor holds; log the \
             model with a tensor signature, or without this column",
        ),
        (
            "iris_logreg",
            r#"[{"type":"double"},{"type":"datetime"}]"#.to_owned(),
            "the graph takes column `1` of the signature, whose type `datetime` no ONNX tensor holds; log the model with \
             a tensor signature, or without this column",
        ),
    ] {
        assert_eq!(misfit(package, &inputs).as_deref(), Some(expected));
    }
    let full = PackageError::Misfit {
        root: PathBuf::from("m"),
        misfit: Misfit::Unnamed(crate::model::Names(vec!["a".to_owned()])),
    };
    assert!(
        full.to_string()
            .starts_with("package `m`: the signature contradicts the graph: ")
    );
}

#[test]
fn a_ready_request_is_taken_as_it_is() {
    let package = Package::open(&real("price_params")).unwrap();
    let expected = fs::read(real("price_params").join("serving_input_example.json")).unwrap();
    assert_eq!(package.serving_input().unwrap(), Some(expected));
    let without = Package::open(&real("cnn28")).unwrap();
    assert_eq!(without.serving_input().unwrap(), None);
}

#[test]
fn a_request_is_built_from_a_saved_example() {
    let built = |package: &str, kind: &str, rest: &str, data: Option<&str>| {
        let (_directory, root) = copy(package);
        let text = format!(
            "flavors: {{onnx: {{data: model.onnx}}}}\nsaved_input_example_info: {{artifact_path: input_example.json, type: {kind}{rest}}}\n"
        );
        fs::write(root.join("MLmodel"), text).unwrap();
        if let Some(data) = data {
            fs::write(root.join("input_example.json"), data).unwrap();
        }
        let request = Package::open(&root).unwrap().serving_input();
        request.map(|request| request.map(|bytes| String::from_utf8(bytes).unwrap()))
    };
    let parsed = |text: Option<String>| -> serde_json::Value {
        serde_json::from_str(&text.unwrap()).unwrap()
    };
    let ready = |package: &str| -> serde_json::Value {
        let text = fs::read(real(package).join("serving_input_example.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let frame = built("iris_zipmap", "dataframe", "", None).unwrap();
    assert_eq!(parsed(frame), ready("iris_zipmap"));
    let array = built("two_tower", "ndarray", "", None).unwrap();
    assert_eq!(parsed(array), ready("two_tower"));
    let params = built("price_params", "dataframe", ", params: 'true'", None).unwrap();
    assert_eq!(parsed(params), ready("price_params"));
    let text = built("iris_logreg", "ndarray", "", Some(" [[NaN]]\n")).unwrap();
    assert_eq!(text.as_deref(), Some(r#"{"inputs": [[NaN]]}"#));
    let records = built("iris_logreg", "dataframe", "", Some(r#"[{"a": 1}]"#)).unwrap();
    assert_eq!(
        records.as_deref(),
        Some(r#"{"dataframe_records": [{"a": 1}]}"#)
    );
    assert_eq!(
        built("iris_logreg", "sparse_matrix_csr", "", None).unwrap(),
        None
    );
    let wrong = built("iris_logreg", "ndarray", ", params: 'true'", None).unwrap_err();
    assert!(
        wrong
            .to_string()
            .contains("has no `inputs` beside its `params`"),
        "{wrong}"
    );
    let missing = built(
        "iris_logreg",
        "ndarray",
        ", serving_input_path: no.json",
        None,
    );
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .contains("input example `no.json` is missing")
    );
}

#[test]
fn house_v2_has_a_request_though_it_was_logged_without_one() {
    let request = Package::open(&real("house_v2"))
        .unwrap()
        .serving_input()
        .unwrap()
        .unwrap();
    let request: serde_json::Value = serde_json::from_slice(&request).unwrap();
    assert_eq!(request["dataframe_split"]["columns"][0], "MedInc");
}

#[test]
fn a_target_stands_for_itself_its_versions_or_its_packages() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    copy_to("iris_logreg", &root.join("iris"));
    for version in ["1", "2", "10", "x"] {
        let version = root.join("tree").join(version);
        fs::create_dir_all(&version).unwrap();
        fs::write(version.join("model.onnx"), onnx("iris_logreg")).unwrap();
    }
    fs::create_dir_all(root.join("tree/11")).unwrap();
    fs::create_dir_all(root.join("docs")).unwrap();
    fs::write(root.join("docs/readme.md"), "x").unwrap();
    copy_to("iris_logreg", &root.join(".hidden"));
    copy_to("iris_logreg", &root.join("lost+found"));
    fs::write(root.join("z.onnx"), onnx("iris_logreg")).unwrap();

    let found = |path: &Path| names(&discover(path).unwrap(), root);
    assert_eq!(found(&root.join("iris")), ["iris"]);
    assert_eq!(found(&root.join("z.onnx")), ["z.onnx"]);
    assert_eq!(found(&root.join("tree")), ["tree/1", "tree/2", "tree/10"]);
    assert_eq!(found(&root.join("tree/2")), ["tree/2"]);
    assert_eq!(
        found(root),
        ["iris", "tree/1", "tree/2", "tree/10", "z.onnx"]
    );
    assert_eq!(id(&root.join("tree/10")), "tree version 10");
    fs::write(root.join("y.onnx"), onnx("iris_logreg")).unwrap();
    fs::remove_dir_all(root.join("tree")).unwrap();
    assert_eq!(found(root), ["iris", "y.onnx", "z.onnx"]);
}

#[test]
fn a_survey_also_finds_what_is_broken() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let write = |path: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    };
    for path in [
        "good/MLmodel",
        "tree/1/model.onnx",
        "tree/x/model.onnx",
        "tree/3",
        "misnamed/v1/model.onnx",
        "several/a.onnx",
        "several/b.onnx",
        "docs/readme.md",
        "reports/2024/table.csv",
        "z.onnx",
    ] {
        write(path);
    }
    fs::create_dir_all(root.join("tree/2")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::create_dir_all(root.join("to come/1")).unwrap();
    fs::create_dir_all(root.join("odd/MLmodel")).unwrap();
    let found = survey(root).unwrap();
    assert_eq!(
        names(&found.packages, root),
        [
            "empty",
            "good",
            "misnamed",
            "odd",
            "several",
            "to come/1",
            "tree/1",
            "tree/2",
            "tree/3",
            "z.onnx"
        ]
    );
    assert_eq!(names(&found.passed_over, root), ["docs", "reports"]);
    let tree = survey(&root.join("tree")).unwrap();
    assert_eq!(names(&tree.packages, root), ["tree/1", "tree/2", "tree/3"]);
    assert_eq!(names(&tree.passed_over, root), ["tree/x"]);
}

#[test]
fn a_broken_neighbour_does_not_take_the_name_of_a_bare_graph() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let found = || names(&survey(root).unwrap().packages, root);
    fs::write(root.join("iris.onnx"), "").unwrap();
    assert_eq!(found(), [""], "the directory is the package");
    fs::create_dir(root.join("empty")).unwrap();
    assert_eq!(found(), ["empty", "iris.onnx"]);
    fs::rename(root.join("iris.onnx"), root.join("model.onnx")).unwrap();
    assert_eq!(found(), [""], "`model.onnx` is no name");
}

#[test]
fn a_version_of_a_registry_of_files_has_the_name_of_its_model() {
    let directory = tempfile::tempdir().unwrap();
    let versions = directory.path().join("my%20iris/versions");
    copy_to("iris_logreg", &versions.join("2"));
    let version = versions.join("2");
    assert_eq!(
        id(&version),
        "versions version 2",
        "a tree that is called so"
    );
    fs::write(versions.join("2.json"), "{}").unwrap();
    assert_eq!(id(&version), "my iris version 2");
    assert_eq!(
        Package::presumed_id(&version, None).to_string(),
        "my iris version 2"
    );
    fs::remove_file(version.join("MLmodel")).unwrap();
    assert_eq!(id(&version.join("model.onnx")), "my iris version 2");
}

#[test]
fn what_cannot_be_opened_is_called_what_it_would_be() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let presumed = |path: &str| Package::presumed_id(&root.join(path), None).to_string();
    fs::create_dir_all(root.join("noted")).unwrap();
    let note = "model_name: fraud\nmodel_version: '7'\n";
    fs::write(root.join("noted/registered_model_meta"), note).unwrap();
    assert_eq!(presumed("noted"), "fraud version 7");
    fs::write(root.join("noted/registered_model_meta"), "[").unwrap();
    assert_eq!(presumed("noted"), "noted version 1");
    assert_eq!(presumed("nothing"), "nothing version 1");
    assert_eq!(presumed("iris/3"), "iris version 3");
    assert_eq!(presumed("iris.onnx"), "iris version 1");
    assert_eq!(presumed("stats"), "stats_ version 1");
    let chosen = ModelName::new("chosen").unwrap();
    let id = Package::presumed_id(&root.join("iris/3"), Some(&chosen));
    assert_eq!(id.to_string(), "chosen version 3");
}

#[test]
fn a_directory_that_cannot_be_read_is_an_error_and_one_that_is_gone_is_none() {
    // Not by file modes: these tests may run as root, who reads everything.
    let read = |kind: std::io::ErrorKind| {
        let error = PackageError::io(Path::new("tree/2"))(kind.into());
        discover::still_there(Err(error))
    };
    let error = read(std::io::ErrorKind::PermissionDenied).unwrap_err();
    assert_eq!(error.to_string(), "cannot read `tree/2`: permission denied");
    assert!(read(std::io::ErrorKind::NotFound).unwrap().is_none());
}

#[test]
fn a_target_without_models_says_what_was_looked_for() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir(root.join("fraud-model")).unwrap();
    fs::write(root.join("notes.txt"), "x").unwrap();
    let error = discover(&root.join("fraud-mdoel")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let text = error.to_string();
    assert!(text.contains("does not exist; did you mean `"), "{text}");
    assert!(text.ends_with("fraud-model`?"), "{text}");
    let text = discover(&root.join("quite different"))
        .unwrap_err()
        .to_string();
    assert!(text.ends_with("does not exist"), "{text}");
    let text = discover(root).unwrap_err().to_string();
    assert!(
        text.contains("holds no model: looked for an `MLmodel` file"),
        "{text}"
    );
    assert!(text.ends_with("found `fraud-model`, `notes.txt`"), "{text}");
    let text = discover(&root.join("fraud-model")).unwrap_err().to_string();
    assert!(text.ends_with("found nothing"), "{text}");
    let text = discover(&root.join("notes.txt")).unwrap_err().to_string();
    assert!(
        text.contains("is no model; expected a package directory"),
        "{text}"
    );
}
