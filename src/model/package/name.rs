//! Which model and version a package is.

use std::io;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode;
use serde::Deserialize;

use super::confine::Confined;
use super::discover::is_onnx;
use super::error::PackageError;
use crate::model::manifest::parse_yaml;
use crate::model::{ModelId, ModelName, Version, real_path, small_file};

/// What a registry client writes beside the manifest: which model and version the package is.
pub(crate) const META: &str = "registered_model_meta";

/// Where a registry of files keeps the versions of a model: `NAME/versions/3/` beside `NAME/versions/3.json`.
const REGISTERED: &str = "versions";

/// A name and a version take less.
const MAX_BYTES: u64 = 64 << 10;

/// What MLflow's client writes into a package that it downloads from a registry.
#[derive(Deserialize)]
struct RegisteredMeta {
    model_name: Option<String>,
    model_version: Option<String>,
}

/// The registry's name and version, else what the path says; `chosen` replaces the name.
pub(crate) fn identify(
    path: &Path,
    root: &Confined,
    is_package: bool,
    chosen: Option<ModelName>,
) -> Result<ModelId, PackageError> {
    let meta = if is_package { registered(root)? } else { None };
    let (path_name, path_version) = from_path(path, root.path());
    let refuse = |error| PackageError::Name {
        path: path.to_owned(),
        error,
    };
    let meta_name = meta.as_ref().and_then(|meta| meta.model_name.clone());
    let name = match chosen {
        Some(name) => name,
        None => ModelName::new(meta_name.unwrap_or(path_name)).map_err(refuse)?,
    };
    let version = match meta.and_then(|meta| meta.model_version) {
        Some(version) => version.parse().map_err(refuse)?,
        None => path_version,
    };
    Ok(ModelId { name, version })
}

/// As [`identify`], for what may be broken.
pub(crate) fn presume(path: &Path, chosen: Option<&ModelName>) -> ModelId {
    let root = real_path(path).unwrap_or_else(|_| path.to_owned());
    let root = Confined::new(root);
    if let Ok(id) = identify(path, &root, path.is_dir(), chosen.cloned()) {
        return id;
    }
    let (name, version) = from_path(path, root.path());
    let name = chosen.cloned().unwrap_or_else(|| ModelName::nearest(&name));
    ModelId { name, version }
}

fn registered(root: &Confined) -> Result<Option<RegisteredMeta>, PackageError> {
    let file = match root.file("registry note", Path::new(META)) {
        Ok(file) => file,
        Err(PackageError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let invalid = |reason: String| PackageError::RegisteredMeta {
        path: file.clone(),
        reason,
    };
    let text = small_file::read(&file, MAX_BYTES).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => invalid(format!("it {error}")),
        _ => PackageError::io(&file)(error),
    })?;
    let text = String::from_utf8(text).map_err(|_| invalid("it is not UTF-8 text".to_owned()))?;
    let parsed = parse_yaml(&text).map(Some);
    parsed.map_err(|error| invalid(error.to_string()))
}

/// Name and version from `name/`, `name/3/`, `name/3/model.onnx` or `name.onnx`.
fn from_path(path: &Path, root: &Path) -> (String, Version) {
    let path = absolute(path);
    if is_onnx(&path) && !path.is_dir() {
        let directory = path.parent().unwrap_or(root);
        let is_tree = path.file_name().is_some_and(|name| name == "model.onnx");
        return match numbered(directory) {
            Some(id) if is_tree => id,
            _ => (text(path.file_stem()), Version(1)),
        };
    }
    numbered(&path).unwrap_or_else(|| (text(path.file_name()), Version(1)))
}

/// The path with the names that the user chose, where they say something; else with links and dots resolved.
fn absolute(path: &Path) -> PathBuf {
    let lexical = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let climbs = lexical.components().any(|part| part.as_os_str() == "..");
    match real_path(path) {
        Ok(resolved) if climbs => resolved,
        _ => lexical,
    }
}

/// Name and version of a directory whose own name is a number; in a registry of files the name is one directory further
/// up, percent-encoded.
fn numbered(directory: &Path) -> Option<(String, Version)> {
    let number = directory.file_name()?.to_str()?;
    let version = number.parse().ok()?;
    let above = directory.parent()?;
    if above.file_name()? == REGISTERED && above.join(format!("{number}.json")).is_file() {
        let name = above.parent()?.file_name()?.as_encoded_bytes();
        let name = percent_decode(name).decode_utf8_lossy().into_owned();
        return Some((name, version));
    }
    Some((text(above.file_name()), version))
}

fn text(name: Option<&std::ffi::OsStr>) -> String {
    name.map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
