//! Compares the documentation with the code, and checks the code's conventions; reads the repository and runs nothing.
//!
//! [`pages`], [`conventions`] and [`english`] contain the comparisons, functions from texts to complaints, each with a small
//! example that fails; this module applies them to the repository.

mod conventions;
mod english;
mod pages;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tessera_core::scrip::action::ACTIONS;
use tessera_core::scrip::condition::Condition;
use tessera_core::scrip::template::{FILTERS, FUNCTIONS, Offered, TESTS, VARIABLES};

/// The pages that must exist.
const PAGES: [&str; 17] = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/api.md",
    "docs/architecture.md",
    "docs/benchmarks.md",
    "docs/connectors.md",
    "docs/differences-from-rt.md",
    "docs/import.md",
    "docs/metrics.md",
    "docs/mutants.md",
    "docs/openapi.json",
    "docs/operating.md",
    "docs/rt-analysis.md",
    "docs/scrips.md",
    "docs/security.md",
    "docs/ticketsql.md",
];
/// Pages that are still being written. Once one exists, it is removed here and must remain.
const AWAITED: [&str; 0] = [];
/// The page about settings.
const OPERATING: &str = "docs/operating.md";
/// The page about connectors.
const CONNECTORS: &str = "docs/connectors.md";
/// Tests that sleep, each with the reason: a random time, not a condition to wait for.
const SLEEPING: [(&str, &str); 0] = [];

/// A file of the repository.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its path from the root, with `/` between.
    pub path: String,
    /// Its content.
    pub text: String,
}

#[test]
fn every_required_page_exists() {
    let there = |page: &str| root().join(page).exists();
    assert_eq!(pages::missing(&PAGES, &AWAITED, there), NOTHING);
}

#[test]
fn every_page_is_linked_from_the_readme_and_every_link_has_a_target() {
    let pages = markdown();
    assert_eq!(pages::unlinked(&pages), NOTHING);
    assert_eq!(pages::dead_links(&pages, &AWAITED, |path| root().join(path).exists()), NOTHING);
}

#[test]
fn every_test_that_a_page_names_exists() {
    assert_eq!(pages::unknown_tests(&markdown(), &rust()), NOTHING);
}

#[test]
fn the_table_of_codes_on_the_page_of_the_api_is_that_of_the_code() {
    let (file, page) = (root().join("docs/api.md"), read("docs/api.md"));
    let generated = pages::with_table(&page, "### Codes", &pages::table_of_codes());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &generated).unwrap();
    }
    let stale = "docs/api.md is out of date: UPDATE=1 cargo test -p tessera --test e2e tidy:: rewrites its table of codes";
    assert!(read("docs/api.md") == generated, "{stale}");
}

#[test]
fn the_page_on_the_api_has_every_route_with_its_methods_and_no_other() {
    let document: serde_json::Value = serde_json::from_str(&read("docs/openapi.json")).unwrap();
    let routes = pages::routes_of(&document);
    assert!(routes.len() > 20, "only {} found: the search is broken", routes.len());
    let listed = pages::routes_listed(&read("docs/api.md"), "## Routes");
    assert_eq!(pages::compare("docs/api.md, Routes", &routes, &listed), NOTHING);
}

#[test]
fn the_page_on_scrips_has_every_type_variable_and_filter_as_it_is_and_no_other() {
    let page = read("docs/scrips.md");
    let offered = |list: &[Offered]| -> Vec<String> {
        list.iter().map(|one| pages::plain(&[one.name, one.example, one.doc])).collect()
    };
    let variables = VARIABLES.iter().map(|variable| {
        let kind = format!("{:?}", variable.kind).to_lowercase();
        pages::plain(&[variable.path, &kind, &shown(variable.example), variable.doc])
    });
    for (heading, there) in [
        ("### Variables", variables.collect()),
        ("### Filters", offered(FILTERS)),
        ("### Functions and tests", [offered(FUNCTIONS), offered(TESTS)].concat()),
    ] {
        let listed: Vec<String> = pages::rows(&page, heading).iter().map(|row| pages::plain(row)).collect();
        assert_eq!(pages::compare(&format!("docs/scrips.md, {heading}"), &there, &listed), NOTHING);
    }
    let actions = ACTIONS.each_ref().map(|action| action.name);
    for (heading, types) in [("## Conditions", &Condition::TYPES[..]), ("## Actions", &actions[..])] {
        let types: Vec<String> = types.iter().map(|name| (*name).to_owned()).collect();
        let listed = pages::first_column(&page, heading);
        assert_eq!(pages::compare(&format!("docs/scrips.md, {heading}"), &types, &listed), NOTHING);
    }
}

/// Shortens an id in an example as the page does.
fn shown(example: &str) -> String {
    match uuid::Uuid::parse_str(example) {
        Ok(_) => format!("{}-…", example.split('-').next().unwrap()),
        Err(_) => example.to_owned(),
    }
}

#[test]
fn every_setting_is_on_its_page_and_no_page_names_an_unknown_one() {
    let settings = pages::settings_of(&read("crates/tessera/src/default.toml"));
    assert!(settings.len() > 10, "only {} found: the search is broken", settings.len());
    let variables = pages::variables_of(&go());
    assert_eq!(pages::unknown_settings(&markdown(), &settings, &variables), NOTHING);
    // Until the page exists there is nothing to compare; `every_required_page_exists` enforces that it does.
    if !AWAITED.contains(&OPERATING) {
        assert_eq!(pages::unnamed_settings(&read(OPERATING), &settings), NOTHING);
    }
}

#[test]
fn the_page_on_connectors_has_every_flag_of_those_that_ship_with_its_variables_and_no_other() {
    let shipped = ["integrations/cmd/", "integrations/internal/cli/"];
    let sources: Vec<Source> = go()
        .into_iter()
        .filter(|source| shipped.iter().any(|place| source.path.starts_with(place)))
        .collect();
    let options = pages::options_of(&sources);
    assert!(options.len() > 15, "only {} found: the search is broken", options.len());
    let page = read(CONNECTORS);
    let rows = pages::rows(&page, "### Flags");
    let listed: Vec<String> = rows.iter().flat_map(|row| pages::options_listed(&row[..2])).collect();
    assert_eq!(pages::compare(CONNECTORS, &options, &listed), NOTHING);
}

#[test]
fn the_page_on_connectors_names_reasons_that_are_codes_and_every_code_of_grpc_once() {
    let page = read(CONNECTORS);
    let codes: BTreeSet<String> =
        pages::first_column(&read("docs/api.md"), "### Codes").into_iter().collect();
    let rows = pages::rows(&page, "## Errors");
    let reasons: BTreeSet<String> = rows.iter().flat_map(|row| pages::spans(&row[1])).collect();
    assert!(reasons.len() > 10, "only {} found: the search is broken", reasons.len());
    assert_eq!(Vec::from_iter(reasons.difference(&codes)), [""; 0]);
    let listed = pages::first_column(&page, "## Errors");
    assert_eq!(listed.len(), BTreeSet::from_iter(&listed).len(), "{listed:?}");
}

#[test]
fn every_decision_has_the_next_number() {
    let decisions: Vec<Source> =
        markdown().into_iter().filter(|page| page.path.starts_with("docs/adr/")).collect();
    assert_eq!(conventions::misnumbered(&decisions), NOTHING);
}

#[test]
fn every_source_begins_with_a_description() {
    let sources = rust();
    assert!(sources.len() > 100, "only {} found: the search is broken", sources.len());
    assert_eq!(conventions::unopened(&sources), NOTHING);
}

#[test]
fn each_module_of_the_core_uses_only_those_before_it() {
    assert_eq!(conventions::out_of_order(&rust()), NOTHING);
}

#[test]
fn the_edges_reach_the_core_through_the_desk_alone() {
    assert_eq!(conventions::around_the_desk(&rust()), NOTHING);
}

#[test]
fn no_page_comment_or_message_has_a_phrase_to_avoid() {
    let mut texts = [markdown(), rust(), sources("proto", ".proto", true)].concat();
    texts.extend([".go", ".md"].into_iter().flat_map(|end| sources("integrations", end, true)));
    let documents = ["crates/tessera/src/default.toml", "docs/openapi.json"];
    texts.extend(documents.map(|path| Source { path: path.to_owned(), text: read(path) }));
    // Generated code repeats the comments of its source, and the list of phrases contains all of them.
    let skipped = ["/gen/", "/tesserav1/", "tidy/english.rs"];
    texts.retain(|source| !skipped.iter().any(|part| source.path.contains(part)));
    assert!(texts.len() > 300, "only {} found: the search is broken", texts.len());
    let complaints = english::rejected_phrases(&texts);
    assert!(complaints.is_empty(), "{} phrases to rewrite:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn no_test_sleeps_instead_of_waiting_for_a_condition() {
    assert_eq!(conventions::sleeping(&rust(), &SLEEPING), NOTHING);
}

/// No complaints.
const NOTHING: [String; 0] = [];

/// Returns every Rust source, including tests.
fn rust() -> Vec<Source> {
    ["crates", "fuzz"].into_iter().flat_map(|folder| sources(folder, ".rs", true)).collect()
}

/// Returns every Go source except tests.
fn go() -> Vec<Source> {
    let mut sources = sources("integrations", ".go", true);
    sources.retain(|source| !source.path.ends_with("_test.go"));
    sources
}

/// Returns every page.
fn markdown() -> Vec<Source> {
    [sources("", ".md", false), sources("docs", ".md", true)].concat()
}

/// Returns the files in a folder with an extension, sorted by path; skips build output and hidden folders.
fn sources(folder: &str, end: &str, deep: bool) -> Vec<Source> {
    let Ok(entries) = std::fs::read_dir(root().join(folder)) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if entry.file_type().unwrap().is_dir() {
            if deep && name != "target" && !name.starts_with('.') {
                found.extend(sources(&path, end, deep));
            }
        } else if name.ends_with(end) {
            found.push(Source { text: read(&path), path });
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
