//! Whose signature a package must have to pass.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::Failure;
use crate::model::Package;
use crate::signing::{Authority, Claim, PublicKey, Sealed, Trust};

#[derive(Debug, Args)]
pub(super) struct SealArgs {
    /// Trusted public key (PEM); repeatable, and one of the keys must have signed the package
    #[arg(long, value_name = "KEY")]
    key: Vec<PathBuf>,
    /// CA certificates (PEM) that must have certified the signer
    #[arg(long, value_name = "FILE", requires = "identity")]
    ca: Option<PathBuf>,
    /// Email address, URI, DNS name or common name of the signer
    #[arg(long, value_name = "NAME", requires = "ca")]
    identity: Option<String>,
    /// The signature [default: `model.sig` in the package, else `PACKAGE.sig` beside it]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
}

/// What became of a signature.
#[derive(Debug)]
pub(super) enum Checked {
    Holds(Sealed),
    /// Nobody said whom to trust.
    NotAsked,
}

impl SealArgs {
    /// Checks the signature of the package at `path`, before anything in it is believed.
    pub(super) fn check(&self, path: &Path) -> Result<Checked, Failure> {
        let mut trust = Trust::default();
        for key in &self.key {
            trust.add_key(PublicKey::read(key).map_err(anyhow::Error::from)?);
        }
        if let (Some(ca), Some(identity)) = (&self.ca, &self.identity) {
            trust.add_authority(Authority::read(ca, identity).map_err(anyhow::Error::from)?);
        }
        if trust.is_empty() {
            return match &self.signature {
                None => Ok(Checked::NotAsked),
                Some(_) => Err(Failure::usage(
                    "`--signature` alone says nothing: name whom to trust with `--key`, or with `--ca` and `--identity`",
                )),
            };
        }
        if !path.is_dir() {
            let shown = path.display();
            let failure = Failure::failed(format!(
                "`{shown}` is no directory, and cannot be signed as a package"
            ));
            return Err(failure.hint("make a package of it with `onstage package`"));
        }
        // Where `.` is, it has a name for the signature beside it.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let sealed = trust.check(&path, self.signature.as_deref());
        Ok(Checked::Holds(sealed.map_err(anyhow::Error::from)?))
    }
}

impl Checked {
    /// What to tell of it.
    pub(super) fn describe(self, package: &Package) -> Result<String, Failure> {
        match self {
            Self::Holds(sealed) => {
                sealed.covers(package).map_err(anyhow::Error::from)?;
                Ok(format!("holds, by {}", sealed.by))
            }
            Self::NotAsked => Ok(match Claim::read(&package.root) {
                Ok(None) => String::new(),
                Ok(Some(claim)) => format!(
                    "not checked, says to be by {}; name whom to trust with `--key`",
                    claim.by
                ),
                Err(error) => error.to_string(),
            }),
        }
    }
}
