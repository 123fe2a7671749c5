//! A package that does not exist yet: written from a bare graph, in the form that MLflow writes.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::confine::Confined;
use super::{MANIFEST, Package, PackageError, name};
use crate::model::{Dim, ModelName, OutputKind, Signature};
use crate::tensor::DType;

const MODEL: &str = "model.onnx";
const EXAMPLE: &str = "input_example.json";
const SERVING_EXAMPLE: &str = "serving_input_example.json";
const CONDA: &str = "conda.yaml";
const PYTHON_ENV: &str = "python_env.yaml";
const REQUIREMENTS: &str = "requirements.txt";

/// The Python version of the environment that MLflow creates.
const PYTHON: &str = "3.11";

/// What MLflow needs to load the model; any version that has the `onnx` flavor will do.
const PACKAGES: [&str; 4] = ["mlflow>=2.0", "numpy", "onnx", "onnxruntime"];

/// What a package is to be made of.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    /// The graph and its files, as [`Package::open`] found them.
    pub source: &'a Package,
    /// The name of the model, when it is not that of the directory.
    pub name: Option<ModelName>,
    /// Notes for the manifest.
    pub metadata: Vec<(String, String)>,
    /// A request that the model answers.
    pub example: Option<Example>,
    /// When it is made: `2026-11-23 07:02:02.113368`, UTC.
    pub created: String,
    /// 32 hexadecimal digits that no other package has.
    pub uuid: String,
}

/// An input example in the two forms that MLflow saves.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The body of a scoring request.
    pub body: Value,
    /// The data alone.
    pub data: Value,
    /// The orientation of a data frame (`split`, `records`); `None` for tensors.
    pub orient: Option<&'static str>,
}

/// Why a package was not written.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// The files of the graph.
    #[error(transparent)]
    Source(#[from] PackageError),
    /// The operating system refused.
    #[error("cannot write `{}`: {error}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// External data under a name that the package needs itself.
    #[error(
        "the graph keeps weights in `{0}`, a name that a package uses itself; save the external data under another one"
    )]
    Clash(String),
}

impl Draft<'_> {
    /// Writes the package into `directory`, which exists and is empty.
    ///
    /// # Errors
    /// [`DraftError`]; what was written until then stays.
    pub fn write(&self, directory: &Path) -> Result<(), DraftError> {
        self.copy_weights(directory)?;
        let mut files = vec![
            (MANIFEST, self.manifest()),
            (CONDA, conda()),
            (PYTHON_ENV, python_env()),
            (REQUIREMENTS, PACKAGES.join("\n")),
        ];
        if let Some(example) = &self.example {
            let body = serde_json::to_string_pretty(&example.body);
            files.push((EXAMPLE, example.data.to_string()));
            files.push((SERVING_EXAMPLE, body.expect("JSON is written as JSON")));
        }
        if let Some(name) = &self.name {
            let name = quoted(name.as_str());
            let note = format!("model_name: {name}\nmodel_version: null\n");
            files.push((name::META, note));
        }
        for (name, text) in files {
            let path = directory.join(name);
            fs::write(&path, text).map_err(failed(&path))?;
        }
        Ok(())
    }

    fn copy_weights(&self, directory: &Path) -> Result<(), DraftError> {
        let source = self.source;
        let root = Confined::new(source.root.clone());
        let (data, tensors) = (&source.manifest.onnx.data, &source.graph.external_data);
        let mut files = root.external_data(data, &source.model_file, tensors)?;
        let reserved = [
            MANIFEST,
            MODEL,
            EXAMPLE,
            SERVING_EXAMPLE,
            CONDA,
            PYTHON_ENV,
            REQUIREMENTS,
            name::META,
        ];
        for relative in files.keys() {
            let first = relative
                .components()
                .find(|part| matches!(part, Component::Normal(_)));
            if first.is_some_and(|first| reserved.iter().any(|name| first.as_os_str() == *name)) {
                return Err(DraftError::Clash(relative.display().to_string()));
            }
        }
        files.insert(PathBuf::from(MODEL), source.model_file.clone());
        for (relative, file) in files {
            let to = directory.join(relative);
            let parent = to.parent().unwrap_or(directory);
            fs::create_dir_all(parent).map_err(failed(parent))?;
            fs::copy(&file, &to).map_err(failed(&to))?;
        }
        Ok(())
    }

    /// The `MLmodel` file, its keys in MLflow's order.
    fn manifest(&self) -> String {
        let mut text = format!(
            "flavors:\n  onnx:\n    code: null\n    data: {MODEL}\n    onnx_session_options: null\n    providers:\n    \
             - CPUExecutionProvider\n  python_function:\n    data: {MODEL}\n    env:\n      conda: {CONDA}\n      \
             virtualenv: {PYTHON_ENV}\n    loader_module: mlflow.onnx\n    python_version: '{PYTHON}'\n"
        );
        let signature = signature_texts(&self.source.graph.signature);
        if signature.is_some() {
            text.push_str("is_signature_from_type_hint: false\n");
        }
        if !self.metadata.is_empty() {
            text.push_str("metadata:\n");
        }
        for (key, value) in &self.metadata {
            write(
                &mut text,
                format_args!("  {}: {}\n", quoted(key), quoted(value)),
            );
        }
        let (size, uuid) = (self.source.weight_bytes, &self.uuid);
        write(
            &mut text,
            format_args!(
                "model_id: null\nmodel_size_bytes: {size}\nmodel_uuid: {uuid}\nprompts: null\n"
            ),
        );
        if let Some(example) = &self.example {
            text.push_str(&example.info());
        }
        if let Some((inputs, outputs)) = signature {
            let outputs = outputs.map_or("null".to_owned(), |outputs| single_quoted(&outputs));
            let inputs = single_quoted(&inputs);
            write(
                &mut text,
                format_args!(
                    "signature:\n  inputs: {inputs}\n  outputs: {outputs}\n  params: null\ntype_hint_from_example: false\n"
                ),
            );
        }
        write(
            &mut text,
            format_args!("utc_time_created: '{}'\n", self.created),
        );
        text
    }
}

impl Example {
    fn info(&self) -> String {
        let kind = match self.orient {
            Some(orient) => format!(
                "  pandas_orient: {orient}\n  serving_input_path: {SERVING_EXAMPLE}\n  type: dataframe\n"
            ),
            None => format!("  serving_input_path: {SERVING_EXAMPLE}\n  type: ndarray\n"),
        };
        format!("saved_input_example_info:\n  artifact_path: {EXAMPLE}\n{kind}")
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DraftError + '_ {
    |error| DraftError::Write {
        path: path.to_owned(),
        error,
    }
}

/// Writing to a string cannot fail.
fn write(text: &mut String, words: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(words);
}

fn conda() -> String {
    let packages: Vec<String> = PACKAGES
        .iter()
        .map(|name| format!("  - {name}\n"))
        .collect();
    format!(
        "channels:\n- conda-forge\ndependencies:\n- python={PYTHON}\n- pip\n- pip:\n{}name: mlflow-env\n",
        packages.concat()
    )
}

fn python_env() -> String {
    format!(
        "python: '{PYTHON}'\nbuild_dependencies:\n- pip\n- setuptools\n- wheel\ndependencies:\n- -r {REQUIREMENTS}\n"
    )
}

/// MLflow's JSON of a graph's inputs, and of its outputs where MLflow has words for all of them; `None` when it has
/// none for the inputs.
pub(crate) fn signature_texts(signature: &Signature) -> Option<(String, Option<String>)> {
    let inputs = signature.required();
    let inputs: Option<Vec<Tensor<'_>>> = inputs
        .map(|input| Tensor::new(&input.name, input.dtype, input.shape.as_deref()))
        .collect();
    let outputs = signature.outputs.iter();
    let outputs: Option<Vec<Tensor<'_>>> = outputs
        .map(|output| match &output.kind {
            OutputKind::Tensor { dtype, shape } => {
                Tensor::new(&output.name, *dtype, shape.as_deref())
            }
            OutputKind::Maps { .. } | OutputKind::Sequence { .. } => None,
        })
        .collect();
    // A single input has no name in MLflow's own signatures, so that it takes arrays and data frames.
    let inputs = match inputs?.as_slice() {
        [one] => format!("[{}]", one.json(false)),
        several => list(several),
    };
    Some((inputs, outputs.map(|outputs| list(&outputs))))
}

fn list(tensors: &[Tensor<'_>]) -> String {
    let tensors: Vec<String> = tensors.iter().map(|tensor| tensor.json(true)).collect();
    format!("[{}]", tensors.join(", "))
}

/// A tensor that MLflow can describe.
struct Tensor<'a> {
    name: &'a str,
    dtype: DType,
    shape: &'a [Dim],
}

impl<'a> Tensor<'a> {
    fn new(name: &'a str, dtype: DType, shape: Option<&'a [Dim]>) -> Option<Self> {
        // numpy has no such type.
        if dtype == DType::Bf16 {
            return None;
        }
        let shape = shape?;
        Some(Self { name, dtype, shape })
    }

    /// As Python's `json.dumps` writes it.
    fn json(&self, with_name: bool) -> String {
        let shape: Vec<String> = self
            .shape
            .iter()
            .map(|dim| dim.to_i64().to_string())
            .collect();
        let name = match with_name {
            true => format!("\"name\": {}, ", quoted(self.name)),
            false => String::new(),
        };
        format!(
            "{{{name}\"type\": \"tensor\", \"tensor-spec\": {{\"dtype\": \"{}\", \"shape\": [{}]}}}}",
            self.dtype.numpy_name(),
            shape.join(", ")
        )
    }
}

/// JSON text in ASCII, which YAML reads too.
fn quoted(text: &str) -> String {
    let mut ascii = String::new();
    for character in Value::from(text).to_string().chars() {
        if matches!(character, ' '..='~') {
            ascii.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write(&mut ascii, format_args!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}

/// YAML's other quotes, in which only they themselves have to be written twice.
fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: &str = "2026-11-23 07:02:02.113368";

    fn model(name: &str) -> Package {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        Package::open(&path.join(format!("{name}.onnx"))).unwrap()
    }

    fn draft(source: &Package) -> Draft<'_> {
        Draft {
            source,
            name: None,
            metadata: Vec::new(),
            example: None,
            created: CREATED.to_owned(),
            uuid: "0".repeat(32),
        }
    }

    fn written(draft: &Draft<'_>) -> (tempfile::TempDir, Package) {
        let directory = tempfile::tempdir().unwrap();
        draft.write(directory.path()).unwrap();
        let name = ModelName::new("made").unwrap();
        let package = Package::open_named(directory.path(), Some(name)).unwrap();
        (directory, package)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let source = model("add");
        let mut draft = draft(&source);
        draft.name = Some(
            ModelName::new("so: \"ähm\" 🎭")
                .unwrap_or_else(|_| ModelName::new("so \"ähm\" 🎭").unwrap()),
        );
        draft.metadata = vec![("team: a".to_owned(), "it's\n\"ours\" – ja".to_owned())];
        draft.example = Some(Example {
            body: serde_json::json!({ "inputs": [[1.5]] }),
            data: serde_json::json!([[1.5]]),
            orient: None,
        });
        let (directory, package) = written(&draft);
        assert_eq!(package.graph, source.graph);
        let manifest = &package.manifest;
        assert_eq!(manifest.metadata["team: a"], "it's\n\"ours\" – ja");
        assert_eq!(manifest.created.as_deref(), Some(CREATED));
        let body = package.serving_input().unwrap().unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            draft.example.as_ref().unwrap().body
        );
        let named = Package::open(directory.path()).unwrap();
        assert_eq!(Some(named.id.name), draft.name);
    }

    #[test]
    fn the_manifest_has_the_form_of_mlflow() {
        let source = model("linear_sum");
        insta::assert_snapshot!(draft(&source).manifest());
    }

    #[test]
    fn every_model_of_the_tests_makes_a_package_with_the_signature_of_its_graph() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        let mut without_inputs = Vec::new();
        let mut without_outputs = Vec::new();
        for entry in fs::read_dir(models).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "onnx") {
                continue;
            }
            let source = Package::open(&path).unwrap();
            let (_directory, package) = written(&draft(&source));
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            match package.manifest.signature {
                None => without_inputs.push(name),
                Some(signature) if signature.outputs.is_none() => without_outputs.push(name),
                Some(_) => {}
            }
        }
        without_inputs.sort();
        without_outputs.sort();
        assert_eq!(without_inputs, ["any_rank", "twice_bfloat16"]);
        assert_eq!(without_outputs, ["zip_map_text"]);
    }

    #[test]
    fn external_data_comes_along_under_its_name() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/mlflow/models");
        let source = Package::open(&models.join("mlp10/model.onnx")).unwrap();
        let location = source.graph.external_data[0].location.clone();
        let (directory, package) = written(&draft(&source));
        assert!(directory.path().join(location).is_file());
        assert_eq!(package.weight_bytes, source.weight_bytes);
    }

    #[test]
    fn external_data_never_stands_in_for_a_file_of_the_package() {
        let directory = tempfile::tempdir().unwrap();
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/mlflow/models");
        let from = models.join("mlp10");
        let mut source = Package::open(&from.join("model.onnx")).unwrap();
        source.root = directory.path().canonicalize().unwrap();
        source.model_file = source.root.join("given.onnx");
        source.graph.external_data.truncate(1);
        let data = &mut source.graph.external_data[0];
        fs::copy(from.join(&data.location), source.root.join("MLmodel")).unwrap();
        fs::copy(from.join("model.onnx"), &source.model_file).unwrap();
        data.location = "./MLmodel".to_owned();
        let to = tempfile::tempdir().unwrap();
        let error = draft(&source).write(to.path()).unwrap_err();
        assert!(matches!(error, DraftError::Clash(_)), "{error}");
    }
}
