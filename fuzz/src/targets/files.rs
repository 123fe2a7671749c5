//! Files and events of registries.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use onstage::model::{Graph, Manifest};
use onstage::registry::notify::webhook::{Headers, Receiver, WebhookError};
use onstage::registry::{Environment, ObjectAccess, Query, Source, StoreRegistry};
use sha2::Sha256;
use tempfile::TempDir;

use super::stage::stage;

/// What stands between the parts of the data of [`registry`] and [`webhook`].
const BETWEEN: &[u8] = b"\n--\n";

/// An `MLmodel` file.
pub(super) fn manifest(data: &[u8]) {
    if let Err(problem) = Manifest::parse(data) {
        assert!(!problem.to_string().is_empty());
    }
}

/// An ONNX file.
pub(super) fn graph(data: &[u8]) {
    let length = u64::try_from(data.len()).expect("memory has less than 64 bits");
    match Graph::decode(Cursor::new(data), length) {
        Ok(graph) => {
            // What is asked of every graph before it is loaded.
            let _ = graph.signature.zeros();
        }
        Err(problem) => assert!(!problem.to_string().is_empty()),
    }
}

/// The small files of a registry: of a version, a stage and an alias.
pub(super) fn registry(data: &[u8]) {
    static PLACE: OnceLock<(TempDir, StoreRegistry)> = OnceLock::new();
    let (directory, registry) = PLACE.get_or_init(|| {
        let directory = tempfile::tempdir().expect("there is a directory for temporary files");
        let registry = registry_at(directory.path());
        (directory, registry)
    });
    let mut parts = parts(data);
    for file in ["versions/1.json", "stages/Production", "aliases/champion"] {
        let path = directory.path().join("model").join(file);
        fs::create_dir_all(path.parent().expect("it is in a directory")).expect("it can be made");
        fs::write(path, parts.next().unwrap_or_default()).expect("the file can be written");
    }
    let query = Query {
        everything: true,
        ..Query::default()
    };
    let state = stage().wait_for(registry.snapshot(&query));
    if let Ok(state) = state {
        for model in state.models.values() {
            let pointed = model.stages.values().chain(model.aliases.values());
            assert!(
                pointed
                    .into_iter()
                    .all(|version| model.versions.contains_key(version))
            );
        }
    }
}

fn registry_at(directory: &Path) -> StoreRegistry {
    onstage::network::install_provider();
    let access = ObjectAccess::new(reqwest::Client::new(), Arc::new(Environment::new(&[])));
    let uri = directory.to_str().expect("the path is text");
    StoreRegistry::open(uri, access).expect("a directory can be a registry")
}

/// MLflow's webhook: headers and body. Signed rightly when the first byte says so.
pub(super) fn webhook(data: &[u8]) {
    static RECEIVER: OnceLock<Receiver> = OnceLock::new();
    let Some((&way, rest)) = data.split_first() else {
        return;
    };
    let mut parts = parts(rest);
    let mut text = || std::str::from_utf8(parts.next().unwrap_or_default()).ok();
    let (delivery_id, timestamp, signature) = (text(), text(), text());
    let body = parts.next().unwrap_or_default();
    let signed = (way & 1 == 1).then(|| sign(delivery_id, timestamp, body));
    let headers = Headers {
        delivery_id,
        timestamp,
        signature: signed.as_deref().or(signature),
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_417_476);
    let receiver = RECEIVER.get_or_init(|| Receiver::new("secret"));
    let received = receiver.receive(headers, body, now);
    assert!(
        signed.is_some() || received.is_err(),
        "taken without a signature"
    );
    assert!(signed.is_none() || received != Err(WebhookError::Signature));
}

fn sign(id: Option<&str>, timestamp: Option<&str>, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").expect("a key has any length");
    let (id, timestamp) = (id.unwrap_or_default(), timestamp.unwrap_or_default());
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let data = rest.take()?;
        let end = data.windows(BETWEEN.len()).position(|part| part == BETWEEN);
        Some(match end {
            Some(end) => {
                rest = Some(&data[end + BETWEEN.len()..]);
                &data[..end]
            }
            None => data,
        })
    })
}
