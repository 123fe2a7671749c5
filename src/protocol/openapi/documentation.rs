//! What the document is made of, and the last one that was made.

use std::sync::{Arc, OnceLock, Weak};

use axum::body::Bytes;
use tokio::sync::Mutex;

use super::document::{self, Row};
use crate::serving::CatalogSnapshot;

/// The last document, with the catalog that it describes, which may go: it would keep models in memory.
pub(crate) type Last = Option<(Weak<CatalogSnapshot>, Bytes)>;

/// What the document is made of, and the last one.
#[derive(Debug, Default)]
pub(crate) struct Documentation {
    rows: OnceLock<Vec<Row>>,
    pub(crate) last: Arc<Mutex<Last>>,
}

impl Documentation {
    /// Remembers the rows of the main listener; there is one table, once.
    pub(crate) fn remember(&self, table: Vec<Row>) {
        self.rows.get_or_init(|| table);
    }

    /// The document of these models, with paths below `base_path`; `is_guarded` where requests are authenticated.
    pub(crate) fn write(
        &self,
        snapshot: &CatalogSnapshot,
        base_path: &str,
        is_guarded: bool,
    ) -> serde_json::Result<Bytes> {
        let rows = self.rows.get().map(Vec::as_slice).unwrap_or_default();
        let mut document = document::write(rows, snapshot, base_path);
        if is_guarded {
            document::secure(&mut document, rows);
        }
        let text = serde_json::to_vec(&document)?;
        Ok(text.into())
    }
}
