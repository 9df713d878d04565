//! Compares the lists in the documentation with the code: codes, routes, settings, table rows, links.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use tessera_api::error;
use tessera_core::error::{Code, Explanation};
use tessera_grpc::status::{grpc_code, grpc_name};

use super::Source;

/// The HTTP methods of routes.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
/// The prefix of environment variables of settings.
const PREFIX: &str = "TESSERA_";
/// Extensions of file names that look like settings: `http.rs`.
const ENDS: [&str; 5] = ["rs", "md", "json", "toml", "sh"];

/// Returns complaints about missing pages that are not awaited, and about awaited ones that exist.
pub fn missing(pages: &[&str], awaited: &[&str], there: impl Fn(&str) -> bool) -> Vec<String> {
    let complaint = |page: &&str| match (there(page), awaited.contains(page)) {
        (false, false) => Some(format!("{page} does not exist")),
        (true, true) => Some(format!("{page} exists: remove it from AWAITED")),
        _ => None,
    };
    pages.iter().filter_map(complaint).collect()
}

/// Returns complaints about items that are not listed, and about listed items that do not exist.
pub fn compare<'t>(
    place: &str,
    there: impl IntoIterator<Item = &'t String>,
    listed: impl IntoIterator<Item = &'t String>,
) -> Vec<String> {
    let [there, listed] = [BTreeSet::from_iter(there), BTreeSet::from_iter(listed)];
    let unlisted = there.difference(&listed).map(|one| format!("{place} does not list: {one}"));
    let absent = listed.difference(&there).map(|one| format!("{place} lists, but does not exist: {one}"));
    unlisted.chain(absent).collect()
}

/// Returns the table of error codes for `docs/api.md`, with the statuses in HTTP and gRPC.
pub fn table_of_codes() -> String {
    let or_dash = |cell: &'static str| if cell.is_empty() { "–" } else { cell };
    let rows = Code::ALL.iter().map(|code| {
        let Explanation { meaning, user, operator } = code.explanation();
        let (http, grpc) = (error::status(*code), grpc_name(grpc_code(*code)));
        let (user, operator) = (or_dash(user), or_dash(operator));
        format!("| `{code}` | {} | `{grpc}` | {meaning} | {user} | {operator} |\n", http.as_u16())
    });
    let heading = "| code | HTTP | gRPC | meaning | what you do | what the operator does |\n| --- | --- | --- | --- | --- | --- |\n";
    heading.to_owned() + &rows.collect::<String>()
}

/// Replaces the last table below a heading with `table`.
pub fn with_table(page: &str, heading: &str, table: &str) -> String {
    let section = page.find(heading).unwrap();
    let begin = section + page[section..].find("\n| ").unwrap() + 1;
    let length = page[begin..]
        .split_inclusive('\n')
        .take_while(|line| line.starts_with('|'))
        .map(str::len)
        .sum::<usize>();
    format!("{}{table}{}", &page[..begin], &page[begin + length..])
}

/// Returns the routes in an OpenAPI document with their methods in the order of [`METHODS`]: `GET POST /api/tickets`.
pub fn routes_of(document: &Value) -> Vec<String> {
    let paths = document["paths"].as_object().unwrap();
    let taken =
        |path: &Value| METHODS.into_iter().filter(|method| !path[method.to_lowercase()].is_null()).collect();
    paths.iter().map(|(path, methods)| route(taken(methods), path)).collect()
}

/// Returns the routes in the tables below a heading: the path in the first cell, the methods as words of the second.
pub fn routes_listed(page: &str, heading: &str) -> Vec<String> {
    let listed = rows(page, heading).into_iter().map(|row| {
        let words: Vec<&str> = row[1].split(|c: char| !c.is_alphabetic()).collect();
        route(METHODS.into_iter().filter(|method| words.contains(method)).collect(), &plain(&row[..1]))
    });
    listed.collect()
}

fn route(methods: Vec<&str>, path: &str) -> String {
    format!("{} {path}", methods.join(" "))
}

/// Returns the cells of the tables below a heading, up to the next heading of the same level, without the header
/// rows.
pub fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let level = |line: &str| line.split(' ').next().filter(|marks| marks.starts_with('#')).map(str::len);
    let below = page.lines().skip_while(|line| *line != heading).skip(1);
    let section = below.take_while(|line| level(line).is_none_or(|marks| Some(marks) > level(heading)));
    let mut rows: Vec<Vec<String>> = Vec::new();
    for line in section {
        let Some(inside) = line.strip_prefix("| ").and_then(|line| line.trim_end().strip_suffix('|')) else {
            continue;
        };
        if inside.starts_with("---") {
            // The previous row is the table's header.
            rows.pop();
            continue;
        }
        let inside = inside.replace("\\|", "\0");
        rows.push(inside.split('|').map(|cell| cell.trim().replace('\0', "|")).collect());
    }
    rows
}

/// Returns the code spans in the first column of the tables below a heading.
pub fn first_column(page: &str, heading: &str) -> Vec<String> {
    rows(page, heading).iter().flat_map(|row| spans(&row[0])).collect()
}

/// Joins cells to one line, without backticks.
pub fn plain(cells: &[impl AsRef<str>]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.as_ref().replace('`', "")).collect();
    cells.join(" | ")
}

/// Returns the code spans of a line.
pub fn spans(line: &str) -> Vec<String> {
    line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the settings in `default.toml`, including commented ones: `http.listen`.
pub fn settings_of(defaults: &str) -> BTreeSet<String> {
    let mut settings = BTreeSet::new();
    let mut section = String::new();
    for line in defaults.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|(name, _)| is_name(name)) {
            settings.insert(format!("{section}{name}"));
        }
    }
    settings
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Returns complaints about settings that a page does not name in backticks.
pub fn unnamed_settings(page: &str, settings: &BTreeSet<String>) -> Vec<String> {
    let named = page.lines().flat_map(spans).collect::<BTreeSet<String>>();
    settings
        .difference(&named)
        .map(|setting| format!("the page about settings does not list `{setting}`"))
        .collect()
}

/// Returns the environment variables that connectors read, or pass to programs that they run.
pub fn variables_of(sources: &[Source]) -> BTreeSet<String> {
    let words = sources
        .iter()
        .flat_map(|source| source.text.split('"'))
        .map(|text| text.split(|c: char| !(c.is_ascii_uppercase() || c == '_')).next().unwrap_or_default());
    words.filter(|word| word.starts_with(PREFIX)).map(str::to_owned).collect()
}

/// Returns the flags of connectors and their variables, as declared: `Flag: "token-file"`, `Env: "TESSERA_CA"`.
pub fn options_of(sources: &[Source]) -> BTreeSet<String> {
    let after = |mark: &'static str| {
        let texts = sources.iter().flat_map(move |source| source.text.split(mark).skip(1));
        texts.filter_map(|rest| rest.split('"').next())
    };
    let flags = after("Flag: \"").map(|flag| format!("--{flag}"));
    let secrets = sources
        .iter()
        .flat_map(|source| source.text.split("Secret(&").skip(1))
        .filter_map(|rest| rest.split('"').nth(1));
    flags.chain(after("Env: \"").chain(secrets).map(str::to_owned)).collect()
}

/// Returns the flags and variables in code spans of some cells.
pub fn options_listed(cells: &[String]) -> Vec<String> {
    let words = cells.iter().flat_map(|cell| spans(cell));
    words.filter(|word| word.starts_with("--") || word.starts_with(PREFIX)).collect()
}

/// Returns complaints about unknown settings that pages name, as `http.listen` in backticks or as `TESSERA_HTTP__LISTEN`.
/// `variables` are those of connectors.
pub fn unknown_settings(
    pages: &[Source],
    settings: &BTreeSet<String>,
    variables: &BTreeSet<String>,
) -> Vec<String> {
    let sections: BTreeSet<&str> =
        settings.iter().filter_map(|setting| Some(setting.rsplit_once('.')?.0)).collect();
    let is_one = |word: &str| {
        let end = word.rsplit_once('.').filter(|(section, _)| sections.contains(section)).map(|(_, end)| end);
        end.is_some_and(|end| is_name(end) && !ENDS.contains(&end))
    };
    let mut complaints = Vec::new();
    for page in pages {
        let spans = page.text.lines().flat_map(spans).filter(|word| is_one(word));
        let words = page.text.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
        let named = words.filter(|word| !variables.contains(*word)).filter_map(|word| {
            let name = word.strip_prefix(PREFIX).filter(|name| !name.is_empty())?;
            Some(name.to_lowercase().replace("__", "."))
        });
        let unknown = spans.chain(named).filter(|word| !settings.contains(word));
        let unknown: BTreeSet<String> = unknown.collect();
        complaints.extend(
            unknown
                .iter()
                .map(|word| format!("{} names the setting {word}, which does not exist", page.path)),
        );
    }
    complaints
}

/// Returns complaints about unknown tests that pages name: code spans of five or more words joined by underscores.
pub fn unknown_tests(pages: &[Source], sources: &[Source]) -> Vec<String> {
    let tests: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| source.text.split("fn ").skip(1))
        .filter_map(|rest| rest.split('(').next())
        .collect();
    // The name of a metric can be as long as a test's; metrics have their own comparison.
    let is_sentence = |word: &String| {
        !word.starts_with("tessera_")
            && word.split('_').count() >= 5
            && word.split('_').all(|part| !part.is_empty() && is_name(part))
    };
    let mut complaints = Vec::new();
    for page in pages {
        let named = page.text.lines().flat_map(spans).filter(is_sentence);
        let unknown = named.filter(|name| !tests.contains(name.as_str()));
        complaints
            .extend(unknown.map(|name| format!("{} names the test {name}, which does not exist", page.path)));
    }
    complaints
}

/// Returns complaints about pages that the README does not link. It links the decisions through their folder.
pub fn unlinked(pages: &[Source]) -> Vec<String> {
    let readme = pages.iter().find(|page| page.path == "README.md");
    let linked: Vec<String> = readme.iter().flat_map(|page| links(page)).map(|(target, _)| target).collect();
    let is_linked = |page: &&Source| {
        page.path == "README.md"
            || linked.iter().any(|target| page.path == *target || is_in(&page.path, target))
    };
    let orphans = pages.iter().filter(|page| !is_linked(page));
    orphans.map(|page| format!("README.md does not link {}", page.path)).collect()
}

fn is_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| folder.ends_with('/') || rest.starts_with('/'))
}

/// Returns complaints about links to missing files or headings; links to awaited pages are accepted.
pub fn dead_links(pages: &[Source], awaited: &[&str], there: impl Fn(&str) -> bool) -> Vec<String> {
    let anchors: BTreeMap<&str, BTreeSet<String>> =
        pages.iter().map(|page| (page.path.as_str(), headings(&page.text))).collect();
    let mut complaints = Vec::new();
    for page in pages {
        for (target, anchor) in links(page) {
            if awaited.contains(&target.as_str()) {
                continue;
            }
            let known = anchors.get(target.as_str());
            if !there(&target) {
                complaints.push(format!("{} links to {target}, which does not exist", page.path));
            } else if let (Some(known), Some(anchor)) = (known, anchor)
                && !known.contains(&anchor)
            {
                complaints.push(format!(
                    "{} links to {target}#{anchor}, but that heading does not exist",
                    page.path
                ));
            }
        }
    }
    complaints
}

/// Returns a page's links to other files as paths from the root with their anchors; skips code.
fn links(page: &Source) -> Vec<(String, Option<String>)> {
    let text = prose(&page.text);
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let inner = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    let resolved = inner.map(|target| {
        let (path, anchor) =
            target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
        let path = if path.is_empty() { page.path.clone() } else { resolve(&page.path, path) };
        (path, anchor.map(str::to_owned))
    });
    resolved.collect()
}

/// Resolves a path relative to a page.
fn resolve(page: &str, path: &str) -> String {
    let folder = Path::new(page).parent().and_then(Path::to_str).unwrap_or("");
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Returns a page's text without code.
fn prose(text: &str) -> String {
    let outside: String = text.split("```").step_by(2).collect();
    outside.lines().map(|line| line.split('`').step_by(2).collect::<String>() + "\n").collect()
}

/// Returns the anchors of a page's headings, in GitHub's form.
fn headings(text: &str) -> BTreeSet<String> {
    let outside: String = text.split("```").step_by(2).collect();
    let titles =
        outside.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |title: &str| {
        let kept = title.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    titles.map(anchor).collect()
}

#[cfg(test)]
mod examples {
    use serde_json::json;

    use super::*;

    fn page(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_missing_page_is_found_and_so_is_an_awaited_one_that_exists() {
        let there = |page: &str| page != "c.md" && page != "d.md";
        let complaints = missing(&["a.md", "b.md", "c.md", "d.md"], &["b.md", "d.md"], there);
        assert_eq!(complaints, ["b.md exists: remove it from AWAITED", "c.md does not exist"]);
    }

    #[test]
    fn an_item_on_one_side_only_is_found() {
        let complaints = compare("p", &words(&["a", "b"]), &words(&["b", "c"]));
        assert_eq!(complaints, ["p does not list: a", "p lists, but does not exist: c"]);
        assert_eq!(compare("p", &words(&["a"]), &words(&["a"])), [""; 0]);
    }

    #[test]
    fn the_table_below_a_heading_is_replaced_and_nothing_else() {
        let page = "| no |\n## A\ntext\n| x |\n| --- |\n| old |\n\n| also no |\n";
        assert_eq!(with_table(page, "## A", "| new |\n"), "| no |\n## A\ntext\n| new |\n\n| also no |\n");
    }

    #[test]
    fn rows_are_those_below_their_heading_cell_by_cell() {
        let text = "## A\n| x | y |\n| --- | --- |\n| `1` | `a \\| b` |\n\n### Below A\n| z | |\n| --- | --- |\n| `2`, `3` | |\n## B\n| no | no |\n";
        assert_eq!(rows(text, "## A"), [words(&["`1`", "`a | b`"]), words(&["`2`, `3`", ""])]);
        assert_eq!(first_column(text, "## A"), ["1", "2", "3"]);
        assert_eq!(plain(&rows(text, "## A")[0]), "1 | a | b");
        assert_eq!(rows(text, "## C").len(), 0);
    }

    #[test]
    fn a_route_is_its_path_with_its_methods() {
        let document =
            json!({"paths": {"/a": {"post": {}, "get": {}, "parameters": []}, "/b/{id}": {"patch": {}}}});
        assert_eq!(routes_of(&document), ["GET POST /a", "PATCH /b/{id}"]);
        let text = "## Routes\n| route | |\n| --- | --- |\n| `/a` | GET lists, POST makes |\n| `/b/{id}` | GETs it |\n";
        assert_eq!(routes_listed(text, "## Routes"), ["GET POST /a", " /b/{id}"]);
    }

    #[test]
    fn settings_are_read_with_their_sections_and_missing_and_unknown_ones_are_found() {
        let defaults = "# A text with a b = c in it.\nname = \"t\"\n[http]\n# Where.\nlisten = \"l\"\n[database.embedded]\n# bin_dir = \"d\"\n";
        let settings = settings_of(defaults);
        assert_eq!(Vec::from_iter(&settings), ["database.embedded.bin_dir", "http.listen", "name"]);
        let lacking = "the page about settings does not list `database.embedded.bin_dir`";
        assert_eq!(unnamed_settings("`http.listen`, `name`", &settings), [lacking]);
        let right = "`http.listen`, `http.rs`, `ticket.name`, TESSERA_HTTP__LISTEN=1 and $TESSERA/api";
        assert_eq!(unknown_settings(&[page("a.md", right)], &settings, &BTreeSet::new()), [""; 0]);
        let variables = variables_of(&[page("a.go", "getenv(\"TESSERA_TOKEN\") + \"TESSERA_ATTEMPT=\"")]);
        assert_eq!(Vec::from_iter(&variables), ["TESSERA_ATTEMPT", "TESSERA_TOKEN"]);
        let text = "`http.port`, TESSERA_TOKEN and TESSERA_NAMES";
        let wrong = unknown_settings(&[page("b.md", text)], &settings, &variables);
        let names = |setting: &str| format!("b.md names the setting {setting}, which does not exist");
        assert_eq!(wrong, [names("http.port"), names("names")]);
    }

    #[test]
    fn flags_are_read_with_their_variables_from_the_code_and_from_the_page() {
        let text = "Text(&s.ca, Option{Flag: \"ca\", Env: \"TESSERA_CA\"}), cli.Secret(&url, \"TESSERA_URL\", cli.Option{Flag: \"url-file\", Env: \"TESSERA_URL_FILE\"})";
        let options = options_of(&[page("a.go", text)]);
        assert_eq!(
            Vec::from_iter(options),
            ["--ca", "--url-file", "TESSERA_CA", "TESSERA_URL", "TESSERA_URL_FILE"]
        );
        let row = words(&["`--ca`, `--key`", "`TESSERA_CA`, not `CA`"]);
        assert_eq!(options_listed(&row), ["--ca", "--key", "TESSERA_CA"]);
    }

    #[test]
    fn an_unknown_test_that_a_page_names_is_found() {
        let sources = [page(
            "tests.rs",
            "#[test]\nfn it_holds_what_it_promises() {}\nasync fn so_does_this_one_too() {}\n",
        )];
        let text = "`it_holds_what_it_promises`, `so_does_this_one_too`, `it_held_what_it_promised`, `admin_cc_addresses`";
        let complaints = unknown_tests(&[page("a.md", text)], &sources);
        assert_eq!(complaints, ["a.md names the test it_held_what_it_promised, which does not exist"]);
    }

    #[test]
    fn dead_links_and_pages_without_links_are_found() {
        let readme = "[a](docs/a.md#the-house) [d](docs/adr/) [w](https://example.org/x) `[c](code.md)` [n](docs/new.md)";
        let a = "# The `house`!\n[up](../README.md) [own](#the-house) [gone](b.md) [none](../README.md#nothing)\n```sh\n[f](g.md)\n```\n";
        let pages = [
            page("README.md", readme),
            page("docs/a.md", a),
            page("docs/adr/0001-x.md", "# 1. X\n"),
            page("docs/lost.md", ""),
        ];
        assert_eq!(unlinked(&pages), ["README.md does not link docs/lost.md"]);
        let there = |path: &str| pages.iter().any(|page| page.path == path) || path == "docs/adr";
        let dead = [
            "docs/a.md links to docs/b.md, which does not exist",
            "docs/a.md links to README.md#nothing, but that heading does not exist",
        ];
        assert_eq!(dead_links(&pages, &["docs/new.md"], there), dead);
    }
}
