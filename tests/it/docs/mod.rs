//! The documentation says what the code says.

mod commands;
mod links;

use std::fs;

use crate::support::server::project;

fn read(path: &str) -> String {
    fs::read_to_string(project().join(path)).unwrap()
}

#[test]
fn the_configuration_reference_is_the_table_of_keys() {
    let page = read("docs/reference/configuration.md");
    let reference = onstage::config::reference();
    assert!(
        page.ends_with(&reference),
        "docs/reference/configuration.md must end with this table:\n{reference}"
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
    let page = read("docs/reference/errors.md");
    for kind in onstage::error::ErrorKind::ALL {
        let row = format!(
            "| {kind:?} | {} | {} ",
            kind.http_status(),
            kind.grpc_code()
        );
        let found = page.lines().find(|line| line.starts_with(&row));
        let found = found.unwrap_or_else(|| panic!("docs/reference/errors.md has no row `{row}`"));
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
fn links_between_pages_lead_to_files_and_headings() {
    let failures = links::broken(&links::pages(), |path| project().join(path).exists());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_site_has_every_page() {
    let failures = links::unlisted(&links::pages());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
