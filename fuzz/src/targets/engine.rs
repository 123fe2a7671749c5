//! Graphs for the engine that is our own.

use std::fs;
use std::sync::OnceLock;

use onstage::engine::{CancelToken, Classic, Engine, EngineError, EngineOptions};
use onstage::model::{Extent, Package, Probe};
use tempfile::TempDir;

/// A run takes no more operations than this: larger ones say nothing new.
const MOST_WORK: u64 = 1 << 20;

/// Nor more bytes.
const MOST_BYTES: usize = 1 << 20;

/// An ONNX file that is compiled and, when it is accepted, run.
pub(super) fn classic(data: &[u8]) {
    static PLACE: OnceLock<TempDir> = OnceLock::new();
    let place = PLACE
        .get_or_init(|| tempfile::tempdir().expect("there is a directory for temporary files"));
    let path = place.path().join("model.onnx");
    fs::write(&path, data).expect("the file can be written");
    let Ok(package) = Package::open(&path) else {
        return;
    };
    let cancel = CancelToken::new();
    let model = match Classic.compile(&package, &EngineOptions::default(), &cancel) {
        Ok(model) => model,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let signature = &package.graph.signature;
    let Some(example) = signature.zeros_within(MOST_BYTES) else {
        return;
    };
    let extents: Vec<Extent> = example.inputs().iter().map(Extent::from_tensor).collect();
    let needs = package.graph.work.needs(&extents);
    if needs.work > MOST_WORK || needs.bytes > MOST_BYTES as u64 {
        return;
    }
    let mut session = model.session().expect("a session needs nothing");
    let probes = Probe::ALL
        .into_iter()
        .filter_map(|probe| example.probe(probe));
    for batch in probes.chain([example.clone()]) {
        match session.run(&batch, &cancel) {
            Ok(outputs) => assert_eq!(outputs.len(), signature.outputs.len()),
            Err(EngineError::Run { reason, .. }) => assert!(!reason.is_empty()),
            Err(error) => panic!("{error}"),
        }
    }
}
