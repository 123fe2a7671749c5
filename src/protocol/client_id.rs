//! The id of a request in its body, as clients of Databricks give it.

use super::json::{Json, JsonError, Reader};
use super::meter::Meter;
use crate::serving::RequestId;

/// Its key.
pub(crate) const KEY: &str = "client_request_id";

/// Reads it. What is no id is as good as none.
///
/// # Errors
/// [`JsonError`].
pub(crate) fn read(reader: &mut Reader<'_>, meter: &Meter) -> Result<Option<RequestId>, JsonError> {
    let value = reader.value()?;
    meter.release(value.heap());
    Ok(match value {
        Json::Text(text) => RequestId::given(text.as_bytes()),
        _ => None,
    })
}
