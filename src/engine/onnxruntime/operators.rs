//! Libraries of custom operators, such as those of `onnxruntime-extensions`.
//!
//! A library is native code in this process, so a package can never bring one: the operator's configuration names the
//! file and its SHA-256. What is hashed is what is loaded: the file is copied into a private one on the way.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use ort::session::builder::SessionBuilder;
use sha2::{Digest, Sha256};
use tempfile::TempPath;

use crate::model::Graph;

/// A library that the operator trusts. Written `PATH@sha256:HEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorLibrary {
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// Why a text names no [`OperatorLibrary`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid library of custom operators `{0}`: expected its path and digest, such as `/opt/lib/operators.so@sha256:2cf2…` (64 digits, as `sha256sum` prints them)"
)]
pub struct OperatorLibraryError(String);

impl FromStr for OperatorLibrary {
    type Err = OperatorLibraryError;

    fn from_str(text: &str) -> Result<Self, OperatorLibraryError> {
        let invalid = || OperatorLibraryError(text.escape_debug().to_string());
        let (path, digest) = text.rsplit_once("@sha256:").ok_or_else(invalid)?;
        let is_hex = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if path.is_empty() || !is_hex {
            return Err(invalid());
        }
        Ok(Self {
            path: PathBuf::from(path),
            sha256: digest.to_ascii_lowercase(),
        })
    }
}

/// Checked copies of the libraries, removed when the last session has gone.
#[derive(Debug, Clone, Default)]
pub(super) struct Operators(Arc<Vec<TempPath>>);

impl Operators {
    /// Copies and checks the libraries.
    ///
    /// # Errors
    /// One sentence: which library, what is wrong with it.
    pub(super) fn obtain(libraries: &[OperatorLibrary]) -> Result<Self, String> {
        let copies: Result<Vec<TempPath>, String> = libraries.iter().map(copy).collect();
        copies.map(|copies| Self(Arc::new(copies)))
    }

    /// Makes the operators known to a session.
    pub(super) fn register(&self, mut builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        for library in self.0.iter() {
            builder = builder.with_operator_library(library)?;
        }
        Ok(builder)
    }
}

fn copy(library: &OperatorLibrary) -> Result<TempPath, String> {
    let shown = library.path.display();
    let cannot = |what: &str, error: std::io::Error| {
        format!("the library of custom operators `{shown}` cannot be {what}: {error}")
    };
    let mut file = File::open(&library.path).map_err(|error| cannot("read", error))?;
    let made = tempfile::Builder::new()
        .prefix("onstage-operators-")
        .suffix(".so")
        .tempfile();
    let mut copy = made.map_err(|error| cannot("copied to a private file", error))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = file
            .read(&mut chunk)
            .map_err(|error| cannot("read", error))?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        let written = copy.write_all(&chunk[..read]);
        written.map_err(|error| cannot("copied to a private file", error))?;
    }
    let found = hex::encode(hash.finalize());
    if found != library.sha256 {
        return Err(format!(
            "the library of custom operators `{shown}` has SHA-256 `{found}`, `engine.custom_operators` says `{}`: it \
             is another file than the one that was trusted",
            library.sha256
        ));
    }
    Ok(copy.into_temp_path())
}

/// Operators that ONNX Runtime itself never has, with their domains; most libraries of operators bring their own domain.
pub(super) fn foreign(graph: &Graph) -> Option<String> {
    let known = |domain: &str| {
        let own = ["", "ai.onnx", "org.pytorch.aten", "com.intel.ai"];
        let families = [
            "ai.onnx.ml",
            "ai.onnx.training",
            "ai.onnx.preview",
            "com.microsoft",
            "com.ms",
        ];
        let of_family = |family: &&str| {
            let rest = domain.strip_prefix(*family);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        own.contains(&domain) || families.iter().any(of_family)
    };
    let operators = graph.operators.keys();
    let foreign: BTreeSet<String> = operators
        .filter(|operator| !known(&operator.0) && !graph.functions.contains(operator))
        .map(|(domain, name)| format!("`{domain}.{name}`"))
        .collect();
    if foreign.is_empty() {
        return None;
    }
    let names: Vec<String> = foreign.into_iter().collect();
    Some(format!(
        "it needs the custom operators {}: name the library that has them, and its SHA-256, in `engine.custom_operators`",
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(content: &[u8], digest: &str) -> (tempfile::TempDir, OperatorLibrary) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("operators.so");
        std::fs::write(&path, content).unwrap();
        let text = format!("{}@sha256:{digest}", path.display());
        (directory, text.parse().unwrap())
    }

    const OF_ABC: &str = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";

    #[test]
    fn what_is_checked_is_what_is_loaded() {
        let (_directory, library) = library(b"abc", OF_ABC);
        let operators = Operators::obtain(std::slice::from_ref(&library)).unwrap();
        std::fs::write(&library.path, "changed afterwards").unwrap();
        assert_eq!(std::fs::read(&operators.0[0]).unwrap(), b"abc");
        let copy = operators.0[0].to_path_buf();
        drop(operators);
        assert!(!copy.exists(), "the copy goes with its last user");
    }

    #[test]
    fn another_file_is_refused_with_both_digests() {
        let (_directory, library) = library(b"abd", OF_ABC);
        let error = Operators::obtain(&[library]).unwrap_err();
        assert!(error.contains(&OF_ABC.to_lowercase()), "{error}");
        assert!(
            error.contains(
                "has SHA-256 `a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9`"
            ),
            "{error}"
        );
        let missing = OperatorLibrary {
            path: "/nowhere/x.so".into(),
            sha256: OF_ABC.to_lowercase(),
        };
        let error = Operators::obtain(&[missing]).unwrap_err();
        assert!(error.contains("`/nowhere/x.so` cannot be read"), "{error}");
    }

    #[test]
    fn a_path_without_a_digest_is_no_library() {
        for text in [
            "/opt/x.so",
            "@sha256:00",
            "/opt/x.so@sha256:12",
            "/opt/x.so@md5:00",
        ] {
            let error = text.parse::<OperatorLibrary>().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
