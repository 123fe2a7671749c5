//! The files of a package as a seal sees them: each by its own digest, and none by a link.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::SEAL;
use super::error::{SealError, SealProblem};
use crate::model::real_path;
use crate::model::small_file;

/// What `model_signing` leaves out.
pub(super) const GIT: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// As many as a package may have.
const MAX_FILES: usize = 100_000;

/// Directories inside each other.
const MAX_DEPTH: usize = 64;

/// Files by name, `/` between the parts, each with its SHA-256.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) files: BTreeMap<String, String>,
}

struct Walk<'a> {
    root: &'a Path,
    ignored: BTreeSet<PathBuf>,
    listing: Listing,
    chunk: Vec<u8>,
}

impl Listing {
    /// Reads all files of `root` but the seal, those of Git, and what is below the paths in `ignored`.
    ///
    /// The inner error is about what the directory holds, the outer one about reading it.
    pub(super) fn new(
        root: &Path,
        seal: &Path,
        ignored: &[PathBuf],
    ) -> Result<Result<Self, SealProblem>, SealError> {
        let root = real_path(root).map_err(io_error(root))?;
        let mut ignored: BTreeSet<PathBuf> = ignored.iter().cloned().collect();
        ignored.extend(GIT.map(PathBuf::from));
        ignored.insert(PathBuf::from(SEAL));
        let seal = real_path(seal).ok();
        let inside = seal
            .as_deref()
            .and_then(|seal| seal.strip_prefix(&root).ok());
        ignored.extend(inside.map(Path::to_owned));
        let mut walk = Walk {
            root: &root,
            ignored,
            listing: Self::default(),
            chunk: vec![0; 128 * 1024],
        };
        match walk.directory(Path::new(""), 0) {
            Ok(()) => Ok(Ok(walk.listing)),
            Err(Stop::Problem(problem)) => Ok(Err(problem)),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    pub(super) fn names(self) -> BTreeSet<String> {
        self.files.into_keys().collect()
    }
}

enum Stop {
    Problem(SealProblem),
    Error(SealError),
}

impl Walk<'_> {
    fn directory(&mut self, relative: &Path, depth: usize) -> Result<(), Stop> {
        let path = self.root.join(relative);
        if depth > MAX_DEPTH {
            return Err(refuse(relative, "has too many directories above it"));
        }
        for entry in fs::read_dir(&path).map_err(|error| stop(&path, error))? {
            let entry = entry.map_err(|error| stop(&path, error))?;
            let relative = relative.join(entry.file_name());
            if self.ignored.contains(&relative) {
                continue;
            }
            let kind = entry.file_type().map_err(|error| stop(&path, error))?;
            if kind.is_dir() {
                self.directory(&relative, depth + 1)?;
            } else if kind.is_file() {
                self.file(&relative)?;
            } else {
                return Err(refuse(&relative, "is a link or a special file"));
            }
        }
        Ok(())
    }

    fn file(&mut self, relative: &Path) -> Result<(), Stop> {
        let parts: Option<Vec<&str>> = relative.iter().map(|part| part.to_str()).collect();
        let Some(parts) = parts else {
            return Err(refuse(relative, "has a name that is not UTF-8"));
        };
        if self.listing.files.len() == MAX_FILES {
            return Err(refuse(relative, "is one file too many"));
        }
        let path = self.root.join(relative);
        let digest = digest(&path, &mut self.chunk).map_err(|error| stop(&path, error))?;
        self.listing.files.insert(parts.join("/"), digest);
        Ok(())
    }
}

fn refuse(relative: &Path, reason: &str) -> Stop {
    Stop::Problem(SealProblem::Files(format!(
        "`{}` {reason}",
        relative.display()
    )))
}

fn stop(path: &Path, error: io::Error) -> Stop {
    Stop::Error(io_error(path)(error))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> SealError + '_ {
    |error| SealError::Io {
        path: path.to_owned(),
        error,
    }
}

fn digest(path: &Path, chunk: &mut [u8]) -> io::Result<String> {
    let mut file = small_file::open(path)?;
    let mut hash = Sha256::new();
    loop {
        match file.read(chunk) {
            Ok(0) => return Ok(hex::encode(hash.finalize())),
            Ok(count) => hash.update(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
