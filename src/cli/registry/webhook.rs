//! `onstage registry webhook`: MLflow tells a server about changes at once, once it has been told to.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use reqwest::Url;

use super::WhereArgs;
use crate::cli::{Console, Failure, flags, remote};
use crate::config::secret;
use crate::registry::{Environment, Mlflow, SourceError, Webhook, WebhookRequest};

const ROUTE: &str = "/webhooks/mlflow";

#[derive(Debug, Args)]
pub(super) struct WebhookArgs {
    /// URL at which MLflow reaches the onstage server; /webhooks/mlflow is appended
    #[arg(long, value_name = "URL")]
    url: String,
    /// Name of the webhook in MLflow
    #[arg(long, value_name = "NAME", default_value = "onstage")]
    name: String,
    /// File with the secret that both sides know
    #[arg(long, value_name = "FILE")]
    webhook_secret_file: Option<PathBuf>,
    /// Register the webhook, unless one exists for this URL
    #[arg(long)]
    register: bool,
    #[command(flatten)]
    at: WhereArgs,
}

pub(super) fn run(
    args: &WebhookArgs,
    environment: &[(OsString, OsString)],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let file = args.webhook_secret_file.clone();
    let file = file.map(|path| path.to_string_lossy().into_owned());
    let further = file.and_then(|path| flags::given("registry.webhook_secret_file", path));
    let (settings, uri) = args.at.load(environment, further)?;
    check_name(&args.name)?;
    let url = address(&args.url)?;
    if !Mlflow::is_meant(&uri) {
        return Err(Failure::usage(
            "only MLflow servers have webhooks, and the registry is none: it is followed without",
        ));
    }
    let variables = Arc::new(Environment::new(environment));
    let network = settings.network.config();
    let mlflow = Mlflow::new(&uri, &network, variables.clone())
        .map_err(|error| Failure::failed(error.to_string()))?;
    let request = WebhookRequest {
        name: args.name.clone(),
        url: url.to_string(),
    };
    let file = settings.registry.webhook_secret_file.as_deref();
    if args.register {
        let secret = secret(file)?;
        register(&mlflow, &request, &secret, console)?;
    } else {
        let signed_in = variables.get("MLFLOW_TRACKING_USERNAME").is_some();
        console.print(&command(&mlflow, &request, file, signed_in))?;
    }
    advice(&url).iter().for_each(|text| console.note(text));
    Ok(())
}

fn register(
    mlflow: &Mlflow,
    request: &WebhookRequest,
    secret: &str,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let (webhook, is_new) = remote::block_on(async {
        let known = mlflow.webhooks().await.map_err(explain)?;
        if let Some(same) = known.into_iter().find(|known| known.url == request.url) {
            return Ok((same, false));
        }
        let made = mlflow.register_webhook(request, secret).await;
        Ok((made.map_err(explain)?, true))
    })?;
    let Webhook {
        id, name, status, ..
    } = webhook;
    console.print(&format!("{id}\n"))?;
    if !is_new {
        console.note(&format!(
            "the webhook `{name}` for this address is there already ({status}) and was left as it is; with another \
             secret, delete it first: `DELETE {}/{id}`",
            mlflow.webhooks_url()
        ));
    }
    Ok(())
}

/// What MLflow's refusals ask for.
fn explain(error: SourceError) -> Failure {
    let text = error.to_string();
    let hint = if text.contains("URL scheme") {
        Some(
            "MLflow sends to https only; set `MLFLOW_WEBHOOK_ALLOWED_SCHEMES=https,http` on the tracking server to change that",
        )
    } else if text.contains("non-public") {
        Some(
            "set `MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true` on the tracking server to let it send into private networks",
        )
    } else {
        match error {
            SourceError::Status { status: 500, .. } => Some(
                "a tracking server that was restarted without `MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY` cannot read the \
                 webhooks that it has: see its log",
            ),
            SourceError::Unauthenticated { .. } => Some("webhooks need an administrator of MLflow"),
            _ => None,
        }
    };
    let failure = Failure::failed(text);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What is to be known before one relies on it.
fn advice(url: &Url) -> Vec<String> {
    let mut advice = Vec::new();
    if url.scheme() == "http" {
        advice.push(
            "MLflow sends to https only: for this address the tracking server needs \
             `MLFLOW_WEBHOOK_ALLOWED_SCHEMES=https,http`"
                .to_owned(),
        );
    }
    if is_private(url) {
        advice.push(
            "MLflow sends to public addresses only: for this one the tracking server needs \
             `MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true`"
                .to_owned(),
        );
    }
    advice.push(
        "the tracking server needs a lasting `MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY` (a Fernet key), or no webhook with a \
         secret works after its next restart"
            .to_owned(),
    );
    advice.push(
        "the first event may take a minute to arrive, and a stage transition sends none: keep polling".to_owned(),
    );
    advice
}

/// Whether the host is certainly in no public network.
fn is_private(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse() {
        Ok(IpAddr::V4(ip)) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => {
            ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
        }
        Err(_) => {
            let inside = [".local", ".internal", ".svc", ".localhost"];
            !host.contains('.') || inside.iter().any(|end| host.ends_with(end))
        }
    }
}

/// The call for a shell, which fills in the secret.
fn command(
    mlflow: &Mlflow,
    request: &WebhookRequest,
    file: Option<&Path>,
    signed_in: bool,
) -> String {
    const MARK: &str = "@SECRET@";
    let body = serde_json::to_string_pretty(&request.body(MARK));
    let body = body.expect("text and lists are JSON");
    let mut body = body
        .replace('\\', "\\\\")
        .replace('$', "\\$")
        .replace('`', "\\`");
    let secret = match file {
        Some(file) => format!("$(cat {})", quoted(&file.to_string_lossy())),
        None => "$ONSTAGE_WEBHOOK_SECRET".to_owned(),
    };
    body = body.replace(MARK, &secret);
    let user = if signed_in {
        " -u \"$MLFLOW_TRACKING_USERNAME:$MLFLOW_TRACKING_PASSWORD\""
    } else {
        ""
    };
    let url = quoted(&mlflow.webhooks_url());
    format!(
        "curl -X POST {url}{user} -H 'content-type: application/json' --data-binary @- <<END\n{body}\nEND\n"
    )
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn address(text: &str) -> Result<Url, Failure> {
    let parsed = Url::parse(text).ok();
    let parsed = parsed.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let mut url = parsed.ok_or_else(|| {
        let text = text.escape_debug();
        Failure::usage(format!(
            "invalid address `{text}` (from flag `--url`): expected `https://host[:port][/base]`"
        ))
    })?;
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.ends_with(ROUTE) {
        url.set_path(&format!("{path}{ROUTE}"));
    }
    Ok(url)
}

/// MLflow takes 1 to 63 letters, digits, `.`, `_` and `-`, the first and last of them no sign.
fn check_name(name: &str) -> Result<(), Failure> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric();
    let bytes = name.as_bytes();
    let fits = (1..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|byte| is_plain(*byte) || b"._-".contains(byte))
        && bytes.first().is_some_and(|byte| is_plain(*byte))
        && bytes.last().is_some_and(|byte| is_plain(*byte));
    if fits {
        return Ok(());
    }
    let name = name.escape_debug();
    Err(Failure::usage(format!(
        "invalid name `{name}` (from flag `--name`): expected 1 to 63 letters, digits, `.`, `_` and `-`, a letter or \
         digit first and last"
    )))
}

fn secret(file: Option<&Path>) -> Result<String, Failure> {
    let file = file.ok_or_else(|| {
        Failure::usage("a webhook without a secret could be sent by anybody, and none is given")
            .hint("write one into a file, such as with `openssl rand -hex 32`, and name it with `--webhook-secret-file`")
    })?;
    secret::read(None, file).map_err(|error| Failure::failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_is_added_once() {
        for (given, expected) in [
            ("https://a", "https://a/webhooks/mlflow"),
            ("https://a/base/", "https://a/base/webhooks/mlflow"),
            ("https://a/webhooks/mlflow", "https://a/webhooks/mlflow"),
        ] {
            assert_eq!(address(given).unwrap().as_str(), expected);
        }
        for wrong in ["", "a", "ftp://a", "https://"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn private_hosts_are_known_by_their_address_or_name() {
        for (host, private) in [
            ("10.0.0.1", true),
            ("127.0.0.1", true),
            ("[::1]", true),
            ("[fd00::1]", true),
            ("onstage", true),
            ("onstage.models.svc", true),
            ("8.8.8.8", false),
            ("models.example.com", false),
        ] {
            let url = address(&format!("https://{host}:8443")).unwrap();
            assert_eq!(is_private(&url), private, "{host}");
        }
    }

    #[test]
    fn names_are_those_that_mlflow_takes() {
        for (name, fits) in [
            ("onstage", true),
            ("a", true),
            ("on.stage_1-b", true),
            ("", false),
            ("-a", false),
            ("a.", false),
            ("a b", false),
            (&"a".repeat(64), false),
        ] {
            assert_eq!(check_name(name).is_ok(), fits, "{name}");
        }
    }
}
