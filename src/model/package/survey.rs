//! What there is to serve below a path, the broken beside the good: one that cannot be read must be shown, and must not
//! hide the others.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::discover::{Directory, inspect, is_onnx, sort_key};
use super::entries::version_of;
use super::error::PackageError;
use super::triton::VersionPolicy;

/// The file name that says nothing about a model.
const USUAL: &str = "model.onnx";

/// What a TARGET stands for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Packages, and what only should be one. None of them has been opened.
    pub packages: Vec<PathBuf>,
    /// Directories that nothing makes look like a model.
    pub passed_over: Vec<PathBuf>,
}

/// A directory in a directory of packages.
enum Child {
    /// It was removed meanwhile.
    Gone,
    /// One package, or several versions of one model.
    Packages(Vec<PathBuf>),
    /// It should have been one.
    Broken,
    /// Something else.
    Other,
}

/// As [`discover`](super::discover), but what cannot be read is among the packages.
///
/// # Errors
/// [`PackageError`] when nothing is there, or `target` itself cannot be read.
pub fn survey(target: &Path) -> Result<Survey, PackageError> {
    let only = |path: &Path| Survey {
        packages: vec![path.to_owned()],
        passed_over: Vec::new(),
    };
    if !inspect(target)?.is_dir {
        return if is_onnx(target) {
            Ok(only(target))
        } else {
            Err(PackageError::NotAModel(target.to_owned()))
        };
    }
    let directory = Directory::read(target)?;
    if directory.has_manifest {
        return Ok(only(target));
    }
    let versions = versions(target, &directory);
    if !versions.is_empty() {
        let passed_over = directory.directories.iter();
        let passed_over = passed_over.filter(|name| version_of(Some(name)).is_none());
        return Ok(Survey {
            packages: versions,
            passed_over: passed_over.map(|name| target.join(name)).collect(),
        });
    }
    let mut survey = Survey::default();
    let mut broken: Vec<PathBuf> = join(target, &directory.dead_links);
    for path in join(target, &directory.directories) {
        match child(&path) {
            Child::Gone => {}
            Child::Packages(packages) => survey.packages.extend(packages),
            Child::Broken => broken.push(path),
            Child::Other => survey.passed_over.push(path),
        }
    }
    if survey.packages.is_empty()
        && let [file] = directory.onnx_files.as_slice()
        // What is broken beside it must not take its name away.
        && (broken.is_empty() || file == USUAL)
    {
        return Ok(only(target));
    }
    survey.packages.extend(join(target, &directory.onnx_files));
    survey.packages.extend(broken);
    if survey.packages.is_empty() {
        return Err(directory.nothing_found());
    }
    survey.packages.sort_by_cached_key(|path| sort_key(path));
    Ok(survey)
}

fn join(path: &Path, names: &[OsString]) -> Vec<PathBuf> {
    names.iter().map(|name| path.join(name)).collect()
}

fn child(path: &Path) -> Child {
    let directory = match Directory::read(path) {
        Ok(directory) => directory,
        Err(PackageError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            return Child::Gone;
        }
        Err(_) => return Child::Broken,
    };
    if directory.has_manifest {
        return Child::Packages(vec![path.to_owned()]);
    }
    let versions = versions(path, &directory);
    match directory.onnx_files.len() {
        _ if !versions.is_empty() => Child::Packages(versions),
        1 => Child::Packages(vec![path.to_owned()]),
        0 if directory.is_empty() || holds_misnamed_versions(path, &directory) => Child::Broken,
        0 => Child::Other,
        _ => Child::Broken,
    }
}

/// The versions of a tree, lowest first. What has a version's name is one, whatever it holds, as soon as one of them holds
/// a model; numbers alone make no tree, unless nothing is in them: then the files have yet to come.
fn versions(path: &Path, directory: &Directory) -> Vec<PathBuf> {
    let numbered = |names: &[OsString]| {
        let names = names.iter();
        let numbered = names.filter_map(|name| Some((version_of(Some(name))?, path.join(name))));
        numbered.collect::<Vec<_>>()
    };
    let directories = numbered(&directory.directories);
    let read: Vec<_> = directories
        .iter()
        .map(|(_, path)| Directory::read(path))
        .collect();
    let is_tree = read
        .iter()
        .any(|read| read.as_ref().is_ok_and(Directory::holds_model));
    let is_empty =
        |read: &Result<Directory, PackageError>| read.as_ref().map_or(true, Directory::is_empty);
    let may_become_one = directory.onnx_files.is_empty() && read.iter().all(is_empty);
    if !is_tree && !may_become_one {
        return Vec::new();
    }
    let mut versions = directories;
    if is_tree {
        versions.extend(numbered(&directory.dead_links));
        versions.extend(numbered(&directory.others));
    }
    versions.sort();
    VersionPolicy::read(path).chosen(path, versions)
}

/// `fraud/v1/model.onnx`, where `fraud/1/model.onnx` was meant.
fn holds_misnamed_versions(path: &Path, directory: &Directory) -> bool {
    join(path, &directory.directories)
        .iter()
        .any(|path| Directory::read(path).is_ok_and(|directory| directory.holds_model()))
}

impl Directory {
    fn is_empty(&self) -> bool {
        let Self {
            directories,
            dead_links,
            others,
            ..
        } = self;
        !self.holds_model() && directories.is_empty() && dead_links.is_empty() && others.is_empty()
    }
}
