//! Secrets come from files, so that no process list or log shows them.

use std::path::Path;

use anyhow::{Context, bail};

/// The secret in `file`, which the setting `key` names; a line break at its end is none of it.
///
/// # Errors
/// When the file cannot be read, or is empty.
pub(super) fn read(key: &str, file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read `{key}` `{shown}`"))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        bail!("`{key}` `{shown}` is empty, expected a secret");
    }
    Ok(secret.to_owned())
}
