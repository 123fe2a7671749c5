//! A model that a platform keeps in an object store, brought to this machine before it is served.

use std::sync::Arc;

use anyhow::Context;
use tempfile::TempDir;
use url::Url;

use super::{ServeRequest, ServeTarget};
use crate::network::{self};
use crate::registry::{ObjectAccess, fetch_objects, without_secrets};

/// The request with paths for URLs, and the directory that holds their files; it goes when that is dropped.
///
/// # Errors
/// When the store does not give the files.
pub(super) async fn fetched(
    mut request: ServeRequest,
) -> anyhow::Result<(ServeRequest, Option<TempDir>)> {
    let mut kept = None;
    for target in &mut request.targets {
        let ServeTarget::Url(url) = target else {
            continue;
        };
        let directory = tempfile::tempdir().context("cannot make a directory for the model")?;
        let place = directory.path().join(name_of(url));
        std::fs::create_dir(&place).context("cannot make a directory for the model")?;
        let config = request.settings.network.config();
        let client = network::client(&config)?;
        let access = ObjectAccess::new(client, Arc::clone(&request.environment));
        fetch_objects(&access, url, &place)
            .await
            .with_context(|| format!("cannot fetch the model from `{}`", without_secrets(url)))?;
        *target = ServeTarget::Path(place);
        kept = Some(directory);
    }
    Ok((request, kept))
}

/// The last part of the path: a package without a name of its own is called after its directory.
fn name_of(url: &Url) -> String {
    let parts = url.path_segments().into_iter().flatten();
    let last = parts.rev().find(|part| !part.is_empty());
    let name = percent_encoding::percent_decode_str(last.unwrap_or("model"));
    let name = name.decode_utf8_lossy().replace(['/', '\\', '\0'], "_");
    match name.as_str() {
        "." | ".." => "model".to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_called_after_the_last_part_of_its_url() {
        let name = |url: &str| name_of(&url.parse().unwrap());
        assert_eq!(name("gs://bucket/models/iris/"), "iris");
        assert_eq!(name("gs://bucket"), "model");
        assert_eq!(name("s3://bucket/a%2Fb"), "a_b");
    }
}
