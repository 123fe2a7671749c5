//! What the operator chose for the log.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::model::fits_pattern;

/// What is kept, and how.
#[derive(Debug, Clone)]
pub struct PayloadOptions {
    /// The share of requests that are kept, from 0 to 1.
    pub fraction: f64,
    /// Patterns of the models that are logged until a person says otherwise; none stands for all.
    pub models: Vec<String>,
    /// What is kept of a row.
    pub columns: ColumnOptions,
    /// Headers of requests that are kept, in lower case.
    pub headers: Vec<String>,
    /// Whether bodies of failed requests are kept.
    pub errors: bool,
    /// When a file is closed.
    pub roll: Duration,
    /// Bytes at which a file is closed.
    pub roll_size: u64,
    /// Bytes of requests that wait for the writer.
    pub queue: usize,
    /// Bytes of files that wait for the sink.
    pub spool: u64,
    /// The age at which files are deleted; `None` keeps them.
    pub keep: Option<Duration>,
}

impl PayloadOptions {
    /// Whether a model is logged until a person says otherwise.
    pub(super) fn includes(&self, model: &str) -> bool {
        let fits = |pattern: &String| fits_pattern(pattern, model);
        self.models.is_empty() || self.models.iter().any(fits)
    }
}

/// What is kept of a row.
#[derive(Debug, Clone, Default)]
pub struct ColumnOptions {
    /// Columns that are left out.
    pub exclude: BTreeSet<String>,
    /// Columns of which only a keyed hash is kept.
    pub hash: BTreeSet<String>,
    /// The key of that hash.
    pub key: Option<HashKey>,
    /// Whether the values of tensors are kept that are no columns.
    pub tensors: bool,
}

/// The key of hashed columns; never shown.
#[derive(Clone)]
pub struct HashKey(Hmac<Sha256>);

impl HashKey {
    /// The key of these bytes.
    pub fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"))
    }

    /// HMAC-SHA256 of a value's text, in lower-case hex.
    pub fn hash(&self, text: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(text.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_rfc_4231() {
        let key = HashKey::new(b"Jefe");
        let wanted = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(key.hash("what do ya want for nothing?"), wanted);
        assert_eq!(format!("{key:?}"), "HashKey");
    }
}
