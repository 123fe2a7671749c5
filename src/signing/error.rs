//! What can be wrong with a seal, and with those who are to be believed.

use std::io;
use std::path::PathBuf;

/// Why a package is not vouched for.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is no seal.
    #[error(
        "package `{}` is not signed: there is neither `model.sig` inside nor `{}.sig` beside it; expected a signature by a trusted key",
        .0.display(),
        .0.file_name().unwrap_or_default().display()
    )]
    Unsigned(PathBuf),
    /// There is one, which does not hold.
    #[error("package `{}`: the signature `{}` {problem}", directory.display(), seal.display())]
    Bad {
        /// The package.
        directory: PathBuf,
        /// The seal.
        seal: PathBuf,
        /// What is wrong.
        problem: SealProblem,
    },
    /// A file cannot be read.
    #[error("cannot read `{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
}

impl SealError {
    /// The `reason` label of `onstage_candidate_failures_total`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unsigned(_) => "unsigned",
            Self::Bad { .. } | Self::Io { .. } => "bad_signature",
        }
    }
}

/// What is wrong with a seal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealProblem {
    /// A link, or a directory.
    #[error("is no regular file")]
    NotAFile,
    /// Too large.
    #[error("has more than {} MiB", limit >> 20)]
    Large {
        /// Bytes.
        limit: u64,
    },
    /// Neither kind.
    #[error(
        "cannot be read: expected the JSON of an OpenSSF model signature (a Sigstore bundle), or an Ed25519 signature in base64"
    )]
    Unreadable,
    /// JSON, but of another kind.
    #[error("is not an OpenSSF model signature: {0}")]
    Malformed(String),
    /// A form of the format that is not for us.
    #[error("uses {0}, which is not supported")]
    Unsupported(String),
    /// The bytes were not signed by the key that is named.
    #[error("does not verify: it was altered, or made by another key than it names")]
    Signature,
    /// A key that nobody trusts.
    #[error("is by the key `{hint}`, which is not trusted here")]
    UnknownKey {
        /// SHA-256 of its public half in PEM.
        hint: String,
    },
    /// A plain signature that no key has made.
    #[error(
        "was made by none of the trusted keys ({keys}, of which those of Ed25519 were tried), or the package was altered"
    )]
    Plain {
        /// How many.
        keys: usize,
    },
    /// The certificate is not that of a trusted signer.
    #[error("has a certificate that is not trusted: {0}")]
    Certificate(String),
    /// The files are not those that were signed.
    #[error("does not agree with the files: {0}")]
    Files(String),
    /// A file that is loaded and was left out.
    #[error("does not cover `{}`, which the model is loaded from", .0.display())]
    Uncovered(PathBuf),
    /// The files cannot be digested.
    #[error("cannot be compared: {0}")]
    Package(String),
}

/// Why nobody can be believed, or nothing signed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// The file holds something else.
    #[error("`{}` {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, what was expected.
        problem: String,
    },
}

impl TrustError {
    pub(super) fn content(path: &std::path::Path, problem: impl Into<String>) -> Self {
        Self::Content {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
