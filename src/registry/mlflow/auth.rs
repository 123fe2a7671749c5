//! Who we are to an MLflow server: credentials, certificates, workspace.

use std::fmt;
use std::path::{Path, PathBuf};

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, Identity, RequestBuilder};

use crate::network::{self, NetworkConfig};
use crate::registry::{Environment, SourceError};

/// What an [`Unauthenticated`](SourceError::Unauthenticated) answer should remind of.
pub(super) const HINT: &str = "credentials come from `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, \
                               `~/.mlflow/credentials`, or `MLFLOW_TRACKING_TOKEN`";

/// What is sent with each request.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) enum Credentials {
    #[default]
    None,
    Basic {
        user: String,
        password: String,
    },
    Bearer(String),
}

impl Credentials {
    /// As MLflow's own client chooses: name and password, of the environment before those of the file, win over a token.
    pub(super) fn from_environment(environment: &Environment) -> Result<Self, SourceError> {
        let (file_user, file_password) = file(environment)?;
        let variable = |name: &str| environment.get(name).map(str::to_owned);
        let user = variable("MLFLOW_TRACKING_USERNAME").or(file_user);
        let password = variable("MLFLOW_TRACKING_PASSWORD").or(file_password);
        if let (Some(user), Some(password)) = (user, password) {
            return Ok(Self::Basic { user, password });
        }
        Ok(variable("MLFLOW_TRACKING_TOKEN").map_or(Self::None, Self::Bearer))
    }

    pub(super) fn apply(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::None => request,
            Self::Basic { user, password } => request.basic_auth(user, Some(password)),
            Self::Bearer(token) => request.bearer_auth(token),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic { .. } => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}

/// User and password of `~/.mlflow/credentials`, as far as it has them.
fn file(environment: &Environment) -> Result<(Option<String>, Option<String>), SourceError> {
    let home = environment.get("HOME").or(environment.get("USERPROFILE"));
    let Some(home) = home else {
        return Ok((None, None));
    };
    let path = Path::new(home).join(".mlflow/credentials");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        // A home that we may not look into is as good as none.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            return Err(SourceError::io(&path)(error));
        }
        Err(_) => return Ok((None, None)),
    };
    let key = |name: &str| ini(&text, "mlflow", name);
    Ok((
        key("mlflow_tracking_username"),
        key("mlflow_tracking_password"),
    ))
}

/// One key of an INI file; names of keys are not case-sensitive.
fn ini(text: &str, section: &str, key: &str) -> Option<String> {
    let mut inside = false;
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            inside = name.trim() == section;
        } else if inside && !line.starts_with(['#', ';']) {
            let pair = line.split_once(['=', ':']);
            if let Some((name, value)) = pair
                && name.trim().eq_ignore_ascii_case(key)
            {
                found = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            }
        }
    }
    found
}

/// The header that names the workspace, where one is set.
pub(super) fn headers(environment: &Environment) -> Result<HeaderMap, SourceError> {
    let mut headers = HeaderMap::new();
    if let Some(workspace) = environment.get("MLFLOW_WORKSPACE") {
        let value = HeaderValue::from_str(workspace).map_err(|_| {
            SourceError::Invalid("`MLFLOW_WORKSPACE` cannot be sent in a header".to_owned())
        })?;
        headers.insert("x-mlflow-workspace", value);
    }
    Ok(headers)
}

/// How to reach servers.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    /// The MLflow server, with our certificate where there is one.
    pub(super) server: Client,
    /// Others that it names: they are checked whatever the server's own is let off, and do not learn who we are.
    pub(super) outside: Client,
}

/// Clients with the certificates that MLflow's variables name. With none of them they are those of every other
/// connection.
pub(super) fn clients(
    network: &NetworkConfig,
    environment: &Environment,
) -> Result<Clients, SourceError> {
    refuse_plugins(environment)?;
    let insecure = environment.is_true("MLFLOW_TRACKING_INSECURE_TLS");
    let authority = environment.get("MLFLOW_TRACKING_SERVER_CERT_PATH");
    if insecure && authority.is_some() {
        return Err(SourceError::Invalid(
            "`MLFLOW_TRACKING_INSECURE_TLS` and `MLFLOW_TRACKING_SERVER_CERT_PATH` exclude each other: unset one"
                .to_owned(),
        ));
    }
    let certificates = match authority {
        Some(path) => pem("MLFLOW_TRACKING_SERVER_CERT_PATH", path, |bytes| {
            Certificate::from_pem_bundle(bytes)
        })?,
        None => Vec::new(),
    };
    let identity = match environment.get("MLFLOW_TRACKING_CLIENT_CERT_PATH") {
        Some(path) => Some(pem("MLFLOW_TRACKING_CLIENT_CERT_PATH", path, |bytes| {
            Identity::from_pem(bytes)
        })?),
        None => None,
    };
    let client = |identity: Option<&Identity>, insecure: bool| {
        let built = network::client_with(network, |mut builder| {
            if let Some(identity) = identity {
                builder = builder.identity(identity.clone());
            }
            if !certificates.is_empty() {
                builder = builder.tls_certs_merge(certificates.clone());
            }
            builder.tls_danger_accept_invalid_certs(insecure)
        });
        built.map_err(|error| SourceError::Invalid(error.to_string()))
    };
    Ok(Clients {
        server: client(identity.as_ref(), insecure)?,
        outside: client(None, false)?,
    })
}

fn refuse_plugins(environment: &Environment) -> Result<(), SourceError> {
    let refused = if environment.is_true("MLFLOW_TRACKING_AWS_SIGV4") {
        "MLFLOW_TRACKING_AWS_SIGV4"
    } else if environment.get("MLFLOW_TRACKING_AUTH").is_some() {
        "MLFLOW_TRACKING_AUTH"
    } else {
        return Ok(());
    };
    Err(SourceError::Unsupported(format!(
        "`{refused}` is set, but requests to MLflow cannot be signed this way: unset it and use \
         `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, `MLFLOW_TRACKING_TOKEN`, or a signing proxy"
    )))
}

fn pem<T>(
    variable: &str,
    path: &str,
    parse: impl FnOnce(&[u8]) -> reqwest::Result<T>,
) -> Result<T, SourceError> {
    let path = PathBuf::from(path);
    let bytes = std::fs::read(&path).map_err(SourceError::io(&path))?;
    // The parser's own words could quote a key.
    parse(&bytes).map_err(|_| {
        SourceError::Invalid(format!(
            "`{}` (`{variable}`) is no PEM file of the kind that is expected there",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::from_iter(variables.iter().copied())
    }

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    #[test]
    fn a_name_and_password_win_over_a_token_and_the_environment_over_the_file() {
        let home = tempfile::tempdir().unwrap();
        let text = "[other]\nmlflow_tracking_username = x\n[mlflow]\n# comment\nMLflow_Tracking_Username = from file\nmlflow_tracking_password: p=w\n";
        std::fs::create_dir(home.path().join(".mlflow")).unwrap();
        std::fs::write(home.path().join(".mlflow/credentials"), text).unwrap();
        let home = ("HOME", home.path().to_str().unwrap());
        let (user, password, token) = (
            ("MLFLOW_TRACKING_USERNAME", "u"),
            ("MLFLOW_TRACKING_PASSWORD", "p"),
            ("MLFLOW_TRACKING_TOKEN", "t"),
        );
        for (variables, expected) in [
            (vec![], Credentials::None),
            (vec![token], Credentials::Bearer("t".to_owned())),
            (vec![token, user], Credentials::Bearer("t".to_owned())),
            (vec![token, user, password], basic("u", "p")),
            (vec![home, token], basic("from file", "p=w")),
            (vec![home, user], basic("u", "p=w")),
        ] {
            let found = Credentials::from_environment(&environment(&variables)).unwrap();
            assert!(found == expected, "{variables:?}");
        }
        assert_eq!(format!("{:?}", basic("u", "s3cret")), "Basic(…)");
    }

    #[test]
    fn what_cannot_be_done_is_told_by_the_variables_name() {
        let network = NetworkConfig::default();
        let error = |variables: &[(&str, &str)]| {
            let result = clients(&network, &environment(variables));
            result.unwrap_err().to_string()
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "not a certificate").unwrap();
        let path = file.path().to_str().unwrap();
        for variables in [
            [("MLFLOW_TRACKING_AWS_SIGV4", "true")].as_slice(),
            &[("MLFLOW_TRACKING_AUTH", "plugin")],
            &[("MLFLOW_TRACKING_CLIENT_CERT_PATH", path)],
            &[
                ("MLFLOW_TRACKING_SERVER_CERT_PATH", path),
                ("MLFLOW_TRACKING_INSECURE_TLS", "true"),
            ],
        ] {
            let text = error(variables);
            assert!(text.contains(&format!("`{}`", variables[0].0)), "{text}");
        }
        assert!(error(&[("MLFLOW_TRACKING_SERVER_CERT_PATH", "/nowhere")]).contains("/nowhere"));
        clients(
            &network,
            &environment(&[("MLFLOW_TRACKING_INSECURE_TLS", "1")]),
        )
        .unwrap();
    }
}
