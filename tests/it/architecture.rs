//! Arrows between modules point down only, and files stay small enough to read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support::server::project;

/// Each module with what it may import, from the ground up. The first ones are open to all; a module may import itself.
///
/// `protocol`, `http` and `middleware` never know `lifecycle`; only `server`, `app`, `scoring`, `cli` and the binary read `config`.
const FLOORS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("jitter", &[]),
    ("budget", &["error"]),
    ("telemetry", &["error", "budget"]),
    ("shutdown", &[]),
    ("network", &[]),
    ("runtime", &[]),
    ("tensor", &[]),
    ("model", &["tensor"]),
    ("signing", &["model"]),
    ("engine", &["model", "tensor", "runtime"]),
    ("batching", &["engine", "model", "tensor", "runtime"]),
    (
        "serving",
        &["batching", "engine", "model", "tensor", "runtime"],
    ),
    ("monitor", &["serving", "engine", "model", "tensor"]),
    (
        "registry",
        &["signing", "model", "tensor", "network", "runtime"],
    ),
    (
        "payload",
        &[
            "registry", "serving", "model", "tensor", "network", "runtime",
        ],
    ),
    (
        "lifecycle",
        &[
            "registry", "signing", "serving", "batching", "engine", "model", "tensor", "runtime",
        ],
    ),
    (
        "middleware",
        &["serving", "batching", "engine", "model", "tensor"],
    ),
    ("http", &["middleware", "serving", "model"]),
    (
        "protocol",
        &[
            "http",
            "middleware",
            "monitor",
            "payload",
            "serving",
            "batching",
            "engine",
            "model",
            "tensor",
            "runtime",
        ],
    ),
    ("config", BELOW_CONFIG),
    (
        "server",
        &[
            "config",
            "protocol",
            "http",
            "middleware",
            "serving",
            "network",
            "runtime",
            "shutdown",
        ],
    ),
    ("app", BELOW_APP),
    ("scoring", BELOW_APP),
    ("cli", BELOW_APP),
];

/// What the settings are settings of.
const BELOW_CONFIG: &[&str] = &[
    "middleware",
    "http",
    "protocol",
    "lifecycle",
    "payload",
    "registry",
    "signing",
    "network",
    "monitor",
    "serving",
    "batching",
    "engine",
    "model",
    "tensor",
    "runtime",
];

/// What puts everything together may import every floor below its own.
const BELOW_APP: &[&str] = &["*"];

/// Modules that every other one may import.
const OPEN: [&str; 4] = ["error", "telemetry", "budget", "jitter"];

/// Lines of one file, without its tests.
const LONGEST_FILE: usize = 500;
const LONGEST_MAIN: usize = 80;

/// Files of a circle, which must all be in one folder: what belongs that close together can be read together.
const LARGEST_CIRCLE: usize = 3;

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
    let lines = without_tests(source).lines().count();
    let mut found: Vec<String> = (lines > limit && !is_test(path))
        .then(|| {
            format!("src/{path} has {lines} lines without its tests, expected at most {limit}")
        })
        .into_iter()
        .collect();
    if matches!(module, "main" | "lib") {
        return found;
    }
    let Some(floor) = FLOORS.iter().position(|(name, _)| *name == module) else {
        found.push(format!(
            "src/{path}: `{module}` is a new module: give it a row in tests/it/architecture.rs"
        ));
        return found;
    };
    let allowed = FLOORS[floor].1;
    let below = |import: &str| FLOORS[..floor].iter().any(|(name, _)| *name == import);
    let refused = imports(source).into_iter().filter(|import| {
        let may = import == module
            || OPEN.contains(&import.as_str())
            || allowed.contains(&import.as_str())
            || (allowed.contains(&"*") && below(import));
        !may
    });
    found.extend(refused.map(|import| {
        format!("src/{path}: `{module}` may not import `{import}`, which is not below it")
    }));
    found
}

/// Whether a file is nothing but tests.
fn is_test(path: &str) -> bool {
    let parts = path.split('/');
    let mut names = parts.map(|part| part.trim_end_matches(".rs"));
    names.any(|name| name == "tests" || name.ends_with("_tests"))
}

/// The part of a source in front of its tests.
fn without_tests(source: &str) -> &str {
    let end = source.find("#[cfg(test)]\nmod tests {");
    &source[..end.unwrap_or(source.len())]
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

/// A file with the paths that it takes names from.
struct File {
    /// Below `src/`.
    path: String,
    /// Its module, word by word.
    module: Vec<String>,
    /// Names, with the module that they come from in front, and whether they are handed on.
    uses: Vec<(Vec<String>, bool)>,
}

impl File {
    fn new(path: &str, source: &str) -> Self {
        let module = path.trim_end_matches(".rs");
        let module = module.strip_suffix("/mod").unwrap_or(module);
        let module: Vec<String> = match module {
            "lib" | "main" => Vec::new(),
            module => module.split('/').map(str::to_owned).collect(),
        };
        let code: Vec<&str> = without_tests(source).lines().map(without_comment).collect();
        let code = code.join("\n");
        let uses = statements(&code).into_iter().flat_map(|(is_public, tree)| {
            let mut leaves = Vec::new();
            expand(&[], &tree, &mut leaves);
            leaves.into_iter().map(move |leaf| (leaf, is_public))
        });
        let uses = uses.chain(inline(&code).into_iter().map(|path| (path, false)));
        let uses =
            uses.filter_map(|(path, is_public)| Some((absolute(&module, &path)?, is_public)));
        Self {
            uses: uses.collect(),
            path: path.to_owned(),
            module,
        }
    }

    fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }
}

/// The trees of `use` statements, and whether they hand names on.
fn statements(code: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    for part in code.split(';') {
        let Some(start) = part.rfind("use ") else {
            continue;
        };
        let before = part[..start].lines().next_back().unwrap_or_default().trim();
        if before.is_empty() || before.starts_with("pub") {
            found.push((before.starts_with("pub"), part[start + 4..].to_owned()));
        }
    }
    found
}

/// The paths in a tree of a `use` statement.
fn expand(prefix: &[String], tree: &str, found: &mut Vec<Vec<String>>) {
    let mut depth = 0_usize;
    let split = tree.split(|character| {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    });
    for part in split.map(str::trim).filter(|part| !part.is_empty()) {
        let (path, rest) = match part.split_once('{') {
            Some((path, rest)) => (path, rest.rsplit_once('}').map(|(inner, _)| inner)),
            None => (part.split(" as ").next().unwrap_or(part), None),
        };
        let words = path
            .split("::")
            .map(str::trim)
            .filter(|word| !word.is_empty());
        let path: Vec<String> = { prefix.iter().cloned() }
            .chain(words.map(str::to_owned))
            .collect();
        match rest {
            Some(inner) => expand(&path, inner, found),
            None => found.push(path),
        }
    }
}

/// Paths from `crate` and `super` outside of `use` statements, and within.
fn inline(code: &str) -> Vec<Vec<String>> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (start, _) in code.match_indices(root) {
            let before = code[..start].chars().next_back();
            if before.is_some_and(|character| is_word(character) || character == ':') {
                continue;
            }
            let end = code[start..].find(|character| !is_word(character) && character != ':');
            let path = &code[start..end.map_or(code.len(), |end| start + end)];
            found.push(
                path.trim_end_matches(':')
                    .split("::")
                    .map(str::to_owned)
                    .collect(),
            );
        }
    }
    found
}

/// A path from the root of the crate; `None` for one of another crate.
fn absolute(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module, rest].concat()),
        "super" => {
            let ups = path.iter().take_while(|word| *word == "super").count();
            let above = &module[..module.len().checked_sub(ups)?];
            Some([above, &path[ups..]].concat())
        }
        _ => None,
    }
}

/// The file that a path leads to, through the names that modules hand on.
fn resolve<'f>(
    files: &'f BTreeMap<Vec<String>, File>,
    path: &[String],
    hops: usize,
) -> Option<&'f File> {
    let found = (1..=path.len())
        .rev()
        .find_map(|end| Some((end, files.get(&path[..end])?)));
    let (end, file) = found?;
    let Some(name) = path.get(end) else {
        return Some(file);
    };
    let handed = file.uses.iter().find(|(from, is_public)| {
        *is_public && from.last() == Some(name) && from.as_slice() != path
    });
    match handed {
        Some((from, _)) if hops > 0 => resolve(files, from, hops - 1),
        _ => Some(file),
    }
}

/// The files that each file takes names from. That a module takes what its own folder stands for, and hands on what is in
/// it, is no arrow.
fn arrows(files: &BTreeMap<Vec<String>, File>) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in files.values() {
        let taken = file.uses.iter().filter(|(_, is_public)| !is_public);
        for (path, _) in taken {
            let Some(from) = resolve(files, path, 8) else {
                continue;
            };
            if !file.module.starts_with(&from.module) {
                found.entry(&file.path).or_default().insert(&from.path);
            }
        }
    }
    found
}

/// The files that lead to each other, in groups of two and more.
fn circles<'f>(arrows: &BTreeMap<&'f str, BTreeSet<&'f str>>) -> BTreeSet<Vec<&'f str>> {
    let reach = |from: &'f str| {
        let mut reached = BTreeSet::new();
        let mut next = vec![from];
        while let Some(file) = next.pop() {
            for to in arrows.get(file).into_iter().flatten() {
                if reached.insert(*to) {
                    next.push(to);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        arrows.keys().map(|file| (*file, reach(file))).collect();
    let circle = |file: &&'f str| {
        let mine = &reached[*file];
        let leads_back =
            |other: &&&str| reached.get(**other).is_some_and(|its| its.contains(*file));
        let circle: Vec<&str> = mine.iter().filter(leads_back).copied().collect();
        (circle.len() > 1).then_some(circle)
    };
    arrows.keys().filter_map(circle).collect()
}

fn house(sources: &[(String, String)]) -> BTreeMap<Vec<String>, File> {
    let sources = sources.iter().filter(|(path, _)| !is_test(path));
    let files = sources.map(|(path, source)| File::new(path, source));
    files.map(|file| (file.module.clone(), file)).collect()
}

/// The circles that are too large, in words.
fn tangles(files: &BTreeMap<Vec<String>, File>) -> Vec<String> {
    let arrows = arrows(files);
    let folder = |path: &str| {
        files
            .values()
            .find(|file| file.path == path)
            .map(File::folder)
    };
    let is_tangle = |circle: &Vec<&str>| {
        let folders: BTreeSet<_> = circle.iter().map(|path| folder(path)).collect();
        circle.len() > LARGEST_CIRCLE || folders.len() > 1
    };
    let circles = circles(&arrows).into_iter().filter(is_tangle);
    let words = circles.map(|circle| {
        format!(
            "{} take names from each other: expected at most {LARGEST_CIRCLE} files of one folder",
            circle.join(", ")
        )
    });
    words.collect()
}

/// Every file of the crate that people wrote, by its path below `src/`.
fn all_sources() -> Vec<(String, String)> {
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
    let read = |file: PathBuf| {
        let path = file
            .strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        (path, std::fs::read_to_string(file).unwrap())
    };
    files.into_iter().map(read).collect()
}

#[test]
fn arrows_point_down_and_files_are_short() {
    let sources = all_sources();
    let found = sources
        .iter()
        .flat_map(|(path, source)| violations(path, source));
    let found: Vec<String> = found.chain(tangles(&house(&sources))).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn finds_circles_through_names_that_are_handed_on() {
    let source = |path: &str, source: &str| (path.to_owned(), source.to_owned());
    let sources = [
        source(
            "a/mod.rs",
            "mod one;\nmod two;\npub use one::One;\npub use self::two::Two;\nstruct Own;",
        ),
        source("a/one.rs", "use super::{Own, Two};\nuse crate::b::B;"),
        source(
            "a/two.rs",
            "use crate::{a::One, tensor::DType};\nfn f(_: super::one::One) {}",
        ),
        source(
            "b.rs",
            "use serde::Serialize;\n#[cfg(test)]\nmod tests {\n use crate::a::One;\n}",
        ),
    ];
    let files = house(&sources);
    let arrows = arrows(&files);
    assert_eq!(arrows["a/one.rs"], BTreeSet::from(["a/two.rs", "b.rs"]));
    assert_eq!(arrows["a/two.rs"], BTreeSet::from(["a/one.rs"]));
    assert_eq!(
        circles(&arrows),
        BTreeSet::from([vec!["a/one.rs", "a/two.rs"]])
    );
    assert_eq!(
        tangles(&files),
        Vec::<String>::new(),
        "two files of a folder may"
    );
    let back = source("b.rs", "use crate::a::Two;");
    let files = house(&[&sources[..3], &[back]].concat());
    assert_eq!(
        tangles(&files),
        [
            "a/one.rs, a/two.rs, b.rs take names from each other: expected at most 3 files of one folder"
        ]
    );
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
    let source = "//! See [`crate::app`].\nuse crate::{error::Kinded, model::Graph};\nuse crate::tensor::Value; // crate::cli::usage\n\
                  use other_crate::protocol;\nuse crate::engine::Engine;";
    assert_eq!(violations("engine/tract.rs", source), Vec::<String>::new());
}

#[test]
fn finds_long_files_and_modules_without_a_row() {
    assert_eq!(violations("main.rs", &"\n".repeat(81)).len(), 1);
    assert_eq!(violations("main.rs", &"\n".repeat(80)).len(), 0);
    assert_eq!(violations("tensor/mod.rs", &"\n".repeat(501)).len(), 1);
    assert_eq!(violations("tensor/tests.rs", &"\n".repeat(501)).len(), 0);
    assert_eq!(violations("helpers.rs", "").len(), 1);
}

#[test]
fn the_table_goes_from_the_ground_up() {
    for (floor, (module, below)) in FLOORS.iter().enumerate() {
        for lower in below.iter().filter(|lower| **lower != "*") {
            let theirs = FLOORS.iter().position(|(name, _)| name == lower);
            assert!(
                theirs.is_some_and(|theirs| theirs < floor),
                "`{module}` may import `{lower}`, which has no row below it"
            );
        }
    }
}
