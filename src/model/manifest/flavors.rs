//! The `flavors` of a manifest: which file to load and how.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{FlavorNames, ManifestProblem, OnnxFlavor, Provider, SessionOptions, brief};

const LOADER: &str = "mlflow.onnx";

/// The `onnx` flavor, from its own entry and that of `python_function`.
pub(super) fn onnx_flavor(flavors: Option<Value>) -> Result<OnnxFlavor, ManifestProblem> {
    let flavors = mapping("flavors", flavors)?;
    if flavors.is_empty() {
        return Err(ManifestProblem::NoFlavors);
    }
    let entry = |name: &str| {
        let key = format!("flavors.{name}");
        mapping(&key, flavors.get(name).cloned())
    };
    let python = entry("python_function")?;
    let names = || FlavorNames(flavors.keys().cloned().collect());
    if let Some(loader) = text(
        "flavors.python_function.loader_module",
        &python,
        "loader_module",
    )? && loader != LOADER
    {
        return Err(ManifestProblem::Loader {
            loader: loader.escape_debug().to_string(),
            flavors: names(),
        });
    }
    if !flavors.contains_key("onnx") && !python.contains_key("loader_module") {
        return Err(ManifestProblem::NoOnnxFlavor(names()));
    }
    let onnx = entry("onnx")?;
    // MLflow's scoring server loads the file that `python_function` names.
    let data = match text("flavors.python_function.data", &python, "data")? {
        Some(data) => Some(data),
        None => text("flavors.onnx.data", &onnx, "data")?,
    };
    let Some(data) = data.filter(|data| !data.is_empty()) else {
        return Err(ManifestProblem::Value {
            key: "flavors.onnx.data".to_owned(),
            found: "nothing".to_owned(),
            expected: "the name of the model file, such as `model.onnx`",
        });
    };
    Ok(OnnxFlavor {
        data: PathBuf::from(data),
        providers: providers(onnx.get("providers"))?,
        session: session_options(onnx.get("onnx_session_options").cloned())?,
    })
}

fn mapping(key: &str, value: Option<Value>) -> Result<Map<String, Value>, ManifestProblem> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(entries)) => Ok(entries),
        Some(other) => Err(wrong(key, &other, "a mapping")),
    }
}

fn text(
    path: &str,
    entries: &Map<String, Value>,
    key: &str,
) -> Result<Option<String>, ManifestProblem> {
    match entries.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(wrong(path, other, "text")),
    }
}

fn wrong(key: &str, found: &Value, expected: &'static str) -> ManifestProblem {
    ManifestProblem::Value {
        key: key.to_owned(),
        found: brief(found),
        expected,
    }
}

/// Names, or lists of a name and its options; hand-written files may have one bare name or nothing.
fn providers(value: Option<&Value>) -> Result<Vec<Provider>, ManifestProblem> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(name @ Value::String(_)) => Ok(vec![provider(name)?]),
        Some(Value::Array(entries)) => entries.iter().map(provider).collect(),
        Some(other) => Err(wrong(PROVIDERS, other, "a list of execution providers")),
    }
}

const PROVIDERS: &str = "flavors.onnx.providers";

fn provider(entry: &Value) -> Result<Provider, ManifestProblem> {
    let (name, options) = match entry {
        Value::String(name) => (name, None),
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(name)] | [Value::String(name), Value::Null] => (name, None),
            [Value::String(name), Value::Object(options)] => (name, Some(options)),
            _ => return Err(wrong(PROVIDERS, entry, "entries of a name and a mapping")),
        },
        _ => {
            return Err(wrong(
                PROVIDERS,
                entry,
                "names or lists of a name and options",
            ));
        }
    };
    let options = options.into_iter().flatten();
    let options = options.map(|(key, value)| {
        // As Python prints it: that is what ONNX Runtime's own binding hands over. The provider judges the rest.
        let text = match value {
            Value::Null => "None".to_owned(),
            value => scalar(value, ["True", "False"]).unwrap_or_else(|| value.to_string()),
        };
        (key.clone(), text)
    });
    Ok(Provider {
        name: name.clone(),
        options: options.collect(),
    })
}

/// A scalar as text, with these words for true and false.
fn scalar(value: &Value, booleans: [&str; 2]) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(true) => Some(booleans[0].to_owned()),
        Value::Bool(false) => Some(booleans[1].to_owned()),
        _ => None,
    }
}

/// All of ONNX Runtime's optimizations.
const ALL: usize = 99;

fn session_options(value: Option<Value>) -> Result<SessionOptions, ManifestProblem> {
    const PATH: &str = "flavors.onnx.onnx_session_options";
    // MLflow passes on what is not empty.
    let value = value.filter(|value| *value != Value::Array(Vec::new()));
    let options = mapping(PATH, value)?;
    let key = |name: &str| format!("{PATH}.{name}");
    let number = |name: &str| match options.get(name) {
        None | Some(Value::Null | Value::Bool(false)) => Ok(None),
        Some(value) => {
            let number = value.as_i64();
            let number = number.ok_or_else(|| wrong(&key(name), value, "a whole number"))?;
            // Less means ONNX Runtime's default to it, and MLflow does not pass 0 on.
            Ok(usize::try_from(number).ok().filter(|number| *number > 0))
        }
    };
    // As ONNX Runtime rounds levels that it has no name for.
    let level = number("graph_optimization_level")?.map(|level| match level {
        0..=3 => level,
        4..ALL => 3,
        _ => ALL,
    });
    let mode = text(&key("execution_mode"), &options, "execution_mode")?;
    let extra = mapping(
        &key("extra_session_config"),
        options.get("extra_session_config").cloned(),
    )?;
    let extra = extra.iter().map(|(name, value)| {
        let text = scalar(value, ["1", "0"]);
        let text = text
            .ok_or_else(|| wrong(&key(&format!("extra_session_config.{name}")), value, "text"))?;
        Ok((name.clone(), text))
    });
    Ok(SessionOptions {
        intra_op_num_threads: number("intra_op_num_threads")?,
        inter_op_num_threads: number("inter_op_num_threads")?,
        // Other words leave ONNX Runtime's default, as in MLflow.
        parallel: mode.is_some_and(|mode| mode.eq_ignore_ascii_case("parallel")),
        graph_optimization_level: level.and_then(|level| u32::try_from(level).ok()),
        extra: extra.collect::<Result<_, _>>()?,
    })
}
