//! `onstage key`: a new API key, and its line for the file of callers.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::doctor::to_json;
use super::{Console, Failure};
use crate::middleware::auth::{ApiKey, CallerLine, Callers, Scope};

#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    /// Name of the key's owner, for the audit log
    #[arg(value_name = "NAME")]
    name: String,
    /// Scope of the key: read, predict, admin or feedback; repeatable [default: read and predict]
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<Scope>,
    /// Models that the key may access: a name, `*` matches any text; repeatable [default: *]
    #[arg(long, value_name = "PATTERN")]
    model: Vec<String>,
    /// Expiry of the key, such as 2030-01-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// Append the line to this callers file, and print only the key
    #[arg(long, value_name = "FILE")]
    add_to: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: KeyArgs, console: &mut Console<'_>) -> Result<(), Failure> {
    let key = ApiKey::generate().map_err(|error| Failure::failed(error.to_string()))?;
    let or = |given: Vec<Scope>| match given.as_slice() {
        [] => vec![Scope::Read, Scope::Predict],
        _ => given,
    };
    let models = if args.model.is_empty() {
        vec!["*".to_owned()]
    } else {
        args.model
    };
    let line = CallerLine {
        name: args.name,
        sha256: Some(key.hashed()),
        certificate: None,
        claim: None,
        scopes: or(args.scope),
        models,
        expires: args.expires,
    };
    let line = serde_json::to_string(&line).map_err(|error| Failure::failed(error.to_string()))?;
    // What the server would refuse is refused here.
    Callers::parse(&line).map_err(|error| {
        let what = error.to_string();
        Failure::usage(what.trim_start_matches("line 1: ").to_owned())
    })?;
    let secret = key.secret();
    if let Some(file) = &args.add_to {
        add(file, &line)?;
    }
    if args.json {
        console.print(&to_json(&json!({ "key": secret, "line": line })))
    } else if args.add_to.is_some() {
        console.print(&format!("{secret}\n"))
    } else {
        console.note("the key is shown once: the line holds only its digest");
        console.print(&format!("key   {secret}\nline  {line}\n"))
    }
}

/// Adds a line to a file that the server may be reading: as a new file in its place.
fn add(file: &Path, line: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::failed(format!("cannot write `{}`: {error}", file.display()))
    };
    let mut text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
    Callers::parse(&text).map_err(|error| {
        Failure::failed(format!(
            "`{}` is no file of callers: {error}",
            file.display()
        ))
    })?;
    let directory = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    // Readable by its owner alone until somebody says otherwise.
    let mut new =
        tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new("."))).map_err(failed)?;
    new.write_all(text.as_bytes()).map_err(failed)?;
    if let Ok(known) = std::fs::metadata(file) {
        new.as_file()
            .set_permissions(known.permissions())
            .map_err(failed)?;
    }
    new.persist(file).map_err(|error| failed(error.error))?;
    Ok(())
}
