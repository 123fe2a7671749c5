//! Which packages a path stands for.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::MANIFEST;
use super::entries::{MAX_ENTRIES, is_foreign, version_of};
use super::error::PackageError;
use super::triton::VersionPolicy;
use crate::model::Version;

/// How alike two names must be for a "did you mean".
const SIMILAR: f64 = 0.8;

/// What a path is, links followed.
pub(crate) struct Found {
    pub(crate) is_dir: bool,
}

/// The entries of a directory that matter here, in order; [foreign ones](is_foreign) are left out.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    pub(crate) has_manifest: bool,
    pub(crate) onnx_files: Vec<OsString>,
    pub(super) directories: Vec<OsString>,
    /// Links that lead nowhere, or round in a circle.
    pub(super) dead_links: Vec<OsString>,
    pub(super) others: Vec<OsString>,
}

/// The packages that a TARGET stands for: itself, or each version of a `name/version/` tree, or each package in a
/// directory of packages.
///
/// # Errors
/// [`PackageError`] when there is none.
pub fn discover(target: &Path) -> Result<Vec<PathBuf>, PackageError> {
    if !inspect(target)?.is_dir {
        return if is_onnx(target) {
            Ok(vec![target.to_owned()])
        } else {
            Err(PackageError::NotAModel(target.to_owned()))
        };
    }
    let directory = Directory::read(target)?;
    if directory.has_manifest {
        return Ok(vec![target.to_owned()]);
    }
    let versions = directory.versions()?;
    if !versions.is_empty() {
        return Ok(versions);
    }
    let children = directory.children()?;
    if children.is_empty() && directory.onnx_files.len() == 1 {
        return Ok(vec![target.to_owned()]);
    }
    let files = directory.onnx_files.iter().map(|name| target.join(name));
    let mut packages: Vec<PathBuf> = files.chain(children).collect();
    if packages.is_empty() {
        return Err(directory.nothing_found());
    }
    packages.sort_by_cached_key(|path| sort_key(path));
    Ok(packages)
}

/// Versions sort by number, all else by name.
pub(super) fn sort_key(path: &Path) -> (Option<PathBuf>, Option<Version>, PathBuf) {
    match version_of(path.file_name()) {
        Some(version) => (
            path.parent().map(Path::to_owned),
            Some(version),
            path.to_owned(),
        ),
        None => (Some(path.to_owned()), None, path.to_owned()),
    }
}

/// A directory that was listed; `None` when it is gone since. One that cannot be read may hold the very version that is
/// wanted, so it is an error: to serve the others without a word would be worse.
pub(crate) fn still_there(
    read: Result<Directory, PackageError>,
) -> Result<Option<Directory>, PackageError> {
    match read {
        Ok(directory) => Ok(Some(directory)),
        Err(PackageError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the name ends like that of an ONNX model.
pub(crate) fn is_onnx(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// Looks at `path`; one that does not exist is an error with a suggestion.
pub(crate) fn inspect(path: &Path) -> Result<Found, PackageError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Found {
            is_dir: metadata.is_dir(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(PackageError::NotFound {
            path: path.to_owned(),
            similar: similar(path),
        }),
        Err(error) => Err(PackageError::io(path)(error)),
    }
}

/// The entry beside `path` whose name is most like its own.
fn similar(path: &Path) -> Option<PathBuf> {
    let wanted = path.file_name()?.to_str()?;
    let parent = path.parent()?;
    let listed = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let entries = fs::read_dir(listed).ok()?.flatten().take(10_000);
    let scored = entries.filter_map(|entry| {
        let name = entry.file_name().to_str()?.to_owned();
        let score = strsim::jaro_winkler(wanted, &name);
        (score >= SIMILAR).then_some((score, name))
    });
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1)));
    best.map(|(_, name)| parent.join(name))
}

impl Directory {
    pub(crate) fn read(path: &Path) -> Result<Self, PackageError> {
        let mut directory = Self {
            path: path.to_owned(),
            has_manifest: false,
            onnx_files: Vec::new(),
            directories: Vec::new(),
            dead_links: Vec::new(),
            others: Vec::new(),
        };
        let entries = fs::read_dir(path).map_err(PackageError::io(path))?;
        for (number, entry) in entries.enumerate() {
            if number == MAX_ENTRIES {
                return Err(PackageError::TooManyFiles {
                    root: path.to_owned(),
                    limit: MAX_ENTRIES,
                });
            }
            let name = entry.map_err(PackageError::io(path))?.file_name();
            if is_foreign(&name) {
                continue;
            }
            // Follows links, as Kubernetes makes them.
            let found = fs::metadata(path.join(&name));
            if name == MANIFEST {
                // Even if it is not a file: reading it reports what is wrong.
                directory.has_manifest = true;
            } else if found.as_ref().is_ok_and(fs::Metadata::is_dir) {
                directory.directories.push(name);
            } else if is_onnx(Path::new(&name)) {
                directory.onnx_files.push(name);
            } else if found.is_err() {
                directory.dead_links.push(name);
            } else {
                directory.others.push(name);
            }
        }
        directory.onnx_files.sort();
        directory.directories.sort();
        directory.dead_links.sort();
        directory.others.sort();
        Ok(directory)
    }

    pub(super) fn holds_model(&self) -> bool {
        self.has_manifest || !self.onnx_files.is_empty()
    }

    /// The version directories, lowest version first.
    fn versions(&self) -> Result<Vec<PathBuf>, PackageError> {
        let mut versions = Vec::new();
        for name in &self.directories {
            let Some(version) = version_of(Some(name)) else {
                continue;
            };
            let path = self.path.join(name);
            if still_there(Self::read(&path))?.is_some_and(|directory| directory.holds_model()) {
                versions.push((version, path));
            }
        }
        versions.sort();
        Ok(match versions.is_empty() {
            true => Vec::new(),
            false => VersionPolicy::read(&self.path).chosen(&self.path, versions),
        })
    }

    /// The packages, and the versions of the trees, one level below.
    fn children(&self) -> Result<Vec<PathBuf>, PackageError> {
        let mut children = Vec::new();
        for name in &self.directories {
            let path = self.path.join(name);
            let Some(directory) = still_there(Self::read(&path))? else {
                continue;
            };
            if directory.has_manifest {
                children.push(path);
                continue;
            }
            let versions = directory.versions()?;
            if versions.is_empty() && directory.onnx_files.len() == 1 {
                children.push(path);
            }
            children.extend(versions);
        }
        Ok(children)
    }

    pub(crate) fn nothing_found(&self) -> PackageError {
        let all = || {
            self.directories
                .iter()
                .chain(&self.dead_links)
                .chain(&self.others)
        };
        let names: Vec<String> = all()
            .take(5)
            .map(|name| format!("`{}`", name.to_string_lossy()))
            .collect();
        let rest = all().count() - names.len();
        let found = match (names.is_empty(), rest) {
            (true, _) => "nothing".to_owned(),
            (false, 0) => names.join(", "),
            (false, rest) => format!("{} and {rest} more", names.join(", ")),
        };
        PackageError::Nothing {
            path: self.path.clone(),
            found,
        }
    }
}
