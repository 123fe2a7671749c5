use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::telemetry::DURATION_BUCKETS;

struct Scene {
    directory: TempDir,
    settings: TlsSettings,
    metrics: Arc<Metrics>,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = TlsSettings {
            cert_file: Some(directory.path().join("tls.crt")),
            key_file: Some(directory.path().join("tls.key")),
            client_ca_file: None,
            client_auth: ClientAuth::None,
            min_version: TlsVersion::V1_2,
            handshake_timeout: Duration::from_secs(10),
        };
        let metrics = Arc::new(Metrics::new(&DURATION_BUCKETS));
        Self {
            directory,
            settings,
            metrics,
        }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }

    fn write_pair(&self, pair: &(String, String)) {
        self.write("tls.crt", &pair.0);
        self.write("tls.key", &pair.1);
    }

    fn load(&self) -> anyhow::Result<Option<Arc<Tls>>> {
        Tls::load(&self.settings, &self.metrics)
    }

    fn complaint(&self) -> String {
        match self.load() {
            Ok(_) => panic!("it was loaded"),
            Err(error) => format!("{error:#}"),
        }
    }

    fn counts(&self, outcome: &str) -> Option<String> {
        let text = self.metrics.render();
        let name = format!("onstage_tls_reloads_total{{outcome=\"{outcome}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.map(str::to_owned)
    }
}

/// A certificate and its key.
fn pair(days: i64) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let now = std::time::SystemTime::now();
    let day = Duration::from_secs(24 * 3600);
    let end = match u32::try_from(days) {
        Ok(days) => now + day * days,
        Err(_) => now - day,
    };
    params.not_before = (now - 2 * day).into();
    params.not_after = end.into();
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

#[test]
fn a_change_of_the_files_is_taken_and_a_broken_one_is_not() {
    let scene = Scene::new();
    scene.write_pair(&pair(30));
    let tls = scene.load().unwrap().unwrap();
    let first = tls.config.get_inner();
    let is_first = || Arc::ptr_eq(&first, &tls.config.get_inner());
    tls.reload();
    assert!(is_first());
    assert_eq!(
        (scene.counts("success"), scene.counts("failure")),
        (None, None)
    );

    let (next, other) = (pair(60), pair(60));
    scene.write("tls.crt", "nonsense");
    tls.reload();
    tls.reload();
    scene.write_pair(&(next.0.clone(), other.1));
    tls.reload();
    scene.write_pair(&pair(-1));
    tls.reload();
    std::fs::remove_file(scene.directory.path().join("tls.key")).unwrap();
    tls.reload();
    tls.reload();
    assert!(is_first());
    assert_eq!(scene.counts("failure").as_deref(), Some("4"));

    scene.write_pair(&next);
    tls.reload();
    assert!(!is_first());
    assert_eq!(scene.counts("success").as_deref(), Some("1"));
    let expiry = Files::read(&scene.settings).unwrap().expires().unwrap();
    let line = format!("onstage_tls_certificate_expiry_timestamp_seconds {expiry}");
    assert!(scene.metrics.render().contains(&line));
}

#[test]
fn settings_that_do_not_fit_together_are_refused() {
    let mut scene = Scene::new();
    assert!(scene.complaint().contains("cannot read"));
    scene.write_pair(&pair(1));
    scene.settings.client_auth = ClientAuth::Required;
    assert!(scene.complaint().contains("`server.tls.client_ca_file`"));
    scene.settings.client_ca_file = Some(scene.directory.path().join("tls.key"));
    assert!(scene.complaint().contains("holds no certificate"));
    scene.settings.client_auth = ClientAuth::None;
    assert!(scene.complaint().contains("of no use"));
    scene.settings.client_ca_file = None;
    scene.settings.key_file = None;
    assert!(scene.complaint().contains("needs `server.tls.key_file`"));
    scene.settings.cert_file = None;
    assert!(scene.load().unwrap().is_none());
    assert!(scene.metrics.render().contains("onstage_build_info"));
    assert!(!scene.metrics.render().contains("onstage_tls_certificate"));
}

#[test]
fn nothing_older_than_the_oldest_version_is_spoken() {
    assert_eq!(versions(TlsVersion::V1_2).len(), 2);
    assert_eq!(versions(TlsVersion::V1_3), [&version::TLS13]);
}
