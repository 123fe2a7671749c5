//! Secrets come from files, so that no process list or log shows them.

use std::path::Path;

/// Why a file gives no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// It cannot be read.
    #[error("cannot read {what}: {error}")]
    Read {
        /// The file, and the setting that names it.
        what: String,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// Nothing is in it.
    #[error("{0} is empty, expected a secret")]
    Empty(String),
}

/// The secret in `file`, which the setting `key` names where there is one to tell; a line break at its end is none of it.
///
/// # Errors
/// [`SecretError`].
pub(crate) fn read(key: Option<&str>, file: &Path) -> Result<String, SecretError> {
    let shown = format!("`{}`", file.display());
    let what = key.map_or(shown.clone(), |key| format!("`{key}` {shown}"));
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return Err(SecretError::Read { what, error }),
    };
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(SecretError::Empty(what));
    }
    Ok(secret.to_owned())
}
