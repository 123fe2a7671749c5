//! Which object means what.

use object_store::path::{Path, PathPart};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::model::{Alias, ModelName, Stage, Version};

/// What a name may keep in a file name.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// The contents of `versions/N.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionFile {
    /// RFC 3339, UTC.
    pub(crate) created: String,
    /// As `sha256:<hex>`.
    pub(crate) digest: String,
    /// Where it came from.
    #[serde(default)]
    pub(crate) source: String,
    /// A note.
    #[serde(default)]
    pub(crate) description: String,
}

/// An object that decides something.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Version(Version),
    Stage(Stage),
    Alias(Alias),
}

/// The directory of a model.
pub(crate) fn model(root: &Path, name: &ModelName) -> Path {
    let encoded = utf8_percent_encode(name.as_str(), KEPT).to_string();
    child(root, &encoded)
}

/// `path/part`, as it stands.
pub(crate) fn child(path: &Path, part: &str) -> Path {
    match PathPart::parse(part) {
        Ok(part) => path.clone().join(part),
        Err(_) => path.clone().join(part),
    }
}

/// What makes a version exist.
pub(crate) fn version_file(versions: &Path, version: Version) -> Path {
    child(versions, &format!("{version}.json"))
}

/// What keeps others from taking the number of a version; it stays, as a number is never given twice.
pub(crate) fn reservation(versions: &Path, version: Version) -> Path {
    child(versions, &format!("{version}.reserved"))
}

/// The model whose directory is called so.
pub(crate) fn name(directory: &str) -> Option<ModelName> {
    let name = percent_decode_str(directory).decode_utf8().ok()?;
    ModelName::new(name).ok()
}

/// The model and the meaning of an object below `root`; `None` for packages, history and what is not ours.
pub(crate) fn meaning(root: &Path, path: &Path) -> Option<(ModelName, Meaning)> {
    let parts: Vec<_> = path.prefix_match(root)?.collect();
    let [model, kind, object] = parts.as_slice() else {
        return None;
    };
    let name = name(model.as_ref())?;
    let object = object.as_ref();
    let meaning = match kind.as_ref() {
        "versions" => Meaning::Version(object.strip_suffix(".json")?.parse().ok()?),
        "stages" => Meaning::Stage(object.parse().ok()?),
        "aliases" => Meaning::Alias(Alias::new(object).ok()?),
        _ => return None,
    };
    Some((name, meaning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_file_system() {
        let root = Path::from("a/registry");
        for name in ["iris", "fraud v2.1", "größe", "a@b", "50%"] {
            let name = ModelName::new(name).unwrap();
            let path = child(&child(&model(&root, &name), "aliases"), "champion");
            let alias = Meaning::Alias(Alias::new("champion").unwrap());
            assert_eq!(meaning(&root, &path), Some((name, alias)), "{path}");
        }
    }

    #[test]
    fn what_is_in_packages_and_history_means_nothing() {
        let root = Path::from("r");
        for path in [
            "r/iris/versions/1/MLmodel",
            "r/iris/versions/1.reserved",
            "r/iris/history/1.json",
            "r/x",
            "r/iris/stages/Prod",
            "other/iris/stages/Production",
        ] {
            assert_eq!(meaning(&root, &Path::from(path)), None, "{path}");
        }
    }
}
