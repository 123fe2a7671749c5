//! The management API, on a listener of its own: state, history, and what a person decides against the registry.
//!
//! Every request needs the token, or a caller with the scope `admin`. Besides our own paths it answers the model repository extension of the Open
//! Inference Protocol (`/v2/repository/…`), so that tools made for it can load and unload.

mod view;

use std::fmt::Display;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::gate;
use crate::error::ErrorKind;
use crate::http::body::object;
use crate::http::refused::Refused;
use crate::http::{Surface, json};
use crate::middleware::auth::{Caller, Guard};
use crate::model::{ModelName, Version};
use crate::payload::PayloadLog;
use crate::protocol::oip::rest;
use crate::protocol::state::Shared;
use crate::serving::Admin;

/// A management request is a few words.
const LONGEST_BODY: usize = 64 << 10;

/// Swaps that `/admin/history` returns without `limit`.
const TOLD: usize = 100;

/// The router of the management API. Until models begin to load, it answers that the server starts.
pub fn admin_router(shared: &Shared, guard: Guard) -> Router {
    let state = AdminState {
        shared: shared.clone(),
    };
    Router::new()
        .route("/admin/models", get(models))
        .route("/admin/models/{model}", get(model))
        .route("/admin/models/{model}/{action}", post(act))
        .route(
            "/admin/models/{model}/payload-log",
            get(payload_log).post(switch_payload_log),
        )
        .route("/admin/history", get(history))
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{model}/{action}", post(act_as_v2))
        .fallback(|| async { Surface::V2.plain_error(StatusCode::NOT_FOUND, "Not Found") })
        .method_not_allowed_fallback(|| async { Surface::V2.method_not_allowed() })
        .with_state(state)
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(from_fn_with_state(guard, gate::pass_admin))
}

#[derive(Clone)]
struct AdminState {
    shared: Shared,
}

impl AdminState {
    fn admin(&self) -> Result<Arc<dyn Admin>, Refused> {
        self.shared.admin().ok_or_else(Refused::starting)
    }

    /// The log, and a model that there is.
    fn payload_log(&self, model: String) -> Result<(&PayloadLog, ModelName), Refused> {
        let name = model_name(model)?;
        let snapshot = self.shared.service().catalog().snapshot();
        if !snapshot.models.contains_key(&name) {
            return Err(Refused::not_found(format!("no model named `{name}`")));
        }
        let log = self.shared.payload_log().ok_or_else(|| {
            let reason = "this server has no payload log: set `payload_log.uri`";
            Refused::new(ErrorKind::Conflict, reason)
        })?;
        Ok((log, name))
    }
}

async fn models(State(state): State<AdminState>) -> Result<Response, Refused> {
    let admin = state.admin()?;
    let snapshot = state.shared.service().catalog().snapshot();
    Ok(answer(&view::Server {
        ready: state.shared.is_ready(),
        models: view::models(&snapshot, &admin.holds()),
    }))
}

async fn model(
    State(state): State<AdminState>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    let name = model_name(name)?;
    described(&state, &name)
}

fn described(state: &AdminState, name: &ModelName) -> Result<Response, Refused> {
    let holds = state.admin()?.holds();
    let snapshot = state.shared.service().catalog().snapshot();
    let entry = snapshot.models.get(name);
    let entry = entry.ok_or_else(|| Refused::not_found(format!("no model named `{name}`")))?;
    Ok(answer(&view::model(name, entry, &holds)))
}

/// Which part of the history is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    model: Option<String>,
    limit: Option<usize>,
}

async fn history(
    State(state): State<AdminState>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refused> {
    let Query(wanted) = wanted.map_err(|error| {
        Refused::invalid(format!(
            "the query is not understood: {error}; expected `model=NAME` and `limit=NUMBER`"
        ))
    })?;
    let swaps = state.admin()?.history();
    let swaps = swaps.iter().filter(|swap| {
        let name = wanted.model.as_deref();
        name.is_none_or(|name| name == swap.model.as_str())
    });
    let swaps = swaps.take(wanted.limit.unwrap_or(TOLD)).map(view::swap);
    Ok(answer(&view::History {
        swaps: swaps.collect(),
    }))
}

/// The body of a swap.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SwapTo {
    version: VersionNumber,
}

/// A number, or its text as the other surfaces write it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum VersionNumber {
    Number(u64),
    Text(String),
}

async fn act(
    State(state): State<AdminState>,
    Path((model, action)): Path<(String, String)>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, Refused> {
    let action = Action {
        name: &action,
        known: &["swap", "load", "unload", "hold", "resume"],
        body: &body,
    };
    let name = perform(&state, &caller, model, action).await?;
    described(&state, &name)
}

/// An action on a model, from the path of a request.
struct Action<'r> {
    name: &'r str,
    /// Those that there are.
    known: &'r [&'r str],
    body: &'r Bytes,
}

/// Performs an action, when it is a known one; the answer is the model.
async fn perform(
    state: &AdminState,
    caller: &Caller,
    model: String,
    action: Action<'_>,
) -> Result<ModelName, Refused> {
    let Action {
        name: action,
        known: actions,
        body,
    } = action;
    let name = model_name(model)?;
    let admin = state.admin()?;
    if !actions.contains(&action) {
        let known: Vec<String> = actions.iter().map(|known| format!("`{known}`")).collect();
        return Err(Refused::not_found(format!(
            "no action `{action}`; there are {}",
            known.join(", ")
        )));
    }
    let done = match action {
        "swap" => admin.swap(&name, version_of(body)?).await,
        "load" => admin.load(&name).await,
        "unload" => admin.unload(&name).await,
        "hold" => admin.hold(&name).await,
        _ => admin.resume(&name).await,
    };
    let failed = done.as_ref().err().map(|error| error as &dyn Display);
    gate::record(Some(caller), name.as_str(), action, failed);
    done?;
    Ok(name)
}

/// Whether requests to a model are logged.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Logged {
    enabled: bool,
}

async fn payload_log(
    State(state): State<AdminState>,
    Path(model): Path<String>,
) -> Result<Response, Refused> {
    let (log, name) = state.payload_log(model)?;
    let enabled = log.is_enabled(&name);
    Ok(answer(&Logged { enabled }))
}

async fn switch_payload_log(
    State(state): State<AdminState>,
    Path(model): Path<String>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, Refused> {
    let (log, name) = state.payload_log(model)?;
    let wanted: Logged = object(&body).map_err(|error| {
        Refused::invalid(format!(
            "the body does not say whether to log: {error}; expected `{{\"enabled\": false}}`"
        ))
    })?;
    log.enable(&name, wanted.enabled);
    let action = if wanted.enabled {
        "payload-log on"
    } else {
        "payload-log off"
    };
    gate::record(Some(&caller), name.as_str(), action, None);
    Ok(answer(&wanted))
}

async fn index(State(state): State<AdminState>, body: Bytes) -> Response {
    let snapshot = state.shared.service().catalog().snapshot();
    match rest::repository_index(&snapshot, &body) {
        Ok(list) => json(StatusCode::OK, list),
        Err(error) => error.into_response(),
    }
}

/// As Triton has it: an empty answer, and parameters that mean nothing here are ignored.
async fn act_as_v2(
    State(state): State<AdminState>,
    Path((model, action)): Path<(String, String)>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, Refused> {
    rest::refuse_overrides(&body)?;
    let action = Action {
        name: &action,
        known: &["load", "unload"],
        body: &Bytes::new(),
    };
    perform(&state, &caller, model, action).await?;
    Ok(StatusCode::OK.into_response())
}

fn model_name(name: String) -> Result<ModelName, Refused> {
    ModelName::new(name).map_err(|error| Refused::not_found(error.to_string()))
}

fn version_of(body: &Bytes) -> Result<Version, Refused> {
    let expected =
        |what: String| Refused::invalid(format!("{what}; expected `{{\"version\": \"3\"}}`"));
    let swap: SwapTo = object(body)
        .map_err(|error| expected(format!("the body does not say which version: {error}")))?;
    match swap.version {
        VersionNumber::Number(number) => Ok(Version(number)),
        VersionNumber::Text(text) => text.parse().map_err(|error| expected(format!("{error}"))),
    }
}

fn answer(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => json(StatusCode::OK, body),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
