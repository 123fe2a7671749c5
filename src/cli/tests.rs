use std::ffi::OsString;

use clap::CommandFactory as _;

use super::*;

struct Outcome {
    exit: Exit,
    out: String,
    err: String,
}

fn onstage(arguments: &[&str]) -> Outcome {
    onstage_in(arguments, &[])
}

fn onstage_in(arguments: &[&str], environment: &[(&str, &str)]) -> Outcome {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = {
        let mut out = anstream::StripStream::new(&mut out);
        let mut err = anstream::StripStream::new(&mut err);
        let mut console = Console::new(&mut out, &mut err);
        let arguments = std::iter::once(&"onstage").chain(arguments);
        let pair = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
        execute(
            arguments.map(OsString::from),
            environment.iter().map(pair).collect(),
            &mut console,
        )
    };
    Outcome {
        exit,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

/// The line that `--check-config` prints for `key`.
fn setting(arguments: &[&str], key: &str) -> String {
    let arguments = [&["serve", "--check-config"], arguments].concat();
    let outcome = onstage(&arguments);
    let line = outcome
        .out
        .lines()
        .find(|line| line.starts_with(&format!("{key} =")));
    let line = line.unwrap_or_else(|| panic!("no `{key}` in {}{}", outcome.out, outcome.err));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn help(arguments: &[&str]) -> String {
    let command = Cli::command().term_width(100);
    let error = command.try_get_matches_from(arguments).unwrap_err();
    error.render().to_string()
}

#[test]
fn the_parser_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn help_is_stable() {
    insta::assert_snapshot!("help", help(&["onstage", "--help"]));
    insta::assert_snapshot!("help_serve", help(&["onstage", "serve", "--help"]));
    insta::assert_snapshot!("help_inspect", help(&["onstage", "inspect", "--help"]));
    insta::assert_snapshot!("help_predict", help(&["onstage", "predict", "--help"]));
    insta::assert_snapshot!("help_verify", help(&["onstage", "verify", "--help"]));
    insta::assert_snapshot!("help_diff", help(&["onstage", "diff", "--help"]));
    insta::assert_snapshot!("help_package", help(&["onstage", "package", "--help"]));
    insta::assert_snapshot!("help_pull", help(&["onstage", "pull", "--help"]));
    insta::assert_snapshot!("help_registry", help(&["onstage", "registry", "--help"]));
    for command in ["list", "show", "register", "transition", "alias", "unalias"] {
        let text = help(&["onstage", "registry", command, "--help"]);
        insta::assert_snapshot!(format!("help_registry_{command}"), text);
    }
    let webhook = help(&["onstage", "registry", "webhook", "--help"]);
    insta::assert_snapshot!("help_registry_webhook", webhook);
    for command in ["export", "delete"] {
        let text = help(&["onstage", "log", command, "--help"]);
        insta::assert_snapshot!(format!("help_log_{command}"), text);
    }
    insta::assert_snapshot!("help_quality", help(&["onstage", "quality", "--help"]));
    insta::assert_snapshot!("help_status", help(&["onstage", "status", "--help"]));
    insta::assert_snapshot!("help_health", help(&["onstage", "health", "--help"]));
    insta::assert_snapshot!("help_key", help(&["onstage", "key", "--help"]));
    insta::assert_snapshot!("help_doctor", help(&["onstage", "doctor", "--help"]));
    insta::assert_snapshot!(
        "help_completions",
        help(&["onstage", "completions", "--help"])
    );
}

#[test]
fn help_and_version_are_data() {
    for arguments in [&["--help"][..], &["--version"], &["serve", "--help"]] {
        let outcome = onstage(arguments);
        assert_eq!(outcome.exit, Exit::Fine, "{arguments:?}");
        assert!(
            !outcome.out.is_empty() && outcome.err.is_empty(),
            "{arguments:?}"
        );
    }
    let version = format!("onstage {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(onstage(&["--version"]).out, version);
}

#[test]
fn mistakes_of_use_end_with_2_and_say_what_is_meant() {
    let cases: &[&[&str]] = &[
        &[],
        &["sreve"],
        &["serve"],
        &["serve", "--prot", "1"],
        &["serve", "x", "--port", "99999"],
        &["serve", "x", "--port", "-1"],
        &["serve", "x", "--engine", "onnx"],
        &["serve", "x", "--grpc-port", "8080"],
        &["serve", "x", "--max-body", "64"],
        &["serve", "x", "--base-path", "ml"],
        &["serve", "x", "y", "--name", "z"],
        &["serve", "x", "--name", "a/b"],
        &["inspect"],
        &["health", "--url", "localhost:8080"],
        &["status", "--url", "http://me:s3cret@host:99999"],
        &["package"],
        &["package", "x.onnx"],
        &["package", "model-examples/iris/model.onnx", "-o", "made:up"],
        &[
            "package",
            "model-examples/iris/model.onnx",
            "-o",
            "made",
            "--name",
            "a/b",
        ],
        &[
            "package",
            "model-examples/iris/model.onnx",
            "-o",
            "made",
            "--metadata",
            "owner",
        ],
        &["predict"],
        &["predict", "model-examples/iris"],
        &["predict", "x", "-i", "y", "--engine", "trakt"],
        &["verify"],
        &["verify", "x", "--tolerance", "few"],
        &["diff", "model-examples/iris"],
        &["diff", "x", "y", "--content-type", "text/csv"],
        &["registry"],
        &["registry", "list"],
        &["registry", "show", "a/b", "--registry", "models"],
        &["registry", "transition", "iris", "one", "Staging"],
        &["registry", "transition", "iris", "1", "Prod"],
        &["registry", "alias", "iris", "v1", "1"],
        &["registry", "webhook"],
        &["registry", "webhook", "--url", "https://me"],
        &[
            "registry",
            "webhook",
            "--url",
            "me",
            "--registry",
            "http://mlflow:5000",
        ],
        &[
            "registry",
            "webhook",
            "--url",
            "https://me",
            "--registry",
            "models",
        ],
        &[
            "registry",
            "webhook",
            "--url",
            "https://me",
            "--registry",
            "http://mlflow:5000",
            "--name",
            "a b",
        ],
        &[
            "registry",
            "webhook",
            "--url",
            "https://me",
            "--registry",
            "http://mlflow:5000",
            "--register",
        ],
        &["completions"],
        &["completions", "tcsh"],
    ];
    let text = mistakes(cases);
    insta::assert_snapshot!(text.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}

/// What is said of command lines that make no sense.
fn mistakes(cases: &[&[&str]]) -> String {
    let texts = cases.iter().map(|arguments| {
        let outcome = onstage(arguments);
        assert_eq!(outcome.exit, Exit::Usage, "{arguments:?}: {}", outcome.err);
        assert_eq!(outcome.out, "", "{arguments:?}");
        format!("$ onstage {}\n{}", arguments.join(" "), outcome.err)
    });
    texts.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_pull_cannot_copy_ends_with_2() {
    let follow = [
        "pull",
        "models:/iris/1",
        "--follow",
        "champion",
        "-o",
        "made",
    ];
    insta::assert_snapshot!(mistakes(&[
        &["pull", "models:/iris/1"],
        &["pull", "-o", "made"],
        &["pull", "iris", "-o", "made"],
        &follow,
    ]));
}

#[test]
fn a_collector_has_a_url() {
    let outcome = onstage(&["serve", "x", "--otlp-endpoint", "collector:4317"]);
    assert_eq!(outcome.exit, Exit::Config);
    let feature = cfg!(feature = "otel");
    let expected = if feature {
        "expected the URL"
    } else {
        "the feature `otel`"
    };
    let text = if feature {
        "collector:4317"
    } else {
        "http://127.0.0.1:4318"
    };
    let outcome = onstage(&["serve", "x", "--otlp-endpoint", text]);
    assert!(outcome.err.contains(expected), "{}", outcome.err);
}

#[test]
fn inspect_says_what_it_cannot_open() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    for model in ["add", "gather"] {
        let model = format!("{model}.onnx");
        let from = std::path::Path::new("tests/models").join(&model);
        let to = directory.path().join(&model[..1]);
        std::fs::create_dir(&to).unwrap();
        std::fs::copy(from, to.join(&model)).unwrap();
    }
    let cases = ["does/not/exist", "src/cli/package", root, "README.md"];
    let texts = cases.map(|path| {
        let outcome = onstage(&["inspect", path]);
        assert_eq!(outcome.exit, Exit::Failed, "{path}: {}", outcome.err);
        assert_eq!(outcome.out, "", "{path}");
        format!("$ onstage inspect {path}\n{}", outcome.err)
    });
    insta::assert_snapshot!(texts.join("\n").replace(root, "ROOT"));
}

#[test]
fn package_says_what_it_cannot_use() {
    let cases: &[&[&str]] = &[
        &["does/not/exist.onnx", "-o", "made"],
        &["model-examples/iris", "-o", "made"],
        &["README.md", "-o", "made"],
        &[
            "model-examples/iris/model.onnx",
            "-o",
            "model-examples/iris",
        ],
        &["model-examples/iris/model.onnx", "-o", "docs", "--force"],
        &[
            "model-examples/iris/model.onnx",
            "-o",
            "made",
            "--input-example",
            "no.json",
        ],
        &[
            "model-examples/iris/model.onnx",
            "-o",
            "made",
            "--input-example",
            "README.md",
        ],
    ];
    let texts = cases.iter().map(|arguments| {
        let outcome = onstage(&[&["package"], *arguments].concat());
        assert_eq!(outcome.exit, Exit::Failed, "{arguments:?}: {}", outcome.err);
        assert_eq!(outcome.out, "", "{arguments:?}");
        format!("$ onstage package {}\n{}", arguments.join(" "), outcome.err)
    });
    insta::assert_snapshot!(texts.collect::<Vec<_>>().join("\n"));
}

#[test]
fn predict_verify_and_diff_say_what_went_wrong() {
    let iris = "model-examples/iris";
    let request = "model-examples/iris/request.json";
    let cases: &[&[&str]] = &[
        &["predict", "does/not/exist", "-i", request],
        &["predict", iris, "-i", "does/not/exist.json"],
        &["predict", iris, "-i", "README.md", "--engine", "tract"],
        &[
            "predict",
            iris,
            "-i",
            request,
            "--engine",
            "tract",
            "--content-type",
            "text/plain",
        ],
        &[
            "predict",
            iris,
            "-i",
            request,
            "--engine",
            "tract",
            "-o",
            "does/not/exist.json",
        ],
        &[
            "predict",
            "model-examples/penguins",
            "-i",
            request,
            "--engine",
            "tract",
        ],
        &["predict", "model-examples", "-i", request],
        &["verify", "does/not/exist"],
        &["diff", iris, "does/not/exist"],
        &[
            "diff",
            iris,
            iris,
            "--data",
            "README.md",
            "--engine",
            "tract",
        ],
    ];
    let texts = cases.iter().map(|arguments| {
        let outcome = onstage(arguments);
        assert_eq!(outcome.exit, Exit::Failed, "{arguments:?}: {}", outcome.err);
        assert_eq!(outcome.out, "", "{arguments:?}");
        format!("$ onstage {}\n{}", arguments.join(" "), outcome.err)
    });
    // More examples are made while other tests run.
    insta::with_settings!({ filters => [(r"holds \d+ packages", "holds several packages")] }, {
        insta::assert_snapshot!(texts.collect::<Vec<_>>().join("\n"));
    });
}

#[test]
fn diff_tells_what_changed_and_ends_with_1_when_clients_break() {
    let root = std::fs::canonicalize("model-examples").unwrap();
    let (iris, penguins) = ("model-examples/iris", "model-examples/penguins");
    let texts = [
        &["diff", iris, penguins][..],
        &[
            "diff",
            iris,
            iris,
            "--data",
            "model-examples/iris/request.json",
            "--engine",
            "tract",
        ],
        &["diff", penguins, iris, "--json"],
    ]
    .map(|arguments| {
        let outcome = onstage(arguments);
        let same = arguments[1] == arguments[2];
        let expected = if same { Exit::Fine } else { Exit::Failed };
        assert_eq!(outcome.exit, expected, "{arguments:?}: {}", outcome.err);
        format!(
            "$ onstage {}\n{}{}",
            arguments.join(" "),
            outcome.out,
            outcome.err
        )
    });
    let text = texts.join("\n").replace(root.to_str().unwrap(), "ROOT");
    // A digest changes with each word of an example's README.
    insta::with_settings!({ filters => [("sha256:[0-9a-f]{64}", "sha256:DIGEST")] }, {
        insta::assert_snapshot!(text);
    });
}

#[test]
fn mistakes_in_the_environment_end_with_78() {
    let cases = [
        ("ONSTAGE_SERVER__PORT", "http"),
        ("ONSTAGE_PORT", "8080"),
        ("ONSTAGE_ENGINE__DEFAULT", "trakt"),
        ("ONSTAGE_MODELS__IRIS__SOURCE", "models:/iris@v1"),
        ("ONSTAGE_MODELS__A:B__SOURCE", "x"),
    ];
    let texts = cases.map(|variable| {
        let outcome = onstage_in(&["serve", "x"], &[variable]);
        assert_eq!(outcome.exit, Exit::Config, "{variable:?}: {}", outcome.err);
        let (name, value) = variable;
        format!("$ {name}={value} onstage serve x\n{}", outcome.err)
    });
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn a_missing_configuration_file_is_named() {
    let outcome = onstage(&["serve", "x", "--config", "does/not/exist.toml"]);
    assert_eq!(outcome.exit, Exit::Config);
    let expected = "error: cannot read configuration file `does/not/exist.toml`: No such file";
    assert!(outcome.err.starts_with(expected), "{}", outcome.err);
}

#[test]
fn of_a_repeated_flag_the_last_one_wins() {
    let port = setting(&["--port", "1", "--port", "2"], "server.port");
    assert_eq!(port, "server.port = 2 # from flag `--port`");
    let arguments = ["--no-grpc", "--grpc-port", "5"];
    let on = setting(&arguments, "server.grpc_port");
    assert_eq!(on, "server.grpc_port = 5 # from flag `--grpc-port`");
    let arguments = ["--grpc-port", "5", "--no-grpc"];
    let off = setting(&arguments, "server.grpc_port");
    assert_eq!(off, "server.grpc_port = \"off\" # from flag `--no-grpc`");
}

#[test]
fn a_repeatable_flag_keeps_every_value() {
    let arguments = ["--cors-origin", "https://a", "--cors-origin", "https://b"];
    let origins = setting(&arguments, "server.cors_origins");
    assert!(
        origins.contains(r#"["https://a","https://b"]"#),
        "{origins}"
    );
    let follow = setting(&["--follow", "@a", "--follow", "B"], "registry.follow");
    assert!(follow.contains(r#"["@a","B"]"#), "{follow}");
}

#[test]
fn every_flag_reaches_its_setting() {
    for def in config::KEYS {
        let Some(flag) = def.flag else { continue };
        let flag = format!("--{flag}");
        let value = match def.kind {
            config::Kind::Bool => None,
            config::Kind::Port | config::Kind::PortOrOff | config::Kind::Integer(_) => Some("7"),
            config::Kind::Fraction => Some("0.7"),
            config::Kind::Size => Some("7MiB"),
            config::Kind::Duration => Some("7ms"),
            config::Kind::Choice(choices) => choices.last().copied(),
            config::Kind::Origins => Some("https://x"),
            config::Kind::Libraries => Some(
                "/x.so@sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            config::Kind::BasePath | config::Kind::Route => Some("/x"),
            config::Kind::LogFilter => Some("debug"),
            config::Kind::AccessLog => Some("all"),
            config::Kind::Algorithms => Some("ES256"),
            _ => Some("x"),
        };
        let arguments: Vec<&str> = [Some(flag.as_str()), value].into_iter().flatten().collect();
        let line = setting(&arguments, def.path);
        assert!(line.ends_with(&format!("# from flag `{flag}`")), "{line}");
    }
}

#[test]
fn check_config_tells_ignored_service_links_and_ends_with_0() {
    let link = ("ONSTAGE_PORT", "tcp://10.0.0.7:8080");
    let outcome = onstage_in(&["serve", "--check-config"], &[link]);
    assert_eq!(outcome.exit, Exit::Fine);
    let expected =
        "note: ignored environment variable `ONSTAGE_PORT`, which Kubernetes sets for a Service\n";
    assert_eq!(outcome.err, expected);
}

#[test]
fn check_config_shows_the_settings_and_then_refuses_what_makes_no_sense() {
    let variables = [
        ("ONSTAGE_REGISTRY__URI", "http://me:s3cret@mlflow"),
        ("ONSTAGE_TELEMETRY__OTLP_ENDPOINT", "collector:4317"),
    ];
    let outcome = onstage_in(&["serve", "--check-config"], &variables);
    assert_eq!(outcome.exit, Exit::Config);
    assert!(outcome.out.contains("registry.uri ="));
    assert!(!outcome.out.contains("s3cret") && !outcome.err.contains("s3cret"));
}

#[test]
fn doctor_prints_json_that_can_be_parsed() {
    let outcome = onstage(&["doctor", "--json"]);
    assert_eq!(outcome.exit, Exit::Fine, "{}", outcome.err);
    let report: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn addresses_that_are_no_registry_are_told_what_is() {
    for (uri, hint) in [
        ("sqlite:///mlflow.db", "mlflow server --backend-store-uri"),
        (
            "ftp://host/models",
            "expected a directory, an MLflow server",
        ),
    ] {
        let outcome = onstage(&["registry", "list", "--registry", uri]);
        assert_eq!(outcome.exit, Exit::Failed, "{}", outcome.err);
        assert!(outcome.err.contains(hint), "{}", outcome.err);
    }
}

#[test]
fn a_server_on_an_unknown_port_has_to_be_named() {
    let port = ("ONSTAGE_SERVER__PORT", "0");
    for command in ["health", "status"] {
        let outcome = onstage_in(&[command], &[port]);
        assert_eq!(outcome.exit, Exit::Usage, "{}", outcome.err);
        assert!(outcome.err.contains("--url"), "{}", outcome.err);
    }
}

#[test]
fn the_certificates_of_the_configuration_are_used_and_must_be_there() {
    let file = ("ONSTAGE_NETWORK__CA_FILE", "does/not/exist.pem");
    let outcome = onstage_in(&["health"], &[file]);
    assert_eq!(outcome.exit, Exit::Config);
    insta::assert_snapshot!(outcome.err, @"error: cannot read `does/not/exist.pem` (`network.ca_file`): No such file or directory (os error 2)");
}

#[test]
fn completions_name_every_command_in_every_shell() {
    let commands: Vec<String> = Cli::command()
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    assert!(commands.len() > 5, "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let outcome = onstage(&["completions", shell]);
        assert_eq!(outcome.exit, Exit::Fine, "{shell}: {}", outcome.err);
        for command in &commands {
            assert!(outcome.out.contains(command), "{shell} lacks {command}");
        }
    }
}

#[test]
fn the_call_that_makes_a_webhook_is_for_a_shell() {
    let arguments = "registry webhook --url http://onstage.models.svc:8080/b$ --webhook-secret-file it's/secret";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let variables = [
        ("MLFLOW_TRACKING_URI", "http://me:s3cret@mlflow:5000/pre"),
        ("MLFLOW_TRACKING_USERNAME", "me"),
    ];
    let outcome = onstage_in(&arguments, &variables);
    assert_eq!(outcome.exit, Exit::Fine, "{}", outcome.err);
    insta::assert_snapshot!(format!("{}---\n{}", outcome.out, outcome.err));
}
