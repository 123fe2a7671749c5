//! `onstage status`: the models of a running server.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::doctor::to_json;
use super::remote::{self, Remote};
use super::text::{self, Page};
use super::{Console, Failure};
use crate::config::{self, Inputs};

const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Address of the server, with its base path [default: where the configuration lets it listen]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Everything that the command tells.
#[derive(Debug, Serialize)]
struct Report {
    url: String,
    server: String,
    version: String,
    ready: bool,
    models: Vec<Row>,
}

/// One entry of the index. Servers leave out what they do not know.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    reason: String,
}

/// What a server says of itself.
#[derive(Debug, Deserialize)]
struct About {
    name: String,
    version: String,
}

pub(super) fn run(
    args: StatusArgs,
    environment: Vec<(OsString, OsString)>,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let width = text::width(&environment);
    let loaded = config::load(&Inputs {
        file: args.config,
        environment,
        flags: Vec::new(),
    })?;
    let remote = Remote::new(args.url.as_deref(), &loaded.settings)?;
    let report = remote::block_on(ask(&remote)).map_err(|failure| match failure.hint {
        Some(_) => failure,
        None => failure.hint("is `onstage serve` running there? name another server with `--url`"),
    })?;
    if args.json {
        console.print(&to_json(&report))
    } else {
        console.print(&render(&report, width))
    }
}

async fn ask(remote: &Remote) -> Result<Report, Failure> {
    let about = remote.json(Method::GET, "/v2", TIMEOUT).await?;
    let index = remote.json(Method::POST, "/v2/repository/index", TIMEOUT);
    let index = index.await?;
    let ready = remote.status("/v2/health/ready", TIMEOUT).await?;
    let unknown = |error: serde_json::Error| {
        let address = remote.shown();
        Failure::failed(format!(
            "`{address}` describes itself in an unknown form: {error}"
        ))
    };
    let about: About = serde_json::from_value(about).map_err(unknown)?;
    Ok(Report {
        url: remote.shown(),
        server: about.name,
        version: about.version,
        ready: ready.is_success(),
        models: serde_json::from_value(index).map_err(unknown)?,
    })
}

fn render(report: &Report, width: usize) -> String {
    let mut page = Page::new(width);
    let Report {
        server,
        version,
        url,
        ..
    } = report;
    let ready = if report.ready { "ready" } else { "not ready" };
    page.heading(&format!("{server} {version} at {url}: {ready}"));
    let row =
        |row: &Row| [&row.name, &row.version, &row.state, &row.reason].map(|text| one_line(text));
    let rows: Vec<[String; 4]> = report.models.iter().map(row).collect();
    page.table(["model", "version", "state", "reason"], &rows);
    page.into_text()
}

/// Another server's words must not move the cursor of this terminal.
fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let row = |name: &str, version: &str, state: &str, reason: &str| Row {
            name: name.to_owned(),
            version: version.to_owned(),
            state: state.to_owned(),
            reason: reason.to_owned(),
        };
        Report {
            url: "http://127.0.0.1:8080".to_owned(),
            server: "onstage".to_owned(),
            version: "0.1.0".to_owned(),
            ready: true,
            models: vec![
                row("iris", "1", "READY", ""),
                row(
                    "fraud detection",
                    "12",
                    "UNAVAILABLE",
                    "engine `tract` cannot run this graph: it lacks the operators `ai.onnx.ml.ZipMap`",
                ),
                row("evil\u{1b}[2J", "", "", ""),
            ],
        }
    }

    #[test]
    fn tells_people() {
        insta::assert_snapshot!(render(&report(), 80));
        let models = Vec::new();
        insta::assert_snapshot!(
            "tells_people_of_nothing",
            render(&Report { models, ..report() }, 80)
        );
    }

    #[test]
    fn tells_programs() {
        insta::assert_snapshot!(to_json(&report()));
    }
}
