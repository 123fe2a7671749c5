//! Requests for a package, and its known answers.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::Failure;
use crate::model::Package;
use crate::scoring::difference;

/// The file with the answer to each `request*.json`.
pub(super) const EXPECTED: &str = "expected.json";

/// Inputs for a package that brings none; the next one is for those that refuse all before it.
pub(super) const MADE_UP: [&str; 3] = ["zeros", "ones", "random"];

/// Larger files are left unread.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Requests {
    pub(super) list: Vec<Request>,
    pub(super) notes: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) name: String,
    /// A scoring body; `None` stands for inputs that are made up: as many requests as it takes to get an answer.
    pub(super) body: Option<Vec<u8>>,
    /// The recorded answer.
    pub(super) expected: Option<Value>,
}

impl Requests {
    /// The first request that the package brings.
    pub(super) fn example(&self) -> Option<&[u8]> {
        self.list.iter().find_map(|request| request.body.as_deref())
    }

    /// The input example, then each `request*.json` beside the manifest with the answer in `expected.json`; zeros, ones
    /// and random numbers when there is neither. Beside a `bare` file may lie anything.
    pub(super) fn new(package: &Package, bare: bool) -> Result<Self, Failure> {
        let mut list = Vec::new();
        let mut notes = Vec::new();
        if let Some(body) = package.serving_input().map_err(anyhow::Error::from)? {
            list.push(Request {
                name: "input example".to_owned(),
                body: Some(body),
                expected: None,
            });
        }
        if !bare && package.root.join("MLmodel").is_file() {
            list.extend(recorded(&package.root)?);
        }
        if list.is_empty() {
            notes.push("the package has no input example, so it was asked with zeros".to_owned());
            list.extend(MADE_UP.map(|name| Request {
                name: name.to_owned(),
                body: None,
                expected: None,
            }));
        }
        Ok(Self { list, notes })
    }
}

fn recorded(root: &Path) -> Result<Vec<Request>, Failure> {
    let cannot = |error| Failure::failed(format!("cannot read `{}`: {error}", root.display()));
    let mut names = Vec::new();
    for entry in fs::read_dir(root).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("request") && name.ends_with(".json") {
            names.push(name.into_owned());
        }
    }
    if names.is_empty() {
        return Ok(Vec::new());
    }
    names.sort_unstable();
    let expected = root.join(EXPECTED);
    let expected = match expected.exists() {
        true => Some(answer(&expected)?),
        false => None,
    };
    let request = |name: String| {
        let body = read(&root.join(&name))?;
        Ok(Request {
            name,
            body: Some(body),
            expected: expected.clone(),
        })
    };
    names.into_iter().map(request).collect()
}

fn answer(file: &Path) -> Result<Value, Failure> {
    difference::parse(&read(file)?).map_err(|error| {
        let file = file.display();
        Failure::failed(format!(
            "`{file}` is not JSON: {error}; expected the answer of `/invocations`"
        ))
    })
}

/// The file is part of the package: a link must not lead to another place.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let cannot =
        |reason: String| Failure::failed(format!("cannot read `{}`: {reason}", file.display()));
    let metadata = fs::symlink_metadata(file).map_err(|error| cannot(error.to_string()))?;
    if !metadata.is_file() {
        return Err(cannot(
            "expected a file, not a link or a directory".to_owned(),
        ));
    }
    if metadata.len() > MAX_BYTES {
        return Err(cannot("it has more than 64 MiB".to_owned()));
    }
    fs::read(file).map_err(|error| cannot(error.to_string()))
}
