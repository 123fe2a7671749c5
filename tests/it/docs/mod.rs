//! The documentation says what the code says.

mod commands;

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_configuration_reference_is_the_table_of_keys() {
    let page = read("docs/configuration.md");
    let reference = onstage::config::reference();
    assert!(
        page.ends_with(&reference),
        "docs/configuration.md must end with this table:\n{reference}"
    );
}

#[test]
fn every_command_line_is_run_or_says_why_not() {
    let failures: Vec<String> = commands::pages()
        .iter()
        .flat_map(|page| {
            let name = page.display().to_string();
            let mut desk = commands::Desk::new();
            let blocks =
                commands::blocks(&read(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let failed = blocks.iter().filter_map(|block| {
                let error = desk.run(&name, block).err()?;
                Some(format!("{name}:{}: {error}", block.line))
            });
            failed.collect::<Vec<_>>()
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_error_reference_is_the_table_of_kinds() {
    let page = read("docs/errors.md");
    for kind in onstage::error::ErrorKind::ALL {
        let row = format!(
            "| {kind:?} | {} | {} ",
            kind.http_status(),
            kind.grpc_code()
        );
        let found = page.lines().find(|line| line.starts_with(&row));
        let found = found.unwrap_or_else(|| panic!("docs/errors.md has no row `{row}`"));
        assert!(
            found.contains(&format!("| {} |", kind.outcome())),
            "{found}"
        );
        let retry = found.contains("after `Retry-After`");
        assert_eq!(retry, kind.retry_after().is_some(), "{found}");
    }
}

#[test]
fn every_piece_of_configuration_is_valid() {
    for page in commands::pages() {
        let page = page.display().to_string();
        for block in read(&page).split("```toml\n").skip(1) {
            let text = block.split("```").next().unwrap();
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("onstage.toml");
            fs::write(&file, text).unwrap();
            let inputs = onstage::config::Inputs {
                file: Some(file),
                ..Default::default()
            };
            onstage::config::load(&inputs)
                .unwrap_or_else(|error| panic!("{page}: {error}\n{text}"));
        }
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let pages = commands::pages()
        .into_iter()
        .map(|page| page.display().to_string());
    for page in pages.chain(["docs/adr/README.md".to_owned()]) {
        let dir = Path::new(&page).parent().unwrap();
        let text = read(&page);
        let targets = text.split("](").skip(1);
        for target in targets.filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if !target.starts_with("http") && !target.is_empty() {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir).join(target);
                assert!(
                    path.exists(),
                    "{page} links to `{target}`, which is not there"
                );
            }
        }
    }
}
