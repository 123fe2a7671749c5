//! The links between the Markdown pages of the project.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::support::server::project;

/// The text of each page, by its path in the project.
pub(super) type Pages = BTreeMap<PathBuf, String>;

/// What `make docs` makes a site of.
const SITE: &str = "docs";
const SUMMARY: &str = "docs/SUMMARY.md";

/// Every page of the project but those that tools write.
pub(super) fn pages() -> Pages {
    let mut pages = Pages::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(project().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            let name = entry.file_name().to_string_lossy().into_owned();
            let made = ["target", "package", "mlruns", "node_modules"].contains(&name.as_str());
            if entry.file_type().unwrap().is_dir() {
                if !made && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(project().join(&path)).unwrap();
                pages.insert(path, text);
            }
        }
    }
    pages
}

/// Links that lead to no file or heading, or from the site to what is not part of it. `exists` knows the files.
pub(super) fn broken(pages: &Pages, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let anchors: HashMap<&PathBuf, HashSet<String>> = pages
        .iter()
        .map(|(page, text)| (page, anchors(text)))
        .collect();
    let mut failures = Vec::new();
    for (page, text) in pages {
        for (line, link) in links(text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = resolve(page, file);
            let reason = if !exists(&target) {
                "leads to no file"
            } else if page.starts_with(SITE) && !target.starts_with(SITE) {
                "leads out of the site: name the file instead"
            } else if !anchor.is_empty()
                && !anchors.get(&target).is_some_and(|a| a.contains(anchor))
            {
                "leads to no heading"
            } else {
                continue;
            };
            failures.push(format!("{}:{line}: `{link}` {reason}", page.display()));
        }
    }
    failures
}

/// Pages of the site to which its summary does not lead: mdBook leaves them out.
pub(super) fn unlisted(pages: &Pages) -> Vec<String> {
    let summary = Path::new(SUMMARY);
    let listed: HashSet<PathBuf> = links(&pages[summary])
        .iter()
        .map(|(_, link)| resolve(summary, link))
        .collect();
    let site = pages.keys().filter(|page| page.starts_with(SITE));
    site.filter(|page| *page != summary && !listed.contains(*page))
        .map(|page| format!("{SUMMARY} does not list {}", page.display()))
        .collect()
}

/// The path in the project to which `link` leads from `page`.
fn resolve(page: &Path, link: &str) -> PathBuf {
    if link.is_empty() {
        return page.to_path_buf();
    }
    let mut path = page.parent().unwrap_or(Path::new("")).to_path_buf();
    for component in Path::new(link).components() {
        match component {
            Component::ParentDir if path.pop() => {}
            component => path.push(component),
        }
    }
    path
}

/// The links of a page, with their lines.
fn links(page: &str) -> Vec<(usize, String)> {
    let paragraphs: Vec<String> = prose(page).split("\n\n").map(without_code).collect();
    let text = paragraphs.join("\n\n");
    let lines = text.lines().zip(1..);
    lines
        .flat_map(|(line, number)| line.split("](").skip(1).map(move |rest| (number, rest)))
        .filter_map(|(number, rest)| {
            let link = rest.split([')', ' ']).next()?;
            Some((number, link.to_owned()))
        })
        .collect()
}

/// The anchors that GitHub and mdBook make of the headings of a page.
fn anchors(page: &str) -> HashSet<String> {
    let mut times: HashMap<String, usize> = HashMap::new();
    let prose = prose(page);
    let headings = prose.lines().filter_map(|line| {
        let text = line.trim_start_matches('#');
        (text.len() < line.len()).then(|| text.strip_prefix(' '))?
    });
    headings
        .map(|heading| {
            let slug = slug(heading.trim());
            let before = times.entry(slug.clone()).or_default();
            *before += 1;
            match *before {
                1 => slug,
                times => format!("{slug}-{}", times - 1),
            }
        })
        .collect()
}

fn slug(heading: &str) -> String {
    let letters = heading.chars().flat_map(char::to_lowercase);
    let spaced = letters.map(|letter| if letter == ' ' { '-' } else { letter });
    spaced
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_'))
        .collect()
}

/// A page whose fenced blocks are empty, so that its lines keep their numbers.
fn prose(page: &str) -> String {
    let mut fenced = false;
    let lines = page.lines().map(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if fenced || fence { "" } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A paragraph without what stands between backticks; its lines keep their numbers.
fn without_code(paragraph: &str) -> String {
    let mut kept = String::new();
    let mut rest = paragraph;
    while let Some((before, from)) = rest.find('`').map(|at| rest.split_at(at)) {
        kept.push_str(before);
        let length = from.len() - from.trim_start_matches('`').len();
        let (ticks, inside) = from.split_at(length);
        let end = inside.match_indices(ticks).find(|(at, _)| {
            let (before, after) = (&inside[..*at], &inside[at + length..]);
            !before.ends_with('`') && !after.starts_with('`')
        });
        rest = match end {
            Some((at, _)) => {
                kept.extend(inside[..at].matches('\n'));
                &inside[at + length..]
            }
            None => inside,
        };
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(pages: &[(&str, &str)]) -> Pages {
        let page = |(path, text): &(&str, &str)| (PathBuf::from(path), (*text).to_owned());
        pages.iter().map(page).collect()
    }

    fn failures(all: &[(&str, &str)]) -> Vec<String> {
        let pages = pages(all);
        broken(&pages, |path| {
            pages.contains_key(path) || path == Path::new("src/lib.rs")
        })
    }

    #[test]
    fn a_link_leads_to_a_file_and_a_heading() {
        let guide = "# Guide\n\n## What `x` is: 1\n\n## Twice\n\n## Twice\n";
        let good = "[a](guides/a.md) [b](guides/a.md#what-x-is-1) [c](#here) [d](guides/a.md#twice-1) [e](https://x/#y)\n# Here";
        assert_eq!(
            failures(&[("docs/index.md", good), ("docs/guides/a.md", guide)]),
            [""; 0]
        );
        let bad = "\n[a](guides/b.md)\n[b](guides/a.md#what-x-is)\n[c](#there)\n[d](guides/a.md#twice-2)\n[e](../index.md)";
        assert_eq!(
            failures(&[("docs/index.md", bad), ("docs/guides/a.md", guide)]),
            [
                "docs/index.md:2: `guides/b.md` leads to no file",
                "docs/index.md:3: `guides/a.md#what-x-is` leads to no heading",
                "docs/index.md:4: `#there` leads to no heading",
                "docs/index.md:5: `guides/a.md#twice-2` leads to no heading",
                "docs/index.md:6: `../index.md` leads to no file",
            ]
        );
    }

    #[test]
    fn the_site_links_to_nothing_outside_of_it() {
        assert_eq!(
            failures(&[("README.md", "[a](src/lib.rs)")]),
            [""; 0],
            "it is no page of the site"
        );
        assert_eq!(
            failures(&[("docs/a.md", "[a](../src/lib.rs)")]),
            ["docs/a.md:1: `../src/lib.rs` leads out of the site: name the file instead"]
        );
    }

    #[test]
    fn code_has_no_links_and_no_headings() {
        let page =
            "`[a](b)` ``[`a`](b)`` `x\n[a](c)`\n\n```text\n# Code\n[a](b)\n```\n[`a`](#code)";
        assert_eq!(links(page), [(8, "#code".to_owned())]);
        assert_eq!(
            failures(&[("README.md", page)]),
            ["README.md:8: `#code` leads to no heading"]
        );
    }

    #[test]
    fn a_page_that_the_summary_does_not_list_is_found() {
        let site = pages(&[
            ("README.md", ""),
            ("docs/SUMMARY.md", "- [A](guides/a.md)"),
            ("docs/guides/a.md", ""),
            ("docs/guides/b.md", ""),
        ]);
        assert_eq!(
            unlisted(&site),
            ["docs/SUMMARY.md does not list docs/guides/b.md"]
        );
    }
}
