//! Arrows between modules point down only, and files stay small enough to read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::server::project;

/// Each module with what it may import. `error`, `telemetry`, `budget` and `jitter` are leaves, open to all; a module may import itself.
///
/// `protocol` and `middleware` never know `lifecycle`; only `server`, `app`, `cli` and the binary read `config`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("telemetry", &[]),
    ("budget", &[]),
    ("jitter", &[]),
    ("shutdown", &[]),
    ("network", &[]),
    ("machine", &[]),
    ("tensor", &[]),
    ("model", &["tensor"]),
    ("engine", &["model", "tensor", "machine"]),
    ("batching", &["engine", "model", "tensor", "machine"]),
    (
        "serving",
        &["batching", "engine", "model", "tensor", "machine"],
    ),
    ("signing", &["model"]),
    (
        "registry",
        &["signing", "model", "tensor", "network", "machine"],
    ),
    (
        "lifecycle",
        &[
            "registry", "signing", "serving", "batching", "engine", "model", "tensor", "machine",
        ],
    ),
    (
        "middleware",
        &["serving", "batching", "engine", "model", "tensor"],
    ),
    (
        "protocol",
        &[
            "middleware",
            "serving",
            "batching",
            "engine",
            "model",
            "tensor",
        ],
    ),
    ("config", &EVERYTHING_BELOW_CONFIG),
    ("server", &["config", "protocol", "middleware", "machine"]),
    ("app", &EVERYTHING_BELOW_APP),
    ("cli", &EVERYTHING_BELOW_CLI),
];

const EVERYTHING_BELOW_CONFIG: [&str; 9] = [
    "middleware",
    "protocol",
    "lifecycle",
    "registry",
    "serving",
    "batching",
    "engine",
    "model",
    "tensor",
];
const EVERYTHING_BELOW_APP: [&str; 15] = [
    "server",
    "signing",
    "machine",
    "config",
    "shutdown",
    "network",
    "middleware",
    "protocol",
    "lifecycle",
    "registry",
    "serving",
    "batching",
    "engine",
    "model",
    "tensor",
];
const EVERYTHING_BELOW_CLI: [&str; 15] = [
    "signing",
    "machine",
    "app",
    "config",
    "shutdown",
    "network",
    "middleware",
    "protocol",
    "lifecycle",
    "registry",
    "serving",
    "batching",
    "engine",
    "model",
    "tensor",
];
const LEAVES: [&str; 4] = ["error", "telemetry", "budget", "jitter"];

const LONGEST_FILE: usize = 800;
const LONGEST_MAIN: usize = 80;

/// The sentences that say what is wrong with one file, given its path below `src/`.
fn violations(path: &str, source: &str) -> Vec<String> {
    let module = path
        .split('/')
        .next()
        .unwrap_or(path)
        .trim_end_matches(".rs");
    let limit = if module == "main" {
        LONGEST_MAIN
    } else {
        LONGEST_FILE
    };
    let lines = source.lines().count();
    let mut found: Vec<String> = (lines >= limit)
        .then(|| format!("src/{path} has {lines} lines, expected fewer than {limit}"))
        .into_iter()
        .collect();
    if matches!(module, "main" | "lib") {
        return found;
    }
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
        found.push(format!(
            "src/{path}: `{module}` is a new module: give it a row in tests/it/architecture.rs"
        ));
        return found;
    };
    let refused = imports(source).into_iter().filter(|import| {
        import != module
            && !allowed.contains(&import.as_str())
            && !LEAVES.contains(&import.as_str())
    });
    found.extend(refused.map(|import| {
        format!("src/{path}: `{module}` may not import `{import}`, which is not below it")
    }));
    found
}

/// The modules of this crate that a source names, in `use` lines and elsewhere.
fn imports(source: &str) -> BTreeSet<String> {
    const ROOT: &str = "crate::";
    let code: String = source
        .lines()
        .map(without_comment)
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = BTreeSet::new();
    for (start, _) in code.match_indices(ROOT) {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = code[start + ROOT.len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => found.extend(names_of_group(group)),
            None => found.extend(first_name(rest)),
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    let trimmed = line.trim_start();
    if trimmed.starts_with("//") {
        ""
    } else {
        line.split(" // ").next().unwrap_or(line)
    }
}

/// `a::{B, C}, d` of `use crate::{a::{B, C}, d};` gives `a` and `d`.
fn names_of_group(group: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let mut parts = vec![String::new()];
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => parts.push(String::new()),
            _ if depth == 0 => parts
                .last_mut()
                .expect("there is always a part")
                .push(character),
            _ => {}
        }
    }
    parts
        .iter()
        .filter_map(|part| first_name(part.trim()))
        .collect()
}

fn first_name(text: &str) -> Option<String> {
    let name: String = text
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '*')
        .collect();
    (!name.is_empty() && name != "self").then_some(name)
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn arrows_point_down_and_files_are_short() {
    let root = project().join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    // What a program wrote is not for reading.
    files.retain(|file| {
        !file
            .components()
            .any(|part| part.as_os_str() == "generated")
    });
    files.sort();
    assert!(files.len() > 5, "no sources in {}", root.display());
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| {
            violations(
                file.strip_prefix(&root).unwrap().to_str().unwrap(),
                &std::fs::read_to_string(file).unwrap(),
            )
        })
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn finds_upward_imports_in_every_form() {
    for source in [
        "use crate::protocol::Codec;",
        "pub(crate) use crate::protocol::Codec;",
        "use crate::{\n    error::ErrorKind,\n    protocol::{a::B, c},\n};",
        "fn f() -> crate::protocol::Codec { todo() }",
        "fn f(x: &crate :: protocol::Codec) {}"
            .replace(" :: ", "::")
            .as_str(),
    ] {
        let found = violations("tensor/mod.rs", source);
        assert_eq!(
            found,
            ["src/tensor/mod.rs: `tensor` may not import `protocol`, which is not below it"],
            "{source}"
        );
    }
}

#[test]
fn accepts_downward_imports_and_words_in_comments() {
    let source = "//! See [`crate::app`].\nuse crate::{error::Kinded, model::Graph};\nuse crate::tensor::Value; // crate::cli\n\
                  use other_crate::protocol;\nuse crate::engine::Engine;";
    assert_eq!(violations("engine/tract.rs", source), Vec::<String>::new());
}

#[test]
fn finds_long_files_and_modules_without_a_row() {
    assert_eq!(violations("main.rs", &"\n".repeat(80)).len(), 1);
    assert_eq!(violations("main.rs", &"\n".repeat(79)).len(), 0);
    assert_eq!(violations("tensor/mod.rs", &"\n".repeat(800)).len(), 1);
    assert_eq!(violations("helpers.rs", "").len(), 1);
}

#[test]
fn the_table_itself_has_no_cycle() {
    let allowed = |name: &str| {
        ALLOWED
            .iter()
            .find(|(module, _)| *module == name)
            .map(|(_, below)| *below)
    };
    for (module, below) in ALLOWED {
        for lower in *below {
            let theirs = allowed(lower).unwrap_or_else(|| panic!("`{lower}` has no row"));
            assert!(
                !theirs.contains(module),
                "`{module}` and `{lower}` may import each other"
            );
        }
    }
}
