//! A set of public keys (JWKS).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, KeyOperations,
    PublicKeyUse,
};

use super::TokenAlgorithm;
use crate::middleware::auth::digest;

/// Larger is no set of keys.
const LONGEST: usize = 1 << 20;

/// More keys are not looked at: each may cost a check of a signature.
const MOST_KEYS: usize = 64;

/// Why a text is no set of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is something else.
    #[error("no set of keys: expected JSON such as `{{\"keys\": […]}}`")]
    Form,
    /// It is too large.
    #[error("the set of keys is larger than {} KiB", LONGEST >> 10)]
    TooLarge,
    /// None of its keys is one for signatures that are taken here.
    #[error("the set has no key of a kind that is taken here (RSA, P-256, P-384, Ed25519)")]
    NoKey,
}

/// See the module.
#[derive(Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Of the bytes that it was made of.
    digest: [u8; 32],
}

/// A public key that may prove tokens.
pub(super) struct Key {
    id: Option<String>,
    /// Those that the key itself says, or that its kind has.
    algorithms: Vec<TokenAlgorithm>,
    public: Public,
}

enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point, or Ed25519's bytes.
    Bytes(Vec<u8>),
}

impl KeySet {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, KeySetError> {
        if bytes.len() > LONGEST {
            return Err(KeySetError::TooLarge);
        }
        let set: JwkSet = serde_json::from_slice(bytes).map_err(|_| KeySetError::Form)?;
        let keys = set.keys.iter().filter_map(Key::from_jwk).take(MOST_KEYS);
        let keys: Vec<Key> = keys.collect();
        if keys.is_empty() {
            return Err(KeySetError::NoKey);
        }
        let digest = digest(bytes);
        Ok(Self { keys, digest })
    }

    pub(super) fn is_made_of(&self, bytes: &[u8]) -> bool {
        !self.keys.is_empty() && self.digest == digest(bytes)
    }

    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    /// The keys that may have signed a token with this header.
    pub(super) fn candidates<'a>(
        &'a self,
        id: Option<&'a str>,
        algorithm: TokenAlgorithm,
    ) -> impl Iterator<Item = &'a Key> + Clone {
        self.keys.iter().filter(move |key| {
            // A key without a name may be any.
            let is_named = match (id, &key.id) {
                (Some(wanted), Some(id)) => wanted == id,
                _ => true,
            };
            is_named && key.algorithms.contains(&algorithm)
        })
    }
}

impl Key {
    /// `None` for keys of other kinds, or for other ends.
    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        if !is_for_signatures(&jwk.common) {
            return None;
        }
        let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let (public, possible): (Public, &[TokenAlgorithm]) = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => {
                let number = |text: &str| {
                    let bytes = decode(text)?;
                    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                    Some(bytes[zeros..].to_vec())
                };
                let (n, e) = (number(&rsa.n)?, number(&rsa.e)?);
                let rsa = &[TokenAlgorithm::Rs256, TokenAlgorithm::Ps256];
                (Public::Rsa { n, e }, rsa)
            }
            AlgorithmParameters::EllipticCurve(point) => {
                let (length, algorithm): (_, &[TokenAlgorithm]) = match point.curve {
                    EllipticCurve::P256 => (32, &[TokenAlgorithm::Es256]),
                    EllipticCurve::P384 => (48, &[TokenAlgorithm::Es384]),
                    _ => return None,
                };
                let (x, y) = (decode(&point.x)?, decode(&point.y)?);
                let fits = x.len() == length && y.len() == length;
                // 4: both coordinates stand there.
                let bytes = [&[4], x.as_slice(), y.as_slice()].concat();
                (Public::Bytes(fits.then_some(bytes)?), algorithm)
            }
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
                let bytes = decode(&pair.x).filter(|bytes| bytes.len() == 32)?;
                (Public::Bytes(bytes), &[TokenAlgorithm::EdDsa])
            }
            _ => return None,
        };
        let said = jwk.common.key_algorithm;
        let fits = |one: &&TokenAlgorithm| said.is_none_or(|said| said == of_key(**one));
        let algorithms: Vec<_> = possible.iter().filter(fits).copied().collect();
        (!algorithms.is_empty()).then(|| Self {
            id: jwk.common.key_id.clone(),
            algorithms,
            public,
        })
    }

    pub(super) fn proves(
        &self,
        algorithm: TokenAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        match &self.public {
            Public::Rsa { n, e } => algorithm.verifies_rsa((n, e), message, signature),
            Public::Bytes(bytes) => algorithm.verifies(bytes, message, signature),
        }
    }
}

fn of_key(algorithm: TokenAlgorithm) -> KeyAlgorithm {
    match algorithm {
        TokenAlgorithm::Rs256 => KeyAlgorithm::RS256,
        TokenAlgorithm::Ps256 => KeyAlgorithm::PS256,
        TokenAlgorithm::Es256 => KeyAlgorithm::ES256,
        TokenAlgorithm::Es384 => KeyAlgorithm::ES384,
        TokenAlgorithm::EdDsa => KeyAlgorithm::EdDSA,
    }
}

fn is_for_signatures(common: &CommonParameters) -> bool {
    let usage = common.public_key_use.as_ref();
    let operations = common.key_operations.as_ref();
    usage.is_none_or(|usage| *usage == PublicKeyUse::Signature)
        && operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify))
}
