//! Where the ONNX Runtime library may be, and in which order to try.
//!
//! By path only: no program is run to find it and nothing is taken from the current directory.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// How a library came to be looked for in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// `--libonnxruntime` or `engine.libonnxruntime`.
    Configuration,
    /// The environment variable `ORT_DYLIB_PATH`.
    Variable,
    /// The executable's own folder, or `../lib` from there.
    Executable,
    /// A Python package `onnxruntime`.
    Python,
    /// The system's library folders.
    System,
}

impl Origin {
    /// Whether the operator named the place, so that failing there is an error.
    pub fn is_explicit(self) -> bool {
        matches!(self, Self::Configuration | Self::Variable)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configuration => "configuration",
            Self::Variable => "`ORT_DYLIB_PATH`",
            Self::Executable => "beside the executable",
            Self::Python => "Python package",
            Self::System => "system library",
        })
    }
}

/// What the look-up depends on. Taken from the process once, so that tests need not change the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The configured path: a library or a folder that holds one.
    pub configured: Option<PathBuf>,
    /// `ORT_DYLIB_PATH`; a relative path counts from the executable's folder.
    pub variable: Option<PathBuf>,
    /// The folder of the running executable.
    pub executable: Option<PathBuf>,
    /// Prefixes of Python installations, in order; `*` as the last part stands for each entry. Relative ones are
    /// ignored.
    pub prefixes: Vec<PathBuf>,
    /// The system's library folders.
    pub system: Vec<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process(configured: Option<PathBuf>) -> Self {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let executable = env::current_exe().ok();
        let executable = executable.and_then(|file| file.parent().map(Path::to_owned));
        Self {
            configured,
            variable: set("ORT_DYLIB_PATH").map(PathBuf::from),
            prefixes: own_prefix(executable.as_deref())
                .into_iter()
                .chain(prefixes(set))
                .collect(),
            executable,
            system: system_folders(),
        }
    }
}

/// The Python environment that the program was installed into, active or not: `pip install` and `uvx` put the program
/// into its `bin`, or `Scripts` on Windows.
fn own_prefix(executable: Option<&Path>) -> Option<PathBuf> {
    let scripts = executable?;
    let is_scripts = scripts.ends_with("bin") || scripts.ends_with("Scripts");
    is_scripts.then(|| scripts.parent().map(Path::to_owned))?
}

fn prefixes(set: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(&set);
    let mut prefixes: Vec<PathBuf> = active.map(PathBuf::from).collect();
    if let Some(home) = set("HOME")
        .or_else(|| set("USERPROFILE"))
        .map(PathBuf::from)
    {
        prefixes.push(home.join(".local"));
        prefixes.push(home.join(".pyenv/versions/*"));
        for conda in ["miniconda3", "anaconda3", "miniforge3"] {
            prefixes.push(home.join(conda));
        }
    }
    let fixed = [
        "/opt/venv",
        "/opt/conda",
        "/usr/local",
        "/usr",
        "/opt/homebrew",
    ];
    prefixes.extend(fixed.map(PathBuf::from));
    prefixes
}

fn system_folders() -> Vec<PathBuf> {
    let multiarch = format!("{}-linux-gnu", env::consts::ARCH);
    [
        "/usr/local/lib".to_owned(),
        "/usr/local/lib64".to_owned(),
        format!("/usr/lib/{multiarch}"),
        "/usr/lib64".to_owned(),
        "/usr/lib".to_owned(),
        "/opt/homebrew/lib".to_owned(),
    ]
    .map(PathBuf::from)
    .to_vec()
}

/// One place to look in, and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Why it is looked in.
    pub origin: Origin,
    /// The file or folder.
    pub path: PathBuf,
    /// The libraries there, newest first.
    pub libraries: Vec<PathBuf>,
}

/// Every place, in the order in which to try. Reads folders, loads nothing. A path that the operator named is the only
/// place: nothing else is tried when it does not work.
pub fn look_up(surroundings: &Surroundings) -> Vec<Place> {
    if let Some(path) = &surroundings.configured {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        return vec![named(Origin::Configuration, path)];
    }
    if let Some(path) = &surroundings.variable {
        let path = match &surroundings.executable {
            Some(folder) => folder.join(path),
            None => path.clone(),
        };
        return vec![named(Origin::Variable, path)];
    }
    let beside = surroundings.executable.iter().flat_map(|folder| {
        let lib = folder.parent().map(|parent| parent.join("lib"));
        std::iter::once(folder.clone()).chain(lib)
    });
    let packages = surroundings
        .prefixes
        .iter()
        .flat_map(|prefix| packages(prefix));
    let mut places: Vec<Place> = beside
        .map(|folder| (Origin::Executable, folder))
        .chain(packages.map(|folder| (Origin::Python, folder)))
        .chain(
            surroundings
                .system
                .iter()
                .map(|folder| (Origin::System, folder.clone())),
        )
        .map(|(origin, path)| Place {
            origin,
            libraries: libraries(&path),
            path,
        })
        .collect();
    forget_repeats(&mut places);
    places
}

fn named(origin: Origin, path: PathBuf) -> Place {
    let libraries = if path.is_dir() {
        libraries(&path)
    } else if path.is_file() {
        vec![path.clone()]
    } else {
        vec![]
    };
    Place {
        origin,
        path,
        libraries,
    }
}

/// A library that two places lead to belongs to the first.
fn forget_repeats(places: &mut [Place]) {
    let mut seen = Vec::new();
    for place in places {
        place.libraries.retain(|library| {
            let real = library.canonicalize().unwrap_or_else(|_| library.clone());
            let new = !seen.contains(&real);
            seen.push(real);
            new
        });
    }
}

/// The folders under a Python prefix that hold the package's libraries; the pattern itself where there is none, so
/// that a report can tell what was looked for.
fn packages(prefix: &Path) -> Vec<PathBuf> {
    if !prefix.is_absolute() {
        return vec![];
    }
    let prefixes = if prefix.ends_with("*") {
        entries(prefix.parent().unwrap_or(prefix), |_| true)
    } else {
        vec![prefix.to_owned()]
    };
    let mut found: Vec<PathBuf> = Vec::new();
    for prefix in &prefixes {
        let pythons = ["lib", "lib64"].map(|lib| prefix.join(lib));
        let pythons = pythons
            .iter()
            .flat_map(|lib| entries(lib, |name| name.starts_with("python3")));
        let sites = pythons
            .flat_map(|python| ["site-packages", "dist-packages"].map(|site| python.join(site)))
            .chain([prefix.join("Lib").join("site-packages")]);
        found.extend(
            sites
                .map(|site| site.join("onnxruntime").join("capi"))
                .filter(|folder| folder.is_dir()),
        );
    }
    if found.is_empty() {
        found.push(prefix.join("lib/python3*/site-packages/onnxruntime/capi"));
    }
    found
}

/// The entries of a folder whose name fits, in descending order of the numbers in their names.
fn entries(folder: &Path, fits: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let read = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = read
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| fits(name))
        .collect();
    names.sort_by_cached_key(|name| std::cmp::Reverse((numbers(name), name.clone())));
    names.into_iter().map(|name| folder.join(name)).collect()
}

fn libraries(folder: &Path) -> Vec<PathBuf> {
    let mut found = entries(folder, is_library);
    // A name without a version is mostly a link to one with a version.
    found.sort_by_cached_key(|library| std::cmp::Reverse(version_of(library)));
    found.retain(|library| library.is_file());
    found
}

fn is_library(name: &str) -> bool {
    name == "libonnxruntime.so"
        || name.starts_with("libonnxruntime.so.")
        || name == "onnxruntime.dll"
        || name == "libonnxruntime.dylib"
        || (name.starts_with("libonnxruntime.") && name.ends_with(".dylib"))
}

/// The version in the name of a library or of the file that it links to: `[1, 32, 0]`; empty when there is none.
pub fn version_of(library: &Path) -> Vec<u64> {
    let own = version_in(library);
    // `libonnxruntime.so.1` tells less than what it links to.
    if own.len() > 1 {
        return own;
    }
    let real = library.canonicalize().map(|real| version_in(&real));
    real.unwrap_or_default().max(own)
}

fn version_in(library: &Path) -> Vec<u64> {
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    if is_library(&name) {
        numbers(&name)
    } else {
        vec![]
    }
}

fn numbers(name: &str) -> Vec<u64> {
    let digits = name.split(|character: char| !character.is_ascii_digit());
    digits.filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, file: &str) -> PathBuf {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"").unwrap();
        path
    }

    fn found(surroundings: &Surroundings) -> Vec<(Origin, PathBuf)> {
        let places = look_up(surroundings).into_iter();
        places
            .flat_map(|place| {
                place
                    .libraries
                    .into_iter()
                    .map(move |file| (place.origin, file))
            })
            .collect()
    }

    #[test]
    fn the_environment_that_the_program_was_installed_into_is_a_prefix() {
        let of = |folder: &str| own_prefix(Some(Path::new(folder)));
        assert_eq!(of("/venvs/serving/bin"), Some("/venvs/serving".into()));
        assert_eq!(of("/venvs/serving/Scripts"), Some("/venvs/serving".into()));
        assert_eq!(of("/src/target/release"), None);
        assert_eq!(own_prefix(None), None);
    }

    #[test]
    fn places_come_in_the_documented_order_and_the_newest_library_first() {
        let root = tempfile::tempdir().unwrap();
        let capi = "lib/python3.9/site-packages/onnxruntime/capi";
        let beside = touch(root.path(), "bin/libonnxruntime.so");
        let lib = touch(root.path(), "lib/libonnxruntime.so.1.25.0");
        let old = touch(root.path(), &format!("venv/{capi}/libonnxruntime.so.1.9.2"));
        let new = touch(
            root.path(),
            &format!("venv/{capi}/libonnxruntime.so.1.32.0"),
        );
        touch(
            root.path(),
            &format!("venv/{capi}/libonnxruntime_providers_shared.so"),
        );
        let debian = "usr/lib/python3/dist-packages/onnxruntime/capi/libonnxruntime.so.1.30.0";
        let debian = touch(root.path(), debian);
        let pyenv_new = touch(
            root.path(),
            &format!("pyenv/3.12.1/{capi}/libonnxruntime.so.1.28.0"),
        );
        let pyenv_old = touch(
            root.path(),
            &format!("pyenv/3.9.1/{capi}/libonnxruntime.so.1.28.0"),
        );
        let system = touch(root.path(), "system/libonnxruntime.so.1");
        let surroundings = Surroundings {
            executable: Some(root.path().join("bin")),
            prefixes: ["venv", "pyenv/*", "usr"]
                .map(|prefix| root.path().join(prefix))
                .to_vec(),
            system: vec![root.path().join("system")],
            ..Surroundings::default()
        };
        let expected = [
            (Origin::Executable, beside),
            (Origin::Executable, lib),
            (Origin::Python, new),
            (Origin::Python, old),
            (Origin::Python, pyenv_new),
            (Origin::Python, pyenv_old),
            (Origin::Python, debian),
            (Origin::System, system),
        ];
        assert_eq!(found(&surroundings), expected);
    }

    #[test]
    fn a_path_that_the_operator_named_is_the_only_place() {
        let root = tempfile::tempdir().unwrap();
        let configured = touch(root.path(), "a/libonnxruntime.so.1.32.0");
        let variable = touch(root.path(), "b/custom.so");
        let mut surroundings = Surroundings {
            configured: Some(root.path().join("a")),
            variable: Some(variable.clone()),
            system: vec![root.path().join("a")],
            ..Surroundings::default()
        };
        assert_eq!(found(&surroundings), [(Origin::Configuration, configured)]);
        surroundings.configured = None;
        assert_eq!(found(&surroundings), [(Origin::Variable, variable)]);
        surroundings.variable = Some(root.path().join("missing.so"));
        let places = look_up(&surroundings);
        assert_eq!(places.len(), 1);
        assert_eq!(places[0].libraries, [] as [PathBuf; 0]);
    }

    #[test]
    fn nothing_is_taken_from_the_current_directory() {
        let surroundings = Surroundings {
            prefixes: vec![".venv".into(), "".into()],
            ..Surroundings::default()
        };
        assert_eq!(look_up(&surroundings), []);
        let relative = Surroundings {
            variable: Some("libonnxruntime.so".into()),
            executable: Some("/opt/onstage/bin".into()),
            ..Surroundings::default()
        };
        let path = &look_up(&relative)[0].path;
        assert_eq!(path, Path::new("/opt/onstage/bin/libonnxruntime.so"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_and_its_target_are_one_library() {
        let root = tempfile::tempdir().unwrap();
        let target = touch(root.path(), "lib/libonnxruntime.so.1.32.0");
        let link = root.path().join("other/libonnxruntime.so");
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(version_of(&link), [1, 32, 0]);
        let surroundings = Surroundings {
            system: vec![root.path().join("lib"), root.path().join("other")],
            ..Surroundings::default()
        };
        assert_eq!(found(&surroundings), [(Origin::System, target)]);
    }

    #[test]
    fn libraries_of_every_system_are_known_by_name() {
        for name in [
            "libonnxruntime.so.1",
            "libonnxruntime.1.32.0.dylib",
            "onnxruntime.dll",
        ] {
            assert!(is_library(name), "{name}");
        }
        for name in [
            "libonnxruntime_providers_cuda.so",
            "onnxruntime.lib",
            "libonnx.so",
        ] {
            assert!(!is_library(name), "{name}");
        }
    }
}
