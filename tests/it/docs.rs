//! The documentation says what the code says.

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
fn links_between_pages_lead_somewhere() {
    let pages = [
        "README.md",
        "CONTRIBUTING.md",
        "docs/cli.md",
        "docs/convert.md",
        "docs/mlflow-compatibility.md",
        "docs/packages.md",
        "docs/operations.md",
        "docs/verify.md",
        "docs/registry-mlflow.md",
    ];
    for page in pages {
        let dir = Path::new(page).parent().unwrap();
        for target in read(page)
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if !target.starts_with("http") && !target.starts_with('#') {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir).join(target);
                assert!(
                    path.exists(),
                    "{page} links to `{target}`, which is not there"
                );
            }
        }
    }
}
