use crate::engine::EngineChoice;
use crate::protocol::NonFinite;
use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

fn file(text: &str) -> (tempfile::TempDir, Inputs) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("onstage.toml");
    std::fs::write(&path, text).unwrap();
    let inputs = Inputs {
        file: Some(path),
        ..Inputs::default()
    };
    (dir, inputs)
}

fn with_variable(mut inputs: Inputs, name: &str, value: &str) -> Inputs {
    inputs.environment.push((name.into(), value.into()));
    inputs
}

fn with_flag(mut inputs: Inputs, flag: &str, value: &str) -> Inputs {
    let def = KEYS.iter().find(|def| def.flag == Some(flag)).unwrap();
    inputs.flags.push(FlagValue {
        def,
        flag: format!("--{flag}"),
        raw: Raw::Text(value.to_owned()),
    });
    inputs
}

/// The message and the hint, the temporary directory left out.
fn complaint(inputs: &Inputs) -> String {
    let error = load(inputs).unwrap_err();
    let hint = error
        .hint()
        .map_or(String::new(), |hint| format!("\nhint: {hint}"));
    let text = format!("{error}{hint}");
    match inputs.file.as_ref().and_then(|file| file.parent()) {
        Some(parent) => text.replace(&format!("{}/", parent.display()), ""),
        None => text,
    }
}

/// The paths of all fields, `models.m` as `models.*`.
fn fields(value: &serde_json::Value, path: &str, found: &mut BTreeSet<String>) {
    match value.as_object() {
        Some(object) => {
            for (name, value) in object {
                let name = if path == "models" { "*" } else { name };
                let dot = if path.is_empty() { "" } else { "." };
                fields(value, &format!("{path}{dot}{name}"), found);
            }
        }
        None => {
            found.insert(path.to_owned());
        }
    }
}

#[test]
fn the_table_of_keys_has_exactly_the_fields_of_the_settings() {
    let (_dir, inputs) = file("[models.m]\nsource = 'x'");
    let settings = serde_json::to_value(load(&inputs).unwrap().settings).unwrap();
    let mut found = BTreeSet::new();
    fields(&settings, "", &mut found);
    let keys: BTreeSet<String> = KEYS.iter().map(|def| def.path.to_owned()).collect();
    assert_eq!(found, keys);
}

#[test]
fn every_key_takes_a_value_of_its_kind_in_the_settings() {
    for def in KEYS {
        let text = match def.kind {
            Kind::Text | Kind::Path | Kind::Uri | Kind::List => "x",
            Kind::BasePath | Kind::Route => "/x",
            Kind::Bool if def.default == Some("true") => "false",
            Kind::Bool => "true",
            Kind::Port | Kind::PortOrOff | Kind::Integer(_) => "7",
            Kind::Fraction => "0.7",
            Kind::Size => "7MiB",
            Kind::Duration => "7ms",
            Kind::Choice(choices) => choices.last().unwrap(),
            Kind::Origins => "https://x",
            Kind::Libraries => {
                "/x.so@sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
            }
            Kind::Algorithms => "ES256",
            Kind::LogFilter => "debug",
            Kind::AccessLog => "sampled:0.5",
        };
        let name = def.variable().replace("<NAME>", "M");
        let inputs = with_variable(Inputs::default(), &name, text);
        let loaded = load(&inputs).unwrap();
        assert_ne!(loaded.settings, Settings::default(), "{}", def.path);
    }
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let settings = Settings::default();
    assert_eq!(settings.server.host, "127.0.0.1");
    assert_eq!(
        (settings.server.port, settings.server.grpc_port),
        (8080, Some(8081))
    );
    assert_eq!(settings.server.max_body, 64 << 20);
    assert_eq!(settings.server.request_timeout, Duration::from_secs(60));
    assert_eq!(settings.server.drain_timeout, Duration::from_secs(30));
    assert_eq!(settings.server.nonfinite, NonFinite::Null);
    assert_eq!(settings.engine.default, EngineChoice::Auto);
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let port = |inputs: &Inputs| {
        let loaded = load(inputs).unwrap();
        let origin = loaded.origin(&KeyPath::parse("server.port"));
        (loaded.settings.server.port, origin)
    };
    assert_eq!(port(&Inputs::default()), (8080, Origin::Default));
    let (_dir, inputs) = file("[server]\nport = 1");
    assert!(matches!(
        port(&inputs),
        (1, Origin::File { line: Some(2), .. })
    ));
    let inputs = with_variable(inputs, "ONSTAGE_SERVER__PORT", "2");
    let variable = Origin::Environment("ONSTAGE_SERVER__PORT".to_owned());
    assert_eq!(port(&inputs), (2, variable));
    let inputs = with_flag(inputs, "port", "3");
    assert_eq!(port(&inputs), (3, Origin::Flag("--port".to_owned())));
}

#[test]
fn an_empty_variable_leaves_the_value_of_the_file() {
    let (_dir, inputs) = file("[server]\nport = 1");
    let inputs = with_variable(inputs, "ONSTAGE_SERVER__PORT", "");
    assert_eq!(load(&inputs).unwrap().settings.server.port, 1);
}

#[test]
fn reads_models_whose_names_need_quotes() {
    let text =
        "[models.\"fraud v2.1\"]\nsource = 'a/b'\nengine = 'tract'\nbatching.max_queue_size = 5";
    let (_dir, inputs) = file(text);
    let settings = load(&inputs).unwrap().settings;
    let model = &settings.models["fraud v2.1"];
    assert_eq!(model.engine, Some(EngineChoice::Tract));
    assert_eq!(model.queue_size(), Some(5));
}

#[test]
fn mistakes_in_the_environment_name_value_key_origin_and_what_was_expected() {
    let complain = |name, value| complaint(&with_variable(Inputs::default(), name, value));
    assert_eq!(
        complain("ONSTAGE_BATCHING__MAX_QUEUE_DELAY", "10x"),
        "invalid value `10x` for `batching.max_queue_delay` (from environment variable \
         `ONSTAGE_BATCHING__MAX_QUEUE_DELAY`): expected a duration such as `5ms`"
    );
    assert_eq!(
        complain("ONSTAGE_SERVER__MAX_BODY", "64"),
        "invalid value `64` for `server.max_body` (from environment variable \
         `ONSTAGE_SERVER__MAX_BODY`): expected a size such as `64MiB`\n\
         hint: give it a unit: `64B` or `64MiB`"
    );
}

#[test]
fn mistakes_in_the_file_name_its_line() {
    let cases = [
        "[server]\nport = 99999",
        "[server]\nprot = 1",
        "[sever]\nport = 1",
        "[server]\nport = {a = 1}",
        "[server]\ncors_origins = [['a']]",
        "server = 5",
        "[models]\nfraud = 'x'",
        "[models.fraud]\nenigne = 'tract'",
        "[models.fraud]\nengine = 'onnx'",
        "[engine]\nintra_op_threads = 0",
        "[telemetry]\nlog_level = 'verbose'",
        "[telemetry]\naccess_log = 'some'",
        "[server\nport = 1",
        "[server]\nport = 1\nport = 2",
        "[server]\nport = 8081",
    ];
    let messages: Vec<String> = cases
        .into_iter()
        .map(|text| {
            let (_dir, inputs) = file(text);
            format!("{text}\n--\n{}", complaint(&inputs))
        })
        .collect();
    insta::assert_snapshot!(messages.join("\n\n====\n"));
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let inputs = Inputs {
        file: Some("does/not/exist.toml".into()),
        ..Inputs::default()
    };
    let error = load(&inputs).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }));
    assert!(!error.is_usage());
}

#[test]
fn an_invalid_flag_is_a_mistake_of_use_and_an_invalid_file_is_not() {
    let flag = with_flag(Inputs::default(), "engine", "onnx");
    assert!(load(&flag).unwrap_err().is_usage());
    let (_dir, inputs) = file("[engine]\ndefault = 'onnx'");
    assert!(!load(&inputs).unwrap_err().is_usage());
}

#[test]
fn shows_each_value_with_its_origin_and_no_password() {
    let (dir, inputs) = file("[server]\nrequest_timeout = '90s'\n[models.\"a b\"]\nsource = 'x'");
    let inputs = with_variable(inputs, "ONSTAGE_REGISTRY__URI", "https://me:s3cret@host/x");
    let inputs = with_flag(inputs, "grpc-port", "off");
    let shown = load(&inputs).unwrap().show();
    let shown = shown.replace(&format!("{}/", dir.path().display()), "");
    insta::assert_snapshot!(shown);
}

#[test]
fn what_is_shown_can_be_read_again() {
    let (_dir, inputs) =
        file("[server]\ncors_origins = ['https://a']\n[models.\"a b\"]\nsource = 'x'");
    let loaded = load(&inputs).unwrap();
    let (_dir, again) = file(&loaded.show());
    assert_eq!(load(&again).unwrap().settings, loaded.settings);
}
