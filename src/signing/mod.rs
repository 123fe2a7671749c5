//! Seals: who vouches for the files of a package, and that they are those that were vouched for.
//!
//! A seal is a file, `model.sig` inside the package or `DIR.sig` beside it, of one of two kinds:
//!
//! ```text
//! OpenSSF model signature   JSON: Sigstore bundle → DSSE envelope → in-toto statement → SHA-256 of each file
//!                           signed by an ECDSA key, or by one that a certificate of a trusted authority names
//! plain                     base64 of an Ed25519 signature over `onstage package <digest>`
//! ```
//!
//! Nothing that a seal says is believed before its signature is checked, no path in it is ever opened, and whatever the
//! package's directory holds must be listed in it: see [`Trust::check`].

mod bundle;
mod certificate;
mod error;
mod key;
mod listing;
mod sign;
mod statement;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

pub use self::certificate::Authority;
pub use self::error::{SealError, SealProblem, TrustError};
pub use self::key::{PrivateKey, PublicKey};
pub use self::sign::sign;

use self::bundle::{Bundle, Material};
use self::listing::Listing;
use crate::model::{Content, Package, small_file};

/// The name of a seal inside its package.
pub const SEAL: &str = "model.sig";

/// The largest seal: some 100 bytes for each file.
const MAX_BYTES: u64 = 16 << 20;

/// The seal of the package in `directory`: `model.sig` inside, else `DIR.sig` beside. `None` when there is neither.
pub fn find(directory: &Path) -> Option<PathBuf> {
    let inside = directory.join(SEAL);
    // A link to nothing is something too: it must not make a package look unsigned.
    let is_there = |path: &PathBuf| fs::symlink_metadata(path).is_ok();
    Some(inside)
        .filter(is_there)
        .or_else(|| beside(directory).filter(is_there))
}

/// Where the seal of the package in `directory` lies when it is not inside.
fn beside(directory: &Path) -> Option<PathBuf> {
    let mut name = directory.file_name()?.to_owned();
    name.push(".sig");
    Some(directory.with_file_name(name))
}

/// Whom to believe.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    keys: Vec<PublicKey>,
    authorities: Vec<Authority>,
}

/// Whom to believe, and what becomes of packages without a seal.
#[derive(Debug, Clone, Default)]
pub struct SealPolicy {
    /// Whom to believe.
    pub trust: Arc<Trust>,
    /// Whether a package without a seal is refused; a seal that does not hold always is when somebody is to be believed.
    pub required: bool,
}

impl SealPolicy {
    /// Checks the package in `directory`; `None` when it does not matter who has vouched for it. Blocking.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn check(&self, directory: &Path) -> Result<Option<Sealed>, SealError> {
        if !self.required && self.trust.is_empty() {
            return Ok(None);
        }
        match self.trust.check(directory, None) {
            Ok(sealed) => Ok(Some(sealed)),
            Err(error @ SealError::Unsigned(_)) if !self.required => {
                tracing::warn!(%error, "loaded all the same: `registry.require_signature` is off");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Who sealed a package, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Who: a key or the identity in a certificate.
    pub by: String,
    /// The file with the seal.
    pub seal: PathBuf,
    /// The files that are vouched for, relative to the package.
    files: BTreeSet<String>,
}

/// A seal as it reads, believed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The file with the seal.
    pub seal: PathBuf,
    /// Which kind of seal it is.
    pub kind: &'static str,
    /// Who says to have made it.
    pub by: String,
}

enum Seal {
    Bundle(Box<Bundle>),
    Plain([u8; 64]),
}

impl Trust {
    /// Believes what is named in texts of the form `KEY.pem` or `AUTHORITY.pem#IDENTITY`.
    ///
    /// # Errors
    /// [`TrustError`] when a file cannot be read or holds something else.
    pub fn read<T: AsRef<str>>(texts: &[T]) -> Result<Self, TrustError> {
        let mut trust = Self::default();
        for text in texts {
            match text.as_ref().split_once('#') {
                None => trust.add_key(PublicKey::read(Path::new(text.as_ref()))?),
                Some((file, identity)) => {
                    trust.add_authority(Authority::read(Path::new(file), identity)?);
                }
            }
        }
        Ok(trust)
    }

    /// Trusts signatures by the private half of this key.
    pub fn add_key(&mut self, key: PublicKey) {
        self.keys.push(key);
    }

    /// Believes whom this authority calls by a certain name.
    pub fn add_authority(&mut self, authority: Authority) {
        self.authorities.push(authority);
    }

    /// Whether no signature is trusted.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.authorities.is_empty()
    }

    /// Checks that somebody who is believed has vouched for exactly the files that `directory` holds; `seal` is where
    /// else to look for the seal. Blocking: reads every file.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn check(&self, directory: &Path, seal: Option<&Path>) -> Result<Sealed, SealError> {
        let seal = match seal {
            Some(seal) => seal.to_owned(),
            None => find(directory).ok_or_else(|| SealError::Unsigned(directory.to_owned()))?,
        };
        let bad = |problem| SealError::Bad {
            directory: directory.to_owned(),
            seal: seal.clone(),
            problem,
        };
        let (by, files) = match read(&seal)?.map_err(bad)? {
            Seal::Bundle(bundle) => {
                let by = self.signer(&bundle).map_err(bad)?;
                let statement = bundle.statement().map_err(bad)?;
                let listing = Listing::new(directory, &seal, &statement.ignored)?.map_err(bad)?;
                statement.agrees_with(&listing).map_err(bad)?;
                (by, listing.names())
            }
            Seal::Plain(signature) => {
                let listing = Listing::new(directory, &seal, &[])?.map_err(bad)?;
                let digest = plain_digest(directory, &listing).map_err(bad)?;
                let key = self.plain_signer(&digest, &signature);
                (key.map_err(bad)?, listing.names())
            }
        };
        Ok(Sealed { by, seal, files })
    }

    fn signer(&self, bundle: &Bundle) -> Result<String, SealProblem> {
        let signed = |key: &PublicKey| key.verifies(&bundle.signed(), &bundle.signature);
        match &bundle.material {
            Material::Key { hint } => {
                let mut keys = self.keys.iter().filter(|key| !key.is_plain());
                let key = keys.find(|key| signed(key));
                key.map(PublicKey::to_string)
                    .ok_or_else(|| self.not_believed(hint))
            }
            Material::Certificates(chain) => {
                let (key, identity) = certificate::signer(chain, &self.authorities)?;
                match signed(&key) {
                    true => Ok(identity),
                    false => Err(SealProblem::Signature),
                }
            }
        }
    }

    fn plain_signer(&self, digest: &str, signature: &[u8]) -> Result<String, SealProblem> {
        let message = sign::plain_message(digest);
        let mut keys = self.keys.iter().filter(|key| key.is_plain());
        let key = keys.find(|key| key.verifies(message.as_bytes(), signature));
        key.map(PublicKey::to_string).ok_or(SealProblem::Plain {
            keys: self.keys.len(),
        })
    }

    /// Tells a key that is not trusted from a signature that is wrong.
    fn not_believed(&self, hint: &str) -> SealProblem {
        match self.keys.iter().any(|key| key.fingerprint() == hint) {
            true => SealProblem::Signature,
            false => SealProblem::UnknownKey {
                hint: hint.to_owned(),
            },
        }
    }
}

impl Sealed {
    /// Checks that every file that `package` is loaded from is vouched for: none is among those that a seal may leave out.
    ///
    /// # Errors
    /// [`SealError::Bad`].
    pub fn covers(&self, package: &Package) -> Result<(), SealError> {
        let missing = package.uses().into_iter().find(|file| {
            let name = file.iter().map(|part| part.to_str());
            let name: Option<Vec<&str>> = name.filter(|part| *part != Some(".")).collect();
            name.is_none_or(|name| !self.files.contains(&name.join("/")))
        });
        match missing {
            None => Ok(()),
            Some(file) => Err(SealError::Bad {
                directory: package.root.clone(),
                seal: self.seal.clone(),
                problem: SealProblem::Uncovered(file),
            }),
        }
    }
}

impl Claim {
    /// What the seal of the package in `directory` says of itself; `None` without one.
    ///
    /// # Errors
    /// [`SealError`] when it is no seal.
    pub fn read(directory: &Path) -> Result<Option<Self>, SealError> {
        let Some(seal) = find(directory) else {
            return Ok(None);
        };
        let read = read(&seal)?.and_then(|seal| match seal {
            Seal::Plain(_) => Ok(("Ed25519", "a key that it does not name".to_owned())),
            Seal::Bundle(bundle) => Ok(("OpenSSF model signature", bundle.claimed()?)),
        });
        match read {
            Ok((kind, by)) => Ok(Some(Self { seal, kind, by })),
            Err(problem) => Err(SealError::Bad {
                directory: directory.to_owned(),
                seal,
                problem,
            }),
        }
    }
}

/// The package's digest without the seal. It leaves out files of other tools, so that there must be none of them.
fn plain_digest(directory: &Path, listing: &Listing) -> Result<String, SealProblem> {
    let digested = Content::without(directory, SEAL);
    let (digest, has) = digested.map_err(|error| SealProblem::Package(error.to_string()))?;
    match listing.files.keys().find(|name| !has(name)) {
        None => Ok(digest),
        Some(name) => Err(SealProblem::Files(format!(
            "`{name}` cannot be signed, as it is not part of the package's digest"
        ))),
    }
}

/// Reads a file of limited size that is no link.
fn read(path: &Path) -> Result<Result<Seal, SealProblem>, SealError> {
    let io = |error| SealError::Io {
        path: path.to_owned(),
        error,
    };
    if !fs::symlink_metadata(path).map_err(io)?.is_file() {
        return Ok(Err(SealProblem::NotAFile));
    }
    let mut text = Vec::new();
    let file = small_file::open(path).map_err(io)?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(io)?;
    if text.len() as u64 > MAX_BYTES {
        return Ok(Err(SealProblem::Large { limit: MAX_BYTES }));
    }
    Ok(parse(&text))
}

fn parse(text: &[u8]) -> Result<Seal, SealProblem> {
    let text = text.trim_ascii();
    if text.first() == Some(&b'{') {
        return Ok(Seal::Bundle(Box::new(Bundle::parse(text)?)));
    }
    let signature = BASE64.decode(text).ok();
    let signature = signature.and_then(|bytes| bytes.try_into().ok());
    signature.map(Seal::Plain).ok_or(SealProblem::Unreadable)
}

#[cfg(test)]
mod tests;
