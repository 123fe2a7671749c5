//! Keys in PEM: ECDSA on P-256 and P-384 for OpenSSF model signatures, Ed25519 for plain ones.

use std::fmt;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1,
    ECDSA_P384_SHA384_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    UnparsedPublicKey, VerificationAlgorithm,
};
use sha2::{Digest as _, Sha256};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::error::TrustError;

const EC: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const P521: &str = "1.3.132.0.35";
const ED25519_KEY: &str = "1.3.101.112";

const EXPECTED: &str = "expected an ECDSA key on P-256 or P-384, or an Ed25519 key";

/// A key of a kind that is not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("holds a key of {kind}, which is not supported; {}", EXPECTED)]
pub(super) struct UnsupportedKey {
    kind: &'static str,
}

/// What keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    P256,
    P384,
    Ed25519,
}

/// The half of a key that everybody may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

/// The half of a key that signs.
pub struct PrivateKey(Pair);

enum Pair {
    Ec(Algorithm, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PrivateKey").field(&self.public()).finish()
    }
}

impl Algorithm {
    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1,
            Self::P384 => &ECDSA_P384_SHA384_ASN1,
            Self::Ed25519 => &ED25519,
        }
    }

    /// What stands before the bytes of a public key in DER, which has one form only.
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::P256 => &[
                0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
                0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
            ],
            Self::P384 => &[
                0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
                0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
            ],
            Self::Ed25519 => &[
                0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
            ],
        }
    }
}

impl PublicKey {
    /// Reads a file in PEM that holds a public key.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        let content = |problem| TrustError::content(path, problem);
        let blocks = blocks(path)?;
        let Some(block) = blocks.iter().find(|block| block.label == "PUBLIC KEY") else {
            let labels: Vec<&str> = blocks.iter().map(|block| block.label.as_str()).collect();
            return Err(content(not_public(path, &labels)));
        };
        match SubjectPublicKeyInfo::from_der(&block.contents) {
            Ok((_, info)) => Self::from_info(&info).map_err(at(path)),
            Err(_) => Err(content("holds a public key that cannot be read".to_owned())),
        }
    }

    /// The key in a certificate or in a file.
    pub(super) fn from_info(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, UnsupportedKey> {
        let algorithm = info.algorithm.algorithm.to_id_string();
        let curve = info.algorithm.parameters.as_ref();
        let curve = curve.and_then(|any| any.as_oid().ok());
        let curve = curve.map(|oid| oid.to_id_string()).unwrap_or_default();
        let algorithm = match (algorithm.as_str(), curve.as_str()) {
            (ED25519_KEY, _) => Algorithm::Ed25519,
            (EC, P256) => Algorithm::P256,
            (EC, P384) => Algorithm::P384,
            (EC, P521) => return Err(unsupported("ECDSA on P-521")),
            (EC, _) => return Err(unsupported("ECDSA on another curve")),
            _ => return Err(unsupported("another algorithm")),
        };
        let bytes = info.subject_public_key.data.to_vec();
        Ok(Self { algorithm, bytes })
    }

    /// Whether it is for plain signatures.
    pub(super) fn is_plain(&self) -> bool {
        self.algorithm == Algorithm::Ed25519
    }

    /// Whether the private half has signed these bytes.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(self.algorithm.verification(), &self.bytes);
        key.verify(message, signature).is_ok()
    }

    /// The key in PEM.
    pub fn to_pem(&self) -> String {
        let mut der = self.algorithm.prefix().to_vec();
        der.extend_from_slice(&self.bytes);
        let text = BASE64.encode(der);
        let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
        for line in text.as_bytes().chunks(64) {
            pem.extend(line.iter().map(|byte| char::from(*byte)));
            pem.push('\n');
        }
        pem + "-----END PUBLIC KEY-----\n"
    }

    /// SHA-256 of the key in PEM, by which a model signature names it.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.to_pem()))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}", self.fingerprint())
    }
}

impl PrivateKey {
    /// Reads a file in PEM that holds a private key without a password.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        let content = |problem: String| TrustError::content(path, problem);
        let blocks = blocks(path)?;
        let key = blocks
            .iter()
            .find(|block| block.label.ends_with("PRIVATE KEY"));
        let Some(key) = key else {
            return Err(content(format!("holds no private key in PEM; {EXPECTED}")));
        };
        let der = match key.label.as_str() {
            "PRIVATE KEY" => key.contents.clone(),
            "EC PRIVATE KEY" => wrapped(&key.contents).map_err(at(path))?,
            "ENCRYPTED PRIVATE KEY" => {
                return Err(content(
                    "holds a key with a password; take it off, for a file that only you can read, with `openssl pkey -in FILE -out KEY`"
                        .to_owned(),
                ));
            }
            _ => return Err(at(path)(unsupported("another algorithm"))),
        };
        Self::from_pkcs8(&der).map_err(at(path))
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, UnsupportedKey> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(Self(Pair::Ed25519(pair)));
        }
        let random = SystemRandom::new();
        let curves = [
            (Algorithm::P256, &ECDSA_P256_SHA256_ASN1_SIGNING),
            (Algorithm::P384, &ECDSA_P384_SHA384_ASN1_SIGNING),
        ];
        for (algorithm, signing) in curves {
            if let Ok(pair) = EcdsaKeyPair::from_pkcs8(signing, der, &random) {
                return Ok(Self(Pair::Ec(algorithm, pair)));
            }
        }
        Err(unsupported("another algorithm or curve, or it is damaged"))
    }

    /// The other half.
    pub fn public(&self) -> PublicKey {
        match &self.0 {
            Pair::Ec(algorithm, pair) => PublicKey {
                algorithm: *algorithm,
                bytes: pair.public_key().as_ref().to_vec(),
            },
            Pair::Ed25519(pair) => PublicKey {
                algorithm: Algorithm::Ed25519,
                bytes: pair.public_key().as_ref().to_vec(),
            },
        }
    }

    /// Signs; fails only where the system has no randomness.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TrustError> {
        match &self.0 {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Ec(_, pair) => match pair.sign(&SystemRandom::new(), message) {
                Ok(signature) => Ok(signature.as_ref().to_vec()),
                Err(_) => Err(TrustError::content(
                    Path::new("the private key"),
                    "cannot sign: the system gives no random numbers",
                )),
            },
        }
    }
}

/// The blocks of a file in PEM.
pub(super) fn blocks(path: &Path) -> Result<Vec<Pem>, TrustError> {
    let text = fs::read(path).map_err(|error| TrustError::Io {
        path: path.to_owned(),
        error,
    })?;
    let blocks: Result<Vec<Pem>, _> = Pem::iter_from_buffer(&text).collect();
    blocks.map_err(|error| TrustError::content(path, format!("is not in PEM: {error}")))
}

fn unsupported(kind: &'static str) -> UnsupportedKey {
    UnsupportedKey { kind }
}

/// The same of the file that holds the key.
fn at(path: &Path) -> impl Fn(UnsupportedKey) -> TrustError {
    move |error| TrustError::content(path, error.to_string())
}

fn not_public(path: &Path, labels: &[&str]) -> String {
    let shown = path.display();
    if labels.contains(&"CERTIFICATE") {
        return format!(
            "holds a certificate: say whose signatures to trust, as `{shown}#IDENTITY`"
        );
    }
    if labels.iter().any(|label| label.ends_with("PRIVATE KEY")) {
        return "holds a private key, which belongs to nobody but the signer: expected the public half, from `openssl pkey -in KEY -pubout`"
            .to_owned();
    }
    format!("holds no public key in PEM; {EXPECTED}")
}

/// The older form of an EC key inside the newer one. Its curve stands in it.
fn wrapped(sec1: &[u8]) -> Result<Vec<u8>, UnsupportedKey> {
    const P256_OID: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const P384_OID: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
    const EC_OID: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    let has = |oid: &[u8]| sec1.windows(oid.len()).any(|part| part == oid);
    let curve = [P256_OID, P384_OID].into_iter().find(|oid| has(oid));
    let curve = curve.ok_or_else(|| unsupported("ECDSA on another curve"))?;
    let algorithm = element(0x30, &[EC_OID, curve]);
    Ok(element(
        0x30,
        &[&[0x02, 0x01, 0x00], &algorithm, &element(0x04, &[sec1])],
    ))
}

/// An element of DER that holds less than 64 KiB.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut bytes = vec![tag];
    match u16::try_from(content.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes()
    {
        [0, length @ 0..0x80] => bytes.push(length),
        [0, length] => bytes.extend([0x81, length]),
        [high, low] => bytes.extend([0x82, high, low]),
    }
    bytes.extend(content);
    bytes
}
