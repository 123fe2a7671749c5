//! API keys: random, shown once, kept as a digest.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest as _, Sha256};

/// So that programs which look for secrets in files and logs find ours.
const PREFIX: &str = "onstage_";

/// The operating system gives no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub struct NoRandomness;

/// A new API key.
pub struct ApiKey(String);

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl ApiKey {
    /// 256 random bits.
    ///
    /// # Errors
    /// [`NoRandomness`] when the operating system gives none.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = [0; 32];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| NoRandomness)?;
        let text = BASE64_URL_SAFE_NO_PAD.encode(bytes);
        Ok(Self(format!("{PREFIX}{text}")))
    }

    /// What its holder sends.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// What the file of callers holds.
    pub fn hashed(&self) -> String {
        hex::encode(digest(self.0.as_bytes()))
    }
}

/// The digest by which a key is known.
///
/// SHA-256 and no slow hash: keys are 256 random bits, which cannot be guessed, and a slow
/// hash of each request would be a way to keep this server busy. Passwords would need one.
pub fn digest(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_are_told_as_their_digest_only() {
        let (one, other) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
        assert_ne!(one.secret(), other.secret());
        assert_eq!(one.secret().len(), PREFIX.len() + 43);
        assert_eq!(one.hashed().len(), 64);
        assert_ne!(one.hashed(), other.hashed());
        assert_eq!(format!("{one:?}"), "ApiKey(…)");
    }

    #[test]
    fn a_digest_is_sha_256() {
        assert_eq!(digest(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
