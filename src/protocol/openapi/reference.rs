//! Where a schema is found in the document.

use serde_json::{Value, json};

/// A reference to one of the schemas that are shared.
pub(crate) fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}
