use std::path::Path;

use super::super::{Diagnostic, Manifests};

/// The manifests of the page, each with what stands below it.
fn page() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/mistakes.md");
    // In a published package there are no docs.
    let Ok(page) = std::fs::read_to_string(path) else {
        return Vec::new();
    };
    let sections = page.split("\n```yaml\n").skip(1);
    let pair = |section: &str| {
        let (yaml, rest) = section.split_once("\n```\n").unwrap();
        let said = rest.split_once("\n```text\n").map_or("", |(_, said)| said);
        let said = said
            .split_once("```\n")
            .map_or("", |(said, _)| said.trim_end());
        (format!("{yaml}\n"), said.to_owned())
    };
    sections.map(pair).collect()
}

/// What is said, without the policy: the error if the target does not resolve for one that is no diagnostic, and those.
fn said(yaml: &str) -> String {
    let underlined = |diagnostic: &Diagnostic| diagnostic.underlined(Some(yaml));
    let manifests = match Manifests::parse_named("payments.yaml", yaml) {
        Ok(manifests) => manifests,
        Err(error) => {
            let all: Vec<_> = error.diagnostics().iter().map(underlined).collect();
            return all.join("\n\n");
        }
    };
    let mut all: Vec<_> = manifests.diagnostics().iter().map(underlined).collect();
    if all.is_empty()
        && let Err(error) = manifests.resolve("payments.shop:8080")
    {
        all.push(error.diagnostic().underlined(Some(yaml)));
    }
    all.join("\n\n")
}

#[test]
fn the_page_says_what_is_said() {
    let page = page();
    let bless = std::env::var_os("TOWER_MESH_BLESS").is_some();
    for (yaml, expected) in &page {
        let said = said(yaml);
        if bless {
            println!("@@{yaml}@@{said}@@");
            continue;
        }
        assert_eq!(&said, expected, "{yaml}");
    }
    assert!(page.is_empty() || page.len() == 20);
}
