//! Where libonnxruntime is looked for. Only paths are tried: no program is run, nothing is loaded from the current
//! directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The parts of the process's surroundings that decide where the library may be.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `ORT_DYLIB_PATH`.
    pub ort_dylib_path: Option<OsString>,
    /// `VIRTUAL_ENV`.
    pub virtual_env: Option<OsString>,
    /// `CONDA_PREFIX`.
    pub conda_prefix: Option<OsString>,
    /// `HOME`.
    pub home: Option<OsString>,
    /// The directory of the running program.
    pub executable_dir: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process; empty variables count as unset.
    pub fn of_process() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            ort_dylib_path: variable("ORT_DYLIB_PATH"),
            virtual_env: variable("VIRTUAL_ENV"),
            conda_prefix: variable("CONDA_PREFIX"),
            home: variable("HOME"),
            executable_dir: std::env::current_exe()
                .ok()
                .and_then(|path| path.parent().map(Path::to_owned)),
        }
    }
}

/// One place to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Why it is looked at.
    pub(super) origin: &'static str,
    /// The directory or file, for messages.
    pub(super) path: PathBuf,
    /// The libraries there, newest first.
    pub(super) candidates: Vec<PathBuf>,
    /// Whether the operator named this very file: then nothing else is tried.
    pub(super) explicit: bool,
}

/// The usual homes of Python environments, beside the active ones.
const PREFIXES: [&str; 5] = [
    "/usr/local",
    "/usr",
    "/opt/venv",
    "/opt/conda",
    "/opt/onnxruntime",
];

const SYSTEM_DIRECTORIES: [&str; 7] = [
    "/usr/local/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/opt/onnxruntime/lib",
    "/opt/homebrew/lib",
];

/// Every place, in the order in which it is tried.
pub(super) fn places(configured: Option<&Path>, surroundings: &Surroundings) -> Vec<Place> {
    if let Some(path) = configured {
        return vec![explicit("`engine.libonnxruntime`", path)];
    }
    if let Some(path) = &surroundings.ort_dylib_path {
        return vec![explicit("`ORT_DYLIB_PATH`", Path::new(path))];
    }
    let mut places = Vec::new();
    if let Some(dir) = &surroundings.executable_dir {
        places.push(directory("beside the executable", dir.clone()));
        places.push(directory("beside the executable", dir.join("../lib")));
    }
    let active = [
        ("`VIRTUAL_ENV`", &surroundings.virtual_env),
        ("`CONDA_PREFIX`", &surroundings.conda_prefix),
    ];
    for (origin, prefix) in active {
        if let Some(prefix) = prefix {
            places.push(python(origin, Path::new(prefix)));
        }
    }
    if let Some(home) = &surroundings.home {
        places.push(python("Python", &Path::new(home).join(".local")));
        let versions = Path::new(home).join(".pyenv/versions");
        places.extend(
            sorted_entries(&versions)
                .iter()
                .map(|version| python("Python", version)),
        );
    }
    places.extend(
        PREFIXES
            .iter()
            .map(|prefix| python("Python", Path::new(prefix))),
    );
    places.extend(
        SYSTEM_DIRECTORIES
            .iter()
            .map(|dir| directory("system library folder", PathBuf::from(dir))),
    );
    places
}

fn explicit(origin: &'static str, path: &Path) -> Place {
    Place {
        origin,
        path: path.to_owned(),
        candidates: vec![path.to_owned()],
        explicit: true,
    }
}

fn directory(origin: &'static str, path: PathBuf) -> Place {
    let candidates = libraries_in(&path);
    Place {
        origin,
        path,
        candidates,
        explicit: false,
    }
}

/// `lib/python3*/{site,dist}-packages/onnxruntime/capi` below a prefix.
fn python(origin: &'static str, prefix: &Path) -> Place {
    let mut candidates = Vec::new();
    for version in sorted_entries(&prefix.join("lib")) {
        let is_python = version
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("python3"));
        if is_python {
            for packages in ["site-packages", "dist-packages"] {
                candidates.extend(libraries_in(
                    &version.join(packages).join("onnxruntime/capi"),
                ));
            }
        }
    }
    let path = prefix.join("lib/python3*/site-packages/onnxruntime/capi");
    Place {
        origin,
        path,
        candidates,
        explicit: false,
    }
}

/// `libonnxruntime.so*`, `libonnxruntime*.dylib` or `onnxruntime.dll` in a directory, newest version first.
fn libraries_in(dir: &Path) -> Vec<PathBuf> {
    let is_library = |path: &PathBuf| {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        name.starts_with("libonnxruntime.so") || name == "onnxruntime.dll" || {
            name.starts_with("libonnxruntime.")
                && path
                    .extension()
                    .is_some_and(|extension| extension == "dylib")
        }
    };
    let mut libraries: Vec<PathBuf> = sorted_entries(dir).into_iter().filter(is_library).collect();
    libraries.sort_by_key(|path| std::cmp::Reverse(version_of(path)));
    libraries
}

/// The numbers in a file name such as `libonnxruntime.so.1.32.0`.
pub(super) fn version_of(path: &Path) -> Vec<u32> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    name.split('.')
        .filter_map(|part| part.parse().ok())
        .collect()
}

fn sorted_entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }

    #[test]
    fn an_explicit_path_is_the_only_place() {
        let surroundings = Surroundings {
            ort_dylib_path: Some("/b.so".into()),
            ..Surroundings::default()
        };
        let configured = places(Some(Path::new("/a.so")), &surroundings);
        assert_eq!(configured.len(), 1);
        assert_eq!(
            (configured[0].candidates.as_slice(), configured[0].explicit),
            (&[PathBuf::from("/a.so")][..], true)
        );
        assert_eq!(places(None, &surroundings)[0].path, Path::new("/b.so"));
    }

    #[test]
    fn the_active_environment_comes_before_the_others_and_the_newest_library_first() {
        let dir = tempfile::tempdir().unwrap();
        let capi = dir
            .path()
            .join("venv/lib/python3.11/site-packages/onnxruntime/capi");
        touch(&capi.join("libonnxruntime.so.1.9.0"));
        touch(&capi.join("libonnxruntime.so.1.32.0"));
        touch(&capi.join("libonnxruntime_providers_shared.so"));
        touch(&dir.path().join("bin/libonnxruntime.so"));
        let surroundings = Surroundings {
            virtual_env: Some(dir.path().join("venv").into()),
            executable_dir: Some(dir.path().join("bin")),
            ..Surroundings::default()
        };
        let found: Vec<PathBuf> = places(None, &surroundings)
            .into_iter()
            .flat_map(|place| place.candidates)
            .collect();
        let expected = [
            dir.path().join("bin/libonnxruntime.so"),
            capi.join("libonnxruntime.so.1.32.0"),
            capi.join("libonnxruntime.so.1.9.0"),
        ];
        assert_eq!(found[..3], expected);
    }
}
