//! `onstage status`: the models of a running server.

mod drift;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use self::drift::ModelDrift;
use super::doctor::to_json;
use super::remote::{self, Remote, Way};
use super::text::{self, Page};
use super::{Console, Failure};
use crate::config::secret;
use crate::config::{self, Inputs, Settings};

const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// URL of the server, with its base path [default: from the configuration]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// URL of the management API, for holds and history [default: from the configuration]
    #[arg(long, value_name = "URL")]
    admin_url: Option<String>,
    /// File with the token of the management API [default: `server.admin_token_file`]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Number of swaps to show from the management API's history
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    history: usize,
    #[command(flatten)]
    way: Way,
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
    /// What the management API adds.
    #[serde(flatten)]
    managed: Option<Managed>,
}

/// What only the management API tells.
#[derive(Debug, Serialize)]
struct Managed {
    holds: Vec<Hold>,
    swaps: Vec<Swap>,
    /// What versions see and say beside their baselines; nothing where they are not watched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    drift: Vec<ModelDrift>,
}

/// A manual decision.
#[derive(Debug, Serialize)]
struct Hold {
    name: String,
    version: Option<String>,
    since: String,
}

/// One change, or refused change, of the version that serves.
#[derive(Debug, Serialize, Deserialize)]
struct Swap {
    at: String,
    model: String,
    from: Option<String>,
    to: Option<String>,
    cause: String,
    outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    seconds: f64,
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
        file: args.config.clone(),
        environment,
        flags: Vec::new(),
    })?;
    let remote = Remote::new(args.url.as_deref(), &loaded.settings, &args.way)?;
    let admin = admin(&args, &loaded.settings)?;
    let report = remote::block_on(async {
        let report = ask(&remote).await?;
        let managed = match &admin {
            Some(admin) => Some(ask_admin(admin, args.history).await?),
            None => None,
        };
        Ok(Report { managed, ..report })
    });
    let report = report.map_err(|failure| match failure.hint {
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
    let unknown = |error| unknown_form(remote, error);
    let about: About = serde_json::from_value(about).map_err(unknown)?;
    Ok(Report {
        url: remote.shown(),
        server: about.name,
        version: about.version,
        ready: ready.is_success(),
        models: serde_json::from_value(index).map_err(unknown)?,
        managed: None,
    })
}

/// The management API, when there is one and its token is known.
fn admin(args: &StatusArgs, settings: &Settings) -> Result<Option<Remote>, Failure> {
    let configured = settings.server.admin_token_file.as_ref();
    let Some(file) = args.token_file.as_ref().or(configured) else {
        return match args.admin_url {
            Some(_) => Err(Failure::usage("`--admin-url` needs `--token-file`")),
            None => Ok(None),
        };
    };
    let Some(remote) = Remote::admin(args.admin_url.as_deref(), settings, &args.way)? else {
        return match args.token_file {
            Some(_) => Err(Failure::usage("`--token-file` needs `--admin-url`")),
            None => Ok(None),
        };
    };
    let token = secret::read(None, file);
    let token = token.map_err(|error| Failure::failed(error.to_string()))?;
    Ok(Some(remote.bearing(token)))
}

async fn ask_admin(admin: &Remote, history: usize) -> Result<Managed, Failure> {
    #[derive(Deserialize)]
    struct Server {
        models: Vec<Model>,
    }
    #[derive(Deserialize)]
    struct Model {
        name: String,
        hold: Option<Held>,
    }
    #[derive(Deserialize)]
    struct Held {
        version: Option<String>,
        since: String,
    }
    #[derive(Deserialize)]
    struct History {
        swaps: Vec<Swap>,
    }
    let server = admin.json(Method::GET, "/admin/models", TIMEOUT).await?;
    let path = format!("/admin/history?limit={history}");
    let history = admin.json(Method::GET, &path, TIMEOUT).await?;
    let unknown = |error| unknown_form(admin, error);
    let server: Server = serde_json::from_value(server).map_err(unknown)?;
    let history: History = serde_json::from_value(history).map_err(unknown)?;
    let names: Vec<String> = server
        .models
        .iter()
        .map(|model| model.name.clone())
        .collect();
    let holds = server.models.into_iter().filter_map(|model| {
        let Held { version, since } = model.hold?;
        Some(Hold {
            name: model.name,
            version,
            since,
        })
    });
    Ok(Managed {
        holds: holds.collect(),
        swaps: history.swaps,
        drift: drift::ask(admin, &names, TIMEOUT).await?,
    })
}

fn unknown_form(remote: &Remote, error: serde_json::Error) -> Failure {
    let address = remote.shown();
    Failure::failed(format!(
        "`{address}` describes itself in an unknown form: {error}"
    ))
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
    if let Some(managed) = &report.managed {
        managed.render(&mut page);
    }
    page.into_text()
}

impl Managed {
    fn render(&self, page: &mut Page) {
        if !self.holds.is_empty() {
            page.heading("held by hand, whatever the registry says");
            let row = |hold: &Hold| {
                let version = hold.version.as_deref().unwrap_or("unloaded");
                [&hold.name, version, &hold.since].map(one_line)
            };
            let rows: Vec<[String; 3]> = self.holds.iter().map(row).collect();
            page.table(["model", "version", "since"], &rows);
        }
        drift::render(&self.drift, page);
        page.heading("swaps, newest first");
        let row = |swap: &Swap| {
            let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "-".into());
            let outcome = match &swap.reason {
                Some(reason) => format!("{}: {reason}", swap.outcome),
                None => swap.outcome.clone(),
            };
            let cells = [
                swap.at.clone(),
                swap.model.clone(),
                format!("{} -> {}", version(&swap.from), version(&swap.to)),
                swap.cause.clone(),
                format!("{:.3} s", swap.seconds),
                outcome,
            ];
            cells.map(|cell| one_line(&cell))
        };
        let rows: Vec<[String; 6]> = self.swaps.iter().map(row).collect();
        page.table(
            ["at", "model", "version", "cause", "took", "outcome"],
            &rows,
        );
    }
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
            managed: None,
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
    fn tells_what_the_management_api_adds() {
        let swap = |from: Option<&str>, outcome: &str, reason: Option<&str>| Swap {
            at: "2026-03-01T12:00:00.250Z".to_owned(),
            model: "iris".to_owned(),
            from: from.map(str::to_owned),
            to: Some("2".to_owned()),
            cause: "registry".to_owned(),
            outcome: outcome.to_owned(),
            reason: reason.map(str::to_owned),
            seconds: 0.0421,
        };
        let managed = Managed {
            holds: vec![Hold {
                name: "iris".to_owned(),
                version: None,
                since: "2026-03-01T12:30:00.000Z".to_owned(),
            }],
            swaps: vec![
                swap(Some("1"), "failed", Some("the input example fails")),
                swap(None, "published", None),
            ],
            drift: Vec::new(),
        };
        let managed = Some(managed);
        let report = Report {
            managed,
            ..report()
        };
        insta::assert_snapshot!(render(&report, 100));
        insta::assert_snapshot!("programs_are_told_it_too", to_json(&report));
    }

    #[test]
    fn tells_programs() {
        insta::assert_snapshot!(to_json(&report()));
    }
}
