//! What is signed: an in-toto statement that lists every file with its digest.

use std::collections::BTreeMap;
use std::path::{Component, PathBuf};

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::error::SealProblem;
use super::listing::{GIT, Listing};

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";

/// Differences that an error names.
const NAMED: usize = 3;

/// Files with their digests, and which paths were left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Statement {
    files: BTreeMap<String, String>,
    pub(super) ignored: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Wire {
    subject: Vec<Subject>,
    predicate: Predicate,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

impl Statement {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, SealProblem> {
        check_kind(payload)?;
        let wire: Wire = serde_json::from_slice(payload)
            .map_err(|error| SealProblem::Malformed(format!("its statement: {error}")))?;
        let Serialization {
            method,
            hash_type,
            ignore_paths,
        } = wire.predicate.serialization;
        if method != "files" || hash_type != "sha256" {
            return Err(SealProblem::Unsupported(format!(
                "digests `{hash_type}` of `{method}` instead of `sha256` of `files`"
            )));
        }
        let [subject] = wire.subject.as_slice() else {
            return Err(malformed("it does not have exactly one subject"));
        };
        let mut root = Sha256::new();
        let mut files = BTreeMap::new();
        for resource in wire.predicate.resources {
            if resource.algorithm != "sha256" {
                let kind = format!("a digest of kind `{}`", resource.algorithm);
                return Err(SealProblem::Unsupported(kind));
            }
            let digest = resource.digest.to_lowercase();
            root.update(
                hex::decode(&digest)
                    .ok()
                    .filter(|digest| digest.len() == 32)
                    .ok_or_else(|| malformed("a digest is not hexadecimal"))?,
            );
            if files.insert(resource.name, digest).is_some() {
                return Err(malformed("it lists a file twice"));
            }
        }
        if subject.digest.get("sha256") != Some(&hex::encode(root.finalize())) {
            return Err(malformed("its root digest is not that of its files"));
        }
        let ignored = ignore_paths.iter().map(|path| ignored(path));
        Ok(Self {
            files,
            ignored: ignored.collect::<Result<_, _>>()?,
        })
    }

    /// Checks that there are exactly the files that are listed.
    pub(super) fn agrees_with(&self, listing: &Listing) -> Result<(), SealProblem> {
        let mut differences = Vec::new();
        for (name, digest) in &listing.files {
            match self.files.get(name) {
                None => differences.push(format!("`{name}` is not among those that were signed")),
                Some(signed) if signed != digest => {
                    differences.push(format!("`{name}` was altered"));
                }
                Some(_) => {}
            }
        }
        let missing = self.files.keys();
        let missing = missing.filter(|name| !listing.files.contains_key(*name));
        differences.extend(missing.map(|name| format!("`{name}` is missing")));
        if differences.is_empty() {
            return Ok(());
        }
        let more = differences.len().saturating_sub(NAMED);
        differences.truncate(NAMED);
        if more > 0 {
            differences.push(format!("and {more} more"));
        }
        Err(SealProblem::Files(differences.join(", ")))
    }

    /// The JSON of a statement over these files of the package `name`.
    pub(super) fn write(name: &str, listing: &Listing) -> String {
        let mut root = Sha256::new();
        let mut resources = Vec::new();
        for (name, digest) in &listing.files {
            root.update(
                hex::decode(digest)
                    .ok()
                    .filter(|digest| digest.len() == 32)
                    .unwrap_or_default(),
            );
            resources.push(json!({ "name": name, "algorithm": "sha256", "digest": digest }));
        }
        let mut ignored = GIT.to_vec();
        ignored.push(super::SEAL);
        let statement = json!({
            "_type": STATEMENT_TYPE,
            "subject": [{ "name": name, "digest": { "sha256": hex::encode(root.finalize()) } }],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": false,
                    "ignore_paths": ignored,
                },
                "resources": resources,
            },
        });
        statement.to_string()
    }
}

/// Of another kind, other things would be missing: say that first.
fn check_kind(payload: &[u8]) -> Result<(), SealProblem> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "_type")]
        kind: String,
        #[serde(rename = "predicateType")]
        predicate_type: String,
    }
    let Kind {
        kind,
        predicate_type,
    } = serde_json::from_slice(payload)
        .map_err(|error| SealProblem::Malformed(format!("its statement: {error}")))?;
    if kind != STATEMENT_TYPE {
        return Err(malformed("its payload is no statement of in-toto v1"));
    }
    if predicate_type != PREDICATE_TYPE {
        let kind = format!("a statement of kind `{predicate_type}` instead of `{PREDICATE_TYPE}`");
        return Err(SealProblem::Unsupported(kind));
    }
    Ok(())
}

/// A path that was left out, which must be inside the package.
fn ignored(path: &str) -> Result<PathBuf, SealProblem> {
    let mut normal = PathBuf::new();
    for component in PathBuf::from(path).components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::CurDir => {}
            _ => return Err(malformed("it leaves out a path outside the package")),
        }
    }
    Ok(normal)
}

fn malformed(reason: &str) -> SealProblem {
    SealProblem::Malformed(reason.to_owned())
}
