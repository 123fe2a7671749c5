//! Whom the certificate of a client names. That it is good was checked in the handshake.

use x509_parser::extensions::GeneralName;

/// The names in a certificate, each with its kind: `subject:CN=…`, `uri:…`, `dns:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub(super) names: Vec<String>,
}

/// More names are not compared with.
const MOST_NAMES: usize = 64;

impl Peer {
    /// The names in a certificate (DER); `None` when it cannot be read.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let mut names = vec![format!("subject:{}", certificate.subject())];
        let alternative = certificate.subject_alternative_name().ok().flatten();
        let alternative = alternative.map(|extension| extension.value.general_names.as_slice());
        for name in alternative.unwrap_or_default().iter().take(MOST_NAMES) {
            match name {
                GeneralName::URI(uri) => names.push(format!("uri:{uri}")),
                GeneralName::DNSName(name) => names.push(format!("dns:{}", name.to_lowercase())),
                _ => {}
            }
        }
        Some(Self { names })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn names_have_their_kind() {
        let mut params = CertificateParams::new(vec!["Host.example.com".to_owned()]).unwrap();
        let uri = "spiffe://prod/ns/batch/sa/run".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        params.distinguished_name.push(DnType::CommonName, "batch");
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let peer = Peer::read(made.der()).unwrap();
        assert!(peer.names[0].starts_with("subject:") && peer.names[0].contains("CN=batch"));
        let rest = ["dns:host.example.com", "uri:spiffe://prod/ns/batch/sa/run"];
        assert_eq!(peer.names[1..], rest);
        assert_eq!(Peer::read(b"no certificate"), None);
    }
}
