use std::fs;
use std::os::unix::fs::symlink;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use rstest::rstest;
use tempfile::TempDir;

use super::*;

/// Made by `model_signing` itself: see `make.sh` there.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/seals")
        .join(name)
}

fn trust(text: &str) -> Trust {
    let path = fixture(text).display().to_string();
    Trust::read(&[path]).unwrap()
}

/// A copy of the signed package, to be altered.
fn copy() -> (TempDir, PathBuf) {
    let parent = TempDir::new().unwrap();
    let package = parent.path().join("package");
    fs::create_dir_all(package.join("data")).unwrap();
    for name in ["MLmodel", "model.onnx", "data/notes.txt"] {
        fs::copy(fixture("package").join(name), package.join(name)).unwrap();
    }
    (parent, package)
}

fn problem(result: Result<Sealed, SealError>) -> SealProblem {
    match result {
        Err(SealError::Bad { problem, .. }) => problem,
        other => panic!("expected a bad seal, found {other:?}"),
    }
}

#[rstest]
#[case("P-256")]
#[case("P-384")]
fn what_model_signing_signs_with_a_key_holds(#[case] curve: &str) {
    let trust = trust(&format!("{curve}.pub"));
    let seal = fixture(&format!("{curve}.sig"));
    let sealed = trust.check(&fixture("package"), Some(&seal)).unwrap();
    assert!(sealed.by.starts_with("key "), "{}", sealed.by);
    let package = Package::open(&fixture("package")).unwrap();
    sealed.covers(&package).unwrap();
}

#[test]
fn a_key_that_is_not_trusted_is_named() {
    let result = trust("P-384.pub").check(&fixture("package"), Some(&fixture("P-256.sig")));
    let hint = PublicKey::read(&fixture("P-256.pub"))
        .unwrap()
        .fingerprint();
    assert_eq!(problem(result), SealProblem::UnknownKey { hint });
}

#[rstest]
#[case("ci@example.com")]
#[case("https://ci.example.com/release")]
#[case("Release pipeline")]
fn a_certificate_of_a_trusted_authority_holds_for_its_owner(#[case] identity: &str) {
    let trust = trust(&format!("root.pem#{identity}"));
    let sealed = trust.check(&fixture("package"), Some(&fixture("signer.sig")));
    assert_eq!(sealed.unwrap().by, identity);
}

#[rstest]
#[case(
    "signer.sig",
    "root.pem#somebody@example.com",
    "expected `somebody@example.com`"
)]
#[case("signer.sig", "root.pem#ci@example", "expected `ci@example`")]
#[case("signer.sig", "other-root.pem#ci@example.com", "no trusted authority")]
#[case("server.sig", "root.pem#ci@example.com", "other uses")]
#[case("useless.sig", "root.pem#ci@example.com", "not for signing")]
#[case("signer.sig", "P-256.pub", "no authority")]
fn other_certificates_are_refused(#[case] seal: &str, #[case] trusted: &str, #[case] why: &str) {
    let result = trust(trusted).check(&fixture("package"), Some(&fixture(seal)));
    match problem(result) {
        SealProblem::Certificate(reason) => assert!(reason.contains(why), "{reason}"),
        other => panic!("{other}"),
    }
}

#[test]
fn each_change_of_the_files_is_refused_by_name() {
    type Change = fn(&Path);
    let changes: [(Change, &str); 8] = [
        (
            |dir| fs::write(dir.join("extra.bin"), "x").unwrap(),
            "`extra.bin` is not among",
        ),
        (
            |dir| fs::write(dir.join(".hidden"), "x").unwrap(),
            "`.hidden` is not among",
        ),
        (
            |dir| fs::remove_file(dir.join("data/notes.txt")).unwrap(),
            "`data/notes.txt` is missing",
        ),
        (
            |dir| fs::rename(dir.join("model.onnx"), dir.join("m.onnx")).unwrap(),
            "`m.onnx` is not among",
        ),
        (
            |dir| fs::write(dir.join("data/notes.txt"), "name: fixturE\n").unwrap(),
            "`data/notes.txt` was altered",
        ),
        (
            |dir| {
                fs::rename(dir.join("model.onnx"), dir.with_file_name("m.onnx")).unwrap();
                symlink("../m.onnx", dir.join("model.onnx")).unwrap();
            },
            "`model.onnx` is a link",
        ),
        (
            |dir| symlink("data", dir.join("again")).unwrap(),
            "`again` is a link",
        ),
        (
            |dir| {
                fs::write(
                    dir.join("data/notes.txt"),
                    fs::read(dir.join("MLmodel")).unwrap(),
                )
                .unwrap();
            },
            "`data/notes.txt` was altered",
        ),
    ];
    let seal = fixture("P-256.sig");
    for (change, words) in changes {
        let (_parent, package) = copy();
        trust("P-256.pub").check(&package, Some(&seal)).unwrap();
        change(&package);
        let problem = problem(trust("P-256.pub").check(&package, Some(&seal)));
        assert!(problem.to_string().contains(words), "{problem}");
    }
}

#[test]
fn files_of_git_and_the_seal_itself_may_be_there_and_nothing_is_loaded_from_them() {
    let (_parent, package) = copy();
    fs::copy(fixture("P-256.sig"), package.join(SEAL)).unwrap();
    fs::create_dir(package.join(".git")).unwrap();
    fs::rename(package.join("model.onnx"), package.join(".git/model.onnx")).unwrap();
    fs::copy(fixture("package/model.onnx"), package.join("model.onnx")).unwrap();
    let sealed = trust("P-256.pub").check(&package, None).unwrap();
    let mut opened = Package::open(&package).unwrap();
    sealed.covers(&opened).unwrap();
    opened.manifest.onnx.data = ".git/model.onnx".into();
    let refused = sealed.covers(&opened).unwrap_err().to_string();
    assert!(
        refused.contains("does not cover `.git/model.onnx`"),
        "{refused}"
    );
}

#[test]
fn every_byte_of_a_seal_counts_or_is_ignored_by_json() {
    let (_parent, package) = copy();
    let text = fs::read(fixture("P-256.sig")).unwrap();
    let path = package.join(SEAL);
    let trust = trust("P-256.pub");
    let original: serde_json::Value = serde_json::from_slice(&text).unwrap();
    for at in 0..text.len() {
        let mut altered = text.clone();
        altered[at] ^= 1;
        fs::write(&path, &altered).unwrap();
        if let Ok(sealed) = trust.check(&package, None) {
            // What is not signed may read otherwise; what is signed is the same.
            assert!(sealed.by.starts_with("key "));
            let read: serde_json::Value = serde_json::from_slice(&altered).unwrap();
            let envelope = "/dsseEnvelope/payload";
            assert_eq!(read.pointer(envelope), original.pointer(envelope), "{at}");
        }
    }
    for end in 0..text.len() {
        fs::write(&path, &text[..end]).unwrap();
        assert!(trust.check(&package, None).is_err(), "cut at {end}");
    }
}

#[test]
fn a_package_without_a_seal_is_unsigned_and_one_with_a_dangling_link_is_not() {
    let (_parent, package) = copy();
    let unsigned = trust("P-256.pub").check(&package, None).unwrap_err();
    assert_eq!(unsigned.label(), "unsigned");
    let beside = package.with_file_name("package.sig");
    fs::copy(fixture("P-256.sig"), &beside).unwrap();
    trust("P-256.pub").check(&package, None).unwrap();
    symlink("nowhere", package.join(SEAL)).unwrap();
    let bad = trust("P-256.pub").check(&package, None).unwrap_err();
    assert_eq!(bad.label(), "bad_signature");
}

fn keys() -> Vec<(PrivateKey, &'static str)> {
    let random = SystemRandom::new();
    let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let directory = TempDir::new().unwrap();
    let key = |der: &[u8]| {
        let path = directory.path().join("key");
        let text = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            BASE64.encode(der)
        );
        fs::write(&path, text).unwrap();
        PrivateKey::read(&path).unwrap()
    };
    vec![
        (key(ec.as_ref()), "OpenSSF model signature"),
        (key(ed.as_ref()), "Ed25519"),
    ]
}

#[test]
fn what_we_sign_holds_until_a_file_is_altered_and_for_no_other_key() {
    for (key, kind) in keys() {
        let (_parent, package) = copy();
        let seal = sign(&package, "fraud", &key).unwrap().unwrap();
        fs::write(package.join(SEAL), seal).unwrap();
        let mut trust = Trust::default();
        trust.add_key(key.public());
        let sealed = trust.check(&package, None).unwrap();
        sealed.covers(&Package::open(&package).unwrap()).unwrap();
        assert_eq!(Claim::read(&package).unwrap().unwrap().kind, kind);
        for (other, _) in keys() {
            let mut trust = Trust::default();
            trust.add_key(other.public());
            assert!(trust.check(&package, None).is_err());
        }
        for name in ["MLmodel", "model.onnx", "data/notes.txt"] {
            let path = package.join(name);
            let bytes = fs::read(&path).unwrap();
            for at in 0..bytes.len() {
                let mut altered = bytes.clone();
                altered[at] ^= 0x10;
                fs::write(&path, altered).unwrap();
                assert!(trust.check(&package, None).is_err(), "{kind} {name} {at}");
            }
            fs::write(&path, bytes).unwrap();
        }
        fs::write(package.join(".hidden"), "x").unwrap();
        assert!(
            trust.check(&package, None).is_err(),
            "{kind}: an extra file"
        );
    }
}

#[rstest]
#[case("P-521.pub", "P-521, which is not supported")]
#[case("secp256k1.pub", "another curve, which is not supported")]
#[case("rsa.pub", "another algorithm, which is not supported")]
#[case("root.pem", "say whose signatures to trust")]
#[case("root.pem# ", "say whose signatures to trust")]
#[case("P-256.pub#ci@example.com", "holds no certificate")]
#[case("P-256.sig", "holds no public key")]
#[case("nothing.pub", "cannot read")]
fn what_cannot_be_trusted_is_said(#[case] text: &str, #[case] words: &str) {
    let path = fixture(text).display().to_string();
    let error = Trust::read(&[path]).unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn the_statement_is_read_strictly() {
    let resource = |name: &str, digest: &str| serde_json::json!({ "name": name, "algorithm": "sha256", "digest": digest });
    let one = "01b2730b1e57347bc41e9e5b53d16b7ce60daf295e7af124406b18f915adf2a1";
    let parse = |change: &dyn Fn(&mut serde_json::Value)| {
        use sha2::Digest as _;
        let bytes: Vec<u8> = (0..32)
            .map(|at| u8::from_str_radix(&one[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let mut value = serde_json::json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{ "name": "x", "digest": { "sha256": hex::encode(sha2::Sha256::digest(bytes)) } }],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {
                "serialization": { "method": "files", "hash_type": "sha256", "ignore_paths": ["a/./b"] },
                "resources": [resource("a", one)],
            },
        });
        change(&mut value);
        statement::Statement::parse(value.to_string().as_bytes())
    };
    assert_eq!(parse(&|_| {}).unwrap().ignored, [PathBuf::from("a/b")]);
    type Change<'a> = &'a dyn Fn(&mut serde_json::Value);
    let refused: [(Change<'_>, &str); 8] = [
        (&|value| value["_type"] = "x".into(), "in-toto"),
        (
            &|value| value["predicateType"] = "https://model_signing/Digests/v0.1".into(),
            "v0.1",
        ),
        (
            &|value| value["predicate"]["serialization"]["method"] = "shards".into(),
            "shards",
        ),
        (
            &|value| value["predicate"]["serialization"]["hash_type"] = "blake3".into(),
            "blake3",
        ),
        (
            &|value| {
                value["predicate"]["serialization"]["ignore_paths"] = serde_json::json!(["../x"])
            },
            "outside",
        ),
        (
            &|value| value["predicate"]["resources"][0]["digest"] = "zz".into(),
            "hexadecimal",
        ),
        (
            &|value| value["predicate"]["resources"] = serde_json::json!([]),
            "root digest",
        ),
        (
            &|value| {
                value["predicate"]["resources"] =
                    serde_json::json!([resource("a", one), resource("a", one)])
            },
            "twice",
        ),
    ];
    for (change, words) in refused {
        let error = parse(change).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
