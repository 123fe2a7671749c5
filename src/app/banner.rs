//! The block that `serve` prints when every model is on stage.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::Settings;
use crate::serving::{Confinement, RowSharing, Servable};

/// Where the server listens.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) http: SocketAddr,
    pub(super) grpc: Option<SocketAddr>,
    pub(super) admin: Option<SocketAddr>,
}

/// A request longer than this is not for pasting.
const LONGEST_EXAMPLE: usize = 600;

/// Prints models, addresses and a request to paste. Data, so on stdout; nobody reading it is no error.
pub(super) fn print(addresses: &Addresses, settings: &Settings, servables: &[Arc<Servable>]) {
    let text = render(addresses, settings, servables);
    let mut out = anstream::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn render(addresses: &Addresses, settings: &Settings, servables: &[Arc<Servable>]) -> String {
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
    let on_http = { settings.server.grpc_on_http }.then_some(addresses.http);
    if let Some(grpc) = addresses.grpc.or(on_http) {
        let _ = writeln!(out, "  gRPC     {}", reachable(grpc));
    }
    let _ = writeln!(out, "  metrics  {base}/metrics");
    if let Some(admin) = addresses.admin {
        let _ = writeln!(out, "  admin    {scheme}://{}", reachable(admin));
    }
    if let Some(servable) = servables.first() {
        let path = if servables.len() == 1 {
            "/invocations".to_owned()
        } else {
            format!(
                "/models/{}/invocations",
                utf8_percent_encode(servable.id().name.as_str(), NON_ALPHANUMERIC)
            )
        };
        let body = example(servable);
        let _ = writeln!(
            out,
            "\nTry it:\n\n  curl {base}{path} -H 'Content-Type: application/json' \\\n    -d '{body}'"
        );
    }
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

/// The package's own example on one line; a skeleton when it has none.
fn example(servable: &Servable) -> String {
    let own = servable.package().serving_input().ok().flatten();
    let compact = own.and_then(|body| serde_json::from_slice::<serde_json::Value>(&body).ok());
    match compact
        .map(|body| body.to_string())
        .filter(|body| body.len() <= LONGEST_EXAMPLE)
    {
        // A quote would end the shell's string.
        Some(body) => body.replace('\'', "'\\''"),
        None => {
            let names: Vec<String> = servable
                .signature()
                .inputs
                .iter()
                .map(|input| format!("\"{}\": ...", input.name))
                .collect();
            format!("{{\"inputs\": {{{}}}}}", names.join(", "))
        }
    }
}
