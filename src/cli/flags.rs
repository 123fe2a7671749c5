//! The flags that stand for keys, made from the table of keys.

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::{FlagValue, KEYS, KeyDef, Kind, Raw};

const NO_GRPC: &str = "no-grpc";
const GRPC_PORT: &str = "server.grpc_port";
const LIBRARY: &str = "engine.libonnxruntime";

/// The flags that were given.
#[derive(Debug, Clone, Default)]
pub(super) struct SettingFlags(pub(super) Vec<FlagValue>);

/// The flag `--libonnxruntime` of commands that have no other.
pub(super) fn library(path: String) -> Option<FlagValue> {
    given(LIBRARY, path)
}

/// The flag of a key, for commands that have few; `None` when there is no such key.
pub(super) fn given(key: &str, text: String) -> Option<FlagValue> {
    let def = KEYS.iter().find(|def| def.path == key)?;
    Some(value(def, Raw::Text(text)))
}

fn value(def: &'static KeyDef, raw: Raw) -> FlagValue {
    let flag = format!("--{}", def.flag.unwrap_or_default());
    FlagValue { def, flag, raw }
}

/// What `-h` shows; `--help` shows every flag.
const COMMON: &[&str] = &[
    "host",
    "port",
    "grpc-port",
    "engine",
    "registry",
    "follow",
    "lazy",
    "callers-file",
    "tls-cert-file",
    "tls-key-file",
    "log-level",
    "log",
    "admin-port",
];

fn argument(def: &'static KeyDef, flag: &'static str) -> Arg {
    let default = def.default.filter(|default| !default.is_empty());
    let default = default.filter(|_| def.kind != Kind::Bool);
    let mut help = def.help.to_owned();
    if let Some(default) = default {
        help.push_str(&format!(" [default: {default}]"));
    }
    let argument = Arg::new(def.path)
        .long(flag)
        .help(help)
        .help_heading(heading(def))
        .hide_short_help(!COMMON.contains(&flag));
    let argument = match def.alias {
        Some(alias) => argument.visible_alias(alias),
        None => argument,
    };
    match def.kind {
        Kind::Bool => argument.action(ArgAction::SetTrue),
        kind => argument
            .action(if kind.is_list() {
                ArgAction::Append
            } else {
                ArgAction::Set
            })
            .value_name(kind.placeholder())
            // So that `--port -1` is told what a port is.
            .allow_negative_numbers(true),
    }
}

fn heading(def: &KeyDef) -> String {
    let mut heading = def.section().to_owned();
    heading[..1].make_ascii_uppercase();
    heading
}

impl clap::Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let flags = KEYS.iter().filter_map(|def| Some((def, def.flag?)));
        flags.fold(command, |command, (def, flag)| {
            let command = command.arg(argument(def, flag));
            if def.path != GRPC_PORT {
                return command;
            }
            let off = Arg::new(NO_GRPC)
                .long(NO_GRPC)
                .help("Disable gRPC; same as --grpc-port off")
                .help_heading(heading(def))
                .action(ArgAction::SetTrue)
                .overrides_with(GRPC_PORT);
            command.arg(off)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |def: &'static KeyDef| {
            def.flag?;
            let raw = match def.kind {
                Kind::Bool => {
                    let set = matches.get_flag(def.path);
                    set.then(|| Raw::Text("true".to_owned()))?
                }
                kind if kind.is_list() => {
                    let items = matches.get_many::<String>(def.path)?;
                    Raw::List(items.cloned().collect())
                }
                _ => Raw::Text(matches.get_one::<String>(def.path)?.clone()),
            };
            Some(value(def, raw))
        };
        let mut flags: Vec<FlagValue> = KEYS.iter().filter_map(given).collect();
        if matches.get_flag(NO_GRPC) {
            let def = KEYS.iter().find(|def| def.path == GRPC_PORT);
            flags.extend(def.map(|def| FlagValue {
                def,
                flag: format!("--{NO_GRPC}"),
                raw: Raw::Text("off".to_owned()),
            }));
        }
        Ok(Self(flags))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
