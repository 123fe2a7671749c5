//! Certificates: an authority says whose key it is.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::error::{SealProblem, TrustError};
use super::key::{PublicKey, blocks};

/// `id-kp-codeSigning`, the part of DER that is compared.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];

/// Certificates of authorities, and the name of the signer whom they are trusted to know.
#[derive(Debug, Clone)]
pub struct Authority {
    anchors: Vec<TrustAnchor<'static>>,
    identity: String,
}

impl Authority {
    /// Reads the certificates in a file in PEM. `identity` is what the signer's certificate must have as an email
    /// address, URI or DNS name, or as its common name.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn read(path: &Path, identity: &str) -> Result<Self, TrustError> {
        if identity.trim().is_empty() {
            let problem = format!(
                "knows many: say whose signatures to trust, as `{}#IDENTITY`",
                path.display()
            );
            return Err(TrustError::content(path, problem));
        }
        let mut anchors = Vec::new();
        let blocks = blocks(path)?;
        for block in blocks.iter().filter(|block| block.label == "CERTIFICATE") {
            let der = CertificateDer::from(block.contents.as_slice());
            let anchor = anchor_from_trusted_cert(&der).map_err(|error| {
                TrustError::content(
                    path,
                    format!("holds a certificate that cannot be read: {error}"),
                )
            })?;
            anchors.push(anchor.to_owned());
        }
        if anchors.is_empty() {
            let problem = "holds no certificate in PEM, expected those of an authority";
            return Err(TrustError::content(path, problem));
        }
        Ok(Self {
            anchors,
            identity: identity.trim().to_owned(),
        })
    }
}

/// The key and the name of the owner of the chain, when one of the authorities vouches for them.
pub(super) fn signer(
    chain: &[Vec<u8>],
    authorities: &[Authority],
) -> Result<(PublicKey, String), SealProblem> {
    let leaf = leaf(chain)?;
    may_sign(&leaf)?;
    let names = names(&leaf);
    let mut refusal = refused("no authority is trusted here");
    for authority in authorities {
        match vouches(authority, chain, &leaf) {
            Ok(()) if names.contains(&authority.identity) => {
                let key = PublicKey::from_info(leaf.public_key())
                    .map_err(|problem| refused(&format!("it {problem}")))?;
                return Ok((key, authority.identity.clone()));
            }
            Ok(()) => {
                refusal = refused(&format!(
                    "it is that of `{}`, expected `{}`",
                    names.join("`, `"),
                    authority.identity
                ));
            }
            Err(webpki::Error::RequiredEkuNotFoundContext(_)) => {
                refusal = refused("it is for other uses than signing code");
            }
            Err(webpki::Error::UnknownIssuer) => {
                refusal = refused("no trusted authority has issued it");
            }
            Err(error) => refusal = refused(&error.to_string()),
        }
    }
    Err(refusal)
}

/// Who the certificate says to belong to.
pub(super) fn claimed(chain: &[Vec<u8>]) -> Result<String, SealProblem> {
    Ok(names(&leaf(chain)?).join(", "))
}

fn leaf(chain: &[Vec<u8>]) -> Result<X509Certificate<'_>, SealProblem> {
    let der = chain.first().map(Vec::as_slice).unwrap_or_default();
    let parsed = X509Certificate::from_der(der);
    let (_, leaf) = parsed.map_err(|error| refused(&format!("it cannot be read: {error}")))?;
    Ok(leaf)
}

/// Whether a path leads to the authority. Certificates of signers often live for minutes, and a signature does not prove
/// when it was made: as `model_signing` does, we ask whether all was valid when the signer's certificate began to be.
fn vouches(
    authority: &Authority,
    chain: &[Vec<u8>],
    leaf: &X509Certificate<'_>,
) -> Result<(), webpki::Error> {
    let ders: Vec<CertificateDer<'_>> = chain
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect();
    let Some((first, others)) = ders.split_first() else {
        return Err(webpki::Error::BadDer);
    };
    let begin = u64::try_from(leaf.validity().not_before.timestamp()).unwrap_or_default();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(begin));
    EndEntityCert::try_from(first)?
        .verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &authority.anchors,
            others,
            time,
            KeyUsage::required_if_present(CODE_SIGNING),
            None,
            None,
        )
        .map(drop)
}

fn may_sign(leaf: &X509Certificate<'_>) -> Result<(), SealProblem> {
    let usage = leaf.key_usage().ok().flatten();
    let extended = leaf.extended_key_usage().ok().flatten();
    let signs = usage.is_some_and(|usage| usage.value.digital_signature());
    let signs_code = extended.is_some_and(|usage| usage.value.code_signing);
    match signs || signs_code {
        true => Ok(()),
        false => Err(refused("it is not for signing")),
    }
}

/// Every name that the certificate gives its owner.
fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let alternative = leaf.subject_alternative_name().ok().flatten();
    let alternative = alternative
        .into_iter()
        .flat_map(|names| &names.value.general_names);
    let mut names: Vec<String> = alternative
        .filter_map(|name| match name {
            GeneralName::RFC822Name(name) | GeneralName::URI(name) | GeneralName::DNSName(name) => {
                Some((*name).to_owned())
            }
            _ => None,
        })
        .collect();
    let common = leaf.subject().iter_common_name();
    names.extend(common.filter_map(|name| name.as_str().ok().map(str::to_owned)));
    names
}

fn refused(reason: &str) -> SealProblem {
    SealProblem::Certificate(reason.to_owned())
}
