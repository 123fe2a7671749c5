//! Where a registry may send us for files.
//!
//! Whoever answers for a registry also says where its files are. That must not become a way to read files of this
//! machine, or to have requests sent to servers of its choice.

use std::path::{Path, PathBuf};

use url::{Host, Url};

use super::{Environment, SourceError};
use crate::model::fits_pattern;

/// The key that allows directories of this machine, for messages.
pub(super) const LOCAL_KEY: &str = "registry.local_artifacts";

/// The key that allows other hosts, for messages.
const HOSTS_KEY: &str = "registry.artifact_hosts";

/// Domains of object stores, at which signed URLs lead to buckets.
const STORES: [&str; 5] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "storage.googleapis.com",
    "blob.core.windows.net",
    "dfs.core.windows.net",
];

/// Variables that name another object store.
const ENDPOINTS: [&str; 4] = [
    "MLFLOW_S3_ENDPOINT_URL",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT",
];

/// What the operator allows beside the registry itself and the object stores of the large clouds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArtifactPlaces {
    /// Directories below which an MLflow server may name files of this machine, and links of a registry of files may
    /// lead.
    pub local: Vec<PathBuf>,
    /// Hosts of signed URLs and of artifact servers, as `HOST` or `HOST:PORT`, with `*` for any text.
    pub hosts: Vec<String>,
}

impl ArtifactPlaces {
    /// Whether the entries make sense.
    ///
    /// # Errors
    /// [`SourceError::Invalid`] that names the entry.
    pub fn validate(&self) -> Result<(), SourceError> {
        let is_wrong = |entry: &&String| parts(entry).is_none();
        if let Some(entry) = self.hosts.iter().find(is_wrong) {
            return Err(SourceError::Invalid(format!(
                "invalid entry `{}` in `{HOSTS_KEY}`: expected `HOST` or `HOST:PORT`, such as `files.example.com`",
                entry.escape_debug()
            )));
        }
        let is_relative = |entry: &&PathBuf| !entry.is_absolute();
        match self.local.iter().find(is_relative) {
            Some(entry) => Err(SourceError::Invalid(format!(
                "invalid entry `{}` in `{LOCAL_KEY}`: expected an absolute path",
                entry.display()
            ))),
            None => Ok(()),
        }
    }

    /// Whether an MLflow server may name this path of this machine: one on this machine always may.
    pub(super) fn check_local(&self, server: &Url, path: &Path) -> Result<(), SourceError> {
        if is_loopback(server) {
            return Ok(());
        }
        if path.canonicalize().is_ok_and(|real| self.holds(&real)) {
            return Ok(());
        }
        let reason = format!(
            "the registry names `{}` of this machine as the place of the files, but is not on this machine itself: list a \
             directory above it in `{LOCAL_KEY}` to allow that, or let the server hand out the files (`mlflow server \
             --serve-artifacts`)",
            path.display()
        );
        let key = LOCAL_KEY;
        Err(SourceError::Place { key, reason })
    }

    /// Whether a path without links is below an allowed directory.
    pub(super) fn holds(&self, real: &Path) -> bool {
        self.roots().any(|root| real.starts_with(root))
    }

    /// The allowed directories that exist, without links.
    pub(super) fn roots(&self) -> impl Iterator<Item = PathBuf> {
        let roots = self.local.iter();
        roots.filter_map(|root| root.canonicalize().ok())
    }

    /// Whether files may come from `url`, which a registry at `server` names. Nothing that identifies us is sent there.
    pub(super) fn check_host(
        &self,
        server: &Url,
        environment: &Environment,
        url: &Url,
    ) -> Result<(), SourceError> {
        let is_http = matches!(url.scheme(), "http" | "https");
        let allowed = is_http
            && (is_same_host(server, url)
                || is_endpoint(environment, url)
                || is_store(url)
                || self.hosts.iter().any(|entry| fits(entry, url)));
        if allowed {
            return Ok(());
        }
        let reason = format!(
            "the registry sends us to `{}` for files, which is neither its own host nor an object store that is known \
             here: add `{}` to `{HOSTS_KEY}` to allow that",
            url.origin().ascii_serialization(),
            url.host_str().unwrap_or_default()
        );
        let key = HOSTS_KEY;
        Err(SourceError::Place { key, reason })
    }
}

/// Whether a server is on this machine by its very address: a name could be made to mean anything.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

fn is_same_host(one: &Url, other: &Url) -> bool {
    one.host().is_some() && one.host() == other.host()
}

fn is_endpoint(environment: &Environment, url: &Url) -> bool {
    let endpoints = ENDPOINTS.iter().filter_map(|name| environment.get(name));
    let mut endpoints = endpoints.filter_map(|text| Url::parse(text).ok());
    endpoints.any(|endpoint| {
        let same_port = endpoint.port_or_known_default() == url.port_or_known_default();
        // Buckets can be names below that of the endpoint.
        let host = url.host_str().unwrap_or_default();
        let base = endpoint.host_str().unwrap_or_default();
        same_port && (host == base || (!base.is_empty() && is_below(host, base)))
    })
}

fn is_store(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let known = STORES
        .iter()
        .any(|store| host == *store || is_below(host, store));
    known && url.scheme() == "https"
}

fn is_below(host: &str, domain: &str) -> bool {
    let rest = host.strip_suffix(domain);
    rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// Whether an entry of the list means the host, and the port where it names one.
fn fits(entry: &str, url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let fits = |(name, port): (&str, Option<u16>)| {
        let same_port = port.is_none() || port == url.port_or_known_default();
        same_port && fits_pattern(&name.to_ascii_lowercase(), host)
    };
    parts(entry).is_some_and(fits)
}

/// The host of an entry and its port; `None` when it is neither `HOST` nor `HOST:PORT`.
fn parts(entry: &str) -> Option<(&str, Option<u16>)> {
    let (name, port) = match entry.rsplit_once(':') {
        // The last part of an IPv6 address is no port.
        Some((name, digits)) if !digits.ends_with(']') => (name, Some(digits.parse().ok()?)),
        _ => (entry, None),
    };
    let is_host = !name.is_empty() && !name.contains(['/', '@', ' ']);
    is_host.then_some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn host_of(text: &str, hosts: &[&str], variables: &[(&str, &str)]) -> Result<(), SourceError> {
        let places = ArtifactPlaces {
            hosts: hosts.iter().map(ToString::to_string).collect(),
            ..ArtifactPlaces::default()
        };
        let environment = Environment::from_iter(variables.iter().copied());
        let server = url("https://mlflow.example.com/prefix");
        places.check_host(&server, &environment, &url(text))
    }

    #[test]
    fn files_come_from_the_registrys_host_the_clouds_stores_and_listed_hosts() {
        let minio = [("MLFLOW_S3_ENDPOINT_URL", "http://minio:9000")];
        for (place, hosts, variables) in [
            ("https://mlflow.example.com/a", &[][..], &[][..]),
            ("http://mlflow.example.com:9000/a", &[], &[]),
            ("https://bucket.s3.eu-central-1.amazonaws.com/a", &[], &[]),
            ("https://storage.googleapis.com/bucket/a", &[], &[]),
            ("https://me.blob.core.windows.net/box/a", &[], &[]),
            ("https://me.dfs.core.windows.net/box/a", &[], &[]),
            ("http://minio:9000/bucket/a", &[], &minio),
            ("http://bucket.minio:9000/a", &[], &minio),
            ("https://cdn.example.org/a", &["cdn.example.org"], &[]),
            ("https://a.cdn.example.org/a", &["*.CDN.example.org"], &[]),
            (
                "https://cdn.example.org:8443/a",
                &["cdn.example.org:8443"],
                &[],
            ),
            ("http://[2001:db8::1]:9000/a", &["[2001:db8::1]"], &[]),
        ] {
            let checked = host_of(place, hosts, variables);
            assert!(checked.is_ok(), "{place}: {checked:?}");
        }
    }

    #[test]
    fn any_other_host_is_refused_with_the_key_that_allows_it() {
        let minio = [("MLFLOW_S3_ENDPOINT_URL", "http://minio:9000")];
        for (place, hosts, variables) in [
            ("http://169.254.169.254/latest/meta-data", &[][..], &[][..]),
            ("https://evil.example/a", &[], &[]),
            ("https://evilamazonaws.com/a", &[], &[]),
            ("https://amazonaws.com.evil.example/a", &[], &[]),
            ("https://mlflow.example.com.evil.example/a", &[], &[]),
            ("http://bucket.s3.amazonaws.com/a", &[], &[]),
            ("http://minio:9001/a", &[], &minio),
            ("https://cdn.example.org/a", &["cdn.example.org:8443"], &[]),
            ("https://a.cdn.example.org/a", &["cdn.example.org"], &[]),
        ] {
            let error = host_of(place, hosts, variables).unwrap_err().to_string();
            assert!(error.contains("`registry.artifact_hosts`"), "{error}");
        }
        assert!(host_of("ftp://mlflow.example.com/a", &[], &[]).is_err());
        let secret = host_of("https://evil.example/a?signature=s3cret", &[], &[]).unwrap_err();
        let secret = secret.to_string();
        assert!(!secret.contains("s3cret"), "{secret}");
    }

    #[test]
    fn paths_of_this_machine_are_for_registries_on_it_and_listed_directories() {
        let allowed = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let places = ArtifactPlaces {
            local: vec![allowed.path().to_owned()],
            ..ArtifactPlaces::default()
        };
        for server in [
            "http://127.0.0.1:5000",
            "http://[::1]:5000",
            "http://localhost",
        ] {
            places.check_local(&url(server), outside.path()).unwrap();
        }
        for server in [
            "http://10.0.0.1",
            "http://mlflow",
            "http://localhost.evil.example",
        ] {
            places.check_local(&url(server), allowed.path()).unwrap();
            let refused = places.check_local(&url(server), outside.path());
            let text = refused.unwrap_err().to_string();
            assert!(text.contains("`registry.local_artifacts`"), "{text}");
        }
        let climbing = allowed.path().join("..");
        assert!(
            places
                .check_local(&url("http://mlflow"), &climbing)
                .is_err()
        );
        #[cfg(unix)]
        {
            let link = allowed.path().join("link");
            std::os::unix::fs::symlink(outside.path(), &link).unwrap();
            assert!(places.check_local(&url("http://mlflow"), &link).is_err());
        }
    }

    #[test]
    fn entries_that_cannot_be_meant_are_named() {
        let hosts = |entry: &str| ArtifactPlaces {
            hosts: vec![entry.to_owned()],
            ..ArtifactPlaces::default()
        };
        for entry in [
            "https://files.example.com",
            "",
            "a b",
            "me@host",
            "host:",
            "host:https",
        ] {
            let error = hosts(entry).validate().unwrap_err().to_string();
            assert!(error.contains("artifact_hosts"), "{error}");
        }
        hosts("files.example.com:9000").validate().unwrap();
        let local = ArtifactPlaces {
            local: vec!["models".into()],
            ..ArtifactPlaces::default()
        };
        assert!(local.validate().is_err());
    }
}
