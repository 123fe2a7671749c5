//! Signed packages: whatever nobody who is trusted has vouched for never goes on stage, wherever it comes from.

use std::fs;
use std::path::{Path, PathBuf};

use onstage::model::{Content, ModelName, Package};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::lifecycle::swap::scene::{
    Load, answering, counter, follow, registry, until, until_answering, version,
};
use crate::support::mlflow_server::{MlflowClient, MlflowServer};
use crate::support::onnx::{save, times};
use crate::support::server::{Ended, Starter};

const PATH: &str = "/models/scale/invocations";

/// A directory with keys, and packages that they sign.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        let kinds = [
            ("ec", &PKCS_ECDSA_P256_SHA256),
            ("p384", &PKCS_ECDSA_P384_SHA384),
            ("ed", &PKCS_ED25519),
            ("stranger", &PKCS_ECDSA_P256_SHA256),
        ];
        for (name, kind) in kinds {
            let key = KeyPair::generate_for(kind).unwrap();
            fs::write(desk.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
            fs::write(desk.path(&format!("{name}.pub")), key.public_key_pem()).unwrap();
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A package that multiplies by `factor`, signed by the key of this name.
    async fn package(&self, factor: f32, key: Option<&str>) -> String {
        let (graph, directory) = (
            self.path("graph.onnx"),
            self.text(&format!("package-{factor}")),
        );
        save(&times(factor), &graph);
        let mut command = vec![
            "package",
            graph.to_str().unwrap(),
            "-o",
            &directory,
            "--force",
        ];
        let key = key.map(|key| self.text(&format!("{key}.key")));
        command.extend(key.iter().flat_map(|key| ["--sign", key]));
        let made = Starter::command(&command).run().await;
        assert_eq!(made.status.code(), Some(0), "{}", made.stderr);
        directory
    }

    async fn register(&self, package: &str) {
        registry(&[
            "register",
            "scale",
            package,
            "--registry",
            &self.text("models"),
        ])
        .await;
    }

    /// The files of a version in the registry.
    fn registered(&self, version: u64) -> PathBuf {
        self.path("models")
            .join(format!("scale/versions/{version}"))
    }

    /// Whoever can write to the registry can write the digest that it tells as well.
    fn cover_up(&self, version: u64) {
        let directory = self.registered(version);
        let file = directory.with_extension("json");
        let mut told: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        told["digest"] = Content::read(&directory).unwrap().digest.into();
        fs::write(file, told.to_string()).unwrap();
    }

    async fn promote(&self, version: u64) {
        let (version, models) = (version.to_string(), self.text("models"));
        registry(&[
            "alias",
            "scale",
            "champion",
            &version,
            "--registry",
            &models,
        ])
        .await;
    }
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

async fn run(arguments: &[&str]) -> Ended {
    Starter::command(arguments).run().await
}

#[tokio::test]
async fn only_what_a_trusted_key_has_signed_goes_on_stage_and_the_old_version_serves() {
    let desk = Desk::new();
    let ec = Some("ec");
    let packages = [
        (1.0, ec),
        (2.0, None),
        (3.0, Some("stranger")),
        (4.0, ec),
        (5.0, ec),
        (6.0, ec),
        (7.0, ec),
        (8.0, Some("ed")),
        (9.0, ec),
    ];
    for (factor, key) in packages {
        let package = desk.package(factor, key).await;
        if factor == 9.0 {
            let inside = Path::new(&package).join("model.sig");
            fs::rename(inside, format!("{package}.sig")).unwrap();
        }
        desk.register(&package).await;
    }
    flip(&desk.registered(4).join("model.onnx"));
    fs::write(desk.registered(5).join("extra.so"), "x").unwrap();
    fs::remove_file(desk.registered(6).join("model.sig")).unwrap();
    // Signed, but another version's signature.
    fs::copy(
        desk.registered(1).join("model.sig"),
        desk.registered(7).join("model.sig"),
    )
    .unwrap();
    (4..=7).for_each(|version| desk.cover_up(version));
    desk.promote(1).await;
    let trust = [
        "--trust",
        &desk.text("ec.pub"),
        "--trust",
        &desk.text("ed.pub"),
    ];
    let server = follow(&desk.text("models"), &trust).await;
    assert_eq!(answering(&server, PATH).await, Some(1));
    let load = Load::with(&server, PATH, 2, &json!({ "inputs": [[1.0, 1.0]] }));
    let failures = |reason: &str| {
        format!(r#"onstage_candidate_failures_total{{model="scale",reason="{reason}"}}"#)
    };
    let refused = [
        (2, "unsigned", "is not signed"),
        (3, "bad_signature", "is not trusted here"),
        (4, "bad_signature", "`model.onnx` was altered"),
        (
            5,
            "bad_signature",
            "`extra.so` is not among those that were signed",
        ),
        (6, "unsigned", "is not signed"),
        (7, "bad_signature", "was altered"),
    ];
    for (version, reason, words) in refused {
        let before = counter(&server, &failures(reason)).await;
        desk.promote(version).await;
        until(words, &server, async || {
            counter(&server, &failures(reason)).await > before
        })
        .await;
        let (_, index) = server.post_json("/v2/repository/index", "{}").await;
        assert!(index.to_string().contains(words), "{words}: {index}");
        assert_eq!(answering(&server, PATH).await, Some(1));
        assert_eq!(server.get("/v2/health/ready").await.status(), 200);
    }
    // It would have been tried again by now, were it not final.
    assert_eq!(counter(&server, &failures("unsigned")).await, 2);
    assert_eq!(counter(&server, &failures("bad_signature")).await, 4);
    for version in [8, 9] {
        desk.promote(version).await;
        until_answering(&server, PATH, version).await;
    }
    server.logged(&["the signature holds"]).await;
    let (sent, failed) = load.end().await;
    let failed: Vec<_> = failed
        .iter()
        .filter(|text| !text.contains("answered"))
        .collect();
    assert!(sent > 50 && failed.is_empty(), "{sent}: {failed:?}");
}

#[tokio::test]
async fn packages_on_this_machine_need_a_signature_too_and_each_model_its_own() {
    let desk = Desk::new();
    let (signed, unsigned) = (
        desk.package(1.0, Some("p384")).await,
        desk.package(2.0, None).await,
    );
    let key = desk.text("p384.pub");
    let served = Starter::serve(&[&signed, "--trust", &key]).start().await;
    assert_eq!(answering(&served, "/invocations").await, Some(1));
    let refused = Starter::serve(&[&unsigned, "--trust", &key])
        .try_start()
        .await;
    let ended = refused.err().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("is not signed"), "{}", ended.stderr);
    // Said aloud, one may go without.
    let lenient = |package: &str| {
        Starter::serve(&[package, "--trust", &key])
            .env("ONSTAGE_REGISTRY__REQUIRE_SIGNATURE", "false")
    };
    let served = lenient(&unsigned).start().await;
    served.logged(&["loaded all the same"]).await;
    fs::write(Path::new(&signed).join("extra.txt"), "x").unwrap();
    let ended = lenient(&signed).try_start().await.err().unwrap();
    assert!(
        ended.stderr.contains("`extra.txt` is not among"),
        "{}",
        ended.stderr
    );
    // A key of its own takes the place of those for every model.
    let config = desk.text("onstage.toml");
    let signed = desk.package(1.0, Some("p384")).await;
    let stranger = desk.text("stranger.pub");
    let text = format!(
        "[registry]\ntrust = [{key:?}]\n[models.own]\nsource = {signed:?}\ntrust = [{stranger:?}]\n"
    );
    fs::write(&config, text).unwrap();
    let ended = Starter::serve(&["--config", &config])
        .try_start()
        .await
        .err()
        .unwrap();
    assert!(
        ended.stderr.contains("is not trusted here"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn what_can_be_trusted_by_nobody_is_said_at_the_start() {
    let desk = Desk::new();
    let package = desk.package(1.0, Some("ec")).await;
    let key = desk.text("ec.key");
    let cases: [(&[&str], &str); 3] = [
        (&["--require-signature"], "nobody is trusted"),
        (&["--trust", &key], "belongs to nobody but the signer"),
        (
            &["--trust", "tests/seals/root.pem"],
            "say whose signatures to trust",
        ),
    ];
    for (flags, words) in cases {
        let serve = [&[package.as_str()], flags].concat();
        let ended = Starter::serve(&serve).try_start().await.err().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn verify_and_inspect_tell_who_has_signed() {
    let desk = Desk::new();
    let package = desk.package(1.0, Some("ec")).await;
    let (key, stranger) = (desk.text("ec.pub"), desk.text("stranger.pub"));
    let verified = run(&["verify", &package, "--key", &key, "--json"]).await;
    assert_eq!(verified.status.code(), Some(0), "{}", verified.stderr);
    let report: Value = serde_json::from_str(&verified.stdout).unwrap();
    assert!(
        report["signature"]
            .as_str()
            .unwrap()
            .starts_with("holds, by key "),
        "{report}"
    );
    let refused = run(&["verify", &package, "--key", &stranger]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.stderr.contains("is not trusted here"),
        "{}",
        refused.stderr
    );
    let inspected = run(&["inspect", &package, "--no-measure", "--json"]).await;
    let report: Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(
        report["signed"]["kind"], "OpenSSF model signature",
        "{report}"
    );

    let certified = [
        "verify",
        "tests/seals/package",
        "--signature",
        "tests/seals/signer.sig",
        "--ca",
        "tests/seals/root.pem",
        "--identity",
        "ci@example.com",
    ];
    let verified = run(&certified).await;
    assert_eq!(verified.status.code(), Some(0), "{}", verified.stderr);
    assert!(
        verified.stdout.contains("holds, by ci@example.com"),
        "{}",
        verified.stdout
    );
    let alone = run(&["verify", &package, "--signature", &key]).await;
    assert_eq!(alone.status.code(), Some(2));
    let unsigned = desk.package(2.0, None).await;
    let refused = run(&["verify", &unsigned, "--key", &key]).await;
    assert!(
        refused.stderr.contains("is not signed"),
        "{}",
        refused.stderr
    );
}

#[tokio::test]
async fn a_signature_among_the_artifacts_of_mlflow_counts() {
    let desk = Desk::new();
    let mlflow = MlflowServer::start("", &[], &[]).await;
    let mut python = MlflowClient::start(&mlflow, &[]);
    let first = python.eval("register('scale', times(1))").await;
    python.eval("register('scale', times(2))").await;
    // What MLflow has is signed as it was logged, and the signature is put beside it.
    let place = python
        .eval("client.get_model_version_download_uri('scale', '1')")
        .await;
    let files = desk.text("fetched");
    let fetch = format!("mlflow.artifacts.download_artifacts({place}, dst_path={files:?})");
    let fetched = python.eval(&fetch).await;
    let directory = PathBuf::from(fetched.as_str().unwrap());
    let _ = fs::remove_file(directory.join("registered_model_meta"));
    let key = onstage::signing::PrivateKey::read(&desk.path("ec.key")).unwrap();
    let seal = onstage::signing::sign(&directory, "scale", &key)
        .unwrap()
        .unwrap();
    let path = desk.path("model.sig");
    fs::write(&path, seal).unwrap();
    let log = format!(
        "client.log_model_artifact({}, {:?})",
        first["id"],
        path.to_str().unwrap()
    );
    python.eval(&log).await;
    python
        .eval("client.set_registered_model_alias('scale', 'champion', '1')")
        .await;
    let flags = ["--trust", &desk.text("ec.pub"), "--poll-interval", "200ms"];
    let server = follow(&mlflow.url, &flags).await;
    assert_eq!(version(&server, PATH).await, 1);
    python
        .eval("client.set_registered_model_alias('scale', 'champion', '2')")
        .await;
    let unsigned = r#"onstage_candidate_failures_total{model="scale",reason="unsigned"}"#;
    until("version 2 is never refused", &server, async || {
        counter(&server, unsigned).await == 1
    })
    .await;
    assert_eq!(version(&server, PATH).await, 1);
}

#[test]
fn a_package_that_is_signed_is_named_by_the_same_rules() {
    let desk = Desk::new();
    fs::create_dir(desk.path("m")).unwrap();
    save(&times(1.0), &desk.path("m/model.onnx"));
    fs::write(desk.path("m/model.sig"), "x").unwrap();
    let package = Package::open(&desk.path("m")).unwrap();
    assert_eq!(package.id.name, ModelName::new("m").unwrap());
}
