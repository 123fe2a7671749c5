//! The file of callers: one JSON object per line, each a credential and what its holder may do.
//!
//! ```text
//! {"name":"shop","sha256":"9f86…","scopes":["predict"],"models":["fraud-*"]}
//! {"name":"batch","certificate":"uri:spiffe://prod/ns/batch/*","scopes":["read","predict"],"models":["*"]}
//! {"name":"operators","claim":"groups=ml-ops","scopes":["admin"],"models":["*"]}
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::{Grant, Identity, Pattern, PatternError, Scope, Unknown, digest};

/// More is no file that somebody wrote.
const LONGEST: usize = 16 << 20;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerLine {
    /// For the audit log.
    pub name: String,
    /// The digest of an API key, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// A name in the certificate of a client: `subject:…`, `uri:…` or `dns:…`, with `*` for any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// A claim of tokens and a pattern of its value: `groups=ml-*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// To which models: names with `*` for any text.
    pub models: Vec<String>,
    /// From when on the line counts no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// Why a file of callers cannot be used. What stands in a line is never repeated: it may be a secret in the wrong
/// place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallersError {
    /// A line is no caller.
    #[error("line {line}: {what}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: LineError,
    },
    /// The file is too large.
    #[error("it is larger than {} MiB", LONGEST >> 20)]
    TooLarge,
}

/// Why a line is no caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is not one JSON object.
    #[error("column {column}: not a JSON object on one line")]
    Json {
        /// Where the object ends being one.
        column: usize,
    },
    /// It has other fields.
    #[error(
        "column {column}: not the fields of a caller: `name`, `scopes`, `models`, one of `sha256`, `certificate` and `claim`, \
         and perhaps `expires`"
    )]
    Fields {
        /// Where they begin to differ.
        column: usize,
    },
    /// A field that every line needs is empty.
    #[error("`name`, `scopes` and `models` may not be empty")]
    Empty,
    /// Not a pattern of models.
    #[error("`models`: {0}")]
    Models(PatternError),
    /// Not a time.
    #[error("`expires` is a time such as `2030-01-31T00:00:00Z`")]
    Expires,
    /// The kind of name is missing.
    #[error("`certificate` begins with `subject:`, `uri:` or `dns:`")]
    CertificateKind,
    /// Not a pattern of names.
    #[error("`certificate`: {0}")]
    Certificate(PatternError),
    /// No `=`.
    #[error("`claim` is a name and a pattern, such as `groups=ml-*`")]
    ClaimForm,
    /// Not a pattern of values.
    #[error("`claim`: {0}")]
    Claim(PatternError),
    /// No credential, or several.
    #[error("expected exactly one of `sha256`, `certificate` and `claim`")]
    Credentials,
    /// Not the digest of a key.
    #[error(
        "`sha256` is 64 hexadecimal digits: the digest of a key, not the key itself; `onstage key` makes both"
    )]
    Digest,
    /// The key has another line.
    #[error("the same key stands in a line above")]
    Twice,
}

/// Everybody who is known.
#[derive(Debug, Default)]
pub struct Callers {
    /// By the first bytes of the digest, which narrow the search; the whole is compared in constant time.
    keys: HashMap<[u8; 8], Vec<Key>>,
    certificates: Vec<(Pattern, Entry)>,
    /// Claim, pattern of its value.
    claims: Vec<(String, Pattern, Entry)>,
}

#[derive(Debug)]
struct Key {
    digest: [u8; 32],
    entry: Entry,
}

#[derive(Debug)]
struct Entry {
    identity: Arc<Identity>,
    expires: Option<Timestamp>,
}

impl Entry {
    fn counts_at(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl Callers {
    /// Reads a file.
    ///
    /// # Errors
    /// [`CallersError`].
    pub fn parse(text: &str) -> Result<Self, CallersError> {
        if text.len() > LONGEST {
            return Err(CallersError::TooLarge);
        }
        let mut callers = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let added = parse_line(line).and_then(|line| callers.add(line));
            added.map_err(|what| CallersError::Line {
                line: index + 1,
                what,
            })?;
        }
        Ok(callers)
    }

    /// How many lines there are.
    pub fn count(&self) -> usize {
        let keys: usize = self.keys.values().map(Vec::len).sum();
        keys + self.certificates.len() + self.claims.len()
    }

    fn add(&mut self, line: CallerLine) -> Result<(), LineError> {
        let CallerLine { name, scopes, .. } = line;
        if name.is_empty() || scopes.is_empty() || line.models.is_empty() {
            return Err(LineError::Empty);
        }
        let models: Result<Vec<Pattern>, _> = line.models.iter().map(|text| text.parse()).collect();
        let models = models.map_err(LineError::Models)?;
        let expires = line.expires.map(|text| text.parse()).transpose();
        let expires = expires.map_err(|_| LineError::Expires)?;
        let entry = Entry {
            identity: Arc::new(Identity::new(&name, vec![Grant { scopes, models }])),
            expires,
        };
        match (line.sha256, line.certificate, line.claim) {
            (Some(text), None, None) => self.add_key(&text, entry),
            (None, Some(text), None) => {
                let kinds = ["subject:", "uri:", "dns:"];
                if !kinds.iter().any(|kind| text.starts_with(kind)) {
                    return Err(LineError::CertificateKind);
                }
                let pattern = text.parse().map_err(LineError::Certificate)?;
                self.certificates.push((pattern, entry));
                Ok(())
            }
            (None, None, Some(text)) => {
                let (claim, pattern) = text.split_once('=').ok_or(LineError::ClaimForm)?;
                let pattern = pattern.parse().map_err(LineError::Claim)?;
                self.claims.push((claim.to_owned(), pattern, entry));
                Ok(())
            }
            _ => Err(LineError::Credentials),
        }
    }

    fn add_key(&mut self, text: &str, entry: Entry) -> Result<(), LineError> {
        let digest = from_hex(text).ok_or(LineError::Digest)?;
        let known = self.keys.entry(bucket(&digest)).or_default();
        if known.iter().any(|key| key.digest == digest) {
            return Err(LineError::Twice);
        }
        known.push(Key { digest, entry });
        Ok(())
    }

    /// Who holds this API key. `None` when there is no such key.
    pub(super) fn by_key(
        &self,
        secret: &[u8],
        now: Timestamp,
    ) -> Option<Result<Arc<Identity>, Unknown>> {
        let digest = digest(secret);
        // Whoever measures the time learns bytes of a digest, and nothing about a key from them; the comparison
        // is constant all the same.
        let candidates = self.keys.get(&bucket(&digest))?;
        let found = candidates
            .iter()
            .find(|key| key.digest.ct_eq(&digest).into())?;
        Some(if found.entry.counts_at(now) {
            Ok(Arc::clone(&found.entry.identity))
        } else {
            Err(Unknown::Expired)
        })
    }

    /// Who shows a certificate with these names: what all lines that fit allow.
    pub(super) fn by_certificate(&self, names: &[String], now: Timestamp) -> Option<Arc<Identity>> {
        let fits = |pattern: &Pattern| names.iter().any(|name| pattern.matches(name));
        let found = self
            .certificates
            .iter()
            .filter(|(pattern, entry)| entry.counts_at(now) && fits(pattern));
        let found: Vec<&Entry> = found.map(|(_, entry)| entry).collect();
        match found.as_slice() {
            [] => None,
            [one] => Some(Arc::clone(&one.identity)),
            [first, ..] => {
                let grants = found.iter().flat_map(|entry| entry.identity.grants.clone());
                let grants = grants.collect();
                let mut identity = Identity::clone(&first.identity);
                identity.grants = grants;
                Some(Arc::new(identity))
            }
        }
    }

    /// What the claims of a token allow. `values` gives the texts of a claim.
    pub(super) fn by_claims(
        &self,
        values: &BTreeMap<String, Vec<String>>,
        now: Timestamp,
    ) -> Vec<Grant> {
        let found = self.claims.iter().filter(|(claim, pattern, entry)| {
            let values = values.get(claim).map_or(&[][..], Vec::as_slice);
            entry.counts_at(now) && values.iter().any(|value| pattern.matches(value))
        });
        found
            .flat_map(|(_, _, entry)| entry.identity.grants.clone())
            .collect()
    }
}

fn parse_line(line: &str) -> Result<CallerLine, LineError> {
    serde_json::from_str(line).map_err(|error| {
        let column = error.column();
        match error.classify() {
            serde_json::error::Category::Data => LineError::Fields { column },
            _ => LineError::Json { column },
        }
    })
}

fn bucket(digest: &[u8; 32]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *digest;
    [a, b, c, d, e, f, g, h]
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).ok()?;
    Some(digest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::middleware::auth::{ApiKey, On};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn line(key: &ApiKey, more: &str) -> String {
        let hash = key.hashed();
        format!(
            r#"{{"name":"ci","sha256":"{hash}","scopes":["predict"],"models":["fraud-*"]{more}}}"#
        )
    }

    fn complaint(text: &str) -> String {
        Callers::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_key_is_known_by_its_digest() {
        let (key, other) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
        let text = format!("# comment\n\n  {}\n", line(&key, ""));
        let callers = Callers::parse(&text).unwrap();
        assert_eq!(callers.count(), 1);
        let found = callers
            .by_key(key.secret().as_bytes(), NOW)
            .unwrap()
            .unwrap();
        assert_eq!(found.name, "ci");
        assert!(found.may(Scope::Predict, On::Model("fraud-eu")));
        assert!(callers.by_key(other.secret().as_bytes(), NOW).is_none());
        assert!(callers.by_key(key.hashed().as_bytes(), NOW).is_none());
        assert!(callers.by_key(b"", NOW).is_none());
    }

    #[test]
    fn a_key_expires() {
        let key = ApiKey::generate().unwrap();
        let text = line(&key, r#","expires":"1970-01-01T00:01:00Z""#);
        let callers = Callers::parse(&text).unwrap();
        let at = |second| {
            let now = Timestamp::from_second(second).unwrap();
            callers.by_key(key.secret().as_bytes(), now).unwrap()
        };
        assert!(at(59).is_ok());
        assert_eq!(at(60), Err(Unknown::Expired));
    }

    #[test]
    fn all_lines_that_fit_a_certificate_or_a_token_count() {
        let text = r#"
{"name":"batch","certificate":"uri:spiffe://prod/*","scopes":["read"],"models":["a"]}
{"name":"host","certificate":"dns:*.example.com","scopes":["predict"],"models":["b"]}
{"name":"people","claim":"groups=ml-*","scopes":["admin"],"models":["*"]}"#;
        let callers = Callers::parse(text).unwrap();
        let names = ["uri:spiffe://prod/x", "dns:h.example.com"].map(str::to_owned);
        let found = callers.by_certificate(&names, NOW).unwrap();
        assert!(found.may(Scope::Read, On::Model("a")));
        assert!(found.may(Scope::Predict, On::Model("b")));
        assert!(!found.may(Scope::Predict, On::Model("a")));
        // A name of another kind is another name.
        assert!(
            callers
                .by_certificate(&["dns:spiffe://prod/x".to_owned()], NOW)
                .is_none()
        );
        let values = |value: &str| BTreeMap::from([("groups".to_owned(), vec![value.to_owned()])]);
        assert_eq!(callers.by_claims(&values("ml-ops"), NOW).len(), 1);
        assert!(callers.by_claims(&values("ops"), NOW).is_empty());
        assert!(callers.by_claims(&BTreeMap::new(), NOW).is_empty());
    }

    #[test]
    fn a_line_that_is_no_caller_is_named_and_not_repeated() {
        let key = ApiKey::generate().unwrap();
        let twice = format!("{0}\n{0}", line(&key, ""));
        assert_eq!(
            complaint(&twice),
            "line 2: the same key stands in a line above"
        );
        for text in [
            "hello",
            "[]",
            "{}",
            r#"{"name":"a","scopes":["read"],"models":["*"]}"#,
            r#"{"name":"a","sha256":"s3cret","scopes":["read"],"models":["*"]}"#,
            r#"{"name":"a","key":"s3cret","scopes":["read"],"models":["*"]}"#,
            r#"{"name":"a","claim":"s3cret","scopes":["read"],"models":["*"]}"#,
            r#"{"name":"a","certificate":"s3cret","scopes":["read"],"models":["*"]}"#,
            r#"{"name":"a","claim":"a=b","scopes":["s3cret"],"models":["*"]}"#,
            r#"{"name":"a","claim":"a=b","scopes":[],"models":["*"]}"#,
            r#"{"name":"a","claim":"a=b","scopes":["read"],"models":[]}"#,
            r#"{"name":"a","claim":"a=b","scopes":["read"],"models":[""]}"#,
            r#"{"name":"","claim":"a=b","scopes":["read"],"models":["*"]}"#,
            r#"{"name":"a","claim":"a=b","certificate":"dns:a","scopes":["read"],"models":["*"]}"#,
        ] {
            let said = complaint(text);
            assert!(said.starts_with("line 1: "), "{text}: {said}");
            assert!(!said.contains("s3cret"), "{text}: {said}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_on_any_text(text in any::<String>()) {
            let _ = Callers::parse(&text);
        }

        #[test]
        fn a_line_that_is_written_is_read(name in "[^\\p{C}]{1,40}", models in prop::collection::vec("[a-z*-]{1,12}", 1..4)) {
            let key = ApiKey::generate().unwrap();
            let line = CallerLine {
                name: name.clone(),
                sha256: Some(key.hashed()),
                certificate: None,
                claim: None,
                scopes: vec![Scope::Read],
                models,
                expires: None,
            };
            let text = serde_json::to_string(&line).unwrap();
            let callers = Callers::parse(&text).unwrap();
            let found = callers.by_key(key.secret().as_bytes(), NOW).unwrap().unwrap();
            prop_assert_eq!(&found.name, &name);
        }
    }
}
