//! The block that `serve` prints when every model is on stage.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::timeout;

use crate::app::OnStage;
use crate::config::{ClientAuth, Settings};
use crate::engine::CancelToken;
use crate::model::{ModelName, Version};
use crate::protocol::{SampleProtocol, SampleRequest, sample_request};
use crate::runtime::threads;
use crate::serving::{
    CatalogSnapshot, Confinement, RowSharing, Selector, Servable, VersionSelector,
};

/// How long to look for a request to paste.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a name may keep in a path.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Prints models, addresses and a request to paste. It is data, so it goes to stdout; a closed stdout is not an error.
pub(super) async fn print(stage: OnStage) {
    let sample = sample(&stage).await;
    let text = render(&stage, sample.as_ref());
    let mut out = anstream::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A request that one of the models has answered, and where it goes.
async fn sample(stage: &OnStage) -> Option<Sample> {
    let mut paths: Vec<(ModelPath, Arc<Servable>)> = stage
        .servables
        .iter()
        .map(|servable| {
            (
                ModelPath::leading_to(servable, &stage.catalog),
                Arc::clone(servable),
            )
        })
        .collect();
    // Short paths first.
    paths.sort_by_key(|(path, _)| path.rank());
    let max_body = usize::try_from(stage.settings.server.max_body).unwrap_or(usize::MAX);
    let cancel = CancelToken::new();
    let stopped = cancel.clone();
    let find = move || {
        paths.into_iter().find_map(|(path, servable)| {
            let request = sample_request(&servable, max_body, &stopped)?;
            Some(Sample { path, request })
        })
    };
    // Models run on it, which takes as long as it takes.
    let finding = threads::run("sample", find).ok()?;
    let sample = timeout(PATIENCE, finding).await;
    cancel.cancel();
    sample.ok()?.ok()?
}
/// A request to paste.
struct Sample {
    path: ModelPath,
    request: SampleRequest,
}

/// How a version is named in paths.
enum ModelPath {
    /// By no name, where the protocol has such a path.
    Default(String),
    /// By its model's, percent-encoded.
    Model(String),
    /// By its model's and its number.
    Version(String, Version),
}

impl ModelPath {
    /// The shortest one that leads to this version.
    fn leading_to(servable: &Arc<Servable>, catalog: &CatalogSnapshot) -> Self {
        let leads_here = |model: Option<&ModelName>| {
            let selector = Selector {
                model: model.cloned(),
                version: VersionSelector::Default,
            };
            let found = catalog.lookup(&selector);
            found.is_ok_and(|found| Arc::ptr_eq(&found, servable))
        };
        let id = servable.id();
        let name = utf8_percent_encode(id.name.as_str(), KEPT).to_string();
        if leads_here(None) {
            Self::Default(name)
        } else if leads_here(Some(&id.name)) {
            Self::Model(name)
        } else {
            Self::Version(name, id.version)
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Default(_) => 0,
            Self::Model(_) => 1,
            Self::Version(..) => 2,
        }
    }
}

impl Sample {
    fn path(&self) -> String {
        match (self.request.protocol, &self.path) {
            (SampleProtocol::Scoring, ModelPath::Default(_)) => "/invocations".to_owned(),
            (SampleProtocol::Scoring, ModelPath::Model(name)) => {
                format!("/models/{name}/invocations")
            }
            (SampleProtocol::Scoring, ModelPath::Version(name, version)) => {
                format!("/models/{name}/versions/{version}/invocations")
            }
            (SampleProtocol::Infer, ModelPath::Default(name) | ModelPath::Model(name)) => {
                format!("/v2/models/{name}/infer")
            }
            (SampleProtocol::Infer, ModelPath::Version(name, version)) => {
                format!("/v2/models/{name}/versions/{version}/infer")
            }
        }
    }

    /// A command line for a shell.
    fn curl(&self, base: &str, settings: &Settings) -> String {
        let mut options = String::new();
        if settings.server.tls.cert_file.is_some() {
            // The certificate is seldom one for this address.
            options.push_str("--insecure ");
        }
        if settings.server.tls.client_auth == ClientAuth::Required {
            options.push_str("--cert \"$CERT\" --key \"$KEY\" ");
        }
        if settings.auth.is_on() {
            options.push_str("-H \"Authorization: Bearer $TOKEN\" ");
        }
        if self.request.binary_answer {
            options.push_str("-o answer.bin ");
        }
        let url = format!("{base}{}", self.path());
        let json = quoted(&self.request.json);
        match self.request.zeros {
            0 => {
                format!("curl {options}{url} -H 'Content-Type: application/json' \\\n    -d {json}")
            }
            zeros => format!(
                "{{ printf %s {json}; head -c {zeros} /dev/zero; }} | \\\n    \
                 curl {options}{url} -H 'Inference-Header-Content-Length: {}' --data-binary @-",
                self.request.json.len()
            ),
        }
    }
}

/// A text in the quotes of a shell, which a quote would end.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn render(stage: &OnStage, sample: Option<&Sample>) -> String {
    let OnStage {
        addresses,
        settings,
        servables,
        ..
    } = stage;
    let scheme = match settings.server.tls.cert_file {
        Some(_) => "https",
        None => "http",
    };
    let base = format!(
        "{scheme}://{}{}",
        reachable(addresses.http),
        settings.server.base_path
    );
    let mut out = format!("onstage {} is serving\n\n", env!("CARGO_PKG_VERSION"));
    let width = servables
        .iter()
        .map(|servable| servable.id().name.as_str().chars().count())
        .max()
        .unwrap_or(0);
    for servable in servables {
        let id = servable.id();
        let _ = writeln!(
            out,
            "  {:width$}  version {}  on {}, {}",
            id.name.as_str(),
            id.version,
            servable.engine(),
            sharing(servable)
        );
        if let Some(confinement) = servable.confinement() {
            let _ = writeln!(out, "  {:width$}  {}", "", confined(confinement));
        }
    }
    if servables.is_empty() {
        out.push_str("  no models\n");
    }
    let _ = writeln!(out, "\n  HTTP     {base}");
    let on_http = settings.server.grpc_on_http.then_some(addresses.http);
    if let Some(grpc) = addresses.grpc.or(on_http) {
        let _ = writeln!(out, "  gRPC     {}", reachable(grpc));
    }
    let _ = writeln!(out, "  metrics  {base}/metrics");
    if let Some(admin) = addresses.admin {
        let _ = writeln!(out, "  admin    {scheme}://{}", reachable(admin));
    }
    let _ = match (sample, servables.as_slice()) {
        (_, []) => Ok(()),
        (Some(sample), _) => writeln!(out, "\nTry it:\n\n  {}", sample.curl(&base, settings)),
        (None, _) => writeln!(
            out,
            "\nNothing to try: no example, and nothing that was made up, was answered; {base}/docs tells what the models take"
        ),
    };
    out.push('\n');
    out
}

/// Whether requests share runs, and why not.
fn sharing(servable: &Servable) -> String {
    match servable.sharing() {
        RowSharing::Proven => "requests share runs".to_owned(),
        RowSharing::Declared(_) => {
            "requests share runs as configured, which is not proven right".to_owned()
        }
        RowSharing::Alone(reason) => format!("each request runs alone: {reason}"),
    }
}

/// Why a model has a process of its own, and what that may take.
fn confined(confinement: &Confinement) -> String {
    let memory = confinement.memory.map_or_else(String::new, |bytes| {
        format!(
            " of at most {} more than the model",
            bytesize::ByteSize(bytes)
        )
    });
    format!("in a process of its own{memory}: {}", confinement.reason)
}

/// An address to paste into a client on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut reachable = address;
    if address.ip().is_unspecified() {
        reachable.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    reachable
}
