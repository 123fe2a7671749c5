//! The conventions of platforms that run a server in a container: where they put the model, and the variables that say
//! how it must listen. One row each.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::keys::find;
use super::{Entry, KeyPath, Origin, Raw};

/// A platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    /// What it is called.
    pub name: &'static str,
    /// Its variables, and the keys that they stand for.
    pub variables: &'static [(&'static str, &'static str)],
    /// Where it puts the model.
    pub model: Place,
}

/// Where a platform puts a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// This variable names a path, or the URL of an object store.
    Variable(&'static str),
    /// Here.
    Directory(&'static str),
}

/// Every platform, in the order in which onstage looks for a model.
pub const PLATFORMS: &[Platform] = &[
    Platform {
        name: "Vertex AI",
        variables: &[
            ("AIP_HTTP_PORT", "server.port"),
            ("AIP_HEALTH_ROUTE", "server.health_route"),
            ("AIP_PREDICT_ROUTE", "server.predict_route"),
        ],
        model: Place::Variable("AIP_STORAGE_URI"),
    },
    Platform {
        name: "Azure ML",
        variables: &[],
        model: Place::Variable("AZUREML_MODEL_DIR"),
    },
    Platform {
        name: "SageMaker",
        variables: &[("SAGEMAKER_BIND_TO_PORT", "server.port")],
        model: Place::Directory("/opt/ml/model"),
    },
    Platform {
        name: "KServe",
        variables: &[],
        model: Place::Directory("/mnt/models"),
    },
];

/// The variable by which SageMaker asks for a server whose models come and go.
pub const MULTI_MODEL: &str = "SAGEMAKER_MULTI_MODEL";

/// Where SageMaker then puts the models.
pub const MULTI_MODEL_ROOT: &str = "/opt/ml/models";

/// The model that a platform provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// The platform.
    pub platform: &'static str,
    /// The variable, or nothing for a directory.
    pub variable: Option<&'static str>,
    /// A path, or the URL of an object store.
    pub target: String,
}

/// Looks for a model where the platforms put it, below `root`, which is `/` but in tests.
///
/// # Errors
/// The places that were looked at.
pub fn provided<'v>(
    root: &Path,
    variable: impl Fn(&str) -> Option<&'v str>,
) -> Result<Provided, Vec<String>> {
    let mut seen = Vec::new();
    for Platform { name, model, .. } in PLATFORMS {
        let found = match model {
            Place::Variable(name) => {
                seen.push(format!("`{name}` (not set)"));
                variable(name).map(|value| (Some(*name), value.to_owned()))
            }
            Place::Directory(directory) => {
                seen.push(format!("`{directory}` (nothing there)"));
                let path = below(root, directory);
                let target = || path.to_string_lossy().into_owned();
                holds_something(&path).then(|| (None, target()))
            }
        };
        if let Some((variable, target)) = found {
            return Ok(Provided {
                platform: name,
                variable,
                target,
            });
        }
    }
    Err(seen)
}

fn below(root: &Path, directory: &str) -> PathBuf {
    root.join(directory.trim_start_matches('/'))
}

/// An image may have the directory, empty, for whoever mounts something there.
fn holds_something(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
}

/// The settings that platforms ask for in variables of their own.
pub(super) fn entries(variables: &[(OsString, OsString)]) -> Vec<(KeyPath, Entry)> {
    let asked = asked(variables);
    let entry = |(name, key, value): (&str, &str, &str)| entry(key, name, value);
    asked.into_iter().filter_map(entry).collect()
}

/// A platform reaches the server from outside of the container.
pub(super) fn host(variables: &[(OsString, OsString)]) -> Option<(KeyPath, Entry)> {
    let (name, ..) = asked(variables).into_iter().next()?;
    entry("server.host", name, "0.0.0.0")
}

fn asked(variables: &[(OsString, OsString)]) -> Vec<(&'static str, &'static str, &str)> {
    let known = PLATFORMS.iter().flat_map(|platform| platform.variables);
    let value = |wanted: &str| {
        let mut named = variables.iter().filter(|(name, _)| name == wanted);
        let value = named.next()?.1.to_str()?;
        (!value.is_empty()).then_some(value)
    };
    known
        .filter_map(|&(name, key)| Some((name, key, value(name)?)))
        .collect()
}

fn entry(key: &str, variable: &str, value: &str) -> Option<(KeyPath, Entry)> {
    let path = KeyPath::parse(key);
    let def = find(&path)?;
    let origin = Origin::Environment(variable.to_owned());
    let raw = Raw::Text(value.to_owned());
    Some((path, Entry { def, raw, origin }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FlagValue, Inputs, KEYS, load};

    fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        let owned = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
        variables.iter().map(owned).collect()
    }

    #[test]
    fn every_variable_stands_for_a_key() {
        for platform in PLATFORMS {
            for (variable, key) in platform.variables {
                let known = KEYS.iter().any(|def| def.path == *key);
                assert!(known, "{}: {variable} stands for {key}", platform.name);
            }
        }
    }

    #[test]
    fn the_first_platform_that_has_a_model_provides_it() {
        let root = tempfile::tempdir().unwrap();
        let none = provided(root.path(), |_| None).unwrap_err().join(", ");
        for place in [
            "AIP_STORAGE_URI",
            "AZUREML_MODEL_DIR",
            "/opt/ml/model",
            "/mnt/models",
        ] {
            assert!(none.contains(place), "{none}");
        }
        let kserve = root.path().join("mnt/models");
        std::fs::create_dir_all(&kserve).unwrap();
        assert!(
            provided(root.path(), |_| None).is_err(),
            "an empty directory"
        );
        std::fs::write(kserve.join("model.onnx"), "").unwrap();
        let found = provided(root.path(), |_| None).unwrap();
        assert_eq!(found.platform, "KServe");
        assert_eq!(Path::new(&found.target), kserve);
        let sagemaker = root.path().join("opt/ml/model/1");
        std::fs::create_dir_all(sagemaker).unwrap();
        assert_eq!(
            provided(root.path(), |_| None).unwrap().platform,
            "SageMaker"
        );
        let azure = |name: &str| (name == "AZUREML_MODEL_DIR").then_some("/models/iris/3");
        let found = provided(root.path(), azure).unwrap();
        assert_eq!(
            (found.platform, found.target.as_str()),
            ("Azure ML", "/models/iris/3")
        );
        assert_eq!(found.variable, Some("AZUREML_MODEL_DIR"));
    }

    #[test]
    fn platforms_say_how_to_listen_and_our_own_variables_and_flags_are_stronger() {
        let vertex = [
            ("AIP_HTTP_PORT", "9001"),
            ("AIP_HEALTH_ROUTE", "/health/vertex"),
            (
                "AIP_PREDICT_ROUTE",
                "/v1/endpoints/1/deployedModels/2:predict",
            ),
        ];
        let mut inputs = Inputs {
            environment: environment(&vertex),
            ..Inputs::default()
        };
        let server = load(&inputs).unwrap().settings.server;
        assert_eq!((server.host.as_str(), server.port), ("0.0.0.0", 9001));
        assert_eq!(server.health_route.as_deref(), Some("/health/vertex"));
        let predict = server.predict_route.unwrap();
        assert_eq!(predict, "/v1/endpoints/1/deployedModels/2:predict");
        let own = [
            ("ONSTAGE_SERVER__PORT", "9002"),
            ("ONSTAGE_SERVER__HOST", "::1"),
        ];
        inputs.environment.extend(environment(&own));
        let server = load(&inputs).unwrap().settings.server;
        assert_eq!((server.host.as_str(), server.port), ("::1", 9002));
        let def = KEYS.iter().find(|def| def.path == "server.port").unwrap();
        let (flag, raw) = ("--port".to_owned(), Raw::Text("9003".to_owned()));
        inputs.flags = vec![FlagValue { def, flag, raw }];
        assert_eq!(load(&inputs).unwrap().settings.server.port, 9003);
    }

    #[test]
    fn what_a_platform_asks_for_in_vain_is_told_with_its_variable() {
        let inputs = Inputs {
            environment: environment(&[("SAGEMAKER_BIND_TO_PORT", "http")]),
            ..Inputs::default()
        };
        let error = load(&inputs).unwrap_err().to_string();
        assert!(error.contains("SAGEMAKER_BIND_TO_PORT"), "{error}");
    }
}
