//! The pages of the documentation: every command in them runs, and what they list is what there is.

use std::path::{Path, PathBuf};
use std::process::Command;

use tessera_core::scrip::action::Action;
use tessera_core::scrip::condition::Condition;
use tessera_core::scrip::template::{FILTERS, VARIABLES};

use crate::support::Server;

/// The pages whose commands are for a server that runs.
const PAGES: [&str; 4] = ["README.md", "docs/scrips.md", "docs/architecture.md", "docs/operating.md"];
/// What marks the commands that set up a machine; scripts/test.sh is one of them.
const SET_UP: &str = "./scripts/";

#[tokio::test]
async fn every_command_of_the_pages_runs() {
    for page in PAGES {
        let mut server = Server::start(&[]).await;
        let script = commands(&read(page));
        assert!(!script.is_empty(), "{page} has no commands");
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .env("TESSERA", server.url())
            .env("TOKEN", &server.token)
            .output()
            .unwrap();
        let [said, complained] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success(), "{page}: {}\n{said}\n{complained}", output.status);
        server.stop().await;
        server.check();
    }
}

/// The fenced commands of a page, one after the other.
fn commands(page: &str) -> String {
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| !block.contains(SET_UP)).collect()
}

#[test]
fn the_page_on_scrips_lists_what_there_is() {
    let page = read("docs/scrips.md");
    let things = Condition::TYPES
        .into_iter()
        .chain(Action::TYPES)
        .chain(VARIABLES.iter().map(|variable| variable.path))
        .chain(FILTERS.iter().map(|filter| filter.name));
    let missing: Vec<&str> = things.filter(|thing| !page.contains(&format!("`{thing}`"))).collect();
    assert!(missing.is_empty(), "docs/scrips.md does not have {missing:?}");
}

#[test]
fn the_page_on_the_api_has_every_code_of_a_refusal() {
    let page = read("docs/api.md");
    let mut codes = 0;
    for source in sources(&root().join("crates")) {
        // `Error::new(Kind::Busy, "busy", …`, whatever the line breaks.
        let text: String = std::fs::read_to_string(&source).unwrap().split_whitespace().collect();
        for made in text.split("new(Kind::").skip(1) {
            let Some(code) =
                made.split(',').nth(1).and_then(|word| word.strip_prefix('"')?.strip_suffix('"'))
            else {
                continue;
            };
            codes += 1;
            assert!(
                page.contains(&format!("| `{code}` |")),
                "docs/api.md does not have {code} of {}",
                source.display()
            );
        }
    }
    assert!(codes > 20, "only {codes} found: the search is broken");
}

/// Every file of source below a folder, tests apart.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { sources(&path) } else { vec![path] };
    let is_source = |path: &PathBuf| {
        let name = path.to_string_lossy();
        name.ends_with(".rs") && !name.contains("tests")
    };
    entries.flat_map(below).filter(is_source).collect()
}

#[test]
fn the_links_of_the_pages_lead_somewhere() {
    for page in PAGES.into_iter().chain(["docs/api.md"]) {
        let text = read(page);
        let place = root().join(page);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            let target = place.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(target.exists(), "{page} links to {link}, which is not there");
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(page: &str) -> String {
    std::fs::read_to_string(root().join(page)).unwrap()
}
