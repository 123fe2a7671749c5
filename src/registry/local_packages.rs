//! Packages on this machine: found, named and opened, the broken ones too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::model::{ModelId, ModelName, Package, PackageError, Version, discover, survey};

/// One package, or what should be one.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: ModelId,
    pub(crate) path: PathBuf,
    pub(crate) opened: Result<Package, PackageError>,
    /// Whether others that were found in the same place can do without it.
    pub(crate) is_one_of_many: bool,
}

/// What a path of the command line or of the configuration stands for.
#[derive(Debug)]
pub(crate) struct Place<'p> {
    pub(crate) path: &'p Path,
    pub(crate) name: Option<&'p ModelName>,
    /// Whether the server cannot do without it.
    pub(crate) required: bool,
}

impl Place<'_> {
    /// Opens what is there. Blocking.
    ///
    /// # Errors
    /// When it is required, and nothing of it can be opened.
    pub(crate) fn open(&self) -> anyhow::Result<Vec<Found>> {
        let survey = survey(self.path).and_then(|survey| {
            check_name(self.path, self.name, &survey.packages)?;
            Ok(survey)
        });
        let survey = match survey {
            Ok(survey) => survey,
            Err(error) if self.required => return Err(error.into()),
            Err(error) => return Ok(vec![self.broken(error)]),
        };
        for path in &survey.passed_over {
            tracing::warn!(path = %path.display(), "not served: nothing in it looks like a model");
        }
        let is_one_of_many = survey.packages.len() > 1;
        let open = |path: PathBuf| {
            let opened = Package::open_named(&path, self.name.cloned());
            let id = match &opened {
                Ok(package) => package.id.clone(),
                Err(_) => Package::presumed_id(&path, self.name),
            };
            Found {
                id,
                path,
                opened,
                is_one_of_many,
            }
        };
        let mut found: Vec<Found> = survey.packages.into_iter().map(open).collect();
        tell_notices(found.iter().filter_map(|found| found.opened.as_ref().ok()));
        if self.required && found.iter().all(|found| found.opened.is_err()) {
            return Err(self.nothing_to_serve(&mut found));
        }
        Ok(found)
    }

    fn broken(&self, error: PackageError) -> Found {
        Found {
            id: Package::presumed_id(self.path, self.name),
            path: self.path.to_owned(),
            opened: Err(error),
            is_one_of_many: false,
        }
    }

    fn nothing_to_serve(&self, found: &mut Vec<Found>) -> anyhow::Error {
        let count = found.len();
        let mut reasons = found.drain(..).filter_map(|found| found.opened.err());
        if count == 1
            && let Some(reason) = reasons.next()
        {
            return reason.into();
        }
        let reasons: Vec<String> = reasons
            .take(SHOWN)
            .map(|reason| reason.to_string())
            .collect();
        let more = match count - reasons.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let path = self.path.display();
        anyhow::anyhow!(
            "none of the {count} packages in `{path}` can be served: {}{more}",
            reasons.join("; ")
        )
    }
}

/// Reasons that one message has room for.
pub(crate) const SHOWN: usize = 10;

/// The packages that a path stands for, under another name when one is given. Blocking.
///
/// # Errors
/// What is wrong with the first one; when there are several models for one name.
pub(crate) fn packages(path: &Path, name: Option<&ModelName>) -> anyhow::Result<Vec<Package>> {
    let paths: Vec<PathBuf> = discover(path)?;
    check_name(path, name, &paths)?;
    let open = |path: &PathBuf| Ok(Package::open_named(path, name.cloned())?);
    let packages: Vec<Package> = paths.iter().map(open).collect::<anyhow::Result<_>>()?;
    tell_notices(packages.iter());
    Ok(packages)
}

/// Logs what is to be known of packages: once for all versions of a tree, which share a configuration.
fn tell_notices<'p>(packages: impl Iterator<Item = &'p Package>) {
    let mut described = BTreeSet::new();
    for package in packages {
        if let Some(notice) = &package.notice
            && described.insert(notice)
        {
            tracing::warn!(model = %package.id.name, "{notice}");
        }
    }
}

/// One name is for one model.
fn check_name(
    path: &Path,
    name: Option<&ModelName>,
    packages: &[PathBuf],
) -> Result<(), PackageError> {
    if name.is_some() && !are_one_model(packages) {
        return Err(PackageError::SeveralPackages {
            path: path.to_owned(),
            count: packages.len(),
        });
    }
    Ok(())
}

/// Whether there is one package, or the numbered versions of one tree.
fn are_one_model(paths: &[PathBuf]) -> bool {
    let parent = paths.first().and_then(|path| path.parent());
    let is_version = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        path.parent() == parent && name.is_some_and(|name| name.parse::<Version>().is_ok())
    };
    paths.len() <= 1 || paths.iter().all(is_version)
}

/// Leaves one package for each model and version. The other one is shown under the name of its file, with the reason.
///
/// # Errors
/// When both were named, so that neither can be left out.
pub(crate) fn settle_twins(found: Vec<Found>) -> anyhow::Result<Vec<Found>> {
    let mut kept: BTreeMap<ModelId, Found> = BTreeMap::new();
    let mut losers = Vec::new();
    for next in found {
        let Some(other) = kept.remove(&next.id) else {
            kept.insert(next.id.clone(), next);
            continue;
        };
        let twice = twice(&other, &next);
        let both_named = !other.is_one_of_many && !next.is_one_of_many;
        if both_named && other.opened.is_ok() && next.opened.is_ok() {
            bail!(twice);
        }
        // What can be opened first, then what was named, then what comes first.
        let rank = |found: &Found| (found.opened.is_err(), found.is_one_of_many);
        let (winner, mut loser) = if rank(&next) < rank(&other) {
            (next, other)
        } else {
            (other, next)
        };
        kept.insert(winner.id.clone(), winner);
        loser.opened = loser.opened.and(Err(twice));
        losers.push(loser);
    }
    for mut loser in losers {
        let file = loser.path.file_name().unwrap_or_default().to_string_lossy();
        let name = ModelName::nearest(&file);
        let id = ModelId { name, ..loser.id };
        if let Err(error) = &loser.opened {
            tracing::error!(path = %loser.path.display(), %error, listed_as = %id, "cannot be served");
        }
        loser.id = id.clone();
        kept.entry(id).or_insert(loser);
    }
    Ok(kept.into_values().collect())
}

fn twice(one: &Found, other: &Found) -> PackageError {
    PackageError::Twice {
        id: one.id.clone(),
        path: one.path.clone(),
        other: other.path.clone(),
    }
}
