//! The envelope: a Sigstore bundle, as JSON, that holds a DSSE envelope.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;

use super::certificate;
use super::error::SealProblem;
use super::statement::Statement;

/// Before the version.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";

const WRITTEN_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Certificates of one chain.
const MAX_CHAIN: usize = 16;

/// What was read of a bundle; nothing of it is believed yet.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) material: Material,
    pub(super) signature: Vec<u8>,
    payload: Vec<u8>,
}

/// Whose signature it says to be.
#[derive(Debug)]
pub(super) enum Material {
    /// SHA-256 of the PEM of a public key.
    Key { hint: String },
    /// DER, the signer's first.
    Certificates(Vec<Vec<u8>>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    media_type: String,
    verification_material: WireMaterial,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMaterial {
    public_key: Option<KeyHint>,
    x509_certificate_chain: Option<Chain>,
    certificate: Option<Certificate>,
}

#[derive(Deserialize)]
struct KeyHint {
    #[serde(default)]
    hint: String,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<Certificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    raw_bytes: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

impl Bundle {
    pub(super) fn parse(text: &[u8]) -> Result<Self, SealProblem> {
        let wire: Wire = serde_json::from_slice(text)
            .map_err(|error| SealProblem::Malformed(error.to_string()))?;
        if !wire.media_type.starts_with(MEDIA_TYPE) {
            return Err(malformed(
                "its `mediaType` is not that of a Sigstore bundle",
            ));
        }
        let Some(envelope) = wire.dsse_envelope else {
            return Err(malformed("it has no `dsseEnvelope`"));
        };
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(malformed("its `payloadType` is not that of in-toto"));
        }
        // A second one would be somebody's whom we do not ask for.
        let [signature] = envelope.signatures.as_slice() else {
            return Err(malformed("it does not have exactly one signature"));
        };
        Ok(Self {
            material: material(wire.verification_material)?,
            signature: decode(&signature.sig, "sig")?,
            payload: decode(&envelope.payload, "payload")?,
        })
    }

    /// The bytes that were signed.
    pub(super) fn signed(&self) -> Vec<u8> {
        pre_authentication(&self.payload)
    }

    /// What the payload says.
    pub(super) fn statement(&self) -> Result<Statement, SealProblem> {
        Statement::parse(&self.payload)
    }

    /// Who says to have made it.
    pub(super) fn claimed(&self) -> Result<String, SealProblem> {
        match &self.material {
            Material::Key { hint } if hint.is_empty() => {
                Ok("a key that it does not name".to_owned())
            }
            Material::Key { hint } => Ok(format!("key {hint}")),
            Material::Certificates(chain) => certificate::claimed(chain),
        }
    }
}

fn material(wire: WireMaterial) -> Result<Material, SealProblem> {
    match wire {
        WireMaterial {
            certificate: Some(_),
            ..
        } => Err(SealProblem::Unsupported(
            "a certificate of Sigstore's public service (`sign sigstore`), which needs the network"
                .to_owned(),
        )),
        WireMaterial {
            public_key: Some(KeyHint { hint }),
            x509_certificate_chain: None,
            ..
        } => Ok(Material::Key { hint }),
        WireMaterial {
            public_key: None,
            x509_certificate_chain: Some(Chain { certificates }),
            ..
        } if (1..=MAX_CHAIN).contains(&certificates.len()) => {
            let chain = certificates.iter();
            let chain = chain.map(|certificate| decode(&certificate.raw_bytes, "rawBytes"));
            Ok(Material::Certificates(chain.collect::<Result<_, _>>()?))
        }
        _ => Err(malformed(
            "its `verificationMaterial` is neither a public key nor a chain of 1 to 16 certificates",
        )),
    }
}

/// The JSON of a bundle by a key whose fingerprint is `hint`.
pub(super) fn write(payload: &[u8], signature: &[u8], hint: &str) -> String {
    json!({
        "mediaType": WRITTEN_TYPE,
        "verificationMaterial": { "publicKey": { "hint": hint }, "tlogEntries": [] },
        "dsseEnvelope": {
            "payload": BASE64.encode(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{ "sig": BASE64.encode(signature), "keyid": "" }],
        },
    })
    .to_string()
}

/// What DSSE signs of a payload.
pub(super) fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let (kind, length) = (PAYLOAD_TYPE, payload.len());
    let mut bytes = format!("DSSEv1 {} {kind} {length} ", kind.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

fn decode(text: &str, what: &str) -> Result<Vec<u8>, SealProblem> {
    BASE64
        .decode(text)
        .map_err(|_| SealProblem::Malformed(format!("its `{what}` is not base64")))
}

fn malformed(reason: &str) -> SealProblem {
    SealProblem::Malformed(reason.to_owned())
}
