//! Certificates and callers in a directory of their own.

use std::path::PathBuf;
use std::time::Duration;

use onstage::middleware::auth::ApiKey;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;

use crate::support::server::{Server, Starter};

/// Signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// The certificate of a server on this machine, and its key.
    pub(crate) fn server(&self) -> (String, String) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        self.sign(CertificateParams::new(names).unwrap())
    }

    /// The certificate of a client whose name is this URI, and its key.
    pub(crate) fn client(&self, uri: &str) -> (String, String) {
        let mut params = CertificateParams::default();
        params
            .subject_alt_names
            .push(SanType::URI(uri.try_into().unwrap()));
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// The files of one server.
pub(crate) struct Scene {
    pub(crate) directory: TempDir,
    pub(crate) authority: Authority,
}

impl Scene {
    /// With a certificate for a server.
    pub(crate) fn new() -> Self {
        let scene = Self {
            directory: tempfile::tempdir().unwrap(),
            authority: Authority::new("test authority"),
        };
        scene.write("ca.pem", &scene.authority.pem);
        scene.renew();
        scene
    }

    pub(crate) fn path(&self, name: &str) -> String {
        let path: PathBuf = self.directory.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        // As a whole, or not at all: a server may be reading.
        let new = self.path(&format!("{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    /// Another certificate and key, put in place as Kubernetes does: a link to a directory is swapped.
    pub(crate) fn renew(&self) {
        let (certificate, key) = self.authority.server();
        let directory = tempfile::Builder::new()
            .prefix("pair")
            .tempdir_in(&self.directory);
        let directory = directory.unwrap().keep();
        std::fs::write(directory.join("tls.crt"), certificate).unwrap();
        std::fs::write(directory.join("tls.key"), key).unwrap();
        let link = self.path("pair.new");
        std::os::unix::fs::symlink(&directory, &link).unwrap();
        std::fs::rename(link, self.path("pair")).unwrap();
    }

    /// `onstage serve` of iris with these flags.
    pub(crate) async fn serve(&self, flags: &[&str]) -> Server {
        self.starter(flags).start().await
    }

    pub(crate) fn starter(&self, flags: &[&str]) -> Starter {
        let fixed = [
            "model-examples/iris",
            "--engine",
            "tract",
            "--reload-interval",
            "100ms",
        ];
        Starter::serve(&[&fixed, flags].concat())
    }

    /// The flags for TLS.
    pub(crate) fn tls(&self) -> Vec<String> {
        let (cert, key) = (self.path("pair/tls.crt"), self.path("pair/tls.key"));
        ["--tls-cert-file", &cert, "--tls-key-file", &key]
            .map(str::to_owned)
            .into()
    }

    /// A client that trusts this authority, and no other.
    pub(crate) fn client(&self) -> reqwest::ClientBuilder {
        onstage::network::install_provider();
        let certificate = reqwest::Certificate::from_pem(self.authority.pem.as_bytes()).unwrap();
        reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only([certificate])
    }

    /// The same with a certificate of its own.
    pub(crate) fn client_as(
        &self,
        (certificate, key): &(String, String),
    ) -> reqwest::ClientBuilder {
        let pem = format!("{certificate}\n{key}");
        let identity = reqwest::Identity::from_pem(pem.as_bytes()).unwrap();
        self.client().identity(identity)
    }
}

/// A new key, and its line.
pub(crate) fn key(name: &str, scopes: &[&str], models: &[&str]) -> (String, String) {
    let key = ApiKey::generate().unwrap();
    let line = serde_json::json!({
        "name": name, "sha256": key.hashed(), "scopes": scopes, "models": models,
    });
    (key.secret().to_owned(), line.to_string())
}

/// Flags as the starter takes them.
pub(crate) fn flags(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}
