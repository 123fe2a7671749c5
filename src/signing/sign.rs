//! Sealing a package.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::bundle::{self, pre_authentication};
use super::error::{SealError, TrustError};
use super::key::PrivateKey;
use super::listing::Listing;
use super::statement::Statement;
use super::{SEAL, plain_digest};

/// What an Ed25519 key signs. The words keep the signature from meaning anything elsewhere.
pub(super) fn plain_message(digest: &str) -> String {
    format!("onstage package {digest}")
}

/// The seal of the package in `directory`, to be written to `model.sig` in it: an OpenSSF model signature by an ECDSA
/// key, a plain one by an Ed25519 key. `name` is what the package is called. Blocking: reads every file.
///
/// # Errors
/// [`SealError`] when the directory holds what cannot be sealed, such as links; [`TrustError`] when signing fails.
pub fn sign(
    directory: &Path,
    name: &str,
    key: &PrivateKey,
) -> Result<Result<String, TrustError>, SealError> {
    let seal = directory.join(SEAL);
    let bad = |problem| SealError::Bad {
        directory: directory.to_owned(),
        seal: seal.clone(),
        problem,
    };
    let listing = Listing::new(directory, &seal, &[])?.map_err(bad)?;
    let public = key.public();
    if public.is_plain() {
        let digest = plain_digest(directory, &listing).map_err(bad)?;
        let signature = key.sign(plain_message(&digest).as_bytes());
        return Ok(signature.map(|signature| BASE64.encode(signature) + "\n"));
    }
    let payload = Statement::write(name, &listing).into_bytes();
    let signature = key.sign(&pre_authentication(&payload));
    Ok(signature.map(|signature| bundle::write(&payload, &signature, &public.fingerprint())))
}
